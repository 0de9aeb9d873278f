#include "prep/layout/layout.h"

#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/unused.h"

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

int layout_choose(const char *root, const char *name, const Layout **out, char *why, size_t size, Err *err)
{
    *out = NULL;
    if (!file_is_dir(root))
        return err_set(err, ERR_NOTFOUND, "the source '%s' %s", root,
                       file_exists(root) ? "is not a folder" : "does not exist");
    if (name) {
        snprintf(why, size, "asked for with --layout");
        return choose_named(name, out, err);
    }
    char also[256];
    for (int i = 0; layouts[i]; i++) {
        /* What any tree of videos looks like counts only when nothing more telling is there. */
        if ((layouts[i] == &layout_ubc || layouts[i] == &layout_pairs) && *out)
            break;
        int rc = layouts[i] == &layout_ubc ? lists_refuse_lone(root, err) : 0;
        if (rc == 0)
            rc = layouts[i]->detect(root, *out ? also : why, *out ? sizeof also : size, err);
        if (rc < 0)
            return rc;
        if (rc == 1 && *out)
            return err_set(err, ERR_USAGE, "'%s' looks like two layouts: %s (%s) and %s (%s); choose one with --layout",
                           root, (*out)->name, why, layouts[i]->name, also);
        if (rc == 1)
            *out = layouts[i];
    }
    if (!*out)
        return err_set(err, ERR_NOTFOUND,
                       "'%s' holds no metadata, lists, captions, Fashion-Text2Video files, pictures or videos", root);
    return 0;
}

int layout_read(const Layout *layout, const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    int rc = layout->read(root, seed, out, log, err);
    for (int64_t i = 0; i < out->n && rc == 0; i++) {
        Source *s = &out->item[i];
        if (path_check_relative(s->path, err) < 0)
            return err_wrap(err, ERR_FORMAT, "%s", s->where ? s->where : s->id);
        char *full = path_join(root, s->path, err);
        if (!full)
            return ERR_NOMEM;
        s->kind = file_is_dir(full) ? SOURCE_FRAMES : SOURCE_VIDEO;
        mem_free(full);
    }
    if (rc == 0)
        rc = source_list_settle(out, err);
    return rc < 0 ? rc
                  : layout_tell_rest(root, out, layout == &layout_ubc || layout == &layout_pairs,
                                     layout == &layout_ubc || layout == &layout_pairs || layout == &layout_metadata,
                                     log, err);
}
