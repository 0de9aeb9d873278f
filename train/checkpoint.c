/* Saving, finding and loading checkpoints. */
#include <inttypes.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/dit_lora.h"
#include "train/checkpoint.h"
#include "train/file_list.h"
#include "train/pipeline.h"
#include "train/together.h"

static const char state_path[] = "weft_state/state.json";
static const char optimizer_path[] = "weft_state/optimizer.safetensors";
static const char ema_path[] = "transformer_ema/diffusion_pytorch_model.safetensors";
static const char lora_ema_path[] = "lora_ema/" LORA_FILE_NAME;

char *checkpoint_folder(const char *run, int64_t step, Err *err)
{
    return mem_printf(err, "%s/checkpoint-%" PRId64, run, step);
}

/* ---- optimiser state ------------------------------------------------------------------------- */

static int is_lora(const TrainState *s)
{
    return dit_trainable(s->dit) != dit_params(s->dit);
}

/* Element type of the transformer's file: the type that operations read.  Exact weights (masters) of
 * another type go into the optimiser's file. */
static DType file_type(const TrainState *s)
{
    return s->be->act == DT_BF16 || dit_trainable(s->dit)->values == DT_BF16 ? DT_BF16 : DT_F32;
}

/* The tensors that a resume needs besides the transformer's file: the optimiser's state, then the
 * exact weights.  An adapter's file holds it multiplied by alpha / rank. */
static int64_t state_parts(const TrainState *s)
{
    const ParamSet *ps = dit_trainable(s->dit);

    return optimizer_parts(&s->optimizer) + (is_lora(s) || ps->values != file_type(s) ? ps->n : 0);
}

/* Those of the averaged weights come after them.  With LoRA they are in the optimiser's file as well: the
 * averaged adapter's file holds them multiplied by alpha / rank. */
static int64_t ema_parts(const TrainState *s)
{
    return s->c.ema.on ? dit_trainable(s->dit)->n : 0;
}

static int64_t optimizer_file_parts(const TrainState *s)
{
    return state_parts(s) + (is_lora(s) ? ema_parts(s) : 0);
}

OptimizerPart checkpoint_part(const TrainState *s, int64_t i)
{
    const ParamSet *ps = dit_trainable(s->dit);
    int64_t n = optimizer_parts(&s->optimizer);
    const Param *p;

    if (i < n)
        return optimizer_part(&s->optimizer, i);
    if (i >= state_parts(s))
        return ema_part(&s->ema, i - state_parts(s));
    p = &ps->param[i - n];
    return (OptimizerPart){.kind = "master",
                           .param = p,
                           .whole = tensor_view(NULL, DT_F32, p->rank, p->dim),
                           .n = tensor_count(&p->master),
                           .data = p->master.data};
}

/* Writes the parts one after another.  A device's are copied to the host one at a time, into `room`. */
typedef struct Saving {
    const TrainState *s;
    int64_t first; /* of the parts that the file holds */
    void *room;
} Saving;

/* Brings part i into `room`. */
static int bring(const TrainState *s, int64_t i, const OptimizerPart *part, void *room, Err *err)
{
    return part->n == 0 ? together_fetch(s, i, part, room, err) /* no parameter is empty: another rank has it */
                        : s->be->download(s->be, room, part->data, tensor_bytes(&part->whole), err);
}

static int fetch(void *user, int64_t i, const void **data, Err *err)
{
    Saving *w = user;
    OptimizerPart part = checkpoint_part(w->s, w->first + i);
    int here = part.n > 0 && w->s->be->host;

    *data = here ? part.data : w->room;
    return here ? 0 : bring(w->s, w->first + i, &part, w->room, err);
}

/* Writes parts [first, first + n); `kinds`: their kinds are part of the names. */
static int save_parts(const TrainState *s, int64_t first, int64_t n, int kinds, const char *path,
                      const json_t *metadata, Err *err)
{
    Saving w = {.s = s, .first = first};
    int64_t largest = 0;
    SafeSource *source = mem_calloc(n, sizeof *source, err);
    char **name = mem_calloc(n, sizeof *name, err);
    int rc = source && name ? 0 : ERR_NOMEM;

    for (int64_t i = 0; i < n && rc == 0; i++) {
        OptimizerPart part = checkpoint_part(s, first + i);
        largest = tensor_bytes(&part.whole) > largest ? tensor_bytes(&part.whole) : largest;
        name[i] = mem_printf(err, "%s%s%s", kinds ? part.kind : "", kinds ? "." : "", part.param->name);
        source[i] = (SafeSource){name[i], part.whole};
        rc = name[i] ? 0 : ERR_NOMEM;
    }
    if (rc == 0 && (!s->be->host || s->share.c.ranks) && !(w.room = mem_alloc_aligned(largest, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = safetensors_write_from(path, source, n, metadata, fetch, &w, err);
    for (int64_t i = 0; name && i < n; i++)
        mem_free(name[i]);
    mem_free_aligned(w.room);
    mem_free(name);
    mem_free(source);
    return rc;
}

/* Uploads one part.  One that is missing or has another shape is added to `bad`. */
static int load_part(TrainState *s, const SafeTensors *file, const OptimizerPart *part, int kinds, Str *bad, Err *err)
{
    char *name = mem_printf(err, "%s%s%s", kinds ? part->kind : "", kinds ? "." : "", part->param->name);
    const SafeEntry *e = name ? safetensors_find(file, name) : NULL;
    int64_t size = dtype_size(part->whole.dtype);
    int rc = name ? 0 : ERR_NOMEM;

    if (rc == 0 && (!e || e->tensor.dtype != part->whole.dtype || !tensor_same_shape(&e->tensor, &part->whole)))
        rc = str_printf(bad, err, "%s%s", bad->len ? ", " : "", name);
    else if (rc == 0 && part->n)
        rc = s->be->upload(s->be, part->data, (const char *)e->tensor.data + part->first * size, part->n * size, err);
    mem_free(name);
    return rc;
}

static int load_parts(TrainState *s, int64_t first, int64_t n, int kinds, const char *path, Err *err)
{
    SafeTensors *file = NULL;
    Str bad = {0};
    int rc = safetensors_open(&file, path, err);

    for (int64_t i = 0; i < n && rc == 0; i++) {
        OptimizerPart part = checkpoint_part(s, first + i);
        rc = load_part(s, file, &part, kinds, &bad, err);
    }
    if (rc == 0 && bad.len)
        rc = err_set(err, ERR_FORMAT, "'%s': missing or misshapen: %s", path, bad.data);
    safetensors_close(&file);
    str_fini(&bad);
    return rc;
}

int checkpoint_load_optimizer(const char *run, int64_t step, TrainState *s, Err *err)
{
    char *path = mem_printf(err, "%s/checkpoint-%" PRId64 "/%s", run, step, optimizer_path);
    char *average = mem_printf(err, "%s/checkpoint-%" PRId64 "/%s", run, step, ema_path);
    int64_t n = state_parts(s);
    int rc = path && average ? load_parts(s, 0, optimizer_file_parts(s), 1, path, err) : ERR_NOMEM;

    if (rc == 0 && ema_parts(s) && !is_lora(s))
        rc = load_parts(s, n, ema_parts(s), 0, average, err);
    if (rc == 0)
        rc = params_refresh(dit_trainable(s->dit), err);
    if (rc == 0)
        s->step = step;
    mem_free(path);
    mem_free(average);
    return rc;
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* The transformer, or its adapters alone. */
static int write_weights(const char *folder, const TrainState *s, Err *err)
{
    char *path = path_join(folder, is_lora(s) ? LORA_FILE_NAME : "transformer", err);
    int rc = ERR_NOMEM;

    if (path)
        rc = is_lora(s) ? dit_save_lora(s->dit, path, err) : dit_save(s->dit, path, file_type(s), err);
    mem_free(path);
    return rc;
}

/* FOLDER/transformer_ema, a transformer folder: the averaged weights, in fp32. */
static int save_ema(const char *folder, const TrainState *s, Err *err)
{
    char *weights = path_join(folder, ema_path, err), *dir = weights ? path_dir(weights, err) : NULL;
    char *config = dir ? path_join(dir, "config.json", err) : NULL;
    json_t *json = config ? dit_config_json(dit_config(s->dit), err) : NULL,
           *metadata = json_pack("{s:s}", "format", "pt");
    int rc = json && metadata ? dir_make(dir, err) : ERR_NOMEM;

    if (rc == 0)
        rc = json_write_file(json, config, err);
    if (rc == 0)
        rc = save_parts(s, state_parts(s), ema_parts(s), 0, weights, metadata, err);
    json_decref(json);
    json_decref(metadata);
    mem_free(weights);
    mem_free(dir);
    mem_free(config);
    return rc;
}

static int average_of(void *user, int64_t i, float *host, Err *err)
{
    const TrainState *s = user;
    OptimizerPart part = checkpoint_part(s, state_parts(s) + i);

    return bring(s, state_parts(s) + i, &part, host, err);
}

/* FOLDER/lora_ema, an adapter as FOLDER itself: the averaged one. */
static int save_lora_ema(const char *folder, const TrainState *s, Err *err)
{
    char *path = path_join(folder, lora_ema_path, err), *dir = path ? path_dir(path, err) : NULL;
    int rc = dir ? dir_make(dir, err) : ERR_NOMEM;

    if (rc == 0)
        rc = dit_save_lora_of(s->dit, path, average_of, (void *)s, err);
    mem_free(path);
    mem_free(dir);
    return rc;
}

/* The weights and their average, and the optimiser for a checkpoint, into `folder`. */
static int write_parts(const char *folder, const TrainState *s, int optimizer, Err *err)
{
    char *weft = path_join(folder, "weft_state", err), *moments = path_join(folder, optimizer_path, err);
    int rc = weft && moments ? 0 : ERR_NOMEM;

    if (rc == 0 && (rc = dir_make(weft, err)) == 0 && (rc = write_weights(folder, s, err)) == 0 && optimizer)
        rc = save_parts(s, 0, optimizer_file_parts(s), 1, moments, NULL, err);
    if (rc == 0 && ema_parts(s))
        rc = is_lora(s) ? save_lora_ema(folder, s, err) : save_ema(folder, s, err);
    mem_free(weft);
    mem_free(moments);
    return rc;
}

/* Writes state.json, which lists all other files of the folder, so it comes last. */
static int write_state(const char *folder, const json_t *state, Err *err)
{
    char *path = path_join(folder, state_path, err);
    json_t *whole = json_copy((json_t *)state), *files = NULL;
    int rc = path && whole ? file_list_make(folder, &files, err) : ERR_NOMEM;

    if (rc == 0 && json_object_set(whole, "files", files) != 0)
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(whole, path, err);
    json_decref(files);
    json_decref(whole);
    mem_free(path);
    return rc;
}

/* Renames `tmp` to `folder`.  An older folder of that name is removed only after the rename. */
static int put_in_place(const char *run, const char *tmp, const char *folder, Err *err)
{
    char *before = mem_printf(err, "%s.tmp-before", folder);
    int rc = before ? dir_remove(before, err) : ERR_NOMEM, moved = 0;

    if (rc == 0)
        rc = dir_sync(tmp, err);
    if (rc == 0 && !(moved = rename(folder, before) == 0) && errno != ENOENT)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", folder, before);
    if (rc == 0 && rename(tmp, folder) != 0) {
        rc = err_errno(err, errno, "renaming '%s' to '%s'", tmp, folder);
        if (moved && rename(before, folder) != 0)
            err_wrap(err, rc, "what was '%s' is now '%s'", folder, before);
    }
    if (rc == 0)
        rc = dir_sync(run, err);
    if (rc == 0 && moved)
        rc = dir_remove(before, err);
    mem_free(before);
    return rc;
}

/* Frees the room that a failed save took.  If that fails too, the next run's sweep removes it. */
static void remove_unfinished(const char *tmp)
{
    int rc = tmp ? dir_remove(tmp, NULL) : 0;

    (void)rc;
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
    if (rc < 0) {
        remove_unfinished(tmp);
        err_wrap(err, rc, "saving checkpoint-%" PRId64, s->step);
    }
    mem_free(folder);
    mem_free(tmp);
    return rc;
}

/* ---- final ----------------------------------------------------------------------------------- */

int final_save(const char *run, const char *base, int link, const TrainState *s, const json_t *state, Err *err)
{
    char *folder = path_join(run, "final", err), *tmp = path_join(run, "final.tmp-saving", err);
    int rc = folder && tmp ? dir_remove(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = write_parts(tmp, s, 0, err);
    if (rc == 0 && !is_lora(s))
        rc = pipeline_parts_copy(tmp, base, link, err);
    if (rc == 0)
        rc = write_state(tmp, state, err);
    if (rc == 0)
        rc = put_in_place(run, tmp, folder, err);
    if (rc < 0) {
        remove_unfinished(tmp);
        err_wrap(err, rc, "saving '%s/final'", run);
    }
    mem_free(folder);
    mem_free(tmp);
    return rc;
}
