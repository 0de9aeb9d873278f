/* Block-wise dynamic quantisation to 8 bits (Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit
 * Optimizers via Block-wise Quantization", sections 2.2 and 3): one rule for host and device.
 *
 * Each block of 256 numbers is divided by its largest magnitude, its scale, which is kept as a float;
 * what remains, in [-1, 1], becomes the nearest of 256 values.  The values are those of dynamic tree
 * quantisation: in decade e = 0 .. 6 the interval [0.1, 1] 10^-e is cut into equal parts, 2^(6-e) of
 * them where a sign is kept and 2^(7-e) where numbers are never negative, and the middles of the parts
 * are the values; 0 and 1 are the last two.  (Bitsandbytes' create_dynamic_map gives the same ones.)
 *
 * Where numbers are never negative (squares), one that is not zero never becomes zero either: an
 * update divides by their root. */
#ifndef WEFT_COMMON_OPS_BLOCKWISE_H
#define WEFT_COMMON_OPS_BLOCKWISE_H
#include <stdint.h>

#ifndef HOST_AND_DEVICE /* port.h says what it takes where kernels are compiled */
#define HOST_AND_DEVICE
#endif

enum { BLOCKWISE_BLOCK = 256, BLOCKWISE_CODES = 256, BLOCKWISE_DECADES = 7 };

typedef struct BlockwiseMap {
    float value[BLOCKWISE_CODES]; /* ascending: code i stands for value[i] */
    float bound[BLOCKWISE_CODES]; /* numbers above bound[i] have a code above i; the last one is not used */
} BlockwiseMap;

static inline void blockwise_map(BlockwiseMap *m, int is_signed)
{
    const int zero = is_signed ? BLOCKWISE_CODES / 2 - 1 : 0;
    double decade = 1e-6;
    int n = 1;
    m->value[zero] = 0;
    for (int e = BLOCKWISE_DECADES - 1; e >= 0; e--, decade *= 10) {
        const int parts = 1 << (BLOCKWISE_DECADES - 1 - e + !is_signed);
        for (int k = 0; k < parts; k++, n++) {
            m->value[zero + n] = (float)(decade * (0.1 + 0.9 * (k + 0.5) / parts));
            if (is_signed)
                m->value[zero - n] = -m->value[zero + n];
        }
    }
    m->value[BLOCKWISE_CODES - 1] = 1;
    for (int i = 0; i + 1 < BLOCKWISE_CODES; i++)
        m->bound[i] = (float)(0.5 * ((double)m->value[i] + (double)m->value[i + 1]));
    m->bound[BLOCKWISE_CODES - 1] = 1;
    if (!is_signed)
        m->bound[0] = 0;
}

/* The code of x, a number divided by its block's scale. */
static inline HOST_AND_DEVICE uint8_t blockwise_code(const float *bound, float x)
{
    int code = 0;
    for (int step = BLOCKWISE_CODES / 2; step; step >>= 1)
        code += x > bound[code + step - 1] ? step : 0;
    return (uint8_t)code;
}
#endif
