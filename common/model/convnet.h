/* What the convolutional networks of the metrics share (inception.h, i3d.h): units of a convolution, a
 * batch norm and a ReLU, whose weights come from a file of safetensors or PyTorch.
 *
 * A network is one function over these calls.  It runs twice: once over shapes alone, which lists the
 * parameters, then with numbers.  At loading, batch norm is folded into the convolution, in double:
 * w' = w g, b' = beta - mean g, g = gamma / sqrt(var + eps). */
#ifndef WEFT_COMMON_MODEL_CONVNET_H
#define WEFT_COMMON_MODEL_CONVNET_H
#include "common/model/params.h"
#include "common/ops/arena.h"
#include "common/ops/ops.h"

typedef struct ConvNet {
    Backend *be;
    const char *conv; /* the convolution's name in a unit: "conv", "conv3d" */
    const char *norm; /* the batch norm's: "bn", "batch3d" */
    double eps;       /* of the batch norms */
    ParamSet file;    /* as the file has them */
    ParamSet used;    /* UNIT.weight and UNIT.bias, folded, and what has no batch norm */
} ConvNet;

typedef struct NetPass {
    ConvNet *net;
    Arena *work; /* NULL: only list the parameters; tensors have shapes and no data */
    Err *err;
} NetPass;

/* Takes the weights from an open file, which must hold exactly those that `graph` lists (but for num_batches_tracked).
 * path: its name, for messages.  What was made stays the caller's to close, also on failure. */
typedef int (*NetGraph)(NetPass *p, void *user);
WEFT_MUST_CHECK int net_load(ConvNet *net, Backend *be, const char *conv, const char *norm, double eps, NetGraph graph,
                             void *user, const SafeTensors *file, const char *path, Err *err);
/* The same on the plan back end, without a file. */
WEFT_MUST_CHECK int net_plan(ConvNet *net, Backend *be, const char *conv, const char *norm, double eps, NetGraph graph,
                             void *user, Err *err);
/* Of a PyTorch file that cannot be used because it holds other things than a state dict, or none of the names (`first`
 * is one of them): says after err's sentence which files are read.  file: what was opened, or NULL.  Returns rc. */
int net_say_which(int rc, const SafeTensors *file, const char *first, const char *which, Err *err);
void net_close(ConvNet *net);

/* y [To,Ho,Wo,co] = relu(bn(conv(x [T,H,W,C]))), allocated; the window's numbers as in PoolParams, of
 * which the strides of row and column are equal.  The unit's name is formatted. */
WEFT_MUST_CHECK int net_unit(NetPass *p, Tensor *y, const Tensor *x, const PoolParams *window, int64_t co,
                             const char *name);
WEFT_MUST_CHECK int net_pool(NetPass *p, Tensor *y, const Tensor *x, const PoolParams *window);
/* y [T,H,W,out] = x [T,H,W,in] NAME.weight^T + NAME.bias, allocated.  The file's weight is [out,in] with
 * ones behind, up to weight_rank. */
WEFT_MUST_CHECK int net_linear(NetPass *p, Tensor *y, const Tensor *x, int64_t out, int weight_rank, const char *name);
WEFT_MUST_CHECK int net_take(NetPass *p, Tensor *y, int64_t T, int64_t H, int64_t W, int64_t C);
/* Channels [*at, *at + part's) of y <- part; *at moves on. */
WEFT_MUST_CHECK int net_join(NetPass *p, const Tensor *y, int64_t *at, const Tensor *part);
#endif
