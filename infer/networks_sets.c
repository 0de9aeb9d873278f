/* Figures of sets of videos: Inception Score, Frechet and kernel distances. */
#include <math.h>
#include <stdio.h>

#include "common/base/bootstrap.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/metrics/frechet.h"
#include "common/metrics/inception_score.h"
#include "infer/networks_internal.h"

/* Rows of features: of whole videos (I3D) or of their frames (Inception). */
typedef struct Rows {
    double *x;
    int64_t n, videos; /* rows; videos that have some */
} Rows;

static int64_t width_of(FeatureKind which)
{
    return which == NET_POOL3 ? INCEPTION_FEATURES : I3D_CLASSES;
}

static int64_t rows_of(const NetVideo *v, FeatureKind which)
{
    return which == NET_I3D ? v->has_i3d : v->inception_frames;
}

/* Of videos first, first + step, ..., in `order` (NULL: their own), until `most` have rows.  mem_free(out->x). */
static int gather(Rows *out, const NetFeatures *f, FeatureKind which, int64_t first, int64_t step, int64_t most,
                  const int64_t *order, Err *err)
{
    int64_t d = width_of(which), total = 0;
    *out = (Rows){0};
    for (int64_t i = 0; f && i < f->n; i++)
        total += rows_of(&f->video[i], which);
    if (!(out->x = mem_calloc(total * d, sizeof *out->x, err)))
        return ERR_NOMEM;
    for (int64_t i = first; f && i < f->n && out->videos < most; i += step) {
        const NetVideo *v = &f->video[order ? order[i] : i];
        const float *from = which == NET_POOL3 ? v->pool3 : v->i3d;
        int64_t n = rows_of(v, which);
        for (int64_t k = 0; k < n * d; k++)
            out->x[out->n * d + k] = (double)from[k];
        out->n += n;
        out->videos += n > 0;
    }
    return 0;
}

static void put_note(JsonWriter *w, int64_t n, const char *what)
{
    char text[200];
    snprintf(text, sizeof text,
             "%" PRId64 " video%s too few for %s: below %d its value says more about their number than about them", n,
             n == 1 ? " is" : "s are", what, FVD_FEW);
    if (n < FVD_FEW)
        jsonw_str(w, "note", text);
}

/* What a report's interval says, where there are enough videos for one; `least`: the least that the figure can be.
 * a [n1], b [n2]: see bootstrap_influence. */
static int put_interval(JsonWriter *w, double value, double least, const double *a, int64_t n1, const double *b,
                        int64_t n2, uint64_t seed, Err *err)
{
    double low, high;
    if (n1 < 2 || n2 == 1)
        return 0;
    int rc = bootstrap_influence(value, a, n1, b, n2, seed, &low, &high, err);
    if (!rc) {
        jsonw_num(w, "low", low < least ? least : low);
        jsonw_num(w, "high", high);
    }
    return rc;
}

/* Distributions over the classes, those of a video one after the other: of its frames, or their mean. */
typedef struct Shares {
    double *p;
    int64_t *first; /* [videos + 1]: its rows */
    int64_t videos;
} Shares;

static void shares_fini(Shares *s)
{
    mem_free(s->p);
    mem_free(s->first);
}

/* Of the videos that have some, in `order`.  shares_fini in every case. */
static int shares_of(Shares *s, const NetFeatures *f, const int64_t *order, int mean, Err *err)
{
    const int64_t d = INCEPTION_CLASSES;
    double logits[INCEPTION_CLASSES];
    int64_t total = 0;
    for (int64_t i = 0; i < f->n; i++)
        total += mean ? 1 : f->video[i].inception_frames;
    s->p = mem_calloc(total, d * (int64_t)sizeof *s->p, err);
    s->first = mem_calloc(f->n + 1, sizeof *s->first, err);
    if (!s->p || !s->first)
        return ERR_NOMEM;
    for (int64_t i = 0, row = 0; i < f->n; i++) {
        const NetVideo *v = &f->video[order[i]];
        int64_t n = v->inception_frames;
        for (int64_t k = 0; k < n; k++) {
            for (int64_t c = 0; c < d; c++)
                logits[c] = (double)v->logits[k * d + c];
            inception_add_softmax(s->p + (mean ? row : row + k) * d, logits, d, mean ? 1 / (double)n : 1);
        }
        if (n)
            s->first[++s->videos] = row += mean ? 1 : n;
    }
    return 0;
}

/* Splits hold whole videos, two at least: frames of one are alike.  Video i of the shuffled order is in split i*S/n.
 * per_video [videos]: each one's influence. */
static int put_splits(JsonWriter *w, const Shares *s, double *per_video, uint64_t seed, Err *err)
{
    int64_t splits = s->videos < 2 ? 1 : s->videos < 2 * SCORE_SPLITS ? s->videos / 2 : SCORE_SPLITS;
    double *change = mem_calloc(s->first[s->videos], sizeof *change, err), sum = 0, squares = 0;
    int rc = change ? 0 : ERR_NOMEM;
    for (int64_t k = 0, end, video = 0; k < splits && !rc; k++, video = end) {
        double score;
        for (end = video; end < s->videos && end * splits / s->videos == k;)
            end++;
        const int64_t first = s->first[video], n = s->first[end] - first;
        rc = inception_score_part(s->p + first * INCEPTION_CLASSES, n, INCEPTION_CLASSES, &score, change + first, err);
        sum += score;
        squares += score * score;
        for (int64_t i = video; i < end && !rc; i++)
            for (int64_t r = s->first[i]; r < s->first[i + 1]; r++)
                per_video[i] += change[r] / (double)(n * splits);
    }
    mem_free(change);
    if (rc)
        return rc;
    double mean = sum / (double)splits, var = squares / (double)splits - mean * mean;
    jsonw_num(w, "value", mean);
    jsonw_num(w, "std", var > 0 ? sqrt(var) : 0);
    jsonw_int(w, "splits", splits);
    return put_interval(w, mean, 1, per_video, s->videos, NULL, 0, seed, err);
}

/* is_frames, and is_clip of each video's mean distribution. */
int net_put_score(JsonWriter *w, const NetFeatures *f, int mean, uint64_t seed, Err *err)
{
    int64_t *order = mem_calloc(f->n, sizeof *order, err);
    double *per_video = mem_calloc(f->n, sizeof *per_video, err);
    Shares s = {0};
    int rc = order && per_video ? 0 : ERR_NOMEM;
    if (!rc) {
        Philox p = philox_stream(seed, RNG_ORDER, 0, 0);
        philox_permutation(&p, order, f->n);
        rc = shares_of(&s, f, order, mean, err);
    }
    if (!rc && s.videos) {
        jsonw_open(w, mean ? "is_clip" : "is_frames");
        rc = put_splits(w, &s, per_video, seed, err);
        jsonw_int(w, "n", s.videos);
        if (!mean)
            jsonw_int(w, "frames", s.first[s.videos]);
        put_note(w, s.videos, "an Inception Score");
        jsonw_close(w);
    }
    shares_fini(&s);
    mem_free(per_video);
    mem_free(order);
    return rc;
}

/* Distance between halves of the references: what a perfect model would be given. */
static int put_floor(JsonWriter *w, const NetFeatures *references, FeatureKind which, Err *err)
{
    Rows a = {0}, b = {0};
    double d;
    int rc = gather(&a, references, which, 0, 2, INT64_MAX, NULL, err);
    if (!rc && !(rc = gather(&b, references, which, 1, 2, INT64_MAX, NULL, err)) && a.n > 1 && b.n > 1 &&
        !(rc = frechet_distance(a.x, a.n, b.x, b.n, width_of(which), &d, err))) {
        jsonw_num(w, "floor", d);
        jsonw_int(w, "floor_n", a.videos < b.videos ? a.videos : b.videos);
    }
    mem_free(a.x);
    mem_free(b.x);
    return rc;
}

/* out [videos that have rows] <- the sums of their rows' influences over all rows. */
static void sum_per_video(double *out, const NetFeatures *f, FeatureKind which, const double *change, int64_t n)
{
    int64_t row = 0;
    for (int64_t i = 0; i < f->n; i++) {
        int64_t own = rows_of(&f->video[i], which);
        for (int64_t k = 0; k < own; k++)
            *out += change[row++] / (double)n;
        out += own > 0;
    }
}

/* The distance and its interval. */
static int put_frechet(JsonWriter *w, const NetFeatures *f, const NetFeatures *references, FeatureKind which,
                       const Rows *a, const Rows *b, uint64_t seed, Err *err)
{
    double value, *change1 = mem_calloc(a->n, sizeof *change1, err), *change2 = mem_calloc(b->n, sizeof *change2, err),
                  *sum1 = mem_calloc(a->videos, sizeof *sum1, err), *sum2 = mem_calloc(b->videos, sizeof *sum2, err);
    int rc = change1 && change2 && sum1 && sum2
                 ? frechet_influence(a->x, a->n, b->x, b->n, width_of(which), &value, change1, change2, err)
                 : ERR_NOMEM;
    if (!rc) {
        sum_per_video(sum1, f, which, change1, a->n);
        sum_per_video(sum2, references, which, change2, b->n);
        jsonw_num(w, "value", value);
        rc = put_interval(w, value, 0, sum1, a->videos, sum2, b->videos, seed, err);
    }
    mem_free(change1);
    mem_free(change2);
    mem_free(sum1);
    mem_free(sum2);
    return rc;
}

/* Rows of `videos` of the videos that have some, drawn without replacement.  mem_free(out->x). */
static int draw_rows(Rows *out, const NetFeatures *f, FeatureKind which, int64_t videos, uint64_t seed, uint64_t stream,
                     Err *err)
{
    int64_t *order = mem_calloc(f->n, sizeof *order, err);
    *out = (Rows){0};
    if (!order)
        return ERR_NOMEM;
    Philox p = philox_stream(seed, RNG_BOOTSTRAP, 3, stream);
    philox_permutation(&p, order, f->n);
    int rc = gather(out, f, which, 0, 1, videos, order, err);
    mem_free(order);
    return rc;
}

/* The distance as it would be between infinitely many videos (frechet_infinite), from subsets of N/4 to N of them on
 * each side. */
static int put_infinite(JsonWriter *w, const NetFeatures *f, const NetFeatures *references, FeatureKind which,
                        int64_t videos, uint64_t seed, Err *err)
{
    char text[200];
    double value[NET_SUBSETS];
    int64_t size[NET_SUBSETS];
    int rc = 0;
    for (int64_t k = 0; k < NET_SUBSETS && !rc; k++) {
        Rows a = {0}, b = {0};
        size[k] = videos / 4 + (videos - videos / 4) * k / (NET_SUBSETS - 1);
        if (!(rc = draw_rows(&a, f, which, size[k], seed, (uint64_t)(2 * k), err)) &&
            !(rc = draw_rows(&b, references, which, size[k], seed, (uint64_t)(2 * k + 1), err)))
            rc = frechet_distance(a.x, a.n, b.x, b.n, width_of(which), &value[k], err);
        mem_free(a.x);
        mem_free(b.x);
    }
    if (rc)
        return rc;
    jsonw_num(w, "infinite", frechet_infinite(size, value, NET_SUBSETS));
    if (videos < 4 * width_of(which)) {
        snprintf(text, sizeof text,
                 "%" PRId64 " videos on each side are too few for the line to be straight (it takes %" PRId64
                 "): the value for infinitely many is lower",
                 videos, 4 * width_of(which));
        jsonw_str(w, "infinite_note", text);
    }
    return 0;
}

/* Frechet and kernel distance of the videos to the references. */
int net_put_distances(JsonWriter *w, const NetFeatures *f, const NetFeatures *references, FeatureKind which,
                      const char *frechet, const char *kernel, uint64_t seed, Err *err)
{
    Rows a = {0}, b = {0};
    double value;
    int rc = gather(&a, f, which, 0, 1, INT64_MAX, NULL, err);
    if (rc || (rc = gather(&b, references, which, 0, 1, INT64_MAX, NULL, err)))
        goto fail;
    const int64_t videos = a.videos < b.videos ? a.videos : b.videos;
    for (int k = 0; k < 2 && !rc; k++) {
        jsonw_open(w, k ? kernel : frechet);
        if (videos < 2) {
            jsonw_null(w, "value");
            jsonw_str(w, "note",
                      references ? "at least two videos on each side are needed" : "no references were given");
        } else if (k) {
            rc = kernel_distance(a.x, a.n, b.x, b.n, width_of(which), &value, err);
            jsonw_num(w, "value", value);
        } else {
            rc = put_frechet(w, f, references, which, &a, &b, seed, err);
            put_note(w, videos, "a Frechet distance");
            if (!rc && videos >= NET_SUBSETS_LEAST)
                rc = put_infinite(w, f, references, which, videos, seed, err);
        }
        jsonw_int(w, "n", a.videos);
        jsonw_int(w, "references", b.videos);
        if (!k && b.videos > 3 && !rc)
            rc = put_floor(w, references, which, err);
        jsonw_close(w);
    }
fail:
    mem_free(a.x);
    mem_free(b.x);
    return rc;
}
