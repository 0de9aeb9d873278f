/* Noise schedule and samplers of CogVideoX: MODEL.md 4.  All coefficients in double. */
#ifndef WEFT_COMMON_MODEL_SCHEDULE_H
#define WEFT_COMMON_MODEL_SCHEDULE_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/ops/backend.h"

typedef enum { SPACING_TRAILING, SPACING_LINSPACE, SPACING_LEADING } TimestepSpacing;

typedef struct Schedule {
    int64_t n_train;    /* 1000 */
    double *alpha_bar;  /* [n_train], after SNR shift and zero-terminal rescaling */
    double final_alpha; /* 1 with set_alpha_to_one, else alpha_bar[0] */
    TimestepSpacing spacing;
    int64_t steps_offset;
    int dpm; /* the folder's class was CogVideoXDPMScheduler */
} Schedule;

/* The values of CogVideoX-2B. */
WEFT_MUST_CHECK int schedule_init_default(Schedule *s, Err *err);
/* From FOLDER/scheduler_config.json; refuses what the maths here does not cover (other prediction
 * types, beta schedules). */
WEFT_MUST_CHECK int schedule_init_file(Schedule *s, const char *folder, Err *err);
void schedule_fini(Schedule *s);

/* t[0..n-1] for n sampling steps, descending.  n must be in 1..n_train and give n distinct
 * non-negative timesteps. */
WEFT_MUST_CHECK int schedule_timesteps(const Schedule *s, int64_t n, int64_t *t, Err *err);
/* Whether n sampling steps are possible, without the list: to be asked before any work. */
WEFT_MUST_CHECK int schedule_check_steps(const Schedule *s, int64_t n, Err *err);

/* x_prev = a*x + b*x0. */
typedef struct DdimStep {
    double a, b;
} DdimStep;
DdimStep ddim_step(const Schedule *s, int64_t t, int64_t n_steps);
/* x_prev = c1*x - c2*(c3*x0 - c4*x0_old) + cn*eps; infinities already replaced by their limits (first and
 * last step: c3 = 1, c4 = 0). */
typedef struct DpmStep {
    double c1, c2, c3, c4, cn;
} DpmStep;
/* t_back: the previous list entry, or -1 on the first step. */
DpmStep dpm_step(const Schedule *s, int64_t t, int64_t t_back, int64_t n_steps);
/* x0 = sqrt_a*x - sqrt_1a*v. */
void velocity_coefficients(const Schedule *s, int64_t t, double *sqrt_a, double *sqrt_1a);
/* The guidance of step t: g, or with dynamic guidance 1 + g(1-cos(pi((n-t)/n)^5))/2 in double. */
double guidance_at(double g, int dynamic, int64_t t, int64_t n_steps);

/* A whole sampler over latents on a back end, so that infer and tests run the same loop body. */
typedef struct Sampler Sampler;
typedef enum { SAMPLER_DDIM, SAMPLER_DPM } SamplerKind;
WEFT_MUST_CHECK int sampler_new(Sampler **out, Backend *be, const Schedule *s, SamplerKind kind, int64_t n_steps,
                                const Tensor *like, Err *err);
void sampler_free(Sampler **p);
int64_t sampler_timestep(const Sampler *p, int64_t k);
/* x <- step k given the guided velocity v.  For DPM `noise` draws standard normal values shaped
 * like x into the tensor, called once on the first and last step and twice on the others (the first
 * draw is thrown away), as the reference does. */
typedef int (*NoiseFn)(void *user, const Tensor *out, Err *err);
WEFT_MUST_CHECK int sampler_step(Sampler *p, int64_t k, const Tensor *x, const Tensor *v, NoiseFn noise, void *user,
                                 Err *err);
/* The x0 that the last step was taken towards: the current estimate of the result; NULL data before the
 * first step. */
Tensor sampler_estimate(const Sampler *p);
/* Sampler state (x0_old) for saving in the middle of a run; NULL data when there is none yet. */
Tensor sampler_state(const Sampler *p);
/* Puts a saved x0_old (host, as many values as the latents) into a new DPM sampler: its next step
 * is then the one after which the state was saved. */
WEFT_MUST_CHECK int sampler_resume(Sampler *p, const float *x0_old, Err *err);
#endif
