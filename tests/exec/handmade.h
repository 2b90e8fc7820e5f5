/* handmade.h - a plan without the compiler: the graphs of tests/models/tiny.json made by hand, one buffer for every value.
 * It has no kernels, so only the device ref runs it. For tests of plan.c and of the executor. */
#ifndef HANDMADE_H
#define HANDMADE_H

#include "plan/plan.h"

#include <stdlib.h>

enum { HAND_BATCH = 4, HAND_TOKENS = 16, HAND_ROWS = 3 };

static const char *hand_rows = "rows"; /* the input's name; another one is for the test of unknown inputs */
static int64_t hand_seq = 256;           /* positions */

typedef struct Hand Hand;
struct Hand {
    Arena *a;
    Graph *g;
    ModelConfig *c;
    Value *src, *slot, *pos, *rope, *full, *window;
};

static Type hand_type(DType d, int rank, Dim a, Dim b, Dim c) { return (Type){d, rank, {a, b, c}}; }
static Type hand_vector(DType d, Dim a) { return hand_type(d, 1, a, (Dim){0}, (Dim){0}); }
static Type hand_matrix(DType d, Dim a, Dim b) { return hand_type(d, 2, a, b, (Dim){0}); }

static Value *hand_add(Hand *h, Op op, const char *name, Value *const *in, int n_in, const Attr *attr, int n_attr) {
    Err e;
    Node *n = graph_add(h->g, op, in, n_in, attr, n_attr, name, (Loc){.file = "handmade.h", .scope = ""}, &e);
    if (!n) die("handmade %s: %s", name, e.msg);
    return n->out[0];
}
#define HAND(h, op, name, ...)                                                                                         \
    hand_add(h, op, name, (Value *const[]){__VA_ARGS__}, (int)LEN(((Value *const[]){__VA_ARGS__})), NULL, 0)
#define HAND_WITH(h, op, name, attrs, ...)                                                                             \
    hand_add(h, op, name, (Value *const[]){__VA_ARGS__}, (int)LEN(((Value *const[]){__VA_ARGS__})), attrs,             \
             (int)LEN(attrs))

static Attr hand_int(const char *name, int64_t v) { return (Attr){.name = name, .type = ATTR_INT, .i = v}; }

static ModelConfig hand_config(void) {
    ModelConfig c = {.vocab = 512,
                     .hidden = 64,
                     .experts = 4,
                     .topk = 2,
                     .intermediate = 64,
                     .layers = 4,
                     .head_dim = 16,
                     .heads = 4,
                     .kv_heads = 2,
                     .max_seq = 1024,
                     .original_context = 64,
                     .rope_theta = 150000,
                     .rope_factor = 32,
                     .rope_beta_fast = 32,
                     .rope_beta_slow = 1,
                     .window = 16,
                     .swiglu_limit = 7,
                     .rms_eps = 1e-5,
                     .eos = {504, 503},
                     .n_eos = 2,
                     .dense = DT_BF16,
                     .experts_dtype = DT_MXFP4};
    for (int i = 0; i < c.layers; i++) c.sliding[i] = i % 2 == 0;
    if (hand_seq > c.max_seq) c.max_seq = hand_seq;
    return c;
}

static Value *hand_param(Hand *h, const char *prefix, const char *name, Type t) {
    return graph_param(h->g, arena_printf(h->a, "%s%s", prefix, name), t);
}

static Value *hand_attention(Hand *h, Value *x, int layer) {
    const ModelConfig *c = h->c;
    Dim hid = dim_const(c->hidden), q = dim_const(c->heads * c->head_dim),
        qkv = dim_const((c->heads + 2 * c->kv_heads) * c->head_dim);
    int64_t kvw = c->kv_heads * c->head_dim;
    const char *p = arena_printf(h->a, "layer%d.attn.", layer);
#define N(s) arena_printf(h->a, "%s%s", p, s)
    Value *blocks = c->sliding[layer] ? h->window : h->full;
    Value *n = HAND(h, OP_rmsnorm, N("n"), x, hand_param(h, p, "norm", hand_vector(DT_F32, hid)));
    Value *y = HAND(h, OP_linear, N("qkv"), n, hand_param(h, p, "qkv.w", hand_matrix(DT_BF16, qkv, hid)),
                    hand_param(h, p, "qkv.b", hand_vector(DT_F32, qkv)));
    Attr aq[] = {hand_int("offset", 0), hand_int("width", q.add)},
         ak[] = {hand_int("offset", q.add), hand_int("width", kvw)},
         av[] = {hand_int("offset", q.add + kvw), hand_int("width", kvw)}, ar[] = {hand_int("head_dim", c->head_dim)},
         aw[] = {hand_int("window", c->sliding[layer] ? c->window : 0)};
    Value *qs = HAND_WITH(h, OP_slice, N("q"), aq, y), *ks = HAND_WITH(h, OP_slice, N("k"), ak, y),
          *vs = HAND_WITH(h, OP_slice, N("v"), av, y);
    qs = HAND_WITH(h, OP_rope, N("q.rope"), ar, qs, h->pos, h->rope);
    ks = HAND_WITH(h, OP_rope, N("k.rope"), ar, ks, h->pos, h->rope);
    Type kvt = {
        DT_F32, 5, {dim_sym(SYM_P), dim_const(2), dim_const(c->kv_heads), dim_const(KV_PAGE), dim_const(c->head_dim)}};
    Value *kv = HAND(h, OP_kv_write, N("kv.next"), graph_state(h->g, N("kv"), kvt), ks, vs, h->slot, h->pos, blocks);
    Value *a = HAND_WITH(h, OP_attention, N("heads"), aw, qs, kv,
                         hand_param(h, p, "sinks", hand_vector(DT_F32, dim_const(c->heads))), h->slot, h->pos, blocks);
    Value *o = HAND(h, OP_linear, N("o"), a, hand_param(h, p, "o.w", hand_matrix(DT_BF16, hid, q)),
                    hand_param(h, p, "o.b", hand_vector(DT_F32, hid)));
    return HAND(h, OP_add, N("out"), x, o);
}

static Value *hand_mlp(Hand *h, Value *x, int layer, const char *out) {
    const ModelConfig *c = h->c;
    Dim hid = dim_const(c->hidden), e = dim_const(c->experts), i = dim_const(c->intermediate),
        i2 = dim_const(2 * c->intermediate);
    const char *p = arena_printf(h->a, "layer%d.mlp.", layer);
    Value *n = HAND(h, OP_rmsnorm, N("n"), x, hand_param(h, p, "norm", hand_vector(DT_F32, hid)));
    Value *r = HAND(h, OP_linear, N("router"), n, hand_param(h, p, "router.w", hand_matrix(DT_BF16, e, hid)),
                    hand_param(h, p, "router.b", hand_vector(DT_F32, e)));
    Attr k[] = {hand_int("k", c->topk)};
    Value *best = HAND_WITH(h, OP_topk, N("best"), k, r), *ids = best->def->out[1];
    Value *w = HAND(h, OP_softmax, N("p"), best);
    Value *y = HAND(h, OP_expert_linear, N("mlp1"), n, hand_param(h, p, "mlp1.w", hand_type(DT_MXFP4, 3, e, i2, hid)),
                    hand_param(h, p, "mlp1.b", hand_matrix(DT_F32, e, i2)), ids);
    Value *s = HAND(h, OP_swiglu, N("swiglu"), y);
    y = HAND(h, OP_expert_linear, N("mlp2"), s, hand_param(h, p, "mlp2.w", hand_type(DT_MXFP4, 3, e, hid, i)),
             hand_param(h, p, "mlp2.b", hand_matrix(DT_F32, e, hid)), ids);
    Value *sum = HAND(h, OP_combine, N("combine"), y, w);
    return HAND(h, OP_add, out, x, sum);
#undef N
}

static void hand_step(Hand *h) {
    const ModelConfig *c = h->c;
    Dim t = dim_sym(SYM_T);
    Type table = hand_matrix(DT_I32, dim_const(HAND_BATCH), dim_const(hand_seq / KV_PAGE));
    h->src = graph_input(h->g, "src", hand_vector(DT_I32, t)),
    h->slot = graph_input(h->g, "slot", hand_vector(DT_I32, t));
    h->pos = graph_input(h->g, "pos", hand_vector(DT_I32, t));
    h->rope =
        graph_input(h->g, "rope", hand_type(DT_F32, 3, dim_const(hand_seq), dim_const(c->head_dim / 2), dim_const(2)));
    h->full = graph_input(h->g, "blocks.full", table), h->window = graph_input(h->g, "blocks.window", table);
    Value *last = graph_state(h->g, "last", hand_vector(DT_I32, dim_const(HAND_BATCH)));
    Value *x = HAND(h, OP_tokens, "ids", h->src, last);
    x = HAND(h, OP_embed, "x", x,
             graph_param(h->g, "embed", hand_matrix(DT_BF16, dim_const(c->vocab), dim_const(c->hidden))));
    for (int i = 0; i < c->layers; i++) {
        x = hand_attention(h, x, i);
        x = hand_mlp(h, x, i, i + 1 < c->layers ? arena_printf(h->a, "layer%d.mlp.out", i) : "hidden");
    }
    graph_output(h->g, x);
}

static void hand_head(Hand *h, bool sample) {
    const ModelConfig *c = h->c;
    Dim hid = dim_const(c->hidden), s = dim_sym(SYM_S);
    Value *x = graph_input(h->g, "hidden", hand_matrix(DT_F32, dim_sym(SYM_T), hid)),
          *rows = graph_input(h->g, hand_rows, hand_vector(DT_I32, s));
    x = HAND(h, OP_rows, "x", x, rows);
    x = HAND(h, OP_rmsnorm, "n", x, graph_param(h->g, "norm", hand_vector(DT_F32, hid)));
    x = HAND(h, OP_linear, "logits", x, graph_param(h->g, "unembed", hand_matrix(DT_BF16, dim_const(c->vocab), hid)));
    if (sample) {
        x = HAND(h, OP_sample, "ids", x);
        Value *last = graph_state(h->g, "last", hand_vector(DT_I32, dim_const(HAND_BATCH)));
        Value *slot = graph_input(h->g, "sample_slot", hand_vector(DT_I32, s));
        graph_output(h->g, HAND(h, OP_set_last, "last.next", last, x, slot));
    }
    graph_output(h->g, x);
}

static Program *hand_program(Arena *a, ModelConfig *c) {
    static const char *const names[] = {"step", "sample", "logits"};
    Program *p = program_new(a, "tiny");
    for (int i = 0; i < 3; i++) {
        Hand h = {.a = a, .g = program_graph(p, names[i]), .c = c};
        if (!h.g) {
            h.g = graph_new(a, names[i]);
            PUSH(a, p->graphs, h.g);
        }
        if (i) hand_head(&h, i == 1);
        else hand_step(&h);
    }
    Err e;
    if (!program_verify(p, &e)) die("handmade: %s", e.msg);
    return p;
}

/* --- buffers -------------------------------------------------------------------------------------------------------- */

typedef struct HandPlan HandPlan;
struct HandPlan {
    Plan *p;
    size_t scratch;
};

static int hand_buf(HandPlan *h, const Value *v, BufKind kind, int graph, int node) {
    Plan *p = h->p;
    static const Sizes most = {{0, HAND_TOKENS, HAND_ROWS, 1}};
    int found = kind == BUF_TEMP ? -1 : plan_buf(p, v->name);
    if (found >= 0) return found;
    PlanBuf *b = &p->bufs[p->n_bufs];
    *b = (PlanBuf){.name = v->name,
                   .kind = kind,
                   .type = v->type,
                   .may_round = v->may_round,
                   .size = type_bytes(&v->type, &most),
                   .graph = -1,
                   .first = -1,
                   .last = -1};
    if (kind == BUF_TEMP) {
        b->graph = graph, b->first = node, b->last = (int)program_graph(p->program, p->graphs[graph].name)->nodes.n - 1;
        b->offset = h->scratch;
        h->scratch += (b->size + 255) / 256 * 256;
        if (h->scratch > p->arena_of[HOLD_FIRST]) p->arena_of[HOLD_FIRST] = h->scratch;
    }
    return p->n_bufs++;
}

static void hand_value(HandPlan *h, PlanGraph *g, const Value *v, int buf) {
    (void)h;
    if (plan_value(g, v->name) >= 0) return;
    g->values[g->n_values].name = v->name;
    g->values[g->n_values++].buf = buf;
}

static void hand_graph(HandPlan *h, int graph, Sym sym, const int64_t *buckets, int n_buckets) {
    Plan *p = h->p;
    Graph *ir = p->program->graphs.at[graph];
    PlanGraph *g = &p->graphs[graph];
    g->name = ir->name, g->sym = sym, g->n_buckets = n_buckets;
    memcpy(g->buckets, buckets, (size_t)n_buckets * sizeof *buckets);
    g->values = arena_array(p->arena, 400, sizeof *g->values);
    h->scratch = 0;
    for (size_t i = 0; i < ir->params.n; i++)
        hand_value(h, g, ir->params.at[i], hand_buf(h, ir->params.at[i], BUF_WEIGHT, 0, 0));
    for (size_t i = 0; i < ir->states.n; i++)
        hand_value(h, g, ir->states.at[i], hand_buf(h, ir->states.at[i], BUF_STATE, 0, 0));
    for (size_t i = 0; i < ir->inputs.n; i++)
        hand_value(
            h, g, ir->inputs.at[i],
            hand_buf(h, ir->inputs.at[i], strcmp(ir->inputs.at[i]->name, "hidden") ? BUF_INPUT : BUF_LINK, 0, 0));
    for (size_t n = 0; n < ir->nodes.n; n++) {
        Node *node = ir->nodes.at[n];
        for (int i = 0; i < node->n_out; i++) {
            Value *v = node->out[i];
            if (op_info(node->op)->flags & OPF_STATE) hand_value(h, g, v, plan_value(g, node->in[0]->name));
            else hand_value(h, g, v, hand_buf(h, v, v->is_output ? BUF_LINK : BUF_TEMP, graph, (int)n));
        }
    }
}

static void hand_kv(Plan *p) {
    static const char *const tables[] = {"blocks.full", "blocks.window"};
    p->n_kv = 2;
    p->kv = arena_array(p->arena, 2, sizeof *p->kv);
    for (int k = 0; k < 2; k++) {
        p->kv[k] = (PlanKv){
            .blocks = tables[k], .window = k ? p->config.window : 0, .states = arena_array(p->arena, 16, sizeof(int))};
        for (int i = 0; i < p->config.layers; i++)
            if (p->config.sliding[i] == (k == 1))
                p->kv[k].states[p->kv[k].n_states++] = plan_buf(p, arena_printf(p->arena, "layer%d.attn.kv", i));
    }
}

/* The caller frees p->arena. */
static Plan *hand_plan(void) {
    static const int64_t t[] = {1, 4, HAND_TOKENS}, s[] = {1, HAND_ROWS};
    Arena *a = arena_new();
    Plan *p = arena_alloc(a, sizeof *p);
    *p = (Plan){.arena = a,
                .model_name = "tiny",
                .arch = "gfx90a",
                .target_id = "amdgcn-amd-amdhsa--gfx90a",
                .precision = "strict",
                .config = hand_config(),
                .max_batch = HAND_BATCH,
                .max_tokens = HAND_TOKENS,
                .max_seq = hand_seq,
                .max_blocks = hand_seq / KV_PAGE,
                .devices = 1};
    p->program = hand_program(a, &p->config);
    p->bufs = arena_array(a, 400, sizeof *p->bufs);
    p->graphs = arena_array(a, 3, sizeof *p->graphs);
    p->n_graphs = 3;
    for (int i = 0; i < 3; i++) p->graphs[i].name = p->program->graphs.at[i]->name;
    HandPlan h = {p, 0};
    Value step = {.name = "step", .type = hand_vector(DT_I32, dim_const(STEP_WORDS))};
    hand_buf(&h, &step, BUF_INPUT, 0, 0);
    hand_graph(&h, 0, SYM_T, t, 3);
    hand_graph(&h, 1, SYM_S, s, 2);
    hand_graph(&h, 2, SYM_S, s, 2);
    hand_kv(p);
    return p;
}

#endif
