#include "prep/layout_walk.h"

#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/frames.h"
#include "prep/source.h"

enum { DEPTH_MAX = 32 };

/* Numbered pictures, and nothing that a walk would look at for itself. */
static int holds_pictures(const char *dir, char **names, int64_t n, int *out, Err *err)
{
    int64_t number, pictures = 0;
    *out = 0;
    for (int64_t i = 0; i < n; i++) {
        if (names[i][0] == '.')
            continue;
        if (picture_number(names[i], &number)) {
            pictures++;
            continue;
        }
        if (source_is_video_name(names[i], NULL))
            return 0;
        char *path = path_join(dir, names[i], err);
        if (!path)
            return ERR_NOMEM;
        int folder = file_is_dir(path);
        mem_free(path);
        if (folder)
            return 0;
    }
    *out = pictures > 0;
    return 0;
}

static int walk(const char *root, const char *folder, int depth, WalkFn *found, void *user, Err *err)
{
    char **names = NULL, *full = path_join(root, folder, err);
    int64_t n = 0;
    int pictures = 0;
    if (!full)
        return ERR_NOMEM;
    int rc = depth > DEPTH_MAX ? err_set(err, ERR_LIMIT, "'%s' is nested more than %d folders deep", full, DEPTH_MAX)
                               : dir_list(full, &names, &n, err);
    if (rc == 0)
        rc = holds_pictures(full, names, n, &pictures, err);
    mem_free(full);
    if (rc == 0 && pictures && depth > 0)
        rc = found(user, folder, WALK_PICTURES, err);
    for (int64_t i = 0; i < n && rc == 0 && !(pictures && depth > 0); i++) {
        if (names[i][0] == '.')
            continue;
        char *path = path_join(folder, names[i], err), *at = path ? path_join(root, path, err) : NULL;
        if (!at)
            rc = ERR_NOMEM;
        else if (file_is_dir(at))
            rc = walk(root, path, depth + 1, found, user, err);
        else
            rc = found(user, path, WALK_FILE, err);
        mem_free(at);
        mem_free(path);
    }
    dir_list_free(&names, n);
    return rc;
}

int walk_folder(const char *root, WalkFn *found, void *user, Err *err)
{
    return walk(root, "", 0, found, user, err);
}
