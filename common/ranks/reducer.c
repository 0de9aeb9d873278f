/* Sums of gradients over the ranks: a queue of ranges, worked off by a thread or at the end. */
#include "common/ranks/reducer.h"
#include <pthread.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/ops/ops.h"
#include "common/ranks/tree.h"

enum { STAGE = 4 << 20 /* bytes of a message, and of what a device's data pass through */, QUEUE = 64 };

typedef struct Range {
    int64_t first, n;
} Range;

struct Reducer {
    Ranks *ranks; /* NULL: one process */
    Backend *be;
    Tensor grads;
    int64_t *bound;
    int tree, linked;
    Tree t;
    int added;               /* nodes that the last leaf is added to; -1 before its ranges come */
    void *place[TREE_DEPTH]; /* on the back end, each as large as grads */
    int n_places;
    void *stage, *device_stage; /* host memory; the same size on a device */
    double busy, waited;
    /* the thread; the members below are guarded by the lock */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int locks, started, stop;
    Range queue[QUEUE];
    int64_t put, done;
    int rc;
    Err err;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- pieces of arrays on the back end -------------------------------------------------------- */

static void *element(const Reducer *r, void *array, int64_t i)
{
    return (char *)array + i * dtype_size(r->grads.dtype);
}

/* to[n] += from[n], both on the back end.  In host memory without it: the main thread may be using it. */
static int add_piece(Reducer *r, void *to, const void *from, int64_t n, Err *err)
{
    Tensor y = tensor_of(to, r->grads.dtype, 1, n), x = tensor_of((void *)from, r->grads.dtype, 1, n);
    if (!r->be->host)
        return op_add(r->be, &y, &y, &x, err);
    ranks_add(to, from, n, r->grads.dtype);
    return 0;
}

static int send_piece(Reducer *r, const void *from, int64_t bytes, int64_t to, Err *err)
{
    int rc = 0;
    if (!r->be->host) {
        rc = r->be->download(r->be, r->stage, from, bytes, err);
        from = r->stage;
    }
    return rc < 0 ? rc : r->ranks->send(r->ranks, from, bytes, to, err);
}

/* Receives bytes into back end memory. */
static int receive_piece(Reducer *r, void *to, int64_t bytes, int64_t from, Err *err)
{
    int rc = r->ranks->receive(r->ranks, r->be->host ? to : r->stage, bytes, from, err);
    return rc < 0 || r->be->host ? rc : r->be->upload(r->be, to, r->stage, bytes, err);
}

/* ---- the tree -------------------------------------------------------------------------------- */

/* A node's sum in one piece: who has it, and there: where. */
typedef struct Side {
    int64_t owner; /* -1: the node has no leaves */
    void *at;
} Side;

typedef struct Piece {
    int64_t first, n, owner; /* elements; owner: who needs the sum */
} Piece;

static int64_t rank_of_leaf(int64_t leaf, int64_t leaves, int64_t size)
{
    int64_t each = leaves / size, more = leaves % size;
    return leaf < more * (each + 1) ? leaf / (each + 1) : more + (leaf - more * (each + 1)) / each;
}

/* Adds one side's sum to the other's: to the one whose rank needs the result, else to the left one. */
static int meet(Reducer *r, const Piece *p, Side *left, const Side *right, Err *err)
{
    Side to = right->owner == p->owner ? *right : *left, from = right->owner == p->owner ? *left : *right;
    int64_t me = ranks_rank(r->ranks), bytes = p->n * dtype_size(r->grads.dtype);
    void *came = r->be->host ? r->stage : r->device_stage;
    int rc = 0;
    *left = to;
    if (to.owner == from.owner)
        return me == to.owner ? add_piece(r, to.at, from.at, p->n, err) : 0;
    if (me == from.owner)
        return send_piece(r, from.at, bytes, to.owner, err);
    if (me == to.owner && (rc = receive_piece(r, came, bytes, from.owner, err)) == 0)
        rc = add_piece(r, to.at, came, p->n, err);
    return rc;
}

/* Makes the sum of a node over all ranks.  Every rank walks the same tree, so sends and receives meet
 * in one order. */
static int join(Reducer *r, TreeNode node, const Piece *p, Side *out, Err *err)
{
    int64_t first, last, size = ranks_size(r->ranks);
    Side right;
    int rc;
    tree_span(node, r->t.leaves, &first, &last);
    *out = (Side){-1, NULL};
    if (first >= last)
        return 0;
    out->owner = rank_of_leaf(first, r->t.leaves, size);
    if (out->owner == rank_of_leaf(last - 1, r->t.leaves, size)) {
        if (out->owner == ranks_rank(r->ranks)) {
            int place = tree_find(&r->t, node);
            out->at = element(r, place == r->t.n_held - 1 ? r->grads.data : r->place[place], p->first);
        }
        return 0;
    }
    if ((rc = join(r, tree_child(node, 0), p, out, err)) < 0 || (rc = join(r, tree_child(node, 1), p, &right, err)) < 0)
        return rc;
    return right.owner < 0 ? 0 : meet(r, p, out, &right, err);
}

/* The sum of a piece to its owner's part of grads. */
static int sum_piece(Reducer *r, const Piece *p, Err *err)
{
    int64_t me = ranks_rank(r->ranks), bytes = p->n * dtype_size(r->grads.dtype);
    void *mine = element(r, r->grads.data, p->first);
    Side sum;
    int rc = 0;
    for (int i = 0; i < r->added && rc == 0; i++)
        rc = add_piece(r, mine, element(r, r->place[r->t.n_held - 1 + r->added - 1 - i], p->first), p->n, err);
    if (rc == 0)
        rc = join(r, tree_root(r->t.leaves), p, &sum, err);
    if (rc < 0)
        return rc;
    if (sum.owner != p->owner)
        return me == sum.owner  ? send_piece(r, sum.at, bytes, p->owner, err)
               : me == p->owner ? receive_piece(r, mine, bytes, sum.owner, err)
                                : 0;
    if (me != p->owner || sum.at == mine)
        return 0;
    Tensor to = tensor_of(mine, r->grads.dtype, 1, p->n), from = tensor_of(sum.at, r->grads.dtype, 1, p->n);
    if (!r->be->host)
        return op_copy(r->be, &to, &from, err);
    memcpy(mine, sum.at, (size_t)bytes);
    return 0;
}

/* ---- the transport's sums -------------------------------------------------------------------- */

static int sum_by_transport(Reducer *r, const Piece *p, Err *err)
{
    void *at = element(r, r->grads.data, p->first);
    int64_t bytes = p->n * dtype_size(r->grads.dtype);
    int rc;
    if (!r->ranks)
        return 0;
    if (r->be->host)
        return r->ranks->sum(r->ranks, at, p->n, r->grads.dtype, p->owner, err);
    rc = r->be->download(r->be, r->stage, at, bytes, err);
    if (rc == 0)
        rc = r->ranks->sum(r->ranks, r->stage, p->n, r->grads.dtype, p->owner, err);
    return rc < 0 || p->owner != r->ranks->rank ? rc : r->be->upload(r->be, at, r->stage, bytes, err);
}

/* The device goes on computing; it sums when the gradients are there. */
static int sum_by_link(Reducer *r, const Piece *p, Err *err)
{
    Tensor t = tensor_rows(&r->grads, p->first, p->n);
    return r->be->link->sum(r->be, &t, p->owner, err);
}

/* One range, cut at the bounds of the ranks' parts and into pieces. */
static int sum_range(Reducer *r, Range range, Err *err)
{
    int64_t most = r->linked ? range.n : STAGE / dtype_size(r->grads.dtype), end = range.first + range.n;
    int rc = 0;
    for (int64_t k = 0; k < ranks_size(r->ranks); k++) {
        int64_t last = smaller(end, r->bound[k + 1]);
        for (int64_t at = larger(range.first, r->bound[k]); at < last && rc == 0; at += most) {
            Piece p = {at, smaller(most, last - at), k};
            rc = r->tree ? sum_piece(r, &p, err) : r->linked ? sum_by_link(r, &p, err) : sum_by_transport(r, &p, err);
        }
    }
    return rc;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Sums the oldest range of the queue; the lock is held before and after.  After a failure the ranges
 * that follow are dropped. */
static void sum_next(Reducer *r)
{
    Range range = r->queue[r->done % QUEUE];
    double start = time_now_s();
    if (r->rc == 0) {
        pthread_mutex_unlock(&r->lock);
        int rc = sum_range(r, range, &r->err);
        pthread_mutex_lock(&r->lock);
        r->rc = rc;
    }
    r->busy += time_now_s() - start;
    r->done++;
    pthread_cond_broadcast(&r->changed);
}

static void *summing(void *arg)
{
    Reducer *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (r->done < r->put)
            sum_next(r);
        else
            pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

void reducer_begin(Reducer *r, int64_t samples)
{
    int64_t first, last;
    ranks_part(samples, ranks_rank(r->ranks), ranks_size(r->ranks), &first, &last);
    tree_begin(&r->t, samples, first, last);
    r->added = -1;
    r->busy = r->waited = 0;
}

int reducer_add(Reducer *r, Err *err)
{
    int before = r->t.n_held, added = tree_add(&r->t), rc = 0;
    Tensor place = r->grads;
    for (int i = 0; i < added && rc == 0; i++)
        rc = add_piece(r, r->grads.data, r->place[before - 1 - i], tensor_count(&r->grads), err);
    place.data = r->place[r->t.n_held - 1];
    if (rc == 0)
        rc = op_copy(r->be, &place, &r->grads, err);
    return rc < 0 ? rc : op_fill(r->be, &r->grads, 0, err);
}

void reducer_range(Reducer *r, int64_t first, int64_t n)
{
    if (r->added < 0)
        r->added = r->t.next < r->t.last ? tree_add(&r->t) : 0;
    pthread_mutex_lock(&r->lock);
    while (r->put - r->done == QUEUE) {
        if (r->started)
            pthread_cond_wait(&r->changed, &r->lock);
        else
            sum_next(r);
    }
    r->queue[r->put++ % QUEUE] = (Range){first, n};
    if (r->linked) /* only enqueues */
        sum_next(r);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

int reducer_finish(Reducer *r, Err *err)
{
    double start = time_now_s();
    pthread_mutex_lock(&r->lock);
    while (r->done < r->put) {
        if (r->started)
            pthread_cond_wait(&r->changed, &r->lock);
        else
            sum_next(r);
    }
    int rc = r->rc < 0 ? err_set(err, r->rc, "%s", r->err.msg) : 0;
    r->rc = 0;
    err_clear(&r->err);
    pthread_mutex_unlock(&r->lock);
    if (rc == 0 && r->linked && (rc = r->be->link->wait(r->be, err)) == 0)
        rc = r->be->sync(r->be, err);
    r->waited = time_now_s() - start;
    return rc;
}

void reducer_seconds(const Reducer *r, double *busy, double *waited)
{
    *busy = r->busy;
    *waited = r->waited;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int places_of(int64_t rank, int64_t size, const int64_t *samples, int n_samples)
{
    int most = 0;
    for (int i = 0; i < n_samples; i++) {
        int64_t first, last;
        ranks_part(samples[i], rank, size, &first, &last);
        int n = tree_places(samples[i], first, last);
        most = n > most ? n : most;
    }
    return most;
}

int64_t reducer_bytes(int64_t bytes, int64_t rank, int64_t size, const int64_t *samples, int n_samples, int tree,
                      int host)
{
    int64_t places = tree ? places_of(rank, size, samples, n_samples) * bytes : 0;
    return places + (tree && size > 1 && !host ? STAGE : 0);
}

static int open_places(Reducer *r, const int64_t *samples, int n_samples, Err *err)
{
    int rc = 0, wanted = r->tree ? places_of(ranks_rank(r->ranks), ranks_size(r->ranks), samples, n_samples) : 0;
    for (int i = 0; i < wanted && rc == 0; i++, r->n_places += rc == 0)
        rc = r->be->alloc(r->be, tensor_bytes(&r->grads), &r->place[i], err);
    if (rc < 0)
        return err_wrap(err, rc, "partial sum %d of %d", r->n_places + 1, wanted);
    if (ranks_size(r->ranks) > 1 && !(r->stage = mem_alloc_aligned(STAGE, err)))
        return ERR_NOMEM;
    return r->tree && ranks_size(r->ranks) > 1 && !r->be->host ? r->be->alloc(r->be, STAGE, &r->device_stage, err) : 0;
}

static int open_thread(Reducer *r, Err *err)
{
    if (pthread_mutex_init(&r->lock, NULL) != 0 || pthread_cond_init(&r->changed, NULL) != 0)
        return err_set(err, ERR_NOMEM, "the summing thread's locks");
    r->locks = 1;
    if (!r->be->host) /* one thread calls a back end */
        return 0;
    if (pthread_create(&r->thread, NULL, summing, r) != 0)
        return err_set(err, ERR_NOMEM, "the summing thread could not be started");
    r->started = 1;
    return 0;
}

int reducer_open(Reducer **out, Ranks *ranks, Backend *be, const Tensor *grads, const int64_t *bound,
                 const int64_t *samples, int n_samples, int tree, Err *err)
{
    int64_t size = ranks_size(ranks);
    Reducer *r = mem_calloc(1, sizeof *r, err);
    int rc = r && (r->bound = mem_calloc(size + 1, sizeof *bound, err)) ? 0 : ERR_NOMEM;
    *out = NULL;
    if (rc == 0) {
        memcpy(r->bound, bound, (size_t)(size + 1) * sizeof *bound);
        r->ranks = ranks;
        r->be = be;
        r->grads = *grads;
        r->tree = tree;
        rc = open_places(r, samples, n_samples, err);
    }
    if (rc == 0)
        rc = open_thread(r, err);
    if (rc < 0)
        reducer_close(&r);
    *out = r;
    return rc;
}

/* Whether a step of linking worked at all ranks. */
static int all_well(Ranks *ranks, int code, int *well, Err *err)
{
    double bad = code < 0;
    int rc = ranks->sum(ranks, &bad, 1, DT_F64, RANKS_ALL, err);
    *well = rc == 0 && bad == 0;
    return rc;
}

int reducer_link(Ranks *ranks, Backend *be, int *linked, Err *why, Err *err)
{
    char id[DEVICE_LINK_ID];
    int rc = 0;
    *linked = 0;
    if (!ranks || !be->link)
        return 0;
    int made = be->link->open(be, why);
    if (made == 0 && ranks->rank == 0)
        made = be->link->id(be, id, why);
    if ((rc = all_well(ranks, made, linked, err)) < 0 || !*linked)
        return rc;
    rc = ranks->broadcast(ranks, id, sizeof id, 0, err);
    if (rc == 0)
        rc = all_well(ranks, be->link->join(be, id, ranks->rank, ranks->size, why), linked, err);
    if (!*linked)
        be->link->close(be, 1);
    return rc;
}

void reducer_use_link(Reducer *r)
{
    r->linked = !r->tree;
}

void reducer_close(Reducer **reducer)
{
    Reducer *r = *reducer;
    if (!r)
        return;
    if (r->started) {
        pthread_mutex_lock(&r->lock);
        r->stop = 1;
        if (r->done < r->put && r->ranks) /* left in the middle of a step: another rank may be gone */
            r->ranks->cancel(r->ranks);
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    if (r->locks) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->lock);
    }
    for (int i = 0; i < r->n_places; i++)
        r->be->release(r->be, r->place[i]);
    if (r->device_stage)
        r->be->release(r->be, r->device_stage);
    mem_free_aligned(r->stage);
    mem_free(r->bound);
    mem_free(r);
    *reducer = NULL;
}

/* ---- sharing what was updated ---------------------------------------------------------------- */

static int share_part(Ranks *ranks, Backend *be, char *at, int64_t bytes, int64_t owner, char *stage, Err *err)
{
    int rc = 0;
    if (be->host)
        return ranks->broadcast(ranks, at, bytes, owner, err);
    for (int64_t done = 0; done < bytes && rc == 0; done += STAGE) {
        int64_t n = smaller(STAGE, bytes - done);
        if (ranks->rank == owner)
            rc = be->download(be, stage, at + done, n, err);
        if (rc == 0)
            rc = ranks->broadcast(ranks, stage, n, owner, err);
        if (rc == 0 && ranks->rank != owner)
            rc = be->upload(be, at + done, stage, n, err);
    }
    return rc;
}

/* Nothing is left to be done when it returns: a rank that then waits for another one, say in MPI, must
 * not keep the others waiting for its part of a broadcast. */
static int share_by_link(Ranks *ranks, Backend *be, const Tensor *values, const int64_t *bound, Err *err)
{
    int rc = 0;
    for (int64_t k = 0; k < ranks->size && rc == 0; k++)
        if (bound[k] < bound[k + 1]) {
            Tensor part = tensor_rows(values, bound[k], bound[k + 1] - bound[k]);
            rc = be->link->broadcast(be, &part, k, err);
        }
    if (rc == 0)
        rc = be->link->wait(be, err);
    return rc < 0 ? rc : be->sync(be, err);
}

int reducer_share(Ranks *ranks, Backend *be, const Tensor *values, const int64_t *bound, int linked, Err *err)
{
    char *stage = NULL;
    int64_t size = dtype_size(values->dtype);
    int rc = 0;
    if (ranks_size(ranks) == 1)
        return 0;
    if (linked)
        return share_by_link(ranks, be, values, bound, err);
    if (!be->host && !(stage = mem_alloc_aligned(STAGE, err)))
        return ERR_NOMEM;
    for (int64_t k = 0; k < ranks->size && rc == 0; k++)
        if (bound[k] < bound[k + 1])
            rc = share_part(ranks, be, (char *)values->data + bound[k] * size, (bound[k + 1] - bound[k]) * size, k,
                            stage, err);
    mem_free_aligned(stage);
    return rc;
}
