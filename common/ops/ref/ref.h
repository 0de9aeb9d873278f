/* Shared by the files of the ref back end.  They are for people: plain loops in the order of the
 * formula, every sum and every intermediate value in double, rounded once when stored; no threads,
 * no BLAS.
 *
 * B batch, S tokens of a sequence, D width, M rows, T frames, H rows of a frame, W columns, C
 * channels. */
#ifndef WEFT_OPS_REF_REF_H
#define WEFT_OPS_REF_REF_H
#include "common/ops/ops_table.h"

static inline double ref_get(const Tensor *t, int64_t i)
{
    return t->dtype == DT_F32   ? ((const float *)t->data)[i]
           : t->dtype == DT_F64 ? ((const double *)t->data)[i]
                                : tensor_get(t, i);
}

static inline void ref_set(const Tensor *t, int64_t i, double value)
{
    if (t->dtype == DT_F32)
        ((float *)t->data)[i] = (float)value;
    else
        tensor_set(t, i, value);
}

static inline void ref_add_to(const Tensor *t, int64_t i, double value)
{
    ref_set(t, i, ref_get(t, i) + value);
}

double ref_act(ActKind kind, double x);
double ref_act_slope(ActKind kind, double x);

/* Each fills its family's entries. */
void ops_ref_elementwise(OpsTable *out);
void ops_ref_move(OpsTable *out);
void ops_ref_linear(OpsTable *out);
void ops_ref_attention(OpsTable *out);
void ops_ref_norm(OpsTable *out);
void ops_ref_conv(OpsTable *out);
void ops_ref_train(OpsTable *out);
#endif
