// sm_90.h - NVIDIA Hopper: warps of 32 lanes, mma.sync m16n8k16.

typedef unsigned long long u64_;
#define __builtin_fma(a, b, c) fma(a, b, c)
#define __builtin_fmaf(a, b, c) fmaf(a, b, c)
#define __builtin_inff() __int_as_float(0x7f800000)
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000ll)

template <class T, int N> struct alignas(sizeof(T) * N) Vector {
    T v[N];
    __device__ __forceinline__ T &operator[](int i) { return v[i]; }
    __device__ __forceinline__ const T &operator[](int i) const { return v[i]; }
};
typedef Vector<float, 4> f32x4;
typedef Vector<unsigned, 4> u32x4;
typedef Vector<short, 8> s16x8;

static __device__ inline int shuffle_xor(int v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
static __device__ inline float shuffle_xor(float v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
static __device__ inline u64_ shuffle_xor(u64_ v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
static __device__ inline double shuffle_xor(double v, int mask) { return __shfl_xor_sync(~0u, v, mask); }

// The lanes where p holds, one bit each.
static __device__ inline u64_ wave_ballot(bool p) { return __ballot_sync(~0u, p); }
static __device__ inline int bit_count(u64_ m) { return __popcll(m); }
static __device__ inline int bits_below(u64_ m, int lane) { return __popcll(m & ((1ull << lane) - 1)); }

static __device__ inline void lds_add(u64_ *p, u64_ v) { atomicAdd(p, v); }
static __device__ inline void lds_add(int *p, int v) { atomicAdd(p, v); }

// c[16 rows][8 columns] += A[16 rows][16 k] B[16 k][8 columns], bf16 in pairs. With g = l/4, p = l%4, lane l gives
// a0, a2 = A[g][2p, 2p + 8 …], a1, a3 the same of row g + 8, b0, b1 = B[2p, 2p + 8 …][g] and holds c0, c1 = C[g][2p, 2p + 1], c2, c3
// the same of row g + 8. (PTX ISA, mma.m16n8k16)
static __device__ inline void mma_16x8x16(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same over the 32 k of which each lane has 8 consecutive ones (8p … 8p + 7) of rows g (a) and g + 8 (b) and of column g (x):
// the order of k inside a product is free as long as both sides agree.
static __device__ inline void mma_8k(float *c, const s16x8 &a, const s16x8 &b, const s16x8 &x) {
    const u32x4 aw = __builtin_bit_cast(u32x4, a), bw = __builtin_bit_cast(u32x4, b), xw = __builtin_bit_cast(u32x4, x);
    mma_16x8x16(c, aw[0], bw[0], aw[1], bw[1], xw[0], xw[1]);
    mma_16x8x16(c, aw[2], bw[2], aw[3], bw[3], xw[2], xw[3]);
}

// --- what tile.h asks for: lane l has lines l/4 and l/4 + 8, their k 8*(l%4) … +7 ---

#define LINES 2
struct Tile {
    float c[2][4]; // columns 0 … 7 and 8 … 15
};
static __device__ inline int tile_line(int i) { return threadIdx.x % WAVE / 4 + i * 8; }
static __device__ inline int tile_part() { return threadIdx.x % 4; }
static __device__ inline void tile_add(Tile &sum, const s16x8 *w, const s16x8 *x) {
    mma_8k(sum.c[0], w[0], w[1], x[0]);
    mma_8k(sum.c[1], w[0], w[1], x[1]);
}
static __device__ inline void tile_store(const Tile &sum, float (*to)[17]) {
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int i = 0; i < 4; i++) to[tile_line(i / 2)][h * 8 + tile_part() * 2 + i % 2] = sum.c[h][i];
}
