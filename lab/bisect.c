/* bisect.c - which of all rules that fire breaks parity, and what each costs or gains. See lab.h.
 *
 * Parity: when the plan with all of them is wrong, and the one with none is right, rules are taken away, by halves, then one by one,
 * while it stays wrong: what is left is needed, all of it. Speed: the plan with all against the plan without one, for each. */
#include "lab.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_RULES = 64 };

typedef struct Set Set; /* of rules that are on */
struct Set {
    const char *at[MOST_RULES];
    size_t n;
};

/* --- plans --------------------------------------------------------------------------------------------------------------- */

static bool has(const Set *s, const char *rule) {
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->at[i], rule)) return true;
    return false;
}

/* With the rules of `on` only; all: those that fire when nothing is off. */
static bool build_set(Lab *lab, const Set *all, const Set *on, LabPlan *to, Err *e) {
    Args args = {0};
    const char *path = arena_printf(lab->a, "%s/%s.bin", lab->work, to->name);
    build_args(lab, &args, lab->o->first, path);
    build_add_rules(lab, &args, true);
    for (size_t i = 0; i < all->n; i++)
        if (!has(on, all->at[i])) args_pair(lab->a, &args, "--no-fusion", all->at[i]);
    return build_plan(lab, &args, path, to, e);
}

static void drop_plan(LabPlan *p) {
    plan_close(p->plan), json_decref(p->report);
    p->plan = NULL, p->report = NULL;
}

static bool has_chain(const Plan *p) {
    for (size_t g = 0; g < p->program->graphs.n; g++)
        for (size_t i = 0; i < p->program->graphs.at[g]->nodes.n; i++) {
            const Node *n = p->program->graphs.at[g]->nodes.at[i];
            if (n->op == OP_FUSED && !strcmp(n->rule, "elementwise")) return true;
        }
    return false;
}

static void add_fired(const LabPlan *p, Set *to) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(p->report, "rules"), i,
                       r) if (json_integer_value(json_object_get(r, "uses")) && to->n < MOST_RULES &&
                              !has(to, json_text(r, "name"))) to->at[to->n++] = json_text(r, "name");
    if (has_chain(p->plan) && to->n < MOST_RULES && !has(to, "elementwise")) to->at[to->n++] = "elementwise";
}

/* --- parity -------------------------------------------------------------------------------------------------------------- */

/* Is the plan of these rules wrong? why: the first fault. */
static bool is_wrong(Lab *lab, const Set *all, const Set *on, bool *wrong, const char **why, Err *e) {
    Lab one = *lab;
    LabPlan p = {.name = "some"};
    one.wrong.n = one.wrong.cap = 0, one.page = json_object();
    json_object_set(one.page, "device", json_object_get(lab->page, "device"));
    bool ok = build_set(lab, all, on, &p, e);
    one.plan[1] = p;
    if (ok && p.error) lab_wrong(&one, "could not be built: %s", p.error);
    else if (ok) ok = verdict_alone(&one, e) && verdict_parity(&one, e);
    *wrong = one.wrong.n > 0;
    if (*wrong) *why = one.wrong.at[0];
    drop_plan(&p);
    json_decref(one.page);
    return ok;
}

/* Takes rules out of `on` while it stays wrong. */
static bool shrink(Lab *lab, const Set *all, Set *on, const char **why, Err *e) {
    for (size_t many = (on->n + 1) / 2; many; many /= 2)
        for (size_t from = 0; from < on->n && on->n > 1;) {
            Set less = {.n = 0};
            bool wrong;
            for (size_t i = 0; i < on->n; i++)
                if (i < from || i >= from + many) less.at[less.n++] = on->at[i];
            if (!is_wrong(lab, all, &less, &wrong, why, e)) return false;
            if (wrong && less.n) *on = less;
            else from += many;
        }
    return true;
}

static json_t *set_json(const Set *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) json_array_append_new(list, json_string(s->at[i]));
    return list;
}

static bool find_parity(Lab *lab, const Set *all, Err *e) {
    const Set none = {.n = 0};
    Set on = *all;
    const char *why = "";
    bool wrong, bare = false;
    json_t *to = json_object();
    json_object_set_new(lab->page, "parity", to);
    if (!is_wrong(lab, all, all, &wrong, &why, e)) return false;
    if (wrong && !is_wrong(lab, all, &none, &bare, &why, e)) return false;
    if (wrong && !bare && (!shrink(lab, all, &on, &why, e) || !is_wrong(lab, all, &on, &wrong, &why, e))) return false;
    json_object_set_new(to, "broken", json_boolean(wrong));
    if (bare) json_object_set_new(to, "without_rules", json_true());
    else if (wrong) json_object_set_new(to, "needs", set_json(&on));
    if (wrong) json_object_set_new(to, "why", json_string(why)), lab_wrong(lab, "%s", why);
    return true;
}

/* --- speed --------------------------------------------------------------------------------------------------------------- */

static json_t *change(const json_t *page, const char *key) {
    json_t *to = json_object(), *t;
    size_t i;
    json_array_foreach(json_object_get(page, "tests"), i, t) {
        double a = json_figure(json_object_get(t, "a"), key), b = json_figure(json_object_get(t, "b"), key);
        json_object_set_new(to, json_text(t, "test"), json_figure_new(b / a));
    }
    return to;
}

/* All rules (b) against all but one (a). */
static bool weigh(Lab *lab, const Set *all, const char *rule, LabPlan *with, json_t *list, Err *e) {
    Lab one = *lab;
    LabPlan p = {.name = "less"};
    Set less = {.n = 0};
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->at[i], rule)) less.at[less.n++] = all->at[i];
    if (!build_set(lab, all, &less, &p, e)) return false;
    json_t *row = json_pack("{s:s, s:s?}", "rule", rule, "error", p.error);
    json_array_append_new(list, row);
    one.page = json_object(), one.wrong.n = one.wrong.cap = 0, one.plan[0] = p, one.plan[1] = *with;
    json_object_set(one.page, "device", json_object_get(lab->page, "device"));
    bool ok = p.error || (speed_run(&one, false, e) && cost_tests(&one, e));
    if (ok && !p.error) {
        json_object_set(row, "speed", json_object_get(one.page, "speed"));
        json_object_set_new(row, "launches", change(one.page, "launches"));
        json_object_set_new(row, "instructions", change(one.page, "instructions"));
        json_object_set_new(row, "least_bytes", change(one.page, "least_bytes"));
    }
    drop_plan(&p);
    json_decref(one.page);
    return ok;
}

/* --- the page ------------------------------------------------------------------------------------------------------------ */

static void add_parity(const json_t *page, Text *t) {
    const json_t *p = json_object_get(page, "parity"), *needs = json_object_get(p, "needs");
    text_add(t, "parity    ");
    if (!json_is_true(json_object_get(p, "broken"))) text_add(t, "RIGHT with all rules");
    else if (json_object_get(p, "without_rules")) text_add(t, "NOT RIGHT, even without any rule");
    else text_add(t, "NOT RIGHT; it takes no more than:");
    for (size_t i = 0; i < json_array_size(needs); i++) text_add(t, " %s", json_string_value(json_array_get(needs, i)));
    if (json_object_get(p, "why")) text_add(t, "\n          %s", json_text(p, "why"));
    text_add(t, "\n\n");
}

static void add_change(const json_t *row, const char *key, Text *t) {
    static const char *const tests[] = {"prefill", "decode"};
    for (size_t i = 0; i < LEN(tests); i++) {
        double x = json_figure(json_object_get(row, key), tests[i]);
        if (isnan(x)) text_add(t, " %8s", "-");
        else text_add(t, " %8.3f", x);
    }
}

static void add_times(const json_t *row, Text *t) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(json_object_get(row, "speed"), "tests"), i, r) {
        double low = json_figure(r, "low"), high = json_figure(r, "high");
        text_add(t, "  %.3f [%.3f, %.3f]%s", json_figure(r, "ratio"), low, high,
                 low > 1    ? " COSTS"
                 : high < 1 ? " gains"
                            : "");
    }
}

static void page_bisect(const json_t *page, Text *t) {
    size_t i;
    json_t *r;
    text_add(t, "%s for %s: every rule that fires\n\n", json_text(page, "first"), json_text(page, "arch"));
    add_parity(page, t);
    text_add(t, "with all rules / without this one (below 1: it gains)\n%-24s %17s %17s %17s  %s\n", "rule",
             "launches pp tg", "instructions pp tg", "least bytes pp tg", "time pp, tg [95%]");
    json_array_foreach(json_object_get(page, "rules"), i, r) {
        text_add(t, "%-24s", json_text(r, "rule"));
        if (json_object_get(r, "launches"))
            add_change(r, "launches", t), add_change(r, "instructions", t), add_change(r, "least_bytes", t),
                add_times(r, t);
        else text_add(t, " not without it: %s", json_text(r, "error"));
        text_add(t, "\n");
    }
}

/* The rules that the times show to cost something, and, for the ledger, what was found. */
static void note_result(Lab *lab, const json_t *rules) {
    json_t *costs = json_array(), *r, *t, *why = json_array();
    size_t i, k;
    json_array_foreach(rules, i, r) {
        bool any = false;
        json_array_foreach(json_object_get(json_object_get(r, "speed"), "tests"), k, t) any =
            any || json_figure(t, "low") > 1;
        if (any) json_array_append_new(costs, json_string(json_text(r, "rule")));
    }
    for (i = 0; i < lab->wrong.n; i++) json_array_append_new(why, json_string(lab->wrong.at[i]));
    json_object_set_new(
        lab->page, "result",
        json_pack("{s:b, s:s, s:o}", "right", !lab->wrong.n, "is", lab->wrong.n ? "wrong" : "right", "why", why));
    json_object_set_new(lab->page, "bisect",
                        json_pack("{s:O, s:o}", "parity", json_object_get(lab->page, "parity"), "costs", costs));
}

static bool print(const Lab *lab, Err *e) {
    Text t = {0};
    if (lab->o->format && !strcmp(lab->o->format, "json")) {
        char *s = json_dumps(lab->page, JSON_INDENT(1));
        text_add(&t, "%s\n", s ? s : "{}");
        free(s);
    } else page_bisect(lab->page, &t);
    bool ok = file_write("-", t.at, t.n, e);
    text_free(&t);
    return ok;
}

/* --- the whole ----------------------------------------------------------------------------------------------------------- */

static bool open_all(Lab *lab, Set *all, Err *e) {
    const Set none = {.n = 0};
    LabPlan *p = lab->plan;
    p[0].name = "bare", p[1].name = "all";
    if (!build_set(lab, &none, &none, &p[1], e)) return false;
    if (p[1].error) return err_set(e, "with all rules: %s", p[1].error);
    add_fired(&p[1], all);
    if (!build_set(lab, all, &none, &p[0], e)) return false;
    if (p[0].error) return err_set(e, "without any rule: %s", p[0].error);
    lab_note_run(lab);
    json_object_update_new(lab->page, json_pack("{s:s, s:s, s:s}", "model", p[0].plan->model_name, "arch",
                                                p[0].plan->arch, "precision", p[0].plan->precision));
    return lab_device(lab, p[0].plan->arch, e) && build_model(lab, e);
}

bool lab_bisect(const LabOptions *o, bool *right, Err *e) {
    Lab lab;
    Set all = {.n = 0};
    bool ok = lab_open(&lab, o, e) && open_all(&lab, &all, e) && find_parity(&lab, &all, e);
    json_t *rules = json_array();
    json_object_set_new(lab.page, "rules", rules);
    for (size_t i = 0; ok && i < all.n; i++) ok = weigh(&lab, &all, all.at[i], &lab.plan[1], rules, e);
    if (ok) note_result(&lab, rules);
    ok = ok && !child_ended(e) && print(&lab, e) && ledger_append(&lab, e);
    *right = ok && !lab.wrong.n;
    lab_close(&lab);
    return ok;
}
