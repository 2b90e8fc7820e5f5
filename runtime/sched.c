/* sched.c - see sched.h. sched_next moves slots forward as if no request stopped; sched_commit fills in what came, and takes
 * back what was made for one that had stopped. Pages and slots go to others at once: the device works in order. */
#include "sched.h"

#include <stdlib.h>

typedef struct Slot Slot;
struct Slot {
    bool busy, parked;        /* parked: done, and kept */
    size_t request, admitted; /* admitted: a running number, the order of prefill */
    int64_t fed;              /* positions given to the device */
    int64_t asked;            /* samples asked of the device for this request (since it went on) */
};

typedef struct Pool Pool;
struct Pool {
    int64_t window, total, reserved, n_free;
    int32_t *free;           /* a stack */
    int32_t *table;          /* [slots][max_blocks] */
    int64_t *first, *end;    /* [slots]: blocks first … end-1 have pages, and before those the kept ones (is_kept) */
    int64_t *held, *reserve; /* [slots] pages */
    bool *changed;           /* [slots] the table's row */
};

typedef struct Freed Freed; /* an entry of a table that was cleared */
struct Freed {
    int kv, slot;
    int64_t block;
    int32_t page;
};

struct Sched {
    SchedOptions o;
    Request *requests;
    size_t n_requests, admitted;
    Queue *queue; /* o.queue, or its own */
    bool *taken;  /* [n_requests] here */
    Slot *slots;
    Pool *pools;
    SchedStep steps[SCHED_STEPS]; /* step i: i % SCHED_STEPS */
    size_t made, committed;       /* steps so far */
    SchedStep *step;              /* the last made */
    Freed *freed;                 /* since the oldest step that is not committed was made; nothing when all are */
    size_t n_freed;
    bool abandoned;
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
    if (!p) out_of_memory(n * size, "a scheduler");
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
    if (r->n_ids < 1 || r->max_new < 0 || r->cached >= r->n_ids)
        die("sched: request %zu has %lld tokens", i, (long long)r->n_ids);
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

static void step_open(SchedStep *t, const SchedOptions *o) {
    size_t tokens = (size_t)o->max_tokens, slots = (size_t)o->slots, pages = 0;
    for (int k = 0; k < o->n_kv; k++) pages += (size_t)o->pages[k];
    t->src = zeros(tokens, sizeof *t->src), t->slot = zeros(tokens, sizeof *t->slot),
    t->pos = zeros(tokens, sizeof *t->pos);
    t->request = zeros(tokens, sizeof *t->request);
    t->rows = zeros(slots, sizeof *t->rows), t->row_slot = zeros(slots, sizeof *t->row_slot),
    t->row_request = zeros(slots, sizeof *t->row_request);
    t->new_pages = zeros(pages, sizeof *t->new_pages); /* each is new once in a step at most */
    t->tables = zeros((size_t)o->n_kv * slots, sizeof *t->tables);
}

static void step_close(SchedStep *t) {
    free(t->src), free(t->slot), free(t->pos), free(t->request), free(t->rows), free(t->row_slot), free(t->row_request);
    free(t->new_pages), free(t->tables);
}

Sched *sched_new(const SchedOptions *o, Request *requests, size_t n, Err *e) {
    Sched *s = zeros(1, sizeof *s);
    size_t slots = (size_t)o->slots;
    *s = (Sched){.o = *o, .requests = requests, .n_requests = n};
    s->o.chunk = min64(o->chunk, o->max_tokens);
    s->queue = o->queue ? o->queue : queue_new(n);
    s->taken = zeros(n, sizeof *s->taken);
    queue_join(s->queue);
    s->slots = zeros(slots, sizeof *s->slots);
    s->pools = zeros((size_t)o->n_kv, sizeof *s->pools);
    for (int k = 0; k < o->n_kv; k++) pool_open(&s->pools[k], o, k);
    for (int i = 0; i < SCHED_STEPS; i++) step_open(&s->steps[i], &s->o);
    size_t pages = 0;
    for (int k = 0; k < o->n_kv; k++) pages += (size_t)o->pages[k];
    s->freed = zeros(pages, sizeof *s->freed);
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
    for (int i = 0; i < SCHED_STEPS; i++) step_close(&s->steps[i]);
    if (!s->abandoned) queue_leave(s->queue);
    if (!s->o.queue) queue_free(s->queue);
    free(s->freed), free(s->slots), free(s->pools), free(s->taken), free(s);
}

/* --- pages ---------------------------------------------------------------------------------------------------------- */

static int32_t *row(const Sched *s, const Pool *p, int slot) { return p->table + (int64_t)slot * s->o.max_blocks; }

/* Gives back the pages of blocks from … to-1. */
static void release(Sched *s, int kv, int slot, int64_t from, int64_t to) {
    Pool *p = &s->pools[kv];
    for (int64_t b = from; b < to; b++) {
        int32_t *entry = &row(s, p, slot)[b];
        if (*entry < 0) continue;
        if (s->made != s->committed) s->freed[s->n_freed++] = (Freed){kv, slot, b, *entry};
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
static void release_behind(Sched *s, int kv, int slot, int64_t from, int64_t to) {
    const Pool *p = &s->pools[kv];
    const Request *r = &s->requests[s->slots[slot].request];
    int64_t keep = window_block(p, r->back),
            kept = r->keep ? (r->back + KV_PAGE - 1) / KV_PAGE : 0; /* blocks keep … kept-1 */
    if (kept <= keep || kept <= from || keep >= to) release(s, kv, slot, from, to);
    else release(s, kv, slot, from, keep), release(s, kv, slot, kept, to);
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
        s->step->new_pages[s->step->n_new_pages++] = (StepPage){kv, page};
        if (++s->stats.pages > s->stats.peak_pages) s->stats.peak_pages = s->stats.pages;
    }
}

/* Pages for tokens at pos … pos+n-1; those wholly behind the first one's window go back before. */
static void provide(Sched *s, int slot, int64_t pos, int64_t n) {
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        int64_t first = min64(window_block(p, pos), p->end[slot]);
        if (first > p->first[slot]) release_behind(s, k, slot, p->first[slot], first), p->first[slot] = first;
        take(s, k, slot, pos + n);
    }
}

/* --- slots ---------------------------------------------------------------------------------------------------------- */

static void leave(Sched *s, int slot) {
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        release(s, k, slot, 0, p->end[slot]);
        p->first[slot] = p->end[slot] = 0;
        p->reserved -= p->reserve[slot];
        p->reserve[slot] = 0;
    }
    s->slots[slot].busy = false;
}

static int slot_of(const Sched *s, size_t request) {
    for (int i = 0; i < s->o.slots; i++)
        if (s->slots[i].busy && s->slots[i].request == request) return i;
    return -1;
}

/* Parks or leaves the request's slot, unless it has left already. */
static void stop(Sched *s, size_t request) {
    int slot = slot_of(s, request);
    if (slot < 0 || s->slots[slot].parked) return;
    s->stats.in_flight--;
    if (s->requests[request].keep) s->slots[slot].parked = true;
    else leave(s, slot);
}

static void finish(Sched *s, size_t request) {
    Request *r = &s->requests[request];
    r->done = true;
    s->stats.finished++, s->stats.spared += r->max_new - r->n_out;
    stop(s, request);
    queue_done(s->queue);
}

/* All that the request in the slot needs of the device has been asked for. */
static bool all_asked(const Sched *s, const Slot *at) {
    const Request *r = &s->requests[at->request];
    return at->busy && !at->parked && at->fed >= r->n_ids && at->asked == r->max_new;
}

/* The next request need not wait for the commit of the last step of the one before. */
static void retire(Sched *s) {
    for (int i = 0; i < s->o.slots; i++)
        if (all_asked(s, &s->slots[i]) && !s->requests[s->slots[i].request].keep) stop(s, s->slots[i].request);
}

static bool fits(const void *sched, size_t request) {
    const Sched *s = sched;
    for (int k = 0; k < s->o.n_kv; k++)
        if (s->pools[k].reserved + worst(s, k, &s->requests[request]) > s->pools[k].total) return false;
    return true;
}

/* As if `cached` positions had been run: their pages come with the first step, those behind a window never. */
static void begin_at(Sched *s, int slot, int64_t cached) {
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        p->first[slot] = p->end[slot] = window_block(p, cached);
    }
    s->slots[slot].fed = cached;
}

static void admit(Sched *s) {
    for (int slot = 0; slot < s->o.slots; slot++) {
        size_t i;
        if (s->slots[slot].busy) continue;
        if (!queue_take(s->queue, s->stats.in_flight, fits, s, &i)) return;
        const Request *r = &s->requests[i];
        s->taken[i] = true;
        for (int k = 0; k < s->o.n_kv; k++) s->pools[k].reserved += s->pools[k].reserve[slot] = worst(s, k, r);
        s->slots[slot] = (Slot){.busy = true, .request = i, .admitted = s->admitted++};
        begin_at(s, slot, r->cached);
        if (++s->stats.in_flight > s->stats.peak_in_flight) s->stats.peak_in_flight = s->stats.in_flight;
    }
}

/* --- a step --------------------------------------------------------------------------------------------------------- */

static void add_token(Sched *s, int slot, int32_t src) {
    SchedStep *t = s->step;
    Slot *at = &s->slots[slot];
    t->src[t->n] = src, t->slot[t->n] = slot, t->pos[t->n] = (int32_t)at->fed++;
    t->request[t->n++] = at->request;
}

static void add_row(Sched *s, int slot) {
    SchedStep *t = s->step;
    t->rows[t->n_rows] = (int32_t)t->n - 1, t->row_slot[t->n_rows] = slot;
    t->row_request[t->n_rows++] = s->slots[slot].request;
    s->slots[slot].asked++;
}

static void add_decode(Sched *s, int slot) {
    Slot *at = &s->slots[slot];
    if (!at->busy || at->parked || at->fed < s->requests[at->request].n_ids || s->step->n == s->o.max_tokens) return;
    if (all_asked(s, at)) return; /* kept, and its last sample is on its way */
    provide(s, slot, at->fed, 1);
    const Request *r = &s->requests[at->request];
    add_token(s, slot, r->feed ? r->feed[at->fed - r->n_ids] : -1 - slot);
    add_row(s, slot);
    s->step->n_decode++;
}

static void add_prompt(Sched *s, int slot) {
    Slot *at = &s->slots[slot];
    const Request *r = &s->requests[at->request];
    int64_t n = min64(min64(r->n_ids - at->fed, s->o.chunk), s->o.max_tokens - s->step->n);
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
                s->step->tables[s->step->n_tables++] = (StepPage){k, i};
                s->pools[k].changed[i] = false;
            }
}

const SchedStep *sched_next(Sched *s) {
    size_t open = s->made - s->committed;
    if (open == SCHED_STEPS) die("sched: a step more than %d ahead", SCHED_STEPS - 1);
    SchedStep *t = s->step = &s->steps[s->made % SCHED_STEPS];
    t->n = t->n_rows = t->n_decode = 0;
    t->n_new_pages = t->n_tables = 0;
    retire(s);
    admit(s);
    for (int i = 0; i < s->o.slots; i++) add_decode(s, i);
    size_t after = 0;
    for (int i; t->n < s->o.max_tokens && (i = next_prompt(s, after)) >= 0; after = s->slots[i].admitted + 1)
        add_prompt(s, i);
    if (!t->n && !open && (s->stats.in_flight || (!s->o.queue && queue_waiting(s->queue))))
        die("sched: nothing to run, but requests are left");
    if (!t->n) return NULL;
    list_tables(s);
    s->made++;
    return t;
}

static bool is_eos(const Sched *s, int32_t id) {
    for (int i = 0; i < s->o.n_eos; i++)
        if (s->o.eos[i] == id) return true;
    return false;
}

/* The token was made for a request that had ended: it never was. What it left in the cache lies behind the sequence. */
static void drop(Sched *s, const SchedStep *t, int64_t row) {
    int slot = slot_of(s, t->row_request[row]);
    if (slot >= 0 && t->rows[row] < t->n_decode) s->slots[slot].fed--;
}

/* Those that only wanted their prompt run, and whose last token was in the step. */
static void finish_prompts(Sched *s, const SchedStep *t) {
    for (int64_t i = t->n_decode; i < t->n; i++) {
        const Request *r = &s->requests[t->request[i]];
        if (!r->done && !r->max_new && t->pos[i] + 1 == r->n_ids) finish(s, t->request[i]);
    }
}

void sched_commit(Sched *s, const int32_t *ids) {
    if (s->committed == s->made) die("sched: no step to commit");
    const SchedStep *t = &s->steps[s->committed++ % SCHED_STEPS];
    bool live = false;
    s->n_freed = 0;
    for (int64_t i = 0; i < t->n && !live; i++) live = !s->requests[t->request[i]].done;
    s->stats.steps += live;
    for (int64_t i = 0; i < t->n_rows; i++) {
        size_t request = t->row_request[i];
        Request *r = &s->requests[request];
        if (r->done) {
            drop(s, t, i);
            continue;
        }
        if (r->bad) {
            sched_drop(s, request);
            continue;
        }
        r->out[r->n_out++] = ids[i];
        s->stats.generated++;
        if (r->n_out == r->max_new || is_eos(s, ids[i])) finish(s, request);
    }
    finish_prompts(s, t);
}

bool sched_wait(Sched *s) { return queue_wait(s->queue); }

size_t sched_abandon(Sched *s) {
    size_t n = 0;
    s->abandoned = true;
    queue_leave(s->queue); /* first: those who stay share what comes back */
    for (size_t i = s->n_requests; i-- > 0;) {
        Request *r = &s->requests[i];
        if (!s->taken[i] || r->done) continue;
        s->stats.generated -= r->n_out;
        r->n_out = 0;
        queue_return(s->queue, i);
        n++;
    }
    return n;
}

const SchedStep *sched_rewind(Sched *s) {
    SchedStep *t = &s->steps[s->committed % SCHED_STEPS];
    s->step = t;
    t->n_new_pages = t->n_tables = 0;
    while (s->n_freed) {
        const Freed *f = &s->freed[--s->n_freed];
        row(s, &s->pools[f->kv], f->slot)[f->block] = f->page;
        s->pools[f->kv].changed[f->slot] = true;
    }
    list_tables(s);
    return t;
}

/* --- requests that go on -------------------------------------------------------------------------------------------- */

void sched_finish(Sched *s, size_t request) {
    if (!s->requests[request].done && slot_of(s, request) >= 0) finish(s, request);
}

bool sched_took(const Sched *s, size_t request) { return s->taken[request]; }

void sched_drop(Sched *s, size_t request) {
    Request *r = &s->requests[request];
    if (r->done || !s->taken[request]) die("sched: request %zu cannot be dropped", request);
    s->stats.generated -= r->n_out;
    r->n_out = 0;
    finish(s, request);
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
    if (s->committed != s->made) die("sched: request %zu goes on before its last step was committed", request);
    for (int k = 0; k < s->o.n_kv; k++)
        if (sched_worst_pages(s->pools[k].window, needs(r), s->o.chunk, true) > s->pools[k].reserve[slot])
            return err_set(e, "request %zu: %lld positions, room was kept for %lld", request + 1, (long long)needs(r),
                           (long long)r->reserve);
    for (int k = 0; k < s->o.n_kv; k++) release_behind(s, k, slot, 0, s->pools[k].first[slot]); /* an older `back`'s */
    r->done = s->slots[slot].parked = false;
    queue_undone(s->queue);
    s->slots[slot].asked = 0;
    s->stats.in_flight++;
    return true;
}

/* Has the group all pages that a token at pos, and those behind it, read of what is before it? */
static bool reaches(const Sched *s, const Pool *p, int slot, int64_t pos) {
    for (int64_t b = window_block(p, pos); b * KV_PAGE < pos; b++)
        if (row(s, p, slot)[b] < 0) return false;
    return true;
}

void sched_back(Sched *s, size_t request, int64_t positions) {
    int slot = slot_of(s, request);
    if (slot < 0 || !s->slots[slot].parked || positions < 0) die("sched: request %zu cannot go back", request);
    if (s->committed != s->made) die("sched: request %zu goes back before its last step was committed", request);
    if (positions >= s->slots[slot].fed) return;
    for (int k = 0; k < s->o.n_kv; k++)
        if (!reaches(s, &s->pools[k], slot, positions)) positions = 0;
    for (int k = 0; k < s->o.n_kv; k++) {
        Pool *p = &s->pools[k];
        int64_t end = (positions + KV_PAGE - 1) / KV_PAGE;
        release(s, k, slot, end, p->end[slot]);
        p->end[slot] = end, p->first[slot] = window_block(p, positions);
    }
    s->slots[slot].fed = positions;
}

void sched_restart(Sched *s, size_t request) {
    int slot = slot_of(s, request);
    if (slot < 0 || !s->slots[slot].parked) die("sched: request %zu cannot begin again", request);
    leave(s, slot);
    s->requests[request].done = false;
    queue_undone(s->queue);
    queue_return(s->queue, request);
}

const int32_t *sched_table(const Sched *s, int kv, int slot) { return row(s, &s->pools[kv], slot); }
int64_t sched_free_pages(const Sched *s, int kv) { return s->pools[kv].n_free; }
SchedStats sched_stats(const Sched *s) { return s->stats; }
