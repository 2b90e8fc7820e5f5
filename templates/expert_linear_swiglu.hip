//! kernel expert_linear_swiglu(x: f32|bf16[T,(R),K], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,I])
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! where  K % 32 == 0 && N == 2 * I
//! const  ROWS = 256 / WAVE
//! const  TILE = 4
//! group  perm, tiles = ids, TILE
//! grid   ceil(I, ROWS), min(E, T * R) + T * R / TILE
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// One wave a gate row and its up row (2i, 2i + 1) of one expert, a tile of the pairs routed to it; in double.

template <class X, class W> DEVICE void dot(const X *x, const W *w, long row, const int *pair, int count, double *gate, double *up) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C g = C::read(w, row, K, c, (long)E * N), u = C::read(w, row + 1, K, c, (long)E * N);
#pragma unroll
        for (int i = 0; i < TILE; i++) {
            if (i >= count) continue;
            const long at = (long)(x_RANK == 3 ? pair[i] : pair[i] / R) * K + c * C::N;
            for (int k = 0; k < C::N; k++) {
                const double v = load(x, at + k);
                gate[i] = __builtin_fma(v, (double)g.v[k], gate[i]);
                up[i] = __builtin_fma(v, (double)u.v[k], up[i]);
            }
        }
    }
}

DEVICE void run(const Args &a) {
    const int i = blockIdx.x * ROWS + threadIdx.x / WAVE, *tile = a.tiles + blockIdx.y * 4;
    const int expert = tile[0], count = tile[2];
    if (i >= I || blockIdx.y >= E + row_count(a) * R || count == 0) return;
    int pair[TILE];
    for (int j = 0; j < TILE; j++) pair[j] = a.perm[tile[1] + (j < count ? j : 0)];
    const long row = (long)expert * N + 2 * i;
    double gate[TILE] = {}, up[TILE] = {};
    dot(a.x, a.w, row, pair, count, gate, up);
    for (int j = 0; j < TILE; j++) {
        const float g = (float)(wave_sum(gate[j]) + (double)a.b[row]), u = (float)(wave_sum(up[j]) + (double)a.b[row + 1]);
        if (j < count && threadIdx.x % WAVE == 0) out(a, pair[j], i, swiglu(g, u, LIMIT, ALPHA));
    }
}
