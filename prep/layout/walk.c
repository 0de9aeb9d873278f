#include "prep/layout/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/pictures.h"

enum { DEPTH_MAX = 32 };

/* A folder and those around it. */
typedef struct Around {
    const struct Around *outer;
    dev_t dev;
    ino_t ino;
} Around;

typedef struct Walk {
    const LayoutInput *in;
    char *root;     /* where paths begin */
    json_t *inside; /* "dev:ino" of each folder the walk enters without following a link; NULL until a link is met */
    WalkFn *found;
    void *user;
} Walk;

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

/* UTF-8 without control characters: what a manifest can hold. */
static int is_plain(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return 0;
    return str_is_utf8(name, (int64_t)strlen(name));
}

static int found_odd(const Walk *w, const char *folder, const char *name, Err *err)
{
    Str text = {0};
    int rc = *folder ? str_printf(&text, err, "%s/", folder) : 0;
    for (const char *p = name; *p && rc == 0; p++)
        rc = str_printf(&text, err,
                        (unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f || *p == '%' ? "%%%02X" : "%c",
                        (unsigned char)*p);
    if (rc == 0)
        rc = w->found(w->user, text.data, WALK_NAME, err);
    str_fini(&text);
    return rc;
}

/* ---- links ----------------------------------------------------------------------------------- */
/* Whether the folder at `full` is one that the root lies in: entering it would read what lies
 * beside the root. */
static int is_around(const char *root, const char *full)
{
    char *inner = realpath(root, NULL), *outer = realpath(full, NULL);
    size_t n = outer ? strlen(outer) : 0;
    int around = inner && outer && strncmp(inner, outer, n) == 0 && (inner[n] == '/' || inner[n] == 0 || n == 1);
    free(inner);
    free(outer);
    return around;
}

static int is_loop(const Around *here)
{
    for (const Around *a = here->outer; a; a = a->outer)
        if (a->dev == here->dev && a->ino == here->ino)
            return 1;
    return 0;
}

static void folder_key(const Around *a, char key[48])
{
    snprintf(key, 48, "%llx:%llx", (unsigned long long)a->dev, (unsigned long long)a->ino);
}

/* Puts the folder and all below it that are no links into w->inside. */
static int note_real_folders(Walk *w, const char *full, int depth, Err *err)
{
    struct stat st;
    char key[48], **names = NULL;
    int64_t n = 0;
    if (depth > DEPTH_MAX || stat(full, &st) < 0)
        return 0; /* the walk itself reports it */
    folder_key(&(Around){NULL, st.st_dev, st.st_ino}, key);
    if (json_object_set_new_nocheck(w->inside, key, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for the folders of '%s'", w->root);
    Err unreadable = {0};
    int rc = dir_list(full, &names, &n, &unreadable) == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", unreadable.msg) : 0;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        char *path = names[i][0] != '.' ? path_join(full, names[i], err) : NULL;
        if (names[i][0] != '.' && !path)
            rc = ERR_NOMEM;
        if (path && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            rc = note_real_folders(w, path, depth + 1, err);
        mem_free(path);
    }
    dir_list_free(&names, n);
    return rc;
}

/* What to do with the link to a folder at `full`: WALK_FILE to enter it. */
static int judge_link(Walk *w, const char *full, const char *folder, const Around *here, WalkKind *kind, Err *err)
{
    char key[48], *target = NULL;
    *kind = WALK_FILE;
    int rc = 0;
    if (is_loop(here) || is_around(w->root, full) || is_around(w->in->root, full)) {
        *kind = WALK_LOOP;
        return 0;
    }
    if (!w->in->follow_links) {
        char *from_root = path_join(w->root, folder, err);
        rc = from_root ? layout_leads_out(w->in->root, from_root + strlen(w->in->root), &target, err) : ERR_NOMEM;
        mem_free(from_root);
        mem_free(target);
        if (rc < 0)
            return rc;
        if (rc == 1) {
            *kind = WALK_OUTSIDE;
            return 0;
        }
    }
    if (!w->inside) {
        if (!(w->inside = json_object()))
            return err_set(err, ERR_NOMEM, "out of memory for the folders of '%s'", w->root);
        if ((rc = note_real_folders(w, w->root, 0, err)) < 0)
            return rc;
    }
    folder_key(here, key);
    if (json_object_get(w->inside, key))
        *kind = WALK_AGAIN;
    else
        rc = note_real_folders(w, full, 0, err);
    return rc;
}

/* ---- the walk -------------------------------------------------------------------------------- */
static int walk(Walk *w, const char *folder, int depth, const Around *outer, Err *err);

static int walk_entry(Walk *w, const char *folder, const char *name, int depth, const Around *here, Err *err)
{
    char *path = path_join(folder, name, err), *at = path ? path_join(w->root, path, err) : NULL;
    int rc = 0;
    if (!at)
        rc = ERR_NOMEM;
    else if (!is_plain(name))
        rc = file_is_dir(at) || source_is_video_name(name, NULL) ? found_odd(w, folder, name, err) : 0;
    else if (file_is_dir(at))
        rc = walk(w, path, depth + 1, here, err);
    else
        rc = w->found(w->user, path, WALK_FILE, err);
    mem_free(at);
    mem_free(path);
    return rc;
}

/* Lists a folder that is entered.  *whole: its pictures are one source, and nothing else in it is
 * looked at. */
static int enter(Walk *w, const char *full, const char *folder, int depth, char ***names, int64_t *n, int *whole,
                 Err *err)
{
    *whole = 0;
    int rc = depth > DEPTH_MAX ? err_set(err, ERR_LIMIT, "'%s' is nested more than %d folders deep", full, DEPTH_MAX)
                               : dir_list(full, names, n, err);
    if (rc == 0 && depth > 0)
        rc = holds_pictures(full, *names, *n, whole, err);
    return rc == 0 && *whole ? w->found(w->user, folder, WALK_PICTURES, err) : rc;
}

static int walk(Walk *w, const char *folder, int depth, const Around *outer, Err *err)
{
    char **names = NULL, *full = path_join(w->root, folder, err);
    int64_t n = 0;
    struct stat st, link;
    WalkKind kind = WALK_FILE;
    int whole = 0, rc = full ? 0 : ERR_NOMEM;
    Around here = {.outer = outer};
    if (full && stat(full, &st) == 0) {
        here.dev = st.st_dev;
        here.ino = st.st_ino;
    }
    if (full && depth > 0 && lstat(full, &link) == 0 && S_ISLNK(link.st_mode))
        rc = judge_link(w, full, folder, &here, &kind, err);
    if (rc == 0 && kind == WALK_FILE && depth > 0 && access(full, R_OK | X_OK) < 0 && errno == EACCES)
        kind = WALK_CLOSED;
    if (rc == 0)
        rc = kind == WALK_FILE ? enter(w, full, folder, depth, &names, &n, &whole, err)
                               : w->found(w->user, folder, kind, err);
    mem_free(full);
    for (int64_t i = 0; i < n && rc == 0 && !whole; i++)
        if (names[i][0] != '.')
            rc = walk_entry(w, folder, names[i], depth, &here, err);
    dir_list_free(&names, n);
    return rc;
}

int walk_folder(const LayoutInput *in, const char *folder, WalkFn *found, void *user, Err *err)
{
    char *target = NULL;
    Walk w = {.in = in, .found = found, .user = user};
    int rc = *folder && !in->follow_links ? layout_leads_out(in->root, folder, &target, err) : 0;
    if (rc == 1)
        rc = err_set(err, ERR_USAGE, "%s/ is a link to '%s' outside of the source folder (" LAYOUT_LINKS_HINT ")",
                     folder, target);
    mem_free(target);
    if (rc == 0 && !(w.root = *folder ? path_join(in->root, folder, err) : mem_strdup(in->root, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = walk(&w, "", 0, NULL, err);
    json_decref(w.inside);
    mem_free(w.root);
    return rc;
}

int walk_is_refused(WalkKind kind)
{
    return kind > WALK_AGAIN;
}

int walk_reject(Source *s, WalkKind kind, Err *err)
{
    switch (kind) {
    case WALK_LOOP:
        return source_reject(s, REASON_LINK_LOOP, err, "'%s' is a link to a folder that it lies in", s->path);
    case WALK_OUTSIDE:
        return source_reject(s, REASON_LINK_OUTSIDE, err,
                             "'%s' is a link to a folder outside of the source folder (" LAYOUT_LINKS_HINT ")",
                             s->path);
    case WALK_NAME:
        return source_reject(s, REASON_BAD_NAME, err,
                             "the name of '%s' is not printable UTF-8 (%%XX are its bytes); rename it", s->path);
    default: return source_reject(s, REASON_UNREADABLE, err, "the folder '%s' may not be read", s->path);
    }
}
