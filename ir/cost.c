/* cost.c - see cost.h. Add an op: a row of `rows`, unless it reads every input whole and computes nothing to speak of. */
#include "cost.h"

#include <math.h>

/* A plan is asked for other sizes than it has buckets for: no count of bytes need be one that memory can have. */
static double dim(const Value *v, int i, const Work *w) {
    const Dim d = v->type.dim[i];
    return (double)d.add + (d.sym ? (double)d.mul * (double)w->sizes.of[d.sym] : 0);
}

static double count(const Value *v, const Work *w) {
    double n = 1;
    for (int i = 0; i < v->type.rank; i++) n *= dim(v, i, w);
    return n;
}

static double bytes(const Value *v, const Work *w) {
    enum { BLOCK = 32 }; /* elements: of every type whole bytes */
    size_t n;
    if (!dtype_bytes(v->type.dtype, BLOCK, &n)) die("cost: a block of %s has no size", v->name);
    return count(v, w) / BLOCK * (double)n;
}

static double line(const Value *v, const Work *w) { return bytes(v, w) / dim(v, 0, w); } /* of the first dimension */
static double tokens(const Work *w) { return (double)w->sizes.of[SYM_T]; }
static double least(double a, double b) { return a < b ? a : b; }

double cost_experts(int64_t experts, int64_t topk, int64_t n) {
    return (double)experts * (1 - pow(1 - (double)topk / (double)experts, (double)n));
}

/* --- operations ------------------------------------------------------------------------------------------------------- */

typedef double Flops(const Node *n, const Work *w);

static double per_output(const Node *n, const Work *w) { return count(n->out[0], w); }
static double flops_rmsnorm(const Node *n, const Work *w) { return 4 * count(n->in[0], w); }
static double flops_softmax(const Node *n, const Work *w) { return 4 * count(n->in[0], w); }
static double flops_rope(const Node *n, const Work *w) { return 3 * count(n->in[0], w); }
static double flops_swiglu(const Node *n, const Work *w) { return 6 * count(n->out[0], w); }
static double flops_combine(const Node *n, const Work *w) { return 2 * count(n->in[0], w); }

static double flops_linear(const Node *n, const Work *w) {
    const Value *k = n->in[1];
    return count(n->out[0], w) * (2 * dim(k, k->type.rank - 1, w) + (n->n_in > 2 && n->in[2] != NULL));
}

/* Keys that the tokens of one sequence see, added up. */
static double keys_seen(const Node *n, const Work *w) {
    double sum = 0, each = tokens(w) / (double)w->slots, window = (double)node_int(n, "window");
    for (int64_t i = 0; (double)i < each; i++) {
        double all = (double)(w->depth + i + 1);
        sum += window > 0 ? least(all, window) : all;
    }
    return sum;
}

static double flops_attention(const Node *n, const Work *w) {
    return 4 * dim(n->out[0], 1, w) * keys_seen(n, w) * (double)w->slots; /* q.k and p.v */
}

/* --- bytes read of input i ---------------------------------------------------------------------------------------------- */

typedef double Read(const Node *n, int i, const Work *w);

static double read_whole(const Node *n, int i, const Work *w) { return bytes(n->in[i], w); }

/* last: of a table by slot, one entry a token at most */
static double read_tokens(const Node *n, int i, const Work *w) {
    return i == 1 ? 4 * least(dim(n->in[1], 0, w), tokens(w)) : bytes(n->in[i], w);
}

static double read_embed(const Node *n, int i, const Work *w) {
    return i == 1 ? line(n->in[1], w) * least(dim(n->in[1], 0, w), tokens(w)) : bytes(n->in[i], w);
}

static double read_rows(const Node *n, int i, const Work *w) {
    return i == 0 ? line(n->in[0], w) * least(dim(n->in[0], 0, w), dim(n->in[1], 0, w)) : bytes(n->in[i], w);
}

static double read_slice(const Node *n, int i, const Work *w) {
    return bytes(n->in[i], w) * dim(n->out[0], 1, w) / dim(n->in[i], 1, w);
}

static double read_rope(const Node *n, int i, const Work *w) {
    double positions = least(dim(n->in[2], 0, w), tokens(w) / (double)w->slots); /* the same ones for every sequence */
    return i == 2 ? line(n->in[2], w) * positions : bytes(n->in[i], w);
}

/* The state's element and a token's keys and values; blocks: one entry a page. */
static double kv_line(const Value *state, const Work *w) { return line(state, w) / dim(state, 3, w); }

static double read_kv_write(const Node *n, int i, const Work *w) {
    if (i == 0) return 0;
    return i == 5 ? 4 * tokens(w) : bytes(n->in[i], w);
}

static double read_attention(const Node *n, int i, const Work *w) {
    double each = tokens(w) / (double)w->slots, window = (double)node_int(n, "window"), keys = (double)w->depth + each;
    if (window > 0) keys = least(keys, window - 1 + each);
    if (i == 1) return kv_line(n->in[1], w) * keys * (double)w->slots;
    return i == 5 ? 4 * ceil(keys / dim(n->in[1], 3, w)) * (double)w->slots : bytes(n->in[i], w);
}

static double read_experts(const Node *n, int i, const Work *w) {
    const Value *ids = n->in[3], *of = n->in[1];
    if (i != 1 && i != 2) return bytes(n->in[i], w);
    int64_t experts = (int64_t)dim(of, 0, w);
    return line(n->in[i], w) * cost_experts(experts, (int64_t)dim(ids, 1, w), (int64_t)dim(ids, 0, w));
}

static double read_set_last(const Node *n, int i, const Work *w) { return i ? bytes(n->in[i], w) : 0; }

/* --- the ops -------------------------------------------------------------------------------------------------------------- */

static const struct {
    Flops *flops; /* NULL: none */
    Read *read;   /* NULL: every input whole */
} rows[OP_COUNT] = {
    [OP_tokens] = {NULL, read_tokens},
    [OP_embed] = {NULL, read_embed},
    [OP_rows] = {NULL, read_rows},
    [OP_rmsnorm] = {flops_rmsnorm},
    [OP_linear] = {flops_linear},
    [OP_slice] = {NULL, read_slice},
    [OP_add] = {per_output},
    [OP_mul] = {per_output},
    [OP_scale] = {per_output},
    [OP_rope] = {flops_rope, read_rope},
    [OP_kv_write] = {NULL, read_kv_write},
    [OP_attention] = {flops_attention, read_attention},
    [OP_softmax] = {flops_softmax},
    [OP_expert_linear] = {flops_linear, read_experts},
    [OP_swiglu] = {flops_swiglu},
    [OP_combine] = {flops_combine},
    [OP_set_last] = {NULL, read_set_last},
};

/* What the body's nodes read of its input v: the most that one of them needs, for the rest of them has it at hand. */
static double read_of(const Node *n, int i, const Work *w) {
    double most = 0;
    if (n->op != OP_FUSED) return (rows[n->op].read ? rows[n->op].read : read_whole)(n, i, w);
    int at = 0; /* index among the body's inputs: the node's that are there */
    for (int k = 0; k < i; k++) at += n->in[k] != NULL;
    if (i >= n->n_body_in || (size_t)at >= n->body->inputs.n) return bytes(n->in[i], w); /* group's */
    const Value *v = n->body->inputs.at[at];
    for (size_t k = 0; k < n->body->nodes.n; k++) {
        const Node *b = n->body->nodes.at[k];
        for (int j = 0; j < b->n_in; j++)
            if (b->in[j] == v) most = fmax(most, read_of(b, j, w));
    }
    return most;
}

static double flops_of(const Node *n, const Work *w) {
    double sum = 0;
    if (n->op != OP_FUSED) return rows[n->op].flops ? rows[n->op].flops(n, w) : 0;
    for (size_t k = 0; k < n->body->nodes.n; k++) sum += flops_of(n->body->nodes.at[k], w);
    return sum;
}

/* A state is changed where the step's tokens lie. */
static double written(const Node *n, int out, const Work *w) {
    if (node_state_in(n, out) < 0) return bytes(n->out[out], w);
    const Value *v = n->out[out];
    return v->type.rank == 5 ? kv_line(v, w) * tokens(w) : line(v, w) * (double)w->slots;
}

/* Of a pool, only a page's size is asked for. */
static Work one_page(const Work *w) {
    Work at = *w;
    at.sizes.of[SYM_P] = 1;
    return at;
}

double cost_read(const Node *n, int i, const Work *w) {
    Work at = one_page(w);
    for (int k = 0; k < i; k++)
        if (n->in[k] == n->in[i]) return 0;
    return n->in[i] ? read_of(n, i, &at) : 0;
}

Cost cost_node(const Node *n, const Work *w) {
    Cost c = {.flops = flops_of(n, w)};
    Work at = one_page(w);
    for (int i = 0; i < n->n_in; i++) c.read += cost_read(n, i, w);
    for (int i = 0; i < n->n_out; i++) c.written += written(n, i, &at);
    return c;
}
