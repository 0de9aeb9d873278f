/* Any bytes as JSON: parsed, written in each form and read back equal, validated as a recipe. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"
#include "common/base/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const json_t *v, char *text)
{
    json_t *back = NULL;
    if (!text || json_parse(&back, text, (int64_t)strlen(text), "written", NULL) < 0 || !json_equal(v, back))
        abort();
    json_decref(back);
    mem_free(text);
}

static const json_t *member(const json_t *v, const char *name)
{
    const char *dot = strchr(name, '.');
    return dot ? json_object_get(json_object_get(v, "clip"), dot + 1) : json_object_get(v, name);
}

/* The members that are parsed alone are those of the whole. */
static void check_members(const uint8_t *data, size_t size, const json_t *whole)
{
    static const char *const names[] = {"a", "clip.file", "id", NULL};
    json_t *part = NULL;
    int rc = json_parse_members(&part, (const char *)data, (int64_t)size, names, "fuzz", NULL);
    if ((rc == 0) != (part != NULL) || (whole && rc < 0))
        abort();
    for (int i = 0; whole && i < 3; i++) {
        const json_t *a = member(whole, names[i]), *b = member(part, names[i]);
        if ((a || b) && !json_equal(a, b))
            abort();
    }
    json_decref(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Err err = {0};
    json_t *v = NULL;
    if (json_parse(&v, (const char *)data, (int64_t)size, "fuzz", &err) < 0) {
        if (v || !err.msg[0])
            abort();
        check_members(data, size, NULL);
        return 0;
    }
    check_members(data, size, v);
    check_round_trip(v, json_text(v, 0, NULL));
    check_round_trip(v, json_text(v, 2, NULL));
    check_round_trip(v, json_canonical(v, NULL));
    Recipe *r = NULL;
    int rc = recipe_from_json(&r, v, &err);
    if ((rc == 0) != (r != NULL) || (rc < 0 && !err.msg[0]))
        abort();
    recipe_close(&r);
    err_ignore(schema_check("manifest", v, "fuzz", NULL));
    json_decref(v);
    return 0;
}
