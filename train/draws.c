/* Draws by name. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/dataset_internal.h"
#include "train/draws.h"

/* ---- categories ------------------------------------------------------------------------------ */

static int has_category(const Dataset *d, const char *name)
{
    for (int64_t i = 0; i < d->n; i++)
        if (d->sample[i].category && !strcmp(d->sample[i].category, name))
            return 1;
    return 0;
}

/* "'dress', 'coat'": the categories of the samples, each once, at most eight. */
static int list_categories(Str *out, const Dataset *d, Err *err)
{
    int rc = 0;

    for (int64_t i = 0, found = 0; i < d->n && found < 8 && rc == 0; i++) {
        const char *name = d->sample[i].category;
        int64_t k = 0;
        while (k < i && name && (!d->sample[k].category || strcmp(d->sample[k].category, name)))
            k++;
        if (name && k == i) {
            rc = str_printf(out, err, "%s'%s'", found ? ", " : "", name);
            found++;
        }
    }
    return rc;
}

static int refuse_category(const Dataset *d, const char *name, Err *err)
{
    Str there = {0};
    int rc = list_categories(&there, d, err);

    if (rc == 0)
        rc = err_set(err, ERR_USAGE, "training.category_weights: no clip has category '%s'; the caches' clips have %s",
                     name, there.len ? there.data : "none");
    str_fini(&there);
    return rc;
}

static int read_weights(Draws *r, const json_t *given, const Dataset *d, Err *err)
{
    const char *name;
    json_t *v;

    if (json_object_size(given) == 0)
        return 0;
    json_object_foreach ((json_t *)given, name, v)
        if (!has_category(d, name))
            return refuse_category(d, name, err);
    if (!(r->weight = mem_calloc(d->n, sizeof *r->weight, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < d->n; i++) {
        const char *category = d->sample[i].category;
        const json_t *w = category ? json_object_get(given, category) : NULL;
        r->weight[i] = w ? json_number_value(w) : 1;
        r->weights += r->weight[i];
    }
    return r->weights > 0 ? 0 : err_set(err, ERR_USAGE, "training.category_weights: all clips have weight 0");
}

/* ---- the unconditional embedding ------------------------------------------------------------- */

static int check_empty(const Dataset *d, int64_t cache, Err *err)
{
    CacheTxn *t = NULL;
    RecordView v;
    int rc = cache_begin(&t, d->cache[cache], err);

    if (rc == 0)
        rc = cache_get_record(t, CACHE_TEXT, &d->empty[cache], 0, &v, err);
    if (rc > 0)
        rc = v.tensor.rank == 2 && v.tensor.dim[0] == d->text_len && v.tensor.dim[1] == d->text_dim;
    cache_end(&t);
    return rc < 0 ? rc
           : rc > 0
               ? 0
               : err_set(err, ERR_NOTFOUND,
                         "training.caption_dropout: a cache has no embedding of the empty prompt that fits this model; "
                         "run weft-cache build again");
}

int draws_open(Draws *out, const Recipe *recipe, const Dataset *d, Err *err)
{
    int rc = 0;

    *out = (Draws){.seed = (uint64_t)recipe_int(recipe, "seed"),
                   .caption_dropout = recipe_num(recipe, "training.caption_dropout"),
                   .logit_normal = !strcmp(recipe_str(recipe, "training.timestep_sampling"), "logit_normal"),
                   .logit_mean = recipe_num(recipe, "training.logit_mean"),
                   .logit_std = recipe_num(recipe, "training.logit_std")};
    for (int64_t k = 0; k < d->n_cache && out->caption_dropout > 0 && rc == 0; k++)
        rc = check_empty(d, k, err);
    return rc < 0 ? rc : read_weights(out, recipe_get(recipe, "training.category_weights"), d, err);
}

void draws_close(Draws *r)
{
    mem_free(r->weight);
    *r = (Draws){0};
}

/* ---- an epoch -------------------------------------------------------------------------------- */

/* Replaces positions in an epoch by entries: sample i stands at [start_i, start_i+1) of the line from 0
 * to n, and the points start + k fall on it. */
static int spread(const Draws *r, const Dataset *d, int64_t epoch, int64_t *entry, Err *err)
{
    Philox p = philox_stream(r->seed, RNG_CATEGORY, (uint64_t)epoch, 0);
    double start = philox_uniform(&p, 0), sum = 0, n = (double)d->n;
    int64_t *list = mem_calloc(d->n, sizeof *list, err), made = 0;

    if (!list)
        return ERR_NOMEM;
    for (int64_t i = 0; i < d->n; i++) {
        int64_t until;
        sum += r->weight[i];
        until = i + 1 < d->n ? (int64_t)floor(sum * n / r->weights + start) : d->n;
        for (int64_t k = 0; made < until && made < d->n; k++)
            list[made++] = i + k * d->n;
    }
    for (int64_t k = 0; k < d->n; k++)
        entry[k] = list[entry[k]];
    mem_free(list);
    return 0;
}

int draws_order(const Draws *r, const Dataset *d, int64_t epoch, int64_t *entry, Err *err)
{
    Philox p = philox_stream(r->seed, RNG_ORDER, (uint64_t)epoch, 0);

    philox_permutation(&p, entry, d->n);
    return r->weight ? spread(r, d, epoch, entry, err) : 0;
}

/* ---- a sample -------------------------------------------------------------------------------- */

static int64_t draw_timestep(const Draws *r, const Philox *p, int64_t n_train)
{
    int64_t t;

    if (!r->logit_normal)
        return (int64_t)philox_below(p, 0, (uint64_t)n_train);
    t = (int64_t)((double)n_train / (1 + exp(-(r->logit_mean + r->logit_std * (double)philox_normal(p, 0)))));
    return t < n_train ? t : n_train - 1;
}

SampleDraws draws_of(const Draws *r, const Dataset *d, int64_t epoch, int64_t entry, int64_t n_train)
{
    uint64_t e = (uint64_t)epoch, k = (uint64_t)entry;
    Philox caption = philox_stream(r->seed, RNG_CAPTION, e, k), time = philox_stream(r->seed, RNG_TIMESTEP, e, k),
           dropout = philox_stream(r->seed, RNG_DROPOUT, e, k);
    int dropped = r->caption_dropout > 0 && (double)philox_uniform(&dropout, 0) < r->caption_dropout;

    return (SampleDraws){.posterior = philox_stream(r->seed, RNG_POSTERIOR, e, k),
                         .noise = philox_stream(r->seed, RNG_NOISE, e, k),
                         .caption = dropped
                                        ? SAMPLE_NO_CAPTION
                                        : (int64_t)philox_below(&caption, 0, (uint64_t)d->sample[entry % d->n].n_text),
                         .timestep = draw_timestep(r, &time, n_train)};
}
