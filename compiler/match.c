/* match.c - unifies a rule's pattern with a graph, by backtracking.
 * needs: nodes in order; readers_build
 *
 * The root, the pattern's last node, is tried at a given node; every other pattern node is reached from those matched
 * before: it computes a value that is bound (one candidate), or it reads one (each reader of that value is a candidate, so
 * patterns with several outputs find their other branches). Two more choices: add and mul fit either way round.
 * A pattern has a handful of nodes, so a choice simply copies the match.
 *
 * Casts: where the pattern passes a value from one of its nodes to another, the graph may have casts between the two. A
 * placeholder stands for exactly the value that the node reads. A cast that the pattern marks maybe() is matched where the graph has
 * it; where not, its input stands for it: so one rule has a value and its rounding, in fast, and just the value in strict. */
#include "match.h"

/* --- readers ------------------------------------------------------------------------------------------------------ */

static void no_readers(Arena *a, const ValueList *l) {
    for (size_t i = 0; i < l->n; i++) l->at[i]->mark = arena_alloc(a, sizeof(NodeList));
}

void readers_build(Arena *a, const Graph *g) {
    no_readers(a, &g->inputs);
    no_readers(a, &g->params);
    no_readers(a, &g->states);
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        n->id = (int)i;
        for (int k = 0; k < n->n_in; k++) {
            NodeList *l = n->in[k] ? n->in[k]->mark : NULL;
            if (l && (!l->n || l->at[l->n - 1] != n)) PUSH(a, *l, n);
        }
        for (int k = 0; k < n->n_out; k++) n->out[k]->mark = arena_alloc(a, sizeof(NodeList));
    }
}

const NodeList *readers(const Value *v) { return v->mark; }

/* --- patterns ----------------------------------------------------------------------------------------------------- */

static bool placeholder(const Value *pv) { return !pv->def; }

static bool optional_cast(const Rule *r, const Node *pn) { return r->optional_cast && r->optional_cast[pn->id]; }

static bool number(Pattern *p, Err *e) {
    const Rule *r = p->rule;
    const Graph *g = r->pattern;
    size_t n = 0;
    for (size_t i = 0; i < g->inputs.n; i++) g->inputs.at[i]->id = (int)n++;
    for (size_t i = 0; i < g->nodes.n; i++) {
        g->nodes.at[i]->id = (int)i;
        for (int k = 0; k < g->nodes.at[i]->n_out; k++) g->nodes.at[i]->out[k]->id = (int)n++;
    }
    if (!pattern_root(p)) return err_at(e, &r->loc, "rule %s: the pattern has no op", r->name);
    if (g->nodes.n > PATTERN_NODES || n > PATTERN_VALUES || g->inputs.n > MAX_IN || g->outputs.n > MAX_OUT)
        return err_at(e, &r->loc, "rule %s: the pattern is too large (at most %d ops, %d inputs, %d outputs)", r->name,
                      PATTERN_NODES, MAX_IN, MAX_OUT);
    return true;
}

/* Does pattern node n share a value with one that is planned? as_producer: is one of its outputs read by such a node? */
static bool touches(const Node *n, const bool *planned_value, bool as_producer) {
    for (int i = 0; i < n->n_out && as_producer; i++)
        if (planned_value[n->out[i]->id]) return true;
    for (int i = 0; i < n->n_in && !as_producer; i++)
        if (n->in[i] && planned_value[n->in[i]->id]) return true;
    return false;
}

static Node *next_in_plan(const Graph *g, const bool *planned, const bool *planned_value) {
    for (int as_producer = 1; as_producer >= 0; as_producer--)
        for (size_t i = g->nodes.n; i-- > 0;)
            if (!planned[i] && touches(g->nodes.at[i], planned_value, as_producer)) return g->nodes.at[i];
    return NULL;
}

static bool plan(Pattern *p, Err *e) {
    const Rule *r = p->rule;
    const Graph *g = r->pattern;
    bool planned[PATTERN_NODES] = {0}, value[PATTERN_VALUES] = {0};
    for (size_t k = 0; k < g->nodes.n; k++) {
        Node *n = k ? next_in_plan(g, planned, value) : pattern_root(p);
        if (!n) return err_at(e, &r->loc, "rule %s: the pattern falls into parts that share no value; see docs/fusions.md, match", r->name);
        p->plan[k] = n;
        planned[n->id] = true;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i]) value[n->in[i]->id] = true;
        for (int i = 0; i < n->n_out; i++) value[n->out[i]->id] = true;
    }
    for (size_t i = 0; i < g->inputs.n; i++)
        if (!value[g->inputs.at[i]->id])
            return err_at(e, &r->loc, "rule %s: the pattern does not use %s", r->name, g->inputs.at[i]->name);
    return true;
}

static bool check_outputs(const Rule *r, Err *e) {
    const Graph *g = r->pattern;
    if (!g->outputs.n) return err_at(e, &r->loc, "rule %s: the pattern returns nothing", r->name);
    for (size_t i = 0; i < g->outputs.n; i++) {
        if (placeholder(g->outputs.at[i]))
            return err_at(e, &r->loc, "rule %s: the pattern returns its input %s", r->name, g->outputs.at[i]->name);
        for (size_t k = 0; k < i; k++)
            if (g->outputs.at[k] == g->outputs.at[i])
                return err_at(e, &r->loc, "rule %s: the pattern returns the same value twice", r->name);
    }
    for (size_t i = 0; i < g->nodes.n; i++) {
        const OpInfo *o = op_info(g->nodes.at[i]->op);
        if (r->recompute && r->recompute[i] && !(o->flags & OPF_CHEAP))
            return err_at(e, &r->loc, "rule %s: %s is not cheap enough to recompute", r->name, o->name);
    }
    return true;
}

Node *pattern_root(const Pattern *p) {
    const NodeList *l = &p->rule->pattern->nodes;
    for (size_t i = l->n; i-- > 0;)
        if (!optional_cast(p->rule, l->at[i])) return l->at[i];
    return NULL;
}

bool pattern_open(Pattern *p, const Rule *r, Err *e) {
    *p = (Pattern){.rule = r};
    return number(p, e) && plan(p, e) && check_outputs(r, e);
}

/* --- unification -------------------------------------------------------------------------------------------------- */

static bool bind(Match *m, const Value *pv, Value *gv) {
    if (m->bound[pv->id]) return m->value[pv->id] == gv;
    m->bound[pv->id] = true;
    m->value[pv->id] = gv;
    return true;
}

static bool add_cast(Match *m, Node *cast) {
    for (int i = 0; i < m->n_cast; i++)
        if (m->cast[i] == cast) return true;
    if (m->n_cast == MATCH_CASTS) return false;
    m->cast[m->n_cast++] = cast;
    return true;
}

static bool is_cast(const Value *v) { return v->def && v->def->op == OP_cast; }

/* How a node's input compares with the pattern's. */
typedef enum Fit { FITS, EXTRA, ABSENT, OTHER_VALUE, OTHER_OP, OTHER_RESULT, MANY_CASTS } Fit;

static Fit bind_optional_cast(Match *m, const Value *pv, Value *gv);

static Fit bind_input(Match *m, const Value *pv, Value *gv) {
    if (!pv) return gv ? EXTRA : FITS;
    if (placeholder(pv)) {
        bool optional =
            m->pattern->rule->optional && m->pattern->rule->optional[pv->id]; /* inputs are numbered first */
        if (!gv && !optional) return ABSENT;
        return bind(m, pv, gv) ? FITS : OTHER_VALUE;
    }
    if (!gv) return ABSENT;
    if (optional_cast(m->pattern->rule, pv->def)) return bind_optional_cast(m, pv, gv);
    for (; is_cast(gv) && pv->def->op != OP_cast; gv = gv->def->in[0])
        if (!add_cast(m, gv->def)) return MANY_CASTS;
    if (!gv->def || gv->def->op != pv->def->op) return OTHER_OP;
    if (gv->index != pv->index) return OTHER_RESULT;
    return bind(m, pv, gv) ? FITS : OTHER_VALUE;
}

static double number_of(const Attr *a) { return a->type == ATTR_INT ? (double)a->i : a->f; }

static bool same_attr(const Attr *x, const Attr *y) {
    if (!x || !y || (x->type == ATTR_STR) != (y->type == ATTR_STR)) return false;
    return x->type == ATTR_STR ? !strcmp(x->s, y->s) : number_of(x) == number_of(y);
}

/* The first attribute that the pattern names and the graph's node has otherwise; NULL: there is none. */
static const Attr *other_attr(const Node *pn, const Node *gn) {
    for (int i = 0; i < pn->n_attr; i++)
        if (!same_attr(&pn->attr[i], node_attr(gn, pn->attr[i].name))) return &pn->attr[i];
    return NULL;
}

/* Is the optional cast pn absent? */
static bool lacks(const Match *m, const Node *pn) {
    int in = pn->in[0]->id, out = pn->out[0]->id;
    return m->bound[in] && m->bound[out] && m->value[in] == m->value[out];
}

static Fit bind_optional_cast(Match *m, const Value *pv, Value *gv) {
    const Value *source = pv->def->in[0];
    bool bound = m->bound[pv->id];
    if (bound && !lacks(m, pv->def)) return m->value[pv->id] == gv ? FITS : OTHER_VALUE;
    if (!bound && is_cast(gv) && !other_attr(pv->def, gv->def)) return bind(m, pv, gv) ? FITS : OTHER_VALUE;
    Fit fit = bind_input(m, source, gv);
    return fit != FITS || bind(m, pv, m->value[source->id]) ? fit : OTHER_VALUE;
}

/* Nobody casts v as pn does. */
static bool uncast(const Node *pn, const Value *v) {
    const NodeList *l = readers(v);
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i]->op == OP_cast && !other_attr(pn, l->at[i])) return false;
    return true;
}

static bool is_matched(const Match *m, const Node *gn) {
    for (size_t i = 0; i < m->pattern->rule->pattern->nodes.n; i++)
        if (m->node[i] == gn) return true;
    return false;
}

static Value *input(const Node *n, int i) { return i < n->n_in ? n->in[i] : NULL; }

/* --- search ------------------------------------------------------------------------------------------------------- */

typedef struct Search Search;
struct Search {
    const Pattern *pattern;
    bool (*accept)(void *ctx, const Match *m);
    void *ctx;
    Miss *miss;
};

/* Ops are counted first, then the inputs of the one that does not fit. */
static bool is_nearer(const Search *s, size_t ops, int inputs) { return (int)ops * MAX_IN + inputs > s->miss->score; }

static bool note(const Search *s, size_t ops, int inputs, const char *fmt, ...) PRINTF(4, 5);
static bool note(const Search *s, size_t ops, int inputs, const char *fmt, ...) {
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *after =
        ops ? arena_printf(s->miss->a, "after %zu of its %zu ops: ", ops, s->pattern->rule->pattern->nodes.n) : "";
    s->miss->score = (int)ops * MAX_IN + inputs;
    s->miss->what = arena_printf(s->miss->a, "%s%s", after, text);
    return false;
}

/* What the graph has; casts, which the pattern need not name, are looked through, so that fast and strict say the same. */
static const char *described(Arena *a, const Value *v) {
    while (is_cast(v)) v = v->def->in[0];
    static const char *const kind[] = {
        [VALUE_INPUT] = "the input", [VALUE_PARAM] = "the weight", [VALUE_STATE] = "the state"};
    if (!v->def) return arena_printf(a, "%s %s", kind[v->kind], v->name);
    if (v->def->n_out > 1)
        return arena_printf(a, "%s, result %d of %s", v->name, v->index + 1, op_info(v->def->op)->name);
    return arena_printf(a, "%s, the result of %s", v->name, op_info(v->def->op)->name);
}

static const char *wanted(Arena *a, const Rule *r, const Value *pv) {
    if (!pv) return "nothing";
    while (pv->def && optional_cast(r, pv->def)) pv = pv->def->in[0];
    if (placeholder(pv)) return pv->name;
    const char *op = op_info(pv->def->op)->name;
    return pv->def->n_out > 1 ? arena_printf(a, "result %d of %s", pv->index + 1, op) : op;
}

/* Input i of gn (of a rule's op: as the pattern has it) does not fit. */
static bool note_input(const Search *s, const Match *m, size_t ops, const Node *gn, int i, const Value *pv,
                       const Value *gv, Fit fit) {
    Arena *a = s->miss->a;
    const char *at = arena_printf(a, "%s at %s", op_info(gn->op)->name, node_name(gn)),
               *name = op_input_name(a, gn->op, i);
    if (!name) name = "input";
    if (fit == MANY_CASTS) return note(s, ops, i, "%s: more than %d casts", at, MATCH_CASTS);
    if (fit == ABSENT) return note(s, ops, i, "%s has no %s, where the pattern has %s", at, name, wanted(a, s->pattern->rule, pv));
    if (fit != OTHER_VALUE || !placeholder(pv))
        return note(s, ops, i, "%s: its %s is %s, where the pattern has %s", at, name, described(a, gv), wanted(a, s->pattern->rule, pv));
    const Value *before = m->value[pv->id];
    return note(s, ops, i, "%s: its %s is %s%s, but %s stands for %s%s before", at, name, gv ? gv->name : "absent",
                gv && is_cast(gv) ? " (a cast)" : "", pv->name, before ? before->name : "nothing",
                before && is_cast(before) ? " (a cast)" : "");
}

static const char *attr_text(Arena *a, const Attr *x) {
    if (!x) return "absent";
    return x->type == ATTR_STR   ? x->s
           : x->type == ATTR_INT ? arena_printf(a, "%lld", (long long)x->i)
                                 : arena_printf(a, "%g", x->f);
}

static bool note_attr(const Search *s, size_t ops, const Node *gn, const Attr *want) {
    Arena *a = s->miss->a;
    return note(s, ops, 0, "%s at %s: its %s is %s, where the pattern has %s", op_info(gn->op)->name, node_name(gn),
                want->name, attr_text(a, node_attr(gn, want->name)), attr_text(a, want));
}

/* "linear layer0.router, …": who reads v, through casts too; the first four of them. */
static void list_readers(Text *t, int *n, const Value *v) {
    const NodeList *l = readers(v);
    for (size_t i = 0; i < l->n; i++) {
        const Node *r = l->at[i];
        if (r->op == OP_cast) list_readers(t, n, r->out[0]);
        else if ((*n)++ < 4) text_add(t, "%s%s %s", t->n ? ", " : "", op_info(r->op)->name, node_name(r));
    }
}

/* Nobody who reads v is what the pattern has there. */
static bool note_readers(const Search *s, size_t ops, const Node *pn, const Value *v) {
    Text list = {0};
    int n = 0;
    list_readers(&list, &n, v);
    if (n > 4) text_add(&list, " and %d more", n - 4);
    note(s, ops, 0, "%s is read by %s, where the pattern has %s", described(s->miss->a, v), n ? list.at : "nobody",
         op_info(pn->op)->name);
    text_free(&list);
    return false;
}

/* Pattern node pn, the k-th, stands for graph node gn; swap: with gn's first two inputs exchanged. */
static bool unify(const Search *s, Match *m, size_t k, Node *gn, bool swap) {
    const Node *pn = s->pattern->plan[k];
    if (pn->op != gn->op || is_matched(m, gn)) return false;
    const Attr *other = other_attr(pn, gn);
    if (other) return is_nearer(s, k, 0) && note_attr(s, k, gn, other);
    m->node[pn->id] = gn;
    for (int i = 0; i < pn->n_out; i++)
        if (!bind(m, pn->out[i], gn->out[i])) return false;
    for (int i = 0; i < pn->n_in || i < gn->n_in; i++) {
        const Value *pv = input(pn, i);
        Value *gv = input(gn, swap && i < 2 ? 1 - i : i);
        Fit fit = bind_input(m, pv, gv);
        if (fit != FITS) return is_nearer(s, k, i) && note_input(s, m, k, gn, i, pv, gv, fit);
    }
    return true;
}

static bool extend(const Search *s, const Match *m, size_t k);

static bool try_node(const Search *s, const Match *m, size_t k, Node *gn) {
    const Node *pn = s->pattern->plan[k];
    bool commutes = op_info(pn->op)->flags & OPF_COMMUTES && gn->in[0] != gn->in[1];
    if (s->miss->tries++ >= MATCH_TRIES) return false;
    for (int swap = 0; swap <= commutes; swap++) {
        Match next = *m;
        if (unify(s, &next, k, gn, swap) && extend(s, &next, k + 1)) return true;
    }
    return false;
}

/* Whoever reads v, directly or through casts. */
static bool try_readers(const Search *s, const Match *m, size_t k, const Value *v) {
    const NodeList *l = readers(v);
    for (size_t i = 0; i < l->n; i++) {
        if (try_node(s, m, k, l->at[i])) return true;
        if (l->at[i]->op == OP_cast && try_readers(s, m, k, l->at[i]->out[0])) return true;
    }
    return false;
}

static bool extend(const Search *s, const Match *m, size_t k) {
    if (k == s->pattern->rule->pattern->nodes.n) return s->accept(s->ctx, m);
    const Node *pn = s->pattern->plan[k];
    bool optional = optional_cast(s->pattern->rule, pn);
    if (optional && lacks(m, pn)) return extend(s, m, k + 1);
    for (int i = 0; i < pn->n_out; i++)
        if (m->bound[pn->out[i]->id]) return try_node(s, m, k, m->value[pn->out[i]->id]->def);
    for (int i = 0; i < pn->n_in; i++) {
        const Value *pv = pn->in[i];
        if (!pv || !m->bound[pv->id] || !m->value[pv->id]) continue;
        if (optional && uncast(pn, m->value[pv->id])) {
            Match next = *m;
            return bind(&next, pn->out[0], m->value[pv->id]) && extend(s, &next, k + 1);
        }
        if (try_readers(s, m, k, m->value[pv->id])) return true;
        return is_nearer(s, k, 0) && note_readers(s, k, pn, m->value[pv->id]);
    }
    return false;
}

bool match_at(const Pattern *p, Node *root, bool (*accept)(void *ctx, const Match *m), void *ctx, Miss *miss) {
    Search s = {p, accept, ctx, miss};
    Match m = {.pattern = p};
    return try_node(&s, &m, 0, root);
}
