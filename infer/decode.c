#include "infer/decode.h"

#include <string.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/recipe.h"
#include "common/base/threads.h"
#include "common/media/video.h"
#include "common/model/latents.h"
#include "common/model/model_folder.h"
#include "common/model/vae.h"
#include "common/store/cache.h"
#include "common/store/safetensors.h"

#define DECODE(field, kind, flag, value_name, text, ...) \
    OPTION(DecodeOptions, field, kind, flag, value_name, text, __VA_ARGS__)
const Opt decode_opts[] = {
    OPTS_RECIPE,
    OPT_DEVICE,
    OPT_JOBS,
    OPTS_LOG,
    OPT_DRY_RUN,
    DECODE(model, OPT_STR, "model", "FOLDER",
           "pipeline folder whose VAE decodes; default: the recipe's model.base_model", .short_name = 'm'),
    OPTION_KEY("num-frames", "N", "sampling.num_frames", "frames of a video: all that its latents give, or one less"),
    OPTION_KEY("fps", "N", "sampling.fps", "frames a second of the file; changes no frame"),
    OPTION_KEY("vae-tiling", NULL, "sampling.vae_tiling",
               "decode in overlapping tiles: less memory, slightly other pixels at the seams"),
    DECODE(out, OPT_STR, "out", "DIR", "where the videos go", .short_name = 'o', .required = 1),
    DECODE(overwrite, OPT_FLAG, "overwrite", NULL, "replace videos of the same name that were made otherwise"),
    {0},
};

/* One tensor to decode. */
typedef struct Item {
    const char *file;
    char *tensor, *name, *path; /* of the tensor; NAME; OUT/NAME.mp4 */
    int64_t F, h, w, frames;    /* frames: to be written */
    int done;
} Item;

typedef struct Decoding {
    const DecodeOptions *o;
    const Log *log;
    Recipe *recipe;
    Backend *be;
    char *folder; /* of the VAE */
    VaeConfig config;
    VaeTiling tiling;
    char weights[65];
    Item *item;
    int64_t n, made;
    Vae *vae;
    Arena *work;
    int64_t work_bytes;
    Str *text;
} Decoding;

/* ---- what there is --------------------------------------------------------------------------- */

static int check_latents(const Decoding *d, const Item *item, const Tensor *t, Err *err)
{
    char found[160];
    int fits = t->rank == 5 && t->dim[0] == 1 && t->dim[1] > 0 && t->dim[2] == d->config.latent_channels &&
               t->dim[3] > 0 && t->dim[4] > 0 && t->dim[3] <= 1024 && t->dim[4] <= 1024 && t->dim[1] <= 257 &&
               (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16);
    if (fits)
        return 0;
    return err_set(err, ERR_FORMAT,
                   "'%s': tensor '%s' is %s; expected latents [1, frames, %" PRId64 ", height/8, width/8]", item->file,
                   item->tensor, tensor_describe(t, found, sizeof found), d->config.latent_channels);
}

/* As many frames as asked for, if the latents give as many or one more. */
static int choose_frames(const Decoding *d, Item *item, Err *err)
{
    int64_t all = vae_pixel_frames(&d->config, item->F), want = recipe_int(d->recipe, "sampling.num_frames");
    int fits = want == all || want == all - 1;
    item->frames = fits ? want : all;
    if (fits || !recipe_given(d->recipe, "sampling.num_frames"))
        return 0;
    return err_set(err, ERR_USAGE,
                   "'%s': the latents '%s' give %" PRId64 " frames, not the %" PRId64 " of sampling.num_frames",
                   item->file, item->tensor, all, want);
}

/* "latents" of FOLDER/NAME.safetensors or NAME.partial.safetensors: NAME. */
static char *name_of(const Item *item, Err *err)
{
    static const char *const endings[] = {".safetensors", ".partial"};
    if (strcmp(item->tensor, "latents") != 0)
        return mem_strdup(item->tensor, err);
    char *name = mem_strdup(path_base(item->file), err);
    for (int i = 0; name && i < 2; i++)
        if (str_ends_with(name, endings[i]) && strlen(name) > strlen(endings[i]))
            name[strlen(name) - strlen(endings[i])] = 0;
    return name;
}

static int fill_item(const Decoding *d, Item *item, const SafeTensors *file, const SafeEntry *e, Err *err)
{
    const char *step = safetensors_meta(file, "step");
    int rc = check_latents(d, item, &e->tensor, err);
    if (rc < 0)
        return rc;
    item->F = e->tensor.dim[1];
    item->h = e->tensor.dim[3];
    item->w = e->tensor.dim[4];
    if (!(item->name = name_of(item, err)))
        return ERR_NOMEM;
    rc = path_check_relative(item->name, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s'", item->file);
    if (!(item->path = mem_printf(err, "%s/%s.mp4", d->o->out, item->name)))
        return ERR_NOMEM;
    if (step)
        log_warn(d->log, "'%s' is a sample that was stopped after step %s: before its last step it shows noise",
                 item->file, step);
    rc = vae_tiling_check(&d->config, &d->tiling, item->h * 8, item->w * 8, err);
    return rc == 0 ? choose_frames(d, item, err) : rc;
}

/* The latents of one file; previous_x0, which a stopped sample needs to go on, is left alone. */
static int add_file(Decoding *d, const char *path, Err *err)
{
    SafeTensors *file = NULL;
    int64_t before = d->n;
    int rc = safetensors_open(&file, path, err);
    for (int64_t i = 0; rc == 0 && i < safetensors_count(file); i++) {
        const SafeEntry *e = safetensors_at(file, i);
        if (strcmp(e->name, "previous_x0") == 0)
            continue;
        Item *more = mem_realloc(d->item, d->n + 1, sizeof *more, err);
        if (!more) {
            rc = ERR_NOMEM;
            break;
        }
        d->item = more;
        Item *item = &d->item[d->n++];
        *item = (Item){.file = path, .tensor = mem_strdup(e->name, err)};
        rc = item->tensor ? fill_item(d, item, file, e, err) : ERR_NOMEM;
    }
    if (rc == 0 && d->n == before)
        rc = err_set(err, ERR_FORMAT, "'%s' holds no latents", path);
    safetensors_close(&file);
    return rc;
}

static int check_names(const Decoding *d, Err *err)
{
    json_t *seen = json_object();
    int rc = seen ? 0 : err_set(err, ERR_NOMEM, "no memory for the names of %" PRId64 " videos", d->n);
    for (int64_t i = 0; rc == 0 && i < d->n; i++) {
        const char *before = json_string_value(json_object_get(seen, d->item[i].name));
        if (before)
            rc = err_set(err, ERR_USAGE, "'%s' and '%s' both have latents '%s'; decode them into two folders", before,
                         d->item[i].file, d->item[i].name);
        else if (json_object_set_new(seen, d->item[i].name, json_string(d->item[i].file)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the names of %" PRId64 " videos", d->n);
    }
    json_decref(seen);
    return rc;
}

static int open_all(Decoding *d, const StrList *files, Err *err)
{
    char *model = NULL, *config = NULL;
    SafeTensors *weights = NULL;
    json_t *json = NULL;
    int rc = recipe_open(&d->recipe, &d->o->common, err);
    const char *base = rc == 0 ? model_folder_base(d->recipe, d->o->model, 0) : NULL;
    if (rc == 0 && !base)
        rc = err_set(err, ERR_USAGE, "no model: give --model FOLDER or set model.base_model in the recipe");
    if (rc == 0)
        rc = model_folder_find(&model, base, d->log, err);
    if (rc == 0 &&
        (!(d->folder = path_join(model, "vae", err)) || !(config = path_join(d->folder, "config.json", err))))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = json_read_file(&json, config, err);
    if (rc == 0)
        rc = vae_config_parse(&d->config, json, d->folder, err);
    if (rc == 0)
        rc = vae_check_weights(&d->config, d->folder, d->log, err);
    if (rc == 0)
        rc = safetensors_open_folder(&weights, d->folder, "diffusion_pytorch_model", d->log, err);
    if (rc == 0)
        rc = safetensors_digest(weights, d->weights, err);
    if (rc == 0)
        rc = disk_check_writable(d->o->out, "--out", err);
    if (rc == 0)
        d->tiling = vae_tiling_default(&d->config, recipe_bool(d->recipe, "sampling.vae_tiling"));
    for (int64_t i = 0; rc == 0 && i < files->n; i++)
        rc = add_file(d, files->item[i], err);
    safetensors_close(&weights);
    json_decref(json);
    mem_free(model);
    mem_free(config);
    return rc == 0 ? check_names(d, err) : rc;
}

/* ---- one video ------------------------------------------------------------------------------- */

/* z [F,h,w,C] <- the item's tensor, as the transformer has it; *facts: what shapes the video, as JSON text. */
static int read_latents(const Decoding *d, const Item *item, float **z, char **facts, Err *err)
{
    int64_t n = item->F * d->config.latent_channels * item->h * item->w;
    SafeTensors *file = NULL;
    char hex[65];
    float *torch = mem_calloc(n, sizeof *torch, err);
    json_t *json = NULL;
    *z = mem_calloc(n, sizeof **z, err);
    int rc = torch && *z ? safetensors_open(&file, item->file, err) : ERR_NOMEM;
    const SafeEntry *e = rc == 0 ? safetensors_find(file, item->tensor) : NULL;
    if (rc == 0 && (!e || tensor_count(&e->tensor) != n))
        rc = err_set(err, ERR_FORMAT, "'%s' changed while it was in use", item->file);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        torch[i] = (float)tensor_get(&e->tensor, i);
    if (rc == 0) {
        latents_from_torch(*z, torch, item->F, d->config.latent_channels, item->h, item->w);
        rc = sha256_hex(torch, n * (int64_t)sizeof *torch, hex, err);
    }
    if (rc == 0) {
        json = json_pack("{s:s, s:s, s:b, s:s, s:s, s:i, s:i, s:f}", "latents_sha256", hex, "vae", d->weights,
                         "vae_tiling", d->tiling.enabled, "vae_convolution",
                         recipe_str(d->recipe, "model.vae_convolution"), "backend", d->be->name, "numerics",
                         CACHE_LATENTS_REVISION, "frames", (int)item->frames, "fps",
                         recipe_num(d->recipe, "sampling.fps"));
        *facts = json ? json_text(json, 0, err) : NULL;
        rc = *facts ? 0 : err_set(err, ERR_NOMEM, "no memory for the facts of '%s'", item->path);
    }
    json_decref(json);
    safetensors_close(&file);
    mem_free(torch);
    return rc;
}

/* Sets item->done for a video of these facts; refuses another one. */
static int look_for_video(const Decoding *d, Item *item, const char *facts, Err *err)
{
    Err ignored = {0};
    char *there = file_exists(item->path) ? video_metadata(item->path, "comment", &ignored) : NULL;
    item->done = there && strcmp(there, facts) == 0;
    mem_free(there);
    if (item->done || !file_exists(item->path) || d->o->overwrite)
        return 0;
    return err_set(err, ERR_USAGE, "'%s' is there and was made otherwise; choose another --out or give --overwrite",
                   item->path);
}

static int write_video(const Decoding *d, const Item *item, const uint8_t *rgb, const char *facts, Err *err)
{
    const char *metadata[] = {"title", item->name, "comment", facts, NULL};
    VideoWriterParams p = {.codec = VIDEO_H264,
                           .width = item->w * 8,
                           .height = item->h * 8,
                           .rate = {(int64_t)(recipe_num(d->recipe, "sampling.fps") * 1000 + 0.5), 1000},
                           .metadata = metadata};
    VideoWriter *w = NULL;
    char *folder = path_dir(item->path, err);
    int rc = folder ? dir_make(folder, err) : ERR_NOMEM;
    if (rc == 0) /* what a killed run left beside this video */
        rc = dir_sweep_temporaries(folder, err);
    if (rc == 0)
        rc = video_create(&w, item->path, &p, err);
    for (int64_t k = 0; rc == 0 && k < item->frames; k++)
        rc = video_write(w, rgb + k * p.height * p.width * 3, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(folder);
    return rc;
}

static int plan(const Decoding *d, const Item *item, int64_t *bytes, Err *err)
{
    return vae_plan_decode(&d->config, d->be->act, &d->tiling, item->F, item->h, item->w, bytes, err);
}

static int decode_latents(Decoding *d, const Item *item, float *z, const char *facts, Err *err)
{
    int64_t values = vae_pixel_frames(&d->config, item->F) * item->h * item->w * 64 * 3, bytes;
    float *pixels = mem_calloc(values, sizeof *pixels, err), inverse = (float)(1.0 / d->config.scaling_factor);
    uint8_t *rgb = mem_calloc(values, 1, err);
    int rc = pixels && rgb ? plan(d, item, &bytes, err) : ERR_NOMEM;
    if (rc == 0 && (!d->work || bytes > d->work_bytes)) {
        arena_free(&d->work);
        rc = arena_new(&d->work, d->be, bytes, "VAE decoding", err);
        d->work_bytes = bytes;
    }
    if (rc == 0 && !d->vae)
        rc = vae_open(&d->vae, d->be, d->folder, VAE_DECODES, err);
    for (int64_t i = 0; rc == 0 && i < item->F * item->h * item->w * d->config.latent_channels; i++)
        z[i] *= inverse;
    if (rc == 0)
        rc = vae_decode(d->vae, d->work, &d->tiling, pixels, z, item->F, item->h, item->w, err);
    if (rc == 0) {
        pixels_to_rgb(rgb, pixels, item->frames * item->h * item->w * 64 * 3);
        rc = write_video(d, item, rgb, facts, err);
    }
    mem_free(rgb);
    mem_free(pixels);
    return rc;
}

static int make_video(Decoding *d, Item *item, Err *err)
{
    float *z = NULL;
    char *facts = NULL;
    int rc = interrupt_requested() ? ERR_INTERRUPTED : read_latents(d, item, &z, &facts, err);
    if (rc == 0)
        rc = look_for_video(d, item, facts, err);
    if (rc == 0 && !item->done)
        rc = decode_latents(d, item, z, facts, err);
    if (rc < 0 && rc != ERR_INTERRUPTED)
        err_wrap(err, rc, "'%s' of '%s'", item->name, item->file);
    if (rc == ERR_INTERRUPTED) {
        err_clear(err);
        rc = err_set(err, rc, "stopped: %" PRId64 " videos were decoded; the same command goes on from there", d->made);
    }
    d->made += rc == 0 && !item->done;
    mem_free(z);
    mem_free(facts);
    return rc;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int describe(Decoding *d, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < d->n; i++) {
        const Item *item = &d->item[i];
        int64_t bytes;
        rc = plan(d, item, &bytes, err);
        if (rc == 0)
            rc = str_printf(d->text, err,
                            "would decode '%s' into %s: %" PRId64 " frames %" PRId64 "x%" PRId64
                            ", working memory %.1f MiB\n",
                            item->tensor, item->path, item->frames, item->w * 8, item->h * 8, (double)bytes / 1048576);
    }
    return rc;
}

static int make_all(Decoding *d, Err *err)
{
    DirLock lock = {0};
    int rc = dir_make(d->o->out, err);
    if (rc == 0)
        rc = dir_lock(&lock, d->o->out, err);
    if (rc == 0)
        rc = dir_sweep_temporaries(d->o->out, err);
    Progress *progress = progress_start(d->log, "decode", "videos", d->n);
    for (int64_t i = 0; rc == 0 && i < d->n; i++) {
        rc = make_video(d, &d->item[i], err);
        if (rc == 0)
            rc = str_printf(d->text, err, "%s\n", d->item[i].path);
        progress_step(progress, i + 1, d->item[i].name);
    }
    progress_end(&progress);
    dir_unlock(&lock);
    return rc;
}

int decode_run(const DecodeOptions *o, const StrList *files, const Log *log, Str *text, Err *err)
{
    Decoding d = {.o = o, .log = log, .text = text};
    int rc = open_all(&d, files, err);
    if (rc == 0)
        rc = backend_open(&d.be, o->common.device, threads_choose(o->common.jobs), log, err);
    if (rc == 0) {
        d.be->stop = interrupt_requested;
        d.be->direct_conv = strcmp(recipe_str(d.recipe, "model.vae_convolution"), "direct") == 0;
        rc = o->common.dry_run ? describe(&d, err) : make_all(&d, err);
    }
    if (rc == 0 && !o->common.dry_run)
        log_info(log, "%" PRId64 " decoded, %" PRId64 " reused, in %s", d.made, d.n - d.made, o->out);
    for (int64_t i = 0; i < d.n; i++) {
        mem_free(d.item[i].tensor);
        mem_free(d.item[i].name);
        mem_free(d.item[i].path);
    }
    mem_free(d.item);
    arena_free(&d.work);
    vae_close(&d.vae);
    backend_close(&d.be);
    mem_free(d.folder);
    recipe_close(&d.recipe);
    return rc;
}
