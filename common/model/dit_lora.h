/* LoRA adapters on the transformer: training them, using those of files, merging them.
 *
 * The base model is opened with DIT_MAPPED and stays as it is: it has no gradients, no masters and no
 * moments.  dit_trainable are then the adapters, two parameters a layer: LAYER.lora_A.weight [rank,in],
 * and LAYER.lora_B.weight, kept transposed, [rank,out]. */
#ifndef WEFT_COMMON_MODEL_DIT_LORA_H
#define WEFT_COMMON_MODEL_DIT_LORA_H
#include "common/model/dit.h"
#include "common/model/lora.h"

typedef struct DitLora {
    int64_t rank;
    double alpha; /* B (A x) counts alpha / rank */
    /* Linear layers by the end of their names, as peft matches them: "to_q" is every layer whose name is
     * to_q or ends in .to_q. */
    const char *const *target;
    int64_t targets;
    uint64_t seed;
} DitLora;

/* Adds fresh adapters; `how` as for dit_open (DIT_TRAIN: with gradients), but values are always F32.
 * B is zero.  A is uniform on [-1/sqrt(in), 1/sqrt(in)), peft's Kaiming draw with a = sqrt(5): element i
 * is (2u - 1)/sqrt(in), where u is philox_uniform(i) of the stream (seed, RNG_INIT, 0, k), k the place of
 * LAYER.weight in the table of the model's parameters (bytewise by name).  A target that names no linear
 * layer: ERR_USAGE.  After a failure the model can only be closed. */
WEFT_MUST_CHECK int dit_add_lora(Dit *d, const DitLora *l, int how, Err *err);
/* The adapters' values from a file (lora.h), at the strength that the file gives them.  Every layer of
 * the file must have an adapter of its rank; others keep their values.  On the plan back end only
 * checked. */
WEFT_MUST_CHECK int dit_load_lora(Dit *d, const char *path, Err *err);
/* The adapters as diffusers reads them, F32, atomic.  alpha / rank is multiplied into B, and the
 * metadata says alpha = rank: readers of the metadata and readers that never look for an alpha give
 * the adapter the same strength. */
WEFT_MUST_CHECK int dit_save_lora(Dit *d, const char *path, Err *err);
/* The same with other values, such as averages: `values` puts those of parameter i of dit_trainable into
 * `host`, shaped and scaled as the parameter's own. */
typedef int (*LoraValues)(void *user, int64_t i, float *host, Err *err);
WEFT_MUST_CHECK int dit_save_lora_of(Dit *d, const char *path, LoraValues values, void *user, Err *err);

/* Adds the adapters of n files, summed, without gradients.  Layers may have other ranks in each. */
WEFT_MUST_CHECK int dit_use_loras(Dit *d, const LoraUse *use, int64_t n, Err *err);
/* W <- W + B A, in float32, of every layer that dit_use_loras gave an adapter; the adapters are gone
 * then.  For a back end whose activations are F32. */
WEFT_MUST_CHECK int dit_merge_loras(Dit *d, Err *err);
#endif
