#include "common/metrics/inception_score.h"

#include <math.h>

#include "common/base/mem.h"

void inception_add_softmax(double *p, const double *row, int64_t classes, double weight)
{
    double most = row[0], sum = 0;
    for (int64_t k = 1; k < classes; k++)
        most = fmax(most, row[k]);
    for (int64_t k = 0; k < classes; k++)
        sum += exp(row[k] - most);
    for (int64_t k = 0; k < classes; k++)
        p[k] += weight * exp(row[k] - most) / sum;
}

static double divergence(const double *p, const double *from, int64_t classes)
{
    double sum = 0;
    for (int64_t k = 0; k < classes; k++)
        sum += p[k] > 0 ? p[k] * log(p[k] / from[k]) : 0;
    return sum;
}

int inception_score_part(const double *p, int64_t n, int64_t classes, double *score, double *change, Err *err)
{
    if (n < 1 || classes < 1)
        return err_set(err, ERR_USAGE, "an Inception Score of nothing, expected a row or more");
    double *mean = mem_calloc(classes, sizeof *mean, err), total = 0;
    if (!mean)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < classes; k++)
            mean[k] += p[i * classes + k] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = divergence(p + i * classes, mean, classes);
        total += d / (double)n;
        if (change)
            change[i] = d;
    }
    *score = exp(total);
    for (int64_t i = 0; i < n && change; i++)
        change[i] = *score * (change[i] - total);
    mem_free(mean);
    return 0;
}

int inception_score(const double *logits, int64_t n, int64_t classes, int64_t splits, double *mean, double *std,
                    Err *err)
{
    if (splits < 1 || n < splits || classes < 1)
        return err_set(err, ERR_USAGE,
                       "an Inception Score of %" PRId64 " pictures in %" PRId64
                       " parts, expected a picture or more in each part",
                       n, splits);
    double *p = mem_calloc(n, classes * (int64_t)sizeof *p, err), *score = mem_calloc(splits, sizeof *score, err);
    int rc = p && score ? 0 : ERR_NOMEM;
    *mean = *std = 0;
    for (int64_t i = 0; rc == 0 && i < n; i++)
        inception_add_softmax(p + i * classes, logits + i * classes, classes, 1);
    for (int64_t i = 0; rc == 0 && i < splits; i++) {
        int64_t first = i * n / splits;
        rc = inception_score_part(p + first * classes, (i + 1) * n / splits - first, classes, &score[i], NULL, err);
        *mean += score[i] / (double)splits;
    }
    for (int64_t i = 0; rc == 0 && i < splits; i++)
        *std += (score[i] - *mean) * (score[i] - *mean) / (double)splits;
    *std = sqrt(*std);
    mem_free(p);
    mem_free(score);
    return rc;
}
