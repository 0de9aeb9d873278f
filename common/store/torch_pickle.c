/* The machine: its stack, its memo, its opcodes. */
#include "common/base/mem.h"
#include "common/store/torch_pickle_internal.h"

enum {
    MAX_VALUES = 2000000, /* a tensor takes about twenty */
    MAX_MEMO = MAX_VALUES
};

int pickle_bad(Machine *m, const char *what)
{
    return err_set(m->err, ERR_FORMAT, "pickle, byte %" PRId64 ": %s", m->at, what);
}

int indices_add(Indices *list, int32_t value, Err *err)
{
    if (mem_grow(&list->at, list->n, &list->room, sizeof *list->at, err) < 0)
        return ERR_NOMEM;
    list->at[list->n++] = value;
    return 0;
}

int push_new(Machine *m, PickleKind kind, PickleValue **out)
{
    Pickle *p = m->p;
    *out = NULL;
    if (p->n == MAX_VALUES)
        return err_set(m->err, ERR_LIMIT, "pickle: more than %d values", MAX_VALUES);
    if (mem_grow(&p->value, p->n, &p->room, sizeof *p->value, m->err) < 0)
        return ERR_NOMEM;
    PickleValue *v = &p->value[p->n];
    memset(v, 0, sizeof *v);
    v->kind = kind;
    *out = v;
    return indices_add(&m->stack, (int32_t)p->n++, m->err);
}

static int64_t floor_of(const Machine *m)
{
    return m->marks.n ? m->marks.at[m->marks.n - 1] : 0;
}

int peek(Machine *m, int64_t down, PickleValue **out)
{
    *out = NULL;
    if (m->stack.n - down <= floor_of(m))
        return pickle_bad(m, "the stack is empty");
    *out = &m->p->value[m->stack.at[m->stack.n - 1 - down]];
    return 0;
}

int items_add(Machine *m, PickleValue *v, const int32_t *item, int64_t n)
{
    if (v->n + n > v->room) {
        int64_t room = v->n + n > 2 * v->room ? v->n + n : 2 * v->room;
        int32_t *grown = mem_realloc(v->item, room, sizeof *grown, m->err);
        if (!grown)
            return ERR_NOMEM;
        v->item = grown;
        v->room = room;
    }
    if (n)
        memcpy(v->item + v->n, item, (size_t)n * sizeof *item);
    v->n += n;
    return 0;
}

/* Replaces the top n values by one of `kind` with them as items. */
static int collect(Machine *m, PickleKind kind, int64_t n)
{
    PickleValue *v;
    if (m->stack.n - n < floor_of(m))
        return pickle_bad(m, "the stack is empty");
    m->stack.n -= n;
    int64_t first = m->stack.n;
    int32_t *kept = NULL;
    if (n && !(kept = mem_calloc(n, sizeof *kept, m->err)))
        return ERR_NOMEM;
    if (n)
        memcpy(kept, m->stack.at + first, (size_t)n * sizeof *kept);
    int rc = push_new(m, kind, &v);
    if (rc) {
        mem_free(kept);
        return rc;
    }
    v->item = kept;
    v->n = v->room = n;
    return 0;
}

/* The number of values above the last mark, which is taken away. */
static int to_mark(Machine *m, int64_t *n)
{
    if (!m->marks.n)
        return pickle_bad(m, "no mark");
    *n = m->stack.n - m->marks.at[--m->marks.n];
    return 0;
}

/* Adds the top n values to the list or dictionary below them. */
static int put_items(Machine *m, PickleKind kind, int64_t n)
{
    PickleValue *v;
    int rc = peek(m, n, &v);
    if (rc)
        return rc;
    if (v->kind != kind || (kind == PICKLE_DICT && n % 2))
        return pickle_bad(m, kind == PICKLE_DICT ? "items for what is no dictionary" : "items for what is no list");
    m->stack.n -= n;
    return items_add(m, v, m->stack.at + m->stack.n, n);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* n bytes of the pickle, or NULL with the error set. */
static const uint8_t *take(Machine *m, uint64_t n)
{
    if (n > (uint64_t)(m->size - m->at)) {
        pickle_bad(m, "it ends within a value");
        return NULL;
    }
    m->at += (int64_t)n;
    return m->bytes + m->at - n;
}

/* An unsigned little-endian number of n bytes, 1 to 8. */
static int number(Machine *m, int n, uint64_t *out)
{
    const uint8_t *from = take(m, (uint64_t)n);
    if (!from)
        return ERR_FORMAT;
    *out = 0;
    for (int i = 0; i < n; i++)
        *out |= (uint64_t)from[i] << (8 * i);
    return 0;
}

static int push_int(Machine *m, int64_t value)
{
    PickleValue *v;
    int rc = push_new(m, PICKLE_INT, &v);
    if (!rc)
        v->number = value;
    return rc;
}

/* A two's-complement number of n bytes. */
static int push_long(Machine *m, uint64_t n)
{
    uint64_t value = 0;
    if (n > 8)
        return pickle_bad(m, "a whole number of more than 64 bits");
    int rc = n ? number(m, (int)n, &value) : 0;
    if (n && n < 8 && value >> (8 * n - 1))
        value |= ~(uint64_t)0 << (8 * n);
    return rc ? rc : push_int(m, (int64_t)value);
}

static int push_text(Machine *m, int length_bytes)
{
    uint64_t n;
    PickleValue *v;
    int rc = number(m, length_bytes, &n);
    const uint8_t *from = rc ? NULL : take(m, n);
    if (!from)
        return ERR_FORMAT;
    if ((rc = push_new(m, PICKLE_TEXT, &v)))
        return rc;
    v->text = (const char *)from;
    v->n = (int64_t)n;
    return 0;
}

static int keep(Machine *m, uint64_t at)
{
    PickleValue *v;
    int rc = peek(m, 0, &v);
    if (rc)
        return rc;
    if (at >= MAX_MEMO)
        return pickle_bad(m, "a memo with too large a number");
    while (!rc && m->memo.n <= (int64_t)at)
        rc = indices_add(&m->memo, -1, m->err);
    if (!rc)
        m->memo.at[at] = m->stack.at[m->stack.n - 1];
    return rc;
}

static int recall(Machine *m, uint64_t at)
{
    if (at >= (uint64_t)m->memo.n || m->memo.at[at] < 0)
        return pickle_bad(m, "a memo that was never kept");
    return indices_add(&m->stack, m->memo.at[at], m->err);
}

/* Opcodes as in Python's pickletools.  1 at the end of the pickle. */
static int step(Machine *m)
{
    const uint8_t *op = take(m, 1);
    uint64_t u = 0;
    int64_t n = 0;
    PickleValue *v;
    int rc;
    if (!op)
        return ERR_FORMAT;
    switch (*op) {
    case 0x80: /* PROTO */
        if ((rc = number(m, 1, &u)))
            return rc;
        return u < 2 || u > 5 ? pickle_bad(m, "not a pickle of protocol 2 to 5") : 0;
    case 0x95: /* FRAME: where the next ones end, which matters to streams only */ return number(m, 8, &u);
    case '.': return 1;
    case '(': return indices_add(&m->marks, (int32_t)m->stack.n, m->err);
    case 'N': return push_new(m, PICKLE_NONE, &v);
    case 0x88: /* NEWTRUE, NEWFALSE */
    case 0x89: return push_int(m, *op == 0x88);
    case 'K':
    case 'M': rc = number(m, *op == 'K' ? 1 : 2, &u); return rc ? rc : push_int(m, (int64_t)u);
    case 'J': return push_long(m, 4);
    case 0x8a: /* LONG1, LONG4 */
    case 0x8b: rc = number(m, *op == 0x8a ? 1 : 4, &u); return rc ? rc : push_long(m, u);
    case 'G': /* a float: never a weight */ return take(m, 8) ? push_new(m, PICKLE_NONE, &v) : ERR_FORMAT;
    case 'U': /* SHORT_BINSTRING, SHORT_BINUNICODE, SHORT_BINBYTES */
    case 0x8c:
    case 'C': return push_text(m, 1);
    case 'T': /* BINSTRING, BINUNICODE, BINBYTES */
    case 'X':
    case 'B': return push_text(m, 4);
    case 0x8d: /* BINUNICODE8 */ return push_text(m, 8);
    case '}': return push_new(m, PICKLE_DICT, &v);
    case ']':
    case 0x8f: /* EMPTY_SET */ return push_new(m, PICKLE_LIST, &v);
    case ')': return push_new(m, PICKLE_TUPLE, &v);
    case 0x85: /* TUPLE1, TUPLE2, TUPLE3 */
    case 0x86:
    case 0x87: return collect(m, PICKLE_TUPLE, *op - 0x84);
    case 't': rc = to_mark(m, &n); return rc ? rc : collect(m, PICKLE_TUPLE, n);
    case 'a': return put_items(m, PICKLE_LIST, 1);
    case 'e':
    case 0x90: /* ADDITEMS */ rc = to_mark(m, &n); return rc ? rc : put_items(m, PICKLE_LIST, n);
    case 's': return put_items(m, PICKLE_DICT, 2);
    case 'u': rc = to_mark(m, &n); return rc ? rc : put_items(m, PICKLE_DICT, n);
    case '0':
        rc = peek(m, 0, &v);
        m->stack.n -= !rc;
        return rc;
    case '2': rc = peek(m, 0, &v); return rc ? rc : indices_add(&m->stack, m->stack.at[m->stack.n - 1], m->err);
    case 'q':
    case 'r': rc = number(m, *op == 'q' ? 1 : 4, &u); return rc ? rc : keep(m, u);
    case 0x94: /* MEMOIZE */ return keep(m, (uint64_t)m->memo.n);
    case 'h':
    case 'j': rc = number(m, *op == 'h' ? 1 : 4, &u); return rc ? rc : recall(m, u);
    case 'c': return push_global(m);
    case 0x93: return push_stack_global(m);
    case 'R': return call(m);
    case 'Q': return make_storage(m);
    case 0x81: return make_object(m);
    case 'b': return build(m);
    default:
        return err_set(m->err, ERR_UNSUPPORTED,
                       "pickle, byte %" PRId64 ": opcode 0x%02x is none of those that tensors and dictionaries need",
                       m->at - 1, *op);
    }
}

int pickle_read(Pickle *p, const uint8_t *bytes, int64_t size, int64_t *used, Err *err)
{
    Machine m = {.p = p, .bytes = bytes, .size = size, .err = err};
    int rc;
    while (!(rc = step(&m)))
        ;
    if (rc > 0 && (m.stack.n != 1 || m.marks.n))
        rc = pickle_bad(&m, "it ends with other than one value");
    if (rc > 0)
        p->top = m.stack.at[0];
    *used = m.at;
    mem_free(m.stack.at);
    mem_free(m.marks.at);
    mem_free(m.memo.at);
    return rc < 0 ? rc : 0;
}

void pickle_fini(Pickle *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->value[i].kind != PICKLE_TEXT && p->value[i].kind != PICKLE_STORAGE)
            mem_free(p->value[i].item);
    mem_free(p->value);
    *p = (Pickle){0};
}

const PickleValue *pickle_get(const Pickle *p, const PickleValue *dict, const char *key)
{
    for (int64_t i = 0; i + 1 < dict->n; i += 2) {
        const PickleValue *k = pickle_item(p, dict, i);
        if (k->kind == PICKLE_TEXT && is_text(k->text, k->n, key))
            return pickle_item(p, dict, i + 1);
    }
    return NULL;
}
