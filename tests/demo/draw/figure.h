/* A figure: a small 3-D skeleton (x to the viewer's right, y up from the floor, z to the viewer, in
 * units; a figure is about 810 tall), turned by a yaw and projected.  Limbs are tapered capsules; body,
 * skirt and head are solids of revolution whose texture turns with them. */
#ifndef WEFT_TESTS_DEMO_FIGURE_H
#define WEFT_TESTS_DEMO_FIGURE_H
#include "tests/demo/draw/canvas.h"
#include "tests/demo/draw/look.h"

enum { FLOOR_Y = 900 };

extern const Rgb cloth_colours[COLOURS], cloth_white, cloth_orange, cloth_grey, skin_colours[3];
/* The colours and cloths of a look. */
typedef struct Dress {
    Fabric upper, lower; /* lower: trousers or skirt */
    Rgb skin, hair;
} Dress;

typedef struct Pose {
    float x, yaw, lift, sway, swing; /* swing: of the hem; yaw in radians */
} Pose;

typedef struct Figure {
    const Look *look;
    Dress dress;
    Pose pose;
    V3 hip[2], knee[2], ankle[2], toe[2], shoulder[2], elbow[2], wrist[2]; /* local, before the yaw */
} Figure;

/* The look must outlive the figure. */
void figure_dress(Figure *f, const Look *k);
/* Limbs at a phase of the walk (radians); walk 0 stands, 1 walks.  f->pose.x and yaw are the caller's. */
void figure_pose(Figure *f, float phase, float walk);
void paint_figure(const Canvas *c, const Figure *f);

/* ---- shared by figure.c, solid.c ------------------------------------------------------------- */
typedef struct Ring {
    float y, a, b;
} Ring; /* height over the floor, half width, half depth */
typedef struct Solid {
    const Ring *ring; /* from top to bottom */
    int rings;
    const Fabric *fabric;
    Rgb skin;    /* or shirt: what shows in the neckline */
    float neck;  /* depth of the neckline below the top; 0: closed */
    float folds; /* of the cloth, 0..1 */
    int hem;     /* 1: its lower edge swings */
    int coat;    /* opens in a V, has a seam and buttons */
} Solid;
void paint_solid(const Canvas *c, const Solid *s, const Pose *p);
void paint_ellipsoid(const Canvas *c, const Dress *k, V2 at, float a, float b, float yaw, int face);
#endif
