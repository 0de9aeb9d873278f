/* Two hundred seeded corruptions each of MP4, Matroska and WebM: no crash, no hang, and whatever is
 * accepted shows only pictures of the undamaged file.
 *
 * The undamaged files are stored (tests/unit/prep/stored), so that every encoder's version meets the
 * same bytes: 24 frames of 64x96 at 8 a second that show the numbers from 0x5500 on as bars, a key
 * frame every 8; H.264 (preset ultrafast), and VP8 (deadline realtime, cpu-used 8) in WebM. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/media/video.h"
#include "prep/ingest.h"

enum { W = 64, H = 96, FRAMES = 24, OUT = 17, COPIES = 200 };

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

/* Overwritten spans, zeroed spans, missing spans, a cut end: mostly one, sometimes three, anywhere
 * in the file. */
static int64_t corrupt(char *bytes, int64_t size, uint64_t seed)
{
    Philox p = philox_stream(seed, RNG_TEST, 0, 4);
    uint64_t i = 0;
    for (int64_t times = 1 + 2 * (int64_t)(philox_below(&p, i++, 4) == 0); times > 0 && size > 64; times--) {
        int64_t n = 16 + (int64_t)philox_below(&p, i++, 500), from = (int64_t)philox_below(&p, i++, (uint64_t)size);
        n = n < size - from ? n : size - from;
        switch (philox_below(&p, i++, 4)) {
        case 0:
            for (int64_t k = 0; k < n; k++)
                bytes[from + k] = (char)philox_u32(&p, i++);
            break;
        case 1: memset(bytes + from, 0, (size_t)n); break;
        case 2:
            memmove(bytes + from, bytes + from + n, (size_t)(size - from - n));
            size -= n;
            break;
        default: size = from > 0 ? from : size;
        }
    }
    return size;
}

/* Numbers whose bars are never all dark: no picture is black. */
enum { FIRST = 0x5500 };
static void quiet_log(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

static char *ingest_all(const char *root, const char *out)
{
    static const char *sets[] = {
        "clip.width=64",        "clip.height=96",          "clip.min_side=16",  "clip.model_frames=17",
        "clip.num_frames=16",   "clip.max_reject_ratio=1", "quality.mode=warn", "clip.allow_empty_caption=true",
        "limits.cpu_seconds=20"};
    Err err = {0};
    Recipe *recipe;
    char *text;
    int64_t size;
    Log log = {.write = quiet_log, .level = LOG_DEBUG};
    CHECK_OK(recipe_open(&recipe,
                         &(CommonOptions){.preset = "demo", .set = {sets, sizeof sets / sizeof *sets}, .seed = -1},
                         &err),
             &err);
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {
        .source = root, .out = out, .recipe = recipe, .jobs = 2, .shards = 1, .log = &log, .results = null};
    int rc = prep_ingest(&p, &err);
    CHECK_OK(rc, &err);
    fclose(null);
    recipe_close(&recipe);
    CHECK_OK(file_read(at(out, "manifest.jsonl"), 1 << 28, &text, &size, &err), &err);
    return text;
}

/* The largest difference of two pictures. */
static int furthest(const uint8_t *a, const uint8_t *b)
{
    int most = 0;
    for (int i = 0; i < W * H * 3; i++)
        most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
    return most;
}

/* slight: pictures that many levels off at most may pass.  0 but for VP8 in WebM: its arithmetic
 * coder takes any bytes for numbers, it has no checksums, and WebM (unlike Matroska) has none
 * either, so that no reader can detect slight damage of a block. */
static void one_container(const char *container, const char *name, uint64_t seed, int slight)
{
    char whole_dir[32], root_name[32], out_name[32], file[64], stored[64], *bytes;
    Err err = {0};
    int64_t size, n, width, height;
    snprintf(whole_dir, sizeof whole_dir, "whole-%s", container);
    snprintf(root_name, sizeof root_name, "src-%s", container);
    snprintf(out_name, sizeof out_name, "out-%s", container);
    char *whole = check_tmp_path(whole_dir), *root = check_tmp_path(root_name), *out = check_tmp_path(out_name);
    CHECK_OK(dir_make(whole, &err), &err);
    CHECK_OK(dir_make(root, &err), &err);
    snprintf(stored, sizeof stored, "tests/unit/prep/stored/%s", name);
    CHECK_OK(file_read(check_repo_path(stored), 1 << 26, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(at(whole, name), bytes, size, &err), &err);
    char *copy = mem_calloc(size, 1, &err);
    for (int k = 0; k < COPIES; k++) {
        memcpy(copy, bytes, (size_t)size);
        int64_t left = corrupt(copy, size, seed + (uint64_t)k);
        snprintf(file, sizeof file, "%03d-%s", k, name);
        CHECK_OK(file_write_atomic(at(root, file), copy, left, &err), &err);
    }
    mem_free(copy);
    mem_free(bytes);

    uint8_t *good, *got;
    char *text = ingest_all(whole, at(out, "w"));
    mem_free(text);
    snprintf(file, sizeof file, "w/clips/%.*s.mkv", (int)(strchr(name, '.') - name), name);
    CHECK_OK(video_read_rgb(at(out, file), OUT, W, H, &good, &n, &width, &height, &err), &err);
    text = ingest_all(root, at(out, "c"));
    int lines = 0, accepted = 0, spoilt = 0, crashed = 0;
    for (char *row = strtok(text, "\n"); row; row = strtok(NULL, "\n"), lines++) {
        json_t *o;
        CHECK_OK(json_parse(&o, row, (int64_t)strlen(row), "line", &err), &err);
        const json_t *clip = json_object_get(o, "clip");
        const char *code = json_string_value(json_object_get(json_object_get(o, "reason"), "code"));
        crashed += code && (strcmp(code, "worker_crash") == 0 || strcmp(code, "timeout") == 0);
        if (json_is_object(clip)) {
            CHECK_OK(video_read_rgb(at(at(out, "c"), json_string_value(json_object_get(clip, "file"))), OUT, W, H, &got,
                                    &n, &width, &height, &err),
                     &err);
            int bad = 0;
            for (int64_t k = 0; k < OUT; k++) {
                int same = 0;
                for (int64_t g = 0; g < OUT; g++)
                    same = same || furthest(got + k * W * H * 3, good + g * W * H * 3) <= slight;
                int number = read_number(got + k * W * H * 3, W, H) - FIRST;
                /* past the first window: only the number is known */
                bad = bad || (!same && !(number >= OUT && number < FRAMES));
            }
            if (bad)
                printf("# %s: a picture that the undamaged file does not have\n",
                       json_string_value(json_object_get(o, "id")));
            accepted++;
            spoilt += bad;
            mem_free(got);
        }
        json_decref(o);
    }
    printf("# %s: %d of %d accepted, %d of them spoilt, %d crashed or hung\n", container, accepted, lines, spoilt,
           crashed);
    mem_free(good);
    mem_free(text);
    assert_int_equal(lines, COPIES);
    assert_int_equal(crashed, 0);
    assert_true(accepted < COPIES);
    assert_int_equal(spoilt, 0);
}

static void mp4(void **state)
{
    (void)state;
    one_container("mp4", "a.mp4", 1, 0);
}

static void matroska(void **state)
{
    (void)state;
    one_container("matroska", "a.mkv", 1001, 0);
}

static void webm(void **state)
{
    (void)state;
    one_container("webm", "a.webm", 2001, 17);
}

/* ---- missing packets ------------------------------------------------------------------------- */
/* The stored WebM without the bytes from..from+n-1. */
static void cut_out(const char *to, int64_t from, int64_t n)
{
    Err err = {0};
    char *bytes;
    int64_t size;
    CHECK_OK(file_read(check_repo_path("tests/unit/prep/stored/a.webm"), 1 << 20, &bytes, &size, &err), &err);
    memmove(bytes + from, bytes + from + n, (size_t)(size - from - n));
    CHECK_OK(file_write_atomic(to, bytes, size - n, &err), &err);
    mem_free(bytes);
}

/* Where the WebM's SimpleBlock of frame k (lacing and big clusters do not occur) begins; its size. */
static int64_t block(const char *bytes, int64_t size, int k, int64_t *length)
{
    for (int64_t i = 0; i + 8 < size; i++) {
        const uint8_t *b = (const uint8_t *)bytes + i;
        if (b[0] != 0xa3)
            continue;
        int64_t head = b[1] & 0x80 ? 2 : 3, n = head == 2 ? b[1] & 0x7f : (b[1] & 0x3f) << 8 | b[2];
        if ((b[1] & 0xc0) == 0 || b[head] != 0x81 || i + head + n > size)
            continue;
        if (k-- == 0) {
            *length = head + n;
            return i;
        }
        i += head + n - 1;
    }
    fail_msg("no such block");
    return 0;
}

static const char *reason_of(const char *text)
{
    static char code[64];
    Err err = {0};
    json_t *o;
    CHECK_OK(json_parse(&o, text, (int64_t)strcspn(text, "\n"), "line", &err), &err);
    const char *reason = json_string_value(json_object_get(json_object_get(o, "reason"), "code"));
    json_t *note;
    size_t i;
    snprintf(code, sizeof code, "%s", reason ? reason : "");
    json_array_foreach (json_object_get(o, "warnings"), i, note)
        if (!reason && strcmp(json_string_value(json_object_get(note, "code")), "frames_missing") == 0)
            snprintf(code, sizeof code, "noted");
    json_decref(o);
    return code;
}

/* Two frames cut out of the window: the file ends early and its rate has a gap: rejected.  One cut out
 * behind the window: noted.  Nothing cut out: neither. */
static void missing(void **state)
{
    static const struct {
        int frame, frames;
        const char *want;
    } cases[] = {{5, 2, "damaged"}, {22, 1, "noted"}, {0, 0, ""}};
    char *bytes, name[32], out_name[32];
    int64_t size;
    Err err = {0};
    (void)state;
    CHECK_OK(file_read(check_repo_path("tests/unit/prep/stored/a.webm"), 1 << 20, &bytes, &size, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t first = 0, second = 0, from = 0;
        snprintf(name, sizeof name, "missing-%zu", i);
        snprintf(out_name, sizeof out_name, "missing-out-%zu", i);
        char *root = check_tmp_path(name);
        CHECK_OK(dir_make(root, &err), &err);
        if (cases[i].frames) {
            from = block(bytes, size, cases[i].frame, &first);
            assert_int_equal(block(bytes, size, cases[i].frame + 1, &second), from + first);
        }
        cut_out(at(root, "a.webm"), from, cases[i].frames == 2 ? first + second : first);
        char *text = ingest_all(root, check_tmp_path(out_name));
        if (strcmp(reason_of(text), cases[i].want) != 0)
            fail_msg("case %zu: '%s', expected '%s' in %s", i, reason_of(text), cases[i].want, text);
        mem_free(text);
    }
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mp4), cmocka_unit_test(matroska), cmocka_unit_test(webm),
                                       cmocka_unit_test(missing)};
    av_log_set_level(AV_LOG_QUIET);
    return check_run_live("prep corruptions", tests);
}
