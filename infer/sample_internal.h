/* One run of `weft-infer sample`, shared by sample.c (the command), sample_check.c (what is checked
 * before the first second of work), sample_jobs.c (which samples exist already), sample_make.c
 * (making them), sample_files.c (their files) and sample_latents.c (the file of --latents-out, and
 * samples that were stopped in the middle). */
#ifndef WEFT_INFER_SAMPLE_INTERNAL_H
#define WEFT_INFER_SAMPLE_INTERNAL_H
#include "common/base/hash.h"
#include "common/base/progress.h"
#include "common/store/safetensors.h"
#include "infer/pipeline.h"
#include "infer/prompts.h"
#include "infer/sample.h"

typedef struct Job {
    const Prompt *prompt;
    const char *negative; /* borrowed */
    json_t *record;       /* all of ID.json but "video" */
    int elsewhere;        /* another shard makes it */
    int done;             /* ID.json and the files it names are there and whole */
    int latents_kept;     /* the latents file of an earlier run holds its latents */
} Job;

typedef struct Run {
    const SampleOptions *o;
    const Log *log;
    Recipe *recipe;
    Backend *be;
    Pipeline *pipe;
    SampleSettings s;
    PipelineSizes sizes;
    PromptList prompts;
    Job *job;              /* prompts.n of them */
    int64_t shard, shards; /* this process makes the prompts i with i % shards == shard */
    int64_t todo;          /* samples to make */
    int64_t made;          /* of them */
    Progress *progress;
    int64_t steps_before; /* steps of the samples made so far: what the progress line counts from */
} Run;

/* ---- sample_check.c ---- */
/* Refuses at once what would stop the run later: the model's parts, the folders it writes to. */
int sample_check(Run *r, Err *err);
/* That the disk has room for the samples still to be made; call it after jobs_open. */
int sample_check_space(const Run *r, Err *err);

/* ---- sample_jobs.c ---- */
/* Whether any of this run's samples has a record or a part in the output folder. */
int jobs_any_files(const Run *r);
/* What each sample is (its key) and which are finished.  Reads every weight file once.  An existing
 * sample of the same id that was made differently is refused, unless --overwrite was given. */
int jobs_open(Run *r, Err *err);
void jobs_close(Run *r);
const char *job_key(const Job *job);

/* ---- sample_files.c: OUT/ID.mp4, OUT/ID/NNNN.png, OUT/ID.json ---- */
char *sample_path(const Run *r, const char *id, const char *ending, Err *err); /* mem_free */
int sample_write(Run *r, Job *job, const uint8_t *rgb, Err *err);
/* Whether the files that a record names are there and still what was written. */
int sample_files_whole(const Run *r, const Job *job, const json_t *record);

/* ---- sample_make.c ---- */
int samples_make(Run *r, Err *err);

/* ---- sample_latents.c ---- */
/* OUT/ID.partial.safetensors: the state after some step, or (step == steps) the finished latents
 * until they stand in the latents file. */
int partial_write(const Run *r, const Job *job, const Denoising *d, Err *err);
/* Refuses a partial file of another key, as an ID.json of another key is refused. */
int partial_check(const Run *r, const Job *job, Err *err);
/* 1 with the state in *d; 0 when there is none of this key, or a damaged one (a warning says so). */
int partial_read(const Run *r, const Job *job, Denoising *d, Err *err);
/* Whether a partial file of this job holds finished latents. */
int partial_finished(const Run *r, const Job *job);
int partial_exists(const Run *r, const char *id);
int partial_remove(const Run *r, const char *id, Err *err);
/* Sets latents_kept of all jobs.  A latents file that holds others, which would be lost, is refused
 * unless --overwrite was given. */
int latents_find_kept(Run *r, Err *err);
/* All samples' latents in diffusers' order under their ids, then removes the partial files.  What an
 * earlier latents file holds of reused samples is copied. */
int latents_write(const Run *r, Err *err);
#endif
