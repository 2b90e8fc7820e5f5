/* infer.c - the table of ops, from ops.def, and each op's shape rule.
 *
 * infer_<op> checks the types of a node's inputs and its attributes and writes the types of its outputs. The messages are
 * read by authors of graphs: they name the op, the input by its name in ops.def, what is there and what is expected.
 * Add an op: a row in ops.def, infer_<op> here, ref_<op> in ref.c. */
#include <stdlib.h>

#include "graph.h"
#include "sampling.h"

/* --- saying what is wrong ----------------------------------------------------------------------------------------- */

typedef struct Str Str; /* short text by value, for messages */
struct Str {
    char s[200];
};

static Str dim_text(Dim d) {
    Arena *a = arena_new();
    Type t = {DT_F32, 1, {d}};
    char *full = type_str(a, &t); /* f32[…] */
    Str r;
    snprintf(r.s, sizeof r.s, "%.*s", (int)strlen(full) - 5, full + 4);
    arena_free(a);
    return r;
}

static Str type_text(const Type *t) {
    Arena *a = arena_new();
    Str r;
    snprintf(r.s, sizeof r.s, "%s", type_str(a, t));
    arena_free(a);
    return r;
}

static Str in_name(const Node *n, int i) {
    const char *l = op_info(n->op)->in_names;
    for (; i; i--) l += strcspn(l, " "), l += strspn(l, " ");
    Str r;
    snprintf(r.s, sizeof r.s, "%.*s", (int)strcspn(l, " "), l);
    return r;
}

#define fail(n, e, fmt, ...) err_set(e, "%s: " fmt, op_info((n)->op)->name, __VA_ARGS__)

enum { F32 = 1 << DT_F32, BF16 = 1 << DT_BF16, I32 = 1 << DT_I32, MXFP4 = 1 << DT_MXFP4, FLOATS = F32 | BF16, WEIGHT = FLOATS | MXFP4 };

/* Input i has one of the element types in `mask`, and rank `rank` (-1: any but 0). */
static bool want(const Node *n, int i, int mask, int rank, Err *e) {
    const Type *t = &n->in[i]->type;
    if (!(mask >> t->dtype & 1)) {
        char list[64] = "";
        for (int d = 0; d < DT_COUNT; d++)
            if (mask >> d & 1) snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? " or " : "", dtype_name((DType)d));
        return fail(n, e, "%s is %s, expects %s", in_name(n, i).s, type_text(t).s, list);
    }
    if (rank >= 0 ? t->rank != rank : t->rank < 1)
        return fail(n, e, "%s is %s, expects %d dimension%s", in_name(n, i).s, type_text(t).s, rank < 0 ? 1 : rank, rank == 1 ? "" : rank < 0 ? " or more" : "s");
    return true;
}

/* Dimension k of input i (from the end when negative). */
static Dim dim(const Node *n, int i, int k) {
    const Type *t = &n->in[i]->type;
    return t->dim[k < 0 ? t->rank + k : k];
}

/* Dimension ki of input i equals dimension kj of input j. */
static bool same(const Node *n, int i, int ki, int j, int kj, Err *e) {
    if (dim_eq(dim(n, i, ki), dim(n, j, kj))) return true;
    return fail(n, e, "%s is %s, which does not fit %s %s (%s against %s)", in_name(n, i).s, type_text(&n->in[i]->type).s, in_name(n, j).s,
                type_text(&n->in[j]->type).s, dim_text(dim(n, i, ki)).s, dim_text(dim(n, j, kj)).s);
}

/* Dimension k of input i is a number, not a symbol: *d. */
static bool fixed(const Node *n, int i, int k, int64_t *d, Err *e) {
    Dim x = dim(n, i, k);
    *d = x.add;
    return dim_is_const(x) || fail(n, e, "%s is %s, expects a number in place of %s", in_name(n, i).s, type_text(&n->in[i]->type).s, dim_text(x).s);
}

static bool positive(const Node *n, const char *attr, Err *e) {
    int64_t v = node_int(n, attr);
    return v > 0 || fail(n, e, "attribute %s is %lld, must be at least 1", attr, (long long)v);
}

/* The output: dtype d, the dimensions given. */
#define RESULT(n, k, d, ...)                                                                                      \
    do {                                                                                                          \
        const Dim dims_[] = {__VA_ARGS__};                                                                        \
        Type t_ = {.dtype = (d), .rank = (int)LEN(dims_)};                                                        \
        memcpy(t_.dim, dims_, sizeof dims_);                                                                      \
        (n)->out[k]->type = t_;                                                                                   \
    } while (0)

/* --- reading the step's input --- */

static bool infer_tokens(Node *n, Err *e) {
    if (!want(n, 0, I32, 1, e) || !want(n, 1, I32, 1, e)) return false;
    RESULT(n, 0, DT_I32, dim(n, 0, 0));
    return true;
}

static bool infer_embed(Node *n, Err *e) {
    if (!want(n, 0, I32, 1, e) || !want(n, 1, FLOATS, 2, e)) return false;
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim(n, 1, 1));
    return true;
}

static bool infer_rows(Node *n, Err *e) {
    if (!want(n, 0, FLOATS, 2, e) || !want(n, 1, I32, 1, e)) return false;
    RESULT(n, 0, n->in[0]->type.dtype, dim(n, 1, 0), dim(n, 0, 1));
    return true;
}

/* --- dense --- */

static bool infer_rmsnorm(Node *n, Err *e) {
    if (!want(n, 0, F32, 2, e) || !want(n, 1, F32, 1, e)) return false;
    if (!dim_eq(dim(n, 0, 1), dim(n, 1, 0)))
        return fail(n, e, "input is %s wide, g expects %s", dim_text(dim(n, 0, 1)).s, dim_text(dim(n, 1, 0)).s);
    if (!(node_float(n, "eps") >= 0)) return fail(n, e, "attribute eps is %g, must not be negative", node_float(n, "eps"));
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim(n, 0, 1));
    return true;
}

static bool infer_linear(Node *n, Err *e) {
    if (!want(n, 0, FLOATS, 2, e) || !want(n, 1, WEIGHT, 2, e)) return false;
    if (!dim_eq(dim(n, 0, 1), dim(n, 1, 1)))
        return fail(n, e, "input is %s wide, weight expects %s", dim_text(dim(n, 0, 1)).s, dim_text(dim(n, 1, 1)).s);
    if (n->n_in > 2 && n->in[2]) {
        if (!want(n, 2, F32, 1, e)) return false;
        if (!dim_eq(dim(n, 2, 0), dim(n, 1, 0)))
            return fail(n, e, "bias has %s elements, weight gives %s", dim_text(dim(n, 2, 0)).s, dim_text(dim(n, 1, 0)).s);
    }
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim(n, 1, 0));
    return true;
}

static bool infer_slice(Node *n, Err *e) {
    int64_t width, offset = node_int(n, "offset"), take = node_int(n, "width");
    if (!want(n, 0, FLOATS, 2, e) || !fixed(n, 0, 1, &width, e) || !positive(n, "width", e)) return false;
    if (offset < 0 || offset > width || take > width - offset)
        return fail(n, e, "takes %lld elements from %lld on, the input is %lld wide", (long long)take, (long long)offset, (long long)width);
    RESULT(n, 0, n->in[0]->type.dtype, dim(n, 0, 0), dim_const(take));
    return true;
}

/* --- elementwise --- */

static bool same_or_row(Node *n, Err *e) {
    if (!want(n, 0, F32, -1, e) || !want(n, 1, F32, -1, e)) return false;
    const Type *a = &n->in[0]->type, *b = &n->in[1]->type;
    bool row = b->rank == 1 && dim_eq(dim(n, 0, -1), b->dim[0]);
    if (!type_eq(a, b) && !row) return fail(n, e, "a is %s, b is %s: expects the same shape or one row", type_text(a).s, type_text(b).s);
    n->out[0]->type = *a;
    return true;
}

static bool infer_add(Node *n, Err *e) { return same_or_row(n, e); }
static bool infer_mul(Node *n, Err *e) { return same_or_row(n, e); }

static bool infer_scale(Node *n, Err *e) {
    if (!want(n, 0, F32, -1, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

/* The element type that attribute `attr` names: f32 or bf16. */
static bool float_attr(const Node *n, const char *attr, DType *d, Err *e) {
    const char *s = node_str(n, attr);
    if (dtype_parse(s, d) && (*d == DT_F32 || *d == DT_BF16)) return true;
    return fail(n, e, "attribute %s is \"%s\", must be \"f32\" or \"bf16\"", attr, s);
}

static bool infer_cast(Node *n, Err *e) {
    DType to;
    if (!want(n, 0, FLOATS, -1, e) || !float_attr(n, "to", &to, e)) return false;
    n->out[0]->type = n->in[0]->type;
    n->out[0]->type.dtype = to;
    return true;
}

/* --- attention --- */

/* Input i is as long as input 0 has rows: i32[T]. */
static bool per_token(const Node *n, int i, int rows_of, Err *e) {
    return want(n, i, I32, 1, e) && same(n, i, 0, rows_of, 0, e);
}

static bool infer_rope(Node *n, Err *e) {
    int64_t width, half, d = node_int(n, "head_dim");
    if (!want(n, 0, F32, 2, e) || !per_token(n, 1, 0, e) || !want(n, 2, F32, 3, e) || !positive(n, "head_dim", e)) return false;
    if (!fixed(n, 0, 1, &width, e) || !fixed(n, 2, 1, &half, e)) return false;
    if (d % 2 || width % d) return fail(n, e, "input is %lld wide, no multiple of an even head_dim (%lld)", (long long)width, (long long)d);
    if (half != d / 2 || !dim_eq(dim(n, 2, 2), dim_const(2)))
        return fail(n, e, "table is %s, expects f32[positions,%lld,2] for head_dim %lld", type_text(&n->in[2]->type).s, (long long)d / 2, (long long)d);
    n->out[0]->type = n->in[0]->type;
    return true;
}

/* Input i is a KV cache [P,2,NKV,page,D]; nkv and d are read from it. */
static bool kv_state(const Node *n, int i, int64_t *nkv, int64_t *d, Err *e) {
    int64_t page;
    if (!want(n, i, FLOATS, 5, e) || !fixed(n, i, 2, nkv, e) || !fixed(n, i, 3, &page, e) || !fixed(n, i, 4, d, e)) return false;
    if (dim_eq(dim(n, i, 1), dim_const(2))) return true;
    return fail(n, e, "%s is %s, expects [P,2,kv heads,page,head_dim]", in_name(n, i).s, type_text(&n->in[i]->type).s);
}

static bool infer_kv_write(Node *n, Err *e) {
    int64_t nkv, d;
    if (!kv_state(n, 0, &nkv, &d, e)) return false;
    for (int i = 1; i <= 2; i++) {
        if (!want(n, i, 1 << n->in[0]->type.dtype, 2, e)) return false;
        if (!dim_eq(dim(n, i, 1), dim_const(nkv * d)))
            return fail(n, e, "%s is %s wide, state expects %lld heads of %lld", in_name(n, i).s, dim_text(dim(n, i, 1)).s, (long long)nkv, (long long)d);
    }
    if (!same(n, 2, 0, 1, 0, e) || !per_token(n, 3, 1, e) || !per_token(n, 4, 1, e) || !want(n, 5, I32, 2, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

static bool infer_attention(Node *n, Err *e) {
    int64_t nkv, d, width;
    DType p;
    if (!want(n, 0, FLOATS, 2, e) || !kv_state(n, 1, &nkv, &d, e) || !fixed(n, 0, 1, &width, e)) return false;
    if (width % (nkv * d))
        return fail(n, e, "q is %lld wide, no multiple of the state's %lld heads of %lld", (long long)width, (long long)nkv, (long long)d);
    if (!want(n, 2, F32, 1, e)) return false;
    if (!dim_eq(dim(n, 2, 0), dim_const(width / d)))
        return fail(n, e, "sinks has %s elements, q has %lld heads", dim_text(dim(n, 2, 0)).s, (long long)(width / d));
    if (!per_token(n, 3, 0, e) || !per_token(n, 4, 0, e) || !want(n, 5, I32, 2, e) || !float_attr(n, "p", &p, e)) return false;
    if (node_int(n, "window") < 0) return fail(n, e, "attribute window is %lld, must not be negative", (long long)node_int(n, "window"));
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim_const(width));
    return true;
}

/* --- experts --- */

static bool infer_topk(Node *n, Err *e) {
    int64_t width, k = node_int(n, "k");
    if (!want(n, 0, F32, 2, e) || !fixed(n, 0, 1, &width, e) || !positive(n, "k", e)) return false;
    if (k > width) return fail(n, e, "k is %lld, the input is only %lld wide", (long long)k, (long long)width);
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim_const(k));
    RESULT(n, 1, DT_I32, dim(n, 0, 0), dim_const(k));
    return true;
}

static bool infer_softmax(Node *n, Err *e) {
    if (!want(n, 0, F32, 2, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

static bool infer_group(Node *n, Err *e) {
    int64_t r, experts = node_int(n, "experts");
    if (!want(n, 0, I32, 2, e) || !fixed(n, 0, 1, &r, e) || !positive(n, "experts", e) || !positive(n, "tile", e)) return false;
    if (experts > 1 << 20) return fail(n, e, "attribute experts is %lld, too large", (long long)experts);
    if (node_int(n, "tile") > 1 << 20) return fail(n, e, "attribute tile is %lld, too large", (long long)node_int(n, "tile"));
    Dim pairs = dim(n, 0, 0);
    pairs.mul *= r;
    pairs.add *= r;
    RESULT(n, 0, DT_I32, pairs);
    pairs.add += experts;
    RESULT(n, 1, DT_I32, pairs, dim_const(4));
    return true;
}

static bool infer_expert_linear(Node *n, Err *e) {
    int x_rank = n->in[0]->type.rank == 3 ? 3 : 2;
    if (!want(n, 0, FLOATS, x_rank, e) || !want(n, 1, WEIGHT, 3, e) || !want(n, 2, F32, 2, e) || !want(n, 3, I32, 2, e)) return false;
    if (!dim_eq(dim(n, 0, -1), dim(n, 1, 2)))
        return fail(n, e, "input is %s wide, weight expects %s", dim_text(dim(n, 0, -1)).s, dim_text(dim(n, 1, 2)).s);
    if (!same(n, 2, 0, 1, 0, e) || !same(n, 2, 1, 1, 1, e) || !same(n, 3, 0, 0, 0, e)) return false;
    if (x_rank == 3 && !same(n, 3, 1, 0, 1, e)) return false;
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim(n, 3, 1), dim(n, 1, 1));
    return true;
}

static bool infer_swiglu(Node *n, Err *e) {
    if (!want(n, 0, F32, -1, e)) return false;
    int64_t width;
    if (!fixed(n, 0, -1, &width, e)) return false;
    if (width % 2) return fail(n, e, "input is %lld wide, expects pairs of gate and up", (long long)width);
    Type t = n->in[0]->type;
    t.dim[t.rank - 1] = dim_const(width / 2);
    n->out[0]->type = t;
    return true;
}

static bool infer_combine(Node *n, Err *e) {
    if (!want(n, 0, F32, 3, e) || !want(n, 1, F32, 2, e) || !same(n, 1, 0, 0, 0, e) || !same(n, 1, 1, 0, 1, e)) return false;
    RESULT(n, 0, DT_F32, dim(n, 0, 0), dim(n, 0, 2));
    return true;
}

/* --- several devices --- */

static bool infer_own(Node *n, Err *e) {
    if (!want(n, 0, I32, 2, e) || !want(n, 1, I32, 1, e) || !positive(n, "experts", e)) return false;
    if (!dim_eq(dim(n, 1, 0), dim_const(2))) return fail(n, e, "share is i32[%s], must be i32[2]", dim_text(dim(n, 1, 0)).s);
    n->out[0]->type = n->in[0]->type;
    return true;
}

static bool infer_fetch(Node *n, Err *e) {
    int rank = n->in[0]->type.rank == 3 ? 3 : 2;
    if (!want(n, 0, FLOATS, rank, e) || !want(n, 1, I32, 2, e) || !same(n, 1, 0, 0, 0, e) || !positive(n, "experts", e)) return false;
    if (rank == 3 && !same(n, 1, 1, 0, 1, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

static bool infer_join(Node *n, Err *e) {
    if (!want(n, 0, FLOATS, -1, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

/* --- head --- */

static bool infer_sample(Node *n, Err *e) {
    if (!want(n, 0, F32, 2, e)) return false;
    if (!dim_is_const(dim(n, 0, 1)) || dim(n, 0, 1).add > SAMPLING_MAX_VOCAB)
        return fail(n, e, "logits is %s, expects at most %d columns", type_text(&n->in[0]->type).s, SAMPLING_MAX_VOCAB);
    if (n->n_in > 1 && n->in[1]) {
        if (!want(n, 1, I32, 2, e) || !same(n, 1, 0, 0, 0, e)) return false;
        if (!dim_eq(dim(n, 1, 1), dim_const(SAMPLING_WORDS)))
            return fail(n, e, "params is %s, expects %d columns", type_text(&n->in[1]->type).s, SAMPLING_WORDS);
    }
    RESULT(n, 0, DT_I32, dim(n, 0, 0));
    return true;
}

static bool infer_set_last(Node *n, Err *e) {
    if (!want(n, 0, I32, 1, e) || !want(n, 1, I32, 1, e) || !want(n, 2, I32, 1, e) || !same(n, 2, 0, 1, 0, e)) return false;
    n->out[0]->type = n->in[0]->type;
    return true;
}

/* --- made by the compiler --- */

static bool infer_repack(Node *n, Err *e) {
    const Type *w = &n->in[0]->type;
    int64_t wave = node_int(n, "wave"), pairs = node_int(n, "pairs"), head = node_int(n, "head"), experts = 1;
    if ((w->dtype != DT_BF16 && w->dtype != DT_MXFP4) || w->rank < 2 || w->rank > 3) return fail(n, e, "w is %s, expects bf16 or mxfp4 of 2 or 3 dimensions", type_text(w).s);
    for (int i = 0; i < w->rank; i++)
        if (!dim_is_const(w->dim[i])) return fail(n, e, "w is %s, expects constant dimensions", type_text(w).s);
    if ((wave != 32 && wave != 64) || pairs < 0 || pairs > 2) return fail(n, e, "no layout for waves of %lld, pairs %lld", (long long)wave, (long long)pairs);
    int64_t rows = w->dim[w->rank - 2].add, k = w->dim[w->rank - 1].add, unit = 2 * wave;
    if ((pairs && rows % 2) || (pairs == 2 && (head < 2 || head % 2 || rows % head))) return fail(n, e, "%lld rows do not fall into pairs", (long long)rows);
    if (w->rank == 3) experts = w->dim[0].add;
    int64_t bytes = w->dtype == DT_BF16 ? 32 * unit : 8 * unit + unit / 2;
    RESULT(n, 0, DT_I32, dim_const(experts * ((rows + 15) / 16) * ((k + unit - 1) / unit) * (bytes / 4)));
    return true;
}

/* --- made by fusion: types are the body's --- */

static bool infer_FUSED(Node *n, Err *e) {
    const Graph *b = n->body;
    if (!b) return fail(n, e, "%s", "has no body");
    if (n->n_kernel_in < 0 || n->n_kernel_in > n->n_body_in || n->n_body_in > n->n_in) return fail(n, e, "%s", "its counts of inputs do not ascend");
    size_t k = 0;
    for (int i = 0; i < n->n_body_in; i++) {
        const Value *x = n->in[i];
        if (!x) continue;
        if (k == b->inputs.n) return fail(n, e, "the node has more inputs than its body (%zu)", b->inputs.n);
        if (!type_eq(&x->type, &b->inputs.at[k]->type))
            return fail(n, e, "input %s is %s, the body's %s is %s", x->name, type_text(&x->type).s, b->inputs.at[k]->name, type_text(&b->inputs.at[k]->type).s);
        k++;
    }
    if (k != b->inputs.n || b->params.n || b->states.n) return fail(n, e, "the body has %zu inputs, the node has %zu", b->inputs.n + b->params.n + b->states.n, k);
    if (b->outputs.n != (size_t)n->n_out || !n->n_out) return fail(n, e, "the body has %zu outputs, the node has %d", b->outputs.n, n->n_out);
    for (int i = 0; i < n->n_out; i++) n->out[i]->type = b->outputs.at[i]->type;
    return true;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static const OpInfo table[OP_COUNT] = {
#define OP(name, min_in, max_in, n_out, flags, in_names, operands, out_names, attrs, doc)                         \
    [OP_##name] = {#name, min_in, max_in, n_out, flags, in_names, operands, out_names, attrs, doc, infer_##name},
#include "ops.def"
#undef OP
};

const OpInfo *op_info(Op op) { return &table[op]; }

bool op_find(const char *name, Op *op) {
    for (int i = 0; i < OP_COUNT; i++)
        if (!strcmp(table[i].name, name)) return *op = (Op)i, true;
    return false;
}

/* The i-th of a list of words, "" past the last. */
static const char *nth(const char *s, int i) {
    for (; i && *s; i--) s += strcspn(s, " "), s += strspn(s, " ");
    return s;
}

/* Puts what an attribute's text says behind "name:t=" or "/" into a. */
static void attr_value(Arena *arena, Attr *a, const char *value, size_t n) {
    const char *s = arena_strndup(arena, value, n);
    if (a->type == ATTR_INT) a->i = strtoll(s, NULL, 10);
    if (a->type == ATTR_FLOAT) a->f = strtod(s, NULL);
    if (a->type == ATTR_STR) a->s = s;
}

bool op_attr(Arena *arena, Op op, int i, Attr *a, bool *required) {
    const char *s = nth(table[op].attrs, i);
    if (!*s) return false;
    size_t n = strcspn(s, ":"), end = strcspn(s, " ");
    if (n + 1 >= end) die("ops.def: attributes of %s: %s", table[op].name, table[op].attrs);
    char type = s[n + 1];
    const char *value = n + 2 < end && s[n + 2] == '=' ? s + n + 3 : NULL;
    *required = !value;
    *a = (Attr){.name = arena_strndup(arena, s, n), .type = type == 'i' ? ATTR_INT : type == 'f' ? ATTR_FLOAT : ATTR_STR};
    if (value) attr_value(arena, a, value, strcspn(value, " /"));
    return true;
}

bool op_attr_fast(Arena *arena, Op op, int i, Attr *a) {
    bool required;
    if (!op_attr(arena, op, i, a, &required)) return false;
    const char *s = nth(table[op].attrs, i);
    size_t n = strcspn(s, " /");
    if (s[n] != '/') return false;
    attr_value(arena, a, s + n + 1, strcspn(s + n + 1, " "));
    return true;
}

static bool operand_word(Operand *o, const char *word, size_t n) {
    static const char *const bit[] = {
#define X(e, word) word,
        OPERAND_WORDS(X)
#undef X
    };
    static const char *const meaning[] = {"-",
#define X(e, word) word,
                                          OPERAND_MEANINGS(X)
#undef X
    };
    size_t name = 0;
    while (name < n && word[name] != '=') name++;
    for (size_t i = 0; i < LEN(bit); i++)
        if (strlen(bit[i]) == n && !strncmp(bit[i], word, n)) return o->flags |= 1 << i, true;
    for (size_t i = 0; i < LEN(meaning); i++)
        if (strlen(meaning[i]) == name && !strncmp(meaning[i], word, name)) {
            o->means = (Meaning)i;
            if (name < n) snprintf(o->below, sizeof o->below, "%.*s", (int)(n - name - 1), word + name + 1);
            return (o->means == MEANS_BELOW) == (name < n);
        }
    return false;
}

Operand op_operand(Op op, int i) {
    Operand o = {0};
    const char *s = nth(table[op].operands, i), *end = s + strcspn(s, " ");
    for (size_t n; s < end; s += n + (s + n < end)) {
        n = strcspn(s, " ,");
        if (!operand_word(&o, s, n)) die("ops.def: %s: input %d: no word \"%.*s\"", table[op].name, i + 1, (int)n, s);
    }
    return o;
}

int op_input(Op op, const char *name) {
    for (int i = 0; i < table[op].max_in; i++) {
        const char *s = nth(table[op].in_names, i);
        if (*s && strcspn(s, " ") == strlen(name) && !strncmp(s, name, strlen(name))) return i;
    }
    return -1;
}

const char *op_input_name(Arena *a, Op op, int i) {
    const char *s = nth(table[op].in_names, i);
    return *s ? arena_strndup(a, s, strcspn(s, " ")) : NULL;
}
