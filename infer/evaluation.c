#include "infer/evaluation.h"

#include <math.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/file.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "infer/csv.h"

int summary_of(Summary *out, double *x, int64_t n, uint64_t seed, Err *err)
{
    *out = (Summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i])) {
            sum += x[i];
            out->least = fmin(out->least, x[i]);
            out->most = fmax(out->most, x[i]);
            x[out->n++] = x[i];
        }
    if (out->n < 1)
        return 0;
    out->mean = sum / (double)out->n;
    if (out->n < 2)
        return 0;
    for (int64_t i = 0; i < out->n; i++)
        squares += (x[i] - out->mean) * (x[i] - out->mean);
    out->std = sqrt(squares / (double)(out->n - 1));
    return bootstrap_mean(x, out->n, seed, &out->low, &out->high, err);
}

static void put_number(JsonWriter *w, const char *key, double x)
{
    if (isfinite(x))
        jsonw_num(w, key, x);
    else
        jsonw_null(w, key);
}

json_t *summary_json(const Summary *s, Err *err)
{
    JsonWriter w;
    json_t *out;
    char note[96];
    jsonw_begin(&w);
    put_number(&w, "value", s->mean);
    put_number(&w, "low", s->low);
    put_number(&w, "high", s->high);
    put_number(&w, "std", s->std);
    put_number(&w, "least", s->least);
    put_number(&w, "most", s->most);
    jsonw_int(&w, "n", s->n);
    if (s->n < FEW_VIDEOS) {
        snprintf(note, sizeof note, "%" PRId64 " video%s: %s", s->n, str_plural(s->n),
                 s->n < 1   ? "no video has this figure"
                 : s->n < 2 ? "too few for an interval"
                            : "few, and the interval is rough");
        jsonw_str(&w, "note", note);
    }
    return jsonw_finish(&w, &out, "a figure", err) < 0 ? NULL : out;
}

/* ---- summing up ------------------------------------------------------------------------------- */
static double value_of(const Measured *m, int kind)
{
    return m->done != 1 ? NAN : kind < 0 ? m->colours : figure_value(&m->f, &figure_kinds[kind]);
}

/* Motion of the references' slowest twentieth. */
static int slowest(const Evaluation *reference, double *out, Err *err)
{
    double *x = mem_calloc(reference->videos.n, sizeof *x, err);
    int64_t n = 0;
    if (!x)
        return ERR_NOMEM;
    for (int64_t i = 0; i < reference->videos.n; i++)
        if (reference->measured[i].done == 1 && isfinite(reference->measured[i].f.motion))
            x[n++] = reference->measured[i].f.motion;
    sort_ascending(x, n);
    if (n > 0)
        *out = percentile(x, n, 0.05);
    mem_free(x);
    return 0;
}

int evaluation_near_static(const Evaluation *e, int64_t i)
{
    const Measured *m = &e->measured[i];
    return m->done == 1 && (m->f.motion < e->near_static || m->f.difference == 0);
}

static int sum_up(Evaluation *e, const Evaluation *reference, uint64_t seed, Err *err)
{
    double *x = mem_calloc(e->videos.n, sizeof *x, err);
    int rc = x ? 0 : ERR_NOMEM, kinds = 0;
    while (figure_kinds[kinds].name)
        kinds++;
    for (int k = -1; k < kinds && rc == 0; k++) {
        for (int64_t i = 0; i < e->videos.n; i++)
            x[i] = value_of(&e->measured[i], k);
        rc = summary_of(k < 0 ? &e->colours : &e->figure[k], x, e->videos.n, seed, err);
    }
    for (int k = 0; k < NET_FIGURES && e->features && rc == 0; k++) {
        for (int64_t i = 0; i < e->videos.n; i++)
            x[i] = e->measured[i].done == 1 ? net_figure(e->features, i, (NetFigure)k) : NAN;
        rc = summary_of(&e->network[k], x, e->videos.n, seed, err);
    }
    e->near_static = NEAR_STATIC_MOTION;
    if (rc == 0 && reference)
        rc = slowest(reference, &e->near_static, err);
    for (int64_t i = 0; i < e->videos.n && rc == 0; i++) {
        e->n_near_static += evaluation_near_static(e, i);
        e->n_frozen += e->measured[i].done == 1 && e->measured[i].f.difference == 0;
    }
    mem_free(x);
    return rc;
}

int evaluation_run(Evaluation *e, VideoList *v, const Evaluation *reference, const double *reference_histogram,
                   double *histogram, Networks *networks, const Recipe *recipe, int64_t jobs, const char *what,
                   const Log *log, Err *err)
{
    *e = (Evaluation){.videos = *v, .measured = mem_calloc(v->n, sizeof(Measured), err)};
    *v = (VideoList){0};
    char why[ERR_MSG_MAX];
    Measuring m = {.videos = &e->videos,
                   .recipe = recipe,
                   .jobs = jobs,
                   .log = log,
                   .what = what,
                   .reference = reference_histogram,
                   .histogram = histogram,
                   .out = e->measured};
    int rc = e->measured ? 0 : ERR_NOMEM;
    if (rc == 0 && networks)
        rc = net_features_new(&e->features, networks, e->videos.n, histogram != NULL, err);
    m.features = e->features;
    if (rc == 0)
        rc = measure_videos(&m, err);
    e->n_measured = m.measured;
    e->n_rejected = m.rejected;
    e->n_single = m.single_frame;
    if (rc == 0 && e->n_measured == 0) {
        measured_why(why, sizeof why, e->videos.item[0].path, e->measured[0].why);
        rc = err_set(err, ERR_FORMAT, "none of the %s (%" PRId64 ") could be measured; the first: %s", what,
                     e->videos.n, why);
    }
    return rc == 0 ? sum_up(e, reference, (uint64_t)recipe_int(recipe, "seed"), err) : rc;
}

void evaluation_fini(Evaluation *e)
{
    net_features_free(&e->features);
    measured_free(&e->measured, e->videos.n);
    videos_fini(&e->videos);
}

/* ---- writing ---------------------------------------------------------------------------------- */
json_t *evaluation_protocol(const Evaluation *e, int references, Err *err)
{
    JsonWriter w;
    json_t *out;
    char text[200];
    jsonw_begin(&w);
    jsonw_str(&w, "frames", "every frame of every video, at its own size and rate; pairs are consecutive frames");
    jsonw_str(&w, "pixels", "RGB, 8 bits, full range, BT.709 primaries");
    jsonw_str(
        &w, "ssim",
        "Gaussian window 11x11, sigma 1.5, population variances, range 255, windows inside the picture, mean over "
        "pixels and channels");
    jsonw_str(
        &w, "motion",
        "blocks 16x16 of luma, +-24 pixels, half-pixel refinement; vectors are scaled to a short side of 480, and luma "
        "of 960 and more is shrunk by whole numbers first");
    jsonw_str(&w, "smoothness", "frames 1, 3, 5, ... against what the frames before and after predict");
    jsonw_str(&w, "psnr", "pairs of equal frames are left out of psnr and counted in equal_pairs");
    if (references)
        jsonw_str(
            &w, "colours",
            "Hellinger distance of a video's RGB histogram (8x8x8 bins, all frames) to the mean of the references");
    jsonw_str(&w, "interval", "95 %, percentile bootstrap of the mean over videos, 9999 resamples drawn with the seed");
    snprintf(text, sizeof text, "motion below %.6g pixels a frame%s, or no pixel that ever changes", e->near_static,
             references ? ", the 5th percentile of the references" : "");
    jsonw_str(&w, "near_static", text);
    return jsonw_finish(&w, &out, "the protocol", err) < 0 ? NULL : out;
}

json_t *evaluation_rejected(const Evaluation *e, Err *err)
{
    JsonWriter w;
    json_t *out;
    jsonw_begin_array(&w);
    for (int64_t i = 0; i < e->videos.n; i++)
        if (e->measured[i].done == 2) {
            jsonw_open(&w, NULL);
            jsonw_str(&w, "video", e->videos.item[i].path);
            jsonw_str(&w, "code", e->measured[i].code);
            jsonw_str(&w, "why", e->measured[i].why);
            jsonw_close(&w);
        }
    return jsonw_finish(&w, &out, "the list of rejected videos", err) < 0 ? NULL : out;
}

static void csv_line(FILE *out, const Evaluation *e, int64_t i)
{
    static const char *const status[] = {"", "measured", "rejected"};
    const VideoItem *v = &e->videos.item[i];
    const Measured *m = &e->measured[i];
    csv_put_text(out, v->id);
    putc(',', out);
    csv_put_text(out, v->path);
    putc(',', out);
    csv_put_text(out, v->prompt);
    putc(',', out);
    csv_put_text(out, v->category);
    putc(',', out);
    if (v->seed >= 0)
        fprintf(out, "%" PRId64, v->seed);
    fprintf(out, ",%s", status[m->done]);
    if (m->done == 1)
        fprintf(out, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%.6g", m->f.frames, m->f.width, m->f.height, m->fps);
    else
        fputs(",,,,", out);
    for (int k = 0; figure_kinds[k].name; k++)
        csv_put_number(out, value_of(m, k));
    csv_put_number(out, value_of(m, -1));
    if (m->done == 1)
        fprintf(out, ",%" PRId64 ",%" PRId64 ",%d,", m->f.ssim_min_at, m->f.equal_pairs, evaluation_near_static(e, i));
    else
        fputs(",,,,", out);
    csv_put_text(out, m->why);
    putc('\n', out);
}

int evaluation_write_csv(const Evaluation *e, const char *path, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fputs("id,video,prompt,category,seed,status,frames,width,height,fps", out);
    for (int k = 0; figure_kinds[k].name; k++)
        fprintf(out, ",%s", figure_kinds[k].name);
    fputs(",colours,ssim_min_at,equal_pairs,near_static,why\n", out);
    for (int64_t i = 0; i < e->videos.n; i++)
        csv_line(out, e, i);
    return atomic_commit(&f, err);
}

int evaluation_write_clip_scores(const Evaluation *e, const char *path, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fputs("id,video,prompt", out);
    for (int k = 0; k < NET_FIGURES; k++)
        fprintf(out, ",%s", net_figure_kinds[k].name);
    fputs(",tokens_cut\n", out);
    for (int64_t i = 0; i < e->videos.n; i++) {
        const VideoItem *v = &e->videos.item[i];
        csv_put_text(out, v->id);
        putc(',', out);
        csv_put_text(out, v->path);
        putc(',', out);
        csv_put_text(out, v->prompt);
        for (int k = 0; k < NET_FIGURES; k++)
            csv_put_number(out, e->measured[i].done == 1 ? net_figure(e->features, i, (NetFigure)k) : NAN);
        fprintf(out, ",%" PRId64 "\n", net_tokens_cut(e->features, i));
    }
    return atomic_commit(&f, err);
}
