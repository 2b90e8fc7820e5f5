/* lower.h - from the fused program to a plan: expert grouping, kernels, buffers, launches. */
#ifndef GPTOSS_LOWER_H
#define GPTOSS_LOWER_H

#include "plan/plan.h"
#include "emit.h"

/* Inserts group(ids) before every node whose template wants its experts grouped, shares it between nodes of the same ids and
 * tile, and appends perm and tiles to the nodes' inputs. A plain node becomes FUSED (rule "group") with itself as body. */
bool lower_group(Program *p, const Maker *m, Err *e);

/* Chooses and emits a kernel for every node and fills plan: buffers (live ranges, scratch offsets), kernels, launches of
 * every bucket, values, KV groups, module sources (no code objects yet). plan->program = p; the arena is plan's. */
bool lower_plan(Program *p, const Maker *m, const Prelude *prelude, Plan *plan, Err *e);

#endif
