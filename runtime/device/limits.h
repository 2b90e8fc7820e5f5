/* limits.h - what the machine can do at most, measured where a bench runs: bytes read from memory, matrix operations in bf16; between
 * two devices of a step, what a kernel of one reads and writes of the other's memory, what copies bring, and the way there and back.
 * The kernels are this program's own, compiled by the compiler of the plan's target: before the device is opened (rtc.h). */
#ifndef GPTOSS_LIMITS_H
#define GPTOSS_LIMITS_H

#include "device.h"

typedef struct Limits Limits;
struct Limits {
    PlanModule code;       /* .code NULL: there is none */
    char why[512];         /* a limit is not known */
    double read, matrix;   /* bytes/s, FLOP/s; 0: not known */
    double link_read, link_write, link_to, link_from; /* bytes/s; a copy to the other device, and from it; 0: not known */
    double handover; /* seconds: the other begins behind the first, which goes on behind it, with nothing between; 0: not known */
    uint64_t matrix_flops; /* of a launch; 0: the target has no such kernel */
    uint32_t read_grid, matrix_grid, block;
};

void limits_compile(Limits *l, Arena *a, const char *device, const Plan *p);
bool limits_measure(Limits *l, Device *d, Err *e); /* errors: the devices' only */
/* Of a step's first device and another one, whose kernels reach the first one's memory; why: they do not, else "". */
bool limits_measure_link(Limits *l, Device *first, Device *other, const char *why, Err *e);

#endif
