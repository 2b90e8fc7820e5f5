/* fuse_tool.c - runs one test of tests/fuse: a graph, rules, and what became of them, on stdout.
 *
 *   fuse_tool GRAPH.lua RULES.lua|- OPTION…      in the root of the repository
 *     graph FILE     instead of GRAPH.lua
 *     rules FILE     another file of rules, after those of RULES.lua
 *     off NAME[@SCOPE]    a rule not to apply
 *     precision fast|strict    run precision first;  kv16: with a bf16 KV cache
 *     hook KERNEL    run fuse_elementwise; this kernel has a hook ("all": every one)
 *     log            no dump
 *     misses         say of rules that fit nowhere how near they came
 *
 * Prints "done RULE NODE: WHY" and "refused …" for each event, then the dump; or the error. Whatever the test is about, it
 * also checks, and dies if not: no rules, and rules that are all off, change nothing; the result verifies; its dump reads
 * back to the same dump, as does each body; and it computes, with the reference functions on random numbers, what the
 * graph computed before. */
#include <stdlib.h>

#include "compiler/fuse.h"
#include "compiler/passes.h"
#include "ir/ref.h"

typedef struct Test Test;
struct Test {
    Arena *a;
    const char *graph, *precision;
    const char *file[8], *hook[8];
    size_t n_file, n_hook;
    FuseOffList off;
    bool kv16, log_only, misses;
};

static const char *dump(Arena *a, const Program *p) {
    Text t = {0};
    program_dump(p, &t);
    char *s = arena_strdup(a, t.at);
    text_free(&t);
    return s;
}

static Program *copy(Arena *a, const Program *p) {
    Err e;
    Program *q = program_load(a, dump(a, p), "dump", &e);
    if (!q) die("the dump does not load: %s\n%s", e.msg, dump(a, p));
    return q;
}

/* --- computing a graph -------------------------------------------------------------------------------------------- */

static const Sizes sizes = {{[SYM_T] = 3, [SYM_S] = 2, [SYM_P] = 4}};

/* Numbers that depend on the value's name only; indices are all 0. */
static void *random_data(Arena *a, const Value *v) {
    size_t n = type_bytes(&v->type, &sizes), count = (size_t)type_count(&v->type, &sizes);
    unsigned char *p = arena_alloc(a, n);
    uint64_t r = hash64(v->name, strlen(v->name));
    for (size_t i = 0; i < count && v->type.dtype != DT_I32; i++) {
        r = r * 6364136223846793005u + 1442695040888963407u;
        float f = (float)(int32_t)(r >> 32) / (float)(1u << 31);
        if (v->type.dtype == DT_F32) ((float *)p)[i] = f;
        if (v->type.dtype == DT_BF16) ((uint16_t *)p)[i] = bf16_of_f32(f);
        if (v->type.dtype == DT_MXFP4) i < n * 16 / 17 ? (p[i] = (unsigned char)(r >> 40)) : i < n ? (p[i] = 125) : 0;
    }
    return p;
}

static void random_list(Arena *a, const ValueList *l) {
    for (size_t i = 0; i < l->n; i++) l->at[i]->mark = random_data(a, l->at[i]);
}

static Tensor tensor(const Value *v) { return v ? tensor_of(&v->type, &sizes, v->mark) : (Tensor){0}; }

/* Value.mark of every value: its numbers. */
static void compute(Arena *a, const Graph *g) {
    random_list(a, &g->inputs);
    random_list(a, &g->params);
    random_list(a, &g->states);
    for (size_t i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.at[i];
        Tensor in[MAX_IN], out[MAX_OUT];
        Err e;
        for (int k = 0; k < n->n_in; k++) in[k] = tensor(n->in[k]);
        for (int k = 0; k < n->n_out; k++) {
            int state = node_state_in(n, k);
            n->out[k]->mark = state >= 0 ? n->in[state]->mark : arena_alloc(a, type_bytes(&n->out[k]->type, &sizes));
            out[k] = tensor(n->out[k]);
        }
        if (!ref_node(n, in, out, &sizes, 1, &e)) die("%s: %s", node_name(n), e.msg);
    }
}

static void check_same_values(const ValueList *l, const ValueList *m) {
    if (l->n != m->n) die("%zu outputs or states before, %zu after", l->n, m->n);
    for (size_t i = 0; i < l->n; i++) {
        const Value *v = l->at[i], *w = m->at[i];
        if (strcmp(v->name, w->name) || memcmp(v->mark, w->mark, type_bytes(&v->type, &sizes)))
            die("%s of the fused graph differs from %s before", w->name, v->name);
    }
}

static void check_same_numbers(Arena *a, const Graph *g, const Graph *h) {
    compute(a, g);
    compute(a, h);
    check_same_values(&g->outputs, &h->outputs);
    check_same_values(&g->states, &h->states);
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

static void check_nothing_done(const Test *t, Front *f, const Program *p, const RuleList *rules) {
    FuseOff all = {.rule = "all"};
    FuseOffList on = {0}, off = {&all, 1, 1};
    const RuleList none = {0};
    Program *q = copy(t->a, p);
    FuseLog log = {0};
    Err e;
    for (size_t i = 0; i < q->graphs.n; i++)
        if (!fuse_run(f, q->graphs.at[i], &none, &on, &log, &e) ||
            !fuse_run(f, q->graphs.at[i], rules, &off, &log, &e))
            die("without rules: %s", e.msg);
    if (log.n || strcmp(dump(t->a, p), dump(t->a, q))) die("without rules the graph changed:\n%s", dump(t->a, q));
}

/* What a body updates comes in as an input; alone it is a state. */
static void inputs_to_states(Graph *g, const Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        int at = node_state_in(n, i);
        Value *v = at < 0 ? NULL : graph_find(g, n->in[at]->name);
        size_t k = 0;
        for (size_t j = 0; v && j < g->inputs.n; j++)
            if (g->inputs.at[j] != v) g->inputs.at[k++] = g->inputs.at[j];
        if (!v) continue;
        g->inputs.n = k;
        v->kind = VALUE_STATE;
        PUSH(g->arena, g->states, v);
    }
}

static void check_body(const Test *t, const Node *n) {
    Program *p = program_new(t->a, "body");
    Graph *g = graph_clone(t->a, n->body);
    inputs_to_states(g, n);
    PUSH(t->a, p->graphs, g);
    const char *text = dump(t->a, p);
    if (strcmp(text, dump(t->a, copy(t->a, p)))) die("the body of %s reads back differently:\n%s", node_name(n), text);
    if (!n->hook || graph_find(n->body, n->hook->name) != n->hook) die("%s: its hook is not in its body", node_name(n));
    for (int i = 0; i < n->n_out; i++)
        if (strcmp(n->out[i]->name, n->body->outputs.at[i]->name))
            die("%s: the body's output %d is called otherwise", node_name(n), i);
}

static void check(const Test *t, const Program *before, const Program *p) {
    Err e;
    if (!program_verify(p, &e)) die("the result does not verify: %s", e.msg);
    if (strcmp(dump(t->a, p), dump(t->a, copy(t->a, p)))) die("the dump reads back differently:\n%s", dump(t->a, p));
    for (size_t i = 0; i < p->graphs.n; i++) {
        const Graph *g = p->graphs.at[i];
        for (size_t k = 0; k < g->nodes.n; k++)
            if (g->nodes.at[k]->op == OP_FUSED) check_body(t, g->nodes.at[k]);
        check_same_numbers(t->a, before->graphs.at[i], g);
    }
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static bool accepts(void *ctx, const Node *n) {
    const Test *t = ctx;
    const char *kernel = n->op == OP_FUSED ? n->kernel[0].name : op_info(n->op)->name;
    for (size_t i = 0; i < t->n_hook; i++)
        if (!strcmp(t->hook[i], kernel) || !strcmp(t->hook[i], "all")) return true;
    return false;
}

static void print_log(const Test *t, const FuseLog *log) {
    static const char *const words[] = {[FUSE_DONE] = "done", [FUSE_REFUSED] = "refused", [FUSE_MISSED] = "missed"};
    for (size_t i = 0; i < log->n; i++)
        if (log->at[i].outcome != FUSE_MISSED || t->misses)
            printf("%s %s %s: %s\n", words[log->at[i].outcome], log->at[i].rule, log->at[i].node, log->at[i].why);
}

static bool run(Test *t, Err *e) {
    FrontOptions o = {.max_batch = 4, .max_tokens = 16, .max_seq = 128, .lua_dir = "lua"};
    Front *f = front_open(t->a, &o, e);
    if (!f) return false;
    RuleList rules = {0};
    FuseLog log = {0};
    Program *p = front_program(f, t->graph, e), *before = NULL;
    bool ok = p;
    for (size_t i = 0; i < t->n_file && ok; i++) ok = front_rules(f, t->file[i], &rules, e);
    if (ok && t->precision) ok = precision_run(p, !strcmp(t->precision, "strict"), t->kv16, e);
    if (ok) {
        before = copy(t->a, p);
        check_nothing_done(t, f, p, &rules);
    }
    for (size_t i = 0; ok && i < p->graphs.n; i++) ok = fuse_run(f, p->graphs.at[i], &rules, &t->off, &log, e);
    for (size_t i = 0; ok && t->n_hook && i < p->graphs.n; i++)
        ok = fuse_elementwise(p->graphs.at[i], accepts, t, &t->off, &log, e);
    if (ok) {
        check(t, before, p);
        print_log(t, &log);
        if (!t->log_only) fputs(dump(t->a, p), stdout);
    }
    front_close(f);
    return ok;
}

static bool push(const char **list, size_t *n, const char *arg) {
    if (*n == 8) return false;
    list[(*n)++] = arg;
    return true;
}

static void push_off(Test *t, const char *arg) {
    const char *at = strchr(arg, '@');
    FuseOff off = {arena_strndup(t->a, arg, strcspn(arg, "@")), at ? at + 1 : NULL, 0};
    PUSH(t->a, t->off, off);
}

static bool option(Test *t, const char *word, const char *arg) {
    if (!strcmp(word, "precision")) t->precision = arg;
    else if (!strcmp(word, "graph")) t->graph = arg;
    else if (!strcmp(word, "rules")) return push(t->file, &t->n_file, arg);
    else if (!strcmp(word, "off")) push_off(t, arg);
    else if (!strcmp(word, "hook")) return push(t->hook, &t->n_hook, arg);
    else return false;
    return true;
}

int main(int argc, char **argv) {
    Test t = {.a = arena_new()};
    Err e = {""};
    if (argc < 3) return fputs("usage: fuse_tool GRAPH.lua RULES.lua OPTION…\n", stderr), 2;
    t.graph = argv[1];
    if (strcmp(argv[2], "-")) t.file[t.n_file++] = argv[2];
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "kv16")) t.kv16 = true;
        else if (!strcmp(argv[i], "log")) t.log_only = true;
        else if (!strcmp(argv[i], "misses")) t.misses = true;
        else if (i + 1 == argc || !option(&t, argv[i], argv[i + 1]))
            return fprintf(stderr, "fuse_tool: what is %s?\n", argv[i]), 2;
        else i++;
    }
    if (!run(&t, &e)) puts(e.msg);
    arena_free(t.a);
    return 0;
}
