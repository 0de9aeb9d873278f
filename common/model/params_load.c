/* A file's tensors against the table of a model, and the values from it. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/params_internal.h"

#define LISTED_MAX 480 /* characters of names listed of each kind in one message */

/* ---- loading --------------------------------------------------------------------------------- */

/* Names of one kind for the message: as many as fit, and the count of all. */
typedef struct Names {
    Str text;
    int64_t n;
} Names;

static int names_add(Names *list, Err *err, const char *fmt, const char *name, const char *found, const char *expected)
{
    list->n++;
    if (list->text.len > LISTED_MAX)
        return 0;
    int rc = list->n > 1 ? str_append(&list->text, ", ", err) : 0;
    return rc ? rc : str_printf(&list->text, err, fmt, name, found, expected);
}

static int names_say(const Names *list, const char *kind, Str *out, Err *err)
{
    int cut = list->text.len > LISTED_MAX;
    return list->n ? str_printf(out, err, "; %s %" PRId64 ": %s%s", kind, list->n, list->text.data, cut ? ", ..." : "")
                   : 0;
}

static int is_alias(const ParamSet *ps, const char *name)
{
    for (int64_t i = 0; i < ps->n; i++)
        if (ps->param[i].alias && !strcmp(ps->param[i].alias, name))
            return 1;
    return 0;
}

static const SafeEntry *entry_of(const Param *p, const SafeTensors *file)
{
    const SafeEntry *e = safetensors_find(file, p->name);
    return e || !p->alias ? e : safetensors_find(file, p->alias);
}

/* A file may hold a parameter under both of its names; then the two must be the same tensor.
 * (transformers 5 computes with encoder.embed_tokens.weight where it differs from shared.weight,
 * earlier versions with whichever was loaded last.) */
static int check_aliases(const ParamSet *ps, const SafeTensors *file, const char *what, Err *err)
{
    for (int64_t i = 0; i < ps->n; i++) {
        const Param *p = &ps->param[i];
        const SafeEntry *a = safetensors_find(file, p->name), *b = p->alias ? safetensors_find(file, p->alias) : NULL;
        if (!a || !b)
            continue;
        if (a->tensor.dtype != b->tensor.dtype || !tensor_same_shape(&a->tensor, &b->tensor) ||
            memcmp(a->tensor.data, b->tensor.data, (size_t)tensor_bytes(&a->tensor)) != 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: '%s' and '%s' differ; they are two names of one table, and versions of transformers "
                           "disagree about which one counts: keep one of them in the file",
                           what, p->name, p->alias);
    }
    return 0;
}

int params_check(const ParamSet *ps, const SafeTensors *file, const char *what, Err *err)
{
    Names missing = {0}, misshapen = {0}, unexpected = {0};
    Str say = {0};
    char found[160], expected[160];
    int rc = 0;
    for (int64_t i = 0; i < ps->n && !rc; i++) {
        const Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, file);
        if (!e) {
            rc = names_add(&missing, err, "%s", p->name, NULL, NULL);
            continue;
        }
        DType t = e->tensor.dtype;
        Tensor want = param_file_tensor(p, t == DT_F16 || t == DT_BF16 ? t : DT_F32, NULL);
        if (t != want.dtype || !tensor_same_shape(&e->tensor, &want))
            rc = names_add(&misshapen, err, "%s is %s, expected %s", p->name,
                           tensor_describe(&e->tensor, found, sizeof found),
                           tensor_describe(&want, expected, sizeof expected));
    }
    for (int64_t i = 0; i < safetensors_count(file) && !rc; i++) {
        const char *name = safetensors_at(file, i)->name;
        if (!params_find(ps, name) && !is_alias(ps, name) && !(ps->ignore && ps->ignore(name)))
            rc = names_add(&unexpected, err, "%s", name, NULL, NULL);
    }
    if (!rc && (missing.n || misshapen.n || unexpected.n)) {
        if ((rc = names_say(&missing, "missing", &say, err)) || (rc = names_say(&misshapen, "misshapen", &say, err)) ||
            (rc = names_say(&unexpected, "unexpected", &say, err)))
            goto fail;
        rc = err_set(err, ERR_FORMAT,
                     "%s: tensors do not fit the model's config (%" PRId64 " expected, %" PRId64 " found)%s", what,
                     ps->n, safetensors_count(file), say.data);
    }
fail:
    str_fini(&say);
    str_fini(&missing.text);
    str_fini(&misshapen.text);
    str_fini(&unexpected.text);
    return rc ? rc : check_aliases(ps, file, what, err);
}

int params_check_folder(const ParamSet *ps, const char *folder, const char *stem, const Log *log, Err *err)
{
    SafeTensors *file = NULL;
    int rc = safetensors_open_folder(&file, folder, stem, log, err);
    if (!rc)
        rc = params_check(ps, file, folder, err);
    safetensors_close(&file);
    return rc;
}

static int is_mappable(const Backend *be, const Param *p, const SafeEntry *e)
{
    DType t = e->tensor.dtype;
    return be->host && !p->conv && param_kept_type(be, p, t) == t &&
           (uintptr_t)e->tensor.data % (uintptr_t)dtype_size(t) == 0;
}

static int is_left_out(const ParamSet *ps, const Param *p)
{
    return ps->left_out && !strncmp(p->name, ps->left_out, strlen(ps->left_out));
}

static int64_t round_64(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

int64_t params_device_bytes(const ParamSet *ps)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < ps->n; i++)
        bytes += round_64(tensor_bytes(&ps->param[i].value));
    return bytes;
}

/* Values that can stay in the file point there; returns the bytes that the others need. */
static int64_t place_values(ParamSet *ps, Backend *be, const SafeTensors *file)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, file);
        p->value = is_mappable(be, p, e) && !is_left_out(ps, p)
                       ? e->tensor
                       : param_stored_tensor(p, param_kept_type(be, p, e->tensor.dtype), NULL);
        bytes += p->value.data || is_left_out(ps, p) ? 0 : round_64(tensor_bytes(&p->value));
    }
    return bytes;
}

int params_mapped_bytes(ParamSet *ps, Backend *be, const SafeTensors *file, const char *what, int64_t *bytes, Err *err)
{
    int rc = params_check(ps, file, what, err);
    *bytes = rc ? 0 : place_values(ps, be, file);
    return rc;
}

int params_load_mapped(ParamSet *ps, Backend *be, SafeTensors **file, const char *what, Err *err)
{
    Staging st = {0};
    ps->be = be;
    int rc = params_check(ps, *file, what, err);
    if (rc)
        return rc;
    int64_t bytes = place_values(ps, be, *file);
    if ((rc = staging_init(&st, ps->param, ps->n, err)))
        goto fail;
    if (bytes && (rc = be->alloc(be, bytes, &ps->owned[VALUES], err))) {
        err_wrap(err, rc, "%s: memory for %" PRId64 " bytes of weights", what, bytes);
        goto fail;
    }
    char *at = ps->owned[VALUES];
    for (int64_t i = 0; i < ps->n; i++) {
        Param *p = &ps->param[i];
        const SafeEntry *e = entry_of(p, *file);
        if (p->value.data || is_left_out(ps, p))
            continue;
        p->value.data = at;
        at += round_64(tensor_bytes(&p->value));
        if ((rc = param_put(be, p, &p->value, e->tensor.data, e->tensor.dtype, &st, err)))
            goto fail;
        safetensors_forget(*file, e); /* the copy and the file's pages do not add up */
    }
    if (be->host)
        ps->file = *file;
    else
        safetensors_close(file);
    *file = NULL;
fail:
    staging_fini(&st);
    return rc;
}

int params_load_flat(ParamSet *ps, Backend *be, const SafeTensors *file, const char *what, Err *err)
{
    Staging st = {0};
    int rc = params_check(ps, file, what, err);
    if (rc || (rc = params_new_flat(ps, be, err)) || (rc = staging_init(&st, ps->param, ps->n, err)))
        goto fail;
    for (int64_t i = 0; i < ps->n; i++) {
        const SafeEntry *e = entry_of(&ps->param[i], file);
        if ((rc = param_put(be, &ps->param[i], &ps->param[i].master, e->tensor.data, e->tensor.dtype, &st, err)))
            goto fail;
        safetensors_forget(file, e);
    }
    rc = params_refresh(ps, err);
fail:
    staging_fini(&st);
    return rc;
}
