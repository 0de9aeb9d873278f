/* draw_sheet BASE TUNED OUT.png   a picture of two folders of samples: a column a video, up to eight; above the
 * middle frame by the base model, below it the first, middle and last frame by the tuned one.  Colours have 32 levels,
 * so that the file is small. */
#include <stdio.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/video.h"
#include "infer/videos.h"

enum { COLUMNS = 8, ROWS = 4, WIDE = 64, TALL = 96, GAP = 2, BREAK = 8, PAPER = 0xff };

typedef struct Sheet {
    uint8_t *rgb;
    int64_t width, height;
} Sheet;

/* Frame number `part` of 2 parts (0 first, 1 middle, 2 last) of a video, at a row and column. */
static int put_frame(Sheet *s, const char *path, int part, int row, int64_t column, Err *err)
{
    uint8_t *rgb = NULL, *one = mem_calloc(WIDE * TALL, 3, err);
    int64_t n = 0, w, h, at = 0, y = row * (TALL + GAP) + (row > 0 ? BREAK : 0), x = column * (WIDE + GAP);
    VideoReader *r = NULL;
    VideoFrame f;
    int rc = one ? video_read_rgb(path, 0, 0, 0, &rgb, &n, &w, &h, err) : ERR_NOMEM; /* to count them */
    mem_free(rgb);
    if (rc == 0)
        rc = video_open(&r, path, NULL, err);
    while (rc == 0 && (rc = video_next(r, &f, err)) == 1 && at++ < part * (n - 1) / 2)
        rc = 0;
    if (rc == 1) {
        FitPlan plan = fit_plan(video_info(r), WIDE, TALL, FIT_COVER, 0.5, 0.5);
        rc = video_to_rgb(r, &f, &plan, one, err);
        for (int64_t i = 0; rc == 0 && i < WIDE * TALL * 3; i++)
            one[i] = (uint8_t)((one[i] >> 3) * 255 / 31);
        for (int64_t i = 0; rc == 0 && i < TALL; i++)
            memcpy(s->rgb + ((y + i) * s->width + x) * 3, one + i * WIDE * 3, WIDE * 3);
    }
    video_close(&r);
    mem_free(one);
    return rc;
}

static int draw(const char *base, const char *tuned, const char *out, Err *err)
{
    VideoList v[2] = {{0}};
    Sheet s = {0};
    int rc = videos_read(&v[0], &(StrList){&base, 1}, "videos", err);
    if (rc == 0)
        rc = videos_read(&v[1], &(StrList){&tuned, 1}, "videos", err);
    int64_t n = v[0].n < v[1].n ? v[0].n : v[1].n;
    n = n < COLUMNS ? n : COLUMNS;
    if (rc == 0) {
        s.width = n * (WIDE + GAP) - GAP, s.height = ROWS * (TALL + GAP) - GAP + BREAK;
        s.rgb = mem_calloc(s.width * s.height, 3, err);
        rc = s.rgb ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        memset(s.rgb, PAPER, (size_t)(s.width * s.height * 3));
    for (int64_t i = 0; i < n && rc == 0; i++) {
        if (strcmp(v[0].item[i].id, v[1].item[i].id) != 0)
            rc = err_set(err, ERR_USAGE, "'%s' and '%s' are not samples of the same prompts", base, tuned);
        if (rc == 0)
            rc = put_frame(&s, v[0].item[i].path, 1, 0, i, err);
        for (int part = 0; part < 3 && rc == 0; part++)
            rc = put_frame(&s, v[1].item[i].path, part, 1 + part, i, err);
    }
    if (rc == 0)
        rc = picture_write_png(out, s.rgb, s.width, s.height, err);
    for (int k = 0; k < 2; k++)
        videos_fini(&v[k]);
    mem_free(s.rgb);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    if (argc != 4) {
        fprintf(stderr, "usage: draw_sheet BASE TUNED OUT.png\n");
        return 2;
    }
    if (draw(argv[1], argv[2], argv[3], &err) < 0) {
        fprintf(stderr, "draw_sheet: error: %s\n", err.msg);
        return 1;
    }
    return 0;
}
