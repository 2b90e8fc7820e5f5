/* sched.h - which tokens of which requests go into the next step: slots, KV pages, continuous batching. Host side only.
 *
 * A request is admitted, in the queue's order, when a slot is free and the pool can hold its worst case: prompt plus all it may
 * generate, in each KV group; a group with a window holds only the pages that the window and one chunk can touch, as pages
 * wholly behind the window are given back first. So an admitted request never waits for memory: no preemption.
 * A step: first the next token of every request that generates (slot order), then chunks of prompts (admission order).
 * What a request generates does not depend on any of this; the kernels see to that.
 * A step may be made while the one before it is not committed yet: its tokens' source is what the device sampled last. A
 * request that turns out to have ended by then has a token too many in it, which its commit drops.
 * A request with `keep` goes on after it is done (chat): its slot and pages stay, and sched_continue gives it more to run. It may
 * also go back (sched_back), to drop what was said: to `back` without running anything before it again, as the pages that the
 * windows of the tokens from there on reach into stay too. */
#ifndef GPTOSS_SCHED_H
#define GPTOSS_SCHED_H

#include "plan/plan.h"
#include "queue.h"

typedef struct Request Request;
struct Request {
    const int32_t *ids; /* the prompt, at least one */
    int64_t n_ids;
    int64_t max_new; /* at most this many generated; 0: only the prompt is run */
    int32_t *out;    /* room for max_new */
    int64_t n_out;
    bool done;
    const char *bad;     /* NULL, or done without a result, for this first value that was not finite */
    bool keep;           /* stays in its slot when it is done */
    int64_t reserve;     /* positions to keep room for; 0: what this prompt and max_new need */
    int64_t back;        /* keep: where the sequence may go back to without being run from the start; 0: nowhere else */
    int64_t cached;      /* a bench's: so many of ids, not all, count as being in the cache, whatever it holds */
    const int32_t *feed; /* a bench's: [max_new - 1] ids to go on with instead of those generated; NULL: none */
    uint32_t number;     /* of sampling's key: the same request draws the same in any batch */
};

typedef struct SchedOptions SchedOptions;
struct SchedOptions {
    int slots;          /* requests in flight */
    int64_t max_tokens; /* in a step */
    int64_t chunk;      /* of a prompt in a step, at most */
    int64_t max_blocks; /* width of a block table */
    int n_kv;
    const int64_t *window, *pages; /* [n_kv] */
    const int32_t *eos;
    int n_eos;
    Queue *queue; /* shared with other schedulers of the same requests; NULL: all are this one's, in input order */
};

typedef struct StepPage
    StepPage; /* group kv: page begins a new life, or (in Step.rows_changed) slot's table row changed */
struct StepPage {
    int kv;
    int64_t at;
};

typedef struct SchedStep SchedStep;
struct SchedStep {
    int64_t n;                 /* tokens */
    int32_t *src, *slot, *pos; /* src: an id, or -1 - slot: what was last sampled there */
    size_t *request;           /* of each token */
    int64_t n_rows;            /* tokens whose output is sampled */
    int32_t *rows, *row_slot;  /* index into the tokens; slot */
    size_t *row_request;
    int64_t n_decode;             /* the first n_decode tokens are generated ones, the others prompt */
    StepPage *new_pages, *tables; /* to be done before the step */
    size_t n_new_pages, n_tables;
};

typedef struct SchedStats SchedStats;
struct SchedStats {
    int64_t steps, prompt_tokens, generated, peak_pages, pages, in_flight, peak_in_flight;
    int64_t finished; /* requests */
    int64_t spared;   /* tokens that the requests which are done might have generated, and did not */
};

/* Pages of a group that a request of `positions` positions can hold at once; keep: with those that `back` keeps. */
int64_t sched_worst_pages(int64_t window, int64_t positions, int64_t chunk, bool keep);
int64_t sched_positions(const Request *r); /* that a request writes to the KV cache at most */

typedef struct Sched Sched;
/* An error when a request could never be admitted. The requests stay the caller's. */
Sched *sched_new(const SchedOptions *o, Request *requests, size_t n, Err *e);
void sched_free(Sched *s);
enum { SCHED_STEPS = 2 }; /* that may be made and not committed */
/* Valid until the sched_next behind its commit. NULL: nothing can run, or needs to, before the next commit; if there is none to come, all is done that
 * nobody else has taken. */
const SchedStep *sched_next(Sched *s);
/* ids: [n_rows] of the oldest step not committed. A request that has become bad meanwhile ends without a result. */
void sched_commit(Sched *s, const int32_t *ids);
/* Behind sched_next's NULL with no commit to come: waits for what others have taken. True: some of it came back, on with
 * sched_next; false: all is done. */
bool sched_wait(Sched *s);
/* The device has failed, or is to begin anew: what was taken and is not done goes back to the queue, as if it had not begun. Returns how many
 * requests. Only sched_stats, which counts no token of theirs as generated, and sched_free follow. */
size_t sched_abandon(Sched *s);
/* Something went wrong in the oldest step, and the steps behind it will never be committed: the tables are again as it saw
 * them, and are listed in the step returned. Pages may have been overwritten since. Only sched_table, sched_abandon and sched_free
 * follow; if there was no step behind it, nothing has changed, and all goes on. */
const SchedStep *sched_rewind(Sched *s);
/* Ends a request behind the last committed step: a stop that the ids alone do not show. */
void sched_finish(Sched *s, size_t request);
bool sched_took(const Sched *s, size_t request); /* it is this scheduler's, or was */
void sched_drop(Sched *s, size_t request); /* the same of one that was taken and is bad: without a result */
/* A kept request that is done goes on. The caller has set ids and n_ids (the whole sequence: what is in the cache, unchanged,
 * and at least one id more), max_new, out, back and reset n_out. Errors: more positions than were reserved. */
bool sched_continue(Sched *s, size_t request, Err *e);
int64_t sched_cached(const Sched *s, size_t request); /* positions of a kept request in the cache */
/* Of a kept request that is done only the first `positions` count any more. What is then cached is all of them when the pages
 * of their windows are still there (at `back` they are), else nothing: the sequence runs from the start. */
void sched_back(Sched *s, size_t request, int64_t positions);
/* A kept request that is done gives back its pages and is to be run from the start; its fields as for sched_new. */
void sched_restart(Sched *s, size_t request);
const int32_t *sched_table(const Sched *s, int kv, int slot); /* row of the block table, -1 where there is no page */
int64_t sched_free_pages(const Sched *s, int kv);
SchedStats sched_stats(const Sched *s);

#endif
