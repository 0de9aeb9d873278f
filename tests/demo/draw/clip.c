#include "tests/demo/draw/clip.h"
#include <math.h>
#include "common/base/mem.h"
#include "tests/demo/draw/figure.h"

/* What a picture shows, in units: from UPPER on, HIGH down, around CENTRE. */
static const float PI = 3.14159265f, CENTRE = 360, UPPER = 62, HIGH = 760;
enum { LEAST_WIDTH = 256 }; /* canvases are at least so wide */

struct ClipScene {
    Canvas canvas;
    int by; /* the canvas is so many times as large as the picture */
};

int clip_new(ClipScene **out, int width, int height, Err *err)
{
    ClipScene *c = mem_calloc(1, sizeof *c, err);
    *out = c;
    if (!c)
        return ERR_NOMEM;
    c->by = (LEAST_WIDTH + width - 1) / width;
    c->canvas.width = width * c->by, c->canvas.height = height * c->by;
    c->canvas.rgb = mem_calloc((int64_t)c->canvas.width * c->canvas.height * 3, sizeof(float), err);
    if (c->canvas.rgb)
        return 0;
    clip_free(out);
    return ERR_NOMEM;
}

void clip_free(ClipScene **c)
{
    if (*c)
        mem_free((*c)->canvas.rgb);
    mem_free(*c);
    *c = NULL;
}

/* A light studio: wall, floor, a soft seam between them. */
static void paint_studio(const Canvas *c, float warm)
{
    for (int j = 0; j < c->height; j++) {
        float fy = canvas_y(c, j) / 960, floor = smooth((fy - 0.76f) / 0.10f);
        for (int i = 0; i < c->width; i++) {
            float fx = (canvas_x(c, i) - CENTRE) / 720;
            float v = mix(244 - 26 * fx * fx - 10 * fy, 218 - 34 * fx * fx, floor);
            float *p = c->rgb + ((int64_t)j * c->width + i) * 3;
            p[0] = v + warm, p[1] = v, p[2] = v - warm;
        }
    }
}

void clip_draw(ClipScene *c, const Look *k, float time, float length, uint8_t *rgb)
{
    Figure f = {0};
    float part = length > 0 ? time / length : 0, high = HIGH / (1 + 0.03f * k->scale);
    Canvas *canvas = &c->canvas;
    canvas->unit = high / (float)canvas->height;
    canvas->top = UPPER + (HIGH - high) / 2;
    canvas->left = CENTRE - canvas->unit * (float)canvas->width / 2;
    figure_dress(&f, k);
    f.pose.x = CENTRE + 10 * k->x;
    if (k->motion == WALKS) { /* towards the viewer, on the spot */
        f.pose.yaw = 0.15f * k->yaw;
        figure_pose(&f, 2 * PI * (k->phase + time * (0.75f + 0.15f * k->pace)), 1);
    } else { /* from one side to the other */
        f.pose.yaw = mix(-0.95f, 0.95f, smooth(part)) + 0.10f * k->yaw;
        figure_pose(&f, 2 * PI * k->phase, 0.08f);
    }
    paint_studio(canvas, 4 * k->warm);
    paint_figure(canvas, &f);
    canvas_reduce(canvas, c->by, rgb);
}
