#include "common/text/tokenizer.h"
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/clip_tokenizer.h"
#include "common/text/t5_tokenizer.h"

struct Tokenizer {
    TextKind kind;
    T5Tokenizer *t5;
    ClipTokenizer *clip;
};

/* ---- which one ------------------------------------------------------------------------------- */

/* Of a tokenizer.json: T5's model is Unigram, CLIP's BPE.  TEXT_AUTO: neither. */
static int kind_of_json(const char *path, TextKind *kind, Err *err)
{
    json_t *root = NULL;
    int rc = json_read_file(&root, path, err);
    const char *type = json_string_value(json_object_get(json_object_get(root, "model"), "type"));
    *kind = type && strcmp(type, "Unigram") == 0 ? TEXT_T5 : type && strcmp(type, "BPE") == 0 ? TEXT_CLIP : TEXT_AUTO;
    if (rc == 0 && *kind == TEXT_AUTO)
        rc = err_set(err, ERR_UNSUPPORTED, "'%s': model type '%.60s', expected Unigram (T5) or BPE (CLIP)", path,
                     type ? type : "");
    json_decref(root);
    return rc;
}

static int kind_of_folder(const char *folder, TextKind want, TextKind *kind, Err *err)
{
    char *spiece = path_join(folder, "spiece.model", err), *merges = path_join(folder, "merges.txt", err),
         *json = path_join(folder, "tokenizer.json", err);
    int rc = spiece && merges && json ? 0 : ERR_NOMEM, t5 = rc == 0 && file_exists(spiece),
        clip = rc == 0 && file_exists(merges);
    if (t5 && clip && want == TEXT_AUTO)
        rc = err_set(err, ERR_USAGE,
                     "'%s' holds T5's spiece.model and CLIP's merges.txt: set model.text_encoder to t5 or clip",
                     folder);
    else if (t5 && clip)
        *kind = want;
    else if (t5 || clip)
        *kind = t5 ? TEXT_T5 : TEXT_CLIP;
    else if (rc == 0 && file_exists(json))
        rc = kind_of_json(json, kind, err);
    else if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' has none of spiece.model (T5), merges.txt with vocab.json (CLIP) and tokenizer.json",
                     folder);
    mem_free(spiece);
    mem_free(merges);
    mem_free(json);
    return rc;
}

static int find_kind(const char *path, TextKind want, TextKind *kind, Err *err)
{
    *kind = TEXT_T5;
    if (file_is_dir(path))
        return kind_of_folder(path, want, kind, err);
    if (str_ends_with(path, ".json"))
        return kind_of_json(path, kind, err);
    if (str_ends_with(path, ".txt"))
        *kind = TEXT_CLIP;
    return 0;
}

/* ---- CLIP's padding -------------------------------------------------------------------------- */

/* Refuses a pad_token of FOLDER/file that is not the end mark: padding is part of what CLIP's
 * encoder is given. */
static int check_pad(const char *folder, const char *file, int *found, Err *err)
{
    /* alone: transformers writes a model_max_length of 10^30 beside it, which is no integer to a JSON parser */
    static const char *const members[] = {"pad_token", NULL};
    char *path = path_join(folder, file, err);
    json_t *json = NULL;
    int rc = !path ? ERR_NOMEM : file_exists(path) ? json_read_members(&json, path, members, err) : 0;
    const json_t *pad = json_object_get(json, "pad_token");
    const char *token = json_string_value(json_is_object(pad) ? json_object_get(pad, "content") : pad);
    *found = token != NULL;
    if (token && strcmp(token, "<|endoftext|>") != 0)
        rc = err_set(err, ERR_UNSUPPORTED,
                     "'%s' pads with '%.60s' (as OpenCLIP's text encoders do), expected '<|endoftext|>'", path, token);
    json_decref(json);
    mem_free(path);
    return rc;
}

/* special_tokens_map.json counts before tokenizer_config.json, as in transformers. */
static int check_clip(const char *folder, Err *err)
{
    int found = 0, rc = file_is_dir(folder) ? check_pad(folder, "special_tokens_map.json", &found, err) : 0;
    if (rc == 0 && !found && file_is_dir(folder))
        rc = check_pad(folder, "tokenizer_config.json", &found, err);
    return rc;
}

/* ---- either ---------------------------------------------------------------------------------- */

int tokenizer_open(Tokenizer **out, const char *path, TextKind want, Err *err)
{
    *out = NULL;
    Tokenizer *t = mem_calloc(1, sizeof *t, err);
    int rc = t ? find_kind(path, want, &t->kind, err) : ERR_NOMEM;
    if (rc == 0 && want != TEXT_AUTO && t->kind != want)
        rc = err_set(err, ERR_USAGE, "'%s' holds the tokeniser of %s, but the text encoder is %s (%s)", path,
                     text_kind_name(t->kind), text_kind_name(want),
                     want == TEXT_T5 ? "spiece.model or tokenizer.json"
                                     : "merges.txt with vocab.json, or tokenizer.json");
    if (rc == 0 && t->kind == TEXT_T5)
        rc = t5_tokenizer_open(&t->t5, path, err);
    else if (rc == 0 && (rc = clip_tokenizer_open(&t->clip, path, err)) == 0)
        rc = check_clip(path, err);
    if (rc < 0)
        tokenizer_close(&t);
    *out = t;
    return rc;
}

void tokenizer_close(Tokenizer **p)
{
    if (!*p)
        return;
    t5_tokenizer_close(&(*p)->t5);
    clip_tokenizer_close(&(*p)->clip);
    mem_free(*p);
    *p = NULL;
}

TextKind tokenizer_kind(const Tokenizer *t)
{
    return t->kind;
}

int64_t tokenizer_vocab(const Tokenizer *t)
{
    return t->t5 ? t5_tokenizer_vocab(t->t5) : clip_tokenizer_eos(t->clip) + 1;
}

const char *tokenizer_digest(const Tokenizer *t)
{
    return t->t5 ? t5_tokenizer_digest(t->t5) : clip_tokenizer_digest(t->clip);
}

int32_t tokenizer_pad(const Tokenizer *t)
{
    return t->t5 ? 0 : clip_tokenizer_eos(t->clip);
}

int32_t tokenizer_first(const Tokenizer *t)
{
    return t->t5 ? -1 : clip_tokenizer_bos(t->clip);
}

int32_t tokenizer_last(const Tokenizer *t)
{
    return t->t5 ? 1 : clip_tokenizer_eos(t->clip);
}

int tokenizer_encode(const Tokenizer *t, const char *text, int32_t **ids, int64_t *n, Err *err)
{
    int64_t size = (int64_t)strlen(text);
    return t->t5 ? t5_tokenizer_encode(t->t5, text, size, ids, n, err)
                 : clip_tokenizer_encode(t->clip, text, size, ids, n, err);
}

int tokenizer_encode_padded(const Tokenizer *t, const char *text, int32_t *ids, int64_t length, int64_t *used,
                            int64_t *cut, Err *err)
{
    int64_t size = (int64_t)strlen(text);
    return t->t5 ? t5_tokenizer_encode_padded(t->t5, text, size, ids, length, used, cut, err)
                 : clip_tokenizer_encode_padded(t->clip, text, size, ids, length, used, cut, err);
}

int tokenizer_cut_text(const Tokenizer *t, const char *text, int64_t length, char **out, Err *err)
{
    int32_t *ids = NULL;
    int64_t n = 0, kept = length - 1; /* the last one is the end mark */
    *out = NULL;
    int rc = tokenizer_encode(t, text, &ids, &n, err);
    if (rc == 0) {
        int64_t lost = n > length ? n - 1 - kept : 0;
        const int32_t *first = ids + (lost ? kept : 0);
        *out = t->t5 ? t5_tokenizer_decode(t->t5, first, lost, err) : clip_tokenizer_decode(t->clip, first, lost, err);
        rc = *out ? 0 : ERR_NOMEM;
    }
    mem_free(ids);
    return rc;
}
