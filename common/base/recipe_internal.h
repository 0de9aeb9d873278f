/* Private to recipe.c (the recipe as a whole) and recipe_read.c (what people write for one). */
#ifndef WEFT_COMMON_BASE_RECIPE_INTERNAL_H
#define WEFT_COMMON_BASE_RECIPE_INTERNAL_H
#include "common/base/recipe.h"
#include "common/base/schema.h"
#include "common/base/str.h"

/* Reading a --config and several --set into a complete recipe.  What is wrong with a key is noted,
 * and the reading goes on: a user sees all problems at once. */
typedef struct RecipeReader {
    const Schema *schema;
    json_t *recipe;     /* complete and valid at any time */
    json_t *given;      /* "training.batch_size" -> where it was given, of every key given so far */
    json_t *names;      /* the same -> the name that the file being read uses for it */
    const char *origin; /* the file, or "--set": stands in front of problems */
    Err no_json;        /* why the value of a --set that looks like JSON is none; empty where it is or need not be */
    Str problems;       /* lines */
    int64_t n_problems;
} RecipeReader;

/* Both fail for what cannot be read at all; else problems are in `r`. */
WEFT_MUST_CHECK int recipe_read_config(RecipeReader *r, const char *path, Err *err);
WEFT_MUST_CHECK int recipe_read_set(RecipeReader *r, const char *assignment, Err *err);
/* "--option text" for the key `path`: of a key of type string the text as it is, else as --set has it. */
WEFT_MUST_CHECK int recipe_read_option(RecipeReader *r, const char *option, const char *path, const char *text,
                                       Err *err);
/* Notes a problem: a line. */
WEFT_MUST_CHECK int recipe_problem(RecipeReader *r, Err *err, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* 0, or ERR_USAGE with all problems. */
WEFT_MUST_CHECK int recipe_problems(const RecipeReader *r, Err *err);
#endif
