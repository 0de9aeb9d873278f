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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Err err = {0};
    json_t *v = NULL;
    if (json_parse(&v, (const char *)data, (int64_t)size, "fuzz", &err) < 0) {
        if (v || !err.msg[0])
            abort();
        return 0;
    }
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
