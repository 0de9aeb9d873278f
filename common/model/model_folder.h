/* The folder of a model from what a user gives as --model: a folder in diffusers' layout, a Hugging
 * Face cache entry (models--OWNER--NAME, whose files lie in snapshots/REVISION), or a hub id
 * (OWNER/NAME) that a Hugging Face tool has downloaded.  Weft itself downloads nothing. */
#ifndef WEFT_COMMON_MODEL_MODEL_FOLDER_H
#define WEFT_COMMON_MODEL_MODEL_FOLDER_H
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/recipe.h"

/* *out is the folder (mem_free).  ERR_NOTFOUND says where was looked and how people fetch a model;
 * a hub id is looked for in HF_HUB_CACHE, HF_HOME/hub and ~/.cache/huggingface/hub, and CogVideoX also
 * under the other name of its owner (THUDM, zai-org).  The log says
 * which snapshot was chosen. */
WEFT_MUST_CHECK int model_folder_find(char **out, const char *given, const Log *log, Err *err);

/* The base model that a recipe names, as people wrote it (borrowed): the option --model,
 * model.base_model, training.base_model (the other way round when `training`), or else
 * training.pretrained_weights.  Where training.base_model is the name of a model ("CogVideoX-2b") and
 * pretrained_weights its hub id ("THUDM/CogVideoX-2b"), both mean one model: the hub id finds it, and
 * --model stands for both.  NULL when nothing names one. */
const char *model_folder_base(const Recipe *recipe, const char *option, int training);
/* The weights that training starts from, when they are not the base model's own; else NULL. */
const char *model_folder_weights(const Recipe *recipe);
/* As model_folder_find for what model_folder_base returns; ERR_USAGE when nothing names a model. */
WEFT_MUST_CHECK int model_folder_of_recipe(char **out, const Recipe *recipe, const char *option, int training,
                                           const Log *log, Err *err);
#endif
