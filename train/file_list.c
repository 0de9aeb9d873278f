/* Sizes and digests of a folder's files. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "train/file_list.h"

enum { DEPTH_MAX = 8 }; /* folders within one another */

/* A file that is a link is somebody else's (pipeline.h), and may have many GB: its size is enough. */
static int describe_file(const char *path, json_t **out, Err *err)
{
    struct stat st;
    char hex[65];
    int rc = stat(path, &st) < 0 ? err_errno(err, errno, "'%s'", path) : 0, linked = rc == 0 && st.st_nlink > 1;

    if (rc == 0 && !linked)
        rc = sha256_file_hex(path, hex, err);
    if (rc == 0 && !(*out = json_pack("{s:I, s:s*}", "size", (json_int_t)st.st_size, "sha256", linked ? NULL : hex)))
        rc = err_set(err, ERR_NOMEM, "'%s': out of memory", path);
    return rc;
}

/* Adds the files of folder/below ("" at first) under names relative to `folder`. */
static int describe_folder(json_t *list, const char *folder, const char *below, int depth, Err *err)
{
    char *here = *below ? path_join(folder, below, err) : mem_strdup(folder, err), **names = NULL;
    int64_t n = 0;
    int rc = here ? dir_list(here, &names, &n, err) : ERR_NOMEM;

    if (rc == 0 && depth > DEPTH_MAX)
        rc = err_set(err, ERR_LIMIT, "'%s': folders more than %d deep", here, DEPTH_MAX);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        char *name = path_join(below, names[i], err), *path = path_join(here, names[i], err);
        json_t *file = NULL;
        if (!name || !path)
            rc = ERR_NOMEM;
        else if (file_is_dir(path))
            rc = describe_folder(list, folder, name, depth + 1, err);
        else if ((rc = describe_file(path, &file, err)) == 0 && json_object_set_new(list, name, file) != 0)
            rc = err_set(err, ERR_NOMEM, "'%s': out of memory", path);
        mem_free(name);
        mem_free(path);
    }
    dir_list_free(&names, n);
    mem_free(here);
    return rc;
}

int file_list_make(const char *folder, json_t **list, Err *err)
{
    int rc = (*list = json_object()) ? describe_folder(*list, folder, "", 0, err)
                                     : err_set(err, ERR_NOMEM, "'%s': out of memory", folder);

    if (rc < 0) {
        json_decref(*list);
        *list = NULL;
    }
    return rc;
}

static int check_file(const char *path, const json_t *want, int contents, Err *err)
{
    int64_t size = file_size(path, err), stored = 0;
    const char *sha256 = json_string_value(json_object_get(want, "sha256"));
    char hex[65];
    int rc = size < 0 ? (int)size : json_get_int(want, "size", path, &stored, err);

    if (rc == 0 && size != stored)
        rc = err_set(err, ERR_FORMAT, "'%s' has %" PRId64 " bytes, but %" PRId64 " were written", path, size, stored);
    if (rc == 0 && contents && sha256 && (rc = sha256_file_hex(path, hex, err)) == 0 && strcmp(hex, sha256))
        rc = err_set(err, ERR_FORMAT, "'%s' has other bytes than were written: its SHA-256 differs", path);
    return rc;
}

static int check_files(const char *folder, const json_t *list, int contents, Err *err)
{
    const char *name;
    json_t *want;
    int rc = 0;

    json_object_foreach ((json_t *)list, name, want) {
        char *path = path_join(folder, name, err);
        if (!path)
            rc = ERR_NOMEM;
        else if (path_check_relative(name, err) < 0)
            rc = err_wrap(err, ERR_FORMAT, "the file list of '%s'", folder);
        else
            rc = check_file(path, want, contents, err);
        mem_free(path);
        if (rc < 0)
            break;
    }
    return rc;
}

int file_list_check(const char *folder, const json_t *list, Err *err)
{
    return check_files(folder, list, 1, err);
}

int file_list_check_sizes(const char *folder, const json_t *list, Err *err)
{
    return check_files(folder, list, 0, err);
}
