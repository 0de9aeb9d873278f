/* Weights made of their names: the rule of make_metric_networks.py and make_clip_score.py, so that networks of any size
 * are compared without storing a weight. */
#ifndef WEFT_TESTS_GOLDEN_NAMED_WEIGHTS_H
#define WEFT_TESTS_GOLDEN_NAMED_WEIGHTS_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/str.h"
#include "common/model/params.h"

/* CRC-32 as zlib's. */
static inline uint32_t named_crc(const char *name)
{
    uint32_t crc = ~0u;
    for (; *name; name++) {
        crc ^= (uint8_t)*name;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static inline double named_u(uint32_t crc, uint32_t i)
{
    uint32_t x = i * 2654435761u + crc;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (x >> 8) / 16777216.0;
}

/* The values of a parameter [rank, dim]; free. */
static inline float *named_weights(const char *name, int rank, const int64_t *dim)
{
    Tensor t = tensor_view(NULL, DT_F32, rank, dim);
    int64_t n = tensor_count(&t);
    float *out = malloc((size_t)n * sizeof *out);
    uint32_t crc = named_crc(name);
    if (!out)
        abort();
    for (int64_t i = 0; i < n; i++) {
        double u = named_u(crc, (uint32_t)i);
        if (!strcmp(name, "logit_scale"))
            out[i] = 4.6052f;
        else if (str_ends_with(name, "running_mean") || str_ends_with(name, "bias"))
            out[i] = (float)(0.1 * (2 * u - 1));
        else if (rank == 1)
            out[i] = (float)(0.5 + u);
        else
            out[i] = (float)((2 * u - 1) * sqrt(6.0 / (double)(n / dim[0])));
    }
    return out;
}

/* Every parameter of a set, for safetensors_write; names are the set's. */
typedef struct NamedFile {
    SafeSource *source;
    int64_t n;
} NamedFile;

static inline NamedFile named_file(const ParamSet *ps)
{
    NamedFile f = {calloc((size_t)ps->n, sizeof *f.source), ps->n};
    if (!f.source)
        abort();
    for (int64_t k = 0; k < ps->n; k++) {
        const Param *p = &ps->param[k];
        f.source[k] = (SafeSource){p->name,
                                   tensor_view(named_weights(p->name, p->rank, p->dim), DT_F32, p->rank, p->dim)};
    }
    return f;
}

static inline void named_file_free(NamedFile *f)
{
    for (int64_t i = 0; i < f->n; i++)
        free(f->source[i].tensor.data);
    free(f->source);
}
#endif
