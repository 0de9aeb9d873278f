#include "common/model/i3d.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/model/convnet.h"
#include "common/store/torch_file.h"

/* How a file calls the layers: units before the blocks, a block's branches, its batch norms. */
typedef struct Names {
    const char *stem[3], *mixed, *branch[6], *norm, *logits;
} Names;

enum { B0, B1A, B1B, B2A, B2B, B3B };
static const Names pytorch_i3d = {{"Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"},
                                  "Mixed_",
                                  {"b0", "b1a", "b1b", "b2a", "b2b", "b3b"},
                                  "bn",
                                  "logits.conv3d"};
static const Names kinetics_i3d_pytorch = {
    {"conv3d_1a_7x7", "conv3d_2b_1x1", "conv3d_2c_3x3"},
    "mixed_",
    {"branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1"},
    "batch3d",
    "conv3d_0c_1x1.conv3d"};

struct I3d {
    ConvNet net;
    const Names *names;
};

/* What graph() reads and gives: [T,224,224,3]; [positions,1,1,400]. */
typedef struct Run {
    const Names *names;
    Tensor pixels, logits;
} Run;

/* TensorFlow's SAME: the output has ceil(n/stride) values; where the padding is odd, the end has one more
 * than the beginning. */
static PoolParams same(const Tensor *x, const int kernel[3], const int stride[3])
{
    PoolParams w = {.kind = POOL_MAX};
    for (int a = 0; a < 3; a++) {
        int64_t rest = x->dim[a] % stride[a], all = kernel[a] - (rest ? rest : stride[a]);
        all = all > 0 ? all : 0;
        w.kernel[a] = kernel[a];
        w.stride[a] = stride[a];
        w.before[a] = all / 2;
        w.after[a] = all - all / 2;
    }
    return w;
}

/* A cubic kernel. */
static int unit(NetPass *p, Tensor *y, const Tensor *x, int k, int stride, int64_t co, const char *name)
{
    const PoolParams w = same(x, (const int[]){k, k, k}, (const int[]){stride, stride, stride});
    return net_unit(p, y, x, &w, co, name);
}

static int pool(NetPass *p, Tensor *y, const Tensor *x, int kt, int k, int st, int s)
{
    const PoolParams w = same(x, (const int[]){kt, k, k}, (const int[]){st, s, s});
    return net_pool(p, y, x, &w);
}

typedef struct Block {
    const char *name; /* behind Names.mixed */
    int c[6];         /* channels of the branches' units */
    int pool;         /* before it: 0 none, else the window and stride in time */
} Block;

static int branch(NetPass *p, Tensor *y, const Tensor *x, int k, const Names *names, const Block *b, int which)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s.%s", names->mixed, b->name, names->branch[which]);
    return unit(p, y, x, k, 1, b->c[which], name);
}

/* Four branches, one after the other in the channels: 1; 1 then 3; 1 then 3; pool then 1. */
static int mixed(NetPass *p, Tensor *y, const Tensor *x, const Names *names, const Block *block)
{
    int64_t at = 0;
    const int *c = block->c;
    int rc = net_take(p, y, x->dim[0], x->dim[1], x->dim[2], c[B0] + c[B1B] + c[B2B] + c[B3B]);
    int64_t mark = p->work ? arena_mark(p->work) : 0;
    Tensor a, b;
    if (rc || (rc = branch(p, &a, x, 1, names, block, B0)) || (rc = net_join(p, y, &at, &a)))
        return rc;
    for (int first = B1A; first <= B2A && !rc; first += 2) {
        if (p->work)
            arena_reset(p->work, mark);
        if ((rc = branch(p, &a, x, 1, names, block, first)) || (rc = branch(p, &b, &a, 3, names, block, first + 1)))
            return rc;
        rc = net_join(p, y, &at, &b);
    }
    if (p->work)
        arena_reset(p->work, mark);
    if (rc || (rc = pool(p, &a, x, 3, 3, 1, 1)) || (rc = branch(p, &b, &a, 1, names, block, B3B)))
        return rc;
    rc = net_join(p, y, &at, &b);
    if (p->work)
        arena_reset(p->work, mark);
    return rc;
}

static int graph(NetPass *p, void *user)
{
    static const Block blocks[] = {
        {"3b", {64, 96, 128, 16, 32, 32}, 0},     {"3c", {128, 128, 192, 32, 96, 64}, 0},
        {"4b", {192, 96, 208, 16, 48, 64}, 3},    {"4c", {160, 112, 224, 24, 64, 64}, 0},
        {"4d", {128, 128, 256, 24, 64, 64}, 0},   {"4e", {112, 144, 288, 32, 64, 64}, 0},
        {"4f", {256, 160, 320, 32, 128, 128}, 0}, {"5b", {256, 160, 320, 32, 128, 128}, 2},
        {"5c", {384, 192, 384, 48, 128, 128}, 0},
    };
    Run *run = user;
    const Names *names = run->names;
    Tensor a, b;
    int rc = unit(p, &a, &run->pixels, 7, 2, 64, names->stem[0]);
    if (rc || (rc = pool(p, &b, &a, 1, 3, 1, 2)) || (rc = unit(p, &a, &b, 1, 1, 64, names->stem[1])) ||
        (rc = unit(p, &b, &a, 3, 1, 192, names->stem[2])) || (rc = pool(p, &a, &b, 1, 3, 1, 2)))
        return rc;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks && !rc; i++) {
        if (blocks[i].pool) {
            if ((rc = pool(p, &b, &a, blocks[i].pool, blocks[i].pool, 2, 2)))
                return rc;
            a = b;
        }
        rc = mixed(p, &b, &a, names, &blocks[i]);
        a = b;
    }
    const PoolParams mean = {.kind = POOL_MEAN, .kernel = {2, a.dim[1], a.dim[2]}, .stride = {1, 1, 1}};
    if (rc || (rc = net_pool(p, &b, &a, &mean)))
        return rc;
    return net_linear(p, &run->logits, &b, I3D_CLASSES, 5, names->logits);
}

/* ---- the network ----------------------------------------------------------------------------- */

static int file_eps(const SafeTensors *file, const char *path, double *eps, Err *err)
{
    const char *said = safetensors_meta(file, "bn_eps");
    char *end = NULL;
    *eps = said ? strtod(said, &end) : I3D_EPS;
    if (said && (end == said || *end || !(*eps > 0 && *eps < 1)))
        return err_set(err, ERR_FORMAT, "'%s': its bn_eps is '%.40s', expected a number such as 0.001", path, said);
    return 0;
}

int i3d_load(I3d **out, Backend *be, const SafeTensors *file, const char *path, double bn_eps, Err *err)
{
    const Names *names = file && safetensors_find(file, "conv3d_1a_7x7.conv3d.weight") ? &kinetics_i3d_pytorch
                                                                                       : &pytorch_i3d;
    Run run = {.names = names, .pixels = tensor_of(NULL, DT_F32, 4, I3D_LEAST_FRAMES, I3D_SIZE, I3D_SIZE, 3)};
    I3d *m = *out = mem_calloc(1, sizeof *m, err);
    int rc = m ? 0 : ERR_NOMEM;
    if (m)
        m->names = names;
    if (!rc && bn_eps == 0)
        rc = file ? file_eps(file, path, &bn_eps, err) : 0;
    if (!rc)
        rc = file ? net_load(&m->net, be, "conv3d", names->norm, bn_eps, graph, &run, file, path, err)
                  : net_plan(&m->net, be, "conv3d", names->norm, I3D_EPS, graph, &run, err);
    if (rc)
        i3d_close(out);
    return rc;
}

int i3d_open(I3d **out, Backend *be, const char *path, double bn_eps, Err *err)
{
    SafeTensors *file = NULL;
    *out = NULL;
    int rc = path ? weights_file_open(&file, path, err) : 0;
    if (!rc)
        rc = i3d_load(out, be, file, path, bn_eps, err);
    rc = net_say_which(
        rc, file, "Conv3d_1a_7x7.conv3d.weight",
        "i3d_pretrained_400.pt (VideoGPT), rgb_imagenet.pt (pytorch-i3d), or conv3d_1a_7x7.conv3d.weight: "
        "model_rgb.pth (kinetics_i3d_pytorch)",
        err);
    safetensors_close(&file);
    return rc;
}

void i3d_close(I3d **m)
{
    if (*m)
        net_close(&(*m)->net);
    mem_free(*m);
    *m = NULL;
}

const ParamSet *i3d_params(const I3d *m)
{
    return &m->net.file;
}

double i3d_eps(const I3d *m)
{
    return m->net.eps;
}

/* logits <- the mean over time. */
static int average(float *logits, const Tensor *t, Backend *be, Err *err)
{
    int64_t positions = t->dim[0];
    float *each = mem_calloc(positions * I3D_CLASSES, sizeof *each, err);
    int rc = each ? backend_get_f32(be, each, t, err) : ERR_NOMEM;
    for (int64_t c = 0; c < I3D_CLASSES && !rc; c++) {
        double sum = 0;
        for (int64_t i = 0; i < positions; i++)
            sum += (double)each[i * I3D_CLASSES + c];
        logits[c] = (float)(sum / (double)positions);
    }
    mem_free(each);
    return rc;
}

int i3d_run(I3d *m, Arena *work, float *logits, const float *pixels, int64_t frames, Err *err)
{
    Backend *be = m->net.be;
    NetPass p = {.net = &m->net, .work = work, .err = err};
    Run run = {.names = m->names};
    int64_t mark = arena_mark(work);
    if (frames < I3D_LEAST_FRAMES)
        return err_set(err, ERR_USAGE, "I3D: %" PRId64 " frames; it needs %d or more", frames, I3D_LEAST_FRAMES);
    int rc = net_take(&p, &run.pixels, frames, I3D_SIZE, I3D_SIZE, 3);
    if (!rc && !be->plan)
        rc = backend_put_f32(be, &run.pixels, pixels, err);
    if (!rc && !(rc = graph(&p, &run)) && !be->plan)
        rc = average(logits, &run.logits, be, err);
    arena_reset(work, mark);
    return rc;
}
