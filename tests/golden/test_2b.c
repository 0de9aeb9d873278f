/* The real 2B shapes: a random-weight checkpoint with the true configs is written (3.8 GB in the
 * temporary folder), opened memory-mapped, and run forward at a reduced latent size, within 12 GiB.
 * Skipped where the temporary folder has less than 6 GB. */
#include "tests/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/model/dit.h"
#include "common/model/vae.h"

enum { F = 3, H = 8, W = 6, C = 16, TEXT = 226, TEXT_DIM = 4096 };

static double peak_gib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / (1 << 20);
}

/* One forward pass at the reduced size; on the plan back end nothing is computed and out is NULL.
 * Returns the memory it took. */
static int64_t forward(Dit *dit, Backend *be, int64_t bytes, float *out)
{
    Err err = {0};
    Arena *a = NULL;
    Tensor x, y, text;
    const int64_t step = 500;
    CHECK_OK(arena_new(&a, be, bytes, "2B forward", &err), &err);
    CHECK_OK(arena_tensor(a, &x, be->act, 5, &err, 1, F, H, W, C), &err);
    CHECK_OK(arena_tensor(a, &y, be->act, 5, &err, 1, F, H, W, C), &err);
    CHECK_OK(arena_tensor(a, &text, be->act, 3, &err, 1, TEXT, TEXT_DIM), &err);
    if (out) {
        float *in = mem_calloc(TEXT * TEXT_DIM, sizeof *in, &err);
        filler_input(1, in, F * H * W * C);
        CHECK_OK(backend_put_f32(be, &x, in, &err), &err);
        filler_input(2, in, TEXT * TEXT_DIM);
        CHECK_OK(backend_put_f32(be, &text, in, &err), &err);
        mem_free(in);
    }
    CHECK_OK(dit_forward(dit, a, &y, &x, &text, &step, &err), &err);
    if (out)
        CHECK_OK(backend_get_f32(be, out, &y, &err), &err);
    int64_t high = arena_high(a);
    arena_free(&a);
    return high;
}

static void forward_2b(void **state)
{
    Err err = {0};
    Backend *plan = NULL, *cpu = NULL;
    Dit *dit = NULL;
    (void)state;
    const char *dir = check_tmp(), *build = getenv("WEFT_BUILD");
    struct statvfs fs;
    if (statvfs(dir, &fs) != 0 || (double)fs.f_bavail * (double)fs.f_frsize < 6e9)
        check_skip("2B shapes: less than 6 GB in the temporary folder");
    char *folder = check_tmp_path("2b");
    char *command = mem_printf(&err, "'%s/tests/tools/make_2b' '%s'", build ? build : "build/release", folder);
    assert_int_equal(system(command), 0);
    char *transformer = path_join(folder, "transformer", &err);

    /* Planned before it is allocated. */
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(dit_open(&dit, plan, transformer, DIT_MAPPED, &err), &err);
    assert_int_equal(params_count(dit_params(dit)), 1693783872);
    int64_t bytes = forward(dit, plan, 0, NULL);
    dit_close(&dit);

    CHECK_OK(backend_open(&cpu, "cpu", 0, NULL, &err), &err);
    double start = time_now_s();
    CHECK_OK(dit_open(&dit, cpu, transformer, DIT_MAPPED, &err), &err);
    double opened = time_now_s() - start;
    assert_true(opened < 5.0); /* mapped, not read */
    float *out = mem_calloc(F * H * W * C, sizeof *out, &err);
    forward(dit, cpu, bytes, out);
    double sum = 0;
    for (int64_t i = 0; i < F * H * W * C; i++) {
        assert_true(isfinite(out[i]));
        sum += out[i] * (double)out[i];
    }
    assert_true(sum > 0);
    print_message("# 2B: opened in %.2f s, working memory %.1f MiB, peak resident %.2f GiB, %.1f s in all\n", opened,
                  (double)bytes / 1048576, peak_gib(), time_now_s() - start);
    assert_true(peak_gib() < 12.0);
    mem_free(out);
    dit_close(&dit);

    /* The VAE's weights load too; its memory at 480x720 is known without running it. */
    char *vae_dir = path_join(folder, "vae", &err);
    Vae *vae = NULL;
    CHECK_OK(vae_open(&vae, cpu, vae_dir, VAE_BOTH, &err), &err);
    assert_int_equal(params_count(vae_params(vae)), 215583907);
    VaeTiling whole = vae_tiling_default(vae_config(vae), 0);
    int64_t encode = 0, decode = 0;
    CHECK_OK(vae_plan_encode(vae_config(vae), cpu->act, &whole, 49, 720, 480, &encode, &err), &err);
    CHECK_OK(vae_plan_decode(vae_config(vae), cpu->act, &whole, 13, 90, 60, &decode, &err), &err);
    print_message("# VAE at 480x720, 49 frames: encode %.2f GiB, decode %.2f GiB\n", (double)encode / (1 << 30),
                  (double)decode / (1 << 30));
    assert_true(encode > (int64_t)3 << 30 && encode < (int64_t)14 << 30);
    assert_true(decode > (int64_t)6 << 30 && decode < (int64_t)18 << 30);
    vae_close(&vae);
    backend_close(&cpu);
    backend_close(&plan);
    CHECK_OK(dir_remove(folder, &err), &err);
    mem_free(command);
    mem_free(transformer);
    mem_free(vae_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forward_2b)};
    return check_run("2b", tests);
}
