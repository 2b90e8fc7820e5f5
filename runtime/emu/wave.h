/* wave.h - the emulator's own structures: decoded instructions, waves, workgroups, regions. Only runtime/emu includes it. */
#ifndef GPTOSS_EMU_WAVE_H
#define GPTOSS_EMU_WAVE_H

#include <pthread.h>
#include <setjmp.h>

#include "comgr.h"

enum { LANES = 64 };
#define INLINED static inline __attribute__((always_inline))
#define EACH_LANE for (int l = 0; l < LANES; l++)

/* --- types of operands ------------------------------------------------------------------------------------------- */

typedef enum Type {
    T_none, T_u32, T_i32, T_f32, T_u64, T_i64, T_f64, T_u16, T_i16, T_f16,
    T_h16, /* 16 bits taken as they are, but negated and flushed as f16 */
    T_c32, T_c64, /* the same for v_cmp_class */
    T_p16u, T_p16i, T_p16f, /* two halves */
    T_q32,   /* two f32 */
    T_mix,   /* f32 or a half of a register, as op_sel_hi and op_sel say (v_fma_mix) */
    T_mask,  /* 64 lanes' bits in an SGPR pair */
} Type;

/* What a type's floats are: the MODE bits that rule them, and how a sign is flipped. */
enum { FK_NONE, FK_F32 = 1, FK_F64 = 2, FK_INDEX = 4 /* gpr_idx mode is on */ };

/* --- decoded instructions ---------------------------------------------------------------------------------------- */

typedef struct Wave Wave;
typedef struct Inst Inst;
typedef struct Group Group;
typedef struct Job Job;
typedef struct Race Race;
typedef struct Crew Crew;
typedef void Run(Wave *w, const Inst *i);

/* One vector operation over 64 lanes; 64-bit operands are two rows (low, high). */
typedef struct Lanes Lanes;
struct Lanes {
    uint32_t *d;
    const uint32_t *s[3];
    uint64_t in, out; /* carry-in or vcc; carry-out or the compare's result */
    bool sat, ieee;
};
typedef void Lane(Lanes *x);

typedef enum Where { W_NONE, W_VGPR, W_SGPR, W_CONST, W_SPECIAL, W_OFF } Where;
enum { SPECIAL_SCC, SPECIAL_VCCZ, SPECIAL_EXECZ };
enum { SEL_BYTE0, SEL_BYTE1, SEL_BYTE2, SEL_BYTE3, SEL_WORD0, SEL_WORD1, SEL_DWORD };

typedef struct Operand Operand;
struct Operand {
    uint8_t where, type, dwords;
    uint8_t neg, abs, sext, sel;
    uint16_t reg;         /* VGPR 0-255, AGPR 256-511; SGPR as the hardware numbers them (vcc 106, m0 124, exec 126) */
    uint64_t imm;         /* of a constant */
    const uint32_t *rows; /* the constant in every lane */
};

enum { R_SGPRS = 128, R_FLAT_SCRATCH = 102, R_VCC = 106, R_M0 = 124, R_EXEC = 126, R_AGPR = 256, R_VGPRS = 512 };

typedef enum Count { C_SALU, C_VALU, C_MFMA, C_SMEM, C_VMEM, C_LDS, C_BRANCH, C_BARRIER, C_KINDS } Count;

typedef enum Family {
    F_VECTOR, F_COMPARE, F_PACKED, F_VX, F_MFMA, F_SCALAR, F_SCALAR_COMPARE, F_SOPK, F_BRANCH, F_SX, F_SMEM,
    F_GLOBAL, F_FLAT, F_SCRATCH, F_BUFFER, F_DS,
} Family;

/* One row of isa.def. */
typedef struct Op Op;
struct Op {
    const char *name;
    Run *run;
    uint8_t family, count;
    uint8_t dt, st[3], nsrc;
    uint8_t flags;
    uint16_t lane;                /* index into the lane tables */
    uint8_t a, b, c;              /* numbers of the row: bytes, M, K, blocks … */
    void (*atom)(void *, const void *, const void *, void *);
};
enum {
    OP_ACC = 1,       /* the destination is the last source */
    OP_KEEP_HALF = 2, /* the half not written keeps its value */
    OP_CARRY_OUT = 4, /* writes a mask: second operand in the text */
    OP_CARRY_IN = 8,  /* reads a mask: last operand in the text */
    OP_VCC_IN = 16,   /* reads vcc, unsaid */
    OP_EXEC = 32,     /* v_cmpx */
    OP_CLAMP_INT = 64,
    OP_RETURNS = 128, /* an LDS atomic that returns */
};

typedef struct Dpp Dpp;
struct Dpp {
    int8_t from[LANES]; /* -1: outside, invalid */
    uint64_t rows;      /* lanes that row_mask and bank_mask let through */
    bool zero;          /* bound_ctrl */
};

struct Inst {
    Run *run;
    const Op *op;
    Lane *lane;
    uint8_t count, nsrc, floats /* FK_ bits */, plain /* no modifier: the fast path */;
    uint8_t clamp, omod, glc;
    uint8_t op_sel, op_sel_hi, neg_lo, neg_hi; /* one bit per source; op_sel bit 3: destination */
    uint8_t sdwa, dst_sel, dst_unused;
    uint8_t cbsz, abid, blgp, lds;
    uint8_t offen, idxen, gds, fused;
    Operand d, s[4], mask /* carry in or out */;
    int32_t offset, offset1;
    uint32_t pc, size; /* from the start of the image */
    uint32_t index;    /* in the module */
    const Inst *target;
    const Dpp *dpp;
    const char *text;
};

/* --- memory ------------------------------------------------------------------------------------------------------ */

typedef struct Region Region;
struct Region {
    uint64_t lo, hi;
    uint8_t *bits; /* one per byte: written; NULL: all of it is */
    bool borrowed; /* bits are another EmuMem's region's */
    bool readonly;
    char name[64];
};

/* A sorted copy of all regions that a launch may touch: the device's, the module's image, kernel arguments. */
typedef struct Regions Regions;
struct Regions {
    Region *at;
    size_t n;
};

struct EmuMem {
    pthread_rwlock_t lock; /* read: launches; write: adding and removing */
    Region *at;            /* sorted by lo */
    size_t n, cap;
    Crew *crew;
};

const Region *region_find(const Regions *r, uint64_t addr);
const Region *region_before(const Regions *r, uint64_t addr); /* for messages: the nearest one below, or NULL */
bool bits_all(const uint8_t *bits, uint64_t at, uint64_t n);  /* are bits [at, at + n) all set? */
uint64_t bits_clear_at(const uint8_t *bits, uint64_t at, uint64_t n); /* the first that is not, relative to at */
void bits_set(uint8_t *bits, uint64_t at, uint64_t n);        /* safe against other threads */

/* --- waves and workgroups ---------------------------------------------------------------------------------------- */

typedef enum State { ST_RUN, ST_BARRIER, ST_END } State;

struct Wave {
    const Inst *ip;
    union {
        uint32_t s[R_SGPRS];
        uint64_t s64[R_SGPRS / 2];
    } __attribute__((aligned(64)));
    uint32_t *v; /* [512][64] */
    uint32_t scc, mode;
    uint8_t special; /* FK_ bits whose operations need the slow path */
    uint8_t gpr_idx;
    State state;
    uint64_t budget; /* instructions left in this turn; a switch sets it to 0 */
    uint64_t done;
    uint64_t n[C_KINDS], bytes_read, bytes_written, lds_bytes;
    const Region **hit; /* per instruction of the module: the region it found last; owned by the thread */
    Group *g;
    uint32_t id;
};
#define EXEC (w->s64[R_EXEC / 2])
#define VCC (w->s64[R_VCC / 2])
#define SCC(x) (w->scc = (x) ? 1 : 0)
#define V(w, r) ((w)->v + (size_t)(r) * LANES)

struct Group {
    Job *job;
    uint32_t id[3];
    Wave *waves;
    size_t n_waves;
    uint8_t *lds, *lds_bits; /* lds_size bytes, and one bit for each */
    uint32_t lds_size;
    uint8_t *scratch; /* n_waves * 64 lanes * scratch_size, each lane's bytes together */
    uint32_t scratch_size;
    uint64_t limit, done; /* instructions of all its waves */
    Race *race;           /* NULL: not watched (race.h) */
    uint64_t *executed;   /* of each instruction, by this thread; NULL: not asked for */
    jmp_buf fault;
    char msg[1024];
};

/* Segment bases. Flat addresses' upper 16 bits choose LDS or scratch, as the Linux driver sets them up; host pointers
 * have none. The scratch buffer descriptor and flat_scratch hold SCRATCH_BASE + the wave's offset. */
#define SHARED_BASE 0x0001000000000000ull
#define PRIVATE_BASE 0x0002000000000000ull
#define SCRATCH_BASE 0x0000500000000000ull

typedef struct Kernel Kernel;
struct Kernel {
    EmuKernel pub;
    uint32_t rsrc1, rsrc2, rsrc3, props; /* of the descriptor */
    uint64_t entry;
    ComgrArg *hidden;
    size_t n_hidden;
};

typedef struct SourceLine SourceLine; /* file: of EmuModule.files, from 1; 0: not known */
struct SourceLine {
    uint32_t file, line;
};

struct EmuModule {
    Arena *arena;
    uint8_t *image; /* the loaded segments at their addresses, page-aligned */
    size_t image_size;
    Kernel *kernels;
    size_t n_kernels;
    Inst *code;
    size_t n_code;
    uint32_t text_lo, text_hi; /* of the code, in the image */
    int32_t *at_pc;            /* (pc - text_lo) / 4 -> index into code, -1: inside one */
    SourceLine *lines;           /* of each instruction; NULL: not known */
    const char **files;
    uint32_t n_files;
};

struct Job {
    EmuModule *m;
    const Kernel *k;
    const EmuLaunch *launch;
    Regions regions;
    uint8_t *kernarg, *packet;
    uint64_t n_groups;
    uint32_t n_waves, lds_size;
    /* shared between threads */
    pthread_mutex_t lock;
    uint64_t next, failed_at; /* the lowest failed position: results do not depend on the thread count */
    EmuCounts *counts;
    char msg[1024], doubt[1024]; /* doubt: the first; one thread's only */
    Err races;                   /* msg "": none */
};

/* launch.c: runs a workgroup; its place in the order of the launch, and its number in the grid. */
void group_run(Group *g, uint64_t position, uint64_t linear);
static inline size_t group_scratch(const Group *g) { return g->n_waves * LANES * g->scratch_size; }

/* crew.c: runs all of a launch's; false: no memory. */
Crew *crew_new(void); /* NULL: out of memory */
bool crew_run(Crew *c, Job *job, Err *e);
void crew_free(Crew *c); /* NULL is fine */

/* lines.c: "linear.hip:30"; where that is not known "pc 0x1f4". */
typedef struct Place Place;
struct Place {
    char at[240];
};
const char *inst_place(const EmuModule *m, const Inst *i, Place *to);

NORETURN void wave_fault(Wave *w, const Inst *i, int lane, const char *fmt, ...) PRINTF(4, 5);
/* A fault after which the wave could go on. It does where races are watched, for they may be its reason; else it does not return. */
void wave_doubt(Wave *w, const Inst *i, int lane, const char *fmt, ...) PRINTF(4, 5);
void wave_jump(Wave *w, const Inst *i, uint64_t address); /* to an address in the image */
void wave_modes(Wave *w);                                 /* MODE or gpr_idx changed */

/* --- operands ---------------------------------------------------------------------------------------------------- */

uint32_t special_value(const Wave *w, const Operand *o);

static inline uint32_t scalar32(const Wave *w, const Operand *o) {
    if (o->where == W_SGPR) return w->s[o->reg];
    if (o->where == W_CONST) return (uint32_t)o->imm;
    return special_value(w, o);
}

static inline uint64_t scalar64(const Wave *w, const Operand *o) {
    if (o->where == W_SGPR) return w->s64[o->reg / 2];
    if (o->where == W_CONST) return o->imm;
    return special_value(w, o);
}

/* The rows of a source; tmp holds a broadcast scalar. */
INLINED const uint32_t *source_rows(const Wave *w, const Operand *o, uint32_t *tmp) {
    if (o->where == W_VGPR) return V(w, o->reg);
    if (o->where == W_CONST) return o->rows;
    uint32_t a = scalar32(w, o);
    EACH_LANE tmp[l] = a;
    if (o->dwords < 2) return tmp;
    uint32_t b = o->where == W_SGPR ? w->s[o->reg + 1] : 0;
    EACH_LANE tmp[LANES + l] = b;
    return tmp;
}

/* d[l] = t[l] where mask has bit l; in halves, for 32 bits of it are as wide as a lane. Rows are the same or do not overlap. */
INLINED void merge(uint32_t *d, const uint32_t *t, uint64_t mask) {
    for (int h = 0; h < LANES; h += 32) {
        uint32_t half = (uint32_t)(mask >> h);
        _Pragma("GCC ivdep")
        for (int l = h; l < h + 32; l++) {
            uint32_t now = d[l], then = t[l]; /* both are read: so it is one blend */
            d[l] = half >> (l - h) & 1 ? then : now;
        }
    }
}

/* --- the tables -------------------------------------------------------------------------------------------------- */

extern const Op isa[];
extern const size_t isa_size;
extern const char *const isa_names[]; /* full mnemonics: what emu_mnemonic_at lists */
const Op *isa_find(const char *mnemonic);
Lane *const *lanes_best(void); /* for this CPU */
Run *run_best(Run *run);       /* the same, compiled for this CPU where that helps */
extern Lane *const lanes_base[], *const lanes_avx2[], *const lanes_avx512[];

Run run_vector, run_compare, run_mfma, run_bad;

/* BEST(run_x, x): run_x is the inline function x, run_x_avx2 and run_x_avx512 the same compiled for these; run_best chooses. */
#if defined __x86_64__ && defined __GNUC__
#define BEST(run, body) \
    void run(Wave *w, const Inst *i) { body(w, i); } \
    __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))) void run##_avx2(Wave *w, const Inst *i) { body(w, i); } \
    __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,bmi,bmi2,lzcnt,popcnt"))) \
    void run##_avx512(Wave *w, const Inst *i) { body(w, i); }
#else
#define BEST(run, body) \
    void run(Wave *w, const Inst *i) { body(w, i); }
#endif
typedef enum Land { ZERO, SIGN, ZERO_LO, ZERO_HI, SIGN_LO, SIGN_HI, WORDS, LOW, HIGH } Land;

#endif
