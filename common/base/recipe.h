/* The recipe: one configuration for all four programs.  Precedence: preset, then --config FILE, then --set key=value.
 * The merged JSON is validated against schemas/recipe.schema.json (unknown key: error with the nearest name), which also
 * documents every key.  It is printed at start and stored in every output. */
#ifndef WEFT_COMMON_BASE_RECIPE_H
#define WEFT_COMMON_BASE_RECIPE_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/err.h"

typedef struct Recipe Recipe;

/* From --preset, --config, --set in `common`; seed is put in as "seed". */
int recipe_open(Recipe **out, const CommonOptions *common, Err *err);
/* From JSON that was stored in an output (validated). */
int recipe_from_json(Recipe **out, const json_t *v, Err *err);
void recipe_close(Recipe **r);
/* The whole recipe, borrowed. */
const json_t *recipe_json(const Recipe *r);
/* Values by dotted path; the schema guarantees presence and type, so a miss here is our own bug (asserted). */
int64_t recipe_int(const Recipe *r, const char *path);
double recipe_num(const Recipe *r, const char *path);
int recipe_bool(const Recipe *r, const char *path);
const char *recipe_str(const Recipe *r, const char *path); /* borrowed; NULL for null */
/* An object or array, borrowed. */
const json_t *recipe_get(const Recipe *r, const char *path);
void recipe_print(const Recipe *r, FILE *out);

/* JSON from YAML text through libyaml (plain scalars typed by the YAML 1.2 core schema: null, bool, int, float). */
int yaml_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err);

/* Frames: num_frames is what the user gets (48); the model works on 8N+1 or 4N frames.  Given clip.num_frames and
 * clip.model_frames, checks both and gives the latent frame count: 49 -> 13, 48 -> 12.  A count that is neither 8N+1 nor a
 * multiple of 4 is refused, naming the two nearest legal ones. */
int model_frames_check(int64_t model_frames, int64_t *latent_frames, Err *err);
#endif
