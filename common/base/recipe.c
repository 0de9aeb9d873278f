#include "common/base/recipe_internal.h"
#include <assert.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"

#define PRESET_DIR "common/presets/"
#define PRESET_DEFAULT "fashion-2b"

struct Recipe {
    json_t *json;
    json_t *given;   /* "section.key" -> where its value was given: the file or "--set"; NULL: stored */
    char preset[64]; /* which preset it started from */
};

/* ---- presets ------------------------------------------------------------------------ */

static int no_memory(Err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory: reading the recipe");
}

static int load_preset(json_t **out, const char *name, Err *err)
{
    char *path = mem_printf(err, PRESET_DIR "%s.json", name);
    if (!path)
        return ERR_NOMEM;
    const char *text = embedded_file(path);
    int rc = text ? json_parse(out, text, (int64_t)strlen(text), path, err) : ERR_USAGE;
    mem_free(path);
    if (text)
        return rc;
    Str known = {0};
    const char *file;
    for (int64_t i = 0; (file = embedded_path(i)) != NULL && rc != ERR_NOMEM; i++) {
        if (strncmp(file, PRESET_DIR, strlen(PRESET_DIR)) != 0)
            continue;
        file += strlen(PRESET_DIR);
        rc = str_printf(&known, err, "%s%.*s", known.len ? ", " : "", (int)strcspn(file, "."), file);
    }
    if (rc != ERR_NOMEM)
        rc = err_set(err, ERR_USAGE, "no preset named '%s'; there are: %s", name, known.data ? known.data : "none");
    str_fini(&known);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Whole numbers become reals where the schema says "number": one meaning, one form, one hash. */
static int reals_as_reals(const json_t *schema, json_t *recipe, Err *err)
{
    const char *key;
    json_t *rule;
    json_object_foreach (json_object_get(schema, "properties"), key, rule) {
        json_t *v = json_object_get(recipe, key);
        const json_t *type = json_object_get(rule, "type");
        const char *first = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
        int rc = 0;
        if (json_is_object(v))
            rc = reals_as_reals(rule, v, err);
        else if (json_is_integer(v) && first && strcmp(first, "number") == 0) {
            if (json_object_set_new(recipe, key, json_real((double)json_integer_value(v))) < 0)
                rc = no_memory(err);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_frames(const json_t *recipe, Err *err)
{
    const json_t *clip = json_object_get(recipe, "clip");
    int64_t num = json_integer_value(json_object_get(clip, "num_frames")), latents;
    int64_t model = json_integer_value(json_object_get(clip, "model_frames"));
    int rc = model_frames_check(model, &latents, err);
    if (rc < 0)
        return err_wrap(err, rc, "'clip.model_frames'");
    if (num == model || num == model - 1)
        return 0;
    return err_set(err, ERR_USAGE,
                   "'clip.num_frames' is %" PRId64 "; with 'clip.model_frames' %" PRId64 " expected %" PRId64
                   " or %" PRId64,
                   num, model, model - 1, model);
}

/* reals_as_reals with the recipe's own schema. */
static int finish_numbers(json_t *json, Err *err)
{
    Schema *schema;
    int rc = schema_open(&schema, "recipe", err);
    if (rc < 0)
        return rc;
    rc = reals_as_reals(schema_json(schema), json, err);
    schema_close(&schema);
    return rc;
}

/* Validates and takes over `json` (on success); `what` stands in messages. */
static int finish(Recipe **out, json_t *json, const char *what, Err *err)
{
    Schema *schema;
    int rc = schema_open(&schema, "recipe", err);
    if (rc < 0)
        return rc;
    rc = schema_validate(schema, json, what, err);
    if (rc == 0)
        rc = reals_as_reals(schema_json(schema), json, err);
    if (rc == 0)
        rc = check_frames(json, err);
    schema_close(&schema);
    if (rc < 0)
        return rc;
    Recipe *r = mem_calloc(1, sizeof *r, err);
    if (!r)
        return ERR_NOMEM;
    r->json = json;
    snprintf(r->preset, sizeof r->preset, "%s", PRESET_DEFAULT);
    *out = r;
    return 0;
}

static int read_all(RecipeReader *r, const CommonOptions *common, Err *err)
{
    Err frames = {0};
    int rc = r->given && r->names ? 0 : no_memory(err);
    if (rc == 0 && common->config)
        rc = recipe_read_config(r, common->config, err);
    for (int64_t i = 0; i < common->set.n && rc == 0; i++)
        rc = recipe_read_set(r, common->set.item[i], err);
    for (const char **k = common->keys.item, **end = k + common->keys.n; k < end && rc == 0; k += 3)
        rc = recipe_read_option(r, k[0], k[1], k[2], err);
    if (rc == 0 && common->seed >= 0 && json_object_set_new(r->recipe, "seed", json_integer(common->seed)) < 0)
        rc = no_memory(err);
    if (rc == 0 && check_frames(r->recipe, &frames) < 0)
        rc = recipe_problem(r, err, "recipe: %s", frames.msg);
    return rc == 0 ? recipe_problems(r, err) : rc;
}

int recipe_open(Recipe **out, const CommonOptions *common, Err *err)
{
    Schema *schema = NULL;
    RecipeReader r = {.given = json_object(), .names = json_object()};
    const char *preset = common->preset ? common->preset : PRESET_DEFAULT;
    *out = NULL;
    int rc = load_preset(&r.recipe, preset, err);
    if (rc == 0)
        rc = schema_open(&schema, "recipe", err);
    r.schema = schema;
    if (rc == 0)
        rc = read_all(&r, common, err);
    if (rc == 0)
        rc = finish(out, r.recipe, "recipe", err);
    if (rc == 0) {
        snprintf((*out)->preset, sizeof(*out)->preset, "%s", preset);
        (*out)->given = json_incref(r.given);
        r.recipe = NULL; /* the recipe's now */
    }
    json_decref(r.recipe);
    json_decref(r.given);
    json_decref(r.names);
    str_fini(&r.problems);
    schema_close(&schema);
    if (rc == ERR_FORMAT)
        rc = ERR_USAGE; /* bad data, but it is what was asked for */
    if (err && rc < 0)
        err->code = rc;
    return rc;
}

int recipe_complete(json_t **out, const json_t *stored, Err *err)
{
    *out = NULL;
    if (!json_is_object(stored))
        return err_set(err, ERR_FORMAT, "stored recipe: expected an object of sections");
    int rc = load_preset(out, PRESET_DEFAULT, err);
    if (rc == 0 && json_object_update_recursive(*out, (json_t *)(uintptr_t)stored) < 0)
        rc = no_memory(err);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

int recipe_from_json(Recipe **out, const json_t *v, Err *err)
{
    *out = NULL;
    json_t *copy;
    int rc = recipe_complete(&copy, v, err);
    if (rc == 0)
        rc = finish(out, copy, "stored recipe", err);
    if (rc == 0)
        return 0;
    json_decref(copy);
    if (rc == ERR_USAGE)
        rc = ERR_FORMAT;
    if (err)
        err->code = rc;
    return rc;
}

void recipe_close(Recipe **r)
{
    if (!*r)
        return;
    json_decref((*r)->json);
    json_decref((*r)->given);
    mem_free(*r);
    *r = NULL;
}

const json_t *recipe_json(const Recipe *r)
{
    return r->json;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The value under a dotted path, or NULL. */
static json_t *value_at(const json_t *at, const char *path)
{
    while (at && *path) {
        size_t n = strcspn(path, ".");
        char key[64];
        assert(n < sizeof key);
        memcpy(key, path, n);
        key[n] = 0;
        at = json_object_get(at, key);
        path += n + (path[n] == '.');
    }
    return (json_t *)(uintptr_t)at;
}

const json_t *recipe_get(const Recipe *r, const char *path)
{
    const json_t *at = value_at(r->json, path);
    assert(at && "the schema lacks a key that the code asks for");
    return at;
}

int64_t recipe_int(const Recipe *r, const char *path)
{
    const json_t *v = recipe_get(r, path);
    assert(json_is_integer(v) || json_is_null(v));
    return json_is_null(v) ? -1 : json_integer_value(v);
}

double recipe_num(const Recipe *r, const char *path)
{
    const json_t *v = recipe_get(r, path);
    assert(json_is_number(v));
    return json_number_value(v);
}

int recipe_bool(const Recipe *r, const char *path)
{
    const json_t *v = recipe_get(r, path);
    assert(json_is_boolean(v));
    return json_is_true(v);
}

const char *recipe_str(const Recipe *r, const char *path)
{
    const json_t *v = recipe_get(r, path);
    assert(json_is_string(v) || json_is_null(v));
    return json_string_value(v);
}

const char *recipe_given(const Recipe *r, const char *path)
{
    return json_string_value(json_object_get(r->given, path));
}

static int adopt(Recipe *r, const char *path, json_t *value, const char *where, Err *err)
{
    json_t *mine = value_at(r->json, path);
    const char *dot = strchr(path, '.'), *given = recipe_given(r, path);
    assert(mine && dot);
    if (!value || json_equal(mine, value))
        return 0;
    if (given) {
        char *a = json_text(mine, 0, err), *b = json_text(value, 0, err);
        int rc = a && b ? err_set(err, ERR_USAGE, "'%s' is %s in %s, but '%s' was made with %s: leave the key out",
                                  path, a, given, where, b)
                        : ERR_NOMEM;
        mem_free(a);
        mem_free(b);
        return rc;
    }
    char section[64];
    snprintf(section, sizeof section, "%.*s", (int)(dot - path), path);
    return json_object_set(json_object_get(r->json, section), dot + 1, value) < 0 ? no_memory(err) : 0;
}

int recipe_adopt(Recipe *r, const json_t *stored, const char *const *paths, const char *where, Err *err)
{
    int rc = 0;
    for (; *paths && rc == 0; paths++)
        rc = adopt(r, *paths, value_at(stored, *paths), where, err);
    return rc;
}

enum { LOGGED_KEYS = 10 }; /* with the preset's line and the last one, a dozen */

static int64_t log_differences(const json_t *section, const json_t *preset, const char *prefix, int everything,
                               int64_t shown, const Log *log)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)section, key, v) {
        const json_t *before = json_object_get(preset, key);
        char path[256];
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (json_is_object(v)) {
            shown = log_differences(v, before, path, everything, shown, log);
            continue;
        }
        if (!everything && before && json_equal(before, v))
            continue;
        char *text = everything || shown < LOGGED_KEYS ? json_text(v, 0, NULL) : NULL;
        if (text)
            log_info(log, "  %s = %s", path, text);
        mem_free(text);
        shown++;
    }
    return shown;
}

void recipe_log(const Recipe *r, int everything, const Log *log)
{
    json_t *preset = NULL;
    if (!log)
        return;
    if (load_preset(&preset, r->preset, NULL) == 0)
        err_ignore(finish_numbers(preset, NULL));
    log_info(log, "recipe: preset %s%s", r->preset,
             everything                    ? ", every key:"
             : json_equal(preset, r->json) ? ", unchanged"
                                           : ", changed in:");
    int64_t shown = log_differences(r->json, preset, "", everything, 0, log);
    if (!everything && shown > LOGGED_KEYS)
        log_info(log, "  and %" PRId64 " more (--print-recipe shows every key)", shown - LOGGED_KEYS);
    json_decref(preset);
}

int model_frames_check(int64_t model_frames, int64_t *latent_frames, Err *err)
{
    if (model_frames >= 1 && model_frames % 8 <= 1) {
        *latent_frames = model_frames / 8 * 2 + model_frames % 8;
        return 0;
    }
    int64_t below = model_frames / 8 * 8 + 1;
    if (model_frames < 1)
        return err_set(err, ERR_USAGE, "%" PRId64 " frames: the model works on 8N+1 or 8N frames, at least 1",
                       model_frames);
    return err_set(err, ERR_USAGE,
                   "%" PRId64 " frames: the model works on 8N+1 or 8N frames; the nearest are %" PRId64 " and %" PRId64,
                   model_frames, below, below + 7);
}
