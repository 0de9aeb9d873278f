/* The manifest's view of a clip. */
#include <math.h>
#include "prep/clip/internal.h"

json_t *clip_rational_json(Rational r)
{
    return json_pack("[I, I]", (json_int_t)r.num, (json_int_t)r.den);
}

static int put(json_t *o, const char *key, json_t *value)
{
    return json_object_set_new(o, key, value);
}

json_t *clip_probe_json(const Scan *s)
{
    static const char *const scans[] = {"no", "top", "bottom"};
    const VideoInfo *v = &s->info;
    json_t *o = json_object();
    if (!o)
        return NULL;
    int bad = put(o, "container", json_string(v->container)) | put(o, "codec", json_string(v->codec)) |
              put(o, "pixel_format", json_string(v->pixel_format)) | put(o, "width", json_integer(v->width)) |
              put(o, "height", json_integer(v->height)) | put(o, "display_width", json_integer(v->display_width)) |
              put(o, "display_height", json_integer(v->display_height)) | put(o, "sar", clip_rational_json(v->sar)) |
              put(o, "avg_rate", clip_rational_json(v->avg_rate)) | put(o, "r_rate", clip_rational_json(v->r_rate)) |
              put(o, "time_base", clip_rational_json(v->time_base)) |
              put(o, "frames_hint", json_integer(v->frames_hint)) | put(o, "duration_s", json_real(v->duration_s)) |
              put(o, "rotation", json_integer(v->rotation)) | put(o, "flip", json_boolean(v->flip)) |
              put(o, "interlaced", json_string(scans[v->interlaced % 3])) | put(o, "matrix", json_string(v->matrix)) |
              put(o, "range", json_string(v->range)) | put(o, "transfer", json_string(v->transfer)) |
              put(o, "primaries", json_string(v->primaries)) | put(o, "matrix_used", json_string(v->matrix_used)) |
              put(o, "range_used", json_string(v->range_used)) | put(o, "guessed", json_boolean(v->guessed)) |
              put(o, "vfr", json_boolean(v->vfr)) | put(o, "frames", json_integer(s->counts.frames)) |
              put(o, "frames_decoded", json_integer(s->skimmed ? s->skimmed : s->counts.frames)) |
              put(o, "packets", json_integer(s->counts.packets)) |
              put(o, "refused_packets", json_integer(s->counts.refused_packets)) |
              put(o, "damaged_frames", json_integer(s->counts.damaged_frames)) |
              put(o, "dropped_unordered", json_integer(s->counts.dropped_unordered)) |
              put(o, "assumed_times", json_integer(s->assumed)) |
              put(o, "last_time", clip_rational_json(s->n ? s->times[s->n - 1] : (Rational){0, 1}));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *clip_geometry_json(const FitPlan *p, const int64_t bars[4])
{
    static const char *const fits[] = {[FIT_COVER] = "cover", [FIT_PAD] = "pad", [FIT_STRETCH] = "stretch"};
    static const char *const fields[] = {
        [DEINTERLACE_AUTO] = "auto", [DEINTERLACE_NEVER] = "never", [DEINTERLACE_ALWAYS] = "always"};
    json_t *part = p->part[2] ? json_pack("[I,I,I,I]", (json_int_t)p->part[0], (json_int_t)p->part[1],
                                          (json_int_t)p->part[2], (json_int_t)p->part[3])
                              : json_null();
    json_t *trimmed = bars ? json_pack("[I,I,I,I]", (json_int_t)bars[0], (json_int_t)bars[1], (json_int_t)bars[2],
                                       (json_int_t)bars[3])
                           : json_null();
    return json_pack("{s:o, s:o, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "part", part, "bars", trimmed,
                     "deinterlace", fields[p->deinterlace], "tone_mapped", p->tone_map, "fit", fits[p->mode], "width",
                     (json_int_t)p->width, "height", (json_int_t)p->height, "scaled_width", (json_int_t)p->scaled_width,
                     "scaled_height", (json_int_t)p->scaled_height, "crop_x", (json_int_t)p->crop_x, "crop_y",
                     (json_int_t)p->crop_y, "lost", p->lost);
}

json_t *clip_ledger_json(const Pick *picks, int64_t n)
{
    json_t *list = json_array();
    for (int64_t k = 0; k < n && list; k++) {
        json_t *entry = json_pack("{s:I, s:I, s:o, s:f}", "k", (json_int_t)k, "index", (json_int_t)picks[k].index,
                                  "time", clip_rational_json(picks[k].time), "error_s", picks[k].error_s);
        if (!entry || json_array_append_new(list, entry) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *clip_timing_json(const Pick *picks, int64_t n)
{
    double sum = 0, worst = 0;
    for (int64_t k = 0; k < n; k++) {
        double e = fabs(picks[k].error_s);
        sum += e;
        worst = e > worst ? e : worst;
    }
    return json_pack("{s:f, s:f}", "mean_abs_error_s", sum / (double)n, "max_abs_error_s", worst);
}
