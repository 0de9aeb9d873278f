#include "infer/prompts.h"

#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/text/slug.h"

enum { MAX_PROMPTS_BYTES = 64 << 20, MAX_PROMPT_BYTES = 1 << 16, MAX_NAME_BYTES = 200, MAX_SAMPLES = 10000000 };

/* A name of a file or folder; `what` names it in the message. */
static int check_name(const char *name, const char *what, const char *where, Err *err)
{
    size_t n = strlen(name);
    int bad = n == 0 || n > MAX_NAME_BYTES || name[0] == '.';
    for (const char *c = name; *c; c++)
        bad |= *c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f;
    if (bad)
        return err_set(
            err, ERR_USAGE,
            "%s: %s '%s': expected a file name of 1 to %d bytes without '/', control characters or a leading '.'",
            where, what, name, MAX_NAME_BYTES);
    return 0;
}

typedef struct Reading {
    PromptList *list;
    int64_t room;             /* items allocated */
    int64_t prompts;          /* read so far */
    int64_t seed, per_prompt; /* as prompts_read has them */
    json_t *ids;              /* id -> its prompt's number */
} Reading;

static const PromptLine nothing_said = {.size = -1, .seed = -1, .guidance = -1};

/* Adds an item of zeros to the list. */
static int grow(Reading *r, Prompt **out, Err *err)
{
    PromptList *p = r->list;
    if (p->n == MAX_SAMPLES)
        return err_set(err, ERR_LIMIT, "more than %d videos are asked for; make them in several runs", MAX_SAMPLES);
    if (mem_grow(&p->item, p->n, &r->room, sizeof *p->item, err) < 0)
        return ERR_NOMEM;
    p->item[p->n] = (Prompt){0};
    *out = &p->item[p->n++]; /* from here prompts_fini frees its parts */
    return 0;
}

/* [CATEGORY/]NAME */
static char *make_id(const Reading *r, const PromptLine *l, const char *slug, int64_t seed, Err *err)
{
    const char *folder = l->category ? l->category : "", *slash = l->category ? "/" : "";
    if (l->id && r->per_prompt == 1)
        return mem_printf(err, "%s%s%s", folder, slash, l->id);
    return mem_printf(err, "%s%s%s-%" PRId64, folder, slash, l->id ? l->id : slug, seed);
}

static int add_item(Reading *r, const PromptLine *l, const char *slug, int64_t seed, Err *err)
{
    Prompt *q = NULL;
    int rc = grow(r, &q, err);
    if (rc < 0)
        return rc;
    q->seed = seed;
    q->steps = l->steps;
    q->guidance = l->guidance;
    q->text = mem_strndup(l->text, l->size, err);
    q->id = make_id(r, l, slug, seed, err);
    if (l->negative)
        q->negative = mem_strdup(l->negative, err);
    if (l->category)
        q->category = mem_strdup(l->category, err);
    if (l->clip)
        q->clip = mem_strdup(l->clip, err);
    if (!q->text || !q->id || (l->negative && !q->negative) || (l->category && !q->category) || (l->clip && !q->clip))
        return ERR_NOMEM;
    const json_t *before = json_object_get(r->ids, q->id);
    if (before && l->id)
        return err_set(err, ERR_USAGE, "%s: id '%s' is also the id of prompt %" PRId64, l->where, q->id,
                       (int64_t)json_integer_value(before));
    if (before)
        return err_set(err, ERR_USAGE,
                       "%s: the video would be named '%s', as that of prompt %" PRId64
                       " is; give other seeds, or ids in a .jsonl file",
                       l->where, q->id, (int64_t)json_integer_value(before));
    if (json_object_set_new(r->ids, q->id, json_integer(r->prompts)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the prompts");
    return 0;
}

/* Names in OUT that are the list's and the page's. */
static int check_reserved(const PromptLine *l, Err *err)
{
    static const char *const reserved[] = {"index", "index.json", "index.html", "contact.png"};
    const char *name = l->category ? l->category : l->id;
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, reserved[i]) == 0)
            return err_set(err, ERR_USAGE, "%s: '%s' is the name of a file that shows all videos; choose another %s",
                           l->where, name, l->category ? "category" : "id");
    return 0;
}

static int check_line(const PromptLine *l, Err *err)
{
    if (l->size > MAX_PROMPT_BYTES)
        return err_set(err, ERR_LIMIT, "%s: a prompt of %" PRId64 " bytes, expected at most %d", l->where, l->size,
                       MAX_PROMPT_BYTES);
    if (!str_is_utf8(l->text, l->size))
        return err_set(err, ERR_FORMAT, "%s: the prompt is not UTF-8", l->where);
    int rc = l->id ? check_name(l->id, "id", l->where, err) : 0;
    if (rc == 0 && l->category)
        rc = check_name(l->category, "category", l->where, err);
    return rc == 0 ? check_reserved(l, err) : rc;
}

static int add(Reading *r, PromptLine *l, Err *err)
{
    l->size = l->size < 0 ? (int64_t)strlen(l->text) : l->size;
    int rc = check_line(l, err);
    char *text = rc == 0 ? mem_strndup(l->text, l->size, err) : NULL, *slug = text ? slug_of(text, err) : NULL;
    if (rc == 0 && !slug)
        rc = ERR_NOMEM;
    int64_t first = l->seed >= 0 ? l->seed : r->seed + r->prompts * r->per_prompt;
    for (int64_t j = 0; rc == 0 && j < r->per_prompt; j++)
        rc = add_item(r, l, slug, first + j, err);
    r->prompts++;
    mem_free(slug);
    mem_free(text);
    return rc;
}

static int add_json(Reading *r, const char *line, int64_t size, const char *where, Err *err)
{
    json_t *o = NULL;
    PromptLine l = nothing_said;
    l.where = where;
    int rc = json_parse(&o, line, size, where, err);
    if (rc == 0)
        rc = schema_check("prompt", o, where, err);
    if (rc == 0)
        rc = json_get_str(o, "prompt", where, &l.text, err);
    if (rc == 0)
        rc = json_get_str_or(o, "id", where, NULL, &l.id, err);
    if (rc == 0)
        rc = json_get_str_or(o, "negative_prompt", where, NULL, &l.negative, err);
    if (rc == 0)
        rc = json_get_str_or(o, "category", where, NULL, &l.category, err);
    if (rc == 0)
        rc = json_get_int_or(o, "seed", where, -1, &l.seed, err);
    if (rc == 0)
        rc = json_get_int_or(o, "steps", where, 0, &l.steps, err);
    if (rc == 0)
        rc = json_get_num_or(o, "guidance", where, -1, &l.guidance, err);
    if (rc == 0)
        rc = add(r, &l, err);
    json_decref(o);
    return rc;
}

/* Objects in a file that is read as text would be sampled as they stand there. */
static int check_kind(const char *file, const char *line, const char *where, Err *err)
{
    line += *line == '['; /* lines end with '\n' or NUL */
    if (strncmp(line, "{\"", 2) != 0 && !str_ends_with(file, ".json"))
        return 0;
    return err_set(err, ERR_FORMAT,
                   "%s: expected the ending .jsonl for a file of objects, one a line without commas between them",
                   where);
}

static int add_text(Reading *r, const char *text, int64_t size, const char *where, Err *err)
{
    PromptLine l = nothing_said;
    l.text = text;
    l.size = size;
    l.where = where;
    return add(r, &l, err);
}

static int add_file(Reading *r, const char *file, Err *err)
{
    char *bytes = NULL, where[300];
    int64_t size = 0;
    int rc = file_read(file, MAX_PROMPTS_BYTES, &bytes, &size, err);
    if (rc < 0)
        return rc;
    const char *at = bytes + str_mark_size(bytes, size), *end = bytes + size;
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
            rc = add_json(r, at, n, where, err);
        else {
            rc = check_kind(file, at, where, err);
            rc = rc == 0 ? add_text(r, at, n, where, err) : rc;
        }
        at = nl ? nl + 1 : end;
    }
    mem_free(bytes);
    return rc;
}

int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed, int64_t per_prompt, Err *err)
{
    Reading r = {.list = out, .seed = seed, .per_prompt = per_prompt, .ids = json_object()};
    memset(out, 0, sizeof *out);
    int rc = r.ids ? 0 : err_set(err, ERR_NOMEM, "no memory for the prompts");
    for (int64_t i = 0; rc == 0 && i < texts->n; i++)
        rc = add_text(&r, texts->item[i], (int64_t)strlen(texts->item[i]), "--prompt", err);
    if (rc == 0 && file)
        rc = add_file(&r, file, err);
    if (rc == 0 && out->n == 0)
        rc = file ? err_set(err, ERR_USAGE, "'%s' is empty; expected one prompt a line", file)
                  : err_set(err, ERR_USAGE, "nothing to sample: give --prompt TEXT or --prompts FILE");
    json_decref(r.ids);
    return rc;
}

int prompts_from(PromptList *out, PromptLineFn *next, void *user, int64_t seed, int64_t per_prompt, Err *err)
{
    Reading r = {.list = out, .seed = seed, .per_prompt = per_prompt, .ids = json_object()};
    PromptLine line = nothing_said;
    memset(out, 0, sizeof *out);
    int rc = r.ids ? 0 : err_set(err, ERR_NOMEM, "no memory for the prompts");
    while (rc == 0 && (rc = next(user, &line, err)) == 1) {
        rc = add(&r, &line, err);
        line = nothing_said;
    }
    json_decref(r.ids);
    return rc;
}

void prompts_fini(PromptList *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        mem_free(p->item[i].id);
        mem_free(p->item[i].text);
        mem_free(p->item[i].negative);
        mem_free(p->item[i].category);
        mem_free(p->item[i].clip);
    }
    mem_free(p->item);
    memset(p, 0, sizeof *p);
}
