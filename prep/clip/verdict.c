/* Rejections and notes. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"

int is_rejected(const Rejection *r)
{
    return r->text[0] != '\0';
}

/* Messages of the media library name the file as it was opened; the manifest says the path relative
 * to the source folder. */
static void put_relative(const ClipJob *job, const char *text, char *out, size_t size)
{
    const char *at = strstr(text, job->path);
    if (at)
        snprintf(out, size, "%.*s%s%s", (int)(at - text), text, job->src->path, at + strlen(job->path));
    else
        snprintf(out, size, "%s", text);
}

void reject(const ClipJob *job, Rejection *r, Reason code, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->code = code;
    put_relative(job, text, r->text, sizeof r->text);
}

int reject_error(const ClipJob *job, Rejection *r, int rc, const Err *cause, Reason code, Err *err)
{
    if (rc == ERR_NOMEM || rc == ERR_INTERRUPTED)
        return err_set(err, rc, "%s", cause->msg);
    reject(job, r,
           rc == ERR_LIMIT         ? REASON_LIMIT
           : rc == ERR_UNSUPPORTED ? REASON_UNSUPPORTED
           : rc == ERR_IO          ? REASON_UNREADABLE
                                   : code,
           "%s", cause->msg);
    return 0;
}

int note_add(Notes *n, Err *err, Reason code, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n->n == n->cap) {
        int64_t cap = n->cap ? 2 * n->cap : 8;
        Note *item = mem_realloc(n->item, cap, sizeof *item, err);
        if (!item)
            return ERR_NOMEM;
        n->item = item;
        n->cap = cap;
    }
    char *copy = mem_strdup(text, err);
    if (!copy)
        return ERR_NOMEM;
    n->item[n->n++] = (Note){code, copy};
    return 0;
}

int notes_have(const Notes *n, Reason code)
{
    for (int64_t i = 0; i < n->n; i++)
        if (n->item[i].code == code)
            return 1;
    return 0;
}

void notes_remove(Notes *n, Reason code)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n->n; i++)
        if (n->item[i].code == code)
            mem_free(n->item[i].text);
        else
            n->item[kept++] = n->item[i];
    n->n = kept;
}

void notes_fini(Notes *n)
{
    for (int64_t i = 0; i < n->n; i++)
        mem_free(n->item[i].text);
    mem_free(n->item);
    *n = (Notes){0};
}
