#include "common/metrics/meter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/mem.h"
#include "common/metrics/motion.h"

#define KIND(field, unit, better, saturates, what)                           \
    {                                                                        \
#field, unit, what, offsetof(VideoFigures, field), better, saturates \
    }
const FigureKind figure_kinds[] = {
    KIND(motion, "px/frame", 0, 0, "motion amount: how far 16x16 blocks move, at a short side of 480 pixels"),
    KIND(dynamic, "", 0, 0, "share of frame pairs with large motion somewhere"),
    KIND(ssim, "", 0, 1, "SSIM of consecutive frames, mean"),
    KIND(ssim_min, "", 0, 1, "SSIM of consecutive frames, least: a cut or a jump"),
    KIND(ssim_p5, "", 0, 1, "SSIM of consecutive frames, 5th percentile"),
    KIND(psnr, "dB", 0, 0, "PSNR of consecutive frames, mean over the pairs that differ"),
    KIND(psnr_pooled, "dB", 0, 0, "PSNR of the mean squared error of all pairs"),
    KIND(difference, "levels", 0, 0, "mean absolute difference of consecutive frames"),
    KIND(flicker, "", 1, 1, "temporal flickering score: 1 - difference/255"),
    KIND(second_difference, "levels", -1, 1, "mean absolute second difference over time"),
    KIND(smoothness_linear, "", 1, 1, "motion smoothness against the mean of the two neighbours"),
    KIND(smoothness, "", 1, 1, "motion smoothness against motion-compensated neighbours"),
    KIND(jerk, "", -1, 1, "how much the blocks' vectors change from pair to pair"),
    KIND(sharpness, "", 0, 0, "variance of the Laplacian of luma, mean over frames"),
    KIND(colour_change, "", -1, 1, "colour distance of the first frame to the last"),
    {0}};

double figure_value(const VideoFigures *f, const FigureKind *kind)
{
    return *(const double *)((const char *)f + kind->offset);
}

enum { KEPT = 3, MOTION_SIDE = 480 /* the short side that vectors are told at */ };

struct VideoMeter {
    int64_t width, height, n;
    uint8_t *rgb[KEPT], *luma[KEPT]; /* frame k lies at k % KEPT */
    uint8_t *coarse[KEPT];           /* luma at which motion is searched: the same, or smaller by `factor` */
    int64_t factor, coarse_width, coarse_height;
    uint8_t *predicted;
    MotionVector *v[2]; /* pair k at k % 2 */
    double *ssim;       /* of each pair */
    int64_t room;
    double mse, psnr, difference, second, linear, compensated, motion, jerk, sharpness;
    int64_t equal, dynamic, compared;
    double first_colours[COLOUR_BINS], last_colours[COLOUR_BINS], colours[COLOUR_BINS];
};

int video_meter_new(VideoMeter **out, int64_t width, int64_t height, Err *err)
{
    VideoMeter *m = *out = mem_calloc(1, sizeof *m, err);
    int64_t pixels, bytes;
    if (!m)
        return ERR_NOMEM;
    m->width = width;
    m->height = height;
    m->factor = (width < height ? width : height) / MOTION_SIDE;
    m->factor = m->factor < 1 ? 1 : m->factor;
    m->coarse_width = width / m->factor;
    m->coarse_height = height / m->factor;
    int64_t blocks = motion_blocks(m->coarse_width, m->coarse_height);
    int rc = mem_mul(width, height, &pixels);
    if (rc == 0)
        rc = mem_mul(pixels, 3, &bytes);
    if (rc < 0)
        rc = err_set(err, rc, "frames of %" PRId64 "x%" PRId64 " pixels", width, height);
    for (int i = 0; i < KEPT && rc == 0; i++)
        if (!(m->rgb[i] = mem_calloc(bytes, 1, err)) || !(m->luma[i] = mem_calloc(pixels, 1, err)) ||
            !(m->coarse[i] = m->factor == 1 ? m->luma[i] : mem_calloc(m->coarse_width * m->coarse_height, 1, err)))
            rc = ERR_NOMEM;
    if (rc == 0 &&
        (!(m->predicted = mem_calloc(bytes, 1, err)) || !(m->v[0] = mem_calloc(blocks, sizeof *m->v[0], err)) ||
         !(m->v[1] = mem_calloc(blocks, sizeof *m->v[1], err))))
        rc = ERR_NOMEM;
    if (rc < 0)
        video_meter_free(out);
    return rc;
}

void video_meter_free(VideoMeter **m)
{
    if (!*m)
        return;
    for (int i = 0; i < KEPT; i++) {
        mem_free((*m)->rgb[i]);
        if ((*m)->factor > 1)
            mem_free((*m)->coarse[i]);
        mem_free((*m)->luma[i]);
    }
    mem_free((*m)->v[0]);
    mem_free((*m)->v[1]);
    mem_free((*m)->predicted);
    mem_free((*m)->ssim);
    mem_free(*m);
    *m = NULL;
}

static int add_ssim(VideoMeter *m, const uint8_t *before, const uint8_t *now, Err *err)
{
    int64_t pair = m->n - 1;
    if (mem_grow(&m->ssim, pair, &m->room, sizeof *m->ssim, err) < 0)
        return ERR_NOMEM;
    m->ssim[pair] = NAN;
    if (m->width < SSIM_WINDOW || m->height < SSIM_WINDOW)
        return 0;
    return image_ssim(before, now, m->width, m->height, 3, 255, 1, &m->ssim[pair], err);
}

static int64_t coarse_side(const VideoMeter *m)
{
    return m->coarse_width < m->coarse_height ? m->coarse_width : m->coarse_height;
}

/* Means of factor x factor pixels, rounded half up; what is left at the right and lower edge is dropped. */
static void shrink(const VideoMeter *m, const uint8_t *luma, uint8_t *out)
{
    int64_t k = m->factor, all = k * k;
    for (int64_t y = 0; y < m->coarse_height; y++)
        for (int64_t x = 0; x < m->coarse_width; x++) {
            int64_t sum = 0;
            for (int64_t j = 0; j < k; j++)
                for (int64_t i = 0; i < k; i++)
                    sum += luma[(y * k + j) * m->width + x * k + i];
            out[y * m->coarse_width + x] = (uint8_t)((sum + all / 2) / all);
        }
}

/* Frame n has just come; frame n - 1 is there. */
static int add_pair(VideoMeter *m, Err *err)
{
    int64_t now = m->n % KEPT, before = (m->n - 1) % KEPT, samples = m->width * m->height * 3,
            blocks = motion_blocks(m->coarse_width, m->coarse_height);
    double mse = image_mse(m->rgb[before], m->rgb[now], samples), mean, top;
    MotionVector *v = m->v[m->n % 2];
    int rc = add_ssim(m, m->rgb[before], m->rgb[now], err);
    m->mse += mse;
    if (mse > 0)
        m->psnr += image_psnr(mse);
    else
        m->equal++;
    m->difference += image_mae(m->rgb[before], m->rgb[now], samples);
    if (rc == 0)
        rc = motion_search(m->coarse[before], m->coarse[now], m->coarse_width, m->coarse_height, v, err);
    if (rc == 0)
        rc = motion_lengths(v, blocks, &mean, &top, err);
    if (rc < 0)
        return rc;
    m->motion += mean;
    m->dynamic += top >= 6.0 * (double)coarse_side(m) / 256;
    if (m->n > 1)
        m->jerk += motion_change(v, m->v[(m->n - 1) % 2], blocks);
    return 0;
}

/* Frames n - 2, n - 1 and n are there. */
static int add_three(VideoMeter *m, Err *err)
{
    int64_t first = (m->n - 2) % KEPT, last = m->n % KEPT;
    const uint8_t *a = m->rgb[first], *b = m->rgb[(m->n - 1) % KEPT], *c = m->rgb[last];
    int64_t samples = m->width * m->height * 3, second = 0;
    for (int64_t i = 0; i < samples; i++)
        second += abs(a[i] - 2 * b[i] + c[i]);
    m->second += (double)second / (double)samples;
    if (m->n % 2)
        return 0;
    /* |b - (a + c)/2| is half of that */
    m->linear += (double)second / 2 / (double)samples;
    int rc = motion_predict(&(MotionFrame){a, m->luma[first]}, &(MotionFrame){c, m->luma[last]}, m->width, m->height,
                            m->predicted, err);
    m->compensated += rc < 0 ? 0 : image_mae(m->predicted, b, samples);
    m->compared++;
    return rc;
}

int video_meter_add(VideoMeter *m, const uint8_t *rgb, Err *err)
{
    int64_t pixels = m->width * m->height, at = m->n % KEPT;
    int rc = 0;
    memcpy(m->rgb[at], rgb, (size_t)(pixels * 3));
    image_luma(rgb, pixels, m->luma[at]);
    if (m->factor > 1)
        shrink(m, m->luma[at], m->coarse[at]);
    m->sharpness += image_sharpness(m->luma[at], m->width, m->height);
    memset(m->last_colours, 0, sizeof m->last_colours);
    image_colours(rgb, pixels, m->last_colours);
    for (int i = 0; i < COLOUR_BINS; i++)
        m->colours[i] += m->last_colours[i];
    if (m->n == 0)
        memcpy(m->first_colours, m->last_colours, sizeof m->first_colours);
    if (m->n >= 1)
        rc = add_pair(m, err);
    if (rc == 0 && m->n >= 2)
        rc = add_three(m, err);
    m->n++;
    return rc;
}

static int ssim_figures(const VideoMeter *m, VideoFigures *f, Err *err)
{
    int64_t pairs = m->n - 1;
    double sum = 0, *sorted;
    if (pairs < 1 || isnan(m->ssim[0]))
        return 0;
    if (!(sorted = mem_calloc(pairs, sizeof *sorted, err)))
        return ERR_NOMEM;
    f->ssim_min_at = 0;
    for (int64_t k = 0; k < pairs; k++) {
        sum += sorted[k] = m->ssim[k];
        if (m->ssim[k] < m->ssim[f->ssim_min_at])
            f->ssim_min_at = k;
    }
    sort_ascending(sorted, pairs);
    f->ssim = sum / (double)pairs;
    f->ssim_min = sorted[0];
    f->ssim_p5 = percentile(sorted, pairs, 0.05);
    mem_free(sorted);
    return 0;
}

int video_meter_finish(const VideoMeter *m, VideoFigures *f, Err *err)
{
    double pairs = (double)(m->n - 1), scale = MOTION_SIDE / (double)coarse_side(m);
    if (m->n < 1)
        return err_set(err, ERR_USAGE, "figures of a video without frames");
    *f = (VideoFigures){.frames = m->n, .width = m->width, .height = m->height, .ssim_min_at = -1};
    for (const FigureKind *kind = figure_kinds; kind->name; kind++)
        *(double *)((char *)f + kind->offset) = NAN;
    f->equal_pairs = m->equal;
    f->sharpness = m->sharpness / (double)m->n;
    if (m->n < 2)
        return 0;
    if (m->n - 1 > m->equal)
        f->psnr = m->psnr / (pairs - (double)m->equal);
    if (m->mse > 0)
        f->psnr_pooled = image_psnr(m->mse / pairs);
    f->difference = m->difference / pairs;
    f->flicker = (255 - f->difference) / 255;
    f->motion = m->motion / pairs * scale;
    f->dynamic = (double)m->dynamic / pairs;
    f->colour_change = image_colour_distance(m->first_colours, m->last_colours);
    if (m->n > 2) {
        f->second_difference = m->second / (pairs - 1);
        f->smoothness_linear = (255 - m->linear / (double)m->compared) / 255;
        f->smoothness = (255 - m->compensated / (double)m->compared) / 255;
        f->jerk = m->jerk / (pairs - 1) * scale / (f->motion + 1);
    }
    return ssim_figures(m, f, err);
}

void video_meter_colours(const VideoMeter *m, double *shares)
{
    double all = (double)(m->n * m->width * m->height);
    for (int i = 0; i < COLOUR_BINS; i++)
        shares[i] = all > 0 ? m->colours[i] / all : 0;
}
