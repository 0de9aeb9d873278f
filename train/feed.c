/* A ring of host batches between the reading thread and the training loop. */
#include <pthread.h>

#include "common/base/mem.h"
#include "train/feed.h"

enum { PASSES = 2 }; /* one in use by the loop, one being read */

typedef struct Pass {
    HostBatch batch;
    int rc; /* result of reading it */
    Err err;
} Pass;

struct Feed {
    const Job *job;
    int64_t first_step, *order; /* used by the reading thread alone */
    Pass pass[PASSES];
    pthread_t thread;
    pthread_mutex_t lock; /* guards the members below; the loop owns pass k while taken <= k < made */
    pthread_cond_t changed;
    int64_t made, taken; /* passes that were read; passes that the loop has given back */
    int stop, ended;     /* stop: the loop needs no more passes; ended: the thread has finished */
    int holding;         /* the loop has pass number `taken` */
    int started, locks;  /* whether the thread runs and the locks exist, for feed_close */
};

/* Waits for a free place for the next pass; NULL when the loop has stopped. */
static Pass *place(Feed *f)
{
    Pass *p;

    pthread_mutex_lock(&f->lock);
    while (!f->stop && f->made - f->taken == PASSES)
        pthread_cond_wait(&f->changed, &f->lock);
    p = f->stop ? NULL : &f->pass[f->made % PASSES];
    pthread_mutex_unlock(&f->lock);
    return p;
}

static void hand_over(Feed *f, int pass, int ended)
{
    pthread_mutex_lock(&f->lock);
    f->made += pass;
    f->ended = ended;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

/* The loop gets the error in place of the next pass. */
static int fail(Feed *f, int rc, const Err *why)
{
    Pass *p = place(f);

    if (!p)
        return 1;
    p->err = *why;
    p->rc = rc;
    hand_over(f, 1, 0);
    return rc;
}

/* Reads all passes of one step; 0 unless the loop stopped or reading failed. */
static int read_step(Feed *f, int64_t step, int64_t *epoch_of_order)
{
    const Job *j = f->job;
    int64_t epoch, first, last;

    job_step_range(j, step, &epoch, &first, &last);
    if (epoch != *epoch_of_order) {
        Err why = {0};
        int rc = draws_order(&j->draws, j->data, epoch, f->order, &why);
        if (rc < 0)
            return fail(f, rc, &why);
        *epoch_of_order = epoch;
    }
    job_share_range(j, &first, &last);
    for (int64_t at = first; at < last; at += j->pass) {
        int64_t n = last - at < j->pass ? last - at : j->pass;
        Pass *p = place(f);
        int rc;
        if (!p)
            return 1;
        err_clear(&p->err);
        rc = p->rc = batch_read(j->data, &j->draws, &p->batch, epoch, f->order + at, n, j->schedule.n_train, &p->err);
        hand_over(f, 1, 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void *reading(void *arg)
{
    Feed *f = arg;
    int64_t epoch_of_order = -1;

    for (int64_t step = f->first_step; step < f->job->steps && read_step(f, step, &epoch_of_order) == 0; step++)
        continue;
    hand_over(f, 0, 1);
    return NULL;
}

int feed_open(Feed **out, const Job *job, int64_t step, Err *err)
{
    Feed *f = mem_calloc(1, sizeof *f, err);
    int rc = f ? 0 : ERR_NOMEM;

    *out = NULL;
    if (rc < 0)
        return rc;
    f->job = job;
    f->first_step = step;
    for (int i = 0; i < PASSES && rc == 0; i++)
        rc = batch_new(&f->pass[i].batch, job->data, job->pass, err);
    if (rc == 0 && !(f->order = mem_calloc(job->data->n, sizeof *f->order, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && (pthread_mutex_init(&f->lock, NULL) != 0 || pthread_cond_init(&f->changed, NULL) != 0))
        rc = err_set(err, ERR_NOMEM, "the reading thread's locks");
    f->locks = rc == 0;
    if (rc == 0 && pthread_create(&f->thread, NULL, reading, f) != 0)
        rc = err_set(err, ERR_NOMEM, "the reading thread could not be started");
    f->started = rc == 0;
    if (rc < 0)
        feed_close(&f);
    *out = f;
    return rc;
}

int feed_next(Feed *f, const HostBatch **out, Err *err)
{
    Pass *p = NULL;

    pthread_mutex_lock(&f->lock);
    if (f->holding) {
        f->taken++;
        f->holding = 0;
        pthread_cond_broadcast(&f->changed);
    }
    while (f->made == f->taken && !f->ended)
        pthread_cond_wait(&f->changed, &f->lock);
    if (f->made > f->taken) {
        p = &f->pass[f->taken % PASSES];
        f->holding = 1;
    }
    pthread_mutex_unlock(&f->lock);
    if (!p)
        return err_set(err, ERR_USAGE, "no pass is left to read");
    *out = &p->batch;
    return p->rc < 0 ? err_set(err, p->rc, "%s", p->err.msg) : 0;
}

void feed_close(Feed **feed)
{
    Feed *f = *feed;

    if (!f)
        return;
    if (f->started) {
        pthread_mutex_lock(&f->lock);
        f->stop = 1;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    if (f->locks) {
        pthread_cond_destroy(&f->changed);
        pthread_mutex_destroy(&f->lock);
    }
    for (int i = 0; i < PASSES; i++)
        batch_free(&f->pass[i].batch);
    mem_free(f->order);
    mem_free(f);
    *feed = NULL;
}
