/* The order of atomic writing: the bytes are synced before the rename, the folder after it; and what each
 * failing call leaves behind.  The functions of the C library below are replaced in this program. */
#include "tests/check.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static Err err;
static char calls[512];     /* what was called, in order */
static const char *failing; /* the call that fails with EIO, or NULL */

static int record(const char *what)
{
    size_t n = strlen(calls);
    snprintf(calls + n, sizeof calls - n, "%s%s", n ? ", " : "", what);
    if (!failing || strcmp(what, failing) != 0)
        return 0;
    errno = EIO;
    return -1;
}

int fsync(int fd)
{
    struct stat st;
    char what[64] = "fsync folder";
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) /* the size shows what has left the program's buffer */
        snprintf(what, sizeof what, "fsync %d bytes", (int)st.st_size);
    return record(what) < 0 ? -1 : (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    return record("rename") < 0 ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void check_content(const char *path, const char *want)
{
    char *text;
    int64_t size;
    CHECK_OK(file_read(path, 1000, &text, &size, &err), &err);
    assert_string_equal(text, want);
    mem_free(text);
}

static void check_names(const char *dir, int64_t want)
{
    char **names;
    int64_t n;
    CHECK_OK(dir_list(dir, &names, &n, &err), &err);
    dir_list_free(&names, n);
    assert_int_equal(n, want);
}

static void bytes_then_name_then_folder(void **state)
{
    (void)state;
    char *dir = check_tmp_path("order"), *path = check_tmp_path("order/file");
    CHECK_OK(dir_make(dir, &err), &err);
    calls[0] = 0;
    CHECK_OK(file_write_atomic(path, "0123456789", 10, &err), &err);
    assert_string_equal(calls, "fsync 10 bytes, rename, fsync folder");
    check_content(path, "0123456789");
    calls[0] = 0; /* the same through a stream, more than one buffer */
    AtomicFile *f;
    CHECK_OK(atomic_open(&f, path, &err), &err);
    for (int i = 0; i < 20000; i++)
        fputc('x', atomic_stream(f));
    CHECK_OK(atomic_commit(&f, &err), &err);
    assert_string_equal(calls, "fsync 20000 bytes, rename, fsync folder");
    check_names(dir, 1);
}

static void a_failed_call_leaves_the_older_file(void **state)
{
    (void)state;
    static const char *const fails[] = {"fsync 3 bytes", "rename"};
    char *dir = check_tmp_path("fail"), *path = check_tmp_path("fail/file");
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(path, "older", 5, &err), &err);
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        failing = fails[i];
        CHECK_FAILS(file_write_atomic(path, "new", 3, &err), ERR_IO, "Input/output error", &err);
        failing = NULL;
        check_content(path, "older");
        check_names(dir, 1); /* no temporary is left */
    }
    failing = "fsync folder"; /* the new name is there, but it is not certain to last */
    CHECK_FAILS(file_write_atomic(path, "new", 3, &err), ERR_IO, "Input/output error", &err);
    failing = NULL;
    check_content(path, "new");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_then_name_then_folder),
        cmocka_unit_test(a_failed_call_leaves_the_older_file),
    };
    return check_run_live("base_atomic", tests);
}
