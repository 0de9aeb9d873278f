/* The table of a model's parameters, and the flat arenas that training works on. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/params_internal.h"
#include "common/ops/ops.h"

/* Elements: every tensor of an F32 arena starts on a 64-byte boundary, of a BF16 arena on a 32-byte
 * boundary. */
#define FLAT_STEP 16

/* ---- the table ------------------------------------------------------------------------------- */

int64_t param_elements(const Param *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->rank; i++)
        n *= p->dim[i];
    return n;
}

Tensor param_file_tensor(const Param *p, DType dtype, void *data)
{
    return tensor_view(data, dtype, p->rank, p->dim);
}

Tensor param_stored_tensor(const Param *p, DType dtype, void *data)
{
    if (!p->conv)
        return param_file_tensor(p, dtype, data);
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
            return err_set(err, ERR_LIMIT, "parameter '%s': extent %" PRId64 " on axis %d is not possible", name,
                           dim[i], i);
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
    p.value = p.grad = param_stored_tensor(&p, DT_F32, NULL);
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
        ps->param[i].start = ps->flat;
        if (mem_add(ps->flat, padded, &ps->flat) < 0 || ps->flat > INT64_MAX / 8)
            return err_set(err, ERR_LIMIT, "the model's parameters do not fit 64-bit sizes");
    }
    return 0;
}

int64_t params_largest(const ParamSet *ps)
{
    int64_t most = 1;
    for (int64_t i = 0; i < ps->n; i++)
        if (param_elements(&ps->param[i]) > most)
            most = param_elements(&ps->param[i]);
    return most;
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

void params_forget(const ParamSet *ps, const Param *p)
{
    const SafeEntry *e = ps->file ? safetensors_find(ps->file, p->name) : NULL;
    if (ps->file && !e && p->alias)
        e = safetensors_find(ps->file, p->alias);
    if (e && e->tensor.data == p->value.data)
        safetensors_forget(ps->file, e);
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

/* ---- flat arenas ----------------------------------------------------------------------------- */

DType param_kept_type(const Backend *be, const Param *p, DType from)
{
    if (be->act != DT_BF16)
        return from;
    return p->rank >= 2 ? DT_BF16 : DT_F32;
}

/* A flat arena of zeros of that type, and every parameter's tensor in it. */
static int flat_arena(ParamSet *ps, int which, DType dtype, const char *what, Err *err)
{
    Backend *be = ps->be;
    int64_t size = dtype_size(dtype);
    int rc = be->alloc(be, ps->flat * size, &ps->owned[which], err);
    if (rc)
        return err_wrap(err, rc, "%s of %" PRId64 " parameters (%" PRId64 " bytes)", what, params_count(ps),
                        (ps->flat * size));
    Tensor all = tensor_of(ps->owned[which], dtype, 1, ps->flat);
    char *at = ps->owned[which];
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        Tensor t = param_stored_tensor(p, dtype, at);
        if (which == GRADS)
            p->grad = t;
        if (which == VALUES)
            p->master = t;
        if (which == VALUES || (which == COPIES && param_kept_type(be, p, DT_F32) == dtype))
            p->value = t;
        at += (param_elements(p) + FLAT_STEP - 1) / FLAT_STEP * FLAT_STEP * size;
    }
    return ps->flat ? op_fill(be, &all, 0, err) : 0;
}

int params_new_flat(ParamSet *ps, Backend *be, Err *err)
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

int params_plan(ParamSet *ps, Backend *be, Err *err)
{
    ps->be = be;
    int rc = be->alloc(be, 64, &ps->owned[VALUES], err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < ps->n; i++) { /* the plan back end never looks: one address does for all */
        Param *p = &ps->param[i];
        p->value = param_stored_tensor(p, ps->values == DT_BF16 ? DT_BF16 : param_kept_type(be, p, DT_F32),
                                       ps->owned[VALUES]);
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
