#include "tests/demo/draw/canvas.h"
#include <math.h>

float clamp01(float v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

float mix(float a, float b, float t)
{
    return a + (b - a) * t;
}

float smooth(float t)
{
    t = clamp01(t);
    return t * t * (3 - 2 * t);
}

Rgb mix_rgb(Rgb a, Rgb b, float t)
{
    return (Rgb){mix(a.r, b.r, t), mix(a.g, b.g, t), mix(a.b, b.b, t)};
}

Rgb shade(Rgb c, float k)
{
    return (Rgb){c.r * k, c.g * k, c.b * k};
}

static void range(float from, float unit, int size, float a, float b, int *first, int *last)
{
    *first = (int)fmaxf(0, floorf((a - from) / unit));
    *last = (int)fminf((float)size - 1, ceilf((b - from) / unit));
}

void canvas_columns(const Canvas *c, float x0, float x1, int *first, int *last)
{
    range(c->left, c->unit, c->width, x0, x1, first, last);
}

void canvas_rows(const Canvas *c, float y0, float y1, int *first, int *last)
{
    range(c->top, c->unit, c->height, y0, y1, first, last);
}

float canvas_x(const Canvas *c, int i)
{
    return c->left + ((float)i + 0.5f) * c->unit;
}

float canvas_y(const Canvas *c, int j)
{
    return c->top + ((float)j + 0.5f) * c->unit;
}

void paint(const Canvas *c, int i, int j, Rgb colour, float alpha)
{
    float *p = c->rgb + ((int64_t)j * c->width + i) * 3;
    p[0] = mix(p[0], fminf(colour.r, 255), alpha);
    p[1] = mix(p[1], fminf(colour.g, 255), alpha);
    p[2] = mix(p[2], fminf(colour.b, 255), alpha);
}

float cover(const Canvas *c, float distance)
{
    return clamp01(0.5f - distance / c->unit);
}

/* 1 inside a band of width `band` in every `period`, edges a unit soft. */
static float bands(float t, float period, float band)
{
    float d = fabsf(t - period * floorf(t / period + 0.5f)); /* distance to the band's middle */
    return clamp01(band / 2 - d + 0.5f);
}

/* Place within a cell of a grid whose every second row is shifted by half a cell: 0, 0 in its middle. */
static V2 in_cell(float s, float t, float wide, float high)
{
    float row = floorf(t / high), u = s + (fmodf(fabsf(row), 2) > 0.5f ? wide / 2 : 0);
    return (V2){u - wide * floorf(u / wide) - wide / 2, t - high * row - high / 2};
}

Rgb fabric_at(const Fabric *f, float s, float t)
{
    switch (f->weave) {
    case WEAVE_STRIPES: return mix_rgb(f->base, f->second, bands(t, 64, 30));
    case WEAVE_CHECKS: return mix_rgb(f->base, f->second, 0.5f * bands(t, 60, 30) + 0.5f * bands(s, 60, 30));
    case WEAVE_DOTS: {
        V2 d = in_cell(s, t, 62, 46);
        return mix_rgb(f->base, f->second, clamp01(14.5f - sqrtf(d.x * d.x + d.y * d.y)));
    }
    case WEAVE_FLOWERS: { /* five petals around a middle */
        V2 d = in_cell(s, t, 88, 72);
        float r = sqrtf(d.x * d.x + d.y * d.y), petal = 27 + 5 * cosf(5 * atan2f(d.x, d.y));
        return mix_rgb(mix_rgb(f->base, f->second, clamp01(petal - r)), f->third, clamp01(14 - r));
    }
    default: return f->base;
    }
}

void paint_limb(const Canvas *c, V2 a, V2 b, float ra, float rb, const Fabric *f)
{
    float r = fmaxf(ra, rb) + c->unit, dx = b.x - a.x, dy = b.y - a.y, len = sqrtf(dx * dx + dy * dy) + 1e-3f;
    int x0, x1, y0, y1;
    canvas_columns(c, fminf(a.x, b.x) - r, fmaxf(a.x, b.x) + r, &x0, &x1);
    canvas_rows(c, fminf(a.y, b.y) - r, fmaxf(a.y, b.y) + r, &y0, &y1);
    for (int j = y0; j <= y1; j++)
        for (int i = x0; i <= x1; i++) {
            float px = canvas_x(c, i) - a.x, py = canvas_y(c, j) - a.y, along = (px * dx + py * dy) / len,
                  h = clamp01(along / len);
            float qx = px - h * dx, qy = py - h * dy, radius = mix(ra, rb, h);
            float alpha = cover(c, sqrtf(qx * qx + qy * qy) - radius);
            if (alpha <= 0)
                continue;
            float across = (px * dy - py * dx) / len;
            float light = 1.0f - 0.2f * clamp01(fabsf(across + 0.3f * radius) / (1.3f * radius));
            paint(c, i, j, shade(fabric_at(f, across, along), light), alpha);
        }
}

void canvas_reduce(const Canvas *c, int by, uint8_t *rgb)
{
    for (int y = 0; y < c->height / by; y++)
        for (int x = 0; x < c->width / by; x++)
            for (int k = 0; k < 3; k++) {
                float sum = 0;
                for (int j = 0; j < by; j++)
                    for (int i = 0; i < by; i++)
                        sum += c->rgb[((int64_t)(y * by + j) * c->width + x * by + i) * 3 + k];
                *rgb++ = (uint8_t)(sum / (float)(by * by) + 0.5f);
            }
}
