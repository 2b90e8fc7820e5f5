/* vector.c - vector ALU instructions: operands and modifiers around the lane functions, and the hand-written ones.
 *
 * The fast path hands registers' rows straight to the lane function and merges under EXEC. The slow one copies what a
 * modifier changes: DPP and SDWA pick, then abs, neg, and the MODE register's denormals; after the function omod, clamp
 * and the parts of the destination that are kept. */
#include <fenv.h>

#include "lanemath.h"

typedef uint32_t Rows[2 * LANES];

/* --- before: sources ---------------------------------------------------------------------------------------------------- */

INLINED void dpp_pick(uint32_t *d, const uint32_t *s, const Dpp *p, uint64_t exec) {
    EACH_LANE {
        int from = p->from[l];
        d[l] = from >= 0 && exec >> from & 1 ? s[from] : 0;
    }
}

/* Lanes that a DPP instruction writes. From an invalid lane - outside, or off in EXEC - a lane reads 0 under bound_ctrl;
 * otherwise it is not written. */
INLINED uint64_t dpp_lanes(const Dpp *p, uint64_t exec) {
    uint64_t m = exec & p->rows;
    EACH_LANE {
        int from = p->from[l];
        bool valid = from >= 0 && exec >> from & 1;
        if (!valid && !p->zero) m &= ~(1ull << l);
    }
    return m;
}

INLINED void sdwa_pick(uint32_t *d, const uint32_t *s, int sel, bool sext) {
    static const uint8_t at[] = {0, 8, 16, 24, 0, 16, 0}, width[] = {8, 8, 8, 8, 16, 16, 32};
    uint32_t down = at[sel], rest = 32u - width[sel];
    EACH_LANE {
        uint32_t u = s[l] >> down << rest;
        d[l] = sext ? (uint32_t)((int32_t)u >> rest) : u >> rest;
    }
}

/* Absolute value, then negation, by where the type's signs are. */
INLINED void signs(uint32_t *d, Type t, bool abs, bool neg) {
    uint32_t bit = t == T_f16 || t == T_h16 || t == T_u16 || t == T_i16 ? 0x8000 : 0x80000000;
    if (t == T_f64 || t == T_c64 || t == T_u64 || t == T_i64) d += LANES;
    EACH_LANE d[l] = (abs ? d[l] & ~bit : d[l]) ^ (neg ? bit : 0);
}

INLINED uint32_t flush16(uint32_t h) { return h & 0x7c00 ? h : h & 0x8000; }

/* Subnormals to zeros of their sign. */
INLINED void flush(uint32_t *d, Type t) {
    switch (t) {
    case T_q32: EACH_LANE d[LANES + l] = d[LANES + l] & 0x7f800000 ? d[LANES + l] : d[LANES + l] & 0x80000000; /* fallthrough */
    case T_f32: EACH_LANE d[l] = d[l] & 0x7f800000 ? d[l] : d[l] & 0x80000000; break;
    case T_f16: EACH_LANE d[l] = flush16(d[l] & 0xffff); break;
    case T_p16f: EACH_LANE d[l] = flush16(d[l] & 0xffff) | flush16(d[l] >> 16) << 16; break;
    case T_f64:
        EACH_LANE if (!(d[LANES + l] & 0x7ff00000)) d[l] = 0, d[LANES + l] &= 0x80000000;
        break;
    default: break;
    }
}

enum { MODE_ROUND_32 = 3, MODE_ROUND_64 = 12, MODE_IN_32 = 16, MODE_OUT_32 = 32, MODE_IN_64 = 64, MODE_OUT_64 = 128,
       MODE_CLAMP = 256, MODE_IEEE = 512 };

INLINED bool flushes(const Wave *w, Type t, bool in) {
    if (t == T_f32 || t == T_q32) return !(w->mode & (in ? MODE_IN_32 : MODE_OUT_32));
    if (t == T_f64 || t == T_f16 || t == T_p16f) return !(w->mode & (in ? MODE_IN_64 : MODE_OUT_64));
    return false;
}

/* A packed 16-bit source: each half chosen and negated on its own. */
INLINED void pack_halves(uint32_t *d, const Inst *i, int k) {
    int lo = i->op_sel >> k & 1 ? 16 : 0, hi = i->op_sel_hi >> k & 1 ? 16 : 0;
    uint32_t flip = (i->neg_lo >> k & 1 ? 0x8000u : 0) | (i->neg_hi >> k & 1 ? 0x80000000u : 0);
    EACH_LANE d[l] = ((d[l] >> lo & 0xffff) | (d[l] >> hi & 0xffff) << 16) ^ flip;
}

INLINED void pack_words(uint32_t *d, const Inst *i, int k) {
    Rows s;
    memcpy(s, d, sizeof s);
    int lo = i->op_sel >> k & 1 ? LANES : 0, hi = i->op_sel_hi >> k & 1 ? LANES : 0;
    uint32_t flip_lo = i->neg_lo >> k & 1 ? 0x80000000u : 0, flip_hi = i->neg_hi >> k & 1 ? 0x80000000u : 0;
    EACH_LANE d[l] = s[lo + l] ^ flip_lo, d[LANES + l] = s[hi + l] ^ flip_hi;
}

/* v_fma_mix: f32, or a half of the register, by op_sel_hi; the result is an f32. */
INLINED void mix_source(const Wave *w, uint32_t *d, const Inst *i, int k) {
    bool half = i->op_sel_hi >> k & 1;
    int at = i->op_sel >> k & 1 ? 16 : 0;
    if (half) EACH_LANE d[l] = d[l] >> at & 0xffff;
    if (half && flushes(w, T_f16, true)) flush(d, T_f16);
    if (half) EACH_LANE d[l] = bits_of_f32(f32_of_f16((uint16_t)d[l]));
    else if (flushes(w, T_f32, true)) flush(d, T_f32);
    signs(d, T_f32, i->s[k].abs || i->neg_hi >> k & 1, i->s[k].neg != (i->neg_lo >> k & 1));
}

INLINED bool is_half(Type t) { return t == T_f16 || t == T_h16 || t == T_u16 || t == T_i16; }

INLINED void prepare(const Wave *w, const Inst *i, int k, uint32_t *d) {
    const Operand *o = &i->s[k];
    Rows tmp;
    const uint32_t *s = source_rows(w, o, tmp);
    Type t = i->op->family == F_VX ? T_u32 : i->op->st[k];
    memcpy(d, s, (o->dwords < 2 ? 1u : 2u) * LANES * 4);
    if (i->dpp && k == 0) {
        memcpy(tmp, d, LANES * 4);
        dpp_pick(d, tmp, i->dpp, w->s64[R_EXEC / 2]);
    }
    if (i->sdwa && (o->sel != SEL_DWORD || o->sext)) sdwa_pick(d, d, o->sel, o->sext);
    if (t == T_mix) {
        mix_source(w, d, i, k);
        return;
    }
    if (t == T_p16f || t == T_p16i || t == T_p16u) pack_halves(d, i, k);
    else if (t == T_q32) pack_words(d, i, k);
    else if (is_half(t) && !i->sdwa && i->op_sel >> k & 1) EACH_LANE d[l] >>= 16;
    if (o->abs || o->neg) signs(d, t, o->abs, o->neg);
    if (flushes(w, t, true)) flush(d, t);
}

/* --- after: the destination ------------------------------------------------------------------------------------------------ */

INLINED float scale_of(int omod) { return omod == 1 ? 2 : omod == 2 ? 4 : omod == 3 ? 0.5f : 1; }

/* omod is ignored in IEEE mode, and where denormals are on; clamp keeps [0, 1] and turns NaN into 0. */
INLINED void finish_value(const Wave *w, const Inst *i, uint32_t *d) {
    Type t = i->op->dt;
    bool omod = i->omod && !(w->mode & MODE_IEEE);
    float k = scale_of(omod ? i->omod : 0);
    if (flushes(w, t, false)) flush(d, t);
    if (t == T_f32 && omod && flushes(w, t, false)) EACH_LANE d[l] = bits_of_f32(f32_of_bits(d[l]) * k);
    if (t == T_f64 && omod && flushes(w, t, false))
        EACH_LANE {
            uint64_t u = bits_of_f64(f64_of_bits((uint64_t)d[l] | (uint64_t)d[LANES + l] << 32) * (double)k);
            d[l] = (uint32_t)u, d[LANES + l] = (uint32_t)(u >> 32);
        }
    if (!i->clamp) return;
    if (t == T_f32 || t == T_q32)
        for (int l = 0; l < (t == T_q32 ? 2 * LANES : LANES); l++) {
            float f = f32_of_bits(d[l]);
            d[l] = f > 0 ? f > 1 ? 0x3f800000 : d[l] : 0;
        }
    if (t == T_f64)
        EACH_LANE {
            double f = f64_of_bits((uint64_t)d[l] | (uint64_t)d[LANES + l] << 32);
            if (!(f > 0)) d[l] = d[LANES + l] = 0;
            if (f > 1) d[l] = 0, d[LANES + l] = 0x3ff00000;
        }
    if (t == T_f16 || t == T_p16f)
        EACH_LANE {
            uint32_t r = 0;
            for (int h = 0; h < (t == T_p16f ? 32 : 16); h += 16) {
                uint32_t u = d[l] >> h & 0xffff;
                float f = f32_of_f16((uint16_t)u);
                r |= (f > 0 ? f > 1 ? 0x3c00 : u : 0) << h;
            }
            d[l] = r;
        }
}

/* Where the result lands in the destination: a part of it (SDWA), a half (op_sel). */
INLINED void finish_place(const Inst *i, uint32_t *d, const uint32_t *old) {
    static const uint8_t at[] = {0, 8, 16, 24, 0, 16, 0}, width[] = {8, 8, 8, 8, 16, 16, 32};
    bool hi = i->op_sel >> 3 & 1 || !strcmp(i->op->name, "v_fma_mixhi_f16");
    bool half = is_half(i->op->dt);
    if (i->sdwa && i->dst_sel != SEL_DWORD) {
        uint32_t up = at[i->dst_sel], n = width[i->dst_sel], mask = (n == 8 ? 0xffu : 0xffffu) << up;
        EACH_LANE {
            uint32_t v = d[l] << up & mask;
            if (i->dst_unused == 2) v |= old[l] & ~mask;
            if (i->dst_unused == 1 && v >> (up + n - 1) & 1 && up + n < 32) v |= ~0u << (up + n);
            d[l] = v;
        }
    } else if (half && hi) EACH_LANE d[l] = (old[l] & 0xffff) | d[l] << 16;
    else if (half && i->op->flags & OP_KEEP_HALF) EACH_LANE d[l] = (old[l] & 0xffff0000) | (d[l] & 0xffff);
}

/* --- running one -------------------------------------------------------------------------------------------------------------- */

INLINED int dst_dwords(const Inst *i) {
    Type t = i->op->dt;
    return t == T_u64 || t == T_i64 || t == T_f64 || t == T_q32 ? 2 : 1;
}

/* MODE's rounding, around the host's arithmetic; rarely anything but to nearest. */
INLINED void call_lane(const Wave *w, const Inst *i, Lanes *x) {
    static const int host[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    int round = i->floats & FK_F32 ? (int)(w->mode & MODE_ROUND_32) : i->floats & FK_F64 ? (int)(w->mode >> 2 & 3) : 0;
    if (round) fesetround(host[round]);
    i->lane(x);
    if (round) fesetround(FE_TONEAREST);
}

/* gpr_idx mode: M0's low byte is added to the register numbers of the chosen operands. */
static void move_operand(Wave *w, const Inst *i, Operand *o) {
    uint32_t at = o->reg + (w->s[R_M0] & 255);
    if (at + o->dwords > R_VGPRS) wave_fault(w, i, -1, "indexes register %u: there is none", at);
    o->reg = (uint16_t)at;
}

static Inst indexed(Wave *w, const Inst *i) {
    Inst j = *i;
    for (int k = 0; k < 3; k++)
        if (w->gpr_idx >> k & 1 && j.s[k].where == W_VGPR) move_operand(w, i, &j.s[k]);
    if (w->gpr_idx >> 3 & 1 && j.d.where == W_VGPR) move_operand(w, i, &j.d);
    return j;
}

static const Inst *maybe_indexed(Wave *w, const Inst *i, Inst *moved) {
    if (!(w->special & FK_INDEX)) return i;
    *moved = indexed(w, i);
    return moved;
}

INLINED void set_mask(Wave *w, const Operand *o, uint64_t bits, uint64_t active) {
    w->s64[o->reg / 2] = bits & active;
}

INLINED void vector_slow(Wave *w, const Inst *i) {
    Inst moved;
    i = maybe_indexed(w, i, &moved);
    Rows src[3], out;
    uint64_t active = i->dpp ? dpp_lanes(i->dpp, EXEC) : EXEC;
    int n = dst_dwords(i);
    Lanes x = {.d = out, .sat = i->clamp, .ieee = w->mode & MODE_IEEE};
    for (int k = 0; k < i->nsrc; k++) prepare(w, i, k, src[k]), x.s[k] = src[k];
    x.in = i->op->flags & OP_VCC_IN ? VCC : i->op->flags & OP_CARRY_IN ? w->s64[i->s[3].reg / 2] : 0;
    call_lane(w, i, &x);
    finish_value(w, i, out);
    uint32_t *d = V(w, i->d.reg);
    finish_place(i, out, d);
    for (int k = 0; k < n; k++) merge(d + k * LANES, out + k * LANES, active);
    if (i->op->flags & OP_CARRY_OUT) set_mask(w, &i->mask, x.out, active);
}

INLINED uint64_t carry_in(const Wave *w, const Inst *i) {
    if (!(i->op->flags & (OP_VCC_IN | OP_CARRY_IN))) return 0;
    return i->op->flags & OP_VCC_IN ? VCC : scalar64(w, &i->s[3]);
}

INLINED void vector(Wave *w, const Inst *i) {
    if (!i->plain || i->floats & w->special) {
        vector_slow(w, i);
        return;
    }
    Rows tmp[3], out;
    uint64_t exec = EXEC;
    uint32_t *d = V(w, i->d.reg);
    Lanes x = {.d = ~exec ? out : d, .in = carry_in(w, i), .ieee = w->mode & MODE_IEEE};
    for (int k = 0; k < i->nsrc; k++) x.s[k] = source_rows(w, &i->s[k], tmp[k]);
    i->lane(&x);
    if (~exec) {
        merge(d, out, exec);
        if (dst_dwords(i) == 2) merge(d + LANES, out + LANES, exec);
    }
    if (i->op->flags & OP_CARRY_OUT) set_mask(w, &i->mask, x.out, exec);
}

BEST(run_vector, vector)

INLINED void compare(Wave *w, const Inst *i) {
    Inst moved;
    Rows tmp[2];
    Lanes x = {0};
    uint64_t active = EXEC;
    if (!i->plain || i->floats & w->special) {
        i = maybe_indexed(w, i, &moved);
        for (int k = 0; k < 2; k++) prepare(w, i, k, tmp[k]), x.s[k] = tmp[k];
        if (i->dpp) active = dpp_lanes(i->dpp, EXEC);
    } else {
        for (int k = 0; k < 2; k++) x.s[k] = source_rows(w, &i->s[k], tmp[k]);
    }
    i->lane(&x);
    set_mask(w, &i->mask, x.out, active);
    if (i->op->flags & OP_EXEC) EXEC = x.out & active;
}
BEST(run_compare, compare)

/* --- hand-written -------------------------------------------------------------------------------------------------------------- */

void run_vx_nop(Wave *w, const Inst *i) { (void)w, (void)i; }

INLINED void cndmask(Wave *w, const Inst *i) {
    Inst moved;
    i = maybe_indexed(w, i, &moved);
    Rows tmp[2], out;
    const uint32_t *s[2];
    uint64_t active = EXEC, pick = scalar64(w, &i->s[3]);
    for (int k = 0; k < 2; k++) {
        s[k] = tmp[k];
        if (i->plain) s[k] = source_rows(w, &i->s[k], tmp[k]);
        else prepare(w, i, k, tmp[k]);
    }
    memcpy(out, s[0], LANES * 4);
    merge(out, s[1], pick);
    if (i->dpp) active = dpp_lanes(i->dpp, EXEC);
    if (i->sdwa) finish_place(i, out, V(w, i->d.reg));
    merge(V(w, i->d.reg), out, active);
}
BEST(run_vx_cndmask, cndmask)

INLINED void pk_mov(Wave *w, const Inst *i) {
    Inst moved;
    i = maybe_indexed(w, i, &moved);
    Rows tmp[2], out;
    for (int k = 0; k < 2; k++) {
        const uint32_t *s = source_rows(w, &i->s[k], tmp[k]);
        /* the low half of the result comes from source 0, the high half from source 1 */
        int hi = k == 0 ? i->op_sel & 1 : i->op_sel >> 1 & 1;
        memcpy(out + k * LANES, s + hi * LANES, LANES * 4);
    }
    for (int k = 0; k < 2; k++) merge(V(w, i->d.reg + k), out + k * LANES, EXEC);
}
BEST(run_vx_pk_mov, pk_mov)

static uint32_t one_lane(const Wave *w, const Operand *o, int lane) {
    return o->where == W_VGPR ? V(w, o->reg)[lane] : scalar32(w, o);
}

void run_vx_readfirstlane(Wave *w, const Inst *i) {
    Inst moved;
    i = maybe_indexed(w, i, &moved);
    int lane = EXEC ? __builtin_ctzll(EXEC) : 0;
    w->s[i->d.reg] = one_lane(w, &i->s[0], lane);
}

void run_vx_readlane(Wave *w, const Inst *i) { w->s[i->d.reg] = one_lane(w, &i->s[0], (int)(scalar32(w, &i->s[1]) & 63)); }
void run_vx_writelane(Wave *w, const Inst *i) { V(w, i->d.reg)[scalar32(w, &i->s[1]) & 63] = scalar32(w, &i->s[0]); }

void run_vx_swap(Wave *w, const Inst *i) {
    uint32_t *a = V(w, i->d.reg), *b = V(w, i->s[0].reg);
    Rows t;
    memcpy(t, a, LANES * 4);
    merge(a, b, EXEC);
    merge(b, t, EXEC);
}

INLINED void mbcnt(Wave *w, const Inst *i, bool high) {
    Rows tmp[2], out;
    const uint32_t *m = source_rows(w, &i->s[0], tmp[0]), *add = source_rows(w, &i->s[1], tmp[1]);
    EACH_LANE {
        uint32_t below = high ? (l < 32 ? 0 : (1u << (l - 32)) - 1) : (l < 32 ? (1u << l) - 1 : ~0u);
        out[l] = (uint32_t)__builtin_popcount(m[l] & below) + add[l];
    }
    merge(V(w, i->d.reg), out, EXEC);
}
INLINED void mbcnt_lo(Wave *w, const Inst *i) { mbcnt(w, i, false); }
INLINED void mbcnt_hi(Wave *w, const Inst *i) { mbcnt(w, i, true); }
BEST(run_vx_mbcnt_lo, mbcnt_lo)
BEST(run_vx_mbcnt_hi, mbcnt_hi)

/* MODE decides which operations may take the fast path. */
void wave_modes(Wave *w) {
    bool f32_plain = (w->mode & (MODE_ROUND_32 | MODE_IN_32 | MODE_OUT_32)) == (MODE_IN_32 | MODE_OUT_32);
    bool f64_plain = (w->mode & (MODE_ROUND_64 | MODE_IN_64 | MODE_OUT_64)) == (MODE_IN_64 | MODE_OUT_64);
    w->special = (uint8_t)((f32_plain ? 0 : FK_F32) | (f64_plain ? 0 : FK_F64) | (w->gpr_idx ? FK_INDEX : 0));
}

/* --- what the lane functions call ------------------------------------------------------------------------------------------------ */

/* 53 bits of 2/pi, for Payne-Hanek reduction: segment n starts 53 n bits below the point (later for large arguments). */
double trig_preop(double a, uint32_t segment) {
    static const uint64_t two_over_pi[] = {
        0xa2f9836e4e441529ull, 0xfc2757d1f534ddc0ull, 0xdb6295993c439041ull, 0xfe5163abdebbc561ull, 0xb7246e3a424dd2e0ull,
        0x06492eea09d1921cull, 0xfe1deb1cb129a73eull, 0xe88235f52ebb4484ull, 0xe99c7026b45f7e41ull, 0x3991d639835339f4ull,
        0x9c845f8bbdf9283bull, 0x1ff897ffde05980full, 0xef2f118b5a0a6d1full, 0x6d367ecf27cb09b7ull, 0x4f463f669e5fea2dull,
        0x7527bac7ebe5f17bull, 0x3d0739f78a5292eaull, 0x6bfb5fb11f8d5d08ull, 0x56033046fc7b6babull, 0xf0cfbc209af4361dull};
    int e = f64_exponent(a), shift = (int)(segment & 31) * 53 + (e > 1077 ? e - 1077 : 0);
    uint64_t bits = 0;
    for (int k = 0; k < 53; k++) {
        int at = shift + k;
        uint64_t bit = at < 1201 ? two_over_pi[at / 64] >> (63 - at % 64) & 1 : 0;
        bits = bits << 1 | bit;
    }
    return ldexp((double)bits, -53 - shift + (e >= 1968 ? 128 : 0));
}

float cube(int what, float x, float y, float z) {
    float ax = fabsf(x), ay = fabsf(y), az = fabsf(z);
    int axis = az >= ax && az >= ay ? 2 : ay >= ax ? 1 : 0;
    float major = axis == 2 ? z : axis == 1 ? y : x;
    const float face[3][4] = {
        {major < 0 ? 1 : 0, major < 0 ? z : -z, -y, 2 * x},
        {major < 0 ? 3 : 2, x, major < 0 ? -z : z, 2 * y},
        {major < 0 ? 5 : 4, major < 0 ? -x : x, -y, 2 * z},
    };
    return face[axis][what];
}
