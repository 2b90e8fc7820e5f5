/* sources.h - the emitted files in a folder: --emit writes them, --override takes edited ones back. */
#ifndef GPTOSS_SOURCES_H
#define GPTOSS_SOURCES_H

#include "plan/plan.h"

/* Writes every module's source into dir. Files there that an earlier --emit wrote for another plan go. */
bool sources_write(const Plan *p, const char *dir, Err *e);

typedef struct Edited Edited; /* of one module: what lies in --override's folder in its stead */
struct Edited {
    const char *path;   /* NULL: nothing, or nothing new */
    const char *source; /* for the compiler: no #line, so that its messages name path and the line in it */
};

/* Replaces the modules' sources by what lies in dir; edited[n_modules]. An error when a file was emitted for other kernels than
 * this plan's, or when the kernels in it take other arguments. */
bool sources_override(Arena *a, Plan *p, const char *dir, Edited *edited, Err *e);

#endif
