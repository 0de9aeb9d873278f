/* Embedded colour profiles: ICC's and PNG's cHRM.  Columns and curves of the profiles are those that Apple's
 * Display P3, HP's sRGB and Adobe's RGB (1998) have; converted colours are FFmpeg's (light.h). */
#include <libavutil/adler32.h>
#include <libavutil/crc.h>
#include <libavutil/intreadwrite.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"
#include "unit/media/light.h"

enum { PATCH = 8, W = PATCH * LIGHT_COLOURS, H = 16, ICC_MAX = 4096, TABLE = 1024 };

typedef struct Icc {
    uint8_t data[ICC_MAX];
    int size;
} Icc;

static const double display_p3[3][3] = {
    {0.51512, 0.24120, -0.00105}, {0.29198, 0.69225, 0.04189}, {0.15710, 0.06657, 0.78407}};
static const double srgb[3][3] = {
    {0.43607, 0.22249, 0.01392}, {0.38515, 0.71687, 0.09708}, {0.14307, 0.06061, 0.71410}};
static const double adobe[3][3] = {
    {0.60974, 0.31111, 0.01947}, {0.20528, 0.62567, 0.06087}, {0.14919, 0.06322, 0.74457}};
static const double apple_curve[5] = {2.4, 0.94786, 0.05213, 0.07739, 0.04045};

static void put_fixed(uint8_t *p, double v)
{
    AV_WB32(p, (uint32_t)(int32_t)lround(v * 65536));
}

/* The element at the end, and its entry. */
static uint8_t *add_tag(Icc *icc, const char *name, const char *type, int size)
{
    int n = (int)AV_RB32(icc->data + 128);
    uint8_t *entry = icc->data + 132 + 12 * n, *element = icc->data + icc->size;
    AV_WB32(icc->data + 128, (uint32_t)n + 1);
    memcpy(entry, name, 4);
    AV_WB32(entry + 4, (uint32_t)icc->size);
    AV_WB32(entry + 8, (uint32_t)size);
    memcpy(element, type, 4);
    icc->size += (size + 3) / 4 * 4;
    AV_WB32(icc->data, (uint32_t)icc->size);
    return element;
}

/* gamma 0: Apple's parametric sRGB curve; negative: a table of it; else that power. */
static void make_icc(Icc *icc, const double columns[3][3], double gamma)
{
    static const char *const xyz[3] = {"rXYZ", "gXYZ", "bXYZ"}, *const curve[3] = {"rTRC", "gTRC", "bTRC"};
    *icc = (Icc){.size = 132 + 6 * 12};
    memcpy(icc->data + 16, "RGB XYZ ", 8);
    memcpy(icc->data + 36, "acsp", 4);
    for (int c = 0; c < 3; c++) {
        uint8_t *e = add_tag(icc, xyz[c], "XYZ ", 20);
        for (int i = 0; i < 3; i++)
            put_fixed(e + 8 + 4 * i, columns[c][i]);
    }
    if (gamma == 0)
        for (int c = 0; c < 3; c++) {
            uint8_t *e = add_tag(icc, curve[c], "para", 32);
            e[9] = 3;
            for (int i = 0; i < 5; i++)
                put_fixed(e + 12 + 4 * i, apple_curve[i]);
        }
    else if (gamma > 0)
        for (int c = 0; c < 3; c++) {
            uint8_t *e = add_tag(icc, curve[c], "curv", 14);
            e[11] = 1;
            AV_WB16(e + 12, (uint16_t)lround(gamma * 256));
        }
    else { /* one table for the three, as profiles do */
        uint8_t *e = add_tag(icc, curve[0], "curv", 12 + 2 * TABLE);
        AV_WB32(e + 8, TABLE);
        for (int i = 0; i < TABLE; i++) {
            double v = i / (TABLE - 1.0), l = v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
            AV_WB16(e + 12 + 2 * i, (uint16_t)lround(l * 65535));
        }
        for (int c = 1; c < 3; c++) {
            memcpy(icc->data + 132 + 12 * (3 + c), icc->data + 132 + 12 * 3, 12);
            memcpy(icc->data + 132 + 12 * (3 + c), curve[c], 4);
        }
        AV_WB32(icc->data + 128, 6);
    }
}

/* ---- PNG chunks ------------------------------------------------------------------------------ */
static int put_chunk(uint8_t *out, const char *name, const uint8_t *data, int n)
{
    AV_WB32(out, (uint32_t)n);
    memcpy(out + 4, name, 4);
    memcpy(out + 8, data, (size_t)n);
    AV_WB32(out + 8 + n, ~av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), UINT32_MAX, out + 4, (size_t)n + 4));
    return n + 12;
}

/* The profile as zlib's stored block (RFC 1950, 1951). */
static int icc_chunk(uint8_t *out, const Icc *icc)
{
    uint8_t data[ICC_MAX + 32] = {'P', 0, 0, 0x78, 0x01, 1};
    AV_WL16(data + 6, (uint16_t)icc->size);
    AV_WL16(data + 8, (uint16_t)~icc->size);
    memcpy(data + 10, icc->data, (size_t)icc->size);
    AV_WB32(data + 10 + icc->size, av_adler32_update(1, icc->data, (unsigned)icc->size));
    return put_chunk(out, "iCCP", data, 14 + icc->size);
}

static int chrm_chunk(uint8_t *out, const double xy[8]) /* white, red, green, blue */
{
    uint8_t data[32];
    for (int i = 0; i < 8; i++)
        AV_WB32(data + 4 * i, (uint32_t)lround(xy[i] * 100000));
    return put_chunk(out, "cHRM", data, 32);
}

/* A picture of light.h's colours, with that chunk. */
static char *write_png(const uint8_t *chunk, int n)
{
    Err err = {0};
    char *path = check_tmp_path("picture.png"), *bytes;
    int64_t size;
    enum { BEFORE = 8 + 25 }; /* the signature and IHDR */
    uint8_t *rgb = malloc(W * H * 3);
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)light_colours[i / 3 % W / PATCH][i % 3];
    CHECK_OK(picture_write_png(path, rgb, W, H, &err), &err);
    CHECK_OK(file_read(path, 1 << 20, &bytes, &size, &err), &err);
    char *all = malloc((size_t)(size + n));
    memcpy(all, bytes, BEFORE);
    memcpy(all + BEFORE, chunk, (size_t)n);
    memcpy(all + BEFORE + n, bytes + BEFORE, (size_t)(size - BEFORE));
    CHECK_OK(file_write_atomic(path, all, size + n, &err), &err);
    mem_free(bytes);
    free(all);
    free(rgb);
    return path;
}

/* Every patch is light_cases[0]'s (Display P3 to BT.709), within half a level of rounding and one for the
 * scaler's way from 8-bit to 16-bit RGB, or as it was. */
static void expect(const char *name, const char *path, int converted, int ignored)
{
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    uint8_t *rgb = malloc(W * H * 3);
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    if (video_info(r)->converted != converted || video_info(r)->profile_ignored != ignored)
        fail_msg("%s: converted %d, ignored %d", name, video_info(r)->converted, video_info(r)->profile_ignored);
    FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
    assert_int_equal(video_next(r, &f, &err), 1);
    CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
    assert_int_equal(light_cases[0].primaries, AVCOL_PRI_SMPTE432);
    assert_int_equal(light_cases[0].transfer, AVCOL_TRC_IEC61966_2_1);
    for (int k = 0; k < LIGHT_COLOURS; k++)
        for (int c = 0; c < 3; c++) {
            double want = converted ? light_cases[0].rgb[k][c] : light_colours[k][c];
            int got = rgb[3 * (H / 2 * W + k * PATCH + PATCH / 2) + c];
            if (fabs(got - want) > (converted ? 1.5 : 0))
                fail_msg("%s: colour %d channel %d is %d, expected %.2f", name, k, c, got, want);
        }
    video_close(&r);
    free(rgb);
}

static void pictures_with_profiles(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const double (*columns)[3];
        double gamma;
        int converted, ignored;
    } cases[] = {{"Display P3", display_p3, 0, 1, 0},
                 {"Display P3, a table", display_p3, -1, 1, 0},
                 {"sRGB", srgb, 0, 0, 0},
                 {"sRGB, a table", srgb, -1, 0, 0},
                 {"Adobe RGB", adobe, 2.19921875, 0, 1},
                 {"Display P3, gamma 1.8", display_p3, 1.8, 0, 1}};
    static uint8_t chunk[ICC_MAX + 64];
    static Icc icc;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_icc(&icc, cases[i].columns, cases[i].gamma);
        int n = icc_chunk(chunk, &icc);
        expect(cases[i].name, write_png(chunk, n), cases[i].converted, cases[i].ignored);
    }
    expect("no profile", write_png(chunk, 0), 0, 0);
}

static void pictures_with_chrm(void **state)
{
    (void)state;
    static const double p3[8] = {0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060},
                        same[8] = {0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060};
    uint8_t chunk[64];
    int n = chrm_chunk(chunk, p3);
    expect("cHRM of Display P3", write_png(chunk, n), 1, 0);
    n = chrm_chunk(chunk, same);
    expect("cHRM of sRGB", write_png(chunk, n), 0, 0);
}

/* Cut anywhere, or with any byte replaced: an answer, and nothing read beyond the end. */
static void hostile_profiles(void **state)
{
    (void)state;
    AVFormatContext *fmt = avformat_alloc_context();
    AVStream *st = avformat_new_stream(fmt, NULL);
    enum AVColorPrimaries primaries;
    enum AVColorTransferCharacteristic transfer;
    static Icc icc;
    int read = 0;
    make_icc(&icc, display_p3, 0);
    for (int i = 0; i <= 3 * icc.size; i++) {
        AVFrame *f = av_frame_alloc();
        size_t size = (size_t)(i < icc.size ? i : icc.size);
        AVFrameSideData *sd = av_frame_new_side_data(f, AV_FRAME_DATA_ICC_PROFILE, size ? size : 1);
        memcpy(sd->data, icc.data, size);
        if (i >= icc.size && i < 3 * icc.size)
            sd->data[i % icc.size] = i < 2 * icc.size ? 0xFF : 0x7F;
        read += profile_read(f, st, &primaries, &transfer) == PROFILE_READ;
        if (i == 3 * icc.size)
            assert_int_equal(primaries, AVCOL_PRI_SMPTE432);
        av_frame_free(&f);
    }
    assert_true(read > 1);
    avformat_free_context(fmt);
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {cmocka_unit_test(pictures_with_profiles), cmocka_unit_test(pictures_with_chrm),
                                       cmocka_unit_test(hostile_profiles)};
    return check_run_live("media: profiles", tests);
}
