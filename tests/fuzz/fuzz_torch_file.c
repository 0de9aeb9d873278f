/* PyTorch's files, archives and streams, as whole files of any bytes; every tensor that is accepted is
 * read to its last byte. */
#include <stdint.h>
#include <stdlib.h>
#include "common/base/hash.h"
#include "common/store/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SafeTensors *s = NULL;
    if (torch_file_read(&s, data, (int64_t)size, NULL) < 0)
        return 0;
    uint64_t sum = 0;
    for (int64_t i = 0; i < safetensors_count(s); i++) {
        const SafeEntry *e = safetensors_at(s, i);
        sum += hash_xxh3(e->tensor.data, tensor_bytes(&e->tensor));
        if (safetensors_find(s, e->name) != e)
            abort();
    }
    safetensors_close(&s);
    return sum == 0x5eed; /* the sum is used */
}
