/* The denoising loop's body: what DDIM and DPM do with one guided velocity. */
#include "common/base/mem.h"
#include "common/model/schedule.h"
#include "common/ops/ops.h"

struct Sampler {
    Backend *be;
    const Schedule *schedule; /* borrowed */
    SamplerKind kind;
    int64_t n_steps, *timestep;
    void *block;              /* x0, x0_old, noise: F32 each */
    Tensor x0, x0_old, noise; /* x0_old.data NULL until a step has been done; DDIM has x0 alone */
    void *old_data;
};

int sampler_new(Sampler **out, Backend *be, const Schedule *s, SamplerKind kind, int64_t n_steps, const Tensor *like,
                Err *err)
{
    Sampler *p;
    int64_t count = tensor_count(like), bytes, stride;
    int rc = ERR_NOMEM;

    *out = NULL;
    if (n_steps < 1 || n_steps > s->n_train)
        return err_set(err, ERR_USAGE, "%" PRId64 " sampling steps, expected 1 to %" PRId64, n_steps, s->n_train);
    if (!(p = mem_calloc(1, sizeof *p, err)))
        return ERR_NOMEM;
    p->be = be;
    p->schedule = s;
    p->kind = kind;
    p->n_steps = n_steps;
    if (!(p->timestep = mem_calloc(n_steps, sizeof *p->timestep, err)))
        goto fail;
    if ((rc = schedule_timesteps(s, n_steps, p->timestep, err)) < 0)
        goto fail;
    if (mem_mul(count, (int64_t)sizeof(float), &stride) < 0 || mem_add(stride, 63, &stride) < 0) {
        rc = err_set(err, ERR_LIMIT, "sampler: %" PRId64 " latent values are too many", count);
        goto fail;
    }
    stride = stride / 64 * 64; /* each part on its own cache line */
    if (mem_mul(stride, kind == SAMPLER_DPM ? 3 : 1, &bytes) < 0) {
        rc = err_set(err, ERR_LIMIT, "sampler: %" PRId64 " latent values are too many", count);
        goto fail;
    }
    if ((rc = be->alloc(be, bytes, &p->block, err)) < 0)
        goto fail;
    p->x0 = tensor_view(p->block, DT_F32, like->rank, like->dim);
    p->x0_old = p->noise = p->x0;
    p->x0_old.data = NULL;
    if (kind == SAMPLER_DPM && p->block) {
        p->old_data = (char *)p->block + stride;
        p->noise.data = (char *)p->block + 2 * stride;
    }
    *out = p;
    return 0;
fail:
    sampler_free(&p);
    return rc;
}

void sampler_free(Sampler **p)
{
    if (!*p)
        return;
    if ((*p)->block)
        (*p)->be->release((*p)->be, (*p)->block);
    mem_free((*p)->timestep);
    mem_free(*p);
    *p = NULL;
}

int64_t sampler_timestep(const Sampler *p, int64_t k)
{
    return k >= 0 && k < p->n_steps ? p->timestep[k] : -1;
}

Tensor sampler_state(const Sampler *p)
{
    return p->x0_old;
}

Tensor sampler_estimate(const Sampler *p)
{
    return p->kind == SAMPLER_DPM ? p->x0_old : p->x0;
}

int sampler_resume(Sampler *p, const float *x0_old, Err *err)
{
    if (p->kind != SAMPLER_DPM)
        return err_set(err, ERR_USAGE, "the DDIM sampler keeps nothing between steps");
    p->x0_old.data = p->old_data;
    return backend_put_f32(p->be, &p->x0_old, x0_old, err);
}

static int step_ddim(Sampler *p, int64_t t, const Tensor *x, Err *err)
{
    DdimStep c = ddim_step(p->schedule, t, p->n_steps);

    return op_lincomb(p->be, x, 2, (const double[]){c.a, c.b}, (const Tensor *const[]){x, &p->x0}, err);
}

static int step_dpm(Sampler *p, int64_t k, const Tensor *x, NoiseFn noise, void *user, Err *err)
{
    int64_t t = p->timestep[k], n = p->schedule->n_train / p->n_steps;
    /* both the reference's condition for the second-order formula and for its second draw */
    int second = p->x0_old.data && t - n >= 0;
    DpmStep c = dpm_step(p->schedule, t, p->x0_old.data && k > 0 ? p->timestep[k - 1] : -1, p->n_steps);
    Tensor spare;
    int rc;

    if (!noise)
        return err_set(err, ERR_USAGE, "the DPM sampler needs a source of noise");
    if ((rc = noise(user, &p->noise, err)) < 0)
        return rc;
    if (second && (rc = noise(user, &p->noise, err)) < 0) /* the reference throws the first draw away */
        return rc;
    if (second)
        rc = op_lincomb(p->be, x, 4, (const double[]){c.c1, -c.c2 * c.c3, c.c2 * c.c4, c.cn},
                        (const Tensor *const[]){x, &p->x0, &p->x0_old, &p->noise}, err);
    else
        rc = op_lincomb(p->be, x, 3, (const double[]){c.c1, -c.c2, c.cn}, (const Tensor *const[]){x, &p->x0, &p->noise},
                        err);
    if (rc < 0)
        return rc;
    spare = p->x0; /* x0 becomes x0_old; the older one's place is free for the next x0 */
    p->x0.data = p->x0_old.data ? p->x0_old.data : p->old_data;
    p->x0_old = spare;
    return 0;
}

int sampler_step(Sampler *p, int64_t k, const Tensor *x, const Tensor *v, NoiseFn noise, void *user, Err *err)
{
    double sqrt_a, sqrt_1a;
    int rc;

    if (k < 0 || k >= p->n_steps)
        return err_set(err, ERR_USAGE, "sampling step %" PRId64 ", expected 0 to %" PRId64, k, p->n_steps - 1);
    if (!tensor_same_shape(x, &p->x0) || !tensor_same_shape(v, &p->x0))
        return err_set(err, ERR_USAGE,
                       "sampling step %" PRId64 ": latents and velocity must have the shape the sampler was made for",
                       k);
    velocity_coefficients(p->schedule, p->timestep[k], &sqrt_a, &sqrt_1a);
    if ((rc = op_lincomb(p->be, &p->x0, 2, (const double[]){sqrt_a, -sqrt_1a}, (const Tensor *const[]){x, v}, err)) < 0)
        return rc;
    return p->kind == SAMPLER_DPM ? step_dpm(p, k, x, noise, user, err) : step_ddim(p, p->timestep[k], x, err);
}
