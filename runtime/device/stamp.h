/* stamp.h - times on a device: its events, or the host's clock where all has happened when a call returns. */
#ifndef GPTOSS_STAMP_H
#define GPTOSS_STAMP_H

#include "device.h"

typedef struct Stamp Stamp; /* zeros to begin with */
struct Stamp {
    DeviceEvent *event;
    double host;
};
bool stamp(Stamp *s, Device *d, Err *e);                                                    /* behind what is queued */
bool stamp_between(const Stamp *from, const Stamp *to, Device *d, double *seconds, Err *e); /* waits for `to` */
void stamp_free(Stamp *s, Device *d);

#endif
