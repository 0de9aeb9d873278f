/* Pairs: x.mp4 with its caption in x.txt beside it, in any depth of folders. */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout.h"

enum { DEPTH_MAX = 32 };

/* Calls `file` for each file below root in path order; a return other than 0 stops and is returned. */
static int walk(const char *root, const char *folder, int depth, int (*file)(void *user, const char *path, Err *err), void *user, Err *err)
{
    char **names = NULL, *full = path_join(root, folder, err);
    int64_t n = 0;
    if (!full)
        return ERR_NOMEM;
    int rc = depth > DEPTH_MAX ? err_set(err, ERR_LIMIT, "'%s' is nested more than %d folders deep", full, DEPTH_MAX)
                               : dir_list(full, &names, &n, err);
    mem_free(full);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        if (names[i][0] == '.')
            continue;
        char *path = path_join(folder, names[i], err), *at = path ? path_join(root, path, err) : NULL;
        if (!at)
            rc = ERR_NOMEM;
        else if (file_is_dir(at))
            rc = walk(root, path, depth + 1, file, user, err);
        else
            rc = file(user, path, err);
        mem_free(at);
        mem_free(path);
    }
    dir_list_free(&names, n);
    return rc;
}

static int stop_at_first(void *user, const char *path, Err *err)
{
    (void)err;
    if (!source_is_video_name(path, NULL))
        return 0;
    snprintf(user, 128, "it holds videos such as %.100s", path);
    return 1;
}

static int pairs_detect(const char *root, char *why, size_t size, Err *err)
{
    char text[128] = "";
    int rc = walk(root, "", 0, stop_at_first, text, err);
    snprintf(why, size, "%s", text);
    return rc;
}

typedef struct Pairs {
    const char *root;
    SourceList *out;
    json_t *texts; /* caption files that belong to no video so far */
} Pairs;

static int read_caption(const char *root, Source *s, Err *err)
{
    int64_t stem = 0, size;
    source_is_video_name(s->path, &stem);
    char *text = NULL, *file = mem_printf(err, "%s/%.*s.txt", root, (int)stem, s->path);
    if (!file)
        return ERR_NOMEM;
    int rc = 0;
    if (!file_exists(file)) {
        rc = source_warn(s, "no_caption_file", err, "there is no %s", path_base(file));
    } else {
        Err why = {0};
        rc = file_read(file, CAPTION_BYTES_MAX, &text, &size, &why);
        if (rc == ERR_NOMEM)
            err_set(err, rc, "%s", why.msg);
        else
            rc = rc < 0 ? source_reject(s, "bad_caption", err, "%s", why.msg) : source_add_caption(s, text, size, err);
    }
    mem_free(text);
    mem_free(file);
    return rc;
}

static int add_file(void *user, const char *path, Err *err)
{
    const Pairs *pairs = user;
    Source *s;
    if (str_ends_with(path, ".txt") && json_object_set_new_nocheck(pairs->texts, path, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for '%s'", path);
    if (!source_is_video_name(path, NULL))
        return 0;
    int rc = source_list_add(pairs->out, &s, err);
    if (rc < 0)
        return rc;
    s->path = mem_strdup(path, err);
    s->id = source_id_from_path(path, err);
    if (!s->path || !s->id)
        return ERR_NOMEM;
    char first[16];
    const char *slash = strchr(path, '/');
    snprintf(first, sizeof first, "%.*s", slash ? (int)(slash - path) : 0, path);
    if (source_split(first))
        s->split = source_split(first);
    return read_caption(pairs->root, s, err);
}

/* A caption whose video is missing or misspelt must not go unsaid. */
static int warn_of_orphans(const Pairs *pairs, const Log *log, Err *err)
{
    for (int64_t i = 0; i < pairs->out->n; i++) {
        const char *path = pairs->out->item[i].path;
        int64_t stem = 0;
        source_is_video_name(path, &stem);
        char *text = mem_printf(err, "%.*s.txt", (int)stem, path);
        if (!text)
            return ERR_NOMEM;
        json_object_del(pairs->texts, text);
        mem_free(text);
    }
    size_t n = json_object_size(pairs->texts);
    if (n)
        log_warn(log, "text files without a video: %zu, such as %s", n, json_object_iter_key(json_object_iter(pairs->texts)));
    return 0;
}

static int pairs_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    (void)seed;
    Pairs pairs = {root, out, json_object()};
    int rc = pairs.texts ? walk(root, "", 0, add_file, &pairs, err) : err_set(err, ERR_NOMEM, "out of memory for '%s'", root);
    if (rc == 0)
        rc = warn_of_orphans(&pairs, log, err);
    json_decref(pairs.texts);
    return rc;
}

const Layout layout_pairs = {"pairs", "x.mp4 with its caption in x.txt", pairs_detect, pairs_read};
