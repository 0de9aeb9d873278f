/* safetensors: memory-mapped reader, sharded index, atomic writer.  The checks are those of
 * MODEL.md 1.2: a hostile file gets a clear error, never a wrong tensor. */
#ifndef WEFT_COMMON_STORE_SAFETENSORS_H
#define WEFT_COMMON_STORE_SAFETENSORS_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/log.h"
#include "common/ops/tensor.h"

typedef struct SafeTensors SafeTensors;
typedef struct SafeEntry {
    const char *name; /* borrowed until close */
    Tensor tensor;    /* data points into the read-only mapping; may be unaligned */
} SafeEntry;

/* One file. */
WEFT_MUST_CHECK int safetensors_open(SafeTensors **out, const char *path, Err *err);
/* The weights of a component's folder; `stem` is "diffusion_pytorch_model" (diffusers) or "model"
 * (transformers).  FOLDER/STEM.safetensors, or FOLDER/STEM.safetensors.index.json with its shards
 * (plain file names only).  Where both exist, the file that the stem's library reads: diffusers the
 * index, transformers the single file; a warning names both.  Where neither exists, the only
 * variant (STEM.fp16.safetensors).  A wrong total_size is a warning; log may be NULL. */
WEFT_MUST_CHECK int safetensors_open_folder(SafeTensors **out, const char *folder, const char *stem, const Log *log,
                                            Err *err);
void safetensors_close(SafeTensors **s);
int64_t safetensors_count(const SafeTensors *s);
/* Entries in bytewise name order, i in 0..count-1. */
const SafeEntry *safetensors_at(const SafeTensors *s, int64_t i);
const SafeEntry *safetensors_find(const SafeTensors *s, const char *name);
/* Gives back the memory of the entry's pages in the mapped file; they are read again when they are looked
 * at.  An entry that lies in memory of its own (torch_file.h) stays. */
void safetensors_forget(const SafeTensors *s, const SafeEntry *e);
/* The string value of __metadata__[key], or NULL. Borrowed. */
const char *safetensors_meta(const SafeTensors *s, const char *key);
/* SHA-256 over names, dtypes, shapes and bytes in name order, hex: the weights' identity,
 * independent of file layout.  Reading a big model takes seconds, so callers keep the result. */
WEFT_MUST_CHECK int safetensors_digest(const SafeTensors *s, char hex[65], Err *err);
/* The same digest, remembered in MEMORY/.weights while the files are what they were
 * (common/base/file_stamp.h): weights of many GB are read once.  memory: a folder, "" or NULL for none;
 * one that cannot be written only costs the reading.  `folder` names the weights in the log. */
WEFT_MUST_CHECK int safetensors_digest_once(const SafeTensors *s, const char *folder, const char *memory, char hex[65],
                                            const Log *log, Err *err);
/* A digest that is remembered, kept over something that changes the files' ctimes and no byte of them: a hard
 * link more or less.  hold before, keep after; nothing is done where MEMORY/.weights does not have the digest
 * of the files as they are at `hold`, or where at `keep` more of them changed than the ctimes. */
typedef struct DigestHold {
    char hex[65], still[65]; /* hex: "" for none */
} DigestHold;
WEFT_MUST_CHECK int safetensors_digest_hold(const SafeTensors *s, const char *memory, DigestHold *h, Err *err);
WEFT_MUST_CHECK int safetensors_digest_keep(const SafeTensors *s, const char *memory, const DigestHold *h, Err *err);

/* Header checks alone, for fuzzing and tests: bytes as a whole file. */
WEFT_MUST_CHECK int safetensors_check(const void *bytes, int64_t size, Err *err);

/* Writer: describe all tensors, then write bytes.  Tensors sorted by element size descending then
 * name, header padded to 8. */
typedef struct SafeSource {
    const char *name;
    Tensor tensor;
} SafeSource; /* host memory */
/* metadata: JSON object of strings or NULL. Atomic. */
WEFT_MUST_CHECK int safetensors_write(const char *path, const SafeSource *tensors, int64_t n, const json_t *metadata,
                                      Err *err);
/* The same for tensors that are not in host memory (data NULL): `fetch` gives the bytes of
 * tensors[i] when the writer reaches it; they must stay valid until the next call. */
typedef int (*SafeFetch)(void *user, int64_t i, const void **data, Err *err);
WEFT_MUST_CHECK int safetensors_write_from(const char *path, const SafeSource *tensors, int64_t n,
                                           const json_t *metadata, SafeFetch fetch, void *user, Err *err);
#endif
