/* The causal convolution of the VAE, MODEL.md 2: cross-correlation, channels last. */
#include "common/ops/ref/ref.h"

/* Sum over the taps (a, e, f) and input channels of the padded input at frame t, rows i.., columns
 * j.. times the weight of output channel o.  Frame t + a of the sequence prefix ++ x; outside the
 * frame the input is zero. */
static double conv_at(const Tensor *x, const Tensor *prefix, const Tensor *w, const ConvParams *p, int64_t t, int64_t i,
                      int64_t j, int64_t o)
{
    int64_t H = x->dim[1], W = x->dim[2], Ci = x->dim[3], kt = w->dim[1], kh = w->dim[2], kw = w->dim[3];
    double sum = 0;
    for (int64_t a = 0; a < kt; a++) {
        int64_t frame = t + a - (kt - 1); /* < 0: in the prefix */
        const Tensor *from = frame < 0 && prefix ? prefix : x;
        if (frame < 0)
            frame = prefix ? t + a : 0;
        for (int64_t e = 0; e < kh; e++)
            for (int64_t f = 0; f < kw; f++) {
                int64_t row = i * p->stride + e - p->top, column = j * p->stride + f - p->left;
                if (row < 0 || row >= H || column < 0 || column >= W)
                    continue;
                int64_t in = ((frame * H + row) * W + column) * Ci, weight = (((o * kt + a) * kh + e) * kw + f) * Ci;
                for (int64_t c = 0; c < Ci; c++)
                    sum += ref_get(from, in + c) * ref_get(w, weight + c);
            }
    }
    return sum;
}

static int conv_ref(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                    const Tensor *b, const ConvParams *p, Err *err)
{
    (void)be, (void)err;
    int64_t To = y->dim[0], Ho = y->dim[1], Wo = y->dim[2], Co = y->dim[3];
    for (int64_t t = 0; t < To; t++)
        for (int64_t i = 0; i < Ho; i++)
            for (int64_t j = 0; j < Wo; j++)
                for (int64_t o = 0; o < Co; o++) {
                    int64_t at = ((t * Ho + i) * Wo + j) * Co + o;
                    double value = conv_at(x, prefix, w, p, t, i, j, o) + ref_get(b, o);
                    ref_set(y, at, p->add ? ref_get(y, at) + value : value);
                }
    return 0;
}

void ops_ref_conv(OpsTable *out)
{
    out->conv = conv_ref;
}
