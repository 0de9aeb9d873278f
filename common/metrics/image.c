#include "common/metrics/image.h"

#include <math.h>
#include <stdlib.h>

double image_mse(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n;) { /* whole numbers; 32 bits hold 65536 squares of 255 */
        uint32_t part = 0;
        int64_t stop = i + 65536 < n ? i + 65536 : n;
        for (; i < stop; i++) {
            int d = a[i] - b[i];
            part += (uint32_t)(d * d);
        }
        sum += part;
    }
    return n ? (double)sum / (double)n : 0;
}

double image_mae(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n;) {
        uint32_t part = 0;
        int64_t stop = i + 65536 < n ? i + 65536 : n;
        for (; i < stop; i++)
            part += (uint32_t)abs(a[i] - b[i]);
        sum += part;
    }
    return n ? (double)sum / (double)n : 0;
}

double image_psnr(double mse)
{
    return mse > 0 ? 10 * log10(255.0 * 255.0 / mse) : INFINITY;
}

void image_luma(const uint8_t *rgb, int64_t pixels, uint8_t *luma)
{
    /* ten-thousandths, rounded half up: exact */
    for (int64_t i = 0; i < pixels; i++)
        luma[i] = (uint8_t)((2126 * rgb[3 * i] + 7152 * rgb[3 * i + 1] + 722 * rgb[3 * i + 2] + 5000) / 10000);
}

double image_sharpness(const uint8_t *luma, int64_t width, int64_t height)
{
    int64_t sum = 0, squares = 0, n = (width - 2) * (height - 2);
    if (width < 3 || height < 3)
        return 0;
    for (int64_t y = 1; y + 1 < height; y++) {
        const uint8_t *row = luma + y * width;
        for (int64_t x = 1; x + 1 < width; x++) {
            int64_t v = row[x - 1] + row[x + 1] + row[x - width] + row[x + width] - 4 * row[x];
            sum += v;
            squares += v * v;
        }
    }
    double mean = (double)sum / (double)n;
    return (double)squares / (double)n - mean * mean;
}

void image_colours(const uint8_t *rgb, int64_t pixels, double *counts)
{
    for (int64_t i = 0; i < pixels; i++, rgb += 3)
        counts[(rgb[0] >> 5) * COLOUR_LEVELS * COLOUR_LEVELS + (rgb[1] >> 5) * COLOUR_LEVELS + (rgb[2] >> 5)] += 1;
}

double image_colour_distance(const double *p, const double *q)
{
    double sum_p = 0, sum_q = 0, squares = 0;
    for (int i = 0; i < COLOUR_BINS; i++) {
        sum_p += p[i];
        sum_q += q[i];
    }
    for (int i = 0; i < COLOUR_BINS; i++) {
        double d = sqrt(p[i] / sum_p) - sqrt(q[i] / sum_q);
        squares += d * d;
    }
    return sqrt(squares / 2);
}
