/* A confined process opens what it was given and nothing else.  Only our own guard is tried, on files
 * of this test. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "common/base/confine.h"
#include "common/base/file.h"
#include "common/base/mem.h"

/* Fails the child with the line when a condition does not hold. */
#define MUST(condition)                                                               \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
            _exit(1);                                                                 \
        }                                                                             \
    } while (0)

static void put(const char *path, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
}

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int connects(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    errno = 0;
    return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
}

static void child(const char *source, const char *other, const char *out, int open_before)
{
    char made[600], byte;
    Err err = {0};
    const char *readable[] = {source, "/nowhere/at/all", NULL}, *writable[] = {out, NULL};
    snprintf(made, sizeof made, "%s/made", out);
    MUST(confine_process(&(ConfineRules){readable, writable}, &err) == 1);
    MUST(opens(source, O_RDONLY));
    MUST(!opens(source, O_WRONLY) && errno == EACCES);
    MUST(!opens(other, O_RDONLY) && errno == EACCES);
    MUST(!opens("/etc/passwd", O_RDONLY) && errno == EACCES);
    MUST(pread(open_before, &byte, 1, 0) == 1); /* what was open stays open */
    MUST(file_write_atomic(made, "x", 1, &err) == 0);
    MUST(file_write_atomic(made, "y", 1, &err) == 0);
    MUST(unlink(made) == 0);
    MUST(unlink(other) < 0);
    execl("/bin/true", "true", (char *)NULL);
    MUST(errno == EACCES);
    MUST(!connects() && (errno == EACCES || errno == ECONNREFUSED)); /* refused: a kernel before 6.7 */
    _exit(0);
}

static void only_what_was_given(void **state)
{
    char *source = check_tmp_path("source"), *other = check_tmp_path("other"), *out = check_tmp_path("out");
    Err err = {0};
    int status = 0;
    (void)state;
    if (!confine_available())
        check_skip("this kernel has no Landlock");
    put(source, "s");
    put(other, "o");
    CHECK_OK(dir_make(out, &err), &err);
    int before = open(other, O_RDONLY | O_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0)
        child(source, other, out, before);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(before);
    assert_int_equal(status, 0);
    assert_true(opens(other, O_RDONLY)); /* the parent is free */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_what_was_given)};
    return check_run_live("base confine", tests);
}
