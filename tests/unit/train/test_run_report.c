/* report.html of a small run: what it says, that nothing in it comes from elsewhere, and torn or damaged
 * lines. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/run_report.h"

static Err err;

static void write_in(const char *run, const char *name, const char *text)
{
    char *path = path_join(run, name, &err);

    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    mem_free(path);
}

static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void make_run(const char *run)
{
    char *path = path_join(run, "run.json", &err);
    JsonWriter w;
    json_t *facts;

    CHECK_OK(dir_make(run, &err), &err);
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_str(&w, "program", "weft-train");
    jsonw_str(&w, "device", "cpu");
    jsonw_str(&w, "base_model", "model");
    jsonw_str(&w, "pretrained_weights", "a <script>alert('x')</script> & \"folder\" \xe2\x80\xae");
    jsonw_str(&w, "cache_digest", hex);
    jsonw_open(&w, "build");
    jsonw_str(&w, "version", "<b>1</b>");
    jsonw_close(&w);
    jsonw_int(&w, "samples", 480);
    jsonw_int(&w, "parameters", 1694000000);
    jsonw_int(&w, "steps", 300);
    jsonw_int(&w, "epoch_steps", 30);
    jsonw_ints(&w, "latents", (int64_t[]){13, 90, 60, 16}, 4);
    jsonw_open(&w, "recipe");
    jsonw_open(&w, "training");
    jsonw_str(&w, "base_model", "<i>");
    jsonw_close(&w);
    jsonw_close(&w);
    CHECK_OK(jsonw_finish(&w, &facts, "run.json", &err), &err);
    CHECK_OK(json_write_file(facts, path, &err), &err);
    json_decref(facts);
    mem_free(path);
}

static void add_steps(Str *s, int first, int n)
{
    for (int i = first; i < first + n; i++)
        CHECK_OK(str_printf(s, &err,
                            "{\"step\":%d,\"epoch\":0,\"loss\":%g,\"loss_smoothed\":1.5,\"lr\":1e-5,\"grad_norm\":2.5,"
                            "\"samples\":16,\"time\":{\"data\":0.5,\"forward\":1,\"backward\":2,\"optimizer\":0.25,"
                            "\"samples_per_second\":4,\"flops\":2e14,\"mfu\":0.41}}\n",
                            i, 1 + 1.0 / i),
                 &err);
}

static const char measured[] =
    "{\"step\":0,\"loss\":2.0,\"deciles\":[1,2,null,4,5,6,7,8,9,10],\"clips\":[\"a\",\"b\"],\"timesteps\":[[1],[2]],"
    "\"losses\":[[2],[2]],\"time\":{\"seconds\":1}}\n"
    "{\"step\":300,\"loss\":1.75,\"change\":{\"mean\":-0.25,\"low\":%s,\"high\":%s},\"deciles\":[0.5,2,null,4,5,6,7,8,"
    "9,"
    "9.5],\"clips\":[\"a\",\"b\"],\"timesteps\":[[1],[2]],\"losses\":[[1.5],[2]],\"time\":{\"seconds\":1}}\n";

static const char averaged[] =
    "{\"step\":400,\"loss\":1.75,\"change\":{\"mean\":-0.25,\"low\":-1,\"high\":1},\"deciles\":[0.5,2,null,4,5,6,7,8,"
    "9,9.5],\"ema\":{\"loss\":1.5,\"change\":{\"mean\":-0.5,\"low\":-0.75,\"high\":-0.25},\"deciles\":[0.5,2,null,4,5,"
    "6,7,8,9,9]},\"clips\":[\"a\",\"b\"],\"timesteps\":[[1],[2]],\"losses\":[[1.5],[2]],\"time\":{\"seconds\":1}}\n";

static void write_measured(const char *run, const char *low, const char *high)
{
    Str s = {0};

    CHECK_OK(str_printf(&s, &err, measured, low, high), &err);
    write_in(run, "held_out.jsonl", s.data);
    str_fini(&s);
}

static char *page_of(const char *run)
{
    char *path = path_join(run, "report.html", &err), *text = NULL;
    int64_t size;

    CHECK_OK(run_report_write(run, &err), &err);
    CHECK_OK(file_read(path, 1 << 24, &text, &size, &err), &err);
    mem_free(path);
    return text;
}

static void has(const char *page, const char *part)
{
    if (!strstr(page, part))
        fail_msg("the page lacks '%s'", part);
}

static void lacks(const char *page, const char *part)
{
    if (strstr(page, part))
        fail_msg("the page has '%s'", part);
}

static void says_what_happened(void **state)
{
    const char *run = check_tmp_path("run");
    Str steps = {0};
    char *page, *again;

    (void)state;
    make_run(run);
    add_steps(&steps, 1, 300);
    write_in(run, "log.jsonl", steps.data);
    write_measured(run, "-0.375", "-0.125");
    page = page_of(run);
    has(page, "300 of 300");
    has(page, "1.69 G");
    has(page,
        "is <b>1.7500</b>, -0.2500 against the start of the run (95 % -0.3750 to -0.1250): <b class=\"good\">lower");
    has(page, "<td>0–10 %</td><td class=\"n\">1.0000</td><td class=\"n\">0.5000</td><td class=\"n\">-0.5000</td>");
    has(page, "<td>20–30 %</td><td class=\"n\"></td>"); /* no timestep lies there */
    has(page, "A step takes 4 s on average: 4 samples and 200 TFLOP a second, 41.0 % of the card's peak");
    has(page, "backward 2 s (50 %)");
    has(page, "Held-out loss</figcaption>");
    lacks(page, "averaged weights");
    again = page_of(run);
    assert_string_equal(page, again);
    mem_free(page);
    mem_free(again);

    write_measured(run, "-0.375", "0.125");
    page = page_of(run);
    has(page, "no clear difference");
    mem_free(page);
    write_measured(run, "0.125", "0.375");
    page = page_of(run);
    has(page, "<b class=\"bad\">higher than it was");
    mem_free(page);
    write_in(run, "held_out.jsonl", averaged);
    page = page_of(run);
    has(page, "After step 400 the held-out loss of the averaged weights is <b>1.5000</b>, -0.5000 against the start");
    has(page, "averaged weights (EMA)");
    mem_free(page);
    write_measured(run, "0.125", "0.375");
    str_fini(&steps);
}

static void loads_and_runs_nothing(void **state)
{
    char *page = page_of(check_tmp_path("run"));

    (void)state;
    has(page, "default-src 'none'");
    has(page, "a &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;folder&quot; \\u202E");
    lacks(page, "<script");
    lacks(page, "<b>1</b></bdi>");
    lacks(page, "<i>&");
    lacks(page, "http:");
    lacks(page, "https:");
    lacks(page, "src=\"/");
    lacks(page, "url(");
    mem_free(page);
}

/* Twenty samples of a prompt with a hostile text: twelve are shown, the first and the last among them. */
static void samples_and_prediction(void **state)
{
    const char *run = check_tmp_path("samples");
    Str lines = {0};
    char *page;

    (void)state;
    make_run(run);
    for (int step = 0; step < 20; step++)
        CHECK_OK(
            str_printf(&lines, &err,
                       "{\"step\":%d,\"number\":0,\"prompt\":\"a <b>dress</b>\",\"seed\":1,\"latents\":\"samples/a\","
                       "\"picture\":null,\"video\":\"samples/step-%d-0.mp4\",\"time\":{\"seconds\":1}}\n",
                       step, step),
            &err);
    write_in(run, "samples.jsonl", lines.data);
    write_in(run, "prediction.json",
             "{\"device\":\"cpu\",\"memory_bytes\":{\"predicted\":2e9,\"measured\":2.02e9},"
             "\"step_seconds\":{\"measured\":0.186},\"run_seconds\":{\"predicted\":10000,\"measured\":11000}}");
    page = page_of(run);
    has(page, "<bdi>a &lt;b&gt;dress&lt;/b&gt;</bdi>");
    has(page, "<figcaption>step 0</figcaption>");
    has(page, "<a href=\"samples/step-19-0.mp4\">video</a>");
    lacks(page, "<figcaption>step 2</figcaption>");
    has(page, "<td>memory</td><td class=\"n\">2.00 GB</td><td class=\"n\">2.02 GB</td><td class=\"n\">+1.0 %</td>");
    has(page, "<td>the run</td><td class=\"n\">2.8 h</td><td class=\"n\">3.1 h</td><td class=\"n\">+10.0 %</td>");
    has(page, "<td>a step</td><td class=\"n\"></td><td class=\"n\">0.186 s</td></tr>");
    mem_free(page);
    write_in(run, "samples.jsonl", "{\"step\":0,\"picture\":\"../../etc/passwd\"}\n");
    CHECK_FAILS(run_report_write(run, &err), ERR_FORMAT, "samples.jsonl line 1", &err);
    str_fini(&lines);
}

/* A run of 20,000 lines draws as many points as its picture has columns. */
static void long_runs_stay_small(void **state)
{
    const char *run = check_tmp_path("long");
    Str steps = {0};
    char *page;

    (void)state;
    make_run(run);
    add_steps(&steps, 1, 20000);
    write_in(run, "log.jsonl", steps.data);
    page = page_of(run);
    assert_true(strlen(page) < 100000);
    mem_free(page);
    str_fini(&steps);
}

static void torn_and_damaged(void **state)
{
    const char *run = check_tmp_path("torn");
    Str steps = {0};
    char *page;

    (void)state;
    CHECK_FAILS(run_report_write(check_tmp_path("nothing"), &err), ERR_NOTFOUND, "is no run of weft-train", &err);
    make_run(run);
    page = page_of(run); /* before its first step */
    has(page, "0 of 300");
    mem_free(page);
    add_steps(&steps, 1, 3);
    CHECK_OK(str_append(&steps, "{\"step\":4,\"ep", &err), &err);
    write_in(run, "log.jsonl", steps.data);
    page = page_of(run);
    has(page, "3 of 300");
    mem_free(page);
    CHECK_OK(str_append(&steps, "\n", &err), &err);
    add_steps(&steps, 5, 1);
    write_in(run, "log.jsonl", steps.data);
    CHECK_FAILS(run_report_write(run, &err), ERR_FORMAT, "log.jsonl line 5: the line before it is not JSON", &err);
    write_in(run, "log.jsonl", "{\"step\":\"one\"}\n");
    CHECK_FAILS(run_report_write(run, &err), ERR_FORMAT, "key 'epoch' is missing", &err);
    str_fini(&steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(says_what_happened), cmocka_unit_test(loads_and_runs_nothing),
                                       cmocka_unit_test(samples_and_prediction), cmocka_unit_test(long_runs_stay_small),
                                       cmocka_unit_test(torn_and_damaged)};

    return check_run_live("run-report", tests);
}
