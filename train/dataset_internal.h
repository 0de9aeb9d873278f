/* Between dataset.c (the lists of samples) and batch.c (their records and draws). */
#ifndef WEFT_TRAIN_DATASET_INTERNAL_H
#define WEFT_TRAIN_DATASET_INTERNAL_H
#include "train/dataset.h"

/* A record of sample s, which an error names; ERR_NOTFOUND where it is absent. */
WEFT_MUST_CHECK int dataset_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, const Sample *s,
                                       RecordView *out, Err *err);
#endif
