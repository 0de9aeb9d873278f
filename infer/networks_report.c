/* Figures of sets of videos: Inception Score, Frechet and kernel distances, attributes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/metrics/frechet.h"
#include "infer/networks_internal.h"

/* Rows of features: of whole videos (I3D) or of their frames (Inception). */
typedef struct Rows {
    double *x;
    int64_t n, videos; /* rows; videos that have some */
} Rows;

typedef enum Feature { POOL3, LOGITS, I3D_LOGITS } Feature;

static int64_t width_of(Feature which)
{
    return which == POOL3 ? INCEPTION_FEATURES : which == LOGITS ? INCEPTION_CLASSES : I3D_CLASSES;
}

static int64_t rows_of(const NetVideo *v, Feature which)
{
    return which == I3D_LOGITS ? v->has_i3d : v->inception_frames;
}

/* Of videos first, first + step, ..., in `order` (NULL: their own).  mem_free(out->x). */
static int gather(Rows *out, const NetFeatures *f, Feature which, int64_t first, int64_t step, const int64_t *order,
                  Err *err)
{
    int64_t d = width_of(which), total = 0;
    *out = (Rows){0};
    for (int64_t i = 0; f && i < f->n; i++)
        total += rows_of(&f->video[i], which);
    if (!(out->x = mem_calloc(total * d, sizeof *out->x, err)))
        return ERR_NOMEM;
    for (int64_t i = first; f && i < f->n; i += step) {
        const NetVideo *v = &f->video[order ? order[i] : i];
        const double *from = which == POOL3 ? v->pool3 : which == LOGITS ? v->logits : v->i3d;
        int64_t n = rows_of(v, which);
        if (n)
            memcpy(out->x + out->n * d, from, (size_t)(n * d) * sizeof *from);
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

/* Splits hold whole videos: frames of one are alike.  Video i of the shuffled order is in split i*S/n. */
static int put_score(JsonWriter *w, const NetFeatures *f, uint64_t seed, Err *err)
{
    int64_t *order = mem_calloc(f->n, sizeof *order, err), splits, done = 0, frames = 0;
    double sum = 0, squares = 0;
    Rows all = {0};
    if (!order)
        return ERR_NOMEM;
    Philox p = philox_stream(seed, RNG_ORDER, 0, 0);
    philox_permutation(&p, order, f->n);
    int rc = gather(&all, f, LOGITS, 0, 1, order, err);
    splits = all.videos < SCORE_SPLITS ? all.videos : SCORE_SPLITS;
    for (int64_t s = 0, video = 0, i = 0; s < splits && !rc; s++) {
        int64_t rows = 0;
        double score, unused;
        for (; video * splits / all.videos == s && video < all.videos; i++) {
            int64_t n = f->video[order[i]].inception_frames;
            rows += n;
            video += n > 0;
        }
        rc = inception_score(all.x + frames * INCEPTION_CLASSES, rows, INCEPTION_CLASSES, 1, &score, &unused, err);
        frames += rows;
        sum += score;
        squares += score * score;
        done++;
    }
    if (!rc && done) {
        double mean = sum / (double)done, var = squares / (double)done - mean * mean;
        jsonw_open(w, "is_frames");
        jsonw_num(w, "value", mean);
        jsonw_num(w, "std", var > 0 ? sqrt(var) : 0);
        jsonw_int(w, "n", all.videos);
        jsonw_int(w, "frames", all.n);
        jsonw_int(w, "splits", splits);
        put_note(w, all.videos, "an Inception Score");
        jsonw_close(w);
    }
    mem_free(all.x);
    mem_free(order);
    return rc;
}

/* Distance between halves of the references: what a perfect model would be given. */
static int put_floor(JsonWriter *w, const NetFeatures *references, Feature which, Err *err)
{
    Rows a = {0}, b = {0};
    double d;
    int rc = gather(&a, references, which, 0, 2, NULL, err);
    if (!rc && !(rc = gather(&b, references, which, 1, 2, NULL, err)) && a.n > 1 && b.n > 1 &&
        !(rc = frechet_distance(a.x, a.n, b.x, b.n, width_of(which), &d, err))) {
        jsonw_num(w, "floor", d);
        jsonw_int(w, "floor_n", a.videos < b.videos ? a.videos : b.videos);
    }
    mem_free(a.x);
    mem_free(b.x);
    return rc;
}

/* Frechet and kernel distance of the videos to the references. */
static int put_distances(JsonWriter *w, const NetFeatures *f, const NetFeatures *references, Feature which,
                         const char *frechet, const char *kernel, Err *err)
{
    Rows a = {0}, b = {0};
    int64_t d = width_of(which);
    double value;
    int rc = gather(&a, f, which, 0, 1, NULL, err);
    if (rc || (rc = gather(&b, references, which, 0, 1, NULL, err)))
        goto fail;
    for (int k = 0; k < 2; k++) {
        jsonw_open(w, k ? kernel : frechet);
        if (a.videos < 2 || b.videos < 2) {
            jsonw_null(w, "value");
            jsonw_str(w, "note",
                      references ? "at least two videos on each side are needed" : "no references were given");
        } else {
            rc = (k ? kernel_distance : frechet_distance)(a.x, a.n, b.x, b.n, d, &value, err);
            if (rc)
                goto fail;
            jsonw_num(w, "value", value);
            if (!k)
                put_note(w, a.videos < b.videos ? a.videos : b.videos, "a Frechet distance");
        }
        jsonw_int(w, "n", a.videos);
        jsonw_int(w, "references", b.videos);
        if (!k && b.videos > 3 && (rc = put_floor(w, references, which, err)))
            goto fail;
        jsonw_close(w);
    }
fail:
    mem_free(a.x);
    mem_free(b.x);
    return rc;
}

static void put_protocol(JsonWriter *w, const Networks *n)
{
    char text[300];
    jsonw_open(w, "protocol");
    if (n->clip) {
        snprintf(text, sizeof text,
                 "frames 0, %d, ... of each video, %d at most, %" PRId64 " pixels square; unit vectors; prompts "
                 "cut to the model's tokens with the end mark kept",
                 CLIP_STEP, CLIP_FRAMES, clip_scorer_size(n->clip));
        jsonw_str(w, "clip", text);
        jsonw_str(w, "attributes",
                  "the value nearest to the mean vector of a video's frames (centre crop) against the one "
                  "value whose words are in the prompt; interval: Wilson, 95 %");
    }
    if (n->inception) {
        snprintf(text, sizeof text,
                 "frames 0, %d, ... of each video, %d at most, stretched to 299x299 (TensorFlow 1's bilinear), "
                 "(x - 128)/128; score: logits without bias, up to %d splits of whole videos in an order drawn with "
                 "the seed, "
                 "population standard deviation; distances: pool3",
                 INCEPTION_STEP, INCEPTION_FRAMES, SCORE_SPLITS);
        jsonw_str(w, "inception", text);
    }
    if (n->i3d) {
        snprintf(text, sizeof text,
                 "the first %" PRId64 " frames, stretched to 224x224 (TensorFlow 1's bilinear), 2x/255 - 1; 400 logits "
                 "averaged over time; bn_eps %g; covariances with n - 1; videos with fewer frames are left out",
                 n->o.fvd_frames, i3d_eps(n->i3d));
        jsonw_str(w, "i3d", text);
    }
    jsonw_close(w);
    jsonw_open(w, "weights"); /* SHA-256 */
    if (n->clip)
        jsonw_str(w, "clip", n->clip_sha);
    if (n->inception)
        jsonw_str(w, "inception", n->inception_sha);
    if (n->i3d)
        jsonw_str(w, "i3d", n->i3d_sha);
    jsonw_close(w);
    jsonw_open_array(w, "left_out");
    for (int64_t i = 0; i < n->n_left; i++) {
        jsonw_open(w, NULL);
        jsonw_str(w, "metrics", n->left[i].metrics);
        jsonw_str(w, "why", n->left[i].why);
        jsonw_close(w);
    }
    jsonw_close(w);
}

int networks_report(const Networks *n, const NetFeatures *f, const NetFeatures *references, uint64_t seed, json_t **out,
                    Err *err)
{
    JsonWriter w;
    char fvd[40], kvd[40];
    int rc = 0;
    snprintf(fvd, sizeof fvd, "fvd_%" PRId64 "f", n->o.fvd_frames);
    snprintf(kvd, sizeof kvd, "kvd_%" PRId64 "f", n->o.fvd_frames);
    jsonw_begin(&w);
    jsonw_open(&w, "sets");
    if (n->inception && !(rc = put_score(&w, f, seed, err)))
        rc = put_distances(&w, f, references, POOL3, "fid_frames", "kid_frames", err);
    if (n->i3d && !rc)
        rc = put_distances(&w, f, references, I3D_LOGITS, fvd, kvd, err);
    jsonw_close(&w);
    if (n->clip)
        jsonw_take(&w, "attributes", attributes_json(&n->attributes, 0, err));
    if (n->clip && references)
        jsonw_take(&w, "attributes_of_references", attributes_json(&n->attributes, 1, err));
    put_protocol(&w, n);
    int written = jsonw_finish(&w, out, "the networks' figures", err);
    if (rc && !written) {
        json_decref(*out);
        *out = NULL;
    }
    return rc ? rc : written;
}
