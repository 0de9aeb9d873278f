/* at_call N[,N...] ACTION COMMAND...: runs the command and, just before its N-th call that changes
 * files or folders, the shell line ACTION; then the call goes on, if its process still lives.
 * at_call when ACTION COMMAND...: before each such call, until the action succeeds.
 *
 * Only those calls leave something for a later run to find, so the N-th is a moment in the work and
 * the same one on any machine, however fast.  Calls of all threads and child processes count; output
 * to descriptors 0 to 2 does not.  The action finds the command's process in $PID, also the leader of
 * a process group of its own, and the one that calls in $CALLER.
 * Ends as the command does, with its exit status or of its signal; 125: tracing is not allowed here.
 * With N 0 there is no action, and the last line of stderr is "calls COUNT". */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_ALLOWED = 125, CALLS_MAX = 64 };

static const int to_descriptor[] = {SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev};
static const int changing[] = {
    SYS_ftruncate, SYS_fallocate, SYS_fsync,  SYS_fdatasync, SYS_msync, SYS_renameat2,
    SYS_unlinkat,  SYS_mkdirat,   SYS_linkat, SYS_symlinkat,
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef SYS_rename /* newer processors' tables lack the calls without "at" */
    SYS_rename,    SYS_unlink,    SYS_mkdir,  SYS_rmdir,     SYS_link,  SYS_symlink,
#endif
};

static struct sock_filter program[CALLS_MAX];
static int lines;

static void add(unsigned code, unsigned k, int when_true, int when_false)
{
    program[lines++] = (struct sock_filter){(unsigned short)code, (unsigned char)when_true, (unsigned char)when_false,
                                            k};
}

/* The kernel stops for the tracer at these calls alone. */
static int trace_changes(void)
{
    int writes = sizeof to_descriptor / sizeof *to_descriptor, others = sizeof changing / sizeof *changing;
    struct sock_fprog filter = {.filter = program};

    add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (int i = 0; i < others; i++)
        add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)changing[i], others - i + writes + 2, 0);
    for (int i = 0; i < writes; i++)
        add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)to_descriptor[i], writes - i, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args), 0, 0);
    add(BPF_JMP | BPF_JGT | BPF_K, 2, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRACE, 0, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    filter.len = (unsigned short)lines;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* In the child: waits until it is traced, then becomes the command. */
static void become(char **command, int ready)
{
    const char *options = getenv("ASAN_OPTIONS");
    char c, text[1024];

    /* the leak check traces, too, and a process can have only one tracer */
    snprintf(text, sizeof text, "%s%sdetect_leaks=0", options ? options : "", options ? ":" : "");
    setenv("ASAN_OPTIONS", text, 1);
    signal(SIGINT, SIG_DFL); /* sh starts what is in the background with both ignored, nohup with SIGHUP */
    signal(SIGQUIT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    setpgid(0, 0);
    if (read(ready, &c, 1) != 1 || trace_changes() != 0)
        _exit(NOT_ALLOWED);
    close(ready);
    execvp(command[0], command);
    _exit(127);
}

/* Acts if call number `call` is the one that `at` names next. */
static void act(const char **at, long call, const char *action, pid_t caller)
{
    int when = strcmp(*at, "when") == 0;
    char text[32];

    if (!when && strtol(*at, NULL, 10) != call)
        return;
    snprintf(text, sizeof text, "%ld", (long)caller);
    setenv("CALLER", text, 1);
    if (system(action) == 0 || !when) {
        *at += strcspn(*at, ",");
        *at += **at == ',';
    }
}

/* Follows the command to its end and returns how it ended.  `at`: the calls before which to act. */
static int follow(pid_t command, const char *at, const char *action, long *calls)
{
    int status, result = NOT_ALLOWED << 8;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        int event = status >> 16, sig = 0;
        if (!WIFSTOPPED(status)) {
            if (pid == command)
                result = status;
            continue;
        }
        if (event == PTRACE_EVENT_SECCOMP) {
            act(&at, ++*calls, action, pid);
        } else if (event == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP) {
            ptrace(PTRACE_LISTEN, pid, 0, 0);
            continue;
        } else if (!event) {
            sig = WSTOPSIG(status);
        }
        ptrace(PTRACE_CONT, pid, 0, sig);
    }
    return result;
}

int main(int argc, char **argv)
{
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    char text[32];
    long calls = 0;
    int ready[2], status;
    pid_t pid;

    if (argc < 4 || pipe(ready) != 0 || (pid = fork()) < 0)
        return 127;
    if (pid == 0) {
        close(ready[1]);
        become(argv + 3, ready[0]);
    }
    close(ready[0]);
    snprintf(text, sizeof text, "%ld", (long)pid);
    setenv("PID", text, 1);
    if (ptrace(PTRACE_SEIZE, pid, 0, options) != 0) {
        close(ready[1]);
        waitpid(pid, &status, 0);
        return NOT_ALLOWED;
    }
    if (write(ready[1], "", 1) != 1)
        return NOT_ALLOWED;
    close(ready[1]);
    status = follow(pid, argv[1], argv[2], &calls);
    if (strcmp(argv[1], "0") == 0)
        fprintf(stderr, "calls %ld\n", calls);
    if (WIFSIGNALED(status)) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}
