/* Clips that look alike, over a whole set.
 *
 * Two clips look alike when the 192 bits of their three picture hashes (first, middle, last frame)
 * differ in few places and their colours lie close: on white studio backgrounds the hash alone sees
 * little but the silhouette.  Colours are the whole picture's mean and the mean of what stands out
 * from the background: a handbag in two colours fills too little of the picture for the first.  In
 * order of preference (more source pixels, more bytes, earlier) each clip is kept unless it looks
 * like one that is kept already. */
#ifndef WEFT_PREP_SET_DUPLICATES_H
#define WEFT_PREP_SET_DUPLICATES_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "prep/picture/quality.h"

enum { LOOKALIKE_BITS = 192, DUPLICATE_BITS_MAX = 24 };

typedef struct Lookalike {
    uint64_t hash[3];
    double rgb[3];         /* means of the whole picture */
    int seen;              /* something stands out from the background: */
    double seen_rgb[3];    /* its means */
    int64_t pixels, bytes; /* of a source frame, of the source */
    int64_t source;        /* clips of the same source are never duplicates of each other */
} Lookalike;

/* of[i]: the most preferred kept clip that clip i looks like, or -1: kept itself.
 * The 192 bits are cut into bits + 1 + G blocks, which form G groups: of two hashes that differ in at
 * most `bits` places at least G + 1 blocks are equal, so two of the same group.  For each two blocks of
 * a group, clips that agree in them are compared.  The bits that vary most are dealt out evenly, so
 * that no block has the same value everywhere.  bits <= DUPLICATE_BITS_MAX. */
WEFT_MUST_CHECK int duplicates_find(const Lookalike *item, int64_t n, int64_t bits, double colour, int64_t *of,
                                    Err *err);
int64_t lookalike_distance(const Lookalike *a, const Lookalike *b);
/* The larger of the two distances; only of the whole pictures when one has nothing that stands
 * out. */
double lookalike_colour(const Lookalike *a, const Lookalike *b);

/* Finished manifest lines (replaced where they change): duplicates among the accepted get the
 * reason, or the warning, "near_duplicate" with the id of the clip that is kept.  Their `clip`
 * stays, in case the kept one is removed later. */
WEFT_MUST_CHECK int duplicates_mark(char **lines, int64_t n, const QualityLimits *limits, const Log *log, Err *err);
#endif
