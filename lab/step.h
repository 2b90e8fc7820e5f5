/* step.h - a step of a plan as work: its kernels, how often each is launched, the least that it must do (ir/cost.h); and the machine
 * that does it. What cost.c and predict.c reckon with. */
#ifndef GPTOSS_STEP_H
#define GPTOSS_STEP_H

#include <jansson.h>

#include "ir/cost.h"
#include "plan/plan.h"

typedef struct Machine Machine;
struct Machine {
    const char *name;
    double read, matrix, vector; /* bytes/s; FLOP/s of bf16 matrix units and of fp64; NAN: unknown */
    double units, clock;         /* compute units, Hz; 0: no issue model */
    double launch;               /* seconds of each */
    int simds, waves;            /* of a unit; waves that one SIMD holds; 0: no occupancy */
    int registers, granule, lds, wave; /* registers of a lane on a SIMD, allocated so many at a time; LDS of a unit; lanes */
    int blocks, lds_extra;             /* of a unit at most; LDS that each takes besides its own */
};
Machine step_machine(const char *arch); /* a plan's, features and all; targets.def's figures */

/* Of the waves that a unit can hold, the share that registers, LDS and block size let in; NAN: unknown. */
double step_occupancy(const Machine *m, const PlanKernel *k);

typedef struct Use Use; /* of one kernel in a step */
struct Use {
    const PlanKernel *k;
    int launches;
    int64_t rows;  /* tokens of the step, or rows of the head */
    bool by_depth; /* what it does depends on how much the cache holds: it is attention's */
    bool matrix; /* one of the node's kernels uses the matrix units */
    Cost least; /* of all launches; a node's stands at its last launch, which writes the results */
    const PlanKernel *at; /* where those of its nodes stand, when all of them do elsewhere; else NULL */
};
typedef struct Uses Uses;
struct Uses {
    Use *at;
    size_t n, cap;
};
typedef struct Counted Counted; /* what the emulator counted of all launches; longest: each launch's longest workgroup, added up */
struct Counted {
    double instructions, mfma, longest;
};
/* Of an entry of its profile, for so many launches of as many rows. */
Counted step_counted(const json_t *profile, int launches);

/* The least time of all of u's launches, the largest of
 *   read   least bytes over the machine's bandwidth
 *   math   FLOPs over the matrix units' rate, where the node's reduction is theirs, else over fp64's; with counts the FLOPs of the
 *          matrix instructions that were executed, padding and all
 *   issue  instructions over what all units issue
 *   block  those of the longest workgroups, each on one unit: four cycles each (a matrix instruction: as long as it keeps its SIMD),
 *          on as many of the unit's SIMDs as the workgroup has waves
 * The last two with counts. */
typedef struct Bound Bound;
struct Bound {
    double seconds;
    const char *by; /* "" where nothing is known */
};
Bound step_bound(const Machine *m, const Use *u, const Counted *counted); /* NULL: not counted */

/* Of graph "step" and, where S is not 0, "sample". */
Uses step_uses(Arena *a, const Plan *p, const Work *w);

#endif
