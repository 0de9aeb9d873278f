#include "prep/probe.h"

#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/clip.h"
#include "prep/line.h"

/* "h264 480x720, 30 fps, 7.000 s" */
static int describe(Str *out, const LineProbe *p, Err *err)
{
    double rate = rational_value(p->avg_rate);
    int rc = str_printf(out, err, "%s %" PRId64 "x%" PRId64, p->codec ? p->codec : "", p->display_width,
                        p->display_height);
    if (rc == 0 && rate > 0)
        rc = str_printf(out, err, ", %.4g fps%s", rate, p->vfr ? " (variable)" : "");
    if (rc == 0 && p->duration_s > 0)
        rc = str_printf(out, err, ", %.3f s", p->duration_s);
    if (rc == 0 && p->frames > 0)
        rc = str_printf(out, err, ", %" PRId64 " frame%s", p->frames, str_plural(p->frames));
    return rc;
}

/* "FILE: accept: FACTS; notes: CODE, CODE" or "FILE: reject: CODE: SENTENCE (FACTS)". */
static int print_line(const char *path, const json_t *record, FILE *results, Err *err)
{
    ManifestLine l;
    const json_t *note;
    Str line = {0}, facts = {0};
    size_t i;
    line_read(&l, record);
    int rc = l.probed ? describe(&facts, &l.probe, err) : 0;
    const char *known = facts.data ? facts.data : "";
    if (rc == 0 && l.rejected)
        rc = str_printf(&line, err, "%s: reject: %s: %s%s%s%s", path, l.reason_code, l.reason_text, *known ? " (" : "",
                        known, *known ? ")" : "");
    else if (rc == 0)
        rc = str_printf(&line, err, "%s: accept: %s", path, known);
    json_array_foreach (l.warnings, i, note)
        if (rc == 0)
            rc = str_printf(&line, err, "%s%s", i ? ", " : "; notes: ", line_note_code(note));
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
        rc = err_set(err, ERR_NOTFOUND, "'%s' does not exist", path);
    if (rc == 0) {
        cfg.allow_empty_caption = 1; /* a file alone has no caption to judge */
        rc = clip_process(&cfg, dir, &s, NULL, NULL, &records, err);
        record = json_incref(json_array_get(records, 0)); /* of several windows, the first is shown */
    }
    if (rc == 0) {
        ManifestLine line;
        line_read(&line, record);
        line_keep_facts(record);
        status = line.rejected ? 3 : 0;
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
