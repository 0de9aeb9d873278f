/* The prompts of --prompt and --prompts FILE.
 *
 * FILE holds one prompt a line.  A blank line is refused, because skipping it would shift the
 * numbers of all prompts after it.  With the ending .jsonl, each line is an object
 * (schemas/prompt): {"prompt": "...", "id": "...", "category": "...", "seed": 7, "steps": 30,
 * "guidance": 6, "negative_prompt": "..."}. */
#ifndef WEFT_INFER_PROMPTS_H
#define WEFT_INFER_PROMPTS_H
#include <stdint.h>
#include "common/base/args.h"

/* One video to make. */
typedef struct Prompt {
    char *id; /* its files below the output folder, without ending: [CATEGORY/]NAME */
    char *text;
    char *negative; /* NULL: sampling.negative_prompt of the recipe */
    char *category; /* NULL: none */
    char *clip;     /* id of the cached clip whose caption it is, or NULL */
    int64_t seed;
    int64_t steps;   /* 0: sampling.num_inference_steps */
    double guidance; /* negative: sampling.guidance_scale */
} Prompt;

typedef struct PromptList {
    Prompt *item;
    int64_t n;
} PromptList;

/* Reads `texts` first, then the file, and makes `per_prompt` items of each prompt.  Item j of prompt
 * k gets seed `seed` + k per_prompt + j, so that no two samples start from the same noise, or its
 * line's seed + j.  NAME is the line's id (with per_prompt > 1 followed by "-SEED"), else SLUG-SEED
 * (common/text/slug.h): it depends on nothing but the prompt itself.  Two items of one id are
 * refused; so is a line that is blank, not UTF-8, too long or not as the schema says.  Free with
 * prompts_fini, also on failure. */
WEFT_MUST_CHECK int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed,
                                 int64_t per_prompt, Err *err);
void prompts_fini(PromptList *p);

/* What a line says; texts are borrowed, and all but `text` and `where` may be NULL. */
typedef struct PromptLine {
    const char *text, *id, *negative, *category, *clip;
    int64_t size;      /* of text; negative: up to its NUL */
    int64_t seed;      /* negative: by the prompt's number */
    int64_t steps;     /* as in Prompt */
    double guidance;   /* as in Prompt */
    const char *where; /* names the line in messages */
} PromptLine;
/* Gives one line after another: 1 with a line in *line (which came with nothing set), 0 at the end, negative
 * on error. */
typedef int PromptLineFn(void *user, PromptLine *line, Err *err);
/* As prompts_read, of lines from elsewhere; none is no error. */
WEFT_MUST_CHECK int prompts_from(PromptList *out, PromptLineFn *next, void *user, int64_t seed, int64_t per_prompt,
                                 Err *err);
#endif
