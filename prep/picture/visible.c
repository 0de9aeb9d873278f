#include "prep/picture/visible.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/clones.h"
#include "common/base/mem.h"

enum {
    COLUMNS = 48,
    ROWS = 72,
    /* levels of some channel by which a cell differs from the background: more than shadows and
     * compression do */
    DIFFERENT = 20,
    ALIKE = 6,  /* levels within which a cell counts as showing the same thing again */
    LOOKS = 32, /* pictures that the background of a cell is found from, at most */
    ROUNDS = 4  /* things removed from the background, at most */
};

struct Visible {
    int64_t width, height, columns, rows, n, k; /* k: pictures added */
    int32_t *sum;                               /* [width,3] over the pixels of a row of cells, down */
    uint8_t *cells;                             /* [n,rows,columns,3] */
    uint8_t *background;                        /* [rows,columns,3], and [rows,columns] marks */
    int64_t colour[3], seen;                    /* sums over the cells that differ from the background */
};

int visible_open(Visible **out, int64_t width, int64_t height, int64_t n, Err *err)
{
    *out = NULL;
    Visible *v = mem_calloc(1, sizeof *v, err);
    if (!v)
        return ERR_NOMEM;
    *v = (Visible){.width = width, .height = height, .n = n};
    v->columns = width < COLUMNS ? width : COLUMNS;
    v->rows = height < ROWS ? height : ROWS;
    v->sum = mem_calloc(width * 3, sizeof *v->sum, err);
    v->cells = mem_calloc(n * v->rows * v->columns, 3, err);
    v->background = mem_calloc(v->rows * v->columns, 4, err);
    if (!v->sum || !v->cells || !v->background) {
        visible_close(&v);
        return ERR_NOMEM;
    }
    *out = v;
    return 0;
}

void visible_close(Visible **visible)
{
    Visible *v = *visible;
    if (!v)
        return;
    mem_free(v->sum);
    mem_free(v->cells);
    mem_free(v->background);
    mem_free(v);
    *visible = NULL;
}

WEFT_CLONES static void add_row(int32_t *restrict sum, const uint8_t *restrict row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += row[i];
}

void visible_add(Visible *v, const uint8_t *rgb)
{
    const int64_t row = v->width * 3;
    uint8_t *cell = v->cells + v->k++ * v->rows * v->columns * 3;
    for (int64_t r = 0; r < v->rows; r++) {
        int64_t top = r * v->height / v->rows, bottom = (r + 1) * v->height / v->rows;
        int64_t step = bottom - top > 1 ? 2 : 1; /* every second row will do */
        memset(v->sum, 0, (size_t)row * sizeof *v->sum);
        for (int64_t y = top; y < bottom; y += step)
            add_row(v->sum, rgb + y * row, row);
        for (int64_t c = 0; c < v->columns; c++, cell += 3) {
            int64_t left = c * v->width / v->columns, right = (c + 1) * v->width / v->columns;
            int64_t area = (bottom - top + step - 1) / step * (right - left);
            int32_t sum[3] = {0}; /* a cell of 171 x 114 pixels at 8192: far from 2^31 */
            for (int64_t x = left; x < right; x++)
                for (int i = 0; i < 3; i++)
                    sum[i] += v->sum[3 * x + i];
            for (int i = 0; i < 3; i++)
                cell[i] = (uint8_t)((sum[i] + area / 2) / area);
        }
    }
}

void visible_repeat(Visible *v)
{
    int64_t bytes = v->rows * v->columns * 3;
    memcpy(v->cells + v->k * bytes, v->cells + (v->k - 1) * bytes, (size_t)bytes);
    v->k++;
}

static int differs(const uint8_t *a, const uint8_t *b, int by)
{
    return abs(a[0] - b[0]) > by || abs(a[1] - b[1]) > by || abs(a[2] - b[2]) > by;
}

static const uint8_t *cell_of(const Visible *v, int64_t k, int64_t cell)
{
    return v->cells + (k * v->rows * v->columns + cell) * 3;
}

/* The cells above, left and right: below stands the subject.  Returns how many. */
static int64_t border(const Visible *v, int64_t cells[COLUMNS + 2 * ROWS])
{
    int64_t n = 0;
    for (int64_t c = 0; c < v->columns; c++)
        cells[n++] = c;
    for (int64_t r = 1; r < v->rows; r++) {
        cells[n++] = r * v->columns;
        cells[n++] = r * v->columns + v->columns - 1;
    }
    return n;
}

/* The colour of a picture's border, the median of its channels; whether nine tenths of the border
 * have it. */
static int border_colour(const Visible *v, int64_t k, uint8_t colour[3])
{
    int64_t cells[COLUMNS + 2 * ROWS], n = border(v, cells), alike = 0;
    for (int c = 0; c < 3; c++) {
        int64_t count[256] = {0}, below = 0;
        for (int64_t i = 0; i < n; i++)
            count[cell_of(v, k, cells[i])[c]]++;
        int value = 0;
        while (2 * (below + count[value]) < n)
            below += count[value++];
        colour[c] = (uint8_t)value;
    }
    for (int64_t i = 0; i < n; i++)
        alike += !differs(cell_of(v, k, cells[i]), colour, DIFFERENT);
    return 10 * alike >= 9 * n;
}

/* The picture in which the cell looks as in most others, the earliest of several. */
static const uint8_t *usual(const Visible *v, int64_t cell)
{
    int64_t looks = v->k < LOOKS ? v->k : LOOKS, best = 0, best_alike = -1;
    for (int64_t i = 0; i < looks && best_alike < looks; i++) {
        int64_t alike = 0;
        for (int64_t j = 0; j < looks; j++)
            alike += !differs(cell_of(v, i * v->k / looks, cell), cell_of(v, j * v->k / looks, cell), ALIKE);
        if (alike > best_alike) {
            best = i * v->k / looks;
            best_alike = alike;
        }
    }
    return cell_of(v, best, cell);
}

/* Contrast across the outline of the cells that `inside` marks, in a picture. */
static int64_t outline(const Visible *v, const uint8_t *picture, const uint8_t *inside)
{
    const int64_t step[2] = {1, v->columns};
    int64_t sum = 0;
    for (int64_t i = 0; i < v->rows * v->columns; i++)
        for (int s = 0; s < 2; s++) {
            int64_t j = i + step[s];
            if ((s == 0 && (i + 1) % v->columns == 0) || j >= v->rows * v->columns || inside[i] == inside[j])
                continue;
            for (int c = 0; c < 3; c++)
                sum += abs(picture[3 * i + c] - picture[3 * j + c]);
        }
    return sum;
}

/* What is most often there may be a person who stands still.  A thing has an outline, the
 * background goes on behind it: where some picture differs from the background, the one of the two
 * with the weaker outline there is the background. */
static void remove_things(const Visible *v, uint8_t *background, uint8_t *inside)
{
    int64_t cells = v->rows * v->columns;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t best = -1, gain = 0;
        for (int64_t k = 0; k <= v->k; k++) { /* once more at the end, for the best */
            int64_t at = k < v->k ? k : best, area = 0;
            if (at < 0)
                return;
            for (int64_t i = 0; i < cells; i++)
                area += inside[i] = (uint8_t)differs(cell_of(v, at, i), background + 3 * i, DIFFERENT);
            if (k == v->k)
                break;
            int64_t old = outline(v, background, inside), fresh = outline(v, cell_of(v, at, 0), inside);
            if (100 * area >= cells && 5 * fresh < 4 * old && old - fresh > gain) {
                best = k;
                gain = old - fresh;
            }
        }
        for (int64_t i = 0; i < cells; i++)
            if (inside[i])
                memcpy(background + 3 * i, cell_of(v, best, i), 3);
    }
}

/* Counts cell i of picture k when it differs from the background there. */
static void look_at(Visible *v, int64_t k, int64_t i, const uint8_t *background, double *share)
{
    const uint8_t *cell = cell_of(v, k, i);
    if (!differs(cell, background, DIFFERENT))
        return;
    share[k] += 1;
    v->seen++;
    for (int c = 0; c < 3; c++)
        v->colour[c] += cell[c];
}

static void moving_shares(Visible *v, uint8_t *background, uint8_t *inside, double *share)
{
    int64_t cells = v->rows * v->columns;
    for (int64_t i = 0; i < cells; i++)
        memcpy(background + 3 * i, usual(v, i), 3);
    remove_things(v, background, inside);
    for (int64_t k = 0; k < v->k; k++)
        for (int64_t i = 0; i < cells; i++)
            look_at(v, k, i, background + 3 * i, share);
}

static void plain_shares(Visible *v, double *share)
{
    uint8_t colour[3];
    for (int64_t k = 0; k < v->k; k++) {
        border_colour(v, k, colour);
        for (int64_t i = 0; i < v->rows * v->columns; i++)
            look_at(v, k, i, colour, share);
    }
}

VisibleMethod visible_find(Visible *v, double *share)
{
    int64_t cells = v->rows * v->columns, plain = 0;
    uint8_t colour[3];
    for (int64_t k = 0; k < v->k; k++) {
        share[k] = 0;
        plain += border_colour(v, k, colour);
    }
    memset(v->colour, 0, sizeof v->colour);
    v->seen = 0;
    VisibleMethod method = 10 * plain >= 9 * v->k ? VISIBLE_PLAIN : VISIBLE_MOVING;
    if (method == VISIBLE_PLAIN)
        plain_shares(v, share);
    else
        moving_shares(v, v->background, v->background + 3 * cells, share);
    for (int64_t k = 0; k < v->k; k++)
        share[k] /= (double)cells;
    return method;
}

int visible_colour(const Visible *v, double rgb[3])
{
    for (int c = 0; c < 3; c++)
        rgb[c] = v->seen ? (double)v->colour[c] / (double)v->seen : 0;
    return v->seen > 0;
}
