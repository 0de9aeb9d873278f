/* A tiny transformer with adapters, for the tests of LoRA. */
#ifndef WEFT_TESTS_UNIT_MODEL_LORA_CASE_H
#define WEFT_TESTS_UNIT_MODEL_LORA_CASE_H
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/mem.h"
#include "common/model/dit_lora.h"
#include "common/ops/ops.h"

enum { B = 1, F = 2, H = 4, W = 4, C = 4, S = 5, TEXT = 12, VALUES = B * F * H * W * C };

static const char *const attention[] = {"to_q", "to_k", "to_v", "to_out.0"};
static const char *const every[] = {"to_q",      "to_k",     "to_v",     "to_out.0", "net.0.proj", "net.2",
                                    "text_proj", "linear_1", "linear_2", "linear",   "proj_out"};

static inline DitConfig tiny_config(void)
{
    return (DitConfig){.heads = 2,
                       .head_dim = 16,
                       .layers = 2,
                       .in_channels = C,
                       .out_channels = C,
                       .patch = 2,
                       .time_dim = 8,
                       .text_dim = TEXT,
                       .text_len = S,
                       .sample_width = W,
                       .sample_height = H,
                       .sample_frames = 9,
                       .temporal_ratio = 4,
                       .spatial_scale = 1.875,
                       .temporal_scale = 1.0,
                       .norm_eps = 1e-5,
                       .flip_sin_to_cos = 1};
}

typedef struct Case {
    Backend *be;
    Dit *dit;
    Arena *work;
    Tensor latents, text, v, grad_v;
    Err err;
} Case;

static inline void put_filler(Case *k, const Tensor *t, uint32_t seed)
{
    int64_t n = tensor_count(t);
    float *host = mem_calloc(n, sizeof *host, &k->err);

    filler_input(seed, host, n);
    CHECK_OK(backend_put_f32(k->be, t, host, &k->err), &k->err);
    mem_free(host);
}

/* A frozen model; adapters are added by the caller. */
static inline void case_open(Case *k, const char *backend)
{
    DitConfig c = tiny_config();

    memset(k, 0, sizeof *k);
    CHECK_OK(backend_open(&k->be, backend, 1, NULL, &k->err), &k->err);
    CHECK_OK(dit_new_filled(&k->dit, k->be, &c, DIT_MAPPED, &k->err), &k->err);
    CHECK_OK(arena_new(&k->work, k->be, 8 << 20, "test", &k->err), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->latents, k->be->act, 5, &k->err, B, F, H, W, C), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->v, k->be->act, 5, &k->err, B, F, H, W, C), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->grad_v, k->be->act, 5, &k->err, B, F, H, W, C), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->text, k->be->act, 3, &k->err, B, S, TEXT), &k->err);
    put_filler(k, &k->latents, 1);
    put_filler(k, &k->text, 2);
    put_filler(k, &k->grad_v, 3);
}

static inline void case_close(Case *k)
{
    arena_free(&k->work);
    dit_close(&k->dit);
    backend_close(&k->be);
}

/* Adapters with a scale of 2 and values everywhere. */
static inline void add(Case *k, const char *const *target, int64_t n, int64_t rank)
{
    DitLora l = {.rank = rank, .alpha = 2.0 * (double)rank, .target = target, .targets = n, .seed = 9};
    ParamSet *ps;

    CHECK_OK(dit_add_lora(k->dit, &l, DIT_TRAIN, &k->err), &k->err);
    ps = dit_trainable(k->dit);
    for (int64_t i = 1; i < ps->n; i += 2) { /* the Bs: after each A */
        int64_t count = tensor_count(&ps->param[i].value);
        float *host = mem_calloc(count, sizeof *host, &k->err);
        assert_non_null(strstr(ps->param[i].name, ".lora_B.weight"));
        filler_input((uint32_t)(100 + i), host, count);
        for (int64_t j = 0; j < count; j++)
            host[j] *= 0.1f;
        CHECK_OK(params_put(ps, &ps->param[i], host, &k->err), &k->err);
        mem_free(host);
    }
}

static inline float *host_of(Case *k, const Tensor *t)
{
    float *host = mem_calloc(tensor_count(t), sizeof *host, &k->err);

    CHECK_OK(backend_get_f32(k->be, host, t, &k->err), &k->err);
    return host;
}

static inline float *forward(Case *k)
{
    CHECK_OK(dit_forward(k->dit, k->work, &k->v, &k->latents, &k->text, (int64_t[]){500}, &k->err), &k->err);
    return host_of(k, &k->v);
}
#endif
