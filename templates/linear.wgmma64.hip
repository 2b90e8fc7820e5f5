//! kernel linear(x: bf16[T,K], w: bf16|mxfp4[N,K], b?: f32[N]) -> (y: f32[T,N])
//! precision fast
//! arch   sm_90
//! tokens 64
//! priority 15
//! behind pairs
//! layout w = fragment
//! where  K % 16 == 0
//! const  TOKENS = 64
//! const  SLABS = N >= 8 * 16 * 132 ? 8 : N >= 4 * 16 * 132 ? 4 : 2
//! const  STAGE = SLABS * (w_MXFP4 ? 544 : 2048) + TOKENS * 128 + 16
//! const  STAGES = min(20, (LDS_ALL - 1024 - TOKENS * 8) / STAGE)
//! grid   132
//! block  SLABS == 8 ? 384 : 256
//! lds    STAGES * STAGE + TOKENS * 8 + 1024
//! overlaps
//! reduce mma16
//! tol    fast 1e-12
// As linear.wgmma.hip where reading the weights is what takes time: row tiles small enough that every multiprocessor has some.

template <class W> DEVICE void compute(const Args &a, const W *w) {
    extern __shared__ __attribute__((aligned(128))) char lds[];
    typedef Gemm<W, K, N, SLABS, TOKENS, STAGES> Product;
    static_assert(Product::BYTES <= STAGES * STAGE + TOKENS * 8 + 1024, "the head knows the ring's size");
    const Dense items = Dense::plan(row_count(a), N, SLABS, TOKENS);
    Product::template run<true>(w, items.parts == 1, a.x, lds, items, [](int t) { return t; }, [&](const Item &, const Acc &acc, int i, int slab, int t) {
        slab_out<GROUP>(acc, i, slab, N, HAS_B ? a.b : 0, out_row, [&](int j, const float *v) { out(a, t, j, v); });
    });
}

DEVICE void run(const Args &a) { compute(a, a.w); }
