#include <stdio.h>
#include "common/ops/rules.h"

int rule_refuse(Err *err, const char *op, const char *rule, const Arg *args)
{
    char list[1024] = "", shape[160];
    size_t at = 0;
    for (const Arg *a = args; a->name && at < sizeof list; a++)
        if (a->t || !a->optional)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s %s", at ? ", " : "", a->name,
                                   a->t ? tensor_describe(a->t, shape, sizeof shape) : "missing");
    return err_set(err, ERR_USAGE, "%s: %s: %s", op, rule, list);
}

const char *rule_broken_arg(const Backend *be, const Arg *args)
{
    for (const Arg *a = args; a->name; a++) {
        if (!a->t && a->optional)
            continue;
        if (!a->t)
            return "a tensor is missing";
        if (a->t->rank < 0 || a->t->rank > TENSOR_RANK_MAX || (unsigned)a->t->dtype >= DT_COUNT)
            return "a tensor's rank or type makes no sense";
        for (int i = 0; i < a->t->rank; i++)
            if (a->t->dim[i] < 1)
                return "every size must be at least 1";
        if (!a->t->data && !be->plan)
            return "a tensor has no memory";
        if ((uintptr_t)a->t->data % (uintptr_t)dtype_size(a->t->dtype))
            return "a tensor's memory is not aligned for its type";
    }
    return NULL;
}

int rule_stopped(const Backend *be, Err *err)
{
    return be->stop && be->stop() ? err_set(err, ERR_INTERRUPTED, "interrupted") : 0;
}

int rule_act(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == be->act;
}

int rule_one_type(const Backend *be, const Tensor *a, const Tensor *b, const Tensor *c)
{
    return (a->dtype == be->act || a->dtype == DT_F32) && (!b || b->dtype == a->dtype) && (!c || c->dtype == a->dtype);
}

int rule_weight(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 ||
           (t->dtype == DT_F64 && be->act == DT_F64);
}

int rule_stat(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == (be->act == DT_F64 ? DT_F64 : DT_F32);
}

int rule_trained(const Backend *be, const Tensor *t)
{
    return rule_stat(be, t) || t->dtype == DT_BF16;
}

int64_t rule_last_dim(const Tensor *t)
{
    return t->rank ? t->dim[t->rank - 1] : 1;
}

int64_t rule_rows(const Tensor *t)
{
    return tensor_count(t) / rule_last_dim(t);
}

int rule_vector(const Tensor *t, int64_t n)
{
    return !t || (t->rank == 1 && t->dim[0] == n);
}

int rule_shape(const Tensor *t, int rank, const int64_t *dim)
{
    Tensor want = tensor_view(NULL, t->dtype, rank, dim);
    return tensor_same_shape(t, &want);
}

int rule_apart(const Backend *be, const Tensor *a, const Tensor *b)
{
    if (be->plan || !a || !b)
        return 1;
    uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    return a0 + (uintptr_t)tensor_bytes(a) <= b0 || b0 + (uintptr_t)tensor_bytes(b) <= a0;
}

int rule_same_or_apart(const Backend *be, const Tensor *a, const Tensor *b)
{
    return rule_apart(be, a, b) || (a->data == b->data && a->dtype == b->dtype && tensor_count(a) == tensor_count(b));
}
