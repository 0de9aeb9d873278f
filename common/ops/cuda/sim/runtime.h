/* Between the simulator's own files: blocks (runtime.cc) and the host interface (host.cc, lt.cc). */
#ifndef WEFT_COMMON_OPS_CUDA_SIM_RUNTIME_H
#define WEFT_COMMON_OPS_CUDA_SIM_RUNTIME_H
#include <stddef.h>
#include <stdint.h>

#include <functional>

/* Runs one block of the kernel whose grid, block and index stand in gridDim, blockDim, blockIdx; false after a fault. */
bool sim_run_block(const char *kernel, const std::function<void()> &body, size_t smem);
/* Records the first fault and abandons the running block; only from a fiber. */
[[noreturn]] void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Records a fault of host code. */
void sim_host_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Tells the thread sanitizer where a launch begins and ends. */
void sim_order_launch(bool begin);
uint32_t sim_draw(void);
bool sim_event_is_skipped(void);
#endif
