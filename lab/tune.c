/* tune.c - gptoss-lab GRAPH --tune: tries what may be chosen, one thing at a time, and keeps the best in a file. See lab.h and
 * compiler/tuning.h.
 *
 * First the fusions: each rule that fires left out, each that lost to others in their place, and the alternatives of each recipe for other
 * numbers of rows. Then each kernel whose template's
 * head has tune lines: value by value, constant by constant. A candidate is compiled, as any later compilation will take it: from a
 * file of choices that has it as its last line. It is thrown out when it does not compile or is not legal, spills more than what it
 * replaces, sums in another way, or when the self-test finds a kernel of it wrong (on emu under several orders of waves). What is
 * left is measured: on the device that is here by turns, where only what is better by more than --within replaces the template's own
 * values; else by what the emulator counted. Either way the file says so, and nobody measures it again.
 *
 * Page keys: device, name, unit, file, choices [{of, template, default, choice, ratio, tried: [{choice, ratio or rejected}]}]. */
#include "lab.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "compiler/tuning.h"
#include "ir/kept.h"

enum { MOST_OFF = 8, MOST_RULES = 64 };

typedef struct Tuner Tuner;
struct Tuner {
    Lab lab;             /* plan[0]: with all that is kept so far; plan[1]: the candidate */
    const char *device;  /* NULL: emu counts */
    const char *file;    /* where choices are kept */
    Text kept;           /* of the trials' file: what is kept so far */
    double counted[2];   /* of plan[0], on emu */
    json_t *choices;
    int entries;
};

static const char not_run[] = "not measured: no test runs it (--batches, --pp, --depth)";

static bool on_emu(const Tuner *t) { return !t->device; }

/* Is it enough to be kept? What is counted has no noise. */
static bool is_better(const Tuner *t, double now, double best) { return now < best - (on_emu(t) ? 1e-6 : t->lab.o->within); }

/* --- plans --------------------------------------------------------------------------------------------------------------- */

static void drop_plan(LabPlan *p) {
    plan_close(p->plan), json_decref(p->report);
    p->plan = NULL, p->report = NULL;
}

/* With the choices kept, and this one. */
static bool build(Tuner *t, LabPlan *to, const char *name, const json_t *entry, Err *e) {
    Lab *lab = &t->lab;
    Args args = {0};
    const char *path = arena_printf(lab->a, "%s/%s.bin", lab->work, name), *choices = arena_printf(lab->a, "%s/%s.jsonl", lab->work, name);
    char *line = entry ? json_dumps(entry, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    const char *text = arena_printf(lab->a, "%s%s", t->kept.at ? t->kept.at : "", line ? line : "");
    free(line);
    drop_plan(to);
    to->name = name;
    build_args(lab, &args, lab->o->first, path);
    build_add_rules(lab, &args, true);
    args_pair(lab->a, &args, "--tuning", choices);
    return file_write(choices, text, strlen(text), e) && build_plan(lab, &args, path, to, e);
}

static const json_t *kernel_report(const LabPlan *p, const char *symbol) {
    size_t i;
    json_t *k;
    json_array_foreach(json_object_get(p->report, "kernels"), i, k) if (!strcmp(json_text(k, "symbol"), symbol)) return k;
    return NULL;
}

/* plan[0] with what is kept now. */
static bool build_base(Tuner *t, Err *e) {
    LabPlan *base = &t->lab.plan[0];
    if (!build(t, base, "kept", NULL, e)) return false;
    if (base->error) return err_set(e, "%s", base->error);
    return !on_emu(t) || !t->lab.model || cost_counted(&t->lab, base, t->counted, e);
}

/* --- is a candidate right? ------------------------------------------------------------------------------------------------ */

static double spilled(const PlanKernel *k) { return (double)k->vgpr_spills + k->sgpr_spills; }

static const PlanKernel *kernel_named(const Plan *p, const char *symbol) {
    for (int i = 0; i < p->n_kernels; i++)
        if (!strcmp(p->kernels[i].symbol, symbol)) return &p->kernels[i];
    return NULL;
}

static const char *spills(Tuner *t, const PlanKernel *k) {
    const PlanKernel *was = kernel_named(t->lab.plan[0].plan, k->symbol);
    double before = was ? spilled(was) : 0, bytes = was ? was->scratch : 0;
    if (spilled(k) <= before && k->scratch <= bytes) return NULL;
    return arena_printf(t->lab.a, "%s spills: %.0f registers, %u bytes of scratch; before %.0f, %.0f", k->symbol, spilled(k), k->scratch, before, bytes);
}

/* The first check of the kernel that failed, or how the self-test ended. */
static bool judge_one(Tuner *t, const char *symbol, const CheckOptions *o, bool *left_out, const char **why, Err *e) {
    const char *how;
    size_t i;
    json_t *line, *lines = verdict_checks(&t->lab, t->lab.plan[1].path, o, &how, e);
    if (!lines) return false;
    if (*how) *why = arena_strdup(t->lab.a, how);
    json_array_foreach(lines, i, line) {
        *left_out |= json_object_get(line, "left_out") != NULL;
        if (*why || !json_is_false(json_object_get(line, "ok"))) continue;
        *why = arena_printf(t->lab.a, "%s is wrong: %s: %s%s", symbol, json_text(line, "node"), json_text(line, "says"),
                            o->schedule ? " (waves in another order)" : "");
    }
    json_decref(lines);
    return true;
}

static bool judge_kernel(Tuner *t, const char *symbol, const char **why, Err *e) {
    bool left_out = false;
    size_t n;
    const CheckOptions *ways = verdict_ways(&t->lab, &n);
    for (size_t i = 0; !*why && i < n; i++) {
        CheckOptions own = ways[i];
        own.only = symbol;
        if (!judge_one(t, symbol, &own, &left_out, why, e)) return false;
    }
    return *why || !left_out || !on_emu(t) || judge_one(t, symbol, &(CheckOptions){.only = symbol, .sample = SAMPLE}, &left_out, why, e);
}

/* Every kernel that the other plan has not, or has otherwise. *why: the first fault. */
static bool judge(Tuner *t, const char **why, Err *e) {
    const Plan *p = t->lab.plan[1].plan;
    const int *uses = plan_uses(p, t->lab.a);
    for (int i = 0; i < p->n_kernels && !*why; i++) {
        const PlanKernel *k = &p->kernels[i];
        if (!diff_kernel(&t->lab, k->symbol)) continue;
        *why = spills(t, k);
        if (!*why && uses[i] && !judge_kernel(t, k->symbol, why, e)) return false;
    }
    return true;
}

/* --- how fast is it? ------------------------------------------------------------------------------------------------------- */

static bool differs(void *ctx, const char *kernel) {
    const Tuner *t = ctx;
    return strcmp(kernel, "all") && diff_kernel(&t->lab, kernel);
}

static bool is_run(Tuner *t) {
    const Plan *p = t->lab.plan[1].plan;
    for (int i = 0; i < p->n_kernels; i++)
        if (diff_kernel(&t->lab, p->kernels[i].symbol) && cost_runs(&t->lab, &t->lab.plan[1], p->kernels[i].symbol)) return true;
    return false;
}

/* Of the candidate's time over what is kept so far; NAN: no test runs it. whole: of steps, not of the kernels that differ. */
static bool measure(Tuner *t, bool whole, double *ratio, Err *e) {
    double now[2], sum = 0;
    if (!on_emu(t)) return speed_ratio(&t->lab, whole ? NULL : differs, t, ratio, e);
    if (!is_run(t)) return *ratio = NAN, true;
    if (!cost_counted(&t->lab, &t->lab.plan[1], now, e)) return false;
    for (int i = 0; i < 2; i++) sum += log(now[i] / t->counted[i]);
    return *ratio = exp(sum / 2), true;
}

/* A constant that this target's code does not depend on. */
static bool same_code(const Plan *a, const Plan *b) {
    bool same = a->n_modules == b->n_modules && a->n_kernels == b->n_kernels;
    for (int i = 0; same && i < a->n_modules; i++)
        same = a->modules[i].code && a->modules[i].code_size == b->modules[i].code_size && !memcmp(a->modules[i].code, b->modules[i].code, a->modules[i].code_size);
    for (int g = 0; same && g < a->n_graphs; g++) {
        const PlanGraph *x = &a->graphs[g], *y = &b->graphs[g];
        same = x->n_launches == y->n_launches;
        for (int l = 0; same && l < x->n_launches; l++)
            same = !memcmp(x->launches[l].grid, y->launches[l].grid, (size_t)x->n_buckets * sizeof *x->launches[l].grid) &&
                   !memcmp(x->launches[l].lds, y->launches[l].lds, (size_t)x->n_buckets * sizeof *x->launches[l].lds);
    }
    return same;
}

/* One candidate from its entry on: a row of what was tried. *ratio: NAN where it was thrown out. */
static bool try_one(Tuner *t, const json_t *entry, bool whole, json_t *tried, double *ratio, Err *e) {
    const char *why = NULL;
    Err not = {""};
    *ratio = NAN;
    if (!build(t, &t->lab.plan[1], "trial", entry, e)) return false;
    if (t->lab.plan[1].error) why = t->lab.plan[1].error;
    else if (same_code(t->lab.plan[0].plan, t->lab.plan[1].plan)) why = "the same code and launches";
    else if (!judge(t, &why, e)) return false;
    if (!why && !measure(t, whole, ratio, &not )) why = arena_printf(t->lab.a, "it does not run: %s", not .msg);
    else if (!why && isnan(*ratio)) why = not_run;
    if (child_ended(e)) return false;
    json_array_append_new(tried, json_pack("{s:O, s:o, s:s?}", "choice", json_object_get(entry, "choice"), "ratio", json_figure_new(*ratio),
                                           "rejected", why));
    if (isatty(2)) fprintf(stderr, "gptoss-lab: %s\n", why ? why : arena_printf(t->lab.a, "%.3f", *ratio));
    return true;
}

/* --- what is kept ---------------------------------------------------------------------------------------------------------- */

static const char *today(Arena *a) {
    char date[32];
    time_t now = time(NULL);
    struct tm tm;
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
    return arena_strdup(a, date);
}

/* An entry without its figures: what a compilation looks at. */
static json_t *entry_new(const Tuner *t, const json_t *key, const json_t *choice) {
    const json_t *report = t->lab.plan[0].report;
    json_t *j = json_deep_copy(key);
    json_object_update_new(j, json_pack("{s:O, s:s, s:s, s:s, s:b}", "choice", choice, "arch", json_text(report, "arch"), "precision",
                                        json_text(report, "precision"), "compiler", json_text(report, "compiler"), "counted", on_emu(t)));
    return j;
}

static bool keep(Tuner *t, const json_t *key, const json_t *choice, const json_t *of_template, double ratio, json_t *tried, Err *e) {
    const char *name = on_emu(t) ? "emu" : json_text(json_object_get(t->lab.page, "speed"), "name");
    json_t *j = entry_new(t, key, choice);
    json_object_update_new(j, json_pack("{s:O, s:o, s:O, s:s, s:s}", "default", of_template, "ratio", json_figure_new(ratio), "tried", tried, "device",
                                        *name ? name : t->device ? t->device : "emu", "date", today(t->lab.a)));
    char *line = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
    if (!line) die("lab: a choice cannot be written as JSON");
    text_add(&t->kept, "%s\n", line);
    t->entries++;
    bool ok = kept_append(t->lab.a, t->file, line, e);
    free(line);
    json_decref(j);
    return ok;
}

static void note(Tuner *t, const char *of, const char *template, const json_t *was, const json_t *choice, double ratio, json_t *tried) {
    json_array_append_new(t->choices, json_pack("{s:s, s:s, s:O, s:O, s:o, s:O}", "of", of, "template", template, "default", was, "choice", choice,
                                                "ratio", json_figure_new(ratio), "tried", tried));
}

/* --- kernels ---------------------------------------------------------------------------------------------------------------- */

static json_t *key_of(const json_t *tune) {
    return json_pack("{s:O, s:O, s:O, s:O}", "kernel", json_object_get(tune, "kernel"), "version", json_object_get(tune, "version"), "ops",
                     json_object_get(tune, "ops"), "shape", json_object_get(tune, "shape"));
}

/* Each candidate for one constant, the others as in *best. */
static bool tune_constant(Tuner *t, const json_t *key, const char *name, const json_t *candidates, json_t *best, double *ratio, json_t *tried, Err *e) {
    size_t i;
    json_t *value, *found = NULL;
    json_array_foreach(candidates, i, value) {
        json_t *choice = json_deep_copy(best);
        double now;
        if (json_equal(value, json_object_get(best, name)) || (found && json_equal(value, found))) {
            json_decref(choice);
            continue;
        }
        json_object_set(choice, name, value);
        json_t *entry = entry_new(t, key, choice);
        bool ok = try_one(t, entry, false, tried, &now, e);
        json_decref(entry), json_decref(choice);
        if (!ok) return false;
        if (is_better(t, now, *ratio)) *ratio = now, found = value;
    }
    if (found) json_object_set(best, name, found);
    return true;
}

/* Was each candidate thrown out or measured? */
static bool all_known(const json_t *tried) {
    size_t i;
    json_t *row;
    json_array_foreach(tried, i, row) if (!strcmp(json_text(row, "rejected"), not_run)) return false;
    return true;
}

static bool tune_kernel(Tuner *t, const json_t *kernel, Err *e) {
    const json_t *tune = json_object_get(kernel, "tune"), *was = json_object_get(tune, "values");
    json_t *key = key_of(tune), *best = json_deep_copy(was), *tried = json_array(), *candidates;
    const char *name, *symbol = arena_strdup(t->lab.a, json_text(kernel, "symbol"));
    double ratio = 1;
    bool ok = true;
    json_object_foreach(json_object_get(tune, "candidates"), name, candidates)
        ok = ok && tune_constant(t, key, name, candidates, best, &ratio, tried, e);
    ok = ok && (!all_known(tried) || keep(t, key, best, was, ratio, tried, e)); /* else another run may measure it */
    if (ok) note(t, symbol, json_text(key, "kernel"), was, best, ratio, tried);
    bool other = !json_equal(best, was);
    json_decref(key), json_decref(best), json_decref(tried);
    return ok && (!other || build_base(t, e));
}

static bool is_asked(const Tuner *t, const char *name) { return !t->lab.o->only || strstr(name, t->lab.o->only); }

/* Kernels by their symbols, which choices do not change: what is kept makes another plan, with another report. */
static bool tune_kernels(Tuner *t, Err *e) {
    size_t n = json_array_size(json_object_get(t->lab.plan[0].report, "kernels"));
    const char **symbol = arena_array(t->lab.a, n, sizeof *symbol);
    for (size_t i = 0; i < n; i++)
        symbol[i] = arena_strdup(t->lab.a, json_text(json_array_get(json_object_get(t->lab.plan[0].report, "kernels"), i), "symbol"));
    for (size_t i = 0; i < n; i++) {
        const json_t *kernel = kernel_report(&t->lab.plan[0], symbol[i]), *tune = json_object_get(kernel, "tune");
        if (!tune || json_is_true(json_object_get(tune, "kept")) || (!is_asked(t, symbol[i]) && !is_asked(t, json_text(tune, "kernel")))) continue;
        json_t *mine = json_deep_copy(kernel); /* the report goes with its plan */
        bool ok = tune_kernel(t, mine, e);
        json_decref(mine);
        if (!ok) return false;
    }
    return true;
}

/* --- fusions ---------------------------------------------------------------------------------------------------------------- */

typedef struct Rules Rules;
struct Rules {
    const char *at[MOST_RULES];
    size_t n;
};

static void add_rule(Lab *lab, Rules *to, const char *name) {
    for (size_t i = 0; i < to->n; i++)
        if (!strcmp(to->at[i], name)) return;
    if (to->n < MOST_RULES) to->at[to->n++] = arena_strdup(lab->a, name);
}

/* Those that fired in p; or that were refused there for another's sake, with who that was. */
static Rules fired(Lab *lab, const LabPlan *p) {
    size_t i;
    json_t *r;
    Rules to = {.n = 0};
    json_array_foreach(json_object_get(p->report, "rules"), i, r) if (json_integer_value(json_object_get(r, "uses"))) add_rule(lab, &to, json_text(r, "name"));
    return to;
}

static Rules lost(Lab *lab, const LabPlan *p) {
    size_t i;
    json_t *event;
    char to_whom[128];
    Rules all = fired(lab, p), to = {.n = 0};
    json_array_foreach(json_object_get(p->report, "explain"), i, event) {
        bool fires = false;
        for (size_t k = 0; k < all.n; k++) fires |= !strcmp(all.at[k], json_text(event, "rule"));
        if (!fires && sscanf(json_text(event, "why"), "overlaps rule %127s (", to_whom) == 1) add_rule(lab, &to, json_text(event, "rule"));
    }
    return to;
}

/* Whom the rule lost to first; NULL: to none. */
static const char *winner(Lab *lab, const LabPlan *p, const char *rule) {
    size_t i;
    json_t *event;
    char to_whom[128];
    json_array_foreach(json_object_get(p->report, "explain"), i, event) if (!strcmp(json_text(event, "rule"), rule) &&
                                                                            sscanf(json_text(event, "why"), "overlaps rule %127s (", to_whom) == 1)
        return arena_strdup(lab->a, to_whom);
    return NULL;
}

static json_t *off_json(const Rules *off) {
    json_t *list = json_array();
    for (size_t i = 0; i < off->n; i++) json_array_append_new(list, json_string(off->at[i]));
    return json_pack("{s:o}", "off", list);
}

/* All that must go for `rule` to fire. False: too many, or it still does not. */
static bool make_way(Tuner *t, const json_t *key, const char *rule, Rules *off, bool *found, Err *e) {
    LabPlan *p = &t->lab.plan[0];
    *found = false;
    for (const char *first = winner(&t->lab, p, rule); first && off->n < MOST_OFF && !*found;) {
        size_t before = off->n;
        add_rule(&t->lab, off, first);
        if (off->n == before) break;
        json_t *choice = off_json(off), *entry = entry_new(t, key, choice);
        bool ok = build(t, &t->lab.plan[1], "trial", entry, e);
        json_decref(choice), json_decref(entry);
        if (!ok) return false;
        p = &t->lab.plan[1];
        Rules now = p->error ? (Rules){.n = 0} : fired(&t->lab, p);
        for (size_t i = 0; i < now.n; i++) *found |= !strcmp(now.at[i], rule);
        first = p->error ? NULL : winner(&t->lab, p, rule);
    }
    return true;
}

/* The ways in which a plan sums, each once. */
static Rules sums_of(Lab *lab, const Plan *p) {
    Rules to = {.n = 0};
    for (int i = 0; i < p->n_kernels; i++)
        for (const char *at = p->kernels[i].reduction; *at; at += strcspn(at, ";"), at += strspn(at, "; "))
            add_rule(lab, &to, arena_strndup(lab->a, at, strcspn(at, ";")));
    return to;
}

static bool same_sums(Tuner *t, const json_t *entry, bool *same, Err *e) {
    *same = true;
    if (!build(t, &t->lab.plan[1], "trial", entry, e)) return false;
    if (t->lab.plan[1].error) return true;
    Rules a = sums_of(&t->lab, t->lab.plan[0].plan), b = sums_of(&t->lab, t->lab.plan[1].plan);
    for (size_t i = 0, n = a.n; i < b.n; i++) add_rule(&t->lab, &a, b.at[i]), *same = *same && a.n == n;
    return true;
}

static bool try_fusions(Tuner *t, const json_t *key, json_t *choice, json_t **best, double *ratio, json_t *tried, Err *e) {
    json_t *entry = entry_new(t, key, choice);
    bool same, ok = same_sums(t, entry, &same, e);
    double now = NAN;
    if (ok && !same)
        json_array_append_new(tried, json_pack("{s:O, s:n, s:s}", "choice", choice, "ratio", "rejected", "something would be summed in another way"));
    else if (ok) ok = try_one(t, entry, true, tried, &now, e);
    if (ok && is_better(t, now, *ratio)) *ratio = now, json_decref(*best), *best = json_incref(choice);
    json_decref(choice), json_decref(entry);
    return ok;
}

/* --- recipes --------------------------------------------------------------------------------------------------------------- */

/* Bound i with another value, those about it as far as they must give way; NULL: no such value. */
static json_t *with_bound(const json_t *bounds, size_t i, json_int_t value) {
    json_t *to = json_deep_copy(bounds);
    size_t n = json_array_size(bounds);
    bool other = value != json_integer_value(json_array_get(bounds, i));
    json_array_set_new(to, i, json_integer(value));
    for (size_t k = 0; k < i; k++)
        if (json_integer_value(json_array_get(to, k)) > value) json_array_set_new(to, k, json_integer(value));
    for (size_t k = i + 1; k < n; k++)
        if (json_integer_value(json_array_get(to, k)) < value) json_array_set_new(to, k, json_integer(value));
    if (!other) json_decref(to);
    return other ? to : NULL;
}

static json_t *with_recipe(const json_t *choice, const char *rule, json_t *bounds) {
    json_t *to = json_deep_copy(choice), *recipes = json_object_get(to, "recipes");
    if (!recipes) json_object_set_new(to, "recipes", recipes = json_object());
    json_object_set_new(recipes, rule, bounds);
    return to;
}

/* Each bound of a rule's recipe: its alternative never, always, for half as many rows and for twice as many. */
static bool tune_recipe(Tuner *t, const json_t *key, const json_t *rule, json_t **best, double *ratio, json_t *tried, Err *e) {
    const json_t *bounds = json_object_get(rule, "recipe");
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(bounds); i++) {
        json_int_t now = json_integer_value(json_array_get(bounds, i));
        const json_int_t values[] = {0, TUNE_ALWAYS, now / 2, now * 2};
        for (size_t v = 0; ok && v < LEN(values); v++) {
            json_t *other = v == 2 && now < 2 ? NULL : with_bound(bounds, i, values[v]); /* half of 1 is never */
            if (other) ok = try_fusions(t, key, with_recipe(*best, json_text(rule, "name"), other), best, ratio, tried, e);
        }
    }
    return ok;
}

static bool is_off(const json_t *choice, const char *rule) {
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(choice, "off"), i, name) if (!strcmp(json_string_value(name), rule)) return true;
    return false;
}

static bool tune_recipes(Tuner *t, const json_t *key, json_t **best, double *ratio, json_t *tried, Err *e) {
    size_t i;
    json_t *rule;
    bool ok = true;
    json_array_foreach(json_object_get(t->lab.plan[0].report, "rules"), i, rule) {
        bool fires = json_integer_value(json_object_get(rule, "uses")) > 0 && !is_off(*best, json_text(rule, "name"));
        if (ok && fires && json_object_get(rule, "recipe")) ok = tune_recipe(t, key, rule, best, ratio, tried, e);
    }
    return ok;
}

static bool tune_fusions(Tuner *t, Err *e) {
    const json_t *of = json_object_get(t->lab.plan[0].report, "fusions");
    if (json_is_true(json_object_get(of, "kept")) || !is_asked(t, "fusions")) return true;
    json_t *key = json_pack("{s:O, s:O}", "fusions", json_object_get(of, "version"), "shape", json_object_get(of, "shape"));
    json_t *was = off_json(&(Rules){.n = 0}), *best = json_incref(was), *tried = json_array();
    Rules on = fired(&t->lab, &t->lab.plan[0]), out = lost(&t->lab, &t->lab.plan[0]);
    double ratio = 1;
    bool ok = true;
    for (size_t i = 0; ok && i < on.n; i++) ok = try_fusions(t, key, off_json(&(Rules){{on.at[i]}, 1}), &best, &ratio, tried, e);
    for (size_t i = 0; ok && i < out.n; i++) {
        Rules off = {.n = 0};
        bool found;
        ok = make_way(t, key, out.at[i], &off, &found, e);
        if (ok && found && off.n > 1) ok = try_fusions(t, key, off_json(&off), &best, &ratio, tried, e); /* one alone has been tried */
    }
    ok = ok && tune_recipes(t, key, &best, &ratio, tried, e) && keep(t, key, best, was, ratio, tried, e);
    if (ok) note(t, "fusions", "", was, best, ratio, tried);
    bool other = !json_equal(best, was);
    json_decref(key), json_decref(was), json_decref(best), json_decref(tried);
    return ok && (!other || build_base(t, e));
}

/* --- the page --------------------------------------------------------------------------------------------------------------- */

static void add_bounds(const json_t *recipes, Text *t) {
    const char *rule;
    json_t *bounds, *v;
    size_t i;
    json_object_foreach((json_t *)recipes, rule, bounds) {
        text_add(t, " %s up to", rule);
        json_array_foreach(bounds, i, v) {
            if (json_integer_value(v) >= TUNE_ALWAYS) text_add(t, "%s any number of rows", i ? "," : "");
            else text_add(t, "%s %lld", i ? "," : "", (long long)json_integer_value(v));
        }
    }
}

static void add_choice(const json_t *choice, Text *t) {
    const char *name;
    json_t *v, *rule;
    size_t i;
    json_object_foreach((json_t *)choice, name, v) {
        if (json_is_integer(v)) text_add(t, " %s=%lld", name, (long long)json_integer_value(v));
        else if (json_is_object(v)) add_bounds(v, t);
        else if (json_array_size(v)) text_add(t, " without");
        else if (json_object_size(choice) == 1) text_add(t, " all rules");
        json_array_foreach(v, i, rule) text_add(t, " %s", json_string_value(rule));
    }
}

static void add_tried(const json_t *tried, Text *t) {
    size_t i;
    json_t *row;
    json_array_foreach(tried, i, row) {
        text_add(t, "   ");
        add_choice(json_object_get(row, "choice"), t);
        if (json_is_string(json_object_get(row, "rejected"))) text_add(t, ": rejected: %s\n", json_text(row, "rejected"));
        else text_add(t, ": %.3f\n", json_figure(row, "ratio"));
    }
}

static void add_page(const Tuner *t, Text *to) {
    const json_t *page = t->lab.page;
    size_t i, changed = 0;
    json_t *c;
    json_array_foreach(t->choices, i, c) changed += !json_equal(json_object_get(c, "choice"), json_object_get(c, "default"));
    text_add(to, "tuned %s for %s, %s, by %s on %s: %zu choices, %zu other than the default -> %s\n", json_text(page, "model"), json_text(page, "arch"),
             json_text(page, "precision"), json_text(page, "unit"), json_text(page, "name"), json_array_size(t->choices), changed, t->file);
    json_array_foreach(t->choices, i, c) {
        text_add(to, "\n%s%s%s%s", json_text(c, "of"), *json_text(c, "template") ? " (" : "", json_text(c, "template"), *json_text(c, "template") ? ")" : "");
        text_add(to, ":"), add_choice(json_object_get(c, "choice"), to);
        bool same = json_equal(json_object_get(c, "choice"), json_object_get(c, "default"));
        if (same) text_add(to, ", as it was\n");
        else text_add(to, ", %.3f of", json_figure(c, "ratio")), add_choice(json_object_get(c, "default"), to), text_add(to, "\n");
        add_tried(json_object_get(c, "tried"), to);
    }
}

static void note_page(Tuner *t) {
    const json_t *report = t->lab.plan[0].report;
    const char *name = on_emu(t) ? "emu" : json_text(json_object_get(t->lab.page, "speed"), "name");
    json_object_update_new(t->lab.page, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O}", "model", json_text(report, "model"), "arch", json_text(report, "arch"),
                                                  "precision", json_text(report, "precision"), "name", *name ? name : t->device, "unit",
                                                  on_emu(t) ? "counted cost" : "time", "file", t->file, "choices", t->choices));
}

static bool print(Tuner *t, Err *e) {
    Text to = {0};
    note_page(t);
    if (t->lab.o->format && !strcmp(t->lab.o->format, "json")) {
        char *s = json_dumps(t->lab.page, JSON_INDENT(1));
        if (!s) die("lab: cannot make JSON");
        text_add(&to, "%s\n", s);
        free(s);
    } else add_page(t, &to);
    bool ok = file_write("-", to.at, to.n, e);
    text_free(&to);
    return ok;
}

/* --- all -------------------------------------------------------------------------------------------------------------------- */

static bool find_device(Tuner *t, Err *e) {
    const LabOptions *o = t->lab.o;
    if (!lab_device(&t->lab, o->arch, e)) return false;
    t->device = json_string_value(json_object_get(t->lab.page, "device"));
    return t->device || !strncmp(o->arch, "gfx90a", 6) || err_set(e, "--tune: no device here runs code for %s, and the emulator counts gfx90a's only", o->arch);
}

/* What an earlier run kept. */
static bool read_kept(Tuner *t, Err *e) {
    t->file = t->lab.o->tuning ? t->lab.o->tuning : kept_path(t->lab.a, "tuning.jsonl");
    if (!t->file) return err_set(e, "--tune: --tuning names the file (neither HOME nor XDG_STATE_HOME is set)");
    const char *text = access(t->file, F_OK) ? "" : file_read_text(t->lab.a, t->file, NULL, e);
    if (text && *text) text_add(&t->kept, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
    return text != NULL;
}

static bool have_model(Tuner *t, Err *e) {
    if (!build_model(&t->lab, e)) return false;
    if (!t->lab.model) return err_set(e, "--tune: %s", t->lab.no_model);
    return !on_emu(t) || cost_counted(&t->lab, &t->lab.plan[0], t->counted, e);
}

bool lab_tune(const LabOptions *o, Err *e) {
    Tuner t = {.choices = json_array()};
    bool ok = lab_open(&t.lab, o, e) && find_device(&t, e) && read_kept(&t, e) && build_base(&t, e) && have_model(&t, e) && tune_fusions(&t, e) &&
              tune_kernels(&t, e) && print(&t, e);
    text_free(&t.kept);
    json_decref(t.choices);
    lab_close(&t.lab);
    return ok;
}
