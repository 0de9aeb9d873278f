/* plan --fit: settings that fit a card's memory and a user's time. */
#ifndef WEFT_TRAIN_FIT_H
#define WEFT_TRAIN_FIT_H
#include <stdio.h>

#include "train/forecast.h"

/* "24G", "8h": a quantity with its unit; ERR_USAGE for anything else. */
WEFT_MUST_CHECK int fit_bytes(double *out, const char *text, Err *err);
WEFT_MUST_CHECK int fit_seconds(double *out, const char *text, Err *err);

/* Tries the recipe, then 8-bit moments, bf16 gradients (without accumulation only), both, and LoRA of rank
 * 128, 64, 32, 16: the first of them that fits `bytes` and `seconds` (HUGE_VAL: any) wins, with the
 * recomputation and the batch that make it fastest; samples a step stay as they are.  Prints the settings on
 * `out` as a recipe in YAML, below the heading.  ERR_LIMIT when nothing fits, naming what comes nearest.
 * Times are those of `card`, times `scale`. */
WEFT_MUST_CHECK int fit_search(const Job *j, double bytes, double seconds, const Card *card, double scale,
                               const char *heading, FILE *out, Err *err);
#endif
