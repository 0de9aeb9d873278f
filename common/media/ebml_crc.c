/* Checks the checksums of Matroska and WebM, which the library's demuxer skips.  (RFC 8794, 11.3.1: an
 * element whose first child is a CRC-32 is covered by it.)  FFmpeg's muxer writes one for every cluster. */
#include <libavutil/crc.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum {
    ID_HEADER = 0x1A45DFA3,
    ID_SEGMENT = 0x18538067,
    ID_CLUSTER = 0x1F43B675,
    ID_INFO = 0x1549A966,
    ID_TRACKS = 0x1654AE6B,
    ID_CRC = 0xBF,
    ID_SEEK = 0x114D9B74,
    ID_CUES = 0x1C53BB6B,
    ID_ATTACHMENTS = 0x1941A469,
    ID_CHAPTERS = 0x1043A770,
    ID_TAGS = 0x1254C367,
    ID_VOID = 0xEC
};
enum { BLOCK = 1 << 15, CRC_BYTES = 6 /* id, size, value */ };

/* Reads an ID or a size of up to `most` bytes.  The length marker is part of an ID but not of a size.  -1:
 * there is none here, or the size is "unknown". */
static int64_t number(AVIOContext *in, int most, int id)
{
    const int first = avio_r8(in);
    int bytes = 1;
    while (bytes <= most && !(first >> (8 - bytes) & 1))
        bytes++;
    if (bytes > most || avio_feof(in))
        return -1;
    uint64_t v = id ? (uint64_t)first : (uint64_t)first & (0xffu >> bytes), all = id ? 0 : 0xffu >> bytes;
    for (int i = 1; i < bytes; i++) {
        v = v << 8 | (uint64_t)avio_r8(in);
        all = all << 8 | 0xff;
    }
    return avio_feof(in) || (!id && v == all) ? -1 : (int64_t)v;
}

static int known(int64_t id)
{
    static const int ids[] = {ID_CLUSTER,     ID_INFO,     ID_TRACKS, ID_SEEK, ID_CUES,
                              ID_ATTACHMENTS, ID_CHAPTERS, ID_TAGS,   ID_VOID, ID_CRC};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i] == id)
            return 1;
    return 0;
}

/* 1: the `size` bytes from here begin with a checksum, and *good says whether it is right; 0: they do not;
 * negative: the time limit has passed. */
static int checked(VideoReader *r, int64_t size, int *good)
{
    AVIOContext *in = r->fmt->pb;
    uint8_t block[BLOCK];
    *good = 0;
    if (size < CRC_BYTES || avio_r8(in) != ID_CRC || avio_r8(in) != 0x84)
        return 0;
    uint32_t want = avio_rl32(in), crc = UINT32_MAX;
    for (int64_t left = size - CRC_BYTES; left > 0;) {
        int n = avio_read(in, block, left < BLOCK ? (int)left : BLOCK);
        if (n <= 0 || reader_over_time(r))
            return n <= 0 ? 1 : -1;
        crc = av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), crc, block, (size_t)n);
        left -= n;
    }
    *good = (crc ^ UINT32_MAX) == want;
    return 1;
}

static int add_bad(ByteRanges *b, int64_t from, int64_t to, Err *err)
{
    ByteRange *more = mem_realloc(b->range, b->n + 1, sizeof *more, err);
    if (!more)
        return ERR_NOMEM;
    b->range = more;
    b->range[b->n++] = (ByteRange){from, to};
    return 0;
}

/* Reads the elements directly inside the segment that starts here.  When any cluster has a checksum, all
 * should have one: a cluster without, or bytes that are no element, are damage. */
static int segment(VideoReader *r, int64_t end, Err *err)
{
    AVIOContext *in = r->fmt->pb;
    ByteRanges bare = {0};
    int rc = 0, good, any = 0;
    int64_t at = avio_tell(in);
    while (rc == 0 && at < end) {
        int64_t id = number(in, 4, 1), size = id < 0 ? -1 : number(in, 8, 0), data = avio_tell(in);
        /* this includes a cluster of unknown size (live recording), which has no checksum */
        if (!known(id) || size < 0 || size > end - data) {
            rc = add_bad(&bare, at, INT64_MAX, err);
            break;
        }
        if (id == ID_CLUSTER || id == ID_INFO || id == ID_TRACKS) {
            int has = checked(r, size, &good);
            if (has < 0)
                break;
            any |= has && id == ID_CLUSTER;
            if (has && !good)
                rc = id == ID_CLUSTER ? add_bad(&r->bad, at, data + size, err) : add_bad(&r->bad, 0, INT64_MAX, err);
            else if (!has && id == ID_CLUSTER)
                rc = add_bad(&bare, at, data + size, err);
        }
        at = data + size;
        if (avio_seek(in, at, SEEK_SET) < 0)
            break;
    }
    for (int64_t i = 0; any && i < bare.n && rc == 0; i++)
        rc = add_bad(&r->bad, bare.range[i].from, bare.range[i].to, err);
    mem_free(bare.range);
    return rc;
}

int ebml_check(VideoReader *r, Err *err)
{
    AVIOContext *in = r->fmt->pb;
    if (strncmp(r->fmt->iformat->name, "matroska", 8) != 0 || !in || !(in->seekable & AVIO_SEEKABLE_NORMAL))
        return 0;
    const int64_t back = avio_tell(in), file = avio_size(in);
    int rc = 0;
    if (file > 0 && avio_seek(in, 0, SEEK_SET) == 0 && number(in, 4, 1) == ID_HEADER) {
        int64_t header = number(in, 8, 0);
        if (header >= 0 && avio_skip(in, header) >= 0 && number(in, 4, 1) == ID_SEGMENT) {
            int64_t size = number(in, 8, 0), data = avio_tell(in);
            rc = segment(r, size >= 0 && size < file - data ? data + size : file, err);
        }
    }
    if (avio_seek(in, back, SEEK_SET) < 0 && rc == 0)
        rc = err_set(err, ERR_IO, "'%s': cannot go back to its beginning", r->path);
    return rc;
}

int ebml_bad(const VideoReader *r, int64_t pos)
{
    for (int64_t i = 0; i < r->bad.n; i++)
        if (pos >= r->bad.range[i].from && pos < r->bad.range[i].to)
            return 1;
    return 0;
}
