#include "common/model/latents.h"

/* out [A,N,C] <- in [A,C,N]: with A = F it is the frame-major order, with A = 1 the VAE's. */
static void channels_last(float *out, const float *in, int64_t A, int64_t C, int64_t N)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < N; i++)
                out[(a * N + i) * C + c] = in[(a * C + c) * N + i];
}

static void channels_first(float *out, const float *in, int64_t A, int64_t C, int64_t N)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < N; i++)
                out[(a * C + c) * N + i] = in[(a * N + i) * C + c];
}

void latents_from_torch(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W)
{
    channels_last(out, in, F, C, H * W);
}

void latents_to_torch(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W)
{
    channels_first(out, in, F, C, H * W);
}

void latents_from_vae_order(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W)
{
    channels_last(out, in, 1, C, F * H * W);
}

void latents_to_vae_order(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W)
{
    channels_first(out, in, 1, C, F * H * W);
}
