/* The device back end: opening, memory, copies.  Compute runs on one stream; uploads go through
 * pinned slots on their own stream, ordered behind the work already enqueued and before the work
 * that follows. */
#include "common/ops/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>

int device_check(cudaError_t rc, const char *what, Err *err)
{
    if (rc == cudaSuccess)
        return 0;
    return err_set(err, rc == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE, "%s: %s", what,
                   cudaGetErrorString(rc));
}

int device_launched(const char *op, Err *err)
{
    cudaError_t rc = cudaGetLastError();
    return rc == cudaSuccess ? 0 : device_check(rc, op, err);
}

int device_scratch(Device *d, size_t bytes, char **out, Err *err)
{
    if (bytes > DEVICE_SCRATCH_BYTES)
        return err_set(err, ERR_LIMIT, "device scratch: %" PRId64 " bytes needed, %" PRId64 " are kept", bytes,
                       (int64_t)DEVICE_SCRATCH_BYTES);
    *out = d->scratch;
    return 0;
}

int device_read(Device *d, double *out, const double *src, int64_t n, const char *what, Err *err)
{
    DEVICE_TRY(device_check(
        cudaMemcpyAsync(d->landing, src, (size_t)n * sizeof *out, cudaMemcpyDeviceToHost, d->compute), what, err));
    DEVICE_TRY(device_check(cudaStreamSynchronize(d->compute), what, err));
    memcpy(out, d->landing, (size_t)n * sizeof *out);
    return 0;
}

int device_check_kept(const char *op, const Tensor *t, Err *err)
{
    if (t->dtype == DT_F32 || t->dtype == DT_BF16 || t->dtype == DT_F16)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "%s: %s tensors are not kept on the device", op, dtype_name(t->dtype));
}

/* ---- Backend's memory functions -------------------------------------------------------------- */

static int device_alloc(Backend *be, int64_t bytes, void **out, Err *err)
{
    cudaError_t rc = cudaMalloc(out, (size_t)bytes);
    be->allocated += rc == cudaSuccess ? bytes : 0;
    if (rc == cudaSuccess)
        return 0;
    size_t room = 0, total = 0;
    cudaMemGetInfo(&room, &total);
    cudaGetLastError();
    return err_set(err, ERR_NOMEM, "device memory: %" PRId64 " bytes needed, %zu of %zu free", bytes, room, total);
}

static void device_release(Backend *be, void *p)
{
    if (!p)
        return;
    cudaStreamSynchronize(device_of(be)->compute);
    cudaFree(p);
}

static int device_upload(Backend *be, void *dst, const void *host, int64_t bytes, Err *err)
{
    Device *d = device_of(be);
    if (bytes <= 0)
        return 0;
    DEVICE_TRY(device_check(cudaEventRecord(d->compute_done, d->compute), "upload", err));
    DEVICE_TRY(device_check(cudaStreamWaitEvent(d->copy, d->compute_done, 0), "upload", err));
    for (int64_t at = 0; at < bytes; at += PINNED_BYTES) {
        int64_t n = bytes - at < PINNED_BYTES ? bytes - at : PINNED_BYTES;
        int slot = d->next_slot;
        d->next_slot = (slot + 1) % PINNED_SLOTS;
        /* its last copy is through */
        DEVICE_TRY(device_check(cudaEventSynchronize(d->slot_free[slot]), "upload", err));
        memcpy(d->slot[slot], (const char *)host + at, (size_t)n);
        DEVICE_TRY(
            device_check(cudaMemcpyAsync((char *)dst + at, d->slot[slot], (size_t)n, cudaMemcpyHostToDevice, d->copy),
                         "upload", err));
        DEVICE_TRY(device_check(cudaEventRecord(d->slot_free[slot], d->copy), "upload", err));
        if (at + n == bytes)
            return device_check(cudaStreamWaitEvent(d->compute, d->slot_free[slot], 0), "upload", err);
    }
    return 0;
}

static int device_download(Backend *be, void *host, const void *src, int64_t bytes, Err *err)
{
    Device *d = device_of(be);
    for (int64_t at = 0; at < bytes; at += PINNED_BYTES) {
        int64_t n = bytes - at < PINNED_BYTES ? bytes - at : PINNED_BYTES;
        DEVICE_TRY(device_check(
            cudaMemcpyAsync(d->landing, (const char *)src + at, (size_t)n, cudaMemcpyDeviceToHost, d->compute),
            "download", err));
        DEVICE_TRY(device_check(cudaStreamSynchronize(d->compute), "download", err));
        memcpy((char *)host + at, d->landing, (size_t)n);
    }
    return 0;
}

static int device_sync(Backend *be, Err *err)
{
    DEVICE_TRY(device_check(cudaStreamSynchronize(device_of(be)->copy), "device", err));
    return device_check(cudaStreamSynchronize(device_of(be)->compute), "device", err);
}

static void device_close(Backend *be)
{
    Device *d = device_of(be);
    device_link_close(d, 0);
    if (d->copy)
        cudaStreamSynchronize(d->copy);
    if (d->compute)
        cudaStreamSynchronize(d->compute);
    for (int i = 0; i < d->plans; i++) {
        cublasLtMatmulDescDestroy(d->plan[i].desc);
        cublasLtMatrixLayoutDestroy(d->plan[i].a);
        cublasLtMatrixLayoutDestroy(d->plan[i].b);
        cublasLtMatrixLayoutDestroy(d->plan[i].d);
    }
    if (d->preference)
        cublasLtMatmulPreferenceDestroy(d->preference);
    if (d->lt)
        cublasLtDestroy(d->lt);
    for (int i = 0; i < PINNED_SLOTS; i++) {
        if (d->slot[i])
            cudaFreeHost(d->slot[i]);
        if (d->slot_free[i])
            cudaEventDestroy(d->slot_free[i]);
    }
    if (d->landing)
        cudaFreeHost(d->landing);
    if (d->compute_done)
        cudaEventDestroy(d->compute_done);
    if (d->workspace)
        cudaFree(d->workspace);
    if (d->scratch)
        cudaFree(d->scratch);
    if (d->copy)
        cudaStreamDestroy(d->copy);
    if (d->compute)
        cudaStreamDestroy(d->compute);
    free(d);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_memory(Device *d, Err *err)
{
    DEVICE_TRY(device_check(cudaStreamCreateWithFlags(&d->compute, cudaStreamNonBlocking), "compute stream", err));
    DEVICE_TRY(device_check(cudaStreamCreateWithFlags(&d->copy, cudaStreamNonBlocking), "copy stream", err));
    DEVICE_TRY(device_check(cudaEventCreateWithFlags(&d->compute_done, cudaEventDisableTiming), "event", err));
    for (int i = 0; i < PINNED_SLOTS; i++) {
        DEVICE_TRY(device_check(cudaMallocHost(&d->slot[i], (size_t)PINNED_BYTES), "pinned memory", err));
        DEVICE_TRY(device_check(cudaEventCreateWithFlags(&d->slot_free[i], cudaEventDisableTiming), "event", err));
    }
    DEVICE_TRY(device_check(cudaMallocHost(&d->landing, (size_t)PINNED_BYTES), "pinned memory", err));
    DEVICE_TRY(device_check(cudaMalloc(&d->workspace, DEVICE_WORKSPACE_BYTES), "cuBLASLt workspace", err));
    d->be.allocated = DEVICE_SCRATCH_BYTES + DEVICE_WORKSPACE_BYTES;
    return device_check(cudaMalloc((void **)&d->scratch, DEVICE_SCRATCH_BYTES), "scratch", err);
}

static int open_matmul(Device *d, Err *err)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    size_t bytes = DEVICE_WORKSPACE_BYTES;
    /* The library's defaults would let it add partial sums that are rounded to bf16, and need
     * operands at multiples of 256 bytes. */
    const uint32_t exact = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = 16;
    if (cublasLtCreate(&d->lt) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulPreferenceCreate(&d->preference) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulPreferenceSetAttribute(d->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                             sizeof bytes) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulPreferenceSetAttribute(d->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &exact,
                                             sizeof exact) != CUBLAS_STATUS_SUCCESS)
        return err_set(err, ERR_DEVICE, "cuBLASLt could not be opened");
    for (auto a : alignments)
        if (cublasLtMatmulPreferenceSetAttribute(d->preference, a, &alignment, sizeof alignment) !=
            CUBLAS_STATUS_SUCCESS)
            return err_set(err, ERR_DEVICE, "cuBLASLt does not take operands at multiples of 16 bytes");
    return 0;
}

static void fill_table(OpsTable *t)
{
    device_elementwise_table(t);
    device_move_table(t);
    device_linear_table(t);
    device_norm_table(t);
    device_groupnorm_table(t);
    device_attention_table(t);
    device_conv_table(t);
    device_train_table(t);
}

/* Where mpirun or srun started several processes on one machine, each takes the next device. */
static int device_number(int devices)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"};
    for (const char *name : names) {
        const char *text = getenv(name);
        if (text && *text >= '0' && *text <= '9')
            return atoi(text) % devices;
    }
    return 0;
}

extern "C" int WEFT_DEVICE_OPEN(Backend **out, const Log *log, Err *err)
{
    int n = 0;
    cudaDeviceProp prop;
    *out = nullptr;
    cudaError_t rc = cudaGetDeviceCount(&n);
    if (rc != cudaSuccess || n < 1)
        return err_set(err, ERR_DEVICE, "no CUDA device: %s",
                       rc == cudaSuccess ? "none is present" : cudaGetErrorString(rc));
    int number = device_number(n);
    DEVICE_TRY(device_check(cudaSetDevice(number), "device", err));
    DEVICE_TRY(device_check(cudaGetDeviceProperties(&prop, number), "device properties", err));
    if (prop.major < 8)
        return err_set(err, ERR_UNSUPPORTED, "device '%s' has compute capability %d.%d, expected 8.0 or higher",
                       prop.name, prop.major, prop.minor);
    Device *d = (Device *)calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for the device back end");
    fill_table(&d->table);
    d->capability = prop.major * 10 + prop.minor;
    d->be.name = WEFT_DEVICE_NAME;
    d->be.ops = &d->table;
    d->be.act = DT_BF16;
    d->be.threads = 1;
    snprintf(d->be.card, sizeof d->be.card, "%s", prop.name);
    d->be.log = log;
    d->be.alloc = device_alloc;
    d->be.release = device_release;
    d->be.upload = device_upload;
    d->be.download = device_download;
    d->be.sync = device_sync;
    d->be.close = device_close;
    d->be.selftest = device_selftest;
    d->be.link = &device_link;
    int ret = open_memory(d, err);
    if (ret == 0)
        ret = open_matmul(d, err);
    if (ret < 0) {
        device_close(&d->be);
        return ret;
    }
    /* not log_info: the shared object carries as little of the library as it can */
    if (log && log->level >= LOG_INFO) {
        char line[400];
        snprintf(line, sizeof line, "device: %s, %d SMs, compute capability %d.%d, %.1f GiB", prop.name,
                 prop.multiProcessorCount, prop.major, prop.minor, (double)prop.totalGlobalMem / (1 << 30));
        log->write(log->user, LOG_INFO, line);
    }
    *out = &d->be;
    return 0;
}
