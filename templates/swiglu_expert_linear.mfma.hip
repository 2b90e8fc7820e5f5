//! kernel swiglu_expert_linear(h: f32[T,R,G], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! where  MATRIX
//! priority 10
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! cast   S = swiglu
//! where  K % 32 == 0 && G == 2 * K && S_BF16
//! const  ROWS = 16
//! const  TILE = 16
//! const  WAVES = 256 / WAVE
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  256
//! reduce mma 16x16 bf16, K in {WAVES} segments, ascending
//! hook   out
//! tol    fast 1e-12
// expert_linear.mfma.hip with SwiGLU computed and rounded to bf16 as its rows are read: no row of it is stored, but every
// block of 16 weight rows computes it again.

DEVICE void run(const Args &a) {
    __shared__ float part[WAVES][ROWS][TILE + 1];
    const int n0 = blockIdx.x * ROWS, *tile = a.tiles + blockIdx.y * 4;
    if (blockIdx.y >= E + row_count(a) * R) return;
    const int expert = tile[0], count = tile[2];
    if (count == 0) return;
    const int *pairs = a.perm + tile[1];
    const float *h[LINES];
    int row[LINES];
#pragma unroll
    for (int i = 0; i < LINES; i++) {
        const int at = tile_line(i);
        h[i] = a.h + (long)pairs[at < count ? at : count - 1] * G;
        row[i] = expert * N + (n0 + at < N ? n0 + at : N - 1);
    }
    block_product(a.w, row, (long)E * N, K, [&](int i, int k) {
        s16x8 v;
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = (short)bf16_of(swiglu_f32(h[i][2 * (k + j)], h[i][2 * (k + j) + 1], LIMIT, ALPHA));
        return v;
    }, part);
    __syncthreads();
    const int n = threadIdx.x % ROWS, t = threadIdx.x / ROWS;
    if (t < count && n0 + n < N) out(a, pairs[t], n0 + n, block_sum(part, n, t) + a.b[(long)expert * N + n0 + n]);
}
