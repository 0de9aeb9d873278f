/* The record: 48 bytes of header and a raw tensor. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/store/cache.h"

enum { RECORD_RANK = 5 };
static const uint8_t magic[4] = {'W', 'E', 'F', 'T'};

/* Field offsets, as the header documents them. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_DTYPE = 6,
    AT_KIND = 8,
    AT_RANK = 9,
    AT_ZERO = 10,
    AT_DIMS = 12,
    AT_BYTES = 32,
    AT_CHECKSUM = 40
};

static void put_le(uint8_t *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *in, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint64_t)in[i] << (8 * i);
    return v;
}

/* Of version 2: over the payload, seeded with that of the key and of the header's other 40 bytes. */
static uint64_t record_sum(int version, const uint8_t *header, const Tensor *t, const Digest *key)
{
    uint8_t all[sizeof key->byte + AT_CHECKSUM];
    if (version == 1)
        return hash_xxh3(t->data, tensor_bytes(t));
    memcpy(all, key->byte, sizeof key->byte);
    memcpy(all + sizeof key->byte, header, AT_CHECKSUM);
    return hash_xxh3_seeded(t->data, tensor_bytes(t), hash_xxh3(all, sizeof all));
}

int record_check_tensor(RecordKind kind, const Tensor *t, Err *err)
{
    char shape[128];
    int floats = t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16, fits = 0;
    switch (kind) {
    case RECORD_MOMENTS: fits = floats && t->rank == 4 && t->dim[3] % 2 == 0; break;
    case RECORD_SAMPLE: fits = floats && t->rank == 4; break;
    case RECORD_TEXT: fits = floats && t->rank == 2; break;
    case RECORD_TOKENS: fits = t->dtype == DT_I32 && t->rank == 1; break;
    }
    for (int i = 0; fits && i < t->rank; i++)
        fits = t->dim[i] >= 0 && t->dim[i] <= UINT32_MAX;
    if (fits)
        return 0;
    return err_set(err, ERR_FORMAT, "a record of kind %d cannot hold %s", (int)kind,
                   tensor_describe(t, shape, sizeof shape));
}

void record_header_encode(uint8_t out[RECORD_HEADER_SIZE], RecordKind kind, const Tensor *t, const Digest *key)
{
    assert(t->rank <= RECORD_RANK);
    memset(out, 0, RECORD_HEADER_SIZE);
    memcpy(out + AT_MAGIC, magic, 4);
    put_le(out + AT_VERSION, RECORD_VERSION, 2);
    put_le(out + AT_DTYPE, t->dtype, 2);
    out[AT_KIND] = (uint8_t)kind;
    out[AT_RANK] = (uint8_t)t->rank;
    for (int i = 0; i < t->rank; i++)
        put_le(out + AT_DIMS + 4 * i, (uint64_t)t->dim[i], 4);
    put_le(out + AT_BYTES, (uint64_t)tensor_bytes(t), 8);
    put_le(out + AT_CHECKSUM, record_sum(RECORD_VERSION, out, t, key), 8);
}

int record_decode(RecordView *out, const void *bytes, int64_t size, const Digest *key, const char *what, Err *err)
{
    const uint8_t *h = bytes;
    if (size < RECORD_HEADER_SIZE)
        return err_set(err, ERR_FORMAT, "%s: %" PRId64 " bytes, a record has at least %d", what, size,
                       RECORD_HEADER_SIZE);
    if (memcmp(h + AT_MAGIC, magic, 4) != 0)
        return err_set(err, ERR_FORMAT, "%s: not a record (wrong magic)", what);
    uint64_t version = get_le(h + AT_VERSION, 2), dtype = get_le(h + AT_DTYPE, 2), length = get_le(h + AT_BYTES, 8);
    int rank = h[AT_RANK];
    if (version < 1 || version > RECORD_VERSION)
        return err_set(err, ERR_UNSUPPORTED, "%s: record version %llu, expected 1 to %d", what,
                       (unsigned long long)version, RECORD_VERSION);
    if (dtype >= DT_COUNT)
        return err_set(err, ERR_FORMAT, "%s: unknown dtype %llu", what, (unsigned long long)dtype);
    if (rank > RECORD_RANK || get_le(h + AT_ZERO, 2) != 0)
        return err_set(err, ERR_FORMAT, "%s: damaged header (rank %d)", what, rank);
    int64_t dim[RECORD_RANK], need = dtype_size((DType)dtype);
    for (int i = 0; i < RECORD_RANK; i++) {
        dim[i] = (int64_t)get_le(h + AT_DIMS + 4 * i, 4);
        if (i >= rank && dim[i] != 0)
            return err_set(err, ERR_FORMAT, "%s: damaged header (unused dimension %" PRId64 ")", what, dim[i]);
        if (i < rank && mem_mul(need, dim[i], &need) < 0)
            return err_set(err, ERR_FORMAT, "%s: its shape overflows", what);
    }
    if (need != size - RECORD_HEADER_SIZE || length != (uint64_t)need)
        return err_set(err, ERR_FORMAT, "%s: its shape needs %" PRId64 " bytes, its header says %llu, it has %" PRId64,
                       what, need, (unsigned long long)length, size - RECORD_HEADER_SIZE);
    RecordView v = {.kind = (RecordKind)h[AT_KIND], .version = (int)version, .checksum = get_le(h + AT_CHECKSUM, 8)};
    v.tensor = tensor_view((void *)(h + RECORD_HEADER_SIZE), (DType)dtype, rank, dim);
    int rc = record_check_tensor(v.kind, &v.tensor, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", what);
    if (key && record_sum(v.version, h, &v.tensor, key) != v.checksum)
        return err_set(err, ERR_FORMAT, "%s: damaged, its checksum does not match its bytes", what);
    *out = v;
    return 0;
}

int record_is_finite(const Tensor *t)
{
    const float *f = t->data;
    const uint16_t *half = t->data;
    int64_t n = tensor_count(t);
    uint32_t exponent = t->dtype == DT_F16 ? 0x7C00 : 0x7F80, odd = 0;
    if (t->dtype == DT_F32)
        for (int64_t i = 0; i < n; i++)
            odd |= (uint32_t)!isfinite(f[i]);
    else if (t->dtype == DT_F16 || t->dtype == DT_BF16)
        for (int64_t i = 0; i < n; i++)
            odd |= (uint32_t)((half[i] & exponent) == exponent);
    return !odd;
}
