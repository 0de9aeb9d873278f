/* Values between files, host memory and the back end: element types and kernel order are converted
 * here, a piece at a time; saving; and the deterministic filler. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/params_internal.h"
#include "common/ops/ops.h"

#define CHUNK ((int64_t)1 << 20) /* elements converted at a time */

/* ---- element conversion and kernel order, in host memory ------------------------------------- */

static float load_float(const unsigned char *src, DType dtype, int64_t i)
{
    uint16_t h;
    float f;
    if (dtype == DT_F32)
        return memcpy(&f, src + 4 * i, 4), f;
    memcpy(&h, src + 2 * i, 2);
    return dtype == DT_F16 ? half_to_float(h) : bfloat_to_float(h);
}

/* n elements of F32, F16 or BF16 to another of these; src may be unaligned. */
static void convert(void *dst, DType to, const void *src, DType from, int64_t n)
{
    if (to == from) {
        memcpy(dst, src, (size_t)(n * dtype_size(to)));
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float f = load_float(src, from, i);
        if (to == DT_F32)
            ((float *)dst)[i] = f;
        else
            ((uint16_t *)dst)[i] = to == DT_F16 ? float_to_half(f) : float_to_bfloat(f);
    }
}

/* Elements of one output channel: of a kernel, the least that can be repacked. */
static int64_t row_elements(const Param *p)
{
    return p->conv ? param_elements(p) / p->dim[0] : 1;
}

/* Elements moved at a time. */
static int64_t step_of(const Param *p)
{
    int64_t n = param_elements(p), row = row_elements(p), step = row > CHUNK ? row : CHUNK / row * row;
    return n < step ? n : step;
}

/* n elements, whole output channels: [Co,Ci,taps] to [Co,taps,Ci]. */
static void pack(void *dst, const void *src, const Param *p, DType dtype, int64_t n)
{
    Tensor to = param_stored_tensor(p, dtype, dst);
    to.dim[0] = n / row_elements(p);
    Tensor from = tensor_of((void *)src, dtype, 5, to.dim[0], to.dim[4], to.dim[1], to.dim[2], to.dim[3]);
    op_conv_pack(&to, &from);
}

/* The inverse is the same transposition with the kernel's taps in the channels' place. */
static void unpack(void *dst, const void *src, const Param *p, DType dtype, int64_t n)
{
    Tensor s = param_stored_tensor(p, dtype, NULL);
    int64_t taps = s.dim[1] * s.dim[2] * s.dim[3], rows = n / row_elements(p);
    Tensor to = tensor_of(dst, dtype, 5, rows, 1, 1, s.dim[4], taps);
    Tensor from = tensor_of((void *)src, dtype, 5, rows, taps, 1, 1, s.dim[4]);
    op_conv_pack(&to, &from);
}

int staging_init(Staging *s, const Param *p, int64_t n, Err *err)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n; i++)
        if (step_of(&p[i]) > most)
            most = step_of(&p[i]);
    s->a = mem_alloc_aligned(most * 4, err);
    s->b = mem_alloc_aligned(most * 4, err);
    return s->a && s->b ? 0 : ERR_NOMEM;
}

void staging_fini(Staging *s)
{
    mem_free_aligned(s->a);
    mem_free_aligned(s->b);
}

int param_put(Backend *be, const Param *p, const Tensor *to, const void *src, DType from, Staging *st, Err *err)
{
    int64_t count = param_elements(p), step = step_of(p);
    int rc = 0;
    for (int64_t first = 0; first < count && !rc; first += step) {
        int64_t n = count - first < step ? count - first : step;
        const void *host = (const char *)src + first * dtype_size(from);
        if (from != to->dtype || (p->conv && (uintptr_t)host % (uintptr_t)dtype_size(from))) {
            convert(st->a, to->dtype, host, from, n);
            host = st->a;
        }
        if (p->conv) {
            pack(st->b, host, p, to->dtype, n);
            host = st->b;
        }
        rc = be->upload(be, (char *)to->data + first * dtype_size(to->dtype), host, n * dtype_size(to->dtype), err);
    }
    return rc;
}

/* The exact values, where operations read a copy. */
static const Tensor *exact(const Param *p)
{
    return p->master.data ? &p->master : &p->value;
}

/* dst in host memory, of type `to`, in file order <- p. */
static int get(Backend *be, const Param *p, void *dst, DType to, Staging *st, Err *err)
{
    const Tensor *from = exact(p);
    int64_t count = param_elements(p), step = step_of(p), size = dtype_size(from->dtype);
    for (int64_t first = 0; first < count; first += step) {
        int64_t n = count - first < step ? count - first : step;
        int rc = be->download(be, st->a, (const char *)from->data + first * size, n * size, err);
        if (rc)
            return rc;
        if (p->conv)
            unpack(st->b, st->a, p, from->dtype, n);
        convert((char *)dst + first * dtype_size(to), to, p->conv ? st->b : st->a, from->dtype, n);
    }
    return 0;
}

int params_get(const ParamSet *ps, const Param *p, float *host, Err *err)
{
    Staging st = {0};
    int rc = staging_init(&st, p, 1, err);
    if (!rc)
        rc = get(ps->be, p, host, DT_F32, &st, err);
    staging_fini(&st);
    return rc;
}

int params_put(ParamSet *ps, const Param *p, const float *host, Err *err)
{
    if (ps->file && !p->conv)
        return err_set(err, ERR_USAGE, "parameter '%s' lies in a read-only file", p->name);
    Staging st = {0};
    int rc = staging_init(&st, p, 1, err);
    if (!rc)
        rc = param_put(ps->be, p, exact(p), host, DT_F32, &st, err);
    if (!rc && p->value.data != exact(p)->data)
        rc = param_put(ps->be, p, &p->value, host, DT_F32, &st, err);
    staging_fini(&st);
    return rc;
}

/* ---- the deterministic filler (MODEL.md 1.4) ----------------------------------------------- */

double filler_u(uint32_t S, uint32_t i)
{
    uint32_t x = (i + 1u) * 0x9E3779B1u + S * 0x85EBCA77u;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    return x / 4294967296.0 - 0.5;
}

void filler_input(uint32_t S, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(filler_u(S, (uint32_t)i) * sqrt(12.0));
}

/* Matrices and kernels: variance 1/fan_in; biases about 0, all else (norm weights) about 1. */
static void fill_one(float *out, const Param *p, uint32_t S)
{
    int64_t n = param_elements(p);
    double scale = 0.2, base = str_ends_with(p->name, ".bias") ? 0 : 1;
    if (p->rank >= 2) {
        scale = sqrt(12.0 / (double)(n / p->dim[0]));
        base = 0;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(base + scale * filler_u(S, (uint32_t)i));
}

int params_fill(ParamSet *ps, Backend *be, Err *err)
{
    Staging st = {0};
    float *host = mem_alloc_aligned(params_largest(ps) * 4, err);
    int rc = host ? params_new_flat(ps, be, err) : ERR_NOMEM;
    if (!rc)
        rc = staging_init(&st, ps->param, ps->n, err);
    for (int64_t i = 0; i < ps->n && !rc; i++) {
        fill_one(host, &ps->param[i], (uint32_t)i);
        rc = param_put(be, &ps->param[i], &ps->param[i].master, host, DT_F32, &st, err);
    }
    if (!rc)
        rc = params_refresh(ps, err);
    staging_fini(&st);
    mem_free_aligned(host);
    return rc;
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* One tensor at a time is brought to the host. */
typedef struct Saving {
    const ParamSet *ps;
    DType dtype;
    void *room;
    Staging st;
} Saving;

static int fetch(void *user, int64_t i, const void **data, Err *err)
{
    Saving *s = user;
    const Param *p = &s->ps->param[i];
    if (s->ps->be->host && !p->conv && exact(p)->dtype == s->dtype) {
        *data = exact(p)->data;
        return 0;
    }
    *data = s->room;
    return get(s->ps->be, p, s->room, s->dtype, &s->st, err);
}

int params_save(const ParamSet *ps, const char *path, DType dtype, Err *err)
{
    Saving s = {.ps = ps, .dtype = dtype};
    int rc = ERR_NOMEM;
    json_t *meta = json_pack("{ss}", "format", "pt");
    SafeSource *source = mem_calloc(ps->n, sizeof *source, err);
    if (!meta)
        err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    if (!meta || !source || !(s.room = mem_alloc_aligned(params_largest(ps) * dtype_size(dtype), err)) ||
        staging_init(&s.st, ps->param, ps->n, err))
        goto fail;
    for (int64_t i = 0; i < ps->n; i++)
        source[i] = (SafeSource){ps->param[i].name, param_file_tensor(&ps->param[i], dtype, NULL)};
    rc = safetensors_write_from(path, source, ps->n, meta, fetch, &s, err);
fail:
    staging_fini(&s.st);
    mem_free_aligned(s.room);
    mem_free(source);
    json_decref(meta);
    return rc;
}
