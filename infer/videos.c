#include "infer/videos.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "infer/prompts.h"

enum { DEPTH_MAX = 32 };

static const char *const endings[] = {".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".gif", ".webp", NULL};

static int is_video(const char *name)
{
    const char *dot = strrchr(name, '.');
    for (int i = 0; dot && endings[i]; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return 1;
    return 0;
}

/* ---- items ------------------------------------------------------------------------------------ */
void video_item_fini(VideoItem *v)
{
    mem_free(v->path);
    mem_free(v->id);
    mem_free(v->prompt);
    mem_free(v->category);
}

void videos_fini(VideoList *v)
{
    for (int64_t i = 0; i < v->n; i++)
        video_item_fini(&v->item[i]);
    mem_free(v->item);
    *v = (VideoList){0};
}

static int put(char **to, const char *text, Err *err)
{
    mem_free(*to);
    *to = NULL;
    return !text || (*to = mem_strdup(text, err)) ? 0 : ERR_NOMEM;
}

/* A copy of everything is made; NULL where it is not known. */
static int add(VideoList *v, const char *path, const char *id, const char *prompt, const char *category, int64_t seed,
               Err *err)
{
    if (mem_grow(&v->item, v->n, &v->room, sizeof *v->item, err) < 0)
        return ERR_NOMEM;
    VideoItem *item = &v->item[v->n++];
    *item = (VideoItem){.seed = seed};
    int rc = put(&item->path, path, err);
    if (rc == 0)
        rc = put(&item->id, id, err);
    if (rc == 0)
        rc = put(&item->prompt, prompt, err);
    return rc == 0 ? put(&item->category, category, err) : rc;
}

/* The name without its ending; mem_free. */
static char *stem(const char *name, Err *err)
{
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    return mem_strndup(name, dot && dot > (slash ? slash + 1 : name) ? dot - name : (int64_t)strlen(name), err);
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t seed_of(const json_t *o)
{
    const json_t *seed = json_object_get(o, "seed");
    return json_is_integer(seed) ? (int64_t)json_integer_value(seed) : -1;
}

/* ---- single videos and folders ---------------------------------------------------------------- */
int video_record(const char *path, json_t **out, Err *err)
{
    Err ignored = {0};
    char *base = stem(path, err), *beside = base ? mem_printf(err, "%s.json", base) : NULL;
    int rc = beside ? 0 : ERR_NOMEM;
    *out = NULL;
    if (rc == 0 && file_exists(beside) && json_read_file(out, beside, &ignored) == 0 &&
        schema_check("sample", *out, beside, &ignored) < 0) {
        json_decref(*out);
        *out = NULL;
    }
    mem_free(base);
    mem_free(beside);
    return rc == 0 && ignored.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : rc;
}

static int add_video(VideoList *v, const char *path, const char *name, Err *err)
{
    json_t *record;
    char *id = stem(name, err);
    int rc = id ? video_record(path, &record, err) : ERR_NOMEM;
    if (rc == 0) {
        rc = add(v, path, record ? text_of(record, "id") : id, text_of(record, "prompt"), text_of(record, "category"),
                 seed_of(record), err);
        json_decref(record);
    }
    mem_free(id);
    return rc;
}

/* Whether a video is what weft-infer sample wrote beside STEM.mp4 (--gif, --webp): the same sample once more. */
static int is_another_form(const char *path, int *yes, Err *err)
{
    json_t *record = NULL;
    char *base = stem(path, err), *mp4 = base ? mem_printf(err, "%s.mp4", base) : NULL;
    int rc = mp4 ? 0 : ERR_NOMEM;
    *yes = 0;
    if (rc == 0 && strcmp(path, mp4) != 0 && file_exists(mp4)) {
        rc = video_record(path, &record, err);
        *yes = record != NULL;
        json_decref(record);
    }
    mem_free(base);
    mem_free(mp4);
    return rc;
}

static int add_found(VideoList *v, const char *path, const char *name, Err *err)
{
    int another, rc = is_another_form(path, &another, err);
    return rc < 0 || another ? rc : add_video(v, path, name, err);
}

static int add_below(VideoList *v, const char *dir, const char *below, int depth, Err *err)
{
    struct stat st;
    char **names;
    int64_t n;
    int rc = dir_list(dir, &names, &n, err);
    if (rc < 0)
        return rc;
    if (depth > DEPTH_MAX)
        rc = err_set(err, ERR_LIMIT, "'%s' lies more than %d folders deep", dir, DEPTH_MAX);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        if (names[i][0] == '.')
            continue;
        char *path = path_join(dir, names[i], err), *name = path_join(below, names[i], err);
        if (!path || !name)
            rc = ERR_NOMEM;
        else if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            rc = add_below(v, path, name, depth + 1, err);
        else if (is_video(names[i]) && !file_is_dir(path))
            rc = add_found(v, path, name, err);
        mem_free(path);
        mem_free(name);
    }
    dir_list_free(&names, n);
    return rc;
}

/* ---- an index of samples ---------------------------------------------------------------------- */
static int add_index(VideoList *v, const char *path, Err *err)
{
    json_t *index = NULL;
    const json_t *s;
    size_t i;
    char *dir = path_dir(path, err);
    int rc = dir ? json_read_file(&index, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = schema_check("sample-index", index, path, err);
    json_array_foreach (json_object_get(index, "samples"), i, s) {
        char *file = NULL;
        if (rc == 0)
            rc = path_check_relative(text_of(s, "file"), err);
        if (rc == 0)
            rc = (file = path_join(dir, text_of(s, "file"), err)) ? 0 : ERR_NOMEM;
        if (rc == 0)
            rc = add(v, file, text_of(s, "id"), text_of(s, "prompt"), text_of(s, "category"), seed_of(s), err);
        mem_free(file);
    }
    json_decref(index);
    mem_free(dir);
    return rc;
}

/* Whether a folder's index.json is one of samples and not a file of that name from elsewhere. */
static int is_index(const char *path, int *yes, Err *err)
{
    json_t *o = NULL;
    Err ignored = {0};
    *yes = file_exists(path) && json_read_file(&o, path, &ignored) == 0 && json_object_get(o, "samples");
    json_decref(o);
    return ignored.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : 0;
}

static int add_folder(VideoList *v, const char *dir, Err *err)
{
    char *index = path_join(dir, "index.json", err);
    int yes = 0, rc = index ? is_index(index, &yes, err) : ERR_NOMEM;
    if (rc == 0)
        rc = yes ? add_index(v, index, err) : add_below(v, dir, "", 0, err);
    mem_free(index);
    return rc;
}

/* ---- lists ------------------------------------------------------------------------------------ */
typedef struct Listing {
    VideoList *v;
    const char *dir;
    int json;
} Listing;

static int add_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    const Listing *l = user;
    json_t *o = NULL;
    const char *name = text;
    int rc = 0;
    if (size == 0)
        return err_set(err, ERR_FORMAT, "%s is blank, expected the path of a video", where);
    if ((int64_t)strlen(text) != size || !str_is_utf8(text, size))
        return err_set(err, ERR_FORMAT, "%s is not UTF-8", where);
    if (l->json) {
        rc = json_parse(&o, text, size, where, err);
        if (rc == 0)
            rc = schema_check("video-list", o, where, err);
        name = text_of(o, "video");
    }
    char *path = rc < 0 ? NULL : name[0] == '/' ? mem_strdup(name, err) : path_join(l->dir, name, err), *id = NULL;
    if (rc == 0 && (!path || !(id = stem(name, err))))
        rc = ERR_NOMEM;
    if (rc == 0 && o)
        rc = add(l->v, path, text_of(o, "id") ? text_of(o, "id") : id, text_of(o, "prompt"), text_of(o, "category"),
                 seed_of(o), err);
    else if (rc == 0)
        rc = add_video(l->v, path, name, err);
    json_decref(o);
    mem_free(path);
    mem_free(id);
    return rc;
}

static int add_list(VideoList *v, const char *path, int json, Err *err)
{
    char *dir = path_dir(path, err);
    Listing l = {v, dir, json};
    int rc = dir ? lines_read(path, LINE_BYTES_MAX, add_line, &l, err) : ERR_NOMEM;
    mem_free(dir);
    return rc;
}

int videos_read(VideoList *out, const StrList *arguments, const char *what, Err *err)
{
    int rc = 0;
    *out = (VideoList){0};
    for (int64_t i = 0; i < arguments->n && rc == 0; i++) {
        const char *a = arguments->item[i];
        if (file_is_dir(a))
            rc = add_folder(out, a, err);
        else if (!file_exists(a))
            rc = err_set(err, ERR_NOTFOUND, "'%s' does not exist, expected a video, a folder or a list of videos", a);
        else if (str_ends_with(a, ".json"))
            rc = add_index(out, a, err);
        else if (str_ends_with(a, ".txt") || str_ends_with(a, ".jsonl"))
            rc = add_list(out, a, str_ends_with(a, ".jsonl"), err);
        else
            rc = add_video(out, a, path_base(a), err);
    }
    if (rc == 0 && out->n == 0)
        rc = err_set(err, ERR_USAGE, "no %s in '%s'", what, arguments->n ? arguments->item[0] : "");
    return rc;
}

/* ---- the same video twice --------------------------------------------------------------------- */
/* Whether the file was seen before; from here on it was. */
static int seen_before(json_t *seen, const char *path, int *yes, Err *err)
{
    char *real = realpath(path, NULL);
    const char *key = real ? real : path; /* one that is not there is named when it is to be measured */
    *yes = json_object_get(seen, key) != NULL;
    int rc = json_object_set_new_nocheck(seen, key, json_true());
    free(real);
    return rc < 0 ? err_set(err, ERR_NOMEM, "no memory for the videos' names") : 0;
}

int videos_once(VideoList *v, const char *what, const Log *log, Err *err)
{
    json_t *seen = json_object();
    int64_t kept = 0, again = 0;
    int rc = seen ? 0 : err_set(err, ERR_NOMEM, "no memory for the videos' names");
    for (int64_t i = 0; i < v->n; i++) {
        int yes = 0;
        if (rc == 0)
            rc = seen_before(seen, v->item[i].path, &yes, err);
        if (yes && again++ == 0)
            log_warn(log, "'%s' is named more than once among the %s; each is measured once", v->item[i].path, what);
        if (yes)
            video_item_fini(&v->item[i]);
        else
            v->item[kept++] = v->item[i];
    }
    v->n = kept;
    json_decref(seen);
    return rc;
}

/* ---- prompts ---------------------------------------------------------------------------------- */
int videos_take_prompts(VideoList *v, const char *file, const Log *log, Err *err)
{
    PromptList prompts = {0};
    json_t *at = json_object();
    int64_t found = 0;
    int rc = at ? prompts_read(&prompts, &(StrList){0}, file, 0, 1, err)
                : err_set(err, ERR_NOMEM, "no memory for the prompts");
    for (int64_t i = 0; i < prompts.n && rc == 0; i++)
        if (json_object_set_new(at, prompts.item[i].id, json_integer(i)) < 0 ||
            (!json_object_get(at, path_base(prompts.item[i].id)) &&
             json_object_set_new(at, path_base(prompts.item[i].id), json_integer(i)) < 0))
            rc = err_set(err, ERR_NOMEM, "no memory for the prompts");
    for (int64_t i = 0; i < v->n && rc == 0; i++) {
        const json_t *k = json_object_get(at, v->item[i].id);
        k = k ? k : json_object_get(at, path_base(v->item[i].id));
        if (!k)
            continue;
        const Prompt *p = &prompts.item[json_integer_value(k)];
        found++;
        rc = put(&v->item[i].prompt, p->text, err);
        if (rc == 0 && p->category)
            rc = put(&v->item[i].category, p->category, err);
    }
    if (rc == 0 && found == 0)
        rc = err_set(err, ERR_USAGE,
                     "'%s' names none of the videos: a line's id must be a video's name without its ending, as "
                     "{\"id\": \"%s\", \"prompt\": \"...\"} in a .jsonl file",
                     file, path_base(v->item[0].id));
    if (rc == 0 && found < v->n)
        log_warn(log, "'%s' has no prompt for %" PRId64 " of %" PRId64 " videos", file, v->n - found, v->n);
    json_decref(at);
    prompts_fini(&prompts);
    return rc;
}
