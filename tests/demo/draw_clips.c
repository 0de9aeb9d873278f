/* draw_clips OUT [options]   the demo's source material: figures in garments, walking and turning in a
 * light studio (tests/demo/draw/look.h says what they wear and how captions say it).
 *
 * Writes short H.264 files in the layout `metadata`:
 *   OUT/clips/ID.mp4
 *   OUT/clips/videos.jsonl  the clips and their captions, for weft-infer evaluate and read_garments
 *   OUT/prompts.jsonl     captions of combinations that split train never shows; any first few of them
 *                         spread over garments, patterns and colours
 *   OUT/metadata.jsonl    last: its presence says that all is there
 * The same options give the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/args.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/media/video.h"
#include "tests/demo/draw/clip.h"

typedef struct Options {
    const char *set, *size;
    int64_t clips, val, seed, frames, fps, prompts;
    int width, height;
    LookSet looks;
} Options;

static const Opt opts[] = {
    OPTION(Options, set, OPT_ENUM, "set", "SET",
           "fashion: colours, patterns and sleeves that captions name; plain: one colour, which they do not",
           .choices = "fashion|plain", .dflt = "fashion"),
    OPTION(Options, clips, OPT_INT, "clips", "N", "clips of split train", .min = 1, .max = 1e6, .dflt = "90"),
    OPTION(Options, val, OPT_INT, "val", "N",
           "clips of split val; in the fashion set they show the held-out combinations", .min = 0, .max = 1e5,
           .dflt = "10"),
    OPTION(Options, prompts, OPT_INT, "prompts", "N", "held-out captions to list", .min = 0, .max = HELD_OUT_PROMPTS,
           .dflt = "60"),
    OPTION(Options, seed, OPT_INT, "seed", "N", "chooses combinations, figures and motion", .min = 0, .max = 1e9,
           .dflt = "0"),
    OPTION(Options, size, OPT_STR, "size", "WxH", "of the pictures in pixels, even", .dflt = "128x192"),
    OPTION(Options, frames, OPT_INT, "frames", "N", "frames of a clip", .min = 1, .max = 1000, .dflt = "9"),
    OPTION(Options, fps, OPT_INT, "fps", "N", "frames a second", .min = 1, .max = 60, .dflt = "8"),
    {0}};

static int draw_clip(const Options *o, const char *path, const Look *look, Err *err)
{
    VideoWriterParams params = {
        .codec = VIDEO_H264, .width = o->width, .height = o->height, .rate = {o->fps, 1}, .crf = 8, .fast = 1};
    VideoWriter *w = NULL;
    ClipScene *scene = NULL;
    uint8_t *rgb = mem_calloc((int64_t)o->width * o->height * 3, 1, err);
    int rc = rgb ? clip_new(&scene, o->width, o->height, err) : ERR_NOMEM;
    if (rc == 0)
        rc = video_create(&w, path, &params, err);
    for (int64_t k = 0; rc == 0 && k < o->frames; k++) {
        clip_draw(scene, look, (float)k / (float)o->fps, (float)(o->frames - 1) / (float)o->fps, rgb);
        rc = video_write(w, rgb, err);
    }
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    clip_free(&scene);
    mem_free(rgb);
    return rc;
}

/* Clip i: the clips of split train first. */
static Look look_of(const Options *o, int64_t i)
{
    return i < o->clips ? look_clip(o->looks, (uint64_t)o->seed, i, 0)
                        : look_clip(o->looks, (uint64_t)o->seed, i - o->clips, o->looks == SET_FASHION);
}

static void id_of(const Options *o, int64_t i, char id[64])
{
    snprintf(id, 64, "%s-%s-%05lld", o->set, i < o->clips ? "train" : "val",
             (long long)(i < o->clips ? i : i - o->clips));
}

static int put_file(const char *out, const char *name, Str *text, Err *err)
{
    char *path = path_join(out, name, err);
    int rc = path ? file_write_atomic(path, text->data ? text->data : "", text->len, err) : ERR_NOMEM;
    mem_free(path);
    str_fini(text);
    return rc;
}

static int write_metadata(const char *out, const Options *o, Err *err)
{
    Str text = {0};
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < o->clips + o->val; i++) {
        Look k = look_of(o, i);
        char id[64], caption[CAPTION_MAX];
        id_of(o, i, id);
        look_caption(o->looks, &k, caption);
        rc = str_printf(&text, err,
                        "{\"file_name\": \"clips/%s.mp4\", \"id\": \"%s\", \"text\": \"%s\", \"category\": \"%s\", "
                        "\"color\": \"%s\", \"pattern\": \"%s\", \"sleeve\": \"%s\", \"motion\": \"%s\", "
                        "\"split\": \"%s\"}\n",
                        id, id, caption, garment_words[k.garment], k.grey ? "grey" : colour_words[k.colour],
                        pattern_words[k.pattern], sleeve_words[k.sleeve], motion_words[k.motion],
                        i < o->clips ? "train" : "val");
    }
    if (rc == 0)
        rc = put_file(out, "metadata.jsonl", &text, err);
    str_fini(&text);
    return rc;
}

static int write_videos(const char *out, const Options *o, Err *err)
{
    Str text = {0};
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < o->clips + o->val; i++) {
        Look k = look_of(o, i);
        char id[64], caption[CAPTION_MAX];
        id_of(o, i, id);
        look_caption(o->looks, &k, caption);
        rc = str_printf(&text, err, "{\"video\": \"%s.mp4\", \"id\": \"%s\", \"prompt\": \"%s\"}\n", id, id, caption);
    }
    if (rc == 0)
        rc = put_file(out, "clips/videos.jsonl", &text, err);
    str_fini(&text);
    return rc;
}

static int write_prompts(const char *out, const Options *o, Err *err)
{
    Str text = {0};
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < o->prompts; i++) {
        Look k = look_prompt(i);
        char caption[CAPTION_MAX];
        look_caption(SET_FASHION, &k, caption);
        rc = str_printf(&text, err, "{\"prompt\": \"%s\", \"category\": \"%s\", \"seed\": %lld}\n", caption,
                        garment_words[k.garment], (long long)i + 1);
    }
    if (rc == 0)
        rc = put_file(out, "prompts.jsonl", &text, err);
    str_fini(&text);
    return rc;
}

static int draw_all(const char *out, const Options *o, Err *err)
{
    char *folder = path_join(out, "clips", err);
    int rc = folder ? dir_make(folder, err) : ERR_NOMEM;
    if (rc == 0) {
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < o->clips + o->val; i++) {
            Err own = {0};
            Look k = look_of(o, i);
            char id[64];
            id_of(o, i, id);
            char *path = mem_printf(&own, "%s/%s.mp4", folder, id);
            int done = path ? draw_clip(o, path, &k, &own) : ERR_NOMEM;
            mem_free(path);
            if (done < 0) {
#pragma omp critical
                rc = err_set(err, done, "%s", own.msg);
            }
        }
    }
    mem_free(folder);
    if (rc == 0)
        rc = write_videos(out, o, err);
    if (rc == 0)
        rc = write_prompts(out, o, err);
    return rc < 0 ? rc : write_metadata(out, o, err);
}

static int parse_size(Options *o, Err *err)
{
    int used = 0;
    if (sscanf(o->size, "%4dx%4d%n", &o->width, &o->height, &used) != 2 || o->size[used] || o->width < 16 ||
        o->height < 16 || o->width % 2 || o->height % 2)
        return err_set(err, ERR_USAGE, "--size is '%s', expected WIDTHxHEIGHT, both even and at least 16", o->size);
    return 0;
}

int main(int argc, char **argv)
{
    Err err = {0};
    Options o;
    StrList rest = {0};
    int rc = args_parse(opts, &o, sizeof o, argc - 1, argv + 1, &rest, &err);
    if (rc == 0)
        rc = parse_size(&o, &err);
    if (rc < 0 || rest.n != 1) {
        fprintf(stderr, "draw_clips: %s\nusage: draw_clips OUT [options]\n",
                rc < 0 ? err.msg : "one folder is expected");
        for (const Opt *p = opts; p->name; p++)
            fprintf(stderr, "  --%s %s: %s [%s]\n", p->name, p->meta, p->help, p->dflt);
        args_free_list(&rest);
        return 2;
    }
    o.looks = strcmp(o.set, "plain") == 0 ? SET_PLAIN : SET_FASHION;
    rc = draw_all(rest.item[0], &o, &err);
    if (rc < 0)
        fprintf(stderr, "draw_clips: error: %s\n", err.msg);
    else
        printf("%lld clips of %s, %lld frames at %lld FPS, in %s/clips\n", (long long)(o.clips + o.val), o.size,
               (long long)o.frames, (long long)o.fps, rest.item[0]);
    args_free_list(&rest);
    return rc < 0;
}
