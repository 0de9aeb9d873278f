/* Shared by params.c (the table, the arenas), params_load.c (files) and params_copy.c (element
 * types, kernel order). */
#ifndef WEFT_COMMON_MODEL_PARAMS_INTERNAL_H
#define WEFT_COMMON_MODEL_PARAMS_INTERNAL_H
#include "common/model/params.h"

enum { VALUES, GRADS, COPIES }; /* of ParamSet.owned */

/* params.c */
int64_t param_elements(const Param *p);
int64_t params_largest(const ParamSet *ps); /* elements of the largest parameter */
/* The tensor as the file has it, and as the back end has it: convolutions [Co,Ci,(kt,)kh,kw] become
 * [Co,kt,kh,kw,Ci]. */
Tensor param_file_tensor(const Param *p, DType dtype, void *data);
Tensor param_stored_tensor(const Param *p, DType dtype, void *data);
/* The type in which the back end keeps a value whose file has type `from`. */
DType param_kept_type(const Backend *be, const Param *p, DType from);
/* Allocates the flat arena of values, and of 16-bit copies where operations read those. */
WEFT_MUST_CHECK int params_new_flat(ParamSet *ps, Backend *be, Err *err);

/* params_copy.c: two host buffers for the elements moved at a time, in the largest type. */
typedef struct Staging {
    void *a, *b;
} Staging;
WEFT_MUST_CHECK int staging_init(Staging *s, const Param *p, int64_t n, Err *err);
void staging_fini(Staging *s);
/* to, one of p's tensors on the back end <- src in file order. */
WEFT_MUST_CHECK int param_put(Backend *be, const Param *p, const Tensor *to, const void *src, DType from, Staging *st,
                              Err *err);
#endif
