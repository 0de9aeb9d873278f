/* Meta entries first, then each clip's records and its entry, then "rejected": as in a build, a
 * stopped import reads as unfinished. */
#include <stdio.h>
#include <string.h>
#include "cache/export_layout.h"
#include "cache/import_text.h"
#include "cache/merge_meta.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/base/threads.h"

enum { BATCH = 64 << 20 };
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

/* ---- a clip ---------------------------------------------------------------------------------- */

static const char *text_or(const json_t *line, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : otherwise;
}

static int64_t int_or(const json_t *line, const char *key, int64_t otherwise)
{
    const json_t *x = json_object_get(line, key);
    return x ? json_integer_value(x) : otherwise;
}

/* The latents of a clip's file, in *t as they will be stored: channels last, without data. */
static int find_latents(const Import *m, const SafeTensors *file, const SafeEntry **e, Tensor *t, Err *err)
{
    const char *name = m->kind == RECORD_MOMENTS ? "moments" : "latents";
    int64_t channels = json_integer_value(json_object_get(m->vae, "latent_channels"));
    char shape[128];
    *e = safetensors_find(file, name);
    if (!*e)
        return err_set(err, ERR_FORMAT, "it holds no tensor '%s' (cache.store decides which it must be)", name);
    channels *= m->kind == RECORD_MOMENTS ? 2 : 1;
    const Tensor *stored = &(*e)->tensor;
    const int64_t *dim = stored->dim;
    if (stored->rank != 4 || stored->dtype != m->dtype || dim[0] != channels)
        return err_set(err, ERR_FORMAT, "%s is %s, expected %s [%" PRId64 ",F,h,w] (cache.dtype says the type)", name,
                       tensor_describe(stored, shape, sizeof shape), dtype_name(m->dtype), channels);
    *t = tensor_of(NULL, m->dtype, 4, dim[1], dim[2], dim[3], dim[0]);
    return 0;
}

/* Frames, height and width of the pixels: the line's, or what such latents come from; ERR_FORMAT where the VAE gives
 * others for them. */
static int pixel_size(const Import *m, const json_t *line, const Tensor *t, int64_t size[3], Err *err)
{
    const VaeConfig *vae = &m->vae_config;
    int64_t scale = (int64_t)1 << (vae->n_blocks - 1);
    size[0] = int_or(line, "frames", vae_pixel_frames(vae, t->dim[0]));
    size[1] = int_or(line, "height", t->dim[1] * scale);
    size[2] = int_or(line, "width", t->dim[2] * scale);
    Tensor want = *t;
    want.dim[0] = vae_latent_frames(vae, size[0]);
    want.dim[1] = size[1] / scale;
    want.dim[2] = size[2] / scale;
    char a[128], b[128];
    return tensor_same_shape(t, &want)
               ? 0
               : err_set(err, ERR_FORMAT, "its latents are %s (channels last), the VAE gives %s for such a clip",
                         tensor_describe(t, a, sizeof a), tensor_describe(&want, b, sizeof b));
}

static int make_entry(const Import *m, const json_t *line, const Tensor *t, const int64_t size[3],
                      const Digest *latents, json_t *texts, json_t *tokens, json_t **out, Err *err)
{
    const json_t *attributes = json_object_get(line, "attributes");
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_hex(&w, "latents", latents);
    jsonw_share(&w, "texts", texts);
    jsonw_share(&w, "tokens", tokens);
    jsonw_share(&w, "captions", json_object_get(line, "captions"));
    jsonw_str(&w, "split", text_or(line, "split", "train"));
    jsonw_str(&w, "category", text_or(line, "category", NULL));
    jsonw_take(&w, "attributes", attributes ? json_incref((json_t *)attributes) : json_object());
    jsonw_int(&w, "frames", size[0]);
    jsonw_int(&w, "height", size[1]);
    jsonw_int(&w, "width", size[2]);
    jsonw_int(&w, "fps", int_or(line, "fps", 8));
    jsonw_open(&w, "latent");
    jsonw_int(&w, "frames", t->dim[0]);
    jsonw_int(&w, "height", t->dim[1]);
    jsonw_int(&w, "width", t->dim[2]);
    jsonw_int(&w, "channels", json_integer_value(json_object_get(m->vae, "latent_channels")));
    jsonw_close(&w);
    jsonw_str(&w, "pixels_sha256", text_or(line, "pixels_sha256", ZEROS));
    jsonw_str(&w, "file_sha256", text_or(line, "file_sha256", ZEROS));
    jsonw_str(&w, "vae_sha256", text_or(line, "vae_sha256", text_or(m->vae, "weights_sha256", ZEROS)));
    jsonw_str(&w, "text_encoder_sha256",
              text_or(line, "text_encoder_sha256", text_or(m->texts_meta, "weights_sha256", ZEROS)));
    return jsonw_finish(&w, out, "a clip's entry", err);
}

static int append_hex(json_t *list, const Digest *key, Err *err)
{
    char hex[65];
    digest_hex(key, hex);
    return json_array_append_new(list, json_string(hex)) < 0 ? err_set(err, ERR_NOMEM, "no memory for keys") : 0;
}

static int import_file(Import *m, const json_t *line, const SafeTensors *file, Err *err)
{
    const json_t *sums = json_object_get(json_object_get(line, "checksums"), "latents");
    json_t *texts = json_array(), *tokens = json_array(), *entry = NULL;
    const SafeEntry *e;
    Tensor t = {0};
    int64_t size[3];
    Digest latents, text, ids;
    int rc = texts && tokens ? find_latents(m, file, &e, &t, err) : err_set(err, ERR_NOMEM, "no memory for keys");
    if (rc == 0)
        rc = pixel_size(m, line, &t, size, err);
    if (rc == 0)
        rc = (t.data = mem_alloc_aligned(tensor_bytes(&t), err)) ? 0 : ERR_NOMEM;
    if (rc == 0) {
        channels_last(&t, &e->tensor);
        rc = import_record(m, CACHE_LATENTS, m->kind, &t, json_string_value(json_object_get(line, "latents")),
                           json_string_value(json_array_get(sums, 0)), &latents, err);
    }
    for (size_t k = 0; rc == 0 && k < json_array_size(json_object_get(line, "captions")); k++) {
        rc = import_caption(m, line, file, k, &text, &ids, err);
        if (rc == 0)
            rc = append_hex(texts, &text, err);
        if (rc == 0)
            rc = append_hex(tokens, &ids, err);
    }
    if (rc == 0)
        rc = make_entry(m, line, &t, size, &latents, texts, tokens, &entry, err);
    if (rc == 0)
        rc = cache_put_clip(m->out, json_string_value(json_object_get(line, "id")), entry, err);
    mem_free_aligned(t.data);
    json_decref(texts);
    json_decref(tokens);
    json_decref(entry);
    m->clips += rc == 0;
    return rc;
}

/* Whether its latents are there, of the right type and shape. */
static int check_file(Import *m, const json_t *line, const SafeTensors *file, Err *err)
{
    const SafeEntry *e;
    Tensor t;
    int64_t size[3];
    int rc = find_latents(m, file, &e, &t, err);
    return rc < 0 ? rc : pixel_size(m, line, &t, size, err);
}

typedef int (*FileFn)(Import *m, const json_t *line, const SafeTensors *file, Err *err);

static int with_file(Import *m, const json_t *line, FileFn f, Err *err)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    const char *name = json_string_value(json_object_get(line, "file"));
    SafeTensors *file = NULL;
    char *path = NULL;
    int rc = path_check_relative(name, err);
    if (rc == 0)
        rc = (path = path_join(m->params->from, name, err)) ? safetensors_open(&file, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = f(m, line, file, err);
    safetensors_close(&file);
    mem_free(path);
    return rc < 0 ? err_wrap(err, rc, "clip '%s' (%s)", id, name) : 0;
}

/* ---- the lines ------------------------------------------------------------------------------- */

typedef struct LineReader {
    Import *m;
    Schema *schema;
    int store; /* 0: look at all lines before anything is written */
} LineReader;

static int one_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    const LineReader *r = user;
    json_t *line = NULL;
    int rc = json_parse(&line, text, size, where, err);
    if (rc == 0)
        rc = schema_validate(r->schema, line, where, err);
    const char *id = json_string_value(json_object_get(line, "id"));
    if (rc == 0 && interrupt_requested())
        rc = err_set(err, ERR_INTERRUPTED, "stopped after %" PRId64 " clip%s; the same command goes on", r->m->clips,
                     str_plural(r->m->clips));
    if (rc == 0 && !r->store) {
        r->m->lines++;
        if (json_object_get(r->m->ids, id))
            rc = err_set(err, ERR_FORMAT, "%s: the id '%s' appears twice", where, id);
        else if (json_object_set_new(r->m->ids, id, json_true()) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the clips' ids");
    }
    if (rc == 0)
        rc = with_file(r->m, line, r->store ? import_file : check_file, err);
    json_decref(line);
    return rc;
}

static int each_line(Import *m, const char *path, int store, Err *err)
{
    LineReader r = {.m = m, .store = store};
    int rc = schema_open(&r.schema, "export-clip", err);
    if (rc == 0)
        rc = lines_read(path, RECORD_BYTES_MAX, one_line, &r, err);
    schema_close(&r.schema);
    return rc;
}

/* ---- meta entries ---------------------------------------------------------------------------- */

static int read_given(Import *m, Err *err)
{
    char *path = path_join(m->params->from, "export.json", err);
    int rc = path ? json_read_file(&m->given, path, err) : ERR_NOMEM;
    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "without export.json, --model FOLDER must name the model that made the latents");
    if (rc == 0)
        rc = schema_check("export", m->given, path, err);
    if (rc == 0) {
        m->vae = json_incref(json_object_get(m->given, "vae"));
        m->texts_meta = json_incref(json_object_get(m->given, "text"));
        m->encoding = json_incref(json_object_get(m->given, "encoding"));
    }
    mem_free(path);
    return rc;
}

/* An export says which model made it: another one must not be recorded as that. */
static int check_export(const Import *m, Err *err)
{
    static const char *const whose[][3] = {{"vae", "weights_sha256", "another VAE made its latents"},
                                           {"text", "weights_sha256", "another text encoder made its embeddings"},
                                           {"text", "tokenizer_sha256", "another tokeniser made its tokens"}};
    char *path = path_join(m->params->from, "export.json", err);
    json_t *given = NULL;
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(path))
        rc = json_read_file(&given, path, err);
    if (rc == 0 && given)
        rc = schema_check("export", given, path, err);
    for (int i = 0; rc == 0 && given && i < 3; i++) {
        const json_t *now = i ? m->texts_meta : m->vae;
        const char *stored = text_or(json_object_get(given, whose[i][0]), whose[i][1], ""),
                   *model = text_or(now, whose[i][1], "");
        if (strcmp(stored, model) != 0)
            rc = err_set(err, ERR_USAGE,
                         "'%s': %s (%.12s) than '%s' has (%.12s): import it without --model, or give the model that "
                         "made it",
                         path, whose[i][2], stored, m->params->model, model);
    }
    json_decref(given);
    mem_free(path);
    return rc;
}

static int read_model(Import *m, Err *err)
{
    int32_t ids[2];
    PreparedText empty = {.text = (char *)"", .ids = ids};
    TextForm form;
    Digest key;
    int rc = encoding_open(&m->e, m->params->be, m->params->recipe, m->params->model, NULL, m->params->log, err);
    if (rc == 0) {
        form = m->e->form;
        form.length = 2; /* no padding: it is not part of the key */
        prepared_empty(&empty, &form);
        rc = encoding_text_key(m->e, &empty, &key, err);
    }
    if (rc < 0)
        return rc;
    m->vae = encoding_meta_vae(m->e);
    m->texts_meta = encoding_meta_text(m->e, &key);
    m->encoding = encoding_meta_values(m->e);
    if (!m->vae || !m->texts_meta || !m->encoding)
        return err_set(err, ERR_NOMEM, "no memory for the meta entries");
    return check_export(m, err);
}

static void read_types(Import *m)
{
    const char *dtype = text_or(m->encoding, "dtype", "");
    m->dtype = strcmp(dtype, "fp16") == 0 ? DT_F16 : strcmp(dtype, "bf16") == 0 ? DT_BF16 : DT_F32;
    m->kind = strcmp(text_or(m->encoding, "store", ""), "sample") == 0 ? RECORD_SAMPLE : RECORD_MOMENTS;
    m->length = int_or(m->texts_meta, "length", 0);
    m->dim = int_or(m->texts_meta, "dim", 0);
}

/* The exported dataset's entry when all its clips are there, else one that names clips.jsonl. */
static int make_dataset(const Import *m, const char *lines, const json_t *rejected, json_t **out, Err *err)
{
    const json_t *given = json_object_get(m->given, "dataset");
    int64_t clips = m->lines + (int64_t)json_object_size(rejected);
    char manifest[65], recipe[65];
    if (given && int_or(given, "clips", -1) == clips) {
        *out = json_incref((json_t *)given);
        return 0;
    }
    int rc = sha256_file_hex(lines, manifest, err);
    char *text = rc == 0 ? json_canonical(
                               m->given ? json_object_get(m->given, "recipe") : recipe_json(m->params->recipe), err)
                         : NULL;
    rc = text ? sha256_hex(text, (int64_t)strlen(text), recipe, err) : rc < 0 ? rc : ERR_NOMEM;
    mem_free(text);
    if (rc < 0)
        return rc;
    *out = json_pack("{s:s, s:s, s:I, s:{s:i, s:i}}", "manifest_sha256", manifest, "recipe_sha256", recipe, "clips",
                     (json_int_t)clips, "shard", "index", 0, "count", 1);
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for the meta entry 'dataset'");
}

static int put_meta(Import *m, const char *lines, MergedMeta *meta, Err *err)
{
    const json_t *recipe = m->given ? json_object_get(m->given, "recipe") : recipe_json(m->params->recipe);
    meta->rejected = m->given ? json_incref(json_object_get(m->given, "rejected")) : json_object();
    meta->same = json_pack("{s:O, s:O, s:O, s:O}", "vae", m->vae, "text", m->texts_meta, "encoding", m->encoding,
                           "recipe", recipe);
    json_t *colour = json_object_get(m->given, "colour"); /* NULL: none */
    if (meta->same && colour && json_object_set(meta->same, "colour", colour) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the meta entries");
    int rc = meta->same && meta->rejected ? make_dataset(m, lines, meta->rejected, &meta->dataset, err)
                                          : err_set(err, ERR_NOMEM, "no memory for the meta entries");
    if (rc == 0)
        cache_batch(m->out, INT64_MAX);
    if (rc == 0)
        rc = merged_meta_put(meta, m->out, m->params->out, err);
    return rc < 0 ? rc : cache_commit(m->out, err);
}

/* The empty prompt's embedding: from empty.safetensors, or the model's. */
static int put_empty(Import *m, Err *err)
{
    Digest text, tokens;
    SafeTensors *file = NULL;
    if (m->e)
        return import_encode(m, "", &text, &tokens, err);
    char *path = path_join(m->params->from, "empty.safetensors", err);
    int rc = path ? safetensors_open(&file, path, err) : ERR_NOMEM;
    const SafeEntry *e = rc == 0 ? safetensors_find(file, "text") : NULL;
    Tensor want = tensor_of(NULL, m->dtype, 2, m->length, m->dim), t = want;
    if (rc == 0 && (!e || e->tensor.dtype != m->dtype || !tensor_same_shape(&e->tensor, &want)))
        rc = err_set(err, ERR_FORMAT, "'%s' does not hold the empty prompt's embedding", path);
    if (rc == 0)
        rc = (t.data = mem_alloc_aligned(tensor_bytes(&t), err)) ? 0 : ERR_NOMEM;
    if (rc == 0) {
        const char *named = text_or(m->texts_meta, "empty", ""), *sum = text_or(m->given, "empty_checksum", "");
        char hex[65];
        memcpy(t.data, e->tensor.data, (size_t)tensor_bytes(&t));
        rc = import_record(m, CACHE_TEXT, RECORD_TEXT, &t, named, sum, &text, err);
        digest_hex(&text, hex);
        if (rc == 0 && strcmp(hex, named) != 0)
            rc = err_set(err, ERR_FORMAT,
                         "'%s' was changed since it was exported: give --model FOLDER to make it again", path);
    }
    mem_free_aligned(t.data);
    safetensors_close(&file);
    mem_free(path);
    return rc;
}

static int run(Import *m, const char *lines, MergedMeta *meta, Err *err)
{
    int rc = m->params->model ? read_model(m, err) : read_given(m, err);
    if (rc == 0)
        rc = vae_config_parse(&m->vae_config, json_object_get(m->vae, "config"), "the VAE of export.json", err);
    if (rc == 0) {
        read_types(m);
        rc = each_line(m, lines, 0, err);
    }
    if (rc == 0)
        rc = cache_open(&m->out, m->params->out, m->params->mode, err);
    if (rc == 0)
        rc = put_meta(m, lines, meta, err);
    if (rc == 0)
        rc = cache_begin(&m->have, m->out, err);
    if (rc == 0) {
        cache_batch(m->out, BATCH);
        rc = put_empty(m, err);
    }
    if (rc == 0)
        rc = each_line(m, lines, 1, err);
    if (rc == 0)
        rc = cache_put_meta(m->out, "rejected", meta->rejected, err);
    return rc < 0 ? rc : cache_commit(m->out, err);
}

int cache_import(const ImportParams *params, Err *err)
{
    Import m = {.params = params, .ids = json_object()};
    MergedMeta meta = {0};
    char *lines = path_join(params->from, "clips.jsonl", err);
    int rc = lines && m.ids ? run(&m, lines, &meta, err) : err_set(err, ERR_NOMEM, "no memory for the clips' ids");
    if (rc == 0)
        fprintf(params->results, "%s: %" PRId64 " clip%s\n", params->out, m.clips, str_plural(m.clips));
    import_text_fini(&m);
    cache_end(&m.have);
    cache_close(&m.out);
    merged_meta_fini(&meta);
    encoding_close(&m.e);
    mem_free(lines);
    json_decref(m.given);
    json_decref(m.vae);
    json_decref(m.texts_meta);
    json_decref(m.encoding);
    json_decref(m.ids);
    return rc;
}
