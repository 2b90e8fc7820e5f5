//! kernel rope(x: f32[T,W], pos: i32[T], table: f32[P,HALF,2]) -> (y: f32[T,W])
//! const D = 2 * HALF
//! grid  ceil(W, 256), T
//! block 256
//! hook  out
//! tol   strict 1e-16 fast 1e-16
// Rotate-half: element i pairs with i + D/2; products in double, rounded once.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) || n >= W) return;
    const int d = n % D, i = d % HALF;
    const long at = ((long)a.pos[t] * HALF + i) * 2;
    const double c = a.table[at], s = a.table[at + 1], v = a.x[(long)t * W + n];
    const double pair = a.x[(long)t * W + (d < HALF ? n + HALF : n - HALF)];
    out(a, t, n, (float)(d < HALF ? v * c - pair * s : v * c + pair * s));
}
