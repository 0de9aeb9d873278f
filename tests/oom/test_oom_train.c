/* The transformer, the samplers and a whole training run with the n-th allocation failing: an error
 * each time, nothing lost, and then right results again.  A run goes on without its page and its event
 * file, and says so. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/model/dit.h"
#include "common/ops/ops.h"
#include "tests/train_fixture.h"
#include "train/run.h"

static char *transformer, *copy, *caches[2], *model, *out; /* set before memory becomes scarce */
static int went_without;                                   /* a run warned that an output for people is missing */

static void listen(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    went_without |= strstr(line, "out of memory") &&
                    (strstr(line, "report.html was not written: ") || strstr(line, "TensorBoard gets nothing more: "));
}

/* Runs body with the n-th allocation failing, for a growing n, until it comes through. */
static void fail_each(int (*body)(Err *err))
{
    Err err = {0};
    int failed = 1;

    for (int64_t n = 1; failed; n += 1 + n / 16) {
        int rc;
        err_clear(&err);
        went_without = 0;
        mem_fail_after(n);
        rc = body(&err);
        failed = mem_failed();
        mem_fail_after(0);
        if (failed && rc == 0 && !went_without)
            fail_msg("allocation %" PRId64 " failed and nobody said so", n);
        if (failed && rc < 0 && !err.msg[0])
            fail_msg("allocation %" PRId64 " failed without a sentence", n);
        if (failed && rc == 0)
            CHECK_OK(dir_remove(out, &err), &err); /* the next one trains again */
        if (!failed)
            CHECK_OK(rc, &err);
    }
}

static int model_calls(Backend *be, Dit *d, Arena *work, Err *err)
{
    const int64_t t = 500;
    DitTape *tape = NULL;
    Tensor x, v, text;
    int rc;

    if ((rc = arena_tensor(work, &x, DT_F32, 5, err, 1, 2, 4, 4, 4)) < 0 ||
        (rc = arena_tensor(work, &v, DT_F32, 5, err, 1, 2, 4, 4, 4)) < 0 ||
        (rc = arena_tensor(work, &text, DT_F32, 3, err, 1, 226, 32)) < 0 || (rc = op_fill(be, &x, 0.5f, err)) < 0 ||
        (rc = op_fill(be, &text, 0.5f, err)) < 0 || (rc = dit_forward(d, work, &v, &x, &text, &t, err)) < 0)
        return rc;
    rc = dit_forward_train(d, work, &tape, RECOMPUTE_BLOCK, &v, &x, &text, &t, err);
    if (rc == 0)
        rc = dit_backward(d, work, &tape, &v, NULL, NULL, err);
    dit_tape_free(&tape);
    return rc;
}

static int model_body(Err *err)
{
    Backend *be = NULL;
    Dit *d = NULL;
    Arena *work = NULL;
    int rc = backend_open(&be, "cpu", 1, NULL, err);

    if (rc == 0 && (rc = dit_open(&d, be, transformer, DIT_TRAIN, err)) == 0 &&
        (rc = arena_new(&work, be, 8 << 20, "oom", err)) == 0 && (rc = model_calls(be, d, work, err)) == 0)
        rc = dit_save(d, copy, DT_F16, err);
    arena_free(&work);
    dit_close(&d);
    backend_close(&be);
    return rc;
}

static void transformer_and_tape(void **state)
{
    (void)state;
    fail_each(model_body);
}

static int no_noise(void *user, const Tensor *t, Err *err)
{
    return op_fill(user, t, 0.25f, err);
}

static int sampler_body(Err *err)
{
    Backend *be = NULL;
    Schedule s = {0};
    Sampler *p = NULL;
    float x[8] = {1}, v[8] = {2};
    Tensor tx = tensor_of(x, DT_F32, 1, 8), tv = tensor_of(v, DT_F32, 1, 8);
    int rc = backend_open(&be, "cpu", 1, NULL, err);

    if (rc == 0 && (rc = schedule_init_default(&s, err)) == 0 &&
        (rc = sampler_new(&p, be, &s, SAMPLER_DPM, 4, &tx, err)) == 0)
        for (int64_t k = 0; k < 4 && rc == 0; k++)
            rc = sampler_step(p, k, &tx, &tv, no_noise, be, err);
    sampler_free(&p);
    schedule_fini(&s);
    backend_close(&be);
    return rc;
}

static void sampler(void **state)
{
    (void)state;
    fail_each(sampler_body);
}

/* Six steps with two checkpoints, then final; a failed attempt leaves what the next goes on from. */
static int run_body(Err *err)
{
    const char *set[] = {"training.max_steps=6", "training.checkpointing_steps=3"};
    TrainOptions o = {.common = {.preset = "demo", .device = "cpu", .jobs = 1, .seed = -1, .quiet = 1, .set = {set, 2}},
                      .cache = {(const char **)caches, 2},
                      .out = out,
                      .model = model};
    Job j = {0};
    int rc = job_open(&j, &o, err);

    j.log.log.write = listen; /* other warnings are about what the failures before left behind */
    if (rc == 0)
        rc = train_run(&j, o.out, err);
    job_close(&j);
    return rc;
}

static void read_weights(const char *folder, char **bytes, int64_t *size)
{
    Err err = {0};
    char *path = mem_printf(&err, "%s/final/transformer/diffusion_pytorch_model.safetensors", folder);

    CHECK_OK(file_read(path, 1 << 24, bytes, size, &err), &err);
    mem_free(path);
}

static void whole_run(void **state)
{
    Err err = {0};
    char *a, *b;
    int64_t na, nb;

    (void)state;
    out = check_tmp_path("undisturbed");
    CHECK_OK(run_body(&err), &err);
    read_weights(out, &a, &na);
    out = check_tmp_path("starved");
    fail_each(run_body);
    read_weights(out, &b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, (size_t)na);
    mem_free(a);
    mem_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transformer_and_tape), cmocka_unit_test(sampler),
                                       cmocka_unit_test(whole_run)};
    Err err = {0};

    model = check_repo_path("tests/golden/pipeline/model");
    transformer = check_repo_path("tests/golden/pipeline/model/transformer");
    copy = check_tmp_path("copy");
    caches[0] = check_tmp_path("caches/a");
    caches[1] = check_tmp_path("caches/b");
    if (fixture_make(model, check_tmp_path("caches"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    return check_run("oom-train", tests);
}
