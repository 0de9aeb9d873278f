#include "prep/layout/unused.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/layout/walk.h"

enum { NAMES = 3 };

typedef struct Rest {
    const json_t *taken;
    json_t *clips, *others, *tables; /* by path */
} Rest;

static int has_ending(const char *path, const char *const *endings)
{
    size_t n = strlen(path);
    for (; *endings; endings++)
        if (n > strlen(*endings) && strcasecmp(path + n - strlen(*endings), *endings) == 0)
            return 1;
    return 0;
}

/* A list of clips, by its name and place, that no layout reads under that name. */
static int is_table(const char *path)
{
    static const char *const ext[] = {".jsonl", ".json", ".csv", ".tsv", NULL};
    const char *slash = strchr(path, '/');
    return has_ending(path, ext) && strncmp(path_base(path), "metadata.", 9) != 0 && !(slash && strchr(slash + 1, '/'));
}

/* By its name a file that belongs to a data set without being a clip: texts, tables, pictures,
 * arrays, archives. */
static int is_companion(const char *path)
{
    static const char *const ext[] = {
        ".txt", ".json", ".jsonl", ".csv",         ".tsv",     ".md",   ".png", ".jpg",  ".jpeg", ".npy", ".npz",
        ".pkl", ".pt",   ".pth",   ".safetensors", ".parquet", ".yaml", ".yml", ".html", ".log",  ".py",  ".sh",
        ".zip", ".tar",  ".gz",    ".srt",         ".vtt",     ".xml",  ".wav", ".mp3",  ".m4a",  ".pdf", NULL};
    return has_ending(path, ext) || strcasecmp(path_base(path), "license") == 0 ||
           strcasecmp(path_base(path), "readme") == 0;
}

static int look(void *user, const char *path, WalkKind kind, Err *err)
{
    const Rest *r = user;
    json_t *to = kind == WALK_PICTURES || (kind == WALK_FILE && source_is_video_name(path, NULL)) ? r->clips
                 : kind == WALK_FILE && r->tables && is_table(path)                               ? r->tables
                 : kind == WALK_FILE && !is_companion(path)                                       ? r->others
                                                                                                  : NULL;
    if (!to || json_object_get(r->taken, path))
        return 0;
    return json_object_set_new_nocheck(to, path, json_true()) < 0
               ? err_set(err, ERR_NOMEM, "out of memory for '%s'", path)
               : 0;
}

void layout_tell(const Log *log, const char *what, const json_t *paths)
{
    char names[400] = "";
    const char *path;
    const json_t *v;
    int n = 0;
    json_object_foreach ((json_t *)paths, path, v)
        if (n++ < NAMES)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%.120s", n > 1 ? ", " : "", path);
    if (n)
        log_warn(log, "%s: %zu, such as %s", what, json_object_size(paths), names);
}

int layout_tell_rest(const char *root, const SourceList *l, int takes_all, int tables, const Log *log, Err *err)
{
    json_t *taken = json_object();
    Rest r = {taken, json_object(), json_object(), tables ? json_object() : NULL};
    int rc = taken && r.clips && r.others && (r.tables || !tables)
                 ? 0
                 : err_set(err, ERR_NOMEM, "out of memory for '%s'", root);
    for (int64_t i = 0; i < l->n && rc == 0; i++)
        if (json_object_set_new_nocheck(taken, l->item[i].path, json_true()) < 0)
            rc = err_set(err, ERR_NOMEM, "out of memory for '%s'", root);
    if (rc == 0)
        rc = walk_folder(root, look, &r, err);
    if (rc == 0) {
        if (!takes_all)
            layout_tell(log, "videos and folders of pictures that are not listed and not taken", r.clips);
        if (r.tables)
            layout_tell(
                log,
                "tables that are not read (metadata.jsonl, .json or .csv is, and one at the root that names files)",
                r.tables);
        layout_tell(log, "files that are no videos by their names and not taken", r.others);
    }
    json_decref(taken);
    json_decref(r.clips);
    json_decref(r.others);
    json_decref(r.tables);
    return rc;
}
