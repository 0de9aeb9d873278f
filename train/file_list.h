/* The files of a folder with their sizes and SHA-256, as state.json lists them. */
#ifndef WEFT_TRAIN_FILE_LIST_H
#define WEFT_TRAIN_FILE_LIST_H
#include <jansson.h>

#include "common/base/err.h"

/* {"transformer/config.json": {"size", "sha256"}, ...}: every file in and below `folder`, by its path
 * there; a hard link to a file of another folder has no "sha256".  New reference. */
WEFT_MUST_CHECK int file_list_make(const char *folder, json_t **list, Err *err);
/* ERR_FORMAT or ERR_NOTFOUND, naming the first file that is missing or has other bytes than `list`
 * says; any other code means that a file could not be read.  Files that are not listed do not
 * matter. */
WEFT_MUST_CHECK int file_list_check(const char *folder, const json_t *list, Err *err);
/* The same, by the files' sizes alone. */
WEFT_MUST_CHECK int file_list_check_sizes(const char *folder, const json_t *list, Err *err);
#endif
