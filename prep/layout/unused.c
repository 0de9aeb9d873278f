#include "prep/layout/unused.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/layout/walk.h"

enum { NAMES = 3 };

typedef struct Unused {
    int with_tables;
    json_t *sources;                                   /* paths of sources */
    json_t *clips, *tables, *parquet, *links, *others; /* paths of what is reported */
} Unused;

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

static json_t *group_of(const Unused *u, const char *path, WalkKind kind)
{
    static const char *const parquet[] = {".parquet", NULL};
    if (kind == WALK_AGAIN)
        return u->links;
    if (kind == WALK_PICTURES)
        return u->clips;
    if (kind != WALK_FILE)
        return NULL;
    return source_is_video_name(path, NULL)   ? u->clips
           : has_ending(path, parquet)        ? u->parquet
           : u->with_tables && is_table(path) ? u->tables
           : !is_companion(path)              ? u->others
                                              : NULL;
}

static int look(void *user, const char *path, WalkKind kind, Err *err)
{
    const Unused *u = user;
    json_t *to = group_of(u, path, kind);
    if (!to || json_object_get(u->sources, path))
        return 0;
    return json_object_set_new_nocheck(to, path, json_true()) < 0
               ? err_set(err, ERR_NOMEM, "out of memory for '%s'", path)
               : 0;
}

void layout_report(const Log *log, const char *what, const json_t *paths)
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

static int note_sources(const SourceList *l, json_t *sources, const char *root, Err *err)
{
    for (int64_t i = 0; i < l->n; i++)
        if (json_object_set_new_nocheck(sources, l->item[i].path, json_true()) < 0)
            return err_set(err, ERR_NOMEM, "out of memory for '%s'", root);
    return 0;
}

int layout_unused(const LayoutInput *in, const SourceList *l, int listed, int tables, Err *err)
{
    Unused u = {tables, json_object(), json_object(), json_object(), json_object(), json_object(), json_object()};
    int good = u.sources && u.clips && u.tables && u.parquet && u.links && u.others;
    int rc = good ? note_sources(l, u.sources, in->root, err)
                  : err_set(err, ERR_NOMEM, "out of memory for '%s'", in->root);
    if (rc == 0)
        rc = walk_folder(in, "", look, &u, err);
    if (rc == 0) {
        if (listed)
            layout_report(in->log, "videos and folders of pictures that no list names and that are not read", u.clips);
        layout_report(in->log,
                      "tables that are not read (only metadata.jsonl, .json or .csv, and one at the root that names "
                      "files, are)",
                      u.tables);
        layout_report(in->log, "Parquet tables, which are not read (write them as metadata.jsonl)", u.parquet);
        layout_report(in->log, "links to folders that are read once, under their own path", u.links);
        layout_report(in->log, "files whose names are not those of videos, not read", u.others);
    }
    json_decref(u.sources);
    json_decref(u.clips);
    json_decref(u.tables);
    json_decref(u.parquet);
    json_decref(u.links);
    json_decref(u.others);
    return rc;
}
