/* The transformer's config.json, and the two tables that are computed and not stored: time vector
 * and position codes. */
#include <math.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/str.h"
#include "common/model/dit_internal.h"

/* ---- config.json ----------------------------------------------------------------------------- */

/* An integer key: absent takes diffusers' default; outside [1, max] is an error. */
typedef struct SizeKey {
    const char *key;
    int64_t dflt, max, *out;
} SizeKey;

static int read_sizes(const SizeKey *k, int n, const json_t *json, const char *where, Err *err)
{
    for (int i = 0; i < n; i++) {
        TRY(json_get_int_or(json, k[i].key, where, k[i].dflt, k[i].out, err));
        if (*k[i].out < 1 || *k[i].out > k[i].max)
            return err_set(err, ERR_FORMAT, "%s: %s is %" PRId64 ", expected 1 to %" PRId64, where, k[i].key, *k[i].out,
                           k[i].max);
    }
    return 0;
}

static int require_flag(const json_t *json, const char *key, int dflt, int want, const char *why, const char *where,
                        Err *err)
{
    int value;

    TRY(json_get_bool_or(json, key, where, dflt, &value, err));
    return value == want ? 0
                         : err_set(err, ERR_UNSUPPORTED, "%s: %s is %s (%s): not supported", where, key,
                                   value ? "true" : "false", why);
}

static int require_null(const json_t *json, const char *key, const char *why, const char *where, Err *err)
{
    const json_t *v = json_object_get(json, key);

    return !v || json_is_null(v) ? 0
                                 : err_set(err, ERR_UNSUPPORTED, "%s: %s is set (%s): not supported", where, key, why);
}

static int require_name(const json_t *json, const char *key, const char *want, const char *where, Err *err)
{
    const char *text;

    TRY(json_get_str_or(json, key, where, want, &text, err));
    return strcmp(text, want)
               ? err_set(err, ERR_UNSUPPORTED, "%s: %s is '%s', only '%s' is supported", where, key, text, want)
               : 0;
}

/* An unknown key may name a variant that computes something else, unless it is null; diffusers' own
 * notes start with '_'. */
static int refuse_unknown(const json_t *json, const char *where, Err *err)
{
    static const char *const known[] = {
        "num_attention_heads",
        "attention_head_dim",
        "num_layers",
        "in_channels",
        "out_channels",
        "patch_size",
        "patch_size_t",
        "patch_bias",
        "attention_bias",
        "dropout",
        "activation_fn",
        "timestep_activation_fn",
        "flip_sin_to_cos",
        "freq_shift",
        "time_embed_dim",
        "text_embed_dim",
        "ofs_embed_dim",
        "max_text_seq_length",
        "norm_elementwise_affine",
        "norm_eps",
        "sample_width",
        "sample_height",
        "sample_frames",
        "temporal_compression_ratio",
        "spatial_interpolation_scale",
        "temporal_interpolation_scale",
        "use_rotary_positional_embeddings",
        "use_learned_positional_embeddings",
        NULL,
    };
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)json, key, value) {
        int found = key[0] == '_' || json_is_null(value);
        for (int i = 0; known[i] && !found; i++)
            found = strcmp(key, known[i]) == 0;
        if (!found) {
            const char *near = str_nearest(key, known);
            return err_set(err, ERR_UNSUPPORTED, "%s: unknown key '%s'%s%s%s", where, key,
                           near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
        }
    }
    return 0;
}

/* The variants of the same class that compute something else. */
static int refuse_variants(const json_t *json, const char *where, Err *err)
{
    double dropout;

    TRY(refuse_unknown(json, where, err));
    TRY(require_name(json, "_class_name", "CogVideoXTransformer3DModel", where, err));
    /* the 1.5 models are rotary too, so their own keys are asked first */
    TRY(require_null(json, "ofs_embed_dim", "a CogVideoX 1.5 image-to-video model", where, err));
    TRY(require_null(json, "patch_size_t", "a CogVideoX 1.5 model", where, err));
    TRY(require_flag(json, "use_rotary_positional_embeddings", 0, 0, "a CogVideoX-5B model", where, err));
    TRY(require_flag(json, "use_learned_positional_embeddings", 0, 0, "an image-to-video model", where, err));
    TRY(require_name(json, "activation_fn", "gelu-approximate", where, err));
    TRY(require_name(json, "timestep_activation_fn", "silu", where, err));
    TRY(require_flag(json, "attention_bias", 1, 1, "projections without bias", where, err));
    TRY(require_flag(json, "patch_bias", 1, 1, "patch embedding without bias", where, err));
    TRY(require_flag(json, "norm_elementwise_affine", 1, 1, "norms without weights", where, err));
    TRY(json_get_num_or(json, "dropout", where, 0.0, &dropout, err));
    return dropout == 0 ? 0 : err_set(err, ERR_UNSUPPORTED, "%s: dropout is %g, only 0 is supported", where, dropout);
}

int dit_config_parse(DitConfig *out, const json_t *json, const char *where, Err *err)
{
    DitConfig c;
    const SizeKey size[] = {
        {"num_attention_heads", 30, 1024, &c.heads},
        {"attention_head_dim", 64, 1024, &c.head_dim},
        {"num_layers", 30, 1024, &c.layers},
        {"in_channels", 16, 4096, &c.in_channels},
        {"out_channels", 16, 4096, &c.out_channels},
        {"patch_size", 2, 16, &c.patch},
        {"time_embed_dim", 512, 65536, &c.time_dim},
        {"text_embed_dim", 4096, 65536, &c.text_dim},
        {"max_text_seq_length", 226, 65536, &c.text_len},
        {"sample_width", 90, 16384, &c.sample_width},
        {"sample_height", 60, 16384, &c.sample_height},
        {"sample_frames", 49, 16384, &c.sample_frames},
        {"temporal_compression_ratio", 4, 64, &c.temporal_ratio},
    };

    memset(&c, 0, sizeof c);
    if (!json_is_object(json))
        return err_set(err, ERR_FORMAT, "%s: expected a JSON object", where);
    TRY(refuse_variants(json, where, err));
    TRY(read_sizes(size, (int)(sizeof size / sizeof *size), json, where, err));
    TRY(json_get_num_or(json, "spatial_interpolation_scale", where, 1.875, &c.spatial_scale, err));
    TRY(json_get_num_or(json, "temporal_interpolation_scale", where, 1.0, &c.temporal_scale, err));
    TRY(json_get_num_or(json, "norm_eps", where, 1e-5, &c.norm_eps, err));
    TRY(json_get_bool_or(json, "flip_sin_to_cos", where, 1, &c.flip_sin_to_cos, err));
    TRY(json_get_num_or(json, "freq_shift", where, 0.0, &c.freq_shift, err));
    if (c.heads * c.head_dim % 16)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: width %" PRId64
                       " (num_attention_heads x attention_head_dim) is no multiple of 16: the position "
                       "code cannot be split",
                       where, c.heads * c.head_dim);
    if (!(c.spatial_scale > 0 && c.temporal_scale > 0 && c.norm_eps > 0))
        return err_set(
            err, ERR_FORMAT,
            "%s: spatial_interpolation_scale %g, temporal_interpolation_scale %g and norm_eps %g must be positive",
            where, c.spatial_scale, c.temporal_scale, c.norm_eps);
    if (!(c.freq_shift >= 0 && c.freq_shift < (double)(c.heads * c.head_dim / 2)))
        return err_set(err, ERR_FORMAT, "%s: freq_shift is %g, expected 0 to half the width", where, c.freq_shift);
    *out = c;
    return 0;
}

json_t *dit_config_json(const DitConfig *c, Err *err)
{
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "_class_name", "CogVideoXTransformer3DModel");
    jsonw_str(&w, "_diffusers_version", "0.30.0");
    jsonw_str(&w, "activation_fn", "gelu-approximate");
    jsonw_int(&w, "attention_head_dim", c->head_dim);
    jsonw_bool(&w, "attention_bias", 1);
    jsonw_num(&w, "dropout", 0.0);
    jsonw_bool(&w, "flip_sin_to_cos", c->flip_sin_to_cos);
    jsonw_num(&w, "freq_shift", c->freq_shift);
    jsonw_int(&w, "in_channels", c->in_channels);
    jsonw_int(&w, "max_text_seq_length", c->text_len);
    jsonw_int(&w, "num_attention_heads", c->heads);
    jsonw_bool(&w, "norm_elementwise_affine", 1);
    jsonw_num(&w, "norm_eps", c->norm_eps);
    jsonw_int(&w, "num_layers", c->layers);
    jsonw_int(&w, "out_channels", c->out_channels);
    jsonw_int(&w, "patch_size", c->patch);
    jsonw_int(&w, "sample_frames", c->sample_frames);
    jsonw_int(&w, "sample_height", c->sample_height);
    jsonw_int(&w, "sample_width", c->sample_width);
    jsonw_int(&w, "temporal_compression_ratio", c->temporal_ratio);
    jsonw_num(&w, "spatial_interpolation_scale", c->spatial_scale);
    jsonw_int(&w, "text_embed_dim", c->text_dim);
    jsonw_num(&w, "temporal_interpolation_scale", c->temporal_scale);
    jsonw_int(&w, "time_embed_dim", c->time_dim);
    jsonw_str(&w, "timestep_activation_fn", "silu");
    jsonw_bool(&w, "use_rotary_positional_embeddings", 0);
    return jsonw_finish(&w, &out, "the transformer's config", err) < 0 ? NULL : out;
}

/* ---- time vector ----------------------------------------------------------------------------- */

/* float32 arithmetic all through, step by step as diffusers computes it: with t near 1000 the
 * angle's own rounding (7e-5) is part of what the weights were trained on. */
void dit_time_vector(const DitConfig *c, int64_t t, float *out)
{
    int64_t half = c->heads * c->head_dim / 2;
    const float log_period = (float)-9.210340371976184 /* -ln 10000 */, divisor = (float)((double)half - c->freq_shift);
    float *cosine = c->flip_sin_to_cos ? out : out + half, *sine = c->flip_sin_to_cos ? out + half : out;

    for (int64_t i = 0; i < half; i++) {
        float frequency = expf(log_period * (float)i / divisor), angle = (float)t * frequency;
        cosine[i] = cosf(angle);
        sine[i] = sinf(angle);
    }
}

/* ---- position codes -------------------------------------------------------------------------- */

/* One axis: out[0..width) = sin(s w_k) then cos(s w_k), w_k = 10000^(-k/(width/2)); s is rounded to
 * float, the rest is double. */
static void axis_code(int64_t index, double scale, int64_t width, float *out)
{
    double s = (double)((float)index / (float)scale);
    int64_t half = width / 2;

    for (int64_t k = 0; k < half; k++) {
        double angle = s * (1.0 / pow(10000.0, (double)k / (double)half));
        out[k] = (float)sin(angle);
        out[half + k] = (float)cos(angle);
    }
}

/* Width is cut into a quarter for time, three eighths for the *column*, three eighths for the row. */
void dit_position_frame(const DitConfig *c, int64_t frame, int64_t rows, int64_t cols, float *out)
{
    int64_t D = c->heads * c->head_dim, wt = D / 4, ws = 3 * D / 8;

    /* each code is computed once, in the first token that has it, and copied from there */
    axis_code(frame, c->temporal_scale, wt, out);
    for (int64_t x = 0; x < cols; x++)
        axis_code(x, c->spatial_scale, ws, out + x * D + wt);
    for (int64_t r = 0; r < rows; r++)
        axis_code(r, c->spatial_scale, ws, out + r * cols * D + wt + ws);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t x = 0; x < cols; x++) {
            float *token = out + (r * cols + x) * D;
            if (r || x)
                memcpy(token, out, (size_t)wt * sizeof *out);
            if (r)
                memcpy(token + wt, out + x * D + wt, (size_t)ws * sizeof *out);
            if (x)
                memcpy(token + wt + ws, out + r * cols * D + wt + ws, (size_t)ws * sizeof *out);
        }
}

void dit_position_table(const DitConfig *c, int64_t frames, int64_t rows, int64_t cols, float *out)
{
    for (int64_t f = 0; f < frames; f++)
        dit_position_frame(c, f, rows, cols, out + f * rows * cols * c->heads * c->head_dim);
}
