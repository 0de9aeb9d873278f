/* The denoising loop: from torch's noise to latents.  It can stop after any step and go on from there to the
 * same bits. */
#ifndef WEFT_COMMON_MODEL_DENOISE_H
#define WEFT_COMMON_MODEL_DENOISE_H
#include "common/model/dit.h"
#include "common/model/schedule.h"

typedef struct DenoiseParams {
    Backend *be;
    Dit *dit;                 /* on be */
    const Schedule *schedule; /* not read by denoise_plan */
    Arena *work;              /* denoise_plan says how large; left as it was */
    int64_t F, h, w;          /* of the latents */
    SamplerKind sampler;
    int64_t steps;
    double guidance; /* above 1: every step computes the prompt's and the negative prompt's velocity */
    int dynamic_guidance;
    /* Faster and not exact; 0: neither.  The last `unguided` steps go without guidance.  Of each
     * `reuse_every` steps all but the first add what the middle half of the blocks added in that one. */
    int64_t unguided, reuse_every;
} DenoiseParams;

/* The state of one sample between two denoising steps, in host memory. */
typedef struct Denoising {
    int64_t step;   /* steps done; at 0 the other fields mean nothing */
    int64_t draws;  /* how often noise of the latents' size was drawn */
    float *latents; /* [F,h,w,C] */
    float *older;   /* [F,h,w,C]: the x0 of the previous step (DPM only), if has_older */
    int has_older;
} Denoising;
/* For n = F h w C values. */
WEFT_MUST_CHECK int denoising_new(Denoising *d, int64_t n, Err *err);
void denoising_fini(Denoising *d); /* also after a failed denoising_new */

typedef struct StepHooks {
    void *user;
    void (*on_step)(void *user, int64_t step); /* or NULL */
    /* or NULL; called between two steps with the state so far, keep_every_s seconds apart or more */
    int (*keep)(void *user, const Denoising *d, Err *err);
    double keep_every_s;
    /* or NULL; called after each `show_every` steps but the last with the estimate x0 [F,h,w,C] of the result
     * (host, until it returns) */
    int (*show)(void *user, int64_t step, const float *x0, Err *err);
    int64_t show_every;
} StepHooks;

/* Takes what one step takes from `work`: on the plan back end, arena_high is then what denoise_run needs. */
WEFT_MUST_CHECK int denoise_plan(const DenoiseParams *p, Err *err);
/* Does all steps from d->step on; step 0 starts from torch's noise of `seed`.  embeds and negative (not
 * read without guidance) are [text_len, text_dim].  ERR_INTERRUPTED (the back end's `stop` or a hook said
 * so): *d is the state after the last whole step, and calling again with it ends in the same bits as a run
 * without a stop.  hooks may be NULL. */
WEFT_MUST_CHECK int denoise_run(const DenoiseParams *p, const float *embeds, const float *negative, uint64_t seed,
                                Denoising *d, const StepHooks *hooks, Err *err);
#endif
