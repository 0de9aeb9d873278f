#include "prep/ingest.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "prep/clip.h"
#include "prep/dataset.h"
#include "prep/layout.h"
#include "prep/record.h"
#include "prep/worker.h"

typedef struct Run {
    const IngestParams *p;
    PrepConfig cfg;
    const Layout *layout;
    SourceList sources;
    int64_t *chosen, n; /* places in sources that are this shard's */
    char *dir;          /* the dataset's folder */
    DirLock lock;
    json_t *prior;
    Journal *journal;
    char **lines;       /* [n] finished manifest lines */
    int64_t done;
    Progress *progress;
} Run;

/* ---- finding the sources ---- */
static int find_sources(Run *r, Err *err)
{
    const IngestParams *p = r->p;
    char why[256];
    int rc = layout_choose(p->source, p->layout, &r->layout, why, sizeof why, err);
    if (rc < 0)
        return rc;
    log_info(p->log, "layout %s: %s", r->layout->name, why);
    if ((rc = layout_read(r->layout, p->source, (uint64_t)recipe_int(p->recipe, "seed"), &r->sources, p->log, err)) < 0)
        return rc;
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
        log_info(p->log, "shard %lld of %lld: %lld of %lld sources", (long long)p->shard, (long long)p->shards, (long long)r->n,
                 (long long)r->sources.n);
    return 0;
}

/* ---- the clips ---- */
/* The finished clip's line into the journal and the list. */
static int keep(Run *r, int64_t at, const json_t *result, Err *err)
{
    const Source *s = &r->sources.item[r->chosen[at]];
    json_t *record = record_build(s, result, err);
    const json_t *reason = record ? json_object_get(record, "reason") : NULL;
    r->lines[at] = record ? json_text(record, 0, err) : NULL;
    int rc = r->lines[at] ? journal_add(r->journal, r->lines[at], err) : ERR_NOMEM;
    if (json_is_object(reason))
        log_warn(r->p->log, "clip '%s' is rejected: %s: %s", s->id, json_string_value(json_object_get(reason, "code")),
                 json_string_value(json_object_get(reason, "text")));
    json_decref(record);
    if (rc == 0)
        progress_step(r->progress, ++r->done, NULL);
    return rc;
}

/* In the worker process. */
static int work(void *user, int64_t at, json_t **out, Err *err)
{
    const Run *r = user;
    const Source *s = &r->sources.item[r->chosen[at]];
    dir_unlock(&(DirLock){r->p->jobs > 0 ? r->lock.fd : 0}); /* a worker that outlives the run for a moment must not hold it */
    int rc = clip_process(&r->cfg, r->p->source, s, json_object_get(r->prior, s->id), r->dir, out, err);
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", s->id) : 0;
}

static int worked(void *user, int64_t at, const json_t *result, const char *code, const char *text, Err *err)
{
    Run *r = user;
    json_t *failed = NULL;
    int rc = result ? 0 : clip_failed(&r->cfg, &r->sources.item[r->chosen[at]], code, text, &failed, err);
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
    r->lines = mem_calloc(r->n, sizeof *r->lines, err);
    if (!r->lines)
        return ERR_NOMEM;
    r->progress = progress_start("ingest", "clips", r->n, r->p->quiet);
    int rc = workers_run(&w, r->n, err);
    progress_end(&r->progress);
    if (rc == 0 && r->done < r->n)
        rc = err_set(err, ERR_INTERRUPTED, "stopped after %lld of %lld clips; the same command goes on from there", (long long)r->done,
                     (long long)r->n);
    return rc;
}

/* ---- the whole ---- */
static int print_plan(const Run *r)
{
    const PrepConfig *c = &r->cfg;
    FILE *f = r->p->results;
    int64_t rejects = 0, folders = 0;
    for (int64_t i = 0; i < r->n; i++) {
        rejects += r->sources.item[r->chosen[i]].reject_code != NULL;
        folders += r->sources.item[r->chosen[i]].kind == SOURCE_FRAMES;
    }
    fprintf(f, "layout %s, %lld sources (%lld folders of pictures), %lld of them rejected before decoding\n", r->layout->name,
            (long long)r->n, (long long)folders, (long long)rejects);
    fprintf(f, "each becomes %lldx%lld, %lld frames at %lld fps in %s/clips; at most %.1f MB before FFV1\n", (long long)c->width,
            (long long)c->height, (long long)c->frames, (long long)c->fps, r->dir,
            3e-6 * (double)(c->width * c->height * c->frames) * (double)r->n);
    return 0;
}

static int finish(Run *r, Err *err)
{
    const IngestParams *p = r->p;
    Dataset d = {.dir = r->dir,
                 .layout = r->layout->name,
                 .recipe = p->recipe,
                 .recipe_sha256 = r->cfg.recipe_sha256,
                 .shard = p->shard,
                 .shards = p->shards,
                 .lines = r->lines,
                 .n = r->n};
    int rc = dataset_write_manifest(&d, err);
    if (rc == 0)
        dataset_print(&d, p->results);
    double limit = recipe_num(p->recipe, "clip.max_reject_ratio");
    if (rc == 0 && (double)d.tally.rejected > limit * (double)r->n)
        rc = err_set(err, ERR_LIMIT, "%lld of %lld clips are rejected, more than clip.max_reject_ratio %g allows; see %s/manifest.jsonl",
                     (long long)d.tally.rejected, (long long)r->n, limit, r->dir);
    if (rc == 0) /* the manifest keeps from here on what the journal kept; dataset.json comes last */
        rc = journal_remove(r->dir, err);
    if (rc == 0)
        rc = dataset_finish(&d, err);
    int status = d.tally.rejected ? 3 : 0;
    dataset_fini(&d);
    return rc < 0 ? rc : status;
}

int ingest(const IngestParams *p, Err *err)
{
    Run r = {.p = p, .lock = {-1}};
    int rc = prep_config(&r.cfg, p->recipe, err);
    if (rc < 0 || (rc = find_sources(&r, err)) < 0)
        goto out;
    r.dir = p->shards > 1 ? mem_printf(err, "%s/shard-%lld-of-%lld", p->out, (long long)p->shard, (long long)p->shards)
                          : mem_strdup(p->out, err);
    if (!r.dir)
        rc = ERR_NOMEM;
    else if (p->dry_run)
        rc = print_plan(&r);
    else if ((rc = dataset_open_folder(p->source, r.dir, &r.lock, err)) == 0 && (rc = records_load(r.dir, &r.prior, err)) == 0 &&
             (rc = journal_open(&r.journal, r.dir, err)) == 0 && (rc = process_all(&r, err)) == 0)
        rc = finish(&r, err);
out:
    journal_close(&r.journal);
    dir_unlock(&r.lock);
    json_decref(r.prior);
    for (int64_t i = 0; r.lines && i < r.n; i++)
        mem_free(r.lines[i]);
    mem_free(r.lines);
    mem_free(r.chosen);
    mem_free(r.dir);
    source_list_fini(&r.sources);
    return rc;
}
