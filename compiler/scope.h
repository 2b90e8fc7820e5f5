/* scope.h - where in a model's graph an op lies, and the part of a graph that --no-fusion NAME@SCOPE means.
 *
 * A path is what the names of values begin with: "layer7.attn"; "" outside of every scope. A part is a path whose numbers may be
 * ranges or left out: "layer7" is all of layer 7, "layer0..11" twelve layers, "layer0..11.attn" their attention, "layer.attn" that
 * of every layer. */
#ifndef GPTOSS_SCOPE_H
#define GPTOSS_SCOPE_H

#include "ir/graph.h"

/* The number of the first scope called so: 7 for "layer". False when there is none. */
bool scope_number(const char *path, const char *name, int64_t *n);

bool scope_check(const char *part, Err *e); /* is it written as a part? */
bool scope_within(const char *path, const char *part);
/* The parts that a program has, for messages: "layer0..23.attn, layer0..23.mlp". */
const char *scope_list(Arena *a, const Program *p);

#endif
