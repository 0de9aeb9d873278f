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
    const char *quote = memchr(s->at, '"', (size_t)(s->end - s->at));
    if (quote && !memchr(s->at, '\\', (size_t)(quote - s->at))) { /* the usual case */
        s->at = quote + 1;
        return 1;
    }
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

/* How a member at `path` ("clip.file", n bytes) is wanted: not, a part of it, all of it. */
typedef enum Wanted { NOTHING, PART, ALL } Wanted;

static Wanted wanted(const char *const *names, const char *path, size_t n)
{
    Wanted most = NOTHING;
    for (; *names && most != ALL; names++)
        if (strncmp(*names, path, n) == 0 && ((*names)[n] == 0 || (*names)[n] == '.'))
            most = (*names)[n] ? PART : ALL;
    return most;
}

enum { PATH_BYTES = 256 };

/* From an object's opening brace to behind its closing one: 1 with the wanted members in `out`; 0
 * when the text is not a plain object; negative: an error.  path: of the object, n bytes, ending in a
 * dot unless it is empty. */
static int collect(Str *out, Scan *s, const char *const *names, char path[PATH_BYTES], size_t n, Err *err)
{
    int rc = str_append_n(out, "{", 1, err), some = 0;
    if (!take(s, '{'))
        return 0;
    blanks(s);
    for (int more = s->at < s->end && *s->at != '}'; rc == 0 && more; more = take(s, ',')) {
        if (!take(s, '"'))
            return 0;
        const char *key = s->at;
        if (!string(s) || memchr(key, '\\', (size_t)(s->at - key)))
            return 0;
        size_t length = (size_t)(s->at - key) - 1;
        if (n + length + 2 > PATH_BYTES || !take(s, ':'))
            return 0;
        memcpy(path + n, key, length);
        Wanted how = wanted(names, path, n + length);
        blanks(s);
        const char *begin = s->at;
        if (how != NOTHING && some++)
            rc = str_append_n(out, ",", 1, err);
        if (rc == 0 && how != NOTHING && (rc = str_append_n(out, key - 1, (int64_t)length + 2, err)) == 0)
            rc = str_append_n(out, ":", 1, err);
        if (rc < 0)
            return rc;
        if (how == PART && begin < s->end && *begin == '{') {
            path[n + length] = '.';
            int plain = collect(out, s, names, path, n + length + 1, err);
            if (plain != 1)
                return plain;
        } else if (!value(s)) {
            return 0;
        } else if (how != NOTHING) {
            rc = str_append_n(out, begin, s->at - begin, err);
        }
    }
    if (rc == 0)
        rc = str_append_n(out, "}", 1, err);
    return rc < 0 ? rc : take(s, '}');
}

int json_parse_members(json_t **out, const char *text, int64_t size, const char *const *names, const char *name,
                       Err *err)
{
    Str part = {0};
    Scan s = {text, text + size};
    char path[PATH_BYTES];
    *out = NULL;
    int plain = collect(&part, &s, names, path, 0, err), rc = plain < 0 ? plain : 0;
    blanks(&s);
    if (plain == 1 && s.at == s.end)
        rc = json_parse(out, part.data, part.len, name, err);
    else if (plain >= 0)
        rc = json_parse(out, text, size, name, err);
    str_fini(&part);
    return rc;
}
