/* Read errors of mapped files.  Weights and caches are mapped, and a mapping cannot return an error:
 * where the disk fails, or the file was cut short after it was opened, the kernel sends SIGBUS to the
 * thread that touches the page. */
#ifndef WEFT_COMMON_BASE_MAPPED_H
#define WEFT_COMMON_BASE_MAPPED_H
#include "common/base/log.h"

/* From here on such a fault prints one sentence that names the file, as an error of log->program (as
 * JSON if log->log.json), and ends the process with status 1; what was done is on disk as after
 * kill -9.  Any other SIGBUS, and one in a forked child, ends the process as before. */
void mapped_install(const StderrLog *log);

/* The sentence for a fault at `address`, cut to `size` bytes: 1, or 0 when no file is mapped there
 * for reading only (out is then empty).  Callable from a signal handler. */
int mapped_describe(const void *address, char *out, int64_t size);
#endif
