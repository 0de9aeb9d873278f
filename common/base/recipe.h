/* The recipe: one configuration for all four programs.  Precedence: preset, then --config FILE,
 * then --set key=value, then options that stand for a key (OPT_KEY).
 * schemas/recipe.schema.json documents every key and its values.  People may write keys without a
 * section: "learning_rate" is training.learning_rate (names that the training scripts of diffusers
 * use work too, such as "train_batch_size"), and a key of one other section only is that section's.
 * Choices are matched without regard to upper and lower case.  The recipe is printed at start and
 * stored in every output. */
#ifndef WEFT_COMMON_BASE_RECIPE_H
#define WEFT_COMMON_BASE_RECIPE_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/err.h"
#include "common/base/log.h"

typedef struct Recipe Recipe;

/* From --preset, --config, --set and `keys` in `common`; a --seed given (not -1) replaces "seed".  The config is a
 * recipe in JSON or YAML, or a JSON that holds one: run.json, state.json, dataset.json, a sample's
 * record.  What is wrong with the request is ERR_USAGE, with every problem on a line of its own, each
 * unknown key with the nearest known one.  Numbers that the schema calls "number" are stored as reals,
 * so that 8 and 8.0 hash alike. */
WEFT_MUST_CHECK int recipe_open(Recipe **out, const CommonOptions *common, Err *err);
/* From JSON that was stored in an output: completed (below), then validated, ERR_FORMAT. */
WEFT_MUST_CHECK int recipe_from_json(Recipe **out, const json_t *v, Err *err);
/* A stored recipe with the keys that it lacks: the schema gained them after it was written, and their
 * values in the default preset are what was done then.  New reference; ERR_FORMAT for what is no
 * object. */
WEFT_MUST_CHECK int recipe_complete(json_t **out, const json_t *stored, Err *err);
/* Copies what an earlier program fixed, the values under `paths` (NULL-terminated) in the recipe that
 * it stored, for keys that the user did not give.  ERR_USAGE when the user gave another value; `where`
 * names the output in the message. */
WEFT_MUST_CHECK int recipe_adopt(Recipe *r, const json_t *stored, const char *const *paths, const char *where,
                                 Err *err);
/* Where the value was given, "--set", an option or a file's path; NULL: it is the preset's, or adopted. */
const char *recipe_given(const Recipe *r, const char *path);
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
/* Says on `log` which preset the recipe starts from and, a line a key, what differs from it; at most
 * a dozen lines, or with `everything` every key.  The lines "  section.key = value" can be given to
 * --set. */
void recipe_log(const Recipe *r, int everything, const Log *log);

/* JSON from YAML text through libyaml (plain scalars typed by the YAML 1.2 core schema: null, bool,
 * int, float). */
WEFT_MUST_CHECK int yaml_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err);

/* Frames: num_frames is what the user gets (48), model_frames what the model works on: 8N+1 frames
 * give 2N+1 latents (49 -> 13), 8N give 2N (48 -> 12), as the VAE's chunks of 8 frames make them.
 * Any other count is refused (ERR_USAGE), naming the nearest legal ones. */
WEFT_MUST_CHECK int model_frames_check(int64_t model_frames, int64_t *latent_frames, Err *err);
#endif
