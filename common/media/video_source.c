/* Where the bytes come from: a regular file or a block of memory, through one read callback. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* Containers read as they are; formats that follow references to other files or addresses are not
 * among them. */
static const char formats[] =
    "mov,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,mxf,rm,dv,gif,ivf,h264,hevc,obu,m4v,mpegvideo,mjpeg,yuv4mpegpipe,"
    "png_pipe,jpeg_pipe";
enum { MAX_STREAMS = 16, MEMORY_BUFFER = 1 << 15 };

/* ---- bytes in memory ------------------------------------------------------------------------- */
static int memory_read(void *opaque, uint8_t *buf, int size)
{
    MemorySource *m = opaque;
    int64_t n = m->size - m->at < size ? m->size - m->at : size;
    if (n <= 0)
        return AVERROR_EOF;
    memcpy(buf, m->data + m->at, (size_t)n);
    m->at += n;
    return (int)n;
}

static int64_t memory_seek(void *opaque, int64_t offset, int whence)
{
    MemorySource *m = opaque;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return m->size;
    int64_t base = whence == SEEK_CUR ? m->at : whence == SEEK_END ? m->size : 0;
    if (offset < -base || offset > m->size - base)
        return AVERROR(EINVAL);
    return m->at = base + offset;
}

static int open_memory_io(VideoReader *r, Err *err)
{
    unsigned char *buffer = av_malloc(MEMORY_BUFFER);
    if (!buffer)
        return err_set(err, ERR_NOMEM, "no memory to read a video");
    r->memory_io = avio_alloc_context(buffer, MEMORY_BUFFER, 0, &r->memory, memory_read, NULL, memory_seek);
    if (!r->memory_io) {
        av_free(buffer);
        return err_set(err, ERR_NOMEM, "no memory to read a video");
    }
    r->fmt->pb = r->memory_io;
    return 0;
}

static int check_file(const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(err, errno, "cannot open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    if (st.st_size == 0)
        return err_set(err, ERR_FORMAT, "'%s' is empty (0 bytes), expected a video", path);
    return 0;
}

int source_open(VideoReader *r, Err *err)
{
    int rc = 0;
    AVDictionary *options = NULL;
    char *url = NULL;
    r->fmt = avformat_alloc_context();
    if (!r->fmt)
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
    r->fmt->interrupt_callback = (AVIOInterruptCB){reader_over_time, r};
    if (r->memory.data) {
        rc = open_memory_io(r, err);
    } else {
        rc = check_file(r->path, err);
        url = mem_printf(err, "file:%s", r->path); /* a name such as "concat:a" or "http:x" stays a name */
        if (rc == 0 && !url)
            rc = ERR_NOMEM;
    }
    if (rc < 0)
        goto done;
    if (av_dict_set(&options, "format_whitelist", formats, 0) < 0 ||
        av_dict_set(&options, "protocol_whitelist", "file", 0) < 0 ||
        av_dict_set_int(&options, "max_streams", MAX_STREAMS, 0) < 0) {
        rc = err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
        goto done;
    }
    int av = avformat_open_input(&r->fmt, url, NULL, &options); /* frees fmt and sets it NULL on failure */
    if (av < 0)
        rc = err_av(err, ERR_FORMAT, av, "'%s' cannot be opened as a video", r->path);
done:
    av_dict_free(&options);
    mem_free(url);
    return rc;
}
