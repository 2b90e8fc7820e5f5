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

typedef struct FuseOff FuseOff; /* a rule that is not applied: --no-fusion */
struct FuseOff {
    const char *rule;  /* "all": any; "elementwise": the inlined chains */
    const char *scope; /* the part of the graph (scope.h); NULL: everywhere */
    int kept;          /* matches that were not fused for this, where it has a scope */
};
typedef struct FuseOffList FuseOffList;
struct FuseOffList {
    FuseOff *at;
    size_t n, cap;
};
bool fuse_is_off(const FuseOffList *l, const char *rule); /* everywhere */
/* Is the rule off where `root`, a match's root, lies? Counts it. NULL when it is not. */
const FuseOff *fuse_off_here(FuseOffList *l, const char *rule, const Node *root);

/* Replaces each match of the rules by a FUSED node. Rules in descending priority, then file order; in a rule, matches in
 * topological order. A match lies where its root lies. Casts between matched nodes are matched through and become part of the
 * body. */
bool fuse_run(Front *f, Graph *g, const RuleList *rules, FuseOffList *off, FuseLog *log, Err *e);

/* Inlines elementwise ops behind a node into its kernel as a hook, where accepts(ctx, node) says that the node's template
 * has one. Runs after fuse_run. Extends FUSED nodes in place, wraps plain ones (rule "elementwise", kernel = the op's own). */
bool fuse_elementwise(Graph *g, bool (*accepts)(void *ctx, const Node *n), void *ctx, FuseOffList *off, FuseLog *log, Err *e);

/* Makes a plain node FUSED, with a copy of itself as body and its op's own kernel. Its inputs are padded with NULL to the most
 * that the op takes, so that what is appended never takes the place of an absent one. */
void fuse_wrap(Graph *g, Node *n, const char *rule);

#endif
