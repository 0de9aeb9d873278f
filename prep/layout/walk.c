#include "prep/layout/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/frames.h"
#include "prep/layout/source.h"

enum { DEPTH_MAX = 32 };

/* Numbered pictures, and nothing that a walk would look at for itself. */
static int holds_pictures(const char *dir, char **names, int64_t n, int *out, Err *err)
{
    uint8_t *marks = mem_calloc(n, 1, err);
    *out = 0;
    if (!marks)
        return ERR_NOMEM;
    int rc = 0, others = pictures_among(names, n, marks) == 0;
    for (int64_t i = 0; i < n && !others && rc == 0; i++) {
        if (names[i][0] == '.' || marks[i])
            continue;
        char *path = path_join(dir, names[i], err);
        if (!path)
            rc = ERR_NOMEM;
        others = path && (source_is_video_name(names[i], NULL) || file_is_dir(path));
        mem_free(path);
    }
    mem_free(marks);
    *out = !others;
    return rc;
}

/* UTF-8 without control characters: what a manifest can say. */
static int is_plain(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return 0;
    return str_is_utf8(name, (int64_t)strlen(name));
}

static int found_odd(const char *folder, const char *name, WalkFn *found, void *user, Err *err)
{
    Str text = {0};
    int rc = *folder ? str_printf(&text, err, "%s/", folder) : 0;
    for (const char *p = name; *p && rc == 0; p++)
        rc = str_printf(&text, err,
                        (unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f || *p == '%' ? "%%%02X" : "%c",
                        (unsigned char)*p);
    if (rc == 0)
        rc = found(user, text.data, WALK_NAME, err);
    str_fini(&text);
    return rc;
}

int walk_is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* A folder and those around it. */
typedef struct Around {
    const struct Around *outer;
    dev_t dev;
    ino_t ino;
} Around;

static int is_loop(const Around *here)
{
    for (const Around *a = here->outer; a; a = a->outer)
        if (a->dev == here->dev && a->ino == here->ino)
            return 1;
    return 0;
}

/* Whether the folder is one that the root lies in: entering it would take in what is beside the
 * root. */
static int is_around(const char *root, const char *full)
{
    char *inner = realpath(root, NULL), *outer = realpath(full, NULL);
    size_t n = outer ? strlen(outer) : 0;
    int around = inner && outer && strncmp(inner, outer, n) == 0 && (inner[n] == '/' || n == 1);
    free(inner);
    free(outer);
    return around;
}

static int walk(const char *root, const char *folder, int depth, const Around *outer, WalkFn *found, void *user,
                Err *err)
{
    char **names = NULL, *full = path_join(root, folder, err);
    int64_t n = 0;
    int pictures = 0;
    struct stat st;
    if (!full)
        return ERR_NOMEM;
    Around here = {.outer = outer};
    if (stat(full, &st) == 0) {
        here.dev = st.st_dev;
        here.ino = st.st_ino;
    }
    struct stat link;
    int loop = is_loop(&here) ||
               (depth > 0 && lstat(full, &link) == 0 && S_ISLNK(link.st_mode) && is_around(root, full));
    if (loop || (depth > 0 && access(full, R_OK | X_OK) < 0 && errno == EACCES)) {
        mem_free(full);
        return found(user, folder, loop ? WALK_LOOP : WALK_CLOSED, err);
    }
    int rc = depth > DEPTH_MAX ? err_set(err, ERR_LIMIT, "'%s' is nested more than %d folders deep", full, DEPTH_MAX)
                               : dir_list(full, &names, &n, err);
    if (rc == 0)
        rc = holds_pictures(full, names, n, &pictures, err);
    mem_free(full);
    if (rc == 0 && pictures && depth > 0)
        rc = found(user, folder, WALK_PICTURES, err);
    for (int64_t i = 0; i < n && rc == 0 && !(pictures && depth > 0); i++) {
        if (names[i][0] == '.')
            continue;
        char *path = path_join(folder, names[i], err), *at = path ? path_join(root, path, err) : NULL;
        if (!at)
            rc = ERR_NOMEM;
        else if (!is_plain(names[i]))
            rc = file_is_dir(at) || source_is_video_name(names[i], NULL) ? found_odd(folder, names[i], found, user, err)
                                                                         : 0;
        else if (file_is_dir(at))
            rc = walk(root, path, depth + 1, &here, found, user, err);
        else
            rc = found(user, path, WALK_FILE, err);
        mem_free(at);
        mem_free(path);
    }
    dir_list_free(&names, n);
    return rc;
}

int walk_folder(const char *root, WalkFn *found, void *user, Err *err)
{
    return walk(root, "", 0, NULL, found, user, err);
}

int walk_reject(Source *s, WalkKind kind, Err *err)
{
    return kind == WALK_LOOP
               ? source_reject(s, REASON_LINK_LOOP, err, "'%s' is a link to a folder that it lies in", s->path)
           : kind == WALK_NAME ? source_reject(s, REASON_BAD_NAME, err,
                                               "the name of '%s' is no text (%%XX are bytes); rename it", s->path)
                               : source_reject(s, REASON_UNREADABLE, err, "the folder '%s' may not be read", s->path);
}
