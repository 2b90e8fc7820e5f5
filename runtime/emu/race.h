/* race.h - which bytes two waves touch with nothing between that orders them. A launch that is watched runs on one thread.
 *
 * Two accesses to a byte by different waves, at least one of them a write (of whatever value), race unless the first happens before
 * the second:
 *   in a wave, as it runs; in a workgroup, where an s_barrier lies between;
 *   through an atomic read-modify-write of global memory: what a wave wrote, or knew, when it waited for vmcnt(0) is released by the
 *   atomics of that wave, and of waves that met it at a barrier afterwards; whoever does an atomic on that address later, and every
 *   wave that meets it at a barrier, has acquired it with its next buffer_wbinvl1.
 * What counts is what the code object does: gfx90a's compiler waits for vmcnt(0) before a barrier, with or without a fence in the source.
 * Atomics do not race with each other; nor does a plain access to an atomic's address by who did an atomic on it before (the last
 * arriver that resets a counter). An atomic load or store is in gfx90a's code what a plain one is, and counts as one; LDS atomics
 * order nothing. Told are two readers of a byte at most, so of three workgroups that only partly wait for each other one may stay
 * unseen; nothing is told that does not race.
 *
 * Shadow: 16 bytes for each 4 bytes touched (4 KiB at a time; for each byte where accesses are smaller) while a launch runs;
 * read-only memory, a mapped file's weights, has none. */
#ifndef GPTOSS_EMU_RACE_H
#define GPTOSS_EMU_RACE_H

#include "wave.h"

Race *race_open(Group *g);
void race_close(Race *r); /* NULL is fine */
/* The findings, a line for each pair of source lines; false, with e set, when there are any. */
bool race_verdict(const Race *r, Err *e);

void race_begin(Race *r, uint64_t position); /* a workgroup's first step; position: in the order of the launch */
void race_barrier(Race *r);                  /* the waves that wait go on */
void race_wait(Wave *w);                     /* vmcnt(0) */
void race_acquire(Wave *w);                  /* buffer_wbinvl1 */
void race_global(Wave *w, const Inst *i, const Region *in, uint64_t addr, uint64_t n, bool write);
void race_lds(Wave *w, const Inst *i, uint32_t offset, uint32_t n, bool write);

#endif
