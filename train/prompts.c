#include <inttypes.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "train/prompts.h"

/* ---- finding --------------------------------------------------------------------------------- */

/* In the meta entry "prompts": 1 found, 0 not. */
static int find_prompt(CacheTxn *t, Prompt *p, Err *err)
{
    json_t *all = NULL;
    const char *hex;
    int rc = cache_get_meta(t, "prompts", &all, err);

    if (rc > 0) {
        hex = json_string_value(json_object_get(json_object_get(all, p->text), "text"));
        rc = hex ? digest_parse(hex, &p->key, err) : 0;
        rc = rc < 0 ? rc : hex != NULL;
    }
    json_decref(all);
    return rc;
}

/* Among the captions of the clips. */
static int find_caption(CacheTxn *t, Prompt *p, Err *err)
{
    CacheCursor *cursor = NULL;
    json_t *facts = NULL;
    const char *id;
    int rc, found = 0;

    while (!found && (rc = cache_next_clip(t, &cursor, &id, &facts, err)) == 1) {
        const json_t *captions = json_object_get(facts, "captions"), *v;
        size_t i;
        json_array_foreach (captions, i, v) {
            const char *hex = json_string_value(json_array_get(json_object_get(facts, "texts"), i));
            if (!found && hex && strcmp(json_string_value(v), p->text) == 0)
                found = digest_parse(hex, &p->key, err) < 0 ? ERR_FORMAT : 1;
        }
        json_decref(facts);
    }
    cache_cursor_free(&cursor);
    return found ? found : rc;
}

static int find_empty(const Dataset *d, Prompt *p, Err *err)
{
    const char *hex;
    int rc = json_get_str(d->text, "empty", "meta 'text'", &hex, err);

    return rc < 0 ? rc : digest_parse(hex, &p->key, err) < 0 ? ERR_FORMAT : 1;
}

static int find(Prompt *p, const Dataset *d, const char *text, Err *err)
{
    int rc = 0;

    *p = (Prompt){.text = text};
    if (!*text)
        rc = find_empty(d, p, err);
    for (int pass = 0; pass < 2 && rc == 0; pass++)
        for (int64_t k = 0; k < d->n_cache && rc == 0; k++) {
            CacheTxn *t = NULL;
            p->cache = k;
            if ((rc = cache_begin(&t, d->cache[k], err)) == 0)
                rc = pass ? find_caption(t, p, err) : find_prompt(t, p, err);
            cache_end(&t);
        }
    if (rc == 0)
        return err_set(
            err, ERR_USAGE,
            "the prompt \"%.80s\" (validation.prompts, or their sampling.negative_prompt) is not in the cache: "
            "run weft-cache build with the same recipe",
            text);
    return rc < 0 ? rc : prompt_read(p, d, NULL, err);
}

int prompts_find(Prompts *out, const Dataset *d, const Recipe *recipe, Err *err)
{
    const json_t *list = recipe_get(recipe, "validation.prompts");
    int64_t n = (int64_t)json_array_size(list);
    int rc = 0;

    *out = (Prompts){0};
    if (n == 0)
        return 0;
    if (!(out->prompt = mem_calloc(n, sizeof *out->prompt, err)))
        return ERR_NOMEM;
    for (; rc == 0 && out->n < n; out->n++)
        rc = find(&out->prompt[out->n], d, json_string_value(json_array_get(list, (size_t)out->n)), err);
    if (rc == 0 && recipe_num(recipe, "sampling.guidance_scale") > 1)
        rc = find(&out->negative, d, recipe_str(recipe, "sampling.negative_prompt"), err);
    return rc;
}

void prompts_free(Prompts *p)
{
    mem_free(p->prompt);
    *p = (Prompts){0};
}

/* ---- reading --------------------------------------------------------------------------------- */

int prompt_read(const Prompt *p, const Dataset *d, float *out, Err *err)
{
    CacheTxn *t = NULL;
    RecordView r;
    char got[160];
    int rc = cache_begin(&t, d->cache[p->cache], err);

    if (rc == 0 && (rc = cache_get_record(t, CACHE_TEXT, &p->key, out != NULL, &r, err)) == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "the embedding of the prompt \"%.80s\" is not in the cache; run weft-cache build again", p->text);
    if (rc > 0 && (r.kind != RECORD_TEXT || r.tensor.dim[0] != d->text_len || r.tensor.dim[1] != d->text_dim))
        rc = err_set(err, ERR_USAGE,
                     "the embedding of the prompt \"%.80s\" is %s, but the transformer reads [%" PRId64 ", %" PRId64
                     "]",
                     p->text, tensor_describe(&r.tensor, got, sizeof got), d->text_len, d->text_dim);
    for (int64_t i = 0; rc > 0 && out && i < d->text_len * d->text_dim; i++)
        out[i] = (float)tensor_get(&r.tensor, i);
    cache_end(&t);
    return rc < 0 ? rc : 0;
}
