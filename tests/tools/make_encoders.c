/* make_encoders OUT [N [WIDTH]]: OUT/vae, OUT/text_encoder and OUT/tokenizer, as small as they can be, with
 * the filler's weights; for N > 0 one weight of each is another, so that their digests are.  WIDTH:
 * of the embeddings.  What weft-cache needs of a model folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/t5.h"
#include "common/model/vae.h"
#include "common/text/t5_tokenizer.h"

static const VaeConfig small_vae = {.in_channels = 3,
                                    .out_channels = 3,
                                    .latent_channels = 4,
                                    .n_blocks = 4,
                                    .block_channels = {4, 4, 8, 8},
                                    .layers_per_block = 1,
                                    .groups = 4,
                                    .temporal_ratio = 4,
                                    .sample_height = 96,
                                    .sample_width = 80,
                                    .norm_eps = 1e-6,
                                    .scaling_factor = 1.15258426};
static const T5Config small_t5 = {.vocab = 256,
                                  .d_model = 16,
                                  .d_kv = 8,
                                  .heads = 2,
                                  .d_ff = 12, /* less than the width and a caption's tokens */
                                  .layers = 2,
                                  .buckets = 32,
                                  .max_distance = 128,
                                  .eps = 1e-6};
static const char *const lines[] = {"Clip number 1, a red dress.", "Clip number 2, a blue shirt with stripes.",
                                    "A woman walks forward.", "Clip number 34567890, a green coat."};

/* The filler's weights lie in host memory of the cpu back end. */
static void change(ParamSet *ps, int n)
{
    ((float *)ps->param[0].value.data)[0] += (float)n;
}

static int make_vae(const char *out, Backend *be, int n, Err *err)
{
    Vae *vae = NULL;
    char *dir = path_join(out, "vae", err);
    int rc = dir ? dir_make(dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = vae_new_filled(&vae, be, &small_vae, err);
    if (rc == 0)
        change(vae_params(vae), n);
    if (rc == 0)
        rc = vae_save(vae, dir, DT_F32, err);
    vae_close(&vae);
    mem_free(dir);
    return rc;
}

static int make_t5(const char *out, Backend *be, int n, int width, Err *err)
{
    T5Config config = small_t5;
    T5 *t5 = NULL;
    char *dir = path_join(out, "text_encoder", err);
    int rc = dir ? dir_make(dir, err) : ERR_NOMEM;
    if (width)
        config.d_model = width;
    if (rc == 0)
        rc = t5_new_filled(&t5, be, &config, err);
    if (rc == 0)
        change(t5_params(t5), n);
    if (rc == 0)
        rc = t5_save(t5, dir, DT_F32, err);
    t5_close(&t5);
    mem_free(dir);
    return rc;
}

static int make_tokenizer(const char *out, Err *err)
{
    char *dir = path_join(out, "tokenizer", err), *file = dir ? path_join(dir, "spiece.model", err) : NULL;
    int rc = file ? dir_make(dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = t5_tokenizer_train(file, lines, sizeof lines / sizeof *lines, 90, err);
    mem_free(file);
    mem_free(dir);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    Backend *be = NULL;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: make_encoders OUT [N [WIDTH]]\n");
        return 2;
    }
    int n = argc > 2 ? atoi(argv[2]) : 0, rc = backend_open(&be, "cpu", 1, NULL, &err);
    if (rc == 0)
        rc = make_vae(argv[1], be, n, &err);
    if (rc == 0)
        rc = make_t5(argv[1], be, n, argc > 3 ? atoi(argv[3]) : 0, &err);
    if (rc == 0)
        rc = make_tokenizer(argv[1], &err);
    backend_close(&be);
    if (rc < 0)
        fprintf(stderr, "make_encoders: %s\n", err.msg);
    return rc < 0;
}
