/* identity.h - what a kernel is, as one line in its emitted file: target, constants, arguments, and what the nodes that it serves
 * compute: the first one's ops with their attributes, and a hash of all.
 * An edited file is used (--override) only where its lines are those that this compilation would write. */
#ifndef GPTOSS_IDENTITY_H
#define GPTOSS_IDENTITY_H

#include "emit.h"

/* Node n, in its graph, is computed by kernel k with these arguments. Called once for each launch. */
void identity_add(Arena *a, Kernel *k, const Node *n, const KernelArg *args, int n_args);

/* "// identity linear_K64_N128 for gfx90a, fast: K=64 N=128; x bf16, w bf16, y f32 (written); linear, cast to=bf16; computes 0123456789abcdef\n" */
void identity_line(Text *t, const Emitter *em, const Kernel *k);

#endif
