#include "common/base/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"

enum { TRIES = 3, EXIT_RESULT = 0, EXIT_ERROR = 10, EXIT_MEMORY = 11, RESULT_MAX = 1 << 28 };

typedef struct Child {
    pid_t pid; /* 0: a free place */
    int fd, tries, late;
    int64_t item;
    double deadline;
    Str text;
} Child;

typedef struct Pool {
    const Workers *w;
    Child *child;
    struct pollfd *fds;
    int64_t n, next, running;
} Pool;

/* ---- in the child ---------------------------------------------------------------------------- */
static void limit(int what, int64_t soft, int64_t hard)
{
    struct rlimit l;
    if (getrlimit((__rlimit_resource_t)what, &l) < 0)
        return;
    if (l.rlim_max == RLIM_INFINITY || (rlim_t)hard < l.rlim_max)
        l.rlim_max = (rlim_t)hard;
    l.rlim_cur = (rlim_t)soft < l.rlim_max ? (rlim_t)soft : l.rlim_max;
    setrlimit((__rlimit_resource_t)what, &l);
}

/* Bytes of address space in use; 0 when the system does not say. */
static int64_t address_space(void)
{
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static void set_limits(const WorkerLimits *l)
{
    int64_t used = l->memory_bytes ? address_space() : 0;
    limit(RLIMIT_CORE, 0, 0);
    if (l->cpu_s)
        limit(RLIMIT_CPU, l->cpu_s, l->cpu_s + 5);
    if (used)
        limit(RLIMIT_AS, used + l->memory_bytes, used + l->memory_bytes);
    if (l->file_bytes)
        limit(RLIMIT_FSIZE, l->file_bytes, l->file_bytes);
}

static int send_all(int fd, const char *text)
{
    size_t n = strlen(text);
    while (n) {
        ssize_t put = write(fd, text, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return 0;
        text += put;
        n -= (size_t)put;
    }
    return 1;
}

static int run_child(const Workers *w, int64_t item, int fd)
{
    json_t *result = NULL;
    Err err = {0};
    set_limits(&w->limits);
    int rc = w->work(w->user, item, &result, &err);
    char *text = rc < 0 ? NULL : json_text(result, 0, &err);
    if (rc == ERR_NOMEM || (rc == 0 && !text))
        return EXIT_MEMORY;
    if (rc < 0) {
        char code[16];
        snprintf(code, sizeof code, "%d ", rc);
        return send_all(fd, code) && send_all(fd, err.msg) ? EXIT_ERROR : EXIT_MEMORY;
    }
    /* What the limits would spoil in freeing it, the end of the process frees. */
    return send_all(fd, text) ? EXIT_RESULT : EXIT_MEMORY;
}

/* ---- in the parent --------------------------------------------------------------------------- */
static int start(Pool *p, Child *c, int64_t item, int tries, Err *err)
{
    int fd[2];
    if (pipe(fd) < 0)
        return err_errno(err, errno, "opening a pipe to a worker");
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        int e = errno;
        close(fd[0]);
        close(fd[1]);
        return err_errno(err, e, "starting a worker");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fd[0]);
        for (int64_t i = 0; i < p->w->jobs; i++)
            if (p->child[i].pid)
                close(p->child[i].fd);
        /* the parent may have died before the call */
        _exit(getppid() == parent ? run_child(p->w, item, fd[1]) : EXIT_MEMORY);
    }
    close(fd[1]);
    str_fini(&c->text);
    *c = (Child){
        .pid = pid, .fd = fd[0], .tries = tries, .item = item, .deadline = time_now_s() + (double)p->w->limits.wall_s};
    p->running++;
    return 0;
}

/* Why a child gave no result. */
static const char *cause(const Workers *w, const Child *c, int status, char *text, size_t size)
{
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (c->late || sig == SIGXCPU) {
        snprintf(text, size, "reading it took more than %" PRId64 " s %s", c->late ? w->limits.wall_s : w->limits.cpu_s,
                 c->late ? "(limits.wall_seconds)" : "of processor time (limits.cpu_seconds)");
        return "timeout";
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MEMORY) {
        snprintf(text, size, "reading it took more memory than there is, or than limits.memory_mb allows");
        return "memory";
    }
    if (sig)
        snprintf(text, size, "the process that read it died of signal %d (%s)%s", sig, strsignal(sig),
                 c->tries > 1 ? " every time" : "");
    else
        snprintf(text, size, "the process that read it ended with status %d",
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return "worker_crash";
}

static int finish_child(Pool *p, Child *c, Err *err)
{
    const Workers *w = p->w;
    int status = 0, rc;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {
    }
    close(c->fd);
    c->pid = 0;
    p->running--;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_ERROR && c->text.len) {
        char *end;
        long code = strtol(c->text.data, &end, 10);
        return err_set(err, code < 0 ? (int)code : ERR_FORMAT, "%s", end + (*end == ' '));
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_RESULT) {
        json_t *result = NULL;
        rc = json_parse(&result, c->text.data ? c->text.data : "", c->text.len, "a worker's result", err);
        if (rc == 0)
            rc = w->done(w->user, c->item, result, NULL, NULL, err);
        json_decref(result);
        return rc;
    }
    int from_outside = WIFSIGNALED(status) && !c->late && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
    if (from_outside && c->tries < TRIES && !w->stop(w->user))
        return start(p, c, c->item, c->tries + 1, err);
    if (from_outside && w->stop(w->user))
        return 0; /* the item is done when the run goes on */
    char text[256];
    const char *code = cause(w, c, status, text, sizeof text);
    return w->done(w->user, c->item, NULL, code, text, err);
}

/* Reads what has come; at the end of it the child is done. */
static int listen_to(Pool *p, Child *c, Err *err)
{
    char buf[65536];
    ssize_t got = read(c->fd, buf, sizeof buf);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (got > 0 && c->text.len < RESULT_MAX)
        return str_append_n(&c->text, buf, got, err);
    if (got > 0)
        kill(c->pid, SIGKILL);
    return got > 0 ? 0 : finish_child(p, c, err);
}

/* Waits for news of any child, at most until the first deadline. */
static int wait_for_news(Pool *p, Err *err)
{
    double now = time_now_s(), first = now + 3600;
    for (int64_t i = 0; i < p->w->jobs; i++) {
        Child *c = &p->child[i];
        p->fds[i] = (struct pollfd){.fd = c->pid ? c->fd : -1, .events = POLLIN};
        if (c->pid && p->w->limits.wall_s && !c->late && c->deadline < first)
            first = c->deadline;
    }
    int timeout = first > now ? (int)((first - now) * 1000) + 1 : 0;
    if (poll(p->fds, (nfds_t)p->w->jobs, timeout) < 0 && errno != EINTR)
        return err_errno(err, errno, "waiting for workers");
    now = time_now_s();
    int rc = 0;
    for (int64_t i = 0; i < p->w->jobs && rc == 0; i++) {
        Child *c = &p->child[i];
        if (!c->pid)
            continue;
        if (p->fds[i].revents) {
            rc = listen_to(p, c, err);
        } else if (p->w->limits.wall_s && !c->late && now >= c->deadline) {
            c->late = 1;
            kill(c->pid, SIGKILL);
        }
    }
    return rc;
}

static int run_here(const Workers *w, int64_t n, Err *err)
{
    int rc = 0;
    for (int64_t i = 0; i < n && rc == 0 && !w->stop(w->user); i++) {
        json_t *result = NULL;
        rc = w->work(w->user, i, &result, err);
        if (rc == 0)
            rc = w->done(w->user, i, result, NULL, NULL, err);
        json_decref(result);
    }
    return rc;
}

int workers_run(const Workers *w, int64_t n, Err *err)
{
    if (w->jobs < 1)
        return run_here(w, n, err);
    Pool p = {.w = w,
              .n = n,
              .child = mem_calloc(w->jobs, sizeof *p.child, err),
              .fds = mem_calloc(w->jobs, sizeof *p.fds, err)};
    int rc = p.child && p.fds ? 0 : ERR_NOMEM;
    while (rc == 0) {
        for (int64_t i = 0; i < w->jobs && rc == 0; i++)
            if (!p.child[i].pid && p.next < n && !w->stop(w->user))
                rc = start(&p, &p.child[i], p.next++, 1, err);
        if (rc < 0 || p.running == 0)
            break;
        rc = wait_for_news(&p, err);
    }
    for (int64_t i = 0; p.child && i < w->jobs; i++) { /* what a failure leaves running */
        Child *c = &p.child[i];
        if (c->pid) {
            kill(c->pid, SIGKILL);
            while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
            }
            close(c->fd);
        }
        str_fini(&c->text);
    }
    mem_free(p.child);
    mem_free(p.fds);
    return rc;
}
