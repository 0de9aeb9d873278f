/* The identity of weights, computed once and remembered. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/store/safetensors_internal.h"

static void digest_i64(Sha256 *h, int64_t v)
{
    sha256_update(h, &v, sizeof v);
}

int safetensors_digest(const SafeTensors *s, char hex[65], Err *err)
{
    Sha256 h = {0};
    int rc = sha256_init(&h, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < s->n; i++) {
        const SafeEntry *e = &s->entry[i];
        const char *dtype = dtype_name(e->tensor.dtype);
        digest_i64(&h, (int64_t)strlen(e->name)); /* lengths in front: no two lists of tensors give the same bytes */
        sha256_update(&h, e->name, (int64_t)strlen(e->name));
        digest_i64(&h, (int64_t)strlen(dtype));
        sha256_update(&h, dtype, (int64_t)strlen(dtype));
        digest_i64(&h, e->tensor.rank);
        for (int k = 0; k < e->tensor.rank; k++)
            digest_i64(&h, e->tensor.dim[k]);
        sha256_update(&h, e->tensor.data, tensor_bytes(&e->tensor));
    }
    sha256_final_hex(&h, hex);
    return 0;
}

/* ---- remembered ------------------------------------------------------------------------------ */

static const char kind[] = "weft weights";

static int stamp(const SafeTensors *s, FileStamp *out, Err *err)
{
    int rc = 0;
    file_stamp_begin(out);
    for (int64_t i = 0; i < s->n_shard && rc == 0; i++)
        rc = file_stamp_add(out, s->shard[i].path, err);
    if (rc == 0)
        rc = file_stamp_end(out, err);
    file_stamp_fini(out);
    return rc;
}

/* Passes on that memory ran out; a memory of digests that cannot be used for another reason costs time only. */
static int no_memory(int rc, const Err *why, Err *err)
{
    return rc == ERR_NOMEM ? err_set(err, rc, "%s", why->msg) : 0;
}

/* 1, and the stamp; 0 where the files cannot be looked at. */
static int try_stamp(const SafeTensors *s, FileStamp *out, Err *err)
{
    Err why = {0};
    int rc = stamp(s, out, &why);
    return rc == 0 ? 1 : no_memory(rc, &why, err);
}

/* Adds the entry to what the file holds now; other folders' entries stay. */
static int remember(const char *file, const char *real, const FileStamp *now, const char *hex, Err *err)
{
    json_t *all = NULL;
    int rc = remembered_load(&all, file, kind, err);
    if (rc == 0 && json_object_set_new(all, real, json_pack("[s, s]", now->hex, hex)) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for '%s'", file);
    if (rc == 0)
        rc = remembered_save(all, file, kind, err);
    json_decref(all);
    return rc;
}

/* Remembers a digest of files that were `before` when it was begun, unless they changed since. */
static int keep(const SafeTensors *s, const char *file, const char *real, const FileStamp *before, const char *hex,
                Err *err)
{
    FileStamp after;
    Err why = {0};
    int rc = try_stamp(s, &after, err);
    if (rc > 0 && strcmp(before->hex, after.hex) == 0)
        rc = no_memory(remember(file, real, before, hex, &why), &why, err);
    return rc < 0 ? rc : 0;
}

/* 1 and the digest when `file` has it for these files. */
static int recall(const char *file, const char *real, const FileStamp *now, char hex[65], Err *err)
{
    json_t *all = NULL;
    Digest d;
    int rc = remembered_load(&all, file, kind, err);
    const json_t *entry = json_object_get(all, real);
    const char *was = json_string_value(json_array_get(entry, 0)), *found = json_string_value(json_array_get(entry, 1));
    if (rc == 0 && was && found && strcmp(was, now->hex) == 0 && digest_parse(found, &d, NULL) == 0) {
        digest_hex(&d, hex);
        rc = 1;
    }
    json_decref(all);
    return rc;
}

int safetensors_digest_once(const SafeTensors *s, const char *folder, const char *memory, char hex[65], const Log *log,
                            Err *err)
{
    FileStamp before;
    char *file = memory && *memory ? path_join(memory, ".weights", err) : NULL;
    char *real = realpath(s->n_shard ? s->shard[0].path : folder, NULL);
    int known = memory && *memory && !file ? ERR_NOMEM : file && real ? try_stamp(s, &before, err) : 0;
    int rc = known > 0 ? recall(file, real, &before, hex, err) : known;
    if (rc == 0) {
        int64_t bytes = 0;
        for (int64_t i = 0; i < s->n_shard; i++)
            bytes += s->shard[i].size;
        log_info(log, "reading the weights of '%s' (%.1f MB) for their digest", folder, (double)bytes / 1e6);
        rc = safetensors_digest(s, hex, err);
        if (rc == 0 && known && before.settled && file_is_dir(memory))
            rc = keep(s, file, real, &before, hex, err);
    }
    free(real);
    mem_free(file);
    return rc < 0 ? rc : 0;
}

/* MEMORY/.weights and the name of s in it; 0 where there are none.  mem_free(*file), free(*real). */
static int find_entry(const SafeTensors *s, const char *memory, char **file, char **real, Err *err)
{
    *real = NULL;
    *file = NULL;
    if (!memory || !*memory || !s->n_shard)
        return 0;
    *real = realpath(s->shard[0].path, NULL);
    *file = path_join(memory, ".weights", err);
    return !*file ? ERR_NOMEM : *real != NULL;
}

int safetensors_digest_hold(const SafeTensors *s, const char *memory, DigestHold *h, Err *err)
{
    FileStamp now;
    char *file, *real;
    int rc = find_entry(s, memory, &file, &real, err);
    *h = (DigestHold){{0}, {0}};
    if (rc > 0 && (rc = try_stamp(s, &now, err)) > 0 && (rc = recall(file, real, &now, h->hex, err)) > 0)
        memcpy(h->still, now.still, sizeof h->still);
    free(real);
    mem_free(file);
    return rc < 0 ? rc : 0;
}

int safetensors_digest_keep(const SafeTensors *s, const char *memory, const DigestHold *h, Err *err)
{
    FileStamp now;
    Err why = {0};
    char *file, *real;
    int rc;
    if (!*h->hex)
        return 0;
    rc = find_entry(s, memory, &file, &real, err);
    if (rc > 0 && (rc = try_stamp(s, &now, err)) > 0 && strcmp(now.still, h->still) == 0)
        rc = no_memory(remember(file, real, &now, h->hex, &why), &why, err);
    free(real);
    mem_free(file);
    return rc < 0 ? rc : 0;
}
