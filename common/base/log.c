#include "common/base/log.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/hash.h"
#include "common/base/progress.h"
#include "common/base/str.h"

#define LOG_LINE_MAX 4096

void log_line(const Log *log, LogLevel level, const char *fmt, ...)
{
    if (!log || !log->write || level > log->level)
        return;
    char text[LOG_LINE_MAX], line[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    str_escape(line, sizeof line, text, 0);
    log->write(log->user, level, line);
}

/* Slots are filled in order; a line beyond the last is written every time. */
static int said_before(uint64_t line)
{
    static _Atomic uint64_t said[64];
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        uint64_t empty = 0;
        if (!atomic_compare_exchange_strong(&said[i], &empty, line) && empty == line)
            return 1;
        if (empty == 0)
            return 0;
    }
    return 0;
}

void log_warn_once(const Log *log, const char *fmt, ...)
{
    if (!log || !log->write || log->level < LOG_WARN)
        return;
    char text[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!said_before(hash_xxh3(text, (int64_t)strlen(text))))
        log_warn(log, "%s", text);
}

void log_text(const Log *log, LogLevel level, const char *text)
{
    while (*text) {
        int n = (int)strcspn(text, "\n");
        log_line(log, level, "%.*s", n, text);
        text += n + (text[n] == '\n');
    }
}

static const char *level_name(LogLevel level)
{
    switch (level) {
    case LOG_ERROR: return "error";
    case LOG_WARN: return "warning";
    case LOG_INFO: return "info";
    default: return "debug";
    }
}

/* JSON wants UTF-8; a message may carry a file name or a cut line that is not. */
static void make_utf8(char *s)
{
    for (; *s && !str_is_utf8(s, (int64_t)strlen(s)); s++) {
        if ((unsigned char)*s >= 0x80)
            *s = '?';
    }
}

static void write_json(const StderrLog *self, LogLevel level, const char *line)
{
    char now[32], text[LOG_LINE_MAX];
    time_iso(now);
    snprintf(text, sizeof text, "%s", line);
    make_utf8(text);
    json_t *o = json_pack("{s:s,s:s,s:s,s:s}", "time", now, "level", level_name(level), "program", self->program,
                          "message", text);
    char *out = o ? json_dumps(o, JSON_COMPACT) : NULL;
    fprintf(stderr, "%s\n", out ? out : text); /* one call: lines of several threads do not mix */
    free(out);
    json_decref(o);
}

static void write_stderr(void *user, LogLevel level, const char *line)
{
    const StderrLog *self = user;
    if (self->log.json) {
        write_json(self, level, line);
        return;
    }
    const char *over_progress = isatty(STDERR_FILENO) ? "\r\033[K" : "";
    if (level == LOG_INFO)
        fprintf(stderr, "%s%s: %s\n", over_progress, self->program, line);
    else
        fprintf(stderr, "%s%s: %s: %s\n", over_progress, self->program, level_name(level), line);
}

void log_to_stderr(StderrLog *out, const char *program, LogLevel level, int json)
{
    *out = (StderrLog){.log = {.write = write_stderr, .user = out, .level = level, .json = json}, .program = program};
}
