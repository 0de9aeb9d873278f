/* JSON and YAML: what is read, what is refused, and the text that is written. */
#include "tests/check.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/json_walk.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"

static Err err;

static json_t *parse(const char *text)
{
    json_t *v;
    CHECK_OK(json_parse(&v, text, (int64_t)strlen(text), "t", &err), &err);
    return v;
}

static void refuse(const char *text, int64_t size, const char *part)
{
    json_t *v;
    CHECK_FAILS(json_parse(&v, text, size, "t.json", &err), ERR_FORMAT, part, &err);
    assert_null(v);
}

static void refuses_bad_json(void **state)
{
    (void)state;
    refuse("{\"a\":1,\"a\":2}", 13, "t.json:1:");
    refuse("{\"a\":\n 1,}", 10, "t.json:2:");
    refuse("", 0, "t.json:1:");
    refuse("{} x", 4, "end of file expected");
    refuse("\"\\u0000\"", 8, "\\u0000");
    refuse("\"a\0b\"", 5, "t.json");
    refuse("\"\xff\"", 3, "unable to decode byte 0xff");
    refuse("123456789012345678901234567890", 30, "too big");
    refuse("1e999", 5, "overflow");
    refuse("NaN", 3, "t.json");
    refuse("[1", 2, "t.json");
    refuse("{\"a\": 1,\n \"b\": [2, -1e-400]}", 28, "t.json:2:12: the number 1e-400 is too small to be told from 0");
    refuse("3E-999", 6, "too small");
    char tiny[500] = "0.";
    memset(tiny + 2, '0', sizeof tiny - 3);
    tiny[sizeof tiny - 1] = '7';
    refuse(tiny, sizeof tiny, "the number 0.00000");
    refuse("\xef\xbb\xbf\xef\xbb\xbf{}", 8, "t.json");
    char deep[5000];
    memset(deep, '[', sizeof deep);
    refuse(deep, sizeof deep, "depth");
}

static void small_numbers_and_marks(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf{\"1e-400\": \"a\\\" 1e-400\", \"b\": [0e-400, 0.0E-999, 1e-300, 5e-324, 1e+100]}";
    json_t *v;
    (void)state;
    CHECK_OK(json_parse(&v, text, sizeof text - 1, "t", &err), &err);
    assert_true(json_real_value(json_array_get(json_object_get(v, "b"), 3)) > 0);
    json_decref(v);
}

static void members(const char *text, const char *want)
{
    static const char *const names[] = {"id", "clip", NULL};
    json_t *v;
    CHECK_OK(json_parse_members(&v, text, (int64_t)strlen(text), names, "t", &err), &err);
    char *got = json_canonical(v, &err);
    assert_string_equal(got, want);
    mem_free(got);
    json_decref(v);
}

static void parts(const char *text, const char *want)
{
    static const char *const names[] = {"id", "clip.file", "clip.size.w", "clips", NULL};
    json_t *v;
    CHECK_OK(json_parse_members(&v, text, (int64_t)strlen(text), names, "t", &err), &err);
    char *got = json_canonical(v, &err);
    assert_string_equal(got, want);
    mem_free(got);
    json_decref(v);
}

static void parses_members_of_members(void **state)
{
    (void)state;
    parts("{\"clip\":{\"file\":\"a\",\"more\":[1,{\"file\":2}],\"size\":{\"h\":1,\"w\":2}},\"clips\":[{\"x\":1}]}",
          "{\"clip\":{\"file\":\"a\",\"size\":{\"w\":2}},\"clips\":[{\"x\":1}]}");
    parts("{\"clip\":{\"more\":1},\"id\":{}, \"file\":3}", "{\"clip\":{},\"id\":{}}");
    parts("{\"clip\" : { } }", "{\"clip\":{}}");
    parts("{\"clip\":null,\"x\":1}", "{\"clip\":null}"); /* no object: whole */
    parts("{\"clip\":[{\"more\":1}]}", "{\"clip\":[{\"more\":1}]}");
    parts("{\"cli\":1,\"clip.file\":2,\"clip.size\":{\"w\":4,\"h\":4}}", /* a dot in a name: as if it were a place */
          "{\"clip.file\":2,\"clip.size\":{\"w\":4}}");
    char deep[600] = "{\"";
    memset(deep + 2, 'k', 400);
    strcpy(deep + 402, "\":1,\"id\":2}"); /* longer than any path: parsed as a whole */
    json_t *v;
    static const char *const names[] = {"id", NULL};
    CHECK_OK(json_parse_members(&v, deep, (int64_t)strlen(deep), names, "t", &err), &err);
    assert_int_equal(json_object_size(v), 2);
    json_decref(v);
}

static void refuse_members(const char *text)
{
    static const char *const names[] = {"id", "clip", NULL};
    json_t *v;
    CHECK_FAILS(json_parse_members(&v, text, (int64_t)strlen(text), names, "t.json", &err), ERR_FORMAT,
                "t.json:1:", &err);
    assert_null(v);
}

static void parses_members_alone(void **state)
{
    (void)state;
    members("{}", "{}");
    members("{\"x\":[1,{\"id\":2}]}", "{}"); /* an id further in is another */
    members(" { \"id\" : \"a,}\\\"\" , \"x\":{\"clip\":[\"]\"]},\t\"clip\":{\"n\":[1, 2]}} \n",
            "{\"clip\":{\"n\":[1,2]},\"id\":\"a,}\\\"\"}");
    members("{\"x\":nonsense,\"id\":1}", "{\"id\":1}");        /* what is stepped over is not judged */
    members("{\"i\\u0064\":5,\"x\":1}", "{\"id\":5,\"x\":1}"); /* not plain: parsed as a whole */
    members("[1]", "[1]");
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"id\"",
                                      "{\"id\":",
                                      "{\"id\":}",
                                      "{\"id\":1",
                                      "{\"id\":1,}",
                                      "{\"id\":1} 2",
                                      "{\"id\":1,\"id\":2}",
                                      "{\"id\":\"\\",
                                      "{\"id\":[1}",
                                      "{\"x\":[1}",
                                      "{\"x\":1]",
                                      "{\"id\":a}",
                                      "{,}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse_members(bad[i]);
}

/* What a walk finds, "key=value;" each, and how it ends: "." or "?". */
static void walk(const char *text, const char *want)
{
    char got[256] = "";
    JsonWalk w;
    JsonSpan key, value;
    int more = json_walk_begin(&w, (JsonSpan){text, (int64_t)strlen(text)}) ? 1 : -1;
    while (more == 1 && (more = json_walk_next(&w, &key, &value)) == 1) {
        size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%.*s=%.*s;", (int)key.size, key.at, (int)value.size, value.at);
    }
    strcat(got, more == 0 ? "." : "?");
    assert_string_equal(got, want);
}

static void text_of(const char *text, const char *want)
{
    JsonSpan s;
    int is = json_span_text((JsonSpan){text, (int64_t)strlen(text)}, &s);
    assert_int_equal(is, want != NULL);
    assert_true(!is || json_span_is(s, want));
}

static void count_of(const char *text, int64_t want)
{
    int64_t n;
    int is = json_span_count((JsonSpan){text, (int64_t)strlen(text)}, &n);
    assert_int_equal(is, want != 0);
    assert_true(!is || n == want);
}

static void plain(const char *text, int want)
{
    assert_int_equal(json_span_plain((JsonSpan){text, (int64_t)strlen(text)}), want);
}

static void walks_over_text(void **state)
{
    (void)state;
    walk("{}", ".");
    walk(" [ ] \n", ".");
    walk("{\"a\":1,\"b\":{\"a\":[\"}\"]} , \"c\" : \"\\\"\"}", "a=1;b={\"a\":[\"}\"]} ;c=\"\\\"\";.");
    walk("[1,\"x,y\",[2,3]]", "=1;=\"x,y\";=[2,3];.");
    walk("{\"a\":1}x", "a=1;?");
    walk("[1,]", "=1;?");
    walk("[,1]", "?");
    walk("[1", "=1;?");
    walk("{\"a\":1]", "a=1;?");
    walk("{\"\\u0061\":1}", "?");
    walk("{1:2}", "?");
    walk("1", "?");
    walk("", "?");
    text_of("\"\"", "");
    text_of("\"a b\"", "a b");
    text_of("\"caf\xC3\xA9\"", "caf\xC3\xA9");
    text_of("\"caf\xC3\"", NULL);
    text_of("\"a\\n\"", NULL);
    text_of("\"a\"b\"", NULL);
    text_of("\"a\nb\"", NULL);
    text_of("\"a\" ", NULL);
    text_of("\"", NULL);
    text_of("null", NULL);
    count_of("1", 1);
    count_of("999999999999999", 999999999999999);
    count_of("1000000000000000", 0);
    count_of("0", 0);
    count_of("01", 0);
    count_of("-1", 0);
    count_of("1.0", 0);
    count_of("1e3", 0);
    count_of("1 ", 0);
    count_of("", 0);
    plain("{\"a\":{},\"b\":[],\"c\":[1,0,\"caf\xC3\xA9\",null,true,false,{\"d\":[2]}]}", 1);
    plain("{\"a\": 1}", 1);
    plain("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", 1);
    plain("[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", 0);
    static const char *const others[] = {"",
                                         "{\"a\":1} ",
                                         "{\"a\":1}x",
                                         "{\"a\":1 }",
                                         "{\"a\":1]",
                                         "{\"a\"}",
                                         "{\"a\":}",
                                         "{a:1}",
                                         "{\"a\":nul}",
                                         "[1,]",
                                         "[1 2]",
                                         "{\"a\":\n1}",
                                         "{\"a\":\r1}",
                                         "{\"a\":\"\\n\"}",
                                         "{\"a\":\"\x1b\"}",
                                         "[\"\xff\"]",
                                         "{\"\xff\":\"\"}",
                                         "{\"\x01\":\"\"}",
                                         "[-1]",
                                         "[1.5]",
                                         "[01]",
                                         "[1e400]",
                                         "[\"a\"\"b\"]",
                                         "[{}{}]",
                                         "[NaN]"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        plain(others[i], 0);
}

static void check_text(const json_t *v, int indent, const char *want)
{
    char *text = indent < 0 ? json_canonical(v, &err) : json_text(v, indent, &err);
    assert_non_null(text);
    assert_string_equal(text, want);
    mem_free(text);
}

static void writes_text(void **state)
{
    (void)state;
    json_t *v = parse("{\"b\": [1, 2.0, 0.1], \"a\": {\"y\": null, \"x\": true}, "
                      "\"s\": \"q\\\"\\\\\\n\\u0001\\u00e9\", \"e\": {}, \"n\": [[], {\"k\": -5}]}");
    check_text(v, 0,
               "{\"b\":[1,2.0,0.1],\"a\":{\"y\":null,\"x\":true},"
               "\"s\":\"q\\\"\\\\\\n\\u0001\xc3\xa9\",\"e\":{},\"n\":[[],{\"k\":-5}]}");
    check_text(v, 2,
               "{\n  \"b\": [1, 2.0, 0.1],\n"
               "  \"a\": {\n    \"y\": null,\n    \"x\": true\n  },\n  \"s\": \"q\\\"\\\\\\n\\u0001\xc3\xa9\",\n"
               "  \"e\": {},\n  \"n\": [\n    [],\n    {\n      \"k\": -5\n    }\n  ]\n}");
    check_text(v, -1,
               "{\"a\":{\"x\":true,\"y\":null},\"b\":[1,2.0,0.10000000000000001],\"e\":{},\"n\":[[],{\"k\":-5}],"
               "\"s\":\"q\\\"\\\\\\n\\u0001\xc3\xa9\"}");
    json_decref(v);
}

/* Every real reads back as the same double, in either form. */
static void reals_survive(void **state)
{
    (void)state;
    uint64_t x = check_seed() * 0x9E3779B97F4A7C15ull;
    const double fixed[] = {0.0, -0.0, 1.0, 1e22, 1e23, 5e-324, DBL_MAX, -DBL_MIN, 0.3, 1e-5, 123456789.125};
    for (int i = 0; i < 2000; i++) {
        double want;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(&want, &x, sizeof want);
        if (i < (int)(sizeof fixed / sizeof *fixed))
            want = fixed[i];
        if (want - want != 0)
            continue;
        json_t *v = json_real(want);
        for (int canonical = 0; canonical < 2; canonical++) {
            char *text = canonical ? json_canonical(v, &err) : json_text(v, 0, &err);
            json_t *back = parse(text);
            double got = json_real_value(back);
            assert_true(json_is_real(back));
            assert_memory_equal(&got, &want, sizeof got);
            json_decref(back);
            mem_free(text);
        }
        json_decref(v);
    }
}

static void files_and_lines(void **state)
{
    (void)state;
    json_t *v = parse("{\"a\": 1}"), *back;
    char *path = check_tmp_path("v.json"), *bytes;
    int64_t size;
    CHECK_OK(json_write_file(v, path, &err), &err);
    CHECK_OK(file_read(path, 100, &bytes, &size, &err), &err);
    assert_string_equal(bytes, "{\n  \"a\": 1\n}\n");
    mem_free(bytes);
    CHECK_OK(json_read_file(&back, path, &err), &err);
    assert_true(json_equal(v, back));
    json_decref(back);
    CHECK_FAILS(json_read_file(&back, check_tmp_path("none.json"), &err), ERR_NOTFOUND, "none.json", &err);
    assert_int_equal(json_write_file(v, check_tmp_path("no/v.json"), &err), ERR_NOTFOUND);
    assert_int_equal(strncmp(err.msg, "creating '", 10), 0); /* the path is named once */
    err_clear(&err);
    FILE *f = fopen(path, "w");
    CHECK_OK(json_write_line(v, f, &err), &err);
    fclose(f);
    CHECK_OK(file_read(path, 100, &bytes, &size, &err), &err);
    assert_string_equal(bytes, "{\"a\":1}\n");
    mem_free(bytes);
    f = fopen("/dev/full", "w");
    setvbuf(f, NULL, _IONBF, 0);
    CHECK_FAILS(json_write_line(v, f, &err), ERR_IO, "JSON line", &err);
    fclose(f);
    json_decref(v);
}

static void typed_members(void **state)
{
    (void)state;
    json_t *o = parse("{\"i\": 7, \"r\": 1.5, \"s\": \"x\", \"t\": true, \"n\": null}");
    int64_t i;
    double r;
    const char *s;
    int b;
    CHECK_OK(json_get_int(o, "i", "cfg", &i, &err), &err);
    assert_int_equal(i, 7);
    CHECK_FAILS(json_get_int(o, "r", "cfg", &i, &err), ERR_FORMAT, "cfg: 'r': expected an integer, found a real number",
                &err);
    CHECK_FAILS(json_get_int(o, "z", "cfg", &i, &err), ERR_FORMAT, "cfg: 'z': expected an integer, found nothing",
                &err);
    CHECK_FAILS(json_get_int(o, "n", "cfg", &i, &err), ERR_FORMAT, "found null", &err);
    CHECK_OK(json_get_int_or(o, "z", "cfg", -3, &i, &err), &err);
    assert_int_equal(i, -3);
    CHECK_OK(json_get_int_or(o, "n", "cfg", -4, &i, &err), &err);
    assert_int_equal(i, -4);
    CHECK_FAILS(json_get_int_or(o, "s", "cfg", -4, &i, &err), ERR_FORMAT, "found a string", &err);
    CHECK_OK(json_get_num(o, "i", "cfg", &r, &err), &err);
    assert_true(r == 7);
    CHECK_OK(json_get_num_or(o, "z", "cfg", 0.5, &r, &err), &err);
    assert_true(r == 0.5);
    CHECK_FAILS(json_get_num(o, "t", "cfg", &r, &err), ERR_FORMAT, "expected a number, found a boolean", &err);
    CHECK_OK(json_get_bool_or(o, "t", "cfg", 0, &b, &err), &err);
    assert_int_equal(b, 1);
    CHECK_OK(json_get_bool_or(o, "z", "cfg", 1, &b, &err), &err);
    assert_int_equal(b, 1);
    CHECK_FAILS(json_get_bool_or(o, "i", "cfg", 1, &b, &err), ERR_FORMAT, "expected true or false", &err);
    CHECK_OK(json_get_str(o, "s", "cfg", &s, &err), &err);
    assert_string_equal(s, "x");
    CHECK_OK(json_get_str_or(o, "n", "cfg", NULL, &s, &err), &err);
    assert_null(s);
    CHECK_FAILS(json_get_str(o, "i", "cfg", &s, &err), ERR_FORMAT, "expected a string", &err);
    CHECK_FAILS(json_get_str(NULL, "i", "cfg", &s, &err), ERR_FORMAT, "found nothing", &err);
    json_decref(o);
}

/* ---- YAML ------------------------------------------------------------------------------------ */

static void check_yaml(const char *yaml, const char *json)
{
    json_t *got, *want = parse(json);
    CHECK_OK(yaml_parse(&got, yaml, (int64_t)strlen(yaml), "t.yaml", &err), &err);
    if (!json_equal(got, want))
        fail_msg("%s\nis not\n%s\nbut\n%s", yaml, json, json_text(got, 0, NULL));
    json_decref(got);
    json_decref(want);
}

static void yaml_scalars(void **state)
{
    (void)state;
    check_yaml("[null, Null, NULL, ~, ]", "[null, null, null, null]");
    check_yaml("a:\nb: ~", "{\"a\": null, \"b\": null}");
    check_yaml("[true, True, TRUE, false, False, FALSE]", "[true, true, true, false, false, false]");
    check_yaml("[yes, no, on, off, y, tRUE, nUll]", "[\"yes\", \"no\", \"on\", \"off\", \"y\", \"tRUE\", \"nUll\"]");
    check_yaml("[0, -1, +12, 010, 0o17, 0xFf, -9223372036854775808]", "[0, -1, 12, 10, 15, 255, -9223372036854775808]");
    check_yaml("[1., .5, -0.25, 1e3, 1E-5, +1.5e+2]", "[1.0, 0.5, -0.25, 1000.0, 1e-5, 150.0]");
    check_yaml("[1_000, 0x, 1e, ., -, +, 1.2.3, 12:30, 0b11, 1e5x]",
               "[\"1_000\", \"0x\", \"1e\", \".\", \"-\", \"+\", \"1.2.3\", \"12:30\", \"0b11\", \"1e5x\"]");
    check_yaml("['12', \"true\", '~', \"a\\tb\"]", "[\"12\", \"true\", \"~\", \"a\\tb\"]");
    check_yaml("text: |\n  one\n  two\n", "{\"text\": \"one\\ntwo\\n\"}");
    check_yaml("caf\xc3\xa9: \xe2\x82\xac", "{\"caf\xc3\xa9\": \"\xe2\x82\xac\"}");
}

static void yaml_structures(void **state)
{
    (void)state;
    check_yaml("a:\n  - 1\n  - {b: [x, y]}\nc: &c {d: 1}\ne: *c\n",
               "{\"a\": [1, {\"b\": [\"x\", \"y\"]}], \"c\": {\"d\": 1}, \"e\": {\"d\": 1}}");
    check_yaml("", "null");
    check_yaml("# only a comment\n", "null");
    check_yaml("---\na: 1\n...\n", "{\"a\": 1}");
    check_yaml("{\"json\": [1, null, true]}", "{\"json\": [1, null, true]}");
}

static void refuse_yaml(const char *yaml, int64_t size, const char *part)
{
    json_t *v;
    CHECK_FAILS(yaml_parse(&v, yaml, size < 0 ? (int64_t)strlen(yaml) : size, "t.yaml", &err), ERR_FORMAT, part, &err);
    assert_null(v);
}

static void refuses_bad_yaml(void **state)
{
    (void)state;
    refuse_yaml("a: 1\na: 2\n", -1, "t.yaml:2:1: a key is given twice");
    refuse_yaml("? [x]\n: 1\n", -1, "a key must be a plain name");
    refuse_yaml("a: [1, 2\n", -1, "t.yaml:");
    refuse_yaml("a: 1\n---\nb: 2\n", -1, "more than one YAML document");
    refuse_yaml("a: !!python/object x\n", -1, "explicit types");
    refuse_yaml("a: !!int 3\n", -1, "explicit types");
    refuse_yaml("a: .inf\n", -1, "finite");
    refuse_yaml("a: -.INF\n", -1, "finite");
    refuse_yaml("a: .nan\n", -1, "finite");
    refuse_yaml("a: 1e999\n", -1, "finite");
    refuse_yaml("a: 1e-400\n", -1, "too small to be told from 0");
    refuse_yaml("a: 99999999999999999999\n", -1, "64 bits");
    refuse_yaml("a: 0xFFFFFFFFFFFFFFFF\n", -1, "64 bits");
    refuse_yaml("a: \"x\\0y\"\n", -1, "NUL");
    refuse_yaml("\"x\\0y\": 1\n", -1, "NUL");
    refuse_yaml("a: \xff\xfe\n", -1, "t.yaml:");
    refuse_yaml("a: &x [*x]\n", -1, "deeper than 64");
    refuse_yaml("\ta: 1\n", -1, "t.yaml:");
}

/* Nine lines of nine aliases each stand for 9^9 values. */
static void yaml_bombs_are_bounded(void **state)
{
    (void)state;
    char text[2048];
    int n = snprintf(text, sizeof text, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s*a%d", j ? "," : "", i - 1);
        n += snprintf(text + n, sizeof text - (size_t)n, "]\n");
    }
    refuse_yaml(text, n, "more than 100000 values");
    char deep[20000];
    memset(deep, '[', sizeof deep);
    refuse_yaml(deep, sizeof deep, "t.yaml");
}

static void writer_keeps_order_and_types(void **state)
{
    (void)state;
    JsonWriter w;
    json_t *shared = json_string("s"), *o;
    Digest digest = {{0xAB}};
    jsonw_begin(&w);
    jsonw_str(&w, "z", "text");
    jsonw_str(&w, "none", NULL);
    jsonw_int(&w, "int", INT64_MIN);
    jsonw_num(&w, "num", 8);
    jsonw_bool(&w, "yes", 4);
    jsonw_null(&w, "null");
    jsonw_ints(&w, "crop", (const int64_t[]){1, -2}, 2);
    jsonw_open(&w, "in");
    jsonw_open_array(&w, "list");
    jsonw_open(&w, NULL);
    jsonw_close(&w);
    jsonw_str(&w, NULL, "x");
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_take(&w, "taken", json_true());
    jsonw_share(&w, "shared", shared);
    jsonw_hex(&w, "sha256", &digest);
    CHECK_OK(jsonw_finish(&w, &o, "a thing", &err), &err);
    char *text = json_text(o, 0, &err);
    assert_string_equal(
        text, "{\"z\":\"text\",\"none\":null,\"int\":-9223372036854775808,\"num\":8.0,\"yes\":true,\"null\":null,"
              "\"crop\":[1,-2],\"in\":{\"list\":[{},\"x\"]},\"taken\":true,\"shared\":\"s\",\"sha256\":"
              "\"ab00000000000000000000000000000000000000000000000000000000000000\"}");
    mem_free(text);
    json_decref(o);
    assert_string_equal(json_string_value(shared), "s");
    json_decref(shared);
    jsonw_begin_array(&w);
    jsonw_int(&w, NULL, 7);
    CHECK_OK(jsonw_finish(&w, &o, "a list", &err), &err);
    assert_int_equal(json_integer_value(json_array_get(o, 0)), 7);
    json_decref(o);
}

/* The first failure is the one that is reported, and nothing after it is written. */
static void writer_keeps_the_first_failure(void **state)
{
    (void)state;
    JsonWriter w;
    json_t *o;
    jsonw_begin(&w);
    jsonw_str(&w, "name", "caf\xe9");
    jsonw_open(&w, "in");
    jsonw_take(&w, "gone", NULL);
    jsonw_int(&w, "n", 1);
    jsonw_close(&w);
    CHECK_FAILS(jsonw_finish(&w, &o, "the clip's record", &err), ERR_FORMAT, "the clip's record: 'name' is not UTF-8",
                &err);
    assert_null(o);
    jsonw_begin(&w);
    jsonw_num(&w, "loss", NAN);
    CHECK_FAILS(jsonw_finish(&w, &o, "log", &err), ERR_FORMAT, "'loss'", &err);
    jsonw_begin(&w);
    jsonw_open_array(&w, "list");
    jsonw_take(&w, NULL, NULL);
    jsonw_close(&w);
    CHECK_FAILS(jsonw_finish(&w, &o, "log", &err), ERR_NOMEM, "an element", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_bad_json),
        cmocka_unit_test(small_numbers_and_marks),
        cmocka_unit_test(parses_members_alone),
        cmocka_unit_test(walks_over_text),
        cmocka_unit_test(parses_members_of_members),
        cmocka_unit_test(writes_text),
        cmocka_unit_test(reals_survive),
        cmocka_unit_test(files_and_lines),
        cmocka_unit_test(typed_members),
        cmocka_unit_test(yaml_scalars),
        cmocka_unit_test(yaml_structures),
        cmocka_unit_test(refuses_bad_yaml),
        cmocka_unit_test(yaml_bombs_are_bounded),
        cmocka_unit_test(writer_keeps_order_and_types),
        cmocka_unit_test(writer_keeps_the_first_failure),
    };
    return check_run_live("base_json", tests);
}
