#include "common/metrics/frechet.h"

#include <cblas.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* LAPACK's own names; OpenBLAS brings them, and no header of theirs is as widespread. */
extern void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
                    const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info);
extern void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
                    double *work, const int *lwork, int *iwork, const int *liwork, int *info);

/* OpenBLAS's own way to say it; another BLAS may lack it. */
extern __attribute__((weak)) void openblas_set_num_threads(int n);

/* Also makes BLAS work on one thread: its own split would depend on their number. */
static int check_rows(int64_t n1, int64_t n2, int64_t d, Err *err)
{
    if (n1 < 2 || n2 < 2 || d < 1)
        return err_set(err, ERR_USAGE,
                       "a distance of sets of %" PRId64 " and %" PRId64 " feature rows, expected 2 or more in each", n1,
                       n2);
    if (n1 > INT_MAX || n2 > INT_MAX || d > INT_MAX)
        return err_set(err, ERR_LIMIT, "a distance of sets of %" PRId64 " and %" PRId64 " rows of %" PRId64 " features",
                       n1, n2, d);
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    return 0;
}

static double *matrix(int64_t rows, int64_t columns, Err *err)
{
    int64_t n;
    if (mem_mul(rows, columns, &n) < 0) {
        err_set(err, ERR_LIMIT, "a matrix of %" PRId64 "x%" PRId64, rows, columns);
        return NULL;
    }
    return mem_calloc(n, sizeof(double), err);
}

/* mean [d] of the rows; out [n,d] their differences to it over sqrt(n - 1). */
static void centre(const double *x, int64_t n, int64_t d, double *mean, double *out)
{
    double scale = 1 / sqrt((double)(n - 1));
    memset(mean, 0, (size_t)d * sizeof *mean);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++)
            mean[k] += x[i * d + k];
    for (int64_t k = 0; k < d; k++)
        mean[k] /= (double)n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++)
            out[i * d + k] = (x[i * d + k] - mean[k]) * scale;
}

static double sum_squares(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

static double squared_distance(const double *a, const double *b, int64_t d)
{
    double sum = 0;
    for (int64_t k = 0; k < d; k++)
        sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sum;
}

/* *sum of the singular values of g [n1,n2], which is overwritten.  share1 [n1] and share2 [n2], or both NULL, get
 * what each row and column has of it: the diagonals of (g g')^1/2 and (g' g)^1/2, which sum to *sum. */
static int singular_sum(double *g, int64_t n1, int64_t n2, double *sum, double *share1, double *share2, Err *err)
{
    /* its columns are our rows: n2 x n1 */
    int m = (int)n2, n = (int)n1, least = m < n ? m : n, info = 0, query = -1;
    const char *job = share1 ? "S" : "N";
    int64_t vectors = share1 ? least : 0;
    double size = 0, *s = matrix(least, 1, err), *work = NULL;
    double *u = matrix(n2, vectors, err), *vt = matrix(n1, vectors, err);
    int *iwork = mem_calloc(8 * (int64_t)least, sizeof *iwork, err), rc = s && u && vt && iwork ? 0 : ERR_NOMEM;
    if (rc == 0) {
        dgesdd_(job, &m, &n, g, &m, s, u, &m, vt, &least, &size, &query, iwork, &info);
        rc = (work = matrix((int64_t)size, 1, err)) ? 0 : ERR_NOMEM;
    }
    if (rc == 0) {
        int length = (int)size;
        dgesdd_(job, &m, &n, g, &m, s, u, &m, vt, &least, work, &length, iwork, &info);
        if (info != 0)
            rc = err_set(err, ERR_FORMAT,
                         "the singular values of the features cannot be found (LAPACK's dgesdd says %d): are they all "
                         "finite?",
                         info);
    }
    *sum = 0;
    for (int i = 0; rc == 0 && i < least; i++)
        *sum += s[i];
    for (int64_t k = 0; rc == 0 && k < vectors; k++) {
        for (int64_t i = 0; i < n1; i++)
            share1[i] += s[k] * vt[i * least + k] * vt[i * least + k];
        for (int64_t i = 0; i < n2; i++)
            share2[i] += s[k] * u[k * n2 + i] * u[k * n2 + i];
    }
    mem_free(work);
    mem_free(iwork);
    mem_free(u);
    mem_free(vt);
    mem_free(s);
    return rc;
}

/* Without what rounding leaves below 0.  (fmax would make 0 of what is no number, too.) */
static double not_negative(double x)
{
    return x < 0 ? 0 : x;
}

/* Differences of the rows to their mean, the products of all pairs, and the trace, with its shares where those are
 * not NULL. */
static int by_singular_values(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                              double *share1, double *share2, Err *err)
{
    double trace, *a = matrix(n1, d, err), *b = matrix(n2, d, err), *g = matrix(n1, n2, err);
    double *m1 = matrix(d, 1, err), *m2 = matrix(d, 1, err);
    int rc = a && b && g && m1 && m2 ? 0 : ERR_NOMEM;
    if (rc == 0) {
        centre(x, n1, d, m1, a);
        centre(y, n2, d, m2, b);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n1, (int)n2, (int)d, 1, a, (int)d, b, (int)d, 0, g,
                    (int)n2);
        rc = singular_sum(g, n1, n2, &trace, share1, share2, err);
    }
    if (rc == 0)
        *out = not_negative(squared_distance(m1, m2, d) + sum_squares(a, n1 * d) + sum_squares(b, n2 * d) - 2 * trace);
    mem_free(m1);
    mem_free(m2);
    mem_free(a);
    mem_free(b);
    mem_free(g);
    return rc;
}

int frechet_by_singular_values(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                               Err *err)
{
    int rc = check_rows(n1, n2, d, err);
    return rc < 0 ? rc : by_singular_values(x, n1, y, n2, d, out, NULL, NULL, err);
}

/* The eigenvalues w [d] of the symmetric a [d,d]; with `vectors` a becomes them, a row each. */
static int eigen(double *a, int64_t d, int vectors, double *w, Err *err)
{
    int n = (int)d, info = 0, query = -1, isize = 0;
    double size = 0, *work = NULL;
    int *iwork = NULL, rc = 0;
    const char *job = vectors ? "V" : "N";
    dsyevd_(job, "L", &n, a, &n, w, &size, &query, &isize, &query, &info);
    work = matrix((int64_t)size, 1, err);
    iwork = mem_calloc(isize, sizeof *iwork, err);
    if (work && iwork) {
        int length = (int)size;
        dsyevd_(job, "L", &n, a, &n, w, work, &length, iwork, &isize, &info);
        if (info != 0)
            rc = err_set(err, ERR_FORMAT,
                         "the eigenvalues of the features' covariance cannot be found (LAPACK's dsyevd says %d): are "
                         "they all finite?",
                         info);
    } else {
        rc = ERR_NOMEM;
    }
    mem_free(work);
    mem_free(iwork);
    return rc;
}

static void product(const double *a, CBLAS_TRANSPOSE ta, const double *b, int64_t d, double *out)
{
    int n = (int)d;
    cblas_dgemm(CblasRowMajor, ta, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, out, n);
}

/* sum over i of w[i]^power v[i] v[i]' [d,d], v's rows being unit vectors; what is 0 to rounding stays 0 also for
 * powers below 0.  scaled [d,d] is room. */
static void assemble(const double *v, const double *w, int64_t d, double power, double *scaled, double *out)
{
    double least = 0;
    for (int64_t i = 0; i < d && power < 0; i++)
        least = fmax(least, w[i] * (double)d * DBL_EPSILON);
    for (int64_t i = 0; i < d; i++)
        for (int64_t k = 0; k < d; k++)
            scaled[i * d + k] = w[i] > least ? pow(w[i], power) * v[i * d + k] : 0;
    product(v, CblasTrans, scaled, d, out);
}

/* The symmetric square root of a covariance; its pseudo-inverse too, where that is not NULL. */
static int root(const double *cov, int64_t d, double *out, double *inverse, Err *err)
{
    double *v = matrix(d, d, err), *w = matrix(d, 1, err), *scaled = matrix(d, d, err);
    int rc = v && w && scaled ? 0 : ERR_NOMEM;
    if (rc == 0) {
        memcpy(v, cov, (size_t)(d * d) * sizeof *v);
        rc = eigen(v, d, 1, w, err);
    }
    if (rc == 0)
        assemble(v, w, d, 0.5, scaled, out);
    if (rc == 0 && inverse)
        assemble(v, w, d, -0.5, scaled, inverse);
    mem_free(scaled);
    mem_free(w);
    mem_free(v);
    return rc;
}

int frechet_of_moments(const double *mean1, const double *cov1, const double *mean2, const double *cov2, int64_t d,
                       double *out, Err *err)
{
    double *r = matrix(d, d, err), *t = matrix(d, d, err), *m = matrix(d, d, err), *w = matrix(d, 1, err), trace = 0;
    int rc = r && t && m && w ? root(cov1, d, r, NULL, err) : ERR_NOMEM;
    if (rc == 0) {
        product(r, CblasNoTrans, cov2, d, t);
        product(t, CblasNoTrans, r, d, m);
        rc = eigen(m, d, 0, w, err);
    }
    for (int64_t i = 0; rc == 0 && i < d; i++)
        trace += cov1[i * d + i] + cov2[i * d + i] - 2 * sqrt(fmax(w[i], 0));
    if (rc == 0)
        *out = not_negative(squared_distance(mean1, mean2, d) + trace);
    mem_free(r);
    mem_free(t);
    mem_free(m);
    mem_free(w);
    return rc;
}

/* share[i] <- |p a_i|^2 for the rows a_i of a [n,d], which is overwritten. */
static int lengths(double *share, double *a, const double *p, int64_t n, int64_t d, Err *err)
{
    double *t = matrix(n, d, err);
    if (!t)
        return ERR_NOMEM;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)d, (int)d, 1, a, (int)d, p, (int)d, 0, t, (int)d);
    for (int64_t i = 0; i < n; i++)
        share[i] = sum_squares(t + i * d, d);
    mem_free(t);
    return 0;
}

/* Of the trace as singular_sum gives them, a and b being the centred rows.  With R = S1^1/2 and R S2 R = U L U',
 * (A S2 A')^1/2 has the diagonal |L^1/4 U' R^-1 a_i|^2, and that of the other side is |L^-1/4 U' R b_j|^2. */
static int root_shares(double *a, int64_t n1, double *b, int64_t n2, const double *cov1, const double *cov2, int64_t d,
                       double *share1, double *share2, Err *err)
{
    double *r = matrix(d, d, err), *inverse = matrix(d, d, err), *t = matrix(d, d, err), *m = matrix(d, d, err),
           *w = matrix(d, 1, err), most = 0;
    int rc = r && inverse && t && m && w ? root(cov1, d, r, inverse, err) : ERR_NOMEM;
    if (rc == 0) {
        product(r, CblasNoTrans, cov2, d, t);
        product(t, CblasNoTrans, r, d, m);
        rc = eigen(m, d, 1, w, err);
    }
    for (int64_t i = 0; rc == 0 && i < d; i++)
        most = fmax(most, w[i]);
    for (int side = 0; side < 2 && rc == 0; side++) {
        product(m, CblasNoTrans, side ? r : inverse, d, t); /* m's rows are U's columns */
        for (int64_t i = 0; i < d; i++)
            cblas_dscal((int)d, w[i] > most * (double)d * DBL_EPSILON ? pow(w[i], side ? -0.25 : 0.25) : 0, t + i * d,
                        1);
        rc = side ? lengths(share2, b, t, n2, d, err) : lengths(share1, a, t, n1, d, err);
    }
    mem_free(r);
    mem_free(inverse);
    mem_free(t);
    mem_free(m);
    mem_free(w);
    return rc;
}

/* cov [d,d] of the n centred rows a. */
static void covariance(const double *a, int64_t n, int64_t d, double *cov)
{
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)d, (int)d, (int)n, 1, a, (int)d, a, (int)d, 0, cov,
                (int)d);
}

static int by_roots(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, double *share1,
                    double *share2, Err *err)
{
    double *m1 = matrix(d, 1, err), *m2 = matrix(d, 1, err), *c1 = matrix(d, d, err), *c2 = matrix(d, d, err),
           *a = matrix(n1, d, err), *b = matrix(n2, d, err);
    int rc = m1 && m2 && c1 && c2 && a && b ? 0 : ERR_NOMEM;
    if (rc == 0) {
        centre(x, n1, d, m1, a);
        centre(y, n2, d, m2, b);
        covariance(a, n1, d, c1);
        covariance(b, n2, d, c2);
        rc = frechet_of_moments(m1, c1, m2, c2, d, out, err);
    }
    if (rc == 0 && share1)
        rc = root_shares(a, n1, b, n2, c1, c2, d, share1, share2, err);
    mem_free(a);
    mem_free(b);
    mem_free(m1);
    mem_free(m2);
    mem_free(c1);
    mem_free(c2);
    return rc;
}

int frechet_by_roots(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, Err *err)
{
    int rc = check_rows(n1, n2, d, err);
    return rc < 0 ? rc : by_roots(x, n1, y, n2, d, out, NULL, NULL, err);
}

static int route_by_roots(int64_t n1, int64_t n2, int64_t d)
{
    return (n1 < n2 ? n1 : n2) >= 2 * d;
}

int frechet_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, Err *err)
{
    return route_by_roots(n1, n2, d) ? frechet_by_roots(x, n1, y, n2, d, out, err)
                                     : frechet_by_singular_values(x, n1, y, n2, d, out, err);
}

/* change [n] holds the shares of the trace, and gets the influence of each row: of the mean, of the covariance's own
 * trace, of the trace of the product's root. */
static void influence(const double *x, int64_t n, int64_t d, const double *mean, const double *other, double *change)
{
    double sum = 0, count = (double)n;
    for (int64_t i = 0; i < n; i++) {
        double along = 0, length = 0;
        for (int64_t k = 0; k < d; k++) {
            double c = x[i * d + k] - mean[k];
            along += c * (mean[k] - other[k]);
            length += c * c;
        }
        change[i] = 2 * along + count / (count - 1) * length - count * change[i];
        sum += change[i];
    }
    for (int64_t i = 0; i < n; i++)
        change[i] -= sum / count;
}

static void mean_of(const double *x, int64_t n, int64_t d, double *mean)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++)
            mean[k] += x[i * d + k] / (double)n;
}

int frechet_influence(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, double *change1,
                      double *change2, Err *err)
{
    int rc = check_rows(n1, n2, d, err);
    if (rc < 0)
        return rc;
    double *m1 = matrix(d, 1, err), *m2 = matrix(d, 1, err);
    rc = m1 && m2 ? 0 : ERR_NOMEM;
    if (rc == 0) {
        memset(change1, 0, (size_t)n1 * sizeof *change1);
        memset(change2, 0, (size_t)n2 * sizeof *change2);
        mean_of(x, n1, d, m1);
        mean_of(y, n2, d, m2);
        rc = (route_by_roots(n1, n2, d) ? by_roots : by_singular_values)(x, n1, y, n2, d, out, change1, change2, err);
    }
    if (rc == 0) {
        influence(x, n1, d, m1, m2, change1);
        influence(y, n2, d, m2, m1, change2);
    }
    mem_free(m1);
    mem_free(m2);
    return rc;
}

double frechet_infinite(const int64_t *n, const double *value, int64_t count)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (int64_t i = 0; i < count; i++) {
        x += 1 / (double)n[i] / (double)count;
        y += value[i] / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        xx += (1 / (double)n[i] - x) * (1 / (double)n[i] - x);
        xy += (1 / (double)n[i] - x) * (value[i] - y);
    }
    return y - xy / xx * x;
}

/* The sum of kernel values of all pairs of rows; of a set with itself (y NULL) of all pairs i != j. */
static double kernel_sum(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d)
{
    double sum = 0;
    for (int64_t i = 0; i < n1; i++)
        for (int64_t j = 0; j < (y ? n2 : n1); j++) {
            const double *a = x + i * d, *b = (y ? y : x) + j * d;
            double dot = 0;
            if (!y && i == j)
                continue;
            for (int64_t k = 0; k < d; k++)
                dot += a[k] * b[k];
            dot = dot / (double)d + 1;
            sum += dot * dot * dot;
        }
    return sum;
}

int kernel_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, Err *err)
{
    double a = (double)n1, b = (double)n2;
    int rc = check_rows(n1, n2, d, err);
    if (rc == 0)
        *out = kernel_sum(x, n1, NULL, 0, d) / (a * (a - 1)) + kernel_sum(y, n2, NULL, 0, d) / (b * (b - 1)) -
               2 * kernel_sum(x, n1, y, n2, d) / (a * b);
    return rc;
}
