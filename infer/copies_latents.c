/* Latents of training clips and of samples: from the cache, from files that were kept, or by the VAE. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/confine.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/base/worker.h"
#include "common/media/video.h"
#include "common/model/latents.h"
#include "common/model/model_folder.h"
#include "infer/copies_internal.h"

/* ---- what there is ---------------------------------------------------------------------------- */

static int open_latents(Copies *c, Err *err)
{
    int rc = 0;
    if (!(c->kept = mem_calloc(c->o->latents.n, sizeof *c->kept, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < c->o->latents.n && rc == 0; i++)
        rc = safetensors_open(&c->kept[i], c->o->latents.item[i], err);
    return rc;
}

static int open_model(Copies *c, Err *err)
{
    SafeTensors *weights = NULL;
    VaeConfig config;
    json_t *json = NULL;
    char hex[65], *folder = NULL, *path = NULL;
    int rc = model_folder_find(&folder, c->o->model, c->log, err);
    if (rc == 0 &&
        (!(c->vae_folder = path_join(folder, "vae", err)) || !(path = path_join(c->vae_folder, "config.json", err))))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = json_read_file(&json, path, err);
    if (rc == 0)
        rc = vae_config_parse(&config, json, c->vae_folder, err);
    if (rc == 0)
        rc = vae_check_weights(&config, c->vae_folder, c->log, err);
    if (rc == 0)
        rc = safetensors_open_folder(&weights, c->vae_folder, "diffusion_pytorch_model", c->log, err);
    if (rc == 0)
        rc = safetensors_digest(weights, hex, err);
    if (rc == 0 && strcmp(hex, c->vae) != 0)
        rc = err_set(err, ERR_USAGE,
                     "'%s' is another VAE than the one that made the latents of '%s'; give the model that the cache "
                     "was built with",
                     c->vae_folder, c->o->cache);
    if (rc == 0)
        c->tiling = vae_tiling_default(&config, c->tiled);
    safetensors_close(&weights);
    json_decref(json);
    mem_free(path);
    mem_free(folder);
    return rc;
}

int copies_open_sources(Copies *c, const char *device, int64_t jobs, Err *err)
{
    int rc = open_latents(c, err);
    c->threads = (int)threads_choose(jobs);
    if (rc < 0 || !c->o->model)
        return rc;
    rc = open_model(c, err);
    if (rc == 0)
        rc = backend_open(&c->be, device ? device : "cpu", c->threads, c->log, err);
    if (rc == 0) {
        c->be->stop = interrupt_requested;
        c->be->direct_conv = strcmp(recipe_str(c->recipe, "model.vae_convolution"), "direct") == 0;
    }
    return rc;
}

void copies_close_sources(Copies *c)
{
    for (int64_t i = 0; c->kept && i < c->o->latents.n; i++)
        safetensors_close(&c->kept[i]);
    mem_free(c->kept);
    if (c->shared)
        munmap(c->shared, (size_t)(c->size.frames * c->size.height * c->size.width * 3));
    mem_free(c->moments);
    vae_close(&c->vae_net);
    arena_free(&c->work);
    backend_close(&c->be);
    mem_free(c->vae_folder);
}

static const SafeEntry *find_kept(const Copies *c, const VideoItem *v, const char *key)
{
    for (int64_t i = 0; key && i < c->o->latents.n; i++) {
        const char *own = safetensors_meta(c->kept[i], v->id);
        if (own && strcmp(own, key) == 0 && safetensors_find(c->kept[i], v->id))
            return safetensors_find(c->kept[i], v->id);
    }
    return NULL;
}

int copies_find_source(Copies *c, const VideoItem *v, CopySource *s, CopySize *size, int *known, Err *err)
{
    json_t *record = NULL;
    int rc = video_record(v->path, &record, err);
    const json_t *video = json_object_get(record, "video");
    const char *vae = json_string_value(json_object_get(json_object_get(record, "weights"), "vae"));
    s->kept = find_kept(c, v, json_string_value(json_object_get(record, "key")));
    if (rc == 0 && !s->kept && !c->vae_folder)
        rc = err_set(err, ERR_USAGE,
                     "the copy check compares latents, and '%s' has none%s: give --model FOLDER, whose VAE encodes it, "
                     "or --latents FILE of weft-infer sample --latents-out",
                     v->path, c->o->latents.n ? " in --latents" : "");
    if (rc == 0 && s->kept && vae && strcmp(vae, c->vae) != 0)
        rc = err_set(err, ERR_USAGE,
                     "the latents of '%s' are of another VAE than those of '%s': they cannot be compared", v->path,
                     c->o->cache);
    if (rc == 0 && s->kept) {
        const Tensor *t = &s->kept->tensor;
        if (t->rank != 5 || t->dim[0] != 1 || t->dim[2] != c->channels || t->dtype != DT_F32)
            rc = err_set(err, ERR_FORMAT,
                         "the latents of '%s' in --latents are no float32 [1, frames, %" PRId64 ", height/8, width/8]",
                         v->id, c->channels);
        else
            *size = (CopySize){.F = t->dim[1], .h = t->dim[3], .w = t->dim[4]};
        *known = rc == 0;
    } else if (rc == 0 && json_is_integer(json_object_get(video, "frames"))) {
        *size = (CopySize){.frames = json_integer_value(json_object_get(video, "frames")),
                           .height = json_integer_value(json_object_get(video, "height")),
                           .width = json_integer_value(json_object_get(video, "width"))};
        *known = 1;
    }
    json_decref(record);
    return rc;
}

/* ---- training clips --------------------------------------------------------------------------- */

int copies_load_clip(Copies *c, int64_t clip, float *out, Err *err)
{
    const TrainClip *k = &c->clip[clip];
    CacheTxn *t = NULL;
    RecordView r;
    int64_t points = c->size.F * c->size.h * c->size.w, C = c->channels;
    int rc = cache_begin(&t, c->cache, err);
    if (rc == 0 && (rc = cache_get_record(t, CACHE_LATENTS, &k->latents, 1, &r, err)) == 0)
        rc = err_set(err, ERR_FORMAT, "'%s' has lost the latents of clip '%s'; run weft-cache build again", c->o->cache,
                     k->id);
    int64_t row = rc == 1 && r.kind == RECORD_MOMENTS ? 2 * C : C; /* of moments the means */
    if (rc == 1 && (r.tensor.rank != 4 || r.tensor.dim[0] != k->size.F || r.tensor.dim[1] != k->size.h ||
                    r.tensor.dim[2] != k->size.w || r.tensor.dim[3] != row))
        rc = err_set(err, ERR_FORMAT, "'%s': the latents of clip '%s' have another shape than its facts say",
                     c->o->cache, k->id);
    if (rc == 1) {
        int threads = c->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < points; i++)
            for (int64_t j = 0; j < C; j++)
                out[i * C + j] = (float)(tensor_get(&r.tensor, i * row + j) * c->scale);
    }
    cache_end(&t);
    return rc < 0 ? rc : 0;
}

/* ---- samples ---------------------------------------------------------------------------------- */

/* In the process that decodes: all frames into shared memory; a fault of the video goes into the result. */
static int decode_work(void *user, int64_t item, json_t **out, Err *err)
{
    const Copies *c = user;
    uint8_t *rgb = NULL;
    int64_t n = 0, width, height;
    Err fault = {0};
    (void)item;
    int rc = confine_process(&(ConfineRules){(const char *[]){c->decoding, NULL}, NULL}, err);
    if (rc < 0)
        return rc;
    rc = video_read_rgb(c->decoding, 0, c->size.width, c->size.height, &rgb, &n, &width, &height, &fault);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", fault.msg);
    if (rc == 0 && (n < 1 || n > c->size.frames))
        rc = err_set(&fault, ERR_FORMAT, "%" PRId64 " frames", n);
    if (rc == 0)
        memcpy(c->shared, rgb, (size_t)(n * height * width * 3));
    mem_free(rgb);
    *out = json_pack("{s:I, s:s}", "frames", (json_int_t)(rc < 0 ? 0 : n), "why", fault.msg);
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for what a video says");
}

static int decode_done(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err)
{
    const Copies *c = user;
    (void)item;
    (void)code;
    int64_t n = (int64_t)json_integer_value(json_object_get(result, "frames"));
    if (n < 1)
        return err_set(err, ERR_FORMAT, "'%s' changed while it was in use: %s", c->decoding,
                       result ? json_string_value(json_object_get(result, "why")) : text);
    /* a sampled video may have dropped the last frame of the model's: it is shown twice */
    int64_t frame = c->size.height * c->size.width * 3;
    for (int64_t k = n; k < c->size.frames; k++)
        memcpy(c->shared + k * frame, c->shared + (n - 1) * frame, (size_t)frame);
    return 0;
}

static int decode_stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

static int prepare_encoder(Copies *c, Err *err)
{
    const CopySize *s = &c->size;
    int64_t bytes, pixels = s->frames * s->height * s->width * 3;
    if (c->vae_net)
        return 0;
    int rc = vae_open(&c->vae_net, c->be, c->vae_folder, VAE_ENCODES, err);
    if (rc == 0)
        rc = vae_plan_encode(vae_config(c->vae_net), c->be->act, &c->tiling, s->frames, s->height, s->width, &bytes,
                             err);
    if (rc == 0)
        rc = arena_new(&c->work, c->be, bytes, "VAE encoding", err);
    if (rc == 0 && !(c->moments = mem_calloc(2 * copies_values(c), sizeof *c->moments, err)))
        rc = ERR_NOMEM;
    if (rc == 0) {
        void *p = mmap(NULL, (size_t)pixels, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return err_errno(err, errno, "%" PRId64 " bytes for a decoded video", pixels);
        c->shared = p;
    }
    return rc;
}

static int encode(Copies *c, const VideoItem *v, float *out, Err *err)
{
    const CopySize *s = &c->size;
    int64_t C = c->channels, points = s->F * s->h * s->w;
    int rc = prepare_encoder(c, err);
    c->decoding = v->path;
    Workers w = {.jobs = 1,
                 .limits = {.cpu_s = recipe_int(c->recipe, "limits.cpu_seconds"),
                            .wall_s = recipe_int(c->recipe, "limits.wall_seconds"),
                            .memory_bytes = recipe_int(c->recipe, "limits.memory_mb") << 20},
                 .user = c,
                 .work = decode_work,
                 .done = decode_done,
                 .stop = decode_stop};
    if (rc == 0)
        rc = workers_run(&w, 1, err);
    if (rc == 0 && interrupt_requested())
        rc = ERR_INTERRUPTED;
    if (rc == 0)
        rc = vae_encode_rgb(c->vae_net, c->work, &c->tiling, c->moments, c->shared, s->frames, s->height, s->width,
                            err);
    for (int64_t i = 0; i < points && rc == 0; i++)
        for (int64_t j = 0; j < C; j++)
            out[i * C + j] = (float)((double)c->moments[i * 2 * C + j] * c->scale);
    return rc;
}

int copies_load_sample(Copies *c, const VideoItem *v, const CopySource *s, float *out, Err *err)
{
    const CopySize *z = &c->size;
    if (!s->kept)
        return encode(c, v, out, err);
    float *torch = mem_calloc(copies_values(c), sizeof *torch, err);
    if (!torch)
        return ERR_NOMEM;
    memcpy(torch, s->kept->tensor.data, (size_t)copies_values(c) * sizeof *torch); /* it may lie at any address */
    latents_from_torch(out, torch, z->F, c->channels, z->h, z->w);
    mem_free(torch);
    return 0;
}
