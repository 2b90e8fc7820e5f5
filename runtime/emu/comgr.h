/* comgr.h - what AMD's code object manager says of a code object: its kernels' metadata and its instructions' text.
 *
 * comgr is LLVM, and LLVM may abort, crash or hang on bytes that no compiler wrote, or where it finds no memory. So it is loaded in a
 * process of its own: whatever happens there is an error here. What comes from there is checked like any other input. */
#ifndef GPTOSS_EMU_COMGR_H
#define GPTOSS_EMU_COMGR_H

#include "emu.h"

enum { COMGR_MAX_KERNELS = 4096, COMGR_MAX_ARGS = 1024, COMGR_NAME = 256 };

typedef struct ComgrArg ComgrArg;
struct ComgrArg {
    char kind[32]; /* .value_kind: "global_buffer", "hidden_block_count_x", … */
    uint32_t offset, size;
};

typedef struct ComgrKernel ComgrKernel;
struct ComgrKernel {
    EmuKernel pub;           /* but for explicit_bytes */
    char symbol[COMGR_NAME]; /* of the descriptor */
    ComgrArg *args;
    uint32_t n_args;
};

typedef struct ComgrLine ComgrLine;
struct ComgrLine {
    const char *text; /* "" where the bytes are no instruction */
    uint32_t size;    /* in bytes: a multiple of 4, at least 4 */
};

typedef struct ComgrText ComgrText;
struct ComgrText {
    ComgrKernel *kernels;
    size_t n_kernels;
    ComgrLine *lines; /* one after the other, from the first byte of the code to its end */
    size_t n_lines;
};

typedef struct ComgrCode ComgrCode;
struct ComgrCode {
    const void *object; /* the whole code object */
    size_t object_size;
    const uint8_t *image; /* where the code lies: its bytes lo … hi are disassembled */
    uint32_t lo, hi;
};

/* Starts that process, which loads nothing yet. comgr_read does where this did not; a program that will have threads does it before: a
 * fork of a process with threads has what they held locked, and not every allocator lets go of it there (ASan's of gcc 12 does not). */
bool comgr_start(Err *e);
/* From now on what comgr says is kept in this directory, the caller's string, and not asked again; NULL, as at first: it is not. */
void comgr_keep(const char *dir);
bool comgr_read(Arena *a, const ComgrCode *code, ComgrText *text, Err *e);

#endif
