/* ir_test.c - the op table, dump and load, verify's errors, the helpers that change graphs, and what sockets and files do in bad hours.
 * Prints "ok NAME" or "FAIL NAME: why" for each test; exits 0 only when none failed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "ir/graph.h"
#include "ir/map.h"
#include "ir/socket.h"

static int failures;

static void check(bool ok, const char *name, const char *why) {
    if (ok) printf("ok %s\n", name);
    else printf("FAIL %s: %s\n", name, why), failures++;
}

static void has(const char *text, const char *part, const char *name) {
    check(strstr(text, part) != NULL, name, text);
}

static Type type(DType d, int rank, Dim a, Dim b) { return (Type){d, rank, {a, b}}; }
static const Dim T = {SYM_T, 1, 0};
static Dim c(int64_t n) { return dim_const(n); }

static Value *add(Graph *g, const char *op, Value **in, int n_in, const Attr *attr, int n_attr, const char *name) {
    Op o;
    Err e;
    if (!op_find(op, &o)) die("no op %s", op);
    Node *n = graph_add(g, o, in, n_in, attr, n_attr, name, (Loc){.scope = "layer 0 / attn"}, &e);
    if (!n) die("%s", e.msg);
    return n->out[0];
}
#define IN(...) (Value *[]){__VA_ARGS__}, (int)LEN(((Value *[]){__VA_ARGS__}))

static char *dump(Arena *a, const Program *p) {
    Text t = {0};
    program_dump(p, &t);
    char *s = arena_strdup(a, t.at);
    text_free(&t);
    return s;
}

/* --- the op table --- */

static int words(const char *s) {
    int n = 0;
    for (; *s; s += strcspn(s, " "), s += strspn(s, " ")) n++;
    return n;
}

static void test_table(Arena *a) {
    bool all = true;
    for (int i = 0; i < OP_COUNT; i++) {
        const OpInfo *o = op_info((Op)i);
        Op back;
        all &= op_find(o->name, &back) && back == (Op)i && o->infer && *o->doc && o->min_in <= o->max_in && o->max_in <= MAX_IN && o->n_out <= MAX_OUT;
        Attr at;
        bool required;
        int k = 0;
        while (op_attr(a, (Op)i, k, &at, &required)) k++;
        all &= k <= MAX_ATTR && words(o->in_names) == words(o->operands) && (i == OP_FUSED || words(o->in_names) == o->max_in);
        for (k = 0; k < words(o->operands); k++) { /* dies on an unknown word */
            Operand in = op_operand((Op)i, k);
            all &= in.means != MEANS_BELOW || op_input((Op)i, in.below) >= 0 || strstr(o->attrs, in.below);
        }
    }
    check(all, "table/rows", "a row of ops.def is wrong");
    Operand ids = op_operand(OP_expert_linear, 3), q = op_operand(OP_attention, 0);
    check(ids.flags == (OPERAND_DISTINCT | OPERAND_NONE) && ids.means == MEANS_BELOW && !strcmp(ids.below, "w"), "table/operand", "ids of expert_linear");
    check(q.flags == OPERAND_ROUND && q.means == MEANS_NUMBERS, "table/operand-round", "q of attention");
    check(op_input(OP_attention, "pos") == 4 && op_input(OP_attention, "po") == -1, "table/input", "pos of attention");
    Attr at;
    bool required;
    check(op_attr(a, OP_swiglu, 1, &at, &required) && !strcmp(at.name, "alpha") && at.f == 1.702 && !required, "table/default", at.name);
    check(op_attr(a, OP_slice, 1, &at, &required) && !strcmp(at.name, "width") && required, "table/required", at.name);
    check(op_attr(a, OP_attention, 1, &at, &required) && !strcmp(at.s, "f32"), "table/string", at.name);
    check(op_attr_fast(a, OP_attention, 1, &at) && !strcmp(at.s, "bf16") && !op_attr_fast(a, OP_attention, 0, &at), "table/fast", "p of attention");
    Op o;
    check(!op_find("nonsense", &o), "table/unknown", "found");
}

/* --- shape rules: one message each --- */

static const struct {
    const char *name, *op;
    Type in[6];
    int n_in;
    Attr attr[3];
    int n_attr;
    const char *says; /* the message, or the type of the first output */
} rules[] = {
#define M(d, ...) {DT_##d, (int)LEN(((Dim[]){__VA_ARGS__})), {__VA_ARGS__}}
#define C(n) {SYM_NONE, 0, n}
#define ST {SYM_T, 1, 0}
#define SS {SYM_S, 1, 0}
#define SP {SYM_P, 1, 0}
#define F M(F32, ST, C(64))
#define KV M(F32, SP, C(2), C(2), C(64), C(16))
#define IDX M(I32, ST)
#define BLK M(I32, C(8), C(4))
#define I(n, v) {.name = n, .type = ATTR_INT, .i = v}
#define S(n, v) {.name = n, .type = ATTR_STR, .s = v}
    {"repack", "repack", {M(BF16, C(96), C(64))}, 1, {I("wave", 32), I("pairs", 0), I("head", 0)}, 3, "i32[3072]"},
    {"repack-wide", "repack", {M(MXFP4, C(2), C(20), C(96))}, 1, {I("wave", 64), I("pairs", 1), I("head", 0)}, 3, "i32[1088]"},
    {"repack-odd", "repack", {M(BF16, C(15), C(64))}, 1, {I("wave", 32), I("pairs", 1), I("head", 0)}, 3, "repack: 15 rows do not fall into pairs"},
    {"linear", "linear", {F, M(BF16, C(96), C(64))}, 2, {{0}}, 0, "f32[T,96]"},
    {"linear-mxfp4", "linear", {M(BF16, ST, C(64)), M(MXFP4, C(96), C(64))}, 2, {{0}}, 0, "f32[T,96]"},
    {"linear-width", "linear", {M(F32, ST, C(2880)), M(BF16, C(96), C(2944))}, 2, {{0}}, 0, "linear: input is 2880 wide, weight expects 2944"},
    {"linear-dtype", "linear", {IDX, M(BF16, C(96), C(64))}, 2, {{0}}, 0, "linear: x is i32[T], expects f32 or bf16"},
    {"linear-rank", "linear", {M(F32, ST), M(BF16, C(96), C(64))}, 2, {{0}}, 0, "linear: x is f32[T], expects 2 dimensions"},
    {"linear-bias", "linear", {F, M(BF16, C(96), C(64)), M(F32, C(95))}, 3, {{0}}, 0, "linear: bias has 95 elements, weight gives 96"},
    {"linear-inputs", "linear", {F}, 1, {{0}}, 0, "linear: takes 2 to 3 inputs (x w b), given 1"},
    {"linear-attr", "linear", {F, M(BF16, C(96), C(64))}, 2, {I("eps", 3)}, 1, "linear: no attribute eps (it has: none)"},
    {"tokens", "tokens", {IDX, M(I32, C(8))}, 2, {{0}}, 0, "i32[T]"},
    {"embed", "embed", {IDX, M(BF16, C(512), C(64))}, 2, {{0}}, 0, "f32[T,64]"},
    {"rows", "rows", {F, M(I32, SS)}, 2, {{0}}, 0, "f32[S,64]"},
    {"rmsnorm", "rmsnorm", {F, M(F32, C(64))}, 2, {{0}}, 0, "f32[T,64]"},
    {"rmsnorm-width", "rmsnorm", {F, M(F32, C(65))}, 2, {{0}}, 0, "rmsnorm: input is 64 wide, g expects 65"},
    {"slice", "slice", {F}, 1, {I("offset", 32), I("width", 32)}, 2, "f32[T,32]"},
    {"slice-past", "slice", {F}, 1, {I("offset", 33), I("width", 32)}, 2, "slice: takes 32 elements from 33 on, the input is 64 wide"},
    {"slice-missing", "slice", {F}, 1, {I("offset", 33)}, 1, "slice: attribute width is missing"},
    {"slice-type", "slice", {F}, 1, {I("offset", 33), S("width", "x")}, 2, "slice: attribute width must be an integer"},
    {"add", "add", {F, F}, 2, {{0}}, 0, "f32[T,64]"},
    {"add-row", "add", {F, M(F32, C(64))}, 2, {{0}}, 0, "f32[T,64]"},
    {"mul-shape", "mul", {F, M(F32, C(32))}, 2, {{0}}, 0, "mul: a is f32[T,64], b is f32[32]: expects the same shape or one row"},
    {"scale", "scale", {F}, 1, {I("by", 2)}, 1, "f32[T,64]"},
    {"cast", "cast", {F}, 1, {S("to", "bf16")}, 1, "bf16[T,64]"},
    {"cast-to", "cast", {F}, 1, {S("to", "i32")}, 1, "cast: attribute to is \"i32\", must be \"f32\" or \"bf16\""},
    {"rope", "rope", {F, IDX, M(F32, C(1024), C(8), C(2))}, 3, {I("head_dim", 16)}, 1, "f32[T,64]"},
    {"rope-table", "rope", {F, IDX, M(F32, C(1024), C(16), C(2))}, 3, {I("head_dim", 16)}, 1,
     "rope: table is f32[1024,16,2], expects f32[positions,8,2] for head_dim 16"},
    {"rope-width", "rope", {F, IDX, M(F32, C(1024), C(12), C(2))}, 3, {I("head_dim", 24)}, 1, "rope: input is 64 wide, no multiple of an even head_dim (24)"},
    {"kv_write", "kv_write", {KV, M(F32, ST, C(32)), M(F32, ST, C(32)), IDX, IDX, BLK}, 6, {{0}}, 0, "f32[P,2,2,64,16]"},
    {"kv_write-dtype", "kv_write", {KV, M(BF16, ST, C(32)), M(F32, ST, C(32)), IDX, IDX, BLK}, 6, {{0}}, 0, "kv_write: k is bf16[T,32], expects f32"},
    {"kv_write-width", "kv_write", {KV, F, M(F32, ST, C(32)), IDX, IDX, BLK}, 6, {{0}}, 0, "kv_write: k is 64 wide, state expects 2 heads of 16"},
    {"attention", "attention", {F, KV, M(F32, C(4)), IDX, IDX, BLK}, 6, {{0}}, 0, "f32[T,64]"},
    {"attention-sinks", "attention", {F, KV, M(F32, C(5)), IDX, IDX, BLK}, 6, {{0}}, 0, "attention: sinks has 5 elements, q has 4 heads"},
    {"attention-heads", "attention", {M(F32, ST, C(48)), KV, M(F32, C(3)), IDX, IDX, BLK}, 6, {{0}}, 0,
     "attention: q is 48 wide, no multiple of the state's 2 heads of 16"},
    {"attention-pos", "attention", {F, KV, M(F32, C(4)), IDX, M(I32, SS), BLK}, 6, {{0}}, 0, "attention: pos is i32[S], which does not fit q f32[T,64] (S against T)"},
    {"topk", "topk", {F}, 1, {I("k", 4)}, 1, "f32[T,4]"},
    {"topk-k", "topk", {F}, 1, {I("k", 65)}, 1, "topk: k is 65, the input is only 64 wide"},
    {"softmax", "softmax", {F}, 1, {{0}}, 0, "f32[T,64]"},
    {"group", "group", {M(I32, ST, C(4))}, 1, {I("experts", 32), I("tile", 16)}, 2, "i32[4*T]"},
    {"expert_linear", "expert_linear", {F, M(MXFP4, C(8), C(96), C(64)), M(F32, C(8), C(96)), M(I32, ST, C(2))}, 4, {{0}}, 0, "f32[T,2,96]"},
    {"expert_linear-3", "expert_linear", {M(F32, ST, C(2), C(64)), M(F32, C(8), C(96), C(64)), M(F32, C(8), C(96)), M(I32, ST, C(2))}, 4, {{0}}, 0, "f32[T,2,96]"},
    {"expert_linear-rank", "expert_linear", {M(F32, ST, C(3), C(64)), M(F32, C(8), C(96), C(64)), M(F32, C(8), C(96)), M(I32, ST, C(2))}, 4, {{0}}, 0,
     "expert_linear: ids is i32[T,2], which does not fit x f32[T,3,64] (2 against 3)"},
    {"swiglu", "swiglu", {M(F32, ST, C(2), C(64))}, 1, {{0}}, 0, "f32[T,2,32]"},
    {"swiglu-odd", "swiglu", {M(F32, ST, C(63))}, 1, {{0}}, 0, "swiglu: input is 63 wide, expects pairs of gate and up"},
    {"own", "own", {M(I32, ST, C(2)), M(I32, C(2))}, 2, {I("experts", 32)}, 1, "i32[T,2]"},
    {"own-share", "own", {M(I32, ST, C(2)), M(I32, C(3))}, 2, {I("experts", 32)}, 1, "own: share is i32[3], must be i32[2]"},
    {"fetch", "fetch", {M(BF16, ST, C(64)), M(I32, ST, C(2))}, 2, {I("experts", 32)}, 1, "bf16[T,64]"},
    {"fetch-3", "fetch", {M(F32, ST, C(2), C(64)), M(I32, ST, C(2))}, 2, {I("experts", 32)}, 1, "f32[T,2,64]"},
    {"fetch-rank", "fetch", {M(F32, ST, C(3), C(64)), M(I32, ST, C(2))}, 2, {I("experts", 32)}, 1, "fetch: ids is i32[T,2], which does not fit x f32[T,3,64] (2 against 3)"},
    {"join", "join", {M(F32, ST, C(2), C(64))}, 1, {{0}}, 0, "f32[T,2,64]"},
    {"combine", "combine", {M(F32, ST, C(2), C(64)), M(F32, ST, C(2))}, 2, {{0}}, 0, "f32[T,64]"},
    {"sample", "sample", {M(F32, SS, C(512))}, 1, {{0}}, 0, "i32[S]"},
    {"sample-params", "sample", {M(F32, SS, C(512)), M(I32, SS, C(8))}, 2, {{0}}, 0, "i32[S]"},
    {"sample-rows", "sample", {M(F32, SS, C(512)), M(I32, ST, C(8))}, 2, {{0}}, 0, "sample: params is i32[T,8], which does not fit logits f32[S,512] (T against S)"},
    {"sample-columns", "sample", {M(F32, SS, C(512)), M(I32, SS, C(7))}, 2, {{0}}, 0, "sample: params is i32[S,7], expects 8 columns"},
    {"sample-vocabulary", "sample", {M(F32, SS, C(5000000))}, 1, {{0}}, 0, "sample: logits is f32[S,5000000], expects at most 4194304 columns"},
    {"set_last", "set_last", {M(I32, C(8)), M(I32, SS), M(I32, SS)}, 3, {{0}}, 0, "i32[8]"},
};

static void test_rules(Arena *a) {
    bool tested[OP_COUNT] = {[OP_FUSED] = true};
    for (size_t i = 0; i < LEN(rules); i++) {
        Graph *g = graph_new(a, "g");
        Value *in[6];
        Err e = {""};
        Op op;
        for (int k = 0; k < rules[i].n_in; k++) in[k] = graph_input(g, arena_printf(a, "in%d", k), rules[i].in[k]);
        if (!op_find(rules[i].op, &op)) die("no op %s", rules[i].op);
        tested[op] = true;
        Node *n = graph_add(g, op, in, rules[i].n_in, rules[i].attr, rules[i].n_attr, NULL, (Loc){0}, &e);
        const char *got = n ? type_str(a, &n->out[0]->type) : e.msg;
        check(!strcmp(got, rules[i].says), arena_printf(a, "infer/%s", rules[i].name), got);
    }
    for (int i = 0; i < OP_COUNT; i++)
        if (!tested[i]) check(false, arena_printf(a, "infer/%s", op_info((Op)i)->name), "the op has no test");
}

/* --- a graph with state, two outputs of one node, a fused node --- */

static Graph *small(Arena *a) {
    Graph *g = graph_new(a, "step");
    Value *x = graph_input(g, "x", type(DT_F32, 2, T, c(64)));
    Value *slot = graph_input(g, "slot", type(DT_I32, 1, T, c(0)));
    Value *pos = graph_input(g, "pos", type(DT_I32, 1, T, c(0)));
    Value *blocks = graph_input(g, "blocks", type(DT_I32, 2, c(8), c(4)));
    Value *w = graph_param(g, "w", type(DT_BF16, 2, c(64), c(64))), *b = graph_param(g, "b", type(DT_F32, 1, c(64), c(0)));
    Value *sinks = graph_param(g, "sinks", type(DT_F32, 1, c(4), c(0)));
    Value *kv = graph_state(g, "kv", (Type){DT_F32, 5, {dim_sym(SYM_P), c(2), c(2), c(64), c(16)}});
    w->may_round = true;
    Attr lo[] = {{.name = "offset", .type = ATTR_INT, .i = 0}, {.name = "width", .type = ATTR_INT, .i = 32}};
    Attr hi[] = {{.name = "offset", .type = ATTR_INT, .i = 32}, {.name = "width", .type = ATTR_INT, .i = 32}};
    Attr by = {.name = "by", .type = ATTR_FLOAT, .f = 0.1}, k2 = {.name = "k", .type = ATTR_INT, .i = 2};
    Value *q = add(g, "linear", IN(x, w, b), NULL, 0, "q");
    Value *k = add(g, "slice", IN(q), lo, 2, "k"), *v = add(g, "slice", IN(q), hi, 2, "v");
    Value *kv2 = add(g, "kv_write", IN(kv, k, v, slot, pos, blocks), NULL, 0, "kv.next");
    Value *o = add(g, "attention", IN(q, kv2, sinks, slot, pos, blocks), NULL, 0, "attn");
    Value *s = add(g, "scale", IN(o), &by, 1, "scaled");
    Value *top = add(g, "topk", IN(s), &k2, 1, "top");
    graph_output(g, s);
    graph_output(g, top);
    return g;
}

/* q and k of small() as one fused node, by hand. */
static void fuse_by_hand(Arena *a, Graph *g) {
    Node *q = graph_find(g, "q")->def, *k = graph_find(g, "k")->def;
    Graph *body = graph_new(a, "linear_slice");
    Value *in[3];
    for (int i = 0; i < 3; i++) in[i] = graph_input(body, q->in[i]->name, q->in[i]->type);
    Value *bq = add(body, "linear", in, 3, NULL, 0, "q");
    Value *bk = add(body, "slice", IN(bq), k->attr, k->n_attr, "k");
    graph_output(body, bq);
    graph_output(body, bk);
    Node *n = arena_alloc(a, sizeof *n);
    *n = (Node){.op = OP_FUSED, .n_in = 4, .in = {q->in[0], q->in[1], NULL, q->in[2]}, .n_out = 2, .out = {q->out[0], k->out[0]}, .body = body,
                .n_kernel_in = 3, .n_body_in = 4, .rule = "linear_slice", .n_kernel = 2, .kernel = {{16, "few"}, {INT64_MAX, "many"}}, .hook = bq};
    for (int i = 0; i < 2; i++) n->out[i]->def = n, n->out[i]->index = i;
    g->nodes.at[0] = n;
    memmove(g->nodes.at + 1, g->nodes.at + 2, (g->nodes.n - 2) * sizeof *g->nodes.at);
    g->nodes.n--;
}

static Program *small_program(Arena *a) {
    Program *p = program_new(a, "small");
    Graph *g = small(a);
    PUSH(a, p->graphs, g);
    return p;
}

static void test_dump(Arena *a) {
    Err e = {""};
    Program *p = small_program(a);
    check(program_verify(p, &e), "verify/small", e.msg);
    char *plain = dump(a, p);
    Program *q = program_load(a, plain, "small.ir", &e);
    check(q && !strcmp(dump(a, q), plain), "dump/round-trip", q ? dump(a, q) : e.msg);
    has(plain, "scaled: f32[T,64] = scale(attn) {by=0.1}  @ layer 0 / attn\n", "dump/node");
    has(plain, "top: f32[T,2], top.ids: i32[T,2] = topk(scaled) {k=2}", "dump/outputs");
    has(plain, "param w: bf16[64,64] may_round\n", "dump/may_round");
    fuse_by_hand(a, p->graphs.at[0]);
    check(program_verify(p, &e), "verify/fused", e.msg);
    char *fused = dump(a, p);
    q = program_load(a, fused, "small.ir", &e);
    check(q && !strcmp(dump(a, q), fused), "dump/fused", q ? dump(a, q) : e.msg);
    if (q) {
        Node *n = q->graphs.at[0]->nodes.at[0];
        check(n->n_kernel_in == 3 && n->n_body_in == 4 && n->n_in == 4 && !n->in[2] && n->n_kernel == 2 && n->kernel[0].max_t == 16 &&
                  n->hook == graph_find(n->body, "q"), "dump/fused-fields", fused);
    }
    has(fused, "q: f32[T,64], k: f32[T,32] = FUSED(x, w, nil; b)\n", "dump/fused-line");
    has(fused, "  kernel few T<=16\n  kernel many\n  hook q\n  body linear_slice\n    input x: f32[T,64]\n", "dump/fused-body");
    Graph *copy = graph_clone(a, p->graphs.at[0]);
    *p = (Program){.name = "small", .arena = a};
    PUSH(a, p->graphs, copy);
    check(program_verify(p, &e) && !strcmp(dump(a, p), fused), "clone", e.msg);
}

/* Numbers and strings that must come back bit by bit. */
static void test_numbers(Arena *a) {
    const double f[] = {1e-5, 0.1, 1.0 / 3, 7, -0.0, 1e300, 5e-324, 1e22, 123456789.125};
    for (size_t i = 0; i < LEN(f); i++) {
        Program *p = program_new(a, "p");
        Graph *g = graph_new(a, "g");
        PUSH(a, p->graphs, g);
        Attr by = {.name = "by", .type = ATTR_FLOAT, .f = f[i]};
        graph_output(g, add(g, "scale", IN(graph_input(g, "x", type(DT_F32, 2, T, c(4)))), &by, 1, NULL));
        node_set_str(g->nodes.at[0], "note", "a \"b\" \\ \n c");
        Err e;
        Program *q = program_load(a, dump(a, p), "f", &e);
        double back = q ? node_float(q->graphs.at[0]->nodes.at[0], "by") : 0;
        check(q && !memcmp(&back, &f[i], sizeof back) && !strcmp(node_str(q->graphs.at[0]->nodes.at[0], "note"), "a \"b\" \\ \n c"),
              arena_printf(a, "dump/number-%zu", i), q ? dump(a, q) : e.msg);
    }
}

static void test_types(Arena *a) {
    Type t = {DT_I32, 2, {{SYM_T, 4, 32}, c(4)}};
    Sizes s = {{0, 10, 0, 0}};
    check(!strcmp(type_str(a, &t), "i32[32+4*T,4]"), "type/text", type_str(a, &t));
    check(type_count(&t, &s) == 72 * 4 && type_bytes(&t, &s) == 72 * 16, "type/count", "wrong");
    Type x = {DT_MXFP4, 2, {c(4), c(64)}};
    check(type_bytes(&x, &s) == 4 * 64 / 32 * 17, "type/mxfp4", "wrong");
    Err e = {""};
    x.dim[1] = c(48);
    check(!type_check(&x, &e), "type/mxfp4-width", "accepted");
    x = (Type){DT_F32, 2, {c((int64_t)1 << 40), c((int64_t)1 << 40)}};
    check(!type_check(&x, &e), "type/overflow", "accepted");
}

/* --- what verify finds --- */

static void verify_says(Arena *a, Graph *g, const char *what, const char *name) {
    Err e = {"(nothing)"};
    bool ok = graph_verify(g, &e);
    check(!ok && strstr(e.msg, what), arena_printf(a, "verify/%s", name), ok ? "accepted" : e.msg);
}

static void test_verify(Arena *a) {
    Graph *g = small(a);
    graph_find(g, "v")->name = "k";
    verify_says(a, g, "the name k is used twice (in node k of graph step)", "names");

    g = small(a);
    Node *n = g->nodes.at[0];
    g->nodes.at[0] = g->nodes.at[1];
    g->nodes.at[1] = n;
    verify_says(a, g, "slice: reads q, which is not computed before it", "order");

    g = small(a);
    graph_find(g, "attn")->type.dim[1] = c(65);
    verify_says(a, g, "attention: attn is f32[T,65], must be f32[T,64]", "type");

    g = small(a);
    graph_find(g, "scaled")->def->n_attr = 0;
    verify_says(a, g, "scale: attribute by is missing", "attribute");

    g = small(a);
    Value **w = graph_find(g, "kv.next")->def->in;
    add(g, "kv_write", w, 6, NULL, 0, "kv.again");
    verify_says(a, g, "kv_write: updates kv, which kv.next has already updated", "state-twice");

    g = small(a);
    Value *in[6];
    memcpy(in, graph_find(g, "attn")->def->in, sizeof in);
    in[1] = graph_find(g, "kv");
    add(g, "attention", in, 6, NULL, 0, "late");
    verify_says(a, g, "attention: reads kv after kv.next updated it", "state-late");
    graph_sort(g); /* puts the reader before the writer */
    Err e = {""};
    check(graph_verify(g, &e), "sort/state", e.msg);

    g = small(a);
    Value *fake = graph_input(g, "fake", graph_find(g, "kv")->type);
    memcpy(in, graph_find(g, "kv.next")->def->in, sizeof in);
    in[0] = fake;
    add(g, "kv_write", in, 6, NULL, 0, "bad");
    verify_says(a, g, "kv_write: updates fake, which is no state", "state-kind");

    g = small(a);
    graph_output(g, graph_find(g, "scaled"));
    verify_says(a, g, "scaled is an output of graph step twice", "output-twice");

    g = small(a);
    fuse_by_hand(a, g);
    g->nodes.at[0]->body->outputs.n = 1;
    verify_says(a, g, "the body has 1 outputs, the node has 2", "body-outputs");

    g = small(a);
    fuse_by_hand(a, g);
    g->nodes.at[0]->body->inputs.at[1]->type.dtype = DT_F32;
    verify_says(a, g, "FUSED: input w is bf16[64,64], the body's w is f32[64,64]", "body-types");

    g = small(a);
    fuse_by_hand(a, g);
    g->nodes.at[0]->kernel[1].max_t = 8;
    verify_says(a, g, "kernels are not by ascending max_t", "kernels");

    Program *p = small_program(a);
    Graph *h = graph_new(a, "sample");
    PUSH(a, p->graphs, h);
    graph_output(h, graph_param(h, "w", type(DT_F32, 2, c(64), c(64))));
    check(!program_verify(p, &e) && strstr(e.msg, "w is f32[64,64] in graph sample, bf16[64,64] elsewhere"), "verify/shared", e.msg);
}

/* One statement each that no file can break, for load would not take it: of the small graph, or of it fused by hand. */
static void no_name(Graph *g) { graph_find(g, "q")->name = NULL; }
static void bad_name(Graph *g) { graph_find(g, "q")->name = "a b"; }
static void no_rank(Graph *g) { graph_find(g, "x")->type.rank = MAX_RANK + 1; }
static void zero_wide(Graph *g) { graph_find(g, "x")->type.dim[1].add = 0; }
static void no_input(Graph *g) { graph_find(g, "attn")->def->in[0] = NULL; }
static void output_lost(Graph *g) { graph_find(g, "attn")->index = 1; }
static void outputs_few(Graph *g) { graph_find(g, "top")->def->n_out = 1; }
static void state_output(Graph *g) { graph_output(g, graph_find(g, "kv")); }
static void not_its_output(Graph *g) {
    g->outputs.at[0]->is_output = false;
    g->outputs.at[0] = graph_find(graph_clone(g->arena, g), "scaled");
}
static void output_unsaid(Graph *g) { g->outputs.at[0]->is_output = false; }
static void no_output_said(Graph *g) { g->inputs.at[0]->is_output = true; }
static void graph_unnamed(Graph *g) { g->name = "a b"; }
static void no_rule(Graph *g) { g->nodes.at[0]->rule = NULL; }
static void no_kernel(Graph *g) { g->nodes.at[0]->n_kernel = 0; }
static void kernel_unnamed(Graph *g) { g->nodes.at[0]->kernel[0].name = ""; }
static void kernel_ends(Graph *g) { g->nodes.at[0]->kernel[1].max_t = 99; }
static void hook_outside(Graph *g) { g->nodes.at[0]->hook = graph_find(g, "attn"); }

static const struct {
    const char *name;
    bool fused;
    void (*lie)(Graph *g);
    const char *says;
} lies[] = {
    {"no-name", false, no_name, "graph step holds a value without a name"},
    {"bad-name", false, bad_name, "\"a b\" is no name for a value"},
    {"rank", false, no_rank, "x: a value has at most 5 dimensions"},
    {"zero-wide", false, zero_wide, "x: dimension 2 must be at least 1"},
    {"no-input", false, no_input, "attention: input 1 of ("},
    {"output-lost", false, output_lost, "attention: output 0 does not belong to its node"},
    {"outputs-few", false, outputs_few, "topk has 1 outputs, must have 2"},
    {"state-output", false, state_output, "kv_write: updates kv, which is an output of the graph"},
    {"not-its-output", false, not_its_output, "output scaled is not in graph step"},
    {"output-unsaid", false, output_unsaid, "scaled is an output, and does not say so"},
    {"no-output-said", false, no_output_said, "x is no output, and says so"},
    {"graph-unnamed", false, graph_unnamed, "a graph has no proper name"},
    {"no-rule", true, no_rule, "the fused node has no rule"},
    {"no-kernel", true, no_kernel, "the fused node has 0 kernels"},
    {"kernel-unnamed", true, kernel_unnamed, "the fused node's kernel 1 has no name"},
    {"kernel-ends", true, kernel_ends, "the fused node's last kernel has a max_t"},
    {"hook-outside", true, hook_outside, "the fused node's hook is not computed in its body"},
};

static void test_lies(Arena *a) {
    for (size_t i = 0; i < LEN(lies); i++) {
        Graph *g = small(a);
        if (lies[i].fused) fuse_by_hand(a, g);
        lies[i].lie(g);
        verify_says(a, g, lies[i].says, lies[i].name);
    }
    Err e = {""};
    Program *p = small_program(a);
    PUSH(a, p->graphs, small(a));
    check(!program_verify(p, &e) && strstr(e.msg, "there are two graphs step"), "verify/two-graphs", e.msg);
    p->name = "";
    check(!program_verify(p, &e) && strstr(e.msg, "the program has no proper name"), "verify/program-unnamed", e.msg);
}

/* --- what load refuses --- */

static const struct {
    const char *name, *text, *says;
} bad[] = {
    {"empty", "", "x.ir:1:1: error: expected program"},
    {"no-end", "program p\ngraph g\n", "graph g has no end"},
    {"op", "program p\ngraph g\ninput x: f32[T,4]\ny: f32[T,4] = foo(x)\nend\n", "x.ir:4:15: error: no op foo\n    y: f32[T,4] = foo(x)\n                  ^"},
    {"value", "program p\ngraph g\ny: f32[T,4] = cast(x) {to=\"f32\"}\nend\n", "x.ir:3:20: error: there is no value x before this"},
    {"type", "program p\ngraph g\ninput x: f31[T,4]\nend\n", "x.ir:3:10: error: no element type f31"},
    {"dim", "program p\ngraph g\ninput x: f32[Q,4]\nend\n", "x.ir:3:14: error: expected an integer"},
    {"dim-0", "program p\ngraph g\ninput x: f32[T,0]\nend\n", "dimension 2 must be at least 1"},
    {"rank", "program p\ngraph g\ninput x: f32[1,1,1,1,1,1]\nend\n", "more than 5 dimensions"},
    {"twice", "program p\ngraph g\ninput x: f32[T,4]\ninput x: f32[T,4]\nend\n", "x.ir:4:7: error: the name x is used twice"},
    {"wrong", "program p\ngraph g\ninput x: f32[T,4]\ny: f32[T,5] = scale(x) {by=1.0}\nend\n", "x.ir:4:15: error: scale: y is f32[T,5], must be f32[T,4]"},
    {"cycle", "program p\ngraph g\ny: f32[T,5] = scale(y) {by=1.0}\nend\n", "scale: reads y, which is not computed before it"},
    {"infer", "program p\ngraph g\ninput x: f32[T,4]\nparam w: f32[4,5]\ny: f32[T,4] = linear(x, w)\nend\n", "x.ir:5:15: error: linear: input is 4 wide, weight expects 5"},
    {"body", "program p\ngraph g\ninput x: f32[T,4]\ny: f32[T,4] = FUSED(x)\nend\n", "expected rule, kernel, hook or body"},
    {"self-body", "program p\ngraph g\nstate s: i32[8]\ny: i32[8] = FUSED(s)\nrule r\nkernel k\nbody b\ninput s: i32[8]\ninput i: i32[S]\n"
                  "y: i32[8] = set_last(y, i, i)\noutput y\nend\nz: i32[8] = FUSED(s)\nrule r\nkernel k\nbody b\ninput s: i32[8]\noutput s\nend\nend\n",
     "error:"},
    {"fused-state", "program p\ngraph g\nstate s: i32[8]\ninput i: i32[S]\nlate: i32[8] = FUSED(i, s)\nrule r\nkernel k\nbody b\ninput i: i32[S]\ninput s: i32[8]\n"
                    "y: i32[8] = set_last(s, i, i)\noutput y\nend\nt: i32[S] = tokens(i, s)\noutput t\nend\n",
     "x.ir:14:13: error: tokens: reads s after late updated it"},
    {"fused-no-state", "program p\ngraph g\ninput s: i32[8]\ninput i: i32[S]\nlate: i32[8] = FUSED(i, s)\nrule r\nkernel k\nbody b\ninput i: i32[S]\ninput s: i32[8]\n"
                       "y: i32[8] = set_last(s, i, i)\noutput y\nend\noutput late\nend\n",
     "x.ir:5:16: error: FUSED: updates s, which is no state"},
    {"body-updates-weight", "program p\ngraph g\nparam w: i32[8]\ninput i: i32[S]\nout: i32[S] = FUSED(i, w)\nrule r\nkernel k\nbody b\ninput i: i32[S]\ninput w: i32[8]\n"
                            "y: i32[8] = set_last(w, i, i)\nout: i32[S] = tokens(i, y)\noutput out\nend\noutput out\nend\n",
     "the body updates y, which the node does not"},
    {"body-updates-own", "program p\ngraph g\ninput i: i32[S]\ninput s: i32[8]\nout: i32[8] = FUSED(i, s)\nrule r\nkernel k\nbody b\ninput i: i32[S]\ninput s: i32[8]\n"
                         "t: i32[8] = tokens(s, s)\nout: i32[8] = set_last(t, i, i)\noutput out\nend\noutput out\nend\n",
     "the body updates out, which the node does not"},
    {"group-swapped", "program p\ngraph g\ninput x: i32[T,2]\na: i32[2*T], b: i32[4+2*T,4] = group(x) {experts=4, tile=8}\n"
                      "y: i32[T,2] = FUSED(x; ; b, a)\nrule r\nkernel k\nbody b\ninput x: i32[T,2]\noutput x\nend\noutput y\nend\n",
     "behind its body's inputs the node reads what is no group's perm and tiles"},
    {"group-half", "program p\ngraph g\ninput x: i32[T,2]\na: i32[2*T], b: i32[4+2*T,4] = group(x) {experts=4, tile=8}\n"
                   "y: i32[T,2] = FUSED(x; ; a)\nrule r\nkernel k\nbody b\ninput x: i32[T,2]\noutput x\nend\noutput y\nend\n",
     "behind its body's inputs the node reads what is no group's perm and tiles"},
    {"group-tile", "program p\ngraph g\ninput x: i32[T,2]\na: i32[2*T], b: i32[4+2*T,4] = group(x) {experts=4, tile=9223372036854775807}\noutput a\nend\n", "attribute tile is 9223372036854775807, too large"},
    {"reads-updated", "program p\ngraph g\nstate s: i32[8]\ninput i: i32[8]\ny: i32[8] = set_last(s, s, i)\nend\n", "x.ir:5:13: error: set_last: updates s and reads it too"},
    {"hook", "program p\ngraph g\ninput x: f32[T,4]\ny: f32[T,4] = FUSED(x)\nrule r\nkernel k\nhook h\nbody r\ninput x: f32[T,4]\ny: f32[T,4] = scale(x) {by=1.0}\noutput y\nend\nend\n",
     "x.ir:7:6: error: there is no value h in the body"},
};

static void test_load(Arena *a) {
    for (size_t i = 0; i < LEN(bad); i++) {
        Err e = {""};
        Program *p = program_load(a, bad[i].text, "x.ir", &e);
        check(!p && strstr(e.msg, bad[i].says), arena_printf(a, "load/%s", bad[i].name), p ? "accepted" : e.msg);
    }
    /* Any damage is an error or another valid program, never a crash. */
    Program *p = small_program(a);
    fuse_by_hand(a, p->graphs.at[0]);
    const char *good = dump(a, p);
    size_t n = strlen(good);
    unsigned seed = 1;
    for (int i = 0; i < 3000; i++) {
        Arena *tmp = arena_new();
        char *s = arena_strdup(tmp, good);
        seed = seed * 1103515245 + 12345;
        size_t at = seed / 7 % n;
        if (i % 3 == 0) s[at] = 0;
        else if (i % 3 == 1) s[at] = good[seed / 11 % n];
        else memmove(s + at, s + at + 1, n - at);
        Err e = {""};
        if (!program_load(tmp, s, "x.ir", &e) && !*e.msg) check(false, "load/damage", "no message");
        arena_free(tmp);
    }
    check(true, "load/damage", "");
}

/* A body of n updates of one state, loaded: seconds of CPU. */
static double load_updates(int n) {
    Arena *a = arena_new();
    Text t = {0};
    Err e = {""};
    text_add(&t, "program p\ngraph g\nstate s: i32[8]\ninput i: i32[S]\ny: i32[8] = FUSED(s, i)\nrule r\nkernel k\nbody b\ninput s: i32[8]\ninput i: i32[S]\n");
    for (int k = 1; k <= n; k++) text_add(&t, "s%d: i32[8] = set_last(%s%.0d, i, i)\n", k, "s", k - 1);
    text_add(&t, "output s%d\nend\noutput y\nend\n", n);
    clock_t began = clock();
    if (!program_load(a, t.at, "x.ir", &e)) die("%s", e.msg);
    double took = (double)(clock() - began) / CLOCKS_PER_SEC;
    text_free(&t), arena_free(a);
    return took;
}

/* Reading takes time in proportion to the text, however long a body is: 16 times as much takes less than 80 times as long (256, when
 * each update is followed back to its state). */
static void test_long(Arena *a) {
    double few = load_updates(4000), many = load_updates(64000);
    check(many < 80 * (few + 1e-3), "load/long-body", arena_printf(a, "4,000 updates take %g s, 64,000 %g s", few, many));
}

/* Names that somebody chose to fall in one place of a table, by the hash that everybody knows, do not in a map. */
static void test_map(Arena *a) {
    enum { CHOSEN = 32, PLACES = 4096 };
    Map m = {.arena = a};
    size_t same = 0, n = 0, first = 0;
    for (int i = 0; n < CHOSEN; i++) {
        char *name = arena_printf(a, "n%d", i);
        if (hash64(name, strlen(name)) % PLACES) continue;
        if (!n++) first = map_hash(name, strlen(name)) % PLACES;
        same += map_hash(name, strlen(name)) % PLACES == first;
        map_put(&m, name, name);
    }
    check(same < CHOSEN / 2 && m.n == CHOSEN, "map/chosen-names", arena_printf(a, "%zu of %d in one place", same, CHOSEN));
}

/* What is refused in the end is refused soon: in a body, too, a parameter is looked for by an index. */
static void test_many(Arena *a) {
    enum { PARAMS = 40000, VALUES = 1 << 18 };
    Text t = {0};
    Err e = {""};
    text_add(&t, "program p\ngraph g\ninput x: f32[T,4]\ny: f32[T,4] = FUSED(x)\nrule r\nkernel k\nbody b\ninput x: f32[T,4]\n");
    for (int i = 0; i < PARAMS; i++) text_add(&t, "param p%d: f32[4]\n", i);
    text_add(&t, "y: f32[T,4] = scale(x) {by=1.0}\noutput y\nend\noutput y\nend\n");
    check(!program_load(a, t.at, "x.ir", &e) && strstr(e.msg, "the body has 40001 inputs, the node has 1"), "load/params-of-body", e.msg);
    text_free(&t);
    Arena *tmp = arena_new(); /* nodes without a type: refused when they are too many, before they are checked */
    text_add(&t, "program p\ngraph g\n");
    for (int i = 0; i <= VALUES; i++) text_add(&t, "%x:?=add()\n", i);
    text_add(&t, "end\n");
    check(!program_load(tmp, t.at, "x.ir", &e) && strstr(e.msg, "x.ir:262147:1: error: more than 262144 values"), "load/values", e.msg);
    text_free(&t), arena_free(tmp);
}

/* --- changing --- */

static void test_change(Arena *a) {
    Err e = {""};
    Graph *g = small(a);
    Attr by = {.name = "by", .type = ATTR_FLOAT, .f = 2};
    Value *q = graph_find(g, "q");
    check(graph_uses(g, q) == 3 && graph_uses(g, graph_find(g, "scaled")) == 2, "change/uses", "wrong count");
    Value *twice = add(g, "scale", IN(q), &by, 1, "twice");
    graph_replace_uses(g, q, twice, twice->def);
    check(graph_uses(g, q) == 1 && graph_uses(g, twice) == 3, "change/replace", "wrong count");
    check(!graph_verify(g, &e), "change/unsorted", "accepted");
    graph_sort(g);
    check(graph_verify(g, &e) && g->nodes.at[0] == q->def && g->nodes.at[1] == twice->def, "change/sort", e.msg);

    size_t before = g->nodes.n;
    add(g, "scale", IN(twice), &by, 1, "unused");
    graph_param(g, "idle", type(DT_F32, 1, c(4), c(0)));
    graph_prune(g);
    check(g->nodes.n == before && !graph_find(g, "unused") && !graph_find(g, "idle") && graph_find(g, "kv") && graph_verify(g, &e), "change/prune", e.msg);

    g = small(a); /* a write whose result nobody reads is still a write */
    g->outputs.n = 0;
    graph_output(g, graph_find(g, "q"));
    graph_prune(g);
    check(g->nodes.n == 4 && graph_find(g, "kv.next"), "change/prune-state", "the write is gone");

    g = graph_new(a, "pattern");
    Value *x = graph_input(g, "x", (Type){.rank = -1}), *w = graph_input(g, "w", (Type){.rank = -1});
    Node *n = graph_add(g, OP_swiglu, IN(add(g, "linear", IN(x, w), NULL, 0, NULL)), NULL, 0, NULL, (Loc){0}, &e);
    check(n && n->n_attr == 0 && n->out[0]->type.rank == -1 && !strcmp(node_name(n), "swiglu"), "change/pattern", e.msg);
    Text t = {0};
    graph_dump(g, &t);
    has(t.at, "swiglu: ? = swiglu(linear)\n", "dump/pattern");
    text_free(&t);
}

/* --- the machine: a process that is stopped takes nothing; stat() fails for once --- */

static void test_socket(void) {
    static char much[1 << 20];
    const struct timeval soon = {.tv_usec = 20000};
    struct timeval is = {0};
    socklen_t size = sizeof is;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) die("test: no sockets");
    bool set = socket_limit(ends[0], 60) && !getsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &is, &size);
    check(set && is.tv_sec == 60, "socket/limit", "it is not 60 s");
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
    check(!socket_put(ends[0], much, sizeof much) && errno == ETIMEDOUT, "socket/nobody-reads", strerror(errno));
    close(ends[0]), close(ends[1]);
}

static int stat_fails; /* so many calls */

/* libc's, but for the library under test too. */
int stat(const char *restrict path, struct stat *restrict st) {
    if (stat_fails && stat_fails--) return errno = EIO, -1;
    return fstatat(AT_FDCWD, path, st, 0);
}

/* A file that cannot be looked at is not taken for a link whose target is to be made, which is written in place. */
static void test_replace(void) {
    char path[] = "/tmp/gptoss-ir-XXXXXX";
    Err e = {""};
    FileOut o;
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, "good", 4) != 4) die("test: %s", path);
    stat_fails = 1;
    bool begun = file_begin(&o, path, &e);
    if (begun) fputs("half", o.f), file_end(&o, false, &e);
    check(!begun && strstr(e.msg, path) && strstr(e.msg, strerror(EIO)), "replace/error", e.msg);
    char text[5] = "";
    check(pread(fd, text, 4, 0) == 4 && !strcmp(text, "good"), "replace/stays", text);
    stat_fails = 1;
    check(!file_in_place(path), "replace/in-place", "a file");
    stat_fails = 0;
    close(fd), unlink(path);
}

int main(void) {
    Arena *a = arena_new();
    test_table(a);
    test_types(a);
    test_rules(a);
    test_dump(a);
    test_numbers(a);
    test_verify(a);
    test_lies(a);
    test_load(a);
    test_long(a);
    test_many(a);
    test_map(a);
    test_change(a);
    test_socket();
    test_replace();
    arena_free(a);
    return failures != 0;
}
