// gfx90a.h - AMD MI200 (CDNA 2): wave64, MFMA.

#define WAVE 64
typedef unsigned long long u64_;

static __device__ inline int shuffle_xor(int v, int mask) {
    return __builtin_amdgcn_ds_bpermute((__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)) ^ mask) * 4, v);
}
static __device__ inline float shuffle_xor(float v, int mask) { return __builtin_bit_cast(float, shuffle_xor(__builtin_bit_cast(int, v), mask)); }
static __device__ inline u64_ shuffle_xor(u64_ v, int mask) {
    const unsigned lo = (unsigned)shuffle_xor((int)(unsigned)v, mask), hi = (unsigned)shuffle_xor((int)(unsigned)(v >> 32), mask);
    return (u64_)hi << 32 | lo;
}
static __device__ inline double shuffle_xor(double v, int mask) { return __builtin_bit_cast(double, shuffle_xor(__builtin_bit_cast(u64_, v), mask)); }

// The lanes where p holds, one bit each.
static __device__ inline u64_ ballot(bool p) { return __builtin_amdgcn_uicmp((unsigned)p, 0u, 33); }
static __device__ inline int bit_count(u64_ m) { return __builtin_popcountll(m); }
static __device__ inline int bits_below(u64_ m, int lane) { return __builtin_popcountll(m & ((1ull << lane) - 1)); }

typedef short s16x4 __attribute__((vector_size(8)));
typedef float f32x4_ __attribute__((vector_size(16)));

// One 16x16 tile += A[16 rows][16 k] B[16 k][16 columns], bf16. Lane l gives a = A[l%16][4*(l/16) + i], b = B[4*(l/16) + i][l%16]
// and holds c = C[4*(l/16) + i][l%16], i = 0 … 3.
static __device__ inline f32x4_ mfma_16x16x16(s16x4 a, s16x4 b, f32x4_ c) { return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0); }

// --- block main loops: weights are the M side (16 rows), tokens the N side (16 columns), K in the chunks of a 16-byte load ---

typedef short s16x8 __attribute__((vector_size(16)));
typedef unsigned u32x4_ __attribute__((vector_size(16)));

static __device__ inline s16x4 low_half(s16x8 v) { return (s16x4){v[0], v[1], v[2], v[3]}; }
static __device__ inline s16x4 high_half(s16x8 v) { return (s16x4){v[4], v[5], v[6], v[7]}; }

static __device__ inline f32x4_ mfma_8k(s16x8 w, s16x8 x, f32x4_ sum) {
    sum = mfma_16x16x16(low_half(w), low_half(x), sum);
    return mfma_16x16x16(high_half(w), high_half(x), sum);
}

// Eight MXFP4 codes (4 bytes, low nibble first) times 2^(scale - 127) as bf16: exact for 1 < scale <= 252.
static __device__ inline s16x8 mxfp4_8(unsigned codes, float scale) {
    s16x8 r;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const unsigned c = codes >> (4 * i);
        const float v = __builtin_bit_cast(float, (c & 8u) << 28 | (c & 7u) << 22) * 0x1p126f * scale;
        r[i] = (short)(__builtin_bit_cast(unsigned, v) >> 16);
    }
    return r;
}

// sum += W[row][k] X[k][column] for the k of chunks first … last - 1 of row `row` (this lane's: rows l%16), with x(k) giving
// X[k … k+7][l%16]. A chunk is 32 k of bf16 (lane group l/16 has 8) or 128 k of MXFP4 (32 each). Beyond K: zero.
template <class W> struct Rows;
template <> struct Rows<unsigned short> {
    enum { CHUNK = 32 };
    template <class X>
    static __device__ inline f32x4_ product(const unsigned short *w, long row, long, int K, int first, int last, X x, f32x4_ sum) {
        const unsigned short *p = w + row * K;
        for (int c = first; c < last; c++) {
            const int k = c * CHUNK + threadIdx.x % WAVE / 16 * 8;
            s16x8 a = {}, b = {};
            if (k < K) {
                a = *(const s16x8 *)(p + k);
                b = x(k);
            }
            sum = mfma_8k(a, b, sum);
        }
        return sum;
    }
};
template <> struct Rows<unsigned char> {
    enum { CHUNK = 128 };
    template <class X>
    static __device__ inline f32x4_ product(const unsigned char *w, long row, long rows, int K, int first, int last, X x, f32x4_ sum) {
        const long block = row * (K / 32);
        const unsigned char *scales = w + rows * (K / 2);
        for (int c = first; c < last; c++) {
            const int at = c * 4 + threadIdx.x % WAVE / 16;
            const bool inside = at < K / 32;
            u32x4_ q = {};
            float scale = 0;
            if (inside) {
                q = *(const u32x4_ *)(w + (block + at) * 16);
                scale = __builtin_bit_cast(float, (unsigned)scales[block + at] << 23);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s16x8 b = {};
                if (inside) b = x(at * 32 + i * 8);
                sum = mfma_8k(mxfp4_8(q[i], scale), b, sum);
            }
        }
        return sum;
    }
};

// One block's 16 rows x 16 tokens: its four waves take a quarter of the chunks each; part[wave][row][token] then holds their
// sums, to be added in ascending order after __syncthreads().
template <class W, class X>
static __device__ inline void block_product(const W *w, long row, long rows, int K, X x, float (*part)[16][17]) {
    const int wave = threadIdx.x / WAVE, lane = threadIdx.x % WAVE;
    const int chunks = (K + Rows<W>::CHUNK - 1) / Rows<W>::CHUNK, each = (chunks + 3) / 4;
    const int first = wave * each, last = first + each < chunks ? first + each : chunks;
    const f32x4_ zero = {};
    const f32x4_ sum = Rows<W>::product(w, row, rows, K, first, last, x, zero);
#pragma unroll
    for (int i = 0; i < 4; i++) part[wave][lane / 16 * 4 + i][lane % 16] = sum[i];
}
static __device__ inline float block_sum(const float (*part)[16][17], int row, int token) {
    return part[0][row][token] + part[1][row][token] + part[2][row][token] + part[3][row][token];
}
