/* From one colour space to BT.709's by way of light: the signal becomes light, light in the source's
 * primaries becomes light in BT.709's, and a curve makes a signal of it again.  HDR that is brighter
 * than paper white is bent down in between (Reinhard's curve with a white point, on the largest
 * channel so that hues stay). */
#include <math.h>
#include <string.h>
#include "common/media/media_internal.h"

enum { STEPS = 4096 };
static const double white = 203, peak = 1000; /* cd/m2: ITU-R BT.2408's reference white, and what becomes 1.0 */

HdrKind hdr_kind(enum AVColorTransferCharacteristic transfer, enum AVColorPrimaries primaries)
{
    return transfer == AVCOL_TRC_SMPTE2084      ? HDR_PQ
           : transfer == AVCOL_TRC_ARIB_STD_B67 ? HDR_HLG
           : primaries == AVCOL_PRI_BT2020      ? HDR_WIDE
                                                : HDR_NONE;
}

/* ---- primaries ------------------------------------------------------------------------------- */
/* CIE 1931 x, y of red, green, blue and white (ITU-T H.273, table 2). */
typedef struct Gamut {
    double red[2], green[2], blue[2], white[2];
} Gamut;
#define WHITE_D65      \
    {                  \
        0.3127, 0.3290 \
    }
#define WHITE_C      \
    {                \
        0.310, 0.316 \
    }
static const Gamut bt709 = {{0.640, 0.330}, {0.300, 0.600}, {0.150, 0.060}, WHITE_D65};

static const Gamut *gamut_of(enum AVColorPrimaries primaries)
{
    static const Gamut bt470m = {{0.67, 0.33}, {0.21, 0.71}, {0.14, 0.08}, WHITE_C};
    static const Gamut film = {{0.681, 0.319}, {0.243, 0.692}, {0.145, 0.049}, WHITE_C};
    static const Gamut dci_p3 = {{0.680, 0.320}, {0.265, 0.690}, {0.150, 0.060}, {0.314, 0.351}};
    static const Gamut display_p3 = {{0.680, 0.320}, {0.265, 0.690}, {0.150, 0.060}, WHITE_D65};
    static const Gamut ebu3213 = {{0.630, 0.340}, {0.295, 0.605}, {0.155, 0.077}, WHITE_D65};
    switch (primaries) {
    case AVCOL_PRI_BT470M: return &bt470m;
    case AVCOL_PRI_FILM: return &film;
    case AVCOL_PRI_SMPTE431: return &dci_p3;
    case AVCOL_PRI_SMPTE432: return &display_p3;
    case AVCOL_PRI_EBU3213: return &ebu3213;
    default: return NULL; /* BT.709's; or BT.601's or unknown ones, which are treated as BT.709's */
    }
}

/* Those that light_job turns, and BT.709's. */
static const enum AVColorPrimaries known[] = {AVCOL_PRI_BT709,  AVCOL_PRI_SMPTE432, AVCOL_PRI_SMPTE431,
                                              AVCOL_PRI_BT470M, AVCOL_PRI_FILM,     AVCOL_PRI_EBU3213};
enum { KNOWN = sizeof known / sizeof *known };

int primaries_of_xy(double xy[4][2], enum AVColorPrimaries *out)
{
    for (int k = 0; k < KNOWN; k++) {
        const Gamut *g = known[k] == AVCOL_PRI_BT709 ? &bt709 : gamut_of(known[k]);
        const double *const points[4] = {g->red, g->green, g->blue, g->white};
        double off = 0;
        for (int i = 0; i < 4; i++)
            off = fmax(off, fmax(fabs(points[i][0] - xy[i][0]), fabs(points[i][1] - xy[i][1])));
        if (off < 0.002) { /* files round to three or four digits */
            *out = known[k];
            return 1;
        }
    }
    return 0;
}

typedef double Matrix[3][3];

static void multiply(Matrix a, Matrix b, Matrix out)
{
    Matrix m;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            m[i][j] = a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j];
    memcpy(out, m, sizeof m);
}

static void invert(Matrix a, Matrix out)
{
    Matrix m;
    for (int i = 0; i < 3; i++) { /* cofactors, transposed */
        int p = (i + 1) % 3, q = (i + 2) % 3;
        for (int j = 0; j < 3; j++) {
            int r = (j + 1) % 3, s = (j + 2) % 3;
            m[j][i] = a[p][r] * a[q][s] - a[p][s] * a[q][r];
        }
    }
    double det = a[0][0] * m[0][0] + a[0][1] * m[1][0] + a[0][2] * m[2][0];
    for (int i = 0; i < 9; i++)
        out[i / 3][i % 3] = m[i / 3][i % 3] / det;
}

static void xyz_of(const double xy[2], double out[3])
{
    out[0] = xy[0] / xy[1];
    out[1] = 1;
    out[2] = (1 - xy[0] - xy[1]) / xy[1];
}

/* Linear RGB of the gamut to XYZ, white at Y = 1. */
static void to_xyz(const Gamut *g, Matrix out)
{
    const double *const colours[3] = {g->red, g->green, g->blue};
    double w[3], column[3];
    Matrix m, inverse;
    for (int c = 0; c < 3; c++) {
        xyz_of(colours[c], column);
        for (int i = 0; i < 3; i++)
            m[i][c] = column[i];
    }
    invert(m, inverse);
    xyz_of(g->white, w);
    for (int c = 0; c < 3; c++) {
        double scale = inverse[c][0] * w[0] + inverse[c][1] * w[1] + inverse[c][2] * w[2];
        for (int i = 0; i < 3; i++)
            out[i][c] = m[i][c] * scale;
    }
}

/* XYZ under one white to XYZ under another, Bradford's way. */
static void adapt_white(const double from[2], const double to[2], Matrix out)
{
    static const Matrix cones = {{0.8951, 0.2664, -0.1614}, {-0.7502, 1.7135, 0.0367}, {0.0389, -0.0685, 1.0296}};
    Matrix m, back, scale = {{0}};
    double a[3], b[3];
    memcpy(m, cones, sizeof m);
    invert(m, back);
    xyz_of(from, a);
    xyz_of(to, b);
    for (int i = 0; i < 3; i++)
        scale[i][i] = (m[i][0] * b[0] + m[i][1] * b[1] + m[i][2] * b[2]) /
                      (m[i][0] * a[0] + m[i][1] * a[1] + m[i][2] * a[2]);
    multiply(back, scale, out);
    multiply(out, m, out);
}

static void gamut_to_bt709(const Gamut *g, Matrix out)
{
    Matrix source, target, adapted;
    to_xyz(g, source);
    to_xyz(&bt709, target);
    invert(target, target);
    adapt_white(g->white, bt709.white, adapted);
    multiply(adapted, source, out);
    multiply(target, out, out);
}

int primaries_of_xyz(double xyz[3][3], enum AVColorPrimaries *out)
{
    static const double d50[2] = {0.34567, 0.35850}; /* ICC's connection space */
    for (int k = 0; k < KNOWN; k++) {
        const Gamut *g = known[k] == AVCOL_PRI_BT709 ? &bt709 : gamut_of(known[k]);
        Matrix m, adapted;
        double off = 0;
        to_xyz(g, m);
        adapt_white(g->white, d50, adapted);
        multiply(adapted, m, m);
        for (int i = 0; i < 9; i++)
            off = fmax(off, fabs(m[i / 3][i % 3] - xyz[i / 3][i % 3]));
        if (off < 0.004) {
            *out = known[k];
            return 1;
        }
    }
    return 0;
}

/* ---- curves ---------------------------------------------------------------------------------- */
/* Light in units of reference white. */
static double hdr_light(double v, HdrKind kind)
{
    if (kind == HDR_PQ) { /* SMPTE ST 2084 */
        const double m1 = 0.1593017578125, m2 = 78.84375, c1 = 0.8359375, c2 = 18.8515625, c3 = 18.6875;
        double p = pow(v, 1 / m2), n = p > c1 ? p - c1 : 0;
        return 10000 / white * pow(n / (c2 - c3 * p), 1 / m1);
    }
    /* ARIB STD-B67, shown at 1000 cd/m2 with gamma 1.2 on each channel */
    const double a = 0.17883277, b = 0.28466892, c = 0.55991073;
    return peak / white * pow(v <= 0.5 ? v * v / 3 : (exp((v - c) / a) + b) / 12, 1.2);
}

static double sdr_light(double v, Curve curve)
{
    switch (curve) {
    case CURVE_SRGB: return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
    case CURVE_GAMMA22: return pow(v, 2.2);
    case CURVE_GAMMA28: return pow(v, 2.8);
    case CURVE_SMPTE240M: return v < 4 * 0.0228 ? v / 4 : pow((v + 0.1115) / 1.1115, 1 / 0.45);
    default: return v < 0.081 ? v / 4.5 : pow((v + 0.099) / 1.099, 1 / 0.45);
    }
}

static double signal_of(double l, Curve curve)
{
    if (curve == CURVE_SRGB)
        return l <= 0.0031308 ? 12.92 * l : 1.055 * pow(l, 1 / 2.4) - 0.055;
    return l < 0.018 ? 4.5 * l : 1.099 * pow(l, 0.45) - 0.099;
}

static Curve curve_of(enum AVColorTransferCharacteristic transfer)
{
    switch (transfer) {
    case AVCOL_TRC_IEC61966_2_1: return CURVE_SRGB;
    case AVCOL_TRC_GAMMA22: return CURVE_GAMMA22;
    case AVCOL_TRC_GAMMA28: return CURVE_GAMMA28;
    case AVCOL_TRC_SMPTE240M: return CURVE_SMPTE240M;
    default: return CURVE_BT709; /* BT.601's and BT.2020's are the same; an unknown one is treated as BT.709's */
    }
}

double curve_to_light(double v, enum AVColorTransferCharacteristic transfer)
{
    return sdr_light(v, curve_of(transfer));
}

/* ---- the conversion -------------------------------------------------------------------------- */
LightJob light_job(enum AVColorTransferCharacteristic transfer, enum AVColorPrimaries primaries)
{
    static const Matrix bt2020 = {{1.6605, -0.5876, -0.0728}, {-0.1246, 1.1329, -0.0083}, {-0.0182, -0.1006, 1.1187}};
    const Gamut *gamut = gamut_of(primaries);
    LightJob job = {.hdr = hdr_kind(transfer, primaries), .from = curve_of(transfer)};
    /* Pixels with BT.709's curve and those with sRGB's are both handed on as they are; so each goes
     * back through its own.  Gammas of displays become sRGB's, SMPTE 240M, a camera's, BT.709's. */
    job.to = job.hdr                       ? CURVE_BT709
             : job.from == CURVE_GAMMA22   ? CURVE_SRGB
             : job.from == CURVE_GAMMA28   ? CURVE_SRGB
             : job.from == CURVE_SMPTE240M ? CURVE_BT709
                                           : job.from;
    if (primaries == AVCOL_PRI_BT2020)
        memcpy(job.to_709, bt2020, sizeof bt2020);
    else if (gamut)
        gamut_to_bt709(gamut, job.to_709);
    job.turn = primaries == AVCOL_PRI_BT2020 || gamut;
    job.change = job.hdr || job.turn || job.from != job.to;
    return job;
}

/* Linear interpolation in a table over [0, 1]. */
static double look_up(const double *table, double x)
{
    double at = x <= 0 ? 0 : x >= 1 ? STEPS : x * STEPS;
    int i = at >= STEPS ? STEPS - 1 : (int)at;
    return table[i] + (table[i + 1] - table[i]) * (at - i);
}

void light_convert(const LightJob *job, uint8_t *rows, int64_t stride, int64_t width, int64_t height)
{
    const int bend = job->hdr == HDR_PQ || job->hdr == HDR_HLG;
    double light[STEPS + 1], signal[STEPS + 1]; /* signal over the root of light: fine where eyes are */
    for (int i = 0; i <= STEPS; i++) {
        double v = (double)i / STEPS;
        light[i] = bend ? hdr_light(v, job->hdr) : sdr_light(v, job->from);
        signal[i] = signal_of(v * i / STEPS, job->to);
    }
    const double top = bend ? peak / white : 1;
    for (int64_t y = 0; y < height; y++) {
        const uint16_t *in = (const uint16_t *)(const void *)(rows + y * stride);
        uint8_t *out = rows + y * stride;
        for (int64_t x = 0; x < width; x++) {
            double v[3], rgb[3], largest = 0;
            for (int c = 0; c < 3; c++)
                v[c] = look_up(light, in[3 * x + c] / 65535.0);
            for (int c = 0; c < 3; c++) {
                const double *m = job->to_709[c];
                rgb[c] = job->turn ? m[0] * v[0] + m[1] * v[1] + m[2] * v[2] : v[c];
                if (rgb[c] < 0)
                    rgb[c] = 0;
                if (rgb[c] > largest)
                    largest = rgb[c];
            }
            double gain = !bend || largest == 0 ? 1 : (1 + largest / (top * top)) / (1 + largest);
            for (int c = 0; c < 3; c++)
                out[3 * x + c] = (uint8_t)(255 * look_up(signal, sqrt(rgb[c] * gain)) + 0.5);
        }
    }
}
