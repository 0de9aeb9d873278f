#include "prep/layout/captions.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/base/mem.h"

/* ---- clean-up -------------------------------------------------------------------------------- */
/* The text without what surrounds it; *n shrinks. */
static const char *unwrap(const char *text, size_t *n)
{
    if (*n >= 3 && (text[0] == 'b' || text[0] == 'B') && (text[1] == '\'' || text[1] == '"') &&
        text[*n - 1] == text[1]) {
        *n -= 3;
        return text + 2;
    }
    if (*n >= 2 && (text[0] == '\'' || text[0] == '"') && text[*n - 1] == text[0] &&
        !memchr(text + 1, text[0], *n - 2)) {
        *n -= 2;
        return text + 1;
    }
    return text;
}

/* Openings of machine-made captions; the longest that fits goes. */
static const char *const openings[] = {"in this video,",       "in this video",         "in the video,",
                                       "in the video",         "in this scene,",        "the video begins with",
                                       "the video shows",      "this video shows",      "the video features",
                                       "this video features",  "the video depicts",     "this video depicts",
                                       "the video captures",   "this video captures",   "the video showcases",
                                       "this video showcases", "the video displays",    "this video displays",
                                       "the video presents",   "this video presents",   "the video portrays",
                                       "the video is of",      "this is a video of",    "a video of",
                                       "the clip shows",       "this clip shows",       "the scene shows",
                                       "the image shows",      "this image shows",      "we see",
                                       "the video opens with", "the video starts with", "this video is about"};

static const char *without_opening(const char *text, size_t *n)
{
    size_t longest = 0;
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        size_t m = strlen(openings[i]);
        if (m > longest && *n > m && strncasecmp(text, openings[i], m) == 0 &&
            (text[m] == ' ' || text[m] == ':' || text[m - 1] == ','))
            longest = m;
    }
    text += longest;
    *n -= longest;
    while (longest && *n && (*text == ' ' || *text == ',' || *text == ':')) {
        text++;
        --*n;
    }
    return text;
}

char *caption_rules(const char *text, const CaptionRules *rules, Err *err)
{
    size_t n = strlen(text);
    const char *was = text;
    if (rules->wrappers)
        text = unwrap(text, &n);
    if (rules->preambles) {
        const char *rest = without_opening(text, &n);
        was = rest != text ? NULL : was;
        text = rest;
    }
    char *clean = caption_clean(text, (int64_t)n, err);
    if (clean && !was && islower((unsigned char)clean[0]))
        clean[0] = (char)toupper((unsigned char)clean[0]);
    if (!clean || !rules->trigger || !*clean)
        return clean;
    char *with = mem_printf(err, "%s %s", rules->trigger, clean);
    mem_free(clean);
    return with;
}

/* ---- guessing -------------------------------------------------------------------------------- */
typedef struct Word {
    const char *key, *value, *words; /* separated by '|' */
} Word;
static const Word vocabulary[] = {
    {"category", "Dresses", "dress|dresses|gown|gowns"},
    {"category", "Outerwear", "jacket|jackets|coat|coats|blazer|blazers|cardigan|cardigans|parka|trench coat"},
    {"category", "Pants/Skirts", "jeans|trousers|pants|skirt|skirts|shorts|leggings"},
    {"category", "Tops", "top|tops|shirt|shirts|blouse|blouses|sweater|sweaters|t-shirt|t-shirts|tee|crop top"},
    {"category", "Accessories", "bag|bags|hat|hats|scarf|scarves|shoes|jewelry|handbag|handbags"},
    {"fabric", "cotton", "cotton"},
    {"fabric", "silk", "silk|satin"},
    {"fabric", "wool", "wool|woolen|woollen"},
    {"fabric", "leather", "leather"},
    {"fabric", "denim", "denim"},
    {"fabric", "lace", "lace"},
    {"pattern", "stripes", "striped|stripes|stripe"},
    {"pattern", "polka dots", "polka dot|polka dots|polka-dot|dotted"},
    {"pattern", "floral", "floral|flowers|flowered"},
    {"pattern", "geometric", "geometric"},
    {"pattern", "plaid", "plaid|checked|checkered|tartan"},
    {"pattern", "graphic", "graphic"},
    {"pattern", "pure color", "pure color|solid color|plain"},
    {"style", "casual", "casual"},
    {"style", "formal", "formal|business"},
    {"style", "evening wear", "evening wear|evening dress|evening gown|evening"},
    {"style", "sportswear", "sportswear|sporty|athletic"},
    {"color", "black", "black"},
    {"color", "white", "white"},
    {"color", "red", "red"},
    {"color", "blue", "blue|navy"},
    {"color", "green", "green"},
    {"color", "yellow", "yellow"},
    {"color", "pink", "pink"},
    {"color", "purple", "purple"},
    {"color", "orange", "orange"},
    {"color", "brown", "brown"},
    {"color", "grey", "grey|gray"},
    {"color", "beige", "beige"},
    {"sleeve", "long", "long sleeves|long-sleeved|long sleeve|long-sleeve"},
    {"sleeve", "short", "short sleeves|short-sleeved|short sleeve|short-sleeve"},
    {"sleeve", "sleeveless", "sleeveless|no sleeves|without sleeves"},
    {"length", "long", "long length|full-length|floor-length|maxi"},
    {"length", "medium", "medium length|knee-length|midi"},
    {"length", "short", "short length|mini"}};
enum { WORDS = sizeof vocabulary / sizeof *vocabulary };

static int is_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Marks the whole-word places of `word` that no longer match covers. */
static int find_word(const char *text, size_t n, const char *word, size_t m, uint8_t *covered)
{
    int found = 0;
    for (size_t i = 0; i + m <= n; i++) {
        if (strncasecmp(text + i, word, m) != 0 || (i && is_word(text[i - 1])) || (i + m < n && is_word(text[i + m])) ||
            covered[i])
            continue;
        memset(covered + i, 1, m);
        found = 1;
    }
    return found;
}

/* The only value of `key` in the text, longest words first; NULL for none or several. */
static const char *guess(const char *text, const char *key, uint8_t *covered)
{
    size_t n = strlen(text);
    const char *value = NULL;
    memset(covered, 0, n);
    for (size_t length = 24; length > 0; length--)
        for (int i = 0; i < WORDS; i++) {
            if (strcmp(vocabulary[i].key, key) != 0)
                continue;
            for (const char *w = vocabulary[i].words; *w;) {
                size_t m = strcspn(w, "|");
                if (m == length && find_word(text, n, w, m, covered)) {
                    if (value && strcmp(value, vocabulary[i].value) != 0)
                        return NULL;
                    value = vocabulary[i].value;
                }
                w += m + (w[m] == '|');
            }
        }
    return value;
}

static int set_guess(Source *s, const char *key, const char *value, Err *err)
{
    char mark[32];
    snprintf(mark, sizeof mark, "%s_source", key);
    if (!s->attributes)
        s->attributes = json_object();
    if (strcmp(key, "category") == 0) {
        if (!(s->category = mem_strdup(value, err)))
            return ERR_NOMEM;
    } else if (json_object_set_new(s->attributes, key, json_string(value)) < 0) {
        return err_set(err, ERR_NOMEM, "out of memory for attributes");
    }
    if (json_object_set_new(s->attributes, mark, json_string("caption")) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for attributes");
    return 0;
}

int captions_guess(Source *s, Err *err)
{
    static const char *const keys[] = {"category", "fabric", "pattern", "style", "color", "sleeve", "length"};
    int64_t size = 1;
    for (int64_t i = 0; i < s->n_captions; i++)
        size += (int64_t)strlen(s->captions[i]) + 1;
    char *text = mem_calloc(size, 1, err);
    uint8_t *covered = mem_calloc(size, 1, err);
    int rc = text && covered ? 0 : ERR_NOMEM;
    for (int64_t i = 0, at = 0; i < s->n_captions && rc == 0; i++)
        at += snprintf(text + at, (size_t)(size - at), "%s\n", s->captions[i]);
    for (size_t k = 0; k < sizeof keys / sizeof *keys && rc == 0; k++) {
        int given = k == 0 ? s->category != NULL : json_object_get(s->attributes, keys[k]) != NULL;
        const char *value = given ? NULL : guess(text, keys[k], covered);
        if (value)
            rc = set_guess(s, keys[k], value, err);
    }
    mem_free(text);
    mem_free(covered);
    return rc;
}

/* ---- all sources ----------------------------------------------------------------------------- */
static int apply_one(Source *s, const CaptionRules *rules, Err *err)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_captions; i++) {
        char *text = caption_rules(s->captions[i], rules, err);
        if (!text)
            return ERR_NOMEM; /* the run ends; what is left is freed */
        mem_free(s->captions[i]);
        s->captions[i] = NULL;
        if (*text)
            s->captions[n++] = text;
        else
            mem_free(text);
    }
    s->n_captions = n;
    return 0;
}

int captions_apply(SourceList *l, const Recipe *recipe, Err *err)
{
    const CaptionRules rules = {recipe_bool(recipe, "captions.strip_wrappers"),
                                recipe_bool(recipe, "captions.strip_preambles"),
                                recipe_str(recipe, "captions.trigger")};
    int guesses = recipe_bool(recipe, "captions.guess_attributes"), rc = 0;
    if (recipe_num(recipe, "captions.val_ratio") + recipe_num(recipe, "captions.test_ratio") > 1)
        return err_set(err, ERR_USAGE, "captions.val_ratio and captions.test_ratio together are more than 1");
    for (int64_t i = 0; i < l->n && rc == 0; i++) {
        if (guesses) /* before the trigger, which may be a word of the vocabulary */
            rc = captions_guess(&l->item[i], err);
        if (rc == 0 && (rules.wrappers || rules.preambles || rules.trigger))
            rc = apply_one(&l->item[i], &rules, err);
    }
    return rc;
}

char *label_counted(const char *value, Err *err)
{
    char *label = mem_calloc((int64_t)strlen(value) * 3 + 1, 1, err), *to = label;
    for (const char *c = value; label && *c; c++) {
        if (isspace((unsigned char)*c)) {
            if (to > label && to[-1] != ' ')
                *to++ = ' ';
        } else if (*c == '&') {
            memcpy(to, "and", 3);
            to += 3;
        } else {
            *to++ = *c == '/' ? '-' : (unsigned char)*c < 0x80 ? (char)tolower((unsigned char)*c) : *c;
        }
    }
    if (label && to > label && to[-1] == ' ')
        to[-1] = 0;
    return label;
}

const char *split_by_hash(const char *sha256, double val_ratio, double test_ratio)
{
    char head[14];
    snprintf(head, sizeof head, "%.13s", sha256); /* 52 bits: exact in a double */
    double u = (double)strtoull(head, NULL, 16) / 4503599627370496.0;
    return u < test_ratio ? "test" : u < test_ratio + val_ratio ? "val" : "train";
}
