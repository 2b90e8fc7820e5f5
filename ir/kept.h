/* kept.h - files of lines that programs keep for their user from run to run: the lab's ledger, what --tune measured. */
#ifndef GPTOSS_KEPT_H
#define GPTOSS_KEPT_H

#include "base.h"

/* gptoss/NAME in $XDG_STATE_HOME, else in ~/.local/state; in the arena. NULL: neither is set. */
const char *kept_path(Arena *a, const char *name);

/* Appends the line, and its end; makes the file and its folders if need be. By one write, so lines of programs that run side by side do
 * not mix. */
bool kept_append(Arena *a, const char *path, const char *line, Err *e);

#endif
