/* lab_test.c - the interval of a median: exact for small n, and, of draws from a lopsided distribution, rarely beside the truth. */
#include <math.h>
#include <stdlib.h>

#include "lab/lab.h"

static int failed;

static void report(const char *name, bool ok) {
    printf("%s %s%s\n", ok ? "ok" : "FAIL", name, ok ? "" : ": see the figures above");
    failed |= !ok;
}

/* The ends of the sign test's interval, from its tables: n, values left out at each end. */
static void check_ends(void) {
    static const int table[][2] = {{6, 0}, {8, 0}, {9, 1}, {12, 2}, {15, 3}, {20, 5}, {25, 7}, {40, 13}};
    bool ok = true;
    for (size_t i = 0; i < LEN(table); i++) {
        double x[64], mid, low, high;
        int n = table[i][0], k = table[i][1];
        for (int j = 0; j < n; j++) x[j] = n - 1 - j;
        ok = speed_median(x, (size_t)n, &mid, &low, &high) && low == k && high == n - 1 - k && mid == (n - 1) / 2.0 && ok;
        if (!ok) printf("n %d: [%g, %g], median %g\n", n, low, high, mid);
    }
    report("ends", ok);
}

static void check_few(void) {
    double x[5] = {3, 1, 2, 5, 4}, mid, low, high;
    report("few", !speed_median(x, 5, &mid, &low, &high) && mid == 3 && isnan(low) && isnan(high));
}

static double draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

/* exp(1): its median is log 2. 20000 trials: 0.95 +- 0.005 at least. */
static void check_coverage(void) {
    enum { TRIALS = 20000 };
    static const size_t sizes[] = {6, 10, 23, 40};
    uint64_t state = 5;
    bool ok = true;
    for (size_t s = 0; s < LEN(sizes); s++) {
        int inside = 0;
        for (int i = 0; i < TRIALS; i++) {
            double x[64], mid, low, high;
            for (size_t k = 0; k < sizes[s]; k++) x[k] = -log(draw(&state));
            speed_median(x, sizes[s], &mid, &low, &high);
            inside += low <= log(2) && log(2) <= high;
        }
        double share = (double)inside / TRIALS;
        printf("n %zu: %.4f\n", sizes[s], share);
        ok = ok && share >= 0.945 && share < 0.99;
    }
    report("coverage", ok);
}

int main(void) {
    check_ends();
    check_few();
    check_coverage();
    return failed;
}
