//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! where  MATRIX
//! priority 10
//! where  K % 32 == 0
//! const  ROWS = 16
//! const  TILE = 16
//! const  WAVES = 256 / WAVE
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, ROWS), min(E, T * R) + T * R / TILE
//! block  256
//! reduce mma 16x16 bf16, K in {WAVES} segments, ascending
//! hook   out
//! tol    fast 1e-12
// A block computes 16 weight rows of one expert for a tile of the pairs routed to it.

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
        row[i] = expert * N + (n0 + at < N ? n0 + at : N - 1);
    }
    block_product(a.w, row, (long)E * N, K, [&](int i, int k) { return *(const s16x8 *)(x[i] + k); }, part);
    __syncthreads();
    const int n = threadIdx.x % ROWS, t = threadIdx.x / ROWS;
    if (t < count && n0 + n < N) out(a, pairs[t], n0 + n, block_sum(part, n, t) + a.b[(long)expert * N + n0 + n]);
}
