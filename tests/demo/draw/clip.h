/* A clip: a figure that walks or turns in a light studio. */
#ifndef WEFT_TESTS_DEMO_CLIP_H
#define WEFT_TESTS_DEMO_CLIP_H
#include "tests/demo/draw/canvas.h"
#include "tests/demo/draw/look.h"

typedef struct ClipScene ClipScene;
/* Pictures of width x height pixels that show a figure from head to shin. */
WEFT_MUST_CHECK int clip_new(ClipScene **out, int width, int height, Err *err);
void clip_free(ClipScene **c);
/* The look at a time, in seconds of `length` seconds, into rgb [height,width,3]. */
void clip_draw(ClipScene *c, const Look *k, float time, float length, uint8_t *rgb);
#endif
