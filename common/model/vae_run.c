/* A clip through the VAE: temporal chunks (part of the result), spatial tiles with blended seams,
 * host memory in and out.
 *
 * Of a tile that is done only what its neighbours need is kept: the bottom rows (for the tile
 * below) and the right columns (for the tile to the right), all frames, blended as they are; so no
 * tile is held whole. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/vae_internal.h"

typedef struct Job { /* one call of encode or decode; "in" and "out" as the network sees them */
    Vae *v;
    VaeNet *net;
    Arena *work;
    const float *in;    /* host [T,H,W,Ci], or */
    const uint8_t *rgb; /* the same in 8 bits */
    float *out;         /* host [To,Ho,Wo,Co] */
    int64_t T, H, W, To, Ho, Wo, Ci, Co;
    int64_t chunk; /* frames a chunk; the first takes the remainder too */
    Err *err;
} Job;

/* One axis of the tile grid. */
typedef struct Axis {
    int64_t tile, stride; /* pixels or latents of the input */
    int64_t extent, keep; /* pixels or latents of the output: blended with the next tile, kept of each */
    int64_t n;            /* tiles along the axis */
} Axis;

typedef struct Tile {
    int64_t y0, x0, h, w;       /* input box */
    int64_t oy, ox, oh, ow;     /* output box, uncropped */
    const Tensor *above, *left; /* strips of the neighbours [To,extent,ow,Co], [To,oh,extent,Co], or NULL */
    Tensor *below, *right;      /* strips to leave, or NULL; may share memory with above and left */
    int64_t keep_h, keep_w;
} Tile;

/* ---- frame counts ---------------------------------------------------------------------------- */

static int64_t n_chunks(int64_t T, int64_t chunk)
{
    return T / chunk > 1 ? T / chunk : 1;
}

static int64_t chunk_frames(int64_t T, int64_t chunk, int64_t k)
{
    int64_t first = T < chunk ? T : chunk + T % chunk;
    return k == 0 ? first : chunk;
}

static int64_t frames_through(const VaeConfig *c, int decoder, int64_t T, int64_t chunk)
{
    VaeStage time = {.time = 1};
    int64_t total = 0;
    for (int64_t k = 0; T > 0 && k < n_chunks(T, chunk); k++) {
        int64_t n = chunk_frames(T, chunk, k);
        for (int64_t r = c->temporal_ratio; r > 1; r /= 2)
            n = vae_stage_frames(&time, decoder, n);
        total += n;
    }
    return total;
}

int64_t vae_latent_frames(const VaeConfig *c, int64_t frames)
{
    return frames_through(c, 0, frames, VAE_PIXEL_CHUNK);
}

int64_t vae_pixel_frames(const VaeConfig *c, int64_t latents)
{
    return frames_through(c, 1, latents, VAE_LATENT_CHUNK);
}

/* ---- host memory ----------------------------------------------------------------------------- */

/* dst <- frames [t0, t0+T) of the tile's input box. */
static int read_box(const Job *j, const Tile *tile, int64_t t0, const Tensor *dst)
{
    if (j->v->be->plan)
        return 0;
    int64_t n = dst->dim[2] * j->Ci;
    float *to = j->v->staging;
    for (int64_t t = t0; t < t0 + dst->dim[0]; t++)
        for (int64_t y = tile->y0; y < tile->y0 + tile->h; y++, to += n) {
            int64_t at = ((t * j->H + y) * j->W + tile->x0) * j->Ci;
            if (j->in)
                memcpy(to, j->in + at, (size_t)n * sizeof *to);
            else
                for (int64_t i = 0; i < n; i++)
                    to[i] = (float)(j->rgb[at + i] / 127.5 - 1.0);
        }
    return backend_put_f32(j->v->be, dst, j->v->staging, j->err);
}

/* The kept part of src to its place in the output. */
static int write_box(const Job *j, const Tile *tile, int64_t t0, const Tensor *src)
{
    if (j->v->be->plan)
        return 0;
    int rc = backend_get_f32(j->v->be, j->v->staging, src, j->err);
    if (rc)
        return rc;
    for (int64_t t = 0; t < src->dim[0]; t++)
        for (int64_t y = 0; y < tile->keep_h; y++)
            memcpy(j->out + (((t0 + t) * j->Ho + tile->oy + y) * j->Wo + tile->ox) * j->Co,
                   j->v->staging + (t * tile->oh + y) * tile->ow * j->Co,
                   (size_t)(tile->keep_w * j->Co) * sizeof *j->out);
    return 0;
}

/* ---- the tile grid --------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The grid along one axis as diffusers lays it out: pixels and latents are the tile's two sizes.
 * Returns 0 where the kept parts of neighbouring tiles leave a gap or overlap. */
static int axis_init(Axis *a, int64_t scale, int decode, int64_t size, int64_t pixels, int64_t latents, double overlap)
{
    a->tile = decode ? latents : pixels;
    int64_t made = decode ? pixels : latents;
    a->stride = (int64_t)((double)a->tile * (1 - overlap));
    a->extent = (int64_t)((double)made * overlap);
    a->keep = made - a->extent;
    if (a->tile < 1 || !(overlap >= 0 && overlap <= 0.5) || a->stride < 1 || latents * scale != pixels ||
        (decode ? a->stride * scale != a->keep : a->stride != a->keep * scale))
        return 0;
    a->n = (size + a->stride - 1) / a->stride;
    return 1;
}

static int tile_fits(int64_t scale, int64_t pixels, double overlap)
{
    Axis a;
    return axis_init(&a, scale, 0, 1, pixels, pixels / scale, overlap) &&
           axis_init(&a, scale, 1, 1, pixels, pixels / scale, overlap);
}

/* The tile size next to `pixels` in steps of `step` that leaves no gap, or 0 within four times that. */
static int64_t next_fit(int64_t scale, int64_t pixels, double overlap, int64_t step)
{
    for (int64_t at = pixels + step; at > 0 && at <= 4 * pixels; at += step)
        if (tile_fits(scale, at, overlap))
            return at;
    return 0;
}

static int refuse_tiles(const char *side, int64_t scale, int64_t pixels, double overlap, Err *err)
{
    int64_t under = next_fit(scale, pixels, overlap, -1), over = next_fit(scale, pixels, overlap, 1);
    if (!over)
        return err_set(err, ERR_USAGE, "VAE tiling: tiles of %s %" PRId64 " with overlap %g would not meet", side,
                       pixels, overlap);
    char sizes[64];
    if (under)
        snprintf(sizes, sizeof sizes, "%" PRId64 " or %" PRId64, 2 * under, 2 * over);
    else
        snprintf(sizes, sizeof sizes, "%" PRId64, 2 * over);
    return err_set(
        err, ERR_USAGE,
        "VAE tiling: tiles of %s %" PRId64 " (half of sample_%s in the VAE's config.json) with overlap %g would not "
        "meet, and the result would have another size than the clip: turn tiling off, or set sample_%s to %s",
        side, pixels, side, overlap, side, sizes);
}

/* H, W: of the input, latents when decoding. */
static int needs_tiles(const VaeTiling *g, int decode, int64_t H, int64_t W)
{
    return g && g->enabled &&
           (H > (decode ? g->latent_height : g->pixel_height) || W > (decode ? g->latent_width : g->pixel_width));
}

static int grid_init(Axis *rows, Axis *cols, const VaeConfig *c, const VaeTiling *g, int decode, int64_t H, int64_t W,
                     Err *err)
{
    int64_t s = vae_scale(c);
    if (!axis_init(rows, s, decode, H, g->pixel_height, g->latent_height, g->overlap_height))
        return refuse_tiles("height", s, g->pixel_height, g->overlap_height, err);
    if (!axis_init(cols, s, decode, W, g->pixel_width, g->latent_width, g->overlap_width))
        return refuse_tiles("width", s, g->pixel_width, g->overlap_width, err);
    return 0;
}

int vae_tiling_check(const VaeConfig *c, const VaeTiling *tiling, int64_t H, int64_t W, Err *err)
{
    int64_t s = vae_scale(c);
    Axis rows, cols;
    int rc = 0;
    if (needs_tiles(tiling, 0, H, W))
        rc = grid_init(&rows, &cols, c, tiling, 0, H, W, err);
    if (!rc && needs_tiles(tiling, 1, H / s, W / s))
        rc = grid_init(&rows, &cols, c, tiling, 1, H / s, W / s, err);
    return rc;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Blends the chunk with its neighbours, first above, then left, and leaves its own edges. */
static int blend(const Job *j, const Tile *tile, int64_t t0, const Tensor *cur)
{
    Backend *be = j->v->be;
    const int64_t *d = cur->dim, zero[4] = {0};
    int rc = 0;
    if (tile->above) {
        Tensor s = tensor_rows(tile->above, t0, d[0]);
        rc = op_blend(be, cur, &s, 1, s.dim[1] < d[1] ? s.dim[1] : d[1], j->err);
    }
    if (!rc && tile->left) {
        Tensor s = tensor_rows(tile->left, t0, d[0]);
        rc = op_blend(be, cur, &s, 2, s.dim[2] < d[2] ? s.dim[2] : d[2], j->err);
    }
    if (!rc && tile->below) {
        Tensor s = tensor_rows(tile->below, t0, d[0]);
        int64_t from[4] = {0, d[1] - s.dim[1], 0, 0};
        rc = op_copy_box(be, &s, zero, cur, from, s.dim, j->err);
    }
    if (!rc && tile->right) {
        Tensor s = tensor_rows(tile->right, t0, d[0]);
        int64_t from[4] = {0, 0, d[2] - s.dim[2], 0};
        rc = op_copy_box(be, &s, zero, cur, from, s.dim, j->err);
    }
    return rc;
}

static int run_tile(const Job *j, const Tile *tile)
{
    Vae *v = j->v;
    int64_t mark = arena_mark(j->work), n = n_chunks(j->T, j->chunk), t = 0, ot = 0;
    int rc = n > 1 ? vae_caches_take(v, j->net, j->work, tile->h, tile->w, j->err) : 0;
    for (int64_t k = 0; k < n && !rc; k++) {
        int64_t inner = arena_mark(j->work), frames = chunk_frames(j->T, j->chunk, k),
                made = vae_net_frames(j->net, frames);
        Tensor in, out;
        if ((rc = arena_tensor(j->work, &out, v->be->act, 4, j->err, made, tile->oh, tile->ow, j->Co)) ||
            (rc = arena_tensor(j->work, &in, v->be->act, 4, j->err, frames, tile->h, tile->w, j->Ci)))
            break;
        if ((rc = read_box(j, tile, t, &in)) ||
            (rc = vae_pass(v, j->net, j->work, &out, &in, k == 0, k == n - 1, j->err)) ||
            (rc = blend(j, tile, ot, &out)) || (rc = write_box(j, tile, ot, &out)))
            break;
        t += frames;
        ot += made;
        arena_reset(j->work, inner);
    }
    arena_reset(j->work, mark);
    return rc;
}

/* Output size of an input extent. */
static int64_t scaled(const Job *j, int64_t n)
{
    int64_t s = vae_scale(&j->v->c);
    return j->net->decoder ? n * s : n / s;
}

static int run_grid(const Job *j, const Axis *rows, const Axis *cols, Tensor *above)
{
    Err *err = j->err;
    DType act = j->v->be->act;
    Tensor left;
    int rc = 0;
    for (int64_t c = 0; c < cols->n && rows->n > 1 && !rc; c++) {
        int64_t wide = scaled(j, least(cols->tile, j->W - c * cols->stride));
        rc = arena_tensor(j->work, &above[c], act, 4, err, j->To, rows->extent, wide, j->Co);
    }
    for (int64_t r = 0; r < rows->n && !rc; r++) {
        int64_t mark = arena_mark(j->work), high = least(rows->tile, j->H - r * rows->stride), made = scaled(j, high);
        if (cols->n > 1)
            rc = arena_tensor(j->work, &left, act, 4, err, j->To, made, cols->extent, j->Co);
        for (int64_t c = 0; c < cols->n && !rc; c++) {
            int64_t wide = least(cols->tile, j->W - c * cols->stride);
            Tile t = {.y0 = r * rows->stride,
                      .x0 = c * cols->stride,
                      .h = high,
                      .w = wide,
                      .oy = r * rows->keep,
                      .ox = c * cols->keep,
                      .oh = made,
                      .ow = scaled(j, wide),
                      .above = r && rows->extent ? &above[c] : NULL,
                      .left = c && cols->extent ? &left : NULL,
                      .below = r + 1 < rows->n && rows->extent ? &above[c] : NULL,
                      .right = c + 1 < cols->n && cols->extent ? &left : NULL};
            t.keep_h = least(t.oh, rows->keep);
            t.keep_w = least(t.ow, cols->keep);
            rc = run_tile(j, &t);
        }
        arena_reset(j->work, mark);
    }
    return rc;
}

/* Room for so many floats in v->staging. */
static int stage(Vae *v, int64_t room, Err *err)
{
    if (v->be->plan || room <= v->staging_room)
        return 0;
    mem_free_aligned(v->staging);
    v->staging = mem_alloc_aligned(room * (int64_t)sizeof(float), err);
    v->staging_room = v->staging ? room : 0;
    return v->staging ? 0 : ERR_NOMEM;
}

static int run(Job *j, const VaeTiling *tiling)
{
    int rc = 0;
    Axis rows = {.tile = j->H, .stride = j->H, .keep = j->Ho, .n = 1},
         cols = {.tile = j->W, .stride = j->W, .keep = j->Wo, .n = 1};
    if (needs_tiles(tiling, j->net->decoder, j->H, j->W) &&
        (rc = grid_init(&rows, &cols, &j->v->c, tiling, j->net->decoder, j->H, j->W, j->err)))
        return rc;
    int64_t frames = chunk_frames(j->T, j->chunk, 0), h = least(rows.tile, j->H), w = least(cols.tile, j->W);
    int64_t in = frames * h * w * j->Ci, out = vae_net_frames(j->net, frames) * scaled(j, h) * scaled(j, w) * j->Co;
    int64_t mark = arena_mark(j->work);
    Tensor *above = mem_calloc(cols.n, sizeof *above, j->err);
    rc = above ? stage(j->v, in > out ? in : out, j->err) : ERR_NOMEM;
    if (rc == 0)
        rc = run_grid(j, &rows, &cols, above);
    arena_reset(j->work, mark);
    mem_free(above);
    return rc;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static int check_size(const char *what, int64_t T, int64_t H, int64_t W, int64_t multiple, Err *err)
{
    const int64_t most = 1 << 14;
    if (T < 1 || H < 1 || W < 1 || H % multiple || W % multiple)
        return err_set(err, ERR_USAGE,
                       "%s: %" PRId64 " frames of %" PRId64 "x%" PRId64
                       " (width x height): sizes must be positive multiples of %" PRId64,
                       what, T, W, H, multiple);
    if (T > most || H > most || W > most)
        return err_set(err, ERR_LIMIT,
                       "%s: %" PRId64 " frames of %" PRId64 "x%" PRId64 " (width x height): more than %" PRId64
                       " on an axis",
                       what, T, W, H, most);
    return 0;
}

static int check_opened(const VaeNet *net, Err *err)
{
    return net->conv_in.w->value.data
               ? 0
               : err_set(err, ERR_USAGE, "the VAE was opened to %s only", net->decoder ? "encode" : "decode");
}

static int encode(Vae *v, Arena *work, const VaeTiling *tiling, float *moments, const float *pixels, const uint8_t *rgb,
                  int64_t T, int64_t H, int64_t W, Err *err)
{
    int64_t s = vae_scale(&v->c);
    int rc = check_size("VAE encode", T, H, W, s, err);
    if (rc || (rc = check_opened(&v->enc, err)))
        return rc;
    Job j = {.v = v,
             .net = &v->enc,
             .work = work,
             .in = pixels,
             .rgb = rgb,
             .out = moments,
             .T = T,
             .H = H,
             .W = W,
             .To = v->whole_clip ? vae_net_frames(&v->enc, T) : vae_latent_frames(&v->c, T),
             .Ho = H / s,
             .Wo = W / s,
             .Ci = v->enc.in_channels,
             .Co = v->enc.out_channels,
             .chunk = v->whole_clip ? T : VAE_PIXEL_CHUNK,
             .err = err};
    return run(&j, tiling);
}

int vae_encode(Vae *v, Arena *work, const VaeTiling *tiling, float *moments, const float *pixels, int64_t T, int64_t H,
               int64_t W, Err *err)
{
    return encode(v, work, tiling, moments, pixels, NULL, T, H, W, err);
}

int vae_encode_rgb(Vae *v, Arena *work, const VaeTiling *tiling, float *moments, const uint8_t *rgb, int64_t T,
                   int64_t H, int64_t W, Err *err)
{
    return encode(v, work, tiling, moments, NULL, rgb, T, H, W, err);
}

static int check_finite(const float *x, int64_t n, Err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return err_set(err, ERR_FORMAT,
                           "decoding gave a value that is not finite: a weight of the VAE is damaged, or the latents "
                           "are");
    return 0;
}

int vae_decode(Vae *v, Arena *work, const VaeTiling *tiling, float *pixels, const float *z, int64_t L, int64_t h,
               int64_t w, Err *err)
{
    int64_t s = vae_scale(&v->c);
    int rc = check_size("VAE decode", L, h, w, 1, err);
    if (rc || (rc = check_opened(&v->dec, err)))
        return rc;
    Job j = {.v = v,
             .net = &v->dec,
             .work = work,
             .in = z,
             .out = pixels,
             .T = L,
             .H = h,
             .W = w,
             .To = vae_pixel_frames(&v->c, L),
             .Ho = h * s,
             .Wo = w * s,
             .Ci = v->dec.in_channels,
             .Co = v->dec.out_channels,
             .chunk = VAE_LATENT_CHUNK,
             .err = err};
    rc = run(&j, tiling);
    return rc == 0 && pixels ? check_finite(pixels, j.To * j.Ho * j.Wo * j.Co, err) : rc;
}

void vae_set_chunked(Vae *v, int chunked)
{
    v->whole_clip = !chunked;
}

VaeTiling vae_tiling_default(const VaeConfig *c, int enabled)
{
    VaeTiling t = {.enabled = enabled,
                   .pixel_height = c->sample_height / 2,
                   .pixel_width = c->sample_width / 2,
                   .overlap_height = 1.0 / 6,
                   .overlap_width = 1.0 / 5};
    t.latent_height = t.pixel_height / vae_scale(c);
    t.latent_width = t.pixel_width / vae_scale(c);
    return t;
}

void pixels_to_rgb(uint8_t *rgb, const float *pixels, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = pixels[i] * 0.5f + 0.5f;
        rgb[i] = (uint8_t)nearbyintf((v > 0 ? v < 1 ? v : 1 : 0) * 255.0f); /* NaN becomes 0 */
    }
}

/* ---- planning -------------------------------------------------------------------------------- */

static int plan(const VaeConfig *c, DType act, const VaeTiling *tiling, int decode, int64_t T, int64_t H, int64_t W,
                int64_t *bytes, Err *err)
{
    Backend *be = NULL;
    Vae *v = NULL;
    Arena *work = NULL;
    int rc = backend_open(&be, "plan", 1, NULL, err);
    if (rc)
        goto fail;
    be->act = act;
    if ((rc = vae_new_filled(&v, be, c, err)) || (rc = arena_new(&work, be, 0, "vae", err)))
        goto fail;
    rc = decode ? vae_decode(v, work, tiling, NULL, NULL, T, H, W, err)
                : vae_encode(v, work, tiling, NULL, NULL, T, H, W, err);
    *bytes = arena_high(work);
fail:
    arena_free(&work);
    vae_close(&v);
    backend_close(&be);
    return rc;
}

int vae_plan_encode(const VaeConfig *c, DType act, const VaeTiling *tiling, int64_t T, int64_t H, int64_t W,
                    int64_t *bytes, Err *err)
{
    return plan(c, act, tiling, 0, T, H, W, bytes, err);
}

int vae_plan_decode(const VaeConfig *c, DType act, const VaeTiling *tiling, int64_t L, int64_t h, int64_t w,
                    int64_t *bytes, Err *err)
{
    return plan(c, act, tiling, 1, L, h, w, bytes, err);
}
