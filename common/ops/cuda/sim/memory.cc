/* Device memory of the simulator: blocks filled with 0xff, so that arithmetic sees what was never written.
 *
 * A large block is a private mapping of one piece of such bytes: only pages that are written take memory, and time.
 * (A device opens with 128 MB of scratch and pinned memory, of which little is touched.)  AddressSanitizer, which
 * sees overruns of heap blocks alone, gets those. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>

#include "common/ops/cuda/sim/runtime.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEAP_ALONE 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEAP_ALONE 1
#endif

namespace
{

const size_t PIECE = 2 << 20, LARGE = 1 << 20;

std::mutex lock;
std::map<void *, size_t> mapped; /* large blocks and their sizes */

/* A file in memory of PIECE bytes 0xff; -1 where there is none. */
int open_piece(void)
{
#if defined(HEAP_ALONE)
    return -1;
#else
    int fd = memfd_create("weft-sim", MFD_CLOEXEC);
    void *p = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)PIECE) == 0)
        p = mmap(nullptr, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    memset(p, 0xff, PIECE);
    munmap(p, PIECE);
    return fd;
#endif
}

void *map_large(size_t n)
{
    static const int fd = open_piece();
    if (fd < 0)
        return nullptr;
    void *p = mmap(nullptr, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return nullptr;
    for (size_t at = 0; at < n; at += PIECE)
        if (mmap((char *)p + at, n - at < PIECE ? n - at : PIECE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
            munmap(p, n);
            return nullptr;
        }
    std::lock_guard<std::mutex> guard(lock);
    mapped[p] = n;
    return p;
}

} // namespace

void *sim_memory_new(size_t n)
{
    void *p = n >= LARGE ? map_large(n) : nullptr;
    if (!p && posix_memalign(&p, 256, n ? n : 1) == 0)
        memset(p, 0xff, n);
    return p;
}

void sim_memory_free(void *p)
{
    {
        std::lock_guard<std::mutex> guard(lock);
        auto at = mapped.find(p);
        if (at != mapped.end()) {
            munmap(p, at->second);
            mapped.erase(at);
            return;
        }
    }
    free(p);
}
