/* The manifest's view of a clip, written (prep/line.h reads it). */
#include <math.h>
#include "common/base/jsonw.h"
#include "prep/clip/internal.h"

static void put_rational(JsonWriter *w, const char *key, Rational r)
{
    jsonw_ints(w, key, (const int64_t[]){r.num, r.den}, 2);
}

static void put_source(JsonWriter *w, const ClipJob *job, const ClipIdentity *id)
{
    jsonw_open(w, "source");
    jsonw_str(w, "path", job->src->path);
    jsonw_str(w, "kind", job->src->kind == SOURCE_FRAMES ? "frames" : "video");
    if (id->size < 0)
        jsonw_null(w, "size");
    else
        jsonw_int(w, "size", id->size);
    jsonw_str(w, "sha256", id->sha256[0] ? id->sha256 : NULL);
    jsonw_close(w);
}

static void put_probe(JsonWriter *w, const Scan *s)
{
    static const char *const scans[] = {"no", "top", "bottom"};
    const VideoInfo *v = &s->info;
    const VideoCounts *c = &s->counts;
    jsonw_open(w, "probe");
    jsonw_str(w, "container", v->container);
    jsonw_str(w, "codec", v->codec);
    jsonw_str(w, "pixel_format", v->pixel_format);
    jsonw_int(w, "width", v->width);
    jsonw_int(w, "height", v->height);
    jsonw_int(w, "display_width", v->display_width);
    jsonw_int(w, "display_height", v->display_height);
    put_rational(w, "sar", v->sar);
    put_rational(w, "avg_rate", v->avg_rate);
    put_rational(w, "r_rate", v->r_rate);
    put_rational(w, "time_base", v->time_base);
    jsonw_int(w, "frames_hint", v->frames_hint);
    jsonw_num(w, "duration_s", v->duration_s);
    jsonw_int(w, "rotation", v->rotation);
    jsonw_bool(w, "flip", v->flip);
    jsonw_str(w, "interlaced", scans[v->interlaced % 3]);
    jsonw_str(w, "matrix", v->matrix);
    jsonw_str(w, "range", v->range);
    jsonw_str(w, "transfer", v->transfer);
    jsonw_str(w, "primaries", v->primaries);
    jsonw_str(w, "matrix_used", v->matrix_used);
    jsonw_str(w, "range_used", v->range_used);
    jsonw_bool(w, "guessed", v->guessed);
    jsonw_bool(w, "vfr", v->vfr);
    jsonw_int(w, "frames", c->frames);
    jsonw_int(w, "frames_decoded", s->skimmed ? s->skimmed : c->frames);
    jsonw_int(w, "packets", c->packets);
    jsonw_int(w, "refused_packets", c->refused_packets);
    jsonw_int(w, "damaged_frames", c->damaged_frames);
    jsonw_int(w, "dropped_unordered", c->dropped_unordered);
    jsonw_int(w, "assumed_times", s->assumed);
    put_rational(w, "first_time", s->n ? s->first_time : (Rational){0, 1});
    put_rational(w, "last_time", s->n ? s->times[s->n - 1] : (Rational){0, 1});
    jsonw_close(w);
}

static void put_window(JsonWriter *w, const ClipJob *job, const ClipResult *r)
{
    jsonw_open(w, "window");
    jsonw_int(w, "index", r->index);
    jsonw_int(w, "count", r->plan->windows);
    jsonw_int(w, "start", r->start);
    put_rational(w, "start_time", r->start_time);
    jsonw_int(w, "frames", job->cfg->frames);
    jsonw_int(w, "points", r->plan->points);
    jsonw_int(w, "held", r->plan->held);
    jsonw_close(w);
}

static void put_geometry(JsonWriter *w, const ClipJob *job, const WindowPlan *p)
{
    static const char *const fits[] = {[FIT_COVER] = "cover", [FIT_PAD] = "pad", [FIT_STRETCH] = "stretch"};
    static const char *const fields[] = {
        [DEINTERLACE_AUTO] = "auto", [DEINTERLACE_NEVER] = "never", [DEINTERLACE_ALWAYS] = "always"};
    const FitPlan *f = &p->fit;
    jsonw_open(w, "geometry");
    if (f->part[2])
        jsonw_ints(w, "part", f->part, 4);
    else
        jsonw_null(w, "part");
    if (job->cfg->trim_bars)
        jsonw_ints(w, "bars", p->bars, 4);
    else
        jsonw_null(w, "bars");
    jsonw_str(w, "deinterlace", fields[f->deinterlace]);
    jsonw_bool(w, "tone_mapped", f->tone_map);
    jsonw_str(w, "fit", fits[f->mode]);
    jsonw_int(w, "width", f->width);
    jsonw_int(w, "height", f->height);
    jsonw_int(w, "scaled_width", f->scaled_width);
    jsonw_int(w, "scaled_height", f->scaled_height);
    jsonw_int(w, "crop_x", f->crop_x);
    jsonw_int(w, "crop_y", f->crop_y);
    jsonw_num(w, "lost", f->lost);
    jsonw_close(w);
}

static void put_ledger(JsonWriter *w, const Pick *picks, int64_t n)
{
    jsonw_open_array(w, "ledger");
    for (int64_t k = 0; k < n; k++) {
        jsonw_open(w, NULL);
        jsonw_int(w, "k", k);
        jsonw_int(w, "index", picks[k].index);
        put_rational(w, "time", picks[k].time);
        jsonw_num(w, "error_s", picks[k].error_s);
        jsonw_close(w);
    }
    jsonw_close(w);
}

/* n: without those that are held. */
static void put_timing(JsonWriter *w, const Pick *picks, int64_t n)
{
    double sum = 0, worst = 0;
    for (int64_t k = 0; k < n; k++) {
        double e = fabs(picks[k].error_s);
        sum += e;
        worst = e > worst ? e : worst;
    }
    jsonw_open(w, "timing");
    jsonw_num(w, "mean_abs_error_s", sum / (double)n);
    jsonw_num(w, "max_abs_error_s", worst);
    jsonw_close(w);
}

static void put_clip(JsonWriter *w, const ClipJob *job, const ClipResult *r)
{
    const PrepConfig *c = job->cfg;
    jsonw_open(w, "clip");
    jsonw_str(w, "file", r->file);
    jsonw_int(w, "size", r->file_bytes);
    jsonw_str(w, "pixels_sha256", r->pixels_sha256);
    jsonw_int(w, "frames", c->frames);
    jsonw_int(w, "width", c->width);
    jsonw_int(w, "height", c->height);
    jsonw_int(w, "fps", c->fps);
    jsonw_close(w);
}

static void put_captions(JsonWriter *w, const ClipResult *r)
{
    jsonw_open_array(w, "captions");
    for (int64_t i = 0; i < r->n_captions; i++)
        jsonw_str(w, NULL, r->captions[i]);
    for (int64_t i = 0; i < r->notes.n; i++)
        if (r->notes.item[i].code == REASON_EMPTY_CAPTION)
            jsonw_str(w, NULL, "");
    jsonw_close(w);
}

static void put_notes(JsonWriter *w, const Notes *n, Err *err)
{
    for (int64_t i = 0; i < n->n; i++)
        jsonw_take(w, NULL, note_new(n->item[i].code, n->item[i].text, err));
}

static void put_verdict(JsonWriter *w, const ClipResult *r, Err *err)
{
    int rejected = is_rejected(&r->rejected);
    jsonw_str(w, "id", r->id);
    jsonw_str(w, "decision", rejected ? "reject" : "accept");
    if (rejected)
        jsonw_take(w, "reason", note_new(r->rejected.code, r->rejected.text, err));
    else
        jsonw_null(w, "reason");
    jsonw_open_array(w, "warnings");
    if (r->scan)
        put_notes(w, &r->scan->notes, err);
    if (r->plan)
        put_notes(w, &r->plan->notes, err);
    put_notes(w, &r->notes, err);
    jsonw_close(w);
}

int clip_json(const ClipJob *job, const ClipResult *r, json_t **out, Err *err)
{
    const ClipIdentity *id = r->identity;
    const int64_t frames = job->cfg->frames;
    JsonWriter w;
    jsonw_begin(&w);
    put_verdict(&w, r, err);
    jsonw_str(&w, "key", id->key);
    jsonw_str(&w, "recipe_sha256", job->cfg->recipe_sha256);
    put_source(&w, job, id);
    if (r->scan && r->scan->opened)
        put_probe(&w, r->scan);
    else
        jsonw_null(&w, "probe");
    if (r->placed)
        put_window(&w, job, r);
    else
        jsonw_null(&w, "window");
    if (r->plan && r->plan->fitted)
        put_geometry(&w, job, r->plan);
    else
        jsonw_null(&w, "geometry");
    put_ledger(&w, r->picks, r->placed ? frames : 0);
    if (r->placed)
        put_timing(&w, r->picks, frames - r->plan->held);
    else
        jsonw_null(&w, "timing");
    jsonw_take(&w, "evening", r->evened ? evening_json(&r->evening) : json_null());
    jsonw_take(&w, "quality",
               r->measured ? quality_json(r->figures, frames, &r->verdict, &job->cfg->quality, r->duplicates, r->moved)
                           : json_null());
    jsonw_str(&w, "contact", r->contact);
    if (r->file)
        put_clip(&w, job, r);
    else
        jsonw_null(&w, "clip");
    if (job->out_dir && id->size >= 0) {
        jsonw_open(&w, "seen");
        jsonw_bool(&w, "hashed", id->hashed);
        jsonw_str(&w, "entry", id->entry);
        jsonw_close(&w);
    }
    put_captions(&w, r);
    return jsonw_finish(&w, out, "a clip's record", err);
}
