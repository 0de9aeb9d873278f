/* CLIP's byte-level BPE (MODEL.md 5.4).  Symbols are ids throughout: 0..255 single
 * bytes in the vocabulary's own order, 256..511 the same at a word's end, 512 + k the result of
 * merge k.  The rank of a merge is its id. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/text/clip_tokenizer_internal.h"

enum { MAX_FILE = 16 << 20, MAX_TEXT = 1 << 20 };

static int compile_pattern(ClipTokenizer *t, Err *err)
{
    /* After white space became blanks: contractions, letters, one number, anything else that is no
     * blank. */
    static const char text[] = "'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^ \\p{L}\\p{N}]+";
    int code;
    PCRE2_SIZE at;
    t->pattern = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    return t->pattern ? 0 : err_set(err, ERR_NOMEM, "compiling CLIP's pattern: PCRE2 error %d", code);
}

/* From merges, and the vocabulary that must agree with them (or NULL). */
static int open_merges(ClipTokenizer **out, const char *text, int64_t size, const json_t *vocab, const char *name,
                       Err *err)
{
    *out = NULL;
    ClipTokenizer *t = mem_calloc(1, sizeof *t, err);
    int rc = t && (t->pair = mem_calloc(PAIR_SLOTS, sizeof *t->pair, err)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = clip_read_merges(t, text, size, err);
    if (rc == 0 && vocab)
        rc = clip_check_vocab(t, vocab, name, err);
    if (rc == 0)
        rc = compile_pattern(t, err);
    if (rc < 0)
        clip_tokenizer_close(&t);
    *out = t;
    return rc;
}

int clip_tokenizer_open_bytes(ClipTokenizer **out, const char *text, int64_t size, Err *err)
{
    return open_merges(out, text, size, NULL, "", err);
}

int clip_tokenizer_open_json(ClipTokenizer **out, const char *text, int64_t size, const char *name, Err *err)
{
    *out = NULL;
    json_t *root = NULL;
    Str lines = {0};
    int rc = json_parse(&root, text, size, name, err);
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    if (rc == 0)
        rc = clip_merges_of_json(&lines, root, name, err);
    if (rc == 0)
        rc = open_merges(out, lines.data, lines.len, vocab ? vocab : json_null(), name, err);
    str_fini(&lines);
    json_decref(root);
    return rc;
}

/* merges.txt, with the vocab.json beside it if there is one; or tokenizer.json. */
static int open_file(ClipTokenizer **out, const char *file, const char *vocab_file, Err *err)
{
    char *text = NULL;
    int64_t size = 0;
    json_t *vocab = NULL;
    int rc = file_read(file, MAX_FILE, &text, &size, err);
    if (rc == 0 && vocab_file && file_exists(vocab_file))
        rc = json_read_file(&vocab, vocab_file, err);
    if (rc == 0 &&
        (rc = str_ends_with(file, ".json") ? clip_tokenizer_open_json(out, text, size, "tokenizer", err)
                                           : open_merges(out, text, size, vocab, "vocab.json beside it", err)) < 0)
        err_wrap(err, rc, "'%s'", file);
    json_decref(vocab);
    mem_free(text);
    return rc;
}

int clip_tokenizer_open(ClipTokenizer **out, const char *path, Err *err)
{
    *out = NULL;
    if (!file_is_dir(path))
        return open_file(out, path, NULL, err);
    char *merges = path_join(path, "merges.txt", err), *json = path_join(path, "tokenizer.json", err),
         *vocab = path_join(path, "vocab.json", err);
    int rc = merges && json && vocab ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(merges))
        rc = open_file(out, merges, vocab, err);
    else if (rc == 0 && file_exists(json))
        rc = open_file(out, json, NULL, err);
    else if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' has neither merges.txt nor tokenizer.json: CLIP's tokeniser is vocab.json with merges.txt, "
                     "or tokenizer.json",
                     path);
    mem_free(merges);
    mem_free(json);
    mem_free(vocab);
    return rc;
}

void clip_tokenizer_close(ClipTokenizer **p)
{
    if (!*p)
        return;
    pcre2_code_free((*p)->pattern);
    mem_free((*p)->pair);
    str_fini(&(*p)->names.bytes);
    mem_free((*p)->names.begin);
    mem_free(*p);
    *p = NULL;
}

int32_t clip_tokenizer_bos(const ClipTokenizer *t)
{
    return t->names.n;
}

int32_t clip_tokenizer_eos(const ClipTokenizer *t)
{
    return t->names.n + 1;
}

const char *clip_tokenizer_digest(const ClipTokenizer *t)
{
    return t->digest;
}

/* ---- BPE of one word ------------------------------------------------------------------------- */

typedef struct Symbol {
    int32_t id, prev, next;
} Symbol; /* id -1: merged away */
typedef struct Candidate {
    int32_t rank, at, left, right;
} Candidate;

typedef struct Bpe { /* scratch of one encode call */
    Symbol *symbol;
    Candidate *heap; /* least (rank, at) on top; at most two candidates a symbol */
    int64_t n_heap, cap;
    int32_t *ids; /* the result */
    int64_t n, cap_ids;
} Bpe;

static int before(const Candidate *a, const Candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(Bpe *b, Candidate c)
{
    int64_t i = b->n_heap++;
    for (; i > 0 && before(&c, &b->heap[(i - 1) / 2]); i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = c;
}

static Candidate heap_pop(Bpe *b)
{
    Candidate top = b->heap[0], last = b->heap[--b->n_heap];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && before(&b->heap[child + 1], &b->heap[child]))
            child++;
        if (!before(&b->heap[child], &last))
            break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

static void propose(const ClipTokenizer *t, Bpe *b, int32_t at)
{
    int32_t next = at < 0 ? -1 : b->symbol[at].next;
    if (next < 0)
        return;
    int32_t left = b->symbol[at].id, right = b->symbol[next].id, id = clip_pair_slot(t, left, right)->id;
    if (id)
        heap_push(b, (Candidate){id, at, left, right});
}

static int reserve(Bpe *b, int64_t word, Err *err)
{
    if (word > b->cap) {
        Symbol *symbol = mem_realloc(b->symbol, word, sizeof *symbol, err);
        if (!symbol)
            return ERR_NOMEM;
        b->symbol = symbol;
        Candidate *heap = mem_realloc(b->heap, 3 * word, sizeof *heap, err); /* one a pair at first, two more a merge */
        if (!heap)
            return ERR_NOMEM;
        b->heap = heap;
        b->cap = word;
    }
    if (b->n + word > b->cap_ids) {
        int32_t *ids = mem_realloc(b->ids, 2 * (b->n + word), sizeof *ids, err);
        if (!ids)
            return ERR_NOMEM;
        b->ids = ids;
        b->cap_ids = 2 * (b->n + word);
    }
    return 0;
}

static int encode_word(const ClipTokenizer *t, Bpe *b, const uint8_t *word, int64_t n, Err *err)
{
    int rc = reserve(b, n, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n; i++)
        b->symbol[i] = (Symbol){t->byte_id[word[i]] + (i == n - 1 ? N_BYTES : 0), (int32_t)i - 1,
                                i == n - 1 ? -1 : (int32_t)i + 1};
    b->n_heap = 0;
    for (int64_t i = 0; i < n; i++)
        propose(t, b, (int32_t)i);
    while (b->n_heap > 0) {
        Candidate c = heap_pop(b);
        Symbol *s = &b->symbol[c.at];
        /* one side has been merged since */
        if (s->id != c.left || s->next < 0 || b->symbol[s->next].id != c.right)
            continue;
        Symbol *gone = &b->symbol[s->next];
        s->id = c.rank;
        s->next = gone->next;
        gone->id = -1;
        if (s->next >= 0)
            b->symbol[s->next].prev = c.at;
        propose(t, b, s->prev);
        propose(t, b, c.at);
    }
    for (int32_t i = 0; i >= 0; i = b->symbol[i].next)
        b->ids[b->n++] = b->symbol[i].id;
    return 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static int is_space(utf8proc_int32_t c) /* Unicode White_Space */
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* NFC, white-space runs to one blank, lower case code point by code point. */
static int normalize(Str *out, const char *text, int64_t n, Err *err)
{
    utf8proc_uint8_t *nfc = NULL, bytes[4];
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE),
                     used;
    if (size < 0)
        return err_set(err, size == UTF8PROC_ERROR_NOMEM ? ERR_NOMEM : ERR_FORMAT, "%s", utf8proc_errmsg(size));
    int rc = 0, blank = 0;
    for (utf8proc_ssize_t i = 0; rc == 0 && i < size; i += used) {
        utf8proc_int32_t c;
        used = utf8proc_iterate(nfc + i, size - i, &c);
        if (used < 1) {
            rc = err_set(err, ERR_FORMAT, "text is not UTF-8");
        } else if (is_space(c)) {
            if (!blank)
                rc = str_append_n(out, " ", 1, err);
        } else if (c == 0x130) { /* the one letter whose lower case is two code points */
            rc = str_append_n(out, "i\xCC\x87", 3, err);
        } else {
            rc = str_append_n(out, bytes, utf8proc_encode_char(utf8proc_tolower(c), bytes), err);
        }
        blank = is_space(c);
    }
    free(nfc);
    return rc;
}

/* Words of a piece of normalised text. */
static int encode_words(const ClipTokenizer *t, Bpe *b, const char *text, int64_t n, Err *err)
{
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return err_set(err, ERR_NOMEM, "CLIP's pattern: out of memory");
    PCRE2_SIZE at = 0, *range = pcre2_get_ovector_pointer(match);
    int rc = 0, found;
    while (rc == 0 && (found = pcre2_match(t->pattern, (PCRE2_SPTR)text, (PCRE2_SIZE)n, at, PCRE2_NO_UTF_CHECK, match,
                                           NULL)) > 0) {
        rc = encode_word(t, b, (const uint8_t *)text + range[0], (int64_t)(range[1] - range[0]), err);
        at = range[1];
    }
    if (rc == 0 && found != PCRE2_ERROR_NOMATCH)
        rc = err_set(err, ERR_FORMAT, "CLIP's pattern: PCRE2 error %d", found);
    pcre2_match_data_free(match);
    return rc;
}

static int push(Bpe *b, int32_t id, Err *err)
{
    int rc = reserve(b, 1, err);
    if (rc == 0)
        b->ids[b->n++] = id;
    return rc;
}

/* A segment between <|endoftext|>: normalised, cut at <|startoftext|>. */
static int encode_segment(const ClipTokenizer *t, Bpe *b, const char *text, int64_t n, Err *err)
{
    static const char mark[] = "<|startoftext|>";
    Str norm = {0};
    int rc = normalize(&norm, text, n, err);
    const char *at = norm.data, *end = norm.data ? norm.data + norm.len : NULL;
    while (rc == 0 && at < end) {
        const char *stop = memmem(at, (size_t)(end - at), mark, sizeof mark - 1);
        if ((rc = encode_words(t, b, at, (stop ? stop : end) - at, err)) == 0 && stop)
            rc = push(b, clip_tokenizer_bos(t), err);
        at = stop ? stop + sizeof mark - 1 : end;
    }
    str_fini(&norm);
    return rc;
}

int clip_tokenizer_encode(const ClipTokenizer *t, const char *text, int64_t size, int32_t **ids, int64_t *n, Err *err)
{
    static const char mark[] = "<|endoftext|>";
    Bpe b = {0};
    *ids = NULL;
    *n = 0;
    if (size > MAX_TEXT)
        return err_set(err, ERR_LIMIT, "a text of %" PRId64 " bytes, at most %d", size, MAX_TEXT);
    if (!str_is_utf8(text, size))
        return err_set(err, ERR_FORMAT, "text is not UTF-8");
    int rc = push(&b, clip_tokenizer_bos(t), err);
    const char *at = text, *end = text + size;
    while (rc == 0 && at < end) {
        const char *stop = memmem(at, (size_t)(end - at), mark, sizeof mark - 1);
        if ((rc = encode_segment(t, &b, at, (stop ? stop : end) - at, err)) == 0 && stop)
            rc = push(&b, clip_tokenizer_eos(t), err);
        at = stop ? stop + sizeof mark - 1 : end;
    }
    if (rc == 0)
        rc = push(&b, clip_tokenizer_eos(t), err);
    mem_free(b.symbol);
    mem_free(b.heap);
    if (rc < 0) {
        mem_free(b.ids);
        return rc;
    }
    *ids = b.ids;
    *n = b.n;
    return 0;
}

int clip_tokenizer_encode_padded(const ClipTokenizer *t, const char *text, int64_t size, int32_t *ids, int64_t length,
                                 int64_t *used, int64_t *cut, Err *err)
{
    int32_t *all = NULL;
    int64_t n = 0;
    if (length < 2)
        return err_set(err, ERR_USAGE, "a token length of %" PRId64 ", at least 2", length);
    int rc = clip_tokenizer_encode(t, text, size, &all, &n, err);
    if (rc < 0)
        return rc;
    *used = n < length ? n : length;
    *cut = n - *used;
    for (int64_t i = 0; i < length; i++)
        ids[i] = i < *used - 1 ? all[i] : clip_tokenizer_eos(t);
    mem_free(all);
    return 0;
}

/* Bytes of tokens that were cut inside a character become U+FFFD. */
static int append_utf8(Str *out, const Str *bytes, Err *err)
{
    int rc = str_append(out, "", err);
    utf8proc_ssize_t used;
    for (int64_t i = 0; rc == 0 && i < bytes->len; i += used) {
        utf8proc_int32_t code;
        used = utf8proc_iterate((const utf8proc_uint8_t *)bytes->data + i, bytes->len - i, &code);
        rc = used > 0 ? str_append_n(out, bytes->data + i, used, err) : str_append(out, "\xEF\xBF\xBD", err);
        used = used > 0 ? used : 1;
    }
    return rc;
}

/* Appends a token's bytes, and a blank behind the last of a word. */
static int append_token(Str *out, const ClipTokenizer *t, int32_t id, Err *err)
{
    if (id < 0 || id > clip_tokenizer_eos(t))
        return err_set(err, ERR_USAGE, "token id %d is outside 0..%d", id, clip_tokenizer_eos(t));
    if (id >= t->names.n)
        return str_append(out, id == clip_tokenizer_bos(t) ? "<|startoftext|> " : "<|endoftext|> ", err);
    const char *bytes = t->names.bytes.data + t->names.begin[id];
    int64_t size = t->names.begin[id + 1] - t->names.begin[id] - 1;
    int rc = str_append_n(out, bytes, size, err);
    return rc == 0 && bytes[size] ? str_append(out, " ", err) : rc;
}

char *clip_tokenizer_decode(const ClipTokenizer *t, const int32_t *ids, int64_t n, Err *err)
{
    Str bytes = {0}, text = {0};
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < n; i++)
        rc = append_token(&bytes, t, ids[i], err);
    if (bytes.len > 0 && bytes.data[bytes.len - 1] == ' ')
        bytes.len--;
    if (rc == 0)
        rc = append_utf8(&text, &bytes, err);
    str_fini(&bytes);
    if (rc < 0)
        str_fini(&text);
    return rc < 0 ? NULL : text.data;
}
