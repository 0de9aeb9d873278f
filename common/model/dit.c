/* The transformer's parameters: names and shapes from the config, opening and saving. */
#include <stddef.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/dit_internal.h"

static const char stem[] = "diffusion_pytorch_model";

/* ---- parameters ------------------------------------------------------------------------------ */

/* One Linear or LayerNorm: where its two parameters are kept, its name, its weight's shape; the
 * bias is [dim[0]]. */
typedef struct Entry {
    size_t at;
    const char *name;
    int rank;
    int64_t dim[4];
} Entry;

static int entry_add(Dit *d, const char *prefix, const Entry *e, Err *err)
{
    TRY(params_addf(&d->params, 0, e->rank, e->dim, err, "%s%s.weight", prefix, e->name));
    return params_addf(&d->params, 0, 1, e->dim, err, "%s%s.bias", prefix, e->name);
}

/* *p is NULL where the set has no such parameter. */
static int find(const ParamSet *ps, const char *prefix, const char *name, const char *part, Param **p, Err *err)
{
    char *full = mem_printf(err, "%s%s.%s", prefix, name, part);

    if (!full)
        return ERR_NOMEM;
    *p = params_find(ps, full);
    mem_free(full);
    return 0;
}

static int entry_bind(Dit *d, void *base, const char *prefix, const Entry *e, Err *err)
{
    Affine *a = (Affine *)((char *)base + e->at);

    TRY(find(&d->params, prefix, e->name, "weight", &a->w, err));
    TRY(find(&d->params, prefix, e->name, "bias", &a->b, err));
    TRY(find(&d->adapters, prefix, e->name, "lora_A.weight", &a->lora_a, err));
    return find(&d->adapters, prefix, e->name, "lora_B.weight", &a->lora_bt, err);
}

/* Goes through all entries: adds their parameters (bind 0), or finds them and their adapters again in
 * the finished sets (bind 1). */
static int entries_each(Dit *d, int bind, Err *err)
{
    const DitConfig *c = &d->c;
    int64_t D = c->heads * c->head_dim, Te = c->time_dim, hd = c->head_dim, p = c->patch;
    const Entry whole[] = {
        {offsetof(Dit, patch), "patch_embed.proj", 4, {D, c->in_channels, p, p}},
        {offsetof(Dit, text), "patch_embed.text_proj", 2, {D, c->text_dim}},
        {offsetof(Dit, time1), "time_embedding.linear_1", 2, {Te, D}},
        {offsetof(Dit, time2), "time_embedding.linear_2", 2, {Te, Te}},
        {offsetof(Dit, norm_final), "norm_final", 1, {D}},
        {offsetof(Dit, mod_out), "norm_out.linear", 2, {2 * D, Te}},
        {offsetof(Dit, norm_out), "norm_out.norm", 1, {D}},
        {offsetof(Dit, proj_out), "proj_out", 2, {p * p * c->out_channels, D}},
    };
    const Entry block[] = {
        {offsetof(DitBlock, mod1), "norm1.linear", 2, {6 * D, Te}},
        {offsetof(DitBlock, norm1), "norm1.norm", 1, {D}},
        {offsetof(DitBlock, norm_q), "attn1.norm_q", 1, {hd}},
        {offsetof(DitBlock, norm_k), "attn1.norm_k", 1, {hd}},
        {offsetof(DitBlock, to_q), "attn1.to_q", 2, {D, D}},
        {offsetof(DitBlock, to_k), "attn1.to_k", 2, {D, D}},
        {offsetof(DitBlock, to_v), "attn1.to_v", 2, {D, D}},
        {offsetof(DitBlock, to_out), "attn1.to_out.0", 2, {D, D}},
        {offsetof(DitBlock, mod2), "norm2.linear", 2, {6 * D, Te}},
        {offsetof(DitBlock, norm2), "norm2.norm", 1, {D}},
        {offsetof(DitBlock, ff1), "ff.net.0.proj", 2, {4 * D, D}},
        {offsetof(DitBlock, ff2), "ff.net.2", 2, {D, 4 * D}},
    };

    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++)
        TRY(bind ? entry_bind(d, d, "", &whole[k], err) : entry_add(d, "", &whole[k], err));
    for (int64_t i = 0; i < c->layers; i++) {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "transformer_blocks.%" PRId64 ".", i);
        for (size_t k = 0; k < sizeof block / sizeof *block; k++)
            TRY(bind ? entry_bind(d, &d->block[i], prefix, &block[k], err) : entry_add(d, prefix, &block[k], err));
    }
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The model with its table of parameters, no values yet. */
int dit_table(Dit **out, Backend *be, const DitConfig *c, Err *err)
{
    Dit *d = mem_calloc(1, sizeof *d, err);
    int rc = ERR_NOMEM;

    *out = NULL;
    if (!d)
        return ERR_NOMEM;
    d->be = be;
    d->c = *c;
    if (!(d->block = mem_calloc(c->layers, sizeof *d->block, err)))
        goto fail;
    if ((rc = entries_each(d, 0, err)) < 0 || (rc = params_finish(&d->params, err)) < 0 ||
        (rc = entries_each(d, 1, err)) < 0)
        goto fail;
    *out = d;
    return 0;
fail:
    dit_close(&d);
    return rc;
}

int dit_bind_adapters(Dit *d, Err *err)
{
    return entries_each(d, 1, err);
}

void dit_close(Dit **d)
{
    if (!*d)
        return;
    if ((*d)->codes.data)
        (*d)->be->release((*d)->be, (*d)->codes.data);
    if ((*d)->merged)
        (*d)->be->release((*d)->be, (*d)->merged);
    params_fini(&(*d)->params);
    params_fini(&(*d)->adapters);
    mem_free((*d)->block);
    mem_free((*d)->host);
    mem_free(*d);
    *d = NULL;
}

static int read_config(DitConfig *c, const char *folder, Err *err)
{
    json_t *json = NULL;
    char *path = path_join(folder, "config.json", err);
    int rc;

    if (!path)
        return ERR_NOMEM;
    rc = json_read_file(&json, path, err);
    if (rc == 0)
        rc = dit_config_parse(c, json, path, err);
    json_decref(json);
    mem_free(path);
    return rc;
}

static int load_values(Dit *d, const char *folder, DitLoad how, Err *err)
{
    SafeTensors *file = NULL;
    int rc;

    if (d->be->plan)
        return params_plan(&d->params, d->be, err);
    if ((rc = safetensors_open_folder(&file, folder, stem, d->be->log, err)) < 0)
        return rc;
    rc = how == DIT_MAPPED ? params_load_mapped(&d->params, d->be, &file, folder, err)
                           : params_load_flat(&d->params, d->be, file, folder, err);
    safetensors_close(&file);
    return rc;
}

static void set_types(Dit *d, int how)
{
    d->params.values = how & DIT_BF16_VALUES ? DT_BF16 : DT_F32;
    d->params.grads = how & DIT_BF16_GRADS ? DT_BF16 : DT_F32;
}

int dit_open(Dit **out, Backend *be, const char *folder, DitLoad how, Err *err)
{
    DitConfig c;
    Dit *d = NULL;
    int rc;

    *out = NULL;
    if ((rc = read_config(&c, folder, err)) < 0)
        return rc;
    if ((rc = dit_table(&d, be, &c, err)) == 0)
        set_types(d, how);
    if (rc < 0 || (rc = load_values(d, folder, how, err)) < 0 ||
        (how & DIT_TRAIN && (rc = params_alloc_grads(&d->params, err)) < 0)) {
        dit_close(&d);
        return err_wrap(err, rc, "transformer '%s'", folder);
    }
    *out = d;
    return 0;
}

int dit_check_weights(const DitConfig *c, const char *folder, const Log *log, Err *err)
{
    Dit *d = NULL;
    int rc = dit_table(&d, NULL, c, err);

    if (rc == 0)
        rc = params_check_folder(&d->params, folder, stem, log, err);
    dit_close(&d);
    return rc;
}

int dit_new_filled(Dit **out, Backend *be, const DitConfig *c, int how, Err *err)
{
    Dit *d = NULL;
    int rc;

    *out = NULL;
    if ((rc = dit_table(&d, be, c, err)) == 0)
        set_types(d, how);
    if (rc < 0 || (rc = be->plan ? params_plan(&d->params, be, err) : params_fill(&d->params, be, err)) < 0 ||
        (how & DIT_TRAIN && (rc = params_alloc_grads(&d->params, err)) < 0)) {
        dit_close(&d);
        return rc;
    }
    *out = d;
    return 0;
}

const DitConfig *dit_config(const Dit *d)
{
    return &d->c;
}

ParamSet *dit_params(Dit *d)
{
    return &d->params;
}

ParamSet *dit_trainable(Dit *d)
{
    return d->adapters.n ? &d->adapters : &d->params;
}

int dit_save(Dit *d, const char *folder, DType dtype, Err *err)
{
    json_t *json = NULL;
    char *config = NULL, *weights = NULL;
    int rc = ERR_NOMEM;

    if (!(config = path_join(folder, "config.json", err)) ||
        !(weights = mem_printf(err, "%s/%s.safetensors", folder, stem)) || !(json = dit_config_json(&d->c, err)))
        goto fail;
    if ((rc = dir_make(folder, err)) < 0 || (rc = json_write_file(json, config, err)) < 0)
        goto fail;
    rc = params_save(&d->params, weights, dtype, err);
fail:
    json_decref(json);
    mem_free(config);
    mem_free(weights);
    return rc;
}
