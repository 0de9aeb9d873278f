/* Between the simulator's own files: blocks (runtime.cc and the files that share block.h) and the
 * host interface (host.cc, lt.cc). */
#ifndef WEFT_COMMON_OPS_CUDA_SIM_RUNTIME_H
#define WEFT_COMMON_OPS_CUDA_SIM_RUNTIME_H
#include <stddef.h>
#include <stdint.h>

#include <functional>

/* Runs one block of the kernel whose grid, block and index stand in gridDim, blockDim, blockIdx;
 * false after a fault. */
bool sim_run_block(const char *kernel, const std::function<void()> &body, size_t smem);
/* Records the first fault and abandons the running block; only from a fiber. */
[[noreturn]] void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Records a fault of host code. */
void sim_host_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Tells the thread sanitizer where a launch begins and ends. */
void sim_order_launch(bool begin);
uint32_t sim_draw(void);
bool sim_event_is_skipped(void);
/* memory.cc: n bytes 0xff, at a multiple of 256; nullptr without memory. */
void *sim_memory_new(size_t n);
void sim_memory_free(void *p);

/* For wgmma.cc: 16 bytes at that offset of SMEM_TILES, or NULL; the running warp. */
char *sim_shared_at(uint32_t offset);
int sim_warp_index(void);
/* wgmma.cc, each for one warp with all its lanes there. */
void sim_wgmma_begin(int warps);
const char *sim_wgmma_end(int warps); /* what is wrong with the block that ends, or NULL */
void sim_wgmma_issue(int warp, int warps, void *const operands[32], bool at_once, const char *file, int line);
void sim_wgmma_fence(int warp);
void sim_wgmma_commit(int warp);
void sim_wgmma_wait(int warp, int pending, const char *file, int line);
#endif
