/* CLIP as a judge: unit vectors of texts and pictures, whose cosine is the CLIP score. */
#ifndef WEFT_INFER_CLIP_SCORE_H
#define WEFT_INFER_CLIP_SCORE_H
#include "common/base/log.h"
#include "common/ops/backend.h"

typedef struct ClipScorer ClipScorer;
/* A folder of transformers' CLIPModel: config.json, model.safetensors, merges.txt or tokenizer.json. */
WEFT_MUST_CHECK int clip_scorer_open(ClipScorer **out, Backend *be, const char *folder, Err *err);
void clip_scorer_close(ClipScorer **s);
int64_t clip_scorer_width(const ClipScorer *s); /* of a vector */
int64_t clip_scorer_size(const ClipScorer *s);  /* side of the input picture */
double clip_scorer_scale(const ClipScorer *s);  /* exp(logit_scale): what cosines are multiplied by in a softmax */

/* unit [width]: of length 1.  *cut: tokens of the text that did not fit; the end mark is kept. */
WEFT_MUST_CHECK int clip_scorer_text(ClipScorer *s, const char *text, float *unit, int64_t *cut, Err *err);
/* pixels [3,size,size], by clip_preprocess or clip_preprocess_square. */
WEFT_MUST_CHECK int clip_scorer_image(ClipScorer *s, const float *pixels, float *unit, Err *err);
double clip_cosine(const float *a, const float *b, int64_t n); /* of unit vectors */
/* v scaled to length 1; zeros stay. */
void clip_normalise(float *v, int64_t n);
#endif
