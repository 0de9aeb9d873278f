/* What cmocka lacks: array comparison with a bound and its reason, seeds, guard bytes, temporary
 * folders, skipping with a reason, and where the reference data lies.
 *
 * A test file is one program:
 *   static void reads_header(void **state) { CHECK_OK(safetensors_open(&s, path, &err), &err); ...
 *   } int main(void) { const struct CMUnitTest tests[] = { cmocka_unit_test(reads_header) }; return
 *   check_run("store", tests); }
 */
#ifndef WEFT_TESTS_CHECK_H
#define WEFT_TESTS_CHECK_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/base/err.h"

/* cmocka_run_group_tests under a name; the counts are picked up by tests/run.sh. */
#define check_run(name, tests) cmocka_run_group_tests_name((name), (tests), NULL, NULL)
/* The same for tests that each free what they allocate, as all of tests/unit do: a test that ends
 * with more live allocations of common/base/mem than it began with fails.  (One that is skipped
 * half-way must free first.) */
#define check_run_live(name, tests) check_run_counted((name), (tests), (int)(sizeof(tests) / sizeof *(tests)))
int check_run_counted(const char *name, const struct CMUnitTest *tests, int n);

/* Fails with the error's sentence when rc < 0 (and clears err). */
#define CHECK_OK(call, err) check_ok((call), (err), #call, __FILE__, __LINE__)
void check_ok(int rc, Err *err, const char *expr, const char *file, int line);
/* rc must be `code` and the sentence must contain `part`; clears err. */
#define CHECK_FAILS(call, code, part, err) check_fails((call), (code), (part), (err), #call, __FILE__, __LINE__)
void check_fails(int rc, int code, const char *part, Err *err, const char *expr, const char *file, int line);

/* |got - want| <= atol + rtol*|want| for every element.  These three fail with the caller's file and
 * line, and both numbers. */
#define check_near(what, got, want, n, atol, rtol) \
    check_near_at((what), (got), (want), (n), (atol), (rtol), __FILE__, __LINE__)
void check_near_at(const char *what, const float *got, const double *want, int64_t n, double atol, double rtol,
                   const char *file, int line);
/* Relative L2: |got-want| / |want| <= bound; returns it. */
#define check_rel_l2(what, got, want, n, bound) check_rel_l2_at((what), (got), (want), (n), (bound), __FILE__, __LINE__)
double check_rel_l2_at(const char *what, const float *got, const double *want, int64_t n, double bound,
                       const char *file, int line);
#define check_value(what, got, want, atol, rtol) \
    check_value_at((what), (got), (want), (atol), (rtol), __FILE__, __LINE__)
void check_value_at(const char *what, double got, double want, double atol, double rtol, const char *file, int line);

uint64_t check_seed(void);   /* SEED from the environment, else 1; printed once */
const char *check_tmp(void); /* a fresh directory for this test program, removed at exit unless KEEP=1 */
/* FOLDER/NAME, a file in the temporary folder, one of the repository's or of the reference data: these
 * paths live as long as the program, and are not to be freed. */
char *check_path(const char *folder, const char *name);
char *check_tmp_path(const char *name);
/* The shared reference data: WEFT_SHARED, or ../shared beside the repository; NULL when absent. */
const char *check_shared(void);
/* Skips the test (counted) unless WEFT_SHARED data is there. Returns the path of the file under it. */
char *check_need_shared(const char *relative);
/* The repository's own files (tests/golden/...): path relative to the repository root. */
char *check_repo_path(const char *relative);
void check_skip(const char *why);
/* n bytes with guard zones around; check_guards fails when a zone changed. Free with
 * check_guarded_free. */
void *check_guarded(int64_t n);
void check_guards(const void *p);
void check_guarded_free(void *p);
#endif
