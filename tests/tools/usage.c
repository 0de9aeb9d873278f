/* usage [-a] COMMAND...: runs it and writes "usage PEAK_KB USER_MS" as the last line of stderr; its exit
 * status is the command's.  -a adds " SYSTEM_MS ANONYMOUS_KB", the last without mapped files and as
 * seen every few milliseconds.  For tests that hold memory flat and time linear. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long in_ms(struct timeval t)
{
    return t.tv_sec * 1000 + t.tv_usec / 1000;
}

static long anonymous_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %ld", &kb) != 1)
        continue;
    if (f)
        fclose(f);
    return kb;
}

int main(int argc, char **argv)
{
    struct rusage used;
    int status, all = argc > 1 && strcmp(argv[1], "-a") == 0;
    long most = 0, now;
    pid_t pid = argc > 1 + all ? fork() : -1, ended = 0;
    if (pid == 0) {
        execvp(argv[1 + all], argv + 1 + all);
        _exit(127);
    }
    while (pid > 0 && all && (ended = wait4(pid, &status, WNOHANG, &used)) == 0) {
        now = anonymous_kb(pid);
        most = now > most ? now : most;
        usleep(3000);
    }
    if (pid < 0 || (ended == 0 && wait4(pid, &status, 0, &used) != pid))
        return 127;
    fprintf(stderr, "usage %ld %ld", used.ru_maxrss, in_ms(used.ru_utime));
    if (all)
        fprintf(stderr, " %ld %ld", in_ms(used.ru_stime), most);
    fprintf(stderr, "\n");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
