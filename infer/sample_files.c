/* The files of one sample: the video, its pictures, and last the record that marks it whole. */
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/media/video.h"
#include "infer/sample_internal.h"

enum { MAX_PICTURE_BYTES = 1 << 28 };

char *sample_path(const Run *r, const char *id, const char *ending, Err *err)
{
    return mem_printf(err, "%s/%s%s", r->o->out, id, ending);
}

/* The folder of the category, made; swept when *sweep. */
static int make_folder(const Run *r, const char *category, int sweep, Err *err)
{
    char *path = path_join(r->o->out, category, err);
    int rc = path ? dir_make(path, err) : ERR_NOMEM;
    if (rc == 0 && sweep)
        rc = dir_sweep_temporaries(path, err);
    mem_free(path);
    return rc;
}

int sample_make_folders(const Run *r, int sweep, Err *err)
{
    json_t *done = json_object();
    int rc = done ? 0 : err_set(err, ERR_NOMEM, "no memory for the categories");
    if (rc == 0 && sweep)
        rc = dir_sweep_temporaries(r->o->out, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        const char *category = r->prompts.item[i].category;
        if (!category || json_object_get(done, category))
            continue;
        rc = make_folder(r, category, sweep, err);
        if (rc == 0 && json_object_set_new(done, category, json_true()) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the categories");
    }
    json_decref(done);
    return rc;
}

static char *picture_path(const Run *r, const char *id, int64_t k, Err *err)
{
    return mem_printf(err, "%s/%s/%04" PRId64 ".png", r->o->out, id, k);
}

/* SHA-256 over all of a sample's pictures, in order. */
static int pictures_digest(const Run *r, const char *id, char hex[65], Err *err)
{
    Sha256 sha = {0};
    int rc = sha256_init(&sha, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++) {
        char *path = picture_path(r, id, k, err), *bytes = NULL;
        int64_t size = 0;
        rc = path ? file_read(path, MAX_PICTURE_BYTES, &bytes, &size, err) : ERR_NOMEM;
        if (rc == 0)
            sha256_update(&sha, bytes, size);
        mem_free(bytes);
        mem_free(path);
    }
    if (rc == 0)
        sha256_final_hex(&sha, hex);
    sha256_fini(&sha);
    return rc;
}

/* How the video is written, by `copies`: an MP4 always, the others when asked for. */
static const struct {
    VideoCodec codec;
    const char *ending, *digest; /* of the file's name; of the record's member */
} copies[] = {{VIDEO_H264, ".mp4", "sha256"}, {VIDEO_GIF, ".gif", "gif_sha256"}, {VIDEO_WEBP, ".webp", "webp_sha256"}};
enum { COPIES = sizeof copies / sizeof *copies };

static int is_wanted(const Run *r, VideoCodec codec)
{
    return codec == VIDEO_H264 || (codec == VIDEO_GIF && r->o->gif) || (codec == VIDEO_WEBP && r->o->webp);
}

enum { GIF_RATE_MOST = 100 }; /* it counts in hundredths of a second */

int sample_check_formats(const Run *r, Err *err)
{
    int rc = 0;
    for (int i = 0; i < COPIES && rc == 0; i++)
        if (is_wanted(r, copies[i].codec))
            rc = video_codec_check(copies[i].codec, err);
    if (rc == 0 && r->o->gif && r->s.fps > GIF_RATE_MOST)
        return err_set(err, ERR_USAGE, "--gif: a GIF shows at most %d frames a second, sampling.fps is %g",
                       GIF_RATE_MOST, r->s.fps);
    return rc;
}

static int write_copy(Run *r, Job *job, int copy, const uint8_t *rgb, Err *err)
{
    char *path = sample_path(r, job->prompt->id, copies[copy].ending, err), *facts = json_text(job->record, 0, err),
         seed[32];
    VideoWriter *w = NULL;
    int rc = path && facts ? 0 : ERR_NOMEM;
    snprintf(seed, sizeof seed, "%" PRId64, job->prompt->seed);
    const char *metadata[] = {"title", job->prompt->text, "prompt", job->prompt->text, "seed", seed, "comment", facts,
                              NULL};
    VideoWriterParams p = {.codec = copies[copy].codec,
                           .width = r->s.width,
                           .height = r->s.height,
                           .metadata = metadata,
                           .rate = {(int64_t)(r->s.fps * 1000 + 0.5), 1000}};
    if (rc == 0)
        rc = video_create(&w, path, &p, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++)
        rc = video_write(w, rgb + k * r->s.height * r->s.width * 3, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(path);
    mem_free(facts);
    return rc;
}

/* Writes those copies that are asked for. */
static int write_copies(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    int rc = 0;
    for (int i = 0; i < COPIES && rc == 0; i++)
        if (is_wanted(r, copies[i].codec))
            rc = write_copy(r, job, i, rgb, err);
    return rc;
}

/* Their digests into the record's "video". */
static int put_digests(const Run *r, const Job *job, JsonWriter *w, Err *err)
{
    char hex[65];
    int rc = 0;
    for (int i = 0; i < COPIES && rc == 0; i++) {
        if (!is_wanted(r, copies[i].codec))
            continue;
        char *path = sample_path(r, job->prompt->id, copies[i].ending, err);
        rc = path ? sha256_file_hex(path, hex, err) : ERR_NOMEM;
        if (rc == 0)
            jsonw_str(w, copies[i].digest, hex);
        mem_free(path);
    }
    return rc;
}

int sample_files_whole(const Run *r, const Job *job, const json_t *record)
{
    const json_t *facts = json_object_get(record, "video");
    const char *pictures = json_string_value(json_object_get(facts, "pictures_sha256"));
    char hex[65];
    int whole = 1;
    for (int i = 0; i < COPIES && whole; i++) {
        const char *want = json_string_value(json_object_get(facts, copies[i].digest));
        char *path = sample_path(r, job->prompt->id, copies[i].ending, NULL);
        if (is_wanted(r, copies[i].codec))
            whole = path && want && sha256_file_hex(path, hex, NULL) == 0 && strcmp(hex, want) == 0;
        mem_free(path);
    }
    if (!whole || !r->o->save_frames)
        return whole;
    return pictures && pictures_digest(r, job->prompt->id, hex, NULL) == 0 && strcmp(hex, pictures) == 0;
}

static int write_frames(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    char *dir = sample_path(r, job->prompt->id, "", err);
    int rc = dir ? dir_make(dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dir_sweep_temporaries(dir, err);
    for (int64_t k = 0; rc == 0 && k < r->s.num_frames; k++) {
        char *path = picture_path(r, job->prompt->id, k, err);
        rc = path ? picture_write_png(path, rgb + k * r->s.height * r->s.width * 3, r->s.width, r->s.height, err)
                  : ERR_NOMEM;
        mem_free(path);
    }
    mem_free(dir);
    return rc;
}

static int write_record(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    Digest d;
    char pictures_hex[65];
    char *file = mem_printf(err, "%s.mp4", path_base(job->prompt->id)),
         *path = sample_path(r, job->prompt->id, ".json", err);
    json_t *video = NULL;
    int rc = file && path ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = sha256_bytes(rgb, r->s.num_frames * r->s.height * r->s.width * 3, &d, err);
    if (rc == 0 && r->o->save_frames)
        rc = pictures_digest(r, job->prompt->id, pictures_hex, err);
    if (rc == 0) {
        JsonWriter w;
        jsonw_begin(&w);
        jsonw_str(&w, "file", file);
        rc = put_digests(r, job, &w, err);
        jsonw_int(&w, "frames", r->s.num_frames);
        jsonw_int(&w, "width", r->s.width);
        jsonw_int(&w, "height", r->s.height);
        jsonw_num(&w, "fps", r->s.fps);
        jsonw_hex(&w, "rgb_sha256", &d);
        if (r->o->save_frames)
            jsonw_str(&w, "pictures_sha256", pictures_hex);
        int done = jsonw_finish(&w, &video, "the record of a video", rc == 0 ? err : NULL);
        rc = rc == 0 ? done : rc;
    }
    if (rc == 0 && json_object_set(job->record, "video", video) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for '%s.json'", job->prompt->id);
    if (rc == 0)
        rc = schema_check("sample", job->record, path, err);
    if (rc == 0)
        rc = json_write_file(job->record, path, err);
    json_decref(video);
    mem_free(file);
    mem_free(path);
    return rc;
}

static int remove_preview(const Run *r, const Job *job, Err *err)
{
    char *path = sample_path(r, job->prompt->id, PREVIEW, err);
    int rc = path ? dir_remove(path, err) : ERR_NOMEM;
    mem_free(path);
    return rc;
}

int sample_write(Run *r, Job *job, const uint8_t *rgb, Err *err)
{
    int rc = write_copies(r, job, rgb, err);
    if (rc == 0 && r->o->save_frames)
        rc = write_frames(r, job, rgb, err);
    if (rc == 0)
        rc = remove_preview(r, job, err);
    return rc == 0 ? write_record(r, job, rgb, err) : rc;
}
