/* lanemath.h - what isa.def's expressions call: one lane's arithmetic, as the "Vega" and "MI200" ISA manuals define it.
 *
 * Host arithmetic must not flush subnormals and must not contract a * b + c (-ffp-contract=off): the MODE register's
 * denormal and rounding bits are applied around these functions, in vector.c. */
#ifndef GPTOSS_EMU_LANEMATH_H
#define GPTOSS_EMU_LANEMATH_H

#include <math.h>

#include "wave.h"

#define FMAF(a, b, c) __builtin_fmaf((a), (b), (c))
#define FMA(a, b, c) __builtin_fma((a), (b), (c))

static inline uint64_t bits_of_f64(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }
static inline double f64_of_bits(uint64_t u) { double d; memcpy(&d, &u, 8); return d; }

/* v_rcp_f64, v_rsq_f64 and v_sqrt_f64 are good to 2^29 ulp only ("precision is (2**29) ULP"): code must refine them. Their
 * results are given with 25 significant bits, so that code which does not shows here too. */
static inline double f64_coarse(double d) {
    uint64_t u = bits_of_f64(d);
    return (u >> 52 & 0x7ff) == 0x7ff ? d : f64_of_bits((u + (1ull << 27)) & ~((1ull << 28) - 1));
}

/* --- f16 --------------------------------------------------------------------------------------------------------- */

static inline float f32_of_f16(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    float f = f32_of_bits(u) * 0x1p112f; /* exact, and right for subnormals */
    u = bits_of_f32(f);
    u = (h & 0x7c00) == 0x7c00 ? u | 0x7f800000 : u;
    return f32_of_bits(u | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t f16_of_f32(float f) {
    uint32_t u = bits_of_f32(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    uint32_t normal = (u + 0xc8000fffu + (u >> 13 & 1)) >> 13;
    uint32_t tiny = bits_of_f32(f32_of_bits(u < 0x38800000 ? u : 0) + 0.5f) - 0x3f000000; /* 0.5's ulp is 2^-24 */
    uint32_t r = u < 0x38800000 ? tiny : normal;
    r = u >= 0x477ff000 ? 0x7c00 : r;
    r = u > 0x7f800000 ? 0x7e00 | (u >> 13 & 0x3ff) : r;
    return (uint16_t)(r | sign);
}

static inline float f16_round(float f) { return f32_of_f16(f16_of_f32(f)); }

/* f64 to f32, rounded to odd: a second rounding to f16 is then right. */
static inline float f32_odd(double d) {
    float f = (float)d;
    uint32_t u = bits_of_f32(f);
    bool inexact = (double)f != d && d == d;
    u -= inexact && fabs((double)f) > fabs(d);
    return f32_of_bits(u | (inexact ? 1 : 0));
}

static inline float f16_fma(float a, float b, float c) { return f32_odd(FMA((double)a, (double)b, (double)c)); }

static inline uint16_t f16_toward_zero(float f) {
    uint32_t u = bits_of_f32(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    uint32_t r = (u - 0x38000000) >> 13;
    if (u < 0x38800000) r = (uint32_t)(f32_of_bits(u) * 0x1p24f);
    if (u >= 0x47800000) r = 0x7bff; /* the largest finite */
    if (u == 0x7f800000) r = 0x7c00;
    if (u > 0x7f800000) r = 0x7e00 | (u >> 13 & 0x3ff);
    return (uint16_t)(r | sign);
}

static inline uint32_t pk_add_f16(uint32_t m, uint32_t v) {
    uint32_t lo = f16_of_f32(f32_of_f16((uint16_t)m) + f32_of_f16((uint16_t)v));
    uint32_t hi = f16_of_f32(f32_of_f16((uint16_t)(m >> 16)) + f32_of_f16((uint16_t)(v >> 16)));
    return lo | hi << 16;
}

/* --- minimum and maximum: IEEE mode quiets a signalling NaN and returns it; otherwise a number beats a NaN -------- */

static inline bool f32_snan(float f) { return (bits_of_f32(f) & 0x7fc00000) == 0x7f800000 && f != f; }
static inline float f32_quiet(float f) { return f32_of_bits(bits_of_f32(f) | 0x400000); }
static inline bool f64_snan(double f) { return (bits_of_f64(f) >> 51 & 0xfff) == 0xffe && f != f; }
static inline double f64_quiet(double f) { return f64_of_bits(bits_of_f64(f) | 1ull << 51); }

static inline float f32_min(float a, float b, bool ieee) {
    bool less = (a < b) | ((a == b) & (bits_of_f32(a) >> 31));
    float r = less ? a : b;
    r = b != b ? a : r;
    if (ieee) {
        r = f32_snan(b) ? f32_quiet(b) : r;
        r = f32_snan(a) ? f32_quiet(a) : r;
    }
    return r;
}

static inline float f32_max(float a, float b, bool ieee) {
    bool more = (a > b) | ((a == b) & !(bits_of_f32(a) >> 31));
    float r = more ? a : b;
    r = b != b ? a : r;
    if (ieee) {
        r = f32_snan(b) ? f32_quiet(b) : r;
        r = f32_snan(a) ? f32_quiet(a) : r;
    }
    return r;
}

static inline double f64_min(double a, double b, bool ieee) {
    if (ieee && f64_snan(a)) return f64_quiet(a);
    if (ieee && f64_snan(b)) return f64_quiet(b);
    if (b != b) return a;
    return a < b || (a == b && signbit(a)) ? a : b;
}

static inline double f64_max(double a, double b, bool ieee) {
    if (ieee && f64_snan(a)) return f64_quiet(a);
    if (ieee && f64_snan(b)) return f64_quiet(b);
    if (b != b) return a;
    return a > b || (a == b && !signbit(a)) ? a : b;
}

static inline float f32_med3(float a, float b, float c, bool ieee) {
    if (a != a || b != b || c != c) return f32_min(f32_min(a, b, ieee), c, ieee);
    float top = f32_max(f32_max(a, b, 0), c, 0);
    if (top == a) return f32_max(b, c, 0);
    if (top == b) return f32_max(a, c, 0);
    return f32_max(a, b, 0);
}

#define min3(a, b, c) ((a) < (b) ? (a) < (c) ? (a) : (c) : (b) < (c) ? (b) : (c))
#define max3(a, b, c) ((a) > (b) ? (a) > (c) ? (a) : (c) : (b) > (c) ? (b) : (c))
#define med3(a, b, c) ((a) < (b) ? (b) < (c) ? (b) : (a) < (c) ? (c) : (a) : (a) < (c) ? (a) : (b) < (c) ? (c) : (b))

/* --- f32 and f64 ------------------------------------------------------------------------------------------------- */

/* Subnormal to zero of the same sign: v_exp, v_log, v_rcp, v_mad … do not handle subnormals whatever MODE says. */
static inline float f32_flush(float f) {
    uint32_t u = bits_of_f32(f);
    return f32_of_bits(u & 0x7f800000 ? u : u & 0x80000000);
}

static inline float f32_mad(float a, float b, float c) {
    return f32_flush(f32_flush(f32_flush(a) * f32_flush(b)) + f32_flush(c));
}

static inline float f32_fract(float a) {
    float r = a - floorf(a);
    return r >= 1 ? 0x1.fffffep-1f : r;
}
static inline double f64_fract(double a) {
    double r = a - floor(a);
    return r >= 1 ? 0x1.fffffffffffffp-1 : r;
}
static inline float f16_fract(float a) {
    float r = a - floorf(a);
    return r > 0x1.ffcp-1f ? 0x1.ffcp-1f : r;
}

/* Sources in revolutions; outside [-256, 256] the hardware returns sin 0, cos 1. */
static inline float f32_sin(float a) {
    if (!(fabsf(a) <= 256)) return isfinite(a) ? 0 : NAN;
    double t = (double)a - rint((double)a); /* exact, so multiples of a half give exact zeros */
    return fabs(t) == 0.5 ? 0 : (float)sin(t * 6.283185307179586476925286766559);
}
static inline float f32_cos(float a) {
    if (!(fabsf(a) <= 256)) return isfinite(a) ? 1 : NAN;
    double t = (double)a - rint((double)a);
    return fabs(t) == 0.25 ? 0 : (float)cos(t * 6.283185307179586476925286766559);
}

static inline int32_t frexp_exp(double a) {
    int e = 0;
    if (isfinite(a)) frexp(a, &e);
    return e;
}
static inline double frexp_mant(double a) {
    int e;
    return isfinite(a) ? frexp(a, &e) : a;
}

static inline int f32_exponent(float f) { return (int)(bits_of_f32(f) >> 23 & 255); }
static inline int f64_exponent(double f) { return (int)(bits_of_f64(f) >> 52 & 2047); }
static inline bool f32_tiny(double d) { return d != 0 && fabs(d) < 0x1p-126; }
static inline bool f64_tiny(double d) { return d != 0 && fabs(d) < 0x1p-1022; }

/* Step 1 of a division: scale s0 (the denominator s1 or the numerator s2) out of the way of overflow and subnormals. */
static inline float f32_div_scale(float s0, float den, float num, int *vcc) {
    if (num == 0 || den == 0) return NAN;
    if (f32_exponent(num) - f32_exponent(den) >= 96) return *vcc = 1, s0 == den ? s0 * 0x1p64f : s0;
    if (f32_tiny((double)den)) return s0 * 0x1p64f;
    bool inverse = f32_tiny(1.0 / (double)den), quotient = f32_tiny((double)num / (double)den);
    if (inverse && quotient) return *vcc = 1, s0 == den ? s0 * 0x1p64f : s0;
    if (inverse) return s0 * 0x1p-64f;
    if (quotient) return *vcc = 1, s0 == num ? s0 * 0x1p64f : s0;
    return f32_exponent(num) <= 23 ? s0 * 0x1p64f : s0;
}

static inline double f64_div_scale(double s0, double den, double num, int *vcc) {
    if (num == 0 || den == 0) return NAN;
    if (f64_exponent(num) - f64_exponent(den) >= 768) return *vcc = 1, s0 == den ? s0 * 0x1p128 : s0;
    if (f64_tiny(den)) return s0 * 0x1p128;
    bool inverse = f64_tiny(1.0 / den), quotient = f64_tiny(num / den);
    if (inverse && quotient) return *vcc = 1, s0 == den ? s0 * 0x1p128 : s0;
    if (inverse) return s0 * 0x1p-128;
    if (quotient) return *vcc = 1, s0 == num ? s0 * 0x1p128 : s0;
    return f64_exponent(num) <= 53 ? s0 * 0x1p128 : s0;
}

static inline float f32_div_fmas(float a, float b, float c, uint32_t vcc) {
    float r = FMAF(a, b, c);
    return vcc ? r * (f32_exponent(c) > 127 ? 0x1p64f : 0x1p-64f) : r;
}

static inline double f64_div_fmas(double a, double b, double c, uint32_t vcc) {
    double r = FMA(a, b, c);
    return vcc ? r * (f64_exponent(c) > 1023 ? 0x1p128 : 0x1p-128) : r;
}

static inline float f32_div_fixup(float q, float den, float num) {
    uint32_t sign = (bits_of_f32(den) ^ bits_of_f32(num)) & 0x80000000;
    if (num != num) return f32_quiet(num);
    if (den != den) return f32_quiet(den);
    if ((den == 0 && num == 0) || (isinf(den) && isinf(num))) return f32_of_bits(0xffc00000);
    if (den == 0 || isinf(num)) return f32_of_bits(sign | 0x7f800000);
    if (isinf(den) || num == 0) return f32_of_bits(sign);
    if (f32_exponent(num) - f32_exponent(den) < -150) return f32_of_bits(sign);
    return f32_of_bits(sign | (bits_of_f32(q) & 0x7fffffff));
}

static inline double f64_div_fixup(double q, double den, double num) {
    uint64_t sign = (bits_of_f64(den) ^ bits_of_f64(num)) & 1ull << 63;
    if (num != num) return f64_quiet(num);
    if (den != den) return f64_quiet(den);
    if ((den == 0 && num == 0) || (isinf(den) && isinf(num))) return f64_of_bits(0xfffull << 52 | 1ull << 51);
    if (den == 0 || isinf(num)) return f64_of_bits(sign | 0x7ffull << 52);
    if (isinf(den) || num == 0) return f64_of_bits(sign);
    if (f64_exponent(num) - f64_exponent(den) < -1075) return f64_of_bits(sign);
    return f64_of_bits(sign | (bits_of_f64(q) & ~(1ull << 63)));
}

double trig_preop(double a, uint32_t segment); /* 53 bits of 2/pi, for an argument's reduction */
float cube(int what, float x, float y, float z); /* 0 face, 1 s, 2 t, 3 major axis */

/* --- float to integer: out of range saturates, NaN is 0 ---------------------------------------------------------- */

static inline int32_t i32_of(double a) {
    return a != a ? 0 : a >= 2147483647.0 ? INT32_MAX : a <= -2147483648.0 ? INT32_MIN : (int32_t)a;
}
static inline uint32_t u32_of(double a) {
    return !(a > 0) ? 0 : a >= 4294967295.0 ? UINT32_MAX : (uint32_t)a;
}
static inline int32_t clamp_int(float a, int32_t lo, int32_t hi) {
    return a != a ? 0 : a <= (float)lo ? lo : a >= (float)hi ? hi : (int32_t)a;
}
static inline int16_t snorm16(float a) { return (int16_t)clamp_int(rintf(fminf(fmaxf(a, -1), 1) * 32767), -32767, 32767); }
static inline uint16_t unorm16(float a) { return (uint16_t)clamp_int(rintf(fminf(fmaxf(a, 0), 1) * 65535), 0, 65535); }

/* --- integers ---------------------------------------------------------------------------------------------------- */

static inline int16_t sat_i16(int32_t a) { return (int16_t)(a > 32767 ? 32767 : a < -32768 ? -32768 : a); }
static inline int32_t sat_i32(int64_t a) { return (int32_t)(a > INT32_MAX ? INT32_MAX : a < INT32_MIN ? INT32_MIN : a); }
static inline uint32_t sat_u32(uint64_t a) { return a > UINT32_MAX ? UINT32_MAX : (uint32_t)a; }
static inline uint8_t sat_u8(int16_t a) { return (uint8_t)(a < 0 ? 0 : a > 255 ? 255 : a); }
static inline int32_t i24(uint32_t a) { return (int32_t)(a << 8) >> 8; }
static inline uint32_t u24(uint32_t a) { return a & 0xffffff; }
static inline uint32_t absdiff(uint32_t a, uint32_t b) { return a > b ? a - b : b - a; }

static inline uint32_t bit_reverse(uint32_t a) {
    a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
    a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
    a = (a >> 4 & 0x0f0f0f0f) | (a & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(a);
}

/* How many bits from the top equal the sign bit; -1 when all do. */
static inline uint32_t sign_run(uint32_t a) {
    uint32_t x = a ^ (a >> 31 ? ~0u : 0);
    return x ? (uint32_t)__builtin_clz(x) : ~0u;
}
static inline uint32_t sign_run64(uint64_t a) {
    uint64_t x = a ^ (a >> 63 ? ~0ull : 0);
    return x ? (uint32_t)__builtin_clzll(x) : ~0u;
}

static inline uint32_t bfe_i32(uint32_t a, uint32_t at, uint32_t width) {
    if (!width) return 0;
    if (at + width >= 32) return (uint32_t)((int32_t)a >> at);
    return (uint32_t)((int32_t)(a << (32 - at - width)) >> (32 - width));
}
static inline uint64_t bfe_u64(uint64_t a, uint32_t at, uint32_t width) {
    return width == 0 ? 0 : width >= 64 ? a >> at : a >> at & ((1ull << width) - 1);
}
static inline int64_t bfe_i64(int64_t a, uint32_t at, uint32_t width, uint32_t size) {
    if (!width) return 0;
    if (at + width >= size) return a >> at;
    return (int64_t)((uint64_t)a << (64 - at - width)) >> (64 - width);
}

static inline uint32_t put_byte(uint32_t c, uint32_t which, uint32_t byte) {
    uint32_t at = (which & 3) * 8;
    return (c & ~(255u << at)) | byte << at;
}

static inline uint32_t lerp_u8(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r = 0;
    for (int i = 0; i < 32; i += 8) r |= (((a >> i & 255) + (b >> i & 255) + (c >> i & 1)) >> 1) << i;
    return r;
}

static inline uint32_t sad_u8(uint32_t a, uint32_t b, bool masked) { /* masked: bytes where b is 0 do not count */
    uint32_t r = 0;
    for (int i = 0; i < 32; i += 8)
        if (!masked || (b >> i & 255)) r += absdiff(a >> i & 255, b >> i & 255);
    return r;
}

static inline uint64_t qsad(uint64_t a, uint32_t b, uint64_t c, bool masked) {
    uint64_t r = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t sum = sad_u8((uint32_t)(a >> 8 * i), b, masked) + (uint32_t)(c >> 16 * i & 0xffff);
        r |= (uint64_t)(sum & 0xffff) << 16 * i;
    }
    return r;
}

/* Each byte of c chooses a byte of {a, b}: 0-3 of b, 4-7 of a, 8-11 a sign, 12 zero, above 0xff. */
/* Each byte of c picks: below 8 a byte of a and b, below 12 the sign of a half of them, then 0, then 255. In masks, for with branches
 * lanes would not go side by side. */
static inline uint32_t perm(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r = 0;
    for (int i = 0; i < 32; i += 8) {
        uint32_t sel = c >> i & 255, a_byte = -(sel >> 2 & 1), a_sign = -(sel >> 1 & 1);
        uint32_t byte = ((a & a_byte) | (b & ~a_byte)) >> 8 * (sel & 3) & 255;
        uint32_t sign = -(((a & a_sign) | (b & ~a_sign)) >> (15 + 16 * (sel & 1)) & 1);
        uint32_t is_byte = -(uint32_t)(sel < 8), is_sign = -(uint32_t)(sel < 12), is_ones = -(uint32_t)(sel > 12);
        r |= ((byte & is_byte) | (sign & is_sign & ~is_byte & 255) | (is_ones & 255)) << i;
    }
    return r;
}

static inline int mad_i64_overflow(int32_t a, int32_t b, int64_t c) {
    int64_t r;
    return __builtin_add_overflow((int64_t)a * b, c, &r);
}

static inline float dot2_f16(uint32_t a, uint32_t b, float c) {
    float r = FMAF(f32_of_f16((uint16_t)a), f32_of_f16((uint16_t)b), c);
    return FMAF(f32_of_f16((uint16_t)(a >> 16)), f32_of_f16((uint16_t)(b >> 16)), r);
}
static inline uint32_t dot_i(uint32_t a, uint32_t b, uint32_t c, uint32_t bits, bool sat) {
    int64_t r = (int32_t)c;
    for (uint32_t i = 0; i < 32; i += bits)
        r += (int64_t)((int32_t)(a << (32 - bits - i)) >> (32 - bits)) * ((int32_t)(b << (32 - bits - i)) >> (32 - bits));
    return sat ? (uint32_t)sat_i32(r) : (uint32_t)(uint64_t)r;
}
static inline uint32_t dot_u(uint32_t a, uint32_t b, uint32_t c, uint32_t bits, bool sat) {
    uint64_t r = c;
    for (uint32_t i = 0; i < 32; i += bits)
        r += (uint64_t)(a << (32 - bits - i) >> (32 - bits)) * (b << (32 - bits - i) >> (32 - bits));
    return sat ? sat_u32(r) : (uint32_t)r;
}

static inline uint64_t wqm(uint64_t a) {
    uint64_t q = (a | a >> 1 | a >> 2 | a >> 3) & 0x1111111111111111;
    return q * 15;
}
static inline uint64_t quadmask(uint64_t a) {
    uint64_t r = 0;
    for (int i = 0; i < 16; i++) r |= (uint64_t)((a >> 4 * i & 15) != 0) << i;
    return r;
}
static inline uint64_t bit_replicate(uint32_t a) {
    uint64_t r = 0;
    for (int i = 0; i < 32; i++) r |= (uint64_t)(a >> i & 1) * 3 << 2 * i;
    return r;
}

/* --- v_cmp_class: one bit for each kind of number ---------------------------------------------------------------- */

enum { CLASS_SNAN = 1, CLASS_QNAN = 2, CLASS_NEG_INF = 4, CLASS_POS_INF = 512 };
static inline uint32_t class_of(bool neg, bool zero, bool sub, bool inf, bool nan, bool quiet) {
    if (nan) return quiet ? CLASS_QNAN : CLASS_SNAN;
    int at = zero ? 5 : sub ? 4 : inf ? 2 : 3; /* of the negative ones; the positive mirror them: 6, 7, 9, 8 */
    return 1u << (neg ? at : 11 - at);
}
static inline uint32_t class_f16(uint16_t a) {
    uint32_t e = a >> 10 & 31, m = a & 0x3ff;
    return class_of(a >> 15, !e && !m, !e && m, e == 31 && !m, e == 31 && m, m >> 9);
}
static inline uint32_t class_f32(uint32_t a) {
    uint32_t e = a >> 23 & 255, m = a & 0x7fffff;
    return class_of(a >> 31, !e && !m, !e && m, e == 255 && !m, e == 255 && m, m >> 22);
}
static inline uint32_t class_f64(uint64_t a) {
    uint64_t e = a >> 52 & 2047, m = a & 0xfffffffffffff;
    return class_of(a >> 63, !e && !m, !e && m, e == 2047 && !m, e == 2047 && m, m >> 51);
}

#endif
