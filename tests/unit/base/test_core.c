/* Errors, memory, strings, hashes, threads, progress and the log. */
#include "tests/check.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"
#include "common/base/machine.h"
#include "common/base/threads.h"

static void first_cause_wins(void **state)
{
    (void)state;
    Err err = {0};
    assert_int_equal(err_set(&err, ERR_IO, "disk %d", 7), ERR_IO);
    assert_int_equal(err_set(&err, ERR_NOMEM, "later"), ERR_NOMEM);
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.msg, "disk 7");
    assert_int_equal(err_wrap(&err, ERR_FORMAT, "reading '%s'", "a.json"), ERR_FORMAT);
    assert_string_equal(err.msg, "reading 'a.json': disk 7");
    assert_int_equal(err.code, ERR_FORMAT);
    err_clear(&err);
    assert_int_equal(err_wrap(&err, ERR_LIMIT, "alone"), ERR_LIMIT);
    assert_string_equal(err.msg, "alone");
    assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
    assert_int_equal(err_wrap(NULL, ERR_IO, "x"), ERR_IO);
    err_clear(NULL);
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    Err err = {0};
    char text[2 * ERR_MSG_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    err_set(&err, ERR_IO, "%s", text);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    err_wrap(&err, ERR_IO, "front");
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    assert_memory_equal(err.msg, "front: xxx", 10);
    err_wrap(&err, ERR_IO, "%s", text);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
}

static void errno_becomes_a_code(void **state)
{
    (void)state;
    Err err = {0};
    assert_int_equal(err_errno(&err, ENOENT, "opening '%s'", "x"), ERR_NOTFOUND);
    assert_string_equal(err.msg, "opening 'x': No such file or directory");
    assert_int_equal(err_errno(NULL, ENOMEM, "x"), ERR_NOMEM);
    assert_int_equal(err_errno(NULL, EACCES, "x"), ERR_IO);
    for (int code = ERR_INTERRUPTED; code <= 0; code++)
        assert_string_not_equal(err_name(code), "unknown error");
    assert_string_equal(err_name(-99), "unknown error");
}

static void sizes_are_checked(void **state)
{
    (void)state;
    Err err = {0};
    int64_t x = 0;
    assert_int_equal(mem_mul(1ll << 31, 1ll << 31, &x), 0);
    assert_true(x == 1ll << 62);
    assert_int_equal(mem_mul(1ll << 32, 1ll << 31, &x), ERR_LIMIT);
    assert_int_equal(mem_mul(-1, 1, &x), ERR_LIMIT);
    assert_int_equal(mem_add(INT64_MAX, 1, &x), ERR_LIMIT);
    assert_int_equal(mem_add(1, -1, &x), ERR_LIMIT);
    assert_int_equal(mem_add(INT64_MAX, 0, &x), 0);
    assert_null(mem_calloc(INT64_MAX / 4, 8, &err));
    assert_int_equal(err.code, ERR_NOMEM);
    err_clear(&err);
    assert_null(mem_calloc(-1, 8, &err));
    err_clear(&err);
    assert_null(mem_alloc_aligned(-1, &err));
    err_clear(&err);
    assert_null(mem_alloc_aligned(INT64_MAX, &err));
    void *p = mem_calloc(0, 8, NULL);
    assert_non_null(p);
    mem_free(p);
    p = mem_alloc_aligned(100, NULL);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 1, 100);
    mem_free_aligned(p);
    p = mem_alloc_aligned(0, NULL);
    assert_non_null(p);
    mem_free_aligned(p);
}

static void lists_grow(void **state)
{
    (void)state;
    Err err = {0};
    int32_t *list = NULL;
    int64_t room = 0;
    for (int32_t i = 0; i < 1000; i++) {
        CHECK_OK(mem_grow(&list, i, &room, sizeof *list, &err), &err);
        assert_true(room > i && room <= (i < 64 ? 64 : 2 * i));
        list[i] = i;
    }
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(list[i], i);
    int32_t *before = list;
    CHECK_FAILS(mem_grow(&list, room, &room, INT64_MAX / 2, &err), ERR_NOMEM, "", &err);
    assert_ptr_equal(list, before);
    assert_int_equal(room, 1024);
    mem_free(list);
}

static void nth_allocation_fails(void **state)
{
    (void)state;
    mem_fail_after(3);
    void *a = mem_calloc(1, 1, NULL), *b = mem_calloc(1, 1, NULL);
    assert_false(mem_failed());
    void *c = mem_calloc(1, 1, NULL), *d = mem_calloc(1, 1, NULL);
    assert_true(a && b && !c && d && mem_failed());
    mem_fail_after(1);
    assert_false(mem_failed());
    assert_null(mem_realloc(a, 100, 1, NULL)); /* the old block stays valid */
    mem_fail_after(0);
    mem_free(a);
    mem_free(b);
    mem_free(d);
}

static void strings_grow(void **state)
{
    (void)state;
    Err err = {0};
    Str s = {0};
    for (int i = 0; i < 1000; i++)
        CHECK_OK(str_printf(&s, &err, "%d,", i), &err);
    assert_int_equal(s.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(s.data), s.len);
    assert_memory_equal(s.data + s.len - 8, "998,999,", 9);
    CHECK_OK(str_append_n(&s, "a\0b", 3, &err), &err);
    assert_memory_equal(s.data + s.len - 3, "a\0b", 4);
    str_fini(&s);
    CHECK_OK(str_append_n(&s, NULL, 0, &err), &err);
    assert_string_equal(s.data, "");
    assert_int_equal(str_append_n(&s, "", -1, &err), ERR_NOMEM);
    str_fini(&s);
}

static void utf8(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int n, ok;
    } cases[] = {
        {"", 0, 1},
        {"plain", 5, 1},
        {"a\0b", 3, 1},
        {"\xc3\xa9", 2, 1},
        {"\xe2\x82\xac", 3, 1},
        {"\xf0\x9f\x91\x97", 4, 1},
        {"\xef\xbf\xbf", 3, 1},
        {"\xf4\x8f\xbf\xbf", 4, 1},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xc0\x80", 2, 0},
        {"\xc1\xbf", 2, 0},
        {"\xe0\x9f\xbf", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xed\x9f\xbf", 3, 1},
        {"\xc3", 1, 0},
        {"\xe2\x82", 2, 0},
        {"\x80", 1, 0},
        {"\xff", 1, 0},
        {"\xc3\x28", 2, 0},
        {"\xf5\x80\x80\x80", 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(str_is_utf8(cases[i].s, cases[i].n), cases[i].ok);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"learning_rate", "warmup_steps", "fps", NULL};
    assert_int_equal(str_distance("", "abc"), 3);
    assert_int_equal(str_distance("kitten", "sitting"), 3);
    assert_int_equal(str_distance("FPS", "fps"), 0);
    assert_int_equal(str_distance("uot", "out"), 1);
    assert_int_equal(str_distance("abcdef", ""), 6);
    assert_int_equal(str_distance("wamrup_setps", "warmup_steps"), 2);
    assert_string_equal(str_nearest("learningrate", names), "learning_rate");
    assert_string_equal(str_nearest("fp", names), "fps");
    assert_null(str_nearest("something_else", names));
    assert_null(str_nearest("foo", (const char *const[]){"fps", NULL}));
    assert_string_equal(str_nearest("epochs", (const char *const[]){"every_num_epochs", "num_epochs", NULL}),
                        "num_epochs");
    assert_null(str_nearest("um", (const char *const[]){"every_num_epochs", NULL}));
    assert_null(str_nearest("a", (const char *const[]){NULL}));
    char longest[500];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_null(str_nearest(longest, names));
    assert_string_equal(str_plural(1), "");
    assert_string_equal(str_plural(0), "s");
    assert_string_equal(str_plural(2), "s");
    assert_string_equal(str_plural((1ll << 32) + 1), "s"); /* no count is cut to 32 bits */
    assert_true(str_ends_with("a.yaml", ".yaml") && !str_ends_with("l", "yaml") && str_ends_with("x", ""));
}

static void hashes(void **state)
{
    (void)state;
    Err err = {0};
    Digest d, e;
    char hex[65];
    assert_true(hash_xxh3("", 0) == 0x2d06800538d394c2ull); /* xxHash's own: XXH3_64bits of nothing, seed 0 */
    CHECK_OK(sha256_bytes("abc", 3, &d, &err), &err);       /* FIPS 180-2, appendix B.1 */
    digest_hex(&d, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_OK(digest_parse(hex, &e, &err), &err);
    assert_memory_equal(&d, &e, sizeof d);
    CHECK_FAILS(digest_parse("abc", &e, &err), ERR_FORMAT, "64 hex digits", &err);
    hex[10] = 'g';
    CHECK_FAILS(digest_parse(hex, &e, &err), ERR_FORMAT, "64 hex digits", &err);
    Sha256 s = {0};
    sha256_fini(&s);
    CHECK_OK(sha256_init(&s, &err), &err);
    sha256_update(&s, "a", 1);
    sha256_update(&s, "bc", 2);
    sha256_final(&s, &e);
    assert_memory_equal(&d, &e, sizeof d);
    CHECK_OK(file_write_atomic(check_tmp_path("abc"), "abc", 3, &err), &err);
    CHECK_OK(sha256_file(check_tmp_path("abc"), &e, &err), &err);
    assert_memory_equal(&d, &e, sizeof d);
    CHECK_FAILS(sha256_file(check_tmp_path("absent"), &e, &err), ERR_NOTFOUND, "absent", &err);
    CHECK_FAILS(sha256_file(check_tmp(), &e, &err), ERR_IO, "reading", &err);
}

static void thread_count(void **state)
{
    (void)state;
    unsetenv("OMP_NUM_THREADS");
    assert_true(machine_threads() >= 1);
    assert_int_equal(threads_choose(0), machine_threads());
    setenv("OMP_NUM_THREADS", "3,2", 1);
    assert_int_equal(threads_choose(0), 3);
    assert_int_equal(threads_choose(5), 5);
    setenv("OMP_NUM_THREADS", "many", 1);
    assert_int_equal(threads_choose(0), machine_threads());
    unsetenv("OMP_NUM_THREADS");
}

/* In a child: how it ended after `signals`, the second one of which comes after `pause_s`. */
static int after_signals(int first, int second, unsigned pause_s)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(3);
        interrupt_install(NULL);
        raise(first);
        if (!interrupt_requested() || interrupt_signal() != first)
            _exit(1);
        sleep(pause_s);
        if (second)
            raise(second);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_signal_asks_to_stop(void **state)
{
    int status;
    (void)state;
    interrupt_install(NULL);
    assert_false(interrupt_requested());
    assert_int_equal(interrupt_signal(), 0);
    status = after_signals(SIGTERM, 0, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = after_signals(SIGINT, SIGINT, 0); /* the second one ends the process */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    status = after_signals(SIGTERM, SIGINT, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_false(interrupt_requested());
}

/* Slurm sends SIGTERM twice at the time limit, about a second apart. */
static void a_repeated_sigterm_is_one_request(void **state)
{
    int status;
    (void)state;
    status = after_signals(SIGTERM, SIGTERM, 1);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = after_signals(SIGTERM, SIGTERM, 4);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* What `write` prints to stderr, as text; static buffer. */
static const char *stderr_of(void (*write)(void))
{
    static char text[4096];
    char *path = check_tmp_path("stderr.txt");
    fflush(stderr);
    int saved = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    assert_true(saved >= 0 && fd >= 0);
    dup2(fd, STDERR_FILENO);
    write();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = 0;
    close(fd);
    return text;
}

static void two_signals_as_json(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-test", LOG_INFO, 1);
    if (fork() == 0) {
        interrupt_install(&log);
        raise(SIGTERM);
        raise(SIGTERM);
        _exit(0);
    }
    wait(NULL);
}

static void the_first_signal_prints_one_line(void **state)
{
    (void)state;
    json_t *o = json_loads(stderr_of(two_signals_as_json), 0, NULL); /* a second line would be refused */
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "program")), "weft-test");
    assert_non_null(strstr(json_string_value(json_object_get(o, "message")), "what is done is kept"));
    json_decref(o);
}

static void escapes(const char *text, int keep_newlines, const char *want)
{
    char shown[64];
    str_escape(shown, sizeof shown, text, keep_newlines);
    assert_string_equal(shown, want);
}

static void what_moves_the_cursor_is_escaped(void **state)
{
    char small[8];
    (void)state;
    escapes("caf\xc3\xa9 \xe2\x80\x9cx\xe2\x80\x9d", 0, "caf\xc3\xa9 \xe2\x80\x9cx\xe2\x80\x9d");
    escapes("a\nb\x1b[2J\x7f", 1, "a\nb\\x1B[2J\\x7F");
    escapes("a\nb", 0, "a\\x0Ab");
    escapes("\xc2\x9b"
            "31m",
            0, "\\u009B31m"); /* C1: a control sequence without ESC */
    escapes("\xe2\x80\xaegpj.exe\xe2\x80\xac", 0, "\\u202Egpj.exe\\u202C");
    escapes("\xe2\x81\xa7x\xd8\x9c\xe2\x80\x8f", 0, "\\u2067x\\u061C\\u200F");
    escapes("\xff\x9b", 0, "\\xFF\\x9B");
    str_escape(small, sizeof small, "1234\xc3\xa9\xc3\xa9", 0); /* cut at a whole character */
    assert_string_equal(small, "1234\xc3\xa9");
}

static void write_plain(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-prep", LOG_INFO, 0);
    log_error(&log.log, "no %s", "disk");
    log_warn(&log.log, "cut");
    log_info(&log.log, "start\n\033[2J");
    log_debug(&log.log, "unseen");
    log_info(NULL, "silence");
}

static void write_as_json(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-prep", LOG_WARN, 1);
    log_warn(&log.log, "a \"b\" \xff \xc3\xa9");
    log_info(&log.log, "unseen");
}

static void log_lines(void **state)
{
    (void)state;
    assert_string_equal(stderr_of(write_plain),
                        "weft-prep: error: no disk\nweft-prep: warning: cut\nweft-prep: start\\x0A\\x1B[2J\n");
    json_t *o = json_loads(stderr_of(write_as_json), 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(o, "program")), "weft-prep");
    assert_string_equal(json_string_value(json_object_get(o, "message")), "a \"b\" \\xFF \xc3\xa9");
    assert_int_equal(strlen(json_string_value(json_object_get(o, "time"))), 20);
    json_decref(o);
}

static void step_to_the_end(const Log *log)
{
    Progress *p = progress_start(log, "cache", "clips", 3);
    progress_step(p, 2, NULL);
    progress_step(p, 1, NULL); /* an older step does not take back */
    progress_step(p, 3, "loss 0.1");
    progress_end(&p);
    progress_end(&p);
}

static void write_progress(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-cache", LOG_INFO, 0);
    step_to_the_end(&log.log);
}

static void write_progress_as_json(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-cache", LOG_INFO, 1);
    step_to_the_end(&log.log);
}

static void write_quiet(void)
{
    StderrLog log;
    log_to_stderr(&log, "weft-cache", LOG_WARN, 0);
    step_to_the_end(&log.log);
    step_to_the_end(NULL);
}

static void progress_line(void **state)
{
    (void)state;
    const char *text = stderr_of(write_progress);
    assert_memory_equal(text, "weft-cache: cache: 3/3 clips, ", 30);
    assert_non_null(strstr(text, "/s, took 0:00, loss 0.1\n"));
    json_t *o = json_loads(stderr_of(write_progress_as_json), 0, NULL); /* one object, nothing else */
    assert_non_null(o);
    assert_memory_equal(json_string_value(json_object_get(o, "message")), "cache: 3/3 clips, ", 18);
    json_decref(o);
    assert_string_equal(stderr_of(write_quiet), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_cause_wins),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(errno_becomes_a_code),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(lists_grow),
        cmocka_unit_test(nth_allocation_fails),
        cmocka_unit_test(strings_grow),
        cmocka_unit_test(utf8),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(hashes),
        cmocka_unit_test(thread_count),
        cmocka_unit_test(a_signal_asks_to_stop),
        cmocka_unit_test(a_repeated_sigterm_is_one_request),
        cmocka_unit_test(the_first_signal_prints_one_line),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(what_moves_the_cursor_is_escaped),
        cmocka_unit_test(progress_line),
    };
    return check_run_live("base_core", tests);
}
