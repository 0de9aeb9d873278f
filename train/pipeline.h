/* The other parts of a diffusers pipeline folder. */
#ifndef WEFT_TRAIN_PIPELINE_H
#define WEFT_TRAIN_PIPELINE_H
#include "common/base/err.h"
#include "common/base/log.h"

/* Whether pipeline_parts_copy will be able to copy everything: model_index.json is a JSON object, the
 * components it lists are folders of regular files that can be read.  *bytes is what they take.
 * Warns of a base without model_index.json and of components that are not there. */
WEFT_MUST_CHECK int pipeline_parts_check(const char *base, const Log *log, int64_t *bytes, Err *err);
/* Puts into `folder` model_index.json and every component it lists, but the transformer, from the pipeline
 * folder `base`: files of their own, sharing blocks where the file system can clone; with `link` hard
 * links, where the file system can.  Nothing is done without a model_index.json; a component that the
 * folder lacks is left out. */
WEFT_MUST_CHECK int pipeline_parts_copy(const char *folder, const char *base, int link, Err *err);
/* The same for one folder and all that is in it. */
WEFT_MUST_CHECK int pipeline_folder_copy(const char *to, const char *from, int link, Err *err);
#endif
