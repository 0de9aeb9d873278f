/* safetensors: the header checks of MODEL.md 1.2, which files of a folder hold the weights, the
 * sharded index, failing reads, and the writer. */
#include "check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/store/safetensors.h"

/* Every pread of this program, the library's included: fails with EIO when reads_left is 0. */
static int reads_left = -1;
ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    if (reads_left == 0) {
        errno = EIO;
        return -1;
    }
    reads_left -= reads_left > 0;
    return syscall(SYS_pread64, fd, buf, n, at);
}

/* A file image: length field n (-1: the header's own), header text, `data` bytes 0,1,2...; freed by
 * the caller. */
static uint8_t *image(int64_t n, const char *header, int64_t data, int64_t *size)
{
    int64_t h = (int64_t)strlen(header);
    uint64_t field = n < 0 ? (uint64_t)h : (uint64_t)n;
    uint8_t *b = malloc((size_t)(8 + h + data));
    assert_non_null(b);
    memcpy(b, &field, 8);
    memcpy(b + 8, header, (size_t)h);
    for (int64_t i = 0; i < data; i++)
        b[8 + h + i] = (uint8_t)i;
    *size = 8 + h + data;
    return b;
}

static int check_image(int64_t n, const char *header, int64_t data, Err *err)
{
    int64_t size;
    uint8_t *b = image(n, header, data, &size);
    int rc = safetensors_check(b, size, err);
    free(b);
    return rc;
}

typedef struct Case {
    int64_t n;
    const char *header;
    int64_t data;
    const char *fails; /* NULL: accepted */
} Case;

#define I32_2x2 "{\"a\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"
#define ENTRY(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define EMPTY_U8 "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}"
#define PAIR(o1, o2) "{\"a\":{\"dtype\":\"U8\",\"shape\":" o1 "},\"b\":{\"dtype\":\"U8\",\"shape\":" o2 "}}"

static const Case cases[] = {
    /* the numbers are rows of the table */
    /* 1 */ {2, "{}", 0, NULL},
    /* 2 */ {6, "{}    ", 0, NULL},
    /* 3 */ {-1, I32_2x2, 16, NULL},
    /* 4 */ {-1, I32_2x2, 15, "tensors cover 16 bytes, the file holds 15"},
    {-1, I32_2x2, 17, "tensors cover 16 bytes, the file holds 17"},
    /* 5 */ {-1, ENTRY("I32", "[]", "[0,4]"), 4, NULL},
    /* 6 */ {-1, ENTRY("F16", "[2,0]", "[0,0]"), 0, NULL},
    /* 7 */ {-1, ENTRY("I32", "[2,2]", "[0,4]"), 4, "data_offsets [0, 4] for 16 bytes"},
    /* 8 */ {-1, ENTRY("I32", "[2,18446744073709551614]", "[0,16]"), 16, "too big integer"},
    {-1, ENTRY("I32", "[2,9223372036854775807]", "[0,16]"), 16, "overflows"},
    {-1, ENTRY("I32", "[2,2305843009213693952]", "[0,16]"), 16, "overflows"},
    /* 9 */ {-1, PAIR("[4],\"data_offsets\":[0,4]", "[4],\"data_offsets\":[8,12]"), 12, "hole"},
    /* 10 */ {-1, PAIR("[8],\"data_offsets\":[0,8]", "[8],\"data_offsets\":[4,12]"), 12, "overlap"},
    /* 11 */ {(int64_t)1 << 40, "{}", 0, "no safetensors file"},
    {100000001, "{}", 0, "no safetensors file"},
    {-2, "{}", 0, NULL}, /* replaced by 2^64-1 below */
    /* 12 */ {100, "{}", 0, "header of 100 bytes in a file of 10"},
    /* 14 */ {1, "\xFF", 0, "header"},
    {-1, "{\"\xC3(\":1}", 0, "unable to decode byte 0xc3"},
    /* 15 */ {-1, ENTRY("U8", "[4]", "[4,0]"), 4, "data_offsets [4, 0]"},
    /* 16 */ {-1, ENTRY("F32", "[-1,4]", "[0,16]"), 16, "negative"},
    {-1, ENTRY("F32", "[2.0,2]", "[0,16]"), 16, "shape[0]"},
    {-1, ENTRY("F32", "[2e0,2]", "[0,16]"), 16, "shape[0]"},
    {-1, ENTRY("F32", "[-0,4]", "[0,0]"), 0, "negative"},
    {-1, ENTRY("F32", "[02,2]", "[0,16]"), 16, "header"},
    {-1, ENTRY("F32", "[+2,2]", "[0,16]"), 16, "header"},
    {-1, ENTRY("F32", "[2,2]", "[0,16.0]"), 16, "data_offsets[1]"},
    {-1, ENTRY("F32", "[2,2]", "[0,16,16]"), 16, "expected {dtype"},
    {-1, ENTRY("F32", "\"2\"", "[0,16]"), 16, "expected {dtype"},
    {-1, ENTRY("F31", "[2,2]", "[0,16]"), 16, "unknown dtype \"F31\""},
    {-1, "{\"a\":{\"shape\":[2,2],\"data_offsets\":[0,16]}}", 16, "expected {dtype"},
    {-1, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 16, "expected {dtype"},
    {-1, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2]}}", 16, "expected {dtype"},
    {-1, "{\"a\":7}", 0, "expected {dtype"},
    {-1, "[]", 0, "not an object"},
    {-1, "{} x", 0, "header"},
    {-1, "{", 0, "header"},
    {-1, "", 0, "header"},
    /* unknown extra fields inside an entry are ignored */
    {-1, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"note\":\"-}]{[\\\"\"}}", 1, NULL},
    /* 17 */ {-1, "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ \"a\""},
    {-1, "{\"__metadata__\":null}", 0, NULL},
    {-1, "{\"__metadata__\":[]}", 0, "__metadata__"},
    {-1, "{\"__metadata__\":{\"a\":\"1\"}}", 0, NULL},
    /* 18 */ {-1, "{\"a\":" EMPTY_U8 ",\"a\":" EMPTY_U8 "}", 0, "duplicate"},
    {-1, "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    /* 19 */ {-1, ENTRY("F4", "[3]", "[0,2]"), 2, "no whole bytes"},
    /* well-formed, but not a type Weft has */
    {-1, ENTRY("F8_E4M3", "[4]", "[0,4]"), 4, "not supported"},
    /* 5.3: names, depth, rank */
    {-1, "{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "empty name"},
    {-1, "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "header"},
    {-1, "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "header"},
    {-1, "{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, "deeper than 3"},
    {-1, ENTRY("U8", "[1,1,1,1,1,1,1,1]", "[0,1]"), 1, NULL},
    {-1, ENTRY("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "more than 8 numbers"},
};

static void header_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Case *c = &cases[i];
        Err err = {0};
        if (c->n == -2) { /* a length field of all ones */
            uint8_t b[10];
            memset(b, 0xFF, sizeof b);
            CHECK_FAILS(safetensors_check(b, sizeof b, &err), ERR_FORMAT, "no safetensors file", &err);
            continue;
        }
        int rc = check_image(c->n, c->header, c->data, &err);
        if (c->fails ? rc >= 0 || !strstr(err.msg, c->fails) : rc != 0)
            fail_msg("%.120s with %lld bytes: expected %s, got %d \"%s\"", c->header, (long long)c->data,
                     c->fails ? c->fails : "success", rc, err.msg);
    }
}

static void short_files(void **state) /* row 13 */
{
    (void)state;
    for (int64_t n = 0; n < 8; n++) {
        Err err = {0};
        const uint8_t zeros[8] = {0};
        CHECK_FAILS(safetensors_check(zeros, n, &err), ERR_FORMAT, "too short", &err);
    }
}

static void long_names_and_many_tensors(void **state)
{
    (void)state;
    Err err = {0};
    char *name = malloc(4098), *header = malloc(4300);
    memset(name, 'n', 4097);
    name[4097] = '\0';
    snprintf(header, 4300, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    CHECK_FAILS(check_image(-1, header, 0, &err), ERR_FORMAT, "at most 4096", &err);
    name[4096] = '\0';
    snprintf(header, 4300, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    CHECK_OK(check_image(-1, header, 0, &err), &err);
    free(name);
    free(header);
    /* a million and a few objects: refused before the JSON is built */
    int64_t n = 1000010;
    char *many = malloc((size_t)n * 7 + 16), *p = many;
    *p++ = '{';
    for (int64_t i = 0; i < n; i++)
        p += sprintf(p, "%s\"\":{}", i ? "," : "");
    strcpy(p, "}");
    CHECK_FAILS(check_image(-1, many, 0, &err), ERR_LIMIT, "more than 1000000 tensors", &err);
    free(many);
}

static char *write_image(const char *name, const char *header, int64_t data)
{
    int64_t size;
    Err err = {0};
    uint8_t *b = image(-1, header, data, &size);
    char *path = check_tmp_path(name);
    CHECK_OK(file_write_atomic(path, b, size, &err), &err);
    free(b);
    return path;
}

static void unaligned_data(void **state) /* row 20 */
{
    (void)state;
    Err err = {0};
    SafeTensors *s = NULL;
    const char *header = ENTRY("F32", "[1]", "[0,4]") " ";
    if (strlen(header) % 2 == 0)
        header = ENTRY("F32", "[1]", "[0,4]");
    assert_int_equal(strlen(header) % 2, 1);
    CHECK_OK(safetensors_open(&s, write_image("odd.safetensors", header, 4), &err), &err);
    const SafeEntry *e = safetensors_find(s, "a");
    assert_non_null(e);
    assert_int_equal((uintptr_t)e->tensor.data % 2, 1);
    const uint8_t want[4] = {0, 1, 2, 3};
    assert_memory_equal(e->tensor.data, want, 4);
    assert_null(safetensors_find(s, "b"));
    safetensors_close(&s);
    assert_null(s);
    safetensors_close(&s);
}

static void refuses_non_files(void **state)
{
    (void)state;
    Err err = {0};
    SafeTensors *s = NULL;
    CHECK_FAILS(safetensors_open(&s, check_tmp_path("absent"), &err), ERR_NOTFOUND, "absent", &err);
    CHECK_FAILS(safetensors_open(&s, check_tmp(), &err), ERR_FORMAT, "not a regular file", &err);
    assert_int_equal(mkfifo(check_tmp_path("fifo"), 0600), 0); /* refused at once, not waited for */
    CHECK_FAILS(safetensors_open(&s, check_tmp_path("fifo"), &err), ERR_FORMAT, "not a regular file", &err);
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3387\n";
    char *lfs = check_tmp_path("lfs.safetensors");
    CHECK_OK(file_write_atomic(lfs, pointer, sizeof pointer - 1, &err), &err);
    CHECK_FAILS(safetensors_open(&s, lfs, &err), ERR_FORMAT, "lfs.safetensors' is a Git LFS pointer", &err);
    char *empty = check_tmp_path("empty.safetensors");
    CHECK_OK(file_write_atomic(empty, "", 0, &err), &err);
    CHECK_FAILS(safetensors_open(&s, empty, &err), ERR_FORMAT, "too short", &err);
    CHECK_FAILS(safetensors_open(&s, write_image("bad.safetensors", "{", 0), &err), ERR_FORMAT, "bad.safetensors",
                &err);
    assert_null(s);
}

/* An I/O error while the header is read is an error, whichever read it hits. */
static void read_errors(void **state)
{
    (void)state;
    Err err = {0};
    SafeTensors *s = NULL;
    char *path = write_image("eio.safetensors", I32_2x2, 16);
    for (int left = 0; left < 2; left++) {
        reads_left = left;
        CHECK_FAILS(safetensors_open(&s, path, &err), ERR_IO, "reading", &err);
        assert_null(s);
    }
    reads_left = -1;
    CHECK_OK(safetensors_open(&s, path, &err), &err);
    safetensors_close(&s);
}

static void writes_and_reads_back(void **state)
{
    (void)state;
    Err err = {0};
    float f[6] = {1, 2, 3, 4, 5, NAN};
    uint16_t h[2] = {0x3C00, 0xC000};
    int64_t big = -5;
    const SafeSource src[] = {
        {"z.half", tensor_of(h, DT_BF16, 1, 2)},     {"a.byte", tensor_of("\x07", DT_U8, 0, 0)},
        {"m", tensor_of(f, DT_F32, 2, 2, 3)},        {"b.long", tensor_of(&big, DT_I64, 1, 1)},
        {"empty", tensor_of(NULL, DT_F16, 2, 0, 3)}, {"caf\xC3\xA9 \"q\"", tensor_of(f, DT_F32, 1, 1)},
    };
    json_t *meta = json_pack("{s:s}", "format", "pt");
    char *path = check_tmp_path("w.safetensors");
    CHECK_OK(safetensors_write(path, src, 6, meta, &err), &err);
    json_decref(meta);
    char *bytes = NULL;
    int64_t size = 0;
    CHECK_OK(file_read(path, 1 << 20, &bytes, &size, &err), &err);
    uint64_t n;
    memcpy(&n, bytes, 8);
    assert_int_equal(n % 8, 0);
    assert_int_equal(bytes[8], '{');
    assert_ptr_equal(strstr(bytes + 8, "__metadata__"), bytes + 10);
    mem_free(bytes);

    SafeTensors *s = NULL;
    CHECK_OK(safetensors_open(&s, path, &err), &err);
    assert_int_equal(safetensors_count(s), 6);
    assert_string_equal(safetensors_meta(s, "format"), "pt");
    assert_null(safetensors_meta(s, "other"));
    for (int64_t i = 1; i < 6; i++)
        assert_true(strcmp(safetensors_at(s, i - 1)->name, safetensors_at(s, i)->name) < 0);
    for (int i = 0; i < 6; i++) {
        const SafeEntry *e = safetensors_find(s, src[i].name);
        assert_non_null(e);
        assert_int_equal(e->tensor.dtype, src[i].tensor.dtype);
        assert_true(tensor_same_shape(&e->tensor, &src[i].tensor));
        if (tensor_bytes(&e->tensor))
            assert_memory_equal(e->tensor.data, src[i].tensor.data, (size_t)tensor_bytes(&e->tensor));
        /* widest first: aligned */
        assert_int_equal((uintptr_t)e->tensor.data % (uintptr_t)dtype_size(e->tensor.dtype), 0);
    }
    safetensors_close(&s);

    /* the same content again gives the same file; nothing is left behind by a refusal */
    CHECK_FAILS(safetensors_write(path, (SafeSource[]){src[0], src[0]}, 2, NULL, &err), ERR_USAGE, "given twice", &err);
    SafeSource bad = {"__metadata__", src[0].tensor};
    CHECK_FAILS(safetensors_write(path, &bad, 1, NULL, &err), ERR_USAGE, "no name for a tensor", &err);
    CHECK_OK(safetensors_open(&s, path, &err), &err);
    assert_int_equal(safetensors_count(s), 6);
    safetensors_close(&s);
    CHECK_OK(safetensors_write(path, NULL, 0, NULL, &err), &err);
    CHECK_OK(safetensors_open(&s, path, &err), &err);
    assert_int_equal(safetensors_count(s), 0);
    safetensors_close(&s);
}

/* ---- sharded folders ------------------------------------------------------------------------- */

#define U8_ONE(name, at, end) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" at "," end "]}"

static int n_warnings;
static char last_line[1024];
static void count_warning(void *user, LogLevel level, const char *line)
{
    (void)user;
    snprintf(last_line, sizeof last_line, "%s", line);
    if (level == LOG_WARN)
        n_warnings++;
}
static const Log counting = {.write = count_warning, .level = LOG_INFO};

static char *fresh_folder(const char *name, const char *index)
{
    Err err = {0};
    char *dir = check_tmp_path(name), path[1024];
    CHECK_OK(dir_make(dir, &err), &err);
    snprintf(path, sizeof path, "%s/model-1.safetensors", name);
    write_image(path, "{" U8_ONE("b", "0", "1") "," U8_ONE("d", "1", "2") "}", 2);
    snprintf(path, sizeof path, "%s/model-2.safetensors", name);
    write_image(path, "{\"__metadata__\":{\"k\":\"v\"}," U8_ONE("a", "0", "1") "," U8_ONE("c", "1", "2") "}", 2);
    if (index) {
        snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
        CHECK_OK(file_write_atomic(path, index, (int64_t)strlen(index), &err), &err);
    }
    return dir;
}

#define MAP(total, ...) "{\"metadata\":{\"total_size\":" total "},\"weight_map\":{" __VA_ARGS__ "}}"
#define ABCD                                                                                                     \
    "\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\",\"d\":\"model-1." \
    "safetensors\""

static void sharded_folder(void **state)
{
    (void)state;
    Err err = {0};
    SafeTensors *s = NULL, *one = NULL;
    n_warnings = 0;
    CHECK_OK(safetensors_open_folder(&s, fresh_folder("shards", MAP("4", ABCD)), "model", &counting, &err), &err);
    assert_int_equal(n_warnings, 0);
    assert_int_equal(safetensors_count(s), 4);
    assert_string_equal(safetensors_at(s, 0)->name, "a");
    assert_int_equal(*(uint8_t *)safetensors_find(s, "d")->tensor.data, 1);
    assert_string_equal(safetensors_meta(s, "k"), "v");

    /* the digest sees names, types, shapes and bytes, not the layout in files */
    char split[65], whole[65];
    CHECK_OK(safetensors_digest(s, split, &err), &err);
    SafeSource src[4];
    for (int i = 0; i < 4; i++)
        src[i] = (SafeSource){safetensors_at(s, i)->name, safetensors_at(s, i)->tensor};
    char *path = check_tmp_path("one/model.safetensors");
    CHECK_OK(dir_make(check_tmp_path("one"), &err), &err);
    CHECK_OK(safetensors_write(path, src, 4, NULL, &err), &err);
    CHECK_OK(safetensors_open_folder(&one, check_tmp_path("one"), "model", NULL, &err), &err);
    CHECK_OK(safetensors_digest(one, whole, &err), &err);
    assert_string_equal(split, whole);
    safetensors_close(&one);
    src[0].tensor.dtype = DT_I8;
    CHECK_OK(safetensors_write(path, src, 4, NULL, &err), &err);
    CHECK_OK(safetensors_open(&one, path, &err), &err);
    CHECK_OK(safetensors_digest(one, whole, &err), &err);
    assert_string_not_equal(split, whole);
    safetensors_close(&one);
    safetensors_close(&s);

    CHECK_OK(safetensors_open_folder(&s, fresh_folder("total", MAP("5.0", ABCD)), "model", &counting, &err), &err);
    assert_int_equal(n_warnings, 1);
    safetensors_close(&s);
    char *dir = fresh_folder("unlisted", "{\"weight_map\":{\"a\":\"model-2.safetensors\"}}");
    CHECK_OK(safetensors_open_folder(&s, dir, "model", &counting, &err), &err);
    assert_int_equal(n_warnings, 2);
    assert_int_equal(safetensors_count(s), 1);
    safetensors_close(&s);
}

static void bad_index(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        int code;
        const char *part;
    } bad[] = {
        {MAP("4", "\"a\":\"../model-2.safetensors\""), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":\"/etc/passwd\""), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":\"..\""), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":\"x\\\\y\""), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":\"\""), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":3"), ERR_FORMAT, "plain file name"},
        {MAP("4", "\"a\":\"model-9.safetensors\""), ERR_NOTFOUND, "model-9.safetensors"},
        {MAP("4", "\"a\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\""), ERR_FORMAT, "'a'"},
        {MAP("4", ABCD ",\"x\":\"model-1.safetensors\",\"y\":\"model-2.safetensors\""), ERR_FORMAT,
         "2 tensors of the index are missing: 'x'"},
        {"{\"metadata\":{}}", ERR_FORMAT, "weight_map"},
        {"[]", ERR_FORMAT, "weight_map"},
        {"{", ERR_FORMAT, "index.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Err err = {0};
        SafeTensors *s = NULL;
        char name[32];
        snprintf(name, sizeof name, "bad%zu", i);
        char *dir = fresh_folder(name, bad[i].index);
        CHECK_FAILS(safetensors_open_folder(&s, dir, "model", NULL, &err), bad[i].code, bad[i].part, &err);
        assert_null(s);
    }
    Err err = {0};
    SafeTensors *s = NULL;
    char *dir = fresh_folder("none", NULL);
    CHECK_FAILS(safetensors_open_folder(&s, dir, "model", NULL, &err), ERR_NOTFOUND, "neither model.safetensors", &err);
    CHECK_FAILS(safetensors_open_folder(&s, check_tmp_path("nowhere"), "model", NULL, &err), ERR_NOTFOUND, "nowhere",
                &err);
}

/* Writes DIR/NAME with one U8 tensor "a" of that value. */
static void one_tensor(const char *dir, const char *name, uint8_t value)
{
    Err err = {0};
    char path[512];
    const int64_t dim[] = {1};
    SafeSource source = {"a", tensor_view(&value, DT_U8, 1, dim)};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(safetensors_write(path, &source, 1, NULL, &err), &err);
}

static void text_file(const char *dir, const char *name, const char *text)
{
    Err err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
}

static char *empty_folder(const char *name)
{
    Err err = {0};
    char *dir = check_tmp_path(name);
    CHECK_OK(dir_make(dir, &err), &err);
    return dir;
}

static void first_value_is(const char *dir, const char *stem, uint8_t want)
{
    Err err = {0};
    SafeTensors *s = NULL;
    CHECK_OK(safetensors_open_folder(&s, dir, stem, &counting, &err), &err);
    assert_int_equal(*(uint8_t *)safetensors_find(s, "a")->tensor.data, want);
    safetensors_close(&s);
}

/* An older single file beside a newer sharded save: diffusers reads the index, transformers the
 * single file. */
static void stale_single_file(void **state)
{
    (void)state;
    char *dir = empty_folder("stale");
    static const char *const stems[] = {"diffusion_pytorch_model", "model"};
    for (int i = 0; i < 2; i++) {
        char name[128], index[256];
        snprintf(name, sizeof name, "%s.safetensors", stems[i]);
        one_tensor(dir, name, 1);
        snprintf(name, sizeof name, "%s-00001-of-00001.safetensors", stems[i]);
        one_tensor(dir, name, 2);
        snprintf(index, sizeof index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"a\":\"%s\"}}", name);
        snprintf(name, sizeof name, "%s.safetensors.index.json", stems[i]);
        text_file(dir, name, index);
        n_warnings = 0;
        first_value_is(dir, stems[i], i == 0 ? 2 : 1);
        assert_int_equal(n_warnings, 1);
        assert_non_null(strstr(last_line, i == 0 ? "index.json is read, as diffusers does"
                                                 : "model.safetensors is read, as transformers does"));
        snprintf(name, sizeof name, "both %s.safetensors and %s.safetensors.index.json", stems[i], stems[i]);
        assert_non_null(strstr(last_line, name));
        first_value_is(dir, stems[i], i == 0 ? 2 : 1);
        assert_int_equal(n_warnings, 1); /* a run opens a folder several times, and warns once */
    }
}

static void variants_and_other_formats(void **state)
{
    (void)state;
    Err err = {0};
    SafeTensors *s = NULL;
    char *dir = empty_folder("fp16");
    one_tensor(dir, "model.fp16.safetensors", 7);
    text_file(dir, "model.notes.txt", "");
    first_value_is(dir, "model", 7);
    assert_non_null(strstr(last_line, "fp16 variant"));
    one_tensor(dir, "model.ema.safetensors", 8);
    CHECK_FAILS(safetensors_open_folder(&s, dir, "model", NULL, &err), ERR_USAGE, "several variants of it (ema, fp16)",
                &err);
    one_tensor(dir, "model.safetensors", 9);
    first_value_is(dir, "model", 9);

    dir = empty_folder("fp16-shards");
    one_tensor(dir, "diffusion_pytorch_model.fp16-00001-of-00001.safetensors", 5);
    CHECK_FAILS(safetensors_open_folder(&s, dir, "diffusion_pytorch_model", NULL, &err), ERR_NOTFOUND,
                "it holds diffusion_pytorch_model.fp16-00001-of-00001.safetensors", &err);
    text_file(dir, "diffusion_pytorch_model.safetensors.index.fp16.json",
              "{\"weight_map\":{\"a\":\"diffusion_pytorch_model.fp16-00001-of-00001.safetensors\"}}");
    first_value_is(dir, "diffusion_pytorch_model", 5);

    dir = empty_folder("bin");
    text_file(dir, "pytorch_model.bin", "PK");
    text_file(dir, "config.json", "{}");
    CHECK_FAILS(safetensors_open_folder(&s, dir, "model", NULL, &err), ERR_NOTFOUND,
                "it holds config.json, pytorch_model.bin. pytorch_model.bin is a PyTorch pickle", &err);
    CHECK_FAILS(safetensors_open_folder(&s, empty_folder("empty"), "model", NULL, &err), ERR_NOTFOUND, "it is empty",
                &err);
}

/* The digest of unchanged files is read from memory; any change, and a damaged memory, costs a reading. */
static int readings;

static void count_readings(void *user, LogLevel level, const char *line)
{
    (void)user;
    (void)level;
    readings += strstr(line, "reading the weights of") != NULL;
}

static void digest_now(const char *memory, char hex[65], int want_reading)
{
    static const Log log = {.write = count_readings, .level = LOG_INFO};
    SafeTensors *s = NULL;
    Err err = {0};
    readings = 0;
    CHECK_OK(safetensors_open_folder(&s, check_tmp_path("weights"), "model", NULL, &err), &err);
    CHECK_OK(safetensors_digest_once(s, "weights", memory, hex, &log, &err), &err);
    safetensors_close(&s);
    assert_int_equal(readings, want_reading);
}

static void digests_are_remembered(void **state)
{
    (void)state;
    Err err = {0};
    float value[2] = {1, 2};
    SafeSource one = {"w", tensor_of(value, DT_F32, 1, 2)};
    const char *path = check_tmp_path("weights/model.safetensors"), *memory = check_tmp_path("memory");
    char first[65], again[65];
    CHECK_OK(dir_make(check_tmp_path("weights"), &err), &err);
    CHECK_OK(dir_make(memory, &err), &err);
    CHECK_OK(safetensors_write(path, &one, 1, NULL, &err), &err);
    digest_now(memory, first, 1);
    digest_now(memory, again, 1); /* it changed just now: not remembered */
    usleep(2100000);
    digest_now(NULL, again, 1);
    digest_now(memory, again, 1);
    assert_string_equal(again, first);
    digest_now(memory, again, 0);
    assert_string_equal(again, first);
    digest_now(check_tmp_path("absent"), again, 1);
    CHECK_OK(file_write_atomic(check_tmp_path("memory/.weights"), "weft weights 1 0\n{}", 19, &err), &err);
    digest_now(memory, again, 1);
    digest_now(memory, again, 0);
    /* a hard link changes the ctime: kept over it, and only over it */
    const char *second = check_tmp_path("weights/second");
    SafeTensors *s = NULL;
    DigestHold hold;
    CHECK_OK(safetensors_open_folder(&s, check_tmp_path("weights"), "model", NULL, &err), &err);
    CHECK_OK(safetensors_digest_hold(s, memory, &hold, &err), &err);
    assert_string_equal(hold.hex, first);
    assert_int_equal(link(path, second), 0);
    CHECK_OK(safetensors_digest_keep(s, memory, &hold, &err), &err);
    digest_now(memory, again, 0);
    assert_string_equal(again, first);
    assert_int_equal(unlink(second), 0);
    CHECK_OK(safetensors_digest_hold(s, memory, &hold, &err), &err); /* the link is gone: no longer known */
    assert_string_equal(hold.hex, "");
    usleep(2100000);
    digest_now(memory, again, 1);
    CHECK_OK(safetensors_digest_hold(s, memory, &hold, &err), &err);
    assert_string_equal(hold.hex, first);
    value[0] = 7;
    CHECK_OK(safetensors_write(path, &one, 1, NULL, &err), &err);
    CHECK_OK(safetensors_digest_keep(s, memory, &hold, &err), &err);
    digest_now(memory, again, 1);
    assert_string_not_equal(again, first);
    safetensors_close(&s);
    struct stat before;
    assert_int_equal(stat(path, &before), 0);
    value[1] = 3;
    CHECK_OK(safetensors_write(path, &one, 1, NULL, &err), &err);
    struct timespec times[2] = {before.st_atim, before.st_mtim}; /* the old mtime: the ctime tells */
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    digest_now(memory, again, 1);
    assert_string_not_equal(again, first);
}

/* Pages of the file are read again; other memory must not be given back, since it would come back as
 * zeros. */
static void forgets_pages_of_the_file_alone(void **state)
{
    enum { N = 1 << 16 };
    Err err = {0};
    SafeTensors *s = NULL;
    float *x = mem_alloc_aligned(N * (int64_t)sizeof *x, &err), sum = 0;
    const char *path = check_tmp_path("pages.safetensors");
    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    SafeSource source = {.name = "x", .tensor = tensor_of(x, DT_F32, 1, N)};
    CHECK_OK(safetensors_write(path, &source, 1, NULL, &err), &err);
    CHECK_OK(safetensors_open(&s, path, &err), &err);
    const SafeEntry *e = safetensors_find(s, "x"), elsewhere = {.name = "x", .tensor = source.tensor};
    safetensors_forget(s, e);
    safetensors_forget(s, &elsewhere);
    assert_memory_equal(e->tensor.data, x, N * sizeof *x);
    for (int i = 0; i < N; i++)
        sum += x[i] != (float)i;
    assert_true(sum == 0);
    safetensors_close(&s);
    mem_free_aligned(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_table),
        cmocka_unit_test(short_files),
        cmocka_unit_test(long_names_and_many_tensors),
        cmocka_unit_test(unaligned_data),
        cmocka_unit_test(refuses_non_files),
        cmocka_unit_test(writes_and_reads_back),
        cmocka_unit_test(sharded_folder),
        cmocka_unit_test(bad_index),
        cmocka_unit_test(read_errors),
        cmocka_unit_test(stale_single_file),
        cmocka_unit_test(variants_and_other_formats),
        cmocka_unit_test(digests_are_remembered),
        cmocka_unit_test(forgets_pages_of_the_file_alone),
    };
    return check_run_live("store_safetensors", tests);
}
