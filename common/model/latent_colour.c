#include "common/model/latent_colour.h"
#include <math.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/jsonw.h"

int colour_fit_begin(ColourFit *f, int64_t channels, Err *err)
{
    memset(f, 0, sizeof *f);
    f->channels = channels;
    return channels <= LATENT_COLOUR_CHANNELS
               ? 0
               : err_set(err, ERR_UNSUPPORTED, "latents of %" PRId64 " channels, expected at most %d", channels,
                         LATENT_COLOUR_CHANNELS);
}

/* ---- adding up ------------------------------------------------------------------------------- */

/* Frames [*first, *first + *n) belong to latent t. */
static void frames_of(const ColourClip *c, int64_t t, int64_t *first, int64_t *n)
{
    int64_t r = c->ratio;
    int first_alone = c->frames == 1 + r * (c->F - 1);
    *n = first_alone && t == 0 ? 1 : r;
    *first = !first_alone ? r * t : t ? 1 + r * (t - 1) : 0;
}

static void mean_colour(const ColourClip *c, int64_t t, int64_t row, int64_t column, double out[3])
{
    int64_t tall = c->height / c->h, wide = c->width / c->w, first, n, sum[3] = {0};
    frames_of(c, t, &first, &n);
    for (int64_t f = first; f < first + n; f++)
        for (int64_t y = row * tall; y < (row + 1) * tall; y++) {
            const uint8_t *p = c->rgb + ((f * c->height + y) * c->width + column * wide) * 3;
            for (int64_t x = 0; x < wide; x++, p += 3)
                for (int k = 0; k < 3; k++)
                    sum[k] += p[k];
        }
    for (int k = 0; k < 3; k++)
        out[k] = (double)sum[k] / (255.0 * (double)(n * tall * wide));
}

static void add_position(ColourFit *f, const float *latent, const double y[3])
{
    int64_t C = f->channels;
    double x[LATENT_COLOUR_CHANNELS + 1];
    for (int64_t i = 0; i < C; i++)
        x[i] = latent[i];
    x[C] = 1;
    for (int64_t i = 0; i <= C; i++) {
        for (int64_t j = 0; j <= i; j++)
            f->xx[i][j] += x[i] * x[j];
        for (int k = 0; k < 3; k++)
            f->xy[i][k] += x[i] * y[k];
    }
    for (int k = 0; k < 3; k++) {
        f->y[k] += y[k];
        f->yy += y[k] * y[k];
    }
    f->n++;
}

int colour_fit_add(ColourFit *f, const ColourClip *c, Err *err)
{
    int even = c->frames == c->ratio * c->F || c->frames == 1 + c->ratio * (c->F - 1);
    if (!even || c->height % c->h || c->width % c->w)
        return err_set(err, ERR_USAGE,
                       "%" PRId64 " frames of %" PRId64 "x%" PRId64 " do not divide into latents %" PRId64 " x %" PRId64
                       " x %" PRId64,
                       c->frames, c->width, c->height, c->F, c->w, c->h);
    for (int64_t i = 0; i < c->F * c->h * c->w; i++) {
        double y[3];
        mean_colour(c, i / (c->h * c->w), i / c->w % c->h, i % c->w, y);
        add_position(f, c->latents + i * c->stride, y);
    }
    return 0;
}

/* ---- solving --------------------------------------------------------------------------------- */

/* The lower factor of a positive definite matrix, in place (Cholesky). */
static void factor(double a[LATENT_COLOUR_CHANNELS + 1][LATENT_COLOUR_CHANNELS + 1], int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t k = 0; k < j; k++)
            a[j][j] -= a[j][k] * a[j][k];
        a[j][j] = sqrt(a[j][j]);
        for (int64_t i = j + 1; i < n; i++) {
            for (int64_t k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[j][k];
            a[i][j] /= a[j][j];
        }
    }
}

static void solve(double a[LATENT_COLOUR_CHANNELS + 1][LATENT_COLOUR_CHANNELS + 1], double b[][3], int64_t n)
{
    for (int k = 0; k < 3; k++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < i; j++)
                b[i][k] -= a[i][j] * b[j][k];
            b[i][k] /= a[i][i];
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            for (int64_t j = i + 1; j < n; j++)
                b[i][k] -= a[j][i] * b[j][k];
            b[i][k] /= a[i][i];
        }
    }
}

/* Of sum |y - W'x|^2, from the sums. */
static double explained(const ColourFit *f, const LatentColour *m)
{
    int64_t n = f->channels + 1;
    double left = f->yy, all = f->yy;
    for (int k = 0; k < 3; k++) {
        all -= f->y[k] * f->y[k] / (double)f->n;
        for (int64_t i = 0; i < n; i++) {
            left -= 2 * m->weight[i][k] * f->xy[i][k];
            for (int64_t j = 0; j < n; j++)
                left += m->weight[i][k] * m->weight[j][k] * (j <= i ? f->xx[i][j] : f->xx[j][i]);
        }
    }
    return all > 1e-12 * f->yy ? 1 - left / all : 0;
}

int colour_fit_end(const ColourFit *f, LatentColour *out, Err *err)
{
    double a[LATENT_COLOUR_CHANNELS + 1][LATENT_COLOUR_CHANNELS + 1], trace = 0;
    int64_t n = f->channels + 1;
    if (f->n < 1)
        return err_set(err, ERR_USAGE, "no clip to fit colours to");
    memcpy(a, f->xx, sizeof a);
    for (int64_t i = 0; i < n; i++)
        trace += a[i][i];
    for (int64_t i = 0; i < n; i++)
        a[i][i] += 1e-6 * trace / (double)n;
    factor(a, n);
    *out = (LatentColour){.channels = f->channels};
    memcpy(out->weight, f->xy, sizeof out->weight);
    solve(a, out->weight, n);
    out->explained = explained(f, out);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            if (!isfinite(out->weight[i][k]))
                return err_set(err, ERR_FORMAT, "a latent is not finite: no colours can be fitted to it");
    return 0;
}

/* ---- using it -------------------------------------------------------------------------------- */

void latent_colour_apply(const LatentColour *m, uint8_t *rgb, const float *latents, int64_t n, double scale)
{
    int64_t C = m->channels;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) {
            double y = m->weight[C][k];
            for (int64_t c = 0; c < C; c++)
                y += m->weight[c][k] * scale * latents[i * C + c];
            y = 255 * y + 0.5;
            rgb[i * 3 + k] = y > 0 ? y < 255 ? (uint8_t)y : 255 : 0; /* 0 also for what is no number */
        }
}

int latent_colour_json(const LatentColour *m, json_t **out, Err *err)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_open_array(&w, "weights");
    for (int64_t i = 0; i <= m->channels; i++) {
        jsonw_open_array(&w, NULL);
        for (int k = 0; k < 3; k++)
            jsonw_num(&w, NULL, m->weight[i][k]);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_num(&w, "explained", m->explained);
    return jsonw_finish(&w, out, "the latents' colours", err);
}

int latent_colour_parse(LatentColour *out, const json_t *json, const char *where, Err *err)
{
    const json_t *rows = json_object_get(json, "weights");
    int64_t n = (int64_t)json_array_size(rows);
    *out = (LatentColour){.channels = n - 1};
    if (n < 2 || n > LATENT_COLOUR_CHANNELS + 1)
        return err_set(err, ERR_FORMAT, "%s: 'weights' has %" PRId64 " rows, expected 2 to %d", where, n,
                       LATENT_COLOUR_CHANNELS + 1);
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < 3; k++) {
            const json_t *v = json_array_get(json_array_get(rows, (size_t)i), k);
            if (!json_is_number(v))
                return err_set(err, ERR_FORMAT, "%s: 'weights' has rows without three numbers", where);
            out->weight[i][k] = json_number_value(v);
        }
    return json_get_num(json, "explained", where, &out->explained, err);
}
