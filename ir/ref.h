/* ref.h - the ops' reference functions: what a node must compute, in plain C. The truth that kernels are held to.
 *
 * Values have their graph dtype (f32, bf16, i32, mxfp4); every reduction, exp, sigmoid and rsqrt is in double, rounded once
 * to the output's type. State values are updated in place: in and out are the same memory. */
#ifndef GPTOSS_REF_H
#define GPTOSS_REF_H

#include "graph.h"

typedef struct Tensor Tensor; /* a value in memory, row-major, dimensions evaluated */
struct Tensor {
    DType dtype;
    int rank;
    int64_t dim[MAX_RANK];
    void *data; /* borrowed; MXFP4 as dtype_bytes lays it out */
};
Tensor tensor_of(const Type *t, const Sizes *s, void *data);
int64_t tensor_count(const Tensor *t);
double tensor_at(const Tensor *t, int64_t i); /* element i */

/* Executes one node (a FUSED node: its body, interior values in scratch memory) on in[0 … n->n_in) -> out[0 … n->n_out).
 * An absent input has data NULL. threads: how many may be used. Errors: an id out of range, a page outside the pool … */
bool ref_node(const Node *n, const Tensor *in, const Tensor *out, const Sizes *s, int threads, Err *e);

/* A second look at a node, for judge.h: what each output was before its last rounding. at[i], floats, one for each element:
 *   bf16   what was rounded (copies, the cache's rows too, are traced back to it); f32: the values
 *   i32    what topk or sample chose: the rows of scores, width[i] each; else NULL
 * near > 0: roundings to bf16 whose operand is so near the midpoint of two neighbours (in parts of its own size and its row's)
 * go the other way, as a kernel's might. The inputs' states are left as they are. */
typedef struct RefLook RefLook;
struct RefLook {
    float *at[MAX_OUT];
    int64_t width[MAX_OUT];
    bool given[MAX_OUT]; /* the scores are an input, not the node's own */
};
bool ref_look(const Node *n, const Tensor *in, const Sizes *s, int threads, double near, RefLook *look, Err *e);
void ref_look_free(RefLook *look);

#endif
