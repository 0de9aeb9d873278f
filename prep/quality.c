#include "prep/quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"

enum { BINS = 32, UNIT = 10000 /* of luma */ };

struct Meter {
    int64_t width, height;
    int32_t black;      /* in units of luma */
    uint8_t *before;    /* [height,width,3] */
    int32_t *rows;      /* [3][width] luma around the current row */
    int64_t histogram[2][3 * BINS];
    int64_t n;
};

int meter_open(Meter **out, int64_t width, int64_t height, double black_level, Err *err)
{
    *out = NULL;
    if (width < 2 || height < 2 || width > 65536 || height > 65536)
        return err_set(err, ERR_USAGE, "pictures of %lldx%lld cannot be measured", (long long)width, (long long)height);
    Meter *m = mem_calloc(1, sizeof *m, err);
    if (!m)
        return ERR_NOMEM;
    *m = (Meter){.width = width, .height = height, .black = (int32_t)lround(black_level * UNIT)};
    m->before = mem_calloc(width * height, 3, err);
    m->rows = mem_calloc(width * 3, sizeof *m->rows, err);
    if (!m->before || !m->rows) {
        meter_close(&m);
        return ERR_NOMEM;
    }
    *out = m;
    return 0;
}

void meter_close(Meter **meter)
{
    Meter *m = *meter;
    if (!m)
        return;
    mem_free(m->before);
    mem_free(m->rows);
    mem_free(m);
    *meter = NULL;
}

/* ---- one picture ---- */
static void luma_row(const uint8_t *rgb, int64_t n, int32_t *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 2126 * rgb[3 * i] + 7152 * rgb[3 * i + 1] + 722 * rgb[3 * i + 2];
}

typedef struct Sums {
    int64_t rgb[3], y, lap, black;
    double y2, lap2; /* of whole numbers, added row by row in order: the same bits everywhere */
} Sums;

static void laplacian_row(const int32_t *up, const int32_t *at, const int32_t *down, int64_t n, Sums *s)
{
    int64_t sum = 0, squares = 0; /* |lap| <= 8 * 2550000: a row of 2^14 pixels fits */
    for (int64_t i = 0; i < n; i++) {
        int32_t left = at[i ? i - 1 : 1], right = at[i + 1 < n ? i + 1 : n - 2];
        int64_t lap = (int64_t)up[i] + down[i] + left + right - 4 * (int64_t)at[i];
        sum += lap;
        squares += lap * lap;
        if ((i & 4095) == 4095) {
            s->lap2 += (double)squares;
            squares = 0;
        }
    }
    s->lap += sum;
    s->lap2 += (double)squares;
}

static void row_sums(const uint8_t *rgb, const int32_t *y, int64_t n, int32_t black, Sums *s, int64_t *histogram)
{
    int64_t sum = 0, squares = 0, dark = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += y[i];
        squares += (int64_t)y[i] * y[i]; /* below 2^43: 65536 of them fit */
        dark += y[i] < black;
    }
    s->y += sum;
    s->y2 += (double)squares;
    s->black += dark;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            s->rgb[c] += rgb[3 * i + c];
            histogram[c * BINS + rgb[3 * i + c] * BINS / 256]++;
        }
}

static double correlation(const int64_t *a, const int64_t *b, int n)
{
    double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
    for (int i = 0; i < n; i++) {
        ma += (double)a[i] / n;
        mb += (double)b[i] / n;
    }
    for (int i = 0; i < n; i++) {
        double x = (double)a[i] - ma, y = (double)b[i] - mb;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1;
}

void meter_add(Meter *m, const uint8_t *rgb, FrameFigures *out)
{
    const int64_t w = m->width, h = m->height;
    int64_t *histogram = m->histogram[m->n & 1];
    Sums s = {0};
    memset(histogram, 0, sizeof m->histogram[0]);
    luma_row(rgb, w, m->rows);
    luma_row(rgb + 3 * w, w, m->rows + w);
    for (int64_t y = 0; y < h; y++) {
        const int32_t *at = m->rows + y % 3 * w, *below = m->rows + (y + 1) % 3 * w, *above = m->rows + (y + 2) % 3 * w;
        if (y > 0 && y + 1 < h)
            luma_row(rgb + (y + 1) * w * 3, w, m->rows + (y + 1) % 3 * w);
        row_sums(rgb + y * w * 3, at, w, m->black, &s, histogram);
        laplacian_row(y ? above : below, at, y + 1 < h ? below : above, w, &s);
    }
    int64_t moved = 0;
    for (int64_t i = 0; m->n && i < w * h * 3; i++)
        moved += abs(rgb[i] - m->before[i]);
    double pixels = (double)(w * h), mean = (double)s.y / pixels, lap = (double)s.lap / pixels;
    double variance = s.y2 / pixels - mean * mean, rough = s.lap2 / pixels - lap * lap;
    *out = (FrameFigures){.luma = mean / UNIT,
                          .std = variance > 0 ? sqrt(variance) / UNIT : 0,
                          .laplacian = rough > 0 ? rough / UNIT / UNIT : 0,
                          .black = (double)s.black / pixels,
                          .change = (double)moved / (3 * pixels),
                          .correlation = m->n ? correlation(m->histogram[0], m->histogram[1], 3 * BINS) : 1,
                          .dhash = picture_dhash(rgb, w, h)};
    for (int c = 0; c < 3; c++)
        out->rgb[c] = (double)s.rgb[c] / pixels;
    memcpy(m->before, rgb, (size_t)(w * h * 3));
    m->n++;
}

/* ---- area averages ---- */
/* Pixel i of n covers [i*cells, (i+1)*cells) and cell c [c*n, (c+1)*n): whole numbers.  How much of pixel i lies in cell c. */
static int64_t overlap(int64_t i, int64_t c, int64_t n, int64_t cells)
{
    int64_t from = i * cells > c * n ? i * cells : c * n, to = (i + 1) * cells < (c + 1) * n ? (i + 1) * cells : (c + 1) * n;
    return to > from ? to - from : 0;
}

uint64_t picture_dhash(const uint8_t *rgb, int64_t width, int64_t height)
{
    enum { COLUMNS = 9, ROWS = 8 };
    int64_t cell[ROWS][COLUMNS] = {{0}}, line[COLUMNS]; /* all weights sum to width*height: sums compare as means do */
    for (int64_t y = 0; y < height; y++) {
        memset(line, 0, sizeof line);
        for (int64_t x = 0; x < width; x++) {
            const uint8_t *p = rgb + (y * width + x) * 3;
            int64_t luma = 2126 * p[0] + 7152 * p[1] + 722 * p[2], first = x * COLUMNS / width, last = ((x + 1) * COLUMNS - 1) / width;
            if (first == last)
                line[first] += COLUMNS * luma;
            else
                for (int64_t c = first; c <= last; c++)
                    line[c] += overlap(x, c, width, COLUMNS) * luma;
        }
        for (int64_t r = y * ROWS / height; r <= ((y + 1) * ROWS - 1) / height; r++)
            for (int c = 0; c < COLUMNS; c++)
                cell[r][c] += overlap(y, r, height, ROWS) * line[c];
    }
    uint64_t hash = 0;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c + 1 < COLUMNS; c++)
            hash = hash << 1 | (cell[r][c + 1] > cell[r][c]);
    return hash;
}

void picture_shrink(const uint8_t *rgb, int64_t width, int64_t height, uint8_t *out, int64_t to_width, int64_t to_height)
{
    int64_t weight = width * height;
    for (int64_t r = 0; r < to_height; r++)
        for (int64_t c = 0; c < to_width; c++) {
            int64_t sum[3] = {0};
            for (int64_t y = r * height / to_height; y < height && y * to_height < (r + 1) * height; y++)
                for (int64_t x = c * width / to_width; x < width && x * to_width < (c + 1) * width; x++) {
                    int64_t part = overlap(y, r, height, to_height) * overlap(x, c, width, to_width);
                    for (int k = 0; k < 3; k++)
                        sum[k] += part * rgb[(y * width + x) * 3 + k];
                }
            for (int k = 0; k < 3; k++)
                out[(r * to_width + c) * 3 + k] = (uint8_t)((sum[k] + weight / 2) / weight);
        }
}
