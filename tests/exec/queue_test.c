/* queue_test.c - schedulers of several devices on one queue, each in a thread, without devices: every request is run once to its
 * end, whoever fails meanwhile; none waits for ever; nobody fills up while another goes without. A fake model generates ids. */
#include "runtime/sched.h"

#include <pthread.h>
#include <stdlib.h>

enum { MAX_REQUESTS = 200, MAX_DEVICES = 9, MAX_NEW = 40, EOS = 7 };

typedef struct World World;
typedef struct Taker Taker;
struct Taker {
    World *w;
    Sched *s;
    pthread_t thread;
    int64_t fails_at; /* in this step; -1: never */
    bool failed;
};
struct World {
    SchedOptions o;
    int64_t window[1], pages[1];
    Request r[MAX_REQUESTS];
    int32_t ids[MAX_REQUESTS][8], out[MAX_REQUESTS][MAX_NEW];
    int n, takers;
    Taker taker[MAX_DEVICES];
    pthread_barrier_t begin;
};
static const int32_t eos[] = {EOS};

static int failures;
#define CHECK(name, x, ...)                                                                                            \
    do {                                                                                                               \
        if (x) break;                                                                                                  \
        printf("FAIL %s: ", name), printf(__VA_ARGS__), printf("\n"), failures++;                                      \
        return;                                                                                                        \
    } while (0)

/* What a request generates depends on itself alone. */
static int32_t model(size_t request, int64_t pos) {
    uint32_t h = (uint32_t)request * 2654435761u ^ (uint32_t)pos * 40503u;
    h ^= h >> 13;
    return h % 37 == 0 ? EOS : 100 + (int32_t)(h % 1000);
}

static void make(World *w, int n, int slots, int takers) {
    *w = (World){.window = {0}, .pages = {slots * 2}, .n = n, .takers = takers};
    w->o = (SchedOptions){.slots = slots, .max_tokens = 16, .chunk = 4, .max_blocks = 16, .n_kv = 1, .window = w->window, .pages = w->pages,
                          .eos = eos, .n_eos = 1, .queue = queue_new((size_t)n)};
    for (int i = 0; i < n; i++)
        w->r[i] = (Request){.ids = w->ids[i], .n_ids = 1 + i % 7, .max_new = 2 + i * 7 % (MAX_NEW - 1), .out = w->out[i]};
}

static void *take(void *arg) {
    Taker *t = arg;
    World *w = t->w;
    int64_t steps = 0;
    pthread_barrier_wait(&w->begin);
    do {
        for (const SchedStep *step; (step = sched_next(t->s));) {
            int32_t ids[64];
            if (steps++ == t->fails_at) return t->failed = true, sched_abandon(t->s), NULL;
            for (int64_t i = 0; i < step->n_rows; i++) ids[i] = model(step->row_request[i], step->pos[step->rows[i]]);
            sched_commit(t->s, ids);
        }
    } while (sched_wait(t->s));
    return NULL;
}

static void run(World *w) {
    pthread_barrier_init(&w->begin, NULL, (unsigned)w->takers);
    for (int i = 0; i < w->takers; i++) {
        Err e;
        w->taker[i].w = w;
        w->taker[i].s = sched_new(&w->o, w->r, (size_t)w->n, &e);
        if (!w->taker[i].s) die("%s", e.msg);
    }
    for (int i = 0; i < w->takers; i++) pthread_create(&w->taker[i].thread, NULL, take, &w->taker[i]);
    for (int i = 0; i < w->takers; i++) pthread_join(w->taker[i].thread, NULL);
    pthread_barrier_destroy(&w->begin);
}

static void finish(World *w) {
    for (int i = 0; i < w->takers; i++) sched_free(w->taker[i].s);
    queue_free(w->o.queue);
}

static void check_requests(const char *name, const World *w) {
    int64_t generated = 0, counted = 0;
    for (int i = 0; i < w->n; i++) {
        const Request *r = &w->r[i];
        bool ended = r->n_out && (r->n_out == r->max_new || r->out[r->n_out - 1] == EOS);
        CHECK(name, r->done && ended, "request %d has %lld ids and is %sdone", i, (long long)r->n_out, r->done ? "" : "not ");
        for (int64_t k = 0; k < r->n_out; k++)
            CHECK(name, r->out[k] == model((size_t)i, r->n_ids - 1 + k), "request %d, id %lld is another's", i, (long long)k);
        generated += r->n_out;
    }
    for (int i = 0; i < w->takers; i++) counted += sched_stats(w->taker[i].s).generated;
    CHECK(name, counted == generated, "%lld ids generated, %lld counted", (long long)generated, (long long)counted);
    printf("ok %s\n", name);
}

/* Some takers, but not the last, fail in some step. */
static void shared(int n, int slots, int takers, int failing) {
    char name[64];
    World *w = calloc(1, sizeof *w);
    snprintf(name, sizeof name, "queue_%d_requests_%d_slots_%d_takers_%d_fail", n, slots, takers, failing);
    make(w, n, slots, takers);
    for (int i = 0; i < takers; i++) w->taker[i].fails_at = i < failing ? i * 3 : -1;
    run(w);
    check_requests(name, w);
    finish(w);
    free(w);
}

/* When the last has failed, what is left is left: nobody waits, no request is half done. */
static void all_fail(void) {
    World *w = calloc(1, sizeof *w);
    size_t waiting, left = 0;
    make(w, 30, 2, 3);
    for (int i = 0; i < 3; i++) w->taker[i].fails_at = 4 + i;
    run(w);
    waiting = queue_waiting(w->o.queue);
    for (int i = 0; i < w->n; i++) left += !w->r[i].done;
    for (int i = 0; i < w->n; i++) CHECK("all_fail", w->r[i].done || !w->r[i].n_out, "request %d is half done", i);
    CHECK("all_fail", waiting == left && left, "%zu wait, %zu are left", waiting, left);
    printf("ok all_fail\n");
    finish(w);
    free(w);
}

/* One that asks first gets its share, not all that it has slots for; when the other has failed, the rest. */
static void fair(void) {
    World *w = calloc(1, sizeof *w);
    Err e;
    make(w, 10, 16, 2);
    Sched *a = sched_new(&w->o, w->r, 10, &e), *b = sched_new(&w->o, w->r, 10, &e);
    sched_next(a);
    int64_t first = sched_stats(a).in_flight;
    sched_next(b);
    int64_t second = sched_stats(b).in_flight;
    CHECK("fair", first == 5 && second == 5, "%lld and %lld", (long long)first, (long long)second);
    size_t back = sched_abandon(b);
    sched_next(a);
    CHECK("fair", back == 5 && sched_stats(a).in_flight == 10, "%zu back, then %lld", back, (long long)sched_stats(a).in_flight);
    printf("ok fair\n");
    sched_free(a), sched_free(b), queue_free(w->o.queue);
    free(w);
}

static bool any(const void *ctx, size_t request) { return (void)ctx, (void)request, true; }

static bool takes(Queue *q, const size_t *wanted, size_t n) {
    for (size_t i = 0, request; i < n; i++)
        if (!queue_take(q, 0, any, NULL, &request) || request != wanted[i]) return false;
    return true;
}

static void order(void) {
    const int64_t weight[] = {3, 9, 3, 7, 8, 1, 9};
    const size_t heaviest[] = {1, 6, 4, 3, 0, 2, 5}, dealt[] = {1, 4, 6, 3, 0, 2, 5}, back[] = {2, 5};
    size_t request;
    Queue *q = queue_new(7), *two = queue_new(7);
    queue_heaviest_first(q, weight, 1, 3);
    queue_heaviest_first(two, weight, 2, 2);
    queue_join(q), queue_join(two);
    CHECK("order", takes(q, heaviest, 7) && !queue_take(q, 0, any, NULL, &request), "not the heaviest first");
    queue_return(q, 5), queue_return(q, 2);
    CHECK("order", queue_waiting(q) == 2 && queue_wait(q) && takes(q, back, 2), "what came back is not first");
    for (int i = 0; i < 7; i++) queue_done(q);
    CHECK("order", !queue_wait(q), "it waits, and all are done");
    CHECK("order", takes(two, dealt, 7), "not dealt");
    printf("ok order\n");
    queue_free(q), queue_free(two);
}

int main(void) {
    order();
    fair();
    shared(MAX_REQUESTS, 4, 1, 0);
    shared(MAX_REQUESTS, 4, 2, 0);
    shared(MAX_REQUESTS, 3, 2, 1);
    shared(MAX_REQUESTS, 2, 9, 8);
    shared(5, 8, 9, 3);
    shared(1, 1, 2, 1);
    for (int i = 0; i < 20; i++) shared(60, 1 + i % 5, 2 + i % 7, 1 + i % 3 % (1 + i % 7));
    all_fail();
    return failures != 0;
}
