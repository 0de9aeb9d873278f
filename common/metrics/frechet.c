#include "common/metrics/frechet.h"

#include <cblas.h>
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

/* *sum of the singular values of g [n1,n2], which is overwritten. */
static int singular_sum(double *g, int64_t n1, int64_t n2, double *sum, Err *err)
{
    /* its columns are our rows: n2 x n1 */
    int m = (int)n2, n = (int)n1, least = m < n ? m : n, info = 0, query = -1, one = 1;
    double size = 0, none = 0, *s = matrix(least, 1, err), *work = NULL;
    int *iwork = mem_calloc(8 * (int64_t)least, sizeof *iwork, err), rc = s && iwork ? 0 : ERR_NOMEM;
    if (rc == 0) {
        dgesdd_("N", &m, &n, g, &m, s, &none, &one, &none, &one, &size, &query, iwork, &info);
        rc = (work = matrix((int64_t)size, 1, err)) ? 0 : ERR_NOMEM;
    }
    if (rc == 0) {
        int length = (int)size;
        dgesdd_("N", &m, &n, g, &m, s, &none, &one, &none, &one, work, &length, iwork, &info);
        if (info != 0)
            rc = err_set(err, ERR_FORMAT,
                         "the singular values of the features cannot be found (LAPACK's dgesdd says %d): are they all "
                         "finite?",
                         info);
    }
    *sum = 0;
    for (int i = 0; rc == 0 && i < least; i++)
        *sum += s[i];
    mem_free(work);
    mem_free(iwork);
    mem_free(s);
    return rc;
}

int frechet_by_singular_values(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                               Err *err)
{
    double trace, *a, *b, *g, *m1, *m2;
    int rc = check_rows(n1, n2, d, err);
    if (rc < 0)
        return rc;
    a = matrix(n1, d, err), b = matrix(n2, d, err), g = matrix(n1, n2, err);
    m1 = matrix(d, 1, err), m2 = matrix(d, 1, err);
    if (!a || !b || !g || !m1 || !m2)
        rc = ERR_NOMEM;
    if (rc == 0) {
        centre(x, n1, d, m1, a);
        centre(y, n2, d, m2, b);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n1, (int)n2, (int)d, 1, a, (int)d, b, (int)d, 0, g,
                    (int)n2);
        rc = singular_sum(g, n1, n2, &trace, err);
    }
    if (rc == 0)
        *out = squared_distance(m1, m2, d) + sum_squares(a, n1 * d) + sum_squares(b, n2 * d) - 2 * trace;
    mem_free(m1);
    mem_free(m2);
    mem_free(a);
    mem_free(b);
    mem_free(g);
    return rc;
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

/* The symmetric square root of a covariance. */
static int root(const double *cov, int64_t d, double *out, Err *err)
{
    double *v = matrix(d, d, err), *w = matrix(d, 1, err), *scaled = matrix(d, d, err);
    int rc = v && w && scaled ? 0 : ERR_NOMEM;
    if (rc == 0) {
        memcpy(v, cov, (size_t)(d * d) * sizeof *v);
        rc = eigen(v, d, 1, w, err);
    }
    if (rc == 0) {
        for (int64_t i = 0; i < d; i++)
            for (int64_t k = 0; k < d; k++)
                scaled[i * d + k] = sqrt(fmax(w[i], 0)) * v[i * d + k];
        product(v, CblasTrans, scaled, d, out);
    }
    mem_free(scaled);
    mem_free(w);
    mem_free(v);
    return rc;
}

int frechet_of_moments(const double *mean1, const double *cov1, const double *mean2, const double *cov2, int64_t d,
                       double *out, Err *err)
{
    double *r = matrix(d, d, err), *t = matrix(d, d, err), *m = matrix(d, d, err), *w = matrix(d, 1, err), trace = 0;
    int rc = r && t && m && w ? root(cov1, d, r, err) : ERR_NOMEM;
    if (rc == 0) {
        product(r, CblasNoTrans, cov2, d, t);
        product(t, CblasNoTrans, r, d, m);
        rc = eigen(m, d, 0, w, err);
    }
    for (int64_t i = 0; rc == 0 && i < d; i++)
        trace += cov1[i * d + i] + cov2[i * d + i] - 2 * sqrt(fmax(w[i], 0));
    if (rc == 0)
        *out = squared_distance(mean1, mean2, d) + trace;
    mem_free(r);
    mem_free(t);
    mem_free(m);
    mem_free(w);
    return rc;
}

/* mean [d] and cov [d,d] of the rows. */
static int moments(const double *x, int64_t n, int64_t d, double *mean, double *cov, Err *err)
{
    double *a = matrix(n, d, err);
    if (!a)
        return ERR_NOMEM;
    centre(x, n, d, mean, a);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)d, (int)d, (int)n, 1, a, (int)d, a, (int)d, 0, cov,
                (int)d);
    mem_free(a);
    return 0;
}

int frechet_by_roots(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, Err *err)
{
    double *m1, *m2, *c1, *c2;
    int rc = check_rows(n1, n2, d, err);
    if (rc < 0)
        return rc;
    m1 = matrix(d, 1, err), m2 = matrix(d, 1, err), c1 = matrix(d, d, err), c2 = matrix(d, d, err);
    rc = m1 && m2 && c1 && c2 ? moments(x, n1, d, m1, c1, err) : ERR_NOMEM;
    if (rc == 0)
        rc = moments(y, n2, d, m2, c2, err);
    if (rc == 0)
        rc = frechet_of_moments(m1, c1, m2, c2, d, out, err);
    mem_free(m1);
    mem_free(m2);
    mem_free(c1);
    mem_free(c2);
    return rc;
}

int frechet_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out, Err *err)
{
    int64_t least = n1 < n2 ? n1 : n2;
    return least >= 2 * d ? frechet_by_roots(x, n1, y, n2, d, out, err)
                          : frechet_by_singular_values(x, n1, y, n2, d, out, err);
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

/* log softmax of a row, in double. */
static void log_softmax(const double *row, int64_t n, double *out)
{
    double most = row[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        most = fmax(most, row[k]);
    for (int64_t k = 0; k < n; k++)
        sum += exp(row[k] - most);
    for (int64_t k = 0; k < n; k++)
        out[k] = row[k] - most - log(sum);
}

/* exp(mean over the rows of sum p (ln p - ln mean p)). */
static double part_score(const double *logits, int64_t first, int64_t last, int64_t classes, double *row, double *mean)
{
    double sum = 0, n = (double)(last - first);
    memset(mean, 0, (size_t)classes * sizeof *mean);
    for (int64_t i = first; i < last; i++) {
        log_softmax(logits + i * classes, classes, row);
        for (int64_t k = 0; k < classes; k++) {
            mean[k] += exp(row[k]) / n;
            sum += exp(row[k]) * row[k];
        }
    }
    for (int64_t k = 0; k < classes; k++) /* sum over rows of p ln q = n q ln q */
        sum -= mean[k] > 0 ? n * mean[k] * log(mean[k]) : 0;
    return exp(sum / n);
}

int inception_score(const double *logits, int64_t n, int64_t classes, int64_t splits, double *mean, double *std,
                    Err *err)
{
    if (splits < 1 || n < splits || classes < 1)
        return err_set(err, ERR_USAGE,
                       "an Inception Score of %" PRId64 " pictures in %" PRId64
                       " parts, expected a picture or more in each part",
                       n, splits);
    double *row = matrix(classes, 1, err), *share = matrix(classes, 1, err), *score = matrix(splits, 1, err);
    int rc = row && share && score ? 0 : ERR_NOMEM;
    *mean = *std = 0;
    for (int64_t i = 0; rc == 0 && i < splits; i++) {
        score[i] = part_score(logits, i * n / splits, (i + 1) * n / splits, classes, row, share);
        *mean += score[i] / (double)splits;
    }
    for (int64_t i = 0; rc == 0 && i < splits; i++)
        *std += (score[i] - *mean) * (score[i] - *mean) / (double)splits;
    *std = sqrt(*std);
    mem_free(row);
    mem_free(share);
    mem_free(score);
    return rc;
}
