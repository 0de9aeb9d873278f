/* Sampling inside compare: BASE and TUNED that are models become sample runs, OUT/base and OUT/tuned. */
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/lora.h"
#include "common/model/model_folder.h"
#include "infer/compare.h"
#include "infer/prompts.h"

/* What a side is. */
typedef enum SideKind { SIDE_VIDEOS, SIDE_MODEL, SIDE_CHECKPOINT, SIDE_LORA } SideKind;

/* Whether FOLDER/NAME is there. */
static int has(const char *folder, const char *name)
{
    char *path = path_join(folder, name, NULL);
    int there = path && file_exists(path);
    mem_free(path);
    return there;
}

static SideKind kind_of_folder(const char *folder)
{
    if (has(folder, "model_index.json") || has(folder, "snapshots"))
        return SIDE_MODEL;
    if (has(folder, LORA_FILE_NAME) || has(folder, "adapter_model.safetensors"))
        return SIDE_LORA;
    if (has(folder, "transformer/config.json") || has(folder, "diffusion_pytorch_model.safetensors") ||
        has(folder, "diffusion_pytorch_model.safetensors.index.json"))
        return SIDE_CHECKPOINT;
    return SIDE_VIDEOS;
}

/* OWNER/NAME of a model that a Hugging Face tool has downloaded is a model.  prompts: there are some, so that a model
 * is expected. */
static int kind_of(const char *given, int prompts, SideKind *out, Err *err)
{
    LoraUse use = {0};
    Err ignored = {0};
    char *folder = NULL;
    const char *slash = strchr(given, '/');
    *out = SIDE_VIDEOS;
    if (file_exists(given)) {
        *out = file_is_dir(given)                     ? kind_of_folder(given)
               : str_ends_with(given, ".safetensors") ? SIDE_LORA
                                                      : SIDE_VIDEOS;
        if (*out == SIDE_VIDEOS && prompts && has(given, "run.json") && has(given, "final"))
            return err_set(err, ERR_USAGE, "'%s' is a training run: give '%s/final' or one of its checkpoints", given,
                           given);
        return 0;
    }
    if (strrchr(given, ':')) { /* FILE:SCALE */
        int rc = lora_use_parse(&use, given, &ignored);
        if (rc == 0 && file_exists(use.path) &&
            (file_is_dir(use.path) ? kind_of_folder(use.path) == SIDE_LORA : str_ends_with(use.path, ".safetensors")))
            *out = SIDE_LORA;
        mem_free(use.path);
    } else if (slash && slash > given && slash[1] && !strchr(slash + 1, '/')) {
        int rc = model_folder_find(&folder, given, NULL, &ignored);
        if (rc == 0)
            *out = SIDE_MODEL;
        mem_free(folder);
        if (rc < 0 && prompts)
            return err_set(err, rc, "%s", ignored.msg);
    }
    return ignored.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : 0;
}

/* What makes OUT/base or OUT/tuned of it. */
static int describe_side(Sides *s, int k, SideKind kind, const char *given, const char *base, const CompareOptions *o,
                         Err *err)
{
    Side *side = &s->side[k];
    side->sampled = kind != SIDE_VIDEOS;
    if (!side->sampled)
        return (side->videos = mem_strdup(given, err)) ? 0 : ERR_NOMEM;
    if (!(side->videos = path_join(o->out, side_names[k], err)))
        return ERR_NOMEM;
    side->how = o->sampling;
    side->how.common = o->common;
    side->how.common.shard = "0/1"; /* all videos, whatever launcher started this process */
    side->how.out = side->videos;
    side->how.offload = "auto";
    side->how.model = kind == SIDE_MODEL ? given : o->copies.model ? o->copies.model : base;
    if (kind == SIDE_CHECKPOINT)
        side->how.checkpoint = given;
    if (kind == SIDE_LORA) {
        side->lora = given;
        side->how.lora = (StrList){&side->lora, 1};
    }
    return 0;
}

/* Latents are kept for the copy check, unless an earlier run has made its videos without. */
static int keep_latents(Side *side, Err *err)
{
    char *path = mem_printf(err, "%s.safetensors", side->videos);
    if (!path)
        return ERR_NOMEM;
    if (has(side->videos, "index.json") && !file_exists(path))
        mem_free(path);
    else
        side->how.latents_out = side->latents = path;
    return 0;
}

static int check_prompts(const CompareOptions *o, const Sides *s, const StrList *arguments, Err *err)
{
    const SampleOptions *p = &o->sampling;
    int asked = p->prompts || p->prompt.n || p->from_cache, models = s->side[0].sampled + s->side[1].sampled;
    if (models && !asked)
        return err_set(
            err, ERR_USAGE,
            "'%s' is a model: say what it is to show, by --prompts FILE, --prompt TEXT or --from-cache CACHE",
            arguments->item[s->side[0].sampled ? 0 : 1]);
    if (!models && asked)
        return err_set(err, ERR_USAGE,
                       "prompts are for models, but '%s' and '%s' are neither model folders nor adapters; leave them "
                       "out to compare videos",
                       arguments->item[0], arguments->item[1]);
    return 0;
}

int sides_open(Sides *s, const CompareOptions *o, const StrList *arguments, Err *err)
{
    const SampleOptions *p = &o->sampling;
    const char *base = NULL;
    SideKind kind[2];
    int rc = 0;
    *s = (Sides){.out = o->out, .copies = o->copies};
    for (int k = 0; k < 2 && rc == 0; k++) {
        rc = kind_of(arguments->item[k], p->prompts || p->prompt.n || p->from_cache, &kind[k], err);
        if (k == 0 && rc == 0 && kind[0] == SIDE_MODEL)
            base = arguments->item[0];
        if (rc == 0)
            rc = describe_side(s, k, kind[k], arguments->item[k], base, o, err);
    }
    if (rc == 0)
        rc = check_prompts(o, s, arguments, err);
    s->copies.model = o->copies.model ? o->copies.model : o->copies.cache ? base : NULL;
    if (rc < 0 || !o->copies.cache)
        return rc;
    int64_t n = o->copies.latents.n;
    if (!(s->latents = mem_calloc(n + 2, sizeof *s->latents, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        s->latents[i] = o->copies.latents.item[i];
    for (int k = 0; k < 2 && rc == 0; k++) {
        if (s->side[k].sampled)
            rc = keep_latents(&s->side[k], err);
        if (s->side[k].latents)
            s->latents[n++] = s->side[k].latents;
    }
    s->copies.latents = (StrList){s->latents, n};
    return rc;
}

void sides_close(Sides *s)
{
    for (int k = 0; k < 2; k++) {
        mem_free(s->side[k].videos);
        mem_free(s->side[k].latents);
        json_decref(s->side[k].made);
    }
    mem_free(s->latents);
}

int sides_sampled(const Sides *s)
{
    return s->side[0].sampled || s->side[1].sampled;
}

int sides_match_prompts(const CompareOptions *o, const VideoList *videos, uint64_t seed, Err *err)
{
    const SampleOptions *s = &o->sampling;
    PromptList prompts = {0};
    VideoList side[2] = {*videos};
    Pair *pair = NULL;
    int64_t n, groups;
    int rc = prompts_read(&prompts, &s->prompt, s->prompts, (int64_t)seed, s->videos_per_prompt, err);
    if (rc == 0 && !(side[1].item = mem_calloc(prompts.n, sizeof *side[1].item, err)))
        rc = ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < prompts.n; i++) {
        Prompt *p = &prompts.item[i];
        side[1].item[i] = (VideoItem){.path = p->id, .id = p->id, .prompt = p->text, .seed = p->seed};
    }
    side[1].n = prompts.n;
    if (rc == 0)
        rc = pairs_match(side, &pair, &n, &groups, err);
    mem_free(pair);
    mem_free(side[1].item);
    prompts_fini(&prompts);
    return rc;
}

int sides_check(const Sides *s, int dry_run, const Log *log, FILE *results, Err *err)
{
    int rc = 0;
    for (int k = 0; k < 2 && rc == 0; k++) {
        SampleReport report = {.text = {0}};
        SampleOptions how = s->side[k].how;
        if (!s->side[k].sampled)
            continue;
        how.common.dry_run = 1;
        if (!file_exists(s->out)) /* it can be made (disk_check_writable), and then holds them */
            how.latents_out = NULL;
        rc = sample_run(&how, dry_run ? log : NULL, &report, err);
        if (rc < 0)
            err_wrap(err, rc, "%s", side_names[k]);
        if (rc == 0 && dry_run && report.text.data)
            fprintf(results, "%s, in '%s': %s", side_names[k], s->side[k].videos, report.text.data);
        str_fini(&report.text);
    }
    return rc;
}

/* The lines of a report are paths. */
static int note_made(Side *side, char *lines, Err *err)
{
    side->made = json_object();
    int rc = side->made ? 0 : ERR_NOMEM;
    for (char *line = lines, *end; rc == 0 && line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        rc = json_object_set_new(side->made, line, json_true()) < 0 ? ERR_NOMEM : 0;
    }
    return rc < 0 ? err_set(err, rc, "no memory for the list of samples") : 0;
}

int sides_videos(const Sides *s, int k, VideoList *out, Err *err)
{
    const Side *side = &s->side[k];
    const char *where = side->videos;
    VideoList all;
    int rc = videos_read(&all, &(StrList){&where, 1}, "videos", err);
    *out = all;
    if (rc < 0 || !side->made)
        return rc;
    out->n = 0;
    for (int64_t i = 0; i < all.n; i++) {
        VideoItem v = all.item[i];
        if (!json_object_get(side->made, v.path))
            continue;
        all.item[i] = all.item[out->n];
        all.item[out->n++] = v;
    }
    for (int64_t i = out->n; i < all.n; i++)
        video_item_fini(&all.item[i]);
    return out->n ? 0 : err_set(err, ERR_FORMAT, "'%s' lost its samples while they were in use", where);
}

int sides_sample(Sides *s, const Log *log, Err *err)
{
    int rc = dir_make(s->out, err);
    for (int k = 0; k < 2 && rc == 0; k++) {
        SampleReport report = {.text = {0}};
        if (!s->side[k].sampled)
            continue;
        rc = sample_run(&s->side[k].how, log, &report, err);
        if (rc == 0)
            rc = note_made(&s->side[k], report.text.data, err);
        if (rc == 0)
            log_info(log, "%s: %" PRId64 " sampled, %" PRId64 " reused, in %s", side_names[k], report.made,
                     report.reused, s->side[k].videos);
        else if (rc != ERR_INTERRUPTED)
            err_wrap(err, rc, "%s", side_names[k]);
        str_fini(&report.text);
    }
    return rc;
}
