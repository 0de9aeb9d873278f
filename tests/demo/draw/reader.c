#include "tests/demo/draw/reader.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/demo/draw/canvas.h"
#include "tests/demo/draw/figure.h"

enum { W = READER_WIDTH, H = READER_HEIGHT };

/* One picture: its figure against the background. */
typedef struct View {
    const uint8_t *rgb;
    uint8_t inside[H][W];  /* 1: not background */
    int left[H], right[H]; /* first and last pixel of the figure in a row; right < left: none */
    int light;             /* the background is light and even */
    float axis;            /* middle of the body, in pixels */
    float wide;            /* of the upper body, in pixels */
} View;

static Rgb pixel(const View *v, int x, int y)
{
    const uint8_t *p = v->rgb + ((int64_t)y * W + x) * 3;
    return (Rgb){p[0], p[1], p[2]};
}

static float most(Rgb c)
{
    return fmaxf(c.r, fmaxf(c.g, c.b));
}

static float chroma(Rgb c)
{
    return most(c) - fminf(c.r, fminf(c.g, c.b));
}

static float luma(Rgb c)
{
    return 0.2126f * c.r + 0.7152f * c.g + 0.0722f * c.b;
}

/* ---- the figure ------------------------------------------------------------------------------- */
/* Mean of a row's outermost pixels on both sides. */
static Rgb behind(const View *v, int y)
{
    Rgb sum = {0, 0, 0};
    for (int i = 0; i < 4; i++)
        for (int side = 0; side < 2; side++) {
            Rgb c = pixel(v, side ? W - 1 - i : i, y);
            sum.r += c.r / 8, sum.g += c.g / 8, sum.b += c.b / 8;
        }
    return sum;
}

static void view_open(View *v, const uint8_t *rgb)
{
    float uneven = 0, least = 255, middle = 0, wide = 0;
    int rows = 0;
    *v = (View){.rgb = rgb};
    for (int y = 0; y < H; y++) {
        Rgb b = behind(v, y);
        int first = W, last = -1;
        for (int x = 0; x < W; x++) {
            Rgb c = pixel(v, x, y);
            float off = fmaxf(fabsf(c.r - b.r), fmaxf(fabsf(c.g - b.g), fabsf(c.b - b.b)));
            if (y < 64 && (x < 4 || x >= W - 4))
                uneven += (off + chroma(b)) / (64 * 8);
            if (!(v->inside[y][x] = off > 24))
                continue;
            first = x < first ? x : first;
            last = x;
        }
        v->left[y] = first, v->right[y] = last;
        if (y < 64)
            least = fminf(least, luma(b));
        if (y >= 26 && y < 60 && last >= first)
            middle += (float)(first + last) / 2, rows++;
        if (y >= 27 && y < 40)
            wide += (float)(last >= first ? last - first + 1 : 0) / 13;
    }
    v->axis = rows ? middle / (float)rows : W / 2.0f;
    v->wide = wide;
    v->light = least > 180 && uneven < 22;
}

/* Whether what stands out is one figure: of a person's extent, head above, legs to the lower edge. */
static int view_shows_figure(const View *v)
{
    int top = H, area = 0, head = 0, foot = 0, gaps = 0, last = -1;
    float left = 0, right = 0, body = 0;
    for (int y = 0; y < H; y++) {
        int n = v->right[y] - v->left[y] + 1;
        if (n < 3) {
            gaps += last >= 0 && y < H - 8;
            continue;
        }
        top = y < top ? y : top;
        last = y;
        area += n;
        head += y >= 6 && y < 20 && n >= 6 && n <= 26;
        foot += y >= H - 10 && n >= 6 && n <= 40;
        if (y >= 30 && y < 72)
            body += (float)n / 42, left += (float)v->left[y] / 42, right += (float)v->right[y] / 42;
    }
    return v->light && top < 18 && area > W * H / 8 && area < W * H * 3 / 4 && head >= 8 && foot >= 6 && gaps < 4 &&
           body > 12 && left > 4 && right < W - 5 && fabsf((left + right) / 2 - W / 2.0f) < 9;
}

/* ---- parts of it ------------------------------------------------------------------------------ */
typedef struct Part {
    float chroma, luma, spread; /* means; standard deviation of luma */
    float warm;                 /* mean of red minus blue */
} Part;

/* Of the pixels from y0 to y1 at most `reach` from the axis; only those inside the figure where `inside`. */
static Part part_of(const View *v, int y0, int y1, int reach, int inside)
{
    float n = 0, c = 0, l = 0, ll = 0, warm = 0;
    for (int y = y0; y < y1; y++)
        for (int x = (int)v->axis - reach; x <= (int)v->axis + reach; x++) {
            if (x < 0 || x >= W || (inside && !v->inside[y][x]))
                continue;
            Rgb p = pixel(v, x, y);
            n++, c += chroma(p), l += luma(p), ll += luma(p) * luma(p), warm += p.r - p.b;
        }
    n = fmaxf(n, 1);
    return (Part){c / n, l / n, sqrtf(fmaxf(0, ll / n - l / n * l / n)), warm / n};
}

/* How far a part is from plain grey cloth; below 1 it is grey. */
static float not_grey(Part p)
{
    float dark = fmaxf(0, 110 - p.luma) / 25, light = fmaxf(0, p.luma - 175) / 25;
    return fmaxf(fmaxf(p.chroma / 26, p.spread / 26), fmaxf(dark, light));
}

static Garment garment_of(const View *v[], int n)
{
    float upper = 0, lower = 0, legs = 0;
    for (int i = 0; i < n; i++) {
        upper += not_grey(part_of(v[i], 31, 40, 5, 0)) / (float)n;
        lower += not_grey(part_of(v[i], 57, 72, 7, 0)) / (float)n;
        legs += part_of(v[i], 83, 92, 9, 1).warm / (float)n;
    }
    if (upper < 1 && lower >= 1)
        return SKIRT;
    if (lower < 1 && upper >= 1)
        return TOP;
    return legs > 28 ? DRESS : COAT;
}

/* ---- colour ----------------------------------------------------------------------------------- */
typedef struct Box {
    int y0, y1, reach, seam; /* seam: leave a coat's buttons out */
} Box;
static const Box cloth[GARMENTS] = {{30, 74, 6, 0}, {30, 50, 6, 0}, {46, 74, 8, 0}, {38, 72, 7, 1}};

static int in_box(const View *v, const Box *b, int x)
{
    return x >= 0 && x < W && !(b->seam && abs(x - (int)v->axis) <= 1);
}

static float hue(Rgb c)
{
    float d = chroma(c), m = most(c);
    float h = d <= 0 ? 0 : m == c.r ? (c.g - c.b) / d : m == c.g ? 2 + (c.b - c.r) / d : 4 + (c.r - c.g) / d;
    return h < 0 ? h * 60 + 360 : h * 60;
}

static Colour nearest_hue(float h)
{
    Colour best = RED;
    float least = 1e9f;
    for (int k = 0; k < BLACK; k++) {
        float d = fabsf(h - hue(cloth_colours[k]));
        d = fminf(d, 360 - d);
        if (d < least)
            least = d, best = (Colour)k;
    }
    return best;
}

static Colour colour_of(const View *v[], int n, const Box *b)
{
    float votes[COLOURS] = {0};
    for (int i = 0; i < n; i++)
        for (int y = b->y0; y < b->y1; y++)
            for (int x = (int)v[i]->axis - b->reach; x <= (int)v[i]->axis + b->reach; x++) {
                if (!in_box(v[i], b, x))
                    continue;
                Rgb c = pixel(v[i], x, y);
                if (chroma(c) > 45)
                    votes[nearest_hue(hue(c))] += chroma(c);
                else if (most(c) < 110)
                    votes[BLACK] += 2 * (110 - most(c));
            }
    Colour best = RED;
    for (int k = 0; k < COLOURS; k++)
        if (votes[k] > votes[best])
            best = (Colour)k;
    return best;
}

/* ---- pattern ---------------------------------------------------------------------------------- */
/* What share of a pixel is white and what share orange, the rest being the cloth's colour `base`: least
 * squares. */
static void unmix(Rgb p, Rgb base, float *white, float *orange)
{
    Rgb w = {cloth_white.r - base.r, cloth_white.g - base.g, cloth_white.b - base.b},
        o = {cloth_orange.r - base.r, cloth_orange.g - base.g, cloth_orange.b - base.b},
        d = {p.r - base.r, p.g - base.g, p.b - base.b};
    float ww = w.r * w.r + w.g * w.g + w.b * w.b, oo = o.r * o.r + o.g * o.g + o.b * o.b,
          wo = w.r * o.r + w.g * o.g + w.b * o.b, dw = d.r * w.r + d.g * w.g + d.b * w.b,
          od = d.r * o.r + d.g * o.g + d.b * o.b, det = ww * oo - wo * wo + 1e-3f;
    *white = (dw * oo - od * wo) / det;
    *orange = (od * ww - dw * wo) / det;
}

/* Figures of the cloth in one picture, added to r. */
static void weigh(Reading *r, const View *v, const Box *b, Colour colour, float share)
{
    enum { REACH_MAX = 9 };
    float white[H][2 * REACH_MAX + 1] = {{0}}, row[H] = {0}, column[2 * REACH_MAX + 1] = {0}, columns_n = 0;
    float mean = 0, square = 0, orange = 0, n = 0, by_row = 0, by_column = 0;
    for (int y = b->y0; y < b->y1; y++) {
        float across = 0;
        for (int i = 0; i <= 2 * b->reach; i++) {
            int x = (int)v->axis - b->reach + i;
            float o;
            if (!in_box(v, b, x))
                continue;
            unmix(pixel(v, x, y), shade(cloth_colours[colour], 0.95f), &white[y][i], &o);
            mean += white[y][i], square += white[y][i] * white[y][i], orange += fmaxf(0, o), n++;
            row[y] += white[y][i], column[i] += white[y][i];
            across++;
        }
        row[y] /= fmaxf(across, 1);
    }
    mean /= n, square = square / n - mean * mean;
    for (int y = b->y0; y < b->y1; y++)
        by_row += (row[y] - mean) * (row[y] - mean) / (float)(b->y1 - b->y0);
    for (int i = 0; i <= 2 * b->reach; i++)
        if (in_box(v, b, (int)v->axis - b->reach + i)) {
            float c = column[i] / (float)(b->y1 - b->y0) - mean;
            by_column += c * c, columns_n++;
        }
    by_column /= columns_n;
    r->white += share * mean;
    r->contrast += share * sqrtf(fmaxf(0, square));
    r->rows += share * by_row / (square + 1e-4f);
    r->columns += share * by_column / (square + 1e-4f);
    r->orange += share * orange / n;
}

static Pattern pattern_of(const Reading *r)
{
    if (r->contrast < 0.085f || (r->white < 0.12f && r->contrast < 0.15f))
        return PLAIN;
    if (r->rows > 0.6f)
        return r->columns < 0.075f || r->contrast > 0.33f ? STRIPED : CHECKED;
    if (r->orange > (r->colour == YELLOW ? 0.09f : 0.05f))
        return FLORAL;
    return r->columns > 0.2f ? CHECKED : DOTTED;
}

/* ---- sleeves ---------------------------------------------------------------------------------- */
static float squared(Rgb a, Rgb b)
{
    return (a.r - b.r) * (a.r - b.r) + (a.g - b.g) * (a.g - b.g) + (a.b - b.b) * (a.b - b.b);
}

/* 1: the pixel is nearer to the cloth than to any skin, whatever the light, 0: to skin.  Both are mixed with white:
 * the pattern's, and the background's at the edges.  What is white itself says nothing: -1. */
static int cloth_or_skin(Rgb p, Colour colour)
{
    float skin = 1e9f, garment = 1e9f;
    if (chroma(p) < 20 && most(p) > 200)
        return -1;
    for (int l = 0; l < 5; l++)
        for (int t = 0; t <= 3; t++) {
            float light = 0.75f + 0.07f * (float)l, white = (float)t / 5;
            for (int k = 0; k < 3; k++)
                skin = fminf(skin, squared(p, mix_rgb(shade(skin_colours[k], light), cloth_white, white)));
            garment = fminf(garment, squared(p, mix_rgb(shade(cloth_colours[colour], light), cloth_white, white)));
        }
    return garment < skin;
}

/* The share of cloth among the outermost pixels of rows y0 to y1: the arms. */
static float covered(const View *v[], int n, int y0, int y1, Colour colour)
{
    float votes[2] = {0, 0};
    for (int i = 0; i < n; i++)
        for (int y = y0; y < y1; y++)
            for (int k = 1; k <= 2 && v[i]->right[y] - v[i]->left[y] > 8; k++)
                for (int side = 0; side < 2; side++) {
                    int x = side ? v[i]->right[y] - k : v[i]->left[y] + k,
                        vote = cloth_or_skin(pixel(v[i], x, y), colour);
                    if (vote >= 0)
                        votes[vote]++;
                }
    return votes[1] / fmaxf(1, votes[0] + votes[1]);
}

static Sleeve sleeve_of(Reading *r, const View *v[], int n)
{
    r->upper_arms = covered(v, n, 30, 36, r->colour);
    r->lower_arms = covered(v, n, 47, 56, r->colour);
    return r->lower_arms > 0.5f ? LONG_SLEEVES : r->upper_arms > 0.5f ? SHORT_SLEEVES : SLEEVELESS;
}

/* ---- the whole -------------------------------------------------------------------------------- */
static int by_width(const void *a, const void *b)
{
    float p = (*(const View *const *)a)->wide, q = (*(const View *const *)b)->wide;
    return (p < q) - (p > q);
}

void reader_read(Reading *out, const uint8_t *rgb, int64_t frames)
{
    enum { MOST = 64 };
    View *view = calloc(MOST, sizeof *view);
    const View *front[MOST];
    int n = 0, figures = 0;
    *out = (Reading){0};
    if (!view)
        abort();
    for (int64_t i = 0; i < frames && n < MOST; i++, n++) {
        view_open(&view[n], rgb + i * W * H * 3);
        figures += view_shows_figure(&view[n]);
        front[n] = &view[n];
    }
    out->figure = 3 * figures > 2 * n;
    qsort(front, (size_t)n, sizeof *front, by_width);
    int use = (n + 1) / 2; /* those seen from the front, where more of the cloth shows */
    out->garment = garment_of(front, use);
    out->colour = colour_of(front, use, &cloth[out->garment]);
    for (int i = 0; i < use; i++)
        weigh(out, front[i], &cloth[out->garment], out->colour, 1.0f / (float)use);
    out->pattern = pattern_of(out);
    out->sleeve = sleeve_of(out, front, use);
    free(view);
}
