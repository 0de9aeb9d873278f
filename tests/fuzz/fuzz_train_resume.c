/* Any bytes as a checkpoint's state.json and as a run's log.jsonl: a state is refused with a
 * sentence or can be resumed; a cut log is a prefix of what it was, in whole lines. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "train/identity.h"
#include "train/resume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds)
{
    if (!holds)
        abort();
}

static const Job *some_job(void)
{
    static Job job;
    static Dataset data;
    static Backend be = {.name = "cpu"};
    CommonOptions common = {.preset = "demo", .seed = -1};

    if (!job.recipe) {
        expect(recipe_open(&job.recipe, &common, NULL) == 0);
        memset(data.digest, 'a', 64);
        job.data = &data;
        job.be = &be;
        job.base = job.start = "base";
        job.steps = 100;
        expect(schedule_init_default(&job.schedule, NULL) == 0);
        expect(identity_make(&job.identity, &job.schedule, "tests/golden/pipeline/model", NULL, NULL, NULL, NULL) == 0);
        data.n = job.batch = job.accumulate = job.epoch_steps = 1;
    }
    return &job;
}

static void try_state(const uint8_t *bytes, size_t size)
{
    Err err = {0};
    json_t *v = NULL;
    int64_t step;

    if (json_parse(&v, (const char *)bytes, (int64_t)size, "fuzz", &err) == 0 &&
        schema_check("train-state", v, "fuzz", &err) == 0 && json_get_int(v, "step", "fuzz", &step, &err) == 0)
        expect(resume_check(some_job(), v, step, &err) == 0 || err.msg[0]);
    else
        expect(err.msg[0] != 0);
    json_decref(v);
}

static void try_log(const uint8_t *bytes, size_t size)
{
    char path[64], *text = NULL;
    int64_t n = 0;
    Err err = {0};

    snprintf(path, sizeof path, "/tmp/weft-fuzz-log-%ld", (long)getpid());
    FILE *f = fopen(path, "wb");
    expect(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
    expect(resume_cut_log(path, 5, &err) == 0 && file_read(path, 1 << 26, &text, &n, &err) == 0);
    expect(n <= (int64_t)size && (n == 0 || (text[n - 1] == '\n' && !memcmp(text, bytes, (size_t)n))));
    mem_free(text);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_state(data, size);
    try_log(data, size);
    return 0;
}
