#include "common/base/file_stamp.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"

enum { RACY_S = 2, HEAD_MAX = 128 };
static const int64_t ns = 1000000000, file_bytes_max = (int64_t)1 << 32;

static int64_t in_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * ns + t.tv_nsec;
}

void file_stamp_begin(FileStamp *s)
{
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock); /* before anything is looked at */
    *s = (FileStamp){.settled = 1, .now = in_ns(clock)};
}

int file_stamp_add(FileStamp *s, const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "'%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    int64_t m = in_ns(st.st_mtim), c = in_ns(st.st_ctim), edge = RACY_S * ns;
    s->size += st.st_size;
    /* An mtime in the future was set by hand and proves nothing; only the system sets the ctime. */
    s->settled = s->settled && c < s->now - edge && (m < s->now - edge || m > s->now + edge);
    int rc = str_printf(&s->still_lines, err, "%" PRIuMAX " %" PRIuMAX " %" PRId64 " %" PRId64 "\n",
                        (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (int64_t)st.st_size, m);
    return rc < 0 ? rc
                  : str_printf(&s->lines, err, "%" PRIuMAX " %" PRIuMAX " %" PRId64 " %" PRId64 " %" PRId64 "\n",
                               (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (int64_t)st.st_size, m, c);
}

int file_stamp_end(FileStamp *s, Err *err)
{
    int rc = sha256_hex(s->lines.data ? s->lines.data : "", s->lines.len, s->hex, err);
    if (rc == 0)
        rc = sha256_hex(s->still_lines.data ? s->still_lines.data : "", s->still_lines.len, s->still, err);
    file_stamp_fini(s);
    return rc;
}

void file_stamp_fini(FileStamp *s)
{
    str_fini(&s->lines);
    str_fini(&s->still_lines);
}

/* ---- what is remembered ---------------------------------------------------------------------- */

/* The first line holds a checksum of the rest: an incomplete file is ignored. */
static int head(char out[HEAD_MAX], const char *kind, const char *body, int64_t size)
{
    return snprintf(out, HEAD_MAX, "%s 1 %016" PRIx64 "\n", kind, hash_xxh3(body, size));
}

int remembered_load(json_t **out, const char *path, const char *kind, Err *err)
{
    char *text = NULL, want[HEAD_MAX];
    int64_t size = 0;
    Err ignored = {0};
    *out = NULL;
    if (file_exists(path) && file_read(path, file_bytes_max, &text, &size, &ignored) == 0) {
        int n = head(want, kind, "", 0); /* always of this length */
        if (size > n && head(want, kind, text + n, size - n) == n && memcmp(text, want, (size_t)n) == 0)
            err_ignore(json_parse(out, text + n, size - n, path, &ignored));
    }
    mem_free(text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = json_object();
    }
    if (*out && ignored.code != ERR_NOMEM)
        return 0;
    json_decref(*out);
    *out = NULL;
    return err_set(err, ERR_NOMEM, "out of memory for '%s'", path);
}

int remembered_save(const json_t *object, const char *path, const char *kind, Err *err)
{
    char *text = json_text(object, 0, err), first[HEAD_MAX];
    AtomicFile *file = NULL;
    int rc = text ? atomic_open(&file, path, err) : ERR_NOMEM;
    if (rc == 0) {
        head(first, kind, text, (int64_t)strlen(text));
        rc = fputs(first, atomic_stream(file)) == EOF || fputs(text, atomic_stream(file)) == EOF
                 ? err_errno(err, errno, "writing '%s'", path)
                 : atomic_commit(&file, err);
    }
    atomic_abort(&file);
    mem_free(text);
    return rc;
}
