#include "common/base/machine.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "common/base/file.h"
#include "common/base/launcher.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- cores ----------------------------------------------------------------------------------- */

/* The cores of OpenMP's places; 0 when it has none, so that affinity decides. */
static int places(cpu_set_t *out)
{
    CPU_ZERO(out);
#ifdef _OPENMP
    for (int i = 0; i < omp_get_num_places(); i++) {
        int n = omp_get_place_num_procs(i);
        int *ids = n > 0 ? mem_calloc(n, sizeof *ids, NULL) : NULL;
        if (ids)
            omp_get_place_proc_ids(i, ids);
        for (int k = 0; ids && k < n; k++)
            CPU_SET(ids[k], out);
        mem_free(ids);
    }
#endif
    return CPU_COUNT(out);
}

int64_t machine_cores(void)
{
    cpu_set_t set;
    int n = places(&set);
    if (n == 0) {
        CPU_ZERO(&set);
        n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    }
    return n > 0 ? n : 1;
}

void machine_unbind(void)
{
    cpu_set_t set;
    if (places(&set) > 0) /* a failure leaves the thread where it was, which is slow but right */
        sched_setaffinity(0, sizeof set, &set);
}

/* ---- control groups -------------------------------------------------------------------------- */

enum { SMALL_FILE = 1 << 20 };

static int read_small(const char *root, const char *path, Str *out)
{
    char *whole = mem_printf(NULL, "%s%s", root, path), *text = NULL;
    int64_t size;
    int rc = whole ? file_read(whole, SMALL_FILE, &text, &size, NULL) : ERR_NOMEM;
    mem_free(whole);
    if (rc < 0)
        return rc;
    *out = (Str){.data = text, .len = size, .cap = size + 1};
    return 0;
}

/* The word number `n` (from 0) of a line into `out`; 0 when the line is shorter. */
static int word_of(const char *line, int n, char *out, size_t size)
{
    for (; n > 0; n--) {
        line += strcspn(line, " ");
        line += strspn(line, " ");
    }
    snprintf(out, size, "%.*s", (int)strcspn(line, " \n"), line);
    return out[0] != 0;
}

static int in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == 0))
            return 1;
    }
    return 0;
}

enum { PATH_BYTES = 1024 };

/* Where the process's group of the hierarchy with the cpu controller lies: line "N:LIST:PATH" of
 * /proc/self/cgroup.  version 2 has an empty list.  1 when found. */
static int group_path(const Str *groups, int version, char *out)
{
    const char *line;
    int64_t at = 0, size;
    while (lines_next(groups->data, groups->len, &at, &line, &size)) {
        char text[PATH_BYTES + 64];
        snprintf(text, sizeof text, "%.*s", (int)size, line);
        char *list = strchr(text, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        if (version == 2 ? list[1] == 0 : in_list(list + 1, "cpu")) {
            snprintf(out, PATH_BYTES, "%s", path);
            return 1;
        }
    }
    return 0;
}

typedef struct Mount {
    char top[PATH_BYTES];   /* which group of the hierarchy is mounted */
    char point[PATH_BYTES]; /* and where */
} Mount;

/* "36 25 0:31 TOP POINT options ... - TYPE SOURCE SUPER-OPTIONS" of /proc/self/mountinfo. */
static int find_mount(const Str *mounts, int version, Mount *out)
{
    const char *line;
    int64_t at = 0, size;
    while (lines_next(mounts->data, mounts->len, &at, &line, &size)) {
        char text[4 * PATH_BYTES], type[32], options[512];
        snprintf(text, sizeof text, "%.*s", (int)size, line);
        const char *tail = strstr(text, " - ");
        if (!tail || !word_of(tail + 3, 0, type, sizeof type) || !word_of(tail + 3, 2, options, sizeof options))
            continue;
        if (strcmp(type, version == 2 ? "cgroup2" : "cgroup") != 0 || (version == 1 && !in_list(options, "cpu")))
            continue;
        if (word_of(text, 3, out->top, PATH_BYTES) && word_of(text, 4, out->point, PATH_BYTES))
            return 1;
    }
    return 0;
}

/* The quota of one group: "MAX PERIOD" (version 2), or two files (version 1); 0: none. */
static double quota_of(const char *root, const char *dir, int version)
{
    static const char *const files[3][2] = {{0}, {"cpu.cfs_quota_us", "cpu.cfs_period_us"}, {"cpu.max", NULL}};
    double number[2] = {0, 0};
    for (int i = 0; i < 2 && files[version][i]; i++) {
        Str text = {0};
        char *path = mem_printf(NULL, "%s/%s", dir, files[version][i]);
        if (path && read_small(root, path, &text) == 0) {
            char *end = text.data;
            number[i] = strtod(text.data, &end); /* "max" gives 0 */
            if (version == 2)
                number[1] = strtod(end + strspn(end, " "), NULL);
        }
        mem_free(path);
        str_fini(&text);
    }
    return number[0] > 0 && number[1] > 0 ? number[0] / number[1] : 0;
}

/* The least quota of a group and of those above it, up to where the hierarchy is mounted. */
static double quota_upwards(const char *root, const Mount *m, const char *group, int version)
{
    char dir[3 * PATH_BYTES];
    double least = 0;
    /* Seen from inside a container a path may begin with what is mounted, or lead out of it. */
    size_t top = strcmp(m->top, "/") == 0 ? 0 : strlen(m->top);
    const char *below = strncmp(group, m->top, top) == 0 ? group + top : "";
    if (strncmp(below, "/..", 3) == 0)
        below = "";
    snprintf(dir, sizeof dir, "%s%s", m->point, strcmp(below, "/") == 0 ? "" : below);
    for (;;) {
        double quota = quota_of(root, dir, version);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= strlen(m->point) || !slash)
            return least;
        *slash = 0;
    }
}

double machine_cpu_quota(const char *root)
{
    Str groups = {0}, mounts = {0};
    double least = 0;
    if (read_small(root, "/proc/self/cgroup", &groups) == 0 && read_small(root, "/proc/self/mountinfo", &mounts) == 0) {
        for (int version = 1; version <= 2; version++) { /* both may be mounted; one has the controller */
            char group[PATH_BYTES];
            Mount m;
            if (!group_path(&groups, version, group) || !find_mount(&mounts, version, &m))
                continue;
            double quota = quota_upwards(root, &m, group, version);
            if (quota > 0 && (least == 0 || quota < least))
                least = quota;
        }
    }
    str_fini(&groups);
    str_fini(&mounts);
    return least;
}

int64_t machine_threads(void)
{
    int64_t cores = machine_cores(), share = launcher_share(), rank, ranks;
    double quota = machine_cpu_quota("");
    if (share > 0 && share < cores)
        cores = share;
    launcher_local(&rank, &ranks);
    quota /= (double)ranks; /* mpirun's processes on this machine have one quota */
    if (quota > 0 && quota < (double)cores)
        cores = quota < 2 ? 1 : (int64_t)quota;
    return cores;
}

void machine_note(const Log *log)
{
    long all = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t cores = machine_cores();
    double quota = machine_cpu_quota("");
    if (quota > 0 && quota < (double)cores)
        log_info(log, "the control group's CPU quota is %.2f of %" PRId64 " cores: %" PRId64 " thread%s by default",
                 quota, cores, machine_threads(), str_plural(machine_threads()));
    else if (!launcher_note(log) && cores < all)
        log_info(log,
                 "CPU affinity (taskset, a batch system, OMP_PLACES or GOMP_CPU_AFFINITY) allows %" PRId64
                 " of %ld cores",
                 cores, all);
}

/* ---- address space --------------------------------------------------------------------------- */

/* OpenBLAS maps one buffer a calling thread, of 128 MiB on x86-64 (32 MiB in older versions), and
 * tries again for ever when it cannot; a thread's stack is 8 MiB by default, and glibc reserves 64 MiB
 * for a thread's heap but does without. */
enum { BLAS_BUFFER = 128 << 20, STACK = 8 << 20, SLACK = 64 << 20 };

static int can_map(int64_t bytes)
{
    void *p = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return 0;
    munmap(p, (size_t)bytes);
    return 1;
}

static int64_t blas_needs(int64_t threads)
{
    return threads * (BLAS_BUFFER + STACK) + SLACK;
}

static int is_limited(int64_t *bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    *bytes = (int64_t)limit.rlim_cur;
    return 1;
}

static int refuse_address_space(int64_t limit, int64_t threads, Err *err)
{
    return err_set(err, ERR_LIMIT,
                   "the address space is limited to %" PRId64 " MB (ulimit -v), which leaves less than the %" PRId64
                   " MB that BLAS needs for %" PRId64 " thread%s: raise the limit, or give fewer with --jobs "
                   "and OPENBLAS_NUM_THREADS",
                   limit >> 20, blas_needs(threads) >> 20, threads, str_plural(threads));
}

int machine_check_address_space(int64_t threads, Err *err)
{
    int64_t limit;
    if (!is_limited(&limit))
        return 0;
    /* BLAS's own threads, started before main, take their buffers in the first moments. */
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    return can_map(blas_needs(threads)) ? 0 : refuse_address_space(limit, threads, err);
}

/* ---- starting again -------------------------------------------------------------------------- */

/* OpenBLAS's own; absent from other CBLAS libraries. */
extern __attribute__((weak)) char *openblas_get_corename(void);

const char *machine_slow_kernels(void)
{
#if defined(__x86_64__)
    static const char *const slow[] = {"Prescott", "Core2", "Nehalem", "Sandybridge", "Haswell", "Zen"};
    const char *core = openblas_get_corename ? openblas_get_corename() : "";
    __builtin_cpu_init();
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++)
        if (strcmp(core, slow[i]) == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl"))
            return slow[i];
#endif
    return NULL;
}

/* OpenBLAS takes a buffer while it is loaded, and some versions (0.3.29) try for ever when they get
 * none.  The dynamic linker calls this before any library starts; sanitizers need that place for
 * themselves, and map more than any such limit allows. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WEFT_SANITIZED 1
#endif
#endif
#if !defined(WEFT_SANITIZED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* How many buffers: one a thread, as many threads as OpenBLAS starts. */
static int64_t blas_threads(char **environment)
{
    static const char *const names[] = {"OPENBLAS_NUM_THREADS=", "OMP_NUM_THREADS="};
    for (int i = 0; i < 2; i++)
        for (char **e = environment; *e; e++)
            if (strncmp(*e, names[i], strlen(names[i])) == 0 && atoi(*e + strlen(names[i])) > 0)
                return atoi(*e + strlen(names[i]));
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Starts this program again with these variables (NULL ends them) as well; returns when that fails, and
 * all goes on as before. */
static void start_again(char **argv, char **environment, char *const *variables)
{
    static char *with[4096], path[4096];
    size_t n = 0;
    for (char **e = environment; *e; e++) {
        if (n > 4090)
            return;
        with[n++] = *e;
    }
    for (; *variables; variables++)
        with[n++] = *variables;
    with[n] = NULL;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0)
        execve(path, argv, with); /* by its name, which `ps` then shows */
}

static int has_variable(char **environment, const char *name)
{
    size_t n = strlen(name);
    for (char **e = environment; *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return 1;
    return 0;
}

/* What libraries read only while they are loaded, so the program starts itself again with it, once
 * (20 to 60 ms), unless the user has chosen otherwise or the program has no use for it.  This runs after
 * OpenBLAS has chosen its kernels.
 *
 * libgomp's threads spin at a barrier for milliseconds before they sleep, and so keep a core from
 * whatever else runs on it: a training step beside one busy process takes three times as long.
 * OpenBLAS takes old kernels where it does not know the processor. */
__attribute__((constructor)) static void choose(int argc, char **argv, char **environment)
{
    static char spin[] = "GOMP_SPINCOUNT=2000", kernels[] = "OPENBLAS_CORETYPE=SkylakeX";
    char *chosen[3] = {NULL};
    int n = 0;
    (void)argc;
    if (&machine_start_once)
        return;
    if (!has_variable(environment, "GOMP_SPINCOUNT") && !has_variable(environment, "OMP_WAIT_POLICY"))
        chosen[n++] = spin;
    if (machine_slow_kernels() && !has_variable(environment, "OPENBLAS_CORETYPE"))
        chosen[n++] = kernels;
    if (n)
        start_again(argv, environment, chosen);
}

static void before_libraries(int argc, char **argv, char **environment)
{
    Err err = {0};
    int64_t limit, threads;
    (void)argc;
    (void)argv;
    if (!is_limited(&limit) || can_map(blas_needs(threads = blas_threads(environment))))
        return;
    (void)refuse_address_space(limit, threads, &err);
    struct iovec parts[] = {{"error: ", 7}, {err.msg, strlen(err.msg)}, {"\n", 1}};
    ssize_t written = writev(STDERR_FILENO, parts, 3);
    (void)written;
    _exit(1);
}
__attribute__((section(".preinit_array"), used)) static void (*hook)(int, char **, char **) = before_libraries;
#endif

int64_t machine_memory_used(void)
{
    char line[256];
    long long kb, sum = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lld", &kb) == 1 || sscanf(line, "RssShmem: %lld", &kb) == 1)
            sum += kb;
    if (f)
        fclose(f);
    return (int64_t)sum * 1024;
}
