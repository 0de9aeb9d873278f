#include "cache/preview.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cache/decode.h"
#include "cache/preview_page.h"
#include "cache/view.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/model/vae.h"

#define PSNR_EQUAL 99.0

typedef struct Preview {
    const PreviewParams *params;
    View view;
    Recipe *recipe;
    Prepared *p;
    Vae *vae;
    VaeTiling tiling;
    Arena *work;
    ClipDecoder *decoder;
    PreviewClip *shown;
    int64_t n;
    PreparedClip clip;     /* at hand */
    const uint8_t *source; /* of it */
    uint8_t *decoded;
    float *z, *pixels;
    int64_t room; /* bytes of RGB */
} Preview;

/* ---- opening --------------------------------------------------------------------------------- */

/* The cache's weights must be the folder's: a preview with others would show another VAE's faults.
 * */
static int check_model(Preview *v, const char *folder, Err *err)
{
    json_t *meta = NULL;
    SafeTensors *s = NULL;
    char hex[65];
    int rc = view_meta(&v->view, "vae", &meta, err);
    if (rc == 0)
        rc = safetensors_open_folder(&s, folder, "diffusion_pytorch_model", v->params->log, err);
    if (rc == 0)
        rc = safetensors_digest(s, hex, err);
    if (rc == 0 && strcmp(hex, json_string_value(json_object_get(meta, "weights_sha256"))) != 0)
        rc = err_set(err, ERR_USAGE, "'%s' has other weights than the VAE that made the latents", folder);
    if (rc == 0)
        v->tiling = vae_tiling_default(vae_config(v->vae), !json_is_null(json_object_get(meta, "tiling")));
    safetensors_close(&s);
    json_decref(meta);
    return rc;
}

static int open_model(Preview *v, Err *err)
{
    char *folder = path_join(v->params->model, "vae", err);
    int rc = folder ? vae_open(&v->vae, v->params->be, folder, VAE_DECODES, err) : ERR_NOMEM;
    if (rc == 0)
        rc = check_model(v, folder, err);
    mem_free(folder);
    return rc;
}

static int open_inputs(Preview *v, Err *err)
{
    json_t *recipe = NULL, *dataset = NULL;
    int rc = view_open(&v->view, v->params->dir, err);
    if (rc == 0)
        rc = view_meta(&v->view, "recipe", &recipe, err);
    if (rc == 0)
        rc = view_meta(&v->view, "dataset", &dataset, err);
    if (rc == 0)
        rc = recipe_from_json(&v->recipe, recipe, err);
    const json_t *shard = json_object_get(dataset, "shard");
    if (rc == 0)
        rc = prepared_open(&v->p, v->params->prepared, json_integer_value(json_object_get(shard, "index")),
                           json_integer_value(json_object_get(shard, "count")), NULL, err);
    if (rc == 0) {
        v->room = v->p->rgb_bytes;
        rc = clip_decoder_open(&v->decoder, v->recipe, v->room, err);
    }
    if (rc == 0 &&
        (!(v->decoded = mem_calloc(v->room, 1, err)) || !(v->pixels = mem_calloc(v->room, sizeof *v->pixels, err)) ||
         !(v->shown = mem_calloc(v->p->n + v->params->ids.n + 1, sizeof *v->shown, err))))
        rc = ERR_NOMEM;
    json_decref(recipe);
    json_decref(dataset);
    return rc < 0 ? rc : open_model(v, err);
}

/* ---- one clip -------------------------------------------------------------------------------- */

/* Whether the record is latents of the clip's size by this VAE. */
static int fits(const Preview *v, const PreparedClip *c, const RecordView *r)
{
    const VaeConfig *vae = vae_config(v->vae);
    const int64_t scale = (int64_t)1 << (vae->n_blocks - 1), *dim = r->tensor.dim;
    return dim[0] == vae_latent_frames(vae, c->frames) && dim[1] == c->height / scale && dim[2] == c->width / scale &&
           dim[3] == vae->latent_channels * (r->kind == RECORD_MOMENTS ? 2 : 1);
}

/* Takes clip i of the dataset at hand: 1 with its latents, which come from its pixels as far as the cache knows; 0: the
 * cache has none. */
static int find_latents(Preview *v, int64_t i, RecordView *r, Err *err)
{
    const PreparedClip *c = &v->clip;
    json_t *facts = NULL;
    prepared_clip_fini(&v->clip);
    int rc = prepared_clip(v->p, i, &v->clip, err);
    if (rc == 0)
        rc = cache_get_clip(v->view.txn, c->id, &facts, err);
    const char *pixels = json_string_value(json_object_get(facts, "pixels_sha256"));
    if (rc == 1 && strspn(pixels, "0") < 64 && strcmp(pixels, c->pixels_sha256) != 0) /* zeros: imported without */
        rc = err_set(err, ERR_USAGE,
                     "clip '%s': its latents were made from other pixels than '%s' holds: give the dataset that the "
                     "cache was built from",
                     c->id, v->params->prepared);
    if (rc == 1 &&
        (rc = view_need_record(&v->view, CACHE_LATENTS, json_object_get(facts, "latents"), c->id, r, err)) == 0)
        rc = 1;
    if (rc == 1 && !fits(v, c, r))
        rc = err_set(err, ERR_FORMAT,
                     "clip '%s': its latents are not those of %" PRId64 " frames of %" PRId64 "x%" PRId64
                     " by this VAE: run weft-cache build again",
                     c->id, c->frames, c->width, c->height);
    json_decref(facts);
    return rc;
}

static float value_at(const Tensor *t, int64_t i)
{
    const uint16_t *half = t->data;
    return t->dtype == DT_F32   ? ((const float *)t->data)[i]
           : t->dtype == DT_F16 ? half_to_float(half[i])
                                : bfloat_to_float(half[i]);
}

/* pixels <- the record, decoded. */
static int decode_record(Preview *v, const RecordView *r, Err *err)
{
    const Tensor *t = &r->tensor;
    int64_t width = t->dim[3], C = r->kind == RECORD_MOMENTS ? width / 2 : width, rows = tensor_count(t) / width, bytes;
    int rc = vae_plan_decode(vae_config(v->vae), v->params->be->act, &v->tiling, t->dim[0], t->dim[1], t->dim[2],
                             &bytes, err);
    if (rc == 0 && !v->work)
        rc = arena_new(&v->work, v->params->be, bytes, "VAE", err);
    if (rc < 0)
        return rc;
    mem_free(v->z);
    if (!(v->z = mem_calloc(rows * C, sizeof *v->z, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < C; c++)
            v->z[i * C + c] = value_at(t, i * width + c);
    return vae_decode(v->vae, v->work, &v->tiling, v->pixels, v->z, t->dim[0], t->dim[1], t->dim[2], err);
}

static double psnr(double squares, int64_t n)
{
    return squares > 0 ? 10 * log10(255.0 * 255.0 * (double)n / squares) : PSNR_EQUAL;
}

static void measure(const Preview *v, const PreparedClip *c, PreviewClip *out)
{
    int64_t n = c->height * c->width * 3;
    double all = 0;
    out->worst_db = PSNR_EQUAL + 1;
    for (int64_t t = 0; t < c->frames; t++) {
        double sum = 0;
        for (int64_t i = t * n; i < (t + 1) * n; i++) {
            double d = (double)v->source[i] - v->decoded[i];
            sum += d * d;
        }
        all += sum;
        if (psnr(sum, n) < out->worst_db) {
            out->worst_db = psnr(sum, n);
            out->worst_frame = t;
        }
    }
    out->psnr = psnr(all, n * c->frames);
}

/* Source and decoded pixels of prepared clip i, and its figures. */
static int look_at(Preview *v, int64_t i, PreviewClip *out, Err *err)
{
    const PreparedClip *c = &v->clip;
    RecordView r;
    int rc = find_latents(v, i, &r, err);
    if (rc < 0)
        return rc;
    rc = clip_decode(v->decoder, c, &v->source, err);
    if (rc == 0)
        rc = decode_record(v, &r, err);
    if (rc < 0)
        return err_wrap(err, rc, "clip '%s'", c->id);
    pixels_to_rgb(v->decoded, v->pixels, c->frames * c->height * c->width * 3);
    out->index = i;
    measure(v, c, out);
    return 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int by_psnr(const void *a, const void *b)
{
    const PreviewClip *x = a, *y = b;
    return x->psnr != y->psnr ? (x->psnr > y->psnr) - (x->psnr < y->psnr)
                              : (x->index > y->index) - (x->index < y->index);
}

static int find_clip(const Preview *v, const char *id, int64_t *i, Err *err)
{
    int rc = prepared_find_clip(v->p, id, i, err);
    return rc < 0 || *i >= 0 ? rc
                             : err_set(err, ERR_NOTFOUND, "no accepted clip '%s' in '%s'", id, v->params->prepared);
}

static int stop(Err *err)
{
    return interrupt_requested() ? err_set(err, ERR_INTERRUPTED, "stopped") : 0;
}

/* The clips of the command line, before any of them is decoded. */
static int choose_named(Preview *v, Err *err)
{
    const StrList *ids = &v->params->ids;
    RecordView r;
    int rc = 0;
    for (int64_t k = 0; rc >= 0 && k < ids->n; k++) {
        int64_t *i = &v->shown[v->n++].index;
        rc = find_clip(v, ids->item[k], i, err);
        if (rc == 0 && (rc = find_latents(v, *i, &r, err)) == 0)
            rc = err_set(err, ERR_NOTFOUND, "no clip '%s' in '%s'", ids->item[k], v->params->dir);
    }
    return rc < 0 ? rc : 0;
}

/* All that are in the cache. */
static int choose_cached(Preview *v, Err *err)
{
    RecordView r;
    int rc = 0;
    for (int64_t i = 0; rc >= 0 && i < v->p->n; i++)
        if ((rc = find_latents(v, i, &r, err)) == 1)
            v->shown[v->n++].index = i;
    if (rc >= 0 && v->n == 0)
        return err_set(err, ERR_NOTFOUND, "no clip of '%s' is in '%s'", v->params->prepared, v->params->dir);
    return rc < 0 ? rc : 0;
}

/* With --worst: the figures of all chosen clips, worst first. */
static int find_worst(Preview *v, Err *err)
{
    int rc = 0;
    Progress *bar = progress_start(v->params->log, "decode", "clips", v->n);
    for (int64_t k = 0; rc == 0 && k < v->n; k++) {
        if ((rc = stop(err)) == 0)
            rc = look_at(v, v->shown[k].index, &v->shown[k], err);
        progress_step(bar, k + 1, NULL);
    }
    progress_end(&bar);
    qsort(v->shown, (size_t)v->n, sizeof *v->shown, by_psnr);
    v->n = v->n < v->params->worst ? v->n : v->params->worst;
    return rc;
}

static int show(Preview *v, int64_t k, Err *err)
{
    PreviewClip *s = &v->shown[k];
    char name[32];
    snprintf(name, sizeof name, "%04" PRId64 ".png", k + 1);
    char *path = path_join(v->params->out, name, err);
    int rc = path ? stop(err) : ERR_NOMEM;
    if (rc == 0)
        rc = look_at(v, s->index, s, err);
    const PreparedClip *c = &v->clip;
    if (rc == 0)
        rc = (s->id = mem_strdup(c->id, err)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = preview_sheet(path, v->source, v->decoded, c->frames, c->height, c->width, err);
    if (rc == 0) {
        char shown[2048];
        str_escape(shown, sizeof shown, s->id, 0);
        fprintf(v->params->results, "%s\t%.2f dB\tworst frame %" PRId64 ": %.2f dB\t%s\n", shown, s->psnr,
                s->worst_frame, s->worst_db, path);
    }
    mem_free(path);
    return rc;
}

int cache_preview(const PreviewParams *params, Err *err)
{
    Preview v = {.params = params};
    int rc = open_inputs(&v, err);
    if (rc == 0)
        rc = params->worst > 0 ? choose_cached(&v, err) : choose_named(&v, err);
    if (rc == 0)
        rc = dir_make(params->out, err);
    if (rc == 0 && params->worst > 0)
        rc = find_worst(&v, err);
    for (int64_t k = 0; rc == 0 && k < v.n; k++)
        rc = show(&v, k, err);
    if (rc == 0)
        rc = preview_page(params->out, params->dir, v.shown, v.n, err);
    for (int64_t k = 0; v.shown && k < v.n; k++)
        mem_free(v.shown[k].id);
    mem_free(v.shown);
    mem_free(v.z);
    mem_free(v.pixels);
    mem_free(v.decoded);
    arena_free(&v.work);
    vae_close(&v.vae);
    clip_decoder_close(&v.decoder);
    prepared_clip_fini(&v.clip);
    prepared_close(&v.p);
    recipe_close(&v.recipe);
    view_close(&v.view);
    return rc;
}
