/* What the tests of the cache share: opening one, and a clip's entry. */
#ifndef WEFT_TESTS_UNIT_STORE_CACHE_CASE_H
#define WEFT_TESTS_UNIT_STORE_CACHE_CASE_H
#include "check.h"
#include "common/store/cache.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static inline Cache *open_cache(const char *dir, CacheMode mode)
{
    Err err = {0};
    Cache *c = NULL;
    CHECK_OK(cache_open(&c, dir, mode, &err), &err);
    return c;
}

static inline json_t *clip_facts(const char *caption)
{
    json_t *o = json_pack(
        "{s:s, s:[s], s:[s], s:[s], s:s, s:n, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:s, s:s, s:s, s:s}",
        "latents", HEX64, "texts", HEX64, "tokens", HEX64, "captions", caption, "split", "train", "category",
        "attributes", "frames", 9, "height", 16, "width", 16, "fps", 8, "latent", "frames", 3, "height", 2, "width", 2,
        "channels", 4, "pixels_sha256", HEX64, "file_sha256", HEX64, "vae_sha256", HEX64, "text_encoder_sha256", HEX64);
    assert_non_null(o);
    return o;
}
#endif
