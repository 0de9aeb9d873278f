#include "common/model/vae.h"

#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/vae_internal.h"

#define STEM "diffusion_pytorch_model"
/* Of every norm but those of the encoder's residual blocks: diffusers reads the config's norm_eps
 * only there. */
#define FIXED_EPS 1e-6

/* ---- config ---------------------------------------------------------------------------------- */

static const char *const known_keys[] = {"act_fn",           "block_out_channels",
                                         "down_block_types", "force_upcast",
                                         "in_channels",      "invert_scale_latents",
                                         "latent_channels",  "latents_mean",
                                         "latents_std",      "layers_per_block",
                                         "norm_eps",         "norm_num_groups",
                                         "out_channels",     "sample_height",
                                         "sample_width",     "scaling_factor",
                                         "shift_factor",     "temporal_compression_ratio",
                                         "up_block_types",   "use_post_quant_conv",
                                         "use_quant_conv",   NULL};

static int check_keys(const json_t *json, const char *where, Err *err)
{
    const char *key, *class_name;
    json_t *value;
    int rc = json_get_str_or(json, "_class_name", where, "AutoencoderKLCogVideoX", &class_name, err);
    if (rc)
        return rc;
    if (strcmp(class_name, "AutoencoderKLCogVideoX"))
        return err_set(err, ERR_UNSUPPORTED, "%s: the class is '%s', expected AutoencoderKLCogVideoX", where,
                       class_name);
    json_object_foreach ((json_t *)json, key, value) {
        int known = key[0] == '_' || json_is_null(value); /* diffusers' own notes; a key that is not set */
        for (int i = 0; known_keys[i] && !known; i++)
            known = !strcmp(key, known_keys[i]);
        if (!known) {
            const char *near = str_nearest(key, known_keys);
            return err_set(err, ERR_UNSUPPORTED, "%s: unknown key '%s'%s%s%s", where, key,
                           near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
        }
    }
    return 0;
}

/* Every element of the list must be `want`; absent passes. */
static int check_types(const json_t *json, const char *key, const char *want, int64_t n, const char *where, Err *err)
{
    const json_t *list = json_object_get(json, key);
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n)
        return err_set(err, ERR_FORMAT, "%s: %s must be a list of %" PRId64 ", one for each of block_out_channels",
                       where, key, n);
    for (int64_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        if (!name || strcmp(name, want))
            return err_set(err, ERR_UNSUPPORTED, "%s: %s[%" PRId64 "] is '%s', expected %s", where, key, i,
                           name ? name : "(no string)", want);
    }
    return 0;
}

static int parse_blocks(VaeConfig *c, const json_t *json, const char *where, Err *err)
{
    static const int64_t dflt[] = {128, 256, 256, 512};
    const json_t *list = json_object_get(json, "block_out_channels");
    c->n_blocks = list ? (int64_t)json_array_size(list) : 4;
    if ((list && !json_is_array(list)) || c->n_blocks < 1 || c->n_blocks > VAE_BLOCKS_MAX)
        return err_set(err, ERR_UNSUPPORTED, "%s: block_out_channels must be a list of 1 to %d", where, VAE_BLOCKS_MAX);
    for (int64_t i = 0; i < c->n_blocks; i++) {
        const json_t *v = list ? json_array_get(list, (size_t)i) : NULL;
        c->block_channels[i] = list ? json_integer_value(v) : dflt[i];
        if (c->block_channels[i] < 1 || c->block_channels[i] > 1 << 16)
            return err_set(err, ERR_FORMAT, "%s: block_out_channels[%" PRId64 "] must be an integer in 1..65536", where,
                           i);
    }
    int rc = check_types(json, "down_block_types", "CogVideoXDownBlock3D", c->n_blocks, where, err);
    return rc ? rc : check_types(json, "up_block_types", "CogVideoXUpBlock3D", c->n_blocks, where, err);
}

static int check_values(const VaeConfig *c, double ratio, const char *where, Err *err)
{
    const struct {
        const char *key;
        int64_t value, most;
    } range[] = {
        {"in_channels", c->in_channels, 1024},         {"out_channels", c->out_channels, 1024},
        {"latent_channels", c->latent_channels, 1024}, {"layers_per_block", c->layers_per_block, VAE_LAYERS_MAX},
        {"norm_num_groups", c->groups, 1 << 16},       {"sample_height", c->sample_height, 1 << 14},
        {"sample_width", c->sample_width, 1 << 14}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < 1 || range[i].value > range[i].most)
            return err_set(err, ERR_FORMAT, "%s: %s is %" PRId64 ", expected 1..%" PRId64, where, range[i].key,
                           range[i].value, range[i].most);
    for (int64_t i = 0; i < c->n_blocks; i++)
        if (c->block_channels[i] % c->groups)
            return err_set(err, ERR_FORMAT,
                           "%s: block_out_channels[%" PRId64 "] = %" PRId64
                           " is no multiple of norm_num_groups = %" PRId64,
                           where, i, c->block_channels[i], c->groups);
    if ((double)c->temporal_ratio != ratio || c->temporal_ratio < 1 || (c->temporal_ratio & (c->temporal_ratio - 1)) ||
        c->temporal_ratio > 1 << (c->n_blocks - 1))
        return err_set(err, ERR_UNSUPPORTED, "%s: temporal_compression_ratio is %g, expected a power of two up to %d",
                       where, ratio, 1 << (c->n_blocks - 1));
    if (!(c->norm_eps > 0 && c->norm_eps < 1) || !(c->scaling_factor > 0 && c->scaling_factor < 1e6))
        return err_set(err, ERR_FORMAT, "%s: norm_eps %g and scaling_factor %g must be positive numbers", where,
                       c->norm_eps, c->scaling_factor);
    return 0;
}

/* Frames, pictures and latents of the programs are counted for one shape of VAE: 8x in space, 4x in
 * time, RGB.  Other shapes exist in diffusers' class, not among CogVideoX's models. */
static int check_shape(const VaeConfig *c, const char *where, Err *err)
{
    if (c->n_blocks != 4)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: a VAE of %" PRId64 "x compression in space (block_out_channels has %" PRId64
                       " entries), expected 8x (4 "
                       "entries), as in every CogVideoX",
                       where, vae_scale(c), c->n_blocks);
    if (c->temporal_ratio != 4)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: a VAE of %" PRId64
                       "x compression in time (temporal_compression_ratio), expected 4x, as in every "
                       "CogVideoX",
                       where, c->temporal_ratio);
    if (c->in_channels != 3 || c->out_channels != 3)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: a VAE with in_channels %" PRId64 " and out_channels %" PRId64 ", expected 3 and 3 (RGB)",
                       where, c->in_channels, c->out_channels);
    return 0;
}

int vae_config_parse(VaeConfig *out, const json_t *json, const char *where, Err *err)
{
    VaeConfig c = {0};
    double ratio;
    int quant, post_quant;
    const char *act;
    int rc = check_keys(json, where, err);
    if (rc || (rc = json_get_int_or(json, "in_channels", where, 3, &c.in_channels, err)) ||
        (rc = json_get_int_or(json, "out_channels", where, 3, &c.out_channels, err)) ||
        (rc = json_get_int_or(json, "latent_channels", where, 16, &c.latent_channels, err)) ||
        (rc = json_get_int_or(json, "layers_per_block", where, 3, &c.layers_per_block, err)) ||
        (rc = json_get_int_or(json, "norm_num_groups", where, 32, &c.groups, err)) ||
        (rc = json_get_int_or(json, "sample_height", where, 480, &c.sample_height, err)) ||
        (rc = json_get_int_or(json, "sample_width", where, 720, &c.sample_width, err)) ||
        (rc = json_get_num_or(json, "norm_eps", where, 1e-6, &c.norm_eps, err)) ||
        (rc = json_get_num_or(json, "scaling_factor", where, 1.15258426, &c.scaling_factor, err)) ||
        (rc = json_get_num_or(json, "temporal_compression_ratio", where, 4, &ratio, err)) ||
        (rc = json_get_bool_or(json, "use_quant_conv", where, 0, &quant, err)) ||
        (rc = json_get_bool_or(json, "use_post_quant_conv", where, 0, &post_quant, err)) ||
        (rc = json_get_bool_or(json, "invert_scale_latents", where, 0, &c.invert_scale_latents, err)) ||
        (rc = json_get_str_or(json, "act_fn", where, "silu", &act, err)) || (rc = parse_blocks(&c, json, where, err)))
        return rc;
    if (quant || post_quant)
        return err_set(err, ERR_UNSUPPORTED, "%s: %s is true, expected false", where,
                       quant ? "use_quant_conv" : "use_post_quant_conv");
    if (strcmp(act, "silu") && strcmp(act, "swish"))
        return err_set(err, ERR_UNSUPPORTED, "%s: act_fn is '%s', expected silu", where, act);
    c.temporal_ratio = ratio >= 1 && ratio <= 1 << VAE_BLOCKS_MAX ? (int64_t)ratio : 0;
    if ((rc = check_values(&c, ratio, where, err)) || (rc = check_shape(&c, where, err)))
        return rc;
    *out = c;
    return 0;
}

static void put_types(JsonWriter *w, const char *key, const char *type, int64_t n)
{
    jsonw_open_array(w, key);
    for (int64_t i = 0; i < n; i++)
        jsonw_str(w, NULL, type);
    jsonw_close(w);
}

json_t *vae_config_json(const VaeConfig *c, Err *err)
{
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "_class_name", "AutoencoderKLCogVideoX");
    jsonw_str(&w, "_diffusers_version", "0.31.0");
    jsonw_str(&w, "act_fn", "silu");
    jsonw_ints(&w, "block_out_channels", c->block_channels, c->n_blocks);
    put_types(&w, "down_block_types", "CogVideoXDownBlock3D", c->n_blocks);
    jsonw_bool(&w, "force_upcast", 1);
    jsonw_int(&w, "in_channels", c->in_channels);
    jsonw_bool(&w, "invert_scale_latents", c->invert_scale_latents);
    jsonw_int(&w, "latent_channels", c->latent_channels);
    jsonw_null(&w, "latents_mean");
    jsonw_null(&w, "latents_std");
    jsonw_int(&w, "layers_per_block", c->layers_per_block);
    jsonw_num(&w, "norm_eps", c->norm_eps);
    jsonw_int(&w, "norm_num_groups", c->groups);
    jsonw_int(&w, "out_channels", c->out_channels);
    jsonw_int(&w, "sample_height", c->sample_height);
    jsonw_int(&w, "sample_width", c->sample_width);
    jsonw_num(&w, "scaling_factor", c->scaling_factor);
    jsonw_null(&w, "shift_factor");
    jsonw_int(&w, "temporal_compression_ratio", c->temporal_ratio);
    put_types(&w, "up_block_types", "CogVideoXUpBlock3D", c->n_blocks);
    jsonw_bool(&w, "use_post_quant_conv", 0);
    jsonw_bool(&w, "use_quant_conv", 0);
    return jsonw_finish(&w, &out, "the VAE's config", err) < 0 ? NULL : out;
}

int64_t vae_scale(const VaeConfig *c)
{
    return (int64_t)1 << (c->n_blocks - 1);
}

/* ---- the graph and its names ----------------------------------------------------------------- */

/* The graph is walked twice: first every parameter is added to the table, then, sorted, each is
 * looked up. */
typedef struct Walk {
    Vae *v;
    int bind;
    Err *err;
} Walk;

static int param(const Walk *w, const Param **out, int conv, int rank, const int64_t *dim, const char *prefix,
                 const char *suffix)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    if (!w->bind)
        return params_add(&w->v->ps, conv, name, rank, dim, w->err);
    *out = params_find(&w->v->ps, name);
    return 0;
}

static int pair(const Walk *w, const Param **weight, const Param **bias, int conv, int rank, const int64_t *dim,
                const char *prefix, const char *suffix)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    int rc = param(w, weight, conv, rank, dim, name, ".weight");
    return rc ? rc : param(w, bias, 0, 1, dim, name, ".bias");
}

static int causal(const Walk *w, VaeConv *c, int64_t ci, int64_t co, const char *prefix, const char *name)
{
    char inner[160];
    snprintf(inner, sizeof inner, "%s.conv", name);
    return pair(w, &c->w, &c->b, 1, 5, (const int64_t[]){co, ci, 3, 3, 3}, prefix, inner);
}

static int norm(const Walk *w, VaeNorm *n, int conditioned, int64_t C, const char *prefix, const char *name)
{
    char full[160];
    const int64_t dim[] = {C, w->v->c.latent_channels, 1, 1, 1};
    n->eps = FIXED_EPS;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    int rc = pair(w, &n->w, &n->b, 0, 1, &C, full, conditioned ? ".norm_layer" : "");
    if (rc || !conditioned)
        return rc;
    rc = pair(w, &n->scale_w, &n->scale_b, 0, 5, dim, full, ".conv_y.conv");
    return rc ? rc : pair(w, &n->shift_w, &n->shift_b, 0, 5, dim, full, ".conv_b.conv");
}

static int residual(const Walk *w, VaeRes *r, int decoder, int64_t ci, int64_t co, const char *stage, int64_t i)
{
    char p[128];
    int rc;
    snprintf(p, sizeof p, "%s.resnets.%" PRId64 ".", stage, i);
    r->ci = ci;
    r->co = co;
    if ((rc = norm(w, &r->norm1, decoder, ci, p, "norm1")) || (rc = causal(w, &r->conv1, ci, co, p, "conv1")) ||
        (rc = norm(w, &r->norm2, decoder, co, p, "norm2")) || (rc = causal(w, &r->conv2, co, co, p, "conv2")))
        return rc;
    if (!decoder)
        r->norm1.eps = r->norm2.eps = w->v->c.norm_eps;
    return ci == co
               ? 0
               : pair(w, &r->shortcut_w, &r->shortcut_b, 0, 5, (const int64_t[]){co, ci, 1, 1, 1}, p, "conv_shortcut");
}

static int stage(const Walk *w, VaeNet *net, int64_t *C, int64_t co, int64_t n_res, const char *resample, int time,
                 const char *prefix)
{
    VaeStage *s = &net->stage[net->n_stages++];
    int rc = 0;
    s->n_res = n_res;
    for (int64_t i = 0; i < n_res && !rc; i++, *C = co)
        rc = residual(w, &s->res[i], net->decoder, *C, co, prefix, i);
    if (rc || !resample)
        return rc;
    s->time = time;
    return pair(w, &s->resample_w, &s->resample_b, 1, 4, (const int64_t[]){co, co, 3, 3}, prefix, resample);
}

static int walk_encoder(const Walk *w)
{
    const VaeConfig *c = &w->v->c;
    VaeNet *net = &w->v->enc;
    int64_t C = c->block_channels[0], last = c->n_blocks - 1;
    char p[64];
    *net = (VaeNet){.in_channels = c->in_channels, .out_channels = 2 * c->latent_channels, .first_channels = C};
    int rc = causal(w, &net->conv_in, c->in_channels, C, "encoder.", "conv_in");
    for (int64_t i = 0; i <= last && !rc; i++) {
        snprintf(p, sizeof p, "encoder.down_blocks.%" PRId64, i);
        rc = stage(w, net, &C, c->block_channels[i], c->layers_per_block, i < last ? ".downsamplers.0.conv" : NULL,
                   (c->temporal_ratio >> i) > 1, p);
    }
    if (rc || (rc = stage(w, net, &C, C, 2, NULL, 0, "encoder.mid_block")) ||
        (rc = norm(w, &net->norm_out, 0, C, "encoder.", "norm_out")))
        return rc;
    return causal(w, &net->conv_out, C, net->out_channels, "encoder.", "conv_out");
}

static int walk_decoder(const Walk *w)
{
    const VaeConfig *c = &w->v->c;
    VaeNet *net = &w->v->dec;
    int64_t last = c->n_blocks - 1, C = c->block_channels[last];
    char p[64];
    *net = (VaeNet){
        .decoder = 1, .in_channels = c->latent_channels, .out_channels = c->out_channels, .first_channels = C};
    int rc = causal(w, &net->conv_in, c->latent_channels, C, "decoder.", "conv_in");
    rc = rc ? rc : stage(w, net, &C, C, 2, NULL, 0, "decoder.mid_block");
    for (int64_t i = 0; i <= last && !rc; i++) {
        snprintf(p, sizeof p, "decoder.up_blocks.%" PRId64, i);
        rc = stage(w, net, &C, c->block_channels[last - i], c->layers_per_block + 1,
                   i < last ? ".upsamplers.0.conv" : NULL, (c->temporal_ratio >> i) > 1, p);
    }
    if (rc || (rc = norm(w, &net->norm_out, 1, C, "decoder.", "norm_out")))
        return rc;
    return causal(w, &net->conv_out, C, c->out_channels, "decoder.", "conv_out");
}

static int walk(Vae *v, int bind, Err *err)
{
    Walk w = {v, bind, err};
    int rc = walk_encoder(&w);
    return rc ? rc : walk_decoder(&w);
}

/* ---- open, save, close ----------------------------------------------------------------------- */

static int vae_new(Vae **out, Backend *be, const VaeConfig *c, VaeUse use, Err *err)
{
    Vae *v = mem_calloc(1, sizeof *v, err);
    *out = v;
    if (!v)
        return ERR_NOMEM;
    v->c = *c;
    v->be = be;
    v->ps.left_out = use == VAE_ENCODES ? "decoder." : use == VAE_DECODES ? "encoder." : NULL;
    int rc = walk(v, 0, err);
    if (rc || (rc = params_finish(&v->ps, err)))
        return rc;
    return walk(v, 1, err);
}

int vae_plan_weights(Backend *be, const char *folder, VaeUse use, int64_t *bytes, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    SafeTensors *file = NULL;
    json_t *json = NULL;
    Vae *v = NULL;
    VaeConfig c;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (!rc && !(rc = vae_config_parse(&c, json, path, err)) && !(rc = vae_new(&v, be, &c, use, err)) &&
        !(rc = safetensors_open_folder(&file, folder, STEM, be->log, err)))
        rc = params_mapped_bytes(&v->ps, be, file, folder, bytes, err);
    safetensors_close(&file);
    json_decref(json);
    mem_free(path);
    vae_close(&v);
    return rc;
}

int vae_open(Vae **out, Backend *be, const char *folder, VaeUse use, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    SafeTensors *file = NULL;
    json_t *json = NULL;
    VaeConfig c;
    *out = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (rc || (rc = vae_config_parse(&c, json, path, err)) || (rc = vae_new(out, be, &c, use, err)))
        goto fail;
    if (be->plan)
        rc = params_plan(&(*out)->ps, be, err);
    else if (!(rc = safetensors_open_folder(&file, folder, STEM, be->log, err)))
        rc = params_load_mapped(&(*out)->ps, be, &file, folder, err);
fail:
    safetensors_close(&file);
    json_decref(json);
    mem_free(path);
    if (rc)
        vae_close(out);
    return rc;
}

int vae_check_weights(const VaeConfig *c, const char *folder, const Log *log, Err *err)
{
    Vae *v = NULL;
    int rc = vae_new(&v, NULL, c, VAE_BOTH, err);
    if (!rc)
        rc = params_check_folder(&v->ps, folder, STEM, log, err);
    vae_close(&v);
    return rc;
}

int vae_new_filled(Vae **out, Backend *be, const VaeConfig *c, Err *err)
{
    int rc = vae_new(out, be, c, VAE_BOTH, err);
    if (!rc)
        rc = be->plan ? params_plan(&(*out)->ps, be, err) : params_fill(&(*out)->ps, be, err);
    if (rc)
        vae_close(out);
    return rc;
}

void vae_close(Vae **v)
{
    if (!v || !*v)
        return;
    params_fini(&(*v)->ps);
    mem_free_aligned((*v)->staging);
    mem_free(*v);
    *v = NULL;
}

const VaeConfig *vae_config(const Vae *v)
{
    return &v->c;
}

ParamSet *vae_params(Vae *v)
{
    return &v->ps;
}

int vae_save(Vae *v, const char *folder, DType dtype, Err *err)
{
    char *config = path_join(folder, "config.json", err), *weights = path_join(folder, STEM ".safetensors", err);
    json_t *json = vae_config_json(&v->c, err);
    int rc = config && weights && json ? dir_make(folder, err) : ERR_NOMEM;
    if (!rc)
        rc = params_save(&v->ps, weights, dtype, err);
    if (!rc)
        rc = json_write_file(json, config, err);
    json_decref(json);
    mem_free(config);
    mem_free(weights);
    return rc;
}
