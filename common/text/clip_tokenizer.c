/* CLIP's byte-level BPE (MODEL.md 5.4).  Symbols are ids throughout: 0..255 single
 * bytes in the vocabulary's own order, 256..511 the same at a word's end, 512 + k the result of
 * merge k.  The rank of a merge is its id. */
#include "common/text/clip_tokenizer.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { N_BYTES = 256, N_BASE = 512, MAX_MERGES = 48894 };
enum { MAX_FILE = 16 << 20, MAX_TEXT = 1 << 20, MAX_TOKEN = 1024 };
enum { PAIR_SLOTS = 1 << 17, NAME_SLOTS = 1 << 17 }; /* powers of two, at least twice what they hold */

typedef struct Pair {
    int32_t left, right, id;
} Pair; /* id 0: free slot */

struct ClipTokenizer {
    Pair *pair; /* [PAIR_SLOTS], open addressing */
    int32_t byte_id[N_BYTES];
    pcre2_code *pattern;
};

/* ---- the merge table ------------------------------------------------------------------------- */

static Pair *pair_slot(const ClipTokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 47);
    while (t->pair[i].id && (t->pair[i].left != left || t->pair[i].right != right))
        i = (i + 1) % PAIR_SLOTS;
    return &t->pair[i];
}

/* Token spellings while merges.txt is read: raw bytes, then one byte that says whether the word
 * ends there. */
typedef struct Names {
    Str bytes;
    int64_t *begin; /* [N_BASE + MAX_MERGES + 1]: token id's spelling is bytes[begin[id] .. begin[id+1]) */
    int32_t *slot;  /* [NAME_SLOTS], id + 1; 0: free */
    int32_t n;
} Names;

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
    if (rank < 188)
        return rank + 68;
    if (rank < 221)
        return rank - 188;
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
        return byte_from_rank(188 + code - 0x100);
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
static int add_merge(ClipTokenizer *t, Names *names, const char *line, int64_t n, Err *err)
{
    char left[MAX_TOKEN + 1], right[MAX_TOKEN + 1], both[2 * MAX_TOKEN + 1];
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
        *pair_slot(t, a, b) = (Pair){a, b, id};
    return rc;
}

static int read_merges(ClipTokenizer *t, const char *text, int64_t size, Err *err)
{
    Names names = {0};
    int rc = 0;
    names.begin = mem_calloc(N_BASE + MAX_MERGES + 1, sizeof *names.begin, err);
    names.slot = mem_calloc(NAME_SLOTS, sizeof *names.slot, err);
    if (!names.begin || !names.slot)
        rc = ERR_NOMEM;
    for (int i = 0; rc == 0 && i < N_BASE; i++) {
        int byte = byte_from_rank(i % N_BYTES);
        char spelling[2] = {(char)byte, i >= N_BYTES};
        rc = names_add(&names, spelling, 2, err);
        if (i < N_BYTES)
            t->byte_id[byte] = i;
    }
    const char *at = text, *end = text + size;
    /* OpenAI's own list goes on: cut there */
    for (int64_t line = 1; rc == 0 && at < end && names.n < N_BASE + MAX_MERGES; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int64_t n = (stop ? stop : end) - at;
        if (n > 0 && at[n - 1] == '\r')
            n--;
        int version = line == 1 && n >= 9 && memcmp(at, "#version:", 9) == 0;
        if (n > 0 && !version && (rc = add_merge(t, &names, at, n, err)) < 0)
            err_wrap(err, rc, "line %" PRId64, line);
        at = stop ? stop + 1 : end;
    }
    if (rc == 0 && names.n == N_BASE)
        rc = err_set(err, ERR_FORMAT, "the file has no merges");
    str_fini(&names.bytes);
    mem_free(names.begin);
    mem_free(names.slot);
    return rc;
}

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

int clip_tokenizer_open_bytes(ClipTokenizer **out, const char *text, int64_t size, Err *err)
{
    *out = NULL;
    ClipTokenizer *t = mem_calloc(1, sizeof *t, err);
    int rc = t && (t->pair = mem_calloc(PAIR_SLOTS, sizeof *t->pair, err)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = read_merges(t, text, size, err);
    if (rc == 0)
        rc = compile_pattern(t, err);
    if (rc < 0)
        clip_tokenizer_close(&t);
    *out = t;
    return rc;
}

int clip_tokenizer_open(ClipTokenizer **out, const char *path, Err *err)
{
    *out = NULL;
    char *file = file_is_dir(path) ? path_join(path, "merges.txt", err) : mem_strdup(path, err), *text = NULL;
    if (!file)
        return ERR_NOMEM;
    int64_t size = 0;
    int rc = file_read(file, MAX_FILE, &text, &size, err);
    if (rc == 0 && (rc = clip_tokenizer_open_bytes(out, text, size, err)) < 0)
        err_wrap(err, rc, "'%s'", file);
    mem_free(text);
    mem_free(file);
    return rc;
}

void clip_tokenizer_close(ClipTokenizer **p)
{
    if (!*p)
        return;
    pcre2_code_free((*p)->pattern);
    mem_free((*p)->pair);
    mem_free(*p);
    *p = NULL;
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
    int32_t left = b->symbol[at].id, right = b->symbol[next].id, id = pair_slot(t, left, right)->id;
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
            rc = push(b, CLIP_BOS, err);
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
    int rc = push(&b, CLIP_BOS, err);
    const char *at = text, *end = text + size;
    while (rc == 0 && at < end) {
        const char *stop = memmem(at, (size_t)(end - at), mark, sizeof mark - 1);
        if ((rc = encode_segment(t, &b, at, (stop ? stop : end) - at, err)) == 0 && stop)
            rc = push(&b, CLIP_EOS, err);
        at = stop ? stop + sizeof mark - 1 : end;
    }
    if (rc == 0)
        rc = push(&b, CLIP_EOS, err);
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

int clip_tokenizer_encode_padded(const ClipTokenizer *t, const char *text, int64_t size, int32_t ids[CLIP_LENGTH],
                                 int64_t *used, int64_t *cut, Err *err)
{
    int32_t *all = NULL;
    int64_t n = 0;
    int rc = clip_tokenizer_encode(t, text, size, &all, &n, err);
    if (rc < 0)
        return rc;
    *used = n < CLIP_LENGTH ? n : CLIP_LENGTH;
    *cut = n - *used;
    for (int64_t i = 0; i < CLIP_LENGTH; i++)
        ids[i] = i < *used - 1 ? all[i] : CLIP_EOS;
    mem_free(all);
    return 0;
}
