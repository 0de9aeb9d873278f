/* How many threads to use: --jobs, else OMP_NUM_THREADS, else the cores this process may run on. */
#ifndef WEFT_COMMON_BASE_THREADS_H
#define WEFT_COMMON_BASE_THREADS_H
#include <stdint.h>
int64_t threads_available(void);
int64_t threads_choose(int64_t jobs);
/* Ask to stop politely: SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under nohup) set a
 * flag that long loops look at between items. */
void interrupt_install(void);
int interrupt_requested(void);
#endif
