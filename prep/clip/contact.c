/* The contact sheet's picture of a clip: first, middle and last frame side by side, small. */
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"

enum { TILE_WIDTH_MAX = 192, TILE_HEIGHT_MAX = 128, TILES = 3 };

struct Contact {
    int64_t width, height; /* of a tile */
    uint8_t *tile, *strip; /* [height,width,3], [height,3*width,3] */
};

int contact_open(Contact **out, int64_t width, int64_t height, Err *err)
{
    *out = NULL;
    Contact *t = mem_calloc(1, sizeof *t, err);
    if (!t)
        return ERR_NOMEM;
    double scale = 1;
    if (height > TILE_HEIGHT_MAX)
        scale = (double)TILE_HEIGHT_MAX / (double)height;
    if ((double)width * scale > TILE_WIDTH_MAX)
        scale = (double)TILE_WIDTH_MAX / (double)width;
    t->width = (int64_t)((double)width * scale + 0.5);
    t->height = (int64_t)((double)height * scale + 0.5);
    t->width = t->width < 1 ? 1 : t->width;
    t->height = t->height < 1 ? 1 : t->height;
    t->tile = mem_calloc(t->width * t->height, 3, err);
    t->strip = mem_calloc(t->width * t->height, 3 * TILES, err);
    if (!t->tile || !t->strip) {
        contact_close(&t);
        return ERR_NOMEM;
    }
    *out = t;
    return 0;
}

void contact_close(Contact **contact)
{
    Contact *t = *contact;
    if (!t)
        return;
    mem_free(t->tile);
    mem_free(t->strip);
    mem_free(t);
    *contact = NULL;
}

static void place(Contact *t, int at)
{
    for (int64_t y = 0; y < t->height; y++)
        memcpy(t->strip + (y * TILES + at) * t->width * 3, t->tile + y * t->width * 3, (size_t)(t->width * 3));
}

void contact_add(Contact *t, int64_t k, int64_t n, const uint8_t *rgb, int64_t width, int64_t height)
{
    const int64_t at[TILES] = {0, n / 2, n - 1};
    int drawn = 0;
    for (int i = 0; i < TILES; i++)
        if (k == at[i]) {
            if (!drawn)
                picture_shrink(rgb, width, height, t->tile, t->width, t->height);
            drawn = 1;
            place(t, i);
        }
}

int contact_write(const Contact *t, const char *out_dir, const char *id, char **file, Err *err)
{
    char *name = mem_printf(err, "thumbs/%s.png", id), *path = name ? path_join(out_dir, name, err) : NULL;
    int rc = path ? picture_write_png(path, t->strip, TILES * t->width, t->height, err) : ERR_NOMEM;
    mem_free(path);
    if (rc < 0)
        mem_free(name);
    *file = rc < 0 ? NULL : name;
    return rc;
}

/* Damage costs pictures, not the run. */
int contact_of_source(const ClipJob *job, const Scan *s, const char *id, char **file, Err *err)
{
    const VideoInfo *v = &s->info;
    const VideoLimits limits = clip_limits(job->cfg);
    const int64_t at[TILES] = {0, s->n / 2, s->n - 1};
    FrameReader *r = NULL;
    FrameMark mark;
    Contact *t = NULL;
    Err cause = {0};
    int done = 0, rc = contact_open(&t, v->display_width, v->display_height, err);
    *file = NULL;
    if (rc < 0)
        return rc;
    FitPlan fit = fit_plan(v, t->width, t->height, FIT_STRETCH, 0.5, 0.5);
    int got = frame_reader_open(&r, job->path, job->src->kind, job->rate, &limits, &cause);
    while (got >= 0 && done < TILES && (got = frame_reader_next(r, &mark, &cause)) == 1)
        while (done < TILES && got >= 0 && mark.index == at[done])
            if ((got = frame_reader_rgb(r, &fit, t->tile, &cause)) >= 0)
                place(t, done++);
    frame_reader_close(&r);
    if (cause.code == ERR_NOMEM || cause.code == ERR_INTERRUPTED)
        rc = err_set(err, cause.code, "%s", cause.msg);
    else if (done)
        rc = contact_write(t, job->out_dir, id, file, err);
    contact_close(&t);
    return rc;
}
