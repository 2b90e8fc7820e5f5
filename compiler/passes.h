/* passes.h - the passes over a whole program that have no header of their own. */
#ifndef GPTOSS_PASSES_H
#define GPTOSS_PASSES_H

#include "ir/graph.h"

/* Makes the precision of every value explicit: see precision.c. Runs before fuse_run.
 * kv16: keep the KV cache in bf16 (the driver's default: for fast, unless --kv32; for strict only with --kv16). */
bool precision_run(Program *p, bool strict, bool kv16, Err *e);

/* Deals the experts out over n devices (1: changes nothing): see ep.c. experts: of the model. */
bool ep_run(Program *p, int64_t n, int64_t experts, Err *e);

#endif
