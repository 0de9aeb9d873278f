/* many_clips PREPARED OUT N: OUT, a prepared dataset of N clips with pixels and captions of their own,
 * the rest of each manifest line copied from the first clip of PREPARED; `weft-prep tokenize OUT` comes
 * next.  For tests and measurements of more clips than weft-prep ingest would make in a reasonable
 * time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/media/video.h"

static int first_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    json_t **line = user;
    return *line ? 0 : json_parse(line, text, size, where, err);
}

/* One clip's file; hex: of its pixels. */
static int make_file(const char *path, int64_t i, const json_t *clip, char hex[65], Err *err)
{
    VideoWriter *w = NULL;
    int64_t frames = json_integer_value(json_object_get(clip, "frames"));
    VideoWriterParams p = {.codec = VIDEO_FFV1,
                           .width = json_integer_value(json_object_get(clip, "width")),
                           .height = json_integer_value(json_object_get(clip, "height")),
                           .rate = {json_integer_value(json_object_get(clip, "fps")), 1}};
    int64_t size = p.width * p.height * 3;
    Philox rng = philox_stream(1, RNG_POSTERIOR, 0, (uint64_t)i);
    uint8_t *rgb = mem_calloc(frames, size, err);
    int rc = rgb ? sha256_hex(rgb, 0, hex, err) : ERR_NOMEM;
    for (int64_t k = 0; rc == 0 && k < frames * size; k++)
        rgb[k] = (uint8_t)(128 + 100 * philox_uniform(&rng, (uint64_t)(k / 32))); /* stripes, which pack well */
    if (rc == 0)
        rc = sha256_hex(rgb, frames * size, hex, err);
    if (rc == 0)
        rc = video_create(&w, path, &p, err);
    for (int64_t k = 0; rc == 0 && k < frames; k++)
        rc = video_write(w, rgb + k * size, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(rgb);
    return rc;
}

static int make_clip(const char *out, int64_t i, json_t *line, FILE *manifest, Err *err)
{
    char id[32], file[64], caption[96], hex[65];
    json_t *clip = json_object_get(line, "clip");
    snprintf(id, sizeof id, "clip-%07" PRId64, i);
    snprintf(file, sizeof file, "clips/%s.mkv", id);
    snprintf(caption, sizeof caption, "Clip %" PRId64 ".", i);
    char *path = path_join(out, file, err);
    int rc = path ? make_file(path, i, clip, hex, err) : ERR_NOMEM;
    json_t *captions = json_pack("[s]", caption);
    if (rc == 0 &&
        (json_object_set_new(line, "id", json_string(id)) < 0 || json_object_set(line, "captions", captions) < 0 ||
         json_object_set_new(clip, "file", json_string(file)) < 0 ||
         json_object_set_new(clip, "pixels_sha256", json_string(hex)) < 0))
        rc = err_set(err, ERR_NOMEM, "no memory for a manifest line");
    if (rc == 0)
        rc = json_write_line(line, manifest, err);
    json_decref(captions);
    mem_free(path);
    return rc;
}

/* dataset.json for the manifest at `path`. */
static int make_dataset(const char *from, const char *out, const char *path, int64_t n, Err *err)
{
    json_t *dataset = NULL;
    char hex[65], *source = path_join(from, "dataset.json", err), *target = path_join(out, "dataset.json", err);
    int rc = source && target ? json_read_file(&dataset, source, err) : ERR_NOMEM;
    if (rc == 0)
        rc = sha256_file_hex(path, hex, err);
    json_t *manifest = json_object_get(dataset, "manifest"), *counts = json_object_get(dataset, "counts");
    if (rc == 0 && (json_object_set_new(manifest, "lines", json_integer(n)) < 0 ||
                    json_object_set_new(manifest, "sha256", json_string(hex)) < 0 ||
                    json_object_set_new(counts, "sources", json_integer(n)) < 0 ||
                    json_object_set_new(counts, "accepted", json_integer(n)) < 0))
        rc = err_set(err, ERR_NOMEM, "no memory for dataset.json");
    if (rc == 0)
        rc = json_write_file(dataset, target, err);
    json_decref(dataset);
    mem_free(source);
    mem_free(target);
    return rc;
}

static int make(const char *from, const char *out, int64_t n, Err *err)
{
    json_t *line = NULL;
    AtomicFile *manifest = NULL;
    char *source = path_join(from, "manifest.jsonl", err), *target = path_join(out, "manifest.jsonl", err);
    char *clips = path_join(out, "clips", err);
    int rc = source && target && clips ? dir_make(clips, err) : ERR_NOMEM;
    if (rc == 0)
        rc = lines_read(source, RECORD_BYTES_MAX, first_line, &line, err);
    if (rc == 0)
        rc = atomic_open(&manifest, target, err);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        rc = make_clip(out, i, line, atomic_stream(manifest), err);
    if (rc == 0)
        rc = atomic_commit(&manifest, err);
    atomic_abort(&manifest);
    if (rc == 0)
        rc = make_dataset(from, out, target, n, err);
    json_decref(line);
    mem_free(source);
    mem_free(target);
    mem_free(clips);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    if (argc != 4 || atoll(argv[3]) < 1) {
        fprintf(stderr, "usage: many_clips PREPARED OUT N\n");
        return 2;
    }
    int rc = make(argv[1], argv[2], atoll(argv[3]), &err);
    if (rc < 0)
        fprintf(stderr, "many_clips: %s\n", err.msg);
    return rc < 0;
}
