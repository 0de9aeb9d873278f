/* Prepared clips are decoded in a process of its own, whose limits cost the clip and nothing else. */
#include <string.h>
#include "unit/confined.h"
#include "cache/decode.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/media/video.h"

enum { FRAMES = 9, SIDE = 1280, BYTES = FRAMES * SIDE * SIDE * 3 };

static ClipDecoder *decoder(const char *limit, int64_t bytes)
{
    Err err = {0};
    Recipe *r = NULL;
    ClipDecoder *d = NULL;
    const char *set[] = {limit};
    CommonOptions o = {.preset = "demo", .set = {set, 1}, .seed = -1};
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    CHECK_OK(clip_decoder_open(&d, r, bytes, &err), &err);
    recipe_close(&r);
    return d;
}

/* A clip of smooth pictures, and its pixels. */
static uint8_t *write_clip(const char *path, char hex[65])
{
    Err err = {0};
    uint8_t *rgb = mem_calloc(BYTES, 1, &err);
    for (int64_t i = 0; i < BYTES; i++)
        rgb[i] = (uint8_t)(i / 3 / 64 + i / (SIDE * SIDE * 3));
    VideoWriter *w = NULL;
    VideoWriterParams p = {.codec = VIDEO_FFV1, .width = SIDE, .height = SIDE, .rate = {8, 1}};
    CHECK_OK(video_create(&w, path, &p, &err), &err);
    for (int i = 0; i < FRAMES; i++)
        CHECK_OK(video_write(w, rgb + (int64_t)i * SIDE * SIDE * 3, &err), &err);
    CHECK_OK(video_finish(&w, &err), &err);
    Digest digest;
    CHECK_OK(sha256_bytes(rgb, BYTES, &digest, &err), &err);
    digest_hex(&digest, hex);
    return rgb;
}

static void limits_cost_the_clip(void **state)
{
    Err err = {0};
    char hex[65];
    char *path = check_tmp_path("clip.mkv");
    uint8_t *want = write_clip(path, hex);
    const uint8_t *rgb = NULL;
    PreparedClip c = {
        .id = (char *)"a", .path = path, .frames = FRAMES, .height = SIDE, .width = SIDE, .pixels_sha256 = hex};
    (void)state;
    ClipDecoder *d = decoder("limits.memory_mb=4096", BYTES);
    CHECK_OK(clip_decode(d, &c, &rgb, &err), &err);
    assert_memory_equal(rgb, want, BYTES);
    c.pixels_sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
    CHECK_FAILS(clip_decode(d, &c, &rgb, &err), ERR_FORMAT, "its pixels are not those that manifest.jsonl names", &err);
    c.frames = FRAMES - 1;
    CHECK_FAILS(clip_decode(d, &c, &rgb, &err), ERR_FORMAT, "clip.mkv", &err);
    c.frames = 2 * FRAMES;
    CHECK_FAILS(clip_decode(d, &c, &rgb, &err), ERR_LIMIT, "larger than", &err);
    clip_decoder_close(&d);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* no limit on address space under these */
    c.frames = FRAMES;
    c.pixels_sha256 = hex;
    d = decoder("limits.memory_mb=64", BYTES);
    CHECK_FAILS(clip_decode(d, &c, &rgb, &err), ERR_LIMIT, "limits.memory_mb", &err);
    clip_decoder_close(&d);
#endif
    mem_free(want);
}

static void the_worker_is_confined(void **state)
{
    Err err = {0};
    char hex[65];
    char *path = check_tmp_path("confined.mkv");
    uint8_t *want = write_clip(path, hex);
    const uint8_t *rgb = NULL;
    PreparedClip c = {
        .id = (char *)"a", .path = path, .frames = FRAMES, .height = SIDE, .width = SIDE, .pixels_sha256 = hex};
    (void)state;
    mem_free(want);
    confined_watch();
    ClipDecoder *d = decoder("limits.memory_mb=4096", BYTES);
    CHECK_OK(clip_decode(d, &c, &rgb, &err), &err);
    clip_decoder_close(&d);
    confined_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits_cost_the_clip),
                                       cmocka_unit_test(the_worker_is_confined)};
    return check_run_live("decode", tests);
}
