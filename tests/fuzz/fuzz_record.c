/* Any bytes as a cache record; an accepted one is read to its last element, and encodes to the very
 * header it came with. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/hash.h"
#include "common/store/cache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RecordView v;
    uint8_t header[RECORD_HEADER_SIZE];
    if (record_decode(&v, data, (int64_t)size, 0, "record", NULL) < 0)
        return 0;
    int sound = hash_xxh3(v.tensor.data, tensor_bytes(&v.tensor)) == v.checksum;
    if (sound != (record_decode(&v, data, (int64_t)size, 1, "record", NULL) == 0))
        abort();
    record_header_encode(header, v.kind, &v.tensor);
    if (memcmp(header, data, sound ? RECORD_HEADER_SIZE : RECORD_HEADER_SIZE - 8) != 0)
        abort();
    return 0;
}
