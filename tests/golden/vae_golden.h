/* One recorded run of a VAE: its input, and figures of what diffusers computed from it. */
#ifndef WEFT_TESTS_GOLDEN_VAE_GOLDEN_H
#define WEFT_TESTS_GOLDEN_VAE_GOLDEN_H
#include <stdint.h>

typedef struct Golden {
    const char *what;
    uint32_t S; /* the filler's seed of the input */
    int decode, chunked, tiled;
    int64_t T, H, W;        /* input */
    int64_t To, Ho, Wo, Co; /* output */
    double mean, rms, value[8];
} Golden;
#endif
