#include <stdio.h>

#include "common/base/program.h"
#include "common/base/threads.h"
#include "common/ops/selftest.h"
#include "infer/compare.h"
#include "infer/decode.h"
#include "infer/evaluate.h"
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

static int decode(void *options, const StrList *positional, Err *err)
{
    DecodeOptions *o = options;
    StderrLog log;
    Str text = {0};
    o->common.seed = -1; /* it has no --seed */
    log_to_stderr(&log, "weft-infer", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = decode_run(o, positional, &log.log, &text, err);
    if (rc == 0 && text.data)
        fputs(text.data, stdout);
    str_fini(&text);
    return rc;
}

static int evaluate(void *options, const StrList *positional, Err *err)
{
    EvaluateOptions *o = options;
    StderrLog log;
    log_to_stderr(&log, "weft-infer", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = evaluate_run(o, positional, &log.log, stdout, err);
    if (rc >= 0)
        log_info(&log.log, "wrote metrics.json, metrics.csv and evaluate.html in %s", o->out);
    return rc;
}

static int compare(void *options, const StrList *positional, Err *err)
{
    CompareOptions *o = options;
    StderrLog log;
    log_to_stderr(&log, "weft-infer", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = compare_run(o, positional, &log.log, stdout, err);
    if (rc >= 0 && !o->common.dry_run)
        log_info(&log.log, "wrote %s in %s", o->votes.n ? "votes.json" : "quality_comparison.json and report.html",
                 o->out);
    return rc;
}

static const char *const examples[] = {
    "weft-infer sample --model run/final --prompt \"A woman in a red dress turns to the right.\" --out samples",
    "Make one video.",
    "weft-infer sample --model run/final --prompts prompts.txt --out samples",
    "Make a video a line; given again, finished ones are kept.",
    "weft-infer decode latents.safetensors --model run/final --out videos",
    "Make videos of latents that were kept.",
    "weft-infer evaluate samples --references prepared/clips --out measured",
    "Measure a folder of samples beside real clips.",
    "weft-infer compare CogVideoX-2b run/final --prompts prompts.jsonl --out compared",
    "Sample two models with the same prompts and seeds, measure both, and show their videos side by side.",
    "weft-infer compare samples/base samples/tuned --out compared",
    "The same of two runs of weft-infer sample.",
    NULL};
static const char *const files[] = {"DIR/[CATEGORY/]NAME.mp4",
                                    "a video",
                                    "DIR/[CATEGORY/]NAME.json",
                                    "how it was made; written last, it marks the video as whole",
                                    "DIR/index.html, DIR/contact.png",
                                    "all videos in DIR, and a few frames of each",
                                    "DIR/index.json",
                                    "the same for programs",
                                    "DIR/metrics.json, metrics.csv, evaluate.html",
                                    "what evaluate measured: all figures, a line a video, a page",
                                    "DIR/quality_comparison.json, pairs.csv, report.html",
                                    "what compare found: before and after, a line a pair, a page",
                                    "DIR/base, DIR/tuned",
                                    "the samples of models that compare was given",
                                    "DIR/closest_clips.csv",
                                    "with --train-cache: each sample's closest training clip",
                                    NULL};

int main(int argc, char **argv)
{
    static const Command commands[] = {
        {.name = "sample",
         .summary = "make videos from prompts",
         .usage = "[options] --out DIR (--prompt TEXT | --prompts FILE)",
         .opts = sample_opts,
         .options_size = sizeof(SampleOptions),
         .run = sample},
        {.name = "decode",
         .summary = "make videos of latents that were kept",
         .usage = "[options] --out DIR FILE...",
         .opts = decode_opts,
         .options_size = sizeof(DecodeOptions),
         .min_positional = 1,
         .max_positional = -1,
         .run = decode},
        {.name = "evaluate",
         .summary = "measure videos: SSIM, motion, smoothness, flicker, sharpness, colours",
         .usage = "[options] VIDEOS... --out DIR",
         .opts = evaluate_opts,
         .options_size = sizeof(EvaluateOptions),
         .min_positional = 1,
         .max_positional = -1,
         .run = evaluate},
        {.name = "compare",
         .summary = "set two models, or two sample runs, of the same prompts side by side; or count votes on them",
         .usage = "[options] BASE TUNED --out DIR | --votes FILE --key FILE --out DIR",
         .opts = compare_opts,
         .options_size = sizeof(CompareOptions),
         .max_positional = 2,
         .run = compare},
        COMMAND_KEYS,
        COMMAND_SELFTEST,
        {0},
    };
    static const Program program = {
        .name = "weft-infer",
        .about = "Samples videos from a CogVideoX pipeline folder and a fine-tuned checkpoint, and measures videos.",
        .commands = commands,
        .examples = examples,
        .files = files};
    return program_main(&program, argc, argv);
}
