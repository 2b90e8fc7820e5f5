#line 1 "router_K64_E4_R2"
namespace router_K64_E4_R2_ {
constexpr int x_RANK = 2;
constexpr int K = 64;
constexpr int g_RANK = 1;
constexpr int w_RANK = 2;
constexpr int w_MXFP4 = 0;
constexpr int E = 4;
constexpr int HAS_B = 1;
constexpr int b_RANK = 1;
constexpr int n_RANK = 2;
constexpr int p_RANK = 2;
constexpr int R = 2;
constexpr int ids_RANK = 2;
constexpr double EPS = 1.0000000000000001e-05;
constexpr int WAVES = 16;
constexpr int TOKENS = 4;

struct Args {
    const int *step;
    const float *x;
    const float *g;
    const bf16 *w;
    const float *b;
    float *p;
    int *ids;
    bf16 *y;
};
DEVICE int row_count(const Args &a) { return a.step[0]; }

// Row t, column n of the kernel's result is v.
DEVICE void out(const Args &a, int t, int n, float v) {
    const float cast4 = cast_bf16(v);
    store(a.y, (long)t * 64 + n, cast4);
}

#line 11 "router.hip"
// One block a token, or TOKENS of them where there are many: RMSNorm, whose result is stored too, the logit of each expert by a wave (in
// fast in float, but nothing is rounded to bf16: the choice hangs on it); the best R (ties to the lower index), and softmax over them.
// NMSE in fast: a row's scale in float.

// A float as an unsigned number of the same order; NaN below everything, so that an index is always valid.
DEVICE u64 ordered(float v, int index) {
    const unsigned u = as_u32(v + 0.f), key = v != v ? 0 : u >> 31 ? ~u : u | 0x80000000u;
    return (u64)key << 32 | (unsigned)~index;
}

DEVICE void choose(const Args &a, int t, const float *logit) { // by one wave
    const int lane = threadIdx.x % WAVE;
    u64 below = ~0ull;
    float kept[R];
    for (int r = 0; r < R; r++) {
        u64 best = 0;
        for (int e = lane; e < E; e += WAVE) {
            const u64 o = ordered(logit[e], e);
            if (o < below && o > best) best = o;
        }
        for (int d = WAVE / 2; d; d /= 2) {
            const u64 o = shuffle_xor(best, d);
            best = o > best ? o : best;
        }
        below = best;
        const int e = (int)~(unsigned)best;
        kept[r] = logit[e];
        if (lane == 0) a.ids[(long)t * R + r] = e;
    }
    double sum = 0;
    for (int r = 0; r < R; r++) sum += exp((double)kept[r] - (double)kept[0]);
    if (lane == 0)
        for (int r = 0; r < R; r++) a.p[(long)t * R + r] = (float)(exp((double)kept[r] - (double)kept[0]) / sum);
}

enum { AHEAD = FAST ? 12 : 2 }; // chunks of a weight row that a lane loads at once; doubles leave no registers for more

template <class W> DEVICE void compute(const Args &a, const W *w) {
    typedef Chunk<W> C;
    __shared__ float row[TOKENS][K], logit[TOKENS][E];
    __shared__ real part[TOKENS][ROW_PARTS];
    const int rows = row_count(a), each = (rows + (int)gridDim.x - 1) / (int)gridDim.x, t0 = blockIdx.x * each, left = rows - t0, count = left < each ? left : each;
    const int lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE;
    if (count <= 0) return;
#pragma unroll 4
    for (int i = threadIdx.x; i < count * K; i += 1024) row[i / K][i % K] = a.x[(long)t0 * K + i];
    __syncthreads();
    if (wave < count * ROW_PARTS) { // as row_sum, of several rows at once
        const float *own = row[wave / ROW_PARTS];
        real sum = 0;
#pragma unroll 32
        for (int k = wave % ROW_PARTS * WAVE + lane; k < K; k += ROW_PARTS * WAVE) sum = add_square(own[k], sum);
        sum = wave_sum(sum);
        if (lane == 0) part[wave / ROW_PARTS][wave % ROW_PARTS] = sum;
    }
    __syncthreads();
    for (int i = 0; i < count; i++) {
        const real scale = rms_scale(parts_sum(part[i]), K, EPS);
#pragma unroll
        for (int k = threadIdx.x; k < K; k += 1024) {
            row[i][k] = normed(row[i][k], scale, a.g[k]);
            out(a, t0 + i, k, row[i][k]);
        }
    }
    __syncthreads();
    for (int e = wave; e < E; e += WAVES) {
        real sum[TOKENS] = {};
#pragma unroll AHEAD
        for (int c = lane; c < K / C::N; c += WAVE) {
            const C q = C::read(w, e, K, c, E);
#pragma unroll
            for (int i = 0; i < TOKENS; i++) {
                if (i >= count) continue;
                for (int k = 0; k < C::N; k++) sum[i] = add_product(row[i][c * C::N + k], q.v[k], sum[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            if (i >= count) continue;
            sum[i] = wave_sum(sum[i]);
            if (lane == 0) logit[i][e] = (float)(sum[i] + (HAS_B ? (real)a.b[e] : 0));
        }
    }
    __syncthreads();
    if (wave < count) choose(a, t0 + wave, logit[wave]);
}

DEVICE void run(const Args &a) { compute(a, a.w); }
}
extern "C" __global__ __launch_bounds__(1024) void router_K64_E4_R2(const int *__restrict__ step, const float *__restrict__ x, const float *__restrict__ g, const bf16 *__restrict__ w, const float *__restrict__ b, float *__restrict__ p, int *__restrict__ ids, bf16 *__restrict__ y) {
    overlap_wait();
    overlap_next();
    router_K64_E4_R2_::run({step, x, g, w, b, p, ids, y});
}
