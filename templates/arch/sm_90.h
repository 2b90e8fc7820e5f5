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

static __device__ inline unsigned short convert_bf16(float f) {
    unsigned h; // of two at once: a conversion of one takes 8 times as long
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(h) : "f"(0.f), "f"(f));
    return (unsigned short)h;
}
#define CONVERT_BF16(f) convert_bf16(f)

static __device__ inline float power_of_2(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
static __device__ inline float fast_sigmoid(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.f + power_of_2(x * -1.4426950408889634f)));
    return r;
}
#define FAST_SIGMOID(x) fast_sigmoid(x)

// The lanes where p holds, one bit each.
static __device__ inline u64_ wave_ballot(bool p) { return __ballot_sync(~0u, p); }
static __device__ inline int bit_count(u64_ m) { return __popcll(m); }
static __device__ inline int bits_below(u64_ m, int lane) { return __popcll(m & ((1ull << lane) - 1)); }

static __device__ inline void lds_add(u64_ *p, u64_ v) { atomicAdd(p, v); }
static __device__ inline void lds_add(int *p, int v) { atomicAdd(p, v); }

static __device__ inline void wave_sync() { __syncwarp(); }
static __device__ inline int uniform(int v) { return v; }
static __device__ inline void device_fence() { __threadfence(); }
static __device__ inline int device_add(int *p, int v) { return atomicAdd(p, v); }

// Clusters: blocks that see each other's shared memory (PTX ISA: mapa, barrier.cluster)
static __device__ inline unsigned cluster_rank() {
    unsigned r;
    asm volatile("mov.u32 %0, %cluster_ctarank;" : "=r"(r));
    return r;
}
static __device__ inline void cluster_sync() { asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
static __device__ inline unsigned cluster_address(unsigned shared, int rank) { // of the same place in that block
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared), "r"(rank));
    return there;
}
static __device__ inline unsigned cluster_address(const void *p, int rank) { return cluster_address((unsigned)__cvta_generic_to_shared(p), rank); }
static __device__ inline void cluster_store(float *p, int rank, float v) { asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(cluster_address(p, rank)), "f"(v) : "memory"); }
static __device__ inline void cluster_store(u64_ *p, int rank, u64_ v) { asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(cluster_address(p, rank)), "l"(v) : "memory"); }

// c[16 rows][8 columns] += A[16 rows][16 k] B[16 k][8 columns], bf16 in pairs. With g = l/4, p = l%4, lane l gives
// a0, a2 = A[g][2p, 2p + 8 …], a1, a3 the same of row g + 8, b0, b1 = B[2p, 2p + 8 …][g] and holds c0, c1 = C[g][2p, 2p + 1], c2, c3
// the same of row g + 8. (PTX ISA, mma.m16n8k16)
static __device__ inline void mma_16x8x16(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// --- what lib/matrix.h asks for. With g = l/4, p = l%4, lane l has rows g and g + 8 and token g, of each 16 k 2p, 2p + 1, 2p + 8, 2p + 9;
// c[0], c[1] are row g of tokens 2p, 2p + 1, c[2], c[3] row g + 8 ---

#define METHOD __device__ __forceinline__
#define INLINE static METHOD

enum { TILE_N = 8 };
struct Acc {
    float c[4];
};
struct AFragment {
    unsigned r[4];
};
struct BFragment {
    unsigned r[2];
};

INLINE int acc_group(int) { return threadIdx.x % WAVE / 4; }
INLINE int acc_token(int i) { return threadIdx.x % 4 * 2 + i; }
INLINE int tile_row(int group, int member) { return group + 8 * member; }

INLINE int value_row(int lane, int, int i) { return lane / 4 + i / 2 % 2 * 8; }
INLINE int value_k(int lane, int w, int i) { return w * 16 + lane % 4 * 2 + i % 2 + i / 4 * 8; }
INLINE int code_row(int lane, int w, int i) { return value_row(lane, w, i); }
INLINE int code_k(int lane, int w, int i) { return value_k(lane, w, i); }
// Eight codes as pairs 0 … 3, the first of each for the low half of a register: so that nine operations take them apart
// (Dequant::fragment). With target places sign 15, bits 8 … 6:
//   pair 0  in place
//   pair 1  4 below it
//   pair 2  where rotating left by 10 finds it
//   pair 3  its lowest bits at 0 and 16; the rest where rotating left by 14 finds it
INLINE unsigned code_word(const unsigned *code) {
    unsigned w = 0;
    for (int i = 0; i < 8; i++) {
        const unsigned s = code[i] >> 3, v = code[i] & 7u, o = i % 2 * 16;
        if (i / 2 < 2) w |= s << (15 - 4 * (i / 2) + o) | v << (6 - 4 * (i / 2) + o);
        else if (i / 2 == 2) w |= s << (5 + o) | v << (28 - o);
        else w |= (v & 1u) << o | s << (1 + o) | v >> 1 << (25 - o);
    }
    return w;
}
INLINE int scale_row(int w, int i) { return w + i % 2 * 8; }
INLINE int scale_block(int, int i) { return i / 2; }
INLINE int scale_word() { return threadIdx.x % WAVE / 4; }

INLINE AFragment bf16_fragment(const u32x4 *part, int s) { return __builtin_bit_cast(AFragment, part[s]); }
INLINE BFragment b_fragment(const unsigned short *rows, int stride, int k) {
    const unsigned short *row = rows + threadIdx.x % WAVE / 4 * stride + k + threadIdx.x % 4 * 2;
    BFragment b;
    b.r[0] = *(const unsigned *)row;
    b.r[1] = *(const unsigned *)(row + 8);
    return b;
}
INLINE void mma(Acc &acc, const AFragment &a, const BFragment &b) { mma_16x8x16(acc.c, a.r[0], a.r[1], a.r[2], a.r[3], b.r[0], b.r[1]); }

// Both bf16 of a times the low (high) one of b: one instruction.
INLINE unsigned times_low(unsigned a, unsigned b) {
    unsigned r;
    asm("{ .reg .b16 low, high; .reg .b32 both; mov.b32 {low, high}, %2; mov.b32 both, {low, low}; mul.bf16x2 %0, %1, both; }" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
INLINE unsigned times_high(unsigned a, unsigned b) {
    unsigned r;
    asm("{ .reg .b16 low, high; .reg .b32 both; mov.b32 {low, high}, %2; mov.b32 both, {high, high}; mul.bf16x2 %0, %1, both; }" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

// A code's sign at bit 15 and its 3 bits at 8 … 6 are the bf16 of its value times 2^-126; the product with 2^(scale - 1) is exact.
// Scales above 128, where that power is no bf16, take two steps; they are rare, and the wave takes them together.
struct Dequant {
    enum { LDS_BYTES = 0 };
    METHOD void open(char *) {}
    // Of rows g and g + 8, in the halves of a register, for block B of the unit.
    template <int B> METHOD static unsigned power(unsigned scales) { return __byte_perm(scales, 0, 0x4140 + B * 0x0202) * 128u + 0x3f003f00u; }
    METHOD static void powers(unsigned scale, unsigned *first, unsigned *second) { // of one row, in the low half
        *first = (scale > 128u ? 253u : 127u) * 128u, *second = (scale > 128u ? scale : scale + 126u) * 128u;
    }
    METHOD static AFragment fields(unsigned x) {
        const unsigned m = 0x81c081c0u, y = __funnelshift_l(x, x, 10);
        AFragment a;
        a.r[0] = x & m;
        a.r[1] = x << 4 & m;
        a.r[2] = y & m;
        a.r[3] = (y << 4 & 0x81808180u) | (x << 6 & 0x00400040u);
        return a;
    }
    METHOD static AFragment times(AFragment a, unsigned power) {
        a.r[0] = times_low(a.r[0], power), a.r[2] = times_low(a.r[2], power);
        a.r[1] = times_high(a.r[1], power), a.r[3] = times_high(a.r[3], power);
        return a;
    }
    METHOD static AFragment near(unsigned x, unsigned scales, int s) { return times(fields(x), s / 2 ? power<1>(scales) : power<0>(scales)); }
    METHOD static AFragment far(unsigned x, unsigned scales, int s) {
        unsigned first[2], second[2];
        for (int i = 0; i < 2; i++) powers(scales >> (s / 2 * 16 + i * 8) & 255u, &first[i], &second[i]);
        return times(times(fields(x), first[0] | first[1] << 16), second[0] | second[1] << 16);
    }
    METHOD static bool any_far(unsigned scales) { return __any_sync(~0u, (scales & 0x80808080u) != 0); }
    METHOD AFragment fragment(const u32x4 &codes, unsigned scales, int s) const {
        return any_far(scales) ? far(codes[s], scales, s) : near(codes[s], scales, s);
    }
    METHOD static void fragments(AFragment *a, const u32x4 &codes, unsigned scales) { // of all four steps
        if (any_far(scales)) {
#pragma unroll
            for (int s = 0; s < 4; s++) a[s] = far(codes[s], scales, s);
        } else {
#pragma unroll
            for (int s = 0; s < 4; s++) a[s] = near(codes[s], scales, s);
        }
    }
};
