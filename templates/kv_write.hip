//! kernel kv_write(state: f32|bf16[_,2,NKV,PAGE,D], k: f32|bf16[T,W], v: f32|bf16[T,W], slot: i32[T], pos: i32[T], blocks: i32[B,M]) -> (y: f32|bf16[_,2,NKV,PAGE,D])
//! where W == NKV * D
//! grid  ceil(W, 256), T
//! block 256
// Each token's keys and values go to its row of its slot's page.

DEVICE void run(const Args &a) {
    const int t = blockIdx.y, n = blockIdx.x * 256 + threadIdx.x;
    if (t >= row_count(a) || n >= W) return;
    const int pos = a.pos[t], page = a.blocks[(long)a.slot[t] * M + pos / PAGE];
    const long at = (((long)page * 2 * NKV + n / D) * PAGE + pos % PAGE) * D + n % D;
    a.state[at] = a.k[(long)t * W + n];
    a.state[at + (long)NKV * PAGE * D] = a.v[(long)t * W + n];
}
