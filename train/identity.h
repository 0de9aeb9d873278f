/* What shapes a run's numbers besides its recipe and its cache: the noise schedule, the weights that
 * training starts from, and this program's own arithmetic.  Where those lie on disk is not part of
 * it: the same bytes under another path are the same model. */
#ifndef WEFT_TRAIN_IDENTITY_H
#define WEFT_TRAIN_IDENTITY_H
#include <jansson.h>

#include "common/base/log.h"
#include "common/base/str.h"
#include "common/model/schedule.h"

/* Raised when a change makes the same recipe and cache give other numbers: the weight of a sample in
 * a short last group, the order of draws, the formula of the loss or of an optimiser.  2 since attention forms its
 * sums in blocks of its own. */
enum { TRAIN_NUMERICS_REVISION = 2 };

/* The "identity" of state.json (schemas/train-state), of a schedule, of FOLDER/transformer, and of the
 * adapter (a file or folder; NULL: none) that training goes on from.  Reads the weights for their digest,
 * which MEMORY/.weights remembers (NULL: nothing does).  New reference. */
WEFT_MUST_CHECK int identity_make(json_t **out, const Schedule *schedule, const char *folder, const char *lora,
                                  const char *memory, const Log *log, Err *err);
/* Appends to `changes`, "; " between them, what differs between two identities. */
WEFT_MUST_CHECK int identity_changes(Str *changes, const json_t *before, const json_t *now, Err *err);
#endif
