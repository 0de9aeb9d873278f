#include "cache/seen.h"
#include <string.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SEEN_MAX ((int64_t)1 << 30)

/* What path is now; data NULL when that cannot be said, or when it changed so late that what this run
 * reads of it may be older. */
static Str identity(const Seen *s, const char *what, const char *path)
{
    Str out = {0};
    FileStamp stamp;
    int rc;

    file_stamp_begin(&stamp);
    stamp.now = s->start;
    rc = file_stamp_add(&stamp, path, NULL);
    if (rc == 0)
        rc = file_stamp_end(&stamp, NULL);
    file_stamp_fini(&stamp);
    if (rc == 0 && stamp.settled && stamp.size > 0)
        rc = str_printf(&out, NULL, "%s\n%s\n%s", what, path, stamp.hex);
    if (rc < 0 || (out.data && !str_is_utf8(out.data, out.len)))
        str_fini(&out);
    return out;
}

int seen_open(Seen *s, const char *cache, Err *err)
{
    char *path = path_join(cache, ".seen", err), *text = NULL;
    int64_t size;
    FileStamp stamp;
    file_stamp_begin(&stamp);
    *s = (Seen){.now = json_object(), .start = stamp.now};
    if (path && file_read(path, SEEN_MAX, &text, &size, NULL) == 0 &&
        json_parse(&s->before, text, size, path, NULL) < 0)
        s->before = NULL;
    if (!json_is_object(s->before)) {
        json_decref(s->before);
        s->before = json_object();
    }
    mem_free(text);
    mem_free(path);
    return path && s->now && s->before ? 0 : err_set(err, ERR_NOMEM, "no memory for the digests of files");
}

const char *seen_get(Seen *s, const char *what, const char *path)
{
    Str id = identity(s, what, path);
    json_t *known = id.data ? json_object_get(s->before, id.data) : NULL;
    const char *hex = json_string_value(known);
    if (hex && strlen(hex) == 64)
        json_object_set(s->now, id.data, known);
    str_fini(&id);
    return hex && strlen(hex) == 64 ? hex : NULL;
}

void seen_put(Seen *s, const char *what, const char *path, const char *sha256)
{
    Str id = identity(s, what, path);
    if (id.data)
        json_object_set_new(s->now, id.data, json_string(sha256));
    str_fini(&id);
}

void seen_save(const Seen *s, const char *cache)
{
    char *path = path_join(cache, ".seen", NULL);
    if (path && !json_equal(s->before, s->now))
        err_ignore(json_write_file(s->now, path, NULL));
    mem_free(path);
}

void seen_close(Seen *s)
{
    json_decref(s->before);
    json_decref(s->now);
    *s = (Seen){0};
}
