/* Everything that a run will need later, looked at before its first second of work and by --dry-run:
 * a folder that can be written, weights that fit the config, what final/ will copy, the checkpoint to
 * go on from, room on the disk. */
#ifndef WEFT_TRAIN_PREFLIGHT_H
#define WEFT_TRAIN_PREFLIGHT_H
#include <stdio.h>

#include "train/job.h"

typedef struct Preflight {
    int64_t step;     /* of the checkpoint that the run goes on from; 0: from the start */
    int64_t existing; /* checkpoints that are there now */
    int64_t copied;   /* bytes of the base model that final/ copies */
} Preflight;

/* Checks inputs and the output folder; writes nothing.  Fills *p but for `step`. */
WEFT_MUST_CHECK int preflight_check(Preflight *p, const Job *j, const char *out, Err *err);
/* Chooses the checkpoint to go on from and compares its run with this one (resume_check), which makes
 * j->identity.  *stored is its state (new reference), NULL at the start. */
WEFT_MUST_CHECK int preflight_choose(Preflight *p, Job *j, const char *out, json_t **stored, Err *err);
/* Bytes that the run will add to the disk at most at one time, from checkpoint p->step on.  What
 * final/ copies is counted unless it may share blocks with the base model. */
int64_t preflight_bytes(const Preflight *p, const Job *j, int may_share);
/* Refuses a run that will not fit the disk. */
WEFT_MUST_CHECK int preflight_space(const Preflight *p, const Job *j, const char *out, Err *err);
/* One line: where the run starts and what it will write. */
void preflight_print(const Preflight *p, const Job *j, FILE *out);
#endif
