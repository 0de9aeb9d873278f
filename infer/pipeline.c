#include "infer/pipeline.h"

#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/dit.h"
#include "common/model/latents.h"
#include "common/model/t5.h"
#include "common/model/vae.h"
#include "common/ops/ops.h"
#include "common/store/safetensors.h"
#include "common/text/t5_tokenizer.h"

struct Pipeline {
    Backend *be;
    const Log *log;
    SampleSettings s;
    char *tokenizer_dir, *text_dir, *dit_dir, *vae_dir, *scheduler_dir;
    DitConfig dit_config;
    VaeConfig vae_config;
    T5Config t5_config;
    Schedule schedule;
    T5Tokenizer *tokenizer;
    T5 *t5;
    Arena *t5_arena;
    Dit *dit;
    Arena *dit_arena;
    Vae *vae;
    Arena *vae_arena;
};

int sample_settings(SampleSettings *out, const Recipe *recipe, Err *err)
{
    SampleSettings s = {
        .width = recipe_int(recipe, "sampling.width"),
        .height = recipe_int(recipe, "sampling.height"),
        .num_frames = recipe_int(recipe, "sampling.num_frames"),
        .fps = recipe_num(recipe, "sampling.fps"),
        .steps = recipe_int(recipe, "sampling.num_inference_steps"),
        .guidance = recipe_num(recipe, "sampling.guidance_scale"),
        .dynamic_guidance = recipe_bool(recipe, "sampling.use_dynamic_cfg"),
        .tiling = recipe_bool(recipe, "sampling.vae_tiling"),
        .sampler = strcmp(recipe_str(recipe, "sampling.scheduler"), "dpm") == 0 ? SAMPLER_DPM : SAMPLER_DDIM,
    };
    if (s.width % 16 || s.height % 16)
        return err_set(err, ERR_USAGE, "sampling size %lldx%lld: width and height must be multiples of 16",
                       (long long)s.width, (long long)s.height);
    /* The clip's own pair of counts (48 from 49) where it applies; otherwise 8N+1 as it is, 8N from
     * one frame more. */
    if (s.num_frames == recipe_int(recipe, "clip.num_frames"))
        s.model_frames = recipe_int(recipe, "clip.model_frames");
    else
        s.model_frames = s.num_frames % 8 == 0 ? s.num_frames + 1 : s.num_frames;
    int rc = model_frames_check(s.model_frames, &s.latent_frames, err);
    if (rc < 0)
        return err_wrap(err, rc, "sampling.num_frames %lld", (long long)s.num_frames);
    *out = s;
    return 0;
}

/* CHECKPOINT/transformer when it is there, else CHECKPOINT itself when it holds a config.json. */
static int find_transformer(char **out, const char *folder, Err *err)
{
    char *sub = path_join(folder, "transformer", err), *config = path_join(folder, "config.json", err);
    int rc = 0;
    *out = NULL;
    if (!sub || !config)
        rc = ERR_NOMEM;
    else if (file_is_dir(sub)) {
        *out = sub;
        sub = NULL;
    } else if (file_exists(config))
        rc = (*out = mem_strdup(folder, err)) ? 0 : ERR_NOMEM;
    else
        rc = err_set(err, ERR_NOTFOUND, "checkpoint '%s': found neither transformer/ nor config.json in it", folder);
    mem_free(sub);
    mem_free(config);
    return rc;
}

static int read_config(json_t **out, const char *folder, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    int rc = path ? json_read_file(out, path, err) : ERR_NOMEM;
    mem_free(path);
    return rc;
}

static int read_configs(Pipeline *p, Err *err)
{
    json_t *dit = NULL, *vae = NULL, *t5 = NULL;
    int rc = read_config(&dit, p->dit_dir, err);
    if (rc == 0)
        rc = dit_config_parse(&p->dit_config, dit, p->dit_dir, err);
    if (rc == 0)
        rc = read_config(&vae, p->vae_dir, err);
    if (rc == 0)
        rc = vae_config_parse(&p->vae_config, vae, p->vae_dir, err);
    if (rc == 0)
        rc = read_config(&t5, p->text_dir, err);
    if (rc == 0)
        rc = t5_config_parse(&p->t5_config, t5, p->text_dir, err);
    json_decref(dit);
    json_decref(vae);
    json_decref(t5);
    if (rc < 0)
        return rc;
    if (p->dit_config.in_channels != p->vae_config.latent_channels ||
        p->dit_config.out_channels != p->vae_config.latent_channels)
        return err_set(err, ERR_FORMAT, "'%s' takes %lld and gives %lld latent channels, but '%s' has %lld", p->dit_dir,
                       (long long)p->dit_config.in_channels, (long long)p->dit_config.out_channels, p->vae_dir,
                       (long long)p->vae_config.latent_channels);
    if (p->dit_config.text_dim != p->t5_config.d_model)
        return err_set(err, ERR_FORMAT, "'%s' expects text vectors of %lld values, but '%s' gives %lld", p->dit_dir,
                       (long long)p->dit_config.text_dim, p->text_dir, (long long)p->t5_config.d_model);
    return 0;
}

int pipeline_open(Pipeline **out, Backend *be, const char *model, const char *checkpoint, const SampleSettings *s,
                  const Log *log, Err *err)
{
    *out = NULL;
    Pipeline *p = mem_calloc(1, sizeof *p, err);
    if (!p)
        return ERR_NOMEM;
    p->be = be;
    p->s = *s;
    p->log = log;
    int rc = 0;
    if (!file_is_dir(model)) {
        rc = err_set(err, ERR_NOTFOUND, "model folder '%s' does not exist", model);
        goto fail;
    }
    rc = find_transformer(&p->dit_dir, checkpoint ? checkpoint : model, err);
    if (rc < 0)
        goto fail;
    rc = ERR_NOMEM;
    if (!(p->tokenizer_dir = path_join(model, "tokenizer", err)) ||
        !(p->text_dir = path_join(model, "text_encoder", err)) || !(p->vae_dir = path_join(model, "vae", err)) ||
        !(p->scheduler_dir = path_join(model, "scheduler", err)))
        goto fail;
    if ((rc = read_configs(p, err)) < 0)
        goto fail;
    if ((rc = schedule_init_file(&p->schedule, p->scheduler_dir, err)) < 0)
        goto fail;
    *out = p;
    return 0;
fail:
    pipeline_close(&p);
    return rc;
}

void pipeline_drop_text_encoder(Pipeline *p)
{
    t5_close(&p->t5);
    arena_free(&p->t5_arena);
}

void pipeline_close(Pipeline **pp)
{
    Pipeline *p = *pp;
    if (!p)
        return;
    pipeline_drop_text_encoder(p);
    t5_tokenizer_close(&p->tokenizer);
    dit_close(&p->dit);
    arena_free(&p->dit_arena);
    vae_close(&p->vae);
    arena_free(&p->vae_arena);
    schedule_fini(&p->schedule);
    mem_free(p->tokenizer_dir);
    mem_free(p->text_dir);
    mem_free(p->dit_dir);
    mem_free(p->vae_dir);
    mem_free(p->scheduler_dir);
    mem_free(p);
    *pp = NULL;
}

PipelineSizes pipeline_sizes(const Pipeline *p)
{
    return (PipelineSizes){p->dit_config.text_len, p->dit_config.text_dim, p->vae_config.latent_channels,
                           p->s.height / 8, p->s.width / 8};
}

/* ---- text ------------------------------------------------------------------------------------ */

int pipeline_encode_text(Pipeline *p, const char *text, float *embeds, int64_t *cut, Err *err)
{
    int rc = 0;
    int64_t n = p->dit_config.text_len, used, bytes;
    if (!p->tokenizer && (rc = t5_tokenizer_open(&p->tokenizer, p->tokenizer_dir, err)) < 0)
        return rc;
    if (!p->t5) {
        if ((rc = t5_plan(&p->t5_config, p->be->act, n, &bytes, err)) < 0)
            return rc;
        if ((rc = arena_new(&p->t5_arena, p->be, bytes, "text encoder", err)) < 0)
            return rc;
        if ((rc = t5_open(&p->t5, p->be, p->text_dir, err)) < 0) {
            arena_free(&p->t5_arena);
            return rc;
        }
    }
    int32_t *ids = mem_calloc(n, sizeof *ids, err);
    if (!ids)
        return ERR_NOMEM;
    rc = t5_tokenizer_encode_padded(p->tokenizer, text, (int64_t)strlen(text), ids, n, &used, cut, err);
    if (rc == 0)
        rc = t5_encode(p->t5, p->t5_arena, embeds, ids, NULL, n, err);
    mem_free(ids);
    return rc;
}

/* ---- denoising ------------------------------------------------------------------------------- */

/* One seed's stream of latent noise in diffusers' order [F,C,h,w]. */
typedef struct NoiseSource {
    TorchRng rng;
    Backend *be;
    int64_t F, h, w, C;
    float *torch, *ours; /* [F,C,h,w], [F,h,w,C] */
} NoiseSource;

static int draw_noise(void *user, const Tensor *out, Err *err)
{
    NoiseSource *src = user;
    torch_randn(&src->rng, src->torch, src->F * src->C * src->h * src->w);
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

static int guided(const Pipeline *p)
{
    return p->s.guidance > 1.0;
}

static int plan_denoise(Pipeline *p, int64_t *bytes, Err *err)
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
    int64_t B = guided(p) ? 2 : 1;
    if (rc == 0)
        rc = take_tensors(p, a, B, &t, err);
    if (rc == 0)
        rc = velocity(p, dit, a, B, &t, 0, p->s.guidance, err);
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
    int rc = plan_denoise(p, &bytes, err);
    if (rc == 0)
        rc = dit_open(&p->dit, p->be, p->dit_dir, DIT_MAPPED, err);
    if (rc == 0)
        rc = arena_new(&p->dit_arena, p->be, bytes, "denoising", err);
    if (rc < 0)
        dit_close(&p->dit);
    return rc;
}

int pipeline_denoise(Pipeline *p, const float *embeds, const float *negative, uint64_t seed, float *latents,
                     StepFn on_step, void *user, Err *err)
{
    Backend *be = p->be;
    int64_t F = p->s.latent_frames, h = p->s.height / 8, w = p->s.width / 8, C = p->dit_config.in_channels;
    int64_t B = guided(p) ? 2 : 1, n = F * h * w * C;
    NoiseSource src = {.be = be, .F = F, .h = h, .w = w, .C = C};
    Sampler *sampler = NULL;
    LoopTensors t;
    int rc = open_dit(p, err);
    if (rc < 0)
        return rc;
    torch_seed(&src.rng, seed);
    src.torch = mem_calloc(n, sizeof(float), err);
    src.ours = mem_calloc(n, sizeof(float), err);
    if (!src.torch || !src.ours) {
        rc = ERR_NOMEM;
        goto fail;
    }
    if ((rc = take_tensors(p, p->dit_arena, B, &t, err)) < 0)
        goto fail;
    Tensor row = tensor_rows(&t.text, 0, 1);
    if (B == 2 && (rc = backend_put_f32(be, &row, negative, err)) < 0)
        goto fail;
    row = tensor_rows(&t.text, B - 1, 1);
    if ((rc = backend_put_f32(be, &row, embeds, err)) < 0)
        goto fail;
    if ((rc = sampler_new(&sampler, be, &p->schedule, p->s.sampler, p->s.steps, &t.x, err)) < 0)
        goto fail;
    if ((rc = draw_noise(&src, &t.x, err)) < 0)
        goto fail;
    for (int64_t k = 0; k < p->s.steps; k++) {
        int64_t step = sampler_timestep(sampler, k);
        double g = guidance_at(p->s.guidance, p->s.dynamic_guidance, step, p->s.steps);
        if ((rc = velocity(p, p->dit, p->dit_arena, B, &t, step, g, err)) < 0)
            goto fail;
        if ((rc = sampler_step(sampler, k, &t.x, &t.velocity, draw_noise, &src, err)) < 0)
            goto fail;
        if (on_step)
            on_step(user, k + 1);
    }
    rc = backend_get_f32(be, latents, &t.x, err);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        if (!isfinite(latents[i]))
            rc = err_set(err, ERR_FORMAT, "sampling gave values that are not finite: are the weights sound?");
fail:
    arena_reset(p->dit_arena, 0);
    sampler_free(&sampler);
    mem_free(src.torch);
    mem_free(src.ours);
    return rc;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int plan_decode(Pipeline *p, int64_t *bytes, Err *err)
{
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    return vae_plan_decode(&p->vae_config, p->be->act, &tiling, p->s.latent_frames, p->s.height / 8, p->s.width / 8,
                           bytes, err);
}

int pipeline_decode(Pipeline *p, const float *latents, uint8_t *rgb, float *pixels, Err *err)
{
    int64_t L = p->s.latent_frames, h = p->s.height / 8, w = p->s.width / 8, C = p->vae_config.latent_channels, bytes;
    int64_t frame = p->s.height * p->s.width * 3;
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    int rc = 0;
    if (!p->vae) {
        if ((rc = plan_decode(p, &bytes, err)) < 0)
            return rc;
        if ((rc = vae_open(&p->vae, p->be, p->vae_dir, err)) < 0)
            return rc;
        if ((rc = arena_new(&p->vae_arena, p->be, bytes, "VAE decoding", err)) < 0) {
            vae_close(&p->vae);
            return rc;
        }
    }
    float *z = mem_calloc(L * h * w * C, sizeof *z, err);
    float *out = pixels ? pixels : mem_calloc(p->s.model_frames * frame, sizeof *out, err);
    if (!z || !out) {
        rc = ERR_NOMEM;
        goto fail;
    }
    float inverse = (float)(1.0 / p->vae_config.scaling_factor);
    for (int64_t i = 0; i < L * h * w * C; i++)
        z[i] = latents[i] * inverse;
    if ((rc = vae_decode(p->vae, p->vae_arena, &tiling, out, z, L, h, w, err)) < 0)
        goto fail;
    pixels_to_rgb(rgb, out, p->s.num_frames * frame); /* a 49th frame for 48 is dropped here */
fail:
    if (out != pixels)
        mem_free(out);
    mem_free(z);
    return rc;
}

/* ---- facts ----------------------------------------------------------------------------------- */

int pipeline_plan(Pipeline *p, PipelineMemory *out, Err *err)
{
    int rc = t5_plan(&p->t5_config, p->be->act, p->dit_config.text_len, &out->text_bytes, err);
    if (rc == 0)
        rc = plan_denoise(p, &out->denoise_bytes, err);
    if (rc == 0)
        rc = plan_decode(p, &out->decode_bytes, err);
    return rc;
}

static int put_digest(json_t *o, const char *name, const char *folder, const char *stem, const Log *log, Err *err)
{
    SafeTensors *s = NULL;
    char hex[65];
    int rc = safetensors_open_folder(&s, folder, stem, log, err);
    if (rc == 0)
        rc = safetensors_digest(s, hex, err);
    safetensors_close(&s);
    if (rc == 0 && json_object_set_new(o, name, json_string(hex)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    return rc;
}

/* One digest over the parsed config files: what they say counts, not how they are written. */
static int put_configs(json_t *o, const Pipeline *p, Err *err)
{
    const char *const file[][2] = {{p->dit_dir, "config.json"},
                                   {p->vae_dir, "config.json"},
                                   {p->text_dir, "config.json"},
                                   {p->scheduler_dir, "scheduler_config.json"}};
    json_t *all = json_array();
    Digest d;
    char hex[65], *text = NULL;
    int rc = all ? 0 : err_set(err, ERR_NOMEM, "no memory for the configs' digest");
    for (size_t i = 0; rc == 0 && i < sizeof file / sizeof *file; i++) {
        json_t *one = NULL;
        char *path = path_join(file[i][0], file[i][1], err);
        rc = path ? json_read_file(&one, path, err) : ERR_NOMEM;
        if (rc == 0 && json_array_append_new(all, one) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the configs' digest");
        mem_free(path);
    }
    if (rc == 0 && !(text = json_canonical(all, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = sha256_bytes(text, (int64_t)strlen(text), &d, err);
    if (rc == 0) {
        digest_hex(&d, hex);
        if (json_object_set_new(o, "configs", json_string(hex)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the configs' digest");
    }
    mem_free(text);
    json_decref(all);
    return rc;
}

int pipeline_weights(Pipeline *p, json_t **out, Err *err)
{
    json_t *o = json_object();
    int rc = o ? 0 : err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    if (rc == 0)
        rc = put_digest(o, "transformer", p->dit_dir, "diffusion_pytorch_model", p->log, err);
    if (rc == 0)
        rc = put_digest(o, "vae", p->vae_dir, "diffusion_pytorch_model", p->log, err);
    if (rc == 0)
        rc = put_digest(o, "text_encoder", p->text_dir, "model", p->log, err);
    if (rc == 0)
        rc = put_configs(o, p, err);
    if (rc == 0 && !p->tokenizer)
        rc = t5_tokenizer_open(&p->tokenizer, p->tokenizer_dir, err);
    if (rc == 0 && json_object_set_new(o, "tokenizer", json_string(t5_tokenizer_digest(p->tokenizer))) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    if (rc < 0)
        json_decref(o);
    else
        *out = o;
    return rc;
}
