/* layout.h - weights that kernels want in another layout than the file's: the graph "prepare" repacks them while they are loaded. */
#ifndef GPTOSS_LAYOUT_H
#define GPTOSS_LAYOUT_H

#include "part.h"

/* What part p's template wants the weight v repacked to: the value's name in graph "prepare" ("layer0.attn.qkv.w$fragment.halves64"). */
const char *layout_name(Arena *a, const Part *p, const Value *v);

/* Adds graph "prepare": a repack for each weight and layout that some kernel wants. No graph when there is none. */
bool layout_run(Program *p, const Maker *m, Err *e);

#endif
