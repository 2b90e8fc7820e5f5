//! kernel router(x: f32[T,K], g: f32[K], w: f32|bf16[E,K], b?: f32[E]) -> (n: f32[T,K], p: f32[T,R], ids: i32[T,R])
//! attr   EPS = rmsnorm.eps
//! const  THREADS = WAVE == 32 ? 512 : 1024
//! const  WAVES = THREADS / WAVE
//! const  TOKENS = min(4, (LDS - 1024) / (K * 4 + E * 4))
//! where  K % 16 == 0 && E <= 1024 && R <= 8 && TOKENS > 0
//! grid   T <= 132 ? T : T <= 264 ? ceil(T, min(TOKENS, 2)) : ceil(T, TOKENS)
//! block  THREADS
//! overlaps
//! reduce a row in 4 parts, each by a wave; K by {WAVE} lanes in 16-byte chunks, lanes by butterfly; f64, in rank order
//! hook   out
//! tol    strict 1e-16 fast 1e-11, sm_90 1e-7
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
