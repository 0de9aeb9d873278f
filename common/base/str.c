#include "common/base/str.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "common/base/mem.h"

/* Room for n more bytes and the NUL. */
static int str_reserve(Str *s, int64_t n, Err *err)
{
    int64_t need;
    if (mem_add(s->len, n, &need) < 0 || mem_add(need, 1, &need) < 0) {
        return err_set(err, ERR_NOMEM, "string of %" PRId64 " + %" PRId64 " bytes", s->len, n);
    }
    if (need <= s->cap)
        return 0;
    int64_t cap = s->cap < INT64_MAX / 2 && s->cap * 2 > need ? s->cap * 2 : need < 64 ? 64 : need;
    char *data = mem_realloc(s->data, cap, 1, err);
    if (!data)
        return ERR_NOMEM;
    s->data = data;
    s->cap = cap;
    s->data[s->len] = 0;
    return 0;
}

int str_append_n(Str *s, const void *bytes, int64_t n, Err *err)
{
    int rc = str_reserve(s, n, err);
    if (rc < 0)
        return rc;
    if (n)
        memcpy(s->data + s->len, bytes, (size_t)n);
    s->len += n;
    s->data[s->len] = 0;
    return 0;
}

int str_append(Str *s, const char *text, Err *err)
{
    return str_append_n(s, text, (int64_t)strlen(text), err);
}

int str_printf(Str *s, Err *err, const char *fmt, ...)
{
    char shortly[128]; /* what fits is formatted once */
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(shortly, sizeof shortly, fmt, ap), rc;
    if (n < 0)
        rc = err_set(err, ERR_NOMEM, "formatting '%s'", fmt);
    else if (n < (int)sizeof shortly)
        rc = str_append_n(s, shortly, n, err);
    else if ((rc = str_reserve(s, n, err)) == 0) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += n;
    }
    va_end(again);
    va_end(ap);
    return rc;
}

void str_fini(Str *s)
{
    mem_free(s->data);
    *s = (Str){0};
}

/* Bytes of the well-formed sequence at p, 0 when there is none. Table 3-7 of the Unicode standard. */
static int utf8_sequence(const unsigned char *p, int64_t n)
{
    if (p[0] < 0x80)
        return 1;
    int len = p[0] >= 0xC2 && p[0] <= 0xDF ? 2 : (p[0] & 0xF0) == 0xE0 ? 3 : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4 : 0;
    if (!len || len > n)
        return 0;
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return 0;
    for (int i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return len;
}

int str_is_utf8(const char *s, int64_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    for (int64_t i = 0; i < n;) {
        int len = utf8_sequence(p + i, n - i);
        if (!len)
            return 0;
        i += len;
    }
    return 1;
}

int64_t str_mark_size(const char *s, int64_t n)
{
    return n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

#define DISTANCE_MAX_LEN 127 /* names longer than this are compared by their first characters */

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

int str_distance(const char *a, const char *b)
{
    int rows[3][DISTANCE_MAX_LEN + 1]; /* of the table of distances between beginnings: this row and the two above it */
    int na = (int)strnlen(a, DISTANCE_MAX_LEN), nb = (int)strnlen(b, DISTANCE_MAX_LEN);
    for (int j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int same = lower(a[i - 1]) == lower(b[j - 1]);
            int swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
            int best = above[j - 1] + !same;
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (swapped && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[na % 3][nb];
}

const char *str_nearest(const char *name, const char *const *names)
{
    int len = (int)strnlen(name, DISTANCE_MAX_LEN);
    int best = (len <= 3 ? 1 : len / 3 > 2 ? len / 3 : 2) + 1;
    const char *found = NULL, *longer = NULL;
    for (; *names; names++) {
        int d = str_distance(name, *names);
        if (d < best) {
            best = d;
            found = *names;
        }
        if (len >= 3 && strcasestr(*names, name) && (!longer || strlen(*names) < strlen(longer)))
            longer = *names;
    }
    return found ? found : longer;
}

/* The code point of a well-formed sequence. */
static uint32_t utf8_code(const unsigned char *p, int len)
{
    uint32_t code = len == 1 ? p[0] : p[0] & (0xFFu >> (len + 1));
    for (int i = 1; i < len; i++)
        code = code << 6 | (p[i] & 0x3F);
    return code;
}

static int is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E || code == 0x200F ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

int str_escape_next(const char *text, char out[8])
{
    const unsigned char *p = (const unsigned char *)text;
    int len = utf8_sequence(p, (int64_t)strnlen(text, 4));
    uint32_t code = len ? utf8_code(p, len) : p[0];
    if (len && !is_unsafe(code)) {
        memcpy(out, p, (size_t)len);
        out[len] = 0;
    } else {
        snprintf(out, 8, code < 0x80 || !len ? "\\x%02X" : "\\u%04X", (unsigned)code & 0xFFFF);
    }
    return len ? len : 1;
}

void str_escape(char *out, int64_t size, const char *text, int keep_newlines)
{
    int64_t used = 0;
    while (*text) {
        char piece[8];
        int n = str_escape_next(text, piece);
        if (*text == '\n' && keep_newlines)
            memcpy(piece, "\n", 2);
        int64_t length = (int64_t)strlen(piece);
        if (used + length + 1 > size)
            break;
        memcpy(out + used, piece, (size_t)length);
        used += length;
        text += n;
    }
    out[used] = 0;
}

int str_ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

const char *str_plural(int64_t count)
{
    return count == 1 ? "" : "s";
}
