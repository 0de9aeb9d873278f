/* The jobs the device is for, on random weights, at the size of CogVideoX-2B or at a toy's: run on
 * a counting back end they give the prediction, on a real one the benchmark. */
#ifndef WEFT_TESTS_CUDA_TASK_H
#define WEFT_TESTS_CUDA_TASK_H
#include "common/model/dit.h"
#include "common/model/t5.h"
#include "common/model/vae.h"

typedef struct Size {
    const char *name;
    DitConfig dit;
    VaeConfig vae;
    T5Config t5;
    int64_t frames, height, width; /* pixels */
    int64_t batch;                 /* of training */
    int64_t sampling_steps;
} Size;
extern const Size size_2b, size_toy;

typedef enum TaskKind {
    TASK_TRAIN_NONE,
    TASK_TRAIN_BLOCK,
    TASK_TRAIN_BLOCK_ATTENTION, /* an optimiser step, by recompute policy */
    TASK_ENCODE,
    TASK_DECODE, /* a clip through the VAE */
    /* one sampling step: both halves of guidance, the update */
    TASK_SAMPLE,
    TASK_TEXT, /* a caption through T5 */
    TASKS
} TaskKind;
extern const char *const task_names[TASKS];

typedef struct Task Task;
/* work_bytes: task_work_bytes() of the same task after a run on a counting back end, where it is
 * ignored. */
int task_open(Task **out, Backend *be, const Size *z, TaskKind kind, int64_t work_bytes, Err *err);
int task_run(Task *t, Err *err);
int64_t task_work_bytes(const Task *t); /* most working memory in use so far */
int64_t task_kept_bytes(const Task *t); /* weights; in training master weights, gradients, moments too */
void task_close(Task **t);
#endif
