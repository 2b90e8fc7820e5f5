/* decode.h - text of one instruction to struct Inst. */
#ifndef GPTOSS_EMU_DECODE_H
#define GPTOSS_EMU_DECODE_H

#include "ir/map.h"
#include "wave.h"

typedef struct Decoder Decoder;
struct Decoder {
    Arena *arena; /* of what the instructions keep */
    Lane *const *lanes;
    char why[160]; /* why the last instruction was not decoded */
    Map rows;      /* a constant in hex -> it in every lane */
};

void decode_inst(Decoder *d, Inst *i, const char *text); /* always makes one; run_bad when it could not be decoded */

/* fit.c: do its operands hold what its execution will touch? */
bool inst_fits(const Inst *i);

#endif
