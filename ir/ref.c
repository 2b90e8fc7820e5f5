/* ref.c - what each op computes, in plain C. See ref.h; the formulas are those of ops.def.
 *
 * One function per row of ops.def: ref_<op>. Values have their graph dtype; sums run in double, in plain ascending order, and
 * are rounded once, to the output's type. Work is spread over threads by independent output rows, so the bits do not depend
 * on how many there are. Compile with -ffp-contract=off.
 * Nothing that comes from data (ids, slots, positions, pages) is trusted: out of range is an error that names the element.
 * Inputs and outputs do not overlap, except that a state's input and output are the same memory.
 * Add an op: a row in ops.def, a ref_<op> here, a test in tests/ref. */
#include "ref.h"
#include "sampling.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct Call Call;
struct Call {
    const Node *n;
    const Tensor *in, *out;
    const Sizes *sizes;
    int threads;
    double near; /* ref_look's; 0: roundings go their way */
};

#define OP(name, ...) static bool ref_##name(const Call *c, Err *e);
#include "ops.def"
#undef OP

static bool (*const table[OP_COUNT])(const Call *, Err *) = {
#define OP(name, ...) [OP_##name] = ref_##name,
#include "ops.def"
#undef OP
};

static bool call(const Call *c, Err *e) {
    return table[c->n->op](c, e) || err_wrap(e, "%s %s", op_info(c->n->op)->name, node_name(c->n));
}

bool ref_node(const Node *n, const Tensor *in, const Tensor *out, const Sizes *s, int threads, Err *e) {
    return call(&(Call){n, in, out, s, threads < 1 ? 1 : threads, 0}, e);
}

/* --- tensors --- */

Tensor tensor_of(const Type *t, const Sizes *s, void *data) {
    Tensor r = {.dtype = t->dtype, .rank = t->rank, .data = data};
    for (int i = 0; i < t->rank; i++) r.dim[i] = dim_eval(t->dim[i], s);
    return r;
}

int64_t tensor_count(const Tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static int64_t last_dim(const Tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }

static size_t bytes_of(const Tensor *t) {
    size_t b;
    if (!dtype_bytes(t->dtype, (size_t)tensor_count(t), &b)) die("ref: a tensor has no size");
    return b;
}

static float *f32(const Tensor *t) {
    if (t->dtype != DT_F32) die("ref: a tensor is %s, not f32", dtype_name(t->dtype));
    return t->data;
}

static int32_t *i32(const Tensor *t) {
    if (t->dtype != DT_I32) die("ref: a tensor is %s, not i32", dtype_name(t->dtype));
    return t->data;
}

/* A block of 32: the low nibble of a byte comes first. */
static void decode_block(const Tensor *t, int64_t block, float *to) {
    const uint8_t *nibbles = (const uint8_t *)t->data + block * 16;
    float scale = e8m0_scale(((const uint8_t *)t->data)[tensor_count(t) / 2 + block]);
    for (int i = 0; i < 16; i++) {
        to[2 * i] = e2m1_table[nibbles[i] & 15] * scale;
        to[2 * i + 1] = e2m1_table[nibbles[i] >> 4] * scale;
    }
}

/* Elements [from, from + n) to floats; every type but i32 is exact in float. from and n are multiples of 32 for mxfp4, whose
 * values may be infinite for scales of 253 and 254 (docs/numerics.md). */
static void decode(const Tensor *t, int64_t from, int64_t n, float *to) {
    switch (t->dtype) {
    case DT_F32: memcpy(to, (const float *)t->data + from, (size_t)n * sizeof *to); return;
    case DT_BF16: {
        const uint16_t *x = (const uint16_t *)t->data + from;
        for (int64_t i = 0; i < n; i++) to[i] = f32_of_bf16(x[i]);
        return;
    }
    case DT_MXFP4:
        for (int64_t i = 0; i < n; i += 32) decode_block(t, (from + i) / 32, to + i);
        return;
    case DT_I32:
    case DT_COUNT: break;
    }
    die("ref: arithmetic on %s", dtype_name(t->dtype));
}

double tensor_at(const Tensor *t, int64_t i) {
    float block[32];
    if (t->dtype == DT_I32) return ((const int32_t *)t->data)[i];
    if (t->dtype != DT_MXFP4) return decode(t, i, 1, block), (double)block[0];
    decode(t, i / 32 * 32, 32, block);
    return block[i % 32];
}

static void *scratch(int64_t n, size_t size) {
    size_t bytes;
    if (n < 0 || !size_mul((size_t)n, size, &bytes)) die("ref: scratch of %" PRId64 " elements", n);
    void *p = large_alloc(bytes);
    if (p) return p;
    fprintf(stderr, "gptoss: out of memory (asked for %zu bytes)\n", bytes);
    exit(1);
}

static bool in_range(const char *what, int64_t i, int64_t v, int64_t n, Err *e) {
    if (v >= 0 && v < n) return true;
    return err_set(e, "%s %" PRId64 " is %" PRId64 ", must be 0 … %" PRId64, what, i, v, n - 1);
}

static bool all_in_range(const char *what, const Tensor *t, int64_t n, Err *e) {
    for (int64_t i = 0, count = tensor_count(t); i < count; i++)
        if (!in_range(what, i, i32(t)[i], n, e)) return false;
    return true;
}

static bool all_experts(const Tensor *ids, int64_t n, Err *e) {
    for (int64_t i = 0, count = tensor_count(ids); i < count; i++)
        if (i32(ids)[i] != EXPERT_NONE && !in_range("expert of pair", i, i32(ids)[i], n, e)) return false;
    return true;
}

/* The other neighbour of x, where x is `near` the midpoint; else the rounded x. */
static uint16_t turned(float x, double near, double row) {
    uint16_t r = bf16_of_f32(x);
    double down = f32_of_bf16(r), off = (double)x - down;
    if (off == 0 || !isfinite(down)) return r;
    uint16_t other = (uint16_t)(r + ((off > 0) == (down > 0) ? 1 : -1)); /* away from 0, or towards it */
    if (down == 0) other = (uint16_t)(off > 0 ? 1 : 0x8001);
    double middle = (down + f32_of_bf16(other)) / 2;
    return fabs(x - middle) <= near * (fabs((double)x) + row) ? other : r;
}

/* --- threads --- */

typedef void Work(const void *ctx, int64_t item, void *room);

typedef struct Crew Crew;
struct Crew {
    Work *work;
    const void *ctx;
    int64_t items;
    size_t room; /* bytes of scratch for each thread */
    atomic_llong next;
};

static void *crew_work(void *arg) {
    Crew *c = arg;
    void *room = scratch((int64_t)c->room, 1);
    for (int64_t i; (i = atomic_fetch_add(&c->next, 1)) < c->items;) c->work(c->ctx, i, room);
    free(room);
    return NULL;
}

/* work(ctx, item) for each item, on up to `threads` threads. cost: of one item, in multiplications; small jobs stay here. */
static void parallel(int threads, int64_t items, int64_t cost, size_t room, Work *work, const void *ctx) {
    enum { WORTH_IT = 1 << 18, MOST = 256 };
    Crew c = {work, ctx, items, room, 0};
    pthread_t helper[MOST];
    int n = 0, want = (double)items * (double)cost < WORTH_IT ? 1 : threads < MOST ? threads : MOST;
    while (n + 1 < want && n + 1 < items && !pthread_create(&helper[n], NULL, crew_work, &c)) n++;
    crew_work(&c);
    while (n > 0) pthread_join(helper[--n], NULL);
}

/* --- dot products: 8 rows times 4 vectors --- */

enum { ROWS = 8, VECS = 4, HALF = ROWS / 2 };
typedef double Half __attribute__((vector_size(HALF * sizeof(double)), aligned(sizeof(double)), may_alias));

/* acc[v][r] = sum over k, ascending, of x[v][k] * tile[k][r]. A product of two floats is exact in double, so that a fused
 * multiply-add would give the same bits. Lanes are independent outputs: the vectors' width changes nothing either.
 * Compiled twice; 256-bit vectors because gcc 12 splits wider ones badly. */
#define DOTS(name, attribute)                                                                                          \
    attribute static void name(const double *tile, const double *const x[VECS], int64_t k, double acc[VECS][ROWS]) {   \
        Half a0 = {0}, b0 = {0}, a1 = {0}, b1 = {0}, a2 = {0}, b2 = {0}, a3 = {0}, b3 = {0};                           \
        const double *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];                                                   \
        for (int64_t i = 0; i < k; i++) {                                                                              \
            Half a = *(const Half *)(tile + i * ROWS), b = *(const Half *)(tile + i * ROWS + HALF);                    \
            a0 += x0[i] * a, b0 += x0[i] * b, a1 += x1[i] * a, b1 += x1[i] * b;                                        \
            a2 += x2[i] * a, b2 += x2[i] * b, a3 += x3[i] * a, b3 += x3[i] * b;                                        \
        }                                                                                                              \
        *(Half *)acc[0] = a0, *(Half *)(acc[0] + HALF) = b0, *(Half *)acc[1] = a1, *(Half *)(acc[1] + HALF) = b1;      \
        *(Half *)acc[2] = a2, *(Half *)(acc[2] + HALF) = b2, *(Half *)acc[3] = a3, *(Half *)(acc[3] + HALF) = b3;      \
    }
DOTS(dots_any, )
#if defined __x86_64__
DOTS(dots_avx2, __attribute__((target("avx2"))))
#endif

static void dots(const double *tile, const double *const x[VECS], int64_t k, double acc[VECS][ROWS]) {
#if defined __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        dots_avx2(tile, x, k, acc);
        return;
    }
#endif
    dots_any(tile, x, k, acc);
}

static void to_column(double *tile, int column, const float *row, int64_t k) {
    for (int64_t i = 0; i < k; i++) tile[i * ROWS + column] = row[i];
}

static double *to_doubles(const Tensor *t) {
    int64_t count = tensor_count(t), width = last_dim(t);
    double *to = scratch(count, sizeof *to);
    float *row = scratch(width, sizeof *row);
    for (int64_t at = 0; at < count; at += width) {
        decode(t, at, width, row);
        for (int64_t i = 0; i < width; i++) to[at + i] = row[i];
    }
    free(row);
    return to;
}

/* --- reading the step's input --- */

static bool ref_tokens(const Call *c, Err *e) {
    const int32_t *src = i32(&c->in[0]), *last = i32(&c->in[1]);
    int32_t *y = i32(&c->out[0]);
    for (int64_t t = 0; t < c->out[0].dim[0]; t++) {
        if (src[t] < 0 && !in_range("slot of token", t, -1 - (int64_t)src[t], c->in[1].dim[0], e)) return false;
        y[t] = src[t] >= 0 ? src[t] : last[-1 - (int64_t)src[t]];
    }
    return true;
}

static bool ref_embed(const Call *c, Err *e) {
    const Tensor *ids = &c->in[0], *w = &c->in[1];
    int64_t width = w->dim[1];
    if (!all_in_range("id", ids, w->dim[0], e)) return false;
    for (int64_t t = 0; t < ids->dim[0]; t++) decode(w, i32(ids)[t] * width, width, f32(&c->out[0]) + t * width);
    return true;
}

static bool ref_rows(const Call *c, Err *e) {
    const Tensor *x = &c->in[0], *index = &c->in[1];
    if (!all_in_range("index", index, x->dim[0], e)) return false;
    size_t row = x->dim[0] ? bytes_of(x) / (size_t)x->dim[0] : 0;
    for (int64_t s = 0; s < index->dim[0]; s++)
        memcpy((char *)c->out[0].data + (size_t)s * row, (const char *)x->data + (size_t)i32(index)[s] * row, row);
    return true;
}

/* --- dense --- */

static bool ref_rmsnorm(const Call *c, Err *e) {
    (void)e;
    int64_t width = last_dim(&c->in[0]);
    const float *x = f32(&c->in[0]), *g = f32(&c->in[1]);
    double eps = node_float(c->n, "eps");
    float *y = f32(&c->out[0]);
    for (int64_t at = 0, count = tensor_count(&c->in[0]); at < count; at += width) {
        double sum = 0;
        for (int64_t k = 0; k < width; k++) sum += (double)x[at + k] * x[at + k];
        double r = 1 / sqrt(sum / (double)width + eps);
        for (int64_t k = 0; k < width; k++) y[at + k] = (float)(x[at + k] * r * g[k]);
    }
    return true;
}

/* y[pair] = w[expert] x[pair / share] + b[expert] for the pairs that order[] lists expert by expert. A dense layer is one expert.
 * A row of weights is decoded once for all the pairs that need it. */
typedef struct Job Job;
struct Job {
    int64_t expert, first, count; /* of order[] */
};
typedef struct Product Product;
struct Product {
    const Tensor *w;
    const float *bias; /* or NULL */
    const double *x;
    float *y;
    int64_t k, n, share;
    const int64_t *order;
    const Job *job;
};

static int64_t row_blocks(int64_t n) { return (n + ROWS - 1) / ROWS; }

static void product_vectors(const Product *p, const Job *j, int64_t from, int64_t row, int rows, const double *tile) {
    double acc[VECS][ROWS];
    const double *x[VECS];
    int64_t last = j->count - 1;
    for (int v = 0; v < VECS; v++)
        x[v] = p->x + p->order[j->first + (from + v < last ? from + v : last)] / p->share * p->k;
    dots(tile, x, p->k, acc);
    for (int v = 0; v < VECS && from + v <= last; v++) {
        float *y = p->y + p->order[j->first + from + v] * p->n + row;
        const float *bias = p->bias ? p->bias + j->expert * p->n + row : NULL;
        for (int r = 0; r < rows; r++) y[r] = (float)(bias ? acc[v][r] + bias[r] : acc[v][r]);
    }
}

static void product_rows(const void *ctx, int64_t item, void *room) {
    const Product *p = ctx;
    const Job *j = &p->job[item / row_blocks(p->n)];
    int64_t row = item % row_blocks(p->n) * ROWS;
    int rows = p->n - row < ROWS ? (int)(p->n - row) : ROWS;
    double *tile = room;
    float *line = (float *)(tile + p->k * ROWS);
    memset(tile, 0, (size_t)p->k * ROWS * sizeof *tile);
    for (int r = 0; r < rows; r++) {
        decode(p->w, (j->expert * p->n + row + r) * p->k, p->k, line);
        to_column(tile, r, line, p->k);
    }
    for (int64_t from = 0; from < j->count; from += VECS) product_vectors(p, j, from, row, rows, tile);
}

static void product(const Product *p, int64_t jobs, int64_t pairs, int threads) {
    size_t room = (size_t)p->k * (ROWS * sizeof(double) + sizeof(float));
    parallel(threads, jobs * row_blocks(p->n), p->k * ROWS * (1 + pairs / (jobs ? jobs : 1)), room, product_rows, p);
}

static bool ref_linear(const Call *c, Err *e) {
    (void)e;
    const Tensor *x = &c->in[0], *w = &c->in[1], *b = &c->in[2];
    bool has_bias = c->n->n_in > 2 && b->data;
    int64_t tokens = x->dim[0];
    int64_t *order = scratch(tokens, sizeof *order);
    double *xd = to_doubles(x);
    for (int64_t t = 0; t < tokens; t++) order[t] = t;
    Job job = {0, 0, tokens};
    Product p = {w, has_bias ? f32(b) : NULL, xd, f32(&c->out[0]), w->dim[1], w->dim[0], 1, order, &job};
    if (tokens) product(&p, 1, tokens, c->threads);
    free(xd), free(order);
    return true;
}

static bool ref_slice(const Call *c, Err *e) {
    (void)e;
    int64_t from = last_dim(&c->in[0]), to = last_dim(&c->out[0]);
    int64_t offset = node_int(c->n, "offset"), rows = to ? tensor_count(&c->out[0]) / to : 0;
    size_t size = rows ? bytes_of(&c->out[0]) / (size_t)(rows * to) : 0;
    if (offset < 0 || offset + to > from) die("ref: slice %" PRId64 " + %" PRId64 " of %" PRId64, offset, to, from);
    for (int64_t t = 0; t < rows; t++)
        memcpy((char *)c->out[0].data + (size_t)(t * to) * size,
               (const char *)c->in[0].data + (size_t)(t * from + offset) * size, (size_t)to * size);
    return true;
}

/* --- elementwise --- */

static bool ref_add(const Call *c, Err *e) {
    (void)e;
    const float *a = f32(&c->in[0]), *b = f32(&c->in[1]);
    int64_t count = tensor_count(&c->in[0]), period = tensor_count(&c->in[1]); /* b may be one row */
    for (int64_t i = 0; i < count; i++) f32(&c->out[0])[i] = (float)((double)a[i] + b[i % period]);
    return true;
}

static bool ref_mul(const Call *c, Err *e) {
    (void)e;
    const float *a = f32(&c->in[0]), *b = f32(&c->in[1]);
    int64_t count = tensor_count(&c->in[0]), period = tensor_count(&c->in[1]);
    for (int64_t i = 0; i < count; i++) f32(&c->out[0])[i] = (float)((double)a[i] * b[i % period]);
    return true;
}

static bool ref_scale(const Call *c, Err *e) {
    (void)e;
    double by = node_float(c->n, "by");
    for (int64_t i = 0, count = tensor_count(&c->in[0]); i < count; i++)
        f32(&c->out[0])[i] = (float)(f32(&c->in[0])[i] * by);
    return true;
}

static void round_turned(const float *x, int64_t count, int64_t width, double near, uint16_t *y) {
    for (int64_t at = 0; at < count; at += width) {
        double sum = 0;
        for (int64_t i = 0; i < width; i++) sum += (double)x[at + i] * x[at + i];
        double row = sqrt(sum / (double)width);
        for (int64_t i = 0; i < width; i++) y[at + i] = turned(x[at + i], near, row);
    }
}

static bool ref_cast(const Call *c, Err *e) {
    (void)e;
    const Tensor *x = &c->in[0], *y = &c->out[0];
    int64_t count = tensor_count(x);
    if (c->near > 0 && x->dtype == DT_F32 && y->dtype == DT_BF16)
        return round_turned(f32(x), count, last_dim(x), c->near, y->data), true;
    if (y->dtype == x->dtype) memcpy(y->data, x->data, bytes_of(x));
    else if (y->dtype == DT_F32) decode(x, 0, count, y->data);
    else if (y->dtype == DT_BF16)
        for (int64_t i = 0; i < count; i++) ((uint16_t *)y->data)[i] = bf16_of_f32(f32(x)[i]);
    else die("ref: cast from %s to %s", dtype_name(x->dtype), dtype_name(y->dtype));
    return true;
}

/* --- attention --- */

static bool ref_rope(const Call *c, Err *e) {
    const Tensor *x = &c->in[0], *pos = &c->in[1], *table = &c->in[2];
    int64_t d = node_int(c->n, "head_dim"), width = last_dim(x), half = d / 2;
    if (!all_in_range("position of token", pos, table->dim[0], e)) return false;
    float *row = scratch(width, sizeof *row);
    for (int64_t t = 0; t < x->dim[0]; t++) {
        const float *turn = f32(table) + i32(pos)[t] * half * 2;
        float *y = f32(&c->out[0]) + t * width;
        decode(x, t * width, width, row);
        for (int64_t i = 0; i < width; i++) {
            if (i % d >= half) continue;
            double x1 = row[i], x2 = row[i + half], cs = turn[i % d * 2], sn = turn[i % d * 2 + 1];
            y[i] = (float)(x1 * cs - x2 * sn);
            y[i + half] = (float)(x2 * cs + x1 * sn);
        }
    }
    free(row);
    return true;
}

/* The pool [P, 2, NKV, page, D] seen through the block tables. */
typedef struct Cache Cache;
struct Cache {
    const Tensor *state;
    const int32_t *slot, *pos, *blocks;
    int64_t tokens, slots, pages; /* pages: a sequence may have */
};

static Cache cache_of(const Tensor *state, const Tensor *slot, const Tensor *pos, const Tensor *blocks) {
    return (Cache){state, i32(slot), i32(pos), i32(blocks), slot->dim[0], blocks->dim[0], blocks->dim[1]};
}

static int64_t cache_page(const Cache *k, int64_t t, int64_t at) {
    return k->blocks[k->slot[t] * k->pages + at / k->state->dim[3]];
}

/* Element number of the row of kv (0: k, 1: v), head, for position `at` of token t's sequence. */
static int64_t cache_row(const Cache *k, int64_t t, int64_t at, int kv, int64_t head) {
    const int64_t *d = k->state->dim;
    return (((cache_page(k, t, at) * 2 + kv) * d[2] + head) * d[3] + at % d[3]) * d[4];
}

static int64_t first_key(int64_t pos, int64_t window) { return window > 0 && pos >= window ? pos - window + 1 : 0; }

/* Slots, positions and the pages of the `reach` last positions of each token (0: of all). */
static bool cache_check(const Cache *k, int64_t reach, Err *e) {
    int64_t page = k->state->dim[3];
    for (int64_t t = 0; t < k->tokens; t++) {
        if (!in_range("slot of token", t, k->slot[t], k->slots, e)) return false;
        if (!in_range("position of token", t, k->pos[t], k->pages * page, e)) return false;
        for (int64_t b = first_key(k->pos[t], reach) / page; b <= k->pos[t] / page; b++)
            if (!in_range("page", b, k->blocks[k->slot[t] * k->pages + b], k->state->dim[0], e))
                return err_wrap(e, "slot %d", k->slot[t]);
    }
    return true;
}

static bool ref_kv_write(const Call *c, Err *e) {
    const Tensor *state = &c->in[0];
    Cache cache = cache_of(state, &c->in[3], &c->in[4], &c->in[5]);
    int64_t heads = state->dim[2], d = state->dim[4];
    size_t size = state->dtype == DT_BF16 ? 2 : 4;
    if (state->data != c->out[0].data) die("ref: kv_write: the state is not updated in place");
    if (c->in[1].dtype != state->dtype || c->in[2].dtype != state->dtype || state->dtype == DT_MXFP4)
        die("ref: kv_write: k and v are not of the state's type");
    if (!cache_check(&cache, 1, e)) return false;
    for (int64_t t = 0; t < cache.tokens; t++)
        for (int kv = 0; kv < 2; kv++)
            for (int64_t h = 0; h < heads; h++)
                memcpy((char *)state->data + (size_t)cache_row(&cache, t, cache.pos[t], kv, h) * size,
                       (const char *)c->in[1 + kv].data + (size_t)((t * heads + h) * d) * size, (size_t)d * size);
    return true;
}

typedef struct Attention Attention;
struct Attention {
    Cache cache;
    const double *q;
    const float *sinks;
    float *y;
    int64_t window, group; /* group: query heads per kv head */
    bool round_p;
    double near;  /* ref_look's */
    int64_t most; /* keys of any token */
};

/* p[h][j] = q[h] . k[from + j] / sqrt(D) for the group's query heads. */
static void scores(const Attention *a, int64_t t, int64_t kv_head, const double *q, int64_t from, int64_t keys,
                   double *p, double *tile) {
    int64_t d = a->cache.state->dim[4];
    float *line = (float *)(tile + d * ROWS);
    memset(tile, 0, (size_t)(d * ROWS) * sizeof *tile);
    for (int64_t j = 0; j < keys; j += ROWS) {
        int rows = keys - j < ROWS ? (int)(keys - j) : ROWS;
        for (int r = 0; r < rows; r++) {
            decode(a->cache.state, cache_row(&a->cache, t, from + j + r, 0, kv_head), d, line);
            to_column(tile, r, line, d);
        }
        for (int64_t h = 0; h < a->group; h += VECS) {
            double acc[VECS][ROWS];
            const double *x[VECS];
            for (int v = 0; v < VECS; v++) x[v] = q + (h + v < a->group ? h + v : a->group - 1) * d;
            dots(tile, x, d, acc);
            for (int v = 0; v < VECS && h + v < a->group; v++)
                for (int r = 0; r < rows; r++) p[(h + v) * a->most + j + r] = acc[v][r] / sqrt((double)d);
        }
    }
}

/* Scores to weights exp(s - m), m the largest including the sink; returns their sum with the sink's. The sum is of the
 * unrounded weights; rounded to bf16 (attribute p) they only enter the product with v, as in kernels, where P is a matrix
 * operand. A kernel's online softmax rounds exp(s - running maximum) instead: same relative error, other bits. */
static double weights(double *p, int64_t keys, double sink, bool round, double near) {
    double m = sink, sum = 0;
    for (int64_t j = 0; j < keys; j++) m = p[j] > m ? p[j] : m;
    for (int64_t j = 0; j < keys; j++) {
        double off =
            near * (1 + fabs(p[j]) + fabs(m)); /* of a weight, in parts of itself, when its score is off by near */
        p[j] = exp(p[j] - m);
        sum += p[j];
        if (round) p[j] = f32_of_bf16(near > 0 ? turned((float)p[j], off, 0) : bf16_of_f32((float)p[j]));
    }
    return sum + exp(sink - m);
}

/* Token t, kv head h and the query heads that read it. */
static void attention_group(const void *ctx, int64_t item, void *room) {
    const Attention *a = ctx;
    const int64_t *dim = a->cache.state->dim, d = dim[4], group = a->group;
    int64_t t = item / dim[2], kv_head = item % dim[2], head = kv_head * group, row = (t * dim[2] * group + head) * d;
    int64_t from = first_key(a->cache.pos[t], a->window), keys = a->cache.pos[t] - from + 1;
    double *p = room, *sum = p + group * a->most, *acc = sum + group, *tile = acc + group * d;
    float *v = (float *)(tile + d * ROWS);
    scores(a, t, kv_head, a->q + row, from, keys, p, tile);
    for (int64_t h = 0; h < group; h++)
        sum[h] = weights(p + h * a->most, keys, a->sinks[head + h], a->round_p, a->near);
    for (int64_t i = 0; i < group * d; i++) acc[i] = 0;
    for (int64_t j = 0; j < keys; j++) {
        decode(a->cache.state, cache_row(&a->cache, t, from + j, 1, kv_head), d, v);
        for (int64_t h = 0; h < group; h++)
            for (int64_t i = 0; i < d; i++) acc[h * d + i] += p[h * a->most + j] * v[i];
    }
    for (int64_t i = 0; i < group * d; i++) a->y[row + i] = (float)(acc[i] / sum[i / d]);
}

static bool ref_attention(const Call *c, Err *e) {
    const Tensor *state = &c->in[1], *sinks = &c->in[2];
    int64_t kv_heads = state->dim[2], d = state->dim[4];
    Attention a = {.cache = cache_of(state, &c->in[3], &c->in[4], &c->in[5]),
                   .sinks = f32(sinks),
                   .y = f32(&c->out[0]),
                   .window = node_int(c->n, "window"),
                   .group = sinks->dim[0] / kv_heads,
                   .round_p = !strcmp(node_str(c->n, "p"), "bf16"),
                   .near = c->near};
    if (!cache_check(&a.cache, a.window, e)) return false;
    for (int64_t t = 0; t < a.cache.tokens; t++) {
        int64_t keys = a.cache.pos[t] - first_key(a.cache.pos[t], a.window) + 1;
        if (keys > a.most) a.most = keys;
    }
    double *q = to_doubles(&c->in[0]);
    a.q = q;
    size_t room = (size_t)(a.group * (a.most + 1 + d) + d * ROWS) * sizeof(double) + (size_t)d * sizeof(float);
    parallel(c->threads, a.cache.tokens * kv_heads, a.group * a.most * d * 2, room, attention_group, &a);
    free(q);
    return true;
}

/* --- experts --- */

/* Keeps v[0 … k), id[0 … k) descending; the n best so far. A tie stays behind the lower index. */
static void topk_insert(float *v, int32_t *id, int64_t n, int64_t k, float x, int32_t index) {
    int64_t at = n < k ? n : k;
    if (at == k && !(x > v[k - 1])) return;
    if (at == k) at--;
    for (; at > 0 && x > v[at - 1]; at--) v[at] = v[at - 1], id[at] = id[at - 1];
    v[at] = x, id[at] = index;
}

static bool ref_topk(const Call *c, Err *e) {
    int64_t width = last_dim(&c->in[0]), k = node_int(c->n, "k"), rows = tensor_count(&c->in[0]) / width;
    if (k < 1 || k > width) die("ref: topk %" PRId64 " of %" PRId64, k, width);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < width; i++) {
            float x = f32(&c->in[0])[t * width + i];
            if (isnan(x)) return err_set(e, "row %" PRId64 ", element %" PRId64 " is NaN", t, i);
            topk_insert(f32(&c->out[0]) + t * k, i32(&c->out[1]) + t * k, i, k, x, (int32_t)i);
        }
    return true;
}

static bool ref_softmax(const Call *c, Err *e) {
    (void)e;
    int64_t width = last_dim(&c->in[0]);
    for (int64_t at = 0, count = tensor_count(&c->in[0]); at < count; at += width) {
        const float *x = f32(&c->in[0]) + at;
        double m = x[0], sum = 0;
        for (int64_t i = 0; i < width; i++) m = x[i] > m ? x[i] : m;
        for (int64_t i = 0; i < width; i++) sum += exp(x[i] - m);
        for (int64_t i = 0; i < width; i++) f32(&c->out[0])[at + i] = (float)(exp(x[i] - m) / sum);
    }
    return true;
}

/* first[e] … first[e + 1): where expert e's pairs are in a stable sort of those that have one. */
static int64_t *expert_ranges(const int32_t *ids, int64_t pairs, int64_t experts) {
    int64_t *first = scratch(experts + 1, sizeof *first);
    memset(first, 0, (size_t)(experts + 1) * sizeof *first);
    for (int64_t i = 0; i < pairs; i++)
        if (ids[i] >= 0) first[ids[i] + 1]++;
    for (int64_t x = 0; x < experts; x++) first[x + 1] += first[x];
    return first;
}

static bool ref_group(const Call *c, Err *e) {
    const Tensor *ids = &c->in[0];
    int64_t pairs = tensor_count(ids), experts = node_int(c->n, "experts"), tile = node_int(c->n, "tile"), n = 0;
    if (experts < 1 || tile < 1) die("ref: group into %" PRId64 " experts, tile %" PRId64, experts, tile);
    if (!all_experts(ids, experts, e)) return false;
    int32_t *perm = i32(&c->out[0]), *tiles = i32(&c->out[1]);
    int64_t *first = expert_ranges(i32(ids), pairs, experts);
    memset(tiles, 0, bytes_of(&c->out[1]));
    for (int64_t x = 0; x < experts; x++)
        for (int64_t at = first[x]; at < first[x + 1]; at += tile, n++) {
            int64_t left = first[x + 1] - at;
            int32_t row[4] = {(int32_t)x, (int32_t)at, (int32_t)(left < tile ? left : tile), 0};
            memcpy(tiles + n * 4, row, sizeof row);
        }
    for (int64_t i = 0; i < pairs; i++)
        if (i32(ids)[i] >= 0) perm[first[i32(ids)[i]]++] = (int32_t)i;
    free(first);
    return true;
}

static bool ref_expert_linear(const Call *c, Err *e) {
    const Tensor *x = &c->in[0], *w = &c->in[1], *ids = &c->in[3];
    int64_t pairs = tensor_count(ids), experts = w->dim[0], jobs = 0;
    if (!all_experts(ids, experts, e)) return false;
    int64_t *first = expert_ranges(i32(ids), pairs, experts), *order = scratch(pairs, sizeof *order);
    Job *job = scratch(experts, sizeof *job);
    for (int64_t i = 0; i < experts; i++)
        if (first[i + 1] > first[i]) job[jobs++] = (Job){i, first[i], first[i + 1] - first[i]};
    int64_t there = first[experts];
    for (int64_t i = 0; i < pairs; i++)
        if (i32(ids)[i] >= 0) order[first[i32(ids)[i]]++] = i;
    double *xd = to_doubles(x);
    int64_t share = x->rank == 3 ? 1 : ids->dim[1];
    Product p = {w, f32(&c->in[2]), xd, f32(&c->out[0]), w->dim[2], w->dim[1], share, order, job};
    product(&p, jobs, there, c->threads);
    free(xd), free(job), free(order), free(first);
    return true;
}

static bool ref_swiglu(const Call *c, Err *e) {
    (void)e;
    const float *x = f32(&c->in[0]);
    double limit = node_float(c->n, "limit"), alpha = node_float(c->n, "alpha");
    for (int64_t i = 0, count = tensor_count(&c->out[0]); i < count; i++) {
        double g = x[2 * i], u = x[2 * i + 1];
        g = g > limit ? limit : g; /* from above only */
        u = u > limit ? limit : u < -limit ? -limit : u;
        f32(&c->out[0])[i] = (float)(g / (1 + exp(-alpha * g)) * (u + 1));
    }
    return true;
}

static bool ref_combine(const Call *c, Err *e) {
    (void)e;
    const float *y = f32(&c->in[0]), *p = f32(&c->in[1]);
    int64_t ranks = c->in[0].dim[1], width = c->in[0].dim[2];
    for (int64_t t = 0; t < c->in[0].dim[0]; t++)
        for (int64_t h = 0; h < width; h++) {
            double sum = 0;
            for (int64_t r = 0; r < ranks; r++) sum += (double)p[t * ranks + r] * y[(t * ranks + r) * width + h];
            f32(&c->out[0])[t * width + h] = (float)sum;
        }
    return true;
}

/* --- several devices --- */

static bool ref_own(const Call *c, Err *e) {
    const int32_t *ids = i32(&c->in[0]), *share = i32(&c->in[1]);
    if (!all_in_range("expert of pair", &c->in[0], node_int(c->n, "experts"), e)) return false;
    for (int64_t i = 0, n = tensor_count(&c->in[0]); i < n; i++) {
        int32_t at = ids[i] - share[0];
        i32(&c->out[0])[i] = at >= 0 && at < share[1] ? at : EXPERT_NONE;
    }
    return true;
}

static bool ref_fetch(const Call *c, Err *e) {
    const Tensor *ids = &c->in[1];
    if (!all_experts(ids, node_int(c->n, "experts"), e)) return false;
    size_t row = ids->dim[0] ? bytes_of(&c->in[0]) / (size_t)ids->dim[0] : 0;
    for (int64_t t = 0; t < ids->dim[0]; t++) {
        bool wanted = false;
        for (int64_t r = 0; r < ids->dim[1]; r++) wanted |= i32(ids)[t * ids->dim[1] + r] >= 0;
        if (wanted) memcpy((char *)c->out[0].data + (size_t)t * row, (const char *)c->in[0].data + (size_t)t * row, row);
    }
    return true;
}

/* Its result may lie where its input does. */
static bool ref_join(const Call *c, Err *e) {
    (void)e;
    memmove(c->out[0].data, c->in[0].data, bytes_of(&c->in[0]));
    return true;
}

/* --- head --- */

/* -1: a NaN. */
static int32_t argmax(const float *x, int64_t n) {
    int32_t best = isnan(x[0]) ? -1 : 0;
    for (int64_t i = 1; i < n && best >= 0; i++)
        if (isnan(x[i])) best = -1;
        else if (x[i] > x[best]) best = (int32_t)i;
    return best;
}

/* The order of a row: the larger number comes first. No NaN here. */
static uint64_t sort_key(float x, int64_t index) {
    uint32_t u;
    x += 0.f; /* -0 becomes +0 */
    memcpy(&u, &x, sizeof u);
    return (uint64_t)(u >> 31 ? ~u : u | 0x80000000u) << 32 | (uint32_t)~index;
}

static int first_is_larger(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : -1;
}

/* A row as ops.def tells it: sort, sum, cut, draw. w[i]: the weight of the i first. */
static int32_t draw(const float *x, int64_t n, const int32_t *words, uint64_t *order, uint64_t *w) {
    Sampling p = sampling_read(words);
    float most = x[argmax(x, n)];
    uint64_t total = 0, enough = 0, likely = 0;
    int64_t i = 0;
    for (int64_t v = 0; v < n; v++) order[v] = sort_key(x[v], v);
    qsort(order, (size_t)n, sizeof *order, first_is_larger);
    for (int64_t v = 0; v < n; v++) w[v] = total += sampling_weight(x[(uint32_t)~order[v]], most, p.temperature);
    if (p.top_k > 0 && p.top_k < n) total = w[p.top_k - 1];
    if (p.top_p < 1) {
        enough = sampling_enough(total, p.top_p);
        while (w[i] < enough) i++;
        total = w[i];
    }
    for (int64_t v = 0; v < n; v++) {
        uint64_t one = w[v] - (v ? w[v - 1] : 0);
        likely += one >= sampling_likely(p.min_p) ? one : 0;
    }
    if (likely < total) total = likely;
    uint64_t r = sampling_scale(sampling_random(&p), total);
    for (i = 0; w[i] <= r;) i++;
    return (int32_t)(uint32_t)~order[i];
}

static bool ref_sample(const Call *c, Err *e) {
    int64_t width = last_dim(&c->in[0]);
    const int32_t *params = c->n->n_in > 1 && c->n->in[1] ? i32(&c->in[1]) : NULL;
    uint64_t *room = params ? scratch(2 * width, sizeof *room) : NULL;
    bool ok = true;
    for (int64_t s = 0; s < c->in[0].dim[0] && ok; s++) {
        const float *x = f32(&c->in[0]) + s * width;
        int32_t *to = i32(&c->out[0]) + s;
        *to = argmax(x, width);
        if (!params || *to < 0) continue;
        const Sampling p = sampling_read(params + s * SAMPLING_WORDS);
        if (!sampling_valid(&p))
            ok = err_set(e, "row %" PRId64 ": temperature %g, top_k %d, top_p %g, min_p %g", s, p.temperature, p.top_k,
                         p.top_p, p.min_p);
        else if (p.temperature > 0) *to = draw(x, width, params + s * SAMPLING_WORDS, room, room + width);
    }
    free(room);
    return ok;
}

static bool ref_set_last(const Call *c, Err *e) {
    const Tensor *last = &c->in[0], *ids = &c->in[1], *slot = &c->in[2];
    if (last->data != c->out[0].data) die("ref: set_last: the state is not updated in place");
    if (!all_in_range("slot of sample", slot, last->dim[0], e)) return false;
    for (int64_t s = 0; s < ids->dim[0]; s++) i32(last)[i32(slot)[s]] = i32(ids)[s];
    return true;
}

/* --- made by fusion --- */

typedef struct Binding Binding;
struct Binding {
    const Value *value;
    Tensor tensor;
    bool owned;
};
typedef struct Frame Frame; /* the values of a body */
struct Frame {
    Binding *at;
    size_t n, cap;
};

static const Tensor *frame_find(const Frame *f, const Value *v) {
    for (size_t i = 0; i < f->n; i++)
        if (f->at[i].value == v) return &f->at[i].tensor;
    die("ref: %s is not computed before it is used", v->name);
}

static void frame_bind(Frame *f, const Value *v, Tensor t, bool owned) {
    if (f->n == f->cap) {
        Binding *old = f->at;
        f->cap = f->cap ? f->cap * 2 : 32;
        f->at = scratch((int64_t)f->cap, sizeof *f->at);
        if (f->n) memcpy(f->at, old, f->n * sizeof *old);
        free(old);
    }
    f->at[f->n++] = (Binding){v, t, owned};
}

static void frame_free(Frame *f) {
    for (size_t i = 0; i < f->n; i++)
        if (f->at[i].owned) free(f->at[i].tensor.data);
    free(f->at);
}

static void bind_inputs(Frame *f, const Call *c) {
    const Graph *body = c->n->body;
    size_t k = 0;
    for (int i = 0; i < c->n->n_body_in; i++) {
        if (!c->n->in[i]) continue;
        if (k == body->inputs.n) die("ref: %s has more inputs than its body", node_name(c->n));
        frame_bind(f, body->inputs.at[k++], c->in[i], false);
    }
    if (k != body->inputs.n || (int)body->outputs.n != c->n->n_out)
        die("ref: %s does not fit its body", node_name(c->n));
}

/* Where a body node writes: a state where it is already, a result of the fused node into that, anything else into scratch. */
static Tensor bind_output(Frame *f, const Call *c, const Node *n, int index) {
    const Value *v = n->out[index];
    void *data = NULL;
    if (op_info(n->op)->flags & OPF_STATE && index == 0) data = frame_find(f, n->in[0])->data;
    for (int i = 0; i < c->n->n_out && !data; i++)
        if (c->n->body->outputs.at[i] == v) data = c->out[i].data;
    Tensor t = tensor_of(&v->type, c->sizes, data);
    if (!data) t.data = scratch((int64_t)bytes_of(&t), 1);
    frame_bind(f, v, t, !data);
    return t;
}

static bool body_node(Frame *f, const Call *c, const Node *n, Err *e) {
    Tensor in[MAX_IN] = {0}, out[MAX_OUT] = {0};
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) in[i] = *frame_find(f, n->in[i]);
    for (int i = 0; i < n->n_out; i++) out[i] = bind_output(f, c, n, i);
    return call(&(Call){n, in, out, c->sizes, c->threads, c->near}, e);
}

static bool body_run(Frame *f, const Call *c, Err *e) {
    const Graph *body = c->n->body;
    bool ok = true;
    bind_inputs(f, c);
    for (size_t i = 0; i < body->nodes.n && ok; i++) ok = body_node(f, c, body->nodes.at[i], e);
    return ok;
}

/* --- repack --- */

typedef struct Packing Packing; /* of a weight into fragment layout: templates/lib/matrix.h tells what that is */
struct Packing {
    const Tensor *w;
    int64_t wave, pairs, head, experts, rows, k;
    int64_t row[16]; /* of the slab being packed: the index of each row's first element, -1 beyond the last */
};

/* The weight's row that stands at place r of a slab. A wave of 64 holds rows 4q … 4q + 3 of a result in one lane, one of 32 rows g and g + 8. */
static int64_t packed_row(const Packing *p, int64_t slab, int64_t r) {
    if (!p->pairs) return slab * 16 + r;
    int64_t member = p->wave == 64 ? r % 4 / 2 : r / 8, j = slab * 8 + (p->wave == 64 ? r / 4 * 2 + r % 2 : r % 8), half = p->head / 2;
    return p->pairs == 1 ? 2 * j + member : j / half * p->head + j % half + member * half;
}

static void begin_slab(Packing *p, int64_t expert, int64_t slab) {
    for (int64_t r = 0; r < 16; r++) {
        int64_t n = packed_row(p, slab, r);
        p->row[r] = n < p->rows ? (expert * p->rows + n) * p->k : -1;
    }
}

static inline int64_t packed_index(const Packing *p, int64_t r, int64_t k) { return p->row[r] >= 0 && k < p->k ? p->row[r] + k : -1; }

/* A lane's 8 elements of a word are runs of neighbours: 4 of them in a wave of 64, 2 in one of 32. */
static void pack_bf16(const Packing *p, int64_t u, uint16_t *to) {
    bool wide = p->wave == 64;
    int64_t run = wide ? 4 : 2;
    for (int64_t word = 0; word < 4; word++)
        for (int64_t lane = 0; lane < p->wave; lane++)
            for (int64_t i = 0; i < 8; i += run, to += run) {
                int64_t r = wide ? lane % 16 : lane / 4 + i / 2 % 2 * 8, k = u * 2 * p->wave;
                k += wide ? (2 * word + i / 4) * 16 + lane / 16 * 4 : word * 16 + lane % 4 * 2 + i / 4 * 8;
                int64_t left = p->row[r] < 0 ? 0 : p->k - k, at = left > 0 ? p->row[r] + k : 0;
                for (int64_t e = 0; e < run; e++) to[e] = e < left ? ((const uint16_t *)p->w->data)[at + e] : 0;
            }
}

/* Of k and the elements behind it in its 16 bits; k is a multiple of 2, rows are of whole blocks. */
static inline uint32_t codes_at(const Packing *p, int64_t r, int64_t k) {
    int64_t at = packed_index(p, r, k);
    const uint8_t *from = (const uint8_t *)p->w->data + at / 2;
    return at < 0 ? 0 : from[0] | (k % 4 ? 0 : (uint32_t)from[1] << 8);
}

/* Four codes, each to the low half of a byte. */
static uint32_t spread_codes(uint32_t c) {
    c = (c | c << 8) & 0x00ff00ff;
    return (c | c << 4) & 0x0f0f0f0f;
}

/* Waves of 64: nibble i of word w is element i / 2 of step 2w + i % 2. Of 32: pairs of halves, their bits as sm_90.h tells. */
static uint32_t pack_codes(const Packing *p, int64_t u, int64_t lane, int64_t word) {
    int64_t base = u * 2 * p->wave;
    if (p->wave == 64) {
        int64_t k = base + 2 * word * 16 + lane / 16 * 4;
        return spread_codes(codes_at(p, lane % 16, k)) | spread_codes(codes_at(p, lane % 16, k + 16)) << 4;
    }
    uint32_t bits = 0;
    for (int64_t i = 0; i < 8; i++) {
        uint32_t c = codes_at(p, lane / 4 + i / 2 % 2 * 8, base + word * 16 + lane % 4 * 2 + i / 4 * 8) >> (4 * (i % 2));
        /* bits 0, 1, 2 of the code and its sign: of the low half's code, of the high half's */
        static const int bit_at[4][2][4] = {{{6, 7, 8, 15}, {22, 23, 24, 31}}, {{2, 3, 4, 11}, {18, 19, 20, 27}},
                                            {{28, 29, 30, 5}, {12, 13, 14, 21}}, {{0, 25, 26, 1}, {16, 9, 10, 17}}};
        for (int b = 0; b < 4; b++) bits |= (c >> b & 1u) << bit_at[i / 2][i % 2][b];
    }
    return bits;
}

static void pack_mxfp4(const Packing *p, int64_t u, uint8_t *to) {
    const uint8_t *scales = (const uint8_t *)p->w->data + p->experts * p->rows * p->k / 2;
    for (int64_t lane = 0; lane < p->wave; lane++)
        for (int64_t word = 0; word < 4; word++) {
            uint32_t v = pack_codes(p, u, lane, word);
            memcpy(to + (lane * 4 + word) * 4, &v, 4);
        }
    for (int64_t w = 0; w < p->wave / 4; w++)
        for (int64_t i = 0; i < 4; i++) {
            int64_t r = p->wave == 64 ? w : w + i % 2 * 8, block = p->wave == 64 ? i : i / 2;
            int64_t at = packed_index(p, r, u * 2 * p->wave + block * 32);
            to[p->wave * 16 + w * 4 + i] = at < 0 ? 127 : scales[at / 32];
        }
}

static bool ref_repack(const Call *c, Err *e) {
    const Tensor *w = &c->in[0];
    (void)e;
    Packing p = {w, node_int(c->n, "wave"), node_int(c->n, "pairs"), node_int(c->n, "head"), w->rank == 3 ? w->dim[0] : 1, w->dim[w->rank - 2], w->dim[w->rank - 1]};
    int64_t slabs = (p.rows + 15) / 16, units = (p.k + 2 * p.wave - 1) / (2 * p.wave), bytes = w->dtype == DT_BF16 ? 64 * p.wave : 17 * p.wave;
    uint8_t *to = c->out[0].data;
    for (int64_t x = 0; x < p.experts; x++)
        for (int64_t s = 0; s < slabs; s++) {
            begin_slab(&p, x, s);
            for (int64_t u = 0; u < units; u++, to += bytes) {
                if (w->dtype == DT_BF16) pack_bf16(&p, u, (uint16_t *)to);
                else pack_mxfp4(&p, u, to);
            }
        }
    return true;
}

static bool ref_FUSED(const Call *c, Err *e) {
    const Graph *body = c->n->body;
    Frame f = {0};
    bool ok = body_run(&f, c, e);
    for (int i = 0; i < c->n->n_out && ok; i++) { /* an input handed through, or a value that is two outputs */
        const Tensor *t = frame_find(&f, body->outputs.at[i]);
        if (t->data != c->out[i].data) memcpy(c->out[i].data, t->data, bytes_of(t));
    }
    frame_free(&f);
    return ok;
}

/* --- a second look ------------------------------------------------------------------------------------------------- */

static float *floats_of(const Tensor *t) {
    float *to = scratch(tensor_count(t), sizeof *to);
    if (t->dtype != DT_I32) decode(t, 0, tensor_count(t), to);
    return to;
}

enum { MOST_COPIES = 32 /* one of another */ };

static bool unrounded(const Frame *f, const Call *c, const Value *v, int depth, float **to, Err *e);

/* v is bf16 and no cast: a copy. So its node does the same to what its inputs were before they were rounded. */
static bool copied(const Frame *f, const Call *c, const Value *v, int depth, float **to, Err *e) {
    const Node *n = v->def;
    Tensor in[MAX_IN] = {0}, out[MAX_OUT] = {0};
    bool ok = true, state = op_info(n->op)->flags & OPF_STATE;
    for (int i = 0; i < n->n_in && ok; i++) {
        if (!n->in[i]) continue;
        in[i] = *frame_find(f, n->in[i]);
        if (in[i].dtype != DT_BF16) continue;
        float *x = NULL;
        ok = unrounded(f, c, n->in[i], depth + 1, &x, e);
        in[i].dtype = DT_F32, in[i].data = x;
    }
    out[v->index] = *frame_find(f, v);
    out[v->index].dtype = DT_F32;
    out[v->index].data = state ? in[0].data : scratch(tensor_count(&out[v->index]), sizeof **to);
    ok = ok && call(&(Call){n, in, out, c->sizes, c->threads, 0}, e);
    for (int i = state; i < n->n_in; i++)
        if (n->in[i] && in[i].data != frame_find(f, n->in[i])->data) free(in[i].data);
    *to = out[v->index].data;
    return ok;
}

/* What a body within the body rounds, and a copy of a copy of many, stays rounded. */
static bool unrounded(const Frame *f, const Call *c, const Value *v, int depth, float **to, Err *e) {
    const Tensor *t = frame_find(f, v);
    if (t->dtype == DT_BF16 && v->def && v->def->op == OP_cast) t = frame_find(f, v->def->in[0]);
    else if (t->dtype == DT_BF16 && v->def && v->def->op != OP_FUSED && depth < MOST_COPIES) return copied(f, c, v, depth, to, e);
    *to = floats_of(t);
    return true;
}

static bool is_chosen(const Value *v) {
    return v->def && (v->def->op == OP_sample || (v->def->op == OP_topk && v->index == 1));
}

static void look_scores(RefLook *look, int i, const Tensor *scores, bool given) {
    look->at[i] = floats_of(scores), look->width[i] = last_dim(scores), look->given[i] = given;
}

static bool look_inside(const Call *c, RefLook *look, Err *e) {
    const Graph *body = c->n->body;
    Frame f = {0};
    bool ok = body_run(&f, c, e);
    for (int i = 0; i < c->n->n_out && ok; i++) {
        const Value *v = body->outputs.at[i];
        if (is_chosen(v)) look_scores(look, i, frame_find(&f, v->def->in[0]), !v->def->in[0]->def);
        else if (v->type.dtype != DT_I32) ok = unrounded(&f, c, v, 0, &look->at[i], e);
    }
    frame_free(&f);
    return ok;
}

/* A node without a body rounds when it is a cast. */
static bool look_at(const Call *c, RefLook *look, Err *e) {
    if (!call(c, e)) return false;
    for (int i = 0; i < c->n->n_out; i++)
        if (is_chosen(c->n->out[i])) look_scores(look, i, &c->in[0], true);
        else if (c->out[i].dtype != DT_I32) look->at[i] = floats_of(c->n->op == OP_cast ? &c->in[0] : &c->out[i]);
    return true;
}

bool ref_look(const Node *n, const Tensor *in, const Sizes *s, int threads, double near, RefLook *look, Err *e) {
    Tensor ins[MAX_IN] = {0}, outs[MAX_OUT] = {0};
    memcpy(ins, in, (size_t)n->n_in * sizeof *in);
    *look = (RefLook){0};
    for (int i = 0; i < n->n_out; i++) {
        int state = node_state_in(n, i);
        outs[i] = tensor_of(&n->out[i]->type, s, NULL);
        outs[i].data = scratch((int64_t)bytes_of(&outs[i]), 1);
        if (state < 0) continue;
        memcpy(outs[i].data, in[state].data, bytes_of(&outs[i]));
        ins[state].data = outs[i].data;
    }
    Call c = {n, ins, outs, s, threads < 1 ? 1 : threads, near};
    bool ok = n->op == OP_FUSED ? look_inside(&c, look, e) : look_at(&c, look, e);
    for (int i = 0; i < n->n_out; i++) free(outs[i].data);
    if (!ok) ref_look_free(look);
    return ok;
}

void ref_look_free(RefLook *look) {
    for (int i = 0; i < MAX_OUT; i++) free(look->at[i]);
    *look = (RefLook){0};
}
