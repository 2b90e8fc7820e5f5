/* comgr_said.h - the form in which comgr's process tells what a code object holds, and in which that is kept on disk.
 *
 * An Err. If it is empty: how many kernels, u32; each a ComgrKernel, how many arguments, u32, and those, each a ComgrArg. Then, to the end,
 * the lines: each a LineHead and its text. */
#ifndef GPTOSS_EMU_COMGR_SAID_H
#define GPTOSS_EMU_COMGR_SAID_H

#include "comgr.h"

enum { COMGR_LINE = 255 /* the longest text */ };

typedef struct LineHead LineHead;
struct LineHead {
    uint16_t size, length; /* of the instruction, of its text; in bytes */
};

/* Trusts nothing of it. On false e is the Err of what was said, or says that it is not whole. */
bool comgr_said(Arena *a, const Text *said, const ComgrCode *code, ComgrText *t, Err *e);

/* What is kept in dir of this code object, appended to said. False: nothing, or it is damaged. */
bool comgr_kept_get(Arena *a, const char *dir, const ComgrCode *code, Text *said);
/* Where it cannot be kept comgr is asked again one day: no error. */
void comgr_kept_put(Arena *a, const char *dir, const ComgrCode *code, const Text *said);

#endif
