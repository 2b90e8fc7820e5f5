//! kernel own_norm(x: f32[T,K], g: f32[K]) -> (y: f32[T,K])
//! attr   EPS = rmsnorm.eps
//! where  K <= 4096
//! grid   T
//! block  256
//! reduce f64, K by 256 threads, then ascending
//! hook   out
//! tol    strict 1e-13 fast 1e-13
// A block a row: each thread sums its share, the first wave adds the shares up, all use the total.

DEVICE void run(const Args &a) {
    __shared__ double part[256], total;
    const int t = blockIdx.x, i = threadIdx.x;
    double mine = 0;
    if (t >= row_count(a)) return;
    for (int k = i; k < K; k += 256) mine += (double)a.x[(long)t * K + k] * (double)a.x[(long)t * K + k];
    part[i] = mine;
    __syncthreads(); // all shares are there
    if (i < WAVE) {
        double sum = 0;
        for (int k = 0; k < 256; k++) sum += part[k];
        total = sum;
    }
    __syncthreads(); // and so is the total
    const double scale = 1 / sqrt(total / K + EPS);
    for (int k = i; k < K; k += 256) out(a, t, k, (float)((double)a.x[(long)t * K + k] * scale * (double)a.g[k]));
}
