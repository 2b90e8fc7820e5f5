/* target.h - what can be compiled for. Add one: a row of targets.def. */
#ifndef GPTOSS_TARGET_H
#define GPTOSS_TARGET_H

#include "rtc/rtc.h"

typedef struct Target Target; /* a row of targets.def */
struct Target {
    const char *arch;
    RtcKind compiler;
    const char *prelude, *options, *id;
    int wave, matrix, lds, lds_all;
};
const Target *target_find(const char *arch); /* NULL when there is none */
const char *target_list(Arena *a);           /* "gfx90a, …" */

#endif
