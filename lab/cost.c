/* cost.c - a prefill step and a decode step of both plans, kernel by kernel: launches, registers, LDS, occupancy; the least bytes and
 * FLOPs of the nodes it computes (ir/cost.h); what it did on the emulator; and the time that follows at least, with what bounds it.
 *
 * The predicted time is step_bound's (step.h), with the device's bandwidth and matrix rate, measured in this run (speed.c), or the data
 * sheet's. So it is a bound from below: what it leaves out (caches, latency) only adds. A step's is that of its kernels and a fixed
 * time for each launch. */
#include "lab.h"

#include <math.h>

#include "step.h"

/* --- machines ------------------------------------------------------------------------------------------------------------ */

static Machine machine_of(const Lab *lab) {
    const json_t *limits = json_object_get(json_object_get(lab->page, "speed"), "limits");
    Machine m = step_machine(lab->plan[0].plan->arch);
    double read = json_figure(limits, "read_bytes_per_second"), matrix = json_figure(limits, "matrix_flops");
    if (!isnan(read)) m.read = read;
    if (!isnan(matrix)) m.matrix = matrix;
    return m;
}

/* --- what the emulator counted --------------------------------------------------------------------------------------------- */

const json_t *counts_of(const json_t *list, const char *kernel) {
    size_t i;
    json_t *c;
    json_array_foreach(list, i, c) if (!strcmp(json_text(c, "kernel"), kernel)) return c;
    return NULL;
}

/* What was counted in `late` and not yet in `early`. The longest wave is a maximum, and stays. */
static json_t *counted_between(const json_t *early, const json_t *late) {
    json_t *list = json_array(), *c, *v;
    const char *key;
    size_t i;
    json_array_foreach(late, i, c) {
        const json_t *before = counts_of(early, json_text(c, "kernel"));
        json_t *d = json_object();
        json_object_foreach(c, key, v) {
            json_int_t less = strcmp(key, "longest") ? json_integer_value(json_object_get(before, key)) : 0;
            json_object_set_new(d, key,
                                json_is_integer(v) ? json_integer(json_integer_value(v) - less) : json_incref(v));
        }
        json_array_append_new(list, d);
    }
    return list;
}

/* Of one run of the case, loading left out: a second run less the first. */
static json_t *count_case(Lab *lab, const LabPlan *p, const char *option, int64_t n, Err *e) {
    Args args = {0};
    Partner q;
    json_t *profile[2] = {NULL, NULL};
    args_add(lab->a, &args, "gptoss-exec");
    args_add(lab->a, &args, p->path);
    args_pair(lab->a, &args, "--mode", "bench");
    args_pair(lab->a, &args, "--device", "emu");
    args_pair(lab->a, &args, "--model", lab->model);
    args_int(lab->a, &args, option, n);
    args_int(lab->a, &args, "--depth", lab->o->depth);
    args_add(lab->a, &args, "--profile");
    args_add(lab->a, &args, "--paced");
    bool ok = partner_start(lab->a, &args, &q, e);
    for (int i = 0; i < 2 && ok; i++) {
        const char *line = partner_ask(&q, lab->o->limit, e);
        json_t *answer = line ? json_loads(line, 0, NULL) : NULL;
        profile[i] = json_incref(json_object_get(answer, "profile"));
        ok = profile[i] != NULL;
        json_decref(answer);
    }
    partner_end(&q);
    json_t *once = ok ? counted_between(profile[0], profile[1]) : NULL;
    json_decref(profile[0]), json_decref(profile[1]);
    return once;
}

/* Of one decode step alone: what two generated tokens take more than one. */
static json_t *count_decode(Lab *lab, const LabPlan *p, Err *e) {
    json_t *one = count_case(lab, p, "--tg", 1, e), *two = one ? count_case(lab, p, "--tg", 2, e) : NULL;
    json_t *step = two ? counted_between(one, two) : NULL;
    json_decref(one), json_decref(two);
    return step;
}

/* --- … of a model that is too large to be run: from samples ------------------------------------------------------------------ */

typedef struct Samples Samples; /* lines of --self-test, of both plans */
struct Samples {
    json_t *step[2], *one[2]; /* of steps of --pp tokens, and of one */
};

/* Is it counted so? Then nothing else counts. */
static bool is_sampled(const Lab *lab) {
    return !strncmp(lab->plan[0].plan->arch, "gfx90a", 6) && !lab->model && !lab->o->no_judge && !lab->o->second;
}

static bool take_samples(Lab *lab, Samples *to, Err *e) {
    const char *how;
    if (!is_sampled(lab)) return true;
    for (int i = 0; i < 2; i++) {
        const char *plan = lab->plan[i].path;
        if (!(to->one[i] = verdict_checks(lab, plan, &(CheckOptions){.sample = SAMPLE, .rows = 1}, &how, e))) return false;
        if (lab->o->pp > 1 && !(to->step[i] = verdict_checks(lab, plan, &(CheckOptions){.sample = SAMPLE, .rows = lab->o->pp}, &how, e))) return false;
    }
    json_object_set_new(lab->page, "counts_sample", json_integer(SAMPLE));
    return true;
}

static void drop_samples(Samples *s) {
    for (int i = 0; i < 2; i++) json_decref(s->step[i]), json_decref(s->one[i]);
}

/* What all launches of u would execute, from the waves that did; a new object, NULL: nothing is known. Positions of attention are made
 * up in a self-test, so what it would do at the step's depth is not. */
static json_t *sampled(const Samples *s, int plan, const Use *u) {
    static const char *const scaled[] = {"instructions", "mfma", "bytes_read", "bytes_written"};
    const json_t *counts = json_object_get(counts_of(u->rows > 1 ? s->step[plan] : s->one[plan], u->k->symbol), "counts");
    double waves = json_number_value(json_object_get(counts, "waves")), launches = json_number_value(json_object_get(counts, "launches"));
    if (!(waves > 0) || !(launches > 0) || u->by_depth) return NULL;
    double by = json_number_value(json_object_get(counts, "all_waves")) / waves / launches * u->launches;
    json_t *to = json_pack("{s:s, s:i, s:O}", "kernel", u->k->symbol, "launches", u->launches, "longest", json_object_get(counts, "longest"));
    for (size_t i = 0; i < LEN(scaled); i++)
        json_object_set_new(to, scaled[i], json_integer((json_int_t)(by * json_number_value(json_object_get(counts, scaled[i])) + 0.5)));
    return to;
}

/* --- figures ------------------------------------------------------------------------------------------------------------- */

static json_t *use_json(const Machine *m, const Use *u, const json_t *counts) {
    const PlanKernel *k = u->k;
    double instructions = json_figure(counts, "instructions");
    const Counted counted = step_counted(counts, u->launches);
    Bound b = step_bound(m, u, counts ? &counted : NULL);
    json_t *j =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:s}", "launches", u->launches, "vgprs",
                  (int)k->vgprs, "agprs", (int)k->agprs, "sgprs", (int)k->sgprs, "lds", (int)(k->lds + k->lds_static),
                  "spills", (int)(k->vgpr_spills + k->sgpr_spills), "scratch", (int)k->scratch, "block", (int)k->block,
                  "least_bytes", u->least.read + u->least.written, "flops", u->least.flops, "bound", b.by);
    const struct {
        const char *name;
        double value;
    } figure[] = {{"occupancy", step_occupancy(m, k)},
                  {"predicted_us", *b.by ? b.seconds * 1e6 : NAN},
                  {"instructions", instructions},
                  {"mfma_share", json_figure(counts, "mfma") / instructions},
                  {"bytes_asked", json_figure(counts, "bytes_read") + json_figure(counts, "bytes_written")}};
    for (size_t i = 0; i < LEN(figure); i++) json_object_set_new(j, figure[i].name, json_figure_new(figure[i].value));
    if (u->at) json_object_set_new(j, "work_at", json_string(u->at->symbol));
    return j;
}

/* All kernels of a step added up; and with what each launch takes besides (targets.def). */
static json_t *sum_json(const Machine *m, const json_t *kernels, const char *side) {
    static const char *const summed[] = {"launches",     "least_bytes",  "flops",
                                         "predicted_us", "instructions", "bytes_asked"};
    json_t *j = json_object(), *k;
    size_t i;
    double mfma = 0, instructions = 0;
    for (size_t s = 0; s < LEN(summed); s++) {
        double sum = NAN; /* of those that have it */
        json_array_foreach(kernels, i, k) {
            double x = json_figure(json_object_get(k, side), summed[s]);
            if (!isnan(x)) sum = isnan(sum) ? x : sum + x;
        }
        json_object_set_new(j, summed[s], json_figure_new(sum));
    }
    json_array_foreach(kernels, i, k) {
        const json_t *of = json_object_get(k, side);
        double n = json_figure(of, "instructions");
        if (n > 0) instructions += n, mfma += n * json_figure(of, "mfma_share");
    }
    json_object_set_new(j, "mfma_share", json_figure_new(mfma / instructions));
    double launches = json_figure(j, "launches") * m->launch * 1e6;
    json_object_set_new(j, "launch_us", json_figure_new(m->launch > 0 ? launches : NAN));
    json_object_set_new(j, "step_us", json_figure_new(m->launch > 0 ? json_figure(j, "predicted_us") + launches : NAN));
    return j;
}

static json_t *row_of(json_t *rows, const char *kernel) {
    size_t i;
    json_t *r;
    json_array_foreach(rows, i, r) if (!strcmp(json_text(r, "kernel"), kernel)) return r;
    json_array_append_new(rows, r = json_pack("{s:s}", "kernel", kernel));
    return r;
}

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static bool count_step(Lab *lab, const LabPlan *p, bool prefill, json_t **counts, Err *e) {
    *counts = NULL;
    if (strncmp(p->plan->arch, "gfx90a", 6) || !lab->model || json_object_get(lab->page, "not_counted")) return true;
    *counts = prefill ? count_case(lab, p, "--pp", lab->o->pp, e) : count_decode(lab, p, e);
    if (child_ended(e)) return json_decref(*counts), false;
    if (!*counts)
        json_object_set_new(lab->page, "not_counted", json_string(e->msg)); /* the page says so, and goes on */
    return true;
}

static bool add_test(Lab *lab, bool prefill, const Samples *samples, json_t *list, Err *e) {
    static const char *const side[] = {"a", "b"};
    const LabOptions *o = lab->o;
    const Machine m = machine_of(lab);
    int64_t n = prefill ? o->pp : 1;
    const Work w = {.sizes = {{[SYM_T] = n, [SYM_S] = 1, [SYM_P] = 1}},
                    .slots = 1,
                    .depth = prefill    ? o->depth
                             : o->depth ? o->depth
                                        : 1};
    json_t *rows = json_array(), *test = json_object();
    for (int i = 0; i < 2; i++) {
        json_t *counts;
        Uses u = step_uses(lab->a, lab->plan[i].plan, &w);
        if (!count_step(lab, &lab->plan[i], prefill, &counts, e)) return false;
        for (size_t k = 0; k < u.n; k++) {
            json_t *some = is_sampled(lab) ? sampled(samples, i, &u.at[k]) : NULL;
            json_object_set_new(row_of(rows, u.at[k].k->symbol), side[i],
                                use_json(&m, &u.at[k], some ? some : counts_of(counts, u.at[k].k->symbol)));
            json_decref(some);
        }
        json_decref(counts);
    }
    json_object_update_new(test, json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "test", prefill ? "prefill" : "decode",
                                           "tokens", (json_int_t)n, "depth", (json_int_t)w.depth, "a",
                                           sum_json(&m, rows, "a"), "b", sum_json(&m, rows, "b"), "kernels", rows));
    json_array_append_new(list, test);
    return true;
}

bool cost_tests(Lab *lab, Err *e) {
    json_t *list = json_array();
    json_object_set_new(lab->page, "tests", list);
    Samples s = {{NULL}};
    bool ok = take_samples(lab, &s, e) && add_test(lab, true, &s, list, e) && add_test(lab, false, &s, list, e);
    drop_samples(&s);
    return ok;
}

static Uses counted_step(Lab *lab, const LabPlan *p, bool prefill) {
    const LabOptions *o = lab->o;
    const Work w = {.sizes = {{[SYM_T] = prefill ? o->pp : 1, [SYM_S] = 1, [SYM_P] = 1}}, .slots = 1, .depth = prefill || o->depth ? o->depth : 1};
    return step_uses(lab->a, p->plan, &w);
}

bool cost_runs(Lab *lab, const LabPlan *p, const char *symbol) {
    for (int prefill = 0; prefill < 2; prefill++) {
        Uses u = counted_step(lab, p, prefill);
        for (size_t i = 0; i < u.n; i++)
            if (!strcmp(u.at[i].k->symbol, symbol)) return true;
    }
    return false;
}

/* The step's least time by what the emulator counted, added up over its kernels. */
static bool step_seconds(Lab *lab, const LabPlan *p, bool prefill, double *seconds, Err *e) {
    const Machine m = machine_of(lab);
    Uses u = counted_step(lab, p, prefill);
    json_t *counts = prefill ? count_case(lab, p, "--pp", lab->o->pp, e) : count_decode(lab, p, e);
    *seconds = 0;
    for (size_t i = 0; counts && i < u.n; i++) {
        const json_t *of = counts_of(counts, u.at[i].k->symbol);
        const Counted counted = step_counted(of, u.at[i].launches);
        *seconds += step_bound(&m, &u.at[i], of ? &counted : NULL).seconds;
    }
    json_decref(counts);
    return counts != NULL;
}

bool cost_counted(Lab *lab, const LabPlan *p, double seconds[2], Err *e) {
    return step_seconds(lab, p, true, &seconds[0], e) && step_seconds(lab, p, false, &seconds[1], e);
}
