/* Where metadata files lie: at the root, in folders named after splits, or under another name. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/metadata.h"
#include "prep/layout/metadata_internal.h"

/* The only one of metadata.jsonl, .json, .csv: 1, 0 for none, ERR_USAGE for several. */
static int find_metadata(const char *root, const char **name, Err *err)
{
    static const char *const names[] = {"metadata.jsonl", "metadata.json", "metadata.csv"};
    *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(root, names[i], err);
        if (!path)
            return ERR_NOMEM;
        int found = file_exists(path);
        mem_free(path);
        if (found && *name)
            return err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", root, *name, names[i]);
        if (found)
            *name = names[i];
    }
    return *name != NULL;
}

/* Folders that may have a metadata file of their own, whose paths begin there. */
static const char *const split_folders[] = {"train", "val", "valid", "validation", "dev", "eval", "test"};
enum { SPLIT_FOLDERS = sizeof split_folders / sizeof *split_folders };
/* [0]: the root's; then those of split_folders; NULL none */
typedef struct Metadata {
    char *file[1 + SPLIT_FOLDERS];
    int n;
} Metadata;

static void metadata_fini(Metadata *m)
{
    for (int i = 0; i <= SPLIT_FOLDERS; i++)
        mem_free(m->file[i]);
}

/* All metadata files; the root's and a split's together are ERR_USAGE. */
static int find_all_metadata(const char *root, Metadata *m, Err *err)
{
    int rc = 0;
    *m = (Metadata){0};
    for (int i = 0; i <= SPLIT_FOLDERS && rc >= 0; i++) {
        const char *name, *folder = i ? split_folders[i - 1] : "";
        char *path = path_join(root, folder, err);
        rc = path ? find_metadata(path, &name, err) : ERR_NOMEM;
        mem_free(path);
        if (rc != 1)
            continue;
        m->n++;
        if (!(m->file[i] = path_join(folder, name, err)))
            rc = ERR_NOMEM;
        else if (i && m->file[0])
            rc = err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", root, m->file[0], m->file[i]);
    }
    return rc < 0 ? rc : m->n > 0;
}

static int metadata_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    Metadata m;
    int found = find_all_metadata(in->root, &m, err);
    size_t n = found == 1 ? (size_t)snprintf(why, size, "it holds ") : 0;
    for (int i = 0, named = 0; i <= SPLIT_FOLDERS && found == 1 && n < size; i++)
        if (m.file[i])
            n += (size_t)snprintf(why + n, size - n, "%s%s", named++ ? ", " : "", m.file[i]);
    metadata_fini(&m);
    return found;
}

/* A split's own metadata: paths begin in its folder, whose name is the split of objects that give
 * none. */
static int read_split(const LayoutInput *in, const char *folder, const char *file, SourceList *out, Err *err)
{
    int64_t before = out->n;
    int rc = metadata_read_file(in, file, out, err);
    for (int64_t i = before; i < out->n && rc == 0; i++) {
        Source *s = &out->item[i];
        char *path = path_join(folder, s->path, err),
             *id = path && !s->id_given ? source_id_from_path(path, err) : NULL;
        if (!path || (!s->id_given && !id)) {
            mem_free(path);
            return ERR_NOMEM;
        }
        mem_free(s->path);
        s->path = path;
        if (id) {
            mem_free(s->id);
            s->id = id;
        }
        s->split = s->split_given ? s->split : source_split(folder);
    }
    return rc;
}

static int metadata_read(const LayoutInput *in, SourceList *out, Err *err)
{
    Metadata m;
    int rc = find_all_metadata(in->root, &m, err);
    if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' holds no metadata.jsonl, metadata.json or metadata.csv, nor do train/, val/ or test/ in it",
                     in->root);
    for (int i = 0; i <= SPLIT_FOLDERS && rc >= 0; i++)
        if (m.file[i])
            rc = i ? read_split(in, split_folders[i - 1], m.file[i], out, err)
                   : metadata_read_file(in, m.file[i], out, err);
    metadata_fini(&m);
    return rc < 0 ? rc : 0;
}

const Layout layout_metadata = {
    .name = "metadata", .detect = metadata_detect, .read = metadata_read, .reads_no_table = 1};

/* ---- a table of another name ----------------------------------------------------------------- */
/* Whether the file's first bytes (of CSV: its header) name one of the keys a path stands under. */
static int names_files(const char *path, const char *name)
{
    char head[4096] = "";
    struct stat st;
    FILE *file = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rbe") : NULL;
    size_t got = file ? fread(head, 1, sizeof head - 1, file) : 0;
    head[got] = 0;
    if (file)
        fclose(file);
    if (str_ends_with(name, ".csv"))
        head[strcspn(head, "\r\n")] = 0;
    for (int k = 0; metadata_path_keys[k]; k++)
        if (strcasestr(head, metadata_path_keys[k]))
            return 1;
    return 0;
}

/* By its name a table that could be metadata, and no sign of another layout. */
static int is_table_name(const char *name)
{
    static const char *const others[] = {"captions.json", "captions_app.json", "caption_motion_template.json",
                                         "categories.json", NULL};
    return strncmp(name, "metadata.", 9) != 0 && !metadata_is_one_of(name, others) &&
           (str_ends_with(name, ".jsonl") || str_ends_with(name, ".csv") || str_ends_with(name, ".json"));
}

/* The only such file at the root that names files: 1 or 0; ERR_USAGE for several. */
static int find_table(const LayoutInput *in, char *name, size_t size, Err *err)
{
    char **names;
    int64_t n;
    int count = 0, rc = dir_list(in->root, &names, &n, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        if (!is_table_name(names[i]) || strlen(names[i]) >= size)
            continue;
        char *path = path_join(in->root, names[i], err);
        int found = path && names_files(path, names[i]);
        rc = path ? 0 : ERR_NOMEM;
        mem_free(path);
        if (found && count++ == 0)
            snprintf(name, size, "%s", names[i]);
        else if (found)
            rc = err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", in->root, name, names[i]);
    }
    dir_list_free(&names, n);
    return rc < 0 ? rc : count;
}

static int table_detect(const LayoutInput *in, char *why, size_t size, Err *err)
{
    char name[256];
    int found = find_table(in, name, sizeof name, err);
    if (found == 1)
        snprintf(why, size, "it holds %s, which names files", name);
    return found;
}

static int table_read(const LayoutInput *in, SourceList *out, Err *err)
{
    char name[256];
    int found = find_table(in, name, sizeof name, err);
    if (found == 0)
        return err_set(err, ERR_NOTFOUND, "'%s' holds no .jsonl, .csv or .json file that names files", in->root);
    return found < 0 ? found : metadata_read_file(in, name, out, err);
}

const Layout layout_table = {.name = "table", .detect = table_detect, .read = table_read};
