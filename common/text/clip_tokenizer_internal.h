/* Shared by clip_tokenizer.c (from text to ids and back) and clip_merges.c (the files). */
#ifndef WEFT_COMMON_TEXT_CLIP_TOKENIZER_INTERNAL_H
#define WEFT_COMMON_TEXT_CLIP_TOKENIZER_INTERNAL_H
#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include "common/base/str.h"
#include "common/text/clip_tokenizer.h"

enum { N_BYTES = 256, N_BASE = 512, PAIR_SLOTS = 1 << 17 /* a power of two, at least twice what they hold */ };

typedef struct Pair {
    int32_t left, right, id;
} Pair; /* id 0: free slot */

/* Token spellings: raw bytes, then one byte that says whether the word ends there. */
typedef struct Names {
    Str bytes;
    int64_t *begin; /* [N_BASE + merges + 1]: token id's spelling is bytes[begin[id] .. begin[id+1]) */
    int32_t *slot;  /* while merges are read: id + 1; 0: free */
    int32_t n;
} Names;

struct ClipTokenizer {
    Pair *pair; /* [PAIR_SLOTS], open addressing */
    int32_t byte_id[N_BYTES];
    Names names; /* of all tokens but the two marks, which come last */
    char digest[65];
    pcre2_code *pattern;
};

Pair *clip_pair_slot(const ClipTokenizer *t, int32_t left, int32_t right);
/* Fills t->pair, byte_id, names and digest from the lines of a merges.txt. */
WEFT_MUST_CHECK int clip_read_merges(ClipTokenizer *t, const char *text, int64_t size, Err *err);
/* Whether a vocabulary (token -> id) gives each token the id that the order of the merges gives it.
 * */
WEFT_MUST_CHECK int clip_check_vocab(const ClipTokenizer *t, const json_t *vocab, const char *name, Err *err);
/* Appends the merges of a parsed tokenizer.json as lines of a merges.txt to *lines (the caller's,
 * also on failure); ERR_UNSUPPORTED where it asks for something else than CLIP's tokeniser does. */
WEFT_MUST_CHECK int clip_merges_of_json(Str *lines, const json_t *root, const char *name, Err *err);
#endif
