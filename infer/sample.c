#include "infer/sample.h"

#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/shard.h"
#include "common/base/progress.h"
#include "common/base/schema.h"
#include "common/base/threads.h"
#include "common/media/video.h"
#include "common/model/latents.h"
#include "common/store/cache.h"
#include "common/store/safetensors.h"
#include "infer/pipeline.h"
#include "infer/prompts.h"

enum { MAX_PICTURE_BYTES = 1 << 28 };

#define FIELD(f) offsetof(SampleOptions, f)
const Opt sample_opts[] = {
    OPTS_COMMON,
    {"model", 'm', OPT_STR, FIELD(model), 0, 0, NULL, NULL, "FOLDER",
     "pipeline folder in diffusers layout; default: the recipe's model.base_model", 0},
    {"checkpoint", 0, OPT_STR, FIELD(checkpoint), 0, 0, NULL, NULL, "FOLDER",
     "take the transformer from this weft-train checkpoint or final/", 0},
    {"prompt", 'p', OPT_LIST, FIELD(prompt), 0, 0, NULL, NULL, "TEXT", "what to show; may be repeated", 0},
    {"prompts", 0, OPT_STR, FIELD(prompts), 0, 0, NULL, NULL, "FILE",
     "one prompt a line, or .jsonl objects with prompt, id, seed", 0},
    {"out", 'o', OPT_STR, FIELD(out), 0, 0, NULL, NULL, "DIR", "where the videos go", 1},
    {"latents-out", 0, OPT_STR, FIELD(latents_out), 0, 0, NULL, NULL, "FILE",
     "keep the latents too: safetensors, one [1,F,C,h,w] tensor an id", 0},
    {"save-frames", 0, OPT_FLAG, FIELD(save_frames), 0, 0, NULL, NULL, NULL,
     "write every frame as DIR/ID/NNNN.png as well", 0},
    {"overwrite", 0, OPT_FLAG, FIELD(overwrite), 0, 0, NULL, NULL, NULL,
     "replace samples of the same id that were made differently", 0},
    {0},
};

typedef struct Job {
    const Prompt *prompt;
    const char *negative; /* borrowed */
    json_t *record;       /* all of ID.json but "video" */
    int done, elsewhere;  /* whole already; another shard's */
    float *embeds;        /* [text_len, text_dim] */
    float *latents;       /* [F,h,w,C], kept when latents are wanted */
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
    int64_t shard, shards; /* prompts i with i % shards == shard are ours */
    int64_t todo;
    Progress *progress;
    int64_t steps_done;
} Run;

/* ---- what each sample is, and which are there already ---------------------------------------- */

static json_t *sampling_facts(const Run *r)
{
    json_t *s = json_deep_copy(recipe_get(r->recipe, "sampling"));
    if (s && json_object_set_new(s, "model_frames", json_integer(r->s.model_frames)) == 0)
        return s;
    json_decref(s);
    return NULL;
}

static int make_record(Run *r, Job *job, json_t *weights, Err *err)
{
    json_t *sampling = sampling_facts(r);
    json_t *o = sampling ? json_pack("{s:s, s:s, s:s, s:I, s:O, s:s, s:o}", "id", job->prompt->id, "prompt",
                                     job->prompt->text, "negative_prompt", job->negative, "seed",
                                     (json_int_t)job->prompt->seed, "weights", weights, "backend", r->be->name,
                                     "sampling", sampling)
                         : NULL;
    if (!o)
        return err_set(err, ERR_NOMEM, "no memory for the record of sample '%s'", job->prompt->id);
    job->record = o;
    json_t *parts = json_deep_copy(o);
    Digest key;
    char hex[65];
    if (!parts || json_object_del(parts, "id") < 0 ||
        json_object_set_new(parts, "numerics", json_integer(CACHE_NUMERICS_REVISION)) < 0) {
        json_decref(parts);
        return err_set(err, ERR_NOMEM, "no memory for the record of sample '%s'", job->prompt->id);
    }
    int rc = cache_key(&key, parts, err);
    json_decref(parts);
    if (rc < 0)
        return rc;
    digest_hex(&key, hex);
    if (json_object_set_new(o, "key", json_string(hex)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a sample's key");
    return 0;
}

static char *out_path(const Run *r, const char *id, const char *ending, Err *err)
{
    return mem_printf(err, "%s/%s%s", r->o->out, id, ending);
}

static const char *key_of(const Job *job)
{
    return json_string_value(json_object_get(job->record, "key"));
}

/* Whether the latents file holds this sample's latents. */
static int latents_there(const SafeTensors *kept, const Job *job)
{
    const char *key = kept && safetensors_find(kept, job->prompt->id) ? safetensors_meta(kept, job->prompt->id) : NULL;
    return key && strcmp(key, key_of(job)) == 0;
}

static char *picture_path(const Run *r, const char *id, int64_t k, Err *err)
{
    return mem_printf(err, "%s/%s/%04lld.png", r->o->out, id, (long long)k);
}

/* SHA-256 over all of a sample's pictures, in order. */
static int pictures_digest(const Run *r, const char *id, char hex[65], Err *err)
{
    Sha256 sha = {0};
    Digest d;
    int rc = sha256_init(&sha, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++) {
        char *path = picture_path(r, id, k, err), *bytes = NULL;
        int64_t size = 0;
        rc = path ? file_read(path, MAX_PICTURE_BYTES, &bytes, &size, err) : ERR_NOMEM;
        if (rc == 0)
            sha256_update(&sha, bytes, size);
        mem_free(bytes);
        mem_free(path);
    }
    if (rc == 0) {
        sha256_final(&sha, &d);
        digest_hex(&d, hex);
    } else {
        sha256_fini(&sha);
    }
    return rc;
}

static int video_digest(const char *path, char hex[65], Err *err)
{
    Digest d;
    int rc = sha256_file(path, &d, err);
    if (rc == 0)
        digest_hex(&d, hex);
    return rc;
}

/* Whether the files a record speaks of are there and still what was written. */
static int files_whole(const Run *r, const Job *job, const json_t *old, const char *video)
{
    const json_t *facts = json_object_get(old, "video");
    const char *want = json_string_value(json_object_get(facts, "sha256"));
    const char *pictures = json_string_value(json_object_get(facts, "pictures_sha256"));
    char hex[65];
    if (!want || video_digest(video, hex, NULL) < 0 || strcmp(hex, want) != 0)
        return 0;
    if (!r->o->save_frames)
        return 1;
    return pictures && pictures_digest(r, job->prompt->id, hex, NULL) == 0 && strcmp(hex, pictures) == 0;
}

static int find_done(Run *r, Job *job, const SafeTensors *kept, Err *err)
{
    char *record = out_path(r, job->prompt->id, ".json", err), *video = out_path(r, job->prompt->id, ".mp4", err);
    json_t *old = NULL;
    int rc = record && video ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(record) && !r->o->overwrite) {
        rc = json_read_file(&old, record, err);
        if (rc == 0)
            rc = schema_check("sample", old, record, err);
        const char *key = rc == 0 ? json_string_value(json_object_get(old, "key")) : NULL;
        if (rc == 0 && strcmp(key, key_of(job)) != 0)
            rc = err_set(
                err, ERR_USAGE,
                "'%s' was made with another prompt, seed, model or settings; choose another --out or give --overwrite",
                record);
        if (rc == 0 && !files_whole(r, job, old, video))
            log_warn(r->log, "sample '%s': its files are missing or changed; it is made again", job->prompt->id);
        else
            job->done = rc == 0 && (!r->o->latents_out || latents_there(kept, job));
    }
    json_decref(old);
    mem_free(record);
    mem_free(video);
    return rc;
}

static int make_jobs(Run *r, Err *err)
{
    json_t *weights = NULL;
    SafeTensors *kept = NULL;
    const char *negative = recipe_str(r->recipe, "sampling.negative_prompt");
    r->job = mem_calloc(r->prompts.n, sizeof *r->job, err);
    if (!r->job)
        return ERR_NOMEM;
    int rc = pipeline_weights(r->pipe, &weights, err);
    if (rc == 0 && r->o->latents_out && file_exists(r->o->latents_out))
        rc = safetensors_open(&kept, r->o->latents_out, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        Job *job = &r->job[i];
        job->prompt = &r->prompts.item[i];
        job->negative = job->prompt->negative ? job->prompt->negative : negative ? negative : "";
        if ((job->elsewhere = i % r->shards != r->shard))
            continue;
        rc = make_record(r, job, weights, err);
        if (rc == 0)
            rc = find_done(r, job, kept, err);
        if (rc == 0 && !job->done)
            r->todo++;
    }
    safetensors_close(&kept);
    json_decref(weights);
    return rc;
}

/* ---- making them ----------------------------------------------------------------------------- */

static int encode_prompt(Run *r, const char *text, float *embeds, Err *err)
{
    int64_t cut = 0;
    int rc = pipeline_encode_text(r->pipe, text, embeds, &cut, err);
    if (rc == 0 && cut > 0)
        log_warn(r->log, "prompt '%.60s...': %lld tokens do not fit in %lld and are not seen", text, (long long)cut,
                 (long long)r->sizes.text_len);
    return rc;
}

static int encode_prompts(Run *r, Err *err)
{
    int64_t n = r->sizes.text_len * r->sizes.text_dim;
    for (int64_t i = 0; i < r->prompts.n; i++) {
        Job *job = &r->job[i];
        if (job->done || job->elsewhere)
            continue;
        job->embeds = mem_calloc(n, sizeof(float), err);
        if (!job->embeds)
            return ERR_NOMEM;
        int rc = encode_prompt(r, job->prompt->text, job->embeds, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The negative prompt's vectors: computed again only when the text changes. */
static int encode_negatives(Run *r, float **out, Err *err)
{
    int64_t n = r->sizes.text_len * r->sizes.text_dim;
    for (int64_t i = 0; i < r->prompts.n; i++) {
        if (r->job[i].done || r->job[i].elsewhere)
            continue;
        for (int64_t j = 0; j < i && !out[i]; j++)
            if (out[j] && strcmp(r->job[j].negative, r->job[i].negative) == 0)
                out[i] = out[j];
        if (out[i])
            continue;
        if (!(out[i] = mem_calloc(n, sizeof(float), err)))
            return ERR_NOMEM;
        int rc = encode_prompt(r, r->job[i].negative, out[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void free_negatives(float **negative, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++)
            if (negative[j] == negative[i])
                negative[j] = NULL; /* shared */
        mem_free(negative[i]);
    }
    mem_free(negative);
}

static int write_video(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    char *path = out_path(r, job->prompt->id, ".mp4", err), *facts = json_text(job->record, 0, err), seed[32];
    VideoWriter *w = NULL;
    int rc = path && facts ? 0 : ERR_NOMEM;
    snprintf(seed, sizeof seed, "%lld", (long long)job->prompt->seed);
    const char *metadata[] = {"title", job->prompt->text, "prompt", job->prompt->text, "seed", seed, "comment", facts,
                              NULL};
    VideoWriterParams p = {.codec = VIDEO_H264,
                           .width = r->s.width,
                           .height = r->s.height,
                           .metadata = metadata,
                           .rate = {(int64_t)(r->s.fps * 1000 + 0.5), 1000}};
    if (rc == 0)
        rc = video_create(&w, path, &p, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++)
        rc = video_write(w, rgb + k * r->s.height * r->s.width * 3, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(path);
    mem_free(facts);
    return rc;
}

static int write_frames(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    char *dir = out_path(r, job->prompt->id, "", err);
    int rc = dir ? dir_make(dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dir_sweep_temporaries(dir, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++) {
        char *path = picture_path(r, job->prompt->id, k, err);
        rc = path ? picture_write_png(path, rgb + k * r->s.height * r->s.width * 3, r->s.width, r->s.height, err)
                  : ERR_NOMEM;
        mem_free(path);
    }
    mem_free(dir);
    return rc;
}

/* ID.json: the mark that the sample is whole. */
static int write_record(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    Digest d;
    char rgb_hex[65], file_hex[65], pictures_hex[65];
    char *file = mem_printf(err, "%s.mp4", job->prompt->id), *path = out_path(r, job->prompt->id, ".json", err),
         *video_path = out_path(r, job->prompt->id, ".mp4", err);
    json_t *video = NULL;
    int rc = file && path && video_path ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = sha256_bytes(rgb, r->s.num_frames * r->s.height * r->s.width * 3, &d, err);
    if (rc == 0)
        rc = video_digest(video_path, file_hex, err);
    if (rc == 0 && r->o->save_frames)
        rc = pictures_digest(r, job->prompt->id, pictures_hex, err);
    if (rc == 0) {
        digest_hex(&d, rgb_hex);
        video = json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:s}", "file", file, "sha256", file_hex, "frames",
                          (json_int_t)r->s.num_frames, "width", (json_int_t)r->s.width, "height",
                          (json_int_t)r->s.height, "fps", r->s.fps, "rgb_sha256", rgb_hex);
        if (!video ||
            (r->o->save_frames && json_object_set_new(video, "pictures_sha256", json_string(pictures_hex)) < 0) ||
            json_object_set(job->record, "video", video) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for '%s.json'", job->prompt->id);
    }
    if (rc == 0)
        rc = schema_check("sample", job->record, path, err);
    if (rc == 0)
        rc = json_write_file(job->record, path, err);
    json_decref(video);
    mem_free(file);
    mem_free(path);
    mem_free(video_path);
    return rc;
}

static void on_step(void *user, int64_t step)
{
    Run *r = user;
    (void)step;
    progress_step(r->progress, ++r->steps_done, NULL);
}

static int make_sample(Run *r, Job *job, const float *negative, Err *err)
{
    int64_t n = r->s.latent_frames * r->sizes.latent_height * r->sizes.latent_width * r->sizes.latent_channels;
    uint8_t *rgb = mem_calloc(r->s.num_frames * r->s.height * r->s.width, 3, err);
    job->latents = mem_calloc(n, sizeof(float), err);
    int rc = rgb && job->latents ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = pipeline_denoise(r->pipe, job->embeds, negative, (uint64_t)job->prompt->seed, job->latents, on_step, r,
                              err);
    if (rc == 0)
        rc = pipeline_decode(r->pipe, job->latents, rgb, NULL, err);
    if (rc == 0)
        rc = write_video(r, job, rgb, err);
    if (rc == 0 && r->o->save_frames)
        rc = write_frames(r, job, rgb, err);
    if (rc == 0)
        rc = write_record(r, job, rgb, err);
    mem_free(rgb);
    if (!r->o->latents_out) {
        mem_free(job->latents);
        job->latents = NULL;
    }
    return rc < 0 ? err_wrap(err, rc, "sample '%s'", job->prompt->id) : 0;
}

static int make_samples(Run *r, Err *err)
{
    float **negative = mem_calloc(r->prompts.n, sizeof *negative, err);
    if (!negative)
        return ERR_NOMEM;
    int rc = encode_prompts(r, err);
    if (rc == 0 && r->s.guidance > 1.0)
        rc = encode_negatives(r, negative, err);
    pipeline_drop_text_encoder(r->pipe);
    r->progress = progress_start("sample", "steps", r->todo * r->s.steps, r->o->common.quiet);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        if (r->job[i].done || r->job[i].elsewhere)
            continue;
        if (interrupt_requested())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted; finished samples are kept, run again to go on");
        else
            rc = make_sample(r, &r->job[i], negative[i], err);
    }
    progress_end(&r->progress);
    free_negatives(negative, r->prompts.n);
    return rc;
}

/* ---- latents --------------------------------------------------------------------------------- */

/* All samples' latents in diffusers' order under their ids; what an older file holds of reused
 * samples is carried over. */
static int write_latents(Run *r, Err *err)
{
    int64_t F = r->s.latent_frames, h = r->sizes.latent_height, w = r->sizes.latent_width, C = r->sizes.latent_channels,
            n = F * h * w * C;
    SafeTensors *kept = NULL;
    SafeSource *source = mem_calloc(r->prompts.n, sizeof *source, err);
    float *torch = mem_calloc(r->prompts.n * n, sizeof *torch, err);
    json_t *keys = json_object();
    int rc = source && torch && keys ? 0 : err_set(err, ERR_NOMEM, "no memory for the latents file");
    if (rc == 0 && file_exists(r->o->latents_out))
        rc = safetensors_open(&kept, r->o->latents_out, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        Job *job = &r->job[i];
        source[i].name = job->prompt->id;
        if (job->latents) {
            latents_to_torch(torch + i * n, job->latents, F, C, h, w);
            source[i].tensor = tensor_of(torch + i * n, DT_F32, 5, 1, F, C, h, w);
        } else {
            source[i].tensor = safetensors_find(kept, job->prompt->id)->tensor; /* find_done saw it */
        }
        if (json_object_set_new(keys, job->prompt->id, json_string(key_of(job))) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the latents file");
    }
    if (rc == 0)
        rc = safetensors_write(r->o->latents_out, source, r->prompts.n, keys, err);
    safetensors_close(&kept);
    json_decref(keys);
    mem_free(torch);
    mem_free(source);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int describe_plan(Run *r, Str *out, Err *err)
{
    PipelineMemory m;
    int rc = pipeline_plan(r->pipe, &m, err);
    if (rc == 0)
        rc = str_printf(
            out, err,
            "would sample %lld videos of %lld frames %lldx%lld (%lld latent frames of %lldx%lld), %lld steps\n"
            "working memory, weights apart: text encoder %.1f MiB, transformer %.1f MiB, VAE decoder %.1f MiB\n",
            (long long)r->prompts.n, (long long)r->s.num_frames, (long long)r->s.width, (long long)r->s.height,
            (long long)r->s.latent_frames, (long long)r->sizes.latent_width, (long long)r->sizes.latent_height,
            (long long)r->s.steps, (double)m.text_bytes / 1048576, (double)m.denoise_bytes / 1048576,
            (double)m.decode_bytes / 1048576);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++)
        rc = str_printf(out, err, "  %s  seed %lld  %s\n", r->prompts.item[i].id, (long long)r->prompts.item[i].seed,
                        r->prompts.item[i].text);
    return rc;
}

static int open_run(Run *r, Err *err)
{
    const SampleOptions *o = r->o;
    int rc = recipe_open(&r->recipe, &o->common, err);
    if (rc == 0)
        rc = sample_settings(&r->s, r->recipe, err);
    if (rc == 0)
        rc = shard_choose(o->common.shard, r->log, &r->shard, &r->shards, err);
    if (rc == 0 && r->shards > 1 && o->latents_out)
        rc = err_set(err, ERR_USAGE, "--latents-out names one file, but this is shard %lld of %lld",
                     (long long)r->shard, (long long)r->shards);
    if (rc == 0)
        rc = prompts_read(&r->prompts, &o->prompt, o->prompts, recipe_int(r->recipe, "seed"), err);
    if (rc < 0)
        return rc;
    const char *model = o->model ? o->model : recipe_str(r->recipe, "model.base_model");
    if (!model)
        return err_set(err, ERR_USAGE, "no model: give --model FOLDER or set model.base_model in the recipe");
    rc = backend_open(&r->be, o->common.device, threads_choose(o->common.jobs), r->log, err);
    if (rc == 0)
        rc = pipeline_open(&r->pipe, r->be, model, o->checkpoint, &r->s, r->log, err);
    if (rc == 0)
        r->sizes = pipeline_sizes(r->pipe);
    return rc;
}

static void close_run(Run *r)
{
    for (int64_t i = 0; r->job && i < r->prompts.n; i++) {
        json_decref(r->job[i].record);
        mem_free(r->job[i].embeds);
        mem_free(r->job[i].latents);
    }
    mem_free(r->job);
    prompts_fini(&r->prompts);
    pipeline_close(&r->pipe);
    backend_close(&r->be);
    recipe_close(&r->recipe);
}

/* With the output directory to itself. */
static int sample_into(Run *r, Err *err)
{
    DirLock lock = {-1};
    int rc = dir_make(r->o->out, err), alone = r->shards == 1; /* shards write different ids into one folder */
    if (rc == 0 && alone)
        rc = dir_lock(&lock, r->o->out, err);
    if (rc < 0)
        return rc;
    if (alone)
        rc = dir_sweep_temporaries(r->o->out, err);
    if (rc == 0)
        rc = make_jobs(r, err);
    if (rc == 0 && r->todo > 0)
        rc = make_samples(r, err);
    if (rc == 0 && r->o->latents_out && r->todo > 0)
        rc = write_latents(r, err);
    if (alone)
        dir_unlock(&lock);
    return rc;
}

int sample_run(const SampleOptions *o, const Log *log, SampleReport *report, Err *err)
{
    Run r = {.o = o, .log = log};
    memset(report, 0, sizeof *report);
    int rc = open_run(&r, err);
    if (rc == 0 && o->common.dry_run) {
        rc = describe_plan(&r, &report->text, err);
    } else if (rc == 0) {
        rc = sample_into(&r, err);
        for (int64_t i = 0; rc == 0 && i < r.prompts.n; i++) {
            if (r.job[i].elsewhere)
                continue;
            rc = str_printf(&report->text, err, "%s/%s.mp4\n", o->out, r.prompts.item[i].id);
            report->reused += r.job[i].done;
        }
        report->made = r.todo;
    }
    close_run(&r);
    return rc;
}
