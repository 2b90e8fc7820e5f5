/* bench_parts.c - a step of several devices in parts: a real step, each device's segments between two events of its own.
 *
 * Nodes run on every device or on the first alone, in turn (exec.c). Events between these segments tell what each device does, and how
 * long the first one waits; two devices' events are not compared. The step that is watched is put in behind one that is not, as the
 * host runs ahead of the devices in generation; several are watched, and their mean is told. A step costs more for being watched:
 * what it takes otherwise is in a row of its own. */
#include "bench.h"

#include <math.h>

enum { WATCHED = 8, UNWATCHED = 16 };

enum { C_TEST, C_T, C_PART, C_DEVICE, C_TIMES, C_US, C_MB, C_LINK };
const Column bench_part_columns[] = {
    {"test", "test", -1},
    {"T", "tokens", 0},
    {"part", "part", -1},
    {"device", "device", 0},
    {"a step", "times", 0},
    {"us a step", "microseconds", 1},
    {"MB of link", "link_megabytes", 3},
    {"us at link's limit", "link_microseconds", 1},
};
const size_t bench_part_n_columns = LEN(bench_part_columns);

/* --- watching --------------------------------------------------------------------------------------------------------------- */

static bool see(void *ctx, Exec *x, ExecPoint point, Err *e) {
    Watch *w = (Watch *)ctx + x->rank;
    (void)point;
    if (w->n == w->room) die("bench: more parts of a step than there are");
    return stamp(&w->at[w->n++], x->dev, e);
}

Watch *watch_make(Session *s, int room) {
    Watch *w = arena_array(s->arena, (size_t)s->plan->devices, sizeof *w);
    for (int64_t d = 0; d < s->plan->devices; d++) w[d] = (Watch){arena_array(s->arena, (size_t)room, sizeof *w->at), 0, room};
    return w;
}

void watch_set(Exec *x, Watch *w) {
    x->watch = w ? see : NULL, x->watch_ctx = w;
    for (int d = 0; w && d <= x->n_other; d++) w[d].n = 0;
}

void watch_free(Session *s, Watch *w) {
    for (int64_t d = 0; d < s->plan->devices; d++)
        for (int i = 0; i < w[d].room; i++) stamp_free(&w[d].at[i], s->group[d]);
}

double watch_between(const Session *s, const Watch *w, int d, int from, int to, bool *ok, Err *e) {
    double seconds = 0;
    *ok = *ok && stamp_between(&w[d].at[from], &w[d].at[to], s->group[d], &seconds, e);
    return *ok ? seconds : 0;
}

static int segments(const Exec *x, int graph, bool everywhere) {
    int n = 0;
    for (int k = 0; k < x->n_segments[graph]; k++) n += x->segment[graph][k].everywhere == everywhere;
    return n;
}

/* --- a step's sums ------------------------------------------------------------------------------------------------------------ */

typedef struct Parts Parts; /* seconds, of all steps watched */
struct Parts {
    double alone, waits, handed, all, unwatched;
    double *everywhere; /* [devices] */
};

/* The graph's segments in turn, from stamp at[device] on. */
static bool add_graph(const Session *s, int graph, const Watch *w, int *at, Parts *p, Err *e) {
    const Exec *x = s->exec;
    bool ok = true;
    for (int k = 0; ok && k < x->n_segments[graph]; k++) {
        int begins = at[0];
        if (!x->segment[graph][k].everywhere) {
            p->alone += watch_between(s, w, 0, begins, begins + 1, &ok, e);
            at[0] += 2;
            continue;
        }
        double most = 0;
        for (int d = 0; d <= x->n_other; d++) {
            double took = watch_between(s, w, d, at[d], at[d] + 1, &ok, e);
            p->everywhere[d] += took, most = fmax(most, took);
            at[d] += d ? 2 : 3;
        }
        p->waits += watch_between(s, w, 0, begins + 1, begins + 2, &ok, e);
        p->handed += watch_between(s, w, 0, begins, begins + 2, &ok, e) - most;
    }
    return ok;
}

/* The graphs of a step, one behind the other. */
typedef struct Graphs Graphs;
struct Graphs {
    int at[2], n;
};

static bool run_graphs(Exec *x, const Graphs *g, Err *e) {
    for (int i = 0; i < g->n; i++)
        if (!exec_graph(x, g->at[i], e)) return false;
    return true;
}

static bool watch_step(const Session *s, const Graphs *g, Watch *w, Parts *p, Err *e) {
    Exec *x = s->exec;
    int at[PLAN_MAX_DEVICES] = {0};
    bool ok = run_graphs(x, g, e);
    watch_set(x, w);
    ok = ok && run_graphs(x, g, e);
    watch_set(x, NULL);
    ok = ok && x->dev->ops->sync(x->dev, 0, e);
    if (ok) p->all += watch_between(s, w, 0, 0, w[0].n - 1, &ok, e);
    for (int i = 0; ok && i < g->n; i++) ok = add_graph(s, g->at[i], w, at, p, e);
    return ok;
}

static bool time_steps(Exec *x, const Graphs *g, int steps, double *seconds, Err *e) {
    Stamp from = {0}, to = {0};
    bool ok = run_graphs(x, g, e) && stamp(&from, x->dev, e);
    for (int i = 0; ok && i < steps; i++) ok = run_graphs(x, g, e);
    ok = ok && stamp(&to, x->dev, e) && stamp_between(&from, &to, x->dev, seconds, e);
    stamp_free(&from, x->dev), stamp_free(&to, x->dev);
    *seconds /= steps;
    return ok;
}

/* --- rows ----------------------------------------------------------------------------------------------------------------------- */

static Cell *add_row(Session *s, const BenchStep *b, const char *part, int device, int times, double seconds, Table *t) {
    Cell *c = table_row(t);
    c[C_TEST].text = case_name(s->arena, b->c), c[C_PART].text = part;
    c[C_T].number = (double)b->step->n, c[C_DEVICE].number = device, c[C_TIMES].number = times, c[C_US].number = seconds * 1e6;
    c[C_MB].number = c[C_LINK].number = NAN;
    return c;
}

static void fill_link(Cell *c, const Exchange *link, const Limits *l) {
    c[C_MB].number = (link->read + link->written) * 1e-6;
    if (l->link_read > 0 && l->link_write > 0) c[C_LINK].number = (link->read / l->link_read + link->written / l->link_write) * 1e6;
}

static void add_rows(Session *s, const BenchStep *b, const Limits *l, const Exchange *link, const Parts *p, int alone, int everywhere, Table *t) {
    Exec *x = s->exec;
    double there = p->alone + p->everywhere[0] + p->waits;
    add_row(s, b, "first device alone", 0, alone, p->alone, t);
    for (int d = 0; d <= x->n_other; d++) fill_link(add_row(s, b, "experts, on each device", d, everywhere, p->everywhere[d], t), &link[d], l);
    if (!x->ready) return; /* they run in turn, on one machine: nobody waits */
    add_row(s, b, "first waits for the others", 0, everywhere, p->waits, t);
    add_row(s, b, "to and fro, beyond the slowest's experts", 0, everywhere, p->handed, t);
    add_row(s, b, "between parts", 0, alone + everywhere, p->all - there, t);
    for (int d = 1; d <= x->n_other; d++) add_row(s, b, "idle", d, everywhere, p->all - p->everywhere[d], t);
    add_row(s, b, "step, watched", 0, 1, p->all, t);
    add_row(s, b, "step", 0, 1, p->unwatched, t);
}

static void mean(Parts *p, int devices, int n) {
    p->alone /= n, p->waits /= n, p->handed /= n, p->all /= n;
    for (int d = 0; d < devices; d++) p->everywhere[d] /= n;
}

bool bench_parts(Session *s, const BenchStep *b, const Limits *l, const Exchange *link, Table *t, Err *e) {
    Exec *x = s->exec;
    const Graphs g = {{s->step, s->sample}, 1 + (b->step->n_rows > 0)};
    int n = x->dev->ops->simulated ? 1 : WATCHED, steps = x->dev->ops->simulated ? 1 : UNWATCHED, alone = 0, everywhere = 0, devices = x->n_other + 1;
    for (int i = 0; i < g.n; i++) alone += segments(x, g.at[i], false), everywhere += segments(x, g.at[i], true);
    Watch *w = watch_make(s, 2 * alone + 3 * everywhere);
    Parts p = {.everywhere = arena_array(s->arena, (size_t)devices, sizeof *p.everywhere)};
    bool ok = time_steps(x, &g, steps, &p.unwatched, e);
    for (int i = 0; ok && i < n; i++) ok = watch_step(s, &g, w, &p, e);
    mean(&p, devices, n);
    if (ok) add_rows(s, b, l, link, &p, alone, everywhere, t);
    watch_free(s, w);
    return ok;
}
