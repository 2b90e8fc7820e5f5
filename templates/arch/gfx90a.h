// gfx90a.h - AMD MI200 (CDNA 2): wave64, MFMA.

typedef unsigned long long u64_;
typedef float f32x4 __attribute__((vector_size(16)));
typedef unsigned u32x4 __attribute__((vector_size(16)));
typedef short s16x4 __attribute__((vector_size(8)));
typedef short s16x8 __attribute__((vector_size(16)));

static __device__ inline int shuffle_xor(int v, int mask) {
    return __builtin_amdgcn_ds_bpermute((__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)) ^ mask) * 4, v);
}
static __device__ inline float shuffle_xor(float v, int mask) { return __builtin_bit_cast(float, shuffle_xor(__builtin_bit_cast(int, v), mask)); }
static __device__ inline u64_ shuffle_xor(u64_ v, int mask) {
    const unsigned lo = (unsigned)shuffle_xor((int)(unsigned)v, mask), hi = (unsigned)shuffle_xor((int)(unsigned)(v >> 32), mask);
    return (u64_)hi << 32 | lo;
}
static __device__ inline double shuffle_xor(double v, int mask) { return __builtin_bit_cast(double, shuffle_xor(__builtin_bit_cast(u64_, v), mask)); }

static __device__ inline float power_of_2(float x) { return exp2f(x); }

// The lanes where p holds, one bit each.
static __device__ inline u64_ wave_ballot(bool p) { return __builtin_amdgcn_uicmp((unsigned)p, 0u, 33); }
static __device__ inline int bit_count(u64_ m) { return __builtin_popcountll(m); }
static __device__ inline int bits_below(u64_ m, int lane) { return __builtin_popcountll(m & ((1ull << lane) - 1)); }

static __device__ inline void lds_add(u64_ *p, u64_ v) { (void)__hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP); }
static __device__ inline void lds_add(int *p, int v) { (void)__hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP); }

static __device__ inline void wave_sync() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront"), __builtin_amdgcn_wave_barrier(); }
static __device__ inline int uniform(int v) { return __builtin_amdgcn_readfirstlane(v); }
static __device__ inline void device_fence() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "agent"); }
static __device__ inline int device_add(int *p, int v) { return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }

// A cluster is a block.
static __device__ inline int cluster_rank() { return 0; }
static __device__ inline void cluster_sync() { __syncthreads(); }
template <class T> static __device__ inline void cluster_store(T *p, int, T v) { *p = v; }

// One 16x16 tile += A[16 rows][16 k] B[16 k][16 columns], bf16. Lane l gives a = A[l%16][4*(l/16) + i], b = B[4*(l/16) + i][l%16]
// and holds c = C[4*(l/16) + i][l%16], i = 0 … 3.
static __device__ inline f32x4 mfma_16x16x16(s16x4 a, s16x4 b, f32x4 c) { return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0); }

static __device__ inline s16x4 low_half(s16x8 v) { return (s16x4){v[0], v[1], v[2], v[3]}; }
static __device__ inline s16x4 high_half(s16x8 v) { return (s16x4){v[4], v[5], v[6], v[7]}; }

static __device__ inline f32x4 mfma_8k(s16x8 w, s16x8 x, f32x4 sum) {
    sum = mfma_16x16x16(low_half(w), low_half(x), sum);
    return mfma_16x16x16(high_half(w), high_half(x), sum);
}

// --- what lib/matrix.h asks for. Lane l has row (or token) l%16 and, of each 16 k, k = 4*(l/16) … +3; c[i] is row 4*(l/16) + i ---

#define METHOD __device__ inline __attribute__((always_inline))
#define INLINE static METHOD

enum { TILE_N = 16 };
struct Acc {
    f32x4 c;
};
typedef s16x4 AFragment;
typedef s16x4 BFragment;

INLINE int lane_line() { return threadIdx.x % 16; }
INLINE int lane_quarter() { return threadIdx.x % WAVE / 16; }
INLINE int acc_group(int i) { return lane_quarter() * 2 + i; }
INLINE int acc_token(int) { return lane_line(); }
INLINE int tile_row(int group, int member) { return group / 2 * 4 + group % 2 + 2 * member; }

// Word w: 4 k of step 2w, then 4 of step 2w + 1. Of codes, these alternate.
INLINE int value_row(int lane, int, int) { return lane % 16; }
INLINE int value_k(int lane, int w, int i) { return (2 * w + i / 4) * 16 + lane / 16 * 4 + i % 4; }
INLINE int code_row(int lane, int, int) { return lane % 16; }
INLINE int code_k(int lane, int w, int i) { return (2 * w + i % 2) * 16 + lane / 16 * 4 + i / 2; }
INLINE unsigned code_word(const unsigned *code) {
    unsigned w = 0;
    for (int i = 0; i < 8; i++) w |= code[i] << (4 * i);
    return w;
}
INLINE int scale_row(int w, int) { return w; }
INLINE int scale_block(int, int i) { return i; }
INLINE int scale_word() { return lane_line(); }

INLINE AFragment bf16_fragment(const u32x4 *part, int s) {
    const s16x8 v = __builtin_bit_cast(s16x8, part[s / 2]);
    return s % 2 ? high_half(v) : low_half(v);
}
INLINE BFragment b_fragment(const unsigned short *rows, int stride, int k) { return *(const s16x4 *)(rows + lane_line() * stride + k + lane_quarter() * 4); }
INLINE void mma(Acc &acc, AFragment a, BFragment b) { acc.c = mfma_16x16x16(a, b, acc.c); }

// Codes are looked up: for each scale the bytes of the bf16 of 0, .5, 1, 1.5, 2, 3, 4, 6 times 2^(scale - 127), low ones first.
// v_perm_b32 takes four of eight bytes at a time.
struct Dequant {
    enum { LDS_BYTES = 256 * 16 };
    const u32x4 *table;
    INLINE u32x4 row(unsigned scale) {
        u32x4 r = {0, 0, 0, 0};
        for (unsigned c = 1; c < 8; c++) {
            // c / 2^1 … as a float with an exponent of its own; scale 0 and 1 give subnormals, exact in bf16 too
            const float v = __builtin_bit_cast(float, c << 22) * 0x1p126f * (scale ? __builtin_bit_cast(float, scale << 23) : 0x1p-127f);
            const unsigned bits = __builtin_bit_cast(unsigned, v) >> 16;
            r[c / 4] |= (bits & 255u) << (c % 4 * 8);
            r[2 + c / 4] |= (bits >> 8) << (c % 4 * 8);
        }
        return r;
    }
    METHOD void open(char *lds) {
        u32x4 *t = (u32x4 *)lds;
        for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) t[i] = row(i);
        table = t;
        __syncthreads();
    }
    METHOD AFragment fragment(u32x4 codes, unsigned scales, int s) const {
        const u32x4 t = table[scales >> (s / 2 * 8) & 255u];
        const unsigned w = codes[s / 2], at = (s % 2 ? w >> 4 : w) & 0x07070707u, sign = (s % 2 ? w : w << 4) & 0x80808080u;
        const unsigned low = __builtin_amdgcn_perm(t[1], t[0], at), high = __builtin_amdgcn_perm(t[3], t[2], at) | sign;
        typedef unsigned u32x2 __attribute__((vector_size(8)));
        const u32x2 v = {__builtin_amdgcn_perm(high, low, 0x05010400u), __builtin_amdgcn_perm(high, low, 0x07030602u)};
        return __builtin_bit_cast(s16x4, v);
    }
};
