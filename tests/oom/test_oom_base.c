/* Every operation of common/base with its first allocation failing, then its second, and so on
 * until it succeeds: it says "out of memory", leaves nothing behind, and (under a sanitizer) leaks
 * nothing.  Once with our own allocations, and once with jansson's too:
 * there only that nothing breaks and a failure has its sentence, since jansson 2.14's parser takes
 * some of its own refused allocations for bad JSON and drops characters after others. */
#include "tests/check.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/args.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"
#include "common/base/schema.h"
#include "common/base/str.h"

typedef int Operation(Err *err);

/* want: what the operation returns when memory suffices; strict: a refused allocation must be
 * ERR_NOMEM. */
static void exhaust(const char *name, Operation *operation, int want, int strict)
{
    for (int n = 1;; n++) {
        Err err = {0};
        mem_fail_after(n);
        int rc = operation(&err), failed = mem_failed();
        mem_fail_after(0);
        if (failed && ((strict && rc != ERR_NOMEM) || (rc < 0 && (rc != err.code || !err.msg[0])))) {
            fail_msg("%s, allocation %d refused: returned %d, code %d, '%s'", name, n, rc, err.code, err.msg);
        }
        if (failed)
            continue;
        if (rc != want)
            fail_msg("%s with memory enough: returned %d, expected %d: %s", name, rc, want, err.msg);
        printf("# %s: %d allocations\n", name, n - 1);
        return;
    }
}

static char *config_json, *config_yaml, *some_dir, *some_file;

static int open_recipe(const char *config, const char *const *sets, Err *err)
{
    CommonOptions o = {.preset = "demo", .config = config, .seed = 5};
    Recipe *r = NULL;
    for (o.set.item = (const char **)sets; sets[o.set.n];)
        o.set.n++;
    int rc = recipe_open(&r, &o, err);
    if ((rc == 0) != (r != NULL))
        fail_msg("recipe_open: %d and %p", rc, (void *)r);
    recipe_close(&r);
    return rc;
}

static int recipe_with_json(Err *err)
{
    return open_recipe(config_json,
                       (const char *const[]){"training.learning_rate=1e-4", "training.max_steps=null", NULL}, err);
}

static int recipe_with_yaml(Err *err)
{
    return open_recipe(config_yaml, (const char *const[]){"clip.min_fps=3", NULL}, err);
}

static int recipe_unknown_key(Err *err)
{
    return open_recipe(NULL, (const char *const[]){"training.learning_rat=1e-4", NULL}, err);
}

static int recipe_wrong_type(Err *err)
{
    return open_recipe(NULL, (const char *const[]){"training.optimizer=adagrad", NULL}, err);
}

static int recipe_unknown_preset(Err *err)
{
    CommonOptions o = {.preset = "none", .seed = -1};
    Recipe *r;
    return recipe_open(&r, &o, err);
}

static int yaml_text(Err *err)
{
    static const char text[] = "a: [1, 2.5, text, {b: null}]\nc: &x {d: true}\ne: *x\n";
    json_t *v;
    int rc = yaml_parse(&v, text, sizeof text - 1, "t", err);
    json_decref(v);
    return rc;
}

static int json_there_and_back(Err *err)
{
    static const char text[] = "{\"b\": [1, 2.5, \"\\u00e9\\n\"], \"a\": {\"x\": null}}";
    json_t *v = NULL, *back = NULL;
    char *path = path_join(some_dir, "v.json", err);
    int rc = path ? json_parse(&v, text, sizeof text - 1, "t", err) : ERR_NOMEM;
    char *canonical = rc == 0 ? json_canonical(v, err) : NULL;
    if (rc == 0 && !canonical)
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(v, path, err);
    if (rc == 0)
        rc = json_read_file(&back, path, err);
    mem_free(canonical);
    mem_free(path);
    json_decref(v);
    json_decref(back);
    return rc;
}

static int any_of(Err *err)
{
    Schema *s = NULL;
    json_t *v = NULL;
    int rc = schema_open_text(&s,
                              "{\"properties\": {\"x\": {\"anyOf\": [{\"type\": \"null\"}, "
                              "{\"type\": \"string\", \"pattern\": \"^a\"}]}}}",
                              "s", err);
    if (rc == 0)
        rc = json_parse(&v, "{\"x\": \"abc\"}", 12, "t", err);
    if (rc == 0)
        rc = schema_validate(s, v, "t", err);
    schema_close(&s);
    json_decref(v);
    return rc;
}

static int growing_string(Err *err)
{
    Str s = {0};
    int rc = 0;
    for (int i = 0; i < 200 && rc == 0; i++)
        rc = str_printf(&s, err, "%d, ", i);
    str_fini(&s);
    return rc;
}

static int write_and_list(Err *err)
{
    char **names = NULL;
    int64_t n = 0;
    char *inner = path_join(some_dir, "one/two", err), *file = NULL;
    int rc = inner ? dir_make(inner, err) : ERR_NOMEM;
    if (rc == 0 && !(file = path_join(inner, "f.tmp-123456", err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = file_write_atomic(file, "x", 1, err);
    if (rc == 0)
        rc = dir_sweep_temporaries(inner, err);
    if (rc == 0)
        rc = dir_list(some_dir, &names, &n, err);
    dir_list_free(&names, n);
    DirLock lock = {0};
    if (rc == 0)
        rc = dir_lock(&lock, some_dir, err);
    dir_unlock(&lock);
    if (rc == 0)
        rc = dir_remove(inner, err);
    mem_free(inner);
    mem_free(file);
    return rc;
}

static int read_and_hash(Err *err)
{
    char *bytes;
    int64_t size;
    Digest d;
    int rc = file_read(some_file, 1 << 20, &bytes, &size, err);
    mem_free(bytes);
    return rc < 0 ? rc : sha256_file(some_file, &d, err);
}

typedef struct Options {
    StrList tag;
    const char *out;
} Options;
static const Opt opts[] = {
    {"tag", 0, OPT_LIST, offsetof(Options, tag), .help = "x"},
    {"out", 0, OPT_STR, offsetof(Options, out), .help = "x"},
    {0},
};

static int parse_args(Err *err)
{
    Options o;
    StrList positional;
    int rc = args_parse(opts, &o, sizeof o, 6, (char *[]){"a", "--tag", "x", "b", "--tag=y", "--out=z"}, &positional,
                        err);
    if (rc < 0)
        return rc;
    args_fini(opts, &o);
    args_free_list(&positional);
    return 0;
}

static int parse_bad_args(Err *err)
{
    Options o;
    StrList positional;
    return args_parse(opts, &o, sizeof o, 2, (char *[]){"a", "--tga=x"}, &positional, err);
}

static void exhaust_all(int strict)
{
    static const struct {
        const char *name;
        Operation *run;
        int want;
    } operations[] = {
        {"recipe with JSON", recipe_with_json, 0},
        {"recipe with YAML", recipe_with_yaml, 0},
        {"recipe, unknown key", recipe_unknown_key, ERR_USAGE},
        {"recipe, wrong value", recipe_wrong_type, ERR_USAGE},
        {"recipe, unknown preset", recipe_unknown_preset, ERR_USAGE},
        {"YAML", yaml_text, 0},
        {"JSON", json_there_and_back, 0},
        {"schema", any_of, 0},
        {"string", growing_string, 0},
        {"files", write_and_list, 0},
        {"read and hash", read_and_hash, 0},
        {"arguments", parse_args, 0},
        {"bad arguments", parse_bad_args, ERR_USAGE},
    };
    Err err = {0};
    some_dir = check_tmp_path("dir");
    some_file = check_tmp_path("file");
    config_json = check_tmp_path("c.json");
    config_yaml = check_tmp_path("c.yaml");
    CHECK_OK(dir_make(some_dir, &err), &err);
    CHECK_OK(file_write_atomic(some_file, "abc", 3, &err), &err);
    CHECK_OK(
        file_write_atomic(config_json, "{\"training\": {\"max_steps\": 3}, \"clip\": {\"fit\": \"pad\"}}", 54, &err),
        &err);
    CHECK_OK(file_write_atomic(config_yaml, "training: {max_steps: 3}\nclip:\n  fit: pad\n", 42, &err), &err);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        exhaust(operations[i].name, operations[i].run, operations[i].want, strict);
    char **names;
    int64_t n;
    CHECK_OK(dir_list(some_dir, &names, &n, &err), &err);
    for (int64_t i = 0; i < n; i++)
        assert_null(strstr(names[i], ".tmp-"));
    dir_list_free(&names, n);
}

static void our_allocations(void **state)
{
    (void)state;
    exhaust_all(1);
}

static void *json_malloc(size_t size)
{
    return mem_calloc((int64_t)size, 1, NULL);
}

static void ours_and_janssons(void **state)
{
    (void)state;
    json_set_alloc_funcs(json_malloc, mem_free);
    exhaust_all(0);
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(our_allocations), cmocka_unit_test(ours_and_janssons)};
    return check_run("oom_base", tests);
}
