/* part.c - cut a node into launches. See part.h. */
#include "part.h"

#include "emit.h"

const OpCode *op_code(Op op) {
    static const OpCode table[OP_COUNT] = {
#define OP(...)
#define CODE(op, kind, ...) [OP_##op] = {CODE_##kind, {__VA_ARGS__}},
#include "ir/ops.def"
#undef OP
    };
    return &table[op];
}

int op_stores(Op op) { return op_code(op)->text[1] ? 2 : 1; }

/* --- the owner ---------------------------------------------------------------------------------------------------- */

size_t owner_nodes(const Node *o) { return o->op == OP_FUSED ? o->body->nodes.n : 1; }

const Node *owner_node(const Node *o, size_t i) { return o->op == OP_FUSED ? o->body->nodes.at[i] : o; }

size_t owner_index(const Node *o, const Value *v) {
    for (size_t i = 0; v->def && i < owner_nodes(o); i++)
        if (owner_node(o, i) == v->def) return i;
    return SIZE_MAX;
}

static bool is_output(const Node *o, const Value *v) { return o->op == OP_FUSED ? v->is_output : v->def == o; }

Value *owner_outside(const Node *o, const Value *v) {
    if (o->op != OP_FUSED) return (Value *)v;
    for (size_t i = 0; i < o->body->outputs.n; i++)
        if (o->body->outputs.at[i] == v) return o->out[i];
    for (size_t i = 0; i < o->body->inputs.n; i++)
        if (o->body->inputs.at[i] == v) return body_input(o, i);
    return NULL;
}

Value *owner_memory(const Node *o, const Value *v) {
    Value *outside = owner_outside(o, v);
    return outside ? outside : (Value *)v;
}

typedef struct Seen Seen; /* nodes of a body that were asked already: there may be many ways to one */
struct Seen {
    const Node *at[PART_NODES];
    int n;
};

static bool is_new(Seen *s, const Node *n) {
    for (int i = 0; i < s->n; i++)
        if (s->at[i] == n) return false;
    if (s->n < PART_NODES) s->at[s->n++] = n;
    return true;
}

static bool depends(const Value *v, const Value *on, Seen *s) {
    if (v == on) return true;
    if (!v->def || !is_new(s, v->def)) return false;
    for (int i = 0; i < v->def->n_in; i++)
        if (v->def->in[i] && depends(v->def->in[i], on, s)) return true;
    return false;
}

bool value_depends(const Value *v, const Value *on) { return depends(v, on, &(Seen){.n = 0}); }

/* --- cutting ------------------------------------------------------------------------------------------------------- */

typedef struct Cut Cut;
struct Cut {
    const Maker *m;
    const Node *owner;
    const char *recipe; /* names separated by '/' */
    int64_t tokens;     /* at most so many a step */
    PartList early, parts;   /* early: what is in front of a core that cannot take it */
    Part *of[PART_NODES];    /* the part that computes a node; NULL: computed wherever it is used */
    char where[PART_NODES][24]; /* behind a core: which columns of its result the node's are */
};

static size_t index_of(const Cut *c, const Node *n) { return owner_index(c->owner, n->out[0]); }

static bool named(const char *recipe, const char *name) {
    size_t n = strlen(name);
    for (const char *p = recipe; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (!strncmp(p, name, n) && (!p[n] || p[n] == '/')) return true;
    return false;
}

static bool has_template(const Cut *c, const char *kernel) {
    for (size_t i = 0; i < c->m->templates->n; i++)
        if (!strcmp(c->m->templates->at[i]->kernel, kernel) && template_is_for(c->m->templates->at[i], c->m)) return true;
    return false;
}

static bool is_core(const Cut *c, const Node *n) {
    const char *name = op_info(n->op)->name;
    return op_code(n->op)->kind == CODE_NONE || (named(c->recipe, name) && has_template(c, name));
}

/* Begins a launch without being a core: the recipe names it. */
static bool begins(const Cut *c, const Node *n) { return named(c->recipe, op_info(n->op)->name); }

static Part *new_part(Cut *c, PartList *list, const char *kernel) {
    Part *p = arena_alloc(c->m->a, sizeof *p);
    *p = (Part){.owner = c->owner, .kernel = kernel, .tokens = c->tokens};
    PUSH(c->m->a, *list, p);
    return p;
}

static Part *part_of(const Cut *c, const Value *v) {
    size_t i = v ? owner_index(c->owner, v) : SIZE_MAX;
    return i == SIZE_MAX ? NULL : c->of[i];
}

/* Is v computed inside, and by no part yet? */
static bool is_pending(const Cut *c, const Value *v) {
    return v && owner_index(c->owner, v) != SIZE_MAX && !part_of(c, v);
}

enum { UNKNOWN = -1, SEVERAL = 2, MOST_PLACES = 8 };

static int rows_to(const Cut *c, const Value *v, signed char *known) {
    if (!is_pending(c, v)) return 0;
    signed char *of = &known[index_of(c, v->def)];
    if (*of != UNKNOWN) return *of;
    int n = op_code(v->def->op)->kind == CODE_ROW;
    for (int i = 0; i < v->def->n_in; i++) n += rows_to(c, v->def->in[i], known);
    return *of = n < SEVERAL ? (signed char)n : SEVERAL;
}

/* How many row statistics computing the pending v takes: 0, 1 or SEVERAL. */
static int rows_in(const Cut *c, const Value *v) {
    signed char known[PART_NODES];
    memset(known, UNKNOWN, sizeof known);
    return rows_to(c, v, known);
}

static void put(Cut *c, Part *p, const Node *n) {
    size_t i = index_of(c, n);
    c->of[i] = p;
    p->behind[i] = true;
}

/* A launch of its own for the pending v, before all others. */
static void store_early(Cut *c, Value *v) { put(c, new_part(c, &c->early, "map"), v->def); }

/* At how many places an element of the pending v reads what it is made from: rope reads two, and one of a rope four. What would be
 * more than MOST_PLACES is stored. */
static int places_to(Cut *c, Value *v, signed char *known) {
    if (!is_pending(c, v)) return 1;
    signed char *of = &known[index_of(c, v->def)];
    if (*of != UNKNOWN) return *of;
    const CodeKind kind = op_code(v->def->op)->kind;
    int most = 1;
    for (int i = 0; i < v->def->n_in; i++) {
        int n = places_to(c, v->def->in[i], known);
        if (n > most) most = n;
    }
    if (kind == CODE_HALVES || kind == CODE_NEAR) most *= 2;
    if (most > MOST_PLACES) store_early(c, v), most = 1;
    return *of = (signed char)most;
}

static void settle_places(Cut *c, const Node *n) {
    signed char known[PART_NODES];
    memset(known, UNKNOWN, sizeof known);
    for (int i = 0; i < n->n_in; i++) places_to(c, n->in[i], known);
}

/* What n reads and is pending is computed inside n's launch; not so a row's statistic, of which a launch has one and that of its
 * own row. */
static void settle_inputs(Cut *c, const Node *n, bool own_row) {
    int rows = op_code(n->op)->kind == CODE_ROW;
    settle_places(c, n);
    for (int i = 0; i < n->n_in; i++) {
        if (!rows_in(c, n->in[i])) continue;
        if (!own_row || rows + rows_in(c, n->in[i]) > 1) store_early(c, n->in[i]);
        else rows++;
    }
}

/* --- cores ---------------------------------------------------------------------------------------------------------- */

/* The template that would compute p's core, its operands being in memory; NULL when there is none. */
static const Template *likely(const Cut *c, const Part *p) {
    Part alone = *p;
    PartList none = {0};
    Binding b;
    Err e;
    alone.alone = true;
    bool found = template_bind(c->m, &alone, &none, &b, &e);
    return found ? b.t : NULL;
}

static void add_core(Cut *c, const Node *n) {
    Part p = {.owner = c->owner, .kernel = op_info(n->op)->name, .tokens = c->tokens, .core = n, .source = n->out[0]};
    p.likely = likely(c, &p);
    unsigned front = p.likely ? p.likely->front : 0;
    settle_places(c, n);
    for (int i = 0; i < n->n_in; i++)
        if (is_pending(c, n->in[i]) && (!(front >> i & 1) || rows_in(c, n->in[i]) > 1)) store_early(c, n->in[i]);
    p.behind[index_of(c, n)] = true;
    *(c->of[index_of(c, n)] = new_part(c, &c->parts, p.kernel)) = p;
}

/* --- behind a core -------------------------------------------------------------------------------------------------- */

static bool same_width(const Value *a, const Value *b) {
    return a->type.rank && b->type.rank && dim_eq(a->type.dim[a->type.rank - 1], b->type.dim[b->type.rank - 1]);
}

/* All of n's inputs that p computes lie at the same columns; *where: at which. */
static bool one_place(const Cut *c, const Part *p, const Node *n, const char **where) {
    *where = NULL;
    for (int i = 0; i < n->n_in; i++) {
        if (part_of(c, n->in[i]) != p) continue;
        if (p->core && n->in[i]->def == p->core && n->in[i] != p->source) return false;
        const char *w = c->where[owner_index(c->owner, n->in[i])];
        if (*where && strcmp(*where, w)) return false;
        *where = w;
    }
    return *where != NULL;
}

/* Does a view keep the columns of a pair together? */
static bool view_fits(const Part *p, const Node *view, Pairs pairs, int64_t head) {
    int64_t offset = node_int(view, "offset"), width = node_int(view, "width");
    return !p->ranks && pairs != PAIRS_NEAR && (pairs != PAIRS_HALVES || (offset % head == 0 && width % head == 0));
}

static bool take_pairs(Cut *c, Part *p, Pairs pairs, int64_t head) {
    if (!p->likely->pairs || p->ranks || (p->pairs && (p->pairs != pairs || p->head != head))) return false;
    if (value_columns(p->source) % (pairs == PAIRS_HALVES ? head : 2)) return false;
    for (size_t i = 0; i < owner_nodes(c->owner); i++) {
        const Node *n = owner_node(c->owner, i);
        if (p->behind[i] && op_code(n->op)->kind == CODE_VIEW && !view_fits(p, n, pairs, head)) return false;
    }
    p->pairs = pairs;
    p->head = head;
    return true;
}

/* The core's results of all ranks at once: perhaps another template has them. */
static bool take_ranks(Cut *c, Part *p) {
    for (size_t i = 0; i < owner_nodes(c->owner); i++)
        if (p->behind[i] && owner_node(c->owner, i) != p->core) return false;
    Part with = *p;
    with.ranks = true;
    with.likely = likely(c, &with);
    if (!with.likely || !with.likely->ranks) return false;
    *p = with;
    return true;
}

/* Can the hook behind p take n? Then n is put there. */
static bool goes_behind(Cut *c, Part *p, const Node *n) {
    const char *where, *to = NULL;
    int64_t head = op_code(n->op)->kind == CODE_HALVES ? node_int(n, "head_dim") : 0;
    if (!p->likely || !p->likely->behind || !one_place(c, p, n, &where)) return false;
    switch (op_code(n->op)->kind) {
    case CODE_EACH:
        for (int i = 0; i < n->n_in; i++)
            if (part_of(c, n->in[i]) == p && !same_width(n->in[i], n->out[0])) return false;
        break;
    case CODE_VIEW:
        if (*where || !view_fits(p, n, p->pairs, p->head)) return false;
        to = arena_printf(c->m->a, "%lld", (long long)node_int(n, "offset"));
        break;
    case CODE_NEAR:
        if (*where || !take_pairs(c, p, PAIRS_NEAR, 0)) return false;
        to = "near";
        break;
    case CODE_HALVES:
        if (!strcmp(where, "near") || !take_pairs(c, p, PAIRS_HALVES, head)) return false;
        break;
    case CODE_SUM:
        if (*where || p->pairs || !take_ranks(c, p)) return false;
        break;
    default: return false;
    }
    settle_inputs(c, n, false);
    put(c, p, n);
    snprintf(c->where[index_of(c, n)], sizeof c->where[0], "%s", to ? to : where);
    return true;
}

/* A state's writer: what it stores is stored where it is, at whichever columns. */
static bool store_goes_behind(Cut *c, Part *p, const Node *n) {
    if (op_code(n->op)->kind != CODE_STORE || p->ranks || !p->likely || !p->likely->behind) return false;
    for (int i = 1; i <= op_stores(n->op); i++)
        if (part_of(c, n->in[i]) != p) return false;
    for (int i = 0; i < n->n_in; i++)
        if (rows_in(c, n->in[i])) return false;
    put(c, p, n);
    return true;
}

/* Can the generated launch p compute n too? */
static bool goes_along(Cut *c, Part *p, const Node *n) {
    if (p->source || begins(c, n)) return false;
    CodeKind k = op_code(n->op)->kind;
    if (k == CODE_ROW || k == CODE_SUM || k == CODE_STORE) return false;
    settle_inputs(c, n, false);
    put(c, p, n);
    return true;
}

/* --- all ------------------------------------------------------------------------------------------------------------- */

/* The last part whose results n reads. */
static Part *latest(const Cut *c, const Node *n) {
    for (size_t k = c->parts.n; k-- > 0;)
        for (int i = 0; i < n->n_in; i++)
            if (part_of(c, n->in[i]) == c->parts.at[k]) return c->parts.at[k];
    return NULL;
}

static void generate(Cut *c, const Node *n) {
    settle_inputs(c, n, true);
    put(c, new_part(c, &c->parts, "map"), n);
}

static bool has_output(const Cut *c, const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (is_output(c->owner, n->out[i])) return true;
    return false;
}

/* What is left pending depends on no launch. */
static void place(Cut *c, const Node *n) {
    Part *p = latest(c, n);
    if (is_core(c, n)) add_core(c, n);
    else if (begins(c, n)) generate(c, n);
    else if (p && p->source && (goes_behind(c, p, n) || store_goes_behind(c, p, n))) return;
    else if (p && goes_along(c, p, n)) return;
    else if (p || op_code(n->op)->kind == CODE_STORE || has_output(c, n)) generate(c, n);
}

/* The launches in order; those in front of cores first, as in the body, since one may read another's result. */
static void in_order(const Cut *c, PartList *parts) {
    for (size_t i = 0; i < owner_nodes(c->owner); i++)
        for (size_t k = 0; k < c->early.n; k++)
            if (c->early.at[k] == c->of[i]) PUSH(c->m->a, *parts, c->early.at[k]);
    for (size_t i = 0; i < c->parts.n; i++) PUSH(c->m->a, *parts, c->parts.at[i]);
    for (size_t i = 0; i < parts->n; i++)
        if (!parts->at[i]->source && part_statistic(parts->at[i], parts, NULL)) parts->at[i]->kernel = "row";
}

/* Who stores what: the owner's outputs, and what another part reads. */
static bool read_elsewhere(const Cut *c, const Part *p, const Value *v) {
    for (size_t i = 0; i < owner_nodes(c->owner); i++) {
        const Node *n = owner_node(c->owner, i);
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] == v && c->of[i] != p) return true;
    }
    return false;
}

static bool find_outputs(Cut *c, Part *p, Err *e) {
    for (size_t i = 0; i < owner_nodes(c->owner); i++) {
        const Node *n = owner_node(c->owner, i);
        for (int k = 0; c->of[i] == p && k < n->n_out; k++) {
            if (!is_output(c->owner, n->out[k]) && !read_elsewhere(c, p, n->out[k])) continue;
            if (p->n_out == PART_OUT) return err_at(e, &c->owner->loc, "%s: one launch would store more than %d values", node_name(c->owner), PART_OUT);
            p->out[p->n_out++] = n->out[k];
        }
    }
    return true;
}

/* The rule's own template computes the hook and all that it takes; the chain behind goes into its hook. */
static void cut_opaque(Cut *c) {
    const Node *o = c->owner;
    Part *p = new_part(c, &c->parts, c->recipe);
    p->source = o->hook;
    p->likely = likely(c, p);
    for (size_t i = 0; i < owner_nodes(o); i++) {
        c->of[i] = p;
        p->behind[i] = value_depends(owner_node(o, i)->out[0], o->hook) && value_depends(o->body->outputs.at[0], owner_node(o, i)->out[0]);
    }
}

static bool names_an_op(const Cut *c) {
    for (size_t i = 0; i < owner_nodes(c->owner); i++)
        if (named(c->recipe, op_info(owner_node(c->owner, i)->op)->name)) return true;
    return false;
}

bool parts_make(const Maker *m, const Node *n, const Range *r, PartList *parts, Err *e) {
    Cut c = {.m = m, .owner = n, .recipe = node_kernel(n, r->choice), .tokens = r->upto};
    *parts = (PartList){0};
    if (owner_nodes(n) > PART_NODES) return err_at(e, &n->loc, "%s: a fused node may have %d ops", node_name(n), PART_NODES);
    if (!names_an_op(&c)) cut_opaque(&c);
    else
        for (size_t i = 0; i < owner_nodes(n); i++) place(&c, owner_node(n, i));
    in_order(&c, parts);
    for (size_t i = 0; i < parts->n; i++)
        if (!find_outputs(&c, parts->at[i], e)) return false;
    return true;
}

/* Does some part of n perhaps run the template, in this recipe? */
static bool may_run(const Node *n, const char *recipe, const Template *t) {
    for (size_t i = 0; i < owner_nodes(n); i++)
        if (!strcmp(op_info(owner_node(n, i)->op)->name, t->kernel)) return true;
    return named(recipe, t->kernel);
}

/* The least limit above `above` that a template has which may compute some of n, to either side; INT64_MAX when there is none. */
static int64_t next_limit(const Maker *m, const Node *n, const char *recipe, int64_t above) {
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < m->templates->n; i++) {
        const Template *t = m->templates->at[i];
        if (!template_is_for(t, m) || !may_run(n, recipe, t)) continue;
        if (t->tokens > above && t->tokens < least) least = t->tokens;
        if (t->over > above && t->over < least) least = t->over;
    }
    return least;
}

bool range_next(const Maker *m, const Node *n, Range *r) {
    if (r->upto == INT64_MAX) return false;
    r->above = r->upto;
    for (r->choice = 0; n->op == OP_FUSED && n->kernel[r->choice].max_t <= r->above;) r->choice++;
    int64_t recipe = n->op == OP_FUSED ? n->kernel[r->choice].max_t : INT64_MAX, limit = next_limit(m, n, node_kernel(n, r->choice), r->above);
    r->upto = recipe < limit ? recipe : limit;
    return true;
}

bool parts_each(const Maker *m, const Node *n, bool (*each)(void *ctx, const Part *p, const Binding *b, Err *e), void *ctx, Err *e) {
    for (Range r = {0, 0, 0}; range_next(m, n, &r);) {
        PartList parts;
        if (!parts_make(m, n, &r, &parts, e)) return false;
        for (size_t i = 0; i < parts.n; i++) {
            Binding b;
            if (!template_bind(m, parts.at[i], &parts, &b, e) || !each(ctx, parts.at[i], &b, e)) return false;
        }
    }
    return true;
}

bool parts_take_chain(const Maker *m, const Node *n) {
    const Value *last = n->op == OP_FUSED ? n->body->outputs.at[0] : n->out[0];
    for (Range r = {0, 0, 0}; range_next(m, n, &r);) {
        PartList parts;
        Err e;
        if (!parts_make(m, n, &r, &parts, &e)) return false;
        for (size_t k = 0; k < parts.n; k++)
            for (int o = 0; o < parts.at[k]->n_out; o++)
                if (parts.at[k]->out[o] == last && parts.at[k]->source && !(parts.at[k]->likely && parts.at[k]->likely->behind)) return false;
    }
    return true;
}

Origin part_origin(const Part *p, const PartList *all, const Value *v) {
    size_t i = owner_index(p->owner, v);
    if (i == SIZE_MAX) return FROM_OUTSIDE;
    if (p->behind[i]) return p->source ? FROM_SOURCE : FROM_CODE;
    for (size_t k = 0; k < all->n; k++)
        if (all->at[k]->behind[i]) return FROM_OUTSIDE;
    return FROM_CODE;
}

static bool row_in(const Part *p, const PartList *all, const Value *v, const Node **at, Seen *s) {
    if (!v || part_origin(p, all, v) != FROM_CODE || !is_new(s, v->def)) return false;
    if (op_code(v->def->op)->kind == CODE_ROW) return *at = v->def, true;
    for (int i = 0; i < v->def->n_in; i++)
        if (row_in(p, all, v->def->in[i], at, s)) return true;
    return false;
}

const Node *part_statistic(const Part *p, const PartList *all, const Value *v) {
    const Node *at = NULL;
    Seen s = {.n = 0};
    if (v) return row_in(p, all, v, &at, &s), at;
    for (size_t i = 0; i < owner_nodes(p->owner) && !at; i++)
        if (p->behind[i]) row_in(p, all, owner_node(p->owner, i)->out[0], &at, &s);
    return at;
}

bool part_sums(const Part *p) {
    for (size_t i = 0; i < owner_nodes(p->owner); i++)
        if (p->behind[i] && op_code(owner_node(p->owner, i)->op)->kind == CODE_SUM) return true;
    return false;
}

static bool inputs_take(const Part *p, const PartList *all, const Node *n, Op op, Seen *s) {
    for (int i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        if (!v || part_origin(p, all, v) != FROM_CODE || !is_new(s, v->def)) continue;
        if (v->def->op == op || inputs_take(p, all, v->def, op, s)) return true;
    }
    return false;
}

bool part_composes(const Part *p, const PartList *all, Op op) {
    Seen s = {.n = 0};
    for (size_t i = 0; i < owner_nodes(p->owner); i++) {
        const Node *n = owner_node(p->owner, i);
        if (p->behind[i] && ((n->op == op && n != p->core) || inputs_take(p, all, n, op, &s))) return true;
    }
    return false;
}

/* What the generated part's i-th op stores: its result, or what goes to a state. */
static const Value *stored(const Part *p, size_t i) {
    const Node *n = owner_node(p->owner, i);
    if (!p->behind[i]) return NULL;
    return op_code(n->op)->kind == CODE_STORE ? n->in[1] : n->out[0];
}

int64_t value_columns(const Value *v) {
    const Dim *last = v->type.rank ? &v->type.dim[v->type.rank - 1] : NULL;
    return last && dim_is_const(*last) ? last->add : 1;
}

int64_t part_columns(const Part *p) {
    int64_t most = 1;
    for (size_t i = 0; i < owner_nodes(p->owner); i++) {
        const Value *v = stored(p, i);
        int64_t width = v ? value_columns(v) : 1;
        most = width > most ? width : most;
    }
    return most;
}

int64_t part_rows(const Part *p, Sym *count) {
    int64_t rows = 1;
    const Value *v = NULL;
    for (size_t i = 0; i < owner_nodes(p->owner) && !v; i++) v = stored(p, i);
    *count = v && v->type.rank && !dim_is_const(v->type.dim[0]) ? v->type.dim[0].sym : SYM_NONE;
    for (int d = *count ? 1 : 0; v && d < v->type.rank - 1; d++) rows *= v->type.dim[d].add;
    return rows;
}
