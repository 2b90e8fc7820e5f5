/* fault.h - where in a plan something is wrong. The first fault stays in e; later ones are not said. */
#ifndef GPTOSS_PLAN_FAULT_H
#define GPTOSS_PLAN_FAULT_H

#include "ir/base.h"

typedef struct PlanFault PlanFault;
struct PlanFault {
    const char *path;
    Err *e;
    bool failed;
    const char *list; /* what is being looked at: "bufs", 3; NULL: the whole */
    int item;
};

/* "PATH: damaged plan: bufs[3]: …" */
void plan_fault(PlanFault *f, const char *fmt, ...) PRINTF(2, 3);

/* Of a struct with a PlanFault `at`; FAIL leaves the function, too. */
#define FAULT(c, ...) plan_fault(&(c)->at, __VA_ARGS__)
#define FAIL(c, ...)                                                                                                   \
    do {                                                                                                               \
        FAULT(c, __VA_ARGS__);                                                                                         \
        return;                                                                                                        \
    } while (0)

#endif
