/* One run of `weft-cache build`, shared by build.c (what is wanted, meta, stale entries, the run)
 * and build_store.c (texts and clips). */
#ifndef WEFT_CACHE_BUILD_INTERNAL_H
#define WEFT_CACHE_BUILD_INTERNAL_H
#include "cache/build.h"
#include "cache/encoding.h"
#include "cache/seen.h"
#include "cache/reader.h"
#include "cache/writer.h"
#include "common/base/keyset.h"

enum { BUILD_BATCH = 32 << 20 /* bytes that a commit waits for */ };

/* What the first look at a clip found. */
typedef struct ClipPlan {
    Digest latents; /* their key */
    uint64_t names; /* build_names of the entry that it must have; 0: that entry is there, and its file is known */
} ClipPlan;

typedef struct Build {
    const BuildParams *params;
    Prepared *p;
    Encoding *e;
    Cache *cache;                 /* NULL in a dry run where none exists */
    Digest *text_key, *token_key; /* [p->n_text] */
    ClipPlan *clip;               /* [p->n]; NULL: not wanted */
    Encoder *encoder;             /* opened when something must be computed */
    ClipReader *reader;           /* forked before the cache is opened */
    CacheWriter *writer;
    Seen seen;
    json_t *rejected;                /* id -> reason */
    KeySet made;                     /* latents of this run: no second clip of the same pixels is encoded */
    int64_t computed, reused;        /* latents and embeddings */
    double read_s, encode_s, pack_s; /* of the clips, by stage */
    int64_t peak;                    /* bytes of memory, as seen after each piece of work */
} Build;

/* What a build will need.  Bytes without mapped weights; seconds on the device that is used. */
typedef struct Prediction {
    int64_t base, text, vae, pixels, peak;
    double texts_s, clips_s;
} Prediction;
/* Measures this machine for a second or two: a product for the texts, a small clip for the clips.
 * texts, clips: how many must be encoded (0: its part of the prediction is 0). */
WEFT_MUST_CHECK int build_predict(Build *b, int64_t texts, int64_t clips, Prediction *out, Err *err);

/* Sets *have: whether the cache has a sound record of that kind and shape.  A damaged one counts as
 * absent (with a warning) and is written again. */
WEFT_MUST_CHECK int build_have_record(const Build *b, CacheDb db, const Digest *key, RecordKind kind,
                                      const Tensor *shape, int *have, Err *err);
/* The entry of a clip whose latents have that key; file_sha256 "" where only the keys count. */
WEFT_MUST_CHECK int build_clip_facts(const Build *b, const PreparedClip *c, const Digest *latents,
                                     const char *file_sha256, json_t **out, Err *err);
/* A hash over the keys of the records that an entry names, and of those that the clip's entry must name. */
uint64_t build_names(const json_t *entry);
/* Whether the cache holds just the entry that the clip must have, made from the file as it is now. */
WEFT_MUST_CHECK int build_has_entry(Build *b, CacheTxn *t, const PreparedClip *c, const Digest *latents, int *has,
                                    Err *err);
uint64_t build_names_wanted(const Build *b, const PreparedClip *c, const Digest *latents);
WEFT_MUST_CHECK int build_store_texts(Build *b, Err *err);
WEFT_MUST_CHECK int build_store_clips(Build *b, Err *err);
/* After the clips: how their latents look (meta entry "colour"). */
WEFT_MUST_CHECK int build_fit_colour(Build *b, Err *err);
#endif
