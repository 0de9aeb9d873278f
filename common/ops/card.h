/* What a GPU can do, by the name that its driver (or a person) gives it. */
#ifndef WEFT_COMMON_OPS_CARD_H
#define WEFT_COMMON_OPS_CARD_H

typedef struct Card {
    double peak;      /* dense bf16 products with fp32 sums, FLOP/s */
    double bandwidth; /* of its memory, bytes/s */
    /* Shares of them that Weft's kernels are held to reach; where they come from: tests/cuda/count.c. */
    double products, attention, attention_backward, memory;
} Card;

/* From NVIDIA's data sheets (without sparsity); 0 for a card that the table does not have, else 1. */
int card_find(Card *out, const char *name);
/* The peak alone; 0 for a card that the table does not have. */
double card_peak(const char *name);
#endif
