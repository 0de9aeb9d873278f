#include "prep/probe.h"

#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/clip.h"

/* Removes members that mean nothing for a file alone: its id and captions, and files that probe
 * does not make. */
static void keep_facts(json_t *record)
{
    static const char *const others[] = {"id", "captions", "key", "contact", "clip"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        json_object_del(record, others[i]);
    json_t *warnings = json_object_get(record, "warnings");
    for (size_t i = json_array_size(warnings); i-- > 0;)
        if (strcmp(json_string_value(json_object_get(json_array_get(warnings, i), "code")), "empty_caption") == 0)
            json_array_remove(warnings, i);
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

/* "h264 480x720, 30 fps, 7.000 s" */
static int describe(Str *out, const json_t *probe, Err *err)
{
    const json_t *rate = json_object_get(probe, "avg_rate");
    double num = json_number_value(json_array_get(rate, 0)), den = json_number_value(json_array_get(rate, 1));
    int rc = str_printf(out, err, "%s %" PRId64 "x%" PRId64, text_of(probe, "codec"), whole(probe, "display_width"),
                        whole(probe, "display_height"));
    if (rc == 0 && num > 0 && den > 0)
        rc = str_printf(out, err, ", %.4g fps%s", num / den,
                        json_is_true(json_object_get(probe, "vfr")) ? " (variable)" : "");
    double seconds = json_number_value(json_object_get(probe, "duration_s"));
    if (rc == 0 && seconds > 0)
        rc = str_printf(out, err, ", %.3f s", seconds);
    if (rc == 0 && whole(probe, "frames") > 0)
        rc = str_printf(out, err, ", %" PRId64 " frame%s", whole(probe, "frames"), str_plural(whole(probe, "frames")));
    return rc;
}

/* "FILE: accept: FACTS; notes: CODE, CODE" or "FILE: reject: CODE: SENTENCE (FACTS)". */
static int print_line(const char *path, const json_t *record, FILE *results, Err *err)
{
    const json_t *reason = json_object_get(record, "reason"), *probe = json_object_get(record, "probe"),
                 *warnings = json_object_get(record, "warnings"), *note;
    Str line = {0}, facts = {0};
    size_t i;
    int rc = json_is_object(probe) ? describe(&facts, probe, err) : 0;
    const char *known = facts.data ? facts.data : "";
    if (rc == 0 && json_is_object(reason))
        rc = str_printf(&line, err, "%s: reject: %s: %s%s%s%s", path, text_of(reason, "code"), text_of(reason, "text"),
                        *known ? " (" : "", known, *known ? ")" : "");
    else if (rc == 0)
        rc = str_printf(&line, err, "%s: accept: %s", path, known);
    json_array_foreach (warnings, i, note)
        if (rc == 0)
            rc = str_printf(&line, err, "%s%s", i ? ", " : "; notes: ", text_of(note, "code"));
    char *shown = rc == 0 ? mem_calloc(6 * line.len + 1, 1, err) : NULL;
    if (rc == 0 && !shown)
        rc = ERR_NOMEM;
    if (rc == 0) {
        str_escape(shown, 6 * line.len + 1, line.data ? line.data : "", 0);
        fprintf(results, "%s\n", shown);
    }
    mem_free(shown);
    str_fini(&facts);
    str_fini(&line);
    return rc;
}

static int print_json(const char *path, json_t *record, FILE *results, Err *err)
{
    json_t *named = json_pack("{s:s}", "file", path);
    if (!named || json_object_update(named, record) < 0) {
        json_decref(named);
        return err_set(err, ERR_NOMEM, "out of memory for '%s', or its name is not UTF-8", path);
    }
    char *text = json_text(named, 2, err);
    json_decref(named);
    if (!text)
        return ERR_NOMEM;
    fprintf(results, "%s\n", text);
    mem_free(text);
    return 0;
}

int prep_probe(const char *path, const Recipe *recipe, int json, FILE *results, Err *err)
{
    PrepConfig cfg;
    Source s = {.split = "train", .kind = file_is_dir(path) ? SOURCE_FRAMES : SOURCE_VIDEO};
    json_t *record = NULL, *records = NULL;
    char *dir = path_dir(path, err);
    s.path = mem_strdup(path_base(path), err);
    s.id = mem_strdup(path_base(path), err);
    int rc = dir && s.path && s.id ? prep_config(&cfg, recipe, err) : ERR_NOMEM, status = 0;
    if (rc == 0 && !file_exists(path) && !file_is_dir(path))
        rc = err_set(err, ERR_NOTFOUND, "'%s' is not there", path);
    if (rc == 0) {
        cfg.allow_empty_caption = 1; /* a file alone has no caption to judge */
        rc = clip_process(&cfg, dir, &s, NULL, NULL, &records, err);
        record = json_incref(json_array_get(records, 0)); /* of several windows, the first is shown */
    }
    if (rc == 0) {
        keep_facts(record);
        status = json_is_null(json_object_get(record, "reason")) ? 0 : 3;
        rc = json ? print_json(path, record, results, err) : print_line(path, record, results, err);
    }
    if (rc == 0 && ferror(results))
        rc = err_set(err, ERR_IO, "writing the results failed");
    mem_free(dir);
    mem_free(s.path);
    mem_free(s.id);
    json_decref(record);
    json_decref(records);
    return rc < 0 ? rc : status;
}
