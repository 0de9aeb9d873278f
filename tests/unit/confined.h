/* Tells a test whether the worker processes that decode are confined.  This program's avcodec_open2
 * stands in place of FFmpeg's: in every process but the test's own it first tries to open a harmless
 * file that the worker has no business with, counts in shared memory how that went, and then calls
 * FFmpeg's.  A worker that opens a codec before it is confined, or is never confined, opens the file. */
#ifndef WEFT_TESTS_CONFINED_H
#define WEFT_TESTS_CONFINED_H
#include <dlfcn.h>
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"
#include "common/base/confine.h"
#include "common/base/file.h"

static struct {
    pid_t parent;
    char *other; /* a file that exists and that the test's own process can read */
    struct {
        atomic_int refused, opened;
    } * shared;
} confined;

int avcodec_open2(AVCodecContext *context, const AVCodec *codec, AVDictionary **options)
{
    int (*next)(AVCodecContext *, const AVCodec *, AVDictionary **) = (int (*)(
        AVCodecContext *, const AVCodec *, AVDictionary **))dlsym(RTLD_NEXT, "avcodec_open2");
    if (confined.shared && getpid() != confined.parent) {
        int fd = open(confined.other, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            close(fd);
        atomic_fetch_add(fd >= 0 ? &confined.shared->opened : &confined.shared->refused, 1);
    }
    return next(context, codec, options);
}

/* Skips the test on a kernel that cannot confine. */
static inline void confined_watch(void)
{
    Err err = {0};
    if (!confine_available())
        check_skip("this kernel has no Landlock");
    if (!confined.shared) {
        void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(p != MAP_FAILED);
        confined.shared = p;
        confined.parent = getpid();
        confined.other = check_tmp_path("other");
        CHECK_OK(file_write_atomic(confined.other, "o", 1, &err), &err);
    }
    memset(confined.shared, 0, sizeof *confined.shared);
    assert_int_equal(access(confined.other, R_OK), 0);
}

/* Fails unless workers have opened codecs since confined_watch, all of them confined. */
static inline void confined_check(void)
{
    if (confined.shared->opened || !confined.shared->refused)
        fail_msg("workers that opened a codec could open another file %d times, and %d times they could not",
                 confined.shared->opened, confined.shared->refused);
}
#endif
