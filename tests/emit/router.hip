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
constexpr int THREADS = 1024;
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

#line 13 "router.hip"
// One block a token, or TOKENS of them where there are many: RMSNorm, whose result is stored too, the logit of each expert by one wave (in
// fast in float, but nothing is rounded to bf16: the choice hangs on it); the best R (ties to the lower index), and softmax over them.
// NMSE in fast: a row's scale in float.

template <class W> DEVICE void compute(const Args &a, const W *w) {
    typedef Chunk<W> C;
    // A wave takes PER experts at a time, so that a row is read from shared memory as many times less often; of these, HELD chunks of
    // each are on their way before they are needed. More registers there are not.
    enum { CHUNKS = K / C::N, EACH = (CHUNKS + WAVE - 1) / WAVE, WIDE = WAVE == 32 && FAST, PER = WIDE ? 2 : 1, HELD = !WIDE ? 0 : EACH < 10 ? EACH : 10, AT_ONCE = FAST ? EACH : 2 };
    // A chunk's parts of 16 bytes lie apart, so that neighbouring lanes' are neighbours.
    enum { PARTS = C::N / 4 };
    auto place = [](int k) { return k / 4 % PARTS * (K / PARTS) + k / C::N * 4 + k % 4; };
    __shared__ __attribute__((aligned(16))) float row[TOKENS][K];
    __shared__ float logit[TOKENS][E];
    __shared__ real part[TOKENS][ROW_PARTS];
    __shared__ double power[TOKENS][R];
    const int rows = row_count(a), each = (rows + (int)gridDim.x - 1) / (int)gridDim.x, t0 = blockIdx.x * each, left = rows - t0, count = left < each ? left : each;
    const int lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE;
    if (count <= 0) return;
    typename C::Raw held[PER][HELD + 1];
    auto fetch = [&](int e) {
#pragma unroll
        for (int n = 0; n < PER; n++)
#pragma unroll
            for (int j = 0; j < HELD; j++)
                if (e + n < E && lane + j * WAVE < CHUNKS) held[n][j] = C::fetch(w, e + n, K, lane + j * WAVE, E);
    };
    fetch(wave * PER);
    overlap_wait();
    overlap_next();
    for (int i = 0; i < count; i++) strided<K, THREADS>(threadIdx.x, [&](int k) { return a.x[(long)(t0 + i) * K + k]; }, [&](int k, float v) { row[i][place(k)] = v; });
    __syncthreads();
    if (wave < count * ROW_PARTS) { // as row_sum, of several rows at once
        const float *own = row[wave / ROW_PARTS];
        real sum = 0;
        strided<K, ROW_PARTS * WAVE>(wave % ROW_PARTS * WAVE + lane, [&](int k) { sum = add_square(own[place(k)], sum); });
        sum = wave_sum(sum);
        if (lane == 0) part[wave / ROW_PARTS][wave % ROW_PARTS] = sum;
    }
    __syncthreads();
    for (int i = 0; i < count; i++) {
        const real scale = rms_scale(parts_sum(part[i]), K, EPS);
        strided<K, THREADS>(threadIdx.x, [&](int k) { return normed(row[i][place(k)], scale, a.g[k]); }, [&](int k, float v) {
            row[i][place(k)] = v;
            out(a, t0 + i, k, v);
        });
    }
    __syncthreads();
    for (int e = wave * PER; e < E; e += WAVES * PER) {
        real sum[PER][TOKENS] = {};
#pragma unroll AT_ONCE
        for (int j = 0; j < EACH; j++) {
            const int c = lane + j * WAVE;
            if (c >= CHUNKS) continue;
            C q[PER];
#pragma unroll
            for (int n = 0; n < PER; n++) q[n] = C::of(j < HELD ? held[n][j] : C::fetch(w, e + n < E ? e + n : e, K, c, E));
#pragma unroll
            for (int i = 0; i < TOKENS; i++) {
                if (i >= count) continue;
#pragma unroll
                for (int k = 0; k < C::N; k += 4) {
                    const f32x4 x = *(const f32x4 *)&row[i][k / 4 * (K / PARTS) + c * 4];
#pragma unroll
                    for (int n = 0; n < PER; n++)
#pragma unroll
                        for (int m = 0; m < 4; m++) sum[n][i] = add_product(x[m], q[n].v[k + m], sum[n][i]);
                }
            }
        }
        fetch(e + WAVES * PER);
#pragma unroll
        for (int n = 0; n < PER; n++)
#pragma unroll
            for (int i = 0; i < TOKENS; i++) {
                if (i >= count || e + n >= E) continue;
                const real all = wave_sum(sum[n][i]);
                if (lane == 0) logit[i][e + n] = (float)(all + (HAS_B ? (real)a.b[e + n] : 0));
            }
    }
    __syncthreads();
    if (wave < count) wave_choose<E, R>(logit[wave], a.ids + (long)(t0 + wave) * R, a.p + (long)(t0 + wave) * R, power[wave]);
}

DEVICE void run(const Args &a) { compute(a, a.w); }
}
extern "C" __global__ __launch_bounds__(1024) void router_K64_E4_R2(const int *__restrict__ step, const float *__restrict__ x, const float *__restrict__ g, const bf16 *__restrict__ w, const float *__restrict__ b, float *__restrict__ p, int *__restrict__ ids, bf16 *__restrict__ y) {
    router_K64_E4_R2_::run({step, x, g, w, b, p, ids, y});
}
