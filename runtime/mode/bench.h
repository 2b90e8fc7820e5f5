/* bench.h - what the parts of -m bench share. mode_bench.c: sweeps; bench_kernels.c: one step, kernel by kernel. */
#ifndef GPTOSS_BENCH_H
#define GPTOSS_BENCH_H

#include "ir/cost.h"
#include "runtime/device/limits.h"
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

extern const Column kernel_columns[];
extern const size_t kernel_n_columns;
/* Adds a row for each kernel that the step launches, timed alone, and one for all of them. */
bool bench_kernels(Session *s, const BenchStep *b, const Limits *l, Table *t, Err *e);
/* Appends the step's nodes to a list of Chrome's trace events, as process `pid`. */
bool bench_trace(Session *s, const BenchStep *b, int pid, json_t *events, Err *e);

#endif
