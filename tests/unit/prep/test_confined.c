/* The workers of ingest and of merge are confined before they decode. */
#include <stdio.h>
#include "unit/confined.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"
#include "prep/ingest.h"
#include "prep/merge.h"

static void quiet_log(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

static FILE *null; /* where the counts go */
static const Log quiet = {.write = quiet_log, .level = LOG_DEBUG};

static void ingest_shard(const char *root, const char *out, int64_t shard)
{
    static const char *sets[] = {
        "clip.width=64",     "clip.height=96",    "clip.min_side=16",          "clip.model_frames=9",
        "clip.num_frames=8", "quality.mode=warn", "quality.duplicates=ignore", "clip.allow_empty_caption=true"};
    Err err = {0};
    Recipe *recipe;
    CHECK_OK(recipe_open(&recipe,
                         &(CommonOptions){.preset = "demo", .set = {sets, sizeof sets / sizeof *sets}, .seed = -1},
                         &err),
             &err);
    IngestParams p = {.source = root,
                      .out = out,
                      .recipe = recipe,
                      .jobs = 1,
                      .shard = shard,
                      .shards = 2,
                      .log = &quiet,
                      .results = null};
    CHECK_OK(prep_ingest(&p, &err), &err);
    recipe_close(&recipe);
}

static void workers_are_confined(void **state)
{
    char *root = check_tmp_path("src"), *out = check_tmp_path("shards"), *whole = check_tmp_path("whole"), *bytes;
    const char *shards[2];
    int64_t size;
    Err err = {0};
    (void)state;
    CHECK_OK(dir_make(root, &err), &err);
    CHECK_OK(file_read(check_repo_path("tests/unit/prep/stored/a.mp4"), 1 << 20, &bytes, &size, &err), &err);
    for (int i = 0; i < 6; i++) { /* in either shard some */
        char name[16];
        snprintf(name, sizeof name, "%c.mp4", 'a' + i);
        char *path = path_join(root, name, &err);
        CHECK_OK(file_write_atomic(path, bytes, size, &err), &err);
        mem_free(path);
    }
    mem_free(bytes);
    confined_watch();
    for (int64_t i = 0; i < 2; i++) {
        ingest_shard(root, out, i);
        shards[i] = path_join(out, i ? "shard-1-of-2" : "shard-0-of-2", &err);
    }
    confined_check();
    confined_watch();
    CHECK_OK(
        prep_merge(&(MergeParams){.shards = shards, .n = 2, .out = whole, .jobs = 1, .log = &quiet, .results = null},
                   &err),
        &err);
    confined_check();
    for (int i = 0; i < 2; i++)
        mem_free((char *)(uintptr_t)shards[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(workers_are_confined)};
    av_log_set_level(AV_LOG_QUIET);
    null = fopen("/dev/null", "w");
    int rc = check_run_live("prep confined", tests);
    fclose(null);
    return rc;
}
