/* sheet.c - see sheet.h. */
#include "sheet.h"

#include <stdlib.h>

#include "ir/cost.h"

enum { MAX_WORK = 4 };

typedef struct Page Page;
struct Page {
    const Sheet *s;
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
    const Plan *plan = p->s->plan;
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
    for (int i = plan_launch(g, node); i < g->n_launches && g->launches[i].node == node; i++)
        json_array_append_new(list, launch_json(g, &g->launches[i]));
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
                          out, "in", in, "attrs", attrs.n ? attrs.at : "", "scope", loc_path(p->tmp, &n->loc));
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

/* A graph of the left side, or of the right one; NULL: it has none of this name. */
static json_t *side_json(const Page *p, const char *name, bool right, bool costs) {
    const Plan *plan = right ? p->s->plan : p->s->before_plan;
    const Program *of = right ? plan->program : p->s->before;
    const Graph *g = of ? program_graph(of, name) : NULL;
    return g ? graph_json(p, g, plan ? &plan->graphs[plan_graph(plan, name)] : NULL, costs) : NULL;
}

static json_t *graphs_json(const Page *p) {
    const Program *of = p->s->plan->program;
    json_t *list = json_array();
    for (size_t i = 0; i < of->graphs.n; i++) {
        const char *name = of->graphs.at[i]->name;
        bool costs = strcmp(name, "prepare") != 0;
        json_t *before = side_json(p, name, false, costs);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o*}", "name", name, "after", side_json(p, name, true, costs), "before", before));
    }
    return list;
}

/* --- sources and kernels ---------------------------------------------------------------------------------------------- */

/* What stands between a module's first lines, which tell its kernels, and the first of these: in the module that has least of it, as
 * some have more behind it. */
static const char *prelude_of(const Page *p, const Plan *plan) {
    const char *least = NULL;
    size_t n = 0;
    for (int i = 0; i < plan->n_modules; i++) {
        const char *at = plan->modules[i].source, *own = plan_own_text(plan, &plan->modules[i]);
        while (!strncmp(at, "// ", 3)) at += strcspn(at, "\n"), at += *at == '\n';
        if (own > at && (!least || (size_t)(own - at) < n)) least = at, n = (size_t)(own - at);
    }
    return least ? arena_strndup(p->tmp, least, n) : "";
}

static json_t *module_json(const Page *p, const PlanModule *m, const char *prelude) {
    const char *text = m->source, *at = *prelude ? strstr(text, prelude) : NULL;
    const char *own = at ? arena_printf(p->tmp, "%.*s%s", (int)(at - text), text, at + strlen(prelude)) : text;
    return json_pack("{s:s, s:s}", "name", m->name, "text", own);
}

static const PlanModule *module_named(const Plan *p, const char *name) {
    for (int i = 0; i < p->n_modules; i++)
        if (!strcmp(p->modules[i].name, name)) return &p->modules[i];
    return NULL;
}

/* Those that `other` has as they are left out; NULL: all. */
static json_t *sources_json(const Page *p, const Plan *plan, const Plan *other) {
    const char *prelude = prelude_of(p, plan);
    json_t *list = json_array();
    for (int i = 0; i < plan->n_modules; i++) {
        const PlanModule *m = &plan->modules[i], *same = other ? module_named(other, m->name) : NULL;
        if (!same || strcmp(same->source, m->source)) json_array_append_new(list, module_json(p, m, prelude));
    }
    return json_pack("{s:s, s:o}", "prelude", other ? "" : prelude, "modules", list);
}

json_t *sheet_kernels(const Plan *p) {
    json_t *list = json_array();
    Arena *tmp = arena_new();
    const int *uses = plan_uses(p, tmp);
    for (int i = 0; i < p->n_kernels; i++) {
        const PlanKernel *k = &p->kernels[i];
        json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "symbol", k->symbol, "template", k->template_name, "module",
                              p->modules[k->module].name, "uses", uses[i], "block", (int)k->block, "lds_dynamic", (int)k->lds, "reduction", k->reduction);
        const struct {
            const char *name;
            uint32_t value;
        } fields[] = {{"vgprs", k->vgprs},     {"agprs", k->agprs},             {"sgprs", k->sgprs},            {"lds", k->lds_static},
                      {"scratch", k->scratch}, {"vgpr_spills", k->vgpr_spills}, {"sgpr_spills", k->sgpr_spills}};
        for (size_t f = 0; k->vgprs && f < LEN(fields); f++) json_object_set_new(j, fields[f].name, json_integer(fields[f].value));
        json_array_append_new(list, j);
    }
    arena_free(tmp);
    return list;
}

/* --- sizes ------------------------------------------------------------------------------------------------------------- */

json_t *sheet_sizes(const Plan *p) {
    json_t *rules = json_array(), *launches = json_object();
    for (int i = 0; i < p->n_rules; i++) json_array_append_new(rules, json_pack("{s:s, s:i}", "name", p->rules[i].name, "uses", p->rules[i].uses));
    for (int g = 0; g < p->n_graphs; g++) json_object_set_new(launches, p->graphs[g].name, json_integer(plan_launches(&p->graphs[g], -1, -1)));
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "model", p->model_name, "arch", p->arch, "precision", p->precision, "weight_bytes",
                     (json_int_t)plan_bytes(p, BUF_WEIGHT), "scratch_bytes", (json_int_t)plan_scratch(p, 0), "kv_page_bytes", (json_int_t)plan_page_bytes(p),
                     "launches", launches, "rules", rules);
}

/* --- the whole --------------------------------------------------------------------------------------------------------- */

void sheet_add(const Sheet *s, json_t *top) {
    Page p = {.s = s, .tmp = arena_new()};
    choose_work(&p);
    json_object_set_new(top, "machine", json_pack("{s:s, s:f, s:f}", "name", s->machine, "bandwidth", s->bandwidth, "peak", s->peak));
    json_object_set_new(top, "work", work_json(&p));
    json_object_set_new(top, "graphs", graphs_json(&p));
    json_object_set_new(top, "sources", sources_json(&p, s->plan, NULL));
    if (s->before_plan)
        json_object_set_new(top, "before",
                            json_pack("{s:o, s:o}", "kernels", sheet_kernels(s->before_plan), "sources", sources_json(&p, s->before_plan, s->plan)));
    arena_free(p.tmp);
}

/* Inside a script element nothing may look like its end. */
static void put_data(Text *t, const char *json) {
    for (; *json; json++) {
        if (*json == '<') text_add(t, "\\u003c");
        else text_put(t, json, 1);
    }
}

bool sheet_html(const char *home, const json_t *top, Text *t, Err *e) {
    Arena *tmp = arena_new();
    const char *file = arena_printf(tmp, "%s/compiler/report.html", home), *mark = "@DATA@";
    const char *page = file_read_text(tmp, file, NULL, e), *at = page ? strstr(page, mark) : NULL;
    bool ok = at || (page && err_set(e, "%s: it has no line %s", file, mark));
    if (ok) {
        char *json = json_dumps(top, JSON_COMPACT);
        if (!json) die("page: cannot make JSON");
        text_put(t, page, (size_t)(at - page));
        put_data(t, json);
        text_add(t, "%s", at + strlen(mark));
        free(json);
    }
    arena_free(tmp);
    return ok;
}
