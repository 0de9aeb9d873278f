/* Captions apart from the clips: two lists line by line, a map from file to caption, two trees. */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/lists.h"
#include "common/base/lines.h"
#include "prep/layout/unused.h"
#include "prep/layout/walk.h"

enum { LIST_BYTES_MAX = 1 << 28 };

static int new_source(SourceList *l, const char *path, int64_t n, const char *where, Source **s, Err *err)
{
    int rc = source_list_add(l, s, err);
    if (rc < 0)
        return rc;
    if (!str_is_utf8(path, n) || memchr(path, 0, (size_t)n))
        return err_set(err, ERR_FORMAT, "%s: the file's name is not UTF-8", where);
    (*s)->where = mem_strdup(where, err);
    (*s)->path = mem_strndup(path, n, err);
    if ((*s)->path)
        source_path_clean((*s)->path);
    (*s)->id = (*s)->path ? source_id_from_path((*s)->path, err) : NULL;
    if (!(*s)->where || !(*s)->id)
        return ERR_NOMEM;
    return path_check_relative((*s)->path, err) < 0 ? err_wrap(err, ERR_FORMAT, "%s", where) : 0;
}

/* ---- two lists ------------------------------------------------------------------------------- */
static int is_blank_line(const char *line, int64_t n)
{
    while (n && strchr(" \t\r\v\f", line[n - 1]) && line[n - 1])
        n--;
    return n == 0;
}

/* The lines up to the last that is not blank; a blank one before it is refused. */
static int count_lines(const char *text, int64_t size, const char *name, int64_t *count, Err *err)
{
    const char *line;
    int64_t at = 0, n, row = 0, blank = 0;
    *count = 0;
    while (lines_next(text, size, &at, &line, &n)) {
        row++;
        if (is_blank_line(line, n)) {
            blank = blank ? blank : row;
            continue;
        }
        if (blank)
            return err_set(err, ERR_FORMAT,
                           "%s line %" PRId64 " is blank, so the lines after it cannot be matched with their videos",
                           name, blank);
        *count = row;
    }
    return 0;
}

static void skip_mark(const char **text, int64_t *size)
{
    int64_t mark = str_mark_size(*text, *size);
    *text += mark;
    *size -= mark;
}

int lists_parse(SourceList *l, const char *videos, int64_t videos_size, const char *videos_name, const char *prompts,
                int64_t prompts_size, const char *prompts_name, Err *err)
{
    int64_t nv, np, at_v = 0, at_p = 0, size;
    const char *line;
    char where[320];
    Source *s;
    skip_mark(&videos, &videos_size);
    skip_mark(&prompts, &prompts_size);
    int rc = count_lines(videos, videos_size, videos_name, &nv, err);
    if (rc < 0 || (rc = count_lines(prompts, prompts_size, prompts_name, &np, err)) < 0)
        return rc;
    if (nv != np)
        return err_set(err, ERR_FORMAT,
                       "%s has %" PRId64 " lines and %s has %" PRId64 ": from line %" PRId64
                       " on, videos and prompts do not match",
                       videos_name, nv, prompts_name, np, (nv < np ? nv : np) + 1);
    for (int64_t row = 1; row <= nv; row++) {
        lines_next(videos, videos_size, &at_v, &line, &size);
        while (size && strchr(" \t", line[size - 1]))
            size--;
        snprintf(where, sizeof where, "%.256s line %" PRId64, videos_name, row);
        if ((rc = new_source(l, line, size, where, &s, err)) < 0)
            return rc;
        lines_next(prompts, prompts_size, &at_p, &line, &size);
        if ((rc = source_add_caption(s, line, size, err)) < 0)
            return rc;
    }
    return 0;
}

typedef struct Lists {
    char videos[16], prompts[16];
} Lists;

/* Exactly one file of each family: 1; none of one: 0; several of one: ERR_USAGE. */
static int find_lists(const LayoutInput *in, Lists *out, Err *err)
{
    static const char *const videos[] = {"videos.txt", "video.txt", NULL};
    static const char *const prompts[] = {"prompts.txt", "prompt.txt", "captions.txt", "caption.txt", NULL};
    const char *const *const families[] = {videos, prompts};
    char *names[] = {out->videos, out->prompts};
    for (int f = 0; f < 2; f++) {
        names[f][0] = 0;
        for (int i = 0; families[f][i]; i++) {
            char *path = path_join(in->root, families[f][i], err);
            if (!path)
                return ERR_NOMEM;
            int found = file_exists(path) && !file_is_dir(path);
            mem_free(path);
            if (found && names[f][0] && out->videos[0])
                return err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", in->root, names[f],
                               families[f][i]);
            if (found)
                snprintf(names[f], 16, "%s", families[f][i]);
        }
    }
    return out->videos[0] && out->prompts[0];
}

int lists_refuse_lone(const LayoutInput *in, Err *err)
{
    Lists l;
    char **names = NULL;
    int64_t n = 0, stem;
    int rc = find_lists(in, &l, err), alone = rc == 0 && l.videos[0];
    if (rc < 0 || !alone || (rc = dir_list(in->root, &names, &n, err)) < 0)
        return rc < 0 ? rc : 0;
    for (int64_t i = 0; i < n; i++)
        if (source_is_video_name(names[i], &stem) && stem == (int64_t)strlen(l.videos) - 4 &&
            strncmp(names[i], l.videos, (size_t)stem) == 0)
            alone = 0; /* it is the caption of a video of that name */
    dir_list_free(&names, n);
    return alone ? err_set(err, ERR_USAGE,
                           "'%s' holds %s but no prompts.txt with one prompt a line; --layout pairs reads the videos "
                           "themselves and ignores the list",
                           in->root, l.videos)
                 : 0;
}

static int lists_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    Lists l;
    int found = find_lists(in, &l, err);
    if (found == 1)
        snprintf(why, size, "it holds %s and %s", l.videos, l.prompts);
    return found;
}

static int lists_read(const LayoutInput *in, SourceList *out, Err *err)
{
    Lists l;
    char *videos = NULL, *prompts = NULL;
    int64_t n_videos = 0, n_prompts = 0;
    int rc = find_lists(in, &l, err);
    if (rc == 0)
        return err_set(err, ERR_NOTFOUND, "'%s' does not hold both videos.txt and prompts.txt", in->root);
    if (rc == 1)
        rc = layout_read_text(in, l.videos, LIST_BYTES_MAX, &videos, &n_videos, err);
    if (rc == 0)
        rc = layout_read_text(in, l.prompts, LIST_BYTES_MAX, &prompts, &n_prompts, err);
    if (rc == 0)
        rc = lists_parse(out, videos, n_videos, l.videos, prompts, n_prompts, l.prompts, err);
    mem_free(videos);
    mem_free(prompts);
    return rc;
}

const Layout layout_lists = {.name = "lists", .detect = lists_detect, .read = lists_read};

/* ---- a map ----------------------------------------------------------------------------------- */
int captions_map_parse(SourceList *l, const char *text, int64_t size, const char *name, Err *err)
{
    json_t *map, *v, *item;
    const char *file;
    size_t i;
    Source *s;
    int rc = json_parse(&map, text, size, name, err);
    if (rc == 0 && !json_is_object(map))
        rc = err_set(err, ERR_FORMAT, "%s: not an object of file: caption", name);
    if (rc == 0)
        json_object_foreach (map, file, v) {
            char where[320];
            snprintf(where, sizeof where, "%.100s '%.200s'", name, file);
            if ((rc = new_source(l, file, (int64_t)strlen(file), where, &s, err)) < 0)
                break;
            if (json_is_string(v)) {
                rc = source_add_caption(s, json_string_value(v), (int64_t)json_string_length(v), err);
            } else if (!json_is_array(v)) {
                rc = err_set(err, ERR_FORMAT, "%s: neither a string nor an array of strings", where);
            }
            json_array_foreach (v, i, item) {
                if (rc == 0 && !json_is_string(item))
                    rc = err_set(err, ERR_FORMAT, "%s: item %zu is not a string", where, i);
                if (rc == 0)
                    rc = source_add_caption(s, json_string_value(item), (int64_t)json_string_length(item), err);
            }
            if (rc < 0)
                break;
        }
    json_decref(map);
    return rc;
}

static int captions_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    snprintf(why, size, "it holds captions.json");
    return layout_has(in, "captions.json", err);
}

static int captions_read(const LayoutInput *in, SourceList *out, Err *err)
{
    char *text;
    int64_t size;
    int rc = layout_read_text(in, "captions.json", LIST_BYTES_MAX, &text, &size, err);
    if (rc == 0)
        rc = captions_map_parse(out, text, size, "captions.json", err);
    mem_free(text);
    return rc;
}

const Layout layout_captions = {.name = "captions", .detect = captions_detect, .read = captions_read};

/* ---- two trees ------------------------------------------------------------------------------- */
static int trees_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    char *videos = path_join(in->root, "videos", err), *labels = path_join(in->root, "labels", err);
    int found = videos && labels ? file_is_dir(videos) && file_is_dir(labels) : ERR_NOMEM;
    mem_free(videos);
    mem_free(labels);
    snprintf(why, size, "it holds videos/ and labels/");
    return found;
}

typedef struct Trees {
    const LayoutInput *in;
    SourceList *out;
    json_t *labels; /* those that no video has so far */
} Trees;

static int add_label(void *user, const char *path, WalkKind kind, Err *err)
{
    const Trees *t = user;
    if (kind != WALK_FILE || !str_ends_with(path, ".txt"))
        return 0;
    return json_object_set_new_nocheck(t->labels, path, json_true()) < 0
               ? err_set(err, ERR_NOMEM, "out of memory for '%s'", path)
               : 0;
}

static int read_label(const Trees *t, Source *s, const char *name, Err *err)
{
    char *label = path_join("labels", name, err);
    int there = label ? layout_has(t->in, label, err) : ERR_NOMEM, rc = there < 0 ? there : 0;
    json_object_del(t->labels, name);
    if (there == 0)
        rc = source_warn(s, REASON_NO_CAPTION_FILE, err, "there is no %s", label);
    else if (there == 1)
        rc = layout_read_caption(t->in, s, label, err);
    mem_free(label);
    return rc;
}

static int add_clip(void *user, const char *path, WalkKind kind, Err *err)
{
    const Trees *t = user;
    Source *s;
    int64_t stem = (int64_t)strlen(path);
    if (kind == WALK_AGAIN || (kind == WALK_FILE && !source_is_video_name(path, &stem)))
        return 0;
    char *full = path_join("videos", path, err), *label = mem_printf(err, "%.*s.txt", (int)stem, path);
    int rc = full && label ? new_source(t->out, full, (int64_t)strlen(full), full, &s, err) : ERR_NOMEM;
    if (rc == 0) {
        mem_free(s->id);
        s->id = source_id_from_path(path, err);
        rc = s->id ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        rc = walk_is_refused(kind) ? walk_reject(s, kind, err) : read_label(t, s, label, err);
    mem_free(label);
    mem_free(full);
    return rc;
}

static int trees_read(const LayoutInput *in, SourceList *out, Err *err)
{
    Trees t = {in, out, json_object()};
    int rc = t.labels ? walk_folder(in, "labels", add_label, &t, err)
                      : err_set(err, ERR_NOMEM, "out of memory for '%s'", in->root);
    if (rc == 0)
        rc = walk_folder(in, "videos", add_clip, &t, err);
    if (rc == 0)
        layout_report(in->log, "labels without a video", t.labels);
    json_decref(t.labels);
    return rc;
}

const Layout layout_trees = {.name = "trees", .detect = trees_detect, .read = trees_read};
