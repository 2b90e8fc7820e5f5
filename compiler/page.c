/* page.c - --report html: compiler/report.html, filled with one JSON object in place of its line "@DATA@".
 *
 * The object is report_object's, and besides
 *   explain    as --report json --explain has it
 *   machine    {name, bandwidth, peak}: targets.def; 0: unknown
 *   work       [{name, T, S, slots, depth}]: the steps that costs are given for
 *   sources    {prelude, modules: [{name, text}]}: text without the prelude, which all begin with
 *   graphs     [{name, before, after}]: each {inputs: [[name, type, kind]], nodes, outputs}; "prepare" has no before
 * A node is {name, op, out: [[name, type]], in: [name or null], attrs, scope}; outside of bodies for each work cost: [[read, written,
 * flops]] and reads: [[bytes of each input]] ("prepare" runs once and has none); of after launches: [[kernel, above, upto]] by tokens;
 * of a fused one rule, kernels, hook and body, a graph. */
#include "report.h"

#include <stdlib.h>

#include "ir/cost.h"
#include "scope.h"

enum { MAX_WORK = 4 };

typedef struct Page Page;
struct Page {
    const Compile *c;
    Arena *tmp;
    struct {
        const char *name;
        Work work;
    } work[MAX_WORK];
    int n_work;
};

/* --- steps ------------------------------------------------------------------------------------------------------------ */

static void add_work(Page *p, const char *name, int64_t tokens, int64_t slots, int64_t depth) {
    for (int i = 0; i < p->n_work; i++)
        if (p->work[i].work.slots == slots && p->work[i].work.sizes.of[SYM_T] == tokens) return;
    Work w = {.slots = slots, .depth = depth};
    w.sizes.of[SYM_T] = tokens;
    w.sizes.of[SYM_S] = slots;
    p->work[p->n_work].name = name;
    p->work[p->n_work++].work = w;
}

static void choose_work(Page *p) {
    const Plan *plan = &p->c->plan;
    int64_t depth = plan->max_seq / 2 < 1024 ? plan->max_seq / 2 : 1024,
            most = plan->max_batch < plan->max_tokens ? plan->max_batch : plan->max_tokens;
    int64_t some = most < 8 ? most : 8, prompt = plan->max_tokens < plan->max_seq ? plan->max_tokens : plan->max_seq;
    add_work(p, arena_printf(p->tmp, "decode, 1 request at depth %lld", (long long)depth), 1, 1, depth);
    add_work(p, arena_printf(p->tmp, "decode, %lld requests at depth %lld", (long long)some, (long long)depth), some,
             some, depth);
    add_work(p, arena_printf(p->tmp, "decode, %lld requests at depth %lld", (long long)most, (long long)depth), most,
             most, depth);
    add_work(p, arena_printf(p->tmp, "a prompt, %lld tokens at once", (long long)prompt), prompt, 1, 0);
}

static json_t *work_json(const Page *p) {
    json_t *list = json_array();
    for (int i = 0; i < p->n_work; i++) {
        const Work *w = &p->work[i].work;
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "name", p->work[i].name, "T",
                                              (json_int_t)w->sizes.of[SYM_T], "slots", (json_int_t)w->slots, "depth",
                                              (json_int_t)w->depth));
    }
    return list;
}

/* --- graphs ----------------------------------------------------------------------------------------------------------- */

static json_t *number(double v) { return json_integer((json_int_t)(v + 0.5)); }

static json_t *cost_json(const Page *p, const Node *n) {
    json_t *list = json_array();
    for (int i = 0; i < p->n_work; i++) {
        Cost c = cost_node(n, &p->work[i].work);
        json_array_append_new(list, json_pack("[o, o, o]", number(c.read), number(c.written), number(c.flops)));
    }
    return list;
}

static json_t *reads_json(const Page *p, const Node *n) {
    json_t *list = json_array();
    for (int i = 0; i < p->n_work; i++) {
        json_t *of = json_array();
        for (int k = 0; k < n->n_in; k++) json_array_append_new(of, number(cost_read(n, k, &p->work[i].work)));
        json_array_append_new(list, of);
    }
    return list;
}

/* In how many of the launch's buckets, from the first to the last, it runs. */
static json_t *launch_json(const PlanGraph *g, const PlanLaunch *l) {
    int64_t above = 0, upto = 0;
    for (int b = 0; b < g->n_buckets; b++) {
        bool runs = l->grid[b][0] && l->grid[b][1] && l->grid[b][2];
        if (runs && !upto) above = b ? g->buckets[b - 1] : 0;
        if (runs) upto = g->buckets[b];
    }
    return json_pack("[i, I, I]", l->kernel, (json_int_t)above, (json_int_t)upto);
}

static json_t *launches_json(const PlanGraph *g, int node) {
    json_t *list = json_array();
    for (int i = 0; i < g->n_launches; i++)
        if (g->launches[i].node == node) json_array_append_new(list, launch_json(g, &g->launches[i]));
    return list;
}

static json_t *typed(Arena *a, const Value *v) { return json_pack("[s, s]", v->name, type_str(a, &v->type)); }

static json_t *graph_json(const Page *p, const Graph *g, const PlanGraph *in_plan, bool costs);

static void add_fused(const Page *p, json_t *j, const Node *n) {
    json_t *kernels = json_array();
    for (int i = 0; i < n->n_kernel; i++) {
        const char *upto =
            n->kernel[i].max_t == INT64_MAX ? "" : arena_printf(p->tmp, ", up to %lld", (long long)n->kernel[i].max_t);
        json_array_append_new(kernels, json_string(arena_printf(p->tmp, "%s%s", n->kernel[i].name, upto)));
    }
    json_object_set_new(j, "rule", json_string(n->rule));
    json_object_set_new(j, "kernels", kernels);
    json_object_set_new(j, "hook", json_string(n->hook->name));
    json_object_set_new(j, "body", graph_json(p, n->body, NULL, false));
}

static json_t *node_json(const Page *p, const Node *n) {
    json_t *out = json_array(), *in = json_array();
    Text attrs = {0};
    node_dump_attrs(n, &attrs);
    for (int i = 0; i < n->n_out; i++) json_array_append_new(out, typed(p->tmp, n->out[i]));
    for (int i = 0; i < n->n_in; i++) json_array_append_new(in, n->in[i] ? json_string(n->in[i]->name) : json_null());
    json_t *j = json_pack("{s:s, s:s, s:o, s:o, s:s, s:s}", "name", node_name(n), "op", op_info(n->op)->name, "out",
                          out, "in", in, "attrs", attrs.n ? attrs.at : "", "scope", scope_path(p->tmp, &n->loc));
    text_free(&attrs);
    if (n->op == OP_FUSED) add_fused(p, j, n);
    return j;
}

static void add_values(const Page *p, json_t *list, const ValueList *l, const char *kind) {
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(list, json_pack("[s, s, s]", l->at[i]->name, type_str(p->tmp, &l->at[i]->type), kind));
}

static json_t *graph_json(const Page *p, const Graph *g, const PlanGraph *in_plan, bool costs) {
    json_t *inputs = json_array(), *nodes = json_array(), *outputs = json_array();
    add_values(p, inputs, &g->inputs, "input");
    add_values(p, inputs, &g->params, "weight");
    add_values(p, inputs, &g->states, "state");
    for (size_t i = 0; i < g->nodes.n; i++) {
        json_t *j = node_json(p, g->nodes.at[i]);
        if (costs) json_object_set_new(j, "cost", cost_json(p, g->nodes.at[i]));
        if (costs) json_object_set_new(j, "reads", reads_json(p, g->nodes.at[i]));
        if (in_plan) json_object_set_new(j, "launches", launches_json(in_plan, (int)i));
        json_array_append_new(nodes, j);
    }
    for (size_t i = 0; i < g->outputs.n; i++) json_array_append_new(outputs, json_string(g->outputs.at[i]->name));
    return json_pack("{s:o, s:o, s:o}", "inputs", inputs, "nodes", nodes, "outputs", outputs);
}

static json_t *graphs_json(const Page *p) {
    const Plan *plan = &p->c->plan;
    json_t *list = json_array();
    for (size_t i = 0; i < p->c->program->graphs.n; i++) {
        const Graph *g = p->c->program->graphs.at[i], *before = program_graph(p->c->before, g->name);
        json_t *after = graph_json(p, g, &plan->graphs[plan_graph(plan, g->name)], before != NULL);
        json_t *j = json_pack("{s:s, s:o}", "name", g->name, "after", after);
        if (before) json_object_set_new(j, "before", graph_json(p, before, NULL, true));
        json_array_append_new(list, j);
    }
    return list;
}

/* --- sources and the machine ------------------------------------------------------------------------------------------ */

static json_t *sources_json(const Page *p) {
    const Plan *plan = &p->c->plan;
    const char *prelude = p->c->prelude;
    json_t *list = json_array();
    for (int i = 0; i < plan->n_modules; i++) {
        const char *text = plan->modules[i].source, *at = strstr(text, prelude);
        const char *own = at ? arena_printf(p->tmp, "%.*s%s", (int)(at - text), text, at + strlen(prelude)) : text;
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", plan->modules[i].name, "text", own));
    }
    return json_pack("{s:s, s:o}", "prelude", prelude, "modules", list);
}

static json_t *machine_json(const Compile *c) {
    const Target *t = c->target;
    double peak = !strcmp(c->o.precision, "fast") ? t->peak_fast : t->peak_strict;
    return json_pack("{s:s, s:f, s:f}", "name", t->machine, "bandwidth", t->bandwidth, "peak", peak);
}

static json_t *object(const Compile *c) {
    Page p = {.c = c, .tmp = arena_new()};
    json_t *top = report_object(c);
    choose_work(&p);
    json_object_set_new(top, "explain", report_events(c));
    json_object_set_new(top, "machine", machine_json(c));
    json_object_set_new(top, "work", work_json(&p));
    json_object_set_new(top, "graphs", graphs_json(&p));
    json_object_set_new(top, "sources", sources_json(&p));
    arena_free(p.tmp);
    return top;
}

/* Inside a script element nothing may look like its end. */
static void put_data(Text *t, const char *json) {
    for (; *json; json++) {
        if (*json == '<') text_add(t, "\\u003c");
        else text_put(t, json, 1);
    }
}

bool report_html(const Compile *c, Text *t, Err *e) {
    const char *file = arena_printf(c->a, "%s/compiler/report.html", c->home), *mark = "@DATA@";
    const char *page = file_read_text(c->a, file, NULL, e), *at = page ? strstr(page, mark) : NULL;
    if (!page) return false;
    if (!at) return err_set(e, "%s: it has no line %s", file, mark);
    json_t *top = object(c);
    char *json = json_dumps(top, JSON_COMPACT);
    if (!json) die("page: cannot make JSON");
    text_put(t, page, (size_t)(at - page));
    put_data(t, json);
    text_add(t, "%s", at + strlen(mark));
    free(json);
    json_decref(top);
    return true;
}
