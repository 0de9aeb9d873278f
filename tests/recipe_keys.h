/* For tests of a recipe's section: that every key the schema names has a row in a test's table, so
 * that a new key cannot come without one. */
#ifndef WEFT_TESTS_RECIPE_KEYS_H
#define WEFT_TESTS_RECIPE_KEYS_H
#include <string.h>

#include "check.h"
#include "common/base/json.h"
#include "common/base/schema.h"

/* Fails, naming the key, when `names` (n of them) lacks a key of the section, or has one that the
 * section lacks.  `table` names the table in the message. */
static inline void recipe_keys_covered(const char *section, const char *table, const char *const *names, size_t n)
{
    const char *text = embedded_file("schemas/recipe.schema.json"), *key;
    json_t *schema = NULL, *keys, *v;
    Err err = {0};

    assert_non_null(text);
    CHECK_OK(json_parse(&schema, text, (int64_t)strlen(text), "recipe.schema.json", &err), &err);
    keys = json_object_get(json_object_get(json_object_get(schema, "properties"), section), "properties");
    assert_true(json_object_size(keys) > 0);
    json_object_foreach (keys, key, v) {
        size_t i = 0;
        while (i < n && strcmp(names[i], key) != 0)
            i++;
        if (i == n)
            fail_msg("%s.%s has no row in the table '%s'", section, key, table);
    }
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(keys, names[i]))
            fail_msg("the table '%s' has a row for %s.%s, which the schema does not know", table, section, names[i]);
    json_decref(schema);
}
#endif
