/* The recipe's keys that shape clips. */
#include <stdio.h>
#include <string.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/clip.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_facts.h"

static WindowPolicy window_policy(const char *name)
{
    static const char *const names[] = {"first", "middle", "chunks", "slide", "uniform"};
    for (int i = 1; i < 5; i++)
        if (strcmp(name, names[i]) == 0)
            return (WindowPolicy)i;
    return WINDOW_FIRST;
}

/* The hash of the sections `clip` and `quality`, but for keys that shape neither pixels nor verdict:
 * captions and duplicates are looked at afresh in every run. */
static int shaping_sha256(const Recipe *recipe, char hex[65], Err *err)
{
    static const char *const clip_other[] = {"max_reject_ratio", "allow_empty_caption"};
    static const char *const quality_other[] = {"duplicates", "duplicate_bits", "duplicate_colour"};
    json_t *clip = json_deep_copy(recipe_get(recipe, "clip")), *quality = json_deep_copy(recipe_get(recipe, "quality"));
    for (size_t i = 0; i < sizeof clip_other / sizeof *clip_other; i++)
        json_object_del(clip, clip_other[i]);
    for (size_t i = 0; i < sizeof quality_other / sizeof *quality_other; i++)
        json_object_del(quality, quality_other[i]);
    json_t *shaping = json_pack("{s:o, s:o}", "clip", clip, "quality", quality);
    if (!shaping)
        return err_set(err, ERR_NOMEM, "out of memory for the recipe");
    char *text = json_canonical(shaping, err);
    int rc = text ? sha256_hex(text, (int64_t)strlen(text), hex, err) : ERR_NOMEM;
    mem_free(text);
    json_decref(shaping);
    return rc;
}

int prep_config(PrepConfig *out, const Recipe *recipe, Err *err)
{
    int64_t latent;
    const char *fit = recipe_str(recipe, "clip.fit"), *even = recipe_str(recipe, "clip.evening");
    const char *fields = recipe_str(recipe, "clip.deinterlace");
    *out = (PrepConfig){.width = recipe_int(recipe, "clip.width"),
                        .height = recipe_int(recipe, "clip.height"),
                        .fps = recipe_int(recipe, "clip.fps"),
                        .frames = recipe_int(recipe, "clip.model_frames"),
                        .window = window_policy(recipe_str(recipe, "clip.window")),
                        .window_stride = recipe_int(recipe, "clip.window_stride"),
                        .window_count = recipe_int(recipe, "clip.window_count"),
                        .hold = strcmp(recipe_str(recipe, "clip.short"), "hold") == 0,
                        .max_hold = (int)recipe_int(recipe, "clip.max_hold"),
                        .fit = strcmp(fit, "pad") == 0       ? FIT_PAD
                               : strcmp(fit, "stretch") == 0 ? FIT_STRETCH
                                                             : FIT_COVER,
                        .deinterlace = strcmp(fields, "auto") == 0    ? DEINTERLACE_AUTO
                                       : strcmp(fields, "never") == 0 ? DEINTERLACE_NEVER
                                                                      : DEINTERLACE_ALWAYS,
                        .hdr_convert = strcmp(recipe_str(recipe, "clip.hdr"), "convert") == 0,
                        .trim_bars = recipe_bool(recipe, "clip.trim_bars"),
                        .even_white = strcmp(even, "white") == 0 || strcmp(even, "both") == 0,
                        .even_exposure = strcmp(even, "exposure") == 0 || strcmp(even, "both") == 0,
                        .evening_strength = recipe_num(recipe, "clip.evening_strength"),
                        .evening_luma = recipe_num(recipe, "clip.evening_luma"),
                        .bias_x = recipe_num(recipe, "clip.bias_x"),
                        .bias_y = recipe_num(recipe, "clip.bias_y"),
                        .max_lost = recipe_num(recipe, "clip.max_lost"),
                        .min_fps = recipe_num(recipe, "clip.min_fps"),
                        .min_side = recipe_int(recipe, "clip.min_side"),
                        .frames_fps = recipe_int(recipe, "clip.frames_fps"),
                        .allow_vfr = recipe_bool(recipe, "clip.allow_vfr"),
                        .allow_empty_caption = recipe_bool(recipe, "clip.allow_empty_caption"),
                        .cpu_s = recipe_int(recipe, "limits.cpu_seconds"),
                        .wall_s = recipe_int(recipe, "limits.wall_seconds"),
                        .memory_bytes = recipe_int(recipe, "limits.memory_mb") << 20,
                        .max_file_bytes = recipe_int(recipe, "limits.file_mb") << 20,
                        .max_pixels = recipe_int(recipe, "limits.pixels"),
                        .max_frames = recipe_int(recipe, "limits.frames")};
    snprintf(out->background_name, sizeof out->background_name, "%s", recipe_str(recipe, "clip.background"));
    if (!colour_parse(out->background_name, out->background))
        return err_set(err, ERR_USAGE, "clip.background is '%s', expected white, black, grey or #rrggbb",
                       out->background_name);
    int rc = model_frames_check(out->frames, &latent, err);
    if (rc < 0)
        return rc;
    quality_limits(&out->quality, recipe);
    return shaping_sha256(recipe, out->recipe_sha256, err);
}

VideoLimits clip_limits(const PrepConfig *cfg)
{
    return (VideoLimits){
        .max_pixels = cfg->max_pixels, .max_frames = cfg->max_frames, .max_seconds = (double)cfg->wall_s};
}
