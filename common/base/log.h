/* Logging by callback.  Libraries log through the Log they were given; NULL is silence.
 * Results never go through here: they go to stdout or to files. */
#ifndef WEFT_COMMON_BASE_LOG_H
#define WEFT_COMMON_BASE_LOG_H
#include "common/base/err.h"

typedef enum LogLevel {
    LOG_ERROR, /* something asked for was not done */
    LOG_WARN,  /* done, but not as a careful user would expect: a clip rejected, a caption cut */
    LOG_INFO,  /* what a user following along wants to know: one line a phase */
    LOG_DEBUG  /* for finding out why */
} LogLevel;

typedef struct Log {
    void (*write)(void *user, LogLevel level, const char *line); /* must be safe to call from several threads */
    void *user;
    LogLevel level; /* lines above this level are not formatted */
    int json;       /* lines are JSON objects: everything for people goes through write, progress too */
} Log;

/* Formats one line (no trailing newline, control characters shown as "?") and hands it to
 * log->write. */
void log_line(const Log *log, LogLevel level, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* A warning that the process has not given yet: for what is met again whenever a file is opened again. */
void log_warn_once(const Log *log, const char *fmt, ...) WEFT_PRINTF(2, 3);
/* Each line of a text as a line of the log. */
void log_text(const Log *log, LogLevel level, const char *text);
#define log_error(log, ...) log_line((log), LOG_ERROR, __VA_ARGS__)
#define log_warn(log, ...) log_line((log), LOG_WARN, __VA_ARGS__)
#define log_info(log, ...) log_line((log), LOG_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_line((log), LOG_DEBUG, __VA_ARGS__)

/* The programs' logger: writes "weft-prep: warning: ..." to stderr, or one JSON object a line
 * ({"time","level","program","message"}) when json is set.  `program` must outlive the Log. */
typedef struct StderrLog {
    Log log;
    const char *program;
} StderrLog;
void log_to_stderr(StderrLog *out, const char *program, LogLevel level, int json);
#endif
