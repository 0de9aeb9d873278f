/* What follows the first window is read, not decoded, and within it frames are passed over: the same
 * record and the same clip, to the byte, as with everything decoded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/clip.h"

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static Rational start, end; /* the part of the source that is used */

static json_t *process(const char *root, const char *name, const char *out, const PrepConfig *cfg, int decode_all)
{
    Err err = {0};
    SourceList list = {0};
    Source *s;
    json_t *records;
    PrepConfig c = *cfg;
    c.decode_all = decode_all;
    CHECK_OK(source_list_add(&list, &s, &err), &err);
    s->path = mem_strdup(name, &err);
    s->id = mem_strdup("x", &err);
    s->start = start;
    s->end = end;
    CHECK_OK(source_add_caption(s, "A dress.", 8, &err), &err);
    CHECK_OK(clip_process(&c, root, s, NULL, out, &records, &err), &err);
    source_list_fini(&list);
    return records;
}

/* How much was decoded differs.  Of damage after the window, which only a decoder sees, the count
 * and the warning are missing, and frames that the decoder would have refused are counted; the
 * verdict and everything about the window are the same all the same. */
static void take_out_what_differs(json_t *read, json_t *decoded)
{
    json_t *record[2] = {read, decoded},
           *probe[2] = {json_object_get(read, "probe"), json_object_get(decoded, "probe")};
    for (int i = 0; i < 2; i++) /* empty while the file is too young to be known again by its times */
        json_object_del(json_object_get(record[i], "seen"), "entry");
    if (!json_is_object(probe[1]))
        return;
    int64_t n = json_integer_value(json_object_get(probe[0], "frames_decoded"));
    int less = n < json_integer_value(json_object_get(probe[0], "frames"));
    int damaged = json_integer_value(json_object_get(probe[1], "damaged_frames")) ||
                  json_integer_value(json_object_get(probe[1], "refused_packets"));
    assert_int_equal(json_integer_value(json_object_get(probe[1], "frames_decoded")),
                     json_integer_value(json_object_get(probe[1], "frames")));
    for (int i = 0; i < 2; i++) {
        json_object_del(probe[i], "frames_decoded");
        if (less && damaged) {
            json_object_del(record[i], "probe");
            json_object_del(record[i], "warnings");
            json_object_del(json_object_get(record[i], "window"), "points");
        }
    }
}

/* Both ways, compared; the record, which is the caller's. */
static json_t *both_ways(const char *root, const char *name, const PrepConfig *cfg)
{
    Err err = {0};
    char *out[2] = {check_tmp_path("read"), check_tmp_path("decoded")}, *bytes[2], *text[2];
    int64_t size[2];
    json_t *records[2];
    for (int i = 0; i < 2; i++) {
        CHECK_OK(dir_make(at(out[i], "clips"), &err), &err);
        CHECK_OK(dir_make(at(out[i], "thumbs"), &err), &err);
        records[i] = process(root, name, out[i], cfg, i);
    }
    take_out_what_differs(json_array_get(records[0], 0), json_array_get(records[1], 0));
    for (int i = 0; i < 2; i++)
        assert_non_null(text[i] = json_canonical(records[i], &err));
    if (strcmp(text[0], text[1]))
        printf("# %s\n# read:    %s\n# decoded: %s\n", name, text[0], text[1]);
    assert_string_equal(text[0], text[1]);
    const json_t *record = json_array_get(records[0], 0);
    if (json_is_object(json_object_get(record, "clip"))) {
        for (int i = 0; i < 2; i++)
            CHECK_OK(file_read(at(out[i], "clips/x.mkv"), 1 << 28, &bytes[i], &size[i], &err), &err);
        assert_int_equal(size[0], size[1]);
        assert_memory_equal(bytes[0], bytes[1], (size_t)size[0]);
        mem_free(bytes[0]);
        mem_free(bytes[1]);
    }
    json_t *kept = json_incref(json_array_get(records[0], 0));
    for (int i = 0; i < 2; i++) {
        json_decref(records[i]);
        mem_free(text[i]);
    }
    return kept;
}

static PrepConfig config(const char *const *sets, int64_t n)
{
    Recipe *recipe;
    PrepConfig cfg;
    Err err = {0};
    CHECK_OK(recipe_open(&recipe, &(CommonOptions){.seed = -1, .set = {(const char **)(uintptr_t)sets, n}}, &err),
             &err);
    CHECK_OK(prep_config(&cfg, recipe, &err), &err);
    recipe_close(&recipe);
    return cfg;
}

static PrepConfig small_config(void)
{
    static const char *const sets[] = {"clip.width=64",        "clip.height=96",     "clip.min_side=16",
                                       "clip.model_frames=17", "clip.num_frames=16", "quality.mode=warn"};
    return config(sets, sizeof sets / sizeof *sets);
}

enum { FIRST = 0x5500 };
static void draw_far(AVFrame *f, int k, const void *user)
{
    draw_number(f, FIRST + k, user);
}

static void draw_lead(AVFrame *f, int k, const void *user) /* black for the first second: the window moves */
{
    draw_number(f, FIRST + k, user);
    if (k < 24)
        memset(f->data[0], 16, (size_t)(f->linesize[0] * f->height));
}

/* How many frames a reader tells without decoding when asked to after `after`; -1 when it will not.  thin:
 * frames are passed over before. */
static int told(const char *path, int after, int thin)
{
    VideoReader *r, *all;
    VideoFrame f, same;
    Err err = {0};
    int n = 0, rc;
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    CHECK_OK(video_open(&all, path, NULL, &err), &err);
    for (int i = 0; i < after; i++) {
        assert_int_equal(video_next(r, &f, &err), 1);
        assert_int_equal(video_next(all, &same, &err), 1);
        if (i == 0 && thin)
            video_thin(r, 8);
    }
    rc = video_skim(r, &err);
    while (rc == 1 && video_next(r, &f, &err) == 1) {
        uint8_t pixel[3];
        assert_null(f.av);
        assert_int_equal(f.index, after + n++);
        assert_int_equal(video_next(all, &same, &err), 1);
        assert_int_equal(f.pts, same.pts);
        assert_int_equal(video_to_rgb(r, &f, &(FitPlan){.width = 1, .height = 1}, pixel, NULL), ERR_USAGE);
    }
    video_close(&r);
    video_close(&all);
    return rc == 1 ? n : -1;
}

static void made_clips(void **state)
{
    static int64_t uneven[150], offset[150];
    const PrepConfig cfg = small_config();
    (void)state;
    for (int i = 0; i < 150; i++) {
        uneven[i] = i * 2 + i % 3 % 2;
        offset[i] = 77 + i;
    }
    const Clip base = {.options = "preset=fast",
                       .format = AV_PIX_FMT_YUV420P,
                       .width = 64,
                       .height = 96,
                       .time_base = {1, 24},
                       .frames = 150,
                       .gop = 24,
                       .draw = draw_far};
    const struct {
        const char *name, *container, *codec;
        int b_frames, told; /* told after 60 frames; -1: everything is decoded */
        const int64_t *pts;
        AVRational time_base;
        void (*draw)(AVFrame *, int, const void *);
    } cases[] = {
        {"p.mp4", "mp4", "libx264", 0, 90, NULL, {1, 24}, draw_far},
        {"b.mp4", "mp4", "libx264", 3, 90, NULL, {1, 24}, draw_far},
        {"b.mkv", "matroska", "libx264", 3, 90, NULL, {1, 24}, draw_far},
        {"vfr.mkv", "matroska", "libx264", 2, 90, uneven, {1, 48}, draw_far},
        {"late.mkv", "matroska", "libx264", 2, 90, offset, {1, 24}, draw_far},
        {"b.ts", "mpegts", "libx264", 3, -1, NULL, {1, 24}, draw_far},
        {"v.webm", "webm", "libvpx", 0, -1, NULL, {1, 24}, draw_far},
        {"lead.mp4", "mp4", "libx264", 2, 90, NULL, {1, 24}, draw_lead},
    };
    Err err = {0};
    char *root = check_tmp_path("src");
    CHECK_OK(dir_make(root, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Clip c = base;
        c.container = cases[i].container;
        c.codec = cases[i].codec;
        c.options = strcmp(c.codec, "libvpx") ? base.options : "deadline=realtime:cpu-used=8";
        c.b_frames = cases[i].b_frames;
        c.pts = cases[i].pts;
        c.time_base = cases[i].time_base;
        c.draw = cases[i].draw;
        make_clip(at(root, cases[i].name), &c);
        for (int after = 60; after < 64; after++)
            for (int thin = 0; thin < 2; thin++)
                assert_int_equal(told(at(root, cases[i].name), after, thin),
                                 cases[i].told < 0 ? -1 : cases[i].told + 60 - after);
        json_t *record = both_ways(root, cases[i].name, &cfg);
        assert_true(json_is_object(json_object_get(record, "clip")));
        if (cases[i].draw == draw_lead)
            assert_true(json_integer_value(json_object_get(json_object_get(record, "window"), "start")) > 0);
        json_decref(record);
    }
}

/* Parts that begin and end at any frame, and a window in the middle: the last frame of a part is wanted
 * however far it lies from its point. */
static void parts(void **state)
{
    static const char *const windows[] = {"clip.window=first", "clip.window=middle"};
    static int64_t uneven[150];
    Err err = {0};
    char *root = check_tmp_path("src");
    (void)state;
    CHECK_OK(dir_make(root, &err), &err);
    for (int i = 0; i < 150; i++)
        uneven[i] = 2 * i + (i >= 20);
    for (int made = 0; made < 4; made++) {
        const Clip c = {.container = "mp4",
                        .codec = "libx264",
                        .options = "preset=fast:b_strategy=0:sc_threshold=0",
                        .format = AV_PIX_FMT_YUV420P,
                        .width = 64,
                        .height = 96,
                        .time_base = {1, made == 1 ? 48 : 24},
                        .pts = made == 1 ? uneven : NULL,
                        .frames = 150,
                        .gop = 48,
                        .b_frames = 3,
                        .corrupt_packet = made == 2   ? 33
                                          : made == 3 ? 34
                                                      : 0,
                        .draw = draw_far};
        make_clip(at(root, "x.mp4"), &c);
        for (int k = 0; k < (made ? 1 : 2); k++) {
            const char *const sets[] = {"clip.width=64",        "clip.height=96",     "clip.min_side=16",
                                        "clip.model_frames=17", "clip.num_frames=16", "quality.mode=warn",
                                        "clip.short=hold",      "clip.max_hold=16",   windows[k]};
            const PrepConfig cfg = config(sets, sizeof sets / sizeof *sets);
            for (int from = 0; from < 9; from += 4)
                for (int to = 28; to < 36; to++) {
                    start = (Rational){from, from ? 24 : 0};
                    end = (Rational){to, to < 35 ? 24 : 0};
                    json_decref(both_ways(root, "x.mp4", &cfg));
                }
        }
    }
    start = end = (Rational){0, 0};
}

/* A file that ends early, past the window. */
static void bad_ends(void **state)
{
    const PrepConfig cfg = small_config();
    Err err = {0};
    char *root = check_tmp_path("src"), *bytes;
    int64_t size;
    (void)state;
    CHECK_OK(dir_make(root, &err), &err);
    const Clip c = {.container = "matroska",
                    .codec = "libx264",
                    .options = "preset=ultrafast",
                    .format = AV_PIX_FMT_YUV420P,
                    .width = 64,
                    .height = 96,
                    .time_base = {1, 24},
                    .frames = 150,
                    .gop = 24,
                    .b_frames = 2,
                    .draw = draw_far};
    make_clip(at(root, "whole.mkv"), &c);
    CHECK_OK(file_read(at(root, "whole.mkv"), 1 << 26, &bytes, &size, &err), &err);
    for (int k = 1; k < 6; k++) { /* cut at several places after the window */
        char name[32];
        snprintf(name, sizeof name, "cut%d.mkv", k);
        CHECK_OK(file_write_atomic(at(root, name), bytes, size - size * k / 20, &err), &err);
        json_decref(both_ways(root, name, &cfg));
    }
    mem_free(bytes);
}

static void reference_videos(void **state)
{
    static const char *const folders[] = {"portrait", "real", "codec", "odd"};
    const char *shared = getenv("WEFT_SHARED");
    const PrepConfig cfg = config((const char *const[]){"quality.mode=warn", "clip.fit=pad", "clip.width=96",
                                                        "clip.height=144", "clip.min_side=16", "clip.model_frames=9",
                                                        "clip.num_frames=8"},
                                  7);
    Err err = {0};
    char **names;
    int64_t n, done = 0;
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *root = at(at(shared ? shared : "../shared", "data/videos"), folders[i]);
        if (!file_exists(root))
            check_skip("../shared/data/videos is not there");
        CHECK_OK(dir_list(root, &names, &n, &err), &err);
        for (int64_t k = 0; k < n; k++) {
            const char *ext = strrchr(names[k], '.');
            if (!ext || !strcmp(ext, ".md") || !strcmp(ext, ".txt") || !strcmp(ext, ".jsonl"))
                continue;
            json_decref(both_ways(root, names[k], &cfg));
            done++;
        }
        dir_list_free(&names, n);
    }
    printf("# %lld videos, both ways the same\n", (long long)done);
    assert_true(done > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(made_clips), cmocka_unit_test(parts),
                                       cmocka_unit_test(bad_ends), cmocka_unit_test(reference_videos)};
    av_log_set_level(AV_LOG_QUIET);
    return check_run_live("prep skim", tests);
}
