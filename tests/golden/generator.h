/* The formula that defines the weights of the text encoders' golden models, and reading of golden arrays. */
#ifndef WEFT_TESTS_GOLDEN_GENERATOR_H
#define WEFT_TESTS_GOLDEN_GENERATOR_H
#include <stdlib.h>
#include "check.h"
#include "common/base/json.h"
#include "common/model/params.h"

typedef struct GoldenWeight {
    uint32_t t;
    const char *name;
    double scale, base;
} GoldenWeight;

static inline uint32_t golden_hash(uint32_t t, uint32_t i)
{
    uint32_t h = i * 2654435761u + t * 40503u + 12345u;
    h ^= h >> 15;
    h *= 2246822519u;
    return h ^ h >> 13;
}

static inline double golden_value(uint32_t t, uint32_t i)
{
    return ((int)(golden_hash(t, i) & 255) - 128) / 128.0;
}

/* Gives a model of these parameters the formula's values. */
static inline void golden_put(ParamSet *ps, const GoldenWeight *w, int64_t n, Err *err)
{
    for (int64_t k = 0; k < n; k++) {
        Param *p = params_find(ps, w[k].name);
        if (!p)
            continue;
        int64_t count = tensor_count(&p->value);
        float *host = malloc((size_t)count * sizeof *host);
        assert_non_null(host);
        for (int64_t i = 0; i < count; i++)
            host[i] = (float)(w[k].base + w[k].scale * golden_value(w[k].t, (uint32_t)i));
        CHECK_OK(params_put(ps, p, host, err), err);
        free(host);
    }
}

/* The numbers under a path of keys; *n of them. free. */
static inline double *golden_array(const json_t *root, const char *const *path, int64_t *n)
{
    for (; *path; path++)
        root = json_object_get(root, *path);
    assert_true(json_is_array(root));
    *n = (int64_t)json_array_size(root);
    double *out = malloc((size_t)(*n ? *n : 1) * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < *n; i++)
        out[i] = json_number_value(json_array_get(root, (size_t)i));
    return out;
}
#define GOLDEN_ARRAY(root, n, ...) golden_array((root), (const char *const[]){__VA_ARGS__, NULL}, (n))
#endif
