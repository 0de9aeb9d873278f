/* The identity of a run's schedule and starting weights, and comparing two. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/model/dit.h"
#include "common/model/lora.h"
#include "common/store/safetensors.h"
#include "train/identity.h"

enum { PROBES = 9 }; /* the noise schedule is recorded at this many evenly spread timesteps */

/* ---- making ---------------------------------------------------------------------------------- */

static int64_t probe_at(int64_t n_train, int64_t i)
{
    return i * (n_train - 1) / (PROBES - 1);
}

static void write_schedule(JsonWriter *w, const Schedule *s)
{
    jsonw_open(w, "noise_schedule");
    jsonw_int(w, "n_train", s->n_train);
    jsonw_open_array(w, "alpha_bar");
    for (int64_t i = 0; i < PROBES; i++)
        jsonw_num(w, NULL, s->alpha_bar[probe_at(s->n_train, i)]);
    jsonw_close(w);
    jsonw_close(w);
}

static int read_config(json_t **out, const char *transformer, Err *err)
{
    char *path = path_join(transformer, "config.json", err);
    json_t *raw = NULL;
    DitConfig c;
    int rc = path ? json_read_file(&raw, path, err) : ERR_NOMEM;

    if (rc == 0)
        rc = dit_config_parse(&c, raw, path, err);
    if (rc == 0)
        rc = (*out = dit_config_json(&c, err)) ? 0 : ERR_NOMEM;
    json_decref(raw);
    mem_free(path);
    return rc;
}

static int weights_digest(char hex[65], const char *transformer, const char *memory, const Log *log, Err *err)
{
    SafeTensors *file = NULL;
    int rc = safetensors_open_folder(&file, transformer, "diffusion_pytorch_model", log, err);

    if (rc == 0)
        rc = safetensors_digest_once(file, transformer, memory, hex, log, err);
    safetensors_close(&file);
    return rc;
}

int identity_make(json_t **out, const Schedule *schedule, const char *folder, const char *lora, const char *memory,
                  const Log *log, Err *err)
{
    char *transformer = path_join(folder, "transformer", err), hex[65], adapter[65];
    json_t *config = NULL;
    JsonWriter w;
    int rc = transformer ? read_config(&config, transformer, err) : ERR_NOMEM;

    *out = NULL;
    if (rc == 0)
        rc = weights_digest(hex, transformer, memory, log, err);
    if (rc == 0 && lora)
        rc = lora_digest(lora, adapter, err);
    if (rc == 0) {
        jsonw_begin(&w);
        jsonw_int(&w, "numerics", TRAIN_NUMERICS_REVISION);
        write_schedule(&w, schedule);
        jsonw_open(&w, "transformer");
        jsonw_str(&w, "weights_sha256", hex);
        jsonw_share(&w, "config", config);
        jsonw_close(&w);
        if (lora)
            jsonw_str(&w, "lora_sha256", adapter);
        rc = jsonw_finish(&w, out, "the run's identity", err);
    }
    json_decref(config);
    mem_free(transformer);
    return rc;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static const char *between(const Str *changes)
{
    return changes->len ? "; " : "";
}

/* Values of another machine's mathematics library may differ in the last bits. */
static int same_number(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static int schedule_changes(Str *changes, const json_t *before, const json_t *now, Err *err)
{
    int64_t n = json_integer_value(json_object_get(before, "n_train")),
            m = json_integer_value(json_object_get(now, "n_train"));
    const json_t *a = json_object_get(before, "alpha_bar"), *b = json_object_get(now, "alpha_bar");

    if (n != m)
        return str_printf(changes, err, "%sthe noise schedule had %" PRId64 " timesteps and has %" PRId64,
                          between(changes), n, m);
    for (int64_t i = 0; i < PROBES; i++) {
        double x = json_number_value(json_array_get(a, (size_t)i)), y = json_number_value(json_array_get(b, (size_t)i));
        if (!same_number(x, y))
            return str_printf(
                changes, err,
                "%sthe base model's noise schedule is another one (the signal's share at timestep %" PRId64 " "
                "was %.6g and is %.6g)",
                between(changes), probe_at(n, i), x, y);
    }
    return 0;
}

static int weights_changes(Str *changes, const json_t *before, const json_t *now, Err *err)
{
    const char *a = json_string_value(json_object_get(before, "weights_sha256"));
    const char *b = json_string_value(json_object_get(now, "weights_sha256"));

    if (strcmp(a, b))
        return str_printf(changes, err,
                          "%sthe transformer that training starts from has other weights (SHA-256 %.12s... before, "
                          "%.12s... now)",
                          between(changes), a, b);
    if (!json_equal(json_object_get(before, "config"), json_object_get(now, "config")))
        return str_printf(changes, err, "%sthe config of the transformer that training starts from has changed",
                          between(changes));
    return 0;
}

/* NULL: not started from an adapter. */
static int lora_changes(Str *changes, const char *before, const char *now, Err *err)
{
    if ((!before && !now) || (before && now && !strcmp(before, now)))
        return 0;
    return str_printf(changes, err,
                      "%sthe adapter that training starts from is another one (SHA-256 %.12s before, %.12s now)",
                      between(changes), before ? before : "none", now ? now : "none");
}

int identity_changes(Str *changes, const json_t *before, const json_t *now, Err *err)
{
    int64_t a = json_integer_value(json_object_get(before, "numerics")),
            b = json_integer_value(json_object_get(now, "numerics"));
    int rc = 0;

    if (a != b)
        rc = str_printf(changes, err,
                        "%sthis version of weft-train computes other numbers (revision %" PRId64
                        ", the checkpoint's is %" PRId64 ")",
                        between(changes), b, a);
    if (rc == 0)
        rc = schedule_changes(changes, json_object_get(before, "noise_schedule"),
                              json_object_get(now, "noise_schedule"), err);
    if (rc == 0)
        rc = weights_changes(changes, json_object_get(before, "transformer"), json_object_get(now, "transformer"), err);
    if (rc == 0)
        rc = lora_changes(changes, json_string_value(json_object_get(before, "lora_sha256")),
                          json_string_value(json_object_get(now, "lora_sha256")), err);
    return rc;
}
