/* Runs a fuzz target over its corpus (tests/fuzz/corpus/NAME) as an ordinary test, one TAP line;
 * every file also cut short and with single bytes flipped, so that a sanitizer build sees bad input
 * without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_exact(const char *bytes, int64_t size)
{
    uint8_t *copy = malloc(size ? (size_t)size : 1); /* exact size: overreads are seen */
    if (!copy)
        return;
    memcpy(copy, bytes, (size_t)size);
    LLVMFuzzerTestOneInput(copy, (size_t)size);
    free(copy);
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    if (strncmp(name, "fuzz_", 5) == 0)
        name += 5;
    char dir[512];
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", name);
    Err err = {0};
    char **names = NULL;
    int64_t n = 0, runs = 0;
    (void)argc;
    if (dir_list(dir, &names, &n, &err) < 0 || n == 0) {
        printf("not ok 1 - %s: no corpus in %s\n", name, dir);
        return 1;
    }
    for (int64_t i = 0; i < n; i++) {
        char *path = path_join(dir, names[i], NULL), *bytes = NULL;
        int64_t size = 0;
        if (!path || file_read(path, 1 << 26, &bytes, &size, &err) < 0) {
            printf("not ok 1 - %s: %s\n", name, err.msg);
            return 1;
        }
        run_exact(bytes, size);
        int64_t step = size / 16 + 1;
        for (int64_t at = 0; at < size; at += step, runs += 2) {
            run_exact(bytes, at);
            bytes[at] ^= (char)0x81;
            run_exact(bytes, size);
            bytes[at] ^= (char)0x81;
        }
        runs++;
        mem_free(bytes);
        mem_free(path);
    }
    dir_list_free(&names, n);
    printf("ok 1 - %s: %lld inputs\n", name, (long long)runs);
    return 0;
}
