/* The layout readers on folders of any files.  The first byte chooses the layout ('a' the first of
 * `layouts`), or with '?' that it is looked for; then names and contents in turn, each up to a NUL
 * byte.  A name that ends in '/' is a folder, one that ends in '|' a pipe, one that ends in '@' a
 * link to its content. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/layout/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 24, NAME_MAX_BYTES = 100 };
static char root[64];
static const LayoutInput input = {.root = root, .seed = 7};

static void remove_root(void)
{
    err_ignore(dir_remove(root, NULL));
}

static void make_root(void)
{
    if (!root[0]) {
        snprintf(root, sizeof root, "%s/weft-fuzz-tree-%ld", file_is_dir("/dev/shm") ? "/dev/shm" : "/tmp",
                 (long)getpid());
        atexit(remove_root);
    }
    if (dir_remove(root, NULL) < 0 || dir_make(root, NULL) < 0)
        abort();
}

/* Nothing is written anywhere else; what cannot be made (a file where a folder is) is left out. */
static void put(const char *name, const char *content)
{
    size_t n = strlen(name);
    int folder = n && name[n - 1] == '/';
    if (n == 0 || n > NAME_MAX_BYTES || path_check_relative(name, NULL) < 0)
        return;
    char *path = path_join(root, name, NULL), *dir = path ? path_dir(path, NULL) : NULL;
    if (!dir)
        abort();
    int special = !folder && (name[n - 1] == '|' || name[n - 1] == '@');
    if (special)
        path[strlen(path) - 1] = 0;
    if (special && dir_make(dir, NULL) == 0) {
        if ((name[n - 1] == '|' ? mkfifo(path, 0600) : symlink(content, path)) < 0)
            special = 2; /* it is there already, or the target is empty */
    } else if (dir_make(folder ? path : dir, NULL) == 0 && !folder) {
        FILE *f = file_is_dir(path) ? NULL : fopen(path, "wb");
        if (f) {
            fputs(content, f);
            fclose(f);
        }
    }
    mem_free(path);
    mem_free(dir);
}

static int leaves(const char *path)
{
    char *target;
    int out = layout_leads_out(root, path, &target, NULL);
    mem_free(target);
    return out != 0;
}

/* Whatever was found holds, and is found again. */
static void read_twice(const Layout *layout)
{
    char hex[2][65];
    int rc[2];
    for (int i = 0; i < 2; i++) {
        SourceList l = {0};
        Err err = {0};
        rc[i] = layout_read(layout, &input, &l, &err);
        if (rc[i] > 0 || (rc[i] < 0 && (err.code != rc[i] || !err.msg[0])))
            abort();
        for (int64_t k = 0; k < l.n && rc[i] == 0; k++)
            if (!l.item[k].split || path_check_relative(l.item[k].path, NULL) < 0 ||
                source_id_check(l.item[k].id, NULL) < 0 || (!l.item[k].reject_code && leaves(l.item[k].path)))
                abort();
        if (rc[i] == 0 && source_list_sha256(&l, hex[i], &err) < 0)
            abort();
        source_list_fini(&l);
    }
    if (rc[0] != rc[1] || (rc[0] == 0 && strcmp(hex[0], hex[1]) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const Layout *layout = NULL;
    char why[256];
    Err err = {0};
    if (size < 2 || size > 1 << 16)
        return 0;
    char *text = mem_strndup((const char *)data + 1, (int64_t)size - 1, NULL);
    if (!text)
        abort();
    make_root();
    size_t at = 0;
    for (int i = 0; i < FILES_MAX && at < size - 1; i++) {
        const char *name = text + at;
        size_t after = at + strlen(name) + 1;
        put(name, after < size ? text + after : "");
        at = after < size ? after + strlen(text + after) + 1 : size;
    }
    int n = 0;
    while (layouts[n])
        n++;
    int look = data[0] == '?', which = (uint8_t)(data[0] - 'a') % n;
    int rc = !look ? 0 : layout_choose(&input, NULL, &layout, why, sizeof why, &err);
    if (rc > 0 || (rc < 0 && err.code != rc))
        abort();
    if (rc == 0)
        read_twice(look ? layout : layouts[which]);
    mem_free(text);
    return 0;
}
