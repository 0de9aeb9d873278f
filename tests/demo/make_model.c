/* make_model OUT METADATA_JSONL
 *
 * Writes a tiny CogVideoX pipeline folder in diffusers layout: transformer, VAE and T5 with the
 * deterministic filler's weights, the noise schedule of the 2B model, and a SentencePiece model
 * trained on its captions.  Nothing in it has ever seen a video; make_base.sh takes its
 * tokenizer to start from. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/dit.h"
#include "common/model/t5.h"
#include "common/model/vae.h"
#include "common/text/t5_tokenizer.h"

enum { PIECES = 192 };

static const char transformer_json[] =
    "{\"num_attention_heads\": 4, \"attention_head_dim\": 32, \"in_channels\": 8, \"out_channels\": 8, "
    "\"flip_sin_to_cos\": true,"
    " \"freq_shift\": 0, \"time_embed_dim\": 64, \"text_embed_dim\": 64, \"num_layers\": 4, \"dropout\": 0.0, "
    "\"attention_bias\": true,"
    " \"sample_width\": 8, \"sample_height\": 12, \"sample_frames\": 9, \"patch_size\": 2, "
    "\"temporal_compression_ratio\": 4,"
    " \"max_text_seq_length\": 16, \"activation_fn\": \"gelu-approximate\", \"timestep_activation_fn\": \"silu\","
    " \"norm_elementwise_affine\": true, \"norm_eps\": 1e-5, \"spatial_interpolation_scale\": 1.875,"
    " \"temporal_interpolation_scale\": 1.0, \"use_rotary_positional_embeddings\": false}";
static const char vae_json[] = "{\"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 8, "
                               "\"block_out_channels\": [16, 16, 32, 32], \"layers_per_block\": 1,"
                               " \"act_fn\": \"silu\", \"norm_eps\": 1e-6, \"norm_num_groups\": 8, "
                               "\"temporal_compression_ratio\": 4, \"sample_height\": 96,"
                               " \"sample_width\": 64, \"scaling_factor\": 1.15258426,"
                               " \"down_block_types\": [\"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\", "
                               "\"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\"],"
                               " \"up_block_types\": [\"CogVideoXUpBlock3D\", \"CogVideoXUpBlock3D\", "
                               "\"CogVideoXUpBlock3D\", \"CogVideoXUpBlock3D\"]}";
static const char t5_json[] =
    "{\"vocab_size\": 320, \"d_model\": 64, \"d_kv\": 16, \"num_heads\": 4, \"d_ff\": 128, \"num_layers\": 2,"
    " \"feed_forward_proj\": \"gated-gelu\", \"relative_attention_num_buckets\": 32, "
    "\"relative_attention_max_distance\": 128,"
    " \"layer_norm_epsilon\": 1e-6}";
static const char scheduler_json[] =
    "{\"_class_name\": \"CogVideoXDDIMScheduler\", \"_diffusers_version\": \"0.35.2\", \"num_train_timesteps\": 1000,"
    " \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"trained_betas\": null, "
    "\"clip_sample\": false,"
    " \"clip_sample_range\": 1.0, \"sample_max_value\": 1.0, \"set_alpha_to_one\": true, \"steps_offset\": 0, "
    "\"prediction_type\": \"v_prediction\","
    " \"timestep_spacing\": \"trailing\", \"rescale_betas_zero_snr\": true, \"snr_shift_scale\": 3.0}";
static const char index_json[] =
    "{\"_class_name\": \"CogVideoXPipeline\", \"_diffusers_version\": \"0.35.2\","
    " \"scheduler\": [\"diffusers\", \"CogVideoXDDIMScheduler\"],"
    " \"text_encoder\": [\"transformers\", \"T5EncoderModel\"], \"tokenizer\": [\"transformers\", \"T5Tokenizer\"],"
    " \"transformer\": [\"diffusers\", \"CogVideoXTransformer3DModel\"], \"vae\": [\"diffusers\", "
    "\"AutoencoderKLCogVideoX\"]}";
static const char tokenizer_json[] = "{\"tokenizer_class\": \"T5Tokenizer\", \"model_max_length\": 16, \"eos_token\": "
                                     "\"</s>\", \"pad_token\": \"<pad>\","
                                     " \"unk_token\": \"<unk>\", \"extra_ids\": 100, \"legacy\": true}";

/* OUT/PART, made. */
static char *part_dir(const char *out, const char *part, Err *err)
{
    char *dir = path_join(out, part, err);
    if (dir && dir_make(dir, err) < 0) {
        mem_free(dir);
        return NULL;
    }
    return dir;
}

static int write_json(const char *dir, const char *name, const char *text, Err *err)
{
    json_t *o = NULL;
    char *path = path_join(dir, name, err);
    int rc = path ? json_parse(&o, text, (int64_t)strlen(text), name, err) : ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(o, path, err);
    json_decref(o);
    mem_free(path);
    return rc;
}

/* The captions of a metadata.jsonl: list[0..n-1], owned by the objects in *all. */
static int read_captions(const char *path, json_t **all, const char ***list, int64_t *n, Err *err)
{
    char *text = NULL, *line, *rest = NULL;
    int64_t size = 0, most = 1;
    int rc = file_read(path, 1 << 28, &text, &size, err);
    for (int64_t i = 0; rc == 0 && i < size; i++)
        most += text[i] == '\n';
    *all = json_array();
    if (rc == 0 && !(*all && (*list = mem_calloc(most, sizeof **list, err))))
        rc = ERR_NOMEM;
    for (line = rc == 0 ? strtok_r(text, "\n", &rest) : NULL; rc == 0 && line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *o = NULL;
        if ((rc = json_parse(&o, line, (int64_t)strlen(line), path, err)) == 0) {
            json_array_append_new(*all, o);
            rc = json_get_str(o, "text", path, &(*list)[(*n)++], err);
        }
    }
    mem_free(text);
    return rc;
}

static int make_tokenizer(Backend *be, const char *dir, const char *captions, Err *err)
{
    json_t *all = NULL;
    const char **lines = NULL;
    int64_t n = 0;
    char *path = path_join(dir, "spiece.model", err);
    (void)be;
    int rc = path ? read_captions(captions, &all, &lines, &n, err) : ERR_NOMEM;
    if (rc == 0)
        rc = t5_tokenizer_train(path, lines, n, PIECES, err);
    if (rc == 0)
        rc = write_json(dir, "tokenizer_config.json", tokenizer_json, err);
    json_decref(all);
    mem_free(lines);
    mem_free(path);
    return rc;
}

static int make_transformer(Backend *be, const char *dir, const char *captions, Err *err)
{
    DitConfig c;
    Dit *dit = NULL;
    json_t *o = NULL;
    (void)captions;
    int rc = json_parse(&o, transformer_json, sizeof transformer_json - 1, "transformer", err);
    if (rc == 0)
        rc = dit_config_parse(&c, o, "transformer", err);
    if (rc == 0)
        rc = dit_new_filled(&dit, be, &c, 0, err);
    if (rc == 0)
        rc = dit_save(dit, dir, DT_F32, err);
    dit_close(&dit);
    json_decref(o);
    return rc;
}

static int make_vae(Backend *be, const char *dir, const char *captions, Err *err)
{
    VaeConfig c;
    Vae *vae = NULL;
    json_t *o = NULL;
    (void)captions;
    int rc = json_parse(&o, vae_json, sizeof vae_json - 1, "vae", err);
    if (rc == 0)
        rc = vae_config_parse(&c, o, "vae", err);
    if (rc == 0)
        rc = vae_new_filled(&vae, be, &c, err);
    if (rc == 0)
        rc = vae_save(vae, dir, DT_F32, err);
    vae_close(&vae);
    json_decref(o);
    return rc;
}

static int make_text_encoder(Backend *be, const char *dir, const char *captions, Err *err)
{
    T5Config c;
    T5 *t5 = NULL;
    json_t *o = NULL;
    (void)captions;
    int rc = json_parse(&o, t5_json, sizeof t5_json - 1, "text_encoder", err);
    if (rc == 0)
        rc = t5_config_parse(&c, o, "text_encoder", err);
    if (rc == 0)
        rc = t5_new_filled(&t5, be, &c, err);
    if (rc == 0)
        rc = t5_save(t5, dir, DT_F32, err);
    t5_close(&t5);
    json_decref(o);
    return rc;
}

static int make_scheduler(Backend *be, const char *dir, const char *captions, Err *err)
{
    (void)be;
    (void)captions;
    return write_json(dir, "scheduler_config.json", scheduler_json, err);
}

static int make_model(const char *out, const char *captions, Err *err)
{
    static const struct {
        const char *name;
        int (*make)(Backend *, const char *, const char *, Err *);
    } parts[] = {
        {"transformer", make_transformer},   {"vae", make_vae},
        {"text_encoder", make_text_encoder}, {"tokenizer", make_tokenizer},
        {"scheduler", make_scheduler},
    };
    Backend *be = NULL;
    int rc = backend_open(&be, "cpu", 0, NULL, err);
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof *parts; i++) {
        char *dir = part_dir(out, parts[i].name, err);
        rc = dir ? parts[i].make(be, dir, captions, err) : err->code;
        mem_free(dir);
    }
    if (rc == 0)
        rc = write_json(out, "model_index.json", index_json, err); /* last: the folder is whole */
    backend_close(&be);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: make_model OUT METADATA_JSONL\n");
        return 2;
    }
    if (make_model(argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "make_model: %s\n", err.msg);
        return 1;
    }
    printf("%s\n", argv[1]);
    return 0;
}
