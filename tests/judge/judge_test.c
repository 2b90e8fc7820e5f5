/* judge_test.c - ir/judge.c by itself: it fails no right result and passes no wrong one. Right: what a kernel with errors of the
 * tolerance's size gives, rounded or not, rows of any size, equal rows. Wrong: each a small thing. */
#include "ir/judge.h"
#include "ir/rowstat.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 40, WIDTH = 256, N = ROWS * WIDTH };

typedef struct Case Case; /* a result of N values, exact, and as two sides have it */
struct Case {
    float exact[N], off[N], got_f32[N], want_f32[N];
    uint16_t got_bf16[N], want_bf16[N];
};
static Case c;
static uint64_t state;

static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-52 - 1;
}
static double normal(void) { return uniform() + uniform() + uniform(); } /* of variance 1 */

/* Rows of size 1e-3, 1 and 1e3 in turn, a row of zeros; errors of which a row's is `error` times its size. */
static void make(double error) {
    for (int i = 0; i < N; i++) {
        int row = i / WIDTH;
        double size = row == 7 ? 0 : row % 3 == 0 ? 1e-3 : row % 3 == 1 ? 1 : 1e3;
        c.exact[i] = (float)(normal() * size);
        c.off[i] = (float)(c.exact[i] + normal() * size * error);
        c.want_f32[i] = c.exact[i], c.got_f32[i] = c.off[i];
        c.want_bf16[i] = bf16_of_f32(c.exact[i]), c.got_bf16[i] = bf16_of_f32(c.off[i]);
    }
}

static Tensor tensor(DType d, void *data) { return (Tensor){d, 2, {ROWS, WIDTH}, data}; }

static Verdict judged(DType d, double nmse, bool exact) {
    Tensor got = tensor(d, d == DT_F32 ? (void *)c.got_f32 : c.got_bf16), want = tensor(d, d == DT_F32 ? (void *)c.want_f32 : c.want_bf16);
    return judge(&(JudgePair){.got = &got, .want = &want, .exact = exact ? c.exact : NULL}, &(JudgeRule){.nmse = nmse});
}

static void expect(const char *name, Verdict v, JudgeFault fault) {
    Text why = {0};
    judge_why(&v, &why);
    if (v.fault == fault) printf("ok judge/%s\n", name);
    else printf("FAIL judge/%s: fault %d, expected %d; %s\n", name, v.fault, fault, why.at ? why.at : "");
    text_free(&why);
}
static void check(const char *name, bool ok) { printf(ok ? "ok judge/%s\n" : "FAIL judge/%s: see the test\n", name); }

/* --- right ones --------------------------------------------------------------------------------------------------------- */

static void right(void) {
    bool f32 = true, bf16 = true, unknown = true, counted = false;
    for (int run = 0; run < 200; run++) {
        double tolerance = pow(10, -14 + run % 10), error = sqrt(tolerance / 1.2);
        make(error);
        Verdict v = judged(DT_BF16, tolerance, false);
        unknown &= !v.fault, counted |= v.steps > 0;
        f32 &= !judged(DT_F32, tolerance, false).fault, bf16 &= !judged(DT_BF16, tolerance, true).fault;
    }
    check("right-f32", f32), check("right-bf16", bf16), check("right-bf16-exact-unknown", unknown), check("right-steps-are-counted", counted);

    /* One large element of a small tensor at a midpoint: the other neighbour. */
    make(0);
    c.exact[3] = 1.00390625f + 0x1p-20f, c.want_bf16[3] = bf16_of_f32(c.exact[3]), c.got_bf16[3] = 0x3f80;
    Tensor got = {DT_BF16, 1, {4}, c.got_bf16}, want = {DT_BF16, 1, {4}, c.want_bf16};
    Verdict v = judge(&(JudgePair){&got, &want, c.exact}, &(JudgeRule){.nmse = 1e-12});
    expect("right-one-step", v, JUDGE_OK);
    check("right-one-step-counted", v.steps == 1 && v.different == 1);

    /* A step of f32 in a small tensor, and in each of its rows. */
    float small[8] = {3, 1, 2, 5, 3, 1, 2, 5}, other[8];
    memcpy(other, small, sizeof other);
    other[1] = other[5] = nextafterf(1, 2);
    Tensor g = {DT_F32, 2, {2, 4}, other}, w = {DT_F32, 2, {2, 4}, small};
    expect("right-f32-step", judge(&(JudgePair){&g, &w}, &(JudgeRule){.nmse = 1e-16}), JUDGE_OK);

    /* The same flip in every row, for the prompts were equal. */
    make(0);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++) {
            int k = r * WIDTH + i;
            c.exact[k] = i == 5 ? 1.00390625f + 0x1p-22f : 1;
            c.want_bf16[k] = bf16_of_f32(c.exact[k]), c.got_bf16[k] = 0x3f80;
        }
    expect("right-equal-rows", judged(DT_BF16, 1e-12, true), JUDGE_OK);
    expect("unknown-equal-rows", judged(DT_BF16, 1e-12, false), JUDGE_STEPS);
}

/* Roundings inside a node that hang in the balance move a row: granted there only. */
static void turned(void) {
    static float moved[N];
    make(0);
    memcpy(moved, c.exact, sizeof moved);
    for (int i = 0; i < WIDTH; i++) moved[WIDTH + i] += 1e-4f, c.got_f32[WIDTH + i] = moved[WIDTH + i];
    Tensor got = tensor(DT_F32, c.got_f32), want = tensor(DT_F32, c.want_f32);
    JudgePair p = {.got = &got, .want = &want};
    expect("turned-unknown", judge(&p, &(JudgeRule){.nmse = 1e-12}), JUDGE_NMSE);
    p.turned = moved;
    expect("turned", judge(&p, &(JudgeRule){.nmse = 1e-12}), JUDGE_OK);
    for (int i = 0; i < WIDTH; i++) c.got_f32[WIDTH + i] += 3e-4f;
    expect("turned-further", judge(&p, &(JudgeRule){.nmse = 1e-12}), JUDGE_NMSE);
    for (int i = 0; i < WIDTH; i++) c.got_f32[WIDTH + i] = moved[WIDTH + i], c.got_f32[4 * WIDTH + i] += 1e-4f;
    expect("turned-elsewhere", judge(&p, &(JudgeRule){.nmse = 1e-12}), JUDGE_NMSE);
}

/* --- wrong ones --------------------------------------------------------------------------------------------------------- */

static void wrong(void) {
    for (int exact = 0; exact < 2; exact++) {
        make(0);
        for (int i = 0; i < N; i++) c.got_bf16[i] = (uint16_t)(c.want_bf16[i] + 1); /* away from 0 */
        check(exact ? "wrong-one-step-everywhere" : "wrong-one-step-everywhere-exact-unknown", judged(DT_BF16, 1e-12, exact).fault != JUDGE_OK);
        check(exact ? "wrong-one-step-everywhere-loose" : "wrong-one-step-everywhere-loose-exact-unknown", judged(DT_BF16, 1e-5, exact).fault != JUDGE_OK);
        make(0);
        for (int i = 0; i < N; i++) c.got_bf16[i] = (uint16_t)(bits_of_f32(c.exact[i]) >> 16);
        check(exact ? "wrong-truncated" : "wrong-truncated-exact-unknown", judged(DT_BF16, 1e-10, exact).fault != JUDGE_OK);
    }
    make(0);
    for (int i = 0; i < N; i++) c.got_f32[i] = nextafterf(c.want_f32[i], INFINITY);
    check("wrong-f32-step-everywhere", judged(DT_F32, 1e-16, false).fault != JUDGE_OK);
    make(0);
    for (int i = 0; i < N; i += 20) c.got_f32[i] = nextafterf(c.want_f32[i], INFINITY);
    check("wrong-f32-step-of-twenty", judged(DT_F32, 1e-16, false).fault != JUDGE_OK);
    make(0);
    for (int i = 0; i < WIDTH; i++) c.got_f32[3 * WIDTH + i] *= 1.001f; /* a row of size 1e-3 among those of 1e3 */
    expect("wrong-small-row", judged(DT_F32, 1e-12, false), JUDGE_NMSE);
    make(0);
    c.got_f32[WIDTH + 9] += 0.06f; /* of a row of size 1: nmse 3.6e-7 */
    expect("wrong-one-element", judged(DT_F32, 1e-6, false), JUDGE_ELEMENT);
    make(0);
    c.got_f32[7 * WIDTH] = 1e-20f;
    check("wrong-zero", judged(DT_F32, 1e-5, false).fault != JUDGE_OK);
    make(0);
    c.got_f32[5000] = nextafterf(c.want_f32[5000], INFINITY);
    check("wrong-nothing-is-granted", judged(DT_F32, 0, false).fault != JUDGE_OK);
}

static void not_finite(void) {
    make(0);
    c.got_f32[70] = NAN, c.got_f32[60] = INFINITY;
    Verdict v = judged(DT_F32, 1e-5, false);
    expect("not-finite", v, JUDGE_NOT_FINITE);
    Text why = {0};
    judge_why(&v, &why);
    check("not-finite-named", v.at == 60 && why.at && strstr(why.at, "element 60 of 10240 is inf"));
    text_free(&why);
    c.want_f32[70] = NAN, c.want_f32[60] = INFINITY;
    expect("not-finite-on-both-sides", judged(DT_F32, 1e-5, false), JUDGE_OK);
    c.got_f32[60] = -INFINITY;
    expect("not-finite-other-sign", judged(DT_F32, 1e-5, false), JUDGE_NOT_FINITE);
}

/* --- integers ----------------------------------------------------------------------------------------------------------- */

static JudgeFault chosen(const int32_t *got, const int32_t *want, const float *scores, double nmse) {
    Tensor g = {DT_I32, 2, {2, 2}, (void *)got}, w = {DT_I32, 2, {2, 2}, (void *)want};
    return judge(&(JudgePair){.got = &g, .want = &w, .scores = scores, .width = 4}, &(JudgeRule){.nmse = nmse}).fault;
}

static void integers(void) {
    static const int32_t want[] = {0, 1, 2, 3}, tie[] = {0, 1, 3, 2}, worse[] = {0, 2, 2, 3}, twice[] = {0, 1, 2, 2}, outside[] = {0, 1, 2, 4};
    static const float scores[] = {5, 4, 3, 2, 1, 2, 7, 7.0000005f};
    check("integers-equal", chosen(want, want, NULL, 1e-12) == JUDGE_OK);
    check("integers-tie", chosen(tie, want, scores, 1e-12) == JUDGE_OK);
    check("integers-tie-unscored", chosen(tie, want, NULL, 1e-12) == JUDGE_INTEGERS);
    check("integers-tie-beyond-tolerance", chosen(tie, want, scores, 1e-18) == JUDGE_INTEGERS);
    check("integers-worse", chosen(worse, want, scores, 1e-12) == JUDGE_INTEGERS);
    check("integers-twice", chosen(twice, want, scores, 1e-12) == JUDGE_INTEGERS);
    check("integers-outside", chosen(outside, want, scores, 1e-12) == JUDGE_INTEGERS);
}

/* --- rows of logits ------------------------------------------------------------------------------------------------------ */

static void rows(void) {
    const double a[] = {1, 2, 3}, b[] = {1, 2.5, 3}, nan[] = {1, NAN, 3}, d[] = {1, 2, 3, 3};
    double pa[3], pb[3], sa = 0, sb = 0, kl = 0;
    for (int i = 0; i < 3; i++) sa += exp(a[i]), sb += exp(b[i]);
    for (int i = 0; i < 3; i++) pa[i] = exp(a[i]) / sa, pb[i] = exp(b[i]) / sb, kl += pa[i] * log(pa[i] / pb[i]);
    check("row-equal", judge_nmse(a, a, 3) == 0 && judge_kl(a, a, 3) == 0);
    check("row", fabs(judge_nmse(b, a, 3) - 0.25 / 14) < 1e-15 && fabs(judge_kl(b, a, 3) - kl) < 1e-12 && judge_top1(b, 3) == judge_top1(a, 3));
    check("row-nan", !(judge_nmse(nan, a, 3) <= 1) && !(judge_kl(nan, a, 3) <= 1) && judge_top1(nan, 3) == 3);
    check("row-tie", judge_top1(d, 4) == 2);
    const float x[] = {1, 2, 3}, y[] = {0, -INFINITY};
    check("log-probability", fabs(judge_log_probability(x, 3, 1) - (2 - log(sa))) < 1e-12);
    check("first-not-finite", judge_not_finite(x, 3) == -1 && judge_not_finite(y, 2) == 1);
}

int main(void) {
    state = 20261129;
    right();
    turned();
    wrong();
    not_finite();
    integers();
    rows();
    return 0;
}
