/* The first stage of a build: a process that reads and decodes clips ahead of the encoder.  It is forked
 * before the builder reads anything, and itself decodes each clip in a confined process (decode.h):
 * forking a small process takes the same time whatever the number of clips.  Pixels arrive in shared
 * memory, in as many places as clips may wait. */
#ifndef WEFT_CACHE_READER_H
#define WEFT_CACHE_READER_H
#include "cache/decode.h"

enum { READER_PLACES = 3 };

typedef struct ClipReader ClipReader;
typedef struct ReadClip {
    int code; /* 0, or a fault of the clip: then `fault` says which */
    char fault[1024];
    char file_sha256[65];
    double seconds;     /* that reading it took */
    const uint8_t *rgb; /* NULL when the file was the known one; until reader_done */
} ReadClip;

/* For clips of at most `bytes` bytes of RGB; recipe must outlive it. */
WEFT_MUST_CHECK int reader_open(ClipReader **out, const Recipe *recipe, int64_t bytes, Err *err);
/* Kills the process. */
void reader_close(ClipReader **r);
/* Whether another clip may be asked for. */
int reader_has_room(const ClipReader *r);
/* Asks for a clip.  known: the digest of a file that need not be decoded again, or NULL. */
WEFT_MUST_CHECK int reader_ask(ClipReader *r, const PreparedClip *c, const char *known, Err *err);
/* Waits for the clip asked for first.  ERR_INTERRUPTED when a signal asked to stop. */
WEFT_MUST_CHECK int reader_wait(ClipReader *r, ReadClip *out, Err *err);
/* Gives its place back. */
void reader_done(ClipReader *r);
/* Bytes of shared memory for the pixels of so many clips, `bytes` each at most. */
int64_t reader_bytes(int64_t clips, int64_t bytes);
#endif
