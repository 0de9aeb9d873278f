#include "cache/import_text.h"
#include <stdio.h>
#include <string.h>
#include "cache/export_layout.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"

/* SHA-256 over what the record is. */
static int own_key(RecordKind kind, const Tensor *t, Digest *key, Err *err)
{
    Digest bytes;
    json_t *parts;
    JsonWriter w;
    int rc = sha256_bytes(t->data, tensor_bytes(t), &bytes, err);
    if (rc < 0)
        return rc;
    jsonw_begin(&w);
    jsonw_str(&w, "kind", "imported");
    jsonw_int(&w, "record", kind);
    jsonw_str(&w, "dtype", dtype_name(t->dtype));
    jsonw_ints(&w, "shape", t->dim, t->rank);
    jsonw_hex(&w, "bytes", &bytes);
    rc = jsonw_finish(&w, &parts, "a content key", err);
    if (rc == 0)
        rc = cache_key(key, parts, err);
    json_decref(parts);
    return rc;
}

static int choose_key(RecordKind kind, const Tensor *t, const char *named, const char *sum, Digest *key, Err *err)
{
    char hex[17];
    if (named && sum) {
        int rc = export_checksum(hex, kind, t, named, err);
        if (rc < 0)
            return rc;
        if (strcmp(hex, sum) == 0)
            return digest_parse(named, key, err);
    }
    return own_key(kind, t, key, err);
}

int import_record(Import *m, CacheDb db, RecordKind kind, const Tensor *t, const char *named, const char *sum,
                  Digest *key, Err *err)
{
    RecordView r;
    Err damage = {0};
    if (!record_is_finite(t))
        return err_set(err, ERR_FORMAT, "a number of its %s is not finite", cache_db_name(db));
    int rc = choose_key(kind, t, named, sum, key, err);
    if (rc < 0)
        return rc;
    rc = cache_get_record(m->have, db, key, 1, &r, &damage);
    return rc == 1 ? 0 : cache_put_record(m->out, db, key, kind, t, err);
}

/* ---- by the model ---------------------------------------------------------------------------- */

static int tokenize(Import *m, const char *caption, Err *err)
{
    if (!m->text.ids && !(m->text.ids = mem_calloc(m->length, sizeof *m->text.ids, err)))
        return ERR_NOMEM;
    m->text.text = (char *)caption;
    return tokenizer_encode_padded(m->e->tokenizer, caption, m->text.ids, m->length, &m->text.n, &m->text.cut, err);
}

int import_encode(Import *m, const char *caption, Digest *text, Digest *tokens, Err *err)
{
    RecordView r;
    Tensor value;
    if (!m->e)
        return err_set(err, ERR_USAGE, "no embedding of \"%.60s\" is given: give --model FOLDER to make it", caption);
    int rc = tokenize(m, caption, err);
    if (rc == 0)
        rc = encoding_text_key(m->e, &m->text, text, err);
    if (rc == 0)
        rc = encoding_tokens_key(m->e, m->text.text, tokens, err);
    if (rc < 0)
        return rc;
    Tensor ids = tensor_of(m->text.ids, DT_I32, 1, m->length);
    if ((rc = cache_put_record(m->out, CACHE_TOKENS, tokens, RECORD_TOKENS, &ids, err)) < 0)
        return rc;
    if (cache_get_record(m->have, CACHE_TEXT, text, 1, &r, NULL) == 1)
        return 0;
    if (!m->encoder && (rc = encoder_open_text(&m->encoder, m->e, err)) < 0)
        return rc;
    if ((rc = encoder_text(m->encoder, &m->text, &value, err)) < 0)
        return err_wrap(err, rc, "encoding \"%.60s\"", caption);
    return cache_put_record(m->out, CACHE_TEXT, text, RECORD_TEXT, &value, err);
}

/* ---- from the file --------------------------------------------------------------------------- */

/* An aligned copy, since a file's tensors lie anywhere. */
static int copy_of(const Tensor *t, Tensor *out, Err *err)
{
    *out = *t;
    if (!(out->data = mem_alloc_aligned(tensor_bytes(t), err)))
        return ERR_NOMEM;
    memcpy(out->data, t->data, (size_t)tensor_bytes(t));
    return 0;
}

static int from_file(Import *m, const json_t *line, const SafeEntry *e, CacheDb db, const char *list, size_t k,
                     Digest *key, Err *err)
{
    const json_t *sums = json_object_get(json_object_get(line, "checksums"), list);
    char shape[128];
    Tensor want = db == CACHE_TEXT ? tensor_of(NULL, m->dtype, 2, m->length, m->dim)
                                   : tensor_of(NULL, DT_I32, 1, m->length),
           t = {0};
    if (e->tensor.dtype != want.dtype || !tensor_same_shape(&e->tensor, &want)) {
        char found[128];
        return err_set(err, ERR_FORMAT, "%s is %s, expected %s", e->name,
                       tensor_describe(&e->tensor, found, sizeof found), tensor_describe(&want, shape, sizeof shape));
    }
    int rc = copy_of(&e->tensor, &t, err);
    if (rc == 0)
        rc = import_record(m, db, db == CACHE_TEXT ? RECORD_TEXT : RECORD_TOKENS, &t,
                           json_string_value(json_array_get(json_object_get(line, list), k)),
                           json_string_value(json_array_get(sums, k)), key, err);
    mem_free_aligned(t.data);
    return rc;
}

int import_caption(Import *m, const json_t *line, const SafeTensors *file, size_t k, Digest *text, Digest *tokens,
                   Err *err)
{
    char name[32];
    snprintf(name, sizeof name, "text.%zu", k);
    const SafeEntry *embedding = safetensors_find(file, name);
    snprintf(name, sizeof name, "tokens.%zu", k);
    const SafeEntry *ids = safetensors_find(file, name);
    if (!embedding)
        return import_encode(m, json_string_value(json_array_get(json_object_get(line, "captions"), k)), text, tokens,
                             err);
    int rc = from_file(m, line, embedding, CACHE_TEXT, "texts", k, text, err);
    if (rc < 0)
        return rc;
    if (ids)
        return from_file(m, line, ids, CACHE_TOKENS, "tokens", k, tokens, err);
    if (!m->e)
        return err_set(err, ERR_USAGE, "%s is missing: give it, or --model FOLDER to make it", name);
    rc = tokenize(m, json_string_value(json_array_get(json_object_get(line, "captions"), k)), err);
    if (rc == 0)
        rc = encoding_tokens_key(m->e, m->text.text, tokens, err);
    Tensor t = tensor_of(m->text.ids, DT_I32, 1, m->length);
    return rc < 0 ? rc : cache_put_record(m->out, CACHE_TOKENS, tokens, RECORD_TOKENS, &t, err);
}

void import_text_fini(Import *m)
{
    encoder_close(&m->encoder);
    mem_free(m->text.ids);
}
