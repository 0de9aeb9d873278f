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

static int add(PromptList *p, const char *text, int64_t text_size, const char *id, const char *negative, int64_t seed,
               const char *where, Err *err)
{
    if (text_size > MAX_PROMPT_BYTES)
        return err_set(err, ERR_LIMIT, "%s: a prompt of %lld bytes, expected at most %d", where, (long long)text_size,
                       MAX_PROMPT_BYTES);
    if (!str_is_utf8(text, text_size))
        return err_set(err, ERR_FORMAT, "%s: the prompt is not UTF-8", where);
    Prompt *item = mem_realloc(p->item, p->n + 1, sizeof *item, err);
    if (!item)
        return ERR_NOMEM;
    p->item = item;
    Prompt *q = &item[p->n];
    memset(q, 0, sizeof *q);
    p->n++; /* from here prompts_fini frees what is there */
    q->seed = seed;
    q->text = mem_strndup(text, text_size, err);
    q->id = id ? mem_strdup(id, err) : mem_printf(err, "%04lld", (long long)(p->n - 1));
    if (negative)
        q->negative = mem_strdup(negative, err);
    if (!q->text || !q->id || (negative && !q->negative))
        return ERR_NOMEM;
    int rc = check_id(q->id, where, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i + 1 < p->n; i++)
        if (strcmp(p->item[i].id, q->id) == 0)
            return err_set(err, ERR_USAGE, "%s: id '%s' is taken by prompt %lld already", where, q->id, (long long)i);
    return 0;
}

static int add_json(PromptList *p, const char *line, int64_t size, int64_t seed, const char *where, Err *err)
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
        rc = add(p, text, (int64_t)strlen(text), id, negative, seed, where, err);
    json_decref(o);
    return rc;
}

static int add_file(PromptList *p, const char *file, int64_t seed, Err *err)
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
        snprintf(where, sizeof where, "%.240s: line %lld", file, (long long)line);
        if (n == 0)
            rc = err_set(err, ERR_FORMAT,
                         "%s is blank; expected a prompt (give an empty one as {\"prompt\": \"\"} in a .jsonl file)",
                         where);
        else if (memchr(at, 0, (size_t)n))
            rc = err_set(err, ERR_FORMAT, "%s holds a NUL byte", where);
        else if (str_ends_with(file, ".jsonl"))
            rc = add_json(p, at, n, seed + p->n, where, err);
        else
            rc = add(p, at, n, NULL, NULL, seed + p->n, where, err);
        at = nl ? nl + 1 : end;
    }
    mem_free(bytes);
    return rc;
}

int prompts_read(PromptList *out, const StrList *texts, const char *file, int64_t seed, Err *err)
{
    memset(out, 0, sizeof *out);
    for (int64_t i = 0; i < texts->n; i++) {
        int rc = add(out, texts->item[i], (int64_t)strlen(texts->item[i]), NULL, NULL, seed + i, "--prompt", err);
        if (rc < 0)
            return rc;
    }
    if (file) {
        int rc = add_file(out, file, seed, err);
        if (rc < 0)
            return rc;
    }
    if (out->n == 0)
        return err_set(err, ERR_USAGE, "nothing to sample: give --prompt TEXT or --prompts FILE");
    return 0;
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
