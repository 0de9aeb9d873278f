/* What the recipe does to captions, on any text.  The first byte chooses the rules; then, each up
 * to a NUL byte, the trigger and the captions. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/recipe.h"
#include "common/base/str.h"
#include "prep/layout/captions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
    if (!holds)
        abort();
}

/* One line of text without blanks around it. */
static void check_clean(const char *text)
{
    size_t n = strlen(text);
    must(str_is_utf8(text, (int64_t)n) && !strpbrk(text, "\n\r\t") && !strstr(text, "  "));
    must(n == 0 || (text[0] != ' ' && text[n - 1] != ' '));
}

static void rules(const char *text, const CaptionRules *r)
{
    Err err = {0};
    char *clean = caption_clean(text, (int64_t)strlen(text), &err), *out = clean ? caption_rules(clean, r, &err) : NULL;
    must(clean && out);
    if (str_is_utf8(text, (int64_t)strlen(text)) && !r->trigger) {
        check_clean(out);
        must(strlen(out) <= strlen(clean));
    }
    mem_free(out);
    mem_free(clean);
}

static void label(const char *text)
{
    Err err = {0};
    char *once = label_counted(text, &err), *twice = once ? label_counted(once, &err) : NULL;
    must(once && twice && strcmp(once, twice) == 0);
    mem_free(once);
    mem_free(twice);
}

/* Guesses are marked, and what is there is never guessed anew. */
static void guesses(Source *s)
{
    Err err = {0};
    must(captions_guess(s, &err) == 0);
    char *category = s->category;
    json_t *before = json_deep_copy(s->attributes);
    must(!category || json_object_get(s->attributes, "category_source"));
    must(captions_guess(s, &err) == 0 && s->category == category);
    must(before ? json_equal(before, s->attributes) : !s->attributes);
    json_decref(before);
}

static const Recipe *everything(void)
{
    static Recipe *recipe; /* lives as long as the process */
    static const char *set[] = {"captions.strip_wrappers=true", "captions.strip_preambles=true",
                                "captions.guess_attributes=true", "captions.trigger=sks"};
    CommonOptions common = {.preset = "demo", .set = {set, 4}, .seed = -1};
    if (!recipe)
        must(recipe_open(&recipe, &common, NULL) == 0);
    return recipe;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Err err = {0};
    SourceList l = {0};
    Source *s;
    if (size == 0)
        return 0;
    char *more = mem_calloc((int64_t)size + 1, 1, &err);
    must(more && source_list_add(&l, &s, &err) == 0 && (s->id = mem_strdup("id", &err)));
    memcpy(more, data + 1, size - 1);
    CaptionRules r = {data[0] & 1, data[0] >> 1 & 1, data[0] & 4 ? more : NULL};
    for (size_t at = strlen(more) + 1; at < size; at += strlen(more + at) + 1) {
        rules(more + at, &r);
        label(more + at);
        must(source_add_caption(s, more + at, (int64_t)strlen(more + at), &err) == 0);
    }
    split_by_hash(more, 0.1, 0.1);
    guesses(s);
    must(captions_apply(&l, everything(), &err) == 0);
    for (int64_t i = 0; i < s->n_captions; i++) {
        check_clean(s->captions[i]);
        must(strncmp(s->captions[i], "sks ", 4) == 0);
    }
    source_list_fini(&l);
    mem_free(more);
    return 0;
}
