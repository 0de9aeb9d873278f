/* Layout readers: what they find, what they refuse and with which words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "prep/layout/fashion.h"
#include "prep/layout/layout.h"
#include "prep/layout/metadata.h"
#include "prep/layout/pairs.h"

static void put(const char *root, const char *name, const char *text)
{
    Err err = {0};
    char *path = path_join(root, name, &err), *dir = path_dir(path, &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    mem_free(dir);
    mem_free(path);
}

static char *fresh(const char *name)
{
    Err err = {0};
    char *path = check_tmp_path(name);
    CHECK_OK(dir_make(path, &err), &err);
    return path;
}

static const LayoutInput *input(const char *root)
{
    static LayoutInput in;
    in = (LayoutInput){.root = root, .seed = 5};
    return &in;
}

static const Source *find(const SourceList *l, const char *id)
{
    for (int64_t i = 0; i < l->n; i++)
        if (strcmp(l->item[i].id, id) == 0)
            return &l->item[i];
    fail_msg("no source '%s'", id);
    return NULL;
}

static int has_warning(const Source *s, const char *code)
{
    size_t i;
    json_t *note;
    json_array_foreach (s->warnings, i, note)
        if (strcmp(json_string_value(json_object_get(note, "code")), code) == 0)
            return 1;
    return 0;
}

static void captions_are_cleaned(void **state)
{
    Err err = {0};
    Source s = {0};
    char *text = caption_clean("\xef\xbb\xbf  A red\t\n dress. \r\n", 21, &err);
    (void)state;
    assert_string_equal(text, "A red dress.");
    mem_free(text);
    CHECK_OK(source_add_caption(&s, " \n ", 3, &err), &err);
    assert_int_equal(s.n_captions, 0);
    assert_null(s.reject_code);
    CHECK_OK(source_add_caption(&s, "\xff\xfe", 2, &err), &err);
    assert_string_equal(s.reject_code, "bad_caption");
    mem_free(s.reject_code);
    mem_free(s.reject_text);
}

static void ids(void **state)
{
    Err err = {0};
    char longest[SOURCE_ID_MAX + 2];
    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[SOURCE_ID_MAX] = 0;
    CHECK_OK(source_id_check(longest, &err), &err);
    CHECK_OK(source_id_check("A1P+0ZhMAiS - \xc3\xa9t\xc3\xa9", &err), &err);
    longest[SOURCE_ID_MAX] = 'a';
    longest[SOURCE_ID_MAX + 1] = 0;
    CHECK_FAILS(source_id_check(longest, &err), ERR_FORMAT, "at most 200", &err);
    CHECK_FAILS(source_id_check("", &err), ERR_FORMAT, "empty id", &err);
    CHECK_FAILS(source_id_check("a/b", &err), ERR_FORMAT, "'/'", &err);
    CHECK_FAILS(source_id_check("a..b", &err), ERR_FORMAT, "'..'", &err);
    CHECK_FAILS(source_id_check("a\nb", &err), ERR_FORMAT, "0x0a", &err);
    CHECK_FAILS(source_id_check("\xff", &err), ERR_FORMAT, "UTF-8", &err);
    CHECK_FAILS(source_id_check(".hidden", &err), ERR_FORMAT, "'.'", &err);
    static const char *const ids[][2] = {{"train/A1P+0ZhMAiS.mp4", "train_A1P+0ZhMAiS"},
                                         {"a..b#1.MPEG", "a._b_1"},
                                         {".x/a\tb.m2ts", "_x_a_b"},
                                         {"a.mp4.d", "a.mp4.d"}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char *id = source_id_from_path(ids[i][0], &err);
        assert_string_equal(id, ids[i][1]);
        CHECK_OK(source_id_check(id, &err), &err);
        mem_free(id);
    }
    char path[400];
    memset(path, 0xc3, 399); /* two bytes a letter: the cut lies between letters */
    for (int i = 0; i < 398; i += 2)
        memcpy(path + i, "\xc3\xa9", 2);
    path[398] = 0;
    char *one = source_id_from_path(path, &err);
    path[396] = 'x';
    path[397] = 'y';
    char *two = source_id_from_path(path, &err);
    CHECK_OK(source_id_check(one, &err), &err);
    assert_true(strlen(one) <= SOURCE_ID_MAX - 8 && strcmp(one, two) != 0 && strncmp(one, two, 170) == 0);
    mem_free(one);
    mem_free(two);
}

static void refuses_line(const char *line, const char *part)
{
    Err err = {0};
    SourceList l = {0};
    int rc = metadata_parse_line(&l, line, (int64_t)strlen(line), "m line 7", &err);
    if (rc >= 0 || !strstr(err.msg, part) || !strstr(err.msg, "m line 7"))
        fail_msg("%s: %d '%s', expected '%s'", line, rc, err.msg, part);
    source_list_fini(&l);
}

static void metadata_lines(void **state)
{
    Err err = {0};
    SourceList l = {0};
    const char *good = "{\"file_name\": \"a/b.mp4\", \"prompt\": [\" one \", \"two\"], \"category\": \"Dresses\", "
                       "\"fabric\": \"silk\","
                       " \"attributes\": {\"season\": [\"summer\"]}, \"split\": \"valid\", \"license\": \"mine\", "
                       "\"start_s\": 1.5, \"fps\": 29.97}";
    (void)state;
    CHECK_OK(metadata_parse_line(&l, good, (int64_t)strlen(good), "m line 1", &err), &err);
    CHECK_OK(metadata_parse_line(&l, "  \r", 3, "m line 2", &err), &err);
    assert_int_equal(l.n, 1);
    const Source *s = &l.item[0];
    assert_string_equal(s->id, "a_b");
    assert_string_equal(s->path, "a/b.mp4");
    assert_int_equal(s->n_captions, 2);
    assert_string_equal(s->captions[0], "one");
    assert_string_equal(s->split, "val");
    assert_string_equal(s->category, "Dresses");
    assert_string_equal(json_string_value(json_object_get(s->attributes, "fabric")), "silk");
    assert_int_equal(json_array_size(json_object_get(s->attributes, "season")), 1);
    assert_string_equal(json_string_value(json_object_get(s->extra, "license")), "mine");
    assert_int_equal(s->rate.num, 30000);
    assert_int_equal(s->rate.den, 1001);
    assert_int_equal(s->start.num, 1500000);
    source_list_fini(&l);

    refuses_line("{\"text\": \"x\"}", "file_name");
    refuses_line("{\"file_name\": \"a.mp4\"}", "no caption");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": 5}", "'text' is a number, expected a string");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": [1]}", "item 0");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"prompt\": \"y\"}", "'text' and under 'prompt'");
    refuses_line("{\"file_name\": \"../a.mp4\", \"text\": \"x\"}", "..");
    refuses_line("{\"file_name\": \"/etc/a.mp4\", \"text\": \"x\"}", "/etc/a.mp4");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"id\": \"../x\"}", "'..'");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"split\": \"holdout\"}",
                 "'split' is 'holdout', expected train, val (also");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"style\": 3}", "'style'");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"attributes\": []}", "not an object");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"start_s\": 2, \"end_s\": 1}", "start_s");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"fps\": 0}", "'fps'");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"crop\": [0,0,1]}",
                 "'crop' is not an array of 4 numbers");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"crop\": [0,0,1,0]}", "'crop' has no area");
    refuses_line("{\"file_name\": \"a.mp4\", \"path\": \"b.mp4\", \"text\": \"x\"}",
                 "under 'file_name' and under 'path'");
    refuses_line("{\"file_name\": \"a.mp4\", \"text\": \"x\", \"sha256\": \"12\"}", "sha256");
    refuses_line("[1]", "not a JSON object");
    refuses_line("{\"file_name\": ", "m line 7");
}

static void metadata_folder(void **state)
{
    Err err = {0};
    SourceList l = {0};
    const Layout *layout;
    char why[256], *root = fresh("meta");
    (void)state;
    put(root, "metadata.jsonl",
        "{\"file_name\": \"b.mp4\", \"text\": \"b\"}\n\n{\"file_name\": \"a.mp4\", \"text\": \"\"}");
    put(root, "b.mp4", "not looked at");
    CHECK_OK(layout_choose(input(root), NULL, &layout, why, sizeof why, &err), &err);
    assert_ptr_equal(layout, &layout_metadata);
    assert_non_null(strstr(why, "metadata.jsonl"));
    CHECK_OK(layout_read(layout, input(root), &l, &err), &err);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].id, "b"); /* file order, not name order */
    assert_int_equal(l.item[1].n_captions, 0);
    source_list_fini(&l);

    put(root, "metadata.jsonl",
        "{\"file_name\": \"a.mp4\", \"text\": \"x\"}\n{\"file_name\": \"b.mp4\", \"text\": \"x\", \"id\": \"a\"}\n");
    CHECK_OK(layout_read(layout, input(root), &l, &err), &err); /* the given id stays, the other makes way */
    assert_string_equal(l.item[1].id, "a");
    assert_true(strncmp(l.item[0].id, "a-", 2) == 0 && strlen(l.item[0].id) == 10);
    assert_true(has_warning(&l.item[0], "id_changed"));
    source_list_fini(&l);
    put(root, "metadata.jsonl",
        "{\"file_name\": \"a.mp4\", \"text\": \"x\"}\n{\"file_name\": \"a.mp4\", \"text\": \"y\", \"start_s\": 3}\n");
    CHECK_FAILS(
        layout_read(layout, input(root), &l, &err), ERR_FORMAT,
        "'a.mp4' is used twice, by metadata.jsonl line 1 and by metadata.jsonl line 2: give each an \"id\" of its own",
        &err);
    source_list_fini(&l);
    put(root, "metadata.jsonl",
        "{\"file_name\": \"a.mp4\", \"text\": \"x\", \"id\": \"a\"}\n"
        "{\"file_name\": \"b.mp4\", \"text\": \"x\", \"id\": \"a\"}\n");
    CHECK_FAILS(layout_read(layout, input(root), &l, &err), ERR_FORMAT,
                "by metadata.jsonl line 1 and by metadata.jsonl line 2", &err);
    source_list_fini(&l);

    put(root, "captions_app.json", "{}");
    CHECK_FAILS(layout_choose(input(root), NULL, &layout, why, sizeof why, &err), ERR_USAGE, "looks like two layouts",
                &err);
    CHECK_OK(layout_choose(input(root), "metadata", &layout, why, sizeof why, &err), &err);
    CHECK_FAILS(layout_choose(input(root), "metadat", &layout, why, sizeof why, &err), ERR_USAGE, "perhaps 'metadata'",
                &err);
    CHECK_FAILS(layout_choose(input(check_tmp_path("nowhere")), NULL, &layout, why, sizeof why, &err), ERR_NOTFOUND,
                "does not exist", &err);
}

static void pairs_folder(void **state)
{
    Err err = {0};
    SourceList l = {0};
    const Layout *layout;
    char why[256], *root = fresh("pairs");
    (void)state;
    CHECK_FAILS(layout_choose(input(root), NULL, &layout, why, sizeof why, &err), ERR_NOTFOUND, "pictures or videos",
                &err);
    put(root, "test/z.mp4", "v");
    put(root, "test/z.txt", "A green coat.\r\nIt is long.\n");
    put(root, "a.MOV", "v");
    put(root, "a.txt", "\xff");
    put(root, "-dash-.webm", "v");
    put(root, ".hidden.mp4", "v");
    put(root, "notes.md", "v");
    CHECK_OK(layout_choose(input(root), NULL, &layout, why, sizeof why, &err), &err);
    assert_ptr_equal(layout, &layout_pairs);
    CHECK_OK(layout_read(layout, input(root), &l, &err), &err);
    assert_int_equal(l.n, 3);
    assert_string_equal(l.item[0].id, "-dash-");
    assert_true(has_warning(&l.item[0], "no_caption_file"));
    assert_string_equal(l.item[1].reject_code, "bad_caption");
    assert_string_equal(l.item[2].id, "test_z");
    assert_string_equal(l.item[2].captions[0], "A green coat. It is long.");
    assert_string_equal(l.item[2].split, "test");
    source_list_fini(&l);
    put(root, "a.mkv", "v");
    put(root, "test_z.mp4", "v");
    CHECK_OK(layout_read(layout, input(root), &l, &err), &err);
    assert_int_equal(l.n, 5);
    assert_string_equal(l.item[1].id, "a"); /* a.MOV */
    assert_true(strncmp(l.item[2].id, "a-", 2) == 0 && has_warning(&l.item[2], "id_changed"));
    assert_string_equal(l.item[3].id, "test_z");
    assert_true(strncmp(l.item[4].id, "test_z-", 7) == 0);
    source_list_fini(&l);
}

static const char templates_text[] =
    "{\"gender\": [\"the lady\", \"the person\", \"she\"],"
    " \"0\": [\"<Gender> stands still.\", \"<Gender> is standing.\"],"
    " \"7\": [\"<Gender> turns right from the front to the side. then <Gender> STOPS.\"]}";

static void fashion_formats(void **state)
{
    Err err = {0};
    FrameCounts c = {0};
    const char *counts = "A1P+0ZhMAiS 352\n91+20mY7UJS\t341\n\n91hECpvrRSS 298\r\n";
    (void)state;
    CHECK_OK(fashion_parse_counts(&c, counts, (int64_t)strlen(counts), "t", &err), &err);
    assert_int_equal(c.n, 3);
    assert_string_equal(c.item[1].video, "91+20mY7UJS");
    assert_int_equal(c.item[2].frames, 298);
    fashion_counts_fini(&c);
    CHECK_FAILS(fashion_parse_counts(&c, "a 5\nb x\n", 8, "t", &err), ERR_FORMAT, "t line 2", &err);
    fashion_counts_fini(&c);
    CHECK_FAILS(fashion_parse_counts(&c, "../a 5\n", 7, "t", &err), ERR_FORMAT, "t line 1", &err);
    fashion_counts_fini(&c);

    json_t *templates;
    CHECK_OK(json_parse(&templates, templates_text, (int64_t)strlen(templates_text), "templates", &err), &err);
    SourceList l = {0};
    Source *s;
    CHECK_OK(source_list_add(&l, &s, &err), &err);
    s->id = mem_strdup("A1P+0ZhMAiS", &err);
    const char *labels = "45 120 7\n0 44 0\n120 126 3\r\n127 351 22"; /* no final newline: the label is 22, not 2 */
    CHECK_OK(fashion_parse_segments(s, labels, (int64_t)strlen(labels), templates, 3, "labels", &err), &err);
    assert_int_equal(s->n_segments, 2); /* 120..126 is too short, 22 says nothing */
    assert_int_equal(s->segments[0].start, 0);
    assert_non_null(strstr(s->segments[0].text, "stand"));
    const char *turn = s->segments[1].text;
    assert_true(turn[0] == 'T' || turn[0] == 'S'); /* The lady, The person, She */
    assert_non_null(strstr(turn, " turns right from the front to the side. Then "));
    assert_non_null(strstr(turn, " stops."));
    assert_null(s->reject_code);
    assert_null(s->warnings);
    CHECK_OK(fashion_parse_segments(s, "0 50 9", 6, templates, 3, "labels", &err), &err);
    assert_true(has_warning(s, "unknown_label"));
    CHECK_OK(fashion_parse_segments(s, "200 300 She is swinging to the right.\n", 38, NULL, 3, "free", &err), &err);
    assert_string_equal(s->segments[2].text, "She is swinging to the right.");
    CHECK_OK(fashion_parse_segments(s, "9 5 x\n", 6, NULL, 3, "free", &err), &err);
    assert_string_equal(s->reject_code, "bad_segments");
    json_decref(templates);
    source_list_fini(&l);
}

static void fashion_keys(void **state)
{
    Err err = {0};
    json_t *o;
    const char *text = "{\"A1P+0ZhMAiS.mp4\": 1, \"91+20mY7UJS\": 2, \"fashion_91hECpvrRSS_x\": 3}";
    (void)state;
    CHECK_OK(json_parse(&o, text, (int64_t)strlen(text), "keys", &err), &err);
    assert_int_equal(json_integer_value(fashion_lookup(o, "A1P+0ZhMAiS")), 1);
    assert_int_equal(json_integer_value(fashion_lookup(o, "91+20mY7UJS.mp4")), 2);
    assert_int_equal(json_integer_value(fashion_lookup(o, "91hECpvrRSS")), 3);
    assert_null(fashion_lookup(o, "a1P+0ZhMAiS"));
    assert_null(fashion_lookup(o, "other"));
    assert_null(fashion_lookup(NULL, "other"));
    json_decref(o);
}

static void fashion_folder(void **state)
{
    Err err = {0};
    SourceList l = {0}, again = {0};
    const Layout *layout;
    char why[256], *root = fresh("fashion");
    (void)state;
    put(root, "train_frame_num.txt", "A1P+0ZhMAiS 2\n91+20mY7UJS\t341\n");
    put(root, "test_frame_num.txt", "91hECpvrRSS 298\r\n");
    put(root, "captions_app.json",
        "{\"A1P+0ZhMAiS\": [\"A sleeveless dress.\", \"This dress has no sleeves.\"],"
        " \"91+20mY7UJS\": [\"Long sleeves.\"], \"91hECpvrRSS\": \"A single string instead of an array.\"}");
    put(root, "caption_motion_template.json", templates_text);
    put(root, "categories.json", "{\"A1P+0ZhMAiS\": \"Dresses\"}");
    put(root, "action_label/A1P+0ZhMAiS.txt", "0 44 0\n45 120 7\n120 126 3\n127 351 22");
    put(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/000.png", "p");
    put(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/001.png", "p");
    put(root, "FashionDataset_frames_crop/A1P+0ZhMAiS/002.png", "p");
    put(root, "videos/91+20mY7UJS.mp4", "v");
    put(root, "videos/extra.mp4", "v");
    CHECK_OK(layout_choose(input(root), NULL, &layout, why, sizeof why, &err), &err);
    assert_ptr_equal(layout, &layout_fashion);
    CHECK_OK(layout_read(layout, input(root), &l, &err), &err);
    CHECK_OK(layout_read(layout, input(root), &again, &err), &err);
    assert_int_equal(l.n, 4);
    const Source *a = find(&l, "A1P+0ZhMAiS"), *b = find(&l, "91+20mY7UJS"), *c = find(&l, "91hECpvrRSS"),
                 *d = find(&l, "extra");
    assert_int_equal(a->kind, SOURCE_FRAMES);
    assert_string_equal(a->path, "FashionDataset_frames_crop/A1P+0ZhMAiS");
    assert_int_equal(a->n_captions, 2);
    assert_int_equal(a->n_segments, 2);
    assert_string_equal(a->segments[1].text, find(&again, "A1P+0ZhMAiS")->segments[1].text);
    assert_string_equal(a->category, "Dresses");
    assert_true(has_warning(a, "frame_count"));
    assert_string_equal(b->path, "videos/91+20mY7UJS.mp4");
    assert_int_equal(b->kind, SOURCE_VIDEO);
    assert_true(has_warning(b, "no_motion"));
    assert_null(b->category);
    assert_string_equal(c->reject_code, "missing");
    assert_string_equal(c->split, "test");
    assert_string_equal(c->captions[0], "A single string instead of an array.");
    assert_true(has_warning(d, "unlisted"));
    assert_true(has_warning(d, "no_app_caption"));
    source_list_fini(&l);
    source_list_fini(&again);
    put(root, "test_frame_num.txt", "A1P+0ZhMAiS 298\n");
    CHECK_FAILS(layout_read(layout, input(root), &l, &err), ERR_FORMAT,
                "train_frame_num.txt entry 1 and by test_frame_num.txt entry 1", &err);
    source_list_fini(&l);
}

/* A sentence joins when half of it, or a second of it, lies in the window. */
static void window_captions(void **state)
{
    Err err = {0};
    Source s = {0};
    char **list;
    int64_t n;
    (void)state;
    CHECK_OK(source_add_segment(&s, 150, 350, "late", 4, &err), &err);   /* 5 .. 11.7 s */
    CHECK_OK(source_add_segment(&s, 0, 29, "start", 5, &err), &err);     /* 0 .. 1 s */
    CHECK_OK(source_add_segment(&s, 165, 350, "hardly", 6, &err), &err); /* 5.5 .. 11.7 s: half a second of six */
    CHECK_OK(source_add_segment(&s, 174, 185, "half", 4, &err), &err);   /* 5.8 .. 6.2 s */
    CHECK_OK(source_window_captions(&s, 30, 0, 6, &list, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_string_equal(list[0], "start. late. half");
    captions_free(&list, n);
    CHECK_OK(source_add_caption(&s, "A coat.", 7, &err), &err);
    CHECK_OK(source_add_caption(&s, "It is long.", 11, &err), &err);
    CHECK_OK(source_window_captions(&s, 30, 20, 26, &list, &n, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(list[1], "It is long.");
    captions_free(&list, n);
    CHECK_OK(source_window_captions(&s, 30, 0, 1, &list, &n, &err), &err);
    assert_string_equal(list[1], "It is long. start");
    captions_free(&list, n);
    CHECK_OK(source_add_caption(&s, "A hat (\u201cred\u201d)", 17, &err), &err);
    CHECK_OK(source_add_caption(&s, "\u201cA hat.\u201d", 12, &err), &err);
    CHECK_OK(source_window_captions(&s, 30, 0, 1, &list, &n, &err), &err);
    assert_string_equal(list[2], "A hat (\u201cred\u201d). start");
    assert_string_equal(list[3], "\u201cA hat.\u201d start");
    captions_free(&list, n);
    captions_free(&s.captions, s.n_captions);
    for (int64_t i = 0; i < s.n_segments; i++)
        mem_free(s.segments[i].text);
    mem_free(s.segments);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(captions_are_cleaned), cmocka_unit_test(ids),
                                       cmocka_unit_test(metadata_lines),       cmocka_unit_test(metadata_folder),
                                       cmocka_unit_test(pairs_folder),         cmocka_unit_test(fashion_formats),
                                       cmocka_unit_test(fashion_keys),         cmocka_unit_test(fashion_folder),
                                       cmocka_unit_test(window_captions)};
    return check_run_live("prep layout", tests);
}
