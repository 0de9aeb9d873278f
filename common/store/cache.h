/* The cache: latents, text embeddings, token ids and clip facts in one LMDB environment.
 *
 *   CacheWriter / CacheReader     one writer, any number of readers (threads and processes)
 *
 * Named databases and keys:
 *   meta     text                    JSON (schemas/cache-meta.schema.json) and its checksum
 *   clips    clip id                 JSON (schemas/cache-clip.schema.json) and its checksum: facts,
 *            keys of its latents and texts
 *   tokens   content key (32 bytes)  record: I32 [n]
 *   text     content key             record: [226, text_dim]
 *   latents  content key             record: moments [F,h,w,2C]
 * A content key is SHA-256 over everything that shaped the value (cache_key_*): source pixels,
 * parameters, weights' digest, numerics revision.  What is stale can therefore not be found, and
 * what is unchanged is never computed again.
 *
 * Caveats (LMDB's): not on network file systems; one process must not open the same directory
 * twice; a view is valid until its read transaction ends; keep read transactions short while a
 * writer runs, or the file grows; never use across fork.  LMDB trusts its own pages: a reader
 * therefore finds its entries without it and checks each page on the way (cache_tree.h), and a writer
 * has all pages checked when it opens the cache (cache_pages.h; one small read a record).  What is
 * damaged or was made by an enemy is refused.  Contents are checked where they are read. */
#ifndef WEFT_COMMON_STORE_CACHE_H
#define WEFT_COMMON_STORE_CACHE_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/hash.h"
#include "common/base/json_walk.h"
#include "common/ops/tensor.h"

/* Raised whenever an intended change makes latents (or embeddings) differ; part of every key.
 * Latents: 2 since the VAE may convolve by Winograd's form, 3 since that is F(4x4) in space, 4 since that multiplies
 * few channels in blocks of its own, and few outputs are dot products.
 * Text: 2 since attention forms its sums in blocks of its own. */
#define CACHE_LATENTS_REVISION 4
#define CACHE_TEXT_REVISION 2

typedef enum CacheDb { CACHE_LATENTS, CACHE_TEXT, CACHE_TOKENS } CacheDb; /* databases of records */
typedef enum RecordKind { RECORD_MOMENTS = 1, RECORD_SAMPLE = 2, RECORD_TEXT = 3, RECORD_TOKENS = 4 } RecordKind;

/* The tensors each kind takes: moments F32/F16/BF16 [F,h,w,2C], sample [F,h,w,C], text [n,dim],
 * tokens I32 [n]; ERR_FORMAT otherwise. */
WEFT_MUST_CHECK int record_check_tensor(RecordKind kind, const Tensor *t, Err *err);

/* The 48 bytes in front of every tensor, little-endian:
 *   0 u32 magic "WEFT"   4 u16 version 2   6 u16 dtype   8 u8 kind   9 u8 rank   10 u16 zero
 *  12 u32 dims[5] (unused: 0)   32 u64 payload bytes   40 u64 checksum: xxh3-64 of the payload,
 *  seeded with the xxh3-64 of the record's key and bytes 0 to 39 (version 1: of the payload, no seed)
 * LMDB puts a large value 16 bytes into a page: the tensor then lies on a 64-byte boundary.  (A
 * small one lies anywhere: the get and next functions below hand out an aligned copy of it.) */
#define RECORD_HEADER_SIZE 48
#define RECORD_VERSION 2
/* tensor borrowed from the map */
typedef struct RecordView {
    RecordKind kind;
    int version;
    Tensor tensor;
    uint64_t checksum;
} RecordView;
void record_header_encode(uint8_t out[RECORD_HEADER_SIZE], RecordKind kind, const Tensor *t, const Digest *key);
/* Checks magic, version, sizes against `size`, and the checksum when the record's key is given (else
 * NULL).  `what` names the record in messages. */
WEFT_MUST_CHECK int record_decode(RecordView *out, const void *bytes, int64_t size, const Digest *key, const char *what,
                                  Err *err);
/* Whether all its numbers are finite (integers always are). */
int record_is_finite(const Tensor *t);

typedef struct Cache Cache;
typedef enum CacheMode { CACHE_READ, CACHE_WRITE, CACHE_WRITE_ANYWHERE } CacheMode;
/* On a network file system, where LMDB's lock and map cannot be relied on, WRITE is ERR_USAGE
 * (WRITE_ANYWHERE is not: the caller has asked for it), and READ goes without the lock.
 * WRITE makes the directory, takes its lock (a second writer: ERR_LIMIT), creates the databases.  A
 * torn, damaged or foreign file: ERR_FORMAT, and nothing is touched; a link in place of data.mdb, whose
 * file others may write to under locks elsewhere: ERR_USAGE. READ of an absent one: ERR_NOTFOUND. READ
 * needs no lock of a finished cache: where LMDB's lock file cannot be used, the cache is read without
 * it, unless a writer is at work (ERR_LIMIT). */
WEFT_MUST_CHECK int cache_open(Cache **out, const char *dir, CacheMode mode, Err *err);
/* Why the cache is read without a lock, for a note to the user; NULL where the lock is used. */
const char *cache_unlocked(const Cache *c);
void cache_close(Cache **c);

/* Writing, from one thread at a time.  Each put or delete commits (synced) before it returns; the map
 * grows by itself.  ERR_LIMIT/ERR_IO on a full disk: what was committed stays readable and the next
 * run goes on from there.  Clips and meta are validated against their schemas, written and read. */
enum { CACHE_BATCH_SECONDS = 5 };
/* With bytes > 0 puts and deletes are kept in memory and committed together: when they hold that many
 * bytes, each at least the 4 KiB of the page that LMDB copies for it, at the next put or delete that comes
 * CACHE_BATCH_SECONDS or more after the first, and by cache_commit (with INT64_MAX: only then, all or nothing).
 * Readers see them then; cache_close drops what was not committed.  A failed commit drops its batch. */
void cache_batch(Cache *c, int64_t bytes);
WEFT_MUST_CHECK int cache_commit(Cache *c, Err *err);
/* n records (or entries) of `bytes` each with key and header, of `all` that the cache will hold. */
typedef struct CacheLoad {
    int64_t n, all, bytes;
} CacheLoad;
/* Memory that a batch of up to `limit` bytes takes at its commit, when the loads are put in this order: the changes'
 * copies, and the pages that LMDB makes for them. */
int64_t cache_batch_memory(const CacheLoad *load, int loads, int64_t limit);
/* The most memory that this process had at a commit so far (machine_memory_used). */
int64_t cache_most_memory(const Cache *c);
WEFT_MUST_CHECK int cache_put_record(Cache *c, CacheDb db, const Digest *key, RecordKind kind, const Tensor *t,
                                     Err *err);
WEFT_MUST_CHECK int cache_put_clip(Cache *c, const char *id, const json_t *facts, Err *err);
WEFT_MUST_CHECK int cache_put_meta(Cache *c, const char *key, const json_t *value, Err *err);
WEFT_MUST_CHECK int cache_delete_record(Cache *c, CacheDb db, const Digest *key, Err *err);
WEFT_MUST_CHECK int cache_delete_clip(Cache *c, const char *id, Err *err);
WEFT_MUST_CHECK int cache_delete_meta(Cache *c, const char *key, Err *err);

/* Reading: a transaction per thread, which sees the state that was committed when it began. */
typedef struct CacheTxn CacheTxn;
WEFT_MUST_CHECK int cache_begin(CacheTxn **out, Cache *c, Err *err);
void cache_end(CacheTxn **t);
/* Looks at every page of this state (cache_pages.h): ERR_FORMAT when one is damaged. */
WEFT_MUST_CHECK int cache_check_pages(CacheTxn *t, Err *err);
/* 1 found, 0 absent, negative on error.  The view is valid until cache_end. */
WEFT_MUST_CHECK int cache_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, RecordView *out, Err *err);
/* The same by its header alone, with data NULL: nothing is kept for the transaction.  Many are found fastest in the
 * order of their keys. */
WEFT_MUST_CHECK int cache_look_record(CacheTxn *t, CacheDb db, const Digest *key, RecordView *out, Err *err);
WEFT_MUST_CHECK int cache_get_clip(CacheTxn *t, const char *id, json_t **out, Err *err); /* new reference */
/* The same, not judged by the schema: for who compares the whole entry with one that is. */
WEFT_MUST_CHECK int cache_get_clip_unjudged(CacheTxn *t, const char *id, json_t **out, Err *err);
/* Its text, as it stands there, valid until cache_end: the checksum is right, and nothing else was looked at. */
WEFT_MUST_CHECK int cache_get_clip_text(CacheTxn *t, const char *id, JsonSpan *out, Err *err);
WEFT_MUST_CHECK int cache_get_meta(CacheTxn *t, const char *key, json_t **out, Err *err);
/* Iterate in key order: 1 with an item (valid until the next call), 0 at the end, negative on error
 * (of the transaction, or ERR_FORMAT for a damaged item: `key` or `id` are set and the next call
 * goes on behind it; behind a damaged page it gives 0).  *cursor starts NULL and is freed at the end
 * (or with cache_cursor_free when leaving early). */
typedef struct CacheCursor CacheCursor;
WEFT_MUST_CHECK int cache_next_record(CacheTxn *t, CacheDb db, CacheCursor **cursor, Digest *key, RecordView *out,
                                      int verify, Err *err);
WEFT_MUST_CHECK int cache_next_clip(CacheTxn *t, CacheCursor **cursor, const char **id, json_t **facts, Err *err);
/* What a list shows of an entry; category NULL: none; caption: the first of `captions`. */
typedef struct ClipSummary {
    const char *split, *category, *caption;
    int64_t captions, frames, height, width, latent_frames, latent_height, latent_width, latent_channels;
} ClipSummary;
/* The same with the summary, valid until the next call, in a ninth of the time. */
WEFT_MUST_CHECK int cache_next_clip_summary(CacheTxn *t, CacheCursor **cursor, const char **id, ClipSummary *out,
                                            Err *err);
/* What names a clip's records, and what a list of samples is made by; category NULL: none. */
typedef struct ClipKeys {
    const char *split, *category;
    Digest latents;
    const Digest *text; /* one for each caption */
    int64_t n_text;
} ClipKeys;
/* The same with these, valid until the next call, in as little time as the summary. */
WEFT_MUST_CHECK int cache_next_clip_keys(CacheTxn *t, CacheCursor **cursor, const char **id, ClipKeys *out, Err *err);
/* The entry as one line of JSON, valid until the next call, in another half: one that stands there as Weft writes it
 * is not judged by the schema beyond what its summary holds. */
WEFT_MUST_CHECK int cache_next_clip_text(CacheTxn *t, CacheCursor **cursor, const char **id, JsonSpan *text, Err *err);
WEFT_MUST_CHECK int cache_next_meta(CacheTxn *t, CacheCursor **cursor, const char **key, json_t **value, Err *err);
/* Deletes the entry of clips or meta that the last call came to, also a damaged one, whose name may be no text; in a
 * batch of INT64_MAX, as the transaction goes on. */
WEFT_MUST_CHECK int cache_delete_found(Cache *c, const CacheCursor *cursor, Err *err);
void cache_cursor_free(CacheCursor **cursor);
typedef struct CacheStat {
    int64_t clips, latents, text, tokens, meta, file_bytes, map_bytes;
} CacheStat;
WEFT_MUST_CHECK int cache_stat(CacheTxn *t, CacheStat *out, Err *err);
const char *cache_db_name(CacheDb db);

/* Content keys: SHA-256 over the canonical JSON of the parts. */
WEFT_MUST_CHECK int cache_key(Digest *out, const json_t *parts, Err *err);
#endif
