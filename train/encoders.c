/* Compares the encoders' identities that weft-cache stored: cache with cache, and cache with base
 * model. */
#include <inttypes.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"
#include "common/store/safetensors.h"
#include "common/text/tokenizer.h"
#include "train/encoders.h"

/* Reads a member of 64 hex digits; *out points into `meta`. */
static int read_digest(const json_t *meta, const char *where, const char *member, const char **out, Err *err)
{
    Digest d;
    int rc = json_get_str(meta, member, where, out, err);

    if (rc == 0 && (rc = digest_parse(*out, &d, err)) < 0)
        err_wrap(err, rc, "%s: %s", where, member);
    return rc;
}

/* Refuses embeddings of two kinds of text encoder: the digests below would differ, but not say how.
 * */
static int same_kind(const json_t *have, const char *who, const json_t *want, const char *first, Err *err)
{
    TextKind a = text_config_kind(json_object_get(want, "config")),
             b = text_config_kind(json_object_get(have, "config"));

    if (a == b || a == TEXT_AUTO || b == TEXT_AUTO)
        return 0;
    return err_set(err, ERR_USAGE,
                   "cache '%s' holds embeddings of %s, but '%s' is of %s: caches and model must have one text encoder",
                   first, text_kind_name(a), who, text_kind_name(b));
}

/* By what the cache says of itself, which names the encoder; the records are looked at later. */
static int fits_transformer(const Dataset *d, const json_t *text, const char *dir, Err *err)
{
    const json_t *length = json_object_get(text, "length"), *dim = json_object_get(text, "dim");
    int64_t n = json_integer_value(length), D = json_integer_value(dim);
    TextKind kind = text_config_kind(json_object_get(text, "config"));

    if (!json_is_integer(length) || !json_is_integer(dim) || (n == d->text_len && D == d->text_dim))
        return 0;
    return err_set(err, ERR_USAGE,
                   "cache '%s' holds embeddings of %s, %" PRId64 " tokens of %" PRId64
                   " values, but the transformer reads %" PRId64 " of %" PRId64
                   ": build it with the text encoder (model.text_encoder) and length that the transformer wants",
                   dir, text_kind_name(kind), n, D, d->text_len, d->text_dim);
}

/* Refuses two digests that differ.  `who` names the compared folder (a cache, or a part of the base
 * model), `first` the cache that it is compared with. */
static int same_maker(const char *what, const char *member, const json_t *have, const char *who, const json_t *want,
                      const char *first, Err *err)
{
    const char *a = NULL, *b = NULL;
    int rc = read_digest(want, first, member, &a, err);

    if (rc == 0)
        rc = read_digest(have, who, member, &b, err);
    if (rc == 0 && strcmp(a, b))
        rc = err_set(err, ERR_USAGE, "cache '%s' was made with another %s (%.12s...) than '%s' has (%.12s...)", first,
                     what, a, who, b);
    return rc;
}

static int same_config(const char *what, const json_t *have, const char *who, const json_t *want, const char *first,
                       Err *err)
{
    char *a = json_canonical(json_object_get(want, "config"), err),
         *b = json_canonical(json_object_get(have, "config"), err);
    int rc = a && b ? 0 : ERR_NOMEM;

    if (rc == 0 && strcmp(a, b))
        rc = err_set(err, ERR_USAGE, "cache '%s' was made with another %s config than '%s' has: %s against %s", first,
                     what, who, a, b);
    mem_free(a);
    mem_free(b);
    return rc;
}

/* ---- caches ---------------------------------------------------------------------------------- */

static int read_meta(CacheTxn *t, const char *key, const char *dir, json_t **out, Err *err)
{
    int rc = cache_get_meta(t, key, out, err);

    if (rc == 0)
        return err_set(
            err, ERR_FORMAT,
            "cache '%s' has no meta '%s', which names its encoders: weft-cache build did not finish; run it again", dir,
            key);
    if (rc > 0 && !json_is_object(json_object_get(*out, "config")))
        return err_set(err, ERR_FORMAT, "cache '%s': meta '%s' has no config", dir, key);
    return rc < 0 ? err_wrap(err, rc, "cache '%s'", dir) : 0;
}

int encoders_read(Dataset *d, CacheTxn *t, const char *const *dirs, int64_t cache, Err *err)
{
    const char *dir = dirs[cache], *digest;
    json_t *vae = NULL, *text = NULL;
    double scale = 0;
    int rc = read_meta(t, "vae", dir, &vae, err);

    if (rc == 0)
        rc = read_meta(t, "text", dir, &text, err);
    if (rc == 0 && ((rc = json_get_num(vae, "scaling_factor", "meta 'vae'", &scale, err)) < 0 ||
                    (rc = read_digest(vae, "meta 'vae'", "weights_sha256", &digest, err)) < 0 ||
                    (rc = read_digest(text, "meta 'text'", "weights_sha256", &digest, err)) < 0 ||
                    (rc = read_digest(text, "meta 'text'", "tokenizer_sha256", &digest, err)) < 0))
        err_wrap(err, rc, "cache '%s'", dir);
    if (rc == 0 && cache == 0) {
        d->scale = scale;
        d->vae = json_incref(vae);
        d->text = json_incref(text);
    } else if (rc == 0 && (rc = same_maker("VAE", "weights_sha256", vae, dir, d->vae, dirs[0], err)) == 0 &&
               (rc = same_config("VAE", vae, dir, d->vae, dirs[0], err)) == 0 &&
               (rc = same_kind(text, dir, d->text, dirs[0], err)) == 0 &&
               (rc = same_maker("text encoder", "weights_sha256", text, dir, d->text, dirs[0], err)) == 0 &&
               (rc = same_config("text encoder", text, dir, d->text, dirs[0], err)) == 0) {
        rc = same_maker("tokenizer", "tokenizer_sha256", text, dir, d->text, dirs[0], err);
    }
    if (rc == 0)
        rc = fits_transformer(d, text, dir, err);
    json_decref(vae);
    json_decref(text);
    return rc;
}

/* ---- the base model -------------------------------------------------------------------------- */

static int parse_config(const char *folder, int is_vae, json_t **out, Err *err)
{
    char *where = path_join(folder, "config.json", err);
    VaeConfig vae;
    TextConfig text;
    json_t *json = NULL;
    int rc = where ? json_read_file(&json, where, err) : ERR_NOMEM;

    if (rc == 0 &&
        (rc = is_vae ? vae_config_parse(&vae, json, where, err) : text_config_parse(&text, json, where, err)) == 0)
        rc = (*out = is_vae ? vae_config_json(&vae, err) : text_config_json(&text, err)) ? 0 : ERR_NOMEM;
    json_decref(json);
    mem_free(where);
    return rc;
}

/* Makes {"config", "weights_sha256"} of an encoder's folder, in the form of weft-cache's meta. */
static int identity(const char *folder, const char *stem, int is_vae, const char *memory, const Log *log, json_t **out,
                    Err *err)
{
    SafeTensors *file = NULL;
    json_t *config = NULL;
    char hex[65];
    int rc = parse_config(folder, is_vae, &config, err);

    if (rc == 0 && (rc = safetensors_open_folder(&file, folder, stem, log, err)) == 0)
        rc = safetensors_digest_once(file, folder, memory, hex, log, err);
    if (rc == 0 && !(*out = json_pack("{s:O, s:s}", "config", config, "weights_sha256", hex)))
        rc = err_set(err, ERR_NOMEM, "'%s': out of memory", folder);
    safetensors_close(&file);
    json_decref(config);
    return rc;
}

static int check_encoder(const json_t *want, const char *cache, const char *folder, int is_vae, const char *memory,
                         const Log *log, Err *err)
{
    const char *what = is_vae ? "VAE" : "text encoder";
    json_t *have = NULL;
    int rc = identity(folder, is_vae ? "diffusion_pytorch_model" : "model", is_vae, memory, log, &have, err);

    if (rc == 0 && !is_vae)
        rc = same_kind(have, folder, want, cache, err);
    if (rc == 0 && (rc = same_maker(what, "weights_sha256", have, folder, want, cache, err)) == 0)
        rc = same_config(what, have, folder, want, cache, err);
    json_decref(have);
    return rc;
}

enum { CAPTIONS_COMPARED = 3000 };

/* The tokeniser's ids of one clip's captions against the cache's; *same becomes 0 where one
 * differs. */
static int compare_clip(const Tokenizer *t, CacheTxn *txn, const json_t *facts, int64_t *captions, int *same, Err *err)
{
    const json_t *texts = json_object_get(facts, "captions"), *keys = json_object_get(facts, "tokens");
    int rc = 0;

    for (size_t i = 0; i < json_array_size(texts) && rc == 0 && *same; i++) {
        const json_t *text = json_array_get(texts, i);
        const char *hex = json_string_value(json_array_get(keys, i));
        Digest key;
        RecordView r;
        int64_t used, cut;
        if (!hex || (rc = digest_parse(hex, &key, err)) < 0 ||
            (rc = cache_get_record(txn, CACHE_TOKENS, &key, 1, &r, err)) != 1) {
            *same = 0;
            return rc;
        }
        int64_t n = tensor_count(&r.tensor);
        int32_t *ids = mem_calloc(n, sizeof *ids, err);
        rc = ids ? tokenizer_encode_padded(t, json_string_value(text), ids, n, &used, &cut, err) : ERR_NOMEM;
        if (rc == 0)
            *same = memcmp(ids, r.tensor.data, (size_t)n * sizeof *ids) == 0;
        mem_free(ids);
        ++*captions;
    }
    return rc;
}

/* Whether the tokeniser gives the ids that the first cache holds, for its first captions.  The same
 * tokeniser can be stored in two forms (spiece.model, tokenizer.json), which have two digests. */
static int gives_same_ids(const Dataset *d, const Tokenizer *t, int64_t *captions, int *same, Err *err)
{
    CacheTxn *txn = NULL;
    CacheCursor *cursor = NULL;
    json_t *facts = NULL;
    const char *id;
    int rc = cache_begin(&txn, d->cache[0], err);

    *captions = 0;
    *same = 1;
    while (rc == 0 && *same && *captions < CAPTIONS_COMPARED &&
           (rc = cache_next_clip(txn, &cursor, &id, &facts, err)) == 1) {
        rc = compare_clip(t, txn, facts, captions, same, err);
        json_decref(facts);
    }
    cache_cursor_free(&cursor);
    cache_end(&txn);
    return rc;
}

static int check_tokenizer(const Dataset *d, const char *cache, const char *folder, const Log *log, Err *err)
{
    Tokenizer *t = NULL;
    json_t *have = NULL;
    const char *digest = NULL;
    int64_t captions = 0;
    int rc = tokenizer_open(&t, folder, text_config_kind(json_object_get(d->text, "config")), err), same = 0;

    if (rc == 0)
        rc = read_digest(d->text, cache, "tokenizer_sha256", &digest, err);
    if (rc == 0 && strcmp(digest, tokenizer_digest(t)) != 0 &&
        (rc = gives_same_ids(d, t, &captions, &same, err)) == 0 && same && captions > 0)
        log_info(log,
                 "'%s' is not the file that tokenised the captions, but gives the same ids for %" PRId64 " of them",
                 folder, captions);
    else if (rc == 0 && !(have = json_pack("{s:s}", "tokenizer_sha256", tokenizer_digest(t))))
        rc = err_set(err, ERR_NOMEM, "'%s': out of memory", folder);
    else if (rc == 0)
        rc = same_maker("tokenizer", "tokenizer_sha256", have, folder, d->text, cache, err);
    tokenizer_close(&t);
    json_decref(have);
    return rc;
}

int encoders_check(const Dataset *d, const char *cache, const char *base, const char *memory, const Log *log, Err *err)
{
    static const char *const part[] = {"vae", "text_encoder", "tokenizer"};
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0; i++) {
        char *folder = path_join(base, part[i], err);
        int there = folder ? file_look(folder, err) : ERR_NOMEM;
        if (there < 0)
            rc = there;
        else if (there == 0)
            log_info(log, "'%s' has no %s, so it is not compared with the one that made the cache", base, part[i]);
        else if (i < 2)
            rc = check_encoder(i == 0 ? d->vae : d->text, cache, folder, i == 0, memory, log, err);
        else
            rc = check_tokenizer(d, cache, folder, log, err);
        mem_free(folder);
    }
    return rc;
}

int encoders_wanted(const Dataset *d, const char *cache, TextKind wanted, Err *err)
{
    return text_kind_check(wanted, text_config_kind(json_object_get(d->text, "config")), cache, err);
}

/* ---- their digests, when final/ links them --------------------------------------------------- */

static const char *const parts[] = {"vae", "text_encoder"}, *const stems[] = {"diffusion_pytorch_model", "model"};

/* A folder that cannot be opened costs only that its digest is computed again some day. */
static int hold_part(EncodersHold *h, int i, const char *base, const char *memory, Err *err)
{
    Err why = {0};
    char *folder = path_join(base, parts[i], err);
    int rc = folder ? safetensors_open_folder(&h->file[i], folder, stems[i], NULL, &why) : ERR_NOMEM;

    mem_free(folder);
    if (rc == 0)
        return safetensors_digest_hold(h->file[i], memory, &h->digest[i], err);
    return rc == ERR_NOMEM ? err_set(err, rc, "out of memory for the digests of '%s'", base) : 0;
}

int encoders_hold(EncodersHold *h, const char *base, const char *memory, Err *err)
{
    int rc = 0;

    *h = (EncodersHold){{NULL, NULL}, {{{0}, {0}}, {{0}, {0}}}};
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = hold_part(h, i, base, memory, err);
    return rc;
}

int encoders_keep(EncodersHold *h, const char *memory, Err *err)
{
    int rc = 0;

    for (int i = 0; i < 2; i++) {
        if (h->file[i] && rc == 0)
            rc = safetensors_digest_keep(h->file[i], memory, &h->digest[i], err);
        safetensors_close(&h->file[i]);
    }
    return rc;
}
