/* Reading LoRA files. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/lora.h"

#define PEFT_PREFIX "base_model.model." /* of the names in peft's own files */

/* ---- names ----------------------------------------------------------------------------------- */

typedef enum Part { PART_NONE, PART_A, PART_B, PART_ALPHA } Part;

static const struct {
    const char *ending;
    Part part;
} endings[] = {{".lora_A.weight", PART_A},         {".lora_B.weight", PART_B},    {".lora_A.default.weight", PART_A},
               {".lora_B.default.weight", PART_B}, {".lora_down.weight", PART_A}, {".lora_up.weight", PART_B},
               {".lora.down.weight", PART_A},      {".lora.up.weight", PART_B},   {".alpha", PART_ALPHA}};
static const char *const prefixes[] = {"transformer.",      "diffusion_model.", "lora_unet_",
                                       "lora_transformer_", PEFT_PREFIX,        ""};

static Part part_of(const char *name, int64_t *stem)
{
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (str_ends_with(name, endings[i].ending)) {
            *stem = (int64_t)(strlen(name) - strlen(endings[i].ending));
            return endings[i].part;
        }
    return PART_NONE;
}

/* Whether the n characters of text are the slot's name, with '_' allowed for its dots. */
static int is_slot(const char *slot, const char *text, int64_t n)
{
    if ((int64_t)strlen(slot) != n)
        return 0;
    for (int64_t i = 0; i < n; i++)
        if (text[i] != slot[i] && !(slot[i] == '.' && text[i] == '_'))
            return 0;
    return 1;
}

/* -1: no slot of that name. */
static int64_t slot_of(const LoraSlot *slot, int64_t n, const char *name, int64_t stem)
{
    for (size_t k = 0; k < sizeof prefixes / sizeof *prefixes; k++) {
        int64_t skip = (int64_t)strlen(prefixes[k]);
        if (skip > stem || strncmp(name, prefixes[k], (size_t)skip))
            continue;
        for (int64_t i = 0; i < n; i++)
            if (is_slot(slot[i].name, name + skip, stem - skip))
                return i;
    }
    return -1;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Element i of a tensor in a file, which may be unaligned. */
static double element(const Tensor *t, int64_t i)
{
    double room;
    Tensor one = tensor_of(
        memcpy(&room, (const char *)t->data + i * dtype_size(t->dtype), (size_t)dtype_size(t->dtype)), t->dtype, 1, 1);

    return tensor_get(&one, 0);
}

static int read_alpha(LoraLayer *l, const SafeEntry *e, const char *path, Err *err)
{
    char found[160];

    if (!dtype_is_float(e->tensor.dtype) || tensor_count(&e->tensor) != 1 || !isfinite(element(&e->tensor, 0)))
        return err_set(err, ERR_FORMAT, "'%s': '%s' is %s, expected one finite number", path, e->name,
                       tensor_describe(&e->tensor, found, sizeof found));
    l->scale = element(&e->tensor, 0); /* alpha until all tensors are known */
    return 0;
}

static int check_shapes(LoraLayer *l, const LoraSlot *slot, const char *path, Err *err)
{
    const Tensor *a = &l->a->tensor, *b = &l->b->tensor;
    char first[160], second[160];

    if (dtype_is_float(a->dtype) && dtype_is_float(b->dtype) && a->rank == 2 && b->rank == 2 && a->dim[0] > 0 &&
        a->dim[0] == b->dim[1] && a->dim[1] == slot->in && b->dim[0] == slot->out) {
        l->rank = a->dim[0];
        return 0;
    }
    return err_set(err, ERR_FORMAT,
                   "'%s' is a LoRA of another model: its layer '%s' has A %s and B %s, but this transformer's layer "
                   "needs A [rank, %" PRId64 "] and B [%" PRId64 ", rank]",
                   path, slot->name, tensor_describe(a, first, sizeof first), tensor_describe(b, second, sizeof second),
                   slot->in, slot->out);
}

/* Finds the slot of every tensor. */
static int sort_tensors(LoraFile *f, const char *path, const LoraSlot *slot, int64_t n, Err *err)
{
    const char *stranger = NULL;
    int64_t strangers = 0, all = safetensors_count(f->file);

    for (int64_t i = 0; i < all; i++) {
        const SafeEntry *e = safetensors_at(f->file, i);
        int64_t stem = 0, at;
        Part part = part_of(e->name, &stem);
        if (part == PART_NONE)
            return err_set(err, ERR_FORMAT,
                           "'%s': tensor '%s' is no lora_A, lora_B, lora_down, lora_up or alpha of a layer: Weft reads "
                           "plain LoRA files, no DoRA, LoHa, LoKr or whole weights",
                           path, e->name);
        if ((at = slot_of(slot, n, e->name, stem)) < 0) {
            stranger = stranger ? stranger : e->name;
            strangers++;
            continue;
        }
        LoraLayer *l = &f->layer[at];
        if ((part == PART_A && l->a) || (part == PART_B && l->b))
            return err_set(err, ERR_FORMAT, "'%s': layer '%s' has two adapters ('%s' is the second)", path,
                           slot[at].name, e->name);
        if (part == PART_A)
            l->a = e;
        if (part == PART_B)
            l->b = e;
        int rc = part == PART_ALPHA ? read_alpha(l, e, path, err) : 0;
        if (rc < 0)
            return rc;
    }
    if (!all)
        return err_set(err, ERR_FORMAT, "'%s' holds no tensors", path);
    return strangers ? err_set(err, ERR_FORMAT,
                               "'%s' is a LoRA of another model: %" PRId64 " of its %" PRId64
                               " tensors belong to no linear layer of this "
                               "transformer (the first is '%s')",
                               path, strangers, all, stranger)
                     : 0;
}

/* ---- what is said beside the tensors --------------------------------------------------------- */

/* peft's settings of the adapter: diffusers puts them into the file's metadata, their names behind
 * "transformer."; peft into adapter_config.json. */
typedef struct Notes {
    json_t *json; /* {} when there are none */
    const char *prefix;
} Notes;

static const json_t *note(const Notes *n, const char *key)
{
    char name[64];

    snprintf(name, sizeof name, "%s%s", n->prefix, key);
    return json_object_get(n->json, name);
}

static int is_peft(const SafeTensors *file)
{
    for (int64_t i = 0; i < safetensors_count(file); i++)
        if (!strncmp(safetensors_at(file, i)->name, PEFT_PREFIX, strlen(PEFT_PREFIX)))
            return 1;
    return 0;
}

static int read_peft_config(json_t **out, const char *path, Err *err)
{
    char *folder = path_dir(path, err), *config = folder ? path_join(folder, "adapter_config.json", err) : NULL;
    int rc = config ? json_read_file(out, config, err) : ERR_NOMEM;

    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "'%s' has peft's names, so its strength (lora_alpha) stands in '%s'", path, config);
    mem_free(folder);
    mem_free(config);
    return rc;
}

/* Settings that make the adapter something else than y = W x + b + scale * B (A x) on the model's own W;
 * false, null and empty ones do not. */
static int check_kind(const Notes *n, const char *path, Err *err)
{
    static const char *const others[] = {"use_dora",          "use_qalora",    "use_bdlora",  "alora_invocation_tokens",
                                         "layer_replication", "arrow_config",  "kasa_config", "velora_config",
                                         "monteclora_config", "lora_ga_config"};
    const char *type = json_string_value(note(n, "peft_type")),
               *start = json_string_value(note(n, "init_lora_weights"));

    if (type && strcmp(type, "LORA"))
        return err_set(err, ERR_UNSUPPORTED, "'%s' is an adapter of peft's type %s; Weft reads LORA", path, type);
    if (start && strcmp(start, "gaussian") && strcmp(start, "eva") && strcmp(start, "orthogonal"))
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s': init_lora_weights is '%s', which changed the model's own weights as well; save it with "
                       "peft's path_initial_model_for_weight_conversion",
                       path, start);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const json_t *v = note(n, others[i]);
        if (v && !json_is_null(v) && !json_is_false(v) && !(json_is_object(v) && json_object_size(v) == 0) &&
            !(json_is_array(v) && json_array_size(v) == 0))
            return err_set(err, ERR_UNSUPPORTED, "'%s': %s is set: it is no plain LoRA, and Weft reads those only%s",
                           path, others[i], i == 0 ? " (DoRA)" : "");
    }
    return 0;
}

/* Free n->json also after a failure. */
static int read_notes(Notes *n, const SafeTensors *file, const char *path, Err *err)
{
    const char *text = safetensors_meta(file, "lora_adapter_metadata");
    int peft = is_peft(file), rc = 0;

    *n = (Notes){.prefix = peft ? "" : "transformer."};
    if (peft)
        rc = read_peft_config(&n->json, path, err);
    else if (text && (rc = json_parse(&n->json, text, (int64_t)strlen(text), "lora_adapter_metadata", err)) < 0)
        err_wrap(err, rc, "'%s'", path);
    else if (!text && !(n->json = json_object()))
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    if (rc == 0 && !json_is_object(n->json))
        rc = err_set(err, ERR_FORMAT, "'%s': %s is no JSON object", path,
                     peft ? "adapter_config.json" : "lora_adapter_metadata");
    return rc < 0 ? rc : check_kind(n, path, err);
}

/* ---- scale ----------------------------------------------------------------------------------- */

/* A key of alpha_pattern is a regular expression for peft; Weft knows plain names. */
static int check_pattern(const json_t *pattern, const char *path, Err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)pattern, key, v)
        for (const char *at = key; *at; at++)
            if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.", *at))
                return err_set(err, ERR_UNSUPPORTED,
                               "'%s': alpha_pattern's key '%s' is a regular expression; Weft reads names of layers",
                               path, key);
    return 0;
}

/* alpha_pattern's entry for a layer: its key is the layer's name or ends it. */
static const json_t *pattern_of(const json_t *pattern, const char *layer)
{
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)pattern, key, v) {
        size_t n = strlen(key), all = strlen(layer);
        if (n <= all && !strcmp(layer + all - n, key) && (n == all || layer[all - n - 1] == '.'))
            return v;
    }
    return NULL;
}

static int scale_layer(LoraLayer *l, const LoraSlot *slot, const Notes *notes, const char *path, Err *err)
{
    const json_t *pattern = pattern_of(note(notes, "alpha_pattern"), slot->name);
    const json_t *given = pattern ? pattern : note(notes, "lora_alpha");
    double alpha = l->scale;

    if (isnan(alpha) && given) {
        if (!json_is_number(given))
            return err_set(err, ERR_FORMAT, "'%s': the metadata's alpha of layer '%s' is no number", path, slot->name);
        alpha = json_number_value(given);
    } else if (isnan(alpha)) {
        l->scale = 1;
        return 0;
    }
    l->scale = alpha / (json_is_true(note(notes, "use_rslora")) ? sqrt((double)l->rank) : (double)l->rank);
    return 0;
}

static int complete_layers(LoraFile *f, const char *path, const LoraSlot *slot, int64_t n, Err *err)
{
    Notes notes;
    int rc = read_notes(&notes, f->file, path, err);

    if (rc == 0)
        rc = check_pattern(note(&notes, "alpha_pattern"), path, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        LoraLayer *l = &f->layer[i];
        if (!l->a && !l->b && isnan(l->scale))
            continue;
        if (!l->a || !l->b)
            rc = err_set(err, ERR_FORMAT, "'%s': layer '%s' lacks its %s matrix", path, slot[i].name, l->a ? "B" : "A");
        else if ((rc = check_shapes(l, &slot[i], path, err)) == 0)
            rc = scale_layer(l, &slot[i], &notes, path, err);
    }
    json_decref(notes.json);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The file that `path` means; mem_free. */
static int find_file(char **out, const char *path, Err *err)
{
    static const char *const names[] = {LORA_FILE_NAME, "adapter_model.safetensors"};

    if (!file_is_dir(path))
        return (*out = mem_strdup(path, err)) ? 0 : ERR_NOMEM;
    for (int i = 0; i < 2; i++) {
        if (!(*out = path_join(path, names[i], err)))
            return ERR_NOMEM;
        if (file_exists(*out))
            return 0;
        mem_free(*out);
        *out = NULL;
    }
    return err_set(err, ERR_NOTFOUND, "'%s' holds neither %s (diffusers) nor %s (peft)", path, names[0], names[1]);
}

int lora_open(LoraFile *f, const char *path, const LoraSlot *slot, int64_t n, Err *err)
{
    char *file = NULL;
    int rc = find_file(&file, path, err);

    *f = (LoraFile){0};
    if (rc == 0 && !(f->layer = mem_calloc(n, sizeof *f->layer, err)))
        rc = ERR_NOMEM;
    for (int64_t i = 0; i < n && rc == 0; i++)
        f->layer[i].scale = NAN; /* no alpha yet */
    if (rc == 0)
        rc = safetensors_open(&f->file, file, err);
    if (rc == 0)
        rc = sort_tensors(f, file, slot, n, err);
    if (rc == 0)
        rc = complete_layers(f, file, slot, n, err);
    mem_free(file);
    return rc;
}

void lora_close(LoraFile *f)
{
    safetensors_close(&f->file);
    mem_free(f->layer);
    *f = (LoraFile){0};
}

int lora_get(const LoraLayer *l, const LoraSlot *slot, const char *path, double scale, float *a, float *bt, Err *err)
{
    int finite_a = 1, finite_b = 1;

    for (int64_t i = 0; i < l->rank * slot->in; i++) {
        a[i] = (float)element(&l->a->tensor, i);
        finite_a &= isfinite(a[i]) != 0;
    }
    for (int64_t o = 0; o < slot->out; o++)
        for (int64_t r = 0; r < l->rank; r++) {
            float *x = &bt[r * slot->out + o];
            *x = (float)(scale * element(&l->b->tensor, o * l->rank + r));
            finite_b &= isfinite(*x) != 0;
        }
    if (finite_a && finite_b)
        return 0;
    return err_set(err, ERR_FORMAT,
                   "'%s': tensor '%s' has a number that is not finite: a training that failed leaves such", path,
                   finite_a ? l->b->name : l->a->name);
}

/* What of peft's adapter_config.json makes the strength. */
static int peft_strength(char **out, const SafeTensors *s, const char *file, Err *err)
{
    Notes n;
    json_t *facts = NULL;
    int rc = read_notes(&n, s, file, err);

    if (rc == 0 && !(facts = json_pack("{s:O?, s:O?, s:O?}", "lora_alpha", note(&n, "lora_alpha"), "alpha_pattern",
                                       note(&n, "alpha_pattern"), "use_rslora", note(&n, "use_rslora"))))
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", file);
    if (rc == 0)
        rc = (*out = json_canonical(facts, err)) ? 0 : ERR_NOMEM;
    json_decref(facts);
    json_decref(n.json);
    return rc;
}

int lora_digest(const char *path, char hex[65], Err *err)
{
    char *file = NULL, *notes = NULL, *text = NULL;
    SafeTensors *s = NULL;
    int rc = find_file(&file, path, err);

    if (rc == 0)
        rc = safetensors_open(&s, file, err);
    if (rc == 0)
        rc = safetensors_digest(s, hex, err);
    if (rc == 0 && is_peft(s)) {
        rc = peft_strength(&notes, s, file, err);
    } else if (rc == 0) {
        const char *meta = safetensors_meta(s, "lora_adapter_metadata");
        rc = (notes = mem_strdup(meta ? meta : "", err)) ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        rc = (text = mem_printf(err, "%s %s", hex, notes)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = sha256_hex(text, (int64_t)strlen(text), hex, err);
    safetensors_close(&s);
    mem_free(notes);
    mem_free(text);
    mem_free(file);
    return rc;
}

int lora_use_parse(LoraUse *use, const char *text, Err *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    double scale = colon && colon[1] ? strtod(colon + 1, &end) : NAN;
    int whole = !end || *end || file_exists(text); /* no number behind the last colon */

    use->scale = whole ? 1 : scale;
    if (!isfinite(use->scale))
        return err_set(err, ERR_USAGE, "'%s': the scale behind the colon is no finite number", text);
    use->path = whole ? mem_strdup(text, err) : mem_strndup(text, colon - text, err);
    return use->path ? 0 : ERR_NOMEM;
}
