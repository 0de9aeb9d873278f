#include "prep/set/hash_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/frames.h"

#define HEAD "weft-prep sources 1 "
enum { HEAD_BYTES = sizeof HEAD - 1 + 16 + 1, RACY_S = 2 };
static const int64_t file_bytes_max = (int64_t)1 << 32, ns = 1000000000;

/* ---- what the file system says --------------------------------------------------------------- */
typedef struct Stamp {
    char text[65]; /* SHA-256 of the stat fields below */
    int64_t size;
    int settled; /* nothing was changed just now */
} Stamp;

static int64_t in_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * ns + t.tv_nsec;
}

static int stamp_file(const char *path, int64_t now, Str *lines, Stamp *out, Err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "'%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    int64_t m = in_ns(st.st_mtim), c = in_ns(st.st_ctim), edge = RACY_S * ns;
    out->size += st.st_size;
    /* An mtime in the future was set by hand and proves nothing; only the system sets the ctime. */
    out->settled = out->settled && c < now - edge && (m < now - edge || m > now + edge);
    return str_printf(lines, err, "%" PRIuMAX " %" PRIuMAX " %" PRId64 " %" PRId64 " %" PRId64 "\n",
                      (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (int64_t)st.st_size, m, c);
}

static int stamp(const char *path, SourceKind kind, Stamp *out, Err *err)
{
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock); /* before anything is looked at */
    int64_t now = in_ns(clock), n = 0;
    Picture *list = NULL;
    Str lines = {0};
    *out = (Stamp){.settled = 1};
    int rc = kind == SOURCE_VIDEO ? stamp_file(path, now, &lines, out, err) : pictures_list(path, &list, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        char *file = path_join(path, list[i].name, err);
        rc = file ? str_printf(&lines, err, "%" PRId64 " ", list[i].number) : ERR_NOMEM;
        if (rc == 0)
            rc = stamp_file(file, now, &lines, out, err);
        mem_free(file);
    }
    if (rc == 0)
        rc = sha256_hex(lines.data ? lines.data : "", lines.len, out->text, err);
    pictures_free(&list, n);
    str_fini(&lines);
    return rc;
}

int64_t hash_cache_size(const char *path, SourceKind kind)
{
    Stamp s;
    int rc = stamp(path, kind, &s, NULL);
    return rc < 0 ? rc : s.size;
}

/* 1 when the entry was made while the source had this stamp. */
static int recall(const char *entry, const Stamp *now, Identity *out)
{
    char was[65], hex[65];
    int64_t size;
    if (!entry || sscanf(entry, "%64[0-9a-f] %" SCNd64 " %64[0-9a-f]", was, &size, hex) != 3 ||
        strcmp(was, now->text) != 0 || digest_parse(hex, &out->sha256, NULL) < 0)
        return 0;
    out->size = size;
    snprintf(out->entry, sizeof out->entry, "%s", entry);
    return 1;
}

int hash_cache_identify(const json_t *hash, const char *name, const char *path, SourceKind kind, Identity *out,
                        Err *err)
{
    Stamp before, after;
    char hex[65];
    *out = (Identity){0};
    int known = stamp(path, kind, &before, NULL); /* other errors are reported by source_hash below */
    if (known == 0 && recall(json_string_value(json_object_get(hash, name)), &before, out))
        return 0;
    int rc = known == ERR_NOMEM ? err_set(err, known, "out of memory for '%s'", path)
                                : source_hash(path, kind, &out->size, &out->sha256, err);
    if (rc < 0)
        return rc;
    out->hashed = 1;
    if (known < 0 || !before.settled || (known = stamp(path, kind, &after, NULL)) < 0 ||
        strcmp(before.text, after.text) != 0)
        return known == ERR_NOMEM ? err_set(err, known, "out of memory for '%s'", path) : 0;
    digest_hex(&out->sha256, hex);
    snprintf(out->entry, sizeof out->entry, "%s %" PRId64 " %s", before.text, out->size, hex);
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */
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
