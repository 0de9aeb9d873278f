#include "prep/clip/source_hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/pictures.h"

/* ---- the bytes ------------------------------------------------------------------------------- */
/* A pipe or a device would never end. */
static int hash_file(const char *path, int64_t *size, Digest *digest, Err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "'%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    *size = st.st_size;
    return sha256_file(path, digest, err);
}

static int hash_source(const char *path, SourceKind kind, int64_t *size, Digest *digest, Err *err)
{
    *size = 0;
    if (kind == SOURCE_VIDEO)
        return hash_file(path, size, digest, err);
    Picture *list;
    int64_t n;
    Sha256 sha = {0};
    int rc = pictures_list(path, &list, &n, err);
    if (rc < 0)
        return rc;
    rc = sha256_init(&sha, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        Digest one;
        char hex[65], line[128], *file = path_join(path, list[i].name, err);
        int64_t bytes = 0;
        rc = file ? hash_file(file, &bytes, &one, err) : ERR_NOMEM;
        if (rc == 0) {
            digest_hex(&one, hex);
            int len = snprintf(line, sizeof line, "%" PRId64 " %" PRId64 " %s\n", list[i].number, bytes, hex);
            sha256_update(&sha, line, len);
            *size += bytes;
        }
        mem_free(file);
    }
    if (rc == 0)
        sha256_final(&sha, digest);
    sha256_fini(&sha);
    pictures_free(&list, n);
    return rc;
}

/* ---- what the file system says --------------------------------------------------------------- */
static int stamp(const char *path, SourceKind kind, FileStamp *out, Err *err)
{
    int64_t n = 0;
    Picture *list = NULL;
    file_stamp_begin(out);
    int rc = kind == SOURCE_VIDEO ? file_stamp_add(out, path, err) : pictures_list(path, &list, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        char *file = path_join(path, list[i].name, err);
        rc = file ? str_printf(&out->lines, err, "%" PRId64 " ", list[i].number) : ERR_NOMEM;
        if (rc == 0)
            rc = file_stamp_add(out, file, err);
        mem_free(file);
    }
    if (rc == 0)
        rc = file_stamp_end(out, err);
    file_stamp_fini(out);
    pictures_free(&list, n);
    return rc;
}

int64_t source_size(const char *path, SourceKind kind)
{
    FileStamp s;
    int rc = stamp(path, kind, &s, NULL);
    return rc < 0 ? rc : s.size;
}

/* 1 when the entry was made while the source had this stamp. */
static int recall(const char *entry, const FileStamp *now, SourceIdentity *out)
{
    char was[65], hex[65];
    int64_t size;
    if (!entry || sscanf(entry, "%64[0-9a-f] %" SCNd64 " %64[0-9a-f]", was, &size, hex) != 3 ||
        strcmp(was, now->hex) != 0 || digest_parse(hex, &out->sha256, NULL) < 0)
        return 0;
    out->size = size;
    snprintf(out->entry, sizeof out->entry, "%s", entry);
    return 1;
}

int source_identify(const json_t *remembered, const char *name, const char *path, SourceKind kind, SourceIdentity *out,
                    Err *err)
{
    FileStamp before, after;
    char hex[65];
    *out = (SourceIdentity){0};
    int known = stamp(path, kind, &before, NULL); /* other errors are reported by hash_source below */
    if (known == 0 && recall(json_string_value(json_object_get(remembered, name)), &before, out))
        return 0;
    int rc = known == ERR_NOMEM ? err_set(err, known, "out of memory for '%s'", path)
                                : hash_source(path, kind, &out->size, &out->sha256, err);
    if (rc < 0)
        return rc;
    out->hashed = 1;
    if (known < 0 || !before.settled || (known = stamp(path, kind, &after, NULL)) < 0 ||
        strcmp(before.hex, after.hex) != 0)
        return known == ERR_NOMEM ? err_set(err, known, "out of memory for '%s'", path) : 0;
    digest_hex(&out->sha256, hex);
    snprintf(out->entry, sizeof out->entry, "%s %" PRId64 " %s", before.hex, out->size, hex);
    return 0;
}
