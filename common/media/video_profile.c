/* What an embedded colour profile says.  Pictures of phones and screens name Display P3 by an ICC profile or
 * by PNG's cHRM chunk, not by tags. */
#include <libavutil/mastering_display_metadata.h>
#include <math.h>
#include <string.h>
#include "common/media/media_internal.h"

/* ---- ICC profiles (ICC.1:2022) --------------------------------------------------------------- */
typedef struct Bytes {
    const uint8_t *data;
    int64_t size;
} Bytes;

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int u16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

/* s15Fixed16Number */
static double fixed(const uint8_t *p)
{
    return (int32_t)u32(p) / 65536.0;
}

enum { HEADER = 128, TAG = 12 };

/* The entry of the tag's table; NULL when there is none. */
static const uint8_t *find_entry(Bytes icc, const char *name)
{
    int64_t n = u32(icc.data + HEADER);
    for (int64_t i = 0; i < n && HEADER + 4 + (i + 1) * TAG <= icc.size; i++) {
        const uint8_t *entry = icc.data + HEADER + 4 + i * TAG;
        if (memcmp(entry, name, 4) == 0)
            return entry;
    }
    return NULL;
}

/* The tag's element, when it is of that type and at least `least` bytes long; else size 0. */
static Bytes find_tag(Bytes icc, const char *name, const char *type, int64_t least)
{
    const uint8_t *entry = find_entry(icc, name);
    int64_t at = entry ? u32(entry + 4) : 0, size = entry ? u32(entry + 8) : 0;
    if (size < least || at + size > icc.size || memcmp(icc.data + at, type, 4) != 0)
        return (Bytes){0};
    return (Bytes){icc.data + at, size};
}

/* Parametric curves, table 67: g; g a b; g a b c; g a b c d; g a b c d e f. */
static int parametric(Bytes curve, double v, double *light)
{
    static const int counts[5] = {1, 3, 4, 5, 7};
    int kind = u16(curve.data + 8);
    double p[7] = {0, 1};
    if (kind > 4 || curve.size < 12 + 4 * counts[kind])
        return 0;
    for (int i = 0; i < counts[kind]; i++)
        p[i] = fixed(curve.data + 12 + 4 * i);
    double from = kind == 0 ? 0 : kind < 3 ? -p[2] / p[1] : p[4], power = pow(fmax(p[1] * v + p[2], 0), p[0]);
    if (v >= from)
        *light = power + (kind == 2 ? p[3] : kind == 4 ? p[5] : 0);
    else
        *light = kind == 2 ? p[3] : kind == 3 ? p[3] * v : kind == 4 ? p[3] * v + p[6] : 0;
    return 1;
}

/* Light of the signal v as the profile's curve of one channel has it. */
static int curve_light(Bytes icc, const char *name, double v, double *light)
{
    Bytes curve = find_tag(icc, name, "para", 12);
    if (curve.size)
        return parametric(curve, v, light);
    curve = find_tag(icc, name, "curv", 12);
    int64_t n = curve.size ? u32(curve.data + 8) : 0;
    if (!curve.size || curve.size < 12 + 2 * n || (n == 1 && curve.size < 14))
        return 0;
    if (n == 0)
        *light = v;
    else if (n == 1)
        *light = pow(v, u16(curve.data + 12) / 256.0);
    if (n < 2)
        return 1;
    double at = v * (double)(n - 1);
    int64_t i = at >= (double)(n - 1) ? n - 2 : (int64_t)at;
    double a = u16(curve.data + 12 + 2 * i) / 65535.0, b = u16(curve.data + 14 + 2 * i) / 65535.0;
    *light = a + (b - a) * (at - (double)i);
    return 1;
}

/* Whether all three channels have this curve, within a level of 8 bits. */
static int has_curve(Bytes icc, enum AVColorTransferCharacteristic transfer)
{
    static const char *const names[3] = {"rTRC", "gTRC", "bTRC"};
    for (int i = 0; i <= 255; i += 5) {
        double low = curve_to_light((i - 1) / 255.0, transfer), high = curve_to_light((i + 1) / 255.0, transfer), light;
        for (int c = 0; c < 3; c++)
            if (!curve_light(icc, names[c], i / 255.0, &light) || light < low || light > high)
                return 0;
    }
    return 1;
}

static int icc_read(Bytes icc, enum AVColorPrimaries *primaries, enum AVColorTransferCharacteristic *transfer)
{
    static const char *const names[3] = {"rXYZ", "gXYZ", "bXYZ"};
    static const enum AVColorTransferCharacteristic curves[] = {AVCOL_TRC_IEC61966_2_1, AVCOL_TRC_BT709,
                                                                AVCOL_TRC_GAMMA22};
    double xyz[3][3];
    if (icc.size < HEADER + 4 || memcmp(icc.data + 36, "acsp", 4) != 0 || memcmp(icc.data + 16, "RGB XYZ ", 8) != 0 ||
        find_entry(icc, "A2B0")) /* tables of colours outrank the matrix */
        return 0;
    for (int c = 0; c < 3; c++) {
        Bytes column = find_tag(icc, names[c], "XYZ ", 20);
        if (!column.size)
            return 0;
        for (int i = 0; i < 3; i++)
            xyz[i][c] = fixed(column.data + 8 + 4 * i);
    }
    if (!primaries_of_xyz(xyz, primaries))
        return 0;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        if (has_curve(icc, *transfer = curves[i]))
            return 1;
    return 0;
}

/* ---- of a frame ------------------------------------------------------------------------------ */
/* PNG's cHRM: FFmpeg 5 gives it as the primaries of a display, later ones as the frame's.  Its curve is
 * sRGB's where nothing else is said. */
static ProfileKind chrm_read(const AVFrame *f, enum AVColorPrimaries *primaries,
                             enum AVColorTransferCharacteristic *transfer)
{
    const AVFrameSideData *sd = av_frame_get_side_data(f, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA);
    const AVMasteringDisplayMetadata *m = sd ? (const void *)sd->data : NULL;
    double xy[4][2];
    *primaries = f->color_primaries;
    *transfer = f->color_trc != AVCOL_TRC_UNSPECIFIED ? f->color_trc : AVCOL_TRC_IEC61966_2_1;
    if (f->color_primaries != AVCOL_PRI_UNSPECIFIED)
        return PROFILE_READ;
    if (!m || !m->has_primaries || m->has_luminance)
        return PROFILE_NONE;
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < 2; i++)
            xy[c][i] = av_q2d(c < 3 ? m->display_primaries[c][i] : m->white_point[i]);
    return primaries_of_xy(xy, primaries) ? PROFILE_READ : PROFILE_OTHER;
}

ProfileKind profile_read(const AVFrame *f, const AVStream *st, enum AVColorPrimaries *primaries,
                         enum AVColorTransferCharacteristic *transfer)
{
    Bytes icc = {0};
    const AVFrameSideData *sd = av_frame_get_side_data(f, AV_FRAME_DATA_ICC_PROFILE);
    if (sd)
        icc = (Bytes){sd->data, (int64_t)sd->size};
    else
        icc.data = stream_side_data(st, AV_PKT_DATA_ICC_PROFILE, &icc.size);
    if (icc.data)
        return icc_read(icc, primaries, transfer) ? PROFILE_READ : PROFILE_OTHER;
    int png = st->codecpar->codec_id == AV_CODEC_ID_PNG || st->codecpar->codec_id == AV_CODEC_ID_APNG;
    return png ? chrm_read(f, primaries, transfer) : PROFILE_NONE;
}
