/* contact.png: a row a sample, a few of its frames made small. */
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "infer/sample_index.h"

enum { FRAMES = 6, TALL = 160, WIDE = 320, GAP = 4, PAPER = 0x80 };

static int64_t number(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

/* The size of a frame on the sheet: at most WIDE x TALL, of the video's shape. */
static void small_size(const json_t *row, int64_t *w, int64_t *h)
{
    int64_t W = number(row, "width"), H = number(row, "height");
    *h = H < TALL ? H : TALL;
    *w = W * *h / H;
    if (*w > WIDE) {
        *w = WIDE;
        *h = H * WIDE / W;
    }
    *w = *w < 1 ? 1 : *w;
    *h = *h < 1 ? 1 : *h;
}

static int64_t shown_frames(const json_t *row)
{
    int64_t n = number(row, "frames");
    return n < FRAMES ? n : FRAMES;
}

/* Frame k of the row's n, of those that are shown, or -1. */
static int64_t place_of(const json_t *row, int64_t frame)
{
    int64_t n = number(row, "frames"), shown = shown_frames(row);
    for (int64_t k = 0; k < shown; k++)
        if (frame == (shown > 1 ? k * (n - 1) / (shown - 1) : 0))
            return k;
    return -1;
}

/* The frames of one video at (0, y) of a sheet of `width` pixels; `one` has room for WIDE x TALL. */
static int put_video(const char *path, const json_t *row, uint8_t *sheet, int64_t width, int64_t y, uint8_t *one,
                     Err *err)
{
    VideoReader *r = NULL;
    VideoFrame f;
    int64_t w, h;
    small_size(row, &w, &h);
    int rc = video_open(&r, path, NULL, err);
    while (rc == 0 && (rc = video_next(r, &f, err)) == 1) {
        int64_t k = place_of(row, f.index);
        FitPlan plan = fit_plan(video_info(r), w, h, FIT_STRETCH, 0.5, 0.5);
        rc = k >= 0 ? video_to_rgb(r, &f, &plan, one, err) : 0;
        for (int64_t i = 0; rc == 0 && k >= 0 && i < h; i++)
            memcpy(sheet + ((y + i) * width + k * (w + GAP)) * 3, one + i * w * 3, (size_t)w * 3);
    }
    video_close(&r);
    return rc;
}

static void sheet_size(const json_t *rows, size_t n, int64_t *width, int64_t *height)
{
    *width = *height = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t w, h, shown = shown_frames(row);
        small_size(row, &w, &h);
        int64_t all = shown * w + (shown - 1) * GAP;
        *width = all > *width ? all : *width;
        *height += h + (i ? GAP : 0);
    }
}

static int put_videos(const char *out, const json_t *rows, size_t n, uint8_t *sheet, int64_t width, const Log *log,
                      Err *err)
{
    uint8_t *one = mem_calloc(WIDE * TALL, 3, err);
    int64_t y = 0, w, h;
    int rc = one ? 0 : ERR_NOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        char *path = path_join(out, json_string_value(json_object_get(row, "file")), err);
        Err damage = {0};
        rc = path ? put_video(path, row, sheet, width, y, one, &damage) : ERR_NOMEM;
        if (rc < 0 && rc != ERR_NOMEM) {
            log_warn(log, "contact.png lacks frames of '%s': %s", path, damage.msg);
            rc = 0;
        } else if (rc == ERR_NOMEM && damage.msg[0])
            err_set(err, rc, "%s", damage.msg);
        small_size(row, &w, &h);
        y += h + GAP;
        mem_free(path);
    }
    mem_free(one);
    return rc;
}

int sample_sheet(const char *out, const json_t *rows, const Log *log, Err *err)
{
    size_t n = json_array_size(rows);
    int64_t width, height;
    if (!n)
        return 0;
    n = n < CONTACT_SAMPLES ? n : CONTACT_SAMPLES;
    sheet_size(rows, n, &width, &height);
    uint8_t *sheet = mem_calloc(width * height, 3, err);
    char *path = path_join(out, "contact.png", err);
    int rc = sheet && path ? 0 : ERR_NOMEM;
    if (rc == 0) {
        memset(sheet, PAPER, (size_t)(width * height * 3));
        rc = put_videos(out, rows, n, sheet, width, log, err);
    }
    if (rc == 0)
        rc = picture_write_png(path, sheet, width, height, err);
    mem_free(path);
    mem_free(sheet);
    return rc;
}
