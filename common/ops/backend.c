#include "common/ops/backend.h"

#include <string.h>
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/ops/ops_table.h"

typedef struct HostBackend { /* ref, cpu and plan: a Backend, first, and its table */
    Backend be;
    OpsTable table;
} HostBackend;

/* ---- memory: the host's ----------------------------------------------------------------------------------------- */

static int host_alloc(Backend *be, int64_t bytes, void **out, Err *err)
{
    (void)be;
    *out = mem_alloc_aligned(bytes, err);
    return *out ? 0 : ERR_NOMEM;
}

static void host_release(Backend *be, void *p)
{
    (void)be;
    mem_free_aligned(p);
}

static int host_copy(Backend *be, void *dst, const void *src, int64_t bytes, Err *err)
{
    (void)be, (void)err;
    if (bytes > 0)
        memcpy(dst, src, (size_t)bytes);
    return 0;
}

static int host_sync(Backend *be, Err *err)
{
    (void)be, (void)err;
    return 0;
}

static void host_close(Backend *be)
{
    mem_free(be); /* be is the first member of its HostBackend */
}

static void cpu_close(Backend *be)
{
    ops_cpu_close(be);
    host_close(be);
}

/* ---- memory: plan's, which is none ------------------------------------------------------------------------------ */

static int plan_alloc(Backend *be, int64_t bytes, void **out, Err *err)
{
    (void)be, (void)bytes, (void)err;
    *out = (void *)(uintptr_t)64; /* not NULL, aligned, never read */
    return 0;
}

static void plan_release(Backend *be, void *p)
{
    (void)be, (void)p;
}

static int plan_upload(Backend *be, void *dst, const void *host, int64_t bytes, Err *err)
{
    (void)be, (void)dst, (void)host, (void)bytes, (void)err;
    return 0;
}

static int plan_download(Backend *be, void *host, const void *src, int64_t bytes, Err *err)
{
    (void)be, (void)src, (void)err;
    if (bytes > 0)
        memset(host, 0, (size_t)bytes);
    return 0;
}

/* ---- open, close ------------------------------------------------------------------------------------------------ */

static const struct { const char *name; void (*table)(OpsTable *); } host_kinds[] = {
    {"ref", ops_ref_table}, {"cpu", ops_cpu_table}, {"plan", ops_plan_table},
};

int backend_open(Backend **out, const char *name, int64_t threads, const Log *log, Err *err)
{
    *out = NULL;
    if (strcmp(name, "auto") == 0) {
        log_info(log, "device: cpu (cuda is not in this build)");
        name = "cpu";
    }
    if (strcmp(name, "cuda") == 0 || strcmp(name, "sim") == 0)
        return err_set(err, ERR_UNSUPPORTED, "device '%s' is not in this build; use cpu", name);
    size_t kind = 0, n_kinds = sizeof host_kinds / sizeof host_kinds[0];
    while (kind < n_kinds && strcmp(name, host_kinds[kind].name) != 0)
        kind++;
    if (kind == n_kinds)
        return err_set(err, ERR_USAGE, "device '%s': expected auto, ref, cpu, cuda or sim", name);
    if (threads < 0)
        return err_set(err, ERR_USAGE, "%lld threads: expected 0 (all cores) or more", (long long)threads);

    HostBackend *h = mem_calloc(1, (int64_t)sizeof *h, err);
    if (!h)
        return ERR_NOMEM;
    int plan = strcmp(name, "plan") == 0;
    host_kinds[kind].table(&h->table);
    h->be = (Backend){
        .name = host_kinds[kind].name, .ops = &h->table, .act = DT_F32, .host = 1, .plan = plan, .threads = threads_choose(threads),
        .log = log, .alloc = plan ? plan_alloc : host_alloc, .release = plan ? plan_release : host_release,
        .upload = plan ? plan_upload : host_copy, .download = plan ? plan_download : host_copy, .sync = host_sync,
        .close = host_close,
    };
    if (strcmp(name, "cpu") == 0) {
        int rc = ops_cpu_open(&h->be, err);
        if (rc < 0) {
            mem_free(h);
            return rc;
        }
        h->be.close = cpu_close;
    }
    *out = &h->be;
    return 0;
}

void backend_close(Backend **be)
{
    if (be && *be)
        (*be)->close(*be);
    if (be)
        *be = NULL;
}

/* ---- conversion on the way -------------------------------------------------------------------------------------- */

enum { CHUNK = 2048 };

static int check_float(const Tensor *t, Err *err)
{
    char shape[160];
    if (dtype_is_float(t->dtype))
        return 0;
    return err_set(err, ERR_USAGE, "a float tensor is needed, not %s", tensor_describe(t, shape, sizeof shape));
}

int backend_put_f32(Backend *be, const Tensor *dst, const float *host, Err *err)
{
    int rc = check_float(dst, err);
    if (rc < 0)
        return rc;
    if (be->plan)
        return 0;
    if (dst->dtype == DT_F32)
        return be->upload(be, dst->data, host, tensor_bytes(dst), err);
    double room[CHUNK]; /* holds any float type */
    int64_t count = tensor_count(dst), size = dtype_size(dst->dtype);
    for (int64_t first = 0; first < count && rc == 0; first += CHUNK) {
        int64_t n = count - first < CHUNK ? count - first : CHUNK;
        Tensor part = tensor_of(room, dst->dtype, 1, n);
        for (int64_t i = 0; i < n; i++)
            tensor_set(&part, i, host[first + i]);
        rc = be->upload(be, (char *)dst->data + first * size, room, n * size, err);
    }
    return rc;
}

int backend_get_f32(Backend *be, float *host, const Tensor *src, Err *err)
{
    int rc = check_float(src, err);
    if (rc < 0)
        return rc;
    if (be->plan || src->dtype == DT_F32)
        return be->download(be, host, src->data, tensor_count(src) * (int64_t)sizeof(float), err);
    double room[CHUNK];
    int64_t count = tensor_count(src), size = dtype_size(src->dtype);
    for (int64_t first = 0; first < count && rc == 0; first += CHUNK) {
        int64_t n = count - first < CHUNK ? count - first : CHUNK;
        Tensor part = tensor_of(room, src->dtype, 1, n);
        rc = be->download(be, room, (const char *)src->data + first * size, n * size, err);
        for (int64_t i = 0; i < n && rc == 0; i++)
            host[first + i] = (float)tensor_get(&part, i);
    }
    return rc;
}
