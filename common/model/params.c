#include "common/model/params.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/ops/ops.h"

enum { VALUES, GRADS, COPIES }; /* of ParamSet.owned */
/* elements: every tensor of a flat arena starts on a 64-byte boundary, of a BF16 one on a 32-byte
 * one */
#define FLAT_STEP 16
#define CHUNK ((int64_t)1 << 20) /* elements converted at a time */
#define LISTED_MAX 480           /* characters of names listed of each kind in one message */

/* ---- the table ------------------------------------------------------------------------------- */

static int64_t param_elements(const Param *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->rank; i++)
        n *= p->dim[i];
    return n;
}

static Tensor file_tensor(const Param *p, DType dtype, void *data)
{
    return tensor_view(data, dtype, p->rank, p->dim);
}

/* The tensor on the back end: convolutions [Co,Ci,(kt,)kh,kw] become [Co,kt,kh,kw,Ci]. */
static Tensor stored_tensor(const Param *p, DType dtype, void *data)
{
    if (!p->conv)
        return file_tensor(p, dtype, data);
    const int64_t *k = p->dim + p->rank - 2;
    return tensor_of(data, dtype, 5, p->dim[0], p->rank == 5 ? p->dim[2] : 1, k[0], k[1], p->dim[1]);
}

int params_add(ParamSet *ps, int conv, const char *name, int rank, const int64_t *dim, Err *err)
{
    if (rank < 0 || rank > 5 || (conv && rank < 4))
        return err_set(err, ERR_USAGE, "parameter '%s': rank %d is not possible", name, rank);
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        if (dim[i] < 1 || mem_mul(count, dim[i], &count) < 0 || count > INT64_MAX / 64)
            return err_set(err, ERR_LIMIT, "parameter '%s': extent %lld on axis %d is not possible", name,
                           (long long)dim[i], i);
    if ((ps->n & (ps->n - 1)) == 0) { /* room for the next power of two */
        Param *grown = mem_realloc(ps->param, ps->n ? 2 * ps->n : 1, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        ps->param = grown;
    }
    Param p = {.rank = rank, .conv = conv, .name = mem_strdup(name, err)};
    if (!p.name)
        return ERR_NOMEM;
    for (int i = 0; i < rank; i++)
        p.dim[i] = dim[i];
    p.value = p.grad = stored_tensor(&p, DT_F32, NULL);
    ps->param[ps->n++] = p;
    return 0;
}

int params_addf(ParamSet *ps, int conv, int rank, const int64_t *dim, Err *err, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= (int)sizeof name)
        return err_set(err, ERR_LIMIT, "parameter name '%s...' is too long", name);
    return params_add(ps, conv, name, rank, dim, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Param *)a)->name, ((const Param *)b)->name);
}

int params_finish(ParamSet *ps, Err *err)
{
    if (ps->n)
        qsort(ps->param, (size_t)ps->n, sizeof *ps->param, by_name);
    ps->flat = 0;
    for (int64_t i = 0; i < ps->n; i++) {
        if (i && !strcmp(ps->param[i].name, ps->param[i - 1].name))
            return err_set(err, ERR_USAGE, "parameter '%s' is listed twice", ps->param[i].name);
        int64_t padded = (param_elements(&ps->param[i]) + FLAT_STEP - 1) / FLAT_STEP * FLAT_STEP;
        if (mem_add(ps->flat, padded, &ps->flat) < 0 || ps->flat > INT64_MAX / 8)
            return err_set(err, ERR_LIMIT, "the model's parameters do not fit 64-bit sizes");
    }
    return 0;
}

Param *params_find(const ParamSet *ps, const char *name)
{
    Param key = {.name = (char *)name};
    return ps->n ? bsearch(&key, ps->param, (size_t)ps->n, sizeof key, by_name) : NULL;
}

int64_t params_count(const ParamSet *ps)
{
    int64_t n = 0;
    for (int64_t i = 0; i < ps->n; i++)
        n += param_elements(&ps->param[i]);
    return n;
}

int64_t params_bytes(const ParamSet *ps, DType dtype)
{
    return params_count(ps) * dtype_size(dtype);
}

void params_fini(ParamSet *ps)
{
    for (int64_t i = 0; i < ps->n; i++)
        mem_free(ps->param[i].name);
    mem_free(ps->param);
    for (int i = 0; i < 4; i++)
        if (ps->owned[i])
            ps->be->release(ps->be, ps->owned[i]);
    safetensors_close(&ps->file);
    memset(ps, 0, sizeof *ps);
}

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
    Tensor to = stored_tensor(p, dtype, dst);
    to.dim[0] = n / row_elements(p);
    Tensor from = tensor_of((void *)src, dtype, 5, to.dim[0], to.dim[4], to.dim[1], to.dim[2], to.dim[3]);
    op_conv_pack(&to, &from);
}

/* The inverse is the same transposition with the kernel's taps in the channels' place. */
static void unpack(void *dst, const void *src, const Param *p, DType dtype, int64_t n)
{
    Tensor s = stored_tensor(p, dtype, NULL);
    int64_t taps = s.dim[1] * s.dim[2] * s.dim[3], rows = n / row_elements(p);
    Tensor to = tensor_of(dst, dtype, 5, rows, 1, 1, s.dim[4], taps);
    Tensor from = tensor_of((void *)src, dtype, 5, rows, taps, 1, 1, s.dim[4]);
    op_conv_pack(&to, &from);
}

/* Two host buffers for the elements moved at a time, in the largest type. */
typedef struct Staging {
    void *a, *b;
} Staging;

static int staging_init(Staging *s, const Param *p, int64_t n, Err *err)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n; i++)
        if (step_of(&p[i]) > most)
            most = step_of(&p[i]);
    s->a = mem_alloc_aligned(most * 4, err);
    s->b = mem_alloc_aligned(most * 4, err);
    return s->a && s->b ? 0 : ERR_NOMEM;
}

static void staging_fini(Staging *s)
{
    mem_free_aligned(s->a);
    mem_free_aligned(s->b);
}

static int64_t largest(const ParamSet *ps)
{
    int64_t most = 1;
    for (int64_t i = 0; i < ps->n; i++)
        if (param_elements(&ps->param[i]) > most)
            most = param_elements(&ps->param[i]);
    return most;
}

/* to, one of p's tensors on the back end <- src in file order. */
static int put(Backend *be, const Param *p, const Tensor *to, const void *src, DType from, Staging *st, Err *err)
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
        rc = put(ps->be, p, exact(p), host, DT_F32, &st, err);
    if (!rc && p->value.data != exact(p)->data)
        rc = put(ps->be, p, &p->value, host, DT_F32, &st, err);
    staging_fini(&st);
    return rc;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Names of one kind for the message: as many as fit, and the count of all. */
typedef struct Names {
    Str text;
    int64_t n;
} Names;

static int names_add(Names *list, Err *err, const char *fmt, const char *name, const char *found, const char *expected)
{
    list->n++;
    if (list->text.len > LISTED_MAX)
        return 0;
    int rc = list->n > 1 ? str_append(&list->text, ", ", err) : 0;
    return rc ? rc : str_printf(&list->text, err, fmt, name, found, expected);
}

static int names_say(const Names *list, const char *kind, Str *out, Err *err)
{
    int cut = list->text.len > LISTED_MAX;
    return list->n
               ? str_printf(out, err, "; %s %lld: %s%s", kind, (long long)list->n, list->text.data, cut ? ", ..." : "")
               : 0;
}

static int is_alias(const ParamSet *ps, const char *name)
{
    for (int64_t i = 0; i < ps->n; i++)
        if (ps->param[i].alias && !strcmp(ps->param[i].alias, name))
            return 1;
    return 0;
}

static const SafeEntry *entry_of(const Param *p, const SafeTensors *file)
{
    const SafeEntry *e = safetensors_find(file, p->name);
    return e || !p->alias ? e : safetensors_find(file, p->alias);
}

/* Compares the file's names, shapes and types with the table; everything that is wrong goes into
 * one message. */
static int check_names(const ParamSet *ps, const SafeTensors *file, const char *what, Err *err)
{
    Names missing = {0}, misshapen = {0}, unexpected = {0};
    Str say = {0};
    char found[160], expected[160];
    int rc = 0;
    for (int64_t i = 0; i < ps->n && !rc; i++) {
        const Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, file);
        if (!e) {
            rc = names_add(&missing, err, "%s", p->name, NULL, NULL);
            continue;
        }
        DType t = e->tensor.dtype;
        Tensor want = file_tensor(p, t == DT_F16 || t == DT_BF16 ? t : DT_F32, NULL);
        if (t != want.dtype || !tensor_same_shape(&e->tensor, &want))
            rc = names_add(&misshapen, err, "%s is %s, expected %s", p->name,
                           tensor_describe(&e->tensor, found, sizeof found),
                           tensor_describe(&want, expected, sizeof expected));
    }
    for (int64_t i = 0; i < safetensors_count(file) && !rc; i++) {
        const char *name = safetensors_at(file, i)->name;
        if (!params_find(ps, name) && !is_alias(ps, name) && !(ps->ignore && ps->ignore(name)))
            rc = names_add(&unexpected, err, "%s", name, NULL, NULL);
    }
    if (!rc && (missing.n || misshapen.n || unexpected.n)) {
        if ((rc = names_say(&missing, "missing", &say, err)) || (rc = names_say(&misshapen, "misshapen", &say, err)) ||
            (rc = names_say(&unexpected, "unexpected", &say, err)))
            goto fail;
        rc = err_set(err, ERR_FORMAT, "%s: tensors do not fit the model's config (%lld expected, %lld found)%s", what,
                     (long long)ps->n, (long long)safetensors_count(file), say.data);
    }
fail:
    str_fini(&say);
    str_fini(&missing.text);
    str_fini(&misshapen.text);
    str_fini(&unexpected.text);
    return rc;
}

/* The type in which a value is kept that comes as `from`. */
static DType kept_type(const Backend *be, const Param *p, DType from)
{
    if (be->act != DT_BF16)
        return from;
    return p->rank >= 2 ? DT_BF16 : DT_F32;
}

static int is_mappable(const Backend *be, const Param *p, const SafeEntry *e)
{
    DType t = e->tensor.dtype;
    return be->host && !p->conv && kept_type(be, p, t) == t &&
           (uintptr_t)e->tensor.data % (uintptr_t)dtype_size(t) == 0;
}

static int64_t round_64(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

int params_load_mapped(ParamSet *ps, Backend *be, SafeTensors **file, const char *what, Err *err)
{
    Staging st = {0};
    ps->be = be;
    int rc = check_names(ps, *file, what, err);
    if (rc)
        return rc;
    int64_t bytes = 0;
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, *file);
        p->value = is_mappable(be, p, e) ? e->tensor : stored_tensor(p, kept_type(be, p, e->tensor.dtype), NULL);
        bytes += p->value.data ? 0 : round_64(tensor_bytes(&p->value));
    }
    if ((rc = staging_init(&st, ps->param, ps->n, err)))
        goto fail;
    if (bytes && (rc = be->alloc(be, bytes, &ps->owned[VALUES], err))) {
        err_wrap(err, rc, "%s: memory for %lld bytes of weights", what, (long long)bytes);
        goto fail;
    }
    char *at = ps->owned[VALUES];
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, *file);
        if (p->value.data)
            continue;
        p->value.data = at;
        at += round_64(tensor_bytes(&p->value));
        if ((rc = put(be, p, &p->value, e->tensor.data, e->tensor.dtype, &st, err)))
            goto fail;
    }
    if (be->host)
        ps->file = *file;
    else
        safetensors_close(file);
    *file = NULL;
fail:
    staging_fini(&st);
    return rc;
}

/* A flat arena of zeros of that type, and every parameter's tensor in it. */
static int flat_arena(ParamSet *ps, int which, DType dtype, const char *what, Err *err)
{
    Backend *be = ps->be;
    int64_t size = dtype_size(dtype);
    int rc = be->alloc(be, ps->flat * size, &ps->owned[which], err);
    if (rc)
        return err_wrap(err, rc, "%s of %lld parameters (%lld bytes)", what, (long long)params_count(ps),
                        (long long)(ps->flat * size));
    Tensor all = tensor_of(ps->owned[which], dtype, 1, ps->flat);
    char *at = ps->owned[which];
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        Tensor t = stored_tensor(p, dtype, at);
        if (which == GRADS)
            p->grad = t;
        if (which == VALUES)
            p->master = t;
        if (which == VALUES || (which == COPIES && kept_type(be, p, DT_F32) == dtype))
            p->value = t;
        at += (param_elements(p) + FLAT_STEP - 1) / FLAT_STEP * FLAT_STEP * size;
    }
    return ps->flat ? op_fill(be, &all, 0, err) : 0;
}

static int flat_values(ParamSet *ps, Backend *be, Err *err)
{
    ps->be = be;
    int rc = flat_arena(ps, VALUES, ps->values, "values", err);
    if (!rc && be->act == DT_BF16 && ps->values != DT_BF16)
        rc = flat_arena(ps, COPIES, DT_BF16, "16-bit copies", err);
    ps->is_flat = !rc;
    return rc;
}

int params_refresh(ParamSet *ps, Err *err)
{
    Tensor masters = params_flat_values(ps), copies = params_flat_copies(ps);
    return copies.data && ps->flat ? op_copy(ps->be, &copies, &masters, err) : 0;
}

int params_load_flat(ParamSet *ps, Backend *be, const SafeTensors *file, const char *what, Err *err)
{
    Staging st = {0};
    int rc = check_names(ps, file, what, err);
    if (rc || (rc = flat_values(ps, be, err)) || (rc = staging_init(&st, ps->param, ps->n, err)))
        goto fail;
    for (int64_t i = 0; i < ps->n; i++) {
        const SafeEntry *e = entry_of(&ps->param[i], file);
        if ((rc = put(be, &ps->param[i], &ps->param[i].master, e->tensor.data, e->tensor.dtype, &st, err)))
            goto fail;
    }
    rc = params_refresh(ps, err);
fail:
    staging_fini(&st);
    return rc;
}

int params_plan(ParamSet *ps, Backend *be, Err *err)
{
    ps->be = be;
    int rc = be->alloc(be, 64, &ps->owned[VALUES], err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < ps->n; i++) { /* the plan back end never looks: one address does for all */
        Param *p = &ps->param[i];
        p->value = stored_tensor(p, ps->values == DT_BF16 ? DT_BF16 : kept_type(be, p, DT_F32), ps->owned[VALUES]);
    }
    return 0;
}

int params_alloc_grads(ParamSet *ps, Err *err)
{
    return flat_arena(ps, GRADS, ps->grads, "gradients", err);
}

Tensor params_flat_values(const ParamSet *ps)
{
    return tensor_of(ps->is_flat ? ps->owned[VALUES] : NULL, ps->values, 1, ps->flat);
}

Tensor params_flat_copies(const ParamSet *ps)
{
    return tensor_of(ps->owned[COPIES], DT_BF16, 1, ps->flat);
}

Tensor params_flat_grads(const ParamSet *ps)
{
    return tensor_of(ps->owned[GRADS], ps->grads, 1, ps->flat);
}

/* ---- the deterministic filler (cogvideox.md 9) ----------------------------------------------- */

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
    float *host = mem_alloc_aligned(largest(ps) * 4, err);
    int rc = host ? flat_values(ps, be, err) : ERR_NOMEM;
    if (!rc)
        rc = staging_init(&st, ps->param, ps->n, err);
    for (int64_t i = 0; i < ps->n && !rc; i++) {
        fill_one(host, &ps->param[i], (uint32_t)i);
        rc = put(be, &ps->param[i], &ps->param[i].master, host, DT_F32, &st, err);
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
    if (!meta || !source || !(s.room = mem_alloc_aligned(largest(ps) * dtype_size(dtype), err)) ||
        staging_init(&s.st, ps->param, ps->n, err))
        goto fail;
    for (int64_t i = 0; i < ps->n; i++)
        source[i] = (SafeSource){ps->param[i].name, file_tensor(&ps->param[i], dtype, NULL)};
    rc = safetensors_write_from(path, source, ps->n, meta, fetch, &s, err);
fail:
    staging_fini(&s.st);
    mem_free_aligned(s.room);
    mem_free(source);
    json_decref(meta);
    return rc;
}
