/* The folder of a model from what a user gives as --model: a folder in diffusers' layout, a Hugging
 * Face cache entry (models--OWNER--NAME, whose files lie in snapshots/REVISION), or a hub id
 * (OWNER/NAME) that a Hugging Face tool has downloaded.  Weft itself downloads nothing. */
#ifndef WEFT_COMMON_MODEL_MODEL_FOLDER_H
#define WEFT_COMMON_MODEL_MODEL_FOLDER_H
#include "common/base/err.h"
#include "common/base/log.h"

/* *out is the folder (mem_free).  ERR_NOTFOUND says where was looked and how people fetch a model;
 * a hub id is looked for in HF_HUB_CACHE, HF_HOME/hub and ~/.cache/huggingface/hub.  The log says
 * which snapshot was chosen. */
WEFT_MUST_CHECK int model_folder_find(char **out, const char *given, const Log *log, Err *err);
#endif
