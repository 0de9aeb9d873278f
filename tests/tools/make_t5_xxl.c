/* make_t5_xxl FOLDER: a text encoder of T5 v1.1 XXL's shapes with random fp16 weights, in two shards as
 * transformers writes them (9.5 GB): to show that it can be used on a small machine (tests/bench/t5_xxl.sh). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/t5.h"
#include "common/store/safetensors.h"

static const T5Config xxl = {.vocab = 32128,
                             .d_model = 4096,
                             .d_kv = 64,
                             .heads = 64,
                             .d_ff = 10240,
                             .layers = 24,
                             .buckets = 32,
                             .max_distance = 128,
                             .eps = 1e-6};

typedef struct Shard {
    SafeSource tensor[300];
    int64_t n;
    uint16_t *values; /* of the tensor that is written */
} Shard;

static int fetch(void *user, int64_t i, const void **data, Err *err)
{
    Shard *s = user;
    const Tensor *t = &s->tensor[i].tensor;
    int64_t n = tensor_count(t);
    Philox rng = philox_stream(1, RNG_POSTERIOR, 0, (uint64_t)i * 1000003u + (uint64_t)n);
    float scale = t->rank == 1 ? 0 : (float)(1 / sqrt((double)t->dim[t->rank - 1]));
    uint16_t block[4096];
    (void)err;
    for (int k = 0; k < 4096; k++)
        block[k] = float_to_half((t->rank == 1 ? 1.0f : 0) + scale * (float)philox_normal(&rng, (uint64_t)k));
    for (int64_t k = 0; k < n; k++) /* the same 4096 numbers, begun elsewhere in each row */
        s->values[k] = block[(k + k / 4096 * 37) % 4096];
    *data = s->values;
    return 0;
}

static int write_shard(Shard *s, const char *folder, int number, json_t *map, Err *err)
{
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-00002.safetensors", number);
    char *path = path_join(folder, name, err);
    for (int64_t i = 0; path && i < s->n; i++)
        json_object_set_new(map, s->tensor[i].name, json_string(name));
    int rc = path ? safetensors_write_from(path, s->tensor, s->n, NULL, fetch, s, err) : ERR_NOMEM;
    mem_free(path);
    return rc;
}

static int make(const char *folder, Err *err)
{
    Backend *plan = NULL;
    T5 *t5 = NULL;
    static Shard shard[2];
    json_t *map = json_object(), *index = NULL, *config = NULL;
    char *index_path = path_join(folder, "model.safetensors.index.json", err),
         *config_path = path_join(folder, "config.json", err);
    int64_t largest = 0, bytes = 0, so_far = 0;
    int rc = map && index_path && config_path ? dir_make(folder, err) : ERR_NOMEM;
    if (rc == 0)
        rc = backend_open(&plan, "plan", 1, NULL, err);
    if (rc == 0)
        rc = t5_new_filled(&t5, plan, &xxl, err);
    for (int pass = 0; rc == 0 && pass < 2; pass++)
        for (int64_t i = 0; i < t5_params(t5)->n; i++) {
            const Param *p = &t5_params(t5)->param[i];
            Tensor t = tensor_view(NULL, DT_F16, p->rank, p->dim);
            if (pass == 0) {
                bytes += tensor_bytes(&t);
                largest = tensor_count(&t) > largest ? tensor_count(&t) : largest;
                continue;
            }
            Shard *s = &shard[so_far > bytes / 2];
            s->tensor[s->n++] = (SafeSource){p->name, t};
            so_far += tensor_bytes(&t);
        }
    if (rc == 0 && !(shard[0].values = shard[1].values = mem_calloc(largest, 2, err)))
        rc = ERR_NOMEM;
    for (int k = 0; rc == 0 && k < 2; k++)
        rc = write_shard(&shard[k], folder, k + 1, map, err);
    if (rc == 0 &&
        !(index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map)))
        rc = err_set(err, ERR_NOMEM, "the index");
    if (rc == 0)
        rc = json_write_file(index, index_path, err);
    if (rc == 0)
        rc = (config = t5_config_json(&xxl, err)) ? json_write_file(config, config_path, err) : ERR_NOMEM;
    mem_free(shard[0].values);
    t5_close(&t5);
    backend_close(&plan);
    json_decref(map);
    json_decref(index);
    json_decref(config);
    mem_free(index_path);
    mem_free(config_path);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    if (argc == 2 && make(argv[1], &err) == 0)
        return 0;
    fprintf(stderr, "make_t5_xxl FOLDER: %s\n", argc == 2 ? err.msg : "one folder is expected");
    return 1;
}
