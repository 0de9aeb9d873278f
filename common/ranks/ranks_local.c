#include "common/ranks/ranks_local.h"
#include <string.h>
#include <unistd.h>
#include "common/base/mem.h"

typedef struct Local {
    Ranks r; /* first */
    Hub *hub;
} Local;

static Hub *hub_of(Ranks *r)
{
    return ((Local *)r)->hub;
}

static int64_t piece_of(int64_t left, int64_t most)
{
    return left < most ? left : most;
}

static int local_sum(Ranks *r, void *data, int64_t n, DType type, int64_t root, Err *err)
{
    Hub *h = hub_of(r);
    int64_t size = dtype_size(type), most = hub_window_bytes(h) / size;
    int rc = 0;
    for (int64_t at = 0; at < n && rc == 0; at += most) {
        int64_t k = piece_of(n - at, most);
        char *to = (char *)data + at * size;
        memcpy(hub_window(h, r->rank), to, (size_t)(k * size));
        rc = hub_barrier(h, err);
        if (rc == 0 && (root == RANKS_ALL || root == r->rank)) {
            memcpy(to, hub_window(h, 0), (size_t)(k * size));
            for (int64_t i = 1; i < r->size; i++)
                ranks_add(to, hub_window(h, i), k, type);
        }
        if (rc == 0) /* the windows have been read */
            rc = hub_barrier(h, err);
    }
    return rc;
}

static int local_send(Ranks *r, const void *data, int64_t bytes, int64_t to, Err *err)
{
    return hub_send(hub_of(r), data, bytes, r->rank, to, err);
}

static int local_receive(Ranks *r, void *data, int64_t bytes, int64_t from, Err *err)
{
    return hub_receive(hub_of(r), data, bytes, from, r->rank, err);
}

static int local_broadcast(Ranks *r, void *data, int64_t bytes, int64_t root, Err *err)
{
    Hub *h = hub_of(r);
    int rc = 0;
    for (int64_t at = 0; at < bytes && rc == 0; at += hub_window_bytes(h)) {
        int64_t k = piece_of(bytes - at, hub_window_bytes(h));
        if (r->rank == root)
            memcpy(hub_window(h, root), (char *)data + at, (size_t)k);
        rc = hub_barrier(h, err);
        if (rc == 0 && r->rank != root)
            memcpy((char *)data + at, hub_window(h, root), (size_t)k);
        if (rc == 0)
            rc = hub_barrier(h, err);
    }
    return rc;
}

static int local_gather(Ranks *r, void *all, const void *mine, int64_t bytes, Err *err)
{
    int rc = 0;
    memcpy((char *)all + r->rank * bytes, mine, (size_t)bytes);
    for (int64_t i = 0; i < r->size && rc == 0; i++)
        rc = local_broadcast(r, (char *)all + i * bytes, bytes, i, err);
    return rc;
}

static void local_cancel(Ranks *r)
{
    hub_abort(hub_of(r));
}

static void local_abort(Ranks *r, int status)
{
    (void)status;
    hub_abort(hub_of(r));
}

static void local_close(Ranks *r)
{
    mem_free(r);
}

int ranks_local(Ranks **out, Hub *hub, int64_t rank, Err *err)
{
    Local *l = mem_calloc(1, sizeof *l, err);
    *out = l ? &l->r : NULL;
    if (!l)
        return ERR_NOMEM;
    l->hub = hub;
    l->r = (Ranks){.name = "local",
                   .rank = rank,
                   .size = hub_size(hub),
                   .sum = local_sum,
                   .send = local_send,
                   .receive = local_receive,
                   .broadcast = local_broadcast,
                   .gather = local_gather,
                   .cancel = local_cancel,
                   .abort = local_abort,
                   .close = local_close};
    gethostname(l->r.host, sizeof l->r.host - 1);
    return 0;
}
