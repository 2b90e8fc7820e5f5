//! kernel expert_linear(x: f32|bf16[T,(R),K], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! where  K % 32 == 0
//! const  ROWS = 256 / WAVE
//! const  TILE = 4
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// One wave a weight row of one expert, a tile of the pairs routed to it; products and sums in double.

template <class X, class W> DEVICE void dot(const X *x, const W *w, long row, const int *pair, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::read(w, row, K, c, (long)E * N);
#pragma unroll
        for (int i = 0; i < TILE; i++) {
            if (i >= count) continue;
            const long at = (long)(x_RANK == 3 ? pair[i] : pair[i] / R) * K + c * C::N;
            for (int k = 0; k < C::N; k++) sum[i] = __builtin_fma((double)load(x, at + k), (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    const int n = blockIdx.x * ROWS + threadIdx.x / WAVE, *tile = a.tiles + blockIdx.y * 4;
    const int expert = tile[0], count = tile[2];
    if (n >= N || blockIdx.y >= E + row_count(a) * R || count == 0) return;
    int pair[TILE];
    for (int i = 0; i < TILE; i++) pair[i] = a.perm[tile[1] + (i < count ? i : 0)];
    double sum[TILE] = {};
    dot(a.x, a.w, (long)expert * N + n, pair, count, sum);
    for (int i = 0; i < TILE; i++) {
        const double v = wave_sum(sum[i]) + (double)a.b[(long)expert * N + n];
        if (i < count && threadIdx.x % WAVE == 0) out(a, pair[i], n, (float)v);
    }
}
