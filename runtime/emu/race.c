/* race.c - see race.h: vector clocks of waves, and a shadow of who touched what last. */
#include "race.h"

#include <stdlib.h>

enum { PAGE = 4096, MOST_PAIRS = 64, SHOWN = 4 };

/* --- clocks ---------------------------------------------------------------------------------------------------------- */

/* What is known of other workgroups: for each, by position, a clock of each of its waves up to which all has happened. */
typedef struct Past Past;
struct Past {
    struct Of { uint32_t group, *clocks; } *at; /* ascending */
    size_t n, cap;
};

typedef struct Sync Sync; /* an address that atomics were done on */
struct Sync {
    uint64_t addr;
    Past released;
    Sync *next;
};

/* A wave's clock counts barriers and releases; known[v] is how far it knows wave v, itself included, of its own workgroup. */
typedef struct Watch Watch;
struct Watch {
    uint32_t *known, *released; /* [n_waves] */
    Past past;                  /* of other workgroups */
    struct { Sync **at; size_t n, cap; } met; /* what it, or who it met at a barrier, did atomics on */
};

/* --- accesses: all of one instruction by one wave at one of its clocks are one -------------------------------------- */

typedef struct Access Access;
struct Access {
    uint32_t group, clock, inst;
    uint16_t wave;
    bool atomic, write;
};

typedef struct Cell Cell; /* the last write, and behind it one of the atomics and two of the reads; numbers of accesses, 0: none */
struct Cell {
    uint32_t write, atomic, read[2];
};

typedef struct Page Page;
struct Page {
    uint64_t number;
    uint32_t unit; /* bytes of a cell: 4 or 1 */
    Cell *cells;
    Page *next;
};

typedef struct Pair Pair; /* what was found */
struct Pair {
    Access first, second;
    const Region *in; /* NULL: LDS */
    uint64_t at;
};

enum { BUCKETS = 1 << 16 };

struct Race {
    Group *g;
    Arena *arena, *of_group; /* the latter: what the workgroup knows of others */
    bool of_group_used, syncs_atomics;
    uint32_t group;
    Watch *waves;
    struct { Access *at; size_t n, cap; } accesses; /* malloc'ed */
    uint32_t *latest; /* [n_waves][n_code]: the access that was last made */
    Page **pages, *last;
    Sync **syncs;
    Cell *lds;
    Pair pairs[MOST_PAIRS];
    size_t n_pairs, n_more;
};

static void *grown(void *p, size_t n, size_t size) {
    void *more = realloc(p, n * size);
    if (!more) out_of_memory(n * size, "watching for races");
    return more;
}

static bool has_atomics(const EmuModule *m) {
    for (size_t i = 0; i < m->n_code; i++)
        if (m->code[i].op && m->code[i].op->atom && m->code[i].op->family != F_DS) return true;
    return false;
}

Race *race_open(Group *g) {
    Arena *a = arena_new();
    Race *r = arena_alloc(a, sizeof *r);
    size_t n = g->n_waves;
    *r = (Race){.g = g, .arena = a, .of_group = arena_new(), .syncs_atomics = has_atomics(g->job->m)};
    r->waves = arena_array(a, n, sizeof *r->waves);
    for (size_t w = 0; w < n; w++) r->waves[w].known = arena_array(a, 2 * n, sizeof(uint32_t)), r->waves[w].released = r->waves[w].known + n;
    r->latest = arena_array(a, n * g->job->m->n_code, sizeof *r->latest);
    r->pages = arena_array(a, BUCKETS, sizeof *r->pages);
    r->syncs = arena_array(a, BUCKETS, sizeof *r->syncs);
    r->lds = arena_array(a, g->lds_size + 1, sizeof *r->lds);
    r->accesses.at = grown(NULL, r->accesses.cap = 1024, sizeof(Access));
    r->accesses.at[r->accesses.n++] = (Access){0};
    return r;
}

void race_close(Race *r) {
    if (!r) return;
    for (size_t b = 0; b < BUCKETS; b++)
        for (Page *p = r->pages[b]; p; p = p->next) free(p->cells);
    free(r->accesses.at);
    arena_free(r->of_group);
    arena_free(r->arena);
}

void race_begin(Race *r, uint64_t position) {
    size_t n = r->g->n_waves;
    if (r->of_group_used) arena_free(r->of_group), r->of_group = arena_new(), r->of_group_used = false;
    r->group = (uint32_t)position;
    for (size_t w = 0; w < n; w++) {
        Watch *x = &r->waves[w];
        memset(x->known, 0, 2 * n * sizeof *x->known); /* released too */
        x->known[w] = 1;
        x->past = (Past){0}, x->met.at = NULL, x->met.n = x->met.cap = 0;
    }
}

/* --- what orders ------------------------------------------------------------------------------------------------------ */

static void join(uint32_t *to, const uint32_t *from, size_t n) {
    for (size_t v = 0; v < n; v++) to[v] = from[v] > to[v] ? from[v] : to[v];
}

/* Where a workgroup is, or would be inserted. */
static size_t past_at(const Past *p, uint32_t group) {
    size_t lo = 0, hi = p->n;
    if (p->n && p->at[p->n - 1].group < group) return p->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (p->at[mid].group < group) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static const uint32_t *past_of(const Past *p, uint32_t group) {
    size_t at = past_at(p, group);
    return at < p->n && p->at[at].group == group ? p->at[at].clocks : NULL;
}

static void past_put(Arena *a, Past *p, uint32_t group, const uint32_t *clocks, size_t n_waves) {
    size_t at = past_at(p, group);
    if (at == p->n || p->at[at].group != group) {
        PUSH(a, *p, ((struct Of){0}));
        memmove(p->at + at + 1, p->at + at, (p->n - 1 - at) * sizeof *p->at);
        p->at[at] = (struct Of){group, arena_array(a, n_waves, sizeof(uint32_t))};
    }
    join(p->at[at].clocks, clocks, n_waves);
}

static void past_join(Arena *a, Past *to, const Past *from, size_t n_waves) {
    for (size_t i = 0; i < from->n; i++) past_put(a, to, from->at[i].group, from->at[i].clocks, n_waves);
}

static bool has_met(const Watch *x, const Sync *s) {
    for (size_t i = 0; i < x->met.n; i++)
        if (x->met.at[i] == s) return true;
    return false;
}

static void meet(Race *r, Watch *x, Sync *s) {
    if (has_met(x, s)) return;
    r->of_group_used = true;
    PUSH(r->of_group, x->met, s);
}

/* Ended waves have done all they do before the others go on. */
void race_barrier(Race *r) {
    size_t n = r->g->n_waves;
    Watch *all = &r->waves[0]; /* all join the first, then take it over */
    for (size_t w = 1; w < n; w++) {
        join(all->known, r->waves[w].known, n);
        join(all->released, r->waves[w].released, n);
        for (size_t i = 0; i < r->waves[w].met.n; i++) meet(r, all, r->waves[w].met.at[i]);
        past_join(r->of_group, &all->past, &r->waves[w].past, n);
    }
    for (size_t w = 1; w < n; w++) {
        Watch *x = &r->waves[w];
        memcpy(x->known, all->known, 2 * n * sizeof *x->known);
        for (size_t i = 0; i < all->met.n; i++) meet(r, x, all->met.at[i]);
        past_join(r->of_group, &x->past, &all->past, n);
    }
    for (size_t w = 0; w < n; w++) r->waves[w].known[w]++;
}

void race_wait(Wave *w) {
    Race *r = w->g->race;
    if (!r->syncs_atomics) return;
    Watch *x = &r->waves[w->id];
    memcpy(x->released, x->known, r->g->n_waves * sizeof *x->known);
    x->known[w->id]++;
}

void race_acquire(Wave *w) {
    Race *r = w->g->race;
    Watch *x = &r->waves[w->id];
    for (size_t i = 0; i < x->met.n; i++) {
        const Past *p = &x->met.at[i]->released;
        const uint32_t *own = past_of(p, r->group);
        if (own) join(x->known, own, r->g->n_waves);
        past_join(r->of_group, &x->past, p, r->g->n_waves);
    }
}

static Sync *sync_find(Race *r, uint64_t addr, bool make) {
    Sync **at = &r->syncs[(addr >> 2) % BUCKETS], *s;
    for (s = *at; s && s->addr != addr; s = s->next) {}
    if (s || !make) return s;
    s = arena_alloc(r->arena, sizeof *s);
    s->addr = addr, s->next = *at;
    return *at = s;
}

static void read_modify_write(Wave *w, uint64_t addr) {
    Race *r = w->g->race;
    Watch *x = &r->waves[w->id];
    Sync *s = sync_find(r, addr, true);
    past_put(r->arena, &s->released, r->group, x->released, r->g->n_waves);
    past_join(r->arena, &s->released, &x->past, r->g->n_waves);
    meet(r, x, s);
}

/* --- findings ------------------------------------------------------------------------------------------------------------ */

static bool same_place(const EmuModule *m, uint32_t a, uint32_t b) {
    if (a == b) return true;
    if (!m->lines || !m->lines[a].file) return false;
    return m->lines[a].file == m->lines[b].file && m->lines[a].line == m->lines[b].line;
}

static bool same_pair(const EmuModule *m, const Pair *a, const Pair *b) {
    bool straight = same_place(m, a->first.inst, b->first.inst) && same_place(m, a->second.inst, b->second.inst);
    bool crossed = same_place(m, a->first.inst, b->second.inst) && same_place(m, a->second.inst, b->first.inst);
    return !a->in == !b->in && (straight || crossed);
}

static void found(Race *r, Pair p) {
    for (size_t i = 0; i < r->n_pairs; i++)
        if (same_pair(r->g->job->m, &r->pairs[i], &p)) return;
    if (r->n_pairs < MOST_PAIRS) r->pairs[r->n_pairs++] = p;
    else r->n_more++;
}

static void access_text(const Race *r, const Access *a, Text *t) {
    const Job *job = r->g->job;
    const Inst *i = &job->m->code[a->inst];
    const uint32_t *grid = job->launch->grid;
    uint64_t id = job->launch->only ? job->launch->only[a->group] : a->group;
    Place place;
    text_add(t, "workgroup (%llu,%llu,%llu), wave %u %s at %s (pc 0x%x, %s)", (unsigned long long)(id % grid[0]),
             (unsigned long long)(id / grid[0] % grid[1]), (unsigned long long)(id / grid[0] / grid[1]), a->wave,
             a->atomic ? "does an atomic" : a->write ? "writes" : "reads", inst_place(job->m, i, &place), i->pc, i->text);
}

static void pair_text(const Race *r, const Pair *p, Text *t) {
    text_add(t, "kernel %s: race on ", r->g->job->k->pub.name);
    if (p->in) text_add(t, "byte %llu of '%s': ", (unsigned long long)(p->at - p->in->lo), p->in->name);
    else text_add(t, "byte %llu of LDS: ", (unsigned long long)p->at);
    access_text(r, &p->first, t);
    text_add(t, "; ");
    access_text(r, &p->second, t);
    text_add(t, p->first.group == p->second.group ? "; there is no barrier between" : "; nothing orders the two workgroups");
}

bool race_verdict(const Race *r, Err *e) {
    Text t = {0};
    if (!r->n_pairs) return true;
    for (size_t i = 0; i < r->n_pairs && i < SHOWN; i++) {
        if (i) text_add(&t, "\n");
        pair_text(r, &r->pairs[i], &t);
    }
    size_t more = r->n_pairs > SHOWN ? r->n_pairs - SHOWN : 0;
    if (more) text_add(&t, "\nand %zu%s more pairs of lines of this kernel", more, r->n_more ? " or" : "");
    err_set(e, "%s", t.at);
    text_free(&t);
    return false;
}

/* --- the shadow -------------------------------------------------------------------------------------------------------- */

/* The number of this instruction's access by this wave, now. */
static uint32_t access_now(Wave *w, const Inst *i, bool atomic, bool write) {
    Race *r = w->g->race;
    uint32_t *latest = &r->latest[w->id * r->g->job->m->n_code + i->index], clock = r->waves[w->id].known[w->id];
    const Access *was = &r->accesses.at[*latest];
    if (*latest && was->group == r->group && was->clock == clock && was->write == write) return *latest;
    if (r->accesses.n == r->accesses.cap) r->accesses.at = grown(r->accesses.at, r->accesses.cap *= 2, sizeof(Access));
    r->accesses.at[r->accesses.n] = (Access){r->group, clock, i->index, (uint16_t)w->id, atomic, write};
    return *latest = (uint32_t)r->accesses.n++;
}

static bool happened(const Race *r, const Wave *w, const Access *a) {
    const Watch *x = &r->waves[w->id];
    if (a->group == r->group) return a->wave == w->id || x->known[a->wave] >= a->clock;
    const uint32_t *clocks = past_of(&x->past, a->group);
    return clocks && clocks[a->wave] >= a->clock;
}

/* Where an access happens: in a region of global memory or (NULL) in LDS. */
typedef struct Spot Spot;
struct Spot {
    const Region *in;
    uint64_t at;
};

static bool ordered(Race *r, const Wave *w, uint32_t before, Spot s) {
    const Access *a = &r->accesses.at[before];
    if (!before || happened(r, w, a)) return true;
    if (!s.in) return a->group != r->group; /* the LDS was another workgroup's */
    Sync *sync = a->atomic ? sync_find(r, s.at & ~3ull, false) : NULL;
    if (a->atomic && !sync) sync = sync_find(r, s.at & ~7ull, false);
    return sync && has_met(&r->waves[w->id], sync);
}

static void check(Race *r, const Wave *w, uint32_t before, uint32_t now, Spot s) {
    if (!ordered(r, w, before, s)) found(r, (Pair){r->accesses.at[before], r->accesses.at[now], s.in, s.at});
}

static void touch_write(Race *r, const Wave *w, Cell *c, uint32_t now, Spot s) {
    if (c->write == now && !c->atomic && !c->read[0]) return;
    check(r, w, c->write, now, s), check(r, w, c->atomic, now, s);
    check(r, w, c->read[0], now, s), check(r, w, c->read[1], now, s);
    *c = (Cell){.write = now};
}

/* Nothing to remember, or nothing that what follows could race with if it does not race with `now`. */
static bool past_all(const Race *r, const Wave *w, uint32_t before, Spot s) {
    const Access *a = &r->accesses.at[before];
    return !before || happened(r, w, a) || (!s.in && a->group != r->group);
}

static void touch_atomic(Race *r, const Wave *w, Cell *c, uint32_t now, Spot s) {
    if (c->atomic == now && !c->read[0]) return;
    check(r, w, c->write, now, s), check(r, w, c->read[0], now, s), check(r, w, c->read[1], now, s);
    if (past_all(r, w, c->atomic, s)) c->atomic = now;
}

/* Of the readers the first stays while it is unordered with later ones, which the second place has; the two are of different waves. */
static void touch_read(Race *r, const Wave *w, Cell *c, uint32_t now, Spot s) {
    if (c->read[0] == now || c->read[1] == now) return;
    check(r, w, c->write, now, s), check(r, w, c->atomic, now, s);
    bool first = past_all(r, w, c->read[0], s);
    c->read[!first] = now;
    if (first) c->read[1] = 0;
}

static void touch(Race *r, const Wave *w, Cell *c, uint32_t now, Spot s) {
    const Access *a = &r->accesses.at[now];
    if (a->atomic) touch_atomic(r, w, c, now, s);
    else if (a->write) touch_write(r, w, c, now, s);
    else touch_read(r, w, c, now, s);
}

static Page *page_of(Race *r, uint64_t addr) {
    uint64_t number = addr / PAGE;
    if (r->last && r->last->number == number) return r->last;
    Page **at = &r->pages[number % BUCKETS], *p;
    for (p = *at; p && p->number != number; p = p->next) {}
    if (p) return r->last = p;
    p = arena_alloc(r->arena, sizeof *p);
    *p = (Page){number, 4, calloc(PAGE / 4, sizeof(Cell)), *at};
    if (!p->cells) out_of_memory(PAGE / 4 * sizeof(Cell), "watching for races");
    return r->last = *at = p;
}

static void page_split(Page *p) {
    Cell *cells = grown(NULL, PAGE, sizeof *cells);
    for (size_t i = 0; i < PAGE; i++) cells[i] = p->cells[i / 4];
    free(p->cells);
    p->cells = cells, p->unit = 1;
}

void race_global(Wave *w, const Inst *i, const Region *in, uint64_t addr, uint64_t n, bool write) {
    Race *r = w->g->race;
    bool atomic = i->op->atom;
    if (in->readonly || (atomic && !write)) return; /* an atomic is checked twice: once suffices */
    if (atomic) read_modify_write(w, addr);
    uint32_t now = access_now(w, i, atomic, write);
    for (uint64_t end = addr + n; addr < end;) {
        Page *p = page_of(r, addr);
        if (p->unit == 4 && (addr % 4 || end - addr < 4)) page_split(p);
        touch(r, w, &p->cells[addr % PAGE / p->unit], now, (Spot){in, addr});
        addr += p->unit;
    }
}

void race_lds(Wave *w, const Inst *i, uint32_t offset, uint32_t n, bool write) {
    Race *r = w->g->race;
    bool atomic = i->op->atom || !strcmp(i->op->name, "ds_append") || !strcmp(i->op->name, "ds_consume");
    uint32_t now = access_now(w, i, atomic, write || atomic);
    for (uint32_t k = 0; k < n; k++) touch(r, w, &r->lds[offset + k], now, (Spot){NULL, offset + k});
}
