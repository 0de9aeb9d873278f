/* One part of the work of a model, again at each line of standard input: the half of tests/bench/peers.py
 * that is ours.  Answers each line with seconds by the clock, processor seconds and the peak of resident
 * memory in kB.
 *
 *   build/release/tests/bench/bench_peers THREADS FOLDER PART A B C
 *
 * FOLDER: a model part as diffusers saves it.  PART: encode (A frames of B x C pixels), decode (A latent
 * frames of B x C), forward and step (a transformer, A latent frames of B x C). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/model/dit.h"
#include "common/model/vae.h"
#include "common/ops/ops.h"

typedef struct Peer {
    Backend *be;
    Arena *work;
    Vae *vae;
    Dit *dit;
    int64_t size[3], step;
    float *from, *to;
    Tensor latents, text, noise, v, m, s;
    Err err;
} Peer;

static int failed(const Peer *p)
{
    fprintf(stderr, "bench_peers: %s\n", p->err.msg);
    return 1;
}

static int encode(Peer *p)
{
    return vae_encode(p->vae, p->work, NULL, p->to, p->from, p->size[0], p->size[1], p->size[2], &p->err);
}

static int decode(Peer *p)
{
    return vae_decode(p->vae, p->work, NULL, p->to, p->from, p->size[0], p->size[1], p->size[2], &p->err);
}

static int forward(Peer *p)
{
    int64_t timestep = 500, mark = arena_mark(p->work);
    int rc = dit_forward(p->dit, p->work, &p->v, &p->latents, &p->text, &timestep, &p->err);
    arena_reset(p->work, mark);
    return rc;
}

static int step(Peer *p)
{
    DitTape *tape = NULL;
    double loss, square;
    int64_t timestep = 500, mark = arena_mark(p->work);
    Tensor values = params_flat_values(dit_params(p->dit)), grads = params_flat_grads(dit_params(p->dit));
    AdamParams adam = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 1e-4, .grad_scale = 1};
    adam.step = ++p->step;
    int rc = op_fill(p->be, &grads, 0, &p->err);
    if (rc == 0)
        rc = dit_forward_train(p->dit, p->work, &tape, RECOMPUTE_NONE, &p->v, &p->latents, &p->text, &timestep,
                               &p->err);
    if (rc == 0)
        rc = op_mse(p->be, &loss, &p->v, &p->v, &p->noise, 1.0, &p->err);
    if (rc == 0)
        rc = dit_backward(p->dit, p->work, &tape, &p->v, NULL, NULL, &p->err);
    if (rc == 0)
        rc = op_sum_squares(p->be, &square, &grads, &p->err);
    if (rc == 0 && !p->be->plan)
        rc = op_adamw(p->be, &values, NULL, &grads, &p->m, &p->s, &adam, &p->err);
    arena_reset(p->work, mark);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(Peer *p);
    int transformer;
} parts[] = {{"encode", encode, 0}, {"decode", decode, 0}, {"forward", forward, 1}, {"step", step, 1}};

static int new_tensor(Peer *p, Tensor *out, int rank, const int64_t *dim)
{
    *out = tensor_view(NULL, DT_F32, rank, dim);
    int rc = p->be->alloc(p->be, tensor_bytes(out), &out->data, &p->err);
    return rc < 0 ? rc : op_fill(p->be, out, 0.25, &p->err);
}

static int open_transformer(Peer *p, const char *folder, int train)
{
    int rc = dit_open(&p->dit, p->be, folder, train ? DIT_TRAIN : DIT_MAPPED, &p->err);
    if (rc < 0)
        return rc;
    const DitConfig *c = dit_config(p->dit);
    const int64_t latents[] = {1, p->size[0], p->size[1], p->size[2], c->in_channels},
                  text[] = {1, c->text_len, c->text_dim};
    Tensor *shaped[] = {&p->latents, &p->noise, &p->v};
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = new_tensor(p, shaped[i], 5, latents);
    if (rc == 0)
        rc = new_tensor(p, &p->text, 3, text);
    if (rc == 0 && train) {
        Tensor flat = params_flat_values(dit_params(p->dit));
        const int64_t n = tensor_count(&flat);
        if ((rc = new_tensor(p, &p->m, 1, &n)) == 0 && (rc = new_tensor(p, &p->s, 1, &n)) == 0 &&
            (rc = op_fill(p->be, &p->m, 0, &p->err)) == 0)
            rc = op_fill(p->be, &p->s, 0, &p->err);
    }
    return rc;
}

/* The bytes that `run` needs of working memory. */
static int plan_transformer(const Peer *from, const char *folder, int (*run)(Peer *), int64_t *bytes, Err *err)
{
    Peer p = {.size = {from->size[0], from->size[1], from->size[2]}};
    int rc = backend_open(&p.be, "plan", 1, NULL, &p.err);
    if (rc == 0 && (rc = arena_new(&p.work, p.be, 0, "peers", &p.err)) == 0 &&
        (rc = open_transformer(&p, folder, run == step)) == 0 && (rc = run(&p)) == 0)
        *bytes = arena_high(p.work);
    *err = p.err;
    return rc; /* what it holds ends with the process */
}

static int open_vae(Peer *p, const char *folder, int encodes, int64_t *bytes)
{
    int rc = vae_open(&p->vae, p->be, folder, encodes ? VAE_ENCODES : VAE_DECODES, &p->err);
    if (rc < 0)
        return rc;
    const VaeConfig *c = vae_config(p->vae);
    int64_t T = p->size[0], h = p->size[1], w = p->size[2], z = c->latent_channels;
    int64_t from = encodes ? T * h * w * 3 : T * h * w * z;
    int64_t to = encodes ? vae_latent_frames(c, T) * h * w / 32 * z : vae_pixel_frames(c, T) * h * w * 64 * 3;
    rc = encodes ? vae_plan_encode(c, DT_F32, NULL, T, h, w, bytes, &p->err)
                 : vae_plan_decode(c, DT_F32, NULL, T, h, w, bytes, &p->err);
    if (rc == 0 &&
        (!(p->from = mem_calloc(from, sizeof *p->from, &p->err)) || !(p->to = mem_calloc(to, sizeof *p->to, &p->err))))
        rc = ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < from; i++)
        p->from[i] = (float)(i % 255) / 127.5f - 1;
    return rc;
}

static double processor_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Of this program's memory alone: rusage would count its parent's at the fork. */
static long peak_kb(void)
{
    char line[256];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %ld", &kb) != 1)
        continue;
    if (f)
        fclose(f);
    return kb;
}

int main(int argc, char **argv)
{
    Peer p = {0};
    char line[16];
    int64_t bytes = 0;
    int part = 0;
    while (argc == 7 && part < 4 && strcmp(parts[part].name, argv[3]) != 0)
        part++;
    if (argc != 7 || part == 4)
        return fprintf(stderr, "usage: bench_peers THREADS FOLDER encode|decode|forward|step A B C\n"), 2;
    for (int i = 0; i < 3; i++)
        p.size[i] = atoll(argv[4 + i]);
    if (backend_open(&p.be, "cpu", atoll(argv[1]), NULL, &p.err) < 0)
        return failed(&p);
    int rc = parts[part].transformer ? plan_transformer(&p, argv[2], parts[part].run, &bytes, &p.err)
                                     : open_vae(&p, argv[2], part == 0, &bytes);
    if (rc == 0)
        rc = arena_new(&p.work, p.be, bytes, "peers", &p.err);
    if (rc == 0 && parts[part].transformer)
        rc = open_transformer(&p, argv[2], parts[part].run == step);
    if (rc < 0)
        return failed(&p);
    while (fgets(line, sizeof line, stdin)) {
        double begin = time_now_s(), used = processor_s();
        if (parts[part].run(&p) < 0)
            return failed(&p);
        printf("%.4f %.4f %ld\n", time_now_s() - begin, processor_s() - used, peak_kb());
        fflush(stdout);
    }
    return 0;
}
