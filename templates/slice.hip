//! kernel slice(x: f32|bf16[T,N]) -> (y: f32|bf16[T,W])
//! attr  OFFSET = slice.offset
//! grid  ceil(W, 256), T
//! block 256
//! hook  out

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) || n >= W) return;
    out(a, t, n, load(a.x, (long)t * N + OFFSET + n));
}
