/* The second pass: the chosen frames as pixels, measured, hashed and written. */
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/clip_internal.h"

typedef struct Make {
    Work *w;
    VideoWriter *out;
    uint8_t *rgb, *before; /* [height,width,3] each: this output frame and the one before */
    int64_t bytes, k;      /* a frame's bytes; output frames written */
    Sha256 sha;
    int64_t sum[3], change;
    int64_t duplicates;
} Make;

static void measure(Make *m)
{
    for (int64_t i = 0; i < m->bytes; i += 3)
        for (int c = 0; c < 3; c++)
            m->sum[c] += m->rgb[i + c];
    if (m->k > 0)
        for (int64_t i = 0; i < m->bytes; i++)
            m->change += abs(m->rgb[i] - m->before[i]);
}

/* The picture in m->rgb stands for every output frame that chose source frame `index`. */
static int write_frames(Make *m, int64_t index, Err *err)
{
    const Work *w = m->w;
    for (int first = 1; m->k < w->cfg->frames && w->picks[m->k].index == index; m->k++, first = 0) {
        measure(m);
        m->duplicates += !first;
        sha256_update(&m->sha, m->rgb, m->bytes);
        int rc = video_write(m->out, m->rgb, err);
        if (rc < 0)
            return rc;
        memcpy(m->before, m->rgb, (size_t)m->bytes);
    }
    return 0;
}

/* 0, 1 rejected, negative. */
static int convert(Make *m, Err *err)
{
    Work *w = m->w;
    FrameReader *r;
    const VideoLimits limits = clip_limits(w->cfg);
    FrameMark mark;
    Err cause = {0};
    int rc = frame_reader_open(&r, w->path, w->src->kind, w->rate, &limits, &cause);
    int failed = rc;
    while (!failed && m->k < w->cfg->frames && (rc = frame_reader_next(r, &mark, &cause)) == 1) {
        if (mark.index != w->picks[m->k].index)
            continue;
        failed = frame_reader_rgb(r, &w->fit, m->rgb, &cause);
        if (!failed && (rc = write_frames(m, mark.index, err)) < 0) {
            frame_reader_close(&r);
            return rc;
        }
    }
    frame_reader_close(&r);
    if (!failed && rc < 0)
        failed = rc;
    if (failed)
        return clip_reject_error(w, err, failed, &cause, "damaged");
    if (m->k < w->cfg->frames)
        return clip_reject(w, err, "changed", "the source changed while it was read: frame %lld is gone", (long long)w->picks[m->k].index);
    return 0;
}

static Quality figures(const Make *m)
{
    double pixels = (double)(m->bytes / 3) * (double)m->k;
    Quality q = {.duplicates = m->duplicates};
    for (int c = 0; c < 3; c++)
        q.mean_rgb[c] = (double)m->sum[c] / pixels;
    q.mean_luma = 0.2126 * q.mean_rgb[0] + 0.7152 * q.mean_rgb[1] + 0.0722 * q.mean_rgb[2];
    q.mean_change = m->k > 1 ? (double)m->change / ((double)m->bytes * (double)(m->k - 1)) : 0;
    return q;
}

static int finish(Make *m, const char *path, const char *file, Err *err)
{
    Work *w = m->w;
    const PrepConfig *c = w->cfg;
    int rc = video_finish(&m->out, err);
    int64_t size = rc < 0 ? rc : file_size(path, err);
    if (size < 0)
        return (int)size;
    Digest digest;
    char hex[65];
    sha256_final(&m->sha, &digest);
    digest_hex(&digest, hex);
    Quality q = figures(m);
    if ((rc = clip_put(w, "quality", clip_quality_json(&q), err)) < 0)
        return rc;
    return clip_put(w, "clip",
                    json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I}", "file", file, "size", (json_int_t)size, "pixels_sha256", hex, "frames",
                              (json_int_t)c->frames, "width", (json_int_t)c->width, "height", (json_int_t)c->height, "fps",
                              (json_int_t)c->fps),
                    err);
}

int clip_make(Work *w, Err *err)
{
    const PrepConfig *c = w->cfg;
    Make m = {.w = w, .bytes = c->width * c->height * 3};
    char *file = mem_printf(err, "clips/%s.mkv", w->src->id), *path = file ? path_join(w->out_dir, file, err) : NULL;
    VideoWriterParams params = {.codec = VIDEO_FFV1, .width = c->width, .height = c->height, .rate = {c->fps, 1}};
    int rc = ERR_NOMEM;
    if (!path || !(m.rgb = mem_alloc_aligned(m.bytes, err)) || !(m.before = mem_alloc_aligned(m.bytes, err)))
        goto out;
    if ((rc = sha256_init(&m.sha, err)) < 0 || (rc = video_create(&m.out, path, &params, err)) < 0)
        goto out;
    if ((rc = convert(&m, err)) == 0)
        rc = finish(&m, path, file, err);
out:
    video_abort(&m.out);
    sha256_fini(&m.sha);
    mem_free_aligned(m.rgb);
    mem_free_aligned(m.before);
    mem_free(path);
    mem_free(file);
    return rc;
}
