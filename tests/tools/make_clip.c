/* make_clip OUT.mp4 WIDTH HEIGHT RATE FRAMES [SEED [still]]: an H.264 file for tests that only have a
 * shell.  Each frame shows its number as 16 bars (still: all show 5); SEED colours them.  RATE is "30" or
 * "30000/1001". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/video.h"

int main(int argc, char **argv)
{
    Err err = {0};
    VideoWriter *w = NULL;
    long long num = 0, den = 1;
    if (argc < 6 || argc > 8 || sscanf(argv[4], "%lld/%lld", &num, &den) < 1) {
        fprintf(stderr, "usage: make_clip OUT.mp4 WIDTH HEIGHT RATE FRAMES [SEED [still]]\n");
        return 2;
    }
    VideoWriterParams p = {.codec = VIDEO_H264, .width = atoll(argv[2]), .height = atoll(argv[3]), .rate = {num, den}};
    int64_t frames = atoll(argv[5]), seed = argc > 6 ? atoll(argv[6]) : 0;
    uint8_t *rgb = mem_calloc(p.width * p.height, 3, &err);
    int rc = rgb ? video_create(&w, argv[1], &p, &err) : ERR_NOMEM;
    for (int64_t k = 0; k < frames && rc == 0; k++) {
        for (int64_t i = 0; i < p.width * p.height; i++) {
            int lit = (argc > 7 ? 5 : k) >> (15 - i % p.width * 16 / p.width) & 1;
            for (int c = 0; c < 3; c++)
                rgb[i * 3 + c] = (uint8_t)(lit ? 220 : 30 + 20 * (seed >> c & 3));
        }
        rc = video_write(w, rgb, &err);
    }
    if (rc == 0)
        rc = video_finish(&w, &err);
    video_abort(&w);
    mem_free(rgb);
    if (rc < 0)
        fprintf(stderr, "make_clip: %s\n", err.msg);
    return rc < 0;
}
