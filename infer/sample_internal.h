/* One run of `weft-infer sample`, shared by sample.c (the command), sample_check.c (what is checked
 * before the first second of work), sample_jobs.c (which samples exist already), sample_make.c
 * (making them), sample_files.c (their files) and sample_latents.c (the file of --latents-out, and
 * samples that were stopped in the middle). */
#ifndef WEFT_INFER_SAMPLE_INTERNAL_H
#define WEFT_INFER_SAMPLE_INTERNAL_H
#include "common/base/hash.h"
#include "common/base/progress.h"
#include "common/store/safetensors.h"
#include "infer/cached.h"
#include "infer/pipeline.h"
#include "infer/prompts.h"
#include "infer/sample.h"

#define PREVIEW ".preview.png" /* of --preview-every: while the sample is being made */

typedef struct Job {
    const Prompt *prompt;
    const char *negative; /* borrowed */
    int64_t steps;
    double guidance;
    json_t *record;   /* all of ID.json but "video" */
    int elsewhere;    /* another shard makes it */
    int done;         /* ID.json and the files it names are there and whole */
    int latents_kept; /* the latents file of an earlier run holds its latents */
} Job;

typedef struct Run {
    const SampleOptions *o;
    const Log *log;
    Recipe *recipe;
    Backend *be;
    Pipeline *pipe;
    Cached *cached; /* with --from-cache: the embeddings; else NULL */
    SampleSettings s;
    PipelineSizes sizes;
    Offload offload;
    PromptList prompts;
    Job *job;              /* prompts.n of them */
    int64_t shard, shards; /* this process makes the prompts i with i % shards == shard */
    int64_t todo;          /* samples to make */
    int64_t made;          /* of these, how many are finished */
    Progress *progress;
    int64_t steps_todo;   /* of all samples to make */
    double denoised_s;    /* of the last sample */
    int compared;         /* a lossy sample was compared with the exact one */
    int64_t steps_kept;   /* made by earlier runs that were stopped */
    int64_t steps_before; /* of the samples before the current one, for the progress line */
} Run;

/* Whether --guidance-share or --reuse-every was given. */
int is_lossy(const Run *r);
/* Steps and guidance of a prompt, its own or the recipe's. */
int64_t prompt_steps(const Run *r, const Prompt *p);
double prompt_guidance(const Run *r, const Prompt *p);

/* ---- sample_check.c ---- */
/* Checks the folders that the run writes to and the parts of the model. */
WEFT_MUST_CHECK int sample_check(Run *r, Err *err);
/* Checks that the disk has room for the samples to be made; call it after jobs_open. */
WEFT_MUST_CHECK int sample_check_space(const Run *r, Err *err);

/* ---- sample_plan.c ---- */
/* Memory and time that the run will take, a line each; measures the device for a tenth of a second. */
WEFT_MUST_CHECK int sample_describe(const Run *r, Str *out, Err *err);

/* ---- sample_jobs.c ---- */
/* Whether the output folder holds a record or a partial file of any of this run's samples. */
int jobs_any_files(const Run *r);
/* Computes each sample's key, for which every weight file is read once, and finds out which samples
 * are finished.  Refuses a sample of the same id and another key, unless --overwrite was given. */
WEFT_MUST_CHECK int jobs_open(Run *r, Err *err);
void jobs_close(Run *r);
const char *job_key(const Job *job);

/* ---- sample_files.c: OUT/ID.mp4, OUT/ID/NNNN.png, OUT/ID.json, where ID is [CATEGORY/]NAME ---- */
/* Makes the categories' folders, and with `sweep` removes what killed runs left in OUT and in them. */
WEFT_MUST_CHECK int sample_make_folders(const Run *r, int sweep, Err *err);
char *sample_path(const Run *r, const char *id, const char *ending, Err *err); /* mem_free */
/* Whether this FFmpeg writes the formats that are asked for. */
WEFT_MUST_CHECK int sample_check_formats(const Run *r, Err *err);
WEFT_MUST_CHECK int sample_write(Run *r, Job *job, const uint8_t *rgb, Err *err);
/* Whether the files that a record names exist and have the digests that it states. */
int sample_files_whole(const Run *r, const Job *job, const json_t *record);

/* ---- sample_make.c ---- */
WEFT_MUST_CHECK int samples_make(Run *r, Err *err);

/* ---- sample_latents.c ---- */
/* OUT/ID.partial.safetensors holds the state after some step; at the last step, the finished
 * latents until latents_write has put them into the file of --latents-out. */
WEFT_MUST_CHECK int partial_write(const Run *r, const Job *job, const Denoising *d, Err *err);
/* Refuses a partial file of another key, as an ID.json of another key is refused. */
WEFT_MUST_CHECK int partial_check(const Run *r, const Job *job, Err *err);
/* 1 with the state in *d; 0 when there is none of this key, or it is damaged (with a warning). */
WEFT_MUST_CHECK int partial_read(const Run *r, const Job *job, Denoising *d, Err *err);
/* Whether a partial file of this job holds finished latents. */
int partial_finished(const Run *r, const Job *job);
int partial_exists(const Run *r, const char *id);
WEFT_MUST_CHECK int partial_remove(const Run *r, const char *id, Err *err);
/* Sets latents_kept of all jobs.  A latents file that holds others, which would be lost, is refused
 * unless --overwrite was given. */
WEFT_MUST_CHECK int latents_find_kept(Run *r, Err *err);
/* All samples' latents in diffusers' order under their ids, then removes the partial files.  What
 * an earlier latents file holds of reused samples is copied. */
WEFT_MUST_CHECK int latents_write(const Run *r, Err *err);
#endif
