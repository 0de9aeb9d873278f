#include "cache/preview_page.h"
#include <stdio.h>
#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/mem.h"
#include "common/media/video.h"

enum { FRAMES = 6, WIDTH_MAX = 2160 };

/* Frame t of rgb, shrunk by `by`, at column x of a sheet of `width` pixels. */
static void put_frame(uint8_t *sheet, int64_t width, int64_t x, int64_t y, const uint8_t *frame, int64_t H, int64_t W,
                      int64_t by)
{
    for (int64_t i = 0; i < H / by; i++)
        for (int64_t k = 0; k < W / by * 3; k++) {
            int64_t sum = 0;
            for (int64_t a = 0; a < by; a++)
                for (int64_t b = 0; b < by; b++)
                    sum += frame[((i * by + a) * W + k / 3 * by + b) * 3 + k % 3];
            sheet[((y + i) * width + x) * 3 + k] = (uint8_t)((sum + by * by / 2) / (by * by));
        }
}

int preview_sheet(const char *path, const uint8_t *source, const uint8_t *decoded, int64_t T, int64_t H, int64_t W,
                  Err *err)
{
    int64_t n = T < FRAMES ? T : FRAMES, by = (n * W + WIDTH_MAX - 1) / WIDTH_MAX;
    by = by > H ? H : by > W ? W : by;
    int64_t w = W / by, h = H / by;
    uint8_t *sheet = mem_calloc(2 * h * n * w, 3, err);
    if (!sheet)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        int64_t t = n > 1 ? i * (T - 1) / (n - 1) : 0;
        put_frame(sheet, n * w, i * w, 0, source + t * H * W * 3, H, W, by);
        put_frame(sheet, n * w, i * w, h, decoded + t * H * W * 3, H, W, by);
    }
    int rc = picture_write_png(path, sheet, n * w, 2 * h, err);
    mem_free(sheet);
    return rc;
}

static void write_clip(FILE *page, int64_t number, const PreviewClip *clip)
{
    fputs("<h2>", page);
    html_bdi(page, clip->id);
    fprintf(page, ": PSNR %.2f dB, worst frame %" PRId64 " with %.2f dB</h2>\n", clip->psnr, clip->worst_frame,
            clip->worst_db);
    fprintf(page, "<a href=\"%04" PRId64 ".png\"><img src=\"%04" PRId64 ".png\" alt=\"frames of ", number, number);
    html_text(page, clip->id);
    fputs(" above the decoded ones\"></a>\n", page);
}

int preview_page(const char *out, const char *cache, const PreviewClip *clip, int64_t n, Err *err)
{
    AtomicFile *f = NULL;
    char *path = path_join(out, "index.html", err);
    int rc = path ? atomic_open(&f, path, err) : ERR_NOMEM;
    mem_free(path);
    if (rc < 0)
        return rc;
    FILE *page = atomic_stream(f);
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">" HTML_POLICY_FILES
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Cache preview</title>\n"
          "<style>body{font:16px sans-serif;margin:1em;overflow-wrap:anywhere}img{max-width:100%}h2{font-size:1em}"
          "</style></head><body>\n<h1>",
          page);
    html_bdi(page, cache);
    fputs("</h1>\n<p>Above: source frames. Below: the cached latents, decoded.</p>\n", page);
    for (int64_t i = 0; i < n; i++)
        write_clip(page, i + 1, &clip[i]);
    fputs("</body></html>\n", page);
    return atomic_commit(&f, err);
}
