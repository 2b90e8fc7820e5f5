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

typedef struct Layout Layout;
struct Layout {
    Program *p;
    const Maker *m;
};

static bool lay_out(void *ctx, const Part *part, const Binding *b, Err *e) {
    Layout *l = ctx;
    if (!b->t->layout) return true;
    return add_repack(l->p, part, owner_outside(part->owner, part->core->in[b->t->layout - 1]), l->m->target->wave, e);
}

bool layout_run(Program *p, const Maker *m, Err *e) {
    Layout l = {p, m};
    for (size_t i = 0, n = p->graphs.n; i < n; i++)
        for (size_t k = 0; k < p->graphs.at[i]->nodes.n; k++)
            if (!parts_each(m, p->graphs.at[i]->nodes.at[k], lay_out, &l, e)) return false;
    return true;
}
