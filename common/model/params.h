/* The named parameters of a model: its table of (name, shape), bound to a safetensors file or to
 * arenas.
 *
 * A model builds its ParamSet from its config alone; loading then compares the file with that table
 * and reports *all* missing, misshapen and unexpected names in one message.  Order is bytewise by
 * name: it is the order of flat arenas, of the filler (MODEL.md 1.4), and of checkpoints. */
#ifndef WEFT_COMMON_MODEL_PARAMS_H
#define WEFT_COMMON_MODEL_PARAMS_H
#include "common/ops/backend.h"
#include "common/store/safetensors.h"

typedef struct Param {
    char *name;
    const char *alias; /* borrowed: another name a file may use for it, or NULL; set it after params_finish */
    int64_t start;     /* its first element in the flat arenas; set by params_finish */
    int rank;
    int64_t dim[5]; /* as in the file: convolutions [Co,Ci,kt,kh,kw] */
    int conv;       /* kernel stored channels-last on the back end: value is [Co,kt,kh,kw,Ci] (2-D: kt = 1) */
    Tensor value;   /* on the back end, what operations read; data NULL until loaded */
    /* in the flat arena that an optimiser updates; value itself where operations read that; data
     * NULL: no arena */
    Tensor master;
    Tensor grad; /* of type grads, or data NULL */
} Param;

typedef struct ParamSet {
    Param *param;
    int64_t n; /* sorted by name after params_finish */
    Backend *be;
    void *owned[4]; /* back-end blocks: values, gradients, 16-bit copies, spare */
    int64_t flat;   /* elements of a flat arena: every tensor starts on a multiple of 16, gaps hold zeros */
    /* Types of the flat arenas: F32 (as in a zeroed ParamSet), or BF16 when set before the arenas are
     * allocated.  With BF16 values there are no F32 masters: norms and biases are BF16 too. */
    DType values, grads;
    int is_flat;                     /* values (the masters) lie in one flat arena */
    SafeTensors *file;               /* kept open when values point into the mapping */
    int (*ignore)(const char *name); /* 1 for a file's tensors that the model does not use; NULL: none */
    const char *left_out; /* borrowed: parameters whose names begin so are checked but not loaded; NULL: none */
} ParamSet;

/* Zero-initialise a ParamSet to start.  rank 0..5, extents >= 1; conv: rank 4 or 5. */
WEFT_MUST_CHECK int params_add(ParamSet *ps, int conv, const char *name, int rank, const int64_t *dim, Err *err);
/* params_add with a formatted name and the extents as arguments. */
int params_addf(ParamSet *ps, int conv, int rank, const int64_t *dim, Err *err, const char *fmt, ...) WEFT_PRINTF(6, 7);
WEFT_MUST_CHECK int params_finish(ParamSet *ps, Err *err); /* sorts; duplicate name: ERR_USAGE */
Param *params_find(const ParamSet *ps, const char *name);  /* NULL when absent */
int64_t params_count(const ParamSet *ps);                  /* elements in all, those left out too */
int64_t params_bytes(const ParamSet *ps, DType dtype);
/* What params_load_mapped allocates on a back end that copies every value, of the types that
 * params_plan gave. */
int64_t params_device_bytes(const ParamSet *ps);

/* Compares the file's names, shapes and types with the table: everything wrong in one message that
 * begins with `what`. */
WEFT_MUST_CHECK int params_check(const ParamSet *ps, const SafeTensors *file, const char *what, Err *err);
/* The same for the weights of a folder (see safetensors_open_folder); reads headers only. */
WEFT_MUST_CHECK int params_check_folder(const ParamSet *ps, const char *folder, const char *stem, const Log *log,
                                        Err *err);

/* On a back end whose activations are BF16, tensors of rank 2 and more are kept as BF16 and all
 * others (norms, biases) as F32, whatever the file holds; elsewhere a file's type is kept.  Nothing
 * larger than a few MB of a tensor is converted at a time.
 *
 * Values point into the mapped file where the back end's memory is host memory, the data are
 * aligned and no repacking is needed;
 * else they are copied (dtype kept).  Values left out have no data.  Takes over *file on success. */
WEFT_MUST_CHECK int params_load_mapped(ParamSet *ps, Backend *be, SafeTensors **file, const char *what, Err *err);
/* What that will allocate for this file; the set is good for nothing else afterwards. */
WEFT_MUST_CHECK int params_mapped_bytes(ParamSet *ps, Backend *be, const SafeTensors *file, const char *what,
                                        int64_t *bytes, Err *err);
/* Values in one flat arena (training), with BF16 copies of what operations read as BF16 and the
 * arena holds as F32.  The file stays the caller's. */
WEFT_MUST_CHECK int params_load_flat(ParamSet *ps, Backend *be, const SafeTensors *file, const char *what, Err *err);
/* Values in one flat arena, filled by the deterministic filler (MODEL.md 1.4): tests and the
 * demo's model. */
WEFT_MUST_CHECK int params_fill(ParamSet *ps, Backend *be, Err *err);
/* Values without contents, typed as loading an F32 file would: for the plan back end. */
WEFT_MUST_CHECK int params_plan(ParamSet *ps, Backend *be, Err *err);
/* After the flat arena of values changed: makes the copies again (nothing where there are none). */
WEFT_MUST_CHECK int params_refresh(ParamSet *ps, Err *err);
/* One flat arena of zeros for gradients, in the same order as the values' arena. */
WEFT_MUST_CHECK int params_alloc_grads(ParamSet *ps, Err *err);
/* The flat arenas as 1-D tensors of ps->flat elements (values of params_load_flat / params_fill;
 * their BF16 copies; grads); data NULL when there is none.  The gaps between tensors are zeros and
 * stay zeros under op_adamw. */
Tensor params_flat_values(const ParamSet *ps);
Tensor params_flat_copies(const ParamSet *ps);
Tensor params_flat_grads(const ParamSet *ps);
/* Host float32 copies of one parameter in its file's order (convolutions unpacked), and back. */
WEFT_MUST_CHECK int params_get(const ParamSet *ps, const Param *p, float *host, Err *err);
WEFT_MUST_CHECK int params_put(ParamSet *ps, const Param *p, const float *host, Err *err);
/* Writes all values as `dtype` under their file names and shapes; atomic. metadata {"format":"pt"}. */
WEFT_MUST_CHECK int params_save(const ParamSet *ps, const char *path, DType dtype, Err *err);
/* Gives the memory of a value that lies in a mapped file back to the system: it is read from the file
 * again when it is used.  Of other values: nothing. */
void params_forget(const ParamSet *ps, const Param *p);
void params_fini(ParamSet *ps);

/* The filler itself: u(S,i) and an array of inputs u*sqrt(12). */
double filler_u(uint32_t S, uint32_t i);
void filler_input(uint32_t S, float *out, int64_t n);
#endif
