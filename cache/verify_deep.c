#include "cache/verify_deep.h"
#include <math.h>
#include <string.h>
#include "cache/decode.h"
#include "cache/encoding.h"
#include "cache/text_form.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"

typedef struct Deep {
    const VerifyParams *params;
    View *view;
    Recipe *recipe; /* of the cache's build */
    Prepared *p;
    Encoding *e;
    Encoder *encoder;
    ClipDecoder *decoder;
    int64_t clips, texts, differing;
} Deep;

static int open_inputs(Deep *d, Err *err)
{
    json_t *recipe = NULL, *dataset = NULL;
    TextForm form;
    int rc = view_meta(d->view, "recipe", &recipe, err);
    if (rc == 0)
        rc = view_meta(d->view, "dataset", &dataset, err);
    if (rc == 0)
        rc = recipe_from_json(&d->recipe, recipe, err);
    const json_t *shard = json_object_get(dataset, "shard");
    if (rc == 0)
        rc = text_form_read(&form, d->recipe, d->params->model, err);
    if (rc == 0)
        rc = prepared_open(&d->p, d->params->prepared, json_integer_value(json_object_get(shard, "index")),
                           json_integer_value(json_object_get(shard, "count")), &form, err);
    if (rc == 0)
        rc = encoding_open(&d->e, d->params->be, d->recipe, d->params->model, NULL, d->params->log, err);
    json_decref(recipe);
    json_decref(dataset);
    return rc;
}

static double value_at(const Tensor *t, int64_t i)
{
    const uint16_t *half = t->data;
    return t->dtype == DT_F32   ? (double)((const float *)t->data)[i]
           : t->dtype == DT_F16 ? (double)half_to_float(half[i])
                                : (double)bfloat_to_float(half[i]);
}

/* `key` is the record that the inputs should give, `stored` the one that the entry names. */
static int compare(Deep *d, CacheDb db, const char *id, const Digest *key, const json_t *stored, const Tensor *got,
                   Err *err)
{
    char hex[65];
    RecordView r;
    FILE *out = d->params->out;
    digest_hex(key, hex);
    if (strcmp(hex, json_string_value(stored)) != 0) {
        d->differing++;
        fprintf(out, "differs: %s: its %s were made from other inputs, weights or settings\n", id, cache_db_name(db));
        return 0;
    }
    int rc = view_need_record(d->view, db, stored, id, &r, err);
    if (rc < 0)
        return rc;
    if (r.tensor.dtype == got->dtype && tensor_same_shape(&r.tensor, got) &&
        memcmp(r.tensor.data, got->data, (size_t)tensor_bytes(got)) == 0)
        return 0;
    double most = 0;
    int same_form = r.tensor.dtype == got->dtype && tensor_same_shape(&r.tensor, got);
    for (int64_t i = 0; same_form && i < tensor_count(got); i++)
        most = fmax(most, fabs(value_at(&r.tensor, i) - value_at(got, i)));
    d->differing++;
    fprintf(out, "differs: %s: its %s come out otherwise, by up to %g (another build or device gives other bits)\n", id,
            cache_db_name(db), most);
    return 0;
}

/* A clip of the prepared dataset: its latents, or its captions. */
static int one_clip(Deep *d, const PreparedClip *c, int texts, Err *err)
{
    json_t *facts = NULL;
    Digest key;
    Tensor got;
    const uint8_t *rgb = NULL;
    int rc = cache_get_clip(d->view->txn, c->id, &facts, err);
    if (rc <= 0)
        return rc; /* rejected, or missing: the other checks say so */
    rc = 0;
    if (!texts) {
        rc = clip_decode(d->decoder, c, &rgb, err);
        if (rc == 0)
            rc = encoding_latents_key(d->e, c, &key, err);
        if (rc == 0)
            rc = encoder_clip(d->encoder, c, rgb, &got, err);
        if (rc == 0)
            rc = compare(d, CACHE_LATENTS, c->id, &key, json_object_get(facts, "latents"), &got, err);
        d->clips++;
    }
    for (int64_t k = 0; texts && rc == 0 && k < c->n_text; k++) {
        PreparedText t;
        rc = prepared_text(d->p, c->text[k], &t, err);
        if (rc == 0)
            rc = encoding_text_key(d->e, &t, &key, err);
        if (rc == 0)
            rc = encoder_text(d->encoder, &t, &got, err);
        prepared_text_fini(&t);
        if (rc == 0)
            rc = compare(d, CACHE_TEXT, c->id, &key, json_array_get(json_object_get(facts, "texts"), (size_t)k), &got,
                         err);
        d->texts++;
    }
    json_decref(facts);
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", c->id) : 0;
}

static int pass(Deep *d, int texts, Err *err)
{
    int64_t n = d->p->n, deep = d->params->deep < n ? d->params->deep : n;
    if (deep == 0)
        return 0;
    const PreparedClip like = prepared_size(d->p);
    Progress *bar = progress_start(d->params->log, texts ? "captions" : "clips", "clips", deep);
    int rc = texts ? encoder_open_text(&d->encoder, d->e, err) : encoder_open_clips(&d->encoder, d->e, &like, err);
    if (rc == 0 && !texts)
        rc = clip_decoder_open(&d->decoder, d->recipe, d->p->rgb_bytes, err);
    for (int64_t i = 0; rc == 0 && i < deep; i++) {
        PreparedClip c;
        rc = prepared_clip(d->p, i * n / deep, &c, err);
        if (rc == 0)
            rc = one_clip(d, &c, texts, err);
        prepared_clip_fini(&c);
        progress_step(bar, i + 1, NULL);
    }
    progress_end(&bar);
    clip_decoder_close(&d->decoder);
    encoder_close(&d->encoder);
    return rc;
}

int verify_deep(const VerifyParams *params, View *view, int64_t *differing, Err *err)
{
    Deep d = {.params = params, .view = view};
    int rc = open_inputs(&d, err);
    for (int texts = 0; rc == 0 && texts < 2; texts++)
        rc = pass(&d, texts, err);
    if (rc == 0)
        fprintf(params->out, "encoded again: %" PRId64 " clip%s, %" PRId64 " caption%s, %" PRId64 " differing\n",
                d.clips, str_plural(d.clips), d.texts, str_plural(d.texts), d.differing);
    *differing = d.differing;
    encoding_close(&d.e);
    prepared_close(&d.p);
    recipe_close(&d.recipe);
    return rc;
}
