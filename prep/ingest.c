#include "prep/ingest.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/confine.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "prep/layout/captions.h"
#include "prep/clip/clip.h"
#include "prep/clip/source_hash.h"
#include "prep/line.h"
#include "prep/set/dataset.h"
#include "prep/set/duplicates.h"
#include "prep/layout/layout.h"
#include "prep/set/record.h"
#include "prep/set/hash_cache.h"
#include "common/base/worker.h"

typedef struct Run {
    const IngestParams *p;
    PrepConfig cfg;
    const Layout *layout;
    SourceList sources;
    int64_t *chosen, n; /* places in sources that are this shard's */
    char why[256];      /* the layout */
    char *dir;          /* the dataset's folder */
    DirLock lock;
    json_t *prior;
    Journal *journal;
    json_t **texts;  /* [n] of each source its finished manifest lines, an array of strings */
    char **lines;    /* [n_lines] the same, all of them, in source order */
    int64_t *places; /* [n_lines] of their sources among all */
    int64_t n_lines;
    int64_t done, hashed, unchanged;
    HashCache hashes;
    double hashes_saved; /* when, by time_now_s */
    Progress *progress;
} Run;

/* ---- finding the sources --------------------------------------------------------------------- */
static int find_sources(Run *r, Err *err)
{
    const IngestParams *p = r->p;
    const LayoutInput in = {p->source, (uint64_t)recipe_int(p->recipe, "seed"), p->follow_links, p->log};
    int rc = layout_choose(&in, p->layout, &r->layout, r->why, sizeof r->why, err);
    if (rc < 0)
        return rc;
    log_info(p->log, "layout %s: %s", r->layout->name, r->why);
    recipe_log(p->recipe, p->print_recipe, p->log);
    if ((rc = layout_read(r->layout, &in, &r->sources, err)) < 0 ||
        (rc = captions_apply(&r->sources, p->recipe, err)) < 0)
        return rc;
    for (int64_t i = 0; i < r->sources.n && r->cfg.window >= WINDOW_CHUNKS; i++)
        if (strchr(r->sources.item[i].id, '#') || strlen(r->sources.item[i].id) > SOURCE_ID_MAX - 8)
            return err_set(err, ERR_USAGE,
                           "id '%s': with clip.window=%s windows are named ID#k, so an id may hold no '#' and %d bytes",
                           r->sources.item[i].id, recipe_str(p->recipe, "clip.window"), SOURCE_ID_MAX - 8);
    r->chosen = mem_calloc(r->sources.n, sizeof *r->chosen, err);
    if (!r->chosen)
        return ERR_NOMEM;
    for (int64_t i = 0; i < r->sources.n; i++) {
        const char *id = r->sources.item[i].id;
        if (hash_xxh3(id, (int64_t)strlen(id)) % (uint64_t)p->shards == (uint64_t)p->shard)
            r->chosen[r->n++] = i;
    }
    if (r->sources.n == 0)
        return err_set(err, ERR_NOTFOUND, "'%s' names no clip", p->source);
    if (p->shards > 1)
        log_info(p->log, "shard %" PRId64 "/%" PRId64 ": %" PRId64 " of %" PRId64 " sources", p->shard, p->shards, r->n,
                 r->sources.n);
    return 0;
}

/* ---- the clips ------------------------------------------------------------------------------- */
/* A finished window's line into the journal and the list. */
static int keep_one(Run *r, int64_t at, const json_t *result, Err *err)
{
    Source *s = &r->sources.item[r->chosen[at]];
    ManifestLine found;
    line_read(&found, result);
    if (strcmp(recipe_str(r->p->recipe, "captions.split"), "hash") == 0)
        s->split = !found.source_sha256
                       ? "train"
                       : split_by_hash(found.source_sha256, recipe_num(r->p->recipe, "captions.val_ratio"),
                                       recipe_num(r->p->recipe, "captions.test_ratio"));
    json_t *record = line_build(s, result, err);
    char *line = record ? json_text(record, 0, err) : NULL;
    int rc = line ? journal_add(r->journal, line, err) : ERR_NOMEM;
    if (rc == 0 && json_array_append_new(r->texts[at], json_string(line)) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for the record of '%s'", s->id);
    if (found.rejected)
        log_warn(r->p->log, "clip '%s' is rejected: %s: %s", found.id, found.reason_code, found.reason_text);
    mem_free(line);
    json_decref(record);
    return rc;
}

static int keep(Run *r, int64_t at, const json_t *results, Err *err)
{
    size_t i;
    const json_t *result;
    json_decref(r->texts[at]);
    int rc = (r->texts[at] = json_array()) ? 0 : err_set(err, ERR_NOMEM, "out of memory for the records");
    json_array_foreach (results, i, result)
        if (rc == 0)
            rc = keep_one(r, at, result, err);
    if (rc == 0)
        progress_step(r->progress, ++r->done, NULL);
    return rc;
}

/* The lines of the finished sources in order. */
static int gather(Run *r, Err *err)
{
    size_t i;
    json_t *text;
    r->n_lines = 0;
    for (int64_t at = 0; at < r->n; at++)
        r->n_lines += (int64_t)json_array_size(r->texts[at]);
    mem_free(r->lines);
    mem_free(r->places);
    r->lines = mem_calloc(r->n_lines, sizeof *r->lines, err);
    r->places = mem_calloc(r->n_lines, sizeof *r->places, err);
    if (!r->lines || !r->places)
        return ERR_NOMEM;
    int64_t n = 0;
    for (int64_t at = 0; at < r->n; at++) {
        json_array_foreach (r->texts[at], i, text) {
            r->places[n] = r->chosen[at];
            if (!(r->lines[n++] = mem_strdup(json_string_value(text), err)))
                return ERR_NOMEM;
        }
        json_decref(r->texts[at]);
        r->texts[at] = NULL;
    }
    return 0;
}

/* The manifest lines of a source from an earlier run: one, or one a window. */
static json_t *prior_of(const Run *r, const Source *s)
{
    json_t *list = json_array(), *line = json_object_get(r->prior, s->id);
    char id[SOURCE_ID_MAX + 16];
    if (r->cfg.window < WINDOW_CHUNKS || line) {
        json_array_append(list, line);
        return list;
    }
    for (int64_t k = 0;; k++) {
        snprintf(id, sizeof id, "%s#%" PRId64, s->id, k);
        if (!(line = json_object_get(r->prior, id)) || json_array_append(list, line) < 0)
            return list;
    }
}

/* ---- which sources were read ----------------------------------------------------------------- */
enum { HASHES_SAVE_S = 30 }; /* seconds between saves: a killed run has to repeat at most this much hashing */

/* A failure costs the next run time (it hashes all sources again) and does not end this one. */
static int save_hashes(Run *r, Err *err)
{
    Err cause = {0};
    int rc = hash_cache_save(&r->hashes, r->dir, &cause);
    r->hashes_saved = time_now_s();
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", cause.msg);
    if (rc < 0)
        log_warn(r->p->log, "the next run will hash all sources again: %s", cause.msg);
    return 0;
}

static int note_hash(Run *r, const Source *s, const json_t *seen, Err *err)
{
    const char *entry = json_string_value(json_object_get(seen, "entry"));
    if (json_is_true(json_object_get(seen, "hashed")))
        r->hashed++;
    else
        r->unchanged += seen != NULL;
    if (entry && *entry && json_object_set_new(r->hashes.hash, s->path, json_string(entry)) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    return time_now_s() < r->hashes_saved + HASHES_SAVE_S ? 0 : save_hashes(r, err);
}

/* Entries of this run's sources alone, and the counts. */
static int end_hashes(Run *r, Err *err)
{
    json_t *kept = json_object();
    int bad = !kept;
    for (int64_t i = 0; i < r->n && !bad; i++) {
        const char *path = r->sources.item[r->chosen[i]].path;
        json_t *entry = json_object_get(r->hashes.hash, path);
        bad = entry && json_object_set(kept, path, entry) < 0;
    }
    if (bad) {
        json_decref(kept);
        return err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    }
    json_decref(r->hashes.hash);
    r->hashes.hash = kept;
    int64_t unread = r->done - r->unchanged - r->hashed;
    log_info(r->p->log, "%" PRId64 " source%s, %" PRId64 " unchanged, %" PRId64 " hashed%s", r->done,
             str_plural(r->done), r->unchanged, r->hashed, unread ? ", the others could not be read" : "");
    return save_hashes(r, err);
}

/* ---- the processes --------------------------------------------------------------------------- */
/* The pictures of a folder that are links: their targets may be read too. */
static int linked_pictures(const char *folder, char ***out, int64_t *n, Err *err)
{
    struct stat st;
    char **names;
    int64_t count;
    Err unreadable = {0};
    *out = NULL;
    *n = 0;
    if (dir_list(folder, &names, &count, &unreadable) < 0) /* decoding will say so */
        return unreadable.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", unreadable.msg) : 0;
    int rc = (*out = mem_calloc(count, sizeof **out, err)) ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < count && rc == 0; i++) {
        char *path = path_join(folder, names[i], err);
        if (path && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
            (*out)[(*n)++] = path;
        else
            mem_free(path);
        rc = path ? 0 : ERR_NOMEM;
    }
    dir_list_free(&names, count);
    return rc;
}

/* From here on this worker can read its source and write the dataset's clips and thumbnails, and
 * open nothing else. */
static int confine(const Run *r, const Source *s, Err *err)
{
    char *full = path_join(r->p->source, s->path, err), *clips = path_join(r->dir, "clips", err),
         *thumbs = path_join(r->dir, "thumbs", err), **links = NULL;
    int64_t n = 0;
    int rc = full && clips && thumbs ? 0 : ERR_NOMEM;
    if (rc == 0 && s->kind == SOURCE_FRAMES)
        rc = linked_pictures(full, &links, &n, err);
    const char **readable = rc == 0 ? mem_calloc(n + 2, sizeof *readable, err) : NULL;
    if (rc == 0 && !readable)
        rc = ERR_NOMEM;
    for (int64_t i = 0; i < n && rc == 0; i++)
        readable[i + 1] = links[i];
    if (rc == 0) {
        readable[0] = full;
        rc = confine_process(&(ConfineRules){readable, (const char *[]){clips, thumbs, NULL}}, err);
    }
    for (int64_t i = 0; i < n; i++)
        mem_free(links[i]);
    mem_free(links);
    mem_free(readable);
    mem_free(thumbs);
    mem_free(clips);
    mem_free(full);
    return rc < 0 ? rc : 0;
}

/* Packets and pictures come and go by the hundred: what is freed is kept for the next, where it would else be
 * given back to the system and zeroed page by page again. */
static void keep_freed_memory(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 1 << 25);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
#endif
}

/* In the worker process. */
static int work(void *user, int64_t at, json_t **out, Err *err)
{
    const Run *r = user;
    const Source *s = &r->sources.item[r->chosen[at]];
    /* a worker that outlives the run for a moment must not hold it */
    dir_unlock(&(DirLock){r->p->jobs > 0 ? r->lock.fd : 0});
    int rc = r->p->jobs > 0 ? confine(r, s, err) : 0;
    if (rc < 0)
        return rc;
    if (r->p->jobs > 0)
        keep_freed_memory();
    json_t *prior = prior_of(r, s);
    rc = clip_process(&r->cfg, r->p->source, s, prior, r->dir, out, err);
    json_decref(prior);
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", s->id) : 0;
}

static int worked(void *user, int64_t at, const json_t *result, const char *code, const char *text, Err *err)
{
    Run *r = user;
    json_t *failed = NULL;
    const Source *s = &r->sources.item[r->chosen[at]];
    int rc = result ? note_hash(r, s, json_object_get(json_array_get(result, 0), "seen"), err)
                    : clip_failed(&r->cfg, s, code, text, &failed, err);
    if (rc == 0)
        rc = keep(r, at, result ? result : failed, err);
    json_decref(failed);
    return rc;
}

static int asked_to_stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

static int process_all(Run *r, Err *err)
{
    const PrepConfig *c = &r->cfg;
    Workers w = {.jobs = r->p->jobs < r->n ? r->p->jobs : r->n,
                 .limits = {c->cpu_s, c->wall_s, c->memory_bytes, (c->width * c->height * 4 + 65536) * (c->frames + 1)},
                 .user = r,
                 .work = work,
                 .done = worked,
                 .stop = asked_to_stop};
    r->texts = mem_calloc(r->n, sizeof *r->texts, err);
    if (!r->texts)
        return ERR_NOMEM;
    if (r->p->jobs > 0 && !confine_available())
        log_warn(r->p->log, CONFINE_MISSING);
    r->progress = progress_start(r->p->log, "ingest", "clips", r->n);
    int rc = workers_run(&w, r->n, err);
    progress_end(&r->progress);
    if (rc == 0)
        rc = end_hashes(r, err);
    if (rc == 0 && r->done < r->n)
        rc = err_set(err, ERR_INTERRUPTED,
                     "stopped after %" PRId64 " of %" PRId64 " clips; the same command goes on from there", r->done,
                     r->n);
    return rc < 0 ? rc : gather(r, err);
}

/* ---- the folder ------------------------------------------------------------------------------ */
typedef struct NewSet {
    const Run *run;
    json_t *at; /* Source.path -> place in the list */
} NewSet;

/* Whether a file of this name and size is among the sources. */
static int is_found(void *user, const json_t *line)
{
    const NewSet *f = user;
    ManifestLine was;
    line_read(&was, line);
    const json_t *at = json_object_get(f->at, was.source_path);
    if (!at)
        return 0;
    const Source *s = &f->run->sources.item[json_integer_value(at)];
    char *path = path_join(f->run->p->source, s->path, NULL);
    int64_t size = path ? source_size(path, s->kind) : ERR_NOMEM;
    mem_free(path);
    return size == ERR_NOMEM ? ERR_NOMEM : size == was.source_size;
}

/* An error when a dataset made from another folder would be overwritten without --replace. */
static int check_place(const Run *r, const char *place, Err *err)
{
    if (r->p->replace || json_object_size(r->prior) == 0 || (r->hashes.place && strcmp(r->hashes.place, place) == 0))
        return 0;
    NewSet f = {r, json_object()};
    int rc = f.at ? 0 : err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    for (int64_t i = 0; i < r->sources.n && rc == 0; i++)
        if (json_object_set_new(f.at, r->sources.item[i].path, json_integer((json_int_t)i)) < 0)
            rc = err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    if (rc == 0)
        rc = dataset_check_same(r->dir, r->prior, r->hashes.place, r->p->source, is_found, &f, err);
    json_decref(f.at);
    return rc;
}

static int open_folder(Run *r, Err *err)
{
    char place[PATH_MAX];
    int rc = dataset_lock_folder(&r->p->source, 1, r->dir, &r->lock, err);
    if (rc == 0 && !realpath(r->p->source, place))
        rc = err_errno(err, errno, "'%s'", r->p->source);
    if (rc < 0 || (rc = records_load(r->dir, &r->prior, err)) < 0 ||
        (rc = hash_cache_load(&r->hashes, r->dir, err)) < 0 || (rc = check_place(r, place, err)) < 0 ||
        (rc = dataset_begin(r->dir, err)) < 0)
        return rc;
    r->cfg.seen = r->p->verify_sources ? NULL : r->hashes.hash;
    mem_free(r->hashes.place);
    return (r->hashes.place = mem_strdup(place, err)) ? save_hashes(r, err) : ERR_NOMEM;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static int print_plan(const Run *r)
{
    const PrepConfig *c = &r->cfg;
    FILE *f = r->p->results;
    int64_t rejects = 0, folders = 0;
    for (int64_t i = 0; i < r->n; i++) {
        rejects += r->sources.item[r->chosen[i]].reject_code != NULL;
        folders += r->sources.item[r->chosen[i]].kind == SOURCE_FRAMES;
    }
    fprintf(f,
            "layout %s, %" PRId64 " source%s (%" PRId64 " folder%s of pictures), %" PRId64
            " of them rejected before decoding\n",
            r->layout->name, r->n, str_plural(r->n), folders, str_plural(folders), rejects);
    fprintf(f,
            "each becomes %" PRId64 "x%" PRId64 ", %" PRId64 " frame%s at %" PRId64
            " fps in %s/clips; at most %.1f MB before FFV1\n",
            c->width, c->height, c->frames, str_plural(c->frames), c->fps, r->dir,
            3e-6 * (double)(c->width * c->height * c->frames) * (double)r->n);
    return 0;
}

static int finish(Run *r, Err *err)
{
    const IngestParams *p = r->p;
    char list_sha256[65];
    Dataset d = {.dir = r->dir,
                 .layout = r->layout->name,
                 .layout_found = r->why,
                 .recipe = p->recipe,
                 .recipe_sha256 = r->cfg.recipe_sha256,
                 .shard = p->shard,
                 .shards = p->shards,
                 .lines = r->lines,
                 .n = r->n_lines,
                 .places = r->places,
                 .sources = r->sources.n,
                 .list_sha256 = list_sha256};
    int rc = source_list_sha256(&r->sources, list_sha256, err);
    return rc < 0 ? rc : dataset_finish(&d, &r->cfg.quality, p->log, p->results, err);
}

int prep_ingest(const IngestParams *p, Err *err)
{
    Run r = {.p = p, .lock = {-1}};
    int rc = prep_config(&r.cfg, p->recipe, err);
    if (rc < 0 || (rc = find_sources(&r, err)) < 0)
        goto out;
    r.dir = p->shards > 1 ? mem_printf(err, "%s/shard-%" PRId64 "-of-%" PRId64, p->out, p->shard, p->shards)
                          : mem_strdup(p->out, err);
    if (!r.dir)
        rc = ERR_NOMEM;
    else if (p->dry_run)
        rc = print_plan(&r);
    else if ((rc = open_folder(&r, err)) == 0 && (rc = journal_open(&r.journal, r.dir, err)) == 0 &&
             (rc = process_all(&r, err)) == 0)
        rc = finish(&r, err);
out:
    journal_close(&r.journal);
    dir_unlock(&r.lock);
    hash_cache_fini(&r.hashes);
    json_decref(r.prior);
    for (int64_t i = 0; r.texts && i < r.n; i++)
        json_decref(r.texts[i]);
    for (int64_t i = 0; r.lines && i < r.n_lines; i++)
        mem_free(r.lines[i]);
    mem_free(r.texts);
    mem_free(r.lines);
    mem_free(r.places);
    mem_free(r.chosen);
    mem_free(r.dir);
    source_list_fini(&r.sources);
    return rc;
}
