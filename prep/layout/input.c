#include "prep/layout/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"

enum { JSON_BYTES_MAX = 1 << 28 };

/* Whether the real path `inner` is `outer` or lies below it. */
static int lies_in(const char *inner, const char *outer)
{
    size_t n = strlen(outer);
    return strncmp(inner, outer, n) == 0 && (inner[n] == '/' || inner[n] == 0 || n == 1);
}

int layout_leads_out(const char *root, const char *path, char **target, Err *err)
{
    *target = NULL;
    char *full = path_join(root, path, err);
    if (!full)
        return ERR_NOMEM;
    char *inner = realpath(full, NULL), *outer = realpath(root, NULL);
    int out = inner && outer && !lies_in(inner, outer);
    if (out && !(*target = mem_strdup(inner, err)))
        out = ERR_NOMEM;
    free(inner);
    free(outer);
    mem_free(full);
    return out;
}

int layout_has(const LayoutInput *in, const char *path, Err *err)
{
    char *full = path_join(in->root, path, err);
    int found = full ? file_exists(full) : ERR_NOMEM;
    mem_free(full);
    return found;
}

int layout_check_text(const LayoutInput *in, const char *path, Err *err)
{
    struct stat st;
    char *target = NULL, *full = path_join(in->root, path, err);
    int rc = full ? 0 : ERR_NOMEM;
    if (rc == 0 && stat(full, &st) < 0)
        rc = err_errno(err, errno, "opening '%s'", full);
    if (rc == 0 && !S_ISREG(st.st_mode))
        rc = err_set(err, ERR_FORMAT, "%s is not a regular file", path);
    if (rc == 0 && !in->follow_links && (rc = layout_leads_out(in->root, path, &target, err)) == 1)
        rc = err_set(err, ERR_USAGE, "%s is a link to '%s' outside of the source folder (" LAYOUT_LINKS_HINT ")", path,
                     target);
    mem_free(target);
    mem_free(full);
    return rc;
}

int layout_read_text(const LayoutInput *in, const char *path, int64_t max_bytes, char **text, int64_t *size, Err *err)
{
    *text = NULL;
    *size = 0;
    int rc = layout_check_text(in, path, err);
    char *full = rc == 0 ? path_join(in->root, path, err) : NULL;
    if (rc == 0)
        rc = full ? file_read(full, max_bytes, text, size, err) : ERR_NOMEM;
    mem_free(full);
    return rc;
}

int layout_read_caption(const LayoutInput *in, Source *s, const char *path, Err *err)
{
    char *text;
    int64_t size;
    Err why = {0};
    int rc = layout_read_text(in, path, CAPTION_BYTES_MAX, &text, &size, &why);
    if (rc == ERR_NOMEM)
        err_set(err, rc, "%s", why.msg);
    else if (rc < 0)
        rc = source_reject(s, rc == ERR_USAGE ? REASON_LINK_OUTSIDE : REASON_BAD_CAPTION, err, "%s", why.msg);
    else
        rc = source_add_caption(s, text, size, err);
    mem_free(text);
    return rc;
}

int layout_read_json(const LayoutInput *in, const char *path, json_t **out, Err *err)
{
    char *text;
    int64_t size;
    *out = NULL;
    int rc = layout_read_text(in, path, JSON_BYTES_MAX, &text, &size, err);
    if (rc == 0)
        rc = json_parse(out, text, size, path, err);
    mem_free(text);
    return rc;
}

int layout_read_lines(const LayoutInput *in, const char *path, LineFn *line, void *user, Err *err)
{
    int rc = layout_check_text(in, path, err);
    char *full = rc == 0 ? path_join(in->root, path, err) : NULL;
    if (rc == 0)
        rc = full ? lines_read(full, LINE_BYTES_MAX, line, user, err) : ERR_NOMEM;
    mem_free(full);
    return rc;
}
