//! kernel combine(y: f32[T,R,H], p: f32[T,R]) -> (z: f32[T,H])
//! grid   ceil(H, 256), T
//! block  256
//! reduce f64, in rank order
//! hook   out
//! tol    strict 1e-16 fast 1e-16

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, h = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) || h >= H) return;
    double sum = 0;
    for (int r = 0; r < R; r++) sum = __builtin_fma((double)a.p[(long)t * R + r], (double)a.y[((long)t * R + r) * H + h], sum);
    out(a, t, h, (float)sum);
}
