/* The progress line: "cache: 12/480 clips, 3.1/s, ETA 2:31" redrawn on a terminal, a line of the log
 * every ten seconds elsewhere and with --log-json, nothing with --quiet; and wall-clock time.  Safe
 * to call from several threads. */
#ifndef WEFT_COMMON_BASE_PROGRESS_H
#define WEFT_COMMON_BASE_PROGRESS_H
#include <stdint.h>
#include "common/base/log.h"

typedef struct Progress Progress;
/* total < 0: unknown.  NULL (no memory, or a log that leaves notes out) is accepted by all functions
 * below.  The log must outlive the Progress. */
Progress *progress_start(const Log *log, const char *what, const char *unit, int64_t total);
/* Work goes on after `done` items that an earlier process made: they count for the total, not for the
 * rate. */
void progress_resume(Progress *p, int64_t done);
/* extra: a short text after the rate ("loss 0.123"), or NULL. */
void progress_step(Progress *p, int64_t done, const char *extra);
void progress_end(Progress **p);

/* Seconds on a monotonic clock. */
double time_now_s(void);
/* "2026-11-23T16:46:00Z" for now. */
void time_iso(char out[32]);
/* "62 min": a duration with its unit, in `out`. */
const char *time_duration(double seconds, char out[32]);
#endif
