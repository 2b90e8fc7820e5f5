/* match.h - finding a rule's pattern in a graph. Private to the fusion engine (fuse.c, elementwise.c). */
#ifndef GPTOSS_MATCH_H
#define GPTOSS_MATCH_H

#include "fuse.h"

/* --- who reads a value (Value.mark) ------------------------------------------------------------------------------- */

/* Numbers the nodes by position (Node.id) and lists each value's readers, in order, each once. Lives in `a`; valid until the
 * graph changes. */
void readers_build(Arena *a, const Graph *g);
const NodeList *readers(const Value *v);

/* --- patterns ----------------------------------------------------------------------------------------------------- */

enum { PATTERN_NODES = 32, PATTERN_VALUES = 64, MATCH_CASTS = 32, MATCH_TRIES = 1000000, ALL_TRIES = 10 * MATCH_TRIES /* of all rules in a graph */ };

/* A rule's pattern, checked, its nodes and values numbered (their id), its nodes in an order in which each one after the
 * first is reached from those before it. The first is the root: the pattern's last node that is no optional cast. */
typedef struct Pattern Pattern;
struct Pattern {
    const Rule *rule;
    Node *plan[PATTERN_NODES]; /* rule->pattern->nodes.n of them */
};
bool pattern_open(Pattern *p, const Rule *r, Err *e); /* the error is the rule's author's */
Node *pattern_root(const Pattern *p);

/* What a pattern stands for at one place of the graph; arrays by the ids of pattern nodes and values. */
typedef struct Match Match;
struct Match {
    const Pattern *pattern;
    Node *node[PATTERN_NODES];    /* NULL: an optional cast that is absent; its input's value is its own */
    Value *value[PATTERN_VALUES]; /* NULL and bound: an absent optional input */
    bool bound[PATTERN_VALUES];
    Node *cast[MATCH_CASTS]; /* casts between matched nodes, that the pattern does not name */
    int n_cast;
};

/* How near the pattern came to fitting: where it failed after most of its ops and inputs had fitted. */
typedef struct Miss Miss;
struct Miss {
    Arena *a;         /* for what */
    int score;        /* -1: nothing was tried */
    int tries;        /* of a node for one of the pattern's, at all roots; after MATCH_TRIES none is made */
    const char *what; /* "after 1 of its 3 ops: linear at layer0.attn.qkv: its b is …, where the pattern has nothing" */
};

/* Calls accept for each way in which the pattern fits with `root` as its root, until it returns true. Then true. Where it does
 * not fit, and came nearer than *miss says, that is noted. */
bool match_at(const Pattern *p, Node *root, bool (*accept)(void *ctx, const Match *m), void *ctx, Miss *miss);

/* --- bodies (fuse.c) ---------------------------------------------------------------------------------------------- */

/* An input of the body for the graph's value v; called "name$2" where the body has that name already (a value bound to two
 * placeholders, or read both by the kernel and by the chain behind it). */
Value *fuse_body_input(Graph *body, const Value *v);
/* The graph's node n again, on these values of the body, with n's names. */
Node *fuse_body_node(Graph *body, const Node *n, Value *const *in);

#endif
