/* Scores that others gave to videos (a classifier, people), from tables:
 *
 *   video,colour,pattern
 *   chance,0.1667,0.2
 *   coat/a-woman-in-a-red-coat-1.mp4,1,0
 *
 * CSV (RFC 4180); the first column is the video's path, relative to the table's folder, each other one a score:
 * a finite number, higher is better, or nothing.  The line "chance", which may be left out, says what guessing
 * gives.  Tables may hold the same scores of other videos; a video may have a score once. */
#ifndef WEFT_INFER_SCORES_H
#define WEFT_INFER_SCORES_H
#include "infer/videos.h"

enum { SCORES_MAX = 32, SCORE_NAME_MAX = 40 /* bytes */ };

typedef struct Score {
    char name[SCORE_NAME_MAX + 1];
    double chance;    /* NAN: not known */
    double *value[2]; /* of the two lists' videos, NAN: none; mem_free */
} Score;

typedef struct Scores {
    Score *item;
    int64_t n;
    int64_t unknown; /* lines of videos that are in neither list */
} Scores;

/* Reads the tables for the videos of two lists.  ERR_FORMAT, with file and line, for what is no such table, and
 * ERR_USAGE when no line is of a video of the lists.  Free with scores_fini, also on failure. */
WEFT_MUST_CHECK int scores_read(Scores *out, const StrList *tables, const VideoList side[2], const Log *log, Err *err);
void scores_fini(Scores *s);
#endif
