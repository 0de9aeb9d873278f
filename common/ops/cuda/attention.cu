/* Attention: chooses the kernels by head dimension. */
#include "common/ops/cuda/attention.h"

static bool for_tensor_cores(const AttentionArgs *a)
{
    const int64_t most = INT32_MAX / (64 * a->heads) - 256; /* offsets inside a sequence are ints */
    return a->hd == 64 && !a->bias && !a->causal && a->Sq < most && a->Sk < most &&
           aligned16(a->q, a->k, a->v, a->o, a->go, a->gq, a->gk, a->gv);
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

/* Each head of each sequence is a row of the grid. */
static int check_slices(const AttentionArgs *a, Err *err)
{
    const int64_t most = 65535;
    if (a->B <= most / a->heads)
        return 0;
    return err_set(err, ERR_LIMIT,
                   "attention: %" PRId64 " sequences of %" PRId64 " heads, a device takes at most %" PRId64
                   " heads in one call; a smaller "
                   "batch is needed",
                   a->B, a->heads, most);
}

static int attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v,
                     const AttnParams *p, Err *err)
{
    AttentionArgs a = arguments(q, k, v, p);
    a.o = (bf16 *)o->data;
    a.lse = lse ? (float *)lse->data : nullptr;
    Device *d = device_of(be);
    DEVICE_TRY(check_slices(&a, err));
    if (!for_tensor_cores(&a))
        return attention_plain(d, &a, err);
    return d->capability == 90 ? attention_90(d, &a, err) : attention_64(d, &a, err);
}

static int attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                              const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                              const AttnParams *p, Err *err)
{
    Device *d = device_of(be);
    AttentionArgs a = arguments(q, k, v, p);
    a.o = (bf16 *)o->data, a.go = (const bf16 *)go->data, a.lse = (float *)lse->data;
    a.gq = (bf16 *)gq->data, a.gk = (bf16 *)gk->data, a.gv = (bf16 *)gv->data;
    DEVICE_TRY(check_slices(&a, err));
    return for_tensor_cores(&a) ? attention_64_backward(d, &a, err) : attention_plain_backward(d, &a, err);
}

void device_attention_table(OpsTable *t)
{
    t->attention = attention;
    t->attention_backward = attention_backward;
}
