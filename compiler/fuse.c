/* fuse.c - replace each matched subgraph by one node that a template computes.
 * needs: nodes in order    breaks: marks, ids
 * A fused node keeps what it replaced as its body; so it can be checked and explained.
 *
 * The graph stays as it is while the rules are tried: a match that is accepted is noted as a Group, whose nodes are then
 * taken. So a later rule still sees what it would have matched, and the log can say which rule it lost to. At the end the
 * groups' nodes leave and the fused ones take their places.
 * Add a fusion in lua/fusions/, not here. */
#include "fuse.h"

#include "ir/map.h"
#include "match.h"
#include "scope.h"

typedef struct Group Group; /* an accepted match */
struct Group {
    Node *fused;     /* in, out, body; not in the graph before the end */
    NodeList copied; /* nodes that it recomputes: duplicated into its body, the originals stay */
    Node *last;      /* of its own nodes, by position: where the fused node goes */
    int priority;    /* its rule's */
};

typedef struct Fuser Fuser;
struct Fuser {
    Front *front;
    Graph *g;
    Arena *tmp;
    FuseLog *log;
    FuseOffList *off;
    Err *e;
    bool failed;     /* e is set */
    int tries;       /* of all rules (match.h) */
    Map updater;     /* value -> the node that updates it */
    NodeList todo;   /* check_cycle's, used again */
    int *seen, walk; /* by Node.id: in which walk of check_cycle it was last seen */
    Group **taken;   /* by Node.id: the group that a node is in */
    const char *why; /* of the match being tried: the first refusal */
    char done[80];   /* what the accepted match did */
};

/* A match being looked at: its nodes and the casts between them, in the graph's order. */
typedef struct Trial Trial;
struct Trial {
    const Match *m;
    NodeList nodes;
    bool *inside, *copy; /* by Node.id: it is in the match; and recomputed */
};

/* --- log ---------------------------------------------------------------------------------------------------------- */

static void record(Fuser *f, const Rule *r, const char *node, FuseOutcome outcome, const char *why) {
    Arena *a = f->g->arena;
    FuseEvent ev = {r->name, f->g->name, node, outcome, arena_strdup(a, why)};
    if (f->log) PUSH(a, *f->log, ev);
}

static bool refuse(Fuser *f, const char *fmt, ...) PRINTF(2, 3);
static bool refuse(Fuser *f, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!f->why) f->why = arena_strdup(f->tmp, text);
    return false;
}

/* --- may this match be fused? ------------------------------------------------------------------------------------- */

static const Graph *pattern_of(const Trial *t) { return t->m->pattern->rule->pattern; }

/* The pattern's node that stands for n, -1 for a cast that the pattern does not name. */
static int pattern_index(const Trial *t, const Node *n) {
    for (size_t i = 0; i < pattern_of(t)->nodes.n; i++)
        if (t->m->node[i] == n) return (int)i;
    return -1;
}

static bool exported(const Trial *t, const Value *v) {
    const ValueList *out = &pattern_of(t)->outputs;
    for (size_t i = 0; i < out->n; i++)
        if (t->m->value[out->at[i]->id] == v) return true;
    return false;
}

static void add_in_order(Fuser *f, Trial *t, Node *n) {
    PUSH(f->tmp, t->nodes, n);
    t->inside[n->id] = true;
    for (size_t i = t->nodes.n - 1; i && t->nodes.at[i - 1]->id > n->id; i--)
        t->nodes.at[i] = t->nodes.at[i - 1], t->nodes.at[i - 1] = n;
}

static Trial trial_of(Fuser *f, const Match *m) {
    Trial t = {.m = m};
    t.inside = arena_array(f->tmp, f->g->nodes.n, sizeof *t.inside);
    t.copy = arena_array(f->tmp, f->g->nodes.n, sizeof *t.copy);
    for (size_t i = 0; i < pattern_of(&t)->nodes.n; i++)
        if (m->node[i]) add_in_order(f, &t, m->node[i]);
    for (int i = 0; i < m->n_cast; i++)
        if (!t.inside[m->cast[i]->id]) add_in_order(f, &t, m->cast[i]);
    return t;
}

static bool has_copy(const Group *grp, const Node *n) {
    for (size_t i = 0; grp && i < grp->copied.n; i++)
        if (grp->copied.at[i] == n) return true;
    return false;
}

/* Somebody who will read v after fusion and is not in the match; NULL when nobody is. An original that stays because
 * it is copied reads too; a group that recomputes v does not. */
static const Node *outside_reader(const Fuser *f, const Trial *t, const Value *v) {
    const NodeList *l = readers(v);
    for (size_t i = 0; i < l->n; i++) {
        const Node *r = l->at[i];
        if (t->inside[r->id] ? t->copy[r->id] : !has_copy(f->taken[r->id], v->def)) return r;
    }
    return NULL;
}

/* For a message: a cast, which only fast has, reads for those behind it. */
static const Node *behind_casts(const Node *n) {
    while (n->op == OP_cast && readers(n->out[0])->n) n = readers(n->out[0])->at[0];
    return n;
}

/* Values that others read are exported or recomputed. From the last node to the first: a copied node's inputs are read by
 * the original. A cast is copied unasked, whether the pattern names it or not. */
static bool check_readers(Fuser *f, Trial *t) {
    const Rule *rule = t->m->pattern->rule;
    for (size_t i = t->nodes.n; i-- > 0;) {
        Node *n = t->nodes.at[i];
        int k = pattern_index(t, n);
        for (int j = 0; j < n->n_out; j++) {
            const Value *v = n->out[j];
            if (exported(t, v)) continue;
            const Node *r = outside_reader(f, t, v);
            bool output = v->is_output, may_copy = k < 0 || rule->optional_cast[k] || rule->recompute[k];
            if ((r || output) && may_copy) t->copy[n->id] = true;
            else if (output) return refuse(f, "%s is an output of the graph (export it or mark it recompute)", v->name);
            else if (r)
                return refuse(f, "%s is read by %s too (export it or mark it recompute)", v->name,
                              node_name(behind_casts(r)));
        }
        for (int j = 0; j < n->n_out && t->copy[n->id]; j++)
            if (exported(t, n->out[j])) return refuse(f, "%s cannot be both recomputed and exported", n->out[j]->name);
    }
    return true;
}

/* A pattern with two like branches fits once more from its other end. */
static bool is_same_again(const Fuser *f, const Trial *t, const Group *grp) {
    for (size_t i = 0; i < t->nodes.n; i++)
        if (f->taken[t->nodes.at[i]->id] != grp) return false;
    return !strcmp(grp->fused->rule, t->m->pattern->rule->name);
}

static bool check_overlap(Fuser *f, const Trial *t) {
    for (size_t i = 0; i < t->nodes.n; i++) {
        const Group *grp = f->taken[t->nodes.at[i]->id];
        if (grp && is_same_again(f, t, grp)) return false;
        if (grp)
            return refuse(f, "overlaps rule %s (priority %d, this one %d) at %s", grp->fused->rule, grp->priority,
                          t->m->pattern->rule->priority, node_name(grp->fused));
    }
    return true;
}

/* Walking back from what the fused node would read, with accepted groups as single nodes: coming to a node of the match
 * means that fusing makes a cycle. Whoever updates a state comes after those that read the old one. */
typedef struct Walk Walk;
struct Walk {
    Fuser *f;
    const Trial *t;
};

/* What n will be part of: the match, a group, or nothing but itself. */
static const void *unit(const Walk *w, const Node *n) {
    if (w->t->inside[n->id] && !w->t->copy[n->id]) return w->t;
    return w->f->taken[n->id] ? (const void *)w->f->taken[n->id] : n;
}

static void visit(Walk *w, Node *n) {
    if (!n || w->f->seen[n->id] == w->f->walk) return;
    w->f->seen[n->id] = w->f->walk;
    PUSH(w->f->tmp, w->f->todo, n);
}

/* What comes before `reader`, a unit, because it reads v: who computes v, and, if it updates v, who else reads v. */
static void visit_before(Walk *w, const Value *v, const void *reader) {
    visit(w, v->def);
    const Node *updater = map_get_ptr(&w->f->updater, v);
    if (!updater || unit(w, updater) != reader) return;
    const NodeList *l = readers(v);
    for (size_t k = 0; k < l->n; k++)
        if (unit(w, l->at[k]) != reader) visit(w, l->at[k]);
}

static const Node *walk_into_match(Walk *w) {
    while (w->f->todo.n) {
        const Node *n = w->f->todo.at[--w->f->todo.n];
        if (unit(w, n) == w->t) return n;
        const Group *grp = w->f->taken[n->id];
        const Node *reads = grp ? grp->fused : n;
        for (int i = 0; i < reads->n_in; i++)
            if (reads->in[i]) visit_before(w, reads->in[i], unit(w, n));
    }
    return NULL;
}

static bool check_cycle(Fuser *f, const Trial *t) {
    const ValueList *in = &pattern_of(t)->inputs;
    Walk w = {f, t};
    f->walk++, f->todo.n = 0;
    for (size_t i = 0; i < in->n; i++) {
        const Value *v = t->m->value[in->at[i]->id];
        if (v) visit_before(&w, v, t);
        const Node *n = walk_into_match(&w);
        if (n)
            return refuse(f, "it would make a cycle: its input %s waits for %s, which it computes", v->name,
                          node_name(n));
    }
    return true;
}

static const Node *root_of(const Match *m) { return m->node[pattern_root(m->pattern)->id]; }

static bool check_when(Fuser *f, const Match *m) {
    const Rule *r = m->pattern->rule;
    bool failed = false;
    if (r->when < 0) return true;
    const char *scope = loc_path(f->tmp, &root_of(m)->loc);
    bool yes = front_when(f->front, r, m->value, m->node, r->pattern->nodes.n, scope, &failed, f->e);
    if (failed) f->failed = true;
    return yes && !failed ? true : refuse(f, "when() said no");
}

/* --- the fused node ----------------------------------------------------------------------------------------------- */

Value *fuse_body_input(Graph *body, const Value *v) {
    const char *name = v->name;
    for (int i = 2; graph_find(body, name); i++) name = arena_printf(body->arena, "%s$%d", v->name, i);
    Value *b = graph_input(body, name, v->type);
    b->loc = v->loc;
    return b;
}

Node *fuse_body_node(Graph *body, const Node *n, Value *const *in) {
    Err e;
    Node *b = graph_add(body, n->op, in, n->n_in, n->attr, n->n_attr, n->out[0]->name, n->loc, &e);
    if (!b) die("fuse: the body cannot compute %s: %s", node_name(n), e.msg);
    for (int i = 0; i < n->n_out; i++) b->out[i]->name = n->out[i]->name;
    return b;
}

static Value *in_body(const Trial *t, const Node *fused, const ValueList *made, const Value *v);

/* The nodes' values are found by name: names are unique in the graph. Inputs come first in the body's list. */
static void fill_body(const Trial *t, Node *fused) {
    Graph *body = fused->body;
    ValueList made = {0};
    for (int i = 0; i < fused->n_in; i++)
        if (fused->in[i]) PUSH(body->arena, made, fuse_body_input(body, fused->in[i]));
    for (size_t i = 0; i < t->nodes.n; i++) {
        const Node *n = t->nodes.at[i];
        Value *in[MAX_IN] = {0};
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k]) in[k] = in_body(t, fused, &made, n->in[k]);
        fuse_body_node(body, n, in);
    }
    for (int i = 0; i < fused->n_out; i++) graph_output(body, graph_find(body, fused->out[i]->name));
    fused->hook = body->outputs.at[0];
}

/* What stands for v in the body: a value of the match, or the input of the first placeholder that is bound to it. */
static Value *in_body(const Trial *t, const Node *fused, const ValueList *made, const Value *v) {
    if (v->def && t->inside[v->def->id]) return graph_find(fused->body, v->name);
    size_t k = 0;
    for (int i = 0; i < fused->n_in; i++) {
        if (fused->in[i] == v) return made->at[k];
        if (fused->in[i]) k++;
    }
    die("fuse: rule %s: %s comes from outside but is no input", fused->rule, v->name);
}

/* Where an optional cast is absent, the value that stands for it may be an output itself. */
static void add_output(Node *n, Value *v) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] == v) return;
    n->out[n->n_out++] = v;
}

static Node *fused_node(const Fuser *f, const Trial *t) {
    const Rule *r = t->m->pattern->rule;
    Node *n = arena_alloc(f->g->arena, sizeof *n);
    n->op = OP_FUSED;
    n->rule = arena_strdup(f->g->arena, r->name);
    n->loc = root_of(t->m)->loc;
    n->n_in = n->n_kernel_in = n->n_body_in = (int)r->pattern->inputs.n;
    for (int i = 0; i < n->n_in; i++) n->in[i] = t->m->value[r->pattern->inputs.at[i]->id];
    for (size_t i = 0; i < r->pattern->outputs.n; i++) add_output(n, t->m->value[r->pattern->outputs.at[i]->id]);
    n->n_kernel = r->n_kernel;
    memcpy(n->kernel, r->kernel, sizeof n->kernel);
    n->body = graph_new(f->g->arena, r->name);
    fill_body(t, n);
    return n;
}

static void take(Fuser *f, const Trial *t) {
    Group *grp = arena_alloc(f->tmp, sizeof *grp);
    grp->fused = fused_node(f, t);
    grp->priority = t->m->pattern->rule->priority;
    for (size_t i = 0; i < t->nodes.n; i++) {
        Node *n = t->nodes.at[i];
        if (t->copy[n->id]) {
            PUSH(f->tmp, grp->copied, n);
        } else {
            f->taken[n->id] = grp;
            grp->last = n;
        }
    }
    int k = snprintf(f->done, sizeof f->done, "%zu node%s", t->nodes.n, t->nodes.n == 1 ? "" : "s");
    if (grp->copied.n) snprintf(f->done + k, sizeof f->done - (size_t)k, ", %zu of them recomputed", grp->copied.n);
}

/* --- rules -------------------------------------------------------------------------------------------------------- */

static bool check_off(Fuser *f, const Match *m) {
    const FuseOff *off = fuse_off_here(f->off, m->pattern->rule->name, root_of(m));
    return !off || refuse(f, "--no-fusion %s@%s", off->rule, off->scope);
}

/* match_at's callback: true ends the search, on success or on an error. */
static bool try_match(void *ctx, const Match *m) {
    Fuser *f = ctx;
    if (!check_when(f, m)) return f->failed;
    Trial t = trial_of(f, m);
    if (!check_readers(f, &t) || !check_overlap(f, &t) || !check_cycle(f, &t) || !check_off(f, m)) return false;
    take(f, &t);
    return true;
}

static bool has_op(const Graph *g, Op op) {
    for (size_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i]->op == op) return true;
    return false;
}

/* The rule fits nowhere in the graph. */
static void record_miss(Fuser *f, const Pattern *p, const Miss *miss) {
    const NodeList *ops = &p->rule->pattern->nodes;
    const char *what = miss->what;
    for (size_t i = 0; !what && i < ops->n; i++)
        if (!has_op(f->g, ops->at[i]->op)) what = arena_printf(f->tmp, "there is no %s", op_info(ops->at[i]->op)->name);
    if (!what) what = "its ops are there, but not joined as in the pattern";
    record(f, p->rule, "*", FUSE_MISSED, what);
    if (f->log) f->log->at[f->log->n - 1].score = miss->score;
}

static bool apply(Fuser *f, const Rule *r) {
    Pattern p;
    Miss miss = {.a = f->tmp, .score = -1};
    bool met = false;
    if (!pattern_open(&p, r, f->e)) return false;
    for (size_t i = 0; i < f->g->nodes.n; i++) {
        Node *root = f->g->nodes.at[i];
        f->why = NULL;
        bool done = match_at(&p, root, try_match, f, &miss);
        if (f->failed) return false;
        if (miss.tries > MATCH_TRIES || f->tries + miss.tries > ALL_TRIES)
            return err_at(f->e, &r->loc, "rule %s: more than %d nodes were tried for its pattern's: ops that commute can be laid over a graph in too many ways", r->name, miss.tries > MATCH_TRIES ? MATCH_TRIES : ALL_TRIES);
        if (done) record(f, r, node_name(root), FUSE_DONE, f->done);
        else if (f->why) record(f, r, node_name(root), FUSE_REFUSED, f->why);
        met |= done || f->why;
    }
    if (!met) record_miss(f, &p, &miss);
    f->tries += miss.tries;
    return true;
}

/* Each group's fused node at the place of its last node; its other nodes leave. */
static void replace(Fuser *f) {
    NodeList *l = &f->g->nodes;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const Group *grp = f->taken[i];
        if (grp && grp->last != l->at[i]) continue;
        if (grp) l->at[i] = grp->fused;
        l->at[n++] = l->at[i];
        for (int k = 0; grp && k < grp->fused->n_out; k++) {
            grp->fused->out[k]->def = grp->fused;
            grp->fused->out[k]->index = k;
        }
    }
    l->n = n;
    graph_sort(f->g);
    graph_prune(f->g);
}

static bool names(const FuseOff *o, const char *rule) { return !strcmp(o->rule, "all") || !strcmp(o->rule, rule); }

bool fuse_is_off(const FuseOffList *l, const char *rule) {
    for (size_t i = 0; i < l->n; i++)
        if (!l->at[i].scope && names(&l->at[i], rule)) return true;
    return false;
}

const FuseOff *fuse_off_here(FuseOffList *l, const char *rule, const Node *root) {
    const FuseOff *off = NULL;
    Arena *tmp = arena_new();
    const char *path = loc_path(tmp, &root->loc);
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i].scope && names(&l->at[i], rule) && scope_within(path, l->at[i].scope)) l->at[i].kept++, off = &l->at[i];
    arena_free(tmp);
    return off;
}

/* The rules that are on, by descending priority, else in the order of the list. */
static RuleList in_order(Arena *a, const RuleList *rules, const FuseOffList *off) {
    RuleList l = {0};
    for (size_t i = 0; i < rules->n; i++) {
        Rule *r = rules->at[i];
        if (fuse_is_off(off, r->name)) continue;
        PUSH(a, l, r);
        for (size_t k = l.n - 1; k && l.at[k - 1]->priority < r->priority; k--) l.at[k] = l.at[k - 1], l.at[k - 1] = r;
    }
    return l;
}

static void find_updaters(Fuser *f) {
    f->updater.arena = f->tmp;
    for (size_t i = 0; i < f->g->nodes.n; i++) {
        Node *n = f->g->nodes.at[i];
        for (int k = 0; k < n->n_out; k++)
            if (node_state_in(n, k) >= 0) map_put_ptr(&f->updater, n->in[node_state_in(n, k)], n);
    }
}

bool fuse_run(Front *front, Graph *g, const RuleList *rules, FuseOffList *off, FuseLog *log, Err *e) {
    Arena *tmp = arena_new();
    Fuser f = {.front = front, .g = g, .tmp = tmp, .log = log, .off = off, .e = e};
    f.taken = arena_array(tmp, g->nodes.n, sizeof *f.taken);
    f.seen = arena_array(tmp, g->nodes.n, sizeof *f.seen);
    readers_build(tmp, g);
    find_updaters(&f);
    RuleList l = in_order(tmp, rules, off);
    bool ok = true;
    for (size_t i = 0; i < l.n && ok; i++) ok = apply(&f, l.at[i]);
    if (ok && l.n) replace(&f);
    arena_free(tmp);
    return ok && graph_verify(g, e);
}
