/* The names a pickle may use, and what their calls become. */
#include <ctype.h>

#include "common/store/torch_pickle_internal.h"

/* ---- names ----------------------------------------------------------------------------------- */

typedef enum Known {
    A_DICT,      /* called: an empty dictionary */
    A_TENSOR,    /* called with storage, offset, sizes, strides, ...: a tensor */
    A_TENSOR_V3, /* the same, and its type is the seventh argument */
    A_PARAMETER, /* called with a tensor first: that tensor */
    A_STORAGE,   /* the type in a persistent id */
    A_BYTES,     /* the same for a storage counted in bytes */
    A_TYPE,      /* an argument of A_TENSOR_V3 */
    A_FIRST,     /* called: its first argument */
    A_NOTHING,   /* called: None */
    A_CLASS      /* of TorchScript: its objects are their attributes */
} Known;

static const struct {
    const char *module, *name;
    Known known;
    DType type;
} names[] = {
    {"collections", "OrderedDict", A_DICT, 0},
    {"torch._utils", "_rebuild_tensor", A_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v2", A_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v3", A_TENSOR_V3, 0},
    {"torch._utils", "_rebuild_parameter", A_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", A_PARAMETER, 0},
    {"torch", "FloatStorage", A_STORAGE, DT_F32},
    {"torch", "DoubleStorage", A_STORAGE, DT_F64},
    {"torch", "HalfStorage", A_STORAGE, DT_F16},
    {"torch", "BFloat16Storage", A_STORAGE, DT_BF16},
    {"torch", "LongStorage", A_STORAGE, DT_I64},
    {"torch", "IntStorage", A_STORAGE, DT_I32},
    {"torch", "ShortStorage", A_STORAGE, DT_I16},
    {"torch", "CharStorage", A_STORAGE, DT_I8},
    {"torch", "ByteStorage", A_STORAGE, DT_U8},
    {"torch", "BoolStorage", A_STORAGE, DT_BOOL},
    {"torch", "UntypedStorage", A_BYTES, DT_U8},
    {"torch.storage", "UntypedStorage", A_BYTES, DT_U8},
    {"torch", "float32", A_TYPE, DT_F32},
    {"torch", "float64", A_TYPE, DT_F64},
    {"torch", "float16", A_TYPE, DT_F16},
    {"torch", "bfloat16", A_TYPE, DT_BF16},
    {"torch", "int64", A_TYPE, DT_I64},
    {"torch", "int32", A_TYPE, DT_I32},
    {"torch", "int16", A_TYPE, DT_I16},
    {"torch", "int8", A_TYPE, DT_I8},
    {"torch", "uint8", A_TYPE, DT_U8},
    {"torch", "uint16", A_TYPE, DT_U16},
    {"torch", "uint32", A_TYPE, DT_U32},
    {"torch", "uint64", A_TYPE, DT_U64},
    {"torch", "bool", A_TYPE, DT_BOOL},
    {"torch", "Size", A_FIRST, 0},
    {"torch", "device", A_NOTHING, 0},
    {"torch.jit._pickle", "build_intlist", A_FIRST, 0},
    {"torch.jit._pickle", "build_doublelist", A_FIRST, 0},
    {"torch.jit._pickle", "build_boollist", A_FIRST, 0},
    {"torch.jit._pickle", "build_tensorlist", A_FIRST, 0},
    {"torch.jit._pickle", "restore_type_tag", A_FIRST, 0},
    {"__torch__", "", A_CLASS, 0}, /* and every module below it */
};

static int find_name(const char *module, int64_t m, const char *name, int64_t n)
{
    int rows = (int)(sizeof names / sizeof *names);
    for (int i = 0; i < rows - 1; i++)
        if (is_text(module, m, names[i].module) && is_text(name, n, names[i].name))
            return i;
    if (is_text(module, m, "__torch__") || (m > 10 && memcmp(module, "__torch__.", 10) == 0))
        return rows - 1;
    return -1;
}

/* The characters of a name that a message shows: those that do no harm. */
static void show(char out[PICKLE_WORD], const char *text, int64_t n)
{
    int64_t i = 0;
    for (; i < n && i < PICKLE_WORD - 1; i++)
        out[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
    out[i] = 0;
}

static int push_name(Machine *m, const char *module, int64_t n_module, const char *name, int64_t n_name)
{
    PickleValue *v;
    int row = find_name(module, n_module, name, n_name);
    if (row < 0) {
        char a[PICKLE_WORD], b[PICKLE_WORD];
        show(a, module, n_module);
        show(b, name, n_name);
        return err_set(m->err, ERR_UNSUPPORTED,
                       "pickle, byte %" PRId64
                       ": it names '%s.%s', which is no tensor and no dictionary, and no code is "
                       "run here; save the weights alone with torch.save(model.state_dict(), FILE)",
                       m->at, a, b);
    }
    int rc = push_new(m, PICKLE_NAME, &v);
    if (!rc)
        v->known = row;
    return rc;
}

/* Two lines of text. */
int push_global(Machine *m)
{
    const char *line[2];
    int64_t n[2];
    for (int i = 0; i < 2; i++) {
        line[i] = (const char *)m->bytes + m->at;
        const char *end = memchr(line[i], '\n', (size_t)(m->size - m->at));
        if (!end || end - line[i] > PICKLE_WORD)
            return pickle_bad(m, "a name without an end");
        n[i] = end - line[i];
        m->at += n[i] + 1;
    }
    return push_name(m, line[0], n[0], line[1], n[1]);
}

int push_stack_global(Machine *m)
{
    PickleValue *module, *name;
    int rc = peek(m, 1, &module);
    if (rc || (rc = peek(m, 0, &name)))
        return rc;
    if (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT)
        return pickle_bad(m, "a name that is no text");
    m->stack.n -= 2;
    return push_name(m, module->text, module->n, name->text, name->n);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int is_int_tuple(const Pickle *p, const PickleValue *v)
{
    if (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST)
        return 0;
    for (int64_t i = 0; i < v->n; i++)
        if (pickle_item(p, v, i)->kind != PICKLE_INT)
            return 0;
    return 1;
}

static int make_tensor(Machine *m, int32_t args, int row)
{
    const Pickle *p = m->p;
    const PickleValue *a = &p->value[args];
    if (a->n < 4 || pickle_item(p, a, 0)->kind != PICKLE_STORAGE || pickle_item(p, a, 1)->kind != PICKLE_INT ||
        !is_int_tuple(p, pickle_item(p, a, 2)) || !is_int_tuple(p, pickle_item(p, a, 3)))
        return pickle_bad(m, "a tensor is made of other things than storage, offset, sizes and strides");
    DType type = pickle_item(p, a, 0)->type;
    if (names[row].known == A_TENSOR_V3) {
        const PickleValue *t = a->n > 6 ? pickle_item(p, a, 6) : NULL;
        if (!t || t->kind != PICKLE_NAME || names[t->known].known != A_TYPE)
            return pickle_bad(m, "a tensor without an element type");
        type = names[t->known].type;
    } else if (pickle_item(p, a, 0)->is_bytes) {
        return pickle_bad(m, "a tensor without an element type");
    }
    PickleValue *v;
    int rc = push_new(m, PICKLE_TENSOR, &v);
    if (rc)
        return rc;
    v->type = type;
    return items_add(m, v, p->value[args].item, 4);
}

/* The two top values, a name and its arguments, become what the call would have given. */
int call(Machine *m)
{
    PickleValue *f, *args, *v;
    int rc = peek(m, 1, &f);
    if (rc || (rc = peek(m, 0, &args)))
        return rc;
    if (f->kind != PICKLE_NAME || args->kind != PICKLE_TUPLE)
        return pickle_bad(m, "a call of what is no name");
    int row = f->known;
    int32_t index = m->stack.at[m->stack.n - 1];
    m->stack.n -= 2;
    switch (names[row].known) {
    case A_DICT:
        if (args->n)
            return pickle_bad(m, "OrderedDict with arguments");
        return push_new(m, PICKLE_DICT, &v);
    case A_TENSOR:
    case A_TENSOR_V3: return make_tensor(m, index, row);
    case A_PARAMETER:
        if (!args->n || pickle_item(m->p, args, 0)->kind != PICKLE_TENSOR)
            return pickle_bad(m, "a parameter without a tensor");
        return indices_add(&m->stack, args->item[0], m->err);
    case A_FIRST:
        if (!args->n)
            return pickle_bad(m, "a call without arguments");
        return indices_add(&m->stack, args->item[0], m->err);
    case A_NOTHING: return push_new(m, PICKLE_NONE, &v);
    default:
        return err_set(m->err, ERR_UNSUPPORTED, "pickle, byte %" PRId64 ": '%s %s' is called; it is no function", m->at,
                       names[row].module, names[row].name);
    }
}

/* ('storage', type, key, where, elements[, view]) becomes a storage. */
int make_storage(Machine *m)
{
    PickleValue *id, *v;
    int rc = peek(m, 0, &id);
    if (rc)
        return rc;
    const Pickle *p = m->p;
    const PickleValue *word = id->kind == PICKLE_TUPLE && id->n ? pickle_item(p, id, 0) : NULL;
    if (!word || word->kind != PICKLE_TEXT || !is_text(word->text, word->n, "storage") || id->n < 5 || id->n > 6)
        return pickle_bad(m,
                          "a persistent id that is no storage (a pickled module's source?); save the state_dict alone");
    const PickleValue *type = pickle_item(p, id, 1), *key = pickle_item(p, id, 2), *count = pickle_item(p, id, 4);
    if (type->kind != PICKLE_NAME || (names[type->known].known != A_STORAGE && names[type->known].known != A_BYTES) ||
        key->kind != PICKLE_TEXT || count->kind != PICKLE_INT || count->number < 0)
        return pickle_bad(m, "a storage that is not described by type, key and count");
    if (id->n == 6 && pickle_item(p, id, 5)->kind != PICKLE_NONE)
        return err_set(m->err, ERR_UNSUPPORTED,
                       "pickle: a view of another storage, as PyTorch before 0.4 wrote; save the file again with a "
                       "later version");
    PickleValue made = {.kind = PICKLE_STORAGE,
                        .type = names[type->known].type,
                        .is_bytes = names[type->known].known == A_BYTES,
                        .number = count->number,
                        .text = key->text,
                        .n = key->n};
    m->stack.n--;
    if ((rc = push_new(m, PICKLE_STORAGE, &v)))
        return rc;
    *v = made;
    return 0;
}

/* A class of TorchScript and its arguments become an object without attributes. */
int make_object(Machine *m)
{
    PickleValue *class, *args, *v;
    int rc = peek(m, 1, &class);
    if (rc || (rc = peek(m, 0, &args)))
        return rc;
    if (class->kind != PICKLE_NAME || names[class->known].known != A_CLASS || args->kind != PICKLE_TUPLE || args->n)
        return pickle_bad(m, "an object of a class that is not TorchScript's");
    m->stack.n -= 2;
    rc = push_new(m, PICKLE_DICT, &v);
    if (!rc)
        v->is_object = 1;
    return rc;
}

/* The top is the state of the object below it: TorchScript's attributes, or the fields of an
 * OrderedDict (_metadata), which are not its items. */
int build(Machine *m)
{
    PickleValue *state, *object;
    int rc = peek(m, 1, &object);
    if (rc || (rc = peek(m, 0, &state)))
        return rc;
    if (object->kind != PICKLE_DICT || state->kind != PICKLE_DICT)
        return pickle_bad(m, "a state for what is no dictionary");
    m->stack.n--;
    return object->is_object && object != state ? items_add(m, object, state->item, state->n) : 0;
}
