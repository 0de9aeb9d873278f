#include "common/base/html.h"
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void html_text(FILE *out, const char *s)
{
    char shown[8];
    for (int n; s && *s; s += n) {
        n = str_escape_next(s, shown);
        switch (*s) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputs(shown, out);
        }
    }
}

void html_bdi(FILE *out, const char *s)
{
    fputs("<bdi>", out);
    html_text(out, s);
    fputs("</bdi>", out);
}

void html_base64(FILE *out, const void *bytes, int64_t n)
{
    const uint8_t *p = bytes;
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

static int is_png(const char *path, const char *bytes, int64_t size)
{
    static const char magic[] = "\x89PNG\r\n\x1a\n";
    struct stat st;
    return size >= 8 && memcmp(bytes, magic, 8) == 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int html_png(FILE *out, const char *path, const char *alt, Err *err)
{
    Err ignored = {0};
    char *bytes = NULL;
    int64_t size = 0;
    int rc = file_read(path, 1 << 24, &bytes, &size, &ignored), there = rc == 0 && is_png(path, bytes, size);
    if (there) {
        fputs("<img alt=\"", out);
        html_text(out, alt);
        fputs("\" src=\"data:image/png;base64,", out);
        html_base64(out, bytes, size);
        fputs("\">", out);
    }
    mem_free(bytes);
    return rc == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : there;
}

int html_recipe(FILE *out, const json_t *recipe, const char *const *sections, Err *err)
{
    const char *key;
    json_t *v;
    if (!recipe)
        return 0;
    fputs("<details><summary>Recipe</summary><div class=\"row\">\n", out);
    for (; *sections; sections++) {
        fprintf(out, "<table><tr><th colspan=\"2\">%s</th></tr>", *sections);
        json_object_foreach (json_object_get(recipe, *sections), key, v) {
            char *value = json_text(v, 0, err);
            if (!value)
                return ERR_NOMEM;
            fputs("<tr><td>", out);
            html_text(out, key);
            fputs("</td><td class=\"n\">", out);
            html_bdi(out, value);
            fputs("</td></tr>", out);
            mem_free(value);
        }
        fputs("</table>\n", out);
    }
    fputs("</div></details>\n", out);
    return 0;
}
