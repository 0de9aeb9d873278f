/* make_2b OUT
 *
 * Writes a checkpoint with the true CogVideoX-2B transformer and VAE configs and random fp16
 * weights (3.8 GB): what loading, memory and speed are tested with where the real weights are not
 * at hand.  Weights are uniform with variance 1/fan_in, norms near one, biases small, from Philox
 * by tensor number: every run writes the same bytes. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/str.h"
#include "common/model/dit.h"
#include "common/model/vae.h"

static const char transformer_json[] =
    "{\"_class_name\": \"CogVideoXTransformer3DModel\", \"num_attention_heads\": 30, \"attention_head_dim\": 64, "
    "\"num_layers\": 30,"
    " \"in_channels\": 16, \"out_channels\": 16, \"patch_size\": 2, \"attention_bias\": true, \"dropout\": 0.0,"
    " \"activation_fn\": \"gelu-approximate\", \"timestep_activation_fn\": \"silu\", \"flip_sin_to_cos\": true, "
    "\"freq_shift\": 0,"
    " \"time_embed_dim\": 512, \"text_embed_dim\": 4096, \"max_text_seq_length\": 226, \"norm_elementwise_affine\": "
    "true,"
    " \"norm_eps\": 1e-5, \"sample_width\": 90, \"sample_height\": 60, \"sample_frames\": 49, "
    "\"temporal_compression_ratio\": 4,"
    " \"spatial_interpolation_scale\": 1.875, \"temporal_interpolation_scale\": 1.0, "
    "\"use_rotary_positional_embeddings\": false}";
static const char vae_json[] =
    "{\"_class_name\": \"AutoencoderKLCogVideoX\", \"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 16,"
    " \"block_out_channels\": [128, 256, 256, 512], \"layers_per_block\": 3, \"act_fn\": \"silu\", \"norm_eps\": 1e-6,"
    " \"norm_num_groups\": 32, \"temporal_compression_ratio\": 4, \"sample_height\": 480, \"sample_width\": 720,"
    " \"scaling_factor\": 1.15258426,"
    " \"down_block_types\": [\"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\", "
    "\"CogVideoXDownBlock3D\"],"
    " \"up_block_types\": [\"CogVideoXUpBlock3D\", \"CogVideoXUpBlock3D\", \"CogVideoXUpBlock3D\", "
    "\"CogVideoXUpBlock3D\"]}";

/* A drawn number costs ten times what writing it does, so a tensor repeats its first ones.  Their number is
 * prime: no two rows are equal. */
enum { DRAWN = 65521 };

static void fill(const Param *p, uint64_t number, uint16_t *out)
{
    Philox stream = philox_stream(1, RNG_TEST, 0, number);
    int64_t n = 1, fan_in = 1;
    for (int i = 0; i < p->rank; i++)
        n *= p->dim[i];
    for (int i = 1; i < p->rank; i++)
        fan_in *= p->dim[i];
    float scale = p->rank > 1 ? (float)sqrt(12.0 / (double)fan_in) : 0.2f;
    float base = p->rank == 1 && str_ends_with(p->name, ".weight") ? 1.0f : 0.0f;
    int64_t drawn = n < DRAWN ? n : DRAWN;
    for (int64_t i = 0; i < drawn; i++)
        out[i] = float_to_half(base + scale * ((float)philox_uniform(&stream, (uint64_t)i) - 0.5f));
    for (int64_t i = drawn; i < n; i += drawn)
        memcpy(out + i, out, (size_t)(n - i < drawn ? n - i : drawn) * sizeof *out);
}

static int write_weights(const ParamSet *ps, const char *dir, Err *err)
{
    int64_t total = params_count(ps), at = 0;
    uint16_t *bytes = mem_calloc(total, sizeof *bytes, err);
    SafeSource *source = mem_calloc(ps->n, sizeof *source, err);
    char *path = path_join(dir, "diffusion_pytorch_model.safetensors", err);
    int rc = bytes && source && path ? 0 : ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < ps->n; i++) {
        const Param *p = &ps->param[i];
        source[i] = (SafeSource){p->name, tensor_view(bytes + at, DT_F16, p->rank, p->dim)};
        fill(p, (uint64_t)i, bytes + at);
        at += tensor_count(&source[i].tensor);
    }
    json_t *meta = json_pack("{s:s}", "format", "pt");
    if (rc == 0)
        rc = safetensors_write(path, source, ps->n, meta, err);
    json_decref(meta);
    mem_free(path);
    mem_free(source);
    mem_free(bytes);
    return rc;
}

/* Writes DIR/config.json from text; DIR is made. */
static int write_config(const char *dir, const char *text, Err *err)
{
    json_t *o = NULL;
    char *path = path_join(dir, "config.json", err);
    int rc = path ? dir_make(dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = json_parse(&o, text, (int64_t)strlen(text), "config", err);
    if (rc == 0)
        rc = json_write_file(o, path, err);
    json_decref(o);
    mem_free(path);
    return rc;
}

static int make_2b(const char *out, Err *err)
{
    Backend *plan = NULL;
    Dit *dit = NULL;
    Vae *vae = NULL;
    char *dit_dir = path_join(out, "transformer", err), *vae_dir = path_join(out, "vae", err);
    int rc = dit_dir && vae_dir ? backend_open(&plan, "plan", 1, NULL, err) : ERR_NOMEM;
    if (rc == 0)
        rc = write_config(dit_dir, transformer_json, err);
    if (rc == 0)
        rc = write_config(vae_dir, vae_json, err);
    if (rc == 0)
        rc = dit_open(&dit, plan, dit_dir, DIT_MAPPED, err); /* on the plan back end only the config is read */
    if (rc == 0)
        rc = write_weights(dit_params(dit), dit_dir, err);
    if (rc == 0)
        rc = vae_open(&vae, plan, vae_dir, VAE_BOTH, err);
    if (rc == 0)
        rc = write_weights(vae_params(vae), vae_dir, err);
    dit_close(&dit);
    vae_close(&vae);
    backend_close(&plan);
    mem_free(dit_dir);
    mem_free(vae_dir);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: make_2b OUT\n");
        return 2;
    }
    if (make_2b(argv[1], &err) < 0) {
        fprintf(stderr, "make_2b: %s\n", err.msg);
        return 1;
    }
    return 0;
}
