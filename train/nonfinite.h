/* Where numbers stopped being finite, in words: for the sentence of a skipped step. */
#ifndef WEFT_TRAIN_NONFINITE_H
#define WEFT_TRAIN_NONFINITE_H
#include "train/step.h"

/* After a forward pass whose loss is not finite: sets s->bad to the first in the order of the computation,
 * among the pass's latents and text, the weights, and what each block computed.  Keeps an s->bad that is
 * set already. */
WEFT_MUST_CHECK int nonfinite_in_forward(TrainState *s, const TrainBatch *batch, const DitTape *tape, Err *err);
/* The same among the gradients, in the order of the backward pass: the last block first. */
WEFT_MUST_CHECK int nonfinite_in_gradients(TrainState *s, Err *err);
#endif
