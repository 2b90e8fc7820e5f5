//! kernel rows(x: f32|bf16[_,H], index: i32[T]) -> (y: f32|bf16[T,H])
//! grid  ceil(H, 256), T
//! block 256
//! hook  out

DEVICE void run(const Args &a) {
    const int s = blockIdx.y, h = blockIdx.x * 256 + threadIdx.x;
    if (s >= row_count(a) || h >= H) return;
    out(a, s, h, load(a.x, (long)a.index[s] * H + h));
}
