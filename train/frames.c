#include "train/frames.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "common/model/vae.h"

enum { FRAMES = 5, TALL = 240, GAP = 2 }; /* of a picture: frames side by side, each at most so high */

struct Frames {
    const Job *job;
    Vae *vae;
    Arena *work;
    VaeTiling tiling;
    int64_t n, width, height; /* decoded frames and their size */
    float *z, *pixels;
    uint8_t *rgb;
};

int frames_wanted(const Job *j)
{
    char *folder = j->prompts.n > 0 && j->sampling.decode ? path_join(j->base, "vae", NULL) : NULL;
    int there = folder && file_is_dir(folder);

    mem_free(folder);
    return there;
}

/* The VAE's folder (mem_free) and config. */
static int read_config(const Job *j, char **folder, VaeConfig *c, Err *err)
{
    char *path = NULL;
    json_t *json = NULL;
    int rc = (*folder = path_join(j->base, "vae", err)) && (path = path_join(*folder, "config.json", err))
                 ? json_read_file(&json, path, err)
                 : ERR_NOMEM;

    if (rc == 0)
        rc = vae_config_parse(c, json, path, err);
    if (rc == 0 && c->latent_channels != j->data->C)
        rc = err_set(err, ERR_USAGE, "'%s' has %" PRId64 " latent channels, the cache's latents have %" PRId64, *folder,
                     c->latent_channels, j->data->C);
    json_decref(json);
    mem_free(path);
    return rc;
}

int frames_check(const Job *j, Err *err)
{
    char *folder = NULL;
    VaeConfig c;
    int rc;

    if (!frames_wanted(j))
        return 0;
    rc = read_config(j, &folder, &c, err);
    if (rc == 0)
        rc = vae_check_weights(&c, folder, NULL, err);
    mem_free(folder);
    return rc;
}

static int plan_decode(const Job *j, const VaeConfig *c, int64_t *bytes, Err *err)
{
    VaeTiling tiling = vae_tiling_default(c, j->sampling.tiling);

    return vae_plan_decode(c, j->be->act, &tiling, j->data->F, j->data->h, j->data->w, bytes, err);
}

int frames_plan(const Job *j, int64_t *bytes, Err *err)
{
    char *folder = NULL;
    VaeConfig c;
    int64_t weights = 0, work = 0;
    int rc = 0;

    if (frames_wanted(j) && (rc = read_config(j, &folder, &c, err)) == 0 && (rc = plan_decode(j, &c, &work, err)) == 0)
        rc = vae_plan_weights(j->be, folder, VAE_DECODES, &weights, err);
    *bytes = weights + work;
    mem_free(folder);
    return rc;
}

int frames_open(Frames **out, const Job *j, Err *err)
{
    const Dataset *d = j->data;
    Frames *f = mem_calloc(1, sizeof *f, err);
    char *folder = NULL;
    VaeConfig c;
    int64_t bytes = 0;
    int rc = f ? read_config(j, &folder, &c, err) : ERR_NOMEM;

    if (rc == 0 && (rc = vae_open(&f->vae, j->be, folder, VAE_DECODES, err)) == 0 &&
        (rc = plan_decode(j, &c, &bytes, err)) == 0 &&
        (rc = arena_new(&f->work, j->be, bytes, "VAE decoding", err)) == 0) {
        f->job = j;
        f->tiling = vae_tiling_default(&c, j->sampling.tiling);
        f->n = vae_pixel_frames(&c, d->F);
        f->height = d->h << (c.n_blocks - 1);
        f->width = d->w << (c.n_blocks - 1);
        if (!(f->z = mem_calloc(d->F * d->h * d->w * d->C, sizeof *f->z, err)) ||
            !(f->pixels = mem_calloc(f->n * f->height * f->width * 3, sizeof *f->pixels, err)) ||
            !(f->rgb = mem_calloc(f->n * f->height * f->width, 3, err)))
            rc = ERR_NOMEM;
    }
    mem_free(folder);
    if (rc < 0)
        frames_close(&f);
    *out = f;
    return rc;
}

void frames_close(Frames **f)
{
    if (!*f)
        return;
    vae_close(&(*f)->vae);
    arena_free(&(*f)->work);
    mem_free((*f)->z);
    mem_free((*f)->pixels);
    mem_free((*f)->rgb);
    mem_free(*f);
    *f = NULL;
}

static int write_video(const Frames *f, const char *path, int64_t n, Err *err)
{
    VideoWriter *w = NULL;
    VideoWriterParams p = {.codec = VIDEO_H264,
                           .width = f->width,
                           .height = f->height,
                           .rate = {(int64_t)(f->job->sampling.fps * 1000 + 0.5), 1000}};
    int rc = video_create(&w, path, &p, err);

    for (int64_t k = 0; rc == 0 && k < n; k++)
        rc = video_write(w, f->rgb + k * f->height * f->width * 3, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    return rc;
}

/* The mean of `by` x `by` pixels of a frame. */
static void shrink(const Frames *f, int64_t frame, int64_t by, int64_t x, int64_t y, uint8_t out[3])
{
    int64_t sum[3] = {0};

    for (int64_t i = 0; i < by * by; i++) {
        const uint8_t *p = f->rgb + ((frame * f->height + y * by + i / by) * f->width + x * by + i % by) * 3;
        for (int k = 0; k < 3; k++)
            sum[k] += p[k];
    }
    for (int k = 0; k < 3; k++)
        out[k] = (uint8_t)((sum[k] + by * by / 2) / (by * by));
}

static int write_picture(const Frames *f, const char *path, int64_t n, int64_t *width, int64_t *height, Err *err)
{
    int64_t by = (f->height + TALL - 1) / TALL, w = f->width / by, shown = n < FRAMES ? n : FRAMES;
    uint8_t *all;
    int rc;

    *height = f->height / by;
    *width = shown * w + (shown - 1) * GAP;
    if (!(all = mem_calloc(*width * *height, 3, err)))
        return ERR_NOMEM;
    for (int64_t k = 0; k < shown; k++)
        for (int64_t i = 0; i < w * *height; i++)
            shrink(f, shown > 1 ? k * (n - 1) / (shown - 1) : 0, by, i % w, i / w,
                   all + (i / w * *width + k * (w + GAP) + i % w) * 3);
    rc = picture_write_png(path, all, *width, *height, err);
    mem_free(all);
    return rc;
}

int frames_write(Frames *f, const float *latents, const char *video, const char *picture, int64_t *width,
                 int64_t *height, Err *err)
{
    const Dataset *d = f->job->data;
    float inverse = (float)(1.0 / d->scale);
    int64_t n = f->n % 8 == 1 && f->n > 1 ? f->n - 1 : f->n; /* of 8N+1 frames the last is the model's alone */
    int rc;

    for (int64_t i = 0; i < d->F * d->h * d->w * d->C; i++)
        f->z[i] = latents[i] * inverse;
    rc = vae_decode(f->vae, f->work, &f->tiling, f->pixels, f->z, d->F, d->h, d->w, err);
    if (rc < 0)
        return rc;
    pixels_to_rgb(f->rgb, f->pixels, f->n * f->height * f->width * 3);
    rc = write_video(f, video, n, err);
    return rc < 0 ? rc : write_picture(f, picture, n, width, height, err);
}
