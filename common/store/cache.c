/* The cache's environment: opening it, with LMDB's lock or without. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/disk.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"
#include "common/store/cache_pages.h"

enum {
    FIRST_MAP = 16 << 20,
    MAX_READERS = 1024,
    LOCK_BYTES = 64 * (MAX_READERS + 2) /* of lock.mdb, as LMDB sizes it */
};

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
    case ENOLCK:
    case ENOSYS:
    case ENODEV:
    case EOPNOTSUPP:
        return err_set(err, ERR_IO, "%s: %s: LMDB writes only where files can be locked and mapped, as on a local disk",
                       what, mdb_strerror(code));
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
 * short.  So the head is looked at before LMDB opens the file (check_head); a writer's LMDB has every
 * page looked at (cache_check_pages) before it follows one; and a reader's LMDB follows none: it only
 * registers the reader, and cache_read.c finds the entries in a map of its own. */
int cache_map_file(const Cache *c, int fd, int64_t room, FileMap *out, int64_t *size, Err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "'%s': the size of data.mdb", c->dir);
    *size = (int64_t)st.st_size;
    *out = (FileMap){.size = room > *size ? room : *size};
    void *p = *size > 0 ? mmap(NULL, (size_t)out->size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (p == MAP_FAILED)
        return err_errno(err, *size > 0 ? errno : EINVAL, "'%s': mapping data.mdb", c->dir);
    out->bytes = p;
    return 0;
}

void cache_unmap_file(FileMap *m)
{
    if (m->bytes)
        munmap(m->bytes, (size_t)m->size);
    m->bytes = NULL;
}

static int check_head(const Cache *c, const char *file, Err *err)
{
    FileMap map = {0};
    int64_t size = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never waits for a FIFO */
    if (fd < 0)
        return err_errno(err, errno, "'%s'", file);
    int rc = cache_map_file(c, fd, 0, &map, &size, err);
    if (rc == 0)
        rc = cache_pages_check_head(map.bytes, size, c->dir, err);
    cache_unmap_file(&map);
    close(fd);
    return rc;
}

/* ---- with LMDB's lock, or without ------------------------------------------------------------ */

/* LMDB's readers register in DIR/lock.mdb, which must be writable, mapped and locked.  A finished
 * cache needs none of that, so where it fails a reader goes on without: on a read-only file system,
 * on a full disk, in another user's folder, on a file system without locks, and where two containers
 * have processes of one number (LMDB marks a live reader by locking the byte of its process id: the
 * second gets EAGAIN or EACCES). */
static int is_lock_trouble(int code)
{
    static const int codes[] = {EACCES,     EPERM,   EROFS,  EAGAIN, ENOLCK,           ENOSYS, EINVAL,
                                EOPNOTSUPP, ENOTSUP, ENODEV, EBUSY,  MDB_READERS_FULL, ENOSPC, EDQUOT};
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

/* LMDB maps lock.mdb without asking for room, and dies of SIGBUS at its first write there when the disk
 * is full.  So the room is asked for first: ENOSPC or EDQUOT where there is none; all else is left for
 * LMDB to find. */
static int reserve_lock(const Cache *c)
{
    char path[PATH_MAX];
    int fd = -1;
    if ((size_t)snprintf(path, sizeof path, "%s/lock.mdb", c->dir) < sizeof path)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    int code = fd < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOCK_BYTES) == 0 ? 0 : errno;
    if (fd >= 0)
        close(fd);
    return code == ENOSPC || code == EDQUOT ? code : 0;
}

/* A new environment, open, and for a reader proved by one transaction; LMDB's code. */
static int start_env(Cache *c, int64_t size, unsigned flags)
{
    MDB_txn *txn;
    int rc = flags & MDB_NOLOCK ? 0 : reserve_lock(c);
    if (rc == 0)
        rc = mdb_env_create(&c->env);
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

static int start_unlocked(Cache *c, int64_t size, const char *trouble, Err *err)
{
    int writer = has_writer(c, err);
    if (writer < 0)
        return writer;
    if (writer)
        return err_set(
            err, ERR_LIMIT,
            "'%s' is being written, and LMDB's reader lock does not work there (%s): wait until it is finished", c->dir,
            trouble);
    int rc = start_env(c, size, MDB_RDONLY | MDB_NOLOCK);
    if (rc)
        return err_mdb(err, rc, "opening '%s' without its lock (with it: %s)", c->dir, trouble);
    snprintf(c->unlocked, sizeof c->unlocked, "%s", trouble);
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
    struct stat link;
    if (rc == 0 && c->mode == CACHE_WRITE && lstat(file, &link) == 0 && S_ISLNK(link.st_mode))
        rc = err_set(err, ERR_USAGE,
                     "'%s' is a link: locks lie beside it and not beside the file, where others may write to it; "
                     "name the folder of the file, or make the folder the link",
                     file);
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
    const char *network = NULL;
    if (c->mode == CACHE_READ && (rc = disk_network(c->dir, &network, err)) < 0)
        return rc;
    int code = network ? ENOLCK : start_env(c, size, c->mode == CACHE_READ ? MDB_RDONLY : 0);
    if (c->mode == CACHE_READ && is_lock_trouble(code))
        rc = start_unlocked(c, size, network ? network : mdb_strerror(code), err);
    else if (code)
        rc = err_mdb(err, code, "opening '%s'", c->dir);
    int dead;
    if (rc == 0)
        mdb_reader_check(c->env, &dead); /* readers that died keep no old pages alive */
    return rc;
}

static int open_databases(Cache *c, Err *err)
{
    MDB_txn *txn;
    CacheTxn *t = NULL;
    int rc = cache_begin(&t, c, err);
    if (rc == 0 && c->mode == CACHE_WRITE)
        rc = cache_check_pages(t, err);
    if (rc == 0 && c->mode == CACHE_READ)
        rc = cache_check_names(t, err);
    cache_end(&t);
    if (rc < 0 || c->mode == CACHE_READ)
        return rc;
    if ((rc = mdb_txn_begin(c->env, NULL, 0, &txn)))
        return err_mdb(err, rc, "opening '%s'", c->dir);
    for (int i = 0; i < N_DBS; i++) {
        if ((rc = mdb_dbi_open(txn, db_names[i], MDB_CREATE, &c->dbi[i]))) {
            mdb_txn_abort(txn);
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
    c->mode = mode == CACHE_READ ? CACHE_READ : CACHE_WRITE;
    int rc = (c->dir = mem_strdup(dir, err)) ? 0 : ERR_NOMEM;
    const char *network = NULL;
    if (rc == 0 && mode == CACHE_WRITE)
        rc = disk_network(dir, &network, err);
    if (rc == 0 && network)
        rc = err_set(err, ERR_USAGE,
                     "'%s' is on a network file system (%s), where LMDB can lose data: write to a local disk, or give "
                     "--allow-network when nothing else uses the cache",
                     dir, network);
    if (rc == 0 && c->mode == CACHE_WRITE)
        rc = dir_make(dir, err);
    if (rc == 0 && c->mode == CACHE_WRITE)
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
    cache_drop_batch(c);
    cache_drop_map(c->map);
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
