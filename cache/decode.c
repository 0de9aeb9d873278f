#include "cache/decode.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "common/base/confine.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/base/worker.h"
#include "common/media/video.h"

struct ClipDecoder {
    WorkerLimits limits;
    uint8_t *shared; /* the child writes the pixels here, the parent reads them */
    int64_t size;
    const PreparedClip *clip;
    Err *err; /* of the call of clip_decode that waits */
    int code; /* its result */
};

int clip_decoder_open(ClipDecoder **out, const Recipe *recipe, int64_t bytes, Err *err)
{
    ClipDecoder *d = *out = mem_calloc(1, sizeof *d, err);
    if (!d)
        return ERR_NOMEM;
    d->limits = (WorkerLimits){.cpu_s = recipe_int(recipe, "limits.cpu_seconds"),
                               .wall_s = recipe_int(recipe, "limits.wall_seconds"),
                               .memory_bytes = recipe_int(recipe, "limits.memory_mb") << 20};
    d->size = bytes;
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        int rc = err_errno(err, errno, "%" PRId64 " bytes for a decoded clip", bytes);
        clip_decoder_close(out);
        return rc;
    }
    d->shared = p;
    return 0;
}

void clip_decoder_close(ClipDecoder **pp)
{
    ClipDecoder *d = *pp;
    if (!d)
        return;
    if (d->shared)
        munmap(d->shared, (size_t)d->size);
    mem_free(d);
    *pp = NULL;
}

/* In the child: writes the pixels to shared memory; a fault of the clip goes into the result. */
static int decode_item(void *user, int64_t item, json_t **out, Err *err)
{
    ClipDecoder *d = user;
    const PreparedClip *c = d->clip;
    uint8_t *rgb = NULL;
    int64_t n, width, height;
    Err fault = {0};
    (void)item;
    /* from here on this process can open the clip and nothing else */
    int rc = confine_process(&(ConfineRules){(const char *[]){c->path, NULL}, NULL}, err);
    if (rc < 0)
        return rc;
    rc = video_read_rgb(c->path, c->frames, c->width, c->height, &rgb, &n, &width, &height, &fault);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", fault.msg);
    if (rc == 0)
        memcpy(d->shared, rgb, (size_t)(n * height * width * 3));
    mem_free(rgb);
    *out = json_pack("{s:i, s:s}", "code", rc, "text", fault.msg);
    if (!*out) /* the message is not UTF-8 */
        *out = json_pack("{s:i, s:s}", "code", rc, "text", "it cannot be decoded");
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for a result");
}

static int decode_done(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err)
{
    ClipDecoder *d = user;
    (void)item;
    (void)err;
    if (result)
        d->code = (int)json_integer_value(json_object_get(result, "code"));
    else
        d->code = strcmp(code, "worker_crash") == 0 ? ERR_FORMAT : ERR_LIMIT;
    if (d->code < 0)
        err_set(d->err, d->code, "%s%s%s", result ? "" : d->clip->path, result ? "" : ": ",
                result ? json_string_value(json_object_get(result, "text")) : text);
    return 0;
}

static int decode_stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

static int check_pixels(const ClipDecoder *d, Err *err)
{
    const PreparedClip *c = d->clip;
    char hex[65];
    int rc = sha256_hex(d->shared, c->frames * c->height * c->width * 3, hex, err);
    if (rc < 0)
        return rc;
    if (strcmp(hex, c->pixels_sha256) == 0)
        return 0;
    return err_set(err, ERR_FORMAT, "'%s': its pixels are not those that manifest.jsonl names", c->path);
}

int clip_decode(ClipDecoder *d, const PreparedClip *c, const uint8_t **rgb, Err *err)
{
    if (c->frames * c->height * c->width * 3 > d->size)
        return err_set(err, ERR_LIMIT, "'%s' is larger than the clips before it", c->path);
    d->clip = c;
    d->err = err;
    d->code = ERR_INTERRUPTED; /* unless `done` is called */
    Workers w = {
        .jobs = 1, .limits = d->limits, .user = d, .work = decode_item, .done = decode_done, .stop = decode_stop};
    int rc = workers_run(&w, 1, err);
    if (rc == 0 && d->code < 0)
        return err_set(err, d->code, "stopped");
    if (rc == 0)
        rc = check_pixels(d, err);
    *rgb = d->shared;
    return rc;
}

const uint8_t *clip_decoder_pixels(const ClipDecoder *d)
{
    return d->shared;
}
