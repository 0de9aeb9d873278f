/* The files of CLIP's tokeniser (MODEL.md 5.4): merges.txt, whose order gives the ids; vocab.json,
 * which must say the same; tokenizer.json, which holds both. */
#include <string.h>
#include <utf8proc.h>
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/text/clip_tokenizer_internal.h"

enum { MAX_MERGES = 48894, MAX_TOKEN = 1024, FIRST_UNPRINTABLE = 188 /* rank of byte 0 */ };
enum { NAME_SLOTS = 1 << 17 }; /* a power of two, at least twice what they hold */

Pair *clip_pair_slot(const ClipTokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 47);
    while (t->pair[i].id && (t->pair[i].left != left || t->pair[i].right != right))
        i = (i + 1) % PAIR_SLOTS;
    return &t->pair[i];
}

static int32_t *name_slot(const Names *names, const char *s, int64_t n)
{
    size_t i = (size_t)hash_xxh3(s, n) % NAME_SLOTS;
    for (; names->slot[i]; i = (i + 1) % NAME_SLOTS) {
        int32_t id = names->slot[i] - 1;
        if (names->begin[id + 1] - names->begin[id] == n &&
            memcmp(names->bytes.data + names->begin[id], s, (size_t)n) == 0)
            break;
    }
    return &names->slot[i];
}

static int names_add(Names *names, const char *s, int64_t n, Err *err)
{
    int32_t *slot = name_slot(names, s, n);
    if (*slot)
        return err_set(err, ERR_FORMAT, "this token exists already");
    int rc = str_append_n(&names->bytes, s, n, err);
    if (rc < 0)
        return rc;
    *slot = ++names->n;
    names->begin[names->n] = names->bytes.len;
    return 0;
}

/* The vocabulary's order of bytes: the printable ones first (MODEL.md 5.4). */
static int byte_from_rank(int rank)
{
    if (rank < 94)
        return rank + 33;
    if (rank < 106)
        return rank + 67;
    if (rank < FIRST_UNPRINTABLE)
        return rank + 68;
    if (rank < 221)
        return rank - FIRST_UNPRINTABLE;
    if (rank < 255)
        return rank - 94;
    return 173;
}

/* The byte that a code point of the files stands for: its own number where printable, U+0100 + k
 * for the k-th other; -1 none. */
static int byte_from_spelling(int32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return code;
    if (code >= 0x100 && code < 0x100 + 68)
        return byte_from_rank(FIRST_UNPRINTABLE + code - 0x100);
    return -1;
}

/* Spelling in the file -> raw bytes and the end mark; returns the length or a negative code. */
static int64_t read_token(const char *s, int64_t n, char out[MAX_TOKEN + 1], Err *err)
{
    int64_t length = 0;
    char end = 0;
    if (n > 4 && memcmp(s + n - 4, "</w>", 4) == 0) {
        n -= 4;
        end = 1;
    }
    while (n > 0) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, n, &code);
        int byte = used > 0 ? byte_from_spelling(code) : -1;
        if (byte < 0)
            return err_set(err, ERR_FORMAT, "a character that is not one of the 256 byte symbols");
        if (length == MAX_TOKEN)
            return err_set(err, ERR_FORMAT, "a token of more than %d bytes", MAX_TOKEN);
        out[length++] = (char)byte;
        s += used;
        n -= used;
    }
    if (length == 0)
        return err_set(err, ERR_FORMAT, "an empty token");
    out[length++] = end;
    return length;
}

/* "left right" -> the next merge. */
static int add_merge(ClipTokenizer *t, Sha256 *sha, const char *line, int64_t n, Err *err)
{
    char left[MAX_TOKEN + 1], right[MAX_TOKEN + 1], both[2 * MAX_TOKEN + 1];
    Names *names = &t->names;
    const char *blank = memchr(line, ' ', (size_t)n);
    if (!blank || memchr(blank + 1, ' ', (size_t)(line + n - blank - 1)))
        return err_set(err, ERR_FORMAT, "expected \"left right\"");
    int64_t nl = read_token(line, blank - line, left, err);
    if (nl < 0)
        return (int)nl;
    int64_t nr = read_token(blank + 1, line + n - blank - 1, right, err);
    if (nr < 0)
        return (int)nr;
    int32_t a = *name_slot(names, left, nl) - 1, b = *name_slot(names, right, nr) - 1;
    if (a < 0 || b < 0)
        return err_set(err, ERR_FORMAT, "one of its two parts is not a token of the lines before");
    if (left[nl - 1])
        return err_set(err, ERR_FORMAT, "its left part has the end-of-word mark </w>");
    if (nl + nr - 2 > MAX_TOKEN)
        return err_set(err, ERR_FORMAT, "a token of more than %d bytes", MAX_TOKEN);
    memcpy(both, left, (size_t)nl - 1);
    memcpy(both + nl - 1, right, (size_t)nr);
    int32_t id = names->n;
    int rc = names_add(names, both, nl - 1 + nr, err);
    if (rc == 0)
        *clip_pair_slot(t, a, b) = (Pair){a, b, id};
    sha256_update(sha, (const int32_t[]){a, b}, 2 * sizeof a);
    return rc;
}

int clip_read_merges(ClipTokenizer *t, const char *text, int64_t size, Err *err)
{
    Names *names = &t->names;
    Sha256 sha = {0};
    int rc = sha256_init(&sha, err);
    names->begin = mem_calloc(N_BASE + MAX_MERGES + 1, sizeof *names->begin, err);
    names->slot = mem_calloc(NAME_SLOTS, sizeof *names->slot, err);
    if (!names->begin || !names->slot)
        rc = ERR_NOMEM;
    for (int i = 0; rc == 0 && i < N_BASE; i++) {
        int byte = byte_from_rank(i % N_BYTES);
        char spelling[2] = {(char)byte, i >= N_BYTES};
        rc = names_add(names, spelling, 2, err);
        if (i < N_BYTES)
            t->byte_id[byte] = i;
    }
    const char *at = text, *end = text + size;
    /* OpenAI's own list goes on: cut there */
    for (int64_t line = 1; rc == 0 && at < end && names->n < N_BASE + MAX_MERGES; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int64_t n = (stop ? stop : end) - at;
        if (n > 0 && at[n - 1] == '\r')
            n--;
        int version = line == 1 && n >= 9 && memcmp(at, "#version:", 9) == 0;
        if (n > 0 && !version && (rc = add_merge(t, &sha, at, n, err)) < 0)
            err_wrap(err, rc, "line %" PRId64, line);
        at = stop ? stop + 1 : end;
    }
    if (rc == 0 && names->n == N_BASE)
        rc = err_set(err, ERR_FORMAT, "the file has no merges");
    if (rc == 0)
        sha256_final_hex(&sha, t->digest);
    sha256_fini(&sha);
    mem_free(names->slot);
    names->slot = NULL;
    return rc;
}

/* ---- vocab.json and tokenizer.json ----------------------------------------------------------- */

/* A token as these files spell it. */
static int spell(Str *out, const Names *names, int32_t id, const int32_t code[N_BYTES], Err *err)
{
    const char *bytes = names->bytes.data + names->begin[id];
    int64_t n = names->begin[id + 1] - names->begin[id] - 1;
    utf8proc_uint8_t utf8[4];
    int rc = 0;
    out->len = 0;
    for (int64_t i = 0; i < n && rc == 0; i++)
        rc = str_append_n(out, utf8, utf8proc_encode_char(code[(uint8_t)bytes[i]], utf8), err);
    return rc == 0 && bytes[n] ? str_append(out, "</w>", err) : rc;
}

static int check_id(const json_t *vocab, const char *token, int32_t id, const char *name, Err *err)
{
    const json_t *have = json_object_get(vocab, token);
    return json_is_integer(have) && json_integer_value(have) == id
               ? 0
               : err_set(err, ERR_FORMAT,
                         "%s: token '%.60s' has %s%" PRId64 ", but the order of the merges gives it the id %d", name,
                         token, have ? "the id " : "no id, not ", have ? (int64_t)json_integer_value(have) : -1, id);
}

int clip_check_vocab(const ClipTokenizer *t, const json_t *vocab, const char *name, Err *err)
{
    int32_t code[N_BYTES], n = t->names.n;
    Str token = {0};
    int rc = 0;
    for (int i = 0; i < N_BYTES; i++) {
        int byte = byte_from_rank(i);
        code[byte] = i < FIRST_UNPRINTABLE ? byte : 0x100 + i - FIRST_UNPRINTABLE;
    }
    if (json_object_size(vocab) != (size_t)n + 2)
        return err_set(err, ERR_FORMAT, "%s: %zu tokens, but the merges make %d with the two marks", name,
                       json_object_size(vocab), n + 2);
    for (int32_t id = 0; id < n && rc == 0; id++)
        if ((rc = spell(&token, &t->names, id, code, err)) == 0)
            rc = check_id(vocab, token.data, id, name, err);
    if (rc == 0)
        rc = check_id(vocab, "<|startoftext|>", n, name, err);
    if (rc == 0)
        rc = check_id(vocab, "<|endoftext|>", n + 1, name, err);
    str_fini(&token);
    return rc;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* Whether the types of a list's members are these. */
static int has_types(const json_t *list, const char *const *types, size_t n)
{
    int same = json_array_size(list) == n;
    for (size_t i = 0; i < n && same; i++)
        same = strcmp(text_of(json_array_get(list, i), "type"), types[i]) == 0;
    return same;
}

static int check_settings(const json_t *root, const char *name, Err *err)
{
    static const char *const normalizers[] = {"NFC", "Replace", "Lowercase"}, *const splits[] = {"Split", "ByteLevel"};
    const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    if (strcmp(text_of(model, "type"), "BPE") != 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: model type '%.60s', expected BPE", name, text_of(model, "type"));
    if (strcmp(text_of(model, "end_of_word_suffix"), "</w>") != 0 || *text_of(model, "continuing_subword_prefix") ||
        json_is_true(json_object_get(model, "byte_fallback")) || json_is_true(json_object_get(model, "ignore_merges")))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: the BPE is not CLIP's (end_of_word_suffix '</w>', no continuing_subword_prefix, "
                       "byte_fallback or ignore_merges)",
                       name);
    if (!has_types(json_object_get(json_object_get(root, "normalizer"), "normalizers"), normalizers, 3) ||
        !has_types(json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers"), splits, 2))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: the normalizer or pre_tokenizer is not CLIP's (NFC, Replace, Lowercase; Split, ByteLevel)",
                       name);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const char *token = text_of(json_array_get(added, i), "content");
        if (strcmp(token, "<|startoftext|>") != 0 && strcmp(token, "<|endoftext|>") != 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: added token '%.60s', expected only <|startoftext|> and <|endoftext|>", name, token);
    }
    return 0;
}

int clip_merges_of_json(Str *lines, const json_t *root, const char *name, Err *err)
{
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges"), *one;
    size_t i;
    int rc = check_settings(root, name, err);
    json_array_foreach (merges, i, one) {
        const char *left = json_string_value(json_is_array(one) ? json_array_get(one, 0) : one), *right = NULL;
        if (json_is_array(one) && json_array_size(one) == 2)
            right = json_string_value(json_array_get(one, 1));
        if (rc == 0 &&
            (!left || json_is_array(one) != (right != NULL) || strchr(left, '\n') || (right && strchr(right, '\n'))))
            rc = err_set(err, ERR_FORMAT, "%s: merges[%zu] is neither \"left right\" nor [left, right]", name, i);
        if (rc == 0)
            rc = str_printf(lines, err, "%s%s%s\n", left, right ? " " : "", right ? right : "");
        if (rc < 0)
            break;
    }
    return rc;
}
