/* What tests of whole ingest runs share: a folder of sources in, the manifest's lines and the
 * clips' pixels out. */
#ifndef WEFT_TESTS_PREP_RUN_H
#define WEFT_TESTS_PREP_RUN_H
#include <stdio.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/media/video.h"
#include "prep/ingest.h"

/* ROOT/NAME; lives until the end. */
static inline char *run_path(const char *root, const char *name)
{
    return check_path(root, name);
}

static inline char *run_folder(const char *name)
{
    Err err = {0};
    char *path = check_tmp_path(name);
    CHECK_OK(dir_make(path, &err), &err);
    return path;
}

static inline void run_caption(const char *root, const char *id)
{
    Err err = {0};
    char name[128];
    snprintf(name, sizeof name, "%s.txt", id);
    CHECK_OK(file_write_atomic(run_path(root, name), "A dress.", 8, &err), &err);
}

/* Manifest lines by id, each valid; json_decref.  sets: NULL-terminated "clip.key=value" over the
 * demo preset, where nothing is rejected for its looks. */
static inline json_t *run_ingest(const char *source, const char *out, int jobs, const char *const *sets)
{
    const char *all[24] = {"quality.mode=warn", "quality.duplicates=ignore", "quality.black_frames=ignore",
                           "clip.max_reject_ratio=1"};
    int64_t n = 4, size;
    while (sets && *sets)
        all[n++] = *sets++;
    Err err = {0};
    Recipe *recipe;
    CHECK_OK(recipe_open(&recipe, &(CommonOptions){.preset = "demo", .set = {all, n}, .seed = -1}, &err), &err);
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {
        .source = source, .out = out, .recipe = recipe, .jobs = jobs, .shards = 1, .follow_links = 1, .results = null};
    int rc = prep_ingest(&p, &err);
    CHECK_OK(rc, &err);
    fclose(null);
    recipe_close(&recipe);
    json_t *lines = json_object();
    char *text;
    CHECK_OK(file_read(run_path(out, "manifest.jsonl"), 1 << 26, &text, &size, &err), &err);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *record;
        CHECK_OK(json_parse(&record, line, (int64_t)strlen(line), "line", &err), &err);
        CHECK_OK(schema_check("manifest", record, "line", &err), &err);
        json_object_set_new(lines, json_string_value(json_object_get(record, "id")), record);
    }
    mem_free(text);
    return lines;
}

static inline const json_t *run_line(const json_t *lines, const char *id)
{
    const json_t *line = json_object_get(lines, id);
    if (!line)
        fail_msg("no line for '%s'", id);
    return line;
}

/* The code of the rejection, "" when accepted. */
static inline const char *run_reason(const json_t *line)
{
    const char *code = json_string_value(json_object_get(json_object_get(line, "reason"), "code"));
    return code ? code : "";
}

static inline int run_warned(const json_t *line, const char *code)
{
    size_t i;
    json_t *note;
    json_array_foreach (json_object_get(line, "warnings"), i, note)
        if (strcmp(json_string_value(json_object_get(note, "code")), code) == 0)
            return 1;
    return 0;
}

/* The finished clip [n,height,width,3]; mem_free. */
static inline uint8_t *run_pixels(const char *out, const json_t *line, int64_t n, int64_t width, int64_t height)
{
    Err err = {0};
    uint8_t *rgb;
    const json_t *clip = json_object_get(line, "clip");
    if (!json_is_object(clip))
        fail_msg("no clip of '%s': %s", json_string_value(json_object_get(line, "id")), run_reason(line));
    CHECK_OK(video_read_rgb(run_path(out, json_string_value(json_object_get(clip, "file"))), n, width, height, &rgb, &n,
                            &width, &height, &err),
             &err);
    return rgb;
}
#endif
