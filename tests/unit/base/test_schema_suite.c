/* JSON Schema's official test suite (Debian's json-schema-test-suite) over the subset that schema.h names:
 * whatever schema_open accepts must be judged as the suite says.  Skipped where the suite is not installed. */
#include "tests/check.h"
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"

#define SUITE "/usr/share/json-schema-test-suite/tests/"

static Err err;
static int64_t judged, outside, wrong;

/* The one point in which schema.h is stricter than the standard: a real is no integer, and 1.0 is not 1. */
static int has_whole_real(const json_t *v)
{
    const char *key;
    json_t *member;
    size_t i;
    if (json_is_real(v))
        return json_real_value(v) == (double)(int64_t)json_real_value(v);
    json_array_foreach ((json_t *)v, i, member)
        if (has_whole_real(member))
            return 1;
    json_object_foreach ((json_t *)v, key, member)
        if (has_whole_real(member))
            return 1;
    return 0;
}

static void judge_group(const char *file, const json_t *group)
{
    const json_t *rules = json_object_get(group, "schema");
    char *text = json_text(rules, 0, &err);
    Schema *s;
    json_t *test;
    size_t i;
    assert_non_null(text);
    int rc = schema_open_text(&s, text, "suite", &err);
    mem_free(text);
    if (rc < 0) { /* a keyword outside the subset: refused, as it must be */
        assert_int_equal(rc, ERR_FORMAT);
        err_clear(&err);
        outside++;
        return;
    }
    json_array_foreach (json_object_get(group, "tests"), i, test) {
        const json_t *data = json_object_get(test, "data");
        if (has_whole_real(data) || has_whole_real(rules))
            continue;
        int valid = schema_validate(s, data, "suite", &err) == 0;
        if (valid != json_is_true(json_object_get(test, "valid"))) {
            print_error("%s: %s: %s: %s\n", file, json_string_value(json_object_get(group, "description")),
                        json_string_value(json_object_get(test, "description")), valid ? "accepted" : err.msg);
            wrong++;
        }
        err_clear(&err);
        judged++;
    }
    schema_close(&s);
}

static void the_subset_agrees(void **state)
{
    (void)state;
    const char *dir = file_is_dir(SUITE "draft2020-12") ? SUITE "draft2020-12" : SUITE "draft7";
    char **names;
    int64_t n;
    if (!file_is_dir(dir))
        check_skip("JSON Schema's test suite is not installed (Debian: json-schema-test-suite)");
    CHECK_OK(dir_list(dir, &names, &n, &err), &err);
    for (int64_t i = 0; i < n; i++) {
        char *path = path_join(dir, names[i], &err);
        json_t *groups = NULL, *group;
        size_t k;
        assert_non_null(path);
        if (!str_ends_with(path, ".json")) {
            mem_free(path);
            continue;
        }
        if (json_read_file(&groups, path, &err) < 0) /* numbers and texts that our JSON reader refuses */
            err_clear(&err);
        json_array_foreach (groups, k, group)
            judge_group(names[i], group);
        json_decref(groups);
        mem_free(path);
    }
    dir_list_free(&names, n);
    print_message("# %" PRId64 " tests judged, %" PRId64 " groups use keywords outside the subset\n", judged, outside);
    assert_true(judged > 100);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_subset_agrees)};
    return check_run_live("base_schema_suite", tests);
}
