/* Adapters of the transformer's linear layers. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/str.h"
#include "common/model/dit_internal.h"
#include "common/model/dit_lora.h"
#include "common/model/params_internal.h"

/* ---- the linear layers ----------------------------------------------------------------------- */

/* The model's linear layers, in the order of their weights' names. */
typedef struct Slots {
    LoraSlot *slot;
    int64_t *param; /* place of slot k's weight in the table of parameters */
    int64_t n;
} Slots;

static void slots_fini(Slots *s)
{
    for (int64_t i = 0; i < s->n; i++)
        mem_free(s->slot[i].name);
    mem_free(s->slot);
    mem_free(s->param);
}

/* Call slots_fini also after a failure. */
static int slots_init(Slots *s, const Dit *d, Err *err)
{
    const ParamSet *ps = &d->params;

    *s = (Slots){.slot = mem_calloc(ps->n, sizeof *s->slot, err), .param = mem_calloc(ps->n, sizeof *s->param, err)};
    if (!s->slot || !s->param)
        return ERR_NOMEM;
    for (int64_t i = 0; i < ps->n; i++) {
        const Param *p = &ps->param[i];
        if (p->rank != 2)
            continue;
        char *name = mem_strndup(p->name, (int64_t)(strlen(p->name) - strlen(".weight")), err);
        if (!name)
            return ERR_NOMEM;
        s->slot[s->n] = (LoraSlot){name, p->dim[1], p->dim[0]};
        s->param[s->n++] = i;
    }
    return 0;
}

/* As peft: the name is the target, or ends in a dot and the target. */
static int is_target(const char *name, const char *target)
{
    size_t n = strlen(name), m = strlen(target);

    return n >= m && !strcmp(name + n - m, target) && (n == m || name[n - m - 1] == '.');
}

static int check_targets(const Slots *s, const DitLora *l, Err *err)
{
    for (int64_t t = 0; t < l->targets; t++) {
        int64_t found = 0;
        for (int64_t i = 0; i < s->n; i++)
            found += is_target(s->slot[i].name, l->target[t]);
        if (is_target("patch_embed.proj", l->target[t]))
            return err_set(
                err, ERR_USAGE,
                "training.lora_target_modules: '%s' names patch_embed.proj, a convolution; LoRA is for linear "
                "layers (of the feed-forward: net.0.proj and net.2)",
                l->target[t]);
        if (!found)
            return err_set(err, ERR_USAGE,
                           "training.lora_target_modules: '%s' ends no name of the transformer's %" PRId64
                           " linear layers (such as %s)",
                           l->target[t], s->n, s->n ? s->slot[s->n / 2].name : "none");
    }
    return l->targets ? 0 : err_set(err, ERR_USAGE, "training.lora_target_modules is empty: name at least one layer");
}

/* ---- the adapters' parameters ---------------------------------------------------------------- */

static int add_adapter(Dit *d, const LoraSlot *s, int64_t rank, Err *err)
{
    TRY(params_addf(&d->adapters, 0, 2, (const int64_t[]){rank, s->in}, err, "%s.lora_A.weight", s->name));
    return params_addf(&d->adapters, 0, 2, (const int64_t[]){rank, s->out}, err, "%s.lora_B.weight", s->name);
}

/* Memory for all of them, zeroed, with gradients for training. */
static int allocate(Dit *d, int how, Err *err)
{
    ParamSet *ps = &d->adapters;

    ps->grads = how & DIT_BF16_GRADS ? DT_BF16 : DT_F32;
    TRY(params_finish(ps, err));
    TRY(d->be->plan ? params_plan(ps, d->be, err) : params_new_flat(ps, d->be, err));
    if (how & DIT_TRAIN)
        TRY(params_alloc_grads(ps, err));
    return dit_bind_adapters(d, err);
}

static Param *adapter(const Dit *d, const LoraSlot *s, const char *part)
{
    char name[256]; /* params_addf allows no longer ones */

    snprintf(name, sizeof name, "%s.%s.weight", s->name, part);
    return params_find(&d->adapters, name);
}

/* Host room for the largest A and B^T. */
typedef struct Room {
    float *a, *bt;
} Room;

static int room_init(Room *r, const Dit *d, Err *err)
{
    int64_t n = params_largest(&d->adapters);

    *r = (Room){mem_alloc_aligned(n * (int64_t)sizeof(float), err), mem_alloc_aligned(n * (int64_t)sizeof(float), err)};
    return r->a && r->bt ? 0 : ERR_NOMEM;
}

static void room_fini(Room *r)
{
    mem_free_aligned(r->a);
    mem_free_aligned(r->bt);
}

/* ---- fresh ones ------------------------------------------------------------------------------ */

static int draw(Dit *d, const Slots *s, int64_t rank, uint64_t seed, Err *err)
{
    Room r;
    int rc = room_init(&r, d, err);

    for (int64_t i = 0; i < s->n && rc == 0; i++) {
        const LoraSlot *slot = &s->slot[i];
        const Param *a = adapter(d, slot, "lora_A");
        Philox stream = philox_stream(seed, RNG_INIT, 0, (uint64_t)s->param[i]);
        double bound = 1 / sqrt((double)slot->in);
        if (!a)
            continue;
        for (int64_t k = 0; k < rank * slot->in; k++)
            r.a[k] = (float)((2 * (double)philox_uniform(&stream, (uint64_t)k) - 1) * bound);
        rc = params_put(&d->adapters, a, r.a, err);
    }
    room_fini(&r);
    return rc;
}

int dit_add_lora(Dit *d, const DitLora *l, int how, Err *err)
{
    Slots s;
    int rc = slots_init(&s, d, err);

    if (rc == 0)
        rc = check_targets(&s, l, err);
    for (int64_t i = 0; i < s.n && rc == 0; i++)
        for (int64_t t = 0; t < l->targets; t++)
            if (is_target(s.slot[i].name, l->target[t])) {
                rc = add_adapter(d, &s.slot[i], l->rank, err);
                break;
            }
    d->lora_scale = l->alpha / (double)l->rank;
    if (rc == 0)
        rc = allocate(d, how, err);
    if (rc == 0 && !d->be->plan)
        rc = draw(d, &s, l->rank, l->seed, err);
    slots_fini(&s);
    return rc;
}

/* ---- from files ------------------------------------------------------------------------------ */

static int load_layer(Dit *d, const LoraSlot *slot, const LoraLayer *l, const char *path, const Room *r, Err *err)
{
    const Param *a = adapter(d, slot, "lora_A"), *b = adapter(d, slot, "lora_B");

    if (!a || !b)
        return err_set(err, ERR_USAGE, "'%s' has an adapter for '%s', which training.lora_target_modules does not name",
                       path, slot->name);
    if (a->dim[0] != l->rank)
        return err_set(err, ERR_USAGE,
                       "'%s' has rank %" PRId64 " at '%s', but training.lora_rank is %" PRId64 ": set it to %" PRId64,
                       path, l->rank, slot->name, a->dim[0], l->rank);
    if (d->be->plan)
        return 0;
    TRY(lora_get(l, slot, path, l->scale / d->lora_scale, r->a, r->bt, err));
    TRY(params_put(&d->adapters, a, r->a, err));
    return params_put(&d->adapters, b, r->bt, err);
}

int dit_load_lora(Dit *d, const char *path, Err *err)
{
    LoraFile f = {0};
    Slots s;
    Room r = {0};
    int rc = slots_init(&s, d, err);

    if (rc == 0)
        rc = lora_open(&f, path, s.slot, s.n, err);
    if (rc == 0)
        rc = room_init(&r, d, err);
    for (int64_t i = 0; i < s.n && rc == 0; i++)
        if (f.layer[i].rank)
            rc = load_layer(d, &s.slot[i], &f.layer[i], path, &r, err);
    room_fini(&r);
    lora_close(&f);
    slots_fini(&s);
    return rc;
}

/* The adapters of several files at one layer are one adapter: their As and B^Ts one below the other. */
static int stack_layer(Dit *d, const LoraSlot *slot, int64_t at, const LoraFile *f, const LoraUse *use, int64_t n,
                       const Room *r, Err *err)
{
    const Param *a = adapter(d, slot, "lora_A"), *b = adapter(d, slot, "lora_B");
    int64_t row = 0;

    if (!a || !b)
        return 0;
    for (int64_t k = 0; k < n; k++) {
        const LoraLayer *l = &f[k].layer[at];
        TRY(lora_get(l, slot, use[k].path, l->scale * use[k].scale, r->a + row * slot->in, r->bt + row * slot->out,
                     err));
        row += l->rank;
    }
    TRY(params_put(&d->adapters, a, r->a, err));
    return params_put(&d->adapters, b, r->bt, err);
}

static int stack_files(Dit *d, const Slots *s, const LoraFile *f, const LoraUse *use, int64_t n, Err *err)
{
    Room r = {0};
    int rc = 0;

    for (int64_t i = 0; i < s->n && rc == 0; i++) {
        int64_t rank = 0;
        for (int64_t k = 0; k < n; k++)
            rank += f[k].layer[i].rank;
        rc = rank ? add_adapter(d, &s->slot[i], rank, err) : 0;
    }
    d->lora_scale = 1;
    if (rc == 0)
        rc = allocate(d, 0, err);
    if (rc == 0 && !d->be->plan)
        rc = room_init(&r, d, err);
    for (int64_t i = 0; i < s->n && rc == 0 && !d->be->plan; i++)
        rc = stack_layer(d, &s->slot[i], i, f, use, n, &r, err);
    room_fini(&r);
    return rc;
}

int dit_use_loras(Dit *d, const LoraUse *use, int64_t n, Err *err)
{
    LoraFile *f;
    Slots s;
    int rc;

    if (n == 0)
        return 0;
    rc = slots_init(&s, d, err);
    if (!(f = mem_calloc(n, sizeof *f, err)))
        rc = ERR_NOMEM;
    for (int64_t k = 0; k < n && rc == 0; k++)
        rc = lora_open(&f[k], use[k].path, s.slot, s.n, err);
    if (rc == 0)
        rc = stack_files(d, &s, f, use, n, err);
    for (int64_t k = 0; f && k < n; k++)
        lora_close(&f[k]);
    mem_free(f);
    slots_fini(&s);
    return rc;
}

/* ---- into the weights ------------------------------------------------------------------------ */

static int merge_layer(Dit *d, Param *w, const Param *a, const Param *bt, char **at, Err *err)
{
    Tensor sum = tensor_view(*at, DT_F32, w->rank, w->dim);

    TRY(op_copy(d->be, &sum, &w->value, err));
    TRY(op_linear_backward_w(d->be, &sum, NULL, &bt->value, &a->value, err)); /* += B A */
    w->value = sum;
    *at += tensor_bytes(&sum);
    return 0;
}

int dit_merge_loras(Dit *d, Err *err)
{
    Slots s;
    int64_t bytes = 0;
    char *at;
    int rc = slots_init(&s, d, err);

    for (int64_t i = 0; i < s.n && rc == 0; i++)
        if (adapter(d, &s.slot[i], "lora_A"))
            bytes += s.slot[i].in * s.slot[i].out * (int64_t)sizeof(float);
    if (rc == 0 && bytes)
        rc = d->be->alloc(d->be, bytes, &d->merged, err);
    at = d->merged;
    for (int64_t i = 0; i < s.n && rc == 0; i++) {
        const Param *a = adapter(d, &s.slot[i], "lora_A"), *b = adapter(d, &s.slot[i], "lora_B");
        if (a && b)
            rc = merge_layer(d, &d->params.param[s.param[i]], a, b, &at, err);
    }
    slots_fini(&s);
    if (rc < 0)
        return rc;
    params_fini(&d->adapters);
    return dit_bind_adapters(d, err);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* What diffusers needs to know: rank, alpha (the same, see dit_save_lora), and which layers. */
static int metadata(const Dit *d, const Slots *s, json_t **out, Err *err)
{
    json_t *facts = NULL;
    char *text = NULL;
    JsonWriter w;
    int rc;

    jsonw_begin(&w);
    jsonw_int(&w, "transformer.lora_alpha", d->adapters.param[0].dim[0]);
    jsonw_int(&w, "transformer.r", d->adapters.param[0].dim[0]);
    jsonw_open_array(&w, "transformer.target_modules");
    for (int64_t i = 0; i < s->n; i++)
        if (adapter(d, &s->slot[i], "lora_A"))
            jsonw_str(&w, NULL, s->slot[i].name);
    jsonw_close(&w);
    rc = jsonw_finish(&w, &facts, "lora_adapter_metadata", err);
    if (rc == 0 && !(text = json_text(facts, 2, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && !(*out = json_pack("{s:s, s:s}", "format", "pt", "lora_adapter_metadata", text)))
        rc = err_set(err, ERR_NOMEM, "no memory for the adapter's metadata");
    json_decref(facts);
    mem_free(text);
    return rc;
}

/* One tensor at a time is brought to the host. */
typedef struct Saving {
    const Dit *d;
    Room room;
    LoraValues values;
    void *user;
} Saving;

static int own_values(void *user, int64_t i, float *host, Err *err)
{
    const ParamSet *ps = user;

    return params_get(ps, &ps->param[i], host, err);
}

static int fetch(void *user, int64_t i, const void **data, Err *err)
{
    Saving *w = user;
    const Param *p = &w->d->adapters.param[i];
    int64_t rank = p->dim[0], n = p->dim[1];

    TRY(w->values(w->user, i, w->room.a, err));
    *data = w->room.a;
    if (str_ends_with(p->name, ".lora_A.weight"))
        return 0;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t o = 0; o < n; o++)
            w->room.bt[o * rank + r] = (float)(w->d->lora_scale * (double)w->room.a[r * n + o]);
    *data = w->room.bt;
    return 0;
}

int dit_save_lora(Dit *d, const char *path, Err *err)
{
    return dit_save_lora_of(d, path, own_values, &d->adapters, err);
}

int dit_save_lora_of(Dit *d, const char *path, LoraValues values, void *user, Err *err)
{
    const ParamSet *ps = &d->adapters;
    Saving w = {.d = d, .values = values, .user = user};
    SafeSource *source = mem_calloc(ps->n, sizeof *source, err);
    char **name = mem_calloc(ps->n, sizeof *name, err);
    json_t *meta = NULL;
    Slots s;
    int rc = slots_init(&s, d, err);

    if (!source || !name)
        rc = ERR_NOMEM;
    if (rc == 0 && (rc = room_init(&w.room, d, err)) == 0)
        rc = metadata(d, &s, &meta, err);
    for (int64_t i = 0; i < ps->n && rc == 0; i++) {
        const Param *p = &ps->param[i];
        int is_b = str_ends_with(p->name, ".lora_B.weight");
        name[i] = mem_printf(err, "transformer.%s", p->name);
        source[i] = (SafeSource){name[i], tensor_of(NULL, DT_F32, 2, p->dim[is_b], p->dim[!is_b])};
        rc = name[i] ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        rc = safetensors_write_from(path, source, ps->n, meta, fetch, &w, err);
    for (int64_t i = 0; name && i < ps->n; i++)
        mem_free(name[i]);
    room_fini(&w.room);
    json_decref(meta);
    mem_free(name);
    mem_free(source);
    slots_fini(&s);
    return rc;
}
