/* verify.c - see verify.h. The file may have been made by hand, with a right checksum; so a statement is about what a number means,
 * not about where it came from. docs/plan-verifier.md lists the statements, tests/plan has a plan for each that breaks it.
 * Add a field to the format: say here, in the same commit, what it must be. */
#include "verify.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "fault.h"
#include "ir/map.h"

enum { MAX_GROUPS = 64, MAX_BUFS = 1 << 16 /* that are not temporary: each is allocated */, MAX_TABLE = 1 << 26, TEMP_ALIGN = 256,
       MAX_LIVE = 1 << 13 /* temporaries of an arena at once */, MAX_NODES = 1 << 17 /* of all graphs */, MAX_BODY = 1 << 8, MAX_OF_NODE = 1 << 8 /* launches */ };
static const size_t most_bytes = (size_t)1 << 48;

typedef struct Check Check;
struct Check {
    const Plan *p;
    Arena *tmp;
    PlanFault at;
    Sizes most;            /* the largest T and S; one page */
    Map bufs;              /* name -> index + 1, of all that are not temporary */
    int *group;            /* [n_bufs] KV group of a pool, else -1 */
    int *source;           /* [n_bufs] the weight that a repacked one is made of, else -1 */
    bool **everywhere;     /* [n_graphs][nodes] runs on each device */
    int **in, **out;       /* [n_graphs] buffers of the nodes' values, [nodes * MAX_IN or MAX_OUT]; -1: no value */
    int step, counters;    /* buffers; -1: there is none */
};

/* --- sizes --------------------------------------------------------------------------------------------------------------- */

static bool dim_bytes(Dim d, const Sizes *s, size_t *n) {
    int64_t v;
    if (__builtin_mul_overflow(d.mul, d.sym ? s->of[d.sym] : 0, &v) || __builtin_add_overflow(v, d.add, &v) || v < 0)
        return false;
    return size_mul(*n, (size_t)v, n);
}

/* type_bytes for a type that nobody has checked, at the largest sizes. False: more than any buffer may have. */
static bool bytes_of(const Check *c, const Type *t, size_t *bytes) {
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (!dim_bytes(t->dim[i], &c->most, &n)) return false;
    return dtype_bytes(t->dtype, n, bytes) && *bytes <= most_bytes;
}

static Sizes largest(const Plan *p) {
    Sizes s = {{[SYM_P] = 1}};
    for (int i = 0; i < p->n_graphs; i++) {
        const PlanGraph *g = &p->graphs[i];
        if (g->n_buckets && s.of[g->sym] < g->buckets[g->n_buckets - 1]) s.of[g->sym] = g->buckets[g->n_buckets - 1];
    }
    return s;
}

static bool mentions(const Type *t, Sym sym) {
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i].sym == sym) return true;
    return false;
}

/* --- texts: they are printed, so that a control character could forge a line, and stand in JSON, which is UTF-8 ------------- */

static void verify_path(Check *c, const char *what, const char *s) {
    for (const char *at = s ? s : ""; *at; at++)
        if (control_bytes(at)) FAIL(c, "%s holds a control character", what);
}

static void verify_text(Check *c, const char *what, const char *s) {
    json_t *j = json_string(s);
    verify_path(c, what, s);
    if (!j) FAULT(c, "%s is not UTF-8", what);
    json_decref(j);
}

static void verify_texts(Check *c) {
    const Plan *p = c->p;
    const struct { const char *what, *text; } row[] = {
        {"model_name", p->model_name}, {"arch", p->arch}, {"target_id", p->target_id},
    };
    for (size_t i = 0; i < LEN(row); i++) verify_text(c, row[i].what, row[i].text);
    verify_path(c, "model_path", p->model_path);
    if (strcmp(p->precision, "strict") && strcmp(p->precision, "fast")) FAULT(c, "precision is neither strict nor fast");
}

/* --- limits --------------------------------------------------------------------------------------------------------------- */

static void verify_limits(Check *c) {
    const Plan *p = c->p;
    if (p->max_batch < 1 || p->max_batch > 1 << 20) FAIL(c, "max_batch is %lld", (long long)p->max_batch);
    if (c->most.of[SYM_S] > p->max_batch)
        FAIL(c, "a bucket of %lld rows, max_batch is %lld", (long long)c->most.of[SYM_S], (long long)p->max_batch);
    if (p->max_tokens < 1 || p->max_tokens > c->most.of[SYM_T] || c->most.of[SYM_T] > 1 << 20)
        FAIL(c, "max_tokens is %lld, the largest bucket %lld", (long long)p->max_tokens, (long long)c->most.of[SYM_T]);
    if (p->max_seq < 1 || p->max_seq > p->config.max_seq)
        FAIL(c, "max_seq is %lld, the model's %lld", (long long)p->max_seq, (long long)p->config.max_seq);
    if (p->max_blocks != (p->max_seq + KV_PAGE - 1) / KV_PAGE || p->max_blocks > MAX_TABLE / p->max_batch / (p->n_kv > 1 ? p->n_kv : 1))
        FAIL(c, "max_blocks is %lld for %lld positions of %lld requests", (long long)p->max_blocks, (long long)p->max_seq, (long long)p->max_batch);
    size_t nodes = 0;
    for (size_t i = 0; i < p->program->graphs.n; i++) nodes += p->program->graphs.at[i]->nodes.n;
    if (nodes > MAX_NODES) FAIL(c, "%zu nodes, there may be %d", nodes, MAX_NODES);
    if (p->devices < 1 || p->devices > PLAN_MAX_DEVICES) FAIL(c, "a plan for %lld devices", (long long)p->devices);
    for (int i = 0; i < BUF_HOLDS; i++)
        if (p->arena_of[i] > most_bytes) FAIL(c, "scratch of %zu bytes", p->arena_of[i]);
}

/* The graphs that the executor runs, and how it asks for them: steps of up to max_tokens, heads in slices of their largest bucket,
 * "prepare" once. */
static void verify_buckets(Check *c, const PlanGraph *g) {
    static const struct { const char *name; Sym sym; } known[] = {
        {"prepare", SYM_S}, {"step", SYM_T}, {"sample", SYM_S}, {"logits", SYM_S}};
    size_t k = 0;
    while (k < LEN(known) && strcmp(known[k].name, g->name)) k++;
    if (k == LEN(known)) FAIL(c, "nobody runs a graph \"%s\"", g->name);
    if (!program_graph(c->p->program, g->name)) FAIL(c, "the program has no graph \"%s\"", g->name);
    if (&c->p->graphs[plan_graph(c->p, g->name)] != g) FAIL(c, "two graphs are called \"%s\"", g->name);
    if (g->sym != known[k].sym) FAIL(c, "%s is bounded by the wrong symbol", g->name);
    if (g->n_buckets < 1) FAIL(c, "%s has no bucket", g->name);
    for (int i = 1; i < g->n_buckets; i++)
        if (g->buckets[i] <= g->buckets[i - 1]) FAIL(c, "%s: buckets do not ascend", g->name);
    if (!k && (g->n_buckets != 1 || g->buckets[0] != 1)) FAULT(c, "prepare has buckets");
}

/* --- buffers -------------------------------------------------------------------------------------------------------------- */

static void verify_temp(Check *c, const PlanBuf *b) {
    const Plan *p = c->p;
    size_t end;
    if (!size_add(b->offset, b->size, &end) || end > p->arena_of[b->hold])
        FAIL(c, "%s reaches beyond the scratch arena of %zu bytes", b->name, p->arena_of[b->hold]);
    if (b->offset % TEMP_ALIGN) FAIL(c, "%s begins at %zu, no multiple of %d", b->name, b->offset, TEMP_ALIGN);
    if (b->graph < 0 || b->graph >= p->n_graphs) FAIL(c, "%s belongs to graph %d", b->name, b->graph);
    const Graph *g = program_graph(p->program, p->graphs[b->graph].name);
    if (b->first < 0 || b->last < b->first || (size_t)b->last >= g->nodes.n)
        FAULT(c, "%s lives from node %d to %d of %zu", b->name, b->first, b->last, g->nodes.n);
}

/* An input that the executor writes has the type that it writes; nothing else is called so. One that it does not know is for kernels that
 * are checked alone (gptoss-lab reduces a graph to them): what runs steps refuses it. */
static void verify_input(Check *c, const PlanBuf *b) {
    Err why = {""};
    bool fits = plan_input(c->p, NULL, b->name, &b->type, &why);
    if (b->kind == BUF_INPUT && !fits && plan_input_named(b->name)) FAIL(c, "the plan %s", why.msg);
    if (b->kind != BUF_INPUT && plan_input_named(b->name)) FAIL(c, "%s is the name of an input", b->name);
    if (b->kind != BUF_INPUT || strcmp(b->name, "rope")) return;
    int64_t rows = b->type.dim[0].add, most = c->p->config.max_seq > 1 << 20 ? c->p->config.max_seq : 1 << 20;
    if (rows > most) FAULT(c, "rope has %lld positions, the model %lld", (long long)rows, (long long)c->p->config.max_seq);
}

static void verify_state(Check *c, const PlanBuf *b) {
    const Type *t = &b->type, last = {DT_I32, 1, {dim_const(c->p->max_batch)}};
    if (mentions(t, SYM_T) || mentions(t, SYM_S)) FAIL(c, "state %s lives longer than a step", b->name);
    if (!strcmp(b->name, "last") && !type_eq(t, &last)) FAIL(c, "state last is %s, not one id a slot", type_str(c->tmp, t));
    if (!strcmp(b->name, PLAN_COUNTERS) && (t->dtype != DT_I32 || t->rank != 1)) FAULT(c, "%s is %s", b->name, type_str(c->tmp, t));
}

static void verify_named(Check *c, const PlanBuf *b, int index) {
    const Type *t = &b->type;
    bool steps = mentions(t, SYM_T) || mentions(t, SYM_S);
    if (b->graph != -1 || b->first != -1 || b->last != -1) FAIL(c, "%s is not a temporary but has a live range", b->name);
    if (b->offset) FAIL(c, "%s is not a temporary but has an offset", b->name);
    if (map_get(&c->bufs, b->name)) FAIL(c, "a second buffer is called %s", b->name);
    map_put(&c->bufs, b->name, (void *)(intptr_t)(index + 1));
    if (b->kind != BUF_STATE && mentions(t, SYM_P)) FAIL(c, "%s is no state but counts pages", b->name);
    if ((b->kind == BUF_WEIGHT || b->kind == BUF_PACKED) && (steps || !t->rank)) FAIL(c, "weight %s has no fixed shape", b->name);
    if (b->kind == BUF_WEIGHT && (t->rank > 4 || t->dtype == DT_I32)) FAIL(c, "weight %s is %s", b->name, type_str(c->tmp, t));
    if (b->kind != BUF_STATE && !strcmp(b->name, PLAN_COUNTERS)) FAIL(c, "%s is no state", b->name);
    if (b->kind == BUF_STATE) verify_state(c, b);
    verify_input(c, b);
}

/* Who has the buffer, of a plan for several devices. */
static void verify_hold(Check *c, const PlanBuf *b) {
    const Plan *p = c->p;
    if (p->devices == 1 && (b->hold != HOLD_FIRST || b->share)) FAIL(c, "%s is on several devices, the plan is for one", b->name);
    if (b->hold == HOLD_COMMON && b->kind != BUF_TEMP) FAIL(c, "%s is common to all devices but no temporary", b->name);
    if (b->hold == HOLD_EACH && (b->kind == BUF_LINK || mentions(&b->type, SYM_P))) FAIL(c, "%s is on each device, where nobody keeps it", b->name);
    if (!b->share) return;
    if (b->kind != BUF_WEIGHT || b->hold != HOLD_EACH || b->share < p->devices || b->share > 1 << 20)
        FAIL(c, "%s is dealt out, %lld over %lld devices", b->name, (long long)b->share, (long long)p->devices);
    if (!dim_eq(b->type.dim[0], dim_const((b->share + p->devices - 1) / p->devices)))
        FAULT(c, "%s has %lld of %lld, which are dealt out over %lld devices", b->name, (long long)b->type.dim[0].add, (long long)b->share, (long long)p->devices);
}

static void verify_buf(Check *c, const PlanBuf *b, int index) {
    size_t bytes;
    Err why;
    if (!name_ok(b->name)) FAIL(c, "\"%s\" is no name for a buffer", b->name);
    if (!type_check(&b->type, &why)) FAIL(c, "%s: %s", b->name, why.msg);
    if (!bytes_of(c, &b->type, &bytes)) FAIL(c, "%s: its type overflows", b->name);
    if (b->size != bytes) FAIL(c, "%s has %zu bytes, its type needs %zu", b->name, b->size, bytes);
    if (b->type.dtype == DT_MXFP4 && b->kind != BUF_WEIGHT) FAIL(c, "%s is mxfp4 but no weight", b->name);
    if (b->kind == BUF_TEMP) verify_temp(c, b);
    else verify_named(c, b, index);
    if (!c->at.failed) verify_hold(c, b);
}

/* All that is there at once, pools with a page each. */
static void verify_sum(Check *c) {
    size_t sum = plan_scratch(c->p, 0);
    int n = 0;
    for (int i = 0; i < c->p->n_bufs; i++) {
        if (c->p->bufs[i].kind == BUF_TEMP) continue;
        if (!size_add(sum, c->p->bufs[i].size, &sum) || sum > most_bytes) FAIL(c, "its buffers have more than %zu bytes", most_bytes);
        if (++n > MAX_BUFS) FAIL(c, "more than %d buffers that are not temporary", MAX_BUFS);
    }
}

/* --- temporaries that live at once do not overlap --------------------------------------------------------------------------- */

typedef struct Live Live; /* one graph's temporaries while time goes from node to node */
struct Live {
    const PlanBuf *bufs;
    int *at; /* those that live, by offset: disjoint, so neighbours tell all */
    size_t n;
};

/* How many of them begin before `offset`. */
static size_t live_before(const Live *l, size_t offset) {
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (l->bufs[l->at[mid]].offset < offset) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static bool overlap(const PlanBuf *a, const PlanBuf *b) { return a->offset < b->offset + b->size && b->offset < a->offset + a->size; }

static void live_add(Check *c, Live *l, int buf) {
    const PlanBuf *b = &l->bufs[buf];
    size_t at = live_before(l, b->offset);
    if (l->n == MAX_LIVE) FAIL(c, "more than %d temporaries live at once, with %s", MAX_LIVE, b->name);
    for (size_t k = at ? at - 1 : 0; k <= at && k < l->n; k++)
        if (overlap(b, &l->bufs[l->at[k]])) FAIL(c, "%s and %s live at once in the same bytes", l->bufs[l->at[k]].name, b->name);
    memmove(l->at + at + 1, l->at + at, (l->n++ - at) * sizeof *l->at);
    l->at[at] = buf;
}

static void live_remove(Live *l, int buf) {
    size_t at = live_before(l, l->bufs[buf].offset);
    memmove(l->at + at, l->at + at + 1, (--l->n - at) * sizeof *l->at);
}

/* The graph's temporaries listed by the node `of` gives: those of node n are list[from[n] … from[n + 1]). */
static int *by_node(Check *c, int graph, size_t nodes, size_t offset, int **from) {
    const Plan *p = c->p;
    int *list = arena_array(c->tmp, (size_t)p->n_bufs + 1, sizeof *list), *at = arena_array(c->tmp, nodes + 2, sizeof *at);
#define NODE(b) (*(const int *)((const char *)(b) + offset))
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP && p->bufs[i].graph == graph) at[NODE(&p->bufs[i]) + 2]++;
    for (size_t n = 1; n < nodes + 2; n++) at[n] += at[n - 1];
    for (int i = 0; i < p->n_bufs; i++)
        if (p->bufs[i].kind == BUF_TEMP && p->bufs[i].graph == graph) list[at[NODE(&p->bufs[i]) + 1]++] = i;
#undef NODE
    *from = at;
    return list;
}

static void verify_overlap(Check *c, int graph) {
    const Plan *p = c->p;
    size_t nodes = program_graph(p->program, p->graphs[graph].name)->nodes.n;
    int *first, *last, *born = by_node(c, graph, nodes, offsetof(PlanBuf, first), &first), *dying = by_node(c, graph, nodes, offsetof(PlanBuf, last), &last);
    Live l[BUF_HOLDS]; /* an arena each */
    for (int h = 0; h < BUF_HOLDS; h++) l[h] = (Live){p->bufs, arena_array(c->tmp, MAX_LIVE, sizeof *l->at), 0};
    for (size_t n = 0; n < nodes && !c->at.failed; n++) {
        for (int i = first[n]; i < first[n + 1] && !c->at.failed; i++) live_add(c, &l[p->bufs[born[i]].hold], born[i]);
        for (int i = last[n]; i < last[n + 1] && !c->at.failed; i++) live_remove(&l[p->bufs[dying[i]].hold], dying[i]);
    }
}

/* --- KV groups -------------------------------------------------------------------------------------------------------------- */

static void verify_kv(Check *c, int self) {
    const Plan *p = c->p;
    const PlanKv *k = &p->kv[self];
    int blocks = (int)(intptr_t)map_get(&c->bufs, k->blocks) - 1;
    size_t page = 0;
    Type want = {DT_I32, 2, {dim_const(p->max_batch), dim_const(p->max_blocks)}};
    if (self >= MAX_GROUPS) FAIL(c, "more than %d groups", MAX_GROUPS);
    if (blocks < 0 || p->bufs[blocks].kind != BUF_INPUT || !type_eq(&p->bufs[blocks].type, &want))
        FAIL(c, "block table %s is not an input i32[max_batch,max_blocks]", k->blocks);
    for (int i = 0; i < self; i++)
        if (!strcmp(p->kv[i].blocks, k->blocks)) FAIL(c, "block table %s is of two groups", k->blocks);
    if (k->window < 0 || k->window > INT32_MAX) FAIL(c, "window %lld", (long long)k->window);
    if (k->n_states < 1) FAIL(c, "no state is in the group of %s", k->blocks);
    for (int i = 0; i < k->n_states; i++) {
        int s = k->states[i];
        if (s < 0 || s >= p->n_bufs || p->bufs[s].kind != BUF_STATE) FAIL(c, "state %d is buffer %d", i, s);
        if (!plan_pool(&p->bufs[s].type)) FAIL(c, "%s is not a pool of pages of %d tokens", p->bufs[s].name, KV_PAGE);
        if (c->group[s] >= 0) FAIL(c, "%s is in two groups", p->bufs[s].name);
        c->group[s] = self;
        if (!size_add(page, p->bufs[s].size, &page) || page > most_bytes) FAIL(c, "a page has %zu bytes", page);
    }
}

/* Every pool has its group, every block table too. */
static void verify_grouped(Check *c, const PlanBuf *b, int index) {
    bool table = b->kind == BUF_INPUT && !strncmp(b->name, "blocks.", 7);
    if (mentions(&b->type, SYM_P) && c->group[index] < 0) FAIL(c, "%s is in no group of layers", b->name);
    for (int i = 0; table && i < c->p->n_kv; i++) table = strcmp(c->p->kv[i].blocks, b->name);
    if (table) FAULT(c, "%s is no group's block table", b->name);
}

/* --- kernels ---------------------------------------------------------------------------------------------------------------- */

static void verify_kernel(Check *c, const PlanKernel *k) {
    const Plan *p = c->p;
    if (!*k->symbol || strlen(k->symbol) > PLAN_MAX_SYMBOL || k->symbol[strspn(k->symbol, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.$")])
        FAIL(c, "its symbol is no name");
    if (k->module < 0 || k->module >= p->n_modules) FAIL(c, "%s is in module %d of %d", k->symbol, k->module, p->n_modules);
    if (k->block < 1 || k->block > 1024) FAIL(c, "%s has blocks of %u", k->symbol, k->block);
    if (!(k->nmse >= 0 && isfinite(k->nmse))) FAIL(c, "%s has a tolerance of %g", k->symbol, k->nmse);
    verify_text(c, "its template", k->template_name), verify_text(c, "its reduction", k->reduction);
}

static void verify_choice(Check *c, const PlanChoice *choice) {
    verify_text(c, "what it is of", choice->of), verify_text(c, "what it says", choice->says);
}

/* --- values: which buffer holds each --------------------------------------------------------------------------------------- */

/* A node may use a buffer of its own graph, and a temporary only while that lives. */
static void verify_use(Check *c, int graph, int node, int buf, const char *who) {
    const Plan *p = c->p;
    if (buf < 0 || buf >= p->n_bufs) FAIL(c, "%s: buffer %d of %d", who, buf, p->n_bufs);
    const PlanBuf *b = &p->bufs[buf];
    if (b->kind == BUF_TEMP && b->graph != graph) FAIL(c, "%s uses %s of graph %d", who, b->name, b->graph);
    if (c->everywhere[graph][node] && b->hold == HOLD_FIRST) FAIL(c, "%s runs on each device, %s is on the first", who, b->name);
    if (b->kind == BUF_TEMP && (node < b->first || node > b->last))
        FAULT(c, "%s (node %d) uses %s, which lives from node %d to %d", who, node, b->name, b->first, b->last);
}

typedef struct Values Values; /* of a graph */
struct Values {
    Map buf;    /* name -> buffer + 1 */
    int *owner; /* [n_bufs] the value whose memory it is: its number + 1; 0: none's so far */
    int n;
};

static int value_buf(Check *c, const Values *s, const Value *v) {
    int buf = (int)(intptr_t)map_get(&s->buf, v->name) - 1;
    if (buf == -1) FAULT(c, "value %s has no buffer", v->name);
    else if (buf < 0 || buf >= c->p->n_bufs) FAULT(c, "%s: buffer %d of %d", v->name, buf, c->p->n_bufs);
    else if (!type_eq(&c->p->bufs[buf].type, &v->type))
        FAULT(c, "value %s is %s, its buffer %s", v->name, type_str(c->tmp, &v->type), type_str(c->tmp, &c->p->bufs[buf].type));
    return c->at.failed ? -1 : buf;
}

/* The value has this memory for itself; what outlives a step or comes from without also has its name. */
static void own(Check *c, Values *s, const Value *v, int kinds) {
    int buf = value_buf(c, s, v);
    if (buf < 0) return;
    const PlanBuf *b = &c->p->bufs[buf];
    if (!(kinds >> b->kind & 1)) FAIL(c, "value %s lies in %s, a buffer of kind %s", v->name, b->name, buf_kind_name(b->kind));
    if (b->kind != BUF_TEMP && strcmp(b->name, v->name)) FAIL(c, "value %s lies in buffer %s", v->name, b->name);
    if (s->owner[buf]) FAIL(c, "two values of the graph lie in buffer %s", b->name);
    s->owner[buf] = ++s->n;
}

static void index_values(Check *c, const PlanGraph *pg, Values *s) {
    *s = (Values){.buf = {.arena = c->tmp}, .owner = arena_array(c->tmp, (size_t)c->p->n_bufs + 1, sizeof *s->owner)};
    for (int i = 0; i < pg->n_values && !c->at.failed; i++) {
        const char *name = pg->values[i].name;
        int buf = pg->values[i].buf;
        if (map_get(&s->buf, name)) FAIL(c, "%s: value %s has two buffers", pg->name, name);
        if (buf < 0 || buf >= c->p->n_bufs) FAIL(c, "%s: buffer %d of %d", name, buf, c->p->n_bufs);
        map_put(&s->buf, name, (void *)(intptr_t)(buf + 1));
    }
}

static void own_all(Check *c, Values *s, const ValueList *l, int kinds) {
    for (size_t i = 0; i < l->n && !c->at.failed; i++) own(c, s, l->at[i], kinds);
}

enum { ONE = 1 }; /* kinds are bits */
#define KIND(kind) (ONE << BUF_##kind)

/* A result is computed into memory of its own, or updates a state where it is, or is joined there; what is computed in a body has a
 * size. */
static void verify_result(Check *c, Values *s, const Node *n, int o) {
    const Value *v = n->out[o];
    int state = node_state_in(n, o);
    if (n->op == OP_join && n->in[0]->def && value_buf(c, s, v) == value_buf(c, s, n->in[0]) && !v->is_output) return;
    if (state < 0) {
        own(c, s, v, n->op == OP_repack ? KIND(PACKED) : v->is_output ? KIND(LINK) : KIND(TEMP));
        return;
    }
    int buf = value_buf(c, s, v);
    if (buf >= 0 && (!n->in[state] || buf != value_buf(c, s, n->in[state]) || c->p->bufs[buf].kind != BUF_STATE))
        FAULT(c, "%s updates a state, but lies elsewhere", v->name);
}

static void verify_fused(Check *c, const Node *fused) {
    const Graph *body = fused->body;
    if (!fused->hook) FAIL(c, "%s: the fused node has no hook", node_name(fused));
    if (body->nodes.n > MAX_BODY) FAIL(c, "the body %s has %zu nodes, there may be %d", body->name, body->nodes.n, MAX_BODY);
    for (size_t i = 0; i < body->nodes.n && !c->at.failed; i++) {
        const Node *n = body->nodes.at[i];
        size_t bytes;
        for (int o = 0; o < n->n_out; o++)
            if (!bytes_of(c, &n->out[o]->type, &bytes)) FAIL(c, "%s: its type overflows", n->out[o]->name);
        if (n->op == OP_FUSED) verify_fused(c, n);
    }
}

static void resolve_node(Check *c, const Values *s, int graph, int node, const Node *n) {
    int *in = c->in[graph] + (size_t)node * MAX_IN, *out = c->out[graph] + (size_t)node * MAX_OUT;
    for (int i = 0; i < MAX_IN; i++) {
        in[i] = i < n->n_in && n->in[i] ? value_buf(c, s, n->in[i]) : -1;
        if (in[i] >= 0) verify_use(c, graph, node, in[i], n->in[i]->name);
    }
    for (int i = 0; i < MAX_OUT; i++) {
        out[i] = i < n->n_out ? value_buf(c, s, n->out[i]) : -1;
        if (out[i] >= 0) verify_use(c, graph, node, out[i], n->out[i]->name);
    }
}

static void verify_values(Check *c, int graph) {
    const PlanGraph *pg = &c->p->graphs[graph];
    const Graph *g = program_graph(c->p->program, pg->name);
    Values s;
    c->everywhere[graph] = arena_array(c->tmp, g->nodes.n + 1, sizeof **c->everywhere);
    graph_everywhere(g, c->everywhere[graph]);
    index_values(c, pg, &s);
    own_all(c, &s, &g->inputs, KIND(INPUT) | KIND(LINK));
    own_all(c, &s, &g->params, KIND(WEIGHT));
    own_all(c, &s, &g->states, KIND(STATE));
    for (size_t n = 0; n < g->nodes.n && !c->at.failed; n++)
        for (int o = 0; o < g->nodes.at[n]->n_out && !c->at.failed; o++) verify_result(c, &s, g->nodes.at[n], o);
    c->in[graph] = arena_array(c->tmp, (g->nodes.n + 1) * MAX_IN, sizeof **c->in);
    c->out[graph] = arena_array(c->tmp, (g->nodes.n + 1) * MAX_OUT, sizeof **c->out);
    for (size_t n = 0; n < g->nodes.n && !c->at.failed; n++) {
        resolve_node(c, &s, graph, (int)n, g->nodes.at[n]);
        if (g->nodes.at[n]->op == OP_FUSED) verify_fused(c, g->nodes.at[n]);
    }
}

/* --- the graphs' part in the plan ------------------------------------------------------------------------------------------- */

/* "prepare" repacks weights, each alone, and does nothing else; no other graph does. */
static void verify_prepare(Check *c, int graph) {
    const Graph *g = program_graph(c->p->program, c->p->graphs[graph].name);
    bool prepare = !strcmp(g->name, "prepare");
    for (size_t n = 0; n < g->nodes.n; n++) {
        const Node *node = g->nodes.at[n];
        if (!prepare && node->op == OP_repack) FAIL(c, "%s repacks a weight in graph %s", node_name(node), g->name);
        if (!prepare) continue;
        if (node->op != OP_repack || node->in[0]->kind != VALUE_PARAM) FAIL(c, "prepare computes %s, which is no repacked weight", node_name(node));
        c->source[c->out[graph][n * MAX_OUT]] = c->in[graph][n * MAX_IN];
    }
}

/* What the host reads of a head, and where it excludes ids: docs/formats.md's widths. */
static void verify_head(Check *c, const Graph *g) {
    const Value *v = plan_result(g);
    Dim vocab = dim_const(c->p->config.vocab);
    bool ids = !strcmp(g->name, "sample");
    if (!v) FAIL(c, "graph %s gives no %s", g->name, ids ? "ids i32[S]" : "logits f32[S,vocabulary]");
    if (v->kind != VALUE_NODE || node_state_in(v->def, v->index) >= 0) FAIL(c, "%s does not compute its result %s", g->name, v->name);
    if (!ids && !dim_eq(v->type.dim[1], vocab)) FAIL(c, "graph logits gives %s, the vocabulary is %lld", type_str(c->tmp, &v->type), (long long)c->p->config.vocab);
    for (size_t n = 0; n < g->nodes.n; n++) {
        const Node *node = g->nodes.at[n];
        if (node->op != OP_sample) continue;
        const Type want = {DT_F32, 2, {dim_sym(SYM_S), vocab}};
        if (!type_eq(&node->in[0]->type, &want)) FAIL(c, "%s samples from %s, the vocabulary is %lld", node_name(node), type_str(c->tmp, &node->in[0]->type), (long long)c->p->config.vocab);
    }
}

/* An input is written before the graph runs. */
static void verify_inputs(Check *c, const Graph *g) {
    for (size_t i = 0; i < g->inputs.n && !c->at.failed; i++) {
        const Value *v = g->inputs.at[i];
        Err why;
        int buf = (int)(intptr_t)map_get(&c->bufs, v->name) - 1;
        if (buf >= 0 && c->p->bufs[buf].kind == BUF_INPUT && plan_input_named(v->name) && !plan_input(c->p, g->name, v->name, &v->type, &why)) FAULT(c, "graph %s %s", g->name, why.msg);
    }
}

/* --- pages: an op finds a pool's by its group's table, within its window ------------------------------------------------------ */

typedef struct Scope Scope; /* the body of a node */
struct Scope {
    Map buf; /* value -> the buffer that it is, or was before it was updated, + 1; not of what is computed */
};

static int scope_buf(const Scope *s, const Value *v) { return (int)(intptr_t)map_get_ptr(&s->buf, v) - 1; }

/* up: the body that n is in; NULL: n is one of the graph's, and `in` are its inputs' buffers. */
static Scope scope_of(Check *c, const Scope *up, const Node *n, const int *in) {
    Scope s = {{.arena = c->tmp}};
    for (int i = 0, k = 0; i < n->n_body_in; i++) {
        if (!n->in[i]) continue;
        int buf = up ? scope_buf(up, n->in[i]) : in[i];
        map_put_ptr(&s.buf, n->body->inputs.at[k++], (void *)(intptr_t)(buf + 1));
    }
    return s;
}

/* A state's successor lies where the state does. */
static void scope_follow(Scope *s, const Node *n) {
    for (int o = 0; o < n->n_out; o++) {
        int k = node_state_in(n, o);
        if (k >= 0) map_put_ptr(&s->buf, n->out[o], map_get_ptr(&s->buf, n->in[k]));
    }
}

static void verify_window(Check *c, const Node *n, const PlanKv *kv) {
    int64_t window = n->op == OP_attention ? node_int(n, "window") : 1;
    if (kv->window && (!window || window > kv->window))
        FAULT(c, "%s has a window of %lld, the group of %s keeps %lld", node_name(n), (long long)window, kv->blocks, (long long)kv->window);
}

static void verify_pages(Check *c, const Scope *s, const Node *n, const int *in) {
    int pool = n->op == OP_attention; /* which input */
    if (n->op == OP_FUSED) {
        Scope inside = scope_of(c, s, n, in);
        for (size_t i = 0; i < n->body->nodes.n && !c->at.failed; i++) verify_pages(c, &inside, n->body->nodes.at[i], NULL), scope_follow(&inside, n->body->nodes.at[i]);
        return;
    }
    if (!pool && n->op != OP_kv_write) return;
    int state = s ? scope_buf(s, n->in[pool]) : in[pool], table = s ? scope_buf(s, n->in[5]) : in[5];
    int group = state < 0 ? -1 : c->group[state];
    if (group < 0) FAIL(c, "%s: its state is no pool of pages", node_name(n));
    const PlanKv *kv = &c->p->kv[group];
    if (table < 0 || strcmp(c->p->bufs[table].name, kv->blocks))
        FAIL(c, "%s finds the pages of %s by another table than %s", node_name(n), c->p->bufs[state].name, kv->blocks);
    verify_window(c, n, kv);
}

/* P is one number for a node: that of the group whose pools it reads. */
static void verify_node(Check *c, int graph, int node, const Node *n) {
    const int *in = c->in[graph] + (size_t)node * MAX_IN;
    int group = -1;
    for (int i = 0; i < n->n_in; i++) {
        int of = in[i] < 0 ? -1 : c->group[in[i]];
        if (of >= 0 && group >= 0 && of != group) FAIL(c, "%s reads pools of two groups", node_name(n));
        if (of >= 0) group = of;
    }
    verify_pages(c, NULL, n, in);
}

/* --- launches --------------------------------------------------------------------------------------------------------------- */

/* A launch is given what its node reads and writes, and what is the node's alone; a repacked weight stands for the weight. */
static bool belongs(const Check *c, int graph, const PlanLaunch *l, int buf) {
    const int *in = c->in[graph] + (size_t)l->node * MAX_IN, *out = c->out[graph] + (size_t)l->node * MAX_OUT;
    const PlanBuf *b = &c->p->bufs[buf];
    if (buf == c->step || buf == c->counters) return true;
    if (b->kind == BUF_TEMP && b->first == l->node && b->last == l->node) return true;
    for (int i = 0; i < MAX_IN; i++)
        if (in[i] >= 0 && (in[i] == buf || (b->kind == BUF_PACKED && in[i] == c->source[buf]))) return true;
    for (int i = 0; i < MAX_OUT; i++)
        if (out[i] == buf) return true;
    return false;
}

/* But for a few, every workgroup has at least a byte to read or write; so the time of a launch has a bound. (A value made of weights
 * alone is computed by a grid of the bucket's rows, most of which have nothing to do.) */
static void verify_grid(Check *c, int graph, const PlanLaunch *l) {
    const PlanKernel *k = &c->p->kernels[l->kernel];
    size_t bytes = 0;
    for (int i = 0; i < l->n_args; i++)
        if (l->args[i] >= 0) bytes += c->p->bufs[l->args[i]].size;
    for (int b = 0; b < c->p->graphs[graph].n_buckets; b++) {
        const uint32_t *g = l->grid[b];
        uint64_t blocks = (uint64_t)g[0] * g[1]; /* g[1] and g[2] are below 2^16 */
        if ((uint64_t)g[0] * k->block > UINT32_MAX || g[1] > UINT16_MAX || g[2] > UINT16_MAX || blocks * g[2] > bytes + UINT16_MAX)
            FAIL(c, "%s: a grid of %u by %u by %u blocks for %zu bytes", k->symbol, g[0], g[1], g[2], bytes);
        if (l->lds[b] > k->lds) FAIL(c, "%s: %u bytes of shared memory, at most %u", k->symbol, l->lds[b], k->lds);
    }
}

static void verify_launch(Check *c, int graph, const Graph *g, const PlanLaunch *l) {
    const Plan *p = c->p;
    if (l->kernel < 0 || l->kernel >= p->n_kernels) FAIL(c, "a launch of kernel %d of %d", l->kernel, p->n_kernels);
    const PlanKernel *k = &p->kernels[l->kernel];
    if (l->node < 0 || (size_t)l->node >= g->nodes.n) FAIL(c, "%s computes node %d of %zu", k->symbol, l->node, g->nodes.n);
    if (l->n_args < 1 || c->step < 0 || l->args[0] != c->step) FAIL(c, "%s: its first argument is not the step", k->symbol);
    if (c->everywhere[graph][l->node] && p->bufs[c->step].hold != HOLD_EACH) FAIL(c, "%s runs on each device, step is on the first", k->symbol);
    for (int i = 1; i < l->n_args && !c->at.failed; i++) {
        if (l->args[i] == -1) continue;
        verify_use(c, graph, l->node, l->args[i], k->symbol);
        if (!c->at.failed && !belongs(c, graph, l, l->args[i])) FAULT(c, "%s: %s is nothing that its node %s reads or writes", k->symbol, p->bufs[l->args[i]].name, node_name(g->nodes.at[l->node]));
    }
    if (!c->at.failed) verify_grid(c, graph, l);
}

/* Nothing is to be done where a join's result is its input. */
static bool is_in_place(const Check *c, int graph, const Graph *g, int node) {
    return g->nodes.at[node]->op == OP_join && c->in[graph][node * MAX_IN] == c->out[graph][node * MAX_OUT];
}

/* The first node from `next` on that a launch must compute. */
static int must_come(const Check *c, int graph, const Graph *g, int next) {
    while ((size_t)next < g->nodes.n && is_in_place(c, graph, g, next)) next++;
    return next;
}

/* Where devices run side by side, what is common is nobody else's from the first to the last of their nodes. */
static void verify_common(Check *c, int graph) {
    const bool *each = c->everywhere[graph];
    for (int i = 0; i < c->p->n_bufs; i++) {
        const PlanBuf *b = &c->p->bufs[i];
        if (b->kind != BUF_TEMP || b->hold != HOLD_COMMON || b->graph != graph) continue;
        if ((each[b->first] && b->first && each[b->first - 1]) || (each[b->last] && each[b->last + 1]))
            FAIL(c, "%s is common to all devices and lives from node %d to %d, within what they run side by side", b->name, b->first, b->last);
    }
}

/* In the order of the nodes; where there are kernels, no node is left out. */
static void verify_launches(Check *c, int graph, const Graph *g) {
    const PlanGraph *pg = &c->p->graphs[graph];
    int next = 0; /* the node that must come */
    for (int i = MAX_OF_NODE; i < pg->n_launches; i++)
        if (pg->launches[i].node == pg->launches[i - MAX_OF_NODE].node) FAIL(c, "%s: node %d has more than %d launches", pg->name, pg->launches[i].node, MAX_OF_NODE);
    for (int i = 0; i < pg->n_launches && !c->at.failed; i++) {
        const PlanLaunch *l = &pg->launches[i];
        verify_launch(c, graph, g, l);
        if (c->at.failed) return;
        if (l->node < next - 1) FAIL(c, "%s: launches are not in the order of their nodes", pg->name);
        if (l->node > must_come(c, graph, g, next)) FAIL(c, "%s: no launch computes node %s", pg->name, node_name(g->nodes.at[must_come(c, graph, g, next)]));
        next = l->node + 1;
    }
    next = must_come(c, graph, g, next);
    if (c->p->n_kernels && (size_t)next < g->nodes.n) FAULT(c, "%s: no launch computes node %s", pg->name, node_name(g->nodes.at[next]));
}

static void verify_graph(Check *c, int graph) {
    const PlanGraph *pg = &c->p->graphs[graph];
    const Graph *g = program_graph(c->p->program, pg->name);
    if (!strcmp(pg->name, "sample") || !strcmp(pg->name, "logits")) verify_head(c, g);
    verify_inputs(c, g);
    verify_common(c, graph);
    for (size_t n = 0; n < g->nodes.n && !c->at.failed; n++) verify_node(c, graph, (int)n, g->nodes.at[n]);
    if (!c->at.failed) verify_launches(c, graph, g);
}

/* --- all --------------------------------------------------------------------------------------------------------------------- */

static int named(const Check *c, const char *name) { return (int)(intptr_t)map_get(&c->bufs, name) - 1; }

static void verify_all(Check *c) {
    const Plan *p = c->p;
    char where[300];
#define EACH(field, count, check)                                                                                      \
    c->at.list = #field;                                                                                                  \
    for (int i = 0; i < p->count && !c->at.failed; i++) {                                                                 \
        c->at.item = i;                                                                                                   \
        check;                                                                                                         \
    }                                                                                                                  \
    c->at.list = NULL
    if (p->n_modules > PLAN_MAX_MODULES || p->n_kernels > PLAN_MAX_KERNELS) FAULT(c, "%d modules and %d kernels", p->n_modules, p->n_kernels);
    verify_texts(c);
    snprintf(where, sizeof where, "%s: damaged plan: config", c->at.path);
    if (!c->at.failed && !model_config_check(&p->config, where, c->at.e)) c->at.failed = true;
    EACH(graphs, n_graphs, verify_buckets(c, &p->graphs[i]));
    if (!c->at.failed && plan_graph(p, "step") < 0) FAULT(c, "there is no graph step");
    if (!c->at.failed && (size_t)p->n_graphs != p->program->graphs.n) FAULT(c, "the program has %zu graphs, the plan %d", p->program->graphs.n, p->n_graphs);
    c->most = largest(p);
    if (!c->at.failed) verify_limits(c);
    EACH(bufs, n_bufs, verify_buf(c, &p->bufs[i], i));
    if (!c->at.failed) verify_sum(c);
    c->step = named(c, "step"), c->counters = named(c, PLAN_COUNTERS);
    EACH(modules, n_modules, verify_text(c, "its name", p->modules[i].name));
    EACH(rules, n_rules, verify_text(c, "its name", p->rules[i].name));
    EACH(choices, n_choices, verify_choice(c, &p->choices[i]));
    EACH(kernels, n_kernels, verify_kernel(c, &p->kernels[i]));
    EACH(kv, n_kv, verify_kv(c, i));
    EACH(bufs, n_bufs, verify_grouped(c, &p->bufs[i], i));
    EACH(graphs, n_graphs, verify_overlap(c, i));
    EACH(graphs, n_graphs, verify_values(c, i));
    EACH(graphs, n_graphs, verify_prepare(c, i));
    EACH(graphs, n_graphs, verify_graph(c, i));
#undef EACH
}

bool plan_verify(const Plan *p, const char *path, Err *e) {
    Check c = {.p = p, .tmp = arena_new(), .at = {.path = path, .e = e}};
    size_t n = (size_t)p->n_bufs + 1, graphs = (size_t)p->n_graphs + 1;
    c.bufs.arena = c.tmp;
    c.group = arena_array(c.tmp, n, sizeof *c.group), c.source = arena_array(c.tmp, n, sizeof *c.source);
    memset(c.group, -1, n * sizeof *c.group), memset(c.source, -1, n * sizeof *c.source);
    c.everywhere = arena_array(c.tmp, graphs, sizeof *c.everywhere);
    c.in = arena_array(c.tmp, graphs, sizeof *c.in), c.out = arena_array(c.tmp, graphs, sizeof *c.out);
    verify_all(&c);
    arena_free(c.tmp);
    return !c.at.failed;
}
