/* The transformer against the reference implementation's numbers on formula-defined weights (fp64
 * there): outputs, loss, every gradient norm; time vector and position codes of the 2B model; and
 * what must hold without any reference. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/dit.h"
#include "common/model/latents.h"
#include "common/ops/ops.h"

static const char *const backends[] = {"ref", "cpu"};
static const Recompute policies[] = {RECOMPUTE_NONE, RECOMPUTE_BLOCK, RECOMPUTE_BLOCK_ATTENTION};

static DitConfig tiny_config(void)
{
    DitConfig c = {.heads = 2,
                   .head_dim = 16,
                   .layers = 2,
                   .in_channels = 4,
                   .out_channels = 4,
                   .patch = 2,
                   .time_dim = 8,
                   .text_dim = 12,
                   .text_len = 5,
                   .sample_width = 6,
                   .sample_height = 4,
                   .sample_frames = 9,
                   .temporal_ratio = 4,
                   .spatial_scale = 1.875,
                   .temporal_scale = 1.0,
                   .norm_eps = 1e-5,
                   .flip_sin_to_cos = 1};
    return c;
}

/* The keys that matter are the class defaults, so an empty object is the 2B model. */
static DitConfig full_config(void)
{
    Err err = {0};
    DitConfig c;
    json_t *o = json_object();

    CHECK_OK(dit_config_parse(&c, o, "defaults", &err), &err);
    json_decref(o);
    return c;
}

/* A model, its inputs and working memory. */
typedef struct Case {
    Backend *be;
    Dit *dit;
    Arena *work;
    int64_t B, F, h, w;
    Tensor latents, text, target, v, grad_v;
    int64_t timestep[2];
    Err err;
} Case;

static void put_torch(Case *k, const Tensor *t, uint32_t seed, int64_t C)
{
    int64_t n = tensor_count(t);
    float *a = mem_calloc(n, sizeof *a, &k->err), *b = mem_calloc(n, sizeof *b, &k->err);

    filler_input(seed, a, n);
    latents_from_torch(b, a, k->B * k->F, C, k->h, k->w);
    CHECK_OK(backend_put_f32(k->be, t, b, &k->err), &k->err);
    mem_free(a);
    mem_free(b);
}

static void case_open_threads(Case *k, const char *backend, int64_t threads, int64_t h, int64_t w)
{
    DitConfig c = tiny_config();
    float text[2 * 5 * 12];

    memset(k, 0, sizeof *k);
    k->B = 2, k->F = 3, k->h = h, k->w = w;
    k->timestep[0] = 999, k->timestep[1] = 500;
    CHECK_OK(backend_open(&k->be, backend, threads, NULL, &k->err), &k->err);
    CHECK_OK(dit_new_filled(&k->dit, k->be, &c, 1, &k->err), &k->err);
    CHECK_OK(arena_new(&k->work, k->be, 8 << 20, "test", &k->err), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->latents, DT_F32, 5, &k->err, 2, 3, h, w, 4), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->target, DT_F32, 5, &k->err, 2, 3, h, w, 4), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->v, DT_F32, 5, &k->err, 2, 3, h, w, 4), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->grad_v, DT_F32, 5, &k->err, 2, 3, h, w, 4), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->text, DT_F32, 3, &k->err, 2, 5, 12), &k->err);
    filler_input(300001, text, 2 * 5 * 12);
    CHECK_OK(backend_put_f32(k->be, &k->text, text, &k->err), &k->err);
    put_torch(k, &k->latents, 300002, 4);
    put_torch(k, &k->target, 300003, 4);
}

static void case_open(Case *k, const char *backend, int64_t h, int64_t w)
{
    case_open_threads(k, backend, 0, h, w);
}

static void case_close(Case *k)
{
    arena_free(&k->work);
    dit_close(&k->dit);
    backend_close(&k->be);
}

/* The result in torch's order, in double. */
static void get_torch(Case *k, const Tensor *t, double *out)
{
    int64_t n = tensor_count(t);
    float *a = mem_calloc(n, sizeof *a, &k->err), *b = mem_calloc(n, sizeof *b, &k->err);

    CHECK_OK(backend_get_f32(k->be, a, t, &k->err), &k->err);
    latents_to_torch(b, a, k->B * k->F, 4, k->h, k->w);
    for (int64_t i = 0; i < n; i++)
        out[i] = b[i];
    mem_free(a);
    mem_free(b);
}

/* ---- config and parameters ------------------------------------------------------------------- */

static void table_2b(void **state)
{
    static const struct {
        const char *name;
        int rank;
        int64_t dim[4];
    } some[] = {
        {"patch_embed.proj.weight", 4, {1920, 16, 2, 2}},
        {"patch_embed.text_proj.weight", 2, {1920, 4096}},
        {"time_embedding.linear_1.weight", 2, {512, 1920}},
        {"time_embedding.linear_2.bias", 1, {512}},
        {"norm_final.weight", 1, {1920}},
        {"norm_out.linear.weight", 2, {3840, 512}},
        {"norm_out.norm.bias", 1, {1920}},
        {"proj_out.weight", 2, {64, 1920}},
        {"transformer_blocks.0.norm1.linear.weight", 2, {11520, 512}},
        {"transformer_blocks.29.norm2.norm.weight", 1, {1920}},
        {"transformer_blocks.7.attn1.norm_q.weight", 1, {64}},
        {"transformer_blocks.7.attn1.norm_k.bias", 1, {64}},
        {"transformer_blocks.15.attn1.to_q.weight", 2, {1920, 1920}},
        {"transformer_blocks.15.attn1.to_out.0.bias", 1, {1920}},
        {"transformer_blocks.3.ff.net.0.proj.weight", 2, {7680, 1920}},
        {"transformer_blocks.3.ff.net.2.weight", 2, {1920, 7680}},
    };
    DitConfig c = full_config();
    Backend *be = NULL;
    Dit *d = NULL;
    Err err = {0};

    (void)state;
    CHECK_OK(backend_open(&be, "plan", 0, NULL, &err), &err);
    CHECK_OK(dit_new_filled(&d, be, &c, 0, &err), &err);
    assert_int_equal(dit_params(d)->n, 736);
    assert_int_equal(params_count(dit_params(d)), 1693783872);
    assert_int_equal(params_bytes(dit_params(d), DT_F16), 3387567744);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const Param *p = params_find(dit_params(d), some[i].name);
        assert_non_null(p);
        assert_int_equal(p->rank, some[i].rank);
        assert_memory_equal(p->dim, some[i].dim, sizeof(int64_t) * (size_t)p->rank);
    }
    dit_close(&d);
    backend_close(&be);
}

static int parse_text(const char *text, Err *err)
{
    json_t *o = NULL;
    DitConfig c;
    int rc;

    CHECK_OK(json_parse(&o, text, (int64_t)strlen(text), "test", err), err);
    rc = dit_config_parse(&c, o, "test", err);
    json_decref(o);
    return rc;
}

static void config_refusals(void **state)
{
    Err err = {0};
    DitConfig c = tiny_config(), back;
    json_t *o;

    (void)state;
    CHECK_FAILS(parse_text("[]", &err), ERR_FORMAT, "object", &err);
    CHECK_FAILS(parse_text("{\"use_rotary_positional_embeddings\": true}", &err), ERR_UNSUPPORTED, "rotary", &err);
    CHECK_FAILS(parse_text("{\"use_learned_positional_embeddings\": true}", &err), ERR_UNSUPPORTED, "learned", &err);
    CHECK_FAILS(parse_text("{\"patch_size_t\": 2}", &err), ERR_UNSUPPORTED, "patch_size_t", &err);
    /* a 1.5 model is rotary too, and is not called a 5B one */
    CHECK_FAILS(parse_text("{\"use_rotary_positional_embeddings\": true, \"patch_size_t\": 2}", &err), ERR_UNSUPPORTED,
                "a CogVideoX 1.5 model", &err);
    CHECK_FAILS(parse_text("{\"use_rotary_positional_embeddings\": true}", &err), ERR_UNSUPPORTED, "CogVideoX-5B",
                &err);
    CHECK_OK(parse_text("{\"a_key_of_tomorrow\": null}", &err), &err);
    CHECK_FAILS(parse_text("{\"ofs_embed_dim\": 512}", &err), ERR_UNSUPPORTED, "ofs_embed_dim", &err);
    CHECK_FAILS(parse_text("{\"attention_bias\": false}", &err), ERR_UNSUPPORTED, "attention_bias", &err);
    CHECK_FAILS(parse_text("{\"activation_fn\": \"geglu\"}", &err), ERR_UNSUPPORTED, "geglu", &err);
    CHECK_FAILS(parse_text("{\"timestep_activation_fn\": \"relu\"}", &err), ERR_UNSUPPORTED, "relu", &err);
    CHECK_FAILS(parse_text("{\"dropout\": 0.1}", &err), ERR_UNSUPPORTED, "dropout", &err);
    CHECK_FAILS(parse_text("{\"_class_name\": \"UNet2D\"}", &err), ERR_UNSUPPORTED, "UNet2D", &err);
    CHECK_FAILS(parse_text("{\"num_layers\": 0}", &err), ERR_FORMAT, "num_layers", &err);
    CHECK_FAILS(parse_text("{\"num_attention_heads\": 1, \"attention_head_dim\": 24}", &err), ERR_UNSUPPORTED,
                "multiple of 16", &err);
    CHECK_FAILS(parse_text("{\"norm_eps\": 0}", &err), ERR_FORMAT, "norm_eps", &err);
    CHECK_FAILS(parse_text("{\"num_layers\": \"x\"}", &err), ERR_FORMAT, "num_layers", &err);

    o = dit_config_json(&c, &err);
    assert_non_null(o);
    CHECK_OK(dit_config_parse(&back, o, "written", &err), &err);
    assert_memory_equal(&c, &back, sizeof c);
    json_decref(o);
}

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct At {
    int64_t i;
    double value;
} At;

static void time_vector(void **state)
{
    static const At want[] = {{0, 0.99964982},    {1, -0.99016261},    {2, 0.98671645},
                              {480, -0.84446985}, {959, 0.99491763},   {960, -0.02646075},
                              {961, 0.13992153},  {1440, -0.53560317}, {1919, 0.10069210}};
    DitConfig c = full_config();
    float vec[1920];

    (void)state;
    dit_time_vector(&c, 999, vec);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) /* the reference's own fp32 angle error reaches 7.3e-5 */
        check_value("time vector", vec[want[i].i], want[i].value, 1e-4, 0);
    dit_time_vector(&c, 0, vec);
    assert_true(vec[0] == 1 && vec[959] == 1 && vec[960] == 0 && vec[1919] == 0);
}

static void position_codes(void **state)
{
    static const At frame1[] = {{0, 0.84147098},   {1, 0.82053744},   {239, 0.00010391}, {240, 0.54030231},
                                {241, 0.57159279}, {479, 0.99999999}, {480, 0},          {839, 0},
                                {840, 1},          {1199, 1},         {1200, 0},         {1559, 0},
                                {1560, 1},         {1919, 1}};
    static const At col1[] = {{480, 0.50840657}, {481, 0.49675992}, {839, 0.00005472}, {840, 0.86111715},
                              {841, 0.86788800}, {1199, 1.0},       {1200, 0},         {1559, 0}};
    static const At row1[] = {{1200, 0.50840657}, {1201, 0.49675992}, {1559, 0.00005472}, {1560, 0.86111715},
                              {1561, 0.86788800}, {1919, 1.0},        {480, 0},           {839, 0}};
    static const At far[] = {{0, -0.99999021},    {1, -0.91723343},   {240, 0.00442570},  {241, -0.39835013},
                             {480, 0.23896230},   {481, 0.59074474},  {840, -0.97102885}, {1200, -0.99546451},
                             {1201, -0.77249186}, {1560, -0.09513364}};
    static const struct {
        int64_t f, r, x;
        const At *at;
        size_t n;
    } token[] = {
        {1, 0, 0, frame1, sizeof frame1 / sizeof *frame1},
        {0, 0, 1, col1, sizeof col1 / sizeof *col1},
        {0, 1, 0, row1, sizeof row1 / sizeof *row1},
        {11, 44, 29, far, sizeof far / sizeof *far},
    };
    enum { F = 12, R = 45, X = 30, D = 1920 };
    DitConfig c = full_config();
    Err err = {0};
    float *table = mem_calloc((int64_t)F * R * X * D, sizeof *table, &err);

    (void)state;
    assert_non_null(table);
    dit_position_table(&c, F, R, X, table);
    for (size_t k = 0; k < sizeof token / sizeof *token; k++) {
        const float *row = table + ((token[k].f * R + token[k].r) * X + token[k].x) * D;
        for (size_t i = 0; i < token[k].n; i++) /* eight printed decimals of a float */
            check_value("position code", row[token[k].at[i].i], token[k].at[i].value, 5.1e-9 + 6e-8, 0);
    }
    mem_free(table);
}

/* ---- forward --------------------------------------------------------------------------------- */

static void check_outputs(const char *what, const double *out, int64_t n, double mean, double rms, const double want[8])
{
    const int64_t at[8] = {0, 1, n / 7, n / 3, n / 2, 5 * n / 7, n - 2, n - 1};
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < n; i++) {
        sum += out[i];
        squares += out[i] * out[i];
    }
    /* 1e-5 of the rms: the time embedding is float32 in the reference too, and a differently
     * rounded angle moves values by 5e-6 */
    check_value(what, sum / (double)n, mean, 1e-5 * rms, 0);
    check_value(what, sqrt(squares / (double)n), rms, 0, 1e-5);
    for (int i = 0; i < 8; i++)
        check_value(what, out[at[i]], want[i], 1.2e-5 * rms, 0);
}

static const struct {
    const char *name;
    int64_t h, w;
    double mean, rms, value[8];
} forward_case[] = {
    {"landscape",
     4,
     6,
     0.238655081,
     1.23510683,
     {0.29777176, 0.63301879, 0.02968116, -1.42841266, -0.66618539, 1.04413983, 1.99273300, 1.21040165}},
    {"portrait",
     6,
     4,
     0.229301929,
     1.20789033,
     {-0.28866999, -0.49752220, -0.50636307, -0.10139715, -1.62950316, 0.15720141, -1.22688035, 0.34080890}},
};

static void forward_golden(void **state)
{
    (void)state;
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 2; i++) {
            Case k;
            double out[2 * 3 * 24 * 4], kept[2 * 3 * 24 * 4];
            case_open(&k, backends[b], forward_case[i].h, forward_case[i].w);
            assert_int_equal(dit_params(k.dit)->n, 64);
            assert_int_equal(params_count(dit_params(k.dit)), 34976);
            CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
            get_torch(&k, &k.v, out);
            check_outputs(forward_case[i].name, out, 576, forward_case[i].mean, forward_case[i].rms,
                          forward_case[i].value);
            /* the recording forward is the same function, bit for bit */
            for (int p = 0; p < 3; p++) {
                DitTape *tape = NULL;
                int64_t mark = arena_mark(k.work);
                CHECK_OK(
                    dit_forward_train(k.dit, k.work, &tape, policies[p], &k.v, &k.latents, &k.text, k.timestep, &k.err),
                    &k.err);
                get_torch(&k, &k.v, kept);
                assert_memory_equal(out, kept, sizeof out);
                dit_tape_free(&tape);
                arena_reset(k.work, mark);
            }
            case_close(&k);
        }
}

/* Queries and keys a thousand times smaller: only then does the epsilon of their norms show
 * (make_dit_small_qk.py). */
static void small_queries(void **state)
{
    static const double want[8] = {-0.30525786, -0.44767988, -0.47489316, -0.13409280,
                                   -1.58809988, 0.12740243,  -1.21380429, 0.30547128};

    (void)state;
    for (int b = 0; b < 2; b++) {
        Case k;
        double out[576];
        ParamSet *ps;
        case_open(&k, backends[b], 6, 4);
        ps = dit_params(k.dit);
        for (int64_t i = 0; i < ps->n; i++) {
            const Tensor *t = &ps->param[i].value;
            if (strstr(ps->param[i].name, ".to_q.") || strstr(ps->param[i].name, ".to_k."))
                CHECK_OK(op_lincomb(k.be, t, 1, (const double[]){1e-3}, (const Tensor *const[]){t}, &k.err), &k.err);
        }
        CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
        get_torch(&k, &k.v, out);
        check_outputs("small queries", out, 576, 0.229696132, 1.20294694, want);
        case_close(&k);
    }
}

/* A file is the same model as the arena it was written from, mapped or not, and in half within
 * half's rounding. */
static void save_and_open(void **state)
{
    Case k;
    Dit *d = NULL;
    double out[576], again[576];
    char *folder = check_tmp_path("transformer"), *half = check_tmp_path("half");

    (void)state;
    case_open(&k, "cpu", 6, 4);
    CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
    get_torch(&k, &k.v, out);
    CHECK_OK(dit_save(k.dit, folder, DT_F32, &k.err), &k.err);
    CHECK_OK(dit_save(k.dit, half, DT_F16, &k.err), &k.err);
    for (int how = 0; how < 2; how++) {
        CHECK_OK(dit_open(&d, k.be, folder, how ? DIT_TRAIN : DIT_MAPPED, &k.err), &k.err);
        assert_memory_equal(dit_config(d), dit_config(k.dit), sizeof(DitConfig));
        CHECK_OK(dit_forward(d, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
        get_torch(&k, &k.v, again);
        assert_memory_equal(out, again, sizeof out);
        dit_close(&d);
    }
    CHECK_OK(dit_open(&d, k.be, half, DIT_MAPPED, &k.err), &k.err);
    CHECK_OK(dit_forward(d, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
    get_torch(&k, &k.v, again);
    for (int i = 0; i < 576; i++)
        /* 2^-11 a weight through two blocks; no sharper argument */
        check_value("half weights", again[i], out[i], 2e-2, 0);
    dit_close(&d);
    DitConfig other = *dit_config(k.dit);
    CHECK_OK(dit_check_weights(&other, half, NULL, &k.err), &k.err);
    other.layers++;
    CHECK_FAILS(dit_check_weights(&other, half, NULL, &k.err), ERR_FORMAT, "missing", &k.err);
    CHECK_FAILS(dit_open(&d, k.be, check_tmp_path("nowhere"), DIT_MAPPED, &k.err), ERR_NOTFOUND, "config.json", &k.err);
    case_close(&k);
}

static void shapes_refused(void **state)
{
    Case k;
    Tensor odd, text;

    (void)state;
    case_open(&k, "cpu", 6, 4);
    CHECK_OK(arena_tensor(k.work, &odd, DT_F32, 5, &k.err, 2, 3, 5, 4, 4), &k.err);
    CHECK_FAILS(dit_forward(k.dit, k.work, &k.v, &odd, &k.text, k.timestep, &k.err), ERR_USAGE, "patch size 2", &k.err);
    CHECK_OK(arena_tensor(k.work, &odd, DT_F32, 5, &k.err, 2, 3, 6, 4, 5), &k.err);
    CHECK_FAILS(dit_forward(k.dit, k.work, &k.v, &odd, &k.text, k.timestep, &k.err), ERR_USAGE, "latents are", &k.err);
    CHECK_OK(arena_tensor(k.work, &text, DT_F32, 3, &k.err, 2, 4, 12), &k.err);
    CHECK_FAILS(dit_forward(k.dit, k.work, &k.v, &k.latents, &text, k.timestep, &k.err), ERR_USAGE, "text is", &k.err);
    k.timestep[1] = -1;
    CHECK_FAILS(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), ERR_USAGE, "timestep -1",
                &k.err);
    case_close(&k);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Gradients of mean((v - target)^2) into zeroed arenas; returns the loss. */
static double backward(Case *k, Recompute policy)
{
    DitTape *tape = NULL;
    double loss = 0;
    int64_t mark = arena_mark(k->work);
    Tensor grads = params_flat_grads(dit_params(k->dit));

    CHECK_OK(op_fill(k->be, &grads, 0, &k->err), &k->err);
    CHECK_OK(dit_forward_train(k->dit, k->work, &tape, policy, &k->v, &k->latents, &k->text, k->timestep, &k->err),
             &k->err);
    CHECK_OK(op_mse(k->be, &loss, &k->grad_v, &k->v, &k->target, 1.0, &k->err), &k->err);
    CHECK_OK(dit_backward(k->dit, k->work, &tape, &k->grad_v, NULL, NULL, &k->err), &k->err);
    assert_null(tape);
    arena_reset(k->work, mark);
    return loss;
}

static void gradient_norms(void **state)
{
    static const struct {
        const char *name;
        double weight, bias;
    } want[] = {
        {"patch_embed.proj", 0.66221703, 0.32610337},
        {"patch_embed.text_proj", 0.052245743, 0.026552971},
        {"time_embedding.linear_1", 1.443027, 0.36754113},
        {"time_embedding.linear_2", 0.60523646, 0.51926659},
        {"transformer_blocks.0.norm1.linear", 0.10661122, 0.15168961},
        {"transformer_blocks.0.norm1.norm", 0.039602593, 0.065242255},
        {"transformer_blocks.0.attn1.norm_q", 0.013982805, 0.0099666683},
        {"transformer_blocks.0.attn1.norm_k", 0.013965228, 0},
        {"transformer_blocks.0.attn1.to_q", 0.087779835, 0.012064203},
        {"transformer_blocks.0.attn1.to_k", 0.084446718, 0.005914116},
        {"transformer_blocks.0.attn1.to_v", 0.17993027, 0.056467337},
        {"transformer_blocks.0.attn1.to_out.0", 0.16062785, 0.05287323},
        {"transformer_blocks.0.norm2.linear", 0.14279447, 0.19732242},
        {"transformer_blocks.0.norm2.norm", 0.034129973, 0.045041636},
        {"transformer_blocks.0.ff.net.0.proj", 0.18922478, 0.037551143},
        {"transformer_blocks.0.ff.net.2", 0.37090505, 0.050143481},
        {"norm_final", 0.27691276, 0.34818648},
        {"norm_out.linear", 0.41496678, 0.70708072},
        {"norm_out.norm", 0.61627804, 0.51793834},
        {"proj_out", 1.6259188, 0.35714319},
    };
    (void)state;
    for (int b = 0; b < 2; b++) {
        Case k;
        double loss, sum = 0;
        Tensor grads;
        case_open(&k, backends[b], 6, 4);
        loss = backward(&k, RECOMPUTE_NONE);
        check_value("loss", loss, 2.4443637679, 0, 1e-5);
        grads = params_flat_grads(dit_params(k.dit));
        CHECK_OK(op_sum_squares(k.be, &sum, &grads, &k.err), &k.err);
        check_value("global gradient norm", sqrt(sum), 2.917701427, 0, 1e-5);
        for (size_t i = 0; i < sizeof want / sizeof *want; i++)
            for (int part = 0; part < 2; part++) {
                char name[96];
                double expected = part ? want[i].bias : want[i].weight;
                Param *p;
                snprintf(name, sizeof name, "%s.%s", want[i].name, part ? "bias" : "weight");
                p = params_find(dit_params(k.dit), name);
                assert_non_null(p);
                CHECK_OK(op_sum_squares(k.be, &sum, &p->grad, &k.err), &k.err);
                /* norm_k.bias adds one constant to a whole softmax row: its gradient is rounding
                 * noise */
                check_value(name, sqrt(sum), expected, expected == 0 ? 1e-7 : 0, 1e-4);
            }
        case_close(&k);
    }
}

static void copy_grads(Case *k, float *out)
{
    Tensor grads = params_flat_grads(dit_params(k->dit));

    CHECK_OK(backend_get_f32(k->be, out, &grads, &k->err), &k->err);
}

static void policies_same_bits(void **state)
{
    (void)state;
    for (int b = 0; b < 2; b++) {
        Case k;
        int64_t n;
        float *first, *other;
        case_open(&k, backends[b], 6, 4);
        n = dit_params(k.dit)->flat;
        first = mem_calloc(n, sizeof *first, &k.err);
        other = mem_calloc(n, sizeof *other, &k.err);
        backward(&k, RECOMPUTE_NONE);
        copy_grads(&k, first);
        for (int p = 1; p < 3; p++) {
            backward(&k, policies[p]);
            copy_grads(&k, other);
            assert_memory_equal(first, other, sizeof *first * (size_t)n);
        }
        mem_free(first);
        mem_free(other);
        case_close(&k);
    }
}

static void threads_same_bits(void **state)
{
    float *kept = NULL;

    (void)state;
    for (int64_t threads = 1; threads <= 3; threads++) {
        Case k;
        int64_t n;
        float *now;
        case_open_threads(&k, "cpu", threads, 6, 4);
        n = dit_params(k.dit)->flat;
        now = mem_calloc(n, sizeof *now, &k.err);
        backward(&k, RECOMPUTE_BLOCK);
        copy_grads(&k, now);
        if (kept)
            assert_memory_equal(kept, now, sizeof *now * (size_t)n);
        mem_free(kept);
        kept = now;
        case_close(&k);
    }
    mem_free(kept);
}

/* Gradients are added to: two backward passes give twice the gradient of one. */
static void gradients_add(void **state)
{
    Case k;
    DitTape *tape = NULL;
    int64_t n, mark;
    float *once, *twice;

    (void)state;
    case_open(&k, "ref", 6, 4);
    n = dit_params(k.dit)->flat;
    once = mem_calloc(n, sizeof *once, &k.err);
    twice = mem_calloc(n, sizeof *twice, &k.err);
    backward(&k, RECOMPUTE_NONE);
    copy_grads(&k, once);
    mark = arena_mark(k.work);
    CHECK_OK(dit_forward_train(k.dit, k.work, &tape, RECOMPUTE_BLOCK, &k.v, &k.latents, &k.text, k.timestep, &k.err),
             &k.err);
    CHECK_OK(dit_backward(k.dit, k.work, &tape, &k.grad_v, NULL, NULL, &k.err), &k.err);
    arena_reset(k.work, mark);
    copy_grads(&k, twice);
    for (int64_t i = 0; i < n; i++) /* sums start from the first value: a rounding of it */
        check_value("twice", twice[i], 2.0 * once[i], 1e-6, 1e-5);
    mem_free(once);
    mem_free(twice);
    case_close(&k);
}

/* Central differences of the loss on ref, whose sums are double: a few elements of every tensor. */
static void central_differences(void **state)
{
    Case k;
    ParamSet *ps;
    Philox rng = philox_stream(check_seed(), RNG_TEST, 1, 0);
    uint64_t draw = 0;

    (void)state;
    case_open(&k, "ref", 4, 2);
    k.B = 2;
    backward(&k, RECOMPUTE_NONE);
    ps = dit_params(k.dit);
    for (int64_t i = 0; i < ps->n; i += 3) {
        Param *p = &ps->param[i];
        int64_t n = tensor_count(&p->value), at = (int64_t)philox_below(&rng, draw++, (uint64_t)n);
        float *values = mem_calloc(n, sizeof *values, &k.err), *grads = mem_calloc(n, sizeof *grads, &k.err);
        double loss[2], step;
        CHECK_OK(backend_get_f32(k.be, values, &p->value, &k.err), &k.err);
        CHECK_OK(backend_get_f32(k.be, grads, &p->grad, &k.err), &k.err);
        float kept = values[at], moved[2] = {kept + 4e-3f, kept - 4e-3f};
        for (int side = 0; side < 2; side++) {
            values[at] = moved[side];
            CHECK_OK(backend_put_f32(k.be, &p->value, values, &k.err), &k.err);
            CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
            CHECK_OK(op_mse(k.be, &loss[side], NULL, &k.v, &k.target, 1.0, &k.err), &k.err);
        }
        values[at] = kept;
        CHECK_OK(backend_put_f32(k.be, &p->value, values, &k.err), &k.err);
        step = (double)moved[0] - (double)moved[1];
        /* float activations: the loss carries about 1e-7, divided by a step of 8e-3; curvature adds
         * (4e-3)^2 */
        check_value(p->name, grads[at], (loss[0] - loss[1]) / step, 2e-4, 3e-3);
        mem_free(values);
        mem_free(grads);
    }
    case_close(&k);
}

static void note_block(void *user, int64_t block)
{
    int64_t *seen = user;

    seen[1 + seen[0]++] = block;
}

static void blocks_reported(void **state)
{
    Case k;
    DitTape *tape = NULL;
    int64_t seen[4] = {0};

    (void)state;
    case_open(&k, "cpu", 4, 2);
    CHECK_OK(dit_forward_train(k.dit, k.work, &tape, RECOMPUTE_BLOCK, &k.v, &k.latents, &k.text, k.timestep, &k.err),
             &k.err);
    CHECK_OK(dit_backward(k.dit, k.work, &tape, &k.target, note_block, seen, &k.err), &k.err);
    assert_true(seen[0] == 2 && seen[1] == 1 && seen[2] == 0);
    case_close(&k);
}

/* ---- what must hold -------------------------------------------------------------------------- */

/* Text tokens have no positions: any order of them gives the same video. */
static void text_order(void **state)
{
    static const int64_t order[5] = {3, 0, 4, 1, 2};
    float text[2 * 5 * 12], moved[2 * 5 * 12];
    double a[576], b[576];
    Case k;

    (void)state;
    case_open(&k, "ref", 6, 4);
    CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
    get_torch(&k, &k.v, a);
    CHECK_OK(backend_get_f32(k.be, text, &k.text, &k.err), &k.err);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < 5; i++)
            memcpy(moved + (s * 5 + i) * 12, text + (s * 5 + order[i]) * 12, 12 * sizeof *text);
    CHECK_OK(backend_put_f32(k.be, &k.text, moved, &k.err), &k.err);
    CHECK_OK(dit_forward(k.dit, k.work, &k.v, &k.latents, &k.text, k.timestep, &k.err), &k.err);
    get_torch(&k, &k.v, b);
    for (int i = 0; i < 576; i++) /* sums over keys in another order, then rounded to float */
        check_value("permuted text", b[i], a[i], 2e-6, 0);
    case_close(&k);
}

/* Memory found on the plan back end is enough, and not a byte more is used; checkpointing needs
 * less. */
static void plan_is_exact(void **state)
{
    DitConfig c = tiny_config();
    Err err = {0};
    int64_t high[4];

    (void)state;
    c.layers = 6; /* enough for a policy to show */
    for (int run = 0; run < 2; run++)
        for (int p = 0; p < 4; p++) {
            Backend *be = NULL;
            Dit *d = NULL;
            Arena *work = NULL;
            DitTape *tape = NULL;
            Tensor latents, text, v;
            int64_t t[1] = {7};
            CHECK_OK(backend_open(&be, run ? "cpu" : "plan", 1, NULL, &err), &err);
            CHECK_OK(dit_new_filled(&d, be, &c, 1, &err), &err);
            CHECK_OK(arena_new(&work, be, run ? high[p] : 0, "test", &err), &err);
            CHECK_OK(arena_tensor(work, &latents, DT_F32, 5, &err, 1, 3, 6, 4, 4), &err);
            CHECK_OK(arena_tensor(work, &text, DT_F32, 3, &err, 1, 5, 12), &err);
            CHECK_OK(arena_tensor(work, &v, DT_F32, 5, &err, 1, 3, 6, 4, 4), &err);
            CHECK_OK(op_fill(be, &latents, 0.5f, &err), &err);
            CHECK_OK(op_fill(be, &text, 0.5f, &err), &err);
            if (p == 3) {
                CHECK_OK(dit_forward(d, work, &v, &latents, &text, t, &err), &err);
            } else {
                CHECK_OK(dit_forward_train(d, work, &tape, policies[p], &v, &latents, &text, t, &err), &err);
                CHECK_OK(dit_backward(d, work, &tape, &v, NULL, NULL, &err), &err);
            }
            if (run)
                assert_int_equal(arena_high(work), high[p]);
            high[p] = arena_high(work);
            arena_free(&work);
            dit_close(&d);
            backend_close(&be);
        }
    assert_true(high[3] < high[1] && high[1] < high[2] && high[2] < high[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_2b),          cmocka_unit_test(config_refusals), cmocka_unit_test(time_vector),
        cmocka_unit_test(position_codes),    cmocka_unit_test(forward_golden),  cmocka_unit_test(save_and_open),
        cmocka_unit_test(shapes_refused),    cmocka_unit_test(gradient_norms),  cmocka_unit_test(policies_same_bits),
        cmocka_unit_test(threads_same_bits), cmocka_unit_test(gradients_add),   cmocka_unit_test(central_differences),
        cmocka_unit_test(blocks_reported),   cmocka_unit_test(text_order),      cmocka_unit_test(small_queries),
        cmocka_unit_test(plan_is_exact),
    };
    return check_run("dit", tests);
}
