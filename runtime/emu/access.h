/* access.h - checked access to the segments of memory; a failed check does not return. */
#ifndef GPTOSS_EMU_ACCESS_H
#define GPTOSS_EMU_ACCESS_H

#include "wave.h"

/* [addr, addr + n) in one region, initialised if read; marks it written if write. */
void check_global(Wave *w, const Inst *i, int lane, uint64_t addr, uint64_t n, bool write);
/* The host's pointer to n bytes of LDS at offset; of this wave's scratch for a lane. */
uint8_t *lds_at(Wave *w, const Inst *i, int lane, uint32_t offset, uint32_t n, bool write);
uint8_t *scratch_at(Wave *w, const Inst *i, int lane, int64_t offset, uint32_t n);

/* n bytes at p into lane l of the destination, and back. */
void land(uint32_t *d, const uint8_t *p, const Op *op, int l);
void lift(const uint32_t *s, uint8_t *p, const Op *op, int l);

#endif
