/* weft-cache build, diff and preview with the n-th allocation failing, for a growing n: each says so and
 * ends, the processes it started too; a build that failed goes on when it is run again, and what it makes
 * is that of an undisturbed one. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "cache/build.h"
#include "cache/preview.h"
#include "cache/verify.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "prep/ingest.h"
#include "prep/tokenize.h"

static const char *sets[] = {
    "clip.width=32",     "clip.height=48",    "clip.min_side=16",         "clip.model_frames=9",
    "clip.num_frames=8", "quality.mode=warn", "quality.duplicates=ignore"};
static char *prepared, *cache, *whole, *shown, *model; /* set before memory becomes scarce */
static Recipe *recipe;
static Backend *be;
static FILE *nowhere;

static int run_build(const char *out, int diff, Err *err)
{
    BuildParams p = {.prepared = prepared,
                     .out = out,
                     .model = model,
                     .recipe = recipe,
                     .be = be,
                     .shards = 1,
                     .diff = diff,
                     .mode = CACHE_WRITE,
                     .results = nowhere};
    return cache_build(&p, err);
}

static int build(Err *err)
{
    return run_build(cache, 0, err);
}

static int diff_with_none(Err *err)
{
    return run_build(shown, 1, err);
}

static int diff(Err *err)
{
    return run_build(whole, 1, err);
}

static int preview(Err *err)
{
    PreviewParams p = {
        .dir = whole, .prepared = prepared, .model = model, .out = shown, .worst = 1, .be = be, .results = nowhere};
    return cache_preview(&p, err);
}

/* The processes that read and decode have countdowns of their own: their failures are heard of by the sentence
 * alone, which for a clip's own process is that of a limit. */
static int child_says_so(int rc, const Err *err)
{
    return rc == ERR_NOMEM || (rc == ERR_LIMIT && strstr(err->msg, "took more memory than there is"));
}

static void fail_each(const char *name, int (*command)(Err *err), const char *out, int again)
{
    int64_t n = 1;
    for (int failed = 1; failed; n += 1 + n / (again ? 8 : 64)) {
        Err err = {0};
        if (out)
            err_ignore(dir_remove(out, NULL));
        mem_fail_after(n);
        int rc = command(&err);
        int here = mem_failed();
        failed = here || child_says_so(rc, &err);
        mem_fail_after(0);
        if (here && rc == 0 && again) /* it does without .seen (cache/seen.h), and all else is there */
            CHECK_OK(cache_verify(&(VerifyParams){.dir = out, .out = nowhere}, &err), &err);
        else if (here && (rc != ERR_NOMEM || err.code != ERR_NOMEM || !err.msg[0]))
            fail_msg("%s, allocation %" PRId64 " refused: returned %d, code %d, '%s'", name, n, rc, err.code, err.msg);
        if (!failed && rc != 0)
            fail_msg("%s with memory enough: returned %d: %s", name, rc, err.msg);
        err_clear(&err);
        if (failed && again && n % 5 == 0)
            CHECK_OK(command(&err), &err);
    }
    printf("# %s: about %" PRId64 " allocations\n", name, n);
}

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void make_prepared(void)
{
    Err err = {0};
    VideoWriter *w;
    static uint8_t rgb[32 * 48 * 3];
    char *source = check_tmp_path("source");
    VideoWriterParams v = {.codec = VIDEO_H264, .width = 32, .height = 48, .rate = {8, 1}};
    CHECK_OK(dir_make(source, &err), &err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(video_create(&w, at(source, i ? "b.mp4" : "a.mp4"), &v, &err), &err);
        for (int k = 0; k < 9; k++) {
            memset(rgb, 20 * k + 10 * i, sizeof rgb);
            CHECK_OK(video_write(w, rgb, &err), &err);
        }
        CHECK_OK(video_finish(&w, &err), &err);
        CHECK_OK(file_write_atomic(at(source, i ? "b.txt" : "a.txt"), i ? "A coat." : "A dress.", 7 + !i, &err), &err);
    }
    IngestParams p = {.source = source, .out = prepared, .recipe = recipe, .shards = 1, .results = nowhere};
    CHECK_OK(prep_ingest(&p, &err), &err);
    CHECK_OK(prep_tokenize(prepared, at(model, "tokenizer"), NULL, recipe, NULL, nowhere, &err), &err);
}

static void commands_say_so(void **state)
{
    (void)state;
    Err err = {0};
    CommonOptions o = {.preset = "demo", .set = {sets, sizeof sets / sizeof *sets}, .seed = -1};
    prepared = check_tmp_path("prepared");
    cache = check_tmp_path("cache");
    whole = check_tmp_path("whole");
    shown = check_tmp_path("shown");
    model = check_repo_path("tests/golden/pipeline/model");
    nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    CHECK_OK(recipe_open(&recipe, &o, &err), &err);
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    make_prepared();
    CHECK_OK(run_build(whole, 0, &err), &err);
    fail_each("diff without a cache", diff_with_none, NULL, 0);
    fail_each("diff", diff, NULL, 0);
    fail_each("preview", preview, shown, 0);
    fail_each("build", build, cache, 1);
    CHECK_OK(cache_verify(&(VerifyParams){.dir = cache, .out = nowhere}, &err), &err);
    backend_close(&be);
    recipe_close(&recipe);
    fclose(nowhere);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands_say_so)};
    return check_run_live("oom_build", tests);
}
