#include "cache/prompts.h"
#include <string.h>
#include "common/base/jsonw.h"
#include "common/base/mem.h"

/* Number i of the prompts, the negative one last; NULL behind it. */
static const char *prompt_at(const Recipe *r, size_t i)
{
    const json_t *list = recipe_get(r, "validation.prompts");
    size_t n = json_array_size(list);
    if (n == 0 || i > n)
        return NULL;
    return i < n ? json_string_value(json_array_get(list, i)) : recipe_str(r, "sampling.negative_prompt");
}

/* Its place in p->text, or -1. */
static int64_t find(const Prepared *p, const char *text)
{
    for (int64_t i = 0; i < p->n_text; i++)
        if (strcmp(p->text[i].text, text) == 0)
            return i;
    return -1;
}

/* As for a caption of tokens.jsonl. */
static int add(Prepared *p, const Tokenizer *t, const char *text, Err *err)
{
    PreparedText *grown = mem_realloc(p->text, p->n_text + 1, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    p->text = grown;
    PreparedText *out = &grown[p->n_text++];
    memset(out, 0, sizeof *out);
    if (!(out->text = mem_strdup(text, err)) || !(out->ids = mem_calloc(p->form.length, sizeof *out->ids, err)))
        return ERR_NOMEM;
    int rc = tokenizer_encode_padded(t, text, out->ids, p->form.length, &out->n, &out->cut, err);
    return rc < 0 ? rc : tokenizer_cut_text(t, text, p->form.length, &out->cut_text, err);
}

int prompts_add(Prepared *p, const Recipe *recipe, const Tokenizer *t, Err *err)
{
    const char *text;
    int rc = 0;
    for (size_t i = 0; rc == 0 && (text = prompt_at(recipe, i)) != NULL; i++)
        if (find(p, text) < 0)
            rc = add(p, t, text, err);
    return rc;
}

int prompts_meta(const Prepared *p, const Recipe *recipe, const Digest *text, const Digest *tokens, json_t **out,
                 Err *err)
{
    const char *prompt;
    JsonWriter w;
    jsonw_begin(&w);
    for (size_t i = 0; (prompt = prompt_at(recipe, i)) != NULL; i++) {
        int64_t at = find(p, prompt); /* prompts_add saw to it */
        jsonw_open(&w, prompt);
        jsonw_hex(&w, "text", &text[at]);
        jsonw_hex(&w, "tokens", &tokens[at]);
        jsonw_close(&w);
    }
    return jsonw_finish(&w, out, "the meta entry 'prompts'", err);
}
