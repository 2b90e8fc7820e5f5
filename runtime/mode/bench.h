/* bench.h - what the parts of -m bench share. mode_bench.c: sweeps; bench_kernels.c: one step, kernel by kernel; bench_parts.c: one of
 * several devices, in parts. */
#ifndef GPTOSS_BENCH_H
#define GPTOSS_BENCH_H

#include "ir/cost.h"
#include "runtime/device/limits.h"
#include "runtime/device/stamp.h"
#include "mode.h"
#include "table.h"

typedef struct Case
    Case; /* batch requests side by side, each behind `depth` tokens: n tokens of prompt, or n generated one by one */
struct Case {
    bool prompt;
    int64_t n, depth;
    int batch;
};
const char *case_name(Arena *a, const Case *c); /* "pp512", "tg128" */

/* A step of a case, its inputs told, ready to run node by node. */
typedef struct BenchStep BenchStep;
struct BenchStep {
    const Case *c;
    const SchedStep *step;
    Work work;
};

/* Bytes that a device reads and writes in a step of memory that they share, where that is not its own. */
typedef struct Exchange Exchange;
struct Exchange {
    double read, written;
};

extern const Column kernel_columns[];
size_t kernel_n_columns(const Plan *p); /* those of several devices are behind the others */
/* Adds a row for each kernel that the step launches, timed alone, and one for all of them. Kernels of every device are timed on all
 * at once and have a row for each; of these the slowest counts in all. link [plan->devices]: the step's. */
bool bench_kernels(Session *s, const BenchStep *b, const Limits *l, Exchange *link, Table *t, Err *e);

/* What a device of a plan for several was seen at, in order: when it began with nodes and had done them; the first, when it went on. */
typedef struct Watch Watch;
struct Watch {
    Stamp *at; /* [room] */
    int n, room;
};
Watch *watch_make(Session *s, int room); /* [plan->devices] */
void watch_set(Exec *x, Watch *w);       /* NULL: no longer */
void watch_free(Session *s, Watch *w);
/* Seconds between stamps from and to of device d; waits for them. Not *ok: 0. */
double watch_between(const Session *s, const Watch *w, int d, int from, int to, bool *ok, Err *e);

extern const Column bench_part_columns[];
extern const size_t bench_part_n_columns;
/* Of a plan for several devices: adds a row for each part of the step. */
bool bench_parts(Session *s, const BenchStep *b, const Limits *l, const Exchange *link, Table *t, Err *e);
/* Appends the step's nodes to a list of Chrome's trace events, as process `pid`. */
bool bench_trace(Session *s, const BenchStep *b, int pid, json_t *events, Err *e);

#endif
