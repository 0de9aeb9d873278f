/* The safetensors header checks over any bytes, and then every accepted tensor read to its last
 * byte. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/store/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Through a file as well, so that mapping and access are exercised: the digest touches every byte
 * an entry claims. */
static void read_as_file(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/weft-fuzz-XXXXXX", hex[65];
    int fd = mkstemp(path);
    if (fd < 0)
        return;
    SafeTensors *s = NULL;
    if (write(fd, data, size) == (ssize_t)size && safetensors_open(&s, path, NULL) == 0) {
        if (safetensors_digest(s, hex, NULL) < 0)
            abort();
        for (int64_t i = 0; i < safetensors_count(s); i++)
            if (safetensors_find(s, safetensors_at(s, i)->name) != safetensors_at(s, i))
                abort();
    }
    safetensors_close(&s);
    close(fd);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (safetensors_check(data, (int64_t)size, NULL) == 0)
        read_as_file(data, size);
    return 0;
}
