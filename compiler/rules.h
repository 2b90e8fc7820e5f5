/* rules.h - which fusion rules take part in a compilation, and what became of them. */
#ifndef GPTOSS_RULES_H
#define GPTOSS_RULES_H

#include "compile.h"

/* Reads --no-fusion NAME and NAME@SCOPE into c->off. A name that no rule has is an error. */
bool rules_off(Compile *c, Err *e);
/* Behind the passes that fuse: warns of each NAME@SCOPE that changed nothing. */
void rules_off_unused(const Compile *c);

/* The pass: applies the rules that are on and that this target has kernels for, counts them in the plan, and warns of each rule
 * of --fusions that came to nothing. A kernel that no target has is an error at the rule's line. */
bool rules_apply(Compile *c, Err *e);

/* What a choice of fusions is kept under (tuning.h): the hash of the rules and of --no-fusion; the model's shape. */
const char *rules_version(const Compile *c);
const char *rules_shape(const Compile *c);

/* Of a rule that fits in no graph: where it came nearest. NULL for any other rule. */
const FuseEvent *rules_nearest(const FuseLog *log, const char *rule);

#endif
