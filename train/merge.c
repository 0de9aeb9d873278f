/* Merging adapters into a pipeline's transformer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/model/dit_lora.h"
#include "common/model/model_folder.h"
#include "train/merge.h"
#include "train/pipeline.h"

typedef struct Merge {
    const MergeOptions *o;
    StderrLog log;
    char *model, *transformer;
    LoraUse *use;
    Dit *dit;
    DType type; /* of the model's file */
} Merge;

static int parse_uses(Merge *m, Err *err)
{
    int64_t n = m->o->lora.n;
    int rc = (m->use = mem_calloc(n, sizeof *m->use, err)) ? 0 : ERR_NOMEM;

    for (int64_t i = 0; i < n && rc == 0; i++)
        rc = lora_use_parse(&m->use[i], m->o->lora.item[i], err);
    return rc;
}

/* The model with its adapters.  On the plan back end everything is checked and no value read. */
static int open_model(Merge *m, Backend *be, Err *err)
{
    int rc = dit_open(&m->dit, be, m->transformer, DIT_MAPPED, err);

    if (rc == 0)
        rc = dit_use_loras(m->dit, m->use, m->o->lora.n, err);
    return rc;
}

static int check_space(const Merge *m, int64_t parts, Err *err)
{
    int64_t need = parts + params_bytes(dit_params(m->dit), DT_F16), room;
    int rc = disk_free_bytes(m->o->out, &room, err);

    if (rc < 0 || room < 0 || room >= need)
        return rc;
    return err_set(err, ERR_LIMIT, "'%s': %" PRId64 " MB are free, the merged model needs at least %" PRId64 " MB",
                   m->o->out, room / 1000000, need / 1000000);
}

static int check(Merge *m, Err *err)
{
    const Log *log = &m->log.log;
    Backend *plan = NULL;
    DitConfig c;
    int64_t parts = 0;
    int rc = file_look(m->o->out, err);

    if (rc > 0)
        rc = err_set(err, ERR_USAGE, "--out '%s' exists already: choose a new folder", m->o->out);
    if (rc == 0)
        rc = disk_check_writable(m->o->out, "--out", err);
    if (rc == 0)
        rc = pipeline_parts_check(m->model, log, &parts, err);
    if (rc == 0)
        rc = backend_open(&plan, "plan", 1, log, err);
    if (rc == 0)
        rc = open_model(m, plan, err);
    if (rc == 0) {
        c = *dit_config(m->dit);
        rc = dit_check_weights(&c, m->transformer, log, err);
    }
    if (rc == 0)
        rc = check_space(m, parts, err);
    dit_close(&m->dit);
    backend_close(&plan);
    return rc;
}

static int write_folder(Merge *m, const char *tmp, Err *err)
{
    char *transformer = path_join(tmp, "transformer", err);
    int rc = transformer ? dir_remove(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = dit_save(m->dit, transformer, m->type, err);
    if (rc == 0)
        rc = pipeline_parts_copy(tmp, m->model, 0, err);
    if (rc == 0)
        rc = dir_sync(tmp, err);
    if (rc == 0 && rename(tmp, m->o->out) != 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", tmp, m->o->out);
    if (rc < 0 && dir_remove(tmp, NULL) < 0)
        err_wrap(err, rc, "'%s' could not be removed", tmp);
    mem_free(transformer);
    return rc;
}

static int merge(Merge *m, Err *err)
{
    Backend *be = NULL;
    char *tmp = mem_printf(err, "%s.tmp-merging", m->o->out);
    int rc = tmp ? backend_open(&be, "cpu", threads_choose(m->o->common.jobs), &m->log.log, err) : ERR_NOMEM;

    if (rc == 0)
        rc = open_model(m, be, err);
    if (rc == 0) {
        m->type = params_find(dit_params(m->dit), "proj_out.weight")->value.dtype;
        rc = dit_merge_loras(m->dit, err);
    }
    if (rc == 0)
        rc = write_folder(m, tmp, err);
    dit_close(&m->dit);
    backend_close(&be);
    mem_free(tmp);
    return rc;
}

int merge_run(const MergeOptions *o, Err *err)
{
    Merge m = {.o = o};
    int rc;

    log_to_stderr(&m.log, "weft-train", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    rc = model_folder_find(&m.model, o->model, &m.log.log, err);
    if (rc == 0 && !(m.transformer = path_join(m.model, "transformer", err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = parse_uses(&m, err);
    if (rc == 0)
        rc = check(&m, err);
    if (rc == 0 && !o->common.dry_run)
        rc = merge(&m, err);
    for (int64_t i = 0; m.use && i < o->lora.n; i++)
        mem_free(m.use[i].path);
    mem_free(m.use);
    mem_free(m.transformer);
    mem_free(m.model);
    return rc;
}
