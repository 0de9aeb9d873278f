/* Where the bytes come from: a regular file or a block of memory, through one read callback, so that
 * a failed read is never treated as the end of the file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* The containers that are read.  Formats that name other files or addresses (playlists) are not among
 * them. */
static const char formats[] =
    "mov,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,mxf,rm,dv,gif,ivf,h264,hevc,obu,m4v,mpegvideo,mjpeg,yuv4mpegpipe,"
    "png_pipe,jpeg_pipe";
enum { MAX_STREAMS = 256, IO_BUFFER = 1 << 15 };

/* ---- reading --------------------------------------------------------------------------------- */
static int source_read(void *opaque, uint8_t *buf, int size)
{
    VideoReader *r = opaque;
    ByteSource *s = &r->source;
    if (reader_over_time(r))
        return AVERROR_EXIT;
    if (s->error)
        return AVERROR(s->error);
    if (s->data) {
        int64_t n = s->size - s->at < size ? s->size - s->at : size;
        if (n <= 0)
            return AVERROR_EOF;
        memcpy(buf, s->data + s->at, (size_t)n);
        s->at += n;
        return (int)n;
    }
    ssize_t n;
    while ((n = read(s->fd, buf, (size_t)size)) < 0 && errno == EINTR) {
    }
    if (n < 0) {
        s->error = errno;
        s->error_at = s->at;
        return AVERROR(s->error);
    }
    s->at += n;
    return n == 0 ? AVERROR_EOF : (int)n;
}

static int64_t source_seek(void *opaque, int64_t offset, int whence)
{
    ByteSource *s = &((VideoReader *)opaque)->source;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return s->size;
    int64_t base = whence == SEEK_CUR ? s->at : whence == SEEK_END ? s->size : 0;
    if (offset < -base || (s->data && offset > s->size - base) || offset > INT64_MAX - base)
        return AVERROR(EINVAL);
    if (!s->data && lseek(s->fd, base + offset, SEEK_SET) < 0)
        return AVERROR(errno);
    return s->at = base + offset;
}

int source_check(const VideoReader *r, Err *err)
{
    const ByteSource *s = &r->source;
    return s->error ? err_errno(err, s->error, "'%s': reading at byte %" PRId64 " failed", r->path, s->error_at) : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */
/* Opens without waiting, so that a pipe does not hang us before it is refused. */
static int open_file(VideoReader *r, Err *err)
{
    struct stat st;
    ByteSource *s = &r->source;
    s->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0)
        return err_errno(err, errno, "cannot open '%s'", r->path);
    if (fstat(s->fd, &st) != 0)
        return err_errno(err, errno, "cannot open '%s'", r->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", r->path);
    if (st.st_size == 0)
        return err_set(err, ERR_FORMAT, "'%s' is empty (0 bytes), expected a video", r->path);
    s->size = st.st_size;
    return 0;
}

static int open_io(VideoReader *r, Err *err)
{
    unsigned char *buffer = av_malloc(IO_BUFFER);
    if (buffer)
        r->io = avio_alloc_context(buffer, IO_BUFFER, 0, r, source_read, NULL, source_seek);
    if (!r->io) {
        av_free(buffer);
        return err_set(err, ERR_NOMEM, "no memory to read '%s'", r->path);
    }
    r->fmt->pb = r->io;
    r->fmt->flags |= AVFMT_FLAG_CUSTOM_IO; /* ours to close */
    return 0;
}

/* A source is one file; other files that the container names are not opened. */
static int refuse_open(AVFormatContext *fmt, AVIOContext **io, const char *url, int flags, AVDictionary **options)
{
    (void)fmt;
    (void)url;
    (void)flags;
    (void)options;
    *io = NULL;
    return AVERROR(EPERM);
}

/* Whether the file begins as a JPEG: 1, 0, negative.  A JPEG is then opened without its name: the library
 * probes 2,048 bytes, and takes a longer file whose name ends in .jpg for a sequence of numbered files. */
static int begins_as_jpeg(VideoReader *r, Err *err)
{
    static const uint8_t magic[3] = {0xFF, 0xD8, 0xFF};
    uint8_t head[3];
    int n = avio_read(r->io, head, 3);
    int rc = source_check(r, err);
    if (rc == 0 && avio_seek(r->io, 0, SEEK_SET) < 0)
        rc = err_set(err, ERR_IO, "'%s': cannot go back to its beginning", r->path);
    return rc < 0 ? rc : n == 3 && memcmp(head, magic, 3) == 0;
}

static int open_format(VideoReader *r, const char *url, Err *err)
{
    AVDictionary *options = NULL;
    if (av_dict_set(&options, "format_whitelist", formats, 0) < 0 ||
        av_dict_set(&options, "protocol_whitelist", "file", 0) < 0 ||
        av_dict_set_int(&options, "max_streams", MAX_STREAMS + 1, 0) < 0) {
        av_dict_free(&options);
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
    }
    int av = avformat_open_input(&r->fmt, url, NULL, &options); /* frees fmt and sets it NULL on failure */
    av_dict_free(&options);
    int rc = source_check(r, err);
    /* One stream more than allowed is read: FFmpeg 7's Matroska reader opens the file without those
     * above the limit, earlier versions fail. */
    int opened = rc == 0 && av >= 0;
    if ((opened && r->fmt->nb_streams > MAX_STREAMS) ||
        (rc == 0 && av == AVERROR(ENOMEM) && av_log_said("max_streams")))
        return err_set(err, ERR_LIMIT, "'%s' has more than %d streams", r->path, MAX_STREAMS);
    if (rc < 0 || av >= 0)
        return rc;
    return err_av(err, ERR_FORMAT, av, "'%s' cannot be opened as a video", r->path);
}

int source_open(VideoReader *r, Err *err)
{
    int rc = r->source.data ? 0 : open_file(r, err);
    if (rc < 0)
        return rc;
    r->fmt = avformat_alloc_context();
    if (!r->fmt)
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
    r->fmt->interrupt_callback = (AVIOInterruptCB){reader_over_time, r};
    r->fmt->io_open = refuse_open;
    if ((rc = open_io(r, err)) < 0)
        return rc;
    int jpeg = begins_as_jpeg(r, err);
    if (jpeg < 0)
        return jpeg;
    if (jpeg || r->source.data)
        return open_format(r, NULL, err);
    char *url = mem_printf(err, "file:%s", r->path); /* a name such as "concat:a" or "http:x" stays a name */
    rc = url ? open_format(r, url, err) : ERR_NOMEM;
    mem_free(url);
    return rc;
}

void source_close(VideoReader *r)
{
    if (r->io)
        av_freep(&r->io->buffer);
    avio_context_free(&r->io);
    if (!r->source.data && r->source.fd >= 0)
        close(r->source.fd);
}
