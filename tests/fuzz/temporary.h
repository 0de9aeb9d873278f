/* For fuzz targets whose subject reads files: a folder of this process under $TMPDIR, kept until it
 * ends. */
#ifndef WEFT_TESTS_FUZZ_TEMPORARY_H
#define WEFT_TESTS_FUZZ_TEMPORARY_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/base/file.h"

static char fuzz_folder_name[128];

static void fuzz_folder_remove(void)
{
    if (dir_remove(fuzz_folder_name, NULL) < 0)
        fprintf(stderr, "'%s' is left behind\n", fuzz_folder_name);
}

static const char *fuzz_folder(void)
{
    if (!fuzz_folder_name[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(fuzz_folder_name, sizeof fuzz_folder_name, "%.80s/weft-fuzz-%ld", tmp ? tmp : "/tmp", (long)getpid());
        if (dir_make(fuzz_folder_name, NULL) < 0 || atexit(fuzz_folder_remove))
            abort();
    }
    return fuzz_folder_name;
}

/* The folder's file of that name with these bytes; path in a static buffer. */
static const char *fuzz_file(const char *name, const void *bytes, size_t size)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || (size && fwrite(bytes, 1, size, f) != size) || fclose(f))
        abort();
    return path;
}
#endif
