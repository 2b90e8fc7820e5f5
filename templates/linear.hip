//! kernel linear(x: f32|bf16[T,K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! front  x
//! behind pairs
//! where  K % 16 == 0
//! const  WAVES = 256 / WAVE
//! const  TOKENS = X_PLAIN ? 4 : min(4, (LDS - 1024) / (K * 4))
//! where  TOKENS > 0
//! grid   ceil(N, WAVES * GROUP), ceil(T, TOKENS)
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! tol    strict 1e-16 fast 1e-16, rmsnorm 1e-12
// One wave a group of weight rows, TOKENS tokens at once; products and sums in double.
// NMSE in fast: a row's statistic in float.

template <class W, class X> DEVICE void dot(const W *w, X x, int row, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::of(C::fetch(w, row, K, c, N));
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            if (i >= count) continue;
            for (int k = 0; k < C::N; k++) sum[i] = __builtin_fma((double)x(i, c * C::N + k), (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    __shared__ float rows[X_PLAIN ? 1 : TOKENS][X_PLAIN ? 1 : K];
    __shared__ real part[ROW_PARTS];
    const int j = blockIdx.x * WAVES + threadIdx.x / WAVE, t0 = blockIdx.y * TOKENS;
    const int left = row_count(a) - t0, count = left < TOKENS ? left : TOKENS;
    if (count <= 0) return;
    for (int i = 0; !X_PLAIN && i < count; i++) {
        const real row = X_ROW ? x_stat(row_sum<WAVES>([&](int q) { return x_sum(a, t0 + i, q); }, part)) : 0;
        for (int k = threadIdx.x; k < K; k += 256) rows[i][k] = x_at(a, row, t0 + i, k);
    }
    __syncthreads();
    if (j >= N / GROUP) return;
    double sum[GROUP][TOKENS] = {};
    for (int m = 0; m < GROUP; m++)
        if (X_PLAIN) dot(a.w, [&](int i, int k) { return load(a.x, (long)(t0 + i) * K + k); }, out_row(j, m), count, sum[m]);
        else dot(a.w, [&](int i, int k) { return rows[i][k]; }, out_row(j, m), count, sum[m]);
    for (int i = 0; i < TOKENS; i++) {
        if (i >= count) continue;
        float v[GROUP];
        for (int m = 0; m < GROUP; m++) v[m] = (float)(wave_sum(sum[m][i]) + (HAS_B ? (double)a.b[out_row(j, m)] : 0));
        if (threadIdx.x % WAVE == 0) out(a, t0 + i, j, v);
    }
}
