/* interface.h - does the graph fit the executor and the checkpoint? What they would find only when the plan is run is an error
 * here, at the graph's line. */
#ifndef GPTOSS_INTERFACE_H
#define GPTOSS_INTERFACE_H

#include "compile.h"

bool interface_check(const Compile *c, Err *e);

#endif
