/* Small caches for the tests of weft-train, and broken ones; fixture_make(PIPELINE, OUT).  Texts have the length and
 * width of the pipeline's text encoder: FIX_S and FIX_D of T5's.
 *
 * Latents fit the tiny pipeline of tests/golden (3 frames of 6 x 4); texts, moments and keys come
 * from Philox streams.
 * Clips with an even number are dresses, the others coats.
 *   a, b      5 and 3 clips (one of b's is split val); together 7 to train on, two captions each
 *             for even ones
 *   sample    4 clips with stored samples instead of moments, in half
 *   bf16      5 clips like a's, moments and texts in bfloat16
 *   again     clip-0 once more, without the empty prompt's embedding
 *   wide      twice the channels       tall     twice the height
 *   holes     a text record that is not there   lost     a latents record that is not there
 *   held      6 clips, of which the last 4 are split val
 *   nan       a latent that is no number        val       nothing to train on     other    another
 *             VAE's weights
 *   other-text, other-tokenizer, other-config     another text encoder's weights, tokenizer, VAE's
 *   config
 *   shard-K-of-N      parts of one dataset of five clips
 *   part      2 of 3 clips, as a stopped build leaves them     done      2 of 3 clips, the third
 *             rejected */
#ifndef WEFT_TESTS_TRAIN_FIXTURE_H
#define WEFT_TESTS_TRAIN_FIXTURE_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/file.h"
#include "common/store/cache.h"
#include "common/store/safetensors.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"
#include "common/text/tokenizer.h"

enum { FIX_F = 3, FIX_H = 6, FIX_W = 4, FIX_C = 4, FIX_S = 226, FIX_D = 32 };

typedef struct FixSpec {
    const char *name;
    int first, n;
    int channels;    /* 0: FIX_C */
    RecordKind kind; /* 0: RECORD_MOMENTS */
    int height;      /* 0: FIX_H */
    int holes, lost, nan, val;
    int held;  /* how many of the last clips are split val */
    int whole; /* clips its dataset has; 0: not said */
    int shard, shards;
    int text_len, text_dim; /* filled in by fixture_make */
} FixSpec;

static void fixture_hex_of(const char *what, int i, char hex[65])
{
    char text[64];

    snprintf(text, sizeof text, "%s %d", what, i);
    if (sha256_hex(text, (int64_t)strlen(text), hex, NULL) < 0)
        abort();
}

static int fixture_put_tensor(Cache *c, CacheDb db, const char *hex, RecordKind kind, DType dtype, int rank,
                              const int64_t *dim, uint64_t stream, int nan, Err *err)
{
    Philox p = philox_stream(5, RNG_TEST, 0, stream);
    Tensor t = tensor_view(NULL, dtype, rank, dim);
    int64_t n = tensor_count(&t);
    float *host = mem_calloc(n, sizeof *host, err);
    uint16_t *half = mem_calloc(n, sizeof *half, err);
    Digest key;
    int rc = host && half ? digest_parse(hex, &key, err) : ERR_NOMEM;

    if (rc == 0) {
        philox_fill_normal(&p, 0, host, n);
        if (nan)
            host[n / 3] = NAN;
        for (int64_t i = 0; i < n; i++)
            half[i] = dtype == DT_BF16 ? float_to_bfloat(host[i]) : float_to_half(host[i]);
        t.data = dtype == DT_F32 ? (void *)host : (void *)half;
        rc = cache_put_record(c, db, &key, kind, &t, err);
    }
    mem_free(host);
    mem_free(half);
    return rc;
}

static int fixture_put_clip(Cache *c, const FixSpec *s, int i, const char *vae, Err *err)
{
    char id[32], latents[65], text[2][65], tokens[65], pixels[65];
    DType dtype = !strcmp(s->name, "bf16") ? DT_BF16 : DT_F32;
    int texts = i % 2 ? 1 : 2, parts = s->kind == RECORD_MOMENTS ? 2 : 1, rc;
    json_t *facts;

    snprintf(id, sizeof id, "clip-%d", i);
    fixture_hex_of(s->name, i, latents);
    fixture_hex_of("tokens", i, tokens);
    fixture_hex_of("pixels", i, pixels);
    rc = s->lost && i == s->first
             ? 0
             : fixture_put_tensor(c, CACHE_LATENTS, latents, s->kind, s->kind == RECORD_SAMPLE ? DT_F16 : dtype, 4,
                                  (int64_t[]){FIX_F, s->height, FIX_W, parts * s->channels}, (uint64_t)i,
                                  s->nan && i == s->first, err);
    for (int k = 0; k < texts && rc == 0; k++) {
        fixture_hex_of(k ? "second text" : "text", i, text[k]);
        if (!(s->holes && i == s->first))
            rc = fixture_put_tensor(c, CACHE_TEXT, text[k], RECORD_TEXT, dtype, 2,
                                    (int64_t[]){s->text_len, s->text_dim}, (uint64_t)(1000 + 2 * i + k), 0, err);
    }
    if (rc < 0)
        return rc;
    facts = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:s, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:s, s:s, s:s, s:s}",
        "latents", latents, "texts", texts == 2 ? json_pack("[s, s]", text[0], text[1]) : json_pack("[s]", text[0]),
        "tokens", texts == 2 ? json_pack("[s, s]", tokens, tokens) : json_pack("[s]", tokens), "captions",
        texts == 2 ? json_pack("[s, s]", "one", "two") : json_pack("[s]", "one"), "split",
        (s->val && i == s->first + s->n - 1) || i >= s->first + s->n - s->held ? "val"
        : s->val > 1                                                           ? "test"
                                                                               : "train",
        "category", i % 2 ? "coat" : "dress", "attributes", "frames", 9, "height", 8 * s->height, "width", 32, "fps", 8,
        "latent", "frames", FIX_F, "height", s->height, "width", FIX_W, "channels", s->channels, "pixels_sha256",
        pixels, "file_sha256", pixels, "vae_sha256", vae, "text_encoder_sha256", pixels);
    rc = facts ? cache_put_clip(c, id, facts, err) : ERR_NOMEM;
    json_decref(facts);
    return rc;
}

static int fixture_put_dataset(Cache *c, const FixSpec *s, const char *hex, Err *err)
{
    json_t *dataset = json_pack("{s:s, s:s, s:i, s:{s:i, s:i}}", "manifest_sha256", hex, "recipe_sha256", hex, "clips",
                                s->whole, "shard", "index", s->shard, "count", s->shards ? s->shards : 1);
    json_t *rejected = json_pack("{s:s}", "clip-99", "its pixels have changed");
    int rc = dataset && rejected ? cache_put_meta(c, "dataset", dataset, err) : ERR_NOMEM;

    if (rc == 0 && !strcmp(s->name, "done"))
        rc = cache_put_meta(c, "rejected", rejected, err);
    json_decref(dataset);
    json_decref(rejected);
    return rc;
}

/* Meta 'vae' and 'text' as weft-cache build writes them for the pipeline. */
typedef struct FixMeta {
    json_t *vae, *text;
} FixMeta;

static int fixture_make_cache(const char *out, const FixSpec *s, const FixMeta *m, Err *err)
{
    char *dir = path_join(out, s->name, err), other[65];
    json_t *vae = json_deep_copy(m->vae), *text = json_deep_copy(m->text);
    Cache *c = NULL;
    int rc = dir && vae && text ? cache_open(&c, dir, CACHE_WRITE, err) : ERR_NOMEM;

    fixture_hex_of("another", 0, other);
    if (rc == 0) {
        json_object_set_new(vae, "latent_channels", json_integer(s->channels));
        if (!strcmp(s->name, "other"))
            json_object_set_new(vae, "weights_sha256", json_string(other));
        if (!strcmp(s->name, "other-config"))
            json_object_set_new(json_object_get(vae, "config"), "norm_eps", json_real(1e-3));
        if (!strcmp(s->name, "other-text"))
            json_object_set_new(text, "weights_sha256", json_string(other));
        if (!strcmp(s->name, "other-tokenizer"))
            json_object_set_new(text, "tokenizer_sha256", json_string(other));
        rc = cache_put_meta(c, "vae", vae, err);
    }
    if (rc == 0)
        rc = cache_put_meta(c, "text", text, err);
    if (rc == 0 && strcmp(s->name, "again")) /* the empty prompt's embedding */
        rc = fixture_put_tensor(c, CACHE_TEXT, json_string_value(json_object_get(text, "empty")), RECORD_TEXT, DT_F32,
                                2, (int64_t[]){s->text_len, s->text_dim}, 999, 0, err);
    if (rc == 0 && s->whole)
        rc = fixture_put_dataset(c, s, other, err);
    for (int i = s->first; i < s->first + s->n && rc == 0; i++)
        rc = fixture_put_clip(c, s, i, other, err);
    cache_close(&c);
    json_decref(vae);
    json_decref(text);
    mem_free(dir);
    return rc;
}

static int fixture_digest(const char *folder, const char *stem, char hex[65], Err *err)
{
    SafeTensors *file = NULL;
    int rc = safetensors_open_folder(&file, folder, stem, NULL, err);

    if (rc == 0)
        rc = safetensors_digest(file, hex, err);
    safetensors_close(&file);
    return rc;
}

static int fixture_config(const char *folder, json_t **out, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    json_t *json = NULL;
    VaeConfig vae;
    TextConfig text;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;

    if (rc == 0 && !strcmp(path_base(folder), "vae") && (rc = vae_config_parse(&vae, json, path, err)) == 0)
        *out = vae_config_json(&vae, err);
    else if (rc == 0 && (rc = text_config_parse(&text, json, path, err)) == 0)
        *out = text_config_json(&text, err);
    json_decref(json);
    mem_free(path);
    return rc;
}

static int fixture_meta(const char *pipeline, FixMeta *m, Err *err)
{
    char *vae = path_join(pipeline, "vae", err), *text = path_join(pipeline, "text_encoder", err);
    char *tokenizer = path_join(pipeline, "tokenizer", err), hex[2][65];
    json_t *config[2] = {NULL, NULL};
    Tokenizer *t = NULL;
    TextConfig c;
    int rc = vae && text && tokenizer ? 0 : ERR_NOMEM;

    if (rc == 0 && (rc = fixture_digest(vae, "diffusion_pytorch_model", hex[0], err)) == 0 &&
        (rc = fixture_digest(text, "model", hex[1], err)) == 0 && (rc = fixture_config(vae, &config[0], err)) == 0 &&
        (rc = fixture_config(text, &config[1], err)) == 0 && (rc = text_config_read(&c, text, err)) == 0 &&
        (rc = tokenizer_open(&t, tokenizer, TEXT_AUTO, err)) == 0) {
        int length = c.kind == TEXT_CLIP ? (int)c.clip.positions : FIX_S;
        m->vae = json_pack("{s:f, s:b, s:i, s:O, s:s, s:n}", "scaling_factor", 1.15258426, "invert_scale_latents", 0,
                           "latent_channels", FIX_C, "config", config[0], "weights_sha256", hex[0], "tiling");
        m->text = json_pack("{s:i, s:i, s:O, s:s, s:s, s:s}", "length", length, "dim", (int)text_config_width(&c),
                            "config", config[1], "weights_sha256", hex[1], "tokenizer_sha256", tokenizer_digest(t),
                            "empty", hex[1]);
        rc = m->vae && m->text ? 0 : ERR_NOMEM;
    }
    tokenizer_close(&t);
    json_decref(config[0]);
    json_decref(config[1]);
    mem_free(vae);
    mem_free(text);
    mem_free(tokenizer);
    return rc;
}

static int fixture_make(const char *pipeline, const char *out, Err *err)
{
    static const FixSpec spec[] = {
        {.name = "a", .first = 0, .n = 5},
        {.name = "b", .first = 5, .n = 3, .val = 1},
        {.name = "sample", .first = 0, .n = 4, .kind = RECORD_SAMPLE},
        {.name = "bf16", .first = 0, .n = 5},
        {.name = "again", .first = 0, .n = 1},
        {.name = "wide", .first = 0, .n = 2, .channels = 2 * FIX_C},
        {.name = "tall", .first = 5, .n = 2, .height = 2 * FIX_H},
        {.name = "holes", .first = 0, .n = 2, .holes = 1},
        {.name = "lost", .first = 0, .n = 2, .lost = 1},
        {.name = "held", .first = 20, .n = 6, .held = 4},
        {.name = "nan", .first = 0, .n = 1, .nan = 1},
        {.name = "val", .first = 0, .n = 2, .val = 2},
        {.name = "other", .first = 0, .n = 2},
        {.name = "other-text", .first = 5, .n = 2},
        {.name = "other-tokenizer", .first = 5, .n = 2},
        {.name = "other-config", .first = 5, .n = 2},
        {.name = "part", .first = 0, .n = 2, .whole = 3},
        {.name = "done", .first = 0, .n = 2, .whole = 3},
        {.name = "shard-0-of-3", .first = 0, .n = 2, .whole = 2, .shards = 3},
        {.name = "shard-1-of-3", .first = 2, .n = 2, .whole = 2, .shard = 1, .shards = 3},
        {.name = "shard-2-of-3", .first = 4, .n = 1, .whole = 1, .shard = 2, .shards = 3},
        {.name = "shard-1-of-2", .first = 5, .n = 2, .whole = 2, .shard = 1, .shards = 2},
    };
    FixMeta m = {NULL, NULL};
    int rc = fixture_meta(pipeline, &m, err);

    for (size_t i = 0; i < sizeof spec / sizeof *spec && rc == 0; i++) {
        FixSpec one = spec[i];
        one.channels = one.channels ? one.channels : FIX_C;
        one.height = one.height ? one.height : FIX_H;
        one.kind = one.kind ? one.kind : RECORD_MOMENTS;
        one.text_len = (int)json_integer_value(json_object_get(m.text, "length"));
        one.text_dim = (int)json_integer_value(json_object_get(m.text, "dim"));
        rc = fixture_make_cache(out, &one, &m, err);
    }
    json_decref(m.vae);
    json_decref(m.text);
    return rc;
}
#endif
