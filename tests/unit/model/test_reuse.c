/* Blocks that are left out: of the same input, what was kept gives the same output. */
#include "tests/check.h"

#include <math.h>
#include <string.h>

#include "common/model/dit.h"
#include "common/ops/arena.h"

enum { F = 3, H = 4, W = 2, C = 4, TEXT = 5, DIM = 6, VALUES = 2 * F * H * W * C, D = 16 };

static void fill(float *x, int n, int seed)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)sin(0.37 * i + seed);
}

static void kept_blocks(const char *device)
{
    static const DitConfig c = {.heads = 2,
                                .head_dim = 8,
                                .layers = 5,
                                .in_channels = C,
                                .out_channels = C,
                                .patch = 2,
                                .time_dim = 4,
                                .text_dim = DIM,
                                .text_len = TEXT,
                                .sample_width = W,
                                .sample_height = H,
                                .sample_frames = 9,
                                .temporal_ratio = 4,
                                .spatial_scale = 1,
                                .temporal_scale = 1,
                                .norm_eps = 1e-5,
                                .flip_sin_to_cos = 1};
    const int64_t t[2] = {700, 700};
    static float in[VALUES], words[2 * TEXT * DIM], all[VALUES], recorded[VALUES], used[VALUES];
    static double want[VALUES];
    Err err = {0};
    Backend *be = NULL;
    Dit *d = NULL;
    Arena *work = NULL;
    Tensor x, v, text;
    DitReuse r = {.first = 1, .last = 4};
    CHECK_OK(backend_open(&be, device, 1, NULL, &err), &err);
    CHECK_OK(dit_new_filled(&d, be, &c, DIT_MAPPED, &err), &err);
    CHECK_OK(arena_new(&work, be, 4 << 20, "test", &err), &err);
    CHECK_OK(arena_tensor(work, &x, be->act, 5, &err, 2, F, H, W, C), &err);
    CHECK_OK(arena_tensor(work, &v, be->act, 5, &err, 2, F, H, W, C), &err);
    CHECK_OK(arena_tensor(work, &text, be->act, 3, &err, 2, TEXT, DIM), &err);
    CHECK_OK(arena_tensor(work, &r.kept, be->act, 3, &err, 2, TEXT + F * H / 2 * W / 2, D), &err);
    fill(in, VALUES, 1);
    fill(words, 2 * TEXT * DIM, 2);
    CHECK_OK(backend_put_f32(be, &x, in, &err), &err);
    CHECK_OK(backend_put_f32(be, &text, words, &err), &err);

    CHECK_OK(dit_forward(d, work, &v, &x, &text, t, &err), &err);
    CHECK_OK(backend_get_f32(be, all, &v, &err), &err);
    dit_set_reuse(d, &r);
    CHECK_OK(dit_forward(d, work, &v, &x, &text, t, &err), &err);
    CHECK_OK(backend_get_f32(be, recorded, &v, &err), &err);
    assert_memory_equal(recorded, all, sizeof all); /* keeping changes no bit */
    r.use = 1;
    CHECK_OK(dit_forward(d, work, &v, &x, &text, t, &err), &err);
    CHECK_OK(backend_get_f32(be, used, &v, &err), &err);
    for (int i = 0; i < VALUES; i++)
        want[i] = all[i];
    check_rel_l2("x + (f(x) - x)", used, want, VALUES, 1e-5);
    fill(in, VALUES, 3);
    CHECK_OK(backend_put_f32(be, &x, in, &err), &err);
    CHECK_OK(dit_forward(d, work, &v, &x, &text, t, &err), &err);
    CHECK_OK(backend_get_f32(be, used, &v, &err), &err);
    dit_set_reuse(d, NULL);
    CHECK_OK(dit_forward(d, work, &v, &x, &text, t, &err), &err);
    CHECK_OK(backend_get_f32(be, all, &v, &err), &err);
    assert_true(memcmp(used, all, sizeof all) != 0); /* of another input it is not exact */
    arena_free(&work);
    dit_close(&d);
    backend_close(&be);
}

static void on_ref(void **state)
{
    (void)state;
    kept_blocks("ref");
}

static void on_cpu(void **state)
{
    (void)state;
    kept_blocks("cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_ref), cmocka_unit_test(on_cpu)};
    return check_run_live("reuse", tests);
}
