/* The embeddings of imported clips: from their files, or made by the model. */
#ifndef WEFT_CACHE_IMPORT_TEXT_H
#define WEFT_CACHE_IMPORT_TEXT_H
#include "cache/encoding.h"
#include "cache/export.h"
#include "common/store/safetensors.h"

/* One import: shared by import.c (clips, meta entries) and import_text.c. */
typedef struct Import {
    const ImportParams *params;
    Encoding *e; /* NULL without a model */
    Encoder *encoder;
    PreparedText text; /* the caption being encoded */
    json_t *given;     /* export.json; NULL with a model */
    json_t *vae, *texts_meta, *encoding;
    VaeConfig vae_config;
    json_t *ids; /* clip ids, to find one that appears twice */
    Cache *out;
    CacheTxn *have; /* what an earlier run stored */
    int64_t length, dim, clips, lines;
    DType dtype;
    RecordKind kind;
} Import;

/* Stores a tensor under the key `named` when its checksum there is `sum` (each NULL: not given),
 * else under a key of its own; key: which. */
WEFT_MUST_CHECK int import_record(Import *m, CacheDb db, RecordKind kind, const Tensor *t, const char *named,
                                  const char *sum, Digest *key, Err *err);
/* Caption k of a line: *text and *tokens are the keys of its embedding and ids. */
WEFT_MUST_CHECK int import_caption(Import *m, const json_t *line, const SafeTensors *file, size_t k, Digest *text,
                                   Digest *tokens, Err *err);
/* The empty prompt's embedding, by the model. */
WEFT_MUST_CHECK int import_encode(Import *m, const char *caption, Digest *text, Digest *tokens, Err *err);
void import_text_fini(Import *m);
#endif
