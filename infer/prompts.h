/* The prompts of --prompt and --prompts FILE.
 *
 * FILE holds one prompt a line.  A blank line is refused, because skipping it would shift the
 * numbers of all prompts after it.  With the ending .jsonl, each line is an object:
 * {"prompt": "...", "id": "...", "seed": 7, "negative_prompt": "..."}. */
#ifndef WEFT_INFER_PROMPTS_H
#define WEFT_INFER_PROMPTS_H
#include <stdint.h>
#include "common/base/args.h"

typedef struct Prompt {
    char *id; /* names the output files; default "0000", "0001", ... */
    char *text;
    char *negative; /* NULL: use sampling.negative_prompt of the recipe */
    int64_t seed;
} Prompt;

typedef struct PromptList {
    Prompt *item;
    int64_t n;
} PromptList;

/* Reads `texts` first, then the file.  Prompt k gets seed `seed` + k unless its line names one, so
 * that no two samples start from the same noise.  Ids must be distinct file names; texts must be
 * UTF-8.  Free with prompts_fini, also on failure. */
WEFT_MUST_CHECK int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed, Err *err);
void prompts_fini(PromptList *p);
#endif
