#include "infer/prompts.h"

#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"

enum { MAX_PROMPTS_BYTES = 64 << 20, MAX_PROMPT_BYTES = 1 << 16 };

static int check_id(const char *id, const char *where, Err *err)
{
    size_t n = strlen(id);
    int bad = n == 0 || n > 200 || id[0] == '.';
    for (const char *c = id; *c; c++)
        bad |= *c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f;
    if (bad)
        return err_set(
            err, ERR_USAGE,
            "%s: id '%s': expected a file name of 1 to 200 bytes without '/', control characters or a leading '.'",
            where, id);
    return 0;
}

typedef struct Reading {
    PromptList *list;
    int64_t room; /* items allocated */
    json_t *ids;  /* id -> its prompt's number */
} Reading;

/* Adds an item of zeros to the list. */
static Prompt *grow(Reading *r, Err *err)
{
    PromptList *p = r->list;
    if (p->n == r->room) {
        int64_t room = r->room ? 2 * r->room : 16;
        Prompt *item = mem_realloc(p->item, room, sizeof *item, err);
        if (!item)
            return NULL;
        p->item = item;
        r->room = room;
    }
    p->item[p->n] = (Prompt){0};
    return &p->item[p->n++]; /* from here prompts_fini frees its parts */
}

static int add(Reading *r, const char *text, int64_t text_size, const char *id, const char *negative, int64_t seed,
               const char *where, Err *err)
{
    if (text_size > MAX_PROMPT_BYTES)
        return err_set(err, ERR_LIMIT, "%s: a prompt of %" PRId64 " bytes, expected at most %d", where, text_size,
                       MAX_PROMPT_BYTES);
    if (!str_is_utf8(text, text_size))
        return err_set(err, ERR_FORMAT, "%s: the prompt is not UTF-8", where);
    Prompt *q = grow(r, err);
    if (!q)
        return ERR_NOMEM;
    q->seed = seed;
    q->text = mem_strndup(text, text_size, err);
    q->id = id ? mem_strdup(id, err) : mem_printf(err, "%04" PRId64, (r->list->n - 1));
    if (negative)
        q->negative = mem_strdup(negative, err);
    if (!q->text || !q->id || (negative && !q->negative))
        return ERR_NOMEM;
    int rc = check_id(q->id, where, err);
    if (rc < 0)
        return rc;
    const json_t *before = json_object_get(r->ids, q->id);
    if (before)
        return err_set(err, ERR_USAGE, "%s: id '%s' is also the id of prompt %" PRId64, where, q->id,
                       (int64_t)json_integer_value(before));
    if (json_object_set_new(r->ids, q->id, json_integer(r->list->n - 1)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the prompts");
    return 0;
}

static int add_json(Reading *r, const char *line, int64_t size, int64_t seed, const char *where, Err *err)
{
    json_t *o = NULL;
    const char *text, *id, *negative;
    int rc = json_parse(&o, line, size, where, err);
    if (rc == 0)
        rc = schema_check("prompt", o, where, err);
    if (rc == 0)
        rc = json_get_str(o, "prompt", where, &text, err);
    if (rc == 0)
        rc = json_get_str_or(o, "id", where, NULL, &id, err);
    if (rc == 0)
        rc = json_get_str_or(o, "negative_prompt", where, NULL, &negative, err);
    if (rc == 0)
        rc = json_get_int_or(o, "seed", where, seed, &seed, err);
    if (rc == 0)
        rc = add(r, text, (int64_t)strlen(text), id, negative, seed, where, err);
    json_decref(o);
    return rc;
}

static int add_file(Reading *r, const char *file, int64_t seed, Err *err)
{
    char *bytes = NULL, where[300];
    int64_t size = 0;
    int rc = file_read(file, MAX_PROMPTS_BYTES, &bytes, &size, err);
    if (rc < 0)
        return rc;
    const char *at = bytes, *end = bytes + size;
    if (size >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    for (int64_t line = 1; rc == 0 && at < end; line++) {
        const char *nl = memchr(at, '\n', (size_t)(end - at)), *stop = nl ? nl : end;
        int64_t n = stop - at;
        while (n > 0 && (at[n - 1] == '\r' || at[n - 1] == ' ' || at[n - 1] == '\t'))
            n--;
        snprintf(where, sizeof where, "%.240s: line %" PRId64, file, line);
        if (n == 0)
            rc = err_set(err, ERR_FORMAT,
                         "%s is blank; expected a prompt (give an empty one as {\"prompt\": \"\"} in a .jsonl file)",
                         where);
        else if (memchr(at, 0, (size_t)n))
            rc = err_set(err, ERR_FORMAT, "%s holds a NUL byte", where);
        else if (str_ends_with(file, ".jsonl"))
            rc = add_json(r, at, n, seed + r->list->n, where, err);
        else
            rc = add(r, at, n, NULL, NULL, seed + r->list->n, where, err);
        at = nl ? nl + 1 : end;
    }
    mem_free(bytes);
    return rc;
}

int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed, Err *err)
{
    Reading r = {.list = out, .ids = json_object()};
    memset(out, 0, sizeof *out);
    int rc = r.ids ? 0 : err_set(err, ERR_NOMEM, "no memory for the prompts");
    for (int64_t i = 0; rc == 0 && i < texts->n; i++)
        rc = add(&r, texts->item[i], (int64_t)strlen(texts->item[i]), NULL, NULL, seed + i, "--prompt", err);
    if (rc == 0 && file)
        rc = add_file(&r, file, seed, err);
    if (rc == 0 && out->n == 0)
        rc = err_set(err, ERR_USAGE, "nothing to sample: give --prompt TEXT or --prompts FILE");
    json_decref(r.ids);
    return rc;
}

void prompts_fini(PromptList *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        mem_free(p->item[i].id);
        mem_free(p->item[i].text);
        mem_free(p->item[i].negative);
    }
    mem_free(p->item);
    memset(p, 0, sizeof *p);
}
