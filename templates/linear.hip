//! kernel linear(x: f32|bf16[T,K], w: f32|bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! where  K % 16 == 0
//! const  ROWS = 256 / WAVE
//! const  TOKENS = 4
//! grid   ceil(N, ROWS), ceil(T, TOKENS)
//! block  256
//! reduce f64, K by {WAVE} lanes in 16-byte chunks, lanes by butterfly
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// One wave a weight row, TOKENS tokens at once; products and sums in double.

template <class X, class W> DEVICE void dot(const Args &a, const X *x, const W *w, int n, int t0, int count, double *sum) {
    typedef Chunk<W> C;
    for (int c = threadIdx.x % WAVE; c < K / C::N; c += WAVE) {
        const C q = C::read(w, n, K, c, N);
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            if (i >= count) continue;
            for (int k = 0; k < C::N; k++)
                sum[i] = __builtin_fma((double)load(x, (long)(t0 + i) * K + c * C::N + k), (double)q.v[k], sum[i]);
        }
    }
}

DEVICE void run(const Args &a) {
    const int n = blockIdx.x * ROWS + threadIdx.x / WAVE, t0 = blockIdx.y * TOKENS;
    const int left = row_count(a) - t0, count = left < TOKENS ? left : TOKENS;
    if (n >= N || count <= 0) return;
    double sum[TOKENS] = {};
    dot(a, a.x, a.w, n, t0, count, sum);
    for (int i = 0; i < TOKENS; i++) {
        const double v = wave_sum(sum[i]) + (HAS_B ? (double)a.b[n] : 0);
        if (i < count && threadIdx.x % WAVE == 0) out(a, t0 + i, n, (float)v);
    }
}
