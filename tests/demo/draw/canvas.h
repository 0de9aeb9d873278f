/* A picture that is painted in the figures' own units, larger than it will be, and then reduced. */
#ifndef WEFT_TESTS_DEMO_CANVAS_H
#define WEFT_TESTS_DEMO_CANVAS_H
#include <stdint.h>
#include "common/base/err.h"

typedef struct Rgb {
    float r, g, b; /* 0 to 255 */
} Rgb;
typedef struct V2 {
    float x, y; /* y down */
} V2;
typedef struct V3 {
    float x, y, z; /* y up */
} V3;

/* Floats of width x height pixels; pixel (i, j) shows what lies around left + i * unit, top + j * unit. */
typedef struct Canvas {
    float *rgb;
    int width, height;
    float left, top, unit;
} Canvas;

/* A coloured and patterned cloth; lengths in units. */
typedef enum Weave { WEAVE_PLAIN, WEAVE_STRIPES, WEAVE_DOTS, WEAVE_FLOWERS, WEAVE_CHECKS } Weave;
typedef struct Fabric {
    Rgb base, second, third;
    Weave weave;
} Fabric;

float clamp01(float v);
float mix(float a, float b, float t);
float smooth(float t);
Rgb mix_rgb(Rgb a, Rgb b, float t);
Rgb shade(Rgb c, float k);

/* Pixel columns (rows) that cover x0 to x1 (y0 to y1), cut to the picture; empty when *last < *first. */
void canvas_columns(const Canvas *c, float x0, float x1, int *first, int *last);
void canvas_rows(const Canvas *c, float y0, float y1, int *first, int *last);
float canvas_x(const Canvas *c, int i);
float canvas_y(const Canvas *c, int j);
void paint(const Canvas *c, int i, int j, Rgb colour, float alpha);
/* How much of a pixel lies inside, from the distance to the edge in units (negative inside). */
float cover(const Canvas *c, float distance);
/* Colour of a cloth at s around and t along, in units. */
Rgb fabric_at(const Fabric *f, float s, float t);
/* A tapered limb from a to b. */
void paint_limb(const Canvas *c, V2 a, V2 b, float ra, float rb, const Fabric *f);
/* Means of by x by pixels, rounded, into rgb [height/by,width/by,3]. */
void canvas_reduce(const Canvas *c, int by, uint8_t *rgb);
#endif
