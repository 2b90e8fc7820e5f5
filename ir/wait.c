/* wait.c - see wait.h. */
#include "wait.h"

#include <math.h>
#include <time.h>

void wait_init(pthread_cond_t *c) {
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(c, &steady);
    pthread_condattr_destroy(&steady);
}

int wait_seconds(pthread_cond_t *c, pthread_mutex_t *m, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double at = (double)until.tv_nsec * 1e-9 + seconds;
    until.tv_sec += (time_t)at, until.tv_nsec = (long)((at - floor(at)) * 1e9);
    return pthread_cond_timedwait(c, m, &until);
}
