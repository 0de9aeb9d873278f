#include "cache/encoding_internal.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cache/text_form.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"

/* 480 captions of 226 tokens of 4096 values, and the empty prompt, take 1,699 MiB. */
#define PASS_MOST ((int64_t)1750 << 20)
#define PASS_LEAST ((int64_t)16 << 20)

/* ---- the model folder ------------------------------------------------------------------------ */

/* type: of the first matrix; may be NULL. */
static int weights_identity(const Encoding *e, const char *folder, const char *stem, const char *memory, char hex[65],
                            int64_t *bytes, DType *type, Err *err)
{
    SafeTensors *s = NULL;
    int rc = safetensors_open_folder(&s, folder, stem, e->log, err);
    if (rc < 0)
        return rc;
    *bytes = 0;
    for (int64_t i = safetensors_count(s) - 1; i >= 0; i--) {
        const Tensor *t = &safetensors_at(s, i)->tensor;
        *bytes += tensor_bytes(t);
        if (type && t->rank == 2)
            *type = t->dtype;
    }
    rc = safetensors_digest_once(s, folder, memory, hex, e->log, err);
    safetensors_close(&s);
    return rc;
}

static int read_config(const char *folder, json_t **out, char **where, Err *err)
{
    *where = path_join(folder, "config.json", err);
    return *where ? json_read_file(out, *where, err) : ERR_NOMEM;
}

static int read_vae(Encoding *e, const char *memory, Err *err)
{
    json_t *json = NULL;
    char *where = NULL;
    int rc = read_config(e->vae_dir, &json, &where, err);
    if (rc == 0)
        rc = vae_config_parse(&e->vae, json, where, err);
    if (rc == 0 && !(e->vae_json = vae_config_json(&e->vae, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = vae_check_weights(&e->vae, e->vae_dir, NULL, err);
    if (rc == 0)
        rc = weights_identity(e, e->vae_dir, "diffusion_pytorch_model", memory, e->vae_sha256, &e->vae_bytes, NULL,
                              err);
    if (rc == 0)
        rc = vae_plan_weights(e->be, e->vae_dir, VAE_ENCODES, &e->vae_bytes, err);
    json_decref(json);
    mem_free(where);
    return rc;
}

static int read_text(Encoding *e, const char *memory, Err *err)
{
    int rc = text_config_read(&e->text, e->text_dir, err);
    if (rc == 0 && !(e->text_json = text_config_json(&e->text, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = text_check_weights(&e->text, e->text_dir, NULL, err);
    e->text_type = DT_F32;
    if (rc == 0)
        rc = weights_identity(e, e->text_dir, "model", memory, e->text_sha256, &e->text_bytes, &e->text_type, err);
    if (e->be->act == DT_BF16) /* params.h: what such back ends keep of matrices */
        e->text_type = DT_BF16;
    return rc;
}

static int read_tokenizer(Encoding *e, const Recipe *recipe, const char *model, Err *err)
{
    int rc = text_form_open(&e->tokenizer, &e->form, recipe, model, err);
    if (rc == 0 && tokenizer_vocab(e->tokenizer) > text_config_vocab(&e->text))
        rc = err_set(err, ERR_FORMAT, "'%s': its tokeniser has %" PRId64 " ids, its text encoder %" PRId64, model,
                     tokenizer_vocab(e->tokenizer), text_config_vocab(&e->text));
    if (rc == 0)
        memcpy(e->tokenizer_sha256, tokenizer_digest(e->tokenizer), 65);
    return rc;
}

/* The names of schemas/recipe.schema.json. */
static const struct {
    const char *name;
    DType dtype;
} stored_types[] = {{"fp32", DT_F32}, {"fp16", DT_F16}, {"bf16", DT_BF16}};

int encoding_open(Encoding **out, Backend *be, const Recipe *recipe, const char *model, const char *memory,
                  const Log *log, Err *err)
{
    *out = NULL;
    Encoding *e = mem_calloc(1, sizeof *e, err);
    if (!e)
        return ERR_NOMEM;
    e->be = be;
    e->log = log;
    for (size_t i = 0; i < sizeof stored_types / sizeof *stored_types; i++)
        if (strcmp(recipe_str(recipe, "cache.dtype"), stored_types[i].name) == 0) {
            e->dtype_name = stored_types[i].name;
            e->dtype = stored_types[i].dtype;
        }
    e->kind = strcmp(recipe_str(recipe, "cache.store"), "moments") == 0 ? RECORD_MOMENTS : RECORD_SAMPLE;
    e->seed = recipe_int(recipe, "seed");
    e->vae_dir = path_join(model, "vae", err);
    e->text_dir = path_join(model, "text_encoder", err);
    int rc = e->vae_dir && e->text_dir ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = read_vae(e, memory, err);
    if (rc == 0)
        rc = read_text(e, memory, err);
    if (rc == 0)
        rc = read_tokenizer(e, recipe, model, err);
    if (rc == 0) {
        e->tiling = vae_tiling_default(&e->vae, recipe_bool(recipe, "cache.vae_tiling"));
        rc = encoding_write_parts(e, err);
    }
    if (rc < 0)
        encoding_close(&e);
    *out = e;
    return rc;
}

void encoding_close(Encoding **p)
{
    Encoding *e = *p;
    if (!e)
        return;
    mem_free(e->vae_dir);
    mem_free(e->text_dir);
    tokenizer_close(&e->tokenizer);
    json_decref(e->vae_json);
    json_decref(e->text_json);
    mem_free(e->text_parts);
    mem_free(e->latents_parts);
    mem_free(e);
    *p = NULL;
}

Tensor encoding_latents_shape(const Encoding *e, const PreparedClip *c)
{
    int64_t scale = (int64_t)1 << (e->vae.n_blocks - 1);
    return tensor_of(NULL, e->dtype, 4, vae_latent_frames(&e->vae, c->frames), c->height / scale, c->width / scale,
                     e->vae.latent_channels * (e->kind == RECORD_MOMENTS ? 2 : 1));
}

Tensor encoding_text_shape(const Encoding *e)
{
    return tensor_of(NULL, e->dtype, 2, e->form.length, text_config_width(&e->text));
}

int encoding_plan_clip(const Encoding *e, const PreparedClip *c, int64_t *bytes, Err *err)
{
    return vae_plan_encode(&e->vae, e->be->act, &e->tiling, c->frames, c->height, c->width, bytes, err);
}

int encoding_plan_text(const Encoding *e, int64_t *bytes, Err *err)
{
    return text_plan(&e->text, e->be->act, e->form.length, bytes, err);
}

/* NULL if memory ran out; the caller says so. */
static json_t *finish_meta(JsonWriter *w)
{
    json_t *value;
    return jsonw_finish(w, &value, "a meta entry", NULL) == 0 ? value : NULL;
}

json_t *encoding_meta_vae(const Encoding *e)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_num(&w, "scaling_factor", e->vae.scaling_factor);
    jsonw_bool(&w, "invert_scale_latents", e->vae.invert_scale_latents);
    jsonw_int(&w, "latent_channels", e->vae.latent_channels);
    jsonw_share(&w, "config", e->vae_json);
    jsonw_str(&w, "weights_sha256", e->vae_sha256);
    encoding_write_tiling(&w, e);
    return finish_meta(&w);
}

json_t *encoding_meta_text(const Encoding *e, const Digest *empty)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_int(&w, "length", e->form.length);
    jsonw_int(&w, "dim", text_config_width(&e->text));
    jsonw_share(&w, "config", e->text_json);
    jsonw_str(&w, "weights_sha256", e->text_sha256);
    jsonw_str(&w, "tokenizer_sha256", e->tokenizer_sha256);
    jsonw_hex(&w, "empty", empty);
    return finish_meta(&w);
}

json_t *encoding_meta_values(const Encoding *e)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "dtype", e->dtype_name);
    jsonw_str(&w, "store", e->kind == RECORD_MOMENTS ? "moments" : "sample");
    jsonw_int(&w, "revision", CACHE_LATENTS_REVISION);
    return finish_meta(&w);
}

/* ---- encoders -------------------------------------------------------------------------------- */

struct Encoder {
    const Encoding *e;
    TextEncoder *text;
    Vae *vae;
    Arena *work;
    float *values; /* the output of the model */
    void *stored;  /* the same in the stored type; NULL when that is F32 */
    int64_t room;  /* floats */
    float *passed; /* outputs of encoder_pass */
    int32_t *ids;  /* of the texts that are encoded, padded */
};

/* Memory for `room` floats of output, and `work` bytes of working memory. */
static int make_buffers(Encoder *p, int64_t room, int64_t work, const char *name, Err *err)
{
    p->room = room;
    int rc = arena_new(&p->work, p->e->be, work, name, err);
    if (rc == 0 && !(p->values = mem_calloc(room, sizeof *p->values, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && p->e->dtype != DT_F32 && !(p->stored = mem_calloc(room, dtype_size(p->e->dtype), err)))
        rc = ERR_NOMEM;
    return rc;
}

int encoder_open_text(Encoder **out, const Encoding *e, Err *err)
{
    *out = NULL;
    Encoder *p = mem_calloc(1, sizeof *p, err);
    if (!p)
        return ERR_NOMEM;
    p->e = e;
    Tensor t = encoding_text_shape(e);
    int64_t work = 0;
    int rc = encoding_plan_text(e, &work, err);
    if (rc == 0)
        rc = make_buffers(p, tensor_count(&t), work, text_kind_name(e->form.kind), err);
    if (rc == 0)
        rc = text_encoder_open(&p->text, e->be, &e->text, e->text_dir, err);
    if (rc < 0)
        encoder_close(&p);
    *out = p;
    return rc;
}

int encoder_open_clips(Encoder **out, const Encoding *e, const PreparedClip *like, Err *err)
{
    *out = NULL;
    Encoder *p = mem_calloc(1, sizeof *p, err);
    if (!p)
        return ERR_NOMEM;
    p->e = e;
    Tensor t = encoding_latents_shape(e, like);
    int64_t work = 0, room = tensor_count(&t) * (e->kind == RECORD_SAMPLE ? 2 : 1);
    int rc = encoding_plan_clip(e, like, &work, err);
    if (rc == 0)
        rc = make_buffers(p, room, work, "VAE", err);
    if (rc == 0)
        rc = vae_open(&p->vae, e->be, e->vae_dir, VAE_ENCODES, err);
    if (rc < 0)
        encoder_close(&p);
    *out = p;
    return rc;
}

void encoder_close(Encoder **pp)
{
    Encoder *p = *pp;
    if (!p)
        return;
    text_encoder_close(&p->text);
    vae_close(&p->vae);
    arena_free(&p->work);
    mem_free(p->values);
    mem_free(p->passed);
    mem_free(p->ids);
    mem_free(p->stored);
    mem_free(p);
    *pp = NULL;
}

/* *out: values as a tensor of `shape`, in the stored type. */
static int store_values(Encoder *p, const float *values, Tensor shape, Tensor *out, Err *err)
{
    int64_t n = tensor_count(&shape);
    uint16_t *half = p->stored;
    for (int64_t i = 0; i < n; i++) {
        float x = values[i], y = x;
        if (half) {
            half[i] = p->e->dtype == DT_F16 ? float_to_half(x) : float_to_bfloat(x);
            y = p->e->dtype == DT_F16 ? half_to_float(half[i]) : bfloat_to_float(half[i]);
        }
        if (!isfinite(y))
            return err_set(err, ERR_FORMAT, "value %" PRId64 " of the model's output is %g, which %s cannot hold", i,
                           (double)x, p->e->dtype_name);
    }
    shape.data = half ? (void *)half : (void *)values;
    *out = shape;
    return 0;
}

static int pad(Encoder *p, const PreparedText *const *texts, int64_t n, Err *err)
{
    const TextForm *form = &p->e->form;
    mem_free(p->ids);
    if (!(p->ids = mem_calloc(n * form->length, sizeof *p->ids, err)))
        return ERR_NOMEM;
    for (int64_t k = 0; k < n; k++)
        prepared_pad(texts[k], form, p->ids + k * form->length);
    return 0;
}

int encoder_text(Encoder *p, const PreparedText *t, Tensor *out, Err *err)
{
    int rc = pad(p, &t, 1, err);
    if (rc == 0)
        rc = text_encode(p->text, p->work, p->values, p->ids, p->e->form.length, err);
    return rc < 0 ? rc : store_values(p, p->values, encoding_text_shape(p->e), out, err);
}

int64_t encoding_pass_texts(const Encoding *e)
{
    int64_t bytes = e->text_bytes / 4; /* so reading the weights again costs little beside the texts of a pass */
    bytes = bytes < PASS_LEAST ? PASS_LEAST : bytes > PASS_MOST ? PASS_MOST : bytes;
    int64_t n = bytes / (e->form.length * text_config_width(&e->text) * (int64_t)sizeof(float));
    if (!e->be->host || e->form.kind == TEXT_CLIP) /* the weights stay in memory: a pass saves nothing */
        n = n < 16 ? n : 16;
    return n < 1 ? 1 : n;
}

int encoder_pass(Encoder *p, const PreparedText *const *texts, int64_t n, Err *err)
{
    int64_t size = p->e->form.length * text_config_width(&p->e->text);
    const int32_t **ids = mem_calloc(n, sizeof *ids, err);
    mem_free(p->passed);
    p->passed = mem_calloc(n * size, sizeof *p->passed, err);
    int rc = ids && p->passed ? pad(p, texts, n, err) : ERR_NOMEM;
    for (int64_t k = 0; rc == 0 && k < n; k++)
        ids[k] = p->ids + k * p->e->form.length;
    if (rc == 0)
        rc = text_encode_many(p->text, p->work, p->passed, ids, n, p->e->form.length, err);
    mem_free(ids);
    return rc;
}

int encoder_passed(Encoder *p, int64_t k, Tensor *out, Err *err)
{
    return store_values(p, p->passed + k * p->e->form.length * text_config_width(&p->e->text),
                        encoding_text_shape(p->e), out, err);
}

/* values [n,2C] (mean, log-variance) -> one draw [n,C] in place, keyed by the clip's pixels. */
static int draw_sample(Encoder *p, const PreparedClip *c, int64_t n, Err *err)
{
    int64_t C = p->e->vae.latent_channels;
    Digest d;
    uint64_t name;
    int rc = digest_parse(c->pixels_sha256, &d, err);
    if (rc < 0)
        return rc;
    memcpy(&name, d.byte, sizeof name);
    Philox rng = philox_stream((uint64_t)p->e->seed, RNG_POSTERIOR, 0, name);
    for (int64_t i = 0; i < n * C; i++) {
        const float *row = p->values + i / C * 2 * C;
        double logvar = fmin(fmax(row[C + i % C], -30), 20);
        p->values[i] = (float)(row[i % C] + exp(0.5 * logvar) * philox_normal(&rng, (uint64_t)i));
    }
    return 0;
}

int encoder_compute(Encoder *p, const PreparedClip *c, const uint8_t *rgb, Err *err)
{
    Tensor shape = encoding_latents_shape(p->e, c);
    int64_t need = tensor_count(&shape) * (p->e->kind == RECORD_SAMPLE ? 2 : 1);
    if (need > p->room)
        return err_set(err, ERR_LIMIT, "%" PRId64 " values, planned for %" PRId64, need, p->room);
    return vae_encode_rgb(p->vae, p->work, &p->e->tiling, p->values, rgb, c->frames, c->height, c->width, err);
}

int encoder_pack(Encoder *p, const PreparedClip *c, Tensor *out, Err *err)
{
    Tensor shape = encoding_latents_shape(p->e, c);
    int rc = p->e->kind == RECORD_SAMPLE ? draw_sample(p, c, tensor_count(&shape) / p->e->vae.latent_channels, err) : 0;
    return rc < 0 ? rc : store_values(p, p->values, shape, out, err);
}

int encoder_clip(Encoder *p, const PreparedClip *c, const uint8_t *rgb, Tensor *out, Err *err)
{
    int rc = encoder_compute(p, c, rgb, err);
    return rc < 0 ? rc : encoder_pack(p, c, out, err);
}
