/* limits.h - what the machine can do at most, measured where a bench runs: bytes read from memory, matrix operations in bf16.
 * The kernels are this program's own, compiled by the compiler of the plan's target: before the device is opened (rtc.h). */
#ifndef GPTOSS_LIMITS_H
#define GPTOSS_LIMITS_H

#include "device.h"

typedef struct Limits Limits;
struct Limits {
    PlanModule code;       /* .code NULL: there is none */
    char why[512];         /* a limit is not known */
    double read, matrix;   /* bytes/s, FLOP/s; 0: not known */
    uint64_t matrix_flops; /* of a launch; 0: the target has no such kernel */
    uint32_t read_grid, matrix_grid, block;
};

void limits_compile(Limits *l, Arena *a, const char *device, const Plan *p);
bool limits_measure(Limits *l, Device *d, Err *e); /* errors: the device's only */

#endif
