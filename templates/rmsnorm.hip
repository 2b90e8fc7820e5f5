//! kernel rmsnorm(x: f32[T,K], g: f32[K]) -> (y: f32[T,K])
//! attr   EPS = rmsnorm.eps
//! grid   T
//! block  256
//! reduce f64, K by 256 threads, then waves
//! hook   out
//! tol    strict 1e-16 fast 1e-16
// y = x * rsqrt(mean(x^2) + EPS) * g, in double, rounded once. One block a row.

DEVICE void run(const Args &a) {
    __shared__ double part[256 / WAVE];
    const int t = blockIdx.x, i = threadIdx.x;
    if (t >= row_count(a)) return;
    double sum = 0;
    for (int k = i; k < K; k += 256) sum = __builtin_fma((double)a.x[(long)t * K + k], (double)a.x[(long)t * K + k], sum);
    sum = wave_sum(sum);
    if (i % WAVE == 0) part[i / WAVE] = sum;
    __syncthreads();
    double total = 0;
    for (int w = 0; w < 256 / WAVE; w++) total += part[w];
    const double scale = 1 / sqrt(total / K + EPS);
    for (int k = i; k < K; k += 256) out(a, t, k, (float)((double)a.x[(long)t * K + k] * scale * (double)a.g[k]));
}
