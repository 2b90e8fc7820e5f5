/* hooks.c - see hooks.h. An element is pulled: the text of the op that computes it, in which each $operand is pulled in turn, down
 * to loads from memory or to what the core handed over. What an op computes becomes a variable, written before it is used. */
#include "hooks.h"

#include <ctype.h>
#include <inttypes.h>

#include "plan/plan.h"

enum { LANES = 2 };

typedef struct Lane Lane; /* a value behind the core: one variable a column of the group */
struct Lane {
    const Value *v;
    const char *var[LANES], *column[LANES];
    int n;
};

typedef struct Gen Gen;
struct Gen {
    Hooks *h;
    Text text;
    int depth; /* of blocks */
    Lane lane[PART_NODES * 2];
    int n_lanes, at; /* at: the column of the group that is being computed */
    bool done[PART_NODES];
    int uses[PART_NODES]; /* how often the op was computed, at different places */
    struct {
        const char *expr, *name;
        int depth;
    } known[128]; /* what has a name: loads, what an op computes at a place */
    int n_known;
    bool asks;
    const char *asked[64]; /* the loads, each once */
    int n_asked, most_asked;
    struct {
        const char *what, *field;
    } token[16]; /* the loads that are a token's, whatever the column */
    int n_token;
    bool columns; /* a column's weights are asked for apart */
    const char *column[16]; /* those weights, as arguments */
    int n_column;
    int ranks; /* asked loads are one for each of so many ranks; 0: one */
    bool apart; /* no column is in two views: what is asked in one needs no place in another */
};

static const char *pull(Gen *g, const Value *v, const char *hint, const char *row, const char *column);

static void line(Gen *g, const char *fmt, ...) PRINTF(2, 3);
static void line(Gen *g, const char *fmt, ...) {
    va_list ap;
    char s[2048];
    va_start(ap, fmt);
    int n = vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof s) die("hooks: a line of more than %zu letters", sizeof s - 1);
    text_add(&g->text, "%*s%s\n", 4 + 4 * g->depth, "", s);
}

static void open_block(Gen *g) { g->depth++; }
static void close_block(Gen *g) {
    while (g->n_known && g->known[g->n_known - 1].depth == g->depth) g->n_known--;
    g->depth--;
    line(g, "}");
}

static const char *known(const Gen *g, const char *expr) {
    for (int i = 0; i < g->n_known; i++)
        if (!strcmp(g->known[i].expr, expr)) return g->known[i].name;
    return NULL;
}

static const char *now_known(Gen *g, const char *expr, const char *name) {
    if (g->n_known == (int)LEN(g->known)) return name;
    g->known[g->n_known].expr = expr;
    g->known[g->n_known].depth = g->depth;
    return g->known[g->n_known++].name = name;
}

static Arena *arena(const Gen *g) { return g->h->a; }
static const Node *owner(const Gen *g) { return g->h->part->owner; }

static int64_t size_of(const Value *v, int d) { return v->type.dim[d].add; }
static const char *ctype(const Value *v) { return v->type.dtype == DT_I32 ? "int" : "float"; }

/* --- arguments ----------------------------------------------------------------------------------------------------- */

static bool taken(const Hooks *h, const char *name) {
    for (int i = 0; i < *h->n_args; i++)
        if (!strcmp(h->args[i].name, name)) return true;
    return !strcmp(name, "step");
}

/* The kernel's argument for v in memory. A state that is written and read is one argument. */
static const char *argument(Hooks *h, const Value *v, const char *hint, bool written) {
    Value *m = owner_memory(h->part->owner, v);
    for (int i = 0; i < *h->n_args; i++)
        if (h->args[i].value == m) return h->args[i].written |= written, h->args[i].name;
    const char *name = hint;
    for (int i = 1; taken(h, name); i++) name = arena_printf(h->a, "%s%d", hint, i);
    return arg_push(h->args, h->n_args, (KernelArg){.name = name, .value = m, .dtype = m->type.dtype, .written = written})->name;
}

/* --- loads ----------------------------------------------------------------------------------------------------------- */

static bool is_word(const char *s) {
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("_.", *s)) return false;
    return true;
}

static const char *product(Arena *a, const char *row, int64_t width, const char *column) {
    if (width == 1) return row;
    const char *r = arena_printf(a, is_word(row) ? "(long)%s * %" PRId64 : "(long)(%s) * %" PRId64, row, width);
    return strcmp(column, "0") ? arena_printf(a, "%s + %s", r, column) : r;
}

/* Where reads are asked for beforehand, each has a number. */
static const char *read_text(Gen *g, const char *name, const char *index) {
    const char *what = arena_printf(arena(g), "a.%s, %s", name, index);
    if (!g->asks) return arena_printf(arena(g), "load(%s)", what);
    int i = 0;
    while (i < g->n_asked && strcmp(g->asked[i], what)) i++;
    int each = g->ranks ? g->ranks : 1;
    if (i + each > (int)LEN(g->asked)) die("hooks: more than %zu loads behind %s", LEN(g->asked), node_name(owner(g)));
    for (int k = i; i == g->n_asked && k < i + each; k++) g->asked[k] = what;
    if (i == g->n_asked) g->n_asked += each;
    if (g->most_asked < g->n_asked) g->most_asked = g->n_asked;
    return arena_printf(arena(g), g->ranks ? "l.load(%d + r, %s)" : "l.load(%d, %s)", i, what);
}

/* Whether the text is made of the token and what is loaded for it, and numbers. */
static bool is_of_token(const char *s) {
    while (*s) {
        size_t n = strspn(s, " ()+-*/%0123456789");
        s += n;
        n = strcspn(s, " ()+-*/%");
        if (n && strncmp(s, "token.", 6) && !(n == 1 && *s == 't') && !(n == 4 && !strncmp(s, "long", 4))) return false;
        s += n;
    }
    return true;
}

/* The field of Token that has what is loaded. */
static const char *token_load(Gen *g, const char *name, const char *index) {
    const char *what = arena_printf(arena(g), "a.%s, %s", name, index), *field = arena_printf(arena(g), "token.%s", name);
    for (int i = 0; i < g->n_token; i++) {
        if (!strcmp(g->token[i].what, what)) return g->token[i].field;
        if (!strcmp(g->token[i].field, field)) field = arena_printf(arena(g), "token.%s_%d", name, g->n_token);
    }
    if (g->n_token == (int)LEN(g->token)) die("hooks: more than %zu loads of a token behind %s", LEN(g->token), node_name(owner(g)));
    g->token[g->n_token].what = what;
    return g->token[g->n_token++].field = field;
}

/* The member of Column that has the weight's element k. */
static const char *column_load(Gen *g, const char *name) {
    int i = 0;
    while (i < g->n_column && strcmp(g->column[i], name)) i++;
    if (i == (int)LEN(g->column)) die("hooks: more than %zu weights in front of %s", LEN(g->column), node_name(owner(g)));
    if (i == g->n_column) g->column[g->n_column++] = name;
    return arena_printf(arena(g), "column.%s", name);
}

/* Integers are named, since several texts use them: a token's slot, its position. */
static const char *load(Gen *g, const Value *v, const char *hint, const char *index) {
    const char *name = argument(g->h, v, hint, false);
    if (g->asks && v->type.dtype == DT_I32 && is_of_token(index)) return token_load(g, name, index);
    if (g->columns && owner_memory(owner(g), v)->kind == VALUE_PARAM && v->type.dtype == DT_F32 && !strcmp(index, "k")) return column_load(g, name);
    const char *expr = read_text(g, name, index);
    if (v->type.dtype != DT_I32) return expr;
    const char *var = known(g, expr);
    if (var) return var;
    var = arena_printf(arena(g), "%s_%d", name, g->n_known);
    line(g, "const int %s = %s;", var, expr);
    return now_known(g, expr, var);
}

static const char *from_memory(Gen *g, const Value *v, const char *hint, const char *row, const char *column) {
    const Type *t = &v->type;
    if (t->rank == 0) return load(g, v, hint, "0");
    if (t->rank == 1) return load(g, v, hint, dim_is_const(t->dim[0]) ? column : row);
    return load(g, v, hint, product(arena(g), row, value_columns(v), column));
}

/* --- texts ----------------------------------------------------------------------------------------------------------- */

typedef struct Place Place; /* where an op is computed */
struct Place {
    const Node *n;
    const char *row, *column, *x0, *x1, *i, *sum;
};

static const char *expand(Gen *g, const Place *p, const char *text, size_t n);

/* The end of the argument that begins at s: a comma or parenthesis at its own depth. */
static const char *argument_end(const char *s) {
    int depth = 0;
    for (; *s; s++) {
        if (!depth && (*s == ',' || *s == ')')) return s;
        depth += (*s == '(') - (*s == ')');
    }
    die("hooks: unbalanced text in ops.def");
}

/* $name, $name.1, $name(i), $name(t, n): *s stands behind the name. */
static const char *operand(Gen *g, const Place *p, const Value *v, const char *name, const char **s) {
    if (**s == '.' && isdigit((unsigned char)(*s)[1])) {
        int d = (*s)[1] - '0';
        *s += 2;
        return arena_printf(arena(g), "%" PRId64, size_of(v, d));
    }
    if (**s != '(') return pull(g, v, name, p->row, p->column);
    const char *end = argument_end(*s + 1), *first = expand(g, p, *s + 1, (size_t)(end - *s - 1));
    *s = end + 1;
    if (*end == ')') return load(g, v, name, first);
    while (**s == ' ') (*s)++;
    end = argument_end(*s);
    const char *second = expand(g, p, *s, (size_t)(end - *s));
    *s = end + 1;
    return pull(g, v, name, first, second);
}

static const char *attribute(const Gen *g, const Node *n, const char *word) {
    const Attr *attr = node_attr(n, word);
    if (!attr) die("CODE(%s): no input or attribute %s", op_info(n->op)->name, word);
    if (attr->type == ATTR_STR) return attr->s;
    return attr->type == ATTR_INT ? arena_printf(arena(g), "%" PRId64, attr->i) : arena_printf(arena(g), "%.17g", attr->f);
}

static const char *variable(const Place *p, const char *word) {
    const struct {
        const char *name, *is;
    } words[] = {{"t", p->row}, {"n", p->column}, {"0", p->x0}, {"1", p->x1}, {"i", p->i}, {"sum", p->sum}, {"row", "row"}};
    for (size_t i = 0; i < LEN(words); i++)
        if (!strcmp(words[i].name, word)) return words[i].is;
    return NULL;
}

static const char *parenthesised(Arena *a, const char *s) { return strpbrk(s, " ") && *s != '(' ? arena_printf(a, "(%s)", s) : s; }

static const char *expand(Gen *g, const Place *p, const char *text, size_t n) {
    const char *end = text + n;
    Text t = {0};
    while (text < end) {
        if (*text != '$') {
            text_put(&t, text++, 1);
            continue;
        }
        const char *s = ++text;
        while (isalnum((unsigned char)*text)) text++;
        const char *word = arena_strndup(arena(g), s, (size_t)(text - s)), *is = variable(p, word);
        int in = is ? -1 : op_input(p->n->op, word);
        if (!is) is = in < 0 ? attribute(g, p->n, word) : operand(g, p, p->n->in[in], word, &text);
        text_add(&t, "%s", parenthesised(arena(g), is));
    }
    const char *s = arena_strndup(arena(g), t.at ? t.at : "", t.n);
    text_free(&t);
    return s;
}

static const char *expand_all(Gen *g, const Place *p, int text) {
    const char *s = op_code(p->n->op)->text[text];
    return expand(g, p, s, strlen(s));
}

/* --- pulling ---------------------------------------------------------------------------------------------------------- */

/* "rope5_at": the op, its place in the body, and the second time that it is computed "rope5x2_at". */
static const char *name_of(const Gen *g, const Node *n, const char *suffix) {
    size_t i = owner_index(owner(g), n->out[0]);
    const char *again = g->uses[i] > 1 ? arena_printf(arena(g), "x%d", g->uses[i]) : "";
    return arena_printf(arena(g), "%s%zu%s%s", op_info(n->op)->name, i, again, suffix);
}

static const char *sum_over_ranks(Gen *g, Place p) {
    const char *name = name_of(g, p.n, "_sum");
    line(g, "double %s = 0;", name);
    g->ranks = g->asks ? (int)size_of(p.n->in[0], 1) : 0;
    line(g, "for (int r = 0; r < %" PRId64 "; r++) {", size_of(p.n->in[0], 1));
    open_block(g);
    line(g, "const double sum = %s;", name);
    line(g, "%s = %s;", name, expand_all(g, &p, 0));
    close_block(g);
    g->ranks = 0;
    p.sum = name;
    return expand_all(g, &p, 1);
}

static const char *half(Gen *g, Place p) {
    const char *at = name_of(g, p.n, "_at"), *low = name_of(g, p.n, "_low"), *high = name_of(g, p.n, "_high");
    int64_t d = node_int(p.n, "head_dim");
    p.i = name_of(g, p.n, "_i");
    line(g, "const int %s = (%s) %% %" PRId64 ", %s = %s %% %" PRId64 ";", at, p.column, d, p.i, at, d / 2);
    line(g, "const float %s = %s;", low, pull(g, p.n->in[0], "x", p.row, arena_printf(arena(g), "%s - %s + %s", p.column, at, p.i)));
    line(g, "const float %s = %s;", high, pull(g, p.n->in[0], "x", p.row, arena_printf(arena(g), "%s - %s + %s + %" PRId64, p.column, at, p.i, d / 2)));
    p.x0 = low, p.x1 = high;
    const char *first = expand_all(g, &p, 0), *second = expand_all(g, &p, 1);
    return arena_printf(arena(g), "%s < %" PRId64 " ? %s : %s", at, d / 2, first, second);
}

/* An element of what n computes, as a variable. */
static const char *computed(Gen *g, const Node *n, const char *row, const char *column) {
    Place p = {.n = n, .row = row, .column = column};
    const char *here = arena_printf(arena(g), "%zu: %s, %s", owner_index(owner(g), n->out[0]), row, column), *expr = known(g, here);
    if (expr) return expr;
    g->uses[owner_index(owner(g), n->out[0])]++;
    switch (op_code(n->op)->kind) {
    case CODE_VIEW: return pull(g, n->in[0], "x", row, arena_printf(arena(g), "%s + %s", expand_all(g, &p, 0), column));
    case CODE_EACH: expr = expand_all(g, &p, 0); break;
    case CODE_ROW: expr = expand_all(g, &p, 2); break;
    case CODE_SUM: expr = sum_over_ranks(g, p); break;
    case CODE_HALVES: expr = half(g, p); break;
    case CODE_NEAR:
        p.x0 = pull(g, n->in[0], "x", row, arena_printf(arena(g), "2 * (%s)", column));
        p.x1 = pull(g, n->in[0], "x", row, arena_printf(arena(g), "2 * (%s) + 1", column));
        expr = expand_all(g, &p, 0);
        break;
    case CODE_STORE:
    case CODE_NONE: die("hooks: %s gives no element", node_name(n));
    }
    const char *name = name_of(g, n, "");
    line(g, "const %s %s = %s;", ctype(n->out[0]), name, expr);
    return now_known(g, here, name);
}

static const Lane *lane_of(const Gen *g, const Value *v) {
    for (int i = g->n_lanes; i-- > 0;)
        if (g->lane[i].v == v) return &g->lane[i];
    return NULL;
}

static const char *pull(Gen *g, const Value *v, const char *hint, const char *row, const char *column) {
    const Part *p = g->h->part;
    switch (part_origin(p, g->h->parts, v)) {
    case FROM_OUTSIDE: return from_memory(g, v, hint, row, column);
    case FROM_CODE: return computed(g, v->def, row, column);
    case FROM_SOURCE: break;
    }
    if (p->ranks && v == p->source) return "v[r]";
    const Lane *l = lane_of(g, v);
    if (!l) die("hooks: %s is not there yet", v->name);
    return l->var[l->n > g->at ? g->at : 0];
}

/* --- storing ---------------------------------------------------------------------------------------------------------- */

static void store_output(Gen *g, const Value *v, const char *row, const char *column, const char *what) {
    const Node *o = owner(g);
    Value *m = owner_memory(owner(g), v);
    if (v->def && node_state_in(v->def, v->index) >= 0) return; /* stored by its op */
    if (m->def == o && node_state_in(o, m->index) >= 0) return;
    const Type *t = &v->type;
    const char *index = t->rank == 1 ? (dim_is_const(t->dim[0]) ? column : row) : product(arena(g), row, value_columns(v), column);
    line(g, "%sstore(a.%s, %s, %s);", g->asks ? "l." : "", argument(g->h, v, "y", true), index, what);
}

static bool is_stored(const Part *p, const Value *v) {
    for (int i = 0; i < p->n_out; i++)
        if (p->out[i] == v) return true;
    return false;
}

/* Input k of the STORE op n, which is `what` at row, column. */
static void store_state(Gen *g, const Node *n, int k, const char *row, const char *column, const char *what) {
    Place p = {.n = n, .row = row, .column = column};
    const char *at = expand_all(g, &p, k - 1);
    line(g, "%sstore(a.%s, %s, %s);", g->asks ? "l." : "", argument(g->h, n->in[0], op_input_name(arena(g), n->op, 0), true), at, what);
}

/* --- in front --------------------------------------------------------------------------------------------------------- */

static void add_text(Text *to, Text *from) {
    text_put(to, from->at, from->n);
    text_free(from);
}

static const char *args_type(const Hooks *h) { return h->is_c ? "const Args a" : "const Args &a"; }

/* A wave's part of the sum over the row's columns; on the host all of it, in 16 lanes. */
static void sum_function(Hooks *h, Text *t, const char *name, const Node *n) {
    Gen g = {.h = h, .depth = h->is_c ? 2 : 1};
    Place p = {.n = n, .row = "t", .column = "n"};
    int64_t width = value_columns(n->in[0]);
    const char *term = expand_all(&g, &p, 0);
    if (h->is_c) {
        text_add(t, "DEVICE double %s_sum(%s, int t) {\n    double lane[16] = {0};\n    for (int c = 0; c < %" PRId64 "; c += 16)\n", name, args_type(h), width);
        text_add(t, "        for (int i = 0; i < 16 && c + i < %" PRId64 "; i++) {\n            const int n = c + i;\n            const double sum = lane[i];\n", width);
        add_text(t, &g.text);
        text_add(t, "            lane[i] = %s;\n        }\n    return sum_lanes(lane);\n}\n", term);
        return;
    }
    text_add(t, "DEVICE real %s_sum(%s, int t, int q) {\n    real sum = 0;\n", name, args_type(h));
    text_add(t, "    strided<%" PRId64 ", ROW_PARTS * WAVE>(q * WAVE + threadIdx.x %% WAVE, [&](int n) {\n", width);
    add_text(t, &g.text);
    text_add(t, "        sum = %s;\n    });\n    return wave_sum(sum);\n}\n", term);
}

static void stat_function(Hooks *h, Text *t, const char *name, const Node *n) {
    Gen g = {.h = h};
    Place p = {.n = n, .row = "t", .column = "n", .sum = "sum"};
    const char *stat = expand_all(&g, &p, 1);
    text_add(t, "DEVICE real %s_stat(real sum) { return %s; }\n", name, stat);
    text_free(&g.text);
}

static void row_functions(Hooks *h, Text *t, const char *name, const Node *n) {
    if (n) {
        sum_function(h, t, name, n);
        stat_function(h, t, name, n);
    } else { /* so that a template need not be written twice */
        text_add(t, h->is_c ? "DEVICE double %s_sum(%s, int t) { return 0; }\n" : "DEVICE real %s_sum(%s, int t, int q) { return 0; }\n", name, args_type(h));
        text_add(t, "DEVICE real %s_stat(real sum) { return 0; }\n", name);
    }
}

static void front_columns(Hooks *h, Text *t, const char *name, const Gen *g) {
    text_add(t, "struct %s_Column {", name);
    for (int i = 0; i < g->n_column; i++) text_add(t, "%s%s", i ? ", " : " float ", g->column[i]);
    text_add(t, g->n_column ? "; };\n" : "};\n");
    text_add(t, "DEVICE %s_Column %s_column(%s, int k) {\n    %s_Column column;\n", name, name, args_type(h), name);
    for (int i = 0; i < g->n_column; i++) text_add(t, "    column.%s = load(a.%s, k);\n", g->column[i], g->column[i]);
    text_add(t, "    return column;\n}\n");
}

void hooks_front(Hooks *h, Text *t, int input, const char *name) {
    const Value *v = h->part->core->in[input];
    Gen g = {.h = h, .columns = !h->is_c};
    const char *element = pull(&g, v, name, "t", "k"), *of_column = h->is_c ? "" : arena_printf(h->a, ", const %s_Column &column", name);
    text_add(t, "// Operand %s: element k of row t.\n", name);
    row_functions(h, t, name, part_statistic(h->part, h->parts, v));
    if (g.columns) front_columns(h, t, name, &g);
    text_add(t, "DEVICE float %s_at(%s, real row, int t, int k%s) {\n", name, args_type(h), of_column);
    add_text(t, &g.text);
    text_add(t, "    return %s;\n}\n", element);
    if (g.columns) text_add(t, "DEVICE float %s_at(%s, real row, int t, int k) { return %s_at(a, row, t, k, %s_column(a, k)); }\n", name, args_type(h), name, name);
    text_add(t, "\n");
}

/* --- behind ----------------------------------------------------------------------------------------------------------- */

static void behind_from(Gen *g, size_t from, const Value *within);
static void store_pieces(Gen *g, const Value *v);

static Lane *bind(Gen *g, const Value *v, int n) {
    if (g->n_lanes == (int)LEN(g->lane)) die("hooks: too many values behind %s", node_name(owner(g)));
    g->lane[g->n_lanes] = (Lane){.v = v, .n = n};
    return &g->lane[g->n_lanes++];
}

static void store_lanes(Gen *g, const Lane *l) {
    for (int i = 0; i < l->n && is_stored(g->h->part, l->v); i++) store_output(g, l->v, "t", l->column[i], l->var[i]);
}

/* The first input that lies behind the core: the others are pulled. */
static const Lane *principal(const Gen *g, const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && lane_of(g, n->in[i])) return lane_of(g, n->in[i]);
    die("hooks: %s has nothing behind the core", node_name(n));
}

static void each_lane(Gen *g, const Node *n) {
    const Lane x = *principal(g, n);
    Lane *l = bind(g, n->out[0], x.n);
    for (int i = 0; i < x.n; i++) {
        Place p = {.n = n, .row = "t", .column = x.column[i]};
        g->at = i;
        const char *expr = expand_all(g, &p, 0);
        l->column[i] = x.column[i];
        l->var[i] = name_of(g, n, x.n > 1 ? (i ? "b" : "a") : "");
        line(g, "const %s %s = %s;", ctype(n->out[0]), l->var[i], expr);
    }
    g->at = 0;
    store_lanes(g, l);
}

static bool views_apart(const Part *p) {
    int64_t end[PART_NODES], at[PART_NODES];
    int views = 0;
    for (size_t i = 0; i < owner_nodes(p->owner); i++) {
        const Node *n = owner_node(p->owner, i);
        if (!p->behind[i] || op_code(n->op)->kind != CODE_VIEW) continue;
        at[views] = node_int(n, "offset"), end[views] = at[views] + value_columns(n->out[0]);
        for (int k = 0; k < views; k++)
            if (at[k] < end[views] && at[views] < end[k]) return false; /* or one within the other */
        views++;
    }
    return true;
}

static void view_lanes(Gen *g, const Node *n, size_t i) {
    const Lane x = *principal(g, n);
    int asked = g->n_asked;
    int64_t offset = node_int(n, "offset"), width = value_columns(n->out[0]);
    int lanes = g->n_lanes;
    const char *c = x.column[0];
    if (offset) line(g, "if (%s >= %" PRId64 " && %s < %" PRId64 ") {", c, offset, c, offset + width);
    else line(g, "if (%s < %" PRId64 ") {", c, width);
    open_block(g);
    Lane *l = bind(g, n->out[0], x.n);
    for (int k = 0; k < x.n; k++) {
        l->var[k] = x.var[k];
        l->column[k] = offset ? arena_printf(arena(g), "%s - %" PRId64, x.column[k], offset) : x.column[k];
    }
    store_lanes(g, l);
    store_pieces(g, n->out[0]);
    behind_from(g, i + 1, n->out[0]);
    close_block(g);
    g->n_lanes = lanes;
    if (g->apart) g->n_asked = asked;
}

static void near_lane(Gen *g, const Node *n) {
    const Lane x = *principal(g, n);
    Place p = {.n = n, .row = "t", .column = "j", .x0 = x.var[0], .x1 = x.var[1]};
    const char *expr = expand_all(g, &p, 0);
    Lane *l = bind(g, n->out[0], 1);
    l->var[0] = name_of(g, n, "");
    l->column[0] = "j";
    line(g, "const float %s = %s;", l->var[0], expr);
    store_lanes(g, l);
}

static void half_lanes(Gen *g, const Node *n) {
    const Lane x = *principal(g, n);
    Place p = {.n = n, .row = "t", .column = x.column[0], .x0 = x.var[0], .x1 = x.var[1], .i = name_of(g, n, "_i")};
    line(g, "const int %s = (%s) %% %" PRId64 ";", p.i, x.column[0], node_int(n, "head_dim"));
    Lane *l = bind(g, n->out[0], 2);
    for (int i = 0; i < 2; i++) {
        const char *expr = expand_all(g, &p, i);
        l->var[i] = name_of(g, n, i ? "b" : "a");
        l->column[i] = x.column[i];
        line(g, "const float %s = %s;", l->var[i], expr);
    }
    store_lanes(g, l);
}

static void state_lanes(Gen *g, const Node *n, int k) {
    const Lane *l = lane_of(g, n->in[k]);
    for (int i = 0; i < l->n; i++) store_state(g, n, k, "t", l->column[i], l->var[i]);
}

/* A state's writer is done in pieces: each of its inputs where that input is. */
static void store_pieces(Gen *g, const Value *v) {
    for (size_t i = 0; i < owner_nodes(owner(g)); i++) {
        const Node *n = owner_node(owner(g), i);
        if (!g->h->part->behind[i] || op_code(n->op)->kind != CODE_STORE) continue;
        for (int k = 1; k <= op_stores(n->op); k++)
            if (n->in[k] == v) state_lanes(g, n, k);
    }
}

static bool is_ready(const Gen *g, size_t i) {
    const Node *n = owner_node(owner(g), i);
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] && part_origin(g->h->part, g->h->parts, n->in[k]) == FROM_SOURCE && !lane_of(g, n->in[k])) return false;
    return true;
}

/* The ops behind the core, in order. within: those that follow from this view, whose columns are being looked at. */
static void behind_from(Gen *g, size_t from, const Value *within) {
    const Part *p = g->h->part;
    for (size_t i = from; i < owner_nodes(owner(g)); i++) {
        const Node *n = owner_node(owner(g), i);
        CodeKind kind = op_code(n->op)->kind;
        if (!p->behind[i] || n == p->core || n->out[0] == p->source || g->done[i] || kind == CODE_STORE) continue;
        if ((within && !value_depends(n->out[0], within)) || !is_ready(g, i)) continue;
        g->done[i] = true;
        if (kind == CODE_VIEW) view_lanes(g, n, i);
        else if (kind == CODE_NEAR) near_lane(g, n);
        else if (kind == CODE_HALVES) half_lanes(g, n);
        else each_lane(g, n);
        if (kind != CODE_VIEW) store_pieces(g, n->out[0]);
    }
}

/* v[r] of every rank: the sum over them comes first. */
static void behind_ranks(Gen *g) {
    const Part *p = g->h->part;
    for (size_t i = 0; i < owner_nodes(owner(g)); i++) {
        const Node *n = owner_node(owner(g), i);
        if (!p->behind[i] || op_code(n->op)->kind != CODE_SUM) continue;
        Place at = {.n = n, .row = "t", .column = "j"};
        const char *expr = sum_over_ranks(g, at), *name = name_of(g, n, "");
        line(g, "const float %s = %s;", name, expr);
        Lane *l = bind(g, n->out[0], 1);
        l->var[0] = name;
        l->column[0] = "j";
        g->done[i] = true;
        store_lanes(g, l);
    }
}

static void out_row(const Part *p, Text *t) {
    if (p->pairs == PAIRS_NEAR) text_add(t, "DEVICE int out_row(int j, int m) { return 2 * j + m; }\n");
    else if (p->pairs == PAIRS_HALVES)
        text_add(t, "DEVICE int out_row(int j, int m) { return j / %" PRId64 " * %" PRId64 " + j %% %" PRId64 " + m * %" PRId64 "; }\n", p->head / 2, p->head, p->head / 2, p->head / 2);
    else text_add(t, "DEVICE int out_row(int j, int m) { return j; }\n");
}

static void behind_token(Text *text, const Gen *g) {
    text_add(text, "    struct Token {");
    for (int i = 0; i < g->n_token; i++) text_add(text, "%s%s", i ? ", " : " int ", strchr(g->token[i].field, '.') + 1);
    text_add(text, g->n_token ? "; };\n" : "};\n");
    text_add(text, "    METHOD Token token(int t) const {\n        Token token;\n");
    for (int i = 0; i < g->n_token; i++) text_add(text, "        %s = load(%s);\n", g->token[i].field, g->token[i].what);
    text_add(text, "        return token;\n    }\n");
}

static void behind_asks(Hooks *h, Text *text, Gen *g) {
    text_add(text, "// Column out_row(j, m) of row t of the kernel's result is v[m].\n");
    out_row(h->part, text);
    text_add(text, "struct Behind {\n    enum { GROUP = %d, VALUES = %d, LOADS = %d };\n    typedef Asked<LOADS> Asks;\n    %s;\n",
             h->part->pairs ? 2 : 1, h->part->ranks ? (int)size_of(h->part->source, 1) : h->part->pairs ? 2 : 1, g->most_asked, args_type(h));
    behind_token(text, g);
    text_add(text, "    template <class L> METHOD void with(L &l, const Token &token, int t, int j, const float *v) const {\n");
    add_text(text, &g->text);
    text_add(text, "    }\n"
                   "    METHOD static int column(int j, int m) { return out_row(j, m); }\n"
                   "    METHOD Asks ask(const Token &token, int t, int j) const {\n"
                   "        const float none[VALUES] = {};\n"
                   "        Asks x;\n"
                   "        Asking<LOADS> l(x, a.step);\n"
                   "        with(l, token, t, j, none);\n"
                   "        l.end();\n"
                   "        return x;\n"
                   "    }\n"
                   "    METHOD void give(const Token &token, int t, int j, const float *v, const Asks &x) const {\n"
                   "        Told<LOADS> l{x};\n"
                   "        with(l, token, t, j, v);\n"
                   "    }\n"
                   "};\n\n");
}

void hooks_behind(Hooks *h, Text *text, const Template *t) {
    const Part *p = h->part;
    bool single = t->hook;
    Gen g = {.h = h, .asks = t->asks, .depth = t->asks, .apart = views_apart(p)};
    if (p->ranks) behind_ranks(&g);
    else {
        Lane *l = bind(&g, p->source, p->pairs ? 2 : 1);
        l->var[0] = single ? "v" : "v[0]", l->var[1] = "v[1]";
        l->column[0] = p->pairs ? "n0" : single ? "n" : "j", l->column[1] = "n1";
        if (p->pairs) line(&g, "const int n0 = out_row(j, 0), n1 = out_row(j, 1);");
        store_lanes(&g, l);
        store_pieces(&g, p->source);
    }
    behind_from(&g, 0, NULL);
    if (t->asks) {
        behind_asks(h, text, &g);
        return;
    }
    if (single) text_add(text, "// Row t, column n of the kernel's result is v.\nDEVICE void out(%s, int t, int n, float v) {\n", args_type(h));
    else {
        text_add(text, "// Column out_row(j, m) of row t of the kernel's result is v[m].\n");
        out_row(p, text);
        text_add(text, "DEVICE void out(%s, int t, int j, const float *v) {\n", args_type(h));
    }
    add_text(text, &g.text);
    text_add(text, "}\n\n");
}

/* --- all generated ----------------------------------------------------------------------------------------------------- */

void hooks_each(Hooks *h, Text *t) {
    const Part *p = h->part;
    Gen g = {.h = h};
    int64_t most = part_columns(p);
    for (size_t i = 0; i < owner_nodes(p->owner); i++) {
        const Node *n = owner_node(p->owner, i);
        bool state = op_code(n->op)->kind == CODE_STORE;
        if (!p->behind[i] || (!state && !is_stored(p, n->out[0]))) continue;
        int64_t width = value_columns(state ? n->in[1] : n->out[0]);
        if (width < most) {
            line(&g, "if (n < %" PRId64 ") {", width);
            open_block(&g);
        }
        for (int k = 1; state && k <= op_stores(n->op); k++)
            store_state(&g, n, k, "t", "n", pull(&g, n->in[k], op_input_name(h->a, n->op, k), "t", "n"));
        if (!state) store_output(&g, n->out[0], "t", "n", pull(&g, n->out[0], "x", "t", "n"));
        if (width < most) close_block(&g);
    }
    const Node *row = part_statistic(p, h->parts, NULL);
    text_add(t, "// Column n of row t of every result.\n");
    if (row) row_functions(h, t, "own", row);
    text_add(t, "DEVICE void each(%s, real row, int t, int n) {\n", args_type(h));
    add_text(t, &g.text);
    text_add(t, "}\n\n");
}
