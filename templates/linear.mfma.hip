//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! where  MATRIX
//! priority 10
//! where  K % 16 == 0
//! const  ROWS = 16
//! const  TOKENS = 16
//! const  WAVES = 256 / WAVE
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  256
//! reduce mma 16x16 bf16, K in {WAVES} segments, ascending
//! hook   out
//! tol    fast 1e-12
// A block computes 16 weight rows for 16 tokens; columns beyond the step's tokens repeat the last one and are not stored.

DEVICE void run(const Args &a) {
    __shared__ float part[WAVES][ROWS][TOKENS + 1];
    const int n0 = blockIdx.x * ROWS, t0 = blockIdx.y * TOKENS, left = row_count(a) - t0;
    if (left <= 0) return;
    const bf16 *x[LINES];
    int row[LINES];
#pragma unroll
    for (int i = 0; i < LINES; i++) {
        const int at = tile_line(i);
        x[i] = a.x + (long)(t0 + (at < left ? at : left - 1)) * K;
        row[i] = n0 + at < N ? n0 + at : N - 1;
    }
    block_product(a.w, row, N, K, [&](int i, int k) { return *(const s16x8 *)(x[i] + k); }, part);
    __syncthreads();
    const int n = threadIdx.x % ROWS, t = threadIdx.x / ROWS;
    if (t < left && n0 + n < N) out(a, t0 + t, n0 + n, block_sum(part, n, t) + (HAS_B ? a.b[n0 + n] : 0.f));
}
