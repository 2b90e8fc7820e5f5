/* mode_parity.c - -m parity: the device and ref in lock-step, each with its own buffers; every output of every node compared.
 *
 * Precision strict: ref goes its own way, so errors add up, and every value must be within atol 1e-6 + rtol 1e-5.
 * Otherwise each stage is judged alone: after its comparison ref continues from the device's values; a float value must have
 * an NMSE within the kernel's tolerance. Integers (expert ids, samples) may differ in at most 2% of their rows, since a tie
 * within rounding may go either way; such rows of the node's other outputs are left out, and counted as flips.
 * State is compared by its delta: the KV rows that the step wrote. */
#include "mode.h"
#include "ir/ref.h"

#include <jansson.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { PROMPTS = 3, GENERATED = 4 };
static const double atol_strict = 1e-6, rtol_strict = 1e-5, flips_allowed = 0.02;

typedef struct Stage Stage; /* one value of one step */
struct Stage {
    const char *graph, *name, *kernel, *dtype;
    int64_t step;
    double max_abs, max_rel, nmse, tolerance;
    int64_t at, count, flips;
    bool ok;
};

typedef struct Parity Parity;
struct Parity {
    Session *s;
    Exec *dev, *ref;
    Device *ref_dev;
    const SchedStep *t;
    const Sched *sched;
    bool strict, dumped;
    int64_t step, stages, bad;
    Stage first; /* the first bad one */
    Stage worst; /* largest nmse / tolerance (strict: largest absolute error) among floats */
};

/* --- reading values --------------------------------------------------------------------------------------------------------- */

/* Where a pool keeps token i's head h: offset of D elements. */
static size_t kv_at(const Parity *q, const PlanBuf *b, int group, int64_t token, int kv, int64_t head) {
    const Dim *d = b->type.dim;
    int64_t pos = q->t->pos[token], page = sched_table(q->sched, group, q->t->slot[token])[pos / KV_PAGE];
    size_t element = b->type.dtype == DT_BF16 ? 2 : 4;
    return (size_t)((((page * 2 + kv) * d[2].add + head) * d[3].add + pos % KV_PAGE) * d[4].add) * element;
}

/* What the step wrote to a pool, as a tensor [2*T*NKV, D]. */
static bool read_delta(Parity *q, Exec *x, int buf, void *to, bool write, Err *e) {
    const PlanBuf *b = &x->plan->bufs[buf];
    size_t line = (size_t)b->type.dim[4].add * (b->type.dtype == DT_BF16 ? 2 : 4);
    char *at = to;
    for (int64_t i = 0; i < q->t->n; i++)
        for (int kv = 0; kv < 2; kv++)
            for (int64_t h = 0; h < b->type.dim[2].add; h++, at += line) {
                size_t from = kv_at(q, b, x->group[buf], i, kv, h);
                if (!(write ? exec_write(x, buf, from, at, line, e) : exec_read(x, buf, from, at, line, e)))
                    return false;
            }
    return true;
}

static Tensor shape_of(Parity *q, const Value *v, int buf) {
    const PlanBuf *b = &q->ref->plan->bufs[buf];
    if (q->ref->group[buf] < 0) return tensor_of(&v->type, &q->dev->sizes, NULL);
    return (Tensor){.dtype = b->type.dtype, .rank = 2, .dim = {2 * q->t->n * b->type.dim[2].add, b->type.dim[4].add}};
}

static bool transfer(Parity *q, Exec *x, int buf, Tensor *t, bool write, Err *e) {
    size_t n;
    if (x->group[buf] >= 0) return read_delta(q, x, buf, t->data, write, e);
    if (!dtype_bytes(t->dtype, (size_t)tensor_count(t), &n)) die("parity: %s has no size", x->plan->bufs[buf].name);
    return write ? exec_write(x, buf, 0, t->data, n, e) : exec_read(x, buf, 0, t->data, n, e);
}

/* --- comparing -------------------------------------------------------------------------------------------------------------- */

static const PlanKernel *kernel_of(const Plan *p, int graph, int node) {
    const PlanGraph *g = &p->graphs[graph];
    const PlanKernel *k = NULL;
    for (int i = 0; i < g->n_launches; i++)
        if (g->launches[i].node == node) k = &p->kernels[g->launches[i].kernel];
    return k; /* the last launch writes the results */
}

/* Marks rows in which an integer output differs. */
static int64_t mark_flips(const Tensor *got, const Tensor *want, bool *row) {
    int64_t rows = got->rank ? got->dim[0] : 1, width = rows ? tensor_count(got) / rows : 0, n = 0;
    const int32_t *g = got->data, *w = want->data;
    for (int64_t i = 0; i < rows; i++) {
        bool differs = memcmp(g + i * width, w + i * width, (size_t)width * 4);
        n += differs;
        row[i] = row[i] || differs;
    }
    return n;
}

/* Rows that took another way are not compared: want's are put in got's place. */
static void leave_out(Tensor *got, const Tensor *want, const bool *row) {
    size_t n;
    int64_t rows = got->rank ? got->dim[0] : 1;
    if (!rows || !dtype_bytes(got->dtype, (size_t)(tensor_count(got) / rows), &n)) return;
    for (int64_t i = 0; i < rows; i++)
        if (row[i]) memcpy((char *)got->data + (size_t)i * n, (char *)want->data + (size_t)i * n, n);
}

static bool close_enough(const Tensor *got, const Tensor *want) {
    int64_t n = tensor_count(want);
    for (int64_t i = 0; i < n; i++) {
        double g = got->dtype == DT_BF16 ? f32_of_bf16(((uint16_t *)got->data)[i]) : ((float *)got->data)[i];
        double w = want->dtype == DT_BF16 ? f32_of_bf16(((uint16_t *)want->data)[i]) : ((float *)want->data)[i];
        bool same = g == w || (isnan(g) && isnan(w));
        if (!same && !(fabs(g - w) <= atol_strict + rtol_strict * fabs(w))) return false;
    }
    return true;
}

static void judge(const Parity *q, Stage *st, const Tensor *got, const Tensor *want) {
    TensorDiff d = tensor_diff(got, want);
    st->max_abs = d.max_abs, st->max_rel = d.max_rel, st->nmse = d.nmse, st->at = d.at, st->count = d.count;
    if (got->dtype == DT_I32)
        st->ok =
            q->strict ? !d.different : (double)st->flips <= 1 + flips_allowed * (double)(got->rank ? got->dim[0] : 1);
    else st->ok = q->strict ? close_enough(got, want) : d.nmse <= st->tolerance;
}

static double badness(const Parity *q, const Stage *st) {
    return q->strict ? st->max_abs : st->tolerance > 0 ? st->nmse / st->tolerance : st->nmse;
}

static void print_stage(const Stage *st) {
    fprintf(stderr,
            "%-4s step %-3" PRId64 " %-7s %-36s %-5s %-28s max abs %9.3g  rel %9.3g  nmse %9.3g (tol %.1g)  at %" PRId64
            " of %" PRId64 "%s",
            st->ok ? "ok" : "BAD", st->step, st->graph, st->name, st->dtype, st->kernel, st->max_abs, st->max_rel,
            st->nmse, st->tolerance, st->at, st->count, st->flips ? "" : "\n");
    if (st->flips) fprintf(stderr, ", %" PRId64 " rows differ\n", st->flips);
}

static void note(Parity *q, const Stage *st) {
    q->stages++;
    if (!st->ok && !q->bad++) q->first = *st;
    if (strcmp(st->dtype, "i32") && (!q->worst.name || badness(q, st) > badness(q, &q->worst))) q->worst = *st;
    if (q->s->o->verbose) print_stage(st);
}

static bool dump(Parity *q, const char *name, const Tensor *got, const Tensor *want, Err *e) {
    char path[512];
    size_t n;
    if (!q->s->o->dump_tensor || strcmp(q->s->o->dump_tensor, name) || q->dumped) return true;
    q->dumped = true;
    if (!dtype_bytes(got->dtype, (size_t)tensor_count(got), &n)) die("parity: %s has no size", name);
    snprintf(path, sizeof path, "%s.device", name);
    if (!file_write(path, got->data, n, e)) return false;
    snprintf(path, sizeof path, "%s.ref", name);
    return file_write(path, want->data, n, e);
}

/* --- a node ----------------------------------------------------------------------------------------------------------------- */

typedef struct Pair Pair; /* an output on both sides */
struct Pair {
    Tensor got, want;
    void *device; /* the device's values as they were */
    int64_t flips;
    size_t bytes;
};

static bool read_pair(Parity *q, const Value *v, int buf, Pair *p, Err *e) {
    p->got = p->want = shape_of(q, v, buf);
    if (!dtype_bytes(p->got.dtype, (size_t)tensor_count(&p->got), &p->bytes)) die("parity: %s has no size", v->name);
    p->got.data = malloc(p->bytes + 1), p->want.data = malloc(p->bytes + 1), p->device = malloc(p->bytes + 1);
    if (!p->got.data || !p->want.data || !p->device) return err_set(e, "parity: out of memory for %s", v->name);
    if (!transfer(q, q->dev, buf, &p->got, false, e) || !transfer(q, q->ref, buf, &p->want, false, e)) return false;
    memcpy(p->device, p->got.data, p->bytes);
    return true;
}

static void free_pair(Pair *p) { free(p->got.data), free(p->want.data), free(p->device); }

static bool compare(Parity *q, int graph, int node, const Node *n, const int *bufs, Pair *pair, Err *e) {
    const PlanKernel *k = kernel_of(q->dev->plan, graph, node);
    int64_t rows = q->t->n + 1 > q->dev->plan->max_batch ? q->t->n + 1 : q->dev->plan->max_batch;
    for (int i = 0; i < n->n_out; i++)
        if (pair[i].got.rank && pair[i].got.dim[0] > rows) rows = pair[i].got.dim[0];
    bool *flipped = calloc((size_t)rows + 1, sizeof *flipped), ok = true;
    if (!flipped) return err_set(e, "parity: out of memory");
    for (int i = 0; i < n->n_out && !q->strict; i++)
        if (pair[i].got.dtype == DT_I32) pair[i].flips = mark_flips(&pair[i].got, &pair[i].want, flipped);
    for (int i = 0; i < n->n_out && ok; i++) {
        Pair *p = &pair[i];
        Stage st = {.graph = q->dev->plan->graphs[graph].name,
                    .name = n->out[i]->name,
                    .kernel = k ? k->symbol : op_info(n->op)->name,
                    .dtype = dtype_name(p->got.dtype),
                    .step = q->step,
                    .tolerance = k ? k->nmse : 0,
                    .flips = p->flips};
        ok = dump(q, n->out[i]->name, &p->got, &p->want, e);
        if (p->got.dtype != DT_I32 && q->ref->group[bufs[i]] < 0 && !q->strict) leave_out(&p->got, &p->want, flipped);
        judge(q, &st, &p->got, &p->want);
        note(q, &st);
        p->got.data = memcpy(p->got.data, p->device, p->bytes);
        if (ok && !q->strict) ok = transfer(q, q->ref, bufs[i], &p->got, true, e);
    }
    free(flipped);
    return ok;
}

static bool run_node(Parity *q, int graph, int node, Err *e) {
    const Node *n = q->dev->ir[graph]->nodes.at[node];
    const int *bufs = q->dev->out[graph] + node * MAX_OUT;
    Pair pair[MAX_OUT];
    memset(pair, 0, sizeof pair);
    if (!exec_node(q->dev, graph, node, e)) return false;
    if (!exec_node(q->ref, graph, node, e)) return err_wrap(e, "ref");
    bool ok = true;
    for (int i = 0; i < n->n_out && ok; i++) ok = read_pair(q, n->out[i], bufs[i], &pair[i], e);
    ok = ok && compare(q, graph, node, n, bufs, pair, e);
    for (int i = 0; i < n->n_out; i++) free_pair(&pair[i]);
    return ok;
}

static bool run_graph(Parity *q, int graph, Err *e) {
    exec_begin(q->dev, graph);
    exec_begin(q->ref, graph);
    for (size_t n = 0; n < q->dev->ir[graph]->nodes.n; n++)
        if (!run_node(q, graph, (int)n, e)) return false;
    return true;
}

static bool run_head(Parity *q, int graph, bool sample, Err *e) {
    if (graph < 0 || !q->t->n_rows) return true;
    int64_t max = exec_max(q->dev->plan, graph), n = q->t->n_rows < max ? q->t->n_rows : max;
    const int32_t *slots = sample ? q->t->row_slot : NULL;
    exec_rows(q->dev, q->t->rows, slots, n), exec_rows(q->ref, q->t->rows, slots, n);
    return run_graph(q, graph, e);
}

/* --- the whole -------------------------------------------------------------------------------------------------------------- */

/* Prompts that cross a page and a window, and short ones. */
static Requests made_up(Session *s) {
    static const int64_t length[PROMPTS] = {150, 7, 1};
    uint64_t state = 7;
    Requests r = {PROMPTS, arena_array(s->arena, PROMPTS, sizeof *r.at), NULL};
    for (size_t i = 0; i < r.n; i++) {
        int64_t n = length[i], room = s->steps - GENERATED + 1;
        if (n > room) n = room > 0 ? room : 1;
        int32_t *ids = arena_array(s->arena, (size_t)n, sizeof *ids);
        for (int64_t k = 0; k < n; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            ids[k] = (int32_t)((state >> 33) % (uint64_t)s->plan->config.vocab);
        }
        r.at[i] = (Request){.ids = ids, .n_ids = n, .max_new = n + GENERATED - 1 <= s->steps ? GENERATED : 1};
    }
    return r;
}

static bool requests(Session *s, Requests *r, Err *e) {
    Prompts p;
    if (!s->o->input) {
        *r = made_up(s);
    } else {
        if (!prompts_read(s, s->o->input, &p, e)) return false;
        *r = requests_make(s, &p, "it is left out");
        if (!requests_left(s, &p, r, e)) return false;
        if (!r->n) return err_set(e, "%s: no requests", s->o->input);
        for (size_t i = 0; i < r->n && s->o->steps < 0; i++)
            if (r->at[i].max_new > GENERATED) r->at[i].max_new = GENERATED; /* unless -n says how many */
    }
    for (size_t i = 0; i < r->n; i++)
        r->at[i].out = arena_array(s->arena, (size_t)r->at[i].max_new + 1, sizeof *r->at[i].out);
    return true;
}

static bool run_steps(Parity *q, Sched *sched, Err *e) {
    Session *s = q->s;
    int32_t *ids = arena_array(s->arena, (size_t)s->slots, sizeof *ids);
    for (; (q->t = sched_next(sched)); q->step++) {
        session_inputs(q->dev, sched, q->t), session_inputs(q->ref, sched, q->t);
        if (!run_graph(q, s->step, e) || !run_head(q, s->logits, false, e) || !run_head(q, s->sample, true, e))
            return false;
        int64_t max = exec_max(s->plan, s->sample);
        if (q->t->n_rows > max)
            return err_set(e, "parity: %" PRId64 " rows in a step, the head takes %" PRId64 "; use -b", q->t->n_rows,
                           max);
        if (q->t->n_rows && !exec_read(q->dev, s->ids_buf, 0, ids, (size_t)q->t->n_rows * sizeof *ids, e)) return false;
        for (int64_t i = 0; i < q->t->n_rows; i++)
            if (ids[i] < 0)
                return q->bad != 0; /* a NaN: nothing can follow, and its stage is known, if ref has none there */
        sched_commit(sched, ids);
        if (q->bad && q->strict) return true; /* all later ones follow from it */
    }
    return true;
}

static json_t *stage_json(const Stage *st) {
    if (!st->name) return json_null();
    return json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:I, s:I}", "graph", st->graph, "name", st->name,
                     "kernel", st->kernel, "step", (json_int_t)st->step, "max_abs", st->max_abs, "max_rel",
                     isfinite(st->max_rel) ? st->max_rel : 1e308, "nmse", isfinite(st->nmse) ? st->nmse : 1e308,
                     "tolerance", st->tolerance, "index", (json_int_t)st->at, "flips", (json_int_t)st->flips);
}

static bool report(Parity *q, Err *e) {
    const Stage *b = &q->first;
    if (q->s->o->json) {
        json_t *j =
            json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "mode", "parity", "device", q->dev->dev->ops->name,
                      "precision", q->s->plan->precision, "steps", (json_int_t)q->step, "stages", (json_int_t)q->stages,
                      "bad", (json_int_t)q->bad, "first_bad", stage_json(b), "worst", stage_json(&q->worst));
        if (j) json_dumpf(j, stdout, JSON_INDENT(2)), fputc('\n', stdout);
        json_decref(j);
    } else {
        printf("parity of %s and ref, %s: %" PRId64 " stages in %" PRId64 " steps, %" PRId64 " out of tolerance\n",
               q->dev->dev->ops->name, q->s->plan->precision, q->stages, q->step, q->bad);
        if (q->worst.name) fflush(stdout), fprintf(stderr, "worst: "), print_stage(&q->worst);
    }
    if (q->s->o->dump_tensor && !q->dumped)
        return err_set(e, "--dump-tensor: no value is called %s", q->s->o->dump_tensor);
    if (!q->bad) return true;
    return err_set(e,
                   "parity: first stage out of tolerance: %s (graph %s, step %" PRId64
                   ", kernel %s): max abs %g, max rel %g, nmse %g (tolerance %g), at index %" PRId64 " of %" PRId64,
                   b->name, b->graph, b->step, b->kernel, b->max_abs, b->max_rel, b->nmse,
                   q->strict ? atol_strict : b->tolerance, b->at, b->count);
}

bool mode_parity(Session *s, Err *e) {
    Requests r = {0};
    Parity q = {.s = s, .strict = !strcmp(s->plan->precision, "strict")};
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (!requests(s, &r, e) || !session_load(s, e)) return false;
    q.dev = s->exec;
    q.ref_dev = session_device(s, "ref", e);
    q.ref = q.ref_dev ? exec_open(s->plan, s->model, q.ref_dev, e) : NULL;
    Exec *both[] = {q.dev, q.ref};
    Sched *sched = q.ref ? session_sched(s, both, 2, r.at, r.n, true, e) : NULL;
    q.sched = sched;
    bool ok = sched && run_steps(&q, sched, e) && report(&q, e);
    if (ok) session_profile(s);
    sched_free(sched);
    exec_close(q.ref);
    device_close(q.ref_dev);
    return ok;
}
