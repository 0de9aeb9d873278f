#include "common/base/mapped.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/str.h"

enum { LINE = PATH_MAX + 256, TEXT = 4 * LINE };

static char program_name[64];
static int as_json;
static pid_t installed_by;

/* The next line of a file, without its end; 0 at the end.  A signal handler may not allocate, as
 * fgets does. */
static int next_line(int fd, char *line)
{
    int64_t n = 0;
    for (char c; read(fd, &c, 1) == 1;) {
        if (c == '\n') {
            line[n] = 0;
            return 1;
        }
        if (n < LINE - 1)
            line[n++] = c;
    }
    return 0;
}

static uint64_t read_hex(const char **at)
{
    uint64_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return value;
    }
}

/* The kernel writes a line's end inside a name as four characters. */
static void restore_newlines(char *path)
{
    for (char *at = path; (at = strstr(at, "\\012")) != NULL; at++) {
        *at = '\n';
        memmove(at + 1, at + 4, strlen(at + 4) + 1);
    }
}

/* One line of /proc/self/maps, "START-END r--p OFFSET DEVICE INODE   PATH": the path, and the
 * address's place in the file; NULL when the address is elsewhere or nothing is mapped for reading
 * only.  (Memory that is shared with a child is mapped for writing, and has a name too.) */
static char *match(char *line, uint64_t address, uint64_t *offset)
{
    const char *at = line;
    char *path = strchr(line, '/');
    uint64_t start = read_hex(&at), end = *at == '-' ? (at++, read_hex(&at)) : 0;
    if (address < start || address >= end || strncmp(at, " r--", 4) != 0 || !path)
        return NULL;
    at += strlen(" r--p ");
    *offset = read_hex(&at) + (address - start);
    return path;
}

int mapped_describe(const void *address, char *out, int64_t size)
{
    static char line[LINE];
    char *path = NULL;
    uint64_t offset = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct stat st;

    out[0] = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (!path && next_line(fd, line))
        path = match(line, (uint64_t)(uintptr_t)address, &offset);
    close(fd);
    if (!path)
        return 0;
    restore_newlines(path);
    if (stat(path, &st) == 0 && offset / page * page >= (uint64_t)st.st_size)
        snprintf(out, (size_t)size, "'%s' became shorter while it was read; put a whole copy back", path);
    else
        snprintf(out, (size_t)size, "reading '%s' failed at byte %" PRIu64 ": its disk or network reports an error",
                 path, offset);
    return 1;
}

/* Quotation marks and backslashes as JSON wants them; all else that needs it str_escape has done. */
static void put_json(char *out, int64_t size, const char *text)
{
    int64_t n = snprintf(out, (size_t)size, "{\"level\":\"error\",\"program\":\"%s\",\"message\":\"", program_name);
    for (; *text && n < size - 8; text++) {
        if (*text == '"' || *text == '\\')
            out[n++] = '\\';
        out[n++] = *text;
    }
    memcpy(out + n, "\"}\n", 4);
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    static char text[TEXT], shown[TEXT], line[TEXT + 128];
    (void)context;
    if (getpid() != installed_by || info->si_code <= 0) { /* sent by a process: kill, raise */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    while (atomic_flag_test_and_set(&taken))
        pause(); /* another thread met the same file, and ends the process */
    if (!mapped_describe(info->si_addr, text, sizeof text)) {
        atomic_flag_clear(&taken);
        signal(number, SIG_DFL); /* comes again when this handler returns */
        return;
    }
    str_escape(shown, sizeof shown, text, 0);
    if (as_json)
        put_json(line, sizeof line, shown);
    else
        snprintf(line, sizeof line, "%s: error: %s\n", program_name, shown);
    ssize_t put = write(STDERR_FILENO, line, strlen(line));
    (void)put; /* standard error is closed: nothing can be done about that here */
    _exit(1);
}

void mapped_install(const StderrLog *log)
{
    snprintf(program_name, sizeof program_name, "%s", log->program);
    as_json = log->log.json;
    installed_by = getpid();
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
