/* selftest.h - every kernel of a plan on a device, on random inputs, against its node's reference. See selftest.c. */
#ifndef GPTOSS_SELFTEST_H
#define GPTOSS_SELFTEST_H

#include "runtime/device/device.h"

typedef struct SelftestOptions SelftestOptions;
struct SelftestOptions {
    int64_t tokens;   /* a T between the least and the most */
    uint64_t seed;    /* of the inputs */
    int threads;      /* for the reference; 0: all */
    bool sample;      /* the device was opened to run a sample of each launch's blocks */
    const char *only; /* part of a symbol; NULL: all */
    int64_t rows;     /* one trial a kernel, of a step of so many rows; 0: at the ends of its range */
    bool json, counts; /* counts: with json, of each line what the kernel executed (emu) */
};
/* Prints a line per kernel and T on stdout. json: an object a line (docs/formats.md). False when one failed. */
bool selftest_run(const Plan *p, Device *d, const SelftestOptions *o, Err *e);

#endif
