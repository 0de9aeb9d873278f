/* Pairs: x.mp4, or a folder x of numbered pictures, with its caption in x.txt beside it, in any
 * depth of folders; and trees of UBC Fashion, which are the same but for ids and splits. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/layout.h"
#include "prep/layout/unused.h"
#include "prep/layout/walk.h"

static int stop_at_first(void *user, const char *path, WalkKind kind, Err *err)
{
    (void)err;
    if (kind > WALK_PICTURES || (kind == WALK_FILE && !source_is_video_name(path, NULL)))
        return 0;
    snprintf(user, 160, "it holds %s such as %.100s", kind == WALK_FILE ? "videos" : "folders of pictures", path);
    return 1;
}

static int pairs_detect(const char *root, char *why, size_t size, Err *err)
{
    char text[160] = "";
    int rc = walk_folder(root, stop_at_first, text, err);
    snprintf(why, size, "%s", text);
    return rc;
}

typedef struct Pairs {
    const char *root;
    SourceList *out;
    json_t *texts; /* caption files */
    json_t *used;  /* those of them that a clip has */
    json_t *poses; /* videos and pictures drawn from the clips: poses, masks */
    int ubc;       /* ids are the last component of the path, splits any folder's name */
} Pairs;

/* The caption's file: x.txt beside x.mp4 or the folder x; in a tree of UBC Fashion also
 * <split>/<id>.txt at the root. */
static char *caption_path(const char *root, const Source *s, int ubc, Err *err)
{
    int64_t stem = (int64_t)strlen(s->path);
    source_is_video_name(s->path, &stem);
    char *file = mem_printf(err, "%s/%.*s.txt", root, (int)stem, s->path);
    if (file && !file_exists(file)) { /* as cameras and old systems write it */
        char *other = mem_printf(err, "%s/%.*s.TXT", root, (int)stem, s->path);
        if (!other || file_exists(other)) {
            mem_free(file);
            file = other;
        } else {
            mem_free(other);
        }
    }
    static const char *const splits[] = {"train", "test", "val"};
    for (size_t i = 0; i < 3 && ubc && file && !file_exists(file); i++) {
        char *other = mem_printf(err, "%s/%s/%s.txt", root, splits[i], s->id);
        if (!other || file_exists(other)) {
            mem_free(file);
            file = other;
        } else {
            mem_free(other);
        }
    }
    return file;
}

static int read_caption(const Pairs *pairs, Source *s, Err *err)
{
    int64_t size;
    char *text = NULL, *file = caption_path(pairs->root, s, pairs->ubc, err);
    if (!file)
        return ERR_NOMEM;
    int rc = json_object_set_new_nocheck(pairs->used, file + strlen(pairs->root) + 1, json_true()) < 0 ? ERR_NOMEM : 0;
    if (rc < 0) {
        err_set(err, rc, "out of memory for '%s'", file);
    } else if (!file_exists(file)) {
        rc = source_warn(s, REASON_NO_CAPTION_FILE, err, "there is no %s", path_base(file));
    } else if (!walk_is_regular(file)) {
        rc = source_reject(s, REASON_BAD_CAPTION, err, "%s is not a regular file", path_base(file));
    } else {
        Err why = {0};
        rc = file_read(file, CAPTION_BYTES_MAX, &text, &size, &why);
        if (rc == ERR_NOMEM)
            err_set(err, rc, "%s", why.msg);
        else
            rc = rc < 0 ? source_reject(s, REASON_BAD_CAPTION, err, "%s", why.msg)
                        : source_add_caption(s, text, size, err);
    }
    mem_free(text);
    mem_free(file);
    return rc;
}

/* The split a folder's name says; the first of the path that says one, or only the first folder. */
static const char *split_of(const char *path, int any)
{
    char name[64];
    for (const char *at = path, *slash; (slash = strchr(at, '/')); at = slash + 1) {
        snprintf(name, sizeof name, "%.*s", slash - at < 63 ? (int)(slash - at) : 0, at);
        if (any && (strcmp(name, "train-frames") == 0 || strcmp(name, "train_frames") == 0))
            return "train";
        if (source_split(name))
            return source_split(name);
        if (!any)
            break;
    }
    return NULL;
}

/* The clip's name in a tree: the last folder or file, but for the frames of <id>/images. */
static char *ubc_id(const char *path, Err *err)
{
    size_t n = strlen(path);
    if (n > 7 && strcmp(path + n - 7, "/images") == 0) {
        char *outer = path_dir(path, err), *id = outer ? source_id_from_path(path_base(outer), err) : NULL;
        mem_free(outer);
        return id;
    }
    return source_id_from_path(path_base(path), err);
}

/* Whether a folder of the path holds what was drawn from clips, as trees of UBC Fashion have it
 * beside them: "train_dwpose".  In other trees only names that can mean nothing else count. */
static int is_drawn(const char *path, int folder, int ubc)
{
    static const char *const ends[] = {"dwpose", "densepose", "openpose", "pose", "poses", "mask",
                                       "masks",  "smpl",      "seg",      "segm", "depth"};
    const size_t n_ends = ubc ? sizeof ends / sizeof *ends : 3;
    for (const char *at = path; *at;) {
        size_t length = strcspn(at, "/");
        for (size_t i = 0; i < n_ends && (folder || at[length]); i++) {
            size_t n = strlen(ends[i]);
            const char *from = at + length - n;
            if (length >= n && strncmp(from, ends[i], n) == 0 && (length == n || from[-1] == '_' || from[-1] == '-'))
                return 1;
        }
        at += length + (at[length] == '/');
    }
    return 0;
}

static int add_file(void *user, const char *path, WalkKind kind, Err *err)
{
    const Pairs *pairs = user;
    Source *s;
    if (kind <= WALK_PICTURES && (kind == WALK_PICTURES || source_is_video_name(path, NULL)) &&
        is_drawn(path, kind == WALK_PICTURES, pairs->ubc))
        return json_object_set_new_nocheck(pairs->poses, path, json_true()) < 0
                   ? err_set(err, ERR_NOMEM, "out of memory for '%s'", path)
                   : 0;
    if (kind == WALK_FILE && strlen(path) > 4 && strcasecmp(path + strlen(path) - 4, ".txt") == 0 &&
        json_object_set_new_nocheck(pairs->texts, path, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for '%s'", path);
    if (kind == WALK_FILE && !source_is_video_name(path, NULL))
        return 0;
    int rc = source_list_add(pairs->out, &s, err);
    if (rc < 0)
        return rc;
    s->path = mem_strdup(path, err);
    s->id = pairs->ubc ? ubc_id(path, err) : source_id_from_path(path, err);
    if (!s->path || !s->id)
        return ERR_NOMEM;
    const char *split = split_of(path, pairs->ubc);
    if (split)
        s->split = split;
    s->kind = kind == WALK_PICTURES ? SOURCE_FRAMES : SOURCE_VIDEO;
    if (kind > WALK_PICTURES)
        return walk_reject(s, kind, err);
    return read_caption(pairs, s, err);
}

/* Pictures of a clip that is there as a video too are left out: the video has the times. */
static int drop_pictures_of_videos(SourceList *l, const Log *log, Err *err)
{
    json_t *videos = json_object(), *dropped = json_object();
    uint8_t *keep = mem_calloc(l->n, 1, err);
    int rc = videos && dropped && keep ? 0 : err_set(err, ERR_NOMEM, "out of memory for a list of clips");
    for (int64_t i = 0; i < l->n && rc == 0; i++)
        if (l->item[i].kind == SOURCE_VIDEO)
            rc = json_object_set_new_nocheck(videos, l->item[i].id, json_true()) < 0 ? ERR_NOMEM : 0;
    for (int64_t i = 0; i < l->n && rc == 0; i++) {
        keep[i] = l->item[i].kind == SOURCE_VIDEO || !json_object_get(videos, l->item[i].id);
        if (!keep[i] && json_object_set_new_nocheck(dropped, l->item[i].path, json_true()) < 0)
            rc = ERR_NOMEM;
    }
    if (rc == 0) {
        source_list_keep(l, keep);
        layout_tell(log, "folders of pictures of clips that are there as videos, not taken", dropped);
    }
    mem_free(keep);
    json_decref(videos);
    json_decref(dropped);
    return rc;
}

static int read_tree(const char *root, int ubc, SourceList *out, const Log *log, Err *err)
{
    Pairs pairs = {root, out, json_object(), json_object(), json_object(), ubc};
    const char *path;
    json_t *v;
    int rc = pairs.texts && pairs.used && pairs.poses ? walk_folder(root, add_file, &pairs, err)
                                                      : err_set(err, ERR_NOMEM, "out of memory for '%s'", root);
    if (rc == 0 && ubc)
        rc = drop_pictures_of_videos(out, log, err);
    if (rc == 0) {
        json_object_foreach (pairs.used, path, v)
            json_object_del(pairs.texts, path);
        layout_tell(log, "text files without a video", pairs.texts);
        layout_tell(log, "poses and masks, not taken", pairs.poses);
    }
    json_decref(pairs.texts);
    json_decref(pairs.used);
    json_decref(pairs.poses);
    return rc;
}

static int pairs_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    (void)seed;
    return read_tree(root, 0, out, log, err);
}

const Layout layout_pairs = {"pairs", "x.mp4, or a folder x of numbered pictures, with its caption in x.txt",
                             pairs_detect, pairs_read};

/* ---- UBC Fashion ----------------------------------------------------------------------------- */
/* A clip's ID: eleven letters, digits, '+' and '-', the last an S. */
static int ubc_name(const char *path)
{
    const char *name = path_base(path);
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-");
    return n == 11 && name[10] == 'S' && (name[11] == 0 || name[11] == '.');
}

static int stop_at_ubc(void *user, const char *path, WalkKind kind, Err *err)
{
    (void)err;
    if (kind > WALK_PICTURES || (kind == WALK_FILE && !source_is_video_name(path, NULL)) || !ubc_name(path) ||
        !split_of(path, 1))
        return 0;
    snprintf(user, 160, "it holds %.100s, named as UBC Fashion names its clips", path);
    return 1;
}

static int ubc_detect(const char *root, char *why, size_t size, Err *err)
{
    char text[160] = "";
    int rc = walk_folder(root, stop_at_ubc, text, err);
    snprintf(why, size, "%s", text);
    return rc;
}

static int ubc_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    (void)seed;
    return read_tree(root, 1, out, log, err);
}

const Layout layout_ubc = {"ubc",
                           "{train,test}/ID.mp4 or {train,valid,train-frames}/ID/ with pictures, captions in ID.txt",
                           ubc_detect, ubc_read};
