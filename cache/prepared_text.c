#include <string.h>
#include "cache/prepared_internal.h"
#include "common/base/mem.h"

int prepared_find_text(const Prepared *p, const char *text, int64_t *k, Err *err)
{
    Digest key;
    return files_find(&p->files->text, text, k, &key, err);
}

int files_add_text(Prepared *p, const char *text, Err *err)
{
    Digest key;
    int64_t known;
    int rc = files_find(&p->files->text, text, &known, &key, err);
    if (rc == 0 && known < 0)
        rc = keyset_add(&p->files->text, &key, err);
    p->n_text = p->files->text.n;
    return rc;
}

void prepared_text_fini(PreparedText *t)
{
    mem_free(t->text);
    mem_free(t->ids);
    mem_free(t->cut_text);
    *t = (PreparedText){0};
}

static int copy_text(const PreparedText *t, PreparedText *out, Err *err)
{
    *out = (PreparedText){.text = mem_strdup(t->text, err),
                          .ids = mem_calloc(t->n, sizeof *out->ids, err),
                          .n = t->n,
                          .cut = t->cut,
                          .cut_text = t->cut_text ? mem_strdup(t->cut_text, err) : NULL};
    if (!out->text || !out->ids || (t->cut_text && !out->cut_text)) {
        prepared_text_fini(out);
        return ERR_NOMEM;
    }
    memcpy(out->ids, t->ids, (size_t)t->n * sizeof *out->ids);
    return 0;
}

void prepared_empty(PreparedText *t, const TextForm *form)
{
    t->n = 0;
    if (form->first >= 0)
        t->ids[t->n++] = form->first;
    t->ids[t->n++] = form->last;
    prepared_pad(t, form, t->ids);
}

void prepared_pad(const PreparedText *t, const TextForm *form, int32_t *out)
{
    if (out != t->ids)
        memcpy(out, t->ids, (size_t)t->n * sizeof *out);
    for (int64_t i = t->n; i < form->length; i++)
        out[i] = form->pad;
}

static int make_empty(PreparedText *t, const TextForm *form, Err *err)
{
    t->text = mem_strdup("", err);
    t->ids = mem_calloc(form->length, sizeof *t->ids, err);
    if (!t->text || !t->ids)
        return ERR_NOMEM;
    prepared_empty(t, form);
    return 0;
}

static int fill_text(const json_t *line, PreparedText *t, Err *err)
{
    const json_t *ids = json_object_get(line, "ids");
    t->n = (int64_t)json_array_size(ids);
    t->cut = json_integer_value(json_object_get(line, "cut"));
    t->text = mem_strdup(json_string_value(json_object_get(line, "text")), err);
    t->cut_text = mem_strdup(json_string_value(json_object_get(line, "cut_text")), err);
    t->ids = mem_calloc(t->n, sizeof *t->ids, err);
    if (!t->text || !t->cut_text || !t->ids)
        return ERR_NOMEM;
    for (int64_t i = 0; i < t->n; i++)
        t->ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    return 0;
}

int prepared_text(Prepared *p, int64_t k, PreparedText *out, Err *err)
{
    const struct PreparedFiles *f = p->files;
    json_t *line = NULL;
    *out = (PreparedText){0};
    if (k >= f->captions)
        return copy_text(&f->added[k - f->captions], out, err);
    int rc;
    if (f->ids[k].size == 0)
        rc = make_empty(out, &p->form, err);
    else if ((rc = schema_file_line(f->tokens, &f->ids[k], &line, err)) == 0)
        rc = fill_text(line, out, err);
    json_decref(line);
    if (rc < 0)
        prepared_text_fini(out);
    return rc;
}

static void note_id(Prepared *p, int64_t id)
{
    p->largest_id = id > p->largest_id ? (int32_t)id : p->largest_id;
}

int prepared_add_text(Prepared *p, const PreparedText *t, Err *err)
{
    struct PreparedFiles *f = p->files;
    int64_t n = p->n_text - f->captions;
    PreparedText *grown = mem_realloc(f->added, n + 1, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    f->added = grown;
    int rc = copy_text(t, &grown[n], err);
    if (rc == 0 && (rc = files_add_text(p, t->text, err)) < 0)
        prepared_text_fini(&grown[n]);
    return rc;
}

/* Refuses two tokenisers in one dataset, another length than the recipe's, and ids that do not end
 * in </s>.  Captions that no clip of this shard uses are skipped. */
static int judge_tokens(Prepared *p, const json_t *line, Err *err)
{
    const char *tokenizer = json_string_value(json_object_get(line, "tokenizer_sha256"));
    const char *encoder = json_string_value(json_object_get(line, "text_encoder"));
    const json_t *ids = json_object_get(line, "ids");
    int64_t length = json_integer_value(json_object_get(line, "length")), n = (int64_t)json_array_size(ids), k;
    if (!encoder) /* written before there was a choice */
        encoder = text_kind_key(TEXT_T5);
    if (strcmp(encoder, text_kind_key(p->form.kind)) != 0)
        return err_set(err, ERR_USAGE,
                       "ids are of %s, but the model's text encoder is %s: run weft-prep tokenize with the model's "
                       "tokeniser",
                       text_kind_name(text_kind_parse(encoder)), text_kind_name(p->form.kind));
    if (length != p->form.length)
        return err_set(err, ERR_USAGE,
                       "ids are padded to %" PRId64 ", but model.text_length is %" PRId64 ": set it to %" PRId64
                       ", or run weft-prep tokenize with this recipe",
                       length, p->form.length, length);
    if (p->tokenizer_sha256[0] && strcmp(p->tokenizer_sha256, tokenizer) != 0)
        return err_set(
            err, ERR_FORMAT,
            "this line was made with another tokeniser than the lines before it; run weft-prep tokenize again");
    memcpy(p->tokenizer_sha256, tokenizer, 65);
    if (n > length || json_integer_value(json_array_get(ids, (size_t)n - 1)) != p->form.last)
        return err_set(err, ERR_FORMAT, "expected at most %" PRId64 " ids with the end mark (%d) last", length,
                       p->form.last);
    int rc = prepared_find_text(p, json_string_value(json_object_get(line, "text")), &k, err);
    if (rc < 0 || k < 0)
        return rc;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = json_integer_value(json_array_get(ids, (size_t)i));
        if (id > INT32_MAX)
            return err_set(err, ERR_FORMAT, "the id %" PRId64 " is too large", id);
        note_id(p, id);
    }
    p->files->ids[k] = schema_file_place(p->files->tokens);
    return 0;
}

static int tokens_line(void *user, const json_t *line, const char *where, Err *err)
{
    int rc = judge_tokens(user, line, err);
    return rc < 0 ? err_wrap(err, rc, "%s", where) : 0;
}

/* The first clip with this text says so. */
static int lacks_tokens(Prepared *p, int64_t text, Err *err)
{
    PreparedClip c = {0};
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < p->n; i++) {
        rc = prepared_clip(p, i, &c, err);
        for (int64_t k = 0; rc == 0 && k < c.n_text; k++)
            if (c.text[k] == text)
                rc = err_set(err, ERR_FORMAT,
                             "clip '%s': its caption \"%.80s\" is not in tokens.jsonl: run weft-prep tokenize", c.id,
                             prepared_caption(&c, k));
        prepared_clip_fini(&c);
    }
    return rc;
}

int files_read_tokens(Prepared *p, Err *err)
{
    struct PreparedFiles *f = p->files;
    if (!(f->ids = mem_calloc(f->captions, sizeof *f->ids, err)))
        return ERR_NOMEM;
    note_id(p, p->form.first);
    note_id(p, p->form.last);
    int rc = schema_file_open(&f->tokens, f->tokens_path, "tokens", NULL, err);
    if (rc == 0)
        rc = schema_file_each(f->tokens, tokens_line, p, err);
    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "run weft-prep tokenize first");
    for (int64_t k = 1; rc == 0 && k < f->captions; k++)
        if (f->ids[k].size == 0)
            rc = lacks_tokens(p, k, err);
    return rc;
}
