/* progress.h - a bar on stderr when that is a terminal: what, how far, how fast, how long still. Elsewhere nothing shows. */
#ifndef GPTOSS_PROGRESS_H
#define GPTOSS_PROGRESS_H

#include "base.h"

typedef struct Progress Progress;
struct Progress {
    const char *what;
    bool on;
    double begin, last; /* seconds */
};
void progress_begin(Progress *p, const char *what);
bool progress_due(const Progress *p); /* would a call now draw? Ten a second at most */
void progress_draw(Progress *p, double done /* 0 … 1 */, const char *detail); /* detail: "12.3 tok/s" */
void progress_end(Progress *p);                                               /* takes the bar away */

#endif
