/* The search for settings: CogVideoX-2B on cards of several sizes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "train/fit.h"
#include "train/job_internal.h"
#include "dit_2b.h"

static Err err;
static const char *const attention[] = {"to_q", "to_k", "to_v", "to_out.0"};

/* 480 clips of 49 frames of 480 x 720, 16 a step, on the plan back end. */
static Job job_2b(Dataset *data, Backend *be)
{
    *data = (Dataset){.n = 480, .F = 13, .h = 90, .w = 60, .C = 16, .text_len = 226, .text_dim = 4096};
    Job j = {.data = data, .be = be, .batch = 2, .accumulate = 8, .epochs = 10, .max_steps = -1, .how = DIT_TRAIN};
    j.dit = (DitConfig)DIT_2B(30);
    j.c.policy = RECOMPUTE_BLOCK;
    j.c.rate = (Rate){.kind = RATE_CONSTANT, .peak = 5e-6};
    j.c.optimizer.kind = OPTIMIZER_ADAMW;
    j.c.share.size = 1;
    j.lora.target = attention;
    j.lora.targets = 4;
    return j;
}

/* What is printed, or NULL and a message in err. */
static char *search(double bytes, double seconds)
{
    Dataset data;
    Backend *be = NULL;
    Card card;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    err_clear(&err);
    CHECK_OK(backend_open(&be, "plan", 1, NULL, &err), &err);
    be->act = DT_BF16;
    assert_true(card_find(&card, "A100"));
    Job j = job_2b(&data, be);
    CHECK_OK(schedule_init_default(&j.schedule, &err), &err);
    int rc = fit_search(&j, bytes, seconds, &card, 1, "heading", out, &err);
    fclose(out);
    backend_close(&be);
    schedule_fini(&j.schedule);
    if (rc == 0)
        return text;
    assert_int_equal(rc, ERR_LIMIT);
    assert_int_equal(size, 0); /* no heading of nothing */
    free(text);
    return NULL;
}

static void finds(double bytes, double seconds, const char *const *want)
{
    char *got = search(bytes, seconds);
    if (!got)
        fail_msg("%g bytes: %s", bytes, err.msg);
    for (; *want; want++)
        if (!strstr(got, *want))
            fail_msg("%g bytes: '%s' is not in\n%s", bytes, *want, got);
    free(got);
}
#define FINDS(bytes, seconds, ...) finds(bytes, seconds, (const char *const[]){__VA_ARGS__, NULL})

static void cards(void **state)
{
    (void)state;
    FINDS(80e9, HUGE_VAL, "# heading\n# ", " of memory, 600 MB of them for CUDA itself; ", "use_8bit_adam: false",
          "gradient_dtype: fp32", "lora_rank: 0\n");
    FINDS(40e9, HUGE_VAL, "use_8bit_adam: false", "recompute: block", "lora_rank: 0\n");
    FINDS(32e9, HUGE_VAL, "use_8bit_adam: true", "lora_rank: 0\n");
    FINDS(16e9, HUGE_VAL, "lora_rank: 128\n", "1e-4 to 1e-3 are usual");
    assert_null(search(2e9, HUGE_VAL));
    assert_non_null(strstr(err.msg, "nothing fits 2.00 GB: the least that was found is "));
    assert_null(search(80e9, 60));
    assert_non_null(strstr(err.msg, "nothing that fits 80.00 GB is done in 60 s: the quickest takes "));
    assert_null(search(HUGE_VAL, 60));
    assert_non_null(strstr(err.msg, "nothing is done in 60 s: the quickest takes "));
}

static void quantities(void **state)
{
    double v;

    (void)state;
    err_clear(&err);
    CHECK_OK(fit_bytes(&v, "24G", &err), &err);
    assert_true(v == 24e9);
    CHECK_OK(fit_bytes(&v, "24GiB", &err), &err);
    assert_true(v == 24.0 * (1 << 30));
    CHECK_OK(fit_seconds(&v, "8h", &err), &err);
    assert_true(v == 28800);
    CHECK_FAILS(fit_bytes(&v, "24", &err), ERR_USAGE, "such as 24G", &err);
    CHECK_FAILS(fit_bytes(&v, "lots", &err), ERR_USAGE, "expected a number and a unit", &err);
    CHECK_FAILS(fit_seconds(&v, "-3h", &err), ERR_USAGE, "such as 8h", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cards), cmocka_unit_test(quantities)};
    return check_run_live("train_fit", tests);
}
