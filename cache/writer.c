#include "cache/writer.h"
#include <pthread.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/progress.h"

enum { PLACES = 8 };
typedef enum JobKind { JOB_RECORD, JOB_CLIP, JOB_DELETE } JobKind;

typedef struct Job {
    JobKind job;
    CacheDb db;
    Digest key;
    RecordKind kind;
    Tensor tensor;
    char *id;
    json_t *facts;
} Job;

struct CacheWriter {
    Cache *cache;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Job job[PLACES];
    int64_t put, taken, freed; /* jobs so far; the caller frees what the thread has done with */
    int closing;
    double busy_s;
    Err err;
};

static int do_job(CacheWriter *w, const Job *j, Err *err)
{
    switch (j->job) {
    case JOB_RECORD: return cache_put_record(w->cache, j->db, &j->key, j->kind, &j->tensor, err);
    case JOB_CLIP: return cache_put_clip(w->cache, j->id, j->facts, err);
    case JOB_DELETE: return cache_delete_clip(w->cache, j->id, err);
    }
    return 0;
}

static void *run(void *user)
{
    CacheWriter *w = user;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->taken == w->put && !w->closing)
            pthread_cond_wait(&w->changed, &w->lock);
        int last = w->taken == w->put;
        Job j = w->job[w->taken % PLACES];
        int failed = w->err.code < 0;
        Err err = {0};
        pthread_mutex_unlock(&w->lock);
        double begin = time_now_s();
        int rc = failed ? 0 : last ? cache_commit(w->cache, &err) : do_job(w, &j, &err);
        pthread_mutex_lock(&w->lock);
        w->busy_s += time_now_s() - begin;
        if (rc < 0 && w->err.code == 0)
            w->err = err;
        if (last)
            break;
        w->taken++;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int writer_open(CacheWriter **out, Cache *c, int64_t bytes, Err *err)
{
    CacheWriter *w = *out = mem_calloc(1, sizeof *w, err);
    if (!w)
        return ERR_NOMEM;
    w->cache = c;
    cache_batch(c, bytes);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int code = pthread_create(&w->thread, NULL, run, w);
    if (code == 0)
        return 0;
    mem_free(w);
    *out = NULL;
    return err_errno(err, code, "starting the thread that writes the cache");
}

static void free_job(Job *j)
{
    mem_free_aligned(j->tensor.data);
    mem_free(j->id);
    json_decref(j->facts);
    *j = (Job){0};
}

/* Takes over the job's memory. */
static int put(CacheWriter *w, Job *j, Err *err)
{
    pthread_mutex_lock(&w->lock);
    while (w->put - w->taken >= PLACES && w->err.code == 0)
        pthread_cond_wait(&w->changed, &w->lock);
    for (; w->freed < w->taken; w->freed++)
        free_job(&w->job[w->freed % PLACES]);
    int rc = w->err.code;
    if (rc < 0) {
        err_set(err, rc, "%s", w->err.msg);
        free_job(j);
    } else {
        w->job[w->put++ % PLACES] = *j;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int writer_record(CacheWriter *w, CacheDb db, const Digest *key, RecordKind kind, const Tensor *t, Err *err)
{
    Job j = {.job = JOB_RECORD, .db = db, .key = *key, .kind = kind, .tensor = *t};
    if (!(j.tensor.data = mem_alloc_aligned(tensor_bytes(t), err)))
        return ERR_NOMEM;
    memcpy(j.tensor.data, t->data, (size_t)tensor_bytes(t));
    return put(w, &j, err);
}

int writer_clip(CacheWriter *w, const char *id, json_t *facts, Err *err)
{
    Job j = {.job = JOB_CLIP, .id = mem_strdup(id, err), .facts = facts};
    if (!j.id) {
        json_decref(facts);
        return ERR_NOMEM;
    }
    return put(w, &j, err);
}

int writer_delete_clip(CacheWriter *w, const char *id, Err *err)
{
    Job j = {.job = JOB_DELETE, .id = mem_strdup(id, err)};
    return j.id ? put(w, &j, err) : ERR_NOMEM;
}

double writer_busy(CacheWriter *w)
{
    pthread_mutex_lock(&w->lock);
    double s = w->busy_s;
    pthread_mutex_unlock(&w->lock);
    return s;
}

int writer_finish(CacheWriter **pp, double *busy_s, Err *err)
{
    CacheWriter *w = *pp;
    if (!w)
        return 0;
    pthread_mutex_lock(&w->lock);
    w->closing = 1;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    for (; w->freed < w->put; w->freed++)
        free_job(&w->job[w->freed % PLACES]);
    int rc = w->err.code;
    if (rc < 0)
        err_set(err, rc, "%s", w->err.msg);
    if (busy_s)
        *busy_s = w->busy_s;
    cache_batch(w->cache, 0);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
    *pp = NULL;
    return rc;
}

void writer_close(CacheWriter **w)
{
    Err dropped = {0};
    err_ignore(writer_finish(w, NULL, &dropped));
}
