/* speed.c - how fast, on a device: both plans loaded, each in a process of its own, taking turns: A B A B. See lab.h.
 *
 * A figure is the median of the ratios B / A of neighbouring runs, with the interval of the sign test: order statistics of the
 * ratios between which the median lies in 95 of 100 cases whatever their distribution. It goes on until that interval is as narrow
 * as was asked for, or the pairs or the time are spent; then it says so. Looking again and again makes 95 a little less. */
#include "lab.h"

#include <math.h>
#include <stdlib.h>

enum { LEAST_PAIRS = 6 /* fewer bound nothing at 95% */, MOST_KERNEL_PAIRS = 12 };

typedef struct Series Series; /* seconds of one test or kernel in each run; NAN: it did not occur */
struct Series {
    const char *name;
    struct {
        double *at;
        size_t n, cap;
    } side[2];
};
typedef struct SeriesList SeriesList;
struct SeriesList {
    Series *at;
    size_t n, cap;
};

/* --- statistics ---------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *sorted, size_t n) {
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* How many of n sorted values may be left out at each end: 2 P(Bin(n, 1/2) < k) <= 0.05. -1: none bounds the median. */
static int left_out(size_t n) {
    double p = pow(0.5, (double)n), sum = 0;
    int k = -1;
    for (size_t i = 0; i < n; i++) {
        sum += p;
        if (2 * sum > 0.05) break;
        k = (int)i;
        p *= (double)(n - i) / (double)(i + 1);
    }
    return k;
}

bool speed_median(double *x, size_t n, double *mid, double *low, double *high) {
    int k = left_out(n);
    qsort(x, n, sizeof *x, by_size);
    *mid = n ? median(x, n) : NAN;
    *low = k < 0 ? NAN : x[k], *high = k < 0 ? NAN : x[n - 1 - (size_t)k];
    return k >= 0;
}

typedef struct Ratio Ratio;
struct Ratio {
    double a, b;              /* median seconds */
    double median, low, high; /* of b / a; low, high NAN: too few pairs */
    size_t pairs;
};

static double *copy(const double *at, size_t n) {
    double *s = malloc((n + 1) * sizeof *s);
    if (!s) out_of_memory(n * sizeof *s, "timings");
    if (n) memcpy(s, at, n * sizeof *s);
    return s;
}

static double median_of(const double *at, size_t n) {
    double *x = copy(at, n), mid, low, high;
    speed_median(x, n, &mid, &low, &high);
    free(x);
    return mid;
}

static Ratio ratio_of(const Series *s) {
    size_t n = s->side[0].n < s->side[1].n ? s->side[0].n : s->side[1].n;
    Ratio r = {.a = median_of(s->side[0].at, s->side[0].n), .b = median_of(s->side[1].at, s->side[1].n), .pairs = n};
    double *q = copy(s->side[0].at, n);
    for (size_t i = 0; i < n; i++) q[i] = s->side[1].at[i] / s->side[0].at[i];
    speed_median(q, n, &r.median, &r.low, &r.high);
    free(q);
    return r;
}

static bool is_narrow(const Ratio *r, double within) {
    return r->pairs >= LEAST_PAIRS && r->high - r->low <= 2 * within * r->median;
}

static json_t *ratio_json(const Series *s, double within) {
    Ratio r = ratio_of(s);
    json_t *j = json_pack("{s:s, s:I}", "name", s->name, "pairs", (json_int_t)r.pairs);
    const struct {
        const char *name;
        double value;
    } figure[] = {{"a_us", r.a * 1e6}, {"b_us", r.b * 1e6}, {"ratio", r.median}, {"low", r.low}, {"high", r.high}};
    for (size_t i = 0; i < LEN(figure); i++) json_object_set_new(j, figure[i].name, json_figure_new(figure[i].value));
    json_object_set_new(j, "narrow", json_boolean(is_narrow(&r, within)));
    return j;
}

/* --- turns --------------------------------------------------------------------------------------------------------------- */

static Series *series(Lab *lab, SeriesList *l, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i].name, name)) return &l->at[i];
    PUSH(lab->a, *l, ((Series){.name = arena_strdup(lab->a, name)}));
    return &l->at[l->n - 1];
}

/* A test's seconds a step; a kernel's in a step, under the test's name. */
static void take_answer(Lab *lab, SeriesList *l, const json_t *answer, int side) {
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(answer, "tests"), i, t) {
        const char *batch = lab->o->batches ? arena_printf(lab->a, " batch %.0f", json_figure(t, "batch")) : "";
        Series *s = series(lab, l, arena_printf(lab->a, "%s%s", json_text(t, "test"), batch));
        PUSH(lab->a, s->side[side], json_figure(t, "seconds") / json_figure(t, "steps"));
    }
    json_array_foreach(json_object_get(answer, "kernels"), i, t) {
        const char *tokens = lab->o->batches ? arena_printf(lab->a, "T=%.0f ", json_figure(t, "tokens")) : "";
        Series *s = series(lab, l, arena_printf(lab->a, "%s %s%s", json_text(t, "test"), tokens, json_text(t, "kernel")));
        PUSH(lab->a, s->side[side], json_figure(t, "microseconds_in_step") * 1e-6);
    }
}

static void ask_args(Lab *lab, int plan, const char *device, bool kernels, Args *args) {
    const LabOptions *o = lab->o;
    args_add(lab->a, args, "gptoss-exec");
    args_add(lab->a, args, lab->plan[plan].path);
    args_pair(lab->a, args, "--mode", "bench");
    args_pair(lab->a, args, "--device", device);
    args_pair(lab->a, args, "--model", lab->model);
    args_int(lab->a, args, "--pp", o->pp);
    args_int(lab->a, args, "--tg", o->tg);
    args_int(lab->a, args, "--depth", o->depth);
    args_pair(lab->a, args, "--batches", o->batches);
    args_add(lab->a, args, "--paced");
    if (kernels) args_add(lab->a, args, "--kernels");
}

/* One run of one plan. warm: it does not count. */
static bool one_turn(Lab *lab, Partner *p, int side, SeriesList *to, bool warm, Err *e) {
    const char *line = partner_ask(p, lab->o->limit, e);
    if (!line) return err_wrap(e, "%s", lab->plan[side].name);
    json_t *answer = json_loads(line, 0, NULL), *limits = json_object_get(answer, "limits");
    if (limits) json_object_set(json_object_get(lab->page, "speed"), "limits", limits);
    if (answer) json_object_set(json_object_get(lab->page, "speed"), "name", json_object_get(answer, "name"));
    if (answer && !warm) take_answer(lab, to, answer, side);
    json_decref(answer);
    return answer || err_set(e, "%s: its answer is no JSON", lab->plan[side].name);
}

static bool all_narrow(const SeriesList *l, double within) {
    bool narrow = l->n > 0;
    for (size_t i = 0; i < l->n && narrow; i++) {
        Ratio r = ratio_of(&l->at[i]);
        narrow = is_narrow(&r, within);
    }
    return narrow;
}

static bool take_turns(Lab *lab, const char *device, bool kernels, int64_t pairs, SeriesList *to, Err *e) {
    Partner p[2] = {{0}};
    double end = seconds_now() + lab->o->seconds;
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        Args args = {0};
        ask_args(lab, i, device, kernels, &args);
        ok = partner_start(lab->a, &args, &p[i], e);
    }
    for (int i = 0; i < 2 && ok; i++) ok = one_turn(lab, &p[i], i, to, true, e);
    for (int64_t n = 0; ok && n < pairs && (n < LEAST_PAIRS || seconds_now() < end); n++) {
        for (int i = 0; i < 2 && ok; i++) ok = one_turn(lab, &p[i], i, to, false, e);
        if (all_narrow(to, lab->o->within)) break;
    }
    partner_end(&p[0]), partner_end(&p[1]);
    return ok;
}

/* --- the whole ----------------------------------------------------------------------------------------------------------- */

static int uses_of(const Plan *p, const int *uses, const char *symbol) {
    int k = 0;
    while (k < p->n_kernels && strcmp(p->kernels[k].symbol, symbol)) k++;
    return k < p->n_kernels ? uses[k] : -1;
}

/* "tg8 T=64 linear_K64 + rmsnorm_N64": is each of these the same text in both plans, and launched as often? Then it takes as long. */
static bool same_code(Lab *lab, const char *series) {
    const Plan *a = lab->plan[0].plan, *b = lab->plan[1].plan;
    const int *uses[] = {plan_uses(a, lab->a), plan_uses(b, lab->a)};
    const char *at = strchr(series, ' ') + 1;
    if (!strncmp(at, "T=", 2)) at = strchr(at, ' ') + 1;
    for (size_t n; *at; at += n + (at[n] ? 3 : 0)) {
        const char *end = strstr(at, " + ");
        n = end ? (size_t)(end - at) : strlen(at);
        const char *symbol = arena_strndup(lab->a, at, n);
        if (diff_kernel(lab, symbol) || uses_of(a, uses[0], symbol) != uses_of(b, uses[1], symbol)) return false;
    }
    return true;
}

static json_t *list_json(Lab *lab, const SeriesList *l, bool kernels) {
    json_t *list = json_array();
    for (size_t i = 0; i < l->n; i++) {
        json_t *j = ratio_json(&l->at[i], lab->o->within);
        if (kernels) json_object_set_new(j, "same_code", json_boolean(l->at[i].side[0].n && l->at[i].side[1].n && same_code(lab, l->at[i].name)));
        json_array_append_new(list, j);
    }
    return list;
}

/* The device fails, or a plan on it: the page says it, and that is a fault of the plan with the rule when the other one ran. */
static void failed(Lab *lab, json_t *speed, const Err *why) {
    json_object_set_new(speed, "error", json_string(why->msg));
    if (!strncmp(why->msg, lab->plan[1].name, strlen(lab->plan[1].name))) lab_wrong(lab, "does not run: %s", why->msg);
}

bool speed_run(Lab *lab, bool each, Err *e) {
    const char *device = json_string_value(json_object_get(lab->page, "device"));
    json_t *speed = json_object();
    SeriesList tests = {0}, kernels = {0};
    json_object_set_new(lab->page, "speed", speed);
    const char *not = !device            ? "no device here runs it"
                      : lab->o->no_speed ? "--no-speed"
                      : !lab->model      ? lab->no_model
                                         : NULL;
    if (not ) return json_object_set_new(speed, "not_measured", json_string(not )), true;
    int64_t pairs = lab->o->pairs < LEAST_PAIRS ? LEAST_PAIRS : lab->o->pairs;
    bool ok = take_turns(lab, device, false, pairs, &tests, e);
    if (ok && each)
        ok = take_turns(lab, device, true, pairs < MOST_KERNEL_PAIRS ? pairs : MOST_KERNEL_PAIRS, &kernels, e);
    if (child_ended(e)) return false;
    if (!ok) failed(lab, speed, e);
    json_object_set_new(speed, "device", json_string(device));
    json_object_set_new(speed, "within", json_real(lab->o->within));
    json_object_set_new(speed, "tests", list_json(lab, &tests, false));
    json_object_set_new(speed, "kernels", list_json(lab, &kernels, true));
    return true;
}

/* --- one figure ------------------------------------------------------------------------------------------------------------ */

/* "tg8 T=64 linear_K64": the test, and the kernel at the end. */
static const char *kernel_of(const char *series) { return strrchr(series, ' ') + 1; }

static double log_of(double x, int *n) { return x > 0 && isfinite(x) ? ++*n, log(x) : 0; }

/* Of each test the sum over the kernels that count, b's over a's. */
static double kernels_ratio(const SeriesList *l, bool (*counts)(void *ctx, const char *kernel), void *ctx) {
    double sum = 0;
    int n = 0;
    for (size_t i = 0; i < l->n; i++) {
        double side[2] = {0, 0};
        size_t test = strcspn(l->at[i].name, " "), first = 0;
        while (strncmp(l->at[first].name, l->at[i].name, test + 1)) first++;
        if (first != i) continue;
        for (size_t k = i; k < l->n; k++) {
            if (strncmp(l->at[k].name, l->at[i].name, test + 1) || !counts(ctx, kernel_of(l->at[k].name))) continue;
            for (int s = 0; s < 2; s++)
                if (l->at[k].side[s].n) side[s] += median_of(l->at[k].side[s].at, l->at[k].side[s].n);
        }
        sum += side[0] > 0 ? log_of(side[1] / side[0], &n) : 0;
    }
    return n ? exp(sum / n) : NAN;
}

static double tests_ratio(const SeriesList *l) {
    double sum = 0;
    int n = 0;
    for (size_t i = 0; i < l->n; i++) sum += log_of(ratio_of(&l->at[i]).median, &n);
    return n ? exp(sum / n) : NAN;
}

bool speed_ratio(Lab *lab, bool (*counts)(void *ctx, const char *kernel), void *ctx, double *ratio, Err *e) {
    const char *device = json_string_value(json_object_get(lab->page, "device"));
    SeriesList l = {0};
    int64_t pairs = lab->o->pairs < LEAST_PAIRS ? LEAST_PAIRS : lab->o->pairs < MOST_KERNEL_PAIRS ? lab->o->pairs : MOST_KERNEL_PAIRS;
    if (!json_object_get(lab->page, "speed")) json_object_set_new(lab->page, "speed", json_object());
    if (!take_turns(lab, device, counts != NULL, pairs, &l, e)) return false;
    *ratio = counts ? kernels_ratio(&l, counts, ctx) : tests_ratio(&l);
    return true;
}
