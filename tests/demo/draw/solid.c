#include <math.h>
#include "tests/demo/draw/figure.h"

/* Half width and half depth at a height. */
static Ring ring_at(const Solid *s, float y)
{
    int i = 0;
    while (i < s->rings - 2 && y < s->ring[i + 1].y)
        i++;
    const Ring *p = &s->ring[i], *q = &s->ring[i + 1];
    float t = smooth((p->y - y) / (p->y - q->y));
    return (Ring){y, mix(p->a, q->a, t), mix(p->b, q->b, t)};
}

/* Colour at local angle (0: front) and height. */
static Rgb solid_colour(const Solid *s, float angle, Ring r, float top, float bottom)
{
    float low = (top - r.y) / (top - bottom), radius = 0.5f * (r.a + r.b), across = sinf(angle) * r.a;
    Rgb c = fabric_at(s->fabric, angle * radius, top - r.y);
    if (s->folds > 0 && low > 0.1f)
        c = shade(c, 1 + s->folds * (low - 0.1f) * 0.1f * sinf(9 * angle + 2.0f * sinf(3 * angle)));
    if (s->coat && cosf(angle) > 0) {
        float dy = (top - r.y) - 58 * floorf((top - r.y) / 58 + 0.5f), dx = (angle - 0.12f) * r.a;
        c = shade(c, 1 - 0.45f * clamp01(3.5f - fabsf(across + 4)));
        if (top - r.y > 90)
            c = mix_rgb(c, (Rgb){30, 30, 34}, clamp01(6.5f - sqrtf(dx * dx + dy * dy)));
    }
    if (s->neck > 0 && cosf(angle) > 0) { /* a round neckline; a coat opens in a V */
        float edge = s->coat ? s->neck - 1.9f * fabsf(across) : s->neck - across * across / (1.1f * s->neck);
        c = mix_rgb(c, s->skin, clamp01(edge - (top - r.y) + 0.5f));
    }
    return c;
}

void paint_solid(const Canvas *c, const Solid *s, const Pose *p)
{
    float top = s->ring[0].y, bottom = s->ring[s->rings - 1].y, cy = cosf(p->yaw), sy = sinf(p->yaw);
    int y0, y1, x0, x1;
    canvas_rows(c, FLOOR_Y - top - p->lift - 8, FLOOR_Y - bottom - p->lift + 16, &y0, &y1);
    for (int j = y0; j <= y1; j++) {
        float height = FLOOR_Y - p->lift - canvas_y(c, j);
        Ring r = ring_at(s, fmaxf(bottom, fminf(top, height)));
        float w = sqrtf(r.a * r.a * cy * cy + r.b * r.b * sy * sy), low = (top - r.y) / (top - bottom);
        float cx = p->x + p->sway * clamp01((r.y - 400) / 260) + (float)s->hem * p->swing * low * low;
        canvas_columns(c, cx - w - c->unit, cx + w + c->unit, &x0, &x1);
        for (int i = x0; i <= x1; i++) {
            float d = (canvas_x(c, i) - cx) / w;
            /* nearer cloth is lower in the picture */
            float phi = asinf(fmaxf(-1, fminf(1, d))), round = cosf(phi) * 0.10f * r.b;
            float alpha = cover(c, fabsf(canvas_x(c, i) - cx) - w) * cover(c, bottom - height - round);
            alpha *= cover(c, height - top - 4);
            if (alpha <= 0)
                continue;
            float light = 0.80f + 0.22f * cosf(phi + 0.45f);
            paint(c, i, j, shade(solid_colour(s, phi - p->yaw, r, top, bottom), light), alpha);
        }
    }
}

/* ---- head ------------------------------------------------------------------------------------ */
static Rgb head_colour(const Dress *k, V3 n, float soft)
{
    /* 1 on the forehead and below */
    float spread = clamp01(0.5f + (n.y - 0.50f + 0.9f * fabsf(n.x) * fabsf(n.x)) / soft * -1);
    float face = spread * clamp01(0.5f + (n.z - 0.16f) / soft);
    Rgb c = k->skin;
    for (int side = -1; side <= 1; side += 2) {
        float ex = n.x - 0.36f * (float)side, ey = n.y - 0.06f;
        c = mix_rgb(c, (Rgb){232, 120, 110},
                    k->skin.g / 540 * clamp01(1 - (ex * ex * 16 + (ey + 0.34f) * (ey + 0.34f) * 26)));
        c = mix_rgb(c, (Rgb){40, 32, 32}, clamp01((0.085f - sqrtf(ex * ex * 1.7f + ey * ey * 0.8f)) / soft + 0.5f));
        float brow = fabsf(n.y - 0.26f + 1.1f * ex * ex) - 0.018f; /* eyebrows */
        if (fabsf(ex) < 0.15f)
            c = mix_rgb(c, shade(k->hair, 0.8f), clamp01(0.5f - brow / soft) * 0.8f);
    }
    float smile = fabsf(n.y + 0.44f - 1.5f * n.x * n.x) - 0.026f; /* a smile */
    if (fabsf(n.x) < 0.27f)
        c = mix_rgb(c, (Rgb){176, 52, 62}, clamp01(0.5f - smile / soft));
    return mix_rgb(shade(k->hair, 0.92f + 0.10f * sinf(26 * atan2f(n.x, n.z) + 3 * n.y)), c, face);
}

void paint_ellipsoid(const Canvas *c, const Dress *k, V2 at, float a, float b, float yaw, int face)
{
    float cy = cosf(yaw), sy = sinf(yaw), soft = 1.6f / a;
    int x0, x1, y0, y1;
    canvas_rows(c, at.y - b - c->unit, at.y + b + c->unit, &y0, &y1);
    canvas_columns(c, at.x - a - c->unit, at.x + a + c->unit, &x0, &x1);
    for (int j = y0; j <= y1; j++)
        for (int i = x0; i <= x1; i++) {
            float nx = (canvas_x(c, i) - at.x) / a, ny = (at.y - canvas_y(c, j)) / b, rr = nx * nx + ny * ny;
            float alpha = cover(c, (sqrtf(rr) - 1) * a);
            if (alpha <= 0)
                continue;
            float nz = sqrtf(fmaxf(0, 1 - rr)), light = 0.82f + 0.2f * (0.4f * ny - 0.35f * nx + 0.8f * nz);
            V3 n = {nx * cy - nz * sy, ny, nx * sy + nz * cy};
            paint(c, i, j, shade(face ? head_colour(k, n, soft) : k->hair, light), alpha);
        }
}
