#include "common/model/text_encoder.h"

#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"

struct TextEncoder {
    T5 *t5;
    Clip *clip;
};

/* ---- config ---------------------------------------------------------------------------------- */

TextKind text_config_kind(const json_t *json)
{
    const char *type = json_string_value(json_object_get(json, "model_type"));
    if (!type) /* as old tools and people write it */
        type = json_object_get(json, "d_model") ? "t5" : json_object_get(json, "hidden_act") ? "clip" : "";
    if (strcmp(type, "t5") == 0)
        return TEXT_T5;
    return strcmp(type, "clip_text_model") == 0 || strcmp(type, "clip") == 0 ? TEXT_CLIP : TEXT_AUTO;
}

int text_config_parse(TextConfig *out, const json_t *json, const char *where, Err *err)
{
    *out = (TextConfig){.kind = text_config_kind(json)};
    if (out->kind == TEXT_T5)
        return t5_config_parse(&out->t5, json, where, err);
    if (out->kind == TEXT_CLIP)
        return clip_text_config_parse(&out->clip, json, where, err);
    const char *type = json_string_value(json_object_get(json, "model_type"));
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: model_type is '%.60s': expected a text encoder of CogVideoX, t5 or clip_text_model", where,
                   type ? type : "");
}

int text_config_read(TextConfig *out, const char *folder, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    json_t *json = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = text_config_parse(out, json, path, err);
    json_decref(json);
    mem_free(path);
    return rc;
}

json_t *text_config_json(const TextConfig *c, Err *err)
{
    return c->kind == TEXT_T5 ? t5_config_json(&c->t5, err) : clip_text_config_json(&c->clip, err);
}

int64_t text_config_width(const TextConfig *c)
{
    return c->kind == TEXT_T5 ? c->t5.d_model : c->clip.text.hidden;
}

int64_t text_config_inner(const TextConfig *c)
{
    return c->kind == TEXT_T5 ? c->t5.d_ff : c->clip.text.intermediate;
}

int64_t text_config_vocab(const TextConfig *c)
{
    return c->kind == TEXT_T5 ? c->t5.vocab : c->clip.vocab;
}

double text_config_operations(const TextConfig *c, int64_t n)
{
    const ClipTower *clip = &c->clip.text;
    int is_t5 = c->kind == TEXT_T5;
    double D = (double)text_config_width(c), N = (double)n, inner = is_t5 ? (double)(c->t5.heads * c->t5.d_kv) : D;
    double wide = is_t5 ? 3 * (double)c->t5.d_ff : 2 * (double)clip->intermediate;
    return (double)(is_t5 ? c->t5.layers : clip->layers) * (2 * N * (4 * D * inner + D * wide) + 4 * N * N * inner);
}

int64_t text_config_kept(const TextConfig *c, int64_t n)
{
    return c->kind == TEXT_T5 ? c->t5.heads * n * n * (int64_t)sizeof(float) : 0; /* the position bias */
}

int text_config_check_length(const TextConfig *c, int64_t n, const char *where, Err *err)
{
    if (c->kind == TEXT_T5 || n <= c->clip.positions)
        return 0;
    return err_set(err, ERR_USAGE, "texts have %" PRId64 " tokens, but '%s' has positions for %" PRId64, n, where,
                   c->clip.positions);
}

int text_check_weights(const TextConfig *c, const char *folder, const Log *log, Err *err)
{
    return c->kind == TEXT_T5 ? t5_check_weights(&c->t5, folder, log, err)
                              : clip_text_check_weights(&c->clip, folder, log, err);
}

int text_plan(const TextConfig *c, DType act, int64_t n, int64_t *bytes, Err *err)
{
    return c->kind == TEXT_T5 ? t5_plan(&c->t5, act, n, bytes, err) : clip_text_plan(&c->clip, act, n, bytes, err);
}

/* ---- the encoder ----------------------------------------------------------------------------- */

int text_encoder_open(TextEncoder **out, Backend *be, const TextConfig *c, const char *folder, Err *err)
{
    TextEncoder *t = mem_calloc(1, sizeof *t, err);
    int rc = !t                   ? ERR_NOMEM
             : c->kind == TEXT_T5 ? t5_open(&t->t5, be, folder, err)
                                  : clip_text_open(&t->clip, be, folder, err);
    if (rc)
        text_encoder_close(&t);
    *out = t;
    return rc;
}

void text_encoder_close(TextEncoder **t)
{
    if (!*t)
        return;
    t5_close(&(*t)->t5);
    clip_close(&(*t)->clip);
    mem_free(*t);
    *t = NULL;
}

int text_encode(TextEncoder *t, Arena *work, float *hidden, const int32_t *ids, int64_t n, Err *err)
{
    return t->t5 ? t5_encode(t->t5, work, hidden, ids, NULL, n, err)
                 : clip_text(t->clip, work, NULL, hidden, NULL, ids, n, err);
}

int text_encode_many(TextEncoder *t, Arena *work, float *hidden, const int32_t *const *ids, int64_t count, int64_t n,
                     Err *err)
{
    if (t->t5)
        return t5_encode_many(t->t5, work, hidden, ids, count, n, err);
    int64_t size = n * clip_config(t->clip)->text.hidden;
    int rc = 0;
    for (int64_t k = 0; k < count && !rc; k++)
        rc = text_encode(t, work, hidden + k * size, ids[k], n, err);
    return rc;
}
