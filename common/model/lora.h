/* LoRA files: for each adapted linear layer, y = W x + b + scale * B (A x) with A [rank,in] and
 * B [out,rank].
 *
 * The layer's name is spelled as by
 *   diffusers      transformer.LAYER.lora_A.weight, .lora_B.weight
 *   ai-toolkit     the same, or with diffusion_model. in front
 *   peft           base_model.model.LAYER.lora_A.weight, .lora_B.weight
 *   musubi-tuner   lora_unet_LAYER.lora_down.weight, .lora_up.weight, .alpha, with _ for every dot in LAYER
 * and the scale is alpha / rank.  alpha is the tensor .alpha if there is one, else what diffusers wrote
 * into the metadata (lora_adapter_metadata: lora_alpha, alpha_pattern; use_rslora divides by the root of
 * the rank) and peft into adapter_config.json beside the file, else the rank. */
#ifndef WEFT_COMMON_MODEL_LORA_H
#define WEFT_COMMON_MODEL_LORA_H
#include "common/store/safetensors.h"

/* The name that diffusers looks for in a folder. */
#define LORA_FILE_NAME "pytorch_lora_weights.safetensors"

/* A linear layer that can have an adapter. */
typedef struct LoraSlot {
    char *name; /* of the layer, without ".weight"; owned by whoever made the slot */
    int64_t in, out;
} LoraSlot;

typedef struct LoraLayer {
    int64_t rank; /* 0: the file has nothing for this slot */
    double scale;
    const SafeEntry *a, *b;
} LoraLayer;

typedef struct LoraFile {
    SafeTensors *file;
    LoraLayer *layer; /* one a slot */
} LoraFile;

/* path: a file, or a folder that holds LORA_FILE_NAME or else peft's adapter_model.safetensors.  Every
 * tensor must belong to one of the n slots and fit it: a LoRA of another model, or of another kind (DoRA,
 * LoHa, LoKr), is ERR_FORMAT or ERR_UNSUPPORTED with one sentence.  After a failure too: lora_close. */
WEFT_MUST_CHECK int lora_open(LoraFile *f, const char *path, const LoraSlot *slot, int64_t n, Err *err);
void lora_close(LoraFile *f);
/* Host float32: a [rank,in]; bt [rank,out], the transpose of B times `scale` (the layer's own is not
 * applied).  ERR_FORMAT, naming `path` and the tensor, where a number is not finite. */
WEFT_MUST_CHECK int lora_get(const LoraLayer *l, const LoraSlot *slot, const char *path, double scale, float *a,
                             float *bt, Err *err);

/* SHA-256 over the tensors and what says the strength of a LoRA file (or folder): what an adapter is. */
WEFT_MUST_CHECK int lora_digest(const char *path, char hex[65], Err *err);

/* An adapter to use, and how strongly: 1 is as it was trained. */
typedef struct LoraUse {
    char *path;
    double scale;
} LoraUse;
/* "FILE" or "FILE:SCALE" as people write it on the command line.  A file of that whole name wins.  The
 * caller frees use->path with mem_free. */
WEFT_MUST_CHECK int lora_use_parse(LoraUse *use, const char *text, Err *err);
#endif
