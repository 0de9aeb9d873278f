/* text_encoder/config.json of T5, read and written. */
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/model/t5.h"

static int check_activation(const json_t *json, const char *where, Err *err)
{
    const char *proj, *act;
    int rc = json_get_str_or(json, "feed_forward_proj", where, "relu", &proj, err);
    if (rc || (rc = json_get_str_or(json, "dense_act_fn", where, "gelu_new", &act, err)))
        return rc;
    /* "gated-gelu" has always meant the tanh form */
    if (strcmp(proj, "gated-gelu") && strcmp(proj, "gated-gelu_new") && strcmp(proj, "gated-gelu_pytorch_tanh"))
        return err_set(err, ERR_UNSUPPORTED, "%s: feed_forward_proj is '%s', expected gated-gelu", where, proj);
    if (strcmp(act, "gelu_new") && strcmp(act, "gelu_pytorch_tanh"))
        return err_set(err, ERR_UNSUPPORTED, "%s: dense_act_fn is '%s', expected gelu_new", where, act);
    return 0;
}

int t5_config_parse(T5Config *out, const json_t *json, const char *where, Err *err)
{
    T5Config c;
    int rc = check_activation(json, where, err);
    if (rc || (rc = json_get_int(json, "vocab_size", where, &c.vocab, err)) ||
        (rc = json_get_int(json, "d_model", where, &c.d_model, err)) ||
        (rc = json_get_int(json, "d_kv", where, &c.d_kv, err)) ||
        (rc = json_get_int(json, "d_ff", where, &c.d_ff, err)) ||
        (rc = json_get_int(json, "num_layers", where, &c.layers, err)) ||
        (rc = json_get_int(json, "num_heads", where, &c.heads, err)) ||
        (rc = json_get_int_or(json, "relative_attention_num_buckets", where, 32, &c.buckets, err)) ||
        (rc = json_get_int_or(json, "relative_attention_max_distance", where, 128, &c.max_distance, err)) ||
        (rc = json_get_num_or(json, "layer_norm_epsilon", where, 1e-6, &c.eps, err)))
        return rc;
    const struct {
        const char *key;
        int64_t value, least, most;
    } range[] = {{"vocab_size", c.vocab, 1, 1 << 24},
                 {"d_model", c.d_model, 1, 1 << 16},
                 {"d_kv", c.d_kv, 1, 1 << 12},
                 {"d_ff", c.d_ff, 1, 1 << 20},
                 {"num_layers", c.layers, 1, 1000},
                 {"num_heads", c.heads, 1, 1 << 12},
                 {"relative_attention_num_buckets", c.buckets, 4, 1 << 12},
                 {"relative_attention_max_distance", c.max_distance, 2, 1 << 20}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].value < range[i].least || range[i].value > range[i].most)
            return err_set(err, ERR_FORMAT, "%s: %s is %" PRId64 ", expected %" PRId64 "..%" PRId64, where,
                           range[i].key, range[i].value, range[i].least, range[i].most);
    if (c.max_distance <= c.buckets / 4)
        return err_set(err, ERR_FORMAT,
                       "%s: relative_attention_max_distance is %" PRId64 ", expected more than a quarter of "
                       "relative_attention_num_buckets (%" PRId64 ")",
                       where, c.max_distance, c.buckets);
    if (!(c.eps > 0 && c.eps < 1))
        return err_set(err, ERR_FORMAT, "%s: layer_norm_epsilon is %g, expected a small positive number", where, c.eps);
    *out = c;
    return 0;
}

json_t *t5_config_json(const T5Config *c, Err *err)
{
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_open_array(&w, "architectures");
    jsonw_str(&w, NULL, "T5EncoderModel");
    jsonw_close(&w);
    jsonw_int(&w, "d_ff", c->d_ff);
    jsonw_int(&w, "d_kv", c->d_kv);
    jsonw_int(&w, "d_model", c->d_model);
    jsonw_str(&w, "dense_act_fn", "gelu_new");
    jsonw_num(&w, "dropout_rate", 0.1);
    jsonw_int(&w, "eos_token_id", 1);
    jsonw_str(&w, "feed_forward_proj", "gated-gelu");
    jsonw_bool(&w, "is_encoder_decoder", 0);
    jsonw_bool(&w, "is_gated_act", 1);
    jsonw_num(&w, "layer_norm_epsilon", c->eps);
    jsonw_str(&w, "model_type", "t5");
    jsonw_int(&w, "num_heads", c->heads);
    jsonw_int(&w, "num_layers", c->layers);
    jsonw_int(&w, "pad_token_id", 0);
    jsonw_int(&w, "relative_attention_max_distance", c->max_distance);
    jsonw_int(&w, "relative_attention_num_buckets", c->buckets);
    jsonw_bool(&w, "tie_word_embeddings", 0);
    jsonw_bool(&w, "use_cache", 0);
    jsonw_int(&w, "vocab_size", c->vocab);
    return jsonw_finish(&w, &out, "the T5 config", err) < 0 ? NULL : out;
}
