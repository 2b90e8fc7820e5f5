/* ref_test.c - the reference functions of ir/ref.c against their formulas, written a second time, here, from ops.def.
 *
 * A result must be the exact one rounded once: within half a unit in the last place of float, plus the noise of a double sum in
 * another order. Outputs are poisoned first; every op also runs on three threads, which must give the same bits.
 * Prints `ok NAME`, `FAIL NAME: why`; exits 0 iff nothing failed. An argument runs only the tests whose name contains it.
 *
 * Each of these mutations of ref.c was made once and seen to fail (2026-11-21), in the test in brackets:
 *   gate clamped from below too, up from above only, up + 1 without the 1 [swiglu]; window one key wider, one narrower
 *   [attention_window]; sink left out of the denominator [attention_sink]; out of the maximum, sum of the rounded weights,
 *   weights never rounded, always rounded [attention_bf16_p]; scores not scaled, query head h on kv head h % NKV, the page of
 *   the position before, k and v exchanged [attention]; pages outside the window checked [attention_refuses, kv_write];
 *   scale byte of the next block, high nibble first [linear_mxfp4]; bias of row 0, float accumulation, one vector too few
 *   [linear_*]; descending sum [linear_order]; bias of expert 0, x row = pair [expert_linear]; topk with >= [topk]; bf16
 *   truncated [cast]; mean over K - 1, no eps, two roundings [rmsnorm]; sine negated, cosine and sine exchanged [rope]; NaN
 *   ignored, >= [sample]; unstable [group]; descending ranks [combine]; no maximum [softmax]; wrong row added [elementwise]. */
#include "ir/judge.h"

#include <math.h>
#include <stdlib.h>

typedef struct Test Test;
struct Test {
    Arena *arena;
    uint64_t seed;
    bool failed;
    char why[1024];
};

PRINTF(2, 3) static void fail(Test *t, const char *fmt, ...) {
    if (t->failed) return; /* the first reason counts */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->why, sizeof t->why, fmt, ap);
    va_end(ap);
    t->failed = true;
}

/* --- random tensors --- */

static uint64_t rnd(Test *t) { /* splitmix64 */
    uint64_t z = t->seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static int64_t below(Test *t, int64_t n) { return (int64_t)(rnd(t) % (uint64_t)n); }
static float uniform(Test *t) { return (float)((double)(rnd(t) >> 11) * 0x1p-52 - 1); } /* -1 … 1 */

static Tensor zeros(Test *t, DType d, int rank, const int64_t *dim) {
    Tensor x = {.dtype = d, .rank = rank};
    for (int i = 0; i < rank; i++) x.dim[i] = dim[i];
    size_t bytes;
    if (!dtype_bytes(d, (size_t)tensor_count(&x), &bytes)) die("ref_test: a shape of %s", dtype_name(d));
    x.data = arena_alloc(t->arena, bytes + 1);
    return x;
}
#define ZEROS(t, d, ...) zeros(t, d, (int)LEN(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

static float *F(const Tensor *x) { return x->data; }
static int32_t *I(const Tensor *x) { return x->data; }

static void put(const Tensor *x, int64_t i, float v) {
    if (x->dtype == DT_F32) F(x)[i] = v;
    else ((uint16_t *)x->data)[i] = (uint16_t)(bits_of_f32(v) >> 16); /* any bf16 will do */
}

static Tensor random_of(Test *t, DType d, int rank, const int64_t *dim, float scale) {
    Tensor x = zeros(t, d, rank, dim);
    int64_t n = tensor_count(&x);
    if (d != DT_MXFP4)
        for (int64_t i = 0; i < n; i++) put(&x, i, uniform(t) * scale);
    else
        for (int64_t i = 0; i < n / 32 * 17; i++)
            ((uint8_t *)x.data)[i] = (uint8_t)(i < n / 2 ? below(t, 256) : 120 + below(t, 9));
    return x;
}
#define RANDOM(t, d, scale, ...) random_of(t, d, (int)LEN(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__}, scale)

static Tensor ints(Test *t, int64_t n, const int32_t *v) {
    Tensor x = ZEROS(t, DT_I32, n);
    memcpy(x.data, v, (size_t)n * sizeof *v);
    return x;
}
#define INTS(t, ...) ints(t, (int64_t)LEN(((int32_t[]){__VA_ARGS__})), (int32_t[]){__VA_ARGS__})

static Tensor floats(Test *t, int64_t rows, int64_t width, const float *v) {
    Tensor x = ZEROS(t, DT_F32, rows, width);
    memcpy(x.data, v, (size_t)(rows * width) * sizeof *v);
    return x;
}
#define ROW(t, ...) floats(t, 1, (int64_t)LEN(((float[]){__VA_ARGS__})), (float[]){__VA_ARGS__})

static Tensor as_row(Tensor x) { return x.dim[0] = tensor_count(&x), x.rank = 1, x; }
static const Tensor absent = {0};

/* The value of an element, decoded here once more. */
static double at(const Tensor *x, int64_t i) {
    if (x->dtype == DT_I32) return I(x)[i];
    if (x->dtype == DT_F32) return F(x)[i];
    if (x->dtype == DT_BF16) {
        int h = ((uint16_t *)x->data)[i], exponent = h >> 7 & 255, mantissa = h & 127;
        double m = exponent == 255 ? (mantissa ? NAN : INFINITY)
                   : exponent      ? ldexp(128 + mantissa, exponent - 134)
                                   : ldexp(mantissa, -133);
        return h >> 15 ? -m : m;
    }
    const uint8_t *b = x->data;
    int code = b[i / 32 * 16 + i % 32 / 2] >> (i % 2 * 4) & 15, exponent = code >> 1 & 3, half = code & 1;
    double m = exponent ? ldexp(2 + half, exponent - 2) : half * 0.5;
    return ldexp(code >> 3 ? -m : m, b[tensor_count(x) / 32 * 16 + i / 32] - 127);
}

/* --- running a node --- */

enum { ATTRS = 3 };
typedef struct Args Args;
struct Args {
    Attr at[ATTRS];
};
#define INT(n, v)                                                                                                      \
    { .name = n, .type = ATTR_INT, .i = v }
#define FLOAT(n, v)                                                                                                    \
    { .name = n, .type = ATTR_FLOAT, .f = v }
#define STR(n, v)                                                                                                      \
    { .name = n, .type = ATTR_STR, .s = v }
#define NONE      ((Args){0})
#define ARGS(...) ((Args){{__VA_ARGS__}})

static Type type_of(const Tensor *x) {
    Type t = {.dtype = x->dtype, .rank = x->rank};
    for (int i = 0; i < x->rank; i++) t.dim[i] = dim_const(x->dim[i]);
    return t;
}

static Node *node_of(Test *t, Op op, Args args, int n_in, const Tensor *in) {
    Graph *g = graph_new(t->arena, "test");
    Value *v[MAX_IN] = {0};
    int n_attr = 0;
    Err e = {0};
    for (int i = 0; i < n_in; i++)
        if (in[i].data) v[i] = graph_input(g, arena_printf(t->arena, "in%d", i), type_of(&in[i]));
    while (n_attr < ATTRS && args.at[n_attr].name) n_attr++;
    Node *n = graph_add(g, op, v, n_in, args.at, n_attr, "out", (Loc){0}, &e);
    if (!n) fail(t, "graph_add: %s", e.msg);
    return n;
}

static void outputs_of(Test *t, const Node *n, const Tensor *in, Tensor *out) {
    Sizes none = {0};
    for (int i = 0; i < n->n_out; i++) {
        size_t bytes = type_bytes(&n->out[i]->type, &none);
        bool state = op_info(n->op)->flags & OPF_STATE;
        out[i] = tensor_of(&n->out[i]->type, &none, state ? in[0].data : arena_alloc(t->arena, bytes + 1));
        if (!state) memset(out[i].data, 0xff, bytes);
    }
}

static bool run(Test *t, Op op, Args args, int n_in, const Tensor *in, Tensor *out) {
    Node *n = node_of(t, op, args, n_in, in);
    if (!n) return false;
    Tensor again[MAX_OUT];
    Err e = {0};
    Sizes none = {0};
    outputs_of(t, n, in, out), outputs_of(t, n, in, again);
    if (!ref_node(n, in, out, &none, 1, &e) || !ref_node(n, in, again, &none, 3, &e))
        return fail(t, "%s", e.msg), false;
    for (int i = 0; i < n->n_out; i++)
        if (memcmp(out[i].data, again[i].data, type_bytes(&n->out[i]->type, &none)))
            return fail(t, "three threads give other bits"), false;
    return true;
}
#define RUN(t, op, args, out, ...) run(t, op, args, (int)LEN(((Tensor[]){__VA_ARGS__})), (Tensor[]){__VA_ARGS__}, out)

/* The node must fail, with `says` in the message and the node's name. */
static void refuse(Test *t, const char *says, Op op, Args args, int n_in, const Tensor *in) {
    Node *n = node_of(t, op, args, n_in, in);
    if (!n) return;
    Tensor out[MAX_OUT];
    Err e = {0};
    Sizes none = {0};
    outputs_of(t, n, in, out);
    if (ref_node(n, in, out, &none, 1, &e)) fail(t, "accepted; expected: %s", says);
    else if (!strstr(e.msg, says) || !strstr(e.msg, "out:")) fail(t, "\"%s\", expected: %s", e.msg, says);
}
#define REFUSE(t, says, op, args, ...)                                                                                 \
    refuse(t, says, op, args, (int)LEN(((Tensor[]){__VA_ARGS__})), (Tensor[]){__VA_ARGS__})

/* got is `want` rounded once to float; scale: of the terms whose sum it is. */
static bool rounded(double got, double want, double scale) {
    if (isnan(want)) return isnan(got);
    if (isinf(want)) return got == want;
    return fabs(got - want) <= 0x1.001p-24 * fabs(want) + 1e-14 * scale + 0x1p-149;
}

static void expect(Test *t, const Tensor *got, int64_t i, double want, double scale) {
    if (!rounded(at(got, i), want, scale))
        fail(t, "element %lld is %.9g, expected %.12g", (long long)i, at(got, i), want);
}

static void expect_bits(Test *t, const Tensor *got, int64_t i, double want) { /* -0 is not 0 */
    double x = at(got, i);
    if (isnan(want) ? !isnan(x) : x != want || signbit(x) != signbit(want))
        fail(t, "element %lld is %.9g, expected %.9g", (long long)i, x, want);
}

/* --- reading the step's input --- */

static void test_tokens(Test *t) {
    Tensor y, src = INTS(t, 5, -1, 0, -3, 201087), last = INTS(t, 70, 80, 90);
    if (!RUN(t, OP_tokens, NONE, &y, src, last)) return;
    const int32_t want[] = {5, 70, 0, 90, 201087};
    for (int i = 0; i < 5; i++) expect_bits(t, &y, i, want[i]);
    REFUSE(t, "token 1 is 3, must be 0 … 2", OP_tokens, NONE, INTS(t, 0, -4), last);
    REFUSE(t, "2147483647", OP_tokens, NONE, INTS(t, INT32_MIN), last);
}

static void test_embed(Test *t) {
    for (int b = 0; b < 2; b++) {
        Tensor y, w = RANDOM(t, b ? DT_BF16 : DT_F32, 3, 11, 33), ids = INTS(t, 10, 0, 10, 7);
        if (!RUN(t, OP_embed, NONE, &y, ids, w)) return;
        for (int64_t i = 0; i < 4 * 33; i++) expect_bits(t, &y, i, at(&w, I(&ids)[i / 33] * 33 + i % 33));
        REFUSE(t, "id 1 is 11, must be 0 … 10", OP_embed, NONE, INTS(t, 0, 11), w);
        REFUSE(t, "id 0 is -1", OP_embed, NONE, INTS(t, -1), w);
    }
}

static void test_rows(Test *t) {
    for (int b = 0; b < 2; b++) {
        Tensor y, x = RANDOM(t, b ? DT_BF16 : DT_F32, 3, 6, 7), index = INTS(t, 5, 5, 0);
        if (!RUN(t, OP_rows, NONE, &y, x, index)) return;
        for (int64_t i = 0; i < 3 * 7; i++) expect_bits(t, &y, i, at(&x, I(&index)[i / 7] * 7 + i % 7));
        REFUSE(t, "index 0 is 6, must be 0 … 5", OP_rows, NONE, x, INTS(t, 6));
    }
}

/* --- dense --- */

static void test_rmsnorm(Test *t) {
    for (int round = 0; round < 20; round++) {
        int64_t width = round ? 1 + below(t, 300) : 1, rows = 1 + below(t, 4);
        double eps = round % 2 ? 1e-5 : 0.3;
        Tensor y, x = RANDOM(t, DT_F32, round % 3 ? 2 : 1e-3f, rows, width), g = RANDOM(t, DT_F32, 4, width);
        if (round == 7) memset(x.data, 0, (size_t)(rows * width) * sizeof(float));
        if (!RUN(t, OP_rmsnorm, ARGS(FLOAT("eps", eps)), &y, x, g)) return;
        for (int64_t r = 0; r < rows; r++) {
            long double sum = 0;
            for (int64_t k = width; k-- > 0;) sum += (long double)at(&x, r * width + k) * at(&x, r * width + k);
            for (int64_t k = 0; k < width; k++) {
                double want = (double)(at(&x, r * width + k) * at(&g, k) / sqrtl(sum / width + eps));
                expect(t, &y, r * width + k, want, fabs(want));
            }
        }
    }
}

static void linear(Test *t, DType wt, DType xt, int64_t tokens, int64_t k, int64_t n, bool bias) {
    Tensor y, x = RANDOM(t, xt, 2, tokens, k), w = RANDOM(t, wt, 1, n, k), b = bias ? RANDOM(t, DT_F32, 9, n) : absent;
    if (!RUN(t, OP_linear, NONE, &y, x, w, b)) return;
    for (int64_t i = 0; i < tokens * n; i++) {
        long double sum = bias ? at(&b, i % n) : 0, scale = 0;
        for (int64_t j = k; j-- > 0;) {
            long double term = (long double)at(&x, i / n * k + j) * at(&w, i % n * k + j);
            sum += term, scale += fabsl(term);
        }
        expect(t, &y, i, (double)sum, (double)scale);
    }
}

static void linears(Test *t, DType w) {
    int64_t m = w == DT_MXFP4 ? 32 : 1;
    for (int64_t tokens = 1; tokens <= 9; tokens++)
        linear(t, w, DT_F32, tokens, (1 + below(t, 5)) * m, 1 + below(t, 20), tokens % 2);
    linear(t, w, DT_BF16, 3, 64, 24, true);
    linear(t, w, DT_F32, 9, 320, 203, true); /* large enough for threads */
    linear(t, w, DT_F32, 1, 1024, 515, false);
}
static void test_linear_f32(Test *t) { linears(t, DT_F32); }
static void test_linear_bf16(Test *t) { linears(t, DT_BF16); }
static void test_linear_mxfp4(Test *t) { linears(t, DT_MXFP4); }

/* Ascending: 1 is lost beside 2^60 only when it is added to it. The bias comes last. */
static void test_linear_order(Test *t) {
    float big = 0x1p60f;
    Tensor y, x = floats(t, 2, 3, (float[]){big, 1, -big, big, -big, 1}), w = floats(t, 1, 3, (float[]){1, 1, 1});
    if (!RUN(t, OP_linear, NONE, &y, x, w)) return;
    expect_bits(t, &y, 0, 0), expect_bits(t, &y, 1, 1);
    if (!RUN(t, OP_linear, NONE, &y, x, w, as_row(ROW(t, 0.5f)))) return;
    expect_bits(t, &y, 0, 0.5), expect_bits(t, &y, 1, 1.5);
}

static void test_slice(Test *t) {
    for (int b = 0; b < 2; b++) {
        Tensor y, x = RANDOM(t, b ? DT_BF16 : DT_F32, 3, 4, 11);
        if (!RUN(t, OP_slice, ARGS(INT("offset", 3), INT("width", 8)), &y, x)) return;
        for (int64_t i = 0; i < 4 * 8; i++) expect_bits(t, &y, i, at(&x, i / 8 * 11 + 3 + i % 8));
    }
}

/* --- elementwise --- */

static void test_elementwise(Test *t) {
    Tensor y, a = RANDOM(t, DT_F32, 3, 4, 5, 6), b = RANDOM(t, DT_F32, 1e-3f, 4, 5, 6), row = RANDOM(t, DT_F32, 3, 6);
    for (int broadcast = 0; broadcast < 2; broadcast++) {
        const Tensor *c = broadcast ? &row : &b;
        if (!RUN(t, OP_add, NONE, &y, a, *c)) return;
        for (int64_t i = 0; i < 120; i++) expect_bits(t, &y, i, F(&a)[i] + F(c)[broadcast ? i % 6 : i]);
        if (!RUN(t, OP_mul, NONE, &y, a, *c)) return;
        for (int64_t i = 0; i < 120; i++) expect_bits(t, &y, i, F(&a)[i] * F(c)[broadcast ? i % 6 : i]);
    }
    if (!RUN(t, OP_scale, ARGS(FLOAT("by", 0.1)), &y, a)) return;
    for (int64_t i = 0; i < 120; i++) expect_bits(t, &y, i, (float)(F(&a)[i] * 0.1));
    Tensor odd = ROW(t, -0.0f, 0, INFINITY, NAN, 1e38f), other = ROW(t, -0.0f, -0.0f, -INFINITY, 1, 3e38f);
    if (!RUN(t, OP_add, NONE, &y, odd, other)) return;
    const double want[] = {-0.0, 0, NAN, NAN, INFINITY};
    for (int i = 0; i < 5; i++) expect_bits(t, &y, i, want[i]);
}

static void test_cast(Test *t) {
    Args bf16 = ARGS(STR("to", "bf16")), f32 = ARGS(STR("to", "f32"));
    Tensor y, z,
        x = ROW(t, 1, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, -0x1.01p0f, -0.0f, INFINITY, -INFINITY, NAN, 0x1.fffffep127f,
                0x1p-133f, 0x1p-134f, 0x1.8p-133f, 0x1.fep127f);
    const double want[] = {1,         1,   0x1.04p0, 0x1.02p0, -1, -0.0,     INFINITY,
                           -INFINITY, NAN, INFINITY, 0x1p-133, 0,  0x1p-132, 0x1.fep127};
    if (!RUN(t, OP_cast, bf16, &y, x) || !RUN(t, OP_cast, f32, &z, y)) return;
    for (int64_t i = 0; i < 14; i++) expect_bits(t, &y, i, want[i]), expect_bits(t, &z, i, want[i]);
    Tensor r = RANDOM(t, DT_F32, 5, 3, 100);
    if (!RUN(t, OP_cast, bf16, &y, r)) return;
    for (int64_t i = 0; i < 300; i++) { /* nearest: half of the last of 8 bits */
        double unit = ldexp(1, ilogb(F(&r)[i]) - 7);
        if (fabs(at(&y, i) - F(&r)[i]) > unit / 2) fail(t, "%.9g became %.9g", F(&r)[i], at(&y, i));
    }
    if (!RUN(t, OP_cast, bf16, &z, y)) return;
    for (int64_t i = 0; i < 300; i++) expect_bits(t, &z, i, at(&y, i));
}

/* --- attention --- */

static void test_rope(Test *t) {
    for (int64_t d = 16; d <= 128; d *= 2) {
        int64_t heads = 1 + below(t, 5), width = heads * d;
        Tensor y, x = RANDOM(t, DT_F32, 2, 3, width), pos = INTS(t, 0, 9, 4),
                  table = RANDOM(t, DT_F32, 1.3f, 10, d / 2, 2);
        if (!RUN(t, OP_rope, ARGS(INT("head_dim", d)), &y, x, pos, table)) return;
        for (int64_t i = 0; i < 3 * width; i++) {
            int64_t e = i % width % d, first = e < d / 2, angle = (I(&pos)[i / width] * (d / 2) + e % (d / 2)) * 2;
            double c = at(&table, angle), s = at(&table, angle + 1), v = at(&x, i),
                   other = at(&x, first ? i + d / 2 : i - d / 2);
            expect(t, &y, i, first ? v * c - other * s : v * c + other * s, 4);
        }
        REFUSE(t, "position of token 2 is 10, must be 0 … 9", OP_rope, ARGS(INT("head_dim", d)), x, INTS(t, 0, 1, 10),
               table);
        REFUSE(t, "position of token 0 is -1", OP_rope, ARGS(INT("head_dim", d)), x, INTS(t, -1, 1, 1), table);
    }
}

/* A cache of `slots` sequences with shuffled pages; nothing in it is finite until it is written. */
typedef struct Cache Cache;
struct Cache {
    Tensor state, blocks;
    int64_t heads, page, d, pages;
};

static Cache cache_new(Test *t, DType type, int64_t slots, int64_t pages, int64_t heads, int64_t page, int64_t d) {
    Cache c = {.heads = heads, .page = page, .d = d, .pages = pages};
    int64_t pool = slots * pages + 3;
    c.state = ZEROS(t, type, pool, 2, heads, page, d);
    for (int64_t i = 0, n = tensor_count(&c.state); i < n; i++) put(&c.state, i, NAN);
    c.blocks = ZEROS(t, DT_I32, slots, pages);
    int32_t *p = arena_array(t->arena, (size_t)pool, sizeof *p);
    for (int32_t i = 0; i < pool; i++) {
        int64_t j = below(t, i + 1);
        p[i] = p[j], p[j] = i;
    }
    memcpy(c.blocks.data, p, (size_t)(slots * pages) * sizeof *p);
    return c;
}

static int64_t cache_at(const Cache *c, int64_t slot, int64_t pos, int64_t kv, int64_t head, int64_t i) {
    int64_t page = I(&c->blocks)[slot * c->pages + pos / c->page];
    return i + c->d * (pos % c->page + c->page * (head + c->heads * (kv + 2 * page)));
}

static void test_kv_write(Test *t) {
    for (int b = 0; b < 2; b++) {
        DType type = b ? DT_BF16 : DT_F32;
        Cache c = cache_new(t, type, 3, 4, 2, 4, 16);
        Tensor y, slot = INTS(t, 2, 0, 0, 1, 1), pos = INTS(t, 15, 3, 4, 0, 1), k = RANDOM(t, type, 1, 5, 32),
                  v = RANDOM(t, type, 1, 5, 32);
        if (!RUN(t, OP_kv_write, NONE, &y, c.state, k, v, slot, pos, c.blocks)) return;
        int64_t written = 0, finite = 0;
        for (int64_t i = 0; i < 5 * 32; i++)
            for (int kv = 0; kv < 2; kv++, written++)
                expect_bits(t, &c.state, cache_at(&c, I(&slot)[i / 32], I(&pos)[i / 32], kv, i % 32 / 16, i % 16),
                            at(kv ? &v : &k, i));
        for (int64_t i = 0, n = tensor_count(&c.state); i < n; i++) finite += !isnan(at(&c.state, i));
        if (finite != written) fail(t, "%lld elements written, expected %lld", (long long)finite, (long long)written);
        REFUSE(t, "slot of token 1 is 3, must be 0 … 2", OP_kv_write, NONE, c.state, k, v, INTS(t, 0, 3, 0, 0, 0), pos,
               c.blocks);
        REFUSE(t, "position of token 4 is 16", OP_kv_write, NONE, c.state, k, v, slot, INTS(t, 0, 1, 2, 3, 16),
               c.blocks);
        REFUSE(t, "position of token 0 is -1", OP_kv_write, NONE, c.state, k, v, slot, INTS(t, -1, 1, 2, 3, 0),
               c.blocks);
        I(&c.blocks)[2 * 4 + 3] = 15;
        REFUSE(t, "slot 2: page 3 is 15, must be 0 … 14", OP_kv_write, NONE, c.state, k, v, slot, pos, c.blocks);
        I(&c.blocks)[2 * 4 + 3] = -1;
        REFUSE(t, "slot 2: page 3 is -1", OP_kv_write, NONE, c.state, k, v, slot, pos, c.blocks);
        I(&c.blocks)[2 * 4 + 3] = 0, I(&c.blocks)[2 * 4] = -1; /* released: not looked at */
        if (!RUN(t, OP_kv_write, NONE, &y, c.state, k, v, slot, pos, c.blocks)) return;
    }
}

typedef struct Case Case; /* of attention */
struct Case {
    DType type;
    int64_t kv_heads, group, d, page, window, tokens;
    bool round_p;
    float sink, q; /* scales */
};

/* Tokens of two slots at positions pos[]. Only the keys that a token may see exist; everything else is NaN. */
static void attention(Test *t, Case s, const int32_t *pos) {
    int64_t longest = 0, heads = s.kv_heads * s.group;
    for (int64_t i = 0; i < s.tokens; i++) longest = pos[i] > longest ? pos[i] : longest;
    Cache c = cache_new(t, s.type, 2, longest / s.page + 1, s.kv_heads, s.page, s.d);
    Tensor y, q = RANDOM(t, s.type, s.q, s.tokens, heads * s.d), sinks = RANDOM(t, DT_F32, s.sink, heads),
              slot = ZEROS(t, DT_I32, s.tokens);
    for (int64_t i = 0; i < s.tokens; i++) {
        I(&slot)[i] = (int32_t)(i % 2);
        for (int64_t p = pos[i]; p >= 0 && (s.window == 0 || pos[i] - p < s.window); p--)
            for (int64_t e = 0; e < 2 * s.kv_heads * s.d; e++)
                put(&c.state, cache_at(&c, i % 2, p, e / (s.kv_heads * s.d), e / s.d % s.kv_heads, e % s.d),
                    uniform(t));
    }
    if (!RUN(t, OP_attention, ARGS(INT("window", s.window), STR("p", s.round_p ? "bf16" : "f32")), &y, q, c.state,
             sinks, slot, ints(t, s.tokens, pos), c.blocks))
        return;
    double *w = arena_array(t->arena, (size_t)longest + 1, sizeof *w);
    for (int64_t i = 0; i < s.tokens; i++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t low = s.window && pos[i] >= s.window ? pos[i] - s.window + 1 : 0;
            double top = at(&sinks, h), sum = 0;
            for (int64_t p = pos[i]; p >= low; p--) {
                w[p] = 0;
                for (int64_t e = 0; e < s.d; e++)
                    w[p] += at(&q, (i * heads + h) * s.d + e) *
                            at(&c.state, cache_at(&c, i % 2, p, 0, h / s.group, e)) / sqrt((double)s.d);
                top = fmax(top, w[p]);
            }
            for (int64_t p = low; p <= pos[i]; p++) sum += w[p] = exp(w[p] - top);
            sum += exp(at(&sinks, h) - top);
            for (int64_t e = 0; e < s.d; e++) {
                double want = 0;
                for (int64_t p = low; p <= pos[i]; p++) {
                    double bits = ldexp(1, ilogb(w[p]) - 7), used = s.round_p ? nearbyint(w[p] / bits) * bits : w[p];
                    want += used * at(&c.state, cache_at(&c, i % 2, p, 1, h / s.group, e)) / sum;
                }
                expect(t, &y, (i * heads + h) * s.d + e, want, 1);
            }
        }
}

static void test_attention(Test *t) {
    const int32_t pos[] = {0, 1, 15, 16, 17, 40, 7, 31};
    for (int64_t group = 1; group <= 9; group++)
        attention(t, (Case){DT_F32, 1 + group % 3, group, 16 << group % 3, 16, 0, 8, false, 2, 3}, pos);
    attention(t, (Case){DT_BF16, 2, 8, 64, 64, 0, 1, false, 2, 3}, (int32_t[]){200}); /* T = 1 */
    attention(t, (Case){DT_BF16, 8, 8, 64, 64, 0, 6, false, 2, 3}, (int32_t[]){63, 64, 65, 127, 128, 129});
    attention(t, (Case){DT_F32, 1, 1, 48, 1, 0, 3, false, 2, 9}, (int32_t[]){0, 9, 10}); /* pages of one */
}

static void test_attention_window(Test *t) {
    for (int64_t window = 1; window <= 130; window = window * 2 + 1)
        for (int32_t off = -1; off <= 1; off++) {
            int32_t p = (int32_t)window + off, q = p + 61;
            attention(t, (Case){DT_F32, 2, 2, 16, 16, window, 2, false, 1, 3}, (int32_t[]){p, q});
        }
    attention(t, (Case){DT_BF16, 2, 4, 64, 64, 128, 4, false, 1, 3}, (int32_t[]){127, 128, 190, 191});
    attention(t, (Case){DT_BF16, 2, 4, 64, 64, 128, 4, true, 1, 3}, (int32_t[]){129, 192, 319, 318});
}

static void test_attention_sink(Test *t) {
    const int32_t pos[] = {0, 5, 33, 64};
    attention(t, (Case){DT_F32, 2, 3, 32, 16, 0, 4, false, 0, 2}, pos);  /* a sink of 0 counts as one key */
    attention(t, (Case){DT_F32, 2, 3, 32, 16, 0, 4, false, 60, 2}, pos); /* one way or the other */
    attention(t, (Case){DT_F32, 2, 3, 32, 16, 8, 4, false, 60, 90}, pos);
    Cache c = cache_new(t, DT_F32, 1, 1, 1, 16, 16); /* far above every score: nothing is left, and nothing overflows */
    Tensor y, q = RANDOM(t, DT_F32, 1, 1, 16), sinks = ZEROS(t, DT_F32, 1);
    for (int64_t i = 0; i < 16; i++)
        put(&c.state, cache_at(&c, 0, 0, 0, 0, i), 1), put(&c.state, cache_at(&c, 0, 0, 1, 0, i), 1);
    F(&sinks)[0] = 3000;
    if (!RUN(t, OP_attention, NONE, &y, q, c.state, sinks, INTS(t, 0), INTS(t, 0), c.blocks)) return;
    expect_bits(t, &y, 3, 0);
    F(&sinks)[0] = -INFINITY; /* none: one key takes all */
    if (!RUN(t, OP_attention, NONE, &y, q, c.state, sinks, INTS(t, 0), INTS(t, 0), c.blocks)) return;
    expect_bits(t, &y, 3, 1);
}

static void test_attention_bf16_p(Test *t) {
    attention(t, (Case){DT_BF16, 2, 8, 64, 64, 0, 4, true, 2, 4}, (int32_t[]){0, 63, 64, 150});
    attention(t, (Case){DT_F32, 1, 4, 16, 16, 32, 4, true, 2, 4}, (int32_t[]){0, 31, 32, 100});
}

static void test_attention_refuses(Test *t) {
    Cache c = cache_new(t, DT_F32, 2, 3, 1, 16, 16);
    Args window = ARGS(INT("window", 16));
    Tensor q = RANDOM(t, DT_F32, 1, 1, 16), sinks = ZEROS(t, DT_F32, 1), y;
    for (int64_t i = 0, n = tensor_count(&c.state); i < n; i++) put(&c.state, i, 1);
    REFUSE(t, "slot of token 0 is 2, must be 0 … 1", OP_attention, NONE, q, c.state, sinks, INTS(t, 2), INTS(t, 0),
           c.blocks);
    REFUSE(t, "position of token 0 is 48, must be 0 … 47", OP_attention, NONE, q, c.state, sinks, INTS(t, 1),
           INTS(t, 48), c.blocks);
    I(&c.blocks)[3] = -1; /* slot 1's first page: released, behind the window */
    REFUSE(t, "slot 1: page 0 is -1", OP_attention, NONE, q, c.state, sinks, INTS(t, 1), INTS(t, 47), c.blocks);
    REFUSE(t, "slot 1: page 0 is -1", OP_attention, window, q, c.state, sinks, INTS(t, 1), INTS(t, 30), c.blocks);
    if (!RUN(t, OP_attention, window, &y, q, c.state, sinks, INTS(t, 1), INTS(t, 31), c.blocks)) return;
}

/* --- experts --- */

static void test_topk(Test *t) {
    for (int64_t k = 1; k <= 8; k++)
        for (int round = 0; round < 30; round++) {
            int64_t width = k + below(t, 40), rows = 1 + below(t, 3);
            Tensor y[2], x = ZEROS(t, DT_F32, rows, width);
            for (int64_t i = 0; i < rows * width; i++)
                F(&x)[i] = (float)(below(t, round < 15 ? 5 : 1000) - 2); /* many ties */
            for (int64_t i = 0; i < rows * width; i++) F(&x)[i] = F(&x)[i] == 0 && below(t, 2) ? -0.0f : F(&x)[i];
            if (!RUN(t, OP_topk, ARGS(INT("k", k)), y, x)) return;
            for (int64_t i = 0; i < rows * width; i++) { /* its rank: how many come before it */
                int64_t row = i / width * width, rank = 0;
                for (int64_t j = row; j < row + width; j++)
                    rank += F(&x)[j] > F(&x)[i] || (F(&x)[j] == F(&x)[i] && j < i);
                if (rank < k)
                    expect_bits(t, &y[0], i / width * k + rank, F(&x)[i]),
                        expect_bits(t, &y[1], i / width * k + rank, (double)(i - row));
            }
        }
    Tensor y[2], x = ROW(t, -INFINITY, 3, INFINITY, -INFINITY);
    if (!RUN(t, OP_topk, ARGS(INT("k", 4)), y, x)) return;
    const int32_t order[] = {2, 1, 0, 3};
    for (int i = 0; i < 4; i++) expect_bits(t, &y[1], i, order[i]);
    REFUSE(t, "row 0, element 2 is NaN", OP_topk, ARGS(INT("k", 1)), ROW(t, 5, 4, NAN, 3));
}

static void test_softmax(Test *t) {
    for (int64_t width = 1; width <= 40; width += 3) {
        Tensor y, x = RANDOM(t, DT_F32, width % 2 ? 3 : 900, 4, width);
        if (!RUN(t, OP_softmax, NONE, &y, x)) return;
        for (int64_t i = 0; i < 4 * width; i++) {
            long double sum = 0; /* 1 / p = sum of exp(x_j - x_i): no maximum needed */
            for (int64_t j = i / width * width; j < (i / width + 1) * width; j++)
                sum += expl((long double)at(&x, j) - at(&x, i));
            expect(t, &y, i, (double)(1 / sum), (double)(1 / sum));
        }
    }
    Tensor y, x = ROW(t, 1, NAN, 2);
    if (RUN(t, OP_softmax, NONE, &y, x)) expect(t, &y, 0, NAN, 1);
}

static void test_group(Test *t) {
    for (int round = 0; round < 40; round++) {
        int64_t tokens = 1 + below(t, 30), ranks = 1 + below(t, 4), experts = 1 + below(t, 40), tile = 1 << below(t, 6),
                row = 0, n = 0;
        Tensor y[2], ids = ZEROS(t, DT_I32, tokens, ranks);
        for (int64_t i = 0; i < tokens * ranks; i++) I(&ids)[i] = round % 2 && !below(t, 3) ? EXPERT_NONE : (int32_t)below(t, experts);
        if (!RUN(t, OP_group, ARGS(INT("experts", experts), INT("tile", tile)), y, ids)) return;
        for (int64_t x = 0; x < experts; x++) {
            int64_t first = row;
            for (int64_t i = 0; i < tokens * ranks; i++)
                if (I(&ids)[i] == x) expect_bits(t, &y[0], row++, (double)i);
            for (; first < row; first += tile, n++) {
                double want[4] = {(double)x, (double)first, (double)(row - first < tile ? row - first : tile), 0};
                for (int i = 0; i < 4; i++) expect_bits(t, &y[1], n * 4 + i, want[i]);
            }
        }
        for (int64_t i = n * 4; i < tensor_count(&y[1]); i++) expect_bits(t, &y[1], i, 0);
    }
    Tensor ids = ZEROS(t, DT_I32, 1, 2);
    I(&ids)[1] = 4;
    REFUSE(t, "expert of pair 1 is 4, must be 0 … 3", OP_group, ARGS(INT("experts", 4), INT("tile", 16)), ids);
}

static void expert_linear(Test *t, DType wt, DType xt, bool ranked, int64_t tokens, int64_t ranks, int64_t experts,
                          int64_t k, int64_t n) {
    Tensor x = ranked ? RANDOM(t, xt, 2, tokens, ranks, k) : RANDOM(t, xt, 2, tokens, k),
           w = RANDOM(t, wt, 1, experts, n, k);
    Tensor y, b = RANDOM(t, DT_F32, 5, experts, n), ids = ZEROS(t, DT_I32, tokens, ranks);
    for (int64_t i = 0; i < tokens * ranks; i++)
        I(&ids)[i] = i && !below(t, 4) ? EXPERT_NONE : (int32_t)(below(t, (experts + 1) / 2) * 2 % experts); /* odd ones are empty */
    if (!RUN(t, OP_expert_linear, NONE, &y, x, w, b, ids)) return;
    for (int64_t i = 0; i < tokens * ranks * n; i++) {
        int64_t pair = i / n, row = I(&ids)[pair] * n + i % n;
        if (row < 0) { /* another device's: not touched */
            expect_bits(t, &y, i, NAN);
            continue;
        }
        double sum = at(&b, row), scale = 0;
        for (int64_t j = k; j-- > 0;) {
            double term = at(&x, (ranked ? pair : pair / ranks) * k + j) * at(&w, row * k + j);
            sum += term, scale += fabs(term);
        }
        expect(t, &y, i, sum, scale);
    }
    I(&ids)[0] = (int32_t)experts;
    REFUSE(t, "expert of pair 0 is", OP_expert_linear, NONE, x, w, b, ids);
    I(&ids)[0] = -1;
    REFUSE(t, "expert of pair 0 is -1", OP_expert_linear, NONE, x, w, b, ids);
}

static void test_expert_linear(Test *t) {
    const DType types[] = {DT_F32, DT_BF16, DT_MXFP4};
    for (int i = 0; i < 3; i++)
        for (int ranked = 0; ranked < 2; ranked++) {
            expert_linear(t, types[i], DT_F32, ranked, 1, 4, 8, 64, 10);
            expert_linear(t, types[i], DT_F32, ranked, 1, 1, 1, 32, 1);
            expert_linear(t, types[i], DT_BF16, ranked, 7, 2, 5, 96, 17);
            expert_linear(t, types[i], DT_F32, ranked, 23, 4, 9, 128, 44);
        }
}

static void test_swiglu(Test *t) {
    Args given = ARGS(FLOAT("limit", 7), FLOAT("alpha", 1.702));
    for (int round = 0; round < 6; round++) {
        int64_t width = round ? 1 + below(t, 60) : 300;
        double limit = round % 2 ? 7 : 2, alpha = round % 3 ? 1.702 : 1;
        Tensor y, x = RANDOM(t, DT_F32, 12, 2, 3, width * 2);
        if (!RUN(t, OP_swiglu, ARGS(FLOAT("limit", limit), FLOAT("alpha", alpha)), &y, x)) return;
        for (int64_t i = 0; i < 6 * width; i++) {
            double g = fmin(at(&x, 2 * i), limit), u = fmax(fmin(at(&x, 2 * i + 1), limit), -limit);
            double want = g * (0.5 + 0.5 * tanh(alpha * g / 2)) * (u + 1); /* the sigmoid by another way */
            expect(t, &y, i, want, 40);
        }
    }
    float a = nextafterf(7, 8), b = nextafterf(7, 6);
    Tensor y, x = ROW(t, 7, 7, a, a, b, b, -20, 0, 90, 0, 0, -9, -0.0f, 0, 1, -7, 1, -1, NAN, 1, 1, NAN, INFINITY, 0,
                      -7.5f, 1, 2, -a, 2, -b);
    if (!RUN(t, OP_swiglu, NONE, &y, x)) return; /* defaults */
    Tensor again;
    if (!RUN(t, OP_swiglu, given, &again, x)) return;
    double top = 7 / (1 + exp(-1.702 * 7)), two = 2 / (1 + exp(-1.702 * 2)), one = 1 / (1 + exp(-1.702));
    const double want[] = {top * 8,
                           top * 8,
                           b / (1 + exp(-1.702 * b)) * (b + 1.0),
                           -20 / (1 + exp(1.702 * 20)),
                           top,
                           0,
                           -0.0,
                           one * -6,
                           0,
                           NAN,
                           NAN,
                           top,
                           -7.5 / (1 + exp(1.702 * 7.5)) * 2,
                           two * -6,
                           two * (1.0 - b)};
    for (int i = 0; i < 15; i++) expect(t, &y, i, want[i], fabs(want[i])), expect(t, &again, i, want[i], fabs(want[i]));
}

static void test_combine(Test *t) {
    Tensor out, y = RANDOM(t, DT_F32, 5, 6, 4, 33), p = RANDOM(t, DT_F32, 1, 6, 4);
    if (!RUN(t, OP_combine, NONE, &out, y, p)) return;
    for (int64_t i = 0; i < 6 * 33; i++) {
        double want = 0;
        for (int64_t r = 4; r-- > 0;) want += at(&p, i / 33 * 4 + r) * at(&y, (i / 33 * 4 + r) * 33 + i % 33);
        expect(t, &out, i, want, 20);
    }
    Tensor big = ZEROS(t, DT_F32, 1, 3, 1), ones = ROW(t, 1, 1, 1);
    F(&big)[0] = 0x1p60f, F(&big)[1] = -0x1p60f, F(&big)[2] = 1; /* rank order: 1, the other way round 0 */
    if (RUN(t, OP_combine, NONE, &out, big, ones)) expect_bits(t, &out, 0, 1);
}

/* --- several devices --- */

static void test_own(Test *t) {
    Tensor y, ids = ZEROS(t, DT_I32, 2, 3), share = INTS(t, 3, 2);
    const int32_t in[] = {2, 3, 4, 5, 0, 7}, want[] = {-2, 0, 1, -2, -2, -2};
    for (int i = 0; i < 6; i++) I(&ids)[i] = in[i];
    if (!RUN(t, OP_own, ARGS(INT("experts", 8)), &y, ids, share)) return;
    for (int i = 0; i < 6; i++) expect_bits(t, &y, i, want[i]);
    REFUSE(t, "expert of pair 5 is 7, must be 0 … 6", OP_own, ARGS(INT("experts", 7)), ids, share);
}

static void test_fetch(Test *t) {
    for (int ranked = 0; ranked < 2; ranked++) {
        Tensor y, x = ranked ? RANDOM(t, DT_F32, 5, 3, 2, 16) : RANDOM(t, DT_F32, 5, 3, 16), ids = ZEROS(t, DT_I32, 3, 2);
        int64_t row = tensor_count(&x) / 3;
        I(&ids)[0] = EXPERT_NONE, I(&ids)[2] = EXPERT_NONE, I(&ids)[3] = EXPERT_NONE;
        if (!RUN(t, OP_fetch, ARGS(INT("experts", 1)), &y, x, ids)) return;
        for (int64_t i = 0; i < 3 * row; i++) expect_bits(t, &y, i, i / row == 1 ? NAN : at(&x, i));
        REFUSE(t, "expert of pair 1 is 1", OP_fetch, ARGS(INT("experts", 1)), x, (I(&ids)[1] = 1, ids));
    }
}

static void test_join(Test *t) {
    Tensor out, y = RANDOM(t, DT_F32, 5, 6, 4, 33);
    if (!RUN(t, OP_join, NONE, &out, y)) return;
    for (int64_t i = 0; i < tensor_count(&y); i++) expect_bits(t, &out, i, at(&y, i));
}

/* --- head --- */

static void test_sample(Test *t) {
    const float rows[][5] = {{1, 3, 3, 2, 3},
                             {-0.0f, 0, -1, 0, -0.0f},
                             {-1, 0, -0.0f, 0, -2},
                             {1, NAN, 9, 0, 0},
                             {NAN, 1, 1, 1, 1},
                             {1, 2, 3, 4, NAN},
                             {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
                             {-INFINITY, -1e38f, INFINITY, INFINITY, 1},
                             {5, 4, 3, 2, 1},
                             {1, 2, 3, 4, 5}};
    const int32_t want[] = {1, 0, 1, -1, -1, -1, 0, 2, 0, 4};
    Tensor y, x = floats(t, 10, 5, rows[0]);
    if (!RUN(t, OP_sample, NONE, &y, x)) return;
    for (int i = 0; i < 10; i++) expect_bits(t, &y, i, want[i]);
}

static void test_set_last(Test *t) {
    Tensor y, last = INTS(t, 1, 2, 3, 4), ids = INTS(t, 50, 60);
    if (!RUN(t, OP_set_last, NONE, &y, last, ids, INTS(t, 3, 0))) return;
    const int32_t want[] = {60, 2, 3, 50};
    for (int i = 0; i < 4; i++) expect_bits(t, &last, i, want[i]);
    REFUSE(t, "slot of sample 1 is 4, must be 0 … 3", OP_set_last, NONE, last, ids, INTS(t, 0, 4));
}

/* --- fused nodes --- */

static Value *op(Test *t, Graph *g, Op o, Args args, int n_in, Value *const *in) {
    int n_attr = 0;
    Err e = {0};
    while (n_attr < ATTRS && args.at[n_attr].name) n_attr++;
    Node *n = graph_add(g, o, in, n_in, args.at, n_attr, NULL, (Loc){0}, &e);
    if (!n) die("ref_test: %s", e.msg);
    return (void)t, n->out[0];
}
#define DO(g, o, args, ...) op(t, g, o, args, (int)LEN(((Value *[]){__VA_ARGS__})), (Value *[]){__VA_ARGS__})

/* QKV, cache write and attention as one node with an absent input; outputs: attention, the next state, the input handed
 * through, and a value that is an output twice. Against the same ops one by one. */
static void test_fused(Test *t) {
    enum { TOKENS = 5, H = 24, D = 16, IN = 9, OUT = 5 };
    Cache c = cache_new(t, DT_F32, 2, 2, 1, 8, D);
    Tensor twin = ZEROS(t, DT_F32, 7, 2, 1, 8, D);
    memcpy(twin.data, c.state.data, (size_t)tensor_count(&twin) * sizeof(float));
    Tensor x = RANDOM(t, DT_F32, 2, TOKENS, H), g = RANDOM(t, DT_F32, 1, H), w = RANDOM(t, DT_BF16, 1, 3 * D, H);
    Tensor slot = INTS(t, 0, 0, 0, 1, 1), pos = INTS(t, 0, 1, 2, 0, 1), sinks = RANDOM(t, DT_F32, 1, 1);
    Tensor in[IN] = {x, g, w, absent, c.state, slot, pos, c.blocks, sinks};

    Graph *body = graph_new(t->arena, "qkv_attention");
    Node n = {
        .op = OP_FUSED, .n_in = IN, .n_out = OUT, .n_kernel_in = IN, .n_body_in = IN, .body = body, .rule = body->name};
    Value *v[IN] = {0}, *part[3];
    for (int i = 0; i < IN; i++) {
        if (!in[i].data) continue;
        Type type = type_of(&in[i]);
        if (type.dim[0].add == TOKENS) type.dim[0] = dim_sym(SYM_T);
        n.in[i] = v[i] = graph_input(body, arena_printf(t->arena, "in%d", i), type);
    }
    Value *qkv = DO(body, OP_linear, NONE, DO(body, OP_rmsnorm, NONE, v[0], v[1]), v[2]);
    for (int i = 0; i < 3; i++) part[i] = DO(body, OP_slice, ARGS(INT("offset", i * D), INT("width", D)), qkv);
    Value *state = DO(body, OP_kv_write, NONE, v[4], part[1], part[2], v[5], v[6], v[7]);
    Value *y = DO(body, OP_attention, NONE, part[0], state, v[8], v[5], v[6], v[7]);
    Value *results[OUT] = {y, state, v[0], qkv, qkv};
    Sizes sizes = {{[SYM_T] = TOKENS}};
    Tensor out[OUT], h, rows, p[3], want;
    Err e = {0};
    for (int i = 0; i < OUT; i++) {
        graph_output(body, results[i]);
        n.out[i] = results[i];
        out[i] = tensor_of(&results[i]->type, &sizes,
                           i == 1 ? c.state.data : arena_alloc(t->arena, type_bytes(&results[i]->type, &sizes)));
    }
    if (!ref_node(&n, in, out, &sizes, 2, &e)) {
        fail(t, "%s", e.msg);
        return;
    }

    if (!RUN(t, OP_rmsnorm, NONE, &h, x, g) || !RUN(t, OP_linear, NONE, &rows, h, w)) return;
    for (int i = 0; i < 3; i++)
        if (!RUN(t, OP_slice, ARGS(INT("offset", i * D), INT("width", D)), &p[i], rows)) return;
    if (!RUN(t, OP_kv_write, NONE, &want, twin, p[1], p[2], slot, pos, c.blocks)) return;
    if (!RUN(t, OP_attention, NONE, &want, p[0], twin, sinks, slot, pos, c.blocks)) return;
    const Tensor *all[OUT] = {&want, &twin, &x, &rows, &rows};
    for (int i = 0; i < OUT; i++)
        if (judge(&(JudgePair){&out[i], all[i]}, &(JudgeRule){0}).fault) fail(t, "output %d differs from the ops one by one", i);
    I(&slot)[3] = 9; /* an error inside names both nodes */
    if (ref_node(&n, in, out, &sizes, 1, &e)) fail(t, "accepted slot 9");
    else if (!strstr(e.msg, "FUSED") || !strstr(e.msg, "kv_write") || !strstr(e.msg, "token 3 is 9"))
        fail(t, "\"%s\"", e.msg);
}

/* --- a second look --- */

static void look(Test *t, const Node *n, const Tensor *x, double near, const float *want) {
    Sizes sizes = {{0}};
    RefLook l;
    Err e;
    if (!ref_look(n, x, &sizes, 1, near, &l, &e)) {
        fail(t, "%s", e.msg);
        return;
    }
    for (int i = 0; i < 5; i++)
        if (l.at[0][i] != want[i]) fail(t, "near %g: element %d is %g, expected %g", near, i, l.at[0][i], want[i]);
    ref_look_free(&l);
}

/* scale(x, 1), rounded to bf16 and, in a second node, made float again: what was rounded, and what it is when midpoints turn. */
static void test_look(Test *t) {
    const float half = 1.00390625f; /* midway; to even: 1 */
    Tensor x = ROW(t, 1, half, half + 0x1p-22f, -1.01171f, 3);
    const Type f32 = {DT_F32, 1, {dim_const(5)}}, bf16 = {DT_BF16, 1, {dim_const(5)}};
    Value vx = {.name = "x", .type = f32}, vs = {.name = "s", .type = f32}, vc = {.name = "c", .type = bf16}, vf = {.name = "f", .type = f32};
    Node scale = {.op = OP_scale, .n_in = 1, .n_out = 1, .in = {&vx}, .out = {&vs}, .n_attr = 1, .attr = {{.name = "by", .type = ATTR_FLOAT, .f = 1}}};
    Node cast = {.op = OP_cast, .n_in = 1, .n_out = 1, .in = {&vs}, .out = {&vc}, .n_attr = 1, .attr = {{.name = "to", .type = ATTR_STR, .s = "bf16"}}};
    Node back = {.op = OP_cast, .n_in = 1, .n_out = 1, .in = {&vc}, .out = {&vf}, .n_attr = 1, .attr = {{.name = "to", .type = ATTR_STR, .s = "f32"}}};
    Node *nodes[] = {&scale, &cast, &back};
    Value *in[] = {&vx}, *rounded[] = {&vc}, *floats[] = {&vf};
    Graph one = {.name = "r", .nodes = {nodes, 2, 2}, .inputs = {in, 1, 1}, .outputs = {rounded, 1, 1}};
    Graph two = {.name = "r", .nodes = {nodes, 3, 3}, .inputs = {in, 1, 1}, .outputs = {floats, 1, 1}};
    Value outer = vx, made = vc, made_f32 = vf;
    Node fused = {.op = OP_FUSED, .n_in = 1, .n_out = 1, .in = {&outer}, .out = {&made}, .body = &one, .n_kernel_in = 1, .n_body_in = 1};
    vs.def = &scale, vc.def = &cast, vf.def = &back;
    look(t, &fused, &x, 0, x.data);
    look(t, &fused, &x, 1e-5, x.data);
    fused.body = &two, fused.out[0] = &made_f32;
    look(t, &fused, &x, 0, (float[]){1, 1, 1.0078125f, -1.0078125f, 3});
    look(t, &fused, &x, 1e-5, (float[]){1, 1.0078125f, 1, -1.015625f, 3});
    look(t, &fused, &x, 1e-9, (float[]){1, 1.0078125f, 1.0078125f, -1.0078125f, 3});
}

/* A body within the body, and copies of copies: what they round stays rounded, and their memory is that of bf16. */
static void test_look_copies(Test *t) {
    enum { COPIES = 4000 };
    Text text = {0};
    Err e;
    Sizes sizes = {{0}};
    RefLook l;
    text_add(&text, "program p\ngraph g\ninput x: bf16[2,64]\ninput i: i32[2]\n"
                    "z: bf16[2,64], y: bf16[2,64], c: bf16[2,64] = FUSED(x, i)\n  rule r\n  kernel k\n  hook z\n  body b\n    input x: bf16[2,64]\n    input i: i32[2]\n"
                    "    z: bf16[2,64], y: bf16[2,64] = FUSED(x, i)\n      rule r\n      kernel k\n      hook z\n      body b\n        input x: bf16[2,64]\n        input i: i32[2]\n"
                    "        v: bf16[2,64] = rows(x, i)\n        z: bf16[2,64] = slice(v) {offset=0, width=64}\n        y: bf16[2,64] = rows(z, i)\n"
                    "        output z\n        output y\n      end\n    c: bf16[2,64] = rows(y, i)\n");
    for (int k = 0; k < COPIES; k++) text_add(&text, "    c%d: bf16[2,64] = slice(%s) {offset=0, width=64}\n", k, k ? arena_printf(t->arena, "c%d", k - 1) : "c");
    text_add(&text, "    output z\n    output y\n    output c%d\n  end\nend\n", COPIES - 1);
    char *made = strstr(text.at, "c: bf16"); /* the node's third result is the last copy */
    Text all = {0};
    text_add(&all, "%.*sc%d%s", (int)(made - text.at), text.at, COPIES - 1, made + 1);
    Program *p = program_load(t->arena, all.at, "copies", &e);
    text_free(&text), text_free(&all);
    if (!p) {
        fail(t, "%s", e.msg);
        return;
    }
    const Node *n = p->graphs.at[0]->nodes.at[0];
    Tensor in[2];
    for (int k = 0; k < 2; k++) in[k] = tensor_of(&n->in[k]->type, &sizes, arena_alloc(t->arena, 256));
    for (int k = 0; k < 128; k++) ((uint16_t *)in[0].data)[k] = bf16_of_f32((float)k);
    I(&in[1])[0] = 1, I(&in[1])[1] = 0;
    if (!ref_look(n, in, &sizes, 1, 0, &l, &e)) {
        fail(t, "%s", e.msg);
        return;
    }
    for (int k = 0; k < 128; k++)
        if (l.at[0][k] != (float)((k + 64) % 128) || l.at[1][k] != (float)k || l.at[2][k] != (float)((k + 64) % 128)) fail(t, "element %d is %g, %g, %g", k, l.at[0][k], l.at[1][k], l.at[2][k]);
    ref_look_free(&l);
}

/* --- which tests --- */

static const struct {
    const char *name;
    void (*run)(Test *);
} tests[] = {
#define T(name)                                                                                                        \
    { "ref/" #name, test_##name }
    T(tokens),
    T(embed),
    T(rows),
    T(rmsnorm),
    T(linear_f32),
    T(linear_bf16),
    T(linear_mxfp4),
    T(linear_order),
    T(slice),
    T(elementwise),
    T(cast),
    T(rope),
    T(kv_write),
    T(attention),
    T(attention_window),
    T(attention_sink),
    T(attention_bf16_p),
    T(attention_refuses),
    T(topk),
    T(softmax),
    T(group),
    T(expert_linear),
    T(swiglu),
    T(combine),
    T(own),
    T(fetch),
    T(join),
    T(sample),
    T(set_last),
    T(fused),
    T(look),
    T(look_copies),
#undef T
};

int main(int argc, char **argv) {
    int failed = 0;
    for (size_t i = 0; i < LEN(tests); i++) {
        if (argc > 1 && !strstr(tests[i].name, argv[1])) continue;
        Test t = {.arena = arena_new(), .seed = 20261121 + i};
        tests[i].run(&t);
        if (t.failed) printf("FAIL %s: %s\n", tests[i].name, t.why);
        else printf("ok %s\n", tests[i].name);
        failed += t.failed;
        arena_free(t.arena);
    }
    return failed != 0;
}
