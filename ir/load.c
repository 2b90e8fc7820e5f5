/* load.c - reads what dump.c writes (the format is described there). Trusts nothing: the program it returns is verified.
 * Errors are "file:line:col: error: …" with the line and a caret. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "graph.h"
#include "map.h"

enum {
    MAX_DEPTH = 8 /* bodies in bodies */,
    MAX_GRAPHS = 16,
    MAX_VALUES = 1 << 18, /* of all graphs and bodies; every node has one. With its node each takes up to 1.5 KB */
    MAX_LINE = 1 << 10    /* letters of a line that are kept for messages */
};

typedef struct Load Load;
struct Load {
    Arena *a;
    const char *file, *p, *start; /* p: where reading is; start: of its line */
    int line;
    Err *e;
    int depth, values; /* values: how many so far */
};

typedef struct Names Names; /* the graph being read and its values so far */
struct Names {
    Graph *g;
    Map map;
};

/* --- the scanner: one line at a time ------------------------------------------------------------------------------ */

static Loc here(const Load *l, const char *at) {
    size_t n = 0;
    while (n < MAX_LINE && l->start[n] && l->start[n] != '\n') n++;
    return (Loc){.file = l->file, .text = arena_strndup(l->a, l->start, n), .scope = "", .line = l->line, .col = (int)(at - l->start) + 1};
}

#define fail(l, ...) fail_at(l, (l)->p, __VA_ARGS__)

static bool fail_at(Load *l, const char *at, const char *fmt, ...) PRINTF(3, 4);
static bool fail_at(Load *l, const char *at, const char *fmt, ...) {
    char msg[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    Loc loc = here(l, at);
    return err_at(l->e, &loc, "%s", msg);
}

static void blank(Load *l) { l->p += strspn(l->p, " \t\r"); }

/* To the first line from here that is not empty; false at the end of the text. */
static bool next_line(Load *l) {
    for (;;) {
        blank(l);
        if (*l->p != '\n') return *l->p;
        l->start = ++l->p;
        l->line++;
    }
}

static bool end_line(Load *l) {
    blank(l);
    return !*l->p || *l->p == '\n' || fail(l, "expected the end of the line");
}

static bool is(Load *l, const char *s) {
    blank(l);
    return !strncmp(l->p, s, strlen(s)) && (l->p += strlen(s));
}

static bool expect(Load *l, const char *s) { return is(l, s) || fail(l, "expected %s", s); }

static bool word_char(char c) { return isalnum((unsigned char)c) || (c && strchr("._-/$", c)); }

static const char *word(Load *l, const char *what) {
    blank(l);
    const char *s = l->p;
    while (word_char(*l->p)) l->p++;
    if (s == l->p) return fail(l, "expected %s", what), NULL;
    return arena_strndup(l->a, s, (size_t)(l->p - s));
}

/* The keyword at the line's start, which a space or the line's end follows (a value's name is followed by a colon). */
static bool keyword(Load *l, const char *s) {
    size_t n = strlen(s);
    if (strncmp(l->p, s, n) || word_char(l->p[n]) || l->p[n] == ':') return false;
    l->p += n;
    return true;
}

static bool integer(Load *l, int64_t *v) {
    char *end;
    blank(l);
    errno = 0;
    *v = strtoll(l->p, &end, 10);
    if (end == l->p || errno) return fail(l, "expected an integer");
    l->p = end;
    return true;
}

/* --- types and attributes ----------------------------------------------------------------------------------------- */

static bool symbol(Load *l, Sym *s) {
    const char *names = "TSP", *at = *l->p ? strchr(names, *l->p) : NULL;
    if (!at || word_char(l->p[1])) return false;
    *s = (Sym)(SYM_T + (at - names));
    l->p++;
    return true;
}

/* [add+][mul*]SYM or add */
static bool dim(Load *l, Dim *d) {
    *d = (Dim){SYM_NONE, 0, 0};
    int64_t n = 1;
    blank(l);
    if (symbol(l, &d->sym)) return d->mul = 1, true;
    if (!integer(l, &n)) return false;
    if (is(l, "+")) {
        d->add = n;
        n = 1;
        if (symbol(l, &d->sym)) return d->mul = 1, true;
        if (!integer(l, &n)) return false;
    } else if (*l->p != '*') {
        return d->add = n, true;
    }
    if (!expect(l, "*")) return false;
    d->mul = n;
    return symbol(l, &d->sym) || fail(l, "expected T, S or P");
}

static bool type(Load *l, Type *t) {
    *t = (Type){.rank = -1};
    if (is(l, "?")) return true;
    blank(l);
    const char *at = l->p, *name = word(l, "a type");
    if (!name) return false;
    if (!dtype_parse(name, &t->dtype)) return fail_at(l, at, "no element type %s", name);
    t->rank = 0;
    if (!expect(l, "[")) return false;
    if (is(l, "]")) return true;
    do {
        if (t->rank == MAX_RANK) return fail(l, "more than %d dimensions", MAX_RANK);
        if (!dim(l, &t->dim[t->rank++])) return false;
    } while (is(l, ","));
    if (!expect(l, "]")) return false;
    Err why;
    return type_check(t, &why) || fail_at(l, at, "%s", why.msg);
}

static bool string(Load *l, const char **s) {
    Text t = {0};
    text_put(&t, "", 0);
    while (*l->p && *l->p != '"' && *l->p != '\n') {
        char c = *l->p++;
        if (c == '\\' && l->p[0] == 'x' && isxdigit((unsigned char)l->p[1]) && isxdigit((unsigned char)l->p[2])) {
            c = (char)strtol((char[]){l->p[1], l->p[2], 0}, NULL, 16);
            l->p += 3;
        } else if (c == '\\' && (*l->p == '"' || *l->p == '\\')) {
            c = *l->p++;
        }
        if (c) text_put(&t, &c, 1);
    }
    *s = arena_strdup(l->a, t.at);
    text_free(&t);
    return expect(l, "\"");
}

static bool attr(Load *l, Attr *a) {
    if (!(a->name = word(l, "an attribute")) || !expect(l, "=")) return false;
    if (is(l, "\"")) return a->type = ATTR_STR, string(l, &a->s);
    blank(l);
    size_t n = strspn(l->p, "+-.0123456789einfa");
    char *end;
    if (memchr(l->p, '.', n) || memchr(l->p, 'e', n) || memchr(l->p, 'n', n)) {
        a->type = ATTR_FLOAT;
        a->f = strtod(l->p, &end);
        if (end != l->p + n) return fail(l, "expected a number");
        l->p = end;
        return true;
    }
    a->type = ATTR_INT;
    return integer(l, &a->i);
}

static bool attrs(Load *l, Node *n) {
    if (!is(l, "{")) return true;
    do {
        if (n->n_attr == MAX_ATTR) return fail(l, "more than %d attributes", MAX_ATTR);
        if (!attr(l, &n->attr[n->n_attr++])) return false;
    } while (is(l, ","));
    return expect(l, "}");
}

/* --- nodes and graphs --------------------------------------------------------------------------------------------- */

static bool define(Load *l, Names *names, Value *v, const char *at) {
    if (!name_ok(v->name)) return fail_at(l, at, "%s is no name for a value", v->name);
    if (map_get(&names->map, v->name)) return fail_at(l, at, "the name %s is used twice", v->name);
    if (++l->values > MAX_VALUES) return fail_at(l, at, "more than %d values", MAX_VALUES);
    map_put(&names->map, v->name, v);
    v->loc = here(l, at);
    return true;
}

/* The name of a value that is there already. */
static bool known(Load *l, const Names *names, Value **v) {
    blank(l);
    const char *at = l->p, *name = word(l, "a value");
    if (!name) return false;
    *v = map_get(&names->map, name);
    return *v || fail_at(l, at, "there is no value %s before this", name);
}

static bool outside(Load *l, Names *names, ValueKind kind) {
    Graph *g = names->g;
    Type t;
    blank(l);
    const char *at = l->p, *name = word(l, "a name");
    if (!name || !expect(l, ":") || !type(l, &t)) return false;
    if (map_get(&names->map, name)) return fail_at(l, at, "the name %s is used twice", name);
    Value *v = kind == VALUE_INPUT ? graph_input(g, name, t) : kind == VALUE_STATE ? graph_state(g, name, t) : graph_param(g, name, t);
    v->may_round = is(l, "may_round");
    return define(l, names, v, at) && end_line(l);
}

static bool outputs(Load *l, Names *names, Node *n) {
    do {
        if (n->n_out == MAX_OUT) return fail(l, "more than %d outputs", MAX_OUT);
        Value *v = arena_alloc(l->a, sizeof *v);
        blank(l);
        const char *at = l->p;
        v->name = word(l, "a name");
        if (!v->name || !expect(l, ":") || !type(l, &v->type)) return false;
        v->kind = VALUE_NODE;
        v->def = n;
        v->index = n->n_out;
        n->out[n->n_out++] = v;
        if (!define(l, names, v, at)) return false; /* a node that reads its own output is caught by verify */
    } while (is(l, ","));
    return true;
}

static bool inputs(Load *l, const Names *names, Node *n) {
    int groups = 0, *bound[] = {&n->n_kernel_in, &n->n_body_in};
    if (!expect(l, "(")) return false;
    for (;;) {
        blank(l);
        if (n->op == OP_FUSED && *l->p == ';') {
            if (groups == 2) return fail(l, "more than three groups of inputs");
            *bound[groups++] = n->n_in;
            l->p++;
            continue;
        }
        if (is(l, ")")) break;
        if (n->n_in == MAX_IN) return fail(l, "more than %d inputs", MAX_IN);
        const char *at = l->p;
        if (is(l, "nil") && !word_char(*l->p)) n->n_in++;
        else if (l->p = at, !known(l, names, &n->in[n->n_in++])) return false;
        blank(l);
        if (*l->p != ')' && *l->p != ';' && !expect(l, ",")) return false;
    }
    while (groups < 2) *bound[groups++] = n->op == OP_FUSED ? n->n_in : 0;
    return true;
}

static bool body_of(Load *l, Node *n);

/* name: type[, …] = op(inputs) {attributes}  @ scope */
static bool node(Load *l, Names *names) {
    Node *n = arena_alloc(l->a, sizeof *n);
    n->loc = here(l, l->p);
    if (!outputs(l, names, n) || !expect(l, "=")) return false;
    blank(l);
    const char *at = l->p, *op = word(l, "an op");
    if (!op) return false;
    if (!op_find(op, &n->op)) return fail_at(l, at, "no op %s", op);
    n->loc.col = (int)(at - l->start) + 1;
    if (!inputs(l, names, n) || !attrs(l, n)) return false;
    if (is(l, "@")) {
        blank(l);
        size_t len = strcspn(l->p, "\n");
        n->loc.scope = arena_strndup(l->a, l->p, len);
        l->p += len;
    }
    if (!end_line(l) || (n->op == OP_FUSED && !body_of(l, n))) return false;
    for (int i = 0; i < n->n_out; i++) n->out[i]->loc.scope = n->loc.scope;
    PUSH(l->a, names->g->nodes, n);
    return true;
}

static bool output(Load *l, Names *names) {
    Value *v;
    if (!known(l, names, &v) || !end_line(l)) return false;
    graph_output(names->g, v);
    return true;
}

/* Up to and with the line "end". names: out, when the caller wants to look some up. */
static bool graph(Load *l, Graph *g, Names *names) {
    *names = (Names){g, {.arena = l->a}};
    graph_index(g, true); /* or graph_param would look at all parameters for each */
    while (next_line(l)) {
        bool ok;
        if (keyword(l, "end")) return graph_index(g, false), end_line(l);
        if (keyword(l, "input")) ok = outside(l, names, VALUE_INPUT);
        else if (keyword(l, "param")) ok = outside(l, names, VALUE_PARAM);
        else if (keyword(l, "state")) ok = outside(l, names, VALUE_STATE);
        else if (keyword(l, "output")) ok = output(l, names);
        else ok = node(l, names);
        if (!ok) return false;
    }
    return fail(l, "graph %s has no end", g->name);
}

static bool kernel(Load *l, Node *n) {
    if (n->n_kernel == (int)LEN(n->kernel)) return fail(l, "more than %d kernels", (int)LEN(n->kernel));
    KernelChoice *k = &n->kernel[n->n_kernel++];
    k->max_t = INT64_MAX;
    return (k->name = word(l, "a kernel")) && (!is(l, "T<=") || integer(l, &k->max_t)) && end_line(l);
}

/* The lines that follow a fused node. */
static bool body_of(Load *l, Node *n) {
    const char *hook = NULL, *name, *hook_at = NULL;
    Loc hook_loc = {0};
    Names names;
    if (++l->depth > MAX_DEPTH) return fail(l, "bodies are nested too deep");
    while (next_line(l)) {
        if (keyword(l, "rule")) {
            if (!(n->rule = word(l, "a rule")) || !end_line(l)) return false;
        } else if (keyword(l, "kernel")) {
            if (!kernel(l, n)) return false;
        } else if (keyword(l, "hook")) {
            blank(l);
            hook_at = l->p;
            hook_loc = here(l, hook_at);
            if (!(hook = word(l, "a value")) || !end_line(l)) return false;
        } else if (keyword(l, "body")) {
            if (!(name = word(l, "a name")) || !end_line(l)) return false;
            n->body = graph_new(l->a, name);
            if (!graph(l, n->body, &names)) return false;
            if (hook && !(n->hook = map_get(&names.map, hook))) return err_at(l->e, &hook_loc, "there is no value %s in the body", hook);
            l->depth--;
            return true;
        } else {
            break;
        }
    }
    return fail(l, "expected rule, kernel, hook or body");
}

static bool program(Load *l, Program **out) {
    const char *name;
    Names names;
    if (!next_line(l) || !keyword(l, "program")) return fail(l, "expected program");
    if (!(name = word(l, "a name")) || !end_line(l)) return false;
    Program *p = *out = program_new(l->a, name);
    while (next_line(l)) {
        if (!keyword(l, "graph")) return fail(l, "expected graph");
        if (!(name = word(l, "a name")) || !end_line(l)) return false;
        if (p->graphs.n == MAX_GRAPHS) return fail(l, "more than %d graphs", MAX_GRAPHS);
        Graph *g = graph_new(l->a, name);
        PUSH(l->a, p->graphs, g);
        if (!graph(l, g, &names)) return false;
    }
    return program_verify(p, l->e);
}

Program *program_load(Arena *a, const char *text, const char *file, Err *e) {
    text = arena_strdup(a, text);
    Load l = {.a = a, .file = arena_strdup(a, file), .p = text, .start = text, .line = 1, .e = e};
    Program *p = NULL;
    return program(&l, &p) ? p : NULL;
}
