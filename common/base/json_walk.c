#include "common/base/json_walk.h"
#include <string.h>
#include "common/base/str.h"

static void blanks(JsonWalk *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\t' || *w->at == '\n' || *w->at == '\r'))
        w->at++;
}

static int take(JsonWalk *w, char c)
{
    blanks(w);
    int found = w->at < w->end && *w->at == c;
    w->at += found;
    return found;
}

/* After its opening quote; to behind the closing one. */
static int string(JsonWalk *w)
{
    const char *quote = memchr(w->at, '"', (size_t)(w->end - w->at));
    if (quote && !memchr(w->at, '\\', (size_t)(quote - w->at))) { /* the usual case */
        w->at = quote + 1;
        return 1;
    }
    for (; w->at < w->end && *w->at != '"'; w->at++)
        if (*w->at == '\\' && ++w->at == w->end)
            return 0;
    if (w->at == w->end)
        return 0;
    w->at++;
    return 1;
}

/* To behind a value, whose brackets are counted and whose kinds are not told apart. */
static int value(JsonWalk *w)
{
    int64_t depth = 0;
    blanks(w);
    const char *begin = w->at;
    while (w->at < w->end) {
        char c = *w->at;
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        w->at++;
        if (c == '"' && !string(w))
            return 0;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
    }
    return depth == 0 && w->at > begin;
}

int json_walk_begin(JsonWalk *w, JsonSpan text)
{
    *w = (JsonWalk){.at = text.at, .end = text.at + text.size};
    w->close = take(w, '{') ? '}' : take(w, '[') ? ']' : 0;
    return w->close != 0;
}

int json_walk_next(JsonWalk *w, JsonSpan *key, JsonSpan *out)
{
    *key = (JsonSpan){w->at, 0};
    int first = !w->begun;
    w->begun = 1;
    if (take(w, w->close)) {
        blanks(w);
        return w->at == w->end ? 0 : -1;
    }
    if (!first && !take(w, ','))
        return -1;
    if (w->close == '}') {
        if (!take(w, '"'))
            return -1;
        key->at = w->at;
        if (!string(w))
            return -1;
        key->size = w->at - key->at - 1;
        if (memchr(key->at, '\\', (size_t)key->size) || !take(w, ':'))
            return -1;
    }
    blanks(w);
    out->at = w->at;
    if (!value(w))
        return -1;
    out->size = w->at - out->at;
    return 1;
}

int json_span_is(JsonSpan s, const char *text)
{
    return (size_t)s.size == strlen(text) && memcmp(s.at, text, (size_t)s.size) == 0;
}

int json_span_text(JsonSpan v, JsonSpan *out)
{
    if (v.size < 2 || v.at[0] != '"' || v.at[v.size - 1] != '"')
        return 0;
    *out = (JsonSpan){v.at + 1, v.size - 2};
    int ascii = 1;
    for (int64_t i = 0; i < out->size; i++) {
        unsigned char c = (unsigned char)out->at[i];
        if (c < 0x20 || c == '"' || c == '\\')
            return 0;
        ascii &= c < 0x80;
    }
    return ascii || str_is_utf8(out->at, out->size);
}

int json_span_count(JsonSpan v, int64_t *out)
{
    if (v.size < 1 || v.size > 15 || v.at[0] == '0')
        return 0;
    *out = 0;
    for (int64_t i = 0; i < v.size; i++) {
        if (v.at[i] < '0' || v.at[i] > '9')
            return 0;
        *out = 10 * *out + v.at[i] - '0';
    }
    return 1;
}

static int scalar(JsonSpan v)
{
    static const char *const words[] = {"null", "true", "false", "0"};
    JsonSpan text;
    int64_t number;
    int is = json_span_text(v, &text) || json_span_count(v, &number);
    for (int i = 0; i < 4; i++)
        is |= json_span_is(v, words[i]);
    return is;
}

static int plain(JsonSpan v, int depth)
{
    JsonWalk w;
    JsonSpan key, inner, text;
    if (v.size == 0 || (v.at[0] != '{' && v.at[0] != '['))
        return scalar(v);
    int more = depth > 0 && json_walk_begin(&w, v) ? 1 : -1;
    while (more == 1 && (more = json_walk_next(&w, &key, &inner)) == 1)
        if ((w.close == '}' && !json_span_text((JsonSpan){key.at - 1, key.size + 2}, &text)) ||
            !plain(inner, depth - 1))
            return 0;
    return more == 0 && v.at[v.size - 1] == w.close;
}

int json_span_plain(JsonSpan v)
{
    return v.size > 0 && !memchr(v.at, '\n', (size_t)v.size) && !memchr(v.at, '\r', (size_t)v.size) && plain(v, 16);
}
