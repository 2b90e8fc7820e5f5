//! kernel elementwise_row(x: f32|bf16[N]) -> (y: f32|bf16[N])
//! grid  ceil(N, 256)
//! block 256
//! hook  out
// elementwise for a value without tokens: one that is made of weights alone.

DEVICE void run(const Args &a) {
    const int n = blockIdx.x * 256 + threadIdx.x;
    if (n < N) out(a, 0, n, load(a.x, n));
}
