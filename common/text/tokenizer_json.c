#include "common/text/tokenizer_json.h"

#include <math.h>
#include <string.h>

#include "common/base/json.h"

enum { MAX_PIECES = 1 << 20, SENTINELS = 100 };
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3 };

static const char *const fixed[] = {"<pad>", "</s>", "<unk>"}; /* ids 0, 1, 2 */
enum { N_FIXED = 3, UNK = 2 };

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int is_type(const json_t *o, const char *type)
{
    return strcmp(text_of(o, "type"), type) == 0;
}

/* ---- protobuf -------------------------------------------------------------------------------- */

static int put_varint(Str *s, uint64_t v, Err *err)
{
    char bytes[10];
    int n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (char)(v | 0x80);
    bytes[n++] = (char)v;
    return str_append_n(s, bytes, n, err);
}

static int put_number(Str *s, int field, uint64_t v, Err *err)
{
    int rc = put_varint(s, (uint64_t)field << 3, err);
    return rc ? rc : put_varint(s, v, err);
}

static int put_bytes(Str *s, int field, const void *bytes, int64_t n, Err *err)
{
    int rc = put_varint(s, (uint64_t)field << 3 | 2, err);
    rc = rc ? rc : put_varint(s, (uint64_t)n, err);
    return rc ? rc : str_append_n(s, bytes, n, err);
}

static int put_float(Str *s, int field, float v, Err *err)
{
    int rc = put_varint(s, (uint64_t)field << 3 | 5, err);
    return rc ? rc : str_append_n(s, &v, sizeof v, err);
}

static int put_piece(Str *out, Str *room, const char *piece, float score, int type, Err *err)
{
    room->len = 0;
    int rc = put_bytes(room, 1, piece, (int64_t)strlen(piece), err);
    rc = rc ? rc : put_float(room, 2, score, err);
    rc = rc ? rc : put_number(room, 3, (uint64_t)type, err);
    return rc ? rc : put_bytes(out, 1, room->data, room->len, err);
}

static int put_settings(Str *out, Str *room, const Str *charsmap, Err *err)
{
    static const struct {
        int field;
        uint64_t value;
    } trainer[] = {{3, 1}, {40, UNK}, {41, UINT64_MAX}, {42, 1}, {43, 0}}; /* unigram; unk, bos -1, eos, pad */
    int rc = 0;
    room->len = 0;
    for (size_t i = 0; i < sizeof trainer / sizeof *trainer && !rc; i++)
        rc = put_number(room, trainer[i].field, trainer[i].value, err);
    rc = rc ? rc : put_bytes(out, 2, room->data, room->len, err);
    room->len = 0;
    /* The rule's name is a label: SentencePiece's Normalizer::Init looks only at the map (src/normalizer.cc). */
    const char *rule = charsmap->len ? "nmt_nfkc" : "identity";
    rc = rc ? rc : put_bytes(room, 1, rule, (int64_t)strlen(rule), err);
    if (charsmap->len)
        rc = rc ? rc : put_bytes(room, 2, charsmap->data, charsmap->len, err);
    for (int flag = 3; flag <= 5 && !rc; flag++) /* dummy prefix, no extra white space, escaped white space */
        rc = put_number(room, flag, 1, err);
    return rc ? rc : put_bytes(out, 3, room->data, room->len, err);
}

/* ---- the character map ----------------------------------------------------------------------- */

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static int base64_decode(Str *out, const char *text, const char *name, Err *err)
{
    size_t n = strlen(text), pad = 0;
    int rc = 0;
    while (pad < 2 && n > 0 && text[n - 1] == '=')
        n--, pad++;
    if ((n + pad) % 4 || n % 4 == 1)
        return err_set(err, ERR_FORMAT, "%s: precompiled_charsmap is not base64 text", name);
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        int v = base64_value(text[i]);
        if (v < 0)
            return err_set(err, ERR_FORMAT, "%s: precompiled_charsmap is not base64 text", name);
        bits = bits << 6 | (uint32_t)v;
        if ((held += 6) >= 8) {
            char byte = (char)(bits >> (held -= 8));
            rc = str_append_n(out, &byte, 1, err);
        }
    }
    return rc;
}

/* What SentencePiece does to white space anyway. */
static int is_white_space_rule(const json_t *step)
{
    const char *pattern = text_of(json_object_get(step, "pattern"), "Regex");
    return is_type(step, "Strip") || (is_type(step, "Replace") && strcmp(pattern, " {2,}") == 0);
}

static int read_normalizer(Str *charsmap, const json_t *step, const char *name, Err *err)
{
    if (!step || json_is_null(step) || is_white_space_rule(step))
        return 0;
    if (is_type(step, "Precompiled") && charsmap->len == 0)
        return base64_decode(charsmap, text_of(step, "precompiled_charsmap"), name, err);
    return err_set(err, ERR_UNSUPPORTED, "%s: normalizer '%.60s' is not part of T5's tokeniser", name,
                   text_of(step, "type"));
}

static int read_normalizers(Str *charsmap, const json_t *normalizer, const char *name, Err *err)
{
    if (!is_type(normalizer, "Sequence"))
        return read_normalizer(charsmap, normalizer, name, err);
    const json_t *list = json_object_get(normalizer, "normalizers");
    int rc = 0;
    for (size_t i = 0; i < json_array_size(list) && !rc; i++)
        rc = read_normalizer(charsmap, json_array_get(list, i), name, err);
    return rc;
}

/* ---- what must be as in T5 ------------------------------------------------------------------- */

/* A leading blank before every chunk of text, as SentencePiece's dummy prefix. */
static int is_metaspace(const json_t *p)
{
    const char *scheme = text_of(p, "prepend_scheme");
    int always = *scheme ? strcmp(scheme, "always") == 0 : !json_is_false(json_object_get(p, "add_prefix_space"));
    return is_type(p, "Metaspace") && always && strcmp(text_of(p, "replacement"), "\xE2\x96\x81") == 0;
}

static int check_pre_tokenizer(const json_t *p, const char *name, Err *err)
{
    const json_t *list = json_object_get(p, "pretokenizers");
    int found = is_metaspace(p), known = found;
    if (is_type(p, "Sequence")) {
        known = 1;
        for (size_t i = 0; i < json_array_size(list) && known; i++) {
            const json_t *one = json_array_get(list, i);
            found |= is_metaspace(one);
            known = is_metaspace(one) || is_type(one, "WhitespaceSplit");
        }
    }
    return found && known ? 0
                          : err_set(err, ERR_UNSUPPORTED,
                                    "%s: the pre_tokenizer is not T5's (Metaspace with prepend_scheme 'always', after "
                                    "WhitespaceSplit or alone)",
                                    name);
}

/* k of "<extra_id_k>", k < 100, written without leading zeros; else -1. */
static int sentinel_number(const char *text)
{
    static const char prefix[] = "<extra_id_";
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0 || text[n] < '0' || text[n] > '9')
        return -1;
    int k = text[n] - '0';
    if (text[++n] >= '0' && text[n] <= '9' && k > 0)
        k = 10 * k + text[n++] - '0';
    return strcmp(text + n, ">") == 0 ? k : -1;
}

static int check_added_tokens(const json_t *list, int64_t pieces, const char *name, Err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *id = json_object_get(one, "id");
        const char *text = text_of(one, "content");
        int64_t want = -1, k = sentinel_number(text);
        for (int f = 0; f < N_FIXED; f++)
            if (strcmp(text, fixed[f]) == 0)
                want = f;
        if (k >= 0)
            want = pieces + SENTINELS - 1 - k;
        if (want < 0 || !json_is_integer(id) || json_integer_value(id) != want)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: added token '%.60s' with id %" PRId64
                           ", expected only <pad> 0, </s> 1, <unk> 2 and <extra_id_0> "
                           "%" PRId64 " to <extra_id_99> %" PRId64,
                           name, text, (int64_t)json_integer_value(id), pieces + SENTINELS - 1, pieces);
    }
    return 0;
}

/* Pieces without the sentinels <extra_id_99> ... <extra_id_0>, which stand at the end or nowhere. */
static int64_t count_pieces(const json_t *vocab)
{
    int64_t n = (int64_t)json_array_size(vocab);
    if (n < SENTINELS)
        return n;
    for (int64_t i = 0; i < SENTINELS; i++) {
        const json_t *entry = json_array_get(vocab, (size_t)(n - 1 - i));
        const char *text = json_string_value(json_array_get(entry, 0));
        if (!text || sentinel_number(text) != i)
            return n;
    }
    return n - SENTINELS;
}

static int put_vocab(Str *out, Str *room, const json_t *vocab, int64_t pieces, const char *name, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; i < pieces && !rc; i++) {
        const json_t *entry = json_array_get(vocab, (size_t)i), *score = json_array_get(entry, 1);
        const char *piece = json_string_value(json_array_get(entry, 0));
        if (!piece || json_array_size(entry) != 2 || !json_is_number(score) ||
            !isfinite((float)json_number_value(score)))
            return err_set(err, ERR_FORMAT, "%s: vocab[%" PRId64 "] is not [piece, score]", name, i);
        if (i < N_FIXED && strcmp(piece, fixed[i]) != 0)
            return err_set(err, ERR_UNSUPPORTED, "%s: vocab[%" PRId64 "] is '%.60s', expected '%s'", name, i, piece,
                           fixed[i]);
        rc = put_piece(out, room, piece, (float)json_number_value(score),
                       i >= N_FIXED ? TYPE_NORMAL
                       : i == UNK   ? TYPE_UNKNOWN
                                    : TYPE_CONTROL,
                       err);
    }
    return rc;
}

static int check_model(const json_t *model, const char *name, Err *err)
{
    const json_t *unk = json_object_get(model, "unk_id");
    if (!is_type(model, "Unigram"))
        return err_set(err, ERR_UNSUPPORTED, "%s: model type '%.60s', expected Unigram", name, text_of(model, "type"));
    if (!json_is_integer(unk) || json_integer_value(unk) != UNK)
        return err_set(err, ERR_UNSUPPORTED, "%s: unk_id is %" PRId64 ", expected %d", name,
                       (int64_t)json_integer_value(unk), UNK);
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return err_set(err, ERR_UNSUPPORTED, "%s: byte_fallback is true, expected false", name);
    size_t n = json_array_size(json_object_get(model, "vocab"));
    if (n < N_FIXED || n > MAX_PIECES)
        return err_set(err, ERR_FORMAT, "%s: a vocab of %zu pieces, expected %d to %d", name, n, N_FIXED, MAX_PIECES);
    return 0;
}

int tokenizer_json_to_spm(Str *out, const char *text, int64_t size, const char *name, Err *err)
{
    json_t *root = NULL;
    Str charsmap = {0}, room = {0};
    int rc = json_parse(&root, text, size, name, err);
    if (rc < 0)
        return rc;
    const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    int64_t pieces = count_pieces(vocab);
    if ((rc = check_model(model, name, err)) < 0 ||
        (rc = check_added_tokens(json_object_get(root, "added_tokens"), pieces, name, err)) < 0 ||
        (rc = check_pre_tokenizer(json_object_get(root, "pre_tokenizer"), name, err)) < 0 ||
        (rc = read_normalizers(&charsmap, json_object_get(root, "normalizer"), name, err)) < 0)
        goto fail;
    if ((rc = put_vocab(out, &room, vocab, pieces, name, err)) < 0)
        goto fail;
    rc = put_settings(out, &room, &charsmap, err);
fail:
    str_fini(&charsmap);
    str_fini(&room);
    json_decref(root);
    return rc;
}
