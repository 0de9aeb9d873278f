/* Making samples, their files and lines. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/media/video.h"
#include "common/model/latent_colour.h"
#include "common/model/latents.h"
#include "common/store/safetensors.h"
#include "train/frames.h"
#include "train/resume.h"
#include "train/samples.h"

enum { FRAMES = 5, TALL = 180, GAP = 2 }; /* of a picture: frames side by side, each so many pixels high or more */

struct Samples {
    const Job *job;
    const char *run;
    char *lines;        /* path of samples.jsonl */
    FILE *out;          /* opened for the first line */
    int64_t step, made; /* the latest step of a line, and how many prompts it has; -1 */
    LatentColour colour;
    int has_colour;
    int counted;    /* the sampler's and the VAE's memory is in the back end's account */
    Frames *frames; /* while samples are made, where they are decoded */
    float *text, *negative;
    Denoising d;
};

/* ---- memory and checks ----------------------------------------------------------------------- */

static int64_t latent_count(const Dataset *d)
{
    return d->F * d->h * d->w * d->C;
}

int64_t samples_bytes(const Job *j)
{
    int64_t one = (latent_count(j->data) * (int64_t)sizeof(float) + 63) / 64 * 64;

    return j->prompts.n == 0 ? 0 : j->sampling.kind == SAMPLER_DPM ? 3 * one : one;
}

int samples_check(const Job *j, Err *err)
{
    int rc = j->prompts.n == 0 ? 0 : schedule_check_steps(&j->schedule, j->sampling.steps, err);

    return rc < 0 ? rc : frames_check(j, err);
}

DenoiseParams samples_params(const Job *j, Backend *be, Dit *dit, Arena *work)
{
    return (DenoiseParams){.be = be,
                           .dit = dit,
                           .schedule = &j->schedule,
                           .work = work,
                           .F = j->data->F,
                           .h = j->data->h,
                           .w = j->data->w,
                           .sampler = j->sampling.kind,
                           .steps = j->sampling.steps,
                           .guidance = j->sampling.guidance,
                           .dynamic_guidance = j->sampling.dynamic};
}

/* ---- opening --------------------------------------------------------------------------------- */

static int read_colour(Samples *s, Err *err)
{
    const Dataset *d = s->job->data;
    int rc = 0;

    for (int64_t k = 0; k < d->n_cache && rc == 0 && !s->has_colour; k++) {
        CacheTxn *t = NULL;
        json_t *value = NULL;
        if ((rc = cache_begin(&t, d->cache[k], err)) == 0 && (rc = cache_get_meta(t, "colour", &value, err)) > 0) {
            rc = latent_colour_parse(&s->colour, value, "meta 'colour'", err);
            s->has_colour = rc == 0 && s->colour.channels == d->C;
        }
        json_decref(value);
        cache_end(&t);
    }
    if (rc == 0 && !s->has_colour && !frames_wanted(s->job))
        log_info(&s->job->log.log,
                 "the cache has no map of colours, so samples will have no pictures: weft-cache build "
                 "makes one");
    return rc;
}

static int remember(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Samples *s = user;
    json_t *line = NULL;
    int64_t step = 0;
    int rc = json_parse(&line, text, size, where, err);

    if (rc == 0)
        rc = schema_check("train-samples", line, where, err);
    if (rc == 0)
        rc = json_get_int(line, "step", where, &step, err);
    if (rc == 0) {
        s->made = step == s->step ? s->made + 1 : 1;
        s->step = step;
    }
    json_decref(line);
    return rc;
}

static int read_lines(Samples *s, int64_t step, Err *err)
{
    int rc = resume_cut_log(s->lines, step, err);

    if (rc == 0)
        rc = file_look(s->lines, err);
    return rc > 0 ? lines_read(s->lines, RECORD_BYTES_MAX, remember, s, err) : rc;
}

int samples_open(Samples **out, const Job *job, const char *run, int64_t step, Err *err)
{
    Samples *s = mem_calloc(1, sizeof *s, err);
    int64_t text = job->data->text_len * job->data->text_dim;
    int rc = s && (s->lines = path_join(run, "samples.jsonl", err)) ? 0 : ERR_NOMEM;

    *out = NULL;
    if (rc == 0) {
        s->job = job;
        s->run = run;
        s->step = -1;
    }
    if (rc == 0 && job->prompts.n > 0 && (rc = read_lines(s, step, err)) == 0 && (rc = read_colour(s, err)) == 0 &&
        (rc = denoising_new(&s->d, latent_count(job->data), err)) == 0 &&
        (!(s->text = mem_calloc(text, sizeof *s->text, err)) ||
         !(s->negative = mem_calloc(text, sizeof *s->negative, err))))
        rc = ERR_NOMEM;
    if (rc < 0)
        samples_close(&s);
    *out = s;
    return rc;
}

void samples_close(Samples **samples)
{
    Samples *s = *samples;

    if (!s)
        return;
    if (s->out)
        fclose(s->out); /* on the disk after every line */
    frames_close(&s->frames);
    denoising_fini(&s->d);
    mem_free(s->text);
    mem_free(s->negative);
    mem_free(s->lines);
    mem_free(s);
    *samples = NULL;
}

int samples_due(const Samples *s, int64_t step)
{
    const Job *j = s->job;
    int64_t every = j->sampling.every;

    return j->prompts.n > 0 && (step == 0 || step == j->steps || (every > 0 && step % every == 0)) &&
           (s->step < step || (s->step == step && s->made < j->prompts.n));
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A few frames side by side, each point of a latent as a square of `zoom` pixels. */
typedef struct Sheet {
    int64_t frames, zoom, width, height;
} Sheet;

static Sheet sheet_of(const Dataset *d)
{
    Sheet s = {.frames = d->F < FRAMES ? d->F : FRAMES, .zoom = (TALL + d->h - 1) / d->h};

    s.width = s.frames * d->w * s.zoom + (s.frames - 1) * GAP;
    s.height = d->h * s.zoom;
    return s;
}

static int write_picture(const Samples *s, const char *path, Err *err)
{
    const Dataset *d = s->job->data;
    Sheet g = sheet_of(d);
    int64_t points = d->h * d->w, each = d->w * g.zoom + GAP;
    uint8_t *frame = mem_calloc(points, 3, err), *all = mem_calloc(g.width * g.height, 3, err);
    int rc = frame && all ? 0 : ERR_NOMEM;

    for (int64_t k = 0; rc == 0 && k < g.frames; k++) {
        int64_t f = g.frames > 1 ? k * (d->F - 1) / (g.frames - 1) : 0;
        latent_colour_apply(&s->colour, frame, s->d.latents + f * points * d->C, points, 1 / d->scale);
        for (int64_t y = 0; y < g.height; y++)
            for (int64_t x = 0; x < d->w * g.zoom; x++)
                memcpy(all + (y * g.width + k * each + x) * 3, frame + (y / g.zoom * d->w + x / g.zoom) * 3, 3);
    }
    if (rc == 0)
        rc = picture_write_png(path, all, g.width, g.height, err);
    mem_free(frame);
    mem_free(all);
    return rc;
}

static int write_latents(const Samples *s, const char *path, Err *err)
{
    const Dataset *d = s->job->data;
    float *torch = mem_calloc(latent_count(d), sizeof *torch, err);
    int rc = torch ? 0 : ERR_NOMEM;

    if (rc == 0) {
        latents_to_torch(torch, s->d.latents, d->F, d->C, d->h, d->w);
        rc = safetensors_write(path, &(SafeSource){"latents", tensor_of(torch, DT_F32, 5, 1, d->F, d->C, d->h, d->w)},
                               1, NULL, err);
    }
    mem_free(torch);
    return rc;
}

static int append_line(Samples *s, int64_t step, int64_t number, double seconds, Err *err)
{
    char name[96];
    json_t *line = NULL;
    JsonWriter w;
    int rc;

    jsonw_begin(&w);
    jsonw_int(&w, "step", step);
    jsonw_int(&w, "number", number);
    jsonw_str(&w, "prompt", s->job->prompts.prompt[number].text);
    jsonw_int(&w, "seed", (int64_t)s->job->seed + number);
    snprintf(name, sizeof name, "samples/step-%" PRId64 "-%" PRId64 ".safetensors", step, number);
    jsonw_str(&w, "latents", name);
    snprintf(name, sizeof name, "samples/step-%" PRId64 "-%" PRId64 ".png", step, number);
    jsonw_str(&w, "picture", s->frames || s->has_colour ? name : NULL);
    snprintf(name, sizeof name, "samples/step-%" PRId64 "-%" PRId64 ".mp4", step, number);
    jsonw_str(&w, "video", s->frames ? name : NULL);
    jsonw_open(&w, "time");
    jsonw_num(&w, "seconds", seconds);
    jsonw_close(&w);
    rc = jsonw_finish(&w, &line, "samples.jsonl", err);
    if (rc == 0)
        rc = schema_check("train-samples", line, s->lines, err);
    if (rc == 0 && !s->out && !(s->out = fopen(s->lines, "a")))
        rc = err_errno(err, errno, "opening '%s'", s->lines);
    if (rc == 0)
        rc = json_write_line(line, s->out, err);
    if (rc == 0 && (fflush(s->out) != 0 || fsync(fileno(s->out)) != 0))
        rc = err_errno(err, errno, "writing '%s'", s->lines);
    json_decref(line);
    return rc;
}

/* Video and picture, and the picture in TensorBoard. */
static int write_pictures(Samples *s, int64_t step, int64_t number, const char *stem, Curve *curve, Err *err)
{
    char *picture = mem_printf(err, "%s.png", stem), *video = mem_printf(err, "%s.mp4", stem), tag[32];
    Sheet g = sheet_of(s->job->data);
    int rc = picture && video ? 0 : ERR_NOMEM;

    if (rc == 0 && s->frames)
        rc = frames_write(s->frames, s->d.latents, video, picture, &g.width, &g.height, err);
    else if (rc == 0)
        rc = write_picture(s, picture, err);
    snprintf(tag, sizeof tag, "samples/%" PRId64, number);
    if (rc == 0)
        curve_picture(curve, step, tag, picture, g.width, g.height);
    mem_free(picture);
    mem_free(video);
    return rc;
}

static int write_files(Samples *s, int64_t step, int64_t number, Curve *curve, Err *err)
{
    char *stem = mem_printf(err, "%s/samples/step-%" PRId64 "-%" PRId64, s->run, step, number);
    char *latents = stem ? mem_printf(err, "%s.safetensors", stem) : NULL, *folder = stem ? path_dir(stem, err) : NULL;
    int rc = latents && folder ? dir_make(folder, err) : ERR_NOMEM;

    if (rc == 0)
        rc = write_latents(s, latents, err);
    if (rc == 0 && (s->frames || s->has_colour))
        rc = write_pictures(s, step, number, stem, curve, err);
    mem_free(stem);
    mem_free(latents);
    mem_free(folder);
    return rc;
}

/* ---- making ---------------------------------------------------------------------------------- */

static int look_up(void *user, const Denoising *d, Err *err)
{
    (void)user;
    (void)d;
    return interrupt_requested() ? err_set(err, ERR_INTERRUPTED, "stopped while sampling") : 0;
}

/* Fills s->d. */
static int denoise(Samples *s, TrainState *state, int64_t number, Err *err)
{
    const Job *j = s->job;
    const StepHooks hooks = {.keep = look_up};
    DenoiseParams p = samples_params(j, j->be, state->dit, state->work);
    int rc = prompt_read(&j->prompts.prompt[number], j->data, s->text, err);

    if (rc == 0 && p.guidance > 1)
        rc = prompt_read(&j->prompts.negative, j->data, s->negative, err);
    s->d.step = 0;
    return rc == 0 ? denoise_run(&p, s->text, s->negative, j->seed + (uint64_t)number, &s->d, &hooks, err) : rc;
}

/* Sampler and VAE give their memory back after each sample and set of samples: it counts once. */
static int make_one(Samples *s, TrainState *state, int64_t number, Curve *curve, Err *err)
{
    Backend *be = s->job->be;
    int64_t allocated = be->allocated;
    double start = time_now_s();
    int rc = denoise(s, state, number, err);

    if (rc == 0 && !s->frames && frames_wanted(s->job))
        rc = frames_open(&s->frames, s->job, err);
    if (s->counted)
        be->allocated = allocated;
    if (rc == 0)
        s->counted = 1;
    if (rc == 0)
        rc = write_files(s, state->step, number, curve, err);
    return rc < 0 ? rc : append_line(s, state->step, number, time_now_s() - start, err);
}

int samples_renew(Samples *s, TrainState *state, Curve *curve, Err *err)
{
    const Job *j = s->job;
    int rc = 0;

    for (int64_t k = s->step == state->step ? s->made : 0; rc == 0 && k < j->prompts.n; k++) {
        Err why = {0};
        if ((rc = make_one(s, state, k, curve, &why)) < 0 && rc != ERR_INTERRUPTED)
            err_set(err, rc, "sampling \"%.60s\" after step %" PRId64 ": %s", j->prompts.prompt[k].text, state->step,
                    why.msg);
        if (rc == 0) {
            s->step = state->step;
            s->made = k + 1;
        }
    }
    frames_close(&s->frames);
    if (rc == 0)
        log_info(&j->log.log, "step %" PRId64 ": samples of %" PRId64 " prompt%s in '%s/samples'", state->step,
                 j->prompts.n, str_plural(j->prompts.n), s->run);
    return rc == ERR_INTERRUPTED ? 0 : rc;
}
