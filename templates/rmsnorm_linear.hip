//! kernel rmsnorm_linear(x: f32[T,K], g: f32[K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! attr   EPS = rmsnorm.eps
//! cast   XN = rmsnorm
//! const  ROWS = 16
//! const  TOKENS = 2
//! where  K % 32 == 0 && TOKENS * K * 4 + 2048 <= LDS
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  256
//! reduce f64, K by 256 threads, then waves; K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// A block normalises its TOKENS rows once into LDS, then each wave takes every fourth of ROWS weight rows.

DEVICE void normalise(const Args &a, int t, float *y) {
    __shared__ double part[256 / WAVE];
    double sum = 0;
    for (int k = threadIdx.x; k < K; k += 256) sum = __builtin_fma((double)a.x[(long)t * K + k], (double)a.x[(long)t * K + k], sum);
    sum = wave_sum(sum);
    __syncthreads(); // the last row's sum has been read
    if (threadIdx.x % WAVE == 0) part[threadIdx.x / WAVE] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < 256 / WAVE; w++) sum += part[w];
    const double scale = 1 / sqrt(sum / K + EPS);
    for (int k = threadIdx.x; k < K; k += 256) {
        const float v = (float)((double)a.x[(long)t * K + k] * scale * (double)a.g[k]);
        y[k] = XN_BF16 ? f32_of(bf16_of(v)) : v;
    }
}

template <class W> DEVICE void dot(const float (*x)[K], const W *w, int n, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::read(w, n, K, c, N);
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            if (i >= count) continue;
            for (int k = 0; k < C::N; k++) sum[i] = __builtin_fma((double)x[i][c * C::N + k], (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    __shared__ float x[TOKENS][K];
    const int t0 = blockIdx.y * TOKENS, left = row_count(a) - t0, count = left < TOKENS ? left : TOKENS;
    if (count <= 0) return;
    for (int i = 0; i < count; i++) normalise(a, t0 + i, x[i]);
    __syncthreads();
    for (int n = blockIdx.x * ROWS + threadIdx.x / WAVE; n < (blockIdx.x + 1) * ROWS && n < N; n += 256 / WAVE) {
        double sum[TOKENS] = {};
        dot(x, a.w, n, count, sum);
        for (int i = 0; i < TOKENS; i++) {
            const double v = wave_sum(sum[i]) + (HAS_B ? (double)a.b[n] : 0);
            if (i < count && threadIdx.x % WAVE == 0) out(a, t0 + i, n, (float)v);
        }
    }
}
