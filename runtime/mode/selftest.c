/* selftest.c - --self-test: every distinct kernel of a plan on the device, on random inputs, against its node's reference.
 *
 * No checkpoint is needed. Each kernel runs at T = 1 and at a T that fills several tiles and none exactly. Outputs are poisoned
 * first: an element that still holds the poison was not written, which is a failure unless the device runs a sample of the
 * blocks only (--sample, emu). A line per kernel and T: "ok NAME …" or "FAIL NAME: why".
 *
 * Tolerance: the template's nmse. Where the result is then rounded to bf16, a relative error r makes about r / 2^-8 of the
 * elements round the other way, each by 2^-8: nmse + sqrt(nmse) * 2^-8, and one such element is always granted. */
#include "selftest.h"
#include "ir/cli.h"
#include "ir/ref.h"
#include "ir/sampling.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { SLOTS = 4, SLOT_PAGES = 20, POISON = 0xA5 };

typedef struct Check Check;
struct Check {
    const Plan *plan;
    Device *dev;
    DeviceModule **modules; /* [n_modules], loaded when first needed */
    void **beside;          /* [n_bufs]: what the node's launches use beside its values, while it is checked */
    const SelftestOptions *o;
    uint64_t random;
    int ok, failed;
};

/* --- random inputs that mean something ---------------------------------------------------------------------------------------- */

static uint64_t draw(Check *c) { /* splitmix64 */
    uint64_t z = c->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static float draw_float(Check *c, float scale) { return ((float)(draw(c) >> 40) * 0x1p-23f - 1) * scale; }

static void fill_floats(Check *c, Tensor *t, float scale) {
    int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        float v = draw_float(c, scale);
        if (t->dtype == DT_F32) ((float *)t->data)[i] = v;
        else ((uint16_t *)t->data)[i] = bf16_of_f32(v);
    }
}

static void fill_mxfp4(Check *c, Tensor *t) {
    size_t n = (size_t)tensor_count(t);
    uint8_t *at = t->data;
    for (size_t i = 0; i < n / 2; i += 8) {
        uint64_t x = draw(c);
        memcpy(at + i, &x, 8);
    }
    for (size_t i = 0; i < n / 32; i++) at[n / 2 + i] = (uint8_t)(118 + draw(c) % 6);
}

/* What an i32 value is for: the op and input index that read it. */
static bool reader_of(const Node *n, const Value *v, Op *op, int *index) {
    if (n->op != OP_FUSED) {
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] == v) return *op = n->op, *index = i, true;
        return false;
    }
    size_t b = 0;
    for (int i = 0; i < n->n_body_in; i++) {
        if (!n->in[i]) continue;
        const Value *inner = n->body->inputs.at[b++];
        if (n->in[i] != v) continue;
        for (size_t k = 0; k < n->body->nodes.n; k++)
            if (reader_of(n->body->nodes.at[k], inner, op, index)) return true;
    }
    return false;
}

/* The token t of a step: slots take turns; positions ascend from one that crosses a page and a small window; of the
 * first slot from one beyond two chunks of attention. */
static int64_t slot_of(const Check *c, int64_t t) {
    return t % (c->plan->max_batch < SLOTS ? c->plan->max_batch : SLOTS);
}
static int64_t pos_of(const Check *c, int64_t t) {
    int64_t slots = c->plan->max_batch < SLOTS ? c->plan->max_batch : SLOTS;
    int64_t room = c->plan->max_seq < SLOT_PAGES * KV_PAGE ? c->plan->max_seq : SLOT_PAGES * KV_PAGE;
    return ((slot_of(c, t) ? slot_of(c, t) * 37 + 58 : room * 6 / 7) + t / slots) % room;
}

static void fill_distinct(Check *c, int32_t *row, int64_t n, int64_t below) {
    for (int64_t i = 0; i < n; i++) {
        bool again = true;
        while (again) {
            row[i] = (int32_t)(draw(c) % (uint64_t)below);
            again = false;
            for (int64_t k = 0; k < i; k++) again |= row[k] == row[i];
        }
    }
}

/* A row's record: greedy, plain, and every filter in turn. */
static void fill_sampling(int32_t *words, int64_t row) {
    static const Sampling kinds[] = {{.top_p = 1},
                                     {1, 0, 1, 0, 0, 0, 0},
                                     {0.7f, 40, 1, 0, 0, 0, 0},
                                     {2, 0, 0.9f, 0, 0, 0, 0},
                                     {1.5f, 0, 1, 0.1f, 0, 0, 0},
                                     {3, 300, 0.5f, 0.01f, 0, 0, 0}};
    Sampling s = kinds[row % (int64_t)LEN(kinds)];
    s.seed = 0x123456789abcdefull, s.request = (uint32_t)row, s.position = (uint32_t)(row * 7 + 1);
    sampling_write(&s, words);
}

static bool fill_ints(Check *c, const Node *n, const Value *v, Tensor *t, const Sizes *s) {
    Op op;
    int index;
    int32_t *at = t->data;
    int64_t count = tensor_count(t);
    if (!reader_of(n, v, &op, &index)) return false;
    const Node *reader = node_of_op(n, op);
    int64_t vocab = c->plan->config.vocab;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = t->rank == 2 ? i / t->dim[1] : i, column = t->rank == 2 ? i % t->dim[1] : 0;
        switch (op) {
        case OP_tokens: at[i] = (int32_t)(draw(c) % (uint64_t)vocab); break;
        case OP_embed: at[i] = (int32_t)(draw(c) % (uint64_t)reader->in[1]->type.dim[0].add); break;
        case OP_rows: at[i] = (int32_t)(draw(c) % (uint64_t)s->of[SYM_T]); break;
        case OP_set_last: at[i] = index == 2 ? (int32_t)i : (int32_t)(draw(c) % (uint64_t)vocab); break;
        case OP_rope: at[i] = (int32_t)pos_of(c, i); break;
        case OP_sample:
            if (column == 0) fill_sampling(at + i, row);
            break;
        case OP_group:
        case OP_expert_linear:
            if (column == 0)
                fill_distinct(c, at + i, t->dim[1],
                              op == OP_group ? node_int(reader, "experts") : reader->in[1]->type.dim[0].add);
            break;
        case OP_kv_write:
        case OP_attention:
            if (index == 3) at[i] = (int32_t)slot_of(c, i);
            else if (index == 4) at[i] = (int32_t)pos_of(c, i);
            else
                at[i] = row < SLOTS && column < SLOT_PAGES
                            ? (int32_t)((column * SLOTS + row) * 5 % (SLOTS * SLOT_PAGES))
                            : -1;
            break;
        default: return false;
        }
    }
    return true;
}

static bool fill(Check *c, const Node *n, const Value *v, Tensor *t, const Sizes *s, Err *e) {
    Op op = OP_COUNT;
    int index;
    if (t->dtype == DT_MXFP4) return fill_mxfp4(c, t), true;
    if (t->dtype == DT_I32) return fill_ints(c, n, v, t, s) || err_set(e, "cannot make up %s", v->name);
    float scale = 1;
    if (reader_of(n, v, &op, &index) && op == OP_swiglu) scale = 12; /* beyond the clamp */
    if (op == OP_sample) scale = 8;                                  /* logits of some spread */
    fill_floats(c, t, scale);
    for (int64_t i = 0, count = tensor_count(t); op == OP_sample && i < count; i++) /* with ties */
        ((float *)t->data)[i] = roundf(4 * ((float *)t->data)[i]) / 4;
    return true;
}

/* --- one node ------------------------------------------------------------------------------------------------------------------ */

typedef struct Side Side; /* one value of the node: host tensors and device memory */
struct Side {
    Tensor in, want; /* in: also what the device got; want: the reference's result (outputs, state) */
    void *device;
    size_t bytes;
};

static bool make_side(Check *c, const Value *v, const Sizes *s, Side *x, Err *e) {
    x->in = tensor_of(&v->type, s, NULL);
    if (!dtype_bytes(x->in.dtype, (size_t)tensor_count(&x->in), &x->bytes))
        return err_set(e, "%s has no size", v->name);
    x->in.data = malloc(x->bytes + 8);
    if (!x->in.data) return err_set(e, "out of memory for %s", v->name);
    x->device = c->dev->ops->alloc(c->dev, x->bytes, v->name, e);
    return x->device != NULL;
}

static void free_side(Check *c, Side *x) {
    if (x->want.data != x->in.data) free(x->want.data);
    free(x->in.data);
    if (x->device) c->dev->ops->free(c->dev, x->device);
}

/* perm and tiles come from the group node before this one. */
static bool fill_group(const Node *n, Side *in, const Sizes *s, int threads, Err *e) {
    for (int i = n->n_body_in; i < n->n_in; i += 2) {
        const Node *group = n->in[i]->def;
        if (!group || group->op != OP_group) return err_set(e, "%s: no group node", n->in[i]->name);
        int ids = 0;
        while (ids < n->n_body_in && n->in[ids] != group->in[0]) ids++;
        if (ids == n->n_body_in) return err_set(e, "%s groups other ids", group->in[0]->name);
        Tensor out[2] = {in[i].in, in[i + 1].in};
        if (!ref_node(group, &in[ids].in, out, s, threads, e)) return false;
    }
    return true;
}

static bool upload(Check *c, const Side *x, Err *e) {
    return c->dev->ops->upload(c->dev, 0, x->device, x->in.data, x->bytes, e);
}

/* What launches hand on to each other, workspace, counters. NULL: the buffer is something else. */
static void *beside(Check *c, int buf, Err *e) {
    const PlanBuf *b = &c->plan->bufs[buf];
    void **at = &c->beside[buf];
    if (b->kind != BUF_TEMP && strcmp(b->name, PLAN_COUNTERS)) return NULL;
    if (*at || !(*at = c->dev->ops->alloc(c->dev, b->size, b->name, e))) return *at;
    if (b->kind == BUF_STATE && !c->dev->ops->fill(c->dev, 0, *at, 0, b->size, e)) return NULL;
    return *at;
}

static void free_beside(Check *c) {
    for (int i = 0; i < c->plan->n_bufs; i++) {
        if (c->beside[i]) c->dev->ops->free(c->dev, c->beside[i]);
        c->beside[i] = NULL;
    }
}

/* Kernels leave zeros in the counters; of a sampled one, the block that would may not have run. */
static bool counters_zero(Check *c, Err *e) {
    int buf = plan_buf(c->plan, PLAN_COUNTERS);
    if (buf < 0 || !c->beside[buf] || c->o->sample) return true;
    size_t n = c->plan->bufs[buf].size / sizeof(int32_t);
    int32_t *at = malloc(n * sizeof *at);
    bool ok =
        at ? c->dev->ops->download(c->dev, 0, at, c->beside[buf], n * sizeof *at, e) && c->dev->ops->sync(c->dev, 0, e)
           : err_set(e, "out of memory");
    for (size_t i = 0; ok && i < n; i++)
        if (at[i]) ok = err_set(e, "counter %zu is left at %d", i, at[i]);
    free(at);
    return ok;
}

static bool launch_all(Check *c, const PlanGraph *pg, int node, int64_t rows, void *step, const Node *n, const Side *in,
                       const Side *out, Err *e) {
    const Plan *p = c->plan;
    int bucket = 0;
    while (bucket < pg->n_buckets - 1 && pg->buckets[bucket] < rows) bucket++;
    for (int l = 0; l < pg->n_launches; l++) {
        const PlanLaunch *launch = &pg->launches[l];
        const PlanKernel *k = &p->kernels[launch->kernel];
        if (launch->node != node || !launch->grid[bucket][0]) continue;
        void *args[PLAN_MAX_ARGS] = {0};
        for (int a = 0; a < launch->n_args; a++) {
            if (launch->args[a] < 0) continue;
            const char *name = p->bufs[launch->args[a]].name;
            if (!strcmp(name, "step")) args[a] = step;
            for (int i = 0; i < n->n_in; i++)
                if (n->in[i] && plan_value(pg, n->in[i]->name) == launch->args[a]) args[a] = in[i].device;
            for (int i = 0; i < n->n_out; i++)
                if (plan_value(pg, n->out[i]->name) == launch->args[a]) args[a] = out[i].device;
            if (!args[a]) args[a] = beside(c, launch->args[a], e);
            if (!args[a] && *e->msg) return false;
            if (!args[a]) return err_set(e, "argument %d (%s) is no value of the node", a, name);
        }
        DeviceModule **m = &c->modules[k->module];
        if (!*m && !(*m = c->dev->ops->module_load(c->dev, &p->modules[k->module], e))) return false;
        DeviceKernel *dk = c->dev->ops->kernel(c->dev, *m, k, e);
        if (!dk || !c->dev->ops->launch(c->dev, 0, dk, launch->grid[bucket], k->block, launch->lds[bucket], args, launch->n_args, e))
            return false;
    }
    return c->dev->ops->sync(c->dev, 0, e) && counters_zero(c, e);
}

/* Elements that still hold the poison. In a sampled run they are set to what is wanted, and not compared. */
static int64_t unwritten(const Tensor *got, const Tensor *want) {
    int64_t n = tensor_count(got), left = 0;
    size_t size = got->dtype == DT_BF16 ? 2 : 4;
    char poison[4];
    memset(poison, POISON, sizeof poison);
    for (int64_t i = 0; i < n; i++) {
        char *at = (char *)got->data + (size_t)i * size;
        if (memcmp(at, poison, size)) continue;
        memcpy(at, (const char *)want->data + (size_t)i * size, size);
        left++;
    }
    return left;
}

/* Entries of perm and tiles beyond the step's pairs are never written. */
static bool may_stay(const Node *n) { return n->op == OP_group; }

static bool compare(Check *c, const Node *n, const PlanKernel *k, const Side *out, Text *line, Err *e) {
    double worst = 0;
    for (int i = 0; i < n->n_out; i++) {
        Tensor got = out[i].in;
        const Tensor *want = &out[i].want;
        if (!c->dev->ops->download(c->dev, 0, got.data, out[i].device, out[i].bytes, e) ||
            !c->dev->ops->sync(c->dev, 0, e))
            return false;
        if (node_state_in(n, i) < 0) {
            int64_t left = unwritten(&got, want);
            if (left && !c->o->sample && !may_stay(n))
                return err_set(e, "%s: %" PRId64 " of %" PRId64 " elements were not written", n->out[i]->name, left,
                               tensor_count(want));
            if (left == tensor_count(want)) return err_set(e, "%s: nothing was written", n->out[i]->name);
        }
        TensorDiff d = tensor_diff(&got, want);
        if (got.dtype == DT_I32 ? d.different > 0 : false)
            return err_set(e, "%s: %" PRId64 " of %" PRId64 " integers differ, first at %" PRId64, n->out[i]->name,
                           d.different, d.count, d.at);
        if (got.dtype == DT_I32) continue;
        double tol = k->nmse;
        if (got.dtype == DT_BF16) tol += sqrt(k->nmse) * 0x1p-8 + 0x1p-14 / (double)d.count;
        if (!(d.nmse <= tol))
            return err_set(e, "%s: nmse %.3g, tolerance %.3g; max abs %.3g, rel %.3g at %" PRId64 " of %" PRId64,
                           n->out[i]->name, d.nmse, tol, d.max_abs, d.max_rel, d.at, d.count);
        if (d.nmse > worst) worst = d.nmse;
    }
    text_add(line, "nmse %.2g of %.2g", worst, k->nmse);
    return true;
}

static bool prepare(Check *c, const Node *n, const Sizes *s, Side *in, Side *out, Err *e) {
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        if (!make_side(c, n->in[i], s, &in[i], e)) return false;
        if ((n->op != OP_FUSED || i < n->n_body_in) && !fill(c, n, n->in[i], &in[i].in, s, e)) return false;
    }
    if (n->op == OP_FUSED && !fill_group(n, in, s, c->o->threads, e)) return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !upload(c, &in[i], e)) return false;
    for (int i = 0; i < n->n_out; i++) {
        int state = node_state_in(n, i);
        if (!make_side(c, n->out[i], s, &out[i], e)) return false;
        out[i].want = out[i].in;
        out[i].want.data = malloc(out[i].bytes + 8);
        if (!out[i].want.data) return err_set(e, "out of memory");
        if (state < 0) {
            if (!c->dev->ops->fill(c->dev, 0, out[i].device, POISON, out[i].bytes, e)) return false;
            memset(out[i].want.data, 0, out[i].bytes);
        } else { /* in place: the output is the input's memory, on each side */
            memcpy(out[i].want.data, in[state].in.data, out[i].bytes);
            c->dev->ops->free(c->dev, out[i].device);
            out[i].device = in[state].device;
        }
    }
    return true;
}

static bool reference(Check *c, const Node *n, const Sizes *s, const Side *in, const Side *out, Err *e) {
    Tensor ins[MAX_IN] = {{0}}, outs[MAX_OUT] = {{0}};
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) ins[i] = in[i].in;
    for (int i = 0; i < n->n_out; i++) {
        int state = node_state_in(n, i);
        outs[i] = out[i].want;
        if (state >= 0) ins[state].data = out[i].want.data;
    }
    return ref_node(n, ins, outs, s, c->o->threads, e);
}

static bool check_node(Check *c, int graph, int node, const PlanKernel *k, int64_t rows, Text *line, Err *e) {
    const PlanGraph *pg = &c->plan->graphs[graph];
    const Graph *g = program_graph(c->plan->program, pg->name);
    const Node *n = g->nodes.at[node];
    Sizes s = {{[SYM_T] = rows, [SYM_S] = rows, [SYM_P] = SLOTS * SLOT_PAGES}};
    Side in[MAX_IN], out[MAX_OUT];
    memset(in, 0, sizeof in);
    memset(out, 0, sizeof out);
    int32_t header[STEP_WORDS] = {(int32_t)rows, (int32_t)rows};
    void *step = c->dev->ops->alloc(c->dev, sizeof header, "step", e);
    bool ok = step && c->dev->ops->upload(c->dev, 0, step, header, sizeof header, e) &&
              prepare(c, n, &s, in, out, e) && launch_all(c, pg, node, rows, step, n, in, out, e) &&
              reference(c, n, &s, in, out, e) && compare(c, n, k, out, line, e);
    for (int i = 0; i < n->n_out; i++) {
        if (node_state_in(n, i) >= 0) out[i].device = NULL;
        free_side(c, &out[i]);
    }
    for (int i = 0; i < n->n_in; i++) free_side(c, &in[i]);
    if (step) c->dev->ops->free(c->dev, step);
    free_beside(c);
    return ok;
}

/* --- the plan ------------------------------------------------------------------------------------------------------------------ */

static void check_launch(Check *c, int graph, const PlanLaunch *l) {
    const PlanGraph *pg = &c->plan->graphs[graph];
    const PlanKernel *k = &c->plan->kernels[l->kernel];
    int64_t max = pg->buckets[pg->n_buckets - 1], rows[] = {1, c->o->tokens < max ? c->o->tokens : max};
    if (c->o->only && !strstr(k->symbol, c->o->only)) return;
    for (size_t i = 0; i < LEN(rows); i++) {
        Err e = {""};
        Text line = {0};
        if (i && rows[i] == rows[0]) continue;
        bool ok = check_node(c, graph, l->node, k, rows[i], &line, &e);
        if (ok) printf("ok %s T=%" PRId64 " %s\n", k->symbol, rows[i], line.at);
        else printf("FAIL %s T=%" PRId64 ": %s\n", k->symbol, rows[i], e.msg);
        *(ok ? &c->ok : &c->failed) += 1;
        text_free(&line);
    }
}

bool selftest_run(const Plan *p, Device *d, const SelftestOptions *o, Err *e) {
    Check c = {.plan = p, .dev = d, .o = o, .random = o->seed};
    if (!d->ops->launch) return err_set(e, "--self-test: device %s runs no kernels", d->ops->name);
    c.modules = calloc((size_t)p->n_modules + 1, sizeof *c.modules);
    bool *seen = calloc((size_t)p->n_kernels + 1, sizeof *seen);
    c.beside = calloc((size_t)p->n_bufs + 1, sizeof *c.beside);
    if (!c.modules || !c.beside || !seen) die("selftest: out of memory");
    bool heard = true;
    for (int g = 0; g < p->n_graphs; g++)
        for (int l = 0; heard && l < p->graphs[g].n_launches; l++) {
            int k = p->graphs[g].launches[l].kernel;
            if (!seen[k]) check_launch(&c, g, &p->graphs[g].launches[l]), heard = cli_stdout(e);
            seen[k] = true;
        }
    for (int i = 0; i < p->n_modules; i++)
        if (c.modules[i]) d->ops->module_unload(d, c.modules[i]);
    free(c.modules);
    free(c.beside);
    free(seen);
    if (!heard) return false;
    if (c.failed) return err_set(e, "--self-test: %d of %d checks failed", c.failed, c.ok + c.failed);
    if (!c.ok) return err_set(e, "--self-test: nothing was checked");
    return true;
}
