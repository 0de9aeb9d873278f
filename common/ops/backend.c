#include "common/ops/backend.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/plugin.h"
#include "common/base/threads.h"
#include "common/ops/ops_table.h"

typedef struct HostBackend { /* ref, cpu and plan: a Backend, first, and its table */
    Backend be;
    OpsTable table;
} HostBackend;

/* ---- memory: the host's ---------------------------------------------------------------------- */

static int host_alloc(Backend *be, int64_t bytes, void **out, Err *err)
{
    *out = mem_alloc_aligned(bytes, err);
    be->allocated += *out ? bytes : 0;
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

/* ---- memory: plan's, which is none ----------------------------------------------------------- */

static int plan_alloc(Backend *be, int64_t bytes, void **out, Err *err)
{
    (void)err;
    be->allocated += bytes;
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

/* ---- devices --------------------------------------------------------------------------------- */

typedef int (*DeviceOpen)(Backend **out, const Log *log, Err *err);
int weft_sim_open(Backend **out, const Log *log, Err *err); /* common/ops/cuda/device.cu, compiled for the simulator */
int sim_environment(Err *err);                              /* ERR_USAGE when a WEFT_SIM_* variable is none it knows */

#define CUDA_OBJECT "libweft-cuda.so"

/* The object stays loaded until the program ends: the runtime inside keeps threads. */
static int cuda_open(Backend **out, const Log *log, Err *err)
{
    char why[512] = "";
    int found;
    void *object = plugin_open(CUDA_OBJECT, &found, why, sizeof why);
    if (!object)
        return found ? err_set(err, ERR_UNSUPPORTED, "device 'cuda': %s", why)
                     : err_set(err, ERR_UNSUPPORTED,
                               "device 'cuda': %s was not found beside the program, in ../lib/weft or by the system's "
                               "loader (%s); 'make cuda' builds it",
                               CUDA_OBJECT, why);
    DeviceOpen open_it = NULL;
    *(void **)&open_it = dlsym(object, "weft_cuda_open");
    if (!open_it)
        return err_set(err, ERR_UNSUPPORTED, "device 'cuda': %s has no weft_cuda_open", CUDA_OBJECT);
    return open_it(out, log, err);
}

/* ---- open, close ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*table)(OpsTable *);
} host_kinds[] = {
    {"ref", ops_ref_table},
    {"cpu", ops_cpu_table},
    {"plan", ops_plan_table},
};

int backend_open(Backend **out, const char *name, int64_t threads, const Log *log, Err *err)
{
    *out = NULL;
    if (strcmp(name, "cuda") == 0)
        return cuda_open(out, log, err);
    if (strcmp(name, "sim") == 0) {
        int rc = machine_check_address_space(threads_choose(threads), err);
        if (rc == 0)
            rc = sim_environment(err);
        return rc < 0 ? rc : weft_sim_open(out, log, err);
    }
    if (strcmp(name, "auto") == 0) {
        Err why = {0};
        if (cuda_open(out, log, &why) == 0)
            return 0;
        log_info(log, "device: cpu (%s)", why.msg);
        name = "cpu";
    }
    size_t kind = 0, n_kinds = sizeof host_kinds / sizeof host_kinds[0];
    while (kind < n_kinds && strcmp(name, host_kinds[kind].name) != 0)
        kind++;
    if (kind == n_kinds)
        return err_set(err, ERR_USAGE, "device '%s': expected auto, ref, cpu, cuda or sim", name);
    if (threads < 0)
        return err_set(err, ERR_USAGE, "%" PRId64 " threads: expected 0 (all cores) or more", threads);

    HostBackend *h = mem_calloc(1, (int64_t)sizeof *h, err);
    if (!h)
        return ERR_NOMEM;
    int plan = strcmp(name, "plan") == 0;
    host_kinds[kind].table(&h->table);
    h->be = (Backend){
        .name = host_kinds[kind].name,
        .ops = &h->table,
        .act = DT_F32,
        .host = 1,
        .plan = plan,
        .threads = threads_choose(threads),
        .log = log,
        .alloc = plan ? plan_alloc : host_alloc,
        .release = plan ? plan_release : host_release,
        .upload = plan ? plan_upload : host_copy,
        .download = plan ? plan_download : host_copy,
        .sync = host_sync,
        .close = host_close,
    };
    if (threads == 0 && !plan)
        machine_note(log);
    if (strcmp(name, "cpu") == 0) {
        int rc = machine_check_address_space(h->be.threads, err);
        if (rc == 0)
            rc = ops_cpu_open(&h->be, err);
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

/* ---- conversion on the way ------------------------------------------------------------------- */

enum { CHUNK = 1 << 18 }; /* elements converted at a time: few large copies to a device */

static int check_float(const Tensor *t, Err *err)
{
    char shape[160];
    if (dtype_is_float(t->dtype))
        return 0;
    return err_set(err, ERR_USAGE, "a float tensor is needed, not %s", tensor_describe(t, shape, sizeof shape));
}

static int64_t chunk_of(int64_t count, int64_t first)
{
    return count - first < CHUNK ? count - first : CHUNK;
}

/* BF16 is what devices take, a clip's pixels are 50 million values: the loops that matter. */
static void from_float(const Tensor *t, const float *host)
{
    int64_t n = tensor_count(t);
    uint16_t *half = t->data;
    if (t->dtype != DT_BF16) {
        for (int64_t i = 0; i < n; i++)
            tensor_set(t, i, host[i]);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        half[i] = float_to_bfloat(host[i]);
}

static void to_float(float *host, const Tensor *t)
{
    int64_t n = tensor_count(t);
    const uint16_t *half = t->data;
    if (t->dtype != DT_BF16) {
        for (int64_t i = 0; i < n; i++)
            host[i] = (float)tensor_get(t, i);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        host[i] = bfloat_to_float(half[i]);
}

int backend_put_f32(Backend *be, const Tensor *dst, const float *host, Err *err)
{
    int rc = check_float(dst, err);
    if (rc < 0 || be->plan)
        return rc;
    if (dst->dtype == DT_F32)
        return be->upload(be, dst->data, host, tensor_bytes(dst), err);
    int64_t count = tensor_count(dst), size = dtype_size(dst->dtype);
    void *room = mem_alloc_aligned(chunk_of(count, 0) * size, err);
    if (!room)
        return ERR_NOMEM;
    for (int64_t first = 0; first < count && rc == 0; first += CHUNK) {
        int64_t n = chunk_of(count, first);
        Tensor part = tensor_of(room, dst->dtype, 1, n);
        from_float(&part, host + first);
        rc = be->upload(be, (char *)dst->data + first * size, room, n * size, err);
    }
    mem_free_aligned(room);
    return rc;
}

int backend_get_f32(Backend *be, float *host, const Tensor *src, Err *err)
{
    int rc = check_float(src, err);
    if (rc < 0)
        return rc;
    if (be->plan || src->dtype == DT_F32)
        return be->download(be, host, src->data, tensor_count(src) * (int64_t)sizeof(float), err);
    int64_t count = tensor_count(src), size = dtype_size(src->dtype);
    void *room = mem_alloc_aligned(chunk_of(count, 0) * size, err);
    if (!room)
        return ERR_NOMEM;
    for (int64_t first = 0; first < count && rc == 0; first += CHUNK) {
        int64_t n = chunk_of(count, first);
        Tensor part = tensor_of(room, src->dtype, 1, n);
        rc = be->download(be, room, (const char *)src->data + first * size, n * size, err);
        if (rc == 0)
            to_float(host + first, &part);
    }
    mem_free_aligned(room);
    return rc;
}
