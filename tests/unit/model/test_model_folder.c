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
    unsetenv("HF_HOME");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "hf download THUDM/CogVideoX-2b --local-dir DIR");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "home/.cache/huggingface/hub");
    setenv("HF_HUB_CACHE", check_tmp_path("hub"), 1);
    finds("THUDM/CogVideoX-2b", two);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HOME");
    fails("THUDM/CogVideoX-2b", ERR_NOTFOUND, "HOME are not set");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_folders), cmocka_unit_test(cache_entries)};
    return check_run("model_folder", tests);
}
