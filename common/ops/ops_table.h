/* The table a back end fills: one entry for each op of ops.h, same contract, arguments already
 * checked.
 * ops_ref_table() fills every entry; the cpu table starts from it and overwrites what it does
 * better.  An entry a device back end lacks returns ERR_UNSUPPORTED with the op's name, never a
 * detour through the host. */
#ifndef WEFT_COMMON_OPS_OPS_TABLE_H
#define WEFT_COMMON_OPS_OPS_TABLE_H
#include "common/ops/ops.h"

typedef struct OpsTable {
    int (*fill)(Backend *, const Tensor *y, float value, Err *);
    int (*copy)(Backend *, const Tensor *y, const Tensor *x, Err *);
    int (*add)(Backend *, const Tensor *y, const Tensor *a, const Tensor *b, Err *);
    int (*lincomb)(Backend *, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *);
    int (*act)(Backend *, const Tensor *y, const Tensor *x, ActKind, Err *);
    int (*act_backward)(Backend *, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind, Err *);
    int (*act_gate)(Backend *, const Tensor *y, const Tensor *a, const Tensor *b, ActKind, Err *);
    int (*embed)(Backend *, const Tensor *y, const Tensor *table, const Tensor *ids, Err *);
    int (*copy_rows)(Backend *, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *);
    int (*add_rows)(Backend *, const Tensor *x, int64_t first, const Tensor *table, Err *);
    int (*patchify)(Backend *, const Tensor *tokens, const Tensor *latents, int64_t p, Err *);
    int (*unpatchify)(Backend *, const Tensor *latents, const Tensor *tokens, int64_t p, Err *);
    int (*copy_box)(Backend *, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                    const int64_t n[4], Err *);
    int (*blend)(Backend *, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *);
    int (*linear)(Backend *, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *);
    int (*linear_backward_x)(Backend *, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *);
    int (*linear_backward_w)(Backend *, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x, Err *);
    int (*attention)(Backend *, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v,
                     const AttnParams *, Err *);
    int (*attention_backward)(Backend *, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                              const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                              const AttnParams *, Err *);
    int (*layernorm)(Backend *, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                     const Modulation *, Err *);
    int (*layernorm_backward)(Backend *, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                              const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                              const Modulation *, int add, Err *);
    int (*gate_add)(Backend *, const Tensor *x, const Tensor *y, const Modulation *, Err *);
    int (*gate_add_backward)(Backend *, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                             const Modulation *, Err *);
    int (*rmsnorm)(Backend *, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *);
    int (*groupnorm)(Backend *, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, int64_t groups,
                     double eps, const SpatialCond *, ActKind, Err *);
    int (*conv)(Backend *, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w, const Tensor *b,
                const ConvParams *, Err *);
    int (*upsample)(Backend *, const Tensor *y, const Tensor *x, int double_time, Err *);
    int (*pool_time)(Backend *, const Tensor *y, const Tensor *x, Err *);
    int (*pool)(Backend *, const Tensor *y, const Tensor *x, const PoolParams *, Err *);
    int (*posterior)(Backend *, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *);
    int (*diffuse)(Backend *, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a,
                   const double *s, Err *);
    int (*mse)(Backend *, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *);
    int (*sum_squares)(Backend *, double *sum, const Tensor *g, Err *);
    int (*adamw)(Backend *, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const Tensor *v,
                 const AdamParams *, Err *);
    int (*sgd)(Backend *, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const SgdParams *,
               Err *);
    int (*quantize)(Backend *, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *);
    int (*dequantize)(Backend *, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed, Err *);
} OpsTable;

void ops_ref_table(OpsTable *out);
void ops_cpu_table(OpsTable *out);                       /* = ref, then its own entries */
WEFT_MUST_CHECK int ops_cpu_open(Backend *be, Err *err); /* be->impl: the cpu back end's scratch memory */
void ops_cpu_close(Backend *be);
void ops_plan_table(OpsTable *out); /* every entry returns 0 and sets host outputs to 0 */
#endif
