/* Choosing the items, measuring them, and the lines of held_out.jsonl. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/bootstrap.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/schema.h"
#include "common/base/threads.h"
#include "train/heldout.h"
#include "train/resume.h"

enum { DECILES = 10 };

typedef struct Clip {
    const Sample *sample; /* borrowed from the dataset */
    uint64_t name;        /* of its streams */
    uint32_t draw;        /* clips with small draws are chosen */
} Clip;

struct HeldOut {
    const Job *job;
    char *path;
    FILE *out;            /* opened for the first line */
    Clip *clip;           /* [clips], sorted by id */
    int64_t clips, times; /* timesteps a clip */
    int64_t *timestep;    /* [clips, times] */
    double *loss, *start; /* [clips, times]: the latest measurement, and that of step 0 */
    double *average_loss; /* the latest of the averaged weights */
    int has_start, has_latest;
    int64_t latest_step;
    double latest, average; /* means of the latest measurements; average NAN: there is none */
    double seconds;         /* that they took */
    HostBatch batch;
};

/* ---- the items ------------------------------------------------------------------------------- */

enum { CHOICE = 0, POSTERIOR = 1, NOISE = 2, TIME = 3, DRAWS = 4 }; /* what a clip's streams are for */

/* A clip's streams are named by the first eight bytes, lowest first, of its id's SHA-256. */
static int name_clip(Clip *c, Err *err)
{
    Digest d;
    int rc = sha256_bytes(c->sample->id, (int64_t)strlen(c->sample->id), &d, err);

    c->name = 0;
    for (int i = 0; rc == 0 && i < 8; i++)
        c->name |= (uint64_t)d.byte[i] << 8 * i;
    return rc;
}

static Philox stream(const Job *j, const Clip *c, int what, int64_t k)
{
    return philox_stream(j->seed, RNG_HELD_OUT, (uint64_t)(k * DRAWS + what), c->name);
}

static int by_draw(const void *a, const void *b)
{
    const Clip *x = a, *y = b;

    return x->draw != y->draw ? (x->draw > y->draw) - (x->draw < y->draw) : strcmp(x->sample->id, y->sample->id);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const Clip *)a)->sample->id, ((const Clip *)b)->sample->id);
}

/* Sorts all clips of the split by their draws, and the first of them by id. */
static int choose_clips(HeldOut *h, Err *err)
{
    const Dataset *d = h->job->data;
    int rc = (h->clip = mem_calloc(d->n_held_out, sizeof *h->clip, err)) ? 0 : ERR_NOMEM;

    for (int64_t i = 0; rc == 0 && i < d->n_held_out; i++) {
        Clip *c = &h->clip[i];
        c->sample = &d->held_out[i];
        if ((rc = name_clip(c, err)) == 0) {
            Philox p = stream(h->job, c, CHOICE, 0);
            c->draw = philox_u32(&p, 0);
        }
    }
    if (rc == 0) {
        qsort(h->clip, (size_t)d->n_held_out, sizeof *h->clip, by_draw);
        qsort(h->clip, (size_t)h->clips, sizeof *h->clip, by_id);
    }
    return rc;
}

/* Timestep k of a clip lies in part k of `times` equal parts. */
static void choose_timesteps(HeldOut *h)
{
    int64_t T = h->job->schedule.n_train, K = h->times;

    for (int64_t i = 0; i < h->clips * K; i++) {
        int64_t k = i % K, first = k * T / K, next = (k + 1) * T / K;
        Philox p = stream(h->job, &h->clip[i / K], TIME, k);
        h->timestep[i] = first + (int64_t)philox_below(&p, 0, (uint64_t)(next - first));
    }
}

static int choose_items(HeldOut *h, Err *err)
{
    int64_t n = h->clips * h->times;
    int rc;

    if (h->times > h->job->schedule.n_train)
        return err_set(err, ERR_USAGE,
                       "validation.timesteps is %" PRId64 ", but the noise schedule has %" PRId64 " timesteps",
                       h->times, h->job->schedule.n_train);
    if (!(h->timestep = mem_calloc(n, sizeof *h->timestep, err)) || !(h->loss = mem_calloc(n, sizeof *h->loss, err)) ||
        !(h->start = mem_calloc(n, sizeof *h->start, err)) ||
        !(h->average_loss = mem_calloc(n, sizeof *h->average_loss, err)))
        return ERR_NOMEM;
    if ((rc = choose_clips(h, err)) < 0)
        return rc;
    choose_timesteps(h);
    return batch_new(&h->batch, h->job->data, 1, err);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void write_items(JsonWriter *w, const HeldOut *h)
{
    jsonw_open_array(w, "clips");
    for (int64_t i = 0; i < h->clips; i++)
        jsonw_str(w, NULL, h->clip[i].sample->id);
    jsonw_close(w);
    jsonw_open_array(w, "timesteps");
    for (int64_t i = 0; i < h->clips; i++)
        jsonw_ints(w, NULL, h->timestep + i * h->times, h->times);
    jsonw_close(w);
}

static void write_losses(JsonWriter *w, const HeldOut *h)
{
    jsonw_open_array(w, "losses");
    for (int64_t i = 0; i < h->clips; i++) {
        jsonw_open_array(w, NULL);
        for (int64_t k = 0; k < h->times; k++)
            jsonw_num(w, NULL, h->loss[i * h->times + k]);
        jsonw_close(w);
    }
    jsonw_close(w);
}

/* The mean of the timesteps in each tenth of the noise schedule; null where no item lies. */
static void write_deciles(JsonWriter *w, const HeldOut *h, const double *loss)
{
    double sum[DECILES] = {0};
    int64_t n[DECILES] = {0};

    for (int64_t i = 0; i < h->clips * h->times; i++) {
        int64_t k = h->timestep[i] * DECILES / h->job->schedule.n_train;
        sum[k] += loss[i];
        n[k]++;
    }
    jsonw_open_array(w, "deciles");
    for (int k = 0; k < DECILES; k++)
        if (n[k])
            jsonw_num(w, NULL, sum[k] / (double)n[k]);
        else
            jsonw_null(w, NULL);
    jsonw_close(w);
}

static double mean(const double *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* The clips' differences from step 0: their mean and, of two clips or more, its interval. */
static int write_change(JsonWriter *w, const HeldOut *h, const double *loss, Err *err)
{
    double *x = mem_calloc(h->clips, sizeof *x, err), low = 0, high = 0;
    int rc = x ? 0 : ERR_NOMEM;

    for (int64_t i = 0; rc == 0 && i < h->clips; i++)
        x[i] = mean(loss + i * h->times, h->times) - mean(h->start + i * h->times, h->times);
    if (rc == 0 && h->clips > 1)
        rc = bootstrap_mean(x, h->clips, h->job->seed, &low, &high, err);
    if (rc == 0) {
        jsonw_open(w, "change");
        jsonw_num(w, "mean", mean(x, h->clips));
        if (h->clips > 1) {
            jsonw_num(w, "low", low);
            jsonw_num(w, "high", high);
        }
        jsonw_close(w);
    }
    mem_free(x);
    return rc;
}

/* Mean, change and deciles of a measurement. */
static int write_measured(JsonWriter *w, const HeldOut *h, int64_t step, const double *loss, Err *err)
{
    int rc = 0;

    jsonw_num(w, "loss", mean(loss, h->clips * h->times));
    if (step > 0 && h->has_start)
        rc = write_change(w, h, loss, err);
    write_deciles(w, h, loss);
    return rc;
}

static int make_line(const HeldOut *h, int64_t step, json_t **out, Err *err)
{
    JsonWriter w;
    int rc, finished;

    jsonw_begin(&w);
    jsonw_int(&w, "step", step);
    rc = write_measured(&w, h, step, h->loss, err);
    if (rc == 0 && !isnan(h->average)) {
        jsonw_open(&w, "ema");
        rc = write_measured(&w, h, step, h->average_loss, err);
        jsonw_close(&w);
    }
    write_items(&w, h);
    write_losses(&w, h);
    jsonw_open(&w, "time");
    jsonw_num(&w, "seconds", h->seconds);
    jsonw_close(&w);
    finished = jsonw_finish(&w, out, "held_out.jsonl", err);
    if (rc == 0 && finished == 0)
        return 0;
    json_decref(*out);
    *out = NULL;
    return rc < 0 ? rc : finished;
}

static int append_line(HeldOut *h, const json_t *line, Err *err)
{
    int rc = schema_check("train-held-out", line, h->path, err);

    if (rc == 0 && !h->out && !(h->out = fopen(h->path, "a")))
        rc = err_errno(err, errno, "opening '%s'", h->path);
    if (rc == 0)
        rc = json_write_line(line, h->out, err);
    if (rc == 0 && (fflush(h->out) != 0 || fsync(fileno(h->out)) != 0))
        rc = err_errno(err, errno, "writing '%s'", h->path);
    return rc;
}

/* ---- what a run has measured already --------------------------------------------------------- */

/* Whether a line's items are this job's. */
static int same_items(const HeldOut *h, const json_t *line, int *same, Err *err)
{
    json_t *mine = NULL;
    JsonWriter w;
    int rc;

    jsonw_begin(&w);
    write_items(&w, h);
    rc = jsonw_finish(&w, &mine, "held-out items", err);
    *same = rc == 0 && json_equal(json_object_get(mine, "clips"), json_object_get(line, "clips")) &&
            json_equal(json_object_get(mine, "timesteps"), json_object_get(line, "timesteps"));
    json_decref(mine);
    return rc;
}

static int remember(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    HeldOut *h = user;
    json_t *line = NULL;
    const json_t *losses, *average;
    int rc = json_parse(&line, text, size, where, err), same = 0;

    if (rc == 0)
        rc = schema_check("train-held-out", line, where, err);
    if (rc == 0 && (rc = same_items(h, line, &same, err)) == 0 && !same)
        rc = err_set(err, ERR_USAGE,
                     "%s: the held-out loss was measured on other clips or timesteps than this recipe and cache give; "
                     "undo the change, or move '%s' away (losses will then have no start to be compared with)",
                     where, h->path);
    if (rc == 0) {
        h->latest_step = json_integer_value(json_object_get(line, "step"));
        h->latest = json_number_value(json_object_get(line, "loss"));
        average = json_object_get(json_object_get(line, "ema"), "loss");
        h->average = average ? json_number_value(average) : NAN;
        h->has_latest = 1;
        losses = json_object_get(line, "losses");
        for (int64_t i = 0; h->latest_step == 0 && i < h->clips * h->times; i++)
            h->start[i] = json_number_value(
                json_array_get(json_array_get(losses, (size_t)(i / h->times)), (size_t)(i % h->times)));
        h->has_start |= h->latest_step == 0;
    }
    json_decref(line);
    return rc;
}

static int read_lines(HeldOut *h, int64_t step, Err *err)
{
    int rc = resume_cut_log(h->path, step, err);

    if (rc == 0)
        rc = file_look(h->path, err);
    return rc > 0 ? lines_read(h->path, RECORD_BYTES_MAX, remember, h, err) : rc;
}

int heldout_open(HeldOut **out, const Job *job, const char *run, int64_t step, Err *err)
{
    HeldOut *h = mem_calloc(1, sizeof *h, err);
    int rc = h && (h->path = path_join(run, "held_out.jsonl", err)) ? 0 : ERR_NOMEM;

    *out = NULL;
    if (rc == 0) {
        h->job = job;
        h->clips = job_held_out(job);
        h->times = job->validation.timesteps;
        h->latest_step = -1;
        h->average = NAN;
    }
    if (rc == 0 && h->clips > 0 && (rc = choose_items(h, err)) == 0)
        rc = read_lines(h, step, err);
    if (rc == 0 && job->validation.clips > 0 && h->clips == 0)
        log_info(&job->log.log, "the cache has no clip of split 'val': no held-out loss will be measured");
    if (rc == 0 && h->clips > 0 && step > 0 && !h->has_start)
        log_warn(&job->log.log,
                 "'%s' has no line of step 0: held-out losses will not be compared with the start of the run", h->path);
    if (rc < 0)
        heldout_close(&h);
    *out = h;
    return rc;
}

void heldout_close(HeldOut **held)
{
    HeldOut *h = *held;

    if (!h)
        return;
    if (h->out)
        fclose(h->out); /* on the disk after every line */
    batch_free(&h->batch);
    mem_free(h->path);
    mem_free(h->clip);
    mem_free(h->timestep);
    mem_free(h->loss);
    mem_free(h->start);
    mem_free(h->average_loss);
    mem_free(h);
    *held = NULL;
}

/* ---- measuring ------------------------------------------------------------------------------- */

int heldout_scheduled(const Job *j, int64_t step)
{
    int64_t every = j->validation.every;

    return job_held_out(j) > 0 && (step == 0 || step == j->steps || (every > 0 && step % every == 0));
}

int heldout_due(const HeldOut *h, int64_t step)
{
    return heldout_scheduled(h->job, step) && h->latest_step < step;
}

int heldout_latest(const HeldOut *h, double *loss, double *average)
{
    *loss = h->latest;
    *average = h->average;
    return h->has_latest;
}

static int measure_item(HeldOut *h, TrainState *s, int64_t i, double *loss, Err *err)
{
    const Job *j = h->job;
    const Clip *clip = &h->clip[i / h->times];
    int64_t k = i % h->times, mark = arena_mark(s->work);
    SampleDraws draws = {.posterior = stream(j, clip, POSTERIOR, k),
                         .noise = stream(j, clip, NOISE, k),
                         .caption = k % clip->sample->n_text,
                         .timestep = h->timestep[i]};
    TrainBatch b;
    int rc = batch_read_one(j->data, &h->batch, clip->sample, &draws, err);

    if (rc == 0)
        rc = batch_put(j->data, &h->batch, j->be, s->work, &b, err);
    if (rc == 0)
        rc = train_loss(s, &b, loss, err);
    arena_reset(s->work, mark);
    return rc;
}

/* 1, with all losses and their mean; 0: asked to stop, or the mean is not finite. */
static int measure(HeldOut *h, TrainState *s, const char *of, double *loss, double *value, Err *err)
{
    double start = time_now_s();
    int rc = 0;

    for (int64_t i = 0; rc == 0 && i < h->clips * h->times; i++) {
        if (interrupt_requested())
            return 0;
        rc = measure_item(h, s, i, &loss[i], err);
    }
    if (rc < 0)
        return err_wrap(err, rc, "held-out loss%s after step %" PRId64, of, s->step);
    *value = mean(loss, h->clips * h->times);
    h->seconds += time_now_s() - start;
    h->latest_step = s->step; /* also of a loss that is not finite: it would be no other, measured again */
    if (isfinite(*value))
        return 1;
    log_warn(&h->job->log.log, "the held-out loss%s after step %" PRId64 " is %g; it is left out", of, s->step, *value);
    return 0;
}

int heldout_measure(HeldOut *h, TrainState *s, Err *err)
{
    double value;
    int rc;

    h->seconds = 0;
    h->average = NAN;
    if ((rc = measure(h, s, "", h->loss, &value, err)) <= 0)
        return rc;
    h->latest = value;
    h->has_latest = 1;
    if (s->step == 0) {
        memcpy(h->start, h->loss, (size_t)(h->clips * h->times) * sizeof *h->start);
        h->has_start = 1;
    }
    return 1;
}

int heldout_measure_average(HeldOut *h, TrainState *s, Err *err)
{
    double value;
    int rc = measure(h, s, " of the averaged weights", h->average_loss, &value, err);

    if (rc > 0)
        h->average = value;
    else if (rc == 0 && interrupt_requested())
        h->latest_step = s->step - 1; /* no line will be written */
    return rc;
}

int heldout_write(HeldOut *h, int64_t step, json_t **line, Err *err)
{
    char text[128], average[128];
    const json_t *ema;
    int rc;

    *line = NULL;
    if ((rc = make_line(h, step, line, err)) < 0 || (rc = append_line(h, *line, err)) < 0)
        return rc;
    ema = json_object_get(*line, "ema");
    log_info(&h->job->log.log, "step %" PRId64 ": held-out loss %s%s%s, %" PRId64 " clips x %" PRId64 " timesteps",
             step, heldout_text(*line, text), ema ? "; averaged weights " : "", ema ? heldout_text(ema, average) : "",
             h->clips, h->times);
    return 0;
}

const char *heldout_text(const json_t *line, char out[128])
{
    const json_t *change = json_object_get(line, "change");
    double loss = json_number_value(json_object_get(line, "loss"));

    if (json_object_get(change, "low"))
        snprintf(out, 128, "%.4f (%+.4f since step 0, 95 %% %+.4f to %+.4f)", loss,
                 json_number_value(json_object_get(change, "mean")), json_number_value(json_object_get(change, "low")),
                 json_number_value(json_object_get(change, "high")));
    else if (change)
        snprintf(out, 128, "%.4f (%+.4f since step 0)", loss, json_number_value(json_object_get(change, "mean")));
    else
        snprintf(out, 128, "%.4f", loss);
    return out;
}
