/* A read that fails (EIO) must be an error in every reader, never the end of the file.  This program
 * puts its own read, pread, mmap, fopen and fdopen in place of the C library's: of the file under
 * test, bytes from a chosen offset on cannot be read. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/media/video.h"

/* ---- the failing disk ------------------------------------------------------------------------ */
static struct {
    dev_t dev;
    ino_t ino;
    int64_t from; /* this byte and those after it fail; -1: none */
    int failed;   /* reads that failed */
} bad = {.from = -1};

static int is_bad_file(int fd)
{
    struct stat st;
    return bad.from >= 0 && fstat(fd, &st) == 0 && st.st_dev == bad.dev && st.st_ino == bad.ino;
}

/* How many of the n bytes at this place can be read; -1 and errno when not one. */
static ssize_t readable(int fd, int64_t at, size_t n)
{
    if (!is_bad_file(fd) || at + (int64_t)n <= bad.from)
        return (ssize_t)n;
    if (at < bad.from)
        return (ssize_t)(bad.from - at);
    bad.failed++;
    errno = EIO;
    return -1;
}

ssize_t read(int fd, void *buf, size_t n)
{
    off_t at = bad.from >= 0 ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t can = readable(fd, at, n);
    return can < 0 ? -1 : syscall(SYS_read, fd, buf, (size_t)can);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    ssize_t can = readable(fd, at, n);
    return can < 0 ? -1 : syscall(SYS_pread64, fd, buf, (size_t)can, at);
}

static ssize_t stream_read(void *cookie, char *buf, size_t n)
{
    return read((int)(intptr_t)cookie, buf, n);
}

static int stream_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

static FILE *bad_stream(int fd)
{
    return fopencookie((void *)(intptr_t)fd, "r", (cookie_io_functions_t){.read = stream_read, .close = stream_close});
}

FILE *fdopen(int fd, const char *mode)
{
    FILE *(*next)(int, const char *) = (FILE * (*)(int, const char *)) dlsym(RTLD_NEXT, "fdopen");
    return mode[0] == 'r' && is_bad_file(fd) ? bad_stream(fd) : next(fd, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    int flags = mode[0] == 'r' ? O_RDONLY : O_WRONLY | O_CREAT | (mode[0] == 'w' ? O_TRUNC : O_APPEND);
    int fd = open(path, flags | O_CLOEXEC, 0666);
    return fd < 0 ? NULL : fdopen(fd, mode);
}

static void fail_from(const char *path, int64_t from)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(from < st.st_size);
    bad.dev = st.st_dev;
    bad.ino = st.st_ino;
    bad.from = from;
    bad.failed = 0;
}

static int64_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* ---- readers --------------------------------------------------------------------------------- */
typedef int Read(const char *path, Err *err);

static int read_video(const char *path, Err *err)
{
    VideoReader *r = NULL;
    VideoFrame f;
    int rc = video_open(&r, path, NULL, err);
    while (rc >= 0 && (rc = video_next(r, &f, err)) == 1) {
    }
    video_close(&r);
    return rc;
}

static int skim_video(const char *path, Err *err)
{
    VideoReader *r = NULL;
    VideoFrame f;
    int rc = video_open(&r, path, NULL, err);
    for (int i = 0; rc >= 0 && (rc = video_next(r, &f, err)) == 1; i++)
        if (i == 1 && (rc = video_skim(r, err)) < 0)
            break;
    video_close(&r);
    return rc;
}

static int read_clip(const char *path, Err *err)
{
    uint8_t *rgb = NULL;
    int64_t n, w, h;
    int rc = video_read_rgb(path, 0, 0, 0, &rgb, &n, &w, &h, err);
    mem_free(rgb);
    return rc;
}

static int read_picture(const char *path, Err *err)
{
    uint8_t *rgb = NULL;
    int64_t w, h;
    int rc = picture_read(path, &rgb, &w, &h, err);
    mem_free(rgb);
    return rc;
}

static int read_bytes(const char *path, Err *err)
{
    char *text = NULL;
    int64_t size;
    int rc = file_read(path, 1 << 24, &text, &size, err);
    mem_free(text);
    return rc;
}

static int read_hash(const char *path, Err *err)
{
    Digest d;
    return sha256_file(path, &d, err);
}

static int read_json(const char *path, Err *err)
{
    json_t *value = NULL;
    int rc = json_read_file(&value, path, err);
    json_decref(value);
    return rc;
}

static int one_line(void *user, const char *line, int64_t size, const char *where, Err *err)
{
    (void)user;
    (void)line;
    (void)size;
    (void)where;
    (void)err;
    return 0;
}

static int read_lines(const char *path, Err *err)
{
    return lines_read(path, 4096, one_line, NULL, err);
}

/* Without a failure the file is read; with one at any of the places, ERR_IO. */
static void check_reader(const char *what, Read *reader, const char *path, int64_t step)
{
    Err err = {0};
    bad.from = -1;
    CHECK_OK(reader(path, &err), &err);
    int64_t size = size_of(path);
    int hit = 0;
    for (int64_t from = 0; from < size; from += step) {
        fail_from(path, from);
        int rc = reader(path, &err);
        if (bad.failed && rc != ERR_IO)
            fail_msg("%s: byte %lld of %lld cannot be read: %d '%s'", what, (long long)from, (long long)size, rc,
                     err.msg);
        hit += bad.failed > 0;
        bad.from = -1;
        err_clear(&err);
    }
    if (!hit)
        fail_msg("%s: no read failed", what);
}

static void draw_noise(AVFrame *f, int k, const void *user)
{
    (void)user;
    for (int p = 0; p < 3; p++)
        for (int y = 0; y < (p ? f->height / 2 : f->height); y++)
            for (int x = 0; x < (p ? f->width / 2 : f->width); x++)
                f->data[p][y * f->linesize[p] + x] = (uint8_t)(((x * 7 + y * 13 + k * 31) * 2654435761u) >> 24);
}

/* Files larger than the 32 KB that are read at once, so that the failure can lie in the middle. */
static void videos(void **state)
{
    (void)state;
    static const struct {
        const char *container, *codec, *options;
    } kinds[] = {{"mp4", "libx264", "qp=20:preset=ultrafast:threads=1"},
                 {"matroska", "libx264", "qp=20:preset=ultrafast:threads=1"},
                 {"mpegts", "mpeg2video", "qmin=2:qmax=2"},
                 {"avi", "mpeg4", "qmin=2:qmax=2"},
                 {"flv", "flv", "qmin=2:qmax=2"},
                 {"asf", "wmv2", "qmin=2:qmax=2"},
                 {"h264", "libx264", "qp=20:preset=ultrafast:threads=1"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        Clip c = {.container = kinds[i].container,
                  .codec = kinds[i].codec,
                  .options = kinds[i].options,
                  .format = AV_PIX_FMT_YUV420P,
                  .width = 96,
                  .height = 64,
                  .time_base = {1, 25},
                  .frames = 40,
                  .draw = draw_noise};
        const char *path = check_tmp_path(kinds[i].container);
        make_clip(path, &c);
        assert_true(size_of(path) > 100000);
        check_reader(kinds[i].container, read_video, path, 9973);
        if (i < 2)
            check_reader("skimmed", skim_video, path, 9973);
    }
}

static void pictures_and_clips(void **state)
{
    (void)state;
    enum { W = 96, H = 64 };
    static uint8_t rgb[W * H * 3];
    Err err = {0};
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)((unsigned)i * 2654435761u >> 24);
    const char *png = check_tmp_path("a.png"), *mkv = check_tmp_path("a.mkv");
    CHECK_OK(picture_write_png(png, rgb, W, H, &err), &err);
    check_reader("PNG", read_picture, png, 997);
    VideoWriter *w = NULL;
    CHECK_OK(
        video_create(&w, mkv, &(VideoWriterParams){.codec = VIDEO_FFV1, .width = W, .height = H, .rate = {8, 1}}, &err),
        &err);
    for (int k = 0; k < 8; k++)
        CHECK_OK(video_write(w, rgb, &err), &err);
    CHECK_OK(video_finish(&w, &err), &err);
    check_reader("prepared clip", read_clip, mkv, 9973);
}

static void texts_and_hashes(void **state)
{
    (void)state;
    const char *path = check_tmp_path("a.jsonl");
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 2000; i++)
        fprintf(f, "{\"line\": %d}\n", i);
    fclose(f);
    check_reader("lines", read_lines, path, 1009);
    check_reader("bytes", read_bytes, path, 1009);
    check_reader("hash", read_hash, path, 1009);
    path = check_tmp_path("a.json");
    f = fopen(path, "w");
    for (int i = 0; i < 2000; i++)
        fprintf(f, "%s%d", i ? "," : "[", i);
    fprintf(f, "]");
    fclose(f);
    check_reader("JSON", read_json, path, 1009);
}

int main(void)
{
    av_log_set_level(AV_LOG_QUIET);
    const struct CMUnitTest tests[] = {cmocka_unit_test(videos), cmocka_unit_test(pictures_and_clips),
                                       cmocka_unit_test(texts_and_hashes)};
    return check_run_live("read errors", tests);
}
