#include "common/ops/tensor.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int64_t size;
    const char *name;
} dtypes[DT_COUNT] = {
    [DT_F32] = {4, "F32"}, [DT_F16] = {2, "F16"}, [DT_BF16] = {2, "BF16"}, [DT_F64] = {8, "F64"}, [DT_U8] = {1, "U8"},
    [DT_I8] = {1, "I8"},   [DT_U16] = {2, "U16"}, [DT_I16] = {2, "I16"},   [DT_U32] = {4, "U32"}, [DT_I32] = {4, "I32"},
    [DT_U64] = {8, "U64"}, [DT_I64] = {8, "I64"}, [DT_BOOL] = {1, "BOOL"},
};

int64_t dtype_size(DType t)
{
    assert((unsigned)t < DT_COUNT);
    return dtypes[t].size;
}

const char *dtype_name(DType t)
{
    return (unsigned)t < DT_COUNT ? dtypes[t].name : "?";
}

int dtype_is_float(DType t)
{
    return t == DT_F32 || t == DT_F16 || t == DT_BF16 || t == DT_F64;
}

DType dtype_wide(DType act)
{
    return act == DT_F64 ? DT_F64 : DT_F32;
}

/* ---- views ----------------------------------------------------------------------------------- */

Tensor tensor_view(void *data, DType dtype, int rank, const int64_t *dim)
{
    assert(rank >= 0 && rank <= TENSOR_RANK_MAX);
    Tensor t = {.data = data, .dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++)
        t.dim[i] = dim[i];
    return t;
}

int64_t tensor_count(const Tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

int64_t tensor_bytes(const Tensor *t)
{
    return tensor_count(t) * dtype_size(t->dtype);
}

int tensor_same_shape(const Tensor *a, const Tensor *b)
{
    if (a->rank != b->rank)
        return 0;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return 0;
    return 1;
}

const char *tensor_describe(const Tensor *t, char *buf, int64_t size)
{
    int64_t at = snprintf(buf, (size_t)size, "%s [", dtype_name(t->dtype));
    for (int i = 0; i < t->rank && at < size; i++)
        at += snprintf(buf + at, (size_t)(size - at), "%s%" PRId64, i ? ", " : "", t->dim[i]);
    if (at < size)
        snprintf(buf + at, (size_t)(size - at), "]");
    return buf;
}

Tensor tensor_reshape(const Tensor *t, int rank, const int64_t *dim)
{
    Tensor r = tensor_view(t->data, t->dtype, rank, dim);
    assert(tensor_count(&r) == tensor_count(t));
    return r;
}

Tensor tensor_rows(const Tensor *t, int64_t first, int64_t n)
{
    assert(t->rank >= 1 && first >= 0 && n >= 0 && first + n <= t->dim[0]);
    Tensor r = *t;
    r.dim[0] = 1;
    r.data = (char *)t->data + first * tensor_bytes(&r);
    r.dim[0] = n;
    return r;
}

/* ---- 16-bit floats --------------------------------------------------------------------------- */

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31) /* infinity, NaN */
        return bits_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) { /* zero, subnormal: fraction * 2^-24, exact in float */
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t float_to_half(float f)
{
    uint32_t u = float_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff)); /* NaN, made quiet */
    if (a >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00); /* 65520 and more round to infinity */
    if (a < 0x38800000u) { /* under 2^-14: adding 0.5 leaves |f| in units of 2^-24, rounded to even, in the low bits */
        return (uint16_t)(sign | (float_bits(bits_float(a) + 0.5f) - 0x3f000000u));
    }
    a += 0xfff + (a >> 13 & 1); /* round to nearest even at bit 13 */
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

float bfloat_to_float(uint16_t b)
{
    return bits_float((uint32_t)b << 16);
}

uint16_t float_to_bfloat(float f)
{
    uint32_t u = float_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40); /* NaN, made quiet */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

double tensor_get(const Tensor *t, int64_t i)
{
    switch (t->dtype) {
    case DT_F32: return ((const float *)t->data)[i];
    case DT_F64: return ((const double *)t->data)[i];
    case DT_F16: return half_to_float(((const uint16_t *)t->data)[i]);
    case DT_BF16: return bfloat_to_float(((const uint16_t *)t->data)[i]);
    default: assert(!"tensor_get: a float type"); return NAN;
    }
}

void tensor_set(const Tensor *t, int64_t i, double value)
{
    switch (t->dtype) {
    case DT_F32: ((float *)t->data)[i] = (float)value; break;
    case DT_F64: ((double *)t->data)[i] = value; break;
    case DT_F16: ((uint16_t *)t->data)[i] = float_to_half((float)value); break;
    case DT_BF16: ((uint16_t *)t->data)[i] = float_to_bfloat((float)value); break;
    default: assert(!"tensor_set: a float type");
    }
}
