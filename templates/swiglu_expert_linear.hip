//! kernel swiglu_expert_linear(h: f32[T,R,G], w: f32|bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! cast   S = swiglu
//! const  ROWS = 64
//! const  TILE = 4
//! where  K % 32 == 0 && G == 2 * K && TILE * K * 4 + 2048 <= LDS
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// A block computes the SwiGLU rows of its tile once into LDS, then each wave takes every fourth of ROWS weight rows.

template <class W> DEVICE void dot(const float (*s)[K], const W *w, long row, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::read(w, row, K, c, (long)E * N);
#pragma unroll
        for (int i = 0; i < TILE; i++) {
            if (i >= count) continue;
            for (int k = 0; k < C::N; k++) sum[i] = __builtin_fma((double)s[i][c * C::N + k], (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    __shared__ float s[TILE][K];
    const int *tile = a.tiles + blockIdx.y * 4, expert = tile[0], count = tile[2];
    if (blockIdx.y >= E + row_count(a) * R || count == 0) return;
    for (int i = 0; i < count; i++) {
        const float *h = a.h + (long)a.perm[tile[1] + i] * G;
        for (int k = threadIdx.x; k < K; k += 256) {
            const float v = swiglu(h[2 * k], h[2 * k + 1], LIMIT, ALPHA);
            s[i][k] = S_BF16 ? f32_of(bf16_of(v)) : v;
        }
    }
    __syncthreads();
    for (int n = blockIdx.x * ROWS + threadIdx.x / WAVE; n < (blockIdx.x + 1) * ROWS && n < N; n += 256 / WAVE) {
        double sum[TILE] = {};
        dot(s, a.w, (long)expert * N + n, count, sum);
        for (int i = 0; i < TILE; i++) {
            const double v = wave_sum(sum[i]) + (double)a.b[(long)expert * N + n];
            if (i < count && threadIdx.x % WAVE == 0) out(a, a.perm[tile[1] + i], n, (float)v);
        }
    }
}
