/* Files and folders: whole reads, atomic writes, locks, and what a full disk or a dead writer
 * leaves behind. */
#include "tests/check.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/lines.h"
#include "common/base/str.h"
#include "common/base/mem.h"

static Err err;

static void put(const char *path, const char *text)
{
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
}

static void assert_holds(const char *path, const char *text)
{
    char *bytes;
    int64_t size;
    CHECK_OK(file_read(path, 1 << 20, &bytes, &size, &err), &err);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, (size_t)size + 1);
    mem_free(bytes);
}

static int64_t names_in(const char *dir)
{
    char **names;
    int64_t n;
    CHECK_OK(dir_list(dir, &names, &n, &err), &err);
    dir_list_free(&names, n);
    return n;
}

static int no_line(void *user, const char *text, int64_t size, const char *where, Err *e)
{
    (void)user, (void)text, (void)size, (void)where, (void)e;
    return 0;
}

static int join_line(void *user, const char *text, int64_t size, const char *where, Err *e)
{
    (void)where;
    return str_append_n(user, text, size, e) < 0 ? ERR_NOMEM : str_append(user, "|", e);
}

static void lines_begin_after_the_mark(void **state)
{
    char *path = check_tmp_path("mark");
    Str got = {0};
    (void)state;
    CHECK_OK(file_write_atomic(path,
                               "\xef\xbb\xbf"
                               "a\r\n\xef\xbb\xbf"
                               "b\n",
                               11, &err),
             &err);
    CHECK_OK(lines_read(path, 100, join_line, &got, &err), &err);
    assert_string_equal(got.data, "a|\xef\xbb\xbf"
                                  "b|");
    str_fini(&got);
}

static void pipes_are_refused(void **state)
{
    char *path = check_tmp_path("pipe"), *bytes;
    int64_t size;
    Digest digest;
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(60);
    CHECK_FAILS(file_read(path, 100, &bytes, &size, &err), ERR_FORMAT, "pipe' is not a regular file", &err);
    CHECK_FAILS(lines_read(path, 100, no_line, NULL, &err), ERR_FORMAT, "pipe' is not a regular file", &err);
    CHECK_FAILS(sha256_file(path, &digest, &err), ERR_FORMAT, "pipe' is not a regular file", &err);
    char shared[64]; /* which begins with /dev as those that a user names */
    snprintf(shared, sizeof shared, "/dev/shm/weft-test-%ld-pipe", (long)getpid());
    if (mkfifo(shared, 0600) == 0) {
        CHECK_FAILS(file_read(shared, 100, &bytes, &size, &err), ERR_FORMAT, "pipe' is not a regular file", &err);
        unlink(shared);
    } else {
        printf("# /dev/shm cannot be written: a pipe there is not tried\n");
    }
    alarm(0);
    int ends[2]; /* "<(...)" of a shell */
    char name[32];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "piped", 5), 5);
    close(ends[1]);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    assert_holds(name, "piped");
    close(ends[0]);
}

static void reads_whole_files(void **state)
{
    (void)state;
    char *path = check_tmp_path("read"), *bytes;
    int64_t size;
    put(path, "hello");
    assert_holds(path, "hello");
    CHECK_OK(file_read(path, 5, &bytes, &size, &err), &err);
    mem_free(bytes);
    CHECK_FAILS(file_read(path, 4, &bytes, &size, &err), ERR_LIMIT, "more than the 4 bytes", &err);
    assert_null(bytes);
    CHECK_FAILS(file_read(check_tmp_path("none"), 4, &bytes, &size, &err), ERR_NOTFOUND, "none", &err);
    CHECK_FAILS(file_read(check_tmp(), 1 << 20, &bytes, &size, &err), ERR_IO, "directory", &err);
    put(path, "");
    assert_holds(path, "");
    /* a regular file that says its size is 0 */
    CHECK_OK(file_read("/proc/self/status", 1 << 20, &bytes, &size, &err), &err);
    assert_true(size > 100);
    mem_free(bytes);
    CHECK_FAILS(file_read("/dev/zero", 100000, &bytes, &size, &err), ERR_LIMIT, "more than", &err);
    assert_int_equal(file_size(check_tmp_path("read"), &err), 0);
    CHECK_FAILS((int)file_size(check_tmp_path("none"), &err), ERR_NOTFOUND, "none", &err);
}

static void looking_has_three_answers(void **state)
{
    (void)state;
    put(check_tmp_path("here"), "x");
    assert_int_equal(file_look(check_tmp_path("here"), &err), 1);
    assert_int_equal(file_look(check_tmp(), &err), 1);
    assert_int_equal(file_look(check_tmp_path("absent"), &err), 0);
    assert_int_equal(file_look(check_tmp_path("here/below"), &err), 0); /* a file has nothing below it */
    assert_int_equal(symlink("loop", check_tmp_path("loop")), 0);
    CHECK_FAILS(file_look(check_tmp_path("loop"), &err), ERR_IO, "looking for", &err);
    CHECK_FAILS(file_look(check_tmp_path("loop/below"), &err), ERR_IO, "looking for", &err);
    assert_int_equal(symlink("nowhere", check_tmp_path("dangling")), 0);
    CHECK_FAILS(file_look(check_tmp_path("dangling"), &err), ERR_IO, "is a link to something that does not", &err);
}

static void atomic_write_replaces_or_leaves_alone(void **state)
{
    (void)state;
    char *dir = check_tmp_path("atomic"), *path = check_tmp_path("atomic/f");
    CHECK_OK(dir_make(dir, &err), &err);
    put(path, "old");
    AtomicFile *f;
    CHECK_OK(atomic_open(&f, path, &err), &err);
    fputs("half", atomic_stream(f));
    fflush(atomic_stream(f));
    assert_holds(path, "old");
    assert_holds(atomic_path(f), "half");
    atomic_abort(&f);
    assert_null(f);
    atomic_abort(&f);
    assert_int_equal(names_in(dir), 1);
    assert_holds(path, "old");
    CHECK_OK(atomic_open(&f, path, &err), &err);
    fputs("new", atomic_stream(f));
    CHECK_OK(atomic_commit(&f, &err), &err);
    assert_null(f);
    assert_holds(path, "new");
    assert_int_equal(names_in(dir), 1);
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    CHECK_FAILS(atomic_open(&f, check_tmp_path("no/such/dir"), &err), ERR_NOTFOUND, "no/such/dir", &err);
    CHECK_OK(dir_make(check_tmp_path("atomic/d"), &err), &err);
    CHECK_FAILS(file_write_atomic(check_tmp_path("atomic/d"), "x", 1, &err), ERR_IO, "renaming", &err);
    assert_int_equal(names_in(dir), 2);
}

/* A child may write 64 KiB at most: what the disk refuses must not replace the old file, nor leave
 * anything. */
static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    char *dir = check_tmp_path("full"), *path = check_tmp_path("full/f");
    CHECK_OK(dir_make(dir, &err), &err);
    put(path, "old");
    pid_t child = fork();
    if (child == 0) {
        static char big[1 << 20];
        struct rlimit limit = {65536, 65536};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        Err e = {0};
        _exit(file_write_atomic(path, big, sizeof big, &e) == ERR_IO && strstr(e.msg, "f'") ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_holds(path, "old");
    assert_int_equal(names_in(dir), 1);
}

static void leftovers_are_swept(void **state)
{
    (void)state;
    char *dir = check_tmp_path("sweep");
    CHECK_OK(dir_make(check_tmp_path("sweep/dir.tmp-abcdef/inner"), &err), &err);
    put(check_tmp_path("sweep/a.tmp-000000"), "x");
    put(check_tmp_path("sweep/a.tmp-0000000"), "x");
    put(check_tmp_path("sweep/.tmp-000000"), "x");
    put(check_tmp_path("sweep/a"), "x");
    CHECK_OK(dir_sweep_temporaries(dir, &err), &err);
    char **names;
    int64_t n;
    CHECK_OK(dir_list(dir, &names, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], ".tmp-000000");
    assert_string_equal(names[1], "a");
    assert_string_equal(names[2], "a.tmp-0000000");
    dir_list_free(&names, n);
    assert_null(names);
    CHECK_FAILS(dir_list(check_tmp_path("absent"), &names, &n, &err), ERR_NOTFOUND, "absent", &err);
    assert_true(!names && n == 0);
}

static void directories(void **state)
{
    (void)state;
    char *deep = check_tmp_path("one/two//three/");
    CHECK_OK(dir_make(deep, &err), &err);
    CHECK_OK(dir_make(deep, &err), &err);
    assert_true(file_is_dir(deep));
    put(check_tmp_path("one/file"), "x");
    assert_false(file_is_dir(check_tmp_path("one/file")));
    assert_true(file_exists(check_tmp_path("one/file")));
    CHECK_FAILS(dir_make(check_tmp_path("one/file/below"), &err), ERR_IO, "one/file", &err);
    /* A link is removed, not what it leads to. */
    put(check_tmp_path("outside"), "x");
    CHECK_OK(dir_make(check_tmp_path("kept/inner"), &err), &err);
    assert_int_equal(symlink("../kept", check_tmp_path("one/link")), 0);
    CHECK_OK(dir_remove(check_tmp_path("one"), &err), &err);
    assert_false(file_exists(check_tmp_path("one")));
    assert_true(file_is_dir(check_tmp_path("kept/inner")));
    CHECK_OK(dir_remove(check_tmp_path("one"), &err), &err);
    CHECK_OK(dir_remove(check_tmp_path("outside"), &err), &err);
    CHECK_OK(dir_sync(check_tmp(), &err), &err);
    CHECK_FAILS(dir_sync(check_tmp_path("absent"), &err), ERR_NOTFOUND, "absent", &err);
}

static void check_dir_part(const char *path, const char *want)
{
    char *dir = path_dir(path, &err);
    assert_string_equal(dir, want);
    mem_free(dir);
}

static void check_join(const char *a, const char *b, const char *want)
{
    char *path = path_join(a, b, &err);
    assert_string_equal(path, want);
    mem_free(path);
}

static void paths(void **state)
{
    (void)state;
    check_join("a", "b", "a/b");
    check_join("a/", "b", "a/b");
    check_join("", "b", "b");
    check_join(NULL, "b", "b");
    check_join("/", "b", "/b");
    check_dir_part("a/b/c", "a/b");
    check_dir_part("a", ".");
    check_dir_part("/a", "/");
    check_dir_part("a//b", "a");
    assert_string_equal(path_base("a/b"), "b");
    assert_string_equal(path_base("b"), "b");
    CHECK_OK(path_check_relative("a/b..c/..d", &err), &err);
    CHECK_FAILS(path_check_relative("", &err), ERR_USAGE, "empty", &err);
    CHECK_FAILS(path_check_relative("/a", &err), ERR_USAGE, "absolute", &err);
    CHECK_FAILS(path_check_relative("..", &err), ERR_USAGE, "'..'", &err);
    CHECK_FAILS(path_check_relative("a/../b", &err), ERR_USAGE, "'..'", &err);
    CHECK_FAILS(path_check_relative("a/..", &err), ERR_USAGE, "'..'", &err);
}

static void one_writer(void **state)
{
    (void)state;
    char *dir = check_tmp_path("lock");
    CHECK_OK(dir_make(dir, &err), &err);
    DirLock a = {0}, b = {0};
    dir_unlock(&a); /* not held: nothing happens */
    CHECK_OK(dir_lock(&a, dir, &err), &err);
    CHECK_FAILS(dir_lock(&b, dir, &err), ERR_LIMIT, "being written by another process", &err);
    dir_unlock(&b);
    dir_unlock(&a);
    CHECK_OK(dir_lock_wait(&b, dir, &err), &err);
    CHECK_FAILS(dir_lock(&a, dir, &err), ERR_LIMIT, "being written by another process", &err);
    dir_unlock(&b);
    CHECK_FAILS(dir_lock(&b, check_tmp_path("absent"), &err), ERR_NOTFOUND, "absent", &err);
    /* A dead process holds nothing. */
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        DirLock held = {0};
        char byte = dir_lock(&held, dir, NULL) == 0;
        _exit(write(ready[1], &byte, 1) == 1 && pause());
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    CHECK_FAILS(dir_lock(&a, dir, &err), ERR_LIMIT, "another process", &err);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_OK(dir_lock(&a, dir, &err), &err);
    dir_unlock(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_whole_files),
        cmocka_unit_test(lines_begin_after_the_mark),
        cmocka_unit_test(pipes_are_refused),
        cmocka_unit_test(looking_has_three_answers),
        cmocka_unit_test(atomic_write_replaces_or_leaves_alone),
        cmocka_unit_test(full_disk_keeps_the_old_file),
        cmocka_unit_test(leftovers_are_swept),
        cmocka_unit_test(directories),
        cmocka_unit_test(paths),
        cmocka_unit_test(one_writer),
    };
    return check_run_live("base_file", tests);
}
