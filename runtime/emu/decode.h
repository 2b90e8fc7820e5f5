/* decode.h - text of one instruction to struct Inst. */
#ifndef GPTOSS_EMU_DECODE_H
#define GPTOSS_EMU_DECODE_H

#include "wave.h"

typedef struct Decoder Decoder;
struct Decoder {
    Arena *arena;
    Lane *const *lanes;
    char why[160]; /* why the last instruction was not decoded */
    struct { struct ConstRows { uint64_t value; int dwords; const uint32_t *rows; } *at; size_t n, cap; } rows;
};

void decode_inst(Decoder *d, Inst *i, const char *text); /* always makes one; run_bad when it could not be decoded */

/* fit.c: do its operands hold what its execution will touch? */
bool inst_fits(const Inst *i);

#endif
