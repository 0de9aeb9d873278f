/* draw_clips OUT [CLIPS]   the demo's source material: figures in garments, walking and turning in
 * a light studio.
 *
 * Twelve H.264 files of 720x960 at 30 FPS, in the layout of Fashion-Text2Video with videos in place
 * of picture folders:
 * OUT/videos/ID.mp4, action_label/ID.txt, {train,val,test}_frame_num.txt,
 * caption_motion_template.json, categories.json and, last, captions_app.json.  Every run gives the
 * same bytes.
 *
 * A figure is a small 3-D skeleton (x to the viewer's right, y up, z to the viewer, in pixels),
 * turned by a yaw and projected.
 * Limbs are tapered capsules; body, skirt and head are solids of revolution whose texture turns
 * with them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/str.h"
#include "common/media/video.h"

enum { WIDTH = 720, HEIGHT = 960, FRAMES = 190, FPS = 30, FLOOR_Y = 900 };
static const float PI = 3.14159265f;

typedef struct Rgb {
    float r, g, b;
} Rgb;
typedef struct V2 {
    float x, y;
} V2;
typedef struct V3 {
    float x, y, z;
} V3;

/* ---- what is worn ---------------------------------------------------------------------------- */
typedef enum Pattern { PLAIN, STRIPES, DOTS, CHECKS } Pattern;
typedef struct Fabric {
    Rgb base, second;
    Pattern pattern;
} Fabric;
typedef enum Lower { TROUSERS, SKIRT, LONG_SKIRT, SHORT_DRESS, LONG_DRESS } Lower;
typedef enum Sleeve { SLEEVELESS, SHORT_SLEEVES, LONG_SLEEVES } Sleeve;
typedef enum Hair { HAIR_BOB, HAIR_LONG, HAIR_BUN } Hair;

typedef struct Look {
    const char *id, *category, *split;
    const char *caption[2];
    Fabric upper, lower;
    Lower cut;
    Sleeve sleeve;
    int coat; /* length in pixels below the waist; 0: none.  The upper fabric is the coat's */
    int bag;
    Rgb bag_colour;
    Hair hair;
    Rgb hair_colour, skin;
    int script;
} Look;

#define WHITE         \
    {                 \
        245, 243, 238 \
    }
#define RED         \
    {               \
        196, 30, 45 \
    }
#define NAVY       \
    {              \
        28, 42, 92 \
    }
#define GREEN       \
    {               \
        38, 122, 84 \
    }
#define BLUE        \
    {               \
        44, 98, 190 \
    }
#define YELLOW       \
    {                \
        236, 190, 52 \
    }
#define PINK          \
    {                 \
        232, 128, 160 \
    }
#define BLACK      \
    {              \
        38, 38, 44 \
    }
#define PURPLE       \
    {                \
        112, 62, 140 \
    }
#define CAMEL        \
    {                \
        190, 142, 92 \
    }
#define TEAL         \
    {                \
        24, 128, 136 \
    }
#define GREY          \
    {                 \
        142, 146, 154 \
    }
#define ORANGE       \
    {                \
        226, 112, 40 \
    }
#define DENIM        \
    {                \
        78, 104, 148 \
    }
#define CREAM         \
    {                 \
        238, 226, 202 \
    }
#define SKIN_A        \
    {                 \
        244, 206, 178 \
    }
#define SKIN_B        \
    {                 \
        206, 152, 112 \
    }
#define SKIN_C      \
    {               \
        142, 94, 66 \
    }
#define BROWN      \
    {              \
        88, 56, 38 \
    }
#define DARK       \
    {              \
        40, 32, 32 \
    }
#define BLOND        \
    {                \
        206, 164, 96 \
    }
#define COPPER      \
    {               \
        154, 74, 40 \
    }

static const Look looks[] = {
    {"A1r+dR3xQ0S",
     "Dresses",
     "train",
     {"The dress the person wears has short sleeves and it is of short length. Its texture is pure color. It is red.",
      "A woman in a red dress with short sleeves."},
     {RED, RED, PLAIN},
     {RED, RED, PLAIN},
     SHORT_DRESS,
     SHORT_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_LONG,
     BROWN,
     SKIN_A,
     0},
    {"91-nV7dotLS",
     "Dresses",
     "train",
     {"The navy blue dress has long sleeves and it is of long length. Its texture is polka dots.",
      "A woman in a long navy blue dress with white polka dots and long sleeves."},
     {NAVY, WHITE, DOTS},
     {NAVY, WHITE, DOTS},
     LONG_DRESS,
     LONG_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_BUN,
     DARK,
     SKIN_B,
     2},
    {"A1gCk5zW2nS",
     "Dresses",
     "train",
     {"The person is wearing a sleeveless dress. It is of short length. Its pattern is checks. It is green and white.",
      "A woman in a green checked dress without sleeves."},
     {GREEN, WHITE, CHECKS},
     {GREEN, WHITE, CHECKS},
     SHORT_DRESS,
     SLEEVELESS,
     0,
     0,
     WHITE,
     HAIR_BOB,
     COPPER,
     SKIN_A,
     3},
    {"91bSt8+pe4S",
     "Tops",
     "train",
     {"The person wears a blue top with long sleeves. Its pattern is stripes.",
      "A woman in a blue striped top and grey trousers."},
     {BLUE, WHITE, STRIPES},
     {GREY, GREY, PLAIN},
     TROUSERS,
     LONG_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_LONG,
     DARK,
     SKIN_C,
     1},
    {"A1yEl2ow9TS",
     "Tops",
     "train",
     {"This woman wears a yellow top. It has short sleeves. The texture of it is pure color.",
      "A woman in a yellow top and a short blue denim skirt."},
     {YELLOW, YELLOW, PLAIN},
     {DENIM, DENIM, PLAIN},
     SKIRT,
     SHORT_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_BOB,
     BLOND,
     SKIN_A,
     4},
    {"91pNk-d0t6S",
     "Tops",
     "val",
     {"The person is wearing a sleeveless pink top. Its pattern is polka dots.",
      "A woman in a pink top with white dots and white trousers."},
     {PINK, WHITE, DOTS},
     {WHITE, WHITE, PLAIN},
     TROUSERS,
     SLEEVELESS,
     0,
     0,
     WHITE,
     HAIR_BUN,
     BROWN,
     SKIN_B,
     0},
    {"A1bLk4tr7US",
     "Pants/Skirts",
     "train",
     {"The person wears black trousers of long length. Their texture is pure color.",
      "A woman in black trousers and a cream top with short sleeves."},
     {CREAM, CREAM, PLAIN},
     {BLACK, BLACK, PLAIN},
     TROUSERS,
     SHORT_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_BOB,
     DARK,
     SKIN_C,
     2},
    {"91pUr3sk1rS",
     "Pants/Skirts",
     "train",
     {"The skirt the person wears is of long length. Its pattern is checks. It is purple and white.",
      "A woman in a long purple checked skirt and a cream top with long sleeves."},
     {CREAM, CREAM, PLAIN},
     {PURPLE, WHITE, CHECKS},
     LONG_SKIRT,
     LONG_SLEEVES,
     0,
     0,
     WHITE,
     HAIR_LONG,
     COPPER,
     SKIN_A,
     3},
    {"A1cAm+c0a8S",
     "Outerwear",
     "train",
     {"The person wears a camel coat. It has long sleeves and it is of long length. The texture of it is pure color.",
      "A woman in a long camel coat and black trousers."},
     {CAMEL, CAMEL, PLAIN},
     {BLACK, BLACK, PLAIN},
     TROUSERS,
     LONG_SLEEVES,
     225,
     0,
     WHITE,
     HAIR_BUN,
     BLOND,
     SKIN_A,
     4},
    {"91tEa5jk2tS",
     "Outerwear",
     "test",
     {"The person wears a teal jacket. It has long sleeves and it is of short length. Its texture is pure color.",
      "A woman in a teal jacket and a short cream skirt."},
     {TEAL, TEAL, PLAIN},
     {CREAM, CREAM, PLAIN},
     SKIRT,
     LONG_SLEEVES,
     50,
     0,
     WHITE,
     HAIR_LONG,
     DARK,
     SKIN_B,
     1},
    {"A1oRg6b4gWS",
     "Accessories",
     "train",
     {"The person carries an orange bag and wears a sleeveless grey dress of short length. Its texture is pure color.",
      "A woman in a grey dress with an orange bag."},
     {GREY, GREY, PLAIN},
     {GREY, GREY, PLAIN},
     SHORT_DRESS,
     SLEEVELESS,
     0,
     1,
     ORANGE,
     HAIR_BOB,
     BROWN,
     SKIN_C,
     2},
    {"91rEd-b9gYS",
     "Accessories",
     "val",
     {"The person carries a red bag and wears a striped top with short sleeves.",
      "A woman with a red bag, in a navy striped top and blue denim trousers."},
     {WHITE, NAVY, STRIPES},
     {DENIM, DENIM, PLAIN},
     TROUSERS,
     SHORT_SLEEVES,
     0,
     1,
     RED,
     HAIR_LONG,
     BLOND,
     SKIN_A,
     1},
};
enum { LOOKS = sizeof looks / sizeof *looks };

/* ---- what is done ---------------------------------------------------------------------------- */
static const char *const motion_texts[][2] = {
    {"<Gender> stands still.", "<Gender> is standing in place."},
    {"<Gender> moves to the right.", "<Gender> walks to the right."},
    {"<Gender> moves to the left.", "<Gender> walks to the left."},
    {"<Gender> is moving to the center from the left.", "<Gender> walks to the center."},
    {"<Gender> is moving to the center from the right.", "<Gender> walks to the center."},
    {"<Gender> turns right from the front to the side.", "<Gender> turns to the right."},
    {"<Gender> turns right from the side to the back.", "<Gender> turns away to the right."},
    {"<Gender> turns left from the side to the front.", "<Gender> turns to the front."},
    {"<Gender> turns left from the front to the side.", "<Gender> turns to the left."},
    {"<Gender> walks towards the camera.", "<Gender> is walking on the spot."},
};
enum { MOTIONS = sizeof motion_texts / sizeof *motion_texts, MOVES = 4 };
typedef struct Move {
    int label, frames;
    float yaw, x, walk;
} Move; /* state at its end; degrees, pixels, 0..1 */
typedef struct Script {
    float yaw, x;
    Move move[MOVES];
} Script; /* frames 0 ends it; they sum to FRAMES */
static const Script scripts[] = {
    {0, 0, {{0, 36, 0, 0, 0}, {5, 60, 80, 0, 0.7f}, {6, 64, 180, 0, 0.7f}, {0, 30, 180, 0, 0}}},
    {40, -190, {{3, 100, 35, 0, 1}, {0, 30, 0, 0, 0.2f}, {9, 60, 0, 0, 1}}},
    {0, 0, {{0, 24, 0, 0, 0}, {1, 82, 50, 170, 1}, {2, 84, -50, -60, 1}}},
    {80, 0, {{7, 60, 0, 0, 0.7f}, {0, 40, 0, 0, 0}, {8, 90, -80, 0, 0.7f}}},
    {-40, 190, {{4, 100, -35, 0, 1}, {9, 90, 0, 0, 1}}},
};

/* ---- painting -------------------------------------------------------------------------------- */
static float clamp01(float v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static float mix(float a, float b, float t)
{
    return a + (b - a) * t;
}

static float smooth(float t)
{
    t = clamp01(t);
    return t * t * (3 - 2 * t);
}

static Rgb mix_rgb(Rgb a, Rgb b, float t)
{
    return (Rgb){mix(a.r, b.r, t), mix(a.g, b.g, t), mix(a.b, b.b, t)};
}

static Rgb shade(Rgb c, float k)
{
    return (Rgb){c.r * k, c.g * k, c.b * k};
}

static void paint(uint8_t *rgb, int x, int y, Rgb c, float alpha)
{
    uint8_t *p = rgb + ((size_t)y * WIDTH + (size_t)x) * 3;
    p[0] = (uint8_t)(p[0] + (fminf(c.r, 255) - p[0]) * alpha + 0.5f);
    p[1] = (uint8_t)(p[1] + (fminf(c.g, 255) - p[1]) * alpha + 0.5f);
    p[2] = (uint8_t)(p[2] + (fminf(c.b, 255) - p[2]) * alpha + 0.5f);
}

/* 1 inside a band of width `band` in every `period`, edges one pixel soft. */
static float bands(float t, float period, float band)
{
    float d = fabsf(t - period * floorf(t / period + 0.5f)); /* distance to the band's middle */
    return clamp01(band / 2 - d + 0.5f);
}

/* Colour of a fabric at s around and t along, in pixels. */
static Rgb fabric_at(const Fabric *f, float s, float t)
{
    switch (f->pattern) {
    case STRIPES: return mix_rgb(f->base, f->second, bands(t, 38, 17));
    case CHECKS: return mix_rgb(f->base, f->second, 0.42f * bands(t, 44, 20) + 0.42f * bands(s, 44, 20));
    case DOTS: {
        float row = floorf(t / 34), u = s + (fmodf(fabsf(row), 2) > 0.5f ? 21 : 0);
        float dx = u - 42 * floorf(u / 42) - 21, dy = t - 34 * row - 17;
        return mix_rgb(f->base, f->second, clamp01(8.5f - sqrtf(dx * dx + dy * dy)));
    }
    default: return f->base;
    }
}

/* A tapered limb from a to b. */
static void paint_limb(uint8_t *rgb, V2 a, V2 b, float ra, float rb, const Fabric *f)
{
    float r = fmaxf(ra, rb) + 1, dx = b.x - a.x, dy = b.y - a.y, len = sqrtf(dx * dx + dy * dy) + 1e-3f;
    int x0 = (int)fmaxf(0, fminf(a.x, b.x) - r), x1 = (int)fminf(WIDTH - 1, fmaxf(a.x, b.x) + r);
    int y0 = (int)fmaxf(0, fminf(a.y, b.y) - r), y1 = (int)fminf(HEIGHT - 1, fmaxf(a.y, b.y) + r);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            float px = (float)x - a.x, py = (float)y - a.y, along = (px * dx + py * dy) / len, h = clamp01(along / len);
            float qx = px - h * dx, qy = py - h * dy, radius = mix(ra, rb, h), d = sqrtf(qx * qx + qy * qy) - radius;
            if (d >= 0.5f)
                continue;
            float across = (px * dy - py * dx) / len;
            float light = 1.0f - 0.2f * clamp01(fabsf(across + 0.3f * radius) / (1.3f * radius));
            paint(rgb, x, y, shade(fabric_at(f, across, along), light), clamp01(0.5f - d));
        }
}

/* ---- solids of revolution -------------------------------------------------------------------- */
typedef struct Ring {
    float y, a, b;
} Ring; /* height over the floor, half width, half depth */
typedef struct Pose {
    float x, yaw, lift, sway, swing;
} Pose; /* swing: of the hem */
typedef struct Solid {
    const Ring *ring; /* from top to bottom */
    int rings;
    const Fabric *fabric;
    Rgb skin;
    float neck;  /* depth of the neckline below the top; 0: closed */
    float folds; /* of the cloth, 0..1 */
    int hem;     /* how much of the swing it takes: 1 a skirt */
    int buttons; /* a coat's front */
} Solid;

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
    float low = (top - r.y) / (top - bottom), radius = 0.5f * (r.a + r.b);
    Rgb c = fabric_at(s->fabric, angle * radius, top - r.y);
    if (s->folds > 0 && low > 0.1f)
        c = shade(c, 1 + s->folds * (low - 0.1f) * 0.1f * sinf(9 * angle + 2.0f * sinf(3 * angle)));
    if (s->buttons) {
        float off = fabsf(angle + 0.05f) * r.a, dy = (top - r.y) - 58 * floorf((top - r.y) / 58 + 0.5f),
              dx = (angle - 0.12f) * r.a;
        c = shade(c, 1 - 0.35f * clamp01(2.0f - off));
        if (cosf(angle) > 0 && top - r.y > 70)
            c = mix_rgb(c, shade(c, 0.45f), clamp01(6.5f - sqrtf(dx * dx + dy * dy)));
    }
    if (s->neck > 0 && cosf(angle) > 0) { /* a round neckline; a coat opens in a V */
        float across = sinf(angle) * r.a,
              edge = s->buttons ? s->neck - 1.9f * fabsf(across) : s->neck - across * across / (1.1f * s->neck);
        c = mix_rgb(c, s->skin, clamp01(edge - (top - r.y) + 0.5f));
    }
    return c;
}

static void paint_solid(uint8_t *rgb, const Solid *s, const Pose *p)
{
    float top = s->ring[0].y, bottom = s->ring[s->rings - 1].y, cy = cosf(p->yaw), sy = sinf(p->yaw);
    int y0 = (int)(FLOOR_Y - top - p->lift) - 8, y1 = (int)(FLOOR_Y - bottom - p->lift) + 16;
    for (int y = y0 < 0 ? 0 : y0; y <= y1 && y < HEIGHT; y++) {
        float height = FLOOR_Y - p->lift - (float)y;
        Ring r = ring_at(s, fmaxf(bottom, fminf(top, height)));
        float w = sqrtf(r.a * r.a * cy * cy + r.b * r.b * sy * sy), low = (top - r.y) / (top - bottom);
        float cx = p->x + p->sway * clamp01((r.y - 400) / 260) + (float)s->hem * p->swing * low * low;
        int x0 = (int)fmaxf(0, cx - w - 1), x1 = (int)fminf(WIDTH - 1, cx + w + 1);
        for (int x = x0; x <= x1; x++) {
            float d = ((float)x - cx) / w;
            /* nearer cloth is lower in the picture */
            float phi = asinf(fmaxf(-1, fminf(1, d))), round = cosf(phi) * 0.10f * r.b;
            float cover = clamp01(w - fabsf((float)x - cx) + 0.5f) * clamp01(height - bottom + round + 0.5f);
            cover *= clamp01(top + 4.5f - height);
            if (cover <= 0)
                continue;
            float angle = phi - p->yaw, light = 0.80f + 0.22f * cosf(phi + 0.45f);
            paint(rgb, x, y, shade(solid_colour(s, angle, r, top, bottom), light), cover);
        }
    }
}

/* ---- head ------------------------------------------------------------------------------------ */
static Rgb head_colour(const Look *k, V3 n, float soft)
{
    /* 1 on the forehead and below */
    float spread = clamp01(0.5f + (n.y - 0.50f + 0.9f * fabsf(n.x) * fabsf(n.x)) / soft * -1);
    float front = clamp01(0.5f + (n.z - 0.16f) / soft);
    float face = spread * front;
    Rgb c = k->skin;
    for (int side = -1; side <= 1; side += 2) {
        float ex = n.x - 0.36f * (float)side, ey = n.y - 0.06f;
        c = mix_rgb(c, (Rgb){232, 120, 110},
                    k->skin.g / 540 * clamp01(1 - (ex * ex * 16 + (ey + 0.34f) * (ey + 0.34f) * 26)));
        c = mix_rgb(c, (Rgb)DARK, clamp01((0.085f - sqrtf(ex * ex * 1.7f + ey * ey * 0.8f)) / soft + 0.5f));
        c = mix_rgb(
            c, (Rgb)WHITE,
            clamp01((0.026f - sqrtf((ex - 0.02f) * (ex - 0.02f) + (ey - 0.035f) * (ey - 0.035f))) / soft + 0.3f));
        float brow = fabsf(n.y - 0.26f + 1.1f * ex * ex) - 0.018f; /* eyebrows */
        if (fabsf(ex) < 0.15f)
            c = mix_rgb(c, shade(k->hair_colour, 0.8f), clamp01(0.5f - brow / soft) * 0.8f);
    }
    float smile = fabsf(n.y + 0.44f - 1.5f * n.x * n.x) - 0.026f; /* a smile */
    if (fabsf(n.x) < 0.27f)
        c = mix_rgb(c, (Rgb){176, 52, 62}, clamp01(0.5f - smile / soft));
    float nose = fabsf(n.y + 0.17f) - 0.015f;
    if (fabsf(n.x) < 0.06f)
        c = mix_rgb(c, shade(k->skin, 0.82f), clamp01(0.5f - nose / soft));
    return mix_rgb(shade(k->hair_colour, 0.92f + 0.10f * sinf(26 * atan2f(n.x, n.z) + 3 * n.y)), c, face);
}

static void paint_ellipsoid(uint8_t *rgb, const Look *k, V2 c, float a, float b, float yaw, int face)
{
    float cy = cosf(yaw), sy = sinf(yaw), soft = 1.6f / a;
    for (int y = (int)fmaxf(0, c.y - b - 1); y <= (int)(c.y + b + 1) && y < HEIGHT; y++)
        for (int x = (int)fmaxf(0, c.x - a - 1); x <= (int)(c.x + a + 1) && x < WIDTH; x++) {
            float nx = ((float)x - c.x) / a, ny = (c.y - (float)y) / b, rr = nx * nx + ny * ny;
            float cover = clamp01((1 - sqrtf(rr)) * a + 0.5f);
            if (cover <= 0)
                continue;
            float nz = sqrtf(fmaxf(0, 1 - rr)), light = 0.82f + 0.2f * (0.4f * ny - 0.35f * nx + 0.8f * nz);
            V3 n = {nx * cy - nz * sy, ny, nx * sy + nz * cy};
            Rgb col = face ? head_colour(k, n, soft) : k->hair_colour;
            paint(rgb, x, y, shade(col, light), cover);
        }
}

/* ---- skeleton -------------------------------------------------------------------------------- */
typedef struct Figure {
    const Look *look;
    Pose pose;
    V3 hip[2], knee[2], ankle[2], toe[2], shoulder[2], elbow[2], wrist[2]; /* local, before the yaw */
} Figure;

static V3 swung(V3 from, float length, float angle, float outwards)
{
    return (V3){from.x + length * sinf(outwards), from.y - length * cosf(angle) * cosf(outwards),
                from.z + length * sinf(angle)};
}

static void set_pose(Figure *f, float phase, float walk)
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
        f->shoulder[i] = (V3){side * 82, 636, 0};
        f->elbow[i] = swung(f->shoulder[i], 140, arm, side * 0.20f);
        f->wrist[i] = swung(f->elbow[i], 128, arm + 0.18f + walk * 0.25f * clamp01(-sinf(ph)), side * 0.06f);
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

static void paint_leg(uint8_t *rgb, const Figure *f, int i)
{
    const Look *k = f->look;
    Fabric skin = {k->skin, k->skin, PLAIN}, shoe = {{60, 48, 46}, {0, 0, 0}, PLAIN};
    int covered = k->cut == TROUSERS;
    const Fabric *cloth = covered ? &k->lower : &skin;
    V2 hip = project(f, f->hip[i], NULL), knee = project(f, f->knee[i], NULL), ankle = project(f, f->ankle[i], NULL);
    V2 toe = project(f, f->toe[i], NULL),
       heel = project(f, (V3){f->ankle[i].x, f->ankle[i].y - 18, f->ankle[i].z - 8}, NULL);
    paint_limb(rgb, heel, toe, 15, 11, &shoe);
    if (covered)
        paint_limb(rgb, ankle, heel, 13, 13, &shoe);
    else
        paint_limb(rgb, ankle, heel, 12, 13, &skin), paint_limb(rgb, heel, toe, 14, 10, &shoe);
    paint_limb(rgb, knee, ankle, covered ? 29 : 23, covered ? 24 : 12, cloth);
    paint_limb(rgb, hip, knee, covered ? 45 : 40, covered ? 30 : 23, cloth);
}

static void paint_bag(uint8_t *rgb, const Figure *f, V2 hand)
{
    Fabric leather = {f->look->bag_colour, f->look->bag_colour, PLAIN},
           strap = {shade(f->look->bag_colour, 0.7f), RED, PLAIN};
    float w = 30 + 26 * fabsf(cosf(f->pose.yaw + 0.9f)), top = hand.y + 40;
    paint_limb(rgb, hand, (V2){hand.x - w * 0.6f, top + 6}, 3.5f, 3.5f, &strap);
    paint_limb(rgb, hand, (V2){hand.x + w * 0.6f, top + 6}, 3.5f, 3.5f, &strap);
    for (int y = (int)top; y < (int)top + 82; y++) { /* a rounded trapezium */
        float grow = mix(0.82f, 1, ((float)y - top) / 82), half = w * grow;
        for (int x = (int)(hand.x - half - 1); x <= (int)(hand.x + half + 1); x++) {
            if (x < 0 || x >= WIDTH || y < 0 || y >= HEIGHT)
                continue;
            float qx = fmaxf(0, fabsf((float)x - hand.x) - half + 12),
                  qy = fmaxf(0, fabsf((float)y - top - 41) - 41 + 12);
            float cover = clamp01(12 - sqrtf(qx * qx + qy * qy) + 0.5f),
                  light = 1.03f - 0.25f * fabsf((float)x - hand.x) / half;
            float seam = clamp01(2.0f - fabsf((float)y - top - 26));
            paint(rgb, x, y, shade(leather.base, light * (1 - 0.3f * seam)), cover);
        }
    }
    paint_limb(rgb, (V2){hand.x - 5, top + 26}, (V2){hand.x + 5, top + 26}, 5, 5,
               &(Fabric){{236, 210, 130}, {0, 0, 0}, PLAIN});
}

static void paint_arm(uint8_t *rgb, const Figure *f, int i)
{
    const Look *k = f->look;
    Fabric skin = {k->skin, k->skin, PLAIN};
    V2 shoulder = project(f, f->shoulder[i], NULL), elbow = project(f, f->elbow[i], NULL),
       wrist = project(f, f->wrist[i], NULL);
    float wide = k->coat ? 6 : 0;
    V2 hand = {wrist.x + (wrist.x - elbow.x) * 0.12f, wrist.y + (wrist.y - elbow.y) * 0.12f};
    V2 half = {mix(shoulder.x, elbow.x, 0.62f), mix(shoulder.y, elbow.y, 0.62f)};
    paint_limb(rgb, elbow, wrist, 15, 11, &skin);
    paint_limb(rgb, wrist, hand, 12, 11, &skin);
    paint_limb(rgb, shoulder, elbow, 20, 15, &skin);
    if (k->bag && i == 1)
        paint_bag(rgb, f, hand);
    if (k->sleeve == LONG_SLEEVES)
        paint_limb(rgb, elbow, wrist, 19 + wide, 16 + wide, &k->upper);
    if (k->sleeve == LONG_SLEEVES)
        paint_limb(rgb, shoulder, elbow, 25 + wide, 19 + wide, &k->upper);
    if (k->sleeve == SHORT_SLEEVES)
        paint_limb(rgb, shoulder, half, 25, 23, &k->upper);
}

/* The part of trousers that the legs hang from. */
static void paint_hips(uint8_t *rgb, const Figure *f)
{
    static const Ring hips[] = {{505, 62, 46}, {470, 74, 56}, {425, 84, 58}, {388, 74, 50}};
    paint_solid(rgb, &(Solid){.ring = hips, .rings = 4, .fabric = &f->look->lower, .folds = 0.3f}, &f->pose);
}

/* Skirt or dress, then the top or coat over it. */
static void paint_clothes(uint8_t *rgb, const Figure *f)
{
    const Look *k = f->look;
    static const Ring skirt[] = {{510, 62, 46}, {450, 86, 62}, {280, 118, 92}};
    static const Ring long_skirt[] = {{510, 62, 46}, {450, 84, 62}, {120, 138, 116}};
    static const Ring body[] = {{668, 50, 34}, {655, 92, 42}, {600, 84, 58}, {510, 64, 48}, {478, 74, 56}};
    static const Ring short_dress[] = {{668, 50, 34}, {655, 92, 42}, {600, 84, 58},
                                       {512, 63, 47}, {440, 92, 68}, {255, 132, 108}};
    static const Ring long_dress[] = {{668, 50, 34}, {655, 92, 42}, {600, 84, 58},
                                      {512, 63, 47}, {440, 92, 68}, {90, 150, 130}};
    static const Ring neck[] = {{712, 23, 22}, {690, 23, 23}, {655, 34, 28}};
    Fabric skin = {shade(k->skin, 0.95f), k->skin, PLAIN};
    paint_solid(rgb, &(Solid){.ring = neck, .rings = 3, .fabric = &skin}, &f->pose);
    Solid low = {.fabric = &k->lower, .folds = 1, .hem = 1};
    Solid up = {.ring = body, .rings = 5, .fabric = &k->upper, .skin = k->skin, .neck = 34};
    switch (k->cut) {
    case TROUSERS: break;
    case SKIRT: low.ring = skirt, low.rings = 3; break;
    case LONG_SKIRT: low.ring = long_skirt, low.rings = 3; break;
    case SHORT_DRESS: up.ring = short_dress, up.rings = 6, up.folds = 1, up.hem = 1; break;
    case LONG_DRESS: up.ring = long_dress, up.rings = 6, up.folds = 1, up.hem = 1; break;
    }
    if (low.ring)
        paint_solid(rgb, &low, &f->pose);
    if (k->coat) {
        Ring coat[] = {{670, 52, 36},
                       {657, 100, 48},
                       {600, 94, 66},
                       {512, 80, 60},
                       {512 - (float)k->coat * 0.5f, 98, 74},
                       {512 - (float)k->coat, 100 + 0.12f * (float)k->coat, 78 + 0.12f * (float)k->coat}};
        up = (Solid){.ring = coat,
                     .rings = 6,
                     .fabric = &k->upper,
                     .skin = {236, 232, 224},
                     .neck = 92,
                     .folds = 0.5f,
                     .hem = 1,
                     .buttons = 1};
        paint_solid(rgb, &up, &f->pose);
        return;
    }
    paint_solid(rgb, &up, &f->pose);
}

static void paint_head(uint8_t *rgb, const Figure *f)
{
    const Look *k = f->look;
    V2 c = project(f, (V3){0, 752, 4}, NULL);
    if (k->hair == HAIR_BUN)
        paint_ellipsoid(rgb, k, project(f, (V3){0, 806, -26}, NULL), 25, 23, f->pose.yaw, 0);
    paint_ellipsoid(rgb, k, c, 47, 56, f->pose.yaw, 1);
}

static void paint_back_hair(uint8_t *rgb, const Figure *f)
{
    const Look *k = f->look;
    if (k->hair == HAIR_BUN)
        return;
    Fabric hair = {k->hair_colour, k->hair_colour, PLAIN};
    V2 top = project(f, (V3){0, 762, -12}, NULL);
    V2 end = project(f, (V3){0, k->hair == HAIR_LONG ? 622.0f : 706.0f, -24}, NULL);
    end.x -= f->pose.swing * 0.5f;
    float wide = 38 + 14 * fabsf(cosf(f->pose.yaw));
    paint_limb(rgb, top, end, wide, wide - 8, &hair);
}

static void paint_figure(uint8_t *rgb, const Figure *f)
{
    float depth[2];
    int away = cosf(f->pose.yaw) < 0;
    project(f, f->knee[0], &depth[0]);
    project(f, f->knee[1], &depth[1]);
    int far_leg = depth[0] < depth[1] ? 0 : 1;
    project(f, f->shoulder[0], &depth[0]);
    project(f, f->shoulder[1], &depth[1]);
    if (!away)
        paint_back_hair(rgb, f);
    for (int i = 0; i < 2; i++)
        if (depth[i] < -14)
            paint_arm(rgb, f, i);
    if (f->look->cut == TROUSERS)
        paint_hips(rgb, f);
    paint_leg(rgb, f, far_leg);
    paint_leg(rgb, f, !far_leg);
    paint_clothes(rgb, f);
    for (int i = 0; i < 2; i++)
        if (depth[i] >= -14)
            paint_arm(rgb, f, i);
    paint_head(rgb, f);
    if (away)
        paint_back_hair(rgb, f);
}

/* ---- a clip ---------------------------------------------------------------------------------- */
/* A light studio: wall, floor, a soft seam between them. */
static void paint_studio(uint8_t *rgb, float warm)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            float fx = ((float)x - WIDTH / 2.0f) / WIDTH, fy = (float)y / HEIGHT;
            float v = 244 - 26 * fx * fx - 10 * fy, floor = smooth((fy - 0.80f) / 0.12f);
            v = mix(v, 226 - 34 * fx * fx, floor);
            uint8_t *p = rgb + ((size_t)y * WIDTH + (size_t)x) * 3;
            p[0] = (uint8_t)(v + warm);
            p[1] = (uint8_t)v;
            p[2] = (uint8_t)(v - warm);
        }
}

static void paint_shadow(uint8_t *rgb, float cx)
{
    for (int y = FLOOR_Y - 45; y < FLOOR_Y + 45; y++)
        for (int x = (int)fmaxf(0, cx - 190); x < (int)fminf(WIDTH, cx + 190); x++) {
            float dx = ((float)x - cx) / 180, dy = ((float)y - FLOOR_Y) / 40, d = 1 - dx * dx - dy * dy;
            if (d > 0)
                paint(rgb, x, y, (Rgb){120, 112, 112}, 0.42f * smooth(d));
        }
}

/* Yaw, place and pace at a frame. */
static void follow_script(const Script *s, int frame, Pose *pose, float *walk)
{
    float yaw = s->yaw, x = s->x, pace = s->move[0].walk;
    int start = 0;
    for (int i = 0; i < MOVES && s->move[i].frames; i++) {
        const Move *m = &s->move[i];
        if (frame < start + m->frames) {
            float t = smooth((float)(frame - start) / (float)m->frames);
            float turn = fabsf(x - m->x) > 1 ? smooth((float)(frame - start) / 25) : t; /* who walks off turns first */
            pose->yaw = mix(yaw, m->yaw, turn) * PI / 180;
            pose->x = WIDTH / 2.0f + mix(x, m->x, t);
            *walk = mix(pace, m->walk, smooth((float)(frame - start) / 15));
            return;
        }
        start += m->frames;
        yaw = m->yaw, x = m->x, pace = m->walk;
    }
    pose->yaw = yaw * PI / 180;
    pose->x = WIDTH / 2.0f + x;
    *walk = pace;
}

static int draw_clip(const char *out, int index, Err *err)
{
    const Look *look = &looks[index];
    Philox random = philox_stream(20, RNG_TEST, 1, (uint64_t)index);
    float warm = 4 * philox_uniform(&random, 0) - 1, pace = 0.17f + 0.03f * philox_uniform(&random, 1);
    float phase = 2 * PI * philox_uniform(&random, 2);
    int64_t bytes = (int64_t)WIDTH * HEIGHT * 3;
    VideoWriterParams params = {
        .codec = VIDEO_H264, .width = WIDTH, .height = HEIGHT, .rate = {FPS, 1}, .crf = 22, .fast = 1};
    VideoWriter *w = NULL;
    char *path = mem_printf(err, "%s/videos/%s.mp4", out, look->id);
    uint8_t *studio = mem_calloc(bytes, 1, err), *rgb = mem_calloc(bytes, 1, err);
    int rc = path && studio && rgb ? video_create(&w, path, &params, err) : ERR_NOMEM;
    if (rc == 0)
        paint_studio(studio, warm);
    for (int k = 0; rc == 0 && k < FRAMES; k++) {
        Figure f = {.look = look};
        float walk;
        follow_script(&scripts[look->script], k, &f.pose, &walk);
        phase += pace * clamp01(walk * 3);
        set_pose(&f, phase, walk);
        memcpy(rgb, studio, (size_t)bytes);
        paint_shadow(rgb, f.pose.x);
        paint_figure(rgb, &f);
        rc = video_write(w, rgb, err);
    }
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(studio);
    mem_free(rgb);
    mem_free(path);
    return rc;
}

/* ---- annotations ----------------------------------------------------------------------------- */
static int put_file(const char *out, const char *name, Str *text, Err *err)
{
    char *path = path_join(out, name, err);
    int rc = path ? file_write_atomic(path, text->data ? text->data : "", text->len, err) : ERR_NOMEM;
    mem_free(path);
    str_fini(text);
    return rc;
}

static int write_actions(const char *out, const Look *look, Err *err)
{
    Str text = {0};
    int rc = 0, start = 0;
    const Script *s = &scripts[look->script];
    for (int i = 0; rc == 0 && i < MOVES && s->move[i].frames; i++) { /* ends are inclusive */
        rc = str_printf(&text, err, "%d %d %d\n", start, start + s->move[i].frames - 1, s->move[i].label);
        start += s->move[i].frames;
    }
    char name[64];
    snprintf(name, sizeof name, "action_label/%s.txt", look->id);
    if (rc == 0)
        rc = put_file(out, name, &text, err);
    str_fini(&text);
    return rc;
}

static int write_captions(const char *out, int clips, Err *err)
{
    Str text = {0};
    int rc = str_append(&text, "{\n", err);
    for (int i = 0; rc == 0 && i < clips; i++)
        rc = str_printf(&text, err, "  \"%s\": [\"%s\",\n    \"%s\"]%s\n", looks[i].id, looks[i].caption[0],
                        looks[i].caption[1], i + 1 < clips ? "," : "");
    if (rc == 0)
        rc = str_append(&text, "}\n", err);
    if (rc == 0)
        rc = put_file(out, "captions_app.json", &text, err);
    str_fini(&text);
    return rc;
}

static int write_templates(const char *out, Err *err)
{
    Str text = {0};
    int rc = str_append(&text, "{\n  \"gender\": [\"the lady\", \"the person\", \"she\"]", err);
    for (int i = 0; rc == 0 && i < MOTIONS; i++)
        rc = str_printf(&text, err, ",\n  \"%d\": [\"%s\", \"%s\"]", i, motion_texts[i][0], motion_texts[i][1]);
    if (rc == 0)
        rc = str_append(&text, "\n}\n", err);
    if (rc == 0)
        rc = put_file(out, "caption_motion_template.json", &text, err);
    str_fini(&text);
    return rc;
}

static int write_lists(const char *out, int clips, Err *err)
{
    static const char *const splits[] = {"train", "val", "test"};
    Str text = {0};
    int rc = str_append(&text, "{\n", err);
    for (int i = 0; rc == 0 && i < clips; i++)
        rc = str_printf(&text, err, "  \"%s\": \"%s\"%s\n", looks[i].id, looks[i].category, i + 1 < clips ? "," : "");
    if (rc == 0)
        rc = str_append(&text, "}\n", err);
    if (rc == 0)
        rc = put_file(out, "categories.json", &text, err);
    for (int s = 0; s < 3 && rc == 0; s++) {
        char name[64];
        snprintf(name, sizeof name, "%s_frame_num.txt", splits[s]);
        for (int i = 0; rc == 0 && i < clips; i++)
            if (strcmp(looks[i].split, splits[s]) == 0)
                rc = str_printf(&text, err, "%s %d\n", looks[i].id, FRAMES);
        if (rc == 0)
            rc = put_file(out, name, &text, err);
    }
    str_fini(&text);
    return rc;
}

static int draw_all(const char *out, int clips, Err *err)
{
    static const char *const folders[] = {"videos", "action_label"};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        char *path = path_join(out, folders[i], err);
        rc = path ? dir_make(path, err) : ERR_NOMEM;
        mem_free(path);
    }
    if (rc < 0)
        return rc;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < clips; i++) {
        Err own = {0};
        int done = draw_clip(out, i, &own);
        if (done < 0) {
#pragma omp critical
            rc = err_set(err, done, "%s", own.msg);
        }
    }
    for (int i = 0; i < clips && rc == 0; i++)
        rc = write_actions(out, &looks[i], err);
    if (rc == 0)
        rc = write_templates(out, err);
    if (rc == 0)
        rc = write_lists(out, clips, err);
    return rc < 0 ? rc : write_captions(out, clips, err); /* last: its presence says that all is there */
}

int main(int argc, char **argv)
{
    Err err = {0};
    char *end = "";
    long clips = argc > 2 ? strtol(argv[2], &end, 10) : LOOKS;
    if (argc < 2 || argc > 3 || *end || clips < 1 || clips > LOOKS) {
        fprintf(stderr, "usage: draw_clips OUT [CLIPS]   (1 to %d)\n", LOOKS);
        return 2;
    }
    if (draw_all(argv[1], (int)clips, &err) < 0) {
        fprintf(stderr, "draw_clips: error: %s\n", err.msg);
        return 1;
    }
    printf("%ld clips of %dx%d, %d frames at %d FPS, in %s/videos\n", clips, WIDTH, HEIGHT, FRAMES, FPS, argv[1]);
    return 0;
}
