/* I3D trained on Kinetics-400, RGB: the features of the Fréchet video distance, which are its 400 logits
 * averaged over time.  Names of the PyTorch ports: pytorch-i3d's (rgb_imagenet.pt, VideoGPT's
 * i3d_pretrained_400.pt) or kinetics_i3d_pytorch's (model_rgb.pth; by its class's name StyleGAN-V's
 * i3d_torchscript.pt).  Graph and names: MODEL.md 5.8. */
#ifndef WEFT_COMMON_MODEL_I3D_H
#define WEFT_COMMON_MODEL_I3D_H
#include "common/model/params.h"
#include "common/ops/arena.h"

enum { I3D_SIZE = 224, I3D_LEAST_FRAMES = 9, I3D_CLASSES = 400 };
#define I3D_EPS 1e-3 /* of the batch norms in the TensorFlow original; VideoGPT's port computes with 1e-5 */

typedef struct I3d I3d;
/* path: safetensors or a file of PyTorch; NULL on the plan back end.  bn_eps 0: what the file's metadata
 * "bn_eps" says, else I3D_EPS. */
WEFT_MUST_CHECK int i3d_open(I3d **out, Backend *be, const char *path, double bn_eps, Err *err);
WEFT_MUST_CHECK int i3d_load(I3d **out, Backend *be, const SafeTensors *file, const char *path, double bn_eps,
                             Err *err);
void i3d_close(I3d **m);
const ParamSet *i3d_params(const I3d *m);
double i3d_eps(const I3d *m);
/* One clip [frames,224,224,3], RGB, 2x/255 - 1 (resize.h), at least 9 frames -> logits [400].  Host; on
 * the plan back end nothing is read or written. */
WEFT_MUST_CHECK int i3d_run(I3d *m, Arena *work, float *logits, const float *pixels, int64_t frames, Err *err);
#endif
