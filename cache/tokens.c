#include "cache/tokens.h"

#include <string.h>

#include "common/base/mem.h"

/* Whether the model's tokeniser gives the ids of tokens.jsonl: the same T5 tokeniser can be stored
 * in two forms (spiece.model, tokenizer.json), which have two digests. */
static int gives_same_ids(const Prepared *p, const Encoding *e, int *same, Err *err)
{
    int32_t *ids = mem_calloc(p->form.length, sizeof *ids, err);
    int64_t used, cut;
    int rc = ids ? 0 : ERR_NOMEM;
    *same = 1;
    for (int64_t i = 0; i < p->n_text && rc == 0 && *same; i++) {
        const PreparedText *one = &p->text[i];
        rc = tokenizer_encode_padded(e->tokenizer, one->text, ids, p->form.length, &used, &cut, err);
        *same = rc == 0 && used == one->n && memcmp(ids, one->ids, (size_t)used * sizeof *ids) == 0;
    }
    mem_free(ids);
    return rc;
}

int tokens_check(const Prepared *p, const Encoding *e, const char *model, Err *err)
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
    int64_t vocab = text_config_vocab(&e->text);
    for (int64_t i = 0; i < p->n_text; i++)
        for (int64_t k = 0; k < p->text[i].n; k++)
            if (p->text[i].ids[k] >= vocab)
                return err_set(err, ERR_FORMAT, "tokens.jsonl: id %d of \"%.60s\", the text encoder knows %" PRId64,
                               p->text[i].ids[k], p->text[i].text, vocab);
    return 0;
}
