/* What a list shows of a clip's entry, and the keys of the records that it names.  Entries that Weft
 * wrote are read where they stand; one that is written otherwise (an escape in a caption) is left to the
 * parser and the schema. */
#include <string.h>
#include "common/base/json_walk.h"
#include "common/store/cache_internal.h"

const char *const cache_summary_members[] = {"split",  "category", "captions", "frames",
                                             "height", "width",    "latent",   NULL};

static int64_t count_of(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

void cache_summary_json(ClipSummary *out, const json_t *facts)
{
    const json_t *latent = json_object_get(facts, "latent"), *captions = json_object_get(facts, "captions");
    *out = (ClipSummary){.split = json_string_value(json_object_get(facts, "split")),
                         .category = json_string_value(json_object_get(facts, "category")),
                         .caption = json_string_value(json_array_get(captions, 0)),
                         .captions = (int64_t)json_array_size(captions),
                         .frames = count_of(facts, "frames"),
                         .height = count_of(facts, "height"),
                         .width = count_of(facts, "width"),
                         .latent_frames = count_of(latent, "frames"),
                         .latent_height = count_of(latent, "height"),
                         .latent_width = count_of(latent, "width"),
                         .latent_channels = count_of(latent, "channels")};
}

/* ---- the text -------------------------------------------------------------------------------- */

/* The values of these names, each once: 1, or 0. */
static int find(JsonSpan object, const char *const *names, int64_t n, JsonSpan *found)
{
    JsonWalk w;
    JsonSpan key, value;
    int64_t left = n;
    int more = json_walk_begin(&w, object) && w.close == '}' ? 1 : -1;
    while (more == 1 && (more = json_walk_next(&w, &key, &value)) == 1)
        for (int64_t i = 0; i < n; i++)
            if (json_span_is(key, names[i])) {
                left -= found[i].at == NULL;
                more = found[i].at ? -1 : 1;
                found[i] = value;
            }
    return more == 0 && left == 0;
}

static int first_caption(JsonSpan captions, JsonSpan *first, int64_t *n)
{
    JsonWalk w;
    JsonSpan key, value, text;
    int more = json_walk_begin(&w, captions) && w.close == ']' ? 1 : -1;
    for (*n = 0; more == 1 && (more = json_walk_next(&w, &key, &value)) == 1; ++*n) {
        if (!json_span_text(value, &text))
            return 0;
        if (*n == 0)
            *first = text;
    }
    return more == 0 && *n > 0;
}

static const char *split_of(JsonSpan value)
{
    static const char *const splits[] = {"train", "val", "test"};
    JsonSpan text;
    for (int i = 0; json_span_text(value, &text) && i < 3; i++)
        if (json_span_is(text, splits[i]))
            return splits[i];
    return NULL;
}

int cache_summary_text(ClipSummary *out, Str *words, const char *text, int64_t size, Err *err)
{
    static const char *const sides[] = {"frames", "height", "width", "channels"};
    enum { SPLIT, CATEGORY, CAPTIONS, FRAMES, HEIGHT, WIDTH, LATENT, N };
    JsonSpan m[N] = {0}, side[4] = {0}, category = {"", 0}, caption = {"", 0};
    *out = (ClipSummary){0};
    if (!find((JsonSpan){text, size}, cache_summary_members, N, m) || !find(m[LATENT], sides, 4, side))
        return 0;
    int has_category = json_span_text(m[CATEGORY], &category);
    if (!(out->split = split_of(m[SPLIT])) || !(has_category || json_span_is(m[CATEGORY], "null")) ||
        !first_caption(m[CAPTIONS], &caption, &out->captions) || !json_span_count(m[FRAMES], &out->frames) ||
        !json_span_count(m[HEIGHT], &out->height) || !json_span_count(m[WIDTH], &out->width) ||
        !json_span_count(side[0], &out->latent_frames) || !json_span_count(side[1], &out->latent_height) ||
        !json_span_count(side[2], &out->latent_width) || !json_span_count(side[3], &out->latent_channels))
        return 0;
    words->len = 0;
    int rc = str_append_n(words, caption.at, caption.size, err);
    if (rc == 0)
        rc = str_append_n(words, "", 1, err); /* the NUL between them */
    if (rc == 0)
        rc = str_append_n(words, category.at, category.size, err);
    if (rc < 0)
        return rc;
    out->caption = words->data;
    out->category = has_category ? words->data + caption.size + 1 : NULL;
    return 1;
}

/* ---- keys ------------------------------------------------------------------------------------ */

const char *const cache_keys_members[] = {"split", "category", "texts", "latents", NULL};

/* Behind the texts' digests, which stand in `words`. */
static int finish_keys(ClipKeys *out, Str *words, const JsonSpan *category, Err *err)
{
    int64_t at = words->len;
    int rc = category ? str_append_n(words, category->at, category->size, err) : 0;
    if (rc < 0)
        return rc;
    out->text = (const Digest *)words->data;
    out->n_text = at / (int64_t)sizeof *out->text;
    out->category = category ? words->data + at : NULL;
    return 0;
}

int cache_keys_json(ClipKeys *out, Str *words, const json_t *facts, Err *err)
{
    const json_t *texts = json_object_get(facts, "texts"), *name = json_object_get(facts, "category");
    JsonSpan category = {json_string_value(name), (int64_t)json_string_length(name)};
    *out = (ClipKeys){.split = json_string_value(json_object_get(facts, "split"))};
    words->len = 0;
    int rc = digest_parse(json_string_value(json_object_get(facts, "latents")), &out->latents, err);
    for (size_t i = 0; rc == 0 && i < json_array_size(texts); i++) {
        Digest key;
        rc = digest_parse(json_string_value(json_array_get(texts, i)), &key, err);
        if (rc == 0)
            rc = str_append_n(words, (const char *)&key, sizeof key, err);
    }
    return rc < 0 ? rc : finish_keys(out, words, category.at ? &category : NULL, err);
}

/* 1, or 0 for what the schema does not take for a key. */
static int key_of(JsonSpan value, Digest *out)
{
    JsonSpan text;
    char hex[65] = "";
    if (!json_span_text(value, &text) || text.size != 64)
        return 0;
    memcpy(hex, text.at, 64);
    return strspn(hex, "0123456789abcdef") == 64 && digest_parse(hex, out, NULL) == 0;
}

/* 1, 0 where the texts must be parsed, negative: no memory. */
static int text_keys(JsonSpan texts, Str *words, Err *err)
{
    JsonWalk w;
    JsonSpan none, value;
    Digest key;
    int more = json_walk_begin(&w, texts) && w.close == ']' ? 1 : -1, rc = 0;
    while (rc == 0 && more == 1 && (more = json_walk_next(&w, &none, &value)) == 1) {
        if (!key_of(value, &key))
            return 0;
        rc = str_append_n(words, (const char *)&key, sizeof key, err);
    }
    return rc < 0 ? rc : more == 0 && words->len > 0;
}

int cache_keys_text(ClipKeys *out, Str *words, const char *text, int64_t size, Err *err)
{
    enum { SPLIT, CATEGORY, TEXTS, LATENTS, N };
    JsonSpan m[N] = {0}, category;
    *out = (ClipKeys){0};
    words->len = 0;
    if (!find((JsonSpan){text, size}, cache_keys_members, N, m) || !(out->split = split_of(m[SPLIT])) ||
        !key_of(m[LATENTS], &out->latents))
        return 0;
    int named = json_span_text(m[CATEGORY], &category), rc = text_keys(m[TEXTS], words, err);
    if (rc != 1 || !(named || json_span_is(m[CATEGORY], "null")))
        return rc < 0 ? rc : 0;
    rc = finish_keys(out, words, named ? &category : NULL, err);
    return rc < 0 ? rc : 1;
}
