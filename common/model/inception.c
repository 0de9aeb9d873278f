#include "common/model/inception.h"

#include <stdio.h>

#include "common/base/mem.h"
#include "common/model/convnet.h"
#include "common/store/torch_file.h"

struct Inception {
    ConvNet net;
};

/* What graph() reads and gives: [n,299,299,3], [n,1,1,2048], [n,1,1,1008]. */
typedef struct Run {
    Tensor pixels, pool3, logits;
} Run;

/* ---- layers ---------------------------------------------------------------------------------- */

/* One convolution of a branch: its name, output channels, kernel; "V" (no padding, stride 2) or padding
 * that keeps the size. */
typedef struct Step {
    const char *name;
    int co, kh, kw, halves;
} Step;

enum { MOST_STEPS = 5 };
typedef enum Start { DIRECT, MEAN_POOL, MAX_POOL, HALVING_POOL } Start;
typedef struct Branch {
    Start start;
    Step step[MOST_STEPS + 1]; /* up to one without a name */
} Branch;

static int unit(NetPass *p, Tensor *y, const Tensor *x, const char *block, const Step *s)
{
    char name[100];
    const int64_t h = s->halves ? 0 : s->kh / 2, w = s->halves ? 0 : s->kw / 2, stride = s->halves ? 2 : 1;
    const PoolParams window = {
        .kernel = {1, s->kh, s->kw}, .stride = {1, stride, stride}, .before = {0, h, w}, .after = {0, h, w}};
    snprintf(name, sizeof name, "%s%s%s", block, *block ? "." : "", s->name);
    return net_unit(p, y, x, &window, s->co, name);
}

static int pool(NetPass *p, Tensor *y, const Tensor *x, Start kind)
{
    const int64_t stride = kind == HALVING_POOL ? 2 : 1, edge = kind == HALVING_POOL ? 0 : 1;
    const PoolParams window = {.kind = kind == MEAN_POOL ? POOL_MEAN : POOL_MAX,
                               .kernel = {1, 3, 3},
                               .stride = {1, stride, stride},
                               .before = {0, edge, edge},
                               .after = {0, edge, edge}};
    return net_pool(p, y, x, &window);
}

/* y's channels from *at on <- the branch of x. */
static int branch(NetPass *p, const Tensor *y, int64_t *at, const Tensor *x, const char *block, const Branch *b)
{
    Tensor t = *x;
    int rc = b->start == DIRECT ? 0 : pool(p, &t, x, b->start);
    for (const Step *s = b->step; s->name && !rc; s++) {
        Tensor in = t;
        rc = unit(p, &t, &in, block, s);
    }
    return rc ? rc : net_join(p, y, at, &t);
}

/* y, allocated, of `channels` <- the branches of x one after the other. */
static int mixed(NetPass *p, Tensor *y, const Tensor *x, int64_t channels, int halves, const char *block,
                 const Branch *b, int n)
{
    int64_t H = halves ? (x->dim[1] - 3) / 2 + 1 : x->dim[1], W = halves ? (x->dim[2] - 3) / 2 + 1 : x->dim[2], at = 0;
    int rc = net_take(p, y, x->dim[0], H, W, channels);
    for (int k = 0; k < n && !rc; k++) {
        int64_t mark = p->work ? arena_mark(p->work) : 0;
        rc = branch(p, y, &at, x, block, &b[k]);
        if (p->work)
            arena_reset(p->work, mark);
    }
    return rc;
}

#define MIXED(p, y, x, channels, halves, block, b) \
    mixed((p), (y), (x), (channels), (halves), (block), (b), (int)(sizeof(b) / sizeof *(b)))

/* ---- blocks ---------------------------------------------------------------------------------- */

static int block_a(NetPass *p, Tensor *y, const Tensor *x, const char *name, int pooled)
{
    const Branch b[] = {
        {DIRECT, {{"branch1x1", 64, 1, 1, 0}}},
        {DIRECT, {{"branch5x5_1", 48, 1, 1, 0}, {"branch5x5_2", 64, 5, 5, 0}}},
        {DIRECT, {{"branch3x3dbl_1", 64, 1, 1, 0}, {"branch3x3dbl_2", 96, 3, 3, 0}, {"branch3x3dbl_3", 96, 3, 3, 0}}},
        {MEAN_POOL, {{"branch_pool", pooled, 1, 1, 0}}},
    };
    return MIXED(p, y, x, 224 + pooled, 0, name, b);
}

static int block_b(NetPass *p, Tensor *y, const Tensor *x, const char *name)
{
    static const Branch b[] = {
        {DIRECT, {{"branch3x3", 384, 3, 3, 1}}},
        {DIRECT, {{"branch3x3dbl_1", 64, 1, 1, 0}, {"branch3x3dbl_2", 96, 3, 3, 0}, {"branch3x3dbl_3", 96, 3, 3, 1}}},
        {HALVING_POOL, {{NULL, 0, 0, 0, 0}}},
    };
    return MIXED(p, y, x, 480 + x->dim[3], 1, name, b);
}

static int block_c(NetPass *p, Tensor *y, const Tensor *x, const char *name, int c7)
{
    const Branch b[] = {
        {DIRECT, {{"branch1x1", 192, 1, 1, 0}}},
        {DIRECT, {{"branch7x7_1", c7, 1, 1, 0}, {"branch7x7_2", c7, 1, 7, 0}, {"branch7x7_3", 192, 7, 1, 0}}},
        {DIRECT,
         {{"branch7x7dbl_1", c7, 1, 1, 0},
          {"branch7x7dbl_2", c7, 7, 1, 0},
          {"branch7x7dbl_3", c7, 1, 7, 0},
          {"branch7x7dbl_4", c7, 7, 1, 0},
          {"branch7x7dbl_5", 192, 1, 7, 0}}},
        {MEAN_POOL, {{"branch_pool", 192, 1, 1, 0}}},
    };
    return MIXED(p, y, x, 768, 0, name, b);
}

static int block_d(NetPass *p, Tensor *y, const Tensor *x, const char *name)
{
    static const Branch b[] = {
        {DIRECT, {{"branch3x3_1", 192, 1, 1, 0}, {"branch3x3_2", 320, 3, 3, 1}}},
        {DIRECT,
         {{"branch7x7x3_1", 192, 1, 1, 0},
          {"branch7x7x3_2", 192, 1, 7, 0},
          {"branch7x7x3_3", 192, 7, 1, 0},
          {"branch7x7x3_4", 192, 3, 3, 1}}},
        {HALVING_POOL, {{NULL, 0, 0, 0, 0}}},
    };
    return MIXED(p, y, x, 512 + x->dim[3], 1, name, b);
}

/* A branch of block E that ends twice: 1x3 and 3x1 over the same input. */
static int forked(NetPass *p, const Tensor *y, int64_t *at, const Tensor *x, const char *name, const Step *trunk,
                  const Step *ends)
{
    int64_t mark = p->work ? arena_mark(p->work) : 0;
    Tensor t = *x, end;
    int rc = 0;
    for (; trunk->name && !rc; trunk++) {
        Tensor in = t;
        rc = unit(p, &t, &in, name, trunk);
    }
    for (int k = 0; k < 2 && !rc; k++)
        if (!(rc = unit(p, &end, &t, name, &ends[k])))
            rc = net_join(p, y, at, &end);
    if (p->work)
        arena_reset(p->work, mark);
    return rc;
}

static int block_e(NetPass *p, Tensor *y, const Tensor *x, const char *name, Start start)
{
    static const Branch first = {DIRECT, {{"branch1x1", 320, 1, 1, 0}}};
    static const Step one[] = {{"branch3x3_1", 384, 1, 1, 0}, {NULL, 0, 0, 0, 0}},
                      one_ends[] = {{"branch3x3_2a", 384, 1, 3, 0}, {"branch3x3_2b", 384, 3, 1, 0}},
                      two[] = {{"branch3x3dbl_1", 448, 1, 1, 0}, {"branch3x3dbl_2", 384, 3, 3, 0}, {NULL, 0, 0, 0, 0}},
                      two_ends[] = {{"branch3x3dbl_3a", 384, 1, 3, 0}, {"branch3x3dbl_3b", 384, 3, 1, 0}};
    const Branch last = {start, {{"branch_pool", 192, 1, 1, 0}}};
    int64_t at = 0;
    int rc = net_take(p, y, x->dim[0], x->dim[1], x->dim[2], 2048);
    int64_t mark = p->work ? arena_mark(p->work) : 0;
    if (rc || (rc = branch(p, y, &at, x, name, &first)) || (rc = forked(p, y, &at, x, name, one, one_ends)) ||
        (rc = forked(p, y, &at, x, name, two, two_ends)))
        return rc;
    rc = branch(p, y, &at, x, name, &last);
    if (p->work)
        arena_reset(p->work, mark);
    return rc;
}

/* The stem: 299 -> 149 -> 147 -> 147 -> 73 -> 73 -> 71 -> 35. */
static int stem(NetPass *p, Tensor *y, const Tensor *pixels)
{
    static const Step step[] = {{"Conv2d_1a_3x3", 32, 3, 3, 1},
                                {"Conv2d_2a_3x3", 32, 3, 3, 0}, /* without padding, below */
                                {"Conv2d_2b_3x3", 64, 3, 3, 0},
                                {"Conv2d_3b_1x1", 80, 1, 1, 0},
                                {"Conv2d_4a_3x3", 192, 3, 3, 0}}; /* likewise */
    static const PoolParams valid = {.kernel = {1, 3, 3}, .stride = {1, 1, 1}};
    Tensor a, b;
    int rc = unit(p, &a, pixels, "", &step[0]);
    if (rc || (rc = net_unit(p, &b, &a, &valid, step[1].co, step[1].name)) || (rc = unit(p, &a, &b, "", &step[2])) ||
        (rc = pool(p, &b, &a, HALVING_POOL)) || (rc = unit(p, &a, &b, "", &step[3])) ||
        (rc = net_unit(p, &b, &a, &valid, step[4].co, step[4].name)))
        return rc;
    return pool(p, y, &b, HALVING_POOL);
}

static int graph(NetPass *p, void *user)
{
    Run *run = user;
    Tensor a, b;
    int rc = stem(p, &a, &run->pixels);
    if (rc || (rc = block_a(p, &b, &a, "Mixed_5b", 32)) || (rc = block_a(p, &a, &b, "Mixed_5c", 64)) ||
        (rc = block_a(p, &b, &a, "Mixed_5d", 64)) || (rc = block_b(p, &a, &b, "Mixed_6a")) ||
        (rc = block_c(p, &b, &a, "Mixed_6b", 128)) || (rc = block_c(p, &a, &b, "Mixed_6c", 160)) ||
        (rc = block_c(p, &b, &a, "Mixed_6d", 160)) || (rc = block_c(p, &a, &b, "Mixed_6e", 192)) ||
        (rc = block_d(p, &b, &a, "Mixed_7a")) || (rc = block_e(p, &a, &b, "Mixed_7b", MEAN_POOL)) ||
        (rc = block_e(p, &b, &a, "Mixed_7c", MAX_POOL)))
        return rc;
    const PoolParams all = {.kind = POOL_MEAN, .kernel = {1, b.dim[1], b.dim[2]}, .stride = {1, 1, 1}};
    if ((rc = net_pool(p, &run->pool3, &b, &all)))
        return rc;
    return net_linear(p, &run->logits, &run->pool3, INCEPTION_CLASSES, 2, "fc");
}

/* ---- the network ----------------------------------------------------------------------------- */

static Run one_picture(void)
{
    return (Run){.pixels = tensor_of(NULL, DT_F32, 4, 1, INCEPTION_SIZE, INCEPTION_SIZE, 3)};
}

int inception_load(Inception **out, Backend *be, const SafeTensors *file, const char *path, Err *err)
{
    Run run = one_picture();
    Inception *m = *out = mem_calloc(1, sizeof *m, err);
    int rc = !m     ? ERR_NOMEM
             : file ? net_load(&m->net, be, "conv", "bn", 1e-3, graph, &run, file, path, err)
                    : net_plan(&m->net, be, "conv", "bn", 1e-3, graph, &run, err);
    if (rc)
        inception_close(out);
    return rc;
}

int inception_open(Inception **out, Backend *be, const char *path, Err *err)
{
    SafeTensors *file = NULL;
    *out = NULL;
    int rc = path ? weights_file_open(&file, path, err) : 0;
    if (!rc)
        rc = inception_load(out, be, file, path, err);
    rc = net_say_which(rc, file, "Conv2d_1a_3x3.conv.weight",
                       "pt_inception-2015-12-05-6726825d.pth (pytorch-fid), weights-inception-2015-12-05-6726825d.pth "
                       "(torch-fidelity), not the code of inception-2015-12-05.pt",
                       err);
    safetensors_close(&file);
    return rc;
}

void inception_close(Inception **m)
{
    if (*m)
        net_close(&(*m)->net);
    mem_free(*m);
    *m = NULL;
}

const ParamSet *inception_params(const Inception *m)
{
    return &m->net.file;
}

/* The product's bias, which the fully connected layer has added. */
static int without_bias(Inception *m, float *logits, float *bias, int64_t n, Err *err)
{
    float own[INCEPTION_CLASSES];
    int rc = params_get(&m->net.used, params_find(&m->net.used, "fc.bias"), own, err);
    for (int64_t i = 0; i < n * INCEPTION_CLASSES && logits && !rc; i++)
        logits[i] -= own[i % INCEPTION_CLASSES];
    for (int64_t i = 0; i < INCEPTION_CLASSES && bias && !rc; i++)
        bias[i] = own[i];
    return rc;
}

int inception_run(Inception *m, Arena *work, float *pool3, float *logits, float *bias, const float *pixels, int64_t n,
                  Err *err)
{
    Backend *be = m->net.be;
    NetPass p = {.net = &m->net, .work = work, .err = err};
    Run run;
    int64_t mark = arena_mark(work);
    if (n < 1)
        return err_set(err, ERR_USAGE, "Inception: %" PRId64 " pictures", n);
    int rc = net_take(&p, &run.pixels, n, INCEPTION_SIZE, INCEPTION_SIZE, 3);
    if (!rc && !be->plan)
        rc = backend_put_f32(be, &run.pixels, pixels, err);
    if (rc || (rc = graph(&p, &run)) || be->plan)
        goto fail;
    if ((pool3 && (rc = backend_get_f32(be, pool3, &run.pool3, err))) ||
        (logits && (rc = backend_get_f32(be, logits, &run.logits, err))))
        goto fail;
    rc = without_bias(m, logits, bias, n, err);
fail:
    arena_reset(work, mark);
    return rc;
}
