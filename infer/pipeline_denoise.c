/* The denoising loop.  It can stop after any step and go on from there to the same bits. */
#include <math.h>

#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/model/latents.h"
#include "common/ops/ops.h"
#include "infer/pipeline_internal.h"

/* One seed's stream of latent noise in diffusers' order [F,C,h,w]. */
typedef struct NoiseSource {
    TorchRng rng;
    Backend *be;
    int64_t F, h, w, C;
    float *torch, *ours; /* [F,C,h,w], [F,h,w,C] */
    int64_t draws;
} NoiseSource;

static int noise_open(NoiseSource *src, Pipeline *p, uint64_t seed, Err *err)
{
    *src = (NoiseSource){.be = p->be,
                         .F = p->s.latent_frames,
                         .h = p->s.height / 8,
                         .w = p->s.width / 8,
                         .C = p->dit_config.in_channels};
    int64_t n = src->F * src->h * src->w * src->C;
    torch_seed(&src->rng, seed);
    src->torch = mem_calloc(n, sizeof(float), err);
    src->ours = mem_calloc(n, sizeof(float), err);
    return src->torch && src->ours ? 0 : ERR_NOMEM;
}

static void noise_close(NoiseSource *src)
{
    mem_free(src->torch);
    mem_free(src->ours);
}

static void draw(NoiseSource *src)
{
    torch_randn(&src->rng, src->torch, src->F * src->C * src->h * src->w);
    src->draws++;
}

static int draw_noise(void *user, const Tensor *out, Err *err)
{
    NoiseSource *src = user;
    draw(src);
    latents_from_torch(src->ours, src->torch, src->F, src->C, src->h, src->w);
    return backend_put_f32(src->be, out, src->ours, err);
}

/* Tensors of the loop: latents x, model input (the same twice when guided), model output, text,
 * guided velocity. */
typedef struct LoopTensors {
    Tensor x, input, output, text, velocity;
} LoopTensors;

static int take_tensors(Pipeline *p, Arena *a, int64_t B, LoopTensors *t, Err *err)
{
    const DitConfig *c = &p->dit_config;
    int64_t F = p->s.latent_frames, h = p->s.height / 8, w = p->s.width / 8, C = c->in_channels;
    DType act = p->be->act;
    int rc = arena_tensor(a, &t->x, DT_F32, 5, err, 1, F, h, w, C);
    if (rc == 0)
        rc = arena_tensor(a, &t->velocity, DT_F32, 5, err, 1, F, h, w, C);
    if (rc == 0)
        rc = arena_tensor(a, &t->input, act, 5, err, B, F, h, w, C);
    if (rc == 0)
        rc = arena_tensor(a, &t->output, act, 5, err, B, F, h, w, C);
    if (rc == 0)
        rc = arena_tensor(a, &t->text, act, 3, err, B, c->text_len, c->text_dim);
    return rc;
}

/* velocity = model(x, t), guided: v_u + g (v_t - v_u). */
static int velocity(Pipeline *p, Dit *dit, Arena *a, int64_t B, const LoopTensors *t, int64_t timestep, double g,
                    Err *err)
{
    Backend *be = p->be;
    const int64_t steps[2] = {timestep, timestep};
    int rc = 0;
    for (int64_t b = 0; b < B && rc == 0; b++) {
        Tensor one = tensor_rows(&t->input, b, 1);
        rc = op_copy(be, &one, &t->x, err);
    }
    int64_t mark = arena_mark(a);
    if (rc == 0)
        rc = dit_forward(dit, a, &t->output, &t->input, &t->text, steps, err);
    arena_reset(a, mark);
    if (rc < 0)
        return rc;
    Tensor uncond = tensor_rows(&t->output, 0, 1), cond = tensor_rows(&t->output, B - 1, 1);
    if (B == 1)
        return op_copy(be, &t->velocity, &cond, err);
    const double coef[2] = {1.0 - g, g};
    const Tensor *x[2] = {&uncond, &cond};
    return op_lincomb(be, &t->velocity, 2, coef, x, err);
}

/* 2 when every step computes the guided pair, else 1. */
static int64_t batch_of(const Pipeline *p)
{
    return p->s.guidance > 1.0 ? 2 : 1;
}

int pipeline_plan_denoise(Pipeline *p, int64_t *bytes, Err *err)
{
    Backend *plan = NULL, *real = p->be;
    Arena *a = NULL;
    Dit *dit = NULL;
    LoopTensors t;
    int rc = backend_open(&plan, "plan", 1, NULL, err);
    if (rc < 0)
        return rc;
    plan->act = real->act;
    p->be = plan;
    rc = dit_open(&dit, plan, p->dit_dir, DIT_MAPPED, err);
    if (rc == 0)
        rc = arena_new(&a, plan, 0, "denoising", err);
    if (rc == 0)
        rc = take_tensors(p, a, batch_of(p), &t, err);
    if (rc == 0)
        rc = velocity(p, dit, a, batch_of(p), &t, 0, p->s.guidance, err);
    if (rc == 0)
        *bytes = arena_high(a);
    p->be = real;
    arena_free(&a);
    dit_close(&dit);
    backend_close(&plan);
    return rc;
}

static int open_dit(Pipeline *p, Err *err)
{
    int64_t bytes = 0;
    if (p->dit)
        return 0;
    int rc = pipeline_plan_denoise(p, &bytes, err);
    if (rc == 0)
        rc = dit_open(&p->dit, p->be, p->dit_dir, DIT_MAPPED, err);
    if (rc == 0)
        rc = arena_new(&p->dit_arena, p->be, bytes, "denoising", err);
    if (rc < 0)
        dit_close(&p->dit);
    return rc;
}

/* ---- the state between two steps ------------------------------------------------------------- */

static int64_t latent_count(const Pipeline *p)
{
    return p->s.latent_frames * (p->s.height / 8) * (p->s.width / 8) * p->dit_config.in_channels;
}

int denoising_init(Denoising *d, const Pipeline *p, Err *err)
{
    *d = (Denoising){0};
    d->latents = mem_calloc(latent_count(p), sizeof(float), err);
    d->older = mem_calloc(latent_count(p), sizeof(float), err);
    return d->latents && d->older ? 0 : ERR_NOMEM;
}

void denoising_fini(Denoising *d)
{
    mem_free(d->latents);
    mem_free(d->older);
    *d = (Denoising){0};
}

/* Noise at step 0; later the state as it was after d->step steps: the noise drawn since is drawn
 * again, so that the stream goes on where it stopped. */
static int start(const Denoising *d, NoiseSource *src, Sampler *sampler, const Tensor *x, Err *err)
{
    if (d->step == 0)
        return draw_noise(src, x, err);
    while (src->draws < d->draws)
        draw(src);
    int rc = backend_put_f32(src->be, x, d->latents, err);
    return rc == 0 && d->has_older ? sampler_resume(sampler, d->older, err) : rc;
}

/* The state after `step` steps, to host memory. */
static int fetch_state(Denoising *d, int64_t step, const NoiseSource *src, const Sampler *sampler, const Tensor *x,
                       Err *err)
{
    Tensor older = sampler_state(sampler);
    int rc = backend_get_f32(src->be, d->latents, x, err);
    if (rc == 0 && older.data)
        rc = backend_get_f32(src->be, d->older, &older, err);
    d->has_older = older.data != NULL;
    d->step = rc == 0 ? step : 0;
    d->draws = src->draws;
    return rc;
}

static int check_finite(const float *x, int64_t n, Err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return err_set(
                err, ERR_FORMAT,
                "sampling gave a value that is not finite: a weight is damaged, or guidance_scale too large");
    return 0;
}

/* One guided step; latents x are the same as before when it fails, unless the device failed. */
static int one_step(Pipeline *p, const LoopTensors *t, Sampler *sampler, NoiseSource *src, int64_t k, Err *err)
{
    int64_t timestep = sampler_timestep(sampler, k);
    double g = guidance_at(p->s.guidance, p->s.dynamic_guidance, timestep, p->s.steps);
    int rc = velocity(p, p->dit, p->dit_arena, batch_of(p), t, timestep, g, err);
    return rc == 0 ? sampler_step(sampler, k, &t->x, &t->velocity, draw_noise, src, err) : rc;
}

/* Steps d->step to the last one.  *done: how many are done when it returns. */
static int loop(Pipeline *p, const LoopTensors *t, Sampler *sampler, NoiseSource *src, Denoising *d, int64_t *done,
                const StepHooks *hooks, Err *err)
{
    double kept_at = time_now_s();
    for (*done = d->step; *done < p->s.steps;) {
        int rc = one_step(p, t, sampler, src, *done, err);
        if (rc < 0)
            return rc;
        ++*done;
        if (hooks && hooks->on_step)
            hooks->on_step(hooks->user, *done);
        if (hooks && hooks->keep && *done < p->s.steps && time_now_s() - kept_at >= hooks->keep_every_s) {
            rc = fetch_state(d, *done, src, sampler, &t->x, err);
            if (rc == 0)
                rc = hooks->keep(hooks->user, d, err);
            if (rc < 0)
                return rc;
            kept_at = time_now_s();
        }
    }
    return 0;
}

int pipeline_denoise(Pipeline *p, const float *embeds, const float *negative, uint64_t seed, Denoising *d,
                     const StepHooks *hooks, Err *err)
{
    Backend *be = p->be;
    NoiseSource src = {0};
    Sampler *sampler = NULL;
    LoopTensors t;
    int64_t B = batch_of(p), done = 0;
    int rc = open_dit(p, err);
    if (rc < 0)
        return rc;
    if ((rc = noise_open(&src, p, seed, err)) < 0 || (rc = take_tensors(p, p->dit_arena, B, &t, err)) < 0)
        goto fail;
    Tensor row = tensor_rows(&t.text, 0, 1);
    if (B == 2 && (rc = backend_put_f32(be, &row, negative, err)) < 0)
        goto fail;
    row = tensor_rows(&t.text, B - 1, 1);
    if ((rc = backend_put_f32(be, &row, embeds, err)) < 0)
        goto fail;
    if ((rc = sampler_new(&sampler, be, &p->schedule, p->s.sampler, p->s.steps, &t.x, err)) < 0 ||
        (rc = start(d, &src, sampler, &t.x, err)) < 0)
        goto fail;
    rc = loop(p, &t, sampler, &src, d, &done, hooks, err);
    if (rc == 0 || (rc == ERR_INTERRUPTED && done > 0)) {
        int fetched = fetch_state(d, done, &src, sampler, &t.x, err);
        rc = rc == 0 ? fetched : rc;
    }
    if (rc == 0 && (rc = check_finite(d->latents, latent_count(p), err)) < 0)
        d->step = 0; /* there is nothing worth keeping */
fail:
    arena_reset(p->dit_arena, 0);
    sampler_free(&sampler);
    noise_close(&src);
    return rc;
}
