/* cost_test.c - ir/cost.c against numbers of gpt-oss-20b that were worked out by hand. cost_test PLAN: a whole plan of it. */
#include "ir/cost.h"
#include "plan/plan.h"

#include <math.h>

enum { H = 2880, QKV = 5120, Q = 4096, E = 32, K = 4, V = 201088, D = 64, NKV = 8 };

static int failures;
static Arena *arena;
static Graph *graph;

static void near(const char *name, double got, double want) {
    if (fabs(got - want) <= 1e-9 * fabs(want)) printf("ok %s\n", name);
    else printf("FAIL %s: %.0f, expected %.0f\n", name, got, want), failures++;
}

static Type type(DType d, int rank, Dim a, Dim b, Dim c) { return (Type){d, rank, {a, b, c}}; }
static Dim of(int64_t n) { return dim_const(n); }
static Dim t(void) { return dim_sym(SYM_T); }
static Value *input(const char *name, DType d, int rank, Dim a, Dim b, Dim c) {
    return graph_input(graph, name, type(d, rank, a, b, c));
}
static Value *param(const char *name, DType d, int rank, Dim a, Dim b, Dim c) {
    return graph_param(graph, name, type(d, rank, a, b, c));
}
#define NONE ((Dim){0})

static Node *add(Op op, Value *const *in, int n_in, const Attr *attr, int n_attr) {
    Err e;
    Node *n = graph_add(graph, op, in, n_in, attr, n_attr, NULL, (Loc){.file = "cost_test.c", .scope = ""}, &e);
    if (!n) die("cost_test: %s", e.msg);
    return n;
}
#define ADD(op, ...) add(op, (Value *const[]){__VA_ARGS__}, (int)LEN(((Value *const[]){__VA_ARGS__})), NULL, 0)

static Cost cost(const Node *n, int64_t tokens, int64_t slots, int64_t depth) {
    const Work w = {.sizes = {{[SYM_T] = tokens, [SYM_S] = slots}}, .slots = slots, .depth = depth};
    return cost_node(n, &w);
}

static void dense(void) {
    Value *x = input("x", DT_BF16, 2, t(), of(H), NONE), *a = input("a", DT_BF16, 2, t(), of(Q), NONE);
    Node *qkv = ADD(OP_linear, x, param("qkv", DT_BF16, 2, of(QKV), of(H), NONE),
                    param("qkv.b", DT_F32, 1, of(QKV), NONE, NONE));
    Node *o = ADD(OP_linear, a, param("o", DT_BF16, 2, of(H), of(Q), NONE));
    Node *head = ADD(OP_linear, x, param("unembed", DT_BF16, 2, of(V), of(H), NONE));
    near("qkv reads 29.49 MB", cost(qkv, 1, 1, 0).read, 29491200 + 4 * QKV + 2 * H);
    near("qkv writes its row", cost(qkv, 1, 1, 0).written, 4 * QKV);
    near("qkv operations", cost(qkv, 7, 7, 0).flops, 7.0 * QKV * (2 * H + 1));
    near("o reads 23.59 MB", cost(o, 3, 3, 0).read, 23592960 + 3 * 2 * Q);
    near("unembedding reads 1158 MB", cost(head, 1, 1, 0).read, 1158266880 + 2 * H);
    near("unembedding operations", cost(head, 1, 1, 0).flops, 2.0 * V * H);
}

static void experts(void) {
    Value *x = input("n", DT_BF16, 2, t(), of(H), NONE), *ids = input("ids", DT_I32, 2, t(), of(K), NONE);
    Node *mlp1 = ADD(OP_expert_linear, x, param("mlp1", DT_MXFP4, 3, of(E), of(2 * H), of(H)),
                     param("mlp1.b", DT_F32, 2, of(E), of(2 * H), NONE), ids);
    Value *s = input("s", DT_BF16, 3, t(), of(K), of(H));
    Node *mlp2 = ADD(OP_expert_linear, s, param("mlp2", DT_MXFP4, 3, of(E), of(H), of(H)),
                     param("mlp2.b", DT_F32, 2, of(E), of(H), NONE), ids);
    double bias = 4.0 * 2 * H;
    near("one expert of mlp1 is 8.81 MB", cost(mlp1, 1, 1, 0).read, 4 * (8812800 + bias) + 2 * H + 4 * K);
    near("one expert of mlp2 is 4.41 MB", cost(mlp2, 1, 1, 0).read, 4 * (4406400 + bias / 2) + 2 * K * H + 4 * K);
    near("experts of 8 tokens", cost_experts(32, 4, 8), 32 * (1 - pow(0.875, 8)));
    near("mlp1 of 8 tokens", cost(mlp1, 8, 8, 0).read, cost_experts(32, 4, 8) * (8812800 + bias) + 8 * (2 * H + 4 * K));
    near("mlp1 operations", cost(mlp1, 8, 8, 0).flops, 8.0 * K * 2 * H * (2 * H + 1));
}

static void attention(void) {
    Type pool = {DT_BF16, 5, {dim_sym(SYM_P), of(2), of(NKV), of(64), of(D)}};
    Value *q = input("q", DT_BF16, 2, t(), of(Q), NONE), *k = input("k", DT_BF16, 2, t(), of(NKV * D), NONE);
    Value *slot = input("slot", DT_I32, 1, t(), NONE, NONE), *pos = input("pos", DT_I32, 1, t(), NONE, NONE);
    Value *blocks = input("blocks", DT_I32, 2, of(64), of(2048), NONE), *kv = graph_state(graph, "kv", pool);
    Value *sinks = param("sinks", DT_F32, 1, of(64), NONE, NONE);
    Attr window = {.name = "window", .type = ATTR_INT, .i = 128};
    Node *full = ADD(OP_attention, q, kv, sinks, slot, pos, blocks);
    Node *near_keys = add(OP_attention, (Value *const[]){q, kv, sinks, slot, pos, blocks}, 6, &window, 1);
    Node *write = ADD(OP_kv_write, kv, k, k, slot, pos, blocks);
    double others = 2 * Q + 4 * 64 + 4 + 4;
    near("a position is 2 KiB", cost(full, 1, 1, 1000).read, 1001 * 2048 + others + 4 * 16);
    near("operations by context", cost(full, 1, 1, 1000).flops, 16384.0 * 1001);
    near("a window's keys", cost(near_keys, 1, 1, 1000).read, 128 * 2048 + others + 4 * 2);
    near("8 sequences", cost(full, 8, 8, 63).read, 8 * (64.0 * 2048 + 2 * Q + 8 + 4) + 4 * 64);
    near("a prompt's operations", cost(full, 100, 1, 0).flops, 16384.0 * 100 * 101 / 2);
    near("a prompt's keys, once", cost(full, 100, 1, 0).read, 100 * (2048.0 + 2 * Q + 8) + 4 * 64 + 4 * 2);
    near("kv_write writes its rows", cost(write, 8, 8, 63).written, 8 * 2048);
    near("kv_write reads k and v once", cost(write, 8, 8, 63).read, 8 * (1024 + 4 + 4 + 4));
}

static void tables(void) {
    Value *src = input("src", DT_I32, 1, t(), NONE, NONE);
    Node *embed = ADD(OP_embed, src, param("embed", DT_BF16, 2, of(V), of(H), NONE));
    near("embedding reads rows", cost(embed, 5, 5, 0).read, 5 * (4 + 2 * H));
    Value *hidden = input("hidden", DT_F32, 2, t(), of(H), NONE),
          *index = input("rows", DT_I32, 1, dim_sym(SYM_S), NONE, NONE);
    near("rows reads those sampled", cost(ADD(OP_rows, hidden, index), 100, 2, 0).read, 2 * (4 + 4 * H));
}

/* One token: what it must read are the weights, once, of four experts. Fused nodes: what they hide must not count. */
static int whole(const char *path) {
    Err e;
    Plan *p = plan_open(path, &e);
    const Work w = {.sizes = {{[SYM_T] = 1, [SYM_S] = 1}}, .slots = 1};
    if (!p) die("cost_test: %s", e.msg);
    Cost sum = {0};
    for (int g = 0; g < 2; g++) {
        const Graph *ir = program_graph(p->program, g ? "sample" : "step");
        for (size_t i = 0; i < ir->nodes.n; i++) {
            Cost c = cost_node(ir->nodes.at[i], &w);
            sum.read += c.read, sum.written += c.written, sum.flops += c.flops;
        }
    }
    double dense = 24 * (29491200 + 23592960 + 184320) + 1158266880.0, expert = 24 * 4 * (8812800 + 4406400.0);
    double flops =
        2 * (dense / 2) + 24 * 4 * 3 * 2.0 * H * H; /* a bf16 weight, then an expert's 3 H^2, is a multiply-add each */
    printf("read %.0f of weights %.0f, written %.0f, operations %.0f of %.0f\n", sum.read, dense + expert, sum.written,
           sum.flops, flops);
    bool ok = sum.read > dense + expert && sum.read < 1.01 * (dense + expert) && sum.written < 0.01 * sum.read &&
              sum.flops > flops && sum.flops < 1.01 * flops;
    plan_close(p);
    return !ok;
}

int main(int argc, char **argv) {
    if (argc > 1) return whole(argv[1]);
    arena = arena_new();
    graph = graph_new(arena, "step");
    dense();
    experts();
    attention();
    tables();
    arena_free(arena);
    return failures != 0;
}
