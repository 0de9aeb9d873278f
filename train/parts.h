/* The files of a checkpoint or of final/, by size and SHA-256: what makes such a folder known to be
 * whole. */
#ifndef WEFT_TRAIN_PARTS_H
#define WEFT_TRAIN_PARTS_H
#include <jansson.h>

#include "common/base/err.h"

/* {"transformer/config.json": {"size", "sha256"}, ...} of every file below `folder`; *out is a new
 * reference. */
int parts_describe(const char *folder, json_t **out, Err *err);
/* Every described file is there with its size and bytes: else ERR_FORMAT (or why it cannot be
 * read), naming the first that is not. */
int parts_check(const char *folder, const json_t *parts, Err *err);
#endif
