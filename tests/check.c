#include "tests/check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"

#define PATH_SIZE 1024

void check_ok(int rc, Err *err, const char *expr, const char *file, int line)
{
    if (rc >= 0)
        return;
    print_error("%s: %d (%s): %s\n", expr, rc, err_name(rc), err && err->msg[0] ? err->msg : "no message");
    err_clear(err);
    _fail(file, line);
}

void check_fails(int rc, int code, const char *part, Err *err, const char *expr, const char *file, int line)
{
    if (rc != code || !err->msg[0] || !strstr(err->msg, part)) {
        print_error("%s: %d (%s), expected %d (%s)\n  message: %s\n  must contain: %s\n", expr, rc, err_name(rc), code,
                    err_name(code), err->msg, part);
        err_clear(err); /* the next test of this program starts clean */
        _fail(file, line);
    }
    err_clear(err);
}

/* ---- numbers --------------------------------------------------------------------------------- */

void check_near_at(const char *what, const float *got, const double *want, int64_t n, double atol, double rtol,
                   const char *file, int line)
{
    int64_t worst = -1;
    double worst_ratio = 1;
    for (int64_t i = 0; i < n; i++) {
        double ratio = fabs(got[i] - want[i]) / (atol + rtol * fabs(want[i]) + 1e-300);
        if (!(ratio <= worst_ratio)) { /* NaN counts as far off */
            worst = i;
            worst_ratio = isnan(ratio) ? INFINITY : ratio;
        }
    }
    if (worst < 0)
        return;
    print_error("%s[%" PRId64 "]: got %.9g, want %.9g, off by %.3g: %.3g times the bound (atol %g, rtol %g)\n", what,
                worst, got[worst], want[worst], fabs(got[worst] - want[worst]), worst_ratio, atol, rtol);
    _fail(file, line);
}

double check_rel_l2_at(const char *what, const float *got, const double *want, int64_t n, double bound,
                       const char *file, int line)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    double rel = norm > 0 ? sqrt(diff / norm) : sqrt(diff);
    if (!(rel <= bound)) {
        print_error("%s: relative L2 %.3g over %" PRId64 " values (|got - want| %.9g, |want| %.9g), bound %g\n", what,
                    rel, n, sqrt(diff), sqrt(norm), bound);
        _fail(file, line);
    }
    return rel;
}

void check_value_at(const char *what, double got, double want, double atol, double rtol, const char *file, int line)
{
    if (fabs(got - want) <= atol + rtol * fabs(want))
        return;
    print_error("%s: got %.12g, want %.12g, off by %.3g (atol %g, rtol %g)\n", what, got, want, fabs(got - want), atol,
                rtol);
    _fail(file, line);
}

/* ---- live allocations ------------------------------------------------------------------------ */

static int64_t live_before; /* cmocka runs one test at a time */

static int count_live(void **state)
{
    (void)state;
    live_before = mem_live();
    return 0;
}

static int compare_live(void **state)
{
    int64_t more = mem_live() - live_before;
    (void)state;
    if (more)
        print_error("%" PRId64 " allocations of common/base/mem are %s\n", more > 0 ? more : -more,
                    more > 0 ? "not freed at the end of the test" : "freed that the test did not make");
    return more != 0;
}

int check_run_counted(const char *name, const struct CMUnitTest *tests, int n)
{
    struct CMUnitTest *counted = calloc((size_t)n, sizeof *counted);
    if (!counted)
        return 1;
    for (int i = 0; i < n; i++) {
        counted[i] = tests[i];
        counted[i].setup_func = count_live;
        counted[i].teardown_func = compare_live;
    }
    int failed = _cmocka_run_group_tests(name, counted, (size_t)n, NULL, NULL);
    free(counted);
    return failed;
}

uint64_t check_seed(void)
{
    static int printed;
    const char *text = getenv("SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    if (!printed++)
        printf("# SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* ---- places ---------------------------------------------------------------------------------- */

static char tmp_dir[PATH_SIZE];
static pid_t tmp_owner;

static void remove_tmp(void)
{
    if (getpid() != tmp_owner)
        return; /* a child that was forked by a test */
    if (getenv("KEEP"))
        printf("# kept %s\n", tmp_dir);
    else
        err_ignore(dir_remove(tmp_dir, NULL));
}

const char *check_tmp(void)
{
    if (tmp_dir[0])
        return tmp_dir;
    const char *base = getenv("TMPDIR");
    snprintf(tmp_dir, sizeof tmp_dir, "%s/weft-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(tmp_dir))
        fail_msg("no temporary folder '%s'", tmp_dir);
    tmp_owner = getpid();
    atexit(remove_tmp);
    return tmp_dir;
}

/* Paths handed out live as long as the program: holding them here tells the leak checker so. */
static char *join(const char *a, const char *b)
{
    static char **held;
    static int64_t n;
    size_t size = strlen(a) + strlen(b) + 2; /* malloc: these are not counted as the test's own */
    char *path = malloc(size), **more = realloc(held, (size_t)(n + 1) * sizeof *held);
    if (!path || !more)
        fail_msg("out of memory");
    snprintf(path, size, "%s%s%s", a, *a && a[strlen(a) - 1] != '/' ? "/" : "", b);
    held = more;
    held[n++] = path;
    return path;
}

char *check_path(const char *folder, const char *name)
{
    return join(folder, name);
}

char *check_tmp_path(const char *name)
{
    return join(check_tmp(), name);
}

/* The folder above this program, or above where it was started, that has the sources. */
static const char *repo_root(void)
{
    static char root[PATH_SIZE];
    if (root[0])
        return root;
    char start[2][PATH_SIZE] = {{0}};
    if (readlink("/proc/self/exe", start[0], PATH_SIZE - 1) < 0)
        start[0][0] = 0;
    if (!getcwd(start[1], PATH_SIZE))
        start[1][0] = 0;
    for (int i = 0; i < 2; i++) {
        for (char *slash; (slash = strrchr(start[i], '/')) != NULL; *slash = 0) {
            char *probe = join(start[i], "tests/check.h");
            if (!file_exists(probe))
                continue;
            memcpy(root, start[i], PATH_SIZE);
            return root;
        }
    }
    fail_msg("the repository was not found above this program or the current folder");
    return root;
}

char *check_repo_path(const char *relative)
{
    return join(repo_root(), relative);
}

const char *check_shared(void)
{
    static char *shared;
    if (shared)
        return shared;
    const char *given = getenv("WEFT_SHARED");
    char *path = given && *given ? join(given, "") : join(repo_root(), "../shared");
    return file_is_dir(path) ? shared = path : NULL;
}

char *check_need_shared(const char *relative)
{
    char *path = check_shared() ? join(check_shared(), relative) : NULL;
    if (!path || !file_exists(path))
        check_skip("the shared reference data is not here");
    return path;
}

void check_skip(const char *why)
{
    print_message("# skipped: %s\n", why);
    skip();
}

/* ---- guard bytes: [size, left zone][n bytes][right zone] ------------------------------------- */

#define GUARD 64
#define GUARD_BYTE 0xA5

void *check_guarded(int64_t n)
{
    unsigned char *p = malloc((size_t)n + 2 * GUARD);
    if (!p)
        fail_msg("out of memory: %" PRId64 " guarded bytes", n);
    memset(p, GUARD_BYTE, (size_t)n + 2 * GUARD);
    memcpy(p, &n, sizeof n);
    return p + GUARD;
}

void check_guards(const void *data)
{
    const unsigned char *p = (const unsigned char *)data - GUARD;
    int64_t n;
    memcpy(&n, p, sizeof n);
    for (int64_t i = (int64_t)sizeof n; i < GUARD; i++) {
        if (p[i] != GUARD_BYTE)
            fail_msg("write %" PRId64 " bytes before a block of %" PRId64, GUARD - i, n);
    }
    for (int64_t i = 0; i < GUARD; i++) {
        if (p[GUARD + n + i] != GUARD_BYTE)
            fail_msg("write %" PRId64 " bytes after a block of %" PRId64, i + 1, n);
    }
}

void check_guarded_free(void *p)
{
    if (p)
        free((unsigned char *)p - GUARD);
}
