/* The schema validator, keyword by keyword, and the schemas compiled in. */
#include "tests/check.h"
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/schema_lines.h"

static Err err;

static json_t *parse(const char *text)
{
    json_t *v;
    CHECK_OK(json_parse(&v, text, (int64_t)strlen(text), text, &err), &err);
    return v;
}

/* part NULL: the value is valid. */
static void check(const char *schema, const char *value, const char *part)
{
    Schema *s;
    json_t *v = parse(value);
    CHECK_OK(schema_open_text(&s, schema, "schema", &err), &err);
    if (part)
        CHECK_FAILS(schema_validate(s, v, "file", &err), ERR_FORMAT, part, &err);
    else
        CHECK_OK(schema_validate(s, v, "file", &err), &err);
    schema_close(&s);
    assert_null(s);
    schema_close(&s);
    json_decref(v);
}

static void types(void **state)
{
    (void)state;
    check("{\"type\": \"integer\"}", "3", NULL);
    check("{\"type\": \"integer\"}", "3.0", "file: expected integer, found 3.0");
    check("{\"type\": \"number\"}", "3", NULL);
    check("{\"type\": \"number\"}", "3.5", NULL);
    check("{\"type\": \"number\"}", "\"3\"", "expected number without quotes, found \"3\"");
    check("{\"type\": \"string\"}", "\"x\"", NULL);
    check("{\"type\": \"boolean\"}", "false", NULL);
    check("{\"type\": \"boolean\"}", "0", "expected boolean, found 0");
    check("{\"type\": \"null\"}", "null", NULL);
    check("{\"type\": \"object\"}", "[]", "expected object, found an array");
    check("{\"type\": \"array\"}", "{}", "expected array, found an object");
    check("{\"type\": \"array\"}", "\"a,b\"", "expected array such as [\"a\", \"b\"], found \"a,b\"");
    check("{\"type\": \"object\"}", "\"a\"", "expected object such as {\"a\": 1}, found \"a\"");
    check("{\"type\": [\"string\", \"null\"]}", "null", NULL);
    check("{\"type\": [\"string\", \"null\"]}", "1", "expected \"string\" or \"null\", found 1");
    check("true", "1", NULL);
    check("false", "1", "expected nothing, found 1");
}

static void numbers(void **state)
{
    (void)state;
    check("{\"minimum\": 2}", "2", NULL);
    check("{\"minimum\": 2}", "1.5", "at least 2, found 1.5");
    check("{\"maximum\": 2}", "3", "at most 2, found 3");
    check("{\"maximum\": 9007199254740992}", "9007199254740992", NULL);
    check("{\"maximum\": 9007199254740992}", "9007199254740993", "at most 9007199254740992, found 9007199254740993");
    check("{\"exclusiveMinimum\": 0}", "0", "more than 0");
    check("{\"exclusiveMaximum\": 1}", "1.0", "less than 1");
    check("{\"exclusiveMaximum\": 1}", "0.999", NULL);
    check("{\"multipleOf\": 16}", "48", NULL);
    check("{\"multipleOf\": 16}", "40", "a multiple of 16 (the nearest are 32 and 48), found 40");
    check("{\"minimum\": 2}", "\"1\"", NULL); /* says nothing about strings */
}

static void strings(void **state)
{
    (void)state;
    check("{\"minLength\": 2, \"maxLength\": 3}", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"", NULL); /* characters, not bytes */
    check("{\"minLength\": 2}", "\"\xc3\xa9\"", "at least 2");
    check("{\"maxLength\": 1}", "\"ab\"", "at most 1");
    check("{\"pattern\": \"^[0-9a-f]{4}$\"}", "\"00ff\"", NULL);
    check("{\"pattern\": \"^[0-9a-f]{4}$\"}", "\"00fg\"", "text that matches ^[0-9a-f]{4}$, found \"00fg\"");
    check("{\"pattern\": \"^[0-9]+ ?h$\", \"examples\": [\"8h\", \"3 h\"]}", "\"soon\"",
          "text such as \"8h\" or \"3 h\", found \"soon\"");
    check("{\"type\": \"integer\"}", "\"2\"", "expected integer without quotes, found \"2\"");
    check("{\"type\": [\"number\", \"null\"]}", "\"5e-6\"", "expected \"number\" or \"null\" without quotes, found");
    check("{\"type\": \"integer\"}", "\"2.5\"", "expected integer, found \"2.5\"");
    check("{\"pattern\": \"^.$\"}", "\"\xe2\x82\xac\"", NULL);
    check("{\"enum\": [\"a\", 2, null]}", "null", NULL);
    check("{\"enum\": [\"a\", 2, null]}", "\"b\"", "expected \"a\" or 2 or null, found \"b\"");
    check("{\"const\": 1}", "2", "expected 1, found 2");
    check("{\"const\": {\"a\": [1]}}", "{\"a\": [1]}", NULL);
}

static void objects_and_arrays(void **state)
{
    (void)state;
    const char *schema =
        "{\"type\": \"object\", \"additionalProperties\": false, \"required\": [\"name\"], \"properties\": {"
        "\"name\": {\"type\": \"string\"}, \"sizes\": {\"type\": \"array\", \"items\": {\"type\": \"object\", "
        "\"properties\": {\"width\": {\"type\": \"integer\"}}, "
        "\"additionalProperties\": {\"type\": \"boolean\"}}, \"minItems\": 1, \"maxItems\": 3}}}";
    check(schema, "{\"name\": \"x\", \"sizes\": [{\"width\": 3, \"flag\": true}]}", NULL);
    check(schema, "{}", "file: key 'name' is missing");
    check(schema, "{\"nme\": \"x\"}", "unknown key 'nme'; did you mean 'name'?");
    check(schema, "{\"name\": \"x\", \"zzzzzzzz\": 1}", "unknown key 'zzzzzzzz'");
    check(schema, "{\"name\": \"x\", \"sizes\": []}", "'sizes': expected at least 1 element, found 0");
    check(schema, "{\"name\": \"x\", \"sizes\": [{}, {}, {}, {}]}", "at most 3");
    check(schema, "{\"name\": \"x\", \"sizes\": [{}, {\"width\": \"w\"}]}",
          "'sizes[1].width': expected integer, found \"w\"");
    check(schema, "{\"name\": \"x\", \"sizes\": [{\"flag\": 3}]}", "'sizes[0].flag': expected boolean, found 3");
}

static void branches_and_references(void **state)
{
    (void)state;
    const char *any = "{\"anyOf\": [{\"type\": \"null\"}, {\"$ref\": \"#/$defs/size\"}], \"$defs\": {\"size\": "
                      "{\"type\": \"object\", "
                      "\"required\": [\"w\"], \"properties\": {\"w\": {\"type\": \"integer\", \"minimum\": 1}}}}}";
    check(any, "null", NULL);
    check(any, "{\"w\": 1}", NULL);
    check(any, "{\"w\": 0}", "'w': expected at least 1, found 0"); /* the branch that was meant speaks */
    check(any, "3", "one of the allowed forms");
    const char *one = "{\"oneOf\": [{\"minimum\": 5}, {\"maximum\": 7}]}";
    check(one, "9", NULL);
    check(one, "6", "exactly one");
    /* A list that holds lists. */
    const char *tree =
        "{\"$ref\": \"#/$defs/t\", "
        "\"$defs\": {\"t\": {\"type\": [\"array\", \"integer\"], \"items\": {\"$ref\": \"#/$defs/t\"}}}}";
    check(tree, "[[1, [2]], []]", NULL);
    check(tree, "[[1, [null]]]", "'[0][1][0]': expected \"array\" or \"integer\", found null");
}

static void refuse_schema(const char *schema, const char *part)
{
    Schema *s;
    CHECK_FAILS(schema_open_text(&s, schema, "s.json", &err), ERR_FORMAT, part, &err);
    assert_null(s);
}

static void refuses_what_it_would_not_enforce(void **state)
{
    (void)state;
    refuse_schema("{\"uniqueItems\": true}", "s.json: schema: keyword 'uniqueItems' is not supported");
    refuse_schema("{\"properties\": {\"a\": {\"dependentRequired\": {}}}}", "'dependentRequired'");
    refuse_schema("{\"items\": [{\"type\": \"string\"}]}", "an object or a boolean");
    refuse_schema("{\"$ref\": \"#/$defs/none\"}", "leads nowhere");
    refuse_schema("{\"$ref\": \"other.json\"}", "leads nowhere");
    refuse_schema("{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"$ref\": \"#/$defs/a\"}}}", "leads nowhere");
    refuse_schema("{\"pattern\": \"(\"}", "pattern '('");
    refuse_schema("{\"properties\": 3}", "objects");
    refuse_schema("{", "s.json");
}

static void compiled_in_files(void **state)
{
    (void)state;
    int schemas = 0, presets = 0;
    const char *path;
    for (int64_t i = 0; (path = embedded_path(i)) != NULL; i++) {
        assert_non_null(embedded_file(path));
        if (strncmp(path, "schemas/", 8) != 0) {
            presets++;
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(path + 8, "."), path + 8);
        Schema *s;
        CHECK_OK(schema_open(&s, name, &err), &err);
        assert_true(json_is_string(json_object_get(schema_json(s), "description"))); /* who writes it, who reads it */
        schema_close(&s);
        schemas++;
    }
    assert_true(schemas >= 1 && presets == 2);
    assert_null(embedded_path(-1));
    assert_null(embedded_file("schemas/none.schema.json"));
    Schema *s;
    CHECK_FAILS(schema_open(&s, "none", &err), ERR_NOTFOUND, "no schema named 'none'", &err);
    json_t *v = parse("{}");
    CHECK_FAILS(schema_check("recipe", v, "r.json", &err), ERR_FORMAT, "r.json: key 'seed' is missing", &err);
    json_decref(v);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static int keep_line(void *user, const json_t *line, const char *where, Err *e)
{
    json_t *lines = user;
    (void)where;
    return json_array_append_new(lines, json_deep_copy(line)) < 0 ? err_set(e, ERR_NOMEM, "no memory") : 0;
}

static void lines(const char *text, const char *const *members, const char *want)
{
    json_t *got = json_array();
    const char *path = check_tmp_path("lines.jsonl");
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    CHECK_OK(schema_each_line(path, "manifest", members, keep_line, got, &err), &err);
    char *found = json_canonical(got, &err);
    assert_string_equal(found, want);
    mem_free(found);
    json_decref(got);
}

static void refuse_lines(const char *text, const char *const *members, const char *part)
{
    json_t *got = json_array();
    const char *path = check_tmp_path("lines.jsonl");
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    CHECK_FAILS(schema_each_line(path, "manifest", members, keep_line, got, &err), ERR_FORMAT, part, &err);
    json_decref(got);
}

/* Members that are read are judged as they are in the whole line; the others are neither. */
static void reads_lines_in_part(void **state)
{
    static const char *const members[] = {"id", "clip.file", "reason", "quality.change.mean", NULL};
    (void)state;
    lines(
        "{\"id\":\"a\",\"reason\":null,\"clip\":{\"file\":\"clips/f.mkv\",\"size\":-1},\"quality\":null,\"split\":5}\n"
        "{\"id\":\"b\",\"reason\":{\"code\":\"dark\",\"text\":\"t\"},\"clip\":null,"
        "\"quality\":{\"change\":{\"min\":\"no number\",\"mean\":2}}}\n",
        members,
        "[{\"clip\":{\"file\":\"clips/f.mkv\"},\"id\":\"a\",\"quality\":null,\"reason\":null},"
        "{\"clip\":null,\"id\":\"b\",\"quality\":{\"change\":{\"mean\":2}},\"reason\":{\"code\":\"dark\",\"text\":"
        "\"t\"}}]");
    const char *bad[] = {
        "{\"id\":1,\"reason\":null,\"clip\":null,\"quality\":null}",
        "{\"id\":\"a/b\",\"reason\":null,\"clip\":null,\"quality\":null}", /* the pattern */
        "{\"reason\":null,\"clip\":null,\"quality\":null}",
        "{\"id\":\"a\",\"reason\":null,\"clip\":{},\"quality\":null}",
        "{\"id\":\"a\",\"reason\":null,\"clip\":{\"file\":1},\"quality\":null}",
        "{\"id\":\"a\",\"reason\":{\"code\":\"none such\",\"text\":\"t\"},\"clip\":null,\"quality\":null}",
        "{\"id\":\"a\",\"reason\":null,\"clip\":null,\"quality\":{\"change\":{\"mean\":\"2\"}}}",
        "{\"id\":\"a\",\"reason\":null,\"clip\":null,\"quality\":{\"change\":3}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse_lines(bad[i], members, "is missing"); /* what the whole lacks first */
    refuse_lines("{\"id\":\"a\"}", NULL, "lines.jsonl line 1: key 'decision' is missing");
    refuse_lines("\n{}", members, "line 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),
        cmocka_unit_test(numbers),
        cmocka_unit_test(strings),
        cmocka_unit_test(objects_and_arrays),
        cmocka_unit_test(branches_and_references),
        cmocka_unit_test(refuses_what_it_would_not_enforce),
        cmocka_unit_test(compiled_in_files),
        cmocka_unit_test(reads_lines_in_part),
    };
    return check_run_live("base_schema", tests);
}
