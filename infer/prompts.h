/* What to sample: prompts from --prompt and --prompts FILE.
 * FILE holds one prompt a line (blank lines refused: a shifted list is worse than an error), or
 * with the ending .jsonl one object a
 * line: {"prompt": "...", "id": "...", "seed": 7, "negative_prompt": "..."}. */
#ifndef WEFT_INFER_PROMPTS_H
#define WEFT_INFER_PROMPTS_H
#include <stdint.h>
#include "common/base/args.h"

typedef struct Prompt {
    char *id; /* names the output files; default "0000", "0001", ... */
    char *text;
    char *negative; /* NULL: the recipe's */
    int64_t seed;
} Prompt;

typedef struct PromptList {
    Prompt *item;
    int64_t n;
} PromptList;

/* Given texts first, then the file's.  Prompt k gets seed `seed` + k unless its line names one, so
 * that no two share noise.
 * Ids must be unique file names; text must be UTF-8.  Free with prompts_fini, also on failure. */
int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed, Err *err);
void prompts_fini(PromptList *p);
#endif
