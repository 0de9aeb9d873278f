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
    char unlocked[128]; /* why LMDB's lock is not used; "" where it is */
};

/* The one translator of LMDB's codes. */
int err_mdb(Err *err, int code, const char *fmt, ...) WEFT_PRINTF(3, 4);
int cache_check_id(const char *id, Err *err);
int cache_check_meta(const Cache *c, const char *key, const json_t *value, Err *err);
int cache_check_clip(const Cache *c, const char *id, const json_t *facts, Err *err);
#endif
