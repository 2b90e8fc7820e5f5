//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! arch   sm_90
//! priority 15
//! behind pairs asks
//! layout w = fragment
//! early  ids
//! where  K % 32 == 0
//! const  TILE = 128
//! const  TOKENS = 128
//! const  SLABS = 12
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TILE * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! group  perm, tiles = ids, TILE
//! grid   132
//! block  512
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// Many tokens: blocks, one a multiprocessor of an H100 or H200, go through the products of SLABS slabs of an expert and a tile of the
// pairs routed to it (arch/sm_90.gemm.h).

struct Results : Behind {
    METHOD int row(int p) const { return a.perm[p]; }
    METHOD const float *bias(const Item &it) const { return a.b + (long)it.expert * N; }
};

// A tile of pairs goes in parts of TOKENS: all tiles' first ones, then all second ones. Tiles without pairs come last.
template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    typedef Gemm<W, K, N, SLABS, TOKENS, STAGES, STEP> Product;
    enum { ROW_TILES = (slabs_of(N) + SLABS - 1) / SLABS, PARTS = TILE / TOKENS };
    static_assert(Product::BYTES == STAGES * STAGE && TILE == PARTS * TOKENS, "the head knows the ring's size");
    int used = E + row_count(a) * R / TILE; // tiles, at most; of several parts, those that have pairs
    if (PARTS > 1) {
        const int lane = threadIdx.x % WAVE, most = used;
        if (!IDS_EARLY) overlap_wait();
        used = 0;
        for (int i = lane; i - lane < most; i += WAVE) used += bit_count(wave_ballot(i < most && a.tiles[i * 4 + 2] > 0));
    }
    int at = blockIdx.x;
    auto items = [&](int) {
        for (;; at += gridDim.x) {
            if (at >= PARTS * used * ROW_TILES) return Item{0, 0, 0, 0};
            const int part = at / (used * ROW_TILES), own = at - part * used * ROW_TILES, *tile = a.tiles + own / ROW_TILES * 4;
            const int count = tile[2] - part * TOKENS;
            if (count <= 0 && PARTS > 1) continue;
            at += gridDim.x;
            return Item{tile[0], own % ROW_TILES * SLABS, tile[1] + part * TOKENS, count < TOKENS ? count : TOKENS};
        }
    };
    auto row = [&](int p) { return x_RANK == 3 ? a.perm[p] : a.perm[p] / R; };
    Product::template run<IDS_EARLY>(w, PARTS > 1 || row_count(a) * R <= E * TILE, a.x, lds, items, row, Results{{a}});
}

DEVICE void run(const Args &a) { compute(a, a.w); }
