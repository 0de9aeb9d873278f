/* run.json, state.json, and the comparison that lets a run go on. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/build.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/identity.h"
#include "train/resume.h"

static const int64_t log_max = (int64_t)1 << 32;

/* ---- what is written ------------------------------------------------------------------------- */

/* The folder's real path, or `path` itself where that cannot be found; mem_free. */
static char *real_folder(const char *path, Err *err)
{
    char *real = realpath(path, NULL), *out = mem_strdup(real ? real : path, err);

    free(real);
    return out;
}

static void write_folder(JsonWriter *w, const char *key, const char *path)
{
    char *real = real_folder(path, NULL);

    jsonw_take(w, key, real ? json_string(real) : NULL);
    mem_free(real);
}

static void write_build(JsonWriter *w)
{
    BuildIdentity build;
    json_t *facts = NULL;

    build_identity(&build);
    jsonw_take(w, "build", build_identity_json(&build, &facts, NULL) == 0 ? facts : NULL);
}

/* Writes the members that run.json and state.json share. */
static void write_facts(JsonWriter *w, const Job *j)
{
    jsonw_str(w, "device", j->be->name);
    write_folder(w, "base_model", j->base);
    write_folder(w, "pretrained_weights", j->start);
    jsonw_str(w, "cache_digest", j->data->digest);
    write_build(w);
}

/* Which weights training started from, whatever lies at their paths later. */
static void write_start(JsonWriter *w, const Job *j)
{
    const json_t *weights = json_object_get(json_object_get(j->identity, "transformer"), "weights_sha256"),
                 *lora = json_object_get(j->identity, "lora_sha256");

    if (weights)
        jsonw_share(w, "weights_sha256", weights);
    if (lora)
        jsonw_share(w, "lora_sha256", lora);
}

int resume_run_json(const Job *j, int64_t parameters, json_t **out, Err *err)
{
    const Dataset *d = j->data;
    JsonWriter w;

    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_str(&w, "program", "weft-train");
    write_facts(&w, j);
    write_start(&w, j);
    jsonw_int(&w, "samples", d->n);
    jsonw_int(&w, "parameters", parameters);
    jsonw_int(&w, "steps", j->steps);
    jsonw_int(&w, "epoch_steps", j->epoch_steps);
    jsonw_ints(&w, "latents", (int64_t[]){d->F, d->h, d->w, d->C}, 4);
    jsonw_share(&w, "recipe", recipe_json(j->recipe));
    return jsonw_finish(&w, out, "run.json", err);
}

int resume_add_stopped(json_t *run, int64_t step, const char *reason, Err *err)
{
    json_t *stopped = NULL;
    JsonWriter w;
    int rc;

    jsonw_begin(&w);
    jsonw_int(&w, "step", step);
    jsonw_str(&w, "reason", reason);
    rc = jsonw_finish(&w, &stopped, "run.json", err);
    if (rc == 0 && json_object_set_new(run, "stopped", stopped) != 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for run.json");
    return rc;
}

static int recipe_digest(const Job *j, char hex[65], Err *err)
{
    char *text = json_canonical(recipe_json(j->recipe), err);
    int rc = text ? sha256_hex(text, (int64_t)strlen(text), hex, err) : ERR_NOMEM;

    mem_free(text);
    return rc;
}

int resume_state_json(const Job *j, int64_t step, int interim, json_t **out, Err *err)
{
    char digest[65];
    int64_t epoch, first, last;
    JsonWriter w;
    int rc = recipe_digest(j, digest, err);

    *out = NULL;
    if (rc < 0)
        return rc;
    job_step_range(j, step, &epoch, &first, &last); /* first: samples of `epoch` already seen */
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_int(&w, "step", step);
    jsonw_int(&w, "epoch", epoch);
    jsonw_int(&w, "position", first);
    jsonw_int(&w, "steps", j->steps);
    jsonw_int(&w, "seed", (int64_t)j->seed);
    if (interim)
        jsonw_bool(&w, "interim", 1);
    write_facts(&w, j);
    if (j->identity)
        jsonw_share(&w, "identity", j->identity);
    jsonw_str(&w, "recipe_digest", digest);
    jsonw_share(&w, "recipe", recipe_json(j->recipe));
    return jsonw_finish(&w, out, "state.json", err);
}

/* ---- comparison ------------------------------------------------------------------------------ */

/* These change how far and at what cost, never what is computed.  Folders may move: identity.h says
 * what of them matters. */
static int may_change(const char *key)
{
    static const char *const free_keys[] = {"num_epochs",          "max_steps",
                                            "checkpointing_steps", "checkpoints_total_limit",
                                            "log_every",           "gradient_checkpointing",
                                            "recompute",           "base_model",
                                            "pretrained_weights",  "max_nonfinite",
                                            "max_loss_ratio",      "lora_weights"};

    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (!strcmp(key, free_keys[i]))
            return 1;
    return 0;
}

static int note_change(Str *changes, const char *name, const json_t *before, const json_t *after, Err *err)
{
    char *a = NULL, *b = NULL;
    int rc;

    if (json_equal(before, after))
        return 0;
    a = json_text(before, 0, err);
    b = json_text(after, 0, err);
    rc = a && b ? str_printf(changes, err, "%s%s was %s and is %s", changes->len ? "; " : "", name, a, b) : ERR_NOMEM;
    mem_free(a);
    mem_free(b);
    return rc;
}

/* Schedules that end with the run have other rates in a longer or shorter one. */
static int note_length(Str *changes, const Job *j, const json_t *stored, Err *err)
{
    const json_t *steps = json_object_get(stored, "steps");
    int64_t before = json_integer_value(steps);

    if (!rate_needs_length(&j->c.rate) || !steps || before == j->steps)
        return 0;
    return str_printf(changes, err,
                      "%straining.lr_scheduler '%s' spreads over all steps of the run, which were %" PRId64
                      " and are %" PRId64,
                      changes->len ? "; " : "", recipe_str(j->recipe, "training.lr_scheduler"), before, j->steps);
}

static int note_all(Str *changes, const Job *j, const json_t *stored, Err *err)
{
    const json_t *after = recipe_json(j->recipe);
    const char *key;
    json_t *before = NULL, *v;
    int rc = recipe_complete(&before, json_object_get(stored, "recipe"), err);

    if (rc == 0)
        rc = note_change(changes, "seed", json_object_get(before, "seed"), json_object_get(after, "seed"), err);
    if (rc == 0 && j->identity && json_object_get(stored, "identity"))
        rc = identity_changes(changes, json_object_get(stored, "identity"), j->identity, err);
    if (rc == 0 && strcmp(json_string_value(json_object_get(stored, "cache_digest")), j->data->digest))
        rc = str_printf(changes, err, "%sthe clips to train on (caches, --limit), their latents or texts are others",
                        changes->len ? "; " : "");
    if (rc == 0)
        rc = note_length(changes, j, stored, err);
    json_object_foreach (json_object_get(after, "training"), key, v) {
        char name[96];
        snprintf(name, sizeof name, "training.%s", key);
        if (rc == 0 && !may_change(key))
            rc = note_change(changes, name, json_object_get(json_object_get(before, "training"), key), v, err);
    }
    json_decref(before);
    return rc;
}

/* Warns of differences that change the last bits only, and of those that cannot be compared. */
static int warn_of_differences(const Job *j, const json_t *stored, int64_t step, Err *err)
{
    const Log *log = &j->log.log;
    const char *device = json_string_value(json_object_get(stored, "device"));
    const json_t *before = json_object_get(stored, "build");
    BuildIdentity build;
    Str changes = {0};
    int rc = 0;

    if (!json_object_get(stored, "identity"))
        log_warn(log,
                 "checkpoint-%" PRId64
                 " was written by version 0.1: whether the noise schedule and the starting weights are "
                 "the same is not known",
                 step);
    if (!j->plan && strcmp(device, j->be->name))
        log_warn(log, "checkpoint-%" PRId64 " was computed on %s, this run on %s: results will differ in the last bits",
                 step, device, j->be->name);
    build_identity(&build);
    if (before)
        rc = build_identity_changes(&build, before, &changes, err);
    if (rc > 0)
        log_warn(log, "checkpoint-%" PRId64 " was computed by another build (%s): results can differ in the last bits",
                 step, changes.data);
    str_fini(&changes);
    return rc < 0 ? rc : 0;
}

int resume_check(const Job *j, const json_t *stored, int64_t step, Err *err)
{
    Str changes = {0};
    int rc = note_all(&changes, j, stored, err);

    if (rc == 0 && changes.len)
        rc = err_set(err, ERR_USAGE,
                     "cannot go on from checkpoint-%" PRId64 ": %s; undo the change, or train into another folder",
                     step, changes.data);
    if (rc == 0 && j->steps < step)
        rc = err_set(err, ERR_USAGE, "cannot go on from checkpoint-%" PRId64 ": the recipe ends at step %" PRId64, step,
                     j->steps);
    if (rc == 0)
        rc = warn_of_differences(j, stored, step, err);
    str_fini(&changes);
    return rc;
}

/* ---- log ------------------------------------------------------------------------------------- */

/* 1: a line (without its newline) is a complete log line of a step up to `step`; 0: it is not. */
static int line_stays(const char *line, int64_t n, int64_t step, Err *err)
{
    json_t *v = NULL;
    int64_t at = 0;
    int rc = json_parse(&v, line, n, "log.jsonl", NULL);
    int stays = rc == 0 && json_is_object(v) && json_get_int(v, "step", "log.jsonl", &at, NULL) == 0 && at <= step;

    json_decref(v);
    return rc == ERR_NOMEM ? err_set(err, rc, "out of memory: reading log.jsonl") : stays;
}

int resume_cut_log(const char *path, int64_t step, Err *err)
{
    char *text = NULL, *at, *end;
    int64_t size = 0;
    int rc = file_look(path, err);

    if (rc <= 0 || (rc = file_read(path, log_max, &text, &size, err)) < 0)
        return rc;
    for (at = text; (end = memchr(at, '\n', (size_t)(text + size - at))) != NULL; at = end + 1)
        if ((rc = line_stays(at, end - at, step, err)) <= 0)
            break;
    rc = rc < 0 ? rc : 0;
    if (rc == 0 && at != text + size)
        rc = file_write_atomic(path, text, at - text, err);
    mem_free(text);
    return rc;
}
