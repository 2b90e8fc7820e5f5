/* launch.c - a launch: a workgroup's waves, in turn on one thread (crew.c has the threads), and what they are started with.
 *
 * Waves are contexts that stop at barriers, at their end, or after their turn; with a seed the order and the lengths of
 * the turns are drawn from it and the workgroup's number, so a run repeats whatever the thread count. Of several failing
 * workgroups the first in launch order is reported. */
#include <stdlib.h>
#include <wchar.h>

#include "race.h"

/* --- faults --------------------------------------------------------------------------------------------------------------- */

static void fault_text(const Wave *w, const Inst *i, int lane, const char *fmt, va_list ap, char *to, size_t size) {
    const Group *g = w->g;
    const EmuModule *m = g->job->m;
    char what[512], where[24] = "", line[sizeof(Place) + 2] = "";
    Place place;
    vsnprintf(what, sizeof what, fmt, ap);
    if (lane >= 0) snprintf(where, sizeof where, ", lane %d", lane);
    if (m->lines && m->lines[i->index].file) snprintf(line, sizeof line, ", %s", inst_place(m, i, &place));
    snprintf(to, size, "kernel %s, workgroup (%u,%u,%u), wave %u%s, pc 0x%x%s, %s: %s", g->job->k->pub.name, g->id[0], g->id[1], g->id[2],
             w->id, where, i->pc, line, i->text, what);
}

void wave_fault(Wave *w, const Inst *i, int lane, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fault_text(w, i, lane, fmt, ap, w->g->msg, sizeof w->g->msg);
    va_end(ap);
    longjmp(w->g->fault, 1);
}

void wave_doubt(Wave *w, const Inst *i, int lane, const char *fmt, ...) {
    Job *job = w->g->job;
    va_list ap;
    va_start(ap, fmt);
    fault_text(w, i, lane, fmt, ap, w->g->msg, sizeof w->g->msg);
    va_end(ap);
    if (!w->g->race) longjmp(w->g->fault, 1);
    if (!*job->doubt) snprintf(job->doubt, sizeof job->doubt, "%s", w->g->msg);
}

/* --- a wave's start ---------------------------------------------------------------------------------------------------------- */

enum { POISON = 0x7ff0dead }; /* in registers nobody has written: a NaN, and no address */

static uint64_t scratch_base(const Wave *w) { return SCRATCH_BASE + (uint64_t)w->id * LANES * w->g->scratch_size; }

/* The user SGPRs that the descriptor asks for, in the order the ABI fixes; then workgroup ids and the scratch offset. */
static void start_sgprs(Wave *w) {
    Job *job = w->g->job;
    uint32_t p = job->k->props, n = 0, *s = w->s;
    const uint64_t packet = (uint64_t)(uintptr_t)job->packet, args = (uint64_t)(uintptr_t)job->kernarg;
    const struct { uint32_t bit, words; uint64_t value[2]; } user[] = {
        {1, 4, {SCRATCH_BASE | 1ull << 63, 0x00ea0fac00000000ull | (uint32_t)-1}},
        {2, 2, {packet}}, {4, 2, {0}}, {8, 2, {args}}, {16, 2, {0}}, {32, 2, {SCRATCH_BASE}}, {64, 1, {w->g->scratch_size}},
    };
    for (size_t k = 0; k < LEN(user); k++)
        if (p & user[k].bit) memcpy(s + n, user[k].value, user[k].words * 4), n += user[k].words;
    n = job->k->rsrc2 >> 1 & 31;
    for (int d = 0; d < 3; d++)
        if (job->k->rsrc2 >> (7 + d) & 1) s[n++] = w->g->id[d];
    if (job->k->rsrc2 >> 10 & 1) s[n++] = 0;
    if (job->k->rsrc2 & 1) s[n++] = (uint32_t)(scratch_base(w) - SCRATCH_BASE);
}

/* gfx90a packs the work-item ids into v0; EXEC has the lanes that exist. */
static void start_lanes(Wave *w) {
    const uint32_t *b = w->g->job->launch->block;
    uint32_t t = w->id * LANES, left = b[0] * b[1] * b[2] - t, x = t % b[0], y = t / b[0] % b[1], z = t / b[0] / b[1], *v0 = V(w, 0);
    uint32_t n = left < LANES ? left : LANES;
    EXEC = n < LANES ? (1ull << n) - 1 : ~0ull;
    for (uint32_t l = 0; l < n; l++) {
        v0[l] = x | y << 10 | z << 20;
        if (++x == b[0]) x = 0, y++;
        if (y == b[1]) y = 0, z++;
    }
}

static void fill(uint32_t *d, size_t n) { wmemset((wchar_t *)d, POISON, n); } /* of 32 bits; glibc has one for each CPU */

static void wave_start(Wave *w, Group *g, uint32_t id) {
    const Kernel *k = g->job->k;
    uint32_t total = ((k->rsrc1 & 63) + 1) * 8, arch = ((k->rsrc3 & 63) + 1) * 4;
    uint32_t acc = total > arch ? total - arch : 0;
    w->g = g, w->id = id, w->state = ST_RUN, w->scc = 0, w->gpr_idx = 0, w->done = 0;
    fill(w->v, (size_t)(arch < 256 ? arch : 256) * LANES);
    fill(V(w, R_AGPR), (size_t)(acc < 256 ? acc : 256) * LANES);
    fill(w->s, R_SGPRS);
    w->mode = (k->rsrc1 >> 12 & 0xff) | (k->rsrc1 >> 21 & 1) << 8 | (k->rsrc1 >> 23 & 1) << 9;
    wave_modes(w);
    start_sgprs(w);
    start_lanes(w);
    w->ip = &g->job->m->code[0];
    wave_jump(w, w->ip, (uint64_t)(uintptr_t)g->job->m->image + k->entry);
}

/* --- running -------------------------------------------------------------------------------------------------------------------- */

static size_t count_state(const Group *g, State s) {
    size_t n = 0;
    for (size_t k = 0; k < g->n_waves; k++) n += g->waves[k].state == s;
    return n;
}

static NORETURN void hung(Wave *w) {
    const Group *g = w->g;
    wave_fault(w, w->ip, -1, "hung: no end after %llu instructions of its workgroup (of %zu waves %zu run, %zu wait at a barrier, %zu have ended)",
               (unsigned long long)g->done, g->n_waves, count_state(g, ST_RUN), count_state(g, ST_BARRIER), count_state(g, ST_END));
}

static void turn_counted(Wave *w, uint64_t *executed) {
    do {
        const Inst *i = w->ip++;
        w->n[i->count]++, executed[i->index]++;
        i->run(w, i);
    } while (--w->budget);
}

static void wave_turn(Wave *w, uint64_t turn) {
    uint64_t before = 0, after = 0;
    for (int k = 0; k < C_KINDS; k++) before += w->n[k];
    w->budget = turn;
    if (w->g->executed) turn_counted(w, w->g->executed);
    else
        do {
            const Inst *i = w->ip++;
            w->n[i->count]++;
            i->run(w, i);
        } while (--w->budget);
    for (int k = 0; k < C_KINDS; k++) after += w->n[k];
    w->done += after - before, w->g->done += after - before;
    if (w->g->done >= w->g->limit && w->state == ST_RUN) hung(w);
}

static uint64_t draw(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Ended waves do not hold up a barrier. */
static void open_barrier(Group *g) {
    if (g->race) race_barrier(g->race);
    for (size_t k = 0; k < g->n_waves; k++)
        if (g->waves[k].state == ST_BARRIER) g->waves[k].state = ST_RUN;
}

enum { LONG_TURN = 1 << 14, MAX_TURN = 64 }; /* long, yet waves that wait for each other in a loop get on */

static void run_waves(Group *g, uint64_t seed) {
    uint64_t rng = seed;
    for (size_t at = 0;; at++) {
        size_t running = count_state(g, ST_RUN);
        if (!running && count_state(g, ST_END) == g->n_waves) return;
        if (!running) open_barrier(g), at = 0;
        if (seed) at = (size_t)draw(&rng);
        Wave *w = &g->waves[at % g->n_waves];
        uint64_t turn = seed ? 1 + draw(&rng) % MAX_TURN : LONG_TURN, left = g->limit > g->done ? g->limit - g->done : 1;
        if (w->state == ST_RUN) wave_turn(w, turn < left ? turn : left);
    }
}

void group_run(Group *g, uint64_t position, uint64_t linear) {
    Job *job = g->job;
    const uint32_t *grid = job->launch->grid;
    g->id[0] = (uint32_t)(linear % grid[0]);
    g->id[1] = (uint32_t)(linear / grid[0] % grid[1]);
    g->id[2] = (uint32_t)(linear / grid[0] / grid[1]);
    g->done = 0;
    memset(g->lds, 0xa5, g->lds_size);
    memset(g->lds_bits, 0, g->lds_size);
    if (g->scratch) memset(g->scratch, 0xa5, group_scratch(g));
    if (g->race) race_begin(g->race, position);
    if (!setjmp(g->fault)) {
        for (uint32_t k = 0; k < g->n_waves; k++) wave_start(&g->waves[k], g, k);
        uint64_t mix = job->launch->seed + linear * 0x9e3779b97f4a7c15ull;
        run_waves(g, job->launch->seed ? draw(&mix) | 1 : 0);
        return;
    }
    pthread_mutex_lock(&job->lock);
    if (position < job->failed_at) job->failed_at = position, snprintf(job->msg, sizeof job->msg, "%s", g->msg);
    pthread_mutex_unlock(&job->lock);
}

/* --- arguments ---------------------------------------------------------------------------------------------------------------------- */

/* Hidden arguments by the metadata's kind; those that nobody reads here (printf, hostcall, heaps) are zero. */
static uint64_t hidden_value(const EmuLaunch *l, const char *kind) {
    const struct { const char *kind; uint64_t value; } values[] = {
        {"hidden_block_count_x", l->grid[0]}, {"hidden_block_count_y", l->grid[1]}, {"hidden_block_count_z", l->grid[2]},
        {"hidden_group_size_x", l->block[0]}, {"hidden_group_size_y", l->block[1]}, {"hidden_group_size_z", l->block[2]},
        {"hidden_grid_dims", l->grid[2] * l->block[2] > 1 ? 3 : l->grid[1] * l->block[1] > 1 ? 2 : 1},
        {"hidden_private_base", PRIVATE_BASE >> 32}, {"hidden_shared_base", SHARED_BASE >> 32},
        {"hidden_dynamic_lds_size", l->dynamic_lds},
    };
    for (size_t k = 0; k < LEN(values); k++)
        if (!strcmp(kind, values[k].kind)) return values[k].value;
    return 0;
}

/* The HSA dispatch packet, as kernels that ask for blockDim or gridDim read it. */
static void make_packet(Job *job) {
    const EmuLaunch *l = job->launch;
    uint64_t args = (uint64_t)(uintptr_t)job->kernarg;
    uint16_t setup = 3, size;
    memcpy(job->packet + 2, &setup, 2);
    for (int d = 0; d < 3; d++) {
        uint32_t grid = l->grid[d] * l->block[d];
        size = (uint16_t)l->block[d];
        memcpy(job->packet + 4 + 2 * d, &size, 2);
        memcpy(job->packet + 12 + 4 * d, &grid, 4);
    }
    memcpy(job->packet + 24, &job->k->pub.scratch_bytes, 4);
    memcpy(job->packet + 28, &job->lds_size, 4);
    memcpy(job->packet + 40, &args, 8);
}

static void make_kernarg(Job *job, size_t size) {
    const EmuLaunch *l = job->launch;
    if (l->kernarg_size) memcpy(job->kernarg, l->kernarg, l->kernarg_size);
    for (size_t k = 0; k < job->k->n_hidden; k++) {
        const ComgrArg *h = &job->k->hidden[k];
        uint64_t v = hidden_value(l, h->kind);
        if (h->size <= 8 && h->offset + h->size <= size) memcpy(job->kernarg + h->offset, &v, h->size);
    }
}

static int by_address(const void *a, const void *b) {
    uint64_t x = ((const Region *)a)->lo, y = ((const Region *)b)->lo;
    return (x > y) - (x < y);
}

static void add_region(Regions *r, const void *p, size_t size, const char *name, bool readonly) {
    uint64_t lo = (uint64_t)(uintptr_t)p;
    Region at = {.lo = lo, .hi = lo + size, .readonly = readonly};
    snprintf(at.name, sizeof at.name, "%s", name);
    if (size) r->at[r->n++] = at;
}

static const Kernel *find_kernel(const EmuModule *m, const char *name) {
    for (size_t i = 0; i < m->n_kernels; i++)
        if (!strcmp(m->kernels[i].pub.name, name)) return &m->kernels[i];
    return NULL;
}

static bool check_launch(const Kernel *k, const EmuLaunch *l, Err *e) {
    uint64_t block = (uint64_t)l->block[0] * l->block[1] * l->block[2], grid = 1;
    for (int d = 0; d < 3; d++) {
        if (__builtin_mul_overflow(grid, (uint64_t)l->grid[d], &grid)) return err_set(e, "kernel %s: the grid is too large", l->kernel);
        if (!l->block[d] || l->block[d] > 1024) return err_set(e, "kernel %s: a block of %u", l->kernel, l->block[d]);
    }
    if (block > 1024) return err_set(e, "kernel %s: %llu work-items in a block (at most 1024)", l->kernel, (unsigned long long)block);
    if (k->pub.max_block && block > k->pub.max_block)
        return err_set(e, "kernel %s: a block of %llu work-items, but it was compiled for at most %u", l->kernel, (unsigned long long)block, k->pub.max_block);
    if ((uint64_t)k->pub.lds_bytes + l->dynamic_lds > 65536)
        return err_set(e, "kernel %s: %u + %u bytes of LDS (at most 65536)", l->kernel, k->pub.lds_bytes, l->dynamic_lds);
    if (l->kernarg_size < k->pub.explicit_bytes)
        return err_set(e, "kernel %s: %zu bytes of arguments, but it takes %u", l->kernel, l->kernarg_size, k->pub.explicit_bytes);
    for (size_t i = 0; l->only && i < l->n_only; i++)
        if (l->only[i] >= grid) return err_set(e, "kernel %s: workgroup %u of %llu", l->kernel, l->only[i], (unsigned long long)grid);
    return true;
}

/* Races come first: they may be the reason of the rest. */
static bool verdict(const Job *job, Err *e) {
    const char *fault = job->failed_at != UINT64_MAX ? job->msg : job->doubt;
    if (!*job->races.msg) return !*fault || err_set(e, "%s", fault);
    err_set(e, "%s", job->races.msg);
    return *fault ? err_add(e, "\n%s", fault) : false;
}

bool emu_launch(EmuModule *m, EmuMem *mem, const EmuLaunch *l, EmuCounts *counts, Err *e) {
    const Kernel *k = find_kernel(m, l->kernel);
    if (!k) return err_set(e, "no kernel named %s in this code object", l->kernel);
    if (!check_launch(k, l, e)) return false;
    uint32_t block = l->block[0] * l->block[1] * l->block[2];
    size_t args = (l->kernarg_size > k->pub.kernarg_bytes ? l->kernarg_size : k->pub.kernarg_bytes) + 64;
    double begin = seconds_now();
    Arena *arena = arena_new();
    EmuCounts none = {0};
    Job job = {.m = m, .k = k, .launch = l, .counts = counts ? counts : &none, .n_waves = (block + LANES - 1) / LANES,
               .lds_size = k->pub.lds_bytes + l->dynamic_lds, .n_groups = l->only ? l->n_only : (uint64_t)l->grid[0] * l->grid[1] * l->grid[2], .failed_at = UINT64_MAX};
    pthread_mutex_init(&job.lock, NULL);
    job.kernarg = arena_alloc(arena, args);
    job.packet = arena_alloc(arena, 64);
    make_kernarg(&job, args - 64);
    make_packet(&job);
    pthread_rwlock_rdlock(&mem->lock);
    job.regions.at = arena_array(arena, mem->n + 3, sizeof *job.regions.at);
    for (size_t i = 0; i < mem->n; i++) job.regions.at[job.regions.n++] = mem->at[i];
    add_region(&job.regions, m->image, m->image_size, "the code object", false);
    add_region(&job.regions, job.kernarg, args - 64, "the kernel's arguments", true);
    add_region(&job.regions, job.packet, 64, "the dispatch packet", true);
    qsort(job.regions.at, job.regions.n, sizeof *job.regions.at, by_address);
    bool ran = crew_run(mem->crew, &job, e);
    pthread_rwlock_unlock(&mem->lock);
    job.counts->launches++, job.counts->seconds += seconds_now() - begin;
    pthread_mutex_destroy(&job.lock);
    arena_free(arena);
    if (!ran) return false;
    return verdict(&job, e);
}
