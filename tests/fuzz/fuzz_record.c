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
    const Digest key = {{0}};
    if (record_decode(&v, data, (int64_t)size, NULL, "record", NULL) < 0)
        return 0;
    record_header_encode(header, v.kind, &v.tensor, &key);
    int sound = v.version == 1 ? hash_xxh3(v.tensor.data, tensor_bytes(&v.tensor)) == v.checksum
                               : memcmp(header, data, RECORD_HEADER_SIZE) == 0;
    if (sound != (record_decode(&v, data, (int64_t)size, &key, "record", NULL) == 0))
        abort();
    header[4] = data[4]; /* an older version is read, never written */
    if (memcmp(header, data, RECORD_HEADER_SIZE - 8) != 0)
        abort();
    return 0;
}
