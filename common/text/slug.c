#include "common/text/slug.h"

#include <string.h>
#include <utf8proc.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static int belongs(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return 1;
    default: return 0;
    }
}

/* The words, up to SLUG_BYTES; *cut: there would be more. */
static int words(Str *s, const char *text, int *cut, Err *err)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    utf8proc_int32_t c;
    int64_t word = 0; /* where the current word begins */
    int rc = 0, between = 0;
    for (utf8proc_ssize_t used; rc == 0 && (used = utf8proc_iterate(at, -1, &c)) > 0 && c; at += used) {
        utf8proc_uint8_t bytes[4];
        if (!belongs(c)) {
            between = s->len > 0;
            continue;
        }
        utf8proc_ssize_t n = utf8proc_encode_char(utf8proc_tolower(c), bytes);
        if (between)
            word = s->len;
        if (s->len + between + n > SLUG_BYTES) {
            *cut = 1;
            s->len = word ? word : s->len;
            if (s->data)
                s->data[s->len] = 0;
            return 0;
        }
        rc = str_append(s, between ? "-" : "", err);
        if (rc == 0)
            rc = str_append_n(s, bytes, n, err);
        between = 0;
    }
    return rc;
}

char *slug_of(const char *text, Err *err)
{
    Str s = {0};
    char hex[65];
    int cut = 0, rc = words(&s, text, &cut, err);
    if (rc == 0 && (cut || !s.len)) {
        rc = sha256_hex(text, (int64_t)strlen(text), hex, err);
        if (rc == 0)
            rc = str_printf(&s, err, "%s%.8s", s.len ? "-" : "", hex);
    }
    if (rc == 0)
        return s.data; /* allocated as mem_free frees it */
    str_fini(&s);
    return NULL;
}
