/* rowstat.c - see rowstat.h. */
#include "rowstat.h"

#include <math.h>

double judge_nmse(const double *got, const double *want, size_t n) {
    double noise = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double d = got[i] == want[i] ? 0 : got[i] - want[i]; /* two equal infinities are equal */
        noise += d * d;
        if (isfinite(want[i])) power += want[i] * want[i];
    }
    return noise == 0 ? 0 : noise / power;
}

static double log_sum_exp(const double *x, size_t n) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) sum += exp(x[i] - max);
    return max + log(sum);
}

/* Sum of p log(p / q). What has no probability adds nothing: a masked token's logit is -inf. */
double judge_kl(const double *got, const double *want, size_t n) {
    double of_got = log_sum_exp(got, n), of_want = log_sum_exp(want, n), kl = 0;
    for (size_t i = 0; i < n; i++) {
        double p = exp(want[i] - of_want);
        if (p != 0) kl += p * ((want[i] - of_want) - (got[i] - of_got));
    }
    return kl < 0 ? 0 : kl; /* rounding */
}

size_t judge_top1(const double *row, size_t n) {
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(row[i])) return n;
        if (row[i] > row[best]) best = i;
    }
    return best;
}
