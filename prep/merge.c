#include "prep/merge.h"

#include <errno.h>
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
#include "common/media/video.h"
#include "prep/clip/clip.h"
#include "prep/line.h"
#include "prep/set/dataset.h"
#include "prep/set/place.h"
#include "prep/set/record.h"
#include "prep/set/hash_cache.h"
#include "common/base/worker.h"

typedef struct Line {
    char *text;
    int64_t place, shard, at; /* at: in the order of reading */
} Line;

typedef struct Merge {
    const MergeParams *p;
    json_t **datasets;      /* [p->n] their dataset.json */
    int64_t reading, first; /* which shard's lines are being read, and where its first is */
    Line *line;             /* [n] */
    int64_t n, cap, done, linked, copied;
    Recipe *recipe;
    PrepConfig cfg;
    DirLock lock;
    Progress *progress;
} Merge;

/* ---- checks that the shards belong together ----------------------------------------------------------------- */
static const json_t *shard_of(const Merge *m, int64_t i)
{
    return json_object_get(m->datasets[i], "shard");
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* The first key whose values in two recipes differ, "section.key". */
static void first_difference(const json_t *a, const json_t *b, char *out, size_t size)
{
    const char *section, *key;
    json_t *x, *v;
    json_object_foreach ((json_t *)(uintptr_t)a, section, x) {
        const json_t *y = json_object_get(b, section);
        if (json_equal(x, (json_t *)(uintptr_t)y))
            continue;
        snprintf(out, size, "%s", section);
        json_object_foreach (x, key, v)
            if (!json_equal(v, json_object_get(y, key))) {
                snprintf(out, size, "%s.%s", section, key);
                return;
            }
        return;
    }
}

static int check_shard(const Merge *m, int64_t i, Err *err)
{
    const char *dir = m->p->shards[i], *first = m->p->shards[0];
    const json_t *d = m->datasets[i], *s = shard_of(m, i), *d0 = m->datasets[0], *s0 = shard_of(m, 0);
    char key[128] = "revision";
    if (!json_is_object(s))
        return err_set(err, ERR_USAGE, "'%s' is no shard: it was made without --shard and holds a whole set", dir);
    if (whole(json_object_get(d, "tool"), "revision") != PREP_REVISION)
        return err_set(err, ERR_USAGE, "'%s' was made by another version of weft-prep; run its ingest again", dir);
    if (whole(s, "count") != whole(s0, "count"))
        return err_set(err, ERR_USAGE, "'%s' is one of %" PRId64 " shards, but '%s' is one of %" PRId64, dir,
                       whole(s, "count"), first, whole(s0, "count"));
    for (int64_t k = 0; k < i; k++)
        if (whole(shard_of(m, k), "index") == whole(s, "index"))
            return err_set(err, ERR_USAGE, "'%s' and '%s' are both shard %" PRId64 "/%" PRId64, m->p->shards[k], dir,
                           whole(s, "index"), whole(s, "count"));
    if (!json_equal(json_object_get(d, "recipe"), json_object_get(d0, "recipe"))) {
        first_difference(json_object_get(d0, "recipe"), json_object_get(d, "recipe"), key, sizeof key);
        return err_set(err, ERR_USAGE, "'%s' was made with another recipe than '%s': %s differs", dir, first, key);
    }
    if (!json_equal(json_object_get(d, "layout"), json_object_get(d0, "layout")) ||
        !json_equal(json_object_get(s, "list_sha256"), json_object_get(s0, "list_sha256")))
        return err_set(err, ERR_USAGE, "'%s' was made from other sources or captions than '%s'", dir, first);
    return 0;
}

static int check_complete(const Merge *m, Err *err)
{
    int64_t count = whole(shard_of(m, 0), "count");
    for (int64_t index = 0; index < count; index++) {
        int found = 0;
        for (int64_t i = 0; i < m->p->n; i++)
            found = found || whole(shard_of(m, i), "index") == index;
        if (!found)
            return err_set(err, ERR_USAGE, "shard %" PRId64 "/%" PRId64 " is not among those given", index, count);
    }
    return 0;
}

/* Shards of two versions may differ in the keys that they know. */
static int read_shard(const char *dir, json_t **dataset, Err *err)
{
    json_t *recipe = NULL;
    int rc = dataset_read(dir, dataset, err);
    if (rc == 0)
        rc = recipe_complete(&recipe, json_object_get(*dataset, "recipe"), err);
    if (rc == 0 && json_object_set_new(*dataset, "recipe", recipe) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for the recipe of '%s'", dir);
    return rc;
}

static int open_shards(Merge *m, Err *err)
{
    int tokens = 0, rc = 0;
    if (!(m->datasets = mem_calloc(m->p->n, sizeof *m->datasets, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < m->p->n && rc == 0; i++) {
        char *path = path_join(m->p->shards[i], "tokens.jsonl", err);
        rc = path ? read_shard(m->p->shards[i], &m->datasets[i], err) : ERR_NOMEM;
        if (rc == 0)
            rc = check_shard(m, i, err);
        tokens = tokens || (path && file_exists(path));
        mem_free(path);
    }
    if (rc == 0)
        rc = check_complete(m, err);
    if (rc == 0 && tokens)
        log_info(m->p->log, "the shards' tokens.jsonl are not joined: run weft-prep tokenize on '%s'", m->p->out);
    return rc;
}

/* ---- the lines of the shards ----------------------------------------------------------------------------- */
/* Removes the shard's verdicts on near-duplicates: they are decided over the whole set. */
static int forget_duplicates(json_t *record, Err *err)
{
    ManifestLine line;
    line_read(&line, record);
    line_remove_notes(record, REASON_NEAR_DUPLICATE);
    return line.rejected && line.reason == REASON_NEAR_DUPLICATE ? line_accept(record, err) : 0;
}

static int take_line(void *user, const json_t *record, const char *where, Err *err)
{
    Merge *m = user;
    (void)where;
    const json_t *places = json_object_get(shard_of(m, m->reading), "places");
    if (m->n == m->cap) {
        int64_t cap = m->cap ? 2 * m->cap : 256;
        Line *grown = mem_realloc(m->line, cap, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        m->line = grown;
        m->cap = cap;
    }
    if (m->n - m->first >= (int64_t)json_array_size(places))
        return err_set(err, ERR_FORMAT, "'%s' has more manifest lines than dataset.json has places",
                       m->p->shards[m->reading]);
    json_t *copy = json_deep_copy(record);
    int rc = copy ? forget_duplicates(copy, err) : ERR_NOMEM;
    char *text = rc < 0 ? NULL : json_text(copy, 0, err);
    json_decref(copy);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory for a manifest line");
    m->line[m->n] = (Line){text, (int64_t)json_integer_value(json_array_get(places, (size_t)(m->n - m->first))),
                           m->reading, m->n};
    m->n++;
    return 0;
}

/* By place; the windows of one source share it and keep their order. */
static int by_place(const void *a, const void *b)
{
    const Line *x = a, *y = b;
    return x->place != y->place ? (x->place > y->place) - (x->place < y->place) : (x->at > y->at) - (x->at < y->at);
}

static int read_lines(Merge *m, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; i < m->p->n && rc == 0; i++) {
        m->reading = i;
        m->first = m->n;
        rc = dataset_each_line(m->p->shards[i], m->datasets[i], NULL, take_line, m, err);
    }
    if (rc < 0)
        return rc;
    if (m->n)
        qsort(m->line, (size_t)m->n, sizeof *m->line, by_place);
    int64_t sources = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const Line *x = &m->line[i];
        int same = i && m->line[i - 1].place == x->place;
        if (same ? m->line[i - 1].shard != x->shard : x->place != sources)
            return err_set(err, ERR_FORMAT,
                           "'%s': dataset.json does not fit those of the other shards: source %" PRId64
                           " occurs twice or not at all",
                           m->p->shards[x->shard], sources);
        sources += !same;
    }
    if (sources != whole(shard_of(m, 0), "sources"))
        return err_set(err, ERR_FORMAT, "the shards hold %" PRId64 " of %" PRId64 " sources", sources,
                       whole(shard_of(m, 0), "sources"));
    return 0;
}

/* ---- the files of the shards ----------------------------------------------------------------------------- */
static int check_pixels(const char *path, const LineClip *clip, Err *err)
{
    uint8_t *rgb;
    int64_t n, width, height;
    char hex[65];
    int rc = video_read_rgb(path, clip->frames, clip->width, clip->height, &rgb, &n, &width, &height, err);
    if (rc < 0)
        return rc;
    rc = sha256_hex(rgb, n * width * height * 3, hex, err);
    if (rc == 0 && strcmp(hex, clip->pixels_sha256) != 0)
        rc = err_set(err, ERR_FORMAT, "its pixels hash to %.12s..., the manifest says %.12s...", hex,
                     clip->pixels_sha256);
    mem_free(rgb);
    return rc;
}

/* A file of a shard, and its places in the dataset.  Under its own name a link is always of a
 * checked clip: unchecked ones have the temporary name, whose files dataset_begin removes. */
typedef struct Place {
    char *from, *to, *temporary;
} Place;

static void place_fini(Place *p)
{
    mem_free(p->from);
    mem_free(p->to);
    mem_free(p->temporary);
}

static int place_init(Place *p, const Merge *m, const Line *x, const char *name, Err *err)
{
    *p = (Place){0};
    int rc = path_check_relative(name, err);
    if (rc < 0)
        return rc;
    p->from = path_join(m->p->shards[x->shard], name, err);
    p->to = path_join(m->p->out, name, err);
    p->temporary = p->to ? mem_printf(err, "%s.tmp-merged", p->to) : NULL;
    return p->from && p->temporary ? 0 : ERR_NOMEM;
}

/* Brings a clip's file to its temporary name: 1 linked, 2 copied; 0: it is in its place already,
 * and *check says whether it is still to be checked there. */
static int bring_clip(const Place *p, int *check, Err *err)
{
    struct stat a, b;
    *check = 1;
    if (stat(p->from, &a) < 0)
        return err_errno(err, errno, "'%s'", p->from);
    if (!S_ISREG(a.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", p->from);
    if (stat(p->to, &b) == 0) { /* from an interrupted merge */
        int same = a.st_dev == b.st_dev && a.st_ino == b.st_ino;
        *check = !same;
        if (!same && S_ISREG(b.st_mode) && a.st_size == b.st_size)
            same = place_same_bytes(p->from, p->to, err);
        if (same)
            return same < 0 ? same : 0;
    }
    *check = 1;
    return place_link_or_copy(p->from, p->temporary, err);
}

/* A thumbnail: it is not opened here, and a browser shows it as a picture. */
static int bring_thumb(const Merge *m, const Line *x, const char *name, Err *err)
{
    Place p;
    struct stat a, b;
    int rc = place_init(&p, m, x, name, err);
    if (rc == 0 && !(stat(p.from, &a) == 0 && stat(p.to, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino))
        rc = place_link_or_copy(p.from, p.to, err);
    place_fini(&p);
    return rc < 0 ? rc : 0;
}

/* Decodes the clip under its present name.  With worker processes, this one can open no other file
 * from here on. */
static int check_clip(const Merge *m, const Place *p, int how, const LineClip *clip, Err *err)
{
    const char *path = how ? p->temporary : p->to;
    int rc = m->p->jobs > 0 ? confine_process(&(ConfineRules){(const char *[]){path, NULL}, NULL}, err) : 0;
    if (rc >= 0)
        rc = check_pixels(path, clip, err);
    return rc < 0 ? err_wrap(err, rc, "clip '%s' is not what its manifest says", p->from) : 0;
}

/* In the worker process. */
static int work(void *user, int64_t item, json_t **out, Err *err)
{
    const Merge *m = user;
    const Line *x = &m->line[item];
    json_t *record;
    Place p = {0};
    /* a worker that outlives the run for a moment must not hold it */
    dir_unlock(&(DirLock){m->p->jobs > 0 ? m->lock.fd : 0});
    int how = 0, check = 0, rc = json_parse(&record, x->text, (int64_t)strlen(x->text), "manifest line", err);
    if (rc < 0)
        return rc;
    ManifestLine line;
    line_read(&line, record);
    const char *file = line.clip.file;
    if (line.contact)
        rc = bring_thumb(m, x, line.contact, err);
    if (rc == 0 && file && (rc = place_init(&p, m, x, file, err)) == 0) {
        rc = how = bring_clip(&p, &check, err);
        if (rc >= 0 && check)
            rc = check_clip(m, &p, how, &line.clip, err);
    }
    if (rc >= 0 && !(*out = json_pack("{s:i, s:s*}", "how", how, "file", how ? file : NULL)))
        rc = err_set(err, ERR_NOMEM, "out of memory for a clip");
    place_fini(&p);
    json_decref(record);
    return rc < 0 ? rc : 0;
}

/* In the parent: a checked clip gets its own name. */
static int finish_place(const Merge *m, const Line *x, const char *name, Err *err)
{
    Place p;
    int rc = place_init(&p, m, x, name, err);
    if (rc == 0 && rename(p.temporary, p.to) < 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", p.temporary, p.to);
    place_fini(&p);
    return rc;
}

static int worked(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err)
{
    Merge *m = user;
    if (!result)
        return err_set(err, ERR_IO, "'%s', manifest line of source %" PRId64 ": %s: %s",
                       m->p->shards[m->line[item].shard], m->line[item].place, code, text);
    int64_t how = whole(result, "how");
    int rc = how ? finish_place(m, &m->line[item], json_string_value(json_object_get(result, "file")), err) : 0;
    if (rc < 0)
        return rc;
    m->linked += how == 1;
    m->copied += how == 2;
    progress_step(m->progress, ++m->done, NULL);
    return 0;
}

static int asked_to_stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

static int take_files(Merge *m, Err *err)
{
    const PrepConfig *c = &m->cfg;
    Workers w = {.jobs = m->p->jobs < m->n ? m->p->jobs : m->n,
                 .limits = {c->cpu_s, c->wall_s, c->memory_bytes, (c->width * c->height * 4 + 65536) * (c->frames + 1)},
                 .user = m,
                 .work = work,
                 .done = worked,
                 .stop = asked_to_stop};
    if (m->p->jobs > 0 && !confine_available())
        log_warn(m->p->log, CONFINE_MISSING);
    m->progress = progress_start(m->p->log, "merge", "clips", m->n);
    int rc = workers_run(&w, m->n, err);
    progress_end(&m->progress);
    if (rc == 0 && m->done < m->n)
        rc = err_set(err, ERR_INTERRUPTED,
                     "stopped after %" PRId64 " of %" PRId64 " clips; the same command goes on from there", m->done,
                     m->n);
    static const char *const folders[] = {"clips", "thumbs"};
    for (int i = 0; i < 2 && rc == 0; i++) {
        char *dir = path_join(m->p->out, folders[i], err);
        rc = dir ? dir_sync(dir, err) : ERR_NOMEM;
        mem_free(dir);
    }
    if (rc == 0)
        log_info(m->p->log, "%" PRId64 " clip%s linked, %" PRId64 " copied", m->linked, str_plural(m->linked),
                 m->copied);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static int finish(Merge *m, Err *err)
{
    char **lines = mem_calloc(m->n, sizeof *lines, err);
    if (!lines)
        return ERR_NOMEM;
    for (int64_t i = 0; i < m->n; i++) {
        lines[i] = m->line[i].text;
        m->line[i].text = NULL;
    }
    Dataset d = {.dir = m->p->out,
                 .layout = json_string_value(json_object_get(m->datasets[0], "layout")),
                 .layout_found = json_string_value(json_object_get(m->datasets[0], "layout_found")),
                 .recipe = m->recipe,
                 .recipe_sha256 = m->cfg.recipe_sha256,
                 .shards = 1,
                 .lines = lines,
                 .n = m->n};
    int rc = dataset_finish(&d, &m->cfg.quality, m->p->log, m->p->results, err);
    for (int64_t i = 0; i < m->n; i++)
        mem_free(lines[i]);
    mem_free(lines);
    return rc;
}

/* Whether a source of this id and content is in the set; user: id -> SHA-256. */
static int is_found(void *user, const json_t *line)
{
    ManifestLine was;
    line_read(&was, line);
    const char *sha256 = json_string_value(json_object_get(user, was.id));
    return sha256 && was.source_sha256 && strcmp(sha256, was.source_sha256) == 0;
}

static int check_place(const Merge *m, Err *err)
{
    json_t *prior = NULL, *set = json_object();
    int rc = m->p->replace ? 0 : records_load(m->p->out, &prior, err);
    for (int64_t i = 0; i < m->n && rc == 0 && json_object_size(prior); i++) {
        json_t *record;
        if ((rc = json_parse(&record, m->line[i].text, (int64_t)strlen(m->line[i].text), "manifest line", err)) < 0)
            break;
        ManifestLine line;
        line_read(&line, record);
        if (line.source_sha256 && json_object_set_new(set, line.id, json_string(line.source_sha256)) < 0)
            rc = err_set(err, ERR_NOMEM, "out of memory for the list of sources");
        json_decref(record);
    }
    if (rc == 0 && json_object_size(prior))
        rc = dataset_check_same(m->p->out, prior, NULL, "the shards", is_found, set, err);
    json_decref(prior);
    json_decref(set);
    return rc;
}

static int open_folder(Merge *m, Err *err)
{
    const MergeParams *p = m->p;
    int rc = dataset_lock_folder(p->shards, p->n, p->out, &m->lock, err);
    if (rc == 0 && (rc = check_place(m, err)) == 0 && (rc = dataset_begin(p->out, err)) == 0)
        rc = hash_cache_remove(p->out, err); /* they may be of another ingest */
    return rc;
}

int prep_merge(const MergeParams *p, Err *err)
{
    Merge m = {.p = p, .lock = {-1}};
    int rc = open_shards(&m, err);
    if (rc == 0)
        rc = read_lines(&m, err);
    if (rc == 0 && (rc = recipe_from_json(&m.recipe, json_object_get(m.datasets[0], "recipe"), err)) == 0)
        rc = prep_config(&m.cfg, m.recipe, err);
    if (rc == 0 && p->dry_run)
        fprintf(p->results, "%" PRId64 " shard%s with %" PRId64 " manifest line%s would become the dataset %s\n", p->n,
                str_plural(p->n), m.n, str_plural(m.n), p->out);
    else if (rc == 0 && (rc = open_folder(&m, err)) == 0 && (rc = take_files(&m, err)) == 0)
        rc = finish(&m, err);
    dir_unlock(&m.lock);
    recipe_close(&m.recipe);
    for (int64_t i = 0; i < m.n; i++)
        mem_free(m.line[i].text);
    for (int64_t i = 0; m.datasets && i < p->n; i++)
        json_decref(m.datasets[i]);
    mem_free(m.line);
    mem_free(m.datasets);
    return rc;
}
