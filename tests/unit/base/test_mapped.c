/* A file that is cut short, or whose disk fails, while it is mapped: one sentence, and status 1. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"
#include "common/base/json.h"
#include "common/base/mapped.h"
#include "common/base/mem.h"

enum { PAGES = 4 };

typedef struct Mapping {
    char *path;
    int fd;
    char *bytes;
    size_t page;
} Mapping;

static Mapping map_new_file(const char *name)
{
    Mapping m = {.path = check_tmp_path(name), .page = (size_t)sysconf(_SC_PAGESIZE)};
    m.fd = open(m.path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(m.fd >= 0);
    assert_int_equal(ftruncate(m.fd, (off_t)(PAGES * m.page)), 0);
    m.bytes = mmap(NULL, PAGES * m.page, PROT_READ, MAP_PRIVATE, m.fd, 0);
    assert_true(m.bytes != MAP_FAILED);
    return m;
}

static void unmap(Mapping *m)
{
    munmap(m->bytes, PAGES * m->page);
    close(m->fd);
}

static void *touch(void *at)
{
    return *(const volatile char *)at ? at : NULL;
}

/* Runs `fault` in a child after mapped_install; its standard error lands in text.  Returns its status. */
static int run(void (*fault)(void *), void *arg, int json, char *text, size_t size)
{
    int fd[2], status = 0;
    size_t n = 0;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        StderrLog log;
        dup2(fd[1], STDERR_FILENO);
        log_to_stderr(&log, "weft-test", LOG_ERROR, json);
        mapped_install(&log);
        fault(arg);
        _exit(9); /* not reached */
    }
    close(fd[1]);
    for (ssize_t got; n < size - 1 && (got = read(fd[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void touch_third_page(void *arg)
{
    const Mapping *m = arg;
    touch(m->bytes + 2 * m->page);
}

static void touch_from_threads(void *arg)
{
    const Mapping *m = arg;
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, touch, m->bytes + (size_t)(2 + i % 2) * m->page);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
}

static void a_shortened_file_is_named(void **state)
{
    char text[9000], want[5000];
    Mapping m = map_new_file("weights");
    (void)state;
    snprintf(want, sizeof want, "weft-test: error: '%s' became shorter while it was read; put a whole copy back\n",
             m.path);
    assert_int_equal(ftruncate(m.fd, (off_t)m.page), 0);
    void (*const faults[])(void *) = {touch_third_page, touch_from_threads};
    for (int i = 0; i < 2; i++) {
        int status = run(faults[i], &m, 0, text, sizeof text);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
        assert_string_equal(text, want); /* once, whatever the threads */
    }
    unmap(&m);
}

static void the_sentence_is_json_where_the_log_is(void **state)
{
    char text[9000];
    Err err = {0};
    json_t *line = NULL;
    Mapping m = map_new_file("a \"name\"\n");
    (void)state;
    assert_int_equal(ftruncate(m.fd, 0), 0);
    assert_int_equal(WEXITSTATUS(run(touch_third_page, &m, 1, text, sizeof text)), 1);
    CHECK_OK(json_parse(&line, text, (int64_t)strlen(text), "the line", &err), &err);
    assert_string_equal(json_string_value(json_object_get(line, "program")), "weft-test");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    const char *message = json_string_value(json_object_get(line, "message"));
    assert_non_null(message);
    assert_non_null(strstr(message, "a \"name\"\\x0A' became shorter"));
    json_decref(line);
    unmap(&m);
}

/* A file that is whole: only its disk can have failed. */
static void a_read_error_names_file_and_byte(void **state)
{
    char text[9000], want[5000], on_stack = 0;
    Mapping m = map_new_file("cache");
    (void)state;
    snprintf(want, sizeof want, "reading '%s' failed at byte %zu: its disk or network reports an error", m.path,
             m.page + 5);
    assert_int_equal(mapped_describe(m.bytes + m.page + 5, text, sizeof text), 1);
    assert_string_equal(text, want);
    assert_int_equal(mapped_describe(m.bytes + m.page + 5, text, 20), 1); /* cut, and ended */
    assert_int_equal(strlen(text), 19);
    assert_int_equal(mapped_describe(&on_stack, text, sizeof text), 0);
    assert_string_equal(text, "");
    unmap(&m);
}

static void raise_it(void *arg)
{
    (void)arg;
    raise(SIGBUS);
}

static void fault_in_memory_mapped_for_writing(void *arg)
{
    const Mapping *m = arg;
    char *bytes = mmap(NULL, PAGES * m->page, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    touch(bytes + 2 * m->page);
}

static void fault_in_child(void *arg)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        touch_third_page(arg);
        _exit(9);
    }
    waitpid(pid, &status, 0);
    signal(SIGBUS, SIG_DFL);
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
}

static void any_other_fault_ends_as_before(void **state)
{
    char text[9000];
    Mapping m = map_new_file("other");
    (void)state;
    assert_int_equal(ftruncate(m.fd, 0), 0);
    void (*const faults[])(void *) = {raise_it, fault_in_memory_mapped_for_writing, fault_in_child};
    for (int i = 0; i < 3; i++) {
        int status = run(faults[i], &m, 0, text, sizeof text);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGBUS);
        assert_string_equal(text, "");
    }
    unmap(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shortened_file_is_named),
        cmocka_unit_test(the_sentence_is_json_where_the_log_is),
        cmocka_unit_test(a_read_error_names_file_and_byte),
        cmocka_unit_test(any_other_fault_ends_as_before),
    };
    return check_run_live("base_mapped", tests);
}
