/* scalar.c - scalar ALU, program flow and scalar memory. The arithmetic is in isa.def. */
#include "lanemath.h"
#include "race.h"

#include "access.h"

uint32_t special_value(const Wave *w, const Operand *o) {
    if (o->reg == SPECIAL_SCC) return w->scc;
    if (o->reg == SPECIAL_VCCZ) return VCC == 0;
    return EXEC == 0;
}

#define C_u32 uint32_t
#define C_i32 int32_t
#define C_u64 uint64_t
#define C_i64 int64_t
#define GET_u32(o) scalar32(w, o)
#define GET_i32(o) (int32_t)scalar32(w, o)
#define GET_u64(o) scalar64(w, o)
#define GET_i64(o) (int64_t)scalar64(w, o)
#define PUT_u32(o, r) (w->s[(o)->reg] = (r))
#define PUT_i32(o, r) (w->s[(o)->reg] = (uint32_t)(r))
#define PUT_u64(o, r) (w->s64[(o)->reg / 2] = (r))
#define PUT_i64(o, r) (w->s64[(o)->reg / 2] = (uint64_t)(r))

#define S1(n, D, A, ...)                                                                                               \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const C_##A a = GET_##A(&i->s[0]);                                                                             \
        C_##D r;                                                                                                       \
        __VA_ARGS__;                                                                                                   \
        PUT_##D(&i->d, r);                                                                                             \
    }
#define S2(n, D, A, B, ...)                                                                                            \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const C_##A a = GET_##A(&i->s[0]);                                                                             \
        const C_##B b = GET_##B(&i->s[1]);                                                                             \
        C_##D r;                                                                                                       \
        __VA_ARGS__;                                                                                                   \
        PUT_##D(&i->d, r);                                                                                             \
    }
#define SA2(n, D, B, ...)                                                                                              \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const C_##D a = GET_##D(&i->d);                                                                                \
        const C_##B b = GET_##B(&i->s[0]);                                                                             \
        C_##D r;                                                                                                       \
        __VA_ARGS__;                                                                                                   \
        PUT_##D(&i->d, r);                                                                                             \
    }
#define SC(n, A, B, ...)                                                                                               \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const C_##A a = GET_##A(&i->s[0]);                                                                             \
        const C_##B b = GET_##B(&i->s[1]);                                                                             \
        SCC(__VA_ARGS__);                                                                                              \
    }
#define SK(n, T, ...)                                                                                                  \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const uint32_t a = scalar32(w, &i->d);                                                                         \
        const C_##T k = (C_##T)i->offset;                                                                              \
        uint32_t r;                                                                                                    \
        __VA_ARGS__;                                                                                                   \
        PUT_u32(&i->d, r);                                                                                             \
    }
#define SCK(n, T, ...)                                                                                                 \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        const C_##T a = GET_##T(&i->d), k = (C_##T)i->offset;                                                          \
        SCC(__VA_ARGS__);                                                                                              \
    }
#define BR(n, ...)                                                                                                     \
    Run run_##n;                                                                                                       \
    void run_##n(Wave *w, const Inst *i) {                                                                             \
        if (__VA_ARGS__) w->ip = i->target;                                                                            \
    }
#define SX(n, fn) Run run_sx_##fn;
#define SM(n, fn, ...) Run run_smem_##fn;
#include "skip.inc"
#include "isa.def"
#include "unrow.inc"

/* --- registers by index, hardware registers ------------------------------------------------------------------------ */

static uint32_t moved_reg(Wave *w, const Inst *i, uint32_t reg) {
    uint32_t r = reg + w->s[R_M0];
    if (r >= 106) wave_fault(w, i, -1, "s%u is not a register", r);
    return r;
}
void run_sx_movrels32(Wave *w, const Inst *i) { w->s[i->d.reg] = w->s[moved_reg(w, i, i->s[0].reg)]; }
void run_sx_movrels64(Wave *w, const Inst *i) { w->s64[i->d.reg / 2] = w->s64[moved_reg(w, i, i->s[0].reg) / 2]; }
void run_sx_movreld32(Wave *w, const Inst *i) { w->s[moved_reg(w, i, i->d.reg)] = scalar32(w, &i->s[0]); }
void run_sx_movreld64(Wave *w, const Inst *i) { w->s64[moved_reg(w, i, i->d.reg) / 2] = scalar64(w, &i->s[0]); }

enum { HW_MODE = 1, HW_STATUS = 2, HW_LDS_ALLOC = 6, HW_SH_MEM_BASES = 15 };

static uint32_t hw_value(const Wave *w, int id) {
    switch (id) {
    case HW_MODE: return w->mode;
    case HW_STATUS: return w->scc | (uint32_t)(EXEC == 0) << 9 | (uint32_t)(VCC == 0) << 10;
    case HW_LDS_ALLOC: return (w->g->lds_size + 511) / 512 << 12;
    case HW_SH_MEM_BASES: return (uint32_t)(PRIVATE_BASE >> 48) | (uint32_t)(SHARED_BASE >> 48) << 16;
    default: return 0; /* TRAPSTS, HW_ID, GPR_ALLOC, IB_STS: no traps, wave slot 0 */
    }
}

static uint32_t low_mask(uint32_t width) { return width >= 32 ? ~0u : (1u << width) - 1; }

void run_sx_getreg(Wave *w, const Inst *i) { w->s[i->d.reg] = hw_value(w, i->cbsz) >> i->abid & low_mask(i->blgp); }

void run_sx_setreg(Wave *w, const Inst *i) {
    if (i->cbsz != HW_MODE) wave_fault(w, i, -1, "only MODE can be written");
    uint32_t m = low_mask(i->blgp) << i->abid, v = scalar32(w, &i->s[0]) << i->abid & m;
    w->mode = (w->mode & ~m) | v;
    wave_modes(w);
}

static void gpr_idx(Wave *w, uint32_t mode) {
    w->gpr_idx = (uint8_t)(mode & 15);
    wave_modes(w);
}
void run_sx_gpr_idx_on(Wave *w, const Inst *i) {
    w->s[R_M0] = (w->s[R_M0] & 0xffff0f00) | (scalar32(w, &i->s[0]) & 255) | (uint32_t)i->offset << 12;
    gpr_idx(w, (uint32_t)i->offset);
}
void run_sx_gpr_idx_off(Wave *w, const Inst *i) { (void)i, gpr_idx(w, 0); }
void run_sx_gpr_idx_mode(Wave *w, const Inst *i) {
    w->s[R_M0] = (w->s[R_M0] & 0xffff0fff) | (uint32_t)i->offset << 12;
    gpr_idx(w, (uint32_t)i->offset);
}
void run_sx_gpr_idx_idx(Wave *w, const Inst *i) { w->s[R_M0] = (w->s[R_M0] & 0xffffff00) | (scalar32(w, &i->s[0]) & 255); }

/* --- program flow ---------------------------------------------------------------------------------------------------- */

static uint64_t address_of(const Wave *w, uint32_t pc) { return (uint64_t)(uintptr_t)w->g->job->m->image + pc; }

void wave_jump(Wave *w, const Inst *i, uint64_t address) {
    const EmuModule *m = w->g->job->m;
    uint64_t pc = address - (uint64_t)(uintptr_t)m->image;
    bool in = pc >= m->text_lo && pc < m->text_hi && pc % 4 == 0;
    if (!in || m->at_pc[(pc - m->text_lo) / 4] < 0) wave_fault(w, i, -1, "jumps to 0x%llx, which is not code", (unsigned long long)address);
    w->ip = &m->code[m->at_pc[(pc - m->text_lo) / 4]];
}

void run_sx_getpc(Wave *w, const Inst *i) { w->s64[i->d.reg / 2] = address_of(w, i->pc + i->size); }
void run_sx_setpc(Wave *w, const Inst *i) { wave_jump(w, i, scalar64(w, &i->s[0])); }
void run_sx_swappc(Wave *w, const Inst *i) {
    uint64_t to = scalar64(w, &i->s[0]);
    w->s64[i->d.reg / 2] = address_of(w, i->pc + i->size);
    wave_jump(w, i, to);
}
void run_sx_call(Wave *w, const Inst *i) {
    w->s64[i->d.reg / 2] = address_of(w, i->pc + i->size);
    w->ip = i->target;
}
void run_sx_barrier(Wave *w, const Inst *i) { (void)i, w->state = ST_BARRIER, w->budget = 1; }
void run_sx_endpgm(Wave *w, const Inst *i) { (void)i, w->state = ST_END, w->budget = 1; }
void run_sx_trap(Wave *w, const Inst *i) { wave_fault(w, i, -1, "the kernel stops itself (trap or assertion)"); }
/* The counters that have run down; s_waitcnt's text names those that it waits for. */
void run_sx_waitcnt(Wave *w, const Inst *i) {
    if (w->g->race && strstr(i->text, "vmcnt(0)")) race_wait(w);
}
void run_sx_invl1(Wave *w, const Inst *i) {
    (void)i;
    if (w->g->race) race_acquire(w);
}
void run_sx_hint(Wave *w, const Inst *i) { (void)w, (void)i; }
void run_bad(Wave *w, const Inst *i) { wave_fault(w, i, -1, "cannot be executed"); }

/* --- scalar memory --------------------------------------------------------------------------------------------------- */

static void load_words(Wave *w, const Inst *i, uint64_t addr) {
    uint32_t n = i->op->a;
    if (addr % 4) wave_fault(w, i, -1, "scalar load from 0x%llx, which is not a multiple of 4", (unsigned long long)addr);
    check_global(w, i, -1, addr, n * 4, false);
    memcpy(&w->s[i->d.reg], (const void *)(uintptr_t)addr, n * 4);
    w->bytes_read += n * 4;
}

void run_smem_load(Wave *w, const Inst *i) {
    uint64_t base = scalar64(w, &i->s[0]);
    load_words(w, i, base + (uint64_t)(int64_t)i->offset + (i->s[1].where == W_CONST ? (uint64_t)(int64_t)(int32_t)i->s[1].imm : scalar32(w, &i->s[1])));
}

/* s_buffer_load: out of the descriptor's range reads zeros. */
void run_smem_buffer(Wave *w, const Inst *i) {
    const uint32_t *srd = &w->s[i->s[0].reg];
    uint64_t base = (uint64_t)srd[0] | (uint64_t)(srd[1] & 0xffff) << 32, offset = scalar32(w, &i->s[1]) + (uint32_t)i->offset;
    uint64_t stride = srd[1] >> 16 & 0x3fff, size = stride ? stride * srd[2] : srd[2];
    if (offset + i->op->a * 4 <= size) load_words(w, i, base + offset);
    else memset(&w->s[i->d.reg], 0, i->op->a * 4u);
}

/* Time is the wave's own instruction count: runs repeat. */
void run_smem_time(Wave *w, const Inst *i) {
    uint64_t t = w->done;
    for (int k = 0; k < C_KINDS; k++) t += w->n[k];
    memcpy(&w->s[i->d.reg], &t, 8);
}
