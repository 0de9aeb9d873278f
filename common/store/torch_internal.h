/* Shared by torch_file.c (the containers: where a storage's bytes lie) and torch_tensors.c (which
 * tensors a pickle holds, and their bytes). */
#ifndef WEFT_COMMON_STORE_TORCH_INTERNAL_H
#define WEFT_COMMON_STORE_TORCH_INTERNAL_H
#include <jansson.h>
#include "common/store/safetensors_internal.h"
#include "common/store/torch_pickle.h"

struct zip;

typedef struct Storage {
    const PickleValue *described; /* the first value that names it */
    const uint8_t *bytes;         /* NULL until they are asked for */
    int64_t size;
} Storage;

typedef struct TorchFile {
    const uint8_t *bytes;
    int64_t size;
    struct zip *zip;    /* NULL: a stream */
    const char *folder; /* "STEM/data/" of the archive */
    Pickle pickle;
    Storage *storage;
    int64_t n_storage;
    json_t *by_key;    /* key of a storage: its index */
    int64_t allowance; /* bytes that may still be allocated: a hostile file claims the same ones often */
    SafeTensors *out;  /* takes entries and blocks */
    Err *err;
} TorchFile;

/* torch_file.c: s->bytes. */
WEFT_MUST_CHECK int torch_load_storage(TorchFile *f, Storage *s);
/* torch_tensors.c */
WEFT_MUST_CHECK int torch_list_storages(TorchFile *f); /* of f->pickle */
WEFT_MUST_CHECK int torch_list_tensors(TorchFile *f);  /* f->out's entries, sorted */
/* A block that f->out owns. */
WEFT_MUST_CHECK int torch_block(TorchFile *f, int64_t bytes, void **out);
/* The storage of that key, or NULL. */
Storage *torch_find_storage(const TorchFile *f, const PickleValue *key);
#endif
