/* The second pass: the chosen frames as pixels, measured, judged, hashed and written. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/picture/evening.h"

enum { SURVEY_POINTS_MAX = 1 << 16 };

typedef struct Make {
    Work *w;
    const Pick *picks; /* [n] */
    int64_t n, k;      /* output frames wanted, made */
    VideoWriter *out;  /* NULL: only measured */
    Contact *contact;  /* NULL: none */
    Visible *visible;  /* NULL: not looked for */
    uint8_t *rgb;      /* [height,width,3] */
    int64_t bytes;
    Meter *meter;
    FrameFigures *figures; /* [n] */
    Sha256 sha;
    int64_t duplicates;
    Evening *measured;   /* not NULL: the pictures are only looked at for it */
    const Evening *even; /* not NULL: applied to every picture */
} Make;

static int make_open(Make *m, Work *w, const Pick *picks, int64_t n, Err *err)
{
    const PrepConfig *c = w->cfg;
    *m = (Make){.w = w, .picks = picks, .n = n, .bytes = c->width * c->height * 3};
    m->rgb = mem_alloc_aligned(m->bytes, err);
    m->figures = mem_calloc(n, sizeof *m->figures, err);
    if (!m->rgb || !m->figures)
        return ERR_NOMEM;
    int rc = meter_open(&m->meter, c->width, c->height, c->quality.black_level, err);
    return rc < 0 ? rc : sha256_init(&m->sha, err);
}

static void make_close(Make *m)
{
    video_abort(&m->out);
    contact_close(&m->contact);
    visible_close(&m->visible);
    meter_close(&m->meter);
    sha256_fini(&m->sha);
    mem_free_aligned(m->rgb);
    mem_free(m->figures);
}

/* The picture in m->rgb stands for every output frame that chose source frame `index`. */
static int use_frame(Make *m, int64_t index, Err *err)
{
    if (m->measured)
        evening_add(m->measured, m->rgb, m->bytes / 3);
    if (m->even)
        evening_apply(m->even, m->rgb, m->bytes / 3);
    for (int first = 1; m->k < m->n && m->picks[m->k].index == index; m->k++, first = 0) {
        FrameFigures *f = &m->figures[m->k];
        if (m->measured)
            continue;
        if (first) {
            meter_add(m->meter, m->rgb, f);
        } else {
            *f = f[-1];
            f->change = 0;
            f->correlation = 1;
        }
        if (m->visible && first)
            visible_add(m->visible, m->rgb);
        else if (m->visible)
            visible_repeat(m->visible);
        m->duplicates += !first;
        if (m->contact)
            contact_add(m->contact, m->k, m->n, m->rgb, m->w->cfg->width, m->w->cfg->height);
        if (!m->out)
            continue;
        sha256_update(&m->sha, m->rgb, m->bytes);
        int rc = video_write(m->out, m->rgb, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* From the pictures of the first pass: 1 when they are those the window chose, 0 when they are not,
 * negative. */
static int convert_early(Make *m, Err *err)
{
    const Early *e = &m->w->early;
    int64_t frames = 0;
    for (int64_t k = 0; k < m->n; k++) {
        frames += k > 0 && m->picks[k].index != m->picks[k - 1].index;
        if (frames >= e->n || e->index[frames] != m->picks[k].index)
            return 0;
    }
    for (int64_t i = 0; i <= frames; i++) {
        memcpy(m->rgb, e->rgb + i * m->bytes, (size_t)m->bytes);
        int rc = use_frame(m, e->index[i], err);
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* 0, 1 rejected, negative. */
static int convert(Make *m, Err *err)
{
    Work *w = m->w;
    FrameReader *r;
    const VideoLimits limits = clip_limits(w->cfg);
    FrameMark mark;
    Err cause = {0};
    int rc = convert_early(m, err);
    if (rc)
        return rc < 0 ? rc : 0;
    rc = frame_reader_open(&r, w->path, w->src->kind, w->rate, &limits, &cause);
    int failed = rc;
    while (!failed && m->k < m->n && (rc = frame_reader_next(r, &mark, &cause)) == 1) {
        if (mark.index != m->picks[m->k].index)
            continue;
        failed = frame_reader_rgb(r, &w->fit, m->rgb, &cause);
        if (!failed && (rc = use_frame(m, mark.index, err)) < 0) {
            frame_reader_close(&r);
            return rc;
        }
    }
    frame_reader_close(&r);
    if (!failed && rc < 0)
        failed = rc;
    if (failed)
        return clip_reject_error(w, err, failed, &cause, REASON_DAMAGED);
    if (m->k < m->n)
        return clip_reject(w, err, REASON_CHANGED, "the source changed while it was read: frame %lld is gone",
                           (long long)m->picks[m->k].index);
    return 0;
}

/* ---- the verdict ----------------------------------------------------------------------------- */
static double enlarged(const Work *w)
{
    const VideoInfo *v = &w->scan.info;
    const int64_t *part = w->part;
    double x = (double)w->fit.scaled_width / (double)(part[2] ? part[2] : v->display_width);
    double y = (double)w->fit.scaled_height / (double)(part[2] ? part[3] : v->display_height);
    return x > y ? x : y;
}

static int judge_figures(Make *m, Verdict *v, Err *err)
{
    double *visible = mem_calloc(m->n, sizeof *visible, err);
    if (!visible)
        return ERR_NOMEM;
    VisibleMethod method = visible_find(m->visible, visible);
    for (int64_t k = 0; k < m->n; k++)
        m->figures[k].visible = visible[k];
    mem_free(visible);
    int rc = quality_judge(m->figures, m->n, enlarged(m->w), &m->w->cfg->quality, v, err);
    v->visible_method = method;
    v->visible_found = visible_colour(m->visible, v->visible_rgb);
    return rc;
}

/* Figures and warnings into the record; 1 when the clip is rejected. */
static int judge(Make *m, const Verdict *v, Err *err)
{
    Work *w = m->w;
    const QualityLimits *l = &w->cfg->quality;
    char text[256];
    int rc = clip_put(w, "quality", quality_json(m->figures, m->n, v, l, m->duplicates, w->moved), err);
    for (int c = 0; c < QUALITY_CODES && rc == 0; c++)
        if (v->warn >> c & 1) {
            quality_sentence(v, (QualityCode)c, l, 0, text, sizeof text);
            rc = clip_warn(w, err, quality_reason((QualityCode)c), "%s", text);
        }
    for (int c = 0; c < QUALITY_CODES && rc == 0; c++)
        if (v->reject >> c & 1) {
            quality_sentence(v, (QualityCode)c, l, 1, text, sizeof text);
            return clip_reject(w, err, quality_reason((QualityCode)c), "%s", text);
        }
    return rc;
}

static int wants_another(const Work *w, const Verdict *v)
{
    const QualityLimits *l = &w->cfg->quality;
    if (v->black && l->black_frames == FOUND_REJECT)
        return 0;
    return !w->moved && !w->several && !w->held && w->points > w->cfg->frames && w->points <= SURVEY_POINTS_MAX &&
           ((v->black && l->black_frames == FOUND_MOVE) || (v->cuts && l->scene_cut == FOUND_MOVE));
}

/* Measures the whole source and moves the window to the nearest clean place: 2 moved, 0 there is
 * none, 1 rejected, negative. */
static int survey(Work *w, Err *err)
{
    Make m = {0};
    int64_t n = w->points, start = -1, first = w->scan.first;
    Pick *picks = mem_calloc(n, sizeof *picks, err);
    uint8_t *bad = mem_calloc(n, 1, err);
    int rc = picks && bad ? 0 : ERR_NOMEM;
    if (rc == 0) {
        choose_frames(w->scan.times + first, w->scan.used, w->cfg->fps, 0, n, picks);
        for (int64_t k = 0; k < n; k++) {
            picks[k].index += first;
            bad[k] = w->scan.damaged[picks[k].index] || fabs(picks[k].error_s) > clip_time_limit(w);
        }
        rc = make_open(&m, w, picks, n, err);
    }
    if (rc == 0 && (rc = convert(&m, err)) == 0 &&
        (rc = quality_clean_window(m.figures, bad, n, w->cfg->frames, w->start, &w->cfg->quality, &start, err)) == 0 &&
        start >= 0) {
        int64_t from = w->start;
        w->moved = 1;
        rc = clip_window(w, start, err);
        if (rc == 0)
            rc = clip_warn(w, err, REASON_WINDOW_MOVED,
                           "the window begins at output frame %lld instead of %lld, clear of black frames and cuts",
                           (long long)start, (long long)from);
        rc = rc ? rc : 2;
    }
    make_close(&m);
    mem_free(picks);
    mem_free(bad);
    return rc;
}

/* ---- the file -------------------------------------------------------------------------------- */
static int finish(Make *m, const char *path, const char *file, Err *err)
{
    Work *w = m->w;
    const PrepConfig *c = w->cfg;
    int rc = video_finish(&m->out, err);
    int64_t size = rc < 0 ? rc : file_size(path, err);
    if (size < 0)
        return (int)size;
    Digest digest;
    char hex[65];
    sha256_final(&m->sha, &digest);
    digest_hex(&digest, hex);
    return clip_put(w, "clip",
                    json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I}", "file", file, "size", (json_int_t)size,
                              "pixels_sha256", hex, "frames", (json_int_t)c->frames, "width", (json_int_t)c->width,
                              "height", (json_int_t)c->height, "fps", (json_int_t)c->fps),
                    err);
}

/* The window's gains, on a pass of their own, and into the record: 0, 1 rejected, negative. */
static int find_evening(Work *w, Evening *e, Err *err)
{
    const PrepConfig *c = w->cfg;
    Make m;
    *e = (Evening){0};
    int rc = make_open(&m, w, w->picks, c->frames, err);
    m.measured = e;
    if (rc == 0 && (rc = convert(&m, err)) == 0) {
        evening_find(e, c->even_white, c->even_exposure, c->evening_strength, c->evening_luma);
        rc = clip_put(w, "evening", evening_json(e), err);
    }
    make_close(&m);
    return rc;
}

/* One window: 0 made, 1 rejected, 2 another window is to be made, negative. */
static int make_window(Work *w, const char *path, const char *file, Err *err)
{
    const PrepConfig *c = w->cfg;
    VideoWriterParams params = {.codec = VIDEO_FFV1, .width = c->width, .height = c->height, .rate = {c->fps, 1}};
    Make m;
    Evening even;
    Verdict v;
    int rc = make_open(&m, w, w->picks, c->frames, err);
    if (rc == 0 && (c->even_white || c->even_exposure)) {
        m.even = &even;
        if ((rc = find_evening(w, &even, err)))
            goto out;
    }
    if (rc == 0 && path && (rc = video_create(&m.out, path, &params, err)) == 0)
        rc = contact_open(&m.contact, c->width, c->height, err);
    if (rc == 0)
        rc = visible_open(&m.visible, c->width, c->height, c->frames, err);
    if (rc < 0 || (rc = convert(&m, err)) || (rc = judge_figures(&m, &v, err)) < 0)
        goto out;
    if (wants_another(w, &v)) {
        w->again = w->scan.skimmed > 0; /* the damage after the window must be known */
        if ((rc = w->again ? 1 : survey(w, err)))
            goto out;
    }
    rc = judge(&m, &v, err);
    if (rc >= 0 && path) {
        int put = contact_write(m.contact, w, err);
        rc = put < 0 ? put : rc;
    }
    if (rc == 0 && path)
        rc = finish(&m, path, file, err);
out:
    make_close(&m);
    return rc;
}

int clip_make(Work *w, Err *err)
{
    char *file = mem_printf(err, "clips/%s.mkv", w->id),
         *path = file && w->out_dir ? path_join(w->out_dir, file, err) : NULL;
    int rc = !file || (w->out_dir && !path) ? ERR_NOMEM : 2;
    while (rc == 2)
        rc = make_window(w, path, file, err);
    mem_free(path);
    mem_free(file);
    return rc;
}
