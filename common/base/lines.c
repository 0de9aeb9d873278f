#include "common/base/lines.h"

#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"

int lines_next(const char *text, int64_t text_size, int64_t *at, const char **line, int64_t *size)
{
    if (*at >= text_size)
        return 0;
    const char *start = text + *at, *lf = memchr(start, '\n', (size_t)(text_size - *at));
    int64_t n = lf ? lf - start : text_size - *at;
    *at += n + 1;
    if (n && start[n - 1] == '\r')
        n--;
    *line = start;
    *size = n;
    return 1;
}

enum { FIRST_ROOM = 1 << 16 };

static int grow(char **buf, int64_t *room, int64_t max_bytes, Err *err)
{
    int64_t wanted = 2 * *room < max_bytes ? 2 * *room : max_bytes;
    char *grown = mem_realloc(*buf, wanted, 1, err);
    if (!grown)
        return ERR_NOMEM;
    *buf = grown;
    *room = wanted;
    return 0;
}

int lines_read_file(FILE *f, const char *path, int64_t max_bytes, int64_t *at, LineFn *line, void *user, Err *err)
{
    int rc = 0;
    int64_t room = max_bytes < FIRST_ROOM ? max_bytes : FIRST_ROOM, next = 0;
    char *buf = mem_calloc(room, 1, err);
    if (!buf)
        return ERR_NOMEM;
    const char *name = path_base(path);
    for (int64_t number = 1; rc == 0; number++) {
        int64_t n = 0;
        int c;
        while ((c = getc_unlocked(f)) != EOF && c != '\n' && n < max_bytes - 1) {
            if (n + 1 == room && (rc = grow(&buf, &room, max_bytes, err)) < 0)
                break;
            buf[n++] = (char)c;
        }
        if (rc < 0 || ferror(f) || (c == EOF && n == 0))
            break;
        if (c != EOF && c != '\n') {
            rc = err_set(err, ERR_LIMIT, "%s line %" PRId64 " has more than %" PRId64 " bytes", name, number,
                         max_bytes - 1);
            break;
        }
        *at = next;
        next += n + 1;
        if (n && buf[n - 1] == '\r')
            n--;
        buf[n] = 0;
        int64_t mark = number == 1 ? str_mark_size(buf, n) : 0;
        char where[320];
        snprintf(where, sizeof where, "%.256s line %" PRId64, name, number);
        *at += mark;
        rc = line(user, buf + mark, n - mark, where, err);
    }
    if (rc == 0 && ferror(f))
        rc = err_set(err, ERR_IO, "reading '%s' failed", path);
    mem_free(buf);
    return rc;
}

int lines_read(const char *path, int64_t max_bytes, LineFn *line, void *user, Err *err)
{
    FILE *f = NULL;
    int64_t at;
    int rc = file_open(&f, path, err);
    if (rc < 0)
        return rc;
    rc = lines_read_file(f, path, max_bytes, &at, line, user, err);
    fclose(f);
    return rc;
}
