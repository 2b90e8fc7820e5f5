/* selftest.c - --self-test: every distinct kernel of a plan on the device, on made up inputs (makeup.c), against its node's
 * reference. Whether they agree, ir/judge.h decides.
 *
 * No checkpoint is needed. A kernel runs at the least and the most rows that it is ever launched for, which are both sides of
 * every boundary between variants and the largest bucket, and at a number that fills several tiles and none exactly; at one row
 * with an ordinary, a tiny and a large one. Outputs are poisoned first: an element that still holds the poison was not written, which is a failure
 * unless the device runs a sample of the blocks only (--sample, emu). Where the reference would take long it computes some of the
 * rows. A line per kernel and T: "ok NAME …" or "FAIL NAME: why"; with --json an object, written before the next kernel starts, so
 * that what was found outlives a crash.
 * A tolerance that is over LOOSE times what its template's kernels showed is warned of: it would hide a fault. */
#include "selftest.h"
#include "ir/judge.h"
#include "makeup.h"
#include "mode.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

enum { POISON = 0xFF, /* NaN, and -1: no result of any kernel */ LEAST_ROWS = 4, MOST_TRIALS = 8 };
static const double LOOSE = 100, SEEN = 0x1p-46; /* below SEEN, that of a step of f32, nothing is measured */
static const double REFERENCE_BUDGET = 2e8, EMU_BUDGET = 3e8; /* multiplications of one trial; about a second each */
static const double WHOLE_BUDGET = 1e9;                       /* of launches that a sample leaves whole */

typedef struct Tried Tried; /* of one kernel */
struct Tried {
    int64_t rows[MOST_TRIALS], first[MOST_TRIALS], left_out[MOST_TRIALS]; /* left_out: rows of trials that were too long */
    int n, n_left_out;
    bool failed;
    Measured measured;
};

typedef struct Side Side; /* one value of the node: host tensors and device memory */
struct Side {
    Tensor in, want; /* in: what the device got, or what it made of it; want: the reference's result (outputs, state) */
    void *device;
    size_t bytes;
};

typedef struct Packed Packed; /* a repacked weight; from: the device's memory of the weight as the file has it */
struct Packed {
    Side side;
    const void *from;
};

typedef struct Check Check;
struct Check {
    const Plan *plan;
    Device *dev;
    DeviceModule **modules; /* [n_modules], loaded when first needed */
    const SelftestOptions *o;
    Tried *tried;   /* [n_kernels] */
    Packed *packed; /* [n_bufs] */
    void *counters; /* PLAN_COUNTERS' */
    void **handed;  /* [n_bufs] device memory of what launches of a node hand on to each other */
    json_t *counts; /* the device's profile before the trial; NULL: nobody asked */
    int ok, failed, left_out;
};

typedef struct Trial Trial; /* all launches of a node, at one number of rows */
struct Trial {
    const PlanGraph *pg;
    const Node *n;
    int node;
    int64_t rows;  /* tokens of the step, or rows of the head */
    int64_t first; /* the kind of the first row (makeup.h) */
    double nmse;  /* the tolerance: the widest of its launches' */
    Verdict all;  /* of its outputs together: count, steps, nmse */
    Makeup m;
    int none; /* makeup_none */
    Side in[MAX_IN], out[MAX_OUT];
    Side *weights;         /* [MAX_IN] the same for all trials of a node; in[] borrows them */
    int64_t *some, n_some; /* rows that the reference computes; NULL: all */
};

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

static bool make_tensor(const Value *v, const Sizes *s, Side *x, Err *e) {
    x->in = tensor_of(&v->type, s, NULL);
    if (!dtype_bytes(x->in.dtype, (size_t)tensor_count(&x->in), &x->bytes))
        return err_set(e, "%s has no size", v->name);
    x->in.data = large_alloc(x->bytes + 8);
    return x->in.data || err_set(e, "out of memory for %s", v->name);
}

static bool make_device(Check *c, const Value *v, Side *x, Err *e) {
    x->device = c->dev->ops->alloc(c->dev, x->bytes, v->name, e);
    return x->device != NULL;
}

static bool make_side(Check *c, const Value *v, const Sizes *s, Side *x, Err *e) {
    return make_tensor(v, s, x, e) && make_device(c, v, x, e);
}

static void free_side(Check *c, Side *x) {
    if (x->device) c->dev->ops->free(c->dev, x->device); /* which may be the tensor's memory */
    if (x->want.data != x->in.data) free(x->want.data);
    free(x->in.data);
}

static bool is_weight(const Node *n, int i) { return n->in[i] && n->in[i]->kind == VALUE_PARAM; }

static void free_trial(Check *c, Trial *t) {
    for (int i = 0; i < t->n->n_out; i++) {
        if (node_state_in(t->n, i) >= 0) t->out[i].device = NULL;
        free_side(c, &t->out[i]);
    }
    for (int i = 0; i < t->n->n_in; i++)
        if (!is_weight(t->n, i)) free_side(c, &t->in[i]);
    free(t->some);
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

/* A weight goes to the device, or stays where it is: some can be gigabytes. */
static bool hand_over(Check *c, const Value *v, Side *x, Err *e) {
    if (c->dev->ops->adopt && (x->device = c->dev->ops->adopt(c->dev, x->in.data, x->bytes, v->name))) return true;
    return make_device(c, v, x, e) && upload(c, x, e);
}

static bool prepare_weight(Check *c, Trial *t, int i, Err *e) {
    Side *x = &t->weights[i];
    return make_tensor(t->n->in[i], &t->m.sizes, x, e) && makeup_fill(&t->m, i, &x->in, e) && hand_over(c, t->n->in[i], x, e);
}

static bool prepare_inputs(Check *c, Trial *t, Err *e) {
    const Node *n = t->n;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        if (is_weight(n, i)) {
            if (!t->weights[i].device && !prepare_weight(c, t, i, e)) return false;
            t->in[i] = t->weights[i];
            continue;
        }
        if (!make_side(c, n->in[i], &t->m.sizes, &t->in[i], e)) return false;
        if ((n->op != OP_FUSED || i < n->n_body_in) && !makeup_fill(&t->m, i, &t->in[i].in, e)) return false;
    }
    if (n->op == OP_FUSED && !fill_group(n, t->in, &t->m.sizes, c->o->threads, e)) return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !is_weight(n, i) && !upload(c, &t->in[i], e)) return false;
    return true;
}

static bool prepare_outputs(Check *c, Trial *t, Err *e) {
    for (int i = 0; i < t->n->n_out; i++) {
        Side *x = &t->out[i];
        int state = node_state_in(t->n, i);
        if (!make_side(c, t->n->out[i], &t->m.sizes, x, e)) return false;
        if (state < 0) {
            if (!c->dev->ops->fill(c->dev, 0, x->device, POISON, x->bytes, e)) return false;
        } else { /* in place: the output is the input's memory on the device */
            c->dev->ops->free(c->dev, x->device);
            x->device = t->in[state].device;
        }
    }
    return true;
}

/* --- the device ------------------------------------------------------------------------------------------------------------ */

/* A weight in the layout that a kernel wants: made by the reference from what the trial has, and kept while that stays. */
static void *packed(Check *c, const Trial *t, int buf, Err *e) {
    const Plan *p = c->plan;
    const PlanGraph *pg = &p->graphs[plan_graph(p, "prepare")];
    const Graph *g = program_graph(p->program, "prepare");
    Packed *k = &c->packed[buf];
    for (size_t i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.at[i];
        if (plan_value(pg, n->out[0]->name) != buf) continue;
        for (int w = 0; w < t->n->n_in; w++) {
            if (!t->n->in[w] || strcmp(t->n->in[w]->name, n->in[0]->name)) continue;
            if (k->from == t->in[w].device) return k->side.device;
            free_side(c, &k->side);
            *k = (Packed){.from = t->in[w].device};
            Tensor in[1] = {t->in[w].in}, out[1];
            if (!make_tensor(n->out[0], &t->m.sizes, &k->side, e)) return NULL;
            out[0] = k->side.in;
            bool ok = ref_node(n, in, out, &t->m.sizes, c->o->threads, e) && hand_over(c, n->out[0], &k->side, e) && c->dev->ops->sync(c->dev, 0, e);
            return ok ? k->side.device : NULL;
        }
    }
    return err_set(e, "%s is no weight of the node", p->bufs[buf].name), NULL;
}

/* What one launch of the node hands on to a later one: poisoned. */
static void *handed(Check *c, int buf, Err *e) {
    const PlanBuf *b = &c->plan->bufs[buf];
    void **at = &c->handed[buf];
    if (!*at && !(*at = c->dev->ops->alloc(c->dev, b->size, b->name, e))) return NULL;
    if (c->dev->ops->forget) c->dev->ops->forget(c->dev, *at, b->size);
    else if (!c->dev->ops->fill(c->dev, 0, *at, POISON, b->size, e)) return NULL;
    return *at;
}

/* Zeros, which every kernel leaves behind. */
static void *counters(Check *c, int buf, Err *e) {
    const PlanBuf *b = &c->plan->bufs[buf];
    void **at = &c->counters;
    if (*at || !(*at = c->dev->ops->alloc(c->dev, b->size, b->name, e))) return *at;
    return c->dev->ops->fill(c->dev, 0, *at, 0, b->size, e) ? *at : NULL;
}

static void *argument(Check *c, const Trial *t, int buf, void *step, Err *e) {
    const PlanBuf *b = &c->plan->bufs[buf];
    if (!strcmp(b->name, "step")) return step;
    for (int i = 0; i < t->n->n_in; i++)
        if (t->n->in[i] && plan_value(t->pg, t->n->in[i]->name) == buf) return t->in[i].device;
    for (int i = 0; i < t->n->n_out; i++)
        if (plan_value(t->pg, t->n->out[i]->name) == buf) return t->out[i].device;
    if (b->kind == BUF_PACKED) return packed(c, t, buf, e);
    if (!strcmp(b->name, PLAN_COUNTERS)) return counters(c, buf, e);
    if (b->kind == BUF_TEMP) return c->handed[buf] ? c->handed[buf] : handed(c, buf, e);
    return err_set(e, "argument %s is no value of the node", b->name), NULL;
}

/* Kernels leave zeros in the counters; in a sample, the block that would may not have run. */
static bool counters_zero(Check *c, Err *e) {
    int buf = plan_buf(c->plan, PLAN_COUNTERS);
    if (buf < 0 || !c->counters || c->o->sample) return true;
    size_t bytes = c->plan->bufs[buf].size;
    int32_t *at = malloc(bytes);
    if (!at) return err_set(e, "out of memory");
    bool ok = c->dev->ops->download(c->dev, 0, at, c->counters, bytes, e) && c->dev->ops->sync(c->dev, 0, e);
    for (size_t i = 0; ok && i < bytes / sizeof *at; i++)
        if (at[i]) ok = err_set(e, "counter %zu is left at %d", i, at[i]);
    free(at);
    return ok;
}

static int bucket_of(const Trial *t) {
    int bucket = 0;
    while (bucket < t->pg->n_buckets - 1 && t->pg->buckets[bucket] < t->rows) bucket++;
    return bucket;
}

static bool is_of_node(const Trial *t, int l) { return l < t->pg->n_launches && t->pg->launches[l].node == t->node; }

static bool is_launched(const Trial *t, const PlanLaunch *l) { return l->node == t->node && l->grid[bucket_of(t)][0]; }

/* Is it for this kernel, among others, that the trial is made? Not when another node has shown the same. */
static bool is_tested(const Check *c, const Trial *t, const PlanLaunch *l) {
    const Tried *k = &c->tried[l->kernel];
    if (!is_launched(t, l) || k->n == MOST_TRIALS) return false;
    for (int i = 0; i < k->n; i++)
        if (k->rows[i] == t->rows && k->first[i] == t->first) return false;
    return !c->o->only || strstr(c->plan->kernels[l->kernel].symbol, c->o->only);
}

/* The value of the node's body, result or not, that its launches leave in buf; NULL: buf is something else. */
static const Value *made_value(const Check *c, const Trial *t, int buf) {
    if (buf < 0 || t->n->op != OP_FUSED) return NULL;
    for (size_t i = 0; i < t->n->body->nodes.n; i++) {
        const Node *n = t->n->body->nodes.at[i];
        for (int k = 0; k < n->n_out; k++) {
            bool result = n->out[k]->is_output;
            if (result ? plan_value(t->pg, n->out[k]->name) == buf
                       : c->plan->bufs[buf].kind == BUF_TEMP && !strcmp(n->out[k]->name, c->plan->bufs[buf].name))
                return n->out[k];
        }
    }
    return NULL;
}

static bool has_arg(const PlanLaunch *l, int buf) {
    for (int a = 0; a < l->n_args; a++)
        if (l->args[a] == buf) return true;
    return false;
}

/* Of the node's launches from the first to the one before `end`, or behind it, has one that runs this argument? */
static bool runs_with(const Trial *t, int buf, int from, int end) {
    for (int i = from; i < end && is_of_node(t, i); i++)
        if (is_launched(t, &t->pg->launches[i]) && has_arg(&t->pg->launches[i], buf)) return true;
    return false;
}

/* What launch l is the first to have, and a later one has too: it reads it, be it a result of the node or not. NULL: nothing. */
static const Value *hands_on(const Check *c, const Trial *t, int l) {
    const PlanLaunch *launch = &t->pg->launches[l];
    for (int a = 0; a < launch->n_args; a++) {
        const Value *v = made_value(c, t, launch->args[a]);
        if (!v || runs_with(t, launch->args[a], plan_launch(t->pg, t->node), l)) continue;
        if (runs_with(t, launch->args[a], l + 1, t->pg->n_launches)) return v;
    }
    return NULL;
}

static bool launch_all(Check *c, const Trial *t, void *step, Err *e) {
    const Plan *p = c->plan;
    int bucket = bucket_of(t);
    for (int i = 0; i < p->n_bufs; i++)
        if (c->handed[i] && !handed(c, i, e)) return false;
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++) {
        const PlanLaunch *launch = &t->pg->launches[l];
        const PlanKernel *k = &p->kernels[launch->kernel];
        if (!is_launched(t, launch)) continue;
        void *args[PLAN_MAX_ARGS] = {0};
        for (int a = 0; a < launch->n_args; a++)
            if (launch->args[a] >= 0 && !(args[a] = argument(c, t, launch->args[a], step, e))) return false;
        DeviceModule **m = &c->modules[k->module];
        if (!*m && !(*m = c->dev->ops->module_load(c->dev, &p->modules[k->module], e))) return false;
        DeviceKernel *dk = c->dev->ops->kernel(c->dev, *m, k, e);
        if (c->dev->ops->whole) c->dev->ops->whole(c->dev, hands_on(c, t, l)); /* all of it will be read */
        if (!dk || !c->dev->ops->launch(c->dev, 0, dk, launch->grid[bucket], k->block, launch->lds[bucket], args,
                                        launch->n_args, e))
            return false;
    }
    return c->dev->ops->sync(c->dev, 0, e) && counters_zero(c, e);
}

static bool run_device(Check *c, Trial *t, Err *e) {
    int32_t header[STEP_WORDS] = {(int32_t)t->rows, (int32_t)t->rows};
    void *step = c->dev->ops->alloc(c->dev, sizeof header, "step", e);
    bool ok = step && c->dev->ops->upload(c->dev, 0, step, header, sizeof header, e) && launch_all(c, t, step, e);
    for (int i = 0; i < t->n->n_out && ok; i++)
        ok = c->dev->ops->download(c->dev, 0, t->out[i].in.data, t->out[i].device, t->out[i].bytes, e) &&
             c->dev->ops->sync(c->dev, 0, e);
    if (step) c->dev->ops->free(c->dev, step);
    if (c->counters) c->dev->ops->free(c->dev, c->counters);
    c->counters = NULL; /* what a failed or sampled launch left in them is forgotten */
    return ok;
}

/* --- what was written ------------------------------------------------------------------------------------------------------- */

static size_t size_of(const Tensor *t) { return t->dtype == DT_BF16 ? 2 : 4; }

typedef struct Written Written; /* what the device made of an output, and what lay there before: the poison, or the state as it was */
struct Written {
    const char *got, *before; /* before NULL: the poison */
    size_t size;              /* of an element */
};

static Written written(const Trial *t, int out) {
    int state = node_state_in(t->n, out);
    return (Written){t->out[out].in.data, state < 0 ? NULL : t->in[state].in.data, size_of(&t->out[out].in)};
}

/* Is element i as it was before? */
static bool untouched(const Written *w, int64_t i) {
    static const unsigned char poison[4] = {POISON, POISON, POISON, POISON};
    const char *got = w->got + (size_t)i * w->size, *before = w->before ? w->before + (size_t)i * w->size : (const char *)poison;
    return w->size == 2 ? !memcmp(got, before, 2) : !memcmp(got, before, 4);
}

/* Is element i of an output none that the kernel is to write? Entries of perm and tiles beyond the step's pairs; the pairs of other
 * devices' experts, and the tokens that have only such (makeup_none). */
static bool may_stay(const Trial *t, int out, int64_t i) {
    if (t->n->op == OP_group) return true;
    if (t->none < 0) return false;
    const Tensor *ids = &t->in[t->none].in;
    int64_t each = node_of_op(t->n, OP_fetch) ? ids->dim[1] : 1, rows = tensor_count(ids) / each, n = tensor_count(&t->out[out].in);
    if (n % rows) return false; /* neither pairs nor tokens */
    for (int64_t k = i / (n / rows) * each, end = k + each; k < end; k++)
        if (((const int32_t *)ids->data)[k] >= 0) return false;
    return true;
}

static bool all_written(Check *c, const Trial *t, Err *e) {
    for (int o = 0; o < t->n->n_out; o++) {
        Written w = written(t, o);
        int64_t n = tensor_count(&t->out[o].in), all = 0, left = 0;
        for (int64_t i = 0; i < n; i++)
            if (untouched(&w, i)) all++, left += !c->o->sample && !may_stay(t, o, i);
        if (all == n) return err_set(e, "%s: nothing was written", t->n->out[o]->name);
        if (left && node_state_in(t->n, o) < 0)
            return err_set(e, "%s: %" PRId64 " of %" PRId64 " elements were not written", t->n->out[o]->name, left, n);
    }
    return true;
}

/* --- the reference ---------------------------------------------------------------------------------------------------------- */

/* Multiplications of a node for a row, and those that do not depend on it, roughly: an op that rounds an operand is a product. */
static double work_of(const Node *n, const Sizes *s) {
    double sum = 0;
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++) sum += work_of(n->body->nodes.at[i], s);
    for (int i = 0; n->op != OP_FUSED && i < n->n_out; i++) {
        const Type *x = &n->in[0]->type;
        bool product = op_operand(n->op, 0).flags & OPERAND_ROUND;
        sum += (double)type_count(&n->out[i]->type, s) * (product ? (double)dim_eval(x->dim[x->rank - 1], s) : 1);
    }
    return sum;
}

/* Of the body's nodes that v is made from. */
static double work_for(const Graph *body, const Value *v, const Sizes *s) {
    double sum = 0;
    bool *needed = calloc(body->nodes.n + 1, sizeof *needed);
    if (!needed) out_of_memory(body->nodes.n, "a self-test");
    for (size_t i = body->nodes.n; i-- > 0;) { /* in order: who reads a value comes behind who makes it */
        const Node *n = body->nodes.at[i];
        bool it = n == v->def;
        for (size_t k = i + 1; k < body->nodes.n && !it; k++)
            for (int a = 0; needed[k] && a < body->nodes.at[k]->n_in; a++) it |= body->nodes.at[k]->in[a] && body->nodes.at[k]->in[a]->def == n;
        if ((needed[i] = it)) sum += work_of(n, s);
    }
    free(needed);
    return sum;
}

/* Of the launches that a sample leaves whole. */
static double work_whole(const Check *c, const Trial *t) {
    double sum = 0;
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++)
        if (is_launched(t, &t->pg->launches[l]) && hands_on(c, t, l)) sum += work_for(t->n->body, hands_on(c, t, l), &t->m.sizes);
    return sum;
}

/* Would it take long? */
static bool is_long(const Check *c, const Trial *t) {
    if (!c->dev->ops->simulated || t->rows == 1) return false;
    return c->o->sample ? work_whole(c, t) > WHOLE_BUDGET : work_of(t->n, &t->m.sizes) > EMU_BUDGET;
}

static bool by_row(const Value *v, Sym sym) { return v->type.rank && dim_eq(v->type.dim[0], dim_sym(sym)); }
static bool mentions(const Value *v, Sym sym) {
    for (int d = 0; d < v->type.rank; d++)
        if (v->type.dim[d].sym == sym) return true;
    return false;
}

/* Can some rows of the result be computed from the same rows of the inputs? */
static bool rowwise(const Trial *t) {
    const Node *n = t->n;
    for (int i = 0; i < n->n_out; i++)
        if (!by_row(n->out[i], t->pg->sym) || node_state_in(n, i) >= 0) return false;
    for (int i = 0; i < (n->op == OP_FUSED ? n->n_body_in : n->n_in); i++)
        if (n->in[i] && mentions(n->in[i], t->pg->sym) && !by_row(n->in[i], t->pg->sym)) return false;
    return n->op == OP_FUSED || !(op_info(n->op)->flags & OPF_INTERNAL);
}

/* A row of which every output has something that was written. */
static bool row_written(const Trial *t, int64_t row) {
    for (int o = 0; o < t->n->n_out; o++) {
        Written w = written(t, o);
        int64_t n = tensor_count(&t->out[o].in) / t->rows, i = 0;
        while (i < n && untouched(&w, row * n + i)) i++;
        if (i == n) return false;
    }
    return true;
}

/* Which rows the reference computes: as many as the budget allows, first and last among them, spread. */
static void choose_rows(Check *c, Trial *t) {
    double work = work_of(t->n, &t->m.sizes);
    if (work <= REFERENCE_BUDGET || !rowwise(t)) return;
    int64_t want = (int64_t)(REFERENCE_BUDGET / work * (double)t->rows), n = 0;
    if (want < LEAST_ROWS) want = LEAST_ROWS;
    if (want >= t->rows) return;
    t->some = malloc((size_t)t->rows * sizeof *t->some);
    if (!t->some) out_of_memory((size_t)t->rows * sizeof *t->some, "a self-test");
    for (int64_t i = 0; i < t->rows; i++)
        if (!c->o->sample || row_written(t, i)) t->some[n++] = i;
    for (int64_t i = 0; want < n && i < want; i++) t->some[i] = t->some[want > 1 ? i * (n - 1) / (want - 1) : 0];
    t->n_some = want < n ? want : n;
}

static Tensor rows_of(const Tensor *t, const int64_t *row, int64_t n) {
    Tensor r = *t;
    size_t size = (size_t)(tensor_count(t) / t->dim[0]) * size_of(t);
    r.dim[0] = n;
    r.data = large_alloc((size_t)n * size + 8);
    if (!r.data) out_of_memory((size_t)n * size, "a self-test");
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)r.data + (size_t)i * size, (const char *)t->data + (size_t)row[i] * size, size);
    return r;
}

/* Leaves of the trial the chosen rows only. */
static void keep_rows(Trial *t) {
    for (int i = 0; t->some && i < t->n->n_in + t->n->n_out; i++) {
        const Value *v = i < t->n->n_in ? t->n->in[i] : t->n->out[i - t->n->n_in];
        Side *x = i < t->n->n_in ? &t->in[i] : &t->out[i - t->n->n_in];
        if (!v || !x->in.data || !by_row(v, t->pg->sym)) continue;
        void *old = x->in.data;
        x->in = rows_of(&x->in, t->some, t->n_some);
        free(old);
    }
    if (t->some) t->m.sizes.of[t->pg->sym] = t->n_some;
}

static bool reference(Check *c, Trial *t, Tensor *ins, Err *e) {
    Tensor outs[MAX_OUT] = {{0}};
    for (int i = 0; i < t->n->n_in; i++)
        if (t->n->in[i]) ins[i] = t->in[i].in;
    for (int i = 0; i < t->n->n_out; i++) {
        Side *x = &t->out[i];
        int state = node_state_in(t->n, i);
        x->want = x->in;
        if (!(x->want.data = large_alloc(x->bytes + 8))) return err_set(e, "out of memory");
        memset(x->want.data, 0, x->bytes + 8);
        if (state >= 0) memcpy(x->want.data, t->in[state].in.data, x->bytes);
        outs[i] = x->want;
    }
    Tensor with_state[MAX_IN];
    memcpy(with_state, ins, sizeof with_state);
    for (int i = 0; i < t->n->n_out; i++)
        if (node_state_in(t->n, i) >= 0) with_state[node_state_in(t->n, i)].data = outs[i].data;
    return ref_node(t->n, with_state, outs, &t->m.sizes, c->o->threads, e);
}

/* --- judging ---------------------------------------------------------------------------------------------------------------- */

/* What a sample of the blocks did not write, or no kernel is to, is not judged: 0 on both sides, so that it adds to no row's size. */
static void excuse(Check *c, Trial *t, int out) {
    const Tensor *got = &t->out[out].in, *want = &t->out[out].want;
    const Written w = written(t, out);
    const size_t size = w.size;
    for (int64_t i = 0, n = tensor_count(got); i < n; i++) {
        if (!untouched(&w, i) || !(c->o->sample || may_stay(t, out, i))) continue;
        memset((char *)got->data + (size_t)i * size, 0, size);
        memset((char *)want->data + (size_t)i * size, 0, size);
    }
}

static void say(const Trial *t, Text *line) {
    const Verdict *v = &t->all;
    text_add(line, "nmse %.2g of %.2g", v->nmse, t->nmse);
    if (v->steps) text_add(line, ", %" PRId64 " of %" PRId64 " a bf16 step off", v->steps, v->count);
    if (t->some) text_add(line, ", %" PRId64 " of %" PRId64 " rows", t->n_some, t->rows);
}

static void measure(Check *c, const Trial *t, const Verdict *v) {
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++)
        if (is_tested(c, t, &t->pg->launches[l])) judge_measure(&c->tried[t->pg->launches[l].kernel].measured, v);
}

static bool judge_all(Check *c, Trial *t, const Tensor *ins, Text *line, Err *e) {
    JudgeNode node = {.n = t->n, .in = ins, .sizes = &t->m.sizes, .threads = c->o->threads, .rule = {.nmse = t->nmse}};
    bool ok = true;
    for (int i = 0; i < t->n->n_out && ok; i++) {
        Verdict v;
        excuse(c, t, i);
        ok = judge_node(&node, i, &t->out[i].in, &t->out[i].want, &v, e);
        if (!ok) break;
        t->all.count += v.count, t->all.steps += v.dtype == DT_BF16 ? v.steps : 0;
        if (!(v.nmse <= t->all.nmse)) t->all.nmse = v.nmse;
        measure(c, t, &v);
        if (!v.fault) continue;
        Text why = {0};
        judge_why(&v, &why);
        ok = err_set(e, "%s: %s", t->n->out[i]->name, why.at);
        text_free(&why);
    }
    judge_node_end(&node);
    if (ok) say(t, line);
    return ok;
}

static bool check_trial(Check *c, Trial *t, Text *line, Err *e) {
    Tensor ins[MAX_IN] = {{0}};
    if (!prepare_inputs(c, t, e) || !prepare_outputs(c, t, e) || !run_device(c, t, e) || !all_written(c, t, e))
        return false;
    choose_rows(c, t);
    keep_rows(t);
    return reference(c, t, ins, e) && judge_all(c, t, ins, line, e);
}

/* --- the plan ------------------------------------------------------------------------------------------------------------------ */

/* The first kernel that a trial is made for; NULL: all are tried. */
static const PlanKernel *first_tested(const Check *c, const Trial *t) {
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++)
        if (is_tested(c, t, &t->pg->launches[l])) return &c->plan->kernels[t->pg->launches[l].kernel];
    return NULL;
}

static void print_json(json_t *j) {
    if (!j) die("selftest: cannot make JSON");
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

/* The device's profile of every kernel so far, a new list; NULL: nobody asked, or it has none. */
static json_t *profile_now(const Check *c) {
    Text t = {0};
    if (!c->o->counts || !c->dev->ops->simulated || !c->dev->ops->profile) return NULL;
    c->dev->ops->profile(c->dev, &t, true);
    json_t *list = t.n ? json_loads(t.at, 0, NULL) : NULL;
    text_free(&t);
    return list;
}

static const json_t *of_kernel(const json_t *list, const char *symbol) {
    size_t i;
    json_t *k;
    json_array_foreach(list, i, k) if (!strcmp(json_string_value(json_object_get(k, "kernel")), symbol)) return k;
    return NULL;
}

/* Waves of the kernel's launches in the trial, had all workgroups run. */
static json_int_t waves_of(const Check *c, const Trial *t, const PlanKernel *k) {
    json_int_t sum = 0;
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++) {
        const PlanLaunch *launch = &t->pg->launches[l];
        const uint32_t *grid = launch->grid[bucket_of(t)];
        if (is_launched(t, launch) && &c->plan->kernels[launch->kernel] == k) sum += (json_int_t)grid[0] * grid[1] * grid[2] * ((k->block + 63) / 64);
    }
    return sum;
}

/* What the kernel executed in the trial, and under all_waves how many waves it has without --sample. */
static json_t *counts_json(const Check *c, const Trial *t, const PlanKernel *k, const json_t *after) {
    const json_t *now = of_kernel(after, k->symbol), *was = of_kernel(c->counts, k->symbol);
    const char *name;
    json_t *v, *to = json_object();
    json_object_foreach((json_t *)now, name, v) {
        json_int_t less = strcmp(name, "longest") ? json_integer_value(json_object_get(was, name)) : 0;
        if (json_is_integer(v)) json_object_set_new(to, name, json_integer(json_integer_value(v) - less));
    }
    json_object_set_new(to, "all_waves", json_integer(waves_of(c, t, k)));
    return to;
}

/* A message may have been cut, or quote a code object's bytes; JSON is UTF-8. */
static json_t *utf8(const char *says) {
    Text t = {0};
    json_t *j = json_string(says);
    for (; !j && *says; says++) text_put(&t, (unsigned char)*says < 128 ? says : "?", 1);
    if (!j) j = json_string(t.at ? t.at : "");
    text_free(&t);
    return j;
}

static void print_trial(const Check *c, const Trial *t, const PlanKernel *k, bool ok, const char *says, const json_t *after) {
    if (!c->o->json) {
        printf("%s %s T=%" PRId64 "%s %s\n", ok ? "ok" : "FAIL", k->symbol, t->rows, ok ? "" : ":", says);
        return;
    }
    json_t *j = json_pack("{s:b, s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:f, s:I, s:o}", "ok", ok, "kernel", k->symbol, "template",
                         k->template_name, "graph", t->pg->name, "node", node_name(t->n), "rule",
                         t->n->op == OP_FUSED ? t->n->rule : "", "rows", (json_int_t)t->rows, "nmse",
                         isfinite(t->all.nmse) ? json_real(t->all.nmse) : json_null(), "tolerance", t->nmse, "steps",
                         (json_int_t)t->all.steps, "says", utf8(says));
    if (after) json_object_set_new(j, "counts", counts_json(c, t, k, after));
    print_json(j);
}

/* A line for each kernel that the trial was made for. */
static void conclude(Check *c, const Trial *t, bool ok, const char *says) {
    json_t *after = profile_now(c);
    for (int l = plan_launch(t->pg, t->node); is_of_node(t, l); l++) {
        const PlanLaunch *launch = &t->pg->launches[l];
        Tried *k = &c->tried[launch->kernel];
        if (!is_tested(c, t, launch)) continue;
        k->rows[k->n] = t->rows, k->first[k->n++] = t->first;
        k->failed = k->failed || !ok;
        print_trial(c, t, &c->plan->kernels[launch->kernel], ok, says, after);
        *(ok ? &c->ok : &c->failed) += 1;
    }
    json_decref(c->counts), c->counts = after;
    fflush(stdout);
}

/* Nodes of other layers are as long. */
static void leave_out(Check *c, const PlanKernel *k, int64_t rows) {
    Tried *of = &c->tried[k - c->plan->kernels];
    for (int i = 0; i < of->n_left_out; i++)
        if (of->left_out[i] == rows) return;
    if (of->n_left_out < MOST_TRIALS) of->left_out[of->n_left_out++] = rows;
    c->left_out++;
}

static void try_rows(Check *c, const PlanGraph *pg, int node, Side *weights, int64_t rows, int64_t first) {
    Trial t = {.pg = pg, .node = node, .rows = rows, .first = first, .weights = weights};
    const PlanKernel *k = first_tested(c, &t);
    Err e = {""};
    Text line = {0};
    if (!k) return;
    t.n = program_graph(c->plan->program, pg->name)->nodes.at[node];
    t.nmse = plan_tolerance(c->plan, pg, node, rows);
    t.m = makeup_begin(c->plan, t.n, k->template_name, rows, first, c->o->seed);
    t.none = makeup_none(&t.m);
    if (first && work_of(t.n, &t.m.sizes) > REFERENCE_BUDGET / 10) return;
    if (is_long(c, &t)) {
        leave_out(c, k, rows);
        return;
    }
    bool ok = check_trial(c, &t, &line, &e);
    conclude(c, &t, ok, ok ? line.at : e.msg);
    free_trial(c, &t);
    text_free(&line);
}

/* At the numbers of rows that launch l of a node is for. */
static void check_launch(Check *c, const PlanGraph *pg, const PlanLaunch *l, Side *weights) {
    int64_t least = 0, most = 0;
    for (int b = 0; b < pg->n_buckets; b++) {
        if (!l->grid[b][0] || !l->grid[b][1] || !l->grid[b][2]) continue;
        if (!least) least = b ? pg->buckets[b - 1] + 1 : 1;
        most = pg->buckets[b];
    }
    if (most > makeup_most_rows(c->plan)) most = makeup_most_rows(c->plan);
    if (!least || most < least) return;
    if (c->o->rows) {
        if (c->o->rows >= least && c->o->rows <= most) try_rows(c, pg, l->node, weights, c->o->rows, 0);
        return;
    }
    try_rows(c, pg, l->node, weights, least, 0);
    for (int64_t first = 1; least == 1 && first < 3; first++) try_rows(c, pg, l->node, weights, least, first);
    if (c->o->tokens > least && c->o->tokens < most) try_rows(c, pg, l->node, weights, c->o->tokens, 0);
    try_rows(c, pg, l->node, weights, most, 0);
}

static void forget_packed(Check *c, int buf) {
    if (buf >= 0) free_side(c, &c->packed[buf].side), c->packed[buf] = (Packed){.from = NULL};
}

static void check_node(Check *c, const PlanGraph *pg, int node) {
    const Node *n = program_graph(c->plan->program, pg->name)->nodes.at[node];
    Side weights[MAX_IN] = {{{0}}};
    for (int l = plan_launch(pg, node); l < pg->n_launches && pg->launches[l].node == node; l++) check_launch(c, pg, &pg->launches[l], weights);
    for (int i = 0; i < n->n_in; i++) free_side(c, &weights[i]);
    for (int l = plan_launch(pg, node); l < pg->n_launches && pg->launches[l].node == node; l++)
        for (int a = 0; a < pg->launches[l].n_args; a++) forget_packed(c, pg->launches[l].args[a]);
}

static bool same_tolerance(const PlanKernel *a, const PlanKernel *b) {
    return !strcmp(a->template_name, b->template_name) && a->nmse == b->nmse;
}

/* Of each template, its tolerances against the most that the kernels held to them showed. */
static void warn_of_loose(Check *c) {
    for (int i = 0; i < c->plan->n_kernels; i++) {
        const PlanKernel *k = &c->plan->kernels[i];
        double most = SEEN;
        bool first = true, tried = true;
        for (int j = 0; j < c->plan->n_kernels; j++) {
            if (!same_tolerance(&c->plan->kernels[j], k)) continue;
            first = first && j >= i, tried = tried && c->tried[j].n && !c->tried[j].failed;
            if (judge_measured(&c->tried[j].measured) > most) most = judge_measured(&c->tried[j].measured);
        }
        if (!first || !tried || k->nmse <= LOOSE * most) continue;
        if (c->o->json)
            print_json(json_pack("{s:s, s:f, s:f}", "loose", k->template_name, "tolerance", k->nmse, "measured", most));
        else
            warning("template %s: its tolerance is %.2g, over %g times what was measured (%.2g): it would hide a fault",
                    k->template_name, k->nmse, LOOSE, most);
    }
}

static void check_all(Check *c) {
    const Plan *p = c->plan;
    for (int g = 0; g < p->n_graphs; g++) {
        if (c->o->rows && !strcmp(p->graphs[g].name, "prepare")) continue; /* no step runs it */
        for (size_t n = 0; n < program_graph(p->program, p->graphs[g].name)->nodes.n; n++) check_node(c, &p->graphs[g], (int)n);
    }
    if (!c->o->sample) warn_of_loose(c);
    if (c->left_out && c->o->json) print_json(json_pack("{s:i}", "left_out", c->left_out));
    else if (c->left_out)
        fprintf(stderr, "gptoss-exec: %d of %d trials were left out, too long for this device%s\n", c->left_out,
                c->left_out + c->ok + c->failed,
                c->o->sample ? " (a launch whose results another one reads runs whole)"
                             : ": --sample 64 makes them, for some of the workgroups");
}

bool selftest_run(const Plan *p, Device *d, const SelftestOptions *o, Err *e) {
    Check c = {.plan = p, .dev = d, .o = o};
    if (!d->ops->launch) return err_set(e, "--self-test: device %s runs no kernels", d->ops->name);
    c.modules = calloc((size_t)p->n_modules + 1, sizeof *c.modules);
    c.tried = calloc((size_t)p->n_kernels + 1, sizeof *c.tried);
    c.packed = calloc((size_t)p->n_bufs + 1, sizeof *c.packed);
    c.handed = calloc((size_t)p->n_bufs + 1, sizeof *c.handed);
    if (!c.modules || !c.tried || !c.packed || !c.handed) out_of_memory((size_t)p->n_bufs * sizeof *c.packed, "a self-test");
    check_all(&c);
    for (int i = 0; i < p->n_modules; i++)
        if (c.modules[i]) d->ops->module_unload(d, c.modules[i]);
    for (int i = 0; i < p->n_bufs; i++)
        if (c.handed[i]) d->ops->free(d, c.handed[i]);
    free(c.modules);
    free(c.tried);
    free(c.packed);
    free(c.handed);
    json_decref(c.counts);
    if (c.failed) return err_set(e, "--self-test: %d of %d checks failed", c.failed, c.ok + c.failed);
    if (!c.ok) return err_set(e, "--self-test: nothing was checked");
    return true;
}
