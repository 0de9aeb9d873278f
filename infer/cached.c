#include "infer/cached.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/store/cache.h"

/* One clip's first caption. */
typedef struct Caption {
    char *clip, *text, *category; /* category NULL: none */
    char split[8];
} Caption;

struct Cached {
    const char *path; /* borrowed */
    Cache *cache;
    json_t *facts; /* meta "text" */
    json_t *key;   /* text -> hex */
    Caption *caption;
    int64_t n, room;
};

static int no_memory(Err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the captions of the cache");
}

static int know(Cached *c, const char *text, const json_t *hex, Err *err)
{
    if (json_object_get(c->key, text))
        return 0;
    return json_object_set(c->key, text, (json_t *)(uintptr_t)hex) < 0 ? no_memory(err) : 0;
}

static int add_caption(Cached *c, const char *id, const json_t *facts, const char *text, Err *err)
{
    const char *category = json_string_value(json_object_get(facts, "category"));
    if (mem_grow(&c->caption, c->n, &c->room, sizeof *c->caption, err) < 0)
        return ERR_NOMEM;
    Caption *a = &c->caption[c->n++];
    *a = (Caption){.clip = mem_strdup(id, err), .text = mem_strdup(text, err)};
    if (category)
        a->category = mem_strdup(category, err);
    snprintf(a->split, sizeof a->split, "%s", json_string_value(json_object_get(facts, "split")));
    return a->clip && a->text && (!category || a->category) ? 0 : ERR_NOMEM;
}

static int read_clips(Cached *c, CacheTxn *t, Err *err)
{
    CacheCursor *cursor = NULL;
    json_t *facts = NULL;
    const char *id;
    int rc;
    while ((rc = cache_next_clip(t, &cursor, &id, &facts, err)) == 1) {
        const json_t *captions = json_object_get(facts, "captions"), *texts = json_object_get(facts, "texts");
        rc = add_caption(c, id, facts, json_string_value(json_array_get(captions, 0)), err);
        for (size_t i = 0; rc == 0 && i < json_array_size(captions) && i < json_array_size(texts); i++)
            rc = know(c, json_string_value(json_array_get(captions, i)), json_array_get(texts, i), err);
        json_decref(facts);
        if (rc < 0)
            break;
    }
    cache_cursor_free(&cursor);
    return rc;
}

/* validation.prompts, which weft-cache build encodes too, and the empty text. */
static int read_prompts(Cached *c, CacheTxn *t, Err *err)
{
    json_t *prompts = NULL, *keys;
    const char *text;
    int rc = cache_get_meta(t, "prompts", &prompts, err);
    json_object_foreach (prompts, text, keys) {
        if (rc >= 0)
            rc = know(c, text, json_object_get(keys, "text"), err);
    }
    json_decref(prompts);
    return rc < 0 ? rc : know(c, "", json_object_get(c->facts, "empty"), err);
}

int cached_open(Cached **out, const char *cache, Err *err)
{
    Cached *c = mem_calloc(1, sizeof *c, err);
    CacheTxn *t = NULL;
    *out = NULL;
    if (!c)
        return ERR_NOMEM;
    c->path = cache;
    c->key = json_object();
    int rc = c->key ? cache_open(&c->cache, cache, CACHE_READ, err) : no_memory(err);
    if (rc == 0)
        rc = cache_begin(&t, c->cache, err);
    if (rc == 0 && (rc = cache_get_meta(t, "text", &c->facts, err)) == 0)
        rc = err_set(err, ERR_FORMAT, "'%s' is unfinished: run weft-cache build again", cache);
    if (rc >= 0)
        rc = read_prompts(c, t, err);
    if (rc == 0)
        rc = read_clips(c, t, err);
    cache_end(&t);
    if (rc < 0)
        cached_close(&c);
    *out = c;
    return rc;
}

void cached_close(Cached **cc)
{
    Cached *c = *cc;
    if (!c)
        return;
    for (int64_t i = 0; i < c->n; i++) {
        mem_free(c->caption[i].clip);
        mem_free(c->caption[i].text);
        mem_free(c->caption[i].category);
    }
    mem_free(c->caption);
    json_decref(c->facts);
    json_decref(c->key);
    cache_close(&c->cache);
    mem_free(c);
    *cc = NULL;
}

/* ---- prompts --------------------------------------------------------------------------------- */

typedef struct Walk {
    const Cached *c;
    const char *split;
    int64_t at, left; /* left < 0: no limit */
} Walk;

static int next_caption(void *user, PromptLine *line, Err *err)
{
    Walk *w = user;
    (void)err;
    for (; w->at < w->c->n && w->left != 0; w->at++) {
        const Caption *a = &w->c->caption[w->at];
        if (w->split && strcmp(w->split, a->split) != 0)
            continue;
        line->text = a->text;
        line->category = a->category;
        line->clip = a->clip;
        line->where = a->clip;
        w->at++;
        w->left--;
        return 1;
    }
    return 0;
}

int cached_prompts(Cached *c, const char *split, int64_t limit, int64_t seed, int64_t per_prompt, PromptList *out,
                   Err *err)
{
    Walk w = {.c = c, .split = split, .left = limit > 0 ? limit : -1};
    int rc = prompts_from(out, next_caption, &w, seed, per_prompt, err);
    if (rc == 0 && out->n == 0)
        rc = err_set(err, ERR_USAGE, "'%s' has no clips%s%s", c->path, split ? " of split " : "", split ? split : "");
    return rc;
}

/* ---- embeddings ------------------------------------------------------------------------------ */

const json_t *cached_facts(const Cached *c)
{
    return c->facts;
}

const char *cached_key(const Cached *c, const char *text)
{
    return json_string_value(json_object_get(c->key, text));
}

int cached_check_shape(const Cached *c, int64_t text_len, int64_t text_dim, Err *err)
{
    int64_t len = json_integer_value(json_object_get(c->facts, "length"));
    int64_t dim = json_integer_value(json_object_get(c->facts, "dim"));
    if (len == text_len && dim == text_dim)
        return 0;
    return err_set(err, ERR_USAGE,
                   "'%s' has embeddings of %" PRId64 "x%" PRId64 ", but the transformer reads %" PRId64 "x%" PRId64
                   ": it was built with another text encoder or model.text_length",
                   c->path, len, dim, text_len, text_dim);
}

/* The record of a text's embedding, with its checksum looked at if `verify`: 1; *t is the caller's to end. */
static int find_record(const Cached *c, const char *text, int verify, CacheTxn **t, RecordView *r, Err *err)
{
    int64_t n = json_integer_value(json_object_get(c->facts, "length")) *
                json_integer_value(json_object_get(c->facts, "dim"));
    const char *hex = cached_key(c, text);
    Digest key;
    *t = NULL;
    if (!hex)
        return err_set(err, ERR_USAGE,
                       "'%s' has no embedding of \"%.80s\": it has those of captions, of validation.prompts and of the "
                       "empty prompt; leave --from-cache out to encode others",
                       c->path, text);
    int rc = digest_parse(hex, &key, err);
    if (rc == 0)
        rc = cache_begin(t, c->cache, err);
    if (rc == 0 && (rc = cache_get_record(*t, CACHE_TEXT, &key, verify, r, err)) == 0)
        rc = err_set(err, ERR_FORMAT, "'%s' has lost the embedding of \"%.80s\"; run weft-cache build again", c->path,
                     text);
    if (rc == 1 && (r->kind != RECORD_TEXT || tensor_count(&r->tensor) != n))
        rc = err_set(err, ERR_FORMAT, "'%s': the embedding of \"%.80s\" has another shape than its cache says", c->path,
                     text);
    return rc;
}

int cached_check_text(const Cached *c, const char *text, Err *err)
{
    CacheTxn *t;
    RecordView r;
    int rc = find_record(c, text, 0, &t, &r, err);
    cache_end(&t);
    return rc < 0 ? rc : 0;
}

int cached_text(Cached *c, const char *text, float *out, Err *err)
{
    CacheTxn *t;
    RecordView r;
    int rc = find_record(c, text, 1, &t, &r, err);
    for (int64_t i = 0; rc == 1 && i < tensor_count(&r.tensor); i++)
        out[i] = (float)tensor_get(&r.tensor, i);
    cache_end(&t);
    return rc < 0 ? rc : 0;
}
