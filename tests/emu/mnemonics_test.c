/* mnemonics_test.c - at least one test of every instruction that the emulator implements; fails when one has none.
 *
 * Each case is a few lines of assembly in one big kernel, assembled by comgr. Before a case: 64-bit inputs A, B, C are in
 * s[8:9] s[10:11] s[12:13] and, in every lane, v[2:3] v[4:5] v[6:7]; SCC and vcc (all lanes) are as the case asks; v12 to
 * v15 hold 0x11111111, s16 and s17 0x22222222; s[18:19] and v[10:11] hold the address of the case's 256 bytes of memory:
 * 1, 2 … 64 (but 0xf1 0xf2 at 40), then zeros; v50 holds the lane, v60 zero. After it v12, v13, s16, s17, SCC, EXEC are
 * kept. Expected values are written by hand, or made here by formulas that do not share code with the emulator.
 *   V, VD(text, A, B, C, v12 or v[12:13])        VM(…, v12, all lanes' bit in s[16:17])   M(…, that bit)
 *   X, XD(text, A, B, C, SCC, vcc, v12 …)        S, SD(text, A, B, C, SCC, s16 or s[16:17], SCC after or -1)
 *   E_(…, EXEC all or none and s[16:17] the same)  EX(text, A, s[16:17], EXEC, SCC)   L(text, A, B, C, v12 of lane l) */
#include <amd_comgr.h>
#include <math.h>

#include "runtime/emu/emu.h"
#include "rtc.h"

enum { DONT_CARE = 0, CHECK_V = 1, CHECK_VHI = 2, CHECK_S = 4, CHECK_SHI = 8, CHECK_SCC = 16, CHECK_EXEC = 32, CHECK_LANES = 64 };
enum { SLOT_DWORDS = 7 * 64, DATA_BYTES = 256 };

typedef struct Case Case;
struct Case {
    char *text;
    uint64_t in[3], v, s, exec;
    uint32_t scc_in, vcc_in, scc, check;
    uint32_t lanes[64];
};
static struct { Case *at; size_t n, cap; } cases;
static Arena *arena;
static int failed;

static Case *add(const char *text, uint64_t a, uint64_t b, uint64_t c) {
    Case k = {.text = arena_strdup(arena, text), .in = {a, b, c}};
    PUSH(arena, cases, k);
    return &cases.at[cases.n - 1];
}

static uint64_t F(float f) { return bits_of_f32(f); }
static uint64_t D(double d) {
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}
static uint32_t H(double d) { /* values that an f16 holds exactly */
    if (d == 0) return 0;
    int e;
    double m = frexp(fabs(d), &e);
    return (d < 0 ? 0x8000u : 0) | (uint32_t)(e + 14) << 10 | ((uint32_t)(m * 2048) & 1023);
}
static uint32_t P(uint32_t hi, uint32_t lo) { return hi << 16 | (lo & 0xffff); }
static uint64_t Q(uint64_t lo, uint64_t hi) { return lo | hi << 32; }

static void V(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t v) { Case *k = add(t, a, b, c); k->v = v, k->check = CHECK_V; }
static void VD(const char *t, uint64_t a, uint64_t b, uint64_t c, uint64_t v) { Case *k = add(t, a, b, c); k->v = v, k->check = CHECK_V | CHECK_VHI; }
static void VM(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t v, int bit) {
    Case *k = add(t, a, b, c);
    k->v = v, k->s = bit ? ~0ull : 0, k->check = CHECK_V | CHECK_S | CHECK_SHI;
}
static void M(const char *t, uint64_t a, uint64_t b, uint64_t c, int bit) {
    Case *k = add(t, a, b, c);
    k->s = bit ? ~0ull : 0, k->exec = ~0ull, k->check = CHECK_S | CHECK_SHI | CHECK_EXEC;
}
static void E_(const char *t, uint64_t a, uint64_t b, uint64_t c, int bit) {
    Case *k = add(t, a, b, c);
    k->s = k->exec = bit ? ~0ull : 0, k->check = CHECK_S | CHECK_SHI | CHECK_EXEC;
}
static void X(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t scc, uint32_t vcc, uint32_t v) {
    Case *k = add(t, a, b, c);
    k->scc_in = scc, k->vcc_in = vcc, k->v = v, k->check = CHECK_V;
}
static void XD(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t scc, uint32_t vcc, uint64_t v) {
    X(t, a, b, c, scc, vcc, 0);
    cases.at[cases.n - 1].v = v, cases.at[cases.n - 1].check |= CHECK_VHI;
}
static void S(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t scc_in, uint32_t s, int scc) {
    Case *k = add(t, a, b, c);
    k->scc_in = scc_in, k->s = s, k->scc = (uint32_t)scc, k->check = CHECK_S | (scc >= 0 ? CHECK_SCC : 0);
}
static void SD(const char *t, uint64_t a, uint64_t b, uint64_t c, uint32_t scc_in, uint64_t s, int scc) {
    S(t, a, b, c, scc_in, 0, scc);
    cases.at[cases.n - 1].s = s, cases.at[cases.n - 1].check |= CHECK_SHI;
}
static void EX(const char *t, uint64_t a, uint64_t s, uint64_t exec, int scc) {
    SD(t, a, 0, 0, 0, s, scc);
    cases.at[cases.n - 1].exec = exec, cases.at[cases.n - 1].check |= CHECK_EXEC;
}
#define L(t, a, b, c, ...)                                                                                             \
    do {                                                                                                               \
        Case *k = add(t, a, b, c);                                                                                     \
        for (int l = 0; l < 64; l++) k->lanes[l] = (uint32_t)(__VA_ARGS__);                                            \
        k->check = CHECK_LANES;                                                                                        \
    } while (0)

static void written_cases(void) {
#include "cases.inc"
}

/* --- compares: truth tables over less, equal, greater, unordered ----------------------------------------------------- */

static const struct { const char *op, *truth; } float_ops[] = {
    {"f", "0000"}, {"lt", "1000"}, {"eq", "0100"}, {"le", "1100"}, {"gt", "0010"}, {"lg", "1010"}, {"ge", "0110"}, {"o", "1110"},
    {"u", "0001"}, {"nge", "1001"}, {"nlg", "0101"}, {"ngt", "1101"}, {"nle", "0011"}, {"neq", "1011"}, {"nlt", "0111"}, {"tru", "1111"}};
static const struct { const char *op, *truth; } int_ops[] = {
    {"f", "000"}, {"lt", "100"}, {"eq", "010"}, {"le", "110"}, {"gt", "001"}, {"ne", "101"}, {"ge", "011"}, {"t", "111"}};

static void compare_case(const char *op, const char *type, const char *truth, const uint64_t (*pairs)[2]) {
    const char *regs = strstr(type, "64") ? "v[2:3], v[4:5]" : "v2, v4";
    for (int n = 0; truth[n]; n++) {
        M(arena_printf(arena, "v_cmp_%s_%s_e64 s[16:17], %s", op, type, regs), pairs[n][0], pairs[n][1], 0, truth[n] == '1');
        E_(arena_printf(arena, "v_cmpx_%s_%s_e64 s[16:17], %s", op, type, regs), pairs[n][0], pairs[n][1], 0, truth[n] == '1');
    }
}

static void compare_cases(void) {
    const uint64_t f16s[][2] = {{H(-3), H(2)}, {H(2), H(2)}, {H(2), H(-3)}, {0x7e00, H(1)}};
    const uint64_t f32s[][2] = {{F(-3), F(2)}, {0, 0x80000000}, {F(2), F(-3)}, {F(1), 0x7fc00000}};
    const uint64_t f64s[][2] = {{D(-3), D(2)}, {0, 1ull << 63}, {D(2), D(-3)}, {0x7ff8000000000000ull, D(1)}};
    const uint64_t i16s[][2] = {{0xfffd, 2}, {7, 7}, {2, 0xfffd}}, u16s[][2] = {{2, 0xfffd}, {7, 0x10007}, {0xfffd, 2}};
    const uint64_t i32s[][2] = {{0xfffffffd, 2}, {7, 7}, {2, 0xfffffffd}}, u32s[][2] = {{2, 0xfffffffd}, {7, 7}, {0xfffffffd, 2}};
    const uint64_t i64s[][2] = {{~0ull, 2}, {7, 7}, {1ull << 40, 2}}, u64s[][2] = {{2, ~0ull}, {7, 7}, {1ull << 40, 2}};
    for (size_t k = 0; k < LEN(float_ops); k++) {
        compare_case(float_ops[k].op, "f16", float_ops[k].truth, f16s);
        compare_case(float_ops[k].op, "f32", float_ops[k].truth, f32s);
        compare_case(float_ops[k].op, "f64", float_ops[k].truth, f64s);
    }
    for (size_t k = 0; k < LEN(int_ops); k++) {
        compare_case(int_ops[k].op, "i16", int_ops[k].truth, i16s), compare_case(int_ops[k].op, "u16", int_ops[k].truth, u16s);
        compare_case(int_ops[k].op, "i32", int_ops[k].truth, i32s), compare_case(int_ops[k].op, "u32", int_ops[k].truth, u32s);
        compare_case(int_ops[k].op, "i64", int_ops[k].truth, i64s), compare_case(int_ops[k].op, "u64", int_ops[k].truth, u64s);
    }
}

static void scalar_compare_cases(void) {
    static const struct { const char *op, *truth; } ops[] = {{"eq", "010"}, {"lg", "101"}, {"gt", "001"}, {"ge", "011"}, {"lt", "100"}, {"le", "110"}};
    const uint64_t i[][2] = {{0xfffffffd, 2}, {7, 7}, {2, 0xfffffffd}}, u[][2] = {{2, 0xfffd}, {7, 7}, {0xfffd, 2}};
    const uint64_t q[][2] = {{1, 1ull << 40}, {5ull << 40, 5ull << 40}, {1ull << 40, 0}};
    for (size_t k = 0; k < LEN(ops); k++)
        for (int n = 0; n < 3; n++) {
            int scc = ops[k].truth[n] == '1';
            S(arena_printf(arena, "s_cmp_%s_i32 s8, s10", ops[k].op), i[n][0], i[n][1], 0, (uint32_t)!scc, 0x22222222, scc);
            S(arena_printf(arena, "s_cmp_%s_u32 s8, s10", ops[k].op), u[n][0], u[n][1], 0, (uint32_t)!scc, 0x22222222, scc);
            S(arena_printf(arena, "s_cmpk_%s_i32 s8, 0x%x", ops[k].op, (unsigned)i[n][1] & 0xffff), i[n][0], 0, 0, (uint32_t)!scc, 0x22222222, scc);
            S(arena_printf(arena, "s_cmpk_%s_u32 s8, 0x%x", ops[k].op, (unsigned)u[n][1]), u[n][0], 0, 0, (uint32_t)!scc, 0x22222222, scc);
            if (k < 2) S(arena_printf(arena, "s_cmp_%s_u64 s[8:9], s[10:11]", ops[k].op), q[n][0], q[n][1], 0, (uint32_t)!scc, 0x22222222, scc);
        }
}

/* --- memory ------------------------------------------------------------------------------------------------------------ */

/* The operands of an access in each family: register, offset and whether the register comes first. */
static const char *access_text(const char *family, const char *suffix, const char *reg, int offset, bool store) {
    if (!strcmp(family, "buffer")) return arena_printf(arena, SRD "buffer_%s %s, off, s[36:39], 0 offset:%d", suffix, reg, offset);
    const char *tail = !strcmp(family, "flat") ? "" : !strcmp(family, "scratch") ? ", s33" : ", off";
    const char *addr = !strcmp(family, "scratch") ? "off" : "v[10:11]";
    if (store) return arena_printf(arena, "%s_%s %s, %s%s offset:%d", family, suffix, addr, reg, tail, offset);
    return arena_printf(arena, "%s_%s %s, %s%s offset:%d", family, suffix, reg, addr, tail, offset);
}

static const char *const families[] = {"global", "flat", "scratch", "buffer"};

static void load_cases(void) {
    static const struct { const char *suffix, *reg; int offset; uint32_t v; const char *after; } loads[] = {
        {"load_ubyte", "v12", 40, 0xf1, ""}, {"load_sbyte", "v12", 40, 0xfffffff1, ""}, {"load_ushort", "v12", 40, 0xf2f1, ""},
        {"load_sshort", "v12", 40, 0xfffff2f1, ""}, {"load_ubyte_d16", "v12", 40, 0x111100f1, ""},
        {"load_ubyte_d16_hi", "v12", 40, 0x00f11111, ""}, {"load_sbyte_d16", "v12", 40, 0x1111fff1, ""},
        {"load_sbyte_d16_hi", "v12", 40, 0xfff11111, ""}, {"load_short_d16", "v12", 40, 0x1111f2f1, ""},
        {"load_short_d16_hi", "v12", 40, 0xf2f11111, ""}, {"load_dword", "v12", 4, 0x08070605, ""},
        {"load_dword", "v12", 7, 0x0b0a0908, ""}, {"load_dwordx2", "v[12:13]", 4, 0x0c0b0a09, "\n.v_mov_b32 v12, v13"},
        {"load_dwordx3", "v[12:14]", 4, 0x100f0e0d, "\n.v_mov_b32 v12, v14"}, {"load_dwordx4", "v[12:15]", 4, 0x14131211, "\n.v_mov_b32 v12, v15"}};
    for (size_t f = 0; f < LEN(families); f++)
        for (size_t k = 0; k < LEN(loads); k++)
            V(arena_printf(arena, "%s%s", access_text(families[f], loads[k].suffix, loads[k].reg, loads[k].offset, false), loads[k].after), 0, 0, 0, loads[k].v);
    V(".v_mov_b32 v61, 8\nglobal_load_dword v12, v61, s[18:19] offset:-4", 0, 0, 0, 0x08070605);
    L(".v_lshlrev_b32 v61, 1, v50\n.v_and_b32 v61, 30, v61\nglobal_load_ushort v12, v61, s[18:19]", 0, 0, 0, (unsigned)(l % 16 * 2 + 1) | (unsigned)(l % 16 * 2 + 2) << 8);
    V(".v_mov_b32 v61, 4\nbuffer_load_dword v12, v61, s[36:39], s8 offen offset:4", 4, 0, 0, 0x100f0e0d);
    cases.at[cases.n - 1].text = arena_printf(arena, SRD "%s", cases.at[cases.n - 1].text);
    V(SRD "buffer_load_dword v12, off, s[36:39], 0 offset:64", 0, 0, 0, 0); /* out of the descriptor's range: zero */
}

static void store_cases(void) {
    static const struct { const char *suffix, *reg; int back; uint32_t v; } stores[] = {
        {"store_byte", "v2", 0, 0xdd}, {"store_byte_d16_hi", "v2", 0, 0xbb}, {"store_short", "v2", 0, 0xccdd},
        {"store_short_d16_hi", "v2", 0, 0xaabb}, {"store_dword", "v2", 0, 0xaabbccdd}, {"store_dwordx2", "v[2:3]", 4, 2},
        {"store_dwordx3", "v[2:4]", 8, 3}, {"store_dwordx4", "v[2:5]", 12, 4}};
    for (size_t f = 0; f < LEN(families); f++)
        for (size_t k = 0; k < LEN(stores); k++) {
            bool scratch = !strcmp(families[f], "scratch"), buffer = !strcmp(families[f], "buffer");
            int at = buffer ? 48 : 128;
            const char *zero = arena_printf(arena, ".%s", access_text(scratch ? "scratch" : "global", "store_dwordx4", "v[52:55]", at, true));
            const char *store = access_text(families[f], stores[k].suffix, stores[k].reg, at, true);
            const char *back = access_text(scratch ? "scratch" : "global", "load_dword", "v12", at + stores[k].back, false);
            V(arena_printf(arena, ".v_mov_b32 v52, 0\n.v_mov_b32 v53, 0\n.v_mov_b32 v54, 0\n.v_mov_b32 v55, 0\n%s\n%s\n.%s", zero, store, back), Q(0xaabbccdd, 2), Q(3, 4), 0, stores[k].v);
        }
}

/* m: memory before, v: data, now: memory after; 64-bit ones too. The text's set-up puts m where the access goes. */
static const struct Atom { const char *op, *lds; uint64_t m, v, now, m2, v2, now2; } atoms[] = {
    {"swap", "wrxchg_rtn_b", 10, 3, 3, 10, 3ull << 40, 3ull << 40},
    {"add", "add_u", 10, 3, 13, 0xffffffff, 1, 1ull << 32},
    {"sub", "sub_u", 10, 3, 7, 1ull << 32, 1, 0xffffffff},
    {"smin", "min_i", 10, 0xffffffff, 0xffffffff, 10, ~0ull, ~0ull},
    {"umin", "min_u", 10, 0xffffffff, 10, 10, ~0ull, 10},
    {"smax", "max_i", 10, 0xffffffff, 10, 10, ~0ull, 10},
    {"umax", "max_u", 10, 0xffffffff, 0xffffffff, 10, ~0ull, ~0ull},
    {"and", "and_b", 12, 10, 8, 12ull << 40, 10ull << 40, 8ull << 40},
    {"or", "or_b", 12, 10, 14, 12ull << 40, 10ull << 40, 14ull << 40},
    {"xor", "xor_b", 12, 10, 6, 12ull << 40, 10ull << 40, 6ull << 40},
    {"inc", "inc_u", 10, 10, 0, 0xffffffff, ~0ull, 1ull << 32},
    {"dec", "dec_u", 0, 10, 10, 1ull << 32, ~0ull, 0xffffffff},
    {"cmpswap", "cmpst_b", 10, 3, 3, 10, 3ull << 40, 3ull << 40}, /* compared with 10 */
};

/* op: the mnemonic; reg: its data. Global, flat or buffer; old value to v12 and new to v13, or new to v[12:13]. */
static void atom_case(const char *family, const char *op, const char *data, bool wide, uint64_t m, uint64_t a, uint64_t b, uint64_t now) {
    bool buffer = !strcmp(family, "buffer");
    const char *dst = wide ? "v[14:15]" : "v12", *text;
    int at = buffer ? 48 : 96;
    if (buffer) text = arena_printf(arena, SRD "buffer_atomic_%s %s, off, s[36:39], 0 offset:48 glc\n.v_mov_b32 v12, v2", op, data);
    else text = arena_printf(arena, "%s_atomic_%s %s, v[10:11], %s%s offset:96 glc", family, op, dst, data, !strcmp(family, "flat") ? "" : ", off");
    const char *back = wide ? "global_load_dwordx2 v[12:13]" : "global_load_dword v13";
    VD(arena_printf(arena, ".s_mov_b64 exec, 1\n.global_store_dwordx2 v[10:11], v[6:7], off offset:%d\n%s\n.%s, v[10:11], off offset:%d", at, text, back, at),
       a, b, m, wide ? now : Q(m & 0xffffffff, now));
}

static void lds_case(const char *op, bool wide, bool two, uint64_t m, uint64_t a, uint64_t b, uint64_t now) {
    bool rtn = strstr(op, "_rtn_") != NULL;
    const char *data = wide ? two ? "v[4:5], v[2:3]" : "v[2:3]" : two ? "v4, v2" : "v2";
    const char *dst = !rtn ? "" : wide ? "v[14:15], " : "v12, ", *back = wide ? "ds_read_b64 v[12:13]" : "ds_read_b32 v13";
    VD(arena_printf(arena, ".s_mov_b64 exec, 1\n.v_mov_b32 v12, v6\n.ds_write_b64 v60, v[6:7] offset:96\nds_%s %sv60, %s offset:96\n.%s, v60 offset:96", op, dst, data, back),
       a, b, m, wide ? now : Q(m & 0xffffffff, now));
}

/* "add_u" + "32" and with _rtn: ds_add_u32, ds_add_rtn_u32 */
static void lds_pair(const char *stem, const char *size, bool two, uint64_t m, uint64_t a, uint64_t b, uint64_t now) {
    bool wide = !strcmp(size, "64");
    size_t n = strlen(stem);
    const char *rtn = strstr(stem, "_rtn_") ? arena_printf(arena, "%s%s", stem, size)
                                            : arena_printf(arena, "%.*s_rtn_%c%s", (int)n - 2, stem, stem[n - 1], size);
    if (!strstr(stem, "_rtn_")) lds_case(arena_printf(arena, "%s%s", stem, size), wide, two, m, a, b, now);
    lds_case(rtn, wide, two, m, a, b, now);
}

static void atomic_cases(void) {
    static const char *const where[] = {"global", "flat", "buffer"};
    for (size_t k = 0; k < LEN(atoms); k++) {
        const struct Atom *t = &atoms[k];
        bool cmp = !strcmp(t->op, "cmpswap");
        for (size_t f = 0; f < LEN(where); f++) {
            if (cmp) atom_case(where[f], "cmpswap", "v[2:3]", false, t->m, Q(t->v, 10), 0, t->now);
            else atom_case(where[f], t->op, "v2", false, t->m, t->v, 0, t->now);
            atom_case(where[f], arena_printf(arena, "%s_x2", t->op), cmp ? "v[2:5]" : "v[2:3]", true, t->m2, t->v2, 10, t->now2);
        }
        lds_pair(t->lds, "32", cmp, t->m, t->v, 10, t->now);
        lds_pair(t->lds, "64", cmp, t->m2, t->v2, 10, t->now2);
    }
    static const char *const f64_where[] = {"global", "flat", "buffer"};
    for (size_t f = 0; f < LEN(f64_where); f++) {
        atom_case(f64_where[f], "add_f64", "v[2:3]", true, D(1.5), D(2), 0, D(3.5));
        atom_case(f64_where[f], "min_f64", "v[2:3]", true, D(1.5), D(-2), 0, D(-2));
        atom_case(f64_where[f], "max_f64", "v[2:3]", true, D(1.5), D(-2), 0, D(1.5));
    }
    for (int f = 0; f < 3; f += 2) { /* these return nothing */
        const char *at = f ? SRD "buffer_atomic_%s v2, off, s[36:39], 0 offset:48" : "global_atomic_%s v[10:11], v2, off offset:48";
        for (int pk = 0; pk < 2; pk++) {
            char *op = f ? arena_printf(arena, SRD "buffer_atomic_%s v2, off, s[36:39], 0 offset:48", pk ? "pk_add_f16" : "add_f32")
                         : arena_printf(arena, "global_atomic_%s v[10:11], v2, off offset:48", pk ? "pk_add_f16" : "add_f32");
            V(arena_printf(arena, ".s_mov_b64 exec, 1\n.global_store_dword v[10:11], v6, off offset:48\n%s\n.global_load_dword v12, v[10:11], off offset:48", op),
              pk ? P(H(1), H(2)) : F(1.5f), 0, pk ? P(H(3), H(4)) : F(2), (uint32_t)(pk ? P(H(4), H(6)) : F(3.5f)));
        }
        (void)at;
    }
    lds_pair("rsub_u", "32", false, 10, 30, 0, 20), lds_pair("rsub_u", "64", false, 10, 30, 0, 20);
    lds_pair("mskor_b", "32", true, 0xff, 0x100, 0x0f, 0x1f0), lds_pair("mskor_b", "64", true, 0xff, 1ull << 40, 0x0f, 1ull << 40 | 0xf0);
    lds_pair("add_f", "32", false, F(1), F(2), 0, F(3)), lds_pair("add_f", "64", false, D(1), D(2), 0, D(3));
    lds_pair("min_f", "32", false, F(1), F(-2), 0, F(-2)), lds_pair("min_f", "64", false, D(1), D(-2), 0, D(-2));
    lds_pair("max_f", "32", false, F(1), F(2), 0, F(2)), lds_pair("max_f", "64", false, D(1), D(2), 0, D(2));
    lds_pair("cmpst_f", "32", true, F(1), F(2), F(1), F(2)), lds_pair("cmpst_f", "64", true, D(1), D(2), D(3), D(1));
    lds_pair("wrap_rtn_b", "32", true, 10, 100, 3, 7), lds_pair("wrap_rtn_b", "32", true, 2, 100, 3, 102);
}

static void lds_cases(void) {
    static const struct { const char *op, *reg; uint32_t v; const char *after; } reads[] = {
        {"read_u8", "v12", 0x81, ""}, {"read_i8", "v12", 0xffffff81, ""}, {"read_u16", "v12", 0x8281, ""}, {"read_i16", "v12", 0xffff8281, ""},
        {"read_u8_d16", "v12", 0x11110081, ""}, {"read_u8_d16_hi", "v12", 0x00811111, ""}, {"read_i8_d16", "v12", 0x1111ff81, ""},
        {"read_i8_d16_hi", "v12", 0xff811111, ""}, {"read_u16_d16", "v12", 0x11118281, ""}, {"read_u16_d16_hi", "v12", 0x82811111, ""},
        {"read_b32", "v12", 0x84838281, ""}, {"read_b64", "v[12:13]", 0x88878685, "\n.v_mov_b32 v12, v13"},
        {"read_b96", "v[12:14]", 3, "\n.v_mov_b32 v12, v14"}, {"read_b128", "v[12:15]", 4, "\n.v_mov_b32 v12, v15"}};
    for (size_t k = 0; k < LEN(reads); k++)
        V(arena_printf(arena, ".ds_write_b128 v60, v[2:5] offset:16\nds_%s %s, v60 offset:16%s", reads[k].op, reads[k].reg, reads[k].after),
          0x8887868584838281ull, Q(3, 4), 0, reads[k].v);
    static const struct { const char *op, *reg; int back; uint32_t v; } writes[] = {
        {"write_b8", "v2", 0, 0xdd}, {"write_b8_d16_hi", "v2", 0, 0xbb}, {"write_b16", "v2", 0, 0xccdd}, {"write_b16_d16_hi", "v2", 0, 0xaabb},
        {"write_b32", "v2", 0, 0xaabbccdd}, {"write_b64", "v[2:3]", 4, 2}, {"write_b96", "v[2:4]", 8, 3}, {"write_b128", "v[2:5]", 12, 4}};
    for (size_t k = 0; k < LEN(writes); k++)
        V(arena_printf(arena, ".ds_write_b32 v60, v60 offset:32\nds_%s v60, %s offset:32\n.ds_read_b32 v12, v60 offset:%d", writes[k].op, writes[k].reg, 32 + writes[k].back),
          Q(0xaabbccdd, 2), Q(3, 4), 0, writes[k].v);
    VD("ds_write2_b32 v60, v2, v4 offset0:1 offset1:3\nds_read2_b32 v[12:13], v60 offset0:3 offset1:1", 5, 6, 0, Q(6, 5));
    VD("ds_write2st64_b32 v60, v2, v4 offset0:1 offset1:3\nds_read2st64_b32 v[12:13], v60 offset0:3 offset1:1", 5, 6, 0, Q(6, 5));
    VD(".ds_write_b32 v60, v6 offset:256\n.ds_write_b32 v60, v7 offset:768\nds_read2st64_b32 v[12:13], v60 offset0:1 offset1:3", 0, 0, Q(7, 8), Q(7, 8));
    VD("ds_write2_b64 v60, v[2:3], v[4:5] offset0:1 offset1:3\n.ds_read_b64 v[12:13], v60 offset:24", 5, 6ull << 40, 0, 6ull << 40);
    VD(".ds_write_b64 v60, v[2:3] offset:8\n.ds_write_b64 v60, v[4:5] offset:24\nds_read2_b64 v[12:15], v60 offset0:1 offset1:3\n.v_mov_b32 v12, v14\n.v_mov_b32 v13, v15", 5, 6ull << 40, 0, 6ull << 40);
    VD("ds_write2st64_b64 v60, v[2:3], v[4:5] offset0:1 offset1:2\n.ds_read_b64 v[12:13], v60 offset:1024", 5, 6ull << 40, 0, 6ull << 40);
    VD(".ds_write_b64 v60, v[4:5] offset:1024\n.ds_write_b64 v60, v[4:5] offset:512\nds_read2st64_b64 v[12:15], v60 offset0:1 offset1:2", 5, 6ull << 40, 0, 6ull << 40);
    L(".v_mul_u32_u24 v61, 4, v50\n.v_xor_b32 v61, 12, v61\nds_bpermute_b32 v12, v61, v50", 0, 0, 0, (uint32_t)l ^ 3);
    L(".v_mul_u32_u24 v61, 4, v50\n.v_add_u32 v61, 8, v61\nds_permute_b32 v12, v61, v50", 0, 0, 0, (uint32_t)(l + 62) % 64);
    L("ds_swizzle_b32 v12, v50 offset:swizzle(QUAD_PERM, 1, 0, 3, 2)", 0, 0, 0, (uint32_t)l ^ 1);
    L("ds_swizzle_b32 v12, v50 offset:swizzle(SWAP, 16)", 0, 0, 0, (uint32_t)l ^ 16);
    L("ds_swizzle_b32 v12, v50 offset:swizzle(REVERSE, 8)", 0, 0, 0, (uint32_t)l ^ 7);
    L("ds_swizzle_b32 v12, v50 offset:swizzle(BROADCAST, 8, 3)", 0, 0, 0, ((uint32_t)l & ~7u) + 3);
    L("ds_swizzle_b32 v12, v50 offset:swizzle(BITMASK_PERM, \"01pip\")", 0, 0, 0, ((uint32_t)l & 32) + ((((uint32_t)l & 7) | 8) ^ 2));
    V(".ds_write_b32 v60, v2 offset:64\n.s_mov_b32 m0, 0x400000\n.s_mov_b64 exec, 0xff\nds_append v12 \n.s_mov_b64 exec, -1\n.ds_read_b32 v13, v60 offset:64\n.v_lshl_or_b32 v12, v12, 8, v13", 5, 0, 0, 5 << 8 | 13);
    V(".ds_write_b32 v60, v2 offset:64\n.s_mov_b32 m0, 0x400000\n.s_mov_b64 exec, 0xff\nds_consume v12 \n.s_mov_b64 exec, -1\n.ds_read_b32 v13, v60 offset:64\n.v_lshl_or_b32 v12, v12, 8, v13", 50, 0, 0, 50 << 8 | 42);
    L(".s_mov_b32 m0, 64\nds_write_addtid_b32 v50 offset:8\n.v_lshlrev_b32 v61, 2, v50\n.ds_read_b32 v12, v61 offset:72", 0, 0, 0, (uint32_t)l);
    /* an address below 0: the sum with the offset wraps, and lies inside */
    L(".v_lshlrev_b32 v61, 2, v50\n.v_add_u32 v61, 0xffffff00, v61\n.ds_write_b32 v61, v50 offset:1024\n.ds_read_b32 v12, v61 offset:1024", 0, 0, 0, (uint32_t)l);
    L(".v_lshlrev_b32 v61, 2, v50\n.ds_write_b32 v61, v50 offset:72\n.s_mov_b32 m0, 64\nds_read_addtid_b32 v12 offset:8", 0, 0, 0, (uint32_t)l);
    V("ds_nop\n.v_mov_b32 v12, 9", 0, 0, 0, 9);
}

/* --- assembling ---------------------------------------------------------------------------------------------------------- */

#define COMGR(X)                                                                                                       \
    X(create_data) X(set_data) X(set_data_name) X(create_data_set) X(data_set_add) X(create_action_info)               \
    X(action_info_set_isa_name) X(do_action) X(action_data_get_data) X(get_data) X(action_info_set_logging) X(release_data) X(destroy_data_set) X(destroy_action_info)
#define X(f) static __typeof__(amd_comgr_##f) *comgr_##f;
COMGR(X)
#undef X

static bool comgr_open(Err *e) {
    static const char *const names[] = {"libamd_comgr.so.2", "libamd_comgr.so.3", "libamd_comgr.so", "/opt/rocm/lib/libamd_comgr.so"};
    void *lib = NULL;
    for (size_t i = 0; i < LEN(names) && !lib; i++) lib = dlopen(names[i], RTLD_NOW);
    if (!lib) return err_set(e, "no comgr");
#define X(f)                                                                                                           \
    *(void **)&comgr_##f = dlsym(lib, "amd_comgr_" #f);                                                                \
    if (!comgr_##f) return err_set(e, "no amd_comgr_" #f);
    COMGR(X)
#undef X
    return true;
}

static bool get_log(amd_comgr_data_set_t set, Err *e) {
    amd_comgr_data_t log;
    size_t n = sizeof e->msg - 1;
    if (comgr_action_data_get_data(set, AMD_COMGR_DATA_KIND_LOG, 0, &log)) return err_set(e, "does not assemble");
    comgr_get_data(log, &n, NULL);
    n = n < sizeof e->msg - 1 ? n : sizeof e->msg - 1;
    comgr_get_data(log, &n, e->msg);
    e->msg[n] = 0;
    return false;
}

static void *assemble(const Text *t, size_t *size, Err *e) {
    amd_comgr_data_t src, exe;
    amd_comgr_data_set_t in, obj, out;
    amd_comgr_action_info_t info;
    comgr_create_data(AMD_COMGR_DATA_KIND_SOURCE, &src);
    comgr_set_data(src, t->n, t->at), comgr_set_data_name(src, "t.s");
    comgr_create_data_set(&in), comgr_create_data_set(&obj), comgr_create_data_set(&out);
    comgr_data_set_add(in, src);
    comgr_create_action_info(&info), comgr_action_info_set_isa_name(info, "amdgcn-amd-amdhsa--gfx90a");
    comgr_action_info_set_logging(info, true);
    if (comgr_do_action(AMD_COMGR_ACTION_ASSEMBLE_SOURCE_TO_RELOCATABLE, info, in, obj)) return get_log(obj, e), NULL;
    if (comgr_do_action(AMD_COMGR_ACTION_LINK_RELOCATABLE_TO_EXECUTABLE, info, obj, out)) return get_log(out, e), NULL;
    if (comgr_action_data_get_data(out, AMD_COMGR_DATA_KIND_EXECUTABLE, 0, &exe)) return err_set(e, "no executable"), NULL;
    comgr_get_data(exe, size, NULL);
    char *code = malloc(*size);
    comgr_get_data(exe, size, code);
    comgr_release_data(src), comgr_release_data(exe), comgr_destroy_action_info(info);
    comgr_destroy_data_set(in), comgr_destroy_data_set(obj), comgr_destroy_data_set(out);
    return code;
}

static void kernel_head(Text *t, const char *name) { text_add(t, ".text\n.globl %s\n.p2align 8\n.type %s,@function\n%s:\n", name, name, name); }
static void kernel_tail(Text *t, const char *name) {
    text_add(t, "s_endpgm\n.rodata\n.p2align 6\n.amdhsa_kernel %s\n.amdhsa_user_sgpr_kernarg_segment_ptr 1\n.amdhsa_user_sgpr_flat_scratch_init 1\n"
                ".amdhsa_system_sgpr_private_segment_wavefront_offset 1\n.amdhsa_private_segment_fixed_size 256\n.amdhsa_group_segment_fixed_size 4096\n"
                ".amdhsa_float_denorm_mode_32 3\n.amdhsa_next_free_vgpr 256\n.amdhsa_next_free_sgpr 96\n.amdhsa_accum_offset 128\n.end_amdhsa_kernel\n.text\n", name);
}
static void metadata(Text *t, const char *const *names, size_t n) {
    text_add(t, ".amdgpu_metadata\namdhsa.version:\n  - 1\n  - 1\namdhsa.kernels:\n");
    for (size_t k = 0; k < n; k++)
        text_add(t, "  - .name: %s\n    .symbol: %s.kd\n    .kernarg_segment_size: 32\n    .group_segment_fixed_size: 4096\n    .private_segment_fixed_size: 256\n"
                    "    .kernarg_segment_align: 8\n    .wavefront_size: 64\n    .sgpr_count: 102\n    .vgpr_count: 256\n    .max_flat_workgroup_size: 64\n", names[k], names[k]);
    text_add(t, ".end_amdgpu_metadata\n");
}

static void emit_text(Text *t, const char *s) { /* without the dots of set-up lines */
    for (bool start = true; *s; s++) {
        if (!(start && *s == '.')) text_put(t, s, 1);
        start = *s == '\n';
    }
    text_add(t, "\n");
}

static void emit_case(Text *t, const Case *c, size_t k) {
    text_add(t, "s_load_dwordx8 s[8:15], s[40:41], 0x%zx\ns_waitcnt lgkmcnt(0)\n", k * 32);
    for (int r = 0; r < 6; r++) text_add(t, "v_mov_b32 v%d, s%d\n", 2 + r, 8 + r);
    for (int r = 12; r < 16; r++) text_add(t, "v_mov_b32 v%d, 0x11111111\n", r);
    text_add(t, "s_mov_b32 s16, 0x22222222\ns_mov_b32 s17, s16\ns_add_u32 s18, s44, 0x%zx\ns_addc_u32 s19, s45, 0\nv_mov_b32 v10, s18\nv_mov_b32 v11, s19\n", k * DATA_BYTES);
    text_add(t, "s_mov_b32 m0, -1\ns_cmp_lg_u32 s15, 0\ns_cselect_b64 vcc, -1, 0\ns_cmp_lg_u32 s14, 0\n");
    emit_text(t, c->text);
    text_add(t, "s_cselect_b32 s20, 1, 0\ns_mov_b64 s[22:23], exec\ns_mov_b64 exec, -1\ns_mov_b32 s21, 0x%zx\ns_add_u32 s26, s42, s21\ns_addc_u32 s27, s43, 0\n", k * SLOT_DWORDS * 4);
    text_add(t, "v_mov_b32 v20, s16\nv_mov_b32 v21, s17\nv_mov_b32 v22, s20\nv_mov_b32 v23, s22\nv_mov_b32 v24, s23\n");
    static const int regs[7] = {12, 13, 20, 21, 22, 23, 24};
    for (int r = 0; r < 7; r++) text_add(t, "global_store_dword v51, v%d, s[26:27] offset:%d\n", regs[r], r * 256);
}

static void emit_prologue(Text *t) {
    text_add(t, "s_add_u32 flat_scratch_lo, s2, s4\ns_addc_u32 flat_scratch_hi, s3, 0\ns_load_dwordx4 s[40:43], s[0:1], 0x0\ns_load_dwordx2 s[44:45], s[0:1], 0x10\n"
                "v_mov_b32 v50, v0\nv_lshlrev_b32 v51, 2, v0\nv_mov_b32 v60, 0\ns_mov_b32 s33, 0\n");
    for (int k = 0; k < 16; k++) {
        uint32_t w = (uint32_t)(4 * k + 1) * 0x01010101u + 0x03020100u;
        text_add(t, "v_mov_b32 v61, 0x%x\nscratch_store_dword off, v61, s33 offset:%d\n", k == 10 ? 0x2c2bf2f1 : w, 4 * k);
    }
}

/* --- running ---------------------------------------------------------------------------------------------------------------- */

static void check_case(const Case *c, const uint32_t *slot) {
    uint64_t v = Q(slot[0], slot[64]), s = Q(slot[128], slot[192]), exec = Q(slot[320], slot[384]);
    Err e = {0};
    if (c->check & CHECK_V && (c->check & CHECK_VHI ? v != c->v : (uint32_t)v != (uint32_t)c->v))
        err_set(&e, "v is 0x%llx, expected 0x%llx", (unsigned long long)(c->check & CHECK_VHI ? v : (uint32_t)v), (unsigned long long)c->v);
    if (c->check & CHECK_S && (c->check & CHECK_SHI ? s != c->s : (uint32_t)s != (uint32_t)c->s))
        err_set(&e, "s is 0x%llx, expected 0x%llx", (unsigned long long)s, (unsigned long long)c->s);
    if (c->check & CHECK_SCC && slot[256] != c->scc) err_set(&e, "SCC is %u", slot[256]);
    if (c->check & CHECK_EXEC && exec != c->exec) err_set(&e, "EXEC is 0x%llx, expected 0x%llx", (unsigned long long)exec, (unsigned long long)c->exec);
    for (int l = 63; l >= 0 && c->check & CHECK_LANES; l--)
        if (slot[l] != c->lanes[l]) err_set(&e, "lane %d is 0x%x, expected 0x%x", l, slot[l], c->lanes[l]);
    for (int l = 1; l < 64 && c->check & CHECK_V && !strstr(c->text, "exec"); l++) /* uniform inputs: every lane alike */
        if (slot[l] != slot[0] || (c->check & CHECK_VHI && slot[64 + l] != slot[64])) err_set(&e, "lane %d differs from lane 0", l);
    if (!*e.msg) return;
    char name[512];
    snprintf(name, sizeof name, "%s", c->text);
    for (char *p = name; *p; p++)
        if (*p == '\n') *p = ';';
    printf("FAIL %s: %s\n", name, e.msg), failed++;
}

enum { BATCH = 400 };

static bool run_cases(EmuModule *m, Err *e) {
    EmuMem *mem = emu_mem_new();
    size_t n = cases.n;
    uint32_t *in = calloc(n, 32), *out = calloc(n, SLOT_DWORDS * 4);
    uint8_t *data = calloc(n, DATA_BYTES);
    for (size_t k = 0; k < n; k++) {
        memcpy(in + 8 * k, cases.at[k].in, 24);
        in[8 * k + 6] = cases.at[k].scc_in, in[8 * k + 7] = cases.at[k].vcc_in;
        for (int b = 0; b < 64; b++) data[k * DATA_BYTES + (size_t)b] = (uint8_t)(b == 40 ? 0xf1 : b == 41 ? 0xf2 : b + 1);
    }
    struct { void *in, *out, *data; } args = {in, out, data};
    bool ok = emu_mem_add(mem, in, n * 32, "in", true, e) && emu_mem_add(mem, out, n * SLOT_DWORDS * 4, "out", false, e) && emu_mem_add(mem, data, n * DATA_BYTES, "data", true, e);
    for (size_t first = 0; ok && first < n; first += BATCH) {
        char name[32];
        snprintf(name, sizeof name, "cases%zu", first / BATCH);
        EmuLaunch l = {.kernel = name, .grid = {1, 1, 1}, .block = {64, 1, 1}, .kernarg = &args, .kernarg_size = sizeof args};
        ok = emu_launch(m, mem, &l, NULL, e);
        if (!ok) printf("FAIL %s: %s\n", name, e->msg), failed++, ok = true;
        for (size_t k = first; k < n && k < first + BATCH; k++) check_case(&cases.at[k], out + k * SLOT_DWORDS);
    }
    emu_mem_free(mem);
    free(in), free(out), free(data);
    return ok;
}

/* --- MFMA: small integers, exact in every type; layouts from AMD's matrix instruction calculator ------------------------------- */

static const struct Mfma { const char *name; char type; int m, k, blocks; } mfmas[] = {
    {"f32_32x32x1f32", 's', 32, 1, 2}, {"f32_16x16x1f32", 's', 16, 1, 4}, {"f32_4x4x1f32", 's', 4, 1, 16}, {"f32_32x32x2f32", 's', 32, 2, 1},
    {"f32_16x16x4f32", 's', 16, 4, 1}, {"f32_32x32x4f16", 'h', 32, 4, 2}, {"f32_16x16x4f16", 'h', 16, 4, 4}, {"f32_4x4x4f16", 'h', 4, 4, 16},
    {"f32_32x32x8f16", 'h', 32, 8, 1}, {"f32_16x16x16f16", 'h', 16, 16, 1}, {"f32_32x32x2bf16", 'b', 32, 2, 2}, {"f32_16x16x2bf16", 'b', 16, 2, 4},
    {"f32_4x4x2bf16", 'b', 4, 2, 16}, {"f32_32x32x4bf16", 'b', 32, 4, 1}, {"f32_16x16x8bf16", 'b', 16, 8, 1}, {"f32_32x32x4bf16_1k", 'b', 32, 4, 2},
    {"f32_16x16x4bf16_1k", 'b', 16, 4, 4}, {"f32_4x4x4bf16_1k", 'b', 4, 4, 16}, {"f32_32x32x8bf16_1k", 'b', 32, 8, 1},
    {"f32_16x16x16bf16_1k", 'b', 16, 16, 1}, {"i32_32x32x4i8", 'i', 32, 4, 2}, {"i32_16x16x4i8", 'i', 16, 4, 4}, {"i32_4x4x4i8", 'i', 4, 4, 16},
    {"i32_32x32x8i8", 'i', 32, 8, 1}, {"i32_16x16x16i8", 'i', 16, 16, 1}, {"f64_16x16x4f64", 'd', 16, 4, 1}, {"f64_4x4x4f64", 'd', 4, 4, 4}};

static int mfma_regs(const struct Mfma *f) { return f->m * f->m * f->blocks / 64 * (f->type == 'd' ? 2 : 1); }
static int mfma_words(const struct Mfma *f) { /* dwords of A in a lane */
    int per_lane = f->m * f->k * f->blocks / 64, bytes = f->type == 'd' ? 8 : f->type == 's' ? 4 : f->type == 'i' ? 1 : 2;
    return per_lane * bytes / 4;
}
static const char *regs(char file, int at, int n) { return n == 1 ? arena_printf(arena, "%c%d", file, at) : arena_printf(arena, "%c[%d:%d]", file, at, at + n - 1); }

/* A and B in v[2:3] v[4:5], C in v64 or a64 on; variant 1 takes AGPRs for C and D, 2 the modifiers, 3 an inline C. */
static void emit_mfma(Text *t, const struct Mfma *f, const char *name, int variant) {
    int n = mfma_regs(f), w = mfma_words(f);
    char file = variant == 1 ? 'a' : 'v';
    kernel_head(t, name);
    text_add(t, "s_load_dwordx4 s[40:43], s[0:1], 0x0\nv_lshlrev_b32 v51, 2, v0\n");
    for (int r = 0; r < 4; r++) text_add(t, "global_load_dword v%d, v51, s[40:41] offset:%d\n", 2 + r, r * 256);
    text_add(t, "s_add_u32 s40, s40, 1024\ns_addc_u32 s41, s41, 0\n");
    for (int r = 0; r < n; r++) {
        text_add(t, "global_load_dword %c%d, v51, s[40:41]\ns_add_u32 s40, s40, 256\ns_addc_u32 s41, s41, 0\n", file, 64 + r);
    }
    const char *d = regs(file, 64, n), *c = variant == 3 ? "0" : d;
    text_add(t, "s_waitcnt vmcnt(0)\nv_mfma_%s %s, %s, %s, %s%s\n", f->name, d, regs('v', 2, w), regs('v', 4, w), c, variant == 2 ? " cbsz:1 abid:1 blgp:3" : "");
    for (int r = 0; r < n; r++) text_add(t, "global_store_dword v51, %c%d, s[42:43]\ns_add_u32 s42, s42, 256\ns_addc_u32 s43, s43, 0\n", file, 64 + r);
    kernel_tail(t, name);
}

static int a_value(int b, int i, int k) { return (b * 5 + i * 3 + k * 7) % 7 - 3; }
static int b_value(int b, int j, int k) { return (b * 3 + j * 5 + k * 11) % 5 - 2; }
static int c_value(int b, int i, int j) { return (b + i * 13 + j * 7) % 19 - 9; }

static void put_element(uint32_t *reg, char type, int lane, int e, int value) {
    uint64_t d = D(value);
    switch (type) {
    case 'd': reg[lane] = (uint32_t)d, reg[64 + lane] = (uint32_t)(d >> 32); break;
    case 's': reg[lane] = (uint32_t)F((float)value); break;
    case 'h': reg[e / 2 * 64 + lane] |= H(value) << e % 2 * 16; break;
    case 'b': reg[e / 2 * 64 + lane] |= (uint32_t)F((float)value) >> 16 << e % 2 * 16; break;
    default: reg[e / 4 * 64 + lane] |= (uint32_t)(uint8_t)value << e % 4 * 8; break;
    }
}

/* Where element (i, j) of a block of D lives. */
static void place(const struct Mfma *f, int b, int i, int j, int *reg, int *lane) {
    if (f->type == 'd' && f->m == 4) *reg = 0, *lane = j + 4 * b + 16 * i;
    else if (f->type == 'd') *reg = i / 4, *lane = j + 16 * (i % 4);
    else if (f->m == 32) *reg = 16 * b + i / 8 * 4 + i % 4, *lane = j + 32 * (i / 4 % 2);
    else if (f->m == 16) *reg = 4 * b + i % 4, *lane = j + 16 * (i / 4);
    else *reg = i, *lane = j + 4 * b;
}

static uint64_t read_d(const struct Mfma *f, const uint32_t *out, int reg, int lane) {
    return f->type == 'd' ? Q(out[reg * 128 + lane], out[reg * 128 + 64 + lane]) : out[reg * 64 + lane];
}
static uint64_t as_d(const struct Mfma *f, int v) { return f->type == 'd' ? D(v) : f->type == 'i' ? (uint32_t)v : F((float)v); }

static void run_mfma(EmuModule *m, const struct Mfma *f, const char *name, int variant) {
    static uint32_t in[36 * 64], out[32 * 64];
    int per_lane = f->m * f->k * f->blocks / 64, n = mfma_regs(f);
    memset(in, 0, sizeof in);
    for (int lane = 0; lane < 64; lane++)
        for (int e = 0; e < per_lane; e++) {
            int i = lane % f->m, b = lane / f->m % f->blocks, k = lane / f->m / f->blocks * per_lane + e;
            put_element(in, f->type, lane, e, a_value(b, i, k));
            put_element(in + 128, f->type, lane, e, b_value(b, i, k));
        }
    for (int b = 0; b < f->blocks; b++)
        for (int i = 0; i < f->m; i++)
            for (int j = 0; j < f->m; j++) {
                int reg, lane;
                place(f, b, i, j, &reg, &lane);
                uint64_t v = as_d(f, c_value(b, i, j));
                uint32_t *at = in + 256 + (f->type == 'd' ? 128 : 64) * reg + lane;
                *at = (uint32_t)v;
                if (f->type == 'd') at[64] = (uint32_t)(v >> 32);
            }
    struct { void *in, *out; uint64_t pad[2]; } args = {in, out, {0}};
    EmuMem *mem = emu_mem_new();
    Err e = {0};
    EmuLaunch l = {.kernel = name, .grid = {1, 1, 1}, .block = {64, 1, 1}, .kernarg = &args, .kernarg_size = sizeof args};
    bool ok = emu_mem_add(mem, in, sizeof in, "in", true, &e) && emu_mem_add(mem, out, sizeof out, "out", false, &e) && emu_launch(m, mem, &l, NULL, &e);
    for (int b = 0; ok && b < f->blocks; b++)
        for (int i = 0; ok && i < f->m; i++)
            for (int j = 0; ok && j < f->m; j++) {
                int sum = variant == 3 ? 0 : c_value(b, i, j), reg, lane;
                for (int k = 0; k < f->k; k++) {
                    int ab = variant == 2 ? b / 2 * 2 + 1 : b, from = f->m * b + j; /* blgp:3 takes B from 16 lanes on */
                    if (variant == 2) from = (from + 16) % 64;
                    sum += a_value(ab, i, k) * (variant == 2 ? b_value(from / f->m, from % f->m, k) : b_value(b, j, k));
                }
                place(f, b, i, j, &reg, &lane);
                if (read_d(f, out, reg, lane) != as_d(f, sum)) ok = err_set(&e, "block %d [%d][%d] is 0x%llx, expected %d", b, i, j, (unsigned long long)read_d(f, out, reg, lane), sum);
            }
    if (!ok) printf("FAIL %s (variant %d, %d registers): %s\n", name, variant, n, e.msg), failed++;
    emu_mem_free(mem);
}

/* --- coverage -------------------------------------------------------------------------------------------------------------------- */

static bool same_mnemonic(const char *line, const char *name) {
    static const char *const ends[] = {"", "_e32", "_e64", "_sdwa", "_dpp"};
    size_t n = strlen(name), len = strcspn(line, " \n");
    for (size_t k = 0; k < LEN(ends) && !strncmp(line, name, n); k++)
        if (len == n + strlen(ends[k]) && !strncmp(line + n, ends[k], strlen(ends[k]))) return true;
    return false;
}

static bool covered(const char *name) {
    static const char *const elsewhere[] = {"s_endpgm", "s_trap", "s_sethalt"}; /* each kernel's end; kernels_test.c; below */
    for (size_t k = 0; k < LEN(elsewhere); k++)
        if (!strcmp(name, elsewhere[k])) return true;
    for (size_t k = 0; k < LEN(mfmas); k++)
        if (!strncmp(name, "v_mfma_", 7) && !strcmp(name + 7, mfmas[k].name)) return true;
    for (size_t k = 0; k < cases.n; k++)
        for (const char *line = cases.at[k].text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
            if (*line != '.' && same_mnemonic(line, name)) return true;
    return false;
}

static void check_coverage(void) {
    int missing = 0;
    for (size_t k = 0; k < emu_mnemonic_count(); k++)
        if (!covered(emu_mnemonic_at(k))) printf("FAIL %s: implemented, but has no test\n", emu_mnemonic_at(k)), missing++;
    if (!missing) printf("ok coverage: all %zu mnemonics have a test\n", emu_mnemonic_count());
    failed += missing;
}

/* An instruction that the emulator does not know, and a halt: errors that name them; harmless where never reached. */
static void check_refusals(EmuModule *m) {
    static const struct { const char *kernel, *word; } refused[] = {{"unknown", "s_sendmsg"}, {"halt", "s_sethalt"}, {"unreached", NULL}};
    EmuMem *mem = emu_mem_new();
    uint64_t args[4] = {0};
    for (size_t k = 0; k < LEN(refused); k++) {
        Err e = {0};
        EmuLaunch l = {.kernel = refused[k].kernel, .grid = {1, 1, 1}, .block = {64, 1, 1}, .kernarg = args, .kernarg_size = sizeof args};
        bool ok = emu_launch(m, mem, &l, NULL, &e);
        if (refused[k].word ? !ok && strstr(e.msg, refused[k].word) && (k || strstr(e.msg, "unknown mnemonic")) : ok) printf("ok refuse_%s\n", refused[k].kernel);
        else printf("FAIL refuse_%s: %s\n", refused[k].kernel, ok ? "was executed" : e.msg), failed++;
    }
    emu_mem_free(mem);
}

int main(void) {
    Err e = {0};
    Text t = {0};
    arena = arena_new();
    if (!comgr_open(&e)) return printf("skip mnemonics: %s\n", e.msg), 0;
    struct { const char **at; size_t n, cap; } names = {0};
    written_cases(), compare_cases(), scalar_compare_cases(), load_cases(), store_cases(), atomic_cases(), lds_cases();
    text_add(&t, ".amdgcn_target \"amdgcn-amd-amdhsa--gfx90a\"\n");
    for (size_t first = 0; first < cases.n; first += BATCH) {
        char *name = arena_printf(arena, "cases%zu", first / BATCH);
        PUSH(arena, names, name);
        kernel_head(&t, name);
        emit_prologue(&t);
        for (size_t k = first; k < cases.n && k < first + BATCH; k++) emit_case(&t, &cases.at[k], k);
        kernel_tail(&t, name);
    }
    for (size_t k = 0; k < LEN(mfmas); k++)
        for (int variant = 0; variant < 4; variant++) {
            if (variant == 2 && (mfmas[k].type == 'd' || mfmas[k].blocks < 2)) continue;
            char *name = arena_printf(arena, "mfma_%s_%d", mfmas[k].name, variant);
            PUSH(arena, names, name);
            emit_mfma(&t, &mfmas[k], name, variant);
        }
    static const char *const odd[][2] = {{"unknown", "s_sendmsg sendmsg(MSG_INTERRUPT)\n"}, {"halt", "s_sethalt 1\n"}, {"unreached", "s_branch 1f\ns_sendmsg sendmsg(MSG_INTERRUPT)\n1:\n"}};
    for (size_t k = 0; k < LEN(odd); k++) {
        PUSH(arena, names, odd[k][0]);
        kernel_head(&t, odd[k][0]), text_add(&t, "%s", odd[k][1]), kernel_tail(&t, odd[k][0]);
    }
    metadata(&t, names.at, names.n);
    size_t size;
    void *code = assemble(&t, &size, &e);
    if (!code) return printf("FAIL assemble: %s\n", e.msg), 1;
    EmuModule *m = emu_load(code, size, &e);
    if (!m) return printf("FAIL load: %s\n", e.msg), 1;
    run_cases(m, &e);
    if (!failed) printf("ok cases: %zu\n", cases.n);
    for (size_t k = 0; k < LEN(mfmas); k++) {
        int before = failed;
        for (int variant = 0; variant < 4; variant++)
            if (variant != 2 || (mfmas[k].type != 'd' && mfmas[k].blocks > 1)) run_mfma(m, &mfmas[k], arena_printf(arena, "mfma_%s_%d", mfmas[k].name, variant), variant);
        if (failed == before) printf("ok v_mfma_%s\n", mfmas[k].name);
    }
    check_refusals(m);
    check_coverage();
    emu_unload(m);
    free(code), text_free(&t), arena_free(arena);
    return failed != 0;
}
