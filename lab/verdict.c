/* verdict.c - whether the plan with the rule is right: each of its kernels alone, and the whole. ir/judge.h judges, inside
 * gptoss-exec; here stands what is asked, and what a verdict is worth.
 *
 * Alone: --self-test, every kernel against its node's body on made-up inputs; on emu also with races watched and under several orders
 * of waves, for a missing barrier may leave the results right. End to end: -m parity, every value of a run against ref's; then, in
 * figures, the logits of a few prompts against ref's and the other plan's, and the tokens that follow.
 * A template's tolerance is its author's word. One that is given with the rule is itself held against what it replaces: the sum of
 * the tolerances of the kernels that compute the same values in the other plan. */
#include "lab.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "ir/rowstat.h"

enum { SHORTEST = 3, LONGEST = 40 /* of made-up prompts */ };
static const double LOOSE = 100; /* as the self-test's */
static const double FLOOR =
    1e-12; /* what generated kernels are held to in fast (templates/map.hip); nobody need be better */
static const double REF_WEIGHTS = 4e9; /* bytes; beyond that ref would take hours */
static const double EMU_WEIGHTS = 1e9; /* … and the emulator, with kernels that are not new, too */

static double weights_of(const Plan *p) {
    double sum = 0;
    for (int i = 0; i < p->n_bufs; i++) sum += p->bufs[i].kind == BUF_WEIGHT ? (double)p->bufs[i].size : 0;
    return sum;
}

/* --- what is asked ------------------------------------------------------------------------------------------------------- */

const char *verdict_device(const Lab *lab) {
    const char *device = json_string_value(json_object_get(lab->page, "device"));
    const char *arch = lab->plan[0].plan ? lab->plan[0].plan->arch : lab->o->arch;
    return device ? device : !strncmp(arch, "gfx90a", 6) ? "emu" : NULL;
}

const CheckOptions *verdict_ways(const Lab *lab, size_t *n) {
    static const CheckOptions ways[] = {{0}, {.races = true}, {.schedule = 1}, {.schedule = 2}};
    *n = strcmp(verdict_device(lab), "emu") ? 1 : LEN(ways);
    return ways;
}

static void exec_args(Lab *lab, Args *to, const char *plan, const char *mode, const char *device) {
    args_add(lab->a, to, "gptoss-exec");
    args_add(lab->a, to, plan);
    args_pair(lab->a, to, "--mode", mode);
    args_pair(lab->a, to, "--device", device);
    if (mode) args_pair(lab->a, to, "--model", lab->model);
}

static json_t *json_lines(const char *text) {
    json_t *list = json_array();
    for (const char *at = text; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        json_t *j = json_loadb(at, strcspn(at, "\n"), 0, NULL);
        if (j) json_array_append_new(list, j);
    }
    return list;
}

json_t *verdict_checks(Lab *lab, const char *plan, const CheckOptions *o, const char **how, Err *e) {
    Args args = {0};
    Said s;
    exec_args(lab, &args, plan, NULL, verdict_device(lab));
    args_add(lab->a, &args, "--self-test");
    args_add(lab->a, &args, "--json");
    args_pair(lab->a, &args, "--only", o->only);
    if (o->schedule) args_int(lab->a, &args, "--seed-schedule", o->schedule);
    if (o->sample) args_int(lab->a, &args, "--sample", o->sample);
    if (o->races) args_add(lab->a, &args, "--races");
    if (o->rows) args_int(lab->a, &args, "--rows", o->rows);
    if (o->rows) args_add(lab->a, &args, "--profile");
    if (!child_run(lab->a, &args, lab->o->limit, &s, e)) return NULL;
    json_t *list = json_lines(s.out.at);
    bool ended = s.ok || !strncmp(s.how, "exit status 1", 13); /* a check failed, or it could not begin */
    *how = !ended || !json_array_size(list) ? said_why(lab->a, &s) : "";
    said_free(&s);
    return list;
}

/* --- alone: which kernels ------------------------------------------------------------------------------------------------ */

/* Is the file one of those given with --templates? */
static bool given_template(const Lab *lab, const char *file) {
    char path[4096];
    for (size_t i = 0; i < lab->o->templates.n; i++) {
        snprintf(path, sizeof path, "%s/%s", lab->o->templates.at[i], file);
        if (!access(path, R_OK)) return true;
    }
    return false;
}

/* Does a rule that is tried make this node? */
static bool tried_rule(const Lab *lab, const char *rule) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(json_object_get(lab->page, "rules"), "fired"), i,
                       r) if (*rule && !strcmp(json_text(r, "rule"), rule)) return true;
    return false;
}

static bool is_new(const Lab *lab, const json_t *check) {
    return tried_rule(lab, json_text(check, "rule")) || given_template(lab, json_text(check, "template")) ||
           diff_kernel(lab, json_text(check, "kernel"));
}

/* --- alone: what the other plan's kernels are held to -------------------------------------------------------------------- */

static bool computes(const Graph *body, const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (graph_find(body, n->out[i]->name)) return true;
    return false;
}

/* The sum of the tolerances of the other plan's nodes that compute what the node does; NAN: none does. */
static double replaced_tolerance(const Lab *lab, const char *graph, const char *node, int64_t rows) {
    const Plan *a = lab->plan[0].plan;
    const Graph *ga = program_graph(a->program, graph), *gb = program_graph(lab->plan[1].plan->program, graph);
    const Value *v = gb ? graph_find(gb, node) : NULL;
    double sum = NAN;
    if (!ga || !v || !v->def || v->def->op != OP_FUSED) return NAN;
    for (size_t i = 0; i < ga->nodes.n; i++) {
        if (!computes(v->def->body, ga->nodes.at[i])) continue;
        double t = plan_tolerance(a, &a->graphs[plan_graph(a, graph)], (int)i, rows);
        if (t >= 0) sum = isnan(sum) ? t : sum + t;
    }
    return sum;
}

/* Of a check that its own tolerance passed: does what it replaces allow as much? */
static void hold_against_replaced(Lab *lab, json_t *row, const json_t *check) {
    double was = replaced_tolerance(lab, json_text(check, "graph"), json_text(check, "node"),
                                    json_integer_value(json_object_get(check, "rows")));
    if (isnan(was) || !given_template(lab, json_text(check, "template"))) return;
    if (was < FLOOR) was = FLOOR;
    json_object_set_new(row, "replaced_tolerance", json_figure_new(was));
    if (json_figure(check, "nmse") > LOOSE * was) {
        json_object_set_new(row, "ok", json_false());
        json_object_set_new(
            row, "says",
            json_string(arena_printf(lab->a,
                                     "nmse %.2g: its own tolerance, %.2g, lets that pass; the kernels that it replaces "
                                     "are held to %.2g together",
                                     json_figure(check, "nmse"), json_figure(check, "tolerance"), was)));
    } else if (json_figure(check, "tolerance") > LOOSE * was && !json_object_get(row, "wide"))
        json_object_set_new(row, "wide", json_real(json_figure(check, "tolerance") / was));
}

/* --- alone: the rows of the page ------------------------------------------------------------------------------------------ */

static json_t *row_of(json_t *rows, const json_t *check) {
    size_t i;
    json_t *r;
    json_array_foreach(rows, i, r) if (!strcmp(json_text(r, "kernel"), json_text(check, "kernel"))) return r;
    r = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:f, s:f, s:s}", "kernel", json_text(check, "kernel"),
                  "template", json_text(check, "template"), "rule", json_text(check, "rule"), "graph",
                  json_text(check, "graph"), "node", json_text(check, "node"), "ok", 1, "checks", 0, "nmse", 0.0,
                  "tolerance", json_figure(check, "tolerance"), "says", "");
    json_array_append_new(rows, r);
    return r;
}

/* What a check says, without the kernel's name: the row has it. */
static const char *says_of(const json_t *check) {
    const char *says = json_text(check, "says"), *kernel = json_text(check, "kernel");
    size_t n = strlen(kernel);
    return !strncmp(says, "kernel ", 7) && !strncmp(says + 7, kernel, n) && !strncmp(says + 7 + n, ": ", 2) ? says + 9 + n : says;
}

/* What is wrong already may be so for a race. */
static void add_race(Lab *lab, json_t *row, const json_t *check, const CheckOptions *how) {
    const char *race = says_of(check);
    if (!how->races || json_object_get(row, "races") || strncmp(race, "race on ", 8)) return;
    json_object_set_new(row, "says", json_string(arena_printf(lab->a, "%s; %s", json_text(row, "says"), race)));
    json_object_set_new(row, "races", json_true());
}

static void add_check(Lab *lab, json_t *rows, const json_t *check, const CheckOptions *how) {
    json_t *r = row_of(rows, check);
    bool first = json_is_true(json_object_get(r, "ok"));
    json_object_set_new(r, "checks", json_integer(json_integer_value(json_object_get(r, "checks")) + 1));
    if (json_figure(check, "nmse") > json_figure(r, "nmse")) json_object_set(r, "nmse", json_object_get(check, "nmse"));
    if (!first) {
        add_race(lab, r, check, how);
        return;
    }
    if (json_is_true(json_object_get(check, "ok"))) {
        hold_against_replaced(lab, r, check);
        return;
    }
    json_object_set_new(r, "ok", json_false());
    json_object_set(r, "rows", json_object_get(check, "rows"));
    if (how->schedule) json_object_set_new(r, "schedule", json_integer(how->schedule));
    if (how->races) json_object_set_new(r, "races", json_true());
    json_object_set_new(
        r, "says",
        json_string(
            arena_printf(lab->a, "%s%s", says_of(check),
                         how->schedule ? " (waves in another order: in order it is right; a barrier may be missing)" : "")));
}

static void add_loose(Lab *lab, json_t *alone, const json_t *line) {
    if (!given_template(lab, json_text(line, "loose")))
        return; /* shipped: measured on larger shapes than this graph's */
    json_t *list = json_object_get(alone, "loose");
    if (!list) json_object_set_new(alone, "loose", list = json_array());
    json_array_append(list, (json_t *)line);
}

/* What one run of the self-test said: new kernels and those that fail get rows, the rest is counted. */
static void add_lines(Lab *lab, json_t *alone, const json_t *lines, const CheckOptions *how) {
    json_t *rows = json_object_get(alone, "kernels"), *line;
    size_t i;
    json_int_t others = json_integer_value(json_object_get(alone, "other_checks"));
    json_array_foreach(lines, i, line) {
        if (json_object_get(line, "loose") && !how->schedule && !how->races) add_loose(lab, alone, line);
        else if (json_object_get(line, "left_out") && !json_object_get(alone, "sample"))
            json_object_set(alone, "left_out", json_object_get(line, "left_out"));
        else if (json_object_get(line, "kernel")) {
            if (is_new(lab, line) || json_is_false(json_object_get(line, "ok"))) add_check(lab, rows, line, how);
            else others++;
        }
    }
    json_object_set_new(alone, "other_checks", json_integer(others));
}

/* The first node that launches the kernel; NULL: none does. */
static const Node *node_of(const Plan *p, int kernel, const char **graph) {
    for (int g = 0; g < p->n_graphs; g++)
        for (int l = 0; l < p->graphs[g].n_launches; l++)
            if (p->graphs[g].launches[l].kernel == kernel) {
                *graph = p->graphs[g].name;
                return program_graph(p->program, *graph)->nodes.at[p->graphs[g].launches[l].node];
            }
    return NULL;
}

/* What the self-test would say of a kernel's first node, had it come to an end; NULL: nothing launches it. */
static json_t *ended_check(const Plan *p, int kernel, const char *ended) {
    const PlanKernel *k = &p->kernels[kernel];
    const char *graph;
    const Node *n = node_of(p, kernel, &graph);
    if (!n) return NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:f, s:s}", "kernel", k->symbol, "template", k->template_name,
                     "graph", graph, "node", node_name(n), "rule", n->op == OP_FUSED ? n->rule : "", "ok", 0, "rows", 0,
                     "tolerance", k->nmse, "says", ended);
}

/* Each new kernel by itself, in a process of its own. */
static bool check_each(Lab *lab, json_t *alone, const CheckOptions *how, bool *found, Err *e) {
    const Plan *b = lab->plan[1].plan;
    *found = false;
    for (int i = 0; i < b->n_kernels; i++) {
        const char *ended;
        json_t *check = ended_check(b, i, "");
        bool new = check &&is_new(lab, check);
        json_decref(check);
        CheckOptions own = *how;
        own.only = b->kernels[i].symbol;
        json_t *lines = new ? verdict_checks(lab, lab->plan[1].path, &own, &ended, e) : NULL;
        if (new && !lines) return false;
        if (!new) continue;
        add_lines(lab, alone, lines, how);
        json_decref(lines);
        if (!*ended || !(check = ended_check(b, i, ended))) continue;
        *found = true;
        add_check(lab, json_object_get(alone, "kernels"), check, how);
        json_decref(check);
    }
    return true;
}

/* It did not come to its end: which of the new kernels was it? */
static bool find_crash(Lab *lab, json_t *alone, const char *how, Err *e) {
    bool found;
    if (!check_each(lab, alone, &(CheckOptions){0}, &found, e)) return false;
    if (!found) json_object_set_new(alone, "unfinished", json_string(how));
    if (!found && strncmp(how, "not done", 8)) lab_wrong(lab, "the self-test did not end: %s", how);
    return true;
}

/* Of new kernels whose checks are too long for the emulator, some workgroups. */
static bool check_samples(Lab *lab, json_t *alone, Err *e) {
    bool found, ok = true;
    if (!json_object_get(alone, "left_out") || strcmp(json_text(alone, "device"), "emu")) return true;
    json_object_set_new(alone, "sample", json_integer(SAMPLE));
    for (int races = 0; races < 2 && ok; races++) ok = check_each(lab, alone, &(CheckOptions){.sample = SAMPLE, .races = races}, &found, e);
    return ok;
}

/* A kernel that breaks the device makes those behind it fail: each that failed and is not new is run once more, in a process of its
 * own. A new one is not: what is right only now and then is wrong. */
static bool look_again(Lab *lab, json_t *alone, Err *e) {
    json_t *rows = json_object_get(alone, "kernels"), *row, *line;
    size_t i, k;
    for (i = 0; i < json_array_size(rows); i++) {
        row = json_array_get(rows, i);
        const char *how, *device = json_text(alone, "device");
        if (!strcmp(device, "emu") || json_is_true(json_object_get(row, "ok")) || is_new(lab, row)) continue;
        json_t *lines =
            verdict_checks(lab, lab->plan[1].path, &(CheckOptions){.only = json_text(row, "kernel")}, &how, e);
        if (!lines) return false;
        bool right = !*how && json_array_size(lines);
        json_array_foreach(lines, k, line) right = right && !json_is_false(json_object_get(line, "ok"));
        json_decref(lines);
        if (!right) continue;
        json_object_set_new(row, "ok", json_true());
        json_object_set_new(row, "says", json_string("right alone; behind a kernel that failed it failed too"));
    }
    return true;
}

static void conclude_alone(Lab *lab, const json_t *alone) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(alone, "kernels"), i, r) {
        if (json_is_false(json_object_get(r, "ok")))
            lab_wrong(lab, "kernel %s: %s", json_text(r, "kernel"), json_text(r, "says"));
        else if (json_object_get(r, "wide"))
            lab_wrong(lab,
                      "template %s: its tolerance is %.2g; what it replaces is held to less than a hundredth of that: "
                      "a verdict by it is worth nothing",
                      json_text(r, "template"), json_figure(r, "tolerance"));
    }
    json_array_foreach(json_object_get(alone, "loose"), i, r) lab_wrong(
        lab, "template %s: its tolerance, %.2g, is over %g times what was measured, %.2g: it would hide a fault",
        json_text(r, "loose"), json_figure(r, "tolerance"), LOOSE, json_figure(r, "measured"));
}

/* The self-test in each of the ways, as far as it comes. *how: how one of them ended, "" when all well. */
static bool check_ways(Lab *lab, json_t *alone, bool large, const char **how, Err *e) {
    size_t n;
    bool ok = true, found;
    const CheckOptions *ways = verdict_ways(lab, &n);
    *how = "";
    for (size_t i = 0; ok && i < n && !**how; i++) {
        json_object_set_new(alone, "ways", json_integer((json_int_t)i + 1));
        if (large) {
            ok = check_each(lab, alone, &ways[i], &found, e);
            continue;
        }
        json_t *lines = verdict_checks(lab, lab->plan[1].path, &ways[i], how, e);
        if ((ok = lines != NULL)) add_lines(lab, alone, lines, &ways[i]);
        json_decref(lines);
    }
    return ok;
}

bool verdict_alone(Lab *lab, Err *e) {
    const char *device = verdict_device(lab), *how;
    json_t *alone = json_pack("{s:s?, s:[], s:i}", "device", device, "kernels", "other_checks", 0);
    json_object_set_new(lab->page, "alone", alone);
    if (lab->o->no_judge) return lab_wrong(lab, "not judged: --no-judge"), true;
    if (!device) return lab_wrong(lab, "not judged: no device here runs code for %s", lab->plan[1].plan->arch), true;
    bool large = !strcmp(device, "emu") && weights_of(lab->plan[1].plan) > EMU_WEIGHTS;
    json_object_set_new(alone, "new_only", json_boolean(large));
    bool ok = check_ways(lab, alone, large, &how, e);
    if (ok && *how) ok = find_crash(lab, alone, how, e);
    else ok = ok && look_again(lab, alone, e) && check_samples(lab, alone, e);
    if (ok) conclude_alone(lab, alone);
    return ok;
}

/* --- end to end: prompts -------------------------------------------------------------------------------------------------- */

/* Made-up ids, of lengths between SHORTEST and LONGEST; the same ones each time. */
static const char *make_prompts(Lab *lab, Err *e) {
    const Plan *p = lab->plan[0].plan;
    const char *path = arena_printf(lab->a, "%s/prompts.txt", lab->work);
    uint64_t state = 11;
    Text t = {0};
    text_add(&t, "%lld\n", (long long)lab->o->n_prompts);
    for (int64_t i = 0; i < lab->o->n_prompts; i++) {
        int64_t n = SHORTEST + i * (LONGEST - SHORTEST) / (lab->o->n_prompts > 1 ? lab->o->n_prompts - 1 : 1);
        if (n > p->max_seq / 2) n = p->max_seq / 2 > 0 ? p->max_seq / 2 : 1;
        for (int64_t k = 0; k < n; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            text_add(&t, "%s%lld", k ? " " : "", (long long)((state >> 33) % (uint64_t)p->config.vocab));
        }
        text_add(&t, "\n");
    }
    bool ok = file_write(path, t.at, t.n, e);
    text_free(&t);
    return ok ? path : NULL;
}

/* Runs a mode on the prompts into a file. NULL and *why: it did not run. */
static const char *run_prompts(Lab *lab, int plan, const char *mode, const char *device, const char *prompts,
                               const char **why, Err *e) {
    Args args = {0};
    Said s;
    const char *to = arena_printf(lab->a, "%s/%s-%s-%s", lab->work, mode, device, lab->plan[plan].name);
    exec_args(lab, &args, lab->plan[plan].path, mode, device);
    args_pair(lab->a, &args, "--input", prompts);
    if (!lab->o->prompts) args_add(lab->a, &args, "--input-ids");
    else args_int(lab->a, &args, "--lines", lab->o->n_prompts);
    args_pair(lab->a, &args, "--output", to);
    int64_t steps = LONGEST + lab->o->steps, most = lab->plan[plan].plan->max_seq;
    if (strcmp(mode, "logits")) args_int(lab->a, &args, "--steps", steps < most ? steps : most);
    if (!child_run(lab->a, &args, lab->o->limit, &s, e)) return NULL;
    *why = s.ok ? NULL : said_why(lab->a, &s);
    said_free(&s);
    return to;
}

/* --- end to end: logits ---------------------------------------------------------------------------------------------------- */

typedef struct Logits Logits;
struct Logits {
    const float *at;
    size_t rows;
};

static bool read_logits(Lab *lab, const char *path, Logits *l, Err *e) {
    size_t n, row = (size_t)lab->plan[0].plan->config.vocab * sizeof(float);
    l->at = (const float *)(const void *)file_read(lab->a, path, &n, e);
    l->rows = n / row;
    return l->at != NULL;
}

/* Mean and worst over the rows; b is what is wanted. */
static json_t *compare_logits(Lab *lab, const Logits *a, const Logits *b) {
    size_t v = (size_t)lab->plan[0].plan->config.vocab, rows = a->rows < b->rows ? a->rows : b->rows, agree = 0;
    double *x = arena_array(lab->a, 2 * v, sizeof *x), *y = x + v, nmse = 0, worst = 0, kl = 0, kl_worst = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < v; i++) x[i] = (double)a->at[r * v + i], y[i] = (double)b->at[r * v + i];
        double n = judge_nmse(x, y, v), d = judge_kl(x, y, v);
        size_t top = judge_top1(x, v);
        nmse += n, kl += d;
        if (!(n <= worst)) worst = n;
        if (!(d <= kl_worst)) kl_worst = d;
        agree += top < v && top == judge_top1(y, v);
    }
    double n = rows ? (double)rows : NAN;
    json_t *j = json_pack("{s:I, s:I}", "rows", (json_int_t)rows, "top1_agree", (json_int_t)agree);
    json_object_set_new(j, "nmse", json_figure_new(nmse / n)),
        json_object_set_new(j, "nmse_worst", json_figure_new(worst));
    json_object_set_new(j, "kl", json_figure_new(kl / n)),
        json_object_set_new(j, "kl_worst", json_figure_new(kl_worst));
    return j;
}

static void no_ref(const Lab *lab, json_t *to) {
    bool asked = lab->o->no_ref;
    if (asked || weights_of(lab->plan[0].plan) > REF_WEIGHTS)
        json_object_set_new(to, "no_ref",
                            json_string(asked ? "--no-ref" : "a model of this size would take ref hours"));
}

static bool all_logits(Lab *lab, json_t *to, const char *prompts, Err *e) {
    static const struct {
        const char *key;
        int got, want;
    } pairs[] = {{"without_ref", 0, 2}, {"with_ref", 1, 2}, {"with_without", 1, 0}};
    const char *device = verdict_device(lab);
    Logits l[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        const char *why = NULL;
        if (i == 2 && json_object_get(to, "no_ref")) continue;
        const char *file = run_prompts(lab, i == 1, "logits", i == 2 ? "ref" : device, prompts, &why, e);
        if (!file) return false;
        if (why) lab_wrong(lab, "%s: no logits: %s", i == 2 ? "ref" : lab->plan[i].name, why);
        else if (!read_logits(lab, file, &l[i], e)) return false;
    }
    for (size_t i = 0; i < LEN(pairs); i++)
        if (l[pairs[i].got].at && l[pairs[i].want].at)
            json_object_set_new(to, pairs[i].key, compare_logits(lab, &l[pairs[i].got], &l[pairs[i].want]));
    return true;
}

/* --- end to end: tokens ---------------------------------------------------------------------------------------------------- */

/* How many prompts are continued alike, and how many tokens stand before they part. */
static json_t *compare_tokens(const char *a, const char *b) {
    json_int_t prompts = 0, alike = 0, tokens = 0, same = 0;
    while (*a && *b) {
        size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        bool on = true;
        prompts++, alike += na == nb && !memcmp(a, b, na);
        for (size_t i = 0, j = 0; j < nb;) {
            size_t wa = i < na ? strcspn(a + i, " \n") : 0, wb = strcspn(b + j, " \n");
            tokens++, on = on && wa == wb && !memcmp(a + i, b + j, wb), same += on;
            i += wa + 1, j += wb + 1;
        }
        a += na + (a[na] != 0), b += nb + (b[nb] != 0);
    }
    return json_pack("{s:I, s:I, s:I, s:I}", "prompts", prompts, "alike", alike, "tokens", tokens, "before_parting",
                     same);
}

static bool all_tokens(Lab *lab, json_t *to, const char *prompts, Err *e) {
    const char *text[3] = {NULL};
    for (int i = 0; i < 3; i++) {
        const char *why = NULL;
        if (i == 2 && json_object_get(to, "no_ref")) continue;
        const char *file = run_prompts(lab, i == 1, "getp", i == 2 ? "ref" : verdict_device(lab), prompts, &why, e);
        if (!file) return false;
        if (why) lab_wrong(lab, "%s: no tokens: %s", i == 2 ? "ref" : lab->plan[i].name, why);
        else if (!(text[i] = file_read(lab->a, file, NULL, e))) return false;
    }
    if (text[0] && text[1]) json_object_set_new(to, "tokens_with_without", compare_tokens(text[1], text[0]));
    if (text[1] && text[2]) json_object_set_new(to, "tokens_with_ref", compare_tokens(text[1], text[2]));
    return true;
}

/* --- end to end: every value ----------------------------------------------------------------------------------------------- */

static bool parity(Lab *lab, json_t *to, Err *e) {
    Args args = {0};
    Said s;
    exec_args(lab, &args, lab->plan[1].path, "parity", verdict_device(lab));
    args_add(lab->a, &args, "--json");
    if (!child_run(lab->a, &args, lab->o->limit, &s, e)) return false;
    json_t *j = json_loads(s.out.at, 0, NULL);
    if (j) json_object_set_new(to, "parity", j);
    if (!s.ok) lab_wrong(lab, "end to end: %s", said_why(lab->a, &s));
    said_free(&s);
    return true;
}

/* NULL: it can be run from end to end. */
static const char *not_whole(const Lab *lab) {
    const Plan *p = lab->plan[1].plan;
    if (lab->o->no_judge) return "--no-judge";
    if (!verdict_device(lab)) return "no device";
    if (!lab->model) return lab->no_model;
    return plan_graph(p, "logits") < 0 || plan_graph(p, "sample") < 0 ? "the plan has no heads" : NULL;
}

bool verdict_parity(Lab *lab, Err *e) {
    json_t *to = json_object();
    no_ref(lab, to);
    bool ok = not_whole(lab) || json_object_get(to, "no_ref") || parity(lab, to, e);
    json_decref(to);
    return ok;
}

bool verdict_end_to_end(Lab *lab, Err *e) {
    json_t *to = json_object();
    json_object_set_new(lab->page, "end_to_end", to);
    const char *not = not_whole(lab);
    if (not ) return json_object_set_new(to, "not_judged", json_string(not )), true;
    no_ref(lab, to);
    const char *prompts = lab->o->prompts ? lab->o->prompts : make_prompts(lab, e);
    if (!prompts || (!json_object_get(to, "no_ref") && !parity(lab, to, e))) return false;
    return all_logits(lab, to, prompts, e) && all_tokens(lab, to, prompts, e);
}
