/* Decoding with a pipeline's VAE, and which parts hold memory at the same time. */
#include "common/base/mem.h"
#include "infer/pipeline_internal.h"

int pipeline_plan_decode(Pipeline *p, int64_t *bytes, Err *err)
{
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    return vae_plan_decode(&p->vae_config, p->be->act, &tiling, p->s.latent_frames, p->s.height / 8, p->s.width / 8,
                           bytes, err);
}

/* ---- turns ----------------------------------------------------------------------------------- */

void pipeline_drop_dit(Pipeline *p)
{
    arena_free(&p->dit_arena);
    dit_close(&p->dit);
}

void pipeline_drop_vae(Pipeline *p)
{
    arena_free(&p->vae_arena);
    vae_close(&p->vae);
}

void pipeline_before_denoising(Pipeline *p)
{
    if (p->s.offload == OFFLOAD_ALWAYS)
        pipeline_drop_vae(p);
    else if (p->s.offload == OFFLOAD_AUTO && p->be->host)
        arena_free(&p->vae_arena);
}

/* On the host weights are mapped files, which cost nothing while they lie unused. */
static void before_decoding(Pipeline *p)
{
    if (p->s.offload == OFFLOAD_ALWAYS)
        pipeline_drop_dit(p);
    else if (p->s.offload == OFFLOAD_AUTO && p->be->host)
        arena_free(&p->dit_arena);
}

/* The VAE, and its working memory of `bytes`. */
static int open_vae(Pipeline *p, int64_t bytes, Err *err)
{
    int rc = p->vae ? 0 : vae_open(&p->vae, p->be, p->vae_dir, VAE_DECODES, err);
    if (rc == 0 && !p->vae_arena)
        rc = arena_new(&p->vae_arena, p->be, bytes, "VAE decoding", err);
    if (rc < 0)
        pipeline_drop_vae(p);
    return rc;
}

/* The same; where memory is short with the transformer in it and `auto` allows, without that. */
static int take_turn(Pipeline *p, Err *err)
{
    int64_t bytes;
    Err first = {0};
    int rc = pipeline_plan_decode(p, &bytes, err);
    if (rc < 0)
        return rc;
    before_decoding(p);
    rc = open_vae(p, bytes, &first);
    if (rc == ERR_NOMEM && p->s.offload == OFFLOAD_AUTO && p->dit) {
        log_info(p->log, "the transformer leaves memory while the VAE decodes: %s", first.msg);
        pipeline_drop_dit(p);
        return open_vae(p, bytes, err);
    }
    return rc < 0 ? err_set(err, rc, "%s", first.msg) : 0;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* out [frames,H,W,3] <- L latent frames, with working memory for them. */
static int decode(const Pipeline *p, Arena *work, const float *latents, int64_t L, float *out, Err *err)
{
    int64_t h = p->s.height / 8, w = p->s.width / 8, n = L * h * w * p->vae_config.latent_channels;
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    float *z = mem_calloc(n, sizeof *z, err), inverse = (float)(1.0 / p->vae_config.scaling_factor);
    int rc = z ? 0 : ERR_NOMEM;
    for (int64_t i = 0; z && i < n; i++)
        z[i] = latents[i] * inverse;
    if (rc == 0)
        rc = vae_decode(p->vae, work, &tiling, out, z, L, h, w, err);
    mem_free(z);
    return rc;
}

int pipeline_decode(Pipeline *p, const float *latents, uint8_t *rgb, float *pixels, Err *err)
{
    int64_t frame = p->s.height * p->s.width * 3;
    int rc = take_turn(p, err);
    if (rc < 0)
        return rc;
    float *out = pixels ? pixels : mem_calloc(p->s.model_frames * frame, sizeof *out, err);
    rc = out ? decode(p, p->vae_arena, latents, p->s.latent_frames, out, err) : ERR_NOMEM;
    if (rc == 0)
        pixels_to_rgb(rgb, out, p->s.num_frames * frame); /* drops the extra frame of model_frames */
    if (out != pixels)
        mem_free(out);
    return rc;
}

int pipeline_decode_still(Pipeline *p, const float *latents, uint8_t *rgb, Err *err)
{
    int64_t h = p->s.height / 8, w = p->s.width / 8, frame = p->s.height * p->s.width * 3, bytes;
    int64_t middle = p->s.latent_frames / 2 * h * w * p->vae_config.latent_channels;
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    Arena *work = NULL;
    float *out = mem_calloc(frame, sizeof *out, err);
    int rc = out ? vae_plan_decode(&p->vae_config, p->be->act, &tiling, 1, h, w, &bytes, err) : ERR_NOMEM;
    if (rc == 0 && !p->vae)
        rc = vae_open(&p->vae, p->be, p->vae_dir, VAE_DECODES, err);
    if (rc == 0)
        rc = arena_new(&work, p->be, bytes, "VAE decoding", err);
    if (rc == 0)
        rc = decode(p, work, latents + middle, 1, out, err);
    if (rc == 0)
        pixels_to_rgb(rgb, out, frame);
    arena_free(&work);
    if (p->s.offload == OFFLOAD_ALWAYS)
        pipeline_drop_vae(p);
    mem_free(out);
    return rc;
}
