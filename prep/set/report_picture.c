#include "prep/set/report_picture.h"

#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/mem.h"

int report_picture(const char *dir, const char *name, FILE *out, Err *err)
{
    char *path = name ? path_join(dir, name, err) : NULL;
    int rc = path ? html_png(out, path, "first, middle and last frame", err) : name ? ERR_NOMEM : 0;
    if (rc == 0)
        fputs("<div class=\"none\">no picture</div>", out);
    mem_free(path);
    return rc < 0 ? rc : 0;
}
