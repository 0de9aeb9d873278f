/* What prepared.c (clips) and prepared_text.c know of a dataset's files. */
#ifndef WEFT_CACHE_PREPARED_INTERNAL_H
#define WEFT_CACHE_PREPARED_INTERNAL_H
#include "cache/prepared.h"
#include "common/base/keyset.h"
#include "common/base/schema_lines.h"

struct PreparedFiles {
    char *dir, *manifest_path, *tokens_path;
    SchemaFile *manifest, *tokens;
    KeySet id;       /* of all lines of the manifest */
    int32_t *number; /* [id.n] of the clip; -1: not accepted, or not of this shard */
    LinePlace *clip; /* [n] */
    KeySet text;     /* [n_text] */
    LinePlace *ids;  /* [captions] of the texts in tokens.jsonl; size 0: not there */
    int64_t captions, lines_room, clip_room;
    PreparedText *added; /* [n_text - captions] */
};

/* *number: of the text in the set, or -1; *key: its digest. */
WEFT_MUST_CHECK int files_find(const KeySet *s, const char *text, int64_t *number, Digest *key, Err *err);
/* Adds the text where it is new. */
WEFT_MUST_CHECK int files_add_text(Prepared *p, const char *text, Err *err);
/* Opens tokens.jsonl and finds the captions' lines. */
WEFT_MUST_CHECK int files_read_tokens(Prepared *p, Err *err);
#endif
