/* SSIM with a separable window: rows are filtered across as they come, and eleven of them down. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/metrics/image.h"

enum { R = SSIM_WINDOW / 2, BAND = 32 /* output rows a thread takes at a time */, PARTS = 5 };

/* What is filtered: a, b, a^2, b^2, ab. */
typedef struct Picture {
    const uint8_t *a, *b;
    int64_t width, height, channels;
    double c1, c2;
    double k[R + 1]; /* the window's half, from its middle */
} Picture;

static void window(double k[R + 1])
{
    double sum = 0;
    for (int j = 0; j <= R; j++) {
        k[j] = exp(-0.5 * j * j / (1.5 * 1.5));
        sum += j ? 2 * k[j] : k[j];
    }
    for (int j = 0; j <= R; j++)
        k[j] /= sum;
}

/* out[x] = sum over j of k[|j|] in[x + (R + j) step], for x in [0, n). */
static void across(const double *restrict in, double *restrict out, int64_t n, int64_t step, const double k[R + 1])
{
    for (int64_t x = 0; x < n; x++) {
        const double *m = in + x + R * step;
        out[x] = k[0] * m[0] + k[1] * (m[-step] + m[step]) + k[2] * (m[-2 * step] + m[2 * step]) +
                 k[3] * (m[-3 * step] + m[3 * step]) + k[4] * (m[-4 * step] + m[4 * step]) +
                 k[5] * (m[-5 * step] + m[5 * step]);
    }
}

static void down(const double *const row[SSIM_WINDOW], double *restrict out, int64_t n, const double k[R + 1])
{
    const double *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3], *r4 = row[4], *r5 = row[5], *r6 = row[6],
                 *r7 = row[7], *r8 = row[8], *r9 = row[9], *r10 = row[10];
    for (int64_t x = 0; x < n; x++)
        out[x] = k[0] * r5[x] + k[1] * (r4[x] + r6[x]) + k[2] * (r3[x] + r7[x]) + k[3] * (r2[x] + r8[x]) +
                 k[4] * (r1[x] + r9[x]) + k[5] * (r0[x] + r10[x]);
}

/* The five quantities of one row, filtered across: out [PARTS][n].  wide has room for a row. */
static void filter_row(const Picture *p, int64_t y, double *wide, double *out, int64_t n)
{
    int64_t samples = p->width * p->channels;
    const uint8_t *a = p->a + y * samples, *b = p->b + y * samples;
    for (int part = 0; part < PARTS; part++) {
        switch (part) {
        case 0:
            for (int64_t x = 0; x < samples; x++)
                wide[x] = a[x];
            break;
        case 1:
            for (int64_t x = 0; x < samples; x++)
                wide[x] = b[x];
            break;
        case 2:
            for (int64_t x = 0; x < samples; x++)
                wide[x] = a[x] * a[x];
            break;
        case 3:
            for (int64_t x = 0; x < samples; x++)
                wide[x] = b[x] * b[x];
            break;
        default:
            for (int64_t x = 0; x < samples; x++)
                wide[x] = a[x] * b[x];
        }
        across(wide, out + part * n, n, p->channels, p->k);
    }
}

/* The sum of a row's values; m holds the five filtered quantities [PARTS][n]. */
static double row_sum(const Picture *p, double *m, int64_t n)
{
    double *ua = m, *ub = m + n, *aa = m + 2 * n, *bb = m + 3 * n, *ab = m + 4 * n, sum[4] = {0};
    for (int64_t x = 0; x < n; x++) {
        double u = ua[x] * ub[x], v = ua[x] * ua[x] + ub[x] * ub[x];
        ua[x] = ((2 * u + p->c1) * (2 * (ab[x] - u) + p->c2)) / ((v + p->c1) * (aa[x] + bb[x] - v + p->c2));
    }
    for (int64_t x = 0; x < n; x++) /* four sums: the order does not depend on the vectors' width */
        sum[x & 3] += ua[x];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Output rows [first, last) into sums.  work: a row of the picture and SSIM_WINDOW + 1 rows of PARTS x n. */
static void band(const Picture *p, int64_t first, int64_t last, double *work, double *sums)
{
    int64_t n = (p->width - 2 * R) * p->channels;
    double *wide = work, *ring = work + p->width * p->channels, *m = ring + SSIM_WINDOW * PARTS * n;
    for (int64_t y = first; y < first + 2 * R; y++)
        filter_row(p, y, wide, ring + y % SSIM_WINDOW * PARTS * n, n);
    for (int64_t y = first; y < last; y++) {
        const double *row[SSIM_WINDOW];
        filter_row(p, y + 2 * R, wide, ring + (y + 2 * R) % SSIM_WINDOW * PARTS * n, n);
        for (int part = 0; part < PARTS; part++) {
            for (int j = 0; j < SSIM_WINDOW; j++)
                row[j] = ring + ((y + j) % SSIM_WINDOW * PARTS + part) * n;
            down(row, m + part * n, n, p->k);
        }
        sums[y] = row_sum(p, m, n);
    }
}

int image_ssim(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, int64_t channels, double range,
               int threads, double *out, Err *err)
{
    Picture p = {.a = a, .b = b, .width = width, .height = height, .channels = channels};
    if (width < SSIM_WINDOW || height < SSIM_WINDOW)
        return err_set(err, ERR_USAGE,
                       "SSIM of a picture of %" PRId64 "x%" PRId64 ", expected %d pixels or more on each side", width,
                       height, SSIM_WINDOW);
    window(p.k);
    p.c1 = 0.01 * range * 0.01 * range;
    p.c2 = 0.03 * range * 0.03 * range;
    int64_t rows = height - 2 * R, n = (width - 2 * R) * channels, bands = (rows + BAND - 1) / BAND;
    int64_t each = width * channels + (SSIM_WINDOW + 1) * PARTS * n;
    threads = threads < 1 ? 1 : threads > bands ? (int)bands : threads;
    double *work = mem_calloc(threads * each, sizeof *work, err), *sums = mem_calloc(rows, sizeof *sums, err);
    if (work && sums) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int t = 0; t < threads; t++)
            for (int64_t i = t; i < bands; i += threads)
                band(&p, i * BAND, i * BAND + BAND < rows ? i * BAND + BAND : rows, work + t * each, sums);
        double sum = 0;
        for (int64_t y = 0; y < rows; y++)
            sum += sums[y];
        *out = sum / (double)(rows * n);
    }
    int rc = work && sums ? 0 : ERR_NOMEM;
    mem_free(work);
    mem_free(sums);
    return rc;
}
