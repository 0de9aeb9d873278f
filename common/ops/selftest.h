/* Whether a back end is sound, in seconds: a device's instructions against scalar code, then each
 * family of operations against `ref` at small size.  Every program has it as the command
 * `selftest`. */
#ifndef WEFT_COMMON_OPS_SELFTEST_H
#define WEFT_COMMON_OPS_SELFTEST_H
#include <stdio.h>
#include "common/base/args.h"
#include "common/ops/backend.h"

/* One line a check and a verdict on `out`.  *failed is the number of checks that failed. */
WEFT_MUST_CHECK int selftest_run(Backend *be, FILE *out, int *failed, Err *err);
/* The command "selftest": prints the checks on stdout; exit status 0 sound, 1 not. */
typedef struct SelftestOptions {
    const char *device;
} SelftestOptions;
extern const Opt selftest_opts[];
WEFT_MUST_CHECK int selftest_command(void *options, const StrList *positional, Err *err);
#define COMMAND_SELFTEST                                                                            \
    {                                                                                               \
        .name = "selftest", .summary = "check in seconds that a device computes correctly",         \
        .usage = "[--device NAME]", .opts = selftest_opts, .options_size = sizeof(SelftestOptions), \
        .run = selftest_command                                                                     \
    }
#endif
