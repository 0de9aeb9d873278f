/* From the values of a pickle to named tensors: which storages there are, names, bounds, copies of
 * what is not contiguous. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/store/torch_internal.h"

enum {
    MAX_DEPTH = 32,       /* dictionaries within each other */
    MAX_VISITS = 4000000, /* values looked at: a dictionary may hold another one twice, and that one ... */
    MAX_TENSORS = 100000,
    MAX_NAME = 4096
};

/* ---- storages -------------------------------------------------------------------------------- */

int torch_block(TorchFile *f, int64_t bytes, void **out)
{
    SafeTensors *s = f->out;
    if (bytes > f->allowance)
        return err_set(f->err, ERR_LIMIT,
                       "its tensors take more than twice the file's %" PRId64
                       " bytes; no such file is written by PyTorch",
                       f->size);
    void **block = mem_realloc(s->block, s->n_block + 1, sizeof *block, f->err);
    if (!block)
        return ERR_NOMEM;
    s->block = block;
    if (!(*out = mem_alloc_aligned(bytes ? bytes : 1, f->err)))
        return ERR_NOMEM;
    s->block[s->n_block++] = *out;
    f->allowance -= bytes;
    return 0;
}

Storage *torch_find_storage(const TorchFile *f, const PickleValue *key)
{
    const json_t *at = json_object_getn(f->by_key, key->text, (size_t)key->n);
    return at ? &f->storage[json_integer_value(at)] : NULL;
}

static int add_storage(TorchFile *f, const PickleValue *v, int64_t room)
{
    Storage *was = NULL;
    if (v->n < 1 || v->n > 200 || !str_is_utf8(v->text, v->n) || memchr(v->text, 0, (size_t)v->n) ||
        memchr(v->text, '/', (size_t)v->n))
        return err_set(f->err, ERR_FORMAT, "a storage whose key is no plain word");
    if ((was = torch_find_storage(f, v))) {
        if (was->described->number != v->number || was->described->type != v->type ||
            was->described->is_bytes != v->is_bytes)
            return err_set(f->err, ERR_FORMAT, "storage '%.*s' is described in two ways", (int)v->n, v->text);
        return 0;
    }
    if (f->n_storage == room)
        return err_set(f->err, ERR_FORMAT, "more storages than were counted");
    Storage *s = &f->storage[f->n_storage];
    s->described = v;
    if (mem_mul(v->number, dtype_size(v->type), &s->size) < 0)
        return err_set(f->err, ERR_FORMAT, "storage '%.*s' of %" PRId64 " elements is too large", (int)v->n, v->text,
                       v->number);
    if (json_object_setn_new(f->by_key, v->text, (size_t)v->n, json_integer(f->n_storage)))
        return err_set(f->err, ERR_NOMEM, "no memory for the list of storages");
    f->n_storage++;
    return 0;
}

int torch_list_storages(TorchFile *f)
{
    const Pickle *p = &f->pickle;
    int64_t room = 0;
    int rc = 0;
    for (int64_t i = 0; i < p->n; i++)
        room += p->value[i].kind == PICKLE_STORAGE;
    f->storage = mem_calloc(room, sizeof *f->storage, f->err);
    f->by_key = json_object();
    if (!f->storage || !f->by_key)
        return err_set(f->err, ERR_NOMEM, "no memory for the list of storages");
    for (int64_t i = 0; i < p->n && !rc; i++)
        if (p->value[i].kind == PICKLE_STORAGE)
            rc = add_storage(f, &p->value[i], room);
    return rc;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

typedef struct View {
    int64_t offset, stride[TENSOR_RANK_MAX], count;
    Tensor shape;
    int contiguous;
} View;

/* The shape of a tensor's value, checked to lie within `elements` elements of its storage. */
static int read_view(View *view, const TorchFile *f, const PickleValue *v, int64_t elements, const char *name)
{
    const PickleValue *sizes = pickle_item(&f->pickle, v, 2), *strides = pickle_item(&f->pickle, v, 3);
    int64_t dim[TENSOR_RANK_MAX] = {0}, last = view->offset = pickle_item(&f->pickle, v, 1)->number, run = 1;
    if (sizes->n != strides->n || sizes->n > TENSOR_RANK_MAX)
        return err_set(f->err, ERR_FORMAT,
                       "tensor '%s': %" PRId64 " sizes and %" PRId64 " strides, expected as many, at most %d", name,
                       sizes->n, strides->n, TENSOR_RANK_MAX);
    view->count = 1;
    view->contiguous = 1;
    for (int64_t i = 0; i < sizes->n; i++) {
        dim[i] = pickle_item(&f->pickle, sizes, i)->number;
        view->stride[i] = pickle_item(&f->pickle, strides, i)->number;
        if (dim[i] < 0 || view->stride[i] < 0 || mem_mul(view->count, dim[i], &view->count) < 0)
            return err_set(f->err, ERR_FORMAT,
                           "tensor '%s': size %" PRId64 ", stride %" PRId64 " in axis %" PRId64 " are not possible",
                           name, dim[i], view->stride[i], i);
    }
    for (int64_t i = sizes->n - 1; i >= 0 && view->count; i--) {
        int64_t reach;
        if (mem_mul(dim[i] - 1, view->stride[i], &reach) < 0 || mem_add(last, reach, &last) < 0)
            return err_set(f->err, ERR_FORMAT, "tensor '%s' reaches beyond its storage", name);
        if (dim[i] > 1 && view->stride[i] != run)
            view->contiguous = 0;
        run *= dim[i];
    }
    /* An expanded tensor (stride 0) of more elements than its storage would be a small file that takes
     * any amount of memory. */
    if (view->offset < 0 || (view->count && last >= elements) || view->count > elements)
        return err_set(f->err, ERR_FORMAT, "tensor '%s': element %" PRId64 ", of %" PRId64 ", in a storage of %" PRId64,
                       name, last, view->count, elements);
    view->shape = tensor_view(NULL, v->type, (int)sizes->n, dim);
    return 0;
}

static void copy_view(const View *view, uint8_t *to, const uint8_t *from)
{
    int64_t size = dtype_size(view->shape.dtype), index[TENSOR_RANK_MAX] = {0};
    for (int64_t i = 0; i < view->count; i++, to += size) {
        int64_t at = view->offset;
        for (int a = 0; a < view->shape.rank; a++)
            at += index[a] * view->stride[a];
        memcpy(to, from + at * size, (size_t)size);
        for (int a = view->shape.rank - 1; a >= 0 && ++index[a] == view->shape.dim[a]; a--)
            index[a] = 0;
    }
}

static int add_tensor(TorchFile *f, const PickleValue *v, const char *name, int64_t *room)
{
    Storage *s = torch_find_storage(f, pickle_item(&f->pickle, v, 0));
    SafeTensors *out = f->out;
    View view;
    if (!*name || !str_is_utf8(name, (int64_t)strlen(name)))
        return err_set(f->err, ERR_FORMAT, "a tensor's name is empty, or not UTF-8");
    int rc = read_view(&view, f, v, s->size / dtype_size(v->type), name);
    if (rc || (!s->bytes && (rc = torch_load_storage(f, s))))
        return rc;
    view.shape.data = (void *)(s->bytes + (view.count ? view.offset * dtype_size(v->type) : 0));
    if (!view.contiguous && view.count) {
        void *copy;
        if ((rc = torch_block(f, tensor_bytes(&view.shape), &copy)))
            return rc;
        copy_view(&view, copy, s->bytes);
        view.shape.data = copy;
    }
    if (out->n == MAX_TENSORS)
        return err_set(f->err, ERR_LIMIT, "more than %d tensors", MAX_TENSORS);
    if (mem_grow(&out->entry, out->n, room, sizeof *out->entry, f->err) < 0)
        return ERR_NOMEM;
    out->entry[out->n].tensor = view.shape;
    if (!(out->entry[out->n].name = mem_strdup(name, f->err)))
        return ERR_NOMEM;
    out->n++;
    return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

typedef struct Walk {
    TorchFile *f;
    Str name;
    int64_t visits, room;
} Walk;

static int walk(Walk *w, const PickleValue *v, int depth);

/* The value under one key, its name longer by ".KEY". */
static int walk_item(Walk *w, const char *key, int64_t n, const PickleValue *v, int depth)
{
    int64_t before = w->name.len;
    if (before + n + 1 > MAX_NAME || memchr(key, 0, (size_t)n))
        return err_set(w->f->err, ERR_FORMAT, "a tensor's name of more than %d bytes, or with a zero", MAX_NAME);
    int rc = before ? str_append(&w->name, ".", w->f->err) : 0;
    if (!rc && !(rc = str_append_n(&w->name, key, n, w->f->err)))
        rc = walk(w, v, depth);
    w->name.len = before;
    if (w->name.data)
        w->name.data[before] = 0;
    return rc;
}

static int walk(Walk *w, const PickleValue *v, int depth)
{
    const Pickle *p = &w->f->pickle;
    int rc = 0;
    if (++w->visits > MAX_VISITS || depth > MAX_DEPTH)
        return err_set(w->f->err, ERR_LIMIT, "its dictionaries are nested deeper than %d, or too large", MAX_DEPTH);
    if (v->kind == PICKLE_TENSOR)
        return add_tensor(w->f, v, w->name.data ? w->name.data : "", &w->room);
    for (int64_t i = 0; v->kind == PICKLE_DICT && i < v->n && !rc; i += 2) {
        const PickleValue *key = pickle_item(p, v, i), *item = pickle_item(p, v, i + 1);
        char digits[32];
        if (key->kind == PICKLE_INT) {
            snprintf(digits, sizeof digits, "%" PRId64, key->number);
            rc = walk_item(w, digits, (int64_t)strlen(digits), item, depth + 1);
        } else if (key->kind == PICKLE_TEXT) {
            rc = walk_item(w, key->text, key->n, item, depth + 1);
        }
    }
    for (int64_t i = 0; (v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE) && i < v->n && !rc; i++) {
        char digits[32];
        snprintf(digits, sizeof digits, "%" PRId64, i);
        rc = walk_item(w, digits, (int64_t)strlen(digits), pickle_item(p, v, i), depth + 1);
    }
    return rc;
}

static int holds_tensors(const Pickle *p, const PickleValue *dict)
{
    for (int64_t i = 1; dict && dict->kind == PICKLE_DICT && i < dict->n; i += 2)
        if (pickle_item(p, dict, i)->kind == PICKLE_TENSOR)
            return 1;
    return 0;
}

/* What the file is about: its outermost value, or the state dict in it. */
static const PickleValue *root(const Pickle *p)
{
    static const char *const keys[] = {"state_dict", "model_state_dict", "model"};
    const PickleValue *top = &p->value[p->top];
    for (size_t i = 0; i < sizeof keys / sizeof *keys && top->kind == PICKLE_DICT && !top->is_object; i++) {
        const PickleValue *inner = pickle_get(p, top, keys[i]);
        if (holds_tensors(p, inner))
            return inner;
    }
    return top;
}

/* Names that all begin with "module." lose it. */
static void strip_module(SafeTensors *s)
{
    const size_t n = strlen("module.");
    for (int64_t i = 0; i < s->n; i++)
        if (strncmp(s->entry[i].name, "module.", n) != 0 || !s->entry[i].name[n])
            return;
    for (int64_t i = 0; i < s->n; i++) {
        char *name = (char *)s->entry[i].name;
        memmove(name, name + n, strlen(name + n) + 1);
    }
}

int torch_list_tensors(TorchFile *f)
{
    SafeTensors *s = f->out;
    const PickleValue *top = root(&f->pickle);
    if (top->kind != PICKLE_DICT)
        return err_set(f->err, ERR_FORMAT, "it holds no dictionary of tensors%s",
                       top->kind == PICKLE_TENSOR ? " but a single tensor without a name" : "");
    Walk w = {.f = f};
    int rc = walk(&w, top, 0);
    str_fini(&w.name);
    if (rc)
        return rc;
    if (!s->n)
        return err_set(f->err, ERR_FORMAT, "it holds no tensors%s",
                       top->is_object ? " with names: TorchScript that was frozen has lost them" : "");
    strip_module(s);
    qsort(s->entry, (size_t)s->n, sizeof *s->entry, entry_by_name);
    for (int64_t i = 1; i < s->n; i++)
        if (!strcmp(s->entry[i - 1].name, s->entry[i].name))
            return err_set(f->err, ERR_FORMAT, "two tensors are called '%s'", s->entry[i].name);
    return 0;
}
