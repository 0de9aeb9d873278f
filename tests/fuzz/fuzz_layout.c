/* The layout parsers on any bytes.  The first byte chooses the parser. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/layout/fashion.h"
#include "prep/layout/lists.h"
#include "prep/layout/metadata.h"
#include "common/base/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is in a source must hold for whatever was read. */
static void check_sources(const SourceList *l)
{
    Err err = {0};
    for (int64_t i = 0; i < l->n; i++) {
        const Source *s = &l->item[i];
        char **captions;
        int64_t n;
        if (!s->split)
            abort();
        if (source_window_captions(s, 30, 0, 6, &captions, &n, &err) == 0)
            captions_free(&captions, n);
        for (int64_t k = 1; k < s->n_segments; k++)
            if (s->segments[k - 1].start > s->segments[k].start)
                abort();
    }
}

static void metadata(const char *text, int64_t size)
{
    Err err = {0};
    SourceList l = {0};
    const char *line;
    int64_t at = 0, n, rc = 0;
    while (rc == 0 && lines_next(text, size, &at, &line, &n))
        rc = metadata_parse_line(&l, line, n, "line", &err);
    if (rc == 0 && source_list_settle(&l, &err) == 0)
        check_sources(&l);
    source_list_fini(&l);
}

static void counts(const char *text, int64_t size)
{
    Err err = {0};
    FrameCounts c = {0};
    int rc = fashion_parse_counts(&c, text, size, "counts", &err);
    if (rc < 0 && (err.code != rc || !err.msg[0]))
        abort();
    fashion_counts_fini(&c);
}

/* JSON up to the first NUL byte are the templates, the rest the labels. */
static void segments(const char *text, int64_t size, int labels)
{
    Err err = {0};
    SourceList l = {0};
    Source *s;
    json_t *templates = NULL;
    const char *nul = memchr(text, 0, (size_t)size);
    int64_t split = labels && nul ? nul - text : 0;
    if (labels && (json_parse(&templates, text, split, "templates", &err) < 0 || !json_is_object(templates)))
        goto out;
    if (source_list_add(&l, &s, &err) < 0 || !(s->id = mem_strdup("id", &err)))
        goto out;
    text += split + (labels && nul != NULL);
    size -= split + (labels && nul != NULL);
    int rc = fashion_parse_segments(s, text, size, labels ? templates : NULL, 1, "segments", &err);
    if (rc < 0 && (err.code != rc || !err.msg[0]))
        abort();
    check_sources(&l);
out:
    source_list_fini(&l);
    json_decref(templates);
}

static void lookup(const char *text, int64_t size)
{
    Err err = {0};
    json_t *o = NULL;
    if (json_parse(&o, text, size, "captions", &err) == 0 && json_is_object(o)) {
        const char *key;
        json_t *v;
        json_object_foreach (o, key, v)
            if (fashion_lookup(o, key) != v)
                abort();
        fashion_lookup(o, "A1P+0ZhMAiS");
        fashion_lookup(o, "A1P+0ZhMAiS.mp4");
    }
    json_decref(o);
}

static void caption(const char *text, int64_t size)
{
    Err err = {0};
    SourceList l = {0};
    Source *s;
    if (source_list_add(&l, &s, &err) == 0 && source_add_caption(s, text, size, &err) == 0)
        for (int64_t i = 0; i < s->n_captions; i++)
            if (s->captions[i][0] == 0 || s->captions[i][0] == ' ' || strstr(s->captions[i], "  "))
                abort();
    source_list_fini(&l);
}

/* A list, CSV, a map; or two lists, split at the first NUL byte. */
static void tables(const char *text, int64_t size, int kind)
{
    Err err = {0};
    SourceList l = {0};
    const char *nul = memchr(text, 0, (size_t)size);
    int64_t split = nul ? nul - text : size, after = nul ? split + 1 : size;
    int rc = kind == 0   ? metadata_parse_list(&l, text, size, "list", &err)
             : kind == 1 ? metadata_parse_csv(&l, text, size, "csv", &err)
             : kind == 2 ? captions_map_parse(&l, text, size, "map", &err)
                         : lists_parse(&l, text, split, "videos", text + after, size - after, "prompts", &err);
    if (rc > 0 || (rc < 0 && err.code != rc))
        abort();
    if (rc == 0 && source_list_settle(&l, &err) == 0)
        check_sources(&l);
    source_list_fini(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    int64_t n = (int64_t)size - 1;
    switch (data[0] % 10) {
    case 0: metadata(text, n); break;
    case 1: counts(text, n); break;
    case 2: segments(text, n, 1); break;
    case 3: segments(text, n, 0); break;
    case 4: lookup(text, n); break;
    case 5: caption(text, n); break;
    default: tables(text, n, data[0] % 10 - 6);
    }
    return 0;
}
