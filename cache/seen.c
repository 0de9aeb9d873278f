#include "cache/seen.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SEEN_MAX ((int64_t)1 << 30)

static int add_file(Str *out, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return str_printf(out, NULL, "\n%s %lld %lld.%09ld %llu", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                      st.st_mtim.tv_nsec, (unsigned long long)st.st_ino);
}

/* What path is now; data NULL when that cannot be said. */
static Str identity(const char *what, const char *path)
{
    Str out = {0};
    char **names = NULL;
    int64_t n = 0;
    int rc = str_append(&out, what, NULL);
    if (rc == 0 && !file_is_dir(path))
        rc = add_file(&out, path);
    else if (rc == 0 && (rc = dir_list(path, &names, &n, NULL)) == 0)
        for (int64_t i = 0; rc == 0 && i < n; i++) {
            char *file = path_join(path, names[i], NULL);
            rc = file ? add_file(&out, file) : ERR_NOMEM;
            mem_free(file);
        }
    dir_list_free(&names, n);
    if (rc < 0 || (out.data && !strchr(out.data, '\n')) || (out.data && !str_is_utf8(out.data, out.len)))
        str_fini(&out);
    return out;
}

int seen_open(Seen *s, const char *cache, Err *err)
{
    char *path = path_join(cache, ".seen", err), *text = NULL;
    int64_t size;
    *s = (Seen){.now = json_object()};
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
    Str id = identity(what, path);
    json_t *known = id.data ? json_object_get(s->before, id.data) : NULL;
    const char *hex = json_string_value(known);
    if (hex && strlen(hex) == 64)
        json_object_set(s->now, id.data, known);
    str_fini(&id);
    return hex && strlen(hex) == 64 ? hex : NULL;
}

void seen_put(Seen *s, const char *what, const char *path, const char *sha256)
{
    Str id = identity(what, path);
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
