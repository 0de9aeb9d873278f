/* Noise schedule, timesteps, DDIM and DPM coefficients, guidance: the printed values of the
 * reference implementation (MODEL.md section 4), and what a sampler makes of them. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/schedule.h"
#include "common/ops/arena.h"

static Schedule default_schedule(void)
{
    Schedule s;
    Err err = {0};

    CHECK_OK(schedule_init_default(&s, &err), &err);
    return s;
}

static void alpha_bar_table(void **state)
{
    static const struct {
        int64_t t;
        double alpha;
    } row[] = {
        {0, 0.997454327643007},      {1, 0.99480062642698},       {10, 0.970785768866012},
        {19, 0.946572979237755},     {39, 0.89233133852726},      {99, 0.730866866758863},
        {199, 0.490373106500153},    {299, 0.306367939410882},    {399, 0.178615234117946},
        {499, 0.0959695616907354},   {599, 0.0461613739603478},   {699, 0.0188306237958065},
        {799, 0.00582107548947729},  {899, 0.000968787982023056}, {959, 0.000119095607773903},
        {979, 2.71943604002177e-05}, {998, 6.23078846739516e-08},
    };
    Schedule s = default_schedule();

    (void)state;
    assert_int_equal(s.n_train, 1000);
    /* 15 printed digits; the products of 1000 factors carry about 1e-13 */
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        check_value("alpha_bar", s.alpha_bar[row[i].t], row[i].alpha, 0, 1e-12);
    assert_true(s.alpha_bar[999] == 0);
    assert_true(s.final_alpha == 1);
    for (int64_t t = 1; t < 1000; t++)
        assert_true(s.alpha_bar[t] < s.alpha_bar[t - 1]);
    schedule_fini(&s);
}

static void timesteps_trailing(void **state)
{
    int64_t t[1000];
    Schedule s = default_schedule();
    Err err = {0};

    (void)state;
    CHECK_OK(schedule_timesteps(&s, 50, t, &err), &err);
    for (int64_t k = 0; k < 50; k++)
        assert_int_equal(t[k], 999 - 20 * k);
    CHECK_OK(schedule_timesteps(&s, 1, t, &err), &err);
    assert_int_equal(t[0], 999);
    CHECK_OK(schedule_timesteps(&s, 1000, t, &err), &err);
    assert_int_equal(t[999], 0);
    /* 60 does not divide 1000: the list is fine, but the last step goes to timestep 0, not past the
     * end */
    CHECK_OK(schedule_timesteps(&s, 60, t, &err), &err);
    assert_int_equal(t[59], 16);
    assert_int_equal(t[59] - 1000 / 60, 0);
    schedule_fini(&s);
}

/* For 62 counts floating point gives one timestep too many, the last being -1: refused, with the
 * nearest divisors. */
static void timesteps_refused(void **state)
{
    static const int64_t first[] = {61, 103, 121, 122, 201};
    int64_t t[1001], refused = 0;
    Schedule s = default_schedule();
    Err err = {0};

    (void)state;
    for (int64_t n = 1; n <= 1000; n++) {
        int rc = schedule_timesteps(&s, n, t, &err);
        err_clear(&err);
        assert_int_equal(schedule_check_steps(&s, n, &err), rc);
        if (rc < 0) {
            if (refused < 5)
                assert_int_equal(n, first[refused]);
            refused++;
            err_clear(&err);
        }
    }
    assert_int_equal(refused, 62);
    CHECK_FAILS(schedule_timesteps(&s, 61, t, &err), ERR_USAGE, "50 and 100", &err);
    CHECK_FAILS(schedule_timesteps(&s, 0, t, &err), ERR_USAGE, "expected 1 to 1000", &err);
    CHECK_FAILS(schedule_timesteps(&s, 1001, t, &err), ERR_USAGE, "expected 1 to 1000", &err);
    schedule_fini(&s);
}

static void timesteps_other_spacings(void **state)
{
    int64_t t[50];
    Schedule s = default_schedule();
    Err err = {0};

    (void)state;
    s.spacing = SPACING_LEADING;
    CHECK_OK(schedule_timesteps(&s, 50, t, &err), &err);
    for (int64_t k = 0; k < 50; k++)
        assert_int_equal(t[k], 20 * (49 - k));
    s.steps_offset = 30; /* pushes the first one past the end */
    CHECK_FAILS(schedule_timesteps(&s, 50, t, &err), ERR_USAGE, "timestep 1010", &err);
    s.spacing = SPACING_LINSPACE; /* round(linspace(0, 999, 4)) = 0 333 666 999 */
    CHECK_OK(schedule_timesteps(&s, 4, t, &err), &err);
    assert_int_equal(t[0], 999);
    assert_int_equal(t[1], 666);
    assert_int_equal(t[2], 333);
    assert_int_equal(t[3], 0);
    schedule_fini(&s);
}

static void ddim_table(void **state)
{
    static const struct {
        int64_t t;
        double a, b;
    } row[] = {
        {999, 0.9999864027, 0.005214821224},
        {979, 0.9999540471, 0.005698511822},
        {519, 0.9933069571, 0.02233820435},
        {499, 0.9924884041, 0.02344527461},
        {59, 0.8151303628, 0.1984634629},
        {39, 0.704426721, 0.3074951568},
        {19, 0, 1},
    };
    Schedule s = default_schedule();

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        DdimStep d = ddim_step(&s, row[i].t, 50);
        check_value("a", d.a, row[i].a, 0, 1e-9); /* ten printed digits */
        check_value("b", d.b, row[i].b, 0, 1e-9);
    }
    schedule_fini(&s);
}

static void dpm_table(void **state)
{
    static const struct {
        int64_t t;
        double c1, c2, c3, c4, cn;
    } row[] = {
        {979, 0.47780604, -0.0084214203, 1, 0, 0.8784011},
        {959, 0.63744382, -0.010160625, 1.3048067, 0.30480667, 0.77033809},
        {519, 0.9216819, -0.043065653, 1.4895677, 0.48956771, 0.35450606},
        {39, 0.48178987, -0.51780525, 1.805356, 0.80535599, 0.16862625},
    };
    Schedule s = default_schedule();
    DpmStep d;
    double ap;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        d = dpm_step(&s, row[i].t, row[i].t + 20, 50);
        check_value("c1", d.c1, row[i].c1, 0, 2e-8); /* eight printed digits */
        check_value("c2", d.c2, row[i].c2, 0, 2e-8);
        check_value("c3", d.c3, row[i].c3, 0, 5e-8);
        check_value("c4", d.c4, row[i].c4, 0, 5e-8);
        check_value("cn", d.cn, row[i].cn, 0, 2e-8);
    }
    /* first step: alpha 0, h = inf */
    ap = s.alpha_bar[979];
    d = dpm_step(&s, 999, -1, 50);
    assert_true(d.c1 == 0 && d.c2 == -sqrt(ap) && d.cn == sqrt(1 - ap) && d.c3 == 1 && d.c4 == 0);
    /* last step: alpha 1, x_prev = x0 */
    d = dpm_step(&s, 19, 39, 50);
    assert_true(d.c1 == 0 && d.c2 == -1 && d.cn == 0 && d.c3 == 1 && d.c4 == 0);
    /* one step only: both at once */
    d = dpm_step(&s, 999, -1, 1);
    assert_true(d.c1 == 0 && d.c2 == -1 && d.cn == 0 && d.c3 == 1 && d.c4 == 0);
    /* 60 steps end at timestep 0: finite all through */
    d = dpm_step(&s, 16, 32, 60);
    assert_true(isfinite(d.c1) && isfinite(d.c2) && isfinite(d.c3) && isfinite(d.c4) && d.cn > 0);
    schedule_fini(&s);
}

static void dynamic_guidance(void **state)
{
    static const struct {
        int64_t t;
        double g;
    } row[] = {
        {999, 2.2915}, {979, 2.5435}, {959, 6.9744}, {939, 6.4204}, {919, 2.7881}, {899, 4.2719},
        {879, 1.0376}, {99, 6.8644},  {79, 1.0636},  {59, 1.0},     {39, 1.0},     {19, 1.1234},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        check_value("guidance", guidance_at(6.0, 1, row[i].t, 50), row[i].g, 5.01e-5, 0); /* four printed decimals */
    assert_true(guidance_at(6.0, 0, 979, 50) == 6.0);
}

/* With a model that knows the answer (v of the true x0) DDIM ends on x0; the first step sees x0 =
 * -v. */
static void ddim_oracle(void **state)
{
    enum { N = 24 };
    static const char *const name[] = {"ref", "cpu"};
    Err err = {0};
    Schedule s = default_schedule();

    (void)state;
    for (int b = 0; b < 2; b++) {
        Backend *be = NULL;
        Arena *arena = NULL;
        Sampler *p = NULL;
        Tensor x, v;
        float host[N], truth[N], velocity[N];
        double want[N];
        Philox rng = philox_stream(check_seed(), RNG_TEST, 0, 0);

        CHECK_OK(backend_open(&be, name[b], 1, NULL, &err), &err);
        CHECK_OK(arena_new(&arena, be, 1 << 16, "test", &err), &err);
        CHECK_OK(arena_tensor(arena, &x, DT_F32, 5, &err, 1, 2, 2, 2, 3), &err);
        CHECK_OK(arena_tensor(arena, &v, DT_F32, 5, &err, 1, 2, 2, 2, 3), &err);
        philox_fill_normal(&rng, 0, truth, N);
        philox_fill_normal(&rng, N, host, N);
        for (int i = 0; i < N; i++)
            want[i] = truth[i];
        CHECK_OK(backend_put_f32(be, &x, host, &err), &err);
        CHECK_OK(sampler_new(&p, be, &s, SAMPLER_DDIM, 50, &x, &err), &err);
        for (int64_t k = 0; k < 50; k++) {
            double sa, sb;
            velocity_coefficients(&s, sampler_timestep(p, k), &sa, &sb);
            CHECK_OK(backend_get_f32(be, host, &x, &err), &err);
            for (int i = 0; i < N; i++) /* v = (sa*x - x0)/sb */
                velocity[i] = (float)((sa * host[i] - want[i]) / sb);
            CHECK_OK(backend_put_f32(be, &v, velocity, &err), &err);
            CHECK_OK(sampler_step(p, k, &x, &v, NULL, NULL, &err), &err);
        }
        CHECK_OK(backend_get_f32(be, host, &x, &err), &err);
        check_near("x0", host, want, N, 2e-6, 0); /* last step is x0 itself: a few roundings of values of size 3 */
        sampler_free(&p);
        arena_free(&arena);
        backend_close(&be);
    }
    schedule_fini(&s);
}

typedef struct Draws {
    Backend *be;
    int64_t calls;
} Draws;
static int draw(void *user, const Tensor *out, Err *err)
{
    Draws *d = user;
    float host[4];

    for (int i = 0; i < 4; i++)
        host[i] = (float)(d->calls + 1) * 0.25f - (float)i;
    d->calls++;
    return backend_put_f32(d->be, out, host, err);
}

/* Three DPM steps by hand: which draws are used, which thrown away, and how x0_old moves on. */
static void dpm_by_hand(void **state)
{
    Err err = {0};
    Schedule s = default_schedule();
    Backend *be = NULL;
    Arena *arena = NULL;
    Sampler *p = NULL;
    Tensor x, v;
    float host[4] = {1, -2, 0.5f, 3}, vel[4] = {0.3f, 0.1f, -1, 2};
    double want[4], old[4] = {0}, x0[4];
    Draws d = {0};
    int64_t call = 0;

    (void)state;
    CHECK_OK(backend_open(&be, "ref", 1, NULL, &err), &err);
    CHECK_OK(arena_new(&arena, be, 1 << 16, "test", &err), &err);
    CHECK_OK(arena_tensor(arena, &x, DT_F32, 1, &err, 4), &err);
    CHECK_OK(arena_tensor(arena, &v, DT_F32, 1, &err, 4), &err);
    CHECK_OK(backend_put_f32(be, &x, host, &err), &err);
    CHECK_OK(backend_put_f32(be, &v, vel, &err), &err);
    d.be = be;
    CHECK_OK(sampler_new(&p, be, &s, SAMPLER_DPM, 4, &x, &err), &err);
    assert_null(sampler_state(p).data);
    CHECK_FAILS(sampler_step(p, 0, &x, &v, NULL, NULL, &err), ERR_USAGE, "noise", &err);
    for (int i = 0; i < 4; i++)
        want[i] = host[i];
    for (int64_t k = 0; k < 4; k++) {
        int64_t t = sampler_timestep(p, k);
        DpmStep c = dpm_step(&s, t, k ? sampler_timestep(p, k - 1) : -1, 4);
        double sa, sb;
        velocity_coefficients(&s, t, &sa, &sb);
        call += k == 0 || k == 3 ? 1 : 2;
        for (int i = 0; i < 4; i++) {
            double eps = (double)call * 0.25 - i;
            x0[i] = sa * want[i] - sb * vel[i];
            want[i] = c.c1 * want[i] - c.c2 * (c.c3 * x0[i] - c.c4 * old[i]) + c.cn * eps;
            old[i] = x0[i];
        }
        CHECK_OK(sampler_step(p, k, &x, &v, draw, &d, &err), &err);
        assert_int_equal(d.calls, call);
        CHECK_OK(backend_get_f32(be, host, &x, &err), &err);
        check_near("x", host, want, 4, 2e-6, 0);
        Tensor held = sampler_state(p);
        CHECK_OK(backend_get_f32(be, host, &held, &err), &err);
        check_near("x0_old", host, old, 4, 2e-6, 0);
    }
    CHECK_FAILS(sampler_step(p, 4, &x, &v, draw, &d, &err), ERR_USAGE, "step 4", &err);
    sampler_free(&p);
    arena_free(&arena);
    backend_close(&be);
    schedule_fini(&s);
}

static int from_text(Schedule *s, const char *json, Err *err)
{
    char *dir = check_tmp_path("scheduler"), *path = mem_printf(err, "%s/scheduler_config.json", dir);
    int rc;

    CHECK_OK(dir_make(dir, err), err);
    CHECK_OK(file_write_atomic(path, json, (int64_t)strlen(json), err), err);
    rc = schedule_init_file(s, dir, err);
    mem_free(path);
    return rc;
}

static void config_file(void **state)
{
    Schedule s, d = default_schedule();
    Err err = {0};

    (void)state;
    CHECK_OK(
        from_text(&s,
                  "{\"_class_name\": \"CogVideoXDPMScheduler\", \"num_train_timesteps\": 1000, \"beta_start\": 0.00085,"
                  "\"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"trained_betas\": null, "
                  "\"clip_sample\": false,"
                  "\"set_alpha_to_one\": true, \"steps_offset\": 0, \"prediction_type\": \"v_prediction\","
                  "\"timestep_spacing\": \"trailing\", \"rescale_betas_zero_snr\": true, \"snr_shift_scale\": 3.0}",
                  &err),
        &err);
    assert_true(s.dpm && s.spacing == SPACING_TRAILING && s.final_alpha == 1);
    assert_memory_equal(s.alpha_bar, d.alpha_bar, sizeof(double) * 1000);
    schedule_fini(&s);
    /* absent keys: the defaults of the class (no zero-SNR rescaling, leading) */
    CHECK_OK(from_text(&s,
                       "{\"_class_name\": \"CogVideoXDDIMScheduler\", \"prediction_type\": \"v_prediction\", "
                       "\"set_alpha_to_one\": false}",
                       &err),
             &err);
    assert_true(!s.dpm && s.spacing == SPACING_LEADING && s.alpha_bar[999] > 0 && s.final_alpha == s.alpha_bar[0]);
    schedule_fini(&s);

    CHECK_FAILS(from_text(&s, "[]", &err), ERR_FORMAT, "object", &err);
    CHECK_FAILS(from_text(&s, "{\"_class_name\": \"DDIMScheduler\"}", &err), ERR_UNSUPPORTED, "DDIMScheduler", &err);
    CHECK_FAILS(from_text(&s, "{\"_class_name\": \"CogVideoXDDIMScheduler\"}", &err), ERR_UNSUPPORTED,
                "prediction_type is 'epsilon'", &err);
#define V "{\"_class_name\": \"CogVideoXDDIMScheduler\", \"prediction_type\": \"v_prediction\", "
    CHECK_FAILS(from_text(&s, V "\"beta_schedule\": \"linear\"}", &err), ERR_UNSUPPORTED, "beta_schedule", &err);
    CHECK_FAILS(from_text(&s, V "\"timestep_spacing\": \"karras\"}", &err), ERR_UNSUPPORTED, "karras", &err);
    CHECK_FAILS(from_text(&s, V "\"trained_betas\": [0.1]}", &err), ERR_UNSUPPORTED, "trained_betas", &err);
    CHECK_FAILS(from_text(&s, V "\"num_train_timesteps\": 1}", &err), ERR_FORMAT, "num_train_timesteps", &err);
    CHECK_FAILS(from_text(&s, V "\"beta_end\": 0.0001}", &err), ERR_FORMAT, "beta_end", &err);
    CHECK_FAILS(from_text(&s, V "\"snr_shift_scale\": 0}", &err), ERR_FORMAT, "snr_shift_scale", &err);
    CHECK_FAILS(from_text(&s, V "\"steps_offset\": -1}", &err), ERR_FORMAT, "steps_offset", &err);
    CHECK_FAILS(schedule_init_file(&s, check_tmp_path("nowhere"), &err), ERR_NOTFOUND, "scheduler_config.json", &err);
    schedule_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alpha_bar_table),   cmocka_unit_test(timesteps_trailing),
        cmocka_unit_test(timesteps_refused), cmocka_unit_test(timesteps_other_spacings),
        cmocka_unit_test(ddim_table),        cmocka_unit_test(dpm_table),
        cmocka_unit_test(dynamic_guidance),  cmocka_unit_test(ddim_oracle),
        cmocka_unit_test(dpm_by_hand),       cmocka_unit_test(config_file),
    };
    return check_run("schedule", tests);
}
