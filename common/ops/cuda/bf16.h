/* bfloat16 as kernels see it: storage only; arithmetic is float. */
#ifndef WEFT_COMMON_OPS_CUDA_BF16_H
#define WEFT_COMMON_OPS_CUDA_BF16_H
#include <stdint.h>

struct bf16 {
    uint16_t bits;
};
#endif
