/* judge.c - see judge.h. */
#include "judge.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* TURNED: how much more noise than the turned roundings made; several of a row may go either way, each by itself. */
static const double FAR = 30, TURNED = 4, FLOOR = 1e-30;
enum { FEW = 3 }; /* steps of f32 */

/* --- one element ------------------------------------------------------------------------------------------------------ */

/* From x to its neighbour away from 0. */
static double step_of(DType d, double x) {
    int e;
    frexp(x, &e);
    if (x == 0 || e < -125) e = -125; /* subnormal */
    return ldexp(1, e - (d == DT_BF16 ? 8 : 24));
}

/* From a bf16 towards 0: the step is half as large below a power of two. */
static double step_down(double x) {
    double s = step_of(DT_BF16, x);
    return fabs(x) == s * 128 && s > 0x1p-133 ? s / 2 : s;
}

static bool one_step(DType d, double a, double b) {
    if (a == b) return false;
    double small = fabs(a) < fabs(b) ? a : b, large = small == a ? b : a;
    if (signbit(a) != signbit(b) && a != 0 && b != 0) return false;
    return fabs(large - small) <= step_of(d, small);
}

/* From x to the nearest value that rounds to bf16 g. */
static double beyond_rounding(double g, double x) {
    bool outwards = fabs(x) > fabs(g) && (g == 0 || signbit(x) == signbit(g));
    double half = (outwards || g == 0 ? step_of(DT_BF16, g) : step_down(g)) / 2, off = fabs(x - g);
    return off > half ? off - half : 0;
}

/* A step of the type is a rounding's, where what was rounded is not known. */
static double beyond_step(double g, double w) {
    double off = fabs(g - w), step = step_of(DT_BF16, fabs(g) < fabs(w) ? g : w);
    return off > step ? off - step : 0;
}

/* --- a row ------------------------------------------------------------------------------------------------------------- */

typedef struct Row Row;
struct Row {
    double power, noise;      /* sums of squares: of want, of errors beyond roundings to bf16 */
    double steps;             /* … of steps of f32, which are in noise */
    double moved, most_moved; /* by turned roundings: sum of squares, the largest */
    double worst;             /* the largest error beyond roundings */
    int64_t worst_at;
};

static double error_of(const JudgePair *p, const JudgeRule *rule, int64_t i, double g, double w) {
    if (p->got->dtype != DT_BF16 || (rule->nmse <= 0 && rule->atol <= 0)) return fabs(g - w);
    return p->exact ? beyond_rounding(g, p->exact[i]) : beyond_step(g, w);
}

static Row row_errors(const JudgePair *p, const JudgeRule *rule, int64_t from, int64_t n) {
    Row r = {0};
    for (int64_t i = from; i < from + n; i++) {
        double g = tensor_at(p->got, i), w = tensor_at(p->want, i);
        if (!isfinite(w)) continue; /* the same on both sides */
        double off = g == w ? 0 : error_of(p, rule, i, g, w);
        r.power += w * w, r.noise += off * off;
        if (p->got->dtype == DT_F32 && one_step(DT_F32, g, w) && rule->nmse > 0) r.steps += off * off, off = 0;
        if (off > r.worst) r.worst = off, r.worst_at = i;
        if (!p->turned) continue;
        double moved = fabs((double)p->turned[i] - (p->exact ? (double)p->exact[i] : w));
        r.moved += moved * moved;
        if (moved > r.most_moved) r.most_moved = moved;
    }
    return r;
}

/* How many of the row's elements an error of the tolerance's size is expected to turn. */
static double turned_by_chance(const JudgePair *p, double size, double nmse, int64_t from, int64_t n) {
    double sum = 0, error = sqrt(nmse) * size;
    for (int64_t i = from; i < from + n; i++) {
        double w = tensor_at(p->want, i), part = w == 0 ? 0 : error / step_of(p->want->dtype, w);
        sum += part < 1 ? part : 1;
    }
    return sum;
}

static void fault(Verdict *v, JudgeFault f, int64_t at) {
    if (v->fault) return;
    v->fault = f, v->at = at;
}

/* --- floats -------------------------------------------------------------------------------------------------------------- */

static bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static void differences(const JudgePair *p, Verdict *v) {
    int64_t largest = 0;
    for (int64_t i = 0; i < v->count; i++) {
        double g = tensor_at(p->got, i), w = tensor_at(p->want, i);
        if (same(g, w)) continue;
        double off = fabs(g - w), rel = w == 0 || !isfinite(w) ? INFINITY : off / fabs(w);
        if (!isfinite(off)) off = rel = INFINITY, fault(v, JUDGE_NOT_FINITE, i);
        if (off > v->max_abs) v->max_abs = off, largest = i;
        if (rel > v->max_rel) v->max_rel = rel;
        v->different++;
        v->steps += one_step(v->dtype, g, w);
    }
    if (!v->fault) v->at = largest;
}

static void close_enough(const JudgePair *p, const JudgeRule *rule, int64_t from, int64_t n, Verdict *v) {
    for (int64_t i = from; i < from + n && !v->fault; i++) {
        double g = tensor_at(p->got, i), w = tensor_at(p->want, i);
        if (same(g, w)) continue;
        double moved = p->turned ? fabs((double)p->turned[i] - (p->exact ? (double)p->exact[i] : w)) : 0;
        if (error_of(p, rule, i, g, w) > rule->atol + rule->rtol * fabs(w) + TURNED * moved) fault(v, JUDGE_ELEMENT, i);
    }
}

/* Are all steps of f32 of a few pairs of values? Equal rows make equal ones. */
static bool few_steps(const JudgePair *p, int64_t count) {
    double got[FEW], want[FEW];
    int n = 0;
    for (int64_t i = 0; i < count; i++) {
        double g = tensor_at(p->got, i), w = tensor_at(p->want, i);
        if (!one_step(DT_F32, g, w)) continue;
        int k = 0;
        while (k < n && (got[k] != g || want[k] != w)) k++;
        if (k < n) continue;
        if (n == FEW) return false;
        got[n] = g, want[n++] = w;
    }
    return true;
}

/* Rows may be equal, as those of equal prompts, and then turn together; where exact is known only nmse need be strict. */
static int64_t most_steps(const JudgePair *p, double chance, int64_t rows) {
    double alike = p->exact ? (double)rows : 1;
    return p->got->dtype == DT_BF16 ? (int64_t)(chance + 6 * sqrt(alike * chance) + 3 * alike) : tensor_count(p->got);
}

static void judge_floats(const JudgePair *p, const JudgeRule *rule, Verdict *v) {
    int64_t n = v->rows ? v->count / v->rows : 0, largest, rows = 0;
    double chance = 0, sum = 0, without_steps = 0;
    differences(p, v);
    largest = v->at;
    if (v->fault) v->nmse = INFINITY;
    if (v->fault || !v->different) return;
    for (int64_t k = 0; k < v->rows; k++) {
        Row r = row_errors(p, rule, k * n, n);
        double size = sqrt(r.power / (double)n), floor = FLOOR * FLOOR * (double)n;
        double left = r.noise - TURNED * r.moved, power = r.power > floor ? r.power : floor;
        v->turned += r.moved > 0 && r.noise > 0;
        rows += r.power > 0 || r.noise > 0;
        if (left > 0) sum += left / power;
        if (left > r.steps) without_steps += (left - r.steps) / power;
        if (rule->atol > 0) close_enough(p, rule, k * n, n, v);
        else if (r.worst > FAR * sqrt(rule->nmse) * size + FLOOR + TURNED * r.most_moved)
            fault(v, JUDGE_ELEMENT, r.worst_at);
        chance += turned_by_chance(p, size, rule->nmse, k * n, n);
    }
    v->nmse = rows ? sum / (double)rows : 0;
    if (rule->atol > 0) return;
    if (v->nmse > rule->nmse && v->steps && v->dtype == DT_F32 && few_steps(p, v->count))
        v->nmse = without_steps / (double)rows;
    if (v->nmse > rule->nmse) v->fault = JUDGE_NMSE, v->at = largest; /* says more than one element */
    v->most_steps = rule->nmse > 0 ? most_steps(p, chance, v->rows) : 0;
    if (v->steps > v->most_steps) fault(v, JUDGE_STEPS, largest);
}

/* --- integers ---------------------------------------------------------------------------------------------------------- */

/* Is id as good a choice as want, by the row's scores? */
static bool as_good(const JudgePair *p, const JudgeRule *rule, int64_t row, int32_t id, int32_t want) {
    const float *s = p->scores + row * p->width;
    double power = 0;
    if (id < 0 || id >= p->width || want < 0 || want >= p->width) return false;
    for (int64_t i = 0; i < p->width; i++) power += (double)s[i] * s[i];
    double band = 8 * sqrt(rule->nmse * power / (double)p->width),
           drift = 2 * (rule->atol + rule->rtol * fabs((double)s[want]));
    return fabs((double)s[id] - s[want]) <= (band > drift ? band : drift);
}

static bool is_tie(const JudgePair *p, const JudgeRule *rule, int64_t row, int64_t n, int64_t i) {
    const int32_t *got = p->got->data, *want = p->want->data;
    if (!p->scores || !as_good(p, rule, row, got[i], want[i])) return false;
    for (int64_t k = row * n; k < i; k++)
        if (got[k] == got[i]) return false; /* chosen twice */
    return true;
}

static void judge_integers(const JudgePair *p, const JudgeRule *rule, Verdict *v) {
    const int32_t *got = p->got->data, *want = p->want->data;
    int64_t rows = p->got->rank > 1 ? v->rows : v->count, n = rows ? v->count / rows : 0;
    for (int64_t i = 0; i < v->count; i++) {
        if (got[i] == want[i]) continue;
        v->different++;
        if (is_tie(p, rule, i / n, n, i)) v->ties++;
        else fault(v, JUDGE_INTEGERS, i);
    }
}

/* --- both -------------------------------------------------------------------------------------------------------------- */

Verdict judge(const JudgePair *p, const JudgeRule *rule) {
    Verdict v = {.dtype = p->got->dtype, .rule = *rule, .count = tensor_count(p->want)};
    if (tensor_count(p->got) != v.count || p->got->dtype != p->want->dtype)
        die("judge: %" PRId64 " elements of %s, %" PRId64 " of %s wanted", tensor_count(p->got),
            dtype_name(p->got->dtype), v.count, dtype_name(p->want->dtype));
    v.rows = p->want->rank && v.count ? v.count / p->want->dim[p->want->rank - 1] : v.count;
    if (v.dtype == DT_I32) judge_integers(p, rule, &v);
    else judge_floats(p, rule, &v);
    if (v.count) v.got = tensor_at(p->got, v.at), v.want = tensor_at(p->want, v.at);
    return v;
}

/* --- a node ---------------------------------------------------------------------------------------------------------------- */

/* Nearer than that to the midpoint, in parts of an element and of its row, errors of a few f32 steps turn a rounding. */
static const double NEAR = 0x1p-20;

static bool look(JudgeNode *j, bool turned, int out, float **to, Err *e) {
    RefLook *l = &j->look[turned];
    if (!j->looked[turned] && !ref_look(j->n, j->in, j->sizes, j->threads, turned ? NEAR : 0, l, e)) return false;
    j->looked[turned] = true;
    *to = l->at[out] && j->part ? j->part(j->ctx, out, l->at[out]) : l->at[out];
    return true;
}

/* A look would change the verdict, perhaps. Steps of bf16 are only seen for what they are when exact is known. */
static bool doubtful(const Verdict *v, bool exact) {
    bool fault = v->fault && v->fault != JUDGE_NOT_FINITE, steps = v->dtype == DT_BF16 && v->steps && !exact;
    return (fault || steps) && (v->rule.nmse > 0 || v->rule.atol > 0);
}

bool judge_node(JudgeNode *j, int out, const Tensor *got, const Tensor *want, Verdict *v, Err *e) {
    JudgePair p = {.got = got, .want = want};
    float *seen[2] = {NULL, NULL};
    bool ok = true;
    *v = judge(&p, &j->rule);
    for (int turned = 0; turned < 2 && ok && doubtful(v, turned); turned++) {
        if (turned && got->dtype == DT_I32) break;
        ok = look(j, turned, out, &seen[turned], e);
        bool scored = !j->look[0].given[out] || j->drifted;
        if (got->dtype == DT_I32) p.scores = scored ? seen[0] : NULL, p.width = j->look[0].width[out];
        else p.exact = got->dtype == DT_BF16 ? seen[0] : NULL, p.turned = seen[1];
        if (ok) *v = judge(&p, &j->rule);
    }
    for (int i = 0; i < 2; i++)
        if (j->part) free(seen[i]);
    return ok;
}

void judge_node_end(JudgeNode *j) {
    for (int i = 0; i < 2; i++)
        if (j->looked[i]) ref_look_free(&j->look[i]);
}

/* --- words ----------------------------------------------------------------------------------------------------------------- */

void judge_why(const Verdict *v, Text *t) {
    switch (v->fault) {
    case JUDGE_OK: return;
    case JUDGE_NOT_FINITE:
        text_add(t, "element %" PRId64 " of %" PRId64 " is %g, expected %g", v->at, v->count, v->got, v->want);
        return;
    case JUDGE_INTEGERS:
        text_add(t, "%" PRId64 " of %" PRId64 " integers differ, first at %" PRId64 ": %.0f, expected %.0f",
                 v->different - v->ties, v->count, v->at, v->got, v->want);
        return;
    case JUDGE_ELEMENT:
        text_add(t, "element %" PRId64 " of %" PRId64 " is %.9g, expected %.9g; ", v->at, v->count, v->got, v->want);
        break;
    case JUDGE_STEPS:
        text_add(t, "%" PRId64 " of %" PRId64 " elements are one %s step off, at most %" PRId64 " may be; ", v->steps,
                 v->count, dtype_name(v->dtype), v->most_steps);
        break;
    case JUDGE_NMSE: break;
    }
    if (v->rule.atol > 0) text_add(t, "tolerance %g + %g |expected|; ", v->rule.atol, v->rule.rtol);
    text_add(t, "nmse %.3g", v->nmse);
    if (v->rule.atol <= 0) text_add(t, ", tolerance %.3g", v->rule.nmse);
    text_add(t, "; max abs %.3g, max rel %.3g; %" PRId64 " of %" PRId64 " differ", v->max_abs, v->max_rel, v->different,
             v->count);
    if (v->fault == JUDGE_NMSE) text_add(t, ", most at %" PRId64 ": %.9g, expected %.9g", v->at, v->got, v->want);
}

void judge_measure(Measured *m, const Verdict *v) {
    if (v->dtype == DT_I32) return;
    if (v->nmse > m->nmse) m->nmse = v->nmse;
    if (v->dtype == DT_BF16) m->steps += v->steps, m->rounded += v->count;
}

/* An error of r of an element's size turns r / step of them; three turns more than were seen are as likely. */
double judge_measured(const Measured *m) {
    double r = m->rounded ? (double)(m->steps + 3) / (double)m->rounded * 0x1p-7 : 0;
    return r * r > m->nmse ? r * r : m->nmse;
}

/* --- rows of logits ------------------------------------------------------------------------------------------------------ */

int64_t judge_not_finite(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

double judge_log_probability(const float *logits, int64_t n, int64_t index) {
    double max = logits[0], sum = 0;
    for (int64_t i = 1; i < n; i++) max = logits[i] > max ? (double)logits[i] : max;
    for (int64_t i = 0; i < n; i++) sum += exp(logits[i] - max);
    return logits[index] - max - log(sum);
}
