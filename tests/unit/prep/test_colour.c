/* Pixel goldens of the whole ingest: patches of known samples go in through every matrix, range,
 * depth, subsampling, orientation and pixel aspect, and come out of the prepared clip at the right
 * place and within one level of the mathematical value. */
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include "unit/clip_maker.h"
#include "unit/prep_run.h"

enum {
    W = 96,
    H = 144,
    FRAMES = 49,
    COLUMNS = 3,
    ROWS = 4,
    PATCHES = COLUMNS * ROWS,
    MARGIN = 8 /* the scaler's reach, chroma's too */
};

static const double patches[PATCHES][3] = {{250, 250, 250}, {4, 4, 4},      {250, 3, 3},     {3, 250, 3},
                                           {3, 3, 250},     {219, 219, 16}, {126, 126, 126}, {224, 172, 105},
                                           {5, 5, 122},     {17, 180, 201}, {250, 3, 130},   {60, 61, 59}};

/* docs/video.md 5.1: R += rv Cr, G += gu Cb + gv Cr, B += bu Cb, for limited and for full range. */
typedef struct Matrix {
    const char *name;
    enum AVColorSpace space;
    double kr, kb, limited[4], full[4];
} Matrix;
static const Matrix matrices[2] = {{"bt601",
                                    AVCOL_SPC_SMPTE170M,
                                    0.299,
                                    0.114,
                                    {1.596027, -0.391762, -0.812968, 2.017232},
                                    {1.402, -0.344136, -0.714136, 1.772}},
                                   {"bt709",
                                    AVCOL_SPC_BT709,
                                    0.2126,
                                    0.0722,
                                    {1.792741, -0.213249, -0.532909, 2.112402},
                                    {1.5748, -0.187324, -0.468124, 1.8556}}};
static const enum AVPixelFormat formats[2][3] = {{AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUV444P},
                                                 {AV_PIX_FMT_YUV420P10, AV_PIX_FMT_YUV422P10, AV_PIX_FMT_YUV444P10}};
/* A stored point (p, q) is shown at (a p + c q, b p + d q), q and its image downwards. */
static const struct Orientation {
    int a, b, c, d;
} orientations[8] = {{1, 0, 0, 1},  {0, 1, -1, 0}, {-1, 0, 0, -1}, {0, -1, 1, 0},
                     {-1, 0, 0, 1}, {0, 1, 1, 0},  {1, 0, 0, -1},  {0, -1, -1, 0}};
static const AVRational aspects[3] = {{1, 1}, {4, 3}, {1, 2}};

typedef struct Case {
    int matrix, full, deep, sub, turn, aspect;
} Case;

static void samples_of(const Case *c, int patch, int yuv[3])
{
    const Matrix *m = &matrices[c->matrix];
    const double *rgb = patches[patch], unit = c->deep ? 4 : 1, top = c->deep ? 1023 : 255;
    double y = m->kr * rgb[0] + (1 - m->kr - m->kb) * rgb[1] + m->kb * rgb[2];
    double cb = (rgb[2] - y) / (2 * (1 - m->kb)), cr = (rgb[0] - y) / (2 * (1 - m->kr));
    yuv[0] = (int)lround(c->full ? y / 255 * top : unit * (16 + 219 * y / 255));
    yuv[1] = (int)lround(128 * unit + (c->full ? cb / 255 * top : unit * 224 * cb / 255));
    yuv[2] = (int)lround(128 * unit + (c->full ? cr / 255 * top : unit * 224 * cr / 255));
}

/* What those samples mean. */
static void colour_of(const Case *c, int patch, double rgb[3])
{
    int yuv[3];
    samples_of(c, patch, yuv);
    double unit = c->deep ? 4 : 1, to8 = c->deep ? 255.0 / 1023 : 1;
    double y = c->full ? yuv[0] * to8 : 1.164383 * (yuv[0] / unit - 16), scale = c->full ? to8 : 1 / unit;
    double cb = scale * (yuv[1] - 128 * unit), cr = scale * (yuv[2] - 128 * unit);
    const double *k = c->full ? matrices[c->matrix].full : matrices[c->matrix].limited;
    rgb[0] = y + k[0] * cr;
    rgb[1] = y + k[1] * cb + k[2] * cr;
    rgb[2] = y + k[3] * cb;
    for (int i = 0; i < 3; i++)
        rgb[i] = fmin(fmax(rgb[i], 0), 255);
}

/* The patch that a stored pixel must show once the picture is upright. */
static int patch_at(const struct Orientation *o, int x, int y, int width, int height)
{
    double p = (2 * x + 1.0) / width - 1, q = (2 * y + 1.0) / height - 1; /* about the centre */
    double u = o->a * p + o->c * q, v = o->b * p + o->d * q;
    return (int)((v + 1) / 2 * ROWS) * COLUMNS + (int)((u + 1) / 2 * COLUMNS);
}

static void draw(AVFrame *f, int k, const void *user)
{
    const Case *c = user;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    if (k) /* the picture stands still */
        return;
    for (int plane = 0; plane < 3; plane++) {
        int sx = plane ? d->log2_chroma_w : 0, sy = plane ? d->log2_chroma_h : 0;
        for (int y = 0; y < f->height >> sy; y++)
            for (int x = 0; x < f->width >> sx; x++) {
                int yuv[3];
                samples_of(c, patch_at(&orientations[c->turn], x << sx, y << sy, f->width, f->height), yuv);
                uint8_t *row = f->data[plane] + y * f->linesize[plane];
                if (c->deep)
                    ((uint16_t *)(void *)row)[x] = (uint16_t)yuv[plane];
                else
                    row[x] = (uint8_t)yuv[plane];
            }
    }
}

/* Lossless: FFV1 in Matroska, which has no display matrix, or H.264 in MP4. */
static void make(const char *root, const char *id, const Case *c)
{
    const struct Orientation *o = &orientations[c->turn];
    const AVRational sar = aspects[c->aspect];
    int32_t matrix[9] = {o->a * 65536, o->b * 65536, 0, o->c * 65536, o->d * 65536, 0, 0, 0, 1 << 30};
    int plain = c->turn == 0, turned = o->b != 0;
    char name[64];
    Clip clip = {.container = plain ? "matroska" : "mp4",
                 .codec = plain ? "ffv1" : "libx264",
                 .options = plain ? "level=3" : "qp=0:preset=ultrafast:threads=1",
                 .format = formats[c->deep][c->sub],
                 .width = (turned ? H : W) * sar.den / sar.num,
                 .height = turned ? W : H,
                 .time_base = {1, 8},
                 .frames = FRAMES,
                 .space = matrices[c->matrix].space,
                 .range = c->full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG,
                 .sar = sar,
                 .matrix = plain ? NULL : matrix,
                 .draw = draw,
                 .user = c};
    snprintf(name, sizeof name, "%s.%s", id, plain ? "mkv" : "mp4");
    make_clip(run_path(root, name), &clip);
    run_caption(root, id);
}

static double worst;

static void check_frame(const char *id, const Case *c, const uint8_t *rgb)
{
    for (int patch = 0; patch < PATCHES; patch++) {
        int left = patch % COLUMNS * W / COLUMNS, top = patch / COLUMNS * H / ROWS;
        double want[3];
        colour_of(c, patch, want);
        for (int y = top + MARGIN; y < top + H / ROWS - MARGIN; y++)
            for (int x = left + MARGIN; x < left + W / COLUMNS - MARGIN; x++)
                for (int k = 0; k < 3; k++) {
                    double e = fabs(rgb[(y * W + x) * 3 + k] - want[k]);
                    worst = fmax(worst, e);
                    if (e > 1)
                        fail_msg("%s (%s %s, matrix %d %d %d %d): at %d, %d channel %d is %d, expected %.2f", id,
                                 matrices[c->matrix].name, av_get_pix_fmt_name(formats[c->deep][c->sub]),
                                 orientations[c->turn].a, orientations[c->turn].b, orientations[c->turn].c,
                                 orientations[c->turn].d, x, y, k, rgb[(y * W + x) * 3 + k], want[k]);
                }
    }
}

/* Every colour form upright; every orientation with every aspect in two colour forms; and a drawn
 * sample of the rest. */
static int64_t cases(Case *list)
{
    uint64_t seed = check_seed() * 6364136223846793005u + 1442695040888963407u;
    int64_t n = 0;
    for (int i = 0; i < 24; i++)
        list[n++] = (Case){i % 2, i / 2 % 2, i / 4 % 2, i / 8, 0, 0};
    for (int i = 0; i < 48; i++)
        list[n++] = i % 2 ? (Case){0, 1, 1, 1, i / 2 % 8, i / 16} : (Case){1, 0, 0, 0, i / 2 % 8, i / 16};
    for (int i = 0; i < 24; i++) {
        int at = (int)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33) % 576;
        list[n++] = (Case){at % 2, at / 2 % 2, at / 4 % 2, at / 8 % 3, at / 24 % 8, at / 192};
    }
    return n;
}

static void patches_within_one_level(void **state)
{
    static Case list[96];
    int64_t n = cases(list);
    char *root = run_folder("patches"), *out = check_tmp_path("patches-out"), id[16];
    (void)state;
    for (int64_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "c%lld", (long long)i);
        make(root, id, &list[i]);
    }
    json_t *lines = run_ingest(root, out, 2, NULL);
    for (int64_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "c%lld", (long long)i);
        const json_t *line = run_line(lines, id), *probe = json_object_get(line, "probe");
        assert_string_equal(run_reason(line), "");
        assert_string_equal(json_string_value(json_object_get(probe, "matrix_used")), matrices[list[i].matrix].name);
        assert_string_equal(json_string_value(json_object_get(probe, "range_used")), list[i].full ? "full" : "limited");
        assert_true(json_is_false(json_object_get(probe, "guessed")));
        uint8_t *rgb = run_pixels(out, line, FRAMES, W, H);
        check_frame(id, &list[i], rgb);
        assert_memory_equal(rgb, rgb + (FRAMES - 1) * W * H * 3, W * H * 3);
        mem_free(rgb);
    }
    json_decref(lines);
    print_message("# %lld clips, worst patch error %.3f levels\n", (long long)n, worst);
}

/* PQ, HLG and BT.2020 primaries are refused, and taken when that is asked for. */
static void hdr_only_when_asked_for(void **state)
{
    static const struct {
        const char *id;
        enum AVColorTransferCharacteristic transfer;
        enum AVColorPrimaries primaries;
    } kinds[] = {{"pq", AVCOL_TRC_SMPTE2084, AVCOL_PRI_BT2020},
                 {"hlg", AVCOL_TRC_ARIB_STD_B67, AVCOL_PRI_BT2020},
                 {"wide", AVCOL_TRC_BT709, AVCOL_PRI_BT2020}};
    static const Case c = {1, 0, 1, 0, 0, 0};
    char *root = run_folder("hdr"), *out = check_tmp_path("hdr-out"), name[16];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        Clip clip = {.container = "matroska",
                     .codec = "ffv1",
                     .options = "level=3",
                     .format = AV_PIX_FMT_YUV420P10,
                     .width = W,
                     .height = H,
                     .time_base = {1, 8},
                     .frames = FRAMES,
                     .space = AVCOL_SPC_BT2020_NCL,
                     .range = AVCOL_RANGE_MPEG,
                     .transfer = kinds[i].transfer,
                     .primaries = kinds[i].primaries,
                     .draw = draw,
                     .user = &c};
        snprintf(name, sizeof name, "%s.mkv", kinds[i].id);
        make_clip(run_path(root, name), &clip);
        run_caption(root, kinds[i].id);
    }
    for (int convert = 0; convert < 2; convert++) {
        json_t *lines = run_ingest(root, out, 2,
                                   (const char *const[]){convert ? "clip.hdr=convert" : "clip.hdr=reject", NULL});
        for (size_t i = 0; i < 3; i++) {
            const json_t *line = run_line(lines, kinds[i].id);
            assert_string_equal(run_reason(line), convert ? "" : "hdr");
            assert_int_equal(run_warned(line, "tone_mapped"), convert);
            assert_int_equal(json_is_null(json_object_get(line, "clip")), !convert);
        }
        json_decref(lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(patches_within_one_level),
                                       cmocka_unit_test(hdr_only_when_asked_for)};
    av_log_set_level(AV_LOG_QUIET); /* of the encoders that make the clips */
    return check_run_live("prep colour", tests);
}
