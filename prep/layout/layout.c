#include "prep/layout/layout.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/fashion.h"
#include "prep/layout/lists.h"
#include "prep/layout/metadata.h"
#include "prep/layout/pairs.h"
#include "prep/layout/unused.h"
#include "prep/layout/walk.h"

const Layout *const layouts[] = {&layout_metadata, &layout_fashion, &layout_lists,
                                 &layout_captions, &layout_trees,   &layout_table,
                                 &layout_ubc,      &layout_pairs,   NULL};

static int choose_named(const char *name, const Layout **out, Err *err)
{
    const char *names[sizeof layouts / sizeof *layouts] = {0}; /* NULL-terminated */
    for (int i = 0; layouts[i]; i++) {
        names[i] = layouts[i]->name;
        if (strcmp(name, layouts[i]->name) == 0) {
            *out = layouts[i];
            return 0;
        }
    }
    const char *near = str_nearest(name, names);
    char all[256] = "";
    for (int i = 0; names[i]; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    return err_set(err, ERR_USAGE, "layout '%s' is not known%s%s%s; the layouts are %s", name,
                   near ? ", perhaps '" : "", near ? near : "", near ? "'" : "", all);
}

/* The first layout that is no fallback and fits; ERR_USAGE when two do. */
static int choose_telling(const LayoutInput *in, const Layout **out, char *why, size_t size, Err *err)
{
    char also[256];
    for (int i = 0; layouts[i]; i++) {
        if (layouts[i]->fallback)
            continue;
        int rc = layouts[i]->detect(in, *out ? also : why, *out ? sizeof also : size, err);
        if (rc < 0)
            return rc;
        if (rc == 1 && *out)
            return err_set(err, ERR_USAGE, "'%s' looks like two layouts: %s (%s) and %s (%s); choose one with --layout",
                           in->root, (*out)->name, why, layouts[i]->name, also);
        if (rc == 1)
            *out = layouts[i];
    }
    return 0;
}

static int choose_fallback(const LayoutInput *in, const Layout **out, char *why, size_t size, Err *err)
{
    int rc = lists_refuse_lone(in, err);
    for (int i = 0; layouts[i] && !*out && rc == 0; i++) {
        if (!layouts[i]->fallback)
            continue;
        if ((rc = layouts[i]->detect(in, why, size, err)) == 1) {
            *out = layouts[i];
            rc = 0;
        }
    }
    return rc;
}

static int stop_at_parquet(void *user, const char *path, WalkKind kind, Err *err)
{
    (void)err;
    if (kind != WALK_FILE || !str_ends_with(path, ".parquet"))
        return 0;
    snprintf(user, 160, "%.150s", path);
    return 1;
}

/* No layout reads this folder: names Parquet tables, where there are any. */
static int nothing_found(const LayoutInput *in, Err *err)
{
    char table[160];
    int rc = walk_folder(in, "", stop_at_parquet, table, err);
    if (rc == 1)
        return err_set(err, ERR_NOTFOUND,
                       "'%s' holds no videos; it holds Parquet tables such as %s, which are not read: write their "
                       "videos as files, and their captions as metadata.jsonl",
                       in->root, table);
    return rc < 0 ? rc
                  : err_set(err, ERR_NOTFOUND,
                            "'%s' holds no metadata, lists, captions, Fashion-Text2Video files, pictures or videos",
                            in->root);
}

int layout_choose(const LayoutInput *in, const char *name, const Layout **out, char *why, size_t size, Err *err)
{
    *out = NULL;
    if (!file_is_dir(in->root))
        return err_set(err, ERR_NOTFOUND, "the source '%s' %s", in->root,
                       file_exists(in->root) ? "is not a folder" : "does not exist");
    if (name) {
        snprintf(why, size, "asked for with --layout");
        return choose_named(name, out, err);
    }
    int rc = choose_telling(in, out, why, size, err);
    if (rc == 0 && !*out)
        rc = choose_fallback(in, out, why, size, err);
    return rc == 0 && !*out ? nothing_found(in, err) : rc;
}

/* ---- sources behind links -------------------------------------------------------------------- */
/* Rejects the source when root/path leads out of the root. */
static int reject_outside(const LayoutInput *in, Source *s, const char *path, Err *err)
{
    char *target;
    int rc = layout_leads_out(in->root, path, &target, err);
    if (rc == 1)
        rc = source_reject(s, REASON_LINK_OUTSIDE, err,
                           "'%s' leads through a link to '%s', outside of the source folder (" LAYOUT_LINKS_HINT ")",
                           path, target);
    mem_free(target);
    return rc;
}

/* Pictures of a folder that are links. */
static int check_pictures(const LayoutInput *in, Source *s, const char *full, Err *err)
{
    char **names;
    int64_t n;
    struct stat st;
    Err unreadable = {0};
    if (dir_list(full, &names, &n, &unreadable) < 0)
        return unreadable.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", unreadable.msg) : 0;
    int rc = 0;
    for (int64_t i = 0; i < n && rc == 0 && !s->reject_code; i++) {
        char *path = path_join(s->path, names[i], err), *at = path ? path_join(in->root, path, err) : NULL;
        if (!at)
            rc = ERR_NOMEM;
        else if (lstat(at, &st) == 0 && S_ISLNK(st.st_mode))
            rc = reject_outside(in, s, path, err);
        mem_free(at);
        mem_free(path);
    }
    dir_list_free(&names, n);
    return rc;
}

/* `checked`: the folder of the source before, which need not be looked at again. */
static int check_links(const LayoutInput *in, Source *s, const char *full, char **checked, Err *err)
{
    struct stat st;
    char *folder = path_dir(s->path, err);
    if (!folder)
        return ERR_NOMEM;
    int rc = 0;
    if ((lstat(full, &st) == 0 && S_ISLNK(st.st_mode)) || !*checked || strcmp(*checked, folder) != 0)
        rc = reject_outside(in, s, s->path, err);
    mem_free(*checked);
    *checked = rc < 0 || s->reject_code ? NULL : folder;
    if (!*checked)
        mem_free(folder);
    if (rc == 0 && s->kind == SOURCE_FRAMES && !s->reject_code)
        rc = check_pictures(in, s, full, err);
    return rc;
}

static int check_source(const LayoutInput *in, Source *s, char **checked, Err *err)
{
    if (path_check_relative(s->path, err) < 0)
        return err_wrap(err, ERR_FORMAT, "%s", s->where ? s->where : s->id);
    char *full = path_join(in->root, s->path, err);
    if (!full)
        return ERR_NOMEM;
    s->kind = file_is_dir(full) ? SOURCE_FRAMES : SOURCE_VIDEO;
    int rc = in->follow_links ? 0 : check_links(in, s, full, checked, err);
    mem_free(full);
    return rc;
}

int layout_read(const Layout *layout, const LayoutInput *in, SourceList *out, Err *err)
{
    char *checked = NULL;
    int rc = layout->read(in, out, err);
    for (int64_t i = 0; i < out->n && rc == 0; i++)
        rc = check_source(in, &out->item[i], &checked, err);
    mem_free(checked);
    if (rc == 0)
        rc = source_list_settle(out, err);
    return rc < 0 ? rc : layout_unused(in, out, !layout->reads_all, layout->reads_no_table, err);
}
