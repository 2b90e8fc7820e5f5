//! kernel expert_linear_swiglu(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,I])
//! precision fast
//! where  MATRIX
//! priority 10
//! attr   LIMIT = swiglu.limit
//! attr   ALPHA = swiglu.alpha
//! where  K % 32 == 0 && N == 2 * I && N % 16 == 0
//! const  ROWS = 16
//! const  TILE = 16
//! const  WAVES = 256 / WAVE
//! group  perm, tiles = ids, TILE
//! grid   N / ROWS, min(E, T * R) + T * R / TILE
//! block  256
//! reduce mma 16x16 bf16, K in {WAVES} segments, ascending
//! hook   out
//! tol    fast 1e-12
// expert_linear.mfma.hip; its 16 rows are 8 gate rows and their up rows, interleaved, so SwiGLU needs no other block.

DEVICE void run(const Args &a) {
    __shared__ float part[WAVES][ROWS][TILE + 1];
    const int n0 = blockIdx.x * ROWS, *tile = a.tiles + blockIdx.y * 4;
    if (blockIdx.y >= E + row_count(a) * R) return;
    const int expert = tile[0], count = tile[2];
    if (count == 0) return;
    const int *pairs = a.perm + tile[1];
    const bf16 *x[LINES];
    int row[LINES];
#pragma unroll
    for (int i = 0; i < LINES; i++) {
        const int at = tile_line(i), pair = pairs[at < count ? at : count - 1];
        x[i] = a.x + (long)(x_RANK == 3 ? pair : pair / R) * K;
        row[i] = expert * N + n0 + at;
    }
    block_product(a.w, row, (long)E * N, K, [&](int i, int k) { return *(const s16x8 *)(x[i] + k); }, part);
    __syncthreads();
    const int i = threadIdx.x % (ROWS / 2), t = threadIdx.x / (ROWS / 2);
    if (t >= count) return;
    const float *b = a.b + (long)expert * N + n0;
    const float gate = block_sum(part, 2 * i, t) + b[2 * i], up = block_sum(part, 2 * i + 1, t) + b[2 * i + 1];
    out(a, pairs[t], n0 / 2 + i, swiglu_f32(gate, up, LIMIT, ALPHA));
}
