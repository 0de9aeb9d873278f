/* What identifies a source: its bytes, hashed now or remembered from an earlier run.
 *
 * A source counts as unchanged while its file, or each numbered picture of its folder, is what it was
 * (common/base/file_stamp.h). */
#ifndef WEFT_PREP_CLIP_SOURCE_HASH_H
#define WEFT_PREP_CLIP_SOURCE_HASH_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/hash.h"
#include "prep/layout/source.h"

typedef struct SourceIdentity {
    int64_t size;    /* bytes, of all pictures of a folder */
    Digest sha256;   /* of a folder: of the lines "NUMBER SIZE SHA256\n" of its pictures in order */
    char entry[256]; /* to be remembered; "": the source changed too recently */
    int hashed;      /* the bytes were read */
} SourceIdentity;

/* remembered: Source.path -> the entry of an earlier run, borrowed; NULL: nothing is remembered.
 * path: where the source lies; name: its Source.path. */
WEFT_MUST_CHECK int source_identify(const json_t *remembered, const char *name, const char *path, SourceKind kind,
                                    SourceIdentity *out, Err *err);
/* Its bytes, from the file system alone; negative when it does not exist. */
int64_t source_size(const char *path, SourceKind kind);
#endif
