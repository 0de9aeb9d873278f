/* Our own reading of Matroska's elements and checksums (ebml_crc.c) on hostile bytes, without a decoder:
 * the target `video` spends nearly all of its time in the library's opening of containers and decoders
 * (about 5 ms an input), this one runs a hundred times as many. */
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Bytes {
    const uint8_t *data;
    int64_t size, at;
} Bytes;

static int bytes_read(void *opaque, uint8_t *buf, int n)
{
    Bytes *b = opaque;
    int64_t left = b->size - b->at;
    n = left < n ? (int)left : n;
    if (n <= 0)
        return AVERROR_EOF;
    memcpy(buf, b->data + b->at, (size_t)n);
    b->at += n;
    return n;
}

static int64_t bytes_seek(void *opaque, int64_t offset, int whence)
{
    Bytes *b = opaque;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return b->size;
    int64_t base = whence == SEEK_CUR ? b->at : whence == SEEK_END ? b->size : 0;
    if (offset < -base || offset > b->size - base)
        return AVERROR(EINVAL);
    return b->at = base + offset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const AVInputFormat *matroska;
    if (!matroska)
        matroska = av_find_input_format("matroska");
    Bytes bytes = {data, (int64_t)size, 0};
    unsigned char *buffer = av_malloc(4096);
    AVIOContext *io = buffer ? avio_alloc_context(buffer, 4096, 0, &bytes, bytes_read, NULL, bytes_seek) : NULL;
    if (!io)
        abort();
    AVFormatContext fmt = {.iformat = matroska, .pb = io};
    VideoReader r = {.fmt = &fmt, .path = (char[]){"memory"}, .limits = {.max_seconds = 5}};
    reader_clock_enter(&r);
    Err err = {0};
    if (ebml_check(&r, &err) < 0 && (!err.code || !err.msg[0]))
        abort(); /* a refusal has a code and a sentence */
    for (int64_t i = 0; i < r.bad.n; i++)
        if (r.bad.range[i].from < 0 || r.bad.range[i].to <= r.bad.range[i].from || !ebml_bad(&r, r.bad.range[i].from))
            abort();
    mem_free(r.bad.range);
    av_freep(&io->buffer);
    avio_context_free(&io);
    return 0;
}
