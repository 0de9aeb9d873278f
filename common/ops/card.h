/* What a GPU can do, by the name that its driver gives it. */
#ifndef WEFT_COMMON_OPS_CARD_H
#define WEFT_COMMON_OPS_CARD_H

/* Peak of dense bf16 products with fp32 sums, in FLOP/s, from NVIDIA's data sheets (without sparsity); 0
 * for a card that the table does not have. */
double card_peak(const char *name);
#endif
