/* isa.c - the table of instructions, made from isa.def: what the decoder and the executor need to know of each row. */
#include <stdlib.h>

#include "lanemath.h"

/* --- hand-written rows: declared here, defined in the file of their family ----------------------------------------- */

#define VX(n, fn) Run run_vx_##fn;
#define SX(n, fn) Run run_sx_##fn;
#define SM(n, fn, ...) Run run_smem_##fn;
#define DS2(n, fn, ...) Run run_ds_##fn;
#define DSX(n, fn) Run run_ds_##fn;
#define S1(n, ...) Run run_##n;
#define S2(n, ...) Run run_##n;
#define SA2(n, ...) Run run_##n;
#define SC(n, ...) Run run_##n;
#define SK(n, ...) Run run_##n;
#define SCK(n, ...) Run run_##n;
#define BR(n, ...) Run run_##n;
#include "skip.inc"
#include "isa.def"
#include "unrow.inc"
Run run_mem_load, run_mem_store, run_mem_atomic, run_ds_load, run_ds_store, run_ds_atomic;
Run run_buf_load, run_buf_store, run_buf_atomic, run_scratch_load, run_scratch_store;

/* --- atomics: a compare-and-swap loop on the memory word, whatever the type ----------------------------------------- */

#define ATOM_FN(n, T, W, ...)                                                                                          \
    static void atom_##n(void *mem, const void *data, const void *data_cmp, void *old) {                               \
        T m, v, cmp, r;                                                                                                \
        W now, next;                                                                                                   \
        memcpy(&v, data, sizeof v);                                                                                    \
        memcpy(&cmp, data_cmp, sizeof cmp);                                                                            \
        now = __atomic_load_n((W *)mem, __ATOMIC_RELAXED);                                                             \
        do {                                                                                                           \
            memcpy(&m, &now, sizeof m);                                                                                \
            r = (__VA_ARGS__);                                                                                         \
            memcpy(&next, &r, sizeof next);                                                                            \
        } while (!__atomic_compare_exchange_n((W *)mem, &now, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));           \
        (void)cmp, (void)v;                                                                                            \
        memcpy(old, &now, sizeof now);                                                                                 \
    }
#define W_u32 uint32_t
#define W_i32 uint32_t
#define W_f32 uint32_t
#define W_u64 uint64_t
#define W_i64 uint64_t
#define W_f64 uint64_t
#define C_u32 uint32_t
#define C_i32 int32_t
#define C_f32 float
#define C_u64 uint64_t
#define C_i64 int64_t
#define C_f64 double
#define ATOM(n, lds, T, sfx, ...) ATOM_FN(n, C_##T, W_##T, __VA_ARGS__)
#define ATOMV(n, T, ...) ATOM_FN(n, C_##T, W_##T, __VA_ARGS__)
#define ATOMG(n, T, ...) ATOM_FN(n, C_##T, W_##T, __VA_ARGS__)
#define ATOMF(n, T, ...) ATOM_FN(n, C_##T, W_##T, __VA_ARGS__)
#define ATOML(lds, T, sfx, ...) ATOM_FN(ds_##lds##_##sfx, C_##T, W_##T, __VA_ARGS__)
#define ATOMR(lds, T, sfx, ...) ATOM_FN(ds_##lds##_##sfx, C_##T, W_##T, __VA_ARGS__)
#include "skip.inc"
#include "isa.def"
#include "unrow.inc"

/* --- the lane functions' numbers ------------------------------------------------------------------------------------ */

#define V1(n, ...) LANE_##n,
#define V2(n, ...) LANE_##n,
#define V3(n, ...) LANE_##n,
#define VH2(n, ...) LANE_##n,
#define VH3(n, ...) LANE_##n,
#define VA2(n, ...) LANE_##n,
#define VMIX(n, ...) LANE_##n,
#define VCO(n, ...) LANE_##n,
#define VCI(n, ...) LANE_##n,
#define VM64(n, ...) LANE_##n,
#define VDS(n, ...) LANE_##n,
#define VDF(n, ...) LANE_##n,
#define VCMP(op, T, ...) LANE_v_cmp_##op##_##T,
#define VCLS(sfx, ...) LANE_v_cmp_class_##sfx,
#define P2(n, ...) LANE_##n,
#define P3(n, ...) LANE_##n,
#define PA2(n, ...) LANE_##n,
#define Q2(n, ...) LANE_##n,
#define Q3(n, ...) LANE_##n,
enum {
#include "skip.inc"
#include "isa.def"
};
#include "unrow.inc"

/* --- the table ------------------------------------------------------------------------------------------------------ */

#define VEC(n, fam, D, A, B, C, count_, fl)                                                                            \
    {.name = #n, .run = run_vector, .family = fam, .count = C_VALU, .dt = T_##D, .st = {T_##A, T_##B, T_##C},           \
     .nsrc = count_, .flags = fl, .lane = LANE_##n},
#define V1(n, D, A, ...) VEC(n, F_VECTOR, D, A, none, none, 1, 0)
#define V2(n, D, A, B, ...) VEC(n, F_VECTOR, D, A, B, none, 2, 0)
#define V3(n, D, A, B, C, ...) VEC(n, F_VECTOR, D, A, B, C, 3, 0)
#define VH2(n, D, A, B, ...) VEC(n, F_VECTOR, D, A, B, none, 2, OP_KEEP_HALF)
#define VH3(n, D, A, B, C, ...) VEC(n, F_VECTOR, D, A, B, C, 3, OP_KEEP_HALF)
#define VA2(n, D, A, B, ...) VEC(n, F_VECTOR, D, A, B, D, 3, OP_ACC)
#define VMIX(n, D, ...) VEC(n, F_VECTOR, D, mix, mix, mix, 3, OP_KEEP_HALF)
#define VCO(n, ...) VEC(n, F_VECTOR, u32, u32, u32, none, 2, OP_CARRY_OUT)
#define VCI(n, ...) VEC(n, F_VECTOR, u32, u32, u32, none, 2, OP_CARRY_OUT | OP_CARRY_IN)
#define VM64(n, A, C, ...) VEC(n, F_VECTOR, u64, A, A, C, 3, OP_CARRY_OUT)
#define VDS(n, T, ...) VEC(n, F_VECTOR, T, T, T, T, 3, OP_CARRY_OUT)
#define VDF(n, T, ...) VEC(n, F_VECTOR, T, T, T, T, 3, OP_VCC_IN)
#define P2(n, T, ...) VEC(n, F_PACKED, P_##T, P_##T, P_##T, none, 2, 0)
#define P3(n, T, ...) VEC(n, F_PACKED, P_##T, P_##T, P_##T, P_##T, 3, 0)
#define PA2(n, T, ...) VEC(n, F_PACKED, P_##T, P_##T, P_##T, P_##T, 3, OP_ACC)
#define Q2(n, ...) VEC(n, F_PACKED, q32, q32, q32, none, 2, 0)
#define Q3(n, ...) VEC(n, F_PACKED, q32, q32, q32, q32, 3, 0)
#define T_P_u16 T_p16u
#define T_P_i16 T_p16i
#define T_P_f16 T_p16f
#define CMP(n, of, A, B, fl)                                                                                           \
    {.name = #n, .run = run_compare, .family = F_COMPARE, .count = C_VALU, .dt = T_mask, .st = {T_##A, T_##B, T_none},  \
     .nsrc = 2, .flags = fl, .lane = LANE_##of},
#define VCMP(op, T, ...)                                                                                               \
    CMP(v_cmp_##op##_##T, v_cmp_##op##_##T, T, T, 0) CMP(v_cmpx_##op##_##T, v_cmp_##op##_##T, T, T, OP_EXEC)
#define VCLS(sfx, T, ...)                                                                                              \
    CMP(v_cmp_class_##sfx, v_cmp_class_##sfx, T, u32, 0) CMP(v_cmpx_class_##sfx, v_cmp_class_##sfx, T, u32, OP_EXEC)
#define VX(n, fn) {.name = #n, .run = run_vx_##fn, .family = F_VX, .count = C_VALU},
#define E_f32 T_f32
#define E_f16 T_f16
#define E_bf16 T_h16
#define E_i8 T_i32
#define E_f64 T_f64
#define MF(n, T, M, K, BLOCKS)                                                                                         \
    {.name = #n, .run = run_mfma, .family = F_MFMA, .count = C_MFMA, .dt = E_##T, .a = M, .b = K, .c = BLOCKS},

#define SCALAR(n, fam, D, A, B, count_, fl)                                                                            \
    {.name = #n, .run = run_##n, .family = fam, .count = C_SALU, .dt = T_##D, .st = {T_##A, T_##B, T_none},             \
     .nsrc = count_, .flags = fl},
#define S1(n, D, A, ...) SCALAR(n, F_SCALAR, D, A, none, 1, 0)
#define S2(n, D, A, B, ...) SCALAR(n, F_SCALAR, D, A, B, 2, 0)
#define SA2(n, D, B, ...) SCALAR(n, F_SCALAR, D, B, none, 1, OP_ACC)
#define SC(n, A, B, ...) SCALAR(n, F_SCALAR_COMPARE, none, A, B, 2, 0)
#define SK(n, T, ...) SCALAR(n, F_SOPK, u32, T, none, 1, 0)
#define SCK(n, T, ...) SCALAR(n, F_SOPK, u32, T, none, 1, 0)
#define BR(n, ...) {.name = #n, .run = run_##n, .family = F_BRANCH, .count = C_BRANCH},
#define SX(n, fn) {.name = #n, .run = run_sx_##fn, .family = F_SX, .count = C_SALU},
#define SM(n, fn, words) {.name = #n, .run = run_smem_##fn, .family = F_SMEM, .count = C_SMEM, .a = words},

#define MEM(n, fam, fn, K, bytes, land) {.name = #n, .run = fn, .family = fam, .count = K, .a = bytes, .b = land},
#define LD(n, bytes, land)                                                                                             \
    MEM(global_##n, F_GLOBAL, run_mem_load, C_VMEM, bytes, land) MEM(flat_##n, F_FLAT, run_mem_load, C_VMEM, bytes, land) \
    MEM(scratch_##n, F_SCRATCH, run_scratch_load, C_VMEM, bytes, land)                                                 \
    MEM(buffer_##n, F_BUFFER, run_buf_load, C_VMEM, bytes, land)
#define ST(n, bytes, land)                                                                                             \
    MEM(global_##n, F_GLOBAL, run_mem_store, C_VMEM, bytes, land) MEM(flat_##n, F_FLAT, run_mem_store, C_VMEM, bytes, land) \
    MEM(scratch_##n, F_SCRATCH, run_scratch_store, C_VMEM, bytes, land)                                                \
    MEM(buffer_##n, F_BUFFER, run_buf_store, C_VMEM, bytes, land)
#define DSL(n, bytes, land) MEM(n, F_DS, run_ds_load, C_LDS, bytes, land)
#define DSS(n, bytes, land) MEM(n, F_DS, run_ds_store, C_LDS, bytes, land)
#define DS2(n, fn, bytes, stride) MEM(n, F_DS, run_ds_##fn, C_LDS, bytes, stride)
#define DSX(n, fn) MEM(n, F_DS, run_ds_##fn, C_LDS, 4, 0)

#define ATOMIC(n, fam, fn, K, T, at, fl)                                                                               \
    {.name = #n, .run = fn, .family = fam, .count = K, .a = sizeof(C_##T), .atom = atom_##at, .flags = fl},
#define ATOMV(n, T, ...)                                                                                               \
    ATOMIC(global_atomic_##n, F_GLOBAL, run_mem_atomic, C_VMEM, T, n, 0)                                               \
    ATOMIC(flat_atomic_##n, F_FLAT, run_mem_atomic, C_VMEM, T, n, 0)                                                   \
    ATOMIC(buffer_atomic_##n, F_BUFFER, run_buf_atomic, C_VMEM, T, n, 0)
#define ATOM_DS(lds, T, sfx, at)                                                                                       \
    ATOMIC(ds_##lds##_##sfx, F_DS, run_ds_atomic, C_LDS, T, at, 0)                                                     \
    ATOMIC(ds_##lds##_rtn_##sfx, F_DS, run_ds_atomic, C_LDS, T, at, OP_RETURNS)
#define ATOM(n, lds, T, sfx, ...) ATOMV(n, T) ATOM_DS(lds, T, sfx, n)
#define ATOMF(n, T, ...) ATOMV(n, T)
#define ATOML(lds, T, sfx, ...) ATOM_DS(lds, T, sfx, ds_##lds##_##sfx)
#define ATOMR(lds, T, sfx, ...) ATOMIC(ds_##lds##_rtn_##sfx, F_DS, run_ds_atomic, C_LDS, T, ds_##lds##_##sfx, OP_RETURNS)
#define F_of_global_atomic_add_f32 F_GLOBAL, run_mem_atomic
#define F_of_global_atomic_pk_add_f16 F_GLOBAL, run_mem_atomic
#define F_of_buffer_atomic_add_f32 F_BUFFER, run_buf_atomic
#define F_of_buffer_atomic_pk_add_f16 F_BUFFER, run_buf_atomic
#define ATOMIC_OF(n, where, T) ATOMIC_2(n, where, T)
#define ATOMIC_2(n, fam, fn, T) ATOMIC(n, fam, fn, C_VMEM, T, n, 0)
#define ATOMG(n, T, ...) ATOMIC_OF(n, F_of_##n, T)

const Op isa[] = {
#include "skip.inc"
#include "isa.def"
};
const size_t isa_size = LEN(isa);

/* --- lookup: sorted once ---------------------------------------------------------------------------------------------- */

static const Op *sorted[LEN(isa)];
static pthread_once_t sort_once = PTHREAD_ONCE_INIT;

static int by_name(const void *a, const void *b) { return strcmp((*(const Op *const *)a)->name, (*(const Op *const *)b)->name); }

static void sort_table(void) {
    for (size_t i = 0; i < LEN(isa); i++) sorted[i] = &isa[i];
    qsort(sorted, LEN(isa), sizeof *sorted, by_name);
}

const Op *isa_find(const char *mnemonic) {
    pthread_once(&sort_once, sort_table);
    const Op key = {.name = mnemonic}, *k = &key;
    const Op **hit = bsearch(&k, sorted, LEN(isa), sizeof *sorted, by_name);
    return hit ? *hit : NULL;
}

size_t emu_mnemonic_count(void) { return LEN(isa); }
const char *emu_mnemonic_at(size_t i) { return i < LEN(isa) ? isa[i].name : NULL; }

Lane *const *lanes_best(void) {
#if defined __x86_64__ && defined __GNUC__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma"))
        return lanes_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return lanes_avx2;
#endif
    return lanes_base;
}

/* Those that BEST (wave.h) compiles. */
#define RUNS(X) \
    X(vector) X(compare) X(vx_cndmask) X(vx_pk_mov) X(vx_mbcnt_lo) X(vx_mbcnt_hi) X(ds_bpermute) X(ds_load) X(ds_store) X(ds_read2) X(ds_write2) \
    X(mem_load) X(mem_store)

Run *run_best(Run *run) {
#if defined __x86_64__ && defined __GNUC__
#define X(name) extern Run run_##name##_avx2, run_##name##_avx512;
    RUNS(X)
#undef X
#define X(name) {run_##name, run_##name##_avx2, run_##name##_avx512},
    static Run *const all[][3] = {RUNS(X)};
#undef X
    int best = lanes_best() == lanes_avx512 ? 2 : lanes_best() == lanes_avx2;
    for (size_t k = 0; k < LEN(all); k++)
        if (all[k][0] == run) return all[k][best];
#endif
    return run;
}
