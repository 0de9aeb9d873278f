#include "prep/tokenize.h"

#include <errno.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/keyset.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/clip_tokenizer.h"
#include "common/text/tokenizer.h"
#include "prep/line.h"
#include "prep/set/dataset.h"
#include "prep/set/report.h"

enum { BINS = 16, BIN_TOKENS = 16 }; /* the last bin holds the rest */

typedef struct Tokenizing {
    Tokenizer *tokenizer;
    ClipTokenizer *clip; /* or NULL */
    int64_t clip_cuts, bins[2][BINS];
    int64_t length;
    KeySet written; /* captions that have a line */
    AtomicFile *file;
    Report *report;
    const Log *log;
    int64_t longest, cuts, captions;
} Tokenizing;

/* The ids that stay: the first length - 1 of the text, then the end mark. */
static int cut_ids(Tokenizing *t, const char *text, int32_t *ids, int64_t n, const char *id, int64_t *kept,
                   char **cut_text, Err *err)
{
    *kept = n;
    *cut_text = NULL;
    if (n <= t->length)
        return (*cut_text = mem_strdup("", err)) ? 0 : ERR_NOMEM;
    *kept = t->length;
    int rc = tokenizer_cut_text(t->tokenizer, text, t->length, cut_text, err);
    if (rc < 0)
        return rc;
    ids[t->length - 1] = ids[n - 1];
    t->cuts++;
    log_warn(t->log, "clip '%s': its caption has %" PRId64 " tokens, %" PRId64 " fit; cut off: '%s'", id, n, t->length,
             *cut_text);
    return 0;
}

static int token_line(const Tokenizing *t, const char *text, const Digest *sha, const int32_t *ids, int64_t n,
                      int64_t cut, const char *cut_text, json_t **out, Err *err)
{
    char hex[65];
    JsonWriter w;
    digest_hex(sha, hex);
    jsonw_begin(&w);
    jsonw_str(&w, "text", text);
    jsonw_str(&w, "text_sha256", hex);
    jsonw_open_array(&w, "ids");
    for (int64_t i = 0; i < n; i++)
        jsonw_int(&w, NULL, ids[i]);
    jsonw_close(&w);
    jsonw_int(&w, "n", n);
    jsonw_int(&w, "length", t->length);
    jsonw_int(&w, "cut", cut);
    jsonw_str(&w, "cut_text", cut_text);
    jsonw_str(&w, "text_encoder", text_kind_key(tokenizer_kind(t->tokenizer)));
    jsonw_str(&w, "tokenizer_sha256", tokenizer_digest(t->tokenizer));
    return jsonw_finish(&w, out, "the tokens of a caption", err);
}

static void count_length(int64_t bins[BINS], int64_t n)
{
    int64_t bin = n / BIN_TOKENS;
    bins[bin < BINS ? bin : BINS - 1]++;
}

static int count_clip(Tokenizing *t, const char *text, const char *id, Err *err)
{
    int32_t *ids = NULL;
    int64_t n;
    int rc = t->clip ? clip_tokenizer_encode(t->clip, text, (int64_t)strlen(text), &ids, &n, err) : 1;
    mem_free(ids);
    if (rc)
        return rc < 0 ? rc : 0;
    count_length(t->bins[1], n);
    if (n > CLIP_LENGTH) {
        t->clip_cuts++;
        log_warn(t->log,
                 "clip '%s': its caption has %" PRId64 " tokens of CLIP, %d fit: evaluation will not see its end", id,
                 n, CLIP_LENGTH);
    }
    return 0;
}

static void print_lengths(const char *what, const int64_t bins[BINS], FILE *out)
{
    fprintf(out, "tokens of %s:", what);
    for (int i = 0; i < BINS; i++)
        if (bins[i] && i < BINS - 1)
            fprintf(out, " %d-%d: %" PRId64, i * BIN_TOKENS, (i + 1) * BIN_TOKENS - 1, bins[i]);
        else if (bins[i])
            fprintf(out, " %d and more: %" PRId64, i * BIN_TOKENS, bins[i]);
    fprintf(out, "\n");
}

static int one_caption(Tokenizing *t, const char *text, const char *id, Err *err)
{
    Digest sha;
    int rc = sha256_bytes(text, (int64_t)strlen(text), &sha, err);
    if (rc < 0 || keyset_find(&t->written, &sha) >= 0 || (rc = keyset_add(&t->written, &sha, err)) < 0)
        return rc;
    int32_t *ids = NULL;
    int64_t n, kept;
    char *cut_text = NULL;
    json_t *line = NULL;
    rc = tokenizer_encode(t->tokenizer, text, &ids, &n, err);
    if (rc == 0 && (rc = cut_ids(t, text, ids, n, id, &kept, &cut_text, err)) == 0) {
        rc = token_line(t, text, &sha, ids, kept, n - kept, cut_text, &line, err);
        if (rc == 0)
            rc = json_write_line(line, atomic_stream(t->file), err);
        t->captions++;
        t->longest = n > t->longest ? n : t->longest;
        count_length(t->bins[0], n);
        if (rc == 0)
            rc = report_add_tokens(t->report, n, err);
        if (rc == 0)
            rc = count_clip(t, text, id, err);
    }
    json_decref(line);
    mem_free(cut_text);
    mem_free(ids);
    return rc;
}

/* Of report_members. */
static int one_record(void *user, const json_t *record, const char *where, Err *err)
{
    Tokenizing *t = user;
    ManifestLine line;
    const json_t *caption;
    size_t i;
    (void)where;
    line_read(&line, record);
    int rc = report_add_line(t->report, &line, err);
    json_array_foreach (line.rejected ? NULL : line.captions, i, caption)
        if (rc == 0)
            rc = one_caption(t, json_string_value(caption), line.id, err);
    return rc;
}

/* What a given recipe leaves open of the text stays as the dataset has it. */
static int keep_text(Recipe *recipe, const json_t *stored, const char *dir, Err *err)
{
    static const char *const paths[] = {"model.text_encoder", "model.text_length"};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        if (!recipe_given(recipe, paths[i]))
            rc = recipe_adopt(recipe, stored, (const char *const[]){paths[i], NULL}, dir, err);
    return rc;
}

/* The tokeniser that the recipe asks for, and its length. */
static int open_tokenizer(Tokenizing *t, const char *path, const Recipe *recipe, Err *err)
{
    int rc = tokenizer_open(&t->tokenizer, path, text_kind_wanted(recipe), err);
    return rc < 0 ? rc : text_length(recipe, tokenizer_kind(t->tokenizer), &t->length, err);
}

int prep_tokenize(const char *dir, const char *tokenizer, const char *clip_tokenizer, Recipe *recipe, const Log *log,
                  FILE *results, Err *err)
{
    Tokenizing t = {.log = log};
    json_t *dataset = NULL;
    Recipe *own = NULL;
    DirLock lock = {-1};
    char *path = path_join(dir, "tokens.jsonl", err);
    int rc = path ? dataset_read(dir, &dataset, err) : ERR_NOMEM;
    if (rc == 0)
        rc = recipe ? keep_text(recipe, json_object_get(dataset, "recipe"), dir, err)
                    : recipe_from_json(&own, json_object_get(dataset, "recipe"), err);
    if (rc < 0 || (rc = dir_lock(&lock, dir, err)) < 0 || (rc = dir_sweep_temporaries(dir, err)) < 0 ||
        (rc = open_tokenizer(&t, tokenizer, recipe ? recipe : own, err)) < 0 ||
        (clip_tokenizer && (rc = clip_tokenizer_open(&t.clip, clip_tokenizer, err)) < 0) ||
        (rc = atomic_open(&t.file, path, err)) < 0 || (rc = report_begin(&t.report, dataset, err)) < 0)
        goto out;
    if ((rc = dataset_each_line(dir, dataset, report_members, one_record, &t, err)) == 0 &&
        (rc = atomic_commit(&t.file, err)) == 0 && (rc = report_end(t.report, dir, err)) == 0) {
        fprintf(results,
                "%" PRId64 " distinct caption%s, the longest has %" PRId64 " of %" PRId64 " tokens, %" PRId64 " cut\n",
                t.captions, str_plural(t.captions), t.longest, t.length, t.cuts);
        print_lengths(text_kind_name(tokenizer_kind(t.tokenizer)), t.bins[0], results);
        if (t.clip) {
            print_lengths("CLIP", t.bins[1], results);
            fprintf(results, "captions with more than CLIP's %d tokens: %" PRId64 "\n", CLIP_LENGTH, t.clip_cuts);
        }
    }
out:
    report_close(&t.report);
    atomic_abort(&t.file);
    tokenizer_close(&t.tokenizer);
    clip_tokenizer_close(&t.clip);
    dir_unlock(&lock);
    recipe_close(&own);
    json_decref(dataset);
    keyset_fini(&t.written);
    mem_free(path);
    return rc;
}
