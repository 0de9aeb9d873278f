/* Any bytes as a prepared clip, as weft-cache and weft-prep merge read it: refused with a sentence, or
 * exactly the frames and the size that the manifest names.  Corpus: FFV1 clips that VideoWriter wrote. */
#include "common/base/mem.h"
#include "common/media/video.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { FRAMES = 3, WIDTH = 32, HEIGHT = 48 };
    const char *path = fuzz_file("clip.mkv", data, size);
    uint8_t *rgb = NULL;
    int64_t n = 0, width = 0, height = 0;
    Err err = {0};
    int rc = video_read_rgb(path, FRAMES, WIDTH, HEIGHT, &rgb, &n, &width, &height, &err);
    if (rc == 0 ? !rgb || n != FRAMES || width != WIDTH || height != HEIGHT : rc != err.code || !err.msg[0] || rgb)
        abort();
    volatile uint8_t last = 0;
    if (rc == 0) /* all of the block is there */
        last = rgb[FRAMES * WIDTH * HEIGHT * 3 - 1];
    (void)last;
    mem_free(rgb);
    return 0;
}
