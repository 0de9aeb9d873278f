/* The other parts of a diffusers pipeline folder. */
#ifndef WEFT_TRAIN_PIPELINE_H
#define WEFT_TRAIN_PIPELINE_H
#include "common/base/err.h"
#include "common/base/log.h"

/* Copies into `folder` model_index.json and every component it lists, but the transformer, from the
 * pipeline folder `base`: files of their own, sharing blocks where the file system can clone.
 * Without a model_index.json there: a warning, nothing done. */
int pipeline_copy(const char *folder, const char *base, const Log *log, Err *err);
#endif
