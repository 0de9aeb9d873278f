/* T5 v1.1 encoder (transformers T5EncoderModel): MODEL.md 5.1.  No attention mask:
 * CogVideoX runs all 226 rows. */
#ifndef WEFT_COMMON_MODEL_T5_H
#define WEFT_COMMON_MODEL_T5_H
#include <jansson.h>
#include "common/model/params.h"
#include "common/ops/arena.h"

typedef struct T5Config {
    int64_t vocab, d_model, d_kv, heads, d_ff, layers, buckets, max_distance;
    double eps;
} T5Config;
typedef struct T5 T5;
WEFT_MUST_CHECK int t5_config_parse(T5Config *out, const json_t *json, const char *where, Err *err);
json_t *t5_config_json(const T5Config *c, Err *err);
WEFT_MUST_CHECK int t5_open(T5 **out, Backend *be, const char *folder, Err *err);
/* Whether the folder's weights have the names, shapes and types that the config asks for.  Reads
 * headers only, so that a run can check before its first second of work. */
WEFT_MUST_CHECK int t5_check_weights(const T5Config *c, const char *folder, const Log *log, Err *err);
WEFT_MUST_CHECK int t5_new_filled(T5 **out, Backend *be, const T5Config *c, Err *err);
void t5_close(T5 **t);
const T5Config *t5_config(const T5 *t);
ParamSet *t5_params(T5 *t);
WEFT_MUST_CHECK int t5_save(T5 *t, const char *folder, DType dtype, Err *err);
/* hidden [n, d_model] (host float32, after the final norm) <- ids [n].  mask: NULL (CogVideoX), or
 * n of 0/1 where 0 hides a key.
 * The position bias (F32 [heads,n,n], 13 MB for XXL) is not in `work`: the model keeps it for the
 * next call. */
WEFT_MUST_CHECK int t5_encode(T5 *t, Arena *work, float *hidden, const int32_t *ids, const uint8_t *mask, int64_t n,
                              Err *err);
/* hidden [count,n,d_model] <- ids of `count` texts, unmasked; each text's values are those of t5_encode.
 * On a host back end the texts pass through the layers together, one layer after the other, their
 * residual streams in `hidden`: each weight is read from its file once, and its pages are given back
 * after its layer.  `work` as for t5_encode. */
WEFT_MUST_CHECK int t5_encode_many(T5 *t, Arena *work, float *hidden, const int32_t *const *ids, int64_t count,
                                   int64_t n, Err *err);
WEFT_MUST_CHECK int t5_plan(const T5Config *c, DType act, int64_t n, int64_t *bytes, Err *err);
/* bucket of r = key - query position. */
int t5_bucket(int64_t r, int64_t buckets, int64_t max_distance);
#endif
