/* The report from a hand-made dataset: counts, escaping of hostile text, pictures inside, nothing
 * from outside, and no memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/media/video.h"
#include "prep/set/report.h"

#define EVIL "</p><script>alert(1)</script><img src=x onerror='a()'> \\\"&amp;"
#define HEX "0000000000000000000000000000000000000000000000000000000000000000"

/* A manifest line; reason is JSON. */
static void line(FILE *f, const char *id, const char *reason, const char *caption, const char *contact)
{
    fprintf(
        f,
        "{\"id\":\"%s\",\"decision\":\"%s\",\"reason\":%s,\"warnings\":[{\"code\":\"dark\",\"text\":\"it is <dark>\"}],"
        "\"split\":\"val\","
        "\"category\":\"Dresses & <b>\",\"captions\":[\"%s\"],\"attributes\":{\"fabric\":\"silk\",\"color\":[\" "
        "Red\",\"<i>\"]},"
        "\"extra\":{},\"key\":\"" HEX "\",\"recipe_sha256\":\"" HEX
        "\",\"source\":{\"path\":\"%s.mp4\",\"kind\":\"video\","
        "\"size\":1,\"sha256\":\"" HEX "\"},\"probe\":null,\"window\":null,\"geometry\":null,\"ledger\":[],\"timing\":"
        "{\"mean_abs_error_s\":0.008,\"max_abs_error_s\":0.02},\"quality\":null,\"contact\":%s,\"clip\":null}\n",
        id, strcmp(reason, "null") ? "reject" : "accept", reason, caption, id, contact);
}

static char *make(const char *name, int accepted)
{
    Err err = {0};
    char *dir = check_tmp_path(name), path[600], id[32];
    CHECK_OK(dir_make(dir, &err), &err);
    snprintf(path, sizeof path, "%s/thumbs", dir);
    CHECK_OK(dir_make(path, &err), &err);
    snprintf(path, sizeof path, "%s/thumbs/a.png", dir);
    uint8_t rgb[12 * 8 * 3];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7);
    CHECK_OK(picture_write_png(path, rgb, 12, 8, &err), &err);
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    FILE *f = fopen(path, "w");
    line(f, "a", "null", EVIL, "\"thumbs/a.png\"");
    line(f, "twin", "{\"code\":\"near_duplicate\",\"text\":\"looks like 'a': 3 of 192 bits differ\"}", "x",
         "\"thumbs/gone.png\"");
    line(f, "bad", "{\"code\":\"damaged\",\"text\":\"" EVIL "\"}", "x", "null");
    for (int i = 1; i < accepted; i++) {
        snprintf(id, sizeof id, "more%d", i);
        line(f, id, "null", "A dress.", "null");
    }
    fclose(f);
    return dir;
}

static json_t *dataset(const char *dir, int accepted)
{
    Err err = {0};
    char path[600], hex[65];
    Digest digest;
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    CHECK_OK(sha256_file(path, &digest, &err), &err);
    digest_hex(&digest, hex);
    json_t *o = json_pack("{s:s, s:{s:i, s:i, s:i, s:{s:i, s:i}, s:{s:i}, s:{s:i}, s:{s:{s:i}}}, s:{s:s}}", "layout",
                          "pairs", "counts", "sources", accepted + 2, "accepted", accepted, "rejected", 2, "reasons",
                          "near_duplicate", 1, "damaged", 1, "warnings", "dark", accepted, "splits", "val", accepted,
                          "categories", "Dresses & <b>\xe2\x80\xae\xc2\x9b", "val", accepted, "manifest", "sha256",
                          hex);
    assert_non_null(o);
    return o;
}

static char *page_of(const char *dir, const char *name)
{
    Err err = {0};
    char path[600], *page;
    int64_t size;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(file_read(path, 1 << 24, &page, &size, &err), &err);
    return page;
}

static void tells_everything(void **state)
{
    Err err = {0};
    (void)state;
    char *dir = make("report", 60), path[600];
    json_t *set = dataset(dir, 60), *o;
    CHECK_OK(report_write(dir, set, 0, &err), &err);
    snprintf(path, sizeof path, "%s/report.json", dir);
    CHECK_OK(json_read_file(&o, path, &err), &err);
    CHECK_OK(schema_check("report", o, path, &err), &err);
    assert_int_equal(json_array_size(json_object_get(o, "rejected")), 2);
    assert_int_equal(json_array_size(json_object_get(o, "accepted")), 24);
    const json_t *pair = json_array_get(json_object_get(o, "duplicates"), 0);
    assert_string_equal(json_string_value(json_object_get(pair, "kept")), "a");
    assert_string_equal(json_string_value(json_object_get(pair, "kept_contact")), "thumbs/a.png");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json_object_get(o, "attributes"), "color"), "red")), 60);
    check_value("timing", json_real_value(json_object_get(json_object_get(o, "timing"), "mean_abs_error_s")), 0.008,
                1e-9, 0);
    json_decref(o);
    char *page = page_of(dir, "report.html");
    static const char *const never[] = {
        "<script", "<img src=x", "onerror='", "http:", "https:", "<b>&", "<dark>", "<i>", "url("};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strstr(page, never[i]))
            fail_msg("the page holds %s", never[i]);
    assert_non_null(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(page, "&quot;&amp;amp;"));
    assert_non_null(strstr(page, "src=\"data:image/png;base64,iVBORw0KGgo"));
    assert_non_null(strstr(page, "Dresses &amp; &lt;b&gt;\\u202E\\u009B")); /* an override turns nothing around */
    assert_null(strstr(page, "\xe2\x80\xae"));
    assert_non_null(strstr(page, "8.00 ms from their wanted times on average, 20.00 ms at most"));
    assert_non_null(strstr(page, "@media print"));
    assert_non_null(strstr(page, "Accepted clips (24 of 60)"));
    CHECK_OK(report_write(dir, set, 0, &err), &err);
    char *again = page_of(dir, "report.html");
    assert_string_equal(page, again);
    mem_free(again);
    mem_free(page);
    json_decref(set);
}

static int has_clip(const char *page, const char *id)
{
    char text[64];
    snprintf(text, sizeof text, "<bdi>%s</bdi>", id);
    return strstr(page, text) != NULL;
}

/* More than one page holds: the first shows some of each reason and where the rest is; every clip
 * is on the others once. */
static void pages(void **state)
{
    enum { DAMAGED = 450, TWINS = 30 };
    static const struct {
        const char *name;
        int first, last;
    } want[] = {{"report-2.html", 0, 200}, {"report-3.html", 200, 400}, {"report-4.html", 400, 450}};
    Err err = {0};
    char *dir = make("pages", 1), path[600], id[32], *page;
    (void)state;
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    FILE *f = fopen(path, "w");
    line(f, "a", "null", "x", "\"thumbs/a.png\"");
    for (int i = 0; i < DAMAGED; i++) {
        snprintf(id, sizeof id, "d%d", i);
        line(f, id, "{\"code\":\"damaged\",\"text\":\"it is\"}", "x", "\"thumbs/a.png\"");
        snprintf(id, sizeof id, "t%d", i);
        if (i < TWINS)
            line(f, id, "{\"code\":\"near_duplicate\",\"text\":\"looks like 'a': 3 of 192 bits differ\"}", "x", "null");
    }
    line(f, "z", "{\"code\":\"dark\",\"text\":\"it is\"}", "x", "null");
    fclose(f);
    json_t *set = dataset(dir, 1), *counts = json_object_get(set, "counts");
    json_object_set_new(counts, "rejected", json_integer(DAMAGED + TWINS + 1));
    json_object_set_new(counts, "reasons",
                        json_pack("{s:i, s:i, s:i}", "damaged", DAMAGED, "near_duplicate", TWINS, "dark", 1));
    static const char *const stale[] = {"report-7.html", "report-19.html"}, *const others[] = {
                                                                                "report-x.html", "report-1.html",
                                                                                "report-8.html.txt", "report-07.html"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, stale[i]);
        CHECK_OK(file_write_atomic(path, "old", 3, &err), &err);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, others[i]);
        CHECK_OK(file_write_atomic(path, "mine", 4, &err), &err);
    }
    CHECK_OK(report_write(dir, set, 0, &err), &err);
    page = page_of(dir, "report.html");
    assert_true(has_clip(page, "d23") && !has_clip(page, "d24") && has_clip(page, "z") && has_clip(page, "t23") &&
                !has_clip(page, "t24"));
    assert_non_null(strstr(page, "These are the first 24 of 450. <a href=\"report-2.html\">All of them</a>"));
    assert_non_null(strstr(page, "These are the first 24 of 30. <a href=\"report-5.html\">All of them</a>"));
    assert_non_null(strstr(page, "These are the first 24 of 30. <a href=\"report-6.html\">All of them</a>"));
    mem_free(page);
    for (int p = 0; p < 3; p++) {
        page = page_of(dir, want[p].name);
        for (int i = 0; i < DAMAGED; i++) {
            snprintf(id, sizeof id, "d%d", i);
            assert_int_equal(has_clip(page, id), i >= want[p].first && i < want[p].last);
        }
        assert_true(!has_clip(page, "t0") && strstr(page, "data:image/png") && strstr(page, "href=\"report.html\""));
        assert_int_equal(strstr(page, ">next page<") != NULL, 1);
        mem_free(page);
    }
    page = page_of(dir, "report-6.html");
    assert_true(has_clip(page, "t29") && strstr(page, "Clips that look alike") && !strstr(page, ">next page<") &&
                strstr(page, "report-5.html"));
    mem_free(page);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, stale[i]);
        assert_false(file_exists(path));
    }
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, others[i]);
        assert_true(file_exists(path));
    }
    json_decref(set);
}

static void without_memory(void **state)
{
    Err err = {0};
    (void)state;
    char *dir = make("oom", 1);
    json_t *set = dataset(dir, 1);
    for (int64_t n = 1;; n++) {
        mem_fail_after(n);
        int rc = report_write(dir, set, 1, &err), failed = mem_failed();
        mem_fail_after(0);
        if (!failed) {
            CHECK_OK(rc, &err);
            assert_true(n > 20);
            break;
        }
        CHECK_FAILS(rc, ERR_NOMEM, "", &err);
    }
    json_decref(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tells_everything), cmocka_unit_test(pages),
                                       cmocka_unit_test(without_memory)};
    return check_run_live("prep report", tests);
}
