/* Shared by cache.c (environment, writing) and cache_read.c. */
#ifndef WEFT_COMMON_STORE_CACHE_INTERNAL_H
#define WEFT_COMMON_STORE_CACHE_INTERNAL_H
#include <lmdb.h>
#include <pthread.h>
#include "common/base/file.h"
#include "common/base/schema.h"
#include "common/store/cache.h"

enum { CACHE_N_RECORD_DBS = 3, DB_CLIPS = 3, DB_META = 4, N_DBS = 5 }; /* the first three are CacheDb's values */

struct Cache {
    char *dir;
    MDB_env *env;
    MDB_dbi dbi[N_DBS];
    DirLock lock;
    Schema *clip_schema, *meta_schema;
    pthread_mutex_t mutex; /* n_txn, and changes of the map */
    int64_t n_txn;         /* open read transactions */
    CacheMode mode;
    int format;         /* 1 or 2 as stored; 0 before it is known */
    char unlocked[128]; /* why LMDB's lock is not used; "" where it is */
};

/* Of a cache that holds no more than what opening it for the first time writes. */
#define STOPPED_EARLY "'%s' is unfinished: a build was stopped before it stored anything; run weft-cache build again"

/* The one translator of LMDB's codes. */
int err_mdb(Err *err, int code, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* Grows the map by at least `more` bytes, for which no read transaction may be open here. */
WEFT_MUST_CHECK int cache_grow(Cache *c, int64_t more, Err *err);
const char *cache_any_db_name(int db);
/* Entries of clips and meta with their checksums: cache_entry.c.  *out: mem_free. */
WEFT_MUST_CHECK int cache_entry_write(char **out, int db, const char *key, const char *text, Err *err);
WEFT_MUST_CHECK int cache_entry_parse(const Cache *c, int db, const char *key, const MDB_val *v, json_t **out,
                                      Err *err);
/* Reads the format at opening; for writing, brings a new or an old cache to the newest one. */
WEFT_MUST_CHECK int cache_check_format(Cache *c, Err *err);
WEFT_MUST_CHECK int cache_check_id(const char *id, Err *err);
WEFT_MUST_CHECK int cache_check_meta(const Cache *c, const char *key, const json_t *value, Err *err);
WEFT_MUST_CHECK int cache_check_clip(const Cache *c, const char *id, const json_t *facts, Err *err);
#endif
