/* The prompts that are sampled while a run goes on, found in its caches by their text. */
#ifndef WEFT_TRAIN_PROMPTS_H
#define WEFT_TRAIN_PROMPTS_H
#include "common/base/recipe.h"
#include "train/dataset.h"

typedef struct Prompt {
    const char *text; /* borrowed from the recipe */
    Digest key;       /* of its embedding */
    int64_t cache;    /* which cache has it */
} Prompt;

typedef struct Prompts {
    Prompt *prompt; /* validation.prompts */
    int64_t n;
    Prompt negative; /* sampling.negative_prompt; unset where n is 0, and without guidance */
} Prompts;

/* A prompt that weft-cache build was given, or that is a clip's caption; ERR_USAGE, naming it, for one
 * that no cache has, and for an embedding of another shape than the transformer reads. */
WEFT_MUST_CHECK int prompts_find(Prompts *out, const Dataset *d, const Recipe *recipe, Err *err);
void prompts_free(Prompts *p);
/* The embedding into out[text_len, text_dim]. */
WEFT_MUST_CHECK int prompt_read(const Prompt *p, const Dataset *d, float *out, Err *err);
#endif
