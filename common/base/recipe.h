/* The recipe: one configuration for all four programs.  Precedence: preset, then --config FILE,
 * then --set key=value.
 * The merged JSON is validated against schemas/recipe.schema.json (unknown key: error with the
 * nearest name), which also documents every key.  It is printed at start and stored in every
 * output. */
#ifndef WEFT_COMMON_BASE_RECIPE_H
#define WEFT_COMMON_BASE_RECIPE_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/err.h"

typedef struct Recipe Recipe;

/* From --preset, --config, --set in `common`; a --seed given (not -1) replaces "seed".  What is
 * wrong with the request is ERR_USAGE.  Numbers that the schema calls "number" are stored as reals,
 * so that 8 and 8.0 hash alike. */
WEFT_MUST_CHECK int recipe_open(Recipe **out, const CommonOptions *common, Err *err);
/* From JSON that was stored in an output: validated, ERR_FORMAT. */
WEFT_MUST_CHECK int recipe_from_json(Recipe **out, const json_t *v, Err *err);
void recipe_close(Recipe **r);
/* The whole recipe, borrowed. */
const json_t *recipe_json(const Recipe *r);
/* Values by dotted path; the schema guarantees presence and type, so a miss here is our own bug
 * (asserted). */
int64_t recipe_int(const Recipe *r, const char *path); /* -1 for null */
double recipe_num(const Recipe *r, const char *path);
int recipe_bool(const Recipe *r, const char *path);
const char *recipe_str(const Recipe *r, const char *path); /* borrowed; NULL for null */
/* An object or array, borrowed. */
const json_t *recipe_get(const Recipe *r, const char *path);
/* "section.key = value" lines, in the form --set takes. */
void recipe_print(const Recipe *r, FILE *out);
/* The same of some sections (NULL-terminated) in few lines: "clip: width 480, height 720, ...". */
void recipe_print_sections(const Recipe *r, const char *const *sections, FILE *out);

/* JSON from YAML text through libyaml (plain scalars typed by the YAML 1.2 core schema: null, bool,
 * int, float). */
WEFT_MUST_CHECK int yaml_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err);

/* Frames: num_frames is what the user gets (48), model_frames what the model works on: 8N+1 frames
 * give 2N+1 latents (49 -> 13), 8N give 2N (48 -> 12), as the VAE's chunks of 8 frames make them.
 * Any other count is refused (ERR_USAGE), naming the nearest legal ones. */
WEFT_MUST_CHECK int model_frames_check(int64_t model_frames, int64_t *latent_frames, Err *err);
#endif
