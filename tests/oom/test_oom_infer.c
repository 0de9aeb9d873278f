/* Allocations of sampling and decoding fail one after another: each run says so, leaks nothing, and leaves
 * no sample that looks whole; then the same command makes them. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "infer/decode.h"
#include "infer/sample.h"

enum { SETS = 5 };
static const char *sets[SETS] = {"sampling.num_frames=1", "sampling.width=16", "sampling.height=16",
                                 "sampling.num_inference_steps=2", "sampling.scheduler=dpm"};

static SampleOptions sampling(const char *prompts, const char *out)
{
    return (SampleOptions){.common = {.preset = "demo", .seed = 3, .device = "ref", .jobs = 1, .set = {sets, SETS}},
                           .model = check_repo_path("tests/golden/pipeline/model"),
                           .prompts = prompts,
                           .out = out,
                           .latents_out = check_tmp_path("latents.safetensors"),
                           .offload = "always",
                           .save_frames = 1,
                           .gif = 1,
                           .videos_per_prompt = 2,
                           .preview_every = 1,
                           .reuse_every = 2,
                           .guidance_share = 0.5};
}

/* Fails allocation 1, 2, ... and, the later the sparser, so that a run's thousands take seconds; done
 * when one is not reached. */
static int64_t next_of(int64_t n)
{
    return n + 1 + n / 20;
}

static void sampling_without_memory(void **state)
{
    (void)state;
    static const char lines[] = "{\"prompt\": \"A red dress.\", \"category\": \"dress\", \"guidance\": 3}\n"
                                "{\"prompt\": \"A coat\", \"steps\": 1, \"negative_prompt\": \"grey\"}\n";
    char *prompts = check_tmp_path("prompts.jsonl"), *out = check_tmp_path("out");
    char *record = check_path(out, "dress/a-red-dress-3.json"), *index = check_path(out, "index.json");
    Err err = {0};
    CHECK_OK(file_write_atomic(prompts, lines, (int64_t)strlen(lines), &err), &err);
    SampleOptions o = sampling(prompts, out);
    int64_t failures = 0;
    for (int64_t n = 1;; n = next_of(n)) {
        SampleReport report;
        err_clear(&err);
        CHECK_OK(dir_remove(out, NULL), NULL);
        CHECK_OK(dir_remove(o.latents_out, NULL), NULL);
        mem_fail_after(n);
        int rc = sample_run(&o, NULL, &report, &err);
        int reached = mem_failed();
        mem_fail_after(0);
        str_fini(&report.text);
        if (!reached) {
            CHECK_OK(rc, &err);
            break;
        }
        failures += rc < 0;
        if (rc < 0 && (rc != ERR_NOMEM || !err.msg[0]))
            fail_msg("allocation %d: %s (%d)", (int)n, err.msg, rc);
        if (file_exists(index)) /* listed, so whole */
            assert_true(file_exists(record));
    }
    printf("# %d runs failed\n", (int)failures);
    assert_true(failures > 50);
}

static void decoding_without_memory(void **state)
{
    (void)state;
    char *out = check_tmp_path("decoded"), *latents = check_tmp_path("latents.safetensors");
    const char *files[] = {latents};
    DecodeOptions o = {.common = {.preset = "demo", .seed = -1, .device = "ref", .jobs = 1, .set = {sets, SETS}},
                       .model = check_repo_path("tests/golden/pipeline/model"),
                       .out = out};
    int64_t failures = 0;
    for (int64_t n = 1;; n = next_of(n)) {
        Err err = {0};
        Str text = {0};
        CHECK_OK(dir_remove(out, NULL), NULL);
        mem_fail_after(n);
        int rc = decode_run(&o, &(StrList){files, 1}, NULL, &text, &err);
        int reached = mem_failed();
        mem_fail_after(0);
        str_fini(&text);
        if (!reached) {
            CHECK_OK(rc, &err);
            break;
        }
        failures += rc < 0;
        if (rc < 0 && (rc != ERR_NOMEM || !err.msg[0]))
            fail_msg("allocation %d: %s (%d)", (int)n, err.msg, rc);
    }
    printf("# %d runs failed\n", (int)failures);
    assert_true(failures > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sampling_without_memory),
                                       cmocka_unit_test(decoding_without_memory)};
    return check_run_live("oom_infer", tests);
}
