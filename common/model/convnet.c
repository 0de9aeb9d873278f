#include "common/model/convnet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/params_internal.h"

/* ---- weights --------------------------------------------------------------------------------- */

static const char *const of_norm[] = {"weight", "bias", "running_mean", "running_var"};
enum { GAMMA, BETA, MEAN, VAR };

static int is_counter(const char *name)
{
    return str_ends_with(name, ".num_batches_tracked");
}

/* A file's tensor as doubles, for mem_free.  It may lie anywhere. */
static double *values_of(const SafeTensors *file, const char *name, Err *err)
{
    Tensor t = safetensors_find(file, name)->tensor;
    int64_t n = tensor_count(&t), bytes = tensor_bytes(&t);
    double *out = mem_calloc(n, sizeof *out, err);
    void *aligned = mem_alloc_aligned(bytes ? bytes : 1, err);
    if (out && aligned) {
        memcpy(aligned, t.data, (size_t)bytes);
        t.data = aligned;
        for (int64_t i = 0; i < n; i++)
            out[i] = tensor_get(&t, i);
    } else {
        mem_free(out);
        out = NULL;
    }
    mem_free_aligned(aligned);
    return out;
}

/* The folded weights (already in w, as the file has them) and biases of a unit. */
static int fold(const ConvNet *net, const SafeTensors *file, const char *unit, double *w, double *b, int64_t co,
                int64_t each, Err *err)
{
    double *norm[4] = {NULL, NULL, NULL, NULL};
    char name[256];
    int rc = 0;
    for (int k = 0; k < 4 && !rc; k++) {
        snprintf(name, sizeof name, "%s.%s.%s", unit, net->norm, of_norm[k]);
        rc = (norm[k] = values_of(file, name, err)) ? 0 : ERR_NOMEM;
    }
    for (int64_t o = 0; o < co && !rc; o++) {
        double grow = norm[GAMMA][o] / sqrt(norm[VAR][o] + net->eps);
        if (!isfinite(grow))
            rc = err_set(err, ERR_FORMAT,
                         "'%s.%s': running_var %g and weight %g of channel %" PRId64 " are not possible", unit,
                         net->norm, norm[VAR][o], norm[GAMMA][o], o);
        for (int64_t i = 0; i < each; i++)
            w[o * each + i] *= grow;
        b[o] = norm[BETA][o] - norm[MEAN][o] * grow;
    }
    for (int k = 0; k < 4; k++)
        mem_free(norm[k]);
    return rc;
}

static int put(ConvNet *net, const Param *p, const double *value, Err *err)
{
    int64_t n = param_elements(p);
    float *host = mem_calloc(n, sizeof *host, err);
    if (!host)
        return ERR_NOMEM;
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++) {
        host[i] = (float)value[i];
        if (!isfinite(host[i])) /* a ReLU would make 0 of it */
            rc = err_set(err, ERR_FORMAT, "'%s' has a number that is not finite: the weights are damaged", p->name);
    }
    if (!rc)
        rc = params_put(&net->used, p, host, err);
    mem_free(host);
    return rc;
}

/* The parameter w of net->used and its bias, from the file. */
static int load_unit(ConvNet *net, const SafeTensors *file, const Param *w, Err *err)
{
    char unit[200], name[256];
    snprintf(unit, sizeof unit, "%.*s", (int)(strlen(w->name) - strlen(".weight")), w->name);
    snprintf(name, sizeof name, "%s.bias", unit);
    const Param *b = params_find(&net->used, name);
    int64_t co = w->dim[0], each = param_elements(w) / co;
    double *bias = NULL, *weight;
    snprintf(name, sizeof name, "%s.%s.weight", unit, net->conv);
    int rc = 0, normed = safetensors_find(file, name) && w->conv;
    weight = values_of(file, normed ? name : w->name, err);
    if (!weight)
        return ERR_NOMEM;
    if (normed)
        rc = (bias = mem_calloc(co, sizeof *bias, err)) ? fold(net, file, unit, weight, bias, co, each, err)
                                                        : ERR_NOMEM;
    else
        rc = (bias = values_of(file, b->name, err)) ? 0 : ERR_NOMEM;
    if (!rc && !(rc = put(net, w, weight, err)))
        rc = put(net, b, bias, err);
    mem_free(weight);
    mem_free(bias);
    return rc;
}

static int list(ConvNet *net, Backend *be, const char *conv, const char *norm, double eps, NetGraph graph, void *user,
                Err *err)
{
    *net = (ConvNet){.be = be, .conv = conv, .norm = norm, .eps = eps, .file.ignore = is_counter};
    NetPass p = {.net = net, .err = err};
    int rc = graph(&p, user);
    if (rc || (rc = params_finish(&net->file, err)))
        return rc;
    return params_finish(&net->used, err);
}

int net_load(ConvNet *net, Backend *be, const char *conv, const char *norm, double eps, NetGraph graph, void *user,
             const SafeTensors *file, const char *path, Err *err)
{
    int rc = list(net, be, conv, norm, eps, graph, user, err);
    if (rc || (rc = params_check(&net->file, file, path, err)) || (rc = params_new_flat(&net->used, be, err)))
        return rc;
    for (int64_t i = 0; i < net->used.n && !rc; i++)
        if (str_ends_with(net->used.param[i].name, ".weight"))
            rc = load_unit(net, file, &net->used.param[i], err);
    return rc ? err_wrap(err, rc, "'%s'", path) : params_refresh(&net->used, err);
}

int net_plan(ConvNet *net, Backend *be, const char *conv, const char *norm, double eps, NetGraph graph, void *user,
             Err *err)
{
    int rc = list(net, be, conv, norm, eps, graph, user, err);
    return rc ? rc : params_plan(&net->used, be, err);
}

int net_say_which(int rc, const SafeTensors *file, const char *first, const char *which, Err *err)
{
    if ((rc != ERR_FORMAT && rc != ERR_UNSUPPORTED) || (file && safetensors_find(file, first)) || !err)
        return rc;
    const Err why = *err;
    err_clear(err);
    return err_set(err, rc, "%.1500s; what is read are state dicts with names such as %s: %s", why.msg, first, which);
}

void net_close(ConvNet *net)
{
    params_fini(&net->file);
    params_fini(&net->used);
}

/* ---- layers ---------------------------------------------------------------------------------- */

int net_take(NetPass *p, Tensor *y, int64_t T, int64_t H, int64_t W, int64_t C)
{
    if (!p->work) {
        *y = tensor_of(NULL, DT_F32, 4, T, H, W, C);
        return 0;
    }
    return arena_tensor(p->work, y, p->net->be->act, 4, p->err, T, H, W, C);
}

static int64_t extent(int64_t n, const PoolParams *w, int axis)
{
    return (n + w->before[axis] + w->after[axis] - w->kernel[axis]) / w->stride[axis] + 1;
}

static int list_unit(NetPass *p, const Tensor *x, const PoolParams *w, int64_t co, const char *name)
{
    const int64_t dim[5] = {co, x->dim[3], w->kernel[0], w->kernel[1], w->kernel[2]};
    const int64_t flat[4] = {co, x->dim[3], w->kernel[1], w->kernel[2]};
    int is_3d = !strcmp(p->net->conv, "conv3d");
    int rc = params_addf(&p->net->file, 1, is_3d ? 5 : 4, is_3d ? dim : flat, p->err, "%s.%s.weight", name,
                         p->net->conv);
    for (int k = 0; k < 4 && !rc; k++)
        rc = params_addf(&p->net->file, 0, 1, &co, p->err, "%s.%s.%s", name, p->net->norm, of_norm[k]);
    if (rc || (rc = params_addf(&p->net->used, 1, 5, dim, p->err, "%s.weight", name)))
        return rc;
    return params_addf(&p->net->used, 0, 1, &co, p->err, "%s.bias", name);
}

/* op_conv has no padding in time, and no stride: x between frames of zeros, and the frames before the
 * window's last as its prefix. */
static int conv_3d(NetPass *p, const Tensor *y, const Tensor *x, const PoolParams *w, const ConvParams *cp,
                   const Tensor *weight, const Tensor *bias)
{
    const int64_t kt = w->kernel[0], zero[4] = {0}, at[4] = {w->before[0], 0, 0, 0};
    int64_t T = x->dim[0] + w->before[0] + w->after[0], each = w->stride[0] == 1 ? y->dim[0] : 1;
    Backend *be = p->net->be;
    Tensor padded;
    int rc = net_take(p, &padded, T, x->dim[1], x->dim[2], x->dim[3]);
    if (rc || (rc = op_fill(be, &padded, 0, p->err)) || (rc = op_copy_box(be, &padded, at, x, zero, x->dim, p->err)))
        return rc;
    for (int64_t t = 0; t < y->dim[0] && !rc; t += each) {
        Tensor to = tensor_rows(y, t, each), before = tensor_rows(&padded, t * w->stride[0], kt - 1),
               from = tensor_rows(&padded, t * w->stride[0] + kt - 1, each);
        rc = op_conv(be, &to, &from, &before, weight, bias, cp, p->err);
    }
    return rc;
}

int net_unit(NetPass *p, Tensor *y, const Tensor *x, const PoolParams *w, int64_t co, const char *name)
{
    const ConvParams cp = {w->stride[1], w->before[1], w->after[1], w->before[2], w->after[2], 0};
    int rc = net_take(p, y, extent(x->dim[0], w, 0), extent(x->dim[1], w, 1), extent(x->dim[2], w, 2), co);
    char full[256];
    if (rc || !p->work)
        return rc ? rc : list_unit(p, x, w, co, name);
    snprintf(full, sizeof full, "%s.weight", name);
    const Param *weight = params_find(&p->net->used, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const Param *bias = params_find(&p->net->used, full);
    int64_t mark = arena_mark(p->work);
    rc = w->kernel[0] > 1 ? conv_3d(p, y, x, w, &cp, &weight->value, &bias->value)
                          : op_conv(p->net->be, y, x, NULL, &weight->value, &bias->value, &cp, p->err);
    arena_reset(p->work, mark);
    return rc ? rc : op_act(p->net->be, y, y, ACT_RELU, p->err);
}

int net_pool(NetPass *p, Tensor *y, const Tensor *x, const PoolParams *w)
{
    int rc = net_take(p, y, extent(x->dim[0], w, 0), extent(x->dim[1], w, 1), extent(x->dim[2], w, 2), x->dim[3]);
    return rc || !p->work ? rc : op_pool(p->net->be, y, x, w, p->err);
}

int net_linear(NetPass *p, Tensor *y, const Tensor *x, int64_t out, int weight_rank, const char *name)
{
    const int64_t C = x->dim[3], dim[5] = {out, C, 1, 1, 1};
    char weight[200], bias[200];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    int rc = net_take(p, y, x->dim[0], x->dim[1], x->dim[2], out);
    if (rc)
        return rc;
    if (!p->work) {
        ParamSet *const sets[2] = {&p->net->file, &p->net->used};
        for (int k = 0; k < 2 && !rc; k++)
            if (!(rc = params_add(sets[k], 0, weight, k ? 2 : weight_rank, dim, p->err)))
                rc = params_add(sets[k], 0, bias, 1, dim, p->err);
        return rc;
    }
    return op_linear(p->net->be, y, x, &params_find(&p->net->used, weight)->value,
                     &params_find(&p->net->used, bias)->value, p->err);
}

int net_join(NetPass *p, const Tensor *y, int64_t *at, const Tensor *part)
{
    const int64_t zero[4] = {0}, to[4] = {0, 0, 0, *at};
    *at += part->dim[3];
    return p->work ? op_copy_box(p->net->be, y, to, part, zero, part->dim, p->err) : 0;
}
