#include "common/base/text_kind.h"
#include <string.h>

static const struct {
    const char *key, *name;
} kinds[] = {[TEXT_AUTO] = {"auto", "any"}, [TEXT_T5] = {"t5", "T5"}, [TEXT_CLIP] = {"clip", "CLIP"}};

const char *text_kind_name(TextKind kind)
{
    return kinds[kind].name;
}

const char *text_kind_key(TextKind kind)
{
    return kinds[kind].key;
}

TextKind text_kind_parse(const char *key)
{
    for (int k = TEXT_T5; key && k <= TEXT_CLIP; k++)
        if (strcmp(key, kinds[k].key) == 0)
            return (TextKind)k;
    return TEXT_AUTO;
}

TextKind text_kind_wanted(const Recipe *recipe)
{
    return text_kind_parse(recipe_str(recipe, "model.text_encoder"));
}

int text_kind_check(TextKind wanted, TextKind found, const char *where, Err *err)
{
    if (wanted == TEXT_AUTO || found == TEXT_AUTO || wanted == found)
        return 0;
    return err_set(err, ERR_USAGE, "model.text_encoder is %s, but '%s' is of %s: give one of %s, or set %s",
                   text_kind_key(wanted), where, text_kind_name(found), text_kind_name(wanted), text_kind_key(found));
}

int text_length(const Recipe *recipe, TextKind kind, int64_t *length, Err *err)
{
    *length = recipe_int(recipe, "model.text_length");
    if (kind != TEXT_CLIP || *length <= TEXT_CLIP_LONGEST)
        return 0;
    if (recipe_given(recipe, "model.text_length"))
        return err_set(err, ERR_USAGE, "model.text_length is %" PRId64 ", but CLIP reads at most %d tokens", *length,
                       TEXT_CLIP_LONGEST);
    *length = TEXT_CLIP_LONGEST;
    return 0;
}
