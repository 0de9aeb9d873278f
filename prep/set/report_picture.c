#include "prep/set/report_picture.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/mem.h"

/* ---- pictures -------------------------------------------------------------------------------- */
static void base64(FILE *out, const uint8_t *p, int64_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int64_t i = 0; i < n; i += 3) {
        int64_t left = n - i;
        unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0u);
        putc(digits[v >> 18], out);
        putc(digits[v >> 12 & 63], out);
        putc(left > 1 ? digits[v >> 6 & 63] : '=', out);
        putc(left > 2 ? digits[v & 63] : '=', out);
    }
}

/* A thumbnail that weft-prep wrote: a link, or a file of another kind, is not put into the page. */
static int is_thumbnail(const char *path, const char *bytes, int64_t size)
{
    static const char magic[] = "\x89PNG\r\n\x1a\n";
    struct stat st;
    return size >= 8 && memcmp(bytes, magic, 8) == 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int report_picture(const char *dir, const char *name, FILE *out, Err *err)
{
    Err ignored = {0};
    char *path = name ? path_join(dir, name, err) : NULL, *bytes = NULL;
    int64_t size;
    if (name && !path)
        return ERR_NOMEM;
    int rc = path ? file_read(path, 1 << 24, &bytes, &size, &ignored) : ERR_NOTFOUND;
    if (rc == 0 && is_thumbnail(path, bytes, size)) {
        fputs("<img alt=\"first, middle and last frame\" src=\"data:image/png;base64,", out);
        base64(out, (const uint8_t *)bytes, size);
        fputs("\">", out);
    } else {
        fputs("<div class=\"none\">no picture</div>", out);
    }
    mem_free(bytes);
    mem_free(path);
    return rc == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : 0;
}
