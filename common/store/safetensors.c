/* safetensors: mapping, header checks, digest.  read_header checks the whole header before any
 * entry is handed out; the tensors' values are never examined. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/safetensors_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used as they lie in the file: little-endian");

enum {
    MAX_HEADER = 100000000, /* the reference's limit */
    MAX_TENSORS = 1000000,
    MAX_NAME = 4096,
    MAX_DEPTH = 3 /* {name: {shape: [..]}} */
};

/* Every dtype of the format with its bits; `dtype` is DT_COUNT where Weft has no such type. */
static const struct {
    const char *name;
    int bits;
    DType dtype;
} dtypes[] = {
    {"F32", 32, DT_F32},          {"F16", 16, DT_F16},      {"BF16", 16, DT_BF16},
    {"F64", 64, DT_F64},          {"U8", 8, DT_U8},         {"I8", 8, DT_I8},
    {"U16", 16, DT_U16},          {"I16", 16, DT_I16},      {"U32", 32, DT_U32},
    {"I32", 32, DT_I32},          {"U64", 64, DT_U64},      {"I64", 64, DT_I64},
    {"BOOL", 8, DT_BOOL},         {"C64", 64, DT_COUNT},    {"F8_E4M3", 8, DT_COUNT},
    {"F8_E5M2", 8, DT_COUNT},     {"F8_E8M0", 8, DT_COUNT}, {"F8_E4M3FNUZ", 8, DT_COUNT},
    {"F8_E5M2FNUZ", 8, DT_COUNT}, {"F6_E2M3", 6, DT_COUNT}, {"F6_E3M2", 6, DT_COUNT},
    {"F4", 4, DT_COUNT},
};

/* ---- one header ------------------------------------------------------------------------------ */

/* Bounds what the JSON parser will have to build, and refuses what it would let through: more than
 * three levels, a minus sign (-0 parses as 0), arrays longer than a shape may be, more objects than
 * tensors are allowed. */
static int scan_header(const char *text, int64_t n, Err *err)
{
    int64_t depth = 0, objects = 0, commas = 0;
    for (int64_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; i < n && text[i] != '"'; i++)
                if (text[i] == '\\')
                    i++;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH)
                return err_set(err, ERR_FORMAT, "header: nested deeper than %d levels", MAX_DEPTH);
            if (c == '{' && ++objects > MAX_TENSORS + 2)
                return err_set(err, ERR_LIMIT, "header: more than %d tensors", MAX_TENSORS);
            commas = 0;
        } else if (c == '}' || c == ']') {
            depth--;
            commas = 0;
        } else if (c == ',' && depth == MAX_DEPTH && ++commas >= TENSOR_RANK_MAX) {
            return err_set(err, ERR_FORMAT, "header: a list of more than %d numbers", TENSOR_RANK_MAX);
        } else if (c == '-') {
            return err_set(err, ERR_FORMAT, "header: a negative number");
        }
    }
    return 0;
}

/* A null is the same as no metadata, as in the reference reader. */
static int check_metadata(const json_t *meta, Err *err)
{
    if (json_is_null(meta))
        return 0;
    if (!json_is_object(meta))
        return err_set(err, ERR_FORMAT, "__metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)meta, key, value)
        if (!json_is_string(value))
            return err_set(err, ERR_FORMAT, "__metadata__ \"%.100s\" is not a string", key);
    return 0;
}

/* Fills e->tensor (data still NULL) and the byte range from one header entry. */
static int parse_entry(SafeEntry *e, int64_t range[2], const char *name, const json_t *v, Err *err)
{
    size_t length = strlen(name);
    if (length == 0)
        return err_set(err, ERR_FORMAT, "a tensor with an empty name");
    if (length > MAX_NAME)
        return err_set(err, ERR_FORMAT, "a tensor name of %zu bytes, at most %d allowed", length, MAX_NAME);
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    const json_t *shape = json_object_get(v, "shape"), *offsets = json_object_get(v, "data_offsets");
    if (!json_is_object(v) || !dtype || !json_is_array(shape) || !json_is_array(offsets) ||
        json_array_size(offsets) != 2)
        return err_set(err, ERR_FORMAT,
                       "tensor '%s': expected {dtype: string, shape: list, data_offsets: [begin, end]}", name);
    size_t k = 0, kinds = sizeof dtypes / sizeof dtypes[0];
    while (k < kinds && strcmp(dtypes[k].name, dtype) != 0)
        k++;
    if (k == kinds)
        return err_set(err, ERR_FORMAT, "tensor '%s': unknown dtype \"%.40s\"", name, dtype);
    size_t rank = json_array_size(shape);
    if (rank > TENSOR_RANK_MAX)
        return err_set(err, ERR_FORMAT, "tensor '%s': rank %zu, at most %d", name, rank, TENSOR_RANK_MAX);
    int64_t dim[TENSOR_RANK_MAX] = {0}, count = 1, bits;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(err, ERR_FORMAT, "tensor '%s': shape[%zu] is not a whole number", name, i);
        dim[i] = json_integer_value(d);
        if (mem_mul(count, dim[i], &count) < 0)
            return err_set(err, ERR_FORMAT, "tensor '%s': its shape overflows", name);
    }
    if (mem_mul(count, dtypes[k].bits, &bits) < 0)
        return err_set(err, ERR_FORMAT, "tensor '%s': its shape overflows", name);
    if (bits % 8)
        return err_set(err, ERR_FORMAT, "tensor '%s': %" PRId64 " bits of %s are no whole bytes", name, bits, dtype);
    for (int i = 0; i < 2; i++) {
        const json_t *o = json_array_get(offsets, (size_t)i);
        if (!json_is_integer(o) || json_integer_value(o) < 0)
            return err_set(err, ERR_FORMAT, "tensor '%s': data_offsets[%d] is not a whole number", name, i);
        range[i] = json_integer_value(o);
    }
    if (range[1] < range[0] || range[1] - range[0] != bits / 8)
        return err_set(err, ERR_FORMAT,
                       "tensor '%s': data_offsets [%" PRId64 ", %" PRId64 "] for %" PRId64 " bytes of %s", name,
                       range[0], range[1], bits / 8, dtype);
    if (dtypes[k].dtype == DT_COUNT)
        return err_set(err, ERR_UNSUPPORTED, "tensor '%s': dtype %s is not supported", name, dtype);
    e->tensor = tensor_view(NULL, dtypes[k].dtype, (int)rank, dim);
    return 0;
}

typedef struct Located {
    SafeEntry entry;
    int64_t range[2];
} Located;

static int by_range(const void *a, const void *b)
{
    const Located *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->range[i] != y->range[i])
            return x->range[i] < y->range[i] ? -1 : 1;
    return 0;
}

int entry_by_name(const void *a, const void *b)
{
    return strcmp(((const SafeEntry *)a)->name, ((const SafeEntry *)b)->name);
}

/* The tensors must cover the data exactly: no hole, no overlap, nothing after the last. */
static int check_coverage(Located *at, int64_t n, int64_t data_size, Err *err)
{
    qsort(at, (size_t)n, sizeof *at, by_range);
    int64_t end = 0;
    for (int64_t i = 0; i < n; i++) {
        if (at[i].range[0] != end)
            return err_set(err, ERR_FORMAT, "tensor '%s' begins at %" PRId64 " where %" PRId64 " was expected (%s)",
                           at[i].entry.name, at[i].range[0], end, at[i].range[0] > end ? "hole" : "overlap");
        end = at[i].range[1];
    }
    if (end != data_size)
        return err_set(err, ERR_FORMAT, "tensors cover %" PRId64 " bytes, the file holds %" PRId64, end, data_size);
    return 0;
}

/* The length of the header of a file of `size` bytes that begins with `first` (8 bytes, or size). */
static int header_length(const uint8_t *first, int64_t size, int64_t *out, Err *err)
{
    uint64_t length = 0;
    if (size < 8)
        return err_set(err, ERR_FORMAT, "%" PRId64 " bytes, too short for a safetensors file", size);
    memcpy(&length, first, 8);
    if (length > MAX_HEADER)
        return err_set(err, ERR_FORMAT,
                       "no safetensors file: its first eight bytes, read as the header's length, give %llu",
                       (unsigned long long)length);
    if ((int64_t)length > size - 8)
        return err_set(err, ERR_FORMAT, "header of %llu bytes in a file of %" PRId64, (unsigned long long)length, size);
    *out = (int64_t)length;
    return 0;
}

/* Checks the header `text` of a file of `size` bytes.  On success *entries (sorted by name, names
 * owned) point into `bytes`, the whole file in memory; *meta is a new reference or NULL. */
static int read_header(const void *text, int64_t length, const uint8_t *bytes, int64_t size, SafeEntry **entries,
                       int64_t *n, json_t **meta, Err *err)
{
    json_t *root = NULL;
    Located *at = NULL;
    SafeEntry *out = NULL;
    int64_t count = 0;
    int rc = 0;
    if ((rc = scan_header(text, length, err)) < 0)
        return rc;
    if ((rc = json_parse(&root, text, length, "header", err)) < 0)
        return rc;
    if (!json_is_object(root)) {
        rc = err_set(err, ERR_FORMAT, "header is not an object");
        goto fail;
    }
    if (!(at = mem_calloc((int64_t)json_object_size(root), sizeof *at, err))) {
        rc = ERR_NOMEM;
        goto fail;
    }
    const char *key;
    json_t *value;
    json_object_foreach (root, key, value) {
        if (strcmp(key, "__metadata__") == 0) {
            if ((rc = check_metadata(value, err)) < 0)
                goto fail;
            continue;
        }
        if ((rc = parse_entry(&at[count].entry, at[count].range, key, value, err)) < 0)
            goto fail;
        at[count++].entry.name = key; /* borrowed from root until copied below */
    }
    if ((rc = check_coverage(at, count, size - 8 - length, err)) < 0)
        goto fail;
    if (!(out = mem_calloc(count, sizeof *out, err))) {
        rc = ERR_NOMEM;
        goto fail;
    }
    for (*n = 0; *n < count; (*n)++) {
        out[*n] = at[*n].entry;
        out[*n].tensor.data = (void *)(bytes + 8 + length + at[*n].range[0]);
        if (!(out[*n].name = mem_strdup(at[*n].entry.name, err))) {
            rc = ERR_NOMEM;
            goto fail;
        }
    }
    qsort(out, (size_t)count, sizeof *out, entry_by_name);
    *entries = out;
    *meta = json_incref(json_object_get(root, "__metadata__"));
fail:
    if (rc < 0 && out) {
        while (*n > 0)
            mem_free((char *)out[--*n].name);
        mem_free(out);
    }
    mem_free(at);
    json_decref(root);
    return rc;
}

void entries_free(SafeEntry *entry, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        mem_free((char *)entry[i].name);
    mem_free(entry);
}

int safetensors_check(const void *bytes, int64_t size, Err *err)
{
    SafeEntry *entry = NULL;
    json_t *meta = NULL;
    int64_t n = 0, length = 0;
    int rc = header_length(bytes, size, &length, err);
    if (rc == 0)
        rc = read_header((const char *)bytes + 8, length, bytes, size, &entry, &n, &meta, err);
    if (rc == 0)
        entries_free(entry, n);
    json_decref(meta);
    return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Opened non-blocking, so that a FIFO in a file's place is refused instead of waited for. */
static int open_regular(const char *path, int64_t *size, Err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
    if (fd < 0)
        return err_errno(err, errno, "'%s'", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        rc = err_errno(err, errno, "'%s'", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    else {
        *size = (int64_t)st.st_size;
        return fd;
    }
    close(fd);
    return rc;
}

static int read_at(int fd, void *out, int64_t n, int64_t at, const char *path, Err *err)
{
    for (int64_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)out + done, (size_t)(n - done), (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, errno, "reading '%s'", path);
        if (got == 0)
            return err_set(err, ERR_FORMAT, "'%s' became shorter while it was read", path);
        done += got;
    }
    return 0;
}

/* The header, read (not mapped): a disk that fails then gives an error, where a mapping would end
 * the process with a signal.  A Git LFS pointer is recognised before it is parsed as a header. */
static int read_head(int fd, int64_t size, uint8_t **head, int64_t *length, const char *path, Err *err)
{
    uint8_t first[FILE_LFS_HEAD];
    int64_t n = size < (int64_t)sizeof first ? size : (int64_t)sizeof first;
    int rc = read_at(fd, first, n, 0, path, err);
    if (rc == 0)
        rc = file_check_lfs(path, first, n, err);
    if (rc == 0 && (rc = header_length(first, size, length, err)) < 0)
        err_wrap(err, rc, "'%s'", path);
    if (rc < 0)
        return rc;
    if (!(*head = mem_calloc(*length + 1, 1, err)))
        return ERR_NOMEM;
    return read_at(fd, *head, *length, 8, path, err);
}

static int map_file(Shard *s, int fd, Err *err)
{
    s->map = mmap(NULL, (size_t)s->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (s->map != MAP_FAILED)
        return 0;
    s->map = NULL;
    return err_errno(err, errno, "mapping '%s'", s->path);
}

int shard_open(Shard *s, const char *path, SafeEntry **entry, int64_t *n, Err *err)
{
    uint8_t *head = NULL;
    int64_t length = 0;
    if (!(s->path = mem_strdup(path, err)))
        return ERR_NOMEM;
    int fd = open_regular(path, &s->size, err), rc = fd;
    if (fd < 0)
        return rc;
    if ((rc = read_head(fd, s->size, &head, &length, path, err)) < 0)
        goto fail;
    if ((rc = map_file(s, fd, err)) < 0)
        goto fail;
    rc = read_header(head, length, s->map, s->size, entry, n, &s->meta, err);
    if (rc < 0)
        err_wrap(err, rc, "'%s'", path);
fail:
    mem_free(head);
    close(fd);
    return rc;
}

int shard_map(Shard *s, const char *path, Err *err)
{
    uint8_t first[FILE_LFS_HEAD];
    if (!(s->path = mem_strdup(path, err)))
        return ERR_NOMEM;
    int fd = open_regular(path, &s->size, err), rc = fd;
    if (fd < 0)
        return rc;
    int64_t n = s->size < (int64_t)sizeof first ? s->size : (int64_t)sizeof first;
    rc = n ? read_at(fd, first, n, 0, path, err) : err_set(err, ERR_FORMAT, "'%s' is empty", path);
    if (rc == 0)
        rc = file_check_lfs(path, first, n, err);
    if (rc == 0)
        rc = map_file(s, fd, err);
    close(fd);
    return rc;
}

void safetensors_close(SafeTensors **p)
{
    SafeTensors *s = *p;
    if (!s)
        return;
    entries_free(s->entry, s->n);
    for (int64_t i = 0; i < s->n_shard; i++) {
        mem_free(s->shard[i].name);
        mem_free(s->shard[i].path);
        if (s->shard[i].map)
            munmap(s->shard[i].map, (size_t)s->shard[i].size);
        json_decref(s->shard[i].meta);
    }
    for (int64_t i = 0; i < s->n_block; i++)
        mem_free_aligned(s->block[i]);
    mem_free(s->block);
    mem_free(s->shard);
    mem_free(s);
    *p = NULL;
}

int safetensors_open(SafeTensors **out, const char *path, Err *err)
{
    *out = NULL;
    SafeTensors *s = mem_calloc(1, sizeof *s, err);
    int rc = s ? 0 : ERR_NOMEM;
    if (rc == 0 && !(s->shard = mem_calloc(1, sizeof *s->shard, err)))
        rc = ERR_NOMEM;
    if (rc == 0) {
        s->n_shard = 1;
        rc = shard_open(&s->shard[0], path, &s->entry, &s->n, err);
    }
    if (rc < 0) {
        safetensors_close(&s);
        return rc;
    }
    *out = s;
    return 0;
}

/* ---- access ---------------------------------------------------------------------------------- */

int64_t safetensors_count(const SafeTensors *s)
{
    return s->n;
}

const SafeEntry *safetensors_at(const SafeTensors *s, int64_t i)
{
    return &s->entry[i];
}

void safetensors_forget(const SafeTensors *s, const SafeEntry *e)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)e->tensor.data,
              end = begin + (uintptr_t)tensor_bytes(&e->tensor);
    int mapped = 0;
    for (int64_t i = 0; i < s->n_shard; i++)
        mapped |= begin - (uintptr_t)s->shard[i].map < (uintptr_t)s->shard[i].size;
    begin = (begin + page - 1) / page * page; /* its neighbours' pages stay */
    end = end / page * page;
    if (mapped && begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

const SafeEntry *safetensors_find(const SafeTensors *s, const char *name)
{
    SafeEntry key = {.name = name};
    return s->n ? bsearch(&key, s->entry, (size_t)s->n, sizeof key, entry_by_name) : NULL;
}

const char *safetensors_meta(const SafeTensors *s, const char *key)
{
    const char *value = NULL;
    for (int64_t i = 0; i < s->n_shard && !value; i++)
        value = json_string_value(json_object_get(s->shard[i].meta, key));
    return value;
}
