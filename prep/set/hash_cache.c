#include "prep/set/hash_cache.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/mem.h"

static const char kind[] = "weft-prep sources";

int hash_cache_load(HashCache *out, const char *out_dir, Err *err)
{
    char *path = path_join(out_dir, ".sources", err);
    json_t *o = NULL;
    *out = (HashCache){0};
    int rc = path ? remembered_load(&o, path, kind, err) : ERR_NOMEM;
    const char *place = json_string_value(json_object_get(o, "place"));
    json_t *hash = json_object_get(o, "hashed");
    out->hash = json_is_object(hash) ? json_incref(hash) : json_object();
    if (rc == 0 && (!out->hash || (place && !(out->place = mem_strdup(place, err)))))
        rc = err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    json_decref(o);
    mem_free(path);
    return rc;
}

int hash_cache_save(const HashCache *s, const char *out_dir, Err *err)
{
    /* A folder whose name is not UTF-8 is not recorded. */
    json_t *place = s->place ? json_string(s->place) : NULL,
           *o = json_pack("{s:o?, s:O}", "place", place, "hashed", s->hash);
    char *path = path_join(out_dir, ".sources", err);
    int rc = o && path ? remembered_save(o, path, kind, err)
                       : err_set(err, ERR_NOMEM, "out of memory for the list of sources");
    json_decref(o);
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
