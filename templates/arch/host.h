// host.h - the dialect that templates/host/*.c are written in: GNU C11 for gcc and clang on any CPU. What the CPU has is seen by
// the compiler's own macros (rtc_host.c gives the flags): AMX, AVX-512, AVX2, else plain vectors of 16 bytes.
//
// A kernel is  run(a, x, y, room): block (x, y) of its grid, on one thread; blocks run in any order and share nothing. `room` is
// the thread's own memory, kept from block to block: what a block makes of its inputs, the next of the same y need not make
// again (room_fresh). The struct is also in runtime/device/dev_host.c.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define INDEPENDENT _Pragma("GCC ivdep") // before a loop: what one round stores no other loads, so several may be done at once

typedef uint16_t bf16; // bits of a bfloat16
typedef uint8_t mxfp4; // 16-byte blocks, then scale bytes
typedef unsigned long long u64;
typedef double real; // what a row's statistic is, and computed in

typedef struct Room Room;
struct Room {
    char *at;
    size_t size;
    u64 launch, made; // this launch's number; the launch of what is in the room, 0: none
    int made_y, thread;
    int next[2]; // the block that this thread will run after this one; next[0] < 0: none. For fetching ahead
    void (*grow)(Room *room, size_t size);
};

// n bytes, 64-byte aligned. Larger than before: contents are lost.
DEVICE char *room_of(Room *room, size_t n) {
    if (room->size < n) room->grow(room, n);
    return room->at;
}
// Is y's part of this launch to be made in the room? True once for a run of blocks of one y.
DEVICE bool room_fresh(Room *room, int y) {
    if (room->made == room->launch && room->made_y == y) return false;
    room->made = room->launch;
    room->made_y = y;
    return true;
}

// The first row of weights that this thread's next block wants, `rows` a block; -1: none, or none to fetch.
DEVICE long next_row(const Room *room, int rows) { return room->next[0] < 0 ? -1 : (long)room->next[0] * rows; }
// The same with experts: tiles[y] names the expert, whose rows are N.
DEVICE long next_expert_row(const Room *room, int rows, const int *tiles, int n_tiles, int N) {
    const int y = room->next[1];
    return room->next[0] < 0 || y >= n_tiles || tiles[y * 4 + 2] == 0 ? -1 : (long)tiles[y * 4] * N + (long)room->next[0] * rows;
}

DEVICE int min_int(int a, int b) { return a < b ? a : b; }

// --- element types ---

DEVICE float as_f32(unsigned u) {
    float f;
    __builtin_memcpy(&f, &u, 4);
    return f;
}
DEVICE unsigned as_u32(float f) {
    unsigned u;
    __builtin_memcpy(&u, &f, 4);
    return u;
}
DEVICE float f32_of(bf16 h) { return as_f32((unsigned)h << 16); }
DEVICE bf16 bf16_of(float f) { // nearest even; NaN stays NaN
    const unsigned u = as_u32(f), rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (bf16)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : rounded);
}

// The op cast, by what it casts to.
DEVICE float cast_bf16(float v) { return f32_of(bf16_of(v)); }
DEVICE float cast_f32(float v) { return v; }

DEVICE int load_i32(const int *p, long i) { return p[i]; }
DEVICE float load_f32(const float *p, long i) { return p[i]; }
DEVICE float load_bf16(const bf16 *p, long i) { return f32_of(p[i]); }
DEVICE void store_i32(int *p, long i, int v) { p[i] = v; }
DEVICE void store_f32(float *p, long i, float v) { p[i] = v; }
DEVICE void store_bf16(bf16 *p, long i, float v) { p[i] = bf16_of(v); }
#define load(p, i) \
    _Generic((p), const int *: load_i32, int *: load_i32, const float *: load_f32, float *: load_f32, const bf16 *: load_bf16, bf16 *: load_bf16)(p, i)
#define store(p, i, v) _Generic((p), int *: store_i32, float *: store_f32, bf16 *: store_bf16)(p, i, v)
enum { TYPE_F32, TYPE_BF16, TYPE_MXFP4 };
#define TYPE_OF(p) _Generic((p), const float *: TYPE_F32, const bf16 *: TYPE_BF16, const mxfp4 *: TYPE_MXFP4)

// --- vectors of the CPU's own width ---

#if defined __AVX512F__ && defined __AVX512BW__ && defined __AVX512VL__ && defined __AVX512DQ__
#define WIDE 1
#define VBYTES 64
#elif defined __AVX2__
#define WIDE 0
#define VBYTES 32
#else
#define WIDE 0
#define VBYTES 16
#endif
enum { VF = VBYTES / 4, VD = VBYTES / 8 };
typedef float vf __attribute__((vector_size(VBYTES)));
typedef float vf_any __attribute__((vector_size(VBYTES), aligned(4), may_alias));
typedef float vf_half __attribute__((vector_size(VBYTES / 2), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(VBYTES)));
typedef uint32_t vu_any __attribute__((vector_size(VBYTES), aligned(1), may_alias));
typedef int32_t vi __attribute__((vector_size(VBYTES)));
typedef double vd __attribute__((vector_size(VBYTES)));
typedef uint16_t vh __attribute__((vector_size(VBYTES / 2)));
typedef uint16_t vh_any __attribute__((vector_size(VBYTES / 2), aligned(1), may_alias));
typedef int8_t vb_any __attribute__((vector_size(VF), aligned(1), may_alias));

DEVICE vf vf_load(const float *p) { return *(const vf_any *)p; }
DEVICE void vf_store(float *p, vf v) { *(vf_any *)p = v; }
DEVICE vf vf_all(float f) { return (vf){0} + f; }
DEVICE vf vf_bf16(const bf16 *p) { return (vf)(__builtin_convertvector(*(const vh_any *)p, vu) << 16); }
DEVICE float sum_vf(vf v) { // lanes in halves
    float s[VF];
    vf_store(s, v);
    for (int n = VF / 2; n; n /= 2)
        for (int i = 0; i < n; i++) s[i] += s[i + n];
    return s[0];
}
DEVICE vf max_vf(vf a, vf b) { return (vf)(((vi)a & (a > b)) | ((vi)b & ~(a > b))); }
DEVICE vh round_bf16(vf v) { // not for NaN
    const vu u = (vu)v;
    return __builtin_convertvector((u + 0x7fffu + (u >> 16 & 1u)) >> 16, vh);
}

// a b + c, rounded once where the CPU can.
DEVICE float fma_float(float a, float b, float c) {
#if defined __FMA__ || defined __aarch64__
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// e^x, within 2 units in the last place; 0 below -87.3. 2^n e^r, |r| <= ln 2 / 2, Taylor to r^7. A loop over it becomes vectors.
DEVICE float exp_float(float x) {
    const float low = -87.3f, high = 88.3f, magic = 0x1.8p23f, above = x < low ? low : x, c = above > high ? high : above;
    const float shifted = fma_float(c, 0x1.715476p0f, magic), n = shifted - magic;
    const float r = fma_float(n, -0x1.7f7d1cp-20f, fma_float(n, -0x1.62e4p-1f, c));
    float p = 1 / 5040.f;
    p = fma_float(p, r, 1 / 720.f);
    p = fma_float(p, r, 1 / 120.f);
    p = fma_float(p, r, 1 / 24.f);
    p = fma_float(p, r, 1 / 6.f);
    p = fma_float(p, r, .5f);
    p = fma_float(p, r, 1);
    p = fma_float(p, r, 1);
    return x < low ? 0 : p * as_f32((as_u32(shifted) << 23) + 0x3f800000u);
}
DEVICE vf exp_vf(vf x) {
    float s[VF];
    vf_store(s, x);
    for (int i = 0; i < VF; i++) s[i] = exp_float(s[i]);
    return vf_load(s);
}

// --- what the ops' texts use (CODE in ir/ops.def) ---

// A product of two floats is exact in double: a fused operation would give the same.
DEVICE double add_product(float x, float y, double sum) { return sum + (double)x * (double)y; }
DEVICE double add_square(float x, double sum) { return add_product(x, x, sum); }
DEVICE real rms_scale(real sum, int width, double eps) { return 1 / __builtin_sqrt(sum / width + eps); }
DEVICE float normed(float x, real scale, float g) { return (float)((double)x * scale * (double)g); }

// One coordinate of a pair turned by an angle; in double, rounded once.
DEVICE float rotated(double v, double w, double c, double s) { return (float)(v * c + w * s); }

// min(gate, limit) * sigmoid(alpha * min(gate, limit)) * (clamp(up, -limit, limit) + 1), in double, rounded once; for fast in float.
#if FAST
DEVICE float swiglu(float gate, float up, float limit, float alpha) {
    const float g = gate > limit ? limit : gate, low = up > limit ? limit : up, u = low < -limit ? -limit : low;
    return g / (1 + exp_float(-alpha * g)) * (u + 1);
}
#else
DEVICE float swiglu(float gate, float up, double limit, double alpha) {
    const double g = gate > limit ? limit : (double)gate;
    const double u = up > limit ? limit : up < -limit ? -limit : (double)up;
    return (float)(g / (1 + __builtin_exp(-alpha * g)) * (u + 1));
}
#endif

// --- what kernels share ---

// Sixteen sums into one, lanes in halves.
DEVICE double sum_lanes(double *s) {
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++) s[i] += s[i + n];
    return s[0];
}

// Row t of a contraction's operand x to K floats, or to K bf16, to which it is rounded already.
#define make_x(a, to, t)                                                                   \
    do {                                                                                   \
        const int make_t = t;                                                              \
        const real make_row = X_ROW ? x_stat(x_sum(a, make_t)) : 0;                        \
        INDEPENDENT                                                                        \
        for (int make_k = 0; make_k < K; make_k++) store(to, make_k, x_at(a, make_row, make_t, make_k)); \
    } while (0)

// Row t of a contraction's result, columns n0 … n0 + rows - 1, which are v, to the hook behind it. n0 and rows are multiples of
// UNIT: so many columns are whole groups.
#define give(a, t, n0, rows, v)                                                            \
    do {                                                                                   \
        const int give_t = t, give_from = (n0) / GROUP, give_n = (rows) / GROUP;           \
        INDEPENDENT                                                                        \
        for (int give_j = 0; give_j < give_n; give_j++) {                                  \
            float give_v[GROUP];                                                           \
            for (int give_m = 0; give_m < GROUP; give_m++) give_v[give_m] = (v)[out_row(give_j, give_m)]; \
            out(a, give_t, give_from + give_j, give_v);                                    \
        }                                                                                  \
    } while (0)

// A float as an unsigned number of the same order, and its index: ties to the lower one. nan: NaN's number, 0 below everything, or:
#define NAN_FIRST 0xfffffffeu // above everything: whoever chooses takes it, and what comes of it is NaN
DEVICE u64 ordered(float v, int index, unsigned nan) {
    const unsigned u = as_u32(v + 0.f), key = v != v ? nan : u >> 31 ? ~u : u | 0x80000000u;
    return (u64)key << 32 | (unsigned)~index;
}

// --- rows as floats ---

// One MXFP4 element: 4 bits, and 2^(scale - 127). Exact.
DEVICE float mxfp4_value(unsigned code, unsigned scale) {
    const float v = as_f32((code & 8u) << 28 | (code & 7u) << 22) * 0x1p126f;
    return scale ? v * as_f32(scale << 23) : v * 0x1p-127f;
}

// Row `row` of w, whose rows are K wide, as floats; rows: of the whole tensor, its MXFP4 scales stand behind all blocks.
DEVICE void row_floats(float *to, const void *w, int type, long row, int K, long rows) {
    if (type == TYPE_F32) __builtin_memcpy(to, (const float *)w + row * K, (size_t)K * 4);
    if (type == TYPE_BF16)
        for (int k = 0; k < K; k++) to[k] = f32_of(((const bf16 *)w)[row * K + k]);
    if (type == TYPE_MXFP4)
        for (int c = 0; c < K / 32; c++) {
            const long block = row * (K / 32) + c;
            const mxfp4 *q = (const mxfp4 *)w + block * 16;
            const unsigned scale = ((const mxfp4 *)w)[rows * (K / 2) + block];
            float value[16];
            for (int i = 0; i < 16; i++) value[i] = mxfp4_value((unsigned)i, scale);
            for (int i = 0; i < 16; i++) {
                to[c * 32 + 2 * i] = value[q[i] & 15];
                to[c * 32 + 2 * i + 1] = value[q[i] >> 4];
            }
        }
}

// Sum of x[k] y[k], K a multiple of 16: in double, 16 lanes by k % 16, ascending; then lanes in halves. The same bits on every CPU.
DEVICE double dot_f64(const float *x, const float *y, int K) {
    enum { LANES = 16 };
    vd sum[LANES / VD] = {{0}};
    for (int k = 0; k < K; k += LANES) {
        UNROLL
        for (int i = 0; i < LANES / VD; i++) {
            const vd a = __builtin_convertvector(*(const vf_half *)(x + k + i * VD), vd);
            const vd b = __builtin_convertvector(*(const vf_half *)(y + k + i * VD), vd);
            sum[i] += a * b; // a product of two floats is exact in double: fused or not is the same
        }
    }
    double s[LANES];
    __builtin_memcpy(s, sum, sizeof s);
    return sum_lanes(s);
}
