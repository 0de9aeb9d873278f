/* The cache's environment and its writer.  One LMDB commit per put, synced: a killed writer loses
 * at most the put it was in. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"
#include "common/store/cache_pages.h"

enum { FIRST_MAP = 16 << 20, MAX_READERS = 1024, MAX_KEY = 511 };
#define MAX_VALUE 0xffffffffll /* LMDB's */

static const char *const db_names[N_DBS] = {"latents", "text", "tokens", "clips", "meta"};

const char *cache_db_name(CacheDb db)
{
    return db_names[db];
}

const char *cache_any_db_name(int db)
{
    return db_names[db];
}

int err_mdb(Err *err, int code, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    switch (code) {
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
        return err_set(err, ERR_FORMAT, "%s: not a cache this program can read (%s)", what, mdb_strerror(code));
    case MDB_MAP_FULL:
    case MDB_READERS_FULL:
    case MDB_DBS_FULL:
    case MDB_TXN_FULL:
    case MDB_MAP_RESIZED: return err_set(err, ERR_LIMIT, "%s: %s", what, mdb_strerror(code));
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return err_set(err, ERR_LIMIT, "%s: %s; what was stored before is intact", what, mdb_strerror(code));
    case MDB_BAD_VALSIZE:
    case EINVAL: return err_set(err, ERR_USAGE, "%s: %s", what, mdb_strerror(code));
    case EIO: /* also LMDB's word for a write that was cut short, which is how a disk fills up */
        return err_set(err, ERR_IO, "%s: the disk is full or failing; what was stored before is intact", what);
    default:
        return code > 0 ? err_errno(err, code, "%s", what) : err_set(err, ERR_IO, "%s: %s", what, mdb_strerror(code));
    }
}

int cache_key(Digest *out, const json_t *parts, Err *err)
{
    char *text = json_canonical(parts, err);
    if (!text)
        return ERR_NOMEM;
    int rc = sha256_bytes(text, (int64_t)strlen(text), out, err);
    mem_free(text);
    return rc;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* LMDB follows whatever a page says, and dies of it when the page is damaged or the file was cut
 * short.  So the file is mapped here as well and every page looked at: the head before LMDB opens
 * it (check_head), the rest under a read transaction, so that no writer reuses a page meanwhile
 * (check_pages). */
static int map_file(const Cache *c, int fd, uint8_t **out, int64_t *size, Err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "'%s': the size of data.mdb", c->dir);
    *size = (int64_t)st.st_size;
    void *p = *size > 0 ? mmap(NULL, (size_t)*size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (p == MAP_FAILED)
        return err_errno(err, *size > 0 ? errno : EINVAL, "'%s': mapping data.mdb", c->dir);
    *out = p;
    return 0;
}

static int check_head(const Cache *c, const char *file, Err *err)
{
    uint8_t *bytes = NULL;
    int64_t size = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never waits for a FIFO */
    if (fd < 0)
        return err_errno(err, errno, "'%s'", file);
    int rc = map_file(c, fd, &bytes, &size, err);
    if (rc == 0)
        rc = cache_pages_check_head(bytes, size, c->dir, err);
    if (bytes)
        munmap(bytes, (size_t)size);
    close(fd);
    return rc;
}

static int check_pages(const Cache *c, Err *err)
{
    int found = 0;
    /* a busy writer can replace the state that a transaction began with */
    for (int tries = 0; found == 0 && tries < 1000; tries++) {
        MDB_txn *txn;
        uint8_t *bytes = NULL;
        int64_t size = 0;
        int fd, rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn);
        if (rc)
            return err_mdb(err, rc, "opening '%s'", c->dir);
        found = mdb_env_get_fd(c->env, &fd) ? err_set(err, ERR_IO, "'%s': no file", c->dir)
                                            : map_file(c, fd, &bytes, &size, err);
        if (found == 0)
            found = cache_pages_check(bytes, size, mdb_txn_id(txn), c->dir, err);
        if (bytes)
            munmap(bytes, (size_t)size);
        mdb_txn_abort(txn);
    }
    return found == 0 ? err_set(err, ERR_IO, "'%s': its writer is too busy", c->dir) : found < 0 ? found : 0;
}

/* ---- with LMDB's lock, or without ------------------------------------------------------------ */

/* LMDB's readers register in DIR/lock.mdb, which must be writable, mapped and locked.  A finished
 * cache needs none of that, so where it fails a reader goes on without: on a read-only file system,
 * in another user's folder, on a file system without locks, and where two containers have processes
 * of one number (LMDB marks a live reader by locking the byte of its process id: the second gets
 * EAGAIN or EACCES). */
static int is_lock_trouble(int code)
{
    static const int codes[] = {EACCES, EPERM,      EROFS,   EAGAIN, ENOLCK, ENOSYS,
                                EINVAL, EOPNOTSUPP, ENOTSUP, ENODEV, EBUSY,  MDB_READERS_FULL};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code == codes[i])
            return 1;
    return 0;
}

/* 1 when a weft-cache process holds DIR/.lock.  A lock that cannot be tried counts as free: the
 * file system has no locks, or no weft-cache has written here. */
static int has_writer(const Cache *c, Err *err)
{
    char *path = path_join(c->dir, ".lock", err);
    if (!path)
        return ERR_NOMEM;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), held = 0;
    mem_free(path);
    if (fd < 0)
        return 0;
    held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

/* A new environment, open, and for a reader proved by one transaction; LMDB's code. */
static int start_env(Cache *c, int64_t size, unsigned flags)
{
    MDB_txn *txn;
    int rc = mdb_env_create(&c->env);
    if (rc)
        return rc;
    mdb_env_set_maxdbs(c->env, N_DBS);
    mdb_env_set_maxreaders(c->env, MAX_READERS);
    if (size == 0)
        mdb_env_set_mapsize(c->env, FIRST_MAP); /* else as large as it was */
    rc = mdb_env_open(c->env, c->dir, MDB_NOTLS | flags, 0666);
    if (rc == 0 && flags & MDB_RDONLY && (rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn)) == 0)
        mdb_txn_abort(txn);
    if (rc) {
        mdb_env_close(c->env);
        c->env = NULL;
    }
    return rc;
}

static int start_unlocked(Cache *c, int64_t size, int trouble, Err *err)
{
    int writer = has_writer(c, err);
    if (writer < 0)
        return writer;
    if (writer)
        return err_set(
            err, ERR_LIMIT,
            "'%s' is being written, and LMDB's reader lock does not work there (%s): wait until it is finished", c->dir,
            mdb_strerror(trouble));
    int rc = start_env(c, size, MDB_RDONLY | MDB_NOLOCK);
    if (rc)
        return err_mdb(err, rc, "opening '%s' without its lock (with it: %s)", c->dir, mdb_strerror(trouble));
    snprintf(c->unlocked, sizeof c->unlocked, "%s", mdb_strerror(trouble));
    return 0;
}

const char *cache_unlocked(const Cache *c)
{
    return c->unlocked[0] ? c->unlocked : NULL;
}

static int open_env(Cache *c, Err *err)
{
    char *file = path_join(c->dir, "data.mdb", err), *lock = path_join(c->dir, "lock.mdb", err);
    int rc = file && lock ? 0 : ERR_NOMEM;
    struct stat st = {0};
    int there = rc == 0 && stat(file, &st) == 0;
    if (rc == 0 && !there && errno != ENOENT && errno != ENOTDIR)
        rc = err_errno(err, errno, "'%s'", file);
    if (there && !S_ISREG(st.st_mode))
        rc = err_set(err, ERR_FORMAT, "'%s' is not a regular file", file);
    int64_t size = (int64_t)st.st_size;
    if (rc == 0 && size > 0)
        rc = check_head(c, file, err);
    /* LMDB itself goes on without a lock where the file system is read-only; said as the others are */
    if (rc == 0 && c->mode == CACHE_READ && there && access(lock, W_OK) != 0 && errno == EROFS)
        snprintf(c->unlocked, sizeof c->unlocked, "%s", strerror(EROFS));
    mem_free(file);
    mem_free(lock);
    if (rc < 0)
        return rc;
    if (c->mode == CACHE_READ && !there)
        return err_set(err, ERR_NOTFOUND, "'%s' holds no cache (no data.mdb)", c->dir);
    if (c->mode == CACHE_READ && size == 0)
        return err_set(err, ERR_FORMAT, STOPPED_EARLY, c->dir);
    int code = start_env(c, size, c->mode == CACHE_READ ? MDB_RDONLY : 0);
    if (c->mode == CACHE_READ && is_lock_trouble(code))
        rc = start_unlocked(c, size, code, err);
    else if (code)
        rc = err_mdb(err, code, "opening '%s'", c->dir);
    if (rc < 0 || (rc = check_pages(c, err)) < 0)
        return rc;
    int dead;
    mdb_reader_check(c->env, &dead);
    return 0;
}

static int open_databases(Cache *c, Err *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(c->env, NULL, c->mode == CACHE_READ ? MDB_RDONLY : 0, &txn);
    if (rc)
        return err_mdb(err, rc, "opening '%s'", c->dir);
    for (int i = 0; i < N_DBS; i++) {
        rc = mdb_dbi_open(txn, db_names[i], c->mode == CACHE_WRITE ? MDB_CREATE : 0, &c->dbi[i]);
        if (rc) {
            MDB_stat whole = {0};
            mdb_env_stat(c->env, &whole);
            mdb_txn_abort(txn);
            if (rc == MDB_NOTFOUND && whole.ms_entries == 0)
                return err_set(err, ERR_FORMAT, STOPPED_EARLY, c->dir);
            if (rc == MDB_NOTFOUND)
                return err_set(err, ERR_FORMAT, "'%s' is not a Weft cache (no database '%s')", c->dir, db_names[i]);
            return err_mdb(err, rc, "opening '%s'", c->dir);
        }
    }
    rc = mdb_txn_commit(txn);
    return rc ? err_mdb(err, rc, "opening '%s'", c->dir) : 0;
}

int cache_open(Cache **out, const char *dir, CacheMode mode, Err *err)
{
    *out = NULL;
    Cache *c = mem_calloc(1, sizeof *c, err);
    if (!c)
        return ERR_NOMEM;
    pthread_mutex_init(&c->mutex, NULL);
    c->mode = mode;
    int rc = (c->dir = mem_strdup(dir, err)) ? 0 : ERR_NOMEM;
    if (rc == 0 && mode == CACHE_WRITE)
        rc = dir_make(dir, err);
    if (rc == 0 && mode == CACHE_WRITE)
        rc = dir_lock(&c->lock, dir, err);
    if (rc == 0)
        rc = schema_open(&c->clip_schema, "cache-clip", err);
    if (rc == 0)
        rc = schema_open(&c->meta_schema, "cache-meta", err);
    if (rc == 0)
        rc = open_env(c, err);
    if (rc == 0)
        rc = open_databases(c, err);
    if (rc == 0)
        rc = cache_check_format(c, err);
    if (rc < 0)
        cache_close(&c);
    *out = c;
    return rc;
}

void cache_close(Cache **p)
{
    Cache *c = *p;
    if (!c)
        return;
    if (c->env)
        mdb_env_close(c->env);
    schema_close(&c->clip_schema);
    schema_close(&c->meta_schema);
    dir_unlock(&c->lock);
    pthread_mutex_destroy(&c->mutex);
    mem_free(c->dir);
    mem_free(c);
    *p = NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* One change: a value given in up to two parts (header, payload), or a deletion. */
typedef struct Change {
    MDB_dbi dbi;
    MDB_val key;
    const void *part[2];
    size_t size[2];
    int remove;
} Change;

static int try_change(Cache *c, const Change *ch)
{
    MDB_txn *txn;
    MDB_val value = {ch->size[0] + ch->size[1], NULL}, key = ch->key;
    int rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    if (rc)
        return rc;
    if (ch->remove) {
        rc = mdb_del(txn, ch->dbi, &key, NULL);
    } else {
        rc = mdb_put(txn, ch->dbi, &key, &value, MDB_RESERVE);
        for (size_t i = 0, at = 0; rc == 0 && i < 2; at += ch->size[i++])
            if (ch->size[i])
                memcpy((char *)value.mv_data + at, ch->part[i], ch->size[i]);
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* Doubles the map until `more` bytes fit twice over. */
int cache_grow(Cache *c, int64_t more, Err *err)
{
    MDB_envinfo info;
    int rc = mdb_env_info(c->env, &info);
    if (rc)
        return err_mdb(err, rc, "'%s'", c->dir);
    int64_t size = (int64_t)info.me_mapsize, add = size > 2 * more ? size : 2 * more, total;
    if (mem_add(size, add, &total) < 0)
        return err_set(err, ERR_LIMIT, "'%s': its map cannot grow any more", c->dir);
    pthread_mutex_lock(&c->mutex);
    if (c->n_txn > 0)
        rc = err_set(err, ERR_USAGE, "'%s' must grow while a read transaction is open", c->dir);
    else if ((rc = mdb_env_set_mapsize(c->env, (size_t)total)))
        rc = err_mdb(err, rc, "'%s': growing to %lld bytes", c->dir, (long long)total);
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

static int apply(Cache *c, const Change *ch, const char *what, Err *err)
{
    int rc;
    while ((rc = try_change(c, ch)) == MDB_MAP_FULL)
        if ((rc = cache_grow(c, (int64_t)(ch->size[0] + ch->size[1]) + (1 << 20), err)) < 0)
            return err_wrap(err, rc, "storing %s", what);
    if (rc == MDB_NOTFOUND && ch->remove)
        return err_set(err, ERR_NOTFOUND, "%s is not in '%s'", what, c->dir);
    return rc ? err_mdb(err, rc, "storing %s in '%s'", what, c->dir) : 0;
}

static void name_record(char out[96], CacheDb db, const Digest *key)
{
    char hex[65];
    digest_hex(key, hex);
    snprintf(out, 96, "%s %.16s...", cache_db_name(db), hex);
}

static MDB_val digest_val(const Digest *key)
{
    return (MDB_val){sizeof key->byte, (void *)key->byte};
}

static MDB_val text_val(const char *s)
{
    return (MDB_val){strlen(s), (void *)s};
}

int cache_put_record(Cache *c, CacheDb db, const Digest *key, RecordKind kind, const Tensor *t, Err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    char what[96];
    name_record(what, db, key);
    int rc = record_check_tensor(kind, t, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", what);
    if (tensor_bytes(t) > MAX_VALUE - RECORD_HEADER_SIZE)
        return err_set(err, ERR_LIMIT, "%s: %lld bytes, a record holds at most 4 GiB", what,
                       (long long)tensor_bytes(t));
    record_header_encode(header, kind, t);
    Change ch = {c->dbi[db], digest_val(key), {header, t->data}, {sizeof header, (size_t)tensor_bytes(t)}, 0};
    return apply(c, &ch, what, err);
}

int cache_check_id(const char *id, Err *err)
{
    size_t n = strlen(id);
    if (n >= 1 && n <= MAX_KEY)
        return 0;
    return err_set(err, ERR_USAGE, "a key of %zu bytes, 1 to %d allowed", n, MAX_KEY);
}

int cache_check_clip(const Cache *c, const char *id, const json_t *facts, Err *err)
{
    char what[600];
    snprintf(what, sizeof what, "cache clip '%s'", id);
    return schema_validate(c->clip_schema, facts, what, err);
}

int cache_check_meta(const Cache *c, const char *key, const json_t *value, Err *err)
{
    json_t *o = json_object();
    int rc;
    if (!o || json_object_set(o, key, (json_t *)value) < 0)
        rc = err_set(err, ERR_NOMEM, "cache meta '%s'", key);
    else
        rc = schema_validate(c->meta_schema, o, "cache meta", err);
    json_decref(o);
    return rc;
}

static int put_json(Cache *c, int db, const char *key, const json_t *value, Err *err)
{
    char what[600];
    snprintf(what, sizeof what, "%s '%s'", db_names[db], key);
    char *text = json_canonical(value, err), *entry = NULL;
    int rc = text ? cache_entry_write(&entry, db, key, text, err) : ERR_NOMEM;
    if (rc == 0) {
        Change ch = {c->dbi[db], text_val(key), {entry, NULL}, {strlen(entry), 0}, 0};
        rc = apply(c, &ch, what, err);
    }
    mem_free(entry);
    mem_free(text);
    return rc;
}

int cache_put_clip(Cache *c, const char *id, const json_t *facts, Err *err)
{
    int rc = cache_check_id(id, err);
    if (rc == 0)
        rc = cache_check_clip(c, id, facts, err);
    return rc < 0 ? rc : put_json(c, DB_CLIPS, id, facts, err);
}

int cache_put_meta(Cache *c, const char *key, const json_t *value, Err *err)
{
    int rc = cache_check_id(key, err);
    if (rc == 0)
        rc = cache_check_meta(c, key, value, err);
    return rc < 0 ? rc : put_json(c, DB_META, key, value, err);
}

int cache_delete_record(Cache *c, CacheDb db, const Digest *key, Err *err)
{
    char what[96];
    name_record(what, db, key);
    Change ch = {.dbi = c->dbi[db], .key = digest_val(key), .remove = 1};
    return apply(c, &ch, what, err);
}

int cache_delete_clip(Cache *c, const char *id, Err *err)
{
    char what[600];
    snprintf(what, sizeof what, "clip '%s'", id);
    int rc = cache_check_id(id, err);
    Change ch = {.dbi = c->dbi[DB_CLIPS], .key = text_val(id), .remove = 1};
    return rc < 0 ? rc : apply(c, &ch, what, err);
}
