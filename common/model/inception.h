/* Inception v3 as the FID and the Inception Score use it: the graph of 2015-12-05 with 1,008 outputs, in
 * torch-fidelity's and pytorch-fid's names (weights "pt_inception-2015-12-05-6726825d.pth").  It differs
 * from torchvision's: average pools do not count padding, and Mixed_7c pools by the largest value.
 * Graph and names: MODEL.md 5.7. */
#ifndef WEFT_COMMON_MODEL_INCEPTION_H
#define WEFT_COMMON_MODEL_INCEPTION_H
#include "common/model/params.h"
#include "common/ops/arena.h"

enum { INCEPTION_SIZE = 299, INCEPTION_FEATURES = 2048, INCEPTION_CLASSES = 1008 };

typedef struct Inception Inception;
/* path: safetensors or a file of PyTorch; NULL on the plan back end. */
WEFT_MUST_CHECK int inception_open(Inception **out, Backend *be, const char *path, Err *err);
WEFT_MUST_CHECK int inception_load(Inception **out, Backend *be, const SafeTensors *file, const char *path, Err *err);
void inception_close(Inception **m);
const ParamSet *inception_params(const Inception *m);
/* n pictures [n,299,299,3], RGB, (x - 128)/128 of 0..255 (resize.h).  pool3 [n,2048] and logits [n,1008],
 * the latter without the bias ("logits_unbiased", what the score is defined on); bias [1008] to add
 * for the ordinary logits.  Each may be NULL.  Host; on the plan back end nothing is read or written. */
WEFT_MUST_CHECK int inception_run(Inception *m, Arena *work, float *pool3, float *logits, float *bias,
                                  const float *pixels, int64_t n, Err *err);
#endif
