/* The command "keys": the recipe's keys with their descriptions, from the schema. */
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/base/recipe.h"
#include "common/base/schema.h"
#include "common/base/str.h"

typedef struct Listing {
    const char *word; /* NULL: every key */
    const json_t *preset;
    int64_t shown;
    Err *err;
} Listing;

/* " a|b" of an array of names. */
static int append_list(Str *s, const json_t *list, Err *err)
{
    int rc = 0;
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        rc = str_printf(s, err, "%s%s", i ? "|" : "", text ? text : "null");
    }
    return rc;
}

/* "integer, at least 16, at most 8192, multiple of 16" */
static int append_rule(Str *s, const json_t *rule, Err *err)
{
    static const char *const bounds[][2] = {{"minimum", "at least"},
                                            {"exclusiveMinimum", "more than"},
                                            {"maximum", "at most"},
                                            {"exclusiveMaximum", "less than"},
                                            {"multipleOf", "a multiple of"}};
    const json_t *type = json_object_get(rule, "type"), *choices = json_object_get(rule, "enum");
    int rc = choices               ? append_list(s, choices, err)
             : json_is_array(type) ? append_list(s, type, err)
                                   : str_append(s, json_is_string(type) ? json_string_value(type) : "any value", err);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds && rc == 0; i++) {
        const json_t *bound = json_object_get(rule, bounds[i][0]);
        if (bound)
            rc = str_printf(s, err, ", %s %.16g", bounds[i][1], json_number_value(bound));
    }
    return rc;
}

static int holds(const Listing *l, const char *path, const char *description)
{
    return !l->word || strcasestr(path, l->word) || strcasestr(description, l->word);
}

static int show_key(Listing *l, const char *path, const json_t *rule, const json_t *value)
{
    const char *description = json_string_value(json_object_get(rule, "description"));
    description = description ? description : "";
    if (!holds(l, path, description))
        return 0;
    Str type = {0};
    char *text = value ? json_text(value, 0, l->err) : mem_strdup("?", l->err);
    int rc = text ? append_rule(&type, rule, l->err) : ERR_NOMEM;
    if (rc == 0)
        printf("%s = %s   (%s)\n    %s\n", path, text, type.data, description);
    l->shown += rc == 0;
    str_fini(&type);
    mem_free(text);
    return rc;
}

static int show_section(Listing *l, const char *prefix, const json_t *section, const json_t *values)
{
    const char *key;
    json_t *rule;
    int rc = 0;
    json_object_foreach (json_object_get(section, "properties"), key, rule) {
        const json_t *value = json_object_get(values, key);
        char *path = mem_printf(l->err, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (!path)
            return ERR_NOMEM;
        rc = json_object_get(rule, "properties") ? show_section(l, path, rule, value) : show_key(l, path, rule, value);
        mem_free(path);
        if (rc < 0)
            break;
    }
    return rc;
}

int recipe_keys_run(void *options, const StrList *positional, Err *err)
{
    (void)options;
    Schema *schema;
    Recipe *preset = NULL;
    Listing l = {.word = positional->n ? positional->item[0] : NULL, .err = err};
    int rc = schema_open(&schema, "recipe", err);
    if (rc < 0)
        return rc;
    rc = recipe_open(&preset, &(CommonOptions){.seed = -1}, err);
    if (rc == 0)
        rc = show_section(&l, "", schema_json(schema), recipe_json(preset));
    if (rc == 0 && l.shown == 0)
        rc = err_set(err, ERR_NOTFOUND, "no key of the recipe has '%s' in its name or description", l.word);
    recipe_close(&preset);
    schema_close(&schema);
    return rc;
}
