/* Whether a back end is sound, in seconds: a device's instructions against scalar code, then each
 * family of operations against `ref` at small size.  Every program takes `--selftest [--device
 * NAME]` in place of a command. */
#ifndef WEFT_COMMON_OPS_SELFTEST_H
#define WEFT_COMMON_OPS_SELFTEST_H
#include <stdio.h>
#include "common/ops/backend.h"

/* One line a check and a verdict on `out`.  *failed is the number of checks that failed. */
int selftest_run(Backend *be, FILE *out, int *failed, Err *err);
/* For main(): -1 when the arguments do not ask for it, else the exit status: 0 sound, 1 not, 2
 * wrong usage. */
int selftest_main(const char *program, int argc, char **argv);
#endif
