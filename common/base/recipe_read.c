/* What people write for a recipe: sections as in the schema, flat keys as in the scripts of diffusers,
 * or a JSON that Weft stored in an output. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/recipe_internal.h"

#define CONFIG_MAX ((int64_t)1 << 24)
enum { PATH_MAX_LEN = 256, PROBLEMS_MAX = ERR_MSG_MAX - 256 };

/* ---- problems -------------------------------------------------------------------------------- */

int recipe_problem(RecipeReader *r, Err *err, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (r->problems.len + (int64_t)strlen(text) > PROBLEMS_MAX && r->n_problems > 0) {
        r->n_problems++; /* counted, and left out of the message */
        return 0;
    }
    int rc = str_printf(&r->problems, err, "%s%s", r->n_problems ? "\n" : "", text);
    r->n_problems += rc == 0;
    return rc;
}

int recipe_problems(const RecipeReader *r, Err *err)
{
    int64_t shown = 1;
    if (!r->n_problems)
        return 0;
    for (const char *p = r->problems.data; (p = strchr(p, '\n')) != NULL; p++)
        shown++;
    if (r->n_problems == 1)
        return err_set(err, ERR_USAGE, "%s", r->problems.data);
    if (shown < r->n_problems)
        return err_set(err, ERR_USAGE, "the recipe has %" PRId64 " problems:\n%s\nand %" PRId64 " more", r->n_problems,
                       r->problems.data, r->n_problems - shown);
    return err_set(err, ERR_USAGE, "the recipe has %" PRId64 " problems:\n%s", r->n_problems, r->problems.data);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Names that the training scripts of diffusers use, and those that people write among training's keys. */
static const struct {
    const char *name, *path;
} other_names[] = {
    {"train_batch_size", "training.batch_size"},
    {"max_train_steps", "training.max_steps"},
    {"num_train_epochs", "training.num_epochs"},
    {"lr_warmup_steps", "training.warmup_steps"},
    {"num_warmup_steps", "training.warmup_steps"},
    {"adam_weight_decay", "training.weight_decay"},
    {"pretrained_model_name_or_path", "training.base_model"},
    {"lr", "training.learning_rate"},
    {"rank", "training.lora_rank"},
    {"alpha", "training.lora_alpha"},
    {"target_modules", "training.lora_target_modules"},
    {"use_ema", "training.ema"},
    {"logging_steps", "training.log_every"},
    {"max_num_frames", "clip.num_frames"},
    {"enable_tiling", "cache.vae_tiling"},
    {"effective_batch_size", "expected.effective_batch_size"},
    {"training_videos", "expected.training_videos"},
    {"total_steps", "expected.total_steps"},
    {"training_time", "expected.training_time"},
    {"gpu", "expected.gpu"},
    {"vram_usage", "expected.vram_usage"},
};
#define N_OTHER_NAMES ((int)(sizeof other_names / sizeof *other_names))

static int is_section(const json_t *rule)
{
    return json_is_object(json_object_get(rule, "properties"));
}

/* The schema's rule of "section.key" or "section"; NULL when it has none. */
static const json_t *rule_of(const Schema *schema, const char *path)
{
    const json_t *at = schema_json(schema);
    char part[PATH_MAX_LEN];
    while (at && *path) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        at = n < sizeof part ? json_object_get(json_object_get(at, "properties"), part) : NULL;
        path += n + (path[n] == '.');
    }
    return at;
}

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The sections that have the key, as "section.key": how many, and the first two. */
static int sections_with(const Schema *schema, const char *key, char found[2][PATH_MAX_LEN])
{
    const char *section;
    json_t *rule;
    int n = 0;
    json_object_foreach (json_object_get(schema_json(schema), "properties"), section, rule) {
        if (!json_object_get(json_object_get(rule, "properties"), key))
            continue;
        if (n < 2)
            snprintf(found[n], PATH_MAX_LEN, "%s.%s", section, key);
        n++;
    }
    return n;
}

/* The path that a name stands for: itself, another name's, training's key, or the key of the only
 * section that has it.  Returns its rule, or NULL. */
static const json_t *resolve(const Schema *schema, const char *name, char path[PATH_MAX_LEN])
{
    const char *last = last_part(name);
    char found[2][PATH_MAX_LEN];
    int flat = last == name;
    if (strlen(name) >= PATH_MAX_LEN - 10)
        return NULL;
    strcpy(path, name);
    const json_t *rule = rule_of(schema, path);
    if (rule || (!flat && strncmp(name, "training.", 9) != 0))
        return rule;
    for (int i = 0; i < N_OTHER_NAMES; i++) {
        if (strcmp(other_names[i].name, last) == 0 && (rule = rule_of(schema, other_names[i].path))) {
            strcpy(path, other_names[i].path);
            return rule;
        }
    }
    if (!flat)
        return NULL;
    snprintf(path, PATH_MAX_LEN, "training.%s", name);
    if ((rule = rule_of(schema, path)))
        return rule;
    if (sections_with(schema, name, found) != 1)
        return NULL;
    strcpy(path, found[0]);
    return rule_of(schema, path);
}

/* Every name a key or section has, NULL-terminated; mem_free. */
static const char **all_names(const Schema *schema, Err *err)
{
    const json_t *sections = json_object_get(schema_json(schema), "properties");
    const char *section, *key;
    json_t *rule, *v;
    int64_t n = N_OTHER_NAMES + (int64_t)json_object_size(sections);
    json_object_foreach ((json_t *)(uintptr_t)sections, section, rule)
        n += (int64_t)json_object_size(json_object_get(rule, "properties"));
    const char **names = mem_calloc(n + 1, sizeof *names, err);
    if (!names)
        return NULL;
    n = 0;
    json_object_foreach ((json_t *)(uintptr_t)sections, section, rule) {
        names[n++] = section;
        json_object_foreach (json_object_get(rule, "properties"), key, v)
            names[n++] = key;
    }
    for (int i = 0; i < N_OTHER_NAMES; i++)
        names[n++] = other_names[i].name;
    return names;
}

/* The nearest key of the section that `name` names, as "section.key". */
static int nearest_in_section(const Schema *schema, const char *name, char path[PATH_MAX_LEN], Err *err)
{
    const char *last = last_part(name), *key;
    char section[PATH_MAX_LEN];
    snprintf(section, sizeof section, "%.*s", last == name ? 0 : (int)(last - name - 1), name);
    const json_t *keys = json_object_get(*section ? rule_of(schema, section) : NULL, "properties");
    const char **names = mem_calloc((int64_t)json_object_size(keys) + 1, sizeof *names, err);
    json_t *v;
    int64_t n = 0;
    if (!names)
        return ERR_NOMEM;
    json_object_foreach ((json_t *)(uintptr_t)keys, key, v)
        names[n++] = key;
    const char *near = str_nearest(last, names);
    if (near)
        snprintf(path, PATH_MAX_LEN, "%.100s.%.100s", section, near);
    mem_free(names);
    return near != NULL;
}

/* The nearest key of all sections, in its full form; 0: none is near. */
static int nearest_anywhere(const Schema *schema, const char *name, char path[PATH_MAX_LEN], Err *err)
{
    char found[2][PATH_MAX_LEN];
    const char **names = all_names(schema, err);
    if (!names)
        return ERR_NOMEM;
    const char *near = str_nearest(last_part(name), names);
    int is = near && resolve(schema, near, path);
    if (near && !is && sections_with(schema, near, found) > 0) {
        strcpy(path, found[0]);
        is = 1;
    }
    mem_free(names);
    return is;
}

static int unknown_key(RecipeReader *r, const char *name, Err *err)
{
    char near[PATH_MAX_LEN], both[2][PATH_MAX_LEN];
    if (!strchr(name, '.') && sections_with(r->schema, name, both) > 1)
        return recipe_problem(r, err, "%s: '%s' is a key of several sections: write '%s' or '%s'", r->origin, name,
                              both[0], both[1]);
    int rc = nearest_in_section(r->schema, name, near, err);
    if (rc == 0)
        rc = nearest_anywhere(r->schema, name, near, err);
    if (rc < 0)
        return rc;
    if (rc)
        return recipe_problem(r, err, "%s: unknown key '%.200s'; did you mean '%s'?", r->origin, name, near);
    return recipe_problem(r, err, "%s: unknown key '%.200s'; 'keys' lists all", r->origin, name);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int no_memory(Err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory: reading the recipe");
}

/* The choice that equals the value but for upper and lower case, or the value itself. */
static json_t *as_written_in_schema(const json_t *rule, json_t *value)
{
    size_t i;
    json_t *choice;
    const char *text = json_string_value(value);
    json_array_foreach (json_object_get(rule, "enum"), i, choice) {
        if (text && json_is_string(choice) && strcasecmp(text, json_string_value(choice)) == 0)
            return choice;
    }
    return value;
}

/* One file must not give a key two values under two names. */
static int check_twice(RecipeReader *r, const char *path, const char *name, const json_t *value, Err *err)
{
    const char *before = json_string_value(json_object_get(r->names, path));
    const char *dot = strchr(path, '.');
    char section[PATH_MAX_LEN];
    if (!before || strcmp(before, name) == 0) {
        json_t *text = json_string(name);
        return text && json_object_set_new(r->names, path, text) == 0 ? 0 : no_memory(err);
    }
    snprintf(section, sizeof section, "%.*s", dot ? (int)(dot - path) : 0, path);
    const json_t *old = json_object_get(*section ? json_object_get(r->recipe, section) : r->recipe, last_part(path));
    if (json_equal(old, value))
        return 0;
    return recipe_problem(r, err, "%s: '%s' and '%s' are the same key (%s) with two values", r->origin, before, name,
                          path);
}

static int put(RecipeReader *r, const char *path, json_t *value, Err *err)
{
    json_t *at = r->recipe;
    const char *last = last_part(path);
    char section[PATH_MAX_LEN];
    if (last != path) {
        snprintf(section, sizeof section, "%.*s", (int)(last - path - 1), path);
        at = json_object_get(r->recipe, section);
    }
    json_t *origin = json_string(r->origin);
    if (!origin || json_object_set_new(r->given, path, origin) < 0 || json_object_set(at, last, value) < 0)
        return no_memory(err);
    return 0;
}

static int visit(RecipeReader *r, const char *prefix, json_t *object, Err *err);

static int assign(RecipeReader *r, const char *name, json_t *value, Err *err)
{
    char path[PATH_MAX_LEN];
    const json_t *rule = resolve(r->schema, name, path);
    Err wrong = {0};
    if (!rule && json_is_null(value))
        return 0; /* templates shared with other trainers leave their unused keys so: null asks for nothing */
    if (!rule)
        return unknown_key(r, name, err);
    if (is_section(rule) && json_is_object(value))
        return visit(r, path, value, err);
    value = as_written_in_schema(rule, value);
    int rc = check_twice(r, path, name, value, err);
    if (rc < 0)
        return rc;
    rc = schema_validate_at(r->schema, rule, path, value, &wrong);
    if (rc == ERR_FORMAT && *r->no_json.msg)
        return recipe_problem(r, err, "%s: '%s': %s", r->origin, path, r->no_json.msg);
    if (rc == ERR_FORMAT)
        return recipe_problem(r, err, "%s: %s", r->origin, wrong.msg);
    return rc < 0 ? err_set(err, rc, "%s", wrong.msg) : put(r, path, value, err);
}

static int visit(RecipeReader *r, const char *prefix, json_t *object, Err *err)
{
    const char *key;
    json_t *v;
    int rc = 0;
    json_object_foreach (object, key, v) {
        char *name = mem_printf(err, "%s%s%s", prefix, *prefix ? "." : "", key);
        rc = name ? assign(r, name, v, err) : ERR_NOMEM;
        mem_free(name);
        if (rc < 0)
            break;
    }
    return rc;
}

/* ---- a file ---------------------------------------------------------------------------------- */

static int is_yaml(const char *path)
{
    return str_ends_with(path, ".yaml") || str_ends_with(path, ".yml");
}

/* A sample's record (schemas/sample): its sampling section, with the frames that the model made. */
static json_t *recipe_of_sample(const json_t *sample)
{
    json_t *sampling = json_copy(json_object_get(sample, "sampling")), *frames;
    json_t *made = json_incref(json_object_get(sampling, "model_frames"));
    if (!sampling)
        return NULL;
    json_object_del(sampling, "model_frames");
    json_object_set(sampling, "negative_prompt", json_object_get(sample, "negative_prompt"));
    frames = made
                 ? json_pack("{s:O*, s:o}", "num_frames", json_object_get(sampling, "num_frames"), "model_frames", made)
                 : json_object();
    return json_pack("{s:O*, s:o, s:o}", "seed", json_object_get(sample, "seed"), "sampling", sampling, "clip", frames);
}

/* The recipe in a JSON that a program wrote beside its output: run.json, state.json, dataset.json, or
 * a sample's record.  New reference; NULL without memory. */
static json_t *recipe_within(json_t *v)
{
    json_t *recipe = json_object_get(v, "recipe");
    if (json_is_object(recipe))
        return json_incref(recipe);
    if (json_object_get(v, "key") && json_object_get(v, "weights") && json_is_object(json_object_get(v, "sampling")) &&
        json_is_integer(json_object_get(v, "seed")))
        return recipe_of_sample(v);
    return json_incref(v);
}

int recipe_read_config(RecipeReader *r, const char *path, Err *err)
{
    char *text = NULL;
    int64_t size = 0;
    json_t *v = NULL;
    int rc = file_read(path, CONFIG_MAX, &text, &size, err);
    if (rc == 0)
        rc = is_yaml(path) ? yaml_parse(&v, text, size, path, err) : json_parse(&v, text, size, path, err);
    mem_free(text);
    if (rc < 0)
        return rc;
    r->origin = path;
    json_object_clear(r->names);
    if (json_is_object(v)) {
        json_t *recipe = recipe_within(v);
        rc = recipe ? visit(r, "", recipe, err) : no_memory(err);
        json_decref(recipe);
    } else if (!json_is_null(v) || !is_yaml(path)) { /* a YAML of comments alone changes nothing */
        rc = err_set(err, ERR_FORMAT, "%s: a recipe is an object of sections", path);
    }
    json_decref(v);
    return rc;
}

/* ---- --set ----------------------------------------------------------------------------------- */

/* An object, an array or a number, well written or not. */
static int looks_like_json(const char *text)
{
    char *end;
    if (*text == '{' || *text == '[')
        return 1;
    strtod(text, &end);
    return end > text && !*end && strpbrk(text, "0123456789") != NULL;
}

/* Gives the key the value of a --set: JSON where it is JSON, else the text itself. */
static int assign_text(RecipeReader *r, const char *name, const char *text, Err *err)
{
    json_t *value = NULL;
    int rc = json_parse(&value, text, (int64_t)strlen(text), "read as JSON", &r->no_json);
    if (rc < 0 && (rc == ERR_NOMEM || !(value = json_string(text))))
        return no_memory(err);
    if (!looks_like_json(text))
        err_clear(&r->no_json);
    rc = assign(r, name, value, err);
    err_clear(&r->no_json);
    json_decref(value);
    return rc;
}

int recipe_read_set(RecipeReader *r, const char *assignment, Err *err)
{
    const char *equals = strchr(assignment, '=');
    r->origin = "--set";
    json_object_clear(r->names);
    if (!equals || equals == assignment)
        return recipe_problem(r, err, "--set: expected SECTION.KEY=VALUE, found '%s'", assignment);
    if (!str_is_utf8(assignment, (int64_t)strlen(assignment)))
        return recipe_problem(r, err, "--set: what follows is not UTF-8");
    char *name = mem_strndup(assignment, equals - assignment, err);
    int rc = name ? assign_text(r, name, equals + 1, err) : ERR_NOMEM;
    mem_free(name);
    return rc;
}

/* ---- an option that stands for a key ---------------------------------------------------------- */

int recipe_read_option(RecipeReader *r, const char *option, const char *path, const char *text, Err *err)
{
    const json_t *rule = rule_of(r->schema, path), *type = json_object_get(rule, "type");
    char origin[64];
    snprintf(origin, sizeof origin, "--%s", option);
    r->origin = origin;
    json_object_clear(r->names);
    if (!str_is_utf8(text, (int64_t)strlen(text)))
        return recipe_problem(r, err, "%s: what follows is not UTF-8", origin);
    if (!json_is_string(type) || strcmp(json_string_value(type), "string") != 0)
        return assign_text(r, path, text, err);
    json_t *value = json_string(text);
    int rc = value ? assign(r, path, value, err) : no_memory(err);
    json_decref(value);
    return rc;
}
