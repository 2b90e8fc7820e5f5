/* stamp.c - see stamp.h. */
#include "stamp.h"

bool stamp(Stamp *s, Device *d, Err *e) {
    if (d->ops->event) return (s->event || (s->event = d->ops->event(d, e))) && d->ops->record(d, 0, s->event, e);
    s->host = seconds_now();
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
