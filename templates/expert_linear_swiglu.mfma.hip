//! kernel expert_linear_swiglu(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,I])
//! precision fast
//! arch   gfx90a
//! priority 10
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! where  K % 32 == 0 && N == 2 * I && N % 16 == 0
//! const  ROWS = 16
//! const  TILE = 16
//! group  perm, tiles = ids, TILE
//! grid   N / ROWS, min(E, T * R) + T * R / TILE
//! block  256
//! reduce mfma 16x16x16 bf16, K in 4 segments, ascending
//! hook   out
//! tol    fast 1e-12
// expert_linear.mfma.hip; its 16 rows are 8 gate rows and their up rows, interleaved, so SwiGLU needs no other block.

DEVICE void run(const Args &a) {
    __shared__ float part[4][ROWS][TILE + 1];
    const int n0 = blockIdx.x * ROWS, *tile = a.tiles + blockIdx.y * 4, column = threadIdx.x % 16;
    if (blockIdx.y >= E + row_count(a) * R) return;
    const int expert = tile[0], count = tile[2];
    if (count == 0) return;
    const int *pairs = a.perm + tile[1], pair = pairs[column < count ? column : count - 1];
    const bf16 *x = a.x + (long)(x_RANK == 3 ? pair : pair / R) * K;
    block_product(a.w, (long)expert * N + n0 + column, (long)E * N, K, [=](int k) { return *(const s16x8 *)(x + k); }, part);
    __syncthreads();
    const int i = threadIdx.x % (ROWS / 2), t = threadIdx.x / (ROWS / 2);
    if (t >= count) return;
    const float *b = a.b + (long)expert * N + n0;
    const float gate = block_sum(part, 2 * i, t) + b[2 * i], up = block_sum(part, 2 * i + 1, t) + b[2 * i + 1];
    out(a, pairs[t], n0 / 2 + i, swiglu_f32(gate, up, LIMIT, ALPHA));
}
