#include "cache/export_layout.h"
#include <stdio.h>
#include <string.h>

/* out [n,m] <- in [m,n]. */
static void transpose(char *out, const char *in, int64_t m, int64_t n, int64_t size)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < n; k++)
            memcpy(out + (k * m + i) * size, in + (i * n + k) * size, (size_t)size);
}

void channels_first(Tensor *out, const Tensor *in)
{
    const int64_t *d = in->dim;
    void *data = out->data;
    *out = tensor_of(data, in->dtype, 4, d[3], d[0], d[1], d[2]);
    transpose(data, in->data, d[0] * d[1] * d[2], d[3], dtype_size(in->dtype));
}

void channels_last(Tensor *out, const Tensor *in)
{
    const int64_t *d = in->dim;
    void *data = out->data;
    *out = tensor_of(data, in->dtype, 4, d[1], d[2], d[3], d[0]);
    transpose(data, in->data, d[0], d[1] * d[2] * d[3], dtype_size(in->dtype));
}

int export_checksum(char hex[17], RecordKind kind, const Tensor *t, const char *key, Err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    Digest digest;
    int rc = digest_parse(key, &digest, err);
    if (rc < 0)
        return rc;
    record_header_encode(header, kind, t, &digest);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 2 * i, 3, "%02x", header[RECORD_HEADER_SIZE - 1 - i]); /* little-endian */
    return 0;
}
