/* makeup.c - what the self-test feeds a node. What an input means stands in its reader's row of ir/ops.def.
 *
 * The rows of activations (T or S of them) are of several kinds, in turn: of size 1, tiny (an epsilon shows), large, of few
 * values (ties), all zero, with one outlier. Weights and biases are of size 1.
 * Add a meaning: a word in ir/graph.h, its function in `integers` here. */
#include "makeup.h"
#include "ir/sampling.h"

#include <inttypes.h>
#include <math.h>

enum { SLOTS = 4, FIRST_POSITION = 58, APART = 37 }; /* positions cross a page and a small window */
static const int64_t MANY = 4096, MOST_DRAWN = 1 << 26; /* numbers of a row that are drawn until all differ; times all rows' */
enum { FAR = 900 };                                  /* further on, attention has several chunks */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* --- numbers ------------------------------------------------------------------------------------------------------------- */

static uint64_t draw(Makeup *m) { /* splitmix64 */
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int32_t draw_below(Makeup *m, int64_t n) { return (int32_t)(draw(m) % (uint64_t)least(n, INT32_MAX)); }
static float draw_float(Makeup *m) { return (float)(draw(m) >> 40) * 0x1p-23f - 1; }

typedef struct Kind Kind;
struct Kind {
    float size;
    bool ties, outlier;
};
static const Kind kinds[] = {{1, 0, 0}, {1e-3f, 0, 0}, {1e3f, 0, 0},  {1, 1, 0},
                             {0, 0, 0}, {1, 0, 1},     {0.03f, 0, 0}, {30, 0, 0}};

static void put(Tensor *t, int64_t i, float v) {
    if (t->dtype == DT_F32) ((float *)t->data)[i] = v;
    else ((uint16_t *)t->data)[i] = bf16_of_f32(v);
}

static void fill_row(Makeup *m, Tensor *t, int64_t at, int64_t n, const Kind *k, Meaning means) {
    float size = means == MEANS_WIDE ? 12 : means == MEANS_TIES ? 8 : 1;
    bool ties = k->ties || means == MEANS_TIES;
    for (int64_t i = at; i < at + n; i++) {
        float v = draw_float(m) * size;
        put(t, i, (ties ? roundf(4 * v) / 4 : v) * k->size);
    }
    if (k->outlier) put(t, at + draw_below(m, n), 1e4f);
}

static void fill_floats(Makeup *m, const Value *v, Tensor *t, Meaning means) {
    bool rows = v->type.rank && (v->type.dim[0].sym == SYM_T || v->type.dim[0].sym == SYM_S);
    int64_t n = tensor_count(t), width = rows && t->dim[0] ? n / t->dim[0] : n;
    for (int64_t at = 0, row = m->first; at < n; at += width, row++)
        fill_row(m, t, at, width, &kinds[rows ? row % (int64_t)LEN(kinds) : 0], means);
}

static void fill_mxfp4(Makeup *m, Tensor *t) {
    size_t n = (size_t)tensor_count(t);
    uint8_t *at = t->data;
    for (size_t i = 0; i < n / 2; i += 8) {
        uint64_t x = draw(m);
        memcpy(at + i, &x, 8);
    }
    for (size_t i = 0; i < n / 32; i++) at[n / 2 + i] = (uint8_t)(118 + draw(m) % 6);
}

/* --- integers ------------------------------------------------------------------------------------------------------------ */

typedef struct Ints Ints; /* an i32 value and who reads it */
struct Ints {
    const Node *reader;
    Operand what;
    Tensor *t;
    int64_t width; /* of a row */
};

static int32_t a_token(Makeup *m, const Ints *x, int64_t i) {
    (void)x, (void)i;
    return draw_below(m, m->plan->config.vocab);
}
static int32_t a_source(Makeup *m, const Ints *x, int64_t i) {
    return draw(m) % 3 ? a_token(m, x, i) : -1 - draw_below(m, m->plan->max_batch);
}

/* Slots take turns; in each, positions ascend. But the step's first token is far from the others, or, when it is alone, in one trial. */
static int32_t a_slot(Makeup *m, const Ints *x, int64_t i) { return (void)x, (int32_t)(i % m->slots); }
static int32_t a_position(Makeup *m, const Ints *x, int64_t i) {
    int64_t room = least(m->pages * KV_PAGE, m->plan->max_seq);
    if (i == 0 && m->far && (m->sizes.of[SYM_T] > 1 || m->first == 2)) return (int32_t)m->far;
    return (int32_t)((a_slot(m, x, i) * APART + FIRST_POSITION + i / m->slots) % room);
}

/* Pages in no order; 7 or 11 shares no factor with their number. */
static int32_t a_page(Makeup *m, const Ints *x, int64_t i) {
    int64_t row = i / x->width, column = i % x->width, n = m->slots * m->pages, stride = n % 7 ? 7 : n % 11 ? 11 : 1;
    return row < m->slots && column < m->pages ? (int32_t)((column * m->slots + row) * stride % n) : -1;
}

/* Rows so long, or so many, that what looks at all numbers before one would take long. */
static bool is_much(const Ints *x) { return x->width > MANY || tensor_count(x->t) > MOST_DRAWN / x->width; }

/* In a plan for several devices a third of the ids that may be none are; all but the first of all, and those for which a row has no
 * other left. */
static bool is_none(Makeup *m, const Ints *x, int64_t i, int64_t n) {
    int64_t there = 0;
    if (!(x->what.flags & OPERAND_NONE) || m->plan->devices == 1 || !i || is_much(x)) return false;
    for (int64_t k = i / x->width * x->width; k < i; k++) there += ((const int32_t *)x->t->data)[k] >= 0;
    return there >= n || draw(m) % 3 == 0;
}

static int64_t bound(const Makeup *m, const Ints *x) {
    int of = op_input(x->reader->op, x->what.below);
    return of >= 0 ? dim_eval(x->reader->in[of]->type.dim[0], &m->sizes) : node_int(x->reader, x->what.below);
}

static int32_t below(Makeup *m, const Ints *x, int64_t i) {
    int64_t n = bound(m, x);
    const int32_t *at = x->t->data;
    if (is_none(m, x, i, n)) return EXPERT_NONE;
    if (x->what.flags & OPERAND_DISTINCT && is_much(x)) return (int32_t)(i % x->width);
    for (;;) {
        int32_t v = draw_below(m, n);
        int64_t k = x->what.flags & OPERAND_DISTINCT ? i / x->width * x->width : i;
        while (k < i && at[k] != v) k++;
        if (k == i) return v;
    }
}

/* A row's record: greedy, plain, and every filter in turn. */
static int32_t a_sampling(Makeup *m, const Ints *x, int64_t i) {
    static const Sampling all[] = {{.top_p = 1},
                                   {1, 0, 1, 0, 0, 0, 0},
                                   {0.7f, 40, 1, 0, 0, 0, 0},
                                   {2, 0, 0.9f, 0, 0, 0, 0},
                                   {1.5f, 0, 1, 0.1f, 0, 0, 0},
                                   {3, 300, 0.5f, 0.01f, 0, 0, 0}};
    int64_t row = i / x->width;
    int32_t words[SAMPLING_WORDS];
    Sampling s = all[row % (int64_t)LEN(all)];
    s.seed = 0x123456789abcdefull, s.request = (uint32_t)row, s.position = (uint32_t)(row * 7 + 1);
    sampling_write(&s, words);
    return (void)m, words[i % x->width % SAMPLING_WORDS];
}

/* The second third of the experts; of two, the first. */
static int32_t a_share(Makeup *m, const Ints *x, int64_t i) {
    int64_t n = node_int(x->reader, "experts");
    return (void)m, (int32_t)(i ? (n + 2) / 3 : n / 3);
}

static int32_t (*const integers[])(Makeup *m, const Ints *x, int64_t i) = {
    [MEANS_TOKEN] = a_token,       [MEANS_SOURCE] = a_source, [MEANS_BELOW] = below,         [MEANS_SLOT] = a_slot,
    [MEANS_POSITION] = a_position, [MEANS_PAGES] = a_page,    [MEANS_SAMPLING] = a_sampling,
    [MEANS_SHARE] = a_share,
};

static bool fill_ints(Makeup *m, const Ints *x, const Value *v, Err *e) {
    Meaning means = x->what.means;
    if (!x->reader) return err_set(e, "cannot make up %s: nothing reads it", v->name);
    if ((size_t)means >= LEN(integers) || !integers[means])
        return err_set(e, "cannot make up %s: ir/ops.def does not say what the integers that %s reads mean", v->name,
                       op_info(x->reader->op)->name);
    if (x->what.flags & OPERAND_DISTINCT && (bound(m, x) < x->width || x->width > INT32_MAX))
        return err_set(e, "cannot make up %s: %" PRId64 " different numbers below %" PRId64, v->name, x->width, bound(m, x));
    int32_t *at = x->t->data;
    for (int64_t i = 0, n = tensor_count(x->t); i < n; i++) at[i] = integers[means](m, x, i);
    return true;
}

/* --- who reads a value --------------------------------------------------------------------------------------------------- */

static bool find_reader(const Node *n, const Value *v, Ints *x) {
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] != v) continue;
        x->reader = n, x->what = op_operand(n->op, i);
        if (x->what.means != MEANS_NUMBERS) return true;
    }
    return false;
}

/* The op that v goes to, in the node's body; one that says what it means, if any does. */
static Ints reader_of(const Node *n, const Value *v) {
    Ints x = {0};
    if (n->op != OP_FUSED) return find_reader(n, v, &x), x;
    size_t b = 0;
    for (int i = 0; i < n->n_body_in; i++) {
        if (!n->in[i]) continue;
        const Value *inner = n->body->inputs.at[b++];
        for (size_t k = 0; n->in[i] == v && k < n->body->nodes.n; k++)
            if (find_reader(n->body->nodes.at[k], inner, &x)) return x;
    }
    return x;
}

int makeup_none(const Makeup *m) {
    for (int i = 0; i < m->node->n_in && m->plan->devices > 1; i++)
        if (m->node->in[i] && reader_of(m->node, m->node->in[i]).what.flags & OPERAND_NONE) return i;
    return -1;
}

bool makeup_fill(Makeup *m, int input, Tensor *t, Err *e) {
    const Value *v = m->node->in[input];
    uint64_t salt = v->kind == VALUE_PARAM ? 0 : (uint64_t)m->sizes.of[SYM_T] << 16 ^ (uint64_t)(m->first + 1) << 8;
    m->random = m->seed ^ salt << 8 ^ (uint64_t)input;
    m->random = draw(m);
    Ints x = reader_of(m->node, v);
    x.t = t, x.width = t->rank ? t->dim[t->rank - 1] : 1;
    if (t->dtype == DT_I32) return fill_ints(m, &x, v, e);
    if (t->dtype == DT_MXFP4) fill_mxfp4(m, t);
    else fill_floats(m, v, t, x.what.means);
    return true;
}

/* --- a step -------------------------------------------------------------------------------------------------------------- */

static int value_number(const Graph *g, const Value *v) {
    for (size_t i = 0; i < g->inputs.n; i++)
        if (g->inputs.at[i] == v) return (int)i;
    for (size_t i = 0; i < g->nodes.n; i++)
        if (g->nodes.at[i] == v->def) return (int)(g->inputs.n + i * MAX_OUT) + v->index;
    return -1;
}

static void describe_node(Text *t, Arena *a, const Node *n, const Graph *body) {
    text_add(t, "%s", op_info(n->op)->name);
    for (int i = 0; i < n->n_attr; i++)
        text_add(t, " %s=%" PRId64 ",%.17g,%s", n->attr[i].name, n->attr[i].i, n->attr[i].f,
                 n->attr[i].s ? n->attr[i].s : "");
    for (int i = 0; i < n->n_in; i++)
        text_add(t, " %s:%d", n->in[i] ? type_str(a, &n->in[i]->type) : "nil",
                 body && n->in[i] ? value_number(body, n->in[i]) : i);
    text_add(t, "\n");
}

/* The node without its values' names: what it computes, and by which kernel. */
static uint64_t identity(const Node *n, const char *name) {
    Text t = {0};
    Arena *a = arena_new();
    text_add(&t, "%s\n", name);
    describe_node(&t, a, n, NULL);
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++)
        describe_node(&t, a, n->body->nodes.at[i], n->body);
    uint64_t h = hash64(t.at, t.n);
    arena_free(a);
    text_free(&t);
    return h;
}

/* Of the rows, no more than a plan's graphs of this symbol have: its types need not have a size beyond. */
static int64_t rows_of(const Plan *p, Sym sym, int64_t rows) {
    int64_t most = 1;
    for (int i = 0; i < p->n_graphs; i++) {
        const PlanGraph *g = &p->graphs[i];
        if (g->sym == sym && g->buckets[g->n_buckets - 1] > most) most = g->buckets[g->n_buckets - 1];
    }
    return least(rows, most);
}

/* As few sequences as leave each token its own position in half of the room. */
Makeup makeup_begin(const Plan *p, const Node *n, const char *name, int64_t rows, int64_t first, uint64_t seed) {
    Makeup m = {.plan = p, .node = n, .first = first};
    int64_t half = p->max_seq / 2 > 0 ? p->max_seq / 2 : 1;
    m.slots = (rows + half - 1) / half;
    m.slots = least(m.slots > SLOTS ? m.slots : SLOTS, p->max_batch);
    int64_t far = FIRST_POSITION + APART * (SLOTS - 1) + (rows + m.slots - 1) / m.slots;
    if (far < p->max_seq - 1) far = m.far = least(far + FAR, p->max_seq - 1);
    m.pages = least(far / KV_PAGE + 1, (p->max_seq + KV_PAGE - 1) / KV_PAGE);
    m.sizes = (Sizes){{[SYM_T] = rows_of(p, SYM_T, rows), [SYM_S] = rows_of(p, SYM_S, rows), [SYM_P] = m.slots * m.pages}};
    m.seed = identity(n, name) ^ seed * 0x9e3779b97f4a7c15u;
    return m;
}

int64_t makeup_most_rows(const Plan *p) {
    return p->max_seq < INT64_MAX / p->max_batch ? p->max_seq * p->max_batch : INT64_MAX;
}
