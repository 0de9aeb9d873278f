/* Noise schedule, timesteps and step coefficients: MODEL.md section 4.
 *
 * The schedule is a pure function of a handful of numbers; everything stays in double until a
 * sampler applies it. */
#include <math.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/schedule.h"

typedef struct ScheduleSpec {
    int64_t n_train;
    double beta_start, beta_end, snr_shift;
    int zero_snr, alpha_to_one;
} ScheduleSpec;

static int schedule_build(Schedule *s, const ScheduleSpec *spec, Err *err)
{
    int64_t n = spec->n_train, i;
    double lo = sqrt(spec->beta_start), hi = sqrt(spec->beta_end), step = (hi - lo) / (double)(n - 1), product = 1.0,
           first, last;

    s->n_train = n;
    s->alpha_bar = mem_calloc(n, sizeof(double), err);
    if (!s->alpha_bar)
        return ERR_NOMEM;
    for (i = 0; i < n; i++) {
        /* from both ends, as torch.linspace does */
        double root = i < n / 2 ? lo + step * (double)i : hi - step * (double)(n - 1 - i);
        product *= 1.0 - root * root;
        s->alpha_bar[i] = product / (spec->snr_shift + (1.0 - spec->snr_shift) * product);
    }
    if (spec->zero_snr) {
        first = sqrt(s->alpha_bar[0]);
        last = sqrt(s->alpha_bar[n - 1]);
        for (i = 0; i < n; i++) {
            double root = (sqrt(s->alpha_bar[i]) - last) * (first / (first - last));
            s->alpha_bar[i] = root * root;
        }
    }
    s->final_alpha = spec->alpha_to_one ? 1.0 : s->alpha_bar[0];
    return 0;
}

int schedule_init_default(Schedule *s, Err *err)
{
    static const ScheduleSpec spec = {1000, 0.00085, 0.012, 3.0, 1, 1};

    memset(s, 0, sizeof *s);
    s->spacing = SPACING_TRAILING;
    return schedule_build(s, &spec, err);
}

void schedule_fini(Schedule *s)
{
    mem_free(s->alpha_bar);
    s->alpha_bar = NULL;
}

/* ---- scheduler_config.json ------------------------------------------------------------------- */

static int read_spacing(TimestepSpacing *out, const json_t *o, const char *where, Err *err)
{
    const char *text;
    int rc = json_get_str_or(o, "timestep_spacing", where, "leading", &text, err);

    if (rc < 0)
        return rc;
    if (!strcmp(text, "trailing"))
        *out = SPACING_TRAILING;
    else if (!strcmp(text, "linspace"))
        *out = SPACING_LINSPACE;
    else if (!strcmp(text, "leading"))
        *out = SPACING_LEADING;
    else
        return err_set(err, ERR_UNSUPPORTED, "%s: timestep_spacing is '%s', expected trailing, linspace or leading",
                       where, text);
    return 0;
}

/* A string that must have one value for the maths here to hold. */
static int require_text(const json_t *o, const char *key, const char *dflt, const char *want, const char *where,
                        Err *err)
{
    const char *text;
    int rc = json_get_str_or(o, key, where, dflt, &text, err);

    if (rc < 0)
        return rc;
    return strcmp(text, want)
               ? err_set(err, ERR_UNSUPPORTED, "%s: %s is '%s', only '%s' is supported", where, key, text, want)
               : 0;
}

/* Absent keys take the defaults of diffusers' class, which is what from_pretrained does. */
static int schedule_parse(Schedule *s, const json_t *o, const char *where, Err *err)
{
    ScheduleSpec spec;
    const char *cls;
    int rc;

    if ((rc = json_get_str(o, "_class_name", where, &cls, err)) < 0)
        return rc;
    s->dpm = !strcmp(cls, "CogVideoXDPMScheduler");
    if (!s->dpm && strcmp(cls, "CogVideoXDDIMScheduler"))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: scheduler class '%s', expected CogVideoXDDIMScheduler or CogVideoXDPMScheduler", where,
                       cls);
    if ((rc = require_text(o, "prediction_type", "epsilon", "v_prediction", where, err)) < 0 ||
        (rc = require_text(o, "beta_schedule", "scaled_linear", "scaled_linear", where, err)) < 0 ||
        (rc = read_spacing(&s->spacing, o, where, err)) < 0 ||
        (rc = json_get_int_or(o, "num_train_timesteps", where, 1000, &spec.n_train, err)) < 0 ||
        (rc = json_get_int_or(o, "steps_offset", where, 0, &s->steps_offset, err)) < 0 ||
        (rc = json_get_num_or(o, "beta_start", where, 0.00085, &spec.beta_start, err)) < 0 ||
        (rc = json_get_num_or(o, "beta_end", where, 0.012, &spec.beta_end, err)) < 0 ||
        (rc = json_get_num_or(o, "snr_shift_scale", where, 3.0, &spec.snr_shift, err)) < 0 ||
        (rc = json_get_bool_or(o, "rescale_betas_zero_snr", where, 0, &spec.zero_snr, err)) < 0 ||
        (rc = json_get_bool_or(o, "set_alpha_to_one", where, 1, &spec.alpha_to_one, err)) < 0)
        return rc;
    if (json_object_get(o, "trained_betas") && !json_is_null(json_object_get(o, "trained_betas")))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: trained_betas is set; only a schedule computed from beta_start and beta_end is supported",
                       where);
    if (spec.n_train < 2 || spec.n_train > 1000000)
        return err_set(err, ERR_FORMAT, "%s: num_train_timesteps is %" PRId64 ", expected 2 to 1000000", where,
                       spec.n_train);
    if (!(spec.beta_start > 0 && spec.beta_start < spec.beta_end && spec.beta_end < 1))
        return err_set(err, ERR_FORMAT, "%s: beta_start %g and beta_end %g, expected 0 < start < end < 1", where,
                       spec.beta_start, spec.beta_end);
    if (!(spec.snr_shift > 0 && spec.snr_shift < 1e6))
        return err_set(err, ERR_FORMAT, "%s: snr_shift_scale is %g, expected a positive number", where, spec.snr_shift);
    if (s->steps_offset < 0 || s->steps_offset >= spec.n_train)
        return err_set(err, ERR_FORMAT, "%s: steps_offset is %" PRId64 ", expected 0 to %" PRId64, where,
                       s->steps_offset, spec.n_train - 1);
    return schedule_build(s, &spec, err);
}

int schedule_init_file(Schedule *s, const char *folder, Err *err)
{
    json_t *o = NULL;
    char *path = NULL;
    int rc;

    memset(s, 0, sizeof *s);
    path = mem_printf(err, "%s/scheduler_config.json", folder);
    if (!path)
        return ERR_NOMEM;
    rc = json_read_file(&o, path, err);
    if (rc == 0 && !json_is_object(o))
        rc = err_set(err, ERR_FORMAT, "%s: expected a JSON object", path);
    if (rc == 0)
        rc = schedule_parse(s, o, path, err);
    json_decref(o);
    mem_free(path);
    return rc;
}

/* ---- timesteps ------------------------------------------------------------------------------- */

/* numpy.arange(N, 0, -N/n): its length in floating point, which is n+1 for some n. */
static int64_t trailing_length(int64_t n_train, int64_t n)
{
    return (int64_t)ceil(-(double)n_train / (-((double)n_train / (double)n)));
}

static int64_t timestep_raw(const Schedule *s, int64_t n, int64_t k)
{
    double N = (double)s->n_train, delta;

    switch (s->spacing) {
    case SPACING_TRAILING: /* element k of that arange, rounded to even, minus one */
        delta = (N - N / (double)n) - N;
        return (int64_t)rint(k == 0 ? N : N + (double)k * delta) - 1;
    case SPACING_LINSPACE: return (int64_t)rint(n == 1 ? 0.0 : (double)(n - 1 - k) * ((N - 1) / (double)(n - 1)));
    default: return (n - 1 - k) * (s->n_train / n) + s->steps_offset;
    }
}

int schedule_timesteps(const Schedule *s, int64_t n, int64_t *t, Err *err)
{
    int64_t k;

    if (n < 1 || n > s->n_train)
        return err_set(err, ERR_USAGE, "%" PRId64 " sampling steps, expected 1 to %" PRId64, n, s->n_train);
    if (s->spacing == SPACING_TRAILING && trailing_length(s->n_train, n) != n) {
        int64_t lower = n, upper = n;
        while (s->n_train % lower)
            lower--;
        while (s->n_train % upper)
            upper++;
        return err_set(err, ERR_USAGE,
                       "%" PRId64 " sampling steps: trailing spacing does not give %" PRId64
                       " distinct timesteps for that count; "
                       "the nearest that "
                       "divide %" PRId64 " are %" PRId64 " and %" PRId64,
                       n, n, s->n_train, lower, upper);
    }
    for (k = 0; k < n; k++) {
        t[k] = timestep_raw(s, n, k);
        if (t[k] < 0 || t[k] >= s->n_train || (k > 0 && t[k] >= t[k - 1]))
            return err_set(err, ERR_USAGE,
                           "%" PRId64 " sampling steps: step %" PRId64 " has timestep %" PRId64
                           ", expected descending values within 0 to %" PRId64,
                           n, k, t[k], s->n_train - 1);
    }
    return 0;
}

int schedule_check_steps(const Schedule *s, int64_t n, Err *err)
{
    int64_t *t = mem_calloc(n > 0 && n <= s->n_train ? n : 1, sizeof *t, err);
    int rc = t ? schedule_timesteps(s, n, t, err) : ERR_NOMEM;

    mem_free(t);
    return rc;
}

/* ---- coefficients ---------------------------------------------------------------------------- */

/* The step goes to t - N/n, which need not be the next list entry: the reference does so too. */
static double alpha_previous(const Schedule *s, int64_t t, int64_t n_steps, int *last)
{
    int64_t prev = t - s->n_train / n_steps;

    *last = prev < 0;
    return prev >= 0 ? s->alpha_bar[prev] : s->final_alpha;
}

void velocity_coefficients(const Schedule *s, int64_t t, double *sqrt_a, double *sqrt_1a)
{
    *sqrt_a = sqrt(s->alpha_bar[t]);
    *sqrt_1a = sqrt(1.0 - s->alpha_bar[t]);
}

DdimStep ddim_step(const Schedule *s, int64_t t, int64_t n_steps)
{
    int last;
    double now = s->alpha_bar[t], prev = alpha_previous(s, t, n_steps, &last);
    DdimStep step;

    step.a = sqrt((1.0 - prev) / (1.0 - now));
    step.b = sqrt(prev) - sqrt(now) * step.a;
    return step;
}

/* Half the log of the signal-to-noise ratio; -inf at alpha 0, +inf at alpha 1. */
static double half_log_snr(double alpha)
{
    return 0.5 * log(alpha / (1.0 - alpha));
}

DpmStep dpm_step(const Schedule *s, int64_t t, int64_t t_back, int64_t n_steps)
{
    int last;
    double now = s->alpha_bar[t], prev = alpha_previous(s, t, n_steps, &last);
    double h = half_log_snr(prev) - half_log_snr(now);
    DpmStep step = {0, 0, 1, 0, 0};

    /* h is +inf on the first step (alpha 0) and the last (alpha 1): exp(-inf) and expm1(-inf) are
     * the limits wanted */
    step.c1 = sqrt((1.0 - prev) / (1.0 - now)) * exp(-h);
    step.c2 = expm1(-2.0 * h) * sqrt(prev);
    step.cn = sqrt(1.0 - prev) * sqrt(1.0 - exp(-2.0 * h));
    if (t_back >= 0 && !last) {
        double r = (half_log_snr(now) - half_log_snr(s->alpha_bar[t_back])) / h;
        step.c4 = 1.0 / (2.0 * r); /* r = inf on the second step gives 0 */
        step.c3 = 1.0 + step.c4;
    }
    return step;
}

double guidance_at(double g, int dynamic, int64_t t, int64_t n_steps)
{
    /* The angle reaches 7.7e6 rad: double only.  t is the timestep value, not the step number: that
     * is how the reference has it. */
    double part = (double)(n_steps - t) / (double)n_steps;

    return dynamic ? 1.0 + g * (1.0 - cos(M_PI * pow(part, 5.0))) / 2.0 : g;
}
