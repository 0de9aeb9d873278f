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

/* As for a caption of tokens.jsonl. */
static int add(Prepared *p, const Tokenizer *t, const char *text, Err *err)
{
    PreparedText one = {.text = mem_strdup(text, err), .ids = mem_calloc(p->form.length, sizeof *one.ids, err)};
    int rc = one.text && one.ids ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = tokenizer_encode_padded(t, text, one.ids, p->form.length, &one.n, &one.cut, err);
    if (rc == 0)
        rc = tokenizer_cut_text(t, text, p->form.length, &one.cut_text, err);
    if (rc == 0)
        rc = prepared_add_text(p, &one, err);
    prepared_text_fini(&one);
    return rc;
}

int prompts_add(Prepared *p, const Recipe *recipe, const Tokenizer *t, Err *err)
{
    const char *text;
    int rc = 0;
    int64_t known;
    for (size_t i = 0; rc == 0 && (text = prompt_at(recipe, i)) != NULL; i++)
        if ((rc = prepared_find_text(p, text, &known, err)) == 0 && known < 0)
            rc = add(p, t, text, err);
    return rc;
}

int prompts_meta(const Prepared *p, const Recipe *recipe, const Digest *text, const Digest *tokens, json_t **out,
                 Err *err)
{
    const char *prompt;
    int64_t at;
    int rc = 0;
    JsonWriter w;
    jsonw_begin(&w);
    for (size_t i = 0; (prompt = prompt_at(recipe, i)) != NULL; i++) {
        if ((rc = prepared_find_text(p, prompt, &at, err)) < 0) /* prompts_add saw to it that it is there */
            break;
        jsonw_open(&w, prompt);
        jsonw_hex(&w, "text", &text[at]);
        jsonw_hex(&w, "tokens", &tokens[at]);
        jsonw_close(&w);
    }
    int written = jsonw_finish(&w, out, "the meta entry 'prompts'", err);
    if (rc == 0)
        return written;
    json_decref(*out);
    *out = NULL;
    return rc;
}
