/* reasons: prints what is made from prep/reasons.def: the table of datasets.md and the enum of
 * schemas/manifest.schema.json.  `reasons --write`, in the repository's root, puts both in place. */
#include <stdio.h>
#include <string.h>
#include "reason_text.h"
#include "common/base/file.h"
#include "common/base/mem.h"

/* Replaces what stands between the line `before` and the first `after` that follows it. */
static int put(const char *path, const char *before, const char *after, const Str *part, Err *err)
{
    char *text;
    int64_t size;
    Str out = {0};
    int rc = file_read(path, 1 << 20, &text, &size, err);
    if (rc < 0)
        return rc;
    char *from = strstr(text, before), *to = from ? strstr(from + strlen(before), after) : NULL;
    if (!to)
        rc = err_set(err, ERR_FORMAT, "'%s': no place for it", path);
    if (rc == 0 && (rc = str_append_n(&out, text, from + strlen(before) - text, err)) == 0 &&
        (rc = str_append(&out, part->data, err)) == 0 && (rc = str_append(&out, to, err)) == 0)
        rc = file_write_atomic(path, out.data, out.len, err);
    str_fini(&out);
    mem_free(text);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    Str table = {0}, list = {0};
    int write = argc == 2 && strcmp(argv[1], "--write") == 0;
    if (argc > 1 && !write) {
        fprintf(stderr, "usage: reasons [--write]\n");
        return 2;
    }
    int rc = reason_table(&table, &err);
    rc = rc < 0 ? rc : reason_enum(&list, &err);
    if (rc == 0 && write) {
        rc = put("datasets.md", REASON_TABLE_HEAD, "\n\n", &table, &err);
        rc = rc < 0 ? rc : put("schemas/manifest.schema.json", REASON_ENUM_HEAD, "\n    ]", &list, &err);
    } else if (rc == 0) {
        printf("%s%s\n\n%s%s\n", REASON_TABLE_HEAD, table.data, REASON_ENUM_HEAD, list.data);
    }
    if (rc < 0)
        fprintf(stderr, "reasons: %s\n", err.msg);
    str_fini(&table);
    str_fini(&list);
    return rc < 0;
}
