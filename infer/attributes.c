#include "infer/attributes.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"

/* ---- the lists -------------------------------------------------------------------------------- */

static int read_lists(json_t **out, const char *path, Err *err)
{
    Schema *schema = NULL;
    int rc = path ? json_read_file(out, path, err) : 0;
    if (rc == 0)
        rc = schema_open(&schema, "attributes", err);
    if (rc == 0 && !path)
        *out = json_deep_copy(json_object_get(schema_json(schema), "default"));
    if (rc == 0)
        rc = *out ? schema_validate(schema, *out, path ? path : "the default attributes", err)
                  : err_set(err, ERR_NOMEM, "no memory for the attributes");
    schema_close(&schema);
    return rc;
}

/* unit += the vector of the template with its {} replaced. */
static int add_text(ClipScorer *s, const char *template, const char *value, float *one, float *unit, Err *err)
{
    const char *at = strstr(template, "{}");
    int64_t cut, width = clip_scorer_width(s);
    char *text = mem_printf(err, "%.*s%s%s", (int)(at - template), template, value, at + 2);
    int rc = text ? clip_scorer_text(s, text, one, &cut, err) : ERR_NOMEM;
    for (int64_t i = 0; i < width && rc == 0; i++)
        unit[i] += one[i];
    mem_free(text);
    return rc;
}

static int fill_attribute(Attribute *a, const json_t *o, ClipScorer *s, float *one, Err *err)
{
    const json_t *values = json_object_get(o, "values"), *templates = json_object_get(o, "templates"), *v, *t;
    int64_t width = clip_scorer_width(s);
    size_t i, j;
    int rc = 0;
    a->name = json_string_value(json_object_get(o, "name"));
    a->n = (int64_t)json_array_size(values);
    a->vector = mem_calloc(a->n * width, sizeof *a->vector, err);
    a->right = mem_calloc(2 * a->n, sizeof *a->right, err);
    a->shown = mem_calloc(2 * a->n, sizeof *a->shown, err);
    if (!a->vector || !a->right || !a->shown)
        return ERR_NOMEM;
    json_array_foreach (values, i, v) {
        float *unit = a->vector + (int64_t)i * width;
        json_array_foreach (templates, j, t)
            if (rc == 0)
                rc = add_text(s, json_string_value(t), json_string_value(json_object_get(v, "value")), one, unit, err);
        clip_normalise(unit, width);
    }
    return rc;
}

int attributes_open(Attributes *a, const char *path, ClipScorer *s, Err *err)
{
    *a = (Attributes){.width = clip_scorer_width(s)};
    int rc = read_lists(&a->json, path, err);
    const json_t *list = json_object_get(a->json, "attributes");
    float *one = mem_calloc(a->width, sizeof *one, err);
    if (rc == 0)
        a->attribute = mem_calloc((int64_t)json_array_size(list), sizeof *a->attribute, err);
    if (rc == 0 && (!a->attribute || !one))
        rc = ERR_NOMEM;
    while (rc == 0 && a->n < (int64_t)json_array_size(list)) {
        rc = fill_attribute(&a->attribute[a->n], json_array_get(list, (size_t)a->n), s, one, err);
        a->n++;
    }
    mem_free(one);
    return rc;
}

void attributes_fini(Attributes *a)
{
    for (int64_t k = 0; k < a->n; k++) {
        mem_free(a->attribute[k].vector);
        mem_free(a->attribute[k].right);
        mem_free(a->attribute[k].shown);
    }
    mem_free(a->attribute);
    json_decref(a->json);
    *a = (Attributes){0};
}

/* ---- truth and judgement ---------------------------------------------------------------------- */

static int is_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static int has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; *at; at++)
        if (strncasecmp(at, word, n) == 0 && (at == text || !is_word(at[-1])) && !is_word(at[n]))
            return 1;
    return 0;
}

static int means(const json_t *value, const char *prompt)
{
    const json_t *word;
    size_t i;
    if (has_word(prompt, json_string_value(json_object_get(value, "value"))))
        return 1;
    json_array_foreach (json_object_get(value, "words"), i, word)
        if (has_word(prompt, json_string_value(word)))
            return 1;
    return 0;
}

int64_t attributes_truth(const Attributes *a, int64_t k, const char *prompt)
{
    const json_t *values = json_object_get(json_array_get(json_object_get(a->json, "attributes"), (size_t)k), "values");
    int64_t found = -1;
    for (int64_t i = 0; i < a->attribute[k].n; i++)
        if (means(json_array_get(values, (size_t)i), prompt)) {
            if (found >= 0)
                return -1;
            found = i;
        }
    return found;
}

int64_t attributes_judge(const Attributes *a, int64_t k, const float *video, double scale, double *share)
{
    const Attribute *t = &a->attribute[k];
    int64_t best = 0;
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < t->n; i++) {
        double c = clip_cosine(t->vector + i * a->width, video, a->width);
        if (c > most) {
            most = c;
            best = i;
        }
    }
    for (int64_t i = 0; i < t->n; i++)
        sum += exp(scale * (clip_cosine(t->vector + i * a->width, video, a->width) - most));
    if (share)
        *share = 1 / sum;
    return best;
}

void attributes_count(Attributes *a, int reference, const char *prompt, const float *video)
{
    for (int64_t k = 0; k < a->n && prompt; k++) {
        int64_t truth = attributes_truth(a, k, prompt);
        if (truth < 0)
            continue;
        int64_t at = truth + (reference ? a->attribute[k].n : 0);
        a->attribute[k].shown[at]++;
        a->attribute[k].right[at] += attributes_judge(a, k, video, 1, NULL) == truth;
    }
}

/* ---- figures ---------------------------------------------------------------------------------- */

/* Wilson's interval of a share, 95 %. */
static void put_interval(JsonWriter *w, double share, double n)
{
    const double z = 1.959963984540054;
    double middle = (share + z * z / (2 * n)) / (1 + z * z / n);
    double half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    jsonw_num(w, "low", middle - half < 0 ? 0 : middle - half);
    jsonw_num(w, "high", middle + half > 1 ? 1 : middle + half);
}

static void put_attribute(JsonWriter *w, const Attribute *a, int reference, double *sum, int64_t *counted)
{
    const int64_t *shown_in = a->shown + (reference ? a->n : 0), *right_in = a->right + (reference ? a->n : 0);
    int64_t n = 0, right = 0, most = 0, classes = 0;
    double macro = 0;
    for (int64_t i = 0; i < a->n; i++) {
        n += shown_in[i];
        right += right_in[i];
        most = shown_in[i] > most ? shown_in[i] : most;
        if (shown_in[i]) {
            macro += (double)right_in[i] / (double)shown_in[i];
            classes++;
        }
    }
    jsonw_open(w, a->name);
    jsonw_int(w, "n", n);
    if (n) {
        double share = (double)right / (double)n;
        jsonw_num(w, "accuracy", share);
        put_interval(w, share, (double)n);
        jsonw_num(w, "macro", macro / (double)classes);
        jsonw_num(w, "majority", (double)most / (double)n);
        *sum += share;
        ++*counted;
    } else {
        jsonw_null(w, "accuracy");
    }
    jsonw_num(w, "chance", 1 / (double)a->n);
    jsonw_close(w);
}

json_t *attributes_json(const Attributes *a, int reference, Err *err)
{
    JsonWriter w;
    json_t *out = NULL;
    double sum = 0;
    int64_t counted = 0;
    jsonw_begin(&w);
    for (int64_t k = 0; k < a->n; k++)
        put_attribute(&w, &a->attribute[k], reference, &sum, &counted);
    if (counted) {
        jsonw_open(&w, "mean");
        jsonw_num(&w, "accuracy", sum / (double)counted);
        jsonw_int(&w, "n", counted);
        jsonw_close(&w);
    }
    return jsonw_finish(&w, &out, "the attributes", err) < 0 ? NULL : out;
}
