/* Attention: chooses the kernels by head dimension, and computes delta for the backward pass. */
#include "common/ops/cuda/attention.h"

static bool for_tensor_cores(const AttentionArgs *a)
{
    const int64_t most = INT32_MAX / (64 * a->heads) - 256; /* offsets inside a sequence are ints */
    return a->hd == 64 && !a->bias && !a->causal && a->Sq < most && a->Sk < most && aligned16(a->q, a->k, a->v, a->o, a->go, a->gq, a->gk, a->gv);
}

static AttentionArgs arguments(const Tensor *q, const Tensor *k, const Tensor *v, const AttnParams *p)
{
    AttentionArgs a = {};
    a.q = (const bf16 *)q->data, a.k = (const bf16 *)k->data, a.v = (const bf16 *)v->data;
    a.B = q->dim[0], a.heads = p->heads, a.hd = q->dim[2] / p->heads, a.Sq = q->dim[1], a.Sk = k->dim[1];
    a.scale = (float)p->scale;
    a.bias = p->bias ? (const float *)p->bias->data : nullptr;
    a.causal = p->causal;
    return a;
}

static int attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v, const AttnParams *p, Err *err)
{
    AttentionArgs a = arguments(q, k, v, p);
    a.o = (bf16 *)o->data;
    a.lse = lse ? (float *)lse->data : nullptr;
    Device *d = device_of(be);
    if (!for_tensor_cores(&a)) return attention_plain(d, &a, err);
    return d->capability == 90 ? attention_90(d, &a, err) : attention_64(d, &a, err);
}

enum { DELTA_WARPS = 8 };

/* delta[b,h,i] = sum over the head of go*o, fp32: one warp a (row, head). */
__global__ void __launch_bounds__(32 * DELTA_WARPS) delta_rows(float *delta, const bf16 *go, const bf16 *o, int64_t rows, int64_t heads, int64_t hd, int64_t S)
{
    const int64_t r = (int64_t)blockIdx.x * DELTA_WARPS + (threadIdx.x >> 5);
    const int lane = threadIdx.x & 31;
    float sum = 0.0f;
    if (r < rows)
        for (int64_t c = lane; c < hd; c += 32) sum += load(go, r * hd + c) * load(o, r * hd + c);
    sum = warp_sum(sum);
    if (r < rows && lane == 0) {
        const int64_t h = r % heads, i = r / heads % S, b = r / (heads * S);
        delta[(b * heads + h) * S + i] = sum;
    }
}

static int attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go, const Tensor *q, const Tensor *k,
                              const Tensor *v, const Tensor *o, const Tensor *lse, const AttnParams *p, Err *err)
{
    Device *d = device_of(be);
    AttentionArgs a = arguments(q, k, v, p);
    const int64_t rows = a.B * a.Sq * a.heads;
    char *room;
    DEVICE_TRY(device_scratch(d, (size_t)rows * sizeof(float), &room, err));
    a.o = (bf16 *)o->data, a.go = (const bf16 *)go->data, a.lse = (float *)lse->data, a.delta = (float *)room;
    a.gq = (bf16 *)gq->data, a.gk = (bf16 *)gk->data, a.gv = (bf16 *)gv->data;
    LAUNCH((delta_rows), dim3(blocks_for(rows, DELTA_WARPS)), dim3(32 * DELTA_WARPS), 0, d->compute, a.delta, a.go, (const bf16 *)a.o, rows, a.heads, a.hd, a.Sq);
    DEVICE_TRY(device_launched("attention_backward", err));
    return for_tensor_cores(&a) ? attention_64_backward(d, &a, err) : attention_plain_backward(d, &a, err);
}

void device_attention_table(OpsTable *t)
{
    t->attention = attention;
    t->attention_backward = attention_backward;
}
