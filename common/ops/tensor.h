/* A tensor view: pointer, element type, shape.  Always contiguous, row-major, last index fastest;
 * 64-bit sizes.
 * A view owns nothing: who allocated the memory frees it. */
#ifndef WEFT_COMMON_OPS_TENSOR_H
#define WEFT_COMMON_OPS_TENSOR_H
#include <stdint.h>
#include "common/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum DType { /* values are stored in cache records: append, never renumber */
                     DT_F32 = 0,
                     DT_F16 = 1,
                     DT_BF16 = 2,
                     DT_F64 = 3,
                     DT_U8 = 4,
                     DT_I8 = 5,
                     DT_U16 = 6,
                     DT_I16 = 7,
                     DT_U32 = 8,
                     DT_I32 = 9,
                     DT_U64 = 10,
                     DT_I64 = 11,
                     DT_BOOL = 12,
                     DT_COUNT
} DType;

#define TENSOR_RANK_MAX 8

typedef struct Tensor {
    void *data;
    DType dtype;
    int rank;
    int64_t dim[TENSOR_RANK_MAX];
} Tensor;

int64_t dtype_size(DType t);     /* bytes an element */
const char *dtype_name(DType t); /* safetensors spelling: "F32", "BF16", ... */
int dtype_is_float(DType t);     /* F32, F16, BF16, F64 */
DType dtype_wide(DType act);     /* what is kept exact beside activations of that type: F64 for F64, else F32 */

Tensor tensor_view(void *data, DType dtype, int rank, const int64_t *dim);
/* tensor_of(p, DT_F32, 2, 3, 4): dims as int arguments (int64_t accepted through the macro). */
#define tensor_of(data, dtype, rank, ...) tensor_view((data), (dtype), (rank), (const int64_t[]){__VA_ARGS__})
int64_t tensor_count(const Tensor *t); /* elements */
int64_t tensor_bytes(const Tensor *t);
int tensor_same_shape(const Tensor *a, const Tensor *b);
/* "F32 [2, 3, 4]" into buf; returns buf. */
const char *tensor_describe(const Tensor *t, char *buf, int64_t size);
/* View of the same elements with another shape (counts must agree: asserted). */
Tensor tensor_reshape(const Tensor *t, int rank, const int64_t *dim);
#define tensor_as(t, rank, ...) tensor_reshape((t), (rank), (const int64_t[]){__VA_ARGS__})
/* View of rows [first, first+n) along the first axis. */
Tensor tensor_rows(const Tensor *t, int64_t first, int64_t n);

/* Scalar conversions, round to nearest even; NaN stays NaN. */
float half_to_float(uint16_t h);
uint16_t float_to_half(float f);
float bfloat_to_float(uint16_t b);
uint16_t float_to_bfloat(float f);
/* Element i of a float tensor in host memory, as double; and set, rounded to the tensor's type
 * (through float for the 16-bit types). */
double tensor_get(const Tensor *t, int64_t i);
void tensor_set(const Tensor *t, int64_t i, double value);

#ifdef __cplusplus
}
#endif
#endif
