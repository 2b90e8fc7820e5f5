/* sched.c - see sched.h. sched_next moves slots forward as if all samples came; sched_commit fills in what came. So a step
 * can be made before the last one's ids are known (the decode token's source is the device's last sample anyway); today's
 * callers commit each step before the next. */
#include "sched.h"

#include <stdlib.h>

typedef struct Slot Slot;
struct Slot {
    bool busy, parked;        /* parked: done, and kept */
    size_t request, admitted; /* admitted: a running number, the order of prefill */
    int64_t fed;              /* positions given to the device */
};

typedef struct Pool Pool;
struct Pool {
    int64_t window, total, reserved, n_free;
    int32_t *free;        /* a stack */
    int32_t *table;       /* [slots][max_blocks] */
    int64_t *first, *end; /* [slots]: blocks first … end-1 have pages, and before those the kept ones (is_kept) */
    int64_t *held, *reserve; /* [slots] pages */
    bool *changed;        /* [slots] the table's row */
};

struct Sched {
    SchedOptions o;
    Request *requests;
    size_t n_requests, next, admitted;
    Slot *slots;
    Pool *pools;
    SchedStep step;
    size_t cap_new_pages;
    SchedStats stats;
};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Pages that so many positions in a row, anyhow aligned to pages, lie in at most. */
static int64_t span_pages(int64_t positions) { return positions ? (positions + KV_PAGE - 2) / KV_PAGE + 1 : 0; }

/* A chunk at p … p+chunk-1 reads keys from p-window+1: window+chunk-1 positions. The token at `back` reads window-1 before it. */
int64_t sched_worst_pages(int64_t window, int64_t positions, int64_t chunk, bool keep) {
    int64_t all = (positions + KV_PAGE - 1) / KV_PAGE;
    if (!window) return all;
    return min64(all, span_pages(window - 1 + min64(chunk, positions)) + (keep ? span_pages(window - 1) : 0));
}

/* The last generated token is not fed back. */
static int64_t needs(const Request *r) { return r->n_ids + (r->max_new ? r->max_new - 1 : 0); }
int64_t sched_positions(const Request *r) { return needs(r) > r->reserve ? needs(r) : r->reserve; }

static int64_t worst(const Sched *s, int kv, const Request *r) {
    return sched_worst_pages(s->pools[kv].window, sched_positions(r), s->o.chunk, r->keep);
}

static void *zeros(size_t n, size_t size) {
    void *p = calloc(n + 1, size);
    if (!p) die("sched: out of memory");
    return p;
}

static void pool_open(Pool *p, const SchedOptions *o, int kv) {
    size_t slots = (size_t)o->slots, blocks = (size_t)o->max_blocks;
    *p = (Pool){.window = o->window[kv], .total = o->pages[kv], .n_free = o->pages[kv]};
    p->free = zeros((size_t)p->total, sizeof *p->free);
    p->table = zeros(slots * blocks, sizeof *p->table);
    p->first = zeros(slots, sizeof *p->first), p->end = zeros(slots, sizeof *p->end),
    p->held = zeros(slots, sizeof *p->held), p->reserve = zeros(slots, sizeof *p->reserve);
    p->changed = zeros(slots, sizeof *p->changed);
    memset(p->table, 0xff, slots * blocks * sizeof *p->table);
    for (int64_t i = 0; i < p->total; i++) p->free[i] = (int32_t)(p->total - 1 - i); /* page 0 on top */
}

static bool check_request(const Sched *s, size_t i, Err *e) {
    const Request *r = &s->requests[i];
    int64_t positions = sched_positions(r);
    if (r->n_ids < 1 || r->max_new < 0) die("sched: request %zu has %lld tokens", i, (long long)r->n_ids);
    if (positions > s->o.max_blocks * KV_PAGE)
        return err_set(e, "request %zu: %lld positions, the plan has room for %lld", i + 1, (long long)positions,
                       (long long)s->o.max_blocks * KV_PAGE);
    for (int k = 0; k < s->o.n_kv; k++)
        if (worst(s, k, r) > s->o.pages[k])
            return err_set(e,
                           "request %zu may need %lld pages of KV cache (%lld positions), there are %lld: more "
                           "--kv-memory, or a smaller -n",
                           i + 1, (long long)worst(s, k, r), (long long)positions, (long long)s->o.pages[k]);
    return true;
}

Sched *sched_new(const SchedOptions *o, Request *requests, size_t n, Err *e) {
    Sched *s = zeros(1, sizeof *s);
    size_t tokens = (size_t)o->max_tokens, slots = (size_t)o->slots;
    *s = (Sched){.o = *o, .requests = requests, .n_requests = n};
    s->o.chunk = min64(o->chunk, o->max_tokens);
    s->slots = zeros(slots, sizeof *s->slots);
    s->pools = zeros((size_t)o->n_kv, sizeof *s->pools);
    for (int k = 0; k < o->n_kv; k++) pool_open(&s->pools[k], o, k);
    SchedStep *t = &s->step;
    t->src = zeros(tokens, sizeof *t->src), t->slot = zeros(tokens, sizeof *t->slot),
    t->pos = zeros(tokens, sizeof *t->pos);
    t->request = zeros(tokens, sizeof *t->request);
    t->rows = zeros(slots, sizeof *t->rows), t->row_slot = zeros(slots, sizeof *t->row_slot),
    t->row_request = zeros(slots, sizeof *t->row_request);
    s->cap_new_pages = (size_t)o->n_kv * (tokens + slots); /* a token needs a new page at most in each group */
    t->new_pages = zeros(s->cap_new_pages, sizeof *t->new_pages);
    t->tables = zeros((size_t)o->n_kv * slots, sizeof *t->tables);
    for (size_t i = 0; i < n; i++)
        if (!check_request(s, i, e)) return sched_free(s), NULL;
    return s;
}

void sched_free(Sched *s) {
    if (!s) return;
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        free(p->free), free(p->table), free(p->first), free(p->end), free(p->held), free(p->reserve), free(p->changed);
    }
    SchedStep *t = &s->step;
    free(t->src), free(t->slot), free(t->pos), free(t->request), free(t->rows), free(t->row_slot), free(t->row_request);
    free(t->new_pages), free(t->tables);
    free(s->slots), free(s->pools), free(s);
}

/* --- pages ---------------------------------------------------------------------------------------------------------- */

static int32_t *row(const Sched *s, const Pool *p, int slot) { return p->table + (int64_t)slot * s->o.max_blocks; }

/* Gives back the pages of blocks from … to-1. */
static void release(Sched *s, Pool *p, int slot, int64_t from, int64_t to) {
    for (int32_t *entry = row(s, p, slot) + from, *end = row(s, p, slot) + to; entry < end; entry++) {
        if (*entry < 0) continue;
        p->free[p->n_free++] = *entry;
        *entry = -1;
        p->changed[slot] = true;
        p->held[slot]--;
        s->stats.pages--;
    }
}

/* Blocks that the window of a token at pos begins in. */
static int64_t window_block(const Pool *p, int64_t pos) {
    return p->window && pos >= p->window ? (pos - p->window + 1) / KV_PAGE : 0;
}

/* Gives back blocks from … to-1, which are wholly behind the window of all that is to come, but not those that `back` needs. */
static void release_behind(Sched *s, Pool *p, int slot, int64_t from, int64_t to) {
    const Request *r = &s->requests[s->slots[slot].request];
    int64_t keep = window_block(p, r->back),
            kept = r->keep ? (r->back + KV_PAGE - 1) / KV_PAGE : 0; /* blocks keep … kept-1 */
    if (kept <= keep || kept <= from || keep >= to) release(s, p, slot, from, to);
    else release(s, p, slot, from, keep), release(s, p, slot, kept, to);
}

static void take(Sched *s, int kv, int slot, int64_t positions) {
    Pool *p = &s->pools[kv];
    for (; p->end[slot] * KV_PAGE < positions; p->end[slot]++) {
        if (!p->n_free || p->held[slot] >= p->reserve[slot])
            die("sched: slot %d of group %d outgrew its reservation", slot, kv);
        int32_t page = p->free[--p->n_free];
        row(s, p, slot)[p->end[slot]] = page;
        p->changed[slot] = true;
        p->held[slot]++;
        s->step.new_pages[s->step.n_new_pages++] = (StepPage){kv, page};
        if (++s->stats.pages > s->stats.peak_pages) s->stats.peak_pages = s->stats.pages;
    }
}

/* Pages for tokens at pos … pos+n-1; those wholly behind the first one's window go back before. */
static void provide(Sched *s, int slot, int64_t pos, int64_t n) {
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        int64_t first = min64(window_block(p, pos), p->end[slot]);
        if (first > p->first[slot]) release_behind(s, p, slot, p->first[slot], first), p->first[slot] = first;
        take(s, k, slot, pos + n);
    }
}

/* --- slots ---------------------------------------------------------------------------------------------------------- */

static void leave(Sched *s, int slot) {
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        release(s, p, slot, 0, p->end[slot]);
        p->first[slot] = p->end[slot] = 0;
        p->reserved -= p->reserve[slot];
        p->reserve[slot] = 0;
    }
    s->slots[slot].busy = false;
}

static void finish(Sched *s, int slot) {
    Request *r = &s->requests[s->slots[slot].request];
    r->done = true;
    s->stats.in_flight--;
    if (r->keep) s->slots[slot].parked = true;
    else leave(s, slot);
}

static bool fits(const Sched *s, const Request *r) {
    for (int k = 0; k < s->o.n_kv; k++)
        if (s->pools[k].reserved + worst(s, k, r) > s->pools[k].total) return false;
    return true;
}

static void admit(Sched *s) {
    for (int slot = 0; slot < s->o.slots && s->next < s->n_requests; slot++) {
        const Request *r = &s->requests[s->next];
        if (s->slots[slot].busy) continue;
        if (!fits(s, r)) return;
        for (int k = 0; k < s->o.n_kv; k++) s->pools[k].reserved += s->pools[k].reserve[slot] = worst(s, k, r);
        s->slots[slot] = (Slot){.busy = true, .request = s->next++, .admitted = s->admitted++};
        if (++s->stats.in_flight > s->stats.peak_in_flight) s->stats.peak_in_flight = s->stats.in_flight;
    }
}

/* --- a step --------------------------------------------------------------------------------------------------------- */

static void add_token(Sched *s, int slot, int32_t src) {
    SchedStep *t = &s->step;
    Slot *at = &s->slots[slot];
    t->src[t->n] = src, t->slot[t->n] = slot, t->pos[t->n] = (int32_t)at->fed++;
    t->request[t->n++] = at->request;
}

static void add_row(Sched *s, int slot) {
    SchedStep *t = &s->step;
    t->rows[t->n_rows] = (int32_t)t->n - 1, t->row_slot[t->n_rows] = slot;
    t->row_request[t->n_rows++] = s->slots[slot].request;
}

static void add_decode(Sched *s, int slot) {
    Slot *at = &s->slots[slot];
    if (!at->busy || at->parked || at->fed < s->requests[at->request].n_ids || s->step.n == s->o.max_tokens) return;
    provide(s, slot, at->fed, 1);
    add_token(s, slot, -1 - slot);
    add_row(s, slot);
    s->step.n_decode++;
}

static void add_prompt(Sched *s, int slot) {
    Slot *at = &s->slots[slot];
    const Request *r = &s->requests[at->request];
    int64_t n = min64(min64(r->n_ids - at->fed, s->o.chunk), s->o.max_tokens - s->step.n);
    if (n <= 0) return;
    provide(s, slot, at->fed, n);
    for (int64_t i = 0; i < n; i++) add_token(s, slot, r->ids[at->fed]);
    s->stats.prompt_tokens += n;
    if (at->fed == r->n_ids && r->max_new) add_row(s, slot);
}

/* The oldest slot, younger than `after`, that still has prompt to run when the step begins; -1: none. */
static int next_prompt(const Sched *s, size_t after) {
    int best = -1;
    for (int i = 0; i < s->o.slots; i++) {
        const Slot *at = &s->slots[i];
        if (!at->busy || at->parked || at->admitted < after || at->fed >= s->requests[at->request].n_ids) continue;
        if (best < 0 || at->admitted < s->slots[best].admitted) best = i;
    }
    return best;
}

static void list_tables(Sched *s) {
    for (int k = 0; k < s->o.n_kv; k++)
        for (int i = 0; i < s->o.slots; i++)
            if (s->pools[k].changed[i]) {
                s->step.tables[s->step.n_tables++] = (StepPage){k, i};
                s->pools[k].changed[i] = false;
            }
}

const SchedStep *sched_next(Sched *s) {
    SchedStep *t = &s->step;
    t->n = t->n_rows = t->n_decode = 0;
    t->n_new_pages = t->n_tables = 0;
    admit(s);
    for (int i = 0; i < s->o.slots; i++) add_decode(s, i);
    size_t after = 0;
    for (int i; t->n < s->o.max_tokens && (i = next_prompt(s, after)) >= 0; after = s->slots[i].admitted + 1)
        add_prompt(s, i);
    list_tables(s);
    s->stats.steps += t->n > 0;
    if (!t->n && (s->next < s->n_requests || s->stats.in_flight)) die("sched: nothing to run, but requests are left");
    return t->n ? t : NULL;
}

static bool is_eos(const Sched *s, int32_t id) {
    for (int i = 0; i < s->o.n_eos; i++)
        if (s->o.eos[i] == id) return true;
    return false;
}

void sched_commit(Sched *s, const int32_t *ids) {
    const SchedStep *t = &s->step;
    for (int64_t i = 0; i < t->n_rows; i++) {
        Request *r = &s->requests[t->row_request[i]];
        r->out[r->n_out++] = ids[i];
        s->stats.generated++;
        if (r->n_out == r->max_new || is_eos(s, ids[i])) finish(s, t->row_slot[i]);
    }
    for (int i = 0; i < s->o.slots; i++) { /* those that only wanted their prompt run */
        const Slot *at = &s->slots[i];
        const Request *r = at->busy && !at->parked ? &s->requests[at->request] : NULL;
        if (r && !r->max_new && at->fed == r->n_ids) finish(s, i);
    }
}

/* --- requests that go on -------------------------------------------------------------------------------------------- */

static int slot_of(const Sched *s, size_t request) {
    for (int i = 0; i < s->o.slots; i++)
        if (s->slots[i].busy && s->slots[i].request == request) return i;
    return -1;
}

void sched_finish(Sched *s, size_t request) {
    int slot = slot_of(s, request);
    if (slot >= 0 && !s->slots[slot].parked) finish(s, slot);
}

int64_t sched_cached(const Sched *s, size_t request) {
    int slot = slot_of(s, request);
    return slot < 0 ? 0 : s->slots[slot].fed;
}

bool sched_continue(Sched *s, size_t request, Err *e) {
    int slot = slot_of(s, request);
    Request *r = &s->requests[request];
    if (slot < 0 || !s->slots[slot].parked || r->n_ids <= s->slots[slot].fed)
        die("sched: request %zu cannot go on", request);
    for (int k = 0; k < s->o.n_kv; k++)
        if (sched_worst_pages(s->pools[k].window, needs(r), s->o.chunk, true) > s->pools[k].reserve[slot])
            return err_set(e, "request %zu: %lld positions, room was kept for %lld", request + 1, (long long)needs(r),
                           (long long)r->reserve);
    for (int k = 0; k < s->o.n_kv; k++)
        release_behind(s, &s->pools[k], slot, 0, s->pools[k].first[slot]); /* an older `back`'s */
    r->done = s->slots[slot].parked = false;
    s->stats.in_flight++;
    return true;
}

/* Has the group all pages that a token at pos, and those behind it, read of what is before it? */
static bool reaches(const Sched *s, const Pool *p, int slot, int64_t pos) {
    for (int64_t b = window_block(p, pos); b * KV_PAGE < pos; b++)
        if (row(s, p, slot)[b] < 0) return false;
    return true;
}

void sched_rewind(Sched *s, size_t request, int64_t positions) {
    int slot = slot_of(s, request);
    if (slot < 0 || !s->slots[slot].parked || positions < 0) die("sched: request %zu cannot go back", request);
    if (positions >= s->slots[slot].fed) return;
    for (int k = 0; k < s->o.n_kv; k++)
        if (!reaches(s, &s->pools[k], slot, positions)) positions = 0;
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        int64_t end = (positions + KV_PAGE - 1) / KV_PAGE;
        release(s, p, slot, end, p->end[slot]);
        p->end[slot] = end, p->first[slot] = window_block(p, positions);
    }
    s->slots[slot].fed = positions;
}

void sched_restart(Sched *s, size_t request) {
    int slot = slot_of(s, request);
    if (slot < 0 || !s->slots[slot].parked || request + 1 != s->n_requests || s->next != s->n_requests)
        die("sched: request %zu cannot begin again", request);
    leave(s, slot);
    s->requests[request].done = false;
    s->next = request;
}

const int32_t *sched_table(const Sched *s, int kv, int slot) { return row(s, &s->pools[kv], slot); }
int64_t sched_free_pages(const Sched *s, int kv) { return s->pools[kv].n_free; }
SchedStats sched_stats(const Sched *s) { return s->stats; }
