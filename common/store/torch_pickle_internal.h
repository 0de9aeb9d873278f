/* Shared by torch_pickle.c (the machine) and torch_pickle_calls.c (the names it knows, and what their
 * calls mean). */
#ifndef WEFT_COMMON_STORE_TORCH_PICKLE_INTERNAL_H
#define WEFT_COMMON_STORE_TORCH_PICKLE_INTERNAL_H
#include <string.h>
#include "common/store/torch_pickle.h"

enum { PICKLE_WORD = 300 }; /* characters of a name that may be read, and are shown */

typedef struct Indices {
    int32_t *at;
    int64_t n, room;
} Indices;

typedef struct Machine {
    Pickle *p;
    const uint8_t *bytes;
    int64_t size, at;
    Indices stack, marks, memo; /* marks: heights of the stack; memo: -1 where nothing is kept */
    Err *err;
} Machine;

/* torch_pickle.c */
int pickle_bad(Machine *m, const char *what); /* ERR_FORMAT with the place */
WEFT_MUST_CHECK int indices_add(Indices *list, int32_t value, Err *err);
/* A new value on the stack; *out is valid until the next one. */
WEFT_MUST_CHECK int push_new(Machine *m, PickleKind kind, PickleValue **out);
/* The value `down` below the top, above the last mark. */
WEFT_MUST_CHECK int peek(Machine *m, int64_t down, PickleValue **out);
WEFT_MUST_CHECK int items_add(Machine *m, PickleValue *v, const int32_t *item, int64_t n);

/* torch_pickle_calls.c: the opcodes that are about names.  GLOBAL and STACK_GLOBAL; REDUCE; BINPERSID;
 * NEWOBJ; BUILD. */
WEFT_MUST_CHECK int push_global(Machine *m);
WEFT_MUST_CHECK int push_stack_global(Machine *m);
WEFT_MUST_CHECK int call(Machine *m);
WEFT_MUST_CHECK int make_storage(Machine *m);
WEFT_MUST_CHECK int make_object(Machine *m);
WEFT_MUST_CHECK int build(Machine *m);

static inline int is_text(const char *text, int64_t n, const char *word)
{
    return n == (int64_t)strlen(word) && memcmp(text, word, (size_t)n) == 0;
}
#endif
