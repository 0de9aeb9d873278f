#include "cache/tokens.h"

#include <string.h>

#include "common/base/mem.h"

/* Whether the model's tokeniser gives the ids of tokens.jsonl: the same T5 tokeniser can be stored
 * in two forms (spiece.model, tokenizer.json), which have two digests. */
static int gives_same_ids(Prepared *p, const Encoding *e, int *same, Err *err)
{
    int32_t *ids = mem_calloc(p->form.length, sizeof *ids, err);
    int64_t used, cut;
    int rc = ids ? 0 : ERR_NOMEM;
    *same = 1;
    for (int64_t i = 0; i < p->n_text && rc == 0 && *same; i++) {
        PreparedText one;
        rc = prepared_text(p, i, &one, err);
        if (rc == 0)
            rc = tokenizer_encode_padded(e->tokenizer, one.text, ids, p->form.length, &used, &cut, err);
        *same = rc == 0 && used == one.n && memcmp(ids, one.ids, (size_t)used * sizeof *ids) == 0;
        prepared_text_fini(&one);
    }
    mem_free(ids);
    return rc;
}

/* The first text with an id that the encoder does not know is named. */
static int check_vocab(Prepared *p, int64_t vocab, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < p->n_text && p->largest_id >= vocab; i++) {
        PreparedText one;
        rc = prepared_text(p, i, &one, err);
        for (int64_t k = 0; rc == 0 && k < one.n; k++)
            if (one.ids[k] >= vocab)
                rc = err_set(err, ERR_FORMAT, "tokens.jsonl: id %d of \"%.60s\", the text encoder knows %" PRId64,
                             one.ids[k], one.text, vocab);
        prepared_text_fini(&one);
    }
    return rc;
}

int tokens_check(Prepared *p, const Encoding *e, const char *model, Err *err)
{
    int same = !p->tokenizer_sha256[0] || strcmp(p->tokenizer_sha256, e->tokenizer_sha256) == 0;
    int rc = same ? 0 : gives_same_ids(p, e, &same, err);
    if (rc < 0)
        return rc;
    if (!same)
        return err_set(err, ERR_USAGE,
                       "tokens.jsonl was made with another tokeniser (%.12s) than '%s' has (%.12s): run weft-prep "
                       "tokenize with the model's tokeniser",
                       p->tokenizer_sha256, model, e->tokenizer_sha256);
    return check_vocab(p, text_config_vocab(&e->text), err);
}
