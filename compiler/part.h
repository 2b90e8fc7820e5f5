/* part.h - what one launch computes: an op that a template computes, its core, and the ops that are composed around it.
 *
 * A fused node's recipe names the ops that get launches of their own; an op without code (ops.def) always has one. Every other op
 * goes behind the core that it depends on, as part of the hook that takes the core's results; or, if it depends on none, in front
 * of the core that reads it, as part of the hook that makes the core's operand. What neither hook can take (a row's statistic
 * behind a core, a value that several launches read …) is a launch without a core: all of it is generated. */
#ifndef GPTOSS_PART_H
#define GPTOSS_PART_H

#include "template.h"

typedef enum CodeKind { CODE_NONE, CODE_EACH, CODE_NEAR, CODE_HALVES, CODE_VIEW, CODE_SUM, CODE_ROW, CODE_STORE } CodeKind;
typedef struct OpCode OpCode; /* CODE in ops.def */
struct OpCode {
    CodeKind kind;
    const char *text[3];
};
const OpCode *op_code(Op op);
int op_stores(Op op); /* STORE: its inputs 1 … so many go into the state */

enum { PART_NODES = 64, PART_OUT = 8, MAX_RANGES = 8 /* three recipes, and templates' limits on tokens */ };

/* Which columns of a core's result the hook behind it takes at once. */
typedef enum Pairs { PAIRS_NONE, PAIRS_NEAR /* 2j, 2j + 1 */, PAIRS_HALVES /* i, i + head_dim / 2 of a head */ } Pairs;

typedef struct Part Part;
struct Part {
    const Node *owner;  /* of the graph */
    const char *kernel; /* the template's: an op's name, "map" or "row" (all is generated), or the rule's own */
    const Node *core;   /* NULL: all is generated, or the template computes the rule's pattern as it likes */
    Value *source;      /* what the template hands to the hook behind it; NULL: all is generated */
    bool behind[PART_NODES]; /* by place in the body: behind the core, or generated here */
    Value *out[PART_OUT];    /* what it stores: the owner's outputs, and what later parts read */
    int n_out;
    Pairs pairs;
    int64_t head;       /* PAIRS_HALVES: the head_dim */
    int64_t tokens;     /* it is for steps of at most so many */
    const Template *likely; /* what computes the core when it stands alone: it says what can be composed */
    bool alone;             /* while that is being found out: operands as if in memory */
    bool ranks;         /* the hook takes a token's results of all ranks at once (SUM behind an expert_linear) */
};
typedef struct PartList PartList;
struct PartList {
    Part **at;
    size_t n, cap;
};

/* How n is computed by steps of above < T <= upto tokens, as the recipe that applies and the templates' own limits have it:
 * false past the last range. */
typedef struct Range Range;
struct Range {
    int64_t above, upto; /* {0, 0} to begin */
    int choice;
};
bool range_next(const Maker *m, const Node *n, Range *r);

/* The parts of n, a plain or fused node, in range r, in the order of their launches. */
bool parts_make(const Maker *m, const Node *n, const Range *r, PartList *parts, Err *e);

/* Calls each(ctx, part, what the part is bound to) for every part of n in every range, until one fails. */
bool parts_each(const Maker *m, const Node *n, bool (*each)(void *ctx, const Part *p, const Binding *b, Err *e), void *ctx, Err *e);

/* Can one more elementwise op go behind what computes n's first result, whatever the number of tokens? */
bool parts_take_chain(const Maker *m, const Node *n);

/* The body's nodes, or the plain node itself. */
size_t owner_nodes(const Node *owner);
const Node *owner_node(const Node *owner, size_t i);
/* Is v computed inside the owner? Then by which of its nodes; else SIZE_MAX. */
size_t owner_index(const Node *owner, const Value *v);
/* The graph's value that v of the body stands for: an input's or an output's; NULL for an interior one. */
Value *owner_outside(const Node *owner, const Value *v);

/* The same; a value that only launches of the owner hand on is itself. */
Value *owner_memory(const Node *owner, const Value *v);
/* Does v follow from `on`, or is it that? */
bool value_depends(const Value *v, const Value *on);

/* The size of v's last dimension; 1 for a vector with an element a token, a row, a slot. */
int64_t value_columns(const Value *v);

/* Of a generated part: the columns of its widest result, the result's rows a token (or sampled row), and what counts those. */
int64_t part_columns(const Part *p);
int64_t part_rows(const Part *p, Sym *count);

/* Where v comes from, seen from p. */
typedef enum Origin {
    FROM_OUTSIDE, /* memory: the owner's input, or what another part stored */
    FROM_SOURCE,  /* behind the core: the hook's variables */
    FROM_CODE     /* computed where it is used */
} Origin;
Origin part_origin(const Part *p, const PartList *all, const Value *v);

/* The row's statistic that computing the core's input v takes, or (NULL) the generated part; NULL: none. */
const Node *part_statistic(const Part *p, const PartList *all, const Value *v);
/* Are sums over ranks among what the part computes? */
bool part_sums(const Part *p);
/* Is an op of this kind composed around p's core, or generated in p? */
bool part_composes(const Part *p, const PartList *all, Op op);

#endif
