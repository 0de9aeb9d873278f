#include "infer/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/confine.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/base/worker.h"
#include "common/media/video.h"

typedef struct Run {
    Measuring *m;
    Progress *progress;
    VideoLimits limits;
} Run;

/* ---- in the worker process -------------------------------------------------------------------- */
static int reject(json_t **out, const char *code, const char *why, Err *err)
{
    char shown[ERR_MSG_MAX];
    JsonWriter w;
    str_escape(shown, sizeof shown, why, 0);
    jsonw_begin(&w);
    jsonw_str(&w, "rejected", code);
    jsonw_str(&w, "why", shown);
    return jsonw_finish(&w, out, "why a video is rejected", err);
}

/* All frames through the meter, and what the networks need of them.  *last: the last frame's time. */
static int read_frames(const Measuring *m, int64_t i, VideoReader *r, VideoMeter *meter, int64_t width, int64_t height,
                       double *last, Err *cause)
{
    int64_t k = 0;
    VideoFrame f;
    FitPlan plan = fit_plan(video_info(r), width, height, FIT_STRETCH, 0.5, 0.5);
    uint8_t *rgb = mem_calloc(width * height, 3, cause);
    int rc = rgb ? 0 : ERR_NOMEM;
    while (rc == 0 && (rc = video_next(r, &f, cause)) == 1) {
        *last = rational_value(f.time);
        rc = video_to_rgb(r, &f, &plan, rgb, cause);
        if (rc == 0)
            rc = video_meter_add(meter, rgb, cause);
        if (rc == 0 && m->features)
            rc = net_take_frame(m->features, i, k, rgb, height, width, cause);
        k++;
    }
    mem_free(rgb);
    return rc;
}

static void put_number(JsonWriter *w, const char *key, double x)
{
    if (isfinite(x))
        jsonw_num(w, key, x);
    else
        jsonw_null(w, key);
}

static int figures_json(const VideoMeter *meter, double last, json_t **out, Err *err)
{
    VideoFigures f;
    JsonWriter w;
    double colours[COLOUR_BINS];
    int rc = video_meter_finish(meter, &f, err);
    if (rc < 0)
        return rc;
    video_meter_colours(meter, colours);
    jsonw_begin(&w);
    jsonw_int(&w, "frames", f.frames);
    jsonw_int(&w, "width", f.width);
    jsonw_int(&w, "height", f.height);
    jsonw_num(&w, "fps", f.frames > 1 && last > 0 ? (double)(f.frames - 1) / last : 0);
    jsonw_int(&w, "ssim_min_at", f.ssim_min_at);
    jsonw_int(&w, "equal_pairs", f.equal_pairs);
    jsonw_open_array(&w, "figures");
    for (const FigureKind *kind = figure_kinds; kind->name; kind++)
        put_number(&w, NULL, figure_value(&f, kind));
    jsonw_close(&w);
    jsonw_open_array(&w, "colours");
    for (int i = 0; i < COLOUR_BINS; i++)
        jsonw_num(&w, NULL, colours[i]);
    jsonw_close(&w);
    return jsonw_finish(&w, out, "a video's figures", err);
}

/* What the counts say against a video whose frames could all be read; NULL: nothing. */
static const char *fault(const VideoReader *r, double last, char *why, size_t size)
{
    const VideoInfo *info = video_info(r);
    VideoCounts counts = video_counts(r), *c = &counts;
    /* as weft-prep judges: both what the container counts and its length must be missed by a twentieth */
    int fewer = info->frames_hint > 0 && (double)c->frames < 0.95 * (double)info->frames_hint;
    int shorter = info->duration_s > 0 && c->frames > 1 && last < 0.95 * (info->duration_s - last / (double)c->frames);
    int cut = (fewer || info->frames_hint <= 0) && (shorter || info->duration_s <= 0) && (fewer || shorter);
    if (c->frames == 0) {
        snprintf(why, size, "it has no frames");
        return "unreadable";
    }
    if (c->damaged_frames || c->refused_packets || c->before_key) {
        snprintf(why, size, "%" PRId64 " of its %" PRId64 " frames are damaged or missing",
                 c->damaged_frames + c->refused_packets + c->before_key, c->frames);
        return "damaged";
    }
    if (c->ended_early || cut) {
        snprintf(why, size, "the file is shorter than it says: it was cut off after %" PRId64 " frames", c->frames);
        return "cut_short";
    }
    return NULL;
}

/* limits.file_mb. */
static int check_size(const Run *r, const char *path, Err *err)
{
    struct stat st;
    int64_t most = recipe_int(r->m->recipe, "limits.file_mb") << 20;
    if (stat(path, &st) == 0 && st.st_size > most)
        return err_set(err, ERR_LIMIT, "'%s' has %" PRId64 " bytes, more than limits.file_mb allows", path,
                       (int64_t)st.st_size);
    return 0;
}

static int measure(const Run *r, int64_t i, json_t **out, Err *err)
{
    VideoReader *reader = NULL;
    VideoMeter *meter = NULL;
    Err cause = {0};
    double last = 0;
    char why[160];
    const char *code = NULL;
    int rc = check_size(r, r->m->videos->item[i].path, &cause);
    if (rc < 0)
        code = "too_large";
    else if ((rc = video_open(&reader, r->m->videos->item[i].path, &r->limits, &cause)) == 0) {
        const VideoInfo *info = video_info(reader);
        int64_t width = info->display_width, height = info->display_height;
        if (info->hdr != VIDEO_SDR && info->hdr != VIDEO_HDR_METADATA)
            code = "hdr";
        rc = video_meter_new(&meter, width, height, &cause);
        if (rc == 0)
            rc = read_frames(r->m, i, reader, meter, width, height, &last, &cause);
    }
    if (rc == ERR_NOMEM)
        err_set(err, rc, "%s", cause.msg);
    else if (rc < 0)
        rc = reject(out, code ? code : "unreadable", cause.msg, err);
    else {
        code = fault(reader, last, why, sizeof why);
        rc = code ? reject(out, code, why, err) : figures_json(meter, last, out, err);
    }
    video_meter_free(&meter);
    video_close(&reader);
    return rc;
}

static int work(void *user, int64_t i, json_t **out, Err *err)
{
    const Run *r = user;
    const char *path = r->m->videos->item[i].path;
    int rc = confine_process(&(ConfineRules){(const char *[]){path, NULL}, NULL}, err);
    return rc < 0 ? rc : measure(r, i, out, err);
}

void measured_why(char *text, size_t size, const char *path, const char *why)
{
    if (strstr(why, path))
        snprintf(text, size, "%s", why);
    else
        snprintf(text, size, "'%s': %s", path, why);
}

/* ---- in the parent ---------------------------------------------------------------------------- */
static int note_rejected(Run *r, int64_t i, const char *code, const char *why, Err *err)
{
    Measured *out = &r->m->out[i];
    char text[ERR_MSG_MAX];
    out->done = 2;
    snprintf(out->code, sizeof out->code, "%s", code);
    r->m->rejected++;
    measured_why(text, sizeof text, r->m->videos->item[i].path, why);
    log_warn(r->m->log, "not measured: %s", text);
    return (out->why = mem_strdup(why, err)) ? 0 : ERR_NOMEM;
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* A figure that is null is NAN. */
static double element(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void note_figures(Run *r, int64_t i, const json_t *o)
{
    Measured *out = &r->m->out[i];
    double colours[COLOUR_BINS];
    const json_t *bins = json_object_get(o, "colours"), *figures = json_object_get(o, "figures");
    out->done = 1;
    out->fps = json_number_value(json_object_get(o, "fps"));
    out->f = (VideoFigures){.frames = whole(o, "frames"),
                            .width = whole(o, "width"),
                            .height = whole(o, "height"),
                            .ssim_min_at = whole(o, "ssim_min_at"),
                            .equal_pairs = whole(o, "equal_pairs")};
    for (size_t k = 0; figure_kinds[k].name; k++)
        *(double *)((char *)&out->f + figure_kinds[k].offset) = element(figures, k);
    for (size_t k = 0; k < COLOUR_BINS; k++) {
        colours[k] = element(bins, k);
        if (r->m->histogram)
            r->m->histogram[k] += floor(colours[k] * 0x1p32 + 0.5); /* whole numbers: the order is the same */
    }
    out->colours = r->m->reference ? image_colour_distance(colours, r->m->reference) : NAN;
    r->m->measured++;
    r->m->single_frame += out->f.frames == 1;
}

static int done(void *user, int64_t i, const json_t *o, const char *code, const char *text, Err *err)
{
    Run *r = user;
    int rc = 0;
    if (!o)
        rc = note_rejected(r, i, code, text, err);
    else if (json_object_get(o, "rejected"))
        rc = note_rejected(r, i, json_string_value(json_object_get(o, "rejected")),
                           json_string_value(json_object_get(o, "why")), err);
    else
        note_figures(r, i, o);
    if (r->m->features && r->m->out[i].done == 1)
        rc = net_run(r->m->features, i, r->m->videos->item[i].prompt, err);
    else if (r->m->features)
        net_drop(r->m->features, i);
    progress_step(r->progress, r->m->measured + r->m->rejected, NULL);
    return rc;
}

static int stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

int measure_videos(Measuring *m, Err *err)
{
    Run r = {.m = m};
    int64_t pixels = recipe_int(m->recipe, "limits.pixels"), wall = recipe_int(m->recipe, "limits.wall_seconds");
    r.limits = (VideoLimits){
        .max_pixels = pixels, .max_frames = recipe_int(m->recipe, "limits.frames"), .max_seconds = (double)wall};
    Workers w = {.jobs = m->jobs < 1 ? 1 : m->jobs,
                 .limits = {.cpu_s = recipe_int(m->recipe, "limits.cpu_seconds"),
                            .wall_s = wall,
                            .memory_bytes = recipe_int(m->recipe, "limits.memory_mb") << 20},
                 .user = &r,
                 .work = work,
                 .done = done,
                 .stop = stop};
    if (!confine_available())
        log_warn_once(m->log, CONFINE_MISSING);
    r.progress = progress_start(m->log, m->what, "videos", m->videos->n);
    int rc = workers_run(&w, m->videos->n, err);
    progress_end(&r.progress);
    if (rc == 0 && interrupt_requested())
        rc = err_set(err, ERR_INTERRUPTED, "interrupted after %" PRId64 " of %" PRId64 " %s; nothing was written",
                     m->measured + m->rejected, m->videos->n, m->what);
    return rc;
}

void histogram_normalise(double *histogram)
{
    double sum = 0;
    for (int i = 0; i < COLOUR_BINS; i++)
        sum += histogram[i];
    for (int i = 0; i < COLOUR_BINS && sum > 0; i++)
        histogram[i] /= sum;
}

void measured_free(Measured **out, int64_t n)
{
    for (int64_t i = 0; *out && i < n; i++)
        mem_free((*out)[i].why);
    mem_free(*out);
    *out = NULL;
}
