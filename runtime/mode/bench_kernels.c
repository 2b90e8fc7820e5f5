/* bench_kernels.c - a step taken apart: each kernel alone, and the step as a trace.
 *
 * A kernel is timed at the place in the step where it first runs, so that ids, lists of experts and block tables are a real
 * step's: its launches in all layers, one behind the other, on those activations but each on its own layer's weights and cache,
 * many times over. So weights come from memory as they do in a step, unless all layers' together fit into a cache. Where the
 * device has graphs the launches are replayed as one, as in a step. What it writes is what the step wants there, or will
 * write itself later on. */
#include "bench.h"

#include <math.h>

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
    {"device", "device", 0}, /* of several: these, too */
    {"MB of link", "link_megabytes", 3},
    {"% link", "percent_of_link", 1},
};
enum { LINK_COLUMNS = 3 };
size_t kernel_n_columns(const Plan *p) { return LEN(kernel_columns) - (p->devices > 1 ? 0 : LINK_COLUMNS); }

/* --- which launches belong together ------------------------------------------------------------------------------------------ */

typedef struct Group Group; /* nodes of a graph that launch the same kernels in the current bucket */
struct Group {
    int graph, n;
    int *node;   /* [n], ascending */
    int devices; /* that run them: one, or all of the plan's */
};

static bool runs(const PlanLaunch *l, int bucket) {
    return l->grid[bucket][0] && l->grid[bucket][1] && l->grid[bucket][2];
}

/* The node's launches in this bucket, at most `most`. */
static int launches_of(const Exec *x, int graph, int node, const PlanLaunch **to, int most) {
    const PlanGraph *g = &x->plan->graphs[graph];
    int n = 0;
    for (int i = plan_launch(g, node); i < g->n_launches && g->launches[i].node == node && n < most; i++)
        if (runs(&g->launches[i], exec_bucket(x, graph))) to[n++] = &g->launches[i];
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

/* The devices that run the group's nodes; all of them at once. */
typedef struct Rounds Rounds;
struct Rounds {
    Exec *on[PLAN_MAX_DEVICES];
    void *graph[PLAN_MAX_DEVICES]; /* replayable; NULL: launched one by one */
    Stamp from[PLAN_MAX_DEVICES], to[PLAN_MAX_DEVICES];
    int n;
};

static bool capture_rounds(Rounds *r, const Group *g, Err *e) {
    for (int i = 0; i < r->n; i++) {
        Device *d = r->on[i]->dev;
        if (d->ops->capture_begin &&
            (!d->ops->capture_begin(d, 0, e) || !run_round(r->on[i], g, e) || !(r->graph[i] = d->ops->capture_end(d, 0, e))))
            return false;
    }
    return true;
}

static bool round_again(Rounds *r, const Group *g, Err *e) {
    for (int i = 0; i < r->n; i++) {
        Device *d = r->on[i]->dev;
        if (r->graph[i] ? !d->ops->replay(d, 0, r->graph[i], e) : !run_round(r->on[i], g, e)) return false;
    }
    return true;
}

/* Devices whose calls return when all has happened run in turn, each between its own times. */
static bool rounds_in_turn(Rounds *r, const Group *g, int rounds, Err *e) {
    bool ok = true;
    for (int i = 0; ok && i < r->n; i++) {
        ok = stamp(&r->from[i], r->on[i]->dev, e);
        for (int k = 0; ok && k < rounds; k++) ok = run_round(r->on[i], g, e);
        ok = ok && stamp(&r->to[i], r->on[i]->dev, e);
    }
    return ok;
}

static bool rounds_at_once(Rounds *r, const Group *g, int rounds, Err *e) {
    bool ok = true;
    for (int i = 0; ok && i < r->n; i++) ok = stamp(&r->from[i], r->on[i]->dev, e);
    for (int k = 0; ok && k < rounds; k++) ok = round_again(r, g, e);
    for (int i = 0; ok && i < r->n; i++) ok = stamp(&r->to[i], r->on[i]->dev, e);
    return ok;
}

static bool time_rounds(Rounds *r, const Group *g, int rounds, double *seconds, Err *e) {
    bool ok = r->on[0]->dev->ops->event ? rounds_at_once(r, g, rounds, e) : rounds_in_turn(r, g, rounds, e);
    for (int i = 0; ok && i < r->n; i++) ok = stamp_between(&r->from[i], &r->to[i], r->on[i]->dev, &seconds[i], e);
    return ok;
}

static void close_rounds(Rounds *r) {
    for (int i = 0; i < r->n; i++) {
        Device *d = r->on[i]->dev;
        if (r->graph[i]) d->ops->graph_free(d, r->graph[i]);
        stamp_free(&r->from[i], d), stamp_free(&r->to[i], d);
    }
}

static double slowest(const double *seconds, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, seconds[i]);
    return most;
}

/* Seconds of one node of the group, on each of its devices. Interpreters and emulators run it once: their time is no device's. */
static bool time_group(Exec *x, const Group *g, bool once, double *seconds, Err *e) {
    Rounds r = {.n = g->devices};
    int rounds = 1;
    for (int i = 0; i < r.n; i++) r.on[i] = exec_member(x, i);
    bool ok = capture_rounds(&r, g, e) && (once || time_rounds(&r, g, 1, seconds, e)); /* warm */
    ok = ok && time_rounds(&r, g, 1, seconds, e);
    if (ok && !once) {
        double more = wanted_seconds / fmax(slowest(seconds, r.n), 1e-7);
        rounds = more < 1 ? 1 : more > MAX_REPEATS ? MAX_REPEATS : (int)more;
        ok = time_rounds(&r, g, rounds, seconds, e);
    }
    for (int i = 0; i < r.n; i++) seconds[i] /= (double)rounds * round_size(x, g);
    close_rounds(&r);
    return ok;
}

/* --- what a device has of a step's experts ------------------------------------------------------------------------------------ */

typedef struct Dealt Dealt; /* parts of one: of the pairs of token and rank, of the tokens; and experts, how many */
struct Dealt {
    double pairs, tokens, experts;
};

/* ids [T,k]: numbers of a device's experts, below 0 where the expert is another's. */
static bool count_dealt(const Exec *x, const int32_t *ids, int64_t n, int64_t k, Dealt *to) {
    bool *met = calloc((size_t)x->plan->config.experts + 1, 1);
    int64_t pairs = 0, tokens = 0;
    *to = (Dealt){0};
    if (!met || !ids) return free(met), false;
    for (int64_t t = 0; t < n; t++) {
        bool any = false;
        for (int64_t r = 0; r < k; r++) {
            int32_t id = ids[t * k + r];
            if (id < 0 || id >= x->plan->config.experts) continue;
            pairs++, any = true;
            to->experts += !met[id], met[id] = true;
        }
        tokens += any;
    }
    to->pairs = (double)pairs / (double)(n * k), to->tokens = (double)tokens / (double)n;
    free(met);
    return true;
}

/* The node's result that says which pairs are a device's; -1: none does. */
static int owned(const Node *n) {
    for (int o = 0; o < n->n_out; o++) {
        const Node *def = n->op == OP_FUSED ? n->body->outputs.at[o]->def : n;
        if (def && def->op == OP_own) return o;
    }
    return -1;
}

/* Behind the node that deals a layer's pairs out: what each device got. */
static bool see_dealt(Exec *x, int graph, int node, Dealt *dealt, Err *e) {
    const Node *n = x->ir[graph]->nodes.at[node];
    int o = owned(n);
    if (o < 0) return true;
    const Type *t = &n->out[o]->type;
    size_t size = type_bytes(t, &x->sizes);
    int32_t *ids = malloc(size + 1);
    bool ok = ids || err_set(e, "out of memory: %zu bytes of ids", size);
    for (int d = 0; ok && d <= x->n_other; d++) {
        ok = exec_read(exec_member(x, d), x->out[graph][node * MAX_OUT + o], 0, ids, size, e) &&
             (count_dealt(x, ids, dim_eval(t->dim[0], &x->sizes), t->dim[1].add, &dealt[d]) || err_set(e, "out of memory for the experts met"));
    }
    free(ids);
    return ok;
}

/* Of a value of a node that runs on every device, the bytes that this device reads or writes at least. */
static double dealt_bytes(const Value *v, const Work *w, const Dealt *has) {
    double all = (double)type_bytes(&v->type, &w->sizes);
    if (v->kind == VALUE_PARAM) return all / (double)dim_eval(v->type.dim[0], &w->sizes) * has->experts;
    if (v->type.dtype == DT_I32 || !v->type.rank) return all;
    return all * (v->type.rank > 2 ? has->pairs : has->tokens); /* [T,k,…], [T,…] */
}

/* link: those of them that lie in another device's memory. */
static Cost dealt_cost(const Exec *x, int graph, int node, const Work *w, const Dealt *has, int device, Exchange *link) {
    const Node *n = x->ir[graph]->nodes.at[node];
    const bool far = device > 0 || *x->through.msg;
    Cost c = {.flops = cost_node(n, w).flops * has->pairs};
    *link = (Exchange){0};
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        double bytes = dealt_bytes(n->in[i], w, has);
        c.read += bytes;
        if (far && x->plan->bufs[x->in[graph][node * MAX_IN + i]].hold == HOLD_COMMON) link->read += bytes;
    }
    for (int i = 0; i < n->n_out; i++) {
        double bytes = dealt_bytes(n->out[i], w, has);
        c.written += bytes;
        if (far && x->plan->bufs[x->out[graph][node * MAX_OUT + i]].hold == HOLD_COMMON) link->written += bytes;
    }
    return c;
}

/* --- rows ----------------------------------------------------------------------------------------------------------------------- */

enum { C_TEST, C_T, C_KERNEL, C_LAUNCHES, C_US, C_US_STEP, C_MB, C_GBS, C_READ, C_GFLOP, C_TFLOPS, C_MATRIX, C_BOUND, C_DEVICE, C_LINK, C_OF_LINK };

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

/* A row; link: what of it goes to another device's memory, NULL: nothing can. */
static void add_row(Session *s, const BenchStep *b, const Limits *l, const Group *g, double seconds, const Cost *cost, int device, const Exchange *link, Table *t) {
    Exec *x = s->exec;
    Cell *c = table_row(t);
    c[C_TEST].text = case_name(s->arena, b->c), c[C_KERNEL].text = kernels_of(x, s->arena, g->graph, g->node[0]);
    c[C_T].number = rows_in(x, g->graph), c[C_LAUNCHES].number = g->n;
    c[C_US].number = seconds * 1e6, c[C_US_STEP].number = seconds * 1e6 * g->n;
    fill_row(c, seconds, cost, l, bound_of(cost, l));
    c[C_DEVICE].number = device, c[C_LINK].number = c[C_OF_LINK].number = NAN;
    if (!link) return;
    c[C_LINK].number = (link->read + link->written) * 1e-6;
    if (l->link_read > 0 && l->link_write > 0) c[C_OF_LINK].number = percent(link->read / l->link_read + link->written / l->link_write, seconds);
}

static void add_sum(Sum *sum, const Limits *l, const Cost *cost, double seconds, int n) {
    sum->seconds += seconds * n, sum->bound += bound_of(cost, l) * n, sum->launches += n;
    sum->cost.read += cost->read * n, sum->cost.written += cost->written * n, sum->cost.flops += cost->flops * n;
}

static void add_group(Session *s, const BenchStep *b, const Limits *l, const Group *g, const Dealt *dealt, const double *seconds, Exchange *link, Table *t,
                      Sum *sum) {
    const Node *n = s->exec->ir[g->graph]->nodes.at[g->node[0]];
    Cost slow = cost_node(n, &b->work);
    if (g->devices == 1) add_row(s, b, l, g, seconds[0], &slow, 0, NULL, t);
    for (int d = 0; d < g->devices && g->devices > 1; d++) {
        Exchange own;
        Cost cost = dealt_cost(s->exec, g->graph, g->node[0], &b->work, &dealt[d], d, &own);
        add_row(s, b, l, g, seconds[d], &cost, d, &own, t);
        link[d].read += own.read * g->n, link[d].written += own.written * g->n;
        if (seconds[d] >= slowest(seconds, g->devices)) slow = cost;
    }
    add_sum(sum, l, &slow, slowest(seconds, g->devices), g->n);
}

/* Has the node a launch in this bucket? (What joins rows that lie where they are wanted has none.) */
static bool does_anything(const Exec *x, int graph, int node) {
    const PlanLaunch *l;
    return x->dev->ops->run_node || launches_of(x, graph, node, &l, 1);
}

static bool graph_groups(Session *s, const BenchStep *b, const Limits *l, int graph, Exchange *link, Table *t, Sum *sum, Err *e) {
    Exec *x = s->exec;
    bool once = x->dev->ops->simulated;
    int n_nodes = (int)x->ir[graph]->nodes.n;
    int *room = arena_array(s->arena, (size_t)n_nodes, sizeof *room);
    bool *grouped = arena_array(s->arena, (size_t)n_nodes, sizeof *grouped);
    Dealt *dealt = arena_array(s->arena, (size_t)s->plan->devices, sizeof *dealt);
    exec_begin(x, graph);
    for (int i = 0; i < n_nodes; i++) {
        Group g = {graph, 0, room, exec_everywhere(x, graph, i) ? x->n_other + 1 : 1};
        double seconds[PLAN_MAX_DEVICES] = {0};
        if (!exec_node(x, graph, i, e) || !see_dealt(x, graph, i, dealt, e)) return false;
        if (grouped[i] || !does_anything(x, graph, i)) continue; /* timed with the first of them */
        for (int k = i; k < n_nodes; k++)
            if (!grouped[k] && alike(x, graph, k, i)) grouped[k] = true, g.node[g.n++] = k;
        if (!time_group(x, &g, once, seconds, e)) return err_wrap(e, "node %s", node_name(x->ir[graph]->nodes.at[i]));
        add_group(s, b, l, &g, dealt, seconds, link, t, sum);
    }
    return x->dev->ops->sync(x->dev, 0, e);
}

bool bench_kernels(Session *s, const BenchStep *b, const Limits *l, Exchange *link, Table *t, Err *e) {
    Sum sum = {0};
    if (!graph_groups(s, b, l, s->step, link, t, &sum, e) ||
        (b->step->n_rows && !graph_groups(s, b, l, s->sample, link, t, &sum, e)))
        return false;
    Cell *c = table_row(t);
    c[C_TEST].text = case_name(s->arena, b->c), c[C_KERNEL].text = "all";
    c[C_T].number = rows_in(s->exec, s->step), c[C_LAUNCHES].number = sum.launches;
    c[C_US_STEP].number = sum.seconds * 1e6;
    fill_row(c, sum.seconds, &sum.cost, l, sum.bound);
    return true;
}

/* --- trace ---------------------------------------------------------------------------------------------------------------------- */

static json_t *event(const char *name, const char *kernel, const char *graph, int pid, int tid, double from, double to,
                     const Cost *c) {
    double us = (to - from) * 1e6;
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:{s:s, s:f, s:f, s:f, s:f}}", "ph", "X", "name", name, "cat",
                     graph, "pid", pid, "tid", tid, "ts", from * 1e6, "dur", us, "args", "kernel", kernel, "bytes",
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
                                            ir->name, pid, 0, *when, *when + took, &c));
        *when += took;
    }
    return true;
}

/* Of several devices, each a thread of the trace: node by node, what it does between two events of its own. What is not the first's is
 * drawn where the first begins with it, for their events are not compared. */
static bool add_everywhere(Session *s, const BenchStep *b, int graph, int node, const Watch *w, int *at, int pid, double from, const Dealt *dealt,
                           json_t *events, Err *e) {
    const Graph *ir = s->exec->ir[graph];
    bool all = exec_everywhere(s->exec, graph, node), ok = true;
    for (int d = 0; ok && d < (all ? (int)s->plan->devices : 1); d++) {
        Exchange link;
        Cost c = all ? dealt_cost(s->exec, graph, node, &b->work, &dealt[d], d, &link) : cost_node(ir->nodes.at[node], &b->work);
        double took = watch_between(s, w, d, at[d], at[d] + 1, &ok, e);
        if (ok) json_array_append_new(events, event(node_name(ir->nodes.at[node]), kernels_of(s->exec, s->arena, graph, node), ir->name, pid, d, from, from + took, &c));
        at[d] += all && !d ? 3 : 2;
    }
    return ok;
}

static bool trace_several(Session *s, const BenchStep *b, int graph, int pid, double *when, json_t *events, Err *e) {
    Exec *x = s->exec;
    size_t n = x->ir[graph]->nodes.n, devices = (size_t)s->plan->devices;
    Watch *w = watch_make(s, 3 * (int)n);
    Dealt *dealt = arena_array(s->arena, n * devices, sizeof *dealt);
    int at[PLAN_MAX_DEVICES] = {0};
    double from = 0;
    bool ok = true;
    exec_begin(x, graph);
    for (size_t i = 0; ok && i < n; i++) { /* first who gets what: reading it is a wait */
        if (i) memcpy(&dealt[i * devices], &dealt[(i - 1) * devices], devices * sizeof *dealt);
        ok = exec_node(x, graph, (int)i, e) && see_dealt(x, graph, (int)i, &dealt[i * devices], e);
    }
    exec_begin(x, graph);
    watch_set(x, w);
    for (size_t i = 0; ok && i < n; i++) ok = exec_node(x, graph, (int)i, e);
    watch_set(x, NULL);
    ok = ok && x->dev->ops->sync(x->dev, 0, e);
    for (size_t i = 0; ok && i < n; i++) {
        from = watch_between(s, w, 0, 0, at[0], &ok, e);
        ok = ok && add_everywhere(s, b, graph, (int)i, w, at, pid, *when + from, &dealt[i * devices], events, e);
    }
    if (ok) *when += watch_between(s, w, 0, 0, at[0] - 1, &ok, e);
    watch_free(s, w);
    return ok;
}

static bool trace_graph(Session *s, const BenchStep *b, int graph, int pid, double *when, json_t *events, Err *e) {
    size_t n = s->exec->ir[graph]->nodes.n;
    if (s->plan->devices > 1) return trace_several(s, b, graph, pid, when, events, e);
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
