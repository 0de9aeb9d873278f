/* CLIP score and zero-shot attributes against transformers' CLIPModel (tests/golden/make_clip_score.py): from texts and
 * 8-bit pictures to scores, with the tokeniser, both preprocessings and truncation. */
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/clip.h"
#include "infer/attributes.h"
#include "infer/clip_score.h"
#include "tests/golden/generator.h"
#include "tests/golden/named_weights.h"

enum { SIZE = 28, WIDTH = 16 };

static Backend *be;

static void copy_file(const char *name)
{
    char *bytes;
    int64_t n;
    Err err = {0};
    CHECK_OK(file_read(check_path(check_repo_path("tests/golden/clip_score"), name), 1 << 20, &bytes, &n, &err), &err);
    CHECK_OK(file_write_atomic(check_path(check_tmp_path("clip"), name), bytes, n, &err), &err);
    mem_free(bytes);
}

/* The folder of the golden model: its config and merges, and the weights that the rule makes. */
static int make_folder(void **state)
{
    (void)state;
    Backend *plan = NULL;
    Clip *shape = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, "cpu", 0, NULL, &err), &err);
    CHECK_OK(dir_make(check_tmp_path("clip"), &err), &err);
    copy_file("config.json");
    copy_file("merges.txt");
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(clip_open(&shape, plan, check_tmp_path("clip"), &err), &err);
    NamedFile f = named_file(clip_params(shape));
    CHECK_OK(safetensors_write(check_tmp_path("clip/model.safetensors"), f.source, f.n, NULL, &err), &err);
    named_file_free(&f);
    clip_close(&shape);
    backend_close(&plan);
    return 0;
}

static int close_backend(void **state)
{
    (void)state;
    backend_close(&be);
    return 0;
}

static json_t *golden(void)
{
    json_t *root = NULL;
    Err err = {0};
    CHECK_OK(json_read_file(&root, check_repo_path("tests/golden/clip_score/golden.json"), &err), &err);
    return root;
}

/* Bounds: unit vectors; a dozen float32 layers against float64. */
static void near(const char *what, const float *got, const json_t *g, const char *key, int64_t from, int64_t n)
{
    int64_t all;
    double *want = GOLDEN_ARRAY(g, &all, key);
    assert_true(from + n <= all);
    check_near(what, got, want + from, n, 3e-6, 0);
    free(want);
}

static void scores(void **state)
{
    (void)state;
    static const int sizes[4][2] = {{36, 24}, {36, 24}, {36, 24}, {20, 51}};
    ClipScorer *s = NULL;
    Err err = {0};
    json_t *g = golden();
    float text[WIDTH], unit[WIDTH], pixels[3 * SIZE * SIZE];
    int64_t cut;
    CHECK_OK(clip_scorer_open(&s, be, check_tmp_path("clip"), &err), &err);
    assert_int_equal(clip_scorer_width(s), WIDTH);
    assert_int_equal(clip_scorer_size(s), SIZE);
    check_value("scale", clip_scorer_scale(s), exp(4.6052), 1e-4, 0);
    CHECK_OK(clip_scorer_text(s, json_string_value(json_object_get(g, "long")), text, &cut, &err), &err);
    assert_int_equal(cut, json_integer_value(json_object_get(g, "long_ids")) - 20);
    near("long text", text, g, "long_text", 0, WIDTH);
    CHECK_OK(clip_scorer_text(s, json_string_value(json_object_get(g, "prompt")), text, &cut, &err), &err);
    assert_int_equal(cut, 0);
    near("text", text, g, "text", 0, WIDTH);
    for (int k = 0; k < 4; k++) {
        int H = sizes[k][0], W = sizes[k][1];
        uint8_t *picture = malloc((size_t)(H * W * 3));
        for (int i = 0; i < H * W * 3; i++)
            picture[i] = (uint8_t)((7 * (i / 3 % W) + 13 * (i / 3 / W) + 29 * k + 101 * (i % 3)) % 256);
        for (int whole = 0; whole < 2; whole++) {
            CHECK_OK((whole ? clip_preprocess_square : clip_preprocess)(pixels, picture, H, W, SIZE, &err), &err);
            CHECK_OK(clip_scorer_image(s, pixels, unit, &err), &err);
            near(whole ? "square" : "crop", unit, g, whole ? "square" : "crop", k * WIDTH, WIDTH);
            const json_t *want = json_object_get(g, whole ? "square_scores" : "crop_scores");
            check_value("score", 100 * clip_cosine(unit, text, WIDTH),
                        json_number_value(json_array_get(want, (size_t)k)), 1e-4, 0);
        }
        free(picture);
    }
    clip_scorer_close(&s);
    json_decref(g);
}

static void attributes(void **state)
{
    (void)state;
    static const char lists[] =
        "{\"attributes\": [{\"name\": \"colour\", \"templates\": [\"a {} dress\", \"a person in {}\"],"
        "\"values\": [{\"value\": \"red\", \"words\": [\"crimson\"]}, {\"value\": \"blue\"},"
        "{\"value\": \"silk\"}]}]}";
    ClipScorer *s = NULL;
    Attributes a;
    Err err = {0};
    json_t *g = golden();
    double share;
    int64_t n;
    CHECK_OK(file_write_atomic(check_tmp_path("lists.json"), lists, sizeof lists - 1, &err), &err);
    CHECK_OK(clip_scorer_open(&s, be, check_tmp_path("clip"), &err), &err);
    CHECK_OK(attributes_open(&a, check_tmp_path("lists.json"), s, &err), &err);
    double *video = GOLDEN_ARRAY(g, &n, "video"), *shares = GOLDEN_ARRAY(g, &n, "shares");
    float unit[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        unit[i] = (float)video[i];
    /* the golden prefers "blue" */
    assert_int_equal(attributes_judge(&a, 0, unit, clip_scorer_scale(s), &share), 1);
    check_value("share", share, shares[1], 1e-4, 0);
    /* the truth of a prompt: whole words, one value */
    assert_int_equal(attributes_truth(&a, 0, "A Red dress."), 0);
    assert_int_equal(attributes_truth(&a, 0, "a crimson one"), 0);
    assert_int_equal(attributes_truth(&a, 0, "a hundred dresses, bored"), -1);
    assert_int_equal(attributes_truth(&a, 0, "red and blue"), -1);
    assert_int_equal(attributes_truth(&a, 0, ""), -1);
    attributes_count(&a, 0, "a blue coat", unit);
    attributes_count(&a, 0, "blue", unit);
    attributes_count(&a, 0, "a red coat", unit);
    attributes_count(&a, 0, "a coat", unit);
    attributes_count(&a, 0, NULL, unit);
    json_t *o = attributes_json(&a, 0, &err), *colour = json_object_get(o, "colour");
    assert_int_equal(json_integer_value(json_object_get(colour, "n")), 3);
    check_value("accuracy", json_real_value(json_object_get(colour, "accuracy")), 2 / 3.0, 1e-15, 0);
    check_value("macro", json_real_value(json_object_get(colour, "macro")), 0.5, 1e-15, 0);
    check_value("majority", json_real_value(json_object_get(colour, "majority")), 2 / 3.0, 1e-15, 0);
    check_value("chance", json_real_value(json_object_get(colour, "chance")), 1 / 3.0, 1e-15, 0);
    /* scipy.stats.binomtest(2, 3).proportion_ci(method="wilson") */
    check_value("low", json_real_value(json_object_get(colour, "low")), 0.2076596008, 1e-9, 0);
    check_value("high", json_real_value(json_object_get(colour, "high")), 0.9385080553, 1e-9, 0);
    json_decref(o);
    attributes_fini(&a);
    /* the default lists */
    CHECK_OK(attributes_open(&a, NULL, s, &err), &err);
    assert_int_equal(a.n, 6);
    assert_string_equal(a.attribute[5].name, "colour");
    assert_int_equal(attributes_truth(&a, 2, "A polka-dot dress"), 2);
    assert_int_equal(attributes_truth(&a, 4, "a blouse with long sleeves"), 2);
    attributes_fini(&a);
    CHECK_OK(file_write_atomic(check_tmp_path("lists.json"), "{\"attributes\": []}", 18, &err), &err);
    CHECK_FAILS(attributes_open(&a, check_tmp_path("lists.json"), s, &err), ERR_FORMAT, "lists.json", &err);
    attributes_fini(&a);
    free(video);
    free(shares);
    clip_scorer_close(&s);
    json_decref(g);
}

static void refused(void **state)
{
    (void)state;
    ClipScorer *s = NULL;
    Err err = {0};
    CHECK_FAILS(clip_scorer_open(&s, be, check_tmp_path("none"), &err), ERR_NOTFOUND, "config.json", &err);
    static const char more[] = "#version: 0.2\nr e\nd r\na b\nb c\nc d\nd e\ne f\nf g\ng h\nh i\ni j\nj k\nk l\n";
    CHECK_OK(file_write_atomic(check_tmp_path("clip/merges.txt"), more, sizeof more - 1, &err), &err);
    CHECK_FAILS(clip_scorer_open(&s, be, check_tmp_path("clip"), &err), ERR_FORMAT, "the model's vocabulary 526", &err);
    copy_file("merges.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores),
        cmocka_unit_test(attributes),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests_name("golden: CLIP score", tests, make_folder, close_backend);
}
