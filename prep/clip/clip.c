#include "prep/clip/clip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_facts.h"
#include "prep/set/hash_cache.h"

static WindowPolicy window_policy(const char *name)
{
    static const char *const names[] = {"first", "middle", "chunks", "slide", "uniform"};
    for (int i = 1; i < 5; i++)
        if (strcmp(name, names[i]) == 0)
            return (WindowPolicy)i;
    return WINDOW_FIRST;
}

int prep_config(PrepConfig *out, const Recipe *recipe, Err *err)
{
    int64_t latent;
    const char *fit = recipe_str(recipe, "clip.fit"), *even = recipe_str(recipe, "clip.evening");
    const char *fields = recipe_str(recipe, "clip.deinterlace");
    *out = (PrepConfig){.width = recipe_int(recipe, "clip.width"),
                        .height = recipe_int(recipe, "clip.height"),
                        .fps = recipe_int(recipe, "clip.fps"),
                        .frames = recipe_int(recipe, "clip.model_frames"),
                        .window = window_policy(recipe_str(recipe, "clip.window")),
                        .window_stride = recipe_int(recipe, "clip.window_stride"),
                        .window_count = recipe_int(recipe, "clip.window_count"),
                        .hold = strcmp(recipe_str(recipe, "clip.short"), "hold") == 0,
                        .max_hold = (int)recipe_int(recipe, "clip.max_hold"),
                        .fit = strcmp(fit, "pad") == 0       ? FIT_PAD
                               : strcmp(fit, "stretch") == 0 ? FIT_STRETCH
                                                             : FIT_COVER,
                        .deinterlace = strcmp(fields, "auto") == 0    ? DEINTERLACE_AUTO
                                       : strcmp(fields, "never") == 0 ? DEINTERLACE_NEVER
                                                                      : DEINTERLACE_ALWAYS,
                        .hdr_convert = strcmp(recipe_str(recipe, "clip.hdr"), "convert") == 0,
                        .trim_bars = recipe_bool(recipe, "clip.trim_bars"),
                        .even_white = strcmp(even, "white") == 0 || strcmp(even, "both") == 0,
                        .even_exposure = strcmp(even, "exposure") == 0 || strcmp(even, "both") == 0,
                        .evening_strength = recipe_num(recipe, "clip.evening_strength"),
                        .evening_luma = recipe_num(recipe, "clip.evening_luma"),
                        .bias_x = recipe_num(recipe, "clip.bias_x"),
                        .bias_y = recipe_num(recipe, "clip.bias_y"),
                        .max_lost = recipe_num(recipe, "clip.max_lost"),
                        .min_fps = recipe_num(recipe, "clip.min_fps"),
                        .min_side = recipe_int(recipe, "clip.min_side"),
                        .frames_fps = recipe_int(recipe, "clip.frames_fps"),
                        .allow_vfr = recipe_bool(recipe, "clip.allow_vfr"),
                        .allow_empty_caption = recipe_bool(recipe, "clip.allow_empty_caption"),
                        .cpu_s = recipe_int(recipe, "limits.cpu_seconds"),
                        .wall_s = recipe_int(recipe, "limits.wall_seconds"),
                        .memory_bytes = recipe_int(recipe, "limits.memory_mb") << 20,
                        .max_file_bytes = recipe_int(recipe, "limits.file_mb") << 20,
                        .max_pixels = recipe_int(recipe, "limits.pixels"),
                        .max_frames = recipe_int(recipe, "limits.frames")};
    snprintf(out->background_name, sizeof out->background_name, "%s", recipe_str(recipe, "clip.background"));
    if (!colour_parse(out->background_name, out->background))
        return err_set(err, ERR_USAGE, "clip.background is '%s', expected white, black, grey or #rrggbb",
                       out->background_name);
    int rc = model_frames_check(out->frames, &latent, err);
    if (rc < 0)
        return rc;
    quality_limits(&out->quality, recipe);
    /* Only what shapes the pixels or the verdict; captions and duplicates are looked at afresh in
     * every run. */
    static const char *const other[] = {"max_reject_ratio", "allow_empty_caption"}, *const alike[] = {
                                                                                        "duplicates", "duplicate_bits",
                                                                                        "duplicate_colour"};
    json_t *clip = json_deep_copy(recipe_get(recipe, "clip")), *quality = json_deep_copy(recipe_get(recipe, "quality"));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        json_object_del(clip, other[i]);
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++)
        json_object_del(quality, alike[i]);
    json_t *shaping = json_pack("{s:o, s:o}", "clip", clip, "quality", quality);
    if (!shaping)
        return err_set(err, ERR_NOMEM, "out of memory for the recipe");
    char *text = json_canonical(shaping, err);
    Digest digest;
    rc = text ? sha256_bytes(text, (int64_t)strlen(text), &digest, err) : ERR_NOMEM;
    if (rc == 0)
        digest_hex(&digest, out->recipe_sha256);
    mem_free(text);
    json_decref(shaping);
    return rc;
}

VideoLimits clip_limits(const PrepConfig *cfg)
{
    return (VideoLimits){
        .max_pixels = cfg->max_pixels, .max_frames = cfg->max_frames, .max_seconds = (double)cfg->wall_s};
}

/* ---- the record ------------------------------------------------------------------------------ */
int clip_put(Work *w, const char *key, json_t *value, Err *err)
{
    if (!value || json_object_set_new(w->record, key, value) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for '%s' of clip '%s'", key, w->src->id);
    return 0;
}

/* Messages of the media library name the file as it was opened; the manifest says the path relative
 * to the source folder. */
static char *relative_text(const Work *w, const char *text, Err *err)
{
    const char *at = strstr(text, w->path);
    if (!at)
        return mem_strdup(text, err);
    return mem_printf(err, "%.*s%s%s", (int)(at - text), text, w->src->path, at + strlen(w->path));
}

static json_t *note_from(const Work *w, Reason reason, const char *fmt, va_list ap, Err *err)
{
    char text[ERR_MSG_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    char *relative = relative_text(w, text, err);
    json_t *note = relative ? note_new(reason, relative, err) : NULL;
    mem_free(relative);
    return note;
}

int clip_reject(Work *w, Err *err, Reason reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    json_t *note = note_from(w, reason, fmt, ap, err);
    va_end(ap);
    int rc = note ? clip_put(w, "reason", note, err) : ERR_NOMEM;
    if (rc == 0)
        rc = clip_put(w, "decision", json_string("reject"), err);
    return rc < 0 ? rc : 1;
}

int clip_warn(Work *w, Err *err, Reason reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    json_t *note = note_from(w, reason, fmt, ap, err);
    va_end(ap);
    if (!note || json_array_append_new(json_object_get(w->record, "warnings"), note) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for a warning");
    return 0;
}

int clip_reject_error(Work *w, Err *err, int rc, const Err *cause, Reason reason)
{
    if (rc == ERR_NOMEM || rc == ERR_INTERRUPTED)
        return err_set(err, rc, "%s", cause->msg);
    return clip_reject(w, err,
                       rc == ERR_LIMIT         ? REASON_LIMIT
                       : rc == ERR_UNSUPPORTED ? REASON_UNSUPPORTED
                       : rc == ERR_IO          ? REASON_UNREADABLE
                                               : reason,
                       "%s", cause->msg);
}

static int work_init(Work *w, const char *root, Err *err)
{
    const Source *s = w->src;
    w->rate = s->rate.den ? s->rate : (Rational){w->cfg->frames_fps, 1};
    snprintf(w->id, sizeof w->id, "%s", s->id);
    w->several = w->cfg->window >= WINDOW_CHUNKS;
    w->record = json_pack(
        "{s:s, s:s, s:n, s:[], s:n, s:s, s:{s:s, s:s, s:n, s:n}, s:n, s:n, s:n, s:[], s:n, s:n, s:n, s:n, s:n}", "id",
        s->id, "decision", "accept", "reason", "warnings", "key", "recipe_sha256", w->cfg->recipe_sha256, "source",
        "path", s->path, "kind", s->kind == SOURCE_FRAMES ? "frames" : "video", "size", "sha256", "probe", "window",
        "geometry", "ledger", "timing", "evening", "quality", "contact", "clip");
    w->path = path_join(root, s->path, err);
    w->picks = mem_calloc(w->cfg->frames, sizeof *w->picks, err);
    return w->record && w->path && w->picks ? 0 : err_set(err, ERR_NOMEM, "out of memory for clip '%s'", s->id);
}

static void work_fini(Work *w)
{
    mem_free(w->path);
    mem_free(w->picks);
    mem_free(w->starts);
    mem_free(w->scan.times);
    mem_free(w->scan.damaged);
    early_fini(&w->early);
    json_decref(w->record);
}

/* ---- identity -------------------------------------------------------------------------------- */
static int make_key(Work *w, const char *sha256, Err *err)
{
    const Source *s = w->src;
    json_t *parts = json_pack(
        "{s:s, s:s, s:[I,I,I,I], s:s, s:o, s:o, s:o, s:i}", "recipe", w->cfg->recipe_sha256, "source", sha256, "crop",
        (json_int_t)s->crop[0], (json_int_t)s->crop[1], (json_int_t)s->crop[2], (json_int_t)s->crop[3], "kind",
        s->kind == SOURCE_FRAMES ? "frames" : "video", "rate", clip_rational_json(w->rate), "start",
        clip_rational_json(s->start), "end", clip_rational_json(s->end), "revision", PREP_REVISION);
    char *text = parts ? json_canonical(parts, err) : NULL;
    Digest digest;
    int rc = text ? sha256_bytes(text, (int64_t)strlen(text), &digest, err)
                  : err_set(err, ERR_NOMEM, "out of memory for a key");
    if (rc == 0) {
        digest_hex(&digest, w->key);
        rc = clip_put(w, "key", json_string(w->key), err);
    }
    mem_free(text);
    json_decref(parts);
    return rc;
}

static int identify(Work *w, Err *err)
{
    const Source *s = w->src;
    json_t *source = json_object_get(w->record, "source");
    Err cause = {0};
    Identity found;
    char hex[65] = "";
    int rc = hash_cache_identify(w->cfg->seen, s->path, w->path, s->kind, &found, &cause), put = 0;
    int64_t size = found.size;
    if (rc == 0)
        digest_hex(&found.sha256, hex);
    if (rc == 0 && (json_object_set_new(source, "size", json_integer(size)) < 0 ||
                    json_object_set_new(source, "sha256", json_string(hex)) < 0))
        return err_set(err, ERR_NOMEM, "out of memory for clip '%s'", s->id);
    if (rc == 0 && w->out_dir)
        put = clip_put(w, "seen", json_pack("{s:b, s:s}", "hashed", found.hashed, "entry", found.entry), err);
    if (put == 0)
        put = make_key(w, hex, err);
    if (put < 0)
        return put;
    if (s->reject_code)
        return clip_reject(w, err, reason_find(s->reject_code), "%s", s->reject_text);
    if (rc == ERR_NOTFOUND)
        return clip_reject(w, err, REASON_MISSING, "'%s' is not there", s->path);
    if (rc < 0)
        return clip_reject_error(w, err, rc, &cause,
                                 s->kind == SOURCE_FRAMES ? REASON_BAD_PICTURES : REASON_NOT_A_VIDEO);
    if (w->cfg->max_file_bytes && size > w->cfg->max_file_bytes)
        return clip_reject(w, err, REASON_LIMIT, "'%s' has %lld bytes, more than limits.file_mb allows", s->path,
                           (long long)size);
    if (size == 0)
        return clip_reject(w, err, REASON_EMPTY_FILE, "'%s' has 0 bytes", s->path);
    if (s->expect_sha256 && strcmp(s->expect_sha256, hex) != 0)
        return clip_reject(w, err, REASON_HASH_MISMATCH, "the bytes hash to %s, the metadata says %s", hex,
                           s->expect_sha256);
    return 0;
}

/* ---- an earlier run's result ----------------------------------------------------------------- */
static const char *const result_members[] = {"decision", "reason",  "probe",   "window",  "geometry", "ledger",
                                             "timing",   "evening", "quality", "contact", "clip",     NULL};

static Reason note_reason(const json_t *note)
{
    return reason_find(json_string_value(json_object_get(note, "code")));
}

/* Verdicts that looked at more than the key, or at the machine, are not taken over. */
static int repeatable(const json_t *reason)
{
    Reason r = note_reason(reason);
    return r < REASON_COUNT && !reason_is_redone(r);
}

/* Notes about the source's pixels stay; those about its captions and annotations are made afresh. */
static json_t *pixel_warnings(const json_t *prior)
{
    json_t *kept = json_array(), *note;
    size_t i;
    json_array_foreach (json_object_get(prior, "warnings"), i, note) {
        Reason r = note_reason(note);
        if (r < REASON_COUNT && reason_is_about_pixels(r) && kept &&
            json_array_append_new(kept, json_deep_copy(note)) < 0) {
            json_decref(kept);
            kept = NULL;
        }
    }
    return kept;
}

/* 1 when the dataset holds the file (of this size unless NULL). */
static int same_file(const Work *w, const json_t *name, const json_t *size, Err *err)
{
    char *file = path_join(w->out_dir, json_string_value(name), err);
    if (!file)
        return ERR_NOMEM;
    int64_t have = file_exists(file) ? file_size(file, NULL) : -1;
    mem_free(file);
    return have >= 0 && (!size || have == json_integer_value(size));
}

/* 1 and the record replaced when the earlier result stands. */
static int reuse(Work *w, const json_t *prior, Err *err)
{
    const json_t *key = json_object_get(prior, "key"), *clip = json_object_get(prior, "clip"),
                 *reason = json_object_get(prior, "reason"), *contact = json_object_get(prior, "contact");
    if (!json_is_string(key) || strcmp(json_string_value(key), w->key) != 0)
        return 0;
    if (json_is_object(reason) && !repeatable(reason))
        return 0;
    int rc = clip && json_is_object(clip)
                 ? same_file(w, json_object_get(clip, "file"), json_object_get(clip, "size"), err)
                 : 1;
    if (rc == 1 && json_is_string(contact))
        rc = same_file(w, contact, NULL, err);
    if (rc != 1)
        return rc;
    for (int i = 0; result_members[i]; i++) {
        const json_t *value = json_object_get(prior, result_members[i]);
        if (value && (rc = clip_put(w, result_members[i], json_deep_copy(value), err)) < 0)
            return rc;
    }
    if (json_is_object(reason) && note_reason(reason) == REASON_NEAR_DUPLICATE &&
        ((rc = clip_put(w, "decision", json_string("accept"), err)) < 0 ||
         (rc = clip_put(w, "reason", json_null(), err)) < 0))
        return rc; /* whether it still is one, the whole set tells */
    rc = clip_put(w, "warnings", pixel_warnings(prior), err);
    return rc < 0 ? rc : 1;
}

/* ---- captions -------------------------------------------------------------------------------- */
static int put_captions(Work *w, Err *err)
{
    const json_t *window = json_object_get(w->record, "window"), *start = json_object_get(window, "start_time");
    double start_s = 0, end_s = 0;
    if (json_is_object(window)) {
        start_s = (double)json_integer_value(json_array_get(start, 0)) /
                  (double)json_integer_value(json_array_get(start, 1));
        end_s = start_s + (double)(w->cfg->frames - 1) / (double)w->cfg->fps;
    }
    char **list;
    int64_t n;
    int rc = source_window_captions(w->src, w->cfg->frames_fps, start_s, end_s, &list, &n, err);
    if (rc < 0)
        return rc;
    json_t *captions = json_array();
    for (int64_t i = 0; i < n && captions; i++)
        if (json_array_append_new(captions, json_string(list[i])) < 0) {
            json_decref(captions);
            captions = NULL;
        }
    captions_free(&list, n);
    int accepted = strcmp(json_string_value(json_object_get(w->record, "decision")), "accept") == 0;
    if (captions && accepted && n == 0 && w->cfg->allow_empty_caption)
        json_array_append_new(captions, json_string(""));
    rc = clip_put(w, "captions", captions, err);
    if (rc < 0 || !accepted || n > 0)
        return rc;
    if (w->cfg->allow_empty_caption)
        return clip_warn(w, err, REASON_EMPTY_CAPTION, "no caption: trained as the empty prompt");
    rc = clip_reject(w, err, REASON_EMPTY_CAPTION,
                     "no caption (clip.allow_empty_caption takes such clips as the empty prompt)");
    return rc == 1 ? clip_put(w, "clip", json_null(), err) < 0 ? ERR_NOMEM : 1 : rc;
}

/* The captions of the window beside a verdict `rc` (0 or 1). */
static int and_captions(Work *w, int rc, Err *err)
{
    int captions = put_captions(w, err);
    return captions < 0 ? captions : rc || captions;
}

/* The window that is worked on: its id, and the record as far as all windows of the source share
 * it. */
static int begin_window(Work *w, const json_t *shared, int64_t window, Err *err)
{
    json_t *record = json_deep_copy(shared);
    w->window = window;
    w->moved = 0;
    if (w->several)
        snprintf(w->id, sizeof w->id, "%s#%lld", w->src->id, (long long)window);
    if (!record)
        return err_set(err, ERR_NOMEM, "out of memory for clip '%s'", w->id);
    json_decref(w->record);
    w->record = record;
    return clip_put(w, "id", json_string(w->id), err);
}

static int end_window(Work *w, json_t *results, Err *err)
{
    if (json_array_append(results, w->record) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for clip '%s'", w->id);
    return 0;
}

/* 1 and results filled when everything an earlier run made of the source stands, 0 and results
 * empty otherwise. */
static int reuse_all(Work *w, const json_t *prior, json_t *results, Err *err)
{
    size_t n = json_array_size(prior);
    json_t *shared = n ? json_deep_copy(w->record) : NULL;
    int rc = n == 0 ? 0 : shared ? 1 : err_set(err, ERR_NOMEM, "out of memory for clip '%s'", w->id);
    for (size_t i = 0; i < n && rc == 1; i++) {
        const json_t *line = json_array_get(prior, i), *window = json_object_get(line, "window");
        const char *id = json_string_value(json_object_get(line, "id"));
        int64_t count = json_is_object(window) ? json_integer_value(json_object_get(window, "count")) : 1;
        if ((rc = count == (int64_t)n) == 0 || (rc = begin_window(w, shared, (int64_t)i, err)) < 0)
            break;
        snprintf(w->id, sizeof w->id, "%s", id); /* a source rejected before it had windows has no "#k" */
        if ((rc = clip_put(w, "id", json_string(id), err)) == 0 && (rc = reuse(w, line, err)) == 1) {
            rc = and_captions(w, 0, err);
            rc = rc < 0 ? rc : end_window(w, results, err);
            rc = rc < 0 ? rc : 1;
        }
    }
    if (rc == 0) {
        json_array_clear(results);
        rc = shared ? begin_window(w, shared, 0, err) : 0;
        snprintf(w->id, sizeof w->id, "%s", w->src->id);
        if (rc == 0)
            rc = clip_put(w, "id", json_string(w->id), err);
    }
    json_decref(shared);
    return rc;
}

/* One window: 0, or 1 rejected. */
static int make_one(Work *w, Err *err)
{
    int rc = clip_judge_window(w, err);
    /* Captions depend on the window, and an empty one must cost no encoding. */
    if (rc >= 0)
        rc = and_captions(w, rc, err);
    if (rc == 0 && (rc = clip_make(w, err)) == 0 && w->moved)
        rc = and_captions(w, rc, err);
    return rc;
}

/* A picture of what was rejected before its own were made. */
static int picture_of_rejected(Work *w, int rc, Err *err)
{
    if (rc != 1 || w->again || !w->out_dir || w->scan.n == 0 || !json_is_null(json_object_get(w->record, "contact")))
        return rc;
    int contact = contact_of_source(w, err);
    return contact < 0 ? contact : rc;
}

static int make_all(Work *w, json_t *results, Err *err)
{
    json_t *shared = json_deep_copy(w->record);
    int rc = shared ? 0 : err_set(err, ERR_NOMEM, "out of memory for clip '%s'", w->id);
    for (int64_t i = 0; i < w->windows && rc >= 0 && !w->again; i++)
        if ((rc = begin_window(w, shared, i, err)) == 0 && (rc = picture_of_rejected(w, make_one(w, err), err)) >= 0)
            rc = end_window(w, results, err);
    json_decref(shared);
    return rc;
}

int clip_process(const PrepConfig *cfg, const char *root, const Source *s, const json_t *prior, const char *out_dir,
                 json_t **out, Err *err)
{
    Work w = {.cfg = cfg, .src = s, .out_dir = out_dir};
    json_t *results = json_array();
    *out = NULL;
    int rc = results ? work_init(&w, root, err) : err_set(err, ERR_NOMEM, "out of memory for clip '%s'", s->id);
    int reused = 0;
    w.early.off = cfg->window == WINDOW_MIDDLE || cfg->window == WINDOW_UNIFORM || cfg->trim_bars || !out_dir;
    if (rc == 0)
        rc = identify(&w, err);
    if (rc == 0 && out_dir && (reused = reuse_all(&w, prior, results, err)) < 0)
        rc = reused;
    if (rc == 0 && !reused && (rc = clip_scan(&w, err)) == 0 && (rc = clip_judge(&w, err)) == 0)
        rc = make_all(&w, results, err);
    if (rc == 1 && !w.again && json_array_size(results) == 0) { /* rejected as a whole */
        rc = and_captions(&w, rc, err);
        rc = picture_of_rejected(&w, rc, err);
        rc = rc < 0 ? rc : end_window(&w, results, err);
    }
    if (rc >= 0 && !w.again)
        *out = json_incref(results);
    json_decref(results);
    work_fini(&w);
    if (rc < 0 || !w.again)
        return rc < 0 ? rc : 0;
    PrepConfig all = *cfg;
    all.decode_all = 1;
    return clip_process(&all, root, s, prior, out_dir, out, err);
}

int clip_failed(const PrepConfig *cfg, const Source *s, const char *code, const char *text, json_t **out, Err *err)
{
    Work w = {.cfg = cfg, .src = s};
    *out = NULL;
    int rc = work_init(&w, "", err);
    if (rc == 0 && (rc = make_key(&w, "", err)) == 0 && (rc = clip_reject(&w, err, reason_find(code), "%s", text)) >= 0)
        rc = put_captions(&w, err);
    if (rc >= 0 && !(*out = json_pack("[O]", w.record)))
        rc = err_set(err, ERR_NOMEM, "out of memory for clip '%s'", s->id);
    work_fini(&w);
    return rc < 0 ? rc : 0;
}
