/* code.h - code that a plan carries, on devices that run it as it is: hip, cuda, host. SECURITY.md says what this is worth. */
#ifndef GPTOSS_CODE_H
#define GPTOSS_CODE_H

#include "plan/plan.h"
#include "rtc/rtc.h"

/* May the device (a name, or "auto") run the plan's code? emu and ref always; the others what this user's compiler made here of the
 * plan's sources (rtc_made_here), or what `trusted` says. Other code is compiled anew from the sources, and takes the old one's place
 * in p: told on stderr. When that cannot be, an error that says how to go on. Compilers are forks: call before a device is opened. */
bool code_vouch(Plan *p, const char *device, bool trusted, Err *e);

/* Compiles the plan's sources for this CPU, target, as --arch host does: jobs[p->n_modules], in the arena. */
bool code_for_host(Arena *a, const Plan *p, const char *target, RtcJob *jobs, Err *e);

#endif
