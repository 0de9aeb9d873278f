/* A prepared dataset as weft-cache reads it: the accepted clips of one shard, and the token ids of
 * every caption they use. */
#ifndef WEFT_CACHE_PREPARED_H
#define WEFT_CACHE_PREPARED_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/text_kind.h"

typedef struct PreparedText {
    char *text;
    int32_t *ids; /* [n], or more: padding may follow */
    int64_t n;
    int64_t cut;    /* how many ids of the caption did not fit */
    char *cut_text; /* the words of these ids; "" when all fit, NULL for the empty prompt */
} PreparedText;

/* The form of a text's ids: [first,] ids, last, then pad up to length. */
typedef struct TextForm {
    TextKind kind;
    int64_t length;
    int32_t first, last, pad; /* first -1: none */
} TextForm;

typedef struct PreparedClip {
    char *id, *path; /* path of the clip's file */
    /* of its manifest line, shared with other clips: not to be changed */
    json_t *split, *category, *attributes;
    int64_t frames, height, width, fps;
    const char *pixels_sha256; /* owned */
    int64_t *text, n_text;     /* indices into Prepared.text, at least one */
} PreparedClip;

typedef struct Prepared {
    json_t *dataset; /* dataset.json */
    PreparedClip *clip;
    int64_t n; /* in the order of the manifest */
    PreparedText *text;
    int64_t n_text; /* text[0] is the empty prompt; the rest in order of first use */
    TextForm form;
    char tokenizer_sha256[65]; /* "" when tokens.jsonl is empty */
} Prepared;

/* Reads and validates dataset.json, manifest.jsonl (whose hash dataset.json holds) and tokens.jsonl
 * of `dir`, and keeps the accepted clips number i (from 0) with i % shards == shard.  Refuses an id
 * that appears twice, a caption without tokens, and tokens of another encoder or length than `form`
 * says.  form NULL: tokens.jsonl is not read, and texts have no ids.  Of a manifest line only what a
 * cache needs is parsed and judged; the hash vouches for the rest. */
WEFT_MUST_CHECK int prepared_open(Prepared **out, const char *dir, int64_t shard, int64_t shards, const TextForm *form,
                                  Err *err);
/* Fills t->ids and t->n with the empty prompt's. */
void prepared_empty(PreparedText *t, const TextForm *form);
/* out [form.length]: the text's ids, then padding. */
void prepared_pad(const PreparedText *t, const TextForm *form, int32_t *out);
/* Copies size, frames and text length of the clips in `dir` into the recipe, for keys that the user
 * did not give; ERR_USAGE when the user gave another value (for text_length prepared_open checks
 * that, from the tokens). */
WEFT_MUST_CHECK int prepared_adopt(Recipe *recipe, const char *dir, Err *err);
void prepared_close(Prepared **p);
/* Bytes of RGB of the largest clip, at least 1. */
int64_t prepared_rgb_bytes(const Prepared *p);
/* Calls f with id and pixels_sha256 of each accepted clip, in the order of the manifest. */
typedef int PreparedIdFn(void *user, const char *id, const char *pixels_sha256, Err *err);
WEFT_MUST_CHECK int prepared_each_id(const char *dir, PreparedIdFn *f, void *user, Err *err);
#endif
