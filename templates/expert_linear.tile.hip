//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! where  MATRIX
//! priority 10
//! behind pairs
//! layout w = fragment
//! where  K % 32 == 0
//! const  TILE = WAVE == 32 ? 128 : 64
//! const  WAVES = 256 / WAVE
//! group  perm, tiles = ids, TILE
//! grid   ceil(N, 16 * WAVES), min(E, T * R) + T * R / TILE
//! block  256
//! reduce mma16
//! tol    fast 1e-12, sm_90 1e-10
// A block computes WAVES slabs of 16 weight rows of one expert for a tile of the pairs routed to it.
// NMSE at most 5e-13 on gfx90a (emu, tiny and toy, 2026-11-29).

typedef Tile<K, TILE, 256> Block;

template <class W> DEVICE void compute(const Args &a, const W *w) {
    __shared__ Block::Lds lds;
    __shared__ __attribute__((aligned(16))) char table[Unit<W>::LDS_BYTES + 16];
    const int slab = blockIdx.x * WAVES + threadIdx.x / WAVE, *tile = a.tiles + blockIdx.y * 4, last = slabs_of(N) - 1;
    if (blockIdx.y >= E + row_count(a) * R) return;
    const int expert = tile[0], count = tile[2], *pairs = a.perm + tile[1];
    if (count == 0) return;
    Acc acc[Block::TILES] = {};
    Block::product(acc, slab_at(w, (long)expert * slabs_of(N) + (slab < last ? slab : last), K), [&](int i) { return a.x + (long)(x_RANK == 3 ? pairs[i] : pairs[i] / R) * K; },
                   count, lds, w, Unit<W>::dequant(table));
    if (slab > last) return;
#pragma unroll
    for (int at = 0; at < Block::TILES; at++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int t = at * TILE_N + acc_token(i);
            if (t < count) slab_out<GROUP>(acc[at], i, slab, N, a.b + (long)expert * N, out_row, [&](int j, const float *v) { out(a, pairs[t], j, v); });
        }
}

DEVICE void run(const Args &a) { compute(a, a.w); }
