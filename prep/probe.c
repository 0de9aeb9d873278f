#include "prep/probe.h"

#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/clip.h"

int probe(const char *path, const Recipe *recipe, FILE *results, Err *err)
{
    PrepConfig cfg;
    Source s = {.split = "train", .kind = file_is_dir(path) ? SOURCE_FRAMES : SOURCE_VIDEO};
    json_t *record = NULL, *records = NULL;
    char *text = NULL, *dir = path_dir(path, err);
    s.path = mem_strdup(path_base(path), err);
    s.id = mem_strdup(path_base(path), err);
    int rc = dir && s.path && s.id ? prep_config(&cfg, recipe, err) : ERR_NOMEM, status = 0;
    if (rc == 0 && !file_exists(path) && !file_is_dir(path))
        rc = err_set(err, ERR_NOTFOUND, "'%s' is not there", path);
    if (rc == 0) {
        cfg.allow_empty_caption = 1; /* a file alone has no caption to judge */
        rc = clip_process(&cfg, dir, &s, NULL, NULL, &records, err);
        record = json_incref(json_array_get(records, 0)); /* the first window stands for all */
    }
    if (rc == 0) {
        static const char *const unused[] = {"id", "captions", "key", "contact", "clip"};
        for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
            json_object_del(record, unused[i]);
        json_t *warnings = json_object_get(record, "warnings");
        for (size_t i = json_array_size(warnings); i-- > 0;)
            if (strcmp(json_string_value(json_object_get(json_array_get(warnings, i), "code")), "empty_caption") == 0)
                json_array_remove(warnings, i);
        status = json_is_null(json_object_get(record, "reason")) ? 0 : 3;
        json_t *named = json_pack("{s:s}", "file", path);
        if (!named || json_object_update(named, record) < 0)
            rc = err_set(err, ERR_NOMEM, "out of memory for '%s'", path);
        else
            rc = (text = json_text(named, 2, err)) ? 0 : ERR_NOMEM;
        json_decref(named);
    }
    if (rc == 0)
        fprintf(results, "%s\n", text);
    mem_free(text);
    mem_free(dir);
    mem_free(s.path);
    mem_free(s.id);
    json_decref(record);
    json_decref(records);
    return rc < 0 ? rc : status;
}
