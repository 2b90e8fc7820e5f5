/* emu.h - execute gfx90a code objects, instruction by instruction, on the CPU.
 *
 * A code object (ELF) is disassembled once through comgr (dlopen'ed; libamd_comgr.so.2 or .3) into decoded instructions;
 * a launch then runs its workgroups over threads. Wave64; registers, EXEC, VCC, SCC, MODE (rounding, denormals, from the
 * kernel descriptor) as the ISA manual defines them. An unknown mnemonic or operand is an error that names it.
 *
 * Memory that a kernel may touch is what the caller registered with emu_mem_add: host memory, addressed by its host
 * pointer. Shadow state finds accesses outside every region, misaligned ones, and reads of bytes nobody has written.
 * Each finding is an error naming kernel, workgroup, wave, lane, PC (offset in the code), instruction text and address. */
#ifndef GPTOSS_EMU_H
#define GPTOSS_EMU_H

#include "ir/base.h"

typedef struct EmuMem EmuMem;       /* the registered regions, their shadow, and the threads of launches on them; one per device */
typedef struct EmuModule EmuModule; /* one decoded code object; immutable after load, usable from any thread */

EmuMem *emu_mem_new(void); /* NULL: out of memory */
void emu_mem_free(EmuMem *m);
/* Registers [p, p+size) under a name for messages. initialised: the caller filled it; else reads before writes are errors. */
bool emu_mem_add(EmuMem *m, void *p, size_t size, const char *name, bool initialised, Err *e);
void emu_mem_remove(EmuMem *m, void *p);
/* The caller wrote (initialised = true) or forgot (false: a buffer's live range begins) bytes [p, p+size). False: no memory for
 * the shadow, which can only be where bytes are forgotten of a region that was added as initialised. */
bool emu_mem_mark(EmuMem *m, void *p, size_t size, bool initialised);
/* From now on a kernel that writes into the region at p is an error: it belongs to a file. */
void emu_mem_protect(EmuMem *m, void *p);
/* Registers what `of` has at p, its shadow too: kernels on either memory see what those on the other wrote. Remove it from m first. */
bool emu_mem_share(EmuMem *m, EmuMem *of, void *p, Err *e);
/* Is every byte of [p, p+size) registered and initialised? (A copy from the device checks its source.) */
bool emu_mem_check(EmuMem *m, const void *p, size_t size, Err *e);

/* Decodes every kernel of the code object. NULL on error (no comgr, not gfx90a, unknown mnemonic, not an ELF …). */
EmuModule *emu_load(const void *code_object, size_t size, Err *e);
void emu_unload(EmuModule *m);
/* What the plan says of the instructions' source lines (PlanModule.lines): from now on faults, races and hot spots name them. Before
 * the first launch. False: the text is damaged. */
bool emu_lines(EmuModule *m, const char *text, Err *e);

typedef struct EmuKernel EmuKernel; /* what the kernel's descriptor and metadata say */
struct EmuKernel {
    char name[128];
    uint32_t vgprs, agprs, sgprs, lds_bytes, scratch_bytes, vgpr_spills, sgpr_spills, kernarg_bytes, max_block;
    uint32_t explicit_bytes; /* of kernarg_bytes: end of the explicit arguments */
};
size_t emu_kernel_count(const EmuModule *m);
const EmuKernel *emu_kernel_at(const EmuModule *m, size_t i);
const EmuKernel *emu_kernel_find(const EmuModule *m, const char *name); /* NULL when absent */

typedef struct EmuCounts EmuCounts; /* dynamic counts, summed over waves; bytes over active lanes */
struct EmuCounts {
    uint64_t launches, waves, instructions, salu, valu, mfma, smem, vmem, lds, branch, barriers;
    uint64_t bytes_read, bytes_written, lds_bytes;
    uint64_t longest; /* not a sum: the most instructions of one workgroup */
    double seconds;
};

/* Ten times what any kernel of the 20b and 120b plans runs: 3 million in attention at position 131,071, 1.2 million where the
 * sampler draws from 201,088 logits, 2 million where 4,096 tokens are grouped (2026-11); seconds, whatever the loop is made of. */
enum { EMU_MAX_INSTRUCTIONS = 1 << 25 };

typedef struct EmuLaunch EmuLaunch;
struct EmuLaunch {
    const char *kernel;
    uint32_t grid[3];  /* in workgroups */
    uint32_t block[3]; /* in work-items; x*y*z <= 1024 */
    uint32_t dynamic_lds;
    const void *kernarg; /* the explicit arguments; hidden ones are filled in by emu_launch */
    size_t kernarg_size;
    uint64_t seed;      /* 0: waves in order; else the order in which waves of a workgroup advance, and how far each runs
                           between switches, is drawn from it */
    uint32_t threads;   /* 0: one per online CPU. Kept until emu_mem_free; launches on one EmuMem take turns */
    uint64_t max_instructions; /* per workgroup; 0: EMU_MAX_INSTRUCTIONS. Beyond it the kernel is reported as hung */
    /* Run only these workgroups (linear ids, x fastest), for sampled checks of large kernels; NULL: all. */
    const uint32_t *only;
    size_t n_only;
    bool races; /* report bytes that two waves touch with nothing between that orders them (race.h); on one thread, slower */
    uint64_t *executed; /* [emu_instruction_count]: how often each instruction ran, added to; NULL: not counted, which is faster */
};
bool emu_launch(EmuModule *m, EmuMem *mem, const EmuLaunch *launch, EmuCounts *counts /* added to; may be NULL */, Err *e);

typedef struct EmuHot EmuHot;
struct EmuHot {
    const char *file; /* the module's */
    uint32_t line;
    uint64_t executed; /* instructions of waves */
};
size_t emu_instruction_count(const EmuModule *m);
/* The n lines with most in `executed`, the most first; how many there are. 0 where no lines are known. */
size_t emu_hot(const EmuModule *m, const uint64_t *executed, EmuHot *top, size_t n);

/* Every mnemonic the emulator implements, for the test that insists on a test of each. */
size_t emu_mnemonic_count(void);
const char *emu_mnemonic_at(size_t i);

#endif
