#include "common/base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- reading --------------------------------------------------------------------------------- */

static int too_big(const char *path, int64_t max_bytes, Err *err)
{
    return err_set(err, ERR_LIMIT, "'%s' has more than the %" PRId64 " bytes expected at most", path, max_bytes);
}

int file_check_lfs(const char *path, const void *bytes, int64_t size, Err *err)
{
    static const char first[] = "version https://git-lfs.github.com/spec/";
    if (size < (int64_t)sizeof first - 1 || memcmp(bytes, first, sizeof first - 1) != 0)
        return 0;
    return err_set(err, ERR_FORMAT,
                   "'%s' is a Git LFS pointer, not the file itself: install git-lfs and run 'git lfs pull' in that "
                   "repository, or download the file",
                   path);
}

/* Pipes that the user's own command line names: standard input, "<(...)".  /dev/shm holds any files. */
static int is_named_by_user(const char *path)
{
    return (strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0) || strncmp(path, "/proc/", 6) == 0;
}

static int open_to_read(const char *path, int *out, Err *err)
{
    struct stat st;
    /* O_NONBLOCK: opening a pipe that has no writer would wait for ever */
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *out = -1;
    if (fd < 0)
        return err_errno(err, errno, "opening '%s'", path);
    if (fstat(fd, &st) < 0)
        rc = err_errno(err, errno, "reading '%s'", path);
    else if (S_ISDIR(st.st_mode))
        rc = err_errno(err, EISDIR, "reading '%s'", path);
    else if (!S_ISREG(st.st_mode) && !is_named_by_user(path))
        rc = err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    else if (!S_ISREG(st.st_mode) && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
        rc = err_errno(err, errno, "reading '%s'", path);
    if (rc < 0)
        close(fd);
    else
        *out = fd;
    return rc;
}

int file_open(FILE **out, const char *path, Err *err)
{
    int fd, rc = open_to_read(path, &fd, err);
    *out = rc == 0 ? fdopen(fd, "rb") : NULL;
    if (rc == 0 && !*out) {
        rc = err_errno(err, errno, "opening '%s'", path);
        close(fd);
    }
    return rc;
}

int file_read(const char *path, int64_t max_bytes, char **out, int64_t *size, Err *err)
{
    int rc = 0;
    char *data = NULL;
    int64_t len = 0, cap;
    struct stat st;
    *out = NULL;
    *size = 0;
    int fd;
    if ((rc = open_to_read(path, &fd, err)) < 0)
        return rc;
    if (fstat(fd, &st) < 0) {
        rc = err_errno(err, errno, "reading '%s'", path);
        goto fail;
    }
    if (S_ISREG(st.st_mode) && st.st_size > max_bytes) {
        rc = too_big(path, max_bytes, err);
        goto fail;
    }
    /* A pipe, or a file that grows, is read to its end: the size known beforehand is a hint. */
    cap = S_ISREG(st.st_mode) ? st.st_size + 1 : 4096;
    for (;;) {
        char *more = mem_realloc(data, cap + 1, 1, err);
        if (!more) {
            rc = ERR_NOMEM;
            goto fail;
        }
        data = more;
        ssize_t n = 1;
        while (len < cap && (n = read(fd, data + len, (size_t)(cap - len))) != 0) {
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                rc = err_errno(err, errno, "reading '%s'", path);
                goto fail;
            }
            len += n;
        }
        if (len > max_bytes) {
            rc = too_big(path, max_bytes, err);
            goto fail;
        }
        if (n == 0)
            break;
        cap *= 2;
    }
    if ((rc = file_check_lfs(path, data, len, err)) < 0)
        goto fail;
    close(fd);
    data[len] = 0;
    *out = data;
    *size = len;
    return 0;
fail:
    close(fd);
    mem_free(data);
    return rc;
}

int file_look(const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return 1;
    int why = errno;
    if (why != ENOENT && why != ENOTDIR)
        return err_errno(err, why, "looking for '%s'", path);
    if (lstat(path, &st) == 0)
        return err_set(err, ERR_IO, "'%s' is a link to something that does not exist", path);
    return 0;
}

int file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

int file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t file_size(const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "'%s'", path);
    return st.st_size;
}

/* ---- paths ----------------------------------------------------------------------------------- */

char *path_join(const char *a, const char *b, Err *err)
{
    if (!a || !*a)
        return mem_strdup(b, err);
    return mem_printf(err, "%s%s%s", a, str_ends_with(a, "/") ? "" : "/", b);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_dir(const char *path, Err *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".", err);
    while (slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? mem_strdup("/", err) : mem_strndup(path, slash - path, err);
}

int path_check_relative(const char *path, Err *err)
{
    if (!*path)
        return err_set(err, ERR_USAGE, "empty path");
    if (*path == '/')
        return err_set(err, ERR_USAGE, "path '%s' is absolute; expected one inside the folder", path);
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return err_set(err, ERR_USAGE, "path '%s' has a '..' component", path);
        p += n;
        p += *p == '/';
    }
    return 0;
}

/* ---- atomic writing -------------------------------------------------------------------------- */

struct AtomicFile {
    char *path, *temporary;
    FILE *stream;
};

#define SUFFIX ".tmp-"
#define SUFFIX_RANDOM 6

static void random_suffix(char *out)
{
    unsigned char bytes[SUFFIX_RANDOM];
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) {
        /* O_EXCL settles the rest */
        for (int i = 0; i < SUFFIX_RANDOM; i++)
            bytes[i] = (unsigned char)(getpid() >> (4 * i));
    }
    for (int i = 0; i < SUFFIX_RANDOM; i++)
        out[i] = "0123456789abcdefghijklmnopqrstuv"[bytes[i] & 31];
}

int atomic_open(AtomicFile **out, const char *path, Err *err)
{
    int rc = ERR_NOMEM, fd = -1;
    *out = NULL;
    AtomicFile *f = mem_calloc(1, sizeof *f, err);
    if (!f)
        return ERR_NOMEM;
    f->path = mem_strdup(path, err);
    f->temporary = f->path ? mem_printf(err, "%s" SUFFIX "XXXXXX", path) : NULL;
    if (!f->temporary)
        goto fail;
    for (int tries = 0; fd < 0 && tries < 100; tries++) {
        random_suffix(f->temporary + strlen(f->temporary) - SUFFIX_RANDOM);
        fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd >= 0)
        f->stream = fdopen(fd, "w+b");
    if (!f->stream) {
        rc = err_errno(err, errno, "creating '%s'", path);
        if (fd >= 0) {
            close(fd);
            unlink(f->temporary);
        }
        goto fail;
    }
    *out = f;
    return 0;
fail:
    mem_free(f->temporary);
    mem_free(f->path);
    mem_free(f);
    return rc;
}

FILE *atomic_stream(AtomicFile *f)
{
    return f->stream;
}

const char *atomic_path(const AtomicFile *f)
{
    return f->temporary;
}

static void atomic_free(AtomicFile **f)
{
    mem_free((*f)->temporary);
    mem_free((*f)->path);
    mem_free(*f);
    *f = NULL;
}

int atomic_commit(AtomicFile **f, Err *err)
{
    AtomicFile *a = *f;
    char *dir = NULL;
    int rc = 0;
    int failed = ferror(a->stream) ? EIO : 0;
    if (fflush(a->stream) != 0 || fsync(fileno(a->stream)) != 0)
        failed = errno;
    if (fclose(a->stream) != 0 && !failed)
        failed = errno;
    a->stream = NULL;
    if (failed)
        rc = err_errno(err, failed, "writing '%s'", a->path);
    if (rc == 0 && !(dir = path_dir(a->path, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && rename(a->temporary, a->path) != 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", a->temporary, a->path);
    if (rc < 0)
        unlink(a->temporary);
    else
        rc = dir_sync(dir, err);
    mem_free(dir);
    atomic_free(f);
    return rc;
}

void atomic_abort(AtomicFile **f)
{
    if (!*f)
        return;
    fclose((*f)->stream);
    unlink((*f)->temporary);
    atomic_free(f);
}

int file_write_atomic(const char *path, const void *bytes, int64_t size, Err *err)
{
    AtomicFile *f;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    if (size > 0 && fwrite(bytes, 1, (size_t)size, f->stream) != (size_t)size) {
        rc = err_errno(err, errno, "writing '%s'", path);
        atomic_abort(&f);
        return rc;
    }
    return atomic_commit(&f, err);
}

/* ---- directories ----------------------------------------------------------------------------- */

int dir_make(const char *path, Err *err)
{
    char *copy = mem_strdup(path, err);
    int rc = copy ? 0 : ERR_NOMEM;
    for (char *p = copy; rc == 0 && *p;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        char cut = *p;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && file_is_dir(copy)))
            rc = err_errno(err, errno, "making directory '%s'", copy);
        *p = cut;
    }
    mem_free(copy);
    return rc;
}

int dir_remove(const char *path, Err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "removing '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 || errno == ENOENT ? 0 : err_errno(err, errno, "removing '%s'", path);
    char **names;
    int64_t n;
    int rc = dir_list(path, &names, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        char *inner = path_join(path, names[i], err);
        rc = inner ? dir_remove(inner, err) : ERR_NOMEM;
        mem_free(inner);
    }
    dir_list_free(&names, n);
    if (rc == 0 && rmdir(path) != 0 && errno != ENOENT)
        rc = err_errno(err, errno, "removing '%s'", path);
    return rc;
}

int dir_sync(const char *path, Err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "syncing '%s'", path);
    /* Some file systems do not know how to sync a directory, and need not. */
    int rc = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : err_errno(err, errno, "syncing '%s'", path);
    close(fd);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int dir_list(const char *path, char ***names, int64_t *n, Err *err)
{
    int rc = 0;
    int64_t cap = 0;
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d)
        return err_errno(err, errno, "opening directory '%s'", path);
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e) {
            if (errno)
                rc = err_errno(err, errno, "reading directory '%s'", path);
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (*n == cap) {
            char **more = mem_realloc(*names, cap ? cap * 2 : 16, sizeof *more, err);
            if (!more) {
                rc = ERR_NOMEM;
                break;
            }
            *names = more;
            cap = cap ? cap * 2 : 16;
        }
        if (!((*names)[*n] = mem_strdup(e->d_name, err))) {
            rc = ERR_NOMEM;
            break;
        }
        ++*n;
    }
    closedir(d);
    if (rc < 0) {
        dir_list_free(names, *n);
        *n = 0;
    } else if (*n) {
        qsort(*names, (size_t)*n, sizeof **names, compare_names);
    }
    return rc;
}

void dir_list_free(char ***names, int64_t n)
{
    for (int64_t i = 0; i < n && *names; i++)
        mem_free((*names)[i]);
    mem_free(*names);
    *names = NULL;
}

int dir_sweep_temporaries(const char *path, Err *err)
{
    const int64_t tail = (int64_t)strlen(SUFFIX) + SUFFIX_RANDOM;
    char **names;
    int64_t n;
    int rc = dir_list(path, &names, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        int64_t len = (int64_t)strlen(names[i]);
        if (len <= tail || strncmp(names[i] + len - tail, SUFFIX, strlen(SUFFIX)) != 0)
            continue;
        char *inner = path_join(path, names[i], err);
        rc = inner ? dir_remove(inner, err) : ERR_NOMEM;
        mem_free(inner);
    }
    dir_list_free(&names, n);
    return rc;
}

static int lock_dir(DirLock *lock, const char *dir, int how, Err *err)
{
    lock->fd = 0;
    char *path = path_join(dir, ".lock", err);
    if (!path)
        return ERR_NOMEM;
    int rc = 0, fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == 0) { /* standard input was closed; 0 in a DirLock means none */
        fd = fcntl(0, F_DUPFD_CLOEXEC, 1);
        close(0);
    }
    if (fd < 0) {
        rc = err_errno(err, errno, "opening '%s'", path);
    } else if (flock(fd, LOCK_EX | how) != 0) {
        rc = errno == EWOULDBLOCK ? err_set(err, ERR_LIMIT, "'%s' is being written by another process", dir)
                                  : err_errno(err, errno, "locking '%s', which takes a file system with locks", path);
        close(fd);
    } else {
        lock->fd = fd;
    }
    mem_free(path);
    return rc;
}

int dir_lock(DirLock *lock, const char *dir, Err *err)
{
    return lock_dir(lock, dir, LOCK_NB, err);
}

int dir_lock_wait(DirLock *lock, const char *dir, Err *err)
{
    return lock_dir(lock, dir, 0, err);
}

void dir_unlock(DirLock *lock)
{
    if (lock->fd > 0)
        close(lock->fd);
    lock->fd = 0;
}
