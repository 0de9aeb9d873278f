/* Checks that weights fit their configs (pipeline_check_parts), and computes their digests, which
 * are part of a sample's key. */
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/store/safetensors.h"
#include "infer/pipeline_internal.h"

static int put_digest(json_t *o, const char *name, const char *folder, const char *stem, const char *memory,
                      const Log *log, Err *err)
{
    SafeTensors *s = NULL;
    char hex[65];
    int rc = safetensors_open_folder(&s, folder, stem, log, err);
    if (rc == 0)
        rc = safetensors_digest_once(s, folder, memory, hex, log, err);
    safetensors_close(&s);
    if (rc == 0 && json_object_set_new(o, name, json_string(hex)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    return rc;
}

static int put_loras(json_t *o, const Pipeline *p, Err *err)
{
    char hex[65];
    JsonWriter w;
    json_t *list = NULL;
    int rc = 0;
    jsonw_begin_array(&w);
    for (int64_t i = 0; i < p->n_lora && rc == 0; i++) {
        if ((rc = lora_digest(p->lora[i].path, hex, err)) < 0)
            break;
        jsonw_open(&w, NULL);
        jsonw_str(&w, "sha256", hex);
        jsonw_num(&w, "scale", p->lora[i].scale);
        jsonw_close(&w);
    }
    int done = jsonw_finish(&w, &list, "the adapters' digests", rc == 0 ? err : NULL);
    rc = rc == 0 ? done : rc;
    if (rc < 0)
        json_decref(list);
    else if (json_object_set_new(o, "loras", list) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    return rc;
}

/* One digest over the values in the config files; spaces and the order of keys do not change it. */
static int put_configs(json_t *o, const Pipeline *p, Err *err)
{
    const char *const file[][2] = {{p->dit_dir, "config.json"},
                                   {p->vae_dir, "config.json"},
                                   {p->text_dir, "config.json"},
                                   {p->scheduler_dir, "scheduler_config.json"}};
    json_t *all = json_array();
    char hex[65], *text = NULL;
    int rc = all ? 0 : err_set(err, ERR_NOMEM, "no memory for the configs' digest");
    for (size_t i = 0; rc == 0 && i < sizeof file / sizeof *file; i++) {
        json_t *one = NULL;
        if (p->s.no_text && file[i][0] == p->text_dir)
            continue;
        char *path = path_join(file[i][0], file[i][1], err);
        rc = path ? json_read_file(&one, path, err) : ERR_NOMEM;
        if (rc == 0 && json_array_append_new(all, one) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the configs' digest");
        mem_free(path);
    }
    if (rc == 0 && !(text = json_canonical(all, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = sha256_hex(text, (int64_t)strlen(text), hex, err);
    if (rc == 0 && json_object_set_new(o, "configs", json_string(hex)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the configs' digest");
    mem_free(text);
    json_decref(all);
    return rc;
}

int pipeline_weights(Pipeline *p, const char *memory, json_t **out, Err *err)
{
    json_t *o = json_object();
    int rc = o ? 0 : err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    if (rc == 0)
        rc = put_digest(o, "transformer", p->dit_dir, "diffusion_pytorch_model", memory, p->log, err);
    if (rc == 0)
        rc = put_digest(o, "vae", p->vae_dir, "diffusion_pytorch_model", memory, p->log, err);
    if (rc == 0 && !p->s.no_text)
        rc = put_digest(o, "text_encoder", p->text_dir, "model", memory, p->log, err);
    if (rc == 0 && p->n_lora)
        rc = put_loras(o, p, err);
    if (rc == 0)
        rc = put_configs(o, p, err);
    if (rc == 0 && !p->s.no_text)
        rc = pipeline_open_tokenizer(p, err);
    if (rc == 0 && !p->s.no_text &&
        json_object_set_new(o, "tokenizer", json_string(tokenizer_digest(p->tokenizer))) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the weights' digests");
    if (rc < 0)
        json_decref(o);
    else
        *out = o;
    return rc;
}

/* ---- checked before anything is computed ----------------------------------------------------- */

static int check_tokenizer(Pipeline *p, Err *err)
{
    int rc = pipeline_open_tokenizer(p, err);
    if (rc == 0 && tokenizer_vocab(p->tokenizer) > text_config_vocab(&p->text_config))
        rc = err_set(err, ERR_FORMAT, "'%s' has %" PRId64 " tokens, but '%s' knows only %" PRId64, p->tokenizer_dir,
                     tokenizer_vocab(p->tokenizer), p->text_dir, text_config_vocab(&p->text_config));
    return rc;
}

int pipeline_check_steps(const Pipeline *p, int64_t steps, Err *err)
{
    int rc = schedule_check_steps(&p->schedule, steps, err);
    return rc < 0 ? err_wrap(err, rc, "sampling.num_inference_steps %" PRId64 " with '%s'", steps, p->scheduler_dir)
                  : 0;
}

/* Takes a phase's memory and gives it back: what cannot be had is known before hours of denoising. */
static int try_memory(Pipeline *p, int64_t bytes, const char *what, const char *advice, Err *err)
{
    void *block = NULL;
    Err cause = {0};
    int64_t allocated = p->be->allocated;
    int rc = p->be->alloc(p->be, bytes, &block, &cause);
    if (rc == 0)
        p->be->release(p->be, block);
    p->be->allocated = allocated;
    if (rc < 0)
        return err_set(err, rc,
                       "%s %" PRId64 " frames of %" PRId64 "x%" PRId64
                       " takes %.1f MiB of memory at once, which cannot be "
                       "had here; make fewer or smaller frames%s",
                       what, p->s.model_frames, p->s.width, p->s.height, (double)bytes / 1048576, advice);
    return 0;
}

static int check_memory(Pipeline *p, const PipelineMemory *m, Err *err)
{
    const char *tiles = p->s.tiling ? "" : ", or decode in tiles (sampling.vae_tiling)";
    int rc = try_memory(p, m->denoise_bytes, "denoising", "", err);
    return rc == 0 ? try_memory(p, m->decode_bytes + (p->be->host ? m->frame_bytes : 0), "decoding", tiles, err) : rc;
}

int pipeline_check_parts(Pipeline *p, Err *err)
{
    PipelineMemory memory;
    VaeTiling tiling = vae_tiling_default(&p->vae_config, p->s.tiling);
    int rc = pipeline_check_steps(p, p->s.steps, err);
    if (rc < 0)
        return rc;
    rc = vae_tiling_check(&p->vae_config, &tiling, p->s.height, p->s.width, err);
    if (rc < 0)
        return err_wrap(err, rc, "sampling.vae_tiling");
    rc = p->s.no_text ? 0 : check_tokenizer(p, err);
    if (rc == 0 && !p->s.no_text)
        rc = text_check_weights(&p->text_config, p->text_dir, p->log, err);
    if (rc == 0)
        rc = dit_check_weights(&p->dit_config, p->dit_dir, p->log, err);
    if (rc == 0)
        rc = vae_check_weights(&p->vae_config, p->vae_dir, p->log, err);
    if (rc == 0) /* runs every phase on the plan back end, which refuses sizes that do not fit */
        rc = pipeline_plan(p, &memory, err);
    return rc == 0 ? check_memory(p, &memory, err) : rc;
}
