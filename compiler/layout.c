/* layout.c - see layout.h. */
#include "layout.h"

const char *layout_name(Arena *a, const Part *p, const Value *v) {
    if (p->pairs == PAIRS_HALVES) return arena_printf(a, "%s$fragment.halves%lld", v->name, (long long)p->head);
    return arena_printf(a, "%s$fragment%s", v->name, p->pairs == PAIRS_NEAR ? ".near" : "");
}

static Graph *prepare_graph(Program *p) {
    Graph *g = program_graph(p, "prepare");
    if (g) return g;
    g = graph_new(p->arena, "prepare");
    PUSH(p->arena, p->graphs, g);
    return g;
}

static bool add_repack(Program *p, const Part *part, Value *w, int wave, Err *e) {
    Graph *g = prepare_graph(p);
    const char *name = layout_name(p->arena, part, w);
    if (graph_find(g, name)) return true;
    Attr attr[] = {{.name = "wave", .type = ATTR_INT, .i = wave},
                   {.name = "pairs", .type = ATTR_INT, .i = part->pairs},
                   {.name = "head", .type = ATTR_INT, .i = part->head}};
    Value *in = graph_param(g, w->name, w->type);
    in->may_round = w->may_round;
    Node *n = graph_add(g, OP_repack, &in, 1, attr, 3, name, w->loc, e);
    if (!n) return err_wrap(e, "layout of %s", w->name);
    graph_output(g, n->out[0]);
    return true;
}

static bool of_node(Program *p, const Node *n, const TemplateList *templates, const LowerOptions *o, Err *e) {
    Maker m = {p->arena, templates, o->precision, o->target};
    for (Range r = {0, 0, 0}; range_next(&m, n, &r);) {
        PartList parts;
        if (!parts_make(&m, n, &r, &parts, e)) return false;
        for (size_t k = 0; k < parts.n; k++) {
            const Part *part = parts.at[k];
            Binding b;
            if (!template_bind(p->arena, templates, part, &parts, o->precision, o->target, &b, e)) return false;
            if (!b.t->layout) continue;
            if (!add_repack(p, part, owner_outside(n, part->core->in[b.t->layout - 1]), o->target->wave, e)) return false;
        }
    }
    return true;
}

bool layout_run(Program *p, const TemplateList *templates, const LowerOptions *o, Err *e) {
    for (size_t i = 0, n = p->graphs.n; i < n; i++)
        for (size_t k = 0; k < p->graphs.at[i]->nodes.n; k++)
            if (!of_node(p, p->graphs.at[i]->nodes.at[k], templates, o, e)) return false;
    return true;
}
