/* Pairs: x.mp4, or a folder x of numbered pictures, with its caption in x.txt beside it, in any
 * depth of folders; and trees of UBC Fashion, which are the same but for ids and splits. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/pairs.h"
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

static int pairs_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    char text[160] = "";
    int rc = walk_folder(in, "", stop_at_first, text, err);
    snprintf(why, size, "%s", text);
    return rc;
}

typedef struct Pairs {
    const LayoutInput *in;
    SourceList *out;
    json_t *texts; /* caption files */
    json_t *used;  /* those of them that a clip has */
    json_t *poses; /* videos and pictures drawn from the clips: poses, masks */
    int ubc;       /* ids are the last component of the path, any folder of the path can name the split */
} Pairs;

/* The caption's file, relative to the root: x.txt beside x.mp4 or the folder x; in a tree of UBC
 * Fashion also <split>/<id>.txt at the root.  The first that exists, else x.txt. */
static int caption_path(const Pairs *p, const Source *s, char **out, Err *err)
{
    static const char *const splits[] = {"train", "test", "val"};
    int64_t stem = (int64_t)strlen(s->path);
    source_is_video_name(s->path, &stem);
    *out = NULL;
    for (int i = 0; i < (p->ubc ? 5 : 2); i++) {
        char *file = i < 2 ? mem_printf(err, "%.*s%s", (int)stem, s->path, i ? ".TXT" : ".txt")
                           : mem_printf(err, "%s/%s.txt", splits[i - 2], s->id);
        int there = file ? layout_has(p->in, file, err) : ERR_NOMEM;
        if (there == 1 || (i == 0 && there == 0)) {
            mem_free(*out);
            *out = file;
        } else {
            mem_free(file);
        }
        if (there)
            return there;
    }
    return 0;
}

/* A caption file that cannot be read rejects its source. */
static int read_caption(const Pairs *p, Source *s, Err *err)
{
    char *file;
    int there = caption_path(p, s, &file, err), rc = there < 0 ? there : 0;
    if (rc == 0 && json_object_set_new_nocheck(p->used, file, json_true()) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for '%s'", file);
    if (rc == 0 && !there)
        rc = source_warn(s, REASON_NO_CAPTION_FILE, err, "there is no %s", path_base(file));
    else if (rc == 0)
        rc = layout_read_caption(p->in, s, file, err);
    mem_free(file);
    return rc;
}

/* The split that a folder of the path is named after: the first such folder (any), or only the
 * path's first folder. */
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

/* The category: the name of the path's first folder that is neither a split's name nor a word for
 * files ("videos").  NULL none; mem_free. */
static int category_of(const char *path, char **out, Err *err)
{
    static const char *const plain[] = {"videos",  "video",  "clips",  "clip", "data",
                                        "dataset", "images", "frames", "raw"};
    *out = NULL;
    for (const char *at = path, *slash; (slash = strchr(at, '/')); at = slash + 1) {
        char *name = mem_strndup(at, slash - at, err);
        if (!name)
            return ERR_NOMEM;
        int says = !source_split(name);
        for (size_t i = 0; i < sizeof plain / sizeof *plain && says; i++)
            says = strcasecmp(name, plain[i]) != 0;
        if (says) {
            *out = name;
            return 0;
        }
        mem_free(name);
    }
    return 0;
}

static int note_path(json_t *set, const char *path, Err *err)
{
    return json_object_set_new_nocheck(set, path, json_true()) < 0
               ? err_set(err, ERR_NOMEM, "out of memory for '%s'", path)
               : 0;
}

static int add_file(void *user, const char *path, WalkKind kind, Err *err)
{
    const Pairs *p = user;
    Source *s;
    int video = kind == WALK_FILE && source_is_video_name(path, NULL), pictures = kind == WALK_PICTURES;
    if ((video || pictures) && is_drawn(path, pictures, p->ubc))
        return note_path(p->poses, path, err);
    if (kind == WALK_FILE && strlen(path) > 4 && strcasecmp(path + strlen(path) - 4, ".txt") == 0)
        return note_path(p->texts, path, err);
    if (!video && !pictures && !walk_is_refused(kind))
        return 0;
    int rc = source_list_add(p->out, &s, err);
    if (rc < 0)
        return rc;
    s->path = mem_strdup(path, err);
    s->id = p->ubc ? ubc_id(path, err) : source_id_from_path(path, err);
    if (!s->path || !s->id || (!p->ubc && category_of(path, &s->category, err) < 0))
        return ERR_NOMEM;
    const char *split = split_of(path, p->ubc);
    if (split)
        s->split = split;
    s->kind = pictures ? SOURCE_FRAMES : SOURCE_VIDEO;
    return walk_is_refused(kind) ? walk_reject(s, kind, err) : read_caption(p, s, err);
}

/* Pictures of a clip that also exists as a video are left out: the video has the times. */
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
        layout_report(log, "folders of pictures not read, since their clips are there as videos too", dropped);
    }
    mem_free(keep);
    json_decref(videos);
    json_decref(dropped);
    return rc;
}

static int read_tree(const LayoutInput *in, int ubc, SourceList *out, Err *err)
{
    Pairs pairs = {in, out, json_object(), json_object(), json_object(), ubc};
    const char *path;
    json_t *v;
    int rc = pairs.texts && pairs.used && pairs.poses ? walk_folder(in, "", add_file, &pairs, err)
                                                      : err_set(err, ERR_NOMEM, "out of memory for '%s'", in->root);
    if (rc == 0 && ubc)
        rc = drop_pictures_of_videos(out, in->log, err);
    if (rc == 0) {
        json_object_foreach (pairs.used, path, v)
            json_object_del(pairs.texts, path);
        layout_report(in->log, "text files without a video", pairs.texts);
        layout_report(in->log, "poses and masks, not read", pairs.poses);
    }
    json_decref(pairs.texts);
    json_decref(pairs.used);
    json_decref(pairs.poses);
    return rc;
}

static int pairs_read(const LayoutInput *in, SourceList *out, Err *err)
{
    return read_tree(in, 0, out, err);
}

const Layout layout_pairs = {
    .name = "pairs", .detect = pairs_detect, .read = pairs_read, .fallback = 1, .reads_all = 1, .reads_no_table = 1};

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

static int ubc_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    char text[160] = "";
    int rc = walk_folder(in, "", stop_at_ubc, text, err);
    snprintf(why, size, "%s", text);
    return rc;
}

static int ubc_read(const LayoutInput *in, SourceList *out, Err *err)
{
    return read_tree(in, 1, out, err);
}

const Layout layout_ubc = {
    .name = "ubc", .detect = ubc_detect, .read = ubc_read, .fallback = 1, .reads_all = 1, .reads_no_table = 1};
