/* Shared by safetensors.c (one file), safetensors_folder.c (which files of a folder, and their index)
 * and torch_file.c (PyTorch's files as the same thing). */
#ifndef WEFT_COMMON_STORE_SAFETENSORS_INTERNAL_H
#define WEFT_COMMON_STORE_SAFETENSORS_INTERNAL_H
#include "common/store/safetensors.h"

typedef struct Shard {
    char *name; /* plain file name; NULL for a file opened by path */
    char *path; /* that was opened */
    void *map;
    int64_t size;
    json_t *meta; /* __metadata__, or NULL */
} Shard;

struct SafeTensors {
    Shard *shard;
    int64_t n_shard;
    SafeEntry *entry; /* sorted by name; names owned */
    int64_t n;
    void **block; /* of tensors that lie in memory (torch_file.h): mem_free_aligned */
    int64_t n_block;
};

/* Maps a regular file whole; s->path, s->map and s->size are then safetensors_close's to release, also
 * on failure. */
WEFT_MUST_CHECK int shard_map(Shard *s, const char *path, Err *err);

/* Maps and checks one file.  On success the caller owns *entry (entries_free). */
WEFT_MUST_CHECK int shard_open(Shard *s, const char *path, SafeEntry **entry, int64_t *n, Err *err);
void entries_free(SafeEntry *entry, int64_t n);
/* qsort's comparison: bytewise by name. */
int entry_by_name(const void *a, const void *b);
#endif
