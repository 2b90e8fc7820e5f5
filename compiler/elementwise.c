/* elementwise.c - inlines chains of elementwise ops into the kernel that feeds them, as its hook.
 * needs: nodes in order    breaks: marks, ids
 *
 * A chain is v -> add|mul|scale|cast -> … where each value is read by the next op only and keeps its shape. The node then
 * gives the chain's last value, stands where the chain's last op stood, and its body ends with the chain; what the chain
 * reads besides is appended to its inputs. `hook` still is what the template itself computes. */
#include "fuse.h"

#include "match.h"

typedef struct Chain Chain;
struct Chain {
    Graph *g;
    Arena *tmp;
    FuseLog *log;
    FuseOffList *off;
    bool (*accepts)(void *ctx, const Node *n);
    void *ctx;
    Node **at;  /* the new list by position; NULL: inlined elsewhere */
    bool *done; /* by Node.id: looked at */
};

static void record(Chain *c, const Node *n, FuseOutcome outcome, const char *why) {
    Arena *a = c->g->arena;
    FuseEvent ev = {"elementwise", c->g->name, node_name(n), outcome, arena_strdup(a, why)};
    if (c->log) PUSH(a, *c->log, ev);
}

static bool same_shape(const Type *a, const Type *b) {
    Type t = *a;
    t.dtype = b->dtype;
    return type_eq(&t, b);
}

/* The elementwise op that alone reads n's first result, element by element; NULL when there is none. */
static Node *follower(const Node *n) {
    const Value *v = n->out[0];
    if (n->op != OP_FUSED && n->n_out != 1) return NULL;
    if (v->type.dtype != DT_F32 && v->type.dtype != DT_BF16) return NULL;
    if (node_state_in(n, 0) >= 0 || v->is_output || readers(v)->n != 1) return NULL;
    Node *e = readers(v)->at[0];
    bool fits = op_info(e->op)->flags & OPF_ELEMENTWISE && same_shape(&v->type, &e->out[0]->type);
    return fits ? e : NULL;
}

/* Does d come after n: because of what it reads, or because n reads a state that d updates? */
static bool comes_after(const Chain *c, const Node *d, const Node *n, bool *seen) {
    if (!d || d == n) return d == n;
    if (seen[d->id]) return false;
    seen[d->id] = true;
    for (int i = 0; i < d->n_in; i++)
        if (d->in[i] && comes_after(c, d->in[i]->def, n, seen)) return true;
    for (int i = 0; i < d->n_out; i++) {
        int at = node_state_in(d, i);
        const NodeList *l = at < 0 ? NULL : readers(d->in[at]);
        for (size_t k = 0; l && k < l->n; k++)
            if (l->at[k] != d && comes_after(c, l->at[k], n, seen)) return true;
    }
    return false;
}

/* --- growing the node --------------------------------------------------------------------------------------------- */

void fuse_wrap(Graph *g, Node *n, const char *rule) {
    Graph *body = graph_new(g->arena, rule);
    Value *in[MAX_IN] = {0};
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) in[i] = fuse_body_input(body, n->in[i]);
    Node *copy = fuse_body_node(body, n, in);
    for (int i = 0; i < n->n_out; i++) graph_output(body, copy->out[i]);
    n->hook = copy->out[0];
    n->kernel[0] = (KernelChoice){INT64_MAX, op_info(n->op)->name};
    n->n_kernel = 1;
    n->n_in = n->n_kernel_in = n->n_body_in = op_info(n->op)->max_in;
    n->op = OP_FUSED;
    n->n_attr = 0;
    n->rule = rule;
    n->body = body;
}

/* The body's input for v, which the chain reads; behind it in in[] is what lowering added. */
static Value *chain_input(Node *n, Value *v) {
    size_t k = 0;
    for (int i = 0; i < n->n_body_in; i++) {
        if (i >= n->n_kernel_in && n->in[i] == v) return n->body->inputs.at[k];
        if (n->in[i]) k++;
    }
    memmove(&n->in[n->n_body_in + 1], &n->in[n->n_body_in], (size_t)(n->n_in - n->n_body_in) * sizeof *n->in);
    n->in[n->n_body_in++] = v;
    n->n_in++;
    return fuse_body_input(n->body, v);
}

/* From now on n reads v in e's stead. */
static void reads_instead(const Value *v, const Node *e, Node *n) {
    NodeList *l = v->mark;
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i] == e) l->at[i] = n;
}

static void absorb(Node *n, const Node *e) {
    Value *in[MAX_IN] = {0}, *tail = n->body->outputs.at[0];
    for (int i = 0; i < e->n_in; i++) {
        in[i] = e->in[i] == n->out[0] ? tail : chain_input(n, e->in[i]);
        reads_instead(e->in[i], e, n);
    }
    graph_set_output(n->body, 0, fuse_body_node(n->body, e, in)->out[0]);
    n->out[0] = e->out[0];
    n->out[0]->def = n;
    n->out[0]->index = 0;
}

/* --- chains ------------------------------------------------------------------------------------------------------- */

/* NULL when e can go into n, else why not. */
static const char *obstacle(const Chain *c, const Node *n, const Node *e) {
    int room = n->op == OP_FUSED ? n->n_in : op_info(n->op)->max_in;
    for (int i = 0; i < e->n_in; i++) {
        if (e->in[i] == n->out[0]) continue;
        bool *seen = arena_array(c->tmp, c->g->nodes.n, sizeof *seen);
        if (comes_after(c, e->in[i]->def, n, seen))
            return arena_printf(c->tmp, "%s reads %s, which depends on it by another way", node_name(e),
                                e->in[i]->name);
        if (++room > MAX_IN) return arena_printf(c->tmp, "%s would be input %d", e->in[i]->name, room);
    }
    return NULL;
}

/* Takes all that follows n into it. */
static void grow(Chain *c, Node *n) {
    Node *e = follower(n);
    int at = n->id;
    if (!e || !c->accepts(c->ctx, n)) return;
    const FuseOff *off = fuse_off_here(c->off, "elementwise", n);
    if (off) record(c, n, FUSE_REFUSED, arena_printf(c->tmp, "--no-fusion %s@%s", off->rule, off->scope));
    if (off) return;
    Text what = {0};
    const char *why = NULL;
    for (; e && !(why = obstacle(c, n, e)); e = follower(n)) {
        text_add(&what, "%s%s", what.n ? ", " : "", op_info(e->op)->name);
        if (n->op != OP_FUSED) fuse_wrap(c->g, n, "elementwise");
        absorb(n, e);
        c->at[at] = NULL;
        c->at[at = e->id] = n;
    }
    if (what.n) record(c, n, FUSE_DONE, what.at);
    if (why) record(c, n, FUSE_REFUSED, why);
    text_free(&what);
}

/* Nodes by position: those that were inlined are skipped, those that moved are met again and were done. */
static void grow_all(Chain *c) {
    for (size_t i = 0; i < c->g->nodes.n; i++) {
        Node *n = c->at[i];
        if (!n || c->done[n->id]) continue;
        c->done[n->id] = true;
        grow(c, n);
    }
    size_t k = 0;
    for (size_t i = 0; i < c->g->nodes.n; i++)
        if (c->at[i]) c->g->nodes.at[k++] = c->at[i];
    c->g->nodes.n = k;
}

bool fuse_elementwise(Graph *g, bool (*accepts)(void *ctx, const Node *n), void *ctx, FuseOffList *off, FuseLog *log, Err *e) {
    Arena *tmp = arena_new();
    Chain c = {.g = g, .tmp = tmp, .log = log, .off = off, .accepts = accepts, .ctx = ctx};
    c.at = arena_array(tmp, g->nodes.n, sizeof *c.at);
    c.done = arena_array(tmp, g->nodes.n, sizeof *c.done);
    memcpy(c.at, g->nodes.at, g->nodes.n * sizeof *c.at);
    readers_build(tmp, g);
    grow_all(&c);
    graph_sort(g);
    arena_free(tmp);
    return graph_verify(g, e);
}
