#include "tests/demo/draw/figure.h"
#include <math.h>
#include <stddef.h>

static const float PI = 3.14159265f;
const Rgb cloth_colours[COLOURS] = {{214, 28, 40}, {244, 196, 36}, {36, 150, 70},
                                    {36, 92, 214}, {136, 48, 168}, {34, 34, 40}};
const Rgb cloth_grey = {150, 152, 158}, cloth_white = {250, 248, 244}, cloth_orange = {244, 132, 32};
const Rgb skin_colours[3] = {{244, 206, 178}, {214, 160, 120}, {150, 100, 72}};
static const Rgb hairs[3] = {{88, 56, 38}, {44, 36, 36}, {206, 164, 96}};
static const Rgb shirt = {236, 232, 224}, shoes = {60, 48, 46};

void figure_dress(Figure *f, const Look *k)
{
    static const Weave weaves[PATTERNS] = {WEAVE_PLAIN, WEAVE_STRIPES, WEAVE_DOTS, WEAVE_FLOWERS, WEAVE_CHECKS};
    Fabric grey = {cloth_grey, cloth_grey, cloth_grey, WEAVE_PLAIN};
    Fabric cloth = {k->grey ? cloth_grey : cloth_colours[k->colour], cloth_white, cloth_orange, weaves[k->pattern]};
    int over = k->garment != SKIRT, under = k->garment == SKIRT || k->garment == DRESS;
    f->look = k;
    f->dress = (Dress){over ? cloth : grey, under ? cloth : grey, skin_colours[k->skin], hairs[k->hair]};
}

static V3 swung(V3 from, float length, float angle, float outwards)
{
    return (V3){from.x + length * sinf(outwards), from.y - length * cosf(angle) * cosf(outwards),
                from.z + length * sinf(angle)};
}

void figure_pose(Figure *f, float phase, float walk)
{
    float lowest = 1e9f;
    for (int i = 0; i < 2; i++) {
        float side = i ? 1.0f : -1.0f, ph = phase + (i ? PI : 0), thigh = walk * 0.42f * sinf(ph) + 0.02f;
        float bend = walk * 0.75f * powf(clamp01(0.5f + 0.5f * sinf(ph + 1.5f)), 2) + 0.03f;
        f->hip[i] = (V3){side * 42, 415, 0};
        f->knee[i] = swung(f->hip[i], 188, thigh, side * 0.02f);
        f->ankle[i] = swung(f->knee[i], 182, thigh - bend, side * 0.01f);
        f->toe[i] = (V3){f->ankle[i].x + side * 6, f->ankle[i].y - 20, f->ankle[i].z + 44};
        float arm = -walk * 0.40f * sinf(ph) + 0.03f;
        f->shoulder[i] = (V3){side * 86, 634, 0};
        f->elbow[i] = swung(f->shoulder[i], 140, arm, side * 0.30f);
        f->wrist[i] = swung(f->elbow[i], 128, arm + 0.18f + walk * 0.25f * clamp01(-sinf(ph)), side * 0.16f);
        lowest = fminf(lowest, f->ankle[i].y);
    }
    f->pose.lift = 34 - lowest; /* the standing foot stays on the floor */
    f->pose.sway = walk * 5 * sinf(phase);
    f->pose.swing = walk * 9 * sinf(phase + 0.8f);
}

static V2 project(const Figure *f, V3 p, float *depth)
{
    float c = cosf(f->pose.yaw), s = sinf(f->pose.yaw), x = p.x * c + p.z * s, z = -p.x * s + p.z * c;
    if (depth)
        *depth = z;
    return (V2){f->pose.x + x + f->pose.sway * clamp01((p.y - 400) / 260), FLOOR_Y - f->pose.lift - p.y + 0.10f * z};
}

static Fabric plain(Rgb colour)
{
    return (Fabric){colour, colour, colour, WEAVE_PLAIN};
}

static int in_trousers(const Figure *f)
{
    return f->look->garment == TOP || f->look->garment == COAT;
}

static void paint_leg(const Canvas *c, const Figure *f, int i)
{
    Fabric skin = plain(f->dress.skin), shoe = plain(shoes);
    int covered = in_trousers(f);
    const Fabric *cloth = covered ? &f->dress.lower : &skin;
    V2 hip = project(f, f->hip[i], NULL), knee = project(f, f->knee[i], NULL), ankle = project(f, f->ankle[i], NULL);
    V2 toe = project(f, f->toe[i], NULL),
       heel = project(f, (V3){f->ankle[i].x, f->ankle[i].y - 18, f->ankle[i].z - 8}, NULL);
    paint_limb(c, heel, toe, 15, 11, &shoe);
    paint_limb(c, ankle, heel, 13, 13, covered ? &shoe : &skin);
    if (!covered)
        paint_limb(c, heel, toe, 14, 10, &shoe);
    paint_limb(c, knee, ankle, covered ? 30 : 25, covered ? 24 : 15, cloth);
    paint_limb(c, hip, knee, covered ? 45 : 40, covered ? 31 : 25, cloth);
}

static void paint_arm(const Canvas *c, const Figure *f, int i)
{
    Fabric skin = plain(f->dress.skin);
    const Fabric *cloth = &f->dress.upper;
    V2 shoulder = project(f, f->shoulder[i], NULL), elbow = project(f, f->elbow[i], NULL),
       wrist = project(f, f->wrist[i], NULL);
    float wide = f->look->garment == COAT ? 6 : 0;
    V2 hand = {wrist.x + (wrist.x - elbow.x) * 0.12f, wrist.y + (wrist.y - elbow.y) * 0.12f};
    V2 half = {mix(shoulder.x, elbow.x, 0.62f), mix(shoulder.y, elbow.y, 0.62f)};
    paint_limb(c, elbow, wrist, 17, 13, &skin);
    paint_limb(c, wrist, hand, 14, 12, &skin);
    paint_limb(c, shoulder, elbow, 22, 17, &skin);
    if (f->look->sleeve == LONG_SLEEVES) {
        paint_limb(c, elbow, wrist, 21 + wide, 18 + wide, cloth);
        paint_limb(c, shoulder, elbow, 26 + wide, 21 + wide, cloth);
    } else if (f->look->sleeve == SHORT_SLEEVES)
        paint_limb(c, shoulder, half, 28, 27, cloth);
}

/* Skirt or dress, then the top or coat over it. */
static void paint_clothes(const Canvas *c, const Figure *f)
{
    static const Ring neck[] = {{712, 23, 22}, {690, 23, 23}, {655, 34, 28}};
    static const Ring hips[] = {{505, 62, 46}, {470, 76, 56}, {425, 86, 58}, {388, 76, 50}};
    static const Ring skirt[] = {{530, 64, 48}, {450, 92, 66}, {235, 126, 98}};
    static const Ring body[] = {{668, 50, 34}, {655, 94, 44}, {600, 88, 60}, {520, 70, 52}, {432, 92, 66}};
    static const Ring dress[] = {{668, 50, 34}, {655, 94, 44}, {600, 88, 60},
                                 {520, 68, 50}, {440, 96, 72}, {235, 136, 108}};
    static const Ring coat[] = {{670, 52, 36}, {657, 102, 50}, {600, 100, 70},
                                {512, 94, 66}, {390, 106, 76}, {255, 118, 88}};
    Fabric skin = plain(shade(f->dress.skin, 0.95f));
    paint_solid(c, &(Solid){.ring = neck, .rings = 3, .fabric = &skin}, &f->pose);
    Solid low = {.fabric = &f->dress.lower, .folds = 1, .hem = 1, .ring = skirt, .rings = 3};
    Solid up = {.ring = body, .rings = 5, .fabric = &f->dress.upper, .skin = f->dress.skin, .neck = 30};
    switch (f->look->garment) {
    case DRESS: up.ring = dress, up.rings = 6, up.folds = 1, up.hem = 1; break;
    case COAT: up = (Solid){coat, 6, &f->dress.upper, shirt, .neck = 92, .folds = 0.5f, .hem = 1, .coat = 1}; break;
    default: break;
    }
    if (in_trousers(f))
        paint_solid(c, &(Solid){.ring = hips, .rings = 4, .fabric = &f->dress.lower, .folds = 0.3f}, &f->pose);
    if (f->look->garment != SKIRT)
        paint_solid(c, &up, &f->pose);
    else { /* the top is tucked in */
        paint_solid(c, &up, &f->pose);
        paint_solid(c, &low, &f->pose);
    }
}

static void paint_head(const Canvas *c, const Figure *f)
{
    V2 at = project(f, (V3){0, 752, 4}, NULL);
    if (f->look->hair_style == 2) /* a bun */
        paint_ellipsoid(c, &f->dress, project(f, (V3){0, 806, -26}, NULL), 25, 23, f->pose.yaw, 0);
    paint_ellipsoid(c, &f->dress, at, 48, 56, f->pose.yaw, 1);
}

static void paint_back_hair(const Canvas *c, const Figure *f)
{
    if (f->look->hair_style == 2)
        return;
    Fabric hair = plain(f->dress.hair);
    V2 top = project(f, (V3){0, 762, -12}, NULL);
    V2 end = project(f, (V3){0, f->look->hair_style == 1 ? 630.0f : 700.0f, -24}, NULL);
    end.x -= f->pose.swing * 0.5f;
    float wide = 38 + 14 * fabsf(cosf(f->pose.yaw));
    paint_limb(c, top, end, wide, wide - 8, &hair);
}

void paint_figure(const Canvas *c, const Figure *f)
{
    float depth[2];
    int away = cosf(f->pose.yaw) < 0;
    project(f, f->knee[0], &depth[0]);
    project(f, f->knee[1], &depth[1]);
    int far_leg = depth[0] < depth[1] ? 0 : 1;
    project(f, f->shoulder[0], &depth[0]);
    project(f, f->shoulder[1], &depth[1]);
    if (!away)
        paint_back_hair(c, f);
    for (int i = 0; i < 2; i++)
        if (depth[i] < -14)
            paint_arm(c, f, i);
    paint_leg(c, f, far_leg);
    paint_leg(c, f, !far_leg);
    paint_clothes(c, f);
    for (int i = 0; i < 2; i++)
        if (depth[i] >= -14)
            paint_arm(c, f, i);
    paint_head(c, f);
    if (away)
        paint_back_hair(c, f);
}
