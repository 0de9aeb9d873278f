/* Memory from the plans that the encoders are run on, time from a measurement. */
#include <string.h>
#include "cache/build_internal.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/ops/ops.h"

enum {
    PROBE_SIDE = 64,
    PROBE_FRAMES = 9,
    RECORD_BYTES = RECORD_HEADER_SIZE + sizeof(Digest),
    ENTRY_BYTES = 1024 /* about */
};
#define READ_SECONDS 0.005 /* at least: each clip is decoded by a process of its own */

/* Operations a second of the products of a feed-forward layer, there and back, with weights of the encoder's type;
 * also makes BLAS take its buffers, and the back end its scratch, which is largest there. */
static int measure_rate(const Build *b, double *rate, Err *err)
{
    Backend *be = b->e->be;
    int64_t n = b->e->form.length, D = text_config_width(&b->e->text), F = text_config_inner(&b->e->text);
    void *block = NULL;
    Tensor x = tensor_of(NULL, be->act, 3, 1, n, D), y = tensor_of(NULL, be->act, 3, 1, n, F);
    Tensor out = tensor_of(NULL, b->e->text_type, 2, F, D), in = tensor_of(NULL, b->e->text_type, 2, D, F);
    int64_t bytes = tensor_bytes(&x) + tensor_bytes(&y) + tensor_bytes(&out);
    int rc = be->alloc(be, bytes, &block, err);
    float *zeros = rc == 0 ? mem_calloc(D * (F > n ? F : n), sizeof *zeros, err) : NULL;
    if (rc == 0 && !zeros)
        rc = ERR_NOMEM;
    x.data = block;
    y.data = (char *)block + tensor_bytes(&x);
    in.data = out.data = (char *)y.data + tensor_bytes(&y);
    if (rc == 0)
        rc = backend_put_f32(be, &x, zeros, err);
    if (rc == 0)
        rc = backend_put_f32(be, &out, zeros, err);
    double begin = time_now_s(), spent = 0;
    int runs = 0;
    for (; rc == 0 && (runs < 2 || (spent < 0.3 && runs < 50)); runs++) {
        if (runs == 1)
            begin = time_now_s(); /* the first one warms up */
        if ((rc = op_linear(be, &y, &x, &out, NULL, err)) == 0 && (rc = op_linear(be, &x, &y, &in, NULL, err)) == 0)
            rc = be->sync ? be->sync(be, err) : 0;
        spent = time_now_s() - begin;
    }
    *rate = 4.0 * (double)n * (double)D * (double)F * (runs - 1) / (spent > 1e-9 ? spent : 1e-9);
    mem_free(zeros);
    be->release(be, block);
    return rc;
}

static int predict_texts(const Build *b, int64_t texts, Prediction *out, Err *err)
{
    const Encoding *e = b->e;
    double rate = 1;
    int64_t work, pass = encoding_pass_texts(e), n = texts < pass ? texts : pass;
    Tensor t = encoding_text_shape(e);
    int rc = encoding_plan_text(e, &work, err);
    if (rc == 0)
        rc = measure_rate(b, &rate, err);
    if (rc < 0)
        return rc;
    out->texts_s = (double)texts * text_config_operations(&e->text, e->form.length) / rate;
    out->base = machine_memory_used();
    out->text = e->be->host ? work + text_config_kept(&e->text, e->form.length) : 0;
    out->text += n * tensor_count(&t) * (int64_t)sizeof(float) + tensor_bytes(&t);
    const CacheLoad batch[] = {{texts, b->p->n_text, RECORD_BYTES + tensor_bytes(&t)},
                               {texts, b->p->n_text, RECORD_BYTES + e->form.length * (int64_t)sizeof(int32_t)}};
    out->text += cache_batch_memory(batch, 2, BUILD_BATCH);
    return 0;
}

/* A small clip's time, scaled by the number of pixels. */
static int measure_clip(Build *b, const PreparedClip *like, double *seconds, Err *err)
{
    PreparedClip probe = *like;
    Encoder *encoder = NULL;
    probe.frames = like->frames < PROBE_FRAMES ? like->frames : PROBE_FRAMES;
    probe.height = like->height < PROBE_SIDE ? like->height : PROBE_SIDE;
    probe.width = like->width < PROBE_SIDE ? like->width : PROBE_SIDE;
    if (probe.frames > 1 && probe.frames % 8 > 1)
        probe.frames = like->frames;
    int64_t n = probe.frames * probe.height * probe.width;
    uint8_t *rgb = mem_calloc(n, 3, err);
    int rc = rgb ? encoder_open_clips(&encoder, b->e, &probe, err) : ERR_NOMEM;
    for (int i = 0; rc == 0 && i < 2; i++) {
        double begin = time_now_s();
        rc = encoder_compute(encoder, &probe, rgb, err);
        *seconds = time_now_s() - begin;
    }
    *seconds *= (double)(like->frames * like->height * like->width) / (double)n;
    encoder_close(&encoder);
    mem_free(rgb);
    return rc;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The pixels of a tile's first chunk as floats: 8 frames and what is over (common/model/vae.h). */
static int64_t staging(const Build *b, const PreparedClip *c)
{
    const VaeTiling *t = &b->e->tiling;
    int64_t frames = c->frames < 16 ? c->frames : 8 + c->frames % 8;
    int64_t high = t->enabled ? least(t->pixel_height, c->height) : c->height;
    int64_t wide = t->enabled ? least(t->pixel_width, c->width) : c->width;
    return frames * high * wide * 3 * (int64_t)sizeof(float);
}

static int predict_clips(Build *b, int64_t clips, Prediction *out, Err *err)
{
    const PreparedClip size = prepared_size(b->p), *c = &size;
    int64_t work;
    double seconds = 0;
    Tensor t = encoding_latents_shape(b->e, c);
    int rc = encoding_plan_clip(b->e, c, &work, err);
    if (rc == 0)
        rc = measure_clip(b, c, &seconds, err);
    if (rc < 0)
        return rc;
    out->clips_s = (double)clips * seconds;
    out->base = machine_memory_used();
    out->vae = (b->e->be->host ? b->e->vae_bytes + work : 0) + tensor_count(&t) * (int64_t)sizeof(float);
    out->vae += tensor_bytes(&t); /* in the queue */
    out->vae += staging(b, c);
    double each = seconds > READ_SECONDS ? seconds : READ_SECONDS;
    int64_t n = least(clips, 2 + (int64_t)(CACHE_BATCH_SECONDS / each)); /* one may be late */
    const CacheLoad batch[] = {{n, b->p->n, RECORD_BYTES + tensor_bytes(&t)}, {n, b->p->n, ENTRY_BYTES}};
    out->vae += cache_batch_memory(batch, 2, BUILD_BATCH);
    out->pixels = reader_bytes(clips, b->p->rgb_bytes);
    return 0;
}

int build_predict(Build *b, int64_t texts, int64_t clips, Prediction *out, Err *err)
{
    *out = (Prediction){.base = machine_memory_used()};
    int rc = texts > 0 ? predict_texts(b, texts, out, err) : 0;
    if (rc == 0 && clips > 0)
        rc = predict_clips(b, clips, out, err);
    int64_t clip_part = out->vae + out->pixels;
    out->peak = out->base + (out->text > clip_part ? out->text : clip_part);
    return rc;
}
