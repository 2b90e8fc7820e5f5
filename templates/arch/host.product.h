// host.product.h - products of matrices on this CPU's widest units, for kernels that say "with product". What GNU C has no words for
// is here, an instruction a function: the compiler's own header of intrinsics takes it longer than the kernel.

#if defined __AMX_BF16__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

typedef uint8_t v16 __attribute__((vector_size(16)));
typedef uint8_t v16_any __attribute__((vector_size(16), aligned(1), may_alias));
typedef u64 v16_halves __attribute__((vector_size(16)));

#if defined __clang__
#define OPERAND "v" // clang puts into memory whatever may be there
#else
#define OPERAND "vm"
#endif

DEVICE vf fma_vf(vf a, vf b, vf c) { // one instruction, where the CPU has it
    UNROLL
    for (int i = 0; i < VF; i++) c[i] = fma_float(a[i], b[i], c[i]);
    return c;
}
// table[index[i]] for sixteen indices below 16.
DEVICE v16 lookup(v16 table, v16 index) {
#if defined __AVX__
    v16 v;
    __asm__("vpshufb %2, %1, %0" : "=v"(v) : "v"(table), OPERAND(index));
    return v;
#elif defined __aarch64__
    return (v16)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
#else
    v16 v;
    for (int i = 0; i < 16; i++) v[i] = table[index[i]];
    return v;
#endif
}
#if WIDE
// Sixteen bytes as sixteen numbers; 32 times one of 32 u16, by an index's low 5 bits.
DEVICE vu bytes_u32(v16 b) {
    vu v;
    __asm__("vpmovzxbd %1, %0" : "=v"(v) : OPERAND(b));
    return v;
}
DEVICE vu lookup32(vu table, vu index) {
    vu v;
    __asm__("vpermw %2, %1, %0" : "=v"(v) : "v"(index), OPERAND(table));
    return v;
}
#if defined __AVX512BF16__
// sum + products of pairs of bf16.
DEVICE vf dot_bf16(vf sum, vu a, vu b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), OPERAND(b));
    return sum;
}
#endif
#elif defined __AVX2__
// Eight int8 as numbers.
DEVICE vi int8_i32(u64 b) {
    vi v;
    __asm__("vpmovsxbd %1, %0" : "=v"(v) : "v"(b));
    return v;
}
#endif

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
DEVICE vu mxfp4_bf16(const mxfp4 *q, unsigned scale) {
    const vu x = bytes_u32(*(const v16_any *)q);
    return lookup32(*(const vu_any *)mxfp4_tables[scale], x | x << 12);
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
            const vu v = mxfp4_bf16(w + (r * blocks + c) * 16, scales[r * blocks + c]);
            *(vu_any *)(strip + ((c & mask) * ROWS_AT_ONCE + r) * 32) = v;
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
typedef vu Chunk; // 32 bf16, in order
DEVICE Chunk chunk_bf16(const bf16 *p) { return *(const vu_any *)p; }
DEVICE Chunk chunk_mxfp4(const mxfp4 *q, unsigned scale) { return mxfp4_bf16(q, scale); }
DEVICE void chunk_store(bf16 *to, Chunk w) { *(vu_any *)to = w; }
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

// Twice the values of sixteen codes, one a byte, as int8.
DEVICE v16 mxfp4_twice(v16 code) {
    const v16 twice = {0, 1, 2, 3, 4, 6, 8, 12, 0, 255, 254, 253, 252, 250, 248, 244};
    return lookup(twice, code);
}
DEVICE void int8_floats(vf *to, v16 v, vf by) { // sixteen
#if defined __AVX2__
    to[0] = __builtin_convertvector(int8_i32(((v16_halves)v)[0]), vf) * by;
    to[1] = __builtin_convertvector(int8_i32(((v16_halves)v)[1]), vf) * by;
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
DEVICE vf chunk_madd(vf sum, Chunk w, const Packed *x) { return dot_bf16(sum, w, *(const vu_any *)x); }
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
