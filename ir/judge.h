/* judge.h - whether two results agree. Decided here and nowhere else, for the self-test, parity and the checker; how far two rows of
 * logits lie apart is measured in rowstat.h.
 *
 * A right kernel may differ from its reference by
 *   its own sums          other order, other precision. Each row's squared error over the row's own size, averaged over the rows
 *                         that are not all 0 (nmse), is at most the template's tolerance; so a small row counts as much as a large
 *                         one. No element may be off by FAR times what that tolerance makes of an element of its row.
 *   the last rounding     a value near the midpoint of two neighbours may go to the other one. bf16: one step is granted to each
 *                         element, and counted. As many are allowed as errors of the tolerance's size turn, which a kernel that is
 *                         one step off everywhere exceeds. Where it is known what was rounded (exact), the error is the distance
 *                         from that to the nearest value that rounds to what was got: never more than the kernel's own.
 *                         f32: a step is an error as any, but a few are granted, for a single one is more than the tolerance of a
 *                         kernel that sums in double may be.
 *   a rounding inside it  of a fused node: what moves when those that hang in the balance go the other way (turned) is granted
 *                         to the rows that it moves.
 *   a tie                 an index chosen by scores that the node itself computed (topk, argmax), or that drifted, may be another
 *                         whose score is as good within the tolerance. Any other integer must be equal.
 * A tolerance of 0 grants nothing. Not finite where the reference is finite is never granted, nor the other way round. */
#ifndef GPTOSS_JUDGE_H
#define GPTOSS_JUDGE_H

#include "ref.h"

typedef struct JudgeRule JudgeRule;
struct JudgeRule {
    double nmse;       /* the template's tolerance */
    double atol, rtol; /* atol > 0: instead of nmse and steps, every element's error is at most atol + rtol |want| */
};

typedef struct JudgePair JudgePair;
struct JudgePair {
    const Tensor *got, *want;     /* of one type and shape */
    const float *exact, *turned;  /* [count] want before its last rounding, and what that would be (ref_look); NULL: not known */
    const float *scores;          /* i32: a row of scores for each row of want; NULL: none */
    int64_t width;                /* … and how many a row has */
};

typedef enum JudgeFault {
    JUDGE_OK,
    JUDGE_NOT_FINITE, /* at: the first such element */
    JUDGE_INTEGERS,   /* at: the first that differs */
    JUDGE_ELEMENT,    /* at: the first that is too far off */
    JUDGE_NMSE,       /* at: the largest error */
    JUDGE_STEPS
} JudgeFault;

typedef struct Verdict Verdict;
struct Verdict {
    JudgeFault fault;
    DType dtype;
    JudgeRule rule;
    int64_t count, rows;
    int64_t different;         /* elements that are not equal */
    int64_t steps, most_steps; /* of them granted as one step of the type; how many may be */
    int64_t ties, turned;      /* integers granted as ties; rows that roundings inside moved */
    double nmse;               /* beyond roundings */
    double max_abs, max_rel;   /* of all elements as they are */
    int64_t at;
    double got, want;          /* there */
};
Verdict judge(const JudgePair *p, const JudgeRule *rule);
void judge_why(const Verdict *v, Text *t); /* one line of what is wrong */
/* Output by output of one node, with a second look where that may change the verdict. */
typedef struct JudgeNode JudgeNode;
struct JudgeNode {
    const Node *n;
    const Tensor *in; /* of the reference; its states before or after the node */
    const Sizes *sizes;
    int threads;
    JudgeRule rule;
    bool drifted; /* the device had inputs of its own, that differ within the tolerance */
    /* got and want may be a part of output `out`: gives the same part of `whole`, malloc'ed. NULL: they are all of it. */
    float *(*part)(void *ctx, int out, const float *whole);
    void *ctx;
    bool looked[2];
    RefLook look[2]; /* as it is, and turned */
};
bool judge_node(JudgeNode *j, int out, const Tensor *got, const Tensor *want, Verdict *v, Err *e);
void judge_node_end(JudgeNode *j);

/* The kernel's own nmse that right runs showed, or an upper bound of it: of values rounded to bf16 only steps show anything. */
typedef struct Measured Measured;
struct Measured {
    double nmse;
    int64_t steps, rounded; /* of so many values rounded to bf16 */
};
void judge_measure(Measured *m, const Verdict *v); /* adds a run */
double judge_measured(const Measured *m);

/* The first of n values that is not finite, else -1. */
int64_t judge_not_finite(const float *x, int64_t n);

double judge_log_probability(const float *logits, int64_t n, int64_t index); /* log softmax(logits)[index] */

#endif
