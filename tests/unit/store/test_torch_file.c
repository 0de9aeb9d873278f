/* PyTorch's files: what torch.save and torch.jit.save write (tests/golden/torch_file, made by
 * tests/golden/make_torch_files.py), and hostile ones, which are refused with a sentence. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/store/torch_file.h"

static const char *golden(const char *name)
{
    return check_path(check_repo_path("tests/golden/torch_file"), name);
}

static double value(const Tensor *t, int64_t i)
{
    const void *p = (const char *)t->data + i * dtype_size(t->dtype);
    switch (t->dtype) {
    case DT_I64: return (double)*(const int64_t *)p;
    case DT_U16: return *(const uint16_t *)p;
    case DT_U8:
    case DT_BOOL: return *(const uint8_t *)p;
    default: return tensor_get(t, i);
    }
}

/* The tensor called `name` is of that type and shape, and its element i is values[i], or first + i. */
static void has(const SafeTensors *s, const char *name, const char *shape, double first, const double *values)
{
    char found[160];
    const SafeEntry *e = safetensors_find(s, name);
    if (!e)
        fail_msg("%s is missing", name);
    assert_string_equal(tensor_describe(&e->tensor, found, sizeof found), shape);
    /* through a copy: a stream's tensors may lie anywhere */
    Tensor t = e->tensor;
    void *copy = t.data = malloc((size_t)tensor_bytes(&t) + 1);
    memcpy(copy, e->tensor.data, (size_t)tensor_bytes(&t));
    for (int64_t i = 0; i < tensor_count(&t); i++)
        if (value(&t, i) != (values ? values[i] : first + (double)i))
            fail_msg("%s[%d] is %g", name, (int)i, value(&t, i));
    free(copy);
}

static void has_all(const char *name)
{
    static const double flags[] = {1, 0, 1}, column[] = {101, 104, 107, 110},
                        turned[] = {100, 103, 106, 109, 101, 104, 107, 110, 102, 105, 108, 111};
    SafeTensors *s = NULL;
    Err err = {0};
    CHECK_OK(torch_file_open(&s, golden(name), &err), &err);
    assert_int_equal(safetensors_count(s), 14);
    has(s, "f32", "F32 [2, 3]", 0, NULL);
    has(s, "f16", "F16 [3]", 10, NULL);
    has(s, "bf16", "BF16 [2, 2]", 20, NULL);
    has(s, "f64", "F64 [2]", 30, NULL);
    has(s, "i64", "I64 []", 7, NULL);
    has(s, "u8", "U8 [5]", 1, NULL);
    has(s, "bool", "BOOL [3]", 0, flags);
    has(s, "u16", "U16 [3]", 40, NULL);
    has(s, "base", "F32 [4, 3]", 100, NULL);
    has(s, "rows", "F32 [2, 3]", 103, NULL);
    has(s, "transposed", "F32 [3, 4]", 0, turned);
    has(s, "column", "F32 [4]", 0, column);
    has(s, "empty", "F32 [0, 3]", 0, NULL);
    has(s, "parameter", "F32 [2, 2]", 50, NULL);
    /* one storage, one piece of memory */
    assert_ptr_equal((const char *)safetensors_find(s, "base")->tensor.data + 12,
                     safetensors_find(s, "rows")->tensor.data);
    safetensors_close(&s);
}

static void archives_and_streams(void **state)
{
    (void)state;
    has_all("zip.pt");
    has_all("zip_protocol4.pt");
    has_all("stream.pth");
}

/* The state dict in a checkpoint, its "module." left out. */
static void nested(void **state)
{
    (void)state;
    SafeTensors *s = NULL;
    Err err = {0};
    CHECK_OK(torch_file_open(&s, golden("nested.pt"), &err), &err);
    assert_int_equal(safetensors_count(s), 2);
    has(s, "w", "F32 [2, 3]", 0, NULL);
    has(s, "b", "F32 [2]", 6, NULL);
    safetensors_close(&s);
}

/* The names are those of state_dict(), in whose order the script filled the tensors. */
static void scripts(void **state)
{
    (void)state;
    SafeTensors *s = NULL;
    Err err = {0};
    CHECK_OK(torch_file_open(&s, golden("script.pt"), &err), &err);
    assert_int_equal(safetensors_count(s), 8);
    has(s, "fc.bias", "F32 [3]", 0, NULL);
    has(s, "fc.weight", "F32 [3, 2]", 100, NULL);
    has(s, "first.bn.bias", "F32 [3]", 200, NULL);
    has(s, "first.bn.num_batches_tracked", "I64 []", 300, NULL);
    has(s, "first.bn.running_mean", "F32 [3]", 400, NULL);
    has(s, "first.bn.running_var", "F32 [3]", 500, NULL);
    has(s, "first.bn.weight", "F32 [3]", 600, NULL);
    has(s, "first.conv.weight", "F32 [3, 2, 1, 1]", 700, NULL);
    safetensors_close(&s);
}

static void refused_files(void **state)
{
    (void)state;
    SafeTensors *s = NULL;
    Err err = {0};
    CHECK_FAILS(torch_file_open(&s, golden("frozen.pt"), &err), ERR_FORMAT, "frozen", &err);
    CHECK_FAILS(torch_file_open(&s, golden("module.pt"), &err), ERR_UNSUPPORTED,
                "it names 'torch.nn.modules.linear.Linear', which is no tensor and no dictionary, and no code is run",
                &err);
    CHECK_FAILS(torch_file_open(&s, golden("quantised.pt"), &err), ERR_UNSUPPORTED, "'torch._utils._rebuild_qtensor'",
                &err);
    CHECK_FAILS(torch_file_open(&s, golden("sparse.pt"), &err), ERR_UNSUPPORTED, "_rebuild_sparse_tensor", &err);
    CHECK_FAILS(torch_file_open(&s, golden("complex.pt"), &err), ERR_UNSUPPORTED, "'torch.ComplexFloatStorage'", &err);
    CHECK_FAILS(torch_file_open(&s, golden("tensor.pt"), &err), ERR_FORMAT, "a single tensor without a name", &err);
    CHECK_FAILS(torch_file_open(&s, golden("absent.pt"), &err), ERR_NOTFOUND, "absent.pt", &err);
    CHECK_FAILS(torch_file_open(&s, check_tmp(), &err), ERR_FORMAT, "not a regular file", &err);
    assert_int_equal(mkfifo(check_tmp_path("fifo.pt"), 0600), 0);
    CHECK_FAILS(torch_file_open(&s, check_tmp_path("fifo.pt"), &err), ERR_FORMAT, "not a regular file", &err);
    CHECK_OK(file_write_atomic(check_tmp_path("empty.pt"), "", 0, &err), &err);
    CHECK_FAILS(torch_file_open(&s, check_tmp_path("empty.pt"), &err), ERR_FORMAT, "is empty", &err);
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    CHECK_OK(file_write_atomic(check_tmp_path("lfs.pt"), lfs, sizeof lfs - 1, &err), &err);
    CHECK_FAILS(torch_file_open(&s, check_tmp_path("lfs.pt"), &err), ERR_FORMAT, "LFS", &err);
    assert_null(s);
}

static void told_by_content(void **state)
{
    (void)state;
    SafeTensors *s = NULL;
    Err err = {0};
    float one = 1;
    SafeSource source = {"w", tensor_of(&one, DT_F32, 1, 1)};
    CHECK_OK(safetensors_write(check_tmp_path("w.pt"), &source, 1, NULL, &err), &err); /* the name says nothing */
    CHECK_OK(weights_file_open(&s, check_tmp_path("w.pt"), &err), &err);
    safetensors_close(&s);
    CHECK_OK(weights_file_open(&s, golden("zip.pt"), &err), &err);
    safetensors_close(&s);
    CHECK_OK(weights_file_open(&s, golden("stream.pth"), &err), &err);
    safetensors_close(&s);
    CHECK_FAILS(weights_file_open(&s, check_tmp_path("no"), &err), ERR_NOTFOUND, "no", &err);
}

/* ---- hostile pickles ------------------------------------------------------------------------- */

/* The text's escapes end at the next literal. */
#define GLOBAL(module, name) "c" module "\n" name "\n"
#define KEY(length, text) "X" length "\0\0\0" text
#define STORAGE(type, key, count) \
    "(" KEY("\7", "storage") GLOBAL("torch", type) KEY("\1", key) KEY("\3", "cpu") count "tQ"
#define TENSOR(storage, offset, sizes, strides)       \
    GLOBAL("torch._utils", "_rebuild_tensor_v2")      \
    "(" storage offset "(" sizes "t(" strides "t\x89" \
    "}tR"
#define SIX STORAGE("FloatStorage", "0", "K\6")
#define NAMED(tensor) "\x80\2}" KEY("\1", "w") tensor "s."
#define W(offset, sizes, strides) NAMED(TENSOR(SIX, offset, sizes, strides))
#define BYTES(text) (text), sizeof(text) - 1

typedef struct Case {
    const char *pickle;
    size_t size;
    const char *fails; /* NULL: accepted */
} Case;

static const Case cases[] = {
    {BYTES(W("K\0", "K\2K\3", "K\3K\1")), NULL},
    {BYTES(W("K\0", "K\3K\2", "K\1K\3")), NULL},
    /* code */
    {BYTES("\x80\2" GLOBAL("posix", "system") KEY("\4", "true") "\x85R."), "it names 'posix.system'"},
    {BYTES("\x80\2" GLOBAL("builtins", "eval") KEY("\1", "1") "\x85R."), "it names 'builtins.eval'"},
    {BYTES("\x80\4\x8c\2os\x8c\6system\x93\x8c\4true\x85R."), "it names 'os.system'"},
    {BYTES("\x80\2" GLOBAL("os\x1b[31m", "x") "."), "it names 'os?[31m.x'"},
    {BYTES("\x80\2(S'true'\nios\nsystem\n."), "opcode 0x53"},
    {BYTES("\x80\2(ios\nsystem\n."), "opcode 0x69"},
    {BYTES("\x80\2\x82\1."), "opcode 0x82"}, /* the extension registry */
    {BYTES("\x80\2" GLOBAL("collections", "OrderedDict") ")\x81."), "a class that is not TorchScript's"},
    {BYTES("\x80\2" GLOBAL("__torch__", "M") ")R."), "it is no function"},
    {BYTES("\x80\2}" KEY("\1", "w") GLOBAL("torch", "float32") "K\1\x85Rs."), "it is no function"},
    /* the machine */
    {BYTES(""), "it ends within a value"},
    {BYTES("\x80\2"), "it ends within a value"},
    {BYTES("\x80\1}."), "not a pickle of protocol 2 to 5"},
    {BYTES("\x80\2."), "other than one value"},
    {BYTES("\x80\2}}."), "other than one value"},
    {BYTES("\x80\2(}."), "other than one value"},
    {BYTES("\x80\2s."), "the stack is empty"},
    {BYTES("\x80\2}(K\1s."), "the stack is empty"},
    {BYTES("\x80\2u."), "no mark"},
    {BYTES("\x80\2}(K\1u."), "items for what is no dictionary"},
    {BYTES("\x80\2]K\1K\2s."), "items for what is no dictionary"},
    {BYTES("\x80\2}K\1a."), "items for what is no list"},
    {BYTES("\x80\2h\0."), "never kept"},
    {BYTES("\x80\2}q\5h\4."), "never kept"},
    {BYTES("\x80\2}r\xff\xff\xff\xff."), "too large a number"},
    {BYTES("\x80\2X\xff\xff\xff\xff"), "it ends within a value"},
    {BYTES("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "it ends within a value"},
    {BYTES("\x80\2\x8a\x09\1\2\3\4\5\6\7\x08\x09."), "more than 64 bits"},
    {BYTES("\x80\2"
           "cno_end"),
     "a name without an end"},
    {BYTES("\x80\2}b."), "the stack is empty"},
    {BYTES("\x80\2]}b."), "a state for what is no dictionary"},
    {BYTES("\x80\2K\1K\2R."), "a call of what is no name"},
    /* storages */
    {BYTES("\x80\2K\1Q."), "a persistent id that is no storage"},
    {BYTES("\x80\2(" KEY("\6", "module") "K\1K\1K\1K\1tQ."), "a persistent id that is no storage"},
    {BYTES(NAMED(TENSOR(STORAGE("FloatStorage", "0", "J\xff\xff\xff\xff"), "K\0", "K\1", "K\1"))), "described by type"},
    {BYTES(
         NAMED(TENSOR(STORAGE("FloatStorage", "0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"), "K\0", "K\1", "K\1"))),
     "is too large"},
    {BYTES(NAMED(TENSOR(STORAGE("FloatStorage", "/", "K\6"), "K\0", "K\1", "K\1"))), "no plain word"},
    {BYTES(NAMED(TENSOR(STORAGE("FloatStorage", "1", "K\6"), "K\0", "K\1", "K\1"))), "that no tensor uses"},
    {BYTES(NAMED(TENSOR(STORAGE("FloatStorage", "0", "K\7"), "K\0", "K\1", "K\1"))), "ends within storage '0'"},
    {BYTES(NAMED(TENSOR(STORAGE("FloatStorage", "0", "K\5"), "K\0", "K\1", "K\1"))), "has 6 elements, expected 5"},
    {BYTES(NAMED(TENSOR(STORAGE("UntypedStorage", "0", "K\x18"), "K\0", "K\1", "K\1"))), "without an element type"},
    {BYTES("\x80\2}(" KEY("\1", "v") TENSOR(STORAGE("IntStorage", "0", "K\6"), "K\0", "K\1", "K\1") KEY("\1", "w")
               TENSOR(SIX, "K\0", "K\1", "K\1") "u."),
     "described in two ways"},
    /* bounds */
    {BYTES(W("K\1", "K\2K\3", "K\3K\1")), "element 6, of 6, in a storage of 6"},
    {BYTES(W("K\0", "K\2K\3", "K\4K\1")), "element 6, of 6, in a storage of 6"},
    {BYTES(W("J\xff\xff\xff\xff", "K\1", "K\1")), "tensor 'w'"},
    {BYTES(W("K\0", "J\xff\xff\xff\xff", "K\1")), "size -1, stride 1 in axis 0"},
    {BYTES(W("K\0", "K\2", "J\xff\xff\xff\xff")), "size 2, stride -1"},
    {BYTES(W("K\0", "K\7", "K\0")), "of 7, in a storage of 6"}, /* one element, expanded without limit */
    {BYTES(W("K\0", "J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f", "K\0K\0K\0")), "are not possible"},
    {BYTES(W("K\0", "K\2", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f")), "element 9223372036854775807"},
    {BYTES(W("K\2", "K\2", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f")), "reaches beyond"},
    {BYTES(W("K\0", "K\1K\1", "K\1")), "2 sizes and 1 strides"},
    {BYTES(W("K\0", "K\1K\1K\1K\1K\1K\1K\1K\1K\1", "K\1K\1K\1K\1K\1K\1K\1K\1K\1")), "at most 8"},
    {BYTES(W("K\0", "N", "K\1")), "other things than storage"},
    {BYTES(NAMED(GLOBAL("torch._utils", "_rebuild_tensor_v2") ")R")), "other things than storage"},
    /* what it holds */
    {BYTES("\x80\2" TENSOR(SIX, "K\0", "K\1", "K\1") "."), "a single tensor"},
    {BYTES("\x80\2}" KEY("\0", "") TENSOR(SIX, "K\0", "K\1", "K\1") "s."), "name is empty"},
    {BYTES("\x80\2}" KEY("\1", "\xff") TENSOR(SIX, "K\0", "K\1", "K\1") "s."), "not UTF-8"},
    {BYTES("\x80\2}" KEY("\2", "a\0") TENSOR(SIX, "K\0", "K\1", "K\1") "s."), "with a zero"},
    {BYTES("\x80\2}(" KEY("\1", "w") TENSOR(SIX, "K\0", "K\1", "K\1") "q\1" KEY("\1", "w") "h\1u."),
     "two tensors are called 'w'"},
    {BYTES("\x80\2}q\1(" KEY("\1", "a") "h\1" KEY("\1", "w") TENSOR(SIX, "K\0", "K\1", "K\1") "u."),
     "nested deeper"}, /* it holds itself */
};

/* The older stream around a pickle: magic, 1001, {"little_endian": True}, the pickle, ["0"], six
 * floats. */
static uint8_t *stream(const char *pickle, size_t n, size_t *size)
{
    static const char head[] = "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}" KEY(
        "\x0d", "little_endian") "\x88s.";
    static const char tail[] = "\x80\2]" KEY("\1", "0") "a.\6\0\0\0\0\0\0\0";
    float six[6] = {1, 2, 3, 4, 5, 6};
    *size = sizeof head - 1 + n + sizeof tail - 1 + sizeof six;
    uint8_t *all = malloc(*size), *to = all;
    assert_non_null(all);
    memcpy(to, head, sizeof head - 1);
    memcpy(to += sizeof head - 1, pickle, n);
    memcpy(to += n, tail, sizeof tail - 1);
    memcpy(to + sizeof tail - 1, six, sizeof six);
    return all;
}

static void pickles(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *c = &cases[i];
        SafeTensors *s = NULL;
        Err err = {0};
        size_t size;
        uint8_t *bytes = stream(c->pickle, c->size, &size);
        if (!c->size || c->pickle[c->size - 1] != '.') /* nothing may follow, to end within a value */
            size -= sizeof "\x80\2]X\1\0\0\0"
                           "0a.\6\0\0\0\0\0\0\0" -
                    1 + 24;
        int rc = torch_file_read(&s, bytes, (int64_t)size, &err);
        if (c->fails ? rc >= 0 || !strstr(err.msg, c->fails) : rc != 0)
            fail_msg("case %d: expected %s, got %d \"%s\"", (int)i, c->fails ? c->fails : "success", rc, err.msg);
        safetensors_close(&s);
        free(bytes);
    }
}

/* Many values, deep dictionaries, many names for one tensor: a limit, not the machine's end. */
static void floods(void **state)
{
    (void)state;
    SafeTensors *s = NULL;
    Err err = {0};
    size_t n = 5000000, size;
    char *pickle = malloc(n);
    assert_non_null(pickle);
    memset(pickle, '}', n);
    memcpy(pickle, "\x80\2", 2);
    uint8_t *bytes = stream(pickle, n, &size);
    CHECK_FAILS(torch_file_read(&s, bytes, (int64_t)size, &err), ERR_LIMIT, "more than 2000000 values", &err);
    free(bytes);
    /* thirty dictionaries, each holding the one before twice: 2^30 names of one tensor */
    static const char *const strides[] = {"K\3K\1", "K\1K\3"}; /* in place, and to be copied */
    static const char *const says[] = {"more than 100000 tensors", "more than twice the file's"};
    for (int k = 0; k < 2; k++) {
        static const char first[] = "\x80\2}" KEY("\1", "w") TENSOR(SIX, "K\0", "K\2K\3", "K\x09K\x09") "s";
        static const char twice[] = "q\1"
                                    "0}(" KEY("\1", "a") "h\1" KEY("\1", "b") "h\1u";
        size_t at = sizeof first - 1;
        memcpy(pickle, first, at);
        if (k)
            memcpy(memmem(pickle, at, "K\2K\3", 4), "K\3K\2", 4);
        memcpy(memmem(pickle, at, "K\x09K\x09", 4), strides[k], 4);
        for (int i = 0; i < 30; i++, at += sizeof twice - 1)
            memcpy(pickle + at, twice, sizeof twice - 1);
        pickle[at++] = '.';
        bytes = stream(pickle, at, &size);
        CHECK_FAILS(torch_file_read(&s, bytes, (int64_t)size, &err), ERR_LIMIT, says[k], &err);
        free(bytes);
    }
    free(pickle);
}

/* ---- hostile archives ------------------------------------------------------------------------ */

typedef struct Member {
    const char *name, *bytes;
    size_t size;
    int deflated;
} Member;

static const char *write_zip(const Member *member, int n)
{
    const char *path = check_tmp_path("made.pt");
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(z);
    for (int i = 0; i < n; i++) {
        zip_source_t *source = zip_source_buffer(z, member[i].bytes, member[i].size, 0);
        zip_int64_t at = zip_file_add(z, member[i].name, source, 0);
        assert_true(at >= 0);
        zip_set_file_compression(z, (zip_uint64_t)at, member[i].deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    }
    assert_int_equal(zip_close(z), 0);
    return path;
}

static void archives(void **state)
{
    (void)state;
    static const char good[] = W("K\0", "K\2K\3", "K\3K\1"), zeros[1 << 16];
    const Member pickle = {"a/data.pkl", good, sizeof good - 1, 0}, data = {"a/data/0", zeros, 24, 0};
    const struct {
        Member member[3];
        int n;
        const char *fails;
    } made[] = {
        {{pickle, data}, 2, NULL},
        {{{"a/data.pkl", good, sizeof good - 1, 1}, data}, 2, NULL}, /* a compressed pickle: TorchScript may */
        {{pickle, data, {"a/byteorder", "little", 6, 0}}, 3, NULL},
        {{pickle, data, {"a/byteorder", "big", 3, 0}}, 3, "not little-endian"},
        {{data}, 1, "without data.pkl"},
        {{pickle, data, {"b/data.pkl", good, sizeof good - 1, 0}}, 3, "several members are called data.pkl"},
        {{pickle}, 1, "member 'a/data/0' is missing"},
        {{pickle, {"a/data/0", zeros, 20, 0}}, 2, "has 20 bytes, expected 24"},
        {{pickle, {"a/data/0", zeros, 24, 1}}, 2, "is compressed, or larger"},
        {{pickle, {"b/data/0", zeros, 24, 0}}, 2, "member 'a/data/0' is missing"},
        {{{"a/data.pkl", "\x80\2}.", 4, 0}}, 1, "it holds no tensors"},
        {{{"a/data.pkl", "\x80\2K\1.", 5, 0}}, 1, "it holds no dictionary"},
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        SafeTensors *s = NULL;
        Err err = {0};
        int rc = torch_file_open(&s, write_zip(made[i].member, made[i].n), &err);
        if (made[i].fails ? rc >= 0 || !strstr(err.msg, made[i].fails) : rc != 0)
            fail_msg("archive %d: expected %s, got %d \"%s\"", (int)i, made[i].fails ? made[i].fails : "success", rc,
                     err.msg);
        safetensors_close(&s);
    }
}

/* Every golden file cut after any byte is refused; with any
 * byte changed: names and weights are then as before, or the file is refused (the archive's checksums; a
 * stream has none). */
static void damaged_files(void **state)
{
    (void)state;
    static const char *const files[] = {"zip.pt", "stream.pth", "script.pt"};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        char *bytes;
        char was[65], now[65];
        int64_t size;
        Err err = {0};
        SafeTensors *whole = NULL;
        CHECK_OK(file_read(golden(files[k]), 1 << 20, &bytes, &size, &err), &err);
        CHECK_OK(torch_file_read(&whole, bytes, size, &err), &err);
        CHECK_OK(safetensors_digest(whole, was, &err), &err);
        safetensors_close(&whole);
        for (int64_t n = 0; n < size; n += n % 7 + 1) {
            SafeTensors *s = NULL;
            uint8_t *exact = malloc((size_t)n + 1);
            memcpy(exact, bytes, (size_t)n);
            if (torch_file_read(&s, exact, n, NULL) == 0)
                fail_msg("%s cut to %d bytes opens", files[k], (int)n);
            safetensors_close(&s);
            free(exact);
            bytes[n] ^= 0x55;
            if (torch_file_read(&s, bytes, size, NULL) == 0 && k != 1) {
                CHECK_OK(safetensors_digest(s, now, &err), &err);
                assert_string_equal(now, was);
            }
            safetensors_close(&s);
            bytes[n] ^= 0x55;
        }
        mem_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archives_and_streams),
        cmocka_unit_test(nested),
        cmocka_unit_test(scripts),
        cmocka_unit_test(refused_files),
        cmocka_unit_test(told_by_content),
        cmocka_unit_test(pickles),
        cmocka_unit_test(floods),
        cmocka_unit_test(archives),
        cmocka_unit_test(damaged_files),
    };
    return check_run_live("store_torch_file", tests);
}
