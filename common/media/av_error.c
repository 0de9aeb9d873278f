/* The libraries' codes and log lines, turned into ours. */
#include <libavutil/error.h>
#include <libavutil/log.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "common/media/media_internal.h"

/* The libraries report many causes only in their log ("moov atom not found").  Each thread keeps the last
 * error line, so that err_av can quote it. */
static _Thread_local char last_line[200];

/* A demuxer said that the file is shorter than its own bookkeeping: nothing else reports it. */
static _Thread_local int early_end;

static void keep_line(void *object, int level, const char *fmt, va_list args)
{
    (void)object;
    early_end |= strstr(fmt, "ended prematurely") || strstr(fmt, "partial file");
    if (level > AV_LOG_ERROR)
        return;
    vsnprintf(last_line, sizeof last_line, fmt, args);
    size_t n = strlen(last_line);
    while (n > 0 && (last_line[n - 1] == '\n' || last_line[n - 1] == '.' || last_line[n - 1] == ' '))
        last_line[--n] = 0;
    for (char *p = last_line; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?'; /* text from a file may hold anything */
}

static void quiet_once(void)
{
    av_log_set_callback(keep_line);
}

void av_quiet(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, quiet_once);
    last_line[0] = 0;
    early_end = 0;
}

int av_log_early_end(void)
{
    return early_end;
}

int av_log_said(const char *part)
{
    return strstr(last_line, part) != NULL;
}

int err_av(Err *err, int code, int av, const char *fmt, ...)
{
    char what[1024], why[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    if (av == AVERROR(ENOMEM))
        code = ERR_NOMEM;
    else if (av == AVERROR(ENOENT))
        code = ERR_NOTFOUND;
    else if (av == AVERROR(EIO) || av == AVERROR(ENOSPC) || av == AVERROR(EDQUOT) || av == AVERROR(EFBIG) ||
             av == AVERROR(EACCES) || av == AVERROR(EMFILE))
        code = ERR_IO;
    if (av == AVERROR_EXIT)
        return err_set(err, ERR_LIMIT, "%s: took longer than its time limit", what);
    if (av_strerror(av, why, sizeof why) < 0)
        snprintf(why, sizeof why, "code %d", av);
    if (last_line[0])
        return err_set(err, code, "%s: %s (%s)", what, why, last_line);
    return err_set(err, code, "%s: %s", what, why);
}
