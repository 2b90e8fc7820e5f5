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

/* Executes one node (a FUSED node: its body, interior values in scratch memory) on in[0 … n->n_in) -> out[0 … n->n_out).
 * An absent input has data NULL. threads: how many may be used. Errors: an id out of range, a page outside the pool … */
bool ref_node(const Node *n, const Tensor *in, const Tensor *out, const Sizes *s, int threads, Err *e);

/* Largest differences of got to want over all elements. nmse = sum (got-want)^2 / sum want^2. Non-finite values that differ
 * count as infinite. at: index of the largest absolute difference. */
typedef struct TensorDiff TensorDiff;
struct TensorDiff {
    double max_abs, max_rel, nmse;
    int64_t at, count, different; /* different: elements whose bits differ */
};
TensorDiff tensor_diff(const Tensor *got, const Tensor *want);

#endif
