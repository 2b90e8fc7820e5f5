//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! where  MATRIX
//! priority 10
//! behind pairs
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 64
//! tune   TOKENS 32 96
//! const  WAVES = 256 / WAVE
//! grid   ceil(N, 16 * WAVES), ceil(T, TOKENS)
//! block  256
//! reduce mma16
//! tol    fast 1e-12, sm_90 1e-10
// A block computes WAVES slabs of 16 weight rows for TOKENS tokens.
// NMSE at most 5e-13 on gfx90a (emu, tiny and toy, 2026-11-29).

typedef Tile<K, TOKENS, 256> Block;

template <class W> DEVICE void compute(const Args &a, const W *w) {
    __shared__ Block::Lds lds;
    __shared__ __attribute__((aligned(16))) char table[Unit<W>::LDS_BYTES + 16];
    const int slab = blockIdx.x * WAVES + threadIdx.x / WAVE, t0 = blockIdx.y * TOKENS;
    const int left = row_count(a) - t0, count = left < TOKENS ? left : TOKENS, last = slabs_of(N) - 1;
    if (count <= 0) return;
    Acc acc[Block::TILES] = {};
    Block::product(acc, slab_at(w, slab < last ? slab : last, K), [&](int i) { return a.x + (long)(t0 + i) * K; }, count, lds, w, Unit<W>::dequant(table));
    if (slab > last) return;
#pragma unroll
    for (int tile = 0; tile < Block::TILES; tile++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int t = tile * TILE_N + acc_token(i);
            if (t < count) slab_out<GROUP>(acc[tile], i, slab, N, HAS_B ? a.b : 0, out_row, [&](int j, const float *v) { out(a, t0 + t, j, v); });
        }
}

DEVICE void run(const Args &a) { compute(a, a.w); }
