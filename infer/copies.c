/* Which clips there are, what is compared, and the search for the closest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "common/metrics/nearest.h"
#include "infer/copies_internal.h"

enum { BATCH_BYTES = 1 << 29 /* latents of samples held at a time */ };

int64_t copies_values(const Copies *c)
{
    return c->size.F * c->size.h * c->size.w * c->channels;
}

/* ---- the cache -------------------------------------------------------------------------------- */

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static int add_clip(Copies *c, const char *id, const json_t *facts, Err *err)
{
    const json_t *latent = json_object_get(facts, "latent");
    if (strcmp(json_string_value(json_object_get(facts, "split")), "train") != 0)
        return 0;
    if (whole(latent, "channels") != c->channels)
        return err_set(err, ERR_FORMAT, "'%s': clip '%s' has latents of %" PRId64 " channels, its VAE of %" PRId64,
                       c->o->cache, id, whole(latent, "channels"), c->channels);
    if (mem_grow(&c->clip, c->n, &c->room, sizeof *c->clip, err) < 0)
        return ERR_NOMEM;
    TrainClip *t = &c->clip[c->n++];
    *t = (TrainClip){.id = mem_strdup(id, err),
                     .size = {whole(facts, "frames"), whole(facts, "height"), whole(facts, "width"),
                              whole(latent, "frames"), whole(latent, "height"), whole(latent, "width")}};
    return t->id ? digest_parse(json_string_value(json_object_get(facts, "latents")), &t->latents, err) : ERR_NOMEM;
}

static int read_clips(Copies *c, CacheTxn *t, Err *err)
{
    CacheCursor *cursor = NULL;
    json_t *facts = NULL;
    const char *id;
    int rc;
    while ((rc = cache_next_clip(t, &cursor, &id, &facts, err)) == 1) {
        rc = add_clip(c, id, facts, err);
        json_decref(facts);
        if (rc < 0)
            break;
    }
    cache_cursor_free(&cursor);
    if (rc == 0 && c->n < 2)
        rc = err_set(err, ERR_USAGE, "'%s' has %" PRId64 " clip%s of split train; the copy check needs two or more",
                     c->o->cache, c->n, c->n == 1 ? "" : "s");
    return rc;
}

static int read_facts(Copies *c, CacheTxn *t, Err *err)
{
    json_t *vae = NULL, *colour = NULL;
    int rc = cache_get_meta(t, "vae", &vae, err);
    if (rc == 0)
        rc = err_set(err, ERR_FORMAT, "'%s' is unfinished: run weft-cache build again", c->o->cache);
    if (rc == 1) {
        c->channels = whole(vae, "latent_channels");
        c->scale = json_number_value(json_object_get(vae, "scaling_factor"));
        c->tiled = !json_is_null(json_object_get(vae, "tiling"));
        snprintf(c->vae, sizeof c->vae, "%s", json_string_value(json_object_get(vae, "weights_sha256")));
        rc = cache_get_meta(t, "colour", &colour, err);
    }
    if (rc == 1)
        rc = latent_colour_parse(&c->colour, colour, "meta 'colour'", err) < 0 ? ERR_FORMAT : 1;
    c->has_colour = rc == 1 && c->colour.channels == c->channels;
    json_decref(vae);
    json_decref(colour);
    return rc < 0 ? rc : 0;
}

int copies_open(Copies **out, const CopyOptions *o, const char *device, int64_t jobs, const Recipe *recipe,
                const Log *log, Err *err)
{
    CacheTxn *t = NULL;
    *out = NULL;
    if (!o->cache)
        return o->latents.n ? err_set(err, ERR_USAGE, "--latents is for the copy check: give --train-cache too") : 0;
    Copies *c = *out = mem_calloc(1, sizeof *c, err);
    if (!c)
        return ERR_NOMEM;
    c->o = o;
    c->log = log;
    c->recipe = recipe;
    int rc = cache_open(&c->cache, o->cache, CACHE_READ, err);
    if (rc == 0)
        rc = cache_begin(&t, c->cache, err);
    if (rc == 0)
        rc = read_facts(c, t, err);
    if (rc == 0)
        rc = read_clips(c, t, err);
    cache_end(&t);
    if (rc == 0)
        rc = copies_open_sources(c, device, jobs, err);
    if (rc < 0)
        copies_close(out);
    return rc;
}

void copies_close(Copies **cc)
{
    Copies *c = *cc;
    if (!c)
        return;
    copies_close_sources(c);
    for (int64_t i = 0; i < c->n; i++)
        mem_free(c->clip[i].id);
    for (int k = 0; k < COPY_SIDES; k++) {
        for (int64_t i = 0; i < c->side[k].n; i++)
            mem_free(c->side[k].source[i].closest.picture);
        mem_free(c->side[k].source);
    }
    mem_free(c->clip);
    mem_free(c->training);
    cache_close(&c->cache);
    mem_free(c);
    *cc = NULL;
}

/* ---- sizes ------------------------------------------------------------------------------------ */

/* Frames, height and width as far as both know them (0: not known); a video may have dropped the last frame. */
static int fits(const CopySize *sample, const CopySize *clip)
{
    if (sample->F)
        return sample->F == clip->F && sample->h == clip->h && sample->w == clip->w;
    return sample->height == clip->height && sample->width == clip->width &&
           (sample->frames == clip->frames || sample->frames == clip->frames - 1);
}

static const char *describe(const CopySize *s, char *out, size_t size)
{
    if (s->frames)
        snprintf(out, size, "%" PRId64 " frames of %" PRId64 "x%" PRId64, s->frames, s->width, s->height);
    else
        snprintf(out, size, "%" PRId64 " latent frames of %" PRId64 "x%" PRId64, s->F, s->w, s->h);
    return out;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const TrainClip *)a)->id, ((const TrainClip *)b)->id);
}

/* The clips of c->size come first. */
static int gather_same(Copies *c, Err *err)
{
    int64_t k = 0;
    for (int64_t i = 0; i < c->n; i++)
        if (memcmp(&c->clip[i].size, &c->size, sizeof c->size) == 0) {
            TrainClip t = c->clip[k];
            c->clip[k++] = c->clip[i];
            c->clip[i] = t;
        }
    c->n_same = k;
    qsort(c->clip, (size_t)k, sizeof *c->clip, by_id);
    if (k < 2)
        return err_set(err, ERR_USAGE, "'%s' has one training clip of the samples' size; the copy check needs two",
                       c->o->cache);
    return 0;
}

/* The first sample chooses the size of what is compared; all others must have it. */
static int check_size(Copies *c, const VideoItem *v, const CopySize *size, Err *err)
{
    char own[80], other[80];
    if (c->size.F ? fits(size, &c->size) : 0)
        return 0;
    for (int64_t i = 0; i < c->n && !c->size.F; i++)
        if (fits(size, &c->clip[i].size)) {
            c->size = c->clip[i].size;
            return gather_same(c, err);
        }
    const CopySize *want = c->size.F ? &c->size : &c->clip[0].size;
    CopySize latents = {.F = want->F, .h = want->h, .w = want->w};
    describe(size, own, sizeof own);
    describe(size->frames ? want : &latents, other, sizeof other);
    if (c->size.F)
        return err_set(err, ERR_USAGE,
                       "'%s' has %s, the videos before it %s: the copy check compares videos of one size", v->path, own,
                       other);
    return err_set(err, ERR_USAGE,
                   "'%s' has %s, and no training clip of '%s' is like that (the first has %s): the copy check compares "
                   "latents of one size; leave --train-cache out, or sample at the size that was trained",
                   v->path, own, c->o->cache, other);
}

int copies_expect(Copies *c, int64_t frames, int64_t height, int64_t width, Err *err)
{
    char what[] = "a sample";
    return check_size(c, &(VideoItem){.path = what}, &(CopySize){.frames = frames, .height = height, .width = width},
                      err);
}

int copies_plan(Copies *c, int side, const VideoList *v, Err *err)
{
    CopySide *s = &c->side[side];
    s->source = mem_calloc(v->n, sizeof *s->source, err);
    if (!s->source)
        return ERR_NOMEM;
    s->n = v->n;
    int rc = 0;
    for (int64_t i = 0; i < v->n && rc == 0; i++) {
        CopySize size = {0};
        int known = 0;
        rc = copies_find_source(c, &v->item[i], &s->source[i], &size, &known, err);
        if (rc == 0 && known)
            rc = check_size(c, &v->item[i], &size, err);
    }
    return rc;
}

/* Of videos whose size nobody had told. */
static int check_measured(Copies *c, const Evaluation *e, const CopySide *s, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; i < s->n && rc == 0; i++) {
        const VideoFigures *f = &e->measured[i].f;
        CopySize size = {.frames = f->frames, .height = f->height, .width = f->width};
        if (e->measured[i].done == 1 && !s->source[i].kept)
            rc = check_size(c, &e->videos.item[i], &size, err);
    }
    return rc;
}

/* ---- the search ------------------------------------------------------------------------------- */

/* A sample, or (side -1) a training clip that is compared with the others. */
typedef struct Query {
    int side;
    int64_t at, nearest;
    double distance;
} Query;

static int load_query(Copies *c, const Query *q, float *z, Err *err)
{
    if (q->side < 0)
        return copies_load_clip(c, q->at, z, err);
    CopySource *s = &c->side[q->side].source[q->at];
    const Evaluation *e = c->side[q->side].e;
    int64_t points = c->size.h * c->size.w;
    int rc = copies_load_sample(c, &e->videos.item[q->at], s, z, err);
    if (rc == 0 && c->has_colour) {
        s->closest.picture = mem_calloc(points, 3, err);
        if (!s->closest.picture)
            return ERR_NOMEM;
        latent_colour_apply(&c->colour, s->closest.picture, z, points, 1 / c->scale);
    }
    return rc;
}

/* All clips against the queries whose latents are z[0..n). */
static int search(Copies *c, Query *q, float *const *z, int64_t n, Err *err)
{
    float *tile[NEAREST_TILE] = {NULL};
    double *d = mem_calloc(n * NEAREST_TILE, sizeof *d, err);
    int rc = d ? 0 : ERR_NOMEM;
    for (int k = 0; k < NEAREST_TILE && rc == 0; k++)
        rc = (tile[k] = mem_calloc(copies_values(c), sizeof **tile, err)) ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < c->n_same && rc == 0; i += NEAREST_TILE) {
        int64_t rows = c->n_same - i < NEAREST_TILE ? c->n_same - i : NEAREST_TILE;
        for (int64_t k = 0; k < rows && rc == 0; k++)
            rc = copies_load_clip(c, i + k, tile[k], err);
        if (rc == 0 && interrupt_requested())
            rc = ERR_INTERRUPTED;
        if (rc < 0)
            break;
        nearest_distances(d, (const float *const *)z, n, (const float *const *)tile, rows, copies_values(c),
                          c->threads);
        for (int64_t k = 0; k < n; k++)
            for (int64_t r = 0; r < rows; r++)
                if (d[k * rows + r] < q[k].distance && !(q[k].side < 0 && q[k].at == i + r)) {
                    q[k].distance = d[k * rows + r];
                    q[k].nearest = i + r;
                }
    }
    for (int k = 0; k < NEAREST_TILE; k++)
        mem_free(tile[k]);
    mem_free(d);
    return rc;
}

static int search_all(Copies *c, Query *q, int64_t n, Err *err)
{
    int64_t values = copies_values(c), room = BATCH_BYTES / (values * (int64_t)sizeof(float));
    room = room < 1 ? 1 : room > n ? n : room;
    float **z = mem_calloc(room, sizeof *z, err), *all = mem_calloc(room * values, sizeof *all, err);
    int rc = z && all ? 0 : ERR_NOMEM;
    Progress *progress = progress_start(c->log, "copy check", "latents", n);
    for (int64_t first = 0; first < n && rc == 0; first += room) {
        int64_t some = n - first < room ? n - first : room;
        for (int64_t k = 0; k < some && rc == 0; k++) {
            z[k] = all + k * values;
            rc = interrupt_requested() ? ERR_INTERRUPTED : load_query(c, &q[first + k], z[k], err);
            progress_step(progress, first + k, NULL);
        }
        if (rc == 0)
            rc = search(c, q + first, z, some, err);
        progress_step(progress, first + some, NULL);
    }
    progress_end(&progress);
    mem_free(all);
    mem_free(z);
    if (rc == ERR_INTERRUPTED) {
        err_clear(err);
        err_set(err, rc, "interrupted while samples were compared with training clips; nothing was written");
    }
    return rc;
}

/* Training clips' distances in order, and what they say of each sample's. */
static int judge(Copies *c, const Query *q, int64_t n, Err *err)
{
    c->training = mem_calloc(n, sizeof *c->training, err);
    if (!c->training)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        if (q[i].side < 0)
            c->training[c->n_training++] = q[i].distance;
    sort_ascending(c->training, c->n_training);
    for (int64_t i = 0; i < n; i++) {
        if (q[i].side < 0)
            continue;
        CopySource *s = &c->side[q[i].side].source[q[i].at];
        int64_t below = 0;
        while (below < c->n_training && c->training[below] <= q[i].distance)
            below++;
        s->compared = 1;
        s->closest.encoded = s->kept == NULL;
        s->closest.clip = q[i].nearest;
        s->closest.distance = q[i].distance;
        s->closest.share = (double)below / (double)c->n_training;
        s->closest.closer = q[i].distance <= percentile(c->training, c->n_training, 0.05);
    }
    return 0;
}

int copies_run(Copies *c, const Evaluation *const *side, int sides, Err *err)
{
    int64_t n = 0, room = 0;
    int rc = 0;
    for (int k = 0; k < sides && rc == 0; k++) {
        c->side[k].e = side[k];
        rc = check_measured(c, side[k], &c->side[k], err);
        room += c->side[k].n;
    }
    if (rc < 0)
        return rc;
    int64_t probes = c->n_same < PROBES ? c->n_same : PROBES;
    Query *q = mem_calloc(room + probes, sizeof *q, err);
    if (!q)
        return ERR_NOMEM;
    for (int k = 0; k < sides; k++)
        for (int64_t i = 0; i < c->side[k].n; i++)
            if (side[k]->measured[i].done == 1)
                q[n++] = (Query){k, i, 0, INFINITY};
    for (int64_t i = 0; i < probes; i++)
        q[n++] = (Query){-1, i * c->n_same / probes, 0, INFINITY};
    rc = search_all(c, q, n, err);
    if (rc == 0)
        rc = judge(c, q, n, err);
    mem_free(q);
    return rc;
}

const Closest *copies_closest(const Copies *c, int side, int64_t i)
{
    const CopySource *s = &c->side[side].source[i];
    return s->compared ? &s->closest : NULL;
}

const char *copies_clip_id(const Copies *c, int64_t clip)
{
    return c->clip[clip].id;
}
