/* What --model may be: a folder, a Hugging Face cache entry, a hub id in the cache. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/model_folder.h"

static char *make(const char *name)
{
    Err err = {0};
    char *path = check_tmp_path(name);
    CHECK_OK(dir_make(path, &err), &err);
    return path;
}

static void write_text(const char *name, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(check_tmp_path(name), text, (int64_t)strlen(text), &err), &err);
}

static void finds(const char *given, const char *want)
{
    Err err = {0};
    char *got = NULL;
    CHECK_OK(model_folder_find(&got, given, NULL, &err), &err);
    assert_string_equal(got, want);
    mem_free(got);
}

static void fails(const char *given, int code, const char *part)
{
    Err err = {0};
    char *got = NULL;
    CHECK_FAILS(model_folder_find(&got, given, NULL, &err), code, part, &err);
    assert_null(got);
}

static void plain_folders(void **state)
{
    (void)state;
    make("model/vae");
    finds(check_tmp_path("model"), check_tmp_path("model"));
    fails(check_tmp_path("absent"), ERR_NOTFOUND, "does not exist");
    fails("./a/b", ERR_NOTFOUND, "model folder './a/b' does not exist");
    write_text("file", "");
    fails(check_tmp_path("file"), ERR_USAGE, "is a file");
}

static void cache_entries(void **state)
{
    (void)state;
    char *entry = make("hub/models--THUDM--CogVideoX-2b"), *one = make("hub/models--THUDM--CogVideoX-2b/snapshots/aaa");
    finds(entry, one);
    char *two = make("hub/models--THUDM--CogVideoX-2b/snapshots/bbb");
    fails(entry, ERR_USAGE, "holds 2 snapshots (aaa, bbb)");
    make("hub/models--THUDM--CogVideoX-2b/refs");
    write_text("hub/models--THUDM--CogVideoX-2b/refs/main", "bbb\n");
    finds(entry, two);
    write_text("hub/models--THUDM--CogVideoX-2b/refs/main", "../../../etc");
    fails(entry, ERR_USAGE, "'..'");
    write_text("hub/models--THUDM--CogVideoX-2b/refs/main", "bbb");
    make("hub/models--a--b/snapshots");
    fails(check_tmp_path("hub/models--a--b"), ERR_NOTFOUND, "without a snapshot");
    fails(check_tmp_path("hub"), ERR_USAGE, "2 models (models--THUDM--CogVideoX-2b, models--a--b)");

    /* hub ids: HF_HUB_CACHE, then HF_HOME/hub */
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", check_tmp_path("home"), 1);
    setenv("HF_HOME", check_tmp(), 1);
    setenv("HF_HUB_CACHE", check_tmp_path("elsewhere"), 1);
    finds("THUDM/CogVideoX-2b", two);
    finds("zai-org/CogVideoX-2b", two); /* the owner's other name */
    unsetenv("HF_HOME");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "hf download THUDM/CogVideoX-2b --local-dir DIR");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "home/.cache/huggingface/hub");
    setenv("HF_HUB_CACHE", check_tmp_path("hub"), 1);
    finds("THUDM/CogVideoX-2b", two);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HOME");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "HOME are not set");
}

/* Which of a recipe's names is the base model, and which the weights to start from. */
static void recipes(void **state)
{
    (void)state;
    static const struct {
        const char *set[3], *option, *base, *training_base, *weights;
    } row[] = {
        {{NULL}, NULL, NULL, NULL, NULL},
        {{NULL}, "given", "given", "given", NULL},
        {{"model.base_model=m"}, NULL, "m", "m", NULL},
        {{"model.base_model=m", "training.base_model=t"}, NULL, "m", "t", NULL},
        {{"model.base_model=m", "training.base_model=t"}, "given", "given", "given", NULL},
        {{"base_model=t"}, NULL, "t", "t", NULL},
        {{"base_model=t", "pretrained_weights=w"}, NULL, "t", "t", "w"},
        {{"base_model=t", "pretrained_weights=w"}, "given", "given", "given", "w"},
        {{"pretrained_weights=THUDM/CogVideoX-2b"},
         NULL,
         "THUDM/CogVideoX-2b",
         "THUDM/CogVideoX-2b",
         "THUDM/CogVideoX-2b"},
        /* a name and its hub id are one model */
        {{"base_model=cogvideox-2B", "pretrained_weights=THUDM/CogVideoX-2b"},
         NULL,
         "THUDM/CogVideoX-2b",
         "THUDM/CogVideoX-2b",
         NULL},
        {{"base_model=CogVideoX-2b", "pretrained_weights=THUDM/CogVideoX-2b"}, "given", "given", "given", NULL},
        {{"base_model=CogVideoX-5b", "pretrained_weights=THUDM/CogVideoX-2b"},
         NULL,
         "CogVideoX-5b",
         "CogVideoX-5b",
         "THUDM/CogVideoX-2b"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *sets[3];
        CommonOptions o = {.seed = -1, .set = {.item = sets}};
        Err err = {0};
        Recipe *r;
        for (; row[i].set[o.set.n]; o.set.n++)
            sets[o.set.n] = row[i].set[o.set.n];
        CHECK_OK(recipe_open(&r, &o, &err), &err);
        const char *got[] = {model_folder_base(r, row[i].option, 0), model_folder_base(r, row[i].option, 1),
                             model_folder_weights(r)};
        const char *want[] = {row[i].base, row[i].training_base, row[i].weights};
        for (int k = 0; k < 3; k++)
            if ((got[k] == NULL) != (want[k] == NULL) || (got[k] && strcmp(got[k], want[k]) != 0))
                fail_msg("row %zu, name %d: %s, expected %s", i, k, got[k] ? got[k] : "none",
                         want[k] ? want[k] : "none");
        recipe_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_folders), cmocka_unit_test(cache_entries),
                                       cmocka_unit_test(recipes)};
    return check_run_live("model_folder", tests);
}
