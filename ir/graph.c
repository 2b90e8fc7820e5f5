/* graph.c - types, attributes, making and changing graphs, and the checks every pass must leave true. See graph.h.
 *
 * graph_verify is the place for what must hold of every graph; what must hold of one op is its infer_<op> in infer.c. */
#include "graph.h"

#include <stdlib.h>

#include "map.h"

/* --- types -------------------------------------------------------------------------------------------------------- */

bool type_eq(const Type *a, const Type *b) {
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (!dim_eq(a->dim[i], b->dim[i])) return false;
    return true;
}

/* Factors of the elements' count that fit; *n is the product. */
static bool count(const Type *t, const Sizes *s, size_t *n) {
    *n = 1;
    for (int i = 0; i < t->rank; i++) {
        int64_t d = dim_eval(t->dim[i], s);
        if (d < 0 || !size_mul(*n, (size_t)d, n)) return false;
    }
    return *n <= INT64_MAX;
}

int64_t type_count(const Type *t, const Sizes *s) {
    size_t n;
    if (!count(t, s, &n)) die("type_count: the size of a value overflows");
    return (int64_t)n;
}

size_t type_bytes(const Type *t, const Sizes *s) {
    size_t n, bytes;
    if (!count(t, s, &n) || !dtype_bytes(t->dtype, n, &bytes)) die("type_bytes: the size of a value overflows");
    return bytes;
}

char *type_str(Arena *a, const Type *t) {
    if (t->rank < 0) return arena_strdup(a, "?");
    Text s = {0};
    text_add(&s, "%s[", dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++) {
        Dim d = t->dim[i];
        if (i) text_add(&s, ",");
        if (dim_is_const(d) || d.add) text_add(&s, "%lld", (long long)d.add);
        if (dim_is_const(d)) continue;
        if (d.add) text_add(&s, "+");
        if (d.mul != 1) text_add(&s, "%lld*", (long long)d.mul);
        text_add(&s, "%c", " TSP"[d.sym]);
    }
    text_add(&s, "]");
    char *r = arena_strdup(a, s.at);
    text_free(&s);
    return r;
}

/* Sizes of a step are below 2^31, so that anything below 2^31 elements per unit of its symbols cannot overflow. */
bool type_check(const Type *t, Err *e) {
    const size_t most = (size_t)1 << 46;
    size_t n = 1;
    if (t->rank < 0 || t->rank > MAX_RANK) return err_set(e, "a value has at most %d dimensions", MAX_RANK);
    for (int i = 0; i < t->rank; i++) {
        Dim d = t->dim[i];
        int64_t big = (int64_t)1 << 40;
        if (d.add > big || d.mul > big) return err_set(e, "dimension %d is too large", i + 1);
        if (d.sym ? d.mul < 1 || d.add < 0 : d.add < 1 || d.mul) return err_set(e, "dimension %d must be at least 1", i + 1);
        if (!size_mul(n, (size_t)(d.add + d.mul), &n) || n > most) return err_set(e, "the value has too many elements");
    }
    if (t->dtype == DT_MXFP4 && (!t->rank || !dim_is_const(t->dim[t->rank - 1]) || t->dim[t->rank - 1].add % 32))
        return err_set(e, "mxfp4 needs a last dimension that is a multiple of 32");
    return true;
}

/* --- attributes --------------------------------------------------------------------------------------------------- */

const Attr *node_attr(const Node *n, const char *attr) {
    for (int i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, attr)) return &n->attr[i];
    return NULL;
}

static const Attr *need(const Node *n, const char *attr, AttrType type) {
    const Attr *a = node_attr(n, attr);
    if (!a || a->type != type)
        die("%s (%s) has no attribute %s of type %c", node_name(n), op_info(n->op)->name, attr, "ifs"[type]);
    return a;
}

int64_t node_int(const Node *n, const char *attr) { return need(n, attr, ATTR_INT)->i; }
double node_float(const Node *n, const char *attr) { return need(n, attr, ATTR_FLOAT)->f; }
const char *node_str(const Node *n, const char *attr) { return need(n, attr, ATTR_STR)->s; }

static void set(Node *n, Attr a) {
    int i = 0;
    while (i < n->n_attr && strcmp(n->attr[i].name, a.name)) i++;
    if (i == MAX_ATTR) die("%s: more than %d attributes", node_name(n), MAX_ATTR);
    if (i == n->n_attr) n->n_attr++;
    n->attr[i] = a;
}

void node_set_int(Node *n, const char *attr, int64_t v) { set(n, (Attr){.name = attr, .type = ATTR_INT, .i = v}); }
void node_set_float(Node *n, const char *attr, double v) { set(n, (Attr){.name = attr, .type = ATTR_FLOAT, .f = v}); }
void node_set_str(Node *n, const char *attr, const char *v) { set(n, (Attr){.name = attr, .type = ATTR_STR, .s = v}); }

const Node *node_of_op(const Node *n, Op op) {
    if (n->op == op) return n;
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++)
        if (n->body->nodes.at[i]->op == op) return n->body->nodes.at[i];
    return NULL;
}

void graph_everywhere(const Graph *g, bool *everywhere) {
    Arena *tmp = arena_new();
    Map is = {.arena = tmp}; /* those that do */
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        everywhere[i] = node_of_op(n, OP_own) || node_of_op(n, OP_fetch);
        for (int k = 0; k < n->n_in && !everywhere[i] && !node_of_op(n, OP_join); k++)
            everywhere[i] = n->in[k] && n->in[k]->def && map_get_ptr(&is, n->in[k]->def);
        if (everywhere[i]) map_put_ptr(&is, n, n);
    }
    arena_free(tmp);
}

const char *node_name(const Node *n) { return n->n_out && n->out[0] ? n->out[0]->name : "(node without outputs)"; }

/* --- making graphs ------------------------------------------------------------------------------------------------ */

Program *program_new(Arena *a, const char *name) {
    Program *p = arena_alloc(a, sizeof *p);
    p->arena = a;
    p->name = arena_strdup(a, name);
    return p;
}

Graph *program_graph(const Program *p, const char *name) {
    for (size_t i = 0; i < p->graphs.n; i++)
        if (!strcmp(p->graphs.at[i]->name, name)) return p->graphs.at[i];
    return NULL;
}

Graph *graph_new(Arena *a, const char *name) {
    Graph *g = arena_alloc(a, sizeof *g);
    g->arena = a;
    g->name = arena_strdup(a, name);
    return g;
}

static Value *find(const ValueList *l, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i]->name, name)) return l->at[i];
    return NULL;
}

void graph_index(Graph *g, bool on) {
    const ValueList *outer[] = {&g->inputs, &g->params, &g->states};
    g->names = NULL;
    if (!on) return;
    g->names = map_new(g->arena);
    for (int l = 0; l < 3; l++)
        for (size_t i = 0; i < outer[l]->n; i++) map_put(g->names, outer[l]->at[i]->name, outer[l]->at[i]);
    for (size_t i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.at[i]->n_out; k++) map_put(g->names, g->nodes.at[i]->out[k]->name, g->nodes.at[i]->out[k]);
}

void graph_rename(Graph *g, Value *v, const char *name) {
    if (g->names) map_put(g->names, v->name, NULL), map_put(g->names, name, v);
    v->name = name;
}

Value *graph_find(const Graph *g, const char *name) {
    if (g->names) return map_get(g->names, name);
    Value *v = find(&g->inputs, name);
    if (!v) v = find(&g->params, name);
    if (!v) v = find(&g->states, name);
    for (size_t i = 0; !v && i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.at[i]->n_out; k++)
            if (!strcmp(g->nodes.at[i]->out[k]->name, name)) v = g->nodes.at[i]->out[k];
    return v;
}

static Value *value_new(Graph *g, ValueKind kind, const char *name, Type t) {
    Value *v = arena_alloc(g->arena, sizeof *v);
    v->name = arena_strdup(g->arena, name);
    v->kind = kind;
    v->type = t;
    if (g->names) map_put(g->names, v->name, v);
    return v;
}

static Value *outside(Graph *g, ValueList *l, ValueKind kind, const char *name, Type t) {
    Value *v = value_new(g, kind, name, t);
    PUSH(g->arena, *l, v);
    return v;
}

Value *graph_input(Graph *g, const char *name, Type t) { return outside(g, &g->inputs, VALUE_INPUT, name, t); }
Value *graph_state(Graph *g, const char *name, Type t) { return outside(g, &g->states, VALUE_STATE, name, t); }

Value *graph_param(Graph *g, const char *name, Type t) {
    Value *v = g->names ? map_get(g->names, name) : find(&g->params, name);
    if (v && !type_eq(&v->type, &t)) die("graph_param: %s again with another type", name);
    return v ? v : outside(g, &g->params, VALUE_PARAM, name, t);
}

void graph_output(Graph *g, Value *v) {
    v->is_output = true;
    PUSH(g->arena, g->outputs, v);
}

void graph_set_output(Graph *g, size_t i, Value *v) {
    g->outputs.at[i]->is_output = false;
    v->is_output = true;
    g->outputs.at[i] = v;
}

bool name_ok(const char *name) {
    const char *legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/$";
    return *name && !name[strspn(name, legal)] && strcmp(name, "nil");
}

static const char *fresh_name(const Graph *g, const char *base) {
    const char *name = base;
    for (int i = 1; graph_find(g, name); i++) name = arena_printf(g->arena, "%s.%d", base, i);
    return name;
}

/* The k-th word of a list such as "x w b", "" past its end. */
static const char *word(Arena *a, const char *list, int k) {
    list += strspn(list, " ");
    for (; k && *list; k--) list += strcspn(list, " "), list += strspn(list, " ");
    return arena_strndup(a, list, strcspn(list, " "));
}

/* Attributes as given, in the order of ops.def, checked and defaulted (`pattern`: only those given). */
static bool set_attrs(Graph *g, Node *n, const Attr *given, int n_given, bool pattern, Err *e) {
    const char *op = op_info(n->op)->name;
    Attr a;
    bool required;
    for (int i = 0; op_attr(g->arena, n->op, i, &a, &required); i++) {
        const Attr *v = NULL;
        for (int k = 0; k < n_given; k++)
            if (!strcmp(given[k].name, a.name)) v = &given[k];
        if (v && v->type == ATTR_INT && a.type == ATTR_FLOAT) {
            a.f = (double)v->i;
        } else if (v) {
            static const char *const types[] = {"an integer", "a number", "a string"};
            if (v->type != a.type) return err_set(e, "%s: attribute %s must be %s", op, a.name, types[a.type]);
            a.i = v->i, a.f = v->f, a.s = v->s ? arena_strdup(g->arena, v->s) : NULL;
        } else if (pattern) {
            continue;
        } else if (required) {
            return err_set(e, "%s: attribute %s is missing", op, a.name);
        }
        n->attr[n->n_attr++] = a;
    }
    for (int k = 0; k < n_given; k++) {
        if (node_attr(n, given[k].name)) continue;
        return err_set(e, "%s: no attribute %s (it has: %s)", op, given[k].name, *op_info(n->op)->attrs ? op_info(n->op)->attrs : "none");
    }
    return true;
}

static bool check_inputs(const Node *n, Err *e) {
    const OpInfo *o = op_info(n->op);
    if (n->n_in < o->min_in || n->n_in > o->max_in) {
        const char *of = *o->in_names ? o->in_names : "none";
        if (o->min_in == o->max_in) return err_set(e, "%s: takes %d inputs (%s), given %d", o->name, o->min_in, of, n->n_in);
        return err_set(e, "%s: takes %d to %d inputs (%s), given %d", o->name, o->min_in, o->max_in, of, n->n_in);
    }
    for (int i = 0; i < o->min_in && n->op != OP_FUSED; i++)
        if (!n->in[i]) return err_set(e, "%s: input %d of (%s) is nil", o->name, i + 1, o->in_names);
    return true;
}

Node *graph_add(Graph *g, Op op, Value *const *in, int n_in, const Attr *attr, int n_attr, const char *name, Loc loc, Err *e) {
    const OpInfo *o = op_info(op);
    if (op == OP_FUSED) die("graph_add: a fused node is made by fuse.c");
    Node *n = arena_alloc(g->arena, sizeof *n);
    n->op = op;
    n->loc = loc;
    while (n_in > o->min_in && !in[n_in - 1]) n_in--; /* trailing absent inputs are not there at all */
    n->n_in = n_in;
    n->n_out = o->n_out;
    bool pattern = false;
    for (int i = 0; i < n_in && i < MAX_IN; i++) {
        n->in[i] = in[i];
        pattern |= in[i] && in[i]->type.rank < 0;
    }
    if (!check_inputs(n, e)) return NULL;
    if (!name) name = fresh_name(g, o->name);
    for (int i = 0; i < n->n_out; i++) {
        const char *full = i ? arena_printf(g->arena, "%s.%s", name, word(g->arena, o->out_names, i - 1)) : name;
        if (!name_ok(full)) return err_set(e, "%s: \"%s\" is no name for a value (letters, digits, . _ - / $)", o->name, full), NULL;
        if (graph_find(g, full)) return err_set(e, "%s: the name %s is already used", o->name, full), NULL;
        n->out[i] = value_new(g, VALUE_NODE, full, (Type){.rank = -1});
        n->out[i]->def = n;
        n->out[i]->index = i;
        n->out[i]->loc = loc;
    }
    if (!set_attrs(g, n, attr, n_attr, pattern, e)) return NULL;
    if (!pattern && !o->infer(n, e)) return NULL;
    for (int i = 0; !pattern && i < n->n_out; i++)
        if (!type_check(&n->out[i]->type, e)) return err_wrap(e, "%s", o->name), NULL;
    PUSH(g->arena, g->nodes, n);
    return n;
}

/* --- state -------------------------------------------------------------------------------------------------------- */

/* Which input of the body is updated to give v, -1 when none. */
static int body_state_in(const Graph *body, const Value *v) {
    for (size_t step = 0; v && v->def; step++) {
        int i = step < body->nodes.n ? node_state_in(v->def, v->index) : -1; /* bounded: verify meets cycles too */
        if (i < 0) return -1;
        v = v->def->in[i];
    }
    for (size_t i = 0; i < body->inputs.n; i++)
        if (body->inputs.at[i] == v) return (int)i;
    return -1;
}

int node_state_in(const Node *n, int out) {
    if (n->op != OP_FUSED) return out == 0 && op_info(n->op)->flags & OPF_STATE ? 0 : -1;
    if (!n->body || (size_t)out >= n->body->outputs.n || !n->body->outputs.at[out]->def) return -1;
    int k = body_state_in(n->body, n->body->outputs.at[out]);
    for (int i = 0; k >= 0 && i < n->n_body_in; i++)
        if (n->in[i] && k-- == 0) return i;
    return -1;
}

static bool writes(const Node *n, const Value *v) {
    for (int i = 0; i < n->n_out; i++) {
        int k = node_state_in(n, i);
        if (k >= 0 && n->in[k] == v) return true;
    }
    return false;
}

static bool reads(const Node *n, const Value *v) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] == v) return true;
    return false;
}

/* --- changing graphs ---------------------------------------------------------------------------------------------- */

void graph_replace_uses(Graph *g, Value *old, Value *by, const Node *except) {
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        for (int k = 0; k < n->n_in && n != except; k++)
            if (n->in[k] == old) n->in[k] = by;
    }
    for (size_t i = 0; i < g->outputs.n; i++)
        if (g->outputs.at[i] == old) graph_set_output(g, i, by);
}

int graph_uses(const Graph *g, const Value *v) {
    int n = v->is_output;
    for (size_t i = 0; i < g->nodes.n; i++) n += reads(g->nodes.at[i], v);
    return n;
}

typedef struct Sort Sort;
struct Sort {
    Map member, seen;   /* nodes of the graph; how far each is */
    Map readers;        /* value that some node updates -> NodeList of who only reads it */
    NodeList done;
};
static char placing, placed; /* marks in Sort.seen */

static void place(Sort *s, Node *n) {
    void *mark = map_get_ptr(&s->seen, n);
    if (mark == &placed || !map_get_ptr(&s->member, n)) return;
    if (mark == &placing) die("graph_sort: %s depends on itself", node_name(n));
    map_put_ptr(&s->seen, n, &placing);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->def) place(s, n->in[i]->def);
    for (int i = 0; i < n->n_out; i++) { /* in place: whoever reads the old state goes first */
        int k = node_state_in(n, i);
        const NodeList *l = k >= 0 ? map_get_ptr(&s->readers, n->in[k]) : NULL;
        for (size_t j = 0; l && j < l->n; j++)
            if (l->at[j] != n) place(s, l->at[j]);
    }
    map_put_ptr(&s->seen, n, &placed);
    PUSH(s->seen.arena, s->done, n);
}

bool graph_infer(Graph *g, const char *who, Err *e) {
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        Err why;
        if (!op_info(n->op)->infer(n, &why)) return err_at(e, &n->loc, "%s: %s", who, why.msg);
    }
    return true;
}

void graph_clear_marks(const Graph *g) {
    const ValueList *lists[] = {&g->inputs, &g->params, &g->states};
    for (size_t k = 0; k < LEN(lists); k++)
        for (size_t i = 0; i < lists[k]->n; i++) lists[k]->at[i]->mark = NULL;
    for (size_t i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.at[i]->n_out; k++) g->nodes.at[i]->out[k]->mark = NULL;
}

/* Each node after what it reads, otherwise in the old order: a node appended last lands before its first reader. */
void graph_sort(Graph *g) {
    Arena *tmp = arena_new();
    Sort s = {.member = {.arena = tmp}, .seen = {.arena = tmp}, .readers = {.arena = tmp}};
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        map_put_ptr(&s.member, n, n);
        for (int k = 0; k < n->n_out; k++) {
            int at = node_state_in(n, k);
            if (at >= 0) map_put_ptr(&s.readers, n->in[at], arena_alloc(tmp, sizeof(NodeList)));
        }
    }
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        for (int k = 0; k < n->n_in; k++) {
            NodeList *l = n->in[k] ? map_get_ptr(&s.readers, n->in[k]) : NULL;
            if (l && !writes(n, n->in[k])) PUSH(tmp, *l, n);
        }
    }
    for (size_t i = 0; i < g->nodes.n; i++) place(&s, g->nodes.at[i]);
    if (g->nodes.n) memcpy(g->nodes.at, s.done.at, g->nodes.n * sizeof *g->nodes.at);
    arena_free(tmp);
}

static void keep_read(ValueList *l, const Map *read) {
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (map_get_ptr(read, l->at[i])) l->at[n++] = l->at[i];
    l->n = n;
}

void graph_prune(Graph *g) {
    Arena *tmp = arena_new();
    Map read = {.arena = tmp}, live = {.arena = tmp};
    for (size_t i = 0; i < g->outputs.n; i++) map_put_ptr(&read, g->outputs.at[i], g);
    for (bool more = true; more;) { /* one round when the nodes are in order */
        more = false;
        for (size_t i = g->nodes.n; i-- > 0;) {
            Node *n = g->nodes.at[i];
            bool keep = false;
            for (int k = 0; k < n->n_out; k++) keep |= map_get_ptr(&read, n->out[k]) || node_state_in(n, k) >= 0;
            if (!keep || map_get_ptr(&live, n)) continue;
            map_put_ptr(&live, n, n);
            more = true;
            for (int k = 0; k < n->n_in; k++)
                if (n->in[k]) map_put_ptr(&read, n->in[k], g);
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < g->nodes.n; i++)
        if (map_get_ptr(&live, g->nodes.at[i])) g->nodes.at[n++] = g->nodes.at[i];
    g->nodes.n = n;
    keep_read(&g->inputs, &read);
    keep_read(&g->params, &read);
    keep_read(&g->states, &read);
    arena_free(tmp);
}

/* --- copying ------------------------------------------------------------------------------------------------------ */

typedef struct Copy Copy;
struct Copy {
    Arena *a;
    Map values;
};

static Loc copy_loc(Arena *a, Loc l) {
    if (l.file) l.file = arena_strdup(a, l.file);
    if (l.text) l.text = arena_strdup(a, l.text);
    if (l.scope) l.scope = arena_strdup(a, l.scope);
    return l;
}

static Value *copy_value(Copy *c, const Value *v) {
    Value *w = arena_alloc(c->a, sizeof *w);
    *w = *v;
    w->name = arena_strdup(c->a, v->name);
    w->loc = copy_loc(c->a, v->loc);
    w->def = NULL;
    w->mark = NULL;
    map_put_ptr(&c->values, v, w);
    return w;
}

static Value *copied(const Copy *c, const Value *v) {
    Value *w = v ? map_get_ptr(&c->values, v) : NULL;
    if (v && !w) die("graph_clone: %s is read but not in the graph, or read before it is computed", v->name);
    return w;
}

static void copy_list(Copy *c, ValueList *to, const ValueList *from) {
    for (size_t i = 0; i < from->n; i++) PUSH(c->a, *to, copy_value(c, from->at[i]));
}

static Node *copy_node(Copy *c, const Node *n) {
    Node *m = arena_alloc(c->a, sizeof *m);
    *m = *n;
    m->loc = copy_loc(c->a, n->loc);
    for (int i = 0; i < n->n_in; i++) m->in[i] = copied(c, n->in[i]);
    for (int i = 0; i < n->n_out; i++) {
        m->out[i] = copy_value(c, n->out[i]);
        m->out[i]->def = m;
    }
    for (int i = 0; i < n->n_attr; i++) {
        m->attr[i].name = arena_strdup(c->a, n->attr[i].name);
        if (n->attr[i].s) m->attr[i].s = arena_strdup(c->a, n->attr[i].s);
    }
    if (n->rule) m->rule = arena_strdup(c->a, n->rule);
    for (int i = 0; i < n->n_kernel; i++) m->kernel[i].name = arena_strdup(c->a, n->kernel[i].name);
    if (n->body) m->body = graph_clone(c->a, n->body);
    if (n->hook) m->hook = graph_find(m->body, n->hook->name);
    return m;
}

Graph *graph_clone(Arena *a, const Graph *g) {
    Arena *tmp = arena_new();
    Copy c = {a, {.arena = tmp}};
    Graph *h = graph_new(a, g->name);
    copy_list(&c, &h->inputs, &g->inputs);
    copy_list(&c, &h->params, &g->params);
    copy_list(&c, &h->states, &g->states);
    for (size_t i = 0; i < g->nodes.n; i++) PUSH(a, h->nodes, copy_node(&c, g->nodes.at[i]));
    for (size_t i = 0; i < g->outputs.n; i++) graph_output(h, copied(&c, g->outputs.at[i]));
    arena_free(tmp);
    return h;
}

/* --- verify ------------------------------------------------------------------------------------------------------- */

typedef struct Verify Verify;
struct Verify {
    const Graph *g;
    Arena *tmp;
    Map names;   /* name -> Value, of what is defined so far */
    Map written; /* state value -> Node that updated it */
    Map outputs; /* the graph's, each itself */
    bool body;
    Err *e;
};

static bool verify_graph(const Graph *g, bool body, Err *e);

/* The message is in v->e already: put the place before it. */
static bool at_node(Verify *v, const Node *n) {
    Err why = *v->e;
    if (v->body) return err_set(v->e, "%s (in node %s)", why.msg, node_name(n));
    return err_at(v->e, &n->loc, "%s (in node %s of graph %s)", why.msg, node_name(n), v->g->name);
}

static bool define(Verify *v, Value *x) {
    if (!x || !x->name) return err_set(v->e, "graph %s holds a value without a name", v->g->name);
    if (!name_ok(x->name)) return err_set(v->e, "\"%s\" is no name for a value", x->name);
    if (map_get(&v->names, x->name)) return err_set(v->e, "the name %s is used twice", x->name);
    map_put(&v->names, x->name, x);
    if (x->is_output != !!map_get_ptr(&v->outputs, x)) return err_set(v->e, "%s %s", x->name, x->is_output ? "is no output, and says so" : "is an output, and does not say so");
    Err why;
    return type_check(&x->type, &why) || err_set(v->e, "%s: %s", x->name, why.msg);
}

static bool define_list(Verify *v, const ValueList *l, ValueKind kind) {
    for (size_t i = 0; i < l->n; i++) {
        if (!define(v, l->at[i])) {
            Err why = *v->e;
            return err_at(v->e, &l->at[i]->loc, "%s (in graph %s)", why.msg, v->g->name);
        }
        if (l->at[i]->kind != kind || l->at[i]->def)
            return err_at(v->e, &l->at[i]->loc, "%s has the wrong kind (in graph %s)", l->at[i]->name, v->g->name);
    }
    return true;
}

static bool verify_inputs(Verify *v, const Node *n) {
    if (n->n_in > MAX_IN || n->n_out > MAX_OUT || n->n_attr > MAX_ATTR) die("verify: %s is larger than a node can be", node_name(n));
    if (!check_inputs(n, v->e)) return false;
    for (int i = 0; i < n->n_in; i++) {
        const Value *x = n->in[i];
        if (!x) continue;
        if (map_get(&v->names, x->name) != x)
            return err_set(v->e, "%s: reads %s, which is not computed before it", op_info(n->op)->name, x->name);
        const Node *w = map_get_ptr(&v->written, x);
        if (w && writes(n, x))
            return err_set(v->e, "%s: updates %s, which %s has already updated", op_info(n->op)->name, x->name, node_name(w));
        if (w)
            return err_set(v->e, "%s: reads %s after %s updated it", op_info(n->op)->name, x->name, node_name(w));
    }
    return true;
}

static bool verify_state(Verify *v, const Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        int k = node_state_in(n, i);
        if (k < 0) continue;
        const Value *x = n->in[k];
        bool state = x->kind == VALUE_STATE || (x->def && node_state_in(x->def, x->index) >= 0);
        if (!state && !v->body) return err_set(v->e, "%s: updates %s, which is no state", op_info(n->op)->name, x->name);
        if (!v->body && x->is_output)
            return err_set(v->e, "%s: updates %s, which is an output of the graph", op_info(n->op)->name, x->name);
        for (int j = 0; j < n->n_in; j++)
            if (j != k && n->in[j] == x) return err_set(v->e, "%s: updates %s and reads it too", op_info(n->op)->name, x->name);
        map_put_ptr(&v->written, x, (void *)n);
    }
    return true;
}

/* The outputs' types as infer gives them now, on a copy. */
static bool verify_types(Verify *v, const Node *n) {
    Node copy = *n;
    Value out[MAX_OUT];
    const OpInfo *o = op_info(n->op);
    if (n->op != OP_FUSED && n->n_out != o->n_out) return err_set(v->e, "%s has %d outputs, must have %d", o->name, n->n_out, o->n_out);
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i] || n->out[i]->def != n || n->out[i]->index != i || n->out[i]->kind != VALUE_NODE)
            return err_set(v->e, "%s: output %d does not belong to its node", o->name, i);
        out[i] = *n->out[i];
        copy.out[i] = &out[i];
    }
    Attr a;
    bool required;
    for (int i = 0; op_attr(v->tmp, n->op, i, &a, &required); i++) {
        const Attr *has = node_attr(n, a.name);
        if (!has || has->type != a.type) return err_set(v->e, "%s: attribute %s is missing", o->name, a.name);
    }
    if (!o->infer(&copy, v->e)) return false;
    for (int i = 0; i < n->n_out; i++)
        if (!type_eq(&out[i].type, &n->out[i]->type))
            return err_set(v->e, "%s: %s is %s, must be %s", o->name, out[i].name, type_str(v->tmp, &n->out[i]->type), type_str(v->tmp, &out[i].type));
    return true;
}

/* A body updates nothing but what the node updates: an input whose new state it gives. In one pass: a body may be long. */
static bool verify_updates(Verify *v, const Graph *body) {
    Map input = {.arena = v->tmp}, given = {.arena = v->tmp}; /* value -> the input that it is or was; those that the body gives */
    for (size_t i = 0; i < body->inputs.n; i++) map_put_ptr(&input, body->inputs.at[i], body->inputs.at[i]);
    for (size_t i = 0; i < body->nodes.n; i++) {
        const Node *n = body->nodes.at[i];
        for (int o = 0; o < n->n_out; o++)
            if (node_state_in(n, o) >= 0) map_put_ptr(&input, n->out[o], map_get_ptr(&input, n->in[node_state_in(n, o)]));
    }
    for (size_t i = 0; i < body->outputs.n; i++)
        if (map_get_ptr(&input, body->outputs.at[i])) map_put_ptr(&given, map_get_ptr(&input, body->outputs.at[i]), v);
    for (size_t i = 0; i < body->nodes.n; i++) {
        const Node *n = body->nodes.at[i];
        for (int o = 0; o < n->n_out; o++) {
            const Value *of = node_state_in(n, o) < 0 ? NULL : map_get_ptr(&input, n->out[o]);
            if (node_state_in(n, o) >= 0 && (!of || !map_get_ptr(&given, of))) return err_set(v->e, "the body updates %s, which the node does not", n->out[o]->name);
        }
    }
    return true;
}

/* What lowering adds behind the body's inputs: perm and tiles of a group, in pairs. */
static bool verify_groups(Verify *v, const Node *n) {
    for (int i = n->n_body_in; i < n->n_in; i += 2) {
        const Node *group = n->in[i] ? n->in[i]->def : NULL;
        if (!group || group->op != OP_group || n->in[i] != group->out[0] || i + 1 == n->n_in || n->in[i + 1] != group->out[1])
            return err_set(v->e, "behind its body's inputs the node reads what is no group's perm and tiles");
    }
    return true;
}

/* What FUSED's infer does not say: see struct Node. */
static bool verify_fused(Verify *v, const Node *n) {
    if (!n->rule || !name_ok(n->rule)) return err_set(v->e, "the fused node has no rule");
    if (n->n_kernel < 1 || n->n_kernel > (int)LEN(n->kernel)) return err_set(v->e, "the fused node has %d kernels", n->n_kernel);
    for (int i = 0; i < n->n_kernel; i++) {
        const KernelChoice *k = &n->kernel[i];
        if (!k->name || !name_ok(k->name)) return err_set(v->e, "the fused node's kernel %d has no name", i + 1);
        if (i && k->max_t <= n->kernel[i - 1].max_t) return err_set(v->e, "the fused node's kernels are not by ascending max_t");
    }
    if (n->kernel[n->n_kernel - 1].max_t != INT64_MAX) return err_set(v->e, "the fused node's last kernel has a max_t");
    if (!verify_graph(n->body, true, v->e)) return err_wrap(v->e, "body of %s", node_name(n));
    if (!verify_updates(v, n->body) || !verify_groups(v, n)) return false;
    if (n->hook && (!n->hook->def || graph_find(n->body, n->hook->name) != n->hook))
        return err_set(v->e, "the fused node's hook is not computed in its body");
    return true;
}

static bool verify_node(Verify *v, const Node *n) {
    if ((unsigned)n->op >= OP_COUNT) die("verify: no op %d", (int)n->op);
    if (!verify_inputs(v, n) || !verify_types(v, n)) return false;
    if (n->op == OP_FUSED && !verify_fused(v, n)) return false;
    if (!verify_state(v, n)) return false;
    for (int i = 0; i < n->n_out; i++)
        if (!define(v, n->out[i])) return false;
    return true;
}

static bool verify_all(Verify *v) {
    const Graph *g = v->g;
    if (!g->name || !name_ok(g->name)) return err_set(v->e, "a graph has no proper name");
    for (size_t i = 0; i < g->outputs.n; i++) {
        Value *x = g->outputs.at[i];
        if (x && map_get_ptr(&v->outputs, x)) return err_set(v->e, "%s is an output of graph %s twice", x->name, g->name);
        if (x) map_put_ptr(&v->outputs, x, x);
    }
    if (!define_list(v, &g->inputs, VALUE_INPUT) || !define_list(v, &g->params, VALUE_PARAM)) return false;
    if (!define_list(v, &g->states, VALUE_STATE)) return false;
    for (size_t i = 0; i < g->nodes.n; i++)
        if (!verify_node(v, g->nodes.at[i])) return at_node(v, g->nodes.at[i]);
    for (size_t i = 0; i < g->outputs.n; i++) {
        const Value *x = g->outputs.at[i];
        if (!x || map_get(&v->names, x->name) != x) return err_set(v->e, "output %s is not in graph %s", x ? x->name : "nil", g->name);
    }
    return true;
}

static bool verify_graph(const Graph *g, bool body, Err *e) {
    Arena *tmp = arena_new();
    Verify v = {g, tmp, {.arena = tmp}, {.arena = tmp}, {.arena = tmp}, body, e};
    bool ok = verify_all(&v);
    arena_free(tmp);
    return ok;
}

bool graph_verify(const Graph *g, Err *e) { return verify_graph(g, false, e); }

/* Weights and states that graphs share by name have one type. */
static bool verify_shared(const Program *p, Arena *tmp, Err *e) {
    Map seen = {.arena = tmp};
    for (size_t i = 0; i < p->graphs.n; i++) {
        const Graph *g = p->graphs.at[i];
        const ValueList *lists[] = {&g->params, &g->states};
        for (size_t k = 0; k < LEN(lists); k++)
            for (size_t j = 0; j < lists[k]->n; j++) {
                Value *v = lists[k]->at[j], *w = map_get(&seen, v->name);
                if (w && (w->kind != v->kind || !type_eq(&w->type, &v->type)))
                    return err_at(e, &v->loc, "%s is %s in graph %s, %s elsewhere", v->name, type_str(tmp, &v->type), g->name, type_str(tmp, &w->type));
                map_put(&seen, v->name, v);
            }
    }
    return true;
}

bool program_verify(const Program *p, Err *e) {
    if (!p->name || !name_ok(p->name)) return err_set(e, "the program has no proper name");
    for (size_t i = 0; i < p->graphs.n; i++) {
        if (!graph_verify(p->graphs.at[i], e)) return false;
        if (program_graph(p, p->graphs.at[i]->name) != p->graphs.at[i]) return err_set(e, "there are two graphs %s", p->graphs.at[i]->name);
    }
    Arena *tmp = arena_new();
    bool ok = verify_shared(p, tmp, e);
    arena_free(tmp);
    return ok;
}

/* --- errors with a place ------------------------------------------------------------------------------------------ */

const char *loc_path(Arena *a, const Loc *loc) {
    const char *scope = loc->scope ? loc->scope : "";
    char *path = arena_strdup(a, scope), *to = path;
    for (const char *s = scope; *s;) {
        if (!strncmp(s, " / ", 3)) *to++ = '.', s += 3;
        else if (*s == ' ') s++;
        else *to++ = *s++;
    }
    *to = 0;
    return path;
}

bool err_at(Err *e, const Loc *loc, const char *fmt, ...) {
    char msg[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    Text t = {0};
    if (loc->file && loc->line) text_add(&t, "%s:%d:", loc->file, loc->line);
    else if (loc->file) text_add(&t, "%s:", loc->file);
    if (loc->file && loc->line && loc->col) text_add(&t, "%d:", loc->col);
    text_add(&t, "%serror: %s", t.n ? " " : "", msg);
    if (loc->text && loc->text[strspn(loc->text, " \t")]) {
        size_t skip = strspn(loc->text, " \t"), col = loc->col > 0 ? (size_t)loc->col - 1 : 0;
        text_add(&t, "\n    %.200s", loc->text + skip);
        if (loc->col && col >= skip && col <= strlen(loc->text) && col - skip < 200) {
            text_add(&t, "\n    ");
            for (size_t i = skip; i < col; i++) text_put(&t, loc->text[i] == '\t' ? "\t" : " ", 1);
            text_add(&t, "^");
        }
    }
    if (loc->scope && *loc->scope) text_add(&t, "\n  in %s", loc->scope);
    err_set(e, "%s", t.at);
    text_free(&t);
    return false;
}
