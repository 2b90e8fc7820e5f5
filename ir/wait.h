/* wait.h - waiting for a condition for so many seconds, by the monotonic clock: the day's may be set meanwhile. */
#ifndef GPTOSS_WAIT_H
#define GPTOSS_WAIT_H

#include <pthread.h>

void wait_init(pthread_cond_t *c);
/* As pthread_cond_timedwait: 0, ETIMEDOUT, or EINVAL where `seconds` are no time. */
int wait_seconds(pthread_cond_t *c, pthread_mutex_t *m, double seconds);

#endif
