/* The command: options, opening, --dry-run, and the report. */
#include "infer/sample.h"

#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/shard.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/model/model_folder.h"
#include "infer/sample_index.h"
#include "infer/sample_internal.h"

#define SAMPLE(field, kind, flag, value_name, text, ...) \
    OPTION(SampleOptions, field, kind, flag, value_name, text, __VA_ARGS__)
const Opt sample_opts[] = {
    OPTS_COMMON,
    SAMPLE(model, OPT_STR, "model", "FOLDER",
           "pipeline folder in diffusers layout; default: the recipe's model.base_model", .short_name = 'm'),
    SAMPLE(checkpoint, OPT_STR, "checkpoint", "FOLDER",
           "take the transformer from this folder: a checkpoint of weft-train, its final/, or a transformer folder"),
    SAMPLE(lora, OPT_LIST, "lora", "FILE[:SCALE]",
           "use this LoRA adapter (a file, or a folder such as RUN/final), SCALE times as strong; may be repeated"),
    OPTS_PROMPTS(SampleOptions, ),
    OPTS_SAMPLING,
    SAMPLE(out, OPT_STR, "out", "DIR", "where the videos go", .short_name = 'o', .required = 1),
    SAMPLE(latents_out, OPT_STR, "latents-out", "FILE",
           "keep the latents too: safetensors, one [1,F,C,h,w] tensor an id"),
    SAMPLE(save_frames, OPT_FLAG, "save-frames", NULL, "write every frame as DIR/ID/NNNN.png as well"),
    SAMPLE(gif, OPT_FLAG, "gif", NULL, "write DIR/ID.gif as well, in 256 colours"),
    SAMPLE(webp, OPT_FLAG, "webp", NULL, "write DIR/ID.webp, animated, as well"),
    SAMPLE(
        preview_every, OPT_INT, "preview-every", "N",
        "each N steps, DIR/ID.preview.png shows the frame in the middle as it is now; it goes when the video is there",
        .min = 1, .max = 1000),
    SAMPLE(
        offload, OPT_ENUM, "offload", NULL,
        "auto: the text encoder goes when its texts are encoded, and transformer and VAE take turns where memory asks "
        "for it; never: all parts stay; always: one part at a time, read anew for each video (changes no pixel)",
        .choices = "auto|never|always", .dflt = "auto"),
    SAMPLE(guidance_share, OPT_NUM, "guidance-share", "X",
           "faster, not exact: only the first X (0 to 1) of the steps are guided; the first video is made exactly as "
           "well, and the PSNR between the two printed",
           .min = 0.01, .max = 1),
    SAMPLE(
        reuse_every, OPT_INT, "reuse-every", "N",
        "faster, not exact: the middle half of the transformer's blocks runs in one of N steps, the others add what it "
        "added then; PSNR as with --guidance-share",
        .min = 2, .max = 100),
    SAMPLE(overwrite, OPT_FLAG, "overwrite", NULL,
           "replace samples of the same id that were made with another prompt, seed, model or settings"),
    {0},
};

static int describe_plan(Run *r, Str *out, Err *err)
{
    int64_t ours = 0, finished = 0;
    int rc = 0;
    for (int64_t i = r->shard; i < r->prompts.n; i += r->shards) {
        ours++;
        finished += r->job && r->job[i].done;
    }
    if (rc == 0)
        rc = str_printf(out, err,
                        "would sample %" PRId64 " video%s of %" PRId64 " frame%s %" PRId64 "x%" PRId64 " (%" PRId64
                        " latent frame%s of %" PRId64 "x%" PRId64 "), "
                        "%" PRId64 " step%s; %" PRId64 " of %" PRId64 " finished already\n",
                        ours - finished, str_plural(ours - finished), r->s.num_frames, str_plural(r->s.num_frames),
                        r->s.width, r->s.height, r->s.latent_frames, str_plural(r->s.latent_frames),
                        r->sizes.latent_width, r->sizes.latent_height, r->s.steps, str_plural(r->s.steps), finished,
                        ours);
    if (rc == 0)
        rc = sample_describe(r, out, err);
    for (int64_t i = r->shard; rc == 0 && i < r->prompts.n; i += r->shards)
        rc = str_printf(out, err, "  %s  seed %" PRId64 "  %s\n", r->prompts.item[i].id, r->prompts.item[i].seed,
                        r->prompts.item[i].text);
    return rc;
}

static int set_loras(Run *r, Err *err)
{
    int64_t n = r->o->lora.n;
    LoraUse *use = mem_calloc(n, sizeof *use, err);
    int rc = use ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < n && rc == 0; i++)
        rc = lora_use_parse(&use[i], r->o->lora.item[i], err);
    if (rc == 0)
        rc = pipeline_set_loras(r->pipe, use, n, err);
    for (int64_t i = 0; use && i < n; i++)
        mem_free(use[i].path);
    mem_free(use);
    return rc;
}

static Offload offload_of(const char *name)
{
    return strcmp(name, "never") == 0 ? OFFLOAD_NEVER : strcmp(name, "always") == 0 ? OFFLOAD_ALWAYS : OFFLOAD_AUTO;
}

static int read_prompts(Run *r, Err *err)
{
    const SampleOptions *o = r->o;
    int64_t seed = recipe_int(r->recipe, "seed");
    if (!o->from_cache && (o->split || o->limit))
        return err_set(err, ERR_USAGE, "--%s chooses clips of a cache: give --from-cache too",
                       o->split ? "split" : "limit");
    if (!o->from_cache)
        return prompts_read(&r->prompts, &o->prompt, o->prompts, seed, o->videos_per_prompt, err);
    if (o->prompts || o->prompt.n)
        return err_set(err, ERR_USAGE, "--from-cache takes its prompts from the cache: leave --%s out",
                       o->prompts ? "prompts" : "prompt");
    int rc = cached_open(&r->cached, o->from_cache, err);
    r->s.no_text = 1;
    return rc == 0 ? cached_prompts(r->cached, o->split, o->limit, seed, o->videos_per_prompt, &r->prompts, err) : rc;
}

/* With the largest guidance of all prompts, which memory is planned for. */
static int open_pipeline(Run *r, const char *model, Err *err)
{
    SampleSettings s = r->s;
    s.reuse_every = r->o->reuse_every;
    s.guidance_share = r->o->guidance_share;
    s.offload = r->offload = offload_of(r->o->offload);
    for (int64_t i = 0; i < r->prompts.n; i++) {
        double g = prompt_guidance(r, &r->prompts.item[i]);
        s.guidance = i == 0 || g > s.guidance ? g : s.guidance;
    }
    return pipeline_open(&r->pipe, r->be, model, r->o->checkpoint, &s, r->log, err);
}

static int open_run(Run *r, Err *err)
{
    const SampleOptions *o = r->o;
    int rc = recipe_open(&r->recipe, &o->common, err);
    if (rc == 0)
        recipe_log(r->recipe, o->common.print_recipe, r->log);
    if (rc == 0)
        rc = sample_settings(&r->s, r->recipe, err);
    if (rc == 0)
        rc = shard_choose(o->common.shard, r->log, &r->shard, &r->shards, err);
    if (rc == 0 && r->shards > 1 && o->latents_out)
        rc = err_set(err, ERR_USAGE, "--latents-out names one file, but this is shard %" PRId64 "/%" PRId64, r->shard,
                     r->shards);
    if (rc == 0)
        rc = read_prompts(r, err);
    if (rc < 0)
        return rc;
    const char *model = model_folder_base(r->recipe, o->model, 0);
    if (!model)
        return err_set(err, ERR_USAGE, "no model: give --model FOLDER or set model.base_model in the recipe");
    rc = backend_open(&r->be, o->common.device, threads_choose(o->common.jobs), r->log, err);
    if (rc == 0) {
        r->be->stop = interrupt_requested;
        r->be->direct_conv = strcmp(recipe_str(r->recipe, "model.vae_convolution"), "direct") == 0;
        rc = open_pipeline(r, model, err);
    }
    if (rc == 0)
        rc = set_loras(r, err);
    if (rc == 0)
        r->sizes = pipeline_sizes(r->pipe);
    return rc == 0 ? sample_check(r, err) : rc;
}

static void close_run(Run *r)
{
    jobs_close(r);
    prompts_fini(&r->prompts);
    cached_close(&r->cached);
    pipeline_close(&r->pipe);
    backend_close(&r->be);
    recipe_close(&r->recipe);
}

/* Reads the weights (for the keys) only if an earlier run left files to compare with. */
static int dry_run(Run *r, Str *out, Err *err)
{
    int rc = jobs_any_files(r) ? jobs_open(r, err) : 0;
    if (rc == 0 && !r->job)
        r->todo = (r->prompts.n - r->shard + r->shards - 1) / r->shards;
    if (rc == 0)
        rc = sample_check_space(r, err);
    return rc == 0 ? describe_plan(r, out, err) : rc;
}

static int log_plan(const Run *r, Err *err)
{
    Str text = {0};
    int rc = sample_describe(r, &text, err);
    if (rc == 0)
        log_text(r->log, LOG_INFO, text.data);
    str_fini(&text);
    return rc;
}

static int make_all(Run *r, Err *err)
{
    int rc = jobs_open(r, err);
    if (rc == 0)
        rc = sample_check_space(r, err);
    if (rc == 0 && r->todo > 0)
        rc = log_plan(r, err);
    if (rc == 0 && r->todo > 0)
        rc = samples_make(r, err);
    if (rc == 0 && r->o->latents_out)
        rc = latents_write(r, err);
    return rc;
}

/* Whether every sample of the run is there, those of other shards too. */
static int all_there(const Run *r)
{
    int there = 1;
    for (int64_t i = 0; there && i < r->prompts.n; i++) {
        char *path = sample_path(r, r->prompts.item[i].id, ".json", NULL);
        there = path && file_exists(path);
        mem_free(path);
    }
    return there;
}

/* The list and the page, after make_all returned `made`.  Of shards one at a time looks at the folder and
 * writes, so that the last to end lists all; that one alone makes the contact sheet.  A run that was told to stop
 * decodes no videos for a sheet, and reports nothing but that it stopped. */
static int list_samples(const Run *r, int made, DirLock *lock, Err *err)
{
    Err second = {0}, *report = made == 0 ? err : &second;
    int64_t n;
    int rc = lock->fd > 0 ? 0 : dir_lock_wait(lock, r->o->out, report);
    if (rc == 0)
        rc = sample_index_write(r->o->out, made < 0 || !all_there(r), r->log, &n, report);
    if (made == 0 && rc == 0)
        log_info(r->log, "'%s/index.html' shows %" PRId64 " video%s", r->o->out, n, str_plural(n));
    return rc;
}

/* Shards write into one folder at the same time, so only a run without shards locks it while it works and
 * removes temporary files. */
static int sample_into(Run *r, Err *err)
{
    DirLock lock = {-1};
    int alone = r->shards == 1, rc = dir_make(r->o->out, err);
    if (rc == 0 && alone)
        rc = dir_lock(&lock, r->o->out, err);
    if (rc < 0)
        return rc;
    rc = sample_make_folders(r, alone, err);
    if (rc == 0)
        rc = make_all(r, err);
    if (rc == 0 || rc == ERR_INTERRUPTED) {
        int listed = list_samples(r, rc, &lock, err);
        rc = rc == 0 ? listed : rc;
    }
    dir_unlock(&lock);
    return rc;
}

int sample_run(const SampleOptions *o, const Log *log, SampleReport *report, Err *err)
{
    Run r = {.o = o, .log = log};
    memset(report, 0, sizeof *report);
    int rc = open_run(&r, err);
    if (rc == 0 && o->common.dry_run) {
        rc = dry_run(&r, &report->text, err);
    } else if (rc == 0) {
        rc = sample_into(&r, err);
        for (int64_t i = r.shard; rc == 0 && i < r.prompts.n; i += r.shards) {
            rc = str_printf(&report->text, err, "%s/%s.mp4\n", o->out, r.prompts.item[i].id);
            report->reused += r.job[i].done;
        }
        report->made = r.made;
    }
    close_run(&r);
    return rc;
}
