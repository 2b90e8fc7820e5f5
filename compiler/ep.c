/* ep.c - experts over several devices (gptoss-compile --ep), written into the graph.
 * needs: no fused nodes    breaks: marks, uses
 *
 * Device d of n has the experts d * E / n … (d + 1) * E / n - 1, and room for ceil(E / n): so many have w and b of every
 * expert_linear now, whatever the device. Its ids become `own`, the number among the device's experts or -2; what it reads else and
 * does not lie on the device, `fetch`, the rows that such a pair needs. What is computed from its rows alone (SwiGLU, casts) stays on the
 * device; what reads other rows too reads `join`, on the first device. Bits are those of one device: a row is computed whole by the one
 * that has its expert.
 * From here on the graph is what each device sees; which nodes run on all of them, graph_everywhere says. */
#include "passes.h"

typedef struct Ep Ep;
struct Ep {
    Graph *g;
    int64_t n;       /* devices */
    int64_t experts; /* of the model */
    Value *share;    /* the input, once it is there */
    size_t old;      /* nodes before the pass; what it makes is behind them */
    Err *e;
};

static int64_t most_of(const Ep *p) { return (p->experts + p->n - 1) / p->n; }

/* What the pass has made of v with this op; NULL: nothing yet. */
static Value *made(const Ep *p, Op op, const Value *v) {
    for (size_t i = p->old; i < p->g->nodes.n; i++)
        if (p->g->nodes.at[i]->op == op && p->g->nodes.at[i]->in[0] == v) return p->g->nodes.at[i]->out[0];
    return NULL;
}

static Value *make(Ep *p, Op op, Value *v, Value *with, int64_t experts, const char *suffix) {
    Value *in[] = {v, with}, *there = made(p, op, v);
    Attr attr = {.name = "experts", .type = ATTR_INT, .i = experts};
    Loc loc = v->def ? v->def->loc : v->loc;
    if (there) return there;
    Node *n = graph_add(p->g, op, in, with ? 2 : 1, &attr, with != NULL, arena_printf(p->g->arena, "%s.%s", v->name, suffix), loc, p->e);
    if (!n) return err_at(p->e, &loc, "--ep: %s", arena_strdup(p->g->arena, p->e->msg)), NULL;
    return n->out[0];
}

static Value *own(Ep *p, Value *ids) {
    if (!p->share) p->share = graph_input(p->g, "share", (Type){DT_I32, 1, {dim_const(2)}});
    return make(p, OP_own, ids, p->share, p->experts, "own");
}

static bool is_local(const Value *v) { return v && v->mark; }

static bool take_share(const Ep *p, const Node *n, int i) {
    Value *w = n->in[i];
    if (w->kind != VALUE_PARAM) return err_at(p->e, &n->loc, "--ep: %s of %s is no weight, so that it cannot be dealt out", w->name, node_name(n));
    if (dim_eq(w->type.dim[0], dim_const(most_of(p)))) return true; /* several read it */
    if (!dim_eq(w->type.dim[0], dim_const(p->experts)))
        return err_at(p->e, &n->loc, "--ep: %s has other experts than the model's %lld", w->name, (long long)p->experts);
    w->type.dim[0] = dim_const(most_of(p));
    return true;
}

static bool split_experts(Ep *p, Node *n) {
    if (!is_local(n->in[3]) && !(n->in[3] = own(p, n->in[3]))) return false;
    if (!is_local(n->in[0]) && !(n->in[0] = make(p, OP_fetch, n->in[0], n->in[3], most_of(p), "fetch"))) return false;
    n->out[0]->mark = n;
    return take_share(p, n, 1) && take_share(p, n, 2);
}

/* Can n be computed for some of the rows [T,R,…] by whoever has them? All else that it reads is weights. */
static bool goes_along(const Node *n) {
    bool rowwise = n->op == OP_swiglu || op_info(n->op)->flags & OPF_ELEMENTWISE;
    for (int i = 0; i < n->n_in; i++) rowwise = rowwise && (!n->in[i] || is_local(n->in[i]) || n->in[i]->kind == VALUE_PARAM);
    return rowwise;
}

static bool join_inputs(Ep *p, Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (is_local(n->in[i]) && !(n->in[i] = make(p, OP_join, n->in[i], NULL, 0, "join"))) return false;
    return true;
}

static bool split_node(Ep *p, Node *n) {
    bool any = false;
    if (n->op == OP_expert_linear) return split_experts(p, n);
    for (int i = 0; i < n->n_in; i++) any |= is_local(n->in[i]);
    if (!any) return true;
    if (!goes_along(n)) return join_inputs(p, n);
    n->out[0]->mark = n;
    return true;
}

static bool join_outputs(Ep *p) {
    for (size_t i = 0; i < p->g->outputs.n; i++) {
        if (!is_local(p->g->outputs.at[i])) continue;
        Value *whole = make(p, OP_join, p->g->outputs.at[i], NULL, 0, "join");
        if (!whole) return false;
        graph_set_output(p->g, i, whole);
    }
    return true;
}

static bool split(Graph *g, int64_t n, int64_t experts, Err *e) {
    Ep p = {.g = g, .n = n, .experts = experts, .old = g->nodes.n, .e = e};
    bool ok = true;
    graph_clear_marks(g);
    graph_index(g, true);
    for (size_t i = 0; i < p.old && ok; i++) ok = split_node(&p, g->nodes.at[i]);
    ok = ok && join_outputs(&p);
    graph_index(g, false);
    if (!ok) return false;
    graph_sort(g);
    graph_clear_marks(g);
    return graph_infer(g, "--ep", e); /* a weight that is dealt out must not be read whole */
}

bool ep_run(Program *p, int64_t n, int64_t experts, Err *e) {
    if (n > experts) return err_set(e, "--ep %lld: the model has %lld experts: so many devices at most", (long long)n, (long long)experts);
    for (size_t i = 0; n > 1 && i < p->graphs.n; i++)
        if (!split(p->graphs.at[i], n, experts, e)) return false;
    return program_verify(p, e);
}
