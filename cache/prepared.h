/* A prepared dataset as weft-cache reads it: the accepted clips of one shard, and the token ids of
 * every caption they use, each read when its turn comes. */
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
    json_t *line; /* its manifest line; of it: */
    const char *id;
    const json_t *split, *category, *attributes;
    const char *pixels_sha256;
    char *path; /* of the clip's file */
    int64_t frames, height, width, fps;
    int64_t *text, n_text; /* numbers of its captions, at least one */
} PreparedClip;

/* Clips and texts stay in their files: some 90 bytes are kept for a clip with a caption of its own. */
typedef struct Prepared {
    json_t *dataset;    /* dataset.json */
    int64_t n;          /* clips, in the order of the manifest */
    int64_t n_text;     /* text 0 is the empty prompt; then in order of first use; then those of prepared_add_text */
    int64_t size[3];    /* frames, height, width of clip 0 */
    int64_t other_size; /* the first clip of another size, or -1 */
    int64_t rgb_bytes;  /* of the largest clip, at least 1 */
    int32_t largest_id; /* no id of a text is larger */
    TextForm form;
    char tokenizer_sha256[65]; /* "" when tokens.jsonl is empty */
    struct PreparedFiles *files;
} Prepared;

/* Reads and validates dataset.json, manifest.jsonl (whose hash dataset.json holds) and tokens.jsonl
 * of `dir`, and finds the accepted clips number i (from 0) with i % shards == shard.  Refuses an id
 * that appears twice, a caption without tokens, and tokens of another encoder or length than `form`
 * says.  form NULL: tokens.jsonl is not read, and there are no texts to read.  Of a manifest line only
 * what a cache needs is parsed and judged; the hash vouches for the rest. */
WEFT_MUST_CHECK int prepared_open(Prepared **out, const char *dir, int64_t shard, int64_t shards, const TextForm *form,
                                  Err *err);
void prepared_close(Prepared **p);
/* Reads clip i (text k): the caller's to fini, which accepts zeros.  Zeros on error; ERR_FORMAT when the
 * line has changed since prepared_open. */
WEFT_MUST_CHECK int prepared_clip(Prepared *p, int64_t i, PreparedClip *out, Err *err);
WEFT_MUST_CHECK int prepared_text(Prepared *p, int64_t k, PreparedText *out, Err *err);
void prepared_clip_fini(PreparedClip *c);
void prepared_text_fini(PreparedText *t);
/* Caption number k of the clip, 0 to n_text - 1; "" for a clip without. */
const char *prepared_caption(const PreparedClip *c, int64_t k);
/* Frames, height and width of clip 0, and nothing else of it. */
PreparedClip prepared_size(const Prepared *p);
/* *i: the number of the clip (*k: of the text), or -1. */
WEFT_MUST_CHECK int prepared_find_clip(const Prepared *p, const char *id, int64_t *i, Err *err);
WEFT_MUST_CHECK int prepared_find_text(const Prepared *p, const char *text, int64_t *k, Err *err);
/* A text that is no caption: copied. */
WEFT_MUST_CHECK int prepared_add_text(Prepared *p, const PreparedText *t, Err *err);
/* Fills t->ids and t->n with the empty prompt's. */
void prepared_empty(PreparedText *t, const TextForm *form);
/* out [form.length]: the text's ids, then padding. */
void prepared_pad(const PreparedText *t, const TextForm *form, int32_t *out);
/* Copies size, frames and text length of the clips in `dir` into the recipe, for keys that the user
 * did not give; ERR_USAGE when the user gave another value (for text_length prepared_open checks
 * that, from the tokens). */
WEFT_MUST_CHECK int prepared_adopt(Recipe *recipe, const char *dir, Err *err);
/* Calls f with id and pixels_sha256 of each accepted clip, in the order of the manifest. */
typedef int PreparedIdFn(void *user, const char *id, const char *pixels_sha256, Err *err);
WEFT_MUST_CHECK int prepared_each_id(const char *dir, PreparedIdFn *f, void *user, Err *err);
#endif
