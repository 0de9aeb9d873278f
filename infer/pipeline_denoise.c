/* Denoising with a pipeline's transformer, which is loaded when it is first needed. */
#include <math.h>

#include "infer/pipeline_internal.h"

static DenoiseParams params_of(const Pipeline *p, Backend *be, Dit *dit, Arena *work)
{
    return (DenoiseParams){.be = be,
                           .dit = dit,
                           .schedule = &p->schedule,
                           .work = work,
                           .F = p->s.latent_frames,
                           .h = p->s.height / 8,
                           .w = p->s.width / 8,
                           .sampler = p->s.sampler,
                           .steps = p->s.steps,
                           .guidance = p->s.guidance,
                           .dynamic_guidance = p->s.dynamic_guidance,
                           .reuse_every = p->s.reuse_every};
}

int pipeline_plan_denoise(Pipeline *p, int64_t *bytes, Err *err)
{
    Backend *plan = NULL;
    Arena *a = NULL;
    Dit *dit = NULL;
    int rc = backend_open(&plan, "plan", 1, NULL, err);
    if (rc < 0)
        return rc;
    plan->act = p->be->act;
    rc = pipeline_open_dit(p, &dit, plan, err);
    if (rc == 0)
        rc = arena_new(&a, plan, 0, "denoising", err);
    if (rc == 0) {
        DenoiseParams one = params_of(p, plan, dit, a);
        rc = denoise_plan(&one, err);
    }
    if (rc == 0)
        *bytes = arena_high(a);
    arena_free(&a);
    dit_close(&dit);
    backend_close(&plan);
    return rc;
}

static int open_dit(Pipeline *p, Err *err)
{
    int64_t bytes = 0;
    if (p->dit && p->dit_arena)
        return 0;
    int rc = pipeline_plan_denoise(p, &bytes, err);
    if (rc == 0 && !p->dit)
        rc = pipeline_open_dit(p, &p->dit, p->be, err);
    if (rc == 0)
        rc = arena_new(&p->dit_arena, p->be, bytes, "denoising", err);
    if (rc < 0)
        dit_close(&p->dit);
    return rc;
}

/* The same; where memory is short with the VAE in it and `auto` allows, without that. */
static int take_turn(Pipeline *p, Err *err)
{
    Err first = {0};
    pipeline_before_denoising(p);
    int rc = open_dit(p, &first);
    if (rc == ERR_NOMEM && p->s.offload == OFFLOAD_AUTO && p->vae) {
        log_info(p->log, "the VAE leaves memory while the transformer denoises: %s", first.msg);
        pipeline_drop_vae(p);
        return open_dit(p, err);
    }
    return rc < 0 ? err_set(err, rc, "%s", first.msg) : 0;
}

void pipeline_set_steps(Pipeline *p, int64_t steps, double guidance)
{
    p->steps = steps;
    p->guidance = guidance;
}

void pipeline_set_exact(Pipeline *p, int exact)
{
    p->exact = exact;
}

int denoising_init(Denoising *d, const Pipeline *p, Err *err)
{
    return denoising_new(d, p->s.latent_frames * (p->s.height / 8) * (p->s.width / 8) * p->dit_config.in_channels, err);
}

int pipeline_denoise(Pipeline *p, const float *embeds, const float *negative, uint64_t seed, Denoising *d,
                     const StepHooks *hooks, Err *err)
{
    int rc = take_turn(p, err);
    if (rc < 0)
        return rc;
    DenoiseParams one = params_of(p, p->be, p->dit, p->dit_arena);
    one.steps = p->steps;
    one.guidance = p->guidance;
    if (p->s.guidance_share > 0)
        one.unguided = p->steps - (int64_t)ceil(p->s.guidance_share * (double)p->steps);
    if (p->exact)
        one.unguided = one.reuse_every = 0;
    return denoise_run(&one, embeds, negative, seed, d, hooks, err);
}
