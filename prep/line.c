#include "prep/line.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */
static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static double real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static Rational pair(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return (Rational){json_integer_value(json_array_get(v, 0)), json_integer_value(json_array_get(v, 1))};
}

static void three(double out[3], const json_t *list)
{
    for (size_t i = 0; i < 3; i++)
        out[i] = json_number_value(json_array_get(list, i));
}

static LineProbe read_probe(const json_t *o)
{
    return (LineProbe){.codec = text_of(o, "codec"),
                       .width = whole(o, "width"),
                       .height = whole(o, "height"),
                       .display_width = whole(o, "display_width"),
                       .display_height = whole(o, "display_height"),
                       .frames = whole(o, "frames"),
                       .avg_rate = pair(o, "avg_rate"),
                       .first_time = pair(o, "first_time"),
                       .last_time = pair(o, "last_time"),
                       .duration_s = real(o, "duration_s"),
                       .vfr = json_is_true(json_object_get(o, "vfr"))};
}

static LineQuality read_quality(const json_t *o)
{
    const json_t *visible = json_object_get(o, "visible"), *colour = json_object_get(visible, "rgb");
    LineQuality q = {.mean_luma = real(o, "mean_luma"),
                     .sharpness = real(o, "sharpness"),
                     .mean_change = real(json_object_get(o, "change"), "mean"),
                     .has_visible = visible != NULL,
                     .has_colour = json_is_array(colour),
                     .visible_median = real(visible, "median")};
    three(q.mean_rgb, json_object_get(o, "mean_rgb"));
    three(q.visible_rgb, colour);
    for (size_t i = 0; i < 3; i++) {
        const char *hex = json_string_value(json_array_get(json_object_get(o, "hashes"), i));
        q.hashes[i] = hex ? strtoull(hex, NULL, 16) : 0;
    }
    return q;
}

void line_read(ManifestLine *out, const json_t *line)
{
    const json_t *reason = json_object_get(line, "reason"), *source = json_object_get(line, "source"),
                 *probe = json_object_get(line, "probe"), *window = json_object_get(line, "window"),
                 *quality = json_object_get(line, "quality"), *clip = json_object_get(line, "clip"),
                 *timing = json_object_get(line, "timing");
    *out = (ManifestLine){
        .id = text_of(line, "id"),
        .key = text_of(line, "key"),
        .split = text_of(line, "split"),
        .category = text_of(line, "category"),
        .contact = text_of(line, "contact"),
        .rejected = json_is_object(reason),
        .reason = line_note_reason(reason),
        .reason_code = line_note_code(reason),
        .reason_text = line_note_text(reason),
        .reason_json = json_object_get(line, "reason"),
        .warnings = json_object_get(line, "warnings"),
        .captions = json_object_get(line, "captions"),
        .attributes = json_object_get(line, "attributes"),
        .source_path = text_of(source, "path"),
        .source_sha256 = text_of(source, "sha256"),
        .source_size = whole(source, "size"),
        .probed = json_is_object(probe),
        .placed = json_is_object(window),
        .measured = json_is_object(quality),
        .has_clip = json_is_object(clip),
        .probe = read_probe(probe),
        .window = {whole(window, "count"), pair(window, "start_time")},
        .quality = read_quality(quality),
        .clip = {text_of(clip, "file"), text_of(clip, "pixels_sha256"), whole(clip, "size"), whole(clip, "frames"),
                 whole(clip, "width"), whole(clip, "height")},
        .mean_error_s = real(timing, "mean_abs_error_s"),
        .max_error_s = real(timing, "max_abs_error_s"),
    };
}

const char *line_note_code(const json_t *note)
{
    return text_of(note, "code");
}

const char *line_note_text(const json_t *note)
{
    return text_of(note, "text");
}

Reason line_note_reason(const json_t *note)
{
    const char *code = line_note_code(note);
    return code ? reason_find(code) : REASON_COUNT;
}

/* ---- changing -------------------------------------------------------------------------------- */
static int no_memory(const json_t *line, Err *err)
{
    const char *id = text_of(line, "id");
    return err_set(err, ERR_NOMEM, "out of memory for the manifest line of '%s'", id ? id : "");
}

int line_reject(json_t *line, Reason reason, const char *text, Err *err)
{
    json_t *note = note_new(reason, text, err);
    if (!note)
        return ERR_NOMEM;
    int bad = json_object_set_new(line, "reason", note) < 0 ||
              json_object_set_new(line, "decision", json_string("reject")) < 0;
    return bad ? no_memory(line, err) : 0;
}

int line_accept(json_t *line, Err *err)
{
    int bad = json_object_set_new(line, "decision", json_string("accept")) < 0 ||
              json_object_set_new(line, "reason", json_null()) < 0;
    return bad ? no_memory(line, err) : 0;
}

int line_add_note(json_t *line, Reason reason, const char *text, Err *err)
{
    json_t *note = note_new(reason, text, err);
    if (!note)
        return ERR_NOMEM;
    return json_array_append_new(json_object_get(line, "warnings"), note) < 0 ? no_memory(line, err) : 0;
}

void line_remove_notes(json_t *line, Reason reason)
{
    json_t *warnings = json_object_get(line, "warnings");
    for (size_t i = json_array_size(warnings); i-- > 0;)
        if (line_note_reason(json_array_get(warnings, i)) == reason)
            json_array_remove(warnings, i);
}

/* Notes about the pixels stay, before those that this run made. */
static int copy_notes(json_t *record, const json_t *line)
{
    json_t *kept = json_array(), *note;
    size_t i;
    int bad = !kept;
    json_array_foreach (json_object_get(line, "warnings"), i, note) {
        Reason r = line_note_reason(note);
        if (r < REASON_COUNT && reason_is_about_pixels(r))
            bad = bad || json_array_append_new(kept, json_deep_copy(note)) < 0;
    }
    bad = bad || json_array_extend(kept, json_object_get(record, "warnings")) < 0;
    return bad | (json_object_set_new(record, "warnings", kept) < 0);
}

int line_copy_results(json_t *record, const json_t *line, int rejected, int keep_clip, Err *err)
{
    static const char *const members[] = {"probe",   "window",  "geometry", "ledger", "timing",
                                          "evening", "quality", "contact",  "clip"};
    int bad = 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(line, members[i]);
        if (value && (keep_clip || strcmp(members[i], "clip") != 0))
            bad |= json_object_set_new(record, members[i], json_deep_copy(value)) < 0;
    }
    if (rejected)
        bad |= json_object_set_new(record, "decision", json_string("reject")) < 0 ||
               json_object_set_new(record, "reason", json_deep_copy(json_object_get(line, "reason"))) < 0;
    return bad | copy_notes(record, line) ? no_memory(record, err) : 0;
}

void line_keep_facts(json_t *line)
{
    static const char *const others[] = {"id", "captions", "key", "contact", "clip"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        json_object_del(line, others[i]);
    line_remove_notes(line, REASON_EMPTY_CAPTION);
}

json_t *line_build(const Source *s, const json_t *result, Err *err)
{
    static const char *const front[] = {"decision", "reason"};
    static const char *const rest[] = {"key",    "recipe_sha256", "source",  "probe",   "window",  "geometry",
                                       "ledger", "timing",        "evening", "quality", "contact", "clip"};
    json_t *o = json_object(), *warnings = s->warnings ? json_copy(s->warnings) : json_array();
    int bad = !o || !warnings || json_object_set(o, "id", json_object_get(result, "id")) < 0;
    for (size_t i = 0; i < sizeof front / sizeof *front && !bad; i++)
        bad = json_object_set(o, front[i], json_object_get(result, front[i])) < 0;
    bad = bad || json_array_extend(warnings, json_object_get(result, "warnings")) < 0 ||
          json_object_set(o, "warnings", warnings) < 0 || json_object_set_new(o, "split", json_string(s->split)) < 0 ||
          json_object_set_new(o, "category", s->category ? json_string(s->category) : json_null()) < 0 ||
          json_object_set(o, "captions", json_object_get(result, "captions")) < 0 ||
          json_object_set_new(o, "attributes", s->attributes ? json_incref(s->attributes) : json_object()) < 0 ||
          json_object_set_new(o, "extra", s->extra ? json_incref(s->extra) : json_object()) < 0;
    for (size_t i = 0; i < sizeof rest / sizeof *rest && !bad; i++)
        bad = json_object_set(o, rest[i], json_object_get(result, rest[i])) < 0;
    json_decref(warnings);
    if (bad) {
        json_decref(o);
        err_set(err, ERR_NOMEM, "out of memory for the record of '%s'", s->id);
        return NULL;
    }
    return o;
}
