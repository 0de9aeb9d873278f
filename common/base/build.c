#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>
#include "common/base/build.h"
#include "common/base/build_flags.h" /* written by the Makefile: WEFT_BUILD_FLAGS, WEFT_BUILD_BLAS */

/* A library's version is asked from the copy that is loaded, by name: common/base links none of them,
 * and a program that does not use a library has no such function. */
static void *loaded(const char *function)
{
    return dlsym(RTLD_DEFAULT, function);
}

static void set(BuildFact *fact, const char *name, const char *value)
{
    fact->name = name;
    snprintf(fact->value, sizeof fact->value, "%s", value ? value : "");
    if (!str_is_utf8(fact->value, (int64_t)strlen(fact->value))) /* it may stand in JSON */
        fact->value[0] = 0;
}

static void version_of(BuildFact *fact, const char *name, const char *function)
{
    const char *(*version)(void) = (const char *(*)(void))(uintptr_t)loaded(function);
    set(fact, name, version ? version() : "");
}

static void compiler(BuildFact *fact)
{
#if defined(__clang__)
    char text[BUILD_FACT_MAX];
    snprintf(text, sizeof text, "clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
    set(fact, "compiler", text);
#elif defined(__GNUC__)
    set(fact, "compiler", "gcc " __VERSION__);
#else
    set(fact, "compiler", "");
#endif
}

/* OpenBLAS says "OpenBLAS 0.3.21 DYNAMIC_ARCH NO_AFFINITY Haswell MAX_THREADS=64"; of another BLAS the
 * Makefile's name and version are known. */
static void blas(BuildFact *fact)
{
    const char *(*config)(void) = (const char *(*)(void))(uintptr_t)loaded("openblas_get_config");
    const char *(*core)(void) = (const char *(*)(void))(uintptr_t)loaded("openblas_get_corename");
    set(fact, "blas", WEFT_BUILD_BLAS);
    if (!config)
        return;
    char name[64] = "", number[64] = "", text[BUILD_FACT_MAX];
    if (sscanf(config(), "%63s %63s", name, number) != 2)
        return;
    snprintf(text, sizeof text, "%s %s%s%s%s", name, number, core ? " (" : "", core ? core() : "", core ? ")" : "");
    set(fact, "blas", text);
}

static void processor(BuildFact *fact)
{
    char line[512], arm[128] = "";
    set(fact, "processor", "");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !fact->value[0] && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value)
            continue;
        value += value[1] == ' ' ? 2 : 1;
        value[strcspn(value, "\n")] = 0;
        if (strncmp(line, "model name", 10) == 0)
            set(fact, "processor", value);
        else if (strncmp(line, "CPU implementer", 15) == 0 && !arm[0])
            snprintf(arm, sizeof arm, "implementer %.40s", value);
        else if (strncmp(line, "CPU part", 8) == 0 && arm[0] && !strchr(arm, ','))
            snprintf(arm + strlen(arm), sizeof arm - strlen(arm), ", part %.40s", value);
    }
    if (f)
        fclose(f);
    struct utsname machine;
    if (!fact->value[0] && uname(&machine) == 0)
        snprintf(fact->value, sizeof fact->value, "%.60s%s%s", machine.machine, arm[0] ? ", " : "", arm);
}

enum { DECIDING = 5 }; /* the first facts below decide training's bits */

void build_identity(BuildIdentity *out)
{
    memset(out, 0, sizeof *out);
    BuildFact *fact = out->fact;
    set(fact++, "version", WEFT_VERSION);
    compiler(fact++);
    set(fact++, "flags", WEFT_BUILD_FLAGS);
    blas(fact++);
    processor(fact++);
    version_of(fact++, "ffmpeg", "av_version_info");
    set(fact, "lmdb", "");
    char *(*lmdb)(int *, int *, int *) = (char *(*)(int *, int *, int *))(uintptr_t)loaded("mdb_version");
    if (lmdb) {
        int major = 0, minor = 0, patch = 0;
        lmdb(&major, &minor, &patch);
        snprintf(fact->value, sizeof fact->value, "%d.%d.%d", major, minor, patch);
    }
    fact++;
    version_of(fact, "jansson", "jansson_version_str");
}

int build_identity_json(const BuildIdentity *identity, json_t **out, Err *err)
{
    *out = json_object();
    int ok = *out != NULL;
    for (int i = 0; ok && i < BUILD_FACTS; i++) {
        const BuildFact *fact = &identity->fact[i];
        if (fact->value[0])
            ok = json_object_set_new(*out, fact->name, json_string(fact->value)) == 0;
    }
    if (ok)
        return 0;
    json_decref(*out);
    *out = NULL;
    return err_set(err, ERR_NOMEM, "out of memory describing the build");
}

int build_identity_changes(const BuildIdentity *identity, const json_t *stored, Str *text, Err *err)
{
    int changes = 0, rc = 0;
    for (int i = 0; rc == 0 && i < DECIDING; i++) {
        const BuildFact *fact = &identity->fact[i];
        const char *before = json_string_value(json_object_get(stored, fact->name));
        if (strcmp(before ? before : "", fact->value) == 0)
            continue;
        rc = str_printf(text, err, "%s%s '%s' before, '%s' now", changes ? "; " : "", fact->name,
                        before ? before : "unknown", fact->value[0] ? fact->value : "unknown");
        changes++;
    }
    return rc < 0 ? rc : changes;
}

void build_identity_print(const BuildIdentity *identity, FILE *out)
{
    for (int i = 0; i < BUILD_FACTS; i++)
        if (identity->fact[i].value[0] && strcmp(identity->fact[i].name, "version") != 0)
            fprintf(out, "  %-10s %s\n", identity->fact[i].name, identity->fact[i].value);
}
