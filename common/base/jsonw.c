#include "common/base/jsonw.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/str.h"

static void fail(JsonWriter *w, int code, const char *key)
{
    if (w->code)
        return;
    w->code = code;
    snprintf(w->key, sizeof w->key, "%s", key ? key : "an element");
}

static void begin(JsonWriter *w, json_t *root)
{
    *w = (JsonWriter){.level = {root}};
    if (!root)
        fail(w, ERR_NOMEM, NULL);
}

void jsonw_begin(JsonWriter *w)
{
    begin(w, json_object());
}

void jsonw_begin_array(JsonWriter *w)
{
    begin(w, json_array());
}

void jsonw_take(JsonWriter *w, const char *key, json_t *value)
{
    if (w->code) {
        json_decref(value);
        return;
    }
    json_t *into = w->level[w->depth];
    assert(!key == json_is_array(into) && "members have keys, elements have none");
    if (!value || (key ? json_object_set_new(into, key, value) : json_array_append_new(into, value)) < 0)
        fail(w, key && !str_is_utf8(key, (int64_t)strlen(key)) ? ERR_FORMAT : ERR_NOMEM, key);
}

void jsonw_share(JsonWriter *w, const char *key, const json_t *value)
{
    jsonw_take(w, key, json_incref((json_t *)value));
}

void jsonw_str(JsonWriter *w, const char *key, const char *text)
{
    if (text && !str_is_utf8(text, (int64_t)strlen(text)))
        fail(w, ERR_FORMAT, key);
    else
        jsonw_take(w, key, text ? json_string(text) : json_null());
}

void jsonw_int(JsonWriter *w, const char *key, int64_t x)
{
    jsonw_take(w, key, json_integer(x));
}

void jsonw_num(JsonWriter *w, const char *key, double x)
{
    if (!isfinite(x))
        fail(w, ERR_FORMAT, key);
    else
        jsonw_take(w, key, json_real(x));
}

void jsonw_bool(JsonWriter *w, const char *key, int x)
{
    jsonw_take(w, key, json_boolean(x));
}

void jsonw_null(JsonWriter *w, const char *key)
{
    jsonw_take(w, key, json_null());
}

void jsonw_ints(JsonWriter *w, const char *key, const int64_t *x, int64_t n)
{
    jsonw_open_array(w, key);
    for (int64_t i = 0; i < n; i++)
        jsonw_int(w, NULL, x[i]);
    jsonw_close(w);
}

void jsonw_hex(JsonWriter *w, const char *key, const Digest *digest)
{
    char hex[65];
    digest_hex(digest, hex);
    jsonw_str(w, key, hex);
}

/* After a failure depth is still counted, so that every open has its close. */
static void open_level(JsonWriter *w, const char *key, json_t *value)
{
    jsonw_take(w, key, value);
    assert(w->depth + 1 < JSONW_DEPTH);
    w->level[++w->depth] = w->code ? NULL : value; /* borrowed: its parent holds it */
}

void jsonw_open(JsonWriter *w, const char *key)
{
    open_level(w, key, json_object());
}

void jsonw_open_array(JsonWriter *w, const char *key)
{
    open_level(w, key, json_array());
}

void jsonw_close(JsonWriter *w)
{
    assert(w->depth > 0);
    w->depth--;
}

int jsonw_finish(JsonWriter *w, json_t **out, const char *what, Err *err)
{
    assert(w->depth == 0 || w->code);
    *out = w->code ? NULL : w->level[0];
    if (w->code)
        json_decref(w->level[0]);
    w->level[0] = NULL;
    if (w->code == ERR_NOMEM)
        return err_set(err, w->code, "out of memory: writing '%s' of %s", w->key, what);
    if (w->code)
        return err_set(err, w->code, "%s: '%s' is not UTF-8 or not a finite number", what, w->key);
    return 0;
}
