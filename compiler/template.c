/* template.c - read template heads and bind a template to a node. See template.h for the language.
 * Add a head word in the table `words`. */
#include "template.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

/* --- the head --- */

typedef struct Cursor Cursor;
struct Cursor {
    Arena *a;
    const char *p, *file;
    int line;
    Err *e;
};

static void space(Cursor *c) {
    while (*c->p == ' ' || *c->p == '\t') c->p++;
}

static bool bad(Cursor *c, const char *what) {
    return err_set(c->e, "%s:%d: error: %s at \"%.30s\"", c->file, c->line, what, c->p);
}

static bool take(Cursor *c, char ch) {
    space(c);
    if (*c->p != ch) return false;
    c->p++;
    return true;
}

static bool want(Cursor *c, char ch) {
    char what[] = "expected ' '";
    what[10] = ch;
    return take(c, ch) || bad(c, what);
}

static const char *word(Cursor *c) {
    space(c);
    const char *s = c->p;
    while (isalnum((unsigned char)*c->p) || *c->p == '_') c->p++;
    return arena_strndup(c->a, s, (size_t)(c->p - s));
}

/* The rest of the line, or up to the separator at parenthesis depth 0. */
static const char *text_until(Cursor *c, char stop) {
    space(c);
    const char *s = c->p;
    for (int depth = 0; *c->p && (*c->p != stop || depth); c->p++) depth += (*c->p == '(') - (*c->p == ')');
    const char *end = c->p;
    while (end > s && isspace((unsigned char)end[-1])) end--;
    return arena_strndup(c->a, s, (size_t)(end - s));
}

static bool read_param(Cursor *c, Param *p) {
    p->name = word(c);
    if (!*p->name) return bad(c, "expected a parameter name");
    p->optional = take(c, '?');
    if (!want(c, ':')) return false;
    do {
        if (p->n_types == DT_COUNT || !dtype_parse(word(c), &p->types[p->n_types++])) return bad(c, "expected a type");
    } while (take(c, '|'));
    if (!want(c, '[')) return false;
    do {
        if (p->rank == MAX_RANK) return bad(c, "too many dimensions");
        bool optional = take(c, '(');
        p->dim_optional[p->rank] = optional;
        p->dim[p->rank++] = word(c);
        if (optional && !want(c, ')')) return false;
    } while (take(c, ','));
    return want(c, ']');
}

static bool read_params(Cursor *c, Param *p, int max, int *n) {
    if (!want(c, '(')) return false;
    if (take(c, ')')) return true;
    do {
        if (*n == max) return bad(c, "too many parameters");
        if (!read_param(c, &p[(*n)++])) return false;
    } while (take(c, ','));
    return want(c, ')');
}

static bool do_kernel(Cursor *c, Template *t) {
    t->kernel = word(c);
    if (!read_params(c, t->in, MAX_IN, &t->n_in)) return false;
    if (!want(c, '-') || !want(c, '>')) return false;
    return read_params(c, t->out, MAX_OUT, &t->n_out);
}
static bool do_precision(Cursor *c, Template *t) { return t->precision = word(c), true; }
static bool do_arch(Cursor *c, Template *t) { return t->arch = word(c), true; }
static bool do_priority(Cursor *c, Template *t) { return t->priority = atoi(text_until(c, 0)), true; }
static bool do_block(Cursor *c, Template *t) { return t->block = text_until(c, 0), true; }
static bool do_reduce(Cursor *c, Template *t) { return t->reduce = text_until(c, 0), true; }
static bool do_hook(Cursor *c, Template *t) {
    return t->hook = true, !strcmp(word(c), "out") || bad(c, "the hook is called out");
}

static bool do_named(Cursor *c, LineList *list) {
    Line l = {.line = c->line};
    l.name = word(c);
    if (!*l.name || !want(c, '=')) return bad(c, "expected NAME = …");
    l.text = text_until(c, 0);
    PUSH(c->a, *list, l);
    return true;
}
static bool do_attr(Cursor *c, Template *t) { return do_named(c, &t->attrs); }
static bool do_cast(Cursor *c, Template *t) { return do_named(c, &t->casts); }
static bool do_const(Cursor *c, Template *t) { return do_named(c, &t->consts); }
static bool do_where(Cursor *c, Template *t) {
    /* Wheres go in line with consts so that either may use what stands above it: name NULL marks one. */
    Line l = {NULL, text_until(c, 0), c->line};
    PUSH(c->a, t->consts, l);
    return true;
}
static bool do_group(Cursor *c, Template *t) {
    t->group_perm = word(c);
    if (!want(c, ',')) return false;
    t->group_tiles = word(c);
    if (!want(c, '=')) return false;
    t->group_ids = word(c);
    if (!want(c, ',')) return false;
    t->group_tile = word(c);
    return true;
}
static bool do_grid(Cursor *c, Template *t) {
    for (int i = 0; i < 3; i++) {
        t->grid[i] = text_until(c, ',');
        if (!take(c, ',')) break;
    }
    return true;
}
static bool do_tol(Cursor *c, Template *t) {
    for (const char *w; *(w = word(c));) {
        space(c);
        char *end;
        double v = strtod(c->p, &end);
        if (end == c->p) return bad(c, "expected a tolerance");
        c->p = end;
        if (!strcmp(w, "strict")) t->tol_strict = v;
        else if (!strcmp(w, "fast")) t->tol_fast = v;
        else return bad(c, "expected strict or fast");
    }
    return true;
}

static const struct {
    const char *name;
    bool (*read)(Cursor *, Template *);
} words[] = {
    {"kernel", do_kernel}, {"precision", do_precision},
    {"arch", do_arch},     {"priority", do_priority},
    {"attr", do_attr},     {"cast", do_cast},
    {"const", do_const},   {"where", do_where},
    {"group", do_group},   {"grid", do_grid},
    {"block", do_block},   {"reduce", do_reduce},
    {"hook", do_hook},     {"tol", do_tol},
};

static bool head_line(Cursor *c, Template *t) {
    const char *w = word(c);
    for (size_t i = 0; i < LEN(words); i++) {
        if (strcmp(words[i].name, w)) continue;
        if (!words[i].read(c, t)) return false;
        space(c);
        return !*c->p || bad(c, "unexpected text");
    }
    return bad(c, "unknown word in a template's head");
}

static Template *read_template(Arena *a, const char *path, const char *file, Err *e) {
    size_t size;
    char *text = file_read_text(a, path, &size, e);
    if (!text) return NULL;
    Template *t = arena_alloc(a, sizeof *t);
    *t = (Template){.file = file, .hash = hash64(text, size), .grid = {"1", "1", "1"}, .reduce = ""};
    Cursor c = {a, text, path, 1, e};
    char *p = text;
    for (; !strncmp(p, "//!", 3); c.line++) {
        char *end = strchr(p, '\n');
        if (!end) end = p + strlen(p);
        c.p = arena_strndup(a, p + 3, (size_t)(end - p - 3));
        if (!head_line(&c, t)) return NULL;
        p = *end ? end + 1 : end;
    }
    t->body = p;
    t->body_line = c.line;
    if (!t->kernel || !t->block) return err_set(e, "%s: error: a template's head needs kernel and block", path), NULL;
    return t;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool templates_load(Arena *a, TemplateList *list, const char *dir, const char *ending, Err *e) {
    DIR *d = opendir(dir);
    if (!d) return err_set(e, "templates: %s: %s", dir, strerror(errno));
    struct {
        char **at;
        size_t n, cap;
    } names = {0};
    for (struct dirent *f; (f = readdir(d));) {
        size_t n = strlen(f->d_name), end = strlen(ending);
        if (n > end && f->d_name[0] != '.' && !strcmp(f->d_name + n - end, ending))
            PUSH(a, names, arena_strdup(a, f->d_name));
    }
    closedir(d);
    if (names.n) qsort(names.at, names.n, sizeof *names.at, by_name);
    for (size_t i = 0; i < names.n; i++) {
        Template *t = read_template(a, arena_printf(a, "%s/%s", dir, names.at[i]), names.at[i], e);
        if (!t) return false;
        size_t k = 0;
        while (k < list->n && strcmp(list->at[k]->file, t->file)) k++;
        if (k < list->n) list->at[k] = t;
        else PUSH(a, *list, t);
    }
    return true;
}

/* --- expressions --- */

typedef struct Eval Eval;
struct Eval {
    const Binding *b;
    const char *p, *expr;
    int64_t rows;
    Err *e;
    bool failed;
};

static int64_t ternary(Eval *v);

static int64_t fail(Eval *v, const char *what) {
    if (!v->failed) err_set(v->e, "\"%s\": %s", v->expr, what);
    v->failed = true;
    return 1;
}

static bool sees(Eval *v, const char *op) {
    while (isspace((unsigned char)*v->p)) v->p++;
    size_t n = strlen(op);
    if (strncmp(v->p, op, n)) return false;
    if (n == 1 && strchr("<>=!", op[0]) && v->p[1] == '=') return false;
    v->p += n;
    return true;
}

static int64_t call(Eval *v, const char *name) {
    int64_t x = ternary(v), y = sees(v, ",") ? ternary(v) : fail(v, "expected a second argument");
    if (!sees(v, ")")) fail(v, "expected )");
    if (!strcmp(name, "min")) return x < y ? x : y;
    if (!strcmp(name, "max")) return x > y ? x : y;
    if (!strcmp(name, "ceil")) return y <= 0 ? fail(v, "division by zero") : (x + y - 1) / y;
    return fail(v, "unknown function");
}

static int64_t primary(Eval *v) {
    if (sees(v, "(")) {
        int64_t x = ternary(v);
        return sees(v, ")") ? x : fail(v, "expected )");
    }
    if (sees(v, "!")) return !primary(v);
    if (sees(v, "-")) return -primary(v);
    if (isdigit((unsigned char)*v->p)) {
        char *end;
        int64_t x = strtoll(v->p, &end, 10);
        v->p = end;
        return x;
    }
    char name[64];
    size_t n = 0;
    while ((isalnum((unsigned char)*v->p) || *v->p == '_') && n + 1 < sizeof name) name[n++] = *v->p++;
    name[n] = 0;
    if (!n) return fail(v, "expected a value");
    if (sees(v, "(")) return call(v, name);
    if (!strcmp(name, "T")) return v->rows >= 0 ? v->rows : fail(v, "T is not a constant");
    const Const *c = binding_const(v->b, name);
    if (!c || c->is_float) {
        char what[96];
        snprintf(what, sizeof what, "%s is not an integer constant here", name);
        return fail(v, what);
    }
    return c->i;
}

static int64_t product(Eval *v) {
    int64_t x = primary(v);
    for (;;) {
        char op = sees(v, "*") ? '*' : sees(v, "/") ? '/' : sees(v, "%") ? '%' : 0;
        if (!op) return x;
        int64_t y = primary(v);
        if (op != '*' && y == 0) return fail(v, "division by zero");
        x = op == '*' ? x * y : op == '/' ? x / y : x % y;
    }
}

static int64_t sum(Eval *v) {
    int64_t x = product(v);
    for (;;) {
        if (sees(v, "+")) x += product(v);
        else if (sees(v, "-")) x -= product(v);
        else return x;
    }
}

static int64_t compare(Eval *v) {
    int64_t x = sum(v);
    if (sees(v, "<=")) return x <= sum(v);
    if (sees(v, ">=")) return x >= sum(v);
    if (sees(v, "==")) return x == sum(v);
    if (sees(v, "!=")) return x != sum(v);
    if (sees(v, "<")) return x < sum(v);
    if (sees(v, ">")) return x > sum(v);
    return x;
}

static int64_t logic(Eval *v) {
    int64_t x = compare(v);
    for (;;) {
        if (sees(v, "&&")) x = (compare(v) != 0) & (x != 0);
        else if (sees(v, "||")) x = (compare(v) != 0) | (x != 0);
        else return x;
    }
}

static int64_t ternary(Eval *v) {
    int64_t c = logic(v);
    if (!sees(v, "?")) return c;
    int64_t x = ternary(v);
    if (!sees(v, ":")) return fail(v, "expected :");
    int64_t y = ternary(v);
    return c ? x : y;
}

bool binding_eval(const Binding *b, const char *expr, int64_t rows, int64_t *value, Err *e) {
    Eval v = {b, expr, expr, rows, e, false};
    *value = ternary(&v);
    while (isspace((unsigned char)*v.p)) v.p++;
    if (*v.p) fail(&v, "unexpected text");
    return !v.failed;
}

const Const *binding_const(const Binding *b, const char *name) {
    for (size_t i = 0; i < b->consts.n; i++)
        if (!strcmp(b->consts.at[i].name, name)) return &b->consts.at[i];
    return NULL;
}

/* --- binding --- */

int node_kernels(const Node *n) { return n->op == OP_FUSED ? n->n_kernel : 1; }

const char *node_kernel(const Node *n, int i) { return n->op == OP_FUSED ? n->kernel[i].name : op_info(n->op)->name; }

bool kernel_copies(const char *kernel) {
    Op op;
    return op_find(kernel, &op) && op_info(op)->flags & OPF_ELEMENTWISE;
}

static void bind_int(Arena *a, Binding *b, const char *name, int64_t i) {
    PUSH(a, b->consts, ((Const){.name = name, .i = i}));
}

static bool bind_dim(Arena *a, Binding *b, const Param *p, const char *name, Dim d, Err *e) {
    if (!strcmp(name, "_")) return true;
    if (!strcmp(name, "T")) {
        if (d.sym == SYM_NONE || d.mul != 1 || d.add)
            return err_set(e, "%s: T does not fit a constant dimension", p->name);
        if (b->rows && b->rows != d.sym) return err_set(e, "%s: mixes T and S", p->name);
        return b->rows = d.sym, true;
    }
    if (!dim_is_const(d)) return err_set(e, "%s: %s does not fit a symbolic dimension", p->name, name);
    int64_t want_size = atoll(name);
    const Const *c = binding_const(b, name);
    if (isdigit((unsigned char)name[0]) ? want_size != d.add : c && c->i != d.add)
        return err_set(e, "%s: %s is %lld, here it is %lld", p->name, name, (long long)(c ? c->i : want_size),
                       (long long)d.add);
    if (!c && !isdigit((unsigned char)name[0])) bind_int(a, b, name, d.add);
    return true;
}

static bool bind_param(Arena *a, Binding *b, const Param *p, const Value *v, Err *e) {
    if (p->optional) {
        char *has = arena_printf(a, "HAS_%s", p->name);
        for (char *s = has; *s; s++) *s = (char)toupper((unsigned char)*s);
        bind_int(a, b, has, v != NULL);
    }
    if (!v) return p->optional || err_set(e, "%s is missing", p->name);
    bool fits = false;
    for (int i = 0; i < p->n_types; i++) fits |= p->types[i] == v->type.dtype;
    if (!fits) return err_set(e, "%s is %s", p->name, dtype_name(v->type.dtype));
    bind_int(a, b, arena_printf(a, "%s_RANK", p->name), v->type.rank);
    int skip = p->rank - v->type.rank, k = 0; /* optional dimensions left out, from the left */
    for (int i = 0; i < p->rank; i++) {
        if (skip > 0 && p->dim_optional[i]) {
            skip--;
            continue;
        }
        if (k == v->type.rank) return err_set(e, "%s has %d dimensions", p->name, v->type.rank);
        if (!bind_dim(a, b, p, p->dim[i], v->type.dim[k++], e)) return false;
    }
    return k == v->type.rank || err_set(e, "%s has %d dimensions", p->name, v->type.rank);
}

/* An optional dimension that no parameter has is 1. */
static void bind_absent(Arena *a, Binding *b, const Param *p, int n) {
    for (int i = 0; i < n; i++)
        for (int d = 0; d < p[i].rank; d++)
            if (p[i].dim_optional[d] && !binding_const(b, p[i].dim[d])) bind_int(a, b, p[i].dim[d], 1);
}

/* Is v cast to bf16 inside the body? */
static bool cast_inside(const Node *n, const Value *v) {
    if (n->op != OP_FUSED) return false;
    for (size_t i = 0; i < n->body->nodes.n; i++) {
        const Node *c = n->body->nodes.at[i];
        if (c->op == OP_cast && c->in[0] == v) return !strcmp(node_str(c, "to"), "bf16");
    }
    return false;
}

static bool bind_attrs(Arena *a, Binding *b, const Node *n, Err *e) {
    for (size_t i = 0; i < b->t->attrs.n; i++) {
        const Line *l = &b->t->attrs.at[i];
        const char *dot = strchr(l->text, '.');
        Op op;
        if (!dot || !op_find(arena_strndup(a, l->text, (size_t)(dot - l->text)), &op))
            return err_set(e, "%s:%d: error: no op in \"%s\"", b->t->file, l->line, l->text);
        const Node *of = node_of_op(n, op);
        const Attr *attr = of ? node_attr(of, dot + 1) : NULL;
        if (!attr) return err_set(e, "the body has no %s", l->text);
        Const c = {.name = l->name, .is_float = attr->type == ATTR_FLOAT, .i = attr->i, .f = attr->f};
        if (attr->type == ATTR_STR) c.i = !strcmp(attr->s, "bf16"); /* the only text attributes are types */
        PUSH(a, b->consts, c);
    }
    for (size_t i = 0; i < b->t->casts.n; i++) {
        const Line *l = &b->t->casts.at[i];
        Op op;
        if (!op_find(l->text, &op)) return err_set(e, "%s:%d: error: no op %s", b->t->file, l->line, l->text);
        const Node *of = node_of_op(n, op);
        if (!of) return err_set(e, "the body has no %s", l->text);
        bind_int(a, b, arena_printf(a, "%s_BF16", l->name), cast_inside(n, of->out[0]));
    }
    return true;
}

static bool bind_consts(Arena *a, Binding *b, Err *e) {
    for (size_t i = 0; i < b->t->consts.n; i++) {
        const Line *l = &b->t->consts.at[i];
        int64_t x;
        if (!binding_eval(b, l->text, -1, &x, e)) return err_wrap(e, "%s:%d", b->t->file, l->line);
        if (l->name) bind_int(a, b, l->name, x);
        else if (!x) {
            Text values = {0};
            for (size_t k = 0; k < b->consts.n; k++)
                if (!b->consts.at[k].is_float)
                    text_add(&values, " %s=%lld", b->consts.at[k].name, (long long)b->consts.at[k].i);
            err_set(e, "needs %s (%s )", l->text, values.at ? values.at : "");
            text_free(&values);
            return false;
        }
    }
    return true;
}

static void bind_target(Arena *a, Binding *b, const Target *t) {
    PUSH(a, b->consts, ((Const){.name = "WAVE", .of_target = true, .i = t->wave}));
    PUSH(a, b->consts, ((Const){.name = "MATRIX", .of_target = true, .i = t->matrix}));
    PUSH(a, b->consts, ((Const){.name = "LDS", .of_target = true, .i = t->lds}));
}

static bool bind(Arena *a, const Template *t, const Node *n, const char *precision, const Target *target, Binding *b,
                 Err *e) {
    *b = (Binding){.t = t};
    bind_target(a, b, target);
    if (t->precision && strcmp(t->precision, precision)) return err_set(e, "is for --precision %s", t->precision);
    if (t->arch && strcmp(t->arch, target->arch)) return err_set(e, "is for --arch %s", t->arch);
    int n_in = n->op == OP_FUSED ? n->n_kernel_in : n->n_in;
    if (n_in > t->n_in) return err_set(e, "takes %d inputs, the node has %d", t->n_in, n_in);
    for (int i = 0; i < t->n_in; i++)
        if (!bind_param(a, b, &t->in[i], i < n_in ? n->in[i] : NULL, e)) return false;
    for (int i = 0; i < t->n_out; i++) {
        const Value *v = i == 0 && n->op == OP_FUSED ? n->hook : i < n->n_out ? n->out[i] : NULL;
        if (!bind_param(a, b, &t->out[i], v, e)) return false;
    }
    bind_absent(a, b, t->in, t->n_in);
    bind_absent(a, b, t->out, t->n_out);
    return bind_attrs(a, b, n, e) && bind_consts(a, b, e);
}

bool template_bind(Arena *a, const TemplateList *list, const char *kernel, const Node *n, const char *precision,
                   const Target *target, Binding *b, Err *e) {
    Text why = {0};
    bool found = false;
    for (size_t i = 0; i < list->n; i++) {
        const Template *t = list->at[i];
        Binding candidate;
        Err not = {""};
        if (strcmp(t->kernel, kernel)) continue;
        if (!bind(a, t, n, precision, target, &candidate, &not )) text_add(&why, "\n  %s: %s", t->file, not .msg);
        else if (!found || t->priority > b->t->priority) *b = candidate, found = true;
    }
    if (!found)
        err_at(e, &n->loc, "no template computes %s with kernel %s for %s, %s%s", node_name(n), kernel, target->arch,
               precision, why.at ? why.at : ": there is none of that name");
    text_free(&why);
    return found;
}

bool template_has_hook(const TemplateList *list, const char *kernel) {
    for (size_t i = 0; i < list->n; i++)
        if (list->at[i]->hook && !strcmp(list->at[i]->kernel, kernel)) return true;
    return false;
}

const char *binding_reduction(Arena *a, const Binding *b) {
    Text t = {0};
    for (const char *p = b->t->reduce; *p; p++) {
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        const Const *c = end ? binding_const(b, arena_strndup(a, p + 1, (size_t)(end - p - 1))) : NULL;
        if (c) text_add(&t, "%lld", (long long)c->i), p = end;
        else text_put(&t, p, 1);
    }
    char *s = arena_strndup(a, t.at ? t.at : "", t.n);
    text_free(&t);
    return s;
}
