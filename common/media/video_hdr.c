/* HDR to SDR: the signal becomes light, light in BT.2020 primaries becomes light in BT.709's, what
 * is brighter than paper white is bent down (Reinhard's curve with a white point, on the largest
 * channel so that hues stay), and the BT.709 curve ends it. */
#include <math.h>
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

/* Light in units of reference white. */
static double to_light(double v, HdrKind kind)
{
    if (kind == HDR_PQ) { /* SMPTE ST 2084 */
        const double m1 = 0.1593017578125, m2 = 78.84375, c1 = 0.8359375, c2 = 18.8515625, c3 = 18.6875;
        double p = pow(v, 1 / m2), n = p > c1 ? p - c1 : 0;
        return 10000 / white * pow(n / (c2 - c3 * p), 1 / m1);
    }
    if (kind == HDR_HLG) { /* ARIB STD-B67, shown at 1000 cd/m2 with gamma 1.2 on each channel */
        const double a = 0.17883277, b = 0.28466892, c = 0.55991073;
        return peak / white * pow(v <= 0.5 ? v * v / 3 : (exp((v - c) / a) + b) / 12, 1.2);
    }
    return v < 0.081 ? v / 4.5 : pow((v + 0.099) / 1.099, 1 / 0.45);
}

static double to_signal(double l)
{
    return l < 0.018 ? 4.5 * l : 1.099 * pow(l, 0.45) - 0.099;
}

/* Linear interpolation in a table over [0, 1]. */
static double look_up(const double *table, double x)
{
    double at = x <= 0 ? 0 : x >= 1 ? STEPS : x * STEPS;
    int i = at >= STEPS ? STEPS - 1 : (int)at;
    return table[i] + (table[i + 1] - table[i]) * (at - i);
}

void hdr_tone_map(uint8_t *rows, int64_t stride, int64_t width, int64_t height, HdrKind kind, int wide)
{
    static const double to_709[3][3] = {
        {1.6605, -0.5876, -0.0728}, {-0.1246, 1.1329, -0.0083}, {-0.0182, -0.1006, 1.1187}};
    double light[STEPS + 1], signal[STEPS + 1]; /* signal over the root of light: fine where eyes are */
    for (int i = 0; i <= STEPS; i++) {
        light[i] = to_light((double)i / STEPS, kind);
        signal[i] = to_signal((double)i / STEPS * i / STEPS);
    }
    const double top = kind == HDR_WIDE ? 1 : peak / white;
    for (int64_t y = 0; y < height; y++) {
        const uint16_t *in = (const uint16_t *)(const void *)(rows + y * stride);
        uint8_t *out = rows + y * stride;
        for (int64_t x = 0; x < width; x++) {
            double v[3], rgb[3], largest = 0;
            for (int c = 0; c < 3; c++)
                v[c] = look_up(light, in[3 * x + c] / 65535.0);
            for (int c = 0; c < 3; c++) {
                rgb[c] = wide ? to_709[c][0] * v[0] + to_709[c][1] * v[1] + to_709[c][2] * v[2] : v[c];
                if (rgb[c] < 0)
                    rgb[c] = 0;
                if (rgb[c] > largest)
                    largest = rgb[c];
            }
            double gain = kind == HDR_WIDE || largest == 0 ? 1 : (1 + largest / (top * top)) / (1 + largest);
            for (int c = 0; c < 3; c++)
                out[3 * x + c] = (uint8_t)(255 * look_up(signal, sqrt(rgb[c] * gain)) + 0.5);
        }
    }
}
