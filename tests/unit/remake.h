/* Makes a video file over again: packets left out, tracks of sound or side data added. */
#ifndef WEFT_TESTS_REMAKE_H
#define WEFT_TESTS_REMAKE_H
#include <libavutil/dovi_meta.h>
#include "unit/clip_maker.h"

typedef struct Remake {
    const char *container;
    int drop;                               /* packets of the video that are left out at its beginning */
    int sounds;                             /* tracks of sound that are added */
    double sound_s;                         /* and how long they are */
    int dolby_profile, dolby_compatibility; /* profile 0: none */
} Remake;

static inline void add_side_data(AVStream *st, enum AVPacketSideDataType type, void *data, size_t size)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    assert_non_null(av_packet_side_data_add(&st->codecpar->coded_side_data, &st->codecpar->nb_coded_side_data, type,
                                            data, size, 0));
#else
    assert_true(av_stream_add_side_data(st, type, data, size) >= 0);
#endif
}

static inline void add_dolby(AVStream *st, const Remake *m)
{
    size_t size;
    AVDOVIDecoderConfigurationRecord *d = av_dovi_alloc(&size);
    d->dv_version_major = 1;
    d->dv_profile = (uint8_t)m->dolby_profile;
    d->dv_level = 1;
    d->rpu_present_flag = d->bl_present_flag = 1;
    d->dv_bl_signal_compatibility_id = (uint8_t)m->dolby_compatibility;
    add_side_data(st, AV_PKT_DATA_DOVI_CONF, d, size);
}

static inline AVStream *add_sound(AVFormatContext *out)
{
    AVStream *st = avformat_new_stream(out, NULL);
    AVCodecParameters *p = st->codecpar;
    p->codec_type = AVMEDIA_TYPE_AUDIO;
    p->codec_id = AV_CODEC_ID_PCM_S16LE;
    p->sample_rate = 11025;
    p->bit_rate = 176400;
    p->block_align = 2;
    av_channel_layout_default(&p->ch_layout, 1);
    p->bits_per_coded_sample = 16;
    st->time_base = (AVRational){1, 11025};
    return st;
}

/* from -> to, as asked for; streams of sound carry silence. */
static inline void remake(const char *from, const char *to, const Remake *m)
{
    AVFormatContext *in = NULL, *out = NULL;
    AVPacket *p = av_packet_alloc();
    assert_true(avformat_open_input(&in, from, NULL, NULL) >= 0);
    assert_true(avformat_find_stream_info(in, NULL) >= 0);
    assert_true(avformat_alloc_output_context2(&out, NULL, m->container, to) >= 0);
    out->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
    AVStream *st = avformat_new_stream(out, NULL);
    assert_true(avcodec_parameters_copy(st->codecpar, in->streams[0]->codecpar) >= 0);
    st->codecpar->codec_tag = 0;
    st->time_base = in->streams[0]->time_base;
    st->avg_frame_rate = in->streams[0]->avg_frame_rate;
    if (m->dolby_profile)
        add_dolby(st, m);
    for (int i = 0; i < m->sounds; i++)
        add_sound(out);
    assert_true(avio_open(&out->pb, to, AVIO_FLAG_WRITE) >= 0);
    assert_true(avformat_write_header(out, NULL) >= 0);
    for (int n = 0; av_read_frame(in, p) >= 0; n++) {
        av_packet_rescale_ts(p, in->streams[0]->time_base, st->time_base);
        p->stream_index = 0;
        if (n >= m->drop)
            assert_true(av_interleaved_write_frame(out, p) >= 0);
        av_packet_unref(p);
    }
    for (int i = 0; i < m->sounds; i++)
        for (int tenth = 0; tenth < (int)(10 * m->sound_s); tenth++) {
            assert_true(av_new_packet(p, 2205) >= 0);
            memset(p->data, 0, (size_t)p->size);
            p->stream_index = 1 + i;
            p->pts = p->dts = av_rescale_q(tenth, (AVRational){1, 10}, out->streams[1 + i]->time_base);
            p->duration = av_rescale_q(1, (AVRational){1, 10}, out->streams[1 + i]->time_base);
            assert_true(av_interleaved_write_frame(out, p) >= 0);
        }
    assert_true(av_write_trailer(out) >= 0);
    avio_closep(&out->pb);
    avformat_free_context(out);
    avformat_close_input(&in);
    av_packet_free(&p);
}
#endif
