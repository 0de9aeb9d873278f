#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/model/clip.h"
#include "common/model/resize.h"
#include "infer/networks_internal.h"

/* ---- weights ---------------------------------------------------------------------------------- */

/* Notes that `metrics` cannot be had, and why; a failure only where memory is lacking. */
static int leave_out(Networks *n, const char *metrics, int rc, const Err *why, Err *err)
{
    if (rc == ERR_NOMEM || rc == ERR_INTERRUPTED)
        return err_set(err, rc, "%s", why->msg);
    log_warn(n->log, "%s left out: %s", metrics, why->msg);
    n->left[n->n_left].metrics = metrics;
    n->left[n->n_left].why = mem_strdup(why->msg, err);
    return n->left[n->n_left++].why ? 0 : ERR_NOMEM;
}

static int open_clip(Networks *n, const char *memory, Err *err)
{
    SafeTensors *file = NULL;
    Err why = {0};
    int rc = clip_scorer_open(&n->clip, n->be, n->o.clip, &why);
    if (!rc && !(rc = clip_open_weights(&file, n->o.clip, NULL, &why)))
        rc = safetensors_digest_once(file, n->o.clip, memory, n->clip_sha, n->log, &why);
    safetensors_close(&file);
    if (rc)
        clip_scorer_close(&n->clip);
    else /* the user's lists: a fault of theirs is no reason to go on without them */
        return attributes_open(&n->attributes, n->o.attributes, n->clip, err);
    return leave_out(n, "clip_score, clip_consistency, attributes", rc, &why, err);
}

static int open_inception(Networks *n, Backend *plan, Err *err)
{
    Inception *shape = NULL;
    Arena *counted = NULL;
    Err why = {0};
    int rc = sha256_file_hex(n->o.inception, n->inception_sha, &why);
    if (!rc && !(rc = inception_open(&n->inception, n->be, n->o.inception, &why)) &&
        !(rc = inception_open(&shape, plan, NULL, &why)) && !(rc = arena_new(&counted, plan, 0, "Inception", &why)) &&
        !(rc = inception_run(shape, counted, NULL, NULL, NULL, NULL, INCEPTION_FRAMES, &why)))
        rc = arena_new(&n->inception_work, n->be, arena_high(counted), "Inception", &why);
    arena_free(&counted);
    inception_close(&shape);
    if (!rc)
        return 0;
    inception_close(&n->inception);
    return leave_out(n, "is_frames, is_clip, fid_frames, kid_frames", rc, &why, err);
}

static int open_i3d(Networks *n, Backend *plan, Err *err)
{
    I3d *shape = NULL;
    Arena *counted = NULL;
    Err why = {0};
    int rc = sha256_file_hex(n->o.i3d, n->i3d_sha, &why);
    if (!rc && !(rc = i3d_open(&n->i3d, n->be, n->o.i3d, n->o.bn_eps, &why)) &&
        !(rc = i3d_open(&shape, plan, NULL, 0, &why)) && !(rc = arena_new(&counted, plan, 0, "I3D", &why)) &&
        !(rc = i3d_run(shape, counted, NULL, NULL, n->o.fvd_frames, &why)))
        rc = arena_new(&n->i3d_work, n->be, arena_high(counted), "I3D", &why);
    arena_free(&counted);
    i3d_close(&shape);
    if (!rc)
        return 0;
    i3d_close(&n->i3d);
    return leave_out(n, "fvd, kvd", rc, &why, err);
}

/* Where each network's input begins in a video's piece: after three counts. */
static void place_inputs(Networks *n)
{
    const int64_t number = sizeof(float);
    n->clip_at = 64;
    int64_t side = n->clip ? clip_scorer_size(n->clip) : 0;
    n->inception_at = n->clip_at + CLIP_FRAMES * 2 * 3 * side * side * number;
    n->i3d_at = n->inception_at + (n->inception ? INCEPTION_FRAMES * INCEPTION_SIZE * INCEPTION_SIZE * 3 * number : 0);
    n->bytes = n->i3d_at + (n->i3d ? n->o.fvd_frames * I3D_SIZE * I3D_SIZE * 3 * number : 0);
    n->bytes = (n->bytes + 4095) / 4096 * 4096; /* whole pages, so that each video's can be given back */
}

/* Options that change nothing without another one. */
static int check_options(const NetworkOptions *o, Err *err)
{
    if (o->attributes && !o->clip)
        return err_set(err, ERR_USAGE, "--attributes needs --clip");
    int frames = o->fvd_frames != 0 && o->fvd_frames != FVD_FRAMES;
    if (!o->i3d && (frames || o->bn_eps != 0))
        return err_set(err, ERR_USAGE, "%s needs --i3d", frames ? "--fvd-frames" : "--bn-eps");
    if (o->i3d && o->fvd_frames < I3D_LEAST_FRAMES)
        return err_set(err, ERR_USAGE, "--fvd-frames is %" PRId64 ", expected %d or more", o->fvd_frames,
                       I3D_LEAST_FRAMES);
    return 0;
}

int networks_open(Networks **out, const NetworkOptions *o, const char *device, int64_t threads, const char *memory,
                  const Log *log, Err *err)
{
    Backend *plan = NULL;
    *out = NULL;
    int rc = check_options(o, err);
    if (rc < 0 || (!o->clip && !o->inception && !o->i3d))
        return rc;
    Networks *n = *out = mem_calloc(1, sizeof *n, err);
    if (!n)
        return ERR_NOMEM;
    n->o = *o;
    n->log = log;
    rc = backend_open(&n->be, device ? device : "cpu", threads, log, err);
    if (rc || (rc = backend_open(&plan, "plan", 1, NULL, err)))
        goto fail;
    plan->act = n->be->act;
    if ((o->clip && (rc = open_clip(n, memory, err))) || (o->inception && (rc = open_inception(n, plan, err))) ||
        (o->i3d && (rc = open_i3d(n, plan, err))))
        goto fail;
    place_inputs(n);
fail:
    backend_close(&plan);
    if (rc)
        networks_close(out);
    return rc;
}

void networks_close(Networks **n)
{
    if (!*n)
        return;
    attributes_fini(&(*n)->attributes);
    clip_scorer_close(&(*n)->clip);
    arena_free(&(*n)->inception_work);
    arena_free(&(*n)->i3d_work);
    inception_close(&(*n)->inception);
    i3d_close(&(*n)->i3d);
    for (int64_t i = 0; i < (*n)->n_left; i++)
        mem_free((*n)->left[i].why);
    backend_close(&(*n)->be);
    mem_free(*n);
    *n = NULL;
}

int64_t networks_left_out(const Networks *n)
{
    return n ? n->n_left : 0;
}

/* ---- frames ----------------------------------------------------------------------------------- */

typedef struct Counts {
    int64_t clip, inception, i3d; /* frames taken */
} Counts;

int net_features_new(NetFeatures **out, Networks *n, int64_t videos, int references, Err *err)
{
    NetFeatures *f = *out = mem_calloc(1, sizeof *f, err);
    int64_t bytes = 0;
    if (!f || !(f->video = mem_calloc(videos, sizeof *f->video, err))) {
        net_features_free(out);
        return ERR_NOMEM;
    }
    f->net = n;
    f->n = videos;
    f->references = references;
    /* Address space for all, memory for those that are decoded and not yet run. */
    if (mem_mul(n->bytes, videos, &bytes) < 0)
        bytes = INT64_MAX / 2; /* refused below */
    f->mapped = bytes;
    f->shared = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->shared != MAP_FAILED)
        return 0;
    f->shared = NULL;
    int rc = err_errno(err, errno, "%" PRId64 " bytes of address space for frames", bytes);
    net_features_free(out);
    return rc;
}

void net_features_free(NetFeatures **f)
{
    if (!*f)
        return;
    for (int64_t i = 0; i < (*f)->n; i++) {
        NetVideo *v = &(*f)->video[i];
        mem_free(v->pool3);
        mem_free(v->logits);
        mem_free(v->i3d);
    }
    if ((*f)->shared)
        munmap((*f)->shared, (size_t)(*f)->mapped);
    mem_free((*f)->video);
    mem_free(*f);
    *f = NULL;
}

static float *part(const NetFeatures *f, int64_t i, int64_t at, int64_t floats)
{
    return (float *)(void *)(f->shared + i * f->net->bytes + at) + floats;
}

static Counts *counts(const NetFeatures *f, int64_t i)
{
    return (Counts *)(void *)(f->shared + i * f->net->bytes);
}

int net_take_frame(const NetFeatures *f, int64_t i, int64_t k, const uint8_t *rgb, int64_t H, int64_t W, Err *err)
{
    const Networks *n = f->net;
    Counts *c = counts(f, i);
    int rc = 0;
    if (k == 0)
        *c = (Counts){0}; /* a process before this one may have been killed */
    if (n->clip && k % CLIP_STEP == 0 && c->clip < CLIP_FRAMES) {
        int64_t side = clip_scorer_size(n->clip), one = 3 * side * side;
        float *to = part(f, i, n->clip_at, c->clip++ * 2 * one);
        if ((rc = clip_preprocess(to, rgb, H, W, side, err)) ||
            (rc = clip_preprocess_square(to + one, rgb, H, W, side, err)))
            return rc;
    }
    if (n->inception && k % INCEPTION_STEP == 0 && c->inception < INCEPTION_FRAMES) {
        float *to = part(f, i, n->inception_at, c->inception++ * INCEPTION_SIZE * INCEPTION_SIZE * 3);
        if ((rc = resize_scaled(to, INCEPTION_SIZE, INCEPTION_SIZE, rgb, H, W, RESIZE_TF1, SCALE_INCEPTION, err)))
            return rc;
    }
    if (n->i3d && c->i3d < n->o.fvd_frames) {
        float *to = part(f, i, n->i3d_at, c->i3d++ * I3D_SIZE * I3D_SIZE * 3);
        rc = resize_scaled(to, I3D_SIZE, I3D_SIZE, rgb, H, W, RESIZE_TF1, SCALE_SIGNED, err);
    }
    return rc;
}

/* ---- features --------------------------------------------------------------------------------- */

/* crop [clip_frames, width]; mean: room for a vector. */
static void count_attributes(NetFeatures *f, const NetVideo *v, const float *crop, const char *prompt, float *mean)
{
    int64_t width = clip_scorer_width(f->net->clip);
    for (int64_t c = 0; c < width; c++) {
        double sum = 0;
        for (int64_t k = 0; k < v->clip_frames; k++)
            sum += (double)crop[k * width + c];
        mean[c] = (float)(sum / (double)v->clip_frames);
    }
    clip_normalise(mean, width);
    attributes_count(&f->net->attributes, f->references, prompt, mean);
}

/* v's cosines; whole, crop [frames, width], text [width]: unit vectors. */
static void compare_vectors(NetVideo *v, const float *crop, const float *whole, const float *text, int64_t width)
{
    int64_t frames = v->clip_frames;
    v->least = INFINITY;
    for (int64_t k = 0; k < frames && v->has_prompt; k++) {
        double fit = clip_cosine(crop + k * width, text, width);
        v->fit += fit / (double)frames;
        v->fit_whole += clip_cosine(whole + k * width, text, width) / (double)frames;
        v->least = fit < v->least ? fit : v->least;
    }
    for (int64_t k = 0; k + 1 < frames; k++)
        v->consistency += clip_cosine(crop + k * width, crop + (k + 1) * width, width) / (double)(frames - 1);
}

static int run_clip(NetFeatures *f, int64_t i, const char *prompt, Err *err)
{
    const Networks *n = f->net;
    NetVideo *v = &f->video[i];
    int64_t side = clip_scorer_size(n->clip), one = 3 * side * side, width = clip_scorer_width(n->clip);
    int64_t frames = counts(f, i)->clip;
    float *crop = mem_calloc((2 * frames + 1) * width, sizeof *crop, err);
    int rc = crop ? 0 : ERR_NOMEM;
    float *whole = crop ? crop + frames * width : NULL, *text = crop ? whole + frames * width : NULL;
    for (int64_t k = 0; k < frames && !rc; k++) {
        const float *pixels = part(f, i, n->clip_at, k * 2 * one);
        if (!(rc = clip_scorer_image(n->clip, pixels, crop + k * width, err)))
            rc = clip_scorer_image(n->clip, pixels + one, whole + k * width, err);
    }
    if (!rc && prompt)
        rc = clip_scorer_text(n->clip, prompt, text, &v->cut, err);
    if (!rc) {
        v->has_prompt = prompt != NULL;
        v->clip_frames = frames;
        compare_vectors(v, crop, whole, text, width);
    }
    if (!rc && prompt)
        count_attributes(f, v, crop, prompt, text);
    mem_free(crop);
    return rc;
}

static int run_inception(NetFeatures *f, int64_t i, Err *err)
{
    const Networks *n = f->net;
    NetVideo *v = &f->video[i];
    int64_t frames = counts(f, i)->inception;
    v->pool3 = mem_calloc(frames * INCEPTION_FEATURES, sizeof *v->pool3, err);
    v->logits = mem_calloc(frames * INCEPTION_CLASSES, sizeof *v->logits, err);
    int rc = v->pool3 && v->logits ? inception_run(n->inception, n->inception_work, v->pool3, v->logits, NULL,
                                                   part(f, i, n->inception_at, 0), frames, err)
                                   : ERR_NOMEM;
    v->inception_frames = rc ? 0 : frames;
    return rc;
}

static int run_i3d(NetFeatures *f, int64_t i, Err *err)
{
    const Networks *n = f->net;
    NetVideo *v = &f->video[i];
    if (counts(f, i)->i3d < n->o.fvd_frames)
        return 0;
    if (!(v->i3d = mem_calloc(I3D_CLASSES, sizeof *v->i3d, err)))
        return ERR_NOMEM;
    int rc = i3d_run(n->i3d, n->i3d_work, v->i3d, part(f, i, n->i3d_at, 0), n->o.fvd_frames, err);
    v->has_i3d = !rc;
    return rc;
}

int net_run(NetFeatures *f, int64_t i, const char *prompt, Err *err)
{
    const Networks *n = f->net;
    int rc = 0;
    if ((n->clip && counts(f, i)->clip && (rc = run_clip(f, i, prompt, err))) ||
        (n->inception && counts(f, i)->inception && (rc = run_inception(f, i, err))) ||
        (n->i3d && (rc = run_i3d(f, i, err))))
        return rc;
    net_drop(f, i);
    return 0;
}

void net_drop(NetFeatures *f, int64_t i)
{
    if (f->net->bytes)
        madvise(f->shared + i * f->net->bytes, (size_t)f->net->bytes, MADV_REMOVE); /* the frames' memory */
}

int networks_have_clip(const Networks *n)
{
    return n && n->clip;
}

/* ---- figures of one video --------------------------------------------------------------------- */

const struct NetFigureKind net_figure_kinds[NET_FIGURES] = {
    {"clip_score", "100 x the mean cosine of CLIP's vectors of frames (centre crop) and prompt", 0},
    {"clip_score_min", "the same of the frame that fits least", 0},
    {"clip_score_whole", "clip_score of whole frames, padded to a square: a crop loses a third of a portrait", 0},
    {"clip_consistency", "mean cosine of CLIP's vectors of sampled frames that follow each other", 1},
};

double net_figure(const NetFeatures *f, int64_t i, NetFigure which)
{
    const NetVideo *v = &f->video[i];
    if (which == NET_CONSISTENCY)
        return v->clip_frames > 1 ? v->consistency : NAN;
    if (!v->clip_frames || !v->has_prompt)
        return NAN;
    return 100 * (which == NET_CLIP ? v->fit : which == NET_CLIP_LEAST ? v->least : v->fit_whole);
}

int64_t net_tokens_cut(const NetFeatures *f, int64_t i)
{
    return f->video[i].cut;
}
