/* Shared by cache.c (environment), cache_write.c, cache_read.c, cache_json.c, cache_entry.c and cache_summary.c. */
#ifndef WEFT_COMMON_STORE_CACHE_INTERNAL_H
#define WEFT_COMMON_STORE_CACHE_INTERNAL_H
#include <lmdb.h>
#include <pthread.h>
#include "common/base/file.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/store/cache.h"
#include "common/store/cache_tree.h"

enum { CACHE_N_RECORD_DBS = 3, DB_CLIPS = 3, DB_META = 4, N_DBS = 5 }; /* the first three are CacheDb's values */

/* data.mdb, mapped for reading; freed with its last user. */
typedef struct FileMap {
    uint8_t *bytes;
    int64_t size; /* may reach beyond the file's end, for what it will grow by */
    int64_t users;
} FileMap;
typedef struct Change Change;

struct Cache {
    char *dir;
    MDB_env *env;
    MDB_dbi dbi[N_DBS];
    DirLock lock;
    Schema *clip_schema, *meta_schema;
    pthread_mutex_t mutex; /* changes of both maps */
    FileMap *map;          /* the newest, NULL before the first transaction */
    CacheMode mode;
    int format;        /* as stored; 0 before it is known */
    int oldest_record; /* the lowest record version that it may hold */
    Change *pending;   /* the batch */
    int64_t n_pending, room_pending, pending_bytes, batch_bytes;
    double pending_since;
    int64_t most_memory; /* of this process, when LMDB had its pages and the batch was still there */
    char unlocked[128];  /* why LMDB's lock is not used; "" where it is */
};

/* cache_read.c */
struct CacheTxn {
    Cache *cache;
    MDB_txn *txn;
    FileMap *map;
    int64_t file_size;
    PageFile pages;
    PageHead head;
    Tree names, tree[N_DBS]; /* an absent database is an empty tree */
    int absent;              /* a bit a database */
    struct Copy *copies;     /* aligned copies of small records */
    int64_t looks;           /* entries and records looked up so far */
};

struct CacheCursor {
    TreeCursor tree;
    void *copy;
    json_t *part;  /* of the schema, with the members that a summary needs */
    json_t *facts; /* of the last summary that was parsed */
    Str words;     /* of the last one that was not; of its keys in any case */
    int db;
    int64_t id_size; /* of the last entry's name; 0: none was read */
    char id[512];    /* that name; a damaged one may be no text */
};

/* Of a cache that holds no more than what opening it for the first time writes. */
#define STOPPED_EARLY "'%s' is unfinished: a build was stopped before it stored anything; run weft-cache build again"

/* The one translator of LMDB's codes. */
int err_mdb(Err *err, int code, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* Maps at least `room` bytes; *size: the file's. */
WEFT_MUST_CHECK int cache_map_file(const Cache *c, int fd, int64_t room, FileMap *out, int64_t *size, Err *err);
void cache_unmap_file(FileMap *m);
/* Gives back one use of m (NULL: nothing). */
void cache_drop_map(FileMap *m);
void cache_drop_batch(Cache *c);
/* Whether all databases are there. */
WEFT_MUST_CHECK int cache_check_names(CacheTxn *t, Err *err);
/* Grows LMDB's map by at least `more` bytes. */
WEFT_MUST_CHECK int cache_grow(Cache *c, int64_t more, Err *err);
const char *cache_any_db_name(int db);
/* 1 with the entry, 0 at the end (cursor freed), negative on error (the next call gives 0). */
WEFT_MUST_CHECK int cache_advance(CacheTxn *t, int db, CacheCursor **cursor, TreeEntry *e, Err *err);
/* Entries of clips and meta with their checksums: cache_entry.c.  *out: mem_free. */
WEFT_MUST_CHECK int cache_entry_write(char **out, int db, const char *key, const char *text, Err *err);
/* *text_size: becomes that of the text without its checksum, which was right. */
WEFT_MUST_CHECK int cache_entry_check(const Cache *c, int db, const char *key, const void *text, int64_t *text_size,
                                      Err *err);
WEFT_MUST_CHECK int cache_entry_parse(const Cache *c, int db, const char *key, const void *text, int64_t text_size,
                                      json_t **out, Err *err);
/* cache_summary.c.  Of an entry's text as Weft writes it: 1, the strings in `words`; 0: it must be parsed;
 * negative: no memory.  Of valid members (cache_summary_members): the strings are theirs. */
extern const char *const cache_summary_members[];
WEFT_MUST_CHECK int cache_summary_text(ClipSummary *out, Str *words, const char *text, int64_t size, Err *err);
void cache_summary_json(ClipSummary *out, const json_t *facts);
/* The same two for the keys of a clip's records (cache_keys_members), which stand in `words`. */
extern const char *const cache_keys_members[];
WEFT_MUST_CHECK int cache_keys_text(ClipKeys *out, Str *words, const char *text, int64_t size, Err *err);
WEFT_MUST_CHECK int cache_keys_json(ClipKeys *out, Str *words, const json_t *facts, Err *err);
/* Reads the format at opening; for writing, brings a new or an old cache to the newest one. */
WEFT_MUST_CHECK int cache_check_format(Cache *c, Err *err);
WEFT_MUST_CHECK int cache_check_id(const char *id, Err *err);
WEFT_MUST_CHECK int cache_check_meta(const Cache *c, const char *key, const json_t *value, Err *err);
WEFT_MUST_CHECK int cache_check_clip(const Cache *c, const char *id, const json_t *facts, Err *err);
#endif
