/* From figures to a verdict, and to JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/picture/quality.h"

Reason quality_reason(QualityCode c)
{
    static const Reason reasons[QUALITY_CODES] = {
#define REASON(...)
#define QUALITY_REASON(id, ...) [QUALITY_##id] = REASON_##id,
#include "prep/reasons.def"
    };
    return reasons[c];
}

static OnFound found(const Recipe *r, const char *path)
{
    const char *s = recipe_str(r, path);
    return strcmp(s, "reject") == 0                            ? FOUND_REJECT
           : strcmp(s, "move") == 0 || strcmp(s, "split") == 0 ? FOUND_MOVE
           : strcmp(s, "warn") == 0                            ? FOUND_WARN
                                                               : FOUND_IGNORE;
}

void quality_limits(QualityLimits *out, const Recipe *r)
{
    *out = (QualityLimits){.warn_only = strcmp(recipe_str(r, "quality.mode"), "warn") == 0,
                           .blur_reject = recipe_num(r, "quality.blur_reject"),
                           .blur_warn = recipe_num(r, "quality.blur_warn"),
                           .noise_warn = recipe_num(r, "quality.noise_warn"),
                           .dark_reject = recipe_num(r, "quality.dark_reject"),
                           .dark_warn = recipe_num(r, "quality.dark_warn"),
                           .bright_warn = recipe_num(r, "quality.bright_warn"),
                           .bright_reject = recipe_num(r, "quality.bright_reject"),
                           .flat_reject = recipe_num(r, "quality.flat_reject"),
                           .black_level = recipe_num(r, "quality.black_level"),
                           .black_share = recipe_num(r, "quality.black_share"),
                           .frozen_change = recipe_num(r, "quality.frozen_change"),
                           .frozen_reject = recipe_num(r, "quality.frozen_reject"),
                           .frozen_warn = recipe_num(r, "quality.frozen_warn"),
                           .motion_warn = recipe_num(r, "quality.motion_warn"),
                           .cut_change = recipe_num(r, "quality.cut_change"),
                           .cut_ratio = recipe_num(r, "quality.cut_ratio"),
                           .cut_correlation = recipe_num(r, "quality.cut_correlation"),
                           .enlarge_warn = recipe_num(r, "quality.enlarge_warn"),
                           .duplicate_colour = recipe_num(r, "quality.duplicate_colour"),
                           .visible_reject = recipe_num(r, "quality.visible_reject"),
                           .visible_warn = recipe_num(r, "quality.visible_warn"),
                           .frozen_run = recipe_int(r, "quality.frozen_run"),
                           .duplicate_bits = recipe_int(r, "quality.duplicate_bits"),
                           .black_frames = found(r, "quality.black_frames"),
                           .scene_cut = found(r, "quality.scene_cut"),
                           .duplicates = found(r, "quality.duplicates")};
}

/* ---- statistics ------------------------------------------------------------------------------ */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. */
static double median(double *v, int64_t n)
{
    if (n == 0)
        return 0;
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double median_change(const FrameFigures *f, int64_t n, double *scratch)
{
    for (int64_t k = 1; k < n; k++)
        scratch[k - 1] = f[k].change;
    return median(scratch, n - 1);
}

static int jumps(const FrameFigures *f, double middle, const QualityLimits *l)
{
    return (f->change > l->cut_change && f->change > l->cut_ratio * middle) || f->correlation < l->cut_correlation;
}

enum {
    FLASH_FRAMES = 3,      /* at most; of a camera's flash at 8 pictures a second one or two are lit */
    FLASH_LEVELS = 24,     /* of luma, by which they are brighter than those around them */
    FLASH_SAME_BITS = 10,  /* of 64 that may differ in the hashes of the pictures around it */
    FLASH_SAME_LEVELS = 10 /* by which their mean colours may differ */
};

static int same_scene(const FrameFigures *a, const FrameFigures *b)
{
    int bits = 0;
    for (uint64_t x = a->dhash ^ b->dhash; x; x &= x - 1)
        bits++;
    int same = bits <= FLASH_SAME_BITS;
    for (int c = 0; c < 3; c++)
        same = same && fabs(a->rgb[c] - b->rgb[c]) <= FLASH_SAME_LEVELS;
    return same;
}

/* Whether the change into frame k is one into, inside or out of a flash: a few brighter frames,
 * with the same scene before and after them.  A cut stays; a flash is over. */
static int is_flash(const FrameFigures *f, int64_t n, int64_t k)
{
    for (int64_t first = k > FLASH_FRAMES ? k - FLASH_FRAMES : 1; first <= k; first++) {
        double bright = INFINITY;
        for (int64_t after = first + 1; after <= first + FLASH_FRAMES && after < n; after++) {
            const FrameFigures *was = &f[first - 1], *is = &f[after];
            bright = f[after - 1].luma < bright ? f[after - 1].luma : bright;
            if (after >= k && bright > was->luma + FLASH_LEVELS && bright > is->luma + FLASH_LEVELS &&
                same_scene(was, is))
                return 1;
        }
    }
    return 0;
}

/* Whether a new shot begins at frame k > 0 of f[n]. */
static int is_cut(const FrameFigures *f, int64_t n, int64_t k, double middle, const QualityLimits *l)
{
    return jumps(&f[k], middle, l) && !is_flash(f, n, k);
}

static double frozen_share(const FrameFigures *f, int64_t n, const QualityLimits *l)
{
    int64_t frozen = 0, run = 0;
    for (int64_t k = 1; k < n; k++) {
        run = f[k].change < l->frozen_change ? run + 1 : 0;
        frozen += run == l->frozen_run ? run : run > l->frozen_run;
    }
    return n > 1 ? (double)frozen / (double)(n - 1) : 0;
}

static void summarise(Verdict *v, const FrameFigures *f, int64_t n, const QualityLimits *l, double *scratch)
{
    v->first_black = v->first_cut = -1;
    for (int64_t k = 0; k < n; k++) {
        for (int c = 0; c < 3; c++)
            v->mean_rgb[c] += f[k].rgb[c] / (double)n;
        v->luma += f[k].luma / (double)n;
        v->std += f[k].std / (double)n;
        if (f[k].black >= l->black_share && v->black++ == 0)
            v->first_black = k;
        v->correlation = k == 0 || f[k].correlation < v->correlation ? f[k].correlation : v->correlation;
        v->change_mean += k ? f[k].change / (double)(n - 1) : 0;
        scratch[k] = f[k].laplacian;
    }
    v->sharpness = median(scratch, n);
    for (int64_t k = 0; k < n; k++)
        scratch[k] = f[k].std > 0 ? f[k].laplacian / (f[k].std * f[k].std) : 0;
    v->texture = median(scratch, n);
    for (int64_t k = 0; k < n; k++)
        scratch[k] = f[k].visible;
    v->visible_median = median(scratch, n);
    v->visible_min = scratch[0];
    v->change_median = median_change(f, n, scratch);
    v->change_min = n > 1 ? scratch[0] : 0;
    v->change_max = n > 1 ? scratch[n - 2] : 0;
    for (int64_t k = 1; k < n; k++)
        if (is_cut(f, n, k, v->change_median, l) && v->cuts++ == 0)
            v->first_cut = k;
    v->frozen = frozen_share(f, n, l);
}

int quality_judge(const FrameFigures *f, int64_t n, double enlarged, const QualityLimits *l, Verdict *v, Err *err)
{
    double *scratch = mem_calloc(n, sizeof *scratch, err);
    if (!scratch)
        return ERR_NOMEM;
    *v = (Verdict){.enlarged = enlarged};
    summarise(v, f, n, l, scratch);
    mem_free(scratch);
    const struct {
        QualityCode code;
        int reject, warn;
    } rules[] = {
        {QUALITY_DARK, v->luma < l->dark_reject, v->luma < l->dark_warn},
        {QUALITY_BRIGHT, v->luma > l->bright_reject, v->luma > l->bright_warn},
        {QUALITY_FLAT, v->std < l->flat_reject, 0},
        {QUALITY_BLACK, v->black && l->black_frames != FOUND_IGNORE, 0},
        {QUALITY_CUT, v->cuts && l->scene_cut != FOUND_IGNORE, 0},
        {QUALITY_FROZEN, v->frozen > l->frozen_reject, v->frozen > l->frozen_warn},
        {QUALITY_BLUR, v->sharpness < l->blur_reject, v->sharpness < l->blur_warn},
        {QUALITY_NOISE, 0, v->sharpness > l->noise_warn},
        {QUALITY_STILL, 0, v->change_mean < l->motion_warn},
        {QUALITY_ENLARGED, 0, v->enlarged > l->enlarge_warn},
        {QUALITY_VISIBLE, v->visible_median < l->visible_reject, v->visible_median < l->visible_warn},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        int reject = rules[i].reject && !l->warn_only;
        v->reject |= (unsigned)reject << rules[i].code;
        v->warn |= (unsigned)(!reject && (rules[i].reject || rules[i].warn)) << rules[i].code;
    }
    return 0;
}

void quality_sentence(const Verdict *v, QualityCode code, const QualityLimits *l, int rejected, char *text, size_t size)
{
    switch (code) {
    case QUALITY_DARK:
        snprintf(text, size, "mean luma %.1f is below %g (quality.dark_%s)", v->luma,
                 rejected ? l->dark_reject : l->dark_warn, rejected ? "reject" : "warn");
        break;
    case QUALITY_BRIGHT:
        snprintf(text, size, "mean luma %.1f is above %g (quality.bright_%s)", v->luma,
                 rejected ? l->bright_reject : l->bright_warn, rejected ? "reject" : "warn");
        break;
    case QUALITY_FLAT:
        snprintf(text, size, "luma's standard deviation %.2f is below %g (quality.flat_reject)", v->std,
                 l->flat_reject);
        break;
    case QUALITY_BLACK:
        snprintf(text, size, "%" PRId64 " black frame%s, the first is output frame %" PRId64 "%s", v->black,
                 str_plural(v->black), v->first_black,
                 l->black_frames == FOUND_MOVE ? "; no window without one was found" : "");
        break;
    case QUALITY_CUT:
        snprintf(text, size, "%" PRId64 " scene cut%s, the first at output frame %" PRId64 "%s", v->cuts,
                 str_plural(v->cuts), v->first_cut,
                 l->scene_cut == FOUND_MOVE ? "; no window without one was found"
                                            : " (quality.scene_cut=split looks for another window)");
        break;
    case QUALITY_FROZEN:
        snprintf(
            text, size, "%.0f %% of the frames stand still for %" PRId64 " or more in a row; quality.frozen_%s is %g",
            100 * v->frozen, l->frozen_run, rejected ? "reject" : "warn", rejected ? l->frozen_reject : l->frozen_warn);
        break;
    case QUALITY_BLUR:
        snprintf(text, size, "sharpness (variance of the Laplacian) %.2f is below %g (quality.blur_%s)", v->sharpness,
                 rejected ? l->blur_reject : l->blur_warn, rejected ? "reject" : "warn");
        break;
    case QUALITY_NOISE:
        snprintf(text, size, "variance of the Laplacian %.0f is above %g (quality.noise_warn): noise", v->sharpness,
                 l->noise_warn);
        break;
    case QUALITY_STILL:
        snprintf(text, size, "mean change %.3f is below %g (quality.motion_warn)", v->change_mean, l->motion_warn);
        break;
    case QUALITY_ENLARGED:
        snprintf(text, size, "the source is enlarged %.2f times (quality.enlarge_warn is %g)", v->enlarged,
                 l->enlarge_warn);
        break;
    case QUALITY_VISIBLE:
        snprintf(text, size,
                 "in half of the frames %.1f %% of the picture or less differs from the %s; quality.visible_%s is %g",
                 100 * v->visible_median,
                 v->visible_method == VISIBLE_PLAIN ? "plain background" : "background that stands still",
                 rejected ? "reject" : "warn", rejected ? l->visible_reject : l->visible_warn);
        break;
    case QUALITY_CODES: break;
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */
/* Four decimals: enough to judge by, and kind to the manifest's size. */
static double rounded(double x)
{
    return floor(x * 1e4 + 0.5) / 1e4;
}

static void put_series(JsonWriter *w, const char *key, const FrameFigures *f, int64_t n, size_t member)
{
    jsonw_open_array(w, key);
    for (int64_t k = 0; k < n; k++)
        jsonw_num(w, NULL, rounded(*(const double *)((const char *)&f[k] + member)));
    jsonw_close(w);
}

static void put_codes(JsonWriter *w, const char *key, unsigned bits)
{
    jsonw_open_array(w, key);
    for (int c = 0; c < QUALITY_CODES; c++)
        if (bits >> c & 1)
            jsonw_str(w, NULL, reason_code(quality_reason((QualityCode)c)));
    jsonw_close(w);
}

static void put_cuts(JsonWriter *w, const FrameFigures *f, int64_t n, const Verdict *v, const QualityLimits *l)
{
    jsonw_open_array(w, "cuts");
    for (int64_t k = 1; k < n; k++)
        if (is_cut(f, n, k, v->change_median, l))
            jsonw_int(w, NULL, k);
    jsonw_close(w);
}

static void put_colour(JsonWriter *w, const char *key, const double rgb[3])
{
    jsonw_open_array(w, key);
    for (int c = 0; c < 3; c++)
        jsonw_num(w, NULL, rgb[c]);
    jsonw_close(w);
}

static void put_hashes(JsonWriter *w, const FrameFigures *f, int64_t n)
{
    const int64_t at[3] = {0, n / 2, n - 1};
    jsonw_open_array(w, "hashes");
    for (int i = 0; i < 3; i++) {
        char hex[17];
        snprintf(hex, sizeof hex, "%016" PRIx64, f[at[i]].dhash);
        jsonw_str(w, NULL, hex);
    }
    jsonw_close(w);
}

static void put_change(JsonWriter *w, const Verdict *v)
{
    jsonw_open(w, "change");
    jsonw_num(w, "min", v->change_min);
    jsonw_num(w, "median", v->change_median);
    jsonw_num(w, "max", v->change_max);
    jsonw_num(w, "mean", v->change_mean);
    jsonw_close(w);
}

static void put_visible(JsonWriter *w, const Verdict *v)
{
    jsonw_open(w, "visible");
    jsonw_str(w, "method", v->visible_method == VISIBLE_PLAIN ? "plain" : "moving");
    jsonw_num(w, "min", v->visible_min);
    jsonw_num(w, "median", v->visible_median);
    if (v->visible_found)
        put_colour(w, "rgb", v->visible_rgb);
    else
        jsonw_null(w, "rgb");
    jsonw_close(w);
}

static void put_frames(JsonWriter *w, const FrameFigures *f, int64_t n)
{
    jsonw_open(w, "frames");
    put_series(w, "luma", f, n, offsetof(FrameFigures, luma));
    put_series(w, "luma_std", f, n, offsetof(FrameFigures, std));
    put_series(w, "laplacian", f, n, offsetof(FrameFigures, laplacian));
    put_series(w, "black", f, n, offsetof(FrameFigures, black));
    put_series(w, "change", f, n, offsetof(FrameFigures, change));
    put_series(w, "correlation", f, n, offsetof(FrameFigures, correlation));
    put_series(w, "visible", f, n, offsetof(FrameFigures, visible));
    jsonw_close(w);
}

json_t *quality_json(const FrameFigures *f, int64_t n, const Verdict *v, const QualityLimits *l, int64_t duplicates,
                     int moved)
{
    JsonWriter w;
    json_t *out;
    jsonw_begin(&w);
    jsonw_str(&w, "verdict", v->reject ? "reject" : v->warn ? "warn" : "ok");
    put_codes(&w, "reject_codes", v->reject);
    put_codes(&w, "warn_codes", v->warn);
    put_colour(&w, "mean_rgb", v->mean_rgb);
    jsonw_num(&w, "mean_luma", v->luma);
    jsonw_num(&w, "luma_std", v->std);
    jsonw_num(&w, "sharpness", v->sharpness);
    jsonw_num(&w, "texture", v->texture);
    jsonw_int(&w, "black_frames", v->black);
    put_change(&w, v);
    jsonw_num(&w, "frozen", v->frozen);
    jsonw_num(&w, "correlation", v->correlation);
    put_cuts(&w, f, n, v, l);
    jsonw_int(&w, "duplicates", duplicates);
    jsonw_num(&w, "enlarged", v->enlarged);
    jsonw_bool(&w, "window_moved", moved);
    put_hashes(&w, f, n);
    put_visible(&w, v);
    put_frames(&w, f, n);
    return jsonw_finish(&w, &out, "the quality figures", NULL) < 0 ? NULL : out;
}

/* ---- another window -------------------------------------------------------------------------- */
static int clean(const FrameFigures *f, const uint8_t *bad, int64_t count, const QualityLimits *l, double *scratch)
{
    for (int64_t k = 0; k < count; k++)
        if (bad[k] || (l->black_frames != FOUND_IGNORE && f[k].black >= l->black_share))
            return 0;
    double middle = median_change(f, count, scratch);
    for (int64_t k = 1; k < count; k++)
        if (l->scene_cut != FOUND_IGNORE && is_cut(f, count, k, middle, l))
            return 0;
    return 1;
}

int quality_clean_window(const FrameFigures *f, const uint8_t *bad, int64_t n, int64_t count, int64_t wanted,
                         const QualityLimits *l, int64_t *start, Err *err)
{
    double *scratch = mem_calloc(count, sizeof *scratch, err);
    if (!scratch)
        return ERR_NOMEM;
    *start = -1;
    for (int64_t far = 0; far <= n && *start < 0; far++)
        for (int side = 0; side < 2 && *start < 0; side++) {
            int64_t s = side ? wanted + far : wanted - far;
            if (s >= 0 && s + count <= n && clean(f + s, bad + s, count, l, scratch))
                *start = s;
        }
    mem_free(scratch);
    return 0;
}
