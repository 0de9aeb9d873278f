/* What odd but honest sources become: the notes, and whole runs over photographs, cut-outs, long sound
 * and streams that begin between key frames. */
#include <stdlib.h>
#include "unit/clip_maker.h"
#include "unit/prep_run.h"
#include "unit/remake.h"
#include "prep/clip/source_facts.h"

static int has(const SourceNote *notes, int n, Reason reason)
{
    for (int i = 0; i < n; i++)
        if (notes[i].reason == reason && notes[i].text[0])
            return 1;
    return 0;
}

static void every_fact_has_its_note(void **state)
{
    (void)state;
    static const struct {
        VideoInfo info;
        VideoCounts counts;
        Reason reason; /* REASON_COUNT: none at all */
    } cases[] = {
        {{.flip = 0}, {.decoded_frames = 50}, REASON_COUNT},
        {{.converted = 1, .primaries = "smpte432"}, {.decoded_frames = 50}, REASON_COLOUR_CONVERTED},
        {{.hdr_suspected = 1}, {.decoded_frames = 50}, REASON_HDR_SUSPECTED},
        {{.guessed = 1}, {.decoded_frames = 50}, REASON_COLOUR_GUESSED},
        {{.hdr = VIDEO_HDR_PQ}, {.decoded_frames = 50}, REASON_TONE_MAPPED},
        {{.alpha = 1}, {.decoded_frames = 50}, REASON_COUNT},
        {{.profile_ignored = 1}, {.decoded_frames = 50}, REASON_PROFILE_IGNORED},
        {{.alpha = 1}, {.decoded_frames = 50, .transparent_frames = 1}, REASON_ALPHA_COVERED},
        {{.alpha = 1, .container = "folder"}, {0}, REASON_ALPHA_COVERED},
        {{.alpha = 2}, {.decoded_frames = 50}, REASON_ALPHA_COVERED},
        {{.matrix_refused = 1}, {.decoded_frames = 50}, REASON_MATRIX_IGNORED},
        {{.flip = 0}, {.decoded_frames = 50, .before_key = 7}, REASON_STARTS_INSIDE},
        {{.flip = 0}, {.decoded_frames = 50, .interlaced_frames = 20, .combed_frames = 12}, REASON_MIXED_FIELDS},
        {{.flip = 0}, {.decoded_frames = 50, .interlaced_frames = 50, .combed_frames = 30}, REASON_COUNT},
        {{.flip = 0}, {.decoded_frames = 50, .interlaced_frames = 50}, REASON_FIELDS_ALIKE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SourceNote notes[SOURCE_NOTES_MAX];
        int n = source_notes(&cases[i].info, &cases[i].counts, "white", notes);
        if (cases[i].reason == REASON_COUNT ? n != 0 : n != 1 || !has(notes, n, cases[i].reason))
            fail_msg("case %d: %d notes, the first is '%s'", (int)i, n, n ? notes[0].text : "");
    }
}

static void colours_that_cannot_be_used(void **state)
{
    (void)state;
    static const struct {
        VideoInfo info;
        int convert;
        Reason reason; /* REASON_COUNT: it can be used */
    } cases[] = {{{.flip = 0}, 0, REASON_COUNT},
                 {{.hdr = VIDEO_HDR_DOLBY}, 1, REASON_HDR},
                 {{.hdr = VIDEO_HDR_METADATA}, 0, REASON_HDR},
                 {{.hdr = VIDEO_HDR_METADATA}, 1, REASON_COUNT},
                 {{.hdr = VIDEO_HDR_PQ}, 0, REASON_HDR},
                 {{.hdr = VIDEO_HDR_WIDE}, 1, REASON_COUNT},
                 {{.transfer = "linear"}, 1, REASON_UNSUPPORTED},
                 {{.transfer = "bt470bg", .converted = 1}, 0, REASON_COUNT},
                 {{.primaries = "smpte428"}, 0, REASON_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SourceNote why;
        int refused = source_colours_refused(&cases[i].info, cases[i].convert, &why);
        assert_int_equal(refused, cases[i].reason != REASON_COUNT);
        if (refused)
            assert_int_equal(why.reason, cases[i].reason);
    }
}

static void backgrounds_have_names(void **state)
{
    (void)state;
    uint8_t rgb[3];
    assert_true(colour_parse("white", rgb) && rgb[0] == 255 && rgb[2] == 255);
    assert_true(colour_parse("#0a14C8", rgb) && rgb[0] == 10 && rgb[1] == 20 && rgb[2] == 200);
    static const char *const bad[] = {"", "red", "#12345", "#1234567", "#12345g", "#+12345", "0a14c8"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(colour_parse(bad[i], rgb));
}

/* ---- whole runs ------------------------------------------------------------------------------ */
enum { W = 32, H = 48, FRAMES = 9 };
static const char *const sets[] = {
    "clip.width=32",     "clip.height=48",    "clip.min_side=16",        "clip.model_frames=9",
    "clip.num_frames=8", "clip.frames_fps=8", "clip.background=#0a14c8", NULL};

static void draw_shapes(AVFrame *f, int k, const void *user)
{
    (void)user;
    for (int p = 0; p < 3; p++)
        for (int y = 0; y < (p ? f->height / 2 : f->height); y++)
            for (int x = 0; x < (p ? f->width / 2 : f->width); x++)
                f->data[p][y * f->linesize[p] + x] = (uint8_t)(64 + (x * 5 + y * 3 + k * (p ? 2 : 7)) % 128);
}

/* Red in the middle, opaque; green around it under alpha 0. */
static void draw_box(AVFrame *f, int k, const void *user)
{
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int box = x >= W / 4 && x < W * 3 / 4 && y >= 8 + k % 8 && y < 40;
            const uint8_t argb[4] = {box ? 255 : 0, box ? 255 : 0, box ? 0 : 192, 0};
            memcpy(f->data[0] + y * f->linesize[0] + 4 * x, argb, 4);
        }
}

static Clip shapes(const char *container, const char *codec, int frames)
{
    return (Clip){.container = container,
                  .codec = codec,
                  .options = "qmin=2:qmax=2:strict=-1",
                  .format = AV_PIX_FMT_YUV420P,
                  .width = W,
                  .height = H,
                  .time_base = {1, 8},
                  .frames = frames,
                  .space = AVCOL_SPC_BT709,
                  .range = AVCOL_RANGE_MPEG,
                  .draw = draw_shapes};
}

static void cut_file(const char *from, const char *to, double share)
{
    Err err = {0};
    char *bytes;
    int64_t size;
    CHECK_OK(file_read(from, 1 << 26, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(to, bytes, (int64_t)((double)size * share), &err), &err);
    mem_free(bytes);
}

static void whole_runs(void **state)
{
    (void)state;
    static const struct {
        const char *id, *reason, *note;
    } want[] = {{"alpha", "", "alpha_covered"}, {"inside", "", "starts_inside"}, {"matrix", "", "matrix_ignored"},
                {"long_mkv", "", NULL},         {"long_asf", "", NULL},          {"cut_mkv", "truncated", NULL},
                {"cut_asf", "truncated", NULL}};
    static const int32_t zeros[9] = {0};
    Err err = {0};
    char *root = run_folder("odd"), *out = check_tmp_path("odd-out"), *part = check_tmp_path("part");
    Clip c = shapes("mov", "qtrle", 12);
    c.options = NULL;
    c.format = AV_PIX_FMT_ARGB;
    c.space = 0;
    c.draw = draw_box;
    make_clip(run_path(root, "alpha.mov"), &c);
    c = shapes("matroska", "mpeg4", 30);
    make_clip(part, &c);
    remake(part, run_path(root, "inside.mkv"), &(Remake){.container = "matroska", .drop = 4});
    remake(part, run_path(root, "long_mkv.mkv"), &(Remake){.container = "matroska", .sounds = 1, .sound_s = 8});
    remake(part, run_path(root, "long_asf.asf"), &(Remake){.container = "asf", .sounds = 1, .sound_s = 8});
    cut_file(run_path(root, "long_mkv.mkv"), run_path(root, "cut_mkv.mkv"), 0.35);
    cut_file(run_path(root, "long_asf.asf"), run_path(root, "cut_asf.asf"), 0.35);
    c = shapes("mp4", "mpeg4", 12);
    c.matrix = zeros;
    make_clip(run_path(root, "matrix.mp4"), &c);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        run_caption(root, want[i].id);
    json_t *lines = run_ingest(root, out, 1, sets);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const json_t *line = run_line(lines, want[i].id);
        if (strcmp(run_reason(line), want[i].reason) != 0 || (want[i].note && !run_warned(line, want[i].note)))
            fail_msg("%s: '%s'%s%s", want[i].id, run_reason(line), want[i].note ? ", wanted note " : "",
                     want[i].note ? want[i].note : "");
    }
    uint8_t *rgb = run_pixels(out, run_line(lines, "alpha"), FRAMES, W, H);
    const uint8_t *corner = rgb + (2 * W + 2) * 3, *middle = rgb + (30 * W + W / 2) * 3;
    assert_true(corner[0] == 10 && corner[1] == 20 && corner[2] == 200);
    assert_true(middle[0] == 255 && middle[1] == 0 && middle[2] == 0);
    mem_free(rgb);
    json_decref(lines);
    err_clear(&err);
}

/* JPEGs that are larger than the 2,048 bytes by which FFmpeg knows a format. */
static void folders_of_photographs(void **state)
{
    (void)state;
    static const char *const folders[] = {"plain", "named"}, *const names[] = {"%03d.jpg", "frame_%05d.JPEG"};
    char *root = run_folder("photos"), *out = check_tmp_path("photos-out"), name[32];
    for (int i = 0; i < 2; i++) {
        Err err = {0};
        char *folder = run_path(root, folders[i]);
        CHECK_OK(dir_make(folder, &err), &err);
        for (int k = 0; k < FRAMES; k++) {
            Clip c = shapes("mjpeg", "mjpeg", 1);
            c.format = AV_PIX_FMT_YUVJ420P;
            c.range = AVCOL_RANGE_JPEG;
            c.width = 5 * W;
            c.height = 5 * H;
            snprintf(name, sizeof name, names[i], k);
            make_clip(run_path(folder, name), &c);
            assert_true(file_size(run_path(folder, name), &err) > 4096);
        }
        run_caption(root, folders[i]);
    }
    json_t *lines = run_ingest(root, out, 1, sets);
    for (int i = 0; i < 2; i++)
        assert_string_equal(run_reason(run_line(lines, folders[i])), "");
    json_decref(lines);
}

int main(void)
{
    av_log_set_level(AV_LOG_QUIET); /* of the encoders that make the clips */
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_fact_has_its_note),
                                       cmocka_unit_test(colours_that_cannot_be_used),
                                       cmocka_unit_test(backgrounds_have_names), cmocka_unit_test(whole_runs),
                                       cmocka_unit_test(folders_of_photographs)};
    return check_run_live("prep: facts of sources", tests);
}
