/* Protocol-buffer messages, written by hand, in records with checksums. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/tensorboard.h"

struct EventFile {
    FILE *out;
    char *path;
};

/* ---- checksums ------------------------------------------------------------------------------- */

uint32_t crc32c(const void *bytes, int64_t size)
{
    const uint8_t *p = bytes;
    uint32_t crc = ~0u;

    for (int64_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0); /* the polynomial, lowest bit first */
    }
    return ~crc;
}

uint32_t crc32c_masked(const void *bytes, int64_t size)
{
    uint32_t crc = crc32c(bytes, size);

    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A message being written; the first failure sticks. */
typedef struct Message {
    Str bytes;
    int rc;
    Err *err;
} Message;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types */

static void put(Message *m, const void *bytes, int64_t n)
{
    if (m->rc == 0)
        m->rc = str_append_n(&m->bytes, bytes, n, m->err);
}

/* The lowest `n` bytes of x, lowest first. */
static void put_little(Message *m, uint64_t x, int n)
{
    uint8_t b[8];

    for (int i = 0; i < n; i++)
        b[i] = (uint8_t)(x >> 8 * i);
    put(m, b, n);
}

static void put_varint(Message *m, uint64_t x)
{
    do {
        put_little(m, (x & 127) | (x > 127 ? 128 : 0), 1);
        x >>= 7;
    } while (x);
}

static void put_key(Message *m, int field, int wire)
{
    put_varint(m, (uint64_t)(field << 3 | wire));
}

static void put_int(Message *m, int field, int64_t x)
{
    put_key(m, field, VARINT);
    put_varint(m, (uint64_t)x);
}

static void put_double(Message *m, int field, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, FIXED64);
    put_little(m, bits, 8);
}

static void put_float(Message *m, int field, float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, FIXED32);
    put_little(m, bits, 4);
}

static void put_bytes(Message *m, int field, const void *bytes, int64_t n)
{
    put_key(m, field, BYTES);
    put_varint(m, (uint64_t)n);
    put(m, bytes, n);
}

/* Puts the message `part` into a field of m, and frees it. */
static void put_message(Message *m, int field, Message *part)
{
    if (m->rc == 0)
        m->rc = part->rc;
    put_bytes(m, field, part->bytes.data, part->bytes.len);
    str_fini(&part->bytes);
}

/* ---- records --------------------------------------------------------------------------------- */

static int write_record(EventFile *f, const Str *event, Err *err)
{
    Message head = {.err = err}, tail = {.err = err};
    int rc;

    put_little(&head, (uint64_t)event->len, 8);
    if (head.rc == 0)
        put_little(&head, crc32c_masked(head.bytes.data, 8), 4);
    put_little(&tail, crc32c_masked(event->data, event->len), 4);
    rc = head.rc < 0 ? head.rc : tail.rc;
    if (rc == 0 &&
        (fwrite(head.bytes.data, 12, 1, f->out) != 1 || fwrite(event->data, (size_t)event->len, 1, f->out) != 1 ||
         fwrite(tail.bytes.data, 4, 1, f->out) != 1 || fflush(f->out) != 0))
        rc = err_errno(err, errno, "writing '%s'", f->path);
    str_fini(&head.bytes);
    str_fini(&tail.bytes);
    return rc;
}

static void event_begin(Message *event, int64_t step, Err *err)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *event = (Message){.err = err};
    put_double(event, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    put_int(event, 2, step);
}

/* Writes the event and frees it. */
static int event_end(EventFile *f, Message *event, Err *err)
{
    int rc = event->rc == 0 ? write_record(f, &event->bytes, err) : event->rc;

    str_fini(&event->bytes);
    return rc;
}

static int write_version(EventFile *f, Err *err)
{
    static const char version[] = "brain.Event:2";
    Message event;

    event_begin(&event, 0, err);
    put_bytes(&event, 3, version, (int64_t)sizeof version - 1);
    return event_end(f, &event, err);
}

/* SessionLog{status: START} */
static int write_start(EventFile *f, int64_t step, Err *err)
{
    Message event, session = {.err = err};

    event_begin(&event, step, err);
    put_int(&session, 1, 1);
    put_message(&event, 7, &session);
    return event_end(f, &event, err);
}

int events_scalars(EventFile *f, int64_t step, const EventScalar *scalar, int64_t n, Err *err)
{
    Message event, summary = {.err = err};

    event_begin(&event, step, err);
    for (int64_t i = 0; i < n; i++) {
        Message value = {.err = err};
        put_bytes(&value, 1, scalar[i].tag, (int64_t)strlen(scalar[i].tag));
        put_float(&value, 2, (float)scalar[i].value);
        put_message(&summary, 1, &value);
    }
    put_message(&event, 5, &summary);
    return event_end(f, &event, err);
}

int events_image(EventFile *f, int64_t step, const char *tag, const void *png, int64_t size, int64_t width,
                 int64_t height, Err *err)
{
    enum { RGB = 3 };
    Message event, summary = {.err = err}, value = {.err = err}, image = {.err = err};

    event_begin(&event, step, err);
    put_int(&image, 1, height);
    put_int(&image, 2, width);
    put_int(&image, 3, RGB);
    put_bytes(&image, 4, png, size);
    put_bytes(&value, 1, tag, (int64_t)strlen(tag));
    put_message(&value, 4, &image);
    put_message(&summary, 1, &value);
    put_message(&event, 5, &summary);
    return event_end(f, &event, err);
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char prefix[] = "events.out.tfevents.";

/* A number of seconds that is larger than in the name of any file in `dir`: the files are read in the
 * order of their names, and a clock can stand still or go back. */
static int choose_seconds(const char *dir, int64_t *out, Err *err)
{
    char **names = NULL;
    int64_t n = 0;
    int rc = dir_list(dir, &names, &n, err);

    *out = (int64_t)time(NULL);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        if (strncmp(names[i], prefix, sizeof prefix - 1) == 0) {
            long long there = strtoll(names[i] + sizeof prefix - 1, NULL, 10);
            if (there >= *out && there < 9999999999)
                *out = there + 1;
        }
    dir_list_free(&names, n);
    return rc;
}

int events_open(EventFile **out, const char *dir, int64_t first_step, Err *err)
{
    EventFile *f = mem_calloc(1, sizeof *f, err);
    int64_t seconds = 0;
    int rc = f ? dir_make(dir, err) : ERR_NOMEM;

    if (rc == 0)
        rc = choose_seconds(dir, &seconds, err);
    if (rc == 0 && !(f->path = mem_printf(err, "%s/%s%010" PRId64 ".weft", dir, prefix, seconds)))
        rc = ERR_NOMEM;
    if (rc == 0 && !(f->out = fopen(f->path, "wbx")))
        rc = err_errno(err, errno, "making '%s'", f->path);
    if (rc == 0)
        rc = write_version(f, err);
    if (rc == 0 && first_step > 0)
        rc = write_start(f, first_step, err);
    if (rc < 0)
        events_close(&f);
    *out = f;
    return rc;
}

void events_close(EventFile **f)
{
    if (!*f)
        return;
    if ((*f)->out)
        fclose((*f)->out); /* flushed after every record */
    mem_free((*f)->path);
    mem_free(*f);
    *f = NULL;
}
