/* makeup.h - the self-test's inputs: random, and such as mean something to the node that reads them. See makeup.c. */
#ifndef GPTOSS_MAKEUP_H
#define GPTOSS_MAKEUP_H

#include "ir/ref.h"
#include "plan/plan.h"

typedef struct Makeup Makeup;
struct Makeup {
    const Plan *plan;
    const Node *node;
    Sizes sizes;          /* makeup_begin sets P */
    int64_t slots, pages; /* sequences that the step's tokens belong to, pages of each */
    int64_t far;          /* the position of a token with a long context; 0: there is no room */
    int64_t first;        /* of the kinds of rows, the one that row 0 is */
    uint64_t seed, random;
};

/* The node's input whose ids may be EXPERT_NONE, none of this device's experts; -1: it has none, or the plan is for one device. */
int makeup_none(const Makeup *m);
/* A step of `rows` tokens or rows of this node. Inputs depend on the node, what computes it (name), seed, rows and first, not on
 * what else is in the plan; weights on the first three only. */
Makeup makeup_begin(const Plan *p, const Node *n, const char *name, int64_t rows, int64_t first, uint64_t seed);
bool makeup_fill(Makeup *m, int input, Tensor *t, Err *e); /* of the node */
int64_t makeup_most_rows(const Plan *p);                   /* that a step can have, each token at its own position */

#endif
