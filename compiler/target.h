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
    const char *features; /* that a target id may name: "sramecc xnack" */
    const char *machine;  /* of this arch, and what its data sheet allows: bytes and operations a second; 0: unknown */
    double bandwidth, peak_fast, peak_strict;
    double units, clock, launch; /* compute units, Hz; seconds that a kernel takes besides its work */
};
const Target *target_find(const char *arch); /* NULL when there is none */

/* --arch: "gfx90a", or with features as rocminfo prints them: "gfx90a:sramecc+:xnack-", perhaps behind "amdgcn-amd-amdhsa--".
 * *arch: without that, the features in order. What names no feature runs with either setting of it. */
bool target_parse(Arena *a, const char *text, const Target **t, const char **arch, Err *e);
const char *target_list(Arena *a);           /* "gfx90a, …" */

#endif
