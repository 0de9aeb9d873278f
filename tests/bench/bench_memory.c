/* What weft-train takes of memory on the cpu back end, for four layers of CogVideoX-2B's width: all weights
 * with AdamW, with 8-bit AdamW, and LoRA of rank 64.  tests/bench/memory_torch.py does the same work with
 * PyTorch, diffusers, peft and bitsandbytes on the same model.
 *
 *   build/release/tests/bench/bench_memory [FOLDER]     FOLDER gets model/ and stays; default: a temporary one */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/store/cache.h"
#include "train/run.h"

/* 17 frames of 160 x 128 pixels: 5 x 10 x 8 video tokens and 226 of text */
enum { FRAMES = 5, HEIGHT = 20, WIDTH = 16, CHANNELS = 16, TEXT = 226, TEXT_DIM = 4096 };
#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char config_json[] = "{\"_class_name\": \"CogVideoXTransformer3DModel\", \"num_layers\": 4}";

typedef struct Case {
    const char *name, *set;
} Case;

/* Bytes, as the child tells them. */
typedef struct Facts {
    double start, weights, activations, planned;
} Facts;

static const char *dir;

static void die(const Err *err)
{
    fprintf(stderr, "bench_memory: %s\n", err->msg);
    exit(1);
}

static char *in_dir(const char *name)
{
    Err err = {0};
    char *path = path_join(dir, name, &err);

    if (!path)
        die(&err);
    return path;
}

/* ---- the model and the cache ----------------------------------------------------------------- */

static int make_model(Err *err)
{
    char *model = in_dir("model"), *transformer = in_dir("model/transformer");
    Backend *cpu = NULL;
    json_t *json = NULL;
    DitConfig config;
    Dit *dit = NULL;
    int rc = file_look(transformer, err);

    if (rc == 0 && (rc = json_parse(&json, config_json, sizeof config_json - 1, "config", err)) == 0 &&
        (rc = dit_config_parse(&config, json, "config", err)) == 0 &&
        (rc = backend_open(&cpu, "cpu", 0, NULL, err)) == 0 && (rc = dir_make(model, err)) == 0 &&
        (rc = dit_new_filled(&dit, cpu, &config, DIT_MAPPED, err)) == 0)
        rc = dit_save(dit, transformer, DT_F32, err);
    json_decref(json);
    dit_close(&dit);
    backend_close(&cpu);
    mem_free(model);
    mem_free(transformer);
    return rc < 0 ? rc : 0;
}

static int put_meta(Cache *c, const char *key, json_t *value, Err *err)
{
    int rc = value ? cache_put_meta(c, key, value, err) : ERR_NOMEM;

    json_decref(value);
    return rc;
}

static int put_record(Cache *c, CacheDb db, RecordKind kind, const char *hex, Tensor t, Err *err)
{
    Philox p = philox_stream(1, RNG_TEST, 0, (uint64_t)db);
    Digest key;
    int rc = (t.data = mem_calloc(tensor_count(&t), sizeof(float), err)) ? digest_parse(hex, &key, err) : ERR_NOMEM;

    if (rc == 0) {
        philox_fill_normal(&p, 0, t.data, tensor_count(&t));
        rc = cache_put_record(c, db, &key, kind, &t, err);
    }
    mem_free(t.data);
    return rc;
}

static int put_clip(Cache *c, Err *err)
{
    json_t *facts = json_pack(
        "{s:s, s:[s], s:[s], s:[s], s:s, s:s, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:s, s:s, s:s, "
        "s:s}",
        "latents", HEX64, "texts", OTHER, "tokens", HEX64, "captions", "one", "split", "train", "category", "dress",
        "attributes", "frames", 4 * FRAMES - 3, "height", 8 * HEIGHT, "width", 8 * WIDTH, "fps", 8, "latent", "frames",
        FRAMES, "height", HEIGHT, "width", WIDTH, "channels", CHANNELS, "pixels_sha256", HEX64, "file_sha256", HEX64,
        "vae_sha256", HEX64, "text_encoder_sha256", HEX64);
    int rc = facts ? cache_put_clip(c, "clip", facts, err) : ERR_NOMEM;

    json_decref(facts);
    return rc;
}

static int make_cache(Err *err)
{
    char *path = in_dir("cache");
    Cache *c = NULL;
    int rc = dir_remove(path, err);

    if (rc == 0 && (rc = cache_open(&c, path, CACHE_WRITE, err)) == 0 &&
        (rc = put_meta(c, "vae",
                       json_pack("{s:f, s:b, s:i, s:{}, s:s, s:n}", "scaling_factor", 1.15258426,
                                 "invert_scale_latents", 0, "latent_channels", CHANNELS, "config", "weights_sha256",
                                 HEX64, "tiling"),
                       err)) == 0 &&
        (rc = put_meta(c, "text",
                       json_pack("{s:i, s:i, s:{}, s:s, s:s, s:s}", "length", TEXT, "dim", TEXT_DIM, "config",
                                 "weights_sha256", HEX64, "tokenizer_sha256", HEX64, "empty", OTHER),
                       err)) == 0 &&
        (rc = put_record(c, CACHE_LATENTS, RECORD_MOMENTS, HEX64,
                         tensor_of(NULL, DT_F32, 4, FRAMES, HEIGHT, WIDTH, 2 * CHANNELS), err)) == 0 &&
        (rc = put_record(c, CACHE_TEXT, RECORD_TEXT, OTHER, tensor_of(NULL, DT_F32, 2, TEXT, TEXT_DIM), err)) == 0 &&
        (rc = put_clip(c, err)) == 0)
        rc = cache_commit(c, err);
    cache_close(&c);
    mem_free(path);
    return rc;
}

/* ---- the runs -------------------------------------------------------------------------------- */

static double peak(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return 1024.0 * (double)u.ru_maxrss;
}

/* Two steps, in a process of their own. */
static int run(const Case *c, Facts *f, Err *err)
{
    char *cache = in_dir("cache"), *model = in_dir("model"), *out = in_dir("run");
    const char *sets[] = {"training.mixed_precision=no", "training.max_steps=2", "training.num_epochs=2", c->set};
    const char *caches[] = {cache};
    TrainOptions o = {.common = {.device = "cpu", .seed = 1, .quiet = 1, .set = {sets, 4}},
                      .cache = {caches, 1},
                      .out = out,
                      .model = model};
    Job j = {0};
    int64_t bytes = 0;
    FILE *unread = fopen("/dev/null", "w");
    int rc = unread ? dir_remove(out, err) : ERR_NOMEM;

    f->start = peak();
    if (rc == 0 && (rc = job_open(&j, &o, err)) == 0 && (rc = job_print(&j, unread, err)) == 0 &&
        (rc = job_plan_work(&j, j.c.policy, &bytes, err)) == 0) {
        f->activations = (double)bytes;
        f->planned = j.planned;
        f->weights = 4.0 * (double)j.parameters; /* those that are trained */
        rc = train_run(&j, out, err);
    }
    job_close(&j);
    if (unread)
        fclose(unread);
    if (rc == 0)
        rc = dir_remove(out, err);
    mem_free(cache);
    mem_free(model);
    mem_free(out);
    return rc;
}

/* Peak of a child that runs the case. */
static double measure(const Case *c, Facts *f)
{
    Err err = {0};
    struct rusage used;
    int to[2], status;
    pid_t pid;

    if (pipe(to) < 0 || (pid = fork()) < 0)
        exit(1);
    if (pid == 0) {
        if (run(c, f, &err) < 0)
            die(&err);
        _exit(write(to[1], f, sizeof *f) == sizeof *f ? 0 : 1);
    }
    if (wait4(pid, &status, 0, &used) != pid || status != 0 || read(to[0], f, sizeof *f) != sizeof *f)
        exit(1);
    close(to[0]);
    close(to[1]);
    return 1024.0 * (double)used.ru_maxrss;
}

int main(int argc, char **argv)
{
    static const Case cases[] = {{"all weights, AdamW", "training.use_8bit_adam=false"},
                                 {"all weights, 8-bit AdamW", "training.use_8bit_adam=true"},
                                 {"LoRA, rank 64", "training.lora_rank=64"}};
    char temporary[] = "/var/tmp/bench_memory.XXXXXX";
    double whole = 0, first = 0;
    Err err = {0};
    pid_t pid;
    int status;

    dir = argc > 1 ? argv[1] : mkdtemp(temporary);
    if (!dir)
        return 1;
    if ((pid = fork()) == 0) { /* the memory that making them takes is not the runs' */
        if (dir_make(dir, &err) < 0 || make_model(&err) < 0 || make_cache(&err) < 0)
            die(&err);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return 1;
    printf("%-26s %8s %8s %8s %8s %12s %8s %8s\n", "MB", "peak", "program", "weights", "activ.", "beyond both", "ratio",
           "planned");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Facts f = {0};
        double most = measure(&cases[i], &f), beyond;
        if (i == 0)
            whole = f.weights;
        beyond = most - f.start - whole - f.activations;
        if (i == 0)
            first = beyond;
        printf("%-26s %8.0f %8.0f %8.0f %8.0f %12.0f %8.3f %8.0f\n", cases[i].name, most / 1e6, f.start / 1e6,
               whole / 1e6, f.activations / 1e6, beyond / 1e6, beyond / first, f.planned / 1e6);
        fflush(stdout);
    }
    if (argc < 2 && dir_remove(dir, &err) < 0)
        die(&err);
    return 0;
}
