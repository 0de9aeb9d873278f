/* Transparency: what lies under transparent pixels is arbitrary (often a leftover of the cut-out), so
 * it is covered with the plan's background before the picture is scaled. */
#include <libavutil/pixdesc.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

int format_has_alpha(enum AVPixelFormat fmt)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(fmt);
    return d && (d->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL)) != 0 && !(d->flags & AV_PIX_FMT_FLAG_FLOAT);
}

/* Row y of alpha as numbers up to the one that is returned, which is opaque. */
static int alpha_row(const AVPixFmtDescriptor *d, const uint8_t *const data[4], const int stride[4], int y, int width,
                     uint16_t *out)
{
    if (d->flags & AV_PIX_FMT_FLAG_PAL) {
        const uint8_t *index = data[0] + (ptrdiff_t)y * stride[0];
        for (int x = 0; x < width; x++) {
            uint32_t entry; /* alpha, red, green, blue from the highest byte down */
            memcpy(&entry, data[1] + 4 * index[x], sizeof entry);
            out[x] = (uint16_t)(entry >> 24);
        }
        return 255;
    }
    const uint8_t *planes[4] = {data[0], data[1], data[2], data[3]};
    int c = d->nb_components - 1;
    av_read_image_line2(out, planes, stride, d, 0, y, c, width, 0, sizeof *out);
    return (1 << d->comp[c].depth) - 1;
}

int alpha_find(const AVFrame *f, Err *err)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    if (!format_has_alpha((enum AVPixelFormat)f->format))
        return 0;
    uint16_t *row = mem_calloc(f->width, sizeof *row, err);
    if (!row)
        return ERR_NOMEM;
    const uint8_t *const data[4] = {f->data[0], f->data[1], f->data[2], f->data[3]};
    int found = 0;
    for (int y = 0; y < f->height && !found; y++) {
        int opaque = alpha_row(d, data, f->linesize, y, f->width, row);
        for (int x = 0; x < f->width && !found; x++)
            found = row[x] != opaque;
    }
    mem_free(row);
    return found;
}

static unsigned lay_over(unsigned colour, unsigned background, uint64_t alpha, uint64_t opaque)
{
    return (unsigned)((colour * alpha + background * (opaque - alpha) + opaque / 2) / opaque);
}

int alpha_cover(enum AVPixelFormat format, const Rows *rows, int width, const uint8_t background[3], int deep,
                uint8_t *rgb, int64_t stride, Err *err)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    uint16_t *row = mem_calloc(width, sizeof *row, err);
    if (!row)
        return ERR_NOMEM;
    for (int y = 0; y < rows->height; y++) {
        int opaque = alpha_row(d, rows->data, rows->stride, y, width, row);
        uint8_t *out = rgb + y * stride;
        uint16_t *wide = (uint16_t *)(void *)out;
        for (int i = 0; i < 3 * width; i++)
            if (deep)
                wide[i] = (uint16_t)lay_over(wide[i], background[i % 3] * 257u, row[i / 3], (uint64_t)opaque);
            else
                out[i] = (uint8_t)lay_over(out[i], background[i % 3], row[i / 3], (uint64_t)opaque);
    }
    mem_free(row);
    return 0;
}
