//! kernel expert_linear(x: f32|bf16[T,(R),K], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! front  x
//! behind pairs
//! where  K % 32 == 0
//! const  WAVES = 256 / WAVE
//! const  TILE = X_PLAIN ? 4 : min(4, (LDS - 1024) / (K * 4))
//! where  TILE > 0
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, WAVES * GROUP), min(E, T * R) + T * R / TILE
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! tol    strict 1e-16 fast 1e-16, swiglu 1e-12
// One wave a group of one expert's weight rows, a tile of the pairs routed to it; products and sums in double.
// NMSE in fast: SwiGLU in float.

DEVICE int x_row(int pair) { return x_RANK == 3 ? pair : pair / R; }

template <class W, class X> DEVICE void dot(const W *w, X x, long row, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::of(C::fetch(w, row, K, c, (long)E * N));
#pragma unroll
        for (int i = 0; i < TILE; i++) {
            if (i >= count) continue;
            for (int k = 0; k < C::N; k++) sum[i] = __builtin_fma((double)x(i, c * C::N + k), (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    __shared__ float rows[X_PLAIN ? 1 : TILE][X_PLAIN ? 1 : K];
    __shared__ real part[ROW_PARTS];
    const int j = blockIdx.x * WAVES + threadIdx.x / WAVE, *tile = a.tiles + blockIdx.y * 4;
    if (blockIdx.y >= E + row_count(a) * R) return;
    const int expert = tile[0], count = tile[2];
    if (count == 0) return;
    int pair[TILE];
    for (int i = 0; i < TILE; i++) pair[i] = a.perm[tile[1] + (i < count ? i : 0)];
    for (int i = 0; !X_PLAIN && i < count; i++) {
        const int t = x_row(a.perm[tile[1] + i]);
        const real row = X_ROW ? x_stat(row_sum<WAVES>([&](int q) { return x_sum(a, t, q); }, part)) : 0;
        for (int k = threadIdx.x; k < K; k += 256) rows[i][k] = x_at(a, row, t, k);
    }
    __syncthreads();
    if (j >= N / GROUP) return;
    double sum[GROUP][TILE] = {};
#pragma unroll
    for (int m = 0; m < GROUP; m++) {
        const long row = (long)expert * N + out_row(j, m);
        if (X_PLAIN) dot(a.w, [&](int i, int k) { return load(a.x, (long)x_row(pair[i]) * K + k); }, row, count, sum[m]);
        else dot(a.w, [&](int i, int k) { return rows[i][k]; }, row, count, sum[m]);
    }
#pragma unroll
    for (int i = 0; i < TILE; i++) {
        if (i >= count) continue;
        float v[GROUP];
#pragma unroll
        for (int m = 0; m < GROUP; m++) v[m] = (float)(wave_sum(sum[m][i]) + (double)a.b[(long)expert * N + out_row(j, m)]);
        if (threadIdx.x % WAVE == 0) out(a, pair[i], j, v);
    }
}
