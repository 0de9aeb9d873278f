#include "cache/reader.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/threads.h"

typedef struct Request {
    int64_t frames, height, width;
    int32_t place;
    char known[65]; /* "": decode in any case */
    char pixels_sha256[65];
    char path[PATH_MAX];
} Request;

typedef struct Reply {
    int32_t code, decoded;
    double seconds;
    char fault[1024], file_sha256[65];
} Reply;

struct ClipReader {
    ClipDecoder *decoder[READER_PLACES]; /* one a place: its memory is shared with the process */
    pid_t pid;
    int ask, answer; /* pipes; -1: not open */
    int64_t asked, done;
};

/* 1 when all of it was moved, 0 at the end of the pipe, negative errno. */
static int move(int fd, void *bytes, size_t n, int writing)
{
    char *at = bytes;
    while (n) {
        ssize_t moved = writing ? write(fd, at, n) : read(fd, at, n);
        if (moved < 0 && errno == EINTR && !interrupt_requested())
            continue;
        if (moved < 0)
            return -errno;
        if (moved == 0)
            return 0;
        at += moved;
        n -= (size_t)moved;
    }
    return 1;
}

/* ---- the process ----------------------------------------------------------------------------- */

static void read_clip(ClipReader *r, Request *q, Reply *a)
{
    PreparedClip c = {.path = q->path,
                      .frames = q->frames,
                      .height = q->height,
                      .width = q->width,
                      .pixels_sha256 = q->pixels_sha256};
    const uint8_t *rgb;
    Err fault = {0};
    double begin = time_now_s();
    *a = (Reply){0};
    int rc = sha256_file_hex(c.path, a->file_sha256, &fault);
    if (rc == 0 && strcmp(a->file_sha256, q->known) != 0) {
        rc = clip_decode(r->decoder[q->place], &c, &rgb, &fault);
        a->decoded = 1;
    }
    a->code = rc;
    snprintf(a->fault, sizeof a->fault, "%.1000s", fault.msg);
    a->seconds = time_now_s() - begin;
}

static int serve(ClipReader *r, int ask, int answer)
{
    Request q;
    Reply a;
    /* it ends with its parent, who hears the signals */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    while (move(ask, &q, sizeof q, 0) == 1) {
        read_clip(r, &q, &a);
        if (move(answer, &a, sizeof a, 1) != 1)
            return 1;
    }
    return 0;
}

static int start(ClipReader *r, Err *err)
{
    int ask[2], answer[2];
    if (pipe(ask) < 0)
        return err_errno(err, errno, "opening a pipe to the clip reader");
    if (pipe(answer) < 0) {
        int e = errno;
        close(ask[0]);
        close(ask[1]);
        return err_errno(err, e, "opening a pipe to the clip reader");
    }
    pid_t parent = getpid();
    fflush(NULL);
    r->pid = fork();
    if (r->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ask[1]);
        close(answer[0]);
        _exit(getppid() == parent ? serve(r, ask[0], answer[1]) : 1);
    }
    close(ask[0]);
    close(answer[1]);
    r->ask = ask[1];
    r->answer = answer[0];
    return r->pid < 0 ? err_errno(err, errno, "starting the clip reader") : 0;
}

/* ---- its parent ------------------------------------------------------------------------------ */

int64_t reader_bytes(int64_t clips, int64_t bytes)
{
    return (clips < READER_PLACES ? clips : READER_PLACES) * bytes;
}

int reader_open(ClipReader **out, const Recipe *recipe, int64_t bytes, Err *err)
{
    ClipReader *r = *out = mem_calloc(1, sizeof *r, err);
    if (!r)
        return ERR_NOMEM;
    r->ask = r->answer = -1;
    int rc = 0;
    for (int i = 0; rc == 0 && i < READER_PLACES; i++)
        rc = clip_decoder_open(&r->decoder[i], recipe, bytes, err);
    if (rc == 0)
        rc = start(r, err);
    if (rc < 0)
        reader_close(out);
    return rc;
}

void reader_close(ClipReader **pp)
{
    ClipReader *r = *pp;
    if (!r)
        return;
    if (r->ask >= 0)
        close(r->ask);
    if (r->answer >= 0)
        close(r->answer);
    if (r->pid > 0) {
        kill(r->pid, SIGKILL);
        while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    for (int i = 0; i < READER_PLACES; i++)
        clip_decoder_close(&r->decoder[i]);
    mem_free(r);
    *pp = NULL;
}

int reader_has_room(const ClipReader *r)
{
    return r->asked - r->done < READER_PLACES;
}

int reader_ask(ClipReader *r, const PreparedClip *c, const char *known, Err *err)
{
    Request q = {
        .frames = c->frames, .height = c->height, .width = c->width, .place = (int32_t)(r->asked % READER_PLACES)};
    size_t length = strlen(c->path);
    if (length >= sizeof q.path)
        return err_set(err, ERR_LIMIT, "the path of clip '%s' has %zu bytes, more than the system allows", c->id,
                       length);
    memcpy(q.path, c->path, length);
    snprintf(q.pixels_sha256, sizeof q.pixels_sha256, "%s", c->pixels_sha256);
    snprintf(q.known, sizeof q.known, "%s", known ? known : "");
    if (move(r->ask, &q, sizeof q, 1) != 1)
        return interrupt_requested() ? err_set(err, ERR_INTERRUPTED, "stopped")
                                     : err_set(err, ERR_IO, "the process that reads clips has died");
    r->asked++;
    return 0;
}

int reader_wait(ClipReader *r, ReadClip *out, Err *err)
{
    Reply a;
    if (move(r->answer, &a, sizeof a, 0) != 1)
        return interrupt_requested() ? err_set(err, ERR_INTERRUPTED, "stopped")
                                     : err_set(err, ERR_IO, "the process that reads clips has died");
    *out = (ReadClip){.code = a.code, .seconds = a.seconds};
    memcpy(out->fault, a.fault, sizeof out->fault);
    memcpy(out->file_sha256, a.file_sha256, sizeof out->file_sha256);
    if (a.code == 0 && a.decoded)
        out->rgb = clip_decoder_pixels(r->decoder[r->done % READER_PLACES]);
    return 0;
}

void reader_done(ClipReader *r)
{
    r->done++;
}
