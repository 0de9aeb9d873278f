/* A checkpoint's transformer and its base model's other parts, put together. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/model/lora.h"
#include "common/model/model_folder.h"
#include "train/export.h"
#include "train/file_list.h"
#include "train/pipeline.h"

static int read_state(json_t **state, const char *checkpoint, Err *err)
{
    char *path = path_join(checkpoint, "weft_state/state.json", err);
    int rc = path ? json_read_file(state, path, err) : ERR_NOMEM;

    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "'%s' is no checkpoint of weft-train", checkpoint);
    if (rc == 0)
        rc = schema_check("train-state", *state, path, err);
    mem_free(path);
    if (rc == 0 && json_object_get(json_object_get(*state, "files"), LORA_FILE_NAME))
        rc = err_set(err, ERR_UNSUPPORTED,
                     "'%s' holds a LoRA adapter, no transformer: 'weft-infer sample --lora' uses it beside the base "
                     "model, 'weft-train merge' puts it into the weights",
                     checkpoint);
    return rc == 0 ? file_list_check(checkpoint, json_object_get(*state, "files"), err) : rc;
}

/* Refuses a folder that has files: they would be mixed with the pipeline's. */
static int check_out(const char *out, Err *err)
{
    char **names = NULL;
    int64_t n = 0;
    int rc = file_look(out, err);

    if (rc > 0 && (rc = dir_list(out, &names, &n, err)) == 0 && n > 0)
        rc = err_set(err, ERR_USAGE, "'%s' exists and is not empty: choose another --out", out);
    dir_list_free(&names, n);
    return rc < 0 ? rc : disk_check_writable(out, "--out", err);
}

static int put_together(const char *tmp, const char *checkpoint, const char *base, int link, Err *err)
{
    char *from = path_join(checkpoint, "transformer", err), *to = path_join(tmp, "transformer", err);
    int rc = from && to ? dir_make(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = pipeline_folder_copy(to, from, link, err);
    if (rc == 0)
        rc = pipeline_parts_copy(tmp, base, link, err);
    mem_free(from);
    mem_free(to);
    return rc;
}

static int write_out(const char *checkpoint, const char *base, const char *out, int link, Err *err)
{
    char *tmp = mem_printf(err, "%s.tmp-export", out), *parent = path_dir(out, err); /* the name of a temporary */
    int rc = tmp && parent ? dir_remove(tmp, err) : ERR_NOMEM;

    if (rc == 0)
        rc = put_together(tmp, checkpoint, base, link, err);
    if (rc == 0 && rename(tmp, out) < 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", tmp, out);
    if (rc == 0)
        rc = dir_sync(parent, err);
    if (rc < 0 && tmp)
        err_ignore(dir_remove(tmp, NULL));
    mem_free(tmp);
    mem_free(parent);
    return rc;
}

int export_checkpoint(const char *checkpoint, const char *out, const char *model, int link, const Log *log, Err *err)
{
    json_t *state = NULL;
    char *base = NULL;
    int64_t bytes;
    int rc = check_out(out, err);

    if (rc == 0)
        rc = read_state(&state, checkpoint, err);
    if (rc == 0 && !model)
        model = json_string_value(json_object_get(state, "base_model"));
    if (rc == 0 && (rc = model_folder_find(&base, model, log, err)) < 0)
        err_wrap(err, rc, "the base model of '%s' (give --model FOLDER)", checkpoint);
    if (rc == 0)
        rc = pipeline_parts_check(base, log, &bytes, err);
    if (rc == 0)
        rc = write_out(checkpoint, base, out, link, err);
    mem_free(base);
    json_decref(state);
    return rc;
}
