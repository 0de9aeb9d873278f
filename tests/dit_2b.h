/* The configuration of CogVideoX-2B's transformer, which is a macro so that constants can be made of it. */
#ifndef WEFT_TESTS_DIT_2B_H
#define WEFT_TESTS_DIT_2B_H
#include "common/model/dit.h"

#define DIT_2B(blocks)                                                                                           \
    {                                                                                                            \
        .heads = 30, .head_dim = 64, .layers = (blocks), .in_channels = 16, .out_channels = 16, .patch = 2,      \
        .time_dim = 512, .text_dim = 4096, .text_len = 226, .sample_width = 90, .sample_height = 60,             \
        .sample_frames = 49, .temporal_ratio = 4, .spatial_scale = 1.875, .temporal_scale = 1, .norm_eps = 1e-5, \
        .flip_sin_to_cos = 1                                                                                     \
    }
#endif
