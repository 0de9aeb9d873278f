/* A cache on a network file system, and on one without locks: statfs, fcntl and flock of this program say so, for no
 * such file systems are at hand. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/base/disk.h"
#include "common/base/mem.h"
#include "common/store/cache.h"

static long type;

int statfs(const char *path, struct statfs *out)
{
    (void)path;
    memset(out, 0, sizeof *out);
    out->f_type = type;
    return 0;
}

static int no_record_locks, no_whole_locks;

static int control(int fd, int command, void *argument)
{
    if (no_record_locks && (command == F_SETLK || command == F_SETLKW)) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *argument = va_arg(args, void *);
    va_end(args);
    return control(fd, command, argument);
}

int fcntl64(int fd, int command, ...);
int fcntl64(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *argument = va_arg(args, void *);
    va_end(args);
    return control(fd, command, argument);
}

int flock(int fd, int how)
{
    if (no_whole_locks) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, how);
}

static const char *kind_at(const char *path)
{
    Err err = {0};
    const char *kind = "unset";
    CHECK_OK(disk_network(path, &kind, &err), &err);
    return kind;
}

static void kinds(void **state)
{
    (void)state;
    type = 0xEF53; /* ext4 */
    assert_null(kind_at("/"));
    type = 0x6969;
    assert_string_equal(kind_at("/no/such/folder"), "NFS");
    type = (long)(int)0xFF534D42; /* as a signed 32-bit number */
    assert_string_equal(kind_at("/"), "SMB");
    type = 0x0BD00BD0;
    assert_string_equal(kind_at("/"), "Lustre");
}

/* Want of memory is no local disk. */
static void no_memory(void **state)
{
    (void)state;
    Err err = {0};
    const char *kind;
    int64_t bytes;
    mem_fail_after(1);
    CHECK_FAILS(disk_network("/", &kind, &err), ERR_NOMEM, "memory", &err);
    mem_fail_after(1);
    CHECK_FAILS(disk_free_bytes("/", &bytes, &err), ERR_NOMEM, "memory", &err);
    mem_fail_after(0);
}

static void writing_is_refused_unless_asked_for(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path("network");
    type = 0x6969;
    CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_USAGE, "on a network file system (NFS)", &err);
    assert_null(c);
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE_ANYWHERE, &err), &err);
    cache_close(&c);
    CHECK_OK(cache_open(&c, dir, CACHE_READ, &err), &err);
    assert_string_equal(cache_unlocked(c), "NFS");
    cache_close(&c);
    type = 0xEF53;
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    cache_close(&c);
    CHECK_OK(cache_open(&c, dir, CACHE_READ, &err), &err);
    assert_null(cache_unlocked(c));
    cache_close(&c);
}

static void without_locks_it_is_read_alone(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path("lockless");
    type = 0xEF53;
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    cache_close(&c);
    no_record_locks = 1;
    CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_IO,
                "LMDB writes only where files can be locked and mapped, as on a local disk", &err);
    CHECK_OK(cache_open(&c, dir, CACHE_READ, &err), &err);
    assert_string_equal(cache_unlocked(c), "No locks available");
    cache_close(&c);
    no_whole_locks = 1;
    CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_IO, "which takes a file system with locks", &err);
    CHECK_OK(cache_open(&c, dir, CACHE_READ, &err), &err);
    cache_close(&c);
    no_record_locks = no_whole_locks = 0;
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    cache_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(no_memory),
                                       cmocka_unit_test(writing_is_refused_unless_asked_for),
                                       cmocka_unit_test(without_locks_it_is_read_alone)};
    return check_run_live("store_network", tests);
}
