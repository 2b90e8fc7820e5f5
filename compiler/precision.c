/* precision.c - what is rounded to bf16, written into the graph as cast nodes and types.
 * needs: no fused nodes    breaks: marks, uses, values' ids
 *
 * Which inputs those are, every op's row of ir/ops.def says.
 * strict: nothing is rounded. fast: the operands of every contraction are bf16:
 *   round    x of linear and expert_linear, q of attention: normed activations, attention's output, SwiGLU's output …
 *   weight   weights stored as f32; they then may_round. bf16 and MXFP4 stay what they are
 *   attributes that have a value for fast (attention's p)
 * but nothing of a contraction that feeds an `exact` input, as the router feeds topk: a choice is not continuous.
 * kv16, of either: the cache and what is written to it (kv). The residual stream, norms, biases and sinks stay f32.
 * A value is cast once, as "<value>.bf16", right behind the node that computes it; all who want it rounded read that. */
#include "passes.h"

#include "ir/map.h"

typedef struct Precision Precision;
struct Precision {
    Graph *g;
    NodeList casts;
    Err *e;
};

/* --- casts -------------------------------------------------------------------------------------------------------- */

/* v in bf16; NULL on error. Value.mark holds it once it was made. */
static Value *rounded(Precision *p, Value *v) {
    if (v->type.dtype != DT_F32) return v;
    if (v->mark) return v->mark;
    Attr to = {.name = "to", .type = ATTR_STR, .s = "bf16"};
    Loc loc = v->def ? v->def->loc : v->loc;
    Node *n = graph_add(p->g, OP_cast, &v, 1, &to, 1, arena_printf(p->g->arena, "%s.bf16", v->name), loc, p->e);
    if (!n) return err_at(p->e, &loc, "%s", arena_strdup(p->g->arena, p->e->msg)), NULL;
    return v->mark = n->out[0];
}

static bool round_input(Precision *p, Node *n, int i) {
    Value *v = rounded(p, n->in[i]);
    if (v) n->in[i] = v;
    return v;
}

/* Puts each cast, now at the end, behind the node whose result it rounds; those of inputs come first. */
static void place_casts(Graph *g, size_t n_before) {
    NodeList l = {0};
    for (size_t k = n_before; k < g->nodes.n; k++)
        if (!g->nodes.at[k]->in[0]->def) PUSH(g->arena, l, g->nodes.at[k]);
    for (size_t i = 0; i < n_before; i++) {
        Node *n = g->nodes.at[i];
        PUSH(g->arena, l, n);
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k]->mark) PUSH(g->arena, l, ((Value *)n->out[k]->mark)->def);
    }
    g->nodes = l;
}

/* --- which -------------------------------------------------------------------------------------------------------- */

static bool is(const Node *n, int i, int flags) { return (op_operand(n->op, i).flags & flags) != 0; }

/* Value.id of what g's nodes compute: does a choice hang on it, through elementwise ops perhaps? Readers come behind what they read. */
static void find_choices(const Graph *g) {
    for (size_t i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.at[i]->n_out; k++) g->nodes.at[i]->out[k]->id = false;
    for (size_t i = g->nodes.n; i-- > 0;) {
        const Node *n = g->nodes.at[i];
        const bool hands_on = op_info(n->op)->flags & OPF_ELEMENTWISE && n->out[0]->id;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && (hands_on || is(n, k, OPERAND_EXACT))) n->in[k]->id = true;
    }
}

/* Whether fast rounds input i of n. */
static bool is_rounded(const Node *n, int i) { return is(n, i, OPERAND_ROUND | OPERAND_WEIGHT) && !n->out[0]->id; }

/* The state that v is, before any update; NULL when it is none. */
static Value *initial_state(Value *v) {
    while (v->def && node_state_in(v->def, v->index) >= 0) v = v->def->in[node_state_in(v->def, v->index)];
    return v->kind == VALUE_STATE ? v : NULL;
}

static bool round_kv(Precision *p, Node *n) {
    for (int i = 0; i < n->n_in; i++) {
        if (!is(n, i, OPERAND_KV)) continue;
        Value *state = initial_state(n->in[i]);
        if (state) state->type.dtype = DT_BF16;
        else if (!round_input(p, n, i)) return false;
    }
    return true;
}

static void set_attr(Node *n, const Attr *a) {
    switch (a->type) {
    case ATTR_INT: node_set_int(n, a->name, a->i); break;
    case ATTR_FLOAT: node_set_float(n, a->name, a->f); break;
    case ATTR_STR: node_set_str(n, a->name, a->s); break;
    }
}

static bool round_operands(Precision *p, Node *n) {
    Attr fast;
    for (int i = 0; i < n->n_attr; i++)
        if (op_attr_fast(p->g->arena, n->op, i, &fast)) set_attr(n, &fast);
    for (int i = 0; i < n->n_in; i++)
        if (is(n, i, OPERAND_ROUND) && is_rounded(n, i) && !round_input(p, n, i)) return false;
    return true;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

static bool is_weight(const Node *n, int i) { return is(n, i, OPERAND_WEIGHT) && is_rounded(n, i); }

/* How the graphs read a param. One that several read under one name has one type, so all of them are asked. */
typedef struct Uses Uses;
struct Uses {
    bool as_weight, other; /* as a contraction's weight that fast rounds; in any other way */
};

static Uses *uses_of(Map *uses, const char *name) {
    Uses *u = map_get(uses, name);
    if (!u) map_put(uses, name, u = arena_alloc(uses->arena, sizeof *u));
    return u;
}

static void find_uses(const Graph *g, Map *uses) {
    for (size_t i = 0; i < g->params.n; i++) uses_of(uses, g->params.at[i]->name)->other |= g->params.at[i]->is_output;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.at[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && n->in[k]->kind == VALUE_PARAM) {
                Uses *u = uses_of(uses, n->in[k]->name);
                *(is_weight(n, k) ? &u->as_weight : &u->other) = true;
            }
    }
}

static void round_weights(const Program *p) {
    Arena *tmp = arena_new();
    Map uses = {.arena = tmp};
    for (size_t i = 0; i < p->graphs.n; i++) find_uses(p->graphs.at[i], &uses);
    for (size_t i = 0; i < p->graphs.n; i++) {
        const ValueList *l = &p->graphs.at[i]->params;
        for (size_t k = 0; k < l->n; k++) {
            Value *w = l->at[k];
            const Uses *u = uses_of(&uses, w->name);
            if (w->type.dtype != DT_F32 || !u->as_weight || u->other) continue;
            w->type.dtype = DT_BF16;
            w->may_round = true;
        }
    }
    arena_free(tmp);
}

/* --- the pass ----------------------------------------------------------------------------------------------------- */

static bool round_node(Precision *p, Node *n, bool strict, bool kv16) {
    if (n->op == OP_FUSED) return err_at(p->e, &n->loc, "%s is fused already; what is rounded is decided before", node_name(n));
    return (strict || round_operands(p, n)) && (!kv16 || round_kv(p, n));
}

static bool precise(Graph *g, bool strict, bool kv16, Err *e) {
    Precision p = {.g = g, .e = e};
    size_t n = g->nodes.n;
    bool ok = true;
    graph_clear_marks(g);
    graph_index(g, true);
    for (size_t i = 0; i < n && ok; i++) ok = round_node(&p, g->nodes.at[i], strict, kv16);
    graph_index(g, false);
    if (!ok) return false;
    place_casts(g, n);
    return graph_infer(g, "precision", e) && graph_verify(g, e);
}

bool precision_run(Program *p, bool strict, bool kv16, Err *e) {
    for (size_t i = 0; i < p->graphs.n; i++) find_choices(p->graphs.at[i]);
    if (!strict) round_weights(p);
    for (size_t i = 0; i < p->graphs.n; i++)
        if (!precise(p->graphs.at[i], strict, kv16, e)) return false;
    return program_verify(p, e);
}
