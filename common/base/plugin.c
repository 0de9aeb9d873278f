#include "common/base/plugin.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *load(const char *path, char *why, size_t size)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object)
        snprintf(why, size, "%s", dlerror());
    return object;
}

void *plugin_open(const char *object, int *found, char *why, size_t size)
{
    static const char *const places[] = {"", "../lib/weft/"};
    char program[PATH_MAX], path[PATH_MAX + 128];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    char *slash = strrchr(program, '/');
    *found = 1;
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%.*s/%s%s", (int)(slash - program), program, places[i], object);
        if (access(path, R_OK) == 0)
            return load(path, why, size);
    }
    void *loaded = load(object, why, size);
    *found = loaded != NULL;
    return loaded;
}
