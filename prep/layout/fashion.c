/* The Fashion-Text2Video tree, as Text2Performer keeps it (dataset formats:
 * prep/layout/fashion_parse.c):
 *
 *   FashionDataset_frames_crop/<video>/000.png ...   or   videos/<video>.mp4
 *   captions_app.json   action_label/<video>.txt + caption_motion_template.json   or
 *   motion_text/<video>.txt
 *   train_frame_num.txt val_frame_num.txt test_frame_num.txt   (optional: the split of each video)
 *   categories.json {video: category}                          (optional: not part of the public
 *   set) */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/fashion.h"
#include "prep/layout/unused.h"

enum { FASHION_TEXT_MAX = 64 << 20 };
static const char frames_dir[] = "FashionDataset_frames_crop", videos_dir[] = "videos";

typedef struct Fashion {
    const LayoutInput *in;
    SourceList *out;
    json_t *captions, *templates, *categories; /* objects or NULL */
    json_t *used;                              /* paths that have a source */
    json_t *has_video;                         /* values of `captions` that a source has, by address */
} Fashion;

static int fashion_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    static const char *const signs[] = {"captions_app.json", frames_dir, "caption_motion_template.json",
                                        "train_frame_num.txt"};
    int found = 0;
    for (size_t i = 0; i < sizeof signs / sizeof *signs && found == 0; i++) {
        found = layout_has(in, signs[i], err);
        snprintf(why, size, "it holds %s", signs[i]);
    }
    return found;
}

static int read_object(const LayoutInput *in, const char *name, json_t **out, Err *err)
{
    *out = NULL;
    int found = layout_has(in, name, err);
    if (found <= 0)
        return found;
    int rc = layout_read_json(in, name, out, err);
    if (rc == 0 && !json_is_object(*out))
        rc = err_set(err, ERR_FORMAT, "%s: not a JSON object", name);
    return rc;
}

/* 1 and the path relative to the root when DIR/NAME exists, with ".mp4" put on or taken off as
 * needed. */
static int locate_in(const Fashion *f, const char *dir, const char *video, char **out, Err *err)
{
    int64_t stem = (int64_t)strlen(video), n = stem;
    if (n > 4 && strcmp(video + n - 4, ".mp4") == 0)
        stem = n - 4;
    for (int i = 0; i < 3; i++) {
        char *path = i == 0 ? mem_printf(err, "%s/%s", dir, video)
                            : mem_printf(err, "%s/%.*s%s", dir, (int)stem, video, i == 1 ? ".mp4" : "");
        int found = path ? layout_has(f->in, path, err) : ERR_NOMEM;
        if (found == 1) {
            *out = path;
            return 1;
        }
        mem_free(path);
        if (found < 0)
            return found;
    }
    return 0;
}

static int add_captions(const Fashion *f, Source *s, const char *video, Err *err)
{
    const json_t *v = fashion_lookup(f->captions, video), *item;
    char address[24];
    snprintf(address, sizeof address, "%p", (const void *)v);
    if (v && json_object_set_new(f->has_video, address, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for '%s'", video);
    if (json_is_string(v))
        return source_add_caption(s, json_string_value(v), (int64_t)json_string_length(v), err);
    if (v && !json_is_array(v))
        return err_set(err, ERR_FORMAT, "captions_app.json: '%s' is neither an array nor a string", video);
    size_t i;
    json_array_foreach (v, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_FORMAT, "captions_app.json: '%s' item %zu is not a string", video, i);
        int rc = source_add_caption(s, json_string_value(item), (int64_t)json_string_length(item), err);
        if (rc < 0)
            return rc;
    }
    return v ? 0 : source_warn(s, REASON_NO_APP_CAPTION, err, "captions_app.json has no text for '%s'", video);
}

/* DIR/<video>.txt, spelled with or without ".mp4", or NULL in *out. */
static int locate_text(const Fashion *f, const char *dir, const char *video, char **out, Err *err)
{
    size_t n = strlen(video), stem = n > 4 && strcmp(video + n - 4, ".mp4") == 0 ? n - 4 : n;
    *out = NULL;
    for (int with = 0; with < 2; with++) {
        char *rel = mem_printf(err, "%s/%.*s%s.txt", dir, (int)stem, video, with ? ".mp4" : "");
        int found = rel ? layout_has(f->in, rel, err) : ERR_NOMEM;
        if (found == 1) {
            *out = rel;
            return 0;
        }
        mem_free(rel);
        if (found < 0)
            return found;
    }
    return 0;
}

/* The motion of one video: free text first, labels with templates otherwise. */
static int add_motion(const Fashion *f, Source *s, const char *video, Err *err)
{
    char *rel, *text = NULL;
    int64_t size;
    const json_t *templates = NULL;
    int rc = locate_text(f, "motion_text", video, &rel, err);
    if (rc == 0 && !rel && f->templates) {
        templates = f->templates;
        rc = locate_text(f, "action_label", video, &rel, err);
        if (rc == 0 && !rel)
            rc = source_warn(s, REASON_NO_MOTION, err, "there is no motion text or label file for '%s'", video);
    }
    if (rc < 0 || !rel)
        return rc;
    Err why = {0};
    rc = layout_read_text(f->in, rel, FASHION_TEXT_MAX, &text, &size, &why);
    if (rc == 0)
        rc = fashion_parse_segments(s, text, size, templates, f->in->seed, rel, err);
    else if (rc == ERR_USAGE)
        rc = source_reject(s, REASON_LINK_OUTSIDE, err, "%s", why.msg);
    else
        err_set(err, rc, "%s", why.msg);
    mem_free(text);
    mem_free(rel);
    return rc;
}

static int count_pictures(const char *path, int64_t *out, Err *err)
{
    char **names;
    int64_t n;
    int rc = dir_list(path, &names, &n, err);
    *out = 0;
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n; i++)
        *out += str_ends_with(names[i], ".png") || str_ends_with(names[i], ".jpg") || str_ends_with(names[i], ".jpeg");
    dir_list_free(&names, n);
    return 0;
}

/* frames < 0: not counted by a list. */
static int add_video(Fashion *f, const char *video, const char *split, int64_t frames, const char *where, Err *err)
{
    Source *s;
    char *path = NULL;
    int rc = locate_in(f, frames_dir, video, &path, err);
    if (rc == 0)
        rc = locate_in(f, videos_dir, video, &path, err);
    if (rc < 0 || (path && json_object_get(f->used, path) && frames < 0)) {
        mem_free(path);
        return rc < 0 ? rc : 0;
    }
    int found = rc;
    if ((rc = source_list_add(f->out, &s, err)) < 0) {
        mem_free(path);
        return rc;
    }
    s->path = path ? path : mem_printf(err, "%s/%s", frames_dir, video);
    s->id = source_id_from_path(video, err);
    s->where = mem_strdup(where, err);
    s->split = split;
    if (!s->path || !s->id || !s->where || json_object_set_new_nocheck(f->used, s->path, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for '%s'", video);
    if (!found)
        rc = source_reject(s, REASON_MISSING, err, "neither the folder %s/%s nor the file %s/%s.mp4 exists", frames_dir,
                           video, videos_dir, video);
    char *full = found ? path_join(f->in->root, s->path, err) : NULL;
    int64_t have = 0;
    if (found && !full)
        rc = ERR_NOMEM;
    if (full && frames >= 0 && file_is_dir(full) && (rc = count_pictures(full, &have, err)) == 0 && have != frames)
        rc = source_warn(s, REASON_FRAME_COUNT, err, "%s says %" PRId64 " pictures, the folder holds %" PRId64, where,
                         frames, have);
    mem_free(full);
    const json_t *category = fashion_lookup(f->categories, video);
    if (category && !json_is_string(category) && rc == 0)
        rc = err_set(err, ERR_FORMAT, "categories.json: '%s' is not a string", video);
    if (rc == 0 && category && *json_string_value(category) &&
        !(s->category = mem_strdup(json_string_value(category), err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = add_captions(f, s, video, err);
    return rc < 0 ? rc : add_motion(f, s, video, err);
}

static int add_listed(Fashion *f, const char *file, const char *split, int *lists, Err *err)
{
    char where[64], *text = NULL;
    int64_t size;
    FrameCounts counts = {0};
    int rc = layout_has(f->in, file, err);
    if (rc == 1) {
        ++*lists;
        if ((rc = layout_read_text(f->in, file, FASHION_TEXT_MAX, &text, &size, err)) == 0)
            rc = fashion_parse_counts(&counts, text, size, file, err);
    }
    for (int64_t i = 0; i < counts.n && rc == 0; i++) {
        snprintf(where, sizeof where, "%s entry %" PRId64, file, i + 1);
        rc = add_video(f, counts.item[i].video, split, counts.item[i].frames, where, err);
    }
    fashion_counts_fini(&counts);
    mem_free(text);
    return rc;
}

/* Folders and videos that no list names. */
static int add_unlisted(Fashion *f, const char *dir, int lists, Err *err)
{
    char **names = NULL, *path = path_join(f->in->root, dir, err);
    int64_t n = 0, stem;
    int rc = !path ? ERR_NOMEM : file_is_dir(path) ? dir_list(path, &names, &n, err) : 0;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        if (names[i][0] == '.')
            continue;
        char *at = path_join(path, names[i], err);
        if (!at)
            rc = ERR_NOMEM;
        else if (file_is_dir(at) || source_is_video_name(names[i], &stem)) {
            int64_t before = f->out->n;
            rc = add_video(f, names[i], "train", -1, dir, err);
            if (rc == 0 && lists && f->out->n > before)
                rc = source_warn(&f->out->item[before], REASON_UNLISTED, err,
                                 "no *_frame_num.txt names '%s'; it goes to the train split", names[i]);
        }
        mem_free(at);
    }
    dir_list_free(&names, n);
    mem_free(path);
    return rc;
}

/* Names texts whose video is missing or misspelt. */
static int report_orphans(const Fashion *f, Err *err)
{
    json_t *left = json_object(), *v;
    const char *video;
    char address[24];
    int rc = left ? 0 : ERR_NOMEM;
    json_object_foreach (f->captions, video, v) {
        snprintf(address, sizeof address, "%p", (const void *)v);
        if (rc == 0 && !json_object_get(f->has_video, address) && json_object_set_new(left, video, json_true()) < 0)
            rc = ERR_NOMEM;
    }
    if (rc == 0)
        layout_report(f->in->log, "texts of captions_app.json without a video", left);
    json_decref(left);
    return rc < 0 ? err_set(err, rc, "out of memory for captions_app.json") : 0;
}

static int fashion_read(const LayoutInput *in, SourceList *out, Err *err)
{
    Fashion f = {.in = in, .out = out, .used = json_object(), .has_video = json_object()};
    int lists = 0, rc;
    if (!f.used || !f.has_video)
        return err_set(err, ERR_NOMEM, "out of memory for '%s'", in->root);
    if ((rc = read_object(in, "captions_app.json", &f.captions, err)) < 0 ||
        (rc = read_object(in, "caption_motion_template.json", &f.templates, err)) < 0 ||
        (rc = read_object(in, "categories.json", &f.categories, err)) < 0)
        goto out;
    if (!f.templates && layout_has(in, "action_label", err) == 1)
        log_warn(in->log,
                 "caption_motion_template.json is missing: the labels in action_label/ cannot become sentences");
    if ((rc = add_listed(&f, "train_frame_num.txt", "train", &lists, err)) < 0 ||
        (rc = add_listed(&f, "val_frame_num.txt", "val", &lists, err)) < 0 ||
        (rc = add_listed(&f, "test_frame_num.txt", "test", &lists, err)) < 0)
        goto out;
    if ((rc = add_unlisted(&f, frames_dir, lists, err)) == 0)
        rc = add_unlisted(&f, videos_dir, lists, err);
    if (rc == 0)
        rc = report_orphans(&f, err);
out:
    json_decref(f.captions);
    json_decref(f.templates);
    json_decref(f.categories);
    json_decref(f.used);
    json_decref(f.has_video);
    return rc;
}

const Layout layout_fashion = {.name = "fashion-t2v", .detect = fashion_detect, .read = fashion_read};
