/* fuse.h - the fusion engine: rules (Lua) applied to a graph, and elementwise chains inlined into kernels.
 * Fused nodes: see struct Node in ir/graph.h. Nothing here knows a rule by name. */
#ifndef GPTOSS_FUSE_H
#define GPTOSS_FUSE_H

#include "front.h"

typedef enum FuseOutcome {
    FUSE_DONE,
    FUSE_REFUSED, /* the pattern fits, but … */
    FUSE_MISSED   /* it fits nowhere in this graph; why: the nearest it came */
} FuseOutcome;
typedef struct FuseEvent FuseEvent; /* for --explain and --report: each match and each near miss */
struct FuseEvent {
    const char *rule, *graph, *node; /* node: name of the pattern's root in the graph */
    FuseOutcome outcome;
    const char *why; /* refused: "layer0.x is read by layer0.mlp.norm too (export it or mark it recompute)", "when() said no",
                        "overlaps rule mlp1_swiglu (priority 10, this one 0) at layer0.mlp.up", … ; done: how many nodes it
                        replaced */
    int score;       /* missed: of several graphs, the largest came nearest */
};
typedef struct FuseLog FuseLog;
struct FuseLog {
    FuseEvent *at;
    size_t n, cap;
};

/* Replaces each match of the rules by a FUSED node. Rules in descending priority, then file order; in a rule, matches in
 * topological order. `off`: names of rules not to apply ("all": none). Casts between matched nodes are matched through and
 * become part of the body. */
bool fuse_run(Front *f, Graph *g, const RuleList *rules, const char *const *off, size_t n_off, FuseLog *log, Err *e);

/* Inlines elementwise ops behind a node into its kernel as a hook, where accepts(ctx, node) says that the node's template
 * has one. Runs after fuse_run. Extends FUSED nodes in place, wraps plain ones (rule "elementwise", kernel = the op's own). */
bool fuse_elementwise(Graph *g, bool (*accepts)(void *ctx, const Node *n), void *ctx, FuseLog *log, Err *e);

/* Makes a plain node FUSED, with a copy of itself as body and its op's own kernel. Its inputs are padded with NULL to the most
 * that the op takes, so that what is appended never takes the place of an absent one. */
void fuse_wrap(Graph *g, Node *n, const char *rule);

#endif
