#include <string.h>
#include "common/base/json.h"
#include "common/base/str.h"

/* Where we are in the text. */
typedef struct Scan {
    const char *at, *end;
} Scan;

static void blanks(Scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static int take(Scan *s, char c)
{
    blanks(s);
    int found = s->at < s->end && *s->at == c;
    s->at += found;
    return found;
}

/* After its opening quote; to behind the closing one. */
static int string(Scan *s)
{
    for (; s->at < s->end && *s->at != '"'; s->at++)
        if (*s->at == '\\' && ++s->at == s->end)
            return 0;
    if (s->at == s->end)
        return 0;
    s->at++;
    return 1;
}

/* To behind a value, whose brackets are counted and whose kinds are not told apart. */
static int value(Scan *s)
{
    int64_t depth = 0;
    blanks(s);
    const char *begin = s->at;
    while (s->at < s->end) {
        char c = *s->at;
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        s->at++;
        if (c == '"' && !string(s))
            return 0;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
    }
    return depth == 0 && s->at > begin;
}

static int is_wanted(const char *const *names, const char *key, size_t n)
{
    for (; *names; names++)
        if (strlen(*names) == n && memcmp(*names, key, n) == 0)
            return 1;
    return 0;
}

/* 1 with the members in `out`, each followed by a comma; 0 when the text is not a plain object;
 * negative: an error. */
static int collect(Str *out, const char *text, int64_t size, const char *const *names, Err *err)
{
    Scan s = {text, text + size};
    if (!take(&s, '{'))
        return 0;
    for (int more = 1; more;) {
        if (!take(&s, '"'))
            return 0;
        const char *key = s.at;
        if (!string(&s) || memchr(key, '\\', (size_t)(s.at - key)))
            return 0;
        size_t n = (size_t)(s.at - key) - 1;
        if (!take(&s, ':') || !value(&s))
            return 0;
        if (is_wanted(names, key, n)) {
            int rc = str_append_n(out, key - 1, s.at - key + 1, err);
            if (rc == 0)
                rc = str_append_n(out, ",", 1, err);
            if (rc < 0)
                return rc;
        }
        more = take(&s, ',');
    }
    if (!take(&s, '}'))
        return 0;
    blanks(&s);
    return s.at == s.end;
}

int json_parse_members(json_t **out, const char *text, int64_t size, const char *const *names, const char *name,
                       Err *err)
{
    Str part = {0};
    int rc = str_append_n(&part, "{", 1, err), plain;
    *out = NULL;
    if (rc == 0 && (plain = collect(&part, text, size, names, err)) != 1)
        rc = plain < 0 ? plain : json_parse(out, text, size, name, err);
    else if (rc == 0) {
        part.data[part.len - (part.len > 1)] = '}'; /* over the last comma */
        rc = part.len > 1 ? json_parse(out, part.data, part.len, name, err) : json_parse(out, "{}", 2, name, err);
    }
    str_fini(&part);
    return rc;
}
