/* Between dataset.c (the lists of samples), dataset_check.c and batch.c (their records and draws). */
#ifndef WEFT_TRAIN_DATASET_INTERNAL_H
#define WEFT_TRAIN_DATASET_INTERNAL_H
#include "train/dataset.h"

/* A record of sample s, which an error names; ERR_NOTFOUND where it is absent. */
WEFT_MUST_CHECK int dataset_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, const Sample *s,
                                       RecordView *out, Err *err);
/* Whether every record that the samples name is there and of the shape that the transformer reads; sets d's shape
 * of latents.  Of several faults the first is told, in the order of caches, splits and ids. */
WEFT_MUST_CHECK int dataset_check(Dataset *d, const DitConfig *c, Err *err);
#endif
