//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! arch   sm_90
//! tokens 192
//! priority 16
//! behind pairs asks
//! layout w = fragment
//! early  ids
//! where  K % 32 == 0
//! const  TILE = 128
//! const  TOKENS = 64
//! const  SLABS = 16
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TOKENS * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! group  perm, tiles = ids, TILE
//! grid   132
//! block  640
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// As expert_linear.wgmma.hip where most experts have few tokens, and taking their weights apart is what takes time: more warps, whose
// accumulators are of TOKENS tokens only. A tile is the list's of TILE, in two halves: all first ones come before the second ones.

struct Results : Behind {
    METHOD int row(int p) const { return a.perm[p]; }
    METHOD const float *bias(const Item &it) const { return a.b + (long)it.expert * N; }
};

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    typedef Gemm<W, K, N, SLABS, TOKENS, STAGES, STEP> Product;
    static_assert(Product::BYTES == STAGES * STAGE && TILE == 2 * TOKENS, "the head knows the ring's size");
    if (!IDS_EARLY) overlap_wait();
    enum { ROW_TILES = (slabs_of(N) + SLABS - 1) / SLABS };
    const int lane = threadIdx.x % WAVE, most = E + row_count(a) * R / TILE;
    int used = 0;
    for (int i = lane; i - lane < most; i += WAVE) used += bit_count(wave_ballot(i < most && a.tiles[i * 4 + 2] > 0));
    int at = blockIdx.x;
    auto items = [&](int) {
        for (;; at += gridDim.x) {
            const int half = at >= used * ROW_TILES, own = at - half * used * ROW_TILES, *tile = a.tiles + own / ROW_TILES * 4;
            if (own >= used * ROW_TILES) return Item{0, 0, 0, 0};
            const int count = tile[2] - half * TOKENS;
            if (count <= 0) continue;
            at += gridDim.x;
            return Item{tile[0], own % ROW_TILES * SLABS, tile[1] + half * TOKENS, count < TOKENS ? count : TOKENS};
        }
    };
    auto row = [&](int p) { return x_RANK == 3 ? a.perm[p] : a.perm[p] / R; };
    Product::template run<IDS_EARLY>(w, true, a.x, lds, items, row, Results{{a}});
}

DEVICE void run(const Args &a) { compute(a, a.w); }
