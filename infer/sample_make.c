/* Making the samples: texts are encoded in batches of bounded memory, then each sample is denoised,
 * decoded and written. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/media/video.h"
#include "infer/sample_internal.h"

enum { TEXTS_AT_ONCE = 64 }; /* embeddings held at a time: 240 MB of CogVideoX-2B */
static const double KEEP_EVERY_S = 300;

/* ---- texts ----------------------------------------------------------------------------------- */

/* The embeddings of the distinct texts of one batch of jobs. */
typedef struct Texts {
    json_t *index;                /* text -> position in vector */
    float *vector[TEXTS_AT_ONCE]; /* [text_len, text_dim] each */
    int64_t n;
} Texts;

static int64_t text_values(const Run *r)
{
    return r->sizes.text_len * r->sizes.text_dim;
}

static int texts_init(Texts *t, Err *err)
{
    *t = (Texts){.index = json_object()};
    return t->index ? 0 : err_set(err, ERR_NOMEM, "no memory for the prompts' embeddings");
}

static void texts_fini(Texts *t)
{
    for (int64_t i = 0; i < t->n; i++)
        mem_free(t->vector[i]);
    json_decref(t->index);
}

static int encode_text(Run *r, const char *text, float *out, Err *err)
{
    int64_t cut = 0;
    char *lost = NULL;
    if (r->cached)
        return cached_text(r->cached, text, out, err);
    int rc = pipeline_encode_text(r->pipe, text, out, &cut, err);
    if (rc == 0 && cut > 0)
        rc = pipeline_cut_text(r->pipe, text, &lost, err);
    if (lost)
        log_warn(r->log,
                 "prompt '%.60s...': its last %" PRId64 " tokens do not fit in %" PRId64
                 " and have no effect: '%.2000s%s'",
                 text, cut, r->sizes.text_len, lost, strlen(lost) > 2000 ? "..." : "");
    mem_free(lost);
    return rc;
}

/* 1 when the text was known or is now encoded, 0 when the batch is full. */
static int texts_add(Texts *t, Run *r, const char *text, Err *err)
{
    if (json_object_get(t->index, text))
        return 1;
    if (t->n == TEXTS_AT_ONCE)
        return 0;
    float *out = mem_calloc(text_values(r), sizeof *out, err);
    if (!out)
        return ERR_NOMEM;
    t->vector[t->n] = out;
    if (json_object_set_new(t->index, text, json_integer(t->n++)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the prompts' embeddings");
    int rc = encode_text(r, text, out, err);
    return rc < 0 ? rc : 1;
}

static const float *texts_get(const Texts *t, const char *text)
{
    const json_t *at = json_object_get(t->index, text);
    return at ? t->vector[json_integer_value(at)] : NULL;
}

static int to_make(const Job *job)
{
    return !job->done && !job->elsewhere;
}

/* Encodes the texts of the jobs from `first` on, as many as fit; *end is the first job that does
 * not fit.  Frees the text encoder's memory afterwards. */
static int encode_batch(Run *r, int64_t first, int64_t *end, Texts *t, Err *err)
{
    int rc = 1;
    for (*end = first; *end < r->prompts.n; ++*end) {
        const Job *job = &r->job[*end];
        if (!to_make(job))
            continue;
        rc = texts_add(t, r, job->prompt->text, err);
        if (rc == 1 && job->guidance > 1.0)
            rc = texts_add(t, r, job->negative, err);
        if (rc != 1)
            break;
    }
    pipeline_texts_done(r->pipe);
    return rc < 0 ? rc : 0;
}

/* ---- one sample ------------------------------------------------------------------------------ */

/* The sample that the denoising loop works on. */
typedef struct Making {
    Run *r;
    Job *job;
} Making;

static void on_step(void *user, int64_t step)
{
    const Making *m = user;
    char text[40], line[120];
    str_escape(text, sizeof text, m->job->prompt->text, 0);
    snprintf(line, sizeof line, "step %" PRId64 " of %" PRId64 " of '%s'", step, m->job->steps, text);
    progress_step(m->r->progress, m->r->steps_before + step, line);
}

static int keep(void *user, const Denoising *d, Err *err)
{
    const Making *m = user;
    return partial_write(m->r, m->job, d, err);
}

/* Writes DIR/ID.preview.png. */
static int show(void *user, int64_t step, const float *x0, Err *err)
{
    const Making *m = user;
    Run *r = m->r;
    uint8_t *rgb = mem_calloc(r->s.height * r->s.width, 3, err);
    char *path = sample_path(r, m->job->prompt->id, PREVIEW, err);
    int rc = rgb && path ? pipeline_decode_still(r->pipe, x0, rgb, err) : ERR_NOMEM;
    if (rc == 0)
        rc = picture_write_png(path, rgb, r->s.width, r->s.height, err);
    if (rc == 0)
        log_debug(r->log, "'%s' after step %" PRId64, path, step);
    mem_free(path);
    mem_free(rgb);
    return rc;
}

/* Of two videos of the same size; 99 for equal ones. */
static double psnr(const uint8_t *a, const uint8_t *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(a[i] - b[i]) * (a[i] - b[i]);
    return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : 99;
}

/* The same sample without what makes it faster, to say how far `rgb` is from it. */
static int compare_exact(Run *r, Job *job, const Texts *t, const uint8_t *rgb, Err *err)
{
    int64_t n = r->s.num_frames * r->s.height * r->s.width * 3;
    uint8_t *exact = mem_calloc(n, 1, err);
    Denoising d;
    double start = time_now_s();
    int rc = denoising_init(&d, r->pipe, err);
    if (rc == 0 && !exact)
        rc = ERR_NOMEM;
    pipeline_set_exact(r->pipe, 1);
    pipeline_set_steps(r->pipe, job->steps, job->guidance);
    if (rc == 0)
        rc = pipeline_denoise(r->pipe, texts_get(t, job->prompt->text), texts_get(t, job->negative),
                              (uint64_t)job->prompt->seed, &d, NULL, err);
    double took = time_now_s() - start;
    pipeline_set_exact(r->pipe, 0);
    if (rc == 0)
        rc = pipeline_decode(r->pipe, d.latents, exact, NULL, err);
    if (rc == 0)
        log_info(r->log, "sample '%s': PSNR against the exact one %.2f dB; denoising took %.1f s, exactly %.1f s",
                 job->prompt->id, psnr(rgb, exact, n), r->denoised_s, took);
    denoising_fini(&d);
    mem_free(exact);
    r->compared = 1;
    return rc;
}

/* From finished latents to the sample's files. */
static int decode_and_write(Run *r, Job *job, const Texts *t, const Denoising *d, Err *err)
{
    uint8_t *rgb = mem_calloc(r->s.num_frames * r->s.height * r->s.width, 3, err);
    int rc = rgb ? pipeline_decode(r->pipe, d->latents, rgb, NULL, err) : ERR_NOMEM;
    if (rc == 0 && is_lossy(r) && !r->compared)
        rc = compare_exact(r, job, t, rgb, err);
    if (rc == 0)
        rc = sample_write(r, job, rgb, err);
    mem_free(rgb);
    return rc;
}

static int denoise(Run *r, Job *job, const Texts *t, Denoising *d, Err *err)
{
    Making m = {r, job};
    StepHooks hooks = {.user = &m,
                       .on_step = on_step,
                       .keep = keep,
                       .keep_every_s = KEEP_EVERY_S,
                       .show = show,
                       .show_every = r->o->preview_every};
    r->steps_kept += d->step;
    progress_resume(r->progress, r->steps_kept);
    if (d->step > 0)
        log_info(r->log, "sample '%s' goes on from step %" PRId64 " of %" PRId64, job->prompt->id, d->step, job->steps);
    if (d->step == job->steps)
        return 0;
    pipeline_set_steps(r->pipe, job->steps, job->guidance);
    return pipeline_denoise(r->pipe, texts_get(t, job->prompt->text), texts_get(t, job->negative),
                            (uint64_t)job->prompt->seed, d, &hooks, err);
}

/* Writes the finished steps to the partial file after an error, which stays the one reported. */
static void rescue(Run *r, Job *job, const Denoising *d)
{
    Err second = {0};
    if (d->step > 0 && partial_write(r, job, d, &second) < 0)
        log_warn(r->log, "sample '%s': its %" PRId64 " finished steps could not be kept: %s", job->prompt->id, d->step,
                 second.msg);
}

static int interrupted(const Run *r, const Job *job, int64_t step, Err *err)
{
    char where[300] = "";
    if (step > 0)
        snprintf(where, sizeof where, ", '%.200s' is kept after step %" PRId64 " of %" PRId64, job->prompt->id, step,
                 job->steps);
    err_clear(err);
    return err_set(err, ERR_INTERRUPTED,
                   "stopped: %" PRId64 " of %" PRId64 " samples are made%s; the same command goes on from there",
                   r->made, r->todo, where);
}

static int make_sample(Run *r, Job *job, const Texts *t, Err *err)
{
    Denoising d;
    int rc = denoising_init(&d, r->pipe, err);
    if (rc == 0)
        rc = partial_read(r, job, &d, err);
    double start = time_now_s();
    if (rc >= 0)
        rc = denoise(r, job, t, &d, err);
    r->denoised_s = time_now_s() - start;
    if (rc == 0 && r->o->latents_out)
        rc = partial_write(r, job, &d, err);
    if (rc == 0)
        rc = decode_and_write(r, job, t, &d, err);
    if (rc == 0 && !r->o->latents_out)
        rc = partial_remove(r, job->prompt->id, err);
    if (rc < 0 && rc != ERR_USAGE)
        rescue(r, job, &d);
    if (rc == ERR_INTERRUPTED)
        interrupted(r, job, d.step, err);
    else if (rc < 0)
        err_wrap(err, rc, "sample '%s'", job->prompt->id);
    denoising_fini(&d);
    r->steps_before += job->steps;
    r->made += rc == 0;
    return rc;
}

static int make_batch(Run *r, int64_t first, int64_t end, const Texts *t, Err *err)
{
    for (int64_t i = first; i < end; i++) {
        if (!to_make(&r->job[i]))
            continue;
        int rc = interrupt_requested() ? interrupted(r, &r->job[i], 0, err) : make_sample(r, &r->job[i], t, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int samples_make(Run *r, Err *err)
{
    int rc = 0;
    r->progress = progress_start(r->log, "sample", "steps", r->steps_todo);
    for (int64_t i = 0, end; rc == 0 && i < r->prompts.n; i = end) {
        Texts t;
        rc = texts_init(&t, err);
        if (rc == 0)
            rc = encode_batch(r, i, &end, &t, err);
        if (rc == ERR_INTERRUPTED)
            interrupted(r, &r->job[i], 0, err);
        if (rc == 0)
            rc = make_batch(r, i, end, &t, err);
        texts_fini(&t);
    }
    progress_end(&r->progress);
    return rc;
}
