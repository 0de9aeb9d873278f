/* Sources as people have them: photographs that lie on their side, many tracks, strange optional facts. */
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* ---- photographs ----------------------------------------------------------------------------- */
enum { PHOTO_W = 480, PHOTO_H = 320 };

/* Four quadrants of grey, 40 90 / 140 190, with noise round their middles so that the file is large. */
static void draw_photo(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int grey = 40 + 50 * (x >= f->width / 2) + 100 * (y >= f->height / 2);
            int edge = abs(y % (f->height / 2) - f->height / 4) > 40;
            f->data[0][y * f->linesize[0] + x] = (uint8_t)(grey + (edge ? (x * 31 + y * 17) % 40 : 0));
        }
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * f->height / 2));
}

static void make_photo(const char *path)
{
    Clip c = {.container = "mjpeg",
              .codec = "mjpeg",
              .options = "qmin=2:qmax=2:strict=-1",
              .format = AV_PIX_FMT_YUVJ420P,
              .width = PHOTO_W,
              .height = PHOTO_H,
              .time_base = {1, 25},
              .frames = 1,
              .range = AVCOL_RANGE_JPEG,
              .draw = draw_photo};
    make_clip(path, &c);
}

/* The photograph with an Exif segment right behind its first marker; orientation 0: none. */
static void write_photo(const char *path, const char *plain, int orientation)
{
    uint8_t exif[36] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1,
                        /* tag 0x0112, a 16-bit number, one of them */
                        0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)orientation, 0, 0, 0, 0, 0, 0};
    Err err = {0};
    char *bytes = NULL;
    int64_t size;
    CHECK_OK(file_read(plain, 1 << 24, &bytes, &size, &err), &err);
    assert_true(size > 20000);
    char *all = malloc((size_t)size + sizeof exif);
    size_t n = orientation ? sizeof exif : 0;
    memcpy(all, bytes, 2);
    memcpy(all + 2, exif, n);
    memcpy(all + 2 + n, bytes + 2, (size_t)size - 2);
    CHECK_OK(file_write_atomic(path, all, size + (int64_t)n, &err), &err);
    free(all);
    mem_free(bytes);
}

static void photographs_stand_upright(void **state)
{
    (void)state;
    /* Where the stored quadrant (right, low) is shown: right' and low' as 0 or 1 xor one of the two. */
    static const struct {
        int swapped, flip_x, flip_y;
    } cases[9] = {{0, 0, 0}, {0, 0, 0}, {0, 1, 0}, {0, 1, 1}, {0, 0, 1}, {1, 0, 0}, {1, 1, 0}, {1, 1, 1}, {1, 0, 1}};
    /* the name decides nothing; the library would take 001.jpg for a sequence of files */
    static const char *const names[] = {"001.jpg", "frame_000001.jpeg", "photo.png", "photo"};
    make_photo(check_tmp_path("plain.mjpeg"));
    for (int orientation = 0; orientation <= 8; orientation++) {
        Err err = {0};
        const char *path = check_tmp_path(names[orientation % 4]);
        uint8_t *rgb = NULL;
        int64_t w, h;
        write_photo(path, check_tmp_path("plain.mjpeg"), orientation);
        CHECK_OK(picture_read(path, &rgb, &w, &h, &err), &err);
        int turned = cases[orientation].swapped;
        assert_true(w == (turned ? PHOTO_H : PHOTO_W) && h == (turned ? PHOTO_W : PHOTO_H));
        for (int low = 0; low < 2; low++)
            for (int right = 0; right < 2; right++) {
                int x = (turned ? low : right) ^ cases[orientation].flip_x;
                int y = (turned ? right : low) ^ cases[orientation].flip_y;
                int got = rgb[((h / 4 + y * h / 2) * w + w / 4 + x * w / 2) * 3], want = 40 + 50 * right + 100 * low;
                if (abs(got - want) > 2)
                    fail_msg("%s, orientation %d: quadrant %d,%d is %d, expected %d", names[orientation % 4],
                             orientation, x, y, got, want);
            }
        mem_free(rgb);
    }
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(photographs_stand_upright),
    };
    return check_run("media: sources", tests);
}
