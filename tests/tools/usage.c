/* usage COMMAND...: runs it and writes "usage PEAK_KB USER_MS" as the last line of stderr; its exit
 * status is the command's.  For tests that hold memory flat and time linear. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct rusage used;
    int status;
    pid_t pid = argc > 1 ? fork() : -1;
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid)
        return 127;
    fprintf(stderr, "usage %ld %ld\n", used.ru_maxrss, used.ru_utime.tv_sec * 1000 + used.ru_utime.tv_usec / 1000);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
