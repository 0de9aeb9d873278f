/* Reads from a video's pixels what its figure wears.
 *
 * It knows where the demo's figures stand (tests/demo/draw/clip.c) and which cloths there are
 * (figure.h), and nothing of how a video was made: it looks at drawn clips, at what a VAE leaves of them,
 * and at samples alike.  For every video it names its nearest answer; whether there is a figure at all it
 * says apart. */
#ifndef WEFT_TESTS_DEMO_READER_H
#define WEFT_TESTS_DEMO_READER_H
#include <stdint.h>
#include "tests/demo/draw/look.h"

enum { READER_WIDTH = 64, READER_HEIGHT = 96 };

typedef struct Reading {
    int figure; /* a figure stands in front of a light background, in most frames */
    Colour colour;
    Pattern pattern;
    Garment garment;
    Sleeve sleeve;
    /* What was looked at, for the table of readings.  Of the garment's cloth: the share of white, its standard
     * deviation, how much of that is between rows and between columns, the share of orange.  Of the arms:
     * the share that is cloth. */
    float white, contrast, rows, columns, orange, upper_arms, lower_arms;
} Reading;

/* rgb [frames,READER_HEIGHT,READER_WIDTH,3]; frames at least 1. */
void reader_read(Reading *out, const uint8_t *rgb, int64_t frames);
#endif
