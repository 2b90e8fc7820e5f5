/* queue.h - the requests that nobody runs yet. Schedulers of several devices (sched.h), each in a thread of its own, may share one:
 * each takes the next when it has a slot free, and what a device that failed had begun comes back, for another to run from its
 * prompt. A request is touched by the scheduler that took it alone. */
#ifndef GPTOSS_QUEUE_H
#define GPTOSS_QUEUE_H

#include "ir/base.h"

typedef struct Queue Queue;
Queue *queue_new(size_t n); /* of requests 0 … n-1, in that order; not one of them is done */
void queue_free(Queue *q);  /* NULL is fine */
/* Before any is taken: those with the largest weight [n] come first, of equal ones the first. What takes longest is then not begun
 * last, when others have nothing left to do. `takers` take `at_once` each to begin with: these are dealt, so that none of them gets
 * the heaviest all. */
void queue_heaviest_first(Queue *q, const int64_t *weight, size_t takers, size_t at_once);

/* A scheduler begins to take, and ends. */
void queue_join(Queue *q);
void queue_leave(Queue *q);

/* Takes the next request for a scheduler that has `running` of them, unless there is none, `fits` says no to it, or the scheduler
 * has its share: those who take have equal parts of all that is not done, so none fills up while another goes without. */
bool queue_take(Queue *q, int64_t running, bool (*fits)(const void *ctx, size_t request), const void *ctx, size_t *request);
void queue_return(Queue *q, size_t request); /* one that was taken and is not done is to be taken again, before the others */
void queue_done(Queue *q);                   /* one that was taken is done */
void queue_undone(Queue *q);                 /* one that was done goes on */
void queue_stop(Queue *q);                   /* nothing is taken any more, and nobody waits */
/* Waits while nothing can be taken and something is not done. True: there is something; false: all are done, or it was stopped. */
bool queue_wait(Queue *q);
size_t queue_waiting(Queue *q); /* to be taken */

#endif
