#include "infer/pipeline_internal.h"

#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/model_folder.h"
#include "common/store/safetensors.h"

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
        .text_encoder = text_kind_wanted(recipe),
        .sampler = strcmp(recipe_str(recipe, "sampling.scheduler"), "dpm") == 0 ? SAMPLER_DPM : SAMPLER_DDIM,
    };
    if (s.width % 16 || s.height % 16)
        return err_set(err, ERR_USAGE,
                       "sampling size %" PRId64 "x%" PRId64 ": width and height must be multiples of 16", s.width,
                       s.height);
    /* Where the recipe's clip section has this count, its model_frames (49 for 48); otherwise 8N+1
     * as it is, 8N from one frame more. */
    if (s.num_frames == recipe_int(recipe, "clip.num_frames"))
        s.model_frames = recipe_int(recipe, "clip.model_frames");
    else
        s.model_frames = s.num_frames % 8 == 0 ? s.num_frames + 1 : s.num_frames;
    int rc = model_frames_check(s.model_frames, &s.latent_frames, err);
    if (rc < 0)
        return err_wrap(err, rc, "sampling.num_frames");
    *out = s;
    return 0;
}

/* FOLDER/transformer if it exists, else FOLDER itself if it holds a config.json. */
static int find_transformer(char **out, const char *folder, int is_checkpoint, Err *err)
{
    char *sub = path_join(folder, "transformer", err), *config = path_join(folder, "config.json", err);
    char *lora = path_join(folder, LORA_FILE_NAME, err);
    int rc = 0;
    *out = NULL;
    if (!sub || !config || !lora)
        rc = ERR_NOMEM;
    else if (file_is_dir(sub)) {
        *out = sub;
        sub = NULL;
    } else if (file_exists(config))
        rc = (*out = mem_strdup(folder, err)) ? 0 : ERR_NOMEM;
    else if (is_checkpoint && file_exists(lora))
        rc = err_set(err, ERR_USAGE, "--checkpoint '%s' holds a LoRA adapter, no transformer: give it as --lora",
                     folder);
    else
        rc = err_set(err, ERR_NOTFOUND, "%s '%s': found neither transformer/ nor config.json in it",
                     is_checkpoint ? "checkpoint" : "model", folder);
    mem_free(sub);
    mem_free(config);
    mem_free(lora);
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
    json_t *dit = NULL, *vae = NULL;
    int rc = read_config(&dit, p->dit_dir, err);
    if (rc == 0)
        rc = dit_config_parse(&p->dit_config, dit, p->dit_dir, err);
    if (rc == 0)
        rc = read_config(&vae, p->vae_dir, err);
    if (rc == 0)
        rc = vae_config_parse(&p->vae_config, vae, p->vae_dir, err);
    if (rc == 0 && !p->s.no_text)
        rc = text_config_read(&p->text_config, p->text_dir, err);
    json_decref(dit);
    json_decref(vae);
    if (rc < 0)
        return rc;
    if (p->dit_config.in_channels != p->vae_config.latent_channels ||
        p->dit_config.out_channels != p->vae_config.latent_channels)
        return err_set(err, ERR_FORMAT,
                       "'%s' takes %" PRId64 " and gives %" PRId64 " latent channels, but '%s' has %" PRId64,
                       p->dit_dir, p->dit_config.in_channels, p->dit_config.out_channels, p->vae_dir,
                       p->vae_config.latent_channels);
    if (p->s.no_text)
        return 0;
    if ((rc = text_kind_check(p->s.text_encoder, p->text_config.kind, p->text_dir, err)) < 0)
        return rc;
    int64_t width = text_config_width(&p->text_config);
    if (p->dit_config.text_dim != width)
        return err_set(err, ERR_FORMAT, "'%s' expects text vectors of %" PRId64 " values, but '%s' (%s) gives %" PRId64,
                       p->dit_dir, p->dit_config.text_dim, p->text_dir, text_kind_name(p->text_config.kind), width);
    rc = text_config_check_length(&p->text_config, p->dit_config.text_len, p->text_dir, err);
    return rc < 0 ? err_wrap(err, rc, "'%s'", p->dit_dir) : 0;
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
    pipeline_set_steps(p, s->steps, s->guidance);
    p->log = log;
    char *folder = NULL;
    int rc = model_folder_find(&folder, model, log, err);
    if (rc == 0)
        rc = find_transformer(&p->dit_dir, checkpoint ? checkpoint : folder, checkpoint != NULL, err);
    if (rc < 0)
        goto fail;
    rc = ERR_NOMEM;
    if (!(p->tokenizer_dir = path_join(folder, "tokenizer", err)) ||
        !(p->text_dir = path_join(folder, "text_encoder", err)) || !(p->vae_dir = path_join(folder, "vae", err)) ||
        !(p->scheduler_dir = path_join(folder, "scheduler", err)))
        goto fail;
    if ((rc = read_configs(p, err)) < 0)
        goto fail;
    if ((rc = schedule_init_file(&p->schedule, p->scheduler_dir, err)) < 0)
        goto fail;
    *out = p;
    mem_free(folder);
    return 0;
fail:
    mem_free(folder);
    pipeline_close(&p);
    return rc;
}

void pipeline_texts_done(Pipeline *p)
{
    if (p->s.offload != OFFLOAD_NEVER)
        pipeline_drop_text_encoder(p);
}

void pipeline_drop_text_encoder(Pipeline *p)
{
    text_encoder_close(&p->text);
    arena_free(&p->text_arena);
}

void pipeline_close(Pipeline **pp)
{
    Pipeline *p = *pp;
    if (!p)
        return;
    pipeline_drop_text_encoder(p);
    tokenizer_close(&p->tokenizer);
    dit_close(&p->dit);
    arena_free(&p->dit_arena);
    vae_close(&p->vae);
    arena_free(&p->vae_arena);
    schedule_fini(&p->schedule);
    for (int64_t i = 0; i < p->n_lora; i++)
        mem_free(p->lora[i].path);
    mem_free(p->lora);
    mem_free(p->tokenizer_dir);
    mem_free(p->text_dir);
    mem_free(p->dit_dir);
    mem_free(p->vae_dir);
    mem_free(p->scheduler_dir);
    mem_free(p);
    *pp = NULL;
}

int pipeline_set_loras(Pipeline *p, const LoraUse *use, int64_t n, Err *err)
{
    if (!(p->lora = mem_calloc(n, sizeof *p->lora, err)))
        return ERR_NOMEM;
    for (; p->n_lora < n; p->n_lora++) {
        p->lora[p->n_lora] = (LoraUse){mem_strdup(use[p->n_lora].path, err), use[p->n_lora].scale};
        if (!p->lora[p->n_lora].path)
            return ERR_NOMEM;
    }
    return 0;
}

int pipeline_open_dit(const Pipeline *p, Dit **out, Backend *be, Err *err)
{
    int rc = dit_open(out, be, p->dit_dir, DIT_MAPPED, err);
    if (rc == 0)
        rc = dit_use_loras(*out, p->lora, p->n_lora, err);
    if (rc < 0)
        dit_close(out);
    return rc;
}

PipelineSizes pipeline_sizes(const Pipeline *p)
{
    const DitConfig *c = &p->dit_config;
    int64_t h = p->s.height / 8, w = p->s.width / 8;
    return (PipelineSizes){.text_len = c->text_len,
                           .text_dim = c->text_dim,
                           .latent_channels = p->vae_config.latent_channels,
                           .latent_height = h,
                           .latent_width = w,
                           .heads = c->heads,
                           .head_dim = c->head_dim,
                           .layers = c->layers,
                           .tokens = c->text_len + p->s.latent_frames * (h / c->patch) * (w / c->patch)};
}

/* ---- text ------------------------------------------------------------------------------------ */

int pipeline_open_tokenizer(Pipeline *p, Err *err)
{
    return p->tokenizer ? 0 : tokenizer_open(&p->tokenizer, p->tokenizer_dir, p->text_config.kind, err);
}

int pipeline_plan_text(Pipeline *p, int64_t *bytes, Err *err)
{
    return text_plan(&p->text_config, p->be->act, p->dit_config.text_len, bytes, err);
}

/* Opens the encoder where it is not, and encodes. */
static int encode_ids(Pipeline *p, const int32_t *ids, float *embeds, Err *err)
{
    int64_t bytes;
    int rc = p->text ? 0 : pipeline_plan_text(p, &bytes, err);
    if (rc == 0 && !p->text)
        rc = arena_new(&p->text_arena, p->be, bytes, "text encoder", err);
    if (rc == 0 && !p->text)
        rc = text_encoder_open(&p->text, p->be, &p->text_config, p->text_dir, err);
    if (rc == 0)
        rc = text_encode(p->text, p->text_arena, embeds, ids, p->dit_config.text_len, err);
    if (rc < 0)
        pipeline_drop_text_encoder(p);
    return rc;
}

/* The same; where memory is short with the other parts in it and `auto` allows, without those. */
static int encode_in_turn(Pipeline *p, const int32_t *ids, float *embeds, Err *err)
{
    Err first = {0};
    if (p->s.offload == OFFLOAD_ALWAYS) {
        pipeline_drop_dit(p);
        pipeline_drop_vae(p);
    }
    int rc = encode_ids(p, ids, embeds, &first);
    if (rc == ERR_NOMEM && p->s.offload == OFFLOAD_AUTO && (p->dit || p->vae)) {
        log_info(p->log, "transformer and VAE leave memory while texts are encoded: %s", first.msg);
        pipeline_drop_dit(p);
        pipeline_drop_vae(p);
        return encode_ids(p, ids, embeds, err);
    }
    return rc < 0 ? err_set(err, rc, "%s", first.msg) : 0;
}

int pipeline_encode_text(Pipeline *p, const char *text, float *embeds, int64_t *cut, Err *err)
{
    int64_t n = p->dit_config.text_len, used;
    int rc = pipeline_open_tokenizer(p, err);
    if (rc < 0)
        return rc;
    int32_t *ids = mem_calloc(n, sizeof *ids, err);
    if (!ids)
        return ERR_NOMEM;
    rc = tokenizer_encode_padded(p->tokenizer, text, ids, n, &used, cut, err);
    if (rc == 0)
        rc = encode_in_turn(p, ids, embeds, err);
    mem_free(ids);
    return rc;
}

int pipeline_cut_text(Pipeline *p, const char *text, char **out, Err *err)
{
    *out = NULL;
    int rc = pipeline_open_tokenizer(p, err);
    return rc < 0 ? rc : tokenizer_cut_text(p->tokenizer, text, p->dit_config.text_len, out, err);
}

/* Bytes of a folder's weights on the back end. */
static int weight_bytes(const Pipeline *p, const char *folder, const char *stem, int64_t *bytes, Err *err)
{
    SafeTensors *file = NULL;
    int rc = safetensors_open_folder(&file, folder, stem, p->log, err);
    *bytes = 0;
    for (int64_t i = 0; rc == 0 && i < safetensors_count(file); i++) {
        const Tensor *t = &safetensors_at(file, i)->tensor;
        *bytes += tensor_count(t) * dtype_size(p->be->host ? t->dtype : p->be->act);
    }
    safetensors_close(&file);
    return rc;
}

int pipeline_plan(Pipeline *p, PipelineMemory *out, Err *err)
{
    *out = (PipelineMemory){0};
    int rc = p->s.no_text ? 0 : pipeline_plan_text(p, &out->text_bytes, err);
    if (rc == 0 && !p->s.no_text)
        rc = weight_bytes(p, p->text_dir, "model", &out->text_weights, err);
    if (rc == 0)
        rc = pipeline_plan_denoise(p, &out->denoise_bytes, err);
    if (rc == 0)
        rc = weight_bytes(p, p->dit_dir, "diffusion_pytorch_model", &out->dit_weights, err);
    if (rc == 0)
        rc = pipeline_plan_decode(p, &out->decode_bytes, err);
    int64_t frame = 3 * p->s.height * p->s.width; /* decoded as float32, written as bytes */
    out->frame_bytes = frame * (p->s.model_frames * (int64_t)sizeof(float) + p->s.num_frames);
    return rc == 0 ? weight_bytes(p, p->vae_dir, "diffusion_pytorch_model", &out->vae_weights, err) : rc;
}
