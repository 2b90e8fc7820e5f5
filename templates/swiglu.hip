//! kernel swiglu(x: f32[T,(R),N]) -> (y: f32[T,(R),I])
//! attr  LIMIT = swiglu.limit
//! attr  ALPHA = swiglu.alpha
//! where N == 2 * I
//! grid  ceil(I, 256), T * R
//! block 256
//! hook  out
//! tol   strict 1e-16 fast 1e-16
// Even columns gate, odd ones up.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, i = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) * R || i >= I) return;
    const float *x = a.x + (long)t * N + 2 * i;
    out(a, t, i, swiglu(x[0], x[1], LIMIT, ALPHA));
}
