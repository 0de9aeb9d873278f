#include "prep/picture/evening.h"

#include "common/base/jsonw.h"

enum { UNIT = 10000 /* of luma */, NEAR_WHITE = 235 /* 92 % of 255 and more */ };

void evening_add(Evening *e, const uint8_t *rgb, int64_t n)
{
    e->pixels += n;
    for (int64_t i = 0; i < n; i++, rgb += 3) {
        int32_t luma = 2126 * rgb[0] + 7152 * rgb[1] + 722 * rgb[2];
        int white = rgb[0] >= NEAR_WHITE && rgb[1] >= NEAR_WHITE && rgb[2] >= NEAR_WHITE;
        if (20 * luma <= 255 * UNIT || 20 * luma >= 19 * 255 * UNIT || white)
            continue;
        e->counted++;
        e->luma[luma / (UNIT / 10)]++;
        for (int c = 0; c < 3; c++)
            e->sum[c] += rgb[c];
    }
}

static double within(double x, double low, double high)
{
    return x > low ? x < high ? x : high : low;
}

void evening_find(Evening *e, int white, int exposure, double strength, double target)
{
    int64_t below = 0, bin = 0;
    int enough = e->counted > 0 && 100 * e->counted >= e->pixels;
    double all = ((double)e->sum[0] + (double)e->sum[1] + (double)e->sum[2]) / 3;
    while (e->counted && 2 * (below + e->luma[bin]) < e->counted)
        below += e->luma[bin++];
    e->median = e->counted ? ((double)bin + 0.5) / (10 * 255) : 0;
    e->exposure = exposure && enough ? within(target / e->median, 0.7, 1.4) : 1;
    for (int c = 0; c < 3; c++) {
        e->white[c] = white && enough ? 1 + strength * (within(all / (double)e->sum[c], 0.8, 1.25) - 1) : 1;
        for (int v = 0; v < 256; v++)
            e->table[c][v] = (uint8_t)within(v * e->white[c] * e->exposure + 0.5, 0, 255);
    }
}

void evening_apply(const Evening *e, uint8_t *rgb, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = e->table[c][rgb[3 * i + c]];
}

json_t *evening_json(const Evening *e)
{
    double n = e->counted ? (double)e->counted : 1;
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_open_array(&w, "white");
    for (int c = 0; c < 3; c++)
        jsonw_num(&w, NULL, e->white[c]);
    jsonw_close(&w);
    jsonw_num(&w, "exposure", e->exposure);
    jsonw_num(&w, "pixels", e->pixels ? (double)e->counted / (double)e->pixels : 0.0);
    jsonw_open_array(&w, "mean_rgb");
    for (int c = 0; c < 3; c++)
        jsonw_num(&w, NULL, (double)e->sum[c] / n);
    jsonw_close(&w);
    jsonw_num(&w, "median_luma", 255 * e->median);
    return jsonw_finish(&w, &out, "the evening", NULL) < 0 ? NULL : out;
}
