/* Any bytes as YAML: what is accepted is JSON that reads back equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Err err = {0};
    json_t *v = NULL, *back = NULL;
    if (yaml_parse(&v, (const char *)data, (int64_t)size, "fuzz", &err) < 0) {
        if (v || !err.msg[0])
            abort();
        return 0;
    }
    char *text = json_text(v, 0, NULL);
    if (!text || json_parse(&back, text, (int64_t)strlen(text), "written", NULL) < 0 || !json_equal(v, back))
        abort();
    mem_free(text);
    json_decref(back);
    json_decref(v);
    return 0;
}
