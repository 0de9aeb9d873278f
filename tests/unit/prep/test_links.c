/* Hostile or merely odd source folders: links that lead out, links that multiply, pipes in place of
 * files. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/layout/layout.h"

enum { HANG_S = 60 };

static char *at(const char *root, const char *name)
{
    static char paths[512][512];
    static int n;
    assert_true(n < 512);
    snprintf(paths[n], sizeof paths[n], "%s/%s", root, name);
    return paths[n++];
}

static void folder_of(const char *path)
{
    Err err = {0};
    char *dir = path_dir(path, &err);
    CHECK_OK(dir_make(dir, &err), &err);
    mem_free(dir);
}

static void put(const char *root, const char *name, const char *text)
{
    Err err = {0};
    folder_of(at(root, name));
    CHECK_OK(file_write_atomic(at(root, name), text, (int64_t)strlen(text), &err), &err);
}

static void put_link(const char *root, const char *name, const char *target)
{
    folder_of(at(root, name));
    assert_int_equal(symlink(target, at(root, name)), 0);
}

static void put_pipe(const char *root, const char *name)
{
    folder_of(at(root, name));
    assert_int_equal(mkfifo(at(root, name), 0600), 0);
}

static int read_layout(const char *root, int follow_links, const Log *log, SourceList *l, Err *err)
{
    const LayoutInput in = {.root = root, .follow_links = follow_links, .log = log};
    const Layout *layout;
    char why[256];
    int rc = layout_choose(&in, NULL, &layout, why, sizeof why, err);
    return rc < 0 ? rc : layout_read(layout, &in, l, err);
}

static const Source *find(const SourceList *l, const char *path)
{
    for (int64_t i = 0; i < l->n; i++)
        if (strcmp(l->item[i].path, path) == 0)
            return &l->item[i];
    fail_msg("no source '%s'", path);
    return NULL;
}

/* Rejected as a link out of the folder, with a sentence that names `part` and the flag. */
static void is_outside(const SourceList *l, const char *path, const char *part)
{
    const Source *s = find(l, path);
    assert_non_null(s->reject_code);
    assert_string_equal(s->reject_code, "link_outside");
    assert_non_null(strstr(s->reject_text, part));
    assert_non_null(strstr(s->reject_text, "--follow-links"));
    assert_int_equal(s->n_captions, 0);
}

static void links_out_of_pairs(void **state)
{
    Err err = {0};
    char *root = check_tmp_path("pairs/set"), *other = check_tmp_path("pairs/private");
    SourceList l = {0};
    (void)state;
    put(other, "key", "the private key");
    put(other, "deep/b.mp4", "v");
    put(other, "000.png", "p");
    put(root, "a.mp4", "v");
    put_link(root, "a.txt", "../private/key");
    put_link(root, "c.mp4", at(other, "key"));
    put_link(root, "away", "../private/deep");
    put(root, "walk/001.png", "p");
    put_link(root, "walk/000.png", "../../private/000.png");
    put(root, "in/d.mp4", "v");
    put_link(root, "e.mp4", "in/d.mp4"); /* inside: nothing to ask */
    CHECK_OK(read_layout(root, 0, NULL, &l, &err), &err);
    assert_int_equal(l.n, 6);
    is_outside(&l, "a.mp4", "a.txt is a link to");
    is_outside(&l, "c.mp4", "pairs/private/key'");
    is_outside(&l, "away", "'away' is a link to a folder outside");
    is_outside(&l, "walk", "pairs/private/000.png'");
    assert_null(find(&l, "in/d.mp4")->reject_code);
    assert_null(find(&l, "e.mp4")->reject_code);
    source_list_fini(&l);
    CHECK_OK(read_layout(root, 1, NULL, &l, &err), &err);
    assert_int_equal(l.n, 6);
    for (int64_t i = 0; i < l.n; i++)
        assert_null(l.item[i].reject_code);
    assert_string_equal(find(&l, "a.mp4")->captions[0], "the private key");
    find(&l, "away/b.mp4");
    source_list_fini(&l);
}

static void links_out_of_other_layouts(void **state)
{
    Err err = {0};
    char *meta = check_tmp_path("layouts/meta"), *trees = check_tmp_path("layouts/trees"),
         *t2v = check_tmp_path("layouts/t2v"), *lists = check_tmp_path("layouts/lists"),
         *other = check_tmp_path("layouts/private");
    SourceList l = {0};
    (void)state;
    put(other, "metadata.jsonl", "{\"file_name\": \"away/b.mp4\", \"text\": \"x\"}\n");
    put(other, "deep/b.mp4", "v");
    put(other, "0 44 secret", "0 44 A secret.\n");

    put_link(meta, "metadata.jsonl", "../private/metadata.jsonl");
    CHECK_FAILS(read_layout(meta, 0, NULL, &l, &err), ERR_USAGE, "metadata.jsonl is a link to", &err);
    source_list_fini(&l);
    assert_int_equal(unlink(at(meta, "metadata.jsonl")), 0);
    put(meta, "metadata.jsonl", "{\"file_name\": \"away/b.mp4\", \"text\": \"x\"}\n");
    put_link(meta, "away", "../private/deep");
    CHECK_OK(read_layout(meta, 0, NULL, &l, &err), &err); /* the folder on the way is the link */
    assert_string_equal(find(&l, "away/b.mp4")->reject_code, "link_outside");
    source_list_fini(&l);

    put_link(trees, "videos", "../private/deep");
    put(trees, "labels/b.txt", "B.");
    CHECK_FAILS(read_layout(trees, 0, NULL, &l, &err), ERR_USAGE, "videos/ is a link to", &err);
    source_list_fini(&l);
    CHECK_OK(read_layout(trees, 1, NULL, &l, &err), &err);
    assert_null(find(&l, "videos/b.mp4")->reject_code);
    source_list_fini(&l);

    put(t2v, "videos/v.mp4", "v");
    put(t2v, "captions_app.json", "{\"v\": \"A.\"}");
    put_link(t2v, "motion_text/v.txt", "../../private/0 44 secret");
    CHECK_OK(read_layout(t2v, 0, NULL, &l, &err), &err);
    assert_string_equal(find(&l, "videos/v.mp4")->reject_code, "link_outside");
    assert_int_equal(l.item[0].n_segments, 0);
    source_list_fini(&l);
    assert_int_equal(unlink(at(t2v, "captions_app.json")), 0);
    put(other, "captions.json", "{\"v\": \"A.\"}");
    put_link(t2v, "captions_app.json", "../private/captions.json");
    CHECK_FAILS(read_layout(t2v, 0, NULL, &l, &err), ERR_USAGE, "captions_app.json is a link to", &err);
    source_list_fini(&l);

    put(lists, "videos.txt", "a.mp4\n");
    put(other, "prompts", "A.\n");
    put_link(lists, "prompts.txt", "../private/prompts");
    CHECK_FAILS(read_layout(lists, 0, NULL, &l, &err), ERR_USAGE, "prompts.txt is a link to", &err);
    source_list_fini(&l);
}

/* Level k holds one video and two links to level k + 1: 2^18 paths lead to the last. */
static void put_levels(const char *root, const char *prefix, int levels)
{
    char name[64], target[64];
    for (int k = 0; k < levels; k++) {
        snprintf(name, sizeof name, "%s%02d/v.mp4", prefix, k);
        put(root, name, "v");
        for (int i = 0; i < 2 && k + 1 < levels; i++) {
            snprintf(name, sizeof name, "%s%02d/%c", prefix, k, 'a' + i);
            snprintf(target, sizeof target, "../%s%02d", prefix, k + 1);
            put_link(root, name, target);
        }
    }
}

static char told[4096];
static void hear(void *user, LogLevel level, const char *line)
{
    (void)user, (void)level;
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", line);
}

static void many_links(void **state)
{
    Err err = {0};
    char *root = check_tmp_path("many/set"), *other = check_tmp_path("many/other"),
         *entry = check_tmp_path("many/entry");
    const Log log = {.write = hear, .level = LOG_WARN};
    SourceList l = {0};
    (void)state;
    alarm(HANG_S);
    put_levels(root, "", 18);
    CHECK_OK(read_layout(root, 0, &log, &l, &err), &err);
    assert_int_equal(l.n, 18);
    assert_null(find(&l, "17/v.mp4")->reject_code);
    assert_string_equal(told,
                        "links to folders that are read once, under their own path: 34, such as 00/a, 00/b, 01/a\n");
    source_list_fini(&l);
    put_levels(other, "", 18); /* outside, and entered by one link: again every folder once */
    put_link(entry, "in", "../other/00");
    CHECK_OK(read_layout(entry, 1, NULL, &l, &err), &err);
    assert_int_equal(l.n, 18);
    source_list_fini(&l);
    alarm(0);
}

/* The link's name comes before the folder's: the clip still has the path of the folder. */
static void a_link_beside_its_folder(void **state)
{
    Err err = {0};
    char *root = check_tmp_path("beside");
    SourceList l = {0};
    (void)state;
    put(root, "new/v.mp4", "v");
    put_link(root, "latest", "new");
    put_link(root, "around", "..");
    put_link(root, "new/self", ".");
    CHECK_OK(read_layout(root, 1, NULL, &l, &err), &err);
    assert_int_equal(l.n, 3);
    assert_null(find(&l, "new/v.mp4")->reject_code);
    assert_string_equal(find(&l, "around")->reject_code, "link_loop");
    assert_string_equal(find(&l, "new/self")->reject_code, "link_loop");
    source_list_fini(&l);
}

static void pipes(void **state)
{
    static const struct {
        const char *pipe, *also, *text, *part; /* part: of the error, or of the source's rejection */
    } cases[] = {
        {"metadata.jsonl", NULL, NULL, "metadata.jsonl is not a regular file"},
        {"metadata.csv", NULL, NULL, "metadata.csv is not a regular file"},
        {"train/metadata.json", NULL, NULL, "train/metadata.json is not a regular file"},
        {"captions.json", NULL, NULL, "captions.json is not a regular file"},
        {"videos.txt", "prompts.txt", "A.\n", "videos.txt is not a regular file"},
        {"prompts.txt", "videos.txt", "a.mp4\n", "prompts.txt is not a regular file"},
        {"captions_app.json", NULL, NULL, "captions_app.json is not a regular file"},
        {"caption_motion_template.json", NULL, NULL, "caption_motion_template.json is not a regular file"},
        {"train_frame_num.txt", NULL, NULL, "train_frame_num.txt is not a regular file"},
        {"motion_text/v.txt", "FashionDataset_frames_crop/v/000.png", "p", "motion_text/v.txt is not a regular file"},
        {"a.txt", "a.mp4", "v", "a.txt is not a regular file"},
        {"labels/a.txt", "videos/a.mp4", "v", "labels/a.txt is not a regular file"},
        {"clips.csv", "a.mp4", "v", NULL}, /* not even looked into */
        {"a.mp4", "b.mp4", "v", NULL},     /* its decoder refuses it */
    };
    (void)state;
    alarm(HANG_S);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err err = {0};
        SourceList l = {0};
        char name[32];
        snprintf(name, sizeof name, "pipe-%zu", i);
        char *root = check_tmp_path(name);
        put_pipe(root, cases[i].pipe);
        if (cases[i].also)
            put(root, cases[i].also, cases[i].text);
        int rc = read_layout(root, 0, NULL, &l, &err);
        const char *text = rc < 0 ? err.msg : l.n && l.item[0].reject_text ? l.item[0].reject_text : "";
        if (cases[i].part ? !strstr(text, cases[i].part) : rc != 0)
            fail_msg("a pipe in place of %s: %d '%s'", cases[i].pipe, rc, text);
        source_list_fini(&l);
    }
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(links_out_of_pairs),
                                       cmocka_unit_test(links_out_of_other_layouts), cmocka_unit_test(many_links),
                                       cmocka_unit_test(a_link_beside_its_folder), cmocka_unit_test(pipes)};
    return check_run_live("prep links", tests);
}
