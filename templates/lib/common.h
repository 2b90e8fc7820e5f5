// common.h - the dialect that templates are written in: no headers, so that hipRTC, NVRTC and a C++ compiler all take it.
// WAVE (targets.def), FAST (1: --precision fast, 0: strict) and an arch's prelude (gfx90a.h, …) stand before it. The prelude defines
//   f32x4, u32x4, s16x8           16-byte vectors with [i] and {}
//   shuffle_xor(v, mask)          of int, float, u64, double: the value of lane ^ mask; all lanes of the wave take part
//   wave_ballot(p), bit_count(m), bits_below(m, lane)
//   lds_add(p, v)                 of u64, int in shared memory; sums of integers are the same in any order
//   wave_sync()                   what the wave's lanes wrote into shared memory is there for its other lanes
//   uniform(v)                    v, which is the same in all lanes, as a scalar
//   device_fence()                what this thread wrote is there for the device before what it does next; and the other way round
//   device_add(p, v)              of int in device memory; returns what was there
//   cluster_rank(), cluster_sync(), cluster_store(p, rank, v)    of blocks in a cluster: which one this is; all wait for all, and what
//                                 they wrote is there; v to where p lies in the shared memory of that block
//   FAST_SIGMOID(x)               where two instructions have 1 / (1 + e^-x) to some 2^-21 for moderate x
//   CONVERT_BF16(f)               where one instruction does what bf16_of says
//   for MATRIX targets also what matrix.h lists
// and, where the compiler lacks them, __builtin_fma, __builtin_fmaf, __builtin_inf, __builtin_inff.

#define DEVICE static __device__ inline __attribute__((always_inline))

typedef unsigned short bf16;           // bits of a bfloat16
typedef unsigned char mxfp4;           // 16-byte blocks, then scale bytes
typedef unsigned long long u64;

DEVICE float as_f32(unsigned u) { return __builtin_bit_cast(float, u); }
DEVICE unsigned as_u32(float f) { return __builtin_bit_cast(unsigned, f); }

// f(i) for i = first, first + STRIDE … below N, in this order; first < STRIDE. The compiler knows how often, so that the loads of 32
// turns are all asked for before the first is used. (Unrolled by a pragma, a loop of unknown length ends in one that waits for each:
// 11 µs for the norm of one row of 2,880, H200, 2026-11-29.)
template <int N, int STRIDE, class Do> DEVICE void strided(int first, const Do &f) {
    enum { WHOLE = N / STRIDE, TURNS = (N + STRIDE - 1) / STRIDE, MOST = 32 };
#pragma unroll 1
    for (int from = 0; from < TURNS; from += MOST) {
#pragma unroll
        for (int i = 0; i < MOST && i < TURNS; i++) {
            const int at = first + (from + i) * STRIDE;
            if (from + i < WHOLE || at < N) f(at);
        }
    }
}

// keep(i, make(i)) for the same i; of 32 turns all make comes first: a load behind a store that could be of the same memory waits.
template <int N, int STRIDE, class Make, class Keep> DEVICE void strided(int first, const Make &make, const Keep &keep) {
    enum { WHOLE = N / STRIDE, TURNS = (N + STRIDE - 1) / STRIDE, MOST = 32, EACH = MOST < TURNS ? MOST : TURNS };
#pragma unroll 1
    for (int from = 0; from < TURNS; from += MOST) {
        decltype(make(0)) made[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = first + (from + i) * STRIDE;
            if (from + i < WHOLE || at < N) made[i] = make(at);
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = first + (from + i) * STRIDE;
            if (from + i < WHOLE || at < N) keep(at, made[i]);
        }
    }
}

// --- element types ---

DEVICE float f32_of(bf16 h) { return as_f32((unsigned)h << 16); }
DEVICE bf16 bf16_of(float f) { // nearest even; NaN stays NaN
#ifdef CONVERT_BF16
    return CONVERT_BF16(f);
#endif
    const unsigned u = as_u32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (bf16)(u >> 16 | 0x40u);
    return (bf16)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

// The op cast, by what it casts to.
DEVICE float cast_bf16(float v) { return f32_of(bf16_of(v)); }
DEVICE float cast_f32(float v) { return v; }

DEVICE int load(const int *p, long i) { return p[i]; }
DEVICE float load(const float *p, long i) { return p[i]; }
DEVICE float load(const bf16 *p, long i) { return f32_of(p[i]); }
DEVICE void store(int *p, long i, int v) { p[i] = v; }
DEVICE void store(float *p, long i, float v) { p[i] = v; }
DEVICE void store(bf16 *p, long i, float v) { p[i] = bf16_of(v); }

// One MXFP4 element: 4 bits, and 2^(scale - 127). Exact; the code's bits become a (maybe subnormal) float's, two exact
// multiplications set the exponent right.
DEVICE float mxfp4_value(unsigned code, unsigned scale) {
    const float v = as_f32((code & 8u) << 28 | (code & 7u) << 22) * 0x1p126f;
    return scale ? v * as_f32(scale << 23) : v * 0x1p-127f;
}

// What is composed behind a kernel reads through one of these, if it can be asked before the results are there ("behind … asks",
// compiler/template.h): Asking reads, and writes nothing; Told has what was read. at: which of N reads. Integers are read at once, since
// places depend on them; the rest when it is known where all lie, what no view reads at a place that can be read: two that are read in
// different views are one instruction without a condition, else the second would wait for the first (QKV, 2,048 tokens: 17% of its time, H200, 2026-11-29).
template <int N> struct Asked {
    float f[N + 1];
    int i[N + 1];
};
#define INSIDE __device__ inline __attribute__((always_inline))
template <int N> struct Asking {
    Asked<N> &x;
    const float *floats[N + 1];
    const bf16 *halves[N + 1];
    INSIDE Asking(Asked<N> &x, const int *some) : x(x), halves{} {
        for (int at = 0; at <= N; at++) floats[at] = (const float *)some;
    }
    INSIDE int load(int at, const int *p, long i) { return x.i[at] = ::load(p, i); }
    INSIDE float load(int at, const float *p, long i) { return floats[at] = p + i, 0.f; }
    INSIDE float load(int at, const bf16 *p, long i) { return halves[at] = p + i, 0.f; }
    template <class P, class V> INSIDE void store(P *, long, V) const {}
    INSIDE void end() {
#pragma unroll
        for (int at = 0; at < N; at++) {
            x.f[at] = *floats[at];
            if (halves[at]) x.f[at] = f32_of(*halves[at]);
        }
    }
};
template <int N> struct Told {
    const Asked<N> &x;
    INSIDE int load(int at, const int *, long) const { return x.i[at]; }
    template <class P> INSIDE float load(int at, const P *, long) const { return x.f[at]; }
    template <class P, class V> INSIDE void store(P *p, long i, V v) const { ::store(p, i, v); }
};

// --- rows of weights, read 16 bytes at a time: Chunk<W>::N consecutive elements; Raw as they lie ---

template <class W> struct Chunk;
template <> struct Chunk<float> {
    enum { N = 4 };
    float v[N];
    typedef f32x4 Raw;
    DEVICE Raw fetch(const float *w, long row, long columns, int chunk, long) { return *(const f32x4 *)(w + row * columns + (long)chunk * N); }
    DEVICE Chunk of(const Raw &x) {
        Chunk c;
        for (int i = 0; i < N; i++) c.v[i] = x[i];
        return c;
    }
};
template <> struct Chunk<bf16> {
    enum { N = 8 };
    float v[N];
    typedef u32x4 Raw;
    DEVICE Raw fetch(const bf16 *w, long row, long columns, int chunk, long) { return *(const u32x4 *)(w + row * columns + (long)chunk * N); }
    DEVICE Chunk of(const Raw &x) {
        Chunk c;
        for (int i = 0; i < N; i++) c.v[i] = as_f32(i & 1 ? x[i / 2] & 0xffff0000u : x[i / 2] << 16);
        return c;
    }
};
template <> struct Chunk<mxfp4> {
    enum { N = 32 };
    float v[N];
    struct Raw {
        u32x4 codes;
        unsigned scale;
    };
    // rows: of the whole tensor; its scale bytes follow all its blocks
    DEVICE Raw fetch(const mxfp4 *w, long row, long columns, int chunk, long rows) {
        const long block = row * (columns / 32) + chunk;
        Raw r;
        r.codes = *(const u32x4 *)(w + block * 16), r.scale = w[rows * (columns / 2) + block];
        return r;
    }
    DEVICE Chunk of(const Raw &r) {
        Chunk c;
        for (int i = 0; i < N; i++) c.v[i] = mxfp4_value(r.codes[i / 8] >> (i % 8 * 4) & 15u, r.scale);
        return c;
    }
};

// --- reductions over a wave, in a fixed order: every lane gets the result ---

DEVICE double wave_sum(double v) {
    for (int d = WAVE / 2; d; d /= 2) v += shuffle_xor(v, d);
    return v;
}
DEVICE float wave_sum(float v) {
    for (int d = WAVE / 2; d; d /= 2) v += shuffle_xor(v, d);
    return v;
}
DEVICE double wave_max(double v) {
    for (int d = WAVE / 2; d; d /= 2) {
        const double w = shuffle_xor(v, d);
        v = w > v ? w : v;
    }
    return v;
}

// --- the best of a row ---

// A float as an unsigned number of the same order, and its index: ties to the lower one. NaN above everything, so that whoever chooses
// takes it, and what comes of it is NaN.
DEVICE u64 ordered(float v, int index) {
    const unsigned u = as_u32(v + 0.f), key = v != v ? 0xfffffffeu : u >> 31 ? ~u : u | 0x80000000u;
    return (u64)key << 32 | (unsigned)~index;
}

// take(r, e) for r = 0 … R - 1: the R-th highest of get(e), e < E, by one wave; of equals the lower e first.
template <int E, int R, class Get, class Take> DEVICE void wave_best(const Get &get, const Take &take) {
    u64 below = ~0ull;
    for (int r = 0; r < R; r++) {
        u64 best = 0;
        for (int e = threadIdx.x % WAVE; e < E; e += WAVE) {
            const u64 o = ordered(get(e), e);
            if (o < below && o > best) best = o;
        }
        for (int d = WAVE / 2; d; d /= 2) {
            const u64 o = shuffle_xor(best, d);
            best = o > best ? o : best;
        }
        below = best;
        take(r, (int)~(unsigned)best);
    }
}

// The best R of a token's logits, and softmax over them in double, in rank order, by one wave. power: R doubles of its own in shared memory.
template <int E, int R> DEVICE void wave_choose(const float *logit, int *ids, float *p, double *power) {
    const int lane = threadIdx.x % WAVE;
    float own = 0, top = 0; // lane r's own is rank r's
    wave_best<E, R>([&](int e) { return logit[e]; }, [&](int r, int e) {
        if (r == 0) top = logit[e];
        if (lane == r) own = logit[e], ids[r] = e;
    });
    const double part = exp((double)own - (double)top);
    if (lane < R) power[lane] = part;
    wave_sync();
    double sum = 0;
    for (int r = 0; r < R; r++) sum += power[r];
    if (lane < R) p[lane] = (float)(part / sum);
}

// --- a row's statistic: its columns in ROW_PARTS parts, each summed by a wave, added in ascending order ---

#if FAST
typedef float real;
#else
typedef double real;
#endif
enum { ROW_PARTS = 4 };

DEVICE real parts_sum(const real *part) {
    real sum = part[0];
#pragma unroll
    for (int q = 1; q < ROW_PARTS; q++) sum += part[q];
    return sum;
}

// The sum of part(q), which the block's WAVES waves compute in turn; every thread gets it. lds: of this block, not in use.
template <int WAVES, class Part> DEVICE real row_sum(Part part, real *lds) {
    for (int q = threadIdx.x / WAVE; q < ROW_PARTS; q += WAVES) {
        const real sum = part(q);
        if (threadIdx.x % WAVE == 0) lds[q] = sum;
    }
    __syncthreads();
    const real sum = parts_sum(lds);
    __syncthreads();
    return sum;
}

// The same by one wave.
template <class Part> DEVICE real wave_row_sum(Part part) {
    real each[ROW_PARTS];
#pragma unroll
    for (int q = 0; q < ROW_PARTS; q++) each[q] = part(q);
    return parts_sum(each);
}

// --- what the ops' texts use (CODE in ir/ops.def) ---

#if FAST
DEVICE float add_product(float x, float y, float sum) { return __builtin_fmaf(x, y, sum); }
DEVICE real rms_scale(real sum, int width, double eps) { return 1.f / sqrtf(sum / width + (float)eps); }
DEVICE float normed(float x, real scale, float g) { return x * scale * g; }
#else
DEVICE real rms_scale(real sum, int width, double eps) { return 1 / sqrt(sum / width + eps); }
DEVICE float normed(float x, real scale, float g) { return (float)((double)x * scale * (double)g); }
#endif
DEVICE double add_product(float x, float y, double sum) { return __builtin_fma((double)x, (double)y, sum); }
DEVICE real add_square(float x, real sum) { return add_product(x, x, sum); }

// One coordinate of a pair turned by an angle; in double, rounded once.
DEVICE float rotated(double v, double w, double c, double s) { return (float)(v * c + w * s); }

// min(gate, limit) * sigmoid(alpha * min(gate, limit)) * (clamp(up, -limit, limit) + 1), in double, rounded once; for fast in float.
#if FAST
DEVICE float swiglu(float gate, float up, float limit, float alpha) {
    const float g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
#ifdef FAST_SIGMOID
    return g * FAST_SIGMOID(alpha * g) * (u + 1.f);
#else
    return g / (1.f + expf(-alpha * g)) * (u + 1.f);
#endif
}
#else
DEVICE float swiglu(float gate, float up, double limit, double alpha) {
    const double g = gate > limit ? limit : (double)gate;
    const double u = up > limit ? limit : up < -limit ? -limit : (double)up;
    return (float)(g / (1 + exp(-alpha * g)) * (u + 1));
}
#endif
