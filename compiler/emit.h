/* emit.h - HIP source (or C, for the host) for the kernels of a plan: a template's text, its constants, and generated hooks
 * (hooks.h). */
#ifndef GPTOSS_EMIT_H
#define GPTOSS_EMIT_H

#include "part.h"

/* What an argument points at: a value, or memory that the template's head asks for. */
typedef enum ArgRole { ARG_VALUE, ARG_WORKSPACE, ARG_COUNTERS } ArgRole;

/* One argument of a kernel, in order behind `step`: which value of the node it is. */
typedef struct KernelArg KernelArg;
struct KernelArg {
    const char *name; /* in struct Args */
    ArgRole role;
    Value *value;     /* of the graph; of the node's body, when launches of one node hand it on; NULL: a null pointer is passed */
    DType dtype;
    bool written;
    const char *packed; /* the name that graph "prepare" gives the value in the layout that the kernel wants; NULL: as it is */
};

/* Appends; the program ends when a launch has no room for it (PLAN_MAX_ARGS). */
KernelArg *arg_push(KernelArg *args, int *n, KernelArg arg);

typedef struct Kernel Kernel; /* one specialisation; shared by all nodes that need the same text */
struct Kernel {
    const char *symbol;
    const char *inside; /* what stands in its namespace; equal insides are one kernel */
    const char *text;   /* namespace and __global__ wrapper; C: inside and the exported function */
    const Template *t;
    Binding binding;
    const char *reduction;
    int64_t block, cluster; /* blocks of a cluster: 1, they know nothing of each other */
    double tolerance;
    const char *args, *ops; /* identity.c: for people; and the hashes of what the nodes that it serves compute */
    struct {
        uint64_t *at;
        size_t n, cap;
    } computes;
};

typedef struct Emitter Emitter;
struct Emitter {
    const Maker *m;
    struct {
        Kernel **at;
        size_t n, cap;
    } kernels;
};

/* The kernel for part p of `all`; args[0 … *n_args) as launch order demands (step excluded). The same specialisation gives the
 * same Kernel. NULL on error. */
Kernel *emit_kernel(Emitter *em, const Part *p, const PartList *all, KernelArg *args, int *n_args, Err *e);

/* The module that kernel k goes to: "linear.hip", all kernels of a template; in C "linear_K64_N128.c", it alone. */
const char *emit_module_name(const Emitter *em, const Kernel *k);
typedef struct Prelude Prelude; /* what stands before the kernels */
struct Prelude {
    const char *text; /* in every module */
    struct {
        const char *name, *text;
    } part[4]; /* behind it, where a template is with the one of that name */
    int n_parts;
};
/* The whole text of one module: prelude, then its kernels. */
const char *emit_module(const Emitter *em, const char *module, const Prelude *prelude);

/* The input that output i of n updates in place (state), or NULL. */
Value *node_state(const Node *n, int i);

/* A FUSED node's input that its body input i stands for. */
Value *body_input(const Node *n, size_t i);

#endif
