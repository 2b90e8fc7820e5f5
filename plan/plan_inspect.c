/* plan_inspect.c - what gptoss-exec --inspect prints of a plan: for people, and as JSON for scripts. */
#include "plan.h"

#include <jansson.h>
#include <stdlib.h>

static void bytes_text(Text *t, size_t n) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u + 1 < LEN(unit)) v /= 1024, u++;
    text_add(t, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

static size_t total(const Plan *p, BufKind kind, int *count) {
    size_t sum = 0;
    *count = 0;
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == kind) sum += p->bufs[i].size, ++*count;
    return sum;
}

static void inspect_head(const Plan *p, Text *t) {
    const ModelConfig *c = &p->config;
    text_add(t, "plan of %s for %s (%s), precision %s\n", p->model_name, p->arch, p->target_id, p->precision);
    text_add(t, "  model: %s\n", p->model_path ? p->model_path : "none recorded");
    text_add(
        t,
        "  %lld layers, hidden %lld, %lld heads of %lld (%lld kv), %lld experts (top %lld) of %lld, vocabulary %lld\n",
        (long long)c->layers, (long long)c->hidden, (long long)c->heads, (long long)c->head_dim, (long long)c->kv_heads,
        (long long)c->experts, (long long)c->topk, (long long)c->intermediate, (long long)c->vocab);
    text_add(t, "  at most %lld requests, %lld tokens a step, %lld positions\n", (long long)p->max_batch,
             (long long)p->max_tokens, (long long)p->max_seq);
}

/* Weights as files have them; a layout of its own takes as much. */
static size_t weights_on(const Plan *p, int device) {
    size_t sum = 0;
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_WEIGHT && plan_holds(&p->bufs[i], device)) sum += p->bufs[i].size;
    return sum;
}

static void inspect_devices(const Plan *p, Text *t) {
    if (p->devices == 1) return;
    text_add(t, "  for %lld devices: ", (long long)p->devices);
    bytes_text(t, weights_on(p, 0)), text_add(t, " of weights on the first, ");
    bytes_text(t, weights_on(p, 1)), text_add(t, " on each other, ");
    bytes_text(t, p->arena_of[HOLD_COMMON]), text_add(t, " of the first's that all use\n");
}

static void inspect_memory(const Plan *p, Text *t) {
    static const char *const what[BUF_KINDS] = {"weights", "weights, repacked", "state (one page a pool)", "inputs",
                                                "links",   "temporaries"};
    text_add(t, "memory\n");
    inspect_devices(p, t);
    for (int k = 0; k < BUF_KINDS; k++) {
        int n;
        size_t sum = total(p, (BufKind)k, &n);
        text_add(t, "  %-24s %5d buffers  ", what[k], n);
        bytes_text(t, sum);
        if (k == BUF_TEMP) text_add(t, " in an arena of "), bytes_text(t, plan_scratch(p, 0));
        text_add(t, "\n");
    }
    for (int i = 0; i < p->n_kv; i++)
        text_add(t, "  kv group %s: %d layers, window %lld\n", p->kv[i].blocks, p->kv[i].n_states,
                 (long long)p->kv[i].window);
}

static void inspect_graphs(const Plan *p, Text *t) {
    text_add(t, "graphs\n");
    for (int i = 0; i < p->n_graphs; i++) {
        const PlanGraph *g = &p->graphs[i];
        const Graph *ir = program_graph(p->program, g->name);
        text_add(t, "  %-8s %zu nodes, %d launches, buckets of %s:", g->name, ir->nodes.n, plan_launches(g, -1, -1),
                 g->sym == SYM_T ? "T" : "S");
        for (int b = 0; b < g->n_buckets; b++)
            text_add(t, " %lld (%d)", (long long)g->buckets[b], plan_launches(g, -1, b));
        text_add(t, "\n");
    }
}

static void inspect_kernels(const Plan *p, Text *t) {
    text_add(t, "kernels\n  %-40s %-20s %8s %6s %5s %5s %5s %6s %6s  %s\n", "symbol", "template", "launches", "block",
             "vgpr", "agpr", "sgpr", "lds", "spills", "reduction");
    Arena *a = arena_new();
    const int *uses = plan_uses(p, a);
    for (int i = 0; i < p->n_kernels; i++) {
        const PlanKernel *k = &p->kernels[i];
        text_add(t, "  %-40s %-20s %8d %6u %5u %5u %5u %6u %6u  %s\n", k->symbol, k->template_name, uses[i],
                 k->block, k->vgprs, k->agprs, k->sgprs, k->lds + k->lds_static, k->vgpr_spills + k->sgpr_spills,
                 k->reduction);
    }
    arena_free(a);
    text_add(t, "modules\n");
    for (int i = 0; i < p->n_modules; i++) {
        text_add(t, "  %-40s source ", p->modules[i].name);
        bytes_text(t, strlen(p->modules[i].source));
        text_add(t, ", code ");
        bytes_text(t, p->modules[i].code_size);
        text_add(t, p->modules[i].overridden ? ", overridden (--override)\n" : "\n");
    }
}

void plan_inspect(const Plan *p, Text *t) {
    inspect_head(p, t);
    inspect_memory(p, t);
    inspect_graphs(p, t);
    inspect_kernels(p, t);
    text_add(t, "rules\n");
    for (int i = 0; i < p->n_rules; i++)
        text_add(t, "  %-40s %016llx %d uses\n", p->rules[i].name, (unsigned long long)p->rules[i].hash,
                 p->rules[i].uses);
}

/* --- JSON ----------------------------------------------------------------------------------------------------------- */

static json_t *buf_json(const Plan *p, const PlanBuf *b) {
    json_t *j = json_pack("{s:s#, s:s, s:s, s:I}", "name", b->name, (int)strlen(b->name), "kind",
                          buf_kind_name(b->kind), "type", type_str(p->arena, &b->type), "size", (json_int_t)b->size);
    if (b->kind == BUF_TEMP)
        json_object_update_new(j, json_pack("{s:I, s:s, s:i, s:i}", "offset", (json_int_t)b->offset, "graph",
                                            p->graphs[b->graph].name, "first", b->first, "last", b->last));
    if (p->devices > 1) json_object_set_new(j, "hold", json_string(buf_hold_name(b->hold)));
    if (b->share) json_object_set_new(j, "share", json_integer(b->share));
    return j;
}

static json_t *kernel_json(const Plan *p, int i, int uses) {
    const PlanKernel *k = &p->kernels[i];
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "symbol", k->symbol,
                     "template", k->template_name, "reduction", k->reduction, "module", p->modules[k->module].name,
                     "launches", uses, "block", (json_int_t)k->block, "lds_dynamic", (json_int_t)k->lds,
                     "nmse", k->nmse, "vgprs", (json_int_t)k->vgprs, "agprs", (json_int_t)k->agprs, "sgprs",
                     (json_int_t)k->sgprs, "lds", (json_int_t)k->lds_static, "scratch", (json_int_t)k->scratch,
                     "vgpr_spills", (json_int_t)k->vgpr_spills, "sgpr_spills", (json_int_t)k->sgpr_spills);
}

static json_t *module_json(const PlanModule *m) {
    return json_pack("{s:s, s:I, s:I, s:b}", "name", m->name, "source_bytes", (json_int_t)strlen(m->source),
                     "code_bytes", (json_int_t)m->code_size, "overridden", m->overridden);
}

/* buckets: those that it serves; not all of them when it is one of a recipe's alternatives. */
static json_t *launch_json(const Plan *p, const Graph *ir, const PlanGraph *g, const PlanLaunch *l) {
    json_t *args = json_array(), *buckets = json_array();
    for (int b = 0; b < g->n_buckets; b++)
        if (l->grid[b][0] && l->grid[b][1] && l->grid[b][2])
            json_array_append_new(buckets, json_integer(g->buckets[b]));
    for (int i = 0; i < l->n_args; i++)
        json_array_append_new(args, l->args[i] < 0 ? json_null() : json_string(p->bufs[l->args[i]].name));
    return json_pack("{s:s, s:s, s:o, s:o}", "kernel", p->kernels[l->kernel].symbol, "node",
                     node_name(ir->nodes.at[l->node]), "args", args, "buckets", buckets);
}

static json_t *graph_json(const Plan *p, const PlanGraph *g) {
    const Graph *ir = program_graph(p->program, g->name);
    json_t *buckets = json_array(), *launches = json_array();
    for (int b = 0; b < g->n_buckets; b++) json_array_append_new(buckets, json_integer(g->buckets[b]));
    for (int i = 0; i < g->n_launches; i++) json_array_append_new(launches, launch_json(p, ir, g, &g->launches[i]));
    return json_pack("{s:s, s:s, s:I, s:o, s:o}", "name", g->name, "symbol", g->sym == SYM_T ? "T" : "S", "nodes",
                     (json_int_t)ir->nodes.n, "buckets", buckets, "launches", launches);
}

void plan_inspect_json(const Plan *p, Text *t) {
    json_t *j =
        json_pack("{s:s, s:s?, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "model", p->model_name, "model_path",
                  p->model_path, "arch", p->arch, "target_id", p->target_id, "precision", p->precision, "max_batch",
                  (json_int_t)p->max_batch, "max_tokens", (json_int_t)p->max_tokens, "max_seq", (json_int_t)p->max_seq,
                  "max_blocks", (json_int_t)p->max_blocks, "scratch", (json_int_t)plan_scratch(p, 0));
    if (!j) j = json_object(); /* a path that is not UTF-8 */
    json_object_set_new(j, "devices", json_integer(p->devices));
    json_t *list;
    char hash[24];
#define LIST(name, count, item)                                                                                        \
    list = json_array();                                                                                               \
    for (int i = 0; i < (count); i++) json_array_append_new(list, (item));                                             \
    json_object_set_new(j, name, list)
    LIST("graphs", p->n_graphs, graph_json(p, &p->graphs[i]));
    Arena *a = arena_new();
    const int *uses = plan_uses(p, a);
    LIST("kernels", p->n_kernels, kernel_json(p, i, uses[i]));
    arena_free(a);
    LIST("modules", p->n_modules, module_json(&p->modules[i]));
    LIST("buffers", p->n_bufs, buf_json(p, &p->bufs[i]));
    LIST("kv", p->n_kv,
         json_pack("{s:s, s:I, s:i}", "blocks", p->kv[i].blocks, "window", (json_int_t)p->kv[i].window, "layers",
                   p->kv[i].n_states));
    LIST("rules", p->n_rules,
         (snprintf(hash, sizeof hash, "%016llx", (unsigned long long)p->rules[i].hash),
          json_pack("{s:s, s:s, s:i}", "name", p->rules[i].name, "hash", hash, "uses", p->rules[i].uses)));
#undef LIST
    char *s = json_dumps(j, JSON_INDENT(2));
    text_add(t, "%s\n", s ? s : "{}");
    free(s);
    json_decref(j);
}
