#include "common/base/progress.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/base/mem.h"

#define REDRAW_S 0.1 /* on a terminal */
#define LINE_S 10.0  /* elsewhere, in the log */

struct Progress {
    pthread_mutex_t lock;
    const Log *log;
    char what[64], unit[32], extra[256];
    int64_t total, done, before;
    int terminal;
    double started_s, shown_s;
};

double time_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void time_iso(char out[32])
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

const char *time_duration(double seconds, char out[32])
{
    if (seconds < 0.0995)
        snprintf(out, 32, "%.2g ms", seconds * 1e3);
    else if (seconds < 99.5)
        snprintf(out, 32, "%.3g s", seconds);
    else if (seconds < 597)
        snprintf(out, 32, "%.1f min", seconds / 60);
    else if (seconds < 5940)
        snprintf(out, 32, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        snprintf(out, 32, "%.1f h", seconds / 3600);
    else
        snprintf(out, 32, "%.1f days", seconds / 86400);
    return out;
}

Progress *progress_start(const Log *log, const char *what, const char *unit, int64_t total)
{
    if (!log || log->level < LOG_INFO)
        return NULL;
    Progress *p = mem_calloc(1, sizeof *p, NULL);
    if (!p)
        return NULL;
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        mem_free(p);
        return NULL;
    }
    snprintf(p->what, sizeof p->what, "%s", what);
    snprintf(p->unit, sizeof p->unit, "%s", unit);
    p->total = total;
    p->log = log;
    p->terminal = isatty(STDERR_FILENO) && !log->json;
    p->started_s = p->shown_s = time_now_s();
    return p;
}

/* "2:31" or "1:02:31" */
static void format_time(char *out, size_t size, double seconds)
{
    long s = seconds < 3.6e8 ? (long)(seconds + 0.5) : 360000000;
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

static void show(Progress *p, double now_s, int last)
{
    char line[512], time_text[32];
    double spent = now_s - p->started_s, rate = spent > 0 ? (double)(p->done - p->before) / spent : 0;
    int n = snprintf(line, sizeof line, "%s: %" PRId64, p->what, p->done);
    if (p->total >= 0)
        n += snprintf(line + n, sizeof line - (size_t)n, "/%" PRId64, p->total);
    n += snprintf(line + n, sizeof line - (size_t)n, " %s, %.*f/s", p->unit, rate < 0.1 ? 3 : 1, rate);
    if (last) {
        format_time(time_text, sizeof time_text, spent);
        n += snprintf(line + n, sizeof line - (size_t)n, ", took %s", time_text);
    } else if (p->total >= 0 && rate > 0) {
        format_time(time_text, sizeof time_text, (double)(p->total - p->done) / rate);
        n += snprintf(line + n, sizeof line - (size_t)n, ", ETA %s", time_text);
    }
    if (p->extra[0])
        snprintf(line + n, sizeof line - (size_t)n, ", %s", p->extra);
    if (p->terminal) /* over the last one */
        fprintf(stderr, "\r\033[K%s%s", line, last ? "\n" : "");
    else
        log_info(p->log, "%s", line);
    p->shown_s = now_s;
}

void progress_resume(Progress *p, int64_t done)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->done = p->before = done;
    pthread_mutex_unlock(&p->lock);
}

void progress_step(Progress *p, int64_t done, const char *extra)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    if (done > p->done)
        p->done = done; /* steps of several threads may arrive out of order */
    snprintf(p->extra, sizeof p->extra, "%s", extra ? extra : "");
    double now_s = time_now_s();
    if (now_s - p->shown_s >= (p->terminal ? REDRAW_S : LINE_S))
        show(p, now_s, 0);
    pthread_mutex_unlock(&p->lock);
}

void progress_end(Progress **p)
{
    if (!*p)
        return;
    show(*p, time_now_s(), 1);
    pthread_mutex_destroy(&(*p)->lock);
    mem_free(*p);
    *p = NULL;
}
