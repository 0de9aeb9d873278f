#include "tests/cuda/task.h"

#include <math.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "train/step.h"
#include "dit_2b.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

const Size size_2b = {
    .name = "2B",
    .dit = DIT_2B(30),
    .vae = {.in_channels = 3,
            .out_channels = 3,
            .latent_channels = 16,
            .n_blocks = 4,
            .block_channels = {128, 256, 256, 512},
            .layers_per_block = 3,
            .groups = 32,
            .temporal_ratio = 4,
            .sample_height = 480,
            .sample_width = 720,
            .norm_eps = 1e-6,
            .scaling_factor = 1.15258426},
    .t5 = {.vocab = 32128,
           .d_model = 4096,
           .d_kv = 64,
           .heads = 64,
           .d_ff = 10240,
           .layers = 24,
           .buckets = 32,
           .max_distance = 128,
           .eps = 1e-6},
    .frames = 49,
    .height = 480,
    .width = 720,
    .batch = 2,
    .sampling_steps = 50,
};
const Size size_toy = {
    .name = "toy",
    .dit = {.heads = 2,
            .head_dim = 64,
            .layers = 2,
            .in_channels = 4,
            .out_channels = 4,
            .patch = 2,
            .time_dim = 32,
            .text_dim = 32,
            .text_len = 8,
            .sample_width = 4,
            .sample_height = 4,
            .sample_frames = 9,
            .temporal_ratio = 4,
            .spatial_scale = 1.875,
            .temporal_scale = 1,
            .norm_eps = 1e-5,
            .flip_sin_to_cos = 1},
    .vae = {.in_channels = 3,
            .out_channels = 3,
            .latent_channels = 4,
            .n_blocks = 4,
            .block_channels = {16, 16, 16, 16},
            .layers_per_block = 1,
            .groups = 4,
            .temporal_ratio = 4,
            .sample_height = 32,
            .sample_width = 32,
            .norm_eps = 1e-6,
            .scaling_factor = 1},
    .t5 = {.vocab = 64,
           .d_model = 32,
           .d_kv = 8,
           .heads = 2,
           .d_ff = 64,
           .layers = 2,
           .buckets = 8,
           .max_distance = 16,
           .eps = 1e-6},
    .frames = 9,
    .height = 32,
    .width = 32,
    .batch = 2,
    .sampling_steps = 2,
};

const char *const task_names[TASKS] = {
    "training step, recompute none",
    "training step, recompute block",
    "training step, recompute block+attention",
    "VAE encode",
    "VAE decode",
    "sampling step",
    "T5 encode",
};

/* ---- a task ---------------------------------------------------------------------------------- */

struct Task {
    TaskKind kind;
    Backend *be;
    const Size *size;
    Arena *work;
    Dit *dit;
    Vae *vae;
    T5 *t5;
    Schedule schedule;
    TrainState train;
    TrainBatch batch;
    Tensor latents, next, velocity; /* sampling: next F32 */
    int64_t timestep[8];
    int64_t latent_frames, h, w;
    float *in, *out; /* host: a clip, its latents; a caption's vectors */
    int32_t *ids;
};

static int is_training(TaskKind k)
{
    return k == TASK_TRAIN_NONE || k == TASK_TRAIN_BLOCK || k == TASK_TRAIN_BLOCK_ATTENTION;
}

/* A tensor of the working memory, filled with small random values. */
static int take(Task *t, Tensor *out, DType type, int rank, const int64_t *dim, Err *err)
{
    int rc = arena_take(t->work, out, type, rank, dim, err);

    if (rc < 0 || t->be->plan)
        return rc;
    float *host = mem_alloc_aligned(tensor_count(out) * (int64_t)sizeof *host, err);
    if (!host)
        return ERR_NOMEM;
    filler_input(7, host, tensor_count(out));
    rc = backend_put_f32(t->be, out, host, err);
    mem_free_aligned(host);
    return rc;
}
#define TAKE(t, out, type, rank, err, ...) take((t), (out), (type), (rank), (const int64_t[]){__VA_ARGS__}, (err))

static int open_train(Task *t, Err *err)
{
    const Size *z = t->size;
    static const Recompute policy[] = {RECOMPUTE_NONE, RECOMPUTE_BLOCK, RECOMPUTE_BLOCK_ATTENTION};
    TrainConfig c = {.rate = {.kind = RATE_CONSTANT, .peak = 1e-5},
                     .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 1e-4},
                     .max_grad_norm = 1,
                     .policy = policy[t->kind]};
    int64_t b = z->batch;
    int rc = schedule_init_default(&t->schedule, err);

    if (rc < 0 || (rc = dit_new_filled(&t->dit, t->be, &z->dit, 1, err)) < 0 ||
        (rc = train_init(&t->train, t->be, t->dit, &t->schedule, &c, err)) < 0 ||
        (rc = TAKE(t, &t->batch.x0, DT_F32, 5, err, b, t->latent_frames, t->h, t->w, z->dit.in_channels)) < 0 ||
        (rc = TAKE(t, &t->batch.noise, DT_F32, 5, err, b, t->latent_frames, t->h, t->w, z->dit.in_channels)) < 0)
        return rc;
    t->train.work = t->work;
    t->batch.timestep = t->timestep;
    return TAKE(t, &t->batch.text, t->be->act, 3, err, b, z->dit.text_len, z->dit.text_dim);
}

static int open_sample(Task *t, Err *err)
{
    const Size *z = t->size;
    int rc = dit_new_filled(&t->dit, t->be, &z->dit, 0, err);

    if (rc < 0 ||
        (rc = TAKE(t, &t->latents, t->be->act, 5, err, 2, t->latent_frames, t->h, t->w, z->dit.in_channels)) < 0 ||
        (rc = TAKE(t, &t->velocity, t->be->act, 5, err, 2, t->latent_frames, t->h, t->w, z->dit.in_channels)) < 0 ||
        (rc = TAKE(t, &t->next, DT_F32, 5, err, 1, t->latent_frames, t->h, t->w, z->dit.in_channels)) < 0)
        return rc;
    return TAKE(t, &t->batch.text, t->be->act, 3, err, 2, z->dit.text_len, z->dit.text_dim);
}

static int open_vae(Task *t, Err *err)
{
    const Size *z = t->size;
    int64_t pixels = z->frames * z->height * z->width * 3,
            latents = t->latent_frames * t->h * t->w * 2 * z->vae.latent_channels;
    int rc = vae_new_filled(&t->vae, t->be, &z->vae, err);

    if (rc < 0 || t->be->plan)
        return rc;
    t->in = mem_alloc_aligned((t->kind == TASK_ENCODE ? pixels : latents) * (int64_t)sizeof *t->in, err);
    t->out = mem_alloc_aligned((t->kind == TASK_ENCODE ? latents : pixels) * (int64_t)sizeof *t->out, err);
    if (!t->in || !t->out)
        return ERR_NOMEM;
    filler_input(7, t->in, t->kind == TASK_ENCODE ? pixels : latents);
    return 0;
}

static int open_text(Task *t, Err *err)
{
    const Size *z = t->size;
    int64_t n = z->dit.text_len;
    int rc = t5_new_filled(&t->t5, t->be, &z->t5, err);

    if (rc < 0 || t->be->plan)
        return rc;
    t->ids = mem_calloc(n, sizeof *t->ids, err);
    t->out = mem_alloc_aligned(n * z->t5.d_model * (int64_t)sizeof *t->out, err);
    return t->ids && t->out ? 0 : ERR_NOMEM;
}

int task_open(Task **out, Backend *be, const Size *z, TaskKind kind, int64_t work_bytes, Err *err)
{
    int rc;
    Task *t = *out = mem_calloc(1, sizeof *t, err);

    if (!t)
        return ERR_NOMEM;
    *t = (Task){.kind = kind,
                .be = be,
                .size = z,
                .latent_frames = vae_latent_frames(&z->vae, z->frames),
                .h = z->height / 8,
                .w = z->width / 8,
                .timestep = {999, 500, 250, 1, 999, 500, 250, 1}};
    rc = arena_new(&t->work, be, work_bytes, "task", err);
    if (rc == 0)
        rc = is_training(kind)     ? open_train(t, err)
             : kind == TASK_SAMPLE ? open_sample(t, err)
             : kind == TASK_TEXT   ? open_text(t, err)
                                   : open_vae(t, err);
    if (rc < 0)
        task_close(out);
    return rc;
}

/* v = v_empty + 6 (v_text - v_empty); x <- a x + b v. */
static int sample_step(Task *t, Err *err)
{
    int rc = dit_forward(t->dit, t->work, &t->velocity, &t->latents, &t->batch.text, t->timestep, err);
    Tensor half[2] = {tensor_rows(&t->velocity, 0, 1), tensor_rows(&t->velocity, 1, 1)};
    const Tensor *both[3] = {&t->next, &half[0], &half[1]};

    return rc < 0 ? rc : op_lincomb(t->be, &t->next, 3, (const double[]){0.99, 0.5, -0.6}, both, err);
}

int task_run(Task *t, Err *err)
{
    const Size *z = t->size;
    double loss, norm, lr;
    int rc;

    if (is_training(t->kind))
        rc = train_step(&t->train, &t->batch, &loss, &norm, &lr, err);
    else if (t->kind == TASK_SAMPLE)
        rc = sample_step(t, err);
    else if (t->kind == TASK_TEXT)
        rc = t5_encode(t->t5, t->work, t->out, t->ids, NULL, z->dit.text_len, err);
    else if (t->kind == TASK_ENCODE)
        rc = vae_encode(t->vae, t->work, NULL, t->out, t->in, z->frames, z->height, z->width, err);
    else
        rc = vae_decode(t->vae, t->work, NULL, t->out, t->in, t->latent_frames, t->h, t->w, err);
    return rc < 0 ? rc : t->be->sync(t->be, err);
}

int64_t task_work_bytes(const Task *t)
{
    return arena_high(t->work);
}

int64_t task_kept_bytes(const Task *t)
{
    const ParamSet *ps = t->dit ? dit_params(t->dit) : t->vae ? vae_params(t->vae) : t5_params(t->t5);
    int64_t bytes = 0;

    if (is_training(t->kind))
        return 18 * ps->flat; /* F32 master weights, gradients, two moments; bf16 weights */
    for (int64_t i = 0; i < ps->n; i++)
        bytes += tensor_count(&ps->param[i].value) * (ps->param[i].rank >= 2 ? 2 : 4);
    return bytes;
}

void task_close(Task **out)
{
    Task *t = *out;

    if (!t)
        return;
    train_fini(&t->train);
    schedule_fini(&t->schedule);
    dit_close(&t->dit);
    vae_close(&t->vae);
    t5_close(&t->t5);
    arena_free(&t->work);
    mem_free_aligned(t->in);
    mem_free_aligned(t->out);
    mem_free(t->ids);
    mem_free(t);
    *out = NULL;
}
