/* A pipeline's parts: checking that they can be copied, and copying. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "train/pipeline.h"

enum { DEPTH_MAX = 4 }; /* folders within a component */

static int copy_bytes(AtomicFile *out, const char *to, FILE *in, const char *from, Err *err)
{
    enum { CHUNK = 1 << 20 };
    char *buffer = mem_calloc(CHUNK, 1, err);
    size_t n;
    int rc = buffer ? 0 : ERR_NOMEM;

    while (rc == 0 && (n = fread(buffer, 1, CHUNK, in)) > 0)
        if (fwrite(buffer, 1, n, atomic_stream(out)) != n)
            rc = err_errno(err, errno, "writing '%s'", to);
    if (rc == 0 && ferror(in))
        rc = err_errno(err, errno, "reading '%s'", from);
    mem_free(buffer);
    return rc;
}

/* A file of its own: an edit of one does not reach the other.  Where the file system can, the two share
 * their blocks until one is written to.  With `link` the same file once more, if that can be: not
 * across file systems, nor of another user's file. */
static int copy_file(const char *to, const char *from, int link, Err *err)
{
    if (link && linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    FILE *in = fopen(from, "rb");
    AtomicFile *out = NULL;
    int rc = in ? atomic_open(&out, to, err) : err_errno(err, errno, "opening '%s'", from);

    if (rc == 0 && ioctl(fileno(atomic_stream(out)), FICLONE, fileno(in)) != 0)
        rc = copy_bytes(out, to, in, from, err);
    if (rc == 0)
        rc = atomic_commit(&out, err);
    atomic_abort(&out);
    if (in)
        fclose(in);
    return rc;
}

/* ---- what happens to each file --------------------------------------------------------------- */

/* One walk over the parts: it copies, or checks and counts bytes. */
typedef struct Walk {
    int copies, link;
    int64_t bytes;
} Walk;

static int check_file(Walk *w, const char *path, Err *err)
{
    struct stat st;
    int rc = file_look(path, err);

    if (rc <= 0)
        return rc;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "'%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is no regular file", path);
    if (access(path, R_OK) < 0)
        return err_errno(err, errno, "'%s' cannot be read", path);
    w->bytes += st.st_size;
    return 0;
}

static int walk_file(Walk *w, const char *to, const char *from, Err *err)
{
    return w->copies ? copy_file(to, from, w->link, err) : check_file(w, from, err);
}

static int walk_tree(Walk *w, const char *to, const char *from, int depth, Err *err)
{
    char **names = NULL;
    int64_t n = 0;
    int rc;

    if (depth > DEPTH_MAX)
        return err_set(err, ERR_LIMIT, "'%s': folders more than %d deep", from, DEPTH_MAX);
    rc = w->copies ? dir_make(to, err) : 0;
    if (rc == 0)
        rc = dir_list(from, &names, &n, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        char *a = path_join(to, names[i], err), *b = path_join(from, names[i], err);
        if (!a || !b)
            rc = ERR_NOMEM;
        else
            rc = file_is_dir(b) ? walk_tree(w, a, b, depth + 1, err) : walk_file(w, a, b, err);
        mem_free(a);
        mem_free(b);
    }
    dir_list_free(&names, n);
    return rc == 0 && w->copies ? dir_sync(to, err) : rc;
}

/* ---- the components -------------------------------------------------------------------------- */

static int walk_component(Walk *w, const char *folder, const char *base, const char *name, const Log *log, Err *err)
{
    char *to = NULL, *from = NULL;
    int rc;

    if (strchr(name, '/') || path_check_relative(name, NULL) < 0)
        return err_set(err, ERR_FORMAT, "'%s/model_index.json': component '%s' is no plain name", base, name);
    to = path_join(folder, name, err);
    from = path_join(base, name, err);
    rc = to && from ? file_look(from, err) : ERR_NOMEM;
    if (rc > 0)
        rc = walk_tree(w, to, from, 0, err);
    else if (rc == 0)
        log_warn(log, "'%s' lists '%s' but has no such folder: final/ lacks it too", base, name);
    mem_free(to);
    mem_free(from);
    return rc;
}

/* A component's entry is [library, class]; [null, null] is one that was left out. */
static int is_component(const char *key, const json_t *v)
{
    return key[0] != '_' && strcmp(key, "transformer") && json_is_array(v) && json_is_string(json_array_get(v, 0));
}

static int walk_index(Walk *w, const char *folder, const char *base, const char *index_path, const Log *log, Err *err)
{
    json_t *index = NULL, *v;
    const char *key;
    int rc = json_read_file(&index, index_path, err);

    if (rc == 0 && !json_is_object(index))
        rc = err_set(err, ERR_FORMAT, "'%s': expected a JSON object", index_path);
    if (rc == 0)
        json_object_foreach (index, key, v)
            if (rc == 0 && is_component(key, v))
                rc = walk_component(w, folder, base, key, log, err);
    json_decref(index);
    return rc;
}

static int walk(Walk *w, const char *folder, const char *base, const Log *log, Err *err)
{
    char *from = path_join(base, "model_index.json", err), *to = path_join(folder, "model_index.json", err);
    int rc = from && to ? file_look(from, err) : ERR_NOMEM;

    if (rc == 0) {
        log_warn(log, "'%s' has no model_index.json: final/ will hold the transformer alone", base);
    } else if (rc > 0) {
        rc = walk_index(w, folder, base, from, log, err);
        if (rc == 0)
            rc = walk_file(w, to, from, err);
    }
    mem_free(from);
    mem_free(to);
    return rc;
}

int pipeline_parts_check(const char *base, const Log *log, int64_t *bytes, Err *err)
{
    Walk w = {0};
    int rc = walk(&w, "", base, log, err);

    *bytes = w.bytes;
    return rc < 0 ? err_wrap(err, rc, "what final/ copies") : 0;
}

int pipeline_parts_copy(const char *folder, const char *base, int link, Err *err)
{
    Walk w = {.copies = 1, .link = link};

    return walk(&w, folder, base, NULL, err);
}

int pipeline_folder_copy(const char *to, const char *from, int link, Err *err)
{
    Walk w = {.copies = 1, .link = link};

    return walk_tree(&w, to, from, 0, err);
}
