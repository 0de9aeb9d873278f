/* TensorBoard's event files: DIR/events.out.tfevents.SECONDS.weft.
 *
 * A file is a list of records (TensorFlow, tensorflow/core/lib/io/record_writer.h), each
 *
 *   u64 length | u32 masked CRC of the length | bytes | u32 masked CRC of the bytes     little-endian
 *
 * with masked(c) = ((c >> 15) | (c << 17)) + 0xa282ead8 of the CRC-32C (Castagnoli, RFC 3720 appendix
 * B.4).  The bytes are a protocol-buffer message Event (tensorflow/core/util/event.proto): wall_time 1,
 * step 2, file_version 3, summary 5, session_log 7; a Summary's Value has tag 1, simple_value 2, image 4
 * (summary.proto).  The first Event is the version "brain.Event:2".
 *
 * Every start of a run writes a file of its own.  That of a resumed run begins with a SessionLog START
 * at the first step that is made again, upon which TensorBoard forgets what older files hold from there
 * on: no step is shown twice. */
#ifndef WEFT_TRAIN_TENSORBOARD_H
#define WEFT_TRAIN_TENSORBOARD_H
#include <stdint.h>

#include "common/base/err.h"

typedef struct EventFile EventFile;

/* Makes `dir` and a new file in it, whose name sorts behind all that are there.  first_step: the first
 * step that will be written; 0 for a run that starts anew. */
WEFT_MUST_CHECK int events_open(EventFile **out, const char *dir, int64_t first_step, Err *err);
/* Also after a failure; accepts NULL inside.  What was written is on its way to the disk after each
 * call below. */
void events_close(EventFile **f);

typedef struct EventScalar {
    const char *tag; /* "train/loss"; the part before the slash groups the charts */
    double value;    /* stored as float */
} EventScalar;
/* n values of one step. */
WEFT_MUST_CHECK int events_scalars(EventFile *f, int64_t step, const EventScalar *scalar, int64_t n, Err *err);
/* A picture: the bytes of a PNG. */
WEFT_MUST_CHECK int events_image(EventFile *f, int64_t step, const char *tag, const void *png, int64_t size,
                                 int64_t width, int64_t height, Err *err);

/* The CRC-32C of a block, and the form in which records hold it. */
uint32_t crc32c(const void *bytes, int64_t size);
uint32_t crc32c_masked(const void *bytes, int64_t size);
#endif
