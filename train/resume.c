/* run.json, state.json, and the comparison that lets a run go on. */
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/resume.h"

static const int64_t log_max = (int64_t)1 << 32;

static json_t *or_no_memory(json_t *o, Err *err)
{
    if (!o)
        err_set(err, ERR_NOMEM, "out of memory describing the run");
    return o;
}

/* Where a folder really is; as it was spelled when it is not there.  mem_free. */
static char *real_folder(const char *path, Err *err)
{
    char *real = realpath(path, NULL), *out = mem_strdup(real ? real : path, err);

    free(real);
    return out;
}

static int recipe_digest(const Job *j, char hex[65], Err *err)
{
    char *text = json_canonical(recipe_json(j->recipe), err);
    Digest d;
    int rc = text ? sha256_bytes(text, (int64_t)strlen(text), &d, err) : ERR_NOMEM;

    if (rc == 0)
        digest_hex(&d, hex);
    mem_free(text);
    return rc;
}

json_t *resume_run_json(const Job *j, int64_t parameters, Err *err)
{
    char *base = real_folder(j->base, err), *start = real_folder(j->start, err);
    json_t *o = !base || !start
                    ? NULL
                    : json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:[IIII], s:O}", "format", 1,
                                "program", "weft-train", "device", j->be->name, "base_model", base,
                                "pretrained_weights", start, "cache_digest", j->data->digest, "samples",
                                (json_int_t)j->data->n, "parameters", (json_int_t)parameters, "steps",
                                (json_int_t)j->steps, "epoch_steps", (json_int_t)j->epoch_steps, "latents",
                                (json_int_t)j->data->F, (json_int_t)j->data->h, (json_int_t)j->data->w,
                                (json_int_t)j->data->C, "recipe", recipe_json(j->recipe));

    mem_free(base);
    mem_free(start);
    return or_no_memory(o, err);
}

json_t *resume_state_json(const Job *j, int64_t step, Err *err)
{
    char *base = real_folder(j->base, err), *start = real_folder(j->start, err), digest[65];
    int64_t epoch, first, last;
    json_t *o = NULL;

    job_step_range(j, step, &epoch, &first, &last); /* first: samples of `epoch` already seen */
    if (base && start && recipe_digest(j, digest, err) == 0)
        o = json_pack("{s:i, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:O}", "format", 1, "step", (json_int_t)step,
                      "epoch", (json_int_t)epoch, "position", (json_int_t)first, "seed", (json_int_t)j->seed, "device",
                      j->be->name, "base_model", base, "pretrained_weights", start, "cache_digest", j->data->digest,
                      "recipe_digest", digest, "recipe", recipe_json(j->recipe));
    mem_free(base);
    mem_free(start);
    return or_no_memory(o, err);
}

/* ---- comparison ------------------------------------------------------------------------------ */

/* These change how far and at what cost, never what is computed; the folders are compared as they
 * were chosen, beside. */
static int may_change(const char *key)
{
    static const char *const free_keys[] = {"num_epochs",          "max_steps",
                                            "checkpointing_steps", "checkpoints_total_limit",
                                            "log_every",           "gradient_checkpointing",
                                            "recompute",           "base_model",
                                            "pretrained_weights"};

    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (!strcmp(key, free_keys[i]))
            return 1;
    return 0;
}

static int note_change(Str *changes, const char *name, const json_t *before, const json_t *after, Err *err)
{
    char *a = NULL, *b = NULL;
    int rc;

    if (before && json_equal(before, after))
        return 0;
    a = before ? json_text(before, 0, err) : mem_strdup("nothing", err);
    b = json_text(after, 0, err);
    rc = a && b ? str_printf(changes, err, "%s%s was %s and is %s", changes->len ? "; " : "", name, a, b) : ERR_NOMEM;
    mem_free(a);
    mem_free(b);
    return rc;
}

static int note_folder(Str *changes, const char *name, const json_t *stored, const char *after, Err *err)
{
    char *real = real_folder(after, err);
    json_t *now = real ? json_string(real) : NULL;
    int rc = now ? note_change(changes, name, json_object_get(stored, name), now, err) : ERR_NOMEM;

    json_decref(now);
    mem_free(real);
    return rc;
}

static int note_all(Str *changes, const Job *j, const json_t *stored, Err *err)
{
    const json_t *before = json_object_get(stored, "recipe"), *after = recipe_json(j->recipe);
    const json_t *old = json_object_get(before, "training");
    const char *key;
    json_t *v;
    int rc = note_change(changes, "seed", json_object_get(before, "seed"), json_object_get(after, "seed"), err);

    if (rc == 0)
        rc = note_folder(changes, "base_model", stored, j->base, err);
    if (rc == 0)
        rc = note_folder(changes, "pretrained_weights", stored, j->start, err);
    if (rc == 0 && strcmp(json_string_value(json_object_get(stored, "cache_digest")), j->data->digest))
        rc = str_printf(changes, err, "%sthe cache holds other clips, latents or texts", changes->len ? "; " : "");
    json_object_foreach (json_object_get(after, "training"), key, v) {
        char name[96];
        snprintf(name, sizeof name, "training.%s", key);
        if (rc == 0 && !may_change(key))
            rc = note_change(changes, name, json_object_get(old, key), v, err);
    }
    return rc;
}

int resume_check(const Job *j, const json_t *stored, int64_t step, Err *err)
{
    Str changes = {0};
    const char *device = json_string_value(json_object_get(stored, "device"));
    int rc = note_all(&changes, j, stored, err);

    if (rc == 0 && changes.len)
        rc = err_set(err, ERR_USAGE,
                     "cannot go on from checkpoint-%lld: %s; undo the change, or train into another folder",
                     (long long)step, changes.data);
    if (rc == 0 && j->steps < step)
        rc = err_set(err, ERR_USAGE, "cannot go on from checkpoint-%lld: the recipe stops at step %lld",
                     (long long)step, (long long)j->steps);
    if (rc == 0 && strcmp(device, j->be->name))
        log_warn(&j->log.log,
                 "checkpoint-%lld was computed on %s, this run on %s: results will differ in the last bits",
                 (long long)step, device, j->be->name);
    str_fini(&changes);
    return rc;
}

/* ---- log ------------------------------------------------------------------------------------- */

/* Whether one line (without its newline) is a log line of a step up to `step`. */
static int line_stays(const char *line, int64_t n, int64_t step)
{
    json_t *v = NULL;
    int64_t at = 0;
    int stays = json_parse(&v, line, n, "log.jsonl", NULL) == 0 && json_is_object(v) &&
                json_get_int(v, "step", "log.jsonl", &at, NULL) == 0 && at <= step;

    json_decref(v);
    return stays;
}

int resume_cut_log(const char *path, int64_t step, Err *err)
{
    char *text = NULL, *at, *end;
    int64_t size = 0;
    int rc;

    if (!file_exists(path))
        return 0;
    if ((rc = file_read(path, log_max, &text, &size, err)) < 0)
        return rc;
    for (at = text; (end = memchr(at, '\n', (size_t)(text + size - at))) != NULL && line_stays(at, end - at, step);
         at = end + 1)
        continue;
    if (at != text + size)
        rc = file_write_atomic(path, text, at - text, err);
    mem_free(text);
    return rc;
}
