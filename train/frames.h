/* Frames of a sample, where the base model's VAE is at hand (validation.decode): a video, and a picture of a
 * few of them.  The VAE is opened for each set of samples and closed again. */
#ifndef WEFT_TRAIN_FRAMES_H
#define WEFT_TRAIN_FRAMES_H
#include "train/job.h"

/* Whether samples will be decoded: there are prompts, the recipe wants it, and the base model has a vae/. */
int frames_wanted(const Job *j);
/* That the VAE's weights are whole and fit the latents.  Reads headers only. */
WEFT_MUST_CHECK int frames_check(const Job *j, Err *err);
/* What decoding takes of the back end's memory, weights and working memory; 0 where nothing is decoded. */
WEFT_MUST_CHECK int frames_plan(const Job *j, int64_t *bytes, Err *err);

typedef struct Frames Frames;
WEFT_MUST_CHECK int frames_open(Frames **out, const Job *j, Err *err);
void frames_close(Frames **f);
/* Decodes latents [F,h,w,C] as the transformer has them, and writes an H.264 video, as many frames as
 * weft-infer would (49 give 48), and a PNG of *width x *height: a few frames side by side, made smaller. */
WEFT_MUST_CHECK int frames_write(Frames *f, const float *latents, const char *video, const char *picture,
                                 int64_t *width, int64_t *height, Err *err);
#endif
