//! kernel expert_linear(x: bf16[T,(R),K], w: bf16|mxfp4[E,N,K], b: f32[E,N], ids: i32[T,R]) -> (y: f32[T,R,N])
//! precision fast
//! arch   sm_90
//! priority 15
//! behind pairs asks
//! layout w = fragment
//! early  ids
//! where  K % 32 == 0
//! const  TILE = 128
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

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    typedef Gemm<W, K, N, SLABS, TILE, STAGES, STEP> Product;
    static_assert(Product::BYTES == STAGES * STAGE, "the head knows the ring's size");
    const int row_tiles = (slabs_of(N) + SLABS - 1) / SLABS, tiles = E + row_count(a) * R;
    auto items = [&](int i) {
        const int at = blockIdx.x + i * (int)gridDim.x, *tile = a.tiles + at / row_tiles * 4;
        if (at / row_tiles >= tiles) return Item{0, 0, 0, 0};
        return Item{tile[0], at % row_tiles * SLABS, tile[1], tile[2]};
    };
    auto row = [&](int p) { return x_RANK == 3 ? a.perm[p] : a.perm[p] / R; };
    Product::template run<IDS_EARLY>(w, row_count(a) * R <= E * TILE, a.x, lds, items, row, Results{{a}});
}

DEVICE void run(const Args &a) { compute(a, a.w); }
