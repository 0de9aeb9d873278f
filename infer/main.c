#include <stdio.h>

#include "common/base/threads.h"
#include "common/ops/selftest.h"
#include "infer/sample.h"

static int sample(void *options, const StrList *positional, Err *err)
{
    SampleOptions *o = options;
    StderrLog log;
    SampleReport report;
    (void)positional;
    log_to_stderr(&log, "weft-infer", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = sample_run(o, &log.log, &report, err);
    if (rc == 0 && report.text.data)
        fputs(report.text.data, stdout);
    if (rc == 0 && !o->common.dry_run)
        log_info(&log.log, "%" PRId64 " sampled, %" PRId64 " reused, in %s", report.made, report.reused, o->out);
    str_fini(&report.text);
    return rc;
}

int main(int argc, char **argv)
{
    static const Command commands[] = {
        {"sample", "make videos from prompts", "[options] --out DIR (--prompt TEXT | --prompts FILE)", sample_opts,
         sizeof(SampleOptions), 0, 0, sample},
        {0},
    };
    int status = selftest_main("weft-infer", argc, argv);
    return status >= 0 ? status
                       : program_main("weft-infer",
                                      "Samples videos from a CogVideoX pipeline folder and a fine-tuned checkpoint.",
                                      commands, argc, argv);
}
