//! kernel rmsnorm_linear(x: f32[T,K], g: f32[K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   gfx90a
//! priority 10
//! attr   EPS = rmsnorm.eps
//! cast   XN = rmsnorm
//! where  K % 32 == 0 && XN_BF16
//! const  ROWS = 16
//! const  TOKENS = 16
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  256
//! reduce f32, K by 64 lanes; mfma 16x16x16 bf16, K in 4 segments, ascending
//! hook   out
//! tol    fast 1e-7
// linear.mfma.hip with the rows normalised and rounded to bf16 as they are read. Each block finds its tokens' scales itself.
// NMSE: a scale in float may round an activation to the other bf16 neighbour (2^-9 of it, rarely):
// measured up to 4.1e-9 at K = 64, 6e-16 at K = 2880 (emu, 2026-11-21).

DEVICE void run(const Args &a) {
    __shared__ float part[4][ROWS][TOKENS + 1], scales[TOKENS];
    const int n0 = blockIdx.x * ROWS, t0 = blockIdx.y * TOKENS, left = row_count(a) - t0, column = threadIdx.x % 16;
    if (left <= 0) return;
    for (int t = threadIdx.x / WAVE; t < TOKENS && t < left; t += 256 / WAVE) {
        float sum = 0;
        for (int k = threadIdx.x % WAVE * 4; k < K; k += WAVE * 4) {
            const f32x4 v = *(const f32x4 *)(a.x + (long)(t0 + t) * K + k);
            for (int i = 0; i < 4; i++) sum = __builtin_fmaf(v[i], v[i], sum);
        }
        sum = wave_sum(sum);
        if (threadIdx.x % WAVE == 0) scales[t] = (float)(1 / sqrt((double)sum / K + EPS));
    }
    __syncthreads();
    const int token = column < left ? column : left - 1, row = n0 + column < N ? n0 + column : N - 1;
    const float *x = a.x + (long)(t0 + token) * K, *g = a.g, scale = scales[token];
    block_product(a.w, row, N, K, [=](int k) {
        s16x8 v;
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = (short)bf16_of(x[k + i] * scale * g[k + i]);
        return v;
    }, part);
    __syncthreads();
    const int n = threadIdx.x % ROWS, t = threadIdx.x / ROWS;
    if (t < left && n0 + n < N) out(a, t0 + t, n0 + n, block_sum(part, n, t) + (HAS_B ? a.b[n0 + n] : 0.f));
}
