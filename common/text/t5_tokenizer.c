/* From SentencePiece ids to T5 ids (MODEL.md 5.3): the text is cut at literal special tokens, each
 * chunk is encoded by itself (with a dummy prefix of its own, as in the slow legacy tokeniser), and
 * </s> is added unless the text ends with it. */
#include "common/text/t5_tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/sentencepiece_shim.h"
#include "common/text/tokenizer_json.h"

enum { PAD = 0, EOS = 1, UNK = 2, SENTINELS = 100 };
enum { MAX_MODEL = 64 << 20, MAX_TEXT = 16 << 20 };

struct T5Tokenizer {
    Spm *spm;
    int64_t pieces;
    char digest[65];
};

int t5_tokenizer_open_bytes(T5Tokenizer **out, const void *bytes, int64_t size, Err *err)
{
    *out = NULL;
    int rc = spm_check(bytes, size, err);
    if (rc < 0)
        return rc;
    T5Tokenizer *t = mem_calloc(1, sizeof *t, err);
    if (!t)
        return ERR_NOMEM;
    Digest d;
    if ((rc = sha256_bytes(bytes, size, &d, err)) < 0)
        goto fail;
    digest_hex(&d, t->digest);
    if ((rc = spm_open(&t->spm, bytes, size, err)) < 0)
        goto fail;
    SpmIds ids = spm_ids(t->spm);
    t->pieces = ids.pieces;
    if (ids.pad != PAD || ids.eos != EOS || ids.unk != UNK) {
        rc = err_set(err, ERR_UNSUPPORTED,
                     "tokeniser model: expected pad 0, eos 1, unk 2, found %" PRId64 ", %" PRId64 ", %" PRId64, ids.pad,
                     ids.eos, ids.unk);
        goto fail;
    }
    *out = t;
    return 0;
fail:
    t5_tokenizer_close(&t);
    return rc;
}

int t5_tokenizer_open_json(T5Tokenizer **out, const char *text, int64_t size, const char *name, Err *err)
{
    *out = NULL;
    Str model = {0};
    int rc = tokenizer_json_to_spm(&model, text, size, name, err);
    if (rc == 0)
        rc = t5_tokenizer_open_bytes(out, model.data, model.len, err);
    str_fini(&model);
    return rc;
}

/* FOLDER/spiece.model, or tokenizer.json where only that exists. */
static int find_file(char **out, const char *folder, Err *err)
{
    char *spiece = path_join(folder, "spiece.model", err), *json = path_join(folder, "tokenizer.json", err);
    int rc = spiece && json ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(spiece))
        *out = spiece, spiece = NULL;
    else if (rc == 0 && file_exists(json))
        *out = json, json = NULL;
    else if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND, "'%s' has neither spiece.model nor tokenizer.json", folder);
    mem_free(spiece);
    mem_free(json);
    return rc;
}

int t5_tokenizer_open(T5Tokenizer **out, const char *path, Err *err)
{
    *out = NULL;
    char *file = NULL, *bytes = NULL;
    int64_t size = 0;
    int rc = 0;
    if (file_is_dir(path))
        rc = find_file(&file, path, err);
    else if (!(file = mem_strdup(path, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = file_read(file, MAX_MODEL, &bytes, &size, err);
    if (rc == 0) {
        rc = str_ends_with(file, ".json") ? t5_tokenizer_open_json(out, bytes, size, "tokenizer", err)
                                          : t5_tokenizer_open_bytes(out, bytes, size, err);
        if (rc < 0)
            err_wrap(err, rc, "'%s'", file);
    }
    mem_free(bytes);
    mem_free(file);
    return rc;
}

void t5_tokenizer_close(T5Tokenizer **p)
{
    if (!*p)
        return;
    spm_close(&(*p)->spm);
    mem_free(*p);
    *p = NULL;
}

int64_t t5_tokenizer_vocab(const T5Tokenizer *t)
{
    return t->pieces + SENTINELS;
}

const char *t5_tokenizer_digest(const T5Tokenizer *t)
{
    return t->digest;
}

/* ---- special tokens in the text -------------------------------------------------------------- */

typedef struct Special {
    int64_t length, id;
    int strips;
} Special; /* strips: swallows white space on both sides */

/* The special token that starts at s, if any: <pad>, </s>, <unk>, <extra_id_0> ... <extra_id_99>. */
static int special_at(const T5Tokenizer *t, const char *s, int64_t n, Special *out)
{
    static const struct {
        const char *text;
        int id;
    } fixed[] = {{"<pad>", PAD}, {"</s>", EOS}, {"<unk>", UNK}};
    for (int i = 0; i < 3; i++) {
        int64_t length = (int64_t)strlen(fixed[i].text);
        if (n >= length && memcmp(s, fixed[i].text, (size_t)length) == 0) {
            *out = (Special){length, fixed[i].id, 0};
            return 1;
        }
    }
    const char *prefix = "<extra_id_";
    int64_t at = (int64_t)strlen(prefix), k = 0, digits = 0;
    if (n < at || memcmp(s, prefix, (size_t)at) != 0)
        return 0;
    for (; digits < 2 && at < n && s[at] >= '0' && s[at] <= '9'; digits++)
        k = 10 * k + s[at++] - '0';
    if (digits == 0 || at >= n || s[at] != '>' || (digits == 2 && k < 10))
        return 0;
    *out = (Special){at + 1, t->pieces + SENTINELS - 1 - k, 1};
    return 1;
}

/* Bytes of the white-space character at s (Python's str.isspace), 0 when there is none. */
static int64_t space_at(const char *s, int64_t n)
{
    static const char *const wide[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
                                       "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
    if (n < 1)
        return 0;
    if ((s[0] >= 9 && s[0] <= 13) || (s[0] >= 28 && s[0] <= 32))
        return 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        int64_t length = (int64_t)strlen(wide[i]);
        if (n >= length && memcmp(s, wide[i], (size_t)length) == 0)
            return length;
    }
    /* U+2000 .. U+200A */
    return n >= 3 && memcmp(s, "\xE2\x80", 2) == 0 && (uint8_t)s[2] >= 0x80 && (uint8_t)s[2] <= 0x8A ? 3 : 0;
}

static void strip_left(const char **s, int64_t *n)
{
    for (int64_t k; (k = space_at(*s, *n)) > 0; *s += k, *n -= k) {
    }
}

static void strip_right(const char *s, int64_t *n)
{
    for (int64_t back = 1; back <= 3 && back <= *n;) {
        if (space_at(s + *n - back, back) == back)
            *n -= back, back = 1;
        else
            back++;
    }
}

static int push_id(int32_t **ids, int64_t *n, int64_t id, Err *err)
{
    int32_t *grown = mem_realloc(*ids, *n + 1, sizeof **ids, err);
    if (!grown)
        return ERR_NOMEM;
    *ids = grown;
    grown[(*n)++] = (int32_t)id;
    return 0;
}

int t5_tokenizer_encode(const T5Tokenizer *t, const char *text, int64_t size, int32_t **ids, int64_t *n, Err *err)
{
    *ids = NULL;
    *n = 0;
    if (size > MAX_TEXT)
        return err_set(err, ERR_LIMIT, "a text of %" PRId64 " bytes, at most %d", size, MAX_TEXT);
    int rc = 0, strips = 0; /* the token before the chunk swallows white space */
    int64_t begin = 0;
    for (int64_t i = 0; i <= size; i++) {
        Special sp = {0};
        if (i < size && (text[i] != '<' || !special_at(t, text + i, size - i, &sp)))
            continue;
        const char *chunk = text + begin;
        int64_t length = i - begin;
        if (strips)
            strip_left(&chunk, &length);
        if (sp.strips)
            strip_right(chunk, &length);
        if (length > 0 && (rc = spm_encode(t->spm, chunk, length, ids, n, err)) < 0)
            goto fail;
        if (i == size)
            break;
        if ((rc = push_id(ids, n, sp.id, err)) < 0)
            goto fail;
        strips = sp.strips;
        begin = i + sp.length;
        i = begin - 1;
    }
    if ((*n == 0 || (*ids)[*n - 1] != EOS) && (rc = push_id(ids, n, EOS, err)) < 0)
        goto fail;
    return 0;
fail:
    mem_free(*ids);
    *ids = NULL;
    *n = 0;
    return rc;
}

int t5_tokenizer_encode_padded(const T5Tokenizer *t, const char *text, int64_t size, int32_t *ids, int64_t length,
                               int64_t *used, int64_t *cut, Err *err)
{
    int32_t *all = NULL;
    int64_t n = 0;
    if (length < 1)
        return err_set(err, ERR_USAGE, "a token length of %" PRId64 ", at least 1", length);
    int rc = t5_tokenizer_encode(t, text, size, &all, &n, err);
    if (rc < 0)
        return rc;
    int64_t keep = n <= length ? n : length - 1;
    memcpy(ids, all, (size_t)keep * sizeof *ids);
    *cut = n > length ? n - length : 0;
    if (keep < n && (keep == 0 || ids[keep - 1] != EOS))
        ids[keep++] = EOS;
    *used = keep;
    for (int64_t i = *used; i < length; i++)
        ids[i] = PAD;
    mem_free(all);
    return 0;
}

char *t5_tokenizer_decode(const T5Tokenizer *t, const int32_t *ids, int64_t n, Err *err)
{
    Str text = {0};
    int rc = str_append(&text, "", err);
    for (int64_t i = 0, run; rc == 0 && i < n; i += run) {
        for (run = 0; i + run < n && ids[i + run] >= 0 && ids[i + run] < t->pieces; run++) {
        }
        if (run > 0) {
            char *part = spm_decode(t->spm, ids + i, run, err);
            rc = part ? str_append(&text, part, err) : ERR_FORMAT;
            mem_free(part);
        } else if (ids[i] >= 0 && ids[i] < t5_tokenizer_vocab(t)) {
            run = 1;
            rc = str_printf(&text, err, "<extra_id_%" PRId64 ">", t->pieces + SENTINELS - 1 - ids[i]);
        } else {
            rc = err_set(err, ERR_USAGE, "token id %d is outside 0..%" PRId64, ids[i], t5_tokenizer_vocab(t) - 1);
        }
    }
    if (rc < 0) {
        str_fini(&text);
        return NULL;
    }
    return text.data;
}

int t5_tokenizer_train(const char *path, const char *const *lines, int64_t n, int64_t vocab, Err *err)
{
    char *model = NULL;
    int64_t size = 0;
    int rc = spm_train(lines, n, vocab, &model, &size, err);
    if (rc == 0)
        rc = file_write_atomic(path, model, size, err);
    mem_free(model);
    return rc;
}
