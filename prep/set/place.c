#include "prep/set/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"

static int copy_file(const char *from, const char *to, Err *err)
{
    char block[65536];
    AtomicFile *file = NULL;
    FILE *in = NULL;
    int rc = file_open(&in, from, err);
    if (rc == 0)
        rc = atomic_open(&file, to, err);
    for (size_t n; rc == 0 && (n = fread(block, 1, sizeof block, in)) > 0;)
        if (fwrite(block, 1, n, atomic_stream(file)) != n)
            rc = err_errno(err, errno, "writing '%s'", to);
    if (rc == 0 && ferror(in))
        rc = err_errno(err, errno ? errno : EIO, "reading '%s'", from);
    if (rc == 0)
        rc = atomic_commit(&file, err);
    atomic_abort(&file);
    if (in)
        fclose(in);
    return rc;
}

int place_link_or_copy(const char *from, const char *to, Err *err)
{
    if (unlink(to) < 0 && errno != ENOENT)
        return err_errno(err, errno, "removing '%s'", to);
    if (link(from, to) == 0)
        return 1;
    int e = errno;
    if (e != EXDEV && e != EPERM && e != EMLINK && e != EOPNOTSUPP && e != ENOSYS)
        return err_errno(err, e, "linking '%s' to '%s'", from, to);
    int rc = copy_file(from, to, err);
    return rc < 0 ? rc : 2;
}

int place_same_bytes(const char *a, const char *b, Err *err)
{
    char x[32768], y[32768];
    FILE *f = NULL, *g = NULL;
    size_t n = 1, m = 1;
    int rc = file_open(&f, a, err), same = 1;
    if (rc == 0)
        rc = file_open(&g, b, err);
    while (rc == 0 && same && n > 0) {
        n = fread(x, 1, sizeof x, f);
        m = fread(y, 1, sizeof y, g);
        same = n == m && memcmp(x, y, n) == 0;
    }
    if (rc == 0 && (ferror(f) || ferror(g)))
        rc = err_errno(err, EIO, "reading '%s' and '%s'", a, b);
    if (f)
        fclose(f);
    if (g)
        fclose(g);
    return rc < 0 ? rc : same;
}
