#include "prep/set/hash_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"

#define HEAD "weft-prep sources 1 "
enum { HEAD_BYTES = sizeof HEAD - 1 + 16 + 1 };
static const int64_t file_bytes_max = (int64_t)1 << 32;

/* The first line holds a checksum of the rest: an incomplete file is ignored. */
static void head(char out[HEAD_BYTES + 1], const char *body, int64_t size)
{
    snprintf(out, HEAD_BYTES + 1, HEAD "%016" PRIx64 "\n", hash_xxh3(body, size));
}

int hash_cache_load(HashCache *out, const char *out_dir, Err *err)
{
    char *path = path_join(out_dir, ".sources", err), *text = NULL, want[HEAD_BYTES + 1];
    int64_t size = 0;
    json_t *o = NULL;
    Err ignored = {0};
    *out = (HashCache){0};
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(path) && file_read(path, file_bytes_max, &text, &size, &ignored) == 0 &&
        size > HEAD_BYTES) {
        head(want, text + HEAD_BYTES, size - HEAD_BYTES);
        if (memcmp(text, want, HEAD_BYTES) == 0)
            err_ignore(json_parse(&o, text + HEAD_BYTES, size - HEAD_BYTES, ".sources", &ignored));
    }
    if (ignored.code == ERR_NOMEM)
        rc = err_set(err, ERR_NOMEM, "%s", ignored.msg);
    const char *place = json_string_value(json_object_get(o, "place"));
    json_t *hash = json_object_get(o, "hashed");
    out->hash = json_is_object(hash) ? json_incref(hash) : json_object();
    if (rc == 0 && (!out->hash || (place && !(out->place = mem_strdup(place, err)))))
        rc = err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    json_decref(o);
    mem_free(text);
    mem_free(path);
    return rc;
}

int hash_cache_save(const HashCache *s, const char *out_dir, Err *err)
{
    /* A folder whose name is not UTF-8 is not recorded. */
    json_t *place = s->place ? json_string(s->place) : NULL,
           *o = json_pack("{s:o?, s:O}", "place", place, "hashed", s->hash);
    char *path = path_join(out_dir, ".sources", err), *text = o && path ? json_text(o, 0, err) : NULL,
         first[HEAD_BYTES + 1];
    AtomicFile *file = NULL;
    int rc = text ? atomic_open(&file, path, err) : err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    if (rc == 0) {
        head(first, text, (int64_t)strlen(text));
        rc = fputs(first, atomic_stream(file)) == EOF || fputs(text, atomic_stream(file)) == EOF
                 ? err_errno(err, errno, "writing '%s'", path)
                 : atomic_commit(&file, err);
    }
    atomic_abort(&file);
    json_decref(o);
    mem_free(text);
    mem_free(path);
    return rc;
}

int hash_cache_remove(const char *out_dir, Err *err)
{
    char *path = path_join(out_dir, ".sources", err);
    int rc = !path ? ERR_NOMEM : unlink(path) < 0 && errno != ENOENT ? err_errno(err, errno, "removing '%s'", path) : 0;
    mem_free(path);
    return rc;
}

void hash_cache_fini(HashCache *s)
{
    mem_free(s->place);
    json_decref(s->hash);
    *s = (HashCache){0};
}
