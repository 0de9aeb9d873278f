/* Times and shapes that are not plain, through the whole ingest: the ledger and the pixels of every
 * output frame against the rule computed here.  Frames carry their number as a bar code. */
#include <stdlib.h>
#include "unit/clip_maker.h"
#include "unit/prep_run.h"
#include "unit/remake.h"

enum { W = 96, H = 144, OUT = 49 };

static Clip film(const char *container, AVRational base, const int64_t *pts, int frames, int b_frames)
{
    return (Clip){.container = container,
                  .codec = "libx264",
                  .options = "preset=ultrafast:threads=1",
                  .format = AV_PIX_FMT_YUV420P,
                  .width = W,
                  .height = H,
                  .time_base = base,
                  .pts = pts,
                  .frames = frames,
                  .b_frames = b_frames,
                  .space = AVCOL_SPC_BT709,
                  .range = AVCOL_RANGE_MPEG,
                  .sar = {1, 1},
                  .draw = draw_number};
}

/* Of the times t[n] (in units of base; t[0] is the origin) the nearest to k/8 s, the earlier of
 * two. */
static int64_t nearest(const int64_t *t, int64_t n, AVRational base, int64_t k)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (llabs((t[i] - t[0]) * base.num * 8 - k * base.den) < llabs((t[best] - t[0]) * base.num * 8 - k * base.den))
            best = i;
    return best;
}

/* number[i]: what source frame i, as the reader counts them, shows; t[i] its time. */
static void check_clip(const char *out, const json_t *line, const int64_t *t, const int64_t *number, int64_t n,
                       AVRational base)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    uint8_t *rgb = run_pixels(out, line, OUT, W, H);
    double sum = 0, worst = 0;
    for (int64_t k = 0; k < OUT; k++) {
        const json_t *entry = json_array_get(json_object_get(line, "ledger"), (size_t)k),
                     *time = json_object_get(entry, "time");
        int64_t want = nearest(t, n, base, k), index = json_integer_value(json_object_get(entry, "index"));
        int64_t num = json_integer_value(json_array_get(time, 0)), den = json_integer_value(json_array_get(time, 1));
        int shown = read_number(rgb + k * W * H * 3, W, H);
        if (index != want || shown != number[want])
            fail_msg("%s output %lld: ledger %lld, picture %d, the rule says frame %lld with number %lld", id,
                     (long long)k, (long long)index, shown, (long long)want, (long long)number[want]);
        if ((__int128)num * base.den != (__int128)(t[want] - t[0]) * base.num * den)
            fail_msg("%s output %lld: time %lld/%lld", id, (long long)k, (long long)num, (long long)den);
        double error = (double)((t[want] - t[0]) * base.num) / base.den - (double)k / 8;
        check_value("error", json_real_value(json_object_get(entry, "error_s")), error, 1e-9, 0);
        sum += error < 0 ? -error : error;
        worst = error > worst ? error : -error > worst ? -error : worst;
    }
    const json_t *timing = json_object_get(line, "timing");
    check_value("mean error", json_real_value(json_object_get(timing, "mean_abs_error_s")), sum / OUT, 1e-9, 0);
    check_value("largest error", json_real_value(json_object_get(timing, "max_abs_error_s")), worst, 1e-9, 0);
    mem_free(rgb);
}

static int64_t probed(const json_t *line, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(line, "probe"), name));
}

/* Every rate of the field with and without B-frames; variable rate, a gap and an offset in MP4,
 * MPEG-TS and Matroska. */
static void rates(void **state)
{
    static const AVRational bases[] = {{1001, 24000}, {1, 24}, {1, 25}, {1001, 30000}, {1, 30}, {1, 50}, {1, 60}};
    static int64_t t[400], odd[3][200], number[400];
    static const struct {
        const char *id, *container;
        AVRational base;
    } variable[] = {{"vmp4", "mp4", {1, 90000}}, {"vts", "mpegts", {1, 90000}}, {"vmkv", "matroska", {1, 1000}}};
    enum { RATES = sizeof bases / sizeof *bases };
    char *root = run_folder("rates"), *out = check_tmp_path("rates-out"), id[16], name[32];
    uint32_t seed = (uint32_t)check_seed();
    (void)state;
    for (int i = 0; i < 400; i++)
        t[i] = number[i] = i;
    for (int i = 0; i < 2 * RATES; i++) {
        Clip c = film("mp4", bases[i / 2], NULL, 6 * bases[i / 2].den / bases[i / 2].num + 7, i % 2 * 3);
        snprintf(id, sizeof id, "r%d", i);
        snprintf(name, sizeof name, "r%d.mp4", i);
        make_clip(run_path(root, name), &c);
        run_caption(root, id);
    }
    for (int v = 0; v < 3; v++) {
        int64_t at = 3 * variable[v].base.den + 17, unit = variable[v].base.den / 1000;
        for (int i = 0; i < 200;
             i++, at += unit * (15 + (int64_t)((seed = seed * 1664525u + 1013904223u) >> 8) % 40 + (i == 70 ? 700 : 0)))
            odd[v][i] = at;
        Clip c = film(variable[v].container, variable[v].base, odd[v], 200, 2);
        snprintf(name, sizeof name, "%s.mkv", variable[v].id); /* the content says what it is */
        make_clip(run_path(root, name), &c);
        run_caption(root, variable[v].id);
    }
    const char *sets[] = {"clip.allow_vfr=true", NULL};
    json_t *lines = run_ingest(root, out, 2, sets);
    for (int i = 0; i < 2 * RATES; i++) {
        snprintf(id, sizeof id, "r%d", i);
        check_clip(out, run_line(lines, id), t, number, 6 * bases[i / 2].den / bases[i / 2].num + 7, bases[i / 2]);
    }
    for (int v = 0; v < 3; v++)
        check_clip(out, run_line(lines, variable[v].id), odd[v], number, 200, variable[v].base);
    json_decref(lines);
}

/* A bare stream without times; one whose picture size changes; an edit list that hides the first
 * frames; frames that go back. */
static void odd_times(void **state)
{
    static int64_t t[200], number[200], hidden[120], back[110], many[110];
    char *root = run_folder("odd"), *out = check_tmp_path("odd-out"), *one, *two;
    int64_t size_one, size_two;
    Err err = {0};
    (void)state;
    for (int i = 0; i < 200; i++)
        t[i] = number[i] = i;
    Clip raw = film("h264", (AVRational){1, 24}, NULL, 170, 0);
    make_clip(run_path(root, "raw.h264"), &raw);
    run_caption(root, "raw");

    raw.frames = 90;
    make_clip(run_path(root, "a.tmp"), &raw);
    raw.width = 48, raw.height = 72;
    make_clip(run_path(root, "b.tmp"), &raw);
    CHECK_OK(file_read(run_path(root, "a.tmp"), 1 << 24, &one, &size_one, &err), &err);
    CHECK_OK(file_read(run_path(root, "b.tmp"), 1 << 24, &two, &size_two, &err), &err);
    char *both = mem_calloc(size_one + size_two, 1, &err);
    memcpy(both, one, (size_t)size_one);
    memcpy(both + size_one, two, (size_t)size_two);
    CHECK_OK(file_write_atomic(run_path(root, "sizes.h264"), both, size_one + size_two, &err), &err);
    remove(run_path(root, "a.tmp"));
    remove(run_path(root, "b.tmp"));
    mem_free(one);
    mem_free(two);
    mem_free(both);
    run_caption(root, "sizes");

    for (int i = 0; i < 120; i++)
        hidden[i] = i - 13; /* MP4 starts its presentation at zero: the edit list leaves the frames before it out */
    Clip edit = film("mp4", (AVRational){1, 16}, hidden, 120, 2);
    edit.gop = 120; /* one key frame, before the edit: all packets must be decoded */
    make_clip(run_path(root, "edit.mp4"), &edit);
    run_caption(root, "edit");

    for (int i = 0; i < 110; i++) {
        back[i] = 62 * (i - (i > 50)); /* frame 51 has the time of frame 50 */
        many[i] = 62 * (i - i / 8);
    }
    Clip again = {.container = "matroska",
                  .codec = "ffv1",
                  .options = "level=3",
                  .format = AV_PIX_FMT_YUV420P,
                  .width = W,
                  .height = H,
                  .time_base = {1, 1000},
                  .pts = back,
                  .frames = 110,
                  .draw = draw_number};
    make_clip(run_path(root, "back.mkv"), &again);
    run_caption(root, "back");
    again.pts = many;
    make_clip(run_path(root, "many.mkv"), &again);
    run_caption(root, "many");

    json_t *lines = run_ingest(root, out, 2, NULL);
    const json_t *line = run_line(lines, "raw");
    assert_int_equal(probed(line, "assumed_times"), 170);
    check_clip(out, line, t, number, 170, (AVRational){1, 24});

    int64_t restart[180];
    for (int i = 0; i < 180; i++)
        restart[i] = i < 90 ? i : i - 90;
    line = run_line(lines, "sizes");
    assert_int_equal(probed(line, "frames"), 180);
    assert_int_equal(run_warned(line, "size_changes"), 1);
    check_clip(out, line, t, restart, 180, (AVRational){1, 24});

    line = run_line(lines, "edit");
    assert_int_equal(probed(line, "frames"), 107);
    assert_int_equal(probed(line, "packets"), 120);
    check_clip(out, line, t, number + 13, 107, (AVRational){1, 16});

    int64_t kept_t[109], kept_number[109];
    for (int i = 0; i < 109; i++) {
        kept_t[i] = 62 * i;
        kept_number[i] = i + (i > 50);
    }
    line = run_line(lines, "back");
    assert_int_equal(probed(line, "dropped_unordered"), 1);
    assert_int_equal(run_warned(line, "unordered_frames"), 1);
    check_clip(out, line, kept_t, kept_number, 109, (AVRational){1, 1000});
    assert_string_equal(run_reason(run_line(lines, "many")), "bad_timestamps");
    json_decref(lines);
}

/* Three seconds are missing after the sixth: a clip is refused where its window spans the hole, and
 * only there. */
static void holes(void **state)
{
    static int64_t t[400], steps[100];
    char *root = run_folder("holes"), *out = check_tmp_path("holes-out");
    static const char *const allow[] = {"clip.allow_vfr=true", NULL};
    static const char *const chunks[] = {"clip.window=chunks", "clip.window_count=8", NULL};
    (void)state;
    for (int i = 0; i < 400; i++)
        t[i] = i + (i >= 185 ? 90 : 0); /* 6.17 s */
    for (int i = 0; i < 100; i++)
        steps[i] = i * 5 + i % 2 * 2; /* 12 frames a second, none further off than half of a period */
    Clip c = film("mp4", (AVRational){1, 30}, t, 400, 2);
    make_clip(run_path(root, "late.mp4"), &c); /* the first window ends at 6 s */
    run_caption(root, "late");
    for (int i = 1; i < 400; i++)
        t[i] += 90; /* and a first frame three seconds before the others */
    make_clip(run_path(root, "early.mp4"), &c);
    run_caption(root, "early");
    c = film("mp4", (AVRational){1, 60}, steps, 100, 0);
    make_clip(run_path(root, "steps.mp4"), &c);
    run_caption(root, "steps");

    json_t *lines = run_ingest(root, out, 2, NULL);
    assert_string_equal(run_reason(run_line(lines, "late")), "");
    assert_string_equal(run_reason(run_line(lines, "steps")), "");
    assert_string_equal(run_reason(run_line(lines, "early")), "uneven_times");
    const char *text = json_string_value(json_object_get(json_object_get(run_line(lines, "early"), "reason"), "text"));
    assert_non_null(strstr(text, "output frame 12 is to show 1.500 s, the nearest source frame is at 0.000 s; 0.0"));
    json_decref(lines);

    lines = run_ingest(root, out, 2, allow);
    assert_string_equal(run_reason(run_line(lines, "early")), "");
    json_decref(lines);

    lines = run_ingest(root, out, 2, chunks);
    assert_string_equal(run_reason(run_line(lines, "late#0")), "");
    assert_string_equal(run_reason(run_line(lines, "late#1")), "uneven_times");
    assert_string_equal(run_reason(run_line(lines, "late#2")), "");
    json_decref(lines);
}

/* Containers beside those of the web, by their own names and codecs. */
static void containers(void **state)
{
    static const struct {
        const char *name, *container, *codec;
        AVRational base;
    } want[] = {{"a.wmv", "asf", "wmv2", {1, 25}},
                {"b.mxf", "mxf", "mpeg2video", {1, 25}},
                {"c.mpg", "mpeg", "mpeg2video", {1, 25}},
                {"d.flv", "flv", "flv", {1, 25}},
                {"e.m2v", "mpeg2video", "mpeg2video", {1, 25}},
                {"f.mts", "mpegts", "libx264", {1, 25}},
                {"g.3gp", "3gp", "mpeg4", {1, 25}},
                {"h.mjpeg", "mjpeg", "mjpeg", {1, 25}}};
    char *root = run_folder("containers"), *out = check_tmp_path("containers-out"), id[2] = "a";
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++, id[0]++) {
        Clip c = film(want[i].container, want[i].base, NULL, 170, 0);
        c.codec = want[i].codec;
        c.options = NULL;
        if (strcmp(want[i].codec, "mjpeg") == 0)
            c.format = AV_PIX_FMT_YUVJ420P, c.range = AVCOL_RANGE_JPEG;
        make_clip(run_path(root, want[i].name), &c);
        run_caption(root, id);
    }
    json_t *lines = run_ingest(root, out, 2, NULL);
    for (id[0] = 'a'; id[0] < 'a' + (char)(sizeof want / sizeof *want); id[0]++)
        if (run_reason(run_line(lines, id))[0])
            fail_msg("%s: %s", want[id[0] - 'a'].name, json_dumps(json_object_get(run_line(lines, id), "reason"), 0));
    json_decref(lines);
}

/* Facts that are noted, or refused, because they cannot be taken at their word. */
static void doubtful_facts(void **state)
{
    char *root = run_folder("doubtful"), *out = check_tmp_path("doubtful-out");
    (void)state;
    Clip c = film("matroska", (AVRational){1, 24}, NULL, 150, 0);
    c.sar = (AVRational){9, 2};
    make_clip(run_path(root, "aspect.mkv"), &c);
    run_caption(root, "aspect");
    c.sar = (AVRational){1, 1};
    static const enum AVColorTransferCharacteristic curves[] = {AVCOL_TRC_LINEAR, AVCOL_TRC_LOG, AVCOL_TRC_IEC61966_2_1,
                                                                AVCOL_TRC_BT709};
    for (int i = 0; i < 4; i++) {
        char id[16], name[24];
        snprintf(id, sizeof id, "curve%d", i);
        snprintf(name, sizeof name, "curve%d.mkv", i);
        c.transfer = curves[i];
        make_clip(run_path(root, name), &c);
        run_caption(root, id);
    }
    json_t *lines = run_ingest(root, out, 2, NULL);
    assert_string_equal(run_reason(run_line(lines, "aspect")), "");
    assert_int_equal(run_warned(run_line(lines, "aspect"), "bad_aspect"), 1);
    assert_string_equal(run_reason(run_line(lines, "curve0")), "unsupported");
    assert_string_equal(run_reason(run_line(lines, "curve1")), "unsupported");
    assert_string_equal(run_reason(run_line(lines, "curve2")), "");
    assert_string_equal(run_reason(run_line(lines, "curve3")), "");
    assert_int_equal(run_warned(run_line(lines, "curve3"), "bad_aspect"), 0);
    json_decref(lines);
}

/* ---- shapes ---------------------------------------------------------------------------------- */
/* Luma 40 at the top to 200 at the bottom; the odd lines of an interlaced film are black. */
static void draw_ramp(AVFrame *f, int k, const void *user)
{
    (void)k;
    for (int y = 0; y < f->height; y++)
        memset(f->data[0] + y * f->linesize[0], user && y % 2 ? 16 : 40 + 160 * y / (f->height - 1), (size_t)f->width);
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * ((f->height + 1) / 2)));
}

static double luma_of_row(const uint8_t *rgb, int y)
{
    return 16 + rgb[(y * W + W / 2) * 3] * 219 / 255.0;
}

static void check_rows(const char *out, const json_t *lines, const char *id, double top, double bottom)
{
    uint8_t *rgb = run_pixels(out, run_line(lines, id), OUT, W, H);
    for (int k = 0; k < OUT; k += OUT - 1)
        for (int y = 0; y < H; y++) {
            double want = top + (bottom - top) * (y + 0.5) / H, got = luma_of_row(rgb + k * W * H * 3, y);
            if (got < want - 3 || got > want + 3)
                fail_msg("%s row %d: luma %.1f, expected %.1f", id, y, got, want);
        }
    mem_free(rgb);
}

static void fits_and_fields(void **state)
{
    char *root = run_folder("shapes"), *out = check_tmp_path("shapes-out");
    const AVRational eighth = {1, 8};
    (void)state;
    Clip tall = film("mp4", eighth, NULL, OUT, 0);
    tall.draw = draw_ramp;
    tall.height = 288;
    make_clip(run_path(root, "tall.mp4"), &tall);
    run_caption(root, "tall");
    Clip odd = tall;
    odd.width = 99, odd.height = 149; /* 4:2:0 with half a chroma sample over: in Matroska as it is */
    odd.container = "matroska", odd.codec = "ffv1", odd.options = "level=3";
    make_clip(run_path(root, "odd.mkv"), &odd);
    run_caption(root, "odd");
    Clip fields = tall;
    fields.height = H, fields.user = "fields";
    fields.options = "preset=ultrafast:threads=1:qp=4", fields.field_order = AV_FIELD_TT;
    make_clip(run_path(root, "fields.mp4"), &fields);
    run_caption(root, "fields");
    static const struct {
        const char *fit, *bias;
        double top, bottom, low, high;
    } fits[] = {{"clip.fit=cover", "clip.bias_y=0", 40, 120, 40, 200},
                {"clip.fit=cover", "clip.bias_y=1", 120, 200, 40, 200},
                {"clip.fit=cover", "clip.bias_y=0.5", 80, 160, 40, 200},
                {"clip.fit=pad", "clip.bias_y=0.5", 40, 200, 40, 200},
                {"clip.fit=stretch", "clip.bias_y=0.5", 40, 200, 40, 200}};
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        json_t *lines = run_ingest(root, out, 2,
                                   (const char *const[]){fits[i].fit, fits[i].bias, "clip.max_lost=1", NULL});
        check_rows(out, lines, "tall", fits[i].top, fits[i].bottom);
        check_rows(out, lines, "odd", fits[i].low, fits[i].high);
        check_rows(out, lines, "fields", fits[i].low, fits[i].high); /* the lit field alone */
        const json_t *geometry = json_object_get(run_line(lines, "tall"), "geometry");
        int pad = strstr(fits[i].fit, "pad") != NULL;
        assert_int_equal(json_integer_value(json_object_get(geometry, "scaled_width")), pad ? 48 : W);
        assert_int_equal(json_integer_value(json_object_get(geometry, "crop_x")), pad ? -24 : 0);
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(run_line(lines, "fields"), "probe"), "interlaced")),
            "top");
        json_decref(lines);
    }
    /* the combs as they are */
    json_t *lines = run_ingest(root, out, 2, (const char *const[]){"clip.deinterlace=never", NULL});
    uint8_t *rgb = run_pixels(out, run_line(lines, "fields"), OUT, W, H);
    assert_true(luma_of_row(rgb, 100) > 100 && luma_of_row(rgb, 101) < 40);
    mem_free(rgb);
    assert_string_equal(run_reason(run_line(lines, "tall")), "crop_too_large");
    json_decref(lines);
}

static void check_clocked(const json_t *lines, const char *id)
{
    const json_t *line = run_line(lines, id), *ledger = json_object_get(line, "ledger"),
                 *first = json_object_get(json_object_get(line, "probe"), "first_time");
    assert_string_equal(run_reason(line), "");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(ledger, 0), "index")), 15);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(ledger, 48), "index")), 195);
    assert_int_equal(json_integer_value(json_array_get(first, 0)), 3 * json_integer_value(json_array_get(first, 1)));
    assert_string_equal(json_string_value(json_array_get(json_object_get(line, "captions"), 0)), "A dress. She turns.");
}

/* start_s, end_s and segments in seconds are on the file's clock, as a player shows it: the picture
 * begins 3 s after the sound, 3.5 s is its frame 15. */
static void file_clock(void **state)
{
    static const struct {
        const char *container, *name;
    } kinds[] = {{"matroska", "a.mkv"}, {"mov", "b.mov"}};
    static int64_t late[300];
    char *root = run_folder("clock"), *part = check_tmp_path("late.mkv"), *out = check_tmp_path("clock-out");
    char text[1024] = "", *at = text;
    Err err = {0};
    (void)state;
    for (int i = 0; i < 300; i++)
        late[i] = 90 + i;
    Clip c = film("matroska", (AVRational){1, 30}, late, 300, 0);
    make_clip(part, &c);
    for (int i = 0; i < 2; i++) {
        remake(part, run_path(root, kinds[i].name),
               &(Remake){.container = kinds[i].container, .sounds = 1, .sound_s = 13});
        at += sprintf(at,
                      "{\"file_name\":\"%s\",\"text\":\"A dress.\",\"start_s\":3.5,\"end_s\":10.5,\"segments\":["
                      "{\"start\":0.5,\"end\":1.5,\"unit\":\"s\",\"text\":\"Nobody is there.\"},"
                      "{\"start\":3.5,\"end\":5,\"unit\":\"s\",\"text\":\"She turns.\"}]}\n",
                      kinds[i].name);
    }
    CHECK_OK(file_write_atomic(run_path(root, "metadata.jsonl"), text, at - text, &err), &err);
    for (int again = 0; again < 2; again++) { /* the second run takes over what the first made */
        json_t *lines = run_ingest(root, out, 2, NULL);
        check_clocked(lines, "a");
        check_clocked(lines, "b");
        json_decref(lines);
    }
}

/* A film with a still at its end every two seconds: rates are those of the window's frames. */
static void end_card(void **state)
{
    static int64_t t[220];
    char *root = run_folder("card"), *first = check_tmp_path("card-first"), *middle = check_tmp_path("card-middle");
    const char *sets[] = {"clip.window=middle", NULL};
    (void)state;
    for (int i = 0; i < 220; i++)
        t[i] = i < 195 ? 3000 * i : 3000 * 194 + 180000 * (i - 194);
    Clip c = film("mp4", (AVRational){1, 90000}, t, 220, 0);
    make_clip(run_path(root, "card.mp4"), &c);
    run_caption(root, "card");
    json_t *lines = run_ingest(root, first, 1, NULL);
    assert_string_equal(run_reason(run_line(lines, "card")), "");
    json_decref(lines);
    lines = run_ingest(root, middle, 1, sets);
    assert_string_equal(run_reason(run_line(lines, "card")), "low_rate");
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rates),      cmocka_unit_test(odd_times),
                                       cmocka_unit_test(holes),      cmocka_unit_test(doubtful_facts),
                                       cmocka_unit_test(containers), cmocka_unit_test(fits_and_fields),
                                       cmocka_unit_test(file_clock), cmocka_unit_test(end_card)};
    av_log_set_level(AV_LOG_QUIET); /* of the encoders that make the clips */
    return check_run_live("prep time", tests);
}
