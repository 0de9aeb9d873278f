/* One window: its frames chosen, judged, made into pictures and written. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/internal.h"

enum { SURVEY_POINTS_MAX = 1 << 16 };

/* ---- which frames ---------------------------------------------------------------------------- */
/* Puts the window at grid point `start`. */
static void place(const ClipJob *job, ClipResult *r, int64_t start)
{
    const PrepConfig *c = job->cfg;
    const Scan *s = r->scan;
    const Rational *times = scan_times(s);
    int64_t chosen = c->frames - r->plan->held;
    r->placed = 1;
    r->start = start;
    r->start_time = rational_sub((Rational){start, c->fps}, rational_sub((Rational){0, 1}, times[0]));
    choose_frames(times, s->used, c->fps, start, chosen, r->picks);
    for (int64_t k = 0; k < c->frames; k++) {
        Pick *p = &r->picks[k];
        if (k < chosen)
            p->index += s->first;
        else /* the last picture again, wanted later and later */
            *p = (Pick){p[-1].index, p[-1].time, p[-1].error_s - 1.0 / (double)c->fps};
    }
}

static int judge_damage(const ClipJob *job, ClipResult *r, Err *err)
{
    const Scan *s = r->scan;
    const VideoCounts *c = &s->counts;
    int64_t in_window = 0, first = -1, frames = job->cfg->frames;
    for (int64_t k = 0; k < frames; k++)
        if (s->damaged[r->picks[k].index]) {
            in_window++;
            first = first < 0 ? r->picks[k].index : first;
        }
    if (in_window)
        reject(job, &r->rejected, REASON_DAMAGED,
               "%" PRId64 " of the %" PRId64 " chosen frames are damaged, the first is source frame %" PRId64,
               in_window, frames, first);
    else if (c->ended_early && s->gaps && s->first_gap < r->picks[frames - 1].index)
        reject(job, &r->rejected, REASON_DAMAGED,
               "the file ends before its contents do, and frames are missing after source frame %" PRId64
               ": those that follow cannot be trusted",
               s->first_gap);
    else if (c->damaged_frames || c->refused_packets)
        return note_add(&r->notes, err, REASON_DAMAGE_OUTSIDE,
                        "outside the window: %" PRId64 " damaged frame%s, %" PRId64 " refused packet%s",
                        c->damaged_frames, str_plural(c->damaged_frames), c->refused_packets,
                        str_plural(c->refused_packets));
    return 0;
}

/* The rate of the source frames from the first to the last that is shown, and how far they lie from
 * the times they are shown at. */
static void judge_times(const ClipJob *job, ClipResult *r)
{
    const Scan *s = r->scan;
    int64_t n = job->cfg->frames - r->plan->held, first = r->picks[0].index, last = r->picks[n - 1].index;
    if (r->plan->held == 0)
        window_judge_rate(job, s->times + first, last - first + 1, &r->rejected);
    if (!is_rejected(&r->rejected))
        window_judge_times(job, r->picks, n, &r->rejected);
}

static int window_captions(const ClipJob *job, ClipResult *r, Err *err)
{
    double start = rational_value(r->start_time);
    if (job->src->segments_us) /* segments in seconds are on the file's clock, those in frames are not */
        start += rational_value(r->scan->first_time);
    return result_captions(r, job, start, start + (double)(job->cfg->frames - 1) / (double)job->cfg->fps, err);
}

/* ---- the verdict on the pictures ------------------------------------------------------------- */
static double enlarged(const WindowPlan *p, const VideoInfo *v)
{
    double x = (double)p->fit.scaled_width / (double)(p->part[2] ? p->part[2] : v->display_width);
    double y = (double)p->fit.scaled_height / (double)(p->part[2] ? p->part[3] : v->display_height);
    return x > y ? x : y;
}

static int judge_figures(const ClipJob *job, ClipResult *r, Pass *p, Err *err)
{
    double *visible = mem_calloc(p->n, sizeof *visible, err);
    if (!visible)
        return ERR_NOMEM;
    VisibleMethod method = visible_find(p->visible, visible);
    for (int64_t k = 0; k < p->n; k++)
        p->figures[k].visible = visible[k];
    mem_free(visible);
    int rc = quality_judge(p->figures, p->n, enlarged(r->plan, &r->scan->info), &job->cfg->quality, &r->verdict, err);
    r->verdict.visible_method = method;
    r->verdict.visible_found = visible_colour(p->visible, r->verdict.visible_rgb);
    return rc;
}

/* Stores the figures in the result, and turns the verdict into notes or a rejection. */
static int conclude(const ClipJob *job, ClipResult *r, Pass *p, Err *err)
{
    const QualityLimits *l = &job->cfg->quality;
    const Verdict *v = &r->verdict;
    char text[256];
    int rc = 0;
    r->measured = 1;
    r->figures = p->figures;
    p->figures = NULL;
    r->duplicates = p->duplicates;
    for (int c = 0; c < QUALITY_CODES && rc == 0; c++)
        if (v->warn >> c & 1) {
            quality_sentence(v, (QualityCode)c, l, 0, text, sizeof text);
            rc = note_add(&r->notes, err, quality_reason((QualityCode)c), "%s", text);
        }
    for (int c = 0; c < QUALITY_CODES && rc == 0; c++)
        if (v->reject >> c & 1) {
            quality_sentence(v, (QualityCode)c, l, 1, text, sizeof text);
            reject(job, &r->rejected, quality_reason((QualityCode)c), "%s", text);
            break;
        }
    return rc;
}

/* ---- moving the window ----------------------------------------------------------------------- */
static int wants_another(const ClipJob *job, const ClipResult *r)
{
    const QualityLimits *l = &job->cfg->quality;
    const Verdict *v = &r->verdict;
    if (v->black && l->black_frames == FOUND_REJECT)
        return 0;
    return !r->moved && job->cfg->window < WINDOW_CHUNKS && !r->plan->held && r->plan->points > job->cfg->frames &&
           r->plan->points <= SURVEY_POINTS_MAX &&
           ((v->black && l->black_frames == FOUND_MOVE) || (v->cuts && l->scene_cut == FOUND_MOVE));
}

/* Moves the window to the nearest clean place.  *moved: 0 when there is none, when the result is
 * rejected, or when the source must be scanned again in full. */
static int move(const ClipJob *job, ClipResult *r, int *moved, Err *err)
{
    int64_t from = r->start, start;
    if (r->scan->skimmed) { /* damage after the first window must be known */
        r->restart_full = 1;
        return 0;
    }
    int rc = window_survey(job, r, &start, err);
    if (rc < 0 || start < 0)
        return rc;
    r->moved = 1;
    place(job, r, start);
    rc = note_add(&r->notes, err, REASON_WINDOW_MOVED,
                  "the window begins at output frame %" PRId64 " instead of %" PRId64
                  ", clear of black frames and cuts",
                  start, from);
    if (rc == 0)
        rc = window_captions(job, r, err);
    *moved = rc == 0 && !is_rejected(&r->rejected);
    return rc;
}

/* ---- pictures -------------------------------------------------------------------------------- */
/* The window's gains, found in a pass of its own. */
static int find_evening(const ClipJob *job, ClipResult *r, Err *err)
{
    const PrepConfig *c = job->cfg;
    Pass p;
    r->evening = (Evening){0};
    r->evened = 0;
    int rc = pass_open(&p, job, r->scan, &r->plan->fit, r->picks, c->frames, err);
    p.measured = &r->evening;
    if (rc == 0 && (rc = pass_run(&p, err)) == 0) {
        r->rejected = p.rejected;
        if (!is_rejected(&r->rejected)) {
            evening_find(&r->evening, c->even_white, c->even_exposure, c->evening_strength, c->evening_luma);
            r->evened = 1;
        }
    }
    pass_close(&p);
    return rc;
}

/* Opens the pass over the window's frames and runs it; path NULL: nothing is written. */
static int run_window(const ClipJob *job, ClipResult *r, Pass *p, const char *path, Err *err)
{
    const PrepConfig *c = job->cfg;
    VideoWriterParams params = {.codec = VIDEO_FFV1, .width = c->width, .height = c->height, .rate = {c->fps, 1}};
    int rc = pass_open(p, job, r->scan, &r->plan->fit, r->picks, c->frames, err);
    if (rc == 0 && (c->even_white || c->even_exposure)) {
        p->even = &r->evening;
        if ((rc = find_evening(job, r, err)) < 0 || is_rejected(&r->rejected))
            return rc;
    }
    if (rc == 0 && path && (rc = video_create(&p->out, path, &params, err)) == 0)
        rc = contact_open(&p->contact, c->width, c->height, err);
    if (rc == 0)
        rc = visible_open(&p->visible, c->width, c->height, c->frames, err);
    if (rc == 0 && (rc = pass_run(p, err)) == 0)
        r->rejected = p->rejected;
    return rc;
}

/* Gives the finished file its name; pass_close removes the file of a rejected clip. */
static int keep_files(const ClipJob *job, ClipResult *r, Pass *p, const char *path, Err *err)
{
    int rc = contact_write(p->contact, job->out_dir, r->id, &r->contact, err);
    if (rc < 0 || is_rejected(&r->rejected))
        return rc;
    rc = video_finish(&p->out, err);
    if (rc == 0 && (r->file_bytes = file_size(path, err)) < 0)
        rc = (int)r->file_bytes;
    sha256_final_hex(&p->sha, r->pixels_sha256);
    if (rc == 0 && !(r->file = mem_printf(err, "clips/%s.mkv", r->id)))
        rc = ERR_NOMEM;
    return rc;
}

/* The window where it is.  *moved: it was moved, and is to be made at its new place. */
static int make_here(const ClipJob *job, ClipResult *r, const char *path, int *moved, Err *err)
{
    Pass p;
    int rc = run_window(job, r, &p, path, err);
    *moved = 0;
    if (rc == 0 && !is_rejected(&r->rejected) && (rc = judge_figures(job, r, &p, err)) == 0 && wants_another(job, r))
        rc = move(job, r, moved, err);
    if (rc == 0 && !*moved && !is_rejected(&r->rejected) && !r->restart_full && (rc = conclude(job, r, &p, err)) == 0 &&
        path)
        rc = keep_files(job, r, &p, path, err);
    pass_close(&p);
    return rc;
}

static int make_pictures(const ClipJob *job, ClipResult *r, Err *err)
{
    char *path = NULL;
    int rc = 0, moved = 1;
    if (job->out_dir && !(path = mem_printf(err, "%s/clips/%s.mkv", job->out_dir, r->id)))
        return ERR_NOMEM;
    while (rc == 0 && moved)
        rc = make_here(job, r, path, &moved, err);
    mem_free(path);
    return rc;
}

int make_window(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan, int64_t index,
                ClipResult *out, Err *err)
{
    ClipResult *r = out;
    int rc = 0;
    result_begin(r, job, id, scan, plan);
    r->index = index;
    if (job->cfg->window >= WINDOW_CHUNKS)
        snprintf(r->id, sizeof r->id, "%s#%" PRId64, job->src->id, index);
    if (!(r->picks = mem_calloc(job->cfg->frames, sizeof *r->picks, err)))
        return ERR_NOMEM;
    place(job, r, plan->starts[index]);
    if (plan->held)
        rc = note_add(&r->notes, err, REASON_FRAMES_HELD,
                      "the last picture is repeated for %" PRId64 " more output frames (clip.short=hold)", plan->held);
    if (rc == 0 && (rc = judge_damage(job, r, err)) == 0 && !is_rejected(&r->rejected))
        judge_times(job, r);
    if (rc == 0) /* captions depend on the window, and an empty one must cost no encoding */
        rc = window_captions(job, r, err);
    if (rc == 0 && !is_rejected(&r->rejected))
        rc = make_pictures(job, r, err);
    return rc < 0 || r->restart_full ? rc : result_contact(r, job, err);
}
