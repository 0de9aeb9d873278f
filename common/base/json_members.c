#include <string.h>
#include "common/base/json.h"
#include "common/base/json_walk.h"
#include "common/base/str.h"

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

/* 1 with the object's wanted members in `out`; 0 when the text is not a plain object; negative: an error.
 * path: of the object, n bytes, ending in a dot unless it is empty. */
static int collect(Str *out, JsonSpan text, const char *const *names, char path[PATH_BYTES], size_t n, Err *err)
{
    JsonWalk w;
    JsonSpan key, value;
    int some = 0, more;
    int rc = str_append_n(out, "{", 1, err);
    if (rc < 0 || !json_walk_begin(&w, text) || w.close != '}')
        return rc;
    while ((more = json_walk_next(&w, &key, &value)) == 1) {
        size_t length = (size_t)key.size;
        if (n + length + 2 > PATH_BYTES)
            return 0;
        memcpy(path + n, key.at, length);
        Wanted how = wanted(names, path, n + length);
        if (how == NOTHING)
            continue;
        if (some++)
            rc = str_append_n(out, ",", 1, err);
        if (rc == 0 && (rc = str_append_n(out, key.at - 1, key.size + 2, err)) == 0)
            rc = str_append_n(out, ":", 1, err);
        if (rc == 0 && (how == ALL || *value.at != '{')) {
            rc = str_append_n(out, value.at, value.size, err);
        } else if (rc == 0) {
            path[n + length] = '.';
            int plain = collect(out, value, names, path, n + length + 1, err);
            if (plain != 1)
                return plain;
        }
        if (rc < 0)
            return rc;
    }
    if (more < 0)
        return 0;
    rc = str_append_n(out, "}", 1, err);
    return rc < 0 ? rc : 1;
}

int json_parse_members(json_t **out, const char *text, int64_t size, const char *const *names, const char *name,
                       Err *err)
{
    Str part = {0};
    char path[PATH_BYTES];
    *out = NULL;
    int plain = collect(&part, (JsonSpan){text, size}, names, path, 0, err), rc = plain < 0 ? plain : 0;
    if (plain == 1)
        rc = json_parse(out, part.data, part.len, name, err);
    else if (plain == 0)
        rc = json_parse(out, text, size, name, err);
    str_fini(&part);
    return rc;
}
