/* step.c - see step.h. */
#include "step.h"

#include <math.h>

#include "compiler/target.h"

static const double MFMA_FLOPS = 16 * 16 * 16 * 2; /* of v_mfma_f32_16x16x16bf16_1k, the one that kernels use */

/* --- machines ------------------------------------------------------------------------------------------------------------ */

static const Target targets[] = {
#define TARGET(...) {__VA_ARGS__},
#include "compiler/targets.def"
#undef TARGET
};

/* What bounds occupancy: the CDNA2 ISA manual, 3.6; CUDA programming guide, compute capability 9.0 (four schedulers a unit). */
static const struct Unit {
    const char *arch;
    int simds, waves, registers, granule, lds, wave, blocks, lds_extra;
} units[] = {
    {"gfx90a", 4, 8, 512, 8, 65536, 64, 32, 0},
    {"sm_90", 4, 16, 512, 8, 233472, 32, 32, 1024},
};

static double known(double x) { return x > 0 ? x : NAN; }

/* "gfx90a:xnack-" is of gfx90a. */
static bool is_of(const char *arch, const char *target) {
    size_t n = strlen(target);
    return !strncmp(arch, target, n) && (!arch[n] || arch[n] == ':');
}

Machine step_machine(const char *arch) {
    Machine m = {.name = "an unknown machine", .read = NAN, .matrix = NAN, .vector = NAN};
    for (size_t i = 0; i < LEN(targets); i++) {
        const Target *t = &targets[i];
        if (!is_of(arch, t->arch)) continue;
        m.name = t->machine, m.read = known(t->bandwidth), m.matrix = known(t->peak_fast), m.vector = known(t->peak_strict);
        m.units = t->units, m.clock = t->clock, m.launch = t->launch;
    }
    for (size_t i = 0; i < LEN(units); i++) {
        const struct Unit *u = &units[i];
        if (!is_of(arch, u->arch)) continue;
        m.simds = u->simds, m.waves = u->waves, m.registers = u->registers, m.granule = u->granule;
        m.lds = u->lds, m.wave = u->wave, m.blocks = u->blocks, m.lds_extra = u->lds_extra;
    }
    return m;
}

double step_occupancy(const Machine *m, const PlanKernel *k) {
    if (!m->waves || !k->vgprs) return NAN;
    int registers = ((int)k->vgprs + m->granule - 1) / m->granule * m->granule, most = m->simds * m->waves;
    int of_block = ((int)k->block + m->wave - 1) / m->wave, by_registers = m->registers / registers * m->simds;
    int blocks = (by_registers < most ? by_registers : most) / of_block;
    int lds = (int)(k->lds + k->lds_static);
    if (lds && m->lds / (lds + m->lds_extra) < blocks) blocks = m->lds / (lds + m->lds_extra);
    if (blocks > m->blocks) blocks = m->blocks;
    return (double)(blocks * of_block) / most;
}

/* --- a step -------------------------------------------------------------------------------------------------------------- */

static Use *use_of(Arena *a, Uses *l, const PlanKernel *k) {
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i].k == k) return &l->at[i];
    PUSH(a, *l, ((Use){.k = k}));
    return &l->at[l->n - 1];
}

static bool runs(const PlanLaunch *l, int bucket) { return l->grid[bucket][0] && l->grid[bucket][1] && l->grid[bucket][2]; }

static int bucket_of(const PlanGraph *g, const Work *w) {
    int bucket = 0;
    while (bucket < g->n_buckets - 1 && g->buckets[bucket] < w->sizes.of[g->sym]) bucket++;
    return bucket;
}

static bool has_attention(const Node *n) {
    for (size_t i = 0; n->op == OP_FUSED && i < n->body->nodes.n; i++)
        if (n->body->nodes.at[i]->op == OP_attention) return true;
    return n->op == OP_attention;
}

static void add_node(Arena *a, const Plan *p, const PlanGraph *g, int node, const Work *w, Uses *to) {
    const Node *n = program_graph(p->program, g->name)->nodes.at[node];
    const PlanKernel *last = NULL;
    const int bucket = bucket_of(g, w), first = plan_launch(g, node);
    bool matrix = false;
    for (int l = first; l < g->n_launches && g->launches[l].node == node; l++)
        if (runs(&g->launches[l], bucket)) last = &p->kernels[g->launches[l].kernel];
    if (!last) return;
    for (int l = first; l < g->n_launches && g->launches[l].node == node; l++) {
        if (!runs(&g->launches[l], bucket)) continue;
        Use *u = use_of(a, to, &p->kernels[g->launches[l].kernel]);
        u->launches++, u->rows = w->sizes.of[g->sym], u->by_depth |= has_attention(n);
        u->at = u->k == last || u->least.read + u->least.written > 0 ? NULL : last;
        matrix |= strstr(u->k->reduction, "mma16") != NULL;
    }
    Use *u = use_of(a, to, last);
    Cost c = cost_node(n, w);
    u->matrix |= matrix;
    u->least.read += c.read, u->least.written += c.written, u->least.flops += c.flops;
}

Uses step_uses(Arena *a, const Plan *p, const Work *w) {
    static const char *const graphs[] = {"step", "sample"};
    Uses all = {0};
    for (size_t i = 0; i < LEN(graphs); i++) {
        int g = plan_graph(p, graphs[i]);
        if (g < 0 || !w->sizes.of[p->graphs[g].sym]) continue;
        for (size_t n = 0; n < program_graph(p->program, graphs[i])->nodes.n; n++)
            add_node(a, p, &p->graphs[g], (int)n, w, &all);
    }
    return all;
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

static void at_least(Bound *b, double seconds, const char *by) {
    if (seconds > b->seconds) b->seconds = seconds, b->by = by;
}

Counted step_counted(const json_t *profile, int launches) {
    double of = json_number_value(json_object_get(profile, "launches")), each = of > 0 ? launches / of : NAN;
    return (Counted){each * json_number_value(json_object_get(profile, "instructions")), each * json_number_value(json_object_get(profile, "mfma")),
                     launches * json_number_value(json_object_get(profile, "longest"))};
}

Bound step_bound(const Machine *m, const Use *u, const Counted *c) {
    Bound b = {0, ""};
    at_least(&b, (u->least.read + u->least.written) / m->read, "read");
    at_least(&b, u->least.flops / (u->matrix ? m->matrix : m->vector), "math");
    if (!c || !(m->clock > 0)) return b;
    double busy = MFMA_FLOPS * 4 * m->units * m->clock / m->matrix; /* cycles that one keeps its SIMD's matrix unit */
    at_least(&b, c->mfma * MFMA_FLOPS / m->matrix, "math");
    at_least(&b, c->instructions / (m->units * m->clock), "issue");
    double waves = ceil((double)u->k->block / m->wave), beside = waves < m->simds ? waves : m->simds;
    at_least(&b, c->longest * (4 + (busy - 4) * c->mfma / c->instructions) / (beside * m->clock), "block");
    return b;
}
