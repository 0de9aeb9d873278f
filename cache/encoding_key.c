/* Content keys.  Most of a key's text is the same for all clips (texts) and written once. */
#include <string.h>
#include "cache/encoding_internal.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void encoding_write_tiling(JsonWriter *w, const Encoding *e)
{
    const VaeTiling *t = &e->tiling;
    const int64_t pixels[2] = {t->pixel_height, t->pixel_width}, latents[2] = {t->latent_height, t->latent_width};
    if (!t->enabled) {
        jsonw_null(w, "tiling");
        return;
    }
    jsonw_open(w, "tiling");
    jsonw_ints(w, "pixels", pixels, 2);
    jsonw_ints(w, "latents", latents, 2);
    jsonw_open_array(w, "overlap");
    jsonw_num(w, NULL, t->overlap_height);
    jsonw_num(w, NULL, t->overlap_width);
    jsonw_close(w);
    jsonw_close(w);
}

/* The canonical text of a key's parts. */
static int finish_parts(JsonWriter *w, char **out, Err *err)
{
    json_t *parts;
    int rc = jsonw_finish(w, &parts, "a content key", err);
    *out = NULL;
    if (rc == 0 && !(*out = json_canonical(parts, err)))
        rc = ERR_NOMEM;
    json_decref(parts);
    return rc;
}

static int write_text_parts(Encoding *e, Err *err)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "kind", "text");
    jsonw_int(&w, "revision", CACHE_TEXT_REVISION);
    jsonw_ints(&w, "ids", NULL, 0);
    jsonw_int(&w, "length", e->form.length);
    if (e->form.kind != TEXT_T5) /* whose padding is always 0 */
        jsonw_int(&w, "pad", e->form.pad);
    jsonw_share(&w, "config", e->text_json);
    jsonw_str(&w, "weights", e->text_sha256);
    jsonw_str(&w, "compute", dtype_name(e->be->act));
    jsonw_str(&w, "dtype", e->dtype_name);
    mem_free(e->text_parts);
    return finish_parts(&w, &e->text_parts, err);
}

static int write_latents_parts(Encoding *e, Err *err)
{
    int sample = e->kind == RECORD_SAMPLE;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "kind", "latents");
    jsonw_int(&w, "revision", CACHE_LATENTS_REVISION);
    jsonw_str(&w, "pixels", "");
    jsonw_ints(&w, "size", NULL, 0);
    jsonw_share(&w, "config", e->vae_json);
    jsonw_str(&w, "weights", e->vae_sha256);
    encoding_write_tiling(&w, e);
    jsonw_str(&w, "compute", dtype_name(e->be->act));
    if (e->be->direct_conv)
        jsonw_str(&w, "convolution", "direct");
    jsonw_str(&w, "dtype", e->dtype_name);
    jsonw_str(&w, "store", sample ? "sample" : "moments");
    if (sample)
        jsonw_int(&w, "seed", e->seed);
    mem_free(e->latents_parts);
    return finish_parts(&w, &e->latents_parts, err);
}

int encoding_write_parts(Encoding *e, Err *err)
{
    int rc = write_text_parts(e, err);
    return rc < 0 ? rc : write_latents_parts(e, err);
}

/* Appends the text from `from` up to and with the mark's last place, and returns what follows.  (Keys are sorted: only
 * "config" before it can hold another one.) */
static const char *append_to(Str *s, const char *from, const char *mark, int *rc, Err *err)
{
    const char *at = from, *last = NULL;
    while ((at = strstr(at, mark)) != NULL)
        last = at++;
    const char *end = last + strlen(mark);
    if (*rc == 0)
        *rc = str_append_n(s, from, end - from, err);
    return end;
}

static int hash_key(Str *s, const char *rest, int rc, Digest *out, Err *err)
{
    if (rc == 0)
        rc = str_append(s, rest, err);
    if (rc == 0)
        rc = sha256_bytes(s->data, s->len, out, err);
    str_fini(s);
    return rc;
}

int encoding_text_key(const Encoding *e, const PreparedText *t, Digest *out, Err *err)
{
    Str s = {0};
    int rc = 0;
    const char *rest = append_to(&s, e->text_parts, "\"ids\":[", &rc, err);
    for (int64_t i = 0; rc == 0 && i < t->n; i++)
        rc = str_printf(&s, err, i ? ",%d" : "%d", t->ids[i]);
    return hash_key(&s, rest, rc, out, err);
}

int encoding_tokens_key(const Encoding *e, const char *text, Digest *out, Err *err)
{
    json_t *parts;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "kind", "tokens");
    jsonw_str(&w, "text", text);
    jsonw_str(&w, "tokenizer", e->tokenizer_sha256);
    jsonw_int(&w, "length", e->form.length);
    int rc = jsonw_finish(&w, &parts, "a content key", err);
    if (rc == 0)
        rc = cache_key(out, parts, err);
    json_decref(parts);
    return rc;
}

int encoding_latents_key(const Encoding *e, const PreparedClip *c, Digest *out, Err *err)
{
    Str s = {0};
    int rc = 0;
    const char *rest = append_to(&s, e->latents_parts, "\"pixels\":\"", &rc, err);
    if (rc == 0)
        rc = str_append(&s, c->pixels_sha256, err);
    rest = append_to(&s, rest, "\"size\":[", &rc, err);
    if (rc == 0)
        rc = str_printf(&s, err, "%" PRId64 ",%" PRId64 ",%" PRId64, c->frames, c->height, c->width);
    return hash_key(&s, rest, rc, out, err);
}
