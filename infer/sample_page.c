/* index.html: the videos of a folder with prompt, seed and category. */
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "infer/sample_index.h"

enum { LOADED = 60 }; /* videos whose first frames a browser fetches at once */

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n" HTML_POLICY_FILES
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" "
    "content=\"light dark\"><title>Samples</title>\n<style>\n"
    ":root{--ink:#1d2327;--paper:#fff;--dim:#59636e;--line:#dfe3e8}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--paper:#15191d;--dim:#9aa5b1;--line:#2f363d}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1240px;margin:24px "
    "auto;padding:0 16px}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 10px;border-bottom:1px solid "
    "var(--line);padding-bottom:4px;overflow-wrap:anywhere}\n"
    "p{margin:6px 0}.dim{color:var(--dim)}a{color:inherit}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));gap:18px}\n"
    "figure{margin:0}video{display:block;width:100%;height:auto;background:#808080;border-radius:4px}\n"
    "figcaption{margin-top:6px;overflow-wrap:anywhere}\n"
    "</style></head><body>\n<h1>Samples</h1>\n";

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

static int64_t number_of(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

/* A relative path as an address: letters, digits and a few others as they are, all else as %XX. */
static void put_address(FILE *out, const char *path)
{
    fputs("./", out); /* so that no name is taken for "scheme:" */
    for (const unsigned char *c = (const unsigned char *)path; *c; c++) {
        int plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
                    strchr("/-_.~", *c) != NULL;
        if (plain)
            putc(*c, out);
        else
            fprintf(out, "%%%02X", *c);
    }
}

static void put_sample(FILE *out, const json_t *row, int loaded)
{
    const char *negative = text_of(row, "negative_prompt"), *id = text_of(row, "id");
    fprintf(out,
            "<figure><video controls loop muted playsinline preload=\"%s\" width=\"%" PRId64 "\" height=\"%" PRId64
            "\" src=\"",
            loaded ? "metadata" : "none", number_of(row, "width"), number_of(row, "height"));
    put_address(out, text_of(row, "file"));
    fputs("\"></video><figcaption>", out);
    html_bdi(out, text_of(row, "prompt"));
    if (*negative) {
        fputs("<br><span class=\"dim\">not: ", out);
        html_bdi(out, negative);
        fputs("</span>", out);
    }
    fprintf(out, "<br><span class=\"dim\">seed %" PRId64 ", %" PRId64 " frame%s, model %.8s, <a href=\"",
            number_of(row, "seed"), number_of(row, "frames"), str_plural(number_of(row, "frames")),
            text_of(row, "model"));
    put_address(out, id);
    fputs(".json\">how it was made</a></span></figcaption></figure>\n", out);
}

/* The samples of one category (NULL: of none) under its name; *shown counts all. */
static void put_category(FILE *out, const json_t *rows, const char *category, int titled, int64_t *shown)
{
    const json_t *row;
    size_t i;
    if (titled) {
        fputs("<h2>", out);
        html_bdi(out, category ? category : "without category");
        fputs("</h2>\n", out);
    }
    fputs("<div class=\"grid\">\n", out);
    json_array_foreach (rows, i, row) {
        const char *own = text_of(row, "category");
        if (!own != !category || (own && strcmp(own, category) != 0))
            continue;
        put_sample(out, row, *shown < LOADED);
        ++*shown;
    }
    fputs("</div>\n", out);
}

/* Category -> how many samples, in the order of the rows; "" for none. */
static int count_categories(const json_t *rows, json_t **out, Err *err)
{
    json_t *count = json_object();
    const json_t *row;
    size_t i;
    int rc = count ? 0 : ERR_NOMEM;
    json_array_foreach (rows, i, row) {
        const char *own = text_of(row, "category");
        json_int_t n = json_integer_value(json_object_get(count, own ? own : ""));
        if (rc == 0 && json_object_set_new(count, own ? own : "", json_integer(n + 1)) < 0)
            rc = ERR_NOMEM;
    }
    *out = count;
    return rc < 0 ? err_set(err, rc, "no memory for the page of samples") : 0;
}

static void put_body(FILE *out, const json_t *rows, json_t *categories, int sheet)
{
    int64_t n = (int64_t)json_array_size(rows), shown = 0;
    int titled = json_object_size(categories) > 1 || (n && !json_object_get(categories, ""));
    const char *category;
    json_t *count;
    fprintf(out, "<p class=\"dim\">%" PRId64 " video%s, listed in <a href=\"./index.json\">index.json</a>", n,
            str_plural(n));
    if (n && sheet)
        fputs("; <a href=\"./contact.png\">a few frames of each</a>", out);
    if (n > CONTACT_SAMPLES && sheet)
        fprintf(out, " of the first %d", CONTACT_SAMPLES);
    fputs(".</p>\n", out);
    json_object_foreach (categories, category, count)
        put_category(out, rows, *category ? category : NULL, titled, &shown);
    fputs("</body></html>\n", out);
}

int sample_page(const char *out, const json_t *rows, Err *err)
{
    AtomicFile *f = NULL;
    json_t *categories = NULL;
    char *path = path_join(out, "index.html", err), *sheet = path_join(out, "contact.png", err);
    int rc = path && sheet ? count_categories(rows, &categories, err) : ERR_NOMEM;
    if (rc == 0)
        rc = atomic_open(&f, path, err);
    if (rc == 0) {
        fputs(head, atomic_stream(f));
        put_body(atomic_stream(f), rows, categories, file_exists(sheet));
        rc = atomic_commit(&f, err);
    }
    json_decref(categories);
    mem_free(path);
    mem_free(sheet);
    return rc;
}
