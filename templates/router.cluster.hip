//! kernel router(x: f32[T,K], g: f32[K], w: f32|bf16[E,K], b?: f32[E]) -> (n: f32[T,K], p: f32[T,R], ids: i32[T,R])
//! precision fast
//! arch   sm_90
//! tokens 16
//! priority 10
//! attr   EPS = rmsnorm.eps
//! const  BLOCKS = 8
//! const  EXPERTS = ceil(E, BLOCKS)
//! const  THREADS = max(4, min(16, EXPERTS)) * WAVE
//! where  K % 16 == 0 && K <= 32 * THREADS && K * 4 + E * 4 + 1024 <= LDS && E <= 1024 && R <= 8
//! grid   T * BLOCKS
//! cluster BLOCKS
//! block  THREADS
//! overlaps
//! reduce a row in 4 parts, each by a wave; K by {WAVE} lanes in 16-byte chunks, lanes by butterfly; f64, in rank order
//! hook   out
//! tol    fast 1e-7
// As router.hip, to the bit, a token by a cluster of BLOCKS blocks: each makes the row, and the logits of EXPERTS experts, a wave one at a
// time, whose weights are on their way while the launch before ends; the first block chooses.

enum { TURNS = (K + THREADS - 1) / THREADS };
template <class Do> DEVICE void each(Do f) { // f(i, k): the thread's i-th column of the row
#pragma unroll
    for (int i = 0; i < TURNS; i++)
        if (i < K / THREADS || (int)threadIdx.x + i * THREADS < K) f(i, (int)threadIdx.x + i * THREADS);
}

template <class W> DEVICE void compute(const Args &a, const W *w) {
    typedef Chunk<W> C;
    enum { CHUNKS = K / C::N, EACH = (CHUNKS + WAVE - 1) / WAVE, HELD = EACH < 16 ? EACH : 16, PARTS = C::N / 4 };
    // A chunk's parts of 16 bytes lie apart, so that neighbouring lanes' are neighbours.
    auto place = [](int k) { return k / 4 % PARTS * (K / PARTS) + k / C::N * 4 + k % 4; };
    __shared__ __attribute__((aligned(16))) float row[K];
    __shared__ float logit[E];
    __shared__ real part[ROW_PARTS];
    __shared__ double power[R];
    const int rank = cluster_rank(), t = blockIdx.x / BLOCKS, lane = threadIdx.x % WAVE, wave = threadIdx.x / WAVE;
    const int upto = (rank + 1) * EXPERTS < E ? (rank + 1) * EXPERTS : E;
    if (t >= row_count(a)) return;
    typename C::Raw held[HELD];
    auto fetch = [&](int e) {
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (e < upto && lane + j * WAVE < CHUNKS) held[j] = C::fetch(w, e, K, lane + j * WAVE, E);
    };
    float x[TURNS], g[TURNS];
    fetch(rank * EXPERTS + wave);
    each([&](int i, int k) { g[i] = a.g[k]; });
    cluster_sync(); // the first block is there
    overlap_wait();
    overlap_next();
    each([&](int i, int k) { x[i] = a.x[(long)t * K + k]; });
    each([&](int i, int k) { row[place(k)] = x[i]; });
    __syncthreads();
    if (wave < ROW_PARTS) { // as row_sum
        real sum = 0;
        strided<K, ROW_PARTS * WAVE>(threadIdx.x, [&](int k) { sum = add_square(row[place(k)], sum); });
        sum = wave_sum(sum);
        if (lane == 0) part[wave] = sum;
    }
    __syncthreads();
    const real scale = rms_scale(parts_sum(part), K, EPS);
    each([&](int i, int k) { row[place(k)] = x[i] = normed(x[i], scale, g[i]); });
    __syncthreads();
    for (int e = rank * EXPERTS + wave; e < upto; e += THREADS / WAVE) {
        real sum = 0;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int c = lane + j * WAVE;
            if (c >= CHUNKS) continue;
            const C q = C::of(j < HELD ? held[j] : C::fetch(w, e, K, c, E));
#pragma unroll
            for (int k = 0; k < C::N; k += 4) {
                const f32x4 v = *(const f32x4 *)&row[k / 4 * (K / PARTS) + c * 4];
#pragma unroll
                for (int m = 0; m < 4; m++) sum = add_product(v[m], q.v[k + m], sum);
            }
        }
        fetch(e + THREADS / WAVE);
        sum = wave_sum(sum);
        if (lane == 0) cluster_store(&logit[e], 0, (float)(sum + (HAS_B ? (real)a.b[e] : 0)));
    }
    cluster_sync(); // all logits are there
    each([&](int i, int k) {
        if (i % BLOCKS == rank) out(a, t, k, x[i]);
    });
    if (rank == 0 && wave == 0) wave_choose<E, R>(logit, a.ids + (long)t * R, a.p + (long)t * R, power);
}

DEVICE void run(const Args &a) { compute(a, a.w); }
