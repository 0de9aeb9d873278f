/* Which checkpoint a run goes on from, which ones are removed, and that a checkpoint that cannot be
 * read is never taken for one that is damaged or absent. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "train/checkpoint.h"
#include "train/file_list.h"

static Err err;
static char *run; /* the run folder of the current test */

static void put(const char *below, int64_t step, const char *text)
{
    char *folder = checkpoint_folder(run, step, &err), *path = path_join(folder, below, &err),
         *parent = path_dir(path, &err);

    CHECK_OK(dir_make(parent, &err), &err);
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    mem_free(folder);
    mem_free(path);
    mem_free(parent);
}

/* A folder that checkpoint_newest accepts: three small files and a state that lists them. */
static void make(int64_t step, int interim)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    char *folder = checkpoint_folder(run, step, &err), *path = path_join(folder, "weft_state/state.json", &err);
    json_t *files = NULL, *state = NULL;
    JsonWriter w;

    put("transformer/config.json", step, "{}");
    put("transformer/diffusion_pytorch_model.safetensors", step, "weights");
    put("weft_state/optimizer.safetensors", step, "moments");
    CHECK_OK(file_list_make(folder, &files, &err), &err);
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_int(&w, "step", step);
    jsonw_int(&w, "epoch", 0);
    jsonw_int(&w, "position", 0);
    jsonw_int(&w, "seed", 0);
    if (interim)
        jsonw_bool(&w, "interim", 1);
    jsonw_str(&w, "device", "cpu");
    jsonw_str(&w, "base_model", "base");
    jsonw_str(&w, "pretrained_weights", "base");
    jsonw_str(&w, "cache_digest", zeros);
    jsonw_str(&w, "recipe_digest", zeros);
    jsonw_take(&w, "recipe", json_object());
    jsonw_take(&w, "files", files);
    CHECK_OK(jsonw_finish(&w, &state, "state", &err), &err);
    CHECK_OK(json_write_file(state, path, &err), &err);
    json_decref(state);
    mem_free(folder);
    mem_free(path);
}

static char *inside(int64_t step, const char *below)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/checkpoint-%d/%s", run, (int)step, below);
    return path;
}

static void damage(int64_t step)
{
    put("weft_state/optimizer.safetensors", step, "half");
}

/* A name that cannot be followed: what root, too, cannot read. */
static void make_unreadable(int64_t step)
{
    char *path = inside(step, "weft_state/state.json");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("state.json", path), 0);
}

static void start(const char *name)
{
    run = check_tmp_path(name);
    CHECK_OK(dir_make(run, &err), &err);
}

static int there(int64_t step)
{
    return file_look(inside(step, "."), &err) == 1;
}

static char warnings[4096];

static void remember(void *user, LogLevel level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(warnings + strlen(warnings), sizeof warnings - strlen(warnings), "%s\n", text);
}

static int newest(int64_t *step)
{
    Log log = {.write = remember, .level = LOG_WARN};
    json_t *state = NULL;
    int rc;

    warnings[0] = 0;
    rc = checkpoint_newest(run, &log, step, &state, &err);
    assert_true((state != NULL) == (rc == 0 && *step > 0));
    json_decref(state);
    return rc;
}

static void newest_undamaged(void **state)
{
    int64_t step = -1;

    (void)state;
    start("newest");
    CHECK_OK(newest(&step), &err);
    assert_int_equal(step, 0);
    make(2, 0);
    make(10, 0);
    make(4, 1);
    CHECK_OK(newest(&step), &err);
    assert_int_equal(step, 10);
    assert_string_equal(warnings, "");
    damage(10);
    CHECK_OK(newest(&step), &err);
    assert_int_equal(step, 4);
    assert_non_null(strstr(warnings, "checkpoint-10 is damaged and is not used"));
    assert_non_null(strstr(warnings, "has 4 bytes, but 7 were written"));
    assert_int_equal(unlink(inside(4, "weft_state/state.json")), 0); /* nothing says that it is complete */
    CHECK_OK(newest(&step), &err);
    assert_int_equal(step, 2);
    put("transformer/config.json", 2, "[]"); /* as many bytes, others */
    CHECK_FAILS(newest(&step), ERR_FORMAT, "all its checkpoints are damaged", &err);
    assert_non_null(strstr(warnings, "SHA-256 differs"));
    assert_true(there(2) && there(4) && there(10));
    start("newest-one");
    make(3, 0);
    damage(3);
    CHECK_FAILS(newest(&step), ERR_FORMAT, "its only checkpoint is damaged", &err);
}

static void unreadable_is_an_error(void **state)
{
    char *elsewhere;
    int64_t step;

    (void)state;
    start("unreadable");
    make(2, 0);
    make(4, 0);
    make_unreadable(4);
    CHECK_FAILS(newest(&step), ERR_IO, "checkpoint-4 cannot be used, and nothing was changed", &err);
    assert_string_equal(warnings, "");
    CHECK_OK(dir_remove(inside(4, ""), &err), &err);
    make(4, 0);
    assert_int_equal(unlink(inside(4, "transformer/config.json")), 0);
    assert_int_equal(symlink("config.json", inside(4, "transformer/config.json")), 0);
    CHECK_FAILS(newest(&step), ERR_IO, "config.json", &err);
    /* moved to a disk that is not mounted now */
    elsewhere = mem_strdup(inside(4, ""), &err);
    elsewhere[strlen(elsewhere) - 1] = 0;
    CHECK_OK(dir_remove(elsewhere, &err), &err);
    assert_int_equal(symlink("/nowhere/checkpoint-4", elsewhere), 0);
    CHECK_FAILS(newest(&step), ERR_IO, "is a link to something that does not exist", &err);
    mem_free(elsewhere);
    CHECK_FAILS(checkpoint_count(check_tmp_path("unreadable/checkpoint-4"), &step, &err), ERR_IO, "is a link", &err);
}

static void newer_format_is_an_error(void **state)
{
    char *text = NULL, *at;
    int64_t n, step;

    (void)state;
    start("newer");
    make(2, 0);
    make(4, 0);
    CHECK_OK(file_read(inside(4, "weft_state/state.json"), 1 << 20, &text, &n, &err), &err);
    at = strstr(text, "\"format\": 1");
    assert_non_null(at);
    at[strlen("\"format\": ")] = '2';
    put("weft_state/state.json", 4, text);
    CHECK_FAILS(newest(&step), ERR_UNSUPPORTED, "has format 2 and this weft-train reads format 1", &err);
    put("weft_state/state.json", 4, "{\"format\": 9, \"laser\": true}");
    CHECK_FAILS(newest(&step), ERR_UNSUPPORTED, "has format 9", &err);
    assert_true(there(2) && there(4));
    mem_free(text);
}

static void pruning(void **state)
{
    int64_t n;

    (void)state;
    start("prune");
    for (int64_t step = 1; step <= 6; step++)
        make(step, step == 3);
    damage(6);
    damage(2);
    CHECK_OK(checkpoint_prune(run, 5, 0, &err), &err); /* all stay, but for the one of a stop */
    assert_true(there(1) && there(2) && !there(3) && there(4) && there(5) && there(6));
    CHECK_OK(checkpoint_prune(run, 5, 2, &err), &err); /* damaged ones are not counted among the two */
    assert_true(!there(1) && !there(2) && there(4) && there(5) && !there(6));
    make(6, 1);
    CHECK_OK(checkpoint_prune(run, 6, 0, &err), &err); /* just saved: what a later run goes on from */
    assert_true(there(4) && there(5) && there(6));
    CHECK_OK(checkpoint_prune(run, 6, 1, &err), &err);
    CHECK_OK(checkpoint_count(run, &n, &err), &err);
    assert_true(n == 1 && there(6));
    make(2, 0);
    make_unreadable(2);
    CHECK_OK(checkpoint_prune(run, 6, 1, &err), &err);
    assert_true(there(2) && there(6)); /* what cannot be read is not removed either */
    CHECK_OK(checkpoint_count(check_tmp_path("prune/none"), &n, &err), &err);
    assert_int_equal(n, 0);
}

static void finals(void **state)
{
    char *from, *to;

    (void)state;
    start("final");
    assert_int_equal(final_is_at(run, 4, &err), 0);
    make(4, 0);
    from = mem_strdup(inside(4, ""), &err);
    to = path_join(run, "final", &err);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(final_is_at(run, 4, &err), 1);
    assert_int_equal(final_is_at(run, 5, &err), 0);
    mem_free(from);
    from = path_join(to, "weft_state/state.json", &err);
    assert_int_equal(unlink(from), 0);
    assert_int_equal(final_is_at(run, 4, &err), 0);
    assert_int_equal(symlink("state.json", from), 0);
    CHECK_FAILS(final_is_at(run, 4, &err), ERR_IO, "state.json", &err);
    mem_free(from);
    mem_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(newest_undamaged), cmocka_unit_test(unreadable_is_an_error),
                                       cmocka_unit_test(newer_format_is_an_error), cmocka_unit_test(pruning),
                                       cmocka_unit_test(finals)};
    return check_run_live("train-checkpoint", tests);
}
