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

// The lanes where p holds, one bit each.
static __device__ inline u64_ wave_ballot(bool p) { return __builtin_amdgcn_uicmp((unsigned)p, 0u, 33); }
static __device__ inline int bit_count(u64_ m) { return __builtin_popcountll(m); }
static __device__ inline int bits_below(u64_ m, int lane) { return __builtin_popcountll(m & ((1ull << lane) - 1)); }

static __device__ inline void lds_add(u64_ *p, u64_ v) { (void)__hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP); }
static __device__ inline void lds_add(int *p, int v) { (void)__hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP); }

// One 16x16 tile += A[16 rows][16 k] B[16 k][16 columns], bf16. Lane l gives a = A[l%16][4*(l/16) + i], b = B[4*(l/16) + i][l%16]
// and holds c = C[4*(l/16) + i][l%16], i = 0 … 3.
static __device__ inline f32x4 mfma_16x16x16(s16x4 a, s16x4 b, f32x4 c) { return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0); }

static __device__ inline s16x4 low_half(s16x8 v) { return (s16x4){v[0], v[1], v[2], v[3]}; }
static __device__ inline s16x4 high_half(s16x8 v) { return (s16x4){v[4], v[5], v[6], v[7]}; }

static __device__ inline f32x4 mfma_8k(s16x8 w, s16x8 x, f32x4 sum) {
    sum = mfma_16x16x16(low_half(w), low_half(x), sum);
    return mfma_16x16x16(high_half(w), high_half(x), sum);
}

// --- what tile.h asks for: lane l has line l%16, its k 8*(l/16) … +7 ---

#define LINES 1
typedef f32x4 Tile;
static __device__ inline int tile_line(int) { return threadIdx.x % 16; }
static __device__ inline int tile_part() { return threadIdx.x % WAVE / 16; }
static __device__ inline void tile_add(Tile &sum, const s16x8 *w, const s16x8 *x) { sum = mfma_8k(w[0], x[0], sum); }
static __device__ inline void tile_store(const Tile &sum, float (*to)[17]) {
#pragma unroll
    for (int i = 0; i < 4; i++) to[tile_part() * 4 + i][tile_line(0)] = sum[i];
}
