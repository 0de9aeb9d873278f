#include "prep/picture/bars.h"

#include <stdlib.h>
#include "common/base/mem.h"

enum {
    DARK = 24 * 10000, /* luma in units of 1/10000 */
    SIDE_PERCENT = 15, /* most that is cut away a side */
    SLACK = 2,         /* lines by which both sides may differ: scaling and compression blur the edge */
    /* of the first lines of the picture one is lit along half of its length, on average over the
     * pictures */
    EDGE = 4
};

typedef struct Lines {
    int64_t n, *dark, *lit; /* [n] pictures in which the line is dark; pixels that are not, over all pictures */
} Lines;

struct BarMeter {
    int64_t pictures;
    Lines axis[2];       /* columns, rows */
    int32_t *column_max; /* [columns] */
};

int bar_meter_open(BarMeter **out, int64_t width, int64_t height, Err *err)
{
    *out = NULL;
    BarMeter *m = mem_calloc(1, sizeof *m, err);
    if (!m)
        return ERR_NOMEM;
    const int64_t size[2] = {width, height};
    int rc = (m->column_max = mem_calloc(width, sizeof *m->column_max, err)) ? 0 : ERR_NOMEM;
    for (int a = 0; a < 2 && rc == 0; a++) {
        Lines *l = &m->axis[a];
        l->n = size[a];
        l->dark = mem_calloc(l->n, sizeof *l->dark, err);
        l->lit = l->dark ? mem_calloc(l->n, sizeof *l->lit, err) : NULL;
        rc = l->lit ? 0 : ERR_NOMEM;
    }
    if (rc < 0) {
        bar_meter_close(&m);
        return rc;
    }
    *out = m;
    return 0;
}

void bar_meter_close(BarMeter **meter)
{
    BarMeter *m = *meter;
    if (!m)
        return;
    for (int a = 0; a < 2; a++) {
        mem_free(m->axis[a].dark);
        mem_free(m->axis[a].lit);
    }
    mem_free(m->column_max);
    mem_free(m);
    *meter = NULL;
}

void bar_meter_add(BarMeter *m, const uint8_t *rgb)
{
    Lines *columns = &m->axis[0], *rows = &m->axis[1];
    m->pictures++;
    for (int64_t x = 0; x < columns->n; x++)
        m->column_max[x] = 0;
    for (int64_t y = 0; y < rows->n; y++) {
        int32_t row_max = 0;
        for (int64_t x = 0; x < columns->n; x++, rgb += 3) {
            int32_t luma = 2126 * rgb[0] + 7152 * rgb[1] + 722 * rgb[2];
            row_max = luma > row_max ? luma : row_max;
            m->column_max[x] = luma > m->column_max[x] ? luma : m->column_max[x];
            rows->lit[y] += luma >= DARK;
            columns->lit[x] += luma >= DARK;
        }
        rows->dark[y] += row_max < DARK;
    }
    for (int64_t x = 0; x < columns->n; x++)
        columns->dark[x] += m->column_max[x] < DARK;
}

/* Dark lines from the first (side 0) or the last (side 1) on; l->n when all are. */
static int64_t dark_lines(const Lines *l, int64_t pictures, int side)
{
    int64_t k = 0;
    while (k < l->n && 10 * l->dark[side ? l->n - 1 - k : k] >= 9 * pictures)
        k++;
    return k;
}

/* Behind `bar` lines the picture, `length` pixels along, begins at once. */
static int straight(const Lines *l, int64_t pictures, int side, int64_t bar, int64_t length)
{
    for (int64_t k = bar; k < bar + EDGE && k < l->n; k++)
        if (2 * l->lit[side ? l->n - 1 - k : k] >= pictures * length)
            return 1;
    return 0;
}

void bar_meter_find(const BarMeter *m, int64_t bars[4], int *wider)
{
    int64_t found[4], most[2];
    *wider = 0;
    for (int a = 0; a < 2; a++)
        most[a] = m->axis[a].n * SIDE_PERCENT / 100 & ~(int64_t)1;
    for (int i = 0; i < 4; i++) {
        bars[i] = 0;
        found[i] = dark_lines(&m->axis[i / 2], m->pictures, i % 2);
    }
    if (m->pictures == 0 || found[0] == m->axis[0].n || found[2] == m->axis[1].n)
        return; /* all is dark: a bar's edge cannot be seen */
    for (int a = 0; a < 2; a++) {
        const Lines *l = &m->axis[a];
        int64_t first = found[2 * a], last = found[2 * a + 1], length = m->axis[!a].n;
        int64_t low = first < last ? first : last, high = first < last ? last : first,
                cut = high - low <= SLACK ? high : low;
        /* the line need not reach into the other axis' bars, as long as these are not wider than
         * what may be cut */
        for (int side = 0; side < 2; side++)
            length -= found[2 * !a + side] < most[!a] ? found[2 * !a + side] : most[!a];
        if (low == 0 || !straight(l, m->pictures, 0, first, length) || !straight(l, m->pictures, 1, last, length))
            continue;
        cut += cut & 1; /* chroma comes in pairs */
        *wider |= cut > most[a];
        bars[2 * a] = bars[2 * a + 1] = cut < most[a] ? cut : most[a];
    }
}
