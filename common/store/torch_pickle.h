/* The pickles inside PyTorch's files, as data: a machine that knows numbers, texts, tuples, lists,
 * dictionaries and tensors, and nothing else.  A pickle is a program that may name any function of
 * Python and have it called; here a name that is not in the table of torch_pickle_calls.c, and an opcode
 * that is not in torch_pickle.c's switch, end the reading with a sentence that says which.  Nothing is ever called.
 *
 * What is understood: what torch.save and torch.jit.save write for tensors (protocols 2 to 5). */
#ifndef WEFT_COMMON_STORE_TORCH_PICKLE_H
#define WEFT_COMMON_STORE_TORCH_PICKLE_H
#include <stdint.h>
#include "common/ops/tensor.h"

typedef enum PickleKind {
    PICKLE_NONE, /* None, and what means nothing here: a float, a device */
    PICKLE_INT,  /* bool too */
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,    /* items: key, value, key, value; an object of TorchScript is its attributes */
    PICKLE_NAME,    /* a name of the table */
    PICKLE_STORAGE, /* text: its key; type; number: its elements */
    PICKLE_TENSOR   /* items: storage, offset, sizes, strides (checked to be these); type */
} PickleKind;

typedef struct PickleValue {
    PickleKind kind;
    DType type;
    int is_bytes;     /* a storage without a type: number counts bytes */
    int is_object;    /* a PICKLE_DICT that is TorchScript's object */
    int known;        /* PICKLE_NAME: its row of the table */
    int64_t number;   /* PICKLE_INT, PICKLE_STORAGE */
    const char *text; /* in the pickle; not terminated */
    int32_t *item;    /* values by index */
    int64_t n, room;  /* bytes of text, or items; room: allocated items */
} PickleValue;

typedef struct Pickle {
    PickleValue *value;
    int64_t n, room;
    int32_t top; /* the value that the pickle stands for */
} Pickle;

/* Reads one pickle from bytes[0, size); *used is its length.  The values' texts point into bytes.
 * Zero-initialise; pickle_fini in every case. */
WEFT_MUST_CHECK int pickle_read(Pickle *p, const uint8_t *bytes, int64_t size, int64_t *used, Err *err);
void pickle_fini(Pickle *p);
/* The value of a dictionary's key that is the text `key`, or NULL. */
const PickleValue *pickle_get(const Pickle *p, const PickleValue *dict, const char *key);
static inline const PickleValue *pickle_item(const Pickle *p, const PickleValue *v, int64_t i)
{
    return &p->value[v->item[i]];
}
#endif
