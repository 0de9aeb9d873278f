/* Ingest from the first byte to the last: made clips in, and every line, pixel and refusal looked
 * at. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/media/video.h"
#include "prep/ingest.h"

enum { W = 96, H = 144, OUT = 49 };

/* ---- helpers --------------------------------------------------------------------------------- */
static char *fresh(const char *name)
{
    Err err = {0};
    char *path = check_tmp_path(name);
    CHECK_OK(dir_make(path, &err), &err);
    return path;
}

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void put(const char *root, const char *name, const char *text)
{
    Err err = {0};
    char *path = at(root, name), *dir = path_dir(path, &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    mem_free(dir);
}

static void film(const char *root, const char *name, const char *container, AVRational base, const int64_t *pts,
                 int frames, int corrupt)
{
    Clip c = {.container = container,
              .codec = "libx264",
              .options = "preset=ultrafast",
              .format = AV_PIX_FMT_YUV420P,
              .width = W,
              .height = H,
              .time_base = base,
              .pts = pts,
              .frames = frames,
              .b_frames = 2,
              .space = AVCOL_SPC_BT709,
              .range = AVCOL_RANGE_MPEG,
              .sar = {1, 1},
              .corrupt_packet = corrupt,
              .draw = draw_number};
    make_clip(at(root, name), &c);
}

typedef struct Result {
    int rc;
    Err err;
    json_t *lines, *dataset;
} Result;

static void quiet_log(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

/* sets: NULL-terminated "clip.key=value". */
static Result run(const char *source, const char *out, int jobs, const char **sets)
{
    Result r = {0};
    Recipe *recipe;
    /* drawn bars are no good film */
    const char *all[16] = {"quality.mode=warn", "quality.duplicates=ignore", "quality.black_frames=ignore"};
    int64_t n = 3;
    for (int64_t i = 0; sets && sets[i]; i++)
        all[n++] = sets[i];
    CommonOptions common = {.preset = "demo", .set = {all, n}, .seed = -1};
    CHECK_OK(recipe_open(&recipe, &common, &r.err), &r.err);
    Log log = {.write = quiet_log, .level = LOG_DEBUG};
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {
        .source = source, .out = out, .recipe = recipe, .jobs = jobs, .shards = 1, .log = &log, .results = null};
    r.rc = prep_ingest(&p, &r.err);
    fclose(null);
    recipe_close(&recipe);
    if (r.rc < 0)
        return r;
    Err err = {0};
    char *text, *line;
    int64_t size;
    r.lines = json_object();
    CHECK_OK(file_read(at(out, "manifest.jsonl"), 1 << 26, &text, &size, &err), &err);
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *record;
        CHECK_OK(json_parse(&record, line, (int64_t)strlen(line), "line", &err), &err);
        CHECK_OK(schema_check("manifest", record, "line", &err), &err);
        json_object_set_new(r.lines, json_string_value(json_object_get(record, "id")), record);
    }
    mem_free(text);
    CHECK_OK(json_read_file(&r.dataset, at(out, "dataset.json"), &err), &err);
    CHECK_OK(schema_check("dataset", r.dataset, "dataset.json", &err), &err);
    return r;
}

static void done(Result *r)
{
    json_decref(r->lines);
    json_decref(r->dataset);
    *r = (Result){0};
}

static const json_t *line_of(const Result *r, const char *id)
{
    const json_t *line = json_object_get(r->lines, id);
    if (!line)
        fail_msg("no line for '%s'", id);
    return line;
}

static void rejected(const Result *r, const char *id, const char *code, const char *part)
{
    const json_t *reason = json_object_get(line_of(r, id), "reason");
    const char *got = json_string_value(json_object_get(reason, "code")),
               *text = json_string_value(json_object_get(reason, "text"));
    if (!got || strcmp(got, code) != 0 || !strstr(text, part))
        fail_msg("clip '%s': %s: '%s', expected %s with '%s'", id, got ? got : "accepted", text ? text : "", code,
                 part);
    if (strstr(text, check_tmp()))
        fail_msg("clip '%s': the reason names this machine's folders: %s", id, text);
    assert_true(json_is_null(json_object_get(line_of(r, id), "clip")));
}

static ino_t inode(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static int64_t ledger_index(const json_t *line, int64_t k)
{
    return json_integer_value(json_object_get(json_array_get(json_object_get(line, "ledger"), (size_t)k), "index"));
}

/* ---- the ledger against the pixels and the rule ---------------------------------------------- */
typedef struct Film {
    const char *name, *container;
    AVRational base;
    const int64_t *pts;
    int frames;
} Film;

/* The rule again, on the timestamps the clip was made with: exact, since both sides are over
 * base.den * 8. */
static int64_t wanted(const Film *f, int64_t k)
{
    int64_t best = 0, best_distance = INT64_MAX, first = f->pts ? f->pts[0] : 0;
    for (int64_t i = 0; i < f->frames; i++) {
        int64_t t = (f->pts ? f->pts[i] - first : i) * f->base.num * 8, distance = llabs(t - k * f->base.den);
        if (distance < best_distance) {
            best = i;
            best_distance = distance;
        }
    }
    return best;
}

static void check_clip(const Result *r, const char *out, const Film *f)
{
    Err err = {0};
    char id[64], file[80];
    uint8_t *rgb;
    int64_t n, width, height;
    snprintf(id, sizeof id, "%.*s", (int)(strchr(f->name, '.') - f->name), f->name);
    snprintf(file, sizeof file, "clips/%s.mkv", id);
    const json_t *line = line_of(r, id);
    if (!json_is_null(json_object_get(line, "reason")))
        fail_msg("%s: %s", id, json_string_value(json_object_get(json_object_get(line, "reason"), "text")));
    CHECK_OK(video_read_rgb(at(out, file), OUT, W, H, &rgb, &n, &width, &height, &err), &err);
    for (int64_t k = 0; k < OUT; k++) {
        int64_t want = wanted(f, k), ledger = ledger_index(line, k), picture = read_number(rgb + k * W * H * 3, W, H);
        if (ledger != want || picture != want)
            fail_msg("%s output %lld: ledger %lld, picture %lld, the rule says %lld", id, (long long)k,
                     (long long)ledger, (long long)picture, (long long)want);
    }
    Digest digest;
    char hex[65];
    CHECK_OK(sha256_bytes(rgb, n * W * H * 3, &digest, &err), &err);
    digest_hex(&digest, hex);
    assert_string_equal(hex, json_string_value(json_object_get(json_object_get(line, "clip"), "pixels_sha256")));
    double sum[3] = {0};
    for (int64_t i = 0; i < n * W * H * 3; i++)
        sum[i % 3] += rgb[i];
    const json_t *quality = json_object_get(line, "quality");
    for (size_t c = 0; c < 3; c++)
        check_value("mean", json_real_value(json_array_get(json_object_get(quality, "mean_rgb"), c)),
                    sum[c] / (double)(n * W * H), 1e-9, 0);
    mem_free(rgb);
}

static void ledger_and_pixels(void **state)
{
    static int64_t vfr[160], offset[60];
    int64_t t = 700;
    for (int i = 0; i < 160; i++, t += 20 + i * 7919 % 47 + (i == 60 ? 800 : 0))
        vfr[i] = t; /* milliseconds, with a gap */
    for (int i = 0; i < 60; i++)
        offset[i] = 315000 + i * 10010; /* 3.5 s late, 9000/1001 frames a second */
    const Film films[] = {
        {"r23976.mp4", "mp4", {1001, 24000}, NULL, 150}, {"r24.mp4", "mp4", {1, 24}, NULL, 150},
        {"r25.mp4", "mp4", {1, 25}, NULL, 160},          {"r2997.mp4", "mp4", {1001, 30000}, NULL, 190},
        {"r30.mp4", "mp4", {1, 30}, NULL, 190},          {"r50.mp4", "mp4", {1, 50}, NULL, 310},
        {"r60.mp4", "mp4", {1, 60}, NULL, 370},          {"r8.mp4", "mp4", {1, 8}, NULL, 49},
        {"vfr.mkv", "matroska", {1, 1000}, vfr, 160},    {"offset.ts", "mpegts", {1, 90000}, offset, 60}};
    char *root = fresh("rates"), *out = check_tmp_path("rates-out"), name[80];
    (void)state;
    for (size_t i = 0; i < sizeof films / sizeof *films; i++) {
        film(root, films[i].name, films[i].container, films[i].base, films[i].pts, films[i].frames, 0);
        snprintf(name, sizeof name, "%.*s.txt", (int)(strchr(films[i].name, '.') - films[i].name), films[i].name);
        put(root, name, "A dress.");
    }
    Result r = run(root, out, 2, (const char *[]){"clip.allow_vfr=true", NULL});
    CHECK_OK(r.rc, &r.err);
    for (size_t i = 0; i < sizeof films / sizeof *films; i++)
        check_clip(&r, out, &films[i]);
    done(&r);
}

/* ---- everything that is wrong with files ----------------------------------------------------- */
static void cut_file(const char *root, const char *from, const char *to, double share)
{
    Err err = {0};
    char *bytes;
    int64_t size;
    CHECK_OK(file_read(at(root, from), 1 << 26, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(at(root, to), bytes, (int64_t)((double)size * share), &err), &err);
    mem_free(bytes);
}

static void bad_files(void **state)
{
    static const char *const names[] = {"good.mp4",    "missing.mp4",   "zero.mp4",   "text.mp4",  "three.mp4",
                                        "empty.mp4",   "truncated.mkv", "nomoov.mp4", "small.mp4", "wide.mp4",
                                        "broken.mp4",  "hdr.mp4",       "slow.mp4",   "hash.mp4",  "pipe.mp4",
                                        "notutf8.mp4", "pictures"};
    char *root = fresh("bad"), *out = check_tmp_path("bad-out"), *line;
    Str lines = {0};
    Err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_OK(str_printf(&lines, &err, "{\"file_name\": \"%s\", \"text\": \"%s\"%s}\n", names[i],
                            strncmp(names[i], "empty", 5) ? "A coat." : "  ",
                            strncmp(names[i], "hash", 4)
                                ? ""
                                : ", \"sha256\": \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""),
                 &err);
    put(root, "metadata.jsonl", line = lines.data);
    const AVRational f30 = {1, 30};
    film(root, "good.mp4", "mp4", f30, NULL, 190, 0);
    film(root, "empty.mp4", "mp4", f30, NULL, 190, 0);
    film(root, "hash.mp4", "mp4", f30, NULL, 190, 0);
    film(root, "three.mp4", "mp4", f30, NULL, 3, 0);
    film(root, "broken.mp4", "mp4", f30, NULL, 190, 60);
    film(root, "slow.mp4", "mp4", (AVRational){1, 5}, NULL, 60, 0);
    film(root, "whole.mkv", "matroska", f30, NULL, 190, 0);
    cut_file(root, "whole.mkv", "truncated.mkv", 0.5);
    cut_file(root, "good.mp4", "nomoov.mp4", 0.8);
    put(root, "zero.mp4", "");
    put(root, "text.mp4", "<html>not found</html>");
    put(root, "notutf8.mp4", "\xff\xfe\x80");
    assert_int_equal(mkfifo(at(root, "pipe.mp4"), 0600), 0);
    put(root, "pictures/notes.txt", "no pictures here");
    Clip c = {.container = "mp4",
              .codec = "libx264",
              .format = AV_PIX_FMT_YUV420P,
              .width = 32,
              .height = 48,
              .time_base = f30,
              .frames = 190,
              .draw = draw_number};
    make_clip(at(root, "small.mp4"), &c);
    c.width = 256, c.height = 96;
    make_clip(at(root, "wide.mp4"), &c);
    c.width = W, c.height = H, c.transfer = AVCOL_TRC_SMPTE2084;
    make_clip(at(root, "hdr.mp4"), &c);
    const char *sets[] = {"clip.max_reject_ratio=1", NULL};
    Result r = run(root, out, 2, sets);
    CHECK_OK(r.rc, &r.err);
    assert_int_equal(r.rc, 3);
    assert_true(json_is_null(json_object_get(line_of(&r, "good"), "reason")));
    rejected(&r, "missing", "missing", "missing.mp4");
    rejected(&r, "zero", "empty_file", "0 bytes");
    rejected(&r, "text", "not_a_video", "text.mp4");
    rejected(&r, "notutf8", "not_a_video", "notutf8.mp4");
    rejected(&r, "nomoov", "not_a_video", "moov");
    rejected(&r, "truncated", "truncated", "frames");
    rejected(&r, "three", "too_short", "3 frames in 0.067 s give 2 of the 49 frames at 8 fps");
    rejected(&r, "empty", "empty_caption", "no caption");
    rejected(&r, "small", "too_small", "32x48");
    rejected(&r, "wide", "crop_too_large", "256x96 to 96x144");
    rejected(&r, "broken", "damaged", "chosen frames are damaged");
    rejected(&r, "hdr", "hdr", "smpte2084");
    rejected(&r, "slow", "low_rate", "5.000 frames a second");
    rejected(&r, "hash", "hash_mismatch", "e3b0c442");
    rejected(&r, "pipe", "not_a_video", "not a regular file");
    rejected(&r, "pictures", "bad_pictures", "without numbered pictures");
    const json_t *counts = json_object_get(r.dataset, "counts");
    assert_int_equal(json_integer_value(json_object_get(counts, "accepted")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(counts, "reasons"), "not_a_video")), 4);
    done(&r);

    /* An empty caption may be wanted, and a share of rejects may be too much. */
    const char *allow[] = {"clip.max_reject_ratio=1", "clip.allow_empty_caption=true", NULL};
    r = run(root, out, 1, allow);
    CHECK_OK(r.rc, &r.err);
    const json_t *captions = json_object_get(line_of(&r, "empty"), "captions");
    assert_string_equal(json_string_value(json_array_get(captions, 0)), "");
    done(&r);
    const char *strict[] = {"clip.max_reject_ratio=0.5", NULL};
    r = run(root, out, 1, strict);
    CHECK_FAILS(r.rc, ERR_LIMIT, "16 of 17 clips are rejected", &r.err);
    assert_false(file_exists(at(out, "dataset.json")));
    assert_true(file_exists(at(out, "manifest.jsonl")));
    mem_free(line);
}

/* ---- windows, holding, parts ----------------------------------------------------------------- */
static void windows(void **state)
{
    char *root = fresh("windows"), *out = check_tmp_path("windows-out");
    (void)state;
    film(root, "long.mp4", "mp4", (AVRational){1, 24}, NULL, 280, 0); /* 279/24 s: 94 points */
    film(root, "short.mp4", "mp4", (AVRational){1, 8}, NULL, 45, 0);
    put(root, "metadata.jsonl",
        "{\"file_name\": \"long.mp4\", \"text\": \"x\"}\n"
        "{\"file_name\": \"long.mp4\", \"id\": \"part\", \"text\": \"x\", \"start_s\": 2, \"end_s\": 9}\n"
        "{\"file_name\": \"short.mp4\", \"text\": \"x\"}\n");
    const char *middle[] = {"clip.window=middle", "clip.short=hold", NULL};
    Result r = run(root, out, 2, middle);
    CHECK_OK(r.rc, &r.err);
    const json_t *line = line_of(&r, "long"), *window = json_object_get(line, "window");
    assert_int_equal(json_integer_value(json_object_get(window, "points")), 94);
    assert_int_equal(json_integer_value(json_object_get(window, "start")), 22);
    assert_int_equal(ledger_index(line, 0), 66);
    line = line_of(&r, "part");
    window = json_object_get(line, "window");
    assert_int_equal(json_integer_value(json_object_get(window, "points")), 57); /* 2 .. 9 s */
    assert_int_equal(ledger_index(line, 0), 48 + 4 * 3);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(window, "start_time"), 0)), 5); /* 2.5 s */
    line = line_of(&r, "short");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(line, "window"), "held")), 4);
    const json_t *note = json_array_get(json_object_get(line, "warnings"), 0);
    assert_string_equal(json_string_value(json_object_get(note, "code")), "frames_held");
    assert_non_null(strstr(json_string_value(json_object_get(note, "text")), "for 4 more output frames"));
    check_value("largest error", json_real_value(json_object_get(json_object_get(line, "timing"), "max_abs_error_s")),
                0, 1e-9, 0);
    assert_int_equal(ledger_index(line, 48), 44);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(line, "quality"), "duplicates")), 4);
    done(&r);
    const char *less[] = {"clip.short=hold", "clip.max_hold=3", NULL};
    r = run(root, out, 1, less);
    assert_int_equal(r.rc, 3);
    rejected(&r, "short", "too_short", "45 of the 49");
    done(&r);
}

static void several_windows(void **state)
{
    static const struct {
        const char *policy, *count;
        int n, start[4];
    } want[] = {{"clip.window=chunks", "clip.window_count=9", 2, {0, 45}},
                {"clip.window=slide", "clip.window_count=9", 3, {0, 24, 45}},
                {"clip.window=slide", "clip.window_count=2", 2, {0, 24}},
                {"clip.window=uniform", "clip.window_count=3", 3, {0, 23, 45}},
                {"clip.window=uniform", "clip.window_count=1", 1, {22}}};
    char *root = fresh("several"), *out = check_tmp_path("several-out"), id[32];
    (void)state;
    film(root, "long.mp4", "mp4", (AVRational){1, 24}, NULL, 280, 0); /* 94 points */
    film(root, "three.mp4", "mp4", (AVRational){1, 24}, NULL, 3, 0);
    put(root, "metadata.jsonl",
        "{\"file_name\": \"long.mp4\", \"text\": \"A coat.\", \"segments\": [{\"start\": 0, \"end\": 3, \"unit\": "
        "\"s\", \"text\": \"She "
        "stands.\"}, {\"start\": 8, \"end\": 11, \"unit\": \"s\", \"text\": \"She turns.\"}]}\n"
        "{\"file_name\": \"three.mp4\", \"text\": \"x\"}\n");
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *sets[] = {want[i].policy, want[i].count, "clip.max_reject_ratio=1", NULL};
        Result r = run(root, out, 2, sets), again;
        CHECK_OK(r.rc, &r.err);
        assert_int_equal(json_object_size(r.lines), want[i].n + 1);
        rejected(&r, "three", "too_short", "3 frames");
        for (int k = 0; k < want[i].n; k++) {
            uint8_t *rgb;
            int64_t n, width, height;
            Err err = {0};
            snprintf(id, sizeof id, "long#%d", k);
            const json_t *line = line_of(&r, id), *window = json_object_get(line, "window");
            assert_int_equal(json_integer_value(json_object_get(window, "start")), want[i].start[k]);
            assert_int_equal(json_integer_value(json_object_get(window, "count")), want[i].n);
            char *notes = json_dumps(json_object_get(line, "warnings"), 0);
            assert_int_equal(strstr(notes, "2 of the 3 windows are used (clip.window_count)") != NULL, i == 2);
            free(notes);
            CHECK_OK(video_read_rgb(at(out, json_string_value(json_object_get(json_object_get(line, "clip"), "file"))),
                                    OUT, W, H, &rgb, &n, &width, &height, &err),
                     &err);
            for (int64_t f = 0; f < OUT; f++)
                assert_true(read_number(rgb + f * W * H * 3, W, H) == 3 * (want[i].start[k] + f) &&
                            ledger_index(line, f) == 3 * (want[i].start[k] + f));
            mem_free(rgb);
            const char *caption = json_string_value(json_array_get(json_object_get(line, "captions"), 0));
            /* From 22 and 23 (2.75 s and on) the first sentence is nearly over, and the second
             * begins less than a second before the end. */
            assert_string_equal(caption, want[i].start[k] == 0   ? "A coat. She stands."
                                         : want[i].start[k] < 24 ? "A coat."
                                                                 : "A coat. She turns.");
        }
        ino_t before = inode(at(out, "clips/long#0.mkv"));
        again = run(root, out, 1, sets);
        CHECK_OK(again.rc, &again.err);
        assert_true(json_equal(r.lines, again.lines) && inode(at(out, "clips/long#0.mkv")) == before);
        done(&again);
        done(&r);
    }
}

/* ---- folders of pictures --------------------------------------------------------------------- */
static void picture_folders(void **state)
{
    enum { PW = 40, PH = 60 };
    static uint8_t rgb[PW * PH * 3];
    char *root = fresh("pictures"), *out = check_tmp_path("pictures-out"), name[64];
    int numbers[220], n = 0;
    Err err = {0};
    (void)state;
    CHECK_OK(dir_make(at(root, "FashionDataset_frames_crop/A1P+0ZhMAiS"), &err), &err);
    for (int number = 900; number < 1120; number++) { /* past 999: by number, not by name; some are missing */
        if (number % 13 == 5)
            continue;
        memset(rgb, number % 251, sizeof rgb);
        snprintf(name, sizeof name, "FashionDataset_frames_crop/A1P+0ZhMAiS/%03d.png", number);
        CHECK_OK(picture_write_png(at(root, name), rgb, PW, PH, &err), &err);
        numbers[n++] = number;
    }
    put(root, "captions_app.json", "{\"A1P+0ZhMAiS\": [\"A long dress.\", \"The dress is long.\"]}");
    put(root, "caption_motion_template.json",
        "{\"gender\": [\"she\"], \"4\": [\"<Gender> turns.\"], \"5\": [\"<Gender> leaves.\"]}");
    put(root, "action_label/A1P+0ZhMAiS.txt", "0 90 4\n190 260 5");
    const char *sets[] = {"clip.min_side=16", "clip.width=32", "clip.height=48", NULL};
    Result r = run(root, out, 2, sets);
    CHECK_OK(r.rc, &r.err);
    assert_int_equal(r.rc, 0);
    const json_t *line = line_of(&r, "A1P+0ZhMAiS");
    assert_string_equal(json_string_value(json_array_get(json_object_get(line, "captions"), 1)),
                        "The dress is long. She turns.");
    uint8_t *clip;
    int64_t frames, width, height;
    CHECK_OK(video_read_rgb(at(out, "clips/A1P+0ZhMAiS.mkv"), OUT, 32, 48, &clip, &frames, &width, &height, &err),
             &err);
    for (int64_t k = 0; k < OUT; k++) {
        int best = 0;
        for (int i = 0; i < n; i++) /* times are (number - 900)/30 */
            if (llabs((numbers[i] - 900) * 8 - k * 30) < llabs((numbers[best] - 900) * 8 - k * 30))
                best = i;
        assert_int_equal(ledger_index(line, k), best);
        for (int64_t i = 0; i < 32 * 48 * 3; i++)
            if (clip[k * 32 * 48 * 3 + i] != numbers[best] % 251)
                fail_msg("output %lld: value %d, expected %d", (long long)k, clip[k * 32 * 48 * 3 + i],
                         numbers[best] % 251);
    }
    mem_free(clip);
    done(&r);
    put(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/0960.png", "not a picture");
    r = run(root, out, 1, sets);
    assert_int_equal(r.rc, ERR_LIMIT); /* the only clip is rejected */
    put(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/960.png", "not a picture");
    unlink(at(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/0960.png"));
    const char *all[] = {"clip.min_side=16", "clip.width=32", "clip.height=48", "clip.max_reject_ratio=1", NULL};
    r = run(root, out, 1, all);
    assert_int_equal(r.rc, 3);
    rejected(&r, "A1P+0ZhMAiS", "damaged", "960.png");
    done(&r);
}

/* ---- running again --------------------------------------------------------------------------- */
static void running_again(void **state)
{
    char *root = fresh("again"), *out = check_tmp_path("again-out"), *clip_a = at(out, "clips/a.mkv"),
         *clip_b = at(out, "clips/b.mkv");
    Err err = {0};
    (void)state;
    film(root, "a.mp4", "mp4", (AVRational){1, 30}, NULL, 190, 0);
    film(root, "b.mp4", "mp4", (AVRational){1, 25}, NULL, 160, 0);
    put(root, "a.txt", "A.");
    put(root, "b.txt", "B.");
    Result r = run(root, out, 1, NULL);
    CHECK_OK(r.rc, &r.err);
    done(&r);
    Digest before, after;
    ino_t a = inode(clip_a), b = inode(clip_b);
    CHECK_OK(sha256_file(at(out, "manifest.jsonl"), &before, &err), &err);
    r = run(root, out, 2, NULL);
    CHECK_OK(r.rc, &r.err);
    done(&r);
    CHECK_OK(sha256_file(at(out, "manifest.jsonl"), &after, &err), &err);
    assert_memory_equal(&before, &after, sizeof before);
    assert_true(inode(clip_a) == a && inode(clip_b) == b); /* nothing was made again */

    put(root, "a.txt", "Another caption."); /* annotations cost no encoding */
    r = run(root, out, 2, NULL);
    CHECK_OK(r.rc, &r.err);
    assert_string_equal(json_string_value(json_array_get(json_object_get(line_of(&r, "a"), "captions"), 0)),
                        "Another caption.");
    assert_true(inode(clip_a) == a);
    done(&r);

    cut_file(out, "clips/b.mkv", "clips/b.mkv", 0.7); /* a clip that is not what it was is made again */
    r = run(root, out, 2, NULL);
    CHECK_OK(r.rc, &r.err);
    assert_true(inode(clip_a) == a);
    uint8_t *rgb;
    int64_t n, width, height;
    CHECK_OK(video_read_rgb(clip_b, OUT, W, H, &rgb, &n, &width, &height, &err), &err);
    mem_free(rgb);
    done(&r);

    unlink(at(root, "b.mp4")); /* a source that is gone takes its clip along */
    const char *sets[] = {"clip.window=middle", NULL};
    r = run(root, out, 2, sets);
    CHECK_OK(r.rc, &r.err);
    assert_int_equal(json_object_size(r.lines), 1);
    assert_false(file_exists(clip_b));
    done(&r);
}

static void refused_folders(void **state)
{
    char *root = fresh("refused"), *other = fresh("other"), *busy = fresh("busy");
    Err err = {0};
    DirLock lock;
    (void)state;
    film(root, "a.mp4", "mp4", (AVRational){1, 30}, NULL, 10, 0);
    put(root, "a.txt", "A.");
    put(other, "thesis.txt", "years of work");
    Result r = run(root, at(root, "out"), 1, NULL);
    CHECK_FAILS(r.rc, ERR_USAGE, "must not lie in each other", &r.err);
    assert_false(file_is_dir(at(root, "out")));
    r = run(root, other, 1, NULL);
    CHECK_FAILS(r.rc, ERR_USAGE, "thesis.txt", &r.err);
    CHECK_OK(dir_lock(&lock, busy, &err), &err);
    r = run(root, busy, 1, NULL);
    assert_int_equal(r.rc, ERR_LIMIT);
    dir_unlock(&lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ledger_and_pixels), cmocka_unit_test(bad_files),
                                       cmocka_unit_test(windows),           cmocka_unit_test(picture_folders),
                                       cmocka_unit_test(several_windows),   cmocka_unit_test(running_again),
                                       cmocka_unit_test(refused_folders)};
    av_log_set_level(AV_LOG_QUIET); /* of the encoder that makes the clips */
    return check_run_live("prep ingest", tests);
}
