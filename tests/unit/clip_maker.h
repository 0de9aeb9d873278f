/* Makes the odd videos that tests of common/media read: any pixel format, timestamps, tags, damage. */
#ifndef WEFT_TESTS_CLIP_MAKER_H
#define WEFT_TESTS_CLIP_MAKER_H
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <string.h>
#include "check.h"

typedef struct Clip {
    const char *container, *codec; /* names as FFmpeg spells them */
    const char *options;           /* of the encoder, "k=v:k=v"; may be NULL */
    enum AVPixelFormat format;
    int width, height;
    AVRational time_base;
    const int64_t *pts; /* one a frame; NULL: 0, 1, 2... */
    int frames, b_frames, gop;
    enum AVColorSpace space; /* 0, like the next three: untagged */
    enum AVColorRange range;
    enum AVColorTransferCharacteristic transfer;
    enum AVColorPrimaries primaries;
    AVRational sar;
    enum AVFieldOrder field_order;
    const int32_t *matrix; /* display matrix, 9 values; may be NULL */
    int corrupt_packet;    /* this packet's middle is overwritten; 0: none */
    void (*draw)(AVFrame *f, int k, const void *user);
    const void *user;
} Clip;

/* A frame number as 16 bars of luma, most significant first, over the whole 8-bit planar picture. */
static inline void draw_number(AVFrame *f, int k, const void *user)
{
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++)
            f->data[0][y * f->linesize[0] + x] = k >> (15 - x * 16 / f->width) & 1 ? 220 : 30;
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * ((f->height + 1) / 2)));
}

/* The number in an RGB picture of such a frame. */
static inline int read_number(const uint8_t *rgb, int64_t width, int64_t height)
{
    int k = 0;
    for (int bit = 0; bit < 16; bit++)
        k = k << 1 | (rgb[(height / 2 * width + (2 * bit + 1) * width / 32) * 3 + 1] > 128);
    return k;
}

static inline void clip_packets(AVFormatContext *fmt, AVCodecContext *enc, AVPacket *pkt, int *n, int corrupt)
{
    while (avcodec_receive_packet(enc, pkt) >= 0) {
        if (pkt->duration <= 0)
            pkt->duration = 1;
        if (*n == corrupt && corrupt) /* the NAL length in front stays: the decoder, not the demuxer, finds it */
            for (int i = 8; i < pkt->size; i++)
                pkt->data[i] = (uint8_t)(i * 37 + 1);
        (*n)++;
        av_packet_rescale_ts(pkt, enc->time_base, fmt->streams[0]->time_base);
        pkt->stream_index = 0;
        assert_true(av_interleaved_write_frame(fmt, pkt) >= 0);
    }
}

static inline void set_matrix(AVStream *st, const int32_t *matrix)
{
    size_t size = 9 * sizeof *matrix;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    AVPacketSideData *sd = av_packet_side_data_new(&st->codecpar->coded_side_data, &st->codecpar->nb_coded_side_data,
                                                   AV_PKT_DATA_DISPLAYMATRIX, size, 0);
    assert_non_null(sd);
    memcpy(sd->data, matrix, size);
#else
    uint8_t *data = av_stream_new_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, size);
    assert_non_null(data);
    memcpy(data, matrix, size);
#endif
}

static inline void mark_interlaced(AVFrame *f, enum AVFieldOrder order)
{
    if (order != AV_FIELD_TT && order != AV_FIELD_BB)
        return;
#ifdef AV_FRAME_FLAG_INTERLACED
    f->flags |= AV_FRAME_FLAG_INTERLACED | (order == AV_FIELD_TT ? AV_FRAME_FLAG_TOP_FIELD_FIRST : 0);
#else
    f->interlaced_frame = 1;
    f->top_field_first = order == AV_FIELD_TT;
#endif
}

static inline AVCodecContext *clip_encoder(const Clip *c, int global_header)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(c->codec);
    if (!codec)
        fail_msg("no encoder %s", c->codec);
    AVCodecContext *enc = avcodec_alloc_context3(codec);
    enc->width = c->width;
    enc->height = c->height;
    enc->pix_fmt = c->format;
    enc->time_base = c->time_base;
    enc->framerate = c->pts ? (AVRational){0, 1} : av_inv_q(c->time_base);
    enc->gop_size = c->gop ? c->gop : 12;
    enc->max_b_frames = c->b_frames;
    enc->colorspace = c->space ? c->space : AVCOL_SPC_UNSPECIFIED;
    enc->color_range = c->range;
    enc->color_trc = c->transfer ? c->transfer : AVCOL_TRC_UNSPECIFIED;
    enc->color_primaries = c->primaries ? c->primaries : AVCOL_PRI_UNSPECIFIED;
    enc->sample_aspect_ratio = c->sar;
    enc->field_order = c->field_order;
    if (c->field_order == AV_FIELD_TT || c->field_order == AV_FIELD_BB)
        enc->flags |= AV_CODEC_FLAG_INTERLACED_DCT;
    if (global_header)
        enc->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    AVDictionary *options = NULL;
    if (c->options)
        av_dict_parse_string(&options, c->options, "=", ":", 0);
    assert_true(avcodec_open2(enc, codec, &options) >= 0);
    av_dict_free(&options);
    return enc;
}

static inline void make_clip(const char *path, const Clip *c)
{
    AVFormatContext *fmt = NULL;
    assert_true(avformat_alloc_output_context2(&fmt, NULL, c->container, path) >= 0);
    AVCodecContext *enc = clip_encoder(c, fmt->oformat->flags & AVFMT_GLOBALHEADER);
    AVStream *st = avformat_new_stream(fmt, NULL);
    st->time_base = enc->time_base;
    if (!c->pts)
        st->avg_frame_rate = enc->framerate;
    st->sample_aspect_ratio = c->sar;
    avcodec_parameters_from_context(st->codecpar, enc);
    st->codecpar->field_order = c->field_order;
    if (c->matrix)
        set_matrix(st, c->matrix);
    assert_true(avio_open(&fmt->pb, path, AVIO_FLAG_WRITE) >= 0);
    assert_true(avformat_write_header(fmt, NULL) >= 0);
    AVPacket *pkt = av_packet_alloc();
    AVFrame *f = av_frame_alloc();
    f->format = c->format;
    f->width = c->width;
    f->height = c->height;
    f->colorspace = enc->colorspace;
    f->color_range = c->range;
    f->color_trc = enc->color_trc;
    f->color_primaries = enc->color_primaries;
    f->sample_aspect_ratio = c->sar;
    assert_true(av_frame_get_buffer(f, 0) >= 0);
    mark_interlaced(f, c->field_order);
    int packets = 0;
    for (int k = 0; k < c->frames; k++) {
        av_frame_make_writable(f);
        c->draw(f, k, c->user);
        f->pts = c->pts ? c->pts[k] : k;
        assert_true(avcodec_send_frame(enc, f) >= 0);
        clip_packets(fmt, enc, pkt, &packets, c->corrupt_packet);
    }
    avcodec_send_frame(enc, NULL);
    clip_packets(fmt, enc, pkt, &packets, c->corrupt_packet);
    assert_true(av_write_trailer(fmt) >= 0);
    avio_closep(&fmt->pb);
    av_frame_free(&f);
    av_packet_free(&pkt);
    avcodec_free_context(&enc);
    avformat_free_context(fmt);
}
#endif
