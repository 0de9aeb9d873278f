/* The layouts beside metadata.jsonl, Fashion-Text2Video and pairs: what is found, in which order,
 * and what is refused with its line. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "common/base/csv.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/layout/layout.h"
#include "prep/layout/lists.h"
#include "prep/layout/metadata.h"

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void put(const char *root, const char *name, const char *text)
{
    Err err = {0};
    char *path = at(root, name), *dir = path_dir(path, &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
    mem_free(dir);
}

static LayoutInput input = {.seed = 1};

static int read_folder(const char *root, const char *layout_name, SourceList *l, Err *err)
{
    const Layout *layout;
    char why[256];
    input.root = root;
    input.log = NULL;
    int rc = layout_choose(&input, NULL, &layout, why, sizeof why, err);
    if (rc < 0)
        return rc;
    assert_string_equal(layout->name, layout_name);
    assert_true(strlen(why) > 0);
    return layout_read(layout, &input, l, err);
}

static void is(const Source *s, const char *id, const char *path, const char *split, const char *caption)
{
    assert_string_equal(s->id, id);
    assert_string_equal(s->path, path);
    assert_string_equal(s->split, split);
    if (caption)
        assert_string_equal(s->captions[0], caption);
    else
        assert_int_equal(s->n_captions, 0);
}

static void refuses(const char *root, int code, const char *part)
{
    Err err = {0};
    SourceList l = {0};
    const Layout *layout;
    char why[256];
    input.root = root;
    input.log = NULL;
    int rc = layout_choose(&input, NULL, &layout, why, sizeof why, &err);
    if (rc == 0)
        rc = layout_read(layout, &input, &l, &err);
    CHECK_FAILS(rc, code, part, &err);
    source_list_fini(&l);
}

static void lists(void **state)
{
    char *root = check_tmp_path("lists");
    Err err = {0};
    SourceList l = {0};
    (void)state;
    put(root, "videos.txt",
        "\xef\xbb\xbf"
        "a.mp4\r\nsub/b c.mp4\n\n");
    put(root, "prompts.txt", "A dress.\nA  coat.\n");
    CHECK_OK(read_folder(root, "lists", &l, &err), &err);
    assert_int_equal(l.n, 2);
    is(&l.item[0], "a", "a.mp4", "train", "A dress.");
    is(&l.item[1], "sub_b c", "sub/b c.mp4", "train", "A coat.");
    source_list_fini(&l);
    put(root, "prompts.txt", "A dress.\nA coat.\nA hat.\n");
    refuses(root, ERR_FORMAT, "videos.txt has 2 lines and prompts.txt has 3: from line 3 on");
    put(root, "prompts.txt", "A dress.\n\nA coat.\n");
    refuses(root, ERR_FORMAT, "prompts.txt line 2 is blank");
    put(root, "prompts.txt", "A dress.\nA coat.\n");
    put(root, "captions.txt", "x\ny\n");
    refuses(root, ERR_USAGE, "holds prompts.txt and captions.txt");
    unlink(at(root, "prompts.txt"));
    CHECK_OK(read_folder(root, "lists", &l, &err), &err); /* finetrainers' names */
    source_list_fini(&l);
    put(root, "metadata.jsonl", "{\"file_name\": \"a.mp4\", \"text\": \"x\"}\n");
    refuses(
        root, ERR_USAGE,
        "looks like two layouts: metadata (it holds metadata.jsonl) and lists (it holds videos.txt and captions.txt)");
    put(root, "metadata.csv", "file_name,text\na.mp4,x\n");
    refuses(root, ERR_USAGE, "holds metadata.jsonl and metadata.csv");
}

static void csv(void **state)
{
    char *root = check_tmp_path("csv");
    Err err = {0};
    SourceList l = {0};
    (void)state;
    put(root, "clips.csv",
        "\xef\xbb\xbfpath,text,fps,num_frames,category\r\n"
        "a.mp4,\"A \"\"red\"\" dress,\r\nlong.\",30,48,Dresses\r\n"
        "b.mp4,,,,\r\n");
    CHECK_OK(read_folder(root, "table", &l, &err), &err);
    assert_int_equal(l.n, 2);
    is(&l.item[0], "a", "a.mp4", "train", "A \"red\" dress, long.");
    assert_string_equal(l.item[0].category, "Dresses");
    assert_int_equal(l.item[0].rate.num, 30);
    assert_string_equal(json_string_value(json_object_get(l.item[0].extra, "num_frames")), "48");
    is(&l.item[1], "b", "b.mp4", "train", NULL);
    assert_string_equal(l.item[1].where, "clips.csv line 4");
    source_list_fini(&l);
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"path,text\na.mp4,\"x\nb.mp4,y\n", "clips.csv line 2: a quote is never closed"},
        {"path,text\na.mp4,x\nb.mp4,y,z\n", "clips.csv line 3: 3 fields, the header has 2"},
        {"path,text\na.mp4,x\"y\n", "clips.csv line 2: a quote inside"},
        {"path,text\na.mp4,\"x\"y\n", "clips.csv line 2: text after a closing quote"},
        {"path,text,path\na.mp4,x,y\n", "names 'path' twice"},
        {"path,text\na.mp4,\xff\n", "not UTF-8"},
        {"path;text\na.mp4;x\n",
         "clips.csv line 1: the header is the one field 'path;text', its names apart by ';'; commas are expected"},
        {"path,text,Text \na.mp4,x,y\n", "names 'text' twice"},
        {"path,text,segments\na.mp4,x,[1\n", "clips.csv line 2: 'segments' as JSON"},
        {"path,text,end_s\na.mp4,x,-1\n", "clips.csv line 2: 'end_s' is -1, expected seconds after 'start_s' 0"},
        {"path,text,fabric,attributes\na.mp4,x,silk,\"{\"\"fabric\"\": \"\"wool\"\"}\"\n",
         "'fabric' is given twice with different values"},
        {"path,note\na.mp4,x\n", "clips.csv line 2: no caption"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put(root, "clips.csv", wrong[i].text);
        refuses(root, ERR_FORMAT, wrong[i].part);
    }
    static const char nul[] = "path,text\na.mp4,x\0y\n";
    CHECK_FAILS(metadata_parse_csv(&l, nul, sizeof nul - 1, "n.csv", &err), ERR_FORMAT, "n.csv line 2: a NUL byte",
                &err);
    source_list_fini(&l);
    put(root, "clips.csv", "path,text\n../a.mp4,x\n");
    refuses(root, ERR_FORMAT, "clips.csv line 2: 'path'");
    put(root, "clips.csv",
        " Path ,TEXT,segments,Fps\na.mp4,A dress.,\"[{\"\"start\"\": 1, \"\"end\"\": 3, \"\"unit\"\": \"\"s\"\", "
        "\"\"text\"\": \"\"She turns.\"\"}]\",25\n");
    CHECK_OK(read_folder(root, "table", &l, &err), &err);
    assert_int_equal(l.item[0].n_segments, 1);
    assert_int_equal(l.item[0].rate.num, 25);
    assert_int_equal(json_object_size(l.item[0].extra), 0);
    source_list_fini(&l);
}

static void json_files(void **state)
{
    char *root = check_tmp_path("list"), *map = check_tmp_path("map");
    Err err = {0};
    SourceList l = {0};
    (void)state;
    put(root, "data.json",
        "[{\"path\": \"v/a.mp4\", \"cap\": [\"One.\", \"Two.\"], \"fps\": 25, \"cut\": [50, 250], \"crop\": [10, 110, "
        "20, 220],"
        " \"resolution\": {\"height\": 1}}]");
    CHECK_OK(read_folder(root, "table", &l, &err), &err);
    is(&l.item[0], "v_a", "v/a.mp4", "train", "One.");
    assert_int_equal(l.item[0].n_captions, 2);
    assert_true(l.item[0].crop[0] == 10 && l.item[0].crop[1] == 20 && l.item[0].crop[2] == 100 &&
                l.item[0].crop[3] == 200);
    assert_true(l.item[0].start.num == 50 * l.item[0].start.den / 25);
    source_list_fini(&l);
    put(root, "data.json", "[{\"path\": \"a.mp4\", \"text\": \"x\"}, 7]");
    refuses(root, ERR_FORMAT, "data.json item 1: not a JSON object");
    unlink(at(root, "data.json"));
    put(root, "train.jsonl",
        "{\"video_path\": \"a.mp4\", \"caption\": \"x\", \"crop\": [1, 2, 30, 40], \"segments\": "
        "[{\"start\": 0.5, \"end\": 2, \"unit\": \"s\", \"text\": \"She turns.\"}]}\n");
    CHECK_OK(read_folder(root, "table", &l, &err), &err);
    char **captions;
    int64_t n;
    CHECK_OK(source_window_captions(&l.item[0], 30, 0, 6, &captions, &n, &err), &err);
    assert_string_equal(captions[0], "x. She turns.");
    captions_free(&captions, n);
    CHECK_OK(source_window_captions(&l.item[0], 30, 4, 10, &captions, &n, &err), &err);
    assert_string_equal(captions[0], "x");
    captions_free(&captions, n);
    assert_int_equal(l.item[0].crop[3], 40);
    source_list_fini(&l);
    put(map, "captions.json", "{\"a.mp4\": \"A.\", \"b.mp4\": [\"B.\", \"Bee.\"]}");
    CHECK_OK(read_folder(map, "captions", &l, &err), &err);
    is(&l.item[0], "a", "a.mp4", "train", "A.");
    assert_int_equal(l.item[1].n_captions, 2);
    source_list_fini(&l);
    put(map, "captions.json", "{\"a.mp4\": 5}");
    refuses(map, ERR_FORMAT, "captions.json 'a.mp4': neither a string");
}

static void trees(void **state)
{
    char *two = check_tmp_path("two"), *ubc = check_tmp_path("ubc"), *frames = check_tmp_path("frames");
    Err err = {0};
    SourceList l = {0};
    (void)state;
    put(two, "videos/s/x.mp4", "v");
    put(two, "videos/y.mp4", "v");
    put(two, "labels/s/x.txt", "A skirt.");
    CHECK_OK(read_folder(two, "trees", &l, &err), &err);
    is(&l.item[0], "s_x", "videos/s/x.mp4", "train", "A skirt.");
    is(&l.item[1], "y", "videos/y.mp4", "train", NULL);
    source_list_fini(&l);

    put(ubc, "train/A1P+0ZhMAiS.mp4", "v");
    put(ubc, "train/A1P+0ZhMAiS.txt", "A dress.");
    put(ubc, "test/91+20mY7UJS.mp4", "v");
    put(ubc, "valid/91hECpvrRSS.mp4/frame_0.png", "p"); /* DreamPose: a folder whose name ends in .mp4 */
    put(ubc, "valid/91hECpvrRSS.mp4/frame_1.png", "p");
    put(ubc, "valid/91hECpvrRSS.mp4/frame_1_densepose.npy", "d");
    put(ubc, "train_frames/91D23ZVV6NS/000.png", "p");
    put(ubc, "train/scenes/17/images/000.png", "p");
    CHECK_OK(read_folder(ubc, "ubc", &l, &err), &err);
    assert_int_equal(l.n, 5);
    is(&l.item[0], "91+20mY7UJS", "test/91+20mY7UJS.mp4", "test", NULL);
    is(&l.item[1], "A1P+0ZhMAiS", "train/A1P+0ZhMAiS.mp4", "train", "A dress.");
    is(&l.item[2], "17", "train/scenes/17/images", "train", NULL);
    is(&l.item[3], "91D23ZVV6NS", "train_frames/91D23ZVV6NS", "train", NULL);
    is(&l.item[4], "91hECpvrRSS", "valid/91hECpvrRSS.mp4", "val", NULL);
    assert_int_equal(l.item[4].kind, SOURCE_FRAMES);
    source_list_fini(&l);

    put(frames, "walk/7.png", "p");
    put(frames, "walk/10.png", "p");
    put(frames, "walk.txt", "She walks.");
    CHECK_OK(read_folder(frames, "pairs", &l, &err), &err);
    assert_int_equal(l.n, 1);
    is(&l.item[0], "walk", "walk", "train", "She walks.");
    source_list_fini(&l);
}

/* ---- what is not read is reported --------------------------------------------------------------- */
static char told[4096];
static void hear(void *user, LogLevel level, const char *line)
{
    (void)user, (void)level;
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", line);
}

static void read_and_tell(const char *root, const char *name, SourceList *l, const char *want)
{
    Err err = {0};
    const Log log = {.write = hear, .level = LOG_WARN};
    const Layout *layout;
    char why[256];
    told[0] = 0;
    input.root = root;
    input.log = &log;
    CHECK_OK(layout_choose(&input, NULL, &layout, why, sizeof why, &err), &err);
    assert_string_equal(layout->name, name);
    CHECK_OK(layout_read(layout, &input, l, &err), &err);
    assert_string_equal(told, want);
}

static void left_out(void **state)
{
    char *ubc = check_tmp_path("left-ubc"), *meta = check_tmp_path("left-meta"), *pairs = check_tmp_path("left-pairs"),
         *two = check_tmp_path("left-two"), *t2v = check_tmp_path("left-t2v");
    SourceList l = {0};
    (void)state;
    put(ubc, "train/A1P+0ZhMAiS.mp4", "v");
    put(ubc, "train/91+20mY7UJS.mp4", "v");
    put(ubc, "train_dwpose/A1P+0ZhMAiS.mp4", "v");
    put(ubc, "test-densepose/91M3UFSKn8S/000.png", "p");
    put(ubc, "train_frames/A1P+0ZhMAiS/000.png", "p");
    put(ubc, "train_frames/91D23ZVV6NS/000.png", "p");
    put(ubc, "test/91hECpvrRSS.txt", "A lost text.");
    put(ubc, "train/91+20mY7UJS.txt", "A dress.");
    read_and_tell(
        ubc, "ubc", &l,
        "folders of pictures not read, since their clips are there as videos too: 1, such as train_frames/A1P+0ZhMAiS\n"
        "text files without a video: 1, such as test/91hECpvrRSS.txt\n"
        "poses and masks, not read: 2, such as test-densepose/91M3UFSKn8S, train_dwpose/A1P+0ZhMAiS.mp4\n");
    assert_int_equal(l.n, 3);
    is(&l.item[0], "91+20mY7UJS", "train/91+20mY7UJS.mp4", "train", "A dress.");
    is(&l.item[2], "91D23ZVV6NS", "train_frames/91D23ZVV6NS", "train", NULL);
    source_list_fini(&l);

    put(meta, "metadata.csv", "file_name,text\na.mp4,A.\n");
    put(meta, "a.mp4", "v");
    put(meta, "b.mpg", "v");
    put(meta, "c/00.png", "v");
    put(meta, "d.xyz", "?");
    put(meta, "README", "?");
    read_and_tell(meta, "metadata", &l,
                  "videos and folders of pictures that no list names and that are not read: 2, such as b.mpg, c\n"
                  "files whose names are not those of videos, not read: 1, such as d.xyz\n");
    source_list_fini(&l);

    put(pairs, "a.flv", "v");
    put(pairs, "a.txt", "A.");
    put(pairs, "b.m2ts", "v");
    put(pairs, "c.3GP", "v");
    put(pairs, "x.tmp", "v");
    put(pairs, "prompts.jsonl", "{}");
    put(pairs, "train.parquet", "PAR1");
    put(pairs, "c.TXT", "C.");
    put(pairs, "walk/img00001.jpg", "p");
    put(pairs, "walk/img00002.jpg", "p");
    put(pairs, "run/frame-0.png", "p");
    put(pairs, "run/frame-1.png", "p");
    put(pairs, "album/dress1.jpg", "p");
    put(pairs, "album/coat2.jpg", "p");
    put(pairs, "one/cover7.png", "p");
    put(pairs, "pic/0001.webp", "p");
    put(pairs, "all_dwpose/a.mp4", "v");
    put(pairs, "both/000.png", "p");
    put(pairs, "both/thumb1.png", "p");
    read_and_tell(
        pairs, "pairs", &l,
        "poses and masks, not read: 1, such as all_dwpose/a.mp4\n"
        "tables that are not read (only metadata.jsonl, .json or .csv, and one at the root that names files, are): "
        "1, such as prompts.jsonl\n"
        "Parquet tables, which are not read (write them as metadata.jsonl): 1, such as train.parquet\n"
        "files whose names are not those of videos, not read: 2, such as pic/0001.webp, x.tmp\n");
    assert_int_equal(l.n, 6);
    is(&l.item[0], "a", "a.flv", "train", "A.");
    is(&l.item[2], "both", "both", "train", NULL);
    is(&l.item[3], "c", "c.3GP", "train", "C.");
    is(&l.item[4], "run", "run", "train", NULL);
    is(&l.item[5], "walk", "walk", "train", NULL);
    source_list_fini(&l);

    put(two, "videos/x.mp4", "v");
    put(two, "labels/x.txt", "A skirt.");
    put(two, "labels/y.txt", "A lost text.");
    read_and_tell(two, "trees", &l, "labels without a video: 1, such as y.txt\n");
    source_list_fini(&l);

    put(t2v, "captions_app.json", "{\"A1P+0ZhMAiS.mp4\": \"A.\", \"91+20mY7UJS\": \"B.\"}");
    put(t2v, "videos/A1P+0ZhMAiS.mp4", "v");
    put(t2v, "action_label/A1P+0ZhMAiS.txt", "0 44 0\n");
    read_and_tell(t2v, "fashion-t2v", &l,
                  "caption_motion_template.json is missing: the labels in action_label/ cannot become sentences\n"
                  "texts of captions_app.json without a video: 1, such as 91+20mY7UJS\n");
    source_list_fini(&l);
}

static void metadata_of_splits(void **state)
{
    char *root = check_tmp_path("splits"), *lone = check_tmp_path("lone");
    SourceList l = {0};
    (void)state;
    put(root, "train/metadata.jsonl",
        "{\"file_name\": \"a.mp4\", \"text\": \"A.\"}\n{\"file_name\": \"c.mp4\", \"text\": \"C.\", \"split\": "
        "\"Test\", \"id\": \"see\"}\n");
    put(root, "validation/metadata.csv", "File_Name , TEXT\na.mp4,B.\n");
    put(root, "train/a.mp4", "v");
    put(root, "train/c.mp4", "v");
    put(root, "validation/a.mp4", "v");
    read_and_tell(root, "metadata", &l, "");
    assert_int_equal(l.n, 3);
    is(&l.item[0], "train_a", "train/a.mp4", "train", "A.");
    is(&l.item[1], "see", "train/c.mp4", "test", "C.");
    is(&l.item[2], "validation_a", "validation/a.mp4", "val", "B.");
    source_list_fini(&l);
    put(root, "train/metadata.jsonl", "{\"file_name\": \"a.mp4\", \"text\": 5}\n");
    refuses(root, ERR_FORMAT, "train/metadata.jsonl line 1");
    put(root, "metadata.json", "[]");
    refuses(root, ERR_USAGE, "holds metadata.json and train/metadata.jsonl: keep one of them");

    put(lone, "videos.txt", "a.mp4\n");
    put(lone, "a.mp4", "v");
    refuses(lone, ERR_USAGE, "holds videos.txt but no prompts.txt");
    put(lone, "videos.mp4", "v");
    read_and_tell(lone, "pairs", &l, "");
    is(&l.item[1], "videos", "videos.mp4", "train", "a.mp4");
    source_list_fini(&l);
}

static void has_category(const Source *s, const char *id, const char *want)
{
    assert_string_equal(s->id, id);
    if (want)
        assert_string_equal(s->category, want);
    else
        assert_null(s->category);
}

/* dresses/a.mp4 is a dress; splits and folders that only say "videos" are no categories. */
static void categories(void **state)
{
    char *root = check_tmp_path("categories"), *ubc = check_tmp_path("categories-ubc");
    SourceList l = {0};
    (void)state;
    put(root, "a.mp4", "v");
    put(root, "dresses/a.mp4", "v");
    put(root, "dresses/summer/b.mp4", "v");
    put(root, "train/Coats & Jackets/c.mp4", "v");
    put(root, "videos/d.mp4", "v");
    put(root, "tops/walk/000.png", "p");
    read_and_tell(root, "pairs", &l, "");
    assert_int_equal(l.n, 6);
    has_category(&l.item[0], "a", NULL);
    has_category(&l.item[1], "dresses_a", "dresses");
    has_category(&l.item[2], "dresses_summer_b", "dresses");
    has_category(&l.item[3], "tops_walk", "tops");
    has_category(&l.item[4], "train_Coats & Jackets_c", "Coats & Jackets");
    has_category(&l.item[5], "videos_d", NULL);
    source_list_fini(&l);
    put(ubc, "train/A1P+0ZhMAiS.mp4", "v");
    read_and_tell(ubc, "ubc", &l, "");
    has_category(&l.item[0], "A1P+0ZhMAiS", NULL);
    source_list_fini(&l);
}

static void only_parquet(void **state)
{
    char *root = check_tmp_path("parquet");
    (void)state;
    put(root, "data/train-00000-of-00001.parquet", "PAR1");
    refuses(root, ERR_NOTFOUND, "Parquet tables such as data/train-00000-of-00001.parquet");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists),        cmocka_unit_test(csv),
                                       cmocka_unit_test(json_files),   cmocka_unit_test(trees),
                                       cmocka_unit_test(left_out),     cmocka_unit_test(categories),
                                       cmocka_unit_test(only_parquet), cmocka_unit_test(metadata_of_splits)};
    return check_run_live("prep layouts", tests);
}
