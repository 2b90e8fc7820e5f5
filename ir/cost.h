/* cost.h - the least that a node must do in a step: bytes from memory, bytes to it, floating-point operations. What a kernel's
 * time is held against.
 *
 * Each input and each output counts once; what a fused node keeps inside does not. Of a table (weights of experts, embeddings,
 * KV pages) counts what the step's tokens reach; the router is taken to spread them evenly. A multiply-add is two operations;
 * ops that move data or compare have none. */
#ifndef GPTOSS_COST_H
#define GPTOSS_COST_H

#include "graph.h"

typedef struct Work
    Work; /* a step, beyond its shapes: `slots` sequences have T / slots tokens each, behind `depth` in the cache */
struct Work {
    Sizes sizes;
    int64_t slots, depth;
};

typedef struct Cost Cost;
struct Cost {
    double read, written, flops;
};

Cost cost_node(const Node *n, const Work *w);
double cost_read(const Node *n, int i, const Work *w); /* bytes of input i; 0 where it is absent or an earlier input again */
double cost_experts(int64_t experts, int64_t topk, int64_t tokens); /* that so many tokens reach, on average */

#endif
