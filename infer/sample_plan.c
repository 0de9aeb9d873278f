/* What a run will take, before it starts: memory of each part by running it on the plan back end, time
 * from a short measurement of this device. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/ops/ops.h"
#include "infer/sample_internal.h"

static double gib(double bytes)
{
    return bytes / (1 << 30);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Bytes that the parts take together at the worst moment.  The host's weights are files that are mapped
 * and can be dropped at any time: they do not count. */
static int64_t peak_of(const Run *r, const PipelineMemory *m)
{
    int64_t text = m->text_bytes, denoise = m->denoise_bytes, decode = m->decode_bytes;
    int apart = r->offload == OFFLOAD_ALWAYS || (r->offload == OFFLOAD_AUTO && r->be->host);
    if (r->be->host) {
        decode += m->frame_bytes;
    } else {
        text += m->text_weights;
        denoise += m->dit_weights;
        decode += m->vae_weights;
    }
    if (r->offload == OFFLOAD_NEVER)
        return text + denoise + decode;
    int64_t late = apart ? (denoise > decode ? denoise : decode) : denoise + decode;
    return text > late ? text : late;
}

static int describe_memory(const Run *r, Str *out, Err *err)
{
    PipelineMemory m;
    int rc = pipeline_plan(r->pipe, &m, err);
    if (rc < 0)
        return rc;
    return str_printf(
        out, err,
        "working memory, weights apart: text encoder %.1f MiB, transformer %.1f MiB, VAE decoder %.1f MiB, "
        "a video's frames %.1f MiB\n"
        "weights%s: text encoder %.2f GiB, transformer %.2f GiB, VAE %.2f GiB; at most %.2f GiB at a time "
        "with --offload %s\n",
        (double)m.text_bytes / 1048576, (double)m.denoise_bytes / 1048576, (double)m.decode_bytes / 1048576,
        (double)m.frame_bytes / 1048576, r->be->host ? ", mapped from their files" : "", gib((double)m.text_weights),
        gib((double)m.dit_weights), gib((double)m.vae_weights), gib((double)peak_of(r, &m)), r->o->offload);
}

/* ---- time ------------------------------------------------------------------------------------ */

static const double long_enough = 0.05; /* seconds of a measurement */

/* The tensors of one measured operation, in one block. */
typedef struct Bench {
    Backend *be;
    Arena *work;
    Tensor x, w, y, q, o;
    int64_t heads, dim;
} Bench;

static int take(Bench *b, int64_t rows, Err *err)
{
    int64_t D = b->heads * b->dim;
    int64_t bytes = (rows * 7 * D + 4 * D * D) * dtype_size(b->be->act) + 4096;
    int rc = arena_new(&b->work, b->be, bytes, "a measurement", err);
    if (rc == 0)
        rc = arena_tensor(b->work, &b->x, b->be->act, 2, err, rows, D);
    if (rc == 0)
        rc = arena_tensor(b->work, &b->w, b->be->act, 2, err, 4 * D, D);
    if (rc == 0)
        rc = arena_tensor(b->work, &b->y, b->be->act, 2, err, rows, 4 * D);
    if (rc == 0)
        rc = arena_tensor(b->work, &b->q, b->be->act, 3, err, 1, rows, D);
    if (rc == 0)
        rc = arena_tensor(b->work, &b->o, b->be->act, 3, err, 1, rows, D);
    if (rc == 0)
        rc = op_fill(b->be, &b->x, 0.01, err);
    if (rc == 0)
        rc = op_fill(b->be, &b->w, 0.01, err);
    return rc == 0 ? op_fill(b->be, &b->q, 0.01, err) : rc;
}

static int once(const Bench *b, int attention, Err *err)
{
    AttnParams p = {.heads = b->heads, .scale = 0.125};
    return attention ? op_attention(b->be, &b->o, NULL, &b->q, &b->q, &b->q, &p, err)
                     : op_linear(b->be, &b->y, &b->x, &b->w, NULL, err);
}

/* Operations a second of a product (or of attention) over so many rows, of as many rounds as take
 * `long_enough`; the first round, in which libraries start, is not counted. */
static int rate_of(const Bench *b, int64_t rows, int attention, double *rate, Err *err)
{
    double D = (double)(b->heads * b->dim), n = (double)rows, each = attention ? 4 * n * n * D : 8 * n * D * D,
           took = 0;
    int64_t rounds = 0;
    int rc = once(b, attention, err);
    if (rc == 0)
        rc = b->be->sync(b->be, err);
    double start = time_now_s();
    while (rc == 0 && took < long_enough) {
        rc = once(b, attention, err);
        if (rc == 0)
            rc = b->be->sync(b->be, err);
        took = time_now_s() - start;
        rounds++;
    }
    *rate = rc == 0 ? each * (double)rounds / took : 0;
    return rc;
}

/* Seconds of one pass of the transformer on this device, 0 where that is not measured. */
static int measure_pass(const Run *r, double *seconds, Err *err)
{
    PipelineSizes z = r->sizes;
    Bench b = {.be = r->be, .heads = z.heads, .dim = z.head_dim};
    int64_t rows = z.tokens < 512 ? z.tokens : 512;
    double D = (double)(z.heads * z.head_dim), N = (double)z.tokens, products = 0, attention = 0;
    *seconds = 0;
    if (strcmp(r->be->name, "cpu") != 0 && strcmp(r->be->name, "cuda") != 0)
        return 0;
    int rc = take(&b, rows, err);
    if (rc == 0)
        rc = rate_of(&b, rows, 0, &products, err);
    if (rc == 0)
        rc = rate_of(&b, rows, 1, &attention, err);
    arena_free(&b.work);
    if (rc == 0)
        *seconds = (double)z.layers * (24 * N * D * D / products + 4 * N * N * D / attention);
    return rc;
}

/* Passes of the transformer for all samples that this process has to make. */
static double passes(const Run *r)
{
    double all = 0, share = r->o->guidance_share > 0 ? r->o->guidance_share : 1;
    for (int64_t i = r->shard; i < r->prompts.n; i += r->shards) {
        const Prompt *p = &r->prompts.item[i];
        if (!r->job || !r->job[i].done)
            all += (double)prompt_steps(r, p) * (prompt_guidance(r, p) > 1.0 ? 1 + share : 1);
    }
    return all;
}

static int describe_time(const Run *r, Str *out, Err *err)
{
    double seconds, all = passes(r);
    char text[32];
    Err unmeasured = {0}; /* memory that is short now need not be so for the run itself: no forecast then */
    if (all <= 0 || measure_pass(r, &seconds, &unmeasured) < 0 || seconds <= 0)
        return 0;
    return str_printf(out, err,
                      "time: about %s for the products and attention of %.0f passes of the transformer, as measured on "
                      "this device now; all else comes on top\n",
                      time_duration(seconds * all, text), all);
}

int sample_describe(const Run *r, Str *out, Err *err)
{
    int rc = describe_memory(r, out, err);
    return rc == 0 ? describe_time(r, out, err) : rc;
}
