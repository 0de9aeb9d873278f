/* The text tower alone: config, names, weights, plan.  clip.c computes it. */
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/clip_internal.h"
#include "common/ops/ops.h"

static const char *const prefixes[] = {"text_model.", ""}; /* transformers 4 and 5 */

/* ---- config ---------------------------------------------------------------------------------- */

int clip_text_config_parse(ClipConfig *out, const json_t *json, const char *where, Err *err)
{
    static const ClipTower dflt = {.hidden = 512, .intermediate = 2048, .layers = 12, .heads = 8};
    const json_t *whole = json_object_get(json, "text_config");
    ClipConfig c = {0};
    if (whole)
        json = whole;
    int rc = clip_parse_tower(&c.text, &dflt, json, where, err);
    if (rc || (rc = json_get_int_or(json, "vocab_size", where, 49408, &c.vocab, err)) ||
        (rc = json_get_int_or(json, "max_position_embeddings", where, 77, &c.positions, err)))
        return rc;
    if (c.vocab < 1 || c.vocab > 1 << 24 || c.positions < 1 || c.positions > 1 << 14)
        return err_set(err, ERR_FORMAT,
                       "%s: vocab_size %" PRId64 ", max_position_embeddings %" PRId64 " are not possible", where,
                       c.vocab, c.positions);
    *out = c;
    return 0;
}

json_t *clip_text_config_json(const ClipConfig *c, Err *err)
{
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_open_array(&w, "architectures");
    jsonw_str(&w, NULL, "CLIPTextModel");
    jsonw_close(&w);
    jsonw_int(&w, "bos_token_id", c->vocab - 2);
    jsonw_int(&w, "eos_token_id", c->vocab - 1);
    jsonw_str(&w, "hidden_act", c->text.act == ACT_QUICK_GELU ? "quick_gelu" : "gelu");
    jsonw_int(&w, "hidden_size", c->text.hidden);
    jsonw_int(&w, "intermediate_size", c->text.intermediate);
    jsonw_num(&w, "layer_norm_eps", c->text.eps);
    jsonw_int(&w, "max_position_embeddings", c->positions);
    jsonw_str(&w, "model_type", "clip_text_model");
    jsonw_int(&w, "num_attention_heads", c->text.heads);
    jsonw_int(&w, "num_hidden_layers", c->text.layers);
    jsonw_int(&w, "vocab_size", c->vocab);
    return jsonw_finish(&w, &out, "the CLIP config", err) < 0 ? NULL : out;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Buffers, and what a whole CLIP and CLIPTextModelWithProjection have besides. */
static int is_foreign(const char *name)
{
    return str_ends_with(name, ".position_ids") || !strncmp(name, "vision_model.", 13) ||
           !strcmp(name, "visual_projection.weight") || !strcmp(name, "text_projection.weight") ||
           !strcmp(name, "logit_scale");
}

/* "text_model." unless the file has the names without it. */
static const char *prefix_of(const SafeTensors *file)
{
    return safetensors_find(file, "embeddings.token_embedding.weight") ? prefixes[1] : prefixes[0];
}

static int new_for(Clip **out, Backend *be, const ClipConfig *c, const char *prefix, Err *err)
{
    int rc = clip_new(out, be, c, prefix, err);
    if (*out)
        clip_params(*out)->ignore = is_foreign;
    return rc;
}

int clip_text_open(Clip **out, Backend *be, const char *folder, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    SafeTensors *file = NULL;
    json_t *json = NULL;
    ClipConfig c;
    *out = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (rc || (rc = clip_text_config_parse(&c, json, path, err)))
        goto fail;
    if (!be->plan && (rc = safetensors_open_folder(&file, folder, "model", be->log, err)))
        goto fail;
    if ((rc = new_for(out, be, &c, file ? prefix_of(file) : prefixes[0], err)))
        goto fail;
    rc = be->plan ? params_plan(clip_params(*out), be, err)
                  : params_load_mapped(clip_params(*out), be, &file, folder, err);
fail:
    safetensors_close(&file);
    json_decref(json);
    mem_free(path);
    if (rc)
        clip_close(out);
    return rc;
}

int clip_text_check_weights(const ClipConfig *c, const char *folder, const Log *log, Err *err)
{
    SafeTensors *file = NULL;
    Clip *clip = NULL;
    int rc = safetensors_open_folder(&file, folder, "model", log, err);
    if (!rc)
        rc = new_for(&clip, NULL, c, prefix_of(file), err);
    if (!rc)
        rc = params_check(clip_params(clip), file, folder, err);
    clip_close(&clip);
    safetensors_close(&file);
    return rc;
}

int clip_text_save(Clip *c, const char *folder, DType dtype, Err *err)
{
    char *config = path_join(folder, "config.json", err), *weights = path_join(folder, "model.safetensors", err);
    json_t *json = clip_text_config_json(clip_config(c), err);
    int rc = config && weights && json ? dir_make(folder, err) : ERR_NOMEM;
    if (!rc)
        rc = params_save(clip_params(c), weights, dtype, err);
    if (!rc)
        rc = json_write_file(json, config, err);
    json_decref(json);
    mem_free(config);
    mem_free(weights);
    return rc;
}

int clip_text_plan(const ClipConfig *c, DType act, int64_t n, int64_t *bytes, Err *err)
{
    Backend *be = NULL;
    Arena *work = NULL;
    Clip *clip = NULL;
    int rc = backend_open(&be, "plan", 1, NULL, err);
    if (rc)
        goto fail;
    be->act = act;
    if ((rc = clip_new_filled(&clip, be, c, err)) || (rc = arena_new(&work, be, 0, "clip", err)))
        goto fail;
    rc = clip_text(clip, work, NULL, NULL, NULL, NULL, n, err);
    *bytes = arena_high(work);
fail:
    arena_free(&work);
    clip_close(&clip);
    backend_close(&be);
    return rc;
}
