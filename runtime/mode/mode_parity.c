/* mode_parity.c - -m parity: the device and ref in lock-step, each with its own buffers; every output of every node compared.
 * Whether they agree, ir/judge.h decides.
 *
 * Precision strict: ref goes its own way, so errors add up, and every value must be within atol 1e-6 + rtol 1e-5. Where a rounding
 * or a tie went the other way, and may have, ref follows the device.
 * Otherwise each stage is judged alone, by its kernel's tolerance: after its comparison ref continues from the device's values.
 * Where an index differs for a tie, the rest of its row in that node's other outputs is left out: it took another way.
 * State is compared by its delta: the KV rows that the step wrote. */
#include "mode.h"
#include "ir/judge.h"

#include <jansson.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { PROMPTS = 3, GENERATED = 4 };
static const double atol_strict = 1e-6, rtol_strict = 1e-5;

typedef struct Stage Stage; /* one value of one step */
struct Stage {
    const char *graph, *name, *kernel, *dtype;
    int64_t step;
    Verdict v;
};

typedef struct Parity Parity;
struct Parity {
    Session *s;
    Exec *dev, *ref;
    Device *ref_dev;
    const SchedStep *t;
    const Sched *sched;
    bool strict, dumped;
    int64_t step, stages, bad, steps_off, ties;
    Stage first;     /* the first bad one */
    Stage nonfinite; /* the first that holds a NaN or an infinity, on the device; v.at and v.got: where, and which */
    Stage worst;     /* largest nmse / tolerance (strict: largest absolute error) among floats */
};

/* --- reading values --------------------------------------------------------------------------------------------------------- */

/* Where a pool keeps token i's head h: the first of D elements. */
static size_t kv_element(const Parity *q, const PlanBuf *b, int group, int64_t token, int kv, int64_t head) {
    const Dim *d = b->type.dim;
    int64_t pos = q->t->pos[token], page = sched_table(q->sched, group, q->t->slot[token])[pos / KV_PAGE];
    return (size_t)((((page * 2 + kv) * d[2].add + head) * d[3].add + pos % KV_PAGE) * d[4].add);
}

/* What the step wrote to a pool, as a tensor [2*T*NKV, D]. */
static bool read_delta(Parity *q, Exec *x, int buf, void *to, bool write, Err *e) {
    const PlanBuf *b = &x->plan->bufs[buf];
    size_t element = b->type.dtype == DT_BF16 ? 2 : 4, line = (size_t)b->type.dim[4].add * element;
    char *at = to;
    for (int64_t i = 0; i < q->t->n; i++)
        for (int kv = 0; kv < 2; kv++)
            for (int64_t h = 0; h < b->type.dim[2].add; h++, at += line) {
                size_t from = kv_element(q, b, x->group[buf], i, kv, h) * element;
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

/* The kernel that writes the node's results in the current step: its last launch's. NULL: nothing runs it in this bucket. */
static const PlanKernel *kernel_of(const Exec *x, int graph, int node) {
    const PlanGraph *g = &x->plan->graphs[graph];
    const PlanKernel *k = NULL;
    for (int i = plan_launch(g, node); i < g->n_launches && g->launches[i].node == node; i++)
        if (g->launches[i].grid[exec_bucket(x, graph)][0]) k = &x->plan->kernels[g->launches[i].kernel];
    return k;
}

/* Marks rows in which an integer output differs. */
static void mark_flips(const Tensor *got, const Tensor *want, bool *row) {
    int64_t rows = got->rank ? got->dim[0] : 1, width = rows ? tensor_count(got) / rows : 0;
    const int32_t *g = got->data, *w = want->data;
    for (int64_t i = 0; i < rows; i++) row[i] = row[i] || memcmp(g + i * width, w + i * width, (size_t)width * 4);
}

/* Rows that took another way are not compared: want's are put in got's place. */
static void leave_out(Tensor *got, const Tensor *want, const bool *row) {
    size_t n;
    int64_t rows = got->rank ? got->dim[0] : 1;
    if (!rows || !dtype_bytes(got->dtype, (size_t)(tensor_count(got) / rows), &n)) return;
    for (int64_t i = 0; i < rows; i++)
        if (row[i]) memcpy((char *)got->data + (size_t)i * n, (char *)want->data + (size_t)i * n, n);
}

static double badness(const Parity *q, const Stage *st) {
    double tolerance = st->v.rule.nmse;
    return q->strict ? st->v.max_abs : tolerance > 0 ? st->v.nmse / tolerance : st->v.nmse;
}

static void print_stage(const Stage *st) {
    const Verdict *v = &st->v;
    fprintf(stderr,
            "%-4s step %-3" PRId64 " %-7s %-36s %-5s %-28s max abs %9.3g  rel %9.3g  nmse %9.3g (tol %.1g)  at %" PRId64
            " of %" PRId64,
            v->fault ? "BAD" : "ok", st->step, st->graph, st->name, st->dtype, st->kernel, v->max_abs, v->max_rel,
            v->nmse, v->rule.nmse, v->at, v->count);
    if (v->steps && v->dtype == DT_BF16) fprintf(stderr, ", %" PRId64 " a step off", v->steps);
    if (v->ties) fprintf(stderr, ", %" PRId64 " ties", v->ties);
    fputc('\n', stderr);
}

static void note(Parity *q, const Stage *st) {
    q->stages++;
    if (!strcmp(st->dtype, "bf16")) q->steps_off += st->v.steps;
    q->ties += st->v.ties;
    if (st->v.fault && !q->bad++) q->first = *st;
    if (strcmp(st->dtype, "i32") && (!q->worst.name || badness(q, st) > badness(q, &q->worst))) q->worst = *st;
    if (q->s->o->verbose) print_stage(st);
}

/* Remembers the first value that is not finite: what follows from it may end the run. */
static void note_nonfinite(Parity *q, const Stage *st, const Tensor *got, const Tensor *want) {
    int64_t n = tensor_count(got);
    if (q->nonfinite.name || got->dtype == DT_I32) return;
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_at(got, i);
        if (isfinite(x)) continue;
        q->nonfinite = *st;
        q->nonfinite.v.at = i, q->nonfinite.v.count = n, q->nonfinite.v.got = x,
        q->nonfinite.v.want = tensor_at(want, i);
        return;
    }
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

typedef struct Stages Stages; /* a node's, being judged */
struct Stages {
    Parity *q;
    int graph, node;
    const Node *n;
    const int *bufs;
    Pair *pair;
    JudgeNode judge;
    Tensor in[MAX_IN];
};

/* What the step wrote of a whole pool, as read_delta orders it. */
static float *delta_of(void *ctx, int out, const float *whole) {
    const Stages *g = ctx;
    const Parity *q = g->q;
    int buf = g->bufs[out];
    const PlanBuf *b = &q->ref->plan->bufs[buf];
    int64_t n = tensor_count(&g->pair[out].want), d = b->type.dim[4].add;
    float *to = malloc((size_t)n * sizeof *to + 1), *at = to;
    if (!to) out_of_memory((size_t)n * sizeof *to, "parity");
    if (q->ref->group[buf] < 0) return memcpy(to, whole, (size_t)n * sizeof *to);
    for (int64_t i = 0; i < q->t->n; i++)
        for (int kv = 0; kv < 2; kv++)
            for (int64_t h = 0; h < b->type.dim[2].add; h++, at += d)
                memcpy(at, whole + kv_element(q, b, q->ref->group[buf], i, kv, h), (size_t)d * sizeof *at);
    return to;
}

static bool begin_stages(Stages *g, Err *e) {
    Parity *q = g->q;
    const PlanKernel *k = kernel_of(q->dev, g->graph, g->node);
    const int *in = q->ref->in[g->graph] + g->node * MAX_IN;
    for (int i = 0; i < g->n->n_in; i++)
        if (in[i] >= 0) g->in[i] = tensor_of(&g->n->in[i]->type, &q->ref->sizes, q->ref->at[in[i]]);
    g->judge = (JudgeNode){
        .n = g->n, .in = g->in, .sizes = &q->ref->sizes, .threads = (int)q->s->o->threads, .part = delta_of, .ctx = g};
    const PlanGraph *pg = &q->dev->plan->graphs[g->graph];
    g->judge.rule.nmse = k ? plan_tolerance(q->dev->plan, pg, g->node, q->dev->sizes.of[pg->sym]) : 0;
    if (q->strict) g->judge.rule.atol = atol_strict, g->judge.rule.rtol = rtol_strict, g->judge.drifted = true;
    for (int i = 0; i < g->n->n_out; i++)
        if (!read_pair(q, g->n->out[i], g->bufs[i], &g->pair[i], e)) return false;
    return true;
}

static bool judge_stage(Stages *g, int i, const bool *flipped, bool *granted, Err *e) {
    Parity *q = g->q;
    Pair *p = &g->pair[i];
    const PlanKernel *k = kernel_of(q->dev, g->graph, g->node);
    Stage st = {.graph = q->dev->plan->graphs[g->graph].name,
                .name = g->n->out[i]->name,
                .kernel = k ? k->symbol : op_info(g->n->op)->name,
                .dtype = dtype_name(p->got.dtype),
                .step = q->step};
    if (!dump(q, st.name, &p->got, &p->want, e)) return false;
    note_nonfinite(q, &st, &p->got, &p->want);
    if (p->got.dtype != DT_I32 && q->ref->group[g->bufs[i]] < 0) leave_out(&p->got, &p->want, flipped);
    if (!judge_node(&g->judge, i, &p->got, &p->want, &st.v, e)) return false;
    note(q, &st);
    *granted = *granted || (p->got.dtype == DT_BF16 && st.v.steps) || st.v.ties;
    return true;
}

/* Integers come first: rows in which they differ took another way. */
static bool compare(Stages *g, Err *e) {
    Parity *q = g->q;
    int64_t rows = q->t->n + 1 > q->dev->plan->max_batch ? q->t->n + 1 : q->dev->plan->max_batch;
    bool ok = true, granted = false;
    for (int i = 0; i < g->n->n_out; i++)
        if (g->pair[i].got.rank && g->pair[i].got.dim[0] > rows) rows = g->pair[i].got.dim[0];
    bool *flipped = calloc((size_t)rows + 1, sizeof *flipped);
    if (!flipped) return err_set(e, "parity: out of memory");
    for (int ints = 1; ints >= 0; ints--)
        for (int i = 0; i < g->n->n_out && ok; i++) {
            Pair *p = &g->pair[i];
            if ((p->got.dtype == DT_I32) != ints) continue;
            ok = judge_stage(g, i, flipped, &granted, e);
            if (ints) mark_flips(&p->got, &p->want, flipped);
        }
    for (int i = 0; i < g->n->n_out && ok; i++) {
        g->pair[i].got.data = memcpy(g->pair[i].got.data, g->pair[i].device, g->pair[i].bytes);
        if (!q->strict || granted) ok = transfer(q, q->ref, g->bufs[i], &g->pair[i].got, true, e);
    }
    free(flipped);
    return ok;
}

static bool run_node(Parity *q, int graph, int node, Err *e) {
    const Node *n = q->dev->ir[graph]->nodes.at[node];
    Pair pair[MAX_OUT];
    memset(pair, 0, sizeof pair);
    Stages g = {
        .q = q, .graph = graph, .node = node, .n = n, .bufs = q->dev->out[graph] + node * MAX_OUT, .pair = pair};
    if (!exec_node(q->dev, graph, node, e)) return false;
    if (!exec_node(q->ref, graph, node, e)) return err_wrap(e, "ref");
    if (!q->dev->dev->ops->run_node && !kernel_of(q->dev, graph, node)) return true; /* nobody reads it in such a step */
    bool ok = begin_stages(&g, e) && compare(&g, e);
    judge_node_end(&g.judge);
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
                return q->bad || err_set(e, "parity: the logits of request %zu hold a NaN", q->t->row_request[i] + 1);
        sched_commit(sched, ids);
        if (q->bad && q->strict) return true; /* all later ones follow from it */
    }
    return true;
}

static double number(double x) { return isfinite(x) ? x : 1e308; } /* JSON knows no others */

static json_t *stage_json(const Stage *st) {
    const Verdict *v = &st->v;
    if (!st->name) return json_null();
    return json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "graph", st->graph, "name", st->name,
                     "kernel", st->kernel, "step", (json_int_t)st->step, "max_abs", number(v->max_abs), "max_rel",
                     number(v->max_rel), "nmse", number(v->nmse), "tolerance", v->rule.nmse, "index", (json_int_t)v->at,
                     "flips", (json_int_t)v->ties, "steps_off", (json_int_t)v->steps);
}

/* Where a NaN or an infinity came first, behind what the error says. */
static void name_nonfinite(const Parity *q, Err *e) {
    const Stage *st = &q->nonfinite;
    if (!st->name) return;
    err_add(e, "%sthe first value that is not finite is %s (graph %s, step %" PRId64 ", kernel %s): element %" PRId64 " of %" PRId64 " is %g, on ref %g",
            *e->msg ? "; " : "", st->name, st->graph, st->step, st->kernel, st->v.at, st->v.count, st->v.got, st->v.want);
}

static void print_report(const Parity *q) {
    if (q->s->o->json) {
        json_t *j =
            json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "mode", "parity", "device",
                      q->dev->dev->ops->name, "precision", q->s->plan->precision, "steps", (json_int_t)q->step,
                      "stages", (json_int_t)q->stages, "bad", (json_int_t)q->bad, "steps_off", (json_int_t)q->steps_off,
                      "ties", (json_int_t)q->ties, "first_bad", stage_json(&q->first), "worst", stage_json(&q->worst));
        if (j) json_dumpf(j, stdout, JSON_INDENT(2)), fputc('\n', stdout);
        json_decref(j);
        return;
    }
    printf("parity of %s and ref, %s: %" PRId64 " stages in %" PRId64 " steps, %" PRId64 " out of tolerance; %" PRId64
           " values a bf16 step off, %" PRId64 " ties\n",
           q->dev->dev->ops->name, q->s->plan->precision, q->stages, q->step, q->bad, q->steps_off, q->ties);
    if (q->worst.name) fflush(stdout), fprintf(stderr, "worst: "), print_stage(&q->worst);
}

/* A stage out of tolerance comes before what it led to. */
static bool report(const Parity *q, bool ran, Err *e) {
    const Stage *b = &q->first;
    if (!q->bad) return ran || (name_nonfinite(q, e), false);
    if (!session_unchanged(q->s, e)) return false; /* two devices that have read two weights */
    Text why = {0};
    judge_why(&b->v, &why);
    err_set(e, "parity: first stage out of tolerance: %s (graph %s, step %" PRId64 ", kernel %s): %s", b->name,
            b->graph, b->step, b->kernel, why.at);
    text_free(&why);
    return false;
}

bool mode_parity(Session *s, Err *e) {
    Requests r = {0};
    Parity q = {.s = s, .strict = !strcmp(s->plan->precision, "strict")};
    if (s->sample < 0) return err_set(e, "%s: the plan has no graph \"sample\"", s->o->plan);
    if (!requests(s, &r, e) || !session_load(s, e)) return false;
    q.dev = s->exec;
    q.ref_dev = session_device(s, "ref", e);
    q.ref = q.ref_dev ? exec_open(s->plan, s->model, &q.ref_dev, NULL, e) : NULL;
    Exec *both[] = {q.dev, q.ref};
    Sched *sched = q.ref ? session_sched(s, both, 2, r.at, r.n, true, e) : NULL;
    q.sched = sched;
    bool ran = sched && run_steps(&q, sched, e), ok;
    if (ran && s->o->dump_tensor && !q.dumped)
        ran = err_set(e, "--dump-tensor: no value is called %s", s->o->dump_tensor);
    if (ran || q.bad) print_report(&q);
    ok = report(&q, ran, e);
    if (ok) session_profile(s);
    sched_free(sched);
    exec_close(q.ref);
    device_close(q.ref_dev);
    return ok;
}
