/* Workers that crash, hang, spin, eat memory, are killed, lose their parent: each costs its item
 * and is reported. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/worker.h"

enum { FINE, CRASH, ABORT, SPIN, EAT, KILLED_ONCE, KILLED_ALWAYS, LARGE, KINDS };

typedef struct Seen {
    char code[KINDS][20], text[KINDS][256];
    int64_t size[KINDS], total;
    char *flag;
    int stop_after;
} Seen;

static void spin(void)
{
    for (volatile uint64_t i = 0;; i++) {
    }
}

static int work(void *user, int64_t item, json_t **out, Err *err)
{
    Seen *s = user;
    switch (item % KINDS) {
    case CRASH:
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would turn it into an exit */
        raise(SIGSEGV);
        break;
    case ABORT: signal(SIGABRT, SIG_DFL); abort();
    case SPIN: spin(); break;
    case EAT: return mem_calloc((int64_t)1 << 40, 1, err) ? 0 : ERR_NOMEM;
    case KILLED_ONCE:
        if (file_exists(s->flag))
            break;
        if (file_write_atomic(s->flag, "x", 1, err) == 0)
            raise(SIGKILL);
        break;
    case KILLED_ALWAYS: raise(SIGKILL); break;
    case LARGE: { /* more than a pipe holds */
        char *text = mem_calloc(1000001, 1, err);
        memset(text, 'a', 1000000);
        *out = json_string(text);
        mem_free(text);
        return 0;
    }
    default: break;
    }
    *out = json_string("fine");
    return 0;
}

static int done(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err)
{
    Seen *s = user;
    (void)err;
    int64_t kind = item % KINDS;
    snprintf(s->code[kind], sizeof s->code[kind], "%s", code ? code : "");
    snprintf(s->text[kind], sizeof s->text[kind], "%s", text ? text : "");
    s->size[kind] = result ? (int64_t)json_string_length(result) : -1;
    s->total++;
    return 0;
}

static int stop_early(void *user)
{
    const Seen *s = user;
    return s->stop_after && s->total >= s->stop_after;
}

static void every_kind(void **state)
{
    Err err = {0};
    Seen s = {.flag = check_tmp_path("flag")};
    Workers w = {
        .jobs = 3, .limits = {1, 100, 256 << 20, 0}, .user = &s, .work = work, .done = done, .stop = stop_early};
    (void)state;
    CHECK_OK(workers_run(&w, KINDS, &err), &err);
    assert_int_equal(s.total, KINDS);
    assert_int_equal(s.size[FINE], 4);
    assert_int_equal(s.size[LARGE], 1000000);
    assert_int_equal(s.size[KILLED_ONCE], 4); /* tried again */
    assert_string_equal(s.code[CRASH], "worker_crash");
    assert_non_null(strstr(s.text[CRASH], "signal 11"));
    assert_string_equal(s.code[ABORT], "worker_crash");
    assert_string_equal(s.code[KILLED_ALWAYS], "worker_crash");
    assert_non_null(strstr(s.text[KILLED_ALWAYS], "signal 9 (Killed) every time"));
    assert_string_equal(s.code[SPIN], "timeout");
    assert_non_null(strstr(s.text[SPIN], "limits.cpu_seconds"));
    assert_string_equal(s.code[EAT], "memory");
}

static int hang(void *user, int64_t item, json_t **out, Err *err)
{
    (void)user;
    (void)err;
    while (item == 0)
        pause();
    *out = json_string("fine");
    return 0;
}

static void a_hang(void **state)
{
    Err err = {0};
    Seen s = {0};
    Workers w = {.jobs = 1, .limits = {.wall_s = 1}, .user = &s, .work = hang, .done = done, .stop = stop_early};
    (void)state;
    CHECK_OK(workers_run(&w, 2, &err), &err);
    assert_string_equal(s.code[0], "timeout");
    assert_non_null(strstr(s.text[0], "limits.wall_seconds"));
    assert_int_equal(s.size[1], 4);
}

static int refuse(void *user, int64_t item, json_t **out, Err *err)
{
    (void)user;
    *out = json_null();
    if (item > 3)
        usleep(500000); /* on a busy machine ten of no length may end before the one that refuses begins */
    return item == 3 ? err_set(err, ERR_IO, "the disk is full: %s", "really") : 0;
}

static void an_error_stops_the_run(void **state)
{
    Err err = {0};
    Seen s = {0};
    Workers w = {.jobs = 2, .user = &s, .work = refuse, .done = done, .stop = stop_early};
    (void)state;
    CHECK_FAILS(workers_run(&w, 1000, &err), ERR_IO, "the disk is full: really", &err);
    assert_true(s.total < 10);
    err_clear(&err);
    s = (Seen){.stop_after = 2};
    w.work = work;
    w.limits = (WorkerLimits){0};
    w.jobs = 1;
    CHECK_OK(workers_run(&w, 1, &err), &err);
    assert_int_equal(s.total, 1);
    s = (Seen){.stop_after = 1};
    w.jobs = 0;
    CHECK_OK(workers_run(&w, 1000, &err), &err);
    assert_int_equal(s.total, 1);
}

/* The child writes its process number, then hangs; its parent is killed. */
static int tell_and_hang(void *user, int64_t item, json_t **out, Err *err)
{
    char text[32];
    (void)item;
    (void)out;
    snprintf(text, sizeof text, "%d", (int)getpid());
    if (file_write_atomic(user, text, (int64_t)strlen(text), err) < 0)
        return ERR_IO;
    for (;;)
        pause();
}

static int never(void *user)
{
    (void)user;
    return 0;
}

static void no_orphans(void **state)
{
    Err err = {0};
    char *path = check_tmp_path("pid"), *text;
    int64_t size;
    struct timespec moment = {0, 20000000};
    (void)state;
    pid_t parent = fork();
    if (parent == 0) {
        Workers w = {.jobs = 1, .user = path, .work = tell_and_hang, .done = done, .stop = never};
        err_ignore(workers_run(&w, 1, &err));
        _exit(0);
    }
    for (int i = 0; i < 500 && !file_exists(path); i++)
        nanosleep(&moment, NULL);
    CHECK_OK(file_read(path, 100, &text, &size, &err), &err);
    pid_t child = (pid_t)atoi(text);
    mem_free(text);
    assert_true(child > 0 && kill(child, 0) == 0);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    char stat[64], line[512] = "";
    int gone = 0;
    snprintf(stat, sizeof stat, "/proc/%d/stat", (int)child);
    for (int i = 0; i < 500 && !gone; i++) { /* gone, or dead and not yet collected by whoever inherits it */
        FILE *f = fopen(stat, "r");
        gone = !f || !fgets(line, sizeof line, f) || strstr(line, ") Z ") || strstr(line, ") X ");
        if (f)
            fclose(f);
        nanosleep(&moment, NULL);
    }
    assert_true(gone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind), cmocka_unit_test(a_hang),
                                       cmocka_unit_test(an_error_stops_the_run), cmocka_unit_test(no_orphans)};
    return check_run_live("base worker", tests);
}
