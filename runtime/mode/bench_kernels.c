/* bench_kernels.c - a step taken apart: each kernel alone, and the step as a trace.
 *
 * A kernel is timed at the place in the step where it first runs, so that ids, lists of experts and block tables are a real
 * step's: its launches in all layers, one behind the other, on those activations but each on its own layer's weights and cache,
 * many times over. So weights come from memory as they do in a step, unless all layers' together fit into a cache. Where the
 * device has graphs the launches are replayed as one, as in a step. What it writes is what the step wants there, or will
 * write itself later on. */
#include "bench.h"

#include <math.h>

#include "runtime/device/stamp.h"

enum { LEAST_LAUNCHES = 24 /* in a graph: its start shall not count */, MAX_REPEATS = 200 };
static const double wanted_seconds = 20e-3;

const Column kernel_columns[] = {
    {"test", "test", -1},
    {"T", "tokens", 0},
    {"kernel", "kernel", -1},
    {"a step", "launches", 0},
    {"us", "microseconds", 2},
    {"us a step", "microseconds_in_step", 1},
    {"MB", "megabytes", 3},
    {"GB/s", "gigabytes_per_second", 1},
    {"% read", "percent_of_read", 1},
    {"GFLOP", "gigaflops", 4},
    {"TFLOP/s", "teraflops_per_second", 2},
    {"% matrix", "percent_of_matrix", 1},
    {"% bound", "percent_of_bound", 1},
};
const size_t kernel_n_columns = LEN(kernel_columns);

/* --- which launches belong together ------------------------------------------------------------------------------------------ */

typedef struct Group Group; /* nodes of a graph that launch the same kernels in the current bucket */
struct Group {
    int graph, n;
    int *node; /* [n], ascending */
};

static bool runs(const PlanLaunch *l, int bucket) {
    return l->grid[bucket][0] && l->grid[bucket][1] && l->grid[bucket][2];
}

/* The node's launches in this bucket, at most `most`. */
static int launches_of(const Exec *x, int graph, int node, const PlanLaunch **to, int most) {
    const PlanGraph *g = &x->plan->graphs[graph];
    int n = 0;
    for (int i = 0; i < g->n_launches && n < most; i++)
        if (g->launches[i].node == node && runs(&g->launches[i], exec_bucket(x, graph))) to[n++] = &g->launches[i];
    return n;
}

enum { NODE_LAUNCHES = 8 };

static bool same_kernels(const Exec *x, int graph, int a, int b) {
    const PlanLaunch *la[NODE_LAUNCHES], *lb[NODE_LAUNCHES];
    int n = launches_of(x, graph, a, la, NODE_LAUNCHES);
    bool same = n == launches_of(x, graph, b, lb, NODE_LAUNCHES);
    for (int i = 0; same && i < n; i++) same = la[i]->kernel == lb[i]->kernel;
    return same;
}

static const char *node_kind(const Node *n) { return n->op == OP_FUSED ? n->rule : op_info(n->op)->name; }

static bool same_types(Value *const *a, Value *const *b, int n) {
    for (int i = 0; i < n; i++)
        if (!a[i] != !b[i] || (a[i] && !type_eq(&a[i]->type, &b[i]->type))) return false;
    return true;
}

/* Where nodes are interpreted: the same op or rule, of the same shape. */
static bool alike(const Exec *x, int graph, int a, int b) {
    const Node *na = x->ir[graph]->nodes.at[a], *nb = x->ir[graph]->nodes.at[b];
    if (!x->dev->ops->run_node) return same_kernels(x, graph, a, b);
    return !strcmp(node_kind(na), node_kind(nb)) && na->n_in == nb->n_in && na->n_out == nb->n_out &&
           same_types(na->in, nb->in, na->n_in) && same_types(na->out, nb->out, na->n_out);
}

static const char *kernels_of(const Exec *x, Arena *a, int graph, int node) {
    const PlanLaunch *l[NODE_LAUNCHES];
    int n = x->dev->ops->run_node ? 0 : launches_of(x, graph, node, l, NODE_LAUNCHES);
    const char *name = n ? x->plan->kernels[l[0]->kernel].symbol : node_kind(x->ir[graph]->nodes.at[node]);
    for (int i = 1; i < n; i++) name = arena_printf(a, "%s + %s", name, x->plan->kernels[l[i]->kernel].symbol);
    return name;
}

/* --- timing ------------------------------------------------------------------------------------------------------------------- */

/* Node `at` on the activations of node `on`. */
static bool launch_on(Exec *x, int graph, int at, int on, Err *e) {
    const PlanLaunch *la[NODE_LAUNCHES], *lo[NODE_LAUNCHES];
    int bufs[PLAN_MAX_ARGS], n = launches_of(x, graph, at, la, NODE_LAUNCHES);
    launches_of(x, graph, on, lo, NODE_LAUNCHES);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < la[i]->n_args; k++) {
            int own = la[i]->args[k];
            BufKind kind = own < 0 ? BUF_KINDS : x->plan->bufs[own].kind;
            bufs[k] = kind == BUF_WEIGHT || kind == BUF_PACKED || kind == BUF_STATE ? own : lo[i]->args[k];
        }
        if (!exec_launch(x, graph, la[i], bufs, e)) return false;
    }
    return true;
}

/* Nodes that a round runs: all of the group, for a graph so often that there are enough. An interpreted node reads what the one
 * before it wrote, so it stands for the others. */
static int round_size(const Exec *x, const Group *g) {
    if (x->dev->ops->run_node) return 1;
    return x->dev->ops->capture_begin ? (LEAST_LAUNCHES + g->n - 1) / g->n * g->n : g->n;
}

static bool run_round(Exec *x, const Group *g, Err *e) {
    const int size = round_size(x, g);
    if (x->dev->ops->run_node) return exec_node(x, g->graph, g->node[0], e);
    for (int i = 0; i < size; i++)
        if (!launch_on(x, g->graph, g->node[i % g->n], g->node[0], e)) return false;
    return true;
}

static bool round_again(Exec *x, const Group *g, void *graph, Err *e) {
    return graph ? x->dev->ops->replay(x->dev, 0, graph, e) : run_round(x, g, e);
}

static bool time_rounds(Exec *x, const Group *g, void *graph, int rounds, double *seconds, Err *e) {
    Stamp from = {0}, to = {0};
    bool ok = stamp(&from, x->dev, e);
    for (int i = 0; ok && i < rounds; i++) ok = round_again(x, g, graph, e);
    ok = ok && stamp(&to, x->dev, e) && stamp_between(&from, &to, x->dev, seconds, e);
    stamp_free(&from, x->dev), stamp_free(&to, x->dev);
    return ok;
}

/* Seconds of one node of the group. Interpreters and emulators run it once: their time is no device's. */
static bool time_group(Exec *x, const Group *g, bool once, double *seconds, Err *e) {
    const DeviceOps *ops = x->dev->ops;
    void *graph = NULL;
    int rounds = 1;
    if (ops->capture_begin &&
        (!ops->capture_begin(x->dev, 0, e) || !run_round(x, g, e) || !(graph = ops->capture_end(x->dev, 0, e))))
        return false;
    bool ok = once || time_rounds(x, g, graph, 1, seconds, e); /* warm */
    ok = ok && time_rounds(x, g, graph, 1, seconds, e);
    if (ok && !once) {
        double more = wanted_seconds / (*seconds > 1e-7 ? *seconds : 1e-7);
        rounds = more < 1 ? 1 : more > MAX_REPEATS ? MAX_REPEATS : (int)more;
        ok = time_rounds(x, g, graph, rounds, seconds, e);
    }
    *seconds /= (double)rounds * round_size(x, g);
    if (graph) ops->graph_free(x->dev, graph);
    return ok;
}

/* --- rows ----------------------------------------------------------------------------------------------------------------------- */

enum { C_TEST, C_T, C_KERNEL, C_LAUNCHES, C_US, C_US_STEP, C_MB, C_GBS, C_READ, C_GFLOP, C_TFLOPS, C_MATRIX, C_BOUND };

static double rows_in(const Exec *x, int graph) { return (double)x->sizes.of[x->plan->graphs[graph].sym]; }
static double percent(double part, double all) { return all > 0 ? 100 * part / all : NAN; }

/* bound: what the slower of the two limits would need. */
static void fill_row(Cell *c, double seconds, const Cost *cost, const Limits *l, double bound) {
    double bytes = cost->read + cost->written;
    c[C_MB].number = bytes * 1e-6, c[C_GFLOP].number = cost->flops * 1e-9;
    c[C_GBS].number = bytes / seconds * 1e-9, c[C_TFLOPS].number = cost->flops / seconds * 1e-12;
    c[C_READ].number = percent(bytes / seconds, l->read),
    c[C_MATRIX].number = percent(cost->flops / seconds, l->matrix);
    c[C_BOUND].number = bound > 0 ? percent(bound, seconds) : NAN;
}

static double bound_of(const Cost *cost, const Limits *l) {
    double read = l->read > 0 ? (cost->read + cost->written) / l->read : 0;
    return fmax(read, l->matrix > 0 ? cost->flops / l->matrix : 0);
}

typedef struct Sum Sum;
struct Sum {
    double seconds, bound, launches;
    Cost cost;
};

static void add_group(Session *s, const BenchStep *b, const Limits *l, const Group *g, double seconds, Table *t,
                      Sum *sum) {
    Exec *x = s->exec;
    Cost cost = cost_node(x->ir[g->graph]->nodes.at[g->node[0]], &b->work);
    double bound = bound_of(&cost, l);
    Cell *c = table_row(t);
    c[C_TEST].text = case_name(s->arena, b->c), c[C_KERNEL].text = kernels_of(x, s->arena, g->graph, g->node[0]);
    c[C_T].number = rows_in(x, g->graph), c[C_LAUNCHES].number = g->n;
    c[C_US].number = seconds * 1e6, c[C_US_STEP].number = seconds * 1e6 * g->n;
    fill_row(c, seconds, &cost, l, bound);
    sum->seconds += seconds * g->n, sum->bound += bound * g->n, sum->launches += g->n;
    sum->cost.read += cost.read * g->n, sum->cost.written += cost.written * g->n, sum->cost.flops += cost.flops * g->n;
}

static bool graph_groups(Session *s, const BenchStep *b, const Limits *l, int graph, Table *t, Sum *sum, Err *e) {
    Exec *x = s->exec;
    bool once = x->dev->ops->simulated;
    int n_nodes = (int)x->ir[graph]->nodes.n;
    exec_begin(x, graph);
    for (int i = 0; i < n_nodes; i++) {
        Group g = {graph, 0, arena_array(s->arena, (size_t)n_nodes, sizeof *g.node)};
        double seconds = 0;
        for (int k = 0; k < n_nodes; k++)
            if (alike(x, graph, k, i)) g.node[g.n++] = k;
        if (!exec_node(x, graph, i, e)) return false;
        if (g.node[0] != i) continue; /* timed with the first of them */
        if (!time_group(x, &g, once, &seconds, e)) return err_wrap(e, "node %s", node_name(x->ir[graph]->nodes.at[i]));
        add_group(s, b, l, &g, seconds, t, sum);
    }
    return x->dev->ops->sync(x->dev, 0, e);
}

bool bench_kernels(Session *s, const BenchStep *b, const Limits *l, Table *t, Err *e) {
    Sum sum = {0};
    if (!graph_groups(s, b, l, s->step, t, &sum, e) ||
        (b->step->n_rows && !graph_groups(s, b, l, s->sample, t, &sum, e)))
        return false;
    Cell *c = table_row(t);
    c[C_TEST].text = case_name(s->arena, b->c), c[C_KERNEL].text = "all";
    c[C_T].number = rows_in(s->exec, s->step), c[C_LAUNCHES].number = sum.launches;
    c[C_US_STEP].number = sum.seconds * 1e6;
    fill_row(c, sum.seconds, &sum.cost, l, sum.bound);
    return true;
}

/* --- trace ---------------------------------------------------------------------------------------------------------------------- */

static json_t *event(const char *name, const char *kernel, const char *graph, int pid, double from, double to,
                     const Cost *c) {
    double us = (to - from) * 1e6;
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:{s:s, s:f, s:f, s:f, s:f}}", "ph", "X", "name", name, "cat",
                     graph, "pid", pid, "tid", 0, "ts", from * 1e6, "dur", us, "args", "kernel", kernel, "bytes",
                     c->read + c->written, "flops", c->flops, "GB/s", us > 0 ? (c->read + c->written) / us * 1e-3 : 0,
                     "TFLOP/s", us > 0 ? c->flops / us * 1e-6 : 0);
}

/* Stamps between nodes, read only when all have run. */
static bool run_stamped(Exec *x, int graph, Stamp *at, Err *e) {
    exec_begin(x, graph);
    if (!stamp(&at[0], x->dev, e)) return false;
    for (size_t n = 0; n < x->ir[graph]->nodes.n; n++)
        if (!exec_node(x, graph, (int)n, e) || !stamp(&at[n + 1], x->dev, e)) return false;
    return true;
}

static bool add_events(Session *s, const BenchStep *b, int graph, const Stamp *at, int pid, double *when,
                       json_t *events, Err *e) {
    const Graph *ir = s->exec->ir[graph];
    for (size_t n = 0; n < ir->nodes.n; n++) {
        Cost c = cost_node(ir->nodes.at[n], &b->work);
        double took;
        if (!stamp_between(&at[n], &at[n + 1], s->dev, &took, e)) return false;
        json_array_append_new(events, event(node_name(ir->nodes.at[n]), kernels_of(s->exec, s->arena, graph, (int)n),
                                            ir->name, pid, *when, *when + took, &c));
        *when += took;
    }
    return true;
}

static bool trace_graph(Session *s, const BenchStep *b, int graph, int pid, double *when, json_t *events, Err *e) {
    size_t n = s->exec->ir[graph]->nodes.n;
    Stamp *at = arena_array(s->arena, n + 1, sizeof *at);
    bool ok = run_stamped(s->exec, graph, at, e) && s->dev->ops->sync(s->dev, 0, e) &&
              add_events(s, b, graph, at, pid, when, events, e);
    for (size_t i = 0; i <= n; i++) stamp_free(&at[i], s->dev);
    return ok;
}

bool bench_trace(Session *s, const BenchStep *b, int pid, json_t *events, Err *e) {
    double when = 0;
    const char *name = arena_printf(s->arena, "%s, %lld tokens, depth %lld, batch %d, on %s", case_name(s->arena, b->c),
                                    (long long)b->step->n, (long long)b->c->depth, b->c->batch, s->dev->ops->name);
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:{s:s}}", "ph", "M", "name", "process_name", "pid", pid,
                                            "args", "name", name));
    return trace_graph(s, b, s->step, pid, &when, events, e) &&
           (!b->step->n_rows || trace_graph(s, b, s->sample, pid, &when, events, e));
}
