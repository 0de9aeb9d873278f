#include "common/model/denoise.h"
#include <math.h>

#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/model/latents.h"
#include "common/ops/ops.h"

/* 2 when every step computes the guided pair, else 1. */
static int64_t batch_of(const DenoiseParams *p)
{
    return p->guidance > 1.0 ? 2 : 1;
}

/* One seed's stream of latent noise in diffusers' order [F,C,h,w]. */
typedef struct NoiseSource {
    TorchRng rng;
    Backend *be;
    int64_t F, h, w, C;
    float *torch, *ours; /* [F,C,h,w], [F,h,w,C] */
    int64_t draws;
} NoiseSource;

static int noise_open(NoiseSource *src, const DenoiseParams *p, uint64_t seed, Err *err)
{
    *src = (NoiseSource){.be = p->be, .F = p->F, .h = p->h, .w = p->w, .C = dit_config(p->dit)->in_channels};
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
    Tensor kept; /* of DitReuse, without .data when nothing is reused */
} LoopTensors;

static int take_tensors(const DenoiseParams *p, LoopTensors *t, Err *err)
{
    const DitConfig *c = dit_config(p->dit);
    int64_t B = batch_of(p), F = p->F, h = p->h, w = p->w, C = c->in_channels;
    Arena *a = p->work;
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
    t->kept = (Tensor){0};
    if (rc == 0 && p->reuse_every > 1)
        rc = arena_tensor(a, &t->kept, act, 3, err, B, c->text_len + F * (h / c->patch) * (w / c->patch),
                          c->heads * c->head_dim);
    return rc;
}

static int is_guided(const DenoiseParams *p, int64_t k)
{
    return p->guidance > 1.0 && k < p->steps - p->unguided;
}

/* Whether step k adds what an earlier step kept. */
static int reuses(const DenoiseParams *p, int64_t k)
{
    return p->reuse_every > 1 && k % p->reuse_every && is_guided(p, k) == is_guided(p, k - 1);
}

/* Sets up DitReuse for step k with its B rows of `kept`. */
static void set_reuse(const DenoiseParams *p, const LoopTensors *t, int64_t k, int64_t B, DitReuse *r)
{
    int64_t layers = dit_config(p->dit)->layers, first = layers / 4 > 1 ? layers / 4 : 1;
    if (!t->kept.rank || layers < 2)
        return;
    *r = (DitReuse){
        .first = first, .last = layers - layers / 4, .kept = tensor_rows(&t->kept, 0, B), .use = reuses(p, k)};
    dit_set_reuse(p->dit, r);
}

/* velocity = model(x, t) at step k, guided: v_u + g (v_t - v_u); unguided steps use the last row alone. */
static int velocity(const DenoiseParams *p, const LoopTensors *t, int64_t k, int64_t timestep, double g, Err *err)
{
    Backend *be = p->be;
    Arena *a = p->work;
    int64_t B = is_guided(p, k) ? 2 : 1, from = batch_of(p) - B;
    Tensor input = tensor_rows(&t->input, from, B), output = tensor_rows(&t->output, from, B),
           text = tensor_rows(&t->text, from, B);
    const int64_t steps[2] = {timestep, timestep};
    DitReuse reuse;
    int rc = 0;
    for (int64_t b = 0; b < B && rc == 0; b++) {
        Tensor one = tensor_rows(&input, b, 1);
        rc = op_copy(be, &one, &t->x, err);
    }
    int64_t mark = arena_mark(a);
    set_reuse(p, t, k, B, &reuse);
    if (rc == 0)
        rc = dit_forward(p->dit, a, &output, &input, &text, steps, err);
    dit_set_reuse(p->dit, NULL);
    arena_reset(a, mark);
    if (rc < 0)
        return rc;
    Tensor uncond = tensor_rows(&output, 0, 1), cond = tensor_rows(&output, B - 1, 1);
    if (B == 1)
        return op_copy(be, &t->velocity, &cond, err);
    const double coef[2] = {1.0 - g, g};
    const Tensor *x[2] = {&uncond, &cond};
    return op_lincomb(be, &t->velocity, 2, coef, x, err);
}

int denoise_plan(const DenoiseParams *p, Err *err)
{
    LoopTensors t;
    int64_t mark = arena_mark(p->work);
    int rc = take_tensors(p, &t, err);
    if (rc == 0)
        rc = velocity(p, &t, 0, 0, p->guidance, err);
    arena_reset(p->work, mark);
    return rc;
}

/* ---- the state between two steps ------------------------------------------------------------- */

int denoising_new(Denoising *d, int64_t n, Err *err)
{
    *d = (Denoising){0};
    d->latents = mem_calloc(n, sizeof(float), err);
    d->older = mem_calloc(n, sizeof(float), err);
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
static int one_step(const DenoiseParams *p, const LoopTensors *t, Sampler *sampler, NoiseSource *src, int64_t k,
                    Err *err)
{
    int64_t timestep = sampler_timestep(sampler, k);
    double g = guidance_at(p->guidance, p->dynamic_guidance, timestep, p->steps);
    int rc = velocity(p, t, k, timestep, g, err);
    return rc == 0 ? sampler_step(sampler, k, &t->x, &t->velocity, draw_noise, src, err) : rc;
}

/* The current estimate, to the hook that is due after this step. */
static int show(const DenoiseParams *p, const Sampler *sampler, int64_t done, const StepHooks *hooks, Err *err)
{
    if (!hooks || !hooks->show || hooks->show_every < 1 || done % hooks->show_every || done == p->steps)
        return 0;
    Tensor x0 = sampler_estimate(sampler);
    float *host = mem_calloc(tensor_count(&x0), sizeof *host, err);
    int rc = host ? backend_get_f32(p->be, host, &x0, err) : ERR_NOMEM;
    if (rc == 0)
        rc = hooks->show(hooks->user, done, host, err);
    mem_free(host);
    return rc;
}

/* A damaged weight shows in the first step: it is not worth hours to find it in the last. */
static int check_first(const DenoiseParams *p, const LoopTensors *t, Denoising *d, Err *err)
{
    int rc = backend_get_f32(p->be, d->latents, &t->x, err);
    return rc == 0 ? check_finite(d->latents, tensor_count(&t->x), err) : rc;
}

/* A step that reuses what an earlier one kept cannot be the first after a stop, so with reuse the state is
 * that of the last step before one that computes everything, and *d always has it. */
/* Steps d->step to the last one.  *done: how many are done when it returns. */
static int loop(const DenoiseParams *p, const LoopTensors *t, Sampler *sampler, NoiseSource *src, Denoising *d,
                int64_t *done, const StepHooks *hooks, Err *err)
{
    double kept_at = time_now_s();
    for (*done = d->step; *done < p->steps;) {
        int rc = one_step(p, t, sampler, src, *done, err);
        if (rc < 0)
            return rc;
        ++*done;
        if (*done == 1 && (rc = check_first(p, t, d, err)) < 0)
            return rc;
        if (hooks && hooks->on_step)
            hooks->on_step(hooks->user, *done);
        if ((rc = show(p, sampler, *done, hooks, err)) < 0)
            return rc;
        int boundary = p->reuse_every < 2 || *done % p->reuse_every == 0;
        if (p->reuse_every > 1 && boundary && (rc = fetch_state(d, *done, src, sampler, &t->x, err)) < 0)
            return rc;
        if (hooks && hooks->keep && *done < p->steps && boundary && time_now_s() - kept_at >= hooks->keep_every_s) {
            rc = p->reuse_every > 1 ? 0 : fetch_state(d, *done, src, sampler, &t->x, err);
            if (rc == 0)
                rc = hooks->keep(hooks->user, d, err);
            if (rc < 0)
                return rc;
            kept_at = time_now_s();
        }
    }
    return 0;
}

int denoise_run(const DenoiseParams *p, const float *embeds, const float *negative, uint64_t seed, Denoising *d,
                const StepHooks *hooks, Err *err)
{
    Backend *be = p->be;
    NoiseSource src = {0};
    Sampler *sampler = NULL;
    LoopTensors t;
    int64_t B = batch_of(p), done = 0, mark = arena_mark(p->work);
    int rc;
    if ((rc = noise_open(&src, p, seed, err)) < 0 || (rc = take_tensors(p, &t, err)) < 0)
        goto fail;
    Tensor row = tensor_rows(&t.text, 0, 1);
    if (B == 2 && (rc = backend_put_f32(be, &row, negative, err)) < 0)
        goto fail;
    row = tensor_rows(&t.text, B - 1, 1);
    if ((rc = backend_put_f32(be, &row, embeds, err)) < 0)
        goto fail;
    if ((rc = sampler_new(&sampler, be, p->schedule, p->sampler, p->steps, &t.x, err)) < 0 ||
        (rc = start(d, &src, sampler, &t.x, err)) < 0)
        goto fail;
    rc = loop(p, &t, sampler, &src, d, &done, hooks, err);
    if (rc == 0 || (rc == ERR_INTERRUPTED && done > 0 && p->reuse_every < 2)) {
        int fetched = fetch_state(d, done, &src, sampler, &t.x, err);
        rc = rc == 0 ? fetched : rc;
    }
    if (rc == 0 && (rc = check_finite(d->latents, tensor_count(&t.x), err)) < 0)
        d->step = 0; /* there is nothing worth keeping */
fail:
    arena_reset(p->work, mark);
    sampler_free(&sampler);
    noise_close(&src);
    return rc;
}
