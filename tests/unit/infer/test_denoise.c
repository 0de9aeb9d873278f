/* A sample that is stopped between or within steps and gone on with ends in the same bits. */
#include "tests/check.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "infer/pipeline.h"

enum { STEPS = 6, TEXT = 226 * 32, LATENTS = 3 * 6 * 4 * 4 };

static SampleSettings settings(SamplerKind kind)
{
    return (SampleSettings){.width = 32,
                            .height = 48,
                            .num_frames = 9,
                            .model_frames = 9,
                            .latent_frames = 3,
                            .fps = 8,
                            .sampler = kind,
                            .steps = STEPS,
                            .guidance = 6.0};
}

static float text[TEXT], negative[TEXT];

static void open_all(Backend **be, Pipeline **p, SamplerKind kind)
{
    Err err = {0};
    SampleSettings s = settings(kind);
    CHECK_OK(backend_open(be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(pipeline_open(p, *be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
    CHECK_OK(pipeline_check_parts(*p, &err), &err);
    PipelineSizes z = pipeline_sizes(*p);
    assert_int_equal(z.text_len * z.text_dim, TEXT);
    for (int i = 0; i < TEXT; i++) {
        text[i] = (float)((i * 7919 % 1000) / 500.0 - 1.0);
        negative[i] = (float)((i * 104729 % 1000) / 500.0 - 1.0);
    }
}

static void close_all(Backend **be, Pipeline **p)
{
    pipeline_close(p);
    backend_close(be);
}

typedef struct Kept {
    Denoising state[STEPS];
    float latents[STEPS][LATENTS], older[STEPS][LATENTS];
    int n;
} Kept;

static int keep(void *user, const Denoising *d, Err *err)
{
    Kept *k = user;
    (void)err;
    assert_true(k->n < STEPS);
    k->state[k->n] = *d;
    memcpy(k->latents[k->n], d->latents, sizeof k->latents[0]);
    memcpy(k->older[k->n++], d->older, sizeof k->older[0]);
    return 0;
}

static void resumes(SamplerKind kind)
{
    static Kept kept;
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    Denoising whole, again;
    StepHooks hooks = {.user = &kept, .keep = keep};
    kept.n = 0;
    open_all(&be, &p, kind);
    CHECK_OK(denoising_init(&whole, p, &err), &err);
    CHECK_OK(pipeline_denoise(p, text, negative, 42, &whole, &hooks, &err), &err);
    assert_int_equal(whole.step, STEPS);
    assert_int_equal(kept.n, STEPS - 1);
    for (int i = 0; i < kept.n; i++) {
        assert_int_equal(kept.state[i].step, i + 1);
        assert_int_equal(kept.state[i].has_older, kind == SAMPLER_DPM);
        CHECK_OK(denoising_init(&again, p, &err), &err);
        again.step = kept.state[i].step;
        again.draws = kept.state[i].draws;
        again.has_older = kept.state[i].has_older;
        memcpy(again.latents, kept.latents[i], sizeof kept.latents[0]);
        memcpy(again.older, kept.older[i], sizeof kept.older[0]);
        CHECK_OK(pipeline_denoise(p, text, negative, 42, &again, NULL, &err), &err);
        assert_memory_equal(again.latents, whole.latents, sizeof kept.latents[0]);
        denoising_fini(&again);
    }
    denoising_fini(&whole);
    close_all(&be, &p);
}

static void ddim_resumes(void **state)
{
    (void)state;
    resumes(SAMPLER_DDIM);
}

static void dpm_resumes(void **state)
{
    (void)state;
    resumes(SAMPLER_DPM);
}

static void count_step(void *user, int64_t step)
{
    (void)step;
    ++*(int *)user;
}

/* What a damaged weight gives is noticed in the first step. */
static void not_finite_is_seen_at_once(void **state)
{
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    Denoising d;
    int steps = 0;
    (void)state;
    open_all(&be, &p, SAMPLER_DDIM);
    text[5] = NAN;
    CHECK_OK(denoising_init(&d, p, &err), &err);
    StepHooks hooks = {.user = &steps, .on_step = count_step};
    CHECK_FAILS(pipeline_denoise(p, text, negative, 42, &d, &hooks, &err), ERR_FORMAT, "not finite", &err);
    assert_int_equal(steps, 0);
    assert_int_equal(d.step, 0);
    denoising_fini(&d);
    close_all(&be, &p);
}

static int asked, stop_at;

static int stop_now(void)
{
    return ++asked > stop_at;
}

/* Stopped in the middle of a step: the state is that of the last whole one. */
static void stops_within_a_step(void **state)
{
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    Denoising whole, cut;
    (void)state;
    open_all(&be, &p, SAMPLER_DPM);
    CHECK_OK(denoising_init(&whole, p, &err), &err);
    be->stop = stop_now;
    asked = 0;
    stop_at = 1 << 30;
    CHECK_OK(pipeline_denoise(p, text, negative, 1, &whole, NULL, &err), &err);
    int per_step = asked / STEPS;
    assert_true(per_step > 4);
    for (int at = 0; at < STEPS * per_step; at += per_step / 2 + 1) {
        CHECK_OK(denoising_init(&cut, p, &err), &err);
        asked = 0;
        stop_at = at;
        assert_int_equal(pipeline_denoise(p, text, negative, 1, &cut, NULL, &err), ERR_INTERRUPTED);
        assert_int_equal(cut.step, at / per_step);
        err_clear(&err);
        stop_at = 1 << 30;
        CHECK_OK(pipeline_denoise(p, text, negative, 1, &cut, NULL, &err), &err);
        assert_memory_equal(cut.latents, whole.latents, LATENTS * sizeof(float));
        denoising_fini(&cut);
    }
    uint8_t *rgb = mem_calloc(9 * 48 * 32, 3, &err);
    asked = 0;
    stop_at = 3;
    assert_int_equal(pipeline_decode(p, whole.latents, rgb, NULL, &err), ERR_INTERRUPTED); /* decoding stops too */
    mem_free(rgb);
    denoising_fini(&whole);
    close_all(&be, &p);
}

typedef struct Shown {
    int64_t step[STEPS];
    float x0[STEPS][LATENTS];
    int n;
} Shown;

static int show(void *user, int64_t step, const float *x0, Err *err)
{
    Shown *s = user;
    (void)err;
    assert_true(s->n < STEPS);
    s->step[s->n] = step;
    memcpy(s->x0[s->n++], x0, sizeof s->x0[0]);
    return 0;
}

static double apart(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < LATENTS; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

/* The estimate is shown when it is due, comes nearer to the result, and showing it changes no bit. */
static void shows_estimates(void **state)
{
    static const SamplerKind kinds[] = {SAMPLER_DDIM, SAMPLER_DPM};
    static Shown shown;
    (void)state;
    for (int k = 0; k < 2; k++) {
        Err err = {0};
        Backend *be = NULL;
        Pipeline *p = NULL;
        Denoising plain, seen;
        StepHooks hooks = {.user = &shown, .show = show, .show_every = 2};
        shown.n = 0;
        open_all(&be, &p, kinds[k]);
        CHECK_OK(denoising_init(&plain, p, &err), &err);
        CHECK_OK(pipeline_denoise(p, text, negative, 3, &plain, NULL, &err), &err);
        CHECK_OK(denoising_init(&seen, p, &err), &err);
        CHECK_OK(pipeline_denoise(p, text, negative, 3, &seen, &hooks, &err), &err);
        assert_memory_equal(seen.latents, plain.latents, LATENTS * sizeof(float));
        assert_int_equal(shown.n, 2); /* after steps 2 and 4 of 6 */
        assert_int_equal(shown.step[0], 2);
        assert_int_equal(shown.step[1], 4);
        assert_true(apart(shown.x0[1], plain.latents) < apart(shown.x0[0], plain.latents));
        denoising_fini(&plain);
        denoising_fini(&seen);
        close_all(&be, &p);
    }
}

#ifdef WEFT_ARENA_SPLIT
enum { ONE_BLOCK = 0 }; /* each tensor is an allocation: a refusal comes in the middle of the work */
#else
enum { ONE_BLOCK = 1 };
#endif
static int (*real_alloc)(Backend *be, int64_t bytes, void **out, Err *err);
static int refusals;

static int short_of_memory(Backend *be, int64_t bytes, void **out, Err *err)
{
    if (refusals-- > 0)
        return err_set(err, ERR_NOMEM, "the card is full");
    return real_alloc(be, bytes, out, err);
}

/* Whichever parts hold memory, and whatever is refused: the same pixels. */
static void parts_take_turns(void **state)
{
    static uint8_t rgb[4][9 * 48 * 32 * 3];
    static const Offload how[] = {OFFLOAD_NEVER, OFFLOAD_ALWAYS, OFFLOAD_AUTO, OFFLOAD_AUTO};
    (void)state;
    for (int i = 0; i < 4; i++) {
        Err err = {0};
        Backend *be = NULL;
        Pipeline *p = NULL;
        Denoising d;
        SampleSettings s = settings(SAMPLER_DDIM);
        s.offload = how[i];
        CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
        real_alloc = be->alloc;
        be->alloc = short_of_memory;
        CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
        for (int round = 0; round < 2; round++) {
            CHECK_OK(denoising_init(&d, p, &err), &err);
            refusals = ONE_BLOCK && i == 3 && round == 1; /* the VAE is in memory then */
            CHECK_OK(pipeline_denoise(p, text, negative, 5, &d, NULL, &err), &err);
            assert_true(refusals <= 0);
            refusals = ONE_BLOCK && i == 3;
            CHECK_OK(pipeline_decode(p, d.latents, rgb[i], NULL, &err), &err);
            assert_true(refusals <= 0);
            refusals = 0;
            assert_memory_equal(rgb[i], rgb[0], sizeof rgb[0]);
            denoising_fini(&d);
        }
        CHECK_OK(denoising_init(&d, p, &err), &err);
        CHECK_OK(pipeline_denoise(p, text, negative, 5, &d, NULL, &err), &err);
        if (how[i] == OFFLOAD_AUTO) {
            static float embeds[2][TEXT];
            int64_t cut;
            CHECK_OK(pipeline_encode_text(p, "a red dress", embeds[0], &cut, &err), &err);
            pipeline_drop_text_encoder(p);
            refusals = ONE_BLOCK; /* transformer and VAE are in memory */
            CHECK_OK(pipeline_encode_text(p, "a red dress", embeds[1], &cut, &err), &err);
            assert_true(refusals <= 0);
            assert_memory_equal(embeds[0], embeds[1], sizeof embeds[0]);
            refusals = 0;
            CHECK_OK(pipeline_denoise(p, text, negative, 5, &d, NULL, &err), &err);
        }
        refusals = 2; /* with the transformer in memory, and without */
        if (how[i] == OFFLOAD_AUTO)
            CHECK_FAILS(pipeline_decode(p, d.latents, rgb[i], NULL, &err), ERR_NOMEM, "the card is full", &err);
        refusals = 0;
        denoising_fini(&d);
        close_all(&be, &p);
    }
}

static void sample_with(const SampleSettings *s, Denoising *d, int stop)
{
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, s, NULL, &err), &err);
    if (!d->latents)
        CHECK_OK(denoising_init(d, p, &err), &err);
    be->stop = stop ? stop_now : NULL;
    asked = 0;
    stop_at = stop;
    int rc = pipeline_denoise(p, text, negative, 11, d, NULL, &err);
    assert_int_equal(rc, stop ? ERR_INTERRUPTED : 0);
    close_all(&be, &p);
}

/* Fast and not exact: what is left out changes the result and not its size, and a run that was stopped
 * anywhere ends in the same bits. */
static void fast_is_repeatable(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        SampleSettings s = settings(kind ? SAMPLER_DPM : SAMPLER_DDIM);
        Denoising exact = {0}, plain = {0}, fast = {0}, none = {0};
        sample_with(&s, &exact, 0);
        s.guidance_share = 1; /* all of the steps */
        sample_with(&s, &plain, 0);
        assert_memory_equal(plain.latents, exact.latents, LATENTS * sizeof(float));
        s.guidance_share = 0.5;
        s.reuse_every = 2;
        sample_with(&s, &fast, 0);
        double size = 0;
        for (int i = 0; i < LATENTS; i++)
            size += (double)exact.latents[i] * exact.latents[i];
        assert_true(apart(fast.latents, exact.latents) > 1e-6 * size);
        assert_true(apart(fast.latents, exact.latents) < size);
        for (int at = 3; at < 40; at += 5) {
            Denoising cut = {0};
            sample_with(&s, &cut, at);
            assert_int_equal(cut.step % 2, 0);
            sample_with(&s, &cut, 0);
            assert_memory_equal(cut.latents, fast.latents, LATENTS * sizeof(float));
            denoising_fini(&cut);
        }
        s.reuse_every = 0;
        s.guidance_share = 1e-9; /* one step of six */
        sample_with(&s, &none, 0);
        assert_true(apart(none.latents, exact.latents) > 1e-6 * size);
        denoising_fini(&exact);
        denoising_fini(&plain);
        denoising_fini(&fast);
        denoising_fini(&none);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_finite_is_seen_at_once),
        cmocka_unit_test(ddim_resumes),
        cmocka_unit_test(dpm_resumes),
        cmocka_unit_test(stops_within_a_step),
        cmocka_unit_test(shows_estimates),
        cmocka_unit_test(parts_take_turns),
        cmocka_unit_test(fast_is_repeatable),
    };
    return check_run_live("denoise", tests);
}
