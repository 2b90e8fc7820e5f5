/* verify.h - what a plan must be: docs/plan-verifier.md in code. Behind it nothing checks a plan's numbers again. */
#ifndef GPTOSS_PLAN_VERIFY_H
#define GPTOSS_PLAN_VERIFY_H

#include "plan.h"

enum { PLAN_MAX_MODULES = 1 << 10, PLAN_MAX_KERNELS = 1 << 14 }; /* plan.c asks this too, before it expands the modules' texts */

/* Is the plan, whose program program_verify has taken, one that can be run without harm? If not, e says what is wrong: "PATH: damaged
 * plan: bufs[3]: …". Takes time in proportion to the plan. */
bool plan_verify(const Plan *p, const char *path, Err *e);

#endif
