/* As in a build, the meta entries come first and say how many clips there will be, then the records,
 * then the entries that name them: a merge that was stopped reads as unfinished. */
#include "cache/merge.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "cache/merge_meta.h"
#include "cache/view.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/threads.h"

enum { BATCH = 64 << 20 };

typedef struct Merge {
    const MergeParams *params;
    View *source;
    int64_t n;
    Cache *out;
    json_t *ids; /* clip id -> index of the first source that has it */
    MergedMeta meta;
    int64_t records, clips;
    Progress *bar;
} Merge;

static int stopped(const Merge *m, Err *err)
{
    if (!interrupt_requested())
        return 0;
    return err_set(err, ERR_INTERRUPTED, "stopped after %" PRId64 " record%s; the same command goes on from there",
                   m->records, str_plural(m->records));
}

static int is_same_folder(const char *a, const char *b)
{
    char x[PATH_MAX], y[PATH_MAX];
    return realpath(a, x) && realpath(b, y) && strcmp(x, y) == 0;
}

static int open_sources(Merge *m, Err *err)
{
    const StrList *s = &m->params->sources;
    if (!(m->source = mem_calloc(s->n, sizeof *m->source, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->n; i++) {
        for (int64_t k = 0; k < i; k++)
            if (is_same_folder(s->item[i], s->item[k]))
                return err_set(err, ERR_USAGE, "'%s' is given twice", s->item[i]);
        if (is_same_folder(s->item[i], m->params->out))
            return err_set(err, ERR_USAGE, "'%s' is a source: --out must be another folder", s->item[i]);
        int rc = view_open(&m->source[i], s->item[i], err);
        m->n = i + 1;
        if (rc == 0)
            rc = merged_meta_add(&m->meta, &m->source[i], s->item[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- clips ----------------------------------------------------------------------------------- */

typedef struct ClipPass {
    Merge *m;
    int64_t source;
} ClipPass;

static int list_clip(void *user, const char *id, json_t *facts, Err *err)
{
    const ClipPass *p = user;
    json_t *first = json_object_get(p->m->ids, id), *other = NULL;
    if (!first)
        return json_object_set_new(p->m->ids, id, json_integer(p->source)) < 0
                   ? err_set(err, ERR_NOMEM, "no memory for the clips' ids")
                   : 0;
    int64_t k = json_integer_value(first);
    int rc = cache_get_clip(p->m->source[k].txn, id, &other, err), same = rc == 1 && json_equal(facts, other);
    json_decref(other);
    if (rc >= 0 && !same)
        return err_set(err, ERR_FORMAT, "clip '%s' is another one in '%s' than in '%s': rename one, or drop it with gc",
                       id, p->m->params->sources.item[p->source], p->m->params->sources.item[k]);
    return rc < 0 ? rc : 0;
}

static int put_clip(void *user, const char *id, json_t *facts, Err *err)
{
    const ClipPass *p = user;
    if (json_integer_value(json_object_get(p->m->ids, id)) != p->source)
        return 0; /* it came from an earlier source */
    p->m->clips++;
    int rc = stopped(p->m, err);
    return rc < 0 ? rc : cache_put_clip(p->m->out, id, facts, err);
}

static int each_source_clip(Merge *m, ClipFn *f, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < m->n; i++) {
        ClipPass p = {m, i};
        if ((rc = view_each_clip(&m->source[i], f, &p, err)) < 0)
            rc = err_wrap(err, rc, "'%s'", m->params->sources.item[i]);
    }
    return rc;
}

/* ---- records --------------------------------------------------------------------------------- */

static int same_record(const RecordView *a, const RecordView *b)
{
    return a->kind == b->kind && a->tensor.dtype == b->tensor.dtype && tensor_same_shape(&a->tensor, &b->tensor) &&
           memcmp(a->tensor.data, b->tensor.data, (size_t)tensor_bytes(&a->tensor)) == 0;
}

static int put_record(Merge *m, CacheTxn *have, CacheDb db, const Digest *key, const RecordView *r, Err *err)
{
    RecordView other;
    int rc = cache_get_record(have, db, key, 1, &other, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s'", m->params->out);
    if (rc == 0)
        return cache_put_record(m->out, db, key, r->kind, &r->tensor, err);
    char hex[65];
    digest_hex(key, hex);
    return same_record(r, &other)
               ? 0
               : err_set(err, ERR_FORMAT, "%s %s has other bytes in two of the sources", cache_db_name(db), hex);
}

/* Each source sees what the earlier ones have committed; within one, keys are unique. */
static int put_records(Merge *m, int64_t source, CacheDb db, Err *err)
{
    CacheTxn *have = NULL;
    CacheCursor *cursor = NULL;
    Digest key;
    RecordView r;
    int rc = cache_commit(m->out, err);
    if (rc == 0)
        rc = cache_begin(&have, m->out, err);
    while (rc >= 0 && (rc = cache_next_record(m->source[source].txn, db, &cursor, &key, &r, 1, err)) == 1) {
        progress_step(m->bar, ++m->records, NULL);
        if ((rc = stopped(m, err)) == 0)
            rc = put_record(m, have, db, &key, &r, err);
    }
    cache_cursor_free(&cursor);
    cache_end(&have);
    return rc < 0 ? err_wrap(err, rc, "'%s'", m->params->sources.item[source]) : 0;
}

static int count_records(const Merge *m, int64_t *n, Err *err)
{
    *n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        CacheStat stat;
        int rc = cache_stat(m->source[i].txn, &stat, err);
        if (rc < 0)
            return rc;
        *n += stat.latents + stat.text + stat.tokens;
    }
    return 0;
}

static int put_all(Merge *m, Err *err)
{
    int64_t all;
    int rc = count_records(m, &all, err);
    m->bar = progress_start(m->params->log, "merge", "records", all);
    for (int64_t i = 0; rc == 0 && i < m->n; i++)
        for (int db = CACHE_LATENTS; rc == 0 && db <= CACHE_TOKENS; db++)
            rc = put_records(m, i, (CacheDb)db, err);
    if (rc == 0)
        rc = each_source_clip(m, put_clip, err);
    progress_end(&m->bar);
    return rc;
}

int cache_merge(const MergeParams *params, Err *err)
{
    Merge m = {.params = params, .ids = json_object()};
    int rc = m.ids ? 0 : err_set(err, ERR_NOMEM, "no memory for the clips' ids");
    if (rc == 0)
        rc = open_sources(&m, err);
    if (rc == 0)
        rc = each_source_clip(&m, list_clip, err);
    if (rc == 0)
        rc = merged_meta_finish(&m.meta, m.ids, err);
    if (rc == 0)
        rc = cache_open(&m.out, params->out, params->mode, err);
    if (rc == 0) {
        cache_batch(m.out, INT64_MAX);
        rc = merged_meta_put(&m.meta, m.out, params->out, err);
    }
    if (rc == 0)
        rc = cache_commit(m.out, err);
    if (rc == 0) {
        cache_batch(m.out, BATCH);
        rc = put_all(&m, err);
    }
    if (rc == 0)
        rc = cache_put_meta(m.out, "rejected", m.meta.rejected, err);
    if (rc == 0)
        rc = cache_commit(m.out, err);
    if (rc == 0)
        fprintf(params->results, "%s: %" PRId64 " clip%s of %" PRId64 " cache%s\n", params->out, m.clips,
                str_plural(m.clips), m.n, str_plural(m.n));
    cache_close(&m.out);
    for (int64_t i = 0; i < m.n; i++)
        view_close(&m.source[i]);
    mem_free(m.source);
    merged_meta_fini(&m.meta);
    json_decref(m.ids);
    return rc;
}
