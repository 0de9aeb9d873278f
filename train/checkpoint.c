/* Saving, finding and loading checkpoints. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "train/checkpoint.h"
#include "train/parts.h"
#include "train/pipeline.h"

static const char state_path[] = "weft_state/state.json";
static const char optimizer_path[] = "weft_state/optimizer.safetensors";

char *checkpoint_folder(const char *run, int64_t step, Err *err)
{
    return mem_printf(err, "%s/checkpoint-%lld", run, (long long)step);
}

/* ---- optimiser state ------------------------------------------------------------------------- */

enum { ARENAS = 3 };

/* What resuming needs beside the transformer's file: flat arenas laid out like the parameters. */
typedef struct FlatArenas {
    Tensor flat[ARENAS];
    const char *name[ARENAS];
    int n;
} FlatArenas;

/* The type of the transformer's file: what operations read.  Where masters lie beside that they go
 * with the moments. */
static DType file_type(const TrainState *s)
{
    return s->be->act == DT_BF16 || dit_params(s->dit)->values == DT_BF16 ? DT_BF16 : DT_F32;
}

static FlatArenas arenas_of(const TrainState *s)
{
    Tensor values = params_flat_values(dit_params(s->dit));

    return (FlatArenas){{s->m, s->v, values}, {"m", "v", "master"}, values.dtype != file_type(s) ? 3 : 2};
}

/* Parameter p's part of one; on the back end. */
static Tensor flat_part(const TrainState *s, const Tensor *flat, const Param *p)
{
    Tensor values = params_flat_values(dit_params(s->dit)), t = tensor_view(NULL, DT_F32, p->rank, p->dim);

    t.data = (char *)flat->data +
             ((char *)p->master.data - (char *)values.data) / dtype_size(values.dtype) * dtype_size(DT_F32);
    return t;
}

/* Tensors in the order of the file's list: all parameters of one arena, then of the next; brought
 * to the host one at a time. */
typedef struct Saving {
    const TrainState *s;
    FlatArenas a;
    void *room;
} Saving;

static Tensor saved_part(const Saving *w, int64_t i)
{
    const ParamSet *ps = dit_params(w->s->dit);

    return flat_part(w->s, &w->a.flat[i / ps->n], &ps->param[i % ps->n]);
}

static int fetch(void *user, int64_t i, const void **data, Err *err)
{
    Saving *w = user;
    Tensor t = saved_part(w, i);

    *data = w->s->be->host ? t.data : w->room;
    return w->s->be->host ? 0 : w->s->be->download(w->s->be, w->room, t.data, tensor_bytes(&t), err);
}

static int save_optimizer(const TrainState *s, const char *path, Err *err)
{
    const ParamSet *ps = dit_params(s->dit);
    Saving w = {.s = s, .a = arenas_of(s)};
    int64_t n = w.a.n * ps->n, largest = 0;
    SafeSource *source = mem_calloc(n, sizeof *source, err);
    char **name = mem_calloc(n, sizeof *name, err);
    int rc = source && name ? 0 : ERR_NOMEM;

    for (int64_t i = 0; i < n && rc == 0; i++) {
        Tensor t = saved_part(&w, i);
        largest = tensor_bytes(&t) > largest ? tensor_bytes(&t) : largest;
        name[i] = mem_printf(err, "%s.%s", w.a.name[i / ps->n], ps->param[i % ps->n].name);
        source[i] = (SafeSource){name[i], t};
        rc = name[i] ? 0 : ERR_NOMEM;
    }
    if (rc == 0 && !s->be->host && !(w.room = mem_alloc_aligned(largest, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = safetensors_write_from(path, source, n, NULL, fetch, &w, err);
    for (int64_t i = 0; name && i < n; i++)
        mem_free(name[i]);
    mem_free_aligned(w.room);
    mem_free(name);
    mem_free(source);
    return rc;
}

/* Uploads one tensor of an arena, or adds its name to the list of what is wrong. */
static int load_part(TrainState *s, const SafeTensors *file, const Tensor *flat, const char *kind, const Param *p,
                     Str *bad, Err *err)
{
    char *name = mem_printf(err, "%s.%s", kind, p->name);
    const SafeEntry *e = name ? safetensors_find(file, name) : NULL;
    Tensor part = flat_part(s, flat, p);
    int rc = name ? 0 : ERR_NOMEM;

    if (rc == 0 && (!e || e->tensor.dtype != DT_F32 || !tensor_same_shape(&e->tensor, &part)))
        rc = str_printf(bad, err, "%s%s", bad->len ? ", " : "", name);
    else if (rc == 0)
        rc = s->be->upload(s->be, part.data, e->tensor.data, tensor_bytes(&part), err);
    mem_free(name);
    return rc;
}

int checkpoint_load_optimizer(const char *run, int64_t step, TrainState *s, Err *err)
{
    ParamSet *ps = dit_params(s->dit);
    FlatArenas a = arenas_of(s);
    char *path = mem_printf(err, "%s/checkpoint-%lld/%s", run, (long long)step, optimizer_path);
    SafeTensors *file = NULL;
    Str bad = {0};
    int rc = path ? safetensors_open(&file, path, err) : ERR_NOMEM;

    for (int k = 0; k < a.n; k++)
        for (int64_t i = 0; i < ps->n && rc == 0; i++)
            rc = load_part(s, file, &a.flat[k], a.name[k], &ps->param[i], &bad, err);
    if (rc == 0 && bad.len)
        rc = err_set(err, ERR_FORMAT, "'%s': missing or misshapen: %s", path, bad.data);
    if (rc == 0)
        rc = params_refresh(ps, err);
    if (rc == 0)
        s->step = step;
    safetensors_close(&file);
    str_fini(&bad);
    mem_free(path);
    return rc;
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* Transformer, and the optimiser for a checkpoint, into `folder`. */
static int write_parts(const char *folder, const TrainState *s, int optimizer, Err *err)
{
    char *transformer = path_join(folder, "transformer", err), *weft = path_join(folder, "weft_state", err);
    char *moments = path_join(folder, optimizer_path, err);
    int rc = transformer && weft && moments ? 0 : ERR_NOMEM;

    if (rc == 0 && (rc = dir_make(weft, err)) == 0 && (rc = dit_save(s->dit, transformer, file_type(s), err)) == 0 &&
        optimizer)
        rc = save_optimizer(s, moments, err);
    mem_free(transformer);
    mem_free(weft);
    mem_free(moments);
    return rc;
}

/* state.json, last: it says what every other file of the folder is. */
static int write_state(const char *folder, const json_t *state, Err *err)
{
    char *path = path_join(folder, state_path, err);
    json_t *whole = json_copy((json_t *)state), *parts = NULL;
    int rc = path && whole ? parts_describe(folder, &parts, err) : ERR_NOMEM;

    if (rc == 0 && json_object_set(whole, "files", parts) != 0)
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(whole, path, err);
    json_decref(parts);
    json_decref(whole);
    mem_free(path);
    return rc;
}

/* tmp becomes folder, replacing an older one (which can only be torn, or of a shorter run). */
static int put_in_place(const char *run, const char *tmp, const char *folder, Err *err)
{
    int rc = dir_sync(tmp, err);

    if (rc == 0)
        rc = dir_remove(folder, err);
    if (rc == 0 && rename(tmp, folder) != 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", tmp, folder);
    return rc == 0 ? dir_sync(run, err) : rc;
}

int checkpoint_save(const char *run, const TrainState *s, const json_t *state, Err *err)
{
    char *folder = checkpoint_folder(run, s->step, err),
         *tmp = folder ? mem_printf(err, "%s.tmp-saving", folder) : NULL;
    int rc = tmp ? dir_remove(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = write_parts(tmp, s, 1, err);
    if (rc == 0)
        rc = write_state(tmp, state, err);
    if (rc == 0)
        rc = put_in_place(run, tmp, folder, err);
    if (rc < 0)
        err_wrap(err, rc, "saving checkpoint %lld", (long long)s->step);
    mem_free(folder);
    mem_free(tmp);
    return rc;
}

/* ---- finding --------------------------------------------------------------------------------- */

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

static int read_state(const char *folder, int64_t step, json_t **state, Err *err)
{
    char *path = path_join(folder, state_path, err);
    int64_t stored = 0;
    int rc = path ? json_read_file(state, path, err) : ERR_NOMEM;

    if (rc == 0)
        rc = schema_check("train-state", *state, path, err);
    if (rc == 0)
        rc = json_get_int(*state, "step", path, &stored, err);
    if (rc == 0 && stored != step)
        rc = err_set(err, ERR_FORMAT, "'%s' is of step %lld", path, (long long)stored);
    mem_free(path);
    return rc;
}

/* Whole: the last file is there and fits, and what it says of the others holds, the ones to go on
 * from among them. */
static int check_whole(const char *folder, int64_t step, int optimizer, json_t **state, Err *err)
{
    static const char *const needed[] = {"transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
                                         optimizer_path};
    const json_t *files;
    int rc = read_state(folder, step, state, err);

    files = rc == 0 ? json_object_get(*state, "files") : NULL;
    for (int i = 0; rc == 0 && i < 2 + optimizer; i++)
        if (!json_object_get(files, needed[i]))
            rc = err_set(err, ERR_FORMAT, "'%s/%s' says nothing of %s", folder, state_path, needed[i]);
    return rc == 0 ? parts_check(folder, files, err) : rc;
}

int checkpoint_newest(const char *run, const Log *log, int64_t *step, json_t **state, Err *err)
{
    int64_t *steps = NULL, n = 0;
    int rc = list_steps(run, &steps, &n, err);

    *step = 0;
    *state = NULL;
    while (rc == 0 && n > 0 && *step == 0) {
        Err torn = {0};
        int64_t candidate = steps[--n];
        char *folder = checkpoint_folder(run, candidate, err);
        rc = folder ? check_whole(folder, candidate, 1, state, &torn) : ERR_NOMEM;
        mem_free(folder);
        if (rc == 0) {
            *step = candidate;
            break;
        }
        json_decref(*state);
        *state = NULL;
        if (rc == ERR_NOMEM) {
            err_set(err, rc, "%s", torn.msg);
        } else {
            log_warn(log, "checkpoint-%lld is not whole and is passed over: %s", (long long)candidate, torn.msg);
            rc = 0;
        }
    }
    mem_free(steps);
    return rc;
}

int checkpoint_prune(const char *run, int64_t keep, Err *err)
{
    int64_t *steps = NULL, n = 0;
    int rc;

    if (keep < 1)
        return 0;
    rc = list_steps(run, &steps, &n, err);
    for (int64_t i = 0; rc == 0 && i < n - keep; i++) {
        char *folder = checkpoint_folder(run, steps[i], err);
        rc = folder ? dir_remove(folder, err) : ERR_NOMEM;
        mem_free(folder);
    }
    mem_free(steps);
    return rc;
}

/* ---- final ----------------------------------------------------------------------------------- */

int final_save(const char *run, const char *base, const TrainState *s, const json_t *state, const Log *log, Err *err)
{
    char *folder = path_join(run, "final", err), *tmp = path_join(run, "final.tmp-saving", err);
    int rc = folder && tmp ? dir_remove(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = write_parts(tmp, s, 0, err);
    if (rc == 0)
        rc = pipeline_copy(tmp, base, log, err);
    if (rc == 0)
        rc = write_state(tmp, state, err);
    if (rc == 0)
        rc = put_in_place(run, tmp, folder, err);
    if (rc < 0)
        err_wrap(err, rc, "saving '%s/final'", run);
    mem_free(folder);
    mem_free(tmp);
    return rc;
}

int final_is_at(const char *run, int64_t step, Err *err)
{
    char *folder = path_join(run, "final", err);
    json_t *state = NULL;
    Err torn = {0};
    int rc = folder ? check_whole(folder, step, 0, &state, &torn) : ERR_NOMEM;

    if (rc == ERR_NOMEM && folder)
        err_set(err, rc, "%s", torn.msg);
    json_decref(state);
    mem_free(folder);
    return rc == 0 ? 1 : rc == ERR_NOMEM ? rc : 0;
}
