/* The recipe: presets, precedence, types, and what is refused. */
#include "tests/check.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/recipe.h"
#include "common/base/str.h"
#include "common/base/schema.h"

static Err err;

/* Opens with up to four --set and an optional config file holding `config` under `name`. */
static int open_with(Recipe **r, const char *preset, const char *name, const char *config, const char *const *sets)
{
    CommonOptions o = {.preset = preset, .seed = -1};
    const char *items[16];
    char *path = name ? check_tmp_path(name) : NULL;
    if (path)
        CHECK_OK(file_write_atomic(path, config, (int64_t)strlen(config), &err), &err);
    for (; sets && sets[o.set.n]; o.set.n++)
        items[o.set.n] = sets[o.set.n];
    o.set.item = items;
    o.config = path;
    return recipe_open(r, &o, &err);
}

#define SETS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void presets_are_complete(void **state)
{
    (void)state;
    static const char *const names[] = {"fashion-2b", "demo", NULL};
    for (const char *const *name = names; *name; name++) {
        Recipe *r;
        CHECK_OK(open_with(&r, *name, NULL, NULL, NULL), &err);
        assert_string_equal(recipe_str(r, "training.optimizer"), "adamw");
        assert_int_equal(recipe_int(r, "clip.num_frames"), 48);
        assert_int_equal(recipe_int(r, "clip.model_frames"), 49);
        recipe_close(&r);
        assert_null(r);
    }
    Recipe *r;
    CHECK_OK(open_with(&r, NULL, NULL, NULL, NULL), &err);
    assert_int_equal(recipe_int(r, "clip.width"), 480);
    assert_int_equal(recipe_int(r, "clip.height"), 720);
    assert_true(recipe_num(r, "training.learning_rate") == 2e-5);
    assert_true(recipe_bool(r, "training.gradient_checkpointing"));
    assert_null(recipe_str(r, "model.base_model"));
    assert_int_equal(recipe_int(r, "training.max_steps"), -1);
    assert_true(json_is_object(recipe_get(r, "evaluation")));
    recipe_close(&r);
    recipe_close(&r);
    CHECK_FAILS(open_with(&r, "fashon-2b", NULL, NULL, NULL), ERR_USAGE,
                "no preset named 'fashon-2b'; there are: demo, fashion-2b", &err);
}

/* Each key of the schema has a description and is required, so that a resolved recipe is complete. */
static void schema_describes_every_key(void **state)
{
    (void)state;
    Schema *s;
    CHECK_OK(schema_open(&s, "recipe", &err), &err);
    const char *section, *key;
    json_t *part, *rule;
    json_object_foreach (json_object_get(schema_json(s), "properties"), section, part) {
        json_t *properties = json_object_get(part, "properties");
        assert_true(json_is_string(json_object_get(part, "description")));
        assert_int_equal(json_object_size(properties), json_array_size(json_object_get(part, "required")));
        json_object_foreach (properties, key, rule)
            assert_true(json_is_string(json_object_get(rule, "description")));
    }
    schema_close(&s);
}

static void precedence(void **state)
{
    (void)state;
    Recipe *r;
    CHECK_OK(open_with(&r, "demo", "a.json",
                       "{\"training\": {\"learning_rate\": 0.5, \"warmup_steps\": 7}, \"seed\": 3}", NULL),
             &err);
    assert_true(recipe_num(r, "training.learning_rate") == 0.5);
    assert_int_equal(recipe_int(r, "training.warmup_steps"), 7);
    assert_int_equal(recipe_int(r, "seed"), 3);
    assert_int_equal(recipe_int(r, "clip.width"), 96); /* untouched neighbours stay */
    recipe_close(&r);
    CHECK_OK(open_with(&r, "demo", "a.json", "{\"training\": {\"learning_rate\": 0.5, \"warmup_steps\": 7}}",
                       SETS("training.learning_rate=1e-4", "model.base_model=/models/CogVideoX-2b",
                            "sampling.negative_prompt=blurry = bad")),
             &err);
    assert_true(recipe_num(r, "training.learning_rate") == 1e-4);
    assert_int_equal(recipe_int(r, "training.warmup_steps"), 7);
    assert_string_equal(recipe_str(r, "model.base_model"), "/models/CogVideoX-2b");
    assert_string_equal(recipe_str(r, "sampling.negative_prompt"), "blurry = bad");
    recipe_close(&r);
    CommonOptions o = {.preset = "demo", .seed = 12};
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    assert_int_equal(recipe_int(r, "seed"), 12);
    recipe_close(&r);
}

static void yaml_config_equals_json_config(void **state)
{
    (void)state;
    Recipe *a, *b;
    CHECK_OK(
        open_with(
            &a, NULL, "a.yaml",
            "# lower\ntraining:\n  learning_rate: 1e-5\n  max_steps: ~\nclip: {fit: pad, allow_empty_caption: true}\n",
            NULL),
        &err);
    CHECK_OK(open_with(&b, NULL, "b.json",
                       "{\"training\": {\"learning_rate\": 1e-5, \"max_steps\": null}, "
                       "\"clip\": {\"fit\": \"pad\", \"allow_empty_caption\": true}}",
                       NULL),
             &err);
    assert_true(json_equal(recipe_json(a), recipe_json(b)));
    recipe_close(&a);
    recipe_close(&b);
    CHECK_OK(open_with(&a, NULL, "c.yml", "# nothing but a comment\n", NULL), &err);
    recipe_close(&a);
    CHECK_FAILS(open_with(&a, NULL, "d.yaml", "- 1\n", NULL), ERR_USAGE, "object of sections", &err);
    CHECK_FAILS(open_with(&a, NULL, "e.yaml", "training:\n  learning_rate: [\n", NULL), ERR_USAGE, "e.yaml:", &err);
}

/* Templates shared with other trainers list keys that are unused: null asks for nothing. */
static void unknown_keys_that_hold_null_pass(void **state)
{
    (void)state;
    Recipe *r, *plain;
    CHECK_OK(open_with(&r, NULL, "n.yaml", "training: {tracker_name: null, max_steps: null}\nvideo:\n", NULL), &err);
    CHECK_OK(open_with(&plain, NULL, NULL, NULL, NULL), &err);
    assert_true(json_equal(recipe_json(r), recipe_json(plain)));
    recipe_close(&r);
    recipe_close(&plain);
    CHECK_FAILS(open_with(&r, NULL, "n.yaml", "training: {learning_rate: null}\n", NULL), ERR_USAGE,
                "n.yaml: 'training.learning_rate': expected number, found null", &err);
    CHECK_FAILS(open_with(&r, NULL, "n.yaml", "training: {tracker_name: wandb}\n", NULL), ERR_USAGE,
                "n.yaml: unknown key 'training.tracker_name'", &err);
}

static void refuses(void **state)
{
    (void)state;
    Recipe *r;
    CHECK_FAILS(open_with(&r, NULL, "x.json", "{\"training\": {\"learning_rat\": 1}}", NULL), ERR_USAGE,
                "unknown key 'training.learning_rat'; did you mean 'training.learning_rate'?", &err);
    CHECK_FAILS(open_with(&r, NULL, "x.json", "{\"trainin\": {}}", NULL), ERR_USAGE,
                "unknown key 'trainin'; did you mean 'training'?", &err);
    CHECK_FAILS(open_with(&r, NULL, "x.json", "{\"training\": {\"zzzzzzzzzz\": 1}}", NULL), ERR_USAGE,
                "unknown key 'training.zzzzzzzzzz'", &err);
    CHECK_FAILS(open_with(&r, NULL, "x.json", "{\"training\": 3}", NULL), ERR_USAGE,
                "x.json: 'training': expected object, found 3", &err);
    CHECK_FAILS(open_with(&r, NULL, "x.json", "[]", NULL), ERR_USAGE, "object of sections", &err);
    CHECK_FAILS(open_with(&r, NULL, "x.json", "{\"seed\": 1, \"seed\": 2}", NULL), ERR_USAGE, "duplicate", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training.batch_size=two")), ERR_USAGE,
                "'training.batch_size': expected integer, found \"two\"", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training.batch_size=0")), ERR_USAGE,
                "expected at least 1, found 0", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training.batch_size=1.0")), ERR_USAGE,
                "expected integer, found 1.0", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("clip.width=100")), ERR_USAGE,
                "expected a multiple of 16 (the nearest are 96 and 112), found 100", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training.optimizer=lion")), ERR_USAGE,
                "expected \"adamw\" or \"sgd\", found \"lion\"", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training.adam_beta1=1")), ERR_USAGE, "less than 1", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("clip.model_frames=50")), ERR_USAGE, "49 and 56", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("clip.num_frames=40")), ERR_USAGE, "expected 48 or 49", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("training")), ERR_USAGE, "SECTION.KEY=VALUE", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("seed.x=1")), ERR_USAGE, "unknown key 'seed.x'", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("a.b.c=1")), ERR_USAGE, "unknown key 'a.b.c'", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("model.base_model=\xff")), ERR_USAGE, "not UTF-8", &err);
    CHECK_FAILS(open_with(&r, NULL, NULL, NULL, SETS("model.\xff=1")), ERR_USAGE, "not UTF-8", &err);
    CommonOptions o = {.config = "/nonexistent/recipe.json", .seed = -1};
    CHECK_FAILS(recipe_open(&r, &o, &err), ERR_NOTFOUND, "/nonexistent/recipe.json", &err);
    assert_null(r);
}

/* The recipe as people write it: flat, with keys that only weft-train checks. */
static void flat_recipe(void **state)
{
    (void)state;
    Recipe *r;
    const char *path = check_repo_path("tests/recipes/as-written.yaml");
    CommonOptions o = {.config = path, .seed = -1};
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    assert_string_equal(recipe_str(r, "training.base_model"), "CogVideoX-2b");
    assert_string_equal(recipe_str(r, "training.pretrained_weights"), "THUDM/CogVideoX-2b");
    assert_int_equal(recipe_int(r, "training.batch_size"), 2);
    assert_int_equal(recipe_int(r, "training.gradient_accumulation_steps"), 8);
    assert_true(recipe_num(r, "training.learning_rate") == 5e-6);
    assert_string_equal(recipe_str(r, "training.lr_scheduler"), "constant_with_warmup");
    assert_int_equal(recipe_int(r, "training.warmup_steps"), 100);
    assert_string_equal(recipe_str(r, "training.optimizer"), "adamw");
    assert_true(recipe_num(r, "training.weight_decay") == 0.01);
    assert_true(recipe_num(r, "training.adam_beta1") == 0.9);
    assert_true(recipe_num(r, "training.adam_beta2") == 0.999);
    assert_true(recipe_num(r, "training.max_grad_norm") == 1.0);
    assert_string_equal(recipe_str(r, "training.mixed_precision"), "bf16");
    assert_true(recipe_bool(r, "training.gradient_checkpointing"));
    assert_false(recipe_bool(r, "training.use_8bit_adam"));
    assert_int_equal(recipe_int(r, "training.num_epochs"), 10);
    assert_int_equal(recipe_int(r, "expected.effective_batch_size"), 16);
    assert_int_equal(recipe_int(r, "expected.training_videos"), 480);
    assert_string_equal(recipe_str(r, "expected.total_steps"), "~2400");
    assert_string_equal(recipe_str(r, "expected.training_time"), "62 minutes");
    assert_string_equal(recipe_str(r, "expected.gpu"), "A100 80GB");
    assert_string_equal(recipe_str(r, "expected.vram_usage"), "~76GB");
    assert_string_equal(recipe_given(r, "training.batch_size"), path);
    assert_null(recipe_given(r, "training.log_every"));
    recipe_close(&r);
}

/* Other trainers' names, keys without a section, and choices in another case. */
static void other_names(void **state)
{
    (void)state;
    static const struct {
        const char *set, *path, *text;
    } row[] = {
        {"train_batch_size=3", "training.batch_size", "3"},
        {"training.train_batch_size=3", "training.batch_size", "3"},
        {"max_train_steps=7", "training.max_steps", "7"},
        {"num_train_epochs=4", "training.num_epochs", "4"},
        {"lr_warmup_steps=9", "training.warmup_steps", "9"},
        {"num_warmup_steps=9", "training.warmup_steps", "9"},
        {"checkpointing_steps=9", "training.checkpointing_steps", "9"},
        {"checkpoints_total_limit=2", "training.checkpoints_total_limit", "2"},
        {"lr_num_cycles=2", "training.lr_num_cycles", "2.0"},
        {"lr_power=2", "training.lr_power", "2.0"},
        {"adam_epsilon=1e-6", "training.adam_epsilon", "1e-06"},
        {"adam_weight_decay=0.5", "training.weight_decay", "0.5"},
        {"logging_steps=3", "training.log_every", "3"},
        {"pretrained_model_name_or_path=a/b", "training.base_model", "\"a/b\""},
        {"mixed_precision=BF16", "training.mixed_precision", "\"bf16\""},
        {"optimizer=AdamW", "training.optimizer", "\"adamw\""},
        {"lr_scheduler=Cosine", "training.lr_scheduler", "\"cosine\""},
        {"seed=5", "seed", "5"},
        {"guidance_scale=3", "sampling.guidance_scale", "3.0"},
        {"enable_tiling=true", "cache.vae_tiling", "true"},
        {"lr=0.5", "training.learning_rate", "0.5"},
        {"alpha=8", "training.lora_alpha", "8.0"},
        {"max_num_frames=49", "clip.num_frames", "49"},
        {"total_steps=~12", "expected.total_steps", "\"~12\""},
        {"training={\"batch_size\": 5}", "training.batch_size", "5"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Recipe *r;
        CHECK_OK(open_with(&r, NULL, NULL, NULL, SETS(row[i].set)), &err);
        char *text = json_text(recipe_get(r, row[i].path), 0, &err);
        if (strcmp(text, row[i].text) != 0)
            fail_msg("--set %s: '%s' is %s, expected %s", row[i].set, row[i].path, text, row[i].text);
        assert_string_equal(recipe_given(r, row[i].path), "--set");
        mem_free(text);
        recipe_close(&r);
    }
}

/* Every problem of a file and of each --set, in one message. */
static void all_problems(void **state)
{
    (void)state;
    Recipe *r;
    const char *want[] = {"the recipe has 9 problems:\n",
                          "p.yaml: unknown key 'learning_rat'; did you mean 'training.learning_rate'?\n",
                          "p.yaml: 'training.batch_size': expected at least 1, found 0\n",
                          "p.yaml: unknown key 'training.guidance_scale'; did you mean 'sampling.guidance_scale'?\n",
                          "p.yaml: 'training.optimizer': expected \"adamw\"",
                          "p.yaml: 'width' is a key of several sections: write 'clip.width' or 'sampling.width'\n",
                          "p.yaml: 'lr_warmup_steps' and 'warmup_steps' are the same key (training.warmup_steps) with "
                          "two values\n",
                          "--set: unknown key 'sampling.steps'; did you mean 'sampling.num_inference_steps'?\n",
                          "--set: 'training.num_epochs': expected integer, found \"ten\"\n",
                          "recipe: 'clip.num_frames' is 12; with 'clip.model_frames' 49 expected 48 or 49"};
    int rc = open_with(&r, NULL, "p.yaml",
                       "learning_rat: 1\nbatch_size: 0\ntraining: {guidance_scale: 3, optimizer: adafactor}\n"
                       "width: 480\nlr_warmup_steps: 3\nwarmup_steps: 4\n"
                       "tracker_name: null\n",
                       SETS("sampling.steps=3", "num_epochs=ten", "clip.num_frames=12"));
    assert_int_equal(rc, ERR_USAGE);
    assert_null(r);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (!strstr(err.msg, want[i]))
            fail_msg("'%s' is not in:\n%s", want[i], err.msg);
    err_clear(&err);
    char many[4096] = "";
    for (int i = 0; i < 99; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "quite_unknown_%d: 1\n", i);
    CHECK_FAILS(open_with(&r, NULL, "p.yaml", many, NULL), ERR_USAGE, "the recipe has 99 problems:\n", &err);
    CHECK_FAILS(open_with(&r, NULL, "p.yaml", many, NULL), ERR_USAGE, " more", &err);
}

/* What a program stored beside its output is a recipe too. */
static void stored_files_are_configs(void **state)
{
    (void)state;
    Recipe *a, *b;
    CHECK_OK(open_with(&a, "demo", NULL, NULL, SETS("training.batch_size=3", "seed=11")), &err);
    json_t *run = json_pack("{s:i, s:s, s:O}", "format", 1, "program", "weft-train", "recipe", recipe_json(a));
    char *text = json_text(run, 2, &err);
    CHECK_OK(open_with(&b, NULL, "run.json", text, NULL), &err);
    assert_true(json_equal(recipe_json(a), recipe_json(b)));
    recipe_close(&b);
    CHECK_OK(open_with(&b, NULL, "run.json", text, SETS("batch_size=4")), &err);
    assert_int_equal(recipe_int(b, "training.batch_size"), 4);
    assert_int_equal(recipe_int(b, "seed"), 11);
    recipe_close(&b);
    mem_free(text);
    json_decref(run);
    recipe_close(&a);
    CHECK_OK(open_with(&b, NULL, "0000.json",
                       "{\"key\": \"0\", \"id\": \"0000\", \"prompt\": \"x\", \"negative_prompt\": \"grey\", "
                       "\"seed\": 9, \"weights\": {}, \"sampling\": {\"num_inference_steps\": 3, "
                       "\"num_frames\": 8, \"model_frames\": 9}}",
                       NULL),
             &err);
    assert_int_equal(recipe_int(b, "seed"), 9);
    assert_int_equal(recipe_int(b, "sampling.num_inference_steps"), 3);
    assert_int_equal(recipe_int(b, "clip.model_frames"), 9);
    assert_int_equal(recipe_int(b, "clip.num_frames"), 8);
    assert_string_equal(recipe_str(b, "sampling.negative_prompt"), "grey");
    recipe_close(&b);
}

/* Options that stand for a key: over --set, and named in messages. */
static void options_for_keys(void **state)
{
    (void)state;
    const char *keys[] = {"steps",           "sampling.num_inference_steps", "7",
                          "negative-prompt", "sampling.negative_prompt",     "true",
                          "dynamic-cfg",     "sampling.use_dynamic_cfg",     "true"};
    const char *sets[] = {"sampling.num_inference_steps=3"};
    CommonOptions o = {.preset = "demo", .seed = -1, .set = {sets, 1}, .keys = {keys, 9}};
    Recipe *r;
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    assert_int_equal(recipe_int(r, "sampling.num_inference_steps"), 7);
    assert_string_equal(recipe_str(r, "sampling.negative_prompt"), "true"); /* a text stays a text */
    assert_true(recipe_bool(r, "sampling.use_dynamic_cfg"));
    assert_string_equal(recipe_given(r, "sampling.num_inference_steps"), "--steps");
    recipe_close(&r);
    keys[2] = "many";
    CHECK_FAILS(recipe_open(&r, &o, &err), ERR_USAGE, "--steps: 'sampling.num_inference_steps': expected integer",
                &err);
    keys[2] = "7";
    keys[5] = "\xff";
    CHECK_FAILS(recipe_open(&r, &o, &err), ERR_USAGE, "--negative-prompt: what follows is not UTF-8", &err);
}

/* What an earlier program fixed is taken from there; only what contradicts it is refused. */
static void adopting(void **state)
{
    (void)state;
    static const char *const paths[] = {"clip.width", "clip.height", NULL};
    Recipe *r, *stored;
    CHECK_OK(open_with(&stored, NULL, NULL, NULL, SETS("clip.width=96", "clip.height=144", "clip.fps=9")), &err);
    CHECK_OK(open_with(&r, NULL, NULL, NULL, SETS("clip.height=144")), &err);
    CHECK_OK(recipe_adopt(r, recipe_json(stored), paths, "prepared", &err), &err);
    assert_int_equal(recipe_int(r, "clip.width"), 96);
    assert_int_equal(recipe_int(r, "clip.height"), 144);
    assert_int_equal(recipe_int(r, "clip.fps"), 8);
    recipe_close(&r);
    CHECK_OK(open_with(&r, NULL, NULL, NULL, SETS("clip.width=480")), &err);
    CHECK_FAILS(recipe_adopt(r, recipe_json(stored), paths, "prepared", &err), ERR_USAGE,
                "'clip.width' is 480 in --set, but 'prepared' was made with 96: leave the key out", &err);
    recipe_close(&r);
    recipe_close(&stored);
}

/* 8 and 8.0 mean the same, so they print and hash the same. */
static void numbers_have_one_form(void **state)
{
    (void)state;
    Recipe *a, *b;
    CHECK_OK(open_with(&a, NULL, NULL, NULL, SETS("sampling.guidance_scale=6", "clip.min_fps=10")), &err);
    CHECK_OK(open_with(&b, NULL, NULL, NULL, SETS("sampling.guidance_scale=6.0", "clip.min_fps=1e1")), &err);
    char *x = json_canonical(recipe_json(a), &err), *y = json_canonical(recipe_json(b), &err);
    assert_string_equal(x, y);
    mem_free(x);
    mem_free(y);
    recipe_close(&b);
    CHECK_OK(recipe_from_json(&b, recipe_json(a), &err), &err);
    assert_true(json_equal(recipe_json(a), recipe_json(b)));
    recipe_close(&a);
    recipe_close(&b);
}

/* A recipe that an earlier version stored lacks the keys that came later: they have the preset's value. */
static void stored_recipes_are_completed(void **state)
{
    (void)state;
    Recipe *a, *b;
    CHECK_OK(open_with(&a, NULL, NULL, NULL, SETS("training.batch_size=3")), &err);
    json_t *v = json_deep_copy(recipe_json(a)), *none = json_array();
    json_object_del(json_object_get(v, "training"), "lr_power");
    json_object_del(v, "captions");
    CHECK_OK(recipe_from_json(&b, v, &err), &err);
    assert_true(json_equal(recipe_json(a), recipe_json(b)));
    recipe_close(&b);
    json_object_set_new(json_object_get(v, "clip"), "width", json_string("wide"));
    CHECK_FAILS(recipe_from_json(&b, v, &err), ERR_FORMAT, "stored recipe: 'clip.width': expected integer", &err);
    json_object_set_new(json_object_get(v, "clip"), "width", json_integer(480));
    json_object_set_new(json_object_get(v, "clip"), "depth", json_integer(1));
    CHECK_FAILS(recipe_from_json(&b, v, &err), ERR_FORMAT, "stored recipe: unknown key 'clip.depth'", &err);
    CHECK_FAILS(recipe_from_json(&b, none, &err), ERR_FORMAT, "stored recipe: expected an object", &err);
    CHECK_FAILS(recipe_from_json(&b, NULL, &err), ERR_FORMAT, "stored recipe: expected an object", &err);
    json_decref(none);
    json_decref(v);
    recipe_close(&a);
}

static Str heard;

static void hear(void *user, LogLevel level, const char *line)
{
    (void)user;
    assert_int_equal(level, LOG_INFO);
    CHECK_OK(str_printf(&heard, &err, "%s\n", line), &err);
}

static const Log listener = {.write = hear, .level = LOG_INFO};

/* The whole recipe's lines can be given back through --set. */
static void printed_lines_can_be_set_again(void **state)
{
    (void)state;
    Recipe *r, *again;
    CHECK_OK(open_with(&r, "demo", NULL, NULL, SETS("sampling.negative_prompt=a \"b\"", "training.learning_rate=0.1")),
             &err);
    recipe_log(r, 1, &listener);
    assert_memory_equal(heard.data, "recipe: preset demo, every key:\n", 32);
    assert_non_null(strstr(heard.data, "\n  training.learning_rate = 0.1\n"));
    const char *items[512]; /* more than there are keys */
    CommonOptions o = {.seed = -1, .set = {.item = items}};
    char *line = strtok(heard.data, "\n");
    for (line = strtok(NULL, "\n"); line; line = strtok(NULL, "\n")) {
        char *equals = strstr(line, " = ");
        assert_non_null(equals);
        assert_true(o.set.n < 512);
        memmove(equals, "=", 1);
        memmove(equals + 1, equals + 3, strlen(equals + 3) + 1);
        items[o.set.n++] = line + 2;
    }
    CHECK_OK(recipe_open(&again, &o, &err), &err);
    assert_true(json_equal(recipe_json(r), recipe_json(again)));
    str_fini(&heard);
    recipe_close(&r);
    recipe_close(&again);
}

static void check_logged(const char *preset, const char *const *set, const char *want)
{
    Recipe *r;
    CHECK_OK(open_with(&r, preset, NULL, NULL, set), &err);
    recipe_log(r, 0, &listener);
    assert_string_equal(heard.data, want);
    str_fini(&heard);
    recipe_close(&r);
}

/* What differs from the preset, in at most a dozen lines. */
static void only_differences_are_shown(void **state)
{
    (void)state;
    check_logged("demo", NULL, "recipe: preset demo, unchanged\n");
    check_logged(NULL, SETS("clip.bias_x=0.5"), "recipe: preset fashion-2b, unchanged\n"); /* the preset's own value */
    check_logged("demo", SETS("clip.width=64", "seed=7", "training.max_steps=3"),
                 "recipe: preset demo, changed in:\n  seed = 7\n  clip.width = 64\n  training.max_steps = 3\n");
    check_logged("demo",
                 SETS("seed=7", "clip.width=80", "clip.height=80", "clip.fps=9", "clip.min_side=17", "clip.min_fps=3.5",
                      "clip.bias_x=0.25", "clip.bias_y=0.25", "clip.max_lost=0.125", "clip.max_hold=3",
                      "clip.trim_bars=true", "clip.frames_fps=13"),
                 "recipe: preset demo, changed in:\n  seed = 7\n  clip.width = 80\n  clip.height = 80\n  clip.fps = 9\n"
                 "  clip.trim_bars = true\n  clip.max_hold = 3\n  clip.bias_x = 0.25\n  clip.bias_y = 0.25\n  "
                 "clip.max_lost = 0.125\n"
                 "  clip.min_side = 17\n  and 2 more (--print-recipe shows every key)\n");
}

static void frames(void **state)
{
    (void)state;
    int64_t latents = 0;
    static const int legal[][2] = {{1, 1}, {8, 2}, {9, 3}, {16, 4}, {17, 5}, {48, 12}, {49, 13}};
    for (size_t i = 0; i < sizeof legal / sizeof *legal; i++) {
        CHECK_OK(model_frames_check(legal[i][0], &latents, &err), &err);
        assert_int_equal(latents, legal[i][1]);
    }
    CHECK_FAILS(model_frames_check(12, &latents, &err), ERR_USAGE, "nearest are 9 and 16", &err);
    CHECK_FAILS(model_frames_check(47, &latents, &err), ERR_USAGE, "nearest are 41 and 48", &err);
    CHECK_FAILS(model_frames_check(0, &latents, &err), ERR_USAGE, "at least 1", &err);
    CHECK_FAILS(model_frames_check(-8, &latents, &err), ERR_USAGE, "at least 1", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_complete),
        cmocka_unit_test(schema_describes_every_key),
        cmocka_unit_test(precedence),
        cmocka_unit_test(yaml_config_equals_json_config),
        cmocka_unit_test(unknown_keys_that_hold_null_pass),
        cmocka_unit_test(refuses),
        cmocka_unit_test(flat_recipe),
        cmocka_unit_test(other_names),
        cmocka_unit_test(all_problems),
        cmocka_unit_test(stored_files_are_configs),
        cmocka_unit_test(options_for_keys),
        cmocka_unit_test(adopting),
        cmocka_unit_test(numbers_have_one_form),
        cmocka_unit_test(stored_recipes_are_completed),
        cmocka_unit_test(printed_lines_can_be_set_again),
        cmocka_unit_test(only_differences_are_shown),
        cmocka_unit_test(frames),
    };
    return check_run_live("base_recipe", tests);
}
