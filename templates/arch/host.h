// host.h - the dialect that templates/host/*.c are written in: GNU C11 for gcc and clang on any CPU. What the CPU has is seen by
// the compiler's own macros (rtc_host.c gives the flags): AMX, AVX-512, AVX2, else plain vectors of 16 bytes.
//
// A kernel is  run(a, x, y, room): block (x, y) of its grid, on one thread; blocks run in any order and share nothing. `room` is
// the thread's own memory, kept from block to block: what a block makes of its inputs, the next of the same y need not make
// again (room_fresh). The struct is also in runtime/device/dev_host.c.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined __x86_64__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

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
DEVICE vf fma_vf(vf a, vf b, vf c) {
#if WIDE
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined __FMA__ && VBYTES == 32
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined __aarch64__
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
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

// A float as an unsigned number of the same order, and its index: ties to the lower one.
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

// --- fast: 32 rows of weights times up to 64 rows of bf16 activations ---
// sum[r][t] = sum over k ascending of w[r][k] x[t][k] in float. What a sum is does not depend on how many rows and tokens there
// are. The activations are first packed as the multiplier wants them, into a panel.

enum { PANEL = 64, ROWS_AT_ONCE = 32 };

#if WIDE
// A block of 32 MXFP4 codes as bf16, in order: a table of the 16 values times 2^(scale - 127), looked up with each nibble. Bit 4 of
// an index belongs to another nibble, hence 32 entries. One table for each scale, 16 KB in all, few of them hot. Exact for
// 1 < scale <= 252.
static _Alignas(64) uint16_t mxfp4_tables[256][32];
__attribute__((constructor)) static void mxfp4_fill(void) {
    for (unsigned scale = 0; scale < 256; scale++)
        for (unsigned i = 0; i < 32; i++) mxfp4_tables[scale][i] = (uint16_t)(as_u32(mxfp4_value(i & 15, scale)) >> 16);
}
DEVICE __m512i mxfp4_bf16(const mxfp4 *q, unsigned scale) {
    const __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q));
    return _mm512_permutexvar_epi16(_mm512_or_si512(x, _mm512_slli_epi32(x, 12)), _mm512_load_si512(mxfp4_tables[scale]));
}
#endif

// While one block's MXFP4 rows are multiplied the next block's are fetched, as they lie: part c of n fetches its share. (bf16
// rows are longer: the CPU's own prefetching does better, bench/host.md.)
DEVICE void fetch(const char *p, long bytes, int c, int n) {
    const char *end = p + bytes * (c + 1) / n;
    for (p += bytes * c / n / 64 * 64; p < end; p += 64) __builtin_prefetch(p, 0, 2);
}

#if defined __AMX_BF16__ && WIDE
// A tile of weights is 16 rows of 32 k as they lie; a panel holds the tokens in groups of 16: group g at g * 16 * K, [K / 2][c][2]
// where c is how many tokens it has. With one token that is x itself.

// 16 rows of 16 u32 turned about.
DEVICE void transpose16(uint32_t *to, long to_stride, const uint32_t *const from[16], long at) {
    __m512i r[16], s[16];
    UNROLL
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from[i] + at);
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) { // r[4 j + i]: column 4 q + i of rows 4 j … 4 j + 3 in quarter q
        const __m512i a = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), b = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88), d = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        _mm512_storeu_si512(to + i * to_stride, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_storeu_si512(to + (4 + i) * to_stride, _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_storeu_si512(to + (8 + i) * to_stride, _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_storeu_si512(to + (12 + i) * to_stride, _mm512_shuffle_i32x4(b, d, 0xdd));
    }
}

DEVICE size_t panel_size(int K) { return (size_t)PANEL * K * 2; }
static void panel_pack(char *panel, const bf16 *const *x, int count, int K) {
    for (int g = 0; g < count; g += 16) {
        uint32_t *to = (uint32_t *)(panel + (size_t)g * K * 2);
        const int c = min_int(count - g, 16);
        const uint32_t *from[16];
        for (int i = 0; i < c; i++) from[i] = (const uint32_t *)(const void *)x[g + i];
        int k = 0;
        for (; c == 16 && k + 16 <= K / 2; k += 16) transpose16(to + (long)k * 16, 16, from, k);
        for (; k < K / 2; k++)
            for (int i = 0; i < c; i++) __builtin_memcpy(to + (long)k * c + i, from[i] + k, 4);
    }
}

typedef struct TileConfig TileConfig;
struct TileConfig {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};
// Tiles 0 … 3: sums of (rows 0-15, 16-31) x (tokens of b0, b1); 4, 5: weights; 6, 7: activations.
DEVICE void tiles_config(int rows, int b0, int b1) {
    const int r0 = min_int(rows, 16), r1 = rows - r0;
    TileConfig c = {.palette = 1};
    const int tile_rows[8] = {r0, r0, r1, r1, r0, r1, 16, 16}, tile_bytes[8] = {4 * b0, 4 * b1, 4 * b0, 4 * b1, 64, 64, 4 * b0, 4 * b1};
    for (int i = 0; i < 8; i++) {
        const bool used = tile_rows[i] && tile_bytes[i];
        c.rows[i] = (uint8_t)(used ? tile_rows[i] : 0);
        c.bytes[i] = (uint16_t)(used ? tile_bytes[i] : 0);
    }
    _tile_loadconfig(&c);
}

// Chunks first … last - 1 (of 32 k) of some rows to strip[chunk & mask][row][32].
DEVICE void mxfp4_chunks(bf16 *strip, int mask, const mxfp4 *w, const mxfp4 *scales, int rows, long blocks, int first, int last) {
    for (int r = 0; r < rows; r++)
        for (int c = first; c < last; c++) {
            const __m512i v = mxfp4_bf16(w + (r * blocks + c) * 16, scales[r * blocks + c]);
            _mm512_store_si512(strip + ((c & mask) * ROWS_AT_ONCE + r) * 32, v);
        }
}

enum { BATCH = 4 }; // chunks of a row that are made bf16 together: 64 bytes; they are made a batch before they are multiplied

// One pass over K for the tokens of one or two groups. strip: bf16 weights from MXFP4, of all K when `keep`, made already when
// !fill. next: the row where the next block begins, -1: none or not known.
DEVICE void product_pass(const void *w, int type, long row, int rows, int K, long all, const char *b0, int c0, const char *b1, int c1,
                         bf16 *strip, bool fill, bool keep, long next) {
    const int n = K / 32, mask = keep ? -1 : 2 * BATCH - 1;
    const mxfp4 *q = (const mxfp4 *)w + row * n * 16, *scales = (const mxfp4 *)w + all * (K / 2) + row * n;
    const bf16 *p = (const bf16 *)w + row * K;
    _tile_zero(0);
    if (c1) _tile_zero(1);
    if (rows > 16) _tile_zero(2);
    if (rows > 16 && c1) _tile_zero(3);
    if (type == TYPE_MXFP4 && fill) mxfp4_chunks(strip, mask, q, scales, rows, n, 0, min_int(BATCH, n));
    for (int c = 0; c < n; c++) {
        if (type == TYPE_MXFP4) {
            if (next >= 0) fetch((const char *)w + next * n * 16, (long)ROWS_AT_ONCE * n * 16, c, n);
            if (fill && c % BATCH == 0 && c + 2 * BATCH <= n) mxfp4_chunks(strip, mask, q, scales, rows, n, c + BATCH, c + 2 * BATCH);
            else if (fill && c % BATCH == 0) mxfp4_chunks(strip, mask, q, scales, rows, n, c + BATCH, n);
            const bf16 *at = strip + (c & mask) * (ROWS_AT_ONCE * 32);
            _tile_loadd(4, at, 64);
            if (rows > 16) _tile_loadd(5, at + 16 * 32, 64);
        } else {
            _tile_loadd(4, p + c * 32, (long)K * 2);
            if (rows > 16) _tile_loadd(5, p + 16L * K + c * 32, (long)K * 2);
        }
        _tile_loadd(6, b0 + (long)c * 16 * 4 * c0, 4 * c0);
        _tile_dpbf16ps(0, 4, 6);
        if (rows > 16) _tile_dpbf16ps(2, 5, 6);
        if (c1) {
            _tile_loadd(7, b1 + (long)c * 16 * 4 * c1, 4 * c1);
            _tile_dpbf16ps(1, 4, 7);
            if (rows > 16) _tile_dpbf16ps(3, 5, 7);
        }
    }
    if (type == TYPE_MXFP4 && next >= 0) fetch((const char *)w + all * (K / 2) + next * n, (long)ROWS_AT_ONCE * n, 0, 1);
}

DEVICE size_t strip_size(int K) { return (size_t)ROWS_AT_ONCE * (K + 2 * BATCH * 32) * 2; }
DEVICE void product_of(const void *w, int type, long row, int rows, int K, long all, const char *panel, int count, char *strip, long next,
                       float (*sum)[PANEL]) {
    for (int g = 0; g < count; g += 32) {
        const int c0 = min_int(count - g, 16), c1 = min_int(count - g - c0, 16);
        const char *b0 = panel + (size_t)g * K * 2, *b1 = b0 + 16L * K * 2;
        const bool fill = g == 0, keep = count > 32;
        const long ahead = fill ? next : -1;
        tiles_config(rows, c0, c1);
        if (rows == 32 && c1) product_pass(w, type, row, 32, K, all, b0, c0, b1, c1, (bf16 *)strip, fill, keep, ahead);
        else if (rows == 32) product_pass(w, type, row, 32, K, all, b0, c0, b1, 0, (bf16 *)strip, fill, keep, ahead);
        else product_pass(w, type, row, rows, K, all, b0, c0, b1, c1, (bf16 *)strip, fill, keep, ahead);
        _tile_stored(0, &sum[0][g], PANEL * 4);
        if (c1) _tile_stored(1, &sum[0][g + 16], PANEL * 4);
        if (rows > 16) _tile_stored(2, &sum[16][g], PANEL * 4);
        if (rows > 16 && c1) _tile_stored(3, &sum[16][g + 16], PANEL * 4);
    }
    _tile_release();
}

#else
// Vectors: a row of weights is read in chunks of 32 k, each multiplied with those of some tokens. sum[r][t] is kept in lanes, chunks
// ascending, whatever the number of rows and tokens at once; then lanes in halves.

#if WIDE
typedef __m512i Chunk; // 32 bf16, in order
DEVICE Chunk chunk_bf16(const bf16 *p) { return _mm512_loadu_si512(p); }
DEVICE Chunk chunk_mxfp4(const mxfp4 *q, unsigned scale) { return mxfp4_bf16(q, scale); }
DEVICE void chunk_store(bf16 *to, Chunk w) { _mm512_storeu_si512(to, w); }
enum { LONE_ROWS = 8, SOME_ROWS = 4, SOME = 4 }; // at once: rows with one token; rows and tokens with several
#else
typedef struct Chunk Chunk;
struct Chunk {
    vf v[32 / VF]; // the 16 even ones, then the 16 odd ones, as they fall out of a word of two bf16 and a byte of two nibbles
};
DEVICE Chunk chunk_bf16(const bf16 *p) {
    Chunk c;
    UNROLL
    for (int i = 0; i < 16 / VF; i++) {
        const vu u = *(const vu_any *)(p + i * 2 * VF);
        c.v[i] = (vf)(u << 16);
        c.v[16 / VF + i] = (vf)(u & 0xffff0000u);
    }
    return c;
}

typedef uint8_t v16 __attribute__((vector_size(16)));
typedef uint8_t v16_any __attribute__((vector_size(16), aligned(1), may_alias));
// Twice the values of sixteen codes, one a byte, as int8.
DEVICE v16 mxfp4_twice(v16 code) {
    const v16 twice = {0, 1, 2, 3, 4, 6, 8, 12, 0, 255, 254, 253, 252, 250, 248, 244};
#if defined __SSSE3__
    return (v16)_mm_shuffle_epi8((__m128i)twice, (__m128i)code);
#elif defined __aarch64__
    return (v16)vqtbl1q_u8((uint8x16_t)twice, (uint8x16_t)code);
#else
    v16 v;
    for (int i = 0; i < 16; i++) v[i] = twice[code[i]];
    return v;
#endif
}
DEVICE void int8_floats(vf *to, v16 v, vf by) { // sixteen
#if defined __AVX2__
    to[0] = (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32((__m128i)v)) * by;
    to[1] = (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128((__m128i)v, 8))) * by;
#else
    int8_t s[16];
    __builtin_memcpy(s, &v, 16);
    UNROLL
    for (int i = 0; i < 16 / VF; i++) to[i] = __builtin_convertvector(__builtin_convertvector(*(const vb_any *)(s + i * VF), vi), vf) * by;
#endif
}
DEVICE Chunk chunk_mxfp4(const mxfp4 *q, unsigned scale) {
    const v16 code = *(const v16_any *)q;
    const vf half = vf_all(scale > 1 ? as_f32((scale - 1) << 23) : scale ? 0x1p-127f : 0x1p-128f);
    Chunk c;
    int8_floats(c.v, mxfp4_twice(code & 15), half);
    int8_floats(c.v + 16 / VF, mxfp4_twice(code >> 4), half);
    return c;
}
DEVICE void chunk_store(bf16 *to, Chunk w) { // exact where chunk_mxfp4 is exact in bf16
    UNROLL
    for (int i = 0; i < 16 / VF; i++) *(vu_any *)(to + i * 2 * VF) = ((vu)w.v[i] >> 16) | ((vu)w.v[16 / VF + i] & 0xffff0000u);
}
enum { LONE_ROWS = 4, SOME_ROWS = 2, SOME = 4 };
#endif

#if WIDE && defined __AVX512BF16__
typedef bf16 Packed; // of a panel: bf16 as they are
DEVICE vf chunk_madd(vf sum, Chunk w, const Packed *x) { return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)_mm512_loadu_si512(x)); }
static void panel_pack(char *panel, const bf16 *const *x, int count, int K) {
    for (int t = 0; t < count; t++) __builtin_memcpy(panel + (size_t)t * K * 2, x[t], (size_t)K * 2);
}
#else
typedef float Packed; // floats, in each chunk the 16 even ones, then the 16 odd ones
DEVICE vf chunk_madd(vf sum, Chunk w, const Packed *x) {
#if WIDE
    sum = fma_vf((vf)((vu)w << 16), vf_load(x), sum);
    return fma_vf((vf)((vu)w & 0xffff0000u), vf_load(x + 16), sum);
#else
    UNROLL
    for (int i = 0; i < 32 / VF; i++) sum = fma_vf(w.v[i], vf_load(x + i * VF), sum);
    return sum;
#endif
}
static void panel_pack(char *panel, const bf16 *const *x, int count, int K) {
    for (int t = 0; t < count; t++) {
        float *to = (float *)panel + (long)t * K;
        for (int k = 0; k < K; k += 32)
            for (int i = 0; i < 16; i++) {
                to[k + i] = f32_of(x[t][k + 2 * i]);
                to[k + 16 + i] = f32_of(x[t][k + 2 * i + 1]);
            }
    }
}
#endif
DEVICE size_t panel_size(int K) { return (size_t)PANEL * K * sizeof(Packed); }

typedef struct Weights Weights; // rows of n chunks
struct Weights {
    const bf16 *w;
    const mxfp4 *q, *scales; // q NULL: bf16
    int rows, n;
    const char *ahead; // as many MXFP4 rows that will be wanted next: fetched meanwhile; NULL: none
};

// R rows from row r on (those behind the last repeat it) times T tokens.
DEVICE void product_block(Weights m, int r0, const Packed *x, int R, int T, float *sum) {
    vf s[LONE_ROWS > SOME_ROWS * SOME ? LONE_ROWS : SOME_ROWS * SOME];
    UNROLL
    for (int i = 0; i < R * T; i++) s[i] = vf_all(0);
    for (int c = 0; c < m.n; c++) {
        if (m.ahead) fetch(m.ahead, (long)m.rows * m.n * 16, r0 / R * m.n + c, (m.rows + R - 1) / R * m.n);
        UNROLL
        for (int r = 0; r < R; r++) {
            const long at = (long)min_int(r0 + r, m.rows - 1) * m.n + c;
            const Chunk w = m.q ? chunk_mxfp4(m.q + at * 16, m.scales[at]) : chunk_bf16(m.w + at * 32);
            UNROLL
            for (int t = 0; t < T; t++) s[r * T + t] = chunk_madd(s[r * T + t], w, x + ((long)t * m.n + c) * 32);
        }
    }
    for (int r = 0; r < R && r0 + r < m.rows; r++)
        for (int t = 0; t < T; t++) sum[(r0 + r) * PANEL + t] = sum_vf(s[r * T + t]);
}

// The rows as bf16, for many tokens.
DEVICE Weights looked_up(Weights m, bf16 *strip) {
    for (int i = 0; i < m.rows * m.n; i++) {
        if (m.ahead) fetch(m.ahead, (long)m.rows * m.n * 16, i, m.rows * m.n);
        chunk_store(strip + i * 32L, chunk_mxfp4(m.q + i * 16L, m.scales[i]));
    }
    return (Weights){.w = strip, .rows = m.rows, .n = m.n};
}

DEVICE void product_all(Weights m, const Packed *x, int count, float *sum) {
    int t = 0;
    for (; t + SOME <= count; t += SOME, m.ahead = (const char *)0)
        for (int r = 0; r < m.rows; r += SOME_ROWS) product_block(m, r, x + t * m.n * 32L, SOME_ROWS, SOME, sum + t);
    for (; t < count; t++, m.ahead = (const char *)0)
        for (int r = 0; r < m.rows; r += LONE_ROWS) product_block(m, r, x + t * m.n * 32L, LONE_ROWS, 1, sum + t);
}

DEVICE size_t strip_size(int K) { return (size_t)ROWS_AT_ONCE * K * 2; }
static void product_of(const void *w, int type, long row, int rows, int K, long all, const char *panel, int count, char *strip, long next,
                       float (*sum)[PANEL]) {
    const int n = K / 32;
    const mxfp4 *q = w, *scales = q + all * (K / 2);
    const Packed *x = (const Packed *)panel;
    if (type == TYPE_BF16) {
        product_all((Weights){.w = (const bf16 *)w + row * K, .rows = rows, .n = n}, x, count, sum[0]);
        return;
    }
    Weights m = {.q = q + row * n * 16, .scales = scales + row * n, .rows = rows, .n = n, .ahead = next < 0 ? (const char *)0 : (const char *)q + next * n * 16};
    if (next >= 0) fetch((const char *)scales + next * n, (long)rows * n, 0, 1);
    if (count <= SOME) product_all(m, x, count, sum[0]);
    else product_all(looked_up(m, (bf16 *)strip), x, count, sum[0]);
}
#endif

// rows of `all` rows of w from `row` on (at most 32), times the panel's count tokens; K % 32 == 0. next: the row that this thread
// will want next, -1 when not known.
#define product(w, row, rows, K, all, panel, count, strip, next, sum) \
    product_of(w, TYPE_OF(w), row, rows, K, all, panel, count, strip, next, sum)
