/* Which checkpoints a run has, whether they are undamaged, and which of them go. */
#include <inttypes.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/model/lora.h"
#include "train/checkpoint.h"
#include "train/file_list.h"

static const char state_path[] = "weft_state/state.json";
enum { STATE_FORMAT = 1 };

/* N of "checkpoint-N", or -1. */
static int64_t checkpoint_number(const char *name)
{
    static const char prefix[] = "checkpoint-";
    char *end;
    long long n;

    if (strncmp(name, prefix, sizeof prefix - 1) || name[sizeof prefix - 1] < '1' || name[sizeof prefix - 1] > '9')
        return -1;
    errno = 0;
    n = strtoll(name + sizeof prefix - 1, &end, 10);
    return *end || errno ? -1 : n;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Steps of all checkpoint folders, ascending; *steps is mem_free's. */
static int list_steps(const char *run, int64_t **steps, int64_t *n, Err *err)
{
    char **names = NULL;
    int64_t n_names = 0;
    int rc = dir_list(run, &names, &n_names, err);

    *steps = NULL;
    *n = 0;
    if (rc == 0 && !(*steps = mem_calloc(n_names, sizeof **steps, err)))
        rc = ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < n_names; i++)
        if (checkpoint_number(names[i]) > 0)
            (*steps)[(*n)++] = checkpoint_number(names[i]);
    if (rc == 0)
        qsort(*steps, (size_t)*n, sizeof **steps, by_number);
    dir_list_free(&names, n_names);
    return rc;
}

int checkpoint_count(const char *run, int64_t *n, Err *err)
{
    int64_t *steps = NULL;
    int rc = file_look(run, err);

    *n = 0;
    if (rc > 0)
        rc = list_steps(run, &steps, n, err);
    mem_free(steps);
    return rc;
}

/* ---- one checkpoint -------------------------------------------------------------------------- */

/* A later version's file may have keys that this one does not know: that is no damage. */
static int check_format(const json_t *state, const char *path, Err *err)
{
    int64_t format = json_integer_value(json_object_get(state, "format"));

    return format <= STATE_FORMAT
               ? 0
               : err_set(err, ERR_UNSUPPORTED,
                         "'%s' has format %" PRId64 " and this weft-train reads format %d: a newer version "
                         "wrote it; use that one, or train into another folder",
                         path, format, STATE_FORMAT);
}

static int read_state(const char *folder, int64_t step, json_t **state, Err *err)
{
    char *path = path_join(folder, state_path, err);
    int64_t stored = 0;
    int rc = path ? file_look(folder, err) : ERR_NOMEM; /* a link to an unmounted disk is no damage */

    if (rc >= 0)
        rc = path ? json_read_file(state, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = check_format(*state, path, err);
    if (rc == 0)
        rc = schema_check("train-state", *state, path, err);
    if (rc == 0)
        rc = json_get_int(*state, "step", path, &stored, err);
    if (rc == 0 && stored != step)
        rc = err_set(err, ERR_FORMAT, "'%s' belongs to step %" PRId64, path, stored);
    mem_free(path);
    return rc;
}

typedef int (*CheckFiles)(const char *folder, const json_t *list, Err *err);

/* state.json fits, lists the files that going on needs (`optimizer`: those of a checkpoint), and
 * every listed file is as it says. */
static int check_folder(const char *folder, int64_t step, int optimizer, CheckFiles check, json_t **state, Err *err)
{
    static const char *const needed[] = {"transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
                                         "weft_state/optimizer.safetensors"};
    const json_t *files;
    int rc = read_state(folder, step, state, err), lora;

    files = rc == 0 ? json_object_get(*state, "files") : NULL;
    lora = json_object_get(files, LORA_FILE_NAME) != NULL;
    for (int i = lora ? 2 : 0; rc == 0 && i < 2 + optimizer; i++)
        if (!json_object_get(files, needed[i]))
            rc = err_set(err, ERR_FORMAT, "'%s/%s' does not list %s", folder, state_path, needed[i]);
    return rc == 0 ? check(folder, files, err) : rc;
}

/* Files are missing or have other bytes.  Any other code means that they could not be read. */
static int is_damage(int rc)
{
    return rc == ERR_FORMAT || rc == ERR_NOTFOUND;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* The candidate's code; its message goes to the log when it is damaged, else to err. */
static int try_checkpoint(const char *run, const Log *log, int64_t step, json_t **state, Err *err)
{
    char *folder = checkpoint_folder(run, step, err);
    Err why = {0};
    int rc = folder ? check_folder(folder, step, 1, file_list_check, state, &why) : ERR_NOMEM;

    mem_free(folder);
    if (rc == 0)
        return 0;
    json_decref(*state);
    *state = NULL;
    if (is_damage(rc))
        log_warn(log, "checkpoint-%" PRId64 " is damaged and is not used: %s", step, why.msg);
    else if (why.msg[0])
        err_set(err, rc, "checkpoint-%" PRId64 " cannot be used, and nothing was changed: %s", step, why.msg);
    return rc;
}

int checkpoint_newest(const char *run, const Log *log, int64_t *step, json_t **state, Err *err)
{
    int64_t *steps = NULL, n = 0;
    int rc = list_steps(run, &steps, &n, err), damaged = 0;

    *step = 0;
    *state = NULL;
    for (int64_t i = n - 1; rc == 0 && *step == 0 && i >= 0; i--) {
        rc = try_checkpoint(run, log, steps[i], state, err);
        if (rc == 0)
            *step = steps[i];
        else if (is_damage(rc))
            rc = 0, damaged++;
    }
    if (rc == 0 && *step == 0 && damaged)
        rc = err_set(err, ERR_FORMAT,
                     "'%s': %s damaged; put an undamaged copy back, or remove checkpoint-* to start at step 0", run,
                     damaged == 1 ? "its only checkpoint is" : "all its checkpoints are");
    mem_free(steps);
    return rc;
}

static int remove_checkpoint(const char *run, int64_t step, Err *err)
{
    char *folder = checkpoint_folder(run, step, err);
    int rc = folder ? dir_remove(folder, err) : ERR_NOMEM;

    mem_free(folder);
    return rc;
}

/* Whether checkpoint `step`, older than the current one, goes; *kept counts those that stay. */
static int goes(const char *run, int64_t step, int64_t keep, int64_t *kept, Err *err)
{
    char *folder = checkpoint_folder(run, step, err);
    json_t *state = NULL;
    int rc = folder ? check_folder(folder, step, 1, file_list_check_sizes, &state, NULL) : ERR_NOMEM;
    int interim = rc == 0 && json_is_true(json_object_get(state, "interim"));

    json_decref(state);
    mem_free(folder);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "out of memory looking at checkpoint-%" PRId64, step);
    if (rc < 0)
        return keep >= 1 && is_damage(rc);
    return interim || (keep >= 1 && ++*kept > keep);
}

int checkpoint_prune(const char *run, int64_t step, int64_t keep, Err *err)
{
    int64_t *steps = NULL, n = 0, kept = 1; /* checkpoint `step` */
    int rc = list_steps(run, &steps, &n, err);

    for (int64_t i = n - 1; rc >= 0 && i >= 0; i--) {
        if (steps[i] == step)
            continue;
        /* later ones were looked at before `step` was chosen: they are damaged */
        rc = steps[i] > step ? keep >= 1 : goes(run, steps[i], keep, &kept, err);
        if (rc > 0)
            rc = remove_checkpoint(run, steps[i], err);
    }
    mem_free(steps);
    return rc < 0 ? rc : 0;
}

int final_is_at(const char *run, int64_t step, Err *err)
{
    char *folder = path_join(run, "final", err);
    json_t *state = NULL;
    Err why = {0};
    int rc = folder ? check_folder(folder, step, 0, file_list_check, &state, &why) : ERR_NOMEM;

    json_decref(state);
    mem_free(folder);
    if (rc == 0 || is_damage(rc))
        return rc == 0;
    return why.msg[0] ? err_set(err, rc, "%s", why.msg) : rc;
}
