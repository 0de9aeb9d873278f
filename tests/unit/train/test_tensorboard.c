/* Event files: read again here by a reader of its own, checksums and all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "train/tensorboard.h"

static Err err;

/* RFC 3720, appendix B.4, and the check value of the catalogue of CRCs. */
static void crc_of_known_blocks(void **state)
{
    uint8_t block[32];

    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c("", 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(crc32c(block, 32), 0x8a9136aau);
    memset(block, 255, sizeof block);
    assert_int_equal(crc32c(block, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    assert_int_equal(crc32c(block, 32), 0x46dd794eu);
    /* what TensorFlow's crc32c::Mask makes of that of "foo" (crc32c_test.cc asserts that the two differ) */
    assert_int_equal(crc32c_masked("123456789", 9), (0xe3069283u >> 15 | 0xe3069283u << 17) + 0xa282ead8u);
}

/* ---- a reader -------------------------------------------------------------------------------- */

typedef struct Bytes {
    const uint8_t *at, *end;
} Bytes;

static uint64_t little(Bytes *b, int n)
{
    uint64_t x = 0;

    assert_true(b->end - b->at >= n);
    for (int i = 0; i < n; i++)
        x |= (uint64_t)*b->at++ << 8 * i;
    return x;
}

/* CRC-32C with the bits of every byte turned round and the highest first. */
static uint32_t other_crc(const uint8_t *p, int64_t n)
{
    uint32_t crc = ~0u, out = 0;

    for (int64_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint32_t top = crc >> 31 ^ (p[i] >> bit & 1u);
            crc = crc << 1 ^ (top ? 0x1edc6f41u : 0);
        }
    for (int bit = 0; bit < 32; bit++)
        out |= (crc >> bit & 1u) << (31 - bit);
    return ~out;
}

static void check_crc(uint32_t stored, const uint8_t *p, int64_t n)
{
    uint32_t crc = stored - 0xa282ead8u;

    assert_int_equal((uint32_t)(crc << 15 | crc >> 17), other_crc(p, n));
}

static int next_record(Bytes *file, Bytes *event)
{
    const uint8_t *head = file->at;
    uint64_t length;

    if (file->at == file->end)
        return 0;
    length = little(file, 8);
    check_crc((uint32_t)little(file, 4), head, 8);
    assert_true((uint64_t)(file->end - file->at) >= length + 4);
    *event = (Bytes){file->at, file->at + length};
    file->at += length;
    check_crc((uint32_t)little(file, 4), event->at, (int64_t)length);
    return 1;
}

static uint64_t varint(Bytes *b)
{
    uint64_t x = 0;
    int shift = 0, more = 1;

    while (more) {
        uint64_t byte = little(b, 1);
        x |= (byte & 127) << shift;
        shift += 7;
        more = byte > 127;
    }
    return x;
}

/* The value of a message's field: a number's bits, or bytes. */
typedef struct Field {
    uint64_t number, bits;
    Bytes bytes;
} Field;

static int next_field(Bytes *b, Field *f)
{
    uint64_t key;

    if (b->at == b->end)
        return 0;
    key = varint(b);
    *f = (Field){.number = key >> 3};
    switch (key & 7) {
    case 0: f->bits = varint(b); break;
    case 1: f->bits = little(b, 8); break;
    case 5: f->bits = little(b, 4); break;
    default:
        assert_int_equal(key & 7, 2);
        key = varint(b);
        assert_true((uint64_t)(b->end - b->at) >= key);
        f->bytes = (Bytes){b->at, b->at + key};
        b->at += key;
    }
    return 1;
}

static Field field(Bytes message, uint64_t number)
{
    Field f;

    while (next_field(&message, &f))
        if (f.number == number)
            return f;
    fail_msg("no field %d", (int)number);
    return f;
}

static void check_text(Bytes b, const char *want)
{
    assert_int_equal(b.end - b.at, strlen(want));
    assert_memory_equal(b.at, want, strlen(want));
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The n-th file of the folder, in the order of the names. */
static Bytes read_file(const char *dir, int64_t n_th, int64_t files)
{
    char **names = NULL, *path, *text = NULL;
    int64_t n = 0, size = 0;

    CHECK_OK(dir_list(dir, &names, &n, &err), &err);
    assert_int_equal(n, files);
    assert_non_null(path = path_join(dir, names[n_th], &err));
    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    mem_free(path);
    dir_list_free(&names, n);
    return (Bytes){(const uint8_t *)text, (const uint8_t *)text + size};
}

static void check_version(Bytes *file)
{
    Bytes event;

    assert_true(next_record(file, &event));
    check_text(field(event, 3).bytes, "brain.Event:2");
}

static float as_float(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float x;

    memcpy(&x, &low, sizeof x);
    return x;
}

static void events_are_read_again(void **state)
{
    static const EventScalar two[] = {{"train/loss", 0.125}, {"train/lr", 5e-6}};
    const char *dir = check_tmp_path("whole/events"), png[] = "\x89PNG with a NUL \0 inside";
    EventFile *f = NULL;
    Bytes file, event, summary, image, start;
    double when;
    Field v;

    (void)state;
    CHECK_OK(events_open(&f, dir, 0, &err), &err);
    CHECK_OK(events_scalars(f, 300, two, 2, &err), &err);
    CHECK_OK(events_image(f, 70000, "sample/0", png, sizeof png, 64, 300, &err), &err);
    events_close(&f);
    file = start = read_file(dir, 0, 1);
    check_version(&file);

    assert_true(next_record(&file, &event));
    assert_int_equal(field(event, 2).bits, 300);
    memcpy(&when, &(uint64_t){field(event, 1).bits}, sizeof when);
    assert_true(when > 1.5e9 && when < 1e11);
    summary = field(event, 5).bytes;
    for (int i = 0; i < 2; i++) {
        assert_true(next_field(&summary, &v));
        assert_int_equal(v.number, 1);
        check_text(field(v.bytes, 1).bytes, two[i].tag);
        assert_true(as_float(field(v.bytes, 2).bits) == (float)two[i].value);
    }
    assert_true(summary.at == summary.end);

    assert_true(next_record(&file, &event));
    assert_int_equal(field(event, 2).bits, 70000);
    v = field(field(event, 5).bytes, 1);
    check_text(field(v.bytes, 1).bytes, "sample/0");
    image = field(v.bytes, 4).bytes;
    assert_int_equal(field(image, 1).bits, 300);
    assert_int_equal(field(image, 2).bits, 64);
    assert_int_equal(field(image, 3).bits, 3);
    assert_int_equal(field(image, 4).bytes.end - field(image, 4).bytes.at, sizeof png);
    assert_memory_equal(field(image, 4).bytes.at, png, sizeof png);
    assert_false(next_record(&file, &event));
    mem_free((void *)(uintptr_t)start.at);
}

/* A later file has a later name, even in the same second, and says from which step on older points are
 * forgotten. */
static void a_resume_starts_anew(void **state)
{
    const char *dir = check_tmp_path("resumed");
    EventFile *f = NULL;
    Bytes file, event, start;

    (void)state;
    for (int64_t first = 0; first < 36; first += 12) {
        CHECK_OK(events_open(&f, dir, first, &err), &err);
        events_close(&f);
    }
    for (int i = 0; i < 3; i++) {
        file = start = read_file(dir, i, 3);
        check_version(&file);
        if (i) {
            assert_true(next_record(&file, &event));
            assert_int_equal(field(event, 2).bits, 12 * i);
            assert_int_equal(field(field(event, 7).bytes, 1).bits, 1); /* START */
        }
        assert_false(next_record(&file, &event));
        mem_free((void *)(uintptr_t)start.at);
    }
}

static void what_cannot_be_written(void **state)
{
    char *path = check_tmp_path("a-file");
    EventFile *f = NULL;

    (void)state;
    CHECK_OK(file_write_atomic(path, "x", 1, &err), &err);
    CHECK_FAILS(events_open(&f, path, 0, &err), ERR_IO, "a-file", &err);
    assert_null(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_known_blocks),
        cmocka_unit_test(events_are_read_again),
        cmocka_unit_test(a_resume_starts_anew),
        cmocka_unit_test(what_cannot_be_written),
    };

    return check_run_live("tensorboard", tests);
}
