/* safetensors writer: wide element types first, so that every tensor lies aligned; header padded to
 * 8; atomic. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/safetensors.h"

static int by_size_then_name(const void *a, const void *b)
{
    const SafeSource *x = *(const SafeSource *const *)a, *y = *(const SafeSource *const *)b;
    int64_t sx = dtype_size(x->tensor.dtype), sy = dtype_size(y->tensor.dtype);
    return sx != sy ? (sx > sy ? -1 : 1) : strcmp(x->name, y->name);
}

static int add_entry(json_t *root, const SafeSource *s, int64_t *offset, Err *err)
{
    if (!*s->name || strcmp(s->name, "__metadata__") == 0)
        return err_set(err, ERR_USAGE, "'%s' is no name for a tensor", s->name);
    if (json_object_get(root, s->name))
        return err_set(err, ERR_USAGE, "tensor '%s' is given twice", s->name);
    json_t *shape = json_array();
    for (int i = 0; shape && i < s->tensor.rank; i++)
        if (json_array_append_new(shape, json_integer(s->tensor.dim[i])) < 0) {
            json_decref(shape);
            shape = NULL;
        }
    int64_t end = *offset + tensor_bytes(&s->tensor);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(s->tensor.dtype), "shape", shape,
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (!entry || json_object_set_new(root, s->name, entry) < 0)
        return err_set(err, ERR_NOMEM, "header entry of tensor '%s' (out of memory, or the name is not UTF-8)",
                       s->name);
    *offset = end;
    return 0;
}

/* The header's text, padded with spaces to a multiple of 8.  mem_free. */
static int build_header(char **text, int64_t *size, const SafeSource *const *sorted, int64_t n, const json_t *metadata,
                        Err *err)
{
    json_t *root = json_object();
    int64_t offset = 0;
    int rc = root ? 0 : err_set(err, ERR_NOMEM, "safetensors header");
    if (rc == 0 && metadata && json_object_set(root, "__metadata__", (json_t *)metadata) < 0)
        rc = err_set(err, ERR_NOMEM, "safetensors header");
    for (int64_t i = 0; rc == 0 && i < n; i++)
        rc = add_entry(root, sorted[i], &offset, err);
    char *raw = rc == 0 ? json_text(root, 0, err) : NULL;
    json_decref(root);
    if (rc < 0)
        return rc;
    if (!raw)
        return ERR_NOMEM;
    int64_t length = (int64_t)strlen(raw), padded = (length + 7) / 8 * 8;
    char *out = mem_realloc(raw, padded + 1, 1, err);
    if (!out) {
        mem_free(raw);
        return ERR_NOMEM;
    }
    memset(out + length, ' ', (size_t)(padded - length));
    out[padded] = '\0';
    *text = out;
    *size = padded;
    return 0;
}

static int put(FILE *f, const void *bytes, int64_t n, const char *path, Err *err)
{
    if (n > 0 && fwrite(bytes, 1, (size_t)n, f) != (size_t)n)
        return err_errno(err, errno, "writing '%s'", path);
    return 0;
}

int safetensors_write_from(const char *path, const SafeSource *tensors, int64_t n, const json_t *metadata,
                           SafeFetch fetch, void *user, Err *err)
{
    AtomicFile *f = NULL;
    char *header = NULL;
    int64_t size = 0;
    int rc = ERR_NOMEM;
    const SafeSource **sorted = mem_calloc(n, sizeof *sorted, err);
    if (!sorted)
        goto fail;
    for (int64_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_size_then_name);
    if ((rc = build_header(&header, &size, sorted, n, metadata, err)) < 0)
        goto fail;
    if ((rc = atomic_open(&f, path, err)) < 0)
        goto fail;
    if ((rc = put(atomic_stream(f), &size, 8, path, err)) < 0)
        goto fail;
    if ((rc = put(atomic_stream(f), header, size, path, err)) < 0)
        goto fail;
    for (int64_t i = 0; i < n; i++) {
        const void *data = sorted[i]->tensor.data;
        if (fetch && (rc = fetch(user, sorted[i] - tensors, &data, err)) < 0)
            goto fail;
        if ((rc = put(atomic_stream(f), data, tensor_bytes(&sorted[i]->tensor), path, err)) < 0)
            goto fail;
    }
    rc = atomic_commit(&f, err);
fail:
    atomic_abort(&f);
    mem_free(header);
    mem_free(sorted);
    return rc;
}

int safetensors_write(const char *path, const SafeSource *tensors, int64_t n, const json_t *metadata, Err *err)
{
    return safetensors_write_from(path, tensors, n, metadata, NULL, NULL, err);
}
