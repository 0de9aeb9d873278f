/* Latent layouts. Host memory, float32. */
#ifndef WEFT_COMMON_MODEL_LATENTS_H
#define WEFT_COMMON_MODEL_LATENTS_H
#include <stdint.h>
/* out [F,H,W,C] <- in [F,C,H,W] (the order torch noise, schedulers and the transformer of diffusers
 * use), and back. */
void latents_from_torch(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W);
void latents_to_torch(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W);
/* out [F,H,W,C] <- in [C,F,H,W] (the VAE's order in diffusers), and back. */
void latents_from_vae_order(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W);
void latents_to_vae_order(float *out, const float *in, int64_t F, int64_t C, int64_t H, int64_t W);
#endif
