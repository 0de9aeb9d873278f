#include "cache/text_form.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/text_encoder.h"

int text_form_open(Tokenizer **out, TextForm *form, const Recipe *recipe, const char *model, Err *err)
{
    char *encoder = path_join(model, "text_encoder", err), *folder = path_join(model, "tokenizer", err);
    TextConfig c;
    *out = NULL;
    int rc = encoder && folder ? text_config_read(&c, encoder, err) : ERR_NOMEM;
    if (rc == 0)
        rc = text_kind_check(text_kind_wanted(recipe), c.kind, encoder, err);
    if (rc == 0)
        rc = tokenizer_open(out, folder, c.kind, err);
    if (rc == 0)
        rc = text_length(recipe, c.kind, &form->length, err);
    if (rc == 0)
        rc = text_config_check_length(&c, form->length, encoder, err);
    if (rc == 0) {
        form->kind = c.kind;
        form->first = tokenizer_first(*out);
        form->last = tokenizer_last(*out);
        form->pad = tokenizer_pad(*out);
    }
    mem_free(encoder);
    mem_free(folder);
    return rc;
}

int text_form_read(TextForm *out, const Recipe *recipe, const char *model, Err *err)
{
    Tokenizer *t = NULL;
    int rc = text_form_open(&t, out, recipe, model, err);
    tokenizer_close(&t);
    return rc;
}

int text_form_adopt(Recipe *recipe, const char *model, Err *err)
{
    static const char *const paths[] = {"model.text_length", NULL};
    TextForm form;
    int rc = text_form_read(&form, recipe, model, err);
    json_t *values = rc == 0 ? json_pack("{s:{s:I}}", "model", "text_length", (json_int_t)form.length) : NULL;
    if (rc == 0)
        rc = values ? recipe_adopt(recipe, values, paths, model, err)
                    : err_set(err, ERR_NOMEM, "no memory for the recipe");
    json_decref(values);
    return rc;
}
