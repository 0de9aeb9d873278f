/* weft-train export: a checkpoint as a pipeline folder. */
#ifndef WEFT_TRAIN_EXPORT_H
#define WEFT_TRAIN_EXPORT_H
#include "common/base/log.h"

/* Makes the folder `out`, which must not exist, or only be empty: the transformer of the checkpoint (or of
 * RUN/final), and all other parts of the pipeline folder `model`; NULL: of the one that state.json names.
 * Parts are links where `link` is set and the file system can.  The checkpoint's files are compared with
 * its list first: ERR_FORMAT when one is damaged.  A checkpoint of LoRA is refused: it has no transformer
 * of its own. */
WEFT_MUST_CHECK int export_checkpoint(const char *checkpoint, const char *out, const char *model, int link,
                                      const Log *log, Err *err);
#endif
