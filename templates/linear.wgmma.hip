//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   sm_90
//! priority 14
//! behind pairs asks
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 128
//! const  CLUSTER = N > 16384 ? 1 : 2
//! tune   CLUSTER 1 2 4
//! const  SLABS = 12
//! const  STEP = w_MXFP4 ? 2 : 1
//! const  STAGE = STEP * (TOKENS * 128 + SLABS * (w_MXFP4 ? 544 : 2048)) + 16
//! const  STAGES = min(16, LDS_ALL / STAGE)
//! grid   CLUSTER > 2 ? 128 : 132
//! cluster CLUSTER
//! block  512
//! lds    STAGES * STAGE
//! overlaps
//! reduce mma16
//! tol    fast 1e-10
// Many tokens: blocks, one a multiprocessor of an H100 or H200, go through the products of SLABS slabs and up to TOKENS tokens
// (arch/sm_90.gemm.h).

struct Results : Behind {
    METHOD int row(int t) const { return t; }
    METHOD const float *bias(const Item &) const { return HAS_B ? a.b : 0; }
};

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(1024))) char lds[];
    typedef Gemm<W, K, N, SLABS, TOKENS, STAGES, STEP, CLUSTER> Product;
    static_assert(Product::BYTES == STAGES * STAGE, "the head knows the ring's size");
    const Dense<CLUSTER> items = Dense<CLUSTER>::plan(row_count(a), N, SLABS, TOKENS);
    Product::template run<true>(w, items.rounds == 1, a.x, lds, items, [](int t) { return t; }, Results{{a}});
}

DEVICE void run(const Args &a) { compute(a, a.w); }
