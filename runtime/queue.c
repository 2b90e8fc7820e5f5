/* queue.c - see queue.h. One lock: it is asked for once a free slot and once a request that is done, never in between. */
#include "queue.h"

#include <pthread.h>
#include <stdlib.h>

struct Queue {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something came back, or the last is done */
    size_t *order;          /* [n]: order[next … n-1] are waiting */
    size_t n, next, open;   /* open: not done */
    int64_t takers;
    bool stopped;
};

Queue *queue_new(size_t n) {
    Queue *q = calloc(1, sizeof *q);
    if (!q || !(q->order = calloc(n + 1, sizeof *q->order))) out_of_memory((n + 1) * sizeof *q->order, "the queue of requests");
    for (size_t i = 0; i < n; i++) q->order[i] = i;
    q->n = q->open = n;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    return q;
}

void queue_free(Queue *q) {
    if (!q) return;
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->changed);
    free(q->order);
    free(q);
}

static int heavier(const void *a, const void *b, void *weight) {
    size_t i = *(const size_t *)a, k = *(const size_t *)b;
    int64_t wi = ((const int64_t *)weight)[i], wk = ((const int64_t *)weight)[k];
    return wi != wk ? (wi < wk ? 1 : -1) : i < k ? -1 : i > k;
}

/* Of order[0 … n-1] taker t gets each takers-th from t on, in one piece. */
static void deal(Queue *q, size_t takers, size_t n) {
    size_t *dealt = calloc(n + 1, sizeof *dealt), k = 0;
    if (!dealt) out_of_memory((n + 1) * sizeof *dealt, "the queue of requests");
    for (size_t t = 0; t < takers; t++)
        for (size_t i = t; i < n; i += takers) dealt[k++] = q->order[i];
    memcpy(q->order, dealt, n * sizeof *dealt);
    free(dealt);
}

void queue_heaviest_first(Queue *q, const int64_t *weight, size_t takers, size_t at_once) {
    qsort_r(q->order, q->n, sizeof *q->order, heavier, (void *)(uintptr_t)weight);
    deal(q, takers, q->n / takers < at_once ? q->n : takers * at_once);
}

static void add(Queue *q, int64_t takers) {
    pthread_mutex_lock(&q->lock);
    q->takers += takers;
    pthread_mutex_unlock(&q->lock);
}

void queue_join(Queue *q) { add(q, 1); }
void queue_leave(Queue *q) { add(q, -1); }

bool queue_take(Queue *q, int64_t running, bool (*fits)(const void *ctx, size_t request), const void *ctx, size_t *request) {
    pthread_mutex_lock(&q->lock);
    bool ok = !q->stopped && q->next < q->n && running * q->takers < (int64_t)q->open && fits(ctx, q->order[q->next]);
    if (ok) *request = q->order[q->next++];
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void queue_return(Queue *q, size_t request) {
    pthread_mutex_lock(&q->lock);
    if (!q->next) die("queue: request %zu comes back, and none was taken", request);
    q->order[--q->next] = request;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

void queue_done(Queue *q) {
    pthread_mutex_lock(&q->lock);
    if (!--q->open) pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

void queue_undone(Queue *q) {
    pthread_mutex_lock(&q->lock);
    q->open++;
    pthread_mutex_unlock(&q->lock);
}

void queue_stop(Queue *q) {
    pthread_mutex_lock(&q->lock);
    q->stopped = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

bool queue_wait(Queue *q) {
    pthread_mutex_lock(&q->lock);
    while (q->next == q->n && q->open && !q->stopped) pthread_cond_wait(&q->changed, &q->lock);
    bool some = q->next < q->n && !q->stopped;
    pthread_mutex_unlock(&q->lock);
    return some;
}

size_t queue_waiting(Queue *q) {
    pthread_mutex_lock(&q->lock);
    size_t n = q->n - q->next;
    pthread_mutex_unlock(&q->lock);
    return n;
}
