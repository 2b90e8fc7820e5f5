/* template.c - read template heads and bind a template to a node. See template.h for the language.
 * Add a head word in the table `words`. */
#include "template.h"

#include "hooks.h"
#include "tuning.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "ir/near.h"

/* --- what attr and cast name: slice.offset, slice[2].offset, rmsnorm --- */

typedef struct Ref Ref;
struct Ref {
    Op op;
    int index;        /* from 1: which of the body's nodes of that op; 0: not said */
    const char *attr; /* NULL without */
};

static bool has_attr(Arena *a, Op op, const char *name, Near *near) {
    Attr attr;
    bool required;
    for (int i = 0; op_attr(a, op, i, &attr, &required); i++) {
        near_try(near, attr.name);
        if (!strcmp(attr.name, name)) return true;
    }
    return false;
}

/* NULL, or what is wrong with the text. */
static const char *read_ref(Arena *a, const char *text, bool attr, Ref *r) {
    size_t n = strcspn(text, ".[");
    Near op = {arena_strndup(a, text, n)};
    *r = (Ref){.index = 0};
    for (int i = 0; i < OP_COUNT; i++) near_try(&op, op_info((Op)i)->name);
    if (!op_find(op.word, &r->op)) return arena_printf(a, "there is no op %s%s%s%s", op.word, NEAR_HINT(op));
    const char *p = text + n;
    if (*p == '[') {
        char *end;
        long index = strtol(p + 1, &end, 10);
        if (end == p + 1 || *end != ']' || index < 1 || index > 99)
            return arena_printf(a, "expected %s[1], %s[2] … in \"%s\"", op.word, op.word, text);
        r->index = (int)index;
        p = end + 1;
    }
    if (!attr) return *p ? arena_printf(a, "unexpected text at \"%s\"", p) : NULL;
    if (*p != '.') return arena_printf(a, "expected an attribute: %s.NAME", text);
    Near name = {r->attr = p + 1};
    if (!has_attr(a, r->op, r->attr, &name))
        return arena_printf(a, "%s has no attribute %s%s%s%s", op.word, name.word, NEAR_HINT(name));
    return NULL;
}

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

/* near has been given the words that could have stood here. */
static bool bad_word(Cursor *c, const char *what, const Near *near) {
    return err_set(c->e, "%s:%d: error: \"%s\" is no %s%s%s%s", c->file, c->line, near->word, what, NEAR_HINT(*near));
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

static bool read_type(Cursor *c, DType *type) {
    Near near = {word(c)};
    if (dtype_parse(near.word, type)) return true;
    for (int d = 0; d < DT_COUNT; d++) near_try(&near, dtype_name((DType)d));
    return bad_word(c, "type", &near);
}

static bool read_param(Cursor *c, Param *p) {
    p->name = word(c);
    if (!*p->name) return bad(c, "expected a parameter name");
    p->optional = take(c, '?');
    if (!want(c, ':')) return false;
    do {
        if (p->n_types == DT_COUNT) return bad(c, "too many types");
        if (!read_type(c, &p->types[p->n_types++])) return false;
    } while (take(c, '|'));
    if (!want(c, '[')) return false;
    do {
        if (p->rank == MAX_RANK) return bad(c, "too many dimensions");
        bool optional = take(c, '(');
        p->dim_optional[p->rank] = optional;
        p->dim[p->rank] = word(c);
        if (!*p->dim[p->rank++]) return bad(c, "expected a dimension");
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
static bool do_precision(Cursor *c, Template *t) {
    Near near = {t->precision = word(c)};
    if (!strcmp(near.word, "fast") || !strcmp(near.word, "strict")) return true;
    near_try(&near, "fast");
    near_try(&near, "strict");
    return bad_word(c, "precision (fast, strict)", &near);
}
static bool do_arch(Cursor *c, Template *t) {
    Near near = {t->arch = word(c)};
    return target_find(near.word) || bad_word(c, arena_printf(c->a, "arch (%s)", target_list(c->a)), &near);
}
static bool do_priority(Cursor *c, Template *t) {
    char *end;
    space(c);
    long v = strtol(c->p, &end, 10);
    if (end == c->p || v < -1000000 || v > 1000000) return bad(c, "expected an integer");
    return c->p = end, t->priority = (int)v, true;
}
static bool do_block(Cursor *c, Template *t) { return t->block = text_until(c, 0), true; }
static bool do_cluster(Cursor *c, Template *t) { return t->cluster = text_until(c, 0), true; }
static bool do_body(Cursor *c, Template *t) { return t->body_of = text_until(c, 0), true; }
static bool do_lds(Cursor *c, Template *t) { return t->lds = text_until(c, 0), true; }
static bool do_workspace(Cursor *c, Template *t) { return t->workspace = text_until(c, 0), true; }
static bool do_counters(Cursor *c, Template *t) { return t->counters = text_until(c, 0), true; }
static bool do_with(Cursor *c, Template *t) { return *(t->with = word(c)) || bad(c, "with what?"); }
static bool do_overlaps(Cursor *c, Template *t) {
    (void)c;
    return t->overlaps = true;
}
/* An input of the kernel, into a set of them. */
static bool do_input(Cursor *c, const Template *t, unsigned *set, const char *none) {
    const char *name = word(c);
    for (int i = 0; i < t->n_in; i++)
        if (!strcmp(t->in[i].name, name)) return *set |= 1u << i, true;
    return bad(c, none);
}
static bool do_early(Cursor *c, Template *t) { return do_input(c, t, &t->early, "early names no input of the kernel"); }
static bool do_front(Cursor *c, Template *t) { return do_input(c, t, &t->front, "front names no input of the kernel"); }
static bool do_number(Cursor *c, int64_t *n) {
    const char *text = text_until(c, 0);
    char *end;
    *n = strtoll(text, &end, 10);
    return (end > text && !*end && *n > 0) || bad(c, "expected a number of tokens");
}
static bool do_tokens(Cursor *c, Template *t) { return do_number(c, &t->tokens); }
static bool do_over(Cursor *c, Template *t) { return do_number(c, &t->over); }
static bool do_reduce(Cursor *c, Template *t) { return t->reduce = text_until(c, 0), true; }
static bool do_layout(Cursor *c, Template *t) {
    const char *name = word(c);
    for (int i = 0; i < t->n_in; i++)
        if (!strcmp(t->in[i].name, name)) t->layout = i + 1;
    if (!t->layout) return bad(c, "layout names no input of the kernel");
    return want(c, '=') && (!strcmp(word(c), "fragment") || bad(c, "the one layout there is, is called fragment"));
}
static bool do_hook(Cursor *c, Template *t) {
    return t->behind = t->hook = true, !strcmp(word(c), "out") || bad(c, "the hook is called out");
}
static bool do_behind(Cursor *c, Template *t) {
    t->behind = true;
    for (const char *w; *(w = word(c));) {
        if (!strcmp(w, "pairs")) t->pairs = true;
        else if (!strcmp(w, "ranks")) t->ranks = true;
        else if (!strcmp(w, "asks")) t->asks = true;
        else return bad(c, "expected pairs, ranks or asks");
    }
    return true;
}

static bool do_named(Cursor *c, LineList *list) {
    Line l = {.line = c->line};
    l.name = word(c);
    if (!*l.name || !want(c, '=')) return bad(c, "expected NAME = …");
    l.text = text_until(c, 0);
    PUSH(c->a, *list, l);
    return true;
}
static bool do_ref(Cursor *c, LineList *list, bool attr) {
    const char *why;
    Ref r;
    if (!do_named(c, list)) return false;
    if ((why = read_ref(c->a, list->at[list->n - 1].text, attr, &r)))
        return err_set(c->e, "%s:%d: error: %s", c->file, c->line, why);
    return true;
}
static bool do_attr(Cursor *c, Template *t) { return do_ref(c, &t->attrs, true); }
static bool do_cast(Cursor *c, Template *t) { return do_ref(c, &t->casts, false); }
static bool do_const(Cursor *c, Template *t) { return do_named(c, &t->consts); }
static bool do_tune(Cursor *c, Template *t) {
    Tune tune = {.name = word(c)};
    bool found = false;
    for (size_t i = 0; i < t->consts.n; i++) found |= t->consts.at[i].name && !strcmp(t->consts.at[i].name, tune.name);
    if (!found) return bad(c, "tune names no const above it");
    for (space(c); *c->p; space(c)) {
        char *end;
        if (tune.n == MAX_TUNE) return bad(c, "too many values");
        tune.at[tune.n++] = strtoll(c->p, &end, 10);
        if (end == c->p) return bad(c, "expected a whole number");
        c->p = end;
    }
    PUSH(c->a, t->tunes, tune);
    return tune.n || bad(c, "expected values");
}
static bool do_where(Cursor *c, Template *t) {
    /* Wheres go in line with consts so that either may use what stands above it: name NULL marks one. */
    Line l = {NULL, text_until(c, 0), c->line};
    PUSH(c->a, t->consts, l);
    return true;
}
static bool has_input(const Template *t, const char *name) {
    for (int i = 0; i < t->n_in; i++)
        if (!strcmp(t->in[i].name, name)) return true;
    return false;
}
static bool do_group(Cursor *c, Template *t) {
    if (!has_input(t, "w"))
        return bad(c, "group needs a kernel (above it) with an input w, whose first dimension counts the experts,");
    t->group_perm = word(c);
    if (!want(c, ',')) return false;
    t->group_tiles = word(c);
    if (!want(c, '=')) return false;
    Near near = {t->group_ids = word(c)};
    for (int i = 0; i < t->n_in; i++) near_try(&near, t->in[i].name);
    if (!has_input(t, near.word)) return bad_word(c, "input of the kernel", &near);
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
/* The tolerance of an op or an arch. */
static bool wider(Cursor *c, Template *t, const char *name, double tol) {
    Near near = {name};
    Op op = OP_COUNT;
    bool is_arch = target_find(name);
    near_try(&near, "strict"), near_try(&near, "fast");
    for (Op i = 0; i < OP_COUNT; i++)
        if (op_code(i)->kind) near_try(&near, op_info(i)->name);
    if (!is_arch && (!op_find(name, &op) || !op_code(op)->kind))
        return bad_word(c, "tolerance: strict, fast, an arch, or an op that is composed", &near);
    if (t->n_wider == MAX_WIDER) return bad(c, "too many tolerances");
    t->wider[t->n_wider].arch = is_arch ? name : NULL;
    t->wider[t->n_wider].op = op;
    t->wider[t->n_wider++].tol = tol;
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
        else if (!wider(c, t, w, v)) return false;
        take(c, ',');
    }
    return true;
}

static const struct {
    const char *name;
    bool (*read)(Cursor *, Template *);
    bool many; /* may be given again */
} words[] = {
    {"kernel", do_kernel},     {"precision", do_precision},
    {"arch", do_arch},         {"priority", do_priority},
    {"attr", do_attr, true},   {"cast", do_cast, true},
    {"const", do_const, true}, {"where", do_where, true},
    {"tune", do_tune, true},
    {"group", do_group},       {"grid", do_grid},
    {"block", do_block},       {"reduce", do_reduce},
    {"front", do_front},       {"behind", do_behind},
    {"layout", do_layout},
    {"lds", do_lds},           {"tokens", do_tokens},
    {"over", do_over},
    {"cluster", do_cluster},   {"body", do_body},
    {"workspace", do_workspace}, {"counters", do_counters},
    {"overlaps", do_overlaps}, {"with", do_with},
    {"early", do_early},
    {"hook", do_hook},         {"tol", do_tol},
};

/* given: by index of `words`, the line that has it. */
static bool head_line(Cursor *c, Template *t, int *given) {
    Near near = {word(c)};
    for (size_t i = 0; i < LEN(words); i++) {
        near_try(&near, words[i].name);
        if (strcmp(words[i].name, near.word)) continue;
        if (given[i] && !words[i].many)
            return err_set(c->e, "%s:%d: error: %s again: line %d has one", c->file, c->line, near.word, given[i]);
        given[i] = c->line;
        if (!words[i].read(c, t)) return false;
        space(c);
        return !*c->p || bad(c, "unexpected text");
    }
    return *near.word ? bad_word(c, "word of a template's head", &near) : bad(c, "expected a word");
}

static bool only_comments(const char *p) {
    for (; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        const char *s = p + strspn(p, " ");
        if (*s && *s != '\n' && strncmp(s, "//", 2)) return false;
    }
    return true;
}

static Template *read_template(Arena *a, const char *path, const char *file, Err *e) {
    size_t size;
    char *text = file_read_text(a, path, &size, e);
    if (!text) return NULL;
    Template *t = arena_alloc(a, sizeof *t);
    const char *version = arena_printf(a, "%016llx", (unsigned long long)hash64(text, size));
    *t = (Template){
        .file = file, .path = arena_strdup(a, path), .version = version, .head_version = version, .grid = {"1", "1", "1"}, .reduce = "", .tokens = INT64_MAX};
    Cursor c = {a, text, path, 1, e};
    char *p = text;
    int given[LEN(words)] = {0};
    for (; !strncmp(p, "//!", 3); c.line++) {
        char *end = strchr(p, '\n');
        if (!end) end = p + strlen(p);
        c.p = arena_strndup(a, p + 3, (size_t)(end - p - 3));
        if (!head_line(&c, t, given)) return NULL;
        p = *end ? end + 1 : end;
    }
    t->body = p;
    t->body_line = c.line;
    t->body_file = file;
    if (!t->kernel || !t->block) return err_set(e, "%s: error: a template's head needs kernel and block", path), NULL;
    if (t->body_of && !only_comments(p)) return err_set(e, "%s:%d: error: its body is %s's, here is another", path, c.line, t->body_of), NULL;
    return t;
}

/* Where the list has the file's; the list's end: nowhere. */
static size_t find_file(const TemplateList *list, const char *file) {
    size_t k = 0;
    while (k < list->n && strcmp(list->at[k]->file, file)) k++;
    return k;
}

/* Templates whose head names another as their body. */
static bool share_bodies(Arena *a, TemplateList *list, Err *e) {
    for (size_t i = 0; i < list->n; i++) {
        Template *t = list->at[i];
        if (!t->body_of) continue;
        size_t k = find_file(list, t->body_of);
        const Template *of = k < list->n ? list->at[k] : NULL;
        if (!of || of->body_of) return err_set(e, "%s: error: body %s: %s", t->path, t->body_of, of ? "that one's is another's, too" : "there is no such template");
        t->body = of->body, t->body_line = of->body_line, t->body_file = of->file;
        t->version = arena_printf(a, "%s+%s", t->head_version, of->head_version);
    }
    return true;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool templates_load(Arena *a, TemplateList *list, const char *dir, const char *ending, Err *e) {
    DIR *d = opendir(dir);
    if (!d) return err_set(e, "templates: %s: %s", dir, strerror(errno));
    struct {
        char **at;
        size_t n, cap;
    } names = {0};
    for (struct dirent *f; errno = 0, (f = readdir(d));) {
        size_t n = strlen(f->d_name), end = strlen(ending);
        if (n > end && f->d_name[0] != '.' && !strcmp(f->d_name + n - end, ending))
            PUSH(a, names, arena_strdup(a, f->d_name));
    }
    if (errno) return err_set(e, "templates: %s: %s", dir, strerror(errno)), closedir(d), false;
    closedir(d);
    if (names.n) qsort(names.at, names.n, sizeof *names.at, by_name);
    for (size_t i = 0; i < names.n; i++) {
        Template *t = read_template(a, arena_printf(a, "%s/%s", dir, names.at[i]), names.at[i], e);
        if (!t) return false;
        size_t k = find_file(list, t->file);
        if (k < list->n) list->at[k] = t;
        else PUSH(a, *list, t);
    }
    return share_bodies(a, list, e);
}

/* --- expressions --- */

enum { EXPRESSION = 2000 /* characters at most: what is nested in it is on the stack */ };

typedef struct Eval Eval;
struct Eval {
    const Binding *b;
    const char *p, *expr;
    int64_t rows;
    Err *e;
    bool failed;
    int skipped; /* inside so many operands that && || ?: do not need */
};

static int64_t ternary(Eval *v);

static int64_t fail(Eval *v, const char *what) {
    if (!v->failed) err_set(v->e, "\"%s\": %s", v->expr, what);
    v->failed = true;
    return 1;
}

/* A value that cannot be computed: no error where it is not needed. */
static int64_t no_value(Eval *v, const char *what) { return v->skipped ? 1 : fail(v, what); }

static bool sees(Eval *v, const char *op) {
    while (isspace((unsigned char)*v->p)) v->p++;
    size_t n = strlen(op);
    if (strncmp(v->p, op, n)) return false;
    if (n == 1 && strchr("<>=!", op[0]) && v->p[1] == '=') return false;
    v->p += n;
    return true;
}

static int64_t call(Eval *v, const char *name) {
    int64_t x = ternary(v), y = sees(v, ",") ? ternary(v) : fail(v, "expected a second argument"), r;
    if (!sees(v, ")")) fail(v, "expected )");
    if (!strcmp(name, "min")) return x < y ? x : y;
    if (!strcmp(name, "max")) return x > y ? x : y;
    if (strcmp(name, "ceil")) return fail(v, "the functions are min, max and ceil");
    if (y <= 0) return no_value(v, "ceil divides by a number that is not positive");
    return __builtin_add_overflow(x, y - 1, &r) ? no_value(v, "a number is too large") : r / y;
}

static int64_t number(Eval *v) {
    char *end;
    errno = 0;
    int64_t x = strtoll(v->p, &end, 0);
    v->p = end;
    return errno ? fail(v, "a number is too large") : x;
}

static bool is_dimension(const Template *t, const char *name) {
    for (int i = 0; i < t->n_in; i++)
        for (int d = 0; d < t->in[i].rank; d++)
            if (!strcmp(t->in[i].dim[d], name)) return true;
    return false;
}

static int64_t primary(Eval *v) {
    if (sees(v, "(")) {
        int64_t x = ternary(v);
        return sees(v, ")") ? x : fail(v, "expected )");
    }
    if (sees(v, "!")) return !primary(v);
    if (sees(v, "-")) {
        int64_t x = primary(v), r;
        return __builtin_sub_overflow(0, x, &r) ? no_value(v, "a number is too large") : r;
    }
    if (isdigit((unsigned char)*v->p)) return number(v);
    char name[64];
    size_t n = 0;
    while ((isalnum((unsigned char)*v->p) || *v->p == '_') && n + 1 < sizeof name) name[n++] = *v->p++;
    name[n] = 0;
    if (!n) return fail(v, "expected a value");
    if (sees(v, "(")) return call(v, name);
    if (!strcmp(name, "T")) return v->rows >= 0 ? v->rows : fail(v, "T is not a constant");
    const Const *c = binding_const(v->b, name);
    if (c && !c->is_float) return c->i;
    char what[96];
    snprintf(what, sizeof what, "%s is not an integer constant here", name);
    return is_dimension(v->b->t, name) ? no_value(v, what) : fail(v, what); /* a dimension: its input is absent */
}

/* C's binary operators by precedence, the loosest first; all of them associate to the left. */
static const char *const binary[][4] = {{"||"},     {"&&"},         {"==", "!="}, {"<=", ">=", "<", ">"},
                                        {"+", "-"}, {"*", "/", "%"}};

static const char *binary_at(Eval *v, size_t level) {
    for (size_t i = 0; i < LEN(*binary) && binary[level][i]; i++)
        if (sees(v, binary[level][i])) return binary[level][i];
    return NULL;
}

static int64_t apply(Eval *v, const char *op, int64_t x, int64_t y) {
    int64_t r;
    switch (op[0]) {
    case '|': return x || y;
    case '&': return x && y;
    case '=': return x == y;
    case '!': return x != y;
    case '<': return op[1] ? x <= y : x < y;
    case '>': return op[1] ? x >= y : x > y;
    case '+': return __builtin_add_overflow(x, y, &r) ? no_value(v, "a number is too large") : r;
    case '-': return __builtin_sub_overflow(x, y, &r) ? no_value(v, "a number is too large") : r;
    case '*': return __builtin_mul_overflow(x, y, &r) ? no_value(v, "a number is too large") : r;
    }
    if (!y) return no_value(v, "division by zero");
    if (y == -1) return op[0] == '%' ? 0 : apply(v, "-", 0, x);
    return op[0] == '/' ? x / y : x % y;
}

static int64_t operation(Eval *v, size_t level) {
    if (level == LEN(binary)) return primary(v);
    int64_t x = operation(v, level + 1);
    for (const char *op; (op = binary_at(v, level));) {
        bool skip = (op[0] == '|' && x) || (op[0] == '&' && !x);
        v->skipped += skip;
        int64_t y = operation(v, level + 1);
        v->skipped -= skip;
        x = apply(v, op, x, y);
    }
    return x;
}

static int64_t ternary(Eval *v) {
    int64_t c = operation(v, 0);
    if (!sees(v, "?")) return c;
    v->skipped += !c;
    int64_t x = ternary(v);
    v->skipped -= !c;
    if (!sees(v, ":")) return fail(v, "expected :");
    v->skipped += c != 0;
    int64_t y = ternary(v);
    v->skipped -= c != 0;
    return c ? x : y;
}

bool binding_eval(const Binding *b, const char *expr, int64_t rows, int64_t *value, Err *e) {
    Eval v = {.b = b, .p = expr, .expr = expr, .rows = rows, .e = e};
    if (strlen(expr) > EXPRESSION) return err_set(e, "\"%.40s…\": an expression of more than %d characters", expr, EXPRESSION);
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

bool template_is_for(const Template *t, const Maker *m) {
    return (!t->precision || !strcmp(t->precision, m->precision)) && (!t->arch || !strcmp(t->arch, m->target->arch));
}

const char *node_kernel(const Node *n, int i) { return n->op == OP_FUSED ? n->kernel[i].name : op_info(n->op)->name; }

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

static const char *capitals(Arena *a, const char *name) {
    char *s = arena_strdup(a, name);
    for (char *p = s; *p; p++) *p = (char)toupper((unsigned char)*p);
    return s;
}

static bool bind_param(Arena *a, Binding *b, const Param *p, const Value *v, Err *e) {
    if (p->optional) bind_int(a, b, arena_printf(a, "HAS_%s", capitals(a, p->name)), v != NULL);
    if (!v) return p->optional || err_set(e, "%s is missing", p->name);
    bool fits = false;
    for (int i = 0; i < p->n_types; i++) fits |= p->types[i] == v->type.dtype;
    if (!fits) return err_set(e, "%s is %s", p->name, dtype_name(v->type.dtype));
    bind_int(a, b, arena_printf(a, "%s_RANK", p->name), v->type.rank);
    if (p->n_types > 1) bind_int(a, b, arena_printf(a, "%s_MXFP4", p->name), v->type.dtype == DT_MXFP4);
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

/* The head is wrong for this node in a way that another template must not hide. */
static bool fault(Binding *b, int line, Err *e) {
    b->fault = true;
    return err_wrap(e, "%s:%d: error", b->t->path, line);
}

/* The nodes of r's op that the template computes: n, or those of its body without the chain behind the hook. */
static NodeList nodes_of(Arena *a, const Node *n, Op op) {
    NodeList l = {0};
    if (n->op == op) PUSH(a, l, (Node *)n);
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++) {
        Node *k = n->body->nodes.at[i];
        bool chain = n->body->outputs.n && k->out[0] != n->hook && value_depends(k->out[0], n->hook) &&
                     value_depends(n->body->outputs.at[0], k->out[0]);
        if (k->op == op && !chain) PUSH(a, l, k);
    }
    return l;
}

static Const const_of(const Node *n, const Node *of, const Ref *r) {
    if (!r->attr) return (Const){.i = cast_inside(n, of->out[0])};
    const Attr *attr = node_attr(of, r->attr);
    if (attr->type == ATTR_STR) return (Const){.i = !strcmp(attr->s, "bf16")}; /* the only text attributes are types */
    return (Const){.is_float = attr->type == ATTR_FLOAT, .i = attr->i, .f = attr->f};
}

/* Several nodes are of the op and differ: all of them, each with what would have to be written. */
static void list_nodes(const Node *n, const NodeList *l, const Line *line, const Ref *r, Err *e) {
    const char *op = op_info(r->op)->name;
    Text t = {0};
    for (size_t i = 0; i < l->n; i++) {
        Const c = const_of(n, l->at[i], r);
        text_add(&t, "%s %s[%zu]%s%s is %s's (", i ? "," : "", op, i + 1, r->attr ? "." : "", r->attr ? r->attr : "",
                 node_name(l->at[i]));
        if (!r->attr) text_add(&t, "%s)", c.i ? "bf16" : "no cast");
        else if (c.is_float) text_add(&t, "%g)", c.f);
        else text_add(&t, "%lld)", (long long)c.i);
    }
    err_set(e, "%s = %s: the body has %zu of %s, say which:%s", line->name, line->text, l->n, op, t.at);
    text_free(&t);
}

/* The constant that the line asks for. Without an index all nodes of the op must agree. */
static bool find_const(Arena *a, Binding *b, const Node *n, const Line *line, bool attr, Const *c, Err *e) {
    Ref r;
    if (read_ref(a, line->text, attr, &r)) die("%s:%d: was read before", b->t->path, line->line);
    NodeList l = nodes_of(a, n, r.op);
    const char *op = op_info(r.op)->name;
    if (!l.n) return err_set(e, "the body has no %s", op);
    if (r.index > (int)l.n) return err_set(e, "%s: the body has %zu of %s", line->text, l.n, op);
    *c = const_of(n, l.at[r.index ? r.index - 1 : 0], &r);
    for (size_t i = 1; !r.index && i < l.n; i++) {
        Const other = const_of(n, l.at[i], &r);
        if (other.i != c->i || other.f != c->f) return list_nodes(n, &l, line, &r, e), fault(b, line->line, e);
    }
    return true;
}

static bool bind_attrs(Arena *a, Binding *b, const Node *n, Err *e) {
    const LineList *lists[] = {&b->t->attrs, &b->t->casts};
    for (int casts = 0; casts < 2; casts++)
        for (size_t i = 0; i < lists[casts]->n; i++) {
            const Line *l = &lists[casts]->at[i];
            Const c;
            if (!find_const(a, b, n, l, !casts, &c, e)) return false;
            c.name = casts ? arena_printf(a, "%s_BF16", l->name) : l->name;
            PUSH(a, b->consts, c);
        }
    return true;
}

/* --- choices ---------------------------------------------------------------------------------------------------------- */

static void add_op(Text *t, const Part *p, const PartList *all, const Node *n, bool *told) {
    size_t at = owner_index(p->owner, n->out[0]);
    if (told[at]) return;
    told[at] = true;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && part_origin(p, all, n->in[i]) == FROM_CODE) add_op(t, p, all, n->in[i]->def, told);
    text_add(t, "%s%s", t->n ? " " : "", op_info(n->op)->name);
}

/* The ops that a launch computes, those in front first. */
static const char *ops_of(Arena *a, const Part *p, const PartList *all) {
    Text t = {0};
    bool told[PART_NODES] = {false};
    for (size_t i = 0; i < owner_nodes(p->owner); i++)
        if (p->behind[i]) add_op(&t, p, all, owner_node(p->owner, i), told);
    const char *s = arena_strdup(a, t.at ? t.at : "");
    text_free(&t);
    return s;
}

/* What is bound before the head's own constants are. */
static const char *shape_of(Arena *a, const Binding *b) {
    Text t = {0};
    for (size_t i = 0; i < b->consts.n; i++) {
        const Const *c = &b->consts.at[i];
        if (c->of_target) continue;
        text_add(&t, c->is_float ? "%s%s=%.17g" : "%s%s=", t.n ? " " : "", c->name, c->f);
        if (!c->is_float) text_add(&t, "%lld", (long long)c->i);
    }
    const char *s = arena_strdup(a, t.at ? t.at : "");
    text_free(&t);
    return s;
}

static const Tune *tune_of(const Template *t, const char *name) {
    for (size_t i = 0; i < t->tunes.n; i++)
        if (!strcmp(t->tunes.at[i].name, name)) return &t->tunes.at[i];
    return NULL;
}

static bool is_candidate(const Tune *t, int64_t x) {
    for (int i = 0; i < t->n; i++)
        if (t->at[i] == x) return true;
    return false;
}

/* Puts the choice that is kept for constant l into *x. */
static bool choose(const Tuning *tuning, Binding *b, const Line *l, int64_t *x, Err *e) {
    const Tune *tune = l->name ? tune_of(b->t, l->name) : NULL;
    const json_t *entry = tune && b->tune ? tuning_entry(tuning, b->tune) : NULL;
    int64_t chosen;
    if (!entry || !tuning_value(entry, l->name, &chosen) || chosen == *x) return true;
    if (!is_candidate(tune, chosen)) {
        err_set(e, "%s:%lld chooses %s = %lld, which is none of its tune line's values", tuning->path,
                (long long)json_integer_value(json_object_get(entry, "line")), l->name, (long long)chosen);
        return fault(b, l->line, e);
    }
    *x = chosen;
    return b->chosen = true;
}

/* A where that does not hold: "needs K % 32 == 0 ( K=48 … )". */
static bool not_legal(Binding *b, const Line *l, Err *e) {
    Text values = {0};
    for (size_t k = 0; k < b->consts.n; k++)
        if (!b->consts.at[k].is_float) text_add(&values, " %s=%lld", b->consts.at[k].name, (long long)b->consts.at[k].i);
    err_set(e, "needs %s (%s )", l->text, values.at ? values.at : "");
    text_free(&values);
    return b->chosen ? fault(b, l->line, e) : false;
}

static bool bind_consts(const Maker *m, Binding *b, Err *e) {
    for (size_t i = 0; i < b->t->consts.n; i++) {
        const Line *l = &b->t->consts.at[i];
        int64_t x;
        if (!binding_eval(b, l->text, -1, &x, e)) return fault(b, l->line, e);
        if (!choose(m->tuning, b, l, &x, e)) return false;
        if (l->name) bind_int(m->a, b, l->name, x);
        else if (!x) return not_legal(b, l, e);
    }
    return true;
}

static void bind_target(Arena *a, Binding *b, const Target *t) {
    PUSH(a, b->consts, ((Const){.name = "WAVE", .of_target = true, .i = t->wave}));
    PUSH(a, b->consts, ((Const){.name = "MATRIX", .of_target = true, .i = t->matrix}));
    PUSH(a, b->consts, ((Const){.name = "LDS", .of_target = true, .i = t->lds}));
    PUSH(a, b->consts, ((Const){.name = "LDS_ALL", .of_target = true, .i = t->lds_all}));
}

/* An operand that is computed in front has its type, but is not in memory. */
static bool bind_front(Arena *a, Binding *b, const Part *p, const PartList *all, int i, Err *e) {
    const Param *param = &b->t->in[i];
    const Value *v = i < p->core->n_in ? p->core->in[i] : NULL;
    bool plain = !v || p->alone || part_origin(p, all, v) == FROM_OUTSIDE, can = b->t->front >> i & 1;
    if (!plain && !can) return err_set(e, "%s is computed inside %s, and it has no front %s", v->name, node_name(p->owner), param->name);
    if (!can) return true;
    const char *name = capitals(a, param->name);
    bind_int(a, b, arena_printf(a, "%s_PLAIN", name), plain);
    bind_int(a, b, arena_printf(a, "%s_ROW", name), !plain && (part_statistic(p, all, v) != NULL));
    return true;
}

/* Was owner's input v there before the launch before owner's began? Yes, if another input is of a node that read it; of one that is
 * launched for any number of tokens, as group is not. */
static bool is_early(const Node *owner, const Value *v) {
    for (int i = 0; v && i < owner->n_in; i++) {
        const Node *between = owner->in[i] ? owner->in[i]->def : NULL;
        for (int k = 0; between && between != v->def && between->op != OP_group && k < between->n_in; k++)
            if (between->in[k] == v) return true;
    }
    return false;
}

static void bind_early(Arena *a, Binding *b, const Part *p, int i) {
    if (b->t->early >> i & 1) bind_int(a, b, arena_printf(a, "%s_EARLY", capitals(a, b->t->in[i].name)), is_early(p->owner, owner_outside(p->owner, p->core->in[i])));
}

/* May the ids of the core's input i be EXPERT_NONE? Those that a device of several has made its own. */
static void bind_some(Arena *a, Binding *b, const Part *p, int i) {
    if (!(op_operand(p->core->op, i).flags & OPERAND_NONE) || i >= b->t->n_in) return;
    const Value *v = owner_memory(p->owner, p->core->in[i]);
    bind_int(a, b, arena_printf(a, "%s_SOME", capitals(a, b->t->in[i].name)), v->def && v->def->op == OP_own);
}

/* Only what the file holds is repacked while it is loaded. */
static bool bind_layout(const Binding *b, const Part *p, Err *e) {
    if (!b->t->layout) return true;
    const Value *v = owner_outside(p->owner, p->core->in[b->t->layout - 1]);
    return (v && v->kind == VALUE_PARAM) || err_set(e, "%s is no weight of the checkpoint", p->core->in[b->t->layout - 1]->name);
}

static bool bind_core(Arena *a, Binding *b, const Part *p, const PartList *all, Err *e) {
    const Node *n = p->core;
    if (n->n_in > b->t->n_in) return err_set(e, "takes %d inputs, the op has %d", b->t->n_in, n->n_in);
    for (int i = 0; i < b->t->n_in; i++)
        if (!bind_param(a, b, &b->t->in[i], i < n->n_in ? n->in[i] : NULL, e) || !bind_front(a, b, p, all, i, e)) return false;
    for (int i = 0; i < n->n_in; i++) bind_early(a, b, p, i), bind_some(a, b, p, i);
    for (int i = 0; i < b->t->n_out; i++)
        if (!bind_param(a, b, &b->t->out[i], i < n->n_out ? n->out[i] : NULL, e)) return false;
    return bind_layout(b, p, e);
}

/* The rule's own template: its inputs are the rule's placeholders, its first result the hook. */
static bool bind_opaque(Arena *a, Binding *b, const Node *n, Err *e) {
    if (n->n_kernel_in > b->t->n_in) return err_set(e, "takes %d inputs, the node has %d", b->t->n_in, n->n_kernel_in);
    if (n->n_out > b->t->n_out) return err_set(e, "gives %d results, the node has %d", b->t->n_out, n->n_out);
    for (int i = 0; i < b->t->n_in; i++)
        if (!bind_param(a, b, &b->t->in[i], i < n->n_kernel_in ? n->in[i] : NULL, e)) return false;
    for (int i = 0; i < b->t->n_out; i++)
        if (!bind_param(a, b, &b->t->out[i], i == 0 ? n->hook : i < n->n_out ? n->out[i] : NULL, e)) return false;
    return true;
}

static bool bind_generated(Arena *a, Binding *b, const Part *p, const PartList *all) {
    bind_int(a, b, "COLUMNS", part_columns(p));
    bind_int(a, b, "R", part_rows(p, &b->rows));
    bind_int(a, b, "OWN_ROW", part_statistic(p, all, NULL) != NULL);
    return true;
}

static bool bind_behind(Arena *a, Binding *b, const Part *p, Err *e) {
    const Template *t = b->t;
    if (p->pairs && !t->pairs) return err_set(e, "cannot give two columns at once");
    if (p->ranks && !t->ranks) return err_set(e, "cannot give all ranks at once");
    for (int i = 0; !t->behind && p->core && i < p->n_out; i++)
        if (p->out[i]->def != p->core) return err_set(e, "nothing can be composed behind it");
    if (!t->behind || t->hook) return true;
    int64_t ranks = p->ranks ? p->core->out[0]->type.dim[1].add : 0;
    bind_int(a, b, "GROUP", p->pairs ? 2 : ranks ? ranks : 1);
    bind_int(a, b, "UNIT", p->pairs == PAIRS_HALVES ? p->head : p->pairs ? 2 : 1);
    bind_int(a, b, "RANKS", p->ranks);
    return true;
}

static bool bind(const Maker *m, const Template *t, const Part *p, const PartList *all, Binding *b, Err *e) {
    Arena *a = m->a;
    *b = (Binding){.t = t};
    bind_target(a, b, m->target);
    if (t->precision && strcmp(t->precision, m->precision)) return err_set(e, "is for --precision %s", t->precision);
    if (t->arch && strcmp(t->arch, m->target->arch)) return err_set(e, "is for --arch %s", t->arch);
    if (t->tokens < p->tokens) return err_set(e, "is for at most %lld tokens", (long long)t->tokens);
    if (t->over >= p->tokens) return err_set(e, "is for more than %lld tokens", (long long)t->over);
    bool ok = p->core ? bind_core(a, b, p, all, e) : p->source ? bind_opaque(a, b, p->owner, e) : bind_generated(a, b, p, all);
    if (!ok || !bind_behind(a, b, p, e)) return false;
    bind_absent(a, b, t->in, t->n_in);
    bind_absent(a, b, t->out, t->n_out);
    if (!bind_attrs(a, b, p->core ? p->core : p->owner, e)) return false;
    if (m->tuning && t->tunes.n && !p->alone) {
        TuneKey *key = arena_alloc(a, sizeof *key);
        *key = (TuneKey){t->file, t->version, ops_of(a, p, all), shape_of(a, b)};
        b->tune = key;
    }
    return bind_consts(m, b, e);
}

/* Results must not depend on what was chosen. */
static bool same_sums(const Maker *m, const Part *p, const PartList *all, Binding *b, Err *e) {
    Maker plain = *m;
    Binding otherwise;
    Err not = {""};
    plain.tuning = NULL;
    if (!b->chosen || !bind(&plain, b->t, p, all, &otherwise, &not)) return true;
    const char *was = binding_reduction(m->a, &otherwise), *is = binding_reduction(m->a, b);
    if (!strcmp(was, is)) return true;
    b->fault = true;
    return err_set(e, "%s: error: the choice changes how it sums: \"%s\" instead of \"%s\"", b->t->path, is, was);
}

bool template_bind(const Maker *m, const Part *p, const PartList *all, Binding *b, Err *e) {
    Text why = {0};
    bool found = false, fused = p->owner->op == OP_FUSED;
    for (size_t i = 0; i < m->templates->n; i++) {
        const Template *t = m->templates->at[i];
        Binding candidate;
        Err not = {""};
        if (strcmp(t->kernel, p->kernel)) continue;
        if (!bind(m, t, p, all, &candidate, &not ) || !same_sums(m, p, all, &candidate, &not )) {
            if (candidate.fault) {
                text_free(&why);
                return err_set(e, "%s\n  for %s (%s:%d)", not .msg, node_name(p->owner), p->owner->loc.file, p->owner->loc.line);
            }
            text_add(&why, "\n  %s: %s", t->file, not .msg);
        } else if (!found || t->priority > b->t->priority) *b = candidate, found = true;
    }
    if (!found)
        err_at(e, &p->owner->loc, "no template computes %s with kernel %s%s%s for %s, %s%s%s%s", node_name(p->owner), p->kernel,
               fused ? " of rule " : "", fused ? p->owner->rule : "", m->target->arch, m->precision, why.at ? "" : ": there is none of that name",
               fused ? "; see docs/fusions.md, Kernels" : "", why.at ? why.at : "");
    text_free(&why);
    return found;
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
