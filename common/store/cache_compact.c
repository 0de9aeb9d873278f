#include "common/store/cache_compact.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "common/store/cache_internal.h"

static int copy(Cache *c, AtomicFile *f, Err *err)
{
    int rc = mdb_env_copyfd2(c->env, fileno(atomic_stream(f)), MDB_CP_COMPACT);
    return rc ? err_mdb(err, rc, "'%s': writing the compacted file", c->dir) : 0;
}

/* LMDB holds a read lock on the first byte of lock.mdb as long as a process has the file open.  *fd: the
 * lock file, locked for this process alone. */
static int lock_alone(const char *dir, const char *lock, int *fd, Err *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    *fd = open(lock, O_RDWR | O_CLOEXEC);
    if (*fd < 0)
        return err_errno(err, errno, "'%s'", lock);
    if (fcntl(*fd, F_SETLK, &whole) == 0)
        return 0;
    if (errno != EACCES && errno != EAGAIN)
        return err_errno(err, errno, "'%s'", lock);
    return err_set(err, ERR_LIMIT, "'%s' is open in another process: compact it when nothing reads it", dir);
}

int cache_compact(const char *dir, CacheMode mode, int64_t *before, int64_t *after, Err *err)
{
    Cache *c = NULL;
    AtomicFile *f = NULL;
    int fd = -1;
    char *file = path_join(dir, "data.mdb", err), *lock = path_join(dir, "lock.mdb", err);
    int rc = file && lock ? cache_open(&c, dir, mode, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dir_sweep_temporaries(dir, err);
    if (rc == 0 && (*before = file_size(file, err)) < 0)
        rc = (int)*before;
    if (rc == 0)
        rc = atomic_open(&f, file, err);
    if (rc == 0)
        rc = copy(c, f, err);
    if (rc == 0) { /* closing any descriptor of lock.mdb drops LMDB's locks: first LMDB, then ours */
        cache_drop_map(c->map);
        c->map = NULL;
        mdb_env_close(c->env);
        c->env = NULL;
        rc = lock_alone(dir, lock, &fd, err);
    }
    if (rc == 0 && unlink(lock) < 0)
        rc = err_errno(err, errno, "removing '%s'", lock);
    if (rc == 0)
        rc = atomic_commit(&f, err);
    atomic_abort(&f);
    if (fd >= 0)
        close(fd);
    if (rc == 0 && (*after = file_size(file, err)) < 0)
        rc = (int)*after;
    cache_close(&c);
    mem_free(file);
    mem_free(lock);
    return rc;
}
