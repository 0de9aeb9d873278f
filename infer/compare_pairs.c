/* Which videos of two runs belong together. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "infer/compare.h"

/* What a video is matched by: its prompt and seed, else its id; mem_free. */
static char *match_key(const VideoItem *v, Err *err)
{
    return v->prompt && v->seed >= 0 ? mem_printf(err, "%" PRId64 " %s", v->seed, v->prompt)
                                     : mem_printf(err, "id %s", v->id);
}

/* key -> its place in the list. */
static int places_of(const VideoList *v, json_t **out, Err *err)
{
    int rc = (*out = json_object()) ? 0 : err_set(err, ERR_NOMEM, "no memory for the list of videos");
    for (int64_t i = 0; i < v->n && rc == 0; i++) {
        char *key = match_key(&v->item[i], err);
        if (!key)
            rc = ERR_NOMEM;
        else if (json_object_get(*out, key))
            rc = err_set(err, ERR_USAGE, "'%s' and '%s' have the same prompt and seed: which one is to be compared?",
                         v->item[json_integer_value(json_object_get(*out, key))].path, v->item[i].path);
        else if (json_object_set_new(*out, key, json_integer(i)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the list of videos, or '%s' is not UTF-8", v->item[i].path);
        mem_free(key);
    }
    return rc;
}

/* The number of a pair's prompt. */
static int prompt_of(json_t *numbers, const VideoItem *v, int64_t *prompts, int64_t *out, Err *err)
{
    const char *text = v->prompt ? v->prompt : v->id;
    const json_t *known = json_object_get(numbers, text);
    *out = known ? (int64_t)json_integer_value(known) : *prompts;
    if (known || json_object_set_new(numbers, text, json_integer((*prompts)++)) == 0)
        return 0;
    return err_set(err, ERR_NOMEM, "no memory for the prompts");
}

int pairs_match(const VideoList side[2], Pair **out, int64_t *n, int64_t *prompts, Err *err)
{
    json_t *other = NULL, *numbers = json_object();
    *out = mem_calloc(side[0].n, sizeof **out, err);
    *n = *prompts = 0;
    int rc = *out && numbers ? places_of(&side[1], &other, err) : ERR_NOMEM;
    if (rc == 0) { /* for its complaint about two of a kind */
        json_t *own = NULL;
        rc = places_of(&side[0], &own, err);
        json_decref(own);
    }
    for (int64_t i = 0; i < side[0].n && rc == 0; i++) {
        char *key = match_key(&side[0].item[i], err);
        const json_t *at = key ? json_object_get(other, key) : NULL;
        rc = key ? 0 : ERR_NOMEM;
        if (at) {
            Pair *p = &(*out)[(*n)++];
            *p = (Pair){{i, (int64_t)json_integer_value(at)}, 0};
            rc = prompt_of(numbers, &side[0].item[i], prompts, &p->prompt, err);
        }
        mem_free(key);
    }
    if (rc == 0 && *n == 0)
        rc = err_set(
            err, ERR_USAGE,
            "no two videos belong together: '%s' and '%s' are of other prompts or seeds; sample both runs with "
            "the same --prompts and --seed",
            side[0].item[0].path, side[1].item[0].path);
    json_decref(other);
    json_decref(numbers);
    return rc;
}

const char *pair_title(const Comparison *c, int64_t i)
{
    const VideoItem *v = &c->side[0].videos.item[c->pair[i].at[0]];
    return v->prompt ? v->prompt : v->id;
}

const char *pair_category(const Comparison *c, int64_t i)
{
    const char *base = c->side[0].videos.item[c->pair[i].at[0]].category;
    return base ? base : c->side[1].videos.item[c->pair[i].at[1]].category;
}
