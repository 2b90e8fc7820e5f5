/* stamp.c - see stamp.h. */
#include "stamp.h"

#include <time.h>

bool stamp(Stamp *s, Device *d, Err *e) {
    struct timespec t;
    if (d->ops->event) return (s->event || (s->event = d->ops->event(d, e))) && d->ops->record(d, 0, s->event, e);
    clock_gettime(CLOCK_MONOTONIC, &t);
    s->host = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    return true;
}

bool stamp_between(const Stamp *from, const Stamp *to, Device *d, double *seconds, Err *e) {
    if (to->event) return d->ops->wait(d, to->event, e) && d->ops->elapsed(d, from->event, to->event, seconds, e);
    *seconds = to->host - from->host;
    return true;
}

void stamp_free(Stamp *s, Device *d) {
    if (s->event) d->ops->event_free(d, s->event);
    s->event = NULL;
}
