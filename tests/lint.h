/* lint.h - before every file that tools/lint looks at: what the analyzers cannot see from a declaration. */
#ifndef GPTOSS_LINT_H
#define GPTOSS_LINT_H

#include "ir/base.h"

#define err_set(...) ((err_set)(__VA_ARGS__), false)
#define err_wrap(...) ((err_wrap)(__VA_ARGS__), false)

#endif
